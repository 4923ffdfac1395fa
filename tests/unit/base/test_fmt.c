/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers to text: dates against libc's calendar.
 */
#include "base/fmt.h"

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
    /* 1970 to about 2470 in steps of 9.97 hours: every day of a 400-year cycle. */
    for (uint64_t s = 0; s < 500ull * 366 * 86400; s += 35891) {
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_agree_with_libc),
        cmocka_unit_test(an_absurd_clock_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
