/* SPDX-License-Identifier: Apache-2.0
 *
 * The balancer's plan, by simulation: clusters whose slots have loads of their own, which the plan does not
 * know, and time that the test makes. Every move of every run is checked against the plan's promises.
 */
#include "dir/balance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define INTERVAL_MS 10000u
#define MOVES       256u
#define BATCH       64u
#define STEP_MS     1000u

struct sim {
    struct yk_dir_map *map;
    struct yk_balance *plan;
    uint64_t now_ms, last_move_ms[YK_DIR_SLOTS];
    double load[YK_DIR_SLOTS];
    uint8_t suspect[64]; /* by id */
    uint64_t noise;      /* 0: loads are measured exactly */
    uint32_t moves;      /* in the last run */
};

static uint64_t rng(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

static uint32_t join(struct sim *s, const char *name) {
    uint32_t id = 0;
    int fresh = s->map->member_count > 0 && yk_dir_map_named(s->map, name) == NULL;
    assert_int_equal(yk_dir_map_join(s->map, name, 0, &id), 0);
    if (fresh) /* it returns first, but for the first of all */
        assert_int_equal(yk_dir_map_admit(s->map, id, 1), 0);
    return id;
}

static void join_many(struct sim *s, unsigned from, unsigned to) {
    char name[16];
    for (unsigned i = from; i < to; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        join(s, name);
    }
}

static void start(struct sim *s, unsigned members, double load) {
    struct yk_balance_opts opts = {.interval_ms = INTERVAL_MS, .moves = MOVES, .batch = BATCH};
    memset(s, 0, sizeof(*s));
    s->map = yk_dir_map_new(1);
    s->plan = yk_balance_new(&opts);
    s->now_ms = 1000000;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        s->load[i] = load;
    join_many(s, 0, members);
}

static void stop(struct sim *s) {
    free(s->map);
    yk_balance_free(s->plan);
}

static uint32_t slots_of(const struct sim *s, uint32_t id) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        n += s->map->slot[i].owner == id;
    return n;
}

static double load_of(const struct sim *s, uint32_t id) {
    double sum = 0;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        sum += s->map->slot[i].owner == id ? s->load[i] : 0;
    return sum;
}

static uint32_t measure(struct sim *s, struct yk_balance_member *ret) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->map->member_count; i++) {
        uint32_t id = s->map->member[i].id;
        double off = s->noise != 0 ? ((double)(rng(&s->noise) % 41) - 20) / 1000 : 0; /* 2 % */
        ret[n++] = (struct yk_balance_member){
            .id = id, .suspect = s->suspect[id], .load = load_of(s, id) * (1 + off)};
    }
    return n;
}

static void check_move(struct sim *s, const struct yk_balance_move *m) {
    const struct yk_dir_member *to = yk_dir_map_member(s->map, m->to);
    assert_non_null(to);
    assert_int_equal(to->state, YK_DIR_MEMBER);
    assert_false(to->draining);
    assert_false(s->suspect[m->to]);
    assert_int_not_equal(s->map->slot[m->slot].owner, m->to);
    assert_true(s->last_move_ms[m->slot] == 0 || s->now_ms - s->last_move_ms[m->slot] >= INTERVAL_MS);
    s->last_move_ms[m->slot] = s->now_ms;
}

static uint32_t step(struct sim *s) {
    struct yk_balance_member members[64];
    struct yk_balance_move moves[BATCH];
    uint32_t count = measure(s, members);
    uint32_t n = yk_balance_plan(s->plan, s->map, members, count, s->now_ms, moves);
    assert_in_range(n, 0, BATCH);
    for (uint32_t i = 0; i < n; i++) {
        check_move(s, &moves[i]);
        assert_int_equal(yk_dir_map_move(s->map, moves[i].slot, moves[i].to), 0);
    }
    s->now_ms += STEP_MS;
    s->moves += n;
    return n;
}

/* Runs until nothing has moved for ten intervals, or (a failure) for a thousand. */
static uint32_t settle(struct sim *s) {
    s->moves = 0;
    for (uint32_t i = 0, quiet = 0; i < 1000 * (INTERVAL_MS / STEP_MS); i++) {
        quiet = step(s) > 0 ? 0 : quiet + 1;
        if (quiet > 10 * (INTERVAL_MS / STEP_MS))
            return s->moves;
    }
    fail_msg("it never comes to rest");
    return 0;
}

