/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to numbers: what is accepted, what is refused and with which words, and the ends of ranges.
 */
#include "base/parse.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define UNTOUCHED   0xdeadbeefu

typedef int (*parse_fn)(const char *, uint64_t *, struct yk_err *);

struct good {
    const char *text;
    uint64_t value;
};

static void all_good(parse_fn parse, const struct good *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct yk_err err = {0};
        uint64_t got = UNTOUCHED;
        if (parse(rows[i].text, &got, &err) != 0)
            fail_msg("'%s': %s", rows[i].text, err.text);
        if (got != rows[i].value)
            fail_msg("'%s' gave %ju", rows[i].text, (uintmax_t)got);
    }
}

static void all_bad(parse_fn parse, const char *const *texts, size_t n, const char *wanted) {
    for (size_t i = 0; i < n; i++) {
        struct yk_err err = {0};
        uint64_t got = UNTOUCHED;
        if (parse(texts[i], &got, &err) != -YK_EINVAL)
            fail_msg("'%s' was accepted as %ju", texts[i], (uintmax_t)got);
        assert_int_equal(got, UNTOUCHED);
        assert_int_equal(err.code, -YK_EINVAL);
        if (strncmp(err.text, "found '", 7) != 0 || strstr(err.text, wanted) == NULL)
            fail_msg("'%s': %s", texts[i], err.text);
        assert_int_equal(parse(texts[i], &got, NULL), -YK_EINVAL);
    }
}

static void sizes(void **state) {
    (void)state;
    static const struct good good[] = {
        {"0", 0},
        {"512", 512},
        {"512B", 512},
        {"16K", 16384},
        {"16k", 16384},
        {"16kb", 16384},
        {"16KiB", 16384},
        {"512MiB", 512ull << 20},
        {"8G", 8ull << 30},
        {"4 GB", 4ull << 30},
        {" 4\tgib ", 4ull << 30},
        {"1.5G", 3ull << 29},
        {"1.0", 1},
        {"+2M", 2ull << 20},
        {"2T", 2ull << 40},
        {"3PiB", 3ull << 50},
        {"1.3K", 1331},         /* 1331.2 */
        {"0.1T", 109951162777}, /* 109951162777.6 */
        {"1.999999999999999999G", (2ull << 30) - 1},
        {"18446744073709551615", UINT64_MAX},
        {"16383.999P", 18446742947809644773ull}, /* 2^64 - 0.001 P */
    };
    static const char *const bad[] = {
        NULL,      "",
        " ",       "G",
        "-1",      "-1G",
        "8X",      "8GG",
        "8Gi",     "8iB",
        "0x10",    "1e9",
        "1.5",     "1.5B",
        ".5G",     "5.G",
        "1 2",     "8G x",
        "1,5G",    "8\nG",
        "0.0001K", "1.0000000000000000001G",
        "nan",     "١G",
    };
    all_good(yk_parse_size, good, COUNT_OF(good));
    all_bad(yk_parse_size, bad, COUNT_OF(bad), "expected a size such as");
    static const char *const large[] = {"16384P", "18446744073709551615K"};
    all_bad(yk_parse_size, large, COUNT_OF(large), "does not fit in 64 bits, expected a size");
    static const char *const endless[] = {"18446744073709551616",
                                          "99999999999999999999999999999999"};
    all_bad(yk_parse_size, endless, COUNT_OF(endless), "expected a size such as");
}

static void durations(void **state) {
    (void)state;
    static const struct good good[] = {
        {"0", 0},
        {"0s", 0},
        {"250us", 250000},
        {"500ms", 500000000},
        {"500 MS", 500000000},
        {"3s", 3000000000},
        {"1.5s", 1500000000},
        {"5m", 300000000000},
        {"5min", 300000000000},
        {"12h", 43200000000000},
        {"7d", 604800000000000},
        {"42ns", 42},
        {"1.0000000019s", 1000000001},
    };
    static const char *const bad[] = {NULL,    "",     "5",     "1.5", "-3s", "3 s s",
                                      "1h30m", "3sec", "1.5ns", "s",   "0.1"};
    all_good(yk_parse_duration, good, COUNT_OF(good));
    all_bad(yk_parse_duration, bad, COUNT_OF(bad), "expected a duration such as");
    static const char *const large[] = {"213504d", "99999999999999999h"};
    all_bad(yk_parse_duration, large, COUNT_OF(large), "does not fit in 64 bits");
}

