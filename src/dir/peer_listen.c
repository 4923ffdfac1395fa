/* SPDX-License-Identifier: Apache-2.0
 *
 * The port for nodes: who is let in, and which connection stands for a member.
 *
 * A member has one connection to us. A new one takes the place of the old one: its dialler has given that up,
 * or it is a new life of it. Replies name a connection by a key that is never used again, so that one for a
 * connection that is gone goes nowhere.
 */
#include "dir/peer_priv.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG      1024
#define ACCEPT_TURNS 64
#define PLACE_BITS   20u
#define PLACES_FIRST 64u

static struct yk_log_limit accept_limit = YK_LOG_LIMIT_INIT(5000);

/* ---- accepted connections ------------------------------------------------------------------------ */

struct conn *accepted_of(const struct yk_peers *ps, uint64_t key) {
    uint32_t place = (uint32_t)(key & ((1u << PLACE_BITS) - 1));
    struct conn *c = place < ps->accepted_cap ? ps->accepted[place] : NULL;
    return c != NULL && c->key == key ? c : NULL;
}

void accepted_forget(struct conn *c) {
    c->peers->accepted[c->key & ((1u << PLACE_BITS) - 1)] = NULL;
    c->peers->accepted_count--;
}

static int accepted_enter(struct conn *c) {
    struct yk_peers *ps = c->peers;
    if (ps->accepted_count == ps->accepted_cap) {
        uint32_t cap = ps->accepted_cap != 0 ? 2 * ps->accepted_cap : PLACES_FIRST;
        struct conn **p = realloc(ps->accepted, cap * sizeof(struct conn *));
        if (p == NULL)
            return -YK_ENOMEM;
        memset(p + ps->accepted_cap, 0, (cap - ps->accepted_cap) * sizeof(struct conn *));
        ps->accepted = p;
        ps->accepted_cap = cap;
    }
    uint32_t place = (uint32_t)(++ps->serial % ps->accepted_cap);
    while (ps->accepted[place] != NULL)
        place = (place + 1) % ps->accepted_cap;
    c->key = ps->serial << PLACE_BITS | place;
    ps->accepted[place] = c;
    ps->accepted_count++;
    return 0;
}

static int known_older(uint32_t member, uint64_t known, uint64_t came, struct yk_err *err) {
    if (came >= known)
        return 0;
    return yk_err_set(err, -YK_ESTALE, "member %u is known in incarnation %llu, this hello is of %llu", member,
                      (unsigned long long)known, (unsigned long long)came);
}

int accepted_hello(struct conn *c, const struct yk_peer_hello *theirs, struct yk_err *err) {
    struct yk_peers *ps = c->peers;
    const struct yk_peer_who *who = &theirs->who;
    if (who->id == 0)
        return 0;
    if (ps->cluster == 0)
        return yk_err_set(err, -YK_EAGAIN, "this node is in no cluster yet");
    if (theirs->cluster == 0)
        return yk_err_set(err, -YK_EPERM, "member %u names no cluster, this one is %016llx", who->id,
                          (unsigned long long)ps->cluster);
    struct peer *p = peer_find(ps, who->id);
    int rc = p != NULL ? known_older(who->id, p->incarnation, who->incarnation, err) : 0;
    for (struct link *l = ps->conns.next; l != &ps->conns && rc == 0; l = l->next) {
        struct conn *other = LINK_ITEM(l, struct conn, all);
        if (other != c && other->peer == NULL && other->state == CONN_UP && other->who.id == who->id) {
            rc = known_older(who->id, other->who.incarnation, who->incarnation, err);
            if (rc == 0)
                peer_conn_close(other);
        }
    }
    if (rc == 0 && p != NULL)
        peer_came(ps, p);
    return rc;
}

void accepted_end_before(struct yk_peers *ps, uint32_t member, uint64_t incarnation) {
    for (struct link *l = ps->conns.next; l != &ps->conns; l = l->next) {
        struct conn *c = LINK_ITEM(l, struct conn, all);
        if (c->peer == NULL && c->state == CONN_UP && c->who.id == member && c->who.incarnation < incarnation)
            peer_conn_close(c);
    }
}

/* ---- the listening socket ------------------------------------------------------------------------ */

