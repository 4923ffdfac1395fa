/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node and its handles make of its device, as far as it takes a whole node to see it: memory that
 * is registered with it, a node that dozes over it, a device that hangs.
 */
#include "fixture.h"

#include "base/clock.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define LIMIT (20 * YK_NS_PER_S) /* of every wait */

static struct fixture fix;

static struct yk_ssd_dev_stats device(void) {
    struct yk_ssd_dev_stats st;
    yk_ssd_dev_stats_get(yk_node_ssd(fix.node), 0, &st);
    return st;
}

#define UNTIL(condition)                                                                           \
    for (uint64_t end_ = yk_now_ns() + LIMIT; !(condition); usleep(1000))                          \
    assert_true(yk_now_ns() < end_)

static void begin(int named, uint64_t dram, void (*tune)(struct yk_node_opts *o)) {
    fixture_init(&fix, named);
    fix.dram = dram;
    fix.ssd = 256u * MIB;
    fix.tune = tune;
    fixture_start(&fix);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static void populate(struct yk_node_opts *o) {
    o->populate = 1;
}

/* A fresh segment, then one that is found. Where the kernel forbids it, the device says so. */
static void populated_memory_is_registered(void **state) {
    (void)state;
    begin(1, 80u * MIB, populate);
    for (int found = 0; found < 2; found++) {
        UNTIL(device().fixed_bytes == fix.dram || device().io_note[0] != 0);
        fixture_stop(&fix);
        fixture_start(&fix);
    }
    fixture_fini(&fix);
}

static void memory_that_is_not_populated_is_left_alone(void **state) {
    (void)state;
    begin(0, 80u * MIB, NULL);
    yk_client *c = open_client(&fix);
    put_ok(c, "k", MIB, 1);
    assert_status(get_is(c, "k", MIB, 1), 0);
    yk_close(c);
    assert_int_equal(device().fixed_bytes, 0);
    assert_null(strstr(device().io_note, "registered"));
    fixture_fini(&fix);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(populated_memory_is_registered),
        cmocka_unit_test(memory_that_is_not_populated_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
