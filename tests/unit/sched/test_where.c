/* SPDX-License-Identifier: Apache-2.0
 *
 * Who has what: leading runs by tier, what leaves, limits, and all of it against a table that is kept plainly.
 */
#include "testing.h"

#include "sched/where.h"

#define V YK_WHERE_VRAM
#define D YK_WHERE_DRAM
#define S YK_WHERE_SSD

static struct yk_where *make(uint32_t copies, uint32_t holders) {
    struct yk_where *w;
    assert_int_equal(yk_where_new(copies, holders, 1, &w), 0);
    return w;
}

static void check(struct yk_where *w, const uint64_t *chain, uint32_t n, uint32_t holder, uint32_t vram, uint32_t dram,
                  uint32_t ssd) {
    struct yk_where_lead leads[16];
    uint32_t found = yk_where_leads(w, chain, n, leads, 16);
    for (uint32_t i = 0; i < found; i++) {
        if (leads[i].holder != holder)
            continue;
        assert_int_equal(leads[i].blocks[V], vram);
        assert_int_equal(leads[i].blocks[D], dram);
        assert_int_equal(leads[i].blocks[S], ssd);
        return;
    }
    assert_int_equal(ssd, 0);
}

static void runs_end_where_a_block_is_missing(void **state) {
    const uint64_t chain[] = {10, 11, 12, 13, 14}, other[] = {99, 11};
    struct yk_where *w = make(100, 4);
    yk_where_add(w, 1, 10, V);
    yk_where_add(w, 1, 11, D);
    yk_where_add(w, 1, 12, S);
    yk_where_add(w, 1, 14, V);
    yk_where_add(w, 2, 11, V); /* without its head: of no use */
    yk_where_add(w, 3, 10, S);
    check(w, chain, 5, 1, 1, 2, 3);
    check(w, chain, 5, 2, 0, 0, 0);
    check(w, chain, 5, 3, 0, 0, 1);
    check(w, chain, 2, 1, 1, 2, 2);
    check(w, other, 2, 1, 0, 0, 0);
    yk_where_add(w, 1, 13, V);
    yk_where_add(w, 1, 11, V);
    check(w, chain, 5, 1, 2, 2, 5);
    yk_where_free(w);
}

static void what_leaves_a_tier_may_be_in_another(void **state) {
    const uint64_t chain[] = {1, 2};
    struct yk_where *w = make(100, 4);
    yk_where_add(w, 0, 1, V);
    yk_where_add(w, 0, 1, D);
    yk_where_add(w, 0, 2, V);
    assert_int_equal(yk_where_count(w, 0), 2);
    assert_int_equal(yk_where_remove(w, 0, 1, V), 0);
    assert_int_equal(yk_where_remove(w, 0, 1, V), YK_MISS);
    assert_int_equal(yk_where_remove(w, 0, 7, V), YK_MISS);
    check(w, chain, 2, 0, 0, 2, 2);
    assert_int_equal(yk_where_remove(w, 0, 1, D), 0);
    check(w, chain, 2, 0, 0, 0, 0);
    assert_int_equal(yk_where_count(w, YK_WHERE_ALL), 1);
    yk_where_clear(w, 0, UINT32_MAX);
    assert_int_equal(yk_where_count(w, YK_WHERE_ALL), 0);
    yk_where_free(w);
}

static void what_is_out_of_range_is_refused(void **state) {
    struct yk_where *w;
    struct yk_where_lead lead;
    const uint64_t chain[] = {1};
    assert_int_equal(yk_where_new(0, 1, 1, &w), -YK_EINVAL);
    assert_int_equal(yk_where_new(1, YK_WHERE_HOLDERS_MAX + 1, 1, &w), -YK_EINVAL);
    w = make(1, 2);
    assert_int_equal(yk_where_add(w, 2, 1, V), -YK_EINVAL);
    assert_int_equal(yk_where_add(w, 0, 1, YK_WHERE_TIERS), -YK_EINVAL);
    assert_int_equal(yk_where_remove(w, UINT32_MAX, 1, V), -YK_EINVAL);
    yk_where_clear(w, 2, UINT32_MAX);
    assert_int_equal(yk_where_add(w, 0, 1, V), 0);
    assert_int_equal(yk_where_add(w, 1, 1, V), 0); /* in place of it */
    assert_int_equal(yk_where_count(w, 0), 0);
    assert_int_equal(yk_where_leads(w, chain, 1, &lead, 0), 0);
    assert_int_equal(yk_where_leads(w, chain, 1, &lead, 1), 1);
    yk_where_free(w);
    yk_where_free(NULL);
}

