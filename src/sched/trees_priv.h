/* SPDX-License-Identifier: Apache-2.0
 *
 * How soon something happens, from small numbers: gradient-boosted trees for a rate, as they are asked. fit_priv.h
 * makes them.
 *
 * A row is of features from 0 to 63. The trees' sum is the logarithm of events a second, less a prior. A tree is
 * not walked: each value of a feature rules out some leaves of every tree, whatever the other features are, and
 * what is left over of a tree after all features are asked begins with the leaf that a walk would reach (Lucchese
 * et al., "QuickScorer", SIGIR 2015). So a score is a run of ANDs over all trees at once without a branch: 45 ns,
 * where walks through 30 trees took 145.
 *
 * There may be two rates, over a long and a near wait (place_priv.h): the trees are the same, their leaves have a step
 * for each. What is asked is nearly all of a score's cost, so the second comes with the first.
 *
 * Immutable once made. Thread: any.
 */
#ifndef YK_SCHED_TREES_PRIV_H
#define YK_SCHED_TREES_PRIV_H

#include <stdint.h>

#define YK_TREES_FEATURES 19
#define YK_TREES_VALUES   64
#define YK_TREES_DEPTH    5
#define YK_TREES_LEAVES   (1u << YK_TREES_DEPTH) /* the bits of a uint32_t */
#define YK_TREES_MAX      24 /* a multiple of 4 */

/* Of the long wait and of the near one. */
typedef float yk_trees_pair __attribute__((vector_size(8)));

struct yk_trees {
    uint32_t count;  /* of trees; 0: nothing is known */
    uint32_t waits;  /* 1: the long one alone, and the steps of the near one are 0 */
    uint32_t n_used; /* features that some tree asks for */
    uint8_t used[YK_TREES_FEATURES];
    yk_trees_pair base;
    yk_trees_pair leaf[YK_TREES_MAX][YK_TREES_LEAVES];
    /* Of each tree the leaves that a value of a feature leaves over. */
    uint32_t left_over[YK_TREES_FEATURES][YK_TREES_VALUES][YK_TREES_MAX] __attribute__((aligned(16)));
};

/* No trees. */
void yk_trees_clear(struct yk_trees *t);

/* Another tree, that has no split yet. Returns its number. */
uint32_t yk_trees_add(struct yk_trees *t);

/* The leaves [first, first + 2 * half) of the tree: rows with more than `limit` go to the second half. */
void yk_trees_split(struct yk_trees *t, uint32_t tree, uint32_t first, uint32_t half, uint32_t feature, uint32_t limit);

/* What is to be added to the prior: 0 where there are no trees. */
yk_trees_pair yk_trees_score(const struct yk_trees *t, const uint8_t x[YK_TREES_FEATURES]);

#endif
