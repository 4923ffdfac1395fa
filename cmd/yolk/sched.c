/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk sched: how the learned policy does, by namespace; yolk sched explain KEY: what it thinks of a block.
 */
#include "commands.h"
#include "keys.h"
#include "sample.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sched_config {
    struct yolk_common common;
    bool hex;
};

static const struct yk_opt rows[] = {
    {.name = "hex",
     .letter = 'x',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct sched_config, hex),
     .help = "KEY is hex digits."},
};

static double number(const json_t *of, const char *name) {
    return json_number_value(json_object_get(of, name));
}

static const char *text(const json_t *of, const char *name) {
    const char *t = json_string_value(json_object_get(of, name));
    return t != NULL ? t : "?";
}

static const char *duration(double ms, char buf[YK_FMT_MAX]) {
    return yk_fmt_duration((uint64_t)ms * YK_NS_PER_MS, buf);
}

/* ---- the table ------------------------------------------------------------------------------- */

static void print_head(void) {
    printf("%-16s %-8s %9s %9s  %6s %6s %6s %6s  %9s %9s %6s %6s  %9s %9s %6s\n", "NAMESPACE", "FOLLOWS", "ROOM", "REQUESTED",
           "HIT %", "LRU", "S3FIFO", "LEARN", "TRAININGS", "MODEL AGE", "RATIO", "BITS", "SHARE", "USED", "EXP %");
}

static void print_row(const json_t *row) {
    char name[YOLK_KEY_TEXT_MAX], age[YK_FMT_MAX], share[YK_FMT_MAX], used[YK_FMT_MAX];
    const json_t *late = json_object_get(row, "late_hit_ratio"), *c = json_object_get(row, "calibration");
    double blocks = number(row, "requested_blocks"), hits = number(json_object_get(row, "hit_blocks"), "real");
    bool has_model = !json_is_null(json_object_get(row, "model_age_ms"));
    printf("%-16s %-8s %9.0f %9.0f  %6.2f %6.2f %6.2f %6.2f  %9.0f %9s %6.2f %6.2f  %9s %9s %6.2f\n",
           yolk_safe_text(text(row, "namespace"), name), text(row, "follows"), number(row, "room_blocks"), blocks,
           blocks > 0 ? 100 * hits / blocks : 0, 100 * number(late, "lru"), 100 * number(late, "s3fifo"),
           100 * number(late, "learned"), number(row, "trainings"),
           has_model ? duration(number(row, "model_age_ms"), age) : "-", number(c, "ratio"), number(c, "bits_per_use"),
           yk_fmt_bytes((uint64_t)number(row, "share_bytes"), share),
           yk_fmt_bytes((uint64_t)number(row, "share_used_bytes"), used), 100 * number(row, "share_hit_ratio"));
}

static void print_table(const json_t *learned) {
    print_head();
    for (size_t i = 0; i < json_array_size(learned); i++)
        print_row(json_array_get(learned, i));
}

static int print_lines(const json_t *learned) {
    for (size_t i = 0; i < json_array_size(learned); i++) {
        char *line = json_dumps(json_array_get(learned, i), JSON_PRESERVE_ORDER);
        if (line == NULL)
            return yolk_fail(YOLK_FAIL, "no memory");
        puts(line);
        free(line);
    }
    return YOLK_OK;
}

static int table(struct yolk_ctx *ctx) {
    struct yolk_sample sample = {0};
    int code = yolk_open_node(ctx);
    if (code != 0)
        return code;
    int rc = yolk_sample_take(ctx->client, &sample);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "sched", NULL);
    const json_t *learned = json_object_get(sample.root, "learned");
    if (!json_is_array(learned))
        code = yolk_fail(YOLK_FAIL, "the node's policy is %s, which learns nothing: expected --policy learned, the default",
                         yolk_sample_text(&sample, "policy"));
    else if (ctx->common->json)
        code = print_lines(learned);
    else
        print_table(learned);
    yolk_sample_free(&sample);
    return code;
}

/* ---- explain --------------------------------------------------------------------------------- */

