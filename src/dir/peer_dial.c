/* SPDX-License-Identifier: Apache-2.0
 *
 * Peers: when they are dialled, when they are suspect.
 *
 *            wanted                resolved, connected, hello answered
 *   RESTING --------> DIALLING ---------------------------------------> UP
 *      ^                 | refused, too late                             | broke
 *      +-----------------+-----------------------------------------------+   (and not before retry_ms)
 *
 *   RESTING   conn NULL, dialling 0; `queue` may hold frames that wait for retry_ms
 *   DIALLING  until dial_until_ms; frames gather in `queue`
 *   UP        conn is CONN_UP; queue is empty, frames go to its `out`
 *
 * Wanted is who has frames in its queue or requests under way, and whoever is suspect: it shall be found out
 * whether it lives, though everybody skips it.
 *
 * A host's name is resolved in libuv's threads. Its answer finds its peer by number, as peers may be
 * forgotten meanwhile.
 */
#include "dir/peer_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PINGS_IN_SUSPECT 4u  /* asked so often before silence makes suspect */
#define SUSPECTS_IN_DEAD 10u /* silence of so many suspect_ms ends the connection */

struct resolve {
    uv_getaddrinfo_t req;
    struct yk_peers *peers;
    uint32_t member;
};

static int is_up(const struct peer *p) {
    return p->conn != NULL && p->conn->state == CONN_UP;
}

static int is_wanted(const struct peer *p) {
    return !p->gone && (p->suspect || p->clock_wanted || p->owing || p->ask_count > 0 || p->queue.len > p->queue.off);
}

/* ---- suspicion ----------------------------------------------------------------------------------- */

static void suspect_set(struct yk_peers *ps, struct peer *p, int suspect) {
    if (p->suspect == suspect || p->gone || ps->closing)
        return;
    p->suspect = suspect;
    if (ps->opts.ops.suspect != NULL)
        ps->opts.ops.suspect(ps->opts.ops.user, p->member, suspect);
}

void peer_heard(struct yk_peers *ps, struct peer *p) {
    p->heard_ms = uv_now(ps->loop);
    p->owing = 0;
    if (p->suspect)
        suspect_set(ps, p, 0);
}

static void ping(struct yk_peers *ps, struct peer *p) {
    struct yk_frame f = {0, YK_PEER_PING, 0, 0};
    p->pinged_ms = uv_now(ps->loop);
    if (obuf_frame(&p->conn->out, 0, &f, NULL) == 0)
        conn_wrote(p->conn);
}

void peer_blame(struct yk_peers *ps, struct peer *p) {
    if (!p->suspect && !p->owing && p->ask_count == 0)
        p->heard_ms = uv_now(ps->loop); /* until now nobody waited for it */
    suspect_set(ps, p, 1);
    if (is_up(p))
        ping(ps, p);
    peer_wanted(ps, p);
}

/* ---- dialling ------------------------------------------------------------------------------------ */

void peer_wanted(struct yk_peers *ps, struct peer *p) {
    peers_tick(ps);
    if (p->conn != NULL || p->dialling || p->gone || !link_empty(&p->todo) || uv_now(ps->loop) < p->retry_ms)
        return;
    link_add(&ps->todo, &p->todo);
    peers_turn(ps);
}

void peer_came(struct yk_peers *ps, struct peer *p) {
    if (p->conn != NULL || p->dialling || !is_wanted(p))
        return;
    p->backoff_ms = 0;
    p->retry_ms = 0;
    peer_wanted(ps, p);
}

void peer_failed(struct yk_peers *ps, struct peer *p, int status, const struct yk_err *why, int blame) {
    uint64_t now = uv_now(ps->loop);
    p->dialling = p->clock_wanted = 0;
    p->why = *why;
    if (p->up_ms != 0 && now - p->up_ms >= PEER_BACKOFF_MAX)
        p->backoff_ms = 0; /* it was up for long: that is no row of failures */
    p->up_ms = 0;
    p->backoff_ms = p->backoff_ms == 0 ? PEER_BACKOFF_MIN : 2 * p->backoff_ms;
    if (p->backoff_ms > PEER_BACKOFF_MAX)
        p->backoff_ms = PEER_BACKOFF_MAX;
    p->retry_ms = now + p->backoff_ms;
    obuf_free(&p->queue);
    ask_end_all(ps, p, status);
    if (blame)
        suspect_set(ps, p, 1);
    peers_tick(ps);
}

static void dial_failed(struct yk_peers *ps, struct peer *p, int status, const char *what, int e) {
    struct yk_err why;
    yk_err_set(&why, status, "%s %s: %s", what, p->address, strerror(e));
    peer_failed(ps, p, status, &why, status != -YK_EAGAIN);
}

