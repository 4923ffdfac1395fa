/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance of `mem`: two engines in this process.
 */
#include "conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct conform_rig rig = {.name = "mem",
                                 .can = CONFORM_GUARD | CONFORM_NOTIFY,
                                 .open = conform_open_two,
                                 .close = conform_close_two,
                                 .put = conform_put_memory,
                                 .get = conform_get_memory,
                                 .transports = YK_XFER_MEM};

static void plain(void **state) {
    (void)state;
    conform_plain(&rig);
}

static void lanes_that_fail(void **state) {
    (void)state;
    conform_faults(&rig, "error", "");
}

static void requests_that_fail(void **state) {
    (void)state;
    conform_faults(&rig, "error", ",scope=request");
}

static void slices_that_vanish(void **state) {
    (void)state;
    conform_faults(&rig, "drop", "");
}

static void slices_that_are_late(void **state) {
    (void)state;
    conform_faults(&rig, "delay", ",ms=2");
}

static void bytes_that_change(void **state) {
    (void)state;
    conform_faults(&rig, "corrupt", "");
}

static void faults_at_random(void **state) {
    (void)state;
    conform_rates(&rig, "error", "");
    conform_rates(&rig, "error", ",scope=request");
    conform_rates(&rig, "delay", ",ms=2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(lanes_that_fail),
        cmocka_unit_test(requests_that_fail),
        cmocka_unit_test(slices_that_vanish),
        cmocka_unit_test(slices_that_are_late),
        cmocka_unit_test(bytes_that_change),
        cmocka_unit_test(faults_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
