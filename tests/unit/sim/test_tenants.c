/* SPDX-License-Identifier: Apache-2.0
 *
 * Several tenants on one cache of the simulator: without shares against one LRU over all their requests, with them beside a
 * scan, and what is told of it.
 */
#include "testing.h"

#include "sim/tenants.h"

/* xorshift64: the state is never 0. */
static uint64_t random_below(uint64_t *state, uint64_t n) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (*state >> 16) % n;
}

static struct yk_sim_tenants_opts opts_of(const char *policy, uint32_t capacity, bool shares) {
    return (struct yk_sim_tenants_opts){.policy = policy, .capacity = capacity, .seed = 3, .shares = shares};
}

static void run(const struct yk_sim_trace *traces, uint32_t count, struct yk_sim_tenants_opts opts,
                struct yk_sim_tenant_result *results) {
    assert_int_equal(yk_sim_tenants_run(traces, count, &opts, results, NULL), 0);
    for (uint32_t i = 0; i < count; i++)
        assert_true(results[i].requests == traces[i].req_count && results[i].blocks == traces[i].block_count);
}

/* Chains of one to four blocks that branch at random. */
static void add_chains(struct yk_sim_trace *t, uint64_t seed, uint64_t ids, uint32_t requests, uint64_t every_ms) {
    uint64_t rng = seed, chain[4];
    for (uint32_t i = 0; i < requests; i++) {
        uint32_t n = 1 + (uint32_t)random_below(&rng, 4);
        uint64_t id = random_below(&rng, ids);
        for (uint32_t k = 0; k < n; k++) {
            chain[k] = 1 + (id >> 2 * (3 - k)) * 4 + k; /* what it is a part of comes first */
            chain[k] += (uint64_t)k << 40;
        }
        add_at(t, i * every_ms, chain, n);
    }
}

/* The same requests in one trace, by time and then by tenant. */
static void merge(struct yk_sim_trace *to, const struct yk_sim_trace *from, uint32_t count) {
    uint64_t at[8] = {0}, ids[4];
    for (;;) {
        uint32_t who = count;
        for (uint32_t i = 0; i < count; i++)
            if (at[i] < from[i].req_count &&
                (who == count || from[i].reqs[at[i]].at_ms < from[who].reqs[at[who]].at_ms))
                who = i;
        if (who == count)
            return;
        const struct yk_sim_req *q = &from[who].reqs[at[who]++];
        for (uint32_t k = 0; k < q->n; k++)
            ids[k] = from[who].id[from[who].blocks[q->first + k]] | (uint64_t)(who + 1) << 50;
        add_at(to, q->at_ms, ids, q->n);
    }
}

static void without_shares_lru_is_one_order_for_all(void **state) {
    struct yk_sim_trace t[3] = {0}, all = {0};
    struct yk_sim_tenant_result r[3];
    for (uint32_t i = 0; i < 3; i++)
        add_chains(&t[i], 11 + i, 64u << 2 * i, 3000, 5 + 2 * i);
    merge(&all, t, 3);
    for (uint32_t capacity = 5; capacity < 2000; capacity *= 4) {
        run(t, 3, opts_of("lru", capacity, false), r);
        assert_int_equal(r[0].hit_blocks + r[1].hit_blocks + r[2].hit_blocks, hits_of(&all, "lru", capacity, 1));
        assert_true(r[0].end_blocks + r[1].end_blocks + r[2].end_blocks <= capacity);
        assert_int_equal(r[0].share_blocks, 0);
    }
    for (uint32_t i = 0; i < 3; i++)
        yk_sim_trace_fini(&t[i]);
    yk_sim_trace_fini(&all);
}

/* One works with 600 blocks, one asks four times as often for what never comes again. */
static void add_worker_and_scan(struct yk_sim_trace t[2]) {
    uint64_t rng = 7, id;
    for (uint32_t i = 0; i < 12000; i++) {
        id = random_below(&rng, 600);
        add_at(&t[0], i * 8, &id, 1);
        for (uint64_t k = 0; k < 4; k++) {
            id = 1000000 + 4 * i + k;
            add_at(&t[1], i * 8 + 2 * k, &id, 1);
        }
    }
}

