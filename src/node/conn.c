/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection: bytes in, frames to handlers, replies out.
 *
 * Everything that arrives in one read is handled before anything is sent, so that a pipelined batch
 * costs one receive and one send. Payload of a PUT is received straight into its reserved place,
 * payload of a GET is sent straight from the block, held by a hazard until the last byte is gone.
 *
 * A peer that does not read its replies is not read from any more (OUT_MAX, SEGMENTS_MAX); one that
 * sends garbage gets one ERROR frame and is closed; one that never says hello is closed after
 * HELLO_TIMEOUT_MS (node.c). What it held stays until its process is dead (R3), unless it says bye: so does a client,
 * too, that gave up waiting for the answer to its hello, and has never heard which slot it has.
 */
#include "node/conn_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_FIRST   (64u << 10)
#define READ_TURNS 16 /* receives before other connections get their turn */

/* A put whose payload stops coming for so long is given up, whatever time its sender gave it: the
 * place is everybody's. So is one that drips. The rate is that of a slow line (8 Mbit/s); a client on
 * this host sends at a thousand times that. */
#define STALL_MS     5000u
#define RATE_GRACE   5000u /* ms before the rate counts */
#define RATE_LEAST   1048u /* bytes a millisecond, over the put so far */
#define LOOK_STEP_MS 1000u /* the most that one look counts: a node that stood still blames nobody */

static struct yk_log_limit garbage_limit = YK_LOG_LIMIT_INIT(5000);

/* ---- output -------------------------------------------------------------------------------- */

static int obuf_need(struct conn *c, size_t more) {
    if (c->olen + more <= c->ocap)
        return 0;
    size_t cap = c->ocap != 0 ? c->ocap : 4096;
    while (cap < c->olen + more)
        cap *= 2;
    unsigned char *p = realloc(c->obuf, cap);
    if (p == NULL)
        return -YK_ENOMEM;
    NODE_ADD(c->node, conn_buffer_bytes, cap - c->ocap);
    c->obuf = p;
    c->ocap = cap;
    return 0;
}

int reply_begin(struct conn *c, size_t max_body, struct yk_wr *ret_w) {
    int rc = obuf_need(c, YK_FRAME_HDR + max_body);
    if (rc < 0)
        return rc;
    c->reply_at = c->olen;
    yk_wr_init(ret_w, c->obuf + c->olen + YK_FRAME_HDR, max_body);
    return 0;
}

static struct piece *piece_at(struct conn *c, uint32_t i) {
    return &c->pieces[(c->piece_first + i) % SEGMENTS_MAX];
}

/* Room was made sure of by `congested` before the frame was taken up. */
static void piece_add(struct conn *c, const void *payload, size_t off, size_t len, int hold) {
    if (payload == NULL && c->piece_count > 0) {
        struct piece *last = piece_at(c, c->piece_count - 1);
        if (last->payload == NULL && last->off + last->len == off) {
            last->len += len;
            return;
        }
    }
    *piece_at(c, c->piece_count++) = (struct piece){payload, off, len, hold};
}

void reply_end_payload(struct conn *c, struct yk_wr *w, unsigned op, uint64_t id,
                       const void *payload, size_t len, int hold) {
    size_t body = yk_wr_len(w);
    struct yk_frame f = {(uint32_t)(body + len), (uint8_t)op, YK_FRAME_REPLY, id};
    yk_frame_encode(c->obuf + c->reply_at, &f);
    c->olen = c->reply_at + YK_FRAME_HDR + body;
    piece_add(c, NULL, c->reply_at, YK_FRAME_HDR + body, -1);
    if (len > 0)
        piece_add(c, payload, 0, len, hold);
}

void reply_end(struct conn *c, struct yk_wr *w, unsigned op, uint64_t id) {
    reply_end_payload(c, w, op, id, NULL, 0, -1);
}

int reply_status(struct conn *c, unsigned op, uint64_t id, int status) {
    struct yk_wr w;
    int rc = reply_begin(c, 4, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, (uint32_t)status);
    reply_end(c, &w, op, id);
    return 0;
}

