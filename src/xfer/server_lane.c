/* SPDX-License-Identifier: Apache-2.0
 *
 * A lane that was dialled: its life. It is closed by its initiator, by a fence, or by the server, with a
 * reason that is counted and kept: for bytes that are no request, and for silence at the wrong moment.
 *
 * Thread: the server's.
 */
#include "server_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ---- what a lane borrows while it has something to do --------------------------------------------- */

static struct yk_in_work *work_take(struct yk_server *s) {
    struct yk_in_work *w = s->spare;
    if (w == NULL) {
        w = malloc(sizeof(*w));
        if (w == NULL)
            return NULL;
    } else {
        s->spare = w->next;
        s->spare_count--;
    }
    w->head = w->recv = w->tail = w->run = w->at = w->end = 0;
    w->got = w->sent = 0;
    return w;
}

static void work_give(struct yk_server *s, struct yk_in_work *w) {
    if (w == NULL)
        return;
    if (s->spare_count >= YK_IN_SPARE) {
        free(w);
        return;
    }
    w->next = s->spare;
    s->spare = w;
    s->spare_count++;
}

void yk_in_release(struct yk_in_lane *l, struct yk_in_req *q) {
    if (q->pinned)
        q->unpin(q->pin_user, q->pin);
    if (q->region != NULL)
        yk_registry_put(l->server->env.registry, q->region);
    free(q->blob);
    q->pinned = 0;
    q->region = NULL;
    q->blob = NULL;
}

/* ---- life ----------------------------------------------------------------------------------------- */

static void on_lane(struct yk_watch *w, uint32_t events) {
    struct yk_in_lane *l = w->user;
    if (events & (EPOLLERR | EPOLLHUP)) { /* nobody is there to be answered */
        yk_in_close(l, NULL);
        return;
    }
    if (events & EPOLLOUT)
        l->full = 0;
    if (!l->urgent || yk_in_serve(l))
        yk_in_ready(l);
}

static void start_sweep(struct yk_server *s) {
    uint64_t ms = (s->env.hello_ms < s->env.pin_ms ? s->env.hello_ms : s->env.pin_ms) / 2 + 1;
    ms = ms < 1000 ? ms : 1000;
    if (s->sweep.slot == 0)
        (void)yk_loop_timer(s->loop, &s->sweep, yk_now_ns() + ms * YK_NS_PER_MS);
}

void yk_in_open(struct yk_server *s, int fd, const struct yk_sockaddr *peer) {
    struct yk_in_lane *l = calloc(1, sizeof(*l));
    struct yk_sockaddr own = {.len = sizeof(own.u)};
    if (l != NULL) {
        l->server = s;
        l->watch = (struct yk_watch){.fd = fd, .events = EPOLLIN, .fn = on_lane, .user = l};
        l->urgent = 1; /* until it says */
        l->still_ns = yk_now_ns();
    }
    if (l == NULL || yk_loop_watch(s->loop, &l->watch) < 0) {
        free(l);
        close(fd);
        return;
    }
    if (peer->u.any.sa_family == AF_UNIX) {
        snprintf(l->peer, sizeof(l->peer), "unix");
    } else {
        (void)getsockname(fd, &own.u.any, &own.len);
        yk_sock_tune(fd, yk_sock_is_loopback(&peer->u.any) ||
                             yk_sock_same_host(&peer->u.any, &own.u.any));
        yk_sock_host(&peer->u.any, l->peer);
        size_t n = strlen(l->peer);
        snprintf(l->peer + n, sizeof(l->peer) - n, ":%u", yk_sock_port(&peer->u.any));
    }
    l->next = s->lanes;
    if (s->lanes != NULL)
        s->lanes->prev = l;
    s->lanes = l;
    __atomic_fetch_add(&s->counts.lanes, 1, __ATOMIC_RELAXED);
    start_sweep(s);
}

static void note_broken(struct yk_in_lane *l, const char *text) {
    struct yk_server *s = l->server;
    pthread_mutex_lock(&s->lock);
    s->counts.broken++;
    snprintf(s->counts.last_broken, sizeof(s->counts.last_broken), "%s: %.160s", l->peer, text);
    pthread_mutex_unlock(&s->lock);
}

static void unlink_ready(struct yk_in_lane *l) {
    struct yk_server *s = l->server;
    struct yk_in_lane **at = &s->ready_first;
    while (*at != NULL && *at != l)
        at = &(*at)->ready_next;
    if (*at == l)
        *at = l->ready_next;
    if (*at == NULL)
        s->ready_last = at;
    l->is_ready = 0;
}

void yk_in_close(struct yk_in_lane *l, const char *text) {
    struct yk_server *s = l->server;
    if (l->dead)
        return;
    if (text != NULL)
        note_broken(l, text);
    yk_loop_unwatch(s->loop, &l->watch);
    close(l->watch.fd);
    if (l->is_ready)
        unlink_ready(l);
    yk_in_one_free(l);
    if (l->work != NULL)
        for (uint32_t i = l->work->head; i != l->work->tail; i++)
            yk_in_release(l, yk_in_at(l->work, i));
    work_give(s, l->work);
    l->work = NULL;
    if (l->prev != NULL)
        l->prev->next = l->next;
    else
        s->lanes = l->next;
    if (l->next != NULL)
        l->next->prev = l->prev;
    __atomic_fetch_sub(&s->counts.lanes, 1, __ATOMIC_RELAXED);
    l->dead = 1;
    if (s->serving != l)
        free(l);
}

