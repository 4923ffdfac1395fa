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
    bool hex, node;
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
    {.name = "node",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct stat_config, node),
     .help = "Print the node's figures, as it does without a key."},
};

/* ---- blocks ----------------------------------------------------------------------------------- */

/* A line for each key, as of rm: what is not there has no more than its status. */
static void print_json(struct yk_json *json, yk_key key, const yk_block_info *info, bool hex) {
    yk_json_begin_object(json);
    yolk_json_key(json, key, hex);
    yk_json_put_str(json, "status", info != NULL ? "ok" : "miss");
    if (info != NULL)
        yolk_json_info(json, info);
    yk_json_end_object(json);
    yk_json_newline(json);
}

static int stat_keys(struct yolk_ctx *ctx, const struct yolk_keys *keys) {
    const struct stat_config *config = ctx->config;
    struct yk_json json;
    int code = YOLK_OK, printed = 0;
    yk_json_init_file(&json, stdout);
    for (size_t i = 0; i < keys->n; i++) {
        yk_block_info info;
        int rc = yk_stat(ctx->client, keys->keys[i], &info);
        if (rc >= 0 && config->common.json)
            print_json(&json, keys->keys[i], rc == 0 ? &info : NULL, config->hex);
        if (rc != 0) {
            code = yolk_fail_call(ctx, rc, "stat", &keys->keys[i]);
            if (rc < 0)
                return code;
            continue;
        }
        if (config->common.json)
            continue;
        if (printed++ == 0)
            yolk_print_info_head();
        yolk_print_info(keys->keys[i], &info, config->hex);
    }
    return code;
}

/* ---- the node --------------------------------------------------------------------------------- */

enum kind { HEAD, COUNT, BYTES, RATIO };

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

/* Of a node with slow memory: the object "cxl". */
static const struct figure slow[] = {
    {HEAD, "slow memory", NULL},
    {BYTES, "capacity", "capacity_bytes"},
    {COUNT, "blocks", "blocks"},
    {BYTES, "in blocks", "block_bytes"},
    {BYTES, "free", "free_bytes"},
    {COUNT, "hits", "hits"},
    {BYTES, "bytes of them", "hit_bytes"},
    {COUNT, "sank", "sunk"},
    {BYTES, "bytes of them", "sunk_bytes"},
    {COUNT, "waited for a turn to sink", "sink_waits"},
    {COUNT, "found no place to sink", "sink_refused"},
    {COUNT, "rose", "risen"},
    {BYTES, "bytes of them", "risen_bytes"},
    {COUNT, "found no place to rise", "rise_refused"},
    {COUNT, "left, to SSD or for good", "left"},
    {COUNT, "latency, ns", "latency_ns"},
    {BYTES, "bandwidth, a second", "bytes_per_s"},
    {COUNT, "of DRAM: latency, ns", "dram_latency_ns"},
    {BYTES, "bandwidth, a second", "dram_bytes_per_s"},
};

/* Of a node with an SSD tier: its own figures, and those of the object "ssd". */
static const struct figure moves[] = {
    {HEAD, "between memory and SSD", NULL},
    {COUNT, "hits in SSD", "ssd_hits"},
    {BYTES, "bytes of them", "ssd_hit_bytes"},
    {COUNT, "went down", "demoted"},
    {BYTES, "bytes of them", "demoted_bytes"},
    {COUNT, "not worth a write", "demote_refused"},
    {COUNT, "dropped for puts that waited", "demote_hurried"},
    {COUNT, "could not be written", "demote_failed"},
    {BYTES, "on their way down", "leaving_bytes"},
    {COUNT, "came up", "raised"},
    {BYTES, "bytes of them", "raised_bytes"},
    {COUNT, "of them fetched ahead", "prefetched"},
    {COUNT, "of them as predicted", "prefetch_ahead_moved"},
    {COUNT, "and used", "prefetch_ahead_used"},
    {COUNT, "of them not worth the place", "yielded"},
    {COUNT, "could not be read", "raise_failed"},
    {BYTES, "preloaded", "preloaded_bytes"},
};

