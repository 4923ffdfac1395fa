/* SPDX-License-Identifier: Apache-2.0
 *
 * What a piece of work costs in seconds, learned from how long such pieces took: a line through a few features,
 * fitted online by least squares of relative errors, robust and forgetting.
 *
 * A fit is what was seen, summed up in a small matrix, and pulled towards a prior: a curve of the same kind that is
 * known beforehand, or that was learned from all nodes. So a node of which little is known costs what the others
 * cost, and one that is different is told apart after a dozen outcomes. What is seen counts with a weight that
 * falls by half in `half_life` outcomes; one that lies farther from what was predicted than outcomes mostly do counts
 * the less the farther (Huber's weights), so that a stray or a lie moves little, and a change that stays is followed.
 * Coefficients are never negative: more work never costs less. Errors are relative to what was predicted, as a
 * millisecond matters to a short request and not to a long one.
 * Rejected: recursive least squares in covariance form (winds up while one feature stands still; a prior that changes
 * has no place in it), and a mean of the last ones (does not carry over to other sizes).
 *
 * Pure, no allocation, deterministic. Thread: one at a time.
 */
#ifndef YK_SCHED_COST_H
#define YK_SCHED_COST_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_COST_FEATURES 3u

/* Seconds = sum of theta[i] * x[i]. Features are x >= 0, the first mostly 1. */
struct yk_cost_curve {
    double theta[YK_COST_FEATURES];
};

double yk_cost_at(const struct yk_cost_curve *curve, const double x[YK_COST_FEATURES]);

struct yk_cost_fit {
    struct yk_cost_curve curve; /* what is thought now */
    double seen[YK_COST_FEATURES][YK_COST_FEATURES], target[YK_COST_FEATURES];
    double weight; /* of all that was seen, faded */
    double off;    /* how far outcomes lie from what was predicted, in logarithms, of late */
    uint32_t outcomes;
};

struct yk_cost_opts {
    double half_life; /* outcomes; 0: 200 */
    double pull;      /* how many outcomes the prior counts as; 0: 4 */
    double huber;     /* logarithm of actual by predicted from which on an outcome counts less; 0: 0.5 */
};

void yk_cost_init(struct yk_cost_fit *fit, const struct yk_cost_curve *prior);

/* It took `seconds`. What is not finite, or below 0, is not looked at: false. More than a day counts as a day. */
bool yk_cost_learn(struct yk_cost_fit *fit, const struct yk_cost_opts *opts, const struct yk_cost_curve *prior,
                   const double x[YK_COST_FEATURES], double seconds);

/* ---- the quantile of a ratio, online ---- */

/* How much longer than predicted it takes in the worse cases: of actual by predicted that quantile, in logarithms. */
struct yk_cost_tail {
    double log_ratio;
    uint32_t outcomes;
};
void yk_cost_tail_init(struct yk_cost_tail *tail);
void yk_cost_tail_learn(struct yk_cost_tail *tail, double quantile, double predicted_s, double actual_s);
double yk_cost_tail_ratio(const struct yk_cost_tail *tail);

/* ---- named model shapes: a prior for the compute curve ---- */

struct yk_cost_shape {
    const char *name; /* "8b", "70b", "moe" */
    const char *help;
    double active_params;        /* of one token */
    uint32_t layers;
    uint32_t attention_width;    /* numbers a layer multiplies for each token of context: 4 of them make its FLOPs */
    uint32_t kv_bytes_per_token; /* 16-bit numbers, all layers */
};

/* All of them, an entry without a name at the end; one by its name, or NULL. */
const struct yk_cost_shape *yk_cost_shapes(void);
const struct yk_cost_shape *yk_cost_shape_find(const char *name);

/* By how much of what a chain's first block costs to compute each block further down costs more: all of its tokens look
 * at so many more. */
double yk_cost_growth(const struct yk_cost_shape *shape, uint32_t block_tokens);

/* Features of a prefill: 1, thousands of new tokens, millions of pairs of a new token and a token before it. */
void yk_cost_compute_features(double new_tokens, double all_tokens, double ret_x[YK_COST_FEATURES]);

/* The compute curve of a shape on what does flops_s, useful ones, a second. */
void yk_cost_compute_prior(const struct yk_cost_shape *shape, double flops_s, double start_s,
                           struct yk_cost_curve *ret_curve);

#ifdef __cplusplus
}
#endif

#endif
