/* SPDX-License-Identifier: Apache-2.0
 *
 * Fetching ended operations: yk_poll, yk_cancel, yk_fd.
 *
 * yk_fd is an epoll descriptor over the socket (replies to read), an eventfd (operations that have
 * ended, or whose payload waits to be moved, without the socket being readable) and a timerfd (the
 * next deadline, or the next attempt to reconnect). The latter two are brought up to date whenever a
 * call leaves the lock, and cost a system call only when they change. Without yk_fd the eventfd
 * still wakes a thread that sits in yk_poll while another ends something.
 *
 * Threads: any.
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "client/fail.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* What a yk_poll may spend on a reconnect that it does not wait for, or on the engine's, once a back-off. */
#define RECONNECT_NS (20 * YK_NS_PER_MS)

void yk_poll_ended(yk_client *c, yk_op *op) {
    op->priv[0] = 0;
    op->priv[1] = 0;
    if (c->ended_last != NULL)
        c->ended_last->priv[1] = (uint64_t)(uintptr_t)op;
    else
        c->ended_first = op;
    c->ended_last = op;
    yk_conn_wake_poller(c);
}

static size_t take_ended(yk_client *c, yk_op **ret_ops, size_t max) {
    size_t n = 0;
    while (n < max && c->ended_first != NULL) {
        yk_op *op = c->ended_first;
        c->ended_first = (yk_op *)(uintptr_t)op->priv[1];
        if (c->ended_first == NULL)
            c->ended_last = NULL;
        op->priv[1] = 0;
        ret_ops[n++] = op;
    }
    c->inflight -= (uint32_t)n;
    return n;
}

/* ---- yk_fd -------------------------------------------------------------------------------------------------- */

static void sync_event(yk_client *c) {
    int want = c->ended_first != NULL || !yk_list_empty(&c->async_runnable);
    uint64_t n = 1;
    if (want && !c->event_set && (c->epoll_fd >= 0 || c->rx.kickable))
        c->event_set = write(c->event_fd, &n, sizeof(n)) == (ssize_t)sizeof(n);
    else if (!want && c->event_set && read(c->event_fd, &n, sizeof(n)) != 0)
        c->event_set = 0;
}

static void sync_timer(yk_client *c) {
    uint64_t at = UINT64_MAX;
    for (struct yk_link *l = c->async_recs.next; l != &c->async_recs; l = l->next) {
        uint64_t d = YK_LIST_ITEM(l, struct yk_rec, owner_link)->deadline_ns;
        at = d < at ? d : at;
        if (at <= c->timer_at_ns)
            break; /* armed for then, or before */
    }
    if (at != UINT64_MAX && c->state == YK_CONN_DOWN && !c->connecting && c->retry_at_ns < at)
        at = c->retry_at_ns + 1;
    if (at == c->timer_at_ns || (at > c->timer_at_ns && c->timer_at_ns > yk_now_ns()))
        return; /* it fires early at most */
    struct itimerspec its = {{0, 0}, {0, 0}};
    if (at != UINT64_MAX) {
        its.it_value.tv_sec = (time_t)(at / YK_NS_PER_S);
        its.it_value.tv_nsec = (long)(at % YK_NS_PER_S);
    }
    timerfd_settime(c->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
    c->timer_at_ns = at;
}

static void sync_socket(yk_client *c) {
    int out = c->state == YK_CONN_UP && yk_tx_pending(c);
    if (c->state != YK_CONN_UP || out == c->epoll_out)
        return;
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0u)};
    epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
    c->epoll_out = out;
}

void yk_poll_sync(yk_client *c) {
    sync_event(c);
    if (c->epoll_fd < 0)
        return;
    sync_timer(c);
    sync_socket(c);
}

