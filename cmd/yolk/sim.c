/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk sim: what a policy hits on a trace, without a node, bytes or clients (src/sim/sim.h).
 */
#include "commands.h"
#include "sim_cluster.h"
#include "sim_tenants.h"

#include "base/parse.h"
#include "base/fmt.h"
#include "base/text.h"
#include "sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct sim_config {
    struct yolk_common common;
    struct sim_cluster_config cluster;
    char *trace, *ssd, *restart_at, *block_bytes;
    struct yk_opt_list beside;
    int64_t capacity, seed, window;
    double preload_rate;
    int policy, shares, shape;
    bool prefetch, cost;
};

static const char *const on_off[] = {"off", "on", NULL};

#define ROW(name_, type_, field_)                                                                  \
    .name = (name_), .type = (type_), YK_OPT_AT(struct sim_config, field_)

static const struct yk_opt rows[] = {
    {ROW("trace", YK_OPT_STR, trace), .metavar = "FILE",
     .help = "The requests, in the public Mooncake format, plain or Zstandard-compressed; - is standard input."},
    {ROW("capacity", YK_OPT_INT, capacity), .letter = 'c', .def = "2000", .min = "1", .max = "60000000",
     .metavar = "BLOCKS", .help = "Blocks that the cache keeps at most."},
    {ROW("policy", YK_OPT_ENUM, policy), .letter = 'p', .def = "lru", .values = yk_sim_policy_names,
     .help = "Which blocks leave. opt is the offline optimum: it knows the future."},
    {ROW("ssd", YK_OPT_STR, ssd), .metavar = "BLOCKS|unlimited",
     .help = "A tier below of so many blocks (with --nodes of each node), to which goes what leaves the cache, which is "
             "DRAM then. Without --nodes for lru, lfu, s3fifo, gdsf, opt and learned."},
    {ROW("prefetch-ahead", YK_OPT_BOOL, prefetch),
     .help = "Bring up chains from SSD before they are wanted, where that can be predicted. For learned with --ssd, "
             "without --nodes."},
    {ROW("beside", YK_OPT_LIST, beside), .metavar = "FILE,...",
     .help = "Requests of other tenants, a trace each, at the traces' times: as namespaces of a node they have one capacity "
             "together. For lru, s3fifo and learned, of one tier."},
    {ROW("shares", YK_OPT_ENUM, shares), .def = "on", .values = on_off,
     .help = "With --beside: on: the tenant that is most above its share gives; off: the oldest block of all goes."},
    {ROW("restart-at", YK_OPT_STR, restart_at), .metavar = "REQUEST|SECONDS",
     .help = "Empty DRAM before this request (6000), or at this time of the trace (1800s), as a reboot does: SSD and what "
             "was learned stay. Says how long DRAM's hits take to be back at 90 %, when blocks are loaded ahead and when "
             "they are not. For lru, s3fifo and learned with --ssd, without --nodes."},
    {ROW("preload-rate", YK_OPT_REAL, preload_rate), .def = "100", .min = "0", .max = "1000000000",
     .metavar = "BLOCKS", .help = "With --restart-at: blocks a second that are loaded ahead."},
    {ROW("restart-window", YK_OPT_INT, window), .def = "200", .min = "1", .max = "1000000", .metavar = "REQUESTS",
     .help = "With --restart-at: requests over which hits are compared."},
    {ROW("block-bytes", YK_OPT_STR, block_bytes), .metavar = "MIN:MAX[:each]",
     .help = "Blocks are of different lengths: MIN, twice MIN, and so on up to MAX, drawn for each conversation (where "
             "a prompt's second block differs), or for each block; the cache has as many bytes as --capacity of mean "
             "length. For lru, lfu, s3fifo, gdsf and learned, without --ssd and --nodes."},
    {ROW("model-shape", YK_OPT_ENUM, shape), .def = "none", .values = yk_sim_shape_names,
     .help = "What a hit saves grows with its depth in the prompt, as this model's attention does; learned keeps what saves "
             "most. none: all hits save alike. Without --nodes, which has --model."},
    {ROW("seed", YK_OPT_INT, seed), .def = "1", .min = "0",
     .help = "The same trace, options and seed give the same result everywhere."},
    {ROW("cost", YK_OPT_BOOL, cost),
     .help = "Say what it cost, too: CPU time a block of deciding, of learning, and of shares. That differs from run to run."},
    SIM_CLUSTER_ROWS(struct sim_config),
};

