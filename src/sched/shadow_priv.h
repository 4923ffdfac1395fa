/* SPDX-License-Identifier: Apache-2.0
 *
 * What lru and s3fifo would keep, over records of the history: the floor's caches, which have no payload, no pins
 * and no ids of their own.
 *
 * The history is a list by last use already, so lru is a mark in it: the oldest record that is in. s3fifo's two
 * queues and its ghosts are lists through two links of the record. A flood of requests pays for both with each
 * block, and this costs a quarter of two policy objects with a space and a ghost table each; the tests compare
 * what they keep with those.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_SHADOW_PRIV_H
#define YK_SCHED_SHADOW_PRIV_H

#include "sched/history_priv.h"

#include <stdbool.h>

struct yk_shadow_lru {
    struct yk_history *history;
    uint32_t oldest; /* that is in, or YK_RECORD_NONE */
    uint32_t count, capacity;
    uint64_t bytes, capacity_bytes; /* of what is in; and the most, 0: capacity counts (history_priv.h) */
    uint8_t bit; /* of record.in */
};

struct yk_shadow_s3fifo {
    struct yk_history *history;
    struct {
        uint32_t oldest, youngest, count;
    } queues[4]; /* by enum yk_shadow_queue; the first is not used */
    uint32_t capacity;
    uint64_t bytes, capacity_bytes; /* as above */
    uint8_t bit; /* of record.in */
};

void yk_shadow_lru_init(struct yk_shadow_lru *c, struct yk_history *h, uint32_t capacity, uint8_t bit);
/* Before the history touches the record, or moves it otherwise, and after. The second returns who left, or
 * YK_RECORD_NONE; where lengths differ there may be more: trim. */
void yk_shadow_lru_before(struct yk_shadow_lru *c, uint32_t record);
uint32_t yk_shadow_lru_after(struct yk_shadow_lru *c, uint32_t record);
/* The next that is too many, by blocks or by bytes, is out, or YK_RECORD_NONE. */
uint32_t yk_shadow_lru_trim(struct yk_shadow_lru *c);
/* The record is given up, or its block was removed. */
void yk_shadow_lru_drop(struct yk_shadow_lru *c, uint32_t record);

/* From what was saved, oldest first: the record is in. */
void yk_shadow_lru_restore(struct yk_shadow_lru *c, uint32_t record);

enum yk_shadow_queue { YK_SHADOW_OUT, YK_SHADOW_SMALL, YK_SHADOW_MAIN, YK_SHADOW_GHOST, YK_SHADOW_QUEUES };

void yk_shadow_s3fifo_init(struct yk_shadow_s3fifo *c, struct yk_history *h, uint32_t capacity, uint8_t bit);
/* The record is used. Returns who left, or YK_RECORD_NONE; likewise. */
uint32_t yk_shadow_s3fifo_use(struct yk_shadow_s3fifo *c, uint32_t record);
uint32_t yk_shadow_s3fifo_trim(struct yk_shadow_s3fifo *c); /* likewise */
void yk_shadow_s3fifo_drop(struct yk_shadow_s3fifo *c, uint32_t record);
/* From what was saved, oldest first in each queue: the record, which is in none, is the youngest of this one. */
void yk_shadow_s3fifo_restore(struct yk_shadow_s3fifo *c, uint32_t record, enum yk_shadow_queue queue);

#endif
