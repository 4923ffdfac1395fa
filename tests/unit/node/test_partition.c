/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of several namespaces gives way: where the policy hears of requests, one that scans does not flush what another
 * works with, whether its clients announce or not, and whatever is pinned; elsewhere who is oldest goes. What is
 * guaranteed stays, with slow memory in both ranges together.
 */
#include "store_rig.h"

#include "base/hash.h"
#include "sched/policy.h"

#define BLOCK  16384u
#define ROOM   512u /* blocks */
#define WORKS  300u /* with so many of them */
#define ROUNDS 3000u

static unsigned char payload[BLOCK];

/* xorshift64: the state is never 0. */
static uint32_t random_below(uint64_t *state, uint32_t n) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)((*state >> 32) * n >> 32);
}

static uint32_t open_ns(struct fixture *f, const char *name) {
    struct yk_err err = {0};
    uint32_t ns;
    assert_int_equal(yk_store_ns_open(f->s, name, strlen(name), 1, &ns, &err), 0);
    return ns;
}

static void enter(struct fixture *f, uint32_t ns) {
    f->ns = ns;
    f->epoch = yk_store_ns_epoch(f->s, ns);
}

/* As a client would: announces, uses what is there, puts what is not. 1: it was there. */
static int ask(struct fixture *f, uint32_t ns, uint64_t block, int announces) {
    char key[32];
    uint32_t idx;
    snprintf(key, sizeof(key), "b%llu", (unsigned long long)block);
    enter(f, ns);
    uint64_t hash = yk_hash_key(ns, key, strlen(key));
    if (announces)
        yk_store_request(f->s, ns, &(struct yk_policy_request){.key_hashes = &hash, .n = 1});
    if (find(f, key, &idx) == 0) {
        yk_store_access(f->s, idx);
        return 1;
    }
    assert_int_equal(put(f, key, payload, BLOCK), 0);
    return 0;
}

/* The share of hits of who works beside one that scans, in the second half. */
static double worker_hits(struct fixture *f, uint32_t worker, uint32_t scanner, int announces) {
    uint32_t hits = 0;
    uint64_t next = 0, rng = 5;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        int hit = ask(f, worker, random_below(&rng, WORKS), announces);
        hits += hit && i >= ROUNDS / 2;
        for (int k = 0; k < 4; k++)
            ask(f, scanner, 1000 + next++, announces);
        if (i % 64 == 0)
            yk_store_tick(f->s);
    }
    return (double)hits / (ROUNDS - ROUNDS / 2);
}

static double beside_a_scan(const char *policy, int announces) {
    struct fixture f;
    fixture_open(&f, ROOM * BLOCK, 0, policy);
    double ratio = worker_hits(&f, open_ns(&f, "works"), open_ns(&f, "scans"), announces);
    fixture_close(&f);
    return ratio;
}

static void a_scan_does_not_flush_another_namespace(void **state) {
    double ratio = beside_a_scan("learned", 1);
    print_message("beside a scan: %.1f %% hit\n", 100 * ratio);
    assert_true(ratio > 0.9);
}

static void nor_where_nobody_announces(void **state) {
    assert_true(beside_a_scan("learned", 0) > 0.9);
}

static void lru_stays_one_order_for_all(void **state) {
    assert_true(beside_a_scan("lru", 1) < 0.4);
    assert_true(beside_a_scan("chain-lru", 1) < 0.4);
}

/* Capacity in blocks is what is divided, if it is the less. */
static void a_capacity_in_blocks_is_divided(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * ROOM * BLOCK, ROOM, "learned");
    uint32_t works = open_ns(&f, "works"), scans = open_ns(&f, "scans");
    uint32_t hits = 0;
    uint64_t rng = 5;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        int hit = ask(&f, works, random_below(&rng, WORKS), 1);
        hits += hit && i >= ROUNDS / 2;
        for (uint64_t k = 0; k < 4; k++)
            ask(&f, scans, 1000 + i * 4 + k, 1);
        yk_store_tick(f.s);
    }
    assert_true(hits > (ROUNDS - ROUNDS / 2) * 9 / 10);
    assert_true(counters(&f).blocks <= ROOM);
    fixture_close(&f);
}

