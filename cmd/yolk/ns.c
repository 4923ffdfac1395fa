/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk ns: namespaces, their quota, copies, epoch, and what they have of memory that is shared.
 */
#include "commands.h"
#include "keys.h"
#include "sample.h"
#include "top_cluster.h"

#include "base/fmt.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_LIST_MAX 1024

struct ns_config {
    struct yolk_common common;
    uint64_t quota_bytes, guarantee_bytes;
    int64_t copies, priority;
    bool force, cluster;
};

static const struct yk_opt rows[] = {
    {.name = "quota",
     .letter = 'q',
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct ns_config, quota_bytes),
     .def = "0",
     .help = "Of create and set: bytes that it may hold; 0 is no limit."},
    {.name = "guarantee",
     .letter = 'g',
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct ns_config, guarantee_bytes),
     .def = "0",
     .help = "Of create and set, where a node divides its memory among namespaces (--policy learned): bytes of it that are "
             "its own whatever others ask for; 0 is none."},
    {.name = "priority",
     .letter = 'p',
     .type = YK_OPT_INT,
     YK_OPT_AT(struct ns_config, priority),
     .def = "100",
     .min = "1",
     .max = "10000",
     .help = "Of create and set, likewise: what a hit of it counts beside one of the others."},
    {.name = "copies",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct ns_config, copies),
     .def = "0",
     .min = "0",
     .max = "8",
     .help = "Of create and set, in a cluster: copies of a put that names none; 0 is one."},
    {.name = "force",
     .letter = 'f',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct ns_config, force),
     .help = "Of rm: don't ask."},
    {.name = "cluster",
     .letter = 'C',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct ns_config, cluster),
     .help = "Of list: of all nodes of the cluster together; a block counts on each node that has it."},
};

static void print_json(const yk_ns_info *info) {
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "name", info->name);
    yk_json_put_uint(&json, "epoch", info->epoch);
    yk_json_put_uint(&json, "quota_bytes", info->quota_bytes);
    yk_json_put_uint(&json, "copies", info->copies);
    yk_json_put_uint(&json, "guarantee_bytes", info->guarantee_bytes);
    yk_json_put_uint(&json, "guaranteed_bytes", info->guaranteed_bytes);
    yk_json_put_uint(&json, "priority", info->priority != 0 ? info->priority : YK_PRIORITY_DEFAULT);
    yk_json_put_uint(&json, "share_bytes", info->share_bytes);
    yk_json_put_uint(&json, "share_used_bytes", info->share_used_bytes);
    yk_json_put_double(&json, "share_hit_ratio", info->share_hit_ratio);
    yk_json_put_uint(&json, "used_bytes", info->used_bytes);
    yk_json_put_uint(&json, "blocks", info->blocks);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    yk_json_finish(&json);
}

static const char *bytes_or_none(uint64_t bytes, char buf[YK_FMT_MAX]) {
    return bytes != 0 ? yk_fmt_bytes(bytes, buf) : "-";
}

static void print_row(const yk_ns_info *info) {
    char used[YK_FMT_MAX], quota[YK_FMT_MAX], guarantee[YK_FMT_MAX], share[YK_FMT_MAX], name[YOLK_KEY_TEXT_MAX];
    char wanted[16], priority[16];
    snprintf(wanted, sizeof(wanted), "%u", info->copies);
    snprintf(priority, sizeof(priority), "%u", info->priority);
    printf("%10llu %10s %10s %10s %6s %10s %6s %12llu  %s\n", (unsigned long long)info->blocks,
           yk_fmt_bytes(info->used_bytes, used), bytes_or_none(info->quota_bytes, quota),
           bytes_or_none(info->guarantee_bytes, guarantee), info->priority != 0 ? priority : "-",
           bytes_or_none(info->share_bytes, share), info->copies != 0 ? wanted : "-", (unsigned long long)info->epoch,
           yolk_safe_text(info->name, name));
}

static void print(const struct yolk_ctx *ctx, const yk_ns_info *infos, int n) {
    if (!ctx->common->json)
        printf("%10s %10s %10s %10s %6s %10s %6s %12s  %s\n", "BLOCKS", "USED", "QUOTA", "GUARANTEE", "PRIO", "SHARE",
               "COPIES", "EPOCH", "NAME");
    for (int i = 0; i < n && i < NS_LIST_MAX; i++) {
        if (ctx->common->json)
            print_json(&infos[i]);
        else
            print_row(&infos[i]);
    }
}