void yk_in_ready(struct yk_in_lane *l) {
    struct yk_server *s = l->server;
    if (l->is_ready)
        return;
    l->is_ready = 1;
    l->ready_next = NULL;
    *s->ready_last = l;
    s->ready_last = &l->ready_next;
}

/* What the loop shall tell of it. */
static void watch_for(struct yk_in_lane *l) {
    struct yk_in_work *w = l->work;
    uint32_t events = 0;
    int crowded = w != NULL && w->tail - w->head + YK_GROUP_MAX > YK_SERVER_REQUESTS;
    if (!l->closing && !crowded)
        events |= EPOLLIN;
    if (l->full)
        events |= EPOLLOUT;
    yk_loop_rewatch(l->server->loop, &l->watch, events);
}

int yk_in_serve(struct yk_in_lane *l) {
    struct yk_server *s = l->server;
    int more = 0;
    s->serving = l;
    if (yk_in_one_failed(l) != NULL)
        yk_in_close(l, yk_in_one_failed(l));
    if (l->urgent && l->greeted)
        s->urgent_ns = yk_now_ns();
    s->turn_bytes = s->urgent_ns != 0 && yk_now_ns() - s->urgent_ns < YK_IN_URGENT_NS && !l->urgent
                        ? YK_IN_TURN_SHORT
                        : YK_IN_TURN;
    if (!l->dead && l->work == NULL && (l->work = work_take(s)) == NULL)
        yk_in_close(l, "no memory for its requests");
    if (!l->dead)
        more = yk_in_rx(l);
    if (!l->dead)
        yk_in_one_flush(l);
    if (!l->dead) {
        int crowded = l->work->tail - l->work->head == YK_SERVER_REQUESTS;
        int left = yk_in_tx(l);
        /* What is in the buffer may go on when answers have left the ring. */
        crowded = crowded && !l->dead && l->work->tail - l->work->head < YK_SERVER_REQUESTS;
        more = more > 0 || left > 0 || crowded;
    }
    s->serving = NULL;
    if (l->dead) {
        free(l);
        return 0;
    }
    struct yk_in_work *w = l->work;
    if (w->head == w->tail && w->at == w->end && w->run == 0) {
        work_give(s, w);
        l->work = NULL;
        if (yk_in_one_lends(l))
            start_sweep(s);
    } else {
        start_sweep(s);
    }
    watch_for(l);
    return more;
}

void yk_in_forget(struct yk_in_lane *l, const struct yk_region *region) {
    if (yk_in_one_uses(l, region)) {
        yk_in_close(l, NULL); /* its queue pair is gone then; the peer dials again */
        return;
    }
    if (l->work == NULL)
        return;
    for (uint32_t i = l->work->head; i != l->work->tail; i++) {
        struct yk_in_req *q = yk_in_at(l->work, i);
        if (q->region != region)
            continue;
        if (q->op == YK_PROTO_READ || (int32_t)(i - l->work->recv) >= 0)
            q->status = -YK_EGONE; /* else: it is all written, and only its answer is left */
        yk_in_release(l, q);
    }
}

/* ---- timers --------------------------------------------------------------------------------------- */

static int holds_pin(const struct yk_in_lane *l) {
    if (l->work == NULL)
        return yk_in_one_lends(l);
    if (yk_in_one_lends(l))
        return 1;
    for (uint32_t i = l->work->head; i != l->work->tail; i++)
        if (yk_in_at(l->work, i)->pinned)
            return 1;
    return 0;
}

/* Silence at the wrong moment. Lanes between requests may be silent for as long as they like. */
static const char *overdue(struct yk_in_lane *l, uint64_t now) {
    uint64_t still_ms = (now - l->still_ns) / YK_NS_PER_MS;
    if (!l->greeted) /* a byte now and then does not help */
        return still_ms >= l->server->env.hello_ms ? "it did not say what it is" : NULL;
    if ((l->work == NULL && !yk_in_one_lends(l)) || l->moved != l->moved_seen) {
        l->moved_seen = l->moved;
        l->still_ns = now;
        return NULL;
    }
    if (still_ms < (holds_pin(l) ? l->server->env.pin_ms : YK_IN_STUCK_MS))
        return NULL;
    if (l->work == NULL)
        return "it does not give back what it was lent";
    return l->work->head != l->work->recv ? "it does not take its answers" : "it sent half a request";
}

void yk_in_sweep(struct yk_timer *t) {
    struct yk_server *s = t->user;
    uint64_t now = yk_now_ns();
    int again = 0;
    for (struct yk_in_lane *l = s->lanes, *next; l != NULL; l = next) {
        next = l->next;
        const char *why = overdue(l, now);
        if (why != NULL)
            yk_in_close(l, why);
        else
            again |= !l->greeted || l->work != NULL || yk_in_one_lends(l);
    }
    if (again)
        start_sweep(s);
}
