/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection of a handle: who sends, who receives, who reconnects, who sleeps.
 *
 * All of it is yk_conn_step, one turn of whoever waits: there is no thread of our own to hand a
 * wait to, and handing it over would cost two context switches for each call. A lone caller sends
 * and receives itself (two system calls a round trip); with more, one receives for all and wakes
 * whose reply it read, and passes the role on when it leaves.
 *
 * A lost connection is not an error before the deadline: what was not answered is queued again, and
 * the next turns connect, to the same node or to another one that the url names (route.h), back off, and send it
 * again. What was granted by a node is of use at that node alone: places held there are forgotten, puts get others.
 * Every request may be sent twice: reservations
 * are named by number and generation, changes say what is to be, not by how much.
 *
 * Threads: any, under the lock; see client_priv.h.
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "base/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define STEADY_NS YK_NS_PER_S /* a node whose connection broke sooner than that rests before it is tried again */

/* ---- sleeping ----------------------------------------------------------------------------------- */

void yk_waiter_init(struct yk_waiter *w) {
    pthread_condattr_t attr;
    memset(w, 0, sizeof(*w));
    yk_list_init(&w->link);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
}

void yk_waiter_fini(struct yk_waiter *w) {
    pthread_cond_destroy(&w->cond);
}

void yk_waiter_wake(struct yk_waiter *w) {
    if (yk_list_empty(&w->link))
        return; /* awake */
    yk_list_remove(&w->link);
    pthread_cond_signal(&w->cond);
}

void yk_conn_wake(yk_client *c) {
    if (!yk_list_empty(&c->sleepers))
        yk_waiter_wake(YK_LIST_ITEM(c->sleepers.next, struct yk_waiter, link));
}

void yk_conn_wake_poller(yk_client *c) {
    for (struct yk_link *l = c->sleepers.next; l != &c->sleepers; l = l->next) {
        struct yk_waiter *w = YK_LIST_ITEM(l, struct yk_waiter, link);
        if (w->poll) {
            yk_waiter_wake(w);
            return;
        }
    }
}

static void wake_all(yk_client *c) {
    while (!yk_list_empty(&c->sleepers))
        yk_conn_wake(c);
}

void yk_conn_sleep(yk_client *c, struct yk_waiter *w, uint64_t until_ns) {
    struct timespec ts = {(time_t)(until_ns / YK_NS_PER_S), (long)(until_ns % YK_NS_PER_S)};
    yk_list_add(&c->sleepers, &w->link);
    pthread_cond_timedwait(&w->cond, &c->lock, &ts);
    yk_list_remove(&w->link);
}

