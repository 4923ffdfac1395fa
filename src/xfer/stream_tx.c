/* SPDX-License-Identifier: Apache-2.0
 *
 * What a stream sends: groups of requests, headers in front, payloads behind them.
 *
 * A group is laid out once and then sent from wherever the socket's buffer was full last time. What is
 * posted while one is under way waits for the next: that is what makes runs of small requests large.
 *
 * Memory that cannot be read (it was unmapped while registered) ends its request, and no other: its header may
 * be on its way already, so zeros are sent in place of it, and its answer, whatever it is, counts as
 * -YK_EFAULT. Which request it is shows when its payload is sent alone.
 *
 * Thread: the shard's.
 */
#include "stream_priv.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

int yk_stream_tx_pending(const struct yk_stream *s) {
    return s->g_count > 0 || s->tx != s->tail;
}

static uint32_t put_header(struct yk_stream *s, uint32_t i, int more, unsigned char *to) {
    const struct yk_stream_req *q = yk_stream_at(s, i);
    const struct yk_slice *slice = q->slice;
    struct yk_xreq req = {.op = q->op, .flags = more ? YK_XREQ_MORE : 0, .seq = i + 1, .len = q->len};
    if (q->op >= YK_PROTO_OFFER) {
        req.len = slice->len;
        req.remote = slice->priv[1];
        req.key = slice->priv[2];
    }
    if (yk_xreq_is_access(q->op)) {
        req.region = slice->region;
        req.offset = slice->offset;
    } else if (q->op == YK_PROTO_FENCE || q->op == YK_PROTO_NOTE) {
        req.offset = slice->offset;
    }
    if (yk_xreq_is_access(q->op) && slice->guard != NULL) {
        req.flags |= YK_XREQ_GUARD;
        req.descriptor = slice->guard->descriptor;
        req.generation = slice->guard->generation;
        req.epoch = slice->guard->epoch;
    }
    return yk_xreq_encode(to, &req);
}

/* 0: nothing is waiting. */
static int make_group(struct yk_stream *s) {
    uint64_t payload = 0;
    uint32_t n = 0, waiting = s->tail - s->tx;
    while (n < waiting && n < YK_GROUP_MAX && payload < YK_STREAM_GROUP) {
        const struct yk_stream_req *q = yk_stream_at(s, s->tx + n++);
        payload += yk_xreq_has_payload(q->op) ? q->len : 0;
    }
    s->g_header = 0;
    for (uint32_t k = 0; k < n; k++) {
        s->g_header += put_header(s, s->tx + k, k + 1 < n, s->g_headers + s->g_header);
        s->g_end[k] = s->g_header;
    }
    s->g_total = s->g_header;
    for (uint32_t k = 0; k < n; k++) {
        const struct yk_stream_req *q = yk_stream_at(s, s->tx + k);
        if (yk_xreq_has_payload(q->op) && q->len > 0)
            s->g_end[k] = s->g_total += q->len;
    }
    s->g_sent = 0;
    s->g_count = n;
    return n > 0;
}

#define PIECES_MAX ((int)YK_GROUP_MAX + 1)

static char zeros[64 << 10]; /* never written */

/* What is left of the group, at most `most` bytes in `limit` entries; returns how many, *ret_bytes how
 * much. */
static int lay_out(struct yk_stream *s, struct iovec *iov, int limit, uint64_t most, uint64_t *ret_bytes) {
    int n = 0;
    uint64_t bytes = 0;
    if (s->g_sent < s->g_header) {
        iov[n++] = (struct iovec){s->g_headers + s->g_sent, s->g_header - s->g_sent};
        bytes = s->g_header - s->g_sent;
    }
    for (uint32_t k = 0; k < s->g_count && bytes < most && n < limit; k++) {
        const struct yk_stream_req *q = yk_stream_at(s, s->tx + k);
        if (!yk_xreq_has_payload(q->op) || q->len == 0 || s->g_end[k] <= s->g_sent)
            continue;
        uint64_t begin = s->g_end[k] - q->len;
        uint64_t skip = s->g_sent > begin ? s->g_sent - begin : 0;
        uint64_t len = q->len - skip;
        len = len < most - bytes ? len : most - bytes;
        if (q->fault) {
            len = len < sizeof(zeros) ? len : sizeof(zeros);
            limit = n + 1; /* the rest of it comes first */
        }
        iov[n++] = (struct iovec){q->fault ? zeros : q->slice->local + skip, len};
        bytes += len;
    }
    *ret_bytes = bytes;
    return n;
}

/* The request whose payload comes next: its memory cannot be read. */
static int fault(struct yk_stream *s) {
    for (uint32_t k = 0; k < s->g_count && s->g_sent >= s->g_header; k++) {
        struct yk_stream_req *q = yk_stream_at(s, s->tx + k);
        if (!yk_xreq_has_payload(q->op) || s->g_end[k] <= s->g_sent)
            continue;
        if (q->fault)
            break;
        q->fault = 1;
        return 1;
    }
    yk_stream_fail_errno(s, "sending", EFAULT);
    return -1;
}

/* One system call. 1: go on; 0: the socket is full; -1: it failed. *limit: pieces that are sent at once. */
static int send_some(struct yk_stream *s, uint64_t most, int *limit) {
    struct iovec iov[PIECES_MAX];
    uint64_t bytes;
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    /* The header of the next group overwrites this one's, so that it must not be left to the kernel. */
    int n = lay_out(s, iov, *limit, most, &bytes);
    int zc = yk_stream_zc_now(s, bytes);
    if (zc && s->g_sent < s->g_header) {
        n = 1;
        bytes = iov[0].iov_len;
        flags |= MSG_MORE;
        zc = 0;
    }
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t sent = sendmsg(s->fd, &m, flags | (zc ? MSG_ZEROCOPY : 0));
    if (sent < 0 && zc && (errno == ENOBUFS || errno == EFAULT)) { /* too much is pinned already; or it cannot be */
        zc = 0;
        sent = sendmsg(s->fd, &m, flags);
    }
    if (sent < 0) {
        if (errno == EINTR)
            return 1;
        if (errno == EAGAIN)
            return 0;
        if (errno == EFAULT && *limit > 1) {
            *limit = 1;
            return 1;
        }
        if (errno == EFAULT)
            return fault(s);
        yk_stream_fail_errno(s, "sending", errno);
        return -1;
    }
    if (zc)
        yk_stream_zc_sent(s, s->g_sent, s->g_sent + (uint64_t)sent);
    s->g_sent += (uint64_t)sent;
    s->sent += (uint64_t)sent;
    if (*limit == 1 && s->g_sent > s->g_header)
        *limit = PIECES_MAX;
    if (s->g_sent == s->g_total) {
        s->tx += s->g_count;
        s->g_count = 0;
    }
    return (uint64_t)sent == bytes;
}

void yk_stream_tx(struct yk_stream *s) {
    uint64_t before = s->sent;
    int go = 1, limit = PIECES_MAX;
    while (go > 0 && (s->g_count > 0 || make_group(s))) {
        uint64_t moved = s->sent - before;
        if (moved >= yk_stream_turn(s))
            break;
        go = send_some(s, yk_stream_turn(s) - moved, &limit);
    }
    if (s->state == YK_STREAM_UP)
        yk_loop_rewatch(s->env->loop, &s->watch,
                        yk_stream_tx_pending(s) ? EPOLLIN | EPOLLOUT : EPOLLIN);
}
