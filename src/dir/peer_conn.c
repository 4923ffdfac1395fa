/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection between nodes, either side of it: bytes in, frames to whom they are for, frames out.
 *
 * A read goes into a buffer that all connections share, and whole frames are handled where they lie; only a
 * frame whose end has not come is kept, so that an idle connection owns no memory for input, and a large frame
 * is received in place. Its memory grows with what has come, never with what a header promises.
 *
 * Who sends garbage is told so by one ERROR frame, and has PEER_LINGER_MS to read it: a close with unread
 * input would take the frame with it.
 */
#include "dir/peer_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_TURNS 16         /* receives before other connections get their turn */
#define OUT_FIRST  4096u
#define OUT_KEEP   (64u << 10) /* of an empty buffer */
#define OUT_STOP   (1u << 20)  /* whose replies stand so long is not read from */

static struct yk_log_limit refuse_limit = YK_LOG_LIMIT_INIT(5000);
static struct yk_log_limit fit_limit = YK_LOG_LIMIT_INIT(5000);

/* ---- output -------------------------------------------------------------------------------------- */

static int obuf_room(struct obuf *o, size_t more) {
    if (o->cap - o->len >= more)
        return 0;
    if (o->off >= o->cap / 2 && o->off > 0) {
        memmove(o->data, o->data + o->off, o->len - o->off);
        o->len -= o->off;
        o->off = 0;
    }
    size_t cap = o->cap != 0 ? o->cap : OUT_FIRST;
    while (cap - o->len < more)
        cap *= 2;
    unsigned char *p = cap != o->cap ? realloc(o->data, cap) : o->data;
    if (p == NULL)
        return -YK_ENOMEM;
    o->data = p;
    o->cap = cap;
    return 0;
}

/* One frame may always be queued, however low the limit is. */
int obuf_frame(struct obuf *o, size_t max, const struct yk_frame *f, const void *body) {
    size_t queued = o->len - o->off, more = YK_FRAME_HDR + (size_t)f->body_bytes;
    if (max != 0 && queued != 0 && queued + more > max)
        return -YK_EAGAIN;
    if (obuf_room(o, more) < 0)
        return -YK_ENOMEM;
    yk_frame_encode(o->data + o->len, f);
    if (f->body_bytes > 0)
        memcpy(o->data + o->len + YK_FRAME_HDR, body, f->body_bytes);
    o->len += more;
    return 0;
}

void obuf_free(struct obuf *o) {
    free(o->data);
    *o = (struct obuf){0};
}

static int obuf_bytes(struct obuf *o, const void *bytes, size_t len) {
    if (obuf_room(o, len) < 0)
        return -YK_ENOMEM;
    memcpy(o->data + o->len, bytes, len);
    o->len += len;
    return 0;
}

static void obuf_sent(struct obuf *o, size_t n) {
    o->off += n;
    if (o->off < o->len)
        return;
    o->off = o->len = 0;
    if (o->cap > OUT_KEEP)
        obuf_free(o);
}

