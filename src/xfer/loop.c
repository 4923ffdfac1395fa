/* SPDX-License-Identifier: Apache-2.0
 *
 * See loop.h. Watches are found by slot, and each registration has a number of its own: an event that
 * epoll had ready when its watch was taken back, in the same round, finds another number and is dropped.
 * Timers are a binary heap.
 *
 * Threads: as loop.h says. `woken` pairs with itself: see wake_seen.
 */
#include "xfer/loop.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 64

struct slot {
    struct yk_watch *w; /* NULL: free */
    uint32_t serial;
    uint32_t next_free;
};

struct yk_loop {
    int epoll, wake_fd;
    int woken; /* atomic: a wake-up that no turn has answered yet */
    struct slot *slots;
    uint32_t slot_cap, free_slot; /* + 1; 0 = none */
    struct yk_timer **heap;
    uint32_t timer_count, timer_cap;
};

/* ---- descriptors ------------------------------------------------------------------------------ */

int yk_loop_new(struct yk_loop **ret_loop, struct yk_err *err) {
    struct yk_loop *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for an event loop");
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data = {.u64 = UINT64_MAX}};
    if (l->epoll < 0 || l->wake_fd < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake_fd, &ev) < 0) {
        int e = errno;
        yk_loop_free(l);
        return yk_err_set(err, e == EMFILE || e == ENFILE ? -YK_ELIMIT : -YK_EIO,
                          "no descriptors for an event loop (errno %d): raise the limit of open files",
                          e);
    }
    *ret_loop = l;
    return 0;
}

void yk_loop_free(struct yk_loop *l) {
    if (l == NULL)
        return;
    if (l->epoll >= 0)
        close(l->epoll);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    free(l->slots);
    free(l->heap);
    free(l);
}

static int slots_grow(struct yk_loop *l) {
    uint32_t cap = l->slot_cap == 0 ? 16 : l->slot_cap * 2;
    struct slot *more = realloc(l->slots, cap * sizeof(*more));
    if (more == NULL)
        return -YK_ENOMEM;
    l->slots = more;
    for (uint32_t i = cap; i-- > l->slot_cap;) {
        more[i] = (struct slot){.next_free = l->free_slot};
        l->free_slot = i + 1;
    }
    l->slot_cap = cap;
    return 0;
}

static uint64_t tag(const struct yk_loop *l, uint32_t slot) {
    return (uint64_t)l->slots[slot].serial << 32 | slot;
}

int yk_loop_watch(struct yk_loop *l, struct yk_watch *w) {
    if (l->free_slot == 0 && slots_grow(l) < 0)
        return -YK_ENOMEM;
    uint32_t slot = l->free_slot - 1;
    struct epoll_event ev = {.events = w->events, .data = {.u64 = tag(l, slot)}};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, w->fd, &ev) < 0)
        return errno == ENOSPC || errno == ENOMEM ? -YK_ELIMIT : -YK_EIO;
    l->free_slot = l->slots[slot].next_free;
    l->slots[slot].w = w;
    w->slot = slot;
    return 0;
}

void yk_loop_rewatch(struct yk_loop *l, struct yk_watch *w, uint32_t events) {
    if (w->events == events)
        return;
    w->events = events;
    struct epoll_event ev = {.events = events, .data = {.u64 = tag(l, w->slot)}};
    (void)epoll_ctl(l->epoll, EPOLL_CTL_MOD, w->fd, &ev);
}

void yk_loop_unwatch(struct yk_loop *l, struct yk_watch *w) {
    if (w->slot >= l->slot_cap || l->slots[w->slot].w != w)
        return;
    struct epoll_event none = {0};
    (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, &none);
    struct slot *s = &l->slots[w->slot];
    s->w = NULL;
    s->serial++;
    s->next_free = l->free_slot;
    l->free_slot = w->slot + 1;
}

/* ---- timers ----------------------------------------------------------------------------------- */

static void heap_set(struct yk_loop *l, uint32_t at, struct yk_timer *t) {
    l->heap[at] = t;
    t->slot = at + 1;
}

