/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens when a batch has ended: who waits is woken, the event queue gets it, its callback is made.
 *
 * A waiter that turns the shard itself sees `done` there: no futex call is made for it. The word is 1
 * while somebody sleeps, so that nobody is woken who is not there.
 *
 * Threads: any.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the end -------------------------------------------------------------------------------------- */

/* The first error; else a miss; else how the note ended. */
static int status_of(const struct yk_batch *b, int note_status) {
    int miss = 0;
    if (__atomic_load_n(&b->failed, __ATOMIC_RELAXED) == 0)
        return note_status;
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->reqs[i].status < 0)
            return b->reqs[i].status;
        miss |= b->reqs[i].status;
    }
    return miss ? YK_MISS : note_status;
}

static void event_push(struct yk_xfer *e, struct yk_batch *b) {
    uint64_t one = 1;
    pthread_mutex_lock(&e->events);
    int first = e->event_head == NULL;
    b->next = NULL;
    if (first)
        e->event_head = b;
    else
        e->event_tail->next = b;
    e->event_tail = b;
    if (first)
        while (write(e->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
            continue;
    pthread_mutex_unlock(&e->events);
}

void yk_batch_end(struct yk_batch *b, struct yk_shard *s, int note_status) {
    struct yk_xfer *e = b->engine;
    int event = (b->flags & YK_XFER_EVENT) != 0, call = b->fn != NULL;
    b->status = status_of(b, note_status);
    __atomic_fetch_sub(&e->in_flight, yk_batch_charge(b), __ATOMIC_RELAXED);
    if (__atomic_exchange_n(&b->done, 2, __ATOMIC_ACQ_REL) == 1)
        yk_futex_wake(&b->done, INT32_MAX);
    for (uint32_t i = 0; i < b->part_count && b->part_count > 1; i++)
        if (b->parts[i].shard != s)
            yk_shard_nudge(b->parts[i].shard);
    if (call)
        yk_shard_callback(s, b); /* our reference goes with it */
    else if (event)
        event_push(e, b);
    else
        yk_batch_put(b);
}

/* ---- cancel --------------------------------------------------------------------------------------- */

static void on_cancel(struct yk_shard *s, struct yk_msg *m) {
    struct yk_part *p = yk_list_of(m, struct yk_part, cancel);
    struct yk_batch *b = p->batch;
    if (!yk_list_empty(&p->link))
        yk_part_fail(s, p, NULL, NULL, -YK_ECANCELED);
    yk_batch_put(b);
}

void yk_batch_cancel(struct yk_batch *b) {
    __atomic_store_n(&b->doomed, 1, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < b->part_count; i++) {
        struct yk_part *p = &b->parts[i];
        if (__atomic_exchange_n(&p->cancel_sent, 1, __ATOMIC_ACQ_REL))
            continue;
        __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
        p->cancel.fn = on_cancel;
        yk_shard_post(p->shard, &p->cancel);
        yk_shard_kick(p->shard);
    }
}

int yk_xfer_cancel(yk_xfer *e, yk_xfer_batch handle) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    struct yk_batch *b = yk_batch_get(e->batches, handle);
    if (b == NULL)
        return yk_xfer_fail(-YK_ENOENT, "no such batch: it was freed, or never was");
    yk_batch_cancel(b);
    yk_batch_put(b);
    return 0;
}

int yk_xfer_batch_free(yk_xfer *e, yk_xfer_batch handle) {
    struct yk_batch *b;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (yk_batch_unpublish(e->batches, handle, &b) < 0)
        return yk_xfer_fail(-YK_ENOENT, "no such batch: it was freed, or never was");
    __atomic_store_n(&b->freed, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&b->done, __ATOMIC_ACQUIRE) != 2)
        yk_batch_cancel(b);
    yk_batch_put(b);
    return 0;
}

/* ---- waiting -------------------------------------------------------------------------------------- */

static uint64_t left_of(uint64_t until) {
    uint64_t now = until == UINT64_MAX ? 0 : yk_now_ns();
    return until == UINT64_MAX ? UINT64_MAX : until > now ? until - now : 0;
}

/* Sleeps until it has ended, or some time has passed. */
static void sleep_for(struct yk_batch *b, uint64_t until) {
    uint32_t running = 0;
    if (!__atomic_compare_exchange_n(&b->done, &running, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) &&
        running == 2)
        return;
    yk_futex_wait(&b->done, 1, left_of(until));
}

static int ended(const struct yk_batch *b) {
    return __atomic_load_n(&b->done, __ATOMIC_ACQUIRE) == 2;
}

int yk_batch_wait(struct yk_batch *b, uint64_t until) {
    while (!ended(b)) {
        if (left_of(until) == 0) {
            for (uint32_t i = 0; i < b->part_count; i++) /* who only looks must not hold it up */
                yk_shard_kick(b->parts[i].shard);
            return -YK_EAGAIN;
        }
        struct yk_shard *s = b->parts[0].shard;
        if (b->part_count == 1 && yk_shard_try_own(s)) {
            yk_shard_turn_until(s, &b->done, until);
            yk_shard_release(s);
            continue;
        }
        for (uint32_t i = 0; i < b->part_count; i++)
            yk_shard_kick(b->parts[i].shard);
        sleep_for(b, until);
    }
    return b->status;
}

