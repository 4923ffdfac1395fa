/* SPDX-License-Identifier: Apache-2.0
 *
 * The block table without sockets: how blocks come, stand and go.
 */
#include "store_rig.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/owner.h"

/* ---- put and find -----------------------------------------------------------------------------
 */

static void a_block_is_found_with_its_bytes(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "hello", 5), 0);
    assert_true(same(&f, "a", "hello", 5));
    assert_false(here(&f, "b"));
    struct yk_counters n = counters(&f);
    assert_int_equal(n.blocks, 1);
    assert_int_equal(n.block_bytes, 5);
    assert_int_equal(n.reserved_blocks, 0);
    fixture_close(&f);
}

static void same_bytes_again_succeed_other_bytes_conflict(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "hello", 5), 0);
    assert_int_equal(put(&f, "a", "hello", 5), 0);
    assert_int_equal(put(&f, "a", "jello", 5), -YK_ECONFLICT);
    assert_true(same(&f, "a", "hello", 5));
    assert_int_equal(put_as(&f, 0, "a", NULL, "jello", 5, YK_PUT_UPSERT), 0);
    assert_true(same(&f, "a", "jello", 5));
    struct yk_counters n = counters(&f);
    assert_int_equal(n.blocks, 1);
    assert_int_equal(n.duplicates, 1);
    assert_int_equal(n.conflicts, 1);
    assert_int_equal(n.limbo_blocks, 0);
    fixture_close(&f);
}

static void a_reservation_ends_by_abort_or_its_clients_release(void **state) {
    struct fixture f;
    struct yk_place p;
    uint32_t slot;
    uint64_t cookie;
    fixture_open(&f, 8 * MIB, 0, "lru");
    uint64_t free0 = counters(&f).free_bytes + counters(&f).idle_bytes + counters(&f).waste_bytes;
    assert_int_equal(yk_store_client_attach(f.s, (uint32_t)getpid(), 0, 0, &slot, &cookie), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(yk_store_reserve(f.s, slot, 100000, &p, NULL), 0);
    assert_int_equal(yk_store_abort(f.s, slot + 1, p.idx, p.gen), -YK_EGONE);
    assert_int_equal(yk_store_abort(f.s, slot, p.idx, p.gen + 1), -YK_EGONE);
    assert_int_equal(yk_store_abort(f.s, slot, p.idx, p.gen), 0);
    assert_int_equal(yk_store_abort(f.s, slot, p.idx, p.gen), -YK_EGONE);
    assert_int_equal(counters(&f).reserved_blocks, 2);
    yk_store_client_release(f.s, slot);
    assert_int_equal(counters(&f).reserved_blocks, 0);
    assert_int_equal(counters(&f).reserved_bytes, 0);
    assert_int_equal(counters(&f).free_bytes + counters(&f).idle_bytes + counters(&f).waste_bytes,
                     free0);
    fixture_close(&f);
}

static void a_commit_sent_twice_is_answered_alike(void **state) {
    struct fixture f;
    struct yk_place p;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(yk_store_reserve(f.s, 0, 4, &p, NULL), 0);
    memcpy((char *)yk_store_segment(f.s)->data + p.offset, "data", 4);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = f.epoch,
                          .sum = yk_hash64("data", 4),
                          .len = 4,
                          .key = "k",
                          .key_len = 1};
    assert_int_equal(yk_store_commit(f.s, 0, f.ns, &c), 0);
    assert_int_equal(yk_store_commit(f.s, 0, f.ns, &c), 0);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "k"), 0);
    assert_int_equal(yk_store_commit(f.s, 0, f.ns, &c), -YK_EGONE);
    fixture_close(&f);
}

static void too_large_and_empty_are_refused_with_both_sizes(void **state) {
    struct fixture f;
    struct yk_place p;
    struct yk_err err = {0};
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(yk_store_reserve(f.s, 0, 9 * MIB, &p, &err), -YK_ETOOBIG);
    assert_non_null(strstr(err.text, "9437184"));
    assert_non_null(strstr(err.text, "8388608"));
    assert_int_equal(yk_store_reserve(f.s, 0, 0, &p, &err), -YK_EINVAL);
    fixture_close(&f);
}

