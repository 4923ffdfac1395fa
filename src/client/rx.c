/* SPDX-License-Identifier: Apache-2.0
 *
 * Receiving: bytes become frames, payload goes to where the caller wants it.
 *
 * One thread receives for all. It waits inside recv (with a receive time-out on the socket), so that
 * a round trip costs two system calls, or, while replies come at once, some more that do not sleep; only a wait that is long, or ends soon, pays for poll. What
 * is read into the buffer while a GET is under way is kept short: the rest of a payload is read
 * straight into the caller's memory, with calls that do not wait, so that a thread that reached its
 * deadline gets its buffer back at once.
 *
 * Nothing here trusts the node: lengths are bounded by yk_frame_decode and by the largest block,
 * replies to requests that are not known any more are skipped.
 *
 * Threads: any, under the lock; one at a time receives (rx.busy).
 */
#include "client/client_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Read ahead while a GET is under way: what of its payload is copied once more. */
#define READ_SHORT 4096u
/* Bytes of a GET reply before its payload: status, info, where it is, count. */
#define GET_HEAD (4u + YK_WIRE_INFO_BYTES + YK_GET_TAIL_BYTES)
/* The socket's receive time-out (socket_prepare) is 20 ms: a deadline nearer than that needs poll. */
#define RECV_WAIT_NS (25 * YK_NS_PER_MS)
#define TICK_NS      (100 * YK_NS_PER_MS)
#define RECV_IOV     64

void yk_rx_reset(yk_client *c) {
    c->rx.at = c->rx.len = 0;
    c->rx.rec = NULL;
    c->rx.payload_left = 0;
}

/* ---- frames --------------------------------------------------------------------------------------------- */

static void payload_done(yk_client *c) {
    struct yk_rec *rec = c->rx.rec;
    c->rx.rec = NULL;
    if (rec != NULL)
        yk_reply_get_end(c, rec);
}

/* Payload that came along in the buffer. */
static void payload_buffered(yk_client *c) {
    struct yk_rx *rx = &c->rx;
    size_t n = rx->len - rx->at;
    n = n < rx->payload_left ? n : (size_t)rx->payload_left;
    size_t done = 0;
    while (rx->rec != NULL && done < n) {
        struct iovec iov;
        if (yk_cursor_peek(&rx->payload, n - done, &iov, 1) == 0)
            break; /* cannot be: the reply was checked against the room */
        memcpy(iov.iov_base, rx->buf + rx->at + done, iov.iov_len);
        yk_cursor_advance(&rx->payload, iov.iov_len);
        done += iov.iov_len;
    }
    rx->at += n;
    rx->payload_left -= n;
    if (rx->payload_left == 0)
        payload_done(c);
}

/* The head of a GET reply: 1 handled, 0 more bytes are needed, < 0 malformed. */
static int get_head(yk_client *c, const struct yk_frame *f, size_t have) {
    struct yk_rx *rx = &c->rx;
    size_t head = f->body_bytes < GET_HEAD ? f->body_bytes : GET_HEAD;
    if (have < YK_FRAME_HDR + head)
        return 0;
    struct yk_rec *rec = NULL;
    int rc = yk_reply_get_begin(c, f, rx->buf + rx->at + YK_FRAME_HDR, &rec);
    if (rc < 0)
        return rc;
    rx->at += YK_FRAME_HDR + head;
    rx->rec = rec;
    rx->payload_left = f->body_bytes - head;
    if (rx->payload_left == 0)
        payload_done(c);
    return 1;
}

/* Makes room for `need` bytes from rx.at on. */
static int make_room(struct yk_rx *rx, size_t need) {
    if (rx->at > 0) {
        memmove(rx->buf, rx->buf + rx->at, rx->len - rx->at);
        rx->len -= rx->at;
        rx->at = 0;
    }
    if (need <= rx->cap)
        return 0;
    unsigned char *buf = realloc(rx->buf, need); /* bounded by YK_FRAME_BODY_MAX */
    if (buf == NULL)
        return -YK_ENOMEM;
    rx->buf = buf;
    rx->cap = need;
    return 0;
}

/* One frame from the buffer: 1 handled, 0 more bytes are needed, < 0 malformed. */
static int take_frame(yk_client *c) {
    struct yk_rx *rx = &c->rx;
    size_t have = rx->len - rx->at;
    struct yk_frame f;
    if (have < YK_FRAME_HDR)
        return 0;
    int rc = yk_frame_decode(rx->buf + rx->at, c->welcome.max_block_bytes, &f, NULL);
    if (rc < 0 || !(f.flags & YK_FRAME_REPLY))
        return -YK_EPROTO;
    if (f.op == YK_MSG_GET)
        return get_head(c, &f, have);
    if (have < YK_FRAME_HDR + f.body_bytes)
        return make_room(rx, YK_FRAME_HDR + f.body_bytes);
    rc = yk_reply(c, &f, rx->buf + rx->at + YK_FRAME_HDR);
    rx->at += YK_FRAME_HDR + f.body_bytes;
    return rc < 0 ? rc : 1;
}

static void take_frames(yk_client *c) {
    int rc = 1;
    uint32_t number = c->conn_number;
    while (rc > 0 && c->state == YK_CONN_UP && c->conn_number == number) {
        if (c->rx.payload_left > 0) {
            if (c->rx.at == c->rx.len)
                break;
            payload_buffered(c);
        } else {
            rc = take_frame(c);
        }
    }
    if (c->rx.at == c->rx.len)
        c->rx.at = c->rx.len = 0;
    if (rc < 0)
        yk_conn_lost(c);
}

/* ---- reading -------------------------------------------------------------------------------------------- */

