/* SPDX-License-Identifier: Apache-2.0
 *
 * The state of one id in 16 bytes, and the space that holds them.
 *
 * Two links, a parent, a child count, a place, a use count, an owner and a time stamp do not fit
 * into 16 bytes side by side; they do because a block with children is no candidate and so needs no
 * links: its child count lies where a leaf has its first link, and because ids take 26 bits.
 *
 * That leaves 37 bits for the stamp, the low ones of a 64-bit clock. They tell ages below 2^37
 * ticks (a day and a half of a million accesses a second), so nothing may get older: with every
 * tick one id is looked at in turn, and what is over half that age is set back to half of it
 * (order.c). Only blocks that have stood untouched for 2^36 ticks lose their order, and only among
 * each other. Rejected: a wider stamp (descriptor, index and this are 160 bytes a block as it is),
 * and renumbering everything at the end of the range (a pause of seconds, once in a while).
 *
 * All-zero memory is the valid state of an id that was never used.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_SPACE_PRIV_H
#define YK_SCHED_SPACE_PRIV_H

#include "sched/policy.h"

#include <assert.h>

/* YK_POLICY_NONE as it is stored; also the one 26-bit value that is never an id. */
#define YK_NODE_NONE YK_POLICY_IDS_MAX

#define YK_NODE_STAMP_LO_BITS 12
#define YK_NODE_STAMP_BITS    37
#define YK_NODE_AGE_MAX       (UINT64_C(1) << (YK_NODE_STAMP_BITS - 1)) /* ticks */

/*           enter, childless               last child leaves
 *  ABSENT ------------------> LISTED   INNER ---------------> RETURNED
 *     |                         |        ^                       |
 *     | enter, children known   +--------+-----------------------+
 *     +------------------------------->  ^     a child comes in
 *  and back to ABSENT from each by leave; from RETURNED to LISTED by renew; from INNER to LISTED, if it is older than
 *  all that is listed, as the last child leaves. */
enum yk_node_place {
    YK_NODE_ABSENT = 0,   /* in no instance; a = children that name it, b = their instance's tag */
    YK_NODE_LISTED = 1,   /* candidate, in its queue's list; a = older, b = younger neighbour */
    YK_NODE_RETURNED = 2, /* candidate, in its queue's tree; a = older, b = younger subtree */
    YK_NODE_INNER = 3,    /* has children: no candidate; a = how many (> 0), b = the tag */
};

struct yk_node {
    uint64_t a : 26, b : 26, stamp_lo : YK_NODE_STAMP_LO_BITS;
    uint64_t parent : 26, place : 2, queue : 1, freq : 2, owner : 8, stamp_hi : 25;
};

static_assert(sizeof(struct yk_node) == 16, "memory of metadata is promised by the block");

struct yk_order;

struct yk_policy_space {
    struct yk_node *nodes; /* max_ids of them, mapped, touched as used */
    uint64_t clock;        /* of the last stamp given out */
    uint32_t max_ids;
    uint32_t used_ids; /* one above the highest that ever came in */
    uint32_t aging_id; /* whose age is looked at next */
    uint32_t last_tag; /* of the last instance made */
    /* By node.owner. A slot whose instance was freed with ids inside stays taken, without an
     * order, so that those ids never look like another's. */
    struct {
        struct yk_order *order;
        bool taken;
    } owners[YK_POLICY_INSTANCES_MAX];
};

static inline struct yk_node *yk_node_at(const struct yk_policy_space *space, uint32_t id) {
    return &space->nodes[id];
}

static inline uint64_t yk_node_stamp(const struct yk_policy_space *space, const struct yk_node *n) {
    uint64_t low = ((uint64_t)n->stamp_hi << YK_NODE_STAMP_LO_BITS) | n->stamp_lo;
    return space->clock - ((space->clock - low) & ((UINT64_C(1) << YK_NODE_STAMP_BITS) - 1));
}

/* The low bits of the stamp are what is kept. */
static inline void yk_node_set_stamp(struct yk_node *n, uint64_t stamp) {
    n->stamp_lo = stamp & ((1u << YK_NODE_STAMP_LO_BITS) - 1);
    n->stamp_hi = (stamp >> YK_NODE_STAMP_LO_BITS) &
                  ((1u << (YK_NODE_STAMP_BITS - YK_NODE_STAMP_LO_BITS)) - 1);
}

#endif
