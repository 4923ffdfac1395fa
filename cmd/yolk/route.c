/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk route: asks a node's router which engine should serve a request, and shows why; or what it has done so far.
 *
 * Keys are those of a chain's blocks in Yolk; with --cluster its nodes are asked how far it reaches at each. Hashes of
 * engines' blocks (--hash) are what their KV events have.
 */
#include "cluster.h"
#include "commands.h"
#include "http_ask.h"
#include "keys.h"
#include "route_held.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (4u << 20)

struct config {
    struct yolk_cluster_config cluster; /* --peer is where cluster.c looks for it */
    char *http, *keys;
    struct yk_opt_list targets;
    int64_t tokens, output, block_tokens, count;
    uint64_t block_bytes, objective_ns;
    bool ask_cluster, hash, hex, take, keep, state, status;
};

#define ROW(name_, type_, field_) .name = (name_), .type = (type_), YK_OPT_AT(struct config, field_)

static const struct yk_opt rows[] = {
    {ROW("http", YK_OPT_STR, http), .def = "127.0.0.1:7780", .metavar = "HOST:PORT",
     .help = "Where the node serves HTTP (--http of yolkd)."},
    {ROW("tokens", YK_OPT_INT, tokens), .def = "0", .min = "0", .max = "268435456",
     .help = "Length of the prompt; 0: that of its blocks."},
    {ROW("output-tokens", YK_OPT_INT, output), .def = "0", .min = "0", .max = "268435456",
     .help = "Tokens that it will generate, if that is known."},
    {ROW("block-tokens", YK_OPT_INT, block_tokens), .def = "512", .min = "1", .max = "1048576",
     .help = "Tokens of a block."},
    {ROW("block-bytes", YK_OPT_SIZE, block_bytes), .def = "0",
     .help = "Bytes of a block, all layers; 0: as the model has it that the router knows."},
    {ROW("objective", YK_OPT_DURATION, objective_ns), .def = "0", .max = "1d",
     .help = "The time to first token that is to be kept to; a request that no engine would is rejected. 0: none."},
    {ROW("target", YK_OPT_LIST, targets), .metavar = "NAME",
     .help = "Only these engines; all when it is not given."},
    {ROW("count", YK_OPT_INT, count), .def = "8", .min = "1", .max = "64", .help = "How many to show."},
    {ROW("take", YK_OPT_BOOL, take),
     .help = "The request goes to the first: it counts there from now on, and its number is printed for its outcome."},
    {ROW("keep", YK_OPT_BOOL, keep),
     .help = "With --take, and keys that are text: if many ask for the chain and the first has to fetch it, its node is "
             "asked to keep copies."},
    {ROW("keys", YK_OPT_STR, keys), .metavar = "FILE", .help = "Read the chain's keys from a file, one a line; - is "
                                                               "standard input."},
    {ROW("hex", YK_OPT_BOOL, hex), .letter = 'x', .help = "Keys are hex digits."},
    {ROW("hash", YK_OPT_BOOL, hash),
     .help = "The arguments are engines' block hashes, as their KV events have them: decimal, or 0x and hex digits."},
    {ROW("cluster", YK_OPT_BOOL, ask_cluster),
     .help = "Ask each node of the cluster how far the chain reaches there; engines say in their reports which node "
             "is theirs."},
    {ROW("state", YK_OPT_BOOL, state), .help = "Show what the router knows of engines, and what it has learned, as JSON."},
    {ROW("status", YK_OPT_BOOL, status),
     .help = "Show what the router has done and how far off its predictions were; --json: as one object."},
    YOLK_PEER_ROW,
};

/* ---- the question ----------------------------------------------------------------------------- */

static json_t *hash_list(const struct yolk_ctx *ctx) {
    json_t *list = json_array();
    for (size_t i = 0; i < ctx->n_args; i++)
        json_array_append_new(list, json_string(ctx->args[i]));
    return list;
}

/* As the router hashes "keys"; sent as hashes, since a key need not be text. */
static json_t *key_list(const struct yolk_keys *keys) {
    json_t *list = json_array();
    for (size_t i = 0; i < keys->n; i++) {
        char hash[24];
        snprintf(hash, sizeof(hash), "0x%016llx", (unsigned long long)yk_hash64(keys->keys[i].data, keys->keys[i].len));
        json_array_append_new(list, json_string(hash));
    }
    return list;
}

