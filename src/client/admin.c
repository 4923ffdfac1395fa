/* SPDX-License-Identifier: Apache-2.0
 *
 * What only the node can do: change blocks, namespaces, listings, statistics.
 *
 * Each is one frame and its reply, or a few in turn where a list is long. A change that was sent
 * again after a lost connection may have been made twice: a remove then says YK_MISS for a block
 * that it removed itself.
 *
 * Threads: any.
 */
#include "client/client_priv.h"

#include "client/fail.h"

#include <stdlib.h>
#include <string.h>

/* Keys that one LIST asks for: 330 bytes each at most. */
#define LIST_KEYS 1024u

static int call(yk_client *c, unsigned op, const struct yk_wr *w, yk_reply_fn reply, void *arg,
                uint32_t timeout_ms) {
    if (!yk_wr_ok(w))
        return -YK_EINTERNAL;
    struct yk_call call = {.op = (uint8_t)op,
                           .body = w->base,
                           .body_bytes = (uint32_t)yk_wr_len(w),
                           .reply = reply,
                           .arg = arg};
    return yk_conn_call(c, &call, yk_client_deadline(c, timeout_ms));
}

static void count_patch(unsigned char *at, uint32_t n) {
    struct yk_wr w;
    yk_wr_init(&w, at, 4);
    yk_wr_u32(&w, n);
}

/* ---- changes of blocks ------------------------------------------------------------------------------------- */

struct changes {
    uint32_t n;
    int32_t first; /* status of the first */
    int bad;       /* how many were -YK_ECORRUPT */
    int32_t worst; /* the first failure of another kind */
};

static int changes_reply(void *arg, struct yk_rd *r) {
    struct changes *ch = arg;
    if (yk_rd_u32(r) != ch->n || yk_rd_left(r) != 4u * (size_t)ch->n)
        return -YK_EPROTO;
    for (uint32_t i = 0; i < ch->n; i++) {
        int32_t status = (int32_t)yk_rd_u32(r);
        if (status > YK_MISS)
            return -YK_EPROTO;
        if (i == 0)
            ch->first = status;
        ch->bad += status == -YK_ECORRUPT;
        if (status < 0 && status != -YK_ECORRUPT && ch->worst == 0)
            ch->worst = status;
    }
    return 0;
}

static int change(yk_client *c, enum yk_change what, yk_key key, uint64_t arg, const char *name) {
    unsigned char body[8 + 4 + 1 + 8 + 256];
    struct yk_wr w;
    struct changes ch = {.n = 1};
    int rc = yk_client_enter(c);
    if (rc == 0)
        rc = yk_client_check_key(key);
    if (rc < 0)
        return rc;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u64(&w, yk_client_epoch(c));
    yk_wr_u32(&w, 1);
    yk_wr_u8(&w, (uint8_t)what);
    yk_wr_u64(&w, arg);
    yk_wr_str8(&w, key.data, key.len);
    rc = call(c, YK_MSG_CHANGE, &w, changes_reply, &ch, 0);
    if (rc == 0)
        rc = ch.first;
    return rc < 0 ? yk_fail_key(rc, name, key.data, key.len) : rc;
}

int yk_remove(yk_client *c, yk_key key) {
    return change(c, YK_CHANGE_REMOVE, key, c != NULL ? yk_tx_until_ms(yk_client_deadline(c, 0)) : 0, "remove");
}

int yk_pin(yk_client *c, yk_key key, uint64_t pin_ms) {
    return change(c, YK_CHANGE_PIN, key, pin_ms, "pin");
}

int yk_unpin(yk_client *c, yk_key key) {
    return change(c, YK_CHANGE_UNPIN, key, 0, "unpin");
}

int yk_touch(yk_client *c, yk_key key) {
    return change(c, YK_CHANGE_TOUCH, key, 0, "touch");
}

int yk_expire(yk_client *c, yk_key key, uint64_t ttl_ms) {
    return change(c, YK_CHANGE_EXPIRE, key, ttl_ms, "expire");
}

static int check_keys(yk_client *c, const yk_key *keys, size_t count, const char *what) {
    int rc = yk_client_enter(c);
    if (rc == 0 && (count > INT32_MAX || (keys == NULL && count > 0)))
        rc = yk_fail(-YK_EINVAL, "%s of %zu keys at %p", what, count, (const void *)keys);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = yk_client_check_key(keys[i]);
    return rc;
}

static int announce_reply(void *arg, struct yk_rd *r) {
    (void)arg;
    int32_t status = (int32_t)yk_rd_u32(r);
    return yk_rd_ok(r) && status <= 0 ? status : -YK_EPROTO;
}

