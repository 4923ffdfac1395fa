/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to numbers (parse.h).
 *
 * A number is read as whole part, fraction and power of ten of the fraction; a unit is looked up in
 * a table; the product is formed in 128 bits, where it can't overflow (64 bits times at most 2^50,
 * or 10^18 times 2^50), and then compared with the type's end.
 *
 * Thread: any.
 */
#include "base/parse.h"

#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FRACTION_DIGITS_MAX 18

__extension__ typedef unsigned __int128 u128;

struct number {
    uint64_t whole;
    uint64_t fraction;       /* digits after the point */
    uint64_t fraction_scale; /* 10 ^ their count */
    bool negative;
};

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"B", 1},
    {"K", 1ull << 10},
    {"KB", 1ull << 10},
    {"KiB", 1ull << 10},
    {"M", 1ull << 20},
    {"MB", 1ull << 20},
    {"MiB", 1ull << 20},
    {"G", 1ull << 30},
    {"GB", 1ull << 30},
    {"GiB", 1ull << 30},
    {"T", 1ull << 40},
    {"TB", 1ull << 40},
    {"TiB", 1ull << 40},
    {"P", 1ull << 50},
    {"PB", 1ull << 50},
    {"PiB", 1ull << 50},
    {NULL, 0},
};

static const struct unit duration_units[] = {
    {"ns", 1},
    {"us", YK_NS_PER_US},
    {"ms", YK_NS_PER_MS},
    {"s", YK_NS_PER_S},
    {"m", 60 * YK_NS_PER_S},
    {"min", 60 * YK_NS_PER_S},
    {"h", 3600 * YK_NS_PER_S},
    {"d", 86400 * YK_NS_PER_S},
    {NULL, 0},
};

