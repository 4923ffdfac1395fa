/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster simulator against closed forms, against the simulator of one cache, and against itself: nothing is lost,
 * and a run repeats.
 */
#include "testing.h"

#include "sim/cluster/cluster_priv.h"

#include <math.h>

#define assert_near(found, expected, share)                                                        \
    do {                                                                                           \
        double f_ = (found), e_ = (expected);                                                      \
        if (!(fabs(f_ - e_) <= (share)*fabs(e_) + 1e-9))                                           \
            fail_msg("%s is %.9g, expected %.9g", #found, f_, e_);                                 \
    } while (0)

static double random_unit(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return ((double)(*state >> 11) + 0.5) / 9007199254740992.0;
}

static struct yk_sim_cluster_result run(const struct yk_sim_trace *t, const struct yk_sim_cluster_opts *o) {
    struct yk_sim_cluster_result r;
    struct yk_err err = {0};
    if (yk_sim_cluster_run(t, o, &r, &err) != 0)
        fail_msg("%s", err.text);
    return r;
}

static void add_tokens(struct yk_sim_trace *t, uint64_t at_ms, uint64_t id, uint32_t n, uint32_t input, uint32_t output) {
    uint64_t ids[256];
    assert_true(n <= 256);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = id + i;
    struct yk_trace_req req = {.timestamp_ms = at_ms, .hash_ids = ids, .n = n, .input_length = input, .output_length = output};
    assert_int_equal(yk_sim_trace_add(t, &req, NULL), 0);
}

/* All kinds of the generator, one request each 100 s. */
static void generate_apart(struct yk_sim_trace *t, int kind, uint64_t requests) {
    generate(t, kind, 31, requests);
    for (uint64_t i = 0; i < t->req_count; i++)
        t->reqs[i].at_ms = i * 100000;
}

static void generate_busy(struct yk_sim_trace *t, uint64_t requests) {
    struct yk_trace_gen_opts opts;
    struct yk_trace_gen *gen;
    struct yk_trace_req req;
    yk_trace_gen_opts_init(&opts);
    opts.seed = 5;
    opts.requests = requests;
    assert_int_equal(yk_trace_gen_new(&opts, &gen, NULL), 0);
    while (yk_trace_gen_next(gen, &req, NULL) == 1)
        assert_int_equal(yk_sim_trace_add(t, &req, NULL), 0);
    yk_trace_gen_free(gen);
}

/* ---- one node is the simulator of one cache ---- */

static void test_one_node_hits_what_one_cache_hits(void **state) {
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++) {
        struct yk_sim_trace t = {0};
        generate_apart(&t, kind, 600);
        for (size_t p = 0; yk_sim_cluster_policy_names[p] != NULL; p++) {
            struct yk_sim_cluster_opts o;
            yk_sim_cluster_opts_init(&o);
            o.policy = yk_sim_cluster_policy_names[p];
            o.blocks[YK_SIM_DRAM] = 150;
            struct yk_sim_cluster_result r = run(&t, &o);
            assert_int_equal(r.blocks, t.block_count);
            uint64_t hits = r.hits[YK_SIM_DRAM], expected = hits_of(&t, o.policy, 150, o.seed);
            /* Among blocks of equal age learned goes by their ids, which are other ones here. */
            if (strcmp(o.policy, "learned") == 0)
                assert_near((double)hits, (double)expected, 0.2);
            else
                assert_int_equal(hits, expected);
            assert_int_equal(r.hits[YK_SIM_VRAM] + r.hits[YK_SIM_SSD] + r.hits[YK_SIM_REMOTE], 0);
            yk_sim_cluster_result_fini(&r);
        }
        yk_sim_trace_fini(&t);
    }
}

/* What left DRAM is on SSD, so a hit is what is in either: of one cache without limit. */
static void test_an_unlimited_ssd_misses_only_what_never_was(void **state) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o;
    (void)state;
    generate_apart(&t, YK_TRACE_CHAT, 600);
    yk_sim_cluster_opts_init(&o);
    o.blocks[YK_SIM_DRAM] = 100;
    o.blocks[YK_SIM_SSD] = (uint32_t)t.distinct;
    struct yk_sim_cluster_result r = run(&t, &o);
    assert_int_equal(r.hits[YK_SIM_DRAM] + r.hits[YK_SIM_SSD], hits_of(&t, "lru", (uint32_t)t.distinct, 1));
    assert_true(r.hits[YK_SIM_SSD] > 0 && r.not_demoted == 0);
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
}