static void a_scan_does_not_flush_a_working_set(void **state) {
    static const char *const policies[] = {"lru", "s3fifo", "learned"};
    struct yk_sim_trace t[2] = {0};
    struct yk_sim_tenant_result with[2], without[2];
    add_worker_and_scan(t);
    for (size_t i = 0; i < 3; i++) {
        run(t, 2, opts_of(policies[i], 1000, true), with);
        run(t, 2, opts_of(policies[i], 1000, false), without);
        assert_true(with[0].hit_blocks > 12000 * 9 / 10 && without[0].hit_blocks < 12000 * 6 / 10);
        assert_true(with[0].end_blocks == 600 && with[0].share_blocks >= 600 && with[0].share_hit_ratio > 0.9);
        assert_true(with[1].hit_blocks == 0 && with[1].share_blocks < 100 && with[1].share_hit_ratio < 0.1);
    }
    yk_sim_trace_fini(&t[0]);
    yk_sim_trace_fini(&t[1]);
}

static void the_same_seed_gives_the_same_result(void **state) {
    struct yk_sim_trace t[2] = {0};
    struct yk_sim_tenant_result a[2], b[2];
    generate(&t[0], 0, 3, 300);
    generate(&t[1], 0, 4, 300);
    run(t, 2, opts_of("learned", 500, true), a);
    run(t, 2, opts_of("learned", 500, true), b);
    assert_memory_equal(a, b, sizeof(a));
    yk_sim_trace_fini(&t[0]);
    yk_sim_trace_fini(&t[1]);
}

/* Alone a tenant has what its policy alone hits. */
static void one_tenant_has_all(void **state) {
    struct yk_sim_trace t = {0};
    struct yk_sim_tenant_result r;
    generate(&t, 0, 5, 500);
    for (int shares = 0; shares < 2; shares++) {
        run(&t, 1, opts_of("learned", 400, shares != 0), &r);
        assert_int_equal(r.hit_blocks, hits_of(&t, "learned", 400, 3));
    }
    yk_sim_trace_fini(&t);
}

static void what_shares_cost_is_counted(void **state) {
    struct yk_sim_trace t[2] = {0};
    struct yk_sim_shares_cost cost;
    add_worker_and_scan(t);
    assert_int_equal(yk_sim_shares_cost(t, 2, 1000, 1, &cost, NULL), 0);
    assert_int_equal(cost.blocks, t[0].block_count + t[1].block_count);
    assert_int_equal(cost.divisions, cost.blocks / 250); /* each quarter of the capacity */
    assert_true(cost.hearing_ns > 0 && cost.giving_ns > 0);
    yk_sim_trace_fini(&t[0]);
    yk_sim_trace_fini(&t[1]);
}

static void wrong_options_are_refused(void **state) {
    struct yk_sim_trace t[2] = {0};
    struct yk_sim_tenant_result r[2];
    struct yk_sim_tenants_opts good = opts_of("lru", 10, true), o = good;
    uint64_t id = 1;
    add_at(&t[0], 0, &id, 1);
    assert_int_equal(yk_sim_tenants_run(t, 2, &good, r, NULL), -YK_EINVAL); /* one has no blocks */
    assert_int_equal(yk_sim_tenants_run(t, 0, &good, r, NULL), -YK_EINVAL);
    assert_int_equal(yk_sim_tenants_run(t, YK_SIM_TENANTS_MAX + 1, &good, r, NULL), -YK_EINVAL);
    o.policy = "opt";
    assert_int_equal(yk_sim_tenants_run(t, 1, &o, r, NULL), -YK_EINVAL);
    o = good;
    o.capacity = 0;
    assert_int_equal(yk_sim_tenants_run(t, 1, &o, r, NULL), -YK_EINVAL);
    assert_int_equal(yk_sim_tenants_run(t, 1, &good, r, NULL), 0);
    yk_sim_trace_fini(&t[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_shares_lru_is_one_order_for_all),
        cmocka_unit_test(a_scan_does_not_flush_a_working_set),
        cmocka_unit_test(the_same_seed_gives_the_same_result),
        cmocka_unit_test(one_tenant_has_all),
        cmocka_unit_test(what_shares_cost_is_counted),
        cmocka_unit_test(wrong_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
