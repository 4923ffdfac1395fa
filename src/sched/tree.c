/* SPDX-License-Identifier: Apache-2.0
 *
 * The treap: top-down insert by split, erase by merge, no recursion.
 *
 * Links are bit fields, so a place in the tree cannot be a pointer to one: it is a pair of a node
 * (or none, for the root) and a side.
 */
#include "sched/tree_priv.h"

#include <assert.h>

enum side { OLDER, YOUNGER };

struct slot {
    uint32_t above; /* YK_NODE_NONE: the root */
    enum side side;
};

static uint32_t priority(const struct yk_tree *tree, uint32_t id) {
    uint32_t x = (id ^ tree->salt) * 0x9e3779b1u;
    x ^= x >> 15;
    x *= 0x85ebca77u;
    return x ^ (x >> 13);
}

static bool is_older(const struct yk_policy_space *space, uint32_t x, uint32_t y) {
    uint64_t sx = yk_node_stamp(space, yk_node_at(space, x));
    uint64_t sy = yk_node_stamp(space, yk_node_at(space, y));
    return sx != sy ? sx < sy : x < y;
}

static uint32_t slot_get(const struct yk_policy_space *space, const struct yk_tree *tree,
                         struct slot s) {
    if (s.above == YK_NODE_NONE)
        return tree->root;
    const struct yk_node *n = yk_node_at(space, s.above);
    return s.side == OLDER ? n->a : n->b;
}

static void slot_set(struct yk_policy_space *space, struct yk_tree *tree, struct slot s,
                     uint32_t id) {
    if (s.above == YK_NODE_NONE)
        tree->root = id;
    else if (s.side == OLDER)
        yk_node_at(space, s.above)->a = id;
    else
        yk_node_at(space, s.above)->b = id;
}

void yk_tree_init(struct yk_tree *tree, uint32_t salt) {
    tree->root = YK_NODE_NONE;
    tree->oldest = YK_NODE_NONE;
    tree->salt = salt;
}

/* Hangs all of `sub` that is older than id under id's older side, and the rest under its other. */
static void split_under(struct yk_policy_space *space, struct yk_tree *tree, uint32_t sub,
                        uint32_t id) {
    struct slot older = {id, OLDER}, younger = {id, YOUNGER};
    while (sub != YK_NODE_NONE) {
        if (is_older(space, sub, id)) {
            slot_set(space, tree, older, sub);
            older = (struct slot){sub, YOUNGER};
            sub = slot_get(space, tree, older);
        } else {
            slot_set(space, tree, younger, sub);
            younger = (struct slot){sub, OLDER};
            sub = slot_get(space, tree, younger);
        }
    }
    slot_set(space, tree, older, YK_NODE_NONE);
    slot_set(space, tree, younger, YK_NODE_NONE);
}

void yk_tree_insert(struct yk_policy_space *space, struct yk_tree *tree, uint32_t id) {
    uint32_t prio = priority(tree, id);
    struct slot at = {YK_NODE_NONE, OLDER};
    uint32_t cur = tree->root;
    while (cur != YK_NODE_NONE && priority(tree, cur) >= prio) {
        at = (struct slot){cur, is_older(space, id, cur) ? OLDER : YOUNGER};
        cur = slot_get(space, tree, at);
    }
    slot_set(space, tree, at, id);
    split_under(space, tree, cur, id);
    if (tree->oldest == YK_NODE_NONE || is_older(space, id, tree->oldest))
        tree->oldest = id;
}

/* Puts the two subtrees into one slot; everything in `x` is older than everything in `y`. */
static void merge_into(struct yk_policy_space *space, struct yk_tree *tree, struct slot at,
                       uint32_t x, uint32_t y) {
    while (x != YK_NODE_NONE && y != YK_NODE_NONE) {
        if (priority(tree, x) >= priority(tree, y)) {
            slot_set(space, tree, at, x);
            at = (struct slot){x, YOUNGER};
            x = slot_get(space, tree, at);
        } else {
            slot_set(space, tree, at, y);
            at = (struct slot){y, OLDER};
            y = slot_get(space, tree, at);
        }
    }
    slot_set(space, tree, at, x != YK_NODE_NONE ? x : y);
}

static uint32_t find_oldest(const struct yk_policy_space *space, const struct yk_tree *tree) {
    uint32_t cur = tree->root;
    while (cur != YK_NODE_NONE && yk_node_at(space, cur)->a != YK_NODE_NONE)
        cur = yk_node_at(space, cur)->a;
    return cur;
}

void yk_tree_erase(struct yk_policy_space *space, struct yk_tree *tree, uint32_t id) {
    struct slot at = {YK_NODE_NONE, OLDER};
    uint32_t cur = tree->root;
    while (cur != id) {
        assert(cur != YK_NODE_NONE);
        at = (struct slot){cur, is_older(space, id, cur) ? OLDER : YOUNGER};
        cur = slot_get(space, tree, at);
    }
    merge_into(space, tree, at, yk_node_at(space, id)->a, yk_node_at(space, id)->b);
    if (tree->oldest == id)
        tree->oldest = find_oldest(space, tree);
}
