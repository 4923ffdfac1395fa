/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk copy, move, tasks: a block is to be on a node, or on another one, and how far that is (docs/decisions/0017).
 *
 * The node that is asked makes a task of it and sees to it, whether this command waits or not; tasks are what that
 * node has in its memory. copy looks at them every LOOK_MS until its own has ended or --within is over.
 */
#include "cluster.h"
#include "commands.h"
#include "keys.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 100

static const struct yk_opt task_rows[] = {YOLK_PEER_ROW};

#define TO_ROW                                                                                                    \
    {.name = "to", .type = YK_OPT_STR, YK_OPT_AT(struct yolk_cluster_config, to), .metavar = "NODE",              \
     .help = "The node that shall have a copy."}
#define WITHIN_ROW                                                                                                \
    {.name = "within", .type = YK_OPT_DURATION, YK_OPT_AT(struct yolk_cluster_config, within_ns), .def = "1m",    \
     .min = "0s", .max = "1h", .help = "It may take so long; 0s: a minute, and it is not waited for."}
#define HEX_ROW                                                                                                   \
    {.name = "hex", .letter = 'x', .type = YK_OPT_BOOL, YK_OPT_AT(struct yolk_cluster_config, hex),               \
     .help = "Keys are hex digits."}

static const struct yk_opt copy_rows[] = {YOLK_PEER_ROW, TO_ROW, WITHIN_ROW, HEX_ROW};

static const struct yk_opt move_rows[] = {
    YOLK_PEER_ROW,
    {.name = "from",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct yolk_cluster_config, from),
     .metavar = "NODE",
     .help = "The node that shall not have it any more."},
    TO_ROW,
    WITHIN_ROW,
    HEX_ROW,
};

/* *ret_tasks: the caller's. */
static int tasks_get(struct yolk_ctx *ctx, struct yolk_cluster *c, json_t **ret_tasks) {
    const void *body;
    uint32_t len;
    int code = yolk_guest_ask(ctx, c->guest, YK_DIR_TASKS, NULL, &body, &len);
    if (code != 0)
        return code;
    *ret_tasks = json_loadb(body, len, 0, NULL);
    return *ret_tasks != NULL ? 0 : yolk_fail(YOLK_FAIL, "%s: the node's answer cannot be read", ctx->cmd->name);
}

static const char *text_of(const json_t *task, const char *key) {
    const char *text = json_string_value(json_object_get(task, key));
    return text != NULL && text[0] != 0 ? text : "-";
}

static const char *key_of(const json_t *task) {
    return json_object_get(task, "key") != NULL ? text_of(task, "key") : text_of(task, "key_hex");
}

