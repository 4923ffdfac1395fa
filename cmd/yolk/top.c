/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk top: the node's figures once a second, live on a terminal, once, or as JSON lines.
 *
 * A node that restarts is waited for: the last figures stay on the screen with a line that says so,
 * and libyolk connects again.
 */
#include "commands.h"
#include "term.h"
#include "top_cluster.h"
#include "top_view.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX (1u << 20)
#define TIMEOUT_NS                                                                                 \
    YK_NS_PER_S /* unless --timeout is given: keys must not wait for a node that hangs */

struct top_config {
    struct yolk_common common;
    uint64_t interval_ns;
    int64_t count;
    bool once, cluster;
};

static const struct yk_opt rows[] = {
    {.name = "interval",
     .letter = 'i',
     .type = YK_OPT_DURATION,
     YK_OPT_AT(struct top_config, interval_ns),
     .def = "1s",
     .min = "100ms",
     .max = "1h",
     .help = "Between two looks."},
    {.name = "count",
     .letter = 'c',
     .type = YK_OPT_INT,
     YK_OPT_AT(struct top_config, count),
     .def = "0",
     .min = "0",
     .help = "End after so many; 0 goes on."},
    {.name = "once",
     .letter = '1',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct top_config, once),
     .help = "Look for one interval, print it as plain text, and end. So does an output "
             "that is no terminal."},
    {.name = "cluster",
     .letter = 'C',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct top_config, cluster),
     .help = "All nodes of the cluster that the node of --url is in, a line each: slots, blocks, bytes, what its clients "
             "hit and miss, what it brought from other nodes (pulls; of them bytes of other zones) and lent to them, "
             "changes that are not confirmed yet (lag), removes that are pending."},
};

