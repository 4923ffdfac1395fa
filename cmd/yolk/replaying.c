/* SPDX-License-Identifier: Apache-2.0
 *
 * The common part of replay and run (replaying.h).
 *
 * Progress goes to standard error: one line that is written over on a terminal, a line every few
 * seconds elsewhere (a log should show that it is alive and not be filled by it).
 */
#include "replaying.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TTY_MS   250u
#define PLAIN_MS 5000u

/* A copy of yk_policy_list(): an option row needs constants. The tests compare them. */
const char *const yolk_policy_names[] = {"lru", "s3fifo", "chain-lru", "chain-s3fifo", "learned", NULL};
const char *const yolk_order_names[] = {"auto", "tail-first", "head-first", NULL};
const char *const yolk_verify_names[] = {"full", "sample", NULL};

static enum yk_replay_order order_of(const struct yolk_replaying *r) {
    if (r->order != 0)
        return r->order == 1 ? YK_REPLAY_TAIL_FIRST : YK_REPLAY_HEAD_FIRST;
    return strncmp(yolk_policy_names[r->policy], "chain", 5) == 0 ? YK_REPLAY_HEAD_FIRST : YK_REPLAY_TAIL_FIRST;
}

int yolk_replaying_opts(const struct yolk_replaying *r, struct yk_replay_opts *o) {
    o->block_bytes = r->block_bytes;
    o->block_tokens = (uint32_t)r->block_tokens;
    o->clients = (uint32_t)r->clients;
    o->inflight = (uint32_t)r->inflight;
    o->speed = r->speed;
    o->order = order_of(r);
    o->sample = r->verify == 1;
    o->capacity_blocks = (uint64_t)r->capacity;
    o->dram_bytes = r->dram_bytes;
    o->policy = yolk_policy_names[r->policy];
    o->ssd_capacity_blocks = (uint64_t)r->ssd_capacity;
    o->ssd_dir = r->ssd;
    return 0;
}

static void progress(void *arg, const struct yk_replay_progress *p) {
    char line[YK_REPLAY_LINE_MAX];
    const int *tty = arg;
    yk_replay_progress_line(p, line);
    if (*tty)
        fprintf(stderr, "\r%s\033[K", line);
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

static int finish(const struct yolk_ctx *ctx, const struct yk_replay_opts *o,
                  const struct yk_replay_result *r, int rc, const struct yk_err *err,
                  const char *title) {
    int code = r->interrupted ? YOLK_INTERRUPTED : YOLK_OK;
    if (rc == 0 || r->n.blocks > 0) {
        if (ctx->common->json) {
            (void)yk_replay_print_json(stdout, o, r);
        } else {
            if (title != NULL)
                printf("%s\n", title);
            yk_replay_print(stdout, o, r);
        }
    }
    /* Without a block put or got it is what was asked for that does not fit here. */
    int usage = rc == -YK_EINVAL || rc == -YK_ETOOBIG || (rc == -YK_ENOSPC && r->n.blocks == 0);
    if (rc < 0)
        code = yolk_fail(usage ? YOLK_USAGE : YOLK_FAIL, "%s", err->text);
    return yolk_finish(code);
}

int yolk_replaying_run(const struct yolk_ctx *ctx, const struct yk_replay_opts *o,
                       const struct yk_replay_trace *trace, const char *title) {
    struct yk_replay_opts opts = *o;
    struct yk_err err = {0};
    int tty = isatty(STDERR_FILENO);
    struct yk_replay_result *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    opts.progress = progress;
    opts.progress_arg = &tty;
    opts.progress_ms = tty ? TTY_MS : PLAIN_MS;
    fflush(stdout); /* children are forked: what is buffered would be written again */
    int rc = yk_replay_run(&opts, trace, r, &err);
    if (tty)
        fputs("\r\033[K", stderr);
    int code = finish(ctx, &opts, r, rc, &err, title);
    free(r);
    return code;
}

int yolk_replaying_load_failed(const char *path, const struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    int usage = err->code == -YK_EINVAL || err->code == -YK_ETOOBIG || err->code == -YK_ENOENT ||
                err->code == -YK_ENOTSUP || err->code == -YK_ECORRUPT;
    /* Texts about lines name the file already. */
    if (strncmp(err->text, path, strlen(path)) == 0 || strcmp(path, "-") == 0)
        return yolk_fail(usage ? YOLK_USAGE : YOLK_FAIL, "%s", err->text);
    return yolk_fail(usage ? YOLK_USAGE : YOLK_FAIL, "%s: %s", yk_quote(path, quoted), err->text);
}
