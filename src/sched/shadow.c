/* SPDX-License-Identifier: Apache-2.0
 *
 * lru and s3fifo without payload (shadow_priv.h). The rules of the second are those of s3fifo.c.
 */
#include "sched/shadow_priv.h"

enum { OUT = YK_SHADOW_OUT, SMALL = YK_SHADOW_SMALL, MAIN = YK_SHADOW_MAIN, GHOST = YK_SHADOW_GHOST };

#define FREQ_MAX         3
#define FREQ_TO_PROMOTE  2
#define SMALL_ONE_IN     10
#define GHOST_OF(blocks) ((uint32_t)((uint64_t)(blocks)*9 / 10))

static struct yk_record *record_at(const struct yk_history *h, uint32_t record) {
    return &h->records[record];
}

/* ---- lru -------------------------------------------------------------------------------------- */

void yk_shadow_lru_init(struct yk_shadow_lru *c, struct yk_history *h, uint32_t capacity, uint8_t bit) {
    *c = (struct yk_shadow_lru){.history = h, .oldest = YK_RECORD_NONE, .capacity = capacity, .bit = bit};
}

/* The mark moves on to the next that is in. */
static void pass(struct yk_shadow_lru *c) {
    do
        c->oldest = record_at(c->history, c->oldest)->younger;
    while (c->oldest != YK_RECORD_NONE && !(record_at(c->history, c->oldest)->in & c->bit));
    if (c->oldest != YK_RECORD_NONE)
        yk_history_prefetch_lists(c->history, record_at(c->history, c->oldest)->younger);
}

void yk_shadow_lru_before(struct yk_shadow_lru *c, uint32_t record) {
    if (c->oldest == record)
        pass(c);
}

uint32_t yk_shadow_lru_trim(struct yk_shadow_lru *c) {
    uint32_t gone = c->oldest;
    if (!yk_history_is_over(c->count, c->capacity, c->bytes, c->capacity_bytes))
        return YK_RECORD_NONE;
    yk_shadow_lru_drop(c, gone);
    return gone;
}

uint32_t yk_shadow_lru_after(struct yk_shadow_lru *c, uint32_t record) {
    struct yk_record *r = record_at(c->history, record);
    if (!(r->in & c->bit)) {
        r->in |= c->bit;
        c->count++;
        c->bytes += r->bytes;
    }
    if (c->oldest == YK_RECORD_NONE)
        c->oldest = record;
    return yk_shadow_lru_trim(c);
}

void yk_shadow_lru_drop(struct yk_shadow_lru *c, uint32_t record) {
    struct yk_record *r = record_at(c->history, record);
    if (!(r->in & c->bit))
        return;
    if (c->oldest == record)
        pass(c);
    r->in &= (uint8_t)~c->bit;
    c->count--;
    c->bytes -= r->bytes;
}

void yk_shadow_lru_restore(struct yk_shadow_lru *c, uint32_t record) {
    record_at(c->history, record)->in |= c->bit;
    c->count++;
    c->bytes += record_at(c->history, record)->bytes;
    if (c->oldest == YK_RECORD_NONE)
        c->oldest = record;
}

/* ---- s3fifo ----------------------------------------------------------------------------------- */

void yk_shadow_s3fifo_init(struct yk_shadow_s3fifo *c, struct yk_history *h, uint32_t capacity, uint8_t bit) {
    *c = (struct yk_shadow_s3fifo){.history = h, .capacity = capacity, .bit = bit};
    for (unsigned i = SMALL; i <= GHOST; i++)
        c->queues[i].oldest = c->queues[i].youngest = YK_RECORD_NONE;
}

static void unlink_from_queue(struct yk_shadow_s3fifo *c, struct yk_record *r) {
    if (r->queue == OUT)
        return;
    if (r->queue_older != YK_RECORD_NONE)
        record_at(c->history, r->queue_older)->queue_younger = r->queue_younger;
    else
        c->queues[r->queue].oldest = r->queue_younger;
    if (r->queue_younger != YK_RECORD_NONE)
        record_at(c->history, r->queue_younger)->queue_older = r->queue_older;
    else
        c->queues[r->queue].youngest = r->queue_older;
    c->queues[r->queue].count--;
    r->queue = OUT;
}

