/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: what etcd's JSON gateway answers. The first byte chooses the HTTP status, the rest is the
 * body. What is refused has a text of one line; what is accepted keeps its limits and can be walked.
 *
 * Thread: one.
 */
#include "meta/etcd/gateway.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text) {
    if (text[0] == '\0')
        abort();
    for (; *text != '\0'; text++)
        if ((uint8_t)*text < ' ')
            abort();
}

static void check_reply(const struct yk_gw_reply *r, const struct yk_gw_limits *limits) {
    const int mark = 0xa5;
    size_t bytes = 0, marks = 0;
    if (r->count > limits->max_keys || r->bytes > limits->max_bytes)
        abort();
    for (size_t i = 0; i < r->count; i++) {
        const struct yk_meta_kv *kv = &r->kvs[i];
        if (kv->key[kv->key_len] != '\0')
            abort();
        if (kv->value_len > 0 && memchr(kv->value, mark, kv->value_len) != NULL)
            marks++; /* reads all of it */
        bytes += kv->key_len + kv->value_len;
    }
    if (bytes != r->bytes || marks > r->count)
        abort();
    if (r->meaning != YK_GW_FINE)
        check_text(r->error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const long codes[] = {200, 400, 404, 503};
    static const struct yk_gw_limits limits = {.max_keys = 8, .max_bytes = 64};
    struct yk_gw_reply r = {0};
    struct yk_err err = {0};
    if (size == 0)
        return 0;
    int rc = yk_gw_decode((const char *)data + 1, size - 1, codes[data[0] & 3], &limits, &r, &err);
    if (rc == 0)
        check_reply(&r, &limits);
    else if (rc != err.code)
        abort();
    else
        check_text(err.text);
    yk_gw_reply_free(&r);
    return 0;
}
