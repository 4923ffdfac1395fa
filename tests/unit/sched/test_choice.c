/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor's choice among three, with what a change costs: a real cache that has two fifths of what it follows at first,
 * and all of it after one filling.
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
    double hits[YK_CHOICES], filled = r->since < CAPACITY ? 0.4 + 0.6 * r->since / CAPACITY : 1;
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

/* Where they are short he would be late each time. In between one is as good as the other. */
static void test_short_turns_cost_little(void **state) {
    (void)state;
    for (uint32_t turn = 1; turn <= 64; turn++) {
        struct run r = {.follows = 2};
        double kept = turns(&r, 800, turn, 20);
        if (kept < 0.985)
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
    struct yk_choice c = {.fillings = 100, .since = 100, .patience = 1e6, .is_careful = true, .long_real_hits = 900,
                          .long_hits = {1000, 1060, 0}, .hits = {100, 100, 100}};
    (void)state;
    assert_int_equal(yk_choice_make(&c, 0, 1, CAPACITY), 1);
    c.long_hits[0] = c.long_hits[1] * 1.06;
    assert_int_equal(yk_choice_make(&c, 1, 1, CAPACITY), 1);
    c.long_hits[0] = c.long_hits[1] * 1.12;
    assert_int_equal(yk_choice_make(&c, 1, 1, CAPACITY), 0);
    assert_true(c.changes > 1.9);
    assert_int_equal(yk_choice_make(&c, 0, 1000 * CAPACITY, CAPACITY), 0);
    assert_true(c.changes < 0.1);
}

/* Careful for 64 fillings; for twice as long if that was not enough, and as long as at first if it was bold long since. */
static void test_patience_grows_and_is_forgotten(void **state) {
    struct yk_choice c = {.fillings = 100};
    uint32_t blocks = 0;
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        double expected = 64 << i;
        c.long_hits[0] = 10000;
        c.long_real_hits = 9000;
        (void)yk_choice_make(&c, 0, STEP, CAPACITY);
        assert_true(c.is_careful);
        for (blocks = 0; c.is_careful; blocks += STEP)
            (void)yk_choice_make(&c, 0, STEP, CAPACITY);
        assert_true(blocks >= expected * CAPACITY && blocks < (expected + 1) * CAPACITY);
    }
    for (blocks = 0; blocks < 300 * CAPACITY; blocks += STEP)
        (void)yk_choice_make(&c, 0, STEP, CAPACITY);
    assert_false(c.is_careful);
    c.long_hits[0] = 10000;
    c.long_real_hits = 9000;
    (void)yk_choice_make(&c, 0, STEP, CAPACITY);
    assert_true(c.is_careful && c.patience == 64);
}

static void test_what_is_no_choice_is_seen(void **state) {
    struct yk_choice c = {.patience = 64, .is_careful = 1}, bad = c;
    (void)state;
    assert_true(yk_choice_is_sane(&c));
    bad.is_careful = 2;
    assert_false(yk_choice_is_sane(&bad));
    bad = c;
    bad.long_hits[2] = -1;
    assert_false(yk_choice_is_sane(&bad));
    bad = c;
    bad.since = 0.0 / bad.fillings; /* no number */
    assert_false(yk_choice_is_sane(&bad));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follows_the_better_one),
        cmocka_unit_test(test_long_turns_are_followed),
        cmocka_unit_test(test_short_turns_cost_little),
        cmocka_unit_test(test_equals_are_not_exchanged),
        cmocka_unit_test(test_changes_become_dearer),
        cmocka_unit_test(test_patience_grows_and_is_forgotten),
        cmocka_unit_test(test_what_is_no_choice_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
