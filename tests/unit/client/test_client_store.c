/* SPDX-License-Identifier: Apache-2.0
 *
 * Putting, getting and looking up through libyolk against a real node, on handles with and without
 * the mapping.
 */
#include "fixture.h"

#include "base/hash.h"

#include <errno.h>
#include <stdio.h>

static const uint32_t both[2] = {0, YK_OPEN_NO_MAP};
#define EACH_HANDLE(f, c)                                                                          \
    for (int i_ = 0; i_ < 2; i_++)                                                                 \
        for (yk_client *c = open_with((f), both[i_], 20000); c != NULL; yk_close(c), c = NULL)

static void blocks_of_all_sizes_come_back(void **state) {
    static const size_t sizes[] = {1, 2, 63, 4095, 4096, 65536, 100000, 3u * MIB + 5};
    EACH_HANDLE(*state, c) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            char key[32];
            snprintf(key, sizeof(key), "%d/%zu", i_, sizes[i]);
            assert_int_equal(get_is(c, key, sizes[i], i), YK_MISS);
            put_ok(c, key, sizes[i], i);
            assert_status(get_is(c, key, sizes[i], i), 0);
        }
        assert_int_equal(STAT(c, puts), 8);
        assert_int_equal(STAT(c, hits), 8);
        assert_int_equal(STAT(c, misses), 8);
    }
}

static void what_one_handle_puts_the_other_gets(void **state) {
    yk_client *a = open_client(*state), *b = open_with(*state, YK_OPEN_NO_MAP, 20000);
    put_ok(a, "from a", 70000, 1);
    put_ok(b, "from b", 70001, 2);
    assert_status(get_is(b, "from a", 70000, 1), 0);
    assert_status(get_is(a, "from b", 70001, 2), 0);
    yk_close(a);
    assert_status(get_is(b, "from a", 70000, 1), 0);
    yk_close(b);
}

static void scatter_lists_and_ranges(void **state) {
    EACH_HANDLE(*state, c) {
        char data[1000], a[1] = {0}, b[600] = {0}, d[399] = {0};
        char key[8] = {'s', (char)('0' + i_), 0};
        fill(data, sizeof(data), 7);
        struct iovec put[3] = {{data, 100}, {data + 100, 0}, {data + 100, 900}};
        struct iovec get[4] = {{a, 1}, {NULL, 0}, {b, 600}, {d, 399}};
        size_t n = 0;
        assert_status(yk_putv(c, yk_key_str(key), put, 3, NULL), 0);
        assert_status(yk_getv(c, yk_key_str(key), get, 4, &n), 0);
        assert_int_equal(n, 1000);
        assert_memory_equal(a, data, 1);
        assert_memory_equal(b, data + 1, 600);
        assert_memory_equal(d, data + 601, 399);
        memset(b, 0, sizeof(b));
        assert_status(yk_get_range(c, yk_key_str(key), 500, b, 500), 0);
        assert_memory_equal(b, data + 500, 500);
        assert_status(yk_get_range(c, yk_key_str(key), 1000, b, 0), 0);
        assert_status(yk_get_range(c, yk_key_str(key), 500, b, 501), -YK_EINVAL);
        assert_status(yk_get_range(c, yk_key_str(key), UINT64_MAX, b, 2), -YK_EINVAL);
        assert_status(yk_get_range(c, yk_key_str("none"), 0, b, 2), YK_MISS);
    }
}

static void a_range_moves_no_more_than_itself(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_with(f, YK_OPEN_NO_MAP, 20000);
    struct yk_node_stats before, after;
    char part[1000], want[1000];
    char *data = malloc(4 * MIB);
    put_ok(c, "k", 4 * MIB, 9);
    fill(data, 4 * MIB, 9);
    memcpy(want, data + 3 * MIB, sizeof(want));
    free(data);
    yk_node_stats(f->node, &before);
    assert_status(yk_get_range(c, yk_key_str("k"), 3 * MIB, part, sizeof(part)), 0);
    yk_node_stats(f->node, &after);
    assert_memory_equal(part, want, sizeof(part));
    assert_int_equal(after.store.node_get_bytes - before.store.node_get_bytes, sizeof(part));
    yk_close(c);
}

