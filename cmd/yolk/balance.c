/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk drain, rebalance: what a person has the balancer do, and how far that is; and yolk forget.
 *
 * They are written into etcd by the node that is asked, and go on whether this command waits or not; it looks
 * again every LOOK_MS, until they have ended or --within is over. Progress: a line on a terminal, with --json an
 * object for each change.
 */
#include "cluster.h"
#include "commands.h"

#include "base/clock.h"
#include "base/fmt.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS        200
#define ASK_MS         1000 /* the draining node, which may be on its way out */
#define LINE_MAX_BYTES 400

#define WITHIN_ROW                                                                                                \
    {.name = "within", .type = YK_OPT_DURATION, YK_OPT_AT(struct yolk_cluster_config, within_ns), .def = "10m",   \
     .min = "0s", .max = "7d",                                                                                    \
     .help = "Wait so long for the end; 0s does not wait. It goes on after that."}

static const struct yk_opt rebalance_rows[] = {YOLK_PEER_ROW, WITHIN_ROW};

static const struct yk_opt forget_rows[] = {YOLK_PEER_ROW};

static const struct yk_opt drain_rows[] = {
    YOLK_PEER_ROW,
    WITHIN_ROW,
    {.name = "off",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct yolk_cluster_config, off),
     .help = "It may own slots and get blocks again."},
};

/* ---- what all do ------------------------------------------------------------------------------ */

struct watch {
    struct yolk_ctx *ctx;
    struct yolk_cluster cluster;
    uint64_t until_ns;
    char last[LINE_MAX_BYTES]; /* as it was shown */
    int shown;
};

/* A question whose answer is a status and a text. */
static int write_down(struct watch *w, unsigned op, const struct yk_wr *request) {
    const char *name = w->ctx->cmd->name;
    char text[YK_ERR_TEXT_MAX];
    const void *body;
    uint32_t len;
    struct yk_rd r;
    int code = yolk_guest_ask(w->ctx, w->cluster.guest, op, request, &body, &len);
    if (code != 0)
        return code;
    yk_rd_init(&r, body, len);
    int status = (int32_t)yk_rd_u32(&r);
    yk_rd_text(&r, text, sizeof(text));
    if (!yk_rd_ok(&r))
        return yolk_fail(YOLK_FAIL, "%s: the node's answer cannot be read", name);
    return status < 0 ? yolk_fail(yolk_exit_of(status), "%s: %s", name, text[0] != 0 ? text : yk_strerror(status)) : 0;
}

/* A line on a terminal is written over by the next one. */
static void show_line(struct watch *w, const char *line) {
    if (!w->ctx->common->json && isatty(STDERR_FILENO))
        w->shown = fprintf(stderr, "\r%-100s", line) > 0;
}

static void show_json(struct watch *w, const char *line) {
    if (!w->ctx->common->json || strcmp(line, w->last) == 0)
        return;
    snprintf(w->last, sizeof(w->last), "%s", line);
    puts(line);
    fflush(stdout);
}

static void line_end(struct watch *w) {
    if (w->shown)
        fprintf(stderr, "\r%100s\r", "");
    w->shown = 0;
}

/* 0: it is time to look again; else the time is over. */
static int look_again(struct watch *w) {
    uint64_t now = yk_now_ns(), ns = LOOK_MS * YK_NS_PER_MS;
    if (now >= w->until_ns)
        return 1;
    if (ns > w->until_ns - now)
        ns = w->until_ns - now;
    struct timespec pause = {.tv_nsec = (long)ns};
    nanosleep(&pause, NULL);
    return 0;
}

static int watch_open(struct watch *w, struct yolk_ctx *ctx) {
    const struct yolk_cluster_config *config = ctx->config;
    memset(w, 0, sizeof(*w));
    w->ctx = ctx;
    w->until_ns = yk_now_ns() + config->within_ns;
    return yolk_cluster_open(ctx, &w->cluster);
}

