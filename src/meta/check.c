/* SPDX-License-Identifier: Apache-2.0
 *
 * What users of the metadata pass, checked before anything is posted: so that both backends refuse the
 * same, and at once, rather than etcd after a round trip and with words of its own.
 *
 * Threads: any.
 */
#include "meta/meta_priv.h"

#include <string.h>

int yk_meta_check_key(const char *key) {
    size_t len = key == NULL ? 0 : strnlen(key, YK_META_KEY_MAX + 1);
    return len == 0 ? -YK_EINVAL : len > YK_META_KEY_MAX ? -YK_ETOOBIG : 0;
}

static bool touches(const struct yk_meta_change *a, const struct yk_meta_change *b) {
    if (a->remove && a->prefix && strncmp(b->key, a->key, strlen(a->key)) == 0)
        return true;
    if (b->remove && b->prefix && strncmp(a->key, b->key, strlen(b->key)) == 0)
        return true;
    return strcmp(a->key, b->key) == 0;
}

/* etcd refuses to put a key that the same transaction puts or removes; nobody needs two removals either. */
static int check_changes(const struct yk_meta_txn *txn, size_t *bytes) {
    for (uint32_t i = 0; i < txn->change_count; i++) {
        const struct yk_meta_change *c = &txn->changes[i];
        int rc = yk_meta_check_key(c->key);
        if (rc < 0)
            return rc;
        if (c->value_len > 0 && c->value == NULL)
            return -YK_EINVAL;
        if (c->value_len > YK_META_VALUE_MAX)
            return -YK_ETOOBIG;
        *bytes += strlen(c->key) + c->value_len;
        for (uint32_t k = 0; k < i; k++)
            if (touches(c, &txn->changes[k]))
                return -YK_EINVAL;
    }
    return 0;
}

int yk_meta_check_txn(const struct yk_meta_txn *txn) {
    size_t bytes = 0;
    if (txn == NULL || (txn->compare_count == 0 && txn->change_count == 0))
        return -YK_EINVAL;
    if (txn->compare_count > YK_META_TXN_MAX || txn->change_count > YK_META_TXN_MAX)
        return -YK_ETOOBIG;
    for (uint32_t i = 0; i < txn->compare_count; i++) {
        const struct yk_meta_compare *c = &txn->compares[i];
        int rc = yk_meta_check_key(c->key);
        if (rc < 0)
            return rc;
        if (c->field > YK_META_VALUE || c->rel > YK_META_GREATER || c->number > INT64_MAX ||
            (c->value_len > 0 && c->value == NULL))
            return -YK_EINVAL;
        if (c->value_len > YK_META_VALUE_MAX)
            return -YK_ETOOBIG;
        bytes += strlen(c->key) + c->value_len;
    }
    int rc = check_changes(txn, &bytes);
    return rc < 0 ? rc : bytes > YK_META_TXN_BYTES_MAX ? -YK_ETOOBIG : 0;
}

static int check_limit(const char *name, uint32_t value, uint32_t max, struct yk_err *err) {
    return value <= max
               ? 0
               : yk_err_set(err, -YK_EINVAL, "%s is %u, expected at most %u", name, value, max);
}

int yk_meta_check_opts(const struct yk_meta_opts *o, struct yk_err *err) {
    int rc;
    if ((rc = check_limit("max_requests", o->max_requests, 1u << 16, err)) < 0 ||
        (rc = check_limit("max_watches", o->max_watches, 1024, err)) < 0 ||
        (rc = check_limit("max_range_keys", o->max_range_keys, 1u << 24, err)) < 0 ||
        (rc = check_limit("max_range_bytes", o->max_range_bytes, 1u << 30, err)) < 0 ||
        (rc = check_limit("page_keys", o->page_keys, 100000, err)) < 0 ||
        (rc = check_limit("try_ms", o->try_ms, 60000, err)) < 0 ||
        (rc = check_limit("probe_ms", o->probe_ms, 60000, err)) < 0 ||
        (rc = check_limit("max_history", o->max_history, 1u << 20, err)) < 0)
        return rc;
    if (yk_meta_check_key(o->birth_key) < 0)
        return yk_err_set(err, -YK_EINVAL, "birth_key is empty or longer than %u bytes",
                          YK_META_KEY_MAX);
    if ((o->user == NULL) != (o->password == NULL))
        return yk_err_set(err, -YK_EINVAL,
                          "a user of etcd needs a password, and a password a user");
    if ((o->cert_file == NULL) != (o->key_file == NULL))
        return yk_err_set(err, -YK_EINVAL,
                          "a client certificate needs its key, and a key its certificate");
    return 0;
}
