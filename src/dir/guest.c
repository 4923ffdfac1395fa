/* SPDX-License-Identifier: Apache-2.0
 *
 * See guest.h. One socket, non-blocking from the start and waited for with poll, so that a node that is
 * stopped costs the deadline and not more.
 */
#include "dir/guest.h"

#include "base/clock.h"
#include "base/parse.h"
#include "base/ready.h"
#include "base/text.h"
#include "dir/peer_wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct yk_guest {
    int fd;
    uint64_t id; /* of the last request */
    struct yk_peer_hello node;
    unsigned char *body; /* of the last reply */
    uint32_t cap;
    char address[YK_ADDR_HOST_MAX + 9];
};

/* ---- bytes, until a deadline --------------------------------------------------------------------- */

/* All len bytes, either way. -YK_EGONE: the other end hung up. */
static int move(int fd, int out, void *data, size_t len, uint64_t deadline_ns) {
    unsigned char *p = data;
    while (len > 0) {
        ssize_t n = out ? send(fd, p, len, MSG_NOSIGNAL) : recv(fd, p, len, 0);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            return -YK_EGONE;
        int rc = errno == EINTR ? 0 : yk_poll_until(fd, out ? POLLOUT : POLLIN, deadline_ns);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- connect ------------------------------------------------------------------------------------- */

/* A descriptor, or -1 with errno. */
static int connect_one(const struct addrinfo *a, uint64_t deadline_ns) {
    int e = 0, one = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t len = sizeof(e);
    if (fd < 0)
        return -1;
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
        e = errno;
    if (e == EINPROGRESS) {
        e = yk_poll_until(fd, POLLOUT, deadline_ns) < 0 ? ETIMEDOUT : 0;
        if (e == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
            e = errno;
    }
    if (e == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        return fd;
    }
    close(fd);
    errno = e;
    return -1;
}

static int dial(struct yk_guest *g, const struct yk_addr *addr, uint64_t deadline_ns, struct yk_err *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    char port[8];
    snprintf(port, sizeof(port), "%u", addr->port);
    int rc = getaddrinfo(addr->host, port, &hints, &list);
    if (rc != 0)
        return yk_err_set(err, -YK_ENOENT, "host '%s' is not known: %s", addr->host, gai_strerror(rc));
    int e = ENOENT;
    for (const struct addrinfo *a = list; a != NULL && g->fd < 0; a = a->ai_next) {
        g->fd = connect_one(a, deadline_ns);
        e = errno;
    }
    freeaddrinfo(list);
    if (g->fd >= 0)
        return 0;
    int gone = e == ECONNREFUSED || e == ECONNRESET || e == EHOSTUNREACH || e == ENETUNREACH;
    return yk_err_set(err, gone ? -YK_EGONE : -yk_status_from_errno(e), "no node at %s: %s", g->address,
                      strerror(e));
}

/* ---- frames -------------------------------------------------------------------------------------- */

static int lost(struct yk_guest *g, int rc, const char *what, struct yk_err *err) {
    const char *why = rc == -YK_EGONE ? "it hung up" : yk_status_text(rc);
    return yk_err_set(err, rc, "the node at %s %s: %s", g->address, what, why);
}

static int take_body(struct yk_guest *g, const struct yk_frame *f, uint64_t deadline_ns, struct yk_err *err) {
    if (f->body_bytes > g->cap) {
        unsigned char *p = realloc(g->body, f->body_bytes);
        if (p == NULL)
            return yk_err_set(err, -YK_ENOMEM, "no memory for an answer of %u bytes", f->body_bytes);
        g->body = p;
        g->cap = f->body_bytes;
    }
    int rc = move(g->fd, 0, g->body, f->body_bytes, deadline_ns);
    return rc < 0 ? lost(g, rc, "did not end its answer", err) : 0;
}

static int hello(struct yk_guest *g, uint64_t deadline_ns, struct yk_err *err) {
    const struct yk_peer_hello mine = {YK_PEER_VERSION, YK_PEER_VERSION_MIN, 0, {0, 0}, yk_boot_ms()};
    unsigned char frame[YK_PEER_HELLO_BYTES], header[YK_FRAME_HDR];
    struct yk_frame f;
    yk_peer_hello_encode(frame, 0, &mine);
    int rc = move(g->fd, 1, frame, sizeof(frame), deadline_ns);
    if (rc == 0 || rc == -YK_EGONE) /* one that refuses has said why before it hung up */
        rc = move(g->fd, 0, header, sizeof(header), deadline_ns);
    if (rc < 0)
        return lost(g, rc, "did not answer the hello", err);
    rc = yk_peer_answer_decode(header, &f, err);
    if (rc == 0)
        rc = take_body(g, &f, deadline_ns, err);
    if (rc < 0)
        return rc;
    if (f.op == YK_PEER_ERROR)
        return yk_peer_error_decode(g->body, f.body_bytes, err);
    rc = yk_peer_hello_decode(g->body, f.body_bytes, &g->node, err);
    if (rc == 0)
        rc = yk_peer_hello_fit(&mine, &g->node, err);
    return rc < 0 ? rc : 0;
}

int yk_guest_open(const char *address, uint32_t timeout_ms, struct yk_guest **ret_guest, struct yk_err *err) {
    uint64_t deadline_ns = yk_now_ns() + timeout_ms * YK_NS_PER_MS;
    struct yk_addr addr;
    int rc = yk_parse_addr(address, &addr, err);
    if (rc < 0)
        return rc;
    if (addr.kind != YK_ADDR_TCP || addr.port == 0)
        return yk_err_set(err, -YK_EINVAL, "found '%.80s', expected the HOST:PORT of a node", address);
    struct yk_guest *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    g->fd = -1;
    snprintf(g->address, sizeof(g->address), strchr(addr.host, ':') != NULL ? "[%s]:%u" : "%s:%u", addr.host,
             addr.port);
    rc = dial(g, &addr, deadline_ns, err);
    if (rc == 0)
        rc = hello(g, deadline_ns, err);
    if (rc < 0) {
        yk_guest_close(g);
        return rc;
    }
    *ret_guest = g;
    return 0;
}

void yk_guest_close(struct yk_guest *g) {
    if (g == NULL)
        return;
    if (g->fd >= 0)
        close(g->fd);
    free(g->body);
    free(g);
}

uint64_t yk_guest_cluster(const struct yk_guest *g) {
    return g->node.cluster;
}

struct yk_peer_who yk_guest_node(const struct yk_guest *g) {
    return g->node.who;
}

/* Frames until the one that answers: pings and answers that came too late are passed over. */
static int answer(struct yk_guest *g, struct yk_frame *f, uint64_t deadline_ns, struct yk_err *err) {
    unsigned char header[YK_FRAME_HDR];
    for (;;) {
        int rc = move(g->fd, 0, header, sizeof(header), deadline_ns);
        if (rc < 0)
            return lost(g, rc, "did not answer", err);
        rc = yk_peer_frame_decode(header, YK_PEER_BODY_MAX, f, err);
        if (rc == 0)
            rc = take_body(g, f, deadline_ns, err);
        if (rc < 0)
            return rc;
        if (f->op == YK_PEER_ERROR)
            return yk_peer_error_decode(g->body, f->body_bytes, err);
        if ((f->flags & YK_FRAME_REPLY) && f->id == g->id && f->op != YK_PEER_PING)
            return 0;
    }
}

int yk_guest_ask(struct yk_guest *g, unsigned op, const void *body, uint32_t len, uint32_t timeout_ms,
                 const void **ret_body, uint32_t *ret_len, struct yk_err *err) {
    uint64_t deadline_ns = yk_now_ns() + timeout_ms * YK_NS_PER_MS;
    if (op == 0 || op > YK_PEER_OP_MAX)
        return yk_err_set(err, -YK_EINVAL, "there is no op %u", op);
    if (len > YK_PEER_GUEST_BODY_MAX)
        return yk_err_set(err, -YK_ETOOBIG, "a question of %u bytes, at most %u are allowed", len,
                          YK_PEER_GUEST_BODY_MAX);
    struct yk_frame f = {len, (uint8_t)op, 0, ++g->id};
    unsigned char *frame = malloc(YK_FRAME_HDR + (size_t)len); /* one send: no small packet of the header alone */
    if (frame == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    yk_frame_encode(frame, &f);
    if (len > 0)
        memcpy(frame + YK_FRAME_HDR, body, len);
    int rc = move(g->fd, 1, frame, YK_FRAME_HDR + (size_t)len, deadline_ns);
    free(frame);
    if (rc < 0 && rc != -YK_EGONE) /* one that refuses has said why before it hung up */
        return lost(g, rc, "does not take the question", err);
    rc = answer(g, &f, deadline_ns, err);
    if (rc < 0)
        return rc;
    *ret_body = g->body;
    *ret_len = f.body_bytes;
    return 0;
}
