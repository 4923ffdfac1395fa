/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk run: the first thing to try. Starts a node for itself, replays a trace with real bytes through
 * the real data path, prints what came of it, and leaves nothing behind.
 *
 * With --nodes it starts a cluster: etcd and so many yolkd (replay/many.h), clients spread over them.
 *
 * Without --trace it generates one: chats, shared system prompts, agents and documents, about as
 * many as a two-core machine replays in half a minute, and more than its memory holds: the rest goes to
 * an SSD file, where there is room for one.
 */
#include "commands.h"
#include "replaying.h"

#include "base/fmt.h"
#include "replay/many.h"
#include "replay/own.h"

#include <inttypes.h>
#include <stdio.h>

#define REQUESTS_DEFAULT 2500u        /* under a minute, on a slow disk and busy cores, too */
#define SSD_FILE_MOST    (8ull << 30) /* unless a capacity is asked for */

struct run_config {
    struct yolk_common common;
    struct yolk_replaying replaying;
    char *trace;
    int64_t seed, nodes;
};

static const struct yk_opt rows[] = {
    {.name = "trace",
     .letter = 'T',
     .type = YK_OPT_STR,
     YK_OPT_AT(struct run_config, trace),
     .metavar = "FILE",
     .help = "A trace in the public Mooncake format; without it one is generated."},
    {.name = "seed",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct run_config, seed),
     .def = "1",
     .min = "0",
     .help = "Of the generated trace."},
    {.name = "nodes",
     .letter = 'N',
     .type = YK_OPT_INT,
     YK_OPT_AT(struct run_config, nodes),
     .def = "1",
     .min = "1",
     .max = "16",
     .help = "More than one: a cluster of so many nodes, with an etcd of its own (Debian's etcd-server has to be "
             "there); as root each in a network namespace, else on 127.0.0.1. Sizes are of each node; clients are "
             "as many unless their number is given; SSD only where its capacity is."},
    YOLK_REPLAYING_ROWS(struct run_config, "256K", "2000", "12000", "2"),
};

/* The capacity by default; less where it would take more than half of the memory there is. */
static void fit(const struct yolk_ctx *ctx, struct yk_replay_opts *o) {
    uint64_t room = yk_own_room() / 2;
    if (o->dram_bytes > 0 && !yk_opt_is_set(ctx->opts, "capacity"))
        o->capacity_blocks = 0; /* a size in bytes alone: as many as fit */
    if (yk_opt_is_set(ctx->opts, "capacity") || o->dram_bytes > 0 || room == 0)
        return;
    while (o->capacity_blocks > 1 &&
           yk_own_dram_bytes(o->capacity_blocks, o->block_bytes, o->clients, 0) > room)
        o->capacity_blocks /= 2;
}

static const char *ssd_dir(const struct yk_replay_opts *o) {
    return o->ssd_dir != NULL ? o->ssd_dir : yk_own_ssd_dir();
}

/* The SSD file takes no more than half of what is free, and none where that is hardly more than memory: a
 * run is to be seen, not to fill a disk. What was asked for is tried as it is. */
static void fit_ssd(const struct yolk_ctx *ctx, struct yk_replay_opts *o) {
    char need[YK_FMT_MAX], have[YK_FMT_MAX];
    bool asked = yk_opt_is_set(ctx->opts, "ssd-capacity");
    uint64_t room = yk_own_ssd_room(ssd_dir(o)),
             most = room / 2 < SSD_FILE_MOST ? room / 2 : SSD_FILE_MOST;
    uint64_t bytes = yk_replay_ssd_bytes(o, NULL);
    uint64_t least = 2 * o->capacity_blocks < o->ssd_capacity_blocks ? 2 * o->capacity_blocks
                                                                     : o->ssd_capacity_blocks;
    while (!asked && o->ssd_capacity_blocks / 2 > least && yk_replay_ssd_bytes(o, NULL) > most)
        o->ssd_capacity_blocks /= 2;
    if (o->ssd_capacity_blocks == 0 || yk_replay_ssd_bytes(o, NULL) <= (asked ? room : most))
        return;
    o->ssd_capacity_blocks = 0;
    fprintf(ctx->common->json ? stderr : stdout,
            "No room for an SSD tier in %s (%s wanted, %s free): with DRAM alone.\n", ssd_dir(o),
            yk_fmt_bytes(bytes, need), yk_fmt_bytes(room, have));
}

