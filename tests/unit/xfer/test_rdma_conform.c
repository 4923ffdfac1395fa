/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance of the RDMA transport over devices in this process (soft_verbs.h): what a guest shows over a driver and
 * wires, any host shows of the engine. The devices are two of one subnet, so that one lane's ends are on different ones.
 */
#include "conformance.h"
#include "soft_verbs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void open_soft(struct conform_rig *rig, const yk_xfer_opts *opts) {
    yk_xfer_opts o = *opts;
    soft_begin(2);
    o.insecure_network = 1;
    conform_open_two(rig, &o);
}

static void close_soft(struct conform_rig *rig) {
    conform_close_two(rig);
    soft_end();
    assert_int_equal(soft_now().refused, 0);
}

static struct conform_rig soft = {.name = "rdma over soft devices",
                                  .can = CONFORM_GUARD | CONFORM_NOTIFY,
                                  .open = open_soft,
                                  .close = close_soft,
                                  .put = conform_put_memory,
                                  .get = conform_get_memory,
                                  .transports = YK_XFER_RDMA,
                                  .listen = "127.0.0.1:0",
                                  .poor_ms = 40};

static void plain(void **state) {
    (void)state;
    conform_plain(&soft);
}

static void lanes_that_fail(void **state) {
    (void)state;
    conform_faults(&soft, "error", "");
}

static void requests_that_fail(void **state) {
    (void)state;
    conform_faults(&soft, "error", ",scope=request");
}

static void slices_that_vanish(void **state) {
    (void)state;
    conform_faults(&soft, "drop", "");
}

static void bytes_that_change(void **state) {
    (void)state;
    conform_faults(&soft, "corrupt", "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(lanes_that_fail),
        cmocka_unit_test(requests_that_fail),
        cmocka_unit_test(slices_that_vanish),
        cmocka_unit_test(bytes_that_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
