/* SPDX-License-Identifier: Apache-2.0
 *
 * What a block is worth beside its chance of use: its length, and what it saves. Hits by the byte, compute saved, and that
 * nothing is different where all blocks are alike.
 */
#include "testing.h"

#include "base/status.h"

static struct yk_sim_result run_with(const struct yk_sim_trace *t, const struct yk_sim_opts *opts) {
    struct yk_sim_result r;
    assert_int_equal(yk_sim_run(t, opts, &r, NULL), 0);
    return r;
}

static const char *const with_lengths[] = {"lru", "s3fifo", "lfu", "gdsf", "learned"};
#define N_WITH_LENGTHS (sizeof(with_lengths) / sizeof(with_lengths[0]))

/* Of whatever length all are, and however odd: the same hits as without one. */
static void test_one_length_changes_nothing(void **state) {
    static const uint64_t lengths[] = {1, 1000003, 1u << 30};
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++) {
        struct yk_sim_trace t = {0};
        generate(&t, kind, 31, 1200);
        for (size_t p = 0; p < N_WITH_LENGTHS; p++)
            for (size_t i = 0; i < 3; i++) {
                struct yk_sim_opts opts = {.policy = with_lengths[p], .capacity = 300, .seed = 3,
                                           .bytes_min = lengths[i], .bytes_max = lengths[i], .draws_each = i % 2};
                struct yk_sim_result r = run_with(&t, &opts);
                assert_int_equal(r.hit_blocks, hits_of(&t, opts.policy, 300, 3));
                assert_int_equal(r.hit_bytes, r.hit_blocks * lengths[i]);
                assert_int_equal(r.room_bytes, 300 * lengths[i]);
            }
        yk_sim_trace_fini(&t);
    }
}

/* Sessions come back at random, some with blocks 64 times as long as others': the short ones are worth keeping. */
static void test_short_blocks_are_worth_more(void **state) {
    enum { SESSIONS = 600, TURNS = 12000, BLOCKS = 4 };
    struct yk_sim_trace t = {0};
    uint64_t random = 5, ids[BLOCKS];
    (void)state;
    for (uint32_t i = 0; i < TURNS; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        for (uint32_t k = 0; k < BLOCKS; k++)
            ids[k] = (random >> 33) % SESSIONS * BLOCKS + k;
        add_at(&t, i * 500, ids, BLOCKS);
    }
    struct yk_sim_opts opts = {.capacity = SESSIONS * BLOCKS / 8, .seed = 1, .bytes_min = 1 << 16, .bytes_max = 1 << 22};
    uint64_t hits[N_WITH_LENGTHS];
    for (size_t p = 0; p < N_WITH_LENGTHS; p++) {
        opts.policy = with_lengths[p];
        hits[p] = run_with(&t, &opts).hit_blocks;
    }
    if (hits[4] < hits[0] * 2 || hits[4] < hits[1] * 2)
        fail_msg("learned hits %llu, lru %llu, s3fifo %llu", (unsigned long long)hits[4], (unsigned long long)hits[0],
                 (unsigned long long)hits[1]);
    yk_sim_trace_fini(&t);
}

/* Lengths that differ within a chain, and from request to request: not far below the better simple policy anywhere. */
static void test_the_floor_holds_with_lengths(void **state) {
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++)
        for (uint32_t each = 0; each < 2; each++) {
            struct yk_sim_trace t = {0};
            struct yk_sim_opts opts = {.capacity = 300, .seed = 1, .bytes_min = 1000, .bytes_max = 64000,
                                       .draws_each = each != 0};
            uint64_t best = 0;
            generate(&t, kind, 33, 1200);
            for (size_t p = 0; p < 2; p++) {
                opts.policy = with_lengths[p];
                uint64_t hits = run_with(&t, &opts).hit_blocks;
                best = hits > best ? hits : best;
            }
            opts.policy = "learned";
            assert_true(run_with(&t, &opts).hit_blocks * 100 >= best * 95);
            yk_sim_trace_fini(&t);
        }
}