static int load(const struct run_config *c, struct yk_replay_trace *trace) {
    struct yk_trace_gen_opts go;
    struct yk_err err = {0};
    uint64_t requests = (uint64_t)c->replaying.requests;
    if (c->trace != NULL)
        return yk_replay_load(c->trace, requests, trace, &err) < 0
                   ? yolk_replaying_load_failed(c->trace, &err)
                   : 0;
    yk_trace_gen_opts_init(&go);
    go.seed = (uint64_t)c->seed;
    go.requests = requests != 0 ? requests : REQUESTS_DEFAULT;
    go.block_tokens = (uint32_t)c->replaying.block_tokens;
    return yk_replay_generate(&go, trace, &err) < 0 ? yolk_fail(YOLK_FAIL, "%s", err.text) : 0;
}

static void say_plan(const struct run_config *c, const struct yk_replay_opts *o,
                     const struct yk_replay_trace *t, uint64_t dram_bytes) {
    char block[YK_FMT_MAX], dram[YK_FMT_MAX], capacity[YK_FMT_MAX];
    printf("Trace: %s, %" PRIu64 " requests, %" PRIu64 " blocks of %s.\n",
           c->trace != NULL ? c->trace : "generated (chats, system prompts, agents, documents)",
           t->req_count, t->id_count, yk_fmt_bytes(o->block_bytes, block));
    printf("Node:  %s of shared memory", yk_fmt_bytes(dram_bytes, dram));
    if (o->capacity_blocks > 0)
        printf(", at most %s blocks", yk_fmt_count(o->capacity_blocks, capacity));
    printf(", policy %s, embedded metadata; ends with this run.\n", o->policy);
    if (o->ssd_capacity_blocks > 0)
        printf("SSD:   %s in %s, at most %s blocks; a file without a name, gone with the node.\n",
               yk_fmt_bytes(yk_replay_ssd_bytes(o, NULL), dram), ssd_dir(o),
               yk_fmt_count(o->ssd_capacity_blocks, capacity));
    printf("Load:  %u client process%s, %s; every byte that a get returns is checked.\n\n",
           o->clients, o->clients == 1 ? "" : "es",
           o->speed > 0 ? "on the trace's timestamps" : "as fast as possible");
    fflush(stdout);
}

static void say_next(const struct run_config *c) {
    printf("\nTry next:\n"
           "  make run CLIENTS=4 BLOCK=1M CAPACITY=2000     other sizes\n"
           "  make run POLICY=s3fifo                        another eviction policy\n"
           "  make run SSD_CAPACITY=0                       the same with DRAM alone\n"
           "  make run NODES=3                              a cluster of three nodes, with etcd\n");
    if (c->trace == NULL)
        printf("  make run TRACE=FILE BLOCK=16K CLIENTS=1       a trace in the Mooncake format\n");
    printf(
        "  build/bin/yolk bench store                    each operation beside the machine's "
        "limit\n"
        "  build/bin/yolkd --dram 1G --listen unix:/tmp/yolk.sock &\n"
        "  build/bin/yolk --url unix:/tmp/yolk.sock top  a node that stays, and its live view\n");
}

/* ---- several nodes ------------------------------------------------------------------------------ */

struct wire {
    uint64_t in, out;
};

static int wires(const struct yk_many *m, struct wire *ret) {
    int rc = 0;
    for (uint32_t i = 0; i < m->nodes && rc == 0; i++)
        rc = yk_many_wire(m, i, &ret[i].in, &ret[i].out);
    return rc;
}

static void say_wires(const struct yolk_ctx *ctx, const struct yk_many *m, const struct wire *before) {
    char in[YK_FMT_MAX], out[YK_FMT_MAX];
    struct wire now[YK_MANY_MAX] = {0};
    if (ctx->common->json || wires(m, now) != 0)
        return;
    printf("\n  %-8s %12s %12s   (all bytes on the node's link, etcd's included)\n", "link", "received", "sent");
    for (uint32_t i = 0; i < m->nodes; i++)
        printf("  n%-7u %12s %12s\n", i + 1, yk_fmt_bytes(now[i].in - before[i].in, in),
               yk_fmt_bytes(now[i].out - before[i].out, out));
}