/* ---- of all nodes ------------------------------------------------------------------------------- */

static uint64_t number(const json_t *o, const char *key) {
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > 0 ? (uint64_t)n : 0;
}

/* Blocks and bytes are added up; all settings are the cluster's, so the newest that a node has heard of. */
static void add_space(const json_t *o, yk_ns_info *infos, int *io_n) {
    const char *name = json_string_value(json_object_get(o, "name"));
    uint64_t epoch = number(o, "epoch");
    int i = 0;
    while (name != NULL && i < *io_n && strcmp(infos[i].name, name) != 0)
        i++;
    if (name == NULL || i == NS_LIST_MAX || strlen(name) >= sizeof(infos[i].name))
        return;
    if (i == *io_n) {
        memset(&infos[i], 0, sizeof(infos[i]));
        strcpy(infos[i].name, name); /* its length was checked */
        ++*io_n;
    }
    infos[i].blocks += number(o, "blocks");
    infos[i].used_bytes += number(o, "used_bytes");
    infos[i].guaranteed_bytes += number(o, "guaranteed_bytes");
    infos[i].share_bytes += number(o, "share_bytes");
    infos[i].share_used_bytes += number(o, "share_used_bytes");
    if (epoch >= infos[i].epoch) {
        infos[i].quota_bytes = number(o, "quota_bytes");
        infos[i].copies = (uint32_t)number(o, "copies");
        infos[i].guarantee_bytes = number(o, "guarantee_bytes");
        infos[i].priority = (uint32_t)number(o, "priority");
    }
    infos[i].epoch = epoch > infos[i].epoch ? epoch : infos[i].epoch;
}

static int add_nodes(const struct yolk_top_cluster *v, yk_ns_info *infos) {
    const json_t *says;
    json_t *o;
    const char *node;
    size_t k;
    int n = 0;
    for (uint32_t i = 0; yolk_top_cluster_node(v, i, &node, &says); i++) {
        char name[YOLK_KEY_TEXT_MAX];
        if (says == NULL)
            fprintf(stderr, "yolk: ns list: node %s does not answer: what it has is not counted\n",
                    yolk_safe_text(node, name));
        json_array_foreach(json_object_get(says, "namespaces"), k, o)
            add_space(o, infos, &n);
    }
    return n;
}