static struct sim_tenants tenants_of(const struct sim_config *c, const char *const *files, const struct yk_sim_trace *traces,
                                     uint32_t count) {
    return (struct sim_tenants){.files = files,
                                .traces = traces,
                                .count = count,
                                .policy = yk_sim_policy_names[c->policy],
                                .capacity = (uint32_t)c->capacity,
                                .seed = (uint64_t)c->seed,
                                .shares = c->shares != 0,
                                .cost = c->cost,
                                .json = c->common.json};
}

static double us_a_block(uint64_t ns, const struct yk_sim_result *r) {
    return r->blocks > 0 ? (double)ns / 1e3 / (double)r->blocks : 0;
}

static double ratio_of(uint64_t part, uint64_t all) {
    return all > 0 ? (double)part / (double)all : 0;
}

static void print_tiers_json(const struct sim_config *c, struct yk_json *json, const struct yk_sim_result *r) {
    yk_json_put_uint(json, "dram_hit_blocks", r->hit_blocks - r->below_hit_blocks);
    yk_json_put_uint(json, "ssd_hit_blocks", r->below_hit_blocks);
    yk_json_put_double(json, "ssd_share", ratio_of(r->below_hit_blocks, r->hit_blocks));
    yk_json_put_uint(json, "ssd_written_blocks", r->below_written);
    if (!c->prefetch)
        return;
    yk_json_put_uint(json, "prefetched_blocks", r->moved);
    yk_json_put_uint(json, "prefetched_used_blocks", r->moved_used);
}

static void put_back(struct yk_json *json, const char *name, const struct yk_sim_back *b) {
    yk_json_key(json, name);
    if (b->is_back)
        yk_json_double(json, (double)b->ms / 1e3);
    else
        yk_json_null(json);
}

/* The share of filling on demand that loading ahead takes; -1: it cannot be told. */
static double time_ratio(const struct yk_sim_restarted *r) {
    if (!r->preload_back.is_back || !r->demand_back.is_back || r->demand_back.ms == 0)
        return -1;
    return (double)r->preload_back.ms / (double)r->demand_back.ms;
}

static void print_restart_json(const struct sim_config *c, const struct yk_sim_restart *at,
                               const struct yk_sim_restarted *r) {
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "policy", yk_sim_policy_names[c->policy]);
    yk_json_put_int(&json, "capacity", c->capacity);
    yk_json_put_int(&json, "seed", c->seed);
    yk_json_put_uint(&json, "restart_request", at->request);
    yk_json_put_double(&json, "preload_blocks_per_s", at->preload_per_s);
    yk_json_put_uint(&json, "window_requests", at->window);
    yk_json_put_uint(&json, "preloaded_blocks", r->preload.preloaded);
    put_back(&json, "preload_back_s", &r->preload_back);
    put_back(&json, "demand_back_s", &r->demand_back);
    yk_json_put_uint(&json, "preload_back_requests", r->preload_back.requests);
    yk_json_put_uint(&json, "demand_back_requests", r->demand_back.requests);
    if (time_ratio(r) >= 0)
        yk_json_put_double(&json, "time_ratio", time_ratio(r));
    else
        yk_json_put_null(&json, "time_ratio");
    yk_json_end_object(&json);
    yk_json_newline(&json);
    (void)yk_json_finish(&json);
}

static void print_back(const char *what, const struct yk_sim_back *b) {
    if (b->is_back)
        printf("%s: back after %.1f s, %" PRIu64 " requests\n", what, (double)b->ms / 1e3, b->requests);
    else
        printf("%s: not back within the trace\n", what);
}

static void print_restart_text(const struct sim_config *c, const struct yk_sim_restart *at,
                               const struct yk_sim_restarted *r) {
    printf("%s, %" PRId64 " blocks, restarted before request %" PRIu64 "; back is 90 %% of DRAM's hits over %u requests\n",
           yk_sim_policy_names[c->policy], c->capacity, at->request, at->window);
    printf("%" PRIu64 " blocks loaded ahead at %g a second\n", r->preload.preloaded, at->preload_per_s);
    print_back("loaded ahead", &r->preload_back);
    print_back("filled on demand", &r->demand_back);
    if (time_ratio(r) >= 0)
        printf("loading ahead takes %.2f of the time\n", time_ratio(r));
}

static void print_worth_json(const struct sim_config *c, struct yk_json *json, const struct yk_sim_result *r) {
    if (c->block_bytes != NULL) {
        yk_json_put_uint(json, "capacity_bytes", r->room_bytes);
        yk_json_put_uint(json, "total_bytes", r->bytes);
        yk_json_put_uint(json, "hit_bytes", r->hit_bytes);
        yk_json_put_double(json, "hit_byte_ratio", ratio_of(r->hit_bytes, r->bytes));
    }
    if (c->shape != 0)
        yk_json_put_double(json, "saved_compute_ratio", r->all_saved > 0 ? r->saved / r->all_saved : 0);
}

