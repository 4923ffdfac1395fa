/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk put: a file or standard input becomes a block.
 *
 * A file's length is known before its bytes are read, so they are read straight into the node's
 * memory (reserve, read, commit). A pipe's is not, nor is there such memory on a handle without the
 * mapping: those are read into a buffer first.
 */
#include "commands.h"
#include "keys.h"
#include "progress.h"
#include "sample.h"

#include "base/fmt.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (4u << 20) /* at a time, so that progress moves */
#define PIPE_FIRST (1u << 20)
#define PIPE_UNASKED (8u << 20) /* read without asking the node what it can hold */

struct put_config {
    struct yolk_common common;
    char *parent;
    uint64_t ttl_ns;
    char *pin;
    char *prefer;
    int replicas;
    bool upsert;
    bool hex;
};

static int check_pin(const char *text, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    uint64_t ns;
    if (strcmp(text, "hard") == 0 || (yk_parse_duration(text, &ns, NULL) == 0 && ns >= 1000000u))
        return 0;
    return yk_err_set(err, -YK_EINVAL, "found %s, expected 'hard' or a time such as 10m",
                      yk_quote(text, quoted));
}

static const struct yk_opt rows[] = {
    {.name = "parent",
     .letter = 'p',
     .type = YK_OPT_STR,
     YK_OPT_AT(struct put_config, parent),
     .metavar = "KEY",
     .help = "The block before this one in its chain."},
    {.name = "ttl",
     .type = YK_OPT_DURATION,
     YK_OPT_AT(struct put_config, ttl_ns),
     .def = "0",
     .help = "Time to live; 0 is for ever."},
    {.name = "pin",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct put_config, pin),
     .metavar = "hard|TIME",
     .check = check_pin,
     .help = "hard: do not evict it; a time: evict it last for so long."},
    {.name = "upsert",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct put_config, upsert),
     .help = "Replace a block of other bytes. Without it that is a conflict; the same bytes are "
             "fine."},
    {.name = "replicas",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct put_config, replicas),
     .metavar = "N",
     .def = "0",
     .min = "0",
     .max = "8",
     .help = "Copies in the cluster, on as many nodes, in different zones as far as there are any; 0: as many as the "
             "namespace says (yolk ns copies), else one."},
    {.name = "prefer",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct put_config, prefer),
     .metavar = "NODE",
     .help = "The node of the cluster that shall have the block."},
    {.name = "hex",
     .letter = 'x',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct put_config, hex),
     .help = "Keys are given as hex digits."},
};

/* What was read: in the node's memory (rsv.len > 0), or in a buffer. */
struct payload {
    yk_reservation rsv;
    unsigned char *buf;
    size_t len;
};

struct source {
    const char *path; /* for messages */
    int fd;
    struct yolk_progress progress;
};

/* Up to want bytes; fewer at the end. -1 with errno. */
static ssize_t read_full(struct source *s, unsigned char *to, size_t want, size_t before) {
    size_t got = 0;
    while (got < want) {
        size_t n = want - got < READ_BYTES ? want - got : READ_BYTES;
        ssize_t rc = read(s->fd, to + got, n);
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc < 0)
            return -1;
        if (rc == 0)
            break;
        got += (size_t)rc;
        yolk_progress_at(&s->progress, before + got);
    }
    return (ssize_t)got;
}

static int fail_read(const struct source *s) {
    return yolk_fail(YOLK_FAIL, "cannot read '%s': %s", s->path, strerror(errno));
}

static int fail_empty(const struct source *s) {
    return yolk_fail(YOLK_USAGE, "'%s': found nothing, expected a block of 1 byte to 4 GiB - 1",
                     s->path);
}

static int fail_long(const struct source *s) {
    return yolk_fail(YOLK_USAGE,
                     "'%s': found 4 GiB or more, expected a block of 1 byte to 4 GiB - 1", s->path);
}

