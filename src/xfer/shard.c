/* SPDX-License-Identifier: Apache-2.0
 *
 * Who turns a shard: a caller that waits, or the shard's own thread; never two at once (record 0009).
 *
 * Others leave messages in the inbox, a stack that anybody pushes to and the owner takes whole. Nobody
 * may be left sleeping beside a message:
 *   the owner     sets `sleeping`, then looks at the inbox, then sleeps;
 *   the sender    pushes, then looks at `sleeping`, and writes to the loop's eventfd if it is set;
 *   who leaves    clears `owned`, then looks at inbox and work, and wakes the thread if there is any;
 *   the sender    pushes, then looks at `owned`, and wakes the thread if it is clear;
 *   the thread    sets `asleep`, then looks at all of that, then sleeps on it;
 *   who wakes it  has made its change, then clears `asleep`, and calls the kernel if it was set.
 * Each pair is two threads that write one word and then read the other's: all of these are sequentially
 * consistent, so that at least one of the two sees the other.
 *
 * A caller that turns for one request alone makes no system call here but the loop's.
 */
#include "xfer/engine_priv.h"
#include "xfer/fault/fault.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES (256u << 10)

/* ---- futex ------------------------------------------------------------------------------------ */

void yk_futex_wait(uint32_t *word, uint32_t value, uint64_t wait_ns) {
    struct timespec ts = {.tv_sec = (time_t)(wait_ns / YK_NS_PER_S),
                          .tv_nsec = (long)(wait_ns % YK_NS_PER_S)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, wait_ns == UINT64_MAX ? NULL : &ts, NULL, 0);
}