static size_t out_bytes(const struct conn *c) {
    return c->out.len - c->out.off;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void conn_arm(struct conn *c) {
    int want = UV_WRITABLE;
    int stuck = out_bytes(c) > 0 && link_empty(&c->dirty); /* not just waiting for the end of this turn */
    if (c->state != CONN_CONNECTING)
        want = (stuck ? UV_WRITABLE : 0) | (stuck && out_bytes(c) > OUT_STOP ? 0 : UV_READABLE);
    if (want == c->polled)
        return;
    c->polled = want;
    uv_poll_start(&c->poll, want, on_poll);
}

void conn_wrote(struct conn *c) {
    if (!link_empty(&c->dirty))
        return;
    link_add(&c->peers->dirty, &c->dirty);
    peers_turn(c->peers);
}

void peer_conn_flush(struct conn *c) {
    link_del(&c->dirty);
    if (!(c->polled & UV_WRITABLE)) /* nothing of before stands there */
        c->moved_ms = uv_now(c->peers->loop);
    while (out_bytes(c) > 0) {
        ssize_t n = send(c->fd, c->out.data + c->out.off, out_bytes(c), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            /* What the other side said before it went may still be there to be read. */
            if (c->state == CONN_LINGER)
                peer_conn_close(c);
            else if (!(c->polled & UV_READABLE))
                conn_broke(c, -YK_ECLOSED, "%s", strerror(errno));
            return;
        }
        c->peers->n.bytes_out += (uint64_t)n;
        c->moved_ms = uv_now(c->peers->loop);
        obuf_sent(&c->out, (size_t)n);
    }
    if (out_bytes(c) > 0)
        peers_tick(c->peers);
    else if (c->state == CONN_LINGER)
        shutdown(c->fd, SHUT_WR);
    conn_arm(c);
}

/* ---- frames -------------------------------------------------------------------------------------- */

struct yk_peer_hello peers_hello(const struct yk_peers *ps) {
    return (struct yk_peer_hello){YK_PEER_VERSION, YK_PEER_VERSION_MIN, ps->cluster, ps->opts.self, yk_boot_ms()};
}

static int hello_send(struct conn *c, int reply) {
    unsigned char frame[YK_PEER_HELLO_BYTES];
    struct yk_peer_hello mine = peers_hello(c->peers);
    yk_peer_hello_encode(frame, reply, &mine);
    if (obuf_bytes(&c->out, frame, sizeof(frame)) < 0)
        return -YK_ENOMEM;
    conn_wrote(c);
    return 0;
}

static void conn_up(struct conn *c, uint32_t version, const struct yk_peer_hello *theirs) {
    c->version = version;
    c->who = theirs->who;
    c->state = CONN_UP;
    c->since_ms = uv_now(c->peers->loop);
}

/* Theirs, on an accepted connection. */
static int hello_in(struct conn *c, const struct yk_frame *f, const void *body, struct yk_err *err) {
    struct yk_peer_hello mine = peers_hello(c->peers), theirs;
    int rc = yk_peer_hello_decode(body, f->body_bytes, &theirs, err);
    int version = rc < 0 ? rc : yk_peer_hello_fit(&mine, &theirs, err);
    rc = version < 0 ? version : accepted_hello(c, &theirs, err);
    if (rc == 0)
        rc = hello_send(c, 1);
    if (rc == 0)
        conn_up(c, (uint32_t)version, &theirs);
    return rc;
}

/* Does the one that answered be whom the peer's address was given for? */
static int answer_fits(const struct conn *c, const struct yk_peer_who *who, struct yk_err *err) {
    const struct peer *p = c->peer;
    if (c->peers->opts.self.id == 0 && p->incarnation == 0)
        return 0;
    if (who->id != p->member)
        return yk_err_set(err, -YK_ESTALE, "at %s answers member %u, not %u", p->address, who->id, p->member);
    if (p->incarnation != 0 && who->incarnation != p->incarnation)
        return yk_err_set(err, -YK_ESTALE, "member %u at %s answers in incarnation %llu, not %llu", p->member,
                          p->address, (unsigned long long)who->incarnation, (unsigned long long)p->incarnation);
    return 0;
}

static int answer_in(struct conn *c, const struct yk_frame *f, const void *body, struct yk_err *err) {
    struct yk_peer_hello mine = peers_hello(c->peers), theirs;
    if (f->op == YK_PEER_ERROR)
        return yk_peer_error_decode(body, f->body_bytes, err);
    int rc = yk_peer_hello_decode(body, f->body_bytes, &theirs, err);
    int version = rc < 0 ? rc : yk_peer_hello_fit(&mine, &theirs, err);
    rc = version < 0 ? version : answer_fits(c, &theirs.who, err);
    if (rc < 0)
        return rc;
    if (c->peers->cluster == 0)
        c->peers->cluster = theirs.cluster;
    c->peer->behind_ms = yk_boot_ms() - theirs.clock_ms; /* it was written before: at most so far */
    c->peer->clocked = 1;
    c->peer->clock_wanted = 0;
    conn_up(c, (uint32_t)version, &theirs);
    peer_connected(c);
    return 0;
}

/* On an accepted connection. */
static int request_in(struct conn *c, const struct yk_frame *f, const void *body, struct yk_err *err) {
    struct yk_peers *ps = c->peers;
    if ((f->flags & YK_FRAME_REPLY) || f->op == YK_PEER_ERROR)
        return yk_err_set(err, -YK_EPROTO, "a reply (op %u) where a request belongs", f->op);
    if (f->op == YK_PEER_PING) {
        struct yk_frame pong = {0, YK_PEER_PING, YK_FRAME_REPLY, f->id};
        int rc = obuf_frame(&c->out, ps->opts.max_queued, &pong, NULL);
        if (rc == 0)
            conn_wrote(c);
        return rc;
    }
    if (c->who.id == 0 && f->id == 0)
        return yk_err_set(err, -YK_EPERM, "a guest may only ask (op %u came without an id)", f->op);
    struct yk_peer_reply_to to = {c->key, f->id};
    int rc = ps->opts.ops.frame(ps->opts.ops.user, &c->who, f->op, body, f->body_bytes, &to, err);
    return rc < 0 ? rc : 0;
}

/* On a dialled one. A reply that nobody waits for any more came late. */
static int reply_in(struct conn *c, const struct yk_frame *f, const void *body, struct yk_err *err) {
    if (f->op == YK_PEER_ERROR)
        return yk_peer_error_decode(body, f->body_bytes, err);
    if (!(f->flags & YK_FRAME_REPLY))
        return yk_err_set(err, -YK_EPROTO, "a request (op %u) where a reply belongs", f->op);
    struct ask *a = f->op == YK_PEER_PING ? NULL : ask_of(c->peers, f->id);
    if (a != NULL && a->peer == c->peer)
        ask_reply(c->peers, a, body, f->body_bytes);
    return 0;
}

static int conn_frame(struct conn *c, const struct yk_frame *f, const void *body, struct yk_err *err) {
    c->peers->n.frames_in++;
    if (c->state == CONN_HELLO)
        return c->peer != NULL ? answer_in(c, f, body, err) : hello_in(c, f, body, err);
    return c->peer != NULL ? reply_in(c, f, body, err) : request_in(c, f, body, err);
}

/* ---- input --------------------------------------------------------------------------------------- */

static int decode(const struct conn *c, const unsigned char *bytes16, struct yk_frame *ret, struct yk_err *err) {
    if (c->state == CONN_HELLO)
        return c->peer != NULL ? yk_peer_answer_decode(bytes16, ret, err) : yk_peer_first_decode(bytes16, ret, err);
    int guest = c->peer == NULL && c->who.id == 0;
    return yk_peer_frame_decode(bytes16, guest ? YK_PEER_GUEST_BODY_MAX : YK_PEER_BODY_MAX, ret, err);
}

static int in_cap(struct conn *c, size_t want) {
    if (want <= c->in_cap)
        return 0;
    unsigned char *p = realloc(c->in, want);
    if (p == NULL)
        return -YK_ENOMEM;
    c->in = p;
    c->in_cap = want;
    return 0;
}

/* What is kept may be a whole frame by now. */
static int in_step(struct conn *c, struct yk_err *err) {
    struct yk_frame f;
    if (c->in_len < YK_FRAME_HDR)
        return 0;
    int rc = decode(c, c->in, &f, err);
    if (rc < 0 || c->in_len < YK_FRAME_HDR + (size_t)f.body_bytes)
        return rc;
    c->in_len = 0;
    return conn_frame(c, &f, c->in + YK_FRAME_HDR, err);
}

/* Bytes that are missing to the next step of what is kept: a header, or the frame's end. */
static size_t in_missing(const struct conn *c) {
    return c->in_len < YK_FRAME_HDR ? YK_FRAME_HDR - c->in_len : YK_FRAME_HDR + (size_t)yk_le32(c->in) - c->in_len;
}

static int open_to_frames(const struct conn *c) {
    return c->state == CONN_HELLO || c->state == CONN_UP;
}

static int feed(struct conn *c, const unsigned char *p, size_t len, struct yk_err *err) {
    int rc = 0;
    while (len > 0 && rc == 0 && open_to_frames(c)) {
        struct yk_frame f;
        if (c->in_len == 0 && len >= YK_FRAME_HDR) {
            rc = decode(c, p, &f, err);
            if (rc < 0)
                break;
            size_t all = YK_FRAME_HDR + (size_t)f.body_bytes;
            if (len >= all) {
                rc = conn_frame(c, &f, p + YK_FRAME_HDR, err);
                p += all;
                len -= all;
                continue;
            }
        }
        size_t n = in_missing(c) < len ? in_missing(c) : len;
        if (in_cap(c, c->in_len + n) < 0)
            return -YK_ENOMEM;
        memcpy(c->in + c->in_len, p, n);
        c->in_len += n;
        p += n;
        len -= n;
        rc = in_step(c, err);
    }
    return rc;
}

/* Room behind what is kept for the rest of its frame, at most as much again as has come, or 64 KiB. */
static size_t in_room(struct conn *c) {
    if (c->in_len < YK_FRAME_HDR)
        return 0;
    size_t missing = in_missing(c), more = c->in_len < PEER_SCRATCH ? PEER_SCRATCH : c->in_len;
    if (in_cap(c, c->in_len + (missing < more ? missing : more)) < 0)
        return 0; /* feed goes on in small steps, or fails */
    size_t room = c->in_cap - c->in_len;
    return room < missing ? room : missing;
}

static void in_failed(struct conn *c, int rc, struct yk_err *err) {
    if (err->code == 0 || err->text[0] == 0)
        yk_err_set(err, rc, "%s", yk_status_text(rc));
    err->code = rc;
    if (c->state == CONN_CLOSED)
        return;
    if (c->peer != NULL)
        conn_broke(c, rc, "%s", err->text);
    else
        conn_refuse(c, err);
}

/* One receive. What it filled, 0: nothing more is there, or the connection is over. */
static size_t receive(struct conn *c, size_t *ret_room) {
    struct yk_peers *ps = c->peers;
    struct yk_err err = {0};
    size_t room = in_room(c);
    struct iovec iov[2] = {{c->in != NULL ? c->in + c->in_len : ps->scratch, room}, {ps->scratch, PEER_SCRATCH}};
    ssize_t n = readv(c->fd, room > 0 ? iov : iov + 1, room > 0 ? 2 : 1);
    *ret_room = room + PEER_SCRATCH;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n <= 0) {
        conn_broke(c, -YK_ECLOSED, "%s", n < 0 ? strerror(errno) : "it hung up");
        return 0;
    }
    ps->n.bytes_in += (uint64_t)n;
    c->moved_ms = uv_now(ps->loop);
    if (!open_to_frames(c))
        return (size_t)n;
    if (c->state == CONN_UP && c->peer != NULL)
        peer_heard(ps, c->peer);
    size_t first = (size_t)n < room ? (size_t)n : room;
    c->in_len += first;
    int rc = first > 0 ? in_step(c, &err) : 0;
    if (rc == 0)
        rc = feed(c, ps->scratch, (size_t)n - first, &err);
    if (rc < 0)
        in_failed(c, rc, &err);
    return (size_t)n;
}