/* ---- eviction
 * --------------------------------------------------------------------------------------- */

static void capacity_in_blocks_is_exact_lru(void **state) {
    struct fixture f;
    char key[16] = {0};
    fixture_open(&f, 8 * MIB, 10, "lru");
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(&f, key, key, 3), 0);
    }
    assert_int_equal(change(&f, YK_CHANGE_TOUCH, 0, "k0"), 0);
    assert_int_equal(put(&f, "new", "new", 3), 0);
    assert_true(here(&f, "k0"));
    assert_false(here(&f, "k1"));
    assert_true(here(&f, "k2"));
    assert_int_equal(counters(&f).blocks, 10);
    assert_int_equal(counters(&f).evict_capacity, 1);
    fixture_close(&f);
}

static void a_full_tier_evicts_for_the_next_put(void **state) {
    struct fixture f;
    char key[16] = {0};
    char *data = malloc(MIB);
    memset(data, 7, MIB);
    fixture_open(&f, 16 * MIB, 0, "lru");
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        data[0] = (char)i;
        assert_int_equal(put(&f, key, data, MIB), 0);
        assert_true(same(&f, key, data, MIB));
    }
    assert_false(here(&f, "k0"));
    assert_true(counters(&f).blocks >= 13);
    fixture_close(&f);
    free(data);
}

static void pinned_blocks_stay_and_too_many_are_refused(void **state) {
    struct fixture f;
    char key[16] = {0};
    char *data = calloc(1, MIB);
    fixture_open(&f, 16 * MIB, 0, "lru");
    assert_int_equal(put_as(&f, 0, "hard", NULL, data, MIB, YK_PUT_HARD_PIN), 0);
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(&f, key, data, MIB), 0);
    }
    assert_true(here(&f, "hard"));
    int rc = 0, n = 0;
    for (int i = 39; i >= 28 && rc == 0; i--, n++) {
        snprintf(key, sizeof(key), "k%d", i);
        rc = change(&f, YK_CHANGE_PIN, 0, key);
    }
    assert_int_equal(rc, -YK_ELIMIT); /* half of the tier may be held */
    assert_true(n > 4);
    assert_int_equal(change(&f, YK_CHANGE_UNPIN, 0, "hard"), 0);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "hard"), 0);
    fixture_close(&f);
    free(data);
}

static void what_a_hazard_names_is_not_reused(void **state) {
    struct fixture f;
    struct yk_found found;
    char *data = malloc(MIB);
    uint32_t slot;
    uint64_t cookie;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(yk_store_client_attach(f.s, (uint32_t)getpid(), 0, 0, &slot, &cookie), 0);
    memset(data, 1, MIB);
    assert_int_equal(put(&f, "held", data, MIB), 0);
    struct yk_client_page *page = (struct yk_client_page *)yk_store_segment(f.s)->clients + slot;
    page->hazard_top = 1;
    struct yk_query q = {.hash = yk_hash_key(f.ns, "held", 4),
                         .epoch = f.epoch,
                         .key = "held",
                         .key_len = 4,
                         .ns = f.ns};
    assert_int_equal(yk_view_pin(yk_store_view(f.s), &q, yk_wall_ms(), &page->hazard[0], &found),
                     0);
    const unsigned char *p = yk_store_view(f.s)->data + found.rest.offset;
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "held"), 0);
    memset(data, 2, MIB);
    char key[16] = {0};
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(&f, key, data, MIB), 0);
    }
    assert_int_equal(p[0], 1);
    assert_int_equal(p[MIB - 1], 1);
    assert_int_equal(counters(&f).limbo_blocks, 1);
    yk_hazard_clear(&page->hazard[0]);
    assert_int_equal(counters(&f).limbo_blocks, 0);
    fixture_close(&f);
    free(data);
}

