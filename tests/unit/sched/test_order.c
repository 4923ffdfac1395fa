/* SPDX-License-Identifier: Apache-2.0
 *
 * The ordered queues under all policies: at every step of random streams the oldest candidate is
 * the one that a plain array with linear search finds.
 */
#include "testing.h"

#include "sched/order_priv.h"

#define IDS 300

/* The model: what is in, since when, and who named whom as its parent. */
struct model {
    struct {
        bool in;
        uint32_t queue, parent;
        uint64_t stamp;
    } of[IDS];
    uint64_t clock;
};

static uint32_t model_children(const struct model *m, uint32_t id) {
    uint32_t n = 0;
    for (uint32_t c = 0; c < IDS; c++)
        n += m->of[c].in && m->of[c].parent == id;
    return n;
}

static bool model_descends(const struct model *m, uint32_t id, uint32_t from) {
    while (id != YK_POLICY_NONE && id != from && m->of[id].in)
        id = m->of[id].parent;
    return id == from;
}

static uint32_t model_oldest(const struct model *m, uint32_t queue) {
    uint32_t best = YK_NODE_NONE;
    bool is_parent[IDS] = {false};
    for (uint32_t id = 0; id < IDS; id++)
        if (m->of[id].in && m->of[id].parent != YK_POLICY_NONE)
            is_parent[m->of[id].parent] = true;
    for (uint32_t id = 0; id < IDS; id++)
        if (m->of[id].in && m->of[id].queue == queue && !is_parent[id] &&
            (best == YK_NODE_NONE || m->of[id].stamp < m->of[best].stamp))
            best = id;
    return best;
}

static void enter_both(struct yk_order *o, struct model *m, uint32_t queue, uint32_t id,
                       uint32_t parent) {
    bool cycle =
        model_children(m, id) > 0 && parent != YK_POLICY_NONE && model_descends(m, parent, id);
    yk_order_enter(o, queue, id, parent);
    m->of[id].in = true;
    m->of[id].queue = queue;
    m->of[id].parent = cycle ? YK_POLICY_NONE : parent;
    m->of[id].stamp = ++m->clock;
}

static void leave_both(struct yk_order *o, struct model *m, uint32_t id) {
    yk_order_leave(o, id);
    m->of[id].in = false;
}

static void renew_both(struct yk_order *o, struct model *m, uint32_t queue, uint32_t id) {
    yk_order_renew(o, queue, id);
    m->of[id].queue = queue;
    m->of[id].stamp = ++m->clock;
}

static void one_step(struct yk_order *o, struct model *m, uint64_t *rng, uint32_t chained_percent) {
    uint32_t id = random_below(rng, IDS), queue = random_below(rng, 2);
    uint32_t what = random_below(rng, 100);
    uint32_t parent =
        random_below(rng, 100) < chained_percent ? random_below(rng, IDS) : YK_POLICY_NONE;
    if (!m->of[id].in) {
        if (what < 60 && parent != id)
            enter_both(o, m, queue, id, parent);
    } else if (what < 50) {
        renew_both(o, m, queue, id);
    } else if (what < 60) {
        leave_both(o, m, id); /* whether it has children or not */
    } else if (what < 80) {
        uint32_t oldest = yk_order_oldest(o, queue);
        if (oldest != YK_NODE_NONE)
            leave_both(o, m, oldest);
    }
}

static void check_oldest(const struct yk_order *o, const struct model *m) {
    for (uint32_t q = 0; q < YK_ORDER_QUEUES; q++)
        assert_int_equal(yk_order_oldest(o, q), model_oldest(m, q));
}

/* Leaves in order until nothing is left: nobody waits for ever. */
static void drain(struct yk_order *o, struct model *m) {
    while (yk_order_count(o) > 0) {
        uint32_t queue = yk_order_oldest(o, 0) != YK_NODE_NONE ? 0 : 1;
        check_oldest(o, m);
        assert_int_not_equal(yk_order_oldest(o, queue), YK_NODE_NONE);
        leave_both(o, m, yk_order_oldest(o, queue));
    }
    assert_int_equal(yk_order_candidates(o), 0);
}

static void equals_linear_search(void **state) {
    (void)state;
    uint64_t rng = 0x9e3779b9;
    for (uint32_t chained = 0; chained <= 100; chained += 25) {
        struct yk_policy_space *space = make_space(IDS);
        struct yk_order o;
        struct model m = {0};
        assert_int_equal(yk_order_init(&o, space, chained), 0);
        for (int i = 0; i < 6000; i++) {
            one_step(&o, &m, &rng, chained);
            check_oldest(&o, &m);
        }
        drain(&o, &m);
        yk_policy_space_free(space);
    }
}

