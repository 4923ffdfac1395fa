/* SPDX-License-Identifier: Apache-2.0
 *
 * The router ranks by queue, transfer and compute: made cases in which each of them decides; what it learns from
 * outcomes; admission; spreading; nodes that lie.
 */
#include "testing.h"

#include "sched/route.h"

#include <math.h>

#define BLOCK_TOKENS 512u
#define BLOCK_BYTES  (64u << 20)
#define NODES        8u

/* 1 ms a token and nothing else, so that times can be read off. */
static const struct yk_router_opts plain = {
    .nodes_max = 64, .decisions_max = 256, .good_share = -1, .near_share = -1, .compute = {{0, 1, 0}}, .seed = 1,
};

struct rig {
    struct yk_router *router;
    struct yk_router_node nodes[NODES];
    struct yk_router_source sources[NODES][3];
    struct yk_router_request request;
    struct yk_router_choice choices[NODES];
    struct yk_router_answer answer;
};

/* Four nodes that are idle and have nothing, and a request of ten blocks and half of one more. */
static void make(struct rig *r, const struct yk_router_opts *opts) {
    *r = (struct rig){.request = {.now_ms = 1000, .tokens = 10 * BLOCK_TOKENS + BLOCK_TOKENS / 2, .blocks = 10,
                                  .block_tokens = BLOCK_TOKENS, .block_bytes = BLOCK_BYTES, .chain = 77}};
    assert_int_equal(yk_router_new(opts, &r->router), 0);
    for (uint32_t i = 0; i < NODES; i++)
        r->nodes[i] = (struct yk_router_node){.id = i, .reported_ms = 1000, .sources = r->sources[i]};
}

static void source(struct rig *r, uint32_t node, enum yk_router_from from, uint32_t blocks, double bytes_s) {
    struct yk_router_node *n = &r->nodes[node];
    r->sources[node][n->n_sources++] = (struct yk_router_source){.from = from, .blocks = blocks, .bytes_s = bytes_s, .peer = 7};
}

static const struct yk_router_choice *rank(struct rig *r, uint32_t n) {
    assert_int_equal(yk_router_rank(r->router, &r->request, r->nodes, n, r->choices, NODES, &r->answer), 0);
    return r->choices;
}

static const struct yk_router_choice *choice_of(const struct rig *r, uint32_t id) {
    for (uint32_t i = 0; i < r->answer.ranked; i++)
        if (r->choices[i].id == id)
            return &r->choices[i];
    fail();
    return NULL;
}

static void about(double value, double expected) {
    if (fabs(value - expected) > 0.001 + 0.001 * fabs(expected))
        fail_msg("%g is not about %g", value, expected);
}

/* ---- each term decides ---- */

static void who_has_the_chain_computes_less(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 2, YK_ROUTER_VRAM, 10, 0);
    source(&r, 1, YK_ROUTER_VRAM, 4, 0);
    rank(&r, 4);
    assert_int_equal(r.answer.ranked, 4);
    assert_int_equal(r.choices[0].id, 2);
    assert_int_equal(r.choices[1].id, 1);
    assert_int_equal(r.choices[0].new_tokens, BLOCK_TOKENS / 2);
    assert_int_equal(r.choices[0].fetch[YK_ROUTER_VRAM], 10);
    assert_int_equal(r.choices[0].compute_blocks, 0);
    about(r.choices[0].ttft_s, 0.256);
    about(r.choices[1].ttft_s, 5.376 - 4 * 0.512);
    yk_router_free(r.router);
}

static void a_long_queue_costs_more_than_computing(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 2, YK_ROUTER_VRAM, 10, 0);
    r.nodes[2].waiting = 2;
    r.nodes[2].waiting_tokens = 6000;
    rank(&r, 4);
    assert_int_not_equal(r.choices[0].id, 2);
    assert_int_equal(choice_of(&r, 2), &r.choices[3]);
    about(r.choices[3].queue_s, 6.0);
    about(r.choices[3].ttft_s, 6.256);
    yk_router_free(r.router);
}