/* Waits for input without the lock. Returns with the lock, and whether there may be some. */
static int wait_readable(yk_client *c, uint64_t deadline_ns, int kickable) {
    uint64_t now = yk_now_ns(), until = now + TICK_NS;
    until = until < deadline_ns ? until : deadline_ns;
    if (until <= now)
        return 0;
    struct pollfd p[2] = {{c->fd, POLLIN, 0}, {kickable ? c->event_fd : -1, POLLIN, 0}};
    uint64_t ms = (until - now + YK_NS_PER_MS - 1) / YK_NS_PER_MS;
    c->rx.kickable = kickable;
    pthread_mutex_unlock(&c->lock);
    int n = poll(p, kickable ? 2 : 1, (int)ms);
    pthread_mutex_lock(&c->lock);
    c->rx.kickable = 0;
    return n > 0 && p[0].revents != 0;
}

/* recv that looks for a while before it sleeps (base/spin.h). No lock; one thread at a time. */
static ssize_t recv_soon(struct yk_spin *spin, int fd, void *to, size_t want) {
    if (!yk_spin_try(spin))
        return recv(fd, to, want, 0);
    uint64_t until = yk_now_ns() + YK_SPIN_NS;
    for (;;) {
        ssize_t n = recv(fd, to, want, MSG_DONTWAIT);
        if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
            yk_spin_end(spin, 1);
            return n;
        }
        if (yk_now_ns() >= until)
            break;
    }
    yk_spin_end(spin, 0);
    return recv(fd, to, want, 0);
}

/* recv without the lock into the buffer. Returns recv's result; *ret_errno. */
static ssize_t read_buffer(yk_client *c, int flags, int *ret_errno) {
    struct yk_rx *rx = &c->rx;
    size_t want = rx->cap - rx->len;
    /* While payload is expected, no more of it than the head of its frame brings along. */
    if (c->gets_sent > 0 && want > READ_SHORT && rx->len - rx->at < READ_SHORT)
        want = READ_SHORT;
    unsigned char *to = rx->buf + rx->len;
    int fd = c->fd;
    pthread_mutex_unlock(&c->lock);
    ssize_t n = flags == 0 ? recv_soon(&rx->spin, fd, to, want) : recv(fd, to, want, flags);
    *ret_errno = errno;
    pthread_mutex_lock(&c->lock);
    return n;
}

/* recv without the lock into the caller's memory, or into the buffer what nobody wants. */
static ssize_t read_payload(yk_client *c, int *ret_errno) {
    struct yk_rx *rx = &c->rx;
    struct iovec iov[RECV_IOV];
    struct msghdr msg = {.msg_iov = iov};
    struct yk_rec *rec = rx->rec;
    int n = 1, fd = c->fd;
    if (rec != NULL)
        n = yk_cursor_peek(&rx->payload, rx->payload_left, iov, RECV_IOV);
    else
        iov[0] = (struct iovec){rx->buf,
                                rx->cap < rx->payload_left ? rx->cap : (size_t)rx->payload_left};
    msg.msg_iovlen = (size_t)n;
    if (rec != NULL)
        rec->io = 1;
    pthread_mutex_unlock(&c->lock);
    ssize_t k = recvmsg(fd, &msg, MSG_DONTWAIT);
    *ret_errno = errno;
    pthread_mutex_lock(&c->lock);
    return k;
}

/* Takes note of k bytes of payload. */
static void payload_read(yk_client *c, struct yk_rec *rec, ssize_t k) {
    struct yk_rx *rx = &c->rx;
    if (k > 0) {
        if (rec != NULL)
            yk_cursor_advance(&rx->payload, (uint64_t)k);
        rx->payload_left -= (uint64_t)k;
        if (rx->payload_left == 0)
            payload_done(c);
    }
}

/* One read. Returns the bytes read (0: the end), or -1 with *ret_errno. */
static ssize_t read_once(yk_client *c, int flags, int *ret_errno) {
    struct yk_rx *rx = &c->rx;
    uint32_t number = c->conn_number;
    ssize_t k;
    struct yk_rec *rec = NULL;
    int payload = rx->payload_left > 0; /* and the buffer is empty */
    if (payload) {
        rec = rx->rec;
        k = read_payload(c, ret_errno);
    } else {
        k = read_buffer(c, flags, ret_errno);
    }
    int same = c->state == YK_CONN_UP && c->conn_number == number;
    if (same && payload)
        payload_read(c, rec, k);
    else if (same && k > 0)
        rx->len += (size_t)k;
    if (rec != NULL)
        yk_rec_io_done(c, rec);
    if (!same) {
        *ret_errno = EAGAIN; /* lost meanwhile: nothing to report */
        return -1;
    }
    return k;
}

void yk_rx_pump(yk_client *c, uint64_t deadline_ns, int kickable) {
    int e = 0, flags = MSG_DONTWAIT;
    c->rx.busy = 1;
    /* Inside recv nobody can wake us: not in yk_poll, not beside payload, not near a deadline. */
    if (deadline_ns != 0 && !kickable && c->rx.payload_left == 0 &&
        deadline_ns > yk_now_ns() + RECV_WAIT_NS)
        flags = 0;
    ssize_t k = read_once(c, flags, &e);
    if (k < 0 && (e == EAGAIN || e == EWOULDBLOCK) && deadline_ns != 0 && c->state == YK_CONN_UP &&
        wait_readable(c, deadline_ns, kickable) && c->state == YK_CONN_UP)
        k = read_once(c, MSG_DONTWAIT, &e);
    if (k > 0)
        take_frames(c);
    else if (k == 0 || (e != EAGAIN && e != EWOULDBLOCK && e != EINTR))
        yk_conn_lost(c);
    c->rx.busy = 0;
}
