/* SPDX-License-Identifier: Apache-2.0
 *
 * lru is exact: against a plain list, on random streams and on generated prefix traces, alone and
 * as several instances of which the oldest gives.
 */
#include "testing.h"

#include "hit_sim.h"
#include "trace/gen.h"

#define IDS 256

/* Most recently used last. */
struct list {
    uint64_t ids[1024];
    uint32_t n;
};

static bool list_drop(struct list *l, uint64_t id) {
    for (uint32_t i = l->n; i > 0; i--) {
        if (l->ids[i - 1] == id) {
            memmove(&l->ids[i - 1], &l->ids[i], (l->n - i) * sizeof(l->ids[0]));
            l->n--;
            return true;
        }
    }
    return false;
}

static void list_push(struct list *l, uint64_t id) {
    l->ids[l->n++] = id;
}

static void random_stream_equals_a_list(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy("lru", space, IDS);
    struct list l = {.n = 0};
    uint64_t rng = 17;
    for (int i = 0; i < 60000; i++) {
        uint32_t id = random_below(&rng, IDS), what = random_below(&rng, 100);
        if (what < 70) {
            bool was_in = list_drop(&l, id);
            list_push(&l, id);
            int rc = was_in ? yk_policy_access(p, id)
                            : insert_block(p, id, id > 0 ? id - 1 : YK_POLICY_NONE);
            assert_int_equal(rc, 0);
        } else if (what < 75) {
            assert_int_equal(yk_policy_remove(p, id), list_drop(&l, id) ? 0 : YK_MISS);
        } else if (l.n > 0) {
            assert_int_equal(next_victim(p, take_all, NULL), l.ids[0]);
            evict_block(p, (uint32_t)l.ids[0]);
            list_drop(&l, l.ids[0]);
        }
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* The definition of a trace's hits, with a list for the cache. */
struct list_sim {
    struct list l;
    uint32_t capacity;
    uint64_t hits, total;
};

static void list_sim_feed(void *arg, const uint64_t *ids, uint32_t n) {
    struct list_sim *s = arg;
    uint32_t hits = 0;
    for (bool present = true; hits < n; hits++) {
        present = false;
        for (uint32_t i = 0; i < s->l.n && !present; i++)
            present = s->l.ids[i] == ids[hits];
        if (!present)
            break;
    }
    for (uint32_t i = n; i > 0; i--) {
        if (!list_drop(&s->l, ids[i - 1]) && s->l.n == s->capacity)
            list_drop(&s->l, s->l.ids[0]);
        list_push(&s->l, ids[i - 1]);
    }
    s->hits += hits;
    s->total += n;
}

static void prefix_traces_equal_a_list(void **state) {
    (void)state;
    static struct list_sim plain;
    for (int kind = -1; kind < YK_TRACE_KINDS; kind++) {
        for (uint32_t capacity = 20; capacity <= 1000; capacity *= 7) {
            struct hit_sim *sim = hit_sim_new(yk_policy_find("lru"), capacity, TAIL_FIRST);
            plain = (struct list_sim){.capacity = capacity};
            hit_sim_generate(kind, 4, 400, hit_sim_feed, sim);
            hit_sim_generate(kind, 4, 400, list_sim_feed, &plain);
            assert_int_equal(hit_sim_total(sim), plain.total);
            assert_int_equal(hit_sim_hits(sim), plain.hits);
            hit_sim_free(sim);
        }
    }
}

#define SHARES 3

static void make_shares(struct yk_policy_space *space, struct yk_policy **shares) {
    for (int i = 0; i < SHARES; i++)
        shares[i] = make_policy("lru", space, IDS);
}

static void free_shares(struct yk_policy_space *space, struct yk_policy **shares) {
    for (int i = 0; i < SHARES; i++)
        yk_policy_free(shares[i]);
    yk_policy_space_free(space);
}

static void oldest_of_several_is_one_lru(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *shares[SHARES];
    struct list l = {.n = 0};
    uint64_t rng = 23;
    make_shares(space, shares);
    for (int i = 0; i < 40000; i++) {
        uint32_t id = random_below(&rng, IDS), victim;
        size_t which;
        if (random_below(&rng, 100) < 70) {
            int rc = list_drop(&l, id) ? yk_policy_access(shares[id % SHARES], id)
                                       : insert_block(shares[id % SHARES], id, YK_POLICY_NONE);
            assert_int_equal(rc, 0);
            list_push(&l, id);
            continue;
        }
        int rc = yk_policy_victim_oldest(shares, SHARES, take_all, NULL, &which, &victim);
        assert_int_equal(rc, l.n > 0 ? 0 : YK_MISS);
        if (rc == YK_MISS)
            continue;
        assert_int_equal(victim, l.ids[0]);
        assert_int_equal(which, victim % SHARES);
        evict_block(shares[which], victim);
        list_drop(&l, victim);
    }
    free_shares(space, shares);
}

/* What a block is worth, over all instances: as the list has it. */
static void values_are_in_the_order_of_victims(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *shares[SHARES];
    struct list l = {.n = 0};
    uint64_t rng = 29;
    make_shares(space, shares);
    for (int i = 0; i < 4000; i++) {
        uint32_t id = random_below(&rng, IDS);
        int rc = list_drop(&l, id) ? yk_policy_access(shares[id % SHARES], id)
                                   : insert_block(shares[id % SHARES], id, YK_POLICY_NONE);
        assert_int_equal(rc, 0);
        list_push(&l, id);
    }
    for (uint32_t i = 1; i < l.n; i++)
        assert_true(yk_policy_value(space, l.ids[i]) > yk_policy_value(space, l.ids[i - 1]));
    evict_block(shares[l.ids[0] % SHARES], l.ids[0]);
    assert_int_equal(yk_policy_value(space, l.ids[0]), 0);
    assert_int_equal(yk_policy_value(space, IDS), 0);
    free_shares(space, shares);
}

static void pins_do_not_hide_the_next_oldest(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *shares[SHARES];
    static struct pins pins;
    size_t which;
    uint32_t victim;
    memset(&pins, 0, sizeof(pins));
    make_shares(space, shares);
    for (uint32_t id = 0; id < 30; id++) {
        insert_block(shares[id % SHARES], id, YK_POLICY_NONE);
        pins.pinned[id] = id < 10;
    }
    for (uint32_t want = 10; want < 30; want++) {
        assert_int_equal(
            yk_policy_victim_oldest(shares, SHARES, unless_pinned, &pins, &which, &victim), 0);
        assert_int_equal(victim, want);
        evict_block(shares[which], victim);
    }
    assert_int_equal(yk_policy_victim_oldest(shares, SHARES, unless_pinned, &pins, &which, &victim),
                     -YK_EAGAIN);
    free_shares(space, shares);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_stream_equals_a_list),
        cmocka_unit_test(prefix_traces_equal_a_list),
        cmocka_unit_test(oldest_of_several_is_one_lru),
        cmocka_unit_test(values_are_in_the_order_of_victims),
        cmocka_unit_test(pins_do_not_hide_the_next_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
