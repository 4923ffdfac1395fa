/* SPDX-License-Identifier: Apache-2.0
 *
 * The generator: the same trace for the same options everywhere, sound prefixes, sorted times, the
 * shapes that each kind promises, and clear refusals.
 */
#include "testing.h"

#include "trace/gen.h"

#include <inttypes.h>

struct gathered {
    uint64_t digest; /* FNV-1a of the lines as written */
    uint64_t requests, blocks, input_tokens;
    uint64_t distinct; /* ids */
    uint64_t first_of_session, repeats, tools, last_ms, sessions;
    uint64_t longest; /* tokens */
};

#define IDS_MAX 400000u

/* What each id's predecessor was; ids are new when they are one above all before. */
static uint64_t parent_of[IDS_MAX];

static void check_prefix(struct gathered *g, const struct yk_trace_req *req) {
    for (uint32_t i = 0; i < req->n; i++) {
        uint64_t id = req->hash_ids[i], parent = i > 0 ? req->hash_ids[i - 1] : UINT64_MAX;
        assert_true(id < IDS_MAX);
        if (parent_of[id] == 0) { /* 0: not seen; otherwise the parent plus 2 */
            parent_of[id] = parent + 2;
            g->distinct++;
        }
        assert_true(parent_of[id] == parent + 2);
    }
}

static uint64_t fnv1a(uint64_t h, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void add_to_digest(struct gathered *g, const struct yk_trace_req *req) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(yk_trace_write(out, req), 0);
    fclose(out);
    g->digest = fnv1a(g->digest, text, len);
    free(text);
}