void reply_settle(struct conn *c, unsigned op, uint64_t id, uint64_t ticket) {
    int rc = yk_store_durable(c->node->store, ticket);
    unsigned char *body = c->obuf + c->reply_at + YK_FRAME_HDR;
    size_t len = c->olen - c->reply_at - YK_FRAME_HDR;
    if (rc == 1 || c->closing)
        return;
    if (rc < 0) {
        reply_fail(body, len, op, rc);
        return;
    }
    struct yk_frame f = {(uint32_t)len, (uint8_t)op, YK_FRAME_REPLY, id};
    if (held_add(c->node, c, ticket, &f, body, 0) < 0) {
        reply_fail(body, len, op, -YK_EAGAIN); /* it is done, but not known to be durable */
        return;
    }
    struct piece *last = piece_at(c, c->piece_count - 1);
    last->len -= YK_FRAME_HDR + len;
    c->olen = c->reply_at;
    if (last->len == 0)
        c->piece_count--;
}

void reply_fail(unsigned char *body, size_t len, unsigned op, int rc) {
    uint32_t n = 1, at = 0, v;
    struct yk_wr w;
    if ((op == YK_MSG_COMMIT || op == YK_MSG_CHANGE) && len >= 4) {
        struct yk_rd r;
        yk_rd_init(&r, body, 4);
        n = yk_rd_u32(&r);
        at = 4;
    }
    for (uint32_t i = 0; i < n && at + 4u <= len; i++, at += 4u) {
        memcpy(&v, body + at, 4);
        /* That a key is not here is no answer either: an earlier removal of it may be what is not durable. */
        if (v != 0 && v != YK_FEWER && !(op == YK_MSG_CHANGE && v == YK_MISS))
            continue;
        yk_wr_init(&w, body + at, 4);
        yk_wr_u32(&w, (uint32_t)rc);
    }
}

/* Must the peer read before it may ask more? */
static int congested(const struct conn *c) {
    return c->olen > OUT_MAX || c->piece_count + 3 > SEGMENTS_MAX;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void conn_arm(struct conn *c) {
    int want = c->piece_count > 0 ? UV_WRITABLE : 0;
    if (c->state != CONN_WAIT && !congested(c))
        want |= UV_READABLE;
    if (want == 0)
        want = UV_DISCONNECT;
    if (want == c->polled)
        return;
    c->polled = want;
    uv_poll_start(&c->poll, want, on_poll);
}

static void pieces_sent(struct conn *c, size_t n) {
    while (c->piece_count > 0) {
        struct piece *p = piece_at(c, 0);
        if (n < p->len) {
            p->len -= n;
            if (p->payload != NULL)
                p->payload += n;
            else
                p->off += n;
            return;
        }
        n -= p->len;
        yk_store_unhold(c->node->store, p->hold);
        c->piece_first = (c->piece_first + 1) % SEGMENTS_MAX;
        c->piece_count--;
    }
    c->olen = 0;
}

static ssize_t send_some(struct conn *c) {
    struct iovec iov[16];
    struct msghdr m = {.msg_iov = iov};
    for (uint32_t i = 0; i < c->piece_count && i < 16; i++) {
        struct piece *p = piece_at(c, i);
        iov[i].iov_base = p->payload != NULL ? (void *)(uintptr_t)p->payload : c->obuf + p->off;
        iov[i].iov_len = p->len;
        m.msg_iovlen++;
    }
    return sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_queued(struct conn *c) {
    while (c->piece_count > 0 && !c->closing) {
        ssize_t n = send_some(c);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            conn_close(c);
            return;
        }
        if (n < 0)
            break;
        NODE_ADD(c->node, out_bytes, n);
        pieces_sent(c, (size_t)n);
    }
}

static int consume(struct conn *c, size_t *ret_need);
static int in_need(struct conn *c, size_t need);
static void conn_fail(struct conn *c, int code);

/* Whoever makes room in the output goes on with the input that stood there for it: nothing else
 * would wake the connection again. */
void conn_flush(struct conn *c) {
    for (;;) {
        send_queued(c);
        if (c->closing || !c->stalled || congested(c))
            break;
        size_t need;
        int rc = consume(c, &need);
        if (rc == 0 && !c->closing)
            rc = in_need(c, need);
        if (rc < 0) {
            conn_fail(c, rc);
            return;
        }
    }
    if (!c->closing)
        conn_arm(c);
}

int conn_send_fds(struct conn *c, const int *fds, uint32_t count) {
    union {
        char buf[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } u;
    struct piece *p = piece_at(c, 0);
    struct iovec iov = {c->obuf + p->off, p->len};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    memset(&u, 0, sizeof(u));
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(h), fds, count * sizeof(int));
    ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n <= 0)
        return -YK_EGONE;
    pieces_sent(c, (size_t)n);
    return 0;
}