int yk_announce(yk_client *c, const yk_key *keys, size_t count, const yk_request *request) {
    unsigned char body[YK_CALL_BYTES];
    yk_request q = {0};
    struct yk_wr w;
    uint32_t n = 0;
    int rc = check_keys(c, keys, count, "an announcement");
    if (rc < 0)
        return rc;
    if (request != NULL)
        rc = yk_opts_read(request, request->size, &q, sizeof(q), "yk_request");
    if (rc < 0)
        return rc;
    __atomic_store_n(&c->announces, 1, __ATOMIC_RELAXED);
    if ((count == 0 && q.at_ms == 0) || !__atomic_load_n(&c->wants_requests, __ATOMIC_RELAXED))
        return 0;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u64(&w, yk_client_epoch(c));
    yk_wr_u64(&w, q.at_ms);
    yk_wr_u32(&w, q.output_length);
    yk_wr_u32(&w, q.stop);
    yk_wr_u32(&w, q.last_eighths);
    unsigned char *at = yk_wr_space(&w, 4);
    for (; n < count && n < YK_EVENT_CHAIN_MAX && (size_t)(w.end - w.at) > keys[n].len; n++)
        yk_wr_str8(&w, keys[n].data, keys[n].len);
    count_patch(at, n);
    rc = call(c, YK_MSG_ANNOUNCE, &w, announce_reply, NULL, 0);
    return rc < 0 ? yk_fail(rc, "an announcement of %zu keys: %s", count, yk_status_text(rc)) : 0;
}

/* Verifies as many keys as fit in one frame; moves *at. */
static int verify_some(yk_client *c, const yk_key *keys, size_t count, size_t *at,
                       struct changes *ch) {
    unsigned char body[YK_CALL_BYTES];
    struct yk_wr w;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u64(&w, yk_client_epoch(c));
    unsigned char *n = yk_wr_space(&w, 4);
    for (ch->n = 0; *at < count && (size_t)(w.end - w.at) > 9 + keys[*at].len; ch->n++, ++*at) {
        yk_wr_u8(&w, YK_CHANGE_VERIFY);
        yk_wr_u64(&w, 0);
        yk_wr_str8(&w, keys[*at].data, keys[*at].len);
    }
    count_patch(n, ch->n);
    int rc = call(c, YK_MSG_CHANGE, &w, changes_reply, ch, 0);
    return rc < 0 ? rc : ch->worst;
}

int yk_verify(yk_client *c, const yk_key *keys, size_t count) {
    struct changes ch = {0};
    size_t at = 0;
    int rc = check_keys(c, keys, count, "verify");
    if (rc < 0)
        return rc;
    while (rc == 0 && at < count)
        rc = verify_some(c, keys, count, &at, &ch);
    return rc < 0 ? yk_fail(rc, "verify of %zu keys: %s", count, yk_status_text(rc)) : ch.bad;
}

struct removed {
    int32_t status;
    uint64_t count;
};

static int removed_reply(void *arg, struct yk_rd *r) {
    struct removed *m = arg;
    m->status = (int32_t)yk_rd_u32(r);
    m->count = yk_rd_u64(r);
    return yk_rd_ok(r) && m->status <= 0 ? 0 : -YK_EPROTO;
}

int yk_remove_many(yk_client *c, int how, yk_key pattern, uint64_t *ret_count) {
    unsigned char body[1 + 256];
    struct yk_wr w;
    struct removed m = {0, 0};
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (how < YK_REMOVE_PREFIX || how > YK_REMOVE_ALL)
        return yk_fail(-YK_EINVAL, "remove_many: how is %d, expected 1 to 3", how);
    if (how == YK_REMOVE_ALL)
        pattern.len = 0;
    if (pattern.len > YK_KEY_MAX || (pattern.len > 0 && pattern.data == NULL))
        return yk_fail(-YK_EKEY, "a pattern of %zu bytes, at most %u are allowed", pattern.len,
                       YK_KEY_MAX);
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u8(&w, (uint8_t)how);
    yk_wr_str8(&w, pattern.data, pattern.len);
    rc = call(c, YK_MSG_REMOVE_MANY, &w, removed_reply, &m, 0);
    if (rc == 0)
        rc = m.status;
    if (rc < 0)
        return yk_fail_key(rc, "remove_many", pattern.data, pattern.len);
    if (ret_count != NULL)
        *ret_count = m.count;
    return 0;
}

/* ---- prefetch ---------------------------------------------------------------------------------------------- */

/* A status, a count perhaps, and a text. */
struct told {
    int has_count;
    int32_t status;
    uint32_t count;
    char text[YK_ERR_TEXT_MAX];
};

