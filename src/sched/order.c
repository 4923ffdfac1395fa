/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues of leaves, and the child counts that decide who is one. See order_priv.h; the places a
 * node can be in and their invariants are in space_priv.h.
 */
#include "sched/order_priv.h"

#include <assert.h>

static void list_push(struct yk_order *o, struct yk_order_queue *q, uint32_t id) {
    struct yk_node *n = yk_node_at(o->space, id);
    n->a = q->youngest;
    n->b = YK_NODE_NONE;
    if (q->youngest != YK_NODE_NONE)
        yk_node_at(o->space, q->youngest)->b = id;
    else
        q->oldest = id;
    q->youngest = id;
}

static void list_push_old(struct yk_order *o, struct yk_order_queue *q, uint32_t id) {
    struct yk_node *n = yk_node_at(o->space, id);
    n->a = YK_NODE_NONE;
    n->b = q->oldest;
    if (q->oldest != YK_NODE_NONE)
        yk_node_at(o->space, q->oldest)->a = id;
    else
        q->youngest = id;
    q->oldest = id;
}

static void list_unlink(struct yk_order *o, struct yk_order_queue *q, const struct yk_node *n) {
    if (n->a != YK_NODE_NONE)
        yk_node_at(o->space, n->a)->b = n->b;
    else
        q->oldest = n->b;
    if (n->b != YK_NODE_NONE)
        yk_node_at(o->space, n->b)->a = n->a;
    else
        q->youngest = n->a;
}

/* Is it older than all of the list, so that its place is the list's old end? What yields is, and so is the next to go of a
 * chain that goes from its tail: those never see the tree. */
static bool is_older_than_list(const struct yk_order *o, const struct yk_order_queue *q, const struct yk_node *n) {
    return q->oldest != YK_NODE_NONE &&
           yk_node_stamp(o->space, n) < yk_node_stamp(o->space, yk_node_at(o->space, q->oldest));
}

/* The node becomes a candidate: as the youngest, or at the place of its stamp. */
static void join(struct yk_order *o, uint32_t id, enum yk_node_place place) {
    struct yk_node *n = yk_node_at(o->space, id);
    struct yk_order_queue *q = &o->queues[n->queue];
    bool at_old_end = place == YK_NODE_RETURNED && is_older_than_list(o, q, n);
    n->place = at_old_end ? YK_NODE_LISTED : place;
    q->candidates++;
    if (at_old_end)
        list_push_old(o, q, id);
    else if (place == YK_NODE_LISTED)
        list_push(o, q, id);
    else
        yk_tree_insert(o->space, &q->returned, id);
}

/* The candidate stops being one; the caller sets its place and what a and b mean there. */
static void part(struct yk_order *o, uint32_t id) {
    struct yk_node *n = yk_node_at(o->space, id);
    struct yk_order_queue *q = &o->queues[n->queue];
    assert(n->place == YK_NODE_LISTED || n->place == YK_NODE_RETURNED);
    q->candidates--;
    if (n->place == YK_NODE_LISTED)
        list_unlink(o, q, n);
    else
        yk_tree_erase(o->space, &q->returned, id);
}

/* Children that this instance has counted for the id. */
static uint32_t known_children(const struct yk_order *o, const struct yk_node *n) {
    bool counts = n->place == YK_NODE_ABSENT || n->place == YK_NODE_INNER;
    return counts && n->b == o->tag ? n->a : 0;
}

static void attach(struct yk_order *o, uint32_t id, uint32_t parent_id) {
    struct yk_node *parent = yk_node_at(o->space, parent_id);
    uint32_t children = known_children(o, parent);
    if (parent->place != YK_NODE_ABSENT && !yk_order_owns(o, parent))
        return; /* a stale link: the id is another instance's by now */
    if (parent->place == YK_NODE_LISTED || parent->place == YK_NODE_RETURNED) {
        part(o, parent_id);
        parent->place = YK_NODE_INNER;
    }
    parent->a = children + 1;
    parent->b = o->tag;
    yk_node_at(o->space, id)->parent = parent_id;
}