/* ---- input ----------------------------------------------------------------------------------- */

static void conn_fail(struct conn *c, int code) {
    struct yk_wr w;
    c->stalled = 0; /* nothing after the error is looked at */
    if (code == -YK_EGONE) { /* it has left: nobody to tell, nothing that it did wrong */
        conn_close(c);
        return;
    }
    if (c->err.text[0] == 0)
        yk_err_set(&c->err, code, "%s", yk_status_text(code));
    NODE_ADD(c->node, protocol_errors, 1);
    yk_log_limited(&garbage_limit, YK_LOG_WARN, "node", "closing a connection of process %u: %s",
                   c->pid, c->err.text);
    if (reply_begin(c, 4 + 2 + sizeof(c->err.text), &w) == 0) {
        yk_wr_u32(&w, (uint32_t)code);
        yk_wr_text(&w, c->err.text);
        reply_end(c, &w, YK_MSG_ERROR, 0);
        conn_flush(c);
    }
    conn_close(c);
}

/* Does the name of a node follow? The fixed part of a PUT's body is there; its flags stand behind 28 bytes. */
static int put_prefers(const unsigned char *body) {
    struct yk_rd r;
    yk_rd_init(&r, body + 28, 4);
    return (yk_rd_u32(&r) & YK_ATTR_PREFER) != 0;
}

/* Bytes of a PUT's body that must be there before its payload: fixed part and two strings, or three. Returns
 * 0 when more are needed. */
static size_t put_prefix(const unsigned char *body, size_t have) {
    size_t n = 4u + 8u + 8u + 8u + YK_WIRE_ATTRS_BYTES;
    if (have < n + 1)
        return 0;
    n += 1u + body[n];
    if (have < n + 1)
        return 0;
    n += 1u + body[n];
    if (put_prefers(body)) {
        if (have < n + 1)
            return 0;
        n += 1u + body[n];
    }
    return have < n ? 0 : n;
}

static int put_decode(struct conn *c, const struct yk_frame *f, const unsigned char *body,
                      size_t prefix) {
    struct yk_rd r;
    yk_rd_init(&r, body, prefix);
    uint32_t timeout_ms = yk_rd_u32(&r);
    c->put.id = f->id;
    c->put.len = yk_rd_u64(&r);
    c->put.sum = yk_rd_u64(&r);
    c->put.epoch = yk_rd_u64(&r);
    yk_rd_attrs(&r, &c->put.attrs);
    const void *key = yk_rd_str8(&r, &c->put.key_len);
    if (key != NULL)
        memcpy(c->put.key, key, c->put.key_len);
    const void *parent = yk_rd_str8(&r, &c->put.parent_len);
    if (parent != NULL)
        memcpy(c->put.parent, parent, c->put.parent_len);
    c->put.prefer_len = 0;
    const void *prefer = (c->put.attrs.flags & YK_ATTR_PREFER) ? yk_rd_str8(&r, &c->put.prefer_len) : NULL;
    if (prefer != NULL)
        memcpy(c->put.prefer, prefer, c->put.prefer_len);
    c->put.got = c->put.seen = 0;
    c->put.idle_ms = c->put.age_ms = 0;
    c->put.status = 0;
    c->put.deadline_ns = yk_now_ns() + timeout_ms * 1000000ull;
    if (!yk_rd_ok(&r) || c->put.len != f->body_bytes - prefix)
        return yk_err_set(&c->err, -YK_EPROTO, "put of %llu bytes in a frame that has room for %zu",
                          (unsigned long long)c->put.len, (size_t)f->body_bytes - prefix);
    return 0;
}

/* Payload that was read along with the frame's head. Returns bytes used. */
static size_t put_take(struct conn *c, const unsigned char *data, size_t have) {
    size_t want = (size_t)(c->put.len - c->put.got);
    size_t n = have < want ? have : want;
    if (c->state == CONN_PUT)
        memcpy((char *)c->node->seg->data + c->put.place.offset + c->put.got, data, n);
    c->put.got += n;
    return n;
}

static int put_complete(struct conn *c) {
    if (c->put.got < c->put.len)
        return 0;
    handle_put_end(c);
    return 1;
}

