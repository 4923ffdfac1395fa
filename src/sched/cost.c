/* SPDX-License-Identifier: Apache-2.0
 *
 * Cost curves: the fit, its tail, and the shapes of models that make priors (cost.h).
 *
 * Outcomes and features are divided by what was predicted, so that the squares which are summed up are of relative
 * errors; by more where it took far longer, as else the first outcomes after a change for the worse would outweigh
 * all that follow. The prior counts as `pull` outcomes with the mean features of those that were seen.
 */
#include "sched/cost.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define N YK_COST_FEATURES

#define HALF_LIFE 200.0
#define PULL      4.0
#define HUBER     0.5
#define SECONDS_MAX 86400.0
#define SMALL_S     0.002 /* errors of less than that matter to nobody: what relative errors are relative to, at least */
#define OFF_STEP    0.1   /* of the mean of how far off: ten outcomes */
#define OFF_TIMES   2.0   /* outcomes that lie within so many times that far count in full */
#define OFF_CUT     4.0   /* and one counts as no farther off than this, for that mean */
#define THETA_MAX   1e6
#define TINY        1e-12

static double or_default(double value, double otherwise) {
    return value > 0 && isfinite(value) ? value : otherwise;
}

double yk_cost_at(const struct yk_cost_curve *curve, const double x[N]) {
    double sum = 0;
    for (uint32_t i = 0; i < N; i++)
        sum += curve->theta[i] * x[i];
    return sum;
}

void yk_cost_init(struct yk_cost_fit *fit, const struct yk_cost_curve *prior) {
    *fit = (struct yk_cost_fit){.curve = *prior};
}

/* ---- the fit ---- */

/* Gauss without pivots: the matrix is symmetric and positive definite. Rows and columns that `out` has are left. */
static void solve(double a[N][N], double b[N], uint32_t out, double ret[N]) {
    for (uint32_t k = 0; k < N; k++) {
        for (uint32_t i = k + 1; i < N && (out >> k & 1) == 0; i++) {
            double f = (out >> i & 1) != 0 ? 0 : a[i][k] / a[k][k];
            for (uint32_t j = k; j < N; j++)
                a[i][j] -= f * a[k][j];
            b[i] -= f * b[k];
        }
    }
    for (uint32_t k = N; k-- > 0;) {
        double sum = b[k];
        for (uint32_t j = k + 1; j < N; j++)
            sum -= a[k][j] * ret[j];
        ret[k] = (out >> k & 1) != 0 ? 0 : sum / a[k][k];
    }
}

static bool usable(double theta[N]) {
    for (uint32_t i = 0; i < N; i++)
        if (!isfinite(theta[i]) || theta[i] > THETA_MAX)
            return false;
    return true;
}

/* The most negative one, or N. */
static uint32_t most_negative(const double theta[N]) {
    uint32_t worst = N;
    for (uint32_t i = 0; i < N; i++)
        if (theta[i] < 0 && (worst == N || theta[i] < theta[worst]))
            worst = i;
    return worst;
}

/* Coefficients that would be negative are 0, and the others are fitted without them. */
static void fit_curve(struct yk_cost_fit *fit, double pull, const struct yk_cost_curve *prior) {
    double theta[N], times = fit->weight / pull, still = pull / (1 + times * times);
    uint32_t out = 0;
    for (uint32_t round = 0; round <= N; round++) {
        double a[N][N], b[N];
        memcpy(a, fit->seen, sizeof(a));
        memcpy(b, fit->target, sizeof(b));
        for (uint32_t i = 0; i < N; i++) {
            double pulled = still * (fit->seen[i][i] / fit->weight + TINY);
            a[i][i] += pulled;
            b[i] += pulled * prior->theta[i];
        }
        solve(a, b, out, theta);
        uint32_t negative = most_negative(theta);
        if (negative == N)
            break;
        out |= 1u << negative;
    }
    if (usable(theta))
        memcpy(fit->curve.theta, theta, sizeof(theta));
}

/* How much an outcome counts that is `off` from what was predicted; and what is usual is learned. */
static double weigh(struct yk_cost_fit *fit, double off, double huber) {
    double within = fmax(huber, OFF_TIMES * fit->off);
    fit->off += OFF_STEP * (fmin(off, OFF_CUT * fmax(huber, fit->off)) - fit->off);
    return off <= within ? 1 : within / off;
}

static void fade(struct yk_cost_fit *fit, double by) {
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t j = 0; j < N; j++)
            fit->seen[i][j] *= by;
        fit->target[i] *= by;
    }
    fit->weight *= by;
}