void yk_futex_wake(uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* ---- inbox and waking -------------------------------------------------------------------------- */

static int inbox_empty(const struct yk_shard *s) {
    return __atomic_load_n(&s->inbox, __ATOMIC_SEQ_CST) == NULL;
}

static void wake_thread(struct yk_shard *s) {
    if (__atomic_exchange_n(&s->asleep, 0, __ATOMIC_SEQ_CST) == 1)
        yk_futex_wake(&s->asleep, 1);
}

void yk_shard_post(struct yk_shard *s, struct yk_msg *m) {
    struct yk_msg *head = __atomic_load_n(&s->inbox, __ATOMIC_RELAXED);
    do
        m->next = head;
    while (!__atomic_compare_exchange_n(&s->inbox, &head, m, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
}

void yk_shard_kick(struct yk_shard *s) {
    if (!inbox_empty(s)) /* else its owner has seen it already */
        yk_shard_nudge(s);
    if (__atomic_load_n(&s->owned, __ATOMIC_SEQ_CST) == 0)
        wake_thread(s);
}

void yk_shard_nudge(struct yk_shard *s) {
    if (__atomic_load_n(&s->sleeping, __ATOMIC_SEQ_CST) != 0)
        yk_loop_wake(s->loop);
}

void yk_shard_wide(struct yk_shard *s, int more) {
    __atomic_store_n(&s->wide, s->wide + (uint32_t)more, __ATOMIC_SEQ_CST);
    if (s->wide > 0)
        wake_thread(s); /* it sleeps for a while now, not for ever */
}

/* Oldest first: it is a stack. */
static void drain(struct yk_shard *s) {
    if (__atomic_load_n(&s->inbox, __ATOMIC_RELAXED) == NULL)
        return;
    struct yk_msg *m = __atomic_exchange_n(&s->inbox, NULL, __ATOMIC_SEQ_CST), *first = NULL;
    while (m != NULL) {
        struct yk_msg *next = m->next;
        m->next = first;
        first = m;
        m = next;
    }
    while (first != NULL) {
        struct yk_msg *next = first->next;
        first->fn(s, first);
        first = next;
    }
}

/* ---- turning ----------------------------------------------------------------------------------- */

int yk_shard_try_own(struct yk_shard *s) {
    uint32_t nobody = 0;
    return __atomic_compare_exchange_n(&s->owned, &nobody, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static int has_work(struct yk_shard *s) {
    return !inbox_empty(s) || __atomic_load_n(&s->work, __ATOMIC_RELAXED) > 0;
}

void yk_shard_release(struct yk_shard *s) {
    __atomic_store_n(&s->owned, 0, __ATOMIC_SEQ_CST);
    if (has_work(s))
        wake_thread(s);
}

static int ended(const uint32_t *done) {
    return done != NULL && __atomic_load_n(done, __ATOMIC_ACQUIRE) == 2;
}

/* For a caller that polls: looks at the lanes for poll_us. 1: there is something to see to. */
static int look(struct yk_shard *s, const uint32_t *done) {
    uint64_t end = yk_now_ns() + s->engine->opts.poll_us * YK_NS_PER_US;
    do {
        struct yk_list *next;
        for (struct yk_list *at = s->active.next; at != &s->active; at = next) {
            struct yk_route *t = yk_list_of(at, struct yk_route, active);
            next = at->next;
            for (uint32_t i = 0; i < t->rail_count; i++)
                for (uint32_t k = 0; k < t->rails[i]->link_count; k++) {
                    struct yk_link *l = &t->rails[i]->links[k];
                    if (l->state == YK_LINK_UP && l->count > 0 && l->lane->ops->look != NULL)
                        l->lane->ops->look(l->lane);
                }
        }
        if (ended(done) || s->changed || !inbox_empty(s))
            return 1;
    } while (yk_now_ns() < end);
    return 0;
}

static void turn_loop(struct yk_shard *s, uint64_t wait_ns) {
    if (wait_ns > 0) {
        __atomic_store_n(&s->sleeping, 1, __ATOMIC_SEQ_CST);
        if (!inbox_empty(s))
            wait_ns = 0;
    }
    yk_loop_turn(s->loop, wait_ns);
    __atomic_store_n(&s->sleeping, 0, __ATOMIC_RELAXED);
}

void yk_shard_turn_until(struct yk_shard *s, const uint32_t *done, uint64_t until_ns) {
    for (;;) {
        drain(s);
        int more = yk_sched_step(s);
        if (ended(done) || (s->work == 0 && inbox_empty(s)))
            return;
        if (done == NULL && __atomic_load_n(&s->calls, __ATOMIC_RELAXED) != NULL)
            return;
        uint64_t wait = more ? 0 : UINT64_MAX;
        if (until_ns != UINT64_MAX) {
            uint64_t now = yk_now_ns();
            if (now >= until_ns)
                return;
            wait = more ? 0 : until_ns - now;
        }
        if (!more && done != NULL && s->engine->opts.poll_us > 0 && look(s, done))
            wait = 0;
        if (!ended(done))
            turn_loop(s, wait);
        if (ended(done))
            return;
    }
}

/* ---- calls ------------------------------------------------------------------------------------- */

struct call {
    struct yk_msg msg;
    void (*fn)(struct yk_shard *s, void *arg);
    void *arg;
    uint32_t done; /* atomic, futex */
};

/* The caller's stack is gone as soon as it has seen `done`: the word's address alone is used after. */
static void run_call(struct yk_shard *s, struct yk_msg *m) {
    struct call *c = (struct call *)m;
    c->fn(s, c->arg);
    uint32_t *done = &c->done;
    __atomic_store_n(done, 1, __ATOMIC_RELEASE);
    yk_futex_wake(done, 1);
}

void yk_shard_call(struct yk_shard *s, void (*fn)(struct yk_shard *, void *), void *arg) {
    if (yk_shard_try_own(s)) {
        fn(s, arg);
        yk_shard_release(s);
        return;
    }
    struct call c = {.msg = {.fn = run_call}, .fn = fn, .arg = arg};
    yk_shard_post(s, &c.msg);
    yk_shard_kick(s);
    while (__atomic_load_n(&c.done, __ATOMIC_ACQUIRE) == 0) {
        if (yk_shard_try_own(s)) { /* its thread may be the one that waits here, in a callback */
            drain(s);
            yk_shard_release(s);
        } else {
            yk_futex_wait(&c.done, 0, YK_NS_PER_MS);
        }
    }
}

void yk_shard_callback(struct yk_shard *s, struct yk_batch *b) {
    b->next = __atomic_load_n(&s->calls, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&s->calls, &b->next, b, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED))
        continue;
    wake_thread(s);
}

static void make_callbacks(struct yk_shard *s) {
    struct yk_batch *b = __atomic_exchange_n(&s->calls, NULL, __ATOMIC_SEQ_CST), *first = NULL;
    while (b != NULL) {
        struct yk_batch *next = b->next;
        b->next = first;
        first = b;
        b = next;
    }
    while (first != NULL) {
        struct yk_batch *next = first->next, *freed;
        yk_xfer_batch handle = yk_batch_handle(first);
        first->fn(first->user, handle, first->status);
        if (yk_batch_unpublish(s->engine->batches, handle, &freed) == 0)
            yk_batch_put(freed);
        yk_batch_put(first);
        first = next;
    }
}

/* ---- the thread -------------------------------------------------------------------------------- */

static void sleep_until_needed(struct yk_shard *s) {
    __atomic_store_n(&s->asleep, 1, __ATOMIC_SEQ_CST);
    int mine = has_work(s) && __atomic_load_n(&s->owned, __ATOMIC_SEQ_CST) == 0;
    if (mine || __atomic_load_n(&s->calls, __ATOMIC_SEQ_CST) != NULL ||
        __atomic_load_n(&s->stop, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&s->asleep, 0, __ATOMIC_SEQ_CST);
        return;
    }
    if (__atomic_load_n(&s->wide, __ATOMIC_SEQ_CST) > 0) {
        yk_futex_wait(&s->asleep, 1, s->engine->lanes_idle_ns);
        __atomic_store_n(&s->asleep, 0, __ATOMIC_SEQ_CST);
        return;
    }
    while (__atomic_load_n(&s->asleep, __ATOMIC_SEQ_CST) == 1)
        yk_futex_wait(&s->asleep, 1, UINT64_MAX);
}

static void narrow(struct yk_shard *s) {
    if (__atomic_load_n(&s->wide, __ATOMIC_RELAXED) == 0 || !yk_shard_try_own(s))
        return;
    yk_rails_narrow(s);
    yk_shard_release(s);
}

static void *thread_main(void *arg) {
    struct yk_shard *s = arg;
    for (;;) {
        make_callbacks(s);
        if (has_work(s) && yk_shard_try_own(s)) {
            yk_shard_turn_until(s, NULL, UINT64_MAX);
            yk_shard_release(s);
        } else if (__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST)) {
            make_callbacks(s);
            return NULL;
        } else {
            sleep_until_needed(s);
            narrow(s);
        }
    }
}

static int start_thread(struct yk_shard *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the program's threads' */
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int rc = pthread_create(&s->thread, &attr, thread_main, s);
    if (rc == EINVAL) /* the program's thread-local memory does not fit into such a stack */
        rc = pthread_create(&s->thread, NULL, thread_main, s);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) {
        char name[16];
        snprintf(name, sizeof(name), "yk-xfer-%u", s->number % 1000u);
        pthread_setname_np(s->thread, name);
        s->thread_runs = 1;
    }
    return rc;
}

/* ---- life -------------------------------------------------------------------------------------- */

static const struct yk_shard_events events = {
    .slice_done = yk_slice_ended, .lane_up = yk_lane_is_up, .lane_down = yk_lane_is_down};

static int open_xports(struct yk_shard *s, const struct yk_xport_ops *const *xports,
                       struct yk_err *err) {
    const struct yk_xfer_opts *o = &s->engine->opts;
    for (uint32_t i = 0; xports[i] != NULL && s->xport_count < YK_XPORTS_MAX; i++) {
        if ((o->transports & xports[i]->bit) == 0)
            continue;
        struct yk_xport **at = &s->xports[s->xport_count];
        int rc = o->fault != NULL ? yk_fault_open(xports[i], o->fault, &s->env, at, err)
                                  : xports[i]->open(&s->env, at, err);
        if (rc < 0)
            return rc;
        s->xport_count++;
    }
    return 0;
}

int yk_shard_new(struct yk_xfer *engine, uint32_t number, const struct yk_xport_ops *const *xports,
                 struct yk_shard **ret_shard, struct yk_err *err) {
    struct yk_shard *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a shard");
    s->number = number;
    s->engine = engine;
    s->netlink.fd = -1;
    yk_list_init(&s->active);
    yk_list_init(&s->parts);
    if (getrandom(&s->random, sizeof(s->random), GRND_NONBLOCK) < 0)
        s->random = yk_now_ns();
    s->random |= 1;
    int rc = yk_loop_new(&s->loop, err);
    s->env = (struct yk_shard_env){.loop = s->loop,
                                   .events = &events,
                                   .registry = engine->registry,
                                   .opts = &engine->opts,
                                   .incarnation = engine->self.incarnation,
                                   .rails = engine->opts.rails};
    if (rc == 0)
        rc = open_xports(s, xports, err);
    if (rc == 0) {
        yk_health_open(s);
        int e = start_thread(s);
        if (e != 0)
            rc = yk_err_set(err, e == EAGAIN ? -YK_ELIMIT : -YK_ENOMEM,
                            "no thread for a shard (errno %d)", e);
    }
    if (rc < 0) {
        yk_shard_free(s);
        return rc;
    }
    *ret_shard = s;
    return 0;
}

void yk_shard_free(struct yk_shard *s) {
    if (s == NULL)
        return;
    if (s->thread_runs) {
        __atomic_store_n(&s->stop, 1, __ATOMIC_SEQ_CST);
        wake_thread(s);
        pthread_join(s->thread, NULL);
    }
    for (uint32_t i = 0; i < s->route_cap; i++)
        yk_route_free(s->routes[i]);
    free(s->routes);
    for (uint32_t i = 0; i < s->xport_count; i++)
        s->xports[i]->ops->close(s->xports[i]);
    if (s->loop != NULL)
        yk_health_close(s);
    yk_loop_free(s->loop);
    yk_pieces_free(s);
    free(s);
}
