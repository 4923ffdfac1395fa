/* SPDX-License-Identifier: Apache-2.0
 *
 * Block allocator: recovery. A crash at any point, also between the table words that one operation
 * writes, keeps every block; what nobody claims is free again; a scribbled table or false claims
 * cost the blocks concerned and nothing else.
 */
#include "alloc_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct yk_alloc *reopen(const struct model *m, void *table) {
    struct yk_alloc_opts opts = {.size = sizeof(opts),
                                 .capacity_bytes = m->capacity_bytes,
                                 .table = table,
                                 .table_bytes = yk_alloc_table_bytes(m->capacity_bytes),
                                 .recover = true};
    struct yk_alloc *a;
    assert_int_equal(yk_alloc_new(&opts, &a, NULL), 0);
    return a;
}

static void crash_and_reopen(struct model *m) {
    yk_alloc_free(m->a);
    m->a = reopen(m, m->table);
}

static void churn(struct model *m, int ops, enum model_sizes sizes) {
    for (int op = 0; op < ops; op++) {
        if (m->count > 0 && model_rand(m, 100) < 45)
            model_put(m, model_rand(m, m->count));
        else if (model_get(m, model_len(m, sizes)) < 0 && m->count > 0)
            model_put(m, model_rand(m, m->count));
    }
}

static void shuffle(struct model *m) {
    for (size_t i = m->count; i > 1; i--) {
        size_t k = model_rand(m, i);
        struct model_block b = m->live[k];
        m->live[k] = m->live[i - 1];
        m->live[i - 1] = b;
    }
}

static void claimed_blocks_survive_and_the_rest_is_free(void **state) {
    (void)state;
    static const uint64_t capacities[] = {4096, 70000, 1000003, 33554433};
    for (size_t c = 0; c < 4; c++) {
        for (int sizes = SIZES_FEW; sizes <= SIZES_ALL; sizes++) {
            struct model m;
            model_init(&m, capacities[c], true, c * 7 + (uint64_t)sizes);
            for (int crash = 0; crash < 8; crash++) {
                churn(&m, 700, (enum model_sizes)sizes);
                crash_and_reopen(&m);
                while (m.count > 0 && model_rand(&m, 8) == 0)
                    model_drop(&m, model_rand(&m, m.count)); /* its descriptor is lost */
                shuffle(&m);
                for (size_t i = 0; i < m.count; i++)
                    assert_int_equal(yk_alloc_claim(m.a, m.live[i].offset, m.live[i].len), 0);
                assert_int_equal(yk_alloc_recover_done(m.a), 0);
                model_check(&m, 0);
                struct yk_alloc_stats st;
                yk_alloc_stats(m.a, &st);
                assert_int_equal(st.dropped, 0);
            }
            model_empty(&m);
            model_fini(&m);
        }
    }
}

static void nothing_is_served_before_recovery_is_done(void **state) {
    (void)state;
    struct model m;
    struct yk_alloc_move move;
    uint64_t offset;
    model_init(&m, 1000000, true, 4);
    model_get(&m, 5000);
    crash_and_reopen(&m);
    assert_int_equal(yk_alloc_get(m.a, 100, &offset), -YK_EBUSY);
    assert_int_equal(yk_alloc_put(m.a, m.live[0].offset, 5000), -YK_EBUSY);
    assert_int_equal(yk_alloc_compact_begin(m.a, 0), -YK_EBUSY);
    assert_int_equal(yk_alloc_compact_next(m.a, &move), -YK_EBUSY);
    assert_int_equal(yk_alloc_recover_done(m.a), 0);
    assert_int_equal(yk_alloc_recover_done(m.a), -YK_EBUSY);
    assert_int_equal(yk_alloc_put(m.a, m.live[0].offset, 5000), -YK_EINVAL);
    model_drop(&m, 0);
    model_empty(&m);
    model_fini(&m);
}

