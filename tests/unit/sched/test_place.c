/* SPDX-License-Identifier: Apache-2.0
 *
 * The near wait: when there is one, how long it is, and that the better of the two rates counts.
 */
#include "sched/fit_priv.h"
#include "sched/place_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A cache of one block that was used age_ms ago. */
static void see(struct yk_place *p, uint32_t age_ms, uint32_t capacity, uint32_t times) {
    struct yk_record record = {.last_ms = 1000000 - age_ms};
    struct yk_history history = {.records = &record, .now_ms = 1000000};
    struct yk_shadow_lru lru = {.history = &history, .oldest = 0, .count = 1, .capacity = capacity};
    while (times-- > 0)
        yk_place_see(p, &lru);
}

static float wait_after(uint32_t age_ms, uint32_t capacity) {
    struct yk_place *p = calloc(1, sizeof(*p));
    see(p, age_ms, capacity, 3);
    yk_place_begin(p);
    float next_s = p->next_s;
    free(p);
    return next_s;
}

static void test_the_near_wait_is_some_stays(void **state) {
    (void)state;
    assert_true(wait_after(10000, 1) > 25 && wait_after(10000, 1) < 35);
    assert_true(wait_after(1, 1) >= 1);         /* never none, where blocks go at once */
    assert_true(wait_after(400000, 1) == 0);    /* as long as the long one: no model of its own */
    assert_true(wait_after(10000, 2) == 0);     /* nothing had to go yet */
}

static void test_a_full_cache_is_seen_slowly_and_an_emptied_one_at_once(void **state) {
    struct yk_place *p = calloc(1, sizeof(*p));
    (void)state;
    see(p, 10000, 1, 1);
    see(p, 20000, 1, 1);
    assert_true(p->stay_ms > 10000 && p->stay_ms < 11000);
    see(p, 20000, 2, 1);
    assert_true(p->stay_ms == 0);
    free(p);
}

/* Blocks whose features are 1 come back after 5 s, half of them, or never; the others after 200 s, all. */
static void test_the_better_of_the_two_counts(void **state) {
    enum { N = 4000 };
    struct yk_fit_example *e = calloc(N, sizeof(*e));
    struct yk_trees *far = calloc(1, sizeof(*far)), *both = calloc(1, sizeof(*both));
    uint8_t soon[YK_TREES_FEATURES], late[YK_TREES_FEATURES] = {0};
    struct yk_fit fit;
    (void)state;
    memset(soon, 1, sizeof(soon));
    for (uint32_t i = 0; i < N; i++) {
        bool is_soon = i % 2, comes = !is_soon || i % 4 == 1;
        e[i] = (struct yk_fit_example){.event = comes, .prior = -5, .waited_s = !comes ? 300 : is_soon ? 5 : 200};
        memset(e[i].x, is_soon, sizeof(e[i].x)); /* whichever a tree looks at */
    }
    assert_int_equal(yk_fit_init(&fit, N, 1), 0);
    yk_fit_run(&fit, e, N, 0, far);
    assert_true(yk_place_score(far, soon) < yk_place_score(far, late)); /* 0.5 in 152 s, 1 in 200 s */
    yk_fit_run(&fit, e, N, 30, both);
    assert_true(yk_place_score(both, soon) > yk_place_score(both, late)); /* 0.5 in 17 s */
    assert_true(yk_place_score(both, late) == yk_trees_score(both, late)[0]);
    yk_fit_fini(&fit);
    free(far);
    free(both);
    free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_near_wait_is_some_stays),
        cmocka_unit_test(test_a_full_cache_is_seen_slowly_and_an_emptied_one_at_once),
        cmocka_unit_test(test_the_better_of_the_two_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
