/* SPDX-License-Identifier: Apache-2.0
 *
 * What a place in a cache is worth to a block: its density of value.
 *
 * A place is paid with time, and whoever has it may be asked to leave at any age. So a block is worth the best that
 * holding it to some age can give: the most, over ages, of the chance that it is used until then by the time that it
 * is held (the index of Gittins, 1979). The rate over a long wait (fit_priv.h: a mean of what is to come) is that for
 * blocks whose chances fall slowly. Where a cache turns over in seconds it is not: a session that comes back within
 * half a minute or in an hour is worth its place for half a minute, and by the rate of the long wait it is worth
 * nothing. So there are two models, of a long wait and of a near one, and the larger rate counts.
 *
 * The near wait is a few times what a block stays without a use: what lru shows. Where that is no shorter than the
 * long one there is one model. What a use saves, and how long a block is, the keeper knows (keeper_priv.h).
 * Rejected: more waits (no gain was seen), and one near wait for all caches (docs/decisions/0030).
 *
 * Thread: owner loop; the fit, any.
 */
#ifndef YK_SCHED_PLACE_PRIV_H
#define YK_SCHED_PLACE_PRIV_H

#include "sched/fit_priv.h"
#include "sched/shadow_priv.h"

#include <stdbool.h>

struct yk_place {
    struct yk_trees near[2]; /* the model in use and the next; no trees: the long one alone decides */
    uint32_t used;           /* of the two */
    float used_s, next_s;    /* their waits; 0: it has no trees */
    double stay_ms;          /* how long lru keeps a block, a mean of late; 0: not known */
};

/* A request was done with. */
void yk_place_see(struct yk_place *p, const struct yk_shadow_lru *lru);

/* Decides the wait of the next model. */
void yk_place_begin(struct yk_place *p);
/* Makes it; the examples become those of the near wait. */
void yk_place_run(struct yk_place *p, struct yk_fit *fit, struct yk_fit_example *examples, uint32_t n);
void yk_place_end(struct yk_place *p);

static inline const struct yk_trees *yk_place_near(const struct yk_place *p) {
    return &p->near[p->used];
}

/* What is to be added to the prior, as with yk_trees_score: the best of the two. */
static inline float yk_place_score(const struct yk_trees *long_wait, const struct yk_trees *near_wait,
                                   const uint8_t x[YK_TREES_FEATURES]) {
    float score = yk_trees_score(long_wait, x);
    if (near_wait == NULL || near_wait->count == 0)
        return score;
    float near_score = yk_trees_score(near_wait, x);
    return near_score > score ? near_score : score;
}

#endif
