/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers to text (fmt.h).
 *
 * The calendar is computed here rather than by gmtime_r, which takes the time zone lock of libc: a
 * thread that stops inside it would stop every thread that logs.
 */
#include "base/fmt.h"

#include <stdbool.h>
#include <stdio.h>

static bool is_leap(int year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days since 1970-01-01 to a Gregorian date. Whole 400-year cycles (146,097 days) are divided out,
 * so that the loop over years is short even on a machine whose clock is absurd. */
static void date_from_days(uint64_t days, int *ret_year, int *ret_month, int *ret_day) {
    static const uint8_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = 1970 + (int)(days / 146097 % 1000) * 400;
    int month = 0;
    days %= 146097;
    for (; days >= (is_leap(year) ? 366u : 365u); year++)
        days -= is_leap(year) ? 366u : 365u;
    for (;; month++) {
        unsigned length = month_days[month] + ((month == 1 && is_leap(year)) ? 1u : 0u);
        if (days < length)
            break;
        days -= length;
    }
    *ret_year = year;
    *ret_month = month + 1;
    *ret_day = (int)days + 1;
}

char *yk_fmt_utc(uint64_t wall_ms, char buf[YK_FMT_MAX]) {
    uint64_t s = wall_ms / 1000;
    int year, month, day;
    date_from_days(s / 86400, &year, &month, &day);
    snprintf(buf, YK_FMT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month, day,
             (int)(s / 3600 % 24), (int)(s / 60 % 60), (int)(s % 60), (int)(wall_ms % 1000));
    return buf;
}