static void a_buffer_that_is_too_small_learns_the_length(void **state) {
    EACH_HANDLE(*state, c) {
        char buf[16];
        size_t n = 0;
        char key[8] = {'b', (char)('0' + i_), 0};
        put_ok(c, key, 5000, 1);
        assert_status(yk_get(c, yk_key_str(key), buf, sizeof(buf), &n), -YK_ETOOBIG);
        assert_int_equal(n, 5000);
        n = 0;
        assert_status(yk_get(c, yk_key_str(key), NULL, 0, &n), -YK_ETOOBIG);
        assert_int_equal(n, 5000);
        assert_non_null(strstr(yk_error_text(c), "5000"));
    }
}

static void references(void **state) {
    EACH_HANDLE(*state, c) {
        yk_ref r, none;
        char data[9000];
        char key[8] = {'r', (char)('0' + i_), 0};
        put_ok(c, key, 9000, 5);
        fill(data, sizeof(data), 5);
        assert_status(yk_ref_get(c, yk_key_str("none"), &none), YK_MISS);
        assert_status(yk_ref_get(c, yk_key_str(key), &r), 0);
        assert_int_equal(r.len, 9000);
        assert_true(r.checksum == yk_hash64(data, sizeof(data)));
        /* A remove hides the block; who holds it goes on reading it. */
        assert_status(yk_remove(c, yk_key_str(key)), 0);
        assert_int_equal(yk_exists(c, yk_key_str(key)), 0);
        assert_true(is_filled(r.data, r.len, 5));
        assert_int_equal(STAT(c, refs_held), i_ == 0);
        assert_int_equal(STAT(c, ref_bytes_held), i_ == 0 ? 9000 : 0);
        yk_ref_release(c, &r);
        yk_ref_release(c, &r);
        assert_int_equal(STAT(c, refs_held), 0);
    }
}

static void references_are_limited(void **state) {
    yk_client *c = open_client(*state);
    static yk_ref refs[1025];
    put_ok(c, "k", 100, 1);
    for (int i = 0; i < 1024; i++)
        assert_status(yk_ref_get(c, yk_key_str("k"), &refs[i]), 0);
    assert_status(yk_ref_get(c, yk_key_str("k"), &refs[1024]), -YK_ELIMIT);
    assert_status(get_is(c, "k", 100, 1), 0); /* the node serves it */
    assert_int_equal(yk_exists(c, yk_key_str("k")), 1);
    yk_ref_release(c, &refs[500]);
    assert_status(yk_ref_get(c, yk_key_str("k"), &refs[500]), 0);
    for (int i = 0; i < 1024; i++)
        yk_ref_release(c, &refs[i]);
    assert_int_equal(STAT(c, refs_held), 0);
    yk_close(c);
}

static void exists_stat_match(void **state) {
    yk_put_opts o = {.size = sizeof(o),
                     .depth_tokens = 16,
                     .length_tokens = 8,
                     .model = 3,
                     .kind = 9,
                     .session = 77};
    EACH_HANDLE(*state, c) {
        char names[600][16];
        yk_key keys[600];
        static yk_block_info infos[600];
        yk_block_info info;
        for (int i = 0; i < 600; i++) {
            snprintf(names[i], sizeof(names[i]), "m%d/%d", i_, i);
            keys[i] = yk_key_str(names[i]);
        }
        for (int i = 0; i < 600; i++)
            if (i != 570)
                put_ok(c, names[i], 100 + (size_t)i, (uint64_t)i);
        o.parent = keys[0];
        assert_status(yk_put(c, yk_key_str(i_ == 0 ? "c0" : "c1"), "x", 1, &o), 0);
        assert_int_equal(yk_exists(c, keys[3]), 1);
        assert_int_equal(yk_exists(c, keys[570]), 0);
        assert_status(yk_stat(c, keys[570], &info), YK_MISS);
        assert_status(yk_stat(c, keys[0], &info), 0);
        assert_int_equal(info.children, 1);
        assert_status(yk_stat(c, yk_key_str(i_ == 0 ? "c0" : "c1"), &info), 0);
        assert_int_equal(info.len, 1);
        assert_true(info.checksum == yk_hash64("x", 1));
        assert_int_equal(info.tiers, 1u << YK_TIER_DRAM);
        assert_int_equal(info.depth_tokens, 16);
        assert_int_equal(info.length_tokens, 8);
        assert_int_equal(info.model, 3);
        assert_int_equal(info.kind, 9);
        assert_int_equal(info.session, 77);
        assert_int_equal(info.has_parent, 1);
        assert_int_equal(yk_match(c, keys, 600, NULL), 570);
        assert_int_equal(yk_match(c, keys, 0, NULL), 0);
        assert_int_equal(yk_match(c, keys, 256, NULL), 256);
        memset(infos, 0, sizeof(infos));
        assert_int_equal(yk_match(c, keys, 600, infos), 570);
        for (int i = 0; i < 570; i++)
            assert_int_equal(infos[i].len, 100 + i);
        assert_int_equal(infos[570].len, 0);
        assert_int_equal(yk_match(c, keys + 570, 30, NULL), 0);
    }
}