static void counts(void **state) {
    (void)state;
    static const struct good good[] = {
        {"0", 0},          {"10000", 10000},      {"10k", 10000},           {"10K", 10000},
        {"1.5M", 1500000}, {"2G", 2000000000ull}, {"1T", 1000000000000ull}, {"1.234k", 1234},
    };
    static const char *const bad[] = {NULL, "", "1.5", "1.2345k", "-1", "10kB", "ten"};
    all_good(yk_parse_count, good, COUNT_OF(good));
    all_bad(yk_parse_count, bad, COUNT_OF(bad), "expected a count such as");
}

static void ints(void **state) {
    (void)state;
    int64_t got;
    struct yk_err err;
    assert_int_equal(yk_parse_int("42", &got, &err), 0);
    assert_int_equal(got, 42);
    assert_int_equal(yk_parse_int("-1.5k", &got, &err), 0);
    assert_int_equal(got, -1500);
    assert_int_equal(yk_parse_int("9223372036854775807", &got, &err), 0);
    assert_true(got == INT64_MAX);
    assert_int_equal(yk_parse_int("-9223372036854775808", &got, &err), 0);
    assert_true(got == INT64_MIN);
    static const char *const bad[] = {
        NULL, "", "9223372036854775808", "-9223372036854775809", "1.5", "--1", "-", "0x1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(yk_parse_int(bad[i], &got, &err), -YK_EINVAL);
        assert_non_null(strstr(err.text, "expected a whole number"));
        assert_true(got == INT64_MIN);
    }
}

static void percentages(void **state) {
    (void)state;
    double got;
    struct yk_err err;
    assert_int_equal(yk_parse_percent("80%", &got, &err), 0);
    assert_true(fabs(got - 0.8) < 1e-15);
    assert_int_equal(yk_parse_percent("99.5 %", &got, &err), 0);
    assert_true(fabs(got - 0.995) < 1e-15);
    assert_int_equal(yk_parse_percent("0%", &got, &err), 0);
    assert_true(got == 0);
    assert_int_equal(yk_parse_percent("100%", &got, &err), 0);
    assert_true(got == 1);
    static const char *const bad[] = {NULL,  "",          "80", "0.8", "101%",
                                      "-1%", "100.0001%", "%",  "80%%"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(yk_parse_percent(bad[i], &got, &err), -YK_EINVAL);
        assert_non_null(strstr(err.text, "expected a percentage from 0% to 100%"));
        assert_true(got == 1);
    }
}

static void reals(void **state) {
    (void)state;
    double got;
    struct yk_err err;
    assert_int_equal(yk_parse_real("-2.75", &got, &err), 0);
    assert_true(got == -2.75);
    assert_int_equal(yk_parse_real("0.1", &got, &err), 0);
    assert_true(fabs(got - 0.1) < 1e-16);
    assert_int_equal(yk_parse_real(" 12 ", &got, &err), 0);
    assert_true(got == 12);
    static const char *const bad[] = {NULL, "", "inf", "nan", "1e3", ".5", "5.", "1,5", "2x"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(yk_parse_real(bad[i], &got, &err), -YK_EINVAL);
        assert_non_null(strstr(err.text, "expected a number such as"));
    }
}

static void bools(void **state) {
    (void)state;
    static const char *const yes[] = {"yes", "true", "on", "1", "YES", "True"};
    static const char *const no[] = {"no", "false", "off", "0", "OFF"};
    static const char *const bad[] = {NULL, "", "y", "2", "yes ", "enabled"};
    struct yk_err err;
    bool got;
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        got = false;
        assert_int_equal(yk_parse_bool(yes[i], &got, &err), 0);
        assert_true(got);
    }
    for (size_t i = 0; i < COUNT_OF(no); i++) {
        got = true;
        assert_int_equal(yk_parse_bool(no[i], &got, &err), 0);
        assert_false(got);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(yk_parse_bool(bad[i], &got, &err), -YK_EINVAL);
        assert_non_null(strstr(err.text, "expected yes or no"));
    }
}