static void print_worth_text(const struct sim_config *c, const struct yk_sim_result *r) {
    char room[YK_FMT_MAX];
    if (c->block_bytes != NULL)
        printf("%.2f %% of all bytes hit, in %s\n", 100 * ratio_of(r->hit_bytes, r->bytes),
               yk_fmt_bytes(r->room_bytes, room));
    if (c->shape != 0)
        printf("%.2f %% of all compute of prompts saved\n", r->all_saved > 0 ? 100 * r->saved / r->all_saved : 0);
}

static void print_text(const struct sim_config *c, const struct yk_sim_result *r, double ratio) {
    printf("%s, %" PRId64 " blocks: %" PRIu64 " / %" PRIu64 " blocks hit (%.2f %%) in %" PRIu64 " requests\n",
           yk_sim_policy_names[c->policy], c->capacity, r->hit_blocks, r->blocks, 100 * ratio, r->requests);
    print_worth_text(c, r);
    if (c->ssd != NULL)
        printf("%" PRIu64 " of them on SSD (%.2f %%), %" PRIu64 " blocks written there\n", r->below_hit_blocks,
               100 * ratio_of(r->below_hit_blocks, r->hit_blocks), r->below_written);
    if (c->prefetch)
        printf("%" PRIu64 " blocks came up ahead, %" PRIu64 " of them were used\n", r->moved, r->moved_used);
    if (c->cost)
        printf("CPU time: %.3f us a block for decisions, %.3f us a block for %" PRIu64 " trainings\n",
               us_a_block(r->decision_ns, r), us_a_block(r->training_ns, r), r->trainings);
}

static int print_json(const struct sim_config *c, const struct yk_sim_trace *trace, const struct yk_sim_result *r,
                      double ratio) {
    const char *file = c->trace;
    struct sim_tenants one = tenants_of(c, &file, trace, 1);
    int code = YOLK_OK;
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "policy", yk_sim_policy_names[c->policy]);
    yk_json_put_int(&json, "capacity", c->capacity);
    yk_json_put_int(&json, "seed", c->seed);
    yk_json_put_uint(&json, "requests", r->requests);
    yk_json_put_uint(&json, "total_blocks", r->blocks);
    yk_json_put_uint(&json, "hit_blocks", r->hit_blocks);
    yk_json_put_double(&json, "hit_ratio", ratio);
    print_worth_json(c, &json, r);
    if (c->ssd != NULL)
        print_tiers_json(c, &json, r);
    if (c->cost) {
        yk_json_put_double(&json, "decision_us_per_block", us_a_block(r->decision_ns, r));
        yk_json_put_double(&json, "training_us_per_block", us_a_block(r->training_ns, r));
        yk_json_put_uint(&json, "trainings", r->trainings);
        code = sim_shares_cost(&one, &json);
    }
    yk_json_end_object(&json);
    yk_json_newline(&json);
    (void)yk_json_finish(&json);
    return code;
}

static int print(const struct sim_config *c, const struct yk_sim_trace *trace, const struct yk_sim_result *r) {
    const char *file = c->trace;
    struct sim_tenants one = tenants_of(c, &file, trace, 1);
    double ratio = ratio_of(r->hit_blocks, r->blocks);
    if (c->common.json)
        return print_json(c, trace, r, ratio);
    print_text(c, r, ratio);
    return c->cost ? sim_shares_cost(&one, NULL) : YOLK_OK;
}

static int load_failed(const char *path, const struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    int code = err->code == -YK_ENOMEM || err->code == -YK_EIO ? YOLK_FAIL : YOLK_USAGE;
    /* Texts about lines name the file already. */
    if (strncmp(err->text, path, strlen(path)) == 0 || strcmp(path, "-") == 0)
        return yolk_fail(code, "%s", err->text);
    return yolk_fail(code, "%s: %s", yk_quote(path, quoted), err->text);
}

static int run_cluster(const struct sim_config *c, const struct yk_sim_trace *trace, uint64_t below) {
    struct sim_cluster_common common = {.policy = yk_sim_policy_names[c->policy],
                                        .ssd_blocks = below,
                                        .seed = (uint64_t)c->seed,
                                        .json = c->common.json};
    return sim_cluster(&c->cluster, &common, trace);
}