static void the_same_bytes_again_move_nothing(void **state) {
    yk_client *c = open_client(*state);
    put_ok(c, "k", MIB, 1);
    uint64_t before = STAT(c, round_trips);
    for (int i = 0; i < 5; i++)
        put_ok(c, "k", MIB, 1);
    assert_int_equal(STAT(c, round_trips), before);
    assert_int_equal(STAT(c, puts), 6);
    yk_close(c);
}

static void other_bytes_are_a_conflict_unless_upsert(void **state) {
    yk_put_opts up = {.size = sizeof(up), .flags = YK_PUT_UPSERT};
    EACH_HANDLE(*state, c) {
        char key[8] = {'c', (char)('0' + i_), 0};
        put_ok(c, key, 8, 1);
        assert_status(yk_put(c, yk_key_str(key), "12345678", 8, NULL), -YK_ECONFLICT);
        assert_status(yk_put(c, yk_key_str(key), "1", 1, NULL), -YK_ECONFLICT);
        assert_status(get_is(c, key, 8, 1), 0);
        assert_int_equal(STAT(c, conflicts), 2);
        assert_status(yk_put(c, yk_key_str(key), "new", 3, &up), 0);
        char buf[8];
        size_t n;
        assert_status(yk_get(c, yk_key_str(key), buf, sizeof(buf), &n), 0);
        assert_int_equal(n, 3);
        assert_memory_equal(buf, "new", 3);
        assert_status(yk_put(c, yk_key_str(key), "new", 3, &up), 0);
    }
}

static void a_put_costs_one_round_trip(void **state) {
    yk_client *c = open_client(*state);
    char key[16];
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof(key), "w%d", i);
        put_ok(c, key, 20000, (uint64_t)i);
    }
    uint64_t before = STAT(c, round_trips);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        put_ok(c, key, 20000, (uint64_t)i);
    }
    assert_int_equal(STAT(c, round_trips), before + 100);
    yk_close(c);
}

static void put_in_place(void **state) {
    yk_client *c = open_client(*state);
    yk_reservation r, s;
    assert_status(yk_reserve(c, 12345, 0, &r), 0);
    assert_int_equal(r.len, 12345);
    fill(r.data, r.len, 9);
    assert_int_equal(yk_exists(c, yk_key_str("p")), 0);
    assert_status(yk_commit(c, &r, yk_key_str("p"), NULL), 0);
    assert_status(yk_commit(c, &r, yk_key_str("p"), NULL), -YK_EINVAL);
    assert_status(get_is(c, "p", 12345, 9), 0);
    assert_status(yk_reserve(c, 12345, 0, &r), 0);
    assert_status(yk_reserve(c, 12345, 0, &s), 0);
    assert_ptr_not_equal(r.data, s.data);
    fill(s.data, s.len, 9);
    assert_status(yk_commit(c, &s, yk_key_str("p"), NULL), 0); /* the same bytes */
    fill(r.data, r.len, 8);
    assert_status(yk_commit(c, &r, yk_key_str("p"), NULL), -YK_ECONFLICT);
    assert_status(yk_abort(c, &r), -YK_EINVAL);
    assert_status(yk_reserve(c, 100, 0, &r), 0);
    assert_status(yk_abort(c, &r), 0);
    assert_status(yk_reserve(c, 100, 0, &r), 0);
    assert_status(yk_commit(c, &r, (yk_key){NULL, 0}, NULL), -YK_EKEY);
    assert_status(yk_commit(c, &r, yk_key_str("q"), NULL), -YK_EINVAL);
    yk_close(c);
    c = open_with(*state, YK_OPEN_NO_MAP, 20000);
    assert_status(yk_reserve(c, 100, 0, &r), -YK_ENOTSUP);
    assert_status(get_is(c, "p", 12345, 9), 0);
    yk_close(c);
}

