/* SPDX-License-Identifier: Apache-2.0
 *
 * What all policies here are made of: one or two queues of ids ordered by the time of entry, whose
 * blocks leave a queue's candidates while they have children.
 *
 * A queue's candidates are its leaves. Most came in at the young end and sit in a list; a parent
 * that got its leafhood back sits in a tree at the stamp it has had all along (tree_priv.h), or at the
 * list's old end if it is older than all of the list, as a chain is that goes from its tail. The
 * oldest candidate is the older of the list's and the tree's oldest, so it is exactly the oldest
 * leaf of the queue, and entering, renewing and leaving cost O(1), or O(log n) for ids in the tree.
 * A policy that does not follow chains passes no parents, and its queues are plain lists.
 * Rejected: leaving inner blocks in the list and stepping over them (O(n) once many pile up at the
 * old end, which is what an access to a child but not its parent does).
 *
 * Child counts belong to the id, and outlive a block that is removed under its children: they then
 * count for the id's next block of the same instance, which makes it wait for orphans a little
 * (they age away, as nobody reaches them) but keeps every count true. If another instance takes
 * the id, the orphans are disowned; `tag` tells. A parent that is another instance's is no parent.
 *
 * A block that is cut off, or yields, has the oldest stamp there can be and stands at the old end of its queue. The
 * stamp is also how it is known (no bit of the 16 bytes is free): what nobody touched for 2^36 ticks
 * looks the same, and is as old.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_ORDER_PRIV_H
#define YK_SCHED_ORDER_PRIV_H

#include "sched/space_priv.h"
#include "sched/tree_priv.h"

#define YK_ORDER_QUEUES 2

/* A block whose id has orphans may get a parent only if that is none of their descendants, or both
 * would wait for each other for ever. This many generations are followed; deeper chains go without
 * the link. Only such ids pay. */
#define YK_ORDER_ANCESTORS_MAX 4096

struct yk_order_queue {
    uint32_t oldest, youngest; /* ends of the list, or YK_NODE_NONE */
    uint32_t count;            /* all its blocks, inner ones too */
    uint32_t candidates;
    struct yk_tree returned;
};

struct yk_order {
    struct yk_policy_space *space;
    struct yk_order_queue queues[YK_ORDER_QUEUES];
    uint32_t slot; /* in the space's owners */
    uint32_t tag;  /* of this instance, never 0; unlike a slot not used again soon */
};

/* 0, or -YK_ELIMIT: the space has YK_POLICY_INSTANCES_MAX already. */
int yk_order_init(struct yk_order *o, struct yk_policy_space *space, uint64_t seed);

/* Ids still inside are lost to the space, and so is this instance's place in it. */
void yk_order_fini(struct yk_order *o);

/* id is absent. parent_id may be YK_POLICY_NONE. */
void yk_order_enter(struct yk_order *o, uint32_t queue, uint32_t id, uint32_t parent_id);

/* The same as a block that is cut off: the oldest candidate of the queue. */
void yk_order_enter_cut_off(struct yk_order *o, uint32_t queue, uint32_t id, uint32_t parent_id);

/* Is the block that is in, cut off? false for YK_POLICY_NONE, and for what is not this instance's. */
bool yk_order_is_cut_off(const struct yk_order *o, uint32_t id);

/* Gives id a new stamp and moves it to the young end of `queue`. */
void yk_order_renew(struct yk_order *o, uint32_t queue, uint32_t id);

/* Moves id to the old end of `queue`, as if it had come in cut off. */
void yk_order_yield(struct yk_order *o, uint32_t queue, uint32_t id);

/* id becomes absent; its parent may become a candidate. */
void yk_order_leave(struct yk_order *o, uint32_t id);

/* The oldest candidate of the queue, or YK_NODE_NONE. */
uint32_t yk_order_oldest(const struct yk_order *o, uint32_t queue);

/* The victim op of a policy with one queue, 0: its oldest candidate that `can` takes (policy.h). */
int yk_order_victim(struct yk_order *o, yk_policy_can_fn can, void *arg, uint32_t max_steps, uint32_t *ret_id);

/* The peek op: 0 and the stamp of id, the next to go; YK_MISS for YK_NODE_NONE. */
int yk_order_peek(const struct yk_order *o, uint32_t id, uint64_t *ret_stamp);

/* The checks that every policy's insert starts with. */
int yk_order_may_enter(const struct yk_order *o, uint32_t id, uint32_t parent_id);

static inline bool yk_order_owns(const struct yk_order *o, const struct yk_node *n) {
    return n->place != YK_NODE_ABSENT && n->owner == o->slot;
}

static inline bool yk_order_has(const struct yk_order *o, uint32_t id) {
    return id < o->space->max_ids && yk_order_owns(o, yk_node_at(o->space, id));
}

static inline uint32_t yk_order_count(const struct yk_order *o) {
    return o->queues[0].count + o->queues[1].count;
}

static inline uint32_t yk_order_candidates(const struct yk_order *o) {
    return o->queues[0].candidates + o->queues[1].candidates;
}

#endif