/* 10 blocks of 64 MiB: 0.67 s at 1 GB/s, 67 s at 10 MB/s, where computing takes 5.1. */
static void blocks_are_fetched_where_that_is_cheaper(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 0, YK_ROUTER_PEER, 10, 1e9);
    source(&r, 1, YK_ROUTER_PEER, 10, 1e7);
    rank(&r, 2);
    assert_int_equal(r.choices[0].id, 0);
    assert_int_equal(r.choices[0].fetch[YK_ROUTER_PEER], 10);
    assert_int_equal(r.choices[0].peer, 7);
    assert_int_equal(r.choices[0].transfer_bytes, 10ull * BLOCK_BYTES);
    about(r.choices[0].transfer_s, 0.671);
    assert_int_equal(r.choices[1].fetch[YK_ROUTER_PEER], 0);
    assert_int_equal(r.choices[1].compute_blocks, 10);
    assert_int_equal(r.choices[1].peer, YK_ROUTER_NOBODY);
    about(r.choices[1].ttft_s, 5.376);
    yk_router_free(r.router);
}

/* DRAM has six, SSD eight, a peer all: each gives what the quicker have not. */
static void each_part_comes_from_the_quickest(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 0, YK_ROUTER_PEER, 10, 1e9);
    source(&r, 0, YK_ROUTER_SSD, 8, 3e9);
    source(&r, 0, YK_ROUTER_DRAM, 6, 2e10);
    rank(&r, 1);
    assert_int_equal(r.choices[0].fetch[YK_ROUTER_DRAM], 6);
    assert_int_equal(r.choices[0].fetch[YK_ROUTER_SSD], 2);
    assert_int_equal(r.choices[0].fetch[YK_ROUTER_PEER], 2);
    about(r.choices[0].transfer_s, BLOCK_BYTES * (6 / 2e10 + 2 / 3e9 + 2 / 1e9));
    yk_router_free(r.router);
}

/* A loaded link is as slow as what is left of it; a slow part is computed, and the quick one fetched. */
static void a_loaded_link_is_avoided(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 0, YK_ROUTER_DRAM, 5, 2e10);
    source(&r, 0, YK_ROUTER_PEER, 10, 1e9);
    source(&r, 1, YK_ROUTER_PEER, 10, 1e9);
    r.sources[0][1].load = 0.95;
    rank(&r, 2);
    assert_int_equal(r.choices[0].id, 1);
    assert_int_equal(choice_of(&r, 0)->fetch[YK_ROUTER_DRAM], 5);
    assert_int_equal(choice_of(&r, 0)->fetch[YK_ROUTER_PEER], 0);
    yk_router_free(r.router);
}

static void quicker_nodes_compute_in_less(void **state) {
    struct rig r;
    make(&r, &plain);
    r.nodes[3].tokens_s = 4000;
    r.nodes[2].tokens_s = 500;
    rank(&r, 4);
    assert_int_equal(r.choices[0].id, 3);
    about(r.choices[0].compute_s, 5.376 / 4);
    assert_int_equal(r.choices[3].id, 2);
    yk_router_free(r.router);
}

static void transfers_may_hide_behind_the_queue(void **state) {
    struct yk_router_opts opts = plain;
    struct rig r;
    opts.overlap = 1;
    make(&r, &opts);
    source(&r, 0, YK_ROUTER_PEER, 10, 1e8); /* 0.67 s a block, 0.512 to compute it */
    rank(&r, 1);
    assert_int_equal(r.choices[0].fetch[YK_ROUTER_PEER], 0);
    r.nodes[0].waiting = 1;
    r.nodes[0].waiting_tokens = 3000;
    rank(&r, 1);
    assert_int_equal(r.choices[0].fetch[YK_ROUTER_PEER], 4); /* of 3 s */
    about(r.choices[0].transfer_s, 0);
    about(r.choices[0].ttft_s, 3 + 5.376 - 4 * 0.512);
    yk_router_free(r.router);
}

static void only_the_best_are_written(void **state) {
    struct rig r;
    make(&r, &plain);
    for (uint32_t i = 0; i < NODES; i++)
        source(&r, i, YK_ROUTER_VRAM, i, 0);
    assert_int_equal(yk_router_rank(r.router, &r.request, r.nodes, NODES, r.choices, 3, &r.answer), 0);
    assert_int_equal(r.answer.ranked, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(r.choices[i].id, NODES - 1 - i);
    assert_int_equal(yk_router_rank(r.router, &r.request, r.nodes, 65, r.choices, 3, &r.answer), -YK_EINVAL);
    yk_router_free(r.router);
}

/* ---- decisions ---- */

static void what_was_decided_counts_until_it_is_reported(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 2, YK_ROUTER_VRAM, 4, 0);
    for (uint32_t i = 0; i < 3; i++) {
        rank(&r, 4);
        yk_router_take(r.router, &r.request, &r.choices[0]);
    }
    /* The first went to who has something; it is busy with it for 3.3 s, and the others are not. */
    assert_int_equal(choice_of(&r, 2)->in_flight, 1);
    rank(&r, 4);
    about(choice_of(&r, 2)->queue_s, 3.328);
    r.nodes[2].reported_ms = 1001;
    r.request.now_ms = 1002;
    rank(&r, 4);
    assert_int_equal(r.choices[0].id, 2);
    assert_int_equal(r.choices[0].in_flight, 0);
    yk_router_free(r.router);
}

