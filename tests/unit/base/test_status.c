/* SPDX-License-Identifier: Apache-2.0
 *
 * Status codes: every code has a name and a text, numbers are unique, errno maps to known codes.
 */
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_code_has_a_name_and_a_text(void **state) {
    (void)state;
#define CHECK(name, num, text)                                                                     \
    assert_string_equal(yk_status_name(-YK_##name), #name);                                        \
    assert_string_equal(yk_status_text(-YK_##name), text);
    YK_STATUS_TABLE(CHECK)
#undef CHECK
    assert_string_equal(yk_status_name(YK_MISS), "MISS");
    assert_string_equal(yk_status_name(YK_OK), "OK");
    assert_string_equal(yk_status_name(-9999), "UNKNOWN");
}

static void numbers_never_move(void **state) {
    (void)state;
    /* Wire protocol and ABI: the first and the last of the table as released. */
    assert_int_equal(YK_EINVAL, 1);
    assert_int_equal(YK_ENOENT, 26);
    assert_int_equal(YK_EFAULT, 27);
}

static void errors_keep_their_text(void **state) {
    (void)state;
    struct yk_err err = {0};
    assert_int_equal(yk_err_set(&err, -YK_ETOOBIG, "block is %d bytes", 7), -YK_ETOOBIG);
    assert_string_equal(err.text, "block is 7 bytes");
    assert_int_equal(err.code, -YK_ETOOBIG);
    assert_int_equal(yk_err_set(NULL, -YK_EIO, "nobody listens"), -YK_EIO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_and_a_text),
        cmocka_unit_test(numbers_never_move),
        cmocka_unit_test(errors_keep_their_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
