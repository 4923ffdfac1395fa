/* SPDX-License-Identifier: Apache-2.0
 *
 * Growable buffer: growth, the limit and its sticky error, numbers in a foreign locale.
 */
#include "base/buf.h"

#include <yolk/status.h>

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void contents_grow_and_stay_terminated(void **state) {
    (void)state;
    struct yk_buf buf;
    yk_buf_init(&buf, 1 << 20);
    assert_string_equal(yk_buf_text(&buf), "");
    for (int i = 0; i < 1000; i++) {
        yk_buf_puts(&buf, "ab");
        yk_buf_putc(&buf, 'c');
        yk_buf_printf(&buf, "%04d", i);
        assert_int_equal(strlen(yk_buf_text(&buf)), buf.len);
    }
    assert_int_equal(buf.len, 7000);
    assert_int_equal(buf.status, 0);
    assert_string_equal(yk_buf_text(&buf) + 6993, "abc0999");
    yk_buf_append(&buf, NULL, 0);
    assert_int_equal(buf.len, 7000);
    yk_buf_clear(&buf);
    assert_string_equal(yk_buf_text(&buf), "");
    yk_buf_append(&buf, "a\0b", 3);
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.data, "a\0b", 4);
    yk_buf_fini(&buf);
    assert_string_equal(yk_buf_text(&buf), "");
    yk_buf_fini(&buf);
}

static void the_limit_is_sticky(void **state) {
    (void)state;
    struct yk_buf buf;
    yk_buf_init(&buf, 10);
    yk_buf_puts(&buf, "0123456789");
    assert_int_equal(buf.status, 0);
    yk_buf_putc(&buf, 'x');
    assert_int_equal(buf.status, -YK_ETOOBIG);
    assert_string_equal(yk_buf_text(&buf), "0123456789");
    yk_buf_clear(&buf);
    yk_buf_printf(&buf, "%s", "01234567890");
    assert_int_equal(buf.status, -YK_ETOOBIG);
    yk_buf_puts(&buf, "x"); /* would fit, but comes after an error */
    assert_string_equal(yk_buf_text(&buf), "");
    yk_buf_clear(&buf);
    yk_buf_puts(&buf, "x");
    assert_int_equal(buf.status, 0);
    assert_string_equal(yk_buf_text(&buf), "x");
    yk_buf_fini(&buf);
}

static const char *as_text(struct yk_buf *buf, double value) {
    yk_buf_clear(buf);
    yk_buf_put_double(buf, value);
    return yk_buf_text(buf);
}

static void doubles_are_short_and_read_back(void **state) {
    (void)state;
    struct yk_buf buf;
    yk_buf_init(&buf, 100);
    assert_string_equal(as_text(&buf, 0.1), "0.1");
    assert_string_equal(as_text(&buf, -3), "-3");
    assert_string_equal(as_text(&buf, 2.5e-7), "2.5e-07");
    assert_string_equal(as_text(&buf, 1.0 / 3), "0.3333333333333333");
    assert_string_equal(as_text(&buf, INFINITY), "+Inf");
    assert_string_equal(as_text(&buf, -INFINITY), "-Inf");
    assert_string_equal(as_text(&buf, NAN), "NaN");
    uint64_t bits = 0x3ff123456789abcdull;
    for (int i = 0; i < 2000; i++) {
        double value;
        bits = bits * 6364136223846793005ull + 1442695040888963407ull;
        memcpy(&value, &bits, sizeof(value));
        if (isfinite(value))
            assert_true(strtod(as_text(&buf, value), NULL) == value);
    }
    yk_buf_fini(&buf);
}

static void a_locale_does_not_change_numbers(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fa_IR.UTF-8"};
    struct yk_buf buf;
    yk_buf_init(&buf, 100);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (setlocale(LC_ALL, names[i]) == NULL)
            continue; /* not installed here */
        assert_string_equal(as_text(&buf, 0.5), "0.5");
    }
    setlocale(LC_ALL, "C");
    yk_buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_grow_and_stay_terminated),
        cmocka_unit_test(the_limit_is_sticky),
        cmocka_unit_test(doubles_are_short_and_read_back),
        cmocka_unit_test(a_locale_does_not_change_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