static void what_is_dropped_or_over_counts_no_more(void **state) {
    const struct yk_router_outcome unknown = {-1, -1, -1, -1, 0};
    struct rig r;
    make(&r, &plain);
    rank(&r, 1);
    uint64_t first = yk_router_take(r.router, &r.request, &r.choices[0]);
    uint64_t second = yk_router_take(r.router, &r.request, &r.choices[0]);
    assert_true(first != 0 && second != first);
    assert_int_equal(yk_router_drop(r.router, first), 0);
    assert_int_equal(yk_router_drop(r.router, first), YK_MISS);
    assert_int_equal(rank(&r, 1)->in_flight, 1);
    assert_int_equal(yk_router_outcome(r.router, second, &unknown), 0);
    assert_int_equal(yk_router_outcome(r.router, second, &unknown), YK_MISS);
    assert_int_equal(yk_router_outcome(r.router, 0, &unknown), YK_MISS);
    assert_int_equal(yk_router_outcome(r.router, UINT64_MAX, &unknown), YK_MISS);
    assert_int_equal(rank(&r, 1)->in_flight, 0);
    about(rank(&r, 1)->queue_s, 0);
    yk_router_free(r.router);
}

/* Nobody reports, nobody tells outcomes: what is in flight is bounded by the table, and ends by age. */
static void a_flood_of_decisions_is_bounded(void **state) {
    struct rig r;
    make(&r, &plain);
    rank(&r, 1);
    for (uint32_t i = 0; i < 100000; i++)
        yk_router_take(r.router, &r.request, &r.choices[0]);
    assert_int_equal(rank(&r, 1)->in_flight, plain.decisions_max);
    r.request.now_ms += 1000000;
    assert_int_equal(rank(&r, 1)->in_flight, 0);
    yk_router_free(r.router);
}

/* 0.3 s longer, of 5.4, and three blocks less to compute; then 3 s longer. */
static void of_about_as_good_ones_the_thrifty_is_first(void **state) {
    struct yk_router_opts opts = plain;
    struct rig r;
    opts.good_share = 0.2;
    opts.good_s = 0.01;
    make(&r, &opts);
    source(&r, 2, YK_ROUTER_VRAM, 3, 0);
    r.nodes[2].waiting = 1;
    r.nodes[2].waiting_tokens = 3 * BLOCK_TOKENS + 300;
    rank(&r, 4);
    assert_int_equal(r.choices[0].id, 2);
    assert_true(r.answer.thrifty);
    assert_true(r.choices[0].ttft_s > r.choices[1].ttft_s);
    r.nodes[2].waiting_tokens += 2700;
    rank(&r, 4);
    assert_int_not_equal(r.choices[0].id, 2);
    assert_false(r.answer.thrifty);
    r.nodes[2].waiting_tokens -= 2700;
    r.request.objective_s = r.choices[0].worse_s + 0.001; /* what is late is not as good */
    rank(&r, 4);
    assert_int_not_equal(r.choices[0].id, 2);
    yk_router_free(r.router);
}

/* What comes pushes something out: of nodes that are as good it goes where that was of no use for longest, and a node
 * that is clearly quicker is taken all the same. */
static void of_equal_ones_the_roomiest_is_first(void **state) {
    struct yk_router_opts opts = plain;
    struct rig r;
    opts.good_share = 0;
    make(&r, &opts);
    for (uint32_t i = 0; i < 4; i++)
        r.nodes[i].idle_s = i == 2 ? 900 : 60;
    assert_int_equal(rank(&r, 4)[0].id, 2);
    r.nodes[2].waiting = 1;
    r.nodes[2].waiting_tokens = 3000;
    assert_int_not_equal(rank(&r, 4)[0].id, 2);
    r.nodes[2].waiting = 0;
    r.nodes[2].waiting_tokens = 0;
    r.nodes[1].idle_s = NAN;
    assert_int_equal(rank(&r, 4)[0].id, 2);
    yk_router_free(r.router);
}

