/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk stat: attributes of blocks, or without a key the node's figures.
 */
#include "commands.h"
#include "info.h"
#include "keys.h"
#include "sample.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stat_config {
    struct yolk_common common;
    bool hex;
    char *keys;
};

static const struct yk_opt rows[] = {
    {.name = "hex",
     .letter = 'x',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct stat_config, hex),
     .help = "Keys are hex digits."},
    {.name = "keys",
     .letter = 'k',
     .type = YK_OPT_STR,
     YK_OPT_AT(struct stat_config, keys),
     .metavar = "FILE|-",
     .help = "Read the keys from a file, one a line."},
};

/* ---- blocks ----------------------------------------------------------------------------------- */

static int stat_keys(struct yolk_ctx *ctx, const struct yolk_keys *keys) {
    const struct stat_config *config = ctx->config;
    struct yk_json json;
    int code = YOLK_OK, printed = 0;
    yk_json_init_file(&json, stdout);
    for (size_t i = 0; i < keys->n; i++) {
        yk_block_info info;
        int rc = yk_stat(ctx->client, keys->keys[i], &info);
        if (rc != 0) {
            code = yolk_fail_call(ctx, rc, "stat", &keys->keys[i]);
            if (rc < 0)
                return code;
            continue;
        }
        if (config->common.json) {
            yk_json_begin_object(&json);
            yolk_json_key(&json, keys->keys[i], config->hex);
            yolk_json_info(&json, &info);
            yk_json_end_object(&json);
            yk_json_newline(&json);
            continue;
        }
        if (printed++ == 0)
            yolk_print_info_head();
        yolk_print_info(keys->keys[i], &info, config->hex);
    }
    return code;
}

/* ---- the node --------------------------------------------------------------------------------- */

enum kind { HEAD, COUNT, BYTES };

static const struct figure {
    enum kind kind;
    const char *label, *name;
} figures[] = {
    {HEAD, "memory", NULL},
    {BYTES, "capacity", "capacity_bytes"},
    {COUNT, "blocks", "blocks"},
    {BYTES, "in blocks", "block_bytes"},
    {BYTES, "free", "free_bytes"},
    {BYTES, "largest free piece", "largest_free_bytes"},
    {BYTES, "lost to rounding", "waste_bytes"},
    {BYTES, "reserved", "reserved_bytes"},
    {BYTES, "hard pinned", "hard_pinned_bytes"},
    {BYTES, "waiting for readers", "limbo_bytes"},
    {COUNT, "blocks to verify", "suspect_blocks"},
    {HEAD, "since the start", NULL},
    {COUNT, "hits of mapped clients", "local_hits"},
    {COUNT, "misses of mapped clients", "local_misses"},
    {COUNT, "hits over the socket", "node_hits"},
    {COUNT, "misses over the socket", "node_misses"},
    {COUNT, "keys matched", "local_match_keys"},
    {COUNT, "blocks put", "commits"},
    {BYTES, "bytes put", "put_bytes"},
    {COUNT, "put again, same bytes", "duplicates"},
    {COUNT, "conflicts", "conflicts"},
    {COUNT, "evicted for space", "evict_space"},
    {COUNT, "evicted for capacity", "evict_capacity"},
    {COUNT, "evicted for a quota", "evict_quota"},
    {COUNT, "expired", "evict_expired"},
    {COUNT, "of an older epoch", "evict_epoch"},
    {COUNT, "replaced", "evict_replaced"},
    {COUNT, "removed", "removed"},
    {COUNT, "corrupt, dropped", "corrupt"},
    {COUNT, "moved by the compactor", "moves"},
    {BYTES, "read by the scrubber", "scrubbed_bytes"},
    {HEAD, "clients", NULL},
    {COUNT, "mapped now", "clients"},
    {COUNT, "connections now", "connections"},
    {COUNT, "connections so far", "connections_accepted"},
    {COUNT, "connections refused", "connections_refused"},
    {COUNT, "broken messages", "protocol_errors"},
    {COUNT, "puts waiting for space", "waiting"},
};

static void print_figures(const struct yolk_sample *s) {
    char text[YK_FMT_MAX];
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        const struct figure *f = &figures[i];
        uint64_t n = f->name != NULL ? yolk_sample_get(s, f->name) : 0;
        if (f->kind == HEAD)
            printf("%s\n", f->label);
        else if (f->kind == BYTES)
            printf("  %-26s %14s\n", f->label, yk_fmt_bytes(n, text));
        else
            printf("  %-26s %14llu\n", f->label, (unsigned long long)n);
    }
}

static void print_latency(const struct yolk_sample *s) {
    const char *op;
    json_t *row, *all = json_object_get(s->root, "latency");
    if (json_object_size(all) == 0)
        return;
    printf("%-14s %14s %12s %12s %12s\n", "requests", "count", "p50 us", "p99 us", "p99.9 us");
    json_object_foreach(all, op, row) {
        printf("  %-12s %14lld %12.1f %12.1f %12.1f\n", op,
               (long long)json_integer_value(json_object_get(row, "count")),
               json_number_value(json_object_get(row, "p50_us")),
               json_number_value(json_object_get(row, "p99_us")),
               json_number_value(json_object_get(row, "p999_us")));
    }
}

static void print_node(const struct yolk_sample *s) {
    char up[YK_FMT_MAX];
    double ratio = yolk_sample_hit_ratio(NULL, s);
    printf("yolkd %s, process %llu, up %s, policy %s, segment found %s\n",
           yolk_sample_text(s, "version"), (unsigned long long)yolk_sample_get(s, "pid"),
           yk_fmt_duration(yolk_sample_get(s, "uptime_ms") * YK_NS_PER_MS, up),
           yolk_sample_text(s, "policy"), yolk_sample_text(s, "start"));
    if (json_is_true(json_object_get(s->root, "tier_lost")))
        puts("its memory was lost (the segment's file was truncated): restart it");
    if (!isnan(ratio))
        printf("hit ratio %.2f %%\n", ratio * 100);
    print_figures(s);
    print_latency(s);
}

static int stat_node(struct yolk_ctx *ctx) {
    struct yolk_sample sample = {0};
    char *text = NULL;
    int rc = ctx->common->json ? yk_stats_json(ctx->client, &text)
                               : yolk_sample_take(ctx->client, &sample);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "stat", NULL);
    if (text != NULL)
        puts(text);
    else
        print_node(&sample);
    free(text);
    yolk_sample_free(&sample);
    return YOLK_OK;
}

static int stat_run(struct yolk_ctx *ctx) {
    const struct stat_config *config = ctx->config;
    struct yolk_keys keys = {0};
    int code = 0;
    if (ctx->n_args > 0 && config->keys != NULL)
        return yolk_fail(YOLK_USAGE, "--keys: found keys as arguments too, expected one of them");
    if (config->keys != NULL)
        code = yolk_keys_from_file(config->keys, config->hex, &keys);
    else
        code = yolk_keys_from_args(ctx->args, ctx->n_args, config->hex, &keys);
    if (code == 0)
        code = yolk_open(ctx, 0);
    if (code == 0)
        code = ctx->n_args == 0 && config->keys == NULL ? stat_node(ctx) : stat_keys(ctx, &keys);
    yolk_keys_free(&keys);
    return yolk_finish(code);
}

const struct yolk_cmd yolk_cmd_stat = {
    .name = "stat",
    .args = "[KEY]...",
    .max_args = SIZE_MAX,
    .help = "print attributes of blocks, or without a key the node's figures",
    .more = "It does not count as an access. Exits with 3 if a block is not there.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct stat_config),
    .fn = stat_run,
};
