/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 checking over every sequence of up to four bytes that matters, quoting, edit distance.
 */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* Encodes a code point the long way round, as an independent reference. */
static size_t encode(uint32_t cp, char *out) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

static void every_code_point_is_known_and_no_other(void **state) {
    (void)state;
    char bytes[4];
    for (uint32_t cp = 0; cp < 0x1fffff; cp++) {
        size_t len = encode(cp, bytes);
        bool valid = cp <= 0x10ffff && !(cp >= 0xd800 && cp <= 0xdfff);
        if (yk_utf8_len(bytes, len) != (valid ? len : 0))
            fail_msg("code point %x", cp);
        if (len > 1 && yk_utf8_len(bytes, len - 1) != 0)
            fail_msg("code point %x cut short", cp);
    }
}

static void ill_formed_sequences_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc3",
        "\xc3(",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xe2\x82",
        "\xe2(\xa1",
        "\xe2\x82(",
        "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf0\x9f\x98",
        "\xf5\x80\x80",
        "\xfe",
        "\xff",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(yk_utf8_len(bad[i], strlen(bad[i])), 0);
        assert_false(yk_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_true(yk_utf8_valid("", 0));
    assert_true(yk_utf8_valid("a\0b\xe2\x82\xac", 6));
    assert_false(yk_utf8_valid("ab\xff", 3));
}

static void quotes_stay_on_one_line(void **state) {
    (void)state;
    char buf[YK_QUOTE_MAX];
    assert_string_equal(yk_quote("8G", buf), "'8G'");
    assert_string_equal(yk_quote(NULL, buf), "''");
    assert_string_equal(yk_quote("a\nb\x1b\x7f\xff\xc3\xa9", buf), "'a?b???\xc3\xa9'");
}

static void long_quotes_are_cut_between_characters(void **state) {
    (void)state;
    char buf[YK_QUOTE_MAX], text[300];
    for (size_t pad = 0; pad < 4; pad++) {
        memset(text, 'x', pad);
        for (size_t i = pad; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        yk_quote(text, buf);
        size_t len = strlen(buf);
        assert_true(len < YK_QUOTE_MAX && len > 40);
        assert_string_equal(buf + len - 4, "...'");
        assert_true(yk_utf8_valid(buf, len));
    }
    for (size_t len = 1; len < 120; len++) {
        memset(text, 'y', len);
        text[len] = '\0';
        yk_quote(text, buf);
        assert_true(strlen(buf) < YK_QUOTE_MAX);
        assert_int_equal(strstr(buf, "...") == NULL, len <= YK_QUOTE_MAX - 6);
    }
}

static void distances(void **state) {
    (void)state;
    assert_int_equal(yk_edit_distance("", ""), 0);
    assert_int_equal(yk_edit_distance("dram", "dram"), 0);
    assert_int_equal(yk_edit_distance("", "dram"), 4);
    assert_int_equal(yk_edit_distance("dram", ""), 4);
    assert_int_equal(yk_edit_distance("drma", "dram"), 1); /* a swap */
    assert_int_equal(yk_edit_distance("draam", "dram"), 1);
    assert_int_equal(yk_edit_distance("dam", "dram"), 1);
    assert_int_equal(yk_edit_distance("drum", "dram"), 1);
    assert_int_equal(yk_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(yk_edit_distance("ca", "abc"), 3); /* no edit inside a swapped pair */
    char a[200], b[200];
    memset(a, 'a', sizeof(a) - 1);
    memset(b, 'b', sizeof(b) - 1);
    a[sizeof(a) - 1] = b[sizeof(b) - 1] = '\0';
    assert_int_equal(yk_edit_distance(a, b), YK_EDIT_MAX);
}

static void suggestions_are_near_or_absent(void **state) {
    (void)state;
    static const char *const names[] = {"dram", "listen", "http", "check-config"};
    assert_string_equal(yk_did_you_mean("drma", names, COUNT_OF(names)), "dram");
    assert_string_equal(yk_did_you_mean("lisen", names, COUNT_OF(names)), "listen");
    assert_string_equal(yk_did_you_mean("check_config", names, COUNT_OF(names)), "check-config");
    assert_null(yk_did_you_mean("quota", names, COUNT_OF(names)));
    assert_null(yk_did_you_mean("x", names, COUNT_OF(names)));
    assert_null(yk_did_you_mean("dram", names, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_known_and_no_other),
        cmocka_unit_test(ill_formed_sequences_are_refused),
        cmocka_unit_test(quotes_stay_on_one_line),
        cmocka_unit_test(long_quotes_are_cut_between_characters),
        cmocka_unit_test(distances),
        cmocka_unit_test(suggestions_are_near_or_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