/* A prompt of which most is there has few tokens to compute, each of which looks at all before it. A report of tokens
 * does not show that; what was decided for the node does. */
static void what_waits_is_known_by_what_was_decided(void **state) {
    const struct yk_router_opts opts = {.nodes_max = 64, .good_share = -1, .near_share = -1, .compute = {{0, 0, 1}}};
    struct rig r;
    make(&r, &opts);
    r.request.blocks = 100;
    r.request.tokens = 100 * BLOCK_TOKENS + 512;
    source(&r, 1, YK_ROUTER_VRAM, 100, 0);
    rank(&r, 2);
    assert_int_equal(r.choices[0].id, 1);
    double works_s = r.choices[0].compute_s;
    uint64_t first = yk_router_take(r.router, &r.request, &r.choices[0]);
    /* The next report knows of it, as of one request that has 512 tokens to go. */
    r.request.now_ms += 2000;
    r.nodes[0].reported_ms = r.nodes[1].reported_ms = r.request.now_ms;
    r.nodes[1].waiting = 1;
    r.nodes[1].waiting_tokens = 512;
    rank(&r, 2);
    about(choice_of(&r, 1)->queue_s, works_s - 2);
    /* Over, by its outcome: what waits now is of others, and is as long as it is said to be. */
    struct yk_router_outcome outcome = {.queue_s = 0, .transfer_s = 0, .compute_s = works_s, .ttft_s = works_s};
    assert_int_equal(yk_router_outcome(r.router, first, &outcome), 0);
    rank(&r, 2);
    assert_true(choice_of(&r, 1)->queue_s < 1);
    yk_router_free(r.router);
}

static void equal_nodes_share(void **state) {
    struct yk_router_opts opts = plain;
    struct rig r;
    uint32_t got[4] = {0};
    opts.near_share = 0.05;
    make(&r, &opts);
    r.request.tokens = 100;
    r.request.blocks = 0;
    for (uint32_t i = 0; i < 400; i++) {
        r.request.now_ms += 5;
        for (uint32_t k = 0; k < 4; k++)
            r.nodes[k].reported_ms = r.request.now_ms; /* and never a queue */
        rank(&r, 4);
        assert_true(r.answer.drawn);
        got[r.choices[0].id]++;
    }
    for (uint32_t k = 0; k < 4; k++)
        assert_in_range(got[k], 50, 200);
    yk_router_free(r.router);
}

/* The only holder of a chain that all want is busy with it: others take it over, and are told to keep it. */
static void a_hot_chain_spreads(void **state) {
    struct rig r;
    uint32_t elsewhere = 0;
    make(&r, &plain);
    source(&r, 0, YK_ROUTER_VRAM, 10, 0);
    for (uint32_t i = 1; i < 4; i++)
        source(&r, i, YK_ROUTER_PEER, 10, 1e9);
    rank(&r, 4);
    assert_false(r.answer.hot);
    assert_int_equal(r.choices[0].id, 0);
    for (uint32_t i = 0; i < 40; i++) {
        r.request.now_ms += 50;
        rank(&r, 4);
        yk_router_take(r.router, &r.request, &r.choices[0]);
        if (r.choices[0].id != 0) {
            elsewhere++;
            assert_int_equal(r.choices[0].fetch[YK_ROUTER_PEER], 10);
            assert_int_equal(r.answer.replicate, r.answer.hot);
        } else {
            assert_false(r.answer.replicate);
        }
    }
    assert_true(r.answer.hot);
    assert_in_range(elsewhere, 20, 35);
    yk_router_free(r.router);
}

static void chains_that_come_once_push_out_no_hot_one(void **state) {
    struct yk_router_opts opts = plain;
    struct rig r;
    opts.chains_max = 64;
    make(&r, &opts);
    for (uint32_t i = 0; i < 20000; i++) {
        r.request.now_ms += 1;
        r.request.chain = i % 20 == 0 ? 77 : 1000 + i;
        rank(&r, 1);
        if (i % 20 != 0)
            assert_false(r.answer.hot);
    }
    r.request.chain = 77;
    rank(&r, 1);
    assert_true(r.answer.hot);
    yk_router_free(r.router);
}

