/* SPDX-License-Identifier: Apache-2.0
 *
 * What etcd's gateway answers (gateway.h). jansson reads the JSON: answers are pages of bounded size, and
 * a reader of our own would be one more parser of outside bytes.
 *
 * One decoder for all answers: their fields do not overlap in meaning, and so an answer to another
 * question is not misread, it just lacks what was asked for.
 *
 * Thread: any.
 */
#include "base/text.h"
#include "meta/etcd/gateway.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors ----------------------------------------------------------------------------------- */

/* etcd's texts stay the same over its versions where codes are shared by many errors. */
static const struct known {
    const char *part;
    enum yk_gw_meaning meaning;
    int status;
    const char *hint;
} known[] = {
    {"invalid auth token", YK_GW_TOKEN, 0, ""},
    {"revision of auth store is old", YK_GW_TOKEN, 0, ""},
    {"user name is empty", YK_GW_TOKEN, 0, ""},
    {"authentication is not enabled", YK_GW_NO_AUTH, 0, ""},
    {"authentication failed", YK_GW_REFUSED, -YK_EPERM, ": check user and password"},
    {"permission denied", YK_GW_REFUSED, -YK_EPERM,
     ": grant the user's role readwrite on these keys (etcdctl role grant-permission)"},
    {"requested lease not found", YK_GW_REFUSED, -YK_ENOENT, ""},
    {"lease already exists", YK_GW_EXISTS, 0, ""},
    {"database space exceeded", YK_GW_REFUSED, -YK_ENOSPC,
     ": compact and defragment etcd or raise --quota-backend-bytes, then etcdctl alarm disarm"},
    {"request is too large", YK_GW_REFUSED, -YK_ETOOBIG, ": raise etcd's --max-request-bytes"},
    {"too many operations", YK_GW_REFUSED, -YK_ETOOBIG, ": raise etcd's --max-txn-ops"},
    {"required revision has been compacted", YK_GW_COMPACTED, -YK_ESTALE, ""},
    {"required revision is a future revision", YK_GW_COMPACTED, -YK_ESTALE, ""},
    {"too many requests", YK_GW_ELSEWHERE, 0, ""},
    {"not capable", YK_GW_ELSEWHERE, 0, ""},
    {"etcdserver: no leader", YK_GW_ELSEWHERE, 0, ": a majority of its members is away"},
    {"corrupt", YK_GW_ELSEWHERE, 0, ": this member's data is damaged"},
};

enum {
    GRPC_CANCELED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID = 3,
    GRPC_DEADLINE = 4,
    GRPC_DENIED = 7,
    GRPC_EXHAUSTED = 8,
    GRPC_ABORTED = 10,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_UNAUTHENTICATED = 16
};

static void say(struct yk_gw_reply *r, const char *message, const char *hint) {
    snprintf(r->error, sizeof(r->error), "%.110s%s",
             message[0] != '\0' ? message : "an error without text", hint);
    for (char *p = r->error; *p != '\0'; p++)
        if ((uint8_t)*p < ' ' || *p == 0x7f || (uint8_t)*p >= 0x80)
            *p = '?';
}

void yk_gw_judge(struct yk_gw_reply *r, int64_t code, const char *message) {
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strstr(message, known[i].part) != NULL) {
            r->meaning = known[i].meaning;
            r->status = known[i].status;
            say(r, message, known[i].hint);
            return;
        }
    say(r, message, "");
    switch (code) {
    case GRPC_CANCELED:
    case GRPC_UNKNOWN:
    case GRPC_DEADLINE:
    case GRPC_ABORTED:
    case GRPC_INTERNAL:
    case GRPC_UNAVAILABLE:
        r->meaning = YK_GW_UNSURE;
        return;
    case GRPC_EXHAUSTED:
        r->meaning = YK_GW_REFUSED;
        r->status = -YK_ELIMIT;
        return;
    case GRPC_DENIED:
    case GRPC_UNAUTHENTICATED:
        r->meaning = YK_GW_REFUSED;
        r->status = -YK_EPERM;
        return;
    default:
        r->meaning = YK_GW_REFUSED;
        r->status = -YK_EINVAL;
    }
}

/* ---- fields ----------------------------------------------------------------------------------- */

/* Absent is 0. False: neither a number nor a string of one. */
static bool number(const json_t *object, const char *name, uint64_t *ret) {
    const json_t *v = json_object_get(object, name);
    if (v == NULL || json_is_null(v)) {
        *ret = 0;
        return true;
    }
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        *ret = (uint64_t)json_integer_value(v);
        return true;
    }
    const char *text = json_string_value(v);
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0;
}