/* What --ssd says, in blocks; 0 without it. */
static int read_ssd(const char *text, uint64_t *ret_blocks, struct yk_err *err) {
    *ret_blocks = 0;
    if (text == NULL)
        return 0;
    if (strcmp(text, "unlimited") == 0) {
        *ret_blocks = YK_SIM_BELOW_ALL;
        return 0;
    }
    int rc = yk_parse_count(text, ret_blocks, err);
    return rc == 0 && *ret_blocks == 0 ? yk_err_set(err, -YK_EINVAL, "found 0, expected 1 or more, or unlimited") : rc;
}

/* 6000 or 1800s: the request before which it is. */
static int read_restart(const char *text, const struct yk_sim_trace *t, uint64_t *ret_request, struct yk_err *err) {
    size_t len = strlen(text);
    uint64_t ns = 0;
    int is_time = len > 0 && text[len - 1] == 's';
    int rc = is_time ? yk_parse_duration(text, &ns, err) : yk_parse_count(text, ret_request, err);
    if (rc < 0)
        return rc;
    for (*ret_request = is_time ? 0 : *ret_request;
         is_time && *ret_request < t->req_count && t->reqs[*ret_request].at_ms < ns / 1000000u;)
        ++*ret_request;
    if (*ret_request == 0 || *ret_request >= t->req_count)
        return yk_err_set(err, -YK_EINVAL, "found %s, expected a place between the trace's %llu requests", text,
                          (unsigned long long)t->req_count);
    return 0;
}

static int run_restart(const struct sim_config *c, const struct yk_sim_trace *trace, const struct yk_sim_opts *opts) {
    struct yk_sim_restart at = {.preload_per_s = c->preload_rate, .window = (uint32_t)c->window};
    struct yk_sim_restarted result;
    struct yk_err err = {0};
    if (read_restart(c->restart_at, trace, &at.request, &err) < 0)
        return yolk_fail(YOLK_USAGE, "--restart-at: %s", err.text);
    int rc = yk_sim_restart_run(trace, opts, &at, &result, &err);
    if (rc < 0)
        return yolk_fail(rc == -YK_EINVAL ? YOLK_USAGE : YOLK_FAIL, "%s", err.text);
    if (c->common.json)
        print_restart_json(c, &at, &result);
    else
        print_restart_text(c, &at, &result);
    return YOLK_OK;
}

/* MIN:MAX or MIN:MAX:each; zeros without it. */
static int read_lengths(const char *text, struct yk_sim_opts *opts, struct yk_err *err) {
    char min[32], max[32], each[8] = "each", rest;
    if (text == NULL)
        return 0;
    int n = sscanf(text, "%31[^:]:%31[^:]:%7s%c", min, max, each, &rest);
    int wants = n == 3 ? 2 : 1;
    for (const char *at = text; *at != '\0'; at++)
        wants -= *at == ':';
    if (n < 2 || n > 3 || wants != 0 || strcmp(each, "each") != 0)
        return yk_err_set(err, -YK_EINVAL, "expected two sizes, MIN:MAX, or MIN:MAX:each");
    opts->draws_each = n == 3;
    int rc = yk_parse_size(min, &opts->bytes_min, err);
    if (rc == 0)
        rc = yk_parse_size(max, &opts->bytes_max, err);
    return rc == 0 && opts->bytes_min == 0 ? yk_err_set(err, -YK_EINVAL, "found 0, expected 1 byte or more") : rc;
}

static int run_cache(const struct sim_config *c, const struct yk_sim_trace *trace, uint64_t below) {
    struct yk_sim_opts opts = {.policy = yk_sim_policy_names[c->policy],
                               .capacity = (uint32_t)c->capacity,
                               .seed = (uint64_t)c->seed,
                               .below = below,
                               .shape = yk_sim_shape_names[c->shape],
                               .prefetches = c->prefetch};
    struct yk_sim_result result;
    struct yk_err err = {0};
    if (c->restart_at != NULL)
        return run_restart(c, trace, &opts);
    if (read_lengths(c->block_bytes, &opts, &err) < 0)
        return yolk_fail(YOLK_USAGE, "--block-bytes: %s", err.text);
    int rc = yk_sim_run(trace, &opts, &result, &err);
    if (rc < 0)
        return yolk_fail(rc == -YK_EINVAL ? YOLK_USAGE : YOLK_FAIL, "%s", err.text);
    return print(c, trace, &result);
}