/* ---- admission ---- */

static void what_would_be_late_is_rejected(void **state) {
    struct rig r;
    make(&r, &plain);
    r.request.objective_s = 20;
    rank(&r, 2);
    assert_int_equal(r.answer.verdict, YK_ROUTER_ADMIT);
    assert_true(r.choices[0].worse_s > r.choices[0].ttft_s);
    /* The mean would do, and the worse cases not. */
    r.request.objective_s = 6;
    rank(&r, 2);
    assert_true(r.choices[0].ttft_s < 6);
    assert_int_equal(r.answer.verdict, YK_ROUTER_REJECT);
    about(r.answer.wait_s, 0); /* no queue: waiting does not help */
    r.request.objective_s = 20;
    r.nodes[0].waiting = r.nodes[1].waiting = 1;
    r.nodes[0].waiting_tokens = 30000;
    r.nodes[1].waiting_tokens = 20000;
    rank(&r, 2);
    assert_int_equal(r.answer.verdict, YK_ROUTER_REJECT);
    about(r.answer.wait_s, 25.376 - 20 / exp(0.4));
    r.nodes[1].waiting = 0;
    r.nodes[1].waiting_tokens = 0;
    rank(&r, 2);
    assert_int_equal(r.answer.verdict, YK_ROUTER_ADMIT);
    r.nodes[0].refuses = r.nodes[1].refuses = true;
    rank(&r, 2);
    assert_int_equal(r.answer.verdict, YK_ROUTER_NO_NODE);
    assert_int_equal(r.answer.ranked, 0);
    yk_router_free(r.router);
}

/* ---- learning ---- */

/* A node that computes at half the speed, with a queue a third longer than its work. */
static struct yk_router_outcome happened(const struct yk_router_choice *c, double slow) {
    struct yk_router_outcome o = {.queue_s = c->x_queue[1] * slow * 1.3 + 0.01,
                                  .transfer_s = c->x_transfer[1] * 2,
                                  .compute_s = 0.05 + slow * c->new_tokens / 1e3, .ttft_s = -1};
    return o;
}

static void it_learns_what_nodes_cost(void **state) {
    struct rig r;
    uint64_t rng = 17;
    struct yk_router_learned one, all;
    make(&r, &plain);
    for (uint32_t i = 0; i < 400; i++) {
        r.request.tokens = 500 + random_below(&rng, 8000);
        r.request.blocks = r.request.tokens / BLOCK_TOKENS;
        r.request.now_ms += 100;
        for (uint32_t k = 0; k < 2; k++) {
            r.nodes[k].reported_ms = r.request.now_ms;
            r.nodes[k].waiting = 1;
            r.nodes[k].waiting_tokens = random_below(&rng, 10000);
        }
        rank(&r, 2);
        for (uint32_t k = 0; k < 2; k++) {
            const struct yk_router_choice *c = choice_of(&r, k);
            struct yk_router_outcome o = happened(c, k == 0 ? 1 : 2);
            assert_int_equal(yk_router_outcome(r.router, yk_router_take(r.router, &r.request, c), &o), 0);
        }
    }
    r.request.tokens = 4000;
    r.request.blocks = 7;
    r.nodes[0].waiting_tokens = r.nodes[1].waiting_tokens = 0;
    r.nodes[0].waiting = r.nodes[1].waiting = 0;
    rank(&r, 3);
    assert_int_equal(r.choices[0].id, 0);
    assert_true(fabs(choice_of(&r, 0)->compute_s - 4.05) < 0.2);
    assert_true(fabs(choice_of(&r, 1)->compute_s - 8.05) < 0.4);
    assert_true(choice_of(&r, 2)->compute_s > 4.2); /* of which nothing is known: between them */
    assert_true(choice_of(&r, 2)->compute_s < 8);
    assert_int_equal(yk_router_learned(r.router, 1, &one), 0);
    assert_int_equal(yk_router_learned(r.router, YK_ROUTER_NOBODY, &all), 0);
    assert_int_equal(one.outcomes, 400);
    assert_int_equal(all.outcomes, 800);
    assert_true(one.compute.theta[1] > 1.8);
    yk_router_forget(r.router, 1);
    assert_int_equal(yk_router_learned(r.router, 1, &one), 0);
    assert_true(one.compute.theta[1] < 1.8);
    assert_int_equal(yk_router_learned(r.router, 64, &one), -YK_EINVAL);
    yk_router_free(r.router);
}

