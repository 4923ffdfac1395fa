/* SPDX-License-Identifier: Apache-2.0
 *
 * The chain policies: a block never leaves before its descendants, chain-lru is exactly the oldest
 * leaf, and keeping chains whole does not cost hits.
 */
#include "testing.h"

#include "hit_sim.h"
#include "trace/gen.h"

#define IDS 200

static struct yk_policy *make_tree(const char *name, struct yk_policy_space *space) {
    /* 0 - 1 - 2 - 3
     *       \ 4      */
    struct yk_policy *p = make_policy(name, space, IDS);
    insert_block(p, 0, YK_POLICY_NONE);
    insert_block(p, 1, 0);
    insert_block(p, 2, 1);
    insert_block(p, 3, 2);
    insert_block(p, 4, 1);
    return p;
}

static void leaves_first_even_if_only_they_are_used(void **state) {
    (void)state;
    const char *const names[] = {"chain-lru", "chain-s3fifo"};
    for (int n = 0; n < 2; n++) {
        struct yk_policy_space *space = make_space(IDS);
        struct yk_policy *p = make_tree(names[n], space);
        for (int i = 0; i < 5; i++)
            yk_policy_access(p, 3); /* and not its ancestors */
        const uint32_t order[] = {4, 3, 2, 1, 0};
        for (int i = 0; i < 5; i++) {
            assert_int_equal(next_victim(p, take_all, NULL), order[i]);
            evict_block(p, order[i]);
        }
        yk_policy_free(p);
        yk_policy_space_free(space);
    }
}

static void a_pinned_leaf_protects_its_ancestors(void **state) {
    (void)state;
    const char *const names[] = {"chain-lru", "chain-s3fifo"};
    for (int n = 0; n < 2; n++) {
        struct yk_policy_space *space = make_space(IDS);
        struct yk_policy *p = make_tree(names[n], space);
        static struct pins pins;
        uint32_t id;
        memset(&pins, 0, sizeof(pins));
        pins.pinned[3] = true;
        assert_int_equal(next_victim(p, unless_pinned, &pins), 4);
        evict_block(p, 4);
        assert_int_equal(yk_policy_victim(p, unless_pinned, &pins, &id), -YK_EAGAIN);
        pins.pinned[3] = false;
        assert_int_equal(next_victim(p, unless_pinned, &pins), 3);
        yk_policy_free(p);
        yk_policy_space_free(space);
    }
}