static void heap_up(struct yk_loop *l, uint32_t at, struct yk_timer *t) {
    while (at > 0 && l->heap[(at - 1) / 2]->due_ns > t->due_ns) {
        heap_set(l, at, l->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(l, at, t);
}

static void heap_down(struct yk_loop *l, uint32_t at, struct yk_timer *t) {
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= l->timer_count)
            break;
        if (child + 1 < l->timer_count && l->heap[child + 1]->due_ns < l->heap[child]->due_ns)
            child++;
        if (l->heap[child]->due_ns >= t->due_ns)
            break;
        heap_set(l, at, l->heap[child]);
        at = child;
    }
    heap_set(l, at, t);
}

static void timer_remove(struct yk_loop *l, struct yk_timer *t) {
    uint32_t at = t->slot - 1;
    struct yk_timer *last = l->heap[--l->timer_count];
    t->slot = 0;
    if (last == t)
        return;
    heap_down(l, at, last);
    heap_up(l, last->slot - 1, last);
}

int yk_loop_timer(struct yk_loop *l, struct yk_timer *t, uint64_t due_ns) {
    if (t->slot != 0)
        timer_remove(l, t);
    t->due_ns = due_ns;
    if (due_ns == 0)
        return 0;
    if (l->timer_count == l->timer_cap) {
        uint32_t cap = l->timer_cap == 0 ? 16 : l->timer_cap * 2;
        struct yk_timer **more = realloc(l->heap, cap * sizeof(struct yk_timer *));
        if (more == NULL) {
            t->due_ns = 0;
            return -YK_ENOMEM;
        }
        l->heap = more;
        l->timer_cap = cap;
    }
    heap_up(l, l->timer_count++, t);
    return 0;
}

static int timers_run(struct yk_loop *l) {
    int calls = 0;
    uint64_t now = l->timer_count > 0 ? yk_now_ns() : 0;
    while (l->timer_count > 0 && l->heap[0]->due_ns <= now) {
        struct yk_timer *t = l->heap[0];
        timer_remove(l, t);
        t->due_ns = 0;
        t->fn(t);
        calls++;
    }
    return calls;
}

/* ---- a round ---------------------------------------------------------------------------------- */

void yk_loop_wake(struct yk_loop *l) {
    if (__atomic_exchange_n(&l->woken, 1, __ATOMIC_SEQ_CST) != 0)
        return; /* somebody did, and no turn has seen it yet */
    uint64_t one = 1;
    while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

static void wake_seen(struct yk_loop *l) {
    uint64_t n;
    while (read(l->wake_fd, &n, sizeof(n)) < 0 && errno == EINTR)
        continue;
    /* After the read: a wake-up between the two writes to the descriptor again. What the waker had put
     * down before is seen by what the turn's caller looks at next. */
    __atomic_store_n(&l->woken, 0, __ATOMIC_SEQ_CST);
}

/* epoll_wait knows milliseconds; epoll_pwait2 nanoseconds, but not on every kernel. Rounded up. */
static int wait_ms(const struct yk_loop *l, uint64_t wait_ns) {
    if (wait_ns == 0)
        return 0;
    if (l->timer_count > 0) {
        uint64_t now = yk_now_ns(), due = l->heap[0]->due_ns;
        uint64_t left = due > now ? due - now : 0;
        wait_ns = left < wait_ns ? left : wait_ns;
    }
    if (wait_ns == UINT64_MAX)
        return -1;
    uint64_t ms = (wait_ns + YK_NS_PER_MS - 1) / YK_NS_PER_MS;
    return ms < 3600000u ? (int)ms : 3600000;
}

int yk_loop_turn(struct yk_loop *l, uint64_t wait_ns) {
    struct epoll_event events[EVENTS_MAX];
    int calls = 0;
    int n = epoll_wait(l->epoll, events, EVENTS_MAX, wait_ms(l, wait_ns));
    for (int i = 0; i < n; i++) {
        uint64_t t = events[i].data.u64;
        if (t == UINT64_MAX) {
            wake_seen(l);
            continue;
        }
        uint32_t slot = (uint32_t)t;
        struct yk_watch *w = slot < l->slot_cap ? l->slots[slot].w : NULL;
        if (w == NULL || tag(l, slot) != t)
            continue;
        w->fn(w, events[i].events);
        calls++;
    }
    return calls + timers_run(l);
}