static bool sane(const double x[N], double seconds) {
    bool some = false;
    for (uint32_t i = 0; i < N; i++) {
        if (!(x[i] >= 0) || !isfinite(x[i]))
            return false;
        some |= x[i] > 0;
    }
    return some && seconds >= 0 && isfinite(seconds);
}

bool yk_cost_learn(struct yk_cost_fit *fit, const struct yk_cost_opts *opts, const struct yk_cost_curve *prior,
                   const double x[N], double seconds) {
    if (!sane(x, seconds))
        return false;
    seconds = fmin(seconds, SECONDS_MAX);
    double predicted = yk_cost_at(&fit->curve, x);
    double off = fabs(log((seconds + SMALL_S) / (predicted + SMALL_S)));
    double w = weigh(fit, off, or_default(opts->huber, HUBER));
    double by = fmax(fmax(predicted, seconds / 2), SMALL_S);
    fade(fit, exp2(-1 / or_default(opts->half_life, HALF_LIFE)));
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t j = 0; j < N; j++)
            fit->seen[i][j] += w * (x[i] / by) * (x[j] / by);
        fit->target[i] += w * (x[i] / by) * (seconds / by);
    }
    fit->weight += w;
    fit->outcomes += fit->outcomes < UINT32_MAX;
    fit_curve(fit, or_default(opts->pull, PULL), prior);
    return true;
}

/* ---- the tail ---- */

#define TAIL_FIRST 0.4 /* half as long again, before anything is known */
#define TAIL_STEP  0.05
#define TAIL_MAX   4.0

void yk_cost_tail_init(struct yk_cost_tail *tail) {
    *tail = (struct yk_cost_tail){.log_ratio = TAIL_FIRST};
}

/* Up by the share of those that may lie above, down by the others': it stands still where that is their ratio. The
 * first steps are longer. */
void yk_cost_tail_learn(struct yk_cost_tail *tail, double quantile, double predicted_s, double actual_s) {
    if (!(predicted_s >= 0) || !(actual_s >= 0) || !isfinite(predicted_s) || !isfinite(actual_s))
        return;
    double ratio = log((fmin(actual_s, SECONDS_MAX) + SMALL_S) / (predicted_s + SMALL_S));
    double step = fmax(TAIL_STEP, 0.5 / (1 + tail->outcomes / 4.0));
    tail->log_ratio += step * (ratio > tail->log_ratio ? quantile : quantile - 1);
    tail->log_ratio = fmin(fmax(tail->log_ratio, 0), TAIL_MAX);
    tail->outcomes += tail->outcomes < UINT32_MAX;
}

double yk_cost_tail_ratio(const struct yk_cost_tail *tail) {
    return exp(tail->log_ratio);
}

/* ---- shapes ---- */

/* Of published models: Llama 3 8B and 70B (grouped-query attention, 8 heads of 128 for keys and for values), and a
 * mixture of experts as DeepSeek-V3 (37 of 671 billion parameters active; 128 heads of 192 and 128; latent KV of
 * 576 numbers a layer). */
static const struct yk_cost_shape shapes[] = {
    {"8b", "dense, 8 billion parameters, grouped-query attention", 8.0e9, 32, 4096, 131072},
    {"70b", "dense, 70 billion parameters, grouped-query attention", 70.6e9, 80, 8192, 327680},
    {"moe", "671 billion parameters, 37 active, latent attention", 37e9, 61, 20480, 70272},
    {NULL, NULL, 0, 0, 0, 0},
};

const struct yk_cost_shape *yk_cost_shapes(void) {
    return shapes;
}

const struct yk_cost_shape *yk_cost_shape_find(const char *name) {
    for (size_t i = 0; shapes[i].name != NULL; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

/* A token costs 2 FLOPs a parameter, and 4 a layer and number of attention's width for each token before it: half of the
 * block's, for the first. */
double yk_cost_growth(const struct yk_cost_shape *shape, uint32_t block_tokens) {
    double attention = 4.0 * shape->layers * shape->attention_width;
    return attention * block_tokens / (2 * shape->active_params + attention * block_tokens / 2);
}

/* A new token looks at all before it: those that were there, and half of the new ones in the mean. */
void yk_cost_compute_features(double new_tokens, double all_tokens, double ret_x[N]) {
    ret_x[0] = 1;
    ret_x[1] = new_tokens / 1e3;
    ret_x[2] = new_tokens * (all_tokens - new_tokens / 2) / 1e6;
}

void yk_cost_compute_prior(const struct yk_cost_shape *shape, double flops_s, double start_s,
                           struct yk_cost_curve *ret_curve) {
    ret_curve->theta[0] = start_s;
    ret_curve->theta[1] = 2 * shape->active_params * 1e3 / flops_s;
    ret_curve->theta[2] = 4.0 * shape->layers * shape->attention_width * 1e6 / flops_s;
}