static void check_even(const struct sim *s, double within) {
    uint32_t n = yk_dir_map_members(s->map, YK_DIR_MEMBER);
    double all = 0;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        all += s->load[i];
    for (uint32_t i = 0; i < s->map->member_count; i++) {
        const struct yk_dir_member *m = &s->map->member[i];
        if (m->state != YK_DIR_MEMBER)
            continue;
        double weight = ((double)slots_of(s, m->id) / YK_DIR_SLOTS + load_of(s, m->id) / all) / 2;
        if (weight * n > 1 + within || weight * n < 1 - within)
            fail_msg("member %u of %u has %.2f of its share", m->id, n, weight * n);
    }
}

static void test_from_one_to_many(void **state) {
    static const unsigned sizes[] = {2, 3, 10, 40};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct sim s;
        start(&s, 1, 10);
        assert_int_equal(settle(&s), 0); /* alone */
        join_many(&s, 1, sizes[i]);
        uint32_t moved = settle(&s), needed = YK_DIR_SLOTS - YK_DIR_SLOTS / sizes[i];
        check_even(&s, 0.051);
        assert_in_range(moved, needed * 9 / 10, needed); /* no slot on a detour */
        stop(&s);
    }
}

static void test_without_load_numbers_decide(void **state) {
    struct sim s;
    start(&s, 7, 0);
    settle(&s);
    for (uint32_t id = 1; id <= 7; id++)
        assert_in_range(slots_of(&s, id), YK_DIR_SLOTS / 7 * 95 / 100, YK_DIR_SLOTS / 7 * 106 / 100);
    stop(&s);
}

static void test_balanced_is_left_alone(void **state) {
    struct sim s;
    start(&s, 4, 10);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        assert_int_equal(yk_dir_map_move(s.map, i, 1 + i % 4), 0);
    assert_int_equal(settle(&s), 0);
    /* 4 % too much on one is nothing, 20 % is. */
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i += 4)
        s.load[i] = 10.4;
    assert_int_equal(settle(&s), 0);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i += 4)
        s.load[i] = 15;
    assert_true(settle(&s) > 0);
    check_even(&s, 0.051);
    stop(&s);
}

static void test_filled_gradually(void **state) {
    struct sim s;
    start(&s, 2, 10);
    settle(&s);
    uint32_t fair = YK_DIR_SLOTS / 3, first = slots_of(&s, 1);
    join_many(&s, 2, 3);
    for (unsigned interval = 1; interval <= 3; interval++) {
        for (unsigned i = 0; i < INTERVAL_MS / STEP_MS; i++)
            step(&s);
        assert_in_range(slots_of(&s, 3), 1, interval * (fair / 8));
        assert_true(first - slots_of(&s, 1) <= interval * (first / 8));
    }
    settle(&s);
    check_even(&s, 0.051);
    stop(&s);
}

static void test_limits_of_an_interval(void **state) {
    struct sim s;
    uint32_t last[INTERVAL_MS / STEP_MS] = {0}, sum = 0;
    start(&s, 1, 10);
    join_many(&s, 1, 30);
    for (unsigned i = 0; i < 400; i++) {
        uint32_t *oldest = &last[i % (INTERVAL_MS / STEP_MS)];
        sum -= *oldest;
        *oldest = step(&s);
        sum += *oldest;
        assert_in_range(sum, 0, MOVES);
    }
    stop(&s);
}

static void test_after_a_death_and_a_return(void **state) {
    struct sim s;
    start(&s, 1, 10);
    join_many(&s, 1, 6);
    settle(&s);
    assert_int_equal(yk_dir_map_expel(s.map, 3), 0);
    assert_int_equal(settle(&s), 0); /* its slots were spread evenly */
    uint32_t id = join(&s, "n2");
    assert_int_equal(id, 3);
    assert_int_equal(settle(&s), 0); /* it is returning */
    assert_int_equal(yk_dir_map_admit(s.map, 3, 2), 0);
    settle(&s);
    check_even(&s, 0.051);
    stop(&s);
}