static uint64_t until_of(uint32_t timeout_ms) {
    return timeout_ms == UINT32_MAX ? UINT64_MAX
           : timeout_ms == 0        ? 0
                                    : yk_now_ns() + timeout_ms * YK_NS_PER_MS;
}

int yk_batch_explain(const struct yk_batch *b, int status) {
    uint32_t i = 0;
    if (status >= 0)
        return status;
    if (!ended(b))
        return yk_xfer_fail(status, "the batch has not ended");
    while (i < b->n && b->reqs[i].status != status)
        i++;
    if (i == b->n)
        return yk_xfer_fail(status, "its notification: %s", yk_status_text(status));
    return yk_xfer_fail(status, "request %u of %u: %s after %llu of %llu bytes%s", i, b->n,
                        yk_status_text(status), (unsigned long long)b->reqs[i].done,
                        (unsigned long long)b->reqs[i].len, b->why);
}

int yk_xfer_wait(yk_xfer *e, yk_xfer_batch handle, uint32_t timeout_ms) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    struct yk_batch *b = yk_batch_get(e->batches, handle);
    if (b == NULL)
        return yk_xfer_fail(-YK_ENOENT, "no such batch: it was freed, or never was");
    rc = yk_batch_explain(b, yk_batch_wait(b, until_of(timeout_ms)));
    yk_batch_put(b);
    return rc;
}

int yk_xfer_request_status(yk_xfer *e, yk_xfer_batch handle, size_t index,
                           yk_xfer_status *ret_status) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (ret_status == NULL)
        return yk_xfer_fail(-YK_EINVAL, "ret_status is NULL");
    struct yk_batch *b = yk_batch_get(e->batches, handle);
    if (b == NULL)
        return yk_xfer_fail(-YK_ENOENT, "no such batch: it was freed, or never was");
    if (index >= b->n) {
        rc = yk_xfer_fail(-YK_EINVAL, "request %zu of a batch of %u", index, b->n);
        yk_batch_put(b);
        return rc;
    }
    const struct yk_req *r = &b->reqs[index];
    int over = __atomic_load_n(&r->ended, __ATOMIC_ACQUIRE) != 0;
    *ret_status = (yk_xfer_status){.status = over ? r->status : -YK_EAGAIN,
                                   .attempts = __atomic_load_n(&r->attempts, __ATOMIC_RELAXED),
                                   .bytes = __atomic_load_n(&r->done, __ATOMIC_RELAXED)};
    yk_batch_put(b);
    return 0;
}

/* ---- events --------------------------------------------------------------------------------------- */

static int event_pop(struct yk_xfer *e, yk_xfer_completion *ret, size_t cap) {
    size_t n = 0;
    struct yk_batch *taken = NULL;
    uint64_t count;
    pthread_mutex_lock(&e->events);
    while (n < cap && e->event_head != NULL) {
        struct yk_batch *b = e->event_head;
        e->event_head = b->next;
        if (!__atomic_load_n(&b->freed, __ATOMIC_RELAXED)) /* nobody waits for it, or for its user */
            ret[n++] = (yk_xfer_completion){
                .batch = yk_batch_handle(b), .user = b->user, .status = b->status};
        b->next = taken;
        taken = b;
    }
    if (taken != NULL && e->event_head == NULL)
        while (read(e->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
            continue;
    pthread_mutex_unlock(&e->events);
    while (taken != NULL) {
        struct yk_batch *b = taken;
        taken = b->next;
        yk_batch_put(b);
    }
    return (int)n;
}

int yk_xfer_poll(yk_xfer *e, yk_xfer_completion *ret, size_t cap, uint32_t timeout_ms) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if ((ret == NULL && cap > 0) || cap > INT32_MAX)
        return yk_xfer_fail(-YK_EINVAL, "ret is NULL, or cap too large");
    uint64_t until = until_of(timeout_ms);
    int n = event_pop(e, ret, cap);
    while (n == 0 && cap > 0 && timeout_ms > 0) {
        uint64_t left = left_of(until);
        if (left == 0)
            break;
        struct pollfd p = {.fd = e->event_fd, .events = POLLIN};
        uint64_t ms = left == UINT64_MAX ? 60000 : (left + YK_NS_PER_MS - 1) / YK_NS_PER_MS;
        (void)poll(&p, 1, ms < 60000 ? (int)ms : 60000);
        n = event_pop(e, ret, cap);
    }
    return n;
}

int yk_xfer_event_fd(yk_xfer *e) {
    int rc = yk_xfer_enter(e);
    return rc < 0 ? rc : e->event_fd;
}