static void chain_policies_keep_parents_of_live_children(void **state) {
    struct fixture f;
    uint32_t idx;
    yk_block_info info;
    fixture_open(&f, 8 * MIB, 4, "chain-lru");
    assert_int_equal(put_as(&f, 0, "a", NULL, "a", 1, 0), 0);
    assert_int_equal(put_as(&f, 0, "b", "a", "b", 1, 0), 0);
    assert_int_equal(put_as(&f, 0, "c", "b", "c", 1, 0), 0);
    assert_int_equal(find(&f, "a", &idx), 0);
    yk_store_info(f.s, idx, &info);
    assert_int_equal(info.children, 1);
    for (int i = 0; i < 3; i++) {
        char key[8] = {0};
        snprintf(key, sizeof(key), "x%d", i);
        assert_int_equal(put(&f, key, key, 2), 0);
        /* A child never stands without its parent. */
        assert_true(here(&f, "a") || !here(&f, "b"));
        assert_true(here(&f, "b") || !here(&f, "c"));
    }
    assert_false(here(&f, "c"));
    fixture_close(&f);
}

/* Blocks of one chain, of which memory or the capacity holds a part: that is its head. Another chain that
 * comes later is kept in the same way, in the place of what was used before it. */
static void a_chain_longer_than_memory_keeps_its_head(void **state) {
    static const char *const policies[] = {"chain-lru", "chain-s3fifo"};
    char *data = calloc(1, MIB);
    for (int round = 0; round < 4; round++) {
        struct fixture f;
        int by_capacity = round % 2;
        fixture_open(&f, 16 * MIB, by_capacity ? 40 : 0, policies[round / 2]);
        uint32_t len = by_capacity ? 1000 : MIB / 4;
        for (int chain = 0; chain < 2; chain++) {
            char key[16] = {0}, parent[16] = {0};
            int run = 0, all = 0;
            for (int i = 0; i < 150; i++) {
                memcpy(parent, key, sizeof(parent));
                snprintf(key, sizeof(key), "%c%d", 'a' + chain, i);
                assert_int_equal(put_as(&f, 0, key, i > 0 ? parent : NULL, data, len, 0), 0);
                if (i % 10 == 0)
                    yk_store_tick(f.s);
            }
            for (int i = 0; i < 150; i++) {
                snprintf(key, sizeof(key), "%c%d", 'a' + chain, i);
                all += here(&f, key);
                run += here(&f, key) && run == i;
            }
            assert_true(all - run <= 4);
            assert_in_range(run, by_capacity ? 36 : 50, 64);
        }
        fixture_close(&f);
    }
    free(data);
}

/* ---- namespaces, epochs, expiry
 * ------------------------------------------------------------------------ */

static void raising_the_epoch_hides_older_blocks_at_once(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "old", 3), 0);
    uint64_t old = f.epoch;
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, old + 5), 0);
    assert_false(here(&f, "a")); /* with the old epoch */
    assert_int_equal(put(&f, "b", "x", 1), -YK_ESTALE);
    f.epoch = old + 5;
    assert_false(here(&f, "a"));
    assert_int_equal(put(&f, "a", "new", 3), 0);
    assert_true(same(&f, "a", "new", 3));
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, old), -YK_ESTALE);
    crash(&f);
    assert_int_equal(f.epoch, old + 5);
    assert_true(same(&f, "a", "new", 3));
    fixture_close(&f);
}