static void test_suspects_get_nothing(void **state) {
    struct sim s;
    start(&s, 1, 10);
    join_many(&s, 1, 4);
    s.suspect[2] = 1;
    settle(&s); /* step checks that nothing went to it */
    assert_int_equal(slots_of(&s, 2), 0);
    s.suspect[1] = s.suspect[3] = s.suspect[4] = 1;
    assert_int_equal(settle(&s), 0);
    memset(s.suspect, 0, sizeof(s.suspect));
    settle(&s);
    check_even(&s, 0.051);
    /* Nor does it lose any: nobody says that it will not answer again. */
    uint32_t had = slots_of(&s, 2);
    s.suspect[2] = 1;
    join_many(&s, 4, 5);
    settle(&s);
    assert_int_equal(slots_of(&s, 2), had);
    stop(&s);
}

static void test_unknown_are_suspect(void **state) {
    struct sim s;
    struct yk_balance_move moves[BATCH];
    start(&s, 2, 10);
    struct yk_balance_member one = {.id = 1, .load = 1};
    assert_int_equal(yk_balance_plan(s.plan, s.map, &one, 1, s.now_ms, moves), 0);
    stop(&s);
}

static void test_draining_is_emptied(void **state) {
    struct sim s;
    start(&s, 1, 10);
    join_many(&s, 1, 5);
    settle(&s);
    assert_int_equal(yk_dir_map_drain(s.map, 2, 1), 0);
    settle(&s);
    assert_int_equal(slots_of(&s, 2), 0);
    /* Also when it does not answer; and it is filled again. */
    s.suspect[3] = 1;
    assert_int_equal(yk_dir_map_drain(s.map, 3, 1), 0);
    settle(&s);
    assert_int_equal(slots_of(&s, 3), 0);
    memset(s.suspect, 0, sizeof(s.suspect));
    assert_int_equal(yk_dir_map_drain(s.map, 2, 0), 0);
    assert_int_equal(yk_dir_map_drain(s.map, 3, 0), 0);
    settle(&s);
    check_even(&s, 0.051);
    /* The only ones that are left keep theirs. */
    for (uint32_t id = 1; id <= 5; id++)
        assert_int_equal(yk_dir_map_drain(s.map, id, 1), 0);
    assert_int_equal(settle(&s), 0);
    stop(&s);
}

/* Loads that no plan can make even: it has to come to rest all the same. */
static void test_hot_slots_are_not_chased(void **state) {
    for (unsigned hot = 1; hot <= 8; hot *= 2) {
        struct sim s;
        start(&s, 1, 1);
        join_many(&s, 1, 8);
        for (unsigned i = 0; i < hot; i++)
            s.load[(i * 997) % YK_DIR_SLOTS] = 4000;
        settle(&s);
        for (uint32_t id = 1; id <= 8; id++)
            assert_in_range(slots_of(&s, id), 1, YK_DIR_SLOTS / 8 * 2 + 1);
        stop(&s);
    }
}

static void test_skew_and_noise_come_to_rest(void **state) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sim s;
        uint64_t r = seed * 0x9e3779b97f4a7c15ull;
        start(&s, 1, 1);
        join_many(&s, 1, 9);
        for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
            s.load[i] = 1000.0 / (1 + (double)(rng(&r) % YK_DIR_SLOTS));
        s.noise = seed;
        settle(&s);
        stop(&s);
    }
}

/* A node comes while there is load, of any size of cluster and any spread of loads between slots that can be made even:
 * at the end all are within the slack of 5 %. */
static void test_one_more_under_many_loads(void **state) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct sim s;
        uint64_t r = seed * 0x9e3779b97f4a7c15ull;
        unsigned members = 1 + (unsigned)(rng(&r) % 15);
        uint32_t spread = 1 + (uint32_t)(rng(&r) % 8); /* the hottest slot to the coldest */
        start(&s, 1, 1);
        join_many(&s, 1, members);
        for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
            s.load[i] = 1 + (double)(rng(&r) % 1000) * (spread - 1) / 1000;
        settle(&s);
        join_many(&s, members, members + 1);
        if (seed % 2)
            yk_balance_hurry(s.plan);
        settle(&s);
        check_even(&s, 0.051);
        stop(&s);
    }
}