static void dial_to(struct yk_peers *ps, struct peer *p, const struct sockaddr *addr, socklen_t len) {
    struct conn *c;
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) { /* of this process, not of the peer */
        dial_failed(ps, p, -YK_EAGAIN, "no socket for", errno);
        return;
    }
    sock_tune(fd, addr);
    if (connect(fd, addr, len) < 0 && errno != EINPROGRESS) {
        int e = errno;
        close(fd);
        dial_failed(ps, p, -YK_ECLOSED, "cannot connect to", e);
        return;
    }
    if (conn_new(ps, fd, CONN_CONNECTING, p, &c) < 0) {
        dial_failed(ps, p, -YK_EAGAIN, "no connection to", ENOMEM);
        return;
    }
    p->conn = c;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found) {
    struct resolve *r = req->data;
    struct yk_peers *ps = r->peers;
    struct peer *p = ps->closing ? NULL : peer_find(ps, r->member);
    struct yk_err why;
    if (p != NULL && p->resolve == r) {
        p->resolve = NULL;
        uint32_t n = 0;
        for (struct addrinfo *a = found; a != NULL; a = a->ai_next)
            n++;
        struct addrinfo *a = found;
        for (uint32_t i = n > 0 ? p->attempt++ % n : 0; i > 0; i--)
            a = a->ai_next;
        if (p->dialling && a != NULL) {
            dial_to(ps, p, a->ai_addr, a->ai_addrlen);
        } else if (p->dialling) {
            yk_err_set(&why, -YK_ECLOSED, "host '%s' is not known: %s", p->addr.host, uv_strerror(status));
            peer_failed(ps, p, -YK_ECLOSED, &why, 1);
        }
    }
    uv_freeaddrinfo(found);
    free(r);
    peers_handle_closed(ps);
}

/* One question at a time: a resolver that hangs must not fill the threads with more of them. */
static void resolve(struct yk_peers *ps, struct peer *p) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char port[8];
    if (p->resolve != NULL)
        return;
    struct resolve *r = calloc(1, sizeof(*r));
    snprintf(port, sizeof(port), "%u", p->addr.port);
    if (r != NULL) {
        r->peers = ps;
        r->member = p->member;
        r->req.data = r;
    }
    if (r == NULL || uv_getaddrinfo(ps->loop, &r->req, on_resolved, p->addr.host, port, &hints) < 0) {
        free(r);
        dial_failed(ps, p, -YK_EAGAIN, "cannot resolve", ENOMEM);
        return;
    }
    p->resolve = r;
    ps->handles++;
}

void peer_dial(struct yk_peers *ps, struct peer *p) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(p->addr.port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(p->addr.port)};
    if (p->conn != NULL || p->dialling || !is_wanted(p))
        return;
    p->dialling = 1;
    p->dial_until_ms = uv_now(ps->loop) + ps->opts.connect_ms;
    ps->n.dialled++;
    peers_tick(ps);
    if (inet_pton(AF_INET, p->addr.host, &v4.sin_addr) == 1)
        dial_to(ps, p, (const struct sockaddr *)&v4, sizeof(v4));
    else if (inet_pton(AF_INET6, p->addr.host, &v6.sin6_addr) == 1)
        dial_to(ps, p, (const struct sockaddr *)&v6, sizeof(v6));
    else
        resolve(ps, p);
}

/* What gathered goes out behind the hello. */
void peer_connected(struct conn *c) {
    struct yk_peers *ps = c->peers;
    struct peer *p = c->peer;
    p->dialling = 0;
    p->up_ms = uv_now(ps->loop);
    p->why = (struct yk_err){0};
    obuf_free(&c->out); /* empty: the hello was answered */
    c->out = p->queue;
    p->queue = (struct obuf){0};
    if (c->out.len > 0)
        conn_wrote(c);
    peer_heard(ps, p);
}

void peer_reset(struct yk_peers *ps, struct peer *p, int status) {
    p->dialling = p->clock_wanted = 0;
    p->resolve = NULL; /* its answer is for another address */
    p->backoff_ms = 0;
    p->retry_ms = p->up_ms = 0;
    p->owing = 0;
    link_del(&p->todo);
    if (p->conn != NULL)
        peer_conn_close(p->conn);
    obuf_free(&p->queue);
    ask_end_all(ps, p, status);
}

/* ---- time ---------------------------------------------------------------------------------------- */

/* Somebody waits for it, and no byte has come for `silent` ms. */
static void peer_silent(struct yk_peers *ps, struct peer *p, uint64_t now, uint64_t silent) {
    uint32_t every = ps->opts.suspect_ms / PINGS_IN_SUSPECT;
    if (silent >= ps->opts.suspect_ms)
        suspect_set(ps, p, 1);
    if (!is_up(p) || p->gone) /* a callback may have done anything */
        return;
    if (silent >= (uint64_t)ps->opts.suspect_ms * SUSPECTS_IN_DEAD)
        conn_broke(p->conn, -YK_ECLOSED, "no answer for %llu ms", (unsigned long long)silent);
    else if (silent >= every && now - p->pinged_ms >= every)
        ping(ps, p);
}

/* Whether it has to be looked at again. */
int peer_tick(struct yk_peers *ps, struct peer *p, uint64_t now_ms) {
    if (p->dialling && now_ms >= p->dial_until_ms) {
        if (p->conn != NULL) {
            conn_broke(p->conn, -YK_ECLOSED, "%s: not connected in %u ms", p->address, ps->opts.connect_ms);
        } else {
            dial_failed(ps, p, -YK_ECLOSED, "cannot resolve", ETIMEDOUT);
        }
    }
    if (!is_wanted(p))
        return p->dialling;
    if (p->conn == NULL && !p->dialling)
        peer_wanted(ps, p);
    if (p->ask_count > 0 || p->suspect || p->owing)
        peer_silent(ps, p, now_ms, now_ms > p->heard_ms ? now_ms - p->heard_ms : 0);
    return 1;
}
