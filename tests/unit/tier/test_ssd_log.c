/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier's log and table on a disk in memory: blocks come, are read, go, survive a restart; what
 * it says is compared with a model (ssd_rig.h). Power cuts are in test_ssd_cut.c.
 */
#include "ssd_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static struct ssd_rig rig;

static void a_block_comes_and_goes(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 16, 256u << 10, 1, 0);
    assert_int_equal(ssd_rig_put(&rig, 0, 5, 20000, 0), 0);
    assert_int_equal(ssd_rig_put(&rig, 0, 6, 7, 0), 0);
    ssd_rig_settle(&rig);
    ssd_rig_check(&rig);
    assert_int_equal(rig.reads_ok, 2);
    ssd_rig_remove(&rig, 0, 5);
    ssd_rig_settle(&rig);
    assert_int_not_equal(rig.v[0].removed_acked, RIG_NEVER);
    ssd_rig_check(&rig);
    assert_int_equal(rig.reads_ok, 3);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void random_work(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed < 8; seed++) {
        ssd_rig_open(&rig, 1 + seed % 2, 12 + (uint32_t)seed, (seed % 3 + 1) * (64u << 10), seed,
                     0);
        for (uint32_t i = 0; i < 6000; i++)
            ssd_rig_random(&rig);
        ssd_rig_settle(&rig);
        ssd_rig_check(&rig);
        struct yk_ssd_counters c;
        yk_ssd_counters_get(rig.ssd, &c);
        print_message(
            "seed %llu: %llu puts, %llu reads, %llu not now, %llu cleaned, wrote %.2f of put\n",
            (unsigned long long)seed, (unsigned long long)c.puts, (unsigned long long)rig.reads_ok,
            (unsigned long long)rig.unlucky, (unsigned long long)c.clean_segments,
            (double)c.written_bytes / (double)c.put_bytes);
        assert_int_equal(rig.reads_bad, 0);
        ssd_rig_close(&rig, (int)(seed % 2));
        ssd_rig_free(&rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_comes_and_goes),
        cmocka_unit_test(random_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
