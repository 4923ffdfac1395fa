/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a server listens, what it tells peers about that, and accepting.
 *
 * One listener serves all addresses that `listen` covers; peers are told each of them, with the speed
 * of its device, so that they can make a rail of each. Loopback is named only when nothing else is
 * covered: on another host it would lead to another engine. The unix socket carries the engine's
 * incarnation in its name, so that one which a killed process left behind is in nobody's way; only
 * this user may connect (its mode is set before it has a name).
 *
 * Thread: opening: the caller's; accepting: the server's.
 */
#include "server_priv.h"

#include "base/clock.h"
#include "xfer/target.h"

#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_NAME "yolk-xfer-"
#define NEW_NAME    ".yolk-xfer-" /* until it listens: the other name is one that answers */
#define SWEEP_MAX   1024

#define BACKLOG 1024

/* ---- what peers are told ------------------------------------------------------------------------- */

static void tell(struct yk_peer_info *self, const struct sockaddr *addr, uint16_t port, uint32_t mbit) {
    struct yk_peer_addr a = {.port = port, .mbit = mbit};
    yk_sock_host(addr, a.host);
    for (uint32_t i = 0; i < self->addr_count; i++)
        if (self->addrs[i].port == port && strcmp(self->addrs[i].host, a.host) == 0)
            return;
    if (a.host[0] != 0 && self->addr_count < YK_PEER_ADDRS)
        self->addrs[self->addr_count++] = a;
}

static int is_link_local(const struct sockaddr *addr) {
    char host[YK_PEER_HOST];
    yk_sock_host(addr, host);
    return strncmp(host, "fe80:", 5) == 0 || strncmp(host, "169.254.", 8) == 0;
}

/* Devices that are up and whose address the listener covers. */
static void tell_devices(struct yk_peer_info *self, const struct yk_sockaddr *bound, uint16_t port) {
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return;
    for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL || !(i->ifa_flags & IFF_UP) || yk_sock_is_loopback(i->ifa_addr) ||
            is_link_local(i->ifa_addr))
            continue;
        /* :: takes IPv4, too */
        int covered = yk_sock_is_any(&bound->u.any)
                          ? bound->u.any.sa_family == AF_INET6 || i->ifa_addr->sa_family == AF_INET
                          : yk_sock_same_host(i->ifa_addr, &bound->u.any);
        if (covered)
            tell(self, i->ifa_addr, port, yk_sock_device_mbit(i->ifa_name));
    }
    freeifaddrs(all);
}

static void tell_bound(struct yk_peer_info *self, const struct yk_sockaddr *bound) {
    struct yk_sockaddr lo;
    uint16_t port = yk_sock_port(&bound->u.any);
    tell_devices(self, bound, port);
    if (!yk_sock_is_any(&bound->u.any))
        tell(self, &bound->u.any, port, 0);
    else if (self->addr_count == 0 && yk_sock_parse("127.0.0.1", port, &lo) == 0)
        tell(self, &lo.u.any, port, 0);
}

static int tell_advertised(struct yk_peer_info *self, const char *list, struct yk_err *err) {
    char item[YK_ADDR_TEXT_MAX];
    for (const char *at = list; *at != 0;) {
        size_t len = strcspn(at, ",");
        struct yk_addr a;
        struct yk_sockaddr found[8];
        struct yk_err why;
        if (len == 0 || len >= sizeof(item))
            return yk_err_set(err, -YK_EINVAL, "advertise '%.80s': an item of %zu bytes", list, len);
        memcpy(item, at, len);
        item[len] = 0;
        if (yk_parse_addr(item, &a, &why) < 0 || a.kind != YK_ADDR_TCP || a.port == 0)
            return yk_err_set(err, -YK_EINVAL, "advertise '%.80s': expected HOST:PORT", item);
        int n = yk_sock_resolve(a.host, a.port, 0, found, 8, err);
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            tell(self, &found[i].u.any, a.port, 0);
        at += len + (at[len] == ',');
    }
    return 0;
}

/* ---- listeners ------------------------------------------------------------------------------------ */

static void add(struct yk_server *s, int fd) {
    s->listeners[s->listener_count++] =
        (struct yk_watch){.fd = fd, .events = EPOLLIN, .fn = yk_server_on_accept, .user = s};
}