/* A long prompt needs many places in one moment, faster than they can be written. */
static void test_what_was_written_early_is_not_dropped(void **state) {
    (void)state;
    for (int writes = 0; yk_sim_writes_names[writes] != NULL; writes++) {
        struct yk_sim_trace t = {0};
        struct yk_sim_cluster_opts o;
        yk_sim_cluster_opts_init(&o);
        o.blocks[YK_SIM_DRAM] = 200;
        o.blocks[YK_SIM_SSD] = 1000;
        o.writes = (enum yk_sim_writes)writes;
        add_tokens(&t, 0, 1000, 200, 200 * 512, 1);
        add_tokens(&t, 100000, 2000, 200, 200 * 512, 1);
        add_tokens(&t, 200000, 1000, 200, 200 * 512, 1);
        struct yk_sim_cluster_result r = run(&t, &o);
        assert_int_equal(r.not_demoted > 0, writes == YK_SIM_WRITE_LEAVING);
        assert_int_equal(r.hits[YK_SIM_SSD] == 200, writes == YK_SIM_WRITE_NEW);
        yk_sim_cluster_result_fini(&r);
        yk_sim_trace_fini(&t);
    }
}

/* ---- nothing is lost ---- */

static void check_sums(const struct yk_sim_trace *t, const struct yk_sim_cluster_result *r) {
    struct yk_sim_node_result all = {0};
    uint64_t hits = 0, step_blocks = 0, step_hits = 0;
    double asked = 0, cross = 0;
    for (int i = 0; i < YK_SIM_FROMS; i++) {
        hits += r->hits[i];
        asked += r->asked_bytes[i];
    }
    for (uint32_t i = 0; i < r->nodes; i++) {
        all.requests += r->node[i].requests;
        all.blocks += r->node[i].blocks;
        all.hit_blocks += r->node[i].hit_blocks;
        all.sent_bytes += r->node[i].sent_bytes;
        all.received_bytes += r->node[i].received_bytes;
    }
    for (uint32_t i = 0; i < YK_SIM_STEPS; i++) {
        step_blocks += r->steps[i].blocks;
        cross += r->steps[i].cross_bytes;
        for (int k = 0; k < YK_SIM_FROMS; k++)
            step_hits += r->steps[i].hits[k];
    }
    assert_true(r->requests == t->req_count && r->finished == t->req_count && all.requests == t->req_count);
    assert_true(r->blocks == t->block_count && all.blocks == t->block_count && step_blocks == t->block_count);
    assert_true(hits <= r->blocks && all.hit_blocks == hits && step_hits == hits);
    assert_near(r->loaded_bytes, asked, 1e-12);
    assert_near(all.sent_bytes, r->asked_bytes[YK_SIM_REMOTE], 1e-12);
    assert_near(all.received_bytes, r->asked_bytes[YK_SIM_REMOTE], 1e-12);
    assert_near(cross, r->asked_bytes[YK_SIM_REMOTE], 1e-12);
    assert_true(yk_hist_count(&r->ttft) == t->req_count);
    assert_true(r->stalled_s <= r->load_s + 1e-9 * r->load_s + r->requests);
    assert_true(r->prefill_utilisation > 0 && r->prefill_utilisation <= 1 + 1e-9);
    assert_true(r->decode_utilisation > 0 && r->decode_utilisation <= 1 + 1e-9);
}

