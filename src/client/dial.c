/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets and the HELLO (src/client/dial.h).
 */
#include "client/dial.h"

#include "base/ready.h"
#include "wire/msg.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- connect -------------------------------------------------------------------------------------- */

static int connect_status(int e) {
    switch (e) {
    case ECONNREFUSED:
    case ENOENT:
    case ENOTDIR:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return -YK_EGONE;
    case EAGAIN:
        return -YK_EAGAIN;
    case EACCES:
    case EPERM:
        return -YK_EPERM;
    case ETIMEDOUT:
        return -YK_ETIMEDOUT;
    default:
        return -yk_status_from_errno(e);
    }
}

/* Begins: a descriptor, with *ret_errno 0 when it is connected already, else EINPROGRESS; or a failure. */
static int connect_begin(const struct sockaddr *sa, socklen_t len, int *ret_errno) {
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *ret_errno = fd < 0 || connect(fd, sa, len) < 0 ? errno : 0;
    if (fd >= 0 && (*ret_errno == 0 || *ret_errno == EINPROGRESS))
        return fd;
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -yk_status_from_errno(*ret_errno) : connect_status(*ret_errno);
}

/* One address. Returns a descriptor or a failure. */
static int try_connect(const struct sockaddr *sa, socklen_t len, uint64_t deadline_ns,
                       int *ret_errno) {
    int rc = 0, e, fd = connect_begin(sa, len, &e);
    if (fd < 0) {
        *ret_errno = e;
        return fd;
    }
    if (e == EINPROGRESS) {
        socklen_t n = sizeof(e);
        rc = yk_poll_until(fd, POLLOUT, deadline_ns);
        if (rc < 0)
            e = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0)
            e = errno;
    }
    if (e == 0)
        return fd;
    close(fd);
    *ret_errno = e;
    return connect_status(e);
}

static int unix_addr(const struct yk_addr *a, struct sockaddr_un *ret) {
    memset(ret, 0, sizeof(*ret));
    ret->sun_family = AF_UNIX;
    if (strlen(a->host) >= sizeof(ret->sun_path))
        return -YK_EINVAL;
    memcpy(ret->sun_path, a->host, strlen(a->host));
    return 0;
}

static int connect_unix(const struct yk_addr *a, uint64_t deadline_ns, int *ret_fd,
                        struct yk_err *err) {
    struct sockaddr_un sa;
    int e = 0;
    if (unix_addr(a, &sa) < 0)
        return yk_err_set(err, -YK_EINVAL, "unix:%s: the path is longer than %zu bytes", a->host,
                          sizeof(sa.sun_path) - 1);
    int fd = try_connect((const struct sockaddr *)&sa, sizeof(sa), deadline_ns, &e);
    if (fd < 0)
        return yk_err_set(err, fd, "no node at unix:%s: %s", a->host, strerror(e));
    *ret_fd = fd;
    return 0;
}

static int resolve(const struct yk_addr *a, int flags, struct addrinfo **ret) {
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    char port[8];
    snprintf(port, sizeof(port), "%u", a->port);
    return getaddrinfo(a->host, port, &hints, ret);
}

static int connect_tcp(const struct yk_addr *a, uint64_t deadline_ns, int *ret_fd,
                       struct yk_err *err) {
    struct addrinfo *list;
    int rc = resolve(a, 0, &list);
    if (rc != 0)
        return yk_err_set(err, rc == EAI_AGAIN ? -YK_EGONE : -YK_EINVAL, "host %s: %s", a->host,
                          gai_strerror(rc));
    int e = 0, one = 1, fd = -YK_EGONE;
    for (struct addrinfo *i = list; i != NULL && fd < 0; i = i->ai_next)
        fd = try_connect(i->ai_addr, i->ai_addrlen, deadline_ns, &e);
    freeaddrinfo(list);
    if (fd < 0)
        return yk_err_set(err, fd, "no node at tcp:%s:%u: %s", a->host, a->port, strerror(e));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    *ret_fd = fd;
    return 0;
}

int yk_dial(const struct yk_addr *addr, uint64_t deadline_ns, int *ret_fd, struct yk_err *err) {
    return addr->kind == YK_ADDR_UNIX ? connect_unix(addr, deadline_ns, ret_fd, err)
                                      : connect_tcp(addr, deadline_ns, ret_fd, err);
}

/* ---- hello ------------------------------------------------------------------------------------------ */

#define HELLO_MAX 2048u

static int send_all(int fd, const void *data, size_t len, uint64_t deadline_ns) {
    const unsigned char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            int rc = yk_poll_until(fd, POLLOUT, deadline_ns);
            if (rc < 0)
                return rc;
            continue;
        }
        if (n < 0)
            return -YK_EGONE;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Keeps the descriptors of a mapping, with or without the filter's; any other number is closed. */