/* What a frame changed below DRAM is durable before its reply, if it has written one, is sent. */
static int run_frame(struct conn *c, const struct yk_frame *f, struct yk_rd *r) {
    size_t before = c->olen;
    int rc = handle_frame(c, f, r, &c->err);
    uint64_t ticket = rc < 0 ? 0 : yk_store_ticket_take(c->node->store);
    if (ticket != 0 && c->olen > before)
        reply_settle(c, f->op, f->id, ticket);
    return rc;
}

/* Takes one frame, or a piece of one, from data. Returns bytes used, 0 when more are needed, or a
 * failure. *ret_need: bytes that must be together for the next step. */
static ssize_t take(struct conn *c, const unsigned char *data, size_t have, size_t *ret_need) {
    struct yk_frame f;
    *ret_need = YK_FRAME_HDR;
    if (c->state == CONN_PUT || c->state == CONN_DROP) {
        size_t n = put_take(c, data, have);
        put_complete(c);
        return (ssize_t)n;
    }
    if (have < YK_FRAME_HDR)
        return 0;
    int rc = yk_frame_decode(data, c->node->seg->layout.data_bytes, &f, &c->err);
    if (rc < 0)
        return rc;
    if (f.flags & YK_FRAME_REPLY)
        return yk_err_set(&c->err, -YK_EPROTO, "a reply where a request belongs");
    if (c->state == CONN_HELLO && f.op == YK_MSG_BYE)
        return -YK_EGONE; /* it did not want to wait any more for the answer to its hello */
    if (c->state == CONN_HELLO && f.op != YK_MSG_HELLO)
        return yk_err_set(&c->err, -YK_EPROTO, "the first frame is %s, not hello",
                          yk_wire_op_name(f.op));
    if (f.op == YK_MSG_PUT) {
        size_t body = have - YK_FRAME_HDR;
        if (body > f.body_bytes)
            body = f.body_bytes;
        size_t prefix = put_prefix(data + YK_FRAME_HDR, body);
        *ret_need = YK_FRAME_HDR + 1024u < YK_FRAME_HDR + (size_t)f.body_bytes
                        ? YK_FRAME_HDR + 1024u
                        : YK_FRAME_HDR + (size_t)f.body_bytes;
        if (prefix == 0 && body == f.body_bytes)
            return yk_err_set(&c->err, -YK_EPROTO, "put frame of %u bytes is too short",
                              f.body_bytes);
        if (prefix == 0)
            return 0;
        rc = put_decode(c, &f, data + YK_FRAME_HDR, prefix);
        if (rc < 0)
            return rc;
        c->state = handle_put_begin(c) == 1 ? CONN_WAIT : c->put.status < 0 ? CONN_DROP : CONN_PUT;
        put_complete(c);
        return (ssize_t)(YK_FRAME_HDR + prefix);
    }
    *ret_need = YK_FRAME_HDR + (size_t)f.body_bytes;
    if (have < *ret_need)
        return 0;
    struct yk_rd r;
    yk_rd_init(&r, data + YK_FRAME_HDR, f.body_bytes);
    c->begun_ns = yk_now_ns();
    rc = run_frame(c, &f, &r);
    if (rc < 0)
        return rc;
    NODE_ADD(c->node, requests[f.op], 1);
    if (rc != HANDLE_PARKED)
        yk_hist_record(&c->node->latency[f.op], yk_now_ns() - c->begun_ns);
    return (ssize_t)*ret_need;
}

int conn_reply(struct conn *c, const struct yk_frame *f, const void *body) {
    struct yk_wr w;
    if (congested(c))
        return 1;
    if (reply_begin(c, f->body_bytes, &w) < 0) {
        conn_close(c);
        return 0;
    }
    yk_wr_bytes(&w, body, f->body_bytes);
    reply_end(c, &w, f->op, f->id);
    conn_flush(c);
    return 0;
}

int conn_rerun(struct conn *c, const struct yk_frame *f, const void *body, uint64_t begun_ns,
               const struct parked *parked) {
    struct yk_rd r;
    if (congested(c))
        return 1;
    yk_rd_init(&r, body, f->body_bytes);
    c->rerun = 1;
    c->begun_ns = begun_ns;
    c->asked = parked == NULL || parked->keys > 0 || parked->answers != NULL;
    c->answers = parked != NULL ? parked->answers : NULL;
    if (c->answers != NULL)
        c->answers->next = 0;
    int rc = run_frame(c, f, &r);
    c->rerun = c->asked = 0;
    c->answers = NULL;
    if (rc < 0) {
        conn_fail(c, rc);
        return 0;
    }
    if (rc != HANDLE_PARKED)
        yk_hist_record(&c->node->latency[f->op], yk_now_ns() - begun_ns);
    conn_flush(c);
    return 0;
}