static void a_put_that_began_before_a_raise_is_refused(void **state) {
    struct fixture f;
    struct yk_place p;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(yk_store_reserve(f.s, 0, 4, &p, NULL), 0);
    memcpy((char *)yk_store_segment(f.s)->data + p.offset, "data", 4);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = f.epoch,
                          .sum = yk_hash64("data", 4),
                          .len = 4,
                          .key = "k",
                          .key_len = 1};
    f.epoch += 5;
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch), 0);
    assert_int_equal(yk_store_commit(f.s, 0, f.ns, &c), -YK_ESTALE);
    assert_false(here(&f, "k"));
    struct yk_counters n;
    yk_store_counters(f.s, &n);
    assert_int_equal(n.reserved_blocks, 0);
    c.epoch = f.epoch + 1; /* nor one of an epoch that the namespace never had */
    assert_int_equal(yk_store_reserve(f.s, 0, 4, &p, NULL), 0);
    c.idx = p.idx;
    c.gen = p.gen;
    assert_int_equal(yk_store_commit(f.s, 0, f.ns, &c), -YK_ESTALE);
    fixture_close(&f);
}

static void the_sweep_reclaims_outdated_blocks(void **state) {
    struct fixture f;
    char key[16] = {0};
    fixture_open(&f, 8 * MIB, 0, "lru");
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(&f, key, key, 4), 0);
    }
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    while (yk_store_tick(f.s))
        ;
    assert_int_equal(counters(&f).blocks, 0);
    assert_int_equal(counters(&f).evict_epoch, 500);
    fixture_close(&f);
}

static void quotas_evict_from_their_own_namespace(void **state) {
    struct fixture f;
    char key[16] = {0};
    char data[1000] = {0};
    fixture_open(&f, 8 * MIB, 0, "lru");
    uint32_t other;
    assert_int_equal(yk_store_ns_open(f.s, "other", 5, 1, &other, NULL), 0);
    assert_int_equal(put(&f, "mine", data, 1000), 0);
    uint32_t mine = f.ns;
    f.ns = other;
    assert_int_equal(yk_store_ns_quota(f.s, other, 5000), 0);
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(&f, key, data, 1000), 0);
    }
    yk_ns_info info;
    assert_int_equal(yk_store_ns_info(f.s, other, &info), 0);
    assert_int_equal(info.used_bytes, 5000);
    assert_int_equal(info.blocks, 5);
    char big[6000] = {0};
    assert_int_equal(put(&f, "big", big, 6000), -YK_EQUOTA);
    f.ns = mine;
    assert_true(here(&f, "mine"));
    fixture_close(&f);
}

/* What a lowered limit leaves over is not one put's to evict. */
static void a_lowered_limit_is_reached_in_steps(void **state) {
    struct fixture f;
    yk_ns_info info;
    struct yk_counters n; /* without the tick of counters() */
    fixture_open(&f, 8 * MIB, 0, "lru");
    put_tiny(&f, 1500);
    assert_int_equal(yk_store_ns_quota(f.s, f.ns, 100), 0);
    assert_int_equal(put(&f, "new", "y", 1), 0);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.evict_quota, 1);
    while (yk_store_tick(f.s))
        ;
    assert_int_equal(yk_store_ns_info(f.s, f.ns, &info), 0);
    assert_int_equal(info.used_bytes, 100);
    assert_true(here(&f, "new"));
    assert_true(here(&f, "t1499"));
    assert_int_equal(yk_store_ns_quota(f.s, f.ns, 0), 0);
    put_tiny(&f, 1000);
    f.o.capacity_blocks = 50;
    crash(&f);
    assert_int_equal(put(&f, "newer", "y", 1), 0);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.evict_capacity, 1);
    while (yk_store_tick(f.s))
        ;
    assert_int_equal(counters(&f).blocks, 50);
    assert_true(here(&f, "newer"));
    fixture_close(&f);
}