static const struct unit count_units[] = {
    {"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {"T", 1000000000000}, {NULL, 0},
};

static const struct unit percent_units[] = {{"%", 1}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const char size_wanted[] = "a size such as 512MiB, 16K or 1.5G";
static const char duration_wanted[] = "a duration such as 500ms, 3s or 5m";
static const char count_wanted[] = "a count such as 10000, 10k or 1.5M";
static const char int_wanted[] = "a whole number such as 42 or 10k";
static const char percent_wanted[] = "a percentage from 0% to 100%, such as 80%";
static const char real_wanted[] = "a number such as 0.5 or 12";

static int fail(struct yk_err *err, const char *text, const char *wanted) {
    char quoted[YK_QUOTE_MAX];
    return yk_err_set(err, -YK_EINVAL, "found %s, expected %s", yk_quote(text, quoted), wanted);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static const char *skip_blanks(const char *p) {
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* Reads digits into *value; false on overflow. */
static bool read_digits(const char **p, uint64_t *value) {
    for (; is_digit(**p); (*p)++) {
        if (__builtin_mul_overflow(*value, 10u, value) ||
            __builtin_add_overflow(*value, (uint64_t)(**p - '0'), value))
            return false;
    }
    return true;
}

/* [-|+] digits [. digits], blanks before and after. Returns the rest, or NULL. */
static const char *read_number(const char *p, struct number *ret) {
    struct number number = {.fraction_scale = 1};
    p = skip_blanks(p);
    number.negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    if (!is_digit(*p) || !read_digits(&p, &number.whole))
        return NULL;
    if (*p == '.') {
        const char *first = ++p;
        if (!is_digit(*p))
            return NULL;
        while (is_digit(*p))
            p++;
        if (p - first > FRACTION_DIGITS_MAX)
            return NULL;
        for (const char *q = first; q < p; q++)
            number.fraction_scale *= 10;
        read_digits(&first, &number.fraction);
    }
    *ret = number;
    return skip_blanks(p);
}

static bool find_unit(const struct unit *units, const char *rest, uint64_t *ret_factor) {
    size_t len = strlen(rest);
    while (len > 0 && (rest[len - 1] == ' ' || rest[len - 1] == '\t'))
        len--;
    for (; units->name != NULL; units++) {
        if (strlen(units->name) == len && strncasecmp(units->name, rest, len) == 0) {
            *ret_factor = units->factor;
            return true;
        }
    }
    return false;
}

struct scaled {
    u128 magnitude; /* absolute value in the smallest unit, cut to a whole number */
    uint64_t factor;
    bool negative;
    bool whole; /* nothing was cut */
};

static bool read_scaled(const char *text, const struct unit *units, struct scaled *ret) {
    struct number number;
    const char *rest = (text != NULL) ? read_number(text, &number) : NULL;
    if (rest == NULL || !find_unit(units, rest, &ret->factor))
        return false;
    u128 parts = (u128)number.fraction * ret->factor;
    ret->magnitude = (u128)number.whole * ret->factor + parts / number.fraction_scale;
    ret->negative = number.negative;
    ret->whole = parts % number.fraction_scale == 0;
    return true;
}

/* A part of the smallest unit may be dropped from '1.3K', but not from '1.3', and not when nothing
 * is left: whoever wrote it did not mean 0. */
static bool may_be_cut(const struct scaled *scaled) {
    return scaled->factor > 1 && scaled->magnitude > 0;
}

static int parse_unsigned(const char *text, const struct unit *units, bool cut_ok,
                          const char *wanted, uint64_t *ret_value, struct yk_err *err) {
    struct scaled scaled;
    if (!read_scaled(text, units, &scaled) || scaled.negative)
        return fail(err, text, wanted);
    if (!scaled.whole && !(cut_ok && may_be_cut(&scaled)))
        return fail(err, text, wanted);
    if (scaled.magnitude > UINT64_MAX) {
        char quoted[YK_QUOTE_MAX];
        return yk_err_set(err, -YK_EINVAL, "found %s, which does not fit in 64 bits, expected %s",
                          yk_quote(text, quoted), wanted);
    }
    *ret_value = (uint64_t)scaled.magnitude;
    return 0;
}

int yk_parse_size(const char *text, uint64_t *ret_bytes, struct yk_err *err) {
    return parse_unsigned(text, size_units, true, size_wanted, ret_bytes, err);
}

int yk_parse_duration(const char *text, uint64_t *ret_ns, struct yk_err *err) {
    struct scaled scaled;
    if (read_scaled(text, no_units, &scaled) && scaled.whole && scaled.magnitude == 0) {
        *ret_ns = 0;
        return 0;
    }
    return parse_unsigned(text, duration_units, true, duration_wanted, ret_ns, err);
}

int yk_parse_count(const char *text, uint64_t *ret_count, struct yk_err *err) {
    return parse_unsigned(text, count_units, false, count_wanted, ret_count, err);
}

int yk_parse_int(const char *text, int64_t *ret_value, struct yk_err *err) {
    struct scaled scaled;
    if (!read_scaled(text, count_units, &scaled) || !scaled.whole)
        return fail(err, text, int_wanted);
    if (scaled.magnitude > (u128)INT64_MAX + (scaled.negative ? 1 : 0))
        return fail(err, text, "a whole number that fits in 64 bits");
    uint64_t magnitude = (uint64_t)scaled.magnitude;
    *ret_value = (int64_t)(scaled.negative ? 0 - magnitude : magnitude);
    return 0;
}

/* At most 64 bits of whole part and 10^18 of fraction: both conversions and the division round
 * once, far below what an option needs. */
static double to_double(const struct number *number) {
    double value =
        (double)number->whole + (double)number->fraction / (double)number->fraction_scale;
    return number->negative ? -value : value;
}

static int parse_double(const char *text, const struct unit *units, const char *wanted,
                        double *ret_value, struct yk_err *err) {
    struct number number;
    uint64_t factor;
    const char *rest = (text != NULL) ? read_number(text, &number) : NULL;
    if (rest == NULL || !find_unit(units, rest, &factor))
        return fail(err, text, wanted);
    *ret_value = to_double(&number);
    return 0;
}

int yk_parse_percent(const char *text, double *ret_fraction, struct yk_err *err) {
    double percent = 0;
    int rc = parse_double(text, percent_units, percent_wanted, &percent, err);
    if (rc < 0)
        return rc;
    if (percent < 0 || percent > 100)
        return fail(err, text, percent_wanted);
    *ret_fraction = percent / 100;
    return 0;
}

int yk_parse_real(const char *text, double *ret_value, struct yk_err *err) {
    return parse_double(text, no_units, real_wanted, ret_value, err);
}

int yk_parse_bool(const char *text, bool *ret_value, struct yk_err *err) {
    static const char *const names[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (size_t i = 0; text != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *ret_value = i % 2 == 1;
            return 0;
        }
    }
    return fail(err, text, "yes or no");
}

int yk_parse_enum(const char *text, const char *const *names, int *ret_index, struct yk_err *err) {
    char wanted[160] = "one of";
    size_t len = strlen(wanted), n = 0;
    for (; names[n] != NULL; n++) {
        if (text != NULL && strcmp(text, names[n]) == 0) {
            *ret_index = (int)n;
            return 0;
        }
        int more =
            snprintf(wanted + len, sizeof(wanted) - len, "%s %s", (n > 0) ? "," : "", names[n]);
        len = ((size_t)more < sizeof(wanted) - len) ? len + (size_t)more : sizeof(wanted) - 1;
    }
    const char *near = (text != NULL) ? yk_did_you_mean(text, names, n) : NULL;
    if (near == NULL)
        return fail(err, text, wanted);
    char quoted[YK_QUOTE_MAX];
    return yk_err_set(err, -YK_EINVAL, "found %s, expected %s (did you mean '%s'?)",
                      yk_quote(text, quoted), wanted, near);
}
