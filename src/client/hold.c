/* SPDX-License-Identifier: Apache-2.0
 *
 * Reservations held ahead (src/client/hold.h).
 */
#include "client/hold.h"

#include <string.h>

#include <yolk/status.h>

/* Puts after which an unused length gives its places back; see the header. */
#define IDLE_PUTS 64u
/* Places ahead of a length that is put one at a time: enough for a pipeline of a few. */
#define TARGET_FIRST 8u
#define TARGET_MAX   512u

void yk_hold_init(struct yk_hold *h, uint64_t limit_bytes) {
    memset(h, 0, sizeof(*h));
    h->limit_bytes = limit_bytes;
    for (uint32_t i = 0; i + 1 < YK_HOLD_PLACES; i++)
        h->places[i].next = i + 2;
    h->free = 1;
}

static struct yk_hold_length *find(struct yk_hold *h, uint64_t len) {
    for (uint32_t i = 0; i < YK_HOLD_LENGTHS; i++)
        if (h->lengths[i].len == len)
            return &h->lengths[i];
    return NULL;
}

static uint32_t pop(struct yk_hold *h, uint32_t *list) {
    uint32_t p = *list;
    *list = h->places[p - 1].next;
    return p;
}

static void push(struct yk_hold *h, uint32_t *list, uint32_t p) {
    h->places[p - 1].next = *list;
    *list = p;
}

static void make_stale(struct yk_hold *h, struct yk_hold_length *l) {
    while (l->first != 0)
        push(h, &h->stale, pop(h, &l->first));
    h->bytes -= l->len * l->held;
    l->held = 0;
}

/* Gives back what no recent put used. Called once in IDLE_PUTS puts. */
static void sweep(struct yk_hold *h) {
    for (uint32_t i = 0; i < YK_HOLD_LENGTHS; i++) {
        struct yk_hold_length *l = &h->lengths[i];
        if (l->held > 0 && l->used_at + IDLE_PUTS < h->puts)
            make_stale(h, l);
    }
}

/* A row for a new length: a free one, or that of the length that was put longest ago. NULL when
 * every row waits for an answer. */
static struct yk_hold_length *admit(struct yk_hold *h, uint64_t len) {
    struct yk_hold_length *oldest = NULL;
    for (uint32_t i = 0; i < YK_HOLD_LENGTHS; i++) {
        struct yk_hold_length *l = &h->lengths[i];
        if (l->coming == 0 && (oldest == NULL || l->used_at < oldest->used_at))
            oldest = l;
    }
    if (oldest == NULL)
        return NULL;
    make_stale(h, oldest);
    memset(oldest, 0, sizeof(*oldest));
    oldest->len = len;
    oldest->target = TARGET_FIRST;
    return oldest;
}

int yk_hold_take(struct yk_hold *h, uint64_t len, struct yk_rsv *ret_rsv) {
    h->puts++;
    struct yk_hold_length *l = find(h, len);
    if (l == NULL)
        l = admit(h, len);
    if (h->puts % IDLE_PUTS == 0)
        sweep(h);
    if (l == NULL)
        return 0;
    l->used_at = h->puts;
    if (l->puts < 3)
        l->puts++;
    if (l->first == 0) {
        /* Ran dry although it was held for: more are under way at a time than thought. */
        if (l->puts > 2 && l->target < TARGET_MAX)
            l->target *= 2;
        return 0;
    }
    uint32_t p = pop(h, &l->first);
    l->held--;
    h->bytes -= l->len;
    *ret_rsv = h->places[p - 1].rsv;
    push(h, &h->free, p);
    return 1;
}

uint32_t yk_hold_wish(struct yk_hold *h, uint64_t len, uint32_t max) {
    struct yk_hold_length *l = find(h, len);
    if (l == NULL || l->puts < 2 || h->bytes >= h->limit_bytes)
        return 0;
    uint32_t have = l->held + l->coming;
    /* In lumps: asking for one place with every commit costs more than for four with every fourth. */
    if (have > l->target / 2)
        return 0;
    uint64_t n = l->target - have;
    uint64_t room = (h->limit_bytes - h->bytes) / len;
    n = n < room ? n : room;
    n = n < max ? n : max;
    l->coming += (uint32_t)n;
    h->bytes += n * len;
    return (uint32_t)n;
}

void yk_hold_came(struct yk_hold *h, uint64_t len, uint32_t n) {
    struct yk_hold_length *l = find(h, len);
    if (l == NULL)
        return;
    n = n < l->coming ? n : l->coming;
    l->coming -= n;
    h->bytes -= n * len;
}

int yk_hold_keep(struct yk_hold *h, uint64_t len, const struct yk_rsv *rsv) {
    struct yk_hold_length *l = find(h, len);
    if (l == NULL || h->free == 0 || h->bytes + len > h->limit_bytes)
        return -YK_ELIMIT;
    uint32_t p = pop(h, &h->free);
    h->places[p - 1].rsv = *rsv;
    push(h, &l->first, p);
    l->held++;
    h->bytes += len;
    return 0;
}

int yk_hold_stale(struct yk_hold *h, struct yk_rsv *ret_rsv) {
    if (h->stale == 0)
        return 0;
    uint32_t p = pop(h, &h->stale);
    *ret_rsv = h->places[p - 1].rsv;
    push(h, &h->free, p);
    return 1;
}

uint32_t yk_hold_yield(struct yk_hold *h, uint64_t len) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < YK_HOLD_LENGTHS; i++)
        if (h->lengths[i].len != len)
            make_stale(h, &h->lengths[i]);
    for (uint32_t p = h->stale; p != 0; p = h->places[p - 1].next)
        n++;
    return n;
}

void yk_hold_forget(struct yk_hold *h) {
    struct yk_rsv gone;
    for (uint32_t i = 0; i < YK_HOLD_LENGTHS; i++)
        make_stale(h, &h->lengths[i]);
    while (yk_hold_stale(h, &gone))
        continue;
}

uint64_t yk_hold_bytes(const struct yk_hold *h) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < YK_HOLD_LENGTHS; i++)
        bytes += h->lengths[i].len * h->lengths[i].held;
    return bytes;
}
