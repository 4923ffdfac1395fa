/* SPDX-License-Identifier: Apache-2.0
 *
 * Where blocks are found and read, with whole nodes in one process (service_rig.h): few owners are asked for a chain,
 * the near copy is read, and a location that is old gives the exact bytes of another copy, or a miss.
 */
#include "service_rig.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#define KIB   1024u
#define CHAIN 256u

/* Figures are shown once a second: those behind this ask. */
static struct yk_dir_stats stats_after(unsigned i, uint64_t asks) {
    struct yk_dir_stats st;
    uint64_t end = yk_now_ns() + 30 * YK_NS_PER_S;
    do {
        assert_true(yk_now_ns() < end);
        st = rig_stats(&rig, i);
    } while (st.asks < asks || st.asking != 0);
    return st;
}

/* ---- owners (R13) ------------------------------------------------------------------------------------- */

/* cut: from there on another node has it, and has not its parents. */
static void chain_asks_few(unsigned cut) {
    char names[CHAIN][24];
    yk_key keys[CHAIN];
    rig_start_all(&rig, 4);
    for (unsigned k = 0; k < CHAIN; k++) {
        snprintf(names[k], sizeof(names[k]), "chain %u", k);
        keys[k] = yk_key_str(names[k]);
        rig_put_child(&rig, k < cut ? 0 : 1, names[k], k > 0 ? names[k - 1] : NULL, 100);
    }
    rig_until_published(&rig, 0, cut);
    rig_until_published(&rig, 1, CHAIN - cut);
    rig_until_matched(&rig, 2, keys, CHAIN, CHAIN);
    struct yk_dir_stats before = stats_after(2, rig_stats(&rig, 2).asks);
    /* Slots move to the new nodes meanwhile: one match of several meets none that does. */
    uint64_t least = UINT64_MAX;
    for (unsigned turn = 0; turn < 10 && least > 4; turn++) {
        before = stats_after(2, before.asks);
        if (yk_match(rig.n[2].client, keys, CHAIN, NULL) != CHAIN)
            continue; /* an owner that had no time to answer */
        struct yk_dir_stats after = stats_after(2, before.asks + 1);
        uint64_t matches = (after.ask_keys - before.ask_keys) / CHAIN; /* one of before may be counted with it */
        assert_in_range(matches, 1, 2);
        uint64_t each = (after.questions - before.questions + matches - 1) / matches;
        least = each < least ? each : least;
        before = after;
    }
    assert_in_range(least, 0, 4);
}

static void a_chain_asks_few_owners(void **state) {
    (void)state;
    chain_asks_few(CHAIN);
}

static void a_chain_of_two_holders_asks_few_owners(void **state) {
    (void)state;
    chain_asks_few(CHAIN / 2);
}

/* ---- zones -------------------------------------------------------------------------------------------- */

static void the_near_copy_is_read(void **state) {
    (void)state;
    enum { N = 20 };
    char key[16];
    rig.zone[0] = "far";
    rig.zone[1] = rig.zone[2] = "near";
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "z%u", k);
        rig_put(&rig, 0, key, 4 * KIB);
        rig_until_got(&rig, 1, key, 4 * KIB);
    }
    rig_until_pulled(&rig, 1, N);
    assert_int_equal(rig_stats(&rig, 1).far_pulled, N); /* there was nothing nearer */
    assert_int_equal(rig_stats(&rig, 1).far_pulled_bytes, N * 4 * KIB);
    rig_until_published(&rig, 1, N);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "z%u", k);
        rig_until_got(&rig, 2, key, 4 * KIB);
    }
    rig_until_pulled(&rig, 2, N);
    assert_int_equal(rig_stats(&rig, 2).far_pulled, 0);
}

/* ---- old locations ------------------------------------------------------------------------------------ */

/* Of the time to live that ends the copy. */
static void until_expired(void) {
    uint64_t end = yk_now_ns() + 5 * YK_NS_PER_MS;
    while (yk_now_ns() < end) {
    }
}

/* Node 1 remembers that node 0 has the key (and, with `other`, node 2 behind it); then node 0 has it no more. 1: what
 * was remembered was used. */
static int stale(unsigned attempt, int other) {
    char key[24];
    snprintf(key, sizeof(key), "stale %u", attempt);
    rig_put(&rig, 0, key, 4 * KIB);
    rig_until_exists(&rig, 1, key, 1);
    if (other) {
        rig_until_got(&rig, 2, key, 4 * KIB);
        rig_until_published(&rig, 2, attempt + 1);
    }
    uint64_t hits = rig_stats(&rig, 1).cache_hits, end = yk_now_ns() + 3 * YK_NS_PER_S;
    if (yk_exists(rig.n[1].client, yk_key_str(key)) != 1) /* remembered for 2 s from now on */
        return 0;
    assert_int_equal(yk_expire(rig.n[0].client, yk_key_str(key), 1), 0);
    until_expired();
    int got = rig_get(&rig, 1, key, 4 * KIB); /* exact, or it fails */
    assert_in_range(got, 0, other);
    if (got != other)
        return 0; /* an owner that had no time to answer */
    while (rig_stats(&rig, 1).cache_hits == hits && yk_now_ns() < end) {
    }
    return rig_stats(&rig, 1).cache_hits > hits;
}

static void an_old_location(int other) {
    int used = 0;
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    for (unsigned attempt = 0; attempt < 20 && !used; attempt++)
        used = stale(attempt, other);
    assert_true(used);
}

static void an_old_location_is_a_miss(void **state) {
    (void)state;
    an_old_location(0);
}

static void an_old_location_gives_the_other_copy(void **state) {
    (void)state;
    an_old_location(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_chain_asks_few_owners, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_chain_of_two_holders_asks_few_owners, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(the_near_copy_is_read, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(an_old_location_is_a_miss, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(an_old_location_gives_the_other_copy, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
