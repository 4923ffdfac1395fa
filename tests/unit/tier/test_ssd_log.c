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

/* What was used last is the youngest after an orderly stop, however long ago it was written. */
static void the_order_of_use_survives_a_stop(void **state) {
    (void)state;
    uint64_t want[RIG_KEYS];
    uint32_t n = 0, id;
    ssd_rig_open(&rig, 2, 16, 256u << 10, 1, 0);
    for (uint32_t i = 0; i < RIG_KEYS; i++)
        assert_int_equal(ssd_rig_put(&rig, 0, i, 1000 + i, 0), 0);
    ssd_rig_settle(&rig);
    for (uint32_t i = 0; i < RIG_KEYS; i++) { /* 7 and RIG_KEYS have no common divisor */
        uint32_t k = 7u * i % RIG_KEYS;
        assert_true(ssd_rig_find(&rig, 0, k, &id));
        yk_ssd_touch(rig.ssd, id);
        want[RIG_KEYS - 1u - i] = 1000 + k;
    }
    ssd_rig_close(&rig, 1);
    assert_int_equal(ssd_rig_start(&rig), 0);
    for (id = yk_ssd_older(rig.ssd, YK_SSD_NONE); id != YK_SSD_NONE;
         id = yk_ssd_older(rig.ssd, id)) {
        struct yk_ssd_info info;
        yk_ssd_info_get(rig.ssd, id, &info);
        assert_true(n < RIG_KEYS);
        assert_int_equal(info.len, want[n++]);
    }
    assert_int_equal(n, RIG_KEYS);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void opened_again(void) {
    rig.opts.now_ms = rig.now_ms;
    rig.lenient = 1;
    for (uint32_t k = 0; k < rig.nv; k++)
        rig.v[k].ticket = 0;
    memset(rig.live, 0, sizeof(rig.live));
    rig.nv = rig.nchanges = 0;
    assert_int_equal(ssd_rig_start(&rig), 0);
}

/* Segments go round, but for the one with these keys, which are used. */
static void others_go_round(uint32_t keys) {
    uint32_t id;
    for (uint32_t i = 0; i < 120; i++) {
        uint32_t turns = 0;
        while (ssd_rig_put(&rig, 2, i % 4, 60u << 10, 0) == -YK_EAGAIN) {
            ssd_rig_turn(&rig, 1);
            assert_true(++turns < 50000);
        }
        ssd_rig_settle(&rig);
        ssd_rig_remove(&rig, 2, i % 4);
        for (uint32_t key = 0; key < keys; key++)
            if (ssd_rig_find(&rig, 0, key, &id))
                yk_ssd_touch(rig.ssd, id);
    }
    ssd_rig_settle(&rig);
}

/* Key 13 stands in the first segment, without an expiry; the expiry it is given in the second, which becomes
 * free long before the first. swept: it expires while the tier runs; else while it is stopped. */
static void expired_stays_away(int swept) {
    uint32_t id;
    ssd_rig_open(&rig, 1, 9, 256u << 10, 1, 0);
    for (uint32_t key = 0; key < 14; key++)
        assert_int_equal(ssd_rig_put(&rig, 0, key, 16u << 10, 0), 0);
    for (uint32_t key = 0; key < 3; key++)
        assert_int_equal(ssd_rig_put(&rig, 1, key, 60u << 10, 0), 0);
    ssd_rig_settle(&rig);
    ssd_rig_expire(&rig, 0, 13, rig.now_ms + 1000);
    ssd_rig_settle(&rig);
    for (uint32_t key = 0; key < 3; key++)
        ssd_rig_remove(&rig, 1, key);
    ssd_rig_settle(&rig);
    if (!swept) {
        ssd_rig_close(&rig, 0);
        rig.now_ms += 2000;
        opened_again();
    } else {
        rig.now_ms += 2000;
    }
    assert_false(ssd_rig_find(&rig, 0, 13, &id));
    others_go_round(13);
    ssd_rig_close(&rig, 0);
    opened_again();
    assert_true(ssd_rig_find(&rig, 0, 0, &id));
    assert_false(ssd_rig_find(&rig, 0, 13, &id));
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void what_expired_does_not_come_back(void **state) {
    (void)state;
    expired_stays_away(1);
    expired_stays_away(0);
}

/* What is put under the key of a block that has expired, before or after it is swept, is found later. */
static void put_after_it_expired(void **state) {
    (void)state;
    uint32_t id;
    for (int swept = 0; swept < 2; swept++) {
        ssd_rig_open(&rig, 1, 9, 256u << 10, 1, 0);
        assert_int_equal(ssd_rig_put(&rig, 0, 5, 20000, 0), 0);
        ssd_rig_settle(&rig);
        ssd_rig_expire(&rig, 0, 5, rig.now_ms + 1000);
        ssd_rig_settle(&rig);
        rig.now_ms += 2000;
        assert_false(ssd_rig_find(&rig, 0, 5, &id));
        if (swept)
            ssd_rig_settle(&rig);
        for (uint32_t n = 0; ssd_rig_put(&rig, 0, 5, 20000, 0) == -YK_EAGAIN; n++) {
            assert_true(swept && n < 10000);
            ssd_rig_turn(&rig, 1);
        }
        ssd_rig_settle(&rig);
        ssd_rig_close(&rig, 0);
        opened_again();
        assert_true(ssd_rig_find(&rig, 0, 5, &id));
        ssd_rig_close(&rig, 1);
        ssd_rig_free(&rig);
    }
}

/* A put that is told to wait is accepted in the end, however full the device is and however much of what
 * must be written are removals; and everything comes to rest. */
static void nothing_stalls(void **state) {
    (void)state;
    const char *is_long = getenv("YOLK_LONG");
    uint32_t seeds = is_long != NULL && strcmp(is_long, "1") == 0 ? 120 : 12 / ssd_rig_stride();
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t geometry = seed;
        uint32_t segments = 4 + (uint32_t)(disk_random(&geometry) % 24);
        uint64_t segment = (64u << 10) << disk_random(&geometry) % 4;
        unsigned disks = 1 + (unsigned)(disk_random(&geometry) % 2);
        ssd_rig_open(&rig, disks, segments, segment, seed, 0);
        rig.small_percent = (unsigned)(disk_random(&geometry) % 100);
        rig.max_large = (uint32_t)(segment / (2 + disk_random(&geometry) % 8));
        for (uint32_t i = 0; i < 1500; i++) {
            uint32_t ns = i % RIG_NS, key = (uint32_t)(disk_random(&geometry) % RIG_KEYS),
                     turns = 0;
            uint64_t len = rig_len(&rig);
            ssd_rig_remove(&rig, ns, key);
            while (ssd_rig_put(&rig, ns, key, len, 0) == -YK_EAGAIN) {
                ssd_rig_turn(&rig, turns % 4 == 0);
                if (++turns == 50000)
                    fail_msg("seed %llu: put %u is never accepted", (unsigned long long)seed, i);
            }
            for (uint32_t k = 0; k < i % 4; k++)
                ssd_rig_random(&rig);
            if (i % 500 == 499) { /* as a kill leaves it, with few segments free */
                ssd_rig_settle(&rig);
                ssd_rig_close(&rig, i % 1000 == 999);
                for (uint32_t k = 0; k < rig.nv; k++)
                    rig.v[k].ticket = 0;
                memset(rig.live, 0, sizeof(rig.live));
                rig.nv = rig.nchanges = 0;
                rig.lenient = 1;
                assert_int_equal(ssd_rig_start(&rig), 0);
                for (uint32_t k = 0; k < RIG_NS; k++)
                    ssd_rig_raise(&rig, k); /* the model begins anew */
            }
        }
        ssd_rig_settle(&rig);
        ssd_rig_close(&rig, 1);
        ssd_rig_free(&rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_comes_and_goes),
        cmocka_unit_test(random_work),
        cmocka_unit_test(the_order_of_use_survives_a_stop),
        cmocka_unit_test(what_expired_does_not_come_back),
        cmocka_unit_test(put_after_it_expired),
        cmocka_unit_test(nothing_stalls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