static int told_reply(void *arg, struct yk_rd *r) {
    struct told *t = arg;
    t->status = (int32_t)yk_rd_u32(r);
    t->count = t->has_count ? yk_rd_u32(r) : 0;
    yk_rd_text(r, t->text, sizeof(t->text));
    return yk_rd_ok(r) && t->status <= 0 && t->count <= INT32_MAX ? 0 : -YK_EPROTO;
}

int yk_prefetch(yk_client *c, const yk_key *keys, size_t count, int tier, uint32_t deadline_ms) {
    size_t at = 0;
    int raised = 0;
    int rc = check_keys(c, keys, count, "prefetch");
    if (rc < 0)
        return rc;
    if (tier < YK_TIER_ANY || tier > YK_TIER_VRAM)
        return yk_fail(-YK_EINVAL, "prefetch: no tier has the number %d", tier);
    while (at < count) {
        unsigned char body[YK_CALL_BYTES];
        struct yk_wr w;
        struct told t = {.has_count = 1};
        uint32_t n = 0;
        yk_wr_init(&w, body, sizeof(body));
        yk_wr_u8(&w, (uint8_t)tier);
        yk_wr_u32(&w, deadline_ms);
        unsigned char *n_at = yk_wr_space(&w, 4);
        for (; at < count && (size_t)(w.end - w.at) > keys[at].len; at++, n++)
            yk_wr_str8(&w, keys[at].data, keys[at].len);
        count_patch(n_at, n);
        rc = call(c, YK_MSG_PREFETCH, &w, told_reply, &t, 0);
        if (rc == 0)
            rc = t.status;
        if (rc < 0)
            return yk_fail(rc, "prefetch: %s", t.text[0] != 0 ? t.text : yk_status_text(rc));
        if (t.text[0] != 0)
            (void)yk_fail(0, "%s", t.text); /* why nothing is raised */
        raised += (int)t.count;
    }
    return raised;
}

/* ---- namespaces -------------------------------------------------------------------------------------------- */

static int ns_change(yk_client *c, enum yk_ns_op what, const char *name, uint64_t arg) {
    unsigned char body[1 + 8 + 256];
    struct yk_wr w;
    struct told t = {.has_count = 0};
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    size_t len = name != NULL ? strnlen(name, YK_NAMESPACE_MAX + 1) : 0;
    if (len == 0 || len > YK_NAMESPACE_MAX)
        return yk_fail(-YK_EINVAL, "the namespace's name has %s, expected 1 to %u bytes",
                       len == 0 ? "0 bytes" : "more", YK_NAMESPACE_MAX);
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u8(&w, (uint8_t)what);
    yk_wr_u64(&w, arg);
    yk_wr_str8(&w, name, len);
    rc = call(c, YK_MSG_NS, &w, told_reply, &t, 0);
    if (rc == 0)
        rc = t.status;
    return rc < 0
               ? yk_fail(rc, "namespace %s: %s", name, t.text[0] != 0 ? t.text : yk_status_text(rc))
               : 0;
}

int yk_ns_create(yk_client *c, const char *name, uint64_t quota_bytes) {
    return ns_change(c, YK_NS_CREATE, name, quota_bytes);
}

int yk_ns_set_copies(yk_client *c, const char *name, uint32_t copies) {
    if (copies > YK_COPIES_MAX)
        return yk_fail(-YK_EINVAL, "%u copies, at most %u", copies, YK_COPIES_MAX);
    return ns_change(c, YK_NS_COPIES, name, copies);
}

int yk_ns_set_guarantee(yk_client *c, const char *name, uint64_t bytes) {
    if (bytes > INT64_MAX)
        return yk_fail(-YK_EINVAL, "a guarantee of %llu bytes, at most 2^63 - 1", (unsigned long long)bytes);
    return ns_change(c, YK_NS_GUARANTEE, name, bytes);
}

int yk_ns_set_priority(yk_client *c, const char *name, uint32_t priority) {
    if (priority > YK_PRIORITY_MAX)
        return yk_fail(-YK_EINVAL, "priority %u, at most %u", priority, YK_PRIORITY_MAX);
    return ns_change(c, YK_NS_PRIORITY, name, priority);
}

int yk_ns_raise_epoch(yk_client *c, const char *name, uint64_t epoch) {
    int own = c != NULL && name != NULL && strcmp(name, c->name_space) == 0;
    if (own) /* a reconnect in the middle of it greets with this one */
        __atomic_store_n(&c->raise_to, epoch, __ATOMIC_RELAXED);
    int rc = ns_change(c, YK_NS_RAISE, name, epoch);
    if (own && rc == 0)
        __atomic_store_n(&c->epoch, epoch, __ATOMIC_RELEASE);
    if (own)
        __atomic_store_n(&c->raise_to, 0, __ATOMIC_RELAXED);
    return rc;
}

