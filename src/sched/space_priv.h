/* SPDX-License-Identifier: Apache-2.0
 *
 * The state of one id in 16 bytes, and the space that holds them.
 *
 * Two links, a parent, a child count, a place, a use count and a time stamp do not fit into 16
 * bytes side by side; they do because a block with children is no candidate and so needs no links:
 * its child count lies where a leaf has its first link. Ids take 26 bits, which leaves 45 for the
 * stamp. The clock stops at its end (a year of a million accesses a second): from then on stamps
 * tie, ties are broken by id, and only the order between queues suffers, never their structure.
 *
 * All-zero memory is the valid state of an id that was never used.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_SPACE_PRIV_H
#define YK_SCHED_SPACE_PRIV_H

#include "sched/policy.h"

/* YK_POLICY_NONE as it is stored; also the one 26-bit value that is never an id. */
#define YK_NODE_NONE YK_POLICY_IDS_MAX

#define YK_NODE_STAMP_LO_BITS 12
#define YK_NODE_STAMP_MAX     ((UINT64_C(1) << 45) - 1)

/*           enter, childless               last child leaves
 *  ABSENT ------------------> LISTED   INNER ---------------> RETURNED
 *     |                         |        ^                       |
 *     | enter, children known   +--------+-----------------------+
 *     +------------------------------->  ^     a child comes in
 *  and back to ABSENT from each by leave; from RETURNED to LISTED by renew. */
enum yk_node_place {
    YK_NODE_ABSENT = 0,   /* in no instance; a = children that name it, b = their instance's tag */
    YK_NODE_LISTED = 1,   /* candidate, in its queue's list; a = older, b = younger neighbour */
    YK_NODE_RETURNED = 2, /* candidate, in its queue's tree; a = older, b = younger subtree */
    YK_NODE_INNER = 3,    /* has children: no candidate; a = how many (> 0), b = the tag */
};

struct yk_node {
    uint64_t a : 26, b : 26, stamp_lo : YK_NODE_STAMP_LO_BITS;
    uint64_t parent : 26, place : 2, queue : 1, freq : 2, stamp_hi : 33;
};

_Static_assert(sizeof(struct yk_node) == 16, "memory of metadata is promised by the block");

struct yk_policy_space {
    struct yk_node *nodes; /* max_ids of them, mapped, touched as used */
    uint64_t clock;        /* of the last stamp given out */
    uint32_t max_ids;
    uint32_t last_tag; /* of the last instance made */
};

static inline struct yk_node *yk_node_at(const struct yk_policy_space *space, uint32_t id) {
    return &space->nodes[id];
}

static inline uint64_t yk_node_stamp(const struct yk_node *n) {
    return ((uint64_t)n->stamp_hi << YK_NODE_STAMP_LO_BITS) | n->stamp_lo;
}

static inline void yk_node_touch(struct yk_policy_space *space, struct yk_node *n) {
    if (space->clock < YK_NODE_STAMP_MAX)
        space->clock++;
    n->stamp_lo = space->clock & ((1u << YK_NODE_STAMP_LO_BITS) - 1);
    n->stamp_hi = space->clock >> YK_NODE_STAMP_LO_BITS;
}

#endif