static void conn_read(struct conn *c) {
    size_t n = 1, room = 1;
    for (int turn = 0; turn < READ_TURNS && n == room && c->state != CONN_CLOSED; turn++)
        n = receive(c, &room);
    if (c->state == CONN_CLOSED)
        return;
    if (c->in_len > 0)
        peers_tick(c->peers);
    else if (c->in != NULL) {
        free(c->in);
        c->in = NULL;
        c->in_cap = 0;
    }
    conn_arm(c);
}

static int sock_error(int fd) {
    int e = 0;
    socklen_t len = sizeof(e);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 ? errno : e;
}

static void conn_connected(struct conn *c) {
    int e = sock_error(c->fd);
    if (e != 0) {
        conn_broke(c, -YK_ECLOSED, "cannot connect to %s: %s", c->peer->address, strerror(e));
        return;
    }
    c->state = CONN_HELLO;
    if (hello_send(c, 0) < 0)
        conn_broke(c, -YK_ENOMEM, "%s", yk_status_text(YK_ENOMEM));
    else
        conn_arm(c);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct conn *c = poll->data;
    if (status < 0)
        c->polled = 0; /* libuv has stopped the handle */
    if (c->state == CONN_CONNECTING) {
        conn_connected(c);
        return;
    }
    if (events & UV_WRITABLE)
        peer_conn_flush(c);
    if (c->state != CONN_CLOSED && (status < 0 || (events & UV_READABLE)))
        conn_read(c);
}

