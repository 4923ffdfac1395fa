/* SPDX-License-Identifier: Apache-2.0
 *
 * Three tiers: blocks go from DRAM to slow memory, from there to SSD, and are one pool (docs/decisions/0020). The SSD is a
 * real file, slow memory is ordinary memory of which is said what it does.
 */
#include "ssd_store_rig.h"

static void three_init(struct fixture *f, uint64_t dram, uint64_t slow, uint64_t ssd, uint8_t when) {
    fixture_init(f, dram, ssd, when);
    f->o.cxl = (struct yk_store_cxl_opts){
        .bytes = slow, .node = -1, .figures = {.dram_lat_ns = 100, .dram_bps = 10000000000ull, .slow_lat_ns = 250, .slow_bps = 4000000000ull}};
}

/* As put_many, with the turns of a loop. */
static void put_all(struct fixture *f, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        yk_store_turn(f->s);
        put(f, i, BLOCK);
    }
}

static struct yk_counters figures(struct fixture *f) {
    struct yk_counters n;
    yk_store_counters(f->s, &n);
    return n;
}

static void a_pool_of_three_tiers_keeps_everything(void **state) {
    struct fixture f;
    uint32_t tiers, in[8] = {0};
    three_init(&f, 16 * MIB, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    store_open(&f);
    put_all(&f, 0, 800);
    settle(&f);
    for (uint32_t i = 0; i < 800; i++) {
        assert_true(known(&f, i, &tiers));
        in[YK_TIER_DRAM] += (tiers & 1u << YK_TIER_DRAM) != 0;
        in[YK_TIER_CXL] += (tiers & 1u << YK_TIER_CXL) != 0;
        in[YK_TIER_SSD] += tiers == 1u << YK_TIER_SSD;
    }
    struct yk_counters n = figures(&f);
    assert_int_equal(in[YK_TIER_DRAM], n.blocks);
    assert_int_equal(in[YK_TIER_CXL], n.cxl_blocks);
    assert_int_equal(in[YK_TIER_DRAM] + in[YK_TIER_CXL] + in[YK_TIER_SSD], 800);
    assert_true(in[YK_TIER_CXL] > 100 && in[YK_TIER_SSD] > 200);
    assert_int_equal(n.cxl_used, 1);
    assert_true(n.demoted >= in[YK_TIER_SSD]);
    /* The order of age: what is on SSD is older than what is in slow memory, and that than what is in DRAM. */
    assert_true(known(&f, 0, &tiers) && tiers == 1u << YK_TIER_SSD);
    assert_true(known(&f, 799, &tiers) && tiers == 1u << YK_TIER_DRAM);
    for (uint32_t i = 0; i < 800; i++) {
        yk_store_turn(f.s);
        assert_true(get(&f, i, 0, BLOCK));
    }
    n = figures(&f);
    assert_int_equal(n.raise_failed, 0);
    assert_int_equal(n.corrupt, 0);
    fixture_close(&f);
}

static void write_through_writes_from_either_range(void **state) {
    struct fixture f;
    uint32_t tiers;
    three_init(&f, 16 * MIB, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    store_open(&f);
    for (uint32_t i = 0; i < 400; i++) {
        yk_store_turn(f.s);
        put(&f, i, BLOCK);
    }
    settle(&f);
    uint32_t slow = 0;
    for (uint32_t i = 0; i < 400; i++) {
        assert_true(known(&f, i, &tiers) && (tiers & 1u << YK_TIER_SSD));
        slow += (tiers & 1u << YK_TIER_CXL) != 0;
    }
    assert_true(slow > 50);
    reboot(&f, 0);
    for (uint32_t i = 0; i < 400; i++)
        assert_true(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

/* A slow SSD holds up what sinks, and nobody waits for that longer than was said. */
static void a_put_that_has_waited_enough_drops_blocks(void **state) {
    struct fixture f;
    struct yk_place p;
    three_init(&f, 16 * MIB, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    f.o.ssd.write_limit_bps = 64u << 10;
    store_open(&f);
    uint32_t i = 0;
    int rc = 0;
    for (; i < 2000; i++) {
        yk_store_turn(f.s);
        rc = yk_store_reserve(f.s, 0, BLOCK, &p, NULL);
        if (rc < 0)
            break;
        assert_int_equal(yk_store_abort(f.s, 0, p.idx, p.gen), 0);
        put(&f, i, BLOCK);
    }
    assert_int_equal(rc, -YK_ENOSPC);
    assert_true(figures(&f).leaving_bytes > 0);
    uint64_t before = figures(&f).demote_hurried;
    yk_store_turn(f.s);
    yk_store_ssd_hurry(f.s, BLOCK);
    assert_int_equal(yk_store_reserve(f.s, 0, BLOCK, &p, NULL), 0);
    assert_true(figures(&f).demote_hurried > before);
    assert_int_equal(yk_store_abort(f.s, 0, p.idx, p.gen), 0);
    for (uint32_t at = 0; at < i; at++)
        if (known(&f, at, NULL))
            assert_true(get(&f, at, 0, BLOCK) || !known(&f, at, NULL));
    fixture_close(&f);
}

/* It needs one block's place in DRAM, and for that one in slow memory: what else waits for the SSD is written. */
static void a_put_that_has_waited_enough_drops_no_more_than_it_needs(void **state) {
    struct fixture f;
    struct yk_counters n;
    three_init(&f, 16 * MIB, 128 * MIB, 192 * MIB, YK_SSD_ON_DEMOTION);
    f.o.ssd.write_limit_bps = 64u << 10;
    store_open(&f);
    uint32_t i = 0;
    for (n = figures(&f); n.leaving_blocks < 30 && i < 4000; n = figures(&f)) {
        yk_store_turn(f.s);
        if (put_flags(&f, i++, 0, BLOCK, 0, 0) != 0)
            break;
        yk_store_tick(f.s);
    }
    assert_true(n.leaving_blocks >= 30);
    uint64_t before = n.demote_hurried;
    yk_store_turn(f.s);
    yk_store_ssd_hurry(f.s, BLOCK);
    n = figures(&f);
    assert_true(n.demote_hurried > before);
    assert_true(n.demote_hurried <= before + 4);
    fixture_close(&f);
}

static void memory_slower_than_ssd_is_not_used(void **state) {
    struct fixture f;
    uint32_t tiers;
    three_init(&f, 16 * MIB, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    f.o.cxl.figures.slow_bps = 500000000ull;
    store_open(&f);
    put_all(&f, 0, 600);
    settle(&f);
    struct yk_counters n = figures(&f);
    assert_int_equal(n.cxl_used, 0);
    assert_int_equal(n.sunk + n.cxl_blocks, 0);
    assert_int_equal(n.cxl_capacity_bytes, 16 * MIB);
    for (uint32_t i = 0; i < 600; i++)
        assert_true(known(&f, i, &tiers) && !(tiers & 1u << YK_TIER_CXL));
    /* What an earlier run has left there is read, and comes up as it is used. */
    fixture_close(&f);
    three_init(&f, 16 * MIB, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    store_open(&f);
    put_all(&f, 0, 400);
    settle(&f);
    f.o.cxl.figures.slow_bps = 500000000ull;
    restart(&f, 1);
    uint64_t slow = figures(&f).cxl_blocks;
    assert_true(slow > 100);
    assert_int_equal(figures(&f).cxl_used, 0);
    for (uint32_t i = 0; i < 400; i++) {
        yk_store_turn(f.s);
        for (int k = 0; k < 4; k++)
            assert_true(get(&f, i, 0, BLOCK));
        turn(&f);
    }
    assert_true(figures(&f).risen > 0);
    assert_true(figures(&f).cxl_blocks < slow);
    fixture_close(&f);
}

/* A stop writes what memory alone has, both ranges; a reboot finds it. */
static void a_stop_writes_both_ranges(void **state) {
    struct fixture f;
    three_init(&f, 16 * MIB, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    store_open(&f);
    put_all(&f, 0, 350);
    settle(&f);
    assert_true(figures(&f).cxl_blocks > 50);
    yk_store_ssd_settle(f.s, yk_now_ns() + LIMIT);
    reboot(&f, 1);
    for (uint32_t i = 0; i < 350; i++)
        assert_true(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

/* Other bytes under a key, removals and restarts, while blocks are on their way between all three. */
static void nothing_wrong_comes_back(void **state) {
    enum { KEYS = 700 };
    for (unsigned seed = 1; seed <= 2; seed++) {
        struct fixture f;
        uint32_t *version = calloc(KEYS, sizeof(*version));
        int *gone = calloc(KEYS, sizeof(*gone));
        unsigned x = seed;
        three_init(&f, 16 * MIB, 16 * MIB, 96 * MIB, seed % 2 ? YK_SSD_ON_DEMOTION : YK_SSD_WRITE_THROUGH);
        store_open(&f);
        for (uint32_t i = 0; i < KEYS; i++)
            gone[i] = 1;
        for (uint32_t n = 0; n < 3000; n++) {
            uint32_t i = (uint32_t)rand_r(&x) % KEYS, what = (uint32_t)rand_r(&x) % 16u;
            yk_store_turn(f.s);
            if (what < 8) {
                int rc = put_flags(&f, i, version[i] + 1u, BLOCK, YK_PUT_UPSERT, 0);
                assert_int_equal(rc, 0);
                version[i]++;
                gone[i] = 0;
            } else if (what < 13) {
                i = (uint32_t)rand_r(&x) % 40u;
                int found = get(&f, i, version[i], BLOCK); /* exact, or the rig says so */
                assert_true(!found || !gone[i]);
            } else if (what == 13) {
                int rc = change(&f, YK_CHANGE_REMOVE, 0, i);
                assert_true(rc == 0 || rc == YK_MISS);
                gone[i] = 1;
            } else {
                turn(&f);
            }
            if (n % 1000 == 999) {
                await(&f, yk_store_ticket_take(f.s));
                restart(&f, n % 2000 == 999);
            }
        }
        for (uint32_t i = 0; i < KEYS; i++) {
            yk_store_turn(f.s);
            assert_true(!get(&f, i, version[i], BLOCK) || !gone[i]);
        }
        assert_true(figures(&f).sunk > 50);
        fixture_close(&f);
        free(version);
        free(gone);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_of_three_tiers_keeps_everything),
        cmocka_unit_test(write_through_writes_from_either_range),
        cmocka_unit_test(a_put_that_has_waited_enough_drops_blocks),
        cmocka_unit_test(a_put_that_has_waited_enough_drops_no_more_than_it_needs),
        cmocka_unit_test(memory_slower_than_ssd_is_not_used),
        cmocka_unit_test(a_stop_writes_both_ranges),
        cmocka_unit_test(nothing_wrong_comes_back),
    };
    return cmocka_run_group_tests_name("cxl_ssd", tests, make_dirs, remove_dirs);
}
