/* SPDX-License-Identifier: Apache-2.0
 *
 * Request traces in the public Mooncake format: one JSON object a line with `timestamp` (ms from
 * the start), `input_length` and `output_length` (tokens) and `hash_ids` (one for each block of the
 * prompt; an id stands for its block and everything before it). `stop` and `session` are taken when
 * they are there as integers; any other field is checked to be JSON and ignored.
 *
 * The parser is our own and strict, because it stands between a stranger's file and the program:
 * bounded in line length, ids and nesting, no allocation for each value, and every complaint says
 * where, what was found and what was expected ("FILE:LINE: found 'x', expected a digit (column
 * 9)"). A general JSON library would build a tree of a million numbers to throw it away.
 *
 * Thread: a reader belongs to one thread at a time; nothing is shared.
 */
#ifndef YK_TRACE_TRACE_H
#define YK_TRACE_TRACE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_TRACE_IDS_MAX     (1u << 20)  /* a request: 512 M tokens in blocks of 512 */
#define YK_TRACE_LINE_MAX    (32u << 20) /* bytes: IDS_MAX ids of 20 digits, comma and space */
#define YK_TRACE_NESTING_MAX 16          /* arrays and objects inside ignored fields */
#define YK_TRACE_TIME_MAX_MS (UINT64_C(1) << 53)

/* Why a turn ended, where a trace says so. */
enum yk_trace_stop {
    YK_TRACE_STOP_NONE = 0, /* the trace does not say */
    YK_TRACE_STOP_TOOL = 1,
    YK_TRACE_STOP_END = 2,
    YK_TRACE_STOP_STREAM = 3,
    YK_TRACE_STOP_LIMIT = 4,
    YK_TRACE_STOP_UNKNOWN = 5,
};

/* Zero-initialise before the first use; yk_trace_req_fini frees what it grew to. */
struct yk_trace_req {
    uint64_t timestamp_ms;
    uint64_t session;       /* 0: the trace does not say */
    uint64_t *hash_ids;     /* n of them, head of the chain first */
    uint32_t n;             /* at most YK_TRACE_IDS_MAX */
    uint32_t ids_allocated; /* 0: hash_ids is borrowed */
    uint32_t input_length;  /* tokens */
    uint32_t output_length; /* tokens */
    uint32_t stop;          /* enum yk_trace_stop, or another small number of the trace's own */
};

void yk_trace_req_fini(struct yk_trace_req *req);

/* Parses one line (without or with its newline) into req, whose storage is used again. 0;
 * -YK_EINVAL: malformed; -YK_ETOOBIG: over a limit above; -YK_ENOMEM. On failure req's fields are
 * unspecified, but it may be used again and must be finished. */
int yk_trace_parse_line(const char *line, size_t len, struct yk_trace_req *req, struct yk_err *err);

/* Writes req as one line of the format; stop and session only when they are not 0. 0 or -YK_EIO. */
int yk_trace_write(FILE *out, const struct yk_trace_req *req);

struct yk_trace;

/* Opens a trace; "-" is standard input. Zstandard-compressed input is recognised by its first
 * bytes. -YK_ENOENT and the like; -YK_ENOTSUP: compressed with something that this build or this
 * program cannot read. */
int yk_trace_open(const char *path, struct yk_trace **ret_trace, struct yk_err *err);

/* The next request: 1 and *req, which borrows its ids until the next call or close; 0 at the end;
 * -YK_E... and text that begins "FILE:LINE: " otherwise, and then for every later call. Lines of
 * white space are skipped. req needs no init and no fini. */
int yk_trace_next(struct yk_trace *trace, struct yk_trace_req *req, struct yk_err *err);

/* NULL is fine. */
void yk_trace_close(struct yk_trace *trace);

/* Opens the file and hands its requests, at most max_requests (0 = all), to fn, whose failure ends it. As yk_trace_next;
 * -YK_EINVAL: there is no request. */
typedef int (*yk_trace_each_fn)(void *arg, const struct yk_trace_req *req, struct yk_err *err);
int yk_trace_each(const char *path, uint64_t max_requests, yk_trace_each_fn fn, void *arg, struct yk_err *err);

/* How full a request's last block is, in eighths, 1 to 7, where its prompt and the tokens of a block say that; else 0. */
uint32_t yk_trace_last_eighths(uint32_t blocks, uint32_t input_length, uint32_t block_tokens);

#ifdef __cplusplus
}
#endif

#endif
