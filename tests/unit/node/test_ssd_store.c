/* SPDX-License-Identifier: Apache-2.0
 *
 * The block table over two tiers, without sockets, on a real file: blocks leave DRAM for SSD, are found
 * there, and are one pool with what is in DRAM.
 */
#include "ssd_store_rig.h"

static void a_pool_larger_than_dram_keeps_everything(void **state) {
    struct fixture f;
    struct yk_counters n;
    uint32_t tiers = 0, low = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i++) {
        assert_true(known(&f, i, &tiers));
        low += tiers == 1u << YK_TIER_SSD;
    }
    assert_true(low > 300);
    yk_store_counters(f.s, &n);
    assert_true(n.demoted >= low);
    for (uint32_t i = 0; i < 600; i++)
        assert_true(get(&f, i, 0, BLOCK));
    yk_store_counters(f.s, &n);
    assert_true(n.ssd_hits >= low);
    assert_int_equal(n.raise_failed, 0);
    fixture_close(&f);
}

static void sizes_of_all_kinds_come_back(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 128 * MIB, YK_SSD_ON_DEMOTION);
    uint32_t len[400];
    for (uint32_t i = 0; i < 400; i++) {
        static const uint32_t some[] = {1,    63,    511,    512,     4095,  4096,
                                        4097, 65537, 200000, 1048576, 777777};
        len[i] = some[i % 11];
        put(&f, i, len[i]);
    }
    settle(&f);
    for (uint32_t i = 0; i < 400; i++)
        assert_true(get(&f, i, 0, len[i]));
    fixture_close(&f);
}

static void a_second_write_is_not_needed(void **state) {
    struct fixture f;
    struct yk_counters a, b;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i++)
        get(&f, i, 0, BLOCK);
    settle(&f);
    yk_store_counters(f.s, &a);
    for (uint32_t i = 0; i < 600; i++)
        get(&f, i, 0, BLOCK);
    settle(&f);
    yk_store_counters(f.s, &b);
    assert_true(b.raised > a.raised + 200);
    assert_int_equal(b.demoted, a.demoted); /* all have their copy */
    fixture_close(&f);
}

