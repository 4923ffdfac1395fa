/* SPDX-License-Identifier: Apache-2.0
 *
 * When a wait looks before it sleeps: always while it pays, hardly ever while it does not, and again
 * soon after it does.
 */
#include "base/spin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* How many of n waits look; each look ends as `found` says. */
static int looks(struct yk_spin *s, int n, int found) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (yk_spin_try(s)) {
            yk_spin_end(s, found);
            count++;
        }
    }
    return count;
}

static void looks_while_it_pays(void **state) {
    (void)state;
    struct yk_spin s = {0};
    assert_int_equal(looks(&s, 1000, 1), 1000);
}

static void gives_up_what_is_in_vain(void **state) {
    (void)state;
    struct yk_spin s = {0};
    assert_in_range(looks(&s, 256, 0), 1, 8);
    assert_in_range(looks(&s, 256 * 100, 0), 99, 101);
}

static void comes_back(void **state) {
    (void)state;
    struct yk_spin s = {0};
    looks(&s, 100000, 0);
    looks(&s, YK_SPIN_PAUSE_MAX + 1, 1);
    assert_int_equal(looks(&s, 100, 1), 100);
    /* One in vain among many that were not costs one look. */
    assert_true(yk_spin_try(&s));
    yk_spin_end(&s, 0);
    assert_false(yk_spin_try(&s));
    assert_true(yk_spin_try(&s));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looks_while_it_pays),
        cmocka_unit_test(gives_up_what_is_in_vain),
        cmocka_unit_test(comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