/* ---- life ---------------------------------------------------------------------------------------- */

void sock_tune(int fd, const struct sockaddr *addr) {
    int one = 1, idle = 15, every = 5, times = 3, dead = 10000; /* s, s, probes, ms */
    /* What a socket does not take, it does without. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
    /* bbr paces, which on loopback costs time and brings nothing (src/xfer/sock.c measured it). */
    if (addr->sa_family == AF_INET &&
        (ntohl(((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr) >> 24) == 127)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

int conn_new(struct yk_peers *ps, int fd, enum conn_state state, struct peer *p, struct conn **ret_conn) {
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL || uv_poll_init(ps->loop, &c->poll, fd) < 0) {
        free(c);
        close(fd);
        return -YK_ENOMEM;
    }
    c->peers = ps;
    c->peer = p;
    c->fd = fd;
    c->state = state;
    c->since_ms = c->moved_ms = uv_now(ps->loop);
    c->poll.data = c;
    link_add(&ps->conns, &c->all);
    link_init(&c->dirty);
    ps->handles++;
    ps->n.conns++;
    conn_arm(c);
    *ret_conn = c;
    return 0;
}

static void on_closed(uv_handle_t *handle) {
    struct conn *c = handle->data;
    struct yk_peers *ps = c->peers;
    link_del(&c->all);
    obuf_free(&c->out);
    free(c->in);
    free(c);
    peers_handle_closed(ps);
}

/* What it holds stays until libuv lets go of it: a body that a callback looks at may be there. */
void peer_conn_close(struct conn *c) {
    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    if (c->peer != NULL && c->peer->conn == c)
        c->peer->conn = NULL;
    if (c->key != 0)
        accepted_forget(c);
    link_del(&c->dirty);
    c->peers->n.conns--;
    uv_close((uv_handle_t *)&c->poll, on_closed);
    close(c->fd); /* after uv_close, which takes it out of the poll set: the number is reused */
}

void conn_broke(struct conn *c, int status, const char *fmt, ...) {
    struct yk_peers *ps = c->peers;
    struct peer *p = c->peer;
    struct yk_err why = {status, ""};
    enum conn_state was = c->state;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why.text, sizeof(why.text), fmt, ap);
    va_end(ap);
    peer_conn_close(c);
    if (was == CONN_LINGER || was == CONN_CLOSED)
        return;
    ps->n.broken++;
    if (p != NULL) {
        if (was == CONN_HELLO && status != -YK_ECLOSED)
            yk_log_limited(&fit_limit, YK_LOG_WARN, "dir", "no talk with member %u at %s: %s", p->member, p->address,
                           why.text);
        peer_failed(ps, p, -YK_ECLOSED, &why, 1);
        return;
    }
    p = was == CONN_UP && c->who.id != 0 ? peer_find(ps, c->who.id) : NULL;
    if (p != NULL && c->who.incarnation >= p->incarnation)
        peer_blame(ps, p);
}

static void log_refusal(const struct conn *c, const struct yk_err *err) {
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char host[INET6_ADDRSTRLEN] = "?";
    if (!yk_log_enabled(YK_LOG_WARN))
        return;
    if (getpeername(c->fd, (struct sockaddr *)&a, &len) == 0)
        (void)getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST);
    yk_log_limited(&refuse_limit, YK_LOG_WARN, "dir", "refused a connection from %s (member %u): %s", host,
                   c->who.id, err->text);
}

