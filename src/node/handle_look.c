/* SPDX-License-Identifier: Apache-2.0
 *
 * LOOKUP, EXISTS, MATCH, LIST: what is there, in either tier, without keeping it alive; the first three on
 * other nodes, too, if there is a pool (pool.c): then they are run a second time, with its answers. ANNOUNCE: what
 * will be wanted next. A MATCH says that, too, of a client that does not say it otherwise.
 */
#include "node/conn_priv.h"

#include "base/hash.h"
#include "sched/policy.h"

#include <string.h>

/* A block that is there for an existence check: a SUSPECT one counts, its checksum is read at use. Of a
 * tier that is lost none is, as yk_view_* has it. */
static int present(struct conn *c, uint64_t epoch, const void *key, uint32_t key_len,
                   uint32_t *ret_idx) {
    return key_len == 0       ? -YK_EKEY
           : conn_is_blind(c) ? YK_MISS
                              : yk_store_find_any(c->node->store, c->ns, epoch, key, key_len, ret_idx);
}

/* A key that this node has not, at that place of the request: what the pool said. A match or a check for existence
 * has no word for what nobody can tell. */
static int elsewhere(struct conn *c, uint64_t epoch, uint32_t at, yk_block_info *ret_info) {
    const struct yk_pool_found *found = pool_answer(c, at);
    if (found == NULL)
        return pool_looks(c, epoch) ? -YK_EAGAIN : YK_MISS; /* it could not be asked */
    if (found->status != 0 || ret_info == NULL)
        return found->status;
    *ret_info = (yk_block_info){.len = found->len,
                                .checksum = found->sum,
                                .epoch = epoch,
                                .tiers = found->tiers | YK_TIERS_ELSEWHERE};
    return 0;
}

int handle_lookup(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                     struct yk_err *err) {
    const void *body = r->at;
    uint64_t epoch = yk_rd_u64(r);
    uint32_t n = yk_rd_u32(r);
    struct yk_wr w;
    if (n > YK_BATCH_MAX)
        return handle_bad_body(err, f);
    int rc = pool_find(c, f, body, *r, epoch, n, 0);
    if (rc != 0)
        return rc;
    rc = reply_begin(c, 4u + (size_t)n * (4u + YK_WIRE_INFO_BYTES), &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len, idx;
        yk_block_info info;
        const void *key = yk_rd_str8(r, &len);
        if (r->bad)
            return handle_bad_body(err, f);
        rc = present(c, epoch, key, len, &idx);
        if (rc == 0)
            yk_store_info(c->node->store, idx, &info);
        else if (rc == YK_MISS)
            rc = elsewhere(c, epoch, i, &info);
        yk_wr_u32(&w, (uint32_t)rc);
        if (rc == 0)
            yk_wr_info(&w, &info);
    }
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    reply_end(c, &w, f->op, f->id);
    NODE_ADD(c->node, keys[f->op], n);
    return 0;
}

/* Keys are looked up in groups, so that their cache misses overlap (view.h). */
#define GROUP 64u

/* The next keys of a body as queries: up to GROUP of the `left` ones. Returns how many. */
static uint32_t rd_queries(struct conn *c, uint64_t epoch, struct yk_rd *r, uint32_t left,
                           struct yk_query *q) {
    uint32_t n = left < GROUP ? left : GROUP;
    for (uint32_t i = 0; i < n; i++) {
        q[i].key = yk_rd_str8(r, &q[i].key_len);
        q[i].ns = c->ns;
        q[i].epoch = epoch;
        q[i].hash = r->bad ? 0 : yk_hash_key(c->ns, q[i].key, q[i].key_len);
    }
    return n;
}

/* A key that DRAM has not, at that place of the request. */
static int present_below(struct conn *c, const struct yk_query *q, uint32_t at) {
    uint32_t idx;
    if (q->key_len == 0)
        return 0;
    if (yk_store_ssd(c->node->store) != NULL &&
        yk_store_find_any(c->node->store, q->ns, q->epoch, q->key, q->key_len, &idx) == 0)
        return 1;
    return c->answers != NULL && elsewhere(c, q->epoch, at, NULL) == 0;
}

/* The leading run of n keys, over both tiers and other nodes; the first stands at that place of the request. */
static uint32_t run_of(struct conn *c, const struct yk_query *q, uint32_t at, uint32_t n,
                       uint64_t now_ms) {
    uint32_t run = 0;
    while (run < n && !c->shut) {
        int unsure;
        run += (uint32_t)yk_view_match(yk_store_view(c->node->store), q + run, n - run, now_ms,
                                       NULL, &unsure);
        if (run == n || !present_below(c, &q[run], at + run))
            break;
        run++;
    }
    return run;
}

int handle_exists(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                     struct yk_err *err) {
    const void *body = r->at;
    uint64_t epoch = yk_rd_u64(r);
    uint32_t n = yk_rd_u32(r);
    const struct yk_view *view = yk_store_view(c->node->store);
    uint64_t now_ms = yk_view_now_ms(view);
    struct yk_query q[GROUP];
    int found[GROUP];
    struct yk_wr w;
    if (n > YK_BATCH_MAX)
        return handle_bad_body(err, f);
    int rc = pool_find(c, f, body, *r, epoch, n, 0);
    if (rc != 0)
        return rc;
    rc = reply_begin(c, 4u + (n + 7u) / 8u, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, n);
    unsigned char *bits = yk_wr_space(&w, (n + 7u) / 8u);
    if (bits != NULL)
        memset(bits, 0, (n + 7u) / 8u);
    for (uint32_t at = 0; at < n; at += GROUP) {
        uint32_t k = rd_queries(c, epoch, r, n - at, q);
        if (r->bad)
            return handle_bad_body(err, f);
        yk_view_find_many(view, q, k, now_ms, NULL, found);
        for (uint32_t i = 0; i < k; i++)
            if (!c->shut && (found[i] == 0 || present_below(c, &q[i], at + i)))
                bits[(at + i) / 8u] |= (unsigned char)(1u << ((at + i) % 8u));
    }
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    reply_end(c, &w, f->op, f->id);
    NODE_ADD(c->node, keys[f->op], n);
    return 0;
}