/* By hand: blocks of a chain cost 1, 1 + g, 1 + 2g, ... */
static void test_saved_compute_is_counted(void **state) {
    uint64_t a[] = {10, 11, 12, 13};
    struct yk_sim_trace t = {0};
    (void)state;
    add_at(&t, 0, a, 4);
    add_at(&t, 1, a, 4);
    struct yk_sim_opts opts = {.policy = "lru", .capacity = 3, .seed = 1};
    struct yk_sim_result alike = run_with(&t, &opts);
    assert_true(alike.saved == (double)alike.hit_blocks && alike.all_saved == 8);
    opts.shape = "moe";
    struct yk_sim_result grows = run_with(&t, &opts);
    assert_int_equal(grows.hit_blocks, 3);
    double g = (grows.saved - 3) / 3; /* 0 + 1 + 2 of it */
    assert_true(g > 0.03 && g < 0.04); /* 512 x 4 x 61 x 20480 by 2 x 37e9, and half a block's own */
    assert_true(grows.all_saved > 2 * (4 + 6 * g) - 1e-9 && grows.all_saved < 2 * (4 + 6 * g) + 1e-9);
    yk_sim_trace_fini(&t);
}

/* Long and short chains, each as likely to come back, and a room for an eighth of all blocks: the deep blocks save most. */
static void test_depth_is_worth_more(void **state) {
    enum { SHORT_CHAINS = 1000, LONG_CHAINS = 50, TURNS = 12000, SHORT = 4, LONG = 80 };
    struct yk_sim_trace t = {0};
    uint64_t random = 7, ids[LONG];
    struct yk_sim_opts opts = {.policy = "lru", .capacity = 1000, .seed = 1, .shape = "moe"};
    (void)state;
    for (uint32_t i = 0; i < TURNS; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t chain = (random >> 33) % (SHORT_CHAINS + LONG_CHAINS);
        uint32_t n = chain < LONG_CHAINS ? LONG : SHORT;
        for (uint32_t k = 0; k < n; k++)
            ids[k] = chain * 100 + k;
        add_at(&t, i * 500, ids, n);
    }
    double lru = run_with(&t, &opts).saved;
    opts.policy = "learned";
    double saved = run_with(&t, &opts).saved;
    if (saved < lru * 1.03)
        fail_msg("learned saves %.0f, lru %.0f", saved, lru);
    opts.shape = "none";
    assert_int_equal(run_with(&t, &opts).hit_blocks, hits_of(&t, "learned", 1000, 1));
    yk_sim_trace_fini(&t);
}

static void test_refuses_what_makes_no_sense(void **state) {
    uint64_t id = 1;
    struct yk_sim_trace t = {0};
    struct yk_sim_result r;
    const struct yk_sim_opts bad[] = {
        {.policy = "lru", .capacity = 1, .bytes_min = 2, .bytes_max = 1},
        {.policy = "lru", .capacity = 1, .bytes_min = 1, .bytes_max = (UINT64_C(1) << 30) + 1},
        {.policy = "arc", .capacity = 1, .bytes_min = 1, .bytes_max = 1},
        {.policy = "opt", .capacity = 1, .bytes_min = 1, .bytes_max = 1},
        {.policy = "lru", .capacity = 1, .bytes_min = 1, .bytes_max = 1, .below = 5},
        {.policy = "lru", .capacity = 1, .shape = "9b"},
    };
    (void)state;
    add_at(&t, 0, &id, 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(yk_sim_run(&t, &bad[i], &r, NULL), -YK_EINVAL);
    yk_sim_trace_fini(&t);
}

/* One that is longer than the whole cache never comes in, and nothing goes for it. */
static void test_what_never_fits(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    for (uint64_t i = 0; i < 400; i++) {
        uint64_t id = i % 20;
        add_at(&t, i * 10, &id, 1);
    }
    for (size_t p = 0; p < N_WITH_LENGTHS; p++) {
        struct yk_sim_opts opts = {.policy = with_lengths[p], .capacity = 1, .seed = 1, .bytes_min = 1,
                                   .bytes_max = 1 << 12, .draws_each = true};
        struct yk_sim_result r = run_with(&t, &opts);
        assert_true(r.hit_bytes <= r.bytes);
    }
    yk_sim_trace_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_length_changes_nothing),   cmocka_unit_test(test_short_blocks_are_worth_more),
        cmocka_unit_test(test_the_floor_holds_with_lengths), cmocka_unit_test(test_saved_compute_is_counted),
        cmocka_unit_test(test_depth_is_worth_more),          cmocka_unit_test(test_refuses_what_makes_no_sense),
        cmocka_unit_test(test_what_never_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