static void detach(struct yk_order *o, uint32_t parent_id) {
    struct yk_node *parent = yk_node_at(o->space, parent_id);
    if (known_children(o, parent) == 0)
        return; /* disowned: another instance has had the id since */
    parent->a = parent->a - 1;
    if (parent->a == 0 && parent->place == YK_NODE_INNER)
        join(o, parent_id, YK_NODE_RETURNED);
}

static bool descends_from(const struct yk_order *o, uint32_t id, uint32_t ancestor) {
    for (unsigned i = 0; i < YK_ORDER_ANCESTORS_MAX; i++) {
        if (id == ancestor)
            return true;
        if (id == YK_NODE_NONE || !yk_order_owns(o, yk_node_at(o->space, id)))
            return false;
        id = yk_node_at(o->space, id)->parent;
    }
    return true;
}

/* Keeps one id from growing too old to tell (space_priv.h). It stays older than all the young; what
 * it may be moved past in the tree is as old itself. */
static void age_next(struct yk_policy_space *space) {
    uint32_t id = space->aging_id;
    space->aging_id = id + 1 < space->used_ids ? id + 1 : 0;
    struct yk_node *n = yk_node_at(space, id);
    if (n->place == YK_NODE_ABSENT || space->clock - yk_node_stamp(space, n) <= YK_NODE_AGE_MAX)
        return;
    struct yk_order *o = space->owners[n->owner].order;
    struct yk_tree *tree = NULL;
    if (o != NULL && n->place == YK_NODE_RETURNED)
        tree = &o->queues[n->queue].returned;
    if (tree != NULL)
        yk_tree_erase(space, tree, id);
    yk_node_set_stamp(n, space->clock - YK_NODE_AGE_MAX);
    if (tree != NULL)
        yk_tree_insert(space, tree, id);
}

/* The node is in no list or tree. */
static void stamp(struct yk_order *o, struct yk_node *n) {
    o->space->clock++;
    yk_node_set_stamp(n, o->space->clock);
    age_next(o->space);
}

int yk_order_init(struct yk_order *o, struct yk_policy_space *space, uint64_t seed) {
    uint32_t slot = 0;
    while (slot < YK_POLICY_INSTANCES_MAX && space->owners[slot].taken)
        slot++;
    if (slot == YK_POLICY_INSTANCES_MAX)
        return -YK_ELIMIT;
    space->owners[slot].order = o;
    space->owners[slot].taken = true;
    space->last_tag = space->last_tag % (YK_POLICY_IDS_MAX - 1) + 1;
    o->space = space;
    o->slot = slot;
    o->tag = space->last_tag;
    for (int i = 0; i < YK_ORDER_QUEUES; i++) {
        struct yk_order_queue *q = &o->queues[i];
        *q = (struct yk_order_queue){.oldest = YK_NODE_NONE, .youngest = YK_NODE_NONE};
        yk_tree_init(&q->returned, (uint32_t)(seed ^ (seed >> 32)));
    }
    return 0;
}

void yk_order_fini(struct yk_order *o) {
    o->space->owners[o->slot].order = NULL;
    o->space->owners[o->slot].taken = yk_order_count(o) > 0;
}

int yk_order_may_enter(const struct yk_order *o, uint32_t id, uint32_t parent_id) {
    uint32_t max_ids = o->space->max_ids;
    if (id >= max_ids || (parent_id != YK_POLICY_NONE && parent_id >= max_ids) || parent_id == id)
        return -YK_EINVAL;
    return yk_node_at(o->space, id)->place == YK_NODE_ABSENT ? 0 : -YK_EBUSY;
}

/* The oldest stamp that can be told from a young one. */
static uint64_t oldest_stamp(const struct yk_policy_space *space) {
    return space->clock > YK_NODE_AGE_MAX ? space->clock - YK_NODE_AGE_MAX : 0;
}

bool yk_order_is_cut_off(const struct yk_order *o, uint32_t id) {
    return id < o->space->max_ids && yk_order_has(o, id) &&
           yk_node_stamp(o->space, yk_node_at(o->space, id)) <= oldest_stamp(o->space);
}

