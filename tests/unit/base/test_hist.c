/* SPDX-License-Identifier: Apache-2.0
 *
 * Histogram: bucket bounds over the whole range, percentiles against sorted values, merge and
 * subtract against recording directly, and a reader beside the writer.
 */
#include "base/hist.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static struct yk_hist hist, other, diff;

static int empty(void **state) {
    (void)state;
    yk_hist_reset(&hist);
    yk_hist_reset(&other);
    yk_hist_reset(&diff);
    return 0;
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void buckets_cover_the_range_without_gaps(void **state) {
    (void)state;
    assert_true(sizeof(struct yk_hist) < 10 * 1024);
    assert_true(yk_hist_bucket_low(0) == 0);
    for (uint32_t i = 0; i < YK_HIST_BUCKETS; i++) {
        uint64_t low = yk_hist_bucket_low(i), high = yk_hist_bucket_high(i);
        uint64_t middle = yk_hist_bucket_middle(i);
        assert_int_equal(yk_hist_bucket(low), i);
        assert_int_equal(yk_hist_bucket(high), i);
        assert_true(low <= middle && middle <= high);
        assert_true((double)(high - middle) <= 0.016 * (double)high);
        assert_true((double)(middle - low) <= 0.016 * (double)low);
        if (i + 1 < YK_HIST_BUCKETS)
            assert_true(high + 1 == yk_hist_bucket_low(i + 1));
    }
    assert_true(yk_hist_bucket_high(YK_HIST_BUCKETS - 1) >= 1000ull * 1000000000);
    assert_int_equal(yk_hist_bucket(UINT64_MAX), YK_HIST_BUCKETS - 1);
    assert_int_equal(yk_hist_bucket(1ull << 40), YK_HIST_BUCKETS - 1);
}

static void an_empty_histogram_is_all_zero(void **state) {
    (void)state;
    static const struct yk_hist zero;
    assert_memory_equal(&hist, &zero, sizeof(zero));
    assert_int_equal(yk_hist_count(&hist), 0);
    assert_int_equal(yk_hist_min(&hist), 0);
    assert_int_equal(yk_hist_max(&hist), 0);
    assert_true(yk_hist_mean(&hist) == 0);
    assert_int_equal(yk_hist_percentile(&hist, 50), 0);
}

static void one_value_is_every_percentile(void **state) {
    (void)state;
    static const uint64_t values[] = {0, 1, 31, 32, 333, 123456789, (1ull << 40) - 1, 1ull << 50};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        yk_hist_reset(&hist);
        yk_hist_record(&hist, values[i]);
        assert_true(yk_hist_min(&hist) == values[i]);
        assert_true(yk_hist_max(&hist) == values[i]);
        assert_true(yk_hist_mean(&hist) == (double)values[i]);
        for (double p = 0; p <= 100; p += 12.5)
            assert_true(yk_hist_percentile(&hist, p) == values[i]);
    }
}

static void the_largest_value_does_not_wrap(void **state) {
    (void)state;
    yk_hist_record(&hist, UINT64_MAX);
    assert_true(yk_hist_max(&hist) == UINT64_MAX);
    assert_true(yk_hist_min(&hist) >= UINT64_MAX - 1);
    assert_int_equal(yk_hist_count(&hist), 1);
}

static void small_values_are_exact(void **state) {
    (void)state;
    for (uint64_t v = 1; v <= 10; v++)
        yk_hist_record(&hist, v);
    assert_int_equal(yk_hist_percentile(&hist, 0), 1);
    assert_int_equal(yk_hist_percentile(&hist, 10), 1);
    assert_int_equal(yk_hist_percentile(&hist, 10.1), 2);
    assert_int_equal(yk_hist_percentile(&hist, 50), 5);
    assert_int_equal(yk_hist_percentile(&hist, 90), 9);
    assert_int_equal(yk_hist_percentile(&hist, 99.9), 10);
    assert_int_equal(yk_hist_percentile(&hist, 100), 10);
    assert_int_equal(yk_hist_percentile(&hist, -5), 1);
    assert_int_equal(yk_hist_percentile(&hist, 500), 10);
    assert_int_equal(yk_hist_percentile(&hist, NAN), 1);
    assert_true(yk_hist_mean(&hist) == 5.5);
}

static void counts_up_to_bounds(void **state) {
    (void)state;
    static const uint64_t bounds[] = {0, 4, 4, 30, 1000, UINT64_MAX};
    uint64_t counts[COUNT_OF(bounds)];
    for (uint64_t v = 1; v <= 10; v++)
        yk_hist_record(&hist, v);
    yk_hist_record(&hist, 1000);
    yk_hist_record(&hist, 1100);
    yk_hist_record(&hist, UINT64_MAX);
    yk_hist_cumulate(&hist, bounds, COUNT_OF(bounds), counts);
    static const uint64_t want[] = {0, 4, 4, 10, 11, 13};
    assert_memory_equal(counts, want, sizeof(want));
}

