/* SPDX-License-Identifier: Apache-2.0
 *
 * GET: payload in the reply, or where it is.
 *
 * A connection that was granted the transfer engine says how much payload it wants in the reply; of a
 * longer block it gets the place, and reads it by a guarded request (docs/decisions/0011). Located is
 * found: it is an access and a hit at once, since nobody says later how the transfer went. Only when it
 * failed does the client ask again, for all of it in the reply; that is the same lookup, and not counted
 * once more, be it found or gone by now.
 */
#include "node/conn_priv.h"

#include "base/hash.h"

struct get {
    uint64_t epoch, offset, max_len, inline_max;
    const void *key;
    uint32_t key_len;
    int again; /* it was located before */
};

static int find_readable(struct conn *c, const struct get *g, uint32_t *ret_idx) {
    struct yk_store *store = c->node->store;
    if (g->key_len == 0)
        return -YK_EKEY;
    if (c->ns == YK_NO_NS || conn_is_blind(c)) /* pages of a tier that is lost cannot be sent */
        return YK_MISS;
    int rc = yk_store_ns_check(store, c->ns);
    if (rc == 0)
        rc = yk_store_find(store, c->ns, g->epoch, g->key, g->key_len, ret_idx);
    return rc == 0 ? yk_store_settle(store, *ret_idx) : rc;
}

/* ---- what was located ------------------------------------------------------------------------ */

static uint64_t mark(const struct conn *c, const struct get *g) {
    return (yk_hash_key(c->ns, g->key, g->key_len) ^ g->epoch) | 1u; /* 0 is none */
}

static void located_add(struct conn *c, const struct get *g) {
    c->located[c->located_at++ % LOCATED_MAX] = mark(c, g);
}

/* Was it located for this connection, and is asked for in full now? */
static int located_take(struct conn *c, const struct get *g) {
    if (!c->xfer || g->inline_max != UINT64_MAX)
        return 0;
    uint64_t m = mark(c, g);
    for (uint32_t i = 0; i < LOCATED_MAX; i++) {
        if (c->located[i] != m)
            continue;
        c->located[i] = 0;
        return 1;
    }
    return 0;
}

/* ---- replies --------------------------------------------------------------------------------- */

static int head_begin(struct conn *c, const yk_block_info *info, uint32_t idx, uint64_t place, uint64_t n,
                      struct yk_wr *ret_w) {
    int rc = reply_begin(c, 4u + YK_WIRE_INFO_BYTES + YK_GET_TAIL_BYTES, ret_w);
    if (rc < 0)
        return rc;
    yk_wr_u32(ret_w, 0);
    yk_wr_info(ret_w, info);
    yk_wr_u32(ret_w, idx);
    yk_wr_u64(ret_w, place);
    yk_wr_u64(ret_w, n);
    return 0;
}

static int reply_place(struct conn *c, const struct yk_frame *f, const struct get *g, uint32_t idx,
                       const yk_block_info *info, uint64_t n) {
    const char *data = c->node->seg->data, *payload = yk_store_payload(c->node->store, idx);
    struct yk_wr w;
    int rc = head_begin(c, info, idx, (uint64_t)(payload - data) + g->offset, n, &w);
    if (rc < 0)
        return rc;
    yk_store_access(c->node->store, idx);
    yk_store_count_located(c->node->store, c->ns, n);
    located_add(c, g);
    reply_end(c, &w, f->op, f->id);
    return 0;
}

static int reply_payload(struct conn *c, const struct yk_frame *f, const struct get *g, uint32_t idx,
                         const yk_block_info *info, uint64_t n) {
    struct yk_store *store = c->node->store;
    struct yk_wr w;
    int hold = yk_store_hold(store, idx);
    if (hold < 0)
        return reply_status(c, f->op, f->id, -YK_EAGAIN);
    int rc = head_begin(c, info, YK_GET_INLINE, 0, n, &w);
    if (rc < 0) {
        yk_store_unhold(store, hold);
        return rc;
    }
    if (!g->again) {
        yk_store_access(store, idx);
        yk_store_count_get(store, c->ns, 1, n);
    }
    const char *payload = yk_store_payload(store, idx);
    reply_end_payload(c, &w, f->op, f->id, payload + g->offset, (size_t)n, hold);
    if (n == 0)
        yk_store_unhold(store, hold);
    return 0;
}

int handle_get(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    const void *body = r->at;
    struct needs needs = {0};
    struct get g;
    uint32_t idx;
    yk_block_info info;
    g.epoch = yk_rd_u64(r);
    g.offset = yk_rd_u64(r);
    g.max_len = yk_rd_u64(r);
    g.inline_max = yk_rd_u64(r);
    g.key = yk_rd_str8(r, &g.key_len);
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    int rc = find_readable(c, &g, &idx);
    if (rc == YK_MISS &&
        handle_need(c, &needs, g.epoch, g.key, g.key_len, YK_SSD_PRIO_DEMAND, 0) != YK_MISS) {
        int parked = handle_needs_wait(c, &needs, f, body);
        if (parked != 0)
            return parked;
    }
    g.again = located_take(c, &g);
    if (rc != 0) {
        if (!g.again)
            yk_store_count_get(c->node->store, c->ns, 0, 0);
        return reply_status(c, f->op, f->id, rc);
    }
    yk_store_info(c->node->store, idx, &info);
    if (g.offset > info.len)
        return reply_status(c, f->op, f->id, -YK_EINVAL);
    uint64_t n = info.len - g.offset < g.max_len ? info.len - g.offset : g.max_len;
    return c->xfer && n > g.inline_max ? reply_place(c, f, &g, idx, &info, n)
                                       : reply_payload(c, f, &g, idx, &info, n);
}
