/* SPDX-License-Identifier: Apache-2.0
 *
 * Cost curves converge on what made the outcomes, follow it when it changes, and are not moved by strays.
 */
#include "testing.h"

#include "sched/cost.h"

#include <math.h>

static const struct yk_cost_opts opts;

/* Seconds of a prefill by a curve, with noise of a few percent. */
static double took(const struct yk_cost_curve *truth, const double x[YK_COST_FEATURES], uint64_t *rng) {
    return yk_cost_at(truth, x) * (0.95 + (double)random_below(rng, 1000) / 10000);
}

static void draw(uint64_t *rng, double ret_x[YK_COST_FEATURES]) {
    double new_tokens = 64 + (double)random_below(rng, 8000);
    yk_cost_compute_features(new_tokens, new_tokens + (double)random_below(rng, 30000), ret_x);
}

/* The worst relative error over prompts of several sizes. */
static double worst(const struct yk_cost_fit *fit, const struct yk_cost_curve *truth) {
    static const double sizes[][2] = {{128, 128}, {128, 30000}, {2000, 2000}, {2000, 16000}, {8000, 8000}, {8000, 32000}};
    double x[YK_COST_FEATURES], most = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        yk_cost_compute_features(sizes[i][0], sizes[i][1], x);
        most = fmax(most, fabs(yk_cost_at(&fit->curve, x) / yk_cost_at(truth, x) - 1));
    }
    return most;
}

static void learn(struct yk_cost_fit *fit, const struct yk_cost_curve *prior, const struct yk_cost_curve *truth,
                  uint32_t n, uint64_t *rng) {
    double x[YK_COST_FEATURES];
    for (uint32_t i = 0; i < n; i++) {
        draw(rng, x);
        assert_true(yk_cost_learn(fit, &opts, prior, x, took(truth, x, rng)));
    }
}

static void it_learns_the_curve(void **state) {
    const struct yk_cost_curve prior = {{0.01, 0.08, 0.003}}, truth = {{0.03, 0.02, 0.012}};
    struct yk_cost_fit fit;
    uint64_t rng = 7;
    yk_cost_init(&fit, &prior);
    assert_true(worst(&fit, &truth) > 0.3);
    learn(&fit, &prior, &truth, 100, &rng);
    assert_true(worst(&fit, &truth) < 0.1);
}

static void it_learns_from_a_prior_that_is_far_off(void **state) {
    static const double times[] = {0.01, 100};
    const struct yk_cost_curve truth = {{0.03, 0.02, 0.012}};
    for (int i = 0; i < 2; i++) {
        struct yk_cost_curve prior = truth;
        struct yk_cost_fit fit;
        uint64_t rng = 3;
        for (uint32_t k = 0; k < YK_COST_FEATURES; k++)
            prior.theta[k] *= times[i];
        yk_cost_init(&fit, &prior);
        learn(&fit, &prior, &truth, 1000, &rng);
        assert_true(worst(&fit, &truth) < 0.15);
    }
}

static void it_follows_a_change(void **state) {
    const struct yk_cost_curve before = {{0.01, 0.04, 0.004}}, after = {{0.01, 0.12, 0.012}};
    struct yk_cost_fit fit;
    uint64_t rng = 11;
    yk_cost_init(&fit, &before);
    learn(&fit, &before, &before, 2000, &rng);
    assert_true(worst(&fit, &before) < 0.05);
    learn(&fit, &before, &after, 1000, &rng);
    assert_true(worst(&fit, &after) < 0.15);
    learn(&fit, &before, &before, 1500, &rng);
    assert_true(worst(&fit, &before) < 0.15);
}

/* One in ten is a thousand times as long, or took no time. */
static void strays_move_little(void **state) {
    const struct yk_cost_curve truth = {{0.02, 0.05, 0.005}};
    struct yk_cost_fit fit;
    double x[YK_COST_FEATURES];
    uint64_t rng = 5;
    yk_cost_init(&fit, &truth);
    for (uint32_t i = 0; i < 2000; i++) {
        draw(&rng, x);
        double seconds = took(&truth, x, &rng);
        if (i % 10 == 9)
            seconds = i % 20 == 19 ? 0 : seconds * 1000;
        yk_cost_learn(&fit, &opts, &truth, x, seconds);
    }
    assert_true(worst(&fit, &truth) < 0.2);
}