/* A large block among tiny ones: each turn evicts a part of what is in its way. */
static void room_in_a_quota_is_made_in_turns(void **state) {
    struct fixture f;
    static const char large[2900];
    int turns = 1;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(yk_store_ns_quota(f.s, f.ns, 3000), 0);
    put_tiny(&f, 3000);
    struct yk_place p;
    assert_int_equal(yk_store_reserve(f.s, 0, sizeof(large), &p, NULL), 0);
    memset((char *)yk_store_segment(f.s)->data + p.offset, 0, sizeof(large));
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = f.epoch,
                          .sum = yk_hash64(large, sizeof(large)),
                          .len = sizeof(large),
                          .key = "large",
                          .key_len = 5};
    yk_store_turn(f.s);
    int rc;
    while ((rc = yk_store_commit(f.s, 0, f.ns, &c)) == -YK_EAGAIN) {
        struct yk_counters n;
        yk_store_counters(f.s, &n);
        assert_int_equal(n.evict_quota, 1024 * turns);
        yk_store_turn(f.s);
        turns++;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(turns, 3);
    assert_int_equal(counters(&f).evict_quota, 2900);
    assert_true(same(&f, "large", large, sizeof(large)));
    fixture_close(&f);
}

static void verifying_a_large_block_goes_in_steps(void **state) {
    struct fixture f;
    struct yk_verify v;
    struct yk_counters n;
    uint64_t left;
    int rc, steps = 1;
    fixture_open(&f, 32 * MIB, 0, "lru");
    char *data = malloc(5 * MIB);
    for (unsigned i = 0; i < 5 * MIB; i++)
        data[i] = (char)(i * 7);
    assert_int_equal(put(&f, "k", data, 5 * MIB), 0);
    assert_int_equal(yk_store_verify_begin(f.s, f.ns, f.epoch, "none", 4, &v), YK_MISS);
    assert_int_equal(yk_store_verify_begin(f.s, f.ns, f.epoch, "k", 1, &v), 0);
    for (left = 2 * MIB; (rc = yk_store_verify_step(f.s, &v, &left)) == YK_PENDING; left = 2 * MIB)
        steps++;
    yk_store_verify_end(f.s, &v);
    assert_int_equal(rc, 0);
    assert_int_equal(steps, 3);
    assert_int_equal(left, MIB); /* goes to the next block */
    /* What is removed meanwhile is a miss, and its memory is nobody else's before the end. */
    assert_int_equal(yk_store_verify_begin(f.s, f.ns, f.epoch, "k", 1, &v), 0);
    left = MIB;
    assert_int_equal(yk_store_verify_step(f.s, &v, &left), YK_PENDING);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "k"), 0);
    assert_int_equal(counters(&f).limbo_blocks, 1);
    left = MIB;
    assert_int_equal(yk_store_verify_step(f.s, &v, &left), YK_MISS);
    yk_store_verify_end(f.s, &v);
    assert_int_equal(counters(&f).limbo_blocks, 0);
    /* A rotten byte near the end. */
    uint32_t idx;
    assert_int_equal(put(&f, "k", data, 5 * MIB), 0);
    assert_int_equal(find(&f, "k", &idx), 0);
    ((char *)(uintptr_t)yk_store_payload(f.s, idx))[5 * MIB - 3] ^= 1;
    assert_int_equal(yk_store_verify_begin(f.s, f.ns, f.epoch, "k", 1, &v), 0);
    do
        left = 2 * MIB;
    while ((rc = yk_store_verify_step(f.s, &v, &left)) == YK_PENDING);
    yk_store_verify_end(f.s, &v);
    assert_int_equal(rc, -YK_ECORRUPT);
    assert_false(here(&f, "k"));
    yk_store_counters(f.s, &n);
    assert_int_equal(n.verify_failed, 1);
    free(data);
    fixture_close(&f);
}

static void a_removed_namespace_hides_its_blocks_and_its_name_is_free(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "x", 1), 0);
    assert_int_equal(yk_store_ns_remove(f.s, f.ns), 0);
    assert_false(here(&f, "a"));
    assert_int_equal(put(&f, "b", "x", 1), -YK_ENONS);
    uint32_t ns;
    assert_int_equal(yk_store_ns_open(f.s, "default", 7, 1, &ns, NULL), 0);
    assert_int_not_equal(ns, f.ns);
    while (yk_store_tick(f.s))
        ;
    assert_int_equal(counters(&f).blocks, 0);
    fixture_close(&f);
}

