/* SPDX-License-Identifier: Apache-2.0
 *
 * lru: exactly the least recently accessed block goes first.
 * chain-lru: exactly the least recently accessed block without children goes first, but for what is
 * cut off (policy.h).
 *
 * They are one policy on one ordered queue (order_priv.h) and differ in whether the queue is told
 * who is whose parent. That has to be exact rather than sampled or approximate because a node's
 * hit counts are checked against an independent simulator, block for block.
 */
#include "sched/order_priv.h"
#include "sched/policies_priv.h"

#include <stdlib.h>

struct lru {
    struct yk_policy base;
    struct yk_order order;
};

static struct lru *lru_of(struct yk_policy *p) {
    return (struct lru *)p;
}

static int create(struct yk_policy_space *space, const struct yk_policy_opts *opts,
                  const struct yk_policy_ops *ops, struct yk_policy **ret_policy) {
    struct lru *lru = calloc(1, sizeof(*lru));
    if (lru == NULL)
        return -YK_ENOMEM;
    lru->base.ops = ops;
    int rc = yk_order_init(&lru->order, space, opts->seed);
    if (rc != 0) {
        free(lru);
        return rc;
    }
    *ret_policy = &lru->base;
    return 0;
}

static int lru_create(struct yk_policy_space *space, const struct yk_policy_opts *opts,
                      struct yk_policy **ret_policy) {
    return create(space, opts, &yk_policy_lru, ret_policy);
}

static int chain_lru_create(struct yk_policy_space *space, const struct yk_policy_opts *opts,
                            struct yk_policy **ret_policy) {
    return create(space, opts, &yk_policy_chain_lru, ret_policy);
}

static void lru_free(struct yk_policy *p) {
    if (p == NULL)
        return;
    yk_order_fini(&lru_of(p)->order);
    free(p);
}

static int lru_insert(struct yk_policy *p, uint32_t id, const struct yk_policy_block *block) {
    struct yk_order *o = &lru_of(p)->order;
    int rc = yk_order_may_enter(o, id, block->parent_id);
    if (rc != 0)
        return rc;
    if (!(p->ops->caps & YK_POLICY_CAP_CHAIN))
        yk_order_enter(o, 0, id, YK_POLICY_NONE);
    else if (block->cut_off ||
             (!block->parent_yields && yk_order_is_cut_off(o, block->parent_id)))
        yk_order_enter_cut_off(o, 0, id, block->parent_id);
    else
        yk_order_enter(o, 0, id, block->parent_id);
    return 0;
}

static int lru_access(struct yk_policy *p, uint32_t id) {
    struct yk_order *o = &lru_of(p)->order;
    if (!yk_order_has(o, id))
        return YK_MISS;
    yk_order_renew(o, 0, id);
    return 0;
}

static int lru_remove(struct yk_policy *p, uint32_t id) {
    struct yk_order *o = &lru_of(p)->order;
    if (!yk_order_has(o, id))
        return YK_MISS;
    yk_order_leave(o, id);
    return 0;
}

static int lru_evict(struct yk_policy *p, uint32_t id, uint64_t key_hash) {
    return lru_remove(p, id); /* an evicted key is of no interest any more */
}

static int lru_victim(struct yk_policy *p, yk_policy_can_fn can, void *arg, uint32_t max_steps,
                      uint32_t *ret_id) {
    return yk_order_victim(&lru_of(p)->order, can, arg, max_steps, ret_id);
}

static int lru_peek(const struct yk_policy *p, uint64_t *ret_stamp) {
    const struct yk_order *o = &((const struct lru *)p)->order;
    return yk_order_peek(o, yk_order_oldest(o, 0), ret_stamp);
}

static uint32_t lru_count(const struct yk_policy *p) {
    return yk_order_count(&((const struct lru *)p)->order);
}

/* What was accessed last is what stays, wherever it was. */
static bool lru_rises(const struct yk_policy *p, uint64_t key_hash, bool used) {
    (void)p;
    (void)key_hash;
    (void)used;
    return true;
}

static int lru_yield(struct yk_policy *p, uint32_t id) {
    struct yk_order *o = &lru_of(p)->order;
    if (!yk_order_has(o, id))
        return YK_MISS;
    yk_order_yield(o, 0, id);
    return 0;
}

const struct yk_policy_ops yk_policy_lru = {
    .name = "lru",
    .help = "least recently accessed first",
    .caps = YK_POLICY_CAP_EXACT_LRU,
    .create = lru_create,
    .free = lru_free,
    .insert = lru_insert,
    .access = lru_access,
    .remove = lru_remove,
    .evict = lru_evict,
    .victim = lru_victim,
    .peek = lru_peek,
    .count = lru_count,
    .rises = lru_rises,
    .yield = lru_yield,
    .request = yk_policy_no_request,
};

const struct yk_policy_ops yk_policy_chain_lru = {
    .name = "chain-lru",
    .help = "least recently accessed first, never a block before its descendants",
    .caps = YK_POLICY_CAP_EXACT_LRU | YK_POLICY_CAP_CHAIN | YK_POLICY_CAP_PARENTS,
    .create = chain_lru_create,
    .free = lru_free,
    .insert = lru_insert,
    .access = lru_access,
    .remove = lru_remove,
    .evict = lru_evict,
    .victim = lru_victim,
    .peek = lru_peek,
    .count = lru_count,
    .rises = lru_rises,
    .yield = lru_yield,
    .request = yk_policy_no_request,
};