static void test_nothing_is_lost_and_runs_repeat(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    generate_busy(&t, 1500);
    for (int k = 0; k < 4 * 3; k++) {
        struct yk_sim_cluster_opts o;
        yk_sim_cluster_opts_init(&o);
        o.nodes = 7;
        o.zones = k % 2 + 1;
        o.router = (enum yk_sim_router)(k % 4);
        o.prefetch = (enum yk_sim_prefetch)(k / 4);
        o.policy = yk_sim_cluster_policy_names[k % 3];
        o.blocks[YK_SIM_VRAM] = k % 3 == 0 ? 50 : 0;
        o.blocks[YK_SIM_DRAM] = 400;
        o.blocks[YK_SIM_SSD] = k % 2 == 0 ? 1000 : 0;
        o.load = k % 4 == 0 ? 5 : 0.5;
        struct yk_sim_cluster_result r = run(&t, &o), again = run(&t, &o);
        check_sums(&t, &r);
        assert_int_equal(memcmp(r.node, again.node, r.nodes * sizeof(*r.node)), 0);
        yk_sim_cluster_result_fini(&again);
        again.node = r.node;
        assert_int_equal(memcmp(&r, &again, offsetof(struct yk_sim_cluster_result, node)), 0);
        r.node = again.node;
        yk_sim_cluster_result_fini(&r);
    }
    yk_sim_trace_fini(&t);
}

/* ---- closed forms ---- */

/* Poisson arrivals, all requests alike, nothing to hit: a queue waits rho / 2 (1 - rho) service times in the mean. */
static void test_a_queue_waits_as_theory_says(void **state) {
    static const double loads[] = {0.3, 0.6, 0.8};
    uint64_t random = 99;
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct yk_sim_trace t = {0};
        struct yk_sim_cluster_opts o;
        struct cost cost;
        double at = 0;
        yk_sim_cluster_opts_init(&o);
        assert_int_equal(cost_init(&cost, &o, NULL), 0);
        double service = cost_prefill_s(&cost, 0, 100000); /* long, as a trace has milliseconds */
        for (uint32_t i = 0; i < 60000; i++) {
            at += -log(random_unit(&random)) * service / loads[k];
            add_tokens(&t, (uint64_t)(at * 1e3), 1000000 + i, 1, 100000, 1);
        }
        struct yk_sim_cluster_result r = run(&t, &o);
        assert_near(r.queued_s / (double)r.requests, loads[k] / (2 * (1 - loads[k])) * service, 0.06);
        assert_near(r.prefill_utilisation, loads[k], 0.02);
        yk_sim_cluster_result_fini(&r);
        yk_sim_trace_fini(&t);
    }
}

struct ends {
    double at[8];
};

/* Runs until no flow is left; when each ended. */
static struct ends end_all(struct flows *f, struct timers *timers, uint32_t timer0) {
    struct ends ends = {{0}};
    while (timers->n > 0) {
        uint32_t timer = timers->heap[0];
        double now = timers->at[timer];
        if (flows_step(f, now, timer - timer0)) {
            timers_stop(timers, timer);
            ends.at[timer - timer0] = now;
            flows_free(f, timer - timer0);
        }
    }
    return ends;
}

static void test_flows_share_a_link(void **state) {
    struct timers timers = {0};
    struct flows f;
    uint32_t wide[] = {0}, both[] = {0, 1};
    (void)state;
    assert_int_equal(flows_init(&f, 2, &timers, 3), 0);
    flows_set_link(&f, 0, 100);
    flows_set_link(&f, 1, 20);
    /* The second has 300 left when the first is through, and the link for itself from then on. */
    assert_int_equal(flows_begin(&f, 0, wide, 1, 200, 0), 0);
    assert_int_equal(flows_begin(&f, 0, wide, 1, 500, 0.5), 1);
    struct ends ends = end_all(&f, &timers, 3);
    assert_near(ends.at[0], 4, 1e-9);
    assert_near(ends.at[1], 7 + 0.5, 1e-9);
    /* One that comes later: alone 2 s, half of it 2 s. */
    assert_int_equal(flows_begin(&f, 10, wide, 1, 300, 0), 1);
    assert_int_equal(flows_begin(&f, 12, wide, 1, 100, 0), 0);
    ends = end_all(&f, &timers, 3);
    assert_near(ends.at[1], 14, 1e-9);
    assert_near(ends.at[0], 14, 1e-9);
    /* The narrowest link of a path counts. */
    int64_t narrow = flows_begin(&f, 20, both, 2, 100, 0);
    ends = end_all(&f, &timers, 3);
    assert_near(ends.at[narrow], 25, 1e-9);
    assert_near(f.links[0].carried, 200 + 500 + 300 + 100 + 100, 1e-12);
    flows_fini(&f);
    timers_fini(&timers);
}