/* It says that its queue is empty, and has everybody wait five seconds. */
static void a_queue_that_is_denied_is_learned(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 0, YK_ROUTER_VRAM, 8, 0);
    assert_int_equal(rank(&r, 2)->id, 0);
    for (uint32_t i = 0; i < 60; i++) {
        r.request.now_ms += 1000;
        r.nodes[0].reported_ms = r.nodes[1].reported_ms = r.request.now_ms;
        rank(&r, 2);
        for (uint32_t k = 0; k < 2; k++) {
            struct yk_router_outcome o = {k == 0 ? 5 : 0, -1, choice_of(&r, k)->new_tokens / 1e3, -1, 0};
            yk_router_outcome(r.router, yk_router_take(r.router, &r.request, choice_of(&r, k)), &o);
        }
    }
    assert_int_equal(rank(&r, 2)->id, 1);
    yk_router_free(r.router);
}

/* It says that it has all of the chain, and computes all of it each time. */
static void blocks_that_are_not_there_are_no_longer_believed(void **state) {
    struct yk_router_learned learned;
    struct rig r;
    make(&r, &plain);
    source(&r, 0, YK_ROUTER_VRAM, 10, 0);
    source(&r, 1, YK_ROUTER_VRAM, 6, 0);
    assert_int_equal(rank(&r, 2)->id, 0);
    for (uint32_t i = 0; i < 40; i++) {
        struct yk_router_outcome o = {0, 0, 5.4, -1, r.request.tokens};
        r.request.now_ms += 1000;
        r.nodes[0].reported_ms = r.nodes[1].reported_ms = r.request.now_ms;
        rank(&r, 2);
        yk_router_outcome(r.router, yk_router_take(r.router, &r.request, choice_of(&r, 0)), &o);
    }
    assert_int_equal(rank(&r, 2)->id, 1);
    assert_int_equal(yk_router_learned(r.router, 0, &learned), 0);
    assert_true(learned.believed < 0.3);
    r.request.now_ms += 3600000; /* later it may prove better */
    r.nodes[0].reported_ms = r.nodes[1].reported_ms = r.request.now_ms;
    assert_int_equal(rank(&r, 2)->id, 0);
    yk_router_free(r.router);
}

/* ---- absurd things ---- */

static void a_silent_node_comes_last(void **state) {
    struct rig r;
    make(&r, &plain);
    source(&r, 0, YK_ROUTER_VRAM, 10, 0);
    r.request.now_ms = 100000;
    r.nodes[1].reported_ms = r.nodes[2].reported_ms = 95000;
    rank(&r, 3);
    assert_int_equal(r.choices[2].id, 0);
    assert_true(r.choices[2].silent);
    r.nodes[1].reported_ms = r.nodes[2].reported_ms = 1000; /* all are */
    assert_int_equal(rank(&r, 3)->id, 0);
    yk_router_free(r.router);
}

static void absurd_values_do_no_harm(void **state) {
    static const double absurd[] = {NAN, INFINITY, -INFINITY, -1, 0, 1e308, 5e-324};
    struct rig r;
    uint64_t rng = 99;
    make(&r, &plain);
    for (uint32_t i = 0; i < 20000; i++) {
        for (uint32_t k = 0; k < 4; k++) {
            struct yk_router_node *n = &r.nodes[k];
            n->id = random_below(&rng, 8) == 0 ? UINT32_MAX - k : k;
            n->waiting = random_below(&rng, 2) ? UINT32_MAX : 0;
            n->running = random_below(&rng, 2) ? UINT32_MAX : 0;
            n->waiting_tokens = random_below(&rng, 2) ? UINT64_MAX : 0;
            n->tokens_s = absurd[random_below(&rng, 7)];
            n->reported_ms = random_below(&rng, 2) ? UINT64_MAX : 0;
            n->n_sources = random_below(&rng, 4);
            for (uint32_t s = 0; s < 3; s++)
                r.sources[k][s] = (struct yk_router_source){(enum yk_router_from)random_below(&rng, 6), UINT32_MAX,
                                                            absurd[random_below(&rng, 7)],
                                                            absurd[random_below(&rng, 7)],
                                                            absurd[random_below(&rng, 7)], 9};
        }
        r.request = (struct yk_router_request){random_below(&rng, 1000), random_below(&rng, 2) ? UINT32_MAX : 0,
                                               random_below(&rng, 2) ? UINT32_MAX : 0,
                                               random_below(&rng, 2) ? UINT32_MAX : 0,
                                               random_below(&rng, 2) ? UINT64_MAX : 0, UINT32_MAX,
                                               random_below(&rng, 100), absurd[random_below(&rng, 7)]};
        rank(&r, 4);
        for (uint32_t k = 0; k < r.answer.ranked; k++) {
            assert_true(r.choices[k].id < 4);
            assert_true(isfinite(r.choices[k].ttft_s) && r.choices[k].ttft_s >= 0);
        }
        struct yk_router_outcome o = {absurd[random_below(&rng, 7)], absurd[random_below(&rng, 7)],
                                      absurd[random_below(&rng, 7)], absurd[random_below(&rng, 7)],
                                      random_below(&rng, 2) ? UINT32_MAX : 0};
        if (r.answer.ranked > 0)
            yk_router_outcome(r.router, yk_router_take(r.router, &r.request, &r.choices[0]), &o);
    }
    yk_router_free(r.router);
}

