/* SPDX-License-Identifier: Apache-2.0
 *
 * What a lane that was dialled sends: answers, in the order of requests, many with one system call,
 * payload from where it lies.
 *
 * The status of a READ goes behind its bytes, so that what happens to its memory while it is sent can
 * still be told (proto.h): when it cannot be read (it was unmapped while registered), which shows when its answer
 * is sent alone, the rest are zeros.
 *
 * Thread: the server's.
 */
#include "server_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define ANSWERS_MAX 64

static char zeros[64 << 10]; /* in place of what failed; never written */

struct layout {
    struct iovec iov[ANSWERS_MAX * 2];
    unsigned char answers[ANSWERS_MAX][YK_XANS_BYTES];
    int n;
    uint64_t bytes;
};

static uint64_t payload(const struct yk_in_req *q) {
    return q->op == YK_PROTO_READ ? q->len : 0;
}

static uint64_t size(const struct yk_in_req *q) {
    return q->blob != NULL ? q->blob_len : payload(q) + YK_XANS_BYTES;
}

static void add(struct layout *l, void *at, uint64_t len) {
    l->iov[l->n++] = (struct iovec){at, len};
    l->bytes += len;
}

/* One answer from its byte `sent` on. 0: nothing fits behind it. */
static int add_answer(struct layout *o, const struct yk_in_req *q, int k, uint64_t sent, uint64_t most) {
    if (q->blob != NULL) {
        add(o, q->blob + sent, q->blob_len - sent);
        return 1;
    }
    uint64_t len = payload(q);
    if (sent < len) {
        uint64_t want = len - sent < most - o->bytes ? len - sent : most - o->bytes;
        if (q->region == NULL && want > sizeof(zeros))
            want = sizeof(zeros);
        add(o, q->region != NULL ? q->mem + sent : zeros, want);
        if (want < len - sent)
            return 0;
        sent = len;
    }
    struct yk_xans ans = {.op = q->op, .seq = q->seq, .status = q->status, .len = (uint32_t)len};
    yk_xans_encode(o->answers[k], &ans);
    add(o, o->answers[k] + (sent - len), YK_XANS_BYTES - (sent - len));
    return o->bytes < most;
}

/* Of at most `limit` answers. */
static void lay_out(struct yk_in_work *w, struct layout *o, uint32_t limit, uint64_t most) {
    uint64_t sent = w->sent;
    int go = 1;
    o->n = 0;
    o->bytes = 0;
    for (uint32_t i = w->head, k = 0; go && i != w->recv && k < limit && !yk_in_at(w, i)->pending;
         i++, k++, sent = 0)
        go = add_answer(o, yk_in_at(w, i), (int)k, sent, most);
}

static void sent_some(struct yk_in_lane *l, uint64_t n) {
    struct yk_in_work *w = l->work;
    l->moved += n;
    YK_IN_COUNT(l->server, bytes_out, n);
    while (n > 0) {
        struct yk_in_req *q = yk_in_at(w, w->head);
        uint64_t left = size(q) - w->sent;
        if (n < left) {
            w->sent += n;
            return;
        }
        n -= left;
        w->sent = 0;
        yk_in_release(l, q);
        w->head++;
    }
}

int yk_in_tx(struct yk_in_lane *l) {
    struct yk_in_work *w = l->work;
    uint64_t moved = 0;
    uint32_t limit = ANSWERS_MAX;
    while (w->head != w->recv && !l->full && !yk_in_at(w, w->head)->pending) {
        struct layout o;
        if (moved >= l->server->turn_bytes)
            return 1;
        lay_out(w, &o, limit, l->server->turn_bytes - moved);
        struct msghdr m = {.msg_iov = o.iov, .msg_iovlen = (size_t)o.n};
        ssize_t n = sendmsg(l->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            l->full = 1;
            break;
        }
        if (n < 0 && errno == EFAULT && (limit > 1 || yk_in_at(w, w->head)->region != NULL)) {
            if (limit == 1)
                yk_in_fault(l, yk_in_at(w, w->head));
            limit = 1;
            continue;
        }
        if (n < 0) {
            yk_in_close(l, errno == EPIPE || errno == ECONNRESET ? NULL : strerror(errno));
            return -1;
        }
        sent_some(l, (uint64_t)n);
        limit = ANSWERS_MAX;
        moved += (uint64_t)n;
        l->full = (uint64_t)n < o.bytes;
    }
    if (l->closing && w->head == w->recv)
        yk_in_close(l, NULL);
    return 0;
}