static void children_may_come_before_their_parents(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy("chain-lru", space, IDS);
    insert_block(p, 2, 1); /* tail first; 1 and 0 are reserved */
    insert_block(p, 1, 0);
    insert_block(p, 0, YK_POLICY_NONE);
    yk_policy_access(p, 2);
    for (uint32_t id = 2; id + 1 > 0; id--) {
        assert_int_equal(next_victim(p, take_all, NULL), id);
        evict_block(p, id);
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
}

static void plain_policies_ignore_parents(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_tree("lru", space);
    for (uint32_t id = 0; id < 5; id++) {
        assert_int_equal(next_victim(p, take_all, NULL), id);
        evict_block(p, id);
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* A plain table with linear search; accesses go to single blocks at random, so parents are often
 * older than their children, which a leading run would not do. */
struct table {
    bool in[IDS];
    uint32_t parent[IDS];
    uint64_t used[IDS], clock;
};

static bool is_leaf(const struct table *t, uint32_t id) {
    for (uint32_t c = 0; c < IDS; c++)
        if (t->in[c] && t->parent[c] == id)
            return false;
    return t->in[id];
}

static uint32_t oldest_leaf(const struct table *t) {
    uint32_t best = YK_POLICY_NONE;
    for (uint32_t id = 0; id < IDS; id++)
        if (is_leaf(t, id) && (best == YK_POLICY_NONE || t->used[id] < t->used[best]))
            best = id;
    return best;
}

static void chain_lru_is_the_oldest_leaf(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy("chain-lru", space, IDS);
    static struct table t;
    uint64_t rng = 57;
    memset(&t, 0, sizeof(t));
    for (int i = 0; i < 20000; i++) {
        uint32_t id = random_below(&rng, IDS), what = random_below(&rng, 100);
        uint32_t parent = random_below(&rng, IDS);
        if (what < 65 && t.in[id]) {
            yk_policy_access(p, id);
            t.used[id] = ++t.clock;
        } else if (what < 65) {
            t.parent[id] = t.in[parent] ? parent : YK_POLICY_NONE;
            insert_block(p, id, t.parent[id]);
            t.in[id] = true;
            t.used[id] = ++t.clock;
        } else if (what < 70 && is_leaf(&t, id)) {
            yk_policy_remove(p, id);
            t.in[id] = false;
        } else if (what >= 70) {
            uint32_t victim = next_victim(p, take_all, NULL);
            assert_int_equal(victim, oldest_leaf(&t));
            if (victim == YK_POLICY_NONE)
                continue;
            evict_block(p, victim);
            t.in[victim] = false;
        }
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
}

static uint64_t total; /* blocks of the trace that hits_of ran last */

static uint64_t hits_of(const char *name, int kind, uint32_t capacity, enum hit_sim_order order) {
    const struct yk_policy_ops *ops = yk_policy_find(name);
    struct hit_sim *sim = hit_sim_new(ops, capacity, order);
    hit_sim_generate(kind, 12, 1500, hit_sim_feed, sim);
    uint64_t hits = hit_sim_hits(sim);
    total = hit_sim_total(sim);
    assert_true(hits > 0 && hits < total);
    if (ops->caps & YK_POLICY_CAP_CHAIN)
        assert_int_equal(hit_sim_orphaned(sim), 0);
    hit_sim_free(sim);
    return hits;
}

/* Tail first, an exact LRU never holds a block without its ancestors anyway: the counts are equal.
 * Head first it does, and keeping the chain whole is worth hits. */
static void whole_chains_cost_lru_nothing(void **state) {
    (void)state;
    for (int kind = -1; kind < YK_TRACE_KINDS; kind++) {
        for (uint32_t capacity = 100; capacity <= 1600; capacity *= 4) {
            uint64_t plain = hits_of("lru", kind, capacity, TAIL_FIRST);
            assert_int_equal(hits_of("chain-lru", kind, capacity, TAIL_FIRST), plain);
            plain = hits_of("lru", kind, capacity, HEAD_FIRST);
            assert_true(hits_of("chain-lru", kind, capacity, HEAD_FIRST) >= plain);
        }
    }
}

/* S3-FIFO does hold blocks without their ancestors, and its order changes with the candidates, so
 * a small loss at some capacity is no fault; on multi-turn traces it is to be a gain in the sum. */
static void whole_chains_pay_with_s3fifo(void **state) {
    (void)state;
    const int kinds[] = {YK_TRACE_CHAT, YK_TRACE_AGENT};
    for (int i = 0; i < 2; i++) {
        uint64_t plain = 0, chain = 0;
        for (uint32_t capacity = 100; capacity <= 1600; capacity *= 2) {
            uint64_t p = hits_of("s3fifo", kinds[i], capacity, TAIL_FIRST);
            uint64_t c = hits_of("chain-s3fifo", kinds[i], capacity, TAIL_FIRST);
            assert_true(c + total / 100 >= p); /* a point at most */
            plain += p;
            chain += c;
        }
        assert_true(chain >= plain);
    }
}

static void what_is_cut_off_goes_first(void **state) {
    (void)state;
    const char *const names[] = {"chain-lru", "chain-s3fifo"};
    for (int n = 0; n < 2; n++) {
        struct yk_policy_space *space = make_space(IDS);
        struct yk_policy *p = make_tree(names[n], space);
        insert_block(p, 8, YK_POLICY_NONE); /* the oldest leaf is 3, of the tree */
        assert_int_equal(insert_cut_off(p, 5, YK_POLICY_NONE), 0);
        insert_block(p, 6, 5); /* of one that is cut off: so it is, too */
        insert_block(p, 7, 6);
        insert_cut_off(p, 9, YK_POLICY_NONE);
        yk_policy_access(p, 4);
        const uint32_t order[] = {9, 7, 6, 5};
        for (int i = 0; i < 4; i++) {
            assert_int_equal(next_victim(p, take_all, NULL), order[i]);
            evict_block(p, order[i]);
        }
        assert_int_equal(next_victim(p, take_all, NULL), 3);
        /* A hold lets it stay as one that was used. */
        static struct pins pins;
        memset(&pins, 0, sizeof(pins));
        pins.pinned[10] = true;
        insert_cut_off(p, 10, YK_POLICY_NONE);
        assert_int_equal(next_victim(p, unless_pinned, &pins), 3);
        assert_int_equal(next_victim(p, take_all, NULL), 3);
        yk_policy_free(p);
        yk_policy_space_free(space);
    }
}

/* Each block of a chain costs a victim before it comes in, and names the one before it. */
static void a_chain_longer_than_memory_keeps_its_head(void **state) {
    (void)state;
    const char *const names[] = {"chain-lru", "chain-s3fifo"};
    for (int n = 0; n < 2; n++)
        for (uint32_t batch = 1; batch <= 8; batch *= 2) {
            struct yk_policy_space *space = make_space(IDS);
            struct yk_policy *p = make_policy(names[n], space, IDS);
            bool in[IDS] = {false};
            for (uint32_t id = 0; id < IDS; id++) {
                if (yk_policy_count(p) >= 50)
                    for (uint32_t i = 0; i < batch; i++) {
                        uint32_t gone = next_victim(p, take_all, NULL);
                        evict_block(p, gone);
                        in[gone] = false;
                    }
                if (id == 0 || in[id - 1])
                    insert_block(p, id, id == 0 ? YK_POLICY_NONE : id - 1);
                else
                    insert_cut_off(p, id, YK_POLICY_NONE);
                in[id] = true;
            }
            uint32_t run = 0;
            while (in[run])
                run++;
            assert_in_range(run, 50 - batch, 50);
            yk_policy_free(p);
            yk_policy_space_free(space);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_first_even_if_only_they_are_used),
        cmocka_unit_test(a_pinned_leaf_protects_its_ancestors),
        cmocka_unit_test(children_may_come_before_their_parents),
        cmocka_unit_test(what_is_cut_off_goes_first),
        cmocka_unit_test(a_chain_longer_than_memory_keeps_its_head),
        cmocka_unit_test(plain_policies_ignore_parents),
        cmocka_unit_test(chain_lru_is_the_oldest_leaf),
        cmocka_unit_test(whole_chains_cost_lru_nothing),
        cmocka_unit_test(whole_chains_pay_with_s3fifo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
