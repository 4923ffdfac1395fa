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

/* ---- prefetch ---------------------------------------------------------------------------------------- */

/* Sessions of chains that are used every PERIOD_MS, or at random, one after the other. */
static void add_sessions(struct yk_sim_trace *t, bool is_regular) {
    enum { SESSIONS = 40, BLOCKS = 20, ROUNDS = 100, PERIOD_MS = 40000 };
    uint64_t ids[BLOCKS], random = 1;
    for (uint64_t turn = 0; turn < (uint64_t)SESSIONS * ROUNDS; turn++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t session = is_regular ? turn % SESSIONS : (random >> 33) % SESSIONS;
        for (uint64_t i = 0; i < BLOCKS; i++)
            ids[i] = session * 1000 + i;
        add_at(t, turn * PERIOD_MS / SESSIONS + 500, ids, BLOCKS);
    }
}

static struct yk_sim_result run_prefetching(const struct yk_sim_trace *t, bool prefetches) {
    struct yk_sim_opts opts = {
        .policy = "learned", .capacity = 200, .seed = 1, .below = YK_SIM_BELOW_ALL, .prefetches = prefetches};
    struct yk_sim_result r;
    assert_int_equal(yk_sim_run(t, &opts, &r, NULL), 0);
    assert_true(r.moved_used <= r.moved && r.moved_used <= r.hit_blocks - r.below_hit_blocks);
    return r;
}

/* Who comes back on time is there before: more than a cache without foresight can hold. */
static void test_what_comes_on_time_is_there_before(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    add_sessions(&t, true);
    struct yk_sim_result without = run_prefetching(&t, false), with = run_prefetching(&t, true);
    assert_int_equal(without.moved, 0);
    assert_true(with.moved_used * 10 >= with.moved * 6 && with.moved > 0);
    assert_true(with.below_hit_blocks * 10 < without.below_hit_blocks * 9);
    assert_int_equal(with.hit_blocks, without.hit_blocks);
    yk_sim_trace_fini(&t);
}

/* Where nobody can tell who comes next, little is moved, and nothing lost. */
static void test_what_comes_at_random_costs_no_hits(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    add_sessions(&t, false);
    struct yk_sim_result without = run_prefetching(&t, false), with = run_prefetching(&t, true);
    assert_true(with.moved * 5 < with.blocks);
    assert_true(with.below_hit_blocks * 100 <= without.below_hit_blocks * 101);
    yk_sim_trace_fini(&t);
}

static void test_prefetch_repeats_by_seed(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    generate(&t, YK_TRACE_AGENT, 9, 1500);
    struct yk_sim_result a = run_prefetching(&t, true), b = run_prefetching(&t, true);
    assert_true(a.below_hit_blocks == b.below_hit_blocks && a.moved == b.moved && a.moved_used == b.moved_used);
    yk_sim_trace_fini(&t);
}

static void test_prefetch_needs_learned_and_two_tiers(void **state) {
    static const struct yk_sim_opts bad[] = {
        {.policy = "lru", .capacity = 5, .below = YK_SIM_BELOW_ALL, .prefetches = true},
        {.policy = "learned", .capacity = 5, .prefetches = true}};
    uint64_t ids[] = {1};
    struct yk_sim_trace t = {0};
    struct yk_sim_result r;
    (void)state;
    add_at(&t, 0, ids, 1);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(yk_sim_run(&t, &bad[i], &r, NULL), -YK_EINVAL);
    yk_sim_trace_fini(&t);
}

/* ---- a restart --------------------------------------------------------------------------------- */

/* Times may be any, as a trace has them, and the rate too: nothing is back before the restart, and what is asked to come
 * up at once does. */
static void test_a_restart_in_a_trace_that_goes_back(void **state) {
    static const uint64_t at_ms[] = {0, 1000, 2000, 3000, 1500, 1600, 1700, UINT64_C(1) << 53};
    uint64_t chains[][3] = {{1, 2, 3}, {1, 2, 4}, {1, 2, 3}, {5, 6, 7}, {1, 2, 3}, {1, 2, 4}, {1, 2, 4}, {1, 2, 3}};
    struct yk_sim_opts opts = {.policy = "lru", .capacity = 4, .seed = 1, .below = YK_SIM_BELOW_ALL};
    struct yk_sim_trace t = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(at_ms) / sizeof(at_ms[0]); i++)
        add_at(&t, at_ms[i], chains[i], 3);
    for (uint32_t window = 1; window <= 4; window++) {
        struct yk_sim_restart at = {.request = 3, .preload_per_s = 1e9, .window = window};
        struct yk_sim_restarted r;
        assert_int_equal(yk_sim_restart_run(&t, &opts, &at, &r, NULL), 0);
        for (int i = 0; i < 2; i++) {
            const struct yk_sim_back *back = i == 0 ? &r.preload_back : &r.demand_back;
            assert_true(back->is_back || window > 2);
            assert_true(!back->is_back || back->ms == 0);
        }
    }
    for (uint64_t i = 4; i < t.req_count; i++) /* a moment later, at a rate that has all come in it */
        t.reqs[i].at_ms = 3000 + (UINT64_C(1) << 52) + i;
    opts.capacity = 8;
    struct yk_sim_restart at = {.request = 3, .preload_per_s = 1e9, .window = 1};
    struct yk_sim_restarted r;
    assert_int_equal(yk_sim_restart_run(&t, &opts, &at, &r, NULL), 0);
    assert_true(r.preload.preloaded > 0);
    assert_int_equal(r.preload.below_hit_blocks, 0);
    yk_sim_trace_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_comes_on_time_is_there_before),
        cmocka_unit_test(test_what_comes_at_random_costs_no_hits),
        cmocka_unit_test(test_prefetch_repeats_by_seed),
        cmocka_unit_test(test_prefetch_needs_learned_and_two_tiers),
        cmocka_unit_test(test_lru_equals_the_model),
        cmocka_unit_test(test_a_restart_in_a_trace_that_goes_back),
        cmocka_unit_test(test_where_all_is_below_all_hit_the_same),
        cmocka_unit_test(test_a_tier_below_never_costs_hits),
        cmocka_unit_test(test_a_gap_is_a_read_and_no_end),
        cmocka_unit_test(test_who_cannot_say_what_left_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