/* From whatever queue it is in to the young end of this. */
static void move_to(struct yk_shadow_s3fifo *c, uint32_t record, uint8_t queue) {
    struct yk_record *r = record_at(c->history, record);
    unlink_from_queue(c, r);
    if (queue == OUT)
        return;
    r->queue = queue;
    r->queue_older = c->queues[queue].youngest;
    r->queue_younger = YK_RECORD_NONE;
    if (r->queue_older != YK_RECORD_NONE)
        record_at(c->history, r->queue_older)->queue_younger = record;
    else
        c->queues[queue].oldest = record;
    c->queues[queue].youngest = record;
    c->queues[queue].count++;
}

static uint32_t count_in(const struct yk_shadow_s3fifo *c) {
    return c->queues[SMALL].count + c->queues[MAIN].count;
}

/* The oldest of the queue whose turn it is, or of the other one when that is empty. */
static uint32_t next_out(const struct yk_shadow_s3fifo *c) {
    bool is_small = (uint64_t)c->queues[SMALL].count * SMALL_ONE_IN >= count_in(c);
    uint32_t record = c->queues[is_small ? SMALL : MAIN].oldest;
    return record != YK_RECORD_NONE ? record : c->queues[is_small ? MAIN : SMALL].oldest;
}

/* Promotes it or gives it another round, if its uses earn it one. */
static bool stays(struct yk_shadow_s3fifo *c, uint32_t record) {
    struct yk_record *r = record_at(c->history, record);
    if (r->freq < (r->queue == SMALL ? FREQ_TO_PROMOTE : 1))
        return false;
    r->freq = r->queue == SMALL ? 0 : (uint8_t)(r->freq - 1);
    move_to(c, record, MAIN);
    return true;
}

static void remember(struct yk_shadow_s3fifo *c, uint32_t record) {
    uint32_t limit = GHOST_OF(count_in(c));
    while (c->queues[GHOST].count > 0 && c->queues[GHOST].count >= limit)
        move_to(c, c->queues[GHOST].oldest, OUT);
    move_to(c, record, GHOST);
}

/* The one after the oldest: it is asked for with the next use, or the one after that. */
static void prefetch_next(const struct yk_shadow_s3fifo *c, unsigned queue) {
    uint32_t oldest = c->queues[queue].oldest;
    if (oldest != YK_RECORD_NONE)
        yk_history_prefetch_lists(c->history, record_at(c->history, oldest)->queue_younger);
}

static uint32_t evict(struct yk_shadow_s3fifo *c) {
    uint32_t record;
    do
        record = next_out(c);
    while (stays(c, record));
    struct yk_record *r = record_at(c->history, record);
    if (r->queue == SMALL)
        remember(c, record);
    else
        move_to(c, record, OUT);
    r->in &= (uint8_t)~c->bit;
    c->bytes -= r->bytes;
    prefetch_next(c, SMALL);
    prefetch_next(c, GHOST);
    return record;
}

uint32_t yk_shadow_s3fifo_trim(struct yk_shadow_s3fifo *c) {
    return yk_history_is_over(count_in(c), c->capacity, c->bytes, c->capacity_bytes) ? evict(c) : YK_RECORD_NONE;
}

static bool has_room_for(const struct yk_shadow_s3fifo *c, const struct yk_record *r) {
    return !yk_history_is_over(count_in(c) + 1, c->capacity, c->bytes + r->bytes, c->capacity_bytes);
}

uint32_t yk_shadow_s3fifo_use(struct yk_shadow_s3fifo *c, uint32_t record) {
    struct yk_record *r = record_at(c->history, record);
    uint32_t gone = YK_RECORD_NONE;
    if (r->in & c->bit) {
        r->freq = r->freq < FREQ_MAX ? (uint8_t)(r->freq + 1) : FREQ_MAX;
        return gone;
    }
    if (count_in(c) > 0 && !has_room_for(c, r))
        gone = evict(c);
    move_to(c, record, r->queue == GHOST ? MAIN : SMALL);
    r->freq = 0;
    r->in |= c->bit;
    c->bytes += r->bytes;
    return gone;
}

void yk_shadow_s3fifo_drop(struct yk_shadow_s3fifo *c, uint32_t record) {
    struct yk_record *r = record_at(c->history, record);
    unlink_from_queue(c, r);
    c->bytes -= r->in & c->bit ? r->bytes : 0;
    r->in &= (uint8_t)~c->bit;
}

void yk_shadow_s3fifo_restore(struct yk_shadow_s3fifo *c, uint32_t record, enum yk_shadow_queue queue) {
    move_to(c, record, (uint8_t)queue);
    if (queue != YK_SHADOW_SMALL && queue != YK_SHADOW_MAIN)
        return;
    record_at(c->history, record)->in |= c->bit;
    c->bytes += record_at(c->history, record)->bytes;
}