static void print_verdict(const json_t *b) {
    const char *follows = text(b, "follows");
    bool here = json_is_true(json_object_get(b, "here")), stays = json_is_true(json_object_get(b, "stays"));
    bool leaf = json_is_true(json_object_get(b, "leaf"));
    printf("%s; %s is followed and has %s: %s\n", here ? "here" : "not here", follows, stays ? "it" : "it not",
           here ? (stays ? "it stays" : "it goes first") : (stays ? "it would stay" : "it would go first"));
    if (leaf)
        printf("of %.0f blocks that may go in learned's order, %.0f go before it\n", number(b, "leaves"),
               number(b, "go_before"));
    else if (json_is_true(json_object_get(b, "in_learned")))
        puts("in learned's order its children go before it");
}

static void print_prediction(const json_t *b) {
    char age[YK_FMT_MAX], life[YK_FMT_MAX], next[YK_FMT_MAX];
    double rate = number(b, "uses_per_s");
    printf("used %.0f times in %s, last %s ago; %.0f children\n", number(b, "uses"),
           duration(number(b, "life_ms"), life), duration(number(b, "age_ms"), age), number(b, "children"));
    if (rate > 0)
        printf("predicted: %.3g uses a second, one in %s\n", rate, duration(fmin(1e3 / rate, 1e14), next));
    else
        puts("predicted: nothing yet, there is no model");
}

static void print_block(const json_t *b) {
    const char *name;
    json_t *value, *features = json_object_get(b, "features");
    print_verdict(b);
    print_prediction(b);
    printf("caches without payload of %.0f blocks:", number(b, "room_blocks"));
    printf(" lru %s, s3fifo %s, learned %s\n", json_is_true(json_object_get(b, "in_lru")) ? "has it" : "-",
           json_is_true(json_object_get(b, "in_s3fifo")) ? "has it" : "-",
           json_is_true(json_object_get(b, "in_learned")) ? "has it" : "-");
    printf("features, in steps:");
    json_object_foreach(features, name, value)
        printf(" %s=%lld", name, (long long)json_integer_value(value));
    puts("");
}

static int explain(struct yolk_ctx *ctx) {
    const struct sched_config *config = ctx->config;
    unsigned char storage[YK_KEY_MAX];
    char *json = NULL;
    yk_key key;
    int code = yolk_key_from_arg(ctx->args[1], config->hex, storage, &key);
    if (code == 0)
        code = yolk_open(ctx, 0);
    if (code != 0)
        return code;
    int rc = yk_explain_json(ctx->client, key, &json);
    if (rc == -YK_ENOTSUP)
        return yolk_fail(YOLK_FAIL, "the node's policy learns nothing: expected --policy learned, the default");
    if (rc == YK_MISS)
        return yolk_fail(YOLK_MISS, "the policy does not know this key: it was in no request, or long ago");
    if (rc != 0)
        return yolk_fail_call(ctx, rc, "explain", &key);
    json_t *root = json_loads(json, 0, NULL);
    if (config->common.json)
        puts(json);
    else if (root != NULL)
        print_block(root);
    code = root != NULL ? YOLK_OK : yolk_fail(YOLK_FAIL, "the node's answer is no JSON");
    json_decref(root);
    free(json);
    return code;
}

static int sched(struct yolk_ctx *ctx) {
    if (ctx->n_args == 0)
        return yolk_finish(table(ctx));
    if (strcmp(ctx->args[0], "explain") != 0)
        return yolk_fail(YOLK_USAGE, "found '%s', expected explain KEY, or nothing", ctx->args[0]);
    if (ctx->n_args != 2)
        return yolk_fail(YOLK_USAGE, "explain: found no KEY, expected one");
    return yolk_finish(explain(ctx));
}

const struct yolk_cmd yolk_cmd_sched = {
    .name = "sched",
    .args = "[explain KEY]",
    .max_args = 2,
    .help = "show how the learned policy does, or what it thinks of a block",
    .more = "Without arguments a row for each namespace: what is followed, blocks there is room for, hits in % since the "
            "start, and of late those of lru, s3fifo and the one that learned; how often it was trained, uses seen by "
            "uses predicted (1 is right), and how many bits a use surprises less than the mean rate would have it. "
            "explain neither uses the block nor changes anything. Exits with 3 if the policy does not know the key.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct sched_config),
    .fn = sched,
};
