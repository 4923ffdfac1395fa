/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk rm, touch, pin, unpin, expire, prefetch: commands over a list of keys.
 *
 * Keys are arguments or come from a file, and go to the node in batches. A key that is not there is
 * one line on standard error and exit code 3; the others are done all the same.
 */
#include "commands.h"
#include "keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One struct for all: none has more than two of its own. */
struct change_config {
    struct yolk_common common;
    bool hex;
    char *keys;
    /* rm */
    char *prefix;
    char *pattern;
    bool all;
    bool force;
    /* pin, expire */
    uint64_t time_ns;
    /* prefetch */
    int tier;
    uint64_t deadline_ns;
};

/* clang-format off */
#define KEY_ROWS                                                                                   \
    {.name = "hex", .letter = 'x', .type = YK_OPT_BOOL, YK_OPT_AT(struct change_config, hex),      \
     .help = "Keys are hex digits."},                                                              \
    {.name = "keys", .letter = 'k', .type = YK_OPT_STR, YK_OPT_AT(struct change_config, keys),     \
     .metavar = "FILE|-", .help = "Read the keys from a file, one a line."}
/* clang-format on */

static int keys_of(const struct yolk_ctx *ctx, struct yolk_keys *ret_keys) {
    const struct change_config *config = ctx->config;
    *ret_keys = (struct yolk_keys){.n = 0};
    if ((ctx->n_args > 0) == (config->keys != NULL))
        return yolk_fail(YOLK_USAGE,
                         "found %s, expected keys as arguments or --keys FILE (see yolk "
                         "%s --help)",
                         ctx->n_args > 0 ? "both" : "no keys", ctx->cmd->name);
    if (config->keys != NULL)
        return yolk_keys_from_file(config->keys, config->hex, ret_keys);
    return yolk_keys_from_args(ctx->args, ctx->n_args, config->hex, ret_keys);
}

/* ---- one change of each key ------------------------------------------------------------------- */

static const char *status_text(int status) {
    return status == 0 ? "ok" : status == YK_MISS ? "miss" : yk_strstatus(status);
}

static void print_changes(const yk_op *ops, size_t n, bool hex) {
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    for (size_t i = 0; i < n; i++) {
        yk_json_begin_object(&json);
        yolk_json_key(&json, ops[i].key, hex);
        yk_json_put_str(&json, "status", status_text(ops[i].status));
        yk_json_end_object(&json);
        yk_json_newline(&json);
    }
    yk_json_finish(&json);
}

/* Errors of a batch, one line each; the worst exit code: a failure counts more than a miss. */
static int report(const struct yolk_ctx *ctx, const yk_op *ops, size_t n, bool quiet_misses) {
    const struct change_config *config = ctx->config;
    char text[YOLK_KEY_TEXT_MAX], limit[YOLK_LIMIT_TEXT_MAX];
    int code = YOLK_OK;
    if (ctx->common->json)
        print_changes(ops, n, config->hex);
    for (size_t i = 0; i < n; i++) {
        if (ops[i].status == 0 || (ops[i].status == YK_MISS && quiet_misses))
            continue;
        yolk_key_text(ops[i].key, config->hex, text);
        int one = yolk_fail(yolk_exit_of(ops[i].status), "%s '%.60s': %s%s", ctx->cmd->name, text,
                            ops[i].status == YK_MISS ? "not here" : yk_strerror(ops[i].status),
                            yolk_limit_text(ctx, ops[i].status, limit));
        if (code == YOLK_OK || code == YOLK_MISS)
            code = one;
    }
    return code;
}

