/* SPDX-License-Identifier: Apache-2.0
 *
 * Sends without a copy (MSG_ZEROCOPY): the kernel sends from the caller's pages and says on the error
 * queue when it has let go of them. Until then the slice is not done (R16), though its answer is here.
 *
 * Each send has a number; notifications are ranges of them, mostly in order: a counter of what is over
 * without a gap, and 64 bits for what came early. Where the kernel copies after all (loopback, virtual
 * devices) it says so, and the lane stops asking: then a copy at once is cheaper.
 *
 * Thread: the shard's.
 */
#include "stream_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/errqueue.h>

#define ABORT_MS 100 /* until a device must have dropped what it had queued */

void yk_stream_zc_open(struct yk_stream *s) {
    int one = 1;
    s->zc_on = setsockopt(s->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) == 0;
}

/* Small requests of a group are sent along with large ones; mostly a group is of one kind. */
int yk_stream_zc_now(const struct yk_stream *s, uint64_t bytes) {
    return s->zc_on && s->zc_next - s->zc_done < YK_STREAM_ZC_OUT && bytes >= YK_STREAM_ZC_MIN &&
           bytes / s->g_count >= YK_STREAM_ZC_MIN;
}

/* [from, to) of the group went without a copy. */
void yk_stream_zc_sent(struct yk_stream *s, uint64_t from, uint64_t to) {
    s->zc_next++;
    for (uint32_t k = 0; k < s->g_count; k++) {
        struct yk_stream_req *q = yk_stream_at(s, s->tx + k);
        if (!yk_xreq_has_payload(q->op) || s->g_end[k] <= from || s->g_end[k] - q->len >= to)
            continue;
        q->zc = 1;
        q->zc_until = s->zc_next;
    }
}

static void notified(struct yk_stream *s, uint32_t first, uint32_t last) {
    for (uint32_t i = first; i - s->zc_done < YK_STREAM_ZC_OUT && (int32_t)(last - i) >= 0; i++)
        s->zc_early |= 1ull << (i - s->zc_done);
    while (s->zc_early & 1) {
        s->zc_early >>= 1;
        s->zc_done++;
    }
}

/* One message of the error queue; 0: there is none. */
static int reap_one(struct yk_stream *s) {
    union {
        char bytes[CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6))];
        struct cmsghdr align;
    } control;
    struct msghdr m = {.msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    if (recvmsg(s->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
        struct sock_extended_err e;
        if (c->cmsg_len < CMSG_LEN(sizeof(e)))
            continue;
        memcpy(&e, CMSG_DATA(c), sizeof(e));
        if (e.ee_errno != 0 || e.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
            continue;
        notified(s, e.ee_info, e.ee_data);
        if (e.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
            s->zc_on = 0;
    }
    return 1;
}

void yk_stream_zc_reap(struct yk_stream *s) {
    if (s->zc_next == s->zc_done)
        return;
    while (reap_one(s))
        continue;
    yk_stream_retire(s);
}

/* Disconnecting drops what is not acknowledged; only what a device has in its queue takes a moment. */
void yk_stream_zc_abort(struct yk_stream *s) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    uint64_t until = yk_now_ns() + ABORT_MS * YK_NS_PER_MS;
    (void)connect(s->fd, &none, sizeof(none));
    for (;;) {
        while (reap_one(s))
            continue;
        if (s->zc_next == s->zc_done || yk_now_ns() >= until)
            return;
        struct pollfd p = {.fd = s->fd};
        (void)poll(&p, 1, 1);
    }
}