static int check_beside(const struct yolk_ctx *ctx) {
    static const char *const alone[] = {"ssd", "prefetch-ahead", "nodes", "restart-at", "block-bytes", "model-shape", NULL};
    const struct sim_config *c = ctx->config;
    for (size_t i = 0; c->beside.n > 0 && alone[i] != NULL; i++)
        if (yk_opt_is_set(ctx->opts, alone[i]))
            return yolk_fail(YOLK_USAGE, "found --%s with --beside, expected one of them", alone[i]);
    if (c->beside.n == 0 && yk_opt_is_set(ctx->opts, "shares"))
        return yolk_fail(YOLK_USAGE, "found --shares without --beside, expected both: one tenant has all");
    if (c->beside.n + 1 > YK_SIM_TENANTS_MAX)
        return yolk_fail(YOLK_USAGE, "found %zu files with --beside, expected at most %u", c->beside.n, YK_SIM_TENANTS_MAX - 1);
    return YOLK_OK;
}

static int check_restart(const struct yolk_ctx *ctx) {
    static const char *const beside[] = {"preload-rate", "restart-window", NULL}, *const without[] = {"block-bytes", "cost", NULL};
    const struct sim_config *c = ctx->config;
    if (c->restart_at != NULL && c->cluster.nodes > 0)
        return yolk_fail(YOLK_USAGE, "--restart-at: found --nodes, expected one cache");
    for (size_t i = 0; c->restart_at == NULL && beside[i] != NULL; i++)
        if (yk_opt_is_set(ctx->opts, beside[i]))
            return yolk_fail(YOLK_USAGE, "found --%s without --restart-at, expected both", beside[i]);
    for (size_t i = 0; c->restart_at != NULL && without[i] != NULL; i++)
        if (yk_opt_is_set(ctx->opts, without[i]))
            return yolk_fail(YOLK_USAGE, "found --%s with --restart-at, expected one of them", without[i]);
    return YOLK_OK;
}

/* Takes the first trace over. */
static int run_beside(const struct sim_config *c, struct yk_sim_trace *first) {
    struct yk_sim_trace traces[YK_SIM_TENANTS_MAX] = {*first};
    const char *files[YK_SIM_TENANTS_MAX] = {c->trace};
    struct yk_err err = {0};
    uint32_t count = 1;
    int code = YOLK_OK;
    for (; code == YOLK_OK && count <= c->beside.n; count++) {
        files[count] = c->beside.items[count - 1];
        if (yk_sim_load(files[count], &traces[count], &err) < 0)
            code = load_failed(files[count], &err);
    }
    struct sim_tenants what = tenants_of(c, files, traces, count);
    if (code == YOLK_OK)
        code = sim_tenants(&what);
    for (uint32_t i = 0; i < count; i++)
        yk_sim_trace_fini(&traces[i]);
    *first = (struct yk_sim_trace){0};
    return code;
}

static int sim(struct yolk_ctx *ctx) {
    const struct sim_config *c = ctx->config;
    struct yk_sim_trace trace = {0};
    struct yk_err err = {0};
    int code = sim_cluster_check(ctx->opts, c->cluster.nodes > 0);
    if (code == YOLK_OK)
        code = check_beside(ctx);
    if (code == YOLK_OK)
        code = check_restart(ctx);
    if (code != YOLK_OK)
        return code;
    if (c->trace == NULL)
        return yolk_fail(YOLK_USAGE, "found no --trace, expected --trace FILE");
    uint64_t below = 0;
    if (read_ssd(c->ssd, &below, &err) < 0)
        return yolk_fail(YOLK_USAGE, "--ssd: %s", err.text);
    if (yk_sim_load(c->trace, &trace, &err) < 0)
        return load_failed(c->trace, &err);
    code = c->beside.n > 0           ? run_beside(c, &trace)
           : c->cluster.nodes > 0    ? run_cluster(c, &trace, below)
                                     : run_cache(c, &trace, below);
    yk_sim_trace_fini(&trace);
    return yolk_finish(code);
}

const struct yolk_cmd yolk_cmd_sim = {
    .name = "sim",
    .help = "count what a policy hits on a request trace, without a node",
    .more = "One cache of one tier, or with --ssd of two. For each request the leading run of its blocks that is present is a hit; "
            "then all its blocks are used, tail first, and missing ones come in. hit_ratio is hit blocks by "
            "all blocks. With --beside several tenants have one capacity together, and hits are told of each. With --ssd a block of either tier is a hit; ssd_share is how many of those SSD served. With "
            "--nodes it is a cluster: nodes with tiers, links, prefill and decode, requests at the trace's times.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct sim_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = sim,
};