static int list_cluster(struct yolk_ctx *ctx) {
    struct yolk_top_cluster *v = NULL;
    yk_ns_info *infos = calloc(NS_LIST_MAX, sizeof(*infos));
    if (infos == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    int code = yolk_top_cluster_open(ctx, &v);
    if (code == 0 && yolk_top_cluster_look(v) < 0)
        code = yolk_fail(YOLK_FAIL, "ns list: %s", yolk_top_cluster_why(v));
    if (code == 0)
        print(ctx, infos, add_nodes(v, infos));
    yolk_top_cluster_close(v);
    free(infos);
    return code;
}

/* ---- the verbs ---------------------------------------------------------------------------------- */

static int list(struct yolk_ctx *ctx) {
    if (((const struct ns_config *)ctx->config)->cluster)
        return list_cluster(ctx);
    yk_ns_info *infos = calloc(NS_LIST_MAX, sizeof(*infos));
    if (infos == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    int n = yk_ns_list(ctx->client, infos, NS_LIST_MAX);
    if (n >= 0)
        print(ctx, infos, n);
    free(infos);
    return n < 0 ? yolk_fail_call(ctx, n, "ns list", NULL) : YOLK_OK;
}

/* The namespace's figures; YK_MISS when there is none of that name. */
static int find(struct yolk_ctx *ctx, const char *name, yk_ns_info *ret_info) {
    yk_ns_info *infos = calloc(NS_LIST_MAX, sizeof(*infos));
    int n = infos != NULL ? yk_ns_list(ctx->client, infos, NS_LIST_MAX) : -YK_ENOMEM;
    int rc = n < 0 ? n : YK_MISS;
    for (int i = 0; i < n && i < NS_LIST_MAX && rc == YK_MISS; i++) {
        if (strcmp(infos[i].name, name) != 0)
            continue;
        *ret_info = infos[i];
        rc = 0;
    }
    free(infos);
    return rc;
}

/* How a change ended; with --json, what the namespace is now. */
static int changed(struct yolk_ctx *ctx, int rc, const char *what) {
    yk_ns_info info;
    if (rc >= 0 && ctx->common->json)
        rc = find(ctx, ctx->args[1], &info);
    if (rc != 0)
        return yolk_fail_call(ctx, rc, what, NULL);
    if (ctx->common->json)
        print_json(&info);
    return YOLK_OK;
}

/* More may be promised than there is, and where nothing is divided a promise is none. Both are said, and no failure. */
static void warn_of_guarantees(struct yolk_ctx *ctx) {
    char sum[YK_FMT_MAX], there[YK_FMT_MAX];
    struct yolk_sample sample = {0};
    if (yolk_sample_take(ctx->client, &sample) < 0)
        return;
    uint64_t divided = number(sample.root, "divided_bytes"), guaranteed = number(sample.root, "guaranteed_bytes");
    if (divided == 0)
        fprintf(stderr, "yolk: this node's policy is %s, which divides no memory: guarantee and priority count where it does\n",
                yolk_sample_text(&sample, "policy"));
    else if (guaranteed > divided)
        fprintf(stderr, "yolk: namespaces are guaranteed %s together, and this node divides %s: each gets less, in proportion\n",
                yk_fmt_bytes(guaranteed, sum), yk_fmt_bytes(divided, there));
    yolk_sample_free(&sample);
}

/* What was given, one after the other. */
static int apply(struct yolk_ctx *ctx) {
    const struct ns_config *config = ctx->config;
    const char *name = ctx->args[1];
    int rc = 0, of_shares = 0;
    if (yk_opt_is_set(ctx->opts, "copies"))
        rc = yk_ns_set_copies(ctx->client, name, (uint32_t)config->copies);
    if (rc == 0 && yk_opt_is_set(ctx->opts, "guarantee") && ++of_shares)
        rc = yk_ns_set_guarantee(ctx->client, name, config->guarantee_bytes);
    if (rc == 0 && yk_opt_is_set(ctx->opts, "priority") && ++of_shares)
        rc = yk_ns_set_priority(ctx->client, name, (uint32_t)config->priority);
    if (rc == 0 && of_shares > 0)
        warn_of_guarantees(ctx);
    return rc;
}

static int create(struct yolk_ctx *ctx) {
    const struct ns_config *config = ctx->config;
    int rc = yk_ns_create(ctx->client, ctx->args[1], config->quota_bytes);
    return changed(ctx, rc == 0 ? apply(ctx) : rc, "ns create");
}

static int set(struct yolk_ctx *ctx) {
    static const char *const settings[] = {"quota", "copies", "guarantee", "priority"};
    const struct ns_config *config = ctx->config;
    char quoted[YK_QUOTE_MAX];
    yk_ns_info info;
    int given = 0;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        given += yk_opt_is_set(ctx->opts, settings[i]);
    if (given == 0)
        return yolk_fail(YOLK_USAGE, "ns set: found nothing to set, expected --quota, --guarantee, --priority or --copies");
    int rc = find(ctx, ctx->args[1], &info); /* a slip of the pen makes no namespace */
    if (rc == YK_MISS)
        return yolk_fail(YOLK_FAIL, "namespace %s: there is none of that name (yolk ns create)",
                         yk_quote(ctx->args[1], quoted));
    if (rc == 0 && yk_opt_is_set(ctx->opts, "quota"))
        rc = yk_ns_create(ctx->client, ctx->args[1], config->quota_bytes);
    return changed(ctx, rc == 0 ? apply(ctx) : rc, "ns set");
}

static int copies(struct yolk_ctx *ctx) {
    struct yk_err err;
    uint64_t number;
    if (yk_parse_count(ctx->args[2], &number, &err) < 0)
        return yolk_fail(YOLK_USAGE, "ns copies: %s", err.text);
    if (number > YK_COPIES_MAX)
        return yolk_fail(YOLK_USAGE, "ns copies: found %llu, expected at most %u", (unsigned long long)number, YK_COPIES_MAX);
    return changed(ctx, yk_ns_set_copies(ctx->client, ctx->args[1], (uint32_t)number), "ns copies");
}

static int quota(struct yolk_ctx *ctx) {
    char quoted[YK_QUOTE_MAX];
    struct yk_err err;
    uint64_t bytes;
    if (yk_parse_size(ctx->args[2], &bytes, &err) < 0)
        return yolk_fail(YOLK_USAGE, "ns quota: %s", err.text);
    yk_ns_info info;
    int rc = find(ctx, ctx->args[1], &info); /* a slip of the pen makes no namespace */
    if (rc == YK_MISS)
        return yolk_fail(YOLK_FAIL, "namespace %s: there is none of that name (yolk ns create)",
                         yk_quote(ctx->args[1], quoted));
    if (rc == 0)
        rc = yk_ns_create(ctx->client, ctx->args[1], bytes);
    return changed(ctx, rc, "ns quota");
}

static int epoch(struct yolk_ctx *ctx) {
    struct yk_err err;
    uint64_t number;
    if (yk_parse_count(ctx->args[2], &number, &err) < 0)
        return yolk_fail(YOLK_USAGE, "ns epoch: %s", err.text);
    return changed(ctx, yk_ns_raise_epoch(ctx->client, ctx->args[1], number), "ns epoch");
}

static int remove_ns(struct yolk_ctx *ctx) {
    char answer[16], name[YOLK_KEY_TEXT_MAX];
    if (!((const struct ns_config *)ctx->config)->force && isatty(STDIN_FILENO)) {
        fprintf(stderr, "yolk: remove namespace '%s' and all its blocks? [y/N] ",
                yolk_safe_text(ctx->args[1], name));
        if (fgets(answer, sizeof(answer), stdin) == NULL || (answer[0] != 'y' && answer[0] != 'Y'))
            return yolk_fail(YOLK_FAIL, "nothing was removed");
    }
    int rc = yk_ns_remove(ctx->client, ctx->args[1]);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "ns rm", NULL);
    if (ctx->common->json) {
        struct yk_json json;
        yk_json_init_file(&json, stdout);
        yk_json_begin_object(&json);
        yk_json_put_str(&json, "name", ctx->args[1]);
        yk_json_put_str(&json, "status", "ok");
        yk_json_end_object(&json);
        yk_json_newline(&json);
        yk_json_finish(&json);
    }
    return YOLK_OK;
}

static const struct verb {
    const char *name, *args;
    size_t n_args;
    int (*fn)(struct yolk_ctx *ctx);
} verbs[] = {
    {"list", "", 1, list},          {"create", " NAME", 2, create}, {"quota", " NAME SIZE", 3, quota},
    {"epoch", " NAME N", 3, epoch}, {"rm", " NAME", 2, remove_ns},  {"copies", " NAME N", 3, copies},
    {"set", " NAME", 2, set},
};

static int ns(struct yolk_ctx *ctx) {
    const char *name = ctx->n_args > 0 ? ctx->args[0] : "list";
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(name, verbs[i].name) != 0)
            continue;
        if (ctx->n_args != verbs[i].n_args && ctx->n_args != 0)
            return yolk_fail(YOLK_USAGE, "found %zu argument%s, expected yolk ns %s%s", ctx->n_args,
                             ctx->n_args == 1 ? "" : "s", name, verbs[i].args);
        /* all nodes: the view connects */
        int code = verbs[i].fn == list && ((const struct ns_config *)ctx->config)->cluster ? 0 : yolk_open_node(ctx);
        return yolk_finish(code != 0 ? code : verbs[i].fn(ctx));
    }
    return yolk_fail(YOLK_USAGE, "ns: found '%.40s', expected list, create, set, quota, copies, epoch or rm",
                     name);
}

const struct yolk_cmd yolk_cmd_ns = {
    .name = "ns",
    .args = "[VERB [NAME [VALUE]]]",
    .max_args = 3,
    .help = "list, make, limit, renew and remove namespaces",
    .more =
        "VERB: list (or nothing) prints them; create NAME makes one; set NAME changes what its options name, and nothing "
        "else; quota NAME SIZE limits its bytes, 0 takes the limit away; copies NAME N says how many copies in a cluster "
        "puts want that name none; epoch NAME N raises its epoch (new weights), which makes every older block invisible at "
        "once; rm NAME removes it and its blocks, in a cluster at all nodes.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct ns_config),
    .fn = ns,
};
