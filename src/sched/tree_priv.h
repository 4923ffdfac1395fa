/* SPDX-License-Identifier: Apache-2.0
 *
 * A treap of ids ordered by (stamp, id), threaded through the nodes' two links.
 *
 * It takes the blocks that become candidates late: a parent whose last child has left belongs at
 * the place of its own last access, somewhere in the middle of a queue. A list would have to be
 * walked to it. A treap needs two links and no parent pointer (a node is found again by its key),
 * which is what 16 bytes have room for; a pairing heap would need three. Expected O(log n), since
 * priorities are a hash of the id with the instance's salt.
 *
 * Stamps of ids inside must not change.
 */
#ifndef YK_SCHED_TREE_PRIV_H
#define YK_SCHED_TREE_PRIV_H

#include "sched/space_priv.h"

struct yk_tree {
    uint32_t root;   /* or YK_NODE_NONE */
    uint32_t oldest; /* or YK_NODE_NONE */
    uint32_t salt;
};

void yk_tree_init(struct yk_tree *tree, uint32_t salt);
void yk_tree_insert(struct yk_policy_space *space, struct yk_tree *tree, uint32_t id);
void yk_tree_erase(struct yk_policy_space *space, struct yk_tree *tree, uint32_t id);

#endif
