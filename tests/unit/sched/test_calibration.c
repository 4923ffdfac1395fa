/* SPDX-License-Identifier: Apache-2.0
 *
 * Predicted against seen: what is right has a ratio of 1 in every tenth, what is wrong has not; and the policy's own
 * predictions, on a stream that has something to be learned.
 */
#include "sched/calibration_priv.h"

#include "testing.h"

#include <math.h>

static double uniform(uint64_t *rng) {
    return (random_below(rng, 1u << 30) + 0.5) / (1u << 30);
}

/* Blocks of rates from 0.0001 to 1 a second, each watched until its use or for 300 s. `times`: what is predicted, by what
 * is true. */
static struct yk_learned_calibration watch(uint32_t examples, double times) {
    struct yk_calibration c = {0};
    struct yk_learned_calibration said;
    uint64_t rng = 11;
    for (uint32_t i = 0; i < examples; i++) {
        double rate = pow(10, -4 * uniform(&rng)), waited_s = -log(uniform(&rng)) / rate;
        bool came = waited_s <= 300;
        yk_calibration_add(&c, (float)(rate * times), came ? waited_s : 300, came);
    }
    yk_calibration_report(&c, &said);
    return said;
}

static void test_what_is_right_has_a_ratio_of_one(void **state) {
    struct yk_learned_calibration said = watch(30000, 1);
    (void)state;
    assert_true(fabs(said.ratio - 1) < 0.03);
    assert_true(said.bits_a_use > 0.5);
    for (uint32_t i = 0; i < YK_LEARNED_TENTHS; i++) {
        const struct yk_learned_tenth *t = &said.tenths[i];
        if (t->examples > 0)
            assert_true(fabs(t->seen - t->expected) < 5 * sqrt(t->expected) + 5);
    }
    assert_true(said.tenths[9].seen / said.tenths[9].examples > 5 * said.tenths[0].seen / said.tenths[0].examples);
}

static void test_what_is_wrong_has_not(void **state) {
    (void)state;
    assert_true(fabs(watch(30000, 2).ratio - 0.5) < 0.03);
    assert_true(fabs(watch(30000, 0.5).ratio - 2) < 0.1);
    assert_true(watch(30000, 2).bits_a_use < watch(30000, 1).bits_a_use);
}

static void test_the_past_fades_and_nonsense_is_left_out(void **state) {
    struct yk_calibration c = {0};
    struct yk_learned_calibration said;
    (void)state;
    yk_calibration_report(&c, &said);
    assert_true(said.ratio == 0 && said.bits_a_use == 0);
    yk_calibration_add(&c, 0, 1, 1);
    yk_calibration_add(&c, NAN, 1, 1);
    yk_calibration_add(&c, INFINITY, 1, 1);
    yk_calibration_add(&c, -1, 1, 1);
    yk_calibration_report(&c, &said);
    assert_true(said.examples == 0);
    said = watch(1000000, 1);
    assert_true(said.examples <= 40000);
    assert_true(fabs(said.ratio - 1) < 0.03);
}

/* A tenth of the blocks come often, the rest seldom: the policy is told nothing else, and finds out. */
static void test_the_policy_is_calibrated(void **state) {
    enum { KEYS = 2000 };
    struct yk_policy_space *space = make_space(16);
    struct yk_policy *p = make_policy("learned", space, 1000);
    struct yk_learned_report report;
    uint64_t rng = 3, now_ms = 0;
    (void)state;
    for (uint32_t i = 0; i < 120000; i++) {
        uint32_t key = random_below(&rng, 2) ? random_below(&rng, KEYS / 10) : random_below(&rng, KEYS);
        uint64_t hash = (key + 1) * UINT64_C(0x2545f4914f6cdd1d);
        now_ms += 1 + random_below(&rng, 100);
        yk_policy_request(p, &(struct yk_policy_request){.now_ms = now_ms, .key_hashes = &hash, .n = 1});
        struct yk_learned_training *t = yk_learned_training_begin(p);
        if (t != NULL) {
            yk_learned_training_run(t);
            yk_learned_training_end(p);
        }
    }
    yk_learned_report(p, &report);
    assert_true(report.has_model && report.trainings > 3 && report.calibration.examples > 10000);
    if (!(report.calibration.ratio > 0.75 && report.calibration.ratio < 1.3 && report.calibration.bits_a_use > 0.3))
        fail_msg("seen by expected %.3f, %.3f bits", report.calibration.ratio, report.calibration.bits_a_use);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_right_has_a_ratio_of_one),
        cmocka_unit_test(test_what_is_wrong_has_not),
        cmocka_unit_test(test_the_past_fades_and_nonsense_is_left_out),
        cmocka_unit_test(test_the_policy_is_calibrated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