static const struct figure tier[] = {
    {HEAD, "SSD", NULL},
    {BYTES, "capacity", "capacity_bytes"},
    {COUNT, "blocks", "blocks"},
    {BYTES, "in blocks", "block_bytes"},
    {BYTES, "free", "free_bytes"},
    {BYTES, "waiting to be written", "queued_bytes"},
    {BYTES, "memory of its table", "meta_bytes"},
    {BYTES, "memory of its keys", "key_bytes"},
    {BYTES, "written, all told", "written_bytes"},
    {RATIO, "write amplification", "write_amplification"},
    {BYTES, "written again in cleaning", "clean_bytes"},
    {COUNT, "dropped in cleaning", "clean_dropped"},
    {COUNT, "evicted for capacity", "evicted"},
    {COUNT, "expired", "expired"},
    {COUNT, "of an older epoch", "outdated"},
    {COUNT, "removed", "removed"},
    {COUNT, "rotten, dropped", "rotten"},
    {COUNT, "errors of devices", "io_errors"},
    {COUNT, "recovered at the start", "recovered"},
    {COUNT, "dropped at the start", "recovery_dropped"},
};

static void print_figures(const json_t *of, const struct figure *list, size_t count) {
    char text[YK_FMT_MAX];
    for (size_t i = 0; i < count; i++) {
        const struct figure *f = &list[i];
        json_t *value = f->name != NULL ? json_object_get(of, f->name) : NULL;
        uint64_t n = (uint64_t)json_integer_value(value);
        if (f->kind == HEAD)
            printf("%s\n", f->label);
        else if (f->kind == RATIO)
            printf("  %-26s %14.3f\n", f->label, json_number_value(value));
        else if (f->kind == BYTES)
            printf("  %-26s %14s\n", f->label, yk_fmt_bytes(n, text));
        else
            printf("  %-26s %14llu\n", f->label, (unsigned long long)n);
    }
}

static const char *text_of(const json_t *of, const char *name) {
    const char *text = json_string_value(json_object_get(of, name));
    return text != NULL ? text : "?";
}

static void print_devices(const json_t *ssd) {
    char size[YK_FMT_MAX], wear[YK_FMT_MAX], fixed[YK_FMT_MAX];
    const json_t *devices = json_object_get(ssd, "devices");
    printf("%-14s %14s %12s %12s %12s  %s\n", "devices", "size", "wear", "registered", "queue", "path");
    for (size_t i = 0; i < json_array_size(devices); i++) {
        const json_t *d = json_array_get(devices, i);
        printf("  %-12s %14s %12s %12s %12lld  %s\n", text_of(d, "state"),
               yk_fmt_bytes((uint64_t)json_integer_value(json_object_get(d, "size_bytes")), size),
               yk_fmt_bytes((uint64_t)json_integer_value(json_object_get(d, "wear_bytes")), wear),
               yk_fmt_bytes((uint64_t)json_integer_value(json_object_get(d, "fixed_bytes")), fixed),
               (long long)json_integer_value(json_object_get(d, "queue_depth")), text_of(d, "path"));
    }
}

#define PRINT(of, list) print_figures((of), (list), sizeof(list) / sizeof((list)[0]))

static void print_cxl(const struct yolk_sample *s) {
    const json_t *cxl = json_object_get(s->root, "cxl");
    if (!json_is_object(cxl))
        return;
    PRINT(cxl, slow);
    if (!json_is_true(json_object_get(cxl, "used")))
        puts("  it is no quicker than an SSD, and nothing is put there");
}

static void print_ssd(const struct yolk_sample *s) {
    const json_t *ssd = json_object_get(s->root, "ssd");
    if (!json_is_object(ssd))
        return;
    PRINT(s->root, moves);
    PRINT(ssd, tier);
    print_devices(ssd);
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
        puts("its memory is lost (a file of its segment was truncated, or its file system is full): "
             "restart it");
    if (!isnan(ratio))
        printf("hit ratio %.2f %%\n", ratio * 100);
    PRINT(s->root, figures);
    print_cxl(s);
    print_ssd(s);
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
    if (config->node && (ctx->n_args > 0 || config->keys != NULL))
        return yolk_fail(YOLK_USAGE, "--node: found keys as well, expected one of them");
    if (config->keys != NULL)
        code = yolk_keys_from_file(config->keys, config->hex, &keys);
    else
        code = yolk_keys_from_args(ctx->args, ctx->n_args, config->hex, &keys);
    bool of_node = ctx->n_args == 0 && config->keys == NULL;
    if (code == 0)
        code = of_node ? yolk_open_node(ctx) : yolk_open(ctx, 0);
    if (code == 0)
        code = of_node ? stat_node(ctx) : stat_keys(ctx, &keys);
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