/* As many that changes are put together: each byte takes its time all the same. */
static void test_a_crowd_shares_a_link(void **state) {
    enum { N = 500 };
    struct timers timers = {0};
    struct flows f;
    uint32_t path[] = {0};
    double last = 0;
    (void)state;
    assert_int_equal(flows_init(&f, 1, &timers, 0), 0);
    flows_set_link(&f, 0, 1000);
    for (uint32_t i = 0; i < N; i++)
        assert_true(flows_begin(&f, 0, path, 1, 100, 0) >= 0);
    while (timers.n > 0) {
        uint32_t timer = timers.heap[0];
        last = timers.at[timer];
        if (flows_step(&f, last, timer))
            timers_stop(&timers, timer);
    }
    assert_near(last, N * 100 / 1000.0, 0.05);
    assert_int_equal(f.links[0].n, 0);
    flows_fini(&f);
    timers_fini(&timers);
}

/* One chain that comes twice, its second time from SSD: layer by layer, before, or while it waits. */
static double second_first_token_s(enum yk_sim_prefetch prefetch, double ssd_bytes_s, bool waits) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o;
    yk_sim_cluster_opts_init(&o);
    o.prefetch = prefetch;
    o.blocks[YK_SIM_DRAM] = 20;
    o.blocks[YK_SIM_SSD] = 1000;
    o.ssd_bytes_s = ssd_bytes_s;
    add_tokens(&t, 0, 100, 20, 20 * 512, 1);
    add_tokens(&t, 1000000, 500, 20, 20 * 512, 1); /* pushes it down to SSD */
    if (waits)
        add_tokens(&t, 1999900, 600, 40, 40 * 512, 1);
    add_tokens(&t, 2000000, 100, 20, 20 * 512, 1);
    struct yk_sim_cluster_result r = run(&t, &o);
    assert_int_equal(r.hits[YK_SIM_SSD], 20);
    double s = r.ended_s - 2000;
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
    return s;
}

static void test_compute_follows_the_load(void **state) {
    struct yk_sim_cluster_opts o;
    struct cost cost;
    (void)state;
    yk_sim_cluster_opts_init(&o);
    assert_int_equal(cost_init(&cost, &o, NULL), 0);
    double bytes = 20 * cost.block_bytes, c = cost_prefill_s(&cost, 20 * 512 - 1, 20 * 512), layer = c / cost.layers;
    double slow = bytes / 4e9 + 100e-6, fast = bytes / 40e9 + 100e-6;
    assert_near(second_first_token_s(YK_SIM_AT_ARRIVAL, 4e9, false), slow + layer, 1e-6);
    assert_near(second_first_token_s(YK_SIM_AT_START, 4e9, false), slow + layer, 1e-6);
    assert_near(second_first_token_s(YK_SIM_BEFORE, 4e9, false), slow + c, 1e-6);
    assert_near(second_first_token_s(YK_SIM_BEFORE, 40e9, false), fast + c, 1e-6);
    /* Behind a request that computes for longer than the load takes. */
    double before = cost_prefill_s(&cost, 0, 40 * 512) - 0.1;
    assert_true(before > fast);
    assert_near(second_first_token_s(YK_SIM_AT_ARRIVAL, 40e9, true), before + c, 1e-6);
    assert_near(second_first_token_s(YK_SIM_BEFORE, 40e9, true), before + fast + c, 1e-6);
}

/* Two requests decode together from when the second has its first token on. */
/* A trace that ends before it began: what comes after its last time is in the last step. */
static void test_what_is_late_is_in_the_last_step(void **state) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o;
    (void)state;
    add_tokens(&t, 0, 1, 1, 512, 1);
    add_tokens(&t, UINT64_C(1) << 32, 2, 2, 1024, 1);
    add_tokens(&t, 1, 4, 4, 2048, 1);
    yk_sim_cluster_opts_init(&o);
    struct yk_sim_cluster_result r = run(&t, &o);
    assert_int_equal(r.steps[0].blocks, 1);
    assert_int_equal(r.steps[YK_SIM_STEPS - 1].blocks, 6);
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
}