/* The store hears of a request: its n keys, of which r has the first next. */
static void hear_request(struct conn *c, struct yk_rd r, uint32_t n, struct yk_policy_request q) {
    uint64_t hashes[YK_EVENT_CHAIN_MAX];
    for (q.n = 0; q.n < n && q.n < YK_EVENT_CHAIN_MAX && !r.bad; q.n++) {
        uint32_t len;
        const void *key = yk_rd_str8(&r, &len);
        hashes[q.n] = r.bad ? 0 : yk_hash_key(c->ns, key, len);
    }
    q.key_hashes = hashes;
    if (r.bad || c->ns == YK_NO_NS)
        return;
    yk_store_drain(c->node->store); /* what was used before is heard of before */
    if (q.n == 0) {
        yk_store_time(c->node->store, c->ns, q.now_ms);
        return;
    }
    yk_store_request(c->node->store, c->ns, &q);
    node_learn(c->node);
}

int handle_announce(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    uint64_t epoch = yk_rd_u64(r);
    struct yk_policy_request q = {.now_ms = yk_rd_u64(r)};
    q.output_length = yk_rd_u32(r);
    q.stop = yk_rd_u32(r);
    q.last_block_eighths = yk_rd_u32(r);
    uint32_t n = yk_rd_u32(r), len;
    struct yk_rd keys = *r;
    if (n > YK_BATCH_MAX)
        return handle_bad_body(err, f);
    for (uint32_t i = 0; i < n && !r->bad; i++)
        (void)yk_rd_str8(r, &len);
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    c->announces = 1;
    if (c->ns != YK_NO_NS && yk_store_ns_epoch(c->node->store, c->ns) == epoch)
        hear_request(c, keys, n, q);
    NODE_ADD(c->node, keys[f->op], n);
    return reply_status(c, f->op, f->id, 0);
}

int handle_match(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    const void *body = r->at;
    uint64_t epoch = yk_rd_u64(r);
    uint32_t n = yk_rd_u32(r), run = 0;
    const struct yk_view *view = yk_store_view(c->node->store);
    uint64_t now_ms = yk_view_now_ms(view);
    struct yk_query q[GROUP];
    struct yk_rd keys = *r;
    struct yk_wr w;
    if (n > YK_BATCH_MAX)
        return handle_bad_body(err, f);
    int rc = pool_find(c, f, body, *r, epoch, n, 1);
    if (rc != 0)
        return rc;
    for (uint32_t at = 0; at < n; at += GROUP) {
        uint32_t k = rd_queries(c, epoch, r, n - at, q);
        if (r->bad)
            return handle_bad_body(err, f);
        if (run == at) /* the run goes on so far */
            run += run_of(c, q, at, k, now_ms);
    }
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    rc = reply_begin(c, 4, &w);
    if (rc < 0)
        return rc;
    if (n > 1 && !c->mapped && !c->announces && /* one key is a check whether it is there */
        yk_store_wants_requests(c->node->store))
        hear_request(c, keys, n, (struct yk_policy_request){0});
    yk_wr_u32(&w, run);
    reply_end(c, &w, f->op, f->id);
    NODE_ADD(c->node, keys[f->op], n);
    return 0;
}

#define LIST_STEPS 65536u

int handle_list(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    uint32_t prefix_len, idx, steps = LIST_STEPS, n = 0;
    uint64_t epoch = yk_rd_u64(r);
    uint64_t from = yk_rd_u64(r);
    uint32_t max = yk_rd_u32(r);
    const void *prefix = yk_rd_str8(r, &prefix_len);
    struct yk_store *store = c->node->store;
    struct yk_wr w;
    yk_block_info info;
    if (!yk_rd_ok(r) || from > UINT32_MAX)
        return handle_bad_body(err, f);
    if (max > YK_LIST_MAX)
        max = YK_LIST_MAX;
    int rc = reply_begin(c, 16u + (size_t)max * (256u + YK_WIRE_INFO_BYTES), &w);
    if (rc < 0)
        return rc;
    uint32_t cursor = conn_is_blind(c) ? YK_WALK_END : (uint32_t)from;
    yk_wr_u32(&w, (uint32_t)yk_store_ns_check(store, c->ns));
    unsigned char *patch = yk_wr_space(&w, 12);
    while (n < max && yk_store_list_next(store, c->ns, epoch, prefix, prefix_len, &cursor, &steps,
                                         &idx) == 1) {
        uint32_t key_len;
        struct yk_key_room room;
        const void *key = yk_store_key(store, idx, &room, &key_len);
        yk_store_info(store, idx, &info);
        yk_wr_str8(&w, key, key_len);
        yk_wr_info(&w, &info);
        n++;
    }
    if (patch != NULL) { /* always: the room was made sure of */
        struct yk_wr head;
        yk_wr_init(&head, patch, 12);
        yk_wr_u64(&head, cursor != YK_WALK_END ? cursor : 0);
        yk_wr_u32(&head, n);
    }
    reply_end(c, &w, f->op, f->id);
    NODE_ADD(c->node, keys[f->op], n);
    return 0;
}
