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
 * the next turns connect, back off, and send it again. Every request may be sent twice: reservations
 * are named by number and generation, changes say what is to be, not by how much.
 *
 * Threads: any, under the lock; see client_priv.h.
 */
#include "client/client_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define BACKOFF_FIRST_NS (10 * YK_NS_PER_MS)
#define BACKOFF_LAST_NS  (500 * YK_NS_PER_MS)

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

static void backoff(yk_client *c) {
    c->backoff_ns = c->backoff_ns == 0 ? BACKOFF_FIRST_NS : c->backoff_ns * 2;
    if (c->backoff_ns > BACKOFF_LAST_NS)
        c->backoff_ns = BACKOFF_LAST_NS;
    /* Half to all of it, so that a thousand clients do not come back in step. */
    c->seed = c->seed * 6364136223846793005ull + 1442695040888963407ull;
    c->retry_at_ns = yk_now_ns() + c->backoff_ns / 2 + (c->seed >> 33) % (c->backoff_ns / 2);
}

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

static int same_map(const struct yk_map *m, const struct yk_welcome *w) {
    return m != NULL && m->segment_id == w->segment_id && m->slot == w->slot &&
           m->cookie == w->cookie && m->ns == w->ns;
}

/* Is the other end still there? What was read from its memory after its welcome is then its own, and
 * not that of a node which took its place. */