static void expired_blocks_are_misses(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "x", 1), 0);
    assert_int_equal(change(&f, YK_CHANGE_EXPIRE, 1u << 30, "a"), 0);
    assert_true(here(&f, "a"));
    /* The segment has seen a later wall clock: a step back does not bring time back. */
    struct yk_shm_hdr *h = yk_store_segment(f.s)->meta;
    h->clock_ms = yk_wall_ms() + (1ull << 31);
    assert_false(here(&f, "a"));
    assert_int_equal(put(&f, "a", "y", 1), 0); /* an expired block conflicts with nothing */
    assert_true(same(&f, "a", "y", 1));
    fixture_close(&f);
}

/* ---- compaction, batch removal
 * ------------------------------------------------------------------------------- */

static void compaction_keeps_every_byte(void **state) {
    struct fixture f;
    char key[16] = {0};
    unsigned char *data = malloc(300000);
    fixture_open(&f, 32 * MIB, 0, "lru");
    srand(5);
    for (int i = 0; i < 300; i++) {
        uint32_t len = 1000u + (uint32_t)rand() % 200000u;
        memset(data, i & 0xff, len);
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(&f, key, data, len), 0);
    }
    for (int i = 0; i < 300; i += 2) {
        snprintf(key, sizeof(key), "k%d", i);
        change(&f, YK_CHANGE_REMOVE, 0, key);
    }
    uint32_t moves = yk_store_compact(f.s, 0, 1000);
    assert_true(moves > 0);
    for (int i = 1; i < 300; i += 2) {
        uint32_t idx;
        yk_block_info info;
        snprintf(key, sizeof(key), "k%d", i);
        if (find(&f, key, &idx) != 0)
            continue;
        yk_store_info(f.s, idx, &info);
        const unsigned char *p = yk_store_payload(f.s, idx);
        for (uint64_t b = 0; b < info.len; b++)
            assert_int_equal(p[b], i & 0xff);
    }
    uint64_t blocks = counters(&f).blocks;
    crash(&f);
    assert_int_equal(counters(&f).blocks, blocks);
    fixture_close(&f);
    free(data);
}

/* Ahead of need: in bounded steps, and not again before something has changed. */
static void an_idle_node_closes_gaps(void **state) {
    struct fixture f;
    char key[16] = {0};
    struct yk_counters n;
    static char data[100000];
    fixture_open(&f, 32 * MIB, 0, "lru");
    for (int i = 0; i < 250; i++) {
        memset(data, i, sizeof(data));
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(&f, key, data, sizeof(data) - (uint32_t)(i % 5) * 10000u), 0);
    }
    assert_int_equal(yk_store_compact_idle(f.s, 10, MIB), 0); /* no gaps */
    for (int i = 0; i < 250; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        if (i % 4 != 0)
            change(&f, YK_CHANGE_REMOVE, 0, key);
    }
    yk_store_tick(f.s);
    yk_store_counters(f.s, &n);
    uint64_t loose = n.idle_bytes + n.free_bytes - n.largest_free_bytes;
    assert_true(loose > n.capacity_bytes / 10u);
    assert_int_equal(yk_store_compact_idle(f.s, 0, MIB), 0); /* turned off */
    assert_int_equal(yk_store_compact_idle(f.s, 100, MIB), 0);
    uint32_t moved, rounds = 0;
    do {
        uint64_t before = n.moved_bytes;
        moved = yk_store_compact_idle(f.s, 10, MIB);
        yk_store_counters(f.s, &n);
        assert_true(n.moved_bytes - before <= MIB + sizeof(data));
        rounds++;
    } while (moved > 0 && rounds < 1000);
    assert_true(rounds > 2 && rounds < 1000);
    assert_int_equal(n.background_moves, n.moves);
    yk_store_tick(f.s);
    yk_store_counters(f.s, &n);
    assert_true(n.idle_bytes + n.free_bytes - n.largest_free_bytes < loose / 2);
    for (int i = 0; i < 250; i += 4) {
        memset(data, i, sizeof(data));
        snprintf(key, sizeof(key), "k%d", i);
        assert_true(same(&f, key, data, sizeof(data) - (uint32_t)(i % 5) * 10000u));
    }
    fixture_close(&f);
}