/* Runs what the input buffer holds. 0, or a failure. */
static int consume(struct conn *c, size_t *ret_need) {
    size_t at = 0;
    *ret_need = YK_FRAME_HDR;
    while (!c->closing && c->state != CONN_WAIT && !congested(c) && at < c->in_len) {
        ssize_t n = take(c, c->in + at, c->in_len - at, ret_need);
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        at += (size_t)n;
    }
    if (c->closing)
        return 0;
    if (at > 0 && at < c->in_len)
        memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    c->stalled = c->in_len > 0 && c->state != CONN_WAIT && congested(c);
    return 0;
}

/* consume, and on when it stopped for a full output that could be sent. */
static int advance(struct conn *c, size_t *ret_need) {
    int rc = consume(c, ret_need);
    if (rc == 0 && !c->closing && c->stalled)
        conn_flush(c);
    return rc;
}

static int in_need(struct conn *c, size_t need) {
    if (need <= c->in_cap)
        return 0;
    size_t cap = c->in_cap != 0 ? c->in_cap : IN_FIRST;
    while (cap < need)
        cap *= 2;
    unsigned char *p = realloc(c->in, cap);
    if (p == NULL)
        return yk_err_set(&c->err, -YK_ENOMEM, "no memory for a frame of %zu bytes", need);
    NODE_ADD(c->node, conn_buffer_bytes, cap - c->in_cap);
    c->in = p;
    c->in_cap = cap;
    return 0;
}

/* Receives into the place where the bytes belong. Bytes, 0 at the end, -1 with errno. */
static ssize_t receive(struct conn *c) {
    if (c->state == CONN_PUT && c->in_len == 0) {
        size_t want = (size_t)(c->put.len - c->put.got);
        ssize_t n = recv(c->fd, (char *)c->node->seg->data + c->put.place.offset + c->put.got, want,
                         MSG_DONTWAIT);
        if (n > 0) {
            c->put.got += (uint64_t)n;
            put_complete(c);
        }
        return n;
    }
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, MSG_DONTWAIT);
    if (n > 0)
        c->in_len += (size_t)n;
    return n;
}

static void conn_read(struct conn *c) {
    size_t need = YK_FRAME_HDR;
    for (int turn = 0; turn < READ_TURNS && !c->closing; turn++) {
        if (c->state == CONN_WAIT || congested(c))
            break;
        if (in_need(c, c->in_len < IN_FIRST ? IN_FIRST : c->in_len + 1u) < 0) {
            conn_fail(c, c->err.code);
            return;
        }
        size_t room = c->in_cap - c->in_len;
        size_t direct =
            c->state == CONN_PUT && c->in_len == 0 ? (size_t)(c->put.len - c->put.got) : 0;
        ssize_t n = receive(c);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n <= 0) {
            conn_close(c);
            return;
        }
        NODE_ADD(c->node, in_bytes, n);
        int rc = advance(c, &need);
        if (rc == 0 && !c->closing)
            rc = in_need(c, need);
        if (rc < 0) {
            conn_fail(c, rc);
            return;
        }
        if ((size_t)n < (direct != 0 ? direct : room)) /* the socket is empty now */
            break;
    }
    if (!c->closing)
        conn_flush(c);
    if (yk_store_short(c->node->store)) /* c stays readable: it is freed by the loop, later */
        node_more(c->node);
}

/* Goes on with what waited: input that was read already, then the socket. */
void conn_resume(struct conn *c) {
    size_t need;
    if (c->closing)
        return;
    int rc = advance(c, &need);
    if (rc == 0 && !c->closing)
        rc = in_need(c, need);
    if (rc < 0)
        conn_fail(c, rc);
    else if (!c->closing)
        conn_flush(c);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct conn *c = poll->data;
    c->quiet = 0;
    node_active(c->node);
    if (status < 0 || (events & UV_DISCONNECT && !(events & UV_READABLE))) {
        conn_close(c);
        return;
    }
    if (events & UV_WRITABLE)
        conn_flush(c);
    if (!c->closing && (events & UV_READABLE)) {
        conn_read(c);
        node_heard(c->node);
    }
}

/* ---- life --------------------------------------------------------------------------------------
 */

