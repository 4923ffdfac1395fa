/* SPDX-License-Identifier: Apache-2.0
 *
 * The cost model on made-up times.
 */
#include "xfer/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define US 1000ull

static void near(double value, double expected, double part) {
    if (value < expected * (1 - part) || value > expected * (1 + part))
        fail_msg("%g, expected about %g", value, expected);
}

/* n slices one after another, each taking fixed + len / speed; piped: sent before the one before ended. */
static uint64_t feed(struct yk_model *m, uint64_t now, uint64_t len, double bytes_per_s, uint64_t fixed_ns,
                     int n, int piped) {
    for (int i = 0; i < n; i++) {
        uint64_t took = (uint64_t)((double)len / bytes_per_s * 1e9) + (piped ? 0 : fixed_ns);
        yk_model_done(m, len, piped ? now - took / 2 : now, now + took, !piped);
        now += took + (piped ? 0 : 1000);
    }
    return now;
}

static void bands(void **state) {
    (void)state;
    assert_int_equal(yk_model_band_of(1), 0);
    assert_int_equal(yk_model_band_of(16384), 0);
    assert_int_equal(yk_model_band_of(16385), 1);
    assert_int_equal(yk_model_band_of(1 << 20), 2);
    assert_int_equal(yk_model_band_of((1 << 20) + 1), 3);
}

static void guesses_give_way(void **state) {
    (void)state;
    struct yk_model m;
    yk_model_init(&m, 1e9, 20000);
    near(yk_model_bytes_per_s(&m, 4096), 1e9, 0.001);
    near(yk_model_predict_ns(&m, 0, 1000000, 0), 20000 + 1e6, 0.001);
    feed(&m, 1000000, 1 << 20, 3e9, 30000, 60, 1);
    near(yk_model_bytes_per_s(&m, 1 << 20), 3e9, 0.05);
    near(yk_model_bytes_per_s(&m, 4096), 3e9, 0.05); /* the nearest that is known */
    near(yk_model_bytes_per_s(&m, 4 << 20), 3e9, 0.05);
}

static void fixed_cost_of_small_ones(void **state) {
    (void)state;
    struct yk_model m;
    yk_model_init(&m, 5e9, 5000);
    feed(&m, 1000000, 4096, 5e9, 60 * US, 40, 0);
    near(yk_model_fixed_ns(&m, 4096), 60 * US, 0.05);
    near(yk_model_predict_ns(&m, 0, 4096, 0), 61 * US, 0.1);
}

/* Within ten milliseconds of evidence. */
static void a_rail_that_slows_down(void **state) {
    (void)state;
    struct yk_model m;
    yk_model_init(&m, 1e9, 20000);
    uint64_t now = feed(&m, 1000000, 1 << 20, 4e9, 20000, 100, 1);
    uint64_t start = now;
    while (yk_model_bytes_per_s(&m, 1 << 20) > 8e8 && now < start + 1000 * 1000 * US)
        now = feed(&m, now, 256 << 10, 4e8, 20000, 1, 1);
    while (yk_model_bytes_per_s(&m, 256 << 10) > 6e8 && now < start + 1000 * 1000 * US)
        now = feed(&m, now, 256 << 10, 4e8, 20000, 1, 1);
    assert_true(now - start < 15 * 1000 * US);
}

/* Answers come in bunches: the first has waited for all. */
static void bunches(void **state) {
    (void)state;
    struct yk_model m;
    uint64_t now = 1000000;
    yk_model_init(&m, 1e9, 20000);
    for (int i = 0; i < 60; i++) {
        uint64_t took = (uint64_t)(16 * 65536 / 2e9 * 1e9);
        for (uint64_t k = 0; k < 16; k++)
            yk_model_done(&m, 65536, now - 1000, now + took + k * 50, 0);
        now += took;
    }
    near(yk_model_bytes_per_s(&m, 65536), 2e9, 0.1);
}

static void slices(void **state) {
    (void)state;
    struct yk_model m;
    yk_model_init(&m, 4e9, 20000);
    assert_int_equal(yk_model_slice(&m, 1000, 1), 1000);
    assert_int_equal(yk_model_slice(&m, 1 << 20, 1), 1 << 20);
    assert_true(yk_model_slice(&m, 1ull << 30, 1) > 3 << 20);
    assert_int_equal(yk_model_slice(&m, 16 << 20, 8), 512 << 10); /* four for each of eight */
    yk_model_init(&m, 1e6, 20000);
    assert_int_equal(yk_model_slice(&m, 1 << 20, 1), YK_MODEL_SLICE_MIN);
    yk_model_init(&m, 1e12, 20000);
    assert_int_equal(yk_model_slice(&m, 1ull << 40, 1), YK_MODEL_SLICE_MAX);
    for (uint64_t left = 1; left < 3 << 20; left += 9973) { /* always something, never too much */
        uint64_t cut = yk_model_slice(&m, left, 3);
        assert_true(cut > 0 && cut <= left);
    }
}

static void late_ones_count(void **state) {
    (void)state;
    struct yk_model m;
    yk_model_init(&m, 1e9, 10000);
    assert_true(yk_model_predict_ns(&m, 0, 65536, 5e6) > 5e6);
    assert_true(yk_model_predict_ns(&m, 1 << 20, 65536, 0) > yk_model_predict_ns(&m, 0, 65536, 0) + 1e6);
}

/* Farther is later, by so little that load outweighs it. */
static void distance_decides_between_equals(void **state) {
    (void)state;
    struct yk_model close, far;
    yk_model_init(&close, 1e9, 20000);
    yk_model_init(&far, 1e9, 20000);
    assert_true(yk_model_predict_ns(&close, 0, 65536, 0) == yk_model_predict_ns(&far, 0, 65536, 0));
    far.distance = 1;
    for (uint64_t len = 4096; len <= 4 << 20; len *= 4) {
        double one = yk_model_predict_ns(&close, 0, len, 0), other = yk_model_predict_ns(&far, 0, len, 0);
        assert_true(other > one * 1.05 && other < one * 1.07);
        assert_true(yk_model_predict_ns(&close, len + 100000, len, 0) > other);
    }
    double step = yk_model_predict_ns(&far, 0, 65536, 0);
    far.distance = 2;
    assert_true(yk_model_predict_ns(&far, 0, 65536, 0) > step);
    far.distance = UINT32_MAX; /* not to be used, but the only one */
    assert_true(yk_model_predict_ns(&far, 0, 65536, 0) < 1.5 * yk_model_predict_ns(&close, 0, 65536, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bands),
        cmocka_unit_test(guesses_give_way),
        cmocka_unit_test(fixed_cost_of_small_ones),
        cmocka_unit_test(a_rail_that_slows_down),
        cmocka_unit_test(bunches),
        cmocka_unit_test(slices),
        cmocka_unit_test(late_ones_count),
        cmocka_unit_test(distance_decides_between_equals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