static int run_batches(struct yolk_ctx *ctx, const struct yolk_keys *keys, uint32_t opcode,
                       uint64_t arg, bool quiet_misses) {
    yk_op *ops = calloc(YK_BATCH_MAX, sizeof(*ops));
    int worst = YOLK_OK;
    if (ops == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    for (size_t at = 0; at < keys->n && (worst == YOLK_OK || worst == YOLK_MISS);) {
        size_t n = keys->n - at < YK_BATCH_MAX ? keys->n - at : YK_BATCH_MAX;
        memset(ops, 0, n * sizeof(*ops));
        for (size_t i = 0; i < n; i++) {
            ops[i].opcode = opcode;
            ops[i].key = keys->keys[at + i];
            ops[i].arg = arg;
        }
        int rc = yk_run(ctx->client, ops, n, 0);
        int code = rc < 0 ? yolk_fail_call(ctx, rc, ctx->cmd->name, NULL)
                          : report(ctx, ops, n, quiet_misses);
        worst = code != YOLK_OK ? code : worst;
        at += n;
    }
    free(ops);
    return worst;
}

static int change_keys(struct yolk_ctx *ctx, uint32_t opcode, uint64_t arg, bool quiet_misses) {
    struct yolk_keys keys;
    int code = keys_of(ctx, &keys);
    if (code == 0)
        code = yolk_open(ctx, 0);
    if (code == 0)
        code = run_batches(ctx, &keys, opcode, arg, quiet_misses);
    yolk_keys_free(&keys);
    return yolk_finish(code);
}

/* ---- touch, unpin, pin, expire ---------------------------------------------------------------- */

static const struct yk_opt key_rows[] = {KEY_ROWS};

static int touch(struct yolk_ctx *ctx) {
    return change_keys(ctx, YK_OP_TOUCH, 0, false);
}

static int unpin(struct yolk_ctx *ctx) {
    return change_keys(ctx, YK_OP_UNPIN, 0, false);
}

static const struct yk_opt pin_rows[] = {
    {.name = "for",
     .type = YK_OPT_DURATION,
     YK_OPT_AT(struct change_config, time_ns),
     .def = "0",
     .help = "Evict it last, for so long; not given: do not evict it at all."},
    KEY_ROWS,
};

static int pin(struct yolk_ctx *ctx) {
    const struct change_config *config = ctx->config;
    return change_keys(ctx, YK_OP_PIN, (config->time_ns + 999999u) / 1000000u, false);
}

static const struct yk_opt expire_rows[] = {
    {.name = "ttl",
     .type = YK_OPT_DURATION,
     YK_OPT_AT(struct change_config, time_ns),
     .help = "Time to live from now on; 0 is for ever. It must be given."},
    KEY_ROWS,
};

static int expire(struct yolk_ctx *ctx) {
    const struct change_config *config = ctx->config;
    if (!yk_opt_is_set(ctx->opts, "ttl"))
        return yolk_fail(YOLK_USAGE,
                         "--ttl: found nothing, expected a time such as 10m (0: for ever)");
    return change_keys(ctx, YK_OP_EXPIRE, (config->time_ns + 999999u) / 1000000u, false);
}

/* ---- rm ----------------------------------------------------------------------------------------- */

static const struct yk_opt rm_rows[] = {
    {.name = "prefix",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct change_config, prefix),
     .metavar = "PREFIX",
     .help = "Remove all blocks whose key begins so."},
    {.name = "pattern",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct change_config, pattern),
     .metavar = "GLOB",
     .help = "Remove all blocks whose key matches: * ? [a-z] [!a-z]."},
    {.name = "all",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct change_config, all),
     .help = "Remove all blocks of the namespace. Asks on a terminal."},
    {.name = "force",
     .letter = 'f',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct change_config, force),
     .help = "Don't ask; keys that are not there are fine."},
    KEY_ROWS,
};

static bool confirmed(const struct yolk_ctx *ctx) {
    char answer[16], name[YOLK_KEY_TEXT_MAX];
    if (((const struct change_config *)ctx->config)->force || !isatty(STDIN_FILENO))
        return true;
    fprintf(stderr, "yolk: remove all blocks of namespace '%s'? [y/N] ",
            yolk_safe_text(ctx->common->name_space, name));
    return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int remove_many(struct yolk_ctx *ctx, int how, const char *text) {
    const struct change_config *config = ctx->config;
    unsigned char bytes[YK_KEY_MAX];
    struct yk_json json;
    uint64_t count = 0;
    yk_key pattern = {NULL, 0};
    int code = text != NULL ? yolk_key_from_arg(text, config->hex, bytes, &pattern) : 0;
    if (code == 0 && how == YK_REMOVE_ALL && !confirmed(ctx))
        return yolk_fail(YOLK_FAIL, "nothing was removed");
    if (code == 0)
        code = yolk_open(ctx, 0);
    if (code != 0)
        return code;
    int rc = yk_remove_many(ctx->client, how, pattern, &count);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "rm", NULL);
    if (ctx->common->json) {
        yk_json_init_file(&json, stdout);
        yk_json_begin_object(&json);
        yk_json_put_uint(&json, "removed", count);
        yk_json_end_object(&json);
        yk_json_newline(&json);
        yk_json_finish(&json);
    } else {
        printf("%llu removed\n", (unsigned long long)count);
    }
    return yolk_finish(YOLK_OK);
}

