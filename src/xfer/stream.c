/* SPDX-License-Identifier: Apache-2.0
 *
 * See stream.h: life, greeting, posting and cancelling. A failure is noted where it happens and told
 * from the loop, so that no event comes out of post or flush.
 *
 * Thread: the shard's.
 */
#include "stream_priv.h"

#include "base/clock.h"
#include "xfer/sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

/* ---- telling ------------------------------------------------------------------------------------ */

void yk_stream_end(struct yk_stream *s, struct yk_slice *slice) {
    slice->next = NULL;
    *s->done_last = slice;
    s->done_last = &slice->next;
}

static void tell(struct yk_stream *s) {
    while (s->done_first != NULL) {
        struct yk_slice *slice = s->done_first;
        s->done_first = slice->next;
        if (s->done_first == NULL)
            s->done_last = &s->done_first;
        slice->next = NULL;
        s->env->events->slice_done(s->lane, slice);
    }
}

static void enter(struct yk_stream *s) {
    s->in_call++;
}

/* Tells what has ended, from the loop a failure, too. An event may free the stream: it is not to be
 * touched after this. */
static void leave(struct yk_stream *s, int in_loop) {
    if (!s->freed)
        tell(s);
    if (in_loop && !s->freed && s->state == YK_STREAM_FAILED && !s->told) {
        s->told = 1;
        struct yk_err why = s->fail; /* the stream may be freed while the text is read */
        s->env->events->lane_down(s->lane, why.code, s->fail_scope, why.text);
    }
    if (--s->in_call == 0 && s->freed)
        free(s);
}

void yk_stream_fail(struct yk_stream *s, int code, enum yk_scope scope, const char *text) {
    if (s->state == YK_STREAM_FAILED)
        return;
    yk_err_set(&s->fail, code, "%s", text);
    s->fail_scope = (uint8_t)scope;
    s->state = YK_STREAM_FAILED;
    if (s->watched)
        yk_loop_unwatch(s->env->loop, &s->watch); /* a broken socket is always ready */
    s->watched = 0;
    (void)yk_loop_timer(s->env->loop, &s->timer, 1);
}

void yk_stream_fail_errno(struct yk_stream *s, const char *what, int e) {
    char text[160];
    snprintf(text, sizeof(text), "%s: %s", what, strerror(e));
    int code = e == ETIMEDOUT ? -YK_ETIMEDOUT : e == ENOMEM || e == ENOBUFS ? -YK_ENOMEM : -YK_EGONE;
    yk_stream_fail(s, code, YK_SCOPE_LANE, text);
}

void yk_stream_retire(struct yk_stream *s) {
    while (s->head != s->rx) {
        struct yk_stream_req *q = yk_stream_at(s, s->head);
        if (q->zc && (int32_t)(s->zc_done - q->zc_until) < 0)
            break;
        if (q->slice != NULL)
            yk_stream_end(s, q->slice);
        s->bytes_out -= q->len;
        s->head++;
    }
}

/* ---- greeting ----------------------------------------------------------------------------------- */