static int print_json(const json_t *task) {
    char *line = json_dumps(task, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (line == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    puts(line);
    free(line);
    return YOLK_OK;
}

/* ---- tasks ------------------------------------------------------------------------------------ */

static void print_task(const json_t *t) {
    char bytes[YK_FMT_MAX], key[YOLK_KEY_TEXT_MAX], why[YOLK_KEY_TEXT_MAX];
    printf("%-16s %-5s %-8s %10s %-16s %-16s %s\n", text_of(t, "id"), text_of(t, "kind"), text_of(t, "state"),
           yk_fmt_bytes((uint64_t)json_integer_value(json_object_get(t, "bytes")), bytes), text_of(t, "from"),
           text_of(t, "to"), yolk_safe_text(key_of(t), key));
    if (strcmp(text_of(t, "text"), "-") != 0)
        printf("    %s\n", yolk_safe_text(text_of(t, "text"), why));
}

static int run_tasks(struct yolk_ctx *ctx) {
    struct yolk_cluster c;
    json_t *all = NULL, *task;
    size_t i;
    int code = yolk_cluster_open(ctx, &c);
    if (code == 0)
        code = tasks_get(ctx, &c, &all);
    if (code == 0 && !ctx->common->json)
        printf("%-16s %-5s %-8s %10s %-16s %-16s %s\n", "ID", "KIND", "STATE", "BYTES", "FROM", "TO", "KEY");
    json_array_foreach(json_object_get(all, "tasks"), i, task) {
        if (code == 0 && ctx->common->json)
            code = print_json(task);
        else if (code == 0)
            print_task(task);
    }
    json_decref(all);
    yolk_cluster_close(&c);
    return code;
}

const struct yolk_cmd yolk_cmd_tasks = {
    .name = "tasks",
    .help = "list the copies and moves that a node was asked to see to",
    .more = "The oldest first: those under way, and up to 1,024 with those that have ended. They are the memory of the "
            "node that was asked, and go with it.",
    YOLK_CMD_OPTIONS(task_rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_tasks,
};

/* ---- copy, move ------------------------------------------------------------------------------- */

#define KEYS_MAX 1024u /* as many tasks as a node keeps */

static int begin(struct yolk_ctx *ctx, struct yolk_cluster *c, enum yk_dirw_task_kind kind, uint64_t epoch,
                 const yk_key *key, uint64_t *ret_id) {
    const struct yolk_cluster_config *config = ctx->config;
    const char *ns = ctx->common->name_space, *to = config->to != NULL ? config->to : "",
               *from = config->from != NULL ? config->from : "";
    unsigned char request[YK_DIR_TASK_BYTES_MAX];
    char text[YK_ERR_TEXT_MAX];
    struct yk_dirw_task task = {.ns = {ns, (uint32_t)strlen(ns)},
                                .key = {key->data, (uint32_t)key->len},
                                .node = {to, (uint32_t)strlen(to)},
                                .from = {from, (uint32_t)strlen(from)},
                                .epoch = epoch,
                                .timeout_ms = (uint32_t)(config->within_ns / YK_NS_PER_MS),
                                .kind = (uint8_t)kind};
    const void *body;
    uint32_t len;
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, request, sizeof(request));
    yk_wr_dir_task(&w, &task);
    int code = yolk_guest_ask(ctx, c->guest, YK_DIR_TASK, &w, &body, &len);
    if (code != 0)
        return code;
    yk_rd_init(&r, body, len);
    int status = (int32_t)yk_rd_u32(&r);
    *ret_id = yk_rd_u64(&r);
    yk_rd_text(&r, text, sizeof(text));
    if (!yk_rd_ok(&r))
        return yolk_fail(YOLK_FAIL, "%s: the node's answer cannot be read", ctx->cmd->name);
    return status < 0 ? yolk_fail(yolk_exit_of(status), "%s: %s", ctx->cmd->name,
                                  text[0] != 0 ? text : yk_strerror(status))
                      : 0;
}

/* 1: it has ended, *ret_code says how; 0: not yet. */
static int ended(const struct yolk_ctx *ctx, const json_t *all, const char *id, int last, int *ret_code) {
    const char *name = ctx->cmd->name;
    size_t i;
    json_t *task;
    json_array_foreach(json_object_get(all, "tasks"), i, task) {
        if (strcmp(text_of(task, "id"), id) != 0)
            continue;
        const char *state = text_of(task, "state");
        char key[YOLK_KEY_TEXT_MAX];
        int over = strcmp(state, "done") == 0 || strcmp(state, "failed") == 0;
        if ((over || last) && ctx->common->json)
            (void)print_json(task);
        *ret_code = YOLK_OK;
        if (strcmp(state, "failed") == 0 && ctx->n_args > 1)
            *ret_code = yolk_fail(YOLK_FAIL, "%s: %s: %s", name, yolk_safe_text(key_of(task), key), text_of(task, "text"));
        else if (strcmp(state, "failed") == 0)
            *ret_code = yolk_fail(YOLK_FAIL, "%s: %s", name, text_of(task, "text"));
        return over;
    }
    *ret_code = yolk_fail(YOLK_FAIL, "%s: the node does not know of it any more", name);
    return 1;
}

/* Until that task has ended, or the time is over. */
static int wait_for(struct yolk_ctx *ctx, struct yolk_cluster *c, uint64_t id, uint64_t until) {
    const struct yolk_cluster_config *config = ctx->config;
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
    char text[24];
    int code;
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
    for (;;) {
        json_t *all = NULL;
        int last = yk_now_ns() >= until;
        code = tasks_get(ctx, c, &all);
        int over = code == 0 && ended(ctx, all, text, last, &code);
        json_decref(all);
        if (over || code != 0)
            return code;
        if (last && config->within_ns > 0)
            return yolk_fail(YOLK_FAIL, "%s: not over yet; yolk tasks shows how it ends", ctx->cmd->name);
        if (last) {
            if (!ctx->common->json)
                puts(text);
            return code;
        }
        nanosleep(&pause, NULL);
    }
}

/* All are begun, then waited for; the worst of them is how it ended. */
static int run_all(struct yolk_ctx *ctx, struct yolk_cluster *c, enum yk_dirw_task_kind kind) {
    const struct yolk_cluster_config *config = ctx->config;
    uint64_t until = yk_now_ns() + config->within_ns, epoch = 0, *id = calloc(KEYS_MAX, sizeof(*id));
    unsigned char storage[YK_KEY_MAX];
    int count = 0, worst = id != NULL ? yolk_cluster_epoch(ctx, &epoch) : yolk_fail(YOLK_FAIL, "out of memory");
    while (worst == 0 && (size_t)count < ctx->n_args) {
        yk_key key;
        worst = yolk_key_from_arg(ctx->args[count], config->hex, storage, &key);
        if (worst == 0)
            worst = begin(ctx, c, kind, epoch, &key, &id[count]);
        count += worst == 0;
    }
    for (int i = 0; i < count; i++) {
        int code = wait_for(ctx, c, id[i], until);
        worst = worst != 0 ? worst : code;
    }
    free(id);
    return worst;
}

static int run_tasks_of(struct yolk_ctx *ctx, enum yk_dirw_task_kind kind) {
    struct yolk_cluster c = {0};
    int code = yolk_cluster_open(ctx, &c);
    if (code == 0)
        code = run_all(ctx, &c, kind);
    yolk_cluster_close(&c);
    return code;
}

static int is_node(const char *name) {
    return name != NULL && name[0] != 0 && strlen(name) <= YK_DIR_NAME_MAX;
}

static int run_copy(struct yolk_ctx *ctx) {
    const struct yolk_cluster_config *config = ctx->config;
    if (!is_node(config->to))
        return yolk_fail(YOLK_USAGE, "copy: --to needs the name of a node, of at most %u bytes", YK_DIR_NAME_MAX);
    return run_tasks_of(ctx, YK_DIR_TASK_COPY);
}

static int run_move(struct yolk_ctx *ctx) {
    const struct yolk_cluster_config *config = ctx->config;
    if ((config->to == NULL && config->from == NULL) || (config->to != NULL && !is_node(config->to)) ||
        (config->from != NULL && !is_node(config->from)))
        return yolk_fail(YOLK_USAGE, "move: --from, --to, or both need the name of a node, of at most %u bytes",
                         YK_DIR_NAME_MAX);
    return run_tasks_of(ctx, YK_DIR_TASK_MOVE);
}

const struct yolk_cmd yolk_cmd_copy = {
    .name = "copy",
    .args = "KEY",
    .min_args = 1,
    .max_args = 1,
    .help = "have a node get a copy of a block",
    .more = "A node that has it is fine. Ends when the copy can be found by all, or (1) with what hinders; without "
            "waiting, with the id of its task.",
    YOLK_CMD_OPTIONS(copy_rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_copy,
};

const struct yolk_cmd yolk_cmd_move = {
    .name = "move",
    .args = "KEY...",
    .min_args = 1,
    .max_args = KEYS_MAX,
    .help = "have blocks go from one node to another",
    .more = "The block is copied, and when that can be found by all the copy at --from goes; a pinned one stays, and never "
            "does the last one go. Without --from: the one copy that there is, beside --to's. Without --to: to any node, "
            "so that there are as many copies as its put wanted. Ends when all have ended; 1 with what hindered, by key.",
    YOLK_CMD_OPTIONS(move_rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_move,
};
