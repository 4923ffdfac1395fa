/* SPDX-License-Identifier: Apache-2.0
 *
 * Power cuts: after every event of a recorded run (a write or a flush was submitted, or ended) the disks
 * are recovered as they may be then, and judged (ssd_rig.h): exact bytes or a miss; nothing that was
 * acknowledged as removed, raised or expired; all that was durable and not given up.
 *
 * Each moment is cut three times: with what had ended and nothing else; and twice with every write that
 * no flush covered kept, dropped or torn at random, in any order. Of some moments the recovery itself, and
 * what it writes, is cut again.
 */
#include "ssd_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static struct ssd_rig rig;

static int is_long(void) {
    const char *s = getenv("YOLK_LONG");
    return s != NULL && strcmp(s, "1") == 0;
}

static void cut_everywhere(unsigned disks, uint64_t seed, uint32_t steps, uint32_t max_large,
                           unsigned small) {
    ssd_rig_open(&rig, disks, disks == 1 ? 10 : 7, 64u << 10, seed, 1);
    uint32_t start = disk_clock;
    rig.max_large = max_large;
    rig.small_percent = small;
    for (uint32_t i = 0; i < steps; i++)
        ssd_rig_random(&rig);
    ssd_rig_settle(&rig);
    uint32_t end = disk_clock, cuts = 0;
    struct yk_ssd_counters c;
    yk_ssd_counters_get(rig.ssd, &c);
    for (uint32_t at = start; at <= end; at += ssd_rig_stride()) {
        ssd_rig_cut(&rig, at, 0, at % 2);
        ssd_rig_cut(&rig, at, seed * 1000003u + at, at / 2 % 2);
        ssd_rig_cut(&rig, at, seed * 7000003u + at, at / 4 % 2);
        cuts += 3;
        if (at / ssd_rig_stride() % 8 == 0) {
            ssd_rig_cut_twice(&rig, at, seed * 9000011u + at, at / 8 % 2);
            cuts += 3;
        }
    }
    print_message(
        "seed %llu: %u cuts, %u versions, %llu tombstones, %llu segments cleaned, %u epochs\n",
        (unsigned long long)seed, cuts, rig.nv, (unsigned long long)c.tombstones,
        (unsigned long long)c.clean_segments, rig.nchanges);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* YOLK_SEED: one seed, to look into a failure or to look further. */
static uint64_t seed_from(uint64_t seed) {
    const char *s = getenv("YOLK_SEED");
    return s != NULL ? strtoull(s, NULL, 10) : seed;
}

static void one_disk(void **state) {
    (void)state;
    uint64_t first = seed_from(1);
    for (uint64_t seed = first; seed < first + (is_long() ? 20u : 2u); seed++)
        cut_everywhere(1, seed, 1500, 16u << 10, seed % 2 ? 60 : 90);
}

static void two_disks(void **state) {
    (void)state;
    uint64_t first = 500 + seed_from(1);
    for (uint64_t seed = first; seed < first + (is_long() ? 10u : 1u); seed++)
        cut_everywhere(2, seed, 1200, 16u << 10, 70);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_disk),
        cmocka_unit_test(two_disks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
