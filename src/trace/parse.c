/* SPDX-License-Identifier: Apache-2.0
 *
 * The line parser: one pass over the bytes, no allocation but the growth of the id array.
 *
 * Strict JSON grammar (RFC 8259) for the fields that are ignored too, so that a line that other
 * readers refuse is refused here. Keys are compared as they are written: an escaped spelling of
 * "timestamp" is some other field. Functions return 0 or the negative status that has been put
 * into err; `want` in them is the end of the sentence "found X, expected ...".
 */
#include "trace/trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct cursor {
    const char *at, *end, *start;
    struct yk_err *err;
};

enum field { F_TIMESTAMP, F_INPUT, F_OUTPUT, F_IDS, F_STOP, F_SESSION, F_COUNT, F_OTHER = F_COUNT };

static const char *const field_names[F_COUNT] = {
    "timestamp", "input_length", "output_length", "hash_ids", "stop", "session",
};

#define F_REQUIRED 4 /* the first of the table */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void skip_space(struct cursor *c) {
    while (c->at < c->end && is_space(*c->at))
        c->at++;
}

static long column(const struct cursor *c) {
    return (long)(c->at - c->start) + 1;
}

/* Complains about what stands at the cursor. */
static int unexpected(struct cursor *c, const char *want) {
    if (c->at >= c->end)
        return yk_err_set(c->err, -YK_EINVAL, "found the end of the line, expected %s (column %ld)",
                          want, column(c));
    unsigned char found = (unsigned char)*c->at;
    if (found < 0x20 || found > 0x7e)
        return yk_err_set(c->err, -YK_EINVAL, "found byte 0x%02x, expected %s (column %ld)", found,
                          want, column(c));
    return yk_err_set(c->err, -YK_EINVAL, "found '%c', expected %s (column %ld)", found, want,
                      column(c));
}

/* Takes the character if it is next (after white space). */
static bool take(struct cursor *c, char want) {
    skip_space(c);
    if (c->at >= c->end || *c->at != want)
        return false;
    c->at++;
    return true;
}

static int parse_uint(struct cursor *c, uint64_t max, uint64_t *ret_value) {
    skip_space(c);
    const char *first = c->at;
    uint64_t v = 0;
    for (; c->at < c->end && is_digit(*c->at); c->at++) {
        unsigned digit = (unsigned)(*c->at - '0');
        if (v > (max - digit) / 10) {
            c->at = first;
            return yk_err_set(c->err, -YK_EINVAL,
                              "found a number over %llu, expected an integer from 0 to that "
                              "(column %ld)",
                              (unsigned long long)max, column(c));
        }
        v = v * 10 + digit;
    }
    if (c->at == first)
        return unexpected(c, "an integer from 0");
    if (*first == '0' && c->at - first > 1) {
        c->at = first;
        return unexpected(c, "an integer without leading zeros");
    }
    if (c->at < c->end && (*c->at == '.' || *c->at == 'e' || *c->at == 'E'))
        return unexpected(c, "the end of an integer");
    *ret_value = v;
    return 0;
}

/* The opening quote has been taken. Returns the raw bytes between the quotes. */
static int parse_string(struct cursor *c, const char **ret_text, size_t *ret_len) {
    const char *first = c->at;
    for (; c->at < c->end && *c->at != '"'; c->at++) {
        if ((unsigned char)*c->at < 0x20)
            return unexpected(c, "no control character in a string");
        if (*c->at != '\\')
            continue;
        c->at++;
        if (c->at >= c->end || memchr("\"\\/bfnrtu", *c->at, 9) == NULL)
            return unexpected(c, "one of \"\\/bfnrtu after '\\'");
        for (int i = 0; *c->at == 'u' && i < 4; i++) {
            const char *hex = c->at + 1 + i;
            if (hex >= c->end || memchr("0123456789abcdefABCDEF", *hex, 22) == NULL) {
                c->at = hex;
                return unexpected(c, "four hexadecimal digits after '\\u'");
            }
        }
    }
    if (c->at >= c->end)
        return unexpected(c, "'\"'");
    *ret_text = first;
    *ret_len = (size_t)(c->at - first);
    c->at++;
    return 0;
}