static void more_work_never_costs_less(void **state) {
    const struct yk_cost_curve prior = {{0.01, 0.05, 0.005}};
    struct yk_cost_fit fit;
    double x[YK_COST_FEATURES];
    uint64_t rng = 9;
    yk_cost_init(&fit, &prior);
    for (uint32_t i = 0; i < 3000; i++) {
        draw(&rng, x);
        yk_cost_learn(&fit, &opts, &prior, x, 1 / (1 + x[1])); /* long ones are said to be quick */
        for (uint32_t k = 0; k < YK_COST_FEATURES; k++)
            assert_true(fit.curve.theta[k] >= 0 && isfinite(fit.curve.theta[k]));
    }
}

static void absurd_outcomes_are_not_looked_at(void **state) {
    const struct yk_cost_curve prior = {{0.01, 0.05, 0.005}};
    const double x[] = {1, 2, 3}, none[] = {0, 0, 0}, wrong[] = {1, NAN, 0}, below[] = {1, -1, 0};
    struct yk_cost_fit fit;
    yk_cost_init(&fit, &prior);
    assert_false(yk_cost_learn(&fit, &opts, &prior, x, NAN));
    assert_false(yk_cost_learn(&fit, &opts, &prior, x, INFINITY));
    assert_false(yk_cost_learn(&fit, &opts, &prior, x, -1));
    assert_false(yk_cost_learn(&fit, &opts, &prior, none, 1));
    assert_false(yk_cost_learn(&fit, &opts, &prior, wrong, 1));
    assert_false(yk_cost_learn(&fit, &opts, &prior, below, 1));
    assert_int_equal(fit.outcomes, 0);
    assert_true(yk_cost_learn(&fit, &opts, &prior, x, 1e300)); /* a day */
    assert_true(yk_cost_at(&fit.curve, x) <= 86400);
}

static void the_tail_is_the_quantile(void **state) {
    struct yk_cost_tail tail;
    uint64_t rng = 21;
    uint32_t above = 0;
    yk_cost_tail_init(&tail);
    for (uint32_t i = 0; i < 20000; i++) {
        double actual = exp((double)random_below(&rng, 1000) / 1000); /* 1 to e times, evenly in logarithms */
        above += i >= 2000 && actual > yk_cost_tail_ratio(&tail);
        yk_cost_tail_learn(&tail, 0.9, 1, actual);
    }
    assert_in_range(above, 18000 / 14, 18000 / 7);
    assert_true(fabs(tail.log_ratio - 0.9) < 0.15);
    yk_cost_tail_learn(&tail, 0.9, NAN, 1);
    yk_cost_tail_learn(&tail, 0.9, 1, -1);
    assert_true(fabs(tail.log_ratio - 0.9) < 0.15);
}

static void shapes_are_priors(void **state) {
    struct yk_cost_curve small, large;
    double x[YK_COST_FEATURES];
    assert_null(yk_cost_shape_find("unheard of"));
    yk_cost_compute_prior(yk_cost_shape_find("8b"), 4e14, 0.01, &small);
    yk_cost_compute_prior(yk_cost_shape_find("70b"), 4e14, 0.01, &large);
    yk_cost_compute_features(1000, 1000, x);
    /* 2 x 8e9 x 1000 FLOPs by 4e14 a second, attention about 1 % of that. */
    assert_true(fabs(yk_cost_at(&small, x) - 0.0507) < 0.0005);
    assert_true(yk_cost_at(&large, x) > 5 * yk_cost_at(&small, x));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_learns_the_curve),
        cmocka_unit_test(it_learns_from_a_prior_that_is_far_off),
        cmocka_unit_test(it_follows_a_change),
        cmocka_unit_test(strays_move_little),
        cmocka_unit_test(more_work_never_costs_less),
        cmocka_unit_test(absurd_outcomes_are_not_looked_at),
        cmocka_unit_test(the_tail_is_the_quantile),
        cmocka_unit_test(shapes_are_priors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
