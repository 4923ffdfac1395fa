/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk bench: finds benchmarks in bench/bench.h's table and runs them. All that measures is there.
 */
#include "commands.h"

#include "base/parse.h"
#include "base/text.h"
#include "bench/bench.h"

#include <yolk/transfer.h>

#include <stdio.h>
#include <string.h>

struct bench_config {
    struct yolk_common common;
    bool quick;
    uint64_t time_ns;
    int64_t seed;
    struct yk_opt_list cases;
    char *path;
    uint64_t size_bytes;
    char *transport;
    char *rails;
    struct yk_opt_list pairs;
    bool wan;
    char *target;
    bool writes;
    uint64_t block_bytes;
    int64_t batch, threads;
    struct yk_opt_list classes;
    bool scale;
};

#define WEIGHT_MAX 32
#define RAILS_MAX  16

/* "demand" or "demand:3". */
static int parse_class(const char *text, int *ret_class, uint32_t *ret_weight, struct yk_err *err) {
    static const char *const names[] = {"urgent", "demand", "prefetch", "background", NULL};
    const char *colon = strchr(text, ':');
    char name[16];
    uint64_t weight = 1;
    size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
    snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name) - 1), text);
    if (yk_parse_enum(name, names, ret_class, NULL) < 0 ||
        (colon != NULL && (yk_parse_count(colon + 1, &weight, NULL) < 0 || weight == 0 || weight > WEIGHT_MAX)))
        return yk_err_set(err, -YK_EINVAL,
                          "found '%.40s', expected urgent, demand, prefetch or background, and after a colon how "
                          "much of it, 1 to %u", text, WEIGHT_MAX);
    *ret_weight = (uint32_t)weight;
    return 0;
}

static int check_class(const char *text, struct yk_err *err) {
    uint32_t weight;
    int xclass;
    return parse_class(text, &xclass, &weight, err);
}

static const struct yk_opt rows[] = {
    {.name = "quick",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct bench_config, quick),
     .help = "The smallest run that still does every case; its figures mean little."},
    {.name = "time",
     .type = YK_OPT_DURATION,
     YK_OPT_AT(struct bench_config, time_ns),
     .def = "0",
     .max = "1h",
     .help = "About how long to measure in all; 0 is the benchmark's own."},
    {.name = "seed",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct bench_config, seed),
     .def = "1",
     .min = "1",
     .help = "Of everything random."},
    {.name = "case",
     .type = YK_OPT_LIST,
     YK_OPT_AT(struct bench_config, cases),
     .metavar = "GLOB",
     .help =
         "Only the cases whose names this glob matches, and the baselines beside them. Several: "
         "with commas between, or given again."},
    {.name = "path",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct bench_config, path),
     .metavar = "DIR",
     .help = "Of ssd: a directory on the file system to measure. Nothing stays there."},
    {.name = "size",
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct bench_config, size_bytes),
     .def = "0",
     .help = "Of ssd: bytes of each of its three files; 0 is 4G."},
    {.name = "transport",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct bench_config, transport),
     .metavar = "NAME",
     .help = "Of xfer: mem, shm, tcp, file or rdma; all of them when it is not given. With --target: a list of those to "
             "use, rdma,tcp; all but rdma when it is not given."},
    {.name = "rails",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct bench_config, rails),
     .metavar = "N|LIST",
     .help = "Of xfer: up to 16 rails between two network namespaces, some of them cut; needs root. With --target: "
             "own devices or addresses to use, eth0,10.0.0.7; all of them when it is not given."},
    {.name = "pair",
     .type = YK_OPT_LIST,
     YK_OPT_AT(struct bench_config, pairs),
     .metavar = "HERE=THERE",
     .help = "Of xfer --transport rdma: two addresses of RDMA devices of this host that reach each other, "
             "10.0.0.1=10.0.0.2; again for each pair. Without it devices in one subnet are paired, and one that is "
             "alone with itself."},
    {.name = "wan",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct bench_config, wan),
     .help = "Of xfer: a link of 100 Mbit/s between two network namespaces that takes 50 ms there and back and "
             "loses one packet in a hundred, instead of the transports; needs root."},
    {.name = "scale",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct bench_config, scale),
     .help = "Of xfer: what 10,000 registered regions and 1,000 connected peers cost, instead of the "
             "transports."},
    {.name = "target",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct bench_config, target),
     .metavar = "SEGMENT",
     .help = "Of xfer: one load on a segment elsewhere, HOST:PORT/NAME of yolk xfer serve, instead of the "
             "cases; the options below say what load."},
    {.name = "writes",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct bench_config, writes),
     .help = "Of --target: it writes; else it reads."},
    {.name = "block",
     .letter = 'b',
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct bench_config, block_bytes),
     .def = "1M",
     .min = "1",
     .max = "256M",
     .help = "Of --target: bytes of a request."},
    {.name = "batch",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct bench_config, batch),
     .def = "16",
     .min = "1",
     .max = "4096",
     .help = "Of --target: requests of a batch; two batches of each thread are under way."},
    {.name = "threads",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct bench_config, threads),
     .def = "1",
     .min = "1",
     .max = "16",
     .help = "Of --target: threads that submit."},
    {.name = "class",
     .type = YK_OPT_LIST,
     YK_OPT_AT(struct bench_config, classes),
     .metavar = "CLASS[:N]",
     .def = "demand",
     .check = check_class,
     .help = "Of --target: how urgent it is: urgent, demand, prefetch or background. Several with commas "
             "between are a mix: all at once, each with N times the batches of one thread under way, and a row "
             "for each, whose ratio is its share of all bytes."},
};

