/* SPDX-License-Identifier: Apache-2.0
 *
 * Which chains are wanted soon, though their blocks have gone to the tier below: predictive prefetch.
 *
 * The ends of the last requests are remembered until something goes on from them. A session that has just been served
 * does not come back within seconds, so its place is better given away and asked for again when its time nears. Asked
 * are, at each tick, those ends that are not kept: the one with the best predicted rate comes up if
 *   - its chance within the near wait (place_priv.h) is CHANCE_MIN, without which timing is not predictable, and
 *   - its rate is above that of the next to go by a margin.
 * What came up is worth a little more until it is used or gives way, so that it is not sent away for the next one that
 * is as good. A chain comes up once between two of its uses.
 *
 * The margin is the window: it widens while what came up gets used, narrows while it does not, and where it has
 * narrowed to nothing prefetch is off, and tried again after a while. What comes up wrongly is cancelled by
 * the keeper: it lets go of it as its rate falls.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_WANTED_PRIV_H
#define YK_SCHED_WANTED_PRIV_H

#include "sched/keeper_priv.h"
#include "sched/place_priv.h"

#define YK_WANTED_ENDS 512u /* requests that are remembered; a scan of all takes some 40 us */

struct yk_wanted_end {
    uint32_t record, generation, request; /* request 0: nothing, or not again */
};

struct yk_wanted {
    struct yk_history *history;
    struct yk_keeper *keeper;
    struct yk_wanted_end ends[YK_WANTED_ENDS];
    uint32_t next, times_off;
    float margin;
    double used, lost;        /* of late: blocks that came up and were used, and were not */
    uint64_t requests;        /* ever */
    uint64_t off_until;       /* of those; 0: it is on */
    uint64_t moved_ever, used_ever;
};

void yk_wanted_init(struct yk_wanted *w, struct yk_history *history, struct yk_keeper *keeper);

/* A request has these blocks; before they are touched. And when it was done with. */
void yk_wanted_use(struct yk_wanted *w, const uint32_t *records, uint32_t n);
void yk_wanted_end(struct yk_wanted *w, const uint32_t *records, uint32_t n);

/* The keeper let go of it. */
void yk_wanted_lost(struct yk_wanted *w, uint32_t record);

/* The next chain that is to come up, at the history's time: returns how many of its blocks the keeper lacks, at most
 * `most`, and records of those, head last; 0: none. The keeper takes them with yk_wanted_lift, and is trimmed then. */
uint32_t yk_wanted_next(struct yk_wanted *w, float near_s, uint32_t most, uint32_t *ret_records);
void yk_wanted_lift(struct yk_wanted *w, const uint32_t *records, uint32_t n);

#endif