static int64_t int_of(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

static int is_member(const json_t *node) {
    const char *state = json_string_value(json_object_get(node, "state"));
    return state != NULL && strcmp(state, "member") == 0;
}

/* ---- rebalance -------------------------------------------------------------------------------- */

struct spread {
    int64_t nodes, least, most;
};

static struct spread spread_of(const json_t *info) {
    struct spread s = {0, YK_DIR_SLOTS, 0};
    size_t i;
    json_t *node;
    json_array_foreach(json_object_get(info, "nodes"), i, node) {
        int64_t slots = int_of(node, "slots");
        if (!is_member(node) || json_is_true(json_object_get(node, "draining")))
            continue;
        s.nodes++;
        s.least = slots < s.least ? slots : s.least;
        s.most = slots > s.most ? slots : s.most;
    }
    return s;
}

static void show_spread(struct watch *w, const char *text, int ended) {
    struct spread s = spread_of(w->cluster.info);
    char line[LINE_MAX_BYTES];
    snprintf(line, sizeof(line), "rebalance: %lld to %lld slots on each of %lld nodes", (long long)s.least,
             (long long)s.most, (long long)s.nodes);
    show_line(w, line);
    json_t *object = json_pack("{s:s, s:b, s:I, s:I, s:I}", "rebalance", text, "ended", ended, "nodes",
                               (json_int_t)s.nodes, "slots_least", (json_int_t)s.least, "slots_most",
                               (json_int_t)s.most);
    char *json = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (json != NULL)
        show_json(w, json);
    free(json);
    json_decref(object);
}

static int rebalance(struct watch *w) {
    static const char balanced[] = "balanced";
    int code = write_down(w, YK_DIR_REBALANCE, NULL);
    for (;;) {
        if (code == 0)
            code = yolk_guest_info(w->ctx, w->cluster.guest, &w->cluster.info);
        const char *text = json_string_value(json_object_get(w->cluster.info, "rebalance"));
        if (code != 0)
            return code;
        int ended = text != NULL && text[0] != 0 && strcmp(text, "wanted") != 0;
        show_spread(w, text != NULL ? text : "", ended);
        if (ended) {
            line_end(w);
            if (strncmp(text, balanced, strlen(balanced)) != 0)
                return yolk_fail(YOLK_FAIL, "rebalance: %s", text);
            if (!w->ctx->common->json)
                puts(text);
            return YOLK_OK;
        }
        if (look_again(w))
            break;
    }
    line_end(w);
    const struct yolk_cluster_config *config = w->ctx->config;
    return config->within_ns == 0 ? YOLK_OK
                                  : yolk_fail(YOLK_FAIL, "rebalance: not over yet; the balancer goes on with it");
}

static int run_rebalance(struct yolk_ctx *ctx) {
    struct watch w;
    int code = watch_open(&w, ctx);
    if (code == 0)
        code = rebalance(&w);
    line_end(&w);
    yolk_cluster_close(&w.cluster);
    return code;
}

const struct yolk_cmd yolk_cmd_rebalance = {
    .name = "rebalance",
    .help = "have the balancer even slots out now",
    .more = "It does so by itself, a few slots at a time; asked, it leaves that limit aside until nothing that it may "
            "move makes it better, as measured after the last move. Ends with how even slots are, or (1) with what "
            "hinders.",
    YOLK_CMD_OPTIONS(rebalance_rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_rebalance,
};

/* ---- drain ------------------------------------------------------------------------------------ */

static const json_t *node_of(const struct watch *w, const char *name) {
    size_t i;
    json_t *node;
    json_array_foreach(json_object_get(w->cluster.info, "nodes"), i, node) {
        const char *text = json_string_value(json_object_get(node, "name"));
        if (text != NULL && strcmp(text, name) == 0)
            return node;
    }
    return NULL;
}

/* How far it is: the slots as the asked node's map has them, the blocks as the draining node says itself. */
struct drain_state {
    int64_t slots, blocks, bytes, handed, handed_bytes, kept;
    int told; /* the node has answered, and does drain */
    int done; /* its blocks, too */
    char text[YK_ERR_TEXT_MAX];
};

/* A node that does not answer (any more) tells nothing. */
static void ask_drained(const json_t *node, struct drain_state *ret) {
    const char *address = json_string_value(json_object_get(node, "peers"));
    struct yk_err err = {0};
    struct yk_guest *guest = NULL;
    const void *body;
    uint32_t len;
    if (address == NULL || yk_guest_open(address, ASK_MS, &guest, &err) < 0)
        return;
    json_t *info = yk_guest_ask(guest, YK_DIR_INFO, NULL, 0, ASK_MS, &body, &len, &err) == 0
                       ? json_loadb(body, len, 0, NULL)
                       : NULL;
    const json_t *drain = json_object_get(info, "drain");
    const char *text = json_string_value(json_object_get(drain, "text"));
    ret->told = drain != NULL;
    ret->blocks = int_of(drain, "blocks_left");
    ret->bytes = int_of(drain, "bytes_left");
    ret->handed = int_of(drain, "handed");
    ret->handed_bytes = int_of(drain, "handed_bytes");
    ret->kept = int_of(drain, "kept");
    ret->done = json_is_true(json_object_get(drain, "done")) && ret->blocks == 0;
    snprintf(ret->text, sizeof(ret->text), "%s", text != NULL ? text : "");
    json_decref(info);
    yk_guest_close(guest);
}

static void drain_json(struct watch *w, const char *name, int on, const struct drain_state *s, double rate) {
    json_t *object =
        json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "name", name, "draining", on, "slots",
                  (json_int_t)s->slots, "blocks_left", (json_int_t)s->blocks, "bytes_left", (json_int_t)s->bytes,
                  "handed", (json_int_t)s->handed, "handed_bytes", (json_int_t)s->handed_bytes, "kept",
                  (json_int_t)s->kept, "bytes_per_s", rate, "done", !on || (s->slots == 0 && s->done));
    char *json = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    if (json != NULL)
        show_json(w, json);
    free(json);
    json_decref(object);
}

static void drain_line(struct watch *w, const struct drain_state *s, double rate) {
    char line[LINE_MAX_BYTES], left[YK_FMT_MAX], per_s[YK_FMT_MAX];
    snprintf(line, sizeof(line), "drain: %lld slots, %lld blocks (%s) left, %s/s", (long long)s->slots,
             (long long)s->blocks, yk_fmt_bytes((uint64_t)s->bytes, left), yk_fmt_bytes((uint64_t)rate, per_s));
    show_line(w, line);
}

static int drain_over(struct watch *w, const struct drain_state *s, const char *name) {
    char bytes[YK_FMT_MAX];
    line_end(w);
    if (w->ctx->common->json)
        return YOLK_OK;
    printf("drained: %lld blocks (%s) of '%s' were handed over", (long long)s->handed,
           yk_fmt_bytes((uint64_t)s->handed_bytes, bytes), name);
    if (s->kept > 0)
        printf("; %lld that were never used stay, nobody has room for them", (long long)s->kept);
    puts("");
    return YOLK_OK;
}

/* Until it owns nothing, and its blocks are elsewhere. */
static int drain_wait(struct watch *w, const char *name) {
    const struct yolk_cluster_config *config = w->ctx->config;
    struct drain_state s = {0};
    uint64_t begun = yk_now_ns();
    int64_t first = -1;
    for (;;) {
        int code = yolk_guest_info(w->ctx, w->cluster.guest, &w->cluster.info);
        if (code != 0)
            return code;
        const json_t *node = node_of(w, name);
        s = (struct drain_state){.slots = int_of(node, "slots")};
        ask_drained(node, &s);
        if (first < 0 && s.told)
            first = s.handed_bytes;
        double rate = first >= 0 ? (double)(s.handed_bytes - first) * 1e9 / (double)(yk_now_ns() - begun + 1) : 0;
        drain_line(w, &s, rate);
        drain_json(w, name, 1, &s, rate);
        if (s.slots == 0 && s.done)
            return drain_over(w, &s, name);
        if (look_again(w))
            break;
    }
    line_end(w);
    if (config->within_ns == 0)
        return YOLK_OK;
    if (!s.told)
        return yolk_fail(YOLK_FAIL, "drain: '%s' has %lld slots left, and does not say what blocks; it goes on", name,
                         (long long)s.slots);
    return yolk_fail(YOLK_FAIL, "drain: '%s' has %lld slots and %lld blocks (%lld bytes) left, %lld find no place%s%s; "
                                "it goes on",
                     name, (long long)s.slots, (long long)s.blocks, (long long)s.bytes, (long long)s.kept,
                     s.text[0] != 0 ? ": " : "", s.text);
}

/* DRAIN or FORGET of that name. */
static int change(struct watch *w, unsigned op, const char *name, bool on) {
    unsigned char request[300];
    struct yk_wr wr;
    if (strlen(name) > YK_DIR_NAME_MAX)
        return yolk_fail(YOLK_USAGE, "%s: a node's name has at most %u bytes", w->ctx->cmd->name, YK_DIR_NAME_MAX);
    yk_wr_init(&wr, request, sizeof(request));
    yk_wr_str8(&wr, name, strlen(name));
    yk_wr_u8(&wr, on);
    return write_down(w, op, &wr);
}

static int drain(struct watch *w, const char *name) {
    const struct yolk_cluster_config *config = w->ctx->config;
    int code = change(w, YK_DIR_DRAIN, name, !config->off);
    if (code != 0)
        return code;
    if (!config->off)
        return drain_wait(w, name);
    struct drain_state s = {.slots = int_of(node_of(w, name), "slots")};
    drain_json(w, name, 0, &s, 0);
    return YOLK_OK;
}

static int run_drain(struct yolk_ctx *ctx) {
    struct watch w;
    int code = watch_open(&w, ctx);
    if (code == 0)
        code = drain(&w, ctx->args[0]);
    line_end(&w);
    yolk_cluster_close(&w.cluster);
    return code;
}

const struct yolk_cmd yolk_cmd_drain = {
    .name = "drain",
    .args = "NODE",
    .min_args = 1,
    .max_args = 1,
    .help = "have a node own no slots any more, and hand its blocks over",
    .more = "It is written down in etcd; the balancer then moves its slots, and the node sees to it that each of its "
            "blocks has a copy elsewhere, the most valuable first; both go on without this command, too. It ends when "
            "that is done: then the node can be stopped, and nothing is missed. Blocks that were never used stay where "
            "nobody has room for them. When --within is over it says what is left.",
    YOLK_CMD_OPTIONS(drain_rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_drain,
};

/* ---- forget ----------------------------------------------------------------------------------- */

static int run_forget(struct yolk_ctx *ctx) {
    struct watch w;
    int code = watch_open(&w, ctx);
    if (code == 0)
        code = change(&w, YK_DIR_FORGET, ctx->args[0], false);
    if (code == 0 && ctx->common->json) {
        struct yk_json j;
        yk_json_init_file(&j, stdout);
        yk_json_begin_object(&j);
        yk_json_put_str(&j, "name", ctx->args[0]);
        yk_json_put_bool(&j, "forgotten", true);
        yk_json_end_object(&j);
        yk_json_newline(&j);
        yk_json_finish(&j);
    }
    yolk_cluster_close(&w.cluster);
    return code;
}

const struct yolk_cmd yolk_cmd_forget = {
    .name = "forget",
    .args = "NODE",
    .min_args = 1,
    .max_args = 1,
    .help = "take the name of a node that is gone out of the cluster's map",
    .more = "For a node that does not come back. It has to be expelled and not alive; else this is refused, and the "
            "text says what it is. Should it come back all the same, it is a new node, and drops what it holds.",
    YOLK_CMD_OPTIONS(forget_rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_forget,
};
