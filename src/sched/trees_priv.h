/* SPDX-License-Identifier: Apache-2.0
 *
 * How soon something happens, from small numbers: gradient-boosted trees for a rate.
 *
 * An example is a row of features, 0 to 63 each, with what was seen since: did the event come, and how long
 * was it waited for. The trees' sum is the logarithm of events a second; boosting fits it by the likelihood
 * of a Poisson process (Newton steps, histograms of the 64 values, all trees of one depth), so an example
 * counts from its first second on, whether its event has come or not. Rates of what is about to come are
 * what a cache orders by: expected hits for each second of a block's stay.
 * Rejected: the chance of an event within a time as a label, which says nothing until that time is over.
 *
 * Nothing allocates but init. Thread: owner.
 */
#ifndef YK_SCHED_TREES_PRIV_H
#define YK_SCHED_TREES_PRIV_H

#include <stdint.h>

#define YK_TREES_FEATURES 19
#define YK_TREES_VALUES   64
#define YK_TREES_DEPTH    5
#define YK_TREES_LEAVES   (1u << YK_TREES_DEPTH)
#define YK_TREES_COUNT    30

struct yk_trees_example {
    uint8_t x[YK_TREES_FEATURES];
    float prior;    /* log of events a second, before anything is learned */
    float waited_s; /* > 0 */
    float events;   /* 0 or 1 */
};

struct yk_trees_tree {
    uint8_t feature[YK_TREES_LEAVES], limit[YK_TREES_LEAVES]; /* from [1]: heap order */
    float leaf[YK_TREES_LEAVES];
};

struct yk_trees_scratch;

struct yk_trees {
    struct yk_trees_tree tree[YK_TREES_COUNT];
    float base;
    uint32_t trained; /* times */
    struct yk_trees_scratch *scratch;
};

/* For up to max_examples a training. -YK_ENOMEM. */
int yk_trees_init(struct yk_trees *t, uint32_t max_examples);
void yk_trees_fini(struct yk_trees *t);

/* Forgets what it knew and learns from n examples: about 2 us an example. */
void yk_trees_train(struct yk_trees *t, const struct yk_trees_example *examples, uint32_t n);

/* What is to be added to the prior: 0 before the first training. About 0.1 us. */
float yk_trees_score(const struct yk_trees *t, const uint8_t x[YK_TREES_FEATURES]);

#endif
