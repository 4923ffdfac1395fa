/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers to text (fmt.h).
 *
 * The calendar is computed here rather than by gmtime_r, which takes the time zone lock of libc: a
 * thread that stops inside it would stop every thread that logs.
 */
#include "base/fmt.h"

#include "base/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit byte_units[] = {
    {"B", 1},
    {"KiB", 1ull << 10},
    {"MiB", 1ull << 20},
    {"GiB", 1ull << 30},
    {"TiB", 1ull << 40},
    {"PiB", 1ull << 50},
};

static const struct unit duration_units[] = {
    {"ns", 1},
    {"us", YK_NS_PER_US},
    {"ms", YK_NS_PER_MS},
    {"s", YK_NS_PER_S},
    {"m", 60 * YK_NS_PER_S},
    {"h", 3600 * YK_NS_PER_S},
    {"d", 86400 * YK_NS_PER_S},
};

static const struct unit count_units[] = {
    {"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {"T", 1000000000000},
};

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

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

/* value / factor rounded to `decimals` places, as a whole number of 10^-decimals. */
static uint64_t rounded(uint64_t value, uint64_t factor, unsigned decimals) {
    u128 scaled = value;
    while (decimals-- > 0)
        scaled *= 10;
    return (uint64_t)((scaled + factor / 2) / factor);
}

/* 20 digits, a point, 9 decimals, a NUL; shorter than YK_FMT_MAX by a sign and a unit. */
#define DECIMAL_MAX 32

/* scaled is in 10^-decimals (9 at most); zeros at the end of the fraction are left out. */
static void write_decimal(char *buf, uint64_t scaled, unsigned decimals) {
    uint64_t power = 1;
    for (unsigned i = 0; i < decimals; i++)
        power *= 10;
    uint64_t fraction = scaled % power;
    int len = snprintf(buf, DECIMAL_MAX, "%" PRIu64, scaled / power);
    if (fraction == 0)
        return;
    len += snprintf(buf + len, DECIMAL_MAX - (size_t)len, ".%0*" PRIu64, (int)decimals, fraction);
    while (buf[len - 1] == '0')
        buf[--len] = '\0';
}

/* Three figures in the largest unit in which the rounded value is at least 1; a value that rounds
 * up to the next unit (1023.9 KiB) is written in that one. */
static char *fmt_rounded(uint64_t value, const struct unit *units, size_t n, const char *space,
                         char *buf) {
    size_t i = 0;
    while (i + 1 < n && value >= units[i + 1].factor)
        i++;
    if (i + 1 < n && i > 0 &&
        rounded(value, units[i].factor, 0) * units[i].factor >= units[i + 1].factor)
        i++;
    uint64_t factor = units[i].factor;
    unsigned decimals = (i == 0) ? 0 : 2;
    if (i > 0 && rounded(value, factor, 2) >= 1000)
        decimals = (rounded(value, factor, 1) >= 1000) ? 0 : 1;
    write_decimal(buf, rounded(value, factor, decimals), decimals);
    snprintf(buf + strlen(buf), YK_FMT_MAX - strlen(buf), "%s%s", space, units[i].name);
    return buf;
}

static char *fmt_exact(uint64_t value, const struct unit *units, size_t n, char *buf) {
    size_t i = n - 1;
    while (i > 0 && (value == 0 || value % units[i].factor != 0))
        i--;
    snprintf(buf, YK_FMT_MAX, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
    return buf;
}

char *yk_fmt_bytes(uint64_t bytes, char buf[YK_FMT_MAX]) {
    return fmt_rounded(bytes, byte_units, COUNT_OF(byte_units), " ", buf);
}

char *yk_fmt_duration(uint64_t ns, char buf[YK_FMT_MAX]) {
    return fmt_rounded(ns, duration_units, COUNT_OF(duration_units), "", buf);
}

char *yk_fmt_count(uint64_t count, char buf[YK_FMT_MAX]) {
    return fmt_rounded(count, count_units, COUNT_OF(count_units), "", buf);
}

char *yk_fmt_bytes_exact(uint64_t bytes, char buf[YK_FMT_MAX]) {
    return fmt_exact(bytes, byte_units, COUNT_OF(byte_units), buf);
}

char *yk_fmt_duration_exact(uint64_t ns, char buf[YK_FMT_MAX]) {
    return fmt_exact(ns, duration_units, COUNT_OF(duration_units), buf);
}

char *yk_fmt_percent(double fraction, char buf[YK_FMT_MAX]) {
    double clamped = (fraction > 0) ? ((fraction < 1) ? fraction : 1) : 0;
    write_decimal(buf, (uint64_t)(clamped * 1e8 + 0.5), 6);
    snprintf(buf + strlen(buf), YK_FMT_MAX - strlen(buf), "%%");
    return buf;
}

char *yk_fmt_real(double value, char buf[YK_FMT_MAX]) {
    double magnitude = fabs(value);
    unsigned decimals = (magnitude < 9e9) ? 9 : 0;
    uint64_t scaled = 0;
    if (magnitude <= 1e18) /* false for NaN */
        scaled = (uint64_t)(magnitude * ((decimals > 0) ? 1e9 : 1) + 0.5);
    buf[0] = '-';
    write_decimal(buf + ((value < 0 && scaled > 0) ? 1 : 0), scaled, decimals);
    return buf;
}

/* The decimal point of the locale, one or more bytes, is whatever is neither digit, sign nor
 * exponent. */
static void undo_locale(char *text) {
    char *out = text;
    for (const char *p = text; *p != '\0'; p++) {
        if (strchr("0123456789+-e", *p) != NULL)
            *out++ = *p;
        else if (out == text || out[-1] != '.')
            *out++ = '.';
    }
    *out = '\0';
}

/* 17 figures always read back; fewer are tried first, since 0.1 is what 0.1 should look like. */
char *yk_fmt_double(double value, char buf[YK_FMT_MAX]) {
    char text[YK_FMT_MAX] = "";
    for (int figures = 15; figures <= 17; figures++) {
        snprintf(text, sizeof(text), "%.*g", figures, value);
        if (strtod(text, NULL) == value)
            break;
    }
    undo_locale(text);
    memcpy(buf, text, sizeof(text));
    return buf;
}