static void enums(void **state) {
    (void)state;
    static const char *const names[] = {"lru", "s3fifo", "chain-lru", NULL};
    struct yk_err err;
    int got = -7;
    assert_int_equal(yk_parse_enum("s3fifo", names, &got, &err), 0);
    assert_int_equal(got, 1);
    assert_int_equal(yk_parse_enum("s3fif", names, &got, &err), -YK_EINVAL);
    assert_string_equal(err.text, "found 's3fif', expected one of lru, s3fifo, chain-lru (did you "
                                  "mean 's3fifo'?)");
    assert_int_equal(yk_parse_enum("arc2q", names, &got, &err), -YK_EINVAL);
    assert_string_equal(err.text, "found 'arc2q', expected one of lru, s3fifo, chain-lru");
    assert_int_equal(yk_parse_enum(NULL, names, &got, &err), -YK_EINVAL);
    assert_int_equal(got, 1);
    static const char *const many[] = {
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "cccccccccccccccccccccccccccccccccccccccccc", "dddddddddddddddddddddddddddddddddddddddd",
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", NULL};
    assert_int_equal(yk_parse_enum("x", many, &got, &err), -YK_EINVAL); /* cut, not overrun */
}

static void addresses(void **state) {
    (void)state;
    static const struct {
        const char *text;
        struct yk_addr addr;
        const char *canonical;
    } good[] = {
        {"unix:/run/yolk.sock", {YK_ADDR_UNIX, 0, "/run/yolk.sock"}, "unix:/run/yolk.sock"},
        {"unix:rel/a:b", {YK_ADDR_UNIX, 0, "rel/a:b"}, "unix:rel/a:b"},
        {"tcp:node-1.example:7780",
         {YK_ADDR_TCP, 7780, "node-1.example"},
         "tcp:node-1.example:7780"},
        {"127.0.0.1:0", {YK_ADDR_TCP, 0, "127.0.0.1"}, "tcp:127.0.0.1:0"},
        {"[::1]:65535", {YK_ADDR_TCP, 65535, "::1"}, "tcp:[::1]:65535"},
        {"tcp:[fe80::1%eth0]:1", {YK_ADDR_TCP, 1, "fe80::1%eth0"}, "tcp:[fe80::1%eth0]:1"},
    };
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct yk_err err = {0};
        struct yk_addr addr;
        char text[YK_ADDR_TEXT_MAX];
        if (yk_parse_addr(good[i].text, &addr, &err) != 0)
            fail_msg("'%s': %s", good[i].text, err.text);
        assert_int_equal(addr.kind, good[i].addr.kind);
        assert_int_equal(addr.port, good[i].addr.port);
        assert_string_equal(addr.host, good[i].addr.host);
        assert_string_equal(yk_addr_format(&addr, text), good[i].canonical);
    }
    struct yk_addr none = {0};
    char text[YK_ADDR_TEXT_MAX];
    assert_string_equal(yk_addr_format(&none, text), "");
}

static void wrong_addresses_say_why(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {NULL, "expected unix:/PATH, tcp:HOST:PORT or HOST:PORT"},
        {"", "expected unix:"},
        {"host", "expected unix:"},
        {"tcp:host", "expected unix:"},
        {"unix:", "has no path"},
        {"unix:@yolk", "abstract socket"},
        {":7780", "has no host"},
        {"tcp::7780", "has no host"},
        {"::1:7780", "needs brackets"},
        {"http://host:80", "needs brackets"},
        {"host:", "not a number from 0 to 65535"},
        {"host:65536", "not a number from 0 to 65535"},
        {"host:99999999999999999999", "not a number from 0 to 65535"},
        {"host:80x", "not a number from 0 to 65535"},
        {"host:-1", "not a number from 0 to 65535"},
        {"ho st:80", "expected unix:"},
        {"ho/st:80", "expected unix:"},
        {"[::1]", "expected unix:"},
        {"[::1:80", "expected unix:"},
        {"[host]:80", "expected unix:"},
        {"[]:80", "expected unix:"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct yk_err err = {0};
        struct yk_addr addr = {.port = 7};
        if (yk_parse_addr(bad[i][0], &addr, &err) != -YK_EINVAL)
            fail_msg("'%s' was accepted", bad[i][0]);
        if (strstr(err.text, bad[i][1]) == NULL)
            fail_msg("'%s': %s", bad[i][0], err.text);
        assert_int_equal(addr.port, 7);
    }
}

static void address_parts_have_limits(void **state) {
    (void)state;
    char text[400];
    struct yk_addr addr;
    struct yk_err err;
    for (size_t len = 100; len < 115; len++) {
        snprintf(text, sizeof(text), "unix:%0*d", (int)len, 0);
        assert_int_equal(yk_parse_addr(text, &addr, &err), (len <= 107) ? 0 : -YK_EINVAL);
    }
    assert_non_null(strstr(err.text, "a path of 114 bytes, expected at most 107"));
    for (size_t len = 250; len < 260; len++) {
        snprintf(text, sizeof(text), "%0*d:80", (int)len, 0);
        assert_int_equal(yk_parse_addr(text, &addr, &err), (len <= 255) ? 0 : -YK_EINVAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(durations),
        cmocka_unit_test(counts),
        cmocka_unit_test(ints),
        cmocka_unit_test(percentages),
        cmocka_unit_test(reals),
        cmocka_unit_test(bools),
        cmocka_unit_test(enums),
        cmocka_unit_test(addresses),
        cmocka_unit_test(wrong_addresses_say_why),
        cmocka_unit_test(address_parts_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
