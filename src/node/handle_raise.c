/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks that are on SSD alone come up before a request is answered, and those of other nodes are brought:
 * RAISE and PREFETCH, and what other handlers use for the same end. A request that needs a block in DRAM is parked (park.c) and run again
 * when its blocks have come, or could not.
 */
#include "node/conn_priv.h"

#include "base/clock.h"

#include <string.h>

/* Asks for one; a status as yk_store_raise. A request that is run again takes what there is. */
int handle_need(struct conn *c, struct needs *n, uint64_t epoch, const void *key,
                      uint32_t key_len, unsigned prio, uint64_t deadline_ns) {
    uint32_t idx;
    if (key_len == 0)
        return -YK_EKEY;
    if (c->shut)
        return YK_MISS;
    int rc = yk_store_find_any(c->node->store, c->ns, epoch, key, key_len, &idx);
    if (rc == YK_MISS && pool_looks(c, epoch))
        return pool_gather(n, c, key, key_len, 0) == 0 ? YK_PENDING : rc;
    if (rc != 0 || !YK_IS_ON_SSD(idx))
        return rc;
    if (c->rerun)
        return -YK_EAGAIN;
    if (n->token == 0)
        n->token = park_take(c->node);
    if (n->token == 0)
        return -YK_EAGAIN;
    rc = yk_store_raise(c->node->store, c->ns, epoch, key, key_len, prio, deadline_ns, n->token);
    n->pending += rc == YK_PENDING;
    return rc;
}

/* HANDLE_PARKED when something is on its way; 0: go on. */
int handle_needs_wait(struct conn *c, struct needs *n, const struct yk_frame *f, const void *body) {
    if (n->wanted > 0)
        n->pending += pool_bring(c, n) == 0;
    const struct parked *k = n->token != 0 ? park_find(c->node, n->token) : NULL;
    if (n->pending > 0 || (k != NULL && k->answers != NULL))
        return park_keep(c->node, n->token, c, f, body, n->pending) == 0 ? HANDLE_PARKED
                                                                         : -YK_ENOMEM;
    if (n->token != 0)
        park_drop(c->node, n->token);
    return 0;
}

int handle_raise(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    const void *body = r->at;
    uint64_t epoch = yk_rd_u64(r);
    uint64_t deadline_ns = c->begun_ns + (uint64_t)yk_rd_u32(r) * 1000000ull;
    unsigned prio = yk_rd_u8(r) == 0 ? YK_SSD_PRIO_DEMAND : YK_SSD_PRIO_PREFETCH;
    uint32_t n = yk_rd_u32(r);
    int32_t status[YK_RAISE_MAX];
    struct needs needs = {.deadline_ns = deadline_ns};
    struct yk_wr w;
    if (r->bad || n == 0 || n > YK_RAISE_MAX)
        return handle_bad_body(err, f);
    struct yk_rd keys = *r;
    for (uint32_t i = 0; i < n; i++) { /* all of it is whole before anything is begun */
        uint32_t len;
        yk_rd_str8(&keys, &len);
    }
    if (!yk_rd_ok(&keys))
        return handle_bad_body(err, f);
    yk_store_drain(c->node->store); /* what comes up takes the place of what is used least */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len;
        const void *key = yk_rd_str8(r, &len);
        status[i] = handle_need(c, &needs, epoch, key, len, prio, deadline_ns);
    }
    int rc = handle_needs_wait(c, &needs, f, body);
    if (rc != 0)
        return rc;
    rc = reply_begin(c, 4u + n * 4u, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) /* what was gathered for the pool, and could not be asked for */
        yk_wr_u32(&w, (uint32_t)(status[i] == YK_PENDING ? -YK_EAGAIN : status[i]));
    reply_end(c, &w, f->op, f->id);
    NODE_ADD(c->node, keys[f->op], n);
    return 0;
}

/* Why a prefetch raises nothing at all; NULL: it may. */
static const char *no_prefetch(const struct conn *c, unsigned tier) {
    if (yk_store_ssd(c->node->store) == NULL && !pool_alive(c->node))
        return "this node has one tier: there is nothing to raise";
    return tier == YK_TIER_ANY || tier == YK_TIER_DRAM ? NULL
                                                       : "blocks can be raised to DRAM alone";
}

int handle_prefetch(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                       struct yk_err *err) {
    struct yk_wr w;
    unsigned tier = yk_rd_u8(r);
    uint64_t deadline_ns = yk_now_ns() + (uint64_t)yk_rd_u32(r) * 1000000ull;
    uint32_t n = yk_rd_u32(r), raised = 0;
    struct needs needs = {.deadline_ns = deadline_ns};
    const char *why = no_prefetch(c, tier);
    uint64_t epoch = yk_store_ns_epoch(c->node->store, c->ns);
    /* In the chain's order: an ancestor is of use without its descendants, not the other way round. */
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        uint32_t len;
        const void *key = yk_rd_str8(r, &len);
        if (why != NULL || r->bad || c->shut)
            continue;
        int rc = yk_store_raise(c->node->store, c->ns, epoch, key, len, YK_SSD_PRIO_PREFETCH,
                                deadline_ns, 0);
        raised += rc == YK_PENDING;
        if (rc == YK_MISS && pool_looks(c, epoch))
            pool_gather(&needs, c, key, len, i);
    }
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    if (needs.wanted > 0 && pool_prefetch(c, &needs) == 0)
        raised += needs.wanted;
    if (why == NULL)
        why = "";
    int rc = reply_begin(c, 8u + 2u + strlen(why), &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, 0);
    yk_wr_u32(&w, raised);
    yk_wr_text(&w, why);
    reply_end(c, &w, f->op, f->id);
    return 0;
}