static void false_claims_are_refused(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 8000000, true, 9);
    churn(&m, 3000, SIZES_ALL);
    crash_and_reopen(&m);
    for (size_t i = 0; i < m.count; i++) {
        struct model_block b = m.live[i];
        uint64_t slot = yk_alloc_slot_bytes(m.a, b.len);
        assert_int_equal(yk_alloc_claim(m.a, b.offset + 1, b.len), -YK_ECORRUPT);
        assert_int_equal(yk_alloc_claim(m.a, b.offset, 0), -YK_ECORRUPT);
        assert_int_equal(yk_alloc_claim(m.a, b.offset, slot * 2 + 70000), -YK_ECORRUPT);
        assert_int_equal(yk_alloc_claim(m.a, b.offset, UINT64_MAX), -YK_ECORRUPT);
        assert_int_equal(yk_alloc_claim(m.a, UINT64_MAX - b.offset, b.len), -YK_ECORRUPT);
        assert_int_equal(yk_alloc_claim(m.a, m.capacity_bytes + b.offset, b.len), -YK_ECORRUPT);
        assert_int_equal(yk_alloc_claim(m.a, b.offset, b.len), 0);
        assert_int_equal(yk_alloc_claim(m.a, b.offset, b.len), -YK_ECORRUPT);
    }
    assert_int_equal(yk_alloc_recover_done(m.a), 0);
    model_check(&m, 0);
    model_empty(&m);
    model_fini(&m);
}

/* All blocks of m must be claimable from this table. */
static void expect_recoverable(const struct model *m, const struct model_block *live, size_t count,
                               const uint64_t *table) {
    uint64_t bytes = yk_alloc_table_bytes(m->capacity_bytes);
    uint64_t *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, table, bytes);
    struct yk_alloc *a = reopen(m, copy);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(yk_alloc_claim(a, live[i].offset, live[i].len), 0);
    assert_int_equal(yk_alloc_recover_done(a), 0);
    yk_alloc_free(a);
    free(copy);
}

/* Blocks that were there before an operation and are after it survive a crash between any two of
 * its table writes. Within an operation words are cleared before others are set. */
static void a_crash_inside_an_operation_keeps_blocks(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 3000001, true, 21);
    size_t words = yk_alloc_table_bytes(m.capacity_bytes) / sizeof(uint64_t);
    uint64_t *before = malloc(words * sizeof(before[0]));
    struct model_block *kept = malloc(m.max * sizeof(kept[0]));
    assert_non_null(before);
    assert_non_null(kept);
    for (int op = 0; op < 1500; op++) {
        size_t count = m.count;
        memcpy(before, m.table, words * sizeof(before[0]));
        memcpy(kept, m.live, count * sizeof(kept[0]));
        if (m.count > 0 && model_rand(&m, 100) < 48) {
            size_t i = model_rand(&m, m.count);
            kept[i] = kept[--count];
            model_put(&m, i);
        } else {
            model_get(&m, model_len(&m, op % 2 ? SIZES_ODD : SIZES_FEW));
        }
        for (int pass = 0; pass < 2; pass++) {
            for (size_t w = 0; w < words; w++) {
                if (before[w] == m.table[w] || (pass == 0) != (m.table[w] == 0))
                    continue;
                before[w] = m.table[w];
                expect_recoverable(&m, kept, count, before);
            }
        }
    }
    free(before);
    free(kept);
    model_fini(&m);
}