static int listen_at(struct yk_server *s, struct yk_sockaddr *a, const char *text, struct yk_err *err) {
    int fd = socket(a->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        return yk_err_set(err, errno == EMFILE || errno == ENFILE ? -YK_ELIMIT : -YK_EINVAL,
                          "listen %s: no socket: %s", text, strerror(errno));
    if (a->u.any.sa_family == AF_UNIX)
        (void)fchmod(fd, 0600); /* before it has a name */
    else
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* after a restart */
    if (bind(fd, &a->u.any, a->len) < 0 || listen(fd, BACKLOG) < 0) {
        int e = errno;
        close(fd);
        return yk_err_set(err, e == EADDRINUSE ? -YK_EBUSY : e == EACCES ? -YK_EPERM : -YK_EINVAL,
                          "listen %s: %s", text, strerror(e));
    }
    a->len = sizeof(a->u);
    (void)getsockname(fd, &a->u.any, &a->len); /* port 0 has become one */
    add(s, fd);
    return 0;
}

static int listen_tcp(struct yk_server *s, const struct yk_xfer_opts *opts, struct yk_peer_info *self,
                      struct yk_err *err) {
    struct yk_addr addr;
    struct yk_sockaddr at[YK_IN_LISTENERS - 1];
    struct yk_err why;
    if (yk_parse_addr(opts->listen, &addr, &why) < 0 || addr.kind != YK_ADDR_TCP)
        return yk_err_set(err, -YK_EINVAL, "listen '%.80s': expected HOST:PORT", opts->listen);
    int n = yk_sock_resolve(addr.host, addr.port, 1, at, YK_IN_LISTENERS - 1, err);
    uint16_t port = addr.port;
    uint32_t before = s->listener_count;
    int failed = 0;
    for (int i = 0; i < n; i++) {
        if (!yk_sock_is_loopback(&at[i].u.any) && !opts->insecure_network)
            return yk_err_set(err, -YK_EPERM,
                              "listen %s: beyond loopback nobody is authenticated; insecure_network "
                              "allows it",
                              opts->listen);
        if (port != 0 && addr.port == 0) /* a name with several addresses: one port for all */
            at[i].u.v4.sin_port = htons(port); /* where IPv6 has it, too */
        int rc = listen_at(s, &at[i], opts->listen, err);
        if (rc == -YK_EBUSY && addr.port != 0)
            return rc;
        if (rc < 0) { /* "localhost" may stand for an address that this host has not */
            failed = rc;
            continue;
        }
        port = yk_sock_port(&at[i].u.any);
        if (opts->advertise == NULL)
            tell_bound(self, &at[i]);
    }
    if (n < 0 || s->listener_count == before)
        return n < 0 ? n : failed;
    return opts->advertise != NULL ? tell_advertised(self, opts->advertise, err) : 0;
}

/* Sockets that killed engines left in the directory: they have their names, and nobody listens. */
static void sweep_unix(const char *dir) {
    DIR *d = opendir(dir);
    int looked = 0;
    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL && looked < SWEEP_MAX;) {
        char path[sizeof(((struct yk_server *)0)->unix_path)];
        struct yk_sockaddr a;
        struct stat st;
        if (strncmp(e->d_name, SOCKET_NAME, sizeof(SOCKET_NAME) - 1) != 0)
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (n < 0 || (size_t)n >= sizeof(path) || lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) ||
            st.st_uid != geteuid() || yk_sock_unix(path, &a) < 0)
            continue;
        looked++;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, &a.u.any, a.len) < 0 && errno == ECONNREFUSED)
            unlink(path);
        if (fd >= 0)
            close(fd);
    }
    if (d != NULL)
        closedir(d);
}

static int listen_unix(struct yk_server *s, const struct yk_xfer_opts *opts, struct yk_peer_info *self,
                       struct yk_err *err) {
    struct yk_sockaddr a;
    char path[sizeof(s->unix_path)], fresh[sizeof(s->unix_path) + 1];
    const char *dir = opts->shm_dir != NULL ? opts->shm_dir : yk_sock_dir();
    int n = snprintf(path, sizeof(path), "%s/" SOCKET_NAME "%016llx", dir,
                     (unsigned long long)self->incarnation);
    (void)snprintf(fresh, sizeof(fresh), "%s/" NEW_NAME "%016llx", dir,
                   (unsigned long long)self->incarnation);
    if (n < 0 || (size_t)n >= sizeof(path) || yk_sock_unix(fresh, &a) < 0)
        return yk_err_set(err, -YK_EINVAL, "shm_dir '%.80s' is too long for the path of a socket", dir);
    sweep_unix(dir);
    int rc = listen_at(s, &a, path, err);
    if (rc == 0 && rename(fresh, path) < 0) {
        rc = yk_err_set(err, -YK_EIO, "%s: %s", path, strerror(errno));
        unlink(fresh);
    }
    if (rc == 0) {
        snprintf(s->unix_path, sizeof(s->unix_path), "%s", path);
        snprintf(self->unix_path, sizeof(self->unix_path), "%s", path);
    }
    return rc;
}

int yk_server_listen(struct yk_server *s, const struct yk_xfer_opts *opts, struct yk_peer_info *self,
                     struct yk_err *err) {
    int rc = 0;
    self->addr_count = 0;
    self->unix_path[0] = 0;
    if (opts->listen != NULL)
        rc = listen_tcp(s, opts, self, err);
    if (rc == 0 && (opts->shm_dir == NULL || opts->shm_dir[0] != 0))
        rc = listen_unix(s, opts, self, err);
    for (uint32_t i = 0; i < self->addr_count && yk_target != NULL && (opts->transports & YK_XFER_RDMA); i++)
        self->addrs[i].rdma = (uint8_t)yk_target->has(opts, self->addrs[i].host);
    return rc;
}

/* ---- accepting ------------------------------------------------------------------------------------ */

/* Without a descriptor every turn of the loop would find the listener ready: it is not looked at for
 * a while. */
static void pause_accepting(struct yk_server *s) {
    YK_IN_COUNT(s, accept_pauses, 1);
    for (uint32_t i = 0; i < s->listener_count; i++)
        yk_loop_rewatch(s->loop, &s->listeners[i], 0);
    (void)yk_loop_timer(s->loop, &s->pause, yk_now_ns() + YK_IN_PAUSE_MS * YK_NS_PER_MS);
}

void yk_server_on_pause(struct yk_timer *t) {
    struct yk_server *s = t->user;
    for (uint32_t i = 0; i < s->listener_count; i++)
        yk_loop_rewatch(s->loop, &s->listeners[i], EPOLLIN);
}

void yk_server_on_accept(struct yk_watch *w, uint32_t events) {
    struct yk_server *s = w->user;
    for (int i = 0; i < 64; i++) {
        struct yk_sockaddr peer = {.len = sizeof(peer.u)};
        int fd = accept4(w->fd, &peer.u.any, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(s);
            return;
        }
        if (s->counts.lanes >= s->env.lanes_max) {
            YK_IN_COUNT(s, refused, 1);
            close(fd);
            continue;
        }
        YK_IN_COUNT(s, accepted, 1);
        yk_in_open(s, fd, &peer);
    }
}
