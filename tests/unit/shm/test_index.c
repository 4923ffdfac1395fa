/* SPDX-License-Identifier: Apache-2.0
 *
 * The owner's index without readers: against a shadow table, and with hashes chosen to hurt.
 *
 * An entry that was accepted must be found exactly once until it is removed, whatever else is
 * refused: the index may say ELIMIT, it may not lose. Hashes are written straight into the
 * descriptors, so that a test chooses its buckets. tests/unit/shm/test_index_race.c has readers.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <yolk/status.h>

#define CHAIN_ENTRIES (64u * YK_SHM_BUCKET_ENTRIES) /* what a lookup walks at most */

static struct rig rig;

static void hash_set(uint32_t idx, uint64_t hash) {
    rig.owner.desc[idx].hash = hash;
}

static int insert(uint32_t idx, uint64_t hash) {
    hash_set(idx, hash);
    return yk_index_insert(&rig.index, hash, idx);
}

/* How often idx is found under its hash. */
static unsigned times_found(uint32_t idx) {
    struct yk_index_cursor cursor = {0};
    unsigned n = 0;
    uint32_t at;
    while (yk_index_next(&rig.index, rig.owner.desc[idx].hash, &cursor, &at))
        n += at == idx;
    return n;
}

static void check(const unsigned char *present, uint32_t n) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (times_found(i) != (present[i] != 0))
            fail_msg("descriptor %u: present %u, found %u times", i, present[i], times_found(i));
        count += present[i] != 0;
    }
    assert_int_equal(rig.index.count, count);
}

static void random_step(unsigned char *present, uint32_t max_blocks, uint64_t *seed,
                        uint64_t mask) {
    uint32_t idx = (uint32_t)(rig_random(seed) % max_blocks);
    uint32_t other = (uint32_t)(rig_random(seed) % max_blocks);
    if (!present[idx]) {
        int rc = insert(idx, rig_random(seed) & mask);
        if (rc != 0)
            assert_int_equal(rc, -YK_ELIMIT);
        present[idx] = rc == 0;
    } else if (present[other] || rig_random(seed) % 4 != 0) {
        assert_int_equal(yk_index_remove(&rig.index, rig.owner.desc[idx].hash, idx), 0);
        assert_int_equal(yk_index_remove(&rig.index, rig.owner.desc[idx].hash, idx), -YK_ENOENT);
        present[idx] = 0;
    } else {
        uint64_t hash = rig.owner.desc[idx].hash;
        hash_set(other, hash);
        assert_int_equal(yk_index_replace(&rig.index, hash, idx, other), 0);
        assert_int_equal(yk_index_replace(&rig.index, hash, idx, other), -YK_ENOENT);
        present[idx] = 0;
        present[other] = 1;
        assert_int_equal(times_found(idx), 0);
    }
    assert_int_equal(times_found(idx), present[idx] != 0);
}

static void churn(uint32_t max_blocks, uint32_t steps, uint64_t mask) {
    uint64_t seed = max_blocks + mask;
    rig_open(&rig, 1 << 20, max_blocks, 1);
    unsigned char *present = calloc(max_blocks, 1);
    for (uint32_t i = 0; i < steps; i++)
        random_step(present, max_blocks, &seed, mask);
    check(present, max_blocks);
    free(present);
    rig_close(&rig);
}

static void random_operations_agree_with_a_shadow(void **state) {
    (void)state;
    churn(1, 100, UINT64_MAX);
    churn(37, 5000, UINT64_MAX);
    churn(5000, 60000, UINT64_MAX);
}

static void few_buckets_and_equal_tags_too(void **state) {
    (void)state;
    churn(300, 20000, 0x3);                  /* four buckets, one tag: descriptors tell apart */
    churn(2000, 20000, 0xffffffff00000007u); /* eight buckets for ever: overflow runs out */
    churn(2000, 20000, 0xf0000003ffull);     /* sixteen tags */
}

static void a_full_table_holds_every_block(void **state) {
    (void)state;
    const uint32_t n = 200000;
    uint64_t seed = 1;
    rig_open(&rig, 1 << 20, n, 1);
    unsigned char *present = calloc(n, 1);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(insert(i, rig_random(&seed)), 0);
        present[i] = 1;
    }
    check(present, n);
    for (uint32_t i = 0; i < n; i += 3) {
        assert_int_equal(yk_index_remove(&rig.index, rig.owner.desc[i].hash, i), 0);
        present[i] = 0;
    }
    check(present, n);
    for (uint32_t i = 0; i < n; i += 3) {
        assert_int_equal(insert(i, rig_random(&seed)), 0);
        present[i] = 1;
    }
    check(present, n);
    free(present);
    rig_close(&rig);
}

/* Fills the bucket of `hash` until it is refused; returns how many were accepted from idx on. */
static uint32_t fill_bucket(uint32_t idx, uint64_t low, unsigned char *present) {
    uint32_t n = 0;
    int rc;
    while ((rc = insert(idx + n, (uint64_t)(n + 1) << 32 | low)) == 0)
        present[idx + n++] = 1;
    assert_int_equal(rc, -YK_ELIMIT);
    return n;
}

/* Blocks come and go for ever in a full table: overflow buckets must not be used up by chains that
 * were long once. */