/* Who is above its share has nothing that may go: then another gives, rather than what is pinned. */
static void pinned_blocks_are_passed_over(void **state) {
    struct fixture f;
    char key[32];
    fixture_open(&f, ROOM * BLOCK, 0, "learned");
    uint32_t works = open_ns(&f, "works"), scans = open_ns(&f, "scans");
    (void)worker_hits(&f, works, scans, 1);
    for (uint64_t i = 0; i < 100; i++) { /* far more than its share, and all of it pinned */
        ask(&f, scans, 900000 + i, 1);
        snprintf(key, sizeof(key), "b%llu", (unsigned long long)(900000 + i));
        assert_int_equal(change(&f, YK_CHANGE_PIN, 3600000, key), 0);
    }
    for (uint64_t i = 0; i < 2 * ROOM; i++)
        ask(&f, works, 5000 + i, 1);
    enter(&f, scans);
    for (uint64_t i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "b%llu", (unsigned long long)(900000 + i));
        assert_true(here(&f, key));
    }
    fixture_close(&f);
}

/* What was removed has no share, and what it left is nobody's. */
static void a_removed_namespace_leaves_its_room(void **state) {
    struct fixture f;
    fixture_open(&f, ROOM * BLOCK, 0, "learned");
    uint32_t works = open_ns(&f, "works"), scans = open_ns(&f, "scans");
    (void)worker_hits(&f, works, scans, 1);
    assert_int_equal(yk_store_ns_remove(f.s, works), 0);
    while (yk_store_tick(f.s))
        ;
    uint32_t hits = 0;
    for (int round = 0; round < 4; round++)
        for (uint64_t i = 0; i < 400; i++)
            hits += (uint32_t)ask(&f, scans, i, 1);
    assert_true(hits >= 2 * 400); /* more than there was for it beside the other */
    fixture_close(&f);
}

/* ---- terms ------------------------------------------------------------------------------------------ */

static yk_ns_info info_of(struct fixture *f, uint32_t ns) {
    yk_ns_info info;
    assert_int_equal(yk_store_ns_info(f->s, ns, &info), 0);
    return info;
}

/* One puts so many blocks and asks no more, another works with all that there is room for. Blocks of the first that stay. */
static uint32_t left_of_who_rests(struct fixture *f, uint32_t rests, uint32_t works, uint32_t blocks, uint32_t room) {
    uint64_t rng = 3;
    char key[32];
    for (uint64_t i = 0; i < blocks; i++)
        ask(f, rests, i, 1);
    for (uint32_t i = 0; i < 16 * room; i++) {
        ask(f, works, random_below(&rng, room), 1);
        yk_store_turn(f->s);
        if (i % 64 == 0)
            yk_store_tick(f->s);
    }
    enter(f, rests);
    uint32_t left = 0;
    for (uint64_t i = 0; i < blocks; i++) {
        snprintf(key, sizeof(key), "b%llu", (unsigned long long)i);
        left += here(f, key) != 0;
    }
    return left;
}

static void what_is_guaranteed_stays(void **state) {
    for (int promised = 0; promised < 2; promised++) {
        struct fixture f;
        fixture_open(&f, ROOM * BLOCK, 0, "learned");
        uint32_t rests = open_ns(&f, "rests"), works = open_ns(&f, "works");
        assert_int_equal(yk_store_ns_set_guarantee(f.s, rests, promised ? 200 * BLOCK : 0), 0);
        uint32_t left = left_of_who_rests(&f, rests, works, 200, ROOM);
        if (promised)
            assert_in_range(left, 195, 200);
        else
            assert_in_range(left, 0, 100);
        yk_ns_info info = info_of(&f, rests);
        assert_int_equal(info.guaranteed_bytes, promised ? 200 * BLOCK : 0);
        assert_int_equal(info.share_used_bytes, left * BLOCK);
        assert_true(info.share_bytes >= info.guaranteed_bytes && info.share_hit_ratio < 0.1);
        assert_true(info_of(&f, works).share_hit_ratio > 0.3);
        fixture_close(&f);
    }
}

/* Nobody was heard of yet when the scan comes; and after a start nobody either. */
static void a_guarantee_holds_from_the_first_block_on(void **state) {
    for (int again = 0; again < 2; again++) {
        struct fixture f;
        fixture_open(&f, ROOM * BLOCK, 0, "learned");
        uint32_t rests = open_ns(&f, "rests"), scans = open_ns(&f, "scans");
        assert_int_equal(yk_store_ns_set_guarantee(f.s, rests, 50 * BLOCK), 0);
        for (uint64_t i = 0; i < 50; i++)
            ask(&f, rests, i, 0);
        if (again) {
            for (uint64_t i = 0; i < ROOM - 80; i++) /* full, but for what is kept free */
                ask(&f, scans, 500000 + i, 0);
            crash(&f);
        }
        assert_int_equal(counters(&f).guaranteed_bytes, 50 * BLOCK);
        for (uint64_t i = 0; i < 100; i++) /* fewer than a period has */
            ask(&f, scans, 1000 + i, 0);
        assert_int_equal(info_of(&f, rests).share_bytes, again ? 0 : info_of(&f, rests).share_bytes);
        for (uint64_t i = 0; i < 2 * ROOM; i++)
            ask(&f, scans, 2000 + i, 0);
        assert_int_equal(info_of(&f, rests).blocks, 50);
        fixture_close(&f);
    }
}