static void test_decode_shares_its_steps(void **state) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o;
    struct cost cost;
    (void)state;
    yk_sim_cluster_opts_init(&o);
    assert_int_equal(cost_init(&cost, &o, NULL), 0);
    add_tokens(&t, 0, 100, 2, 1000, 101);
    add_tokens(&t, 0, 200, 2, 1000, 101);
    struct yk_sim_cluster_result r = run(&t, &o);
    double prefill = cost_prefill_s(&cost, 0, 1000), one = cost_step_s(&cost, 1, 1050), two = cost_step_s(&cost, 2, 2100);
    double alone = prefill / one, together = 100 - alone; /* steps of the first */
    assert_true(alone < 100 && two > one);
    double second = together * two + (100 - together) * one;
    assert_near(r.ended_s, 2 * prefill + second, 1e-6);
    assert_near(yk_hist_mean(&r.tbt) * 1e-9, (prefill + together * two + second) / 200, 1e-4);
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
}

/* ---- the directory ---- */

static void test_the_directory_is_what_the_tiers_have(void **state) {
    enum { BLOCKS = 300, NODES = 3 };
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o;
    struct copies s;
    static uint8_t in[NODES * YK_SIM_TIERS][BLOCKS];
    uint64_t random = 3;
    (void)state;
    memset(in, 0, sizeof(in));
    for (uint32_t i = 0; i < BLOCKS; i++)
        add_tokens(&t, 0, i, 1, 512, 1);
    yk_sim_cluster_opts_init(&o);
    o.nodes = NODES;
    o.blocks[YK_SIM_VRAM] = 5;
    o.blocks[YK_SIM_DRAM] = 60;
    o.blocks[YK_SIM_SSD] = 150;
    assert_int_equal(copies_init(&s, &t, &o, NULL), 0);
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t cache = (uint32_t)(random_unit(&random) * NODES * YK_SIM_TIERS);
        uint32_t block = (uint32_t)(random_unit(&random) * BLOCKS), gone;
        if (i % 997 == 996) {
            copies_lose(&s, cache);
            memset(in[cache], 0, sizeof(in[cache]));
            assert_true(s.cache[cache].count == 0 && yk_policy_count(s.cache[cache].policy) == 0);
        }
        assert_int_equal(copies_use(&s, cache, block, NONE, &gone), 0);
        in[cache][block] = 1;
        if (gone != NONE) {
            assert_true(in[cache][gone] == 1 && gone != block);
            in[cache][gone] = 0;
        }
        uint32_t looked = (uint32_t)(random_unit(&random) * BLOCKS), copies = 0, listed = 0;
        for (uint32_t k = 0; k < NODES * YK_SIM_TIERS; k++) {
            copies += in[k][looked];
            assert_int_equal(copies_find(&s, k, looked) != NONE, in[k][looked]);
        }
        for (uint32_t place = s.first[looked]; place != NONE; place = s.copy[place].next, listed++)
            assert_true(s.copy[place].block == looked && in[s.copy[place].cache][looked]);
        assert_int_equal(listed, copies);
    }
    copies_fini(&s);
    yk_sim_trace_fini(&t);
}

/* ---- between nodes ---- */

static struct yk_sim_cluster_opts two_nodes(enum yk_sim_router router) {
    struct yk_sim_cluster_opts o;
    yk_sim_cluster_opts_init(&o);
    o.nodes = 2;
    o.router = router;
    return o;
}