/* A regular file whose length is known. */
static int read_known(struct yolk_ctx *ctx, struct source *s, size_t len, struct payload *p) {
    int rc = yk_reserve(ctx->client, len, 0, &p->rsv);
    if (rc < 0 && rc != -YK_ENOTSUP)
        return yolk_fail_call(ctx, rc, "put", NULL);
    if (rc == -YK_ENOTSUP)
        p->buf = malloc(len);
    if (rc < 0 && p->buf == NULL)
        return yolk_fail(YOLK_FAIL, "no memory for %zu bytes", len);
    p->len = len;
    ssize_t n = read_full(s, rc < 0 ? p->buf : p->rsv.data, len, 0);
    if (n < 0)
        return fail_read(s);
    char more;
    if ((size_t)n < len || read(s->fd, &more, 1) > 0)
        return yolk_fail(YOLK_FAIL, "'%s' changed while it was read", s->path);
    return 0;
}

/* The node's tier: no block is larger. What cannot be known now is said by the put. */
static uint64_t largest_block(struct yolk_ctx *ctx) {
    struct yolk_sample sample = {0};
    uint64_t n = yolk_sample_take(ctx->client, &sample) < 0
                     ? 0
                     : yolk_sample_get(&sample, "capacity_bytes");
    yolk_sample_free(&sample);
    return n != 0 && n < YK_BLOCK_MAX ? n : YK_BLOCK_MAX;
}

static int fail_larger(const struct source *s, uint64_t most) {
    char text[YK_FMT_MAX];
    return yolk_fail(YOLK_USAGE, "'%s': found more than %s, which is all the memory of this node",
                     s->path, yk_fmt_bytes(most, text));
}

static int read_pipe(struct yolk_ctx *ctx, struct source *s, struct payload *p) {
    size_t cap = 0;
    uint64_t most = 0;
    for (;;) {
        if (p->len == cap) {
            if (cap >= PIPE_UNASKED && most == 0)
                most = largest_block(ctx);
            if (cap > YK_BLOCK_MAX)
                return fail_long(s);
            if (most != 0 && p->len > most)
                return fail_larger(s, most);
            cap = cap == 0 ? PIPE_FIRST : cap * 2;
            if (most != 0 && cap > most + 1)
                cap = (size_t)most + 1;
            unsigned char *more = realloc(p->buf, cap);
            if (more == NULL)
                return yolk_fail(YOLK_FAIL, "no memory for %zu bytes", cap);
            p->buf = more;
        }
        ssize_t n = read_full(s, p->buf + p->len, cap - p->len, p->len);
        if (n < 0)
            return fail_read(s);
        p->len += (size_t)n;
        if (p->len < cap) /* the end */
            break;
    }
    if (p->len > YK_BLOCK_MAX)
        return fail_long(s);
    return p->len == 0 ? fail_empty(s) : 0;
}

static int read_payload(struct yolk_ctx *ctx, const char *path, struct payload *p) {
    bool is_stdin = strcmp(path, "-") == 0;
    struct source s = {.path = is_stdin ? "standard input" : path,
                       .fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)};
    struct stat st;
    if (s.fd < 0 || fstat(s.fd, &st) < 0)
        return yolk_fail(YOLK_USAGE, "cannot open '%s': %s", path, strerror(errno));
    int rc;
    off_t at = S_ISREG(st.st_mode) ? lseek(s.fd, 0, SEEK_CUR) : -1;
    if (S_ISDIR(st.st_mode)) {
        rc = yolk_fail(YOLK_USAGE, "'%s' is a directory, expected a file", path);
    } else if (at >= 0 && st.st_size > 0) { /* files of /proc say 0 and are read as pipes are */
        uint64_t len = at < st.st_size ? (uint64_t)(st.st_size - at) : 0;
        yolk_progress_begin(&s.progress, "put", len, ctx->common->json);
        rc = len == 0             ? fail_empty(&s)
             : len > YK_BLOCK_MAX ? fail_long(&s)
                                  : read_known(ctx, &s, (size_t)len, p);
    } else {
        yolk_progress_begin(&s.progress, "put", 0, ctx->common->json);
        rc = read_pipe(ctx, &s, p);
    }
    yolk_progress_end(&s.progress);
    if (!is_stdin)
        close(s.fd);
    return rc;
}