/* It comes when all is divided already, and others have it. */
static void a_guarantee_holds_for_one_that_comes_late(void **state) {
    struct fixture f;
    fixture_open(&f, ROOM * BLOCK, 0, "learned");
    uint32_t works = open_ns(&f, "works"), scans = open_ns(&f, "scans"), late = open_ns(&f, "late");
    (void)worker_hits(&f, works, scans, 1);
    assert_int_equal(yk_store_ns_set_guarantee(f.s, late, 50 * BLOCK), 0);
    for (uint64_t i = 0; i < 50; i++) {
        ask(&f, late, i, 1);
        for (uint64_t k = 0; k < 4; k++)
            ask(&f, scans, 700000 + 4 * i + k, 1);
    }
    assert_int_equal(info_of(&f, late).blocks, 50);
    fixture_close(&f);
}

/* Two work alike, with more than there is. */
static void a_hit_of_a_higher_priority_counts_more(void **state) {
    struct fixture f;
    uint64_t rng = 9;
    fixture_open(&f, ROOM * BLOCK, 0, "learned");
    uint32_t high = open_ns(&f, "high"), low = open_ns(&f, "low");
    assert_int_equal(yk_store_ns_set_priority(f.s, high, 4 * YK_PRIORITY_DEFAULT), 0);
    for (uint32_t i = 0; i < 20 * ROOM; i++) {
        ask(&f, high, random_below(&rng, ROOM), 1);
        ask(&f, low, random_below(&rng, ROOM), 1);
    }
    assert_true(info_of(&f, high).share_bytes > 3 * info_of(&f, low).share_bytes);
    assert_true(info_of(&f, high).blocks > 2 * info_of(&f, low).blocks);
    fixture_close(&f);
}

/* All of them come to be less, as they are more than there is. */
static void guarantees_are_cut_in_proportion(void **state) {
    struct fixture f;
    fixture_open(&f, ROOM * BLOCK, 0, "learned");
    uint32_t works = open_ns(&f, "works"), scans = open_ns(&f, "scans");
    assert_int_equal(yk_store_ns_set_guarantee(f.s, works, 3ull * ROOM * BLOCK / 4), 0);
    assert_int_equal(yk_store_ns_set_guarantee(f.s, scans, 3ull * ROOM * BLOCK / 4), 0);
    (void)worker_hits(&f, works, scans, 1);
    struct yk_counters n = counters(&f);
    assert_int_equal(n.guaranteed_bytes, 3ull * ROOM * BLOCK / 2);
    assert_true(n.divided_bytes <= ROOM * BLOCK);
    uint64_t half = (n.divided_bytes - n.divided_bytes / 64) / 2;
    assert_in_range(info_of(&f, works).guaranteed_bytes, half - 2, half);
    assert_in_range(info_of(&f, scans).guaranteed_bytes, half - 2, half);
    assert_in_range(info_of(&f, scans).share_bytes, half - 2, half + n.divided_bytes / 64);
    assert_int_equal(yk_store_ns_set_guarantee(f.s, scans, 0), 0);
    assert_int_equal(info_of(&f, works).guaranteed_bytes, 3ull * ROOM * BLOCK / 4);
    fixture_close(&f);
}

/* And what is removed has none: the others' count in full at once. */
static void what_is_removed_is_guaranteed_nothing(void **state) {
    struct fixture f;
    fixture_open(&f, ROOM * BLOCK, 0, "learned");
    uint32_t stays = open_ns(&f, "stays"), goes = open_ns(&f, "goes");
    assert_int_equal(yk_store_ns_set_guarantee(f.s, stays, 3ull * ROOM * BLOCK / 4), 0);
    assert_int_equal(yk_store_ns_set_guarantee(f.s, goes, 3ull * ROOM * BLOCK / 4), 0);
    ask(&f, stays, 1, 1);
    ask(&f, goes, 1, 1);
    assert_true(info_of(&f, stays).guaranteed_bytes < 3ull * ROOM * BLOCK / 4);
    assert_int_equal(yk_store_ns_remove(f.s, goes), 0);
    assert_int_equal(info_of(&f, stays).guaranteed_bytes, 3ull * ROOM * BLOCK / 4);
    assert_int_equal(counters(&f).guaranteed_bytes, 3ull * ROOM * BLOCK / 4);
    fixture_close(&f);
}

