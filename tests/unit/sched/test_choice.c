/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor's choice among three, with what a change costs: a real cache that has nothing of what it follows at first, and
 * all of it after one filling.
 */
#include "sched/choice_priv.h"

#include "testing.h"

#define CAPACITY 1000u
#define STEP     50u /* blocks a request */

struct run {
    struct yk_choice choice;
    uint32_t follows, changes, since; /* blocks since the last change */
    double real, all[YK_CHOICES];
};

/* A request of which each hits its part. */
static void step(struct run *r, const double parts[YK_CHOICES]) {
    double hits[YK_CHOICES], filled = r->since < CAPACITY ? (double)r->since / CAPACITY : 1;
    for (uint32_t i = 0; i < YK_CHOICES; i++) {
        hits[i] = STEP * parts[i];
        r->all[i] += hits[i];
    }
    double real = hits[r->follows] * filled;
    r->real += real;
    r->since += STEP;
    yk_choice_see(&r->choice, hits, real, STEP);
    uint32_t next = yk_choice_make(&r->choice, r->follows, STEP, CAPACITY);
    if (next == r->follows)
        return;
    r->follows = next;
    r->changes++;
    r->since = 0;
}

/* Two take turns of so many fillings, the third is worse than both; what the real one hit by the best after `from`. */
static double turns(struct run *r, uint32_t fillings, uint32_t turn, uint32_t from) {
    static const double first[] = {0.5, 0.3, 0.2}, second[] = {0.3, 0.5, 0.2};
    double real = 0, all[YK_CHOICES] = {0}, best = 0;
    for (uint32_t at = 0; at < fillings * CAPACITY; at += STEP) {
        if (at == from * CAPACITY) {
            real = r->real;
            memcpy(all, r->all, sizeof(all));
        }
        step(r, at / (turn * CAPACITY) % 2 == 0 ? first : second);
    }
    for (uint32_t i = 0; i < YK_CHOICES; i++)
        best = r->all[i] - all[i] > best ? r->all[i] - all[i] : best;
    return (r->real - real) / best;
}

static void test_follows_the_better_one(void **state) {
    struct run r = {.follows = 2};
    (void)state;
    assert_true(turns(&r, 100, 1000, 20) > 0.9999);
    assert_int_equal(r.changes, 1);
    assert_int_equal(r.follows, 0);
    assert_false(r.choice.is_careful);
}

/* Who follows gains, where turns are long. */
static void test_long_turns_are_followed(void **state) {
    struct run r = {.follows = 2};
    (void)state;
    assert_true(turns(&r, 800, 100, 20) > 1.15);
    assert_true(r.changes >= 7);
}

/* Where they are short he would be late each time. */
static void test_short_turns_are_not(void **state) {
    (void)state;
    for (uint32_t turn = 1; turn <= 16; turn *= 2) {
        struct run r = {.follows = 2};
        double kept = turns(&r, 800, turn, 20);
        if (kept < 0.98)
            fail_msg("turns of %u: %.4f of the best", turn, kept);
    }
}

/* What is alike is as good as each other: no change is worth what it costs. */
static void test_equals_are_not_exchanged(void **state) {
    struct run r = {.follows = 1};
    uint64_t random = 3;
    (void)state;
    for (uint32_t i = 0; i < 400 * CAPACITY / STEP; i++) {
        double parts[YK_CHOICES];
        for (uint32_t k = 0; k < YK_CHOICES; k++)
            parts[k] = random_below(&random, 100) / 200.0;
        step(&r, parts);
    }
    double best = r.all[0] > r.all[1] ? r.all[0] : r.all[1];
    best = r.all[2] > best ? r.all[2] : best;
    if (r.real < 0.98 * best || r.changes > 20)
        fail_msg("%.4f of the best after %u changes", r.real / best, r.changes);
}

/* Careful, each change makes the next one dearer, and that fades. */
static void test_changes_become_dearer(void **state) {
    struct yk_choice c = {.fillings = 100, .is_careful = true, .long_real_hits = 900,
                          .long_hits = {1000, 1015, 0}, .hits = {100, 100, 100}};
    (void)state;
    assert_int_equal(yk_choice_make(&c, 0, 1, CAPACITY), 1);
    c.long_hits[0] = c.long_hits[1] * 1.015;
    assert_int_equal(yk_choice_make(&c, 1, 1, CAPACITY), 1);
    c.long_hits[0] = c.long_hits[1] * 1.025;
    assert_int_equal(yk_choice_make(&c, 1, 1, CAPACITY), 0);
    assert_true(c.changes > 1.9);
    assert_int_equal(yk_choice_make(&c, 0, 1000 * CAPACITY, CAPACITY), 0);
    assert_true(c.changes < 0.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follows_the_better_one),
        cmocka_unit_test(test_long_turns_are_followed),
        cmocka_unit_test(test_short_turns_are_not),
        cmocka_unit_test(test_equals_are_not_exchanged),
        cmocka_unit_test(test_changes_become_dearer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
