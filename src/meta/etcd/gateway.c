/* SPDX-License-Identifier: Apache-2.0
 *
 * What etcd's gateway is asked (gateway.h). Written with the streaming writer of src/base; base64 goes
 * through a buffer that is as large as the largest value, since the writer wants whole strings.
 *
 * Thread: any.
 */
#include "meta/etcd/gateway.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_bytes(struct yk_json *j, const char *name, const void *data, size_t len) {
    const uint8_t *p = data;
    size_t at = 0, i = 0;
    char *text = malloc((len + 2) / 3 * 4 + 1);
    yk_json_key(j, name);
    if (text == NULL) {
        j->status = j->status < 0 ? j->status : -YK_ENOMEM;
        return;
    }
    for (; i + 2 < len; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)p[i + 1] << 8 | p[i + 2];
        text[at++] = digits[v >> 18];
        text[at++] = digits[v >> 12 & 63];
        text[at++] = digits[v >> 6 & 63];
        text[at++] = digits[v & 63];
    }
    if (i < len) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0);
        text[at++] = digits[v >> 18];
        text[at++] = digits[v >> 12 & 63];
        text[at++] = i + 1 < len ? digits[v >> 6 & 63] : '=';
        text[at++] = '=';
    }
    yk_json_strn(j, text, at);
    free(text);
}

static void put_number(struct yk_json *j, const char *name, uint64_t value) {
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    yk_json_put_str(j, name, text);
}

static void begin(struct yk_json *j, struct yk_buf *buf) {
    yk_json_init_buf(j, buf);
    yk_json_begin_object(j);
}

static void end(struct yk_json *j, struct yk_buf *buf) {
    yk_json_end_object(j);
    int rc = yk_json_finish(j);
    if (rc < 0 && buf->status == 0)
        buf->status = rc;
}

size_t yk_gw_prefix_end(const char *prefix, size_t len, char *ret_end) {
    while (len > 0 && (uint8_t)prefix[len - 1] == 0xff)
        len--;
    if (len > 0) {
        memcpy(ret_end, prefix, len);
        ret_end[len - 1] = (char)((uint8_t)prefix[len - 1] + 1);
    }
    return len;
}

/* "\0" stands for no end, as etcd has it. */
static void put_prefix_end(struct yk_json *j, const char *prefix) {
    char to[YK_META_KEY_MAX];
    size_t len = yk_gw_prefix_end(prefix, strlen(prefix), to);
    put_bytes(j, "range_end", len > 0 ? to : "", len > 0 ? len : 1);
}

void yk_gw_put_range(struct yk_buf *buf, const struct yk_gw_range *r) {
    struct yk_json j;
    begin(&j, buf);
    put_bytes(&j, "key", r->key, r->key_len);
    if (r->end != NULL)
        put_bytes(&j, "range_end", r->end_len > 0 ? r->end : "", r->end_len > 0 ? r->end_len : 1);
    if (r->limit > 0)
        put_number(&j, "limit", r->limit);
    if (r->revision > 0)
        put_number(&j, "revision", r->revision);
    end(&j, buf);
}

static void put_compare(struct yk_json *j, const struct yk_meta_compare *c) {
    static const char *const targets[] = {"MOD", "CREATE", "VERSION", "VALUE"};
    static const char *const fields[] = {"mod_revision", "create_revision", "version", "value"};
    static const char *const results[] = {"EQUAL", "NOT_EQUAL", "LESS", "GREATER"};
    yk_json_begin_object(j);
    put_bytes(j, "key", c->key, strlen(c->key));
    yk_json_put_str(j, "target", targets[c->field]);
    yk_json_put_str(j, "result", results[c->rel]);
    if (c->field == YK_META_VALUE)
        put_bytes(j, "value", c->value, c->value_len);
    else
        put_number(j, fields[c->field], c->number);
    yk_json_end_object(j);
}

static void put_change(struct yk_json *j, const struct yk_meta_change *c) {
    yk_json_begin_object(j);
    yk_json_key(j, c->remove ? "request_delete_range" : "request_put");
    yk_json_begin_object(j);
    put_bytes(j, "key", c->key, strlen(c->key));
    if (c->remove && c->prefix)
        put_prefix_end(j, c->key);
    if (!c->remove)
        put_bytes(j, "value", c->value, c->value_len);
    if (!c->remove && c->lease != 0)
        put_number(j, "lease", c->lease);
    yk_json_end_object(j);
    yk_json_end_object(j);
}

void yk_gw_put_txn(struct yk_buf *buf, const struct yk_meta_txn *txn) {
    struct yk_json j;
    begin(&j, buf);
    yk_json_key(&j, "compare");
    yk_json_begin_array(&j);
    for (uint32_t i = 0; i < txn->compare_count; i++)
        put_compare(&j, &txn->compares[i]);
    yk_json_end_array(&j);
    yk_json_key(&j, "success");
    yk_json_begin_array(&j);
    for (uint32_t i = 0; i < txn->change_count; i++)
        put_change(&j, &txn->changes[i]);
    yk_json_end_array(&j);
    yk_json_key(&j, "failure");
    yk_json_begin_array(&j);
    for (uint32_t i = 0; i < txn->compare_count; i++) {
        yk_json_begin_object(&j);
        yk_json_key(&j, "request_range");
        yk_json_begin_object(&j);
        put_bytes(&j, "key", txn->compares[i].key, strlen(txn->compares[i].key));
        yk_json_end_object(&j);
        yk_json_end_object(&j);
    }
    yk_json_end_array(&j);
    end(&j, buf);
}

void yk_gw_put_grant(struct yk_buf *buf, uint64_t id, uint64_t ttl_s) {
    struct yk_json j;
    begin(&j, buf);
    put_number(&j, "TTL", ttl_s);
    put_number(&j, "ID", id);
    end(&j, buf);
}

void yk_gw_put_lease(struct yk_buf *buf, uint64_t id) {
    struct yk_json j;
    begin(&j, buf);
    put_number(&j, "ID", id);
    end(&j, buf);
}

void yk_gw_put_watch(struct yk_buf *buf, const char *prefix, uint64_t start_revision) {
    struct yk_json j;
    begin(&j, buf);
    yk_json_key(&j, "create_request");
    yk_json_begin_object(&j);
    put_bytes(&j, "key", prefix, strlen(prefix));
    put_prefix_end(&j, prefix);
    put_number(&j, "start_revision", start_revision);
    yk_json_put_bool(&j, "fragment", true);
    yk_json_end_object(&j);
    end(&j, buf);
}

void yk_gw_put_user(struct yk_buf *buf, const char *name, const char *password) {
    struct yk_json j;
    begin(&j, buf);
    yk_json_put_str(&j, "name", name);
    yk_json_put_str(&j, "password", password);
    end(&j, buf);
}
