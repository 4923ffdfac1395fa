/* SPDX-License-Identifier: Apache-2.0
 *
 * What the simulator's tests share: cmocka's includes, and traces from the generator or by hand.
 */
#ifndef YK_TEST_SIM_TESTING_H
#define YK_TEST_SIM_TESTING_H

#include "sim/sim.h"
#include "trace/gen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline void add_at(struct yk_sim_trace *t, uint64_t at_ms, uint64_t *ids, uint32_t n) {
    struct yk_trace_req req = {.timestamp_ms = at_ms, .hash_ids = ids, .n = n, .input_length = n * 512};
    assert_int_equal(yk_sim_trace_add(t, &req, NULL), 0);
}

/* One kind of the generator (enum yk_trace_kind); contexts of 64 blocks, so that small capacities matter. */
static inline void generate(struct yk_sim_trace *t, int kind, uint64_t seed, uint64_t requests) {
    struct yk_trace_gen_opts opts;
    struct yk_trace_gen *gen;
    struct yk_trace_req req;
    int rc;
    yk_trace_gen_opts_init(&opts);
    opts.seed = seed;
    opts.requests = requests;
    opts.block_tokens = 2048;
    memset(opts.mix, 0, sizeof(opts.mix));
    opts.mix[kind] = 1;
    assert_int_equal(yk_trace_gen_new(&opts, &gen, NULL), 0);
    while ((rc = yk_trace_gen_next(gen, &req, NULL)) == 1)
        assert_int_equal(yk_sim_trace_add(t, &req, NULL), 0);
    assert_int_equal(rc, 0);
    yk_trace_gen_free(gen);
}

static inline uint64_t hits_of(const struct yk_sim_trace *t, const char *policy, uint32_t capacity,
                               uint64_t seed) {
    struct yk_sim_opts opts = {.policy = policy, .capacity = capacity, .seed = seed};
    struct yk_sim_result r;
    assert_int_equal(yk_sim_run(t, &opts, &r, NULL), 0);
    assert_true(r.blocks == t->block_count && r.requests == t->req_count && r.hit_blocks <= r.blocks);
    return r.hit_blocks;
}

#endif
