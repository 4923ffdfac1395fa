/* SPDX-License-Identifier: Apache-2.0
 *
 * Streaming JSON writer, into a buffer or a stdio stream. Every --json and /v1 answer uses it.
 *
 * Values are written as they come; nothing is built in memory, so a listing of a million blocks
 * costs a line at a time (jansson, which reads JSON where that is needed, would hold all of it).
 * Commas, colons and nesting are the writer's business. Output is on one line, without blanks but
 * after ':' and ',' - easy to grep, and what line-oriented tools expect.
 *
 * Errors are sticky: what the callers do wrong (a value without a key, an end too many), a full
 * buffer or a failed stream is kept, nothing is written from then on, and yk_json_finish reports it
 * once.
 *
 * Strings  must be UTF-8 in JSON, keys of blocks need not be: each byte that is not part of a
 *          well-formed sequence is written as U+FFFD. Where bytes matter, check yk_utf8_valid and
 *          write them in hex besides. '"', '\' and control characters are escaped.
 * Integers are written in full; readers that keep doubles are exact to 2^53 only, so what is an
 *          identifier rather than a quantity (hashes, generations) should be a string.
 * Doubles  the shortest form that reads back; NaN and infinities, which JSON lacks, as null.
 *
 * Thread: one at a time.
 */
#ifndef YK_BASE_JSON_H
#define YK_BASE_JSON_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_JSON_DEPTH_MAX 32

/* The caller's storage; fields are private. */
struct yk_json {
    struct yk_buf *buf; /* one of the two */
    FILE *file;
    uint32_t in_array; /* bit d: level d is an array, else an object */
    uint32_t has_item; /* bit d: level d is not empty */
    unsigned depth;
    bool has_key;  /* a key waits for its value */
    bool has_root; /* the value of this line is complete or begun */
    int status;
};

/* Appends to buf, or writes to file; both borrowed until finish. */
void yk_json_init_buf(struct yk_json *json, struct yk_buf *buf);
void yk_json_init_file(struct yk_json *json, FILE *file);

/* After a complete value: a line feed; then another value may follow (one JSON text a line). */
void yk_json_newline(struct yk_json *json);

/* Flushes a file. 0, or the first error: -YK_EINTERNAL (calls in an order that makes no JSON,
 * values left open, nested too deep), -YK_EIO, -YK_ENOMEM, -YK_ETOOBIG. */
int yk_json_finish(struct yk_json *json);

void yk_json_begin_object(struct yk_json *json);
void yk_json_end_object(struct yk_json *json);
void yk_json_begin_array(struct yk_json *json);
void yk_json_end_array(struct yk_json *json);

/* Inside an object, before each value. */
void yk_json_key(struct yk_json *json, const char *key);

void yk_json_str(struct yk_json *json, const char *text); /* NULL is written as null */
void yk_json_strn(struct yk_json *json, const char *text, size_t len);
void yk_json_int(struct yk_json *json, int64_t value);
void yk_json_uint(struct yk_json *json, uint64_t value);
void yk_json_double(struct yk_json *json, double value);
void yk_json_bool(struct yk_json *json, bool value);
void yk_json_null(struct yk_json *json);

/* Key and value in one call. */
static inline void yk_json_put_str(struct yk_json *json, const char *key, const char *text) {
    yk_json_key(json, key);
    yk_json_str(json, text);
}

static inline void yk_json_put_int(struct yk_json *json, const char *key, int64_t value) {
    yk_json_key(json, key);
    yk_json_int(json, value);
}

static inline void yk_json_put_uint(struct yk_json *json, const char *key, uint64_t value) {
    yk_json_key(json, key);
    yk_json_uint(json, value);
}

static inline void yk_json_put_double(struct yk_json *json, const char *key, double value) {
    yk_json_key(json, key);
    yk_json_double(json, value);
}

static inline void yk_json_put_bool(struct yk_json *json, const char *key, bool value) {
    yk_json_key(json, key);
    yk_json_bool(json, value);
}

static inline void yk_json_put_null(struct yk_json *json, const char *key) {
    yk_json_key(json, key);
    yk_json_null(json);
}

#ifdef __cplusplus
}
#endif

#endif