void yk_conn_unlock(yk_client *c) {
    int work = c->state == YK_CONN_DOWN ? !c->connecting
                                        : !c->rx.busy || (yk_tx_pending(c) && !c->tx.busy);
    if (work)
        yk_conn_wake(c);
    yk_poll_sync(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---- connect -------------------------------------------------------------------------------------- */

/* Will trying again not help? */
static int is_final(int rc) {
    switch (rc) {
    case -YK_EVERSION:
    case -YK_ESTALE:
    case -YK_EPERM:
    case -YK_EPROTO:
    case -YK_EINVAL:
    case -YK_ENONS:
        return 1;
    default:
        return 0;
    }
}

/* Replies are waited for in recv itself; see rx.c. */
static int socket_prepare(int fd) {
    struct timeval tv = {0, 20000};
    int fl = fcntl(fd, F_GETFL);
    if (fl < 0 || fcntl(fd, F_SETFL, fl & ~O_NONBLOCK) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0)
        return -YK_EIO;
    return 0;
}

/* The map of a client slot: the handle's, or a retired one in which somebody still is. */
static struct yk_map *map_of_slot(const yk_client *c, uint64_t segment_id, uint64_t cookie, uint32_t slot) {
    for (struct yk_map *m = c->map != NULL ? c->map : c->retired; m != NULL; m = m == c->map ? c->retired : m->older)
        if (m->segment_id == segment_id && m->cookie == cookie && m->slot == slot && !yk_map_is_over(m))
            return m;
    return NULL;
}

/* Is the other end still there? What was read from its memory after its welcome is then its own, and
 * not that of a node which took its place. */
static int is_open(int fd) {
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

/* What establish() hands to adopt(). */
struct fresh {
    uint32_t end;   /* of the route */
    uint64_t heard; /* up to which generation places of the slot are kept there */
    struct yk_welcome welcome;
    struct yk_map *map; /* NULL: there is none */
    int is_new;         /* else it is one that the handle has: it goes on with these: */
    struct yk_lower *lower;
    struct yk_far_found far;
};

/* A map that was to be the handle's and is not. */
static void map_drop(const yk_client *c, struct fresh *f) {
    if (f->is_new)
        yk_map_close(f->map, 0);
    else if (f->map != NULL && f->map != c->map)
        yk_map_retire(f->map);
    yk_map_lower_close(f->lower);
    f->map = NULL;
    f->lower = NULL;
}

/* One that the handle has, current or retired, goes on if it is of the slot that was granted. */
static struct yk_map *map_again(const yk_client *c, const struct yk_welcome *w) {
    struct yk_map *m = map_of_slot(c, w->segment_id, w->cookie, w->slot);
    return m != NULL && (m == c->map || yk_map_revive(m) == 0) ? m : NULL;
}

/* Maps what the welcome grants. */
static int map_granted(const yk_client *c, int fd, struct fresh *f, struct yk_err *err) {
    const struct yk_welcome *w = &f->welcome;
    struct yk_map_opts o = {.fd_meta = w->fds[0],
                            .fd_data = w->fds[1],
                            .fd_clients = w->fds[2],
                            .fd_filter = w->fds[3],
                            .meta_bytes = w->meta_bytes,
                            .data_bytes = w->data_bytes,
                            .clients_bytes = w->clients_bytes,
                            .filter_bytes = w->filter_bytes,
                            .segment_id = w->segment_id,
                            .cookie = w->cookie,
                            .slot = w->slot,
                            .ns = w->ns,
                            .guard = (c->flags & YK_OPEN_HANDLE_SIGBUS) != 0};
    f->map = map_again(c, w); /* maps are changed by the thread that connects only */
    f->is_new = f->map == NULL;
    int rc = f->is_new ? yk_map_open(&o, &f->map, err) : yk_map_lower_open(f->map, &o, &f->lower, err);
    if (rc == 0 && !is_open(fd))
        rc = yk_err_set(err, -YK_EGONE, "the node closed the connection after hello");
    return rc;
}

/* Says hello to an end as who was there before, if that is so. What was granted and never arrived is void there; where
 * nobody is inside the old map any more, or readers alone, that is all: what was held ahead there was forgotten when it
 * was left. */
static struct yk_greeting greeting(const yk_client *c, const struct yk_route_end *e) {
    struct yk_greeting g = {.name_space = c->name_space,
                            .epoch = yk_client_epoch(c),
                            .cookie = e->cookie,
                            .segment_id = e->segment_id,
                            .slot = e->slot};
    const struct yk_map *m = map_of_slot(c, e->segment_id, e->cookie, e->slot);
    if (m != NULL && (m == c->map || yk_map_has_writers(m)))
        g.heard = e->heard;
    /* A raise whose answer was lost may have been made: the epoch before would be refused. */
    uint64_t raise_to = __atomic_load_n(&c->raise_to, __ATOMIC_RELAXED);
    g.epoch = raise_to > g.epoch ? raise_to : g.epoch;
    return g;
}

/* Connects, greets and maps, without the lock. fd < 0: dials. */
static int establish(yk_client *c, uint32_t end, int fd, uint64_t deadline_ns, struct fresh *ret,
                     struct yk_err *err) {
    const struct yk_route_end *e = &c->route.ends[end];
    struct yk_greeting g = greeting(c, e); /* no reply is read while we connect */
    memset(ret, 0, sizeof(*ret));
    ret->end = end;
    c->addr = e->addr;
    int rc = fd >= 0 ? 0 : yk_dial(&c->addr, deadline_ns, &fd, err);
    if (rc < 0)
        return rc;
    if (!(c->flags & YK_OPEN_NO_MAP) && c->addr.kind != YK_ADDR_TCP)
        g.flags = YK_HELLO_MAP | YK_HELLO_FILTER;
    if (!(c->flags & YK_OPEN_NO_XFER))
        g.flags |= YK_HELLO_XFER;
    if (c->flags & YK_OPEN_LOOK)
        g.flags |= YK_HELLO_LOOK;
    rc = yk_dial_hello(fd, &g, deadline_ns, &ret->welcome, err);
    int greeted = rc == 0;
    ret->heard = ret->welcome.cookie == g.cookie ? g.heard : 0;
    if (rc == 0 && (ret->welcome.flags & YK_HELLO_MAP)) {
        rc = map_granted(c, fd, ret, err);
        for (unsigned i = 0; i < YK_DIAL_FDS; i++)
            if (ret->welcome.fds[i] >= 0)
                close(ret->welcome.fds[i]);
    }
    if (rc == 0 && socket_prepare(fd) < 0)
        rc = yk_err_set(err, -YK_EIO, "setting up the socket: %s", strerror(errno));
    if (rc == 0)
        rc = yk_far_find(c, fd, &ret->welcome, deadline_ns, &ret->far, err);
    if (rc < 0) {
        int was_new = ret->is_new || ret->map == NULL;
        map_drop(c, ret);
        if (greeted && was_new && ret->welcome.cookie != g.cookie)
            yk_dial_bye(fd); /* it has granted a slot that the handle does not take */
        close(fd);
        return rc;
    }
    return fd;
}

/* From the nearest end on, until one is well or all rest. Returns a descriptor, or the last failure; *ret_final: trying
 * again does not help. */
static int try_ends(yk_client *c, int fd, uint64_t deadline_ns, struct fresh *ret, struct yk_err *err, int *ret_final) {
    struct yk_route *r = &c->route;
    int rc = -YK_EGONE, end;
    *ret_final = 0;
    yk_route_refresh(r, deadline_ns);
    uint64_t now = yk_now_ns();
    while ((end = yk_route_next(r, now)) >= 0) {
        rc = establish(c, (uint32_t)end, fd, yk_route_until(r, (uint32_t)end, now, deadline_ns), ret, err);
        if (rc >= 0)
            return rc;
        now = yk_now_ns();
        yk_route_failed(r, (uint32_t)end, is_final(rc), now);
        *ret_final = rc == -YK_ESTALE || yk_route_hopeless(r); /* an epoch is the whole cluster's */
        if (*ret_final || now >= deadline_ns)
            break;
    }
    c->retry_at_ns = yk_route_due(r);
    return rc;
}

/* Places in a segment that is gone are gone with it; those that the engine was to write end with their
 * connection. */
static void forget_places(yk_client *c) {
    struct yk_link list;
    yk_list_init(&list);
    yk_hold_forget(&c->hold);
    yk_list_splice_first(&list, &c->queue[YK_Q_ABORT]);
    for (struct yk_link *l; (l = yk_list_take(&list)) != NULL;)
        yk_rec_free(c, YK_LIST_ITEM(l, struct yk_rec, link));
    yk_list_splice_first(&list, &c->queue[YK_Q_COMMIT]);
    for (struct yk_link *l; (l = yk_list_take(&list)) != NULL;) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
        if (rec->map == NULL) {
            c->far.fallbacks++;
            rec->through = 1;
        }
        yk_rec_drop_place(rec);
        yk_rec_runnable(c, rec);
    }
}

/* There are no places to wait for on this connection: what asked for one goes another way. */
static void unreserve(yk_client *c) {
    struct yk_link list;
    yk_list_init(&list);
    yk_list_splice_first(&list, &c->queue[YK_Q_RESERVE]);
    for (struct yk_link *l; (l = yk_list_take(&list)) != NULL;)
        yk_rec_runnable(c, YK_LIST_ITEM(l, struct yk_rec, link));
}

static void retired_remove(yk_client *c, const struct yk_map *map) {
    for (struct yk_map **at = &c->retired; *at != NULL; at = &(*at)->older)
        if (*at == map) {
            *at = map->older;
            return;
        }
}

/* What the page of a map that is left has counted is the handle's own from now on. */
static void count_page(yk_client *c, struct yk_map *m) {
    for (unsigned i = 0; i < YK_COUNTERS; i++) {
        uint64_t n = __atomic_load_n(&m->page->counters[i], __ATOMIC_RELAXED);
        yk_client_count(c, NULL, i, n - m->counted[i]);
        m->counted[i] = n;
    }
}

/* They name places of the node that was left: another node's place of that number and generation is not theirs. */
static void commits_end(yk_client *c) {
    for (struct yk_link *l = c->calls.next, *next; l != &c->calls; l = next) {
        struct yk_call *call = YK_LIST_ITEM(l, struct yk_call, link);
        next = l->next;
        if (call->map == NULL)
            continue;
        yk_list_remove(l);
        call->status = -YK_EGONE;
        yk_waiter_wake(call->waiter);
    }
}

static void map_replace(yk_client *c, struct yk_map *map) {
    struct yk_map *old = c->map;
    if (old == NULL && map == NULL)
        return;
    if (old != NULL)
        count_page(c, old);
    if (map != NULL) {
        retired_remove(c, map);
        map->older = NULL;
    }
    __atomic_store_n(&c->map, map, __ATOMIC_SEQ_CST);
    forget_places(c);
    if (old == NULL)
        return;
    commits_end(c);
    old->older = c->retired; /* kept for closing, behind nobody's look */
    c->retired = old;
    yk_map_retire(old);
}

static void adopt(yk_client *c, int fd, const struct fresh *fresh) {
    const struct yk_welcome *w = &fresh->welcome;
    struct yk_route_end *e = &c->route.ends[fresh->end];
    c->reconnects += c->conn_number > 0;
    c->conn_number++;
    c->fd = fd;
    c->welcome = *w;
    c->up_ns = yk_now_ns();
    c->state = YK_CONN_UP;
    __atomic_store_n(&c->max_block_bytes, w->max_block_bytes, __ATOMIC_RELAXED);
    if (w->ns != YK_NO_NS) /* else what was asked for goes on to count (R9) */
        __atomic_store_n(&c->epoch, w->epoch, __ATOMIC_RELEASE);
    if (fresh->map != NULL)
        __atomic_store_n(&fresh->map->ns, w->ns, __ATOMIC_RELAXED);
    if (fresh->map != c->map)
        map_replace(c, fresh->map);
    __atomic_store_n(&c->wants_requests, (w->flags & YK_HELLO_ANNOUNCE) != 0, __ATOMIC_RELAXED);
    c->heard = fresh->heard;
    e->cookie = w->cookie;
    e->segment_id = w->segment_id;
    e->slot = w->slot;
    if (fresh->lower != NULL)
        yk_map_lower_set(c->map, fresh->lower);
    yk_route_up(&c->route, fresh->end, !(c->flags & YK_OPEN_NO_RECONNECT) && c->node == NULL, c->up_ns);
    yk_far_adopt(c, &fresh->far);
    if (c->map == NULL && !c->far.up)
        unreserve(c);
    yk_poll_watch(c);
}

/* Does waiting a little help the first connection? Many clients open at once: the listener's queue is full. Anything
 * else is an answer. */
static int waits(const yk_client *c, int rc, uint64_t deadline_ns) {
    return rc == -YK_EAGAIN && c->node == NULL && c->retry_at_ns < deadline_ns;
}

int yk_conn_open(yk_client *c, int embedded_fd, uint64_t deadline_ns, struct yk_err *err) {
    struct fresh fresh;
    int is_final;
    for (;;) {
        int fd = try_ends(c, embedded_fd, deadline_ns, &fresh, err, &is_final);
        if (fd >= 0) {
            pthread_mutex_lock(&c->lock);
            adopt(c, fd, &fresh);
            pthread_mutex_unlock(&c->lock);
            return 0;
        }
        if (is_final || !waits(c, fd, deadline_ns))
            return fd;
        (void)yk_poll_until(-1, 0, c->retry_at_ns);
    }
}

static void reconnect(yk_client *c, uint64_t deadline_ns) {
    struct fresh fresh;
    struct yk_err err = {0, ""};
    int old_fd = c->fd, is_final;
    c->fd = -1;
    c->connecting = 1;
    pthread_mutex_unlock(&c->lock);
    if (old_fd >= 0)
        close(old_fd);
    int fd = try_ends(c, -1, deadline_ns, &fresh, &err, &is_final);
    pthread_mutex_lock(&c->lock);
    c->connecting = 0;
    if (fd >= 0)
        adopt(c, fd, &fresh);
    else if (is_final)
        yk_conn_dead(c, fd);
    wake_all(c);
}

/* ---- loss ------------------------------------------------------------------------------------------- */

/* What becomes of a record whose reply will not come. */
static void unsent(yk_client *c, struct yk_rec *rec) {
    if (rec->op != NULL) {
        rec->state = YK_REC_QUEUED;
        rec->at = 0;
        if (yk_op_is_get(rec->op))
            yk_rec_get_again(c, rec);
        yk_list_add_first(&c->queue[rec->queue], &rec->link);
    } else if ((rec->in_place && !rec->borrowed) || rec->queue == YK_Q_ABORT) {
        /* Its commit may have been made or not; giving the place back settles it. */
        rec->queue = YK_Q_ABORT;
        rec->state = YK_REC_QUEUED;
        yk_list_add(&c->queue[YK_Q_ABORT], &rec->link);
    } else {
        yk_rec_free(c, rec);
    }
}

static void request_lost(yk_client *c, struct yk_req *req) {
    if (req->call != NULL) {
        req->call->req = NULL;
        yk_list_add_first(&c->calls, &req->call->link);
        req->ahead = 0; /* wished for again with it */
    }
    while (!yk_list_empty(&req->recs)) {
        struct yk_rec *rec = YK_LIST_ITEM(req->recs.prev, struct yk_rec, link);
        yk_list_remove(&rec->link);
        unsent(c, rec);
    }
    yk_hold_came(&c->hold, req->ahead_len, req->ahead);
    yk_req_free(c, req);
}

/* What the end that the connection was to is to know. One that takes connections and breaks them rests, where there is
 * another one to go to. */
static void left_end(yk_client *c) {
    struct yk_route *r = &c->route;
    uint64_t now = yk_now_ns();
    yk_route_down(r);
    r->ends[r->at].heard = c->heard;
    if (r->count > 1 && now - c->up_ns < STEADY_NS)
        yk_route_failed(r, r->at, 0, now);
}

void yk_conn_lost(yk_client *c) {
    if (c->state != YK_CONN_UP)
        return;
    c->state = YK_CONN_DOWN;
    c->retry_at_ns = 0;
    left_end(c);
    shutdown(c->fd, SHUT_RDWR); /* whoever is in recv comes back; closed by reconnect */
    struct yk_rec *receiving = c->rx.rec;
    yk_rx_reset(c);
    yk_tx_reset(c);
    if (receiving != NULL)
        unsent(c, receiving);
    for (uint32_t i = 0; i < c->req_top; i++)
        if (c->reqs[i].id != 0)
            request_lost(c, &c->reqs[i]);
    if (c->map == NULL)
        forget_places(c);
    yk_far_lost(c);
    if ((c->flags & YK_OPEN_NO_RECONNECT) || c->node != NULL)
        yk_conn_dead(c, -YK_EGONE);
    wake_all(c);
}

void yk_conn_dead(yk_client *c, int status) {
    yk_conn_lost(c);
    if (c->state == YK_CONN_DEAD)
        return;
    c->state = YK_CONN_DEAD;
    c->dead_status = status;
    for (struct yk_link *l; (l = yk_list_take(&c->calls)) != NULL;) {
        struct yk_call *call = YK_LIST_ITEM(l, struct yk_call, link);
        call->status = status;
        yk_waiter_wake(call->waiter);
    }
    for (unsigned q = 0; q < YK_QUEUES; q++) {
        struct yk_link list;
        yk_list_init(&list);
        yk_list_splice_first(&list, &c->queue[q]);
        for (struct yk_link *l; (l = yk_list_take(&list)) != NULL;) {
            struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
            if (rec->op != NULL)
                yk_rec_end(c, rec, yk_rec_late_status(c, rec));
            else
                yk_rec_free(c, rec);
        }
    }
    wake_all(c);
}

/* ---- turns ------------------------------------------------------------------------------------------ */

static void step_down(yk_client *c, struct yk_waiter *w, uint64_t now, uint64_t deadline_ns) {
    if (c->connecting || c->tx.busy || c->rx.busy) {
        yk_conn_sleep(c, w, deadline_ns); /* woken by the one who leaves the role */
        return;
    }
    if (now >= c->retry_at_ns)
        reconnect(c, deadline_ns);
    else
        yk_conn_sleep(c, w, c->retry_at_ns < deadline_ns ? c->retry_at_ns : deadline_ns);
}

/* A nearer node is there again: everything goes there, as if the connection had broken. */
static void tend_route(yk_client *c, uint64_t now) {
    struct yk_greeting g = {.name_space = c->name_space, .epoch = yk_client_epoch(c)};
    if (now >= c->route.probe_at_ns && yk_route_tend(&c->route, &g, now))
        yk_conn_lost(c);
}

int yk_conn_step(yk_client *c, struct yk_waiter *w, uint64_t deadline_ns) {
    if (c->state == YK_CONN_DEAD)
        return c->dead_status;
    uint64_t now = yk_now_ns();
    if (c->state == YK_CONN_UP)
        tend_route(c, now);
    if (now >= deadline_ns)
        return c->state == YK_CONN_UP ? -YK_ETIMEDOUT : -YK_EGONE;
    if (c->state == YK_CONN_DOWN)
        step_down(c, w, now, deadline_ns);
    else if (yk_tx_pending(c) && !c->tx.busy)
        yk_tx_pump(c, deadline_ns);
    else if (!c->rx.busy)
        yk_rx_pump(c, deadline_ns, w->poll);
    else
        yk_conn_sleep(c, w, deadline_ns);
    return 0;
}

int yk_conn_is_down(yk_client *c) {
    pthread_mutex_lock(&c->lock);
    int down = c->state == YK_CONN_DOWN;
    yk_conn_unlock(c);
    return down;
}

void yk_conn_flush(yk_client *c) {
    if (c->state == YK_CONN_UP && yk_tx_pending(c) && !c->tx.busy)
        yk_tx_pump(c, 0);
}

void yk_conn_look(yk_client *c) {
    yk_conn_flush(c);
    if (c->state == YK_CONN_UP && !c->rx.busy)
        yk_rx_pump(c, 0, 0);
}

/* Gives up on a call at its deadline. A place that a late reply grants is kept or given back: what was wished for is that
 * reply's now, or nobody's. */
static void call_forget(yk_client *c, struct yk_call *call) {
    yk_list_remove(&call->link);
    if (call->req == NULL)
        return;
    call->req->call = NULL;
    call->ahead = 0;
    if (call->place_len == 0)
        yk_req_free(c, call->req);
}

int yk_conn_call(yk_client *c, struct yk_call *call, uint64_t deadline_ns) {
    struct yk_waiter w;
    int rc = 0;
    yk_waiter_init(&w);
    yk_list_init(&call->link);
    call->waiter = &w;
    call->req = NULL;
    call->status = YK_PENDING;
    pthread_mutex_lock(&c->lock);
    if (call->map != NULL && call->map != c->map)
        call->status = -YK_EGONE; /* the handle went to another node while the caller came here */
    else
        yk_list_add(&c->calls, &call->link);
    while (call->status == YK_PENDING && rc == 0)
        rc = yk_conn_step(c, &w, deadline_ns);
    if (call->status == YK_PENDING) {
        call_forget(c, call);
        call->status = rc;
    }
    yk_hold_came(&c->hold, call->place_len, call->ahead);
    yk_conn_unlock(c);
    yk_waiter_fini(&w);
    return call->status;
}