/* Each ancestor is older than all of the list when its last child leaves, and younger than what was there before it. */
static void a_chain_goes_whole_from_its_tail(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(8);
    struct yk_order o;
    assert_int_equal(yk_order_init(&o, space, 1), 0);
    yk_order_enter(&o, 0, 0, YK_POLICY_NONE); /* older than the chain */
    yk_order_enter(&o, 0, 1, YK_POLICY_NONE);
    yk_order_enter(&o, 0, 2, 1);
    yk_order_enter(&o, 0, 3, 2);
    yk_order_enter(&o, 0, 4, YK_POLICY_NONE); /* younger */
    yk_order_enter(&o, 0, 5, 4);
    uint32_t order[] = {0, 3, 2, 1, 5, 4};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(yk_order_oldest(&o, 0), order[i]);
        yk_order_leave(&o, order[i]);
    }
    assert_int_equal(yk_order_candidates(&o), 0);
    yk_policy_space_free(space);
}

static void a_parent_returns_to_the_place_of_its_last_access(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(8);
    struct yk_order o;
    assert_int_equal(yk_order_init(&o, space, 1), 0);
    yk_order_enter(&o, 0, 0, YK_POLICY_NONE); /* older than the parent */
    yk_order_enter(&o, 0, 1, YK_POLICY_NONE); /* the parent */
    yk_order_enter(&o, 0, 2, YK_POLICY_NONE); /* younger */
    yk_order_enter(&o, 0, 3, 1);              /* the child */
    assert_int_equal(yk_order_candidates(&o), 3);
    yk_order_leave(&o, 3);
    uint32_t order[] = {0, 1, 2};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(yk_order_oldest(&o, 0), order[i]);
        yk_order_leave(&o, order[i]);
    }
    yk_policy_space_free(space);
}

static void an_id_with_orphans_never_waits_in_a_circle(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(8);
    struct yk_order o;
    assert_int_equal(yk_order_init(&o, space, 1), 0);
    yk_order_enter(&o, 0, 0, YK_POLICY_NONE);
    yk_order_enter(&o, 0, 1, 0);
    yk_order_leave(&o, 0);       /* 1 is an orphan of id 0 */
    yk_order_enter(&o, 0, 0, 1); /* and its new child has that very id */
    assert_int_equal(yk_order_oldest(&o, 0), 1);
    yk_order_leave(&o, 1);
    assert_int_equal(yk_order_oldest(&o, 0), 0);
    yk_order_leave(&o, 0);
    assert_int_equal(yk_order_count(&o), 0);
    yk_policy_space_free(space);
}

static void another_instance_disowns_orphans(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(8);
    struct yk_order x, y;
    assert_int_equal(yk_order_init(&x, space, 1), 0);
    assert_int_equal(yk_order_init(&y, space, 2), 0);
    yk_order_enter(&x, 0, 0, YK_POLICY_NONE);
    yk_order_enter(&x, 0, 1, 0);
    yk_order_leave(&x, 0);
    yk_order_enter(&y, 0, 0, YK_POLICY_NONE); /* the id goes to the other instance */
    assert_int_equal(yk_order_oldest(&y, 0), 0);
    yk_order_enter(&y, 0, 2, 0);
    yk_order_leave(&x, 1); /* the orphan's end is no business of y's */
    assert_int_equal(yk_order_oldest(&y, 0), 2);
    yk_order_leave(&y, 2);
    assert_int_equal(yk_order_oldest(&y, 0), 0);
    assert_int_equal(yk_order_count(&x), 0);
    yk_policy_space_free(space);
}

/* Two instances trade ids at random, with stale parents among them. There is no model for it: both
 * must count right and come to an end. */
static void instances_trade_ids(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_order o[2];
    int owner[IDS];
    uint32_t in[2] = {0, 0};
    uint64_t rng = 77;
    memset(owner, -1, sizeof(owner));
    assert_int_equal(yk_order_init(&o[0], space, 1), 0);
    assert_int_equal(yk_order_init(&o[1], space, 2), 0);
    for (int i = 0; i < 40000; i++) {
        uint32_t id = random_below(&rng, IDS), parent = random_below(&rng, IDS);
        int side = (int)random_below(&rng, 2);
        if (owner[id] >= 0) {
            in[owner[id]]--;
            yk_order_leave(&o[owner[id]], id);
            owner[id] = -1;
        } else if (parent != id) {
            yk_order_enter(&o[side], 0, id, parent);
            owner[id] = side;
            in[side]++;
        }
        assert_int_equal(yk_order_count(&o[0]), in[0]);
        assert_int_equal(yk_order_count(&o[1]), in[1]);
    }
    for (int side = 0; side < 2; side++)
        for (; in[side] > 0; in[side]--)
            yk_order_leave(&o[side], yk_order_oldest(&o[side], 0));
    assert_int_equal(yk_order_count(&o[0]) + yk_order_count(&o[1]), 0);
    yk_policy_space_free(space);
}

static void make_chain(struct yk_order *o, uint32_t first, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        yk_order_enter(o, 0, first + i, i > 0 ? first + i - 1 : YK_POLICY_NONE);
}