static void test_routers(void **state) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o = two_nodes(YK_SIM_ROUND_ROBIN);
    struct cost cost;
    (void)state;
    assert_int_equal(cost_init(&cost, &o, NULL), 0);
    add_tokens(&t, 0, 100, 20, 20 * 512, 1);
    add_tokens(&t, 100000, 100, 20, 20 * 512, 1);
    struct yk_sim_cluster_result r = run(&t, &o);
    assert_true(r.hits[YK_SIM_REMOTE] == 20 && r.node[0].sent_bytes == 20 * cost.block_bytes);
    assert_true(r.node[0].requests == 1 && r.node[1].requests == 1 && r.cross_zone_bytes == 0);
    yk_sim_cluster_result_fini(&r);
    o.zones = 2;
    r = run(&t, &o);
    assert_true(r.cross_zone_bytes == 20 * cost.block_bytes && r.uplink_utilisation > 0);
    yk_sim_cluster_result_fini(&r);
    o = two_nodes(YK_SIM_CACHE_AWARE);
    r = run(&t, &o);
    assert_true(r.hits[YK_SIM_DRAM] == 20 && r.asked_bytes[YK_SIM_REMOTE] == 0);
    yk_sim_cluster_result_fini(&r);
    /* At once: the shorter queue. */
    t.reqs[1].at_ms = 0;
    o = two_nodes(YK_SIM_LEAST_LOADED);
    r = run(&t, &o);
    assert_true(r.node[0].requests == 1 && r.node[1].requests == 1);
    assert_near(r.ended_s, cost_prefill_s(&cost, 0, 20 * 512), 1e-9);
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
}

static uint64_t hits_after_a_copy_was_read(enum yk_sim_replicas replicas) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o = two_nodes(YK_SIM_ROUND_ROBIN);
    o.replicas = replicas;
    o.blocks[YK_SIM_DRAM] = 30;
    add_tokens(&t, 0, 100, 10, 10 * 512, 1);
    add_tokens(&t, 100000, 200, 1, 512, 1);
    add_tokens(&t, 200000, 300, 20, 20 * 512, 1);
    add_tokens(&t, 300000, 300, 20, 20 * 512, 1); /* by the other node, from the first */
    add_tokens(&t, 400000, 400, 15, 15 * 512, 1); /* pushes out as many */
    add_tokens(&t, 500000, 200, 1, 512, 1);
    add_tokens(&t, 600000, 100, 10, 10 * 512, 1);
    struct yk_sim_cluster_result r = run(&t, &o);
    uint64_t hits = r.hits[YK_SIM_DRAM];
    assert_int_equal(r.hits[YK_SIM_REMOTE], 20);
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
    return hits;
}

/* The copy that another node has now goes before what was used earlier and is here alone. */
static void test_copies_that_were_read_yield(void **state) {
    (void)state;
    assert_int_equal(hits_after_a_copy_was_read(YK_SIM_KEEP), 1);
    assert_int_equal(hits_after_a_copy_was_read(YK_SIM_YIELD), 11);
}

static double waited_s(enum yk_sim_order order, uint64_t short_ones) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o;
    yk_sim_cluster_opts_init(&o);
    o.order = order;
    add_tokens(&t, 0, 100, 60, 60 * 512, 1);
    add_tokens(&t, 0, 200, 60, 60 * 512, 1);
    for (uint64_t i = 0; i < short_ones; i++)
        add_tokens(&t, 1, 300 + i, 1, 512, 1);
    struct yk_sim_cluster_result r = run(&t, &o);
    double waited = r.queued_s;
    assert_int_equal(r.finished, 2 + short_ones);
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
    return waited;
}

/* A short one does not wait for all the long ones that came before it. */
static void test_the_order_of_turns(void **state) {
    struct yk_sim_cluster_opts o;
    struct cost cost;
    (void)state;
    yk_sim_cluster_opts_init(&o);
    assert_int_equal(cost_init(&cost, &o, NULL), 0);
    double c = cost_prefill_s(&cost, 0, 60 * 512), s = cost_prefill_s(&cost, 0, 512);
    assert_near(waited_s(YK_SIM_BY_ARRIVAL, 2), c + 2 * c - 0.001 + 2 * c + s - 0.001, 1e-9);
    assert_near(waited_s(YK_SIM_BY_RATIO, 2), c - 0.001 + c + s - 0.001 + c + 2 * s, 1e-9);
    assert_near(waited_s(YK_SIM_BY_RATIO, 0), c, 1e-9);
}

