/* SPDX-License-Identifier: Apache-2.0
 *
 * Block allocator: what get and put promise, against the model; sizes, limits, bad input, figures.
 */
#include "alloc_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t capacities[] = {4096,    4097,     8191,     12345,     65536,
                                      1000003, 16777216, 33554431, 134217728, 200000001};

static void random_gets_and_puts_never_overlap(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof(capacities) / sizeof(capacities[0]); c++) {
        for (int sizes = SIZES_FEW; sizes <= SIZES_ALL; sizes++) {
            struct model m;
            model_init(&m, capacities[c], false, c * 10 + (uint64_t)sizes);
            for (int op = 0; op < 3000; op++) {
                /* Drifts between nearly empty and full. */
                bool get = m.count == 0 || model_rand(&m, 100) < (op / 500 % 2 ? 35u : 75u);
                if (!get)
                    model_put(&m, model_rand(&m, m.count));
                else if (model_get(&m, model_len(&m, (enum model_sizes)sizes)) < 0 && m.count > 0)
                    model_put(&m, model_rand(&m, m.count));
                if (op % 97 == 0)
                    model_check(&m, 0);
            }
            model_empty(&m);
            model_fini(&m);
        }
    }
}

static void a_full_pool_says_so_and_serves_again(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 10000000, false, 3);
    for (int round = 0; round < 3; round++) {
        while (model_get(&m, 4000) == 0)
            ;
        assert_true(m.payload_bytes > 9700000);
        assert_int_equal(model_get(&m, 4000), -YK_ENOSPC);
        model_check(&m, 0);
        size_t n = m.count;
        model_put(&m, model_rand(&m, m.count));
        assert_int_equal(model_get(&m, 4000), 0);
        assert_int_equal(m.count, n);
        model_empty(&m);
    }
    model_fini(&m);
}

static void one_size_fills_99_percent(void **state) {
    (void)state;
    static const uint64_t lens[] = {3274752, 658432, 655360, 1310720, 36864,  73728, 8192,
                                    16384,   262144, 512000, 589824,  147456, 64512, 4608};
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct yk_alloc_opts opts = {.size = sizeof(opts), .capacity_bytes = 1ull << 30};
        struct yk_alloc *a;
        uint64_t n = 0, offset;
        assert_int_equal(yk_alloc_new(&opts, &a, NULL), 0);
        while (yk_alloc_get(a, lens[i], &offset) == 0)
            n++;
        assert_true((double)(n * lens[i]) > 0.99 * (double)opts.capacity_bytes);
        yk_alloc_free(a);
    }
}

static void capacity_for_holds_what_it_says(void **state) {
    (void)state;
    struct model m = {.rng = 77};
    for (int i = 0; i < 60; i++) {
        uint64_t len = 1 + model_rand(&m, i % 2 ? 3000000 : 40000), n = 1 + model_rand(&m, 3000);
        struct yk_alloc_opts opts = {.size = sizeof(opts),
                                     .capacity_bytes = yk_alloc_capacity_for(len, n)};
        struct yk_alloc *a;
        uint64_t offset;
        assert_true(opts.capacity_bytes >= len * n);
        assert_int_equal(yk_alloc_new(&opts, &a, NULL), 0);
        for (uint64_t k = 0; k < n; k++)
            assert_int_equal(yk_alloc_get(a, len, &offset), 0);
        yk_alloc_free(a);
    }
    assert_int_equal(yk_alloc_capacity_for(65536, 1ull << 20), 65536ull << 20);
    assert_int_equal(yk_alloc_capacity_for(0, 1), 0);
    assert_int_equal(yk_alloc_capacity_for(1, 0), 0);
    assert_int_equal(yk_alloc_capacity_for(YK_ALLOC_LEN_MAX + 1, 1), 0);
    assert_int_equal(yk_alloc_capacity_for(YK_ALLOC_LEN_MAX, UINT64_MAX), 0);
}

/* Whether a put of (offset, len) would be right: then it must not be tried as a wrong one. */
static bool is_live(const struct model *m, uint64_t offset) {
    return model_find(m, offset) < m->count;
}