static void patterns_select_keys(void **state) {
    assert_true(yk_glob_match("*", 1, "", 0));
    assert_true(yk_glob_match("a*c", 3, "abbc", 4));
    assert_false(yk_glob_match("a*c", 3, "abbd", 4));
    assert_true(yk_glob_match("a?c", 3, "abc", 3));
    assert_true(yk_glob_match("[a-c]x", 6, "bx", 2));
    assert_false(yk_glob_match("[!a-c]x", 7, "bx", 2));
    assert_true(yk_glob_match("[]]", 3, "]", 1));
    assert_true(yk_glob_match("\\*", 2, "*", 1));
    assert_false(yk_glob_match("\\*", 2, "a", 1));
    assert_false(yk_glob_match("[a", 2, "a", 1));
    assert_true(yk_glob_match("*a*b*", 5, "xxaxxbxx", 8));
    assert_false(yk_glob_match("", 0, "a", 1));
}

static void batch_removal_takes_what_matches(void **state) {
    struct fixture f;
    char key[16] = {0};
    fixture_open(&f, 8 * MIB, 0, "lru");
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "%c%d", i % 3 == 0 ? 'a' : 'b', i);
        assert_int_equal(put(&f, key, key, 4), 0);
    }
    uint32_t cursor = 0;
    uint64_t n = 0;
    while (cursor < yk_store_desc_top(f.s))
        n += yk_store_remove_step(f.s, f.ns, YK_REMOVE_PREFIX, "a", 1, &cursor, 7);
    assert_int_equal(n, 100);
    assert_int_equal(counters(&f).blocks, 200);
    cursor = 0;
    n = yk_store_remove_step(f.s, f.ns, YK_REMOVE_GLOB, "b1*", 3, &cursor, 100000);
    assert_true(n > 0 && !here(&f, "b1") && here(&f, "b2"));
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_found_with_its_bytes),
        cmocka_unit_test(same_bytes_again_succeed_other_bytes_conflict),
        cmocka_unit_test(a_reservation_ends_by_abort_or_its_clients_release),
        cmocka_unit_test(a_commit_sent_twice_is_answered_alike),
        cmocka_unit_test(too_large_and_empty_are_refused_with_both_sizes),
        cmocka_unit_test(capacity_in_blocks_is_exact_lru),
        cmocka_unit_test(a_full_tier_evicts_for_the_next_put),
        cmocka_unit_test(pinned_blocks_stay_and_too_many_are_refused),
        cmocka_unit_test(what_a_hazard_names_is_not_reused),
        cmocka_unit_test(a_chain_longer_than_memory_keeps_its_head),
        cmocka_unit_test(chain_policies_keep_parents_of_live_children),
        cmocka_unit_test(raising_the_epoch_hides_older_blocks_at_once),
        cmocka_unit_test(a_put_that_began_before_a_raise_is_refused),
        cmocka_unit_test(the_sweep_reclaims_outdated_blocks),
        cmocka_unit_test(quotas_evict_from_their_own_namespace),
        cmocka_unit_test(a_lowered_limit_is_reached_in_steps),
        cmocka_unit_test(room_in_a_quota_is_made_in_turns),
        cmocka_unit_test(verifying_a_large_block_goes_in_steps),
        cmocka_unit_test(a_removed_namespace_hides_its_blocks_and_its_name_is_free),
        cmocka_unit_test(expired_blocks_are_misses),
        cmocka_unit_test(compaction_keeps_every_byte),
        cmocka_unit_test(an_idle_node_closes_gaps),
        cmocka_unit_test(patterns_select_keys),
        cmocka_unit_test(batch_removal_takes_what_matches),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