/* Uplinks are the narrow links: who knows of them sends less over them. */
static void test_the_router_knows_zones(void **state) {
    struct yk_sim_trace t = {0};
    double crossed[2];
    (void)state;
    generate_busy(&t, 1500);
    for (int i = 0; i < 2; i++) {
        struct yk_sim_cluster_opts o = two_nodes(i == 0 ? YK_SIM_LEAST_LOADED : YK_SIM_LEARNED_ROUTER);
        o.nodes = 8;
        o.zones = 4;
        o.oversubscription = 64;
        assert_int_equal(yk_sim_link_parse("rdma:1", &o.link, NULL), 0);
        struct yk_sim_cluster_result r = run(&t, &o);
        crossed[i] = r.cross_zone_bytes;
        yk_sim_cluster_result_fini(&r);
    }
    assert_true(crossed[1] > 0 && crossed[1] < crossed[0] / 2);
    yk_sim_trace_fini(&t);
}

/* What routers are told late they decide by late. */
static void test_what_routers_know_may_be_old(void **state) {
    struct yk_sim_trace t = {0};
    struct yk_sim_cluster_opts o = two_nodes(YK_SIM_CACHE_AWARE);
    (void)state;
    add_tokens(&t, 0, 100, 20, 20 * 512, 1);
    add_tokens(&t, 50000, 100, 20, 20 * 512, 1);
    o.directory_s = 100;
    struct yk_sim_cluster_result r = run(&t, &o);
    assert_true(r.hits[YK_SIM_REMOTE] == 20 && r.node[1].requests == 1);
    yk_sim_cluster_result_fini(&r);
    o.directory_s = 40;
    r = run(&t, &o);
    assert_true(r.hits[YK_SIM_DRAM] == 20 && r.node[0].requests == 2);
    yk_sim_cluster_result_fini(&r);
    yk_sim_trace_fini(&t);
    t = (struct yk_sim_trace){0};
    o = two_nodes(YK_SIM_LEAST_LOADED);
    add_tokens(&t, 0, 100, 60, 60 * 512, 1);
    add_tokens(&t, 0, 200, 1, 512, 1);
    add_tokens(&t, 1, 300, 1, 512, 1);
    for (int late = 0; late < 2; late++) {
        o.report_s = late ? 10 : 0;
        r = run(&t, &o);
        assert_int_equal(r.node[0].requests, late ? 2 : 1);
        yk_sim_cluster_result_fini(&r);
    }
    yk_sim_trace_fini(&t);
}

/* However many nodes fail, all requests end, each counted once; and the same ones fail again. */
static void test_nodes_fail(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    generate_busy(&t, 1500);
    for (int router = 0; yk_sim_router_names[router] != NULL; router++) {
        struct yk_sim_cluster_opts o = two_nodes((enum yk_sim_router)router);
        o.nodes = 4;
        o.blocks[YK_SIM_VRAM] = 100;
        o.blocks[YK_SIM_DRAM] = 300;
        o.blocks[YK_SIM_SSD] = 1000;
        o.mtbf_s = 20;
        struct yk_sim_cluster_result r = run(&t, &o), again = run(&t, &o);
        assert_true(r.requests == t.req_count && r.finished == t.req_count && r.blocks == t.block_count);
        assert_true(r.failures > 10 && r.repeated > 10 && r.ttft.count == t.req_count);
        assert_true(r.failures == again.failures && r.repeated == again.repeated && r.ended_s == again.ended_s);
        yk_sim_cluster_result_fini(&r);
        yk_sim_cluster_result_fini(&again);
        o.mtbf_s = 0;
        again = run(&t, &o);
        assert_true(again.failures == 0 && again.repeated == 0);
        yk_sim_cluster_result_fini(&again);
    }
    yk_sim_trace_fini(&t);
}

static void refuse(const struct yk_sim_trace *t, const struct yk_sim_cluster_opts *o, const char *said) {
    struct yk_sim_cluster_result r = {.requests = 77};
    struct yk_err err = {0};
    assert_int_equal(yk_sim_cluster_run(t, o, &r, &err), -YK_EINVAL);
    if (strstr(err.text, said) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, said);
    assert_int_equal(r.requests, 77);
}