static int rm(struct yolk_ctx *ctx) {
    const struct change_config *config = ctx->config;
    int ways = (config->prefix != NULL) + (config->pattern != NULL) + config->all +
               (config->keys != NULL) + (ctx->n_args > 0);
    if (ways != 1)
        return yolk_fail(YOLK_USAGE,
                         "found %s, expected keys or one of --keys, --prefix, --pattern and "
                         "--all",
                         ways == 0 ? "nothing to remove" : "more than one");
    if (config->prefix != NULL)
        return remove_many(ctx, YK_REMOVE_PREFIX, config->prefix);
    if (config->pattern != NULL)
        return remove_many(ctx, YK_REMOVE_GLOB, config->pattern);
    if (config->all)
        return remove_many(ctx, YK_REMOVE_ALL, NULL);
    return change_keys(ctx, YK_OP_REMOVE, 0, config->force);
}

/* ---- prefetch ----------------------------------------------------------------------------------- */

static const char *const tier_names[] = {"any", "dram", "ssd", "cxl", "vram", NULL};

static const struct yk_opt prefetch_rows[] = {
    {.name = "tier",
     .type = YK_OPT_ENUM,
     YK_OPT_AT(struct change_config, tier),
     .def = "dram",
     .values = tier_names,
     .help = "Where the blocks should be."},
    {.name = "deadline",
     .type = YK_OPT_DURATION,
     YK_OPT_AT(struct change_config, deadline_ns),
     .def = "1s",
     .min = "1ms",
     .max = "1d",
     .help = "When they are wanted, from now."},
    KEY_ROWS,
};

static int prefetch_keys(struct yolk_ctx *ctx, const struct yolk_keys *keys) {
    const struct change_config *config = ctx->config;
    struct yk_json json;
    int rc = yk_prefetch(ctx->client, keys->keys, keys->n, config->tier,
                         (uint32_t)(config->deadline_ns / 1000000u));
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "prefetch", NULL);
    const char *why = rc == 0 ? yk_error_text(ctx->client) : "";
    if (ctx->common->json) {
        yk_json_init_file(&json, stdout);
        yk_json_begin_object(&json);
        yk_json_put_uint(&json, "raised", (uint64_t)rc);
        yk_json_put_uint(&json, "of", keys->n);
        yk_json_put_str(&json, "why", why[0] != '\0' ? why : NULL);
        yk_json_end_object(&json);
        yk_json_newline(&json);
        yk_json_finish(&json);
    } else {
        printf("%d of %zu will be raised%s%s\n", rc, keys->n, why[0] != '\0' ? ": " : "", why);
    }
    return YOLK_OK;
}

static int prefetch(struct yolk_ctx *ctx) {
    struct yolk_keys keys;
    int code = keys_of(ctx, &keys);
    if (code == 0)
        code = yolk_open(ctx, 0);
    if (code == 0)
        code = prefetch_keys(ctx, &keys);
    yolk_keys_free(&keys);
    return yolk_finish(code);
}

/* ---- table -------------------------------------------------------------------------------------- */

#define CHANGE_CMD(rows_, fn_)                                                                     \
    .args = "[KEY]...", .max_args = SIZE_MAX, YOLK_CMD_OPTIONS(rows_),                             \
    .config_bytes = sizeof(struct change_config), .fn = (fn_)

const struct yolk_cmd yolk_cmd_rm = {
    .name = "rm",
    .help = "remove blocks",
    .more = "When it ends, nobody finds them any more. A hard pin does not protect from it.",
    CHANGE_CMD(rm_rows, rm),
};
const struct yolk_cmd yolk_cmd_touch = {
    .name = "touch",
    .help = "count an access to blocks without reading them",
    CHANGE_CMD(key_rows, touch),
};
const struct yolk_cmd yolk_cmd_pin = {
    .name = "pin",
    .help = "keep blocks from being evicted",
    .more = "For a time they are evicted last; without --for they stay until unpin or rm.",
    CHANGE_CMD(pin_rows, pin),
};
const struct yolk_cmd yolk_cmd_unpin = {
    .name = "unpin",
    .help = "take pins back",
    CHANGE_CMD(key_rows, unpin),
};
const struct yolk_cmd yolk_cmd_expire = {
    .name = "expire",
    .help = "set the time to live of blocks",
    CHANGE_CMD(expire_rows, expire),
};
const struct yolk_cmd yolk_cmd_prefetch = {
    .name = "prefetch",
    .help = "ask for blocks to be in a fast tier soon",
    CHANGE_CMD(prefetch_rows, prefetch),
};
