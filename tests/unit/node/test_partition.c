/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of several namespaces gives way: where the policy hears of requests, one that scans does not flush what another
 * works with, whether its clients announce or not, and whatever is pinned; elsewhere who is oldest goes.
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
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