static void write_through_has_a_copy_at_once(void **state) {
    struct fixture f;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    put(&f, 1, BLOCK);
    settle(&f);
    assert_true(known(&f, 1, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_DRAM | 1u << YK_TIER_SSD);
    reboot(&f, 1);
    assert_true(known(&f, 1, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    assert_true(get(&f, 1, 0, BLOCK));
    fixture_close(&f);
}

static void batch_removal_covers_both_tiers(void **state) {
    struct fixture f;
    uint32_t cursor = 0;
    uint64_t removed = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    while (cursor != YK_WALK_END)
        removed += yk_store_remove_step(f.s, f.ns, YK_REMOVE_GLOB, "block-*", 7, &cursor, 64);
    assert_int_equal(removed, 600);
    await(&f, yk_store_ticket_take(f.s));
    reboot(&f, 0);
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    fixture_close(&f);
}

static void listing_names_each_once(void **state) {
    struct fixture f;
    uint32_t cursor = 0, idx, n = 0;
    unsigned char seen[600] = {0};
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i += 7)
        get(&f, i, 0, BLOCK); /* some are in both tiers */
    while (cursor != YK_WALK_END) {
        uint32_t steps = 50, len;
        if (yk_store_list_next(f.s, f.ns, f.epoch, "block-", 6, &cursor, &steps, &idx) != 1)
            continue;
        char key[32] = "";
        struct yk_key_room room;
        const void *k = yk_store_key(f.s, idx, &room, &len);
        memcpy(key, k, len);
        uint32_t i = (uint32_t)atoi(key + 6);
        assert_int_equal(seen[i], 0);
        seen[i] = 1;
        n++;
    }
    assert_int_equal(n, 600);
    fixture_close(&f);
}

static void other_bytes_conflict_and_an_upsert_replaces(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t tiers = 0;
    assert_true(known(&f, 0, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    assert_int_equal(put_flags(&f, 0, 1, BLOCK, 0, 0), -YK_ECONFLICT);
    assert_int_equal(put_flags(&f, 0, 1, BLOCK, YK_PUT_UPSERT, 0), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0); /* the reply waits until the older bytes cannot come back */
    await(&f, ticket);
    assert_true(get(&f, 0, 1, BLOCK));
    reboot(&f, 0);
    assert_false(get(&f, 0, 0, BLOCK));
    fixture_close(&f);
}

static void the_same_bytes_again_are_no_conflict(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(put_flags(&f, 0, 0, BLOCK, 0, 0), 0);
    assert_int_equal(yk_store_ticket_take(f.s), 0);
    uint32_t tiers = 0;
    assert_true(known(&f, 0, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_DRAM | 1u << YK_TIER_SSD);
    fixture_close(&f);
}

static void removed_while_it_goes_down(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    for (uint32_t i = 0; i < 100; i++) {
        put(&f, i, BLOCK);
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, i), 0);
        if (i % 10 == 0)
            turn(&f);
    }
    uint64_t ticket = yk_store_ticket_take(f.s);
    settle(&f);
    await(&f, ticket);
    reboot(&f, 0);
    for (uint32_t i = 0; i < 100; i++)
        assert_false(known(&f, i, NULL));
    fixture_close(&f);
}

/* A block is found to be damaged while it is written to SSD, and put again before that ends: it has one
 * entry, and none when it is removed. */
static void damaged_while_it_goes_down(void **state) {
    struct fixture f;
    char key[32];
    uint32_t idx, len = key_of(key, 1);
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    for (uint32_t i = 0; i < 20; i++) {
        put(&f, 1, BLOCK);
        assert_int_equal(yk_store_find(f.s, f.ns, f.epoch, key, len, &idx), 0);
        ((unsigned char *)(uintptr_t)yk_store_payload(f.s, idx))[100] ^= 1;
        assert_int_equal(change(&f, YK_CHANGE_VERIFY, 0, 1), -YK_ECORRUPT);
        put(&f, 1, BLOCK);
        settle(&f);
        assert_true(get(&f, 1, 0, BLOCK));
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 1), 0);
        assert_false(known(&f, 1, NULL));
        await(&f, yk_store_ticket_take(f.s));
    }
    fixture_close(&f);
}

#define CHAINS 24u
#define CHAIN  40u /* blocks of one */

static uint32_t block_of(uint32_t chain, uint32_t at) {
    return chain * 1000u + at;
}

/* Is one of the chain in these tiers, and its parent in none of them? */
static int has_gap(struct fixture *f, uint32_t chain, uint32_t tiers) {
    int above = 1;
    for (uint32_t at = 0; at < CHAIN; at++) {
        uint32_t has = 0;
        int here = known(f, block_of(chain, at), &has) && (has & tiers) != 0;
        if (here && !above)
            return 1;
        above = here;
    }
    return 0;
}

/* Engines that walk chains from their heads, and put what is missing; SSD holds it all. Counts how often a chain was found with a
 * gap: in DRAM, and in the pool. */
static void walk_chains(const char *policy, uint32_t *ret_dram, uint32_t *ret_pool) {
    struct fixture f;
    struct yk_ssd_counters n;
    uint64_t random = 7;
    *ret_dram = *ret_pool = 0;
    fixture_init(&f, 16 * MIB, 128 * MIB, YK_SSD_ON_DEMOTION);
    f.o.policy = policy;
    store_open(&f);
    for (uint32_t step = 0; step < 160; step++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        uint32_t chain = (uint32_t)(random >> 33) % CHAINS, at = 0;
        while (at < CHAIN && get(&f, block_of(chain, at), 0, BLOCK))
            at++;
        for (uint32_t end = at + 6; at < CHAIN && at < end; at++) {
            if (at == 0)
                put(&f, block_of(chain, at), BLOCK);
            else
                put_child(&f, block_of(chain, at), block_of(chain, at - 1), BLOCK);
        }
        if (step % 10 != 0)
            continue;
        settle(&f);
        for (chain = 0; chain < CHAINS; chain++) {
            *ret_dram += (uint32_t)has_gap(&f, chain, 1u << YK_TIER_DRAM);
            *ret_pool += (uint32_t)has_gap(&f, chain, UINT32_MAX);
        }
    }
    yk_ssd_counters_get(yk_store_ssd(f.s), &n);
    assert_true(n.puts > 200);
    fixture_close(&f);
}

/* What is put under a parent that is on its way down keeps it; a parent that has its copy already goes no sooner
 * than its children that are still being written. */
static void no_parent_goes_before_its_children(void **state) {
    uint32_t dram, pool, lru;
    walk_chains("chain-lru", &dram, &pool);
    assert_int_equal(dram, 0);
    assert_int_equal(pool, 0);
    walk_chains("lru", &lru, &pool); /* which knows of no chains */
    assert_true(lru > 5);
    assert_int_equal(pool, 0);
}

/* ---- quotas ---------------------------------------------------------------------------------------------- */

static uint64_t used(struct fixture *f, uint32_t ns) {
    yk_ns_info info;
    assert_int_equal(yk_store_ns_info(f->s, ns, &info), 0);
    assert_int_equal(info.used_bytes, info.blocks * BLOCK);
    return info.used_bytes;
}

/* Each once, whatever its tiers: 0 .. n-1. */
static uint64_t bytes_known(struct fixture *f, uint32_t n) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++)
        bytes += known(f, i, NULL) ? BLOCK : 0;
    return bytes;
}