static void fill_opts(const struct put_config *config, yk_put_opts *opts) {
    uint64_t pin_ns = 0;
    opts->ttl_ms = (config->ttl_ns + 999999u) / 1000000u;
    opts->replicas = (uint32_t)config->replicas;
    opts->prefer = config->prefer;
    if (config->upsert)
        opts->flags |= YK_PUT_UPSERT;
    if (config->pin == NULL)
        return;
    if (strcmp(config->pin, "hard") == 0) {
        opts->flags |= YK_PUT_HARD_PIN;
        return;
    }
    yk_parse_duration(config->pin, &pin_ns, NULL); /* was checked */
    opts->flags |= YK_PUT_SOFT_PIN;
    opts->pin_ms = pin_ns / 1000000u;
}

static void print_put(const struct yolk_ctx *ctx, int status, yk_key key, size_t len, bool hex) {
    struct yk_json json;
    char text[YOLK_KEY_TEXT_MAX];
    if (status == YK_FEWER)
        fprintf(stderr, "yolk: put '%.60s': %s, or not at the preferred node\n", yolk_key_text(key, hex, text),
                yk_strerror(status));
    if (!ctx->common->json)
        return;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yolk_json_key(&json, key, hex);
    yk_json_put_uint(&json, "len", len);
    if (status == YK_FEWER)
        yk_json_put_bool(&json, "fewer", true);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    yk_json_finish(&json);
}

static int fail_put(const struct yolk_ctx *ctx, int status, yk_key key) {
    char text[YOLK_KEY_TEXT_MAX], limit[YOLK_LIMIT_TEXT_MAX], why[512];
    if (status == -YK_EQUOTA || status == -YK_ELIMIT) {
        snprintf(why, sizeof(why), "%s", yk_error_text(ctx->client));
        return yolk_fail(yolk_exit_of(status), "%s%s", why, yolk_limit_text(ctx, status, limit));
    }
    if (status != -YK_ECONFLICT)
        return yolk_fail_call(ctx, status, "put", &key);
    return yolk_fail(YOLK_CONFLICT,
                     "put '%.60s': the key has other bytes already, --upsert replaces them",
                     yolk_key_text(key, false, text));
}

static int put(struct yolk_ctx *ctx) {
    const struct put_config *config = ctx->config;
    unsigned char key_bytes[YK_KEY_MAX], parent_bytes[YK_KEY_MAX];
    yk_put_opts opts = {.size = sizeof(opts)};
    struct payload p = {.len = 0};
    yk_key key;
    int code = yolk_key_from_arg(ctx->args[0], config->hex, key_bytes, &key);
    if (code == 0 && config->parent != NULL)
        code = yolk_key_from_arg(config->parent, config->hex, parent_bytes, &opts.parent);
    if (code == 0)
        code = yolk_open(ctx, 0);
    if (code == 0)
        code = read_payload(ctx, ctx->args[1], &p);
    if (code == 0) {
        fill_opts(config, &opts);
        int rc = p.rsv.len > 0 ? yk_commit(ctx->client, &p.rsv, key, &opts)
                               : yk_put(ctx->client, key, p.buf, p.len, &opts);
        if (rc < 0)
            code = fail_put(ctx, rc, key);
        else
            print_put(ctx, rc, key, p.len, config->hex);
    } else if (p.rsv.len > 0) {
        yk_abort(ctx->client, &p.rsv);
    }
    free(p.buf);
    return yolk_finish(code);
}

const struct yolk_cmd yolk_cmd_put = {
    .name = "put",
    .args = "KEY FILE|-",
    .min_args = 2,
    .max_args = 2,
    .help = "store a file, or standard input, as a block",
    .more = "A key that has the same bytes already is fine. Where not all copies could be made that were asked for, or "
            "not at the node that was, the block is stored all the same, and that is said.",
    YOLK_CMD_OPTIONS(rows),
    .flags = YOLK_CMD_PUTS,
    .config_bytes = sizeof(struct put_config),
    .fn = put,
};