static int by_bytes(const void *a, const void *b) {
    uint64_t x = ((const yk_ns_info *)a)->used_bytes, y = ((const yk_ns_info *)b)->used_bytes;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The new sample takes the place of the old one; on failure everything stays. */
static int look(struct yolk_ctx *ctx, struct yolk_top_view *v) {
    struct yolk_sample s = {0};
    int rc = yolk_sample_take(ctx->client, &s);
    if (rc < 0) {
        v->message = yk_error_text(ctx->client);
        return rc;
    }
    yolk_sample_free(&v->before);
    v->before = v->now;
    v->now = s;
    v->message = NULL;
    v->n_namespaces = 0;
    int n = yk_ns_list(ctx->client, v->namespaces, YOLK_TOP_NAMESPACES);
    if (n > 0) {
        v->n_namespaces = n < YOLK_TOP_NAMESPACES ? n : YOLK_TOP_NAMESPACES;
        qsort(v->namespaces, (size_t)v->n_namespaces, sizeof(v->namespaces[0]), by_bytes);
    }
    return 0;
}

static void wait_until(uint64_t until_ns) {
    for (uint64_t now = yk_now_ns(); now < until_ns; now = yk_now_ns())
        poll(NULL, 0, (int)((until_ns - now) / YK_NS_PER_MS + 1));
}

static void print_text(const struct yolk_top_view *v, bool live) {
    struct yk_buf out;
    yk_buf_init(&out, TEXT_MAX);
    yolk_top_text(v, &out);
    if (live)
        yolk_term_draw(yk_buf_text(&out));
    else
        fputs(yk_buf_text(&out), stdout);
    yk_buf_fini(&out);
}

/* Waits for the end of the interval, drawing again when the terminal asks for it. False: quit. */
static bool live_wait(struct yolk_term *term, const struct yolk_top_view *v, uint64_t until_ns) {
    while (yk_now_ns() < until_ns) {
        enum yolk_term_event e = yolk_term_wait(term, until_ns);
        if (e == YOLK_TERM_QUIT)
            return false;
        if (e == YOLK_TERM_REDRAW)
            print_text(v, true);
    }
    return true;
}

static int run_live(struct yolk_ctx *ctx, struct yolk_top_view *v) {
    const struct top_config *config = ctx->config;
    struct yolk_term term;
    if (yolk_term_open(&term) < 0)
        return yolk_fail(YOLK_FAIL, "the terminal: %s", strerror(errno));
    uint64_t next = yk_now_ns();
    for (int64_t i = 0; config->count == 0 || i < config->count; i++) {
        look(ctx, v);
        print_text(v, true);
        next += config->interval_ns;
        if (next < yk_now_ns())
            next = yk_now_ns() + config->interval_ns;
        if (!live_wait(&term, v, next))
            break;
    }
    yolk_term_close(&term);
    return YOLK_OK;
}

/* Plain text once, or JSON lines. A failure ends it: nobody looks at a screen here. */
static int run_lines(struct yolk_ctx *ctx, struct yolk_top_view *v) {
    const struct top_config *config = ctx->config;
    int64_t count = config->once || !config->common.json ? 1 : config->count;
    struct yk_json json;
    uint64_t next = yk_now_ns();
    yk_json_init_file(&json, stdout);
    for (int64_t i = 0; count == 0 || i < count; i++) {
        next += config->interval_ns;
        wait_until(next);
        int rc = look(ctx, v);
        if (rc < 0)
            return yolk_fail_call(ctx, rc, "top", NULL);
        if (config->common.json)
            yolk_top_json(v, &json);
        else
            print_text(v, false);
        int code = yolk_finish(YOLK_OK);
        if (code != YOLK_OK)
            return code;
    }
    return YOLK_OK;
}

/* ---- all nodes ---------------------------------------------------------------------------------- */

static int cluster_print(const struct yolk_ctx *ctx, struct yolk_top_cluster *v, bool live) {
    struct yk_buf out;
    if (ctx->common->json) {
        (void)yolk_top_cluster_json(v, stdout);
        return yolk_finish(YOLK_OK);
    }
    yk_buf_init(&out, TEXT_MAX);
    yolk_top_cluster_text(v, &out);
    if (live)
        yolk_term_draw(yk_buf_text(&out));
    else
        fputs(yk_buf_text(&out), stdout);
    yk_buf_fini(&out);
    return live ? YOLK_OK : yolk_finish(YOLK_OK);
}

static int cluster_live(struct yolk_ctx *ctx, struct yolk_top_cluster *v) {
    const struct top_config *config = ctx->config;
    enum yolk_term_event e = YOLK_TERM_TIMEOUT;
    struct yolk_term term;
    if (yolk_term_open(&term) < 0)
        return yolk_fail(YOLK_FAIL, "the terminal: %s", strerror(errno));
    for (int64_t i = 0; (config->count == 0 || i < config->count) && e != YOLK_TERM_QUIT; i++) {
        uint64_t next = yk_now_ns() + config->interval_ns;
        (void)yolk_top_cluster_look(v); /* the last figures stay, with a line that says so */
        do {
            (void)cluster_print(ctx, v, true);
            e = yolk_term_wait(&term, next);
        } while (e == YOLK_TERM_REDRAW || e == YOLK_TERM_KEY);
    }
    yolk_term_close(&term);
    return YOLK_OK;
}

static int cluster_lines(struct yolk_ctx *ctx, struct yolk_top_cluster *v) {
    const struct top_config *config = ctx->config;
    int64_t count = config->once || !config->common.json ? 1 : config->count;
    int code = YOLK_OK;
    for (int64_t i = 0; (count == 0 || i < count) && code == YOLK_OK; i++) {
        wait_until(yk_now_ns() + config->interval_ns);
        if (yolk_top_cluster_look(v) < 0)
            return yolk_fail(YOLK_FAIL, "top: %s", yolk_top_cluster_why(v));
        code = cluster_print(ctx, v, false);
    }
    return code;
}

static int top_cluster(struct yolk_ctx *ctx, bool live) {
    struct yolk_top_cluster *v = NULL;
    int code = yolk_top_cluster_open(ctx, &v);
    if (code != 0)
        return code;
    if (yolk_top_cluster_look(v) < 0)
        code = yolk_fail(YOLK_FAIL, "top: %s", yolk_top_cluster_why(v));
    else
        code = live ? cluster_live(ctx, v) : cluster_lines(ctx, v);
    yolk_top_cluster_close(v);
    return code;
}

/* ---- the command -------------------------------------------------------------------------------- */

static int top(struct yolk_ctx *ctx) {
    struct top_config *config = ctx->config;
    struct yolk_top_view v = {.url = ctx->common->url};
    bool live =
        !config->common.json && !config->once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!yk_opt_is_set(ctx->opts, "timeout"))
        config->common.timeout_ns = TIMEOUT_NS;
    if (config->cluster)
        return top_cluster(ctx, live);
    int code = yolk_open_node(ctx);
    if (code != 0)
        return code;
    int rc = look(ctx, &v);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "top", NULL);
    code = live ? run_live(ctx, &v) : run_lines(ctx, &v);
    yolk_sample_free(&v.before);
    yolk_sample_free(&v.now);
    return code;
}

const struct yolk_cmd yolk_cmd_top = {
    .name = "top",
    .help = "show what the node does, live",
    .more =
        "q ends it. A look may take 1s if --timeout is not given. Latencies are the node's "
        "own, from a message's arrival to its answer, of the messages since the last look; what "
        "mapped clients do without a message has none.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct top_config),
    .fn = top,
};
