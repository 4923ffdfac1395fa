/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays that grow: what was there stays, and room that is there is not asked for again.
 */
#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_grows_and_keeps(void **state) {
    uint32_t *items = NULL;
    uint64_t cap = 0;
    (void)state;
    for (uint64_t n = 0; n < 5000; n++) {
        assert_int_equal(yk_array_room((void **)&items, sizeof(*items), n, 1, &cap), 0);
        assert_true(cap > n);
        items[n] = (uint32_t)n * 3;
    }
    for (uint64_t n = 0; n < 5000; n++)
        assert_int_equal(items[n], n * 3);
    uint64_t before = cap;
    assert_int_equal(yk_array_room((void **)&items, sizeof(*items), 5000, cap - 5000, &cap), 0);
    assert_int_equal(cap, before);
    assert_int_equal(yk_array_room((void **)&items, sizeof(*items), 5000, 100000, &cap), 0);
    assert_true(cap >= 105000);
    free(items);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_grows_and_keeps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