int yk_ns_remove(yk_client *c, const char *name) {
    return ns_change(c, YK_NS_REMOVE, name, 0);
}

struct ns_listing {
    void *infos; /* each of size */
    size_t max, size;
    int32_t status;
    uint32_t count;
};

/* The i-th, as far as there is room for it: what is known of it comes in three parts. */
static void ns_get(const struct ns_listing *l, uint32_t i, yk_ns_info *ret) {
    memset(ret, 0, sizeof(*ret));
    if (i < l->max)
        yk_sized_copy(ret, sizeof(*ret), (const char *)l->infos + i * l->size, l->size);
}

static void ns_put(const struct ns_listing *l, uint32_t i, const yk_ns_info *info) {
    if (i < l->max)
        yk_sized_copy((char *)l->infos + i * l->size, l->size, info, sizeof(*info));
}

static void read_shares(struct yk_rd *r, yk_ns_info *io) {
    io->priority = yk_rd_u32(r);
    io->guarantee_bytes = yk_rd_u64(r);
    io->guaranteed_bytes = yk_rd_u64(r);
    io->share_bytes = yk_rd_u64(r);
    io->share_used_bytes = yk_rd_u64(r);
    io->share_hit_ratio = yk_rd_u32(r) / 1e6;
}

static int ns_list_reply(void *arg, struct yk_rd *r) {
    struct ns_listing *l = arg;
    l->status = (int32_t)yk_rd_u32(r);
    l->count = yk_rd_u32(r);
    for (uint32_t i = 0; i < l->count && !r->bad; i++) {
        yk_ns_info info;
        uint32_t len;
        memset(&info, 0, sizeof(info));
        const void *name = yk_rd_str8(r, &len);
        if (name != NULL)
            memcpy(info.name, name, len <= YK_NAMESPACE_MAX ? len : YK_NAMESPACE_MAX);
        info.epoch = yk_rd_u64(r);
        info.quota_bytes = yk_rd_u64(r);
        info.used_bytes = yk_rd_u64(r);
        info.blocks = yk_rd_u64(r);
        if (!r->bad)
            ns_put(l, i, &info);
    }
    for (uint32_t i = 0; i < l->count && yk_rd_left(r) > 0; i++) { /* an older node doesn't say */
        yk_ns_info info;
        ns_get(l, i, &info);
        info.copies = yk_rd_u8(r);
        ns_put(l, i, &info);
    }
    for (uint32_t i = 0; i < l->count && yk_rd_left(r) > 0; i++) {
        yk_ns_info info;
        ns_get(l, i, &info);
        read_shares(r, &info);
        ns_put(l, i, &info);
    }
    return yk_rd_ok(r) && l->status <= 0 && l->count <= INT32_MAX ? 0 : -YK_EPROTO;
}

int yk_ns_list_sized(yk_client *c, yk_ns_info *ret_infos, size_t max, size_t info_size) {
    unsigned char with_all[1];
    struct yk_wr w;
    struct ns_listing l = {ret_infos, ret_infos != NULL ? max : 0, info_size, 0, 0};
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    yk_wr_init(&w, with_all, sizeof(with_all));
    yk_wr_u8(&w, 2);
    rc = call(c, YK_MSG_NS_LIST, &w, ns_list_reply, &l, 0);
    if (rc == 0)
        rc = l.status;
    return rc < 0 ? yk_fail(rc, "listing namespaces: %s", yk_status_text(rc)) : (int)l.count;
}

/* ---- the node ----------------------------------------------------------------------------------------------- */

/* A body that is kept for when the lock is left: the callback of yk_list may call anything. */
struct kept {
    void *data;
    size_t len;
    int status;
};

static int kept_reply(void *arg, struct yk_rd *r) {
    struct kept *k = arg;
    size_t len = yk_rd_left(r);
    free(k->data);
    k->data = malloc(len + 1);
    k->len = len;
    k->status = k->data != NULL ? 0 : -YK_ENOMEM;
    if (k->data != NULL)
        memcpy(k->data, yk_rd_bytes(r, len), len);
    return 0;
}

