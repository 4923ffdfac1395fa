/* SPDX-License-Identifier: Apache-2.0
 *
 * Trees from examples: gradient boosting of a rate.
 *
 * An example is a row of features with what was seen since: did the event come, and how long was it waited for.
 * The trees are fitted by the likelihood of a Poisson process (Newton steps, histograms of the 64 values), so an
 * example counts from its first second on, whether its event has come or not. Rates of what is about to come are
 * what a cache orders by: expected hits for each second of a block's stay.
 * Rejected: the chance of an event within a time as a label, which says nothing until that time is over.
 *
 * Each half of the examples (of many; which are drawn) makes half of the trees, the second upon what the first half's say: a
 * tree reads half as much. A node's histogram is its parent's less its sibling's, so of two siblings only the smaller
 * one's rows are read; each tree looks at some of the features, drawn anew; a row keeps its rate, not the logarithm, so that
 * a tree costs one exponential a leaf. docs/decisions/0022.
 *
 * Nothing allocates but init. Thread: one at a time, any: it touches nothing else.
 */
#ifndef YK_SCHED_FIT_PRIV_H
#define YK_SCHED_FIT_PRIV_H

#include "sched/trees_priv.h"

struct yk_fit_example {
    uint8_t x[YK_TREES_FEATURES];
    uint8_t event;  /* 0 or 1 */
    float prior;    /* log of events a second, before anything is learned */
    float waited_s; /* > 0 */
};

struct yk_fit_row;
struct yk_fit_hist;

struct yk_fit {
    struct yk_fit_row *rows;
    uint32_t *order, *aside; /* rows, those of a node side by side */
    struct yk_fit_hist *hist; /* one of each depth, and one for a sibling */
    uint32_t max_examples;
    uint64_t random;
    uint8_t features[YK_TREES_FEATURES]; /* the first n_features are those of this tree */
    uint32_t n_features;
};

/* For up to max_examples at a time. -YK_ENOMEM, to be finished. */
int yk_fit_init(struct yk_fit *f, uint32_t max_examples, uint64_t seed);
void yk_fit_fini(struct yk_fit *f);

/* Makes the trees anew from n examples: about 0.2 us an example. near_s: the near wait, whose rate is fitted along with
 * that of the whole one; 0: there is none. */
void yk_fit_run(struct yk_fit *f, const struct yk_fit_example *examples, uint32_t n, float near_s,
                struct yk_trees *ret_trees);

#endif
