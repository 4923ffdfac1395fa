/* SPDX-License-Identifier: Apache-2.0
 *
 * What a stream receives: the answers to what it sent, in that order, of known lengths.
 *
 * It never asks for a byte more than what is outstanding, so that nothing is received into a place
 * that is not its own, and a ping-pong takes one recvmsg.
 *
 * Memory that cannot be written (it was unmapped while registered) ends its request, and no other: the kernel
 * takes nothing from the socket when it cannot place all of a packet, so the first request is tried alone; if
 * that fails, too, it is the one, and what comes of it goes into the sink.
 *
 * Thread: the shard's.
 */
#include "stream_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define ANSWERS_MAX 64 /* of one system call */

struct layout {
    struct iovec iov[ANSWERS_MAX * 2 + 2];
    unsigned char answers[ANSWERS_MAX][YK_XANS_BYTES];
    int n;
    uint64_t bytes;
};

static uint64_t payload(const struct yk_stream_req *q) {
    return yk_xreq_returns(q->op, q->len);
}

/* How many requests from rx on the target may have answered. */
static uint32_t expected(const struct yk_stream *s) {
    uint32_t i = s->rx;
    if ((int32_t)(s->tx - i) > 0)
        i = s->tx;
    while (i - s->tx < s->g_count && s->g_end[i - s->tx] <= s->g_sent)
        i++;
    return i - s->rx;
}

static void add(struct layout *l, void *at, uint64_t len) {
    l->iov[l->n++] = (struct iovec){at, len};
    l->bytes += len;
}

/* Of one request, of which `got` bytes are here. 0: no more fits behind it. */
static int add_request(struct yk_stream *s, struct layout *l, const struct yk_stream_req *q, int k,
                       uint64_t got, uint64_t most) {
    uint64_t len = payload(q);
    if (got < len) {
        uint64_t want = len - got < most - l->bytes ? len - got : most - l->bytes;
        if (q->slice == NULL && want > YK_STREAM_SINK)
            want = YK_STREAM_SINK;
        add(l, q->slice != NULL ? q->slice->local + got : s->sink, want);
        if (want < len - got)
            return 0;
        got = len;
    }
    uint64_t have = got - len;
    memcpy(l->answers[k], s->part, have);
    add(l, l->answers[k] + have, YK_XANS_BYTES - have);
    return l->bytes < most;
}

/* Of at most `limit` requests. */
static int lay_out(struct yk_stream *s, struct layout *l, uint32_t limit, uint64_t most) {
    uint32_t count = expected(s);
    l->n = 0;
    l->bytes = 0;
    for (uint32_t k = 0; k < count && k < limit; k++) {
        const struct yk_stream_req *q = yk_stream_at(s, s->rx + k);
        if (q->slice == NULL && payload(q) > 0 && s->sink == NULL &&
            (s->sink = malloc(YK_STREAM_SINK)) == NULL)
            return -YK_ENOMEM;
        if (!add_request(s, l, q, (int)k, k == 0 ? s->rx_got : 0, most))
            break;
    }
    return 0;
}

/* The answer at rx is here. */
static int answered(struct yk_stream *s, const unsigned char *bytes) {
    struct yk_stream_req *q = yk_stream_at(s, s->rx);
    struct yk_xans ans;
    struct yk_err err;
    int rc = yk_xans_decode(bytes, &ans, &err);
    if (rc == 0 && (ans.op != q->op || ans.seq != s->rx + 1 || ans.len != payload(q)))
        rc = yk_err_set(&err, -YK_EPROTO, "request %u, a %s, was answered as %u, a %s, of %u bytes",
                        s->rx + 1, yk_proto_op_name(q->op), ans.seq, yk_proto_op_name(ans.op), ans.len);
    if (rc < 0) {
        yk_stream_fail(s, rc, YK_SCOPE_LANE, err.text);
        return rc;
    }
    if (q->slice != NULL) {
        /* What has no guard and is no note has nothing that it could have to wait for. */
        int may_wait = q->slice->guard != NULL || q->op == YK_PROTO_NOTE;
        q->slice->status = q->fault                                ? -YK_EFAULT
                           : ans.status == -YK_EAGAIN && !may_wait ? -YK_EPROTO
                                                                   : ans.status;
        q->slice->scope = q->slice->status < 0 ? YK_SCOPE_REQUEST : YK_SCOPE_NONE;
    }
    s->rx++;
    s->rx_got = 0;
    return 0;
}

static void consume(struct yk_stream *s, struct layout *l, uint64_t n) {
    s->received += n;
    for (int k = 0; n > 0; k++) {
        uint64_t len = payload(yk_stream_at(s, s->rx));
        uint64_t left = len + YK_XANS_BYTES - s->rx_got;
        if (n < left) {
            uint64_t got = s->rx_got + n;
            if (got > len) /* the rest of an answer is received behind this */
                memcpy(s->part, l->answers[k], got - len);
            s->rx_got = got;
            return;
        }
        n -= left;
        if (answered(s, l->answers[k]) < 0)
            return;
    }
}

/* Nothing is expected: the peer closed, or is out of step. */
static void unexpected(struct yk_stream *s) {
    char c;
    ssize_t n = recv(s->fd, &c, 1, MSG_DONTWAIT | MSG_PEEK);
    if (n == 0)
        yk_stream_fail(s, -YK_EGONE, YK_SCOPE_LANE, "closed by the peer");
    else if (n > 0)
        yk_stream_fail(s, -YK_EPROTO, YK_SCOPE_LANE, "the peer answers what was not asked");
    else if (errno != EAGAIN && errno != EINTR)
        yk_stream_fail_errno(s, "receiving", errno);
}

/* The memory of the request at rx cannot be written. */
static void fault(struct yk_stream *s) {
    struct yk_stream_req *q = yk_stream_at(s, s->rx);
    if (q->slice == NULL || payload(q) == 0) {
        yk_stream_fail_errno(s, "receiving", EFAULT);
        return;
    }
    q->slice->status = -YK_EFAULT;
    q->slice->scope = YK_SCOPE_REQUEST;
    yk_stream_end(s, q->slice);
    q->slice = NULL;
}

void yk_stream_rx(struct yk_stream *s) {
    struct layout l;
    uint64_t moved = 0;
    uint32_t limit = ANSWERS_MAX;
    while (s->state == YK_STREAM_UP && moved < yk_stream_turn(s)) {
        if (lay_out(s, &l, limit, yk_stream_turn(s) - moved) < 0) {
            yk_stream_fail(s, -YK_ENOMEM, YK_SCOPE_LANE, "no memory for what was cancelled");
            break;
        }
        if (l.n == 0) {
            if (moved == 0)
                unexpected(s);
            break;
        }
        struct msghdr m = {.msg_iov = l.iov, .msg_iovlen = (size_t)l.n};
        ssize_t n = recvmsg(s->fd, &m, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EFAULT) {
            if (limit == 1)
                fault(s);
            limit = 1;
            continue;
        }
        if (n < 0 && errno != EAGAIN)
            yk_stream_fail_errno(s, "receiving", errno);
        if (n == 0)
            yk_stream_fail(s, -YK_EGONE, YK_SCOPE_LANE, "closed by the peer");
        if (n <= 0)
            break;
        consume(s, &l, (uint64_t)n);
        limit = ANSWERS_MAX;
        moved += (uint64_t)n;
        if ((uint64_t)n < l.bytes)
            break; /* that was all */
    }
    yk_stream_retire(s);
}
