/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance of the transports that reach other engines: tcp, and shm with the unix socket behind
 * it. Two engines in this process that may use nothing else.
 */
#include "conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define RIG(name_, transports_)                                                                    \
    {                                                                                              \
        .name = (name_), .can = CONFORM_GUARD | CONFORM_NOTIFY, .open = conform_open_two,          \
        .close = conform_close_two, .put = conform_put_memory, .get = conform_get_memory,          \
        .transports = (transports_), .listen = "127.0.0.1:0"                                       \
    }

static struct conform_rig tcp = RIG("tcp", YK_XFER_TCP), shm = RIG("shm", YK_XFER_SHM);

static void plain(void **state) {
    conform_plain(*state);
}

static void lanes_that_fail(void **state) {
    conform_faults(*state, "error", "");
}

static void requests_that_fail(void **state) {
    conform_faults(*state, "error", ",scope=request");
}

static void slices_that_vanish(void **state) {
    conform_faults(*state, "drop", "");
}

static void slices_that_are_late(void **state) {
    conform_faults(*state, "delay", ",ms=2");
}

static void bytes_that_change(void **state) {
    conform_faults(*state, "corrupt", "");
}

static void faults_at_random(void **state) {
    conform_rates(*state, "error", "");
    conform_rates(*state, "error", ",scope=request");
    conform_rates(*state, "delay", ",ms=2");
}

int main(void) {
#define TESTS(rig)                                                                                 \
    cmocka_unit_test_prestate(plain, &(rig)), cmocka_unit_test_prestate(lanes_that_fail, &(rig)),  \
        cmocka_unit_test_prestate(requests_that_fail, &(rig)),                                     \
        cmocka_unit_test_prestate(slices_that_vanish, &(rig)),                                     \
        cmocka_unit_test_prestate(slices_that_are_late, &(rig)),                                   \
        cmocka_unit_test_prestate(bytes_that_change, &(rig)),                                      \
        cmocka_unit_test_prestate(faults_at_random, &(rig))
    const struct CMUnitTest tests[] = {TESTS(tcp), TESTS(shm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