static struct gathered gather(const struct yk_trace_gen_opts *opts) {
    struct gathered g = {.digest = UINT64_C(0xcbf29ce484222325)};
    struct yk_trace_gen *gen;
    struct yk_trace_req req;
    struct yk_err err = {0};
    int rc;
    uint64_t last_id = UINT64_MAX;
    memset(parent_of, 0, sizeof(parent_of));
    assert_int_equal(yk_trace_gen_new(opts, &gen, &err), 0);
    while ((rc = yk_trace_gen_next(gen, &req, &err)) == 1) {
        uint32_t full = req.input_length / opts->block_tokens;
        assert_true(req.timestamp_ms >= g.last_ms);
        assert_true(req.input_length > 0 && req.input_length <= opts->max_context_tokens);
        assert_int_equal(req.n, full + (req.input_length % opts->block_tokens != 0));
        assert_true(req.output_length > 0);
        check_prefix(&g, &req);
        add_to_digest(&g, &req);
        g.requests++;
        g.blocks += req.n;
        g.input_tokens += req.input_length;
        g.tools += req.stop == YK_TRACE_STOP_TOOL;
        g.repeats += req.n > 0 && req.hash_ids[req.n - 1] == last_id;
        last_id = req.n > 0 ? req.hash_ids[req.n - 1] : UINT64_MAX;
        g.last_ms = req.timestamp_ms;
        g.sessions = req.session > g.sessions ? req.session : g.sessions;
        g.longest = req.input_length > g.longest ? req.input_length : g.longest;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(yk_trace_gen_next(gen, &req, &err), 0);
    yk_trace_gen_free(gen);
    return g;
}

static struct yk_trace_gen_opts opts_of(int kind, uint64_t requests) {
    struct yk_trace_gen_opts opts;
    yk_trace_gen_opts_init(&opts);
    opts.requests = requests;
    memset(opts.mix, 0, sizeof(opts.mix));
    opts.mix[kind] = 1;
    return opts;
}

/* If this changes, generated traces have changed for everybody who kept a seed: say so. */
static void the_trace_of_a_seed_never_changes(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts;
    yk_trace_gen_opts_init(&opts);
    struct gathered g = gather(&opts);
    assert_int_equal(g.requests, 1000);
    if (g.digest != UINT64_C(0x8202308ec2ed00d))
        fail_msg("digest is 0x%" PRIx64, g.digest);
    opts.arrival = YK_TRACE_BURSTY;
    opts.rate_per_s = 0.75;
    g = gather(&opts);
    if (g.digest != UINT64_C(0x3a23e5cf409c86b8))
        fail_msg("bursty digest is 0x%" PRIx64, g.digest);
}

static void seeds_differ(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts;
    yk_trace_gen_opts_init(&opts);
    uint64_t digest = gather(&opts).digest;
    opts.seed = 2;
    assert_true(gather(&opts).digest != digest);
    opts.seed = 0;
    assert_true(gather(&opts).digest != digest);
}

/* Unlimited memory would hit this many of a hundred blocks. */
static uint64_t reusable_percent(const struct gathered *g) {
    return 100 - g->distinct * 100 / g->blocks;
}

static void kinds_have_their_shapes(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts = opts_of(YK_TRACE_CHAT, 4000);
    opts.rate_per_s = 1;
    struct gathered g = gather(&opts);
    assert_in_range(g.sessions, 900, 1300); /* four turns in the mean, some still to come */
    assert_in_range(reusable_percent(&g), 50, 85);
    assert_int_equal(g.tools, 0);
    opts = opts_of(YK_TRACE_SHARED, 4000);
    g = gather(&opts);
    assert_int_equal(g.sessions, 4000);
    assert_in_range(reusable_percent(&g), 45, 75);
    opts = opts_of(YK_TRACE_AGENT, 4000);
    g = gather(&opts);
    assert_in_range(g.sessions, 100, 500);
    assert_in_range(g.tools, 4000 * 80 / 100, 4000 * 90 / 100);
    assert_in_range(reusable_percent(&g), 90, 99);
    assert_true(g.longest > opts.max_context_tokens * 9 / 10);
    opts = opts_of(YK_TRACE_DOCUMENT, 2000);
    g = gather(&opts);
    assert_in_range(g.input_tokens / g.requests, 30000, 50000);
    assert_in_range(reusable_percent(&g), 70, 97);
}

static void repeated_requests_share_their_partial_block(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts = opts_of(YK_TRACE_CHAT, 2000);
    opts.sessions = 1; /* alone, so a repeat follows its original */
    uint64_t repeats = 0, requests = 0;
    for (opts.seed = 1; opts.seed <= 200; opts.seed++) {
        struct gathered g = gather(&opts);
        repeats += g.repeats;
        requests += g.requests;
    }
    assert_in_range(requests, 600, 1000);
    assert_in_range(repeats * 1000 / requests, 10, 40); /* 3 % of turns after the first */
}

static void sessions_end_by_themselves(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts;
    yk_trace_gen_opts_init(&opts);
    opts.requests = 0;
    opts.sessions = 60;
    struct gathered g = gather(&opts);
    assert_int_equal(g.sessions, 60);
    assert_true(g.requests >= 60);
    opts.requests = 10;
    assert_int_equal(gather(&opts).requests, 10);
}

static void the_rate_is_kept(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts = opts_of(YK_TRACE_SHARED, 10000);
    for (int arrival = YK_TRACE_POISSON; arrival <= YK_TRACE_BURSTY; arrival++) {
        opts.arrival = (enum yk_trace_arrival)arrival;
        opts.rate_per_s = 4; /* some 40 phases of a bursty trace */
        struct gathered g = gather(&opts);
        assert_in_range(g.last_ms, 2500000 * 7 / 10, 2500000 * 13 / 10);
    }
}

/* The index of dispersion of counts in 10 s: 1 for Poisson, far above for bursts. */
static double dispersion(enum yk_trace_arrival arrival) {
    struct yk_trace_gen_opts opts = opts_of(YK_TRACE_SHARED, 10000);
    struct yk_trace_gen *gen;
    struct yk_trace_req req;
    double sum = 0, squares = 0;
    uint64_t window = 0, count = 0, windows = 0;
    opts.arrival = arrival;
    assert_int_equal(yk_trace_gen_new(&opts, &gen, NULL), 0);
    while (yk_trace_gen_next(gen, &req, NULL) == 1) {
        for (; window < req.timestamp_ms / 10000; window++) {
            sum += (double)count;
            squares += (double)(count * count);
            windows++;
            count = 0;
        }
        count++;
    }
    yk_trace_gen_free(gen);
    double mean = sum / (double)windows;
    return (squares / (double)windows - mean * mean) / mean;
}

static void bursts_are_bursts(void **state) {
    (void)state;
    double poisson = dispersion(YK_TRACE_POISSON);
    assert_true(poisson > 0.5 && poisson < 2);
    assert_true(dispersion(YK_TRACE_BURSTY) > 10);
}

static void the_mix_shares_out_requests(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts;
    struct yk_trace_gen *gen;
    struct yk_trace_req req;
    uint64_t tools = 0, requests = 0;
    yk_trace_gen_opts_init(&opts);
    memcpy(opts.mix, (uint32_t[]){1, 1, 2, 0}, sizeof(opts.mix));
    opts.requests = 0;
    opts.sessions = 3000;
    assert_int_equal(yk_trace_gen_new(&opts, &gen, NULL), 0);
    for (; yk_trace_gen_next(gen, &req, NULL) == 1; requests++)
        tools += req.stop == YK_TRACE_STOP_TOOL;
    yk_trace_gen_free(gen);
    assert_in_range(tools * 100 / requests, 50 * 85 / 100 - 12, 50 * 85 / 100 + 12);
}

static void odd_blocks_and_contexts(void **state) {
    (void)state;
    struct yk_trace_gen_opts opts;
    yk_trace_gen_opts_init(&opts);
    opts.requests = 300;
    opts.block_tokens = 1000;
    opts.max_context_tokens = 8000;
    gather(&opts);
    opts.block_tokens = 16;
    opts.max_context_tokens = 128;
    gather(&opts);
    opts.block_tokens = YK_TRACE_CONTEXT_MAX / 8;
    opts.max_context_tokens = YK_TRACE_CONTEXT_MAX;
    gather(&opts);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    struct yk_trace_gen_opts good, bad;
    struct yk_trace_gen *gen = NULL;
    struct yk_err err = {0};
    yk_trace_gen_opts_init(&good);
#define REFUSED(change, words)                                                                     \
    do {                                                                                           \
        bad = good;                                                                                \
        change;                                                                                    \
        assert_int_equal(yk_trace_gen_new(&bad, &gen, &err), -YK_EINVAL);                          \
        assert_string_equal(err.text, words);                                                      \
    } while (0)
    REFUSED(bad.requests = 0, "found no limit, expected a number of requests or of sessions");
    REFUSED(memset(bad.mix, 0, sizeof(bad.mix)), "found a mix of nothing, expected a share over 0");
    REFUSED(bad.mix[YK_TRACE_AGENT] = 10001,
            "found a share of 10001 for agent, expected 0 to 10000");
    REFUSED(bad.rate_per_s = 0, "found a rate of 0/s, expected 0.001 to 1e+06");
    REFUSED(bad.rate_per_s = 1e7, "found a rate of 1e+07/s, expected 0.001 to 1e+06");
    REFUSED(bad.block_tokens = 0,
            "found blocks of 0 tokens in contexts of 131072, expected 1 to an eighth");
    REFUSED(bad.block_tokens = 16385,
            "found blocks of 16385 tokens in contexts of 131072, expected 1 to an eighth");
    REFUSED(bad.max_context_tokens = YK_TRACE_CONTEXT_MAX + 1,
            "found contexts of 1073741825 tokens, expected at most 1073741824");
    REFUSED((bad.block_tokens = 1, bad.max_context_tokens = YK_TRACE_CONTEXT_MAX),
            "found contexts of 1073741824 blocks, expected fewer than 1048576");
    REFUSED(bad.arrival = (enum yk_trace_arrival)9, "found arrival 9, expected poisson or bursty");
#undef REFUSED
    assert_null(gen);
    yk_trace_gen_free(NULL);
    assert_string_equal(yk_trace_kind_name(YK_TRACE_CHAT), "chat");
    assert_null(yk_trace_kind_name(YK_TRACE_KINDS));
    assert_null(yk_trace_kind_name(-1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_trace_of_a_seed_never_changes),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(kinds_have_their_shapes),
        cmocka_unit_test(repeated_requests_share_their_partial_block),
        cmocka_unit_test(sessions_end_by_themselves),
        cmocka_unit_test(the_rate_is_kept),
        cmocka_unit_test(bursts_are_bursts),
        cmocka_unit_test(the_mix_shares_out_requests),
        cmocka_unit_test(odd_blocks_and_contexts),
        cmocka_unit_test(bad_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
