/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulator's caches against models that are slow and obviously right, by hand, and against each other.
 */
#include "testing.h"

/* ---- a model: all blocks in an array, the worst is searched for ------------------------------ */

enum rule { LRU, LFU, OPT };

struct model {
    uint8_t *in;
    uint64_t *used, *uses;
    uint64_t clock;
};

/* The request after `number` that has the block. */
static uint64_t next_use(const struct yk_sim_trace *t, uint64_t number, uint32_t block) {
    for (uint64_t i = number + 1; i < t->req_count; i++)
        for (uint64_t a = t->reqs[i].first; a < t->reqs[i].first + t->reqs[i].n; a++)
            if (t->blocks[a] == block)
                return i;
    return UINT64_MAX;
}

static uint32_t depth_of(const struct yk_sim_trace *t, uint32_t block) {
    uint32_t depth = 0;
    for (; t->parent[block] != YK_SIM_NONE; depth++)
        block = t->parent[block];
    return depth;
}

static bool is_worse(const struct yk_sim_trace *t, const struct model *m, enum rule rule, uint64_t number,
                     uint32_t a, uint32_t b) {
    if (rule == OPT) {
        uint64_t x = next_use(t, number, a), y = next_use(t, number, b);
        return x != y ? x > y : depth_of(t, a) > depth_of(t, b);
    }
    if (rule == LFU && m->uses[a] != m->uses[b])
        return m->uses[a] < m->uses[b];
    return m->used[a] < m->used[b];
}

static void evict(const struct yk_sim_trace *t, struct model *m, enum rule rule, uint64_t number) {
    uint32_t worst = YK_SIM_NONE;
    for (uint32_t b = 0; b < t->distinct; b++)
        if (m->in[b] && (worst == YK_SIM_NONE || is_worse(t, m, rule, number, b, worst)))
            worst = b;
    m->in[worst] = 0;
}

static uint64_t model_hits(const struct yk_sim_trace *t, enum rule rule, uint32_t capacity) {
    struct model m = {calloc(t->distinct, 1), calloc(t->distinct, 8), calloc(t->distinct, 8), 0};
    uint64_t hits = 0, count = 0;
    for (uint64_t i = 0; i < t->req_count; i++) {
        const uint32_t *blocks = t->blocks + t->reqs[i].first;
        uint32_t n = t->reqs[i].n, run = 0;
        while (run < n && m.in[blocks[run]])
            run++;
        hits += run;
        for (uint32_t k = n; k-- > 0;) {
            bool comes = !m.in[blocks[k]];
            if (comes && count == capacity && rule != OPT)
                evict(t, &m, rule, i);
            else
                count += comes;
            m.in[blocks[k]] = 1;
            m.used[blocks[k]] = ++m.clock;
            m.uses[blocks[k]]++;
            if (count > capacity) {
                evict(t, &m, rule, i);
                count--;
            }
        }
    }
    free(m.in);
    free(m.used);
    free(m.uses);
    return hits;
}

static void test_equals_the_models(void **state) {
    static const uint32_t capacities[] = {1, 16, 150};
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++) {
        struct yk_sim_trace t = {0};
        generate(&t, kind, 3, 60);
        for (size_t i = 0; i < 3; i++) {
            uint32_t c = capacities[i];
            assert_int_equal(hits_of(&t, "lru", c, 1), model_hits(&t, LRU, c));
            assert_int_equal(hits_of(&t, "lfu", c, 1), model_hits(&t, LFU, c));
            assert_int_equal(hits_of(&t, "opt", c, 1), model_hits(&t, OPT, c));
        }
        yk_sim_trace_fini(&t);
    }
}

static void test_no_policy_beats_the_optimum(void **state) {
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++) {
        struct yk_sim_trace t = {0};
        generate(&t, kind, 5, 1000);
        for (uint32_t c = 10; c < 10000; c *= 5) {
            uint64_t best = hits_of(&t, "opt", c, 1);
            for (size_t i = 0; yk_sim_policy_names[i] != NULL; i++)
                assert_true(hits_of(&t, yk_sim_policy_names[i], c, 1) <= best);
        }
        yk_sim_trace_fini(&t);
    }
}

static void test_all_hit_the_same_where_all_fits(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    generate(&t, YK_TRACE_CHAT, 7, 500);
    uint64_t all = hits_of(&t, "opt", (uint32_t)t.distinct, 1);
    assert_true(all > 0);
    /* Those with a small queue for newcomers do not fill up before they evict: a hundred times the room. */
    for (size_t i = 0; yk_sim_policy_names[i] != NULL; i++)
        assert_int_equal(hits_of(&t, yk_sim_policy_names[i], (uint32_t)t.distinct * 101, 1), all);
    yk_sim_trace_fini(&t);
}