static void a_full_table_takes_what_another_leaves(void **state) {
    (void)state;
    const uint32_t sizes[] = {37, 1000, 4096 * 5, 6200 * 5};
    for (unsigned k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        uint32_t n = sizes[k];
        uint64_t seed = n;
        rig_open(&rig, 1 << 20, n, 1);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(insert(i, rig_random(&seed)), 0);
        for (uint32_t i = 0; i < 30 * n; i++) {
            uint32_t idx = (uint32_t)(rig_random(&seed) % n);
            assert_int_equal(yk_index_remove(&rig.index, rig.owner.desc[idx].hash, idx), 0);
            assert_int_equal(insert(idx, rig_random(&seed)), 0);
        }
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(times_found(i), 1);
        rig_close(&rig);
    }
}

static void one_bucket_ends_at_the_chain_limit(void **state) {
    (void)state;
    rig_open(&rig, 1 << 20, 20000, 1);
    unsigned char *present = calloc(20000, 1);
    uint32_t n = fill_bucket(0, 0x7fffffff, present);
    check(present, 20000);
    assert_int_equal(n, CHAIN_ENTRIES);
    /* Another bucket still takes entries, and a freed place is used again. */
    assert_int_equal(insert(n, 3), 0);
    present[n] = 1;
    assert_int_equal(yk_index_remove(&rig.index, rig.owner.desc[200].hash, 200), 0);
    assert_int_equal(insert(200, 99ull << 32 | 0x7fffffff), 0);
    assert_int_equal(insert(n + 1, 98ull << 32 | 0x7fffffff), -YK_ELIMIT);
    check(present, 20000);
    free(present);
    rig_close(&rig);
}

static void no_overflow_left_loses_nothing(void **state) {
    (void)state;
    rig_open(&rig, 1 << 20, 5000, 1);
    unsigned char *present = calloc(5000, 1);
    uint32_t n = 0;
    /* Buckets 0..15 of the first table, which no split ever tells apart. */
    for (uint64_t low = 0; low < 16; low++)
        n += fill_bucket(n, low, present);
    assert_true(n < 16 * CHAIN_ENTRIES); /* overflow buckets ended before the chains */
    check(present, 5000);
    /* Splits go on being tried without a bucket to spare. */
    uint64_t seed = 5;
    for (uint32_t i = n; i < 5000; i++)
        present[i] = insert(i, rig_random(&seed)) == 0;
    check(present, 5000);
    for (uint32_t i = 0; i < 5000; i++) {
        if (present[i])
            assert_int_equal(yk_index_remove(&rig.index, rig.owner.desc[i].hash, i), 0);
        present[i] = 0;
    }
    check(present, 5000);
    for (uint32_t i = 0; i < 1000; i++)
        present[i] = insert(i, rig_random(&seed)) == 0;
    check(present, 5000);
    free(present);
    rig_close(&rig);
}

/* A bucket with a chain is split: what stays and what goes are both found, and the overflow buckets
 * that became empty serve again. */
static void splits_divide_chains_and_give_buckets_back(void **state) {
    (void)state;
    rig_open(&rig, 1 << 20, 4000, 1);
    unsigned char *present = calloc(4000, 1);
    uint32_t n = 0;
    for (; n < 300; n++) { /* runs of 28, four buckets of the chain, that move together */
        assert_int_equal(insert(n, (uint64_t)n << 32 | (n / 28u & 7u) << 4 | 5u), 0);
        present[n] = 1;
    }
    uint32_t used = rig.index.overflow_top;
    for (; n < 600; n++) {
        assert_int_equal(insert(n, (uint64_t)n << 32 | 0x80u | (n & 63u)), 0);
        present[n] = 1;
    }
    check(present, 4000);
    assert_true(rig.index.level > 6 || rig.index.split > 0);
    uint32_t free_links = 0;
    for (uint32_t link = rig.index.overflow_free; link != 0 && free_links < 4000; free_links++)
        link = rig.index.buckets[rig.index.max_buckets + link - 1].next;
    assert_true(free_links > 0 && free_links < 4000);
    assert_true(rig.index.overflow_top < used + 600 / YK_SHM_BUCKET_ENTRIES);
    free(present);
    rig_close(&rig);
}

static void a_new_area_starts_empty(void **state) {
    (void)state;
    struct yk_index other;
    rig_open(&rig, 1 << 20, 100, 1);
    assert_int_equal(insert(3, 0x1234), 0);
    yk_index_init(&other, rig.meta, &rig.layout, 1);
    struct yk_index_cursor cursor = {0};
    uint32_t idx;
    assert_int_equal(yk_index_next(&other, 0x1234, &cursor, &idx), 0);
    yk_index_prefetch(&other, 0x1234);
    assert_int_equal(times_found(3), 1);
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_shadow),
        cmocka_unit_test(few_buckets_and_equal_tags_too),
        cmocka_unit_test(a_full_table_holds_every_block),
        cmocka_unit_test(a_full_table_takes_what_another_leaves),
        cmocka_unit_test(one_bucket_ends_at_the_chain_limit),
        cmocka_unit_test(no_overflow_left_loses_nothing),
        cmocka_unit_test(splits_divide_chains_and_give_buckets_back),
        cmocka_unit_test(a_new_area_starts_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
