/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk sim: what a policy hits on a trace, without a node, bytes or clients (src/sim/sim.h).
 */
#include "commands.h"
#include "sim_cluster.h"

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
    char *trace, *ssd, *block_bytes;
    int64_t capacity, seed;
    int policy, shape;
    bool prefetch, cost;
};

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
     .help = "Say what it cost, too: CPU time a block of deciding, and of learning. That differs from run to run."},
    SIM_CLUSTER_ROWS(struct sim_config),
};

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

static void print_json(const struct sim_config *c, const struct yk_sim_result *r, double ratio) {
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
    }
    yk_json_end_object(&json);
    yk_json_newline(&json);
    (void)yk_json_finish(&json);
}

static void print(const struct sim_config *c, const struct yk_sim_result *r) {
    double ratio = ratio_of(r->hit_blocks, r->blocks);
    if (c->common.json)
        print_json(c, r, ratio);
    else
        print_text(c, r, ratio);
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

/* MIN:MAX or MIN:MAX:each; zeros without it. */
static int read_lengths(const char *text, struct yk_sim_opts *opts, struct yk_err *err) {
    char min[32], max[32], each[8] = "each", rest;
    if (text == NULL)
        return 0;
    int n = sscanf(text, "%31[^:]:%31[^:]:%7s%c", min, max, each, &rest);
    if (n < 2 || n > 3 || strcmp(each, "each") != 0)
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
    if (read_lengths(c->block_bytes, &opts, &err) < 0)
        return yolk_fail(YOLK_USAGE, "--block-bytes: %s", err.text);
    int rc = yk_sim_run(trace, &opts, &result, &err);
    if (rc < 0)
        return yolk_fail(rc == -YK_EINVAL ? YOLK_USAGE : YOLK_FAIL, "%s", err.text);
    print(c, &result);
    return YOLK_OK;
}

static int sim(struct yolk_ctx *ctx) {
    const struct sim_config *c = ctx->config;
    struct yk_sim_trace trace = {0};
    struct yk_err err = {0};
    int code = sim_cluster_check(ctx->opts, c->cluster.nodes > 0);
    if (code != YOLK_OK)
        return code;
    if (c->trace == NULL)
        return yolk_fail(YOLK_USAGE, "found no --trace, expected --trace FILE");
    uint64_t below = 0;
    if (read_ssd(c->ssd, &below, &err) < 0)
        return yolk_fail(YOLK_USAGE, "--ssd: %s", err.text);
    if (yk_sim_load(c->trace, &trace, &err) < 0)
        return load_failed(c->trace, &err);
    code = c->cluster.nodes > 0 ? run_cluster(c, &trace, below) : run_cache(c, &trace, below);
    yk_sim_trace_fini(&trace);
    return yolk_finish(code);
}

const struct yolk_cmd yolk_cmd_sim = {
    .name = "sim",
    .help = "count what a policy hits on a request trace, without a node",
    .more = "One cache of one tier, or with --ssd of two. For each request the leading run of its blocks that is present is a hit; "
            "then all its blocks are used, tail first, and missing ones come in. hit_ratio is hit blocks by "
            "all blocks. With --ssd a block of either tier is a hit; ssd_share is how many of those SSD served. With "
            "--nodes it is a cluster: nodes with tiers, links, prefill and decode, requests at the trace's times.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct sim_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = sim,
};
