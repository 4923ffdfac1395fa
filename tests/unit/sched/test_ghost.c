/* SPDX-License-Identifier: Apache-2.0
 *
 * The ghost list against a plain list, and what it does when holes fill its ring.
 */
#include "testing.h"

#include "sched/ghost_priv.h"

#define KEYS 200

static uint64_t key(uint32_t i) {
    return (i + 1) * UINT64_C(0x2545f4914f6cdd1d);
}

struct list {
    uint32_t keys[KEYS]; /* oldest first */
    uint32_t n;
};

static bool list_take(struct list *l, uint32_t k) {
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->keys[i] == k) {
            memmove(&l->keys[i], &l->keys[i + 1], (l->n - i - 1) * sizeof(l->keys[0]));
            l->n--;
            return true;
        }
    }
    return false;
}

static void list_add(struct list *l, uint32_t k, uint32_t limit) {
    list_take(l, k);
    while (l->n > 0 && l->n >= limit)
        list_take(l, l->keys[0]);
    l->keys[l->n++] = k;
}

static void equals_a_plain_list(void **state) {
    (void)state;
    struct yk_ghost g;
    struct list l = {.n = 0};
    uint64_t rng = 5;
    assert_int_equal(yk_ghost_init(&g, KEYS), 0); /* more than ever are in: no hole matters */
    for (int i = 0; i < 50000; i++) {
        uint32_t k = random_below(&rng, KEYS), limit = 20 + random_below(&rng, 60);
        if (random_below(&rng, 3) == 0) {
            bool there = yk_ghost_has(&g, key(k));
            assert_int_equal(there, list_take(&l, k));
            assert_int_equal(yk_ghost_take(&g, key(k)), there);
        } else {
            yk_ghost_add(&g, key(k), limit);
            list_add(&l, k, limit);
        }
        assert_int_equal(g.count, l.n);
    }
    for (uint32_t k = 0; k < KEYS; k++)
        assert_int_equal(yk_ghost_take(&g, key(k)), list_take(&l, k));
    yk_ghost_fini(&g);
}

static void the_limit_is_never_more_than_was_allocated(void **state) {
    (void)state;
    struct yk_ghost g;
    assert_int_equal(yk_ghost_init(&g, 10), 0);
    for (uint32_t k = 0; k < 50; k++)
        yk_ghost_add(&g, key(k), 1000);
    for (uint32_t k = 0; k < 50; k++)
        assert_int_equal(yk_ghost_take(&g, key(k)), k >= 40);
    yk_ghost_fini(&g);
}

static void holes_cost_the_oldest_only(void **state) {
    (void)state;
    struct yk_ghost g;
    assert_int_equal(yk_ghost_init(&g, 100), 0);
    yk_ghost_add(&g, key(1000), 100);
    for (uint32_t k = 0; k < 300; k++) { /* each comes and is taken: the ring is all holes */
        yk_ghost_add(&g, key(k), 100);
        if (k < 299)
            assert_true(yk_ghost_take(&g, key(k)));
    }
    assert_false(yk_ghost_take(&g, key(1000)));
    assert_true(yk_ghost_take(&g, key(299)));
    yk_ghost_fini(&g);
}

static void room_for_nothing_is_room_for_one(void **state) {
    (void)state;
    struct yk_ghost g;
    assert_int_equal(yk_ghost_init(&g, 0), 0);
    yk_ghost_add(&g, key(1), 0);
    assert_true(yk_ghost_take(&g, key(1)));
    assert_false(yk_ghost_take(&g, key(1)));
    yk_ghost_fini(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_a_plain_list),
        cmocka_unit_test(the_limit_is_never_more_than_was_allocated),
        cmocka_unit_test(holes_cost_the_oldest_only),
        cmocka_unit_test(room_for_nothing_is_room_for_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