static void wrong_puts_are_refused(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 20000001, false, 11);
    while (model_get(&m, model_len(&m, SIZES_ALL)) == 0)
        ;
    for (int i = 0; i < 3000; i++) {
        struct model_block b = m.live[model_rand(&m, m.count)];
        uint64_t wrong[] = {
            b.offset + 1 + model_rand(&m, 63),         b.offset + 64 * (1 + model_rand(&m, 2000)),
            model_rand(&m, m.capacity_bytes + 100000), m.capacity_bytes + 64 * model_rand(&m, 1000),
            UINT64_MAX - model_rand(&m, 5000),         1ull << model_rand(&m, 64)};
        for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
            if (!is_live(&m, wrong[k]))
                assert_int_equal(yk_alloc_put(m.a, wrong[k], b.len), -YK_EINVAL);
        }
        uint64_t slot = yk_alloc_slot_bytes(m.a, b.len);
        assert_int_equal(yk_alloc_put(m.a, b.offset, 0), -YK_EINVAL);
        assert_int_equal(yk_alloc_put(m.a, b.offset, slot * 2 + 70000), -YK_EINVAL);
        assert_int_equal(yk_alloc_put(m.a, b.offset, UINT64_MAX), -YK_EINVAL);
        if (b.len > 4096)
            assert_int_equal(yk_alloc_put(m.a, b.offset, b.len / 2), -YK_EINVAL);
    }
    model_check(&m, 0);
    for (int i = 0; i < 1000 && m.count > 0; i++) { /* and put twice */
        struct model_block b = m.live[model_rand(&m, m.count)];
        model_put(&m, model_find(&m, b.offset));
        assert_int_equal(yk_alloc_put(m.a, b.offset, b.len), -YK_EINVAL);
        if (i % 3 == 0)
            model_get(&m, model_len(&m, SIZES_ALL));
    }
    model_empty(&m);
    model_fini(&m);
}

static void wrong_lengths_and_options_are_refused(void **state) {
    (void)state;
    struct model m;
    uint64_t offset, table[8];
    model_init(&m, 1000000, false, 1);
    assert_int_equal(yk_alloc_get(m.a, 0, &offset), -YK_EINVAL);
    assert_int_equal(yk_alloc_get(m.a, YK_ALLOC_LEN_MAX + 1, &offset), -YK_ETOOBIG);
    assert_int_equal(yk_alloc_get(m.a, YK_ALLOC_LEN_MAX, &offset), -YK_ENOSPC);
    assert_int_equal(yk_alloc_get(m.a, 1000001, &offset), -YK_ENOSPC);
    assert_int_equal(yk_alloc_slot_bytes(m.a, 0), 0);
    assert_int_equal(yk_alloc_slot_bytes(m.a, UINT64_MAX), 0);
    assert_int_equal(yk_alloc_claim(m.a, 0, 64), -YK_EBUSY);
    assert_int_equal(yk_alloc_recover_done(m.a), -YK_EBUSY);
    model_fini(&m);
    yk_alloc_free(NULL);

    struct yk_alloc *a = NULL;
    struct yk_alloc_opts good = {.size = sizeof(good), .capacity_bytes = 1 << 20}, o = good;
    o.size--;
    assert_int_equal(yk_alloc_new(&o, &a, NULL), -YK_EINVAL);
    o = good;
    o.capacity_bytes = YK_ALLOC_CAPACITY_MIN - 1;
    assert_int_equal(yk_alloc_new(&o, &a, NULL), -YK_EINVAL);
    o.capacity_bytes = YK_ALLOC_CAPACITY_MAX + 1;
    assert_int_equal(yk_alloc_new(&o, &a, NULL), -YK_ETOOBIG);
    o = good;
    o.recover = true;
    assert_int_equal(yk_alloc_new(&o, &a, NULL), -YK_EINVAL);
    o = good;
    o.table = table;
    o.table_bytes = sizeof(table);
    assert_int_equal(yk_alloc_new(&o, &a, NULL), -YK_EINVAL);
    o.table = (char *)table + 4;
    o.capacity_bytes = 4096;
    assert_int_equal(yk_alloc_new(&o, &a, NULL), -YK_EINVAL);
    assert_null(a);
}

