/* SPDX-License-Identifier: Apache-2.0
 *
 * How long the near wait is (place_priv.h).
 */
#include "sched/place_priv.h"

/* 2 to 4 were tried: 3 did best where caches turn over in 10 to 100 seconds. */
#define NEAR_STAYS 3.0
#define NEAR_MIN_S 8.0f
#define NEAR_MAX_S 300.0f /* what the long wait is at most (lessons.c) */
#define STAY_MEAN  100.0  /* requests */

void yk_place_see(struct yk_place *p, const struct yk_shadow_lru *lru) {
    if (lru->oldest == YK_RECORD_NONE ||
        !yk_history_is_full(lru->count, lru->capacity, lru->bytes, lru->capacity_bytes)) {
        p->stay_ms = 0;
        return;
    }
    double age_ms = lru->history->now_ms - lru->history->records[lru->oldest].last_ms;
    p->stay_ms = p->stay_ms == 0 ? age_ms : p->stay_ms + (age_ms - p->stay_ms) / STAY_MEAN;
}

void yk_place_begin(struct yk_place *p) {
    float near_s = (float)(p->stay_ms * NEAR_STAYS / 1e3);
    if (p->stay_ms == 0 || near_s >= NEAR_MAX_S)
        p->next_s = 0;
    else
        p->next_s = near_s < NEAR_MIN_S ? NEAR_MIN_S : near_s;
}

void yk_place_end(struct yk_place *p) {
    p->used_s = p->next_s;
}