/* One round trip for each, as for puts that copy. */
static void many_puts_in_place(void **state) {
    yk_client *c = open_client(*state);
    uint64_t before = 0;
    for (int i = 0; i < 100; i++) {
        yk_reservation r;
        char key[8];
        snprintf(key, sizeof(key), "p%d", i);
        if (i == 4)
            before = STAT(c, round_trips);
        assert_status(yk_reserve(c, 4000, 0, &r), 0);
        fill(r.data, r.len, (uint64_t)i);
        assert_status(yk_commit(c, &r, yk_key_str(key), NULL), 0);
    }
    assert_int_equal(STAT(c, round_trips), before + 96);
    for (int i = 0; i < 100; i++) {
        char key[8];
        snprintf(key, sizeof(key), "p%d", i);
        assert_status(get_is(c, key, 4000, (uint64_t)i), 0);
    }
    yk_close(c);
}

static void bad_arguments_are_refused(void **state) {
    char long_key[256];
    memset(long_key, 'k', sizeof(long_key));
    yk_put_opts o = {.size = sizeof(o)};
    size_t n;
    EACH_HANDLE(*state, c) {
        yk_key ok = yk_key_str("k"), empty = {"", 0}, big = {long_key, 256};
        assert_status(yk_put(c, empty, "x", 1, NULL), -YK_EKEY);
        assert_status(yk_put(c, big, "x", 1, NULL), -YK_EKEY);
        assert_status(yk_get(c, empty, long_key, 1, &n), -YK_EKEY);
        assert_status(yk_exists(c, big), -YK_EKEY);
        assert_status(yk_stat(c, empty, NULL), -YK_EKEY);
        assert_status(yk_match(c, &big, 1, NULL), -YK_EKEY);
        assert_status(yk_remove(c, empty), -YK_EKEY);
        assert_status(yk_put(c, ok, "x", 0, NULL), -YK_EINVAL);
        assert_status(yk_put(c, ok, NULL, 1, NULL), -YK_EINVAL);
        assert_status(yk_putv(c, ok, NULL, 1, NULL), -YK_EINVAL);
        assert_status(yk_put(c, ok, long_key, 100u * MIB, NULL), -YK_ETOOBIG);
        assert_non_null(strstr(yk_error_text(c), "104857600"));
        assert_non_null(strstr(yk_error_text(c), "67108864"));
        o.flags = 64;
        assert_status(yk_put(c, ok, "x", 1, &o), -YK_EINVAL);
        o.flags = YK_PUT_SOFT_PIN;
        assert_status(yk_put(c, ok, "x", 1, &o), -YK_EINVAL);
        o.flags = 0;
        o.kind = 256;
        assert_status(yk_put(c, ok, "x", 1, &o), -YK_EINVAL);
        o.kind = 0;
        o.tier = YK_TIER_SSD;
        assert_status(yk_put(c, ok, "x", 1, &o), -YK_ENOTSUP);
        o.tier = 0;
        o.size = 0;
        assert_status(yk_put(c, ok, "x", 1, &o), -YK_EINVAL);
        o.size = sizeof(o);
        assert_status(yk_put(c, (yk_key){long_key, 255}, "x", 1, &o), 0);
        assert_int_equal(yk_exists(c, (yk_key){long_key, 255}), 1);
        assert_status(yk_remove(c, (yk_key){long_key, 255}), 0);
    }
    assert_status(yk_put(NULL, yk_key_str("k"), "x", 1, NULL), -YK_EINVAL);
}

static void keys_may_hold_any_bytes(void **state) {
    EACH_HANDLE(*state, c) {
        yk_key a = {"a\0b", 3}, b = {"a\0c", 3}, d = {"a", 1}, e = {"a\0", 2};
        assert_status(yk_put(c, a, "1", 1, NULL), 0);
        assert_int_equal(yk_exists(c, b), 0);
        assert_int_equal(yk_exists(c, d), 0);
        assert_int_equal(yk_exists(c, e), 0);
        assert_status(yk_put(c, e, "2", 1, NULL), 0);
        assert_int_equal(yk_exists(c, d), 0);
        assert_status(yk_remove(c, a), 0);
        assert_status(yk_remove(c, e), 0);
    }
}

static void a_full_tier_evicts_and_never_mixes_blocks_up(void **state) {
    EACH_HANDLE(*state, c) {
        char key[16];
        int hits = 0;
        for (int i = 0; i < 300; i++) {
            snprintf(key, sizeof(key), "e%d/%d", i_, i);
            put_ok(c, key, 512u << 10, (uint64_t)i);
        }
        for (int i = 0; i < 300; i++) {
            snprintf(key, sizeof(key), "e%d/%d", i_, i);
            int rc = get_is(c, key, 512u << 10, (uint64_t)i);
            assert_true(rc == 0 || rc == YK_MISS);
            hits += rc == 0;
        }
        assert_true(hits >= 80 && hits <= 128);
    }
}