void conn_refuse(struct conn *c, const struct yk_err *err) {
    unsigned char frame[YK_PEER_ERROR_BYTES];
    size_t len = yk_peer_error_encode(frame, err->code, err->text);
    c->peers->n.refused++;
    log_refusal(c, err);
    if (obuf_bytes(&c->out, frame, len) < 0) {
        peer_conn_close(c);
        return;
    }
    c->state = CONN_LINGER;
    c->since_ms = uv_now(c->peers->loop);
    c->in_len = 0;
    conn_wrote(c);
    peers_tick(c->peers);
}

int conn_sweep(struct conn *c, uint64_t now_ms) {
    struct yk_err err;
    if (c->state == CONN_HELLO && c->peer == NULL && now_ms >= c->since_ms + c->peers->opts.connect_ms) {
        yk_err_set(&err, -YK_ETIMEDOUT, "no hello came in %u ms", c->peers->opts.connect_ms);
        conn_refuse(c, &err);
    } else if (c->state == CONN_LINGER && now_ms >= c->since_ms + PEER_LINGER_MS) {
        peer_conn_close(c);
    } else if (c->state == CONN_UP && (out_bytes(c) > 0 || c->in_len > 0) &&
               now_ms >= c->moved_ms + PEER_STALL_MS) {
        conn_broke(c, -YK_ECLOSED, "a frame stood half sent or half received for %u ms", PEER_STALL_MS);
    }
    return c->state == CONN_LINGER || (c->state == CONN_HELLO && c->peer == NULL) ||
           (c->state == CONN_UP && (out_bytes(c) > 0 || c->in_len > 0));
}