static void take_fds(struct msghdr *msg, int fds[YK_DIAL_FDS]) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (i < n && (n == 3 || n == YK_DIAL_FDS) && fds[i] < 0)
                fds[i] = fd;
            else
                close(fd);
        }
    }
}

static int recv_all(int fd, void *buf, size_t len, uint64_t deadline_ns, int fds[YK_DIAL_FDS]) {
    unsigned char *p = buf;
    while (len > 0) {
        union {
            char bytes[CMSG_SPACE(8 * sizeof(int))];
            struct cmsghdr align;
        } control;
        struct iovec iov = {p, len};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            int rc = yk_poll_until(fd, POLLIN, deadline_ns);
            if (rc < 0)
                return rc;
            continue;
        }
        if (n <= 0)
            return -YK_EGONE;
        take_fds(&msg, fds);
        if (msg.msg_flags & MSG_CTRUNC)
            return -YK_ELIMIT; /* this process may open no more descriptors */
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int hello_send(int fd, const struct yk_greeting *g, uint64_t deadline_ns) {
    unsigned char frame[HELLO_MAX];
    struct yk_wr w;
    yk_wr_init(&w, frame + YK_FRAME_HDR, sizeof(frame) - YK_FRAME_HDR);
    yk_wr_u32(&w, YK_WIRE_MAGIC);
    yk_wr_u32(&w, YK_WIRE_VERSION);
    yk_wr_u32(&w, g->flags);
    yk_wr_u32(&w, g->slot);
    yk_wr_u64(&w, g->cookie);
    yk_wr_u64(&w, g->segment_id);
    yk_wr_u64(&w, g->epoch);
    yk_wr_str8(&w, g->name_space, strlen(g->name_space));
    yk_wr_u64(&w, g->heard);
    struct yk_frame f = {(uint32_t)yk_wr_len(&w), YK_MSG_HELLO, 0, 1};
    yk_frame_encode(frame, &f);
    return send_all(fd, frame, YK_FRAME_HDR + yk_wr_len(&w), deadline_ns);
}

/* An answer that is still to come finds nobody, which the node sees when it sends it. One that is there already is read:
 * to close a socket with something in it would make the node hear of that in place of what follows. */
void yk_dial_bye(int fd) {
    unsigned char frame[YK_FRAME_HDR], unread[256];
    struct yk_frame f = {0, YK_MSG_BYE, 0, 2};
    yk_frame_encode(frame, &f);
    (void)shutdown(fd, SHUT_RD);
    while (recv(fd, unread, sizeof(unread), MSG_DONTWAIT) > 0) /* the kernel closes descriptors that came with it */
        continue;
    (void)send_all(fd, frame, sizeof(frame), 0); /* there is room, or it does not matter */
}

int yk_dial_welcome(const void *body, uint32_t len, struct yk_welcome *ret, struct yk_err *err) {
    struct yk_rd r;
    char text[YK_ERR_TEXT_MAX];
    yk_rd_init(&r, body, len);
    int32_t status = (int32_t)yk_rd_u32(&r);
    yk_rd_text(&r, text, sizeof(text));
    if (status != 0 && yk_rd_left(&r) == 0 && !r.bad)
        return yk_err_set(err, status < 0 ? status : -YK_EPROTO, "%s",
                          text[0] != 0 ? text : yk_status_text(status));
    ret->flags = yk_rd_u32(&r);
    ret->slot = yk_rd_u32(&r);
    ret->cookie = yk_rd_u64(&r);
    ret->segment_id = yk_rd_u64(&r);
    ret->ns = yk_rd_u32(&r);
    ret->epoch = yk_rd_u64(&r);
    ret->node_pid = yk_rd_u32(&r);
    ret->meta_bytes = yk_rd_u64(&r);
    ret->data_bytes = yk_rd_u64(&r);
    ret->clients_bytes = yk_rd_u64(&r);
    ret->max_block_bytes = yk_rd_u64(&r);
    ret->page_bytes = yk_rd_u64(&r);
    ret->generation_floor = yk_rd_u64(&r);
    ret->filter_bytes = (ret->flags & YK_HELLO_FILTER) ? yk_rd_u64(&r) : 0;
    ret->xfer_address[0] = ret->xfer_name[0] = 0;
    if (ret->flags & YK_HELLO_XFER) {
        yk_rd_text(&r, ret->xfer_address, sizeof(ret->xfer_address));
        yk_rd_text(&r, ret->xfer_name, sizeof(ret->xfer_name));
    }
    if (status != 0 || !yk_rd_ok(&r) ||
        ((ret->flags & YK_HELLO_FILTER) && !(ret->flags & YK_HELLO_MAP)))
        return yk_err_set(err, -YK_EPROTO, "the answer to hello is malformed (%u bytes)", len);
    return 0;
}

static void close_fds(int fds[YK_DIAL_FDS]) {
    for (unsigned i = 0; i < YK_DIAL_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

/* *ret_refused: it was answered by a status. */
static int hello_receive(int fd, uint64_t deadline_ns, struct yk_welcome *ret, int fds[YK_DIAL_FDS],
                         int *ret_refused, struct yk_err *err) {
    unsigned char buf[HELLO_MAX];
    struct yk_frame f;
    int rc = recv_all(fd, buf, YK_FRAME_HDR, deadline_ns, fds);
    if (rc == 0) {
        rc = yk_frame_decode(buf, 0, &f, err);
        if (rc < 0)
            return rc;
        if (f.flags != YK_FRAME_REPLY || f.body_bytes > sizeof(buf) ||
            (f.op != YK_MSG_HELLO && f.op != YK_MSG_ERROR))
            return yk_err_set(err, -YK_EPROTO, "hello was answered by a %s frame of %u bytes",
                              yk_wire_op_name(f.op), f.body_bytes);
        rc = recv_all(fd, buf, f.body_bytes, deadline_ns, fds);
    }
    if (rc < 0)
        return yk_err_set(err, rc, "%s",
                          rc == -YK_EGONE    ? "the node closed the connection during hello"
                          : rc == -YK_ELIMIT ? "the process has no room for more descriptors"
                                             : "the node did not answer hello in time");
    rc = yk_dial_welcome(buf, f.body_bytes, ret, err);
    *ret_refused = rc < 0 && rc != -YK_EPROTO;
    return rc;
}

int yk_dial_hello(int fd, const struct yk_greeting *g, uint64_t deadline_ns,
                  struct yk_welcome *ret_welcome, struct yk_err *err) {
    struct yk_welcome w;
    int fds[YK_DIAL_FDS] = {-1, -1, -1, -1};
    memset(&w, 0, sizeof(w));
    int rc = hello_send(fd, g, deadline_ns);
    if (rc < 0 && rc != -YK_EGONE) /* one that refuses has said why before it closed */
        return yk_err_set(err, rc, "hello could not be sent: %s", yk_status_text(rc));
    int refused = 0;
    rc = hello_receive(fd, deadline_ns, &w, fds, &refused, err);
    int mapped = rc == 0 && (w.flags & YK_HELLO_MAP) != 0;
    if (mapped && (fds[2] < 0 || (fds[3] >= 0) != ((w.flags & YK_HELLO_FILTER) != 0)))
        rc = yk_err_set(err, -YK_EPROTO, "the node granted a mapping without its descriptors");
    if (rc < 0 || !mapped)
        close_fds(fds);
    memcpy(w.fds, fds, sizeof(fds));
    if (rc == 0)
        *ret_welcome = w;
    else if (!refused && g->cookie == 0) /* nothing of the handle's is in a slot that it has not heard of */
        yk_dial_bye(fd);
    return rc;
}

/* ---- a look that does not wait ---------------------------------------------------------------------- */

int yk_dial_begin(const struct yk_addr *a) {
    struct sockaddr_un sa;
    struct addrinfo *list;
    int e;
    if (a->kind == YK_ADDR_UNIX)
        return unix_addr(a, &sa) == 0 ? connect_begin((const struct sockaddr *)&sa, sizeof(sa), &e) : -YK_EINVAL;
    if (resolve(a, AI_NUMERICHOST, &list) != 0)
        return -YK_ENOTSUP;
    int fd = connect_begin(list->ai_addr, list->ai_addrlen, &e);
    freeaddrinfo(list);
    return fd;
}

int yk_dial_ask(int fd, const struct yk_greeting *g, uint64_t now_ns) {
    int e = 0;
    socklen_t n = sizeof(e);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0 || e != 0)
        return -YK_EGONE;
    return hello_send(fd, g, now_ns); /* a fresh socket has room for it */
}

/* What comes is small, and comes at once; who answers anything else does not take clients. */
int yk_dial_answered(int fd) {
    unsigned char buf[HELLO_MAX];
    struct yk_welcome w;
    struct yk_frame f;
    struct yk_err err;
    ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (n < (ssize_t)YK_FRAME_HDR || yk_frame_decode(buf, 0, &f, &err) < 0 || f.op != YK_MSG_HELLO ||
        f.body_bytes > (size_t)n - YK_FRAME_HDR)
        return -YK_EPROTO;
    memset(&w, 0, sizeof(w));
    int rc = yk_dial_welcome(buf + YK_FRAME_HDR, f.body_bytes, &w, &err);
    return rc < 0 ? rc : 1;
}
