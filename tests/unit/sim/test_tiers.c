/* SPDX-License-Identifier: Apache-2.0
 *
 * Two tiers: against a model with arrays, by hand, and what must hold of every policy that knows them.
 */
#include "testing.h"

static const char *const policies[] = {"lru", "s3fifo", "lfu", "gdsf", "opt", "learned", NULL};

static struct yk_sim_result run_at(const struct yk_sim_trace *t, const char *policy, uint32_t capacity,
                                   uint64_t below) {
    struct yk_sim_opts opts = {.policy = policy, .capacity = capacity, .seed = 1, .below = below};
    struct yk_sim_result r;
    assert_int_equal(yk_sim_run(t, &opts, &r, NULL), 0);
    assert_true(r.blocks == t->block_count && r.hit_blocks <= r.blocks && r.below_hit_blocks <= r.hit_blocks);
    return r;
}

/* ---- a model: LRU over LRU, the oldest searched for -------------------------------------------- */

struct model_tier {
    uint64_t *used; /* by block; 0: not here */
    uint64_t count, capacity, clock;
};

static uint64_t model_oldest(const struct model_tier *m, uint64_t distinct) {
    uint64_t oldest = distinct;
    for (uint64_t b = 0; b < distinct; b++)
        if (m->used[b] != 0 && (oldest == distinct || m->used[b] < m->used[oldest]))
            oldest = b;
    return oldest;
}

/* Returns the block that had to go, or `distinct`. */
static uint64_t model_use(struct model_tier *m, uint64_t distinct, uint32_t block) {
    uint64_t gone = distinct;
    if (m->used[block] == 0 && m->count == m->capacity) {
        gone = model_oldest(m, distinct);
        m->used[gone] = 0;
        m->count--;
    }
    m->count += m->used[block] == 0;
    m->used[block] = ++m->clock;
    return gone;
}

static void model_request(const struct yk_sim_trace *t, const struct yk_sim_req *q, struct model_tier tiers[2],
                          struct yk_sim_result *r) {
    const uint32_t *blocks = t->blocks + q->first;
    for (uint32_t i = 0; i < q->n && (tiers[0].used[blocks[i]] | tiers[1].used[blocks[i]]) != 0; i++) {
        bool is_below = tiers[0].used[blocks[i]] == 0;
        r->hit_blocks++;
        r->below_hit_blocks += is_below;
        if (is_below)
            (void)model_use(&tiers[1], t->distinct, blocks[i]);
    }
    for (uint32_t i = q->n; i-- > 0;) {
        uint64_t gone = model_use(&tiers[0], t->distinct, blocks[i]);
        if (gone == t->distinct || tiers[1].used[gone] != 0)
            continue;
        (void)model_use(&tiers[1], t->distinct, (uint32_t)gone);
        r->below_written++;
    }
}

static void test_lru_equals_the_model(void **state) {
    static const uint64_t below[] = {1, 40, 400};
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++) {
        struct yk_sim_trace t = {0};
        generate(&t, kind, 3, 60);
        for (size_t i = 0; i < 3; i++) {
            struct model_tier tiers[2] = {{calloc(t.distinct, 8), 0, 16, 0}, {calloc(t.distinct, 8), 0, below[i], 0}};
            struct yk_sim_result want = {0}, got = run_at(&t, "lru", 16, below[i]);
            for (uint64_t k = 0; k < t.req_count; k++)
                model_request(&t, &t.reqs[k], tiers, &want);
            assert_int_equal(got.hit_blocks, want.hit_blocks);
            assert_int_equal(got.below_hit_blocks, want.below_hit_blocks);
            assert_int_equal(got.below_written, want.below_written);
            free(tiers[0].used);
            free(tiers[1].used);
        }
        yk_sim_trace_fini(&t);
    }
}

/* ---- what holds of all ----------------------------------------------------------------------------- */

static void test_where_all_is_below_all_hit_the_same(void **state) {
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++) {
        struct yk_sim_trace t = {0};
        generate(&t, kind, 5, 500);
        uint64_t all = hits_of(&t, "lru", (uint32_t)t.distinct, 1);
        struct yk_sim_result best = run_at(&t, "opt", 100, YK_SIM_BELOW_ALL);
        for (size_t i = 0; policies[i] != NULL; i++) {
            struct yk_sim_result r = run_at(&t, policies[i], 100, YK_SIM_BELOW_ALL);
            assert_int_equal(r.hit_blocks, all);
            assert_true(r.below_hit_blocks >= best.below_hit_blocks);
            assert_true(r.below_written + 100 >= t.distinct && r.below_written <= t.distinct);
        }
        yk_sim_trace_fini(&t);
    }
}

static void test_a_tier_below_never_costs_hits(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    generate(&t, YK_TRACE_CHAT, 7, 500);
    for (size_t i = 0; policies[i] != NULL; i++) {
        uint64_t alone = run_at(&t, policies[i], 100, 0).hit_blocks;
        struct yk_sim_result two = run_at(&t, policies[i], 100, 2000);
        assert_int_equal(run_at(&t, policies[i], 100, 0).below_hit_blocks, 0);
        assert_true(two.hit_blocks >= alone);
    }
    yk_sim_trace_fini(&t);
}

/* A block in the middle that is below is a read, and what is behind it is still a hit of the cache. */
static void test_a_gap_is_a_read_and_no_end(void **state) {
    uint64_t a[] = {10, 11, 12, 13}, b[] = {12, 20, 21};
    struct yk_sim_trace t = {0};
    (void)state;
    add_at(&t, 0, a, 4);
    add_at(&t, 1, b, 3); /* room for 4: 13, 12 and 11 went down in turn, and 12 came up again */
    add_at(&t, 2, a, 4);
    struct yk_sim_result r = run_at(&t, "lru", 4, YK_SIM_BELOW_ALL);
    assert_int_equal(r.hit_blocks, 1 + 4);
    assert_int_equal(r.below_hit_blocks, 2);
    assert_int_equal(run_at(&t, "lru", 4, 0).hit_blocks, 1 + 1);
    yk_sim_trace_fini(&t);
}

static void test_who_cannot_say_what_left_is_refused(void **state) {
    uint64_t ids[] = {1};
    struct yk_sim_trace t = {0};
    struct yk_sim_result r;
    struct yk_err err = {0};
    (void)state;
    add_at(&t, 0, ids, 1);
    struct yk_sim_opts opts = {.policy = "arc", .capacity = 1, .below = 1};
    assert_int_equal(yk_sim_run(&t, &opts, &r, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "'arc'"));
    yk_sim_trace_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lru_equals_the_model),
        cmocka_unit_test(test_where_all_is_below_all_hit_the_same),
        cmocka_unit_test(test_a_tier_below_never_costs_hits),
        cmocka_unit_test(test_a_gap_is_a_read_and_no_end),
        cmocka_unit_test(test_who_cannot_say_what_left_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
