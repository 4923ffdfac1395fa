/* SPDX-License-Identifier: Apache-2.0
 *
 * What a place in a cache is worth to a block: its density of value.
 *
 * A place is paid with time, and whoever has it may be asked to leave at any age. So a block is worth the best that
 * holding it to some age can give: the most, over ages, of the chance that it is used until then by the time that it
 * is held (the index of Gittins, 1979). The rate over a long wait (fit_priv.h: a mean of what is to come) is that for
 * blocks whose chances fall slowly. Where a cache turns over in seconds it is not: a session that comes back within
 * half a minute or in an hour is worth its place for half a minute, and by the rate of the long wait it is worth
 * nothing. So there are two rates, of a long wait and of a near one, and the larger one counts.
 *
 * The near wait is a few times what a block stays without a use: what lru shows. Where that is no shorter than the
 * long one there is one rate. What a use saves, and how long a block is, the keeper knows (keeper_priv.h).
 * Rejected: more waits (no gain was seen), and one near wait for all caches (docs/decisions/0030).
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_PLACE_PRIV_H
#define YK_SCHED_PLACE_PRIV_H

#include "sched/shadow_priv.h"
#include "sched/trees_priv.h"

#include <stdbool.h>

struct yk_place {
    float used_s, next_s; /* the near wait of the model in use and of the next; 0: the long one alone decides */
    double stay_ms;       /* how long lru keeps a block, a mean of late; 0: not known */
};

/* A request was done with. */
void yk_place_see(struct yk_place *p, const struct yk_shadow_lru *lru);

/* Decides the wait of the next model. */
void yk_place_begin(struct yk_place *p);
/* It is in use. */
void yk_place_end(struct yk_place *p);

/* What is to be added to the prior, as with yk_trees_score: the best of the two. */
static inline float yk_place_score(const struct yk_trees *t, const uint8_t x[YK_TREES_FEATURES]) {
    yk_trees_pair score = yk_trees_score(t, x);
    return t->waits > 1 && score[1] > score[0] ? score[1] : score[0];
}

#endif