static bool truth(const json_t *object, const char *name) {
    return json_is_true(json_object_get(object, name));
}

static int value_of(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Decodes to out, which has len / 4 * 3 bytes. The length, or -1: not base64. */
static long unbase64(const char *text, size_t len, char *out) {
    size_t at = 0;
    if (len % 4 != 0)
        return -1;
    for (size_t i = 0; i < len; i += 4) {
        unsigned pad = i + 4 < len ? 0 : text[i + 2] == '=' ? 2 : text[i + 3] == '=' ? 1 : 0;
        uint32_t v = 0;
        for (unsigned k = 0; k < 4; k++) {
            int d = k >= 4 - pad ? (text[i + k] == '=' ? 0 : -1) : value_of(text[i + k]);
            if (d < 0)
                return -1;
            v = v << 6 | (uint32_t)d;
        }
        for (unsigned k = 0; k < 3 - pad; k++)
            out[at++] = (char)(v >> (16 - 8 * k));
    }
    return (long)at;
}

static bool text_of(const json_t *object, const char *name, const char **ret, size_t *ret_len) {
    const json_t *v = json_object_get(object, name);
    *ret = json_is_string(v) ? json_string_value(v) : "";
    *ret_len = json_is_string(v) ? json_string_length(v) : 0;
    return v == NULL || json_is_string(v);
}

/* Key, NUL and value in one allocation, at kv->key. */
static int read_blob(const json_t *object, struct yk_meta_kv *kv) {
    const char *key, *value;
    size_t key_len, value_len;
    if (!text_of(object, "key", &key, &key_len) || !text_of(object, "value", &value, &value_len))
        return -YK_EPROTO;
    char *blob = malloc(key_len / 4 * 3 + 1 + value_len / 4 * 3 + 1);
    if (blob == NULL)
        return -YK_ENOMEM;
    long k = unbase64(key, key_len, blob);
    long v = k < 0 ? -1 : unbase64(value, value_len, blob + k + 1);
    if (k < 0 || v < 0 || k > UINT32_MAX || v > UINT32_MAX) {
        free(blob);
        return -YK_EPROTO;
    }
    blob[k] = '\0';
    kv->key = blob;
    kv->value = blob + k + 1;
    kv->key_len = (uint32_t)k;
    kv->value_len = (uint32_t)v;
    return 0;
}

static int read_kv(struct yk_gw_reply *r, const json_t *object, bool deleted,
                   const struct yk_gw_limits *limits) {
    if (r->count == r->cap) {
        size_t cap = r->cap > 0 ? r->cap * 2 : 16;
        struct yk_meta_kv *kvs =
            r->count < limits->max_keys ? realloc(r->kvs, cap * sizeof(*kvs)) : NULL;
        if (kvs == NULL)
            return r->count < limits->max_keys ? -YK_ENOMEM : -YK_ETOOBIG;
        r->kvs = kvs;
        r->cap = cap;
    }
    struct yk_meta_kv kv = {.deleted = deleted};
    if (!json_is_object(object) || !number(object, "create_revision", &kv.create_revision) ||
        !number(object, "mod_revision", &kv.mod_revision) ||
        !number(object, "version", &kv.version) || !number(object, "lease", &kv.lease))
        return -YK_EPROTO;
    int rc = read_blob(object, &kv);
    if (rc < 0)
        return rc;
    r->kvs[r->count++] = kv;
    r->bytes += kv.key_len + kv.value_len;
    return r->bytes > limits->max_bytes || r->count > limits->max_keys ? -YK_ETOOBIG : 0;
}

static int read_kvs(struct yk_gw_reply *r, const json_t *object,
                    const struct yk_gw_limits *limits) {
    const json_t *kvs = json_object_get(object, "kvs");
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        int rc = read_kv(r, json_array_get(kvs, i), false, limits);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_responses(struct yk_gw_reply *r, const json_t *o,
                          const struct yk_gw_limits *limits) {
    const json_t *responses = json_object_get(o, "responses");
    for (size_t i = 0; i < json_array_size(responses); i++) {
        const json_t *range = json_object_get(json_array_get(responses, i), "response_range");
        int rc = range != NULL ? read_kvs(r, range, limits) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_events(struct yk_gw_reply *r, const json_t *o, const struct yk_gw_limits *limits) {
    const json_t *events = json_object_get(o, "events");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i), *type = json_object_get(event, "type");
        bool deleted = json_is_string(type) && strcmp(json_string_value(type), "DELETE") == 0;
        int rc = read_kv(r, json_object_get(event, "kv"), deleted, limits);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- answers ---------------------------------------------------------------------------------- */

/* {"error": "...", "code": 14}, {"code": 14, "message": "..."}, {"error": {"grpc_code": 14, ...}}. */
static bool read_error(struct yk_gw_reply *r, const json_t *o) {
    const json_t *error = json_object_get(o, "error"), *in = json_is_object(error) ? error : o;
    const json_t *message = json_object_get(in, "message");
    uint64_t code = 0;
    if (error == NULL && (message == NULL || json_object_get(o, "code") == NULL))
        return false;
    if (!number(in, json_object_get(in, "grpc_code") != NULL ? "grpc_code" : "code", &code) ||
        code > 100)
        code = GRPC_UNKNOWN;
    if (!json_is_string(message))
        message = error;
    yk_gw_judge(r, (int64_t)code, json_is_string(message) ? json_string_value(message) : "");
    return true;
}

static int read_fields(struct yk_gw_reply *r, const json_t *o, const struct yk_gw_limits *limits) {
    const json_t *header = json_object_get(o, "header");
    const char *token, *reason;
    size_t len;
    int rc;
    if (!number(header, "cluster_id", &r->cluster) || !number(header, "revision", &r->revision) ||
        !number(header, "raft_term", &r->term) || !number(o, "TTL", &r->ttl_s) ||
        !number(o, "compact_revision", &r->compact_revision) || r->ttl_s > UINT32_MAX ||
        !text_of(o, "token", &token, &len) || !text_of(o, "cancel_reason", &reason, &len))
        return -YK_EPROTO;
    r->succeeded = truth(o, "succeeded");
    r->more = truth(o, "more");
    r->created = truth(o, "created");
    r->canceled = truth(o, "canceled");
    r->fragment = truth(o, "fragment");
    if (r->canceled)
        say(r, reason[0] != '\0' ? reason : "the watch was cancelled", "");
    if (token[0] != '\0' && (r->token = strdup(token)) == NULL)
        return -YK_ENOMEM;
    if ((rc = read_kvs(r, o, limits)) < 0 || (rc = read_responses(r, o, limits)) < 0)
        return rc;
    return read_events(r, o, limits);
}

static int read_root(struct yk_gw_reply *r, const json_t *root, long http_status,
                     const struct yk_gw_limits *limits) {
    const json_t *result = json_object_get(root, "result");
    if (!json_is_object(root))
        return -YK_EPROTO;
    if (read_error(r, root))
        return 0;
    if (http_status != 200)
        return -YK_EPROTO;
    return read_fields(r, json_is_object(result) ? result : root, limits);
}

int yk_gw_decode(const char *text, size_t len, long http_status, const struct yk_gw_limits *limits,
                 struct yk_gw_reply *ret_reply, struct yk_err *err) {
    struct yk_gw_reply r = {.meaning = YK_GW_FINE};
    char begin[32], quoted[YK_QUOTE_MAX];
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    int rc = read_root(&r, root, http_status, limits);
    json_decref(root);
    if (rc == 0) {
        *ret_reply = r;
        return 0;
    }
    yk_gw_reply_free(&r);
    if (rc == -YK_ENOMEM)
        return yk_err_set(err, rc, "no memory for an answer of etcd");
    if (rc == -YK_ETOOBIG)
        return yk_err_set(err, rc, "more than %zu keys or %zu bytes in an answer of etcd",
                          limits->max_keys, limits->max_bytes);
    if (http_status == 404)
        return yk_err_set(err, -YK_EVERSION,
                          "found no /v3/ there (404): not etcd 3.4 or newer, or with "
                          "--enable-grpc-gateway=false");
    snprintf(begin, sizeof(begin), "%.*s", len < 31 ? (int)len : 31, text);
    return yk_err_set(err, rc, "found %s with status %ld, expected etcd's JSON: is this an etcd?",
                      yk_quote(begin, quoted), http_status);
}

void yk_gw_kvs_free(struct yk_meta_kv *kvs, size_t count) {
    for (size_t i = 0; i < count; i++)
        free((char *)(uintptr_t)kvs[i].key);
    free(kvs);
}

void yk_gw_reply_free(struct yk_gw_reply *r) {
    yk_gw_kvs_free(r->kvs, r->count);
    free(r->token);
    memset(r, 0, sizeof(*r));
}
