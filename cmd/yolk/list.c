/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk ls and yolk match: which blocks are there. Neither counts as an access.
 */
#include "commands.h"
#include "info.h"
#include "keys.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- ls --------------------------------------------------------------------------------------- */

struct ls_config {
    struct yolk_common common;
    bool lng;
    bool hex;
    int64_t limit;
};

static const struct yk_opt ls_rows[] = {
    {.name = "long",
     .letter = 'l',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct ls_config, lng),
     .help = "Print bytes, tier, pin, time to live and children too."},
    {.name = "hex",
     .letter = 'x',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct ls_config, hex),
     .help = "Print keys, and take PREFIX, as hex digits."},
    {.name = "limit",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct ls_config, limit),
     .def = "0",
     .min = "0",
     .help = "Stop after so many; 0 prints all."},
};

#define LS_ENOUGH 1
#define LS_BROKEN 2 /* standard output */

struct listing {
    const struct ls_config *config;
    struct yk_json json;
    int64_t n;
};

static int print_listed(void *arg, yk_key key, const yk_block_info *info) {
    struct listing *l = arg;
    char text[YOLK_KEY_TEXT_MAX];
    if (l->config->common.json) {
        yk_json_begin_object(&l->json);
        yolk_json_key(&l->json, key, l->config->hex);
        yolk_json_info(&l->json, info);
        yk_json_end_object(&l->json);
        yk_json_newline(&l->json);
    } else if (l->config->lng) {
        if (l->n == 0)
            yolk_print_info_head();
        yolk_print_info(key, info, l->config->hex);
    } else {
        puts(yolk_key_text(key, l->config->hex, text));
    }
    l->n++;
    if (ferror(stdout))
        return LS_BROKEN;
    return l->config->limit > 0 && l->n >= l->config->limit ? LS_ENOUGH : 0;
}

static int ls(struct yolk_ctx *ctx) {
    struct listing l = {.config = ctx->config};
    unsigned char prefix_bytes[YK_KEY_MAX];
    yk_key prefix = {NULL, 0};
    int code = 0;
    if (ctx->n_args > 0 && ctx->args[0][0] != '\0')
        code = yolk_key_from_arg(ctx->args[0], l.config->hex, prefix_bytes, &prefix);
    if (code == 0)
        code = yolk_open(ctx, 0);
    if (code != 0)
        return code;
    yk_json_init_file(&l.json, stdout);
    int rc = yk_list(ctx->client, prefix, print_listed, &l);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "ls", NULL);
    return yolk_finish(YOLK_OK);
}

const struct yolk_cmd yolk_cmd_ls = {
    .name = "ls",
    .args = "[PREFIX]",
    .max_args = 1,
    .help = "list keys, all or those that begin with PREFIX",
    .more = "They come in no order.",
    YOLK_CMD_OPTIONS(ls_rows),
    .config_bytes = sizeof(struct ls_config),
    .fn = ls,
};

/* ---- match ------------------------------------------------------------------------------------ */

struct match_config {
    struct yolk_common common;
    bool lng;
    bool hex;
    char *keys;
};

static const struct yk_opt match_rows[] = {
    {.name = "long",
     .letter = 'l',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct match_config, lng),
     .help = "Print a line for each block that is there."},
    {.name = "hex",
     .letter = 'x',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct match_config, hex),
     .help = "Keys are hex digits."},
    {.name = "keys",
     .letter = 'k',
     .type = YK_OPT_STR,
     YK_OPT_AT(struct match_config, keys),
     .metavar = "FILE|-",
     .help = "Read the keys from a file, one a line."},
};

static void print_match(const struct match_config *config, const struct yolk_keys *keys,
                        const yk_block_info *infos, size_t n) {
    char tiers[YOLK_TIERS_MAX], text[YOLK_KEY_TEXT_MAX];
    struct yk_json json;
    if (!config->common.json) {
        for (size_t i = 0; config->lng && i < n; i++)
            printf("%12llu %-9s  %s\n", (unsigned long long)infos[i].len,
                   yolk_tiers_text(infos[i].tiers, tiers),
                   yolk_key_text(keys->keys[i], config->hex, text));
        printf("%zu of %zu\n", n, keys->n);
        return;
    }
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yk_json_put_uint(&json, "matched", n);
    yk_json_put_uint(&json, "of", keys->n);
    yk_json_key(&json, "blocks");
    yk_json_begin_array(&json);
    for (size_t i = 0; i < n; i++) {
        yk_json_begin_object(&json);
        yolk_json_key(&json, keys->keys[i], config->hex);
        yk_json_put_uint(&json, "len", infos[i].len);
        yk_json_put_str(&json, "tier", yolk_tiers_text(infos[i].tiers, tiers));
        yk_json_end_object(&json);
    }
    yk_json_end_array(&json);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    yk_json_finish(&json);
}

static int match_keys(struct yolk_ctx *ctx, const struct yolk_keys *keys) {
    const struct match_config *config = ctx->config;
    int code = yolk_open(ctx, 0);
    if (code != 0)
        return code;
    bool blocks = config->lng || config->common.json;
    yk_block_info *infos = blocks ? calloc(keys->n + 1, sizeof(*infos)) : NULL;
    if (blocks && infos == NULL)
        return yolk_fail(YOLK_FAIL, "no memory for %zu keys", keys->n);
    int rc = yk_match(ctx->client, keys->keys, keys->n, infos);
    if (rc < 0)
        code = yolk_fail_call(ctx, rc, "match", NULL);
    else
        print_match(config, keys, infos, (size_t)rc);
    free(infos);
    return yolk_finish(rc == 0 && keys->n > 0 ? YOLK_MISS : code);
}

static int match(struct yolk_ctx *ctx) {
    const struct match_config *config = ctx->config;
    struct yolk_keys keys;
    int code;
    if (ctx->n_args > 0 && config->keys != NULL)
        return yolk_fail(YOLK_USAGE, "--keys: found keys as arguments too, expected one of them");
    if (ctx->n_args > 0)
        code = yolk_keys_from_args(ctx->args, ctx->n_args, config->hex, &keys);
    else
        code = yolk_keys_from_file(config->keys != NULL ? config->keys : "-", config->hex, &keys);
    if (code == 0)
        code = match_keys(ctx, &keys);
    yolk_keys_free(&keys);
    return code;
}

const struct yolk_cmd yolk_cmd_match = {
    .name = "match",
    .args = "[KEY]...",
    .max_args = SIZE_MAX,
    .help = "say how many of the keys, from the first on, are there",
    .more =
        "Without a KEY they are read from standard input, one a line. Exits with 3 if the first "
        "is not there.",
    YOLK_CMD_OPTIONS(match_rows),
    .config_bytes = sizeof(struct match_config),
    .fn = match,
};