/* Whatever is in the table and whatever is claimed: what comes out is consistent. */
static void a_scribbled_table_loses_only_what_it_hit(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct model m;
        model_init(&m, seed % 2 ? 3000001 : 150000000, true, seed);
        size_t words = yk_alloc_table_bytes(m.capacity_bytes) / sizeof(uint64_t), lost = 0;
        churn(&m, 1500, SIZES_ALL);
        size_t hits = seed % 6 == 0 ? words : 1 + model_rand(&m, 20);
        for (size_t i = 0; i < hits; i++) {
            uint64_t *w = &m.table[model_rand(&m, words)];
            uint64_t r = model_rand(&m, 4);
            *w = r == 0   ? model_rand(&m, UINT64_MAX)
                 : r == 1 ? *w ^ 1ull << model_rand(&m, 64)
                 : r == 2 ? m.table[model_rand(&m, words)] /* a good word at a wrong place */
                          : 0;
        }
        crash_and_reopen(&m);
        for (size_t i = 0; i < m.count;) {
            struct model_block b = m.live[i];
            int rc = yk_alloc_claim(m.a, b.offset, b.len);
            if (rc == 0) {
                i++;
                continue;
            }
            assert_int_equal(rc, -YK_ECORRUPT);
            model_drop(&m, i);
            lost++;
        }
        assert_int_equal(yk_alloc_recover_done(m.a), 0);
        model_check(&m, 0);
        assert_true(hits == words || m.count > 0 || lost < 10);
        churn(&m, 1500, SIZES_ALL);
        model_check(&m, 0);
        model_empty(&m);
        model_fini(&m);
    }
}

static void every_flipped_bit_is_seen(void **state) {
    (void)state;
    struct model m;
    struct yk_alloc_stats st;
    model_init(&m, 5000000, true, 41);
    size_t words = yk_alloc_table_bytes(m.capacity_bytes) / sizeof(uint64_t);
    churn(&m, 2000, SIZES_ALL);
    for (int i = 0; i < 500; i++) {
        size_t w = model_rand(&m, words);
        uint64_t good = m.table[w];
        if (good == 0)
            continue;
        m.table[w] ^= 1ull << model_rand(&m, 64);
        crash_and_reopen(&m);
        yk_alloc_stats(m.a, &st);
        assert_int_equal(st.dropped, 1);
        m.table[w] = good;
    }
    model_fini(&m);
}

/* Claims blocks of other for m, as descriptors that came from elsewhere would. */
static void claim_strangers(struct model *m, const struct model *other) {
    for (size_t i = 0; i < other->count; i++) {
        struct model_block b = other->live[i];
        if (yk_alloc_claim(m->a, b.offset, b.len) < 0)
            continue;
        model_own(m, b.offset, b.len, 0, ++m->last_id);
        m->live[m->count++] = (struct model_block){b.offset, b.len, m->last_id};
        m->payload_bytes += b.len;
    }
}

/* Words with right hashes that contradict each other or the capacity: what is accepted never
 * overlaps and never reaches past the end. */
static void contradictory_tables_are_harmless(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct model one, two, m;
        model_init(&one, 4194304, true, seed);
        model_init(&two, seed % 2 ? 4194304 : 40000000, true, seed + 100);
        model_init(&m, 4194304, true, seed + 200);
        churn(&one, 400, SIZES_ALL);
        churn(&two, 400, seed % 4 < 2 ? SIZES_LARGE : SIZES_ALL);
        size_t words = yk_alloc_table_bytes(m.capacity_bytes) / sizeof(uint64_t);
        for (size_t w = 0; w < words; w++)
            m.table[w] = two.table[w] && (one.table[w] == 0 || w % 2) ? two.table[w] : one.table[w];
        crash_and_reopen(&m);
        claim_strangers(&m, &one);
        claim_strangers(&m, &two);
        assert_int_equal(yk_alloc_recover_done(m.a), 0);
        model_check(&m, 0);
        churn(&m, 1000, SIZES_ALL);
        model_check(&m, 0);
        model_empty(&m);
        model_fini(&one);
        model_fini(&two);
        model_fini(&m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claimed_blocks_survive_and_the_rest_is_free),
        cmocka_unit_test(nothing_is_served_before_recovery_is_done),
        cmocka_unit_test(false_claims_are_refused),
        cmocka_unit_test(a_crash_inside_an_operation_keeps_blocks),
        cmocka_unit_test(a_scribbled_table_loses_only_what_it_hit),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(contradictory_tables_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
