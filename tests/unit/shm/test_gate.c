/* SPDX-License-Identifier: Apache-2.0
 *
 * The gate of a segment (shm/gate.h): what a reader that was stopped anywhere between its two looks may still hand
 * out. The node's side is played between the calls.
 */
#include "shm/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define HOUR_NS (3600 * YK_NS_PER_S)

static struct yk_shm_hdr hdr;

static uint64_t later(void) {
    return yk_boot_ns() + HOUR_NS;
}

/* What a reader that enters at the first and looks again at the second may do. */
static int passes(uint64_t first, uint64_t second) {
    yk_gate_set(&hdr, first);
    uint64_t entered = yk_gate_enter(&hdr);
    yk_gate_set(&hdr, second);
    return yk_gate_passed(&hdr, entered);
}

static void where_there_is_none_all_pass(void **state) {
    (void)state;
    assert_int_equal(passes(YK_GATE_NONE, YK_GATE_NONE), 1);
    assert_int_equal(yk_gate_is_shut(&hdr), 0);
}

static void an_open_one_is_passed(void **state) {
    (void)state;
    assert_int_equal(passes(later(), later()), 1);
    assert_int_equal(yk_gate_is_shut(&hdr), 0);
}

static void a_shut_one_is_not_at_either_look(void **state) {
    (void)state;
    assert_int_equal(passes(YK_GATE_SHUT, YK_GATE_SHUT), 0);
    assert_int_equal(yk_gate_is_shut(&hdr), 1);
    assert_int_equal(passes(later(), YK_GATE_SHUT), 0);
    assert_int_equal(passes(YK_GATE_SHUT, later()), 0); /* it may have looked before the return's removes */
    assert_int_equal(passes(YK_GATE_SHUT, YK_GATE_NONE), 0);
    assert_int_equal(passes(YK_GATE_NONE, YK_GATE_SHUT), 0); /* the node began again, in a cluster */
}

static void time_runs_out_by_itself(void **state) {
    (void)state;
    uint64_t past = yk_boot_ns();
    assert_int_equal(passes(past, past), 0);
    assert_int_equal(yk_gate_is_shut(&hdr), 1);
    assert_int_equal(passes(past, later()), 0); /* stopped for so long that it was over meanwhile */
    assert_int_equal(passes(later(), past), 0);
}

static void a_word_that_was_never_written_is_none(void **state) {
    (void)state;
    static const struct yk_shm_hdr fresh;
    assert_int_equal(yk_gate_is_shut(&fresh), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_there_is_none_all_pass),  cmocka_unit_test(an_open_one_is_passed),
        cmocka_unit_test(a_shut_one_is_not_at_either_look), cmocka_unit_test(time_runs_out_by_itself),
        cmocka_unit_test(a_word_that_was_never_written_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
