/* SPDX-License-Identifier: Apache-2.0
 *
 * Cuts a trace's bytes into lines and has them parsed.
 *
 * One buffer holds the bytes read and not yet parsed; it starts small, doubles only for a line that
 * does not fit, and never grows past YK_TRACE_LINE_MAX and a little. Lines are parsed where they
 * lie.
 */
#include "trace/source_priv.h"
#include "trace/trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BUF_BYTES_MIN 65536

struct yk_trace {
    struct yk_trace_source *source;
    char *name; /* in messages */
    char *buf;
    size_t at, len, size; /* buf[at..len) is to be parsed, size is allocated */
    uint64_t line;        /* number of the line last begun */
    bool at_end;          /* the source has no more */
    struct yk_trace_req req;
    struct yk_err failed; /* code != 0: the answer to every further call */
};

int yk_trace_open(const char *path, struct yk_trace **ret_trace, struct yk_err *err) {
    struct yk_trace *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return yk_err_set(err, -YK_ENOMEM, "%s: out of memory", path);
    t->name = strdup(strcmp(path, "-") == 0 ? "standard input" : path);
    t->buf = malloc(BUF_BYTES_MIN);
    t->size = BUF_BYTES_MIN;
    struct yk_err e = {.code = -YK_ENOMEM, .text = "out of memory"};
    if (t->name != NULL && t->buf != NULL)
        e.code = yk_trace_source_open(path, &t->source, &e);
    if (e.code != 0) {
        yk_trace_close(t);
        return yk_err_set(err, e.code, "%s: %s", path, e.text);
    }
    *ret_trace = t;
    return 0;
}

void yk_trace_close(struct yk_trace *t) {
    if (t == NULL)
        return;
    yk_trace_source_close(t->source);
    yk_trace_req_fini(&t->req);
    free(t->buf);
    free(t->name);
    free(t);
}

/* Room for more bytes at the end of the buffer: by moving what is left to its front, else by
 * growing it. */
static int make_room(struct yk_trace *t, struct yk_err *err) {
    memmove(t->buf, t->buf + t->at, t->len - t->at);
    t->len -= t->at;
    t->at = 0;
    if (t->len < t->size)
        return 0;
    if (t->size > YK_TRACE_LINE_MAX)
        return yk_err_set(err, -YK_ETOOBIG, "found a line over %u bytes, expected at most that",
                          YK_TRACE_LINE_MAX);
    char *buf = realloc(t->buf, t->size * 2);
    if (buf == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory for a line over %zu bytes", t->size);
    t->buf = buf;
    t->size *= 2;
    return 0;
}

static int read_more(struct yk_trace *t, struct yk_err *err) {
    int rc = t->len == t->size ? make_room(t, err) : 0;
    size_t n = 0;
    if (rc == 0)
        rc = yk_trace_source_read(t->source, t->buf + t->len, t->size - t->len, &n, err);
    t->len += n;
    t->at_end = rc == 0 && n == 0;
    return rc;
}

/* The next line, without its newline: 1, or 0 at the end. */
static int next_line(struct yk_trace *t, const char **ret_line, size_t *ret_len,
                     struct yk_err *err) {
    size_t searched = 0;
    for (;;) {
        char *first = t->buf + t->at, *newline;
        newline = memchr(first + searched, '\n', t->len - t->at - searched);
        size_t rest = t->len - t->at;
        if (newline != NULL || (t->at_end && rest > 0)) {
            *ret_line = first;
            *ret_len = newline != NULL ? (size_t)(newline - first) : rest;
            t->at += *ret_len + (newline != NULL);
            return 1;
        }
        if (t->at_end)
            return 0;
        searched = rest;
        int rc = read_more(t, err);
        if (rc != 0)
            return rc;
    }
}

static bool is_blank(const char *line, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

static int next_req(struct yk_trace *t, struct yk_err *err) {
    const char *line = NULL;
    size_t len = 0;
    int rc;
    do {
        t->line++;
        rc = next_line(t, &line, &len, err);
        if (rc <= 0)
            return rc;
    } while (is_blank(line, len));
    rc = yk_trace_parse_line(line, len, &t->req, err);
    return rc == 0 ? 1 : rc;
}

int yk_trace_next(struct yk_trace *t, struct yk_trace_req *req, struct yk_err *err) {
    if (t->failed.code == 0) {
        struct yk_err e = {0};
        int rc = next_req(t, &e);
        if (rc >= 0) {
            *req = t->req;
            req->ids_allocated = 0; /* borrowed */
            return rc;
        }
        /* The text is cut rather than the place: a long path keeps its end. */
        size_t name_len = strlen(t->name), name_max = YK_ERR_TEXT_MAX / 2;
        const char *name = name_len > name_max ? t->name + name_len - name_max : t->name;
        yk_err_set(&t->failed, rc, "%s:%llu: %s", name, (unsigned long long)t->line, e.text);
    }
    if (err != NULL)
        *err = t->failed;
    return t->failed.code;
}

int yk_trace_each(const char *path, uint64_t max_requests, yk_trace_each_fn fn, void *arg, struct yk_err *err) {
    struct yk_trace_req req;
    struct yk_trace *trace;
    uint64_t n = 0;
    int rc = yk_trace_open(path, &trace, err);
    if (rc < 0)
        return rc;
    while ((max_requests == 0 || n < max_requests) && (rc = yk_trace_next(trace, &req, err)) == 1 &&
           (rc = fn(arg, &req, err)) == 0)
        n++;
    yk_trace_close(trace);
    if (rc == 0 && n == 0)
        rc = yk_err_set(err, -YK_EINVAL, "%s: found no request, expected one a line", path);
    return rc;
}

uint32_t yk_trace_last_eighths(uint32_t blocks, uint32_t input_length, uint32_t block_tokens) {
    uint64_t full = (uint64_t)blocks * block_tokens;
    if (blocks == 0 || input_length >= full || full - input_length >= block_tokens)
        return 0;
    return 1 + (uint32_t)((block_tokens - (full - input_length)) * 7 / block_tokens);
}