static void many_lengths_share_what_is_held_ahead(void **state) {
    yk_client *c = open_client(*state);
    char key[16];
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 200; i++) {
            snprintf(key, sizeof(key), "l%d/%d", round, i);
            put_ok(c, key, 1000 + (size_t)i * 500, (uint64_t)i);
            assert_status(get_is(c, key, 1000 + (size_t)i * 500, (uint64_t)i), 0);
        }
    yk_close(c);
}

/* Another client of the trust domain writes where it must not: into a block that is committed. */
static void a_damaged_block_is_a_miss_where_it_is_verified(void **state) {
    yk_client *c = open_with(*state, YK_OPEN_VERIFY, 20000);
    yk_client *bad = open_client(*state), *far = open_with(*state, YK_OPEN_NO_MAP, 20000);
    yk_reservation r;
    yk_ref ref;
    char buf[16];
    for (int i = 0; i < 3; i++) {
        char key[8] = {'d', (char)('0' + i), 0};
        assert_status(yk_reserve(bad, 100000, 0, &r), 0);
        fill(r.data, r.len, 6);
        unsigned char *payload = r.data;
        assert_status(yk_commit(bad, &r, yk_key_str(key), NULL), 0);
        assert_status(get_is(c, key, 100000, 6), 0);
        payload[70000] ^= 1;
        if (i == 0)
            assert_status(get_is(c, key, 100000, 6), YK_MISS);
        else if (i == 1)
            assert_status(yk_ref_get(c, yk_key_str(key), &ref), YK_MISS);
        else
            assert_status(yk_get_range(c, yk_key_str(key), 0, buf, sizeof(buf)), YK_MISS);
    }
    assert_int_equal(STAT(c, verify_failures), 3);
    /* It was told: a call that goes through the node finds it gone. */
    assert_status(yk_touch(c, yk_key_str("d0")), YK_MISS);
    assert_status(yk_touch(c, yk_key_str("d2")), YK_MISS);
    assert_int_equal(yk_exists(bad, yk_key_str("d1")), 0);
    /* Through the socket every whole get is verified, and yk_verify looks at the node. */
    assert_status(yk_reserve(bad, 5000, 0, &r), 0);
    fill(r.data, r.len, 7);
    unsigned char *payload = r.data;
    assert_status(yk_commit(bad, &r, yk_key_str("far"), NULL), 0);
    assert_status(get_is(far, "far", 5000, 7), 0);
    payload[1] ^= 0x80;
    char whole[5000];
    assert_status(yk_get_range(far, yk_key_str("far"), 0, whole, 5000), YK_MISS);
    assert_status(yk_get_range(far, yk_key_str("far"), 0, whole, 4999), 0); /* no checksum of it */
    assert_status(get_is(far, "far", 5000, 7), YK_MISS);
    yk_key keys[3] = {yk_key_str("far"), yk_key_str("none"), yk_key_str("d0")};
    assert_int_equal(yk_verify(far, keys, 3), 1);
    assert_int_equal(yk_verify(far, keys, 3), 0);
    assert_int_equal(yk_exists(c, keys[0]), 0);
    yk_close(bad);
    yk_close(c);
    yk_close(far);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_of_all_sizes_come_back, with_node, without_node),
        cmocka_unit_test_setup_teardown(what_one_handle_puts_the_other_gets, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(scatter_lists_and_ranges, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_range_moves_no_more_than_itself, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_buffer_that_is_too_small_learns_the_length, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(references, with_node, without_node),
        cmocka_unit_test_setup_teardown(references_are_limited, with_node, without_node),
        cmocka_unit_test_setup_teardown(exists_stat_match, with_node, without_node),
        cmocka_unit_test_setup_teardown(the_same_bytes_again_move_nothing, with_node, without_node),
        cmocka_unit_test_setup_teardown(other_bytes_are_a_conflict_unless_upsert, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_put_costs_one_round_trip, with_node, without_node),
        cmocka_unit_test_setup_teardown(put_in_place, with_node, without_node),
        cmocka_unit_test_setup_teardown(many_puts_in_place, with_node, without_node),
        cmocka_unit_test_setup_teardown(bad_arguments_are_refused, with_node, without_node),
        cmocka_unit_test_setup_teardown(keys_may_hold_any_bytes, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_full_tier_evicts_and_never_mixes_blocks_up, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(many_lengths_share_what_is_held_ahead, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_damaged_block_is_a_miss_where_it_is_verified, with_node,
                                        without_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