static void ancestors_are_followed_to_a_limit(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(2 * YK_ORDER_ANCESTORS_MAX);
    struct yk_order o;
    assert_int_equal(yk_order_init(&o, space, 1), 0);
    uint32_t tail = 10 + YK_ORDER_ANCESTORS_MAX;
    make_chain(&o, 10, YK_ORDER_ANCESTORS_MAX + 1);
    yk_order_enter(&o, 0, 0, YK_POLICY_NONE);
    yk_order_enter(&o, 0, 1, 0);
    yk_order_leave(&o, 0);
    yk_order_enter(&o, 0, 0, tail); /* id 0 has an orphan, so the chain is followed: too far */
    assert_int_equal(yk_node_at(space, tail)->place, YK_NODE_LISTED);
    yk_order_leave(&o, 0);
    yk_order_enter(&o, 0, 0, tail - 10);
    assert_int_equal(yk_node_at(space, 0)->parent, tail - 10);
    yk_policy_space_free(space);
}

/* Stars of ten: their centres wait in the tree once their points are gone. */
static void make_stars(struct yk_order *o, uint32_t first, uint32_t end) {
    for (uint32_t id = first; id < end; id++)
        yk_order_enter(o, 0, id, id % 10 != 0 ? id - id % 10 : YK_POLICY_NONE);
    for (uint32_t id = first; id < end; id++)
        if (id % 10 != 0)
            yk_order_leave(o, id);
}

/* Time passes by leaps no longer than the sweep over all ids allows for. */
static void let_time_pass(struct yk_order *o, uint64_t ticks) {
    const uint64_t leap = YK_NODE_AGE_MAX / 4;
    for (uint64_t passed = 0; passed < ticks; passed += leap) {
        o->space->clock += leap;
        for (uint32_t i = 0; i < IDS; i++)
            yk_order_renew(o, 0, IDS - 1); /* a tick for each id */
    }
}

static void the_old_stay_older_than_the_young(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_order o;
    assert_int_equal(yk_order_init(&o, space, 1), 0);
    yk_order_enter(&o, 0, IDS - 1, YK_POLICY_NONE);
    make_stars(&o, 0, 100);
    for (uint32_t id = 101; id < 110; id++) /* and some in the list */
        yk_order_enter(&o, 0, id, YK_POLICY_NONE);
    let_time_pass(&o, 39 * YK_NODE_AGE_MAX / 2);
    make_stars(&o, 200, 250);
    let_time_pass(&o, 3 * YK_NODE_AGE_MAX / 4);
    make_stars(&o, 250, 280);
    for (uint32_t i = 0; i < 19; i++) { /* 10 centres, 9 of the list, in an order that is lost */
        assert_in_range(yk_order_oldest(&o, 0), 0, 110);
        yk_order_leave(&o, yk_order_oldest(&o, 0));
    }
    for (uint32_t id = 200; id < 280; id += 10) {
        assert_int_equal(yk_order_oldest(&o, 0) == IDS - 1, id == 250);
        if (id == 250)
            yk_order_leave(&o, IDS - 1);
        assert_int_equal(yk_order_oldest(&o, 0), id);
        yk_order_leave(&o, id);
    }
    assert_int_equal(yk_order_count(&o), 0);
    yk_policy_space_free(space);
}

static void aging_passes_over_instances_that_are_gone(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_order gone, o;
    assert_int_equal(yk_order_init(&gone, space, 1), 0);
    make_stars(&gone, 0, 100);
    yk_order_fini(&gone);
    assert_int_equal(yk_order_init(&o, space, 2), 0);
    assert_int_not_equal(o.slot, gone.slot);
    assert_false(yk_order_has(&o, 0));
    assert_int_equal(yk_order_may_enter(&o, 0, YK_POLICY_NONE), -YK_EBUSY);
    yk_order_enter(&o, 0, IDS - 1, YK_POLICY_NONE);
    let_time_pass(&o, 3 * YK_NODE_AGE_MAX);
    assert_int_equal(yk_order_oldest(&o, 0), IDS - 1);
    yk_policy_space_free(space);
}

static void a_stale_parent_is_none(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(8);
    struct yk_order x, y;
    assert_int_equal(yk_order_init(&x, space, 1), 0);
    assert_int_equal(yk_order_init(&y, space, 2), 0);
    yk_order_enter(&x, 0, 0, YK_POLICY_NONE);
    yk_order_enter(&y, 0, 1, 0); /* id 0 was y's once */
    assert_int_equal(yk_order_oldest(&x, 0), 0);
    assert_int_equal(yk_order_oldest(&y, 0), 1);
    yk_order_enter(&x, 0, 2, 0);
    yk_order_leave(&y, 1);
    assert_int_equal(yk_order_oldest(&x, 0), 2);
    yk_order_leave(&x, 2);
    assert_int_equal(yk_order_oldest(&x, 0), 0);
    yk_policy_space_free(space);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_linear_search),
        cmocka_unit_test(a_parent_returns_to_the_place_of_its_last_access),
        cmocka_unit_test(an_id_with_orphans_never_waits_in_a_circle),
        cmocka_unit_test(another_instance_disowns_orphans),
        cmocka_unit_test(instances_trade_ids),
        cmocka_unit_test(ancestors_are_followed_to_a_limit),
        cmocka_unit_test(a_chain_goes_whole_from_its_tail),
        cmocka_unit_test(the_old_stay_older_than_the_young),
        cmocka_unit_test(aging_passes_over_instances_that_are_gone),
        cmocka_unit_test(a_stale_parent_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
