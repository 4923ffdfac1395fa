/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers to text: dates against libc's calendar, rounded and exact forms, and that every exact
 * form parses back to the number it was made from.
 */
#include "base/fmt.h"
#include "base/parse.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void dates_agree_with_libc(void **state) {
    (void)state;
    char got[YK_FMT_MAX], want[64];
    /* 1970 to about 2470 in steps of a day less a second: every day of a 400-year cycle. */
    for (uint64_t s = 0; s < 500ull * 366 * 86400; s += 86399) {
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.007Z", &tm);
        assert_string_equal(yk_fmt_utc(s * 1000 + 7, got), want);
    }
    assert_string_equal(yk_fmt_utc(0, got), "1970-01-01T00:00:00.000Z");
    assert_string_equal(yk_fmt_utc(951782400000, got), "2000-02-29T00:00:00.000Z");
}

static void an_absurd_clock_ends(void **state) {
    (void)state;
    char got[YK_FMT_MAX];
    assert_true(strlen(yk_fmt_utc(UINT64_MAX, got)) < YK_FMT_MAX);
}

static void bytes_have_three_figures(void **state) {
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        {0, "0 B"},
        {1, "1 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {1600, "1.56 KiB"},
        {10239, "10 KiB"},
        {10300, "10.1 KiB"},
        {102400, "100 KiB"},
        {1048575, "1 MiB"}, /* rounds up to the next unit */
        {1047552, "1023 KiB"},
        {3274752, "3.12 MiB"},
        {8ull << 30, "8 GiB"},
        {UINT64_MAX, "16384 PiB"},
    };
    char buf[YK_FMT_MAX];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(yk_fmt_bytes(rows[i].bytes, buf), rows[i].text);
}

static void durations_and_counts_have_three_figures(void **state) {
    (void)state;
    char buf[YK_FMT_MAX];
    assert_string_equal(yk_fmt_duration(0, buf), "0ns");
    assert_string_equal(yk_fmt_duration(999, buf), "999ns");
    assert_string_equal(yk_fmt_duration(1250, buf), "1.25us");
    assert_string_equal(yk_fmt_duration(12345, buf), "12.3us");
    assert_string_equal(yk_fmt_duration(999950, buf), "1ms");
    assert_string_equal(yk_fmt_duration(500000000, buf), "500ms");
    assert_string_equal(yk_fmt_duration(59990000000, buf), "1m");
    assert_string_equal(yk_fmt_duration(90000000000, buf), "1.5m");
    assert_string_equal(yk_fmt_duration(216000000000000, buf), "2.5d");
    assert_string_equal(yk_fmt_duration(UINT64_MAX, buf), "213504d");
    assert_string_equal(yk_fmt_count(999, buf), "999");
    assert_string_equal(yk_fmt_count(12345, buf), "12.3k");
    assert_string_equal(yk_fmt_count(1500000, buf), "1.5M");
}

/* Numbers of every length, with and without zeros at the end. */
static uint64_t sample(unsigned i) {
    uint64_t x = i * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 29)) >> (i % 64);
    return (i % 3 == 0) ? x : (i % 3 == 1) ? x / 1000000000 * 1000000000 : x & ~0xfffffull;
}

static void exact_forms_parse_back(void **state) {
    (void)state;
    char buf[YK_FMT_MAX];
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t want = sample(i), got;
        assert_int_equal(yk_parse_size(yk_fmt_bytes_exact(want, buf), &got, NULL), 0);
        assert_true(got == want);
        assert_int_equal(yk_parse_duration(yk_fmt_duration_exact(want, buf), &got, NULL), 0);
        assert_true(got == want);
    }
    assert_string_equal(yk_fmt_bytes_exact(0, buf), "0B");
    assert_string_equal(yk_fmt_bytes_exact(1536ull << 20, buf), "1536MiB");
    assert_string_equal(yk_fmt_bytes_exact(1000, buf), "1000B");
    assert_string_equal(yk_fmt_duration_exact(90000000000, buf), "90s");
    assert_string_equal(yk_fmt_duration_exact(300000000000, buf), "5m");
}

static void rounded_forms_never_overflow_and_stay_near(void **state) {
    (void)state;
    char buf[YK_FMT_MAX];
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t want = sample(i), got = 0;
        if (want > UINT64_MAX / 2)
            continue; /* may round up past the end */
        assert_int_equal(yk_parse_size(yk_fmt_bytes(want, buf), &got, NULL), 0);
        assert_true(fabs((double)got - (double)want) <= 0.006 * (double)want);
        assert_int_equal(yk_parse_duration(yk_fmt_duration(want, buf), &got, NULL), 0);
        assert_true(fabs((double)got - (double)want) <= 0.006 * (double)want);
    }
}

static void percentages_and_reals(void **state) {
    (void)state;
    char buf[YK_FMT_MAX];
    assert_string_equal(yk_fmt_percent(0.8, buf), "80%");
    assert_string_equal(yk_fmt_percent(0.995, buf), "99.5%");
    assert_string_equal(yk_fmt_percent(1.0 / 3, buf), "33.333333%");
    assert_string_equal(yk_fmt_percent(7, buf), "100%");
    assert_string_equal(yk_fmt_percent(-1, buf), "0%");
    assert_string_equal(yk_fmt_percent(NAN, buf), "0%");
    assert_string_equal(yk_fmt_real(0, buf), "0");
    assert_string_equal(yk_fmt_real(-2.75, buf), "-2.75");
    assert_string_equal(yk_fmt_real(0.1, buf), "0.1");
    assert_string_equal(yk_fmt_real(-1e-12, buf), "0");
    assert_string_equal(yk_fmt_real(1234567.5, buf), "1234567.5");
    assert_string_equal(yk_fmt_real(1e10, buf), "10000000000");
    assert_string_equal(yk_fmt_real(-1e18, buf), "-1000000000000000000");
    assert_string_equal(yk_fmt_real(INFINITY, buf), "0");
    assert_string_equal(yk_fmt_real(NAN, buf), "0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_agree_with_libc),
        cmocka_unit_test(an_absurd_clock_ends),
        cmocka_unit_test(bytes_have_three_figures),
        cmocka_unit_test(durations_and_counts_have_three_figures),
        cmocka_unit_test(exact_forms_parse_back),
        cmocka_unit_test(rounded_forms_never_overflow_and_stay_near),
        cmocka_unit_test(percentages_and_reals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