static void enter(struct yk_order *o, uint32_t queue, uint32_t id, uint32_t parent_id,
                  bool cut_off) {
    struct yk_node *n = yk_node_at(o->space, id);
    uint32_t children = known_children(o, n);
    assert(n->place == YK_NODE_ABSENT);
    n->parent = YK_NODE_NONE;
    n->queue = queue;
    n->freq = 0;
    n->owner = o->slot;
    o->queues[queue].count++;
    if (id >= o->space->used_ids)
        o->space->used_ids = id + 1;
    stamp(o, n);
    if (cut_off)
        yk_node_set_stamp(n, oldest_stamp(o->space));
    if (children != 0) {
        n->place = YK_NODE_INNER;
    } else if (cut_off) {
        n->place = YK_NODE_LISTED;
        o->queues[queue].candidates++;
        list_push_old(o, &o->queues[queue], id);
    } else {
        join(o, id, YK_NODE_LISTED);
    }
    if (parent_id != YK_POLICY_NONE && (children == 0 || !descends_from(o, parent_id, id)))
        attach(o, id, parent_id);
}

void yk_order_enter(struct yk_order *o, uint32_t queue, uint32_t id, uint32_t parent_id) {
    enter(o, queue, id, parent_id, false);
}

void yk_order_enter_cut_off(struct yk_order *o, uint32_t queue, uint32_t id, uint32_t parent_id) {
    enter(o, queue, id, parent_id, true);
}

void yk_order_renew(struct yk_order *o, uint32_t queue, uint32_t id) {
    struct yk_node *n = yk_node_at(o->space, id);
    bool is_candidate = n->place != YK_NODE_INNER;
    if (is_candidate)
        part(o, id);
    o->queues[n->queue].count--;
    o->queues[queue].count++;
    n->queue = queue;
    stamp(o, n);
    if (is_candidate)
        join(o, id, YK_NODE_LISTED);
}

void yk_order_yield(struct yk_order *o, uint32_t queue, uint32_t id) {
    struct yk_node *n = yk_node_at(o->space, id);
    bool is_candidate = n->place != YK_NODE_INNER;
    if (is_candidate)
        part(o, id);
    o->queues[n->queue].count--;
    o->queues[queue].count++;
    n->queue = queue;
    yk_node_set_stamp(n, oldest_stamp(o->space));
    if (is_candidate) {
        n->place = YK_NODE_LISTED;
        o->queues[queue].candidates++;
        list_push_old(o, &o->queues[queue], id);
    }
}

void yk_order_leave(struct yk_order *o, uint32_t id) {
    struct yk_node *n = yk_node_at(o->space, id);
    uint32_t parent_id = n->parent;
    o->queues[n->queue].count--;
    if (n->place != YK_NODE_INNER) {
        part(o, id);
        n->a = 0;
        n->b = 0;
    }
    n->place = YK_NODE_ABSENT;
    if (parent_id != YK_NODE_NONE)
        detach(o, parent_id);
}

uint32_t yk_order_oldest(const struct yk_order *o, uint32_t queue) {
    const struct yk_order_queue *q = &o->queues[queue];
    uint32_t listed = q->oldest, returned = q->returned.oldest;
    if (listed == YK_NODE_NONE || returned == YK_NODE_NONE)
        return listed != YK_NODE_NONE ? listed : returned;
    uint64_t sl = yk_node_stamp(o->space, yk_node_at(o->space, listed));
    uint64_t sr = yk_node_stamp(o->space, yk_node_at(o->space, returned));
    return sr < sl ? returned : listed;
}

int yk_order_victim(struct yk_order *o, yk_policy_can_fn can, void *arg, uint32_t max_steps, uint32_t *ret_id) {
    uint32_t candidates = yk_order_candidates(o);
    if (candidates == 0)
        return YK_MISS;
    for (uint32_t step = 0; step < max_steps && step < candidates; step++) {
        uint32_t id = yk_order_oldest(o, 0);
        if (can(arg, id) == YK_POLICY_TAKE) {
            *ret_id = id;
            return 0;
        }
        yk_order_renew(o, 0, id);
    }
    return -YK_EAGAIN;
}

int yk_order_peek(const struct yk_order *o, uint32_t id, uint64_t *ret_stamp) {
    if (id == YK_NODE_NONE)
        return YK_MISS;
    *ret_stamp = yk_node_stamp(o->space, yk_node_at(o->space, id));
    return 0;
}