/* Sizes of each node, so that all fit. */
static int fit_nodes(const struct yolk_ctx *ctx, struct yk_replay_opts *o, struct yk_many_opts *m) {
    const struct run_config *c = ctx->config;
    struct yk_err err = {0};
    uint64_t room = yk_own_room() / 2;
    if (!yk_opt_is_set(ctx->opts, "clients"))
        o->clients = m->nodes;
    if (!yk_opt_is_set(ctx->opts, "ssd-capacity"))
        o->ssd_capacity_blocks = 0;
    fit(ctx, o);
    while (!yk_opt_is_set(ctx->opts, "capacity") && c->replaying.dram_bytes == 0 && room != 0 &&
           o->capacity_blocks > 1 && yk_replay_dram(o, &m->dram_bytes, &err) == 0 &&
           m->nodes * m->dram_bytes > room)
        o->capacity_blocks /= 2;
    if (yk_replay_dram(o, &m->dram_bytes, &err) < 0)
        return yolk_fail(YOLK_USAGE, "%s", err.text);
    m->capacity_blocks = o->capacity_blocks;
    m->ssd_capacity_blocks = o->ssd_capacity_blocks;
    m->ssd_bytes = yk_replay_ssd_bytes(o, &m->ssd_segment_bytes);
    m->max_clients = o->clients + 8u;
    m->policy = o->policy;
    return 0;
}

static void say_nodes(const struct run_config *c, const struct yk_replay_opts *o, const struct yk_many_opts *m,
                      const struct yk_many *many, const struct yk_replay_trace *t) {
    char block[YK_FMT_MAX], dram[YK_FMT_MAX];
    printf("Trace: %s, %" PRIu64 " requests, %" PRIu64 " blocks of %s.\n", c->trace != NULL ? c->trace : "generated",
           t->req_count, t->id_count, yk_fmt_bytes(o->block_bytes, block));
    printf("Nodes: %u, each with %s of shared memory, policy %s, %s; etcd and all end with this run.\n", m->nodes,
           yk_fmt_bytes(m->dram_bytes, dram), m->policy,
           many->apart ? "in a network namespace of its own" : "on 127.0.0.1 (network namespaces need root)");
    printf("Load:  %u client process%s, spread over the nodes; every byte that a get returns is checked.\n\n",
           o->clients, o->clients == 1 ? "" : "es");
    fflush(stdout);
}

static int run_nodes(struct yolk_ctx *ctx, struct yk_replay_opts *o) {
    const struct run_config *c = ctx->config;
    struct yk_many_opts mo = {.nodes = (uint32_t)c->nodes};
    const char *urls[YK_MANY_MAX];
    struct wire before[YK_MANY_MAX] = {0};
    struct yk_replay_trace trace = {0};
    struct yk_many many;
    struct yk_err err = {0};
    int code = fit_nodes(ctx, o, &mo);
    if (code == 0)
        code = load(c, &trace);
    if (code != 0)
        return code;
    if (yk_many_start(&mo, &many, &err) < 0) {
        yk_replay_trace_fini(&trace);
        return yolk_fail(YOLK_FAIL, "%s", err.text);
    }
    for (uint32_t i = 0; i < many.nodes; i++)
        urls[i] = many.url[i];
    o->urls = urls;
    o->url_count = many.nodes;
    if (!ctx->common->json)
        say_nodes(c, o, &mo, &many, &trace);
    (void)wires(&many, before);
    code = yolk_replaying_run(ctx, o, &trace, "What came of it:");
    say_wires(ctx, &many, before);
    yk_many_stop(&many);
    yk_replay_trace_fini(&trace);
    return yolk_finish(code);
}

/* ---- the command -------------------------------------------------------------------------------- */

static int run(struct yolk_ctx *ctx) {
    const struct run_config *c = ctx->config;
    struct yk_replay_trace trace = {0};
    struct yk_replay_opts o = {0};
    struct yk_err err = {0};
    uint64_t dram_bytes;
    (void)yolk_replaying_opts(&c->replaying, &o);
    if (c->nodes > 1)
        return run_nodes(ctx, &o);
    fit(ctx, &o);
    fit_ssd(ctx, &o);
    if (o.capacity_blocks == 0 && o.dram_bytes == 0)
        return yolk_fail(YOLK_USAGE, "--capacity 0 needs --dram");
    if (yk_replay_dram(&o, &dram_bytes, &err) < 0)
        return yolk_fail(YOLK_USAGE, "%s", err.text);
    int code = load(c, &trace);
    if (code != 0)
        return code;
    if (!ctx->common->json)
        say_plan(c, &o, &trace, dram_bytes);
    code = yolk_replaying_run(ctx, &o, &trace, "What came of it:");
    if (code == YOLK_OK && !ctx->common->json) {
        say_next(c);
        code = yolk_finish(code);
    }
    yk_replay_trace_fini(&trace);
    return code;
}

const struct yolk_cmd yolk_cmd_run = {
    .name = "run",
    .help = "start a node, replay a workload through it, print the figures, leave nothing",
    .more = "What `make run` calls. With its defaults it ends by itself in less than two minutes.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct run_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = run,
};
