/* SPDX-License-Identifier: Apache-2.0
 *
 * What a restart makes of a block table: everything that was committed is there again, what is damaged is
 * dropped, and nothing is used twice.
 */
#include "store_rig.h"

#include "base/hash.h"

static void everything_committed_survives_a_crash(void **state) {
    struct fixture f;
    char key[16], data[64] = {0};
    fixture_open(&f, 8 * MIB, 0, "lru");
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        memset(data, 0, sizeof(data));
        snprintf(data, sizeof(data), "payload of %d", i);
        assert_int_equal(put_as(&f, 0, key, i > 0 ? "k0" : NULL, data, sizeof(data), 0), 0);
    }
    for (int i = 1; i < 2000; i += 3) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, key), 0);
    }
    uint64_t before = counters(&f).blocks;
    crash(&f);
    assert_int_equal(counters(&f).blocks, before);
    assert_int_equal(counters(&f).recovered, before);
    assert_int_equal(counters(&f).suspect_blocks, before);
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        memset(data, 0, sizeof(data));
        snprintf(data, sizeof(data), "payload of %d", i);
        assert_int_equal(same(&f, key, data, sizeof(data)), i % 3 != 1);
    }
    uint32_t idx;
    yk_block_info info;
    assert_int_equal(find(&f, "k0", &idx), 0);
    yk_store_info(f.s, idx, &info);
    assert_int_equal(info.children, before - 1);
    assert_int_equal(counters(&f).suspect_blocks, 0);
    fixture_close(&f);
}

/* Keys that begin alike: what tells them apart is in the descriptor, in the cell, or only the length. */
static void put_all_lengths(struct fixture *f, char what) {
    char key[256];
    for (unsigned len = 1; len < sizeof(key); len++) {
        memset(key, what, len);
        key[len] = 0;
        assert_int_equal(put(f, key, key, len), 0);
    }
}

static void all_lengths_are_there(struct fixture *f, char what) {
    char key[256];
    for (unsigned len = 1; len < sizeof(key); len++) {
        struct yk_key_room room;
        uint32_t idx, key_len;
        memset(key, what, len);
        key[len] = 0;
        assert_true(same(f, key, key, len));
        assert_int_equal(find(f, key, &idx), 0);
        const void *k = yk_store_key(f->s, idx, &room, &key_len);
        assert_int_equal(key_len, len);
        assert_memory_equal(k, key, len);
    }
}

static void keys_of_all_lengths_survive_a_crash(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 0, "lru");
    put_all_lengths(&f, 'a');
    all_lengths_are_there(&f, 'a');
    crash(&f);
    assert_int_equal(counters(&f).recovered, 255);
    put_all_lengths(&f, 'b'); /* into no cell that is in use */
    all_lengths_are_there(&f, 'a');
    all_lengths_are_there(&f, 'b');
    fixture_close(&f);
}

static void a_clean_stop_leaves_nothing_to_verify(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "x", 1), 0);
    yk_store_close(f.s, 1);
    store_open(&f);
    assert_int_equal(yk_store_segment(f.s)->found, YK_SEGMENT_CLEAN);
    assert_int_equal(counters(&f).suspect_blocks, 0);
    assert_true(same(&f, "a", "x", 1));
    fixture_close(&f);
}

/* The index of so many outgrows the even spread that it is made for: some buckets have far more than
 * their share, and what finds no overflow bucket would be dropped. */
static void a_large_table_is_kept_whole(void **state) {
    enum { MANY = 300000 };
    struct fixture f;
    char key[16];
    fixture_init(&f, 64 * MIB, 0, "lru");
    f.o.segment.max_blocks = MANY + 1000;
    store_open(&f);
    put_tiny(&f, MANY);
    assert_int_equal(counters(&f).blocks, MANY);
    for (int clean = 1; clean >= 0; clean--) {
        yk_store_close(f.s, clean);
        store_open(&f);
        assert_int_equal(counters(&f).recovered, MANY);
        assert_int_equal(counters(&f).recovery_dropped, 0);
        for (int i = 0; i < MANY; i += 7) {
            snprintf(key, sizeof(key), "t%d", i);
            assert_true(here(&f, key));
        }
    }
    fixture_close(&f);
}

