/* SPDX-License-Identifier: Apache-2.0
 *
 * Connecting, and failures as one line and an exit code (cmd.h).
 */
#include "cmd.h"
#include "keys.h"
#include "sample.h"

#include "base/fmt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_LIST_MAX 1024
#define DEFAULT_NS  "default" /* of --namespace */

int yolk_fail(int code, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fflush(stdout); /* what was printed so far stands before the error where both are one file */
    fprintf(stderr, "yolk: %s\n", text);
    return code;
}

int yolk_exit_of(int status) {
    switch (status) {
    case YK_MISS:
        return YOLK_MISS;
    case -YK_ECONFLICT:
        return YOLK_CONFLICT;
    case -YK_EINVAL:
    case -YK_EKEY:
    case -YK_ETOOBIG:
        return YOLK_USAGE;
    default:
        return status >= 0 ? YOLK_OK : YOLK_FAIL;
    }
}

/* libyolk's texts name what was tried; a miss has none. */
int yolk_fail_call(const struct yolk_ctx *ctx, int status, const char *what, const yk_key *key) {
    char text[YOLK_KEY_TEXT_MAX];
    const char *why = yk_error_text(ctx->client);
    if (status < 0 && why[0] != '\0')
        return yolk_fail(yolk_exit_of(status), "%s", why);
    why = status == YK_MISS ? "not here" : yk_strerror(status);
    if (key == NULL)
        return yolk_fail(yolk_exit_of(status), "%s: %s", what, why);
    return yolk_fail(yolk_exit_of(status), "%s '%.60s': %s", what, yolk_key_text(*key, false, text),
                     why);
}

static void quota_text(const struct yolk_ctx *ctx, char *buf) {
    char used[YK_FMT_MAX], quota[YK_FMT_MAX], name[YOLK_KEY_TEXT_MAX];
    yk_ns_info *infos = calloc(NS_LIST_MAX, sizeof(*infos));
    int n = infos != NULL ? yk_ns_list(ctx->client, infos, NS_LIST_MAX) : 0;
    for (int i = 0; i < n && i < NS_LIST_MAX; i++)
        if (strcmp(infos[i].name, ctx->common->name_space) == 0)
            snprintf(buf, YOLK_LIMIT_TEXT_MAX, ": '%.64s' has %s of %s",
                     yolk_safe_text(infos[i].name, name), yk_fmt_bytes(infos[i].used_bytes, used),
                     yk_fmt_bytes(infos[i].quota_bytes, quota));
    free(infos);
}

static void pins_text(const struct yolk_ctx *ctx, char *buf) {
    char pinned[YK_FMT_MAX], most[YK_FMT_MAX];
    struct yolk_sample s = {0};
    if (yolk_sample_take(ctx->client, &s) < 0)
        return;
    snprintf(buf, YOLK_LIMIT_TEXT_MAX,
             ": %s are pinned hard, at most %s may be (yolkd's --held-percent)",
             yk_fmt_bytes(yolk_sample_get(&s, "hard_pinned_bytes"), pinned),
             yk_fmt_bytes(yolk_sample_get(&s, "hard_pin_max_bytes"), most));
    yolk_sample_free(&s);
}

char *yolk_limit_text(const struct yolk_ctx *ctx, int status, char buf[YOLK_LIMIT_TEXT_MAX]) {
    buf[0] = '\0';
    if (status == -YK_EQUOTA)
        quota_text(ctx, buf);
    else if (status == -YK_ELIMIT)
        pins_text(ctx, buf);
    return buf;
}

uint32_t yolk_timeout_ms(const struct yolk_ctx *ctx) {
    return (uint32_t)(ctx->common->timeout_ns / 1000000u);
}

/* A command that puts nothing makes no namespace, so that a slip of the pen says so. It opens at the epoch
 * that there is, and then refuses another: opening with a higher one would drop the namespace's blocks. */
static int check_namespace(const struct yolk_ctx *ctx) {
    const struct yolk_common *c = ctx->common;
    char name[YOLK_KEY_TEXT_MAX];
    int n = yk_ns_list(ctx->client, NULL, 0);
    yk_ns_info *infos = n > 0 ? calloc((size_t)n, sizeof(*infos)) : NULL;
    if (n > 0 && infos == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    int now = n > 0 ? yk_ns_list(ctx->client, infos, (size_t)n) : n;
    if (now < 0) {
        free(infos);
        return yolk_fail_call(ctx, now, "namespaces", NULL);
    }
    uint64_t epoch = 0; /* no namespace's */
    for (int i = 0; i < n && i < now; i++)
        if (strcmp(infos[i].name, c->name_space) == 0)
            epoch = infos[i].epoch;
    free(infos);
    if (epoch == 0)
        return yolk_fail(YOLK_MISS, "namespace '%s' does not exist: there is nothing in it",
                         yolk_safe_text(c->name_space, name));
    if (c->epoch == 0 || epoch == (uint64_t)c->epoch)
        return 0;
    return yolk_fail(YOLK_FAIL,
                     "--epoch: found %lld, but namespace '%s' is at %llu, and %s does not raise it",
                     (long long)c->epoch, yolk_safe_text(c->name_space, name),
                     (unsigned long long)epoch, ctx->cmd->name);
}

static int connect_node(struct yolk_ctx *ctx, uint32_t more_flags) {
    const struct yolk_common *c = ctx->common;
    int raises = (ctx->cmd->flags & YOLK_CMD_PUTS) != 0;
    if (!raises && strcmp(c->name_space, DEFAULT_NS) != 0) /* that one is there for everybody */
        more_flags |= YK_OPEN_LOOK;
    yk_open_opts opts = {
        .size = sizeof(opts),
        .flags = YK_OPEN_HANDLE_SIGBUS | more_flags | (c->map && c->shm ? 0u : YK_OPEN_NO_MAP) |
                 (c->xfer ? 0u : YK_OPEN_NO_XFER),
        .name_space = c->name_space,
        .epoch = raises ? (uint64_t)c->epoch : 0,
        .timeout_ms = yolk_timeout_ms(ctx),
        .rails = c->rails,
        .transports = c->transports,
        .rdma = c->rdma,
    };
    int rc = yk_open(c->url, &opts, &ctx->client);
    if (rc >= 0)
        return 0;
    if (rc == -YK_EGONE)
        return yolk_fail(YOLK_FAIL, "%s: start yolkd, or say where it listens with --url",
                         yk_error_text(NULL));
    return yolk_fail(yolk_exit_of(rc), "%s", yk_error_text(NULL));
}

int yolk_open(struct yolk_ctx *ctx, uint32_t more_flags) {
    int code = connect_node(ctx, more_flags);
    return code != 0 || (ctx->cmd->flags & YOLK_CMD_PUTS) ? code : check_namespace(ctx);
}

int yolk_open_node(struct yolk_ctx *ctx) {
    return connect_node(ctx, 0);
}

int yolk_finish(int code) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    return yolk_fail(YOLK_FAIL, "cannot write the output: %s", strerror(errno));
}