static void test_repeats_by_seed(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    generate(&t, YK_TRACE_AGENT, 9, 800);
    for (size_t i = 0; yk_sim_policy_names[i] != NULL; i++)
        assert_int_equal(hits_of(&t, yk_sim_policy_names[i], 200, 5), hits_of(&t, yk_sim_policy_names[i], 200, 5));
    yk_sim_trace_fini(&t);
}

/* What is behind a gap is no hit, and the tail of a chain goes before its head. */
static void test_a_hit_is_the_leading_run(void **state) {
    uint64_t a[] = {10, 11, 12, 13}, b[] = {20, 21}, other_head[] = {30, 11, 12, 13};
    struct yk_sim_trace t = {0};
    (void)state;
    add_at(&t, 0, a, 4);
    add_at(&t, 1, b, 2);
    add_at(&t, 2, a, 4); /* room for 5: 13 has gone, 10 to 12 are there */
    add_at(&t, 3, other_head, 4);
    assert_int_equal(hits_of(&t, "lru", 5, 1), 3);
    assert_int_equal(hits_of(&t, "lru", 100, 1), 4);
    assert_int_equal(t.parent[1], 0); /* as it was seen first */
    yk_sim_trace_fini(&t);
}

static void test_odd_traces_end_well(void **state) {
    uint64_t twice[] = {1, 1, 2, 1}, back[] = {2, 1}, huge[] = {UINT64_MAX, 0, UINT64_MAX - 1};
    struct yk_sim_trace t = {0};
    (void)state;
    add_at(&t, 5, twice, 4);
    add_at(&t, 5, back, 2);
    add_at(&t, 0, twice, 0); /* nothing, and back in time */
    add_at(&t, UINT64_C(1) << 53, huge, 3);
    add_at(&t, 1, twice, 4);
    for (size_t i = 0; yk_sim_policy_names[i] != NULL; i++)
        for (uint32_t c = 1; c < 8; c++)
            (void)hits_of(&t, yk_sim_policy_names[i], c, 1);
    yk_sim_trace_fini(&t);
}

/* A working set that fits, each block used twice in the time of ten capacities, beside blocks that come once: the
 * sketch tells them apart, though more different blocks pass between two halvings than the cache has room for. */
static void test_tinylfu_keeps_what_is_used_from_what_comes_once(void **state) {
    enum { ROUNDS = 40, WORKING = 400, ONCE = 2000, CAPACITY = 500 };
    struct yk_sim_trace t = {0};
    uint64_t once = 1000000;
    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint64_t i = 0; i < WORKING; i++) {
            add_at(&t, round, &i, 1);
            for (uint32_t k = 0; k < ONCE / WORKING; k++, once++)
                add_at(&t, round, &once, 1);
        }
    assert_true(hits_of(&t, "wtinylfu", CAPACITY, 1) > (ROUNDS - 2) * WORKING * 9 / 10);
    yk_sim_trace_fini(&t);
}

/* Only learned learns, and both of its costs are told. */
static void test_tells_what_it_cost(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    generate(&t, YK_TRACE_CHAT, 11, 1000);
    for (size_t i = 0; yk_sim_policy_names[i] != NULL; i++) {
        struct yk_sim_opts opts = {.policy = yk_sim_policy_names[i], .capacity = 200, .seed = 1};
        bool learns = strcmp(opts.policy, "learned") == 0;
        struct yk_sim_result r;
        assert_int_equal(yk_sim_run(&t, &opts, &r, NULL), 0);
        assert_true(r.decision_ns > 0);
        assert_int_equal(r.trainings > 0, learns);
        assert_int_equal(r.training_ns > 0, learns);
    }
    yk_sim_trace_fini(&t);
}

static void test_refuses_what_makes_no_sense(void **state) {
    uint64_t ids[] = {1};
    struct yk_sim_trace t = {0};
    struct yk_sim_result r = {.blocks = 77};
    struct yk_err err = {0};
    (void)state;
    add_at(&t, 0, ids, 1);
    assert_int_equal(yk_sim_run(&t, &(struct yk_sim_opts){.policy = "x", .capacity = 1}, &r, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "'x'"));
    assert_int_equal(yk_sim_run(&t, &(struct yk_sim_opts){.policy = "lru", .capacity = 0}, &r, &err), -YK_EINVAL);
    assert_int_equal(r.blocks, 77);
    yk_sim_trace_fini(&t);
    assert_int_equal(yk_sim_run(&t, &(struct yk_sim_opts){.policy = "lru", .capacity = 1}, &r, &err), -YK_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_models),       cmocka_unit_test(test_no_policy_beats_the_optimum),
        cmocka_unit_test(test_all_hit_the_same_where_all_fits),
        cmocka_unit_test(test_repeats_by_seed),         cmocka_unit_test(test_a_hit_is_the_leading_run),
        cmocka_unit_test(test_odd_traces_end_well),     cmocka_unit_test(test_tells_what_it_cost),
        cmocka_unit_test(test_refuses_what_makes_no_sense),
        cmocka_unit_test(test_tinylfu_keeps_what_is_used_from_what_comes_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