/* ---- slow memory -------------------------------------------------------------------------------------- */

/* DRAM of half the room, and slow memory of the other half; uses cost so little more that nothing rises unless often used. */
static void open_with_slow(struct fixture *f, const char *policy) {
    fixture_init(f, ROOM / 2 * BLOCK, 0, policy);
    f->o.cxl.bytes = ROOM / 2 * BLOCK;
    f->o.cxl.figures = (struct yk_cxl_figures){.dram_lat_ns = 100, .dram_bps = 10000000000u, .slow_lat_ns = 250,
                                               .slow_bps = 4000000000u};
    store_open(f);
}

static double beside_a_scan_with_slow(const char *policy) {
    struct fixture f;
    open_with_slow(&f, policy);
    uint32_t works = open_ns(&f, "works"), scans = open_ns(&f, "scans"), hits = 0;
    uint64_t next = 0, rng = 5;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        int hit = ask(&f, works, random_below(&rng, WORKS), 1);
        hits += hit && i >= ROUNDS / 2;
        for (int k = 0; k < 4; k++)
            ask(&f, scans, 1000 + next++, 1);
        yk_store_turn(f.s);
        if (i % 16 == 0)
            yk_store_tick(f.s);
    }
    struct yk_counters n = counters(&f);
    assert_true(n.sunk > 0 && n.cxl_evicted > 0);
    if (strcmp(policy, "learned") == 0) { /* together they have more than DRAM alone */
        assert_true(info_of(&f, works).share_bytes > (ROOM / 2 + 1) * BLOCK);
        assert_int_equal(info_of(&f, works).share_used_bytes + info_of(&f, scans).share_used_bytes,
                         n.block_bytes + n.cxl_block_bytes);
    }
    fixture_close(&f);
    return (double)hits / (ROUNDS - ROUNDS / 2);
}

static void a_scan_does_not_flush_slow_memory_either(void **state) {
    double with = beside_a_scan_with_slow("learned"), without = beside_a_scan_with_slow("chain-lru");
    print_message("with slow memory, beside a scan: %.1f %% hit, %.1f %% where nothing is divided\n", 100 * with, 100 * without);
    assert_true(with > 0.9 && without < 0.5);
}

static void a_guarantee_is_of_both_ranges(void **state) {
    for (int promised = 0; promised < 2; promised++) {
        struct fixture f;
        open_with_slow(&f, "learned");
        uint32_t rests = open_ns(&f, "rests"), works = open_ns(&f, "works");
        assert_int_equal(yk_store_ns_set_guarantee(f.s, rests, promised ? 200 * BLOCK : 0), 0);
        uint32_t left = left_of_who_rests(&f, rests, works, 200, ROOM);
        print_message("%u of 200 are left\n", left);
        if (promised)
            assert_in_range(left, 195, 200);
        else
            assert_in_range(left, 0, 120);
        fixture_close(&f);
    }
}

/* With one namespace the policy alone decides. */
static void one_namespace_has_all(void **state) {
    struct fixture f;
    fixture_open(&f, ROOM * BLOCK, 0, "learned");
    uint32_t ns = open_ns(&f, "works"), hits = 0;
    for (int round = 0; round < 4; round++)
        for (uint64_t i = 0; i < 480; i++)
            hits += (uint32_t)ask(&f, ns, i, 1);
    assert_int_equal(hits, 3 * 480);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_does_not_flush_another_namespace),
        cmocka_unit_test(nor_where_nobody_announces),
        cmocka_unit_test(lru_stays_one_order_for_all),
        cmocka_unit_test(a_capacity_in_blocks_is_divided),
        cmocka_unit_test(pinned_blocks_are_passed_over),
        cmocka_unit_test(a_removed_namespace_leaves_its_room),
        cmocka_unit_test(one_namespace_has_all),
        cmocka_unit_test(what_is_guaranteed_stays),
        cmocka_unit_test(a_guarantee_holds_from_the_first_block_on),
        cmocka_unit_test(a_guarantee_holds_for_one_that_comes_late),
        cmocka_unit_test(a_hit_of_a_higher_priority_counts_more),
        cmocka_unit_test(guarantees_are_cut_in_proportion),
        cmocka_unit_test(what_is_removed_is_guaranteed_nothing),
        cmocka_unit_test(a_scan_does_not_flush_slow_memory_either),
        cmocka_unit_test(a_guarantee_is_of_both_ranges),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