static void whole_ranks_are_not_pushed_up(void **state) {
    (void)state;
    /* 999 fast ones and a slow one: p99.9 of 1,000 is the 999th. */
    for (int i = 0; i < 999; i++)
        yk_hist_record(&hist, 10);
    yk_hist_record(&hist, 1000000);
    assert_int_equal(yk_hist_percentile(&hist, 99.9), 10);
    assert_true(yk_hist_percentile(&hist, 99.95) >= 984000);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void percentiles_are_within_their_error(void **state) {
    (void)state;
    enum { N = 20000 };
    uint64_t *values = malloc(N * sizeof(*values)), seed = 88172645463325252ull;
    static const double percents[] = {0.01, 1, 10, 25, 50, 75, 90, 99, 99.9, 99.99};
    assert_non_null(values);
    for (size_t i = 0; i < N; i++) { /* every magnitude up to 2^39 */
        values[i] = next_random(&seed) >> (25 + next_random(&seed) % 39);
        yk_hist_record(&hist, values[i]);
    }
    qsort(values, N, sizeof(*values), by_value);
    for (size_t i = 0; i < COUNT_OF(percents); i++) {
        size_t rank = (size_t)ceil(percents[i] / 100 * N - 1e-9);
        double want = (double)values[(rank > 0) ? rank - 1 : 0];
        double got = (double)yk_hist_percentile(&hist, percents[i]);
        if (fabs(got - want) > 0.016 * want)
            fail_msg("p%g: %g, should be %g", percents[i], got, want);
    }
    assert_true(yk_hist_min(&hist) == values[0]);
    assert_true(yk_hist_max(&hist) == values[N - 1]);
    assert_int_equal(yk_hist_count(&hist), N);
    free(values);
}

static void merging_equals_recording_into_one(void **state) {
    (void)state;
    uint64_t seed = 42;
    static struct yk_hist all;
    yk_hist_reset(&all);
    for (int i = 0; i < 1000; i++) {
        uint64_t value = next_random(&seed) >> (i % 64);
        yk_hist_record((i % 3) ? &hist : &other, value);
        yk_hist_record(&all, value);
    }
    yk_hist_merge(&hist, &other);
    assert_memory_equal(&hist, &all, sizeof(all));
    yk_hist_reset(&other);
    yk_hist_merge(&hist, &other); /* empty into full */
    assert_memory_equal(&hist, &all, sizeof(all));
    yk_hist_merge(&other, &hist); /* full into empty */
    assert_memory_equal(&other, &all, sizeof(all));
}

static void subtracting_leaves_the_interval(void **state) {
    (void)state;
    yk_hist_record(&hist, 5);
    yk_hist_record(&hist, 5000000);
    yk_hist_snapshot(&hist, &other);
    for (uint64_t v = 1000; v <= 2000; v += 10)
        yk_hist_record(&hist, v);
    yk_hist_subtract(&hist, &other, &diff);
    assert_int_equal(yk_hist_count(&diff), 101);
    assert_true(yk_hist_mean(&diff) == 1500);
    assert_true(yk_hist_min(&diff) <= 1000 && yk_hist_min(&diff) >= 984);
    assert_true(yk_hist_max(&diff) >= 2000 && yk_hist_max(&diff) <= 2032);
    assert_true(llabs((long long)yk_hist_percentile(&diff, 50) - 1500) <= 24);
    yk_hist_subtract(&hist, &other, &other); /* in place */
    assert_memory_equal(&other, &diff, sizeof(diff));
    yk_hist_subtract(&hist, &hist, &diff);
    assert_int_equal(yk_hist_count(&diff), 0);
    assert_int_equal(yk_hist_max(&diff), 0);
    assert_int_equal(yk_hist_min(&diff), 0);
}

static void subtracting_across_a_reset_counts_from_zero(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++)
        yk_hist_record(&hist, 100);
    yk_hist_snapshot(&hist, &other);
    yk_hist_reset(&hist);
    yk_hist_record(&hist, 100);
    yk_hist_subtract(&hist, &other, &diff);
    assert_int_equal(yk_hist_count(&diff), 1);
    assert_int_equal(yk_hist_max(&diff), 100);
}

static void the_open_bucket_keeps_its_maximum(void **state) {
    (void)state;
    yk_hist_record(&hist, 3);
    yk_hist_snapshot(&hist, &other);
    yk_hist_record(&hist, 1ull << 45);
    yk_hist_subtract(&hist, &other, &diff);
    assert_true(yk_hist_max(&diff) == 1ull << 45);
    assert_true(yk_hist_percentile(&hist, 100) == 1ull << 45);
}

enum { WRITES = 200000 };

static void *write_many(void *arg) {
    uint64_t seed = 7;
    for (int i = 0; i < WRITES; i++)
        yk_hist_record(arg, 1 + (next_random(&seed) & 0xffff));
    return NULL;
}

static void a_reader_beside_the_writer_sees_whole_counters(void **state) {
    (void)state;
    pthread_t writer;
    uint64_t last = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_many, &hist), 0);
    while (last < WRITES) {
        yk_hist_snapshot(&hist, &other);
        uint64_t count = yk_hist_count(&other);
        assert_true(count >= last && count <= WRITES);
        assert_true(yk_hist_max(&other) <= 65536);
        assert_true(yk_hist_percentile(&other, 99) <= 66560);
        last = count;
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
    yk_hist_snapshot(&hist, &other);
    assert_memory_equal(&hist, &other, sizeof(hist));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(buckets_cover_the_range_without_gaps, empty),
        cmocka_unit_test_setup(an_empty_histogram_is_all_zero, empty),
        cmocka_unit_test_setup(one_value_is_every_percentile, empty),
        cmocka_unit_test_setup(the_largest_value_does_not_wrap, empty),
        cmocka_unit_test_setup(small_values_are_exact, empty),
        cmocka_unit_test_setup(counts_up_to_bounds, empty),
        cmocka_unit_test_setup(whole_ranks_are_not_pushed_up, empty),
        cmocka_unit_test_setup(percentiles_are_within_their_error, empty),
        cmocka_unit_test_setup(merging_equals_recording_into_one, empty),
        cmocka_unit_test_setup(subtracting_leaves_the_interval, empty),
        cmocka_unit_test_setup(subtracting_across_a_reset_counts_from_zero, empty),
        cmocka_unit_test_setup(the_open_bucket_keeps_its_maximum, empty),
        cmocka_unit_test_setup(a_reader_beside_the_writer_sees_whole_counters, empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