static void until_within(struct fixture *f, uint64_t quota) {
    for (uint64_t end = yk_now_ns() + LIMIT; used(f, f->ns) > quota; turn(f))
        assert_true(yk_now_ns() < end);
}

/* A quota is one for both tiers: what is on SSD counts, and goes first. */
static void a_quota_counts_both_tiers(void **state) {
    struct fixture f;
    struct yk_counters n;
    uint64_t quota = 24 * MIB;
    uint32_t other, mine, tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    assert_int_equal(yk_store_ns_open(f.s, "other", 5, 1, &other, NULL), 0);
    mine = f.ns;
    f.ns = other;
    for (uint32_t i = 0; i < 100; i++)
        put(&f, i, BLOCK);
    f.ns = mine;
    assert_int_equal(yk_store_ns_quota(f.s, mine, quota), 0);
    put_many(&f, 700);
    until_within(&f, quota);
    assert_int_equal(used(&f, mine), bytes_known(&f, 700));
    assert_in_range(used(&f, mine), quota - 8 * BLOCK, quota);
    assert_true(known(&f, 699, &tiers) && (tiers & 1u << YK_TIER_DRAM));
    assert_false(known(&f, 0, NULL));
    /* What comes up has two copies, and counts once. */
    uint64_t before = used(&f, mine);
    for (uint32_t i = 0; i < 700; i++)
        assert_int_equal(get(&f, i, 0, BLOCK), known(&f, i, NULL));
    settle(&f);
    assert_int_equal(used(&f, mine), before);
    assert_int_equal(bytes_known(&f, 700), before);
    restart(&f, 0);
    settle(&f);
    assert_int_equal(used(&f, mine), before);
    /* A lower one: all that goes was on SSD alone. */
    uint32_t in_dram = 0, still = 0;
    char there[700];
    for (uint32_t i = 0; i < 700; i++)
        in_dram += (uint32_t)(there[i] = known(&f, i, &tiers) && (tiers & 1u << YK_TIER_DRAM));
    assert_true(in_dram > 100);
    quota = 16 * MIB;
    assert_int_equal(yk_store_ns_quota(f.s, mine, quota), 0);
    until_within(&f, quota);
    for (uint32_t i = 0; i < 700; i++)
        still += there[i] && known(&f, i, NULL);
    assert_int_equal(still, in_dram);
    reboot(&f, 1);
    settle(&f);
    assert_int_equal(used(&f, mine), bytes_known(&f, 700));
    /* Below what DRAM has: blocks go for good, not down. */
    yk_store_counters(f.s, &n);
    uint64_t demoted = n.demoted;
    quota = 2 * MIB;
    for (uint32_t i = 1000; i < 1100; i++)
        put(&f, i, BLOCK);
    assert_int_equal(yk_store_ns_quota(f.s, mine, quota), 0);
    until_within(&f, quota);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.demoted, demoted);
    f.ns = other;
    assert_int_equal(used(&f, other), bytes_known(&f, 100));
    assert_true(bytes_known(&f, 100) > 0);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_larger_than_dram_keeps_everything),
        cmocka_unit_test(sizes_of_all_kinds_come_back),
        cmocka_unit_test(a_second_write_is_not_needed),
        cmocka_unit_test(write_through_has_a_copy_at_once),
        cmocka_unit_test(batch_removal_covers_both_tiers),
        cmocka_unit_test(listing_names_each_once),
        cmocka_unit_test(other_bytes_conflict_and_an_upsert_replaces),
        cmocka_unit_test(the_same_bytes_again_are_no_conflict),
        cmocka_unit_test(removed_while_it_goes_down),
        cmocka_unit_test(damaged_while_it_goes_down),
        cmocka_unit_test(no_parent_goes_before_its_children),
        cmocka_unit_test(a_quota_counts_both_tiers),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