static int skip_digits(struct cursor *c) {
    if (c->at >= c->end || !is_digit(*c->at))
        return unexpected(c, "a digit");
    while (c->at < c->end && is_digit(*c->at))
        c->at++;
    return 0;
}

static int skip_number(struct cursor *c) {
    if (*c->at == '-')
        c->at++;
    if (c->at < c->end && *c->at == '0' && c->end - c->at > 1 && is_digit(c->at[1]))
        return unexpected(c, "a number without leading zeros");
    int rc = skip_digits(c);
    if (rc == 0 && c->at < c->end && *c->at == '.') {
        c->at++;
        rc = skip_digits(c);
    }
    if (rc == 0 && c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        rc = skip_digits(c);
    }
    return rc;
}

static int skip_literal(struct cursor *c) {
    static const char *const literals[] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(literals[i]);
        if ((size_t)(c->end - c->at) >= len && memcmp(c->at, literals[i], len) == 0) {
            c->at += len;
            return 0;
        }
    }
    return unexpected(c, "a JSON value");
}

static int parse_key(struct cursor *c, const char **ret_text, size_t *ret_len) {
    if (!take(c, '"'))
        return unexpected(c, "a field name in quotes");
    int rc = parse_string(c, ret_text, ret_len);
    if (rc == 0 && !take(c, ':'))
        rc = unexpected(c, "':'");
    return rc;
}

static int skip_value(struct cursor *c, int depth);

/* The opening bracket has been taken. */
static int skip_members(struct cursor *c, bool is_object, int depth) {
    char close = is_object ? '}' : ']';
    if (depth >= YK_TRACE_NESTING_MAX)
        return yk_err_set(c->err, -YK_ETOOBIG,
                          "found values nested deeper than %d, expected at most that (column %ld)",
                          YK_TRACE_NESTING_MAX, column(c));
    if (take(c, close))
        return 0;
    do {
        const char *name;
        size_t len;
        int rc = is_object ? parse_key(c, &name, &len) : 0;
        if (rc == 0)
            rc = skip_value(c, depth + 1);
        if (rc != 0)
            return rc;
    } while (take(c, ','));
    return take(c, close) ? 0 : unexpected(c, is_object ? "',' or '}'" : "',' or ']'");
}

/* Recursion is bounded by YK_TRACE_NESTING_MAX. */
static int skip_value(struct cursor *c, int depth) {
    const char *text;
    size_t len;
    skip_space(c);
    if (c->at >= c->end)
        return unexpected(c, "a JSON value");
    if (take(c, '"'))
        return parse_string(c, &text, &len);
    if (take(c, '{'))
        return skip_members(c, true, depth);
    if (take(c, '['))
        return skip_members(c, false, depth);
    if (*c->at == '-' || is_digit(*c->at))
        return skip_number(c);
    return skip_literal(c);
}

/* An integer up to max is taken, anything else is none of this format's business. */
static int parse_optional_uint(struct cursor *c, uint64_t max, uint64_t *value) {
    skip_space(c);
    struct cursor peek = *c;
    struct yk_err ignored;
    peek.err = &ignored;
    uint64_t v;
    if (parse_uint(&peek, max, &v) == 0) {
        *value = v;
        c->at = peek.at;
        return 0;
    }
    return skip_value(c, 0);
}

static int grow_ids(struct cursor *c, struct yk_trace_req *req) {
    if (req->n >= YK_TRACE_IDS_MAX)
        return yk_err_set(c->err, -YK_ETOOBIG,
                          "found more than %u hash_ids, expected at most that (column %ld)",
                          YK_TRACE_IDS_MAX, column(c));
    uint32_t want = req->ids_allocated > 0 ? req->ids_allocated * 2 : 64;
    uint64_t *ids = realloc(req->hash_ids, want * sizeof(*ids));
    if (ids == NULL)
        return yk_err_set(c->err, -YK_ENOMEM, "out of memory for %u hash_ids", want);
    req->hash_ids = ids;
    req->ids_allocated = want;
    return 0;
}