/* As they are: a copy is asked for by key. */
static int add_text_keys(const struct yolk_ctx *ctx, json_t *q, const struct yolk_keys *keys) {
    json_t *list = json_array();
    for (size_t i = 0; i < keys->n; i++)
        json_array_append_new(list, json_stringn(keys->keys[i].data, keys->keys[i].len));
    bool all_text = json_array_size(list) == keys->n;
    json_object_set_new(q, "keys", list);
    json_object_set_new(q, "keep", json_true());
    json_object_set_new(q, "namespace", json_string(ctx->common->name_space));
    return all_text ? 0 : yolk_fail(YOLK_USAGE, "route: --keep takes keys that are text (UTF-8)");
}

static int read_keys(struct yolk_ctx *ctx, struct yolk_keys *ret) {
    const struct config *o = ctx->config;
    if (o->keys != NULL)
        return yolk_keys_from_file(o->keys, o->hex, ret);
    return yolk_keys_from_args(ctx->args, ctx->n_args, o->hex, ret);
}

static int add_keys(struct yolk_ctx *ctx, json_t *q, size_t *ret_n) {
    const struct config *o = ctx->config;
    struct yolk_keys keys = {0};
    json_t *held = NULL;
    int code = read_keys(ctx, &keys);
    if (code == 0 && o->keep && keys.n > 0)
        code = add_text_keys(ctx, q, &keys);
    else if (code == 0 && keys.n > 0)
        json_object_set_new(q, "chain", key_list(&keys));
    if (code == 0 && o->ask_cluster && keys.n > 0)
        code = yolk_route_held(ctx, keys.keys, keys.n, &held);
    if (code == 0 && held != NULL)
        json_object_set(q, "held", held);
    json_decref(held);
    *ret_n = keys.n;
    yolk_keys_free(&keys);
    return code;
}

static int add_chain(struct yolk_ctx *ctx, json_t *q, size_t *ret_n) {
    const struct config *o = ctx->config;
    if (!o->hash)
        return add_keys(ctx, q, ret_n);
    if (o->keys != NULL || o->ask_cluster || o->keep)
        return yolk_fail(YOLK_USAGE, "route: --hash takes arguments, without --keys, --cluster and --keep");
    *ret_n = ctx->n_args;
    if (ctx->n_args > 0)
        json_object_set_new(q, "chain", hash_list(ctx));
    return 0;
}

static int make_question(struct yolk_ctx *ctx, json_t *q) {
    const struct config *o = ctx->config;
    size_t n = 0;
    int code = add_chain(ctx, q, &n);
    if (code != 0)
        return code;
    json_int_t tokens = o->tokens != 0 ? o->tokens : (json_int_t)n * o->block_tokens;
    if (tokens == 0)
        return yolk_fail(YOLK_USAGE, "route: the prompt's length is wanted: --tokens, or keys of its blocks");
    json_object_set_new(q, "tokens", json_integer(tokens));
    json_object_set_new(q, "output_tokens", json_integer(o->output));
    json_object_set_new(q, "block_tokens", json_integer(o->block_tokens));
    json_object_set_new(q, "block_bytes", json_integer((json_int_t)o->block_bytes));
    json_object_set_new(q, "objective_ms", json_real((double)o->objective_ns / 1e6));
    json_object_set_new(q, "count", json_integer(o->count));
    json_object_set_new(q, "take", json_boolean(o->take));
    if (o->targets.n > 0) {
        json_t *list = json_array();
        for (size_t i = 0; i < o->targets.n; i++)
            json_array_append_new(list, json_string(o->targets.items[i]));
        json_object_set_new(q, "targets", list);
    }
    return 0;
}

/* ---- the answer ------------------------------------------------------------------------------- */

