/* SPDX-License-Identifier: Apache-2.0
 *
 * The keeper: who goes is who is predicted least by the trees of now, also where what looks alike was scored before.
 */
#include "testing.h"

#include "sched/keeper_priv.h"

#include <string.h>

struct rig {
    struct yk_history h;
    struct yk_keeper k;
    struct yk_trees *trees;
    uint32_t head, deep; /* records */
};

static uint32_t depth_feature(void) {
    for (uint32_t f = 0; f < YK_TREES_FEATURES; f++)
        if (strcmp(yk_history_feature_names[f], "depth") == 0)
            return f;
    fail_msg("there is no such feature");
    return 0;
}

/* One tree of two leaves: what is deep has the second. */
static void make_trees(struct yk_trees *t, float head, float deep) {
    yk_trees_clear(t);
    uint32_t tree = yk_trees_add(t);
    yk_trees_split(t, tree, 0, YK_TREES_LEAVES / 2, depth_feature(), 10);
    t->leaf[tree][0] = (yk_trees_pair){head, 0};
    t->leaf[tree][YK_TREES_LEAVES / 2] = (yk_trees_pair){deep, 0};
}

static uint32_t add(struct rig *r, uint64_t hash, uint32_t depth) {
    struct yk_history_request q = {.length = 1, .pause_ms = UINT32_MAX};
    yk_history_quantize(&q);
    uint32_t record = yk_history_add(&r->h, hash, depth);
    yk_history_touch(&r->h, record, &q, 0);
    return record;
}

static void rig_open(struct rig *r) {
    memset(r, 0, sizeof(*r));
    r->trees = calloc(1, sizeof(*r->trees));
    assert_int_equal(yk_history_init(&r->h, 100), 0);
    assert_int_equal(yk_keeper_init(&r->k, &r->h, r->trees, 1, 1), 0);
    r->h.request = 1;
    r->deep = add(r, 1, 1000);
    r->head = add(r, 2, 0); /* used last: it stays where nothing is known */
}

static void rig_close(struct rig *r) {
    yk_keeper_fini(&r->k);
    yk_history_fini(&r->h);
    free(r->trees);
}

/* Of the two, where there is room for one. */
static uint32_t who_goes(struct rig *r) {
    uint32_t gone;
    r->h.request++;
    yk_keeper_use(&r->k, r->deep);
    yk_keeper_use(&r->k, r->head);
    assert_true(yk_keeper_trim(&r->k, &gone));
    yk_keeper_drop(&r->k, gone == r->deep ? r->head : r->deep);
    return gone;
}

static void who_is_predicted_least_goes(void **state) {
    struct rig r;
    (void)state;
    rig_open(&r);
    assert_int_equal(who_goes(&r), r.deep); /* no trees: the least recently used */
    make_trees(r.trees, -1, 1);
    yk_keeper_set_trees(&r.k, r.trees);
    assert_int_equal(who_goes(&r), r.head);
    assert_int_equal(who_goes(&r), r.head);
    rig_close(&r);
}

static void other_trees_count_at_once(void **state) {
    struct rig r;
    (void)state;
    rig_open(&r);
    for (int round = 0; round < 4; round++) { /* the same place in memory, and the same features */
        bool deep_stays = round % 2 == 0;
        make_trees(r.trees, deep_stays ? -1 : 1, deep_stays ? 1 : -1);
        yk_keeper_set_trees(&r.k, r.trees);
        assert_int_equal(who_goes(&r), deep_stays ? r.head : r.deep);
    }
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_predicted_least_goes),
        cmocka_unit_test(other_trees_count_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
