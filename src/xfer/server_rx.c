/* SPDX-License-Identifier: Apache-2.0
 *
 * What a lane that was dialled receives: headers into a buffer, payload into its region.
 *
 * One recvmsg takes the payload of all headers that are known and, behind it, as much as the buffer
 * holds of what follows: at most 8 KiB of payload of later requests, copied from there. So large
 * payload is not copied twice, and a small WRITE takes one system call, or two.
 *
 * Memory that cannot be written (it was unmapped while registered) fails its request, and no other: its payload
 * goes into the sink. The kernel says so and takes nothing from the socket; which request it is shows when the
 * first is tried alone. What is copied from the buffer is copied by the kernel, too, since a plain copy would
 * end the process: by a call that pins pages, and where those cannot be pinned (a device's), by a read of this
 * process's own memory, which places it as any other read does.
 *
 * Thread: the server's.
 */
#include "server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define IOV_MAX_RX (YK_GROUP_MAX + 1)

/* Where payload byte w->got of the request goes; how many from there. */
static char *place(struct yk_in_lane *l, struct yk_in_req *q, uint64_t got, uint64_t *ret_len) {
    uint64_t left = q->len - got;
    *ret_len = left;
    if (q->op != YK_PROTO_WRITE)
        return l->work->small + got; /* at most as long as that */
    if (q->region != NULL)
        return q->mem + got;
    *ret_len = left < YK_IN_SINK ? left : YK_IN_SINK;
    return l->server->sink;
}

/* The payload that is waited for, if headers say so. */
static struct yk_in_req *waiting(struct yk_in_work *w) {
    struct yk_in_req *q = w->recv != w->tail && w->run == 0 ? yk_in_at(w, w->recv) : NULL;
    return q != NULL && yk_xreq_has_payload(q->op) ? q : NULL;
}

static int by_read(struct yk_server *s, char *to, const void *from, size_t len) {
    if (s->mem == 0)
        s->mem = 1 + open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    return s->mem > 0 && pread(s->mem - 1, to, len, (off_t)(uintptr_t)from) == (ssize_t)len ? 0 : -YK_EFAULT;
}

/* 0, or -YK_EFAULT. Where a sandbox forbids that call, even within a process, it is a plain copy. */
static int into_region(const struct yk_in_lane *l, char *to, void *from, size_t len) {
    struct iovec here = {from, len}, there = {to, len};
    ssize_t n = process_vm_writev((pid_t)l->server->env.self->pid, &here, 1, &there, 1, 0);
    if (n == (ssize_t)len)
        return 0;
    if (n >= 0 || errno == EFAULT)
        return by_read(l->server, to, from, len);
    memcpy(to, from, len);
    return 0;
}

/* Payload from the buffer. */
static void from_buf(struct yk_in_lane *l, struct yk_in_req *q) {
    struct yk_in_work *w = l->work;
    while (w->got < q->len && w->at < w->end) {
        uint64_t len;
        char *to = place(l, q, w->got, &len);
        if (len > w->end - w->at)
            len = w->end - w->at;
        if (q->region == NULL)
            memcpy(to, w->buf + w->at, len);
        else if (into_region(l, to, w->buf + w->at, len) < 0)
            yk_in_fault(l, q); /* what else comes of it is dropped */
        w->at += (uint32_t)len;
        w->got += len;
    }
}

/* One header from the buffer: 1, 0 when it is not all there, < 0 closed. */
static int header(struct yk_in_lane *l) {
    struct yk_in_work *w = l->work;
    struct yk_xreq req;
    struct yk_err err;
    if (w->end - w->at < YK_XREQ_BYTES)
        return 0;
    int size = yk_xreq_size(w->buf + w->at, &err);
    if (size > 0 && w->end - w->at < (uint32_t)size)
        return 0;
    int rc = size < 0 ? size : yk_xreq_decode(w->buf + w->at, (uint32_t)size, &req, &err);
    w->run++;
    if (rc == 0 && w->run > YK_GROUP_MAX)
        rc = yk_err_set(&err, -YK_EPROTO, "a run of more than %u headers", YK_GROUP_MAX);
    if (rc < 0) {
        yk_in_close(l, err.text);
        return rc;
    }
    w->at += (uint32_t)size;
    if (yk_in_begin(l, &req) < 0)
        return -1;
    if (!(req.flags & YK_XREQ_MORE))
        w->run = 0;
    return 1;
}