static int is_open(int fd) {
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

/* Maps what the welcome grants. *ret_map: a new map; *ret_lower: or what is new in the one we have. */
static int map_granted(const yk_client *c, int fd, const struct yk_welcome *w,
                       struct yk_map **ret_map, struct yk_lower **ret_lower, struct yk_err *err) {
    const struct yk_map *old = c->map; /* changed by the thread that connects only */
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
    int rc = same_map(old, w) ? yk_map_lower_open(old, &o, ret_lower, err)
                              : yk_map_open(&o, ret_map, err);
    if (rc == 0 && !is_open(fd))
        rc = yk_err_set(err, -YK_EGONE, "the node closed the connection after hello");
    return rc;
}

/* What establish() hands to adopt(). */
struct fresh {
    struct yk_welcome welcome;
    struct yk_map *map;     /* NULL: there is none, or the one we have goes on */
    struct yk_lower *lower; /* then it goes on with these */
    struct yk_far_found far;
};

/* Connects, greets and maps, without the lock. fd < 0: dials. */
static int establish(yk_client *c, int fd, uint64_t deadline_ns, struct fresh *ret,
                     struct yk_err *err) {
    struct yk_greeting g = {.name_space = c->name_space,
                            .epoch = yk_client_epoch(c),
                            .cookie = c->welcome.cookie,
                            .segment_id = c->welcome.segment_id,
                            .slot = c->welcome.slot,
                            .heard = c->heard}; /* no reply is read while we connect */
    /* A raise whose answer was lost may have been made: the epoch before would be refused. */
    uint64_t raise_to = __atomic_load_n(&c->raise_to, __ATOMIC_RELAXED);
    g.epoch = raise_to > g.epoch ? raise_to : g.epoch;
    ret->map = NULL;
    ret->lower = NULL;
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
    if (rc == 0 && (ret->welcome.flags & YK_HELLO_MAP)) {
        rc = map_granted(c, fd, &ret->welcome, &ret->map, &ret->lower, err);
        for (unsigned i = 0; i < YK_DIAL_FDS; i++)
            if (ret->welcome.fds[i] >= 0)
                close(ret->welcome.fds[i]);
    }
    if (rc == 0 && socket_prepare(fd) < 0)
        rc = yk_err_set(err, -YK_EIO, "setting up the socket: %s", strerror(errno));
    if (rc == 0)
        rc = yk_far_find(c, &ret->welcome, deadline_ns, &ret->far, err);
    if (rc < 0) {
        close(fd);
        yk_map_close(ret->map, 0);
        yk_map_lower_close(ret->lower);
        return rc;
    }
    return fd;
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

static void map_replace(yk_client *c, struct yk_map *map) {
    struct yk_map *old = c->map;
    for (unsigned i = 0; old != NULL && i < YK_COUNTERS; i++)
        yk_client_count(c, NULL, i, __atomic_load_n(&old->page->counters[i], __ATOMIC_RELAXED));
    if (map != NULL)
        map->older = old;
    if (old == NULL && map == NULL)
        return;
    if (map == NULL) { /* mapping is granted no more: kept for closing, behind nobody's look */
        old->older = c->unmapped;
        c->unmapped = old;
    }
    __atomic_store_n(&c->map, map, __ATOMIC_SEQ_CST);
    c->heard = 0;
    forget_places(c);
    if (old != NULL)
        yk_map_retire(old);
}

static void adopt(yk_client *c, int fd, const struct fresh *fresh) {
    const struct yk_welcome *w = &fresh->welcome;
    int mapped = (w->flags & YK_HELLO_MAP) != 0;
    c->reconnects += c->conn_number > 0;
    c->conn_number++;
    c->fd = fd;
    c->welcome = *w;
    c->backoff_ns = 0;
    c->state = YK_CONN_UP;
    __atomic_store_n(&c->max_block_bytes, w->max_block_bytes, __ATOMIC_RELAXED);
    if (w->ns != YK_NO_NS) /* else what was asked for goes on to count (R9) */
        __atomic_store_n(&c->epoch, w->epoch, __ATOMIC_RELEASE);
    if (fresh->map != NULL || !mapped)
        map_replace(c, fresh->map);
    else
        yk_map_lower_set(c->map, fresh->lower);
    yk_far_adopt(c, &fresh->far);
    if (c->map == NULL && !c->far.up)
        unreserve(c);
    yk_poll_watch(c);
}

int yk_conn_open(yk_client *c, int embedded_fd, uint64_t deadline_ns, struct yk_err *err) {
    struct fresh fresh;
    for (;;) {
        int fd = establish(c, embedded_fd, deadline_ns, &fresh, err);
        if (fd >= 0) {
            pthread_mutex_lock(&c->lock);
            adopt(c, fd, &fresh);
            pthread_mutex_unlock(&c->lock);
            return 0;
        }
        /* Many clients open at once: the listener's queue is full. Anything else is an answer. */
        if (fd != -YK_EAGAIN || embedded_fd >= 0)
            return fd;
        backoff(c);
        if (c->retry_at_ns >= deadline_ns)
            return fd;
        (void)yk_dial_wait(-1, 0, c->retry_at_ns);
    }
}

static void reconnect(yk_client *c, uint64_t deadline_ns) {
    struct fresh fresh;
    struct yk_err err = {0, ""};
    int old_fd = c->fd;
    c->fd = -1;
    c->connecting = 1;
    pthread_mutex_unlock(&c->lock);
    if (old_fd >= 0)
        close(old_fd);
    int fd = establish(c, -1, deadline_ns, &fresh, &err);
    pthread_mutex_lock(&c->lock);
    c->connecting = 0;
    if (fd >= 0)
        adopt(c, fd, &fresh);
    else if (is_final(fd))
        yk_conn_dead(c, fd);
    else
        backoff(c);
    wake_all(c);
}

/* ---- loss ------------------------------------------------------------------------------------------- */

/* What becomes of a record whose reply will not come. */
static void unsent(yk_client *c, struct yk_rec *rec) {
    if (rec->op != NULL) {
        rec->state = YK_REC_QUEUED;
        rec->at = 0;
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
    }
    while (!yk_list_empty(&req->recs)) {
        struct yk_rec *rec = YK_LIST_ITEM(req->recs.prev, struct yk_rec, link);
        yk_list_remove(&rec->link);
        unsent(c, rec);
    }
    yk_hold_came(&c->hold, req->ahead_len, req->ahead);
    yk_req_free(c, req);
}

void yk_conn_lost(yk_client *c) {
    if (c->state != YK_CONN_UP)
        return;
    c->state = YK_CONN_DOWN;
    c->retry_at_ns = 0;
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

int yk_conn_step(yk_client *c, struct yk_waiter *w, uint64_t deadline_ns) {
    if (c->state == YK_CONN_DEAD)
        return c->dead_status;
    uint64_t now = yk_now_ns();
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

/* Gives up on a call at its deadline. A place that a late reply grants is kept or given back. */
static void call_forget(yk_client *c, struct yk_call *call) {
    yk_list_remove(&call->link);
    if (call->req == NULL)
        return;
    call->req->call = NULL;
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
    yk_list_add(&c->calls, &call->link);
    while (call->status == YK_PENDING && rc == 0)
        rc = yk_conn_step(c, &w, deadline_ns);
    if (call->status == YK_PENDING) {
        call_forget(c, call);
        call->status = rc;
    }
    yk_conn_unlock(c);
    yk_waiter_fini(&w);
    return call->status;
}
