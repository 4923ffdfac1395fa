/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of several caches without payload the real one follows: the floor's choice, in numbers alone.
 *
 * It is one among experts, where a change costs: the real cache has to fetch what the other one holds, about a quarter to
 * all of what a filling hits. Who follows the best of late gains where the best changes slowly, and is wrong each time
 * where it changes as fast as he looks back. So there are two states:
 *
 *               the real one has fallen behind the best of the long past
 *     BOLD  --------------------------------------------------------------->  CAREFUL
 *   follows the best of late                                     follows the best of the long past
 *     BOLD  <---------------------------------------------------------------  CAREFUL
 *          after so many fillings, twice as many each time; what was lost is forgiven
 *
 * Careful, it changes for a lead that doubles with each such change of late: two that take turns change places in a long
 * past, too. docs/scheduler.md says what that bounds, and what it does not.
 * Rejected: a mean of several looks back (none is right for all turns), and a draw by weights (regret bounds as these, but
 * a change costs, and each draw is one).
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_CHOICE_PRIV_H
#define YK_SCHED_CHOICE_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#define YK_CHOICES 3u

struct yk_choice {
    double hits[YK_CHOICES], long_hits[YK_CHOICES]; /* fading */
    double long_real_hits;                          /* of the real cache; what was forgiven counts as hit */
    double late_blocks;                             /* that were asked for; fades as hits do */
    double fillings;                                /* that were asked for, ever: blocks by capacity */
    double changes;                                 /* made carefully; fades as long_hits do */
    double since, patience;                         /* fillings when this state began; how long it was, or is, careful */
    uint64_t is_careful;                            /* as wide as the rest: all of it is saved as it is */
};

/* May it have been saved by one of these? */
bool yk_choice_is_sane(const struct yk_choice *c);

/* What a request of so many blocks hit in each, and in the real cache. */
void yk_choice_see(struct yk_choice *c, const double hits[YK_CHOICES], double real_hits, uint32_t blocks);

/* Which to follow now, after each request. */
uint32_t yk_choice_make(struct yk_choice *c, uint32_t follows, uint32_t blocks, uint32_t capacity);

#endif