/* All that the buffer allows. */
static int parse(struct yk_in_lane *l) {
    struct yk_in_work *w = l->work;
    while (!l->closing) {
        struct yk_in_req *q = waiting(w);
        if (q != NULL)
            from_buf(l, q);
        if (yk_in_advance(l) < 0)
            return -1;
        if (l->closing || (waiting(w) != NULL && w->at == w->end))
            return 0;
        if (waiting(w) != NULL)
            continue;
        if (w->tail - w->head == YK_SERVER_REQUESTS)
            return 0;
        int rc = header(l);
        if (rc <= 0)
            return rc;
    }
    return 0;
}

/* What is left in the buffer moves to its beginning, so that a header is in one piece. */
static void compact(struct yk_in_work *w) {
    if (w->at > 0 && w->at < w->end)
        memmove(w->buf, w->buf + w->at, w->end - w->at);
    w->end -= w->at;
    w->at = 0;
}

/* Payload first, of at most `limit` requests, then the buffer. */
static int lay_out(struct yk_in_lane *l, struct iovec *iov, int limit, uint64_t most, uint64_t *ret_payload,
                   uint64_t *ret_bytes) {
    struct yk_in_work *w = l->work;
    uint64_t bytes = 0, got = w->got;
    int n = 0, whole = 1;
    for (uint32_t i = w->recv; whole && i != w->tail && w->run == 0; i++, got = 0) {
        struct yk_in_req *q = yk_in_at(w, i);
        uint64_t len;
        if (!yk_xreq_has_payload(q->op))
            continue;
        if (n == limit || bytes == most || q->len == 0) {
            whole = 0; /* an empty note: what is behind it is laid out when it is done */
            break;
        }
        char *to = place(l, q, got, &len);
        uint64_t want = len < most - bytes ? len : most - bytes;
        iov[n++] = (struct iovec){to, want};
        bytes += want;
        /* Only one note's or name's payload can be here at a time. */
        whole = want == q->len - got && q->op == YK_PROTO_WRITE;
    }
    *ret_payload = bytes;
    if (whole) {
        iov[n++] = (struct iovec){w->buf + w->end, YK_IN_BUF - w->end};
        bytes += YK_IN_BUF - w->end;
    }
    *ret_bytes = bytes;
    return n;
}

/* n bytes of payload are in their places. */
static int placed(struct yk_in_lane *l, uint64_t n) {
    struct yk_in_work *w = l->work;
    while (n > 0) {
        struct yk_in_req *q = yk_in_at(w, w->recv);
        uint64_t left = q->len - w->got, take = n < left ? n : left;
        w->got += take;
        n -= take;
        if (yk_in_advance(l) < 0)
            return -1;
    }
    return 0;
}

static int received(struct yk_in_lane *l, uint64_t n, uint64_t payload) {
    struct yk_in_work *w = l->work;
    uint64_t direct = n < payload ? n : payload;
    l->moved += n;
    YK_IN_COUNT(l->server, bytes_in, n);
    w->end += (uint32_t)(n - direct); /* before it is looked at */
    return placed(l, direct) < 0 ? -1 : parse(l);
}

int yk_in_rx(struct yk_in_lane *l) {
    struct yk_in_work *w = l->work;
    uint64_t moved = 0;
    int limit = YK_GROUP_MAX;
    if (parse(l) < 0) /* what had to wait */
        return -1;
    for (;;) {
        struct iovec iov[IOV_MAX_RX];
        uint64_t payload, bytes;
        if (l->closing || w->tail - w->head + YK_GROUP_MAX > YK_SERVER_REQUESTS)
            return 0;
        if (moved >= l->server->turn_bytes)
            return 1;
        compact(w);
        int n = lay_out(l, iov, limit, l->server->turn_bytes - moved, &payload, &bytes);
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
        ssize_t got = recvmsg(l->watch.fd, &m, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got < 0 && errno == EFAULT && payload > 0 && (limit > 1 || yk_in_at(w, w->recv)->region != NULL)) {
            if (limit == 1)
                yk_in_fault(l, yk_in_at(w, w->recv));
            limit = 1;
            continue;
        }
        if (got <= 0) {
            const char *why = got == 0 && (w->recv != w->tail || w->end > 0 || w->run > 0)
                                  ? "it was closed in the middle of a request"
                                  : NULL;
            yk_in_close(l, got < 0 ? strerror(errno) : why);
            return -1;
        }
        if (received(l, (uint64_t)got, payload) < 0)
            return -1;
        limit = YK_GROUP_MAX;
        moved += (uint64_t)got;
        if ((uint64_t)got < bytes)
            return 0;
    }
}