static int list(const struct yolk_ctx *ctx) {
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    for (const struct yk_bench *b = yk_benches; b->name != NULL; b++) {
        if (!ctx->common->json) {
            printf("%-10s %s\n", b->name, b->help);
            continue;
        }
        yk_json_begin_object(&json);
        yk_json_put_str(&json, "name", b->name);
        yk_json_put_str(&json, "help", b->help);
        yk_json_end_object(&json);
        yk_json_newline(&json);
    }
    return YOLK_OK;
}

static int run_one(const struct yolk_ctx *ctx, const struct yk_bench *b) {
    char quoted[YK_QUOTE_MAX];
    const struct bench_config *config = ctx->config;
    uint64_t rails = 0;
    uint32_t transports = 0;
    if (config->target != NULL && config->transport != NULL && yk_xfer_transports(config->transport, &transports) < 0)
        return yolk_fail(YOLK_USAGE, "--transport: %s", yk_xfer_error_text());
    if (config->rails != NULL && config->target == NULL &&
        (yk_parse_count(config->rails, &rails, NULL) < 0 || rails > RAILS_MAX))
        return yolk_fail(YOLK_USAGE, "found --rails %s, expected a number up to %u, or with --target a list of devices",
                         yk_quote(config->rails, quoted), RAILS_MAX);
    struct yk_bench_opts opts = {.size = sizeof(opts),
                                 .json = ctx->common->json,
                                 .quick = config->quick,
                                 .seconds = (double)config->time_ns / 1e9,
                                 .seed = (uint64_t)config->seed,
                                 .cases = config->cases.items,
                                 .n_cases = config->cases.n,
                                 .path = config->path,
                                 .size_bytes = config->size_bytes,
                                 .transport = config->transport,
                                 .rails = (uint32_t)rails,
                                 .pairs = config->pairs.items,
                                 .n_pairs = config->pairs.n,
                                 .wan = config->wan,
                                 .target = config->target,
                                 .target_transports = transports,
                                 .target_rails = config->target != NULL ? config->rails : NULL,
                                 .writes = config->writes,
                                 .block_bytes = config->block_bytes,
                                 .batch = (uint32_t)config->batch,
                                 .threads = (uint32_t)config->threads,
                                 .scale = config->scale,
                                 .out = stdout};
    for (size_t i = 0; i < config->classes.n; i++) {
        uint32_t weight = 1;
        int xclass = 0;
        if (parse_class(config->classes.items[i], &xclass, &weight, NULL) == 0) /* it was checked */
            opts.weights[xclass] = weight;
    }
    int rc = b->fn(&opts);
    if (rc == YK_BENCH_NO_PEER)
        return YOLK_MISS; /* it has named the package */
    if (rc == YK_BENCH_USAGE)
        return YOLK_USAGE; /* it has said why */
    if (rc == -YK_ENOENT && config->cases.n > 0)
        return yolk_fail(YOLK_USAGE, "found --case %s%s, which no case of %s matches",
                         yk_quote(config->cases.items[0], quoted),
                         config->cases.n > 1 ? " and others" : "", b->name);
    return rc < 0 ? yolk_fail(yolk_exit_of(rc), "bench %s: %s", b->name, yk_strerror(rc)) : YOLK_OK;
}

/* All that can run, runs; the code is the last one that is not 0. */
static int run_all(const struct yolk_ctx *ctx) {
    const struct bench_config *config = ctx->config;
    int code = YOLK_OK;
    for (const struct yk_bench *b = yk_benches; b->name != NULL; b++) {
        if (b->needs_path && config->path == NULL) {
            fprintf(stderr, "yolk: bench %s is left out without --path DIR\n", b->name);
            continue;
        }
        int one = run_one(ctx, b);
        code = one != YOLK_OK ? one : code;
    }
    return code;
}

static int bench(struct yolk_ctx *ctx) {
    char quoted[YK_QUOTE_MAX];
    const char *name = ctx->args[0];
    if (strcmp(name, "list") == 0)
        return yolk_finish(list(ctx));
    if (strcmp(name, "all") == 0 && ((const struct bench_config *)ctx->config)->cases.n > 0)
        return yolk_fail(YOLK_USAGE, "found --case with all, expected the name of one benchmark");
    if (strcmp(name, "all") == 0)
        return yolk_finish(run_all(ctx));
    const struct yk_bench *b = yk_bench_find(name);
    if (b == NULL)
        return yolk_fail(YOLK_USAGE, "found %s, which is no benchmark (see yolk bench list)",
                         yk_quote(name, quoted));
    if (b->needs_path && ((const struct bench_config *)ctx->config)->path == NULL)
        return yolk_fail(YOLK_USAGE,
                         "bench %s: expected --path DIR, a directory on the file system to measure",
                         b->name);
    return yolk_finish(run_one(ctx, b));
}

const struct yolk_cmd yolk_cmd_bench = {
    .name = "bench",
    .args = "NAME|all|list",
    .min_args = 1,
    .max_args = 1,
    .help = "measure this machine and the store on it",
    .more = "It starts and removes all that it needs. Each figure stands beside the machine's own "
            "limit from the same run. Exits with 3 if a program to compare with is not installed. What of "
            "cluster needs etcd is left out without it, and a row says so; with --time of a minute or more its "
            "etcd is without a majority for a minute.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct bench_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = bench,
};