static int watch(yk_client *c, int fd) {
    struct epoll_event ev = {.events = EPOLLIN};
    return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

void yk_poll_watch(yk_client *c) {
    c->epoll_out = 0;
    if (c->epoll_fd >= 0)
        (void)watch(c, c->fd); /* a closed one has left the set by itself */
}

int yk_fd(yk_client *c) {
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&c->lock);
    if (c->epoll_fd < 0) {
        c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        c->epoll_fd = c->timer_fd >= 0 ? epoll_create1(EPOLL_CLOEXEC) : -1;
        if (c->epoll_fd < 0 || watch(c, c->timer_fd) < 0 || watch(c, c->event_fd) < 0 ||
            (c->state == YK_CONN_UP && watch(c, c->fd) < 0))
            rc = yk_fail(-yk_status_from_errno(errno), "yk_fd: %s", strerror(errno));
        if (rc < 0) {
            if (c->epoll_fd >= 0)
                close(c->epoll_fd);
            if (c->timer_fd >= 0)
                close(c->timer_fd);
            c->epoll_fd = c->timer_fd = -1;
        }
    }
    if (rc == 0)
        rc = c->epoll_fd;
    yk_conn_unlock(c);
    return rc;
}

/* ---- yk_poll, yk_cancel ------------------------------------------------------------------------------------ */

static void run_async(yk_client *c) {
    yk_recs_ready(c, &c->async_runnable, NULL);
    yk_conn_flush(c);
}

/* One look without waiting. */
static void poll_now(yk_client *c, struct yk_waiter *w) {
    if (c->state == YK_CONN_UP && !c->rx.busy)
        yk_rx_pump(c, 0, 0);
    else if (c->state == YK_CONN_DOWN && yk_now_ns() >= c->retry_at_ns)
        /* A connect to a local socket is at once; what takes longer is tried again. */
        (void)yk_conn_step(c, w, yk_now_ns() + RECONNECT_NS);
    yk_far_tend(c, RECONNECT_NS);
    (void)yk_recs_expire(c, &c->async_recs, yk_now_ns());
    run_async(c);
}

static void poll_wait(yk_client *c, struct yk_waiter *w, uint64_t deadline_ns) {
    for (;;) {
        uint64_t next = yk_recs_expire(c, &c->async_recs, yk_now_ns());
        run_async(c);
        if (c->ended_first != NULL)
            return;
        yk_far_tend(c, RECONNECT_NS);
        sync_event(c); /* a stale event would end every wait at once */
        next = next < deadline_ns ? next : deadline_ns;
        if (c->state == YK_CONN_DEAD && !yk_list_empty(&c->async_recs)) {
            if (yk_now_ns() >= deadline_ns)
                return;
            yk_conn_sleep(c, w, next); /* the engine has yet to let go of what it moves */
        } else if (yk_conn_step(c, w, next) < 0 &&
                   (yk_now_ns() >= deadline_ns || c->state == YK_CONN_DEAD)) {
            return;
        }
    }
}

int yk_poll(yk_client *c, yk_op **ret_ops, size_t max, uint32_t timeout_ms) {
    struct yk_waiter w;
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (ret_ops == NULL || max == 0)
        return yk_fail(-YK_EINVAL, "yk_poll with room for no operation");
    max = max < INT32_MAX ? max : INT32_MAX;
    yk_waiter_init(&w);
    w.poll = 1;
    uint64_t deadline_ns = yk_now_ns() + timeout_ms * YK_NS_PER_MS;
    pthread_mutex_lock(&c->lock);
    if (c->ended_first == NULL || !yk_list_empty(&c->async_runnable))
        run_async(c);
    if (c->ended_first == NULL && timeout_ms == 0)
        poll_now(c, &w);
    else if (c->ended_first == NULL)
        poll_wait(c, &w, deadline_ns);
    int n = (int)take_ended(c, ret_ops, max);
    if (n == 0 && c->state == YK_CONN_DEAD && c->inflight == 0)
        n = yk_fail(c->dead_status, "the connection is lost for good");
    yk_conn_unlock(c);
    yk_waiter_fini(&w);
    return n;
}

int yk_cancel(yk_client *c, yk_op *op) {
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (op == NULL)
        return yk_fail(-YK_EINVAL, "yk_cancel of NULL");
    pthread_mutex_lock(&c->lock);
    uint64_t i = op->priv[0];
    struct yk_rec *rec = i > 0 && i <= c->inflight_max + YK_RECS_SPARE ? &c->recs[i - 1] : NULL;
    if (rec != NULL && rec->op == op && rec->batch == NULL)
        yk_rec_end(c, rec, -YK_ECANCELED);
    yk_conn_unlock(c);
    return 0;
}