static int parse_ids(struct cursor *c, struct yk_trace_req *req) {
    if (!take(c, '['))
        return unexpected(c, "'[' of the hash_ids");
    if (take(c, ']'))
        return 0;
    do {
        int rc = req->n == req->ids_allocated ? grow_ids(c, req) : 0;
        if (rc == 0)
            rc = parse_uint(c, UINT64_MAX, &req->hash_ids[req->n]);
        if (rc != 0)
            return rc;
        req->n++;
    } while (take(c, ','));
    return take(c, ']') ? 0 : unexpected(c, "',' or ']'");
}

static enum field find_field(const char *name, size_t len) {
    for (int i = 0; i < F_COUNT; i++)
        if (strlen(field_names[i]) == len && memcmp(field_names[i], name, len) == 0)
            return (enum field)i;
    return F_OTHER;
}

static int parse_uint32(struct cursor *c, uint32_t *ret_value) {
    uint64_t v;
    int rc = parse_uint(c, UINT32_MAX, &v);
    if (rc == 0)
        *ret_value = (uint32_t)v;
    return rc;
}

static int parse_field_value(struct cursor *c, enum field f, struct yk_trace_req *req) {
    uint64_t v = 0;
    int rc;
    switch (f) {
    case F_TIMESTAMP:
        return parse_uint(c, YK_TRACE_TIME_MAX_MS, &req->timestamp_ms);
    case F_INPUT:
        return parse_uint32(c, &req->input_length);
    case F_OUTPUT:
        return parse_uint32(c, &req->output_length);
    case F_IDS:
        return parse_ids(c, req);
    case F_SESSION:
        return parse_optional_uint(c, UINT64_MAX, &req->session);
    case F_STOP:
        rc = parse_optional_uint(c, UINT8_MAX, &v);
        req->stop = (uint32_t)v;
        return rc;
    default:
        return skip_value(c, 0);
    }
}

static int parse_field(struct cursor *c, struct yk_trace_req *req, bool *seen) {
    const char *name;
    size_t len;
    int rc = parse_key(c, &name, &len);
    if (rc != 0)
        return rc;
    enum field f = find_field(name, len);
    if (f != F_OTHER && seen[f]) {
        c->at = name - 1; /* its quote */
        return yk_err_set(c->err, -YK_EINVAL,
                          "found a second '%s', expected each field once (column %ld)",
                          field_names[f], column(c));
    }
    if (f != F_OTHER)
        seen[f] = true;
    return parse_field_value(c, f, req);
}

int yk_trace_parse_line(const char *line, size_t len, struct yk_trace_req *req,
                        struct yk_err *err) {
    struct cursor c = {.at = line, .end = line + len, .start = line, .err = err};
    bool seen[F_COUNT] = {false};
    req->timestamp_ms = req->session = 0;
    req->n = req->input_length = req->output_length = req->stop = 0;
    if (len > YK_TRACE_LINE_MAX)
        return yk_err_set(err, -YK_ETOOBIG, "found a line over %u bytes, expected at most that",
                          YK_TRACE_LINE_MAX);
    if (!take(&c, '{'))
        return unexpected(&c, "'{'");
    if (!take(&c, '}')) {
        do {
            int rc = parse_field(&c, req, seen);
            if (rc != 0)
                return rc;
        } while (take(&c, ','));
        if (!take(&c, '}'))
            return unexpected(&c, "',' or '}'");
    }
    skip_space(&c);
    if (c.at < c.end)
        return unexpected(&c, "the end of the line");
    for (int i = 0; i < F_REQUIRED; i++)
        if (!seen[i])
            return yk_err_set(err, -YK_EINVAL, "found no '%s', expected that field",
                              field_names[i]);
    return 0;
}

void yk_trace_req_fini(struct yk_trace_req *req) {
    if (req->ids_allocated > 0)
        free(req->hash_ids);
    *req = (struct yk_trace_req){0};
}
