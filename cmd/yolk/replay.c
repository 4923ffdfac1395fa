/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk replay: runs a trace against a node, or against one of its own (src/replay/replay.h).
 */
#include "commands.h"
#include "replaying.h"

#include <stdio.h>

struct replay_config {
    struct yolk_common common;
    struct yolk_replaying replaying;
    bool own, exact, ahead;
};

static const struct yk_opt rows[] = {
    {.name = "own",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct replay_config, own),
     .help = "Start a node for this run, which leaves nothing behind; --capacity, --dram, "
             "--ssd-capacity and --policy say so, too. Without --capacity and --dram it keeps 2000 "
             "blocks."},
    YOLK_REPLAYING_ROWS(struct replay_config, "256K", "0", "0", "1"),
    {.name = "exact",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct replay_config, exact),
     .help =
         "Insist on the trace's exact order of accesses, as a simulator has it: one client, one "
         "put at a time. With an SSD tier payload goes through the socket, and requests wait "
         "for writes."},
    {.name = "prefetch-ahead",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct replay_config, ahead),
     .help = "Have the node of this run bring chains up from SSD before they are asked for, where its policy (learned) "
             "predicts it. With --exact each second of the trace passes in it, as in yolk sim --prefetch-ahead."},
};

static int own_asked(const struct yolk_ctx *ctx) {
    const struct replay_config *c = ctx->config;
    return c->own || c->replaying.capacity > 0 || c->replaying.dram_bytes > 0 ||
           c->replaying.ssd_capacity > 0 || yk_opt_is_set(ctx->opts, "policy");
}

/* --own, or --policy, and nothing about its size: it is that of `yolk run`. */
static bool own_alone(const struct yolk_ctx *ctx) {
    return own_asked(ctx) && !yk_opt_is_set(ctx->opts, "capacity") &&
           !yk_opt_is_set(ctx->opts, "dram");
}

static int check(const struct yolk_ctx *ctx) {
    const struct replay_config *c = ctx->config;
    const struct yolk_replaying *r = &c->replaying;
    if (own_asked(ctx) && r->capacity == 0 && r->dram_bytes == 0 && !own_alone(ctx))
        return yolk_fail(YOLK_USAGE, "a node of its own needs --capacity or --dram");
    if (r->ssd != NULL && r->ssd_capacity == 0)
        return yolk_fail(YOLK_USAGE, "--ssd needs --ssd-capacity");
    if (c->exact && (r->clients != 1 || r->inflight > 1))
        return yolk_fail(YOLK_USAGE,
                         "--exact: found --clients %lld --inflight %lld, expected one "
                         "client and one put at a time",
                         (long long)r->clients, (long long)r->inflight);
    return 0;
}

static int replay(struct yolk_ctx *ctx) {
    const struct replay_config *c = ctx->config;
    struct yk_replay_trace trace = {0};
    struct yk_replay_opts o = {0};
    struct yk_err err = {0};
    int code = check(ctx);
    if (code != 0)
        return code;
    (void)yolk_replaying_opts(&c->replaying, &o);
    if (!own_asked(ctx)) {
        o.url = c->common.url;
        o.capacity_blocks = 0; /* of that node we know none */
    }
    if (own_alone(ctx))
        o.capacity_blocks = YOLK_OWN_BLOCKS;
    o.ahead = c->ahead && o.ssd_capacity_blocks > 0;
    o.exact = c->exact && o.ssd_capacity_blocks > 0; /* DRAM alone needs no more than one client */
    /* The namespace of other keys would be in the way of the trace's. */
    o.name_space = yk_opt_is_set(ctx->opts, "namespace") ? c->common.name_space : NULL;
    o.no_map = !c->common.map || !c->common.shm;
    o.no_xfer = !c->common.xfer;
    o.rails = c->common.rails;
    o.timeout_ms =
        yk_opt_is_set(ctx->opts, "timeout") ? (uint32_t)(c->common.timeout_ns / 1000000u) : 0;
    uint64_t dram_bytes;
    if (o.url == NULL && yk_replay_dram(&o, &dram_bytes, &err) < 0)
        return yolk_fail(YOLK_USAGE, "%s", err.text);
    if (yk_replay_load(ctx->args[0], (uint64_t)c->replaying.requests, &trace, &err) < 0)
        return yolk_replaying_load_failed(ctx->args[0], &err);
    code = yolk_replaying_run(ctx, &o, &trace, NULL);
    yk_replay_trace_fini(&trace);
    return code;
}

const struct yolk_cmd yolk_cmd_replay = {
    .name = "replay",
    .args = "TRACE",
    .min_args = 1,
    .max_args = 1,
    .help = "run a request trace with real bytes and check every byte that comes back",
    .more = "TRACE is a file in the public Mooncake format, plain or Zstandard-compressed; - is "
            "standard input. For each request the leading run of its blocks that is present is got "
            "and compared, the rest is put. Keys go into the namespace 'replay' unless another is "
            "named. A wrong byte ends the run with exit code 1.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct replay_config),
    .fn = replay,
};
