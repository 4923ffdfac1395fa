/* SPDX-License-Identifier: Apache-2.0
 *
 * Which blocks the reads of `yolk bench ssd` take: each of a set once before any comes again.
 */
#include "bench/ssd_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void a_set_is_a_permutation(void **state) {
    (void)state;
    static uint8_t seen[1000];
    struct ssd_set s = {0};
    uint64_t random = 1, moved = 0;
    for (uint64_t n = 1; n <= sizeof(seen); n = n * 3 + 1) {
        memset(seen, 0, sizeof(seen));
        assert_int_equal(ssd_set_make(&s, 77, n, &random), 0);
        assert_int_equal(s.first, 77);
        assert_int_equal(s.n, n);
        for (uint64_t i = 0; i < n; i++) {
            assert_true(s.order[i] < n);
            seen[s.order[i]]++;
            moved += s.order[i] != i;
        }
        for (uint64_t i = 0; i < n; i++)
            assert_int_equal(seen[i], 1);
    }
    assert_true(moved > 100);
    ssd_set_free(&s);
    assert_null(s.order);
}

static void a_set_of_nothing_is_refused(void **state) {
    (void)state;
    struct ssd_set s = {0};
    uint64_t random = 1;
    assert_int_equal(ssd_set_make(&s, 0, 0, &random), -YK_EINVAL);
    assert_int_equal(ssd_set_make(&s, 0, 1ull << 32, &random), -YK_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_is_a_permutation),
        cmocka_unit_test(a_set_of_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