static void a_rotten_payload_is_a_counted_miss(void **state) {
    struct fixture f;
    uint32_t idx;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "good", 4), 0);
    assert_int_equal(put(&f, "b", "good", 4), 0);
    assert_int_equal(find(&f, "a", &idx), 0);
    ((char *)(uintptr_t)yk_store_payload(f.s, idx))[2] ^= 1;
    crash(&f);
    assert_false(same(&f, "a", "good", 4));
    assert_true(same(&f, "b", "good", 4));
    assert_false(here(&f, "a"));
    assert_int_equal(counters(&f).verify_failed, 1);
    fixture_close(&f);
}

static void a_damaged_descriptor_is_dropped(void **state) {
    struct fixture f;
    uint32_t a, b;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(put(&f, "a", "x", 1), 0);
    assert_int_equal(put(&f, "b", "x", 1), 0);
    assert_int_equal(put(&f, "c", "x", 1), 0);
    assert_int_equal(find(&f, "a", &a), 0);
    assert_int_equal(find(&f, "b", &b), 0);
    struct yk_rest *rest = (struct yk_rest *)(uintptr_t)yk_store_view(f.s)->rest;
    rest[a].offset += 64;
    rest[b].sum ^= 1;
    crash(&f);
    assert_false(here(&f, "a"));
    assert_false(here(&f, "b"));
    assert_true(here(&f, "c"));
    assert_int_equal(counters(&f).recovery_dropped, 2);
    for (int i = 0; i < 1000; i++) {
        char key[16] = {0};
        snprintf(key, sizeof(key), "n%d", i);
        assert_int_equal(put(&f, key, key, 5), 0);
    }
    fixture_close(&f);
}

static void reservations_of_living_clients_survive(void **state) {
    struct fixture f;
    struct yk_place p;
    uint32_t slot, slot2;
    uint64_t cookie, cookie2;
    fixture_open(&f, 8 * MIB, 0, "lru");
    assert_int_equal(yk_store_client_attach(f.s, (uint32_t)getpid(), 0, 0, &slot, &cookie), 0);
    assert_int_equal(yk_store_reserve(f.s, slot, 4, &p, NULL), 0);
    crash(&f);
    assert_int_equal(counters(&f).reserved_blocks, 1);
    assert_int_equal(
        yk_store_client_attach(f.s, (uint32_t)getpid(), slot, cookie, &slot2, &cookie2), 0);
    assert_int_equal(slot2, slot);
    memcpy((char *)yk_store_segment(f.s)->data + p.offset, "data", 4);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = f.epoch,
                          .sum = yk_hash64("data", 4),
                          .len = 4,
                          .key = "k",
                          .key_len = 1};
    assert_int_equal(yk_store_commit(f.s, slot, f.ns, &c), 0);
    crash(&f);
    assert_true(same(&f, "k", "data", 4));
    fixture_close(&f);
}

static void generations_never_repeat_over_restarts(void **state) {
    struct fixture f;
    struct yk_place p;
    uint64_t last = 0;
    fixture_open(&f, 8 * MIB, 0, "lru");
    for (int i = 0; i < 5; i++) {
        assert_int_equal(yk_store_reserve(f.s, 0, 4, &p, NULL), 0);
        assert_true(p.gen > last);
        last = p.gen;
        crash(&f);
    }
    fixture_close(&f);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_committed_survives_a_crash),
        cmocka_unit_test(keys_of_all_lengths_survive_a_crash),
        cmocka_unit_test(a_clean_stop_leaves_nothing_to_verify),
        cmocka_unit_test(a_large_table_is_kept_whole),
        cmocka_unit_test(a_rotten_payload_is_a_counted_miss),
        cmocka_unit_test(a_damaged_descriptor_is_dropped),
        cmocka_unit_test(reservations_of_living_clients_survive),
        cmocka_unit_test(generations_never_repeat_over_restarts),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