static void options_out_of_range_are_refused(void **state) {
    struct yk_router_opts opts = {.quantile = 2};
    struct yk_router *router;
    assert_int_equal(yk_router_new(&opts, &router), -YK_EINVAL);
    opts = (struct yk_router_opts){.compute = {{0, NAN, 0}}};
    assert_int_equal(yk_router_new(&opts, &router), -YK_EINVAL);
    opts = (struct yk_router_opts){.nodes_max = YK_ROUTER_NODES_MAX + 1};
    assert_int_equal(yk_router_new(&opts, &router), -YK_EINVAL);
    assert_int_equal(yk_router_new(NULL, &router), 0);
    yk_router_free(router);
    yk_router_free(NULL);
}

static void the_same_seed_decides_the_same(void **state) {
    struct yk_router_opts opts = plain;
    uint32_t decided[2][200];
    opts.near_share = 0.05;
    for (int run = 0; run < 2; run++) {
        struct rig r;
        make(&r, &opts);
        for (uint32_t i = 0; i < 200; i++) {
            r.request.now_ms += 100;
            for (uint32_t k = 0; k < 4; k++)
                r.nodes[k].reported_ms = r.request.now_ms;
            rank(&r, 4);
            struct yk_router_outcome o = happened(&r.choices[0], 1);
            yk_router_outcome(r.router, yk_router_take(r.router, &r.request, &r.choices[0]), &o);
            decided[run][i] = r.choices[0].id;
        }
        yk_router_free(r.router);
    }
    assert_memory_equal(decided[0], decided[1], sizeof(decided[0]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_the_chain_computes_less),
        cmocka_unit_test(a_long_queue_costs_more_than_computing),
        cmocka_unit_test(blocks_are_fetched_where_that_is_cheaper),
        cmocka_unit_test(each_part_comes_from_the_quickest),
        cmocka_unit_test(a_loaded_link_is_avoided),
        cmocka_unit_test(quicker_nodes_compute_in_less),
        cmocka_unit_test(transfers_may_hide_behind_the_queue),
        cmocka_unit_test(only_the_best_are_written),
        cmocka_unit_test(what_was_decided_counts_until_it_is_reported),
        cmocka_unit_test(what_is_dropped_or_over_counts_no_more),
        cmocka_unit_test(a_flood_of_decisions_is_bounded),
        cmocka_unit_test(of_about_as_good_ones_the_thrifty_is_first),
        cmocka_unit_test(of_equal_ones_the_roomiest_is_first),
        cmocka_unit_test(what_waits_is_known_by_what_was_decided),
        cmocka_unit_test(equal_nodes_share),
        cmocka_unit_test(a_hot_chain_spreads),
        cmocka_unit_test(chains_that_come_once_push_out_no_hot_one),
        cmocka_unit_test(what_would_be_late_is_rejected),
        cmocka_unit_test(it_learns_what_nodes_cost),
        cmocka_unit_test(a_queue_that_is_denied_is_learned),
        cmocka_unit_test(blocks_that_are_not_there_are_no_longer_believed),
        cmocka_unit_test(a_silent_node_comes_last),
        cmocka_unit_test(absurd_values_do_no_harm),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(the_same_seed_decides_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