static double ms_at(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static long long count_at(const json_t *o, const char *key) {
    return (long long)json_integer_value(json_object_get(o, key));
}

static void print_choice(const json_t *c) {
    char name[YOLK_KEY_TEXT_MAX], peer[YOLK_KEY_TEXT_MAX];
    const json_t *b = json_object_get(c, "blocks");
    const char *from = json_string_value(json_object_get(c, "peer")), *said = json_string_value(json_object_get(c, "name"));
    printf("%-16s %9.1f %9.1f %9.1f %9.1f %9.1f %6lld %6lld %6lld %6lld %7lld %6lld %s%s%s\n",
           yolk_safe_text(said != NULL ? said : "-", name), ms_at(c, "ttft_ms"), ms_at(c, "worse_ms"), ms_at(c, "queue_ms"),
           ms_at(c, "transfer_ms"), ms_at(c, "compute_ms"), count_at(b, "vram"), count_at(b, "dram"), count_at(b, "ssd"),
           count_at(b, "peer"), count_at(b, "compute"), count_at(c, "in_flight"),
           from != NULL ? yolk_safe_text(from, peer) : "-", json_is_true(json_object_get(c, "silent")) ? " silent" : "",
           json_is_true(json_object_get(c, "meets")) ? "" : " late");
}

static void print_table(const json_t *answer) {
    size_t i;
    json_t *c;
    printf("%-16s %9s %9s %9s %9s %9s %6s %6s %6s %6s %7s %6s %s\n", "ENGINE", "TTFT ms", "WORSE", "QUEUE", "TRANSFER",
           "COMPUTE", "VRAM", "DRAM", "SSD", "PEER", "COMPUTE", "FLIGHT", "FROM");
    json_array_foreach(json_object_get(answer, "ranked"), i, c)
        print_choice(c);
    const char *decision = json_string_value(json_object_get(answer, "decision"));
    if (decision != NULL)
        printf("decision %s\n", decision);
    if (json_is_true(json_object_get(answer, "replicate")))
        printf("many ask for this chain: a copy is worth keeping at the first\n");
    if (count_at(answer, "keeping") > 0)
        printf("its node is asked to keep copies of %lld blocks\n", count_at(answer, "keeping"));
}

static int verdict_code(const json_t *answer) {
    const char *verdict = json_string_value(json_object_get(answer, "verdict"));
    double wait_ms = ms_at(answer, "wait_ms");
    if (verdict != NULL && strcmp(verdict, "admit") == 0)
        return YOLK_OK;
    if (verdict != NULL && strcmp(verdict, "nobody") == 0)
        return yolk_fail(YOLK_FAIL, "route: no engine has reported that it takes requests (POST /v1/route/load)");
    if (wait_ms > 0)
        return yolk_fail(YOLK_FAIL, "route: rejected: no engine would keep to the objective; in about %.0f ms one might",
                         wait_ms);
    return yolk_fail(YOLK_FAIL, "route: rejected: no engine would keep to the objective, even without its queue");
}

static int print_json(const json_t *value) {
    char *line = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (line == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    puts(line);
    free(line);
    return YOLK_OK;
}

/* ---- what it has done -------------------------------------------------------------------------- */

static void print_errors(const json_t *f) {
    const char *part;
    json_t *e;
    printf("%-10s %9s %9s %9s\n", "ERROR OF", "OUTCOMES", "MEAN %", "P90 %");
    json_object_foreach(json_object_get(f, "error"), part, e)
        printf("%-10s %9lld %9.1f %9.1f\n", part, count_at(e, "outcomes"), ms_at(e, "mean") * 100, ms_at(e, "p90") * 100);
}

static void print_figures(const json_t *f) {
    printf("engines    %lld, %lld of them silent; %lld other holders of blocks; %lld nodes measure; %lld forgotten\n",
           count_at(f, "instances"), count_at(f, "silent"), count_at(f, "others"), count_at(f, "nodes"),
           count_at(f, "forgotten"));
    printf("requests   %lld: %lld admitted; rejected %lld for the queues, %lld late even without; nobody there for %lld, all "
           "refuse %lld\n",
           count_at(f, "asked"), count_at(f, "admitted"), count_at(f, "late_queue"), count_at(f, "late_work"),
           count_at(f, "unknown"), count_at(f, "refused"));
    printf("decisions  %lld taken, %lld open; not the quickest: %lld for thrift, %lld drawn\n", count_at(f, "taken"),
           count_at(f, "open"), count_at(f, "thrifty"), count_at(f, "drawn"));
    printf("outcomes   %lld learned from, %lld dropped, %lld of no decision\n", count_at(f, "outcomes"),
           count_at(f, "dropped"), count_at(f, "strays"));
    printf("chains     %lld hot now; %lld requests for hot ones, %lld worth a copy\n", count_at(f, "hot_chains"),
           count_at(f, "hot"), count_at(f, "replicate"));
    printf("blocks     %lld known, with who has them\n", count_at(f, "blocks"));
    printf("events     of %lld engines: %lld batches, %lld blocks; %lld gaps, %lld replayed, %lld missed, %lld malformed, "
           "%lld restarts; forgotten %lld times\n",
           count_at(f, "feeds"), count_at(f, "batches"), count_at(f, "event_blocks"), count_at(f, "gaps"),
           count_at(f, "replayed"), count_at(f, "missed"), count_at(f, "malformed"), count_at(f, "restarts"),
           count_at(f, "lost"));
    print_errors(f);
}

static int show_status(const json_t *answer, bool json) {
    const json_t *f = json_object_get(answer, "figures");
    if (f == NULL)
        return yolk_fail(YOLK_FAIL, "route: the router has not been asked or told anything yet");
    if (json)
        return print_json(f);
    print_figures(f);
    return YOLK_OK;
}

/* ---- the command ------------------------------------------------------------------------------ */

/* The node's own words are one line. */
static int refused(int status, const struct yk_buf *answer) {
    char line[200], shown[YOLK_KEY_TEXT_MAX];
    const char *text = yk_buf_text(answer);
    snprintf(line, sizeof(line), "%.*s", (int)strcspn(text, "\n"), text);
    return yolk_fail(status == 400 ? YOLK_USAGE : YOLK_FAIL, "route: the node refuses: %s", yolk_safe_text(line, shown));
}

/* *ret_answer is the caller's. */
static int ask(struct yolk_ctx *ctx, const json_t *q, json_t **ret_answer) {
    const struct config *o = ctx->config;
    char *body = q != NULL ? json_dumps(q, JSON_COMPACT) : NULL;
    struct yk_err err = {0};
    struct yk_buf answer;
    int status = 0, code = 0;
    yk_buf_init(&answer, ANSWER_MAX);
    int rc = yolk_http_ask(o->http, "/v1/route", body, yolk_timeout_ms(ctx), &answer, &status, &err);
    free(body);
    if (rc < 0)
        code = yolk_fail(yolk_exit_of(rc), "route: %s", err.text);
    else if (status != 200)
        code = refused(status, &answer);
    else if ((*ret_answer = json_loadb(yk_buf_text(&answer), answer.len, 0, NULL)) == NULL)
        code = yolk_fail(YOLK_FAIL, "route: the node's answer cannot be read");
    yk_buf_fini(&answer);
    return code;
}

static int run_route(struct yolk_ctx *ctx) {
    const struct config *o = ctx->config;
    json_t *q = json_object(), *answer = NULL;
    bool looks = o->state || o->status;
    int code = looks ? 0 : make_question(ctx, q);
    if (code == 0)
        code = ask(ctx, looks ? NULL : q, &answer);
    if (code == 0 && o->status)
        code = show_status(answer, ctx->common->json);
    else if (code == 0 && (o->state || ctx->common->json))
        code = print_json(answer);
    else if (code == 0 && json_array_size(json_object_get(answer, "ranked")) > 0)
        print_table(answer);
    if (code == 0 && !looks)
        code = verdict_code(answer);
    json_decref(q);
    json_decref(answer);
    return code;
}

const struct yolk_cmd yolk_cmd_route = {
    .name = "route",
    .args = "[KEY]...",
    .max_args = SIZE_MAX,
    .help = "say which engine should serve a request, and why",
    .more = "By predicted time to first token: queue, transfer of what is missing, computing the rest; times are in "
            "milliseconds, and WORSE is what nine in ten requests keep to. VRAM to COMPUTE are the blocks by where they "
            "would come from. A request that is rejected, or that nobody takes, ends it with status 1. Keys, head "
            "first, are those of the prompt's blocks.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct config),
    .fn = run_route,
};