static void the_largest_block_fits(void **state) {
    (void)state;
    struct yk_alloc_opts opts = {.size = sizeof(opts), .capacity_bytes = (9ull << 30) + 12345};
    struct yk_alloc *a;
    uint64_t offset[3];
    assert_int_equal(yk_alloc_new(&opts, &a, NULL), 0);
    assert_int_equal(yk_alloc_get(a, YK_ALLOC_LEN_MAX, &offset[0]), 0);
    assert_int_equal(yk_alloc_get(a, YK_ALLOC_LEN_MAX - 1, &offset[1]), 0);
    assert_int_equal(yk_alloc_get(a, YK_ALLOC_LEN_MAX - 1, &offset[2]), -YK_ENOSPC);
    assert_int_equal(yk_alloc_put(a, offset[0], YK_ALLOC_LEN_MAX), 0);
    assert_int_equal(yk_alloc_get(a, YK_ALLOC_LEN_MAX - 65537, &offset[2]), 0);
    yk_alloc_free(a);
}

static void exact_sizes_get_exact_slots(void **state) {
    (void)state;
    struct model m;
    uint64_t offset;
    model_init(&m, 1ull << 30, false, 5);
    assert_int_equal(yk_alloc_slot_bytes(m.a, 658432), 658432);
    assert_int_equal(yk_alloc_slot_bytes(m.a, 100), 128);
    assert_int_equal(yk_alloc_slot_bytes(m.a, 4095), 4096);
    assert_int_equal(yk_alloc_slot_bytes(m.a, 4097), 4608);
    /* With hundreds of odd sizes about, a size that is rare shares a class within 1/32 ... */
    for (uint64_t len = 40001; len < 100000; len += 700)
        assert_int_equal(yk_alloc_get(m.a, len, &offset), 0);
    uint64_t slot = yk_alloc_slot_bytes(m.a, 101888);
    assert_true(slot > 101888 && slot <= 101888 + 101888 / 32 + 512);
    /* ... and one that comes often gets its own. */
    for (int i = 0; i < 20; i++)
        assert_int_equal(yk_alloc_get(m.a, 101888, &offset), 0);
    assert_int_equal(yk_alloc_slot_bytes(m.a, 101888), 101888);
    model_fini(&m);
}

/* More sizes than there can be classes, again and again: classes are reused. */
static void classes_never_run_out(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 64ull << 20, false, 6);
    for (int round = 0; round < 3; round++) {
        for (uint64_t len = 17000; len < 1500000; len += 512 + 1024 * (uint64_t)round) {
            for (int i = 0; i < 6; i++) {
                if (model_get(&m, len) < 0)
                    model_put(&m, model_rand(&m, m.count));
            }
            while (m.count > 40)
                model_put(&m, model_rand(&m, m.count));
        }
        model_check(&m, 0);
        model_empty(&m);
    }
    model_fini(&m);
}

static void a_million_blocks_need_little_metadata(void **state) {
    (void)state;
    struct yk_alloc_opts opts = {.size = sizeof(opts), .capacity_bytes = 8ull << 30};
    struct yk_alloc *a;
    struct yk_alloc_stats st;
    uint64_t offset, n = 0;
    assert_int_equal(yk_alloc_new(&opts, &a, NULL), 0);
    while (yk_alloc_get(a, 8192, &offset) == 0)
        n++;
    assert_int_equal(n, 1 << 20);
    yk_alloc_stats(a, &st);
    assert_true(st.metadata_bytes < 4500000);
    yk_alloc_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_gets_and_puts_never_overlap),
        cmocka_unit_test(a_full_pool_says_so_and_serves_again),
        cmocka_unit_test(one_size_fills_99_percent),
        cmocka_unit_test(capacity_for_holds_what_it_says),
        cmocka_unit_test(wrong_puts_are_refused),
        cmocka_unit_test(wrong_lengths_and_options_are_refused),
        cmocka_unit_test(the_largest_block_fits),
        cmocka_unit_test(exact_sizes_get_exact_slots),
        cmocka_unit_test(classes_never_run_out),
        cmocka_unit_test(a_million_blocks_need_little_metadata),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