static uint32_t peer_pid(int fd) {
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.pid < 0)
        return 0;
    return (uint32_t)cred.pid;
}

void conn_open(struct yk_node *node, int fd, int is_unix) {
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL || uv_poll_init(&node->loop, &c->poll, fd) < 0) {
        free(c);
        close(fd);
        return;
    }
    c->node = node;
    c->fd = fd;
    c->is_unix = is_unix;
    c->pid = is_unix ? peer_pid(fd) : 0;
    c->opened_ms = yk_boot_ms();
    c->poll.data = c;
    c->next = node->conns;
    c->prev = &node->conns;
    if (c->next != NULL)
        c->next->prev = &c->next;
    node->conns = c;
    NODE_ADD(node, conns, 1);
    NODE_ADD(node, conns_accepted, 1);
    c->number = node->n.conns_accepted;
    conn_arm(c);
}

void conn_places_end(struct conn *c) {
    if (c->peer != 0)
        yk_store_peer_close(c->node->store, c->peer);
    c->peer = 0;
}

static void on_closed(uv_handle_t *handle) {
    struct conn *c = handle->data;
    free(c->in);
    free(c->obuf);
    free(c);
}

void conns_close_slot(struct yk_node *node, uint32_t slot, const struct conn *but) {
    for (struct conn *c = node->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c != but && c->mapped && c->slot == slot)
            conn_close(c);
    }
}

/* A large frame or listing leaves a large buffer behind, and a thousand quiet clients need none. */
void conns_shrink(struct yk_node *node) {
    for (struct conn *c = node->conns; c != NULL; c = c->next) {
        if (!c->quiet) { /* since the last call */
            c->quiet = 1;
            continue;
        }
        if (c->in != NULL && c->in_len == 0) {
            NODE_ADD(node, conn_buffer_bytes, -(int64_t)c->in_cap);
            free(c->in);
            c->in = NULL;
            c->in_cap = 0;
        }
        if (c->obuf != NULL && c->piece_count == 0) {
            NODE_ADD(node, conn_buffer_bytes, -(int64_t)c->ocap);
            free(c->obuf);
            c->obuf = NULL;
            c->ocap = c->olen = 0;
        }
    }
}

static int put_is_stalled(struct conn *c, uint64_t step_ms) {
    c->put.age_ms += step_ms;
    c->put.idle_ms = c->put.seen != c->put.got ? 0 : c->put.idle_ms + step_ms;
    c->put.seen = c->put.got;
    return c->put.idle_ms > STALL_MS ||
           (c->put.age_ms > RATE_GRACE && c->put.got < (c->put.age_ms - RATE_GRACE) * RATE_LEAST);
}

/* The node itself receives, so that nobody else writes to the place. The rest of the payload is read
 * and dropped, if it ever comes. */
void conns_drop_stalled(struct yk_node *node) {
    uint64_t now_ms = yk_boot_ms(), step_ms = now_ms - node->looked_ms;
    node->looked_ms = now_ms;
    if (step_ms > LOOK_STEP_MS)
        step_ms = LOOK_STEP_MS;
    for (struct conn *c = node->conns; c != NULL; c = c->next) {
        if (c->state != CONN_PUT || !put_is_stalled(c, step_ms))
            continue;
        yk_store_abort(node->store, 0, c->put.place.idx, c->put.place.gen);
        c->put.status = -YK_ETIMEDOUT;
        c->state = CONN_DROP;
    }
}

void conn_close(struct conn *c) {
    if (c->closing)
        return;
    c->closing = 1;
    node_forget(c->node, c);
    while (c->piece_count > 0) { /* what was not sent is let go */
        yk_store_unhold(c->node->store, piece_at(c, 0)->hold);
        c->piece_first = (c->piece_first + 1) % SEGMENTS_MAX;
        c->piece_count--;
    }
    /* Received by the node itself: nobody else writes there. */
    if (c->state == CONN_PUT || (c->state == CONN_WAIT && c->put.got == c->put.len))
        yk_store_abort(c->node->store, 0, c->put.place.idx, c->put.place.gen);
    conn_places_end(c);
    *c->prev = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    NODE_ADD(c->node, conns, -1);
    NODE_ADD(c->node, conn_buffer_bytes, -(int64_t)(c->in_cap + c->ocap));
    uv_close((uv_handle_t *)&c->poll, on_closed);
    close(c->fd); /* after uv_close, which takes it out of the poll set: the number is reused */
}