/* Hands out one page of a listing. Returns what the callback said; *cursor 0 at the end. */
static int list_page(const struct kept *k, uint64_t *cursor, yk_list_fn fn, void *arg, struct yk_infos to) {
    struct yk_rd r;
    yk_rd_init(&r, k->data, k->len);
    int32_t status = (int32_t)yk_rd_u32(&r);
    *cursor = yk_rd_u64(&r);
    uint32_t n = yk_rd_u32(&r);
    if (r.bad || status > 0)
        return -YK_EPROTO;
    if (status < 0)
        return status;
    for (uint32_t i = 0; i < n; i++) {
        yk_block_info info;
        uint32_t len;
        const void *key = yk_rd_str8(&r, &len);
        yk_rd_info(&r, &info);
        if (r.bad)
            return -YK_EPROTO;
        yk_info_put(to, 0, &info);
        int rc = fn(arg, (yk_key){key, len}, to.to);
        if (rc != 0)
            return rc;
    }
    return yk_rd_ok(&r) ? 0 : -YK_EPROTO;
}

int yk_list_sized(yk_client *c, yk_key prefix, yk_list_fn fn, void *arg, size_t info_size) {
    struct kept k = {NULL, 0, 0};
    uint64_t cursor = 0;
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (fn == NULL)
        return yk_fail(-YK_EINVAL, "yk_list without a callback");
    if (prefix.len > YK_KEY_MAX || (prefix.len > 0 && prefix.data == NULL))
        return yk_fail(-YK_EKEY, "a prefix of %zu bytes, at most %u are allowed", prefix.len,
                       YK_KEY_MAX);
    int ours;
    struct yk_infos to = {calloc(1, info_size > 0 ? info_size : 1), info_size};
    if (to.to == NULL)
        return yk_fail(-YK_ENOMEM, "list: no memory for infos of %zu bytes", info_size);
    do {
        unsigned char body[8 + 8 + 4 + 256];
        struct yk_wr w;
        yk_wr_init(&w, body, sizeof(body));
        yk_wr_u64(&w, yk_client_epoch(c));
        yk_wr_u64(&w, cursor);
        yk_wr_u32(&w, LIST_KEYS);
        yk_wr_str8(&w, prefix.data, prefix.len);
        rc = call(c, YK_MSG_LIST, &w, kept_reply, &k, 0);
        if (rc == 0)
            rc = k.status;
        ours = rc < 0;
        if (rc == 0)
            rc = list_page(&k, &cursor, fn, arg, to);
    } while (rc == 0 && cursor != 0);
    free(k.data);
    free(to.to);
    return ours ? yk_fail(rc, "list: %s", yk_status_text(rc)) : rc;
}

/* A reply of a status, a length and a text: *ret_text is the caller's to free. */
static int text_call(yk_client *c, unsigned op, struct yk_wr *w, char **ret_text) {
    struct kept k = {NULL, 0, 0};
    struct yk_rd r;
    int rc = call(c, op, w, kept_reply, &k, 0);
    if (rc == 0)
        rc = k.status;
    if (rc == 0) {
        yk_rd_init(&r, k.data, k.len);
        rc = (int32_t)yk_rd_u32(&r);
        uint32_t len = rc == 0 ? yk_rd_u32(&r) : 0;
        if (r.bad || rc > YK_MISS || (rc == 0 && len != yk_rd_left(&r)))
            rc = -YK_EPROTO;
    }
    if (rc != 0) {
        free(k.data);
        return rc;
    }
    char *text = k.data; /* the text moves to the front of its own buffer */
    memmove(text, text + 8, k.len - 8);
    text[k.len - 8] = 0;
    *ret_text = text;
    return 0;
}

int yk_stats_json(yk_client *c, char **ret_json) {
    unsigned char none[1];
    struct yk_wr w;
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (ret_json == NULL)
        return yk_fail(-YK_EINVAL, "yk_stats_json: ret_json is NULL");
    yk_wr_init(&w, none, 0);
    rc = text_call(c, YK_MSG_STATS, &w, ret_json);
    if (rc != 0)
        return yk_fail(rc < 0 ? rc : -YK_EPROTO, "statistics: %s", yk_status_text(rc < 0 ? rc : -YK_EPROTO));
    return 0;
}

int yk_explain_json(yk_client *c, yk_key key, char **ret_json) {
    unsigned char body[1 + YK_KEY_MAX];
    struct yk_wr w;
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (ret_json == NULL)
        return yk_fail(-YK_EINVAL, "yk_explain_json: ret_json is NULL");
    if (key.len == 0 || key.len > YK_KEY_MAX || key.data == NULL)
        return yk_fail(-YK_EKEY, "yk_explain_json: %s", yk_status_text(-YK_EKEY));
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_str8(&w, key.data, key.len);
    rc = text_call(c, YK_MSG_EXPLAIN, &w, ret_json);
    return rc < 0 ? yk_fail(rc, "explain: %s", yk_status_text(rc)) : rc;
}
