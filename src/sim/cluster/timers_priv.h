/* SPDX-License-Identifier: Apache-2.0
 *
 * The event queue: one timer for each thing that can have something next, in a binary heap of their numbers.
 *
 * A thing (a prefill instance, a decode instance, a transfer) has at most one next event, which moves whenever links
 * are shared anew. So events are not objects that are made and freed: a timer is set, moved or stopped, O(log n), and
 * nothing is allocated but when transfers outgrow what there ever were. A calendar queue was rejected: times are moved
 * more often than they come due, and there are only about as many as nodes.
 *
 * Of equal times the smaller number comes first: the order is the same in every run. Thread: one.
 */
#ifndef YK_SIM_CLUSTER_TIMERS_PRIV_H
#define YK_SIM_CLUSTER_TIMERS_PRIV_H

#include "base/heap.h"
#include "base/status.h"

#include <stdlib.h>

#define TIMER_OFF UINT32_MAX

struct timers {
    double *at;      /* by number */
    uint32_t *place; /* by number, in the heap, or TIMER_OFF */
    uint32_t *heap;
    uint32_t n, cap;
};

static inline bool timers_above(const void *owner, uint32_t a, uint32_t b) {
    const struct timers *t = (const struct timers *)owner;
    return t->at[a] != t->at[b] ? t->at[a] < t->at[b] : a < b;
}

static inline void timers_placed(void *owner, uint32_t item, uint32_t place) {
    ((struct timers *)owner)->place[item] = place;
}

/* Numbers below cap. -YK_ENOMEM: as before, but still to be finished. */
static inline int timers_room(struct timers *t, uint32_t cap) {
    double *at = (double *)realloc(t->at, cap * sizeof(*at));
    if (at != NULL)
        t->at = at;
    uint32_t *place = (uint32_t *)realloc(t->place, cap * sizeof(*place));
    if (place != NULL)
        t->place = place;
    uint32_t *heap = (uint32_t *)realloc(t->heap, cap * sizeof(*heap));
    if (heap != NULL)
        t->heap = heap;
    if (at == NULL || place == NULL || heap == NULL)
        return -YK_ENOMEM;
    for (; t->cap < cap; t->cap++)
        t->place[t->cap] = TIMER_OFF;
    return 0;
}

static inline void timers_fini(struct timers *t) {
    free(t->at);
    free(t->place);
    free(t->heap);
}

static inline void timers_set(struct timers *t, uint32_t item, double at) {
    uint32_t place = t->place[item] != TIMER_OFF ? t->place[item] : t->n++;
    t->at[item] = at;
    yk_heap_sift(t->heap, t->n, place, item, timers_above, timers_placed, t);
}

static inline void timers_stop(struct timers *t, uint32_t item) {
    uint32_t place = t->place[item];
    if (place == TIMER_OFF)
        return;
    t->place[item] = TIMER_OFF;
    uint32_t last = t->heap[--t->n];
    if (last != item)
        yk_heap_sift(t->heap, t->n, place, last, timers_above, timers_placed, t);
}

#endif