static void a_flood_stays_within_its_half(void **state) {
    struct yk_where *w = make(1000, 4);
    for (uint64_t i = 0; i < 400; i++)
        yk_where_add(w, 1, i, V);
    for (uint64_t i = 0; i < 100000; i++)
        yk_where_add(w, 2, 1000 + i, V);
    assert_int_equal(yk_where_count(w, YK_WHERE_ALL), 1000);
    assert_int_equal(yk_where_count(w, 1), 400);
    yk_where_clear(w, 2, UINT32_MAX);
    assert_int_equal(yk_where_count(w, YK_WHERE_ALL), 400);
    yk_where_free(w);
}

/* By pieces, so that nobody who waits has to wait for all of it. */
static void a_holder_is_cleared_by_pieces(void **state) {
    struct yk_where *w = make(1000, 4);
    uint32_t before = 600, pieces = 0;
    for (uint64_t i = 0; i < 600; i++)
        yk_where_add(w, 1, i, V);
    yk_where_add(w, 2, 7, V);
    for (uint32_t left = before; left > 0; pieces++, before = left) {
        uint64_t steps = yk_where_steps(w);
        left = yk_where_clear(w, 1, 100);
        assert_true(left < before && yk_where_steps(w) - steps <= 102);
    }
    assert_true(pieces >= 6);
    assert_int_equal(yk_where_count(w, YK_WHERE_ALL), 1);
    yk_where_free(w);
}

/* A chain of one hash that many have would be looked at for each of its blocks at each of them. */
static void a_look_at_a_chain_is_bounded(void **state) {
    enum { HOLDERS_HERE = 1000, LONG = 65536 };
    struct yk_where *w = make(4096, HOLDERS_HERE);
    struct yk_where_lead *leads = calloc(HOLDERS_HERE, sizeof(*leads));
    uint64_t *chain = calloc(LONG, sizeof(*chain));
    for (uint32_t h = 0; h < HOLDERS_HERE; h++)
        yk_where_add(w, h, 5, V);
    for (uint32_t i = 0; i < LONG; i++)
        chain[i] = 5;
    uint64_t steps = yk_where_steps(w);
    uint32_t n = yk_where_leads(w, chain, LONG, leads, HOLDERS_HERE);
    assert_int_equal(n, HOLDERS_HERE);
    assert_true(yk_where_steps(w) - steps <= YK_WHERE_STEPS_MAX + HOLDERS_HERE);
    assert_true(leads[0].blocks[V] >= YK_WHERE_STEPS_MAX / HOLDERS_HERE);
    free(leads);
    free(chain);
    yk_where_free(w);
}

/* ---- against a plain table ---- */

#define BLOCKS  200u
#define HOLDERS 7u

static void expect(struct yk_where *w, uint8_t plain[HOLDERS][BLOCKS], uint64_t *rng) {
    uint64_t chain[12];
    for (uint32_t i = 0; i < 12; i++)
        chain[i] = random_below(rng, BLOCKS);
    for (uint32_t h = 0; h < HOLDERS; h++) {
        uint32_t want[3] = {0};
        for (uint32_t t = 0; t < 3; t++)
            while (want[t] < 12 && (plain[h][chain[want[t]]] & ((2u << t) - 1)) != 0)
                want[t]++;
        check(w, chain, 12, h, want[0], want[1], want[2]);
    }
}

static void it_is_what_was_told(void **state) {
    struct yk_where *w = make(BLOCKS * HOLDERS, HOLDERS);
    uint8_t plain[HOLDERS][BLOCKS] = {{0}};
    uint64_t rng = 4;
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t h = random_below(&rng, HOLDERS), b = random_below(&rng, BLOCKS), t = random_below(&rng, 3);
        if (random_below(&rng, 3) > 0) {
            assert_int_equal(yk_where_add(w, h, b, (enum yk_where_tier)t), 0);
            plain[h][b] |= (uint8_t)(1u << t);
        } else {
            bool there = (plain[h][b] >> t & 1) != 0;
            assert_int_equal(yk_where_remove(w, h, b, (enum yk_where_tier)t), there ? 0 : YK_MISS);
            plain[h][b] &= (uint8_t)~(1u << t);
        }
        if (random_below(&rng, 5000) == 0) {
            yk_where_clear(w, h, UINT32_MAX);
            memset(plain[h], 0, BLOCKS);
        }
        if (i % 20 == 0)
            expect(w, plain, &rng);
    }
    yk_where_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_end_where_a_block_is_missing),
        cmocka_unit_test(what_leaves_a_tier_may_be_in_another),
        cmocka_unit_test(what_is_out_of_range_is_refused),
        cmocka_unit_test(a_flood_stays_within_its_half),
        cmocka_unit_test(a_holder_is_cleared_by_pieces),
        cmocka_unit_test(a_look_at_a_chain_is_bounded),
        cmocka_unit_test(it_is_what_was_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