static void test_refuses_what_makes_no_sense(void **state) {
    struct yk_sim_trace t = {0}, empty = {0};
    struct yk_sim_cluster_opts good, o;
    struct yk_sim_link link;
    (void)state;
    add_tokens(&t, 0, 1, 1, 512, 1);
    yk_sim_cluster_opts_init(&good);
#define REFUSED(said, ...)                                                                         \
    do {                                                                                           \
        o = good;                                                                                  \
        __VA_ARGS__;                                                                               \
        refuse(&t, &o, said);                                                                      \
    } while (0)
    REFUSED("nodes", o.nodes = 0);
    REFUSED("nodes", o.nodes = YK_SIM_NODES_MAX + 1);
    REFUSED("zones", o.zones = 2);
    REFUSED("room", o.blocks[YK_SIM_DRAM] = 0);
    REFUSED("SSD", o.blocks[YK_SIM_DRAM] = 0; o.blocks[YK_SIM_VRAM] = 1; o.blocks[YK_SIM_SSD] = 1);
    REFUSED("'arc'", o.policy = "arc");
    REFUSED("'x'", o.model = "x");
    REFUSED("'y'", o.gpu = "y");
    REFUSED("load", o.load = 0);
    REFUSED("load", o.load = NAN);
    REFUSED("range", o.directory_s = -1);
    REFUSED("fail", o.mtbf_s = 0.5);
    REFUSED("capacity", o.nodes = 10000; o.blocks[YK_SIM_DRAM] = 60000000);
    refuse(&empty, &good, "request");
    static const char *const links[] = {"", "tcp:2", "rdma:", "rdma:0", "rdma:65", "rdma:x", "infiniband"};
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        assert_int_equal(yk_sim_link_parse(links[i], &link, NULL), -YK_EINVAL);
    assert_int_equal(yk_sim_link_parse("rdma:4", &link, NULL), 0);
    assert_near(link.bytes_s, 4 * 22.5e9, 1e-12);
    yk_sim_trace_fini(&t);
}

/* Traces that are odd in every way end, with all their requests. */
static void test_odd_traces_end_well(void **state) {
    uint64_t twice[] = {1, 1, 2, 1}, back[] = {2, 1};
    struct yk_sim_trace t = {0};
    (void)state;
    add_at(&t, 5, twice, 4);
    add_at(&t, 5, back, 2);
    add_at(&t, 0, twice, 0); /* nothing, and back in time */
    add_tokens(&t, 0, 9, 3, 0, 0);
    add_tokens(&t, UINT64_C(1) << 40, 9, 3, UINT32_MAX, 5);
    for (int router = 0; yk_sim_router_names[router] != NULL; router++)
        for (uint32_t capacity = 1; capacity < 4; capacity++) {
            struct yk_sim_cluster_opts o = two_nodes((enum yk_sim_router)router);
            o.blocks[YK_SIM_DRAM] = o.blocks[YK_SIM_VRAM] = o.blocks[YK_SIM_SSD] = capacity;
            struct yk_sim_cluster_result r = run(&t, &o);
            assert_int_equal(r.finished, 5);
            yk_sim_cluster_result_fini(&r);
        }
    yk_sim_trace_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_node_hits_what_one_cache_hits),
        cmocka_unit_test(test_an_unlimited_ssd_misses_only_what_never_was),
        cmocka_unit_test(test_what_was_written_early_is_not_dropped),
        cmocka_unit_test(test_nothing_is_lost_and_runs_repeat),
        cmocka_unit_test(test_a_queue_waits_as_theory_says),
        cmocka_unit_test(test_flows_share_a_link),
        cmocka_unit_test(test_a_crowd_shares_a_link),
        cmocka_unit_test(test_compute_follows_the_load),
        cmocka_unit_test(test_what_is_late_is_in_the_last_step),
        cmocka_unit_test(test_decode_shares_its_steps),
        cmocka_unit_test(test_the_directory_is_what_the_tiers_have),
        cmocka_unit_test(test_routers),
        cmocka_unit_test(test_copies_that_were_read_yield),
        cmocka_unit_test(test_the_order_of_turns),
        cmocka_unit_test(test_the_router_knows_zones),
        cmocka_unit_test(test_what_routers_know_may_be_old),
        cmocka_unit_test(test_nodes_fail),
        cmocka_unit_test(test_refuses_what_makes_no_sense),
        cmocka_unit_test(test_odd_traces_end_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