static void connected(struct yk_stream *s) {
    unsigned char out[YK_XREQ_BYTES + YK_HELLO_BYTES];
    struct yk_hello hello = {.version = YK_PROTO_VERSION,
                             .flags = s->bulk ? 0 : YK_XHELLO_URGENT,
                             .lane = s->lane->id,
                             .incarnation = s->env->incarnation,
                             .wanted = s->greeting->wanted};
    struct yk_xreq req = {.op = YK_PROTO_HELLO, .len = YK_HELLO_BYTES};
    int e = 0;
    socklen_t len = sizeof(e);
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
        e = errno;
    if (e != 0) {
        yk_stream_fail_errno(s, "connecting", e);
        return;
    }
    yk_xreq_encode(out, &req);
    yk_hello_encode(out + YK_XREQ_BYTES, &hello);
    /* The first bytes of a connection: there is space for them. */
    ssize_t n = send(s->fd, out, sizeof(out), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return; /* not connected yet */
    if (n != (ssize_t)sizeof(out)) {
        yk_stream_fail_errno(s, "sending a hello", n < 0 ? errno : ENOBUFS);
        return;
    }
    s->state = YK_STREAM_GREETING;
    yk_loop_rewatch(s->env->loop, &s->watch, EPOLLIN);
}

static void welcomed(struct yk_stream *s, const struct yk_xans *ans) {
    struct yk_welcome w;
    struct yk_err err;
    if (yk_welcome_decode(s->greeting->in + YK_XANS_BYTES, ans->len, &w, &err) < 0) {
        yk_stream_fail(s, -YK_EPROTO, YK_SCOPE_LANE, err.text);
        return;
    }
    int status = w.version != YK_PROTO_VERSION ? -YK_EVERSION : ans->status;
    if (status == 0 && w.peer.incarnation != s->greeting->wanted)
        status = -YK_EGONE;
    if (status == -YK_EGONE) {
        /* The peer's successor, or (addresses such as a container bridge's stand on every host) an engine
         * that has nothing to do with it: the core hears what its other rails say. */
        yk_stream_fail(s, -YK_EGONE, YK_SCOPE_RAIL, "another incarnation of the engine answers there");
        return;
    }
    if (status != 0 || w.credit_requests == 0) {
        yk_stream_fail(s, status < 0 ? yk_peer_said(status) : -YK_EPROTO,
                       status == -YK_EVERSION ? YK_SCOPE_RAIL : YK_SCOPE_LANE,
                       w.text[0] != 0 ? w.text : "the peer refused the lane");
        return;
    }
    s->credit_requests = w.credit_requests < YK_STREAM_RING ? w.credit_requests : YK_STREAM_RING;
    s->credit_bytes = w.credit_bytes;
    free(s->greeting);
    s->greeting = NULL;
    (void)yk_loop_timer(s->env->loop, &s->timer, 0);
    s->state = YK_STREAM_UP;
    s->lane->trip_ns = yk_sock_path(s->fd, &s->lane->patient);
    s->env->events->lane_up(s->lane);
}

/* Takes no byte more than the welcome has. */
static void greet(struct yk_stream *s) {
    struct yk_greeting *g = s->greeting;
    struct yk_xans ans;
    struct yk_err err;
    for (;;) {
        uint32_t want = YK_XANS_BYTES;
        if (g->got >= YK_XANS_BYTES) {
            if (yk_xans_decode(g->in, &ans, &err) < 0 || ans.op != YK_PROTO_HELLO || ans.seq != 0) {
                yk_stream_fail(s, -YK_EPROTO, YK_SCOPE_LANE, "what answers is no transfer engine");
                return;
            }
            want += ans.len;
            if (g->got == want) {
                welcomed(s, &ans);
                return;
            }
        }
        ssize_t n = recv(s->fd, g->in + g->got, want - g->got, MSG_DONTWAIT);
        if (n <= 0) {
            if (n < 0 && errno == EINTR)
                continue;
            if (n == 0)
                yk_stream_fail(s, -YK_EGONE, YK_SCOPE_LANE, "closed by the peer before its welcome");
            else if (errno != EAGAIN)
                yk_stream_fail_errno(s, "waiting for a welcome", errno);
            return;
        }
        g->got += (uint32_t)n;
        s->received += (uint64_t)n;
    }
}

/* ---- events of the loop -------------------------------------------------------------------------- */

static void on_ready(struct yk_watch *w, uint32_t events) {
    struct yk_stream *s = w->user;
    enter(s);
    if (s->state == YK_STREAM_CONNECTING) {
        connected(s);
    } else if (s->state == YK_STREAM_GREETING) {
        greet(s);
    } else if (s->state == YK_STREAM_UP) {
        if (events & EPOLLERR)
            yk_stream_zc_reap(s);
        if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            yk_stream_rx(s);
        if ((events & EPOLLOUT) && s->state == YK_STREAM_UP)
            yk_stream_tx(s);
    }
    leave(s, 1);
}

static void on_timer(struct yk_timer *t) {
    struct yk_stream *s = t->user;
    enter(s);
    if (s->state == YK_STREAM_CONNECTING)
        yk_stream_fail(s, -YK_ETIMEDOUT, YK_SCOPE_LANE, "connecting took too long");
    else if (s->state == YK_STREAM_GREETING)
        yk_stream_fail(s, -YK_ETIMEDOUT, YK_SCOPE_LANE, "connected, but no welcome came in time");
    leave(s, 1);
}

/* ---- life ----------------------------------------------------------------------------------------- */

int yk_stream_new(const struct yk_stream_opts *o, struct yk_stream **ret_stream, struct yk_err *err) {
    struct yk_stream *s = calloc(1, sizeof(*s));
    if (s != NULL)
        s->greeting = calloc(1, sizeof(*s->greeting));
    if (s == NULL || s->greeting == NULL) {
        free(s);
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    }
    s->lane = o->lane;
    s->env = o->env;
    s->fd = o->fd;
    s->bulk = o->bulk != 0;
    s->done_last = &s->done_first;
    s->greeting->wanted = o->peer->incarnation;
    s->watch = (struct yk_watch){.fd = o->fd, .events = EPOLLOUT, .fn = on_ready, .user = s};
    s->timer = (struct yk_timer){.fn = on_timer, .user = s};
    uint32_t ms = o->env->opts->connect_ms != 0 ? o->env->opts->connect_ms : 1000;
    int rc = yk_loop_watch(o->env->loop, &s->watch);
    s->watched = rc == 0;
    if (rc == 0)
        rc = yk_loop_timer(o->env->loop, &s->timer, yk_now_ns() + ms * YK_NS_PER_MS);
    if (rc < 0) {
        if (s->watched)
            yk_loop_unwatch(o->env->loop, &s->watch);
        free(s->greeting);
        free(s);
        return yk_err_set(err, rc, "a lane cannot be watched");
    }
    if (o->zerocopy)
        yk_stream_zc_open(s);
    *ret_stream = s;
    return 0;
}

/* What of [tx, tail) may have changed the target. */
static int touched(struct yk_stream *s, uint32_t i) {
    struct yk_stream_req *q = yk_stream_at(s, i);
    if (q->op != YK_PROTO_WRITE && q->op != YK_PROTO_NOTE && q->op != YK_PROTO_PULL)
        return 0;
    if ((int32_t)(i - s->tx) < 0)
        return 1;
    uint32_t k = i - s->tx;
    if (q->op == YK_PROTO_PULL)
        return k < s->g_count && s->g_end[k] <= s->g_sent;
    return k < s->g_count && s->g_end[k] - q->len < s->g_sent;
}

void yk_stream_free(struct yk_stream *s) {
    if (s == NULL)
        return;
    if (s->watched)
        yk_loop_unwatch(s->env->loop, &s->watch);
    (void)yk_loop_timer(s->env->loop, &s->timer, 0);
    s->watched = 0;
    if (s->zc_next != s->zc_done)
        yk_stream_zc_abort(s);
    close(s->fd);
    s->fd = -1;
    for (; s->head != s->tail; s->head++) {
        struct yk_slice *slice = yk_stream_at(s, s->head)->slice;
        if (slice == NULL)
            continue;
        if ((int32_t)(s->head - s->rx) >= 0) { /* else: it was answered */
            slice->status = s->state == YK_STREAM_FAILED ? s->fail.code : -YK_EGONE;
            slice->scope = YK_SCOPE_LANE;
            slice->touched = (uint8_t)touched(s, s->head);
        }
        yk_stream_end(s, slice);
    }
    s->rx = s->tx = s->tail;
    s->state = YK_STREAM_FAILED;
    s->told = 1;
    enter(s);
    tell(s);
    free(s->greeting);
    free(s->sink);
    s->greeting = NULL;
    s->sink = NULL;
    s->freed = 1;
    leave(s, 0);
}

/* ---- slices -------------------------------------------------------------------------------------- */

uint32_t yk_stream_room(const struct yk_stream *s) {
    if (s->state != YK_STREAM_UP || s->bytes_out >= s->credit_bytes)
        return 0;
    /* A group's requests keep their places until all of it is sent. */
    uint32_t low = (int32_t)(s->tx - s->head) < 0 ? s->tx : s->head;
    uint32_t used = s->tail - low;
    return used < s->credit_requests ? s->credit_requests - used : 0;
}

static const uint8_t wire_ops[] = {
    [YK_SLICE_READ] = YK_PROTO_READ,   [YK_SLICE_WRITE] = YK_PROTO_WRITE,
    [YK_SLICE_NOTE] = YK_PROTO_NOTE,   [YK_SLICE_FENCE] = YK_PROTO_FENCE,
    [YK_SLICE_PING] = YK_PROTO_PING,   [YK_SLICE_OFFER] = YK_PROTO_OFFER,
    [YK_SLICE_TAKE] = YK_PROTO_TAKE,   [YK_SLICE_LEND] = YK_PROTO_LEND,
    [YK_SLICE_PULL] = YK_PROTO_PULL,   [YK_SLICE_GIVEBACK] = YK_PROTO_GIVEBACK,
};

void yk_stream_post(struct yk_stream *s, struct yk_slice *slice) {
    uint8_t op = wire_ops[slice->op];
    uint64_t len = yk_xreq_has_payload(op) ? slice->len : yk_xreq_returns(op, slice->len);
    *yk_stream_at(s, s->tail) = (struct yk_stream_req){.slice = slice, .len = len, .op = op};
    slice->priv[0] = s->tail++;
    slice->status = 0;
    slice->scope = YK_SCOPE_NONE;
    slice->touched = 0;
    s->bytes_out += len;
}

void yk_stream_flush(struct yk_stream *s) {
    if (s->state == YK_STREAM_UP)
        yk_stream_tx(s); /* what fails is told from the loop */
}

/* Takes a request out that was not begun; those behind it move up. */
static void take_out(struct yk_stream *s, uint32_t i) {
    s->bytes_out -= yk_stream_at(s, i)->len;
    for (s->tail--; i != s->tail; i++) {
        struct yk_stream_req *q = yk_stream_at(s, i);
        *q = *yk_stream_at(s, i + 1);
        q->slice->priv[0] = i;
    }
}

void yk_stream_cancel(struct yk_stream *s, struct yk_slice *slice) {
    uint32_t i = (uint32_t)slice->priv[0];
    struct yk_stream_req *q = yk_stream_at(s, i);
    if (i - s->head >= s->tail - s->head || q->slice != slice)
        return; /* it has ended, and is about to be told */
    if ((int32_t)(i - s->tx) >= 0 && s->g_sent == 0)
        s->g_count = 0; /* made again without it */
    int begun = (int32_t)(i - s->tx) < (int32_t)s->g_count;
    int answered = (int32_t)(i - s->rx) < 0;
    if (begun && (answered || (q->op != YK_PROTO_READ && q->op != YK_PROTO_PING)))
        return; /* it changes the target: it ends with its answer (R16) */
    enter(s);
    slice->status = -YK_ECANCELED;
    slice->scope = YK_SCOPE_REQUEST;
    if (begun)
        q->slice = NULL;
    else
        take_out(s, i);
    yk_stream_end(s, slice);
    leave(s, 0);
}

uint64_t yk_stream_moved(struct yk_stream *s) {
    int unacked = 0;
    if (s->fd >= 0 && ioctl(s->fd, SIOCOUTQ, &unacked) < 0)
        unacked = 0;
    uint64_t left = unacked > 0 ? (uint64_t)unacked : 0;
    return s->received + (s->sent > left ? s->sent - left : 0);
}

uint64_t yk_stream_lost(struct yk_stream *s) {
    return s->fd >= 0 ? yk_sock_lost(s->fd) : 0;
}

void yk_stream_look(struct yk_stream *s) {
    if (s->state != YK_STREAM_UP && s->state != YK_STREAM_FAILED)
        return;
    enter(s);
    if (s->state == YK_STREAM_UP && s->rx != s->tail)
        yk_stream_rx(s);
    if (s->state == YK_STREAM_UP && s->zc_next != s->zc_done)
        yk_stream_zc_reap(s);
    if (s->state == YK_STREAM_UP && yk_stream_tx_pending(s))
        yk_stream_tx(s);
    leave(s, 1);
}