/* Asked for: at once, plan by plan, each slot once, and then it says how even it is. */
static void test_hurry(void **state) {
    struct yk_balance_rest rest;
    struct sim s;
    uint32_t steps = 0, moved = 0;
    start(&s, 1, 10);
    join_many(&s, 1, 4);
    yk_balance_hurry(s.plan);
    yk_balance_rest(s.plan, &rest);
    assert_true(rest.hurries);
    for (; rest.hurries && steps < 1000; steps++) {
        moved += step(&s); /* checks the limit of a plan, and that no slot moves twice in an interval */
        yk_balance_rest(s.plan, &rest);
    }
    assert_false(rest.hurries);
    assert_true(rest.even);
    check_even(&s, 0.051);
    assert_in_range(moved, YK_DIR_SLOTS * 3 / 4 * 9 / 10, YK_DIR_SLOTS * 3 / 4);
    /* No longer than its plans, and a measurement behind them. */
    assert_in_range(steps, moved / BATCH, moved / BATCH + 2 + INTERVAL_MS / STEP_MS);
    /* Nothing to do: it is over at once; and then the limits are back. */
    yk_balance_hurry(s.plan);
    assert_int_equal(step(&s), 0);
    yk_balance_rest(s.plan, &rest);
    assert_false(rest.hurries);
    join_many(&s, 4, 5);
    moved = 0;
    for (unsigned i = 0; i < INTERVAL_MS / STEP_MS; i++)
        moved += step(&s);
    assert_in_range(moved, 1, YK_DIR_SLOTS / 5 / 8);
    stop(&s);
}

/* Runs a hurry to its end. */
static struct yk_balance_rest hurried(struct sim *s) {
    struct yk_balance_rest rest;
    yk_balance_hurry(s->plan);
    for (uint32_t i = 0; i < 1000 * (INTERVAL_MS / STEP_MS); i++) {
        step(s);
        yk_balance_rest(s->plan, &rest);
        if (!rest.hurries)
            return rest;
    }
    fail_msg("it never comes to an end");
    return rest;
}

static void test_hurry_says_what_hinders(void **state) {
    struct sim s;
    start(&s, 1, 10);
    join_many(&s, 1, 3);
    s.suspect[3] = 1;
    struct yk_balance_rest rest = hurried(&s);
    assert_false(rest.even);
    assert_int_equal(rest.suspect, 3);
    assert_int_equal(slots_of(&s, 3), 0);
    s.suspect[3] = 0;
    rest = hurried(&s);
    assert_true(rest.even);
    assert_int_equal(rest.suspect, YK_DIR_NOBODY);
    for (uint32_t id = 1; id <= 3; id++)
        assert_int_equal(yk_dir_map_drain(s.map, id, 1), 0);
    rest = hurried(&s);
    assert_false(rest.even);
    assert_int_equal(rest.left, YK_DIR_SLOTS);
    for (uint32_t id = 1; id <= 3; id++)
        assert_int_equal(yk_dir_map_drain(s.map, id, 0), 0);
    s.load[17] = 1e6; /* one slot is hotter than all the rest */
    rest = hurried(&s);
    assert_false(rest.even);
    assert_int_equal(rest.worst, s.map->slot[17].owner);
    assert_true(rest.share > 1.2);
    stop(&s);
}

static void test_nonsense_loads(void **state) {
    struct sim s;
    struct yk_balance_move moves[BATCH];
    start(&s, 3, 1);
    struct yk_balance_member m[] = {{.id = 1, .load = -1.0 / 0.0}, {.id = 2, .load = 0.0 / 0.0},
                                    {.id = 3, .load = -5}, {.id = 77, .load = 1}};
    assert_true(yk_balance_plan(s.plan, s.map, m, 4, s.now_ms, moves) > 0);
    stop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_one_to_many),
        cmocka_unit_test(test_without_load_numbers_decide),
        cmocka_unit_test(test_balanced_is_left_alone),
        cmocka_unit_test(test_filled_gradually),
        cmocka_unit_test(test_limits_of_an_interval),
        cmocka_unit_test(test_after_a_death_and_a_return),
        cmocka_unit_test(test_suspects_get_nothing),
        cmocka_unit_test(test_unknown_are_suspect),
        cmocka_unit_test(test_draining_is_emptied),
        cmocka_unit_test(test_hot_slots_are_not_chased),
        cmocka_unit_test(test_skew_and_noise_come_to_rest),
        cmocka_unit_test(test_one_more_under_many_loads),
        cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_hurry_says_what_hinders),
        cmocka_unit_test(test_nonsense_loads),
    };
    return cmocka_run_group_tests_name("dir_balance", tests, NULL, NULL);
}
