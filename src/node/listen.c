/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the node listens, and how it accepts.
 *
 * A unix socket has its permissions before it has a name; the file of a node that is gone is removed,
 * and one that answers is somebody else's. Without a free descriptor listeners are left alone until
 * upkeep tries again. TCP connections have the options here that clients give their end (client/dial.c).
 *
 * Threads: node_listen: the starting one's; the rest: the owner loop's.
 */
#include "node/node_priv.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024

static struct yk_log_limit accept_limit = YK_LOG_LIMIT_INIT(5000);
static struct yk_log_limit refuse_limit = YK_LOG_LIMIT_INIT(5000);

static void on_accept(uv_poll_t *poll, int status, int events);

/* A listener that can't accept stays readable: left in the loop it would spin. */
void node_accept_pause(struct yk_node *node, int pause) {
    node->accept_paused = pause;
    for (uint32_t i = 0; i < node->listener_count && !node->stopping; i++) {
        if (pause)
            uv_poll_stop(&node->listeners[i]);
        else
            uv_poll_start(&node->listeners[i], UV_READABLE, on_accept);
    }
}

void node_accept_begin(struct yk_node *node) {
    node->accept_held = 0;
    node_accept_pause(node, 0);
}

static int is_unix(int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    return getsockname(fd, (struct sockaddr *)&a, &len) == 0 && a.ss_family == AF_UNIX;
}

/* One ERROR frame in place of an answer to its hello. A fresh socket has room for it. */
static void refuse(struct yk_node *node, int fd) {
    unsigned char frame[YK_FRAME_HDR + 4 + 2 + 128], hello[1024];
    char text[128];
    struct yk_wr w;
    snprintf(text, sizeof(text), "all %u connections of the node are taken: raise --max-connections",
             node->opts.max_conns);
    yk_wr_init(&w, frame + YK_FRAME_HDR, sizeof(frame) - YK_FRAME_HDR);
    yk_wr_u32(&w, (uint32_t)-YK_ELIMIT);
    yk_wr_text(&w, text);
    struct yk_frame f = {(uint32_t)yk_wr_len(&w), YK_MSG_ERROR, YK_FRAME_REPLY, 0};
    yk_frame_encode(frame, &f);
    (void)!send(fd, frame, YK_FRAME_HDR + yk_wr_len(&w), MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    /* TCP: what is unread at the close would take the frame with it. */
    (void)!recv(fd, hello, sizeof(hello), MSG_DONTWAIT);
    close(fd);
    NODE_ADD(node, conns_refused, 1);
    yk_log_limited(&refuse_limit, YK_LOG_WARN, "node", "refused a connection: %s", text);
}

/* Replies leave when they are ready. By default the kernel keeps a small one until the one before it is
 * acknowledged, and a peer that has nothing more to say acknowledges after 40 ms. */
static void tune_tcp(int fd) {
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

static void on_accept(uv_poll_t *poll, int status, int events) {
    struct yk_node *node = poll->data;
    int lfd;
    if (uv_fileno((uv_handle_t *)poll, &lfd) < 0)
        return;
    node_active(node);
    for (int i = 0; i < 256; i++) {
        int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                yk_log_limited(&accept_limit, YK_LOG_WARN, "node",
                               "cannot accept with %llu connections: %s (LimitNOFILE?)",
                               (unsigned long long)node->n.conns, strerror(errno));
                node_accept_pause(node, 1);
            }
            return;
        }
        if (node->n.conns >= node->opts.max_conns) {
            refuse(node, fd);
            continue;
        }
        int local = is_unix(lfd);
        if (!local)
            tune_tcp(fd);
        conn_open(node, fd, local);
    }
}

/* Removes the socket file of a node that is gone; one that answers is somebody else's. */
static int clear_stale(const struct sockaddr_un *a, struct yk_err *err) {
    struct stat st;
    if (lstat(a->sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return yk_err_set(err, -YK_EBUSY,
                          "'%s' is there and no socket: remove it or listen "
                          "elsewhere",
                          a->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return yk_err_set(err, -YK_EIO, "socket: %s", strerror(errno));
    int rc = connect(fd, (const struct sockaddr *)a, sizeof(*a));
    int answered = rc == 0 || errno == EAGAIN;
    close(fd);
    if (answered)
        return yk_err_set(err, -YK_EBUSY, "another node listens on '%s'", a->sun_path);
    unlink(a->sun_path);
    return 0;
}

static int listen_unix(const struct yk_node *node, const struct yk_addr *addr, struct yk_err *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(addr->host) >= sizeof(a.sun_path))
        return yk_err_set(err, -YK_EINVAL, "socket path '%s' is longer than %zu bytes", addr->host,
                          sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, addr->host, strlen(addr->host) + 1);
    int rc = clear_stale(&a, err);
    if (rc < 0)
        return rc;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mode = node->opts.unix_mode != 0 ? (mode_t)node->opts.unix_mode : 0600;
    mode_t old = umask(0777 & ~mode);
    rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof(a));
    umask(old);
    if (rc < 0 || listen(fd, BACKLOG) < 0) {
        rc = yk_err_set(err, -yk_status_from_errno(errno), "cannot listen on '%s': %s", addr->host,
                        strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    return fd;
}

static int loopback(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static int listen_tcp(const struct yk_node *node, const struct yk_addr *addr, struct yk_err *err) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *ai = NULL;
    char port[8];
    snprintf(port, sizeof(port), "%u", addr->port);
    int rc = getaddrinfo(addr->host, port, &hints, &ai);
    if (rc != 0)
        return yk_err_set(err, -YK_EINVAL, "cannot resolve '%s': %s", addr->host, gai_strerror(rc));
    if (!node->opts.allow_remote && !loopback(ai->ai_addr)) {
        freeaddrinfo(ai);
        return yk_err_set(err, -YK_EPERM,
                          "'%s' is not a loopback address, and others are not allowed: nobody is "
                          "authenticated yet",
                          addr->host);
    }
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        rc = yk_err_set(err, -yk_status_from_errno(errno), "cannot listen on %s:%u: %s", addr->host,
                        addr->port, strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = rc;
    }
    freeaddrinfo(ai);
    return fd;
}

static int listen_add(struct yk_node *node, int fd, struct yk_err *err) {
    uv_poll_t *p = &node->listeners[node->listener_count];
    if (uv_poll_init(&node->loop, p, fd) < 0) {
        close(fd);
        return yk_err_set(err, -YK_EIO, "cannot poll a listening socket");
    }
    p->data = node;
    node->listener_fds[node->listener_count++] = fd;
    if (!node->accept_held)
        uv_poll_start(p, UV_READABLE, on_accept);
    return 0;
}

int node_listen(struct yk_node *node, struct yk_err *err) {
    const struct yk_node_opts *o = &node->opts;
    uint32_t n = o->listen_count + o->listen_fd_count;
    node->listeners = calloc(n + 1u, sizeof(*node->listeners));
    node->listener_fds = calloc(n + 1u, sizeof(int));
    if (node->listeners == NULL || node->listener_fds == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < o->listen_fd_count; i++) {
        fcntl(o->listen_fds[i], F_SETFL, fcntl(o->listen_fds[i], F_GETFL) | O_NONBLOCK);
        int rc = listen_add(node, o->listen_fds[i], err);
        if (rc < 0)
            return rc;
    }
    for (uint32_t i = 0; i < o->listen_count; i++) {
        const struct yk_addr *a = &o->listen[i];
        int fd = a->kind == YK_ADDR_UNIX ? listen_unix(node, a, err) : listen_tcp(node, a, err);
        int rc = fd < 0 ? fd : listen_add(node, fd, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}