/* A fresh socket has room for it. */
static void turn_away(struct yk_peers *ps, int fd) {
    unsigned char frame[YK_PEER_ERROR_BYTES], hello[YK_PEER_HELLO_BYTES];
    char text[96];
    snprintf(text, sizeof(text), "all %u connections of nodes and guests are taken", ps->opts.max_conns);
    size_t len = yk_peer_error_encode(frame, -YK_ELIMIT, text);
    (void)!send(fd, frame, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    /* What is unread at the close would take the frame with it. */
    (void)!recv(fd, hello, sizeof(hello), MSG_DONTWAIT);
    close(fd);
    ps->n.refused++;
    yk_log_limited(&accept_limit, YK_LOG_WARN, "dir", "refused a connection: %s", text);
}

static void accept_one(struct yk_peers *ps, int fd, const struct sockaddr *from) {
    struct conn *c;
    sock_tune(fd, from);
    if (conn_new(ps, fd, CONN_HELLO, NULL, &c) < 0)
        return;
    if (accepted_enter(c) < 0)
        peer_conn_close(c);
    else
        peers_tick(ps);
}

static void on_accept(uv_poll_t *poll, int status, int events) {
    struct yk_peers *ps = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPT_TURNS; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(ps->listen_fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            /* Left in the loop a listener that cannot accept would spin. */
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                yk_log_limited(&accept_limit, YK_LOG_WARN, "dir", "cannot accept with %llu connections: %s",
                               (unsigned long long)ps->n.conns, strerror(errno));
                peers_listen_pause(ps, 1);
            }
            return;
        }
        if (ps->accepted_count >= ps->opts.max_conns)
            turn_away(ps, fd);
        else
            accept_one(ps, fd, (const struct sockaddr *)&from);
    }
}

void peers_listen_pause(struct yk_peers *ps, int pause) {
    ps->paused = pause;
    if (ps->listen_fd < 0)
        return;
    if (pause) {
        ps->paused_until_ms = uv_now(ps->loop) + PEER_PAUSE_MS;
        uv_poll_stop(&ps->listener);
        peers_tick(ps);
    } else {
        uv_poll_start(&ps->listener, UV_READABLE, on_accept);
    }
}

static int is_loopback(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* The address it is bound to: the port may have been any. */
static void write_address(struct yk_peers *ps, int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char host[INET6_ADDRSTRLEN] = "", port[8] = "";
    if (getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        (void)getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
                          NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(ps->address, sizeof(ps->address), a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static int listen_fd(const char *where, const struct addrinfo *ai, struct yk_err *err) {
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd >= 0 && bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int rc = errno == EADDRINUSE      ? -YK_EBUSY
             : errno == EADDRNOTAVAIL ? -YK_EINVAL
                                      : -yk_status_from_errno(errno);
    yk_err_set(err, rc, "cannot listen on %s for other nodes: %s", where, strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}

int peers_listen(struct yk_peers *ps, const char *where, struct yk_err *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *ai;
    struct yk_addr addr;
    char port[8];
    int rc = yk_parse_addr(where, &addr, err);
    if (rc < 0)
        return rc;
    if (addr.kind != YK_ADDR_TCP)
        return yk_err_set(err, -YK_EINVAL, "%s: nodes talk over TCP, expected HOST:PORT", where);
    snprintf(port, sizeof(port), "%u", addr.port);
    rc = getaddrinfo(addr.host, port, &hints, &ai);
    if (rc != 0)
        return yk_err_set(err, -YK_EINVAL, "host '%s' is not known: %s", addr.host, gai_strerror(rc));
    if (!ps->opts.allow_remote && !is_loopback(ai->ai_addr))
        rc = yk_err_set(err, -YK_EPERM,
                        "%s is not a loopback address, and others are not allowed: nobody is authenticated",
                        where);
    int fd = rc < 0 ? rc : listen_fd(where, ai, err);
    freeaddrinfo(ai);
    if (fd < 0)
        return fd;
    write_address(ps, fd);
    if (uv_poll_init(ps->loop, &ps->listener, fd) < 0) {
        close(fd);
        return yk_err_set(err, -YK_EIO, "cannot poll a listening socket");
    }
    ps->listener.data = ps;
    ps->listen_fd = fd;
    ps->handles++;
    peers_listen_pause(ps, 0);
    return 0;
}
