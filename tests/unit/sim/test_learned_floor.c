/* SPDX-License-Identifier: Apache-2.0
 *
 * The learned policy on streams that are made to mislead it: never much below the better of lru and s3fifo;
 * and above both where there is something to learn.
 */
#include "testing.h"

#include "base/status.h"

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 20;
}

/* One block, on its own. */
static void add_one(struct yk_sim_trace *t, uint64_t at_ms, uint64_t id) {
    add_at(t, at_ms, &id, 1);
}

static uint64_t best_simple(const struct yk_sim_trace *t, uint32_t capacity) {
    uint64_t lru = hits_of(t, "lru", capacity, 1), s3fifo = hits_of(t, "s3fifo", capacity, 1);
    return lru > s3fifo ? lru : s3fifo;
}

static void assert_floor(const struct yk_sim_trace *t, uint32_t capacity) {
    uint64_t best = best_simple(t, capacity), learned = hits_of(t, "learned", capacity, 1);
    if (learned * 100 < best * 95)
        fail_msg("capacity %u: %llu hits, the better simple policy has %llu", capacity,
                 (unsigned long long)learned, (unsigned long long)best);
}

#define CAPACITY 500u

/* The first requests, of one block each. */
static uint64_t hits_of_first(struct yk_sim_trace *t, const char *policy, uint64_t requests) {
    uint64_t all = t->req_count, blocks = t->block_count, hits;
    t->req_count = t->block_count = requests;
    hits = hits_of(t, policy, CAPACITY, 1);
    t->req_count = all;
    t->block_count = blocks;
    return hits;
}

/* What comes after 20 capacities, where there is enough of it that a few hits do not matter. */
static void assert_late_floor(struct yk_sim_trace *t, uint32_t percent) {
    static const char *const policies[] = {"lru", "s3fifo", "learned"};
    uint64_t late[3];
    if (t->req_count < 100 * CAPACITY)
        return;
    for (size_t i = 0; i < 3; i++)
        late[i] = hits_of(t, policies[i], CAPACITY, 1) - hits_of_first(t, policies[i], 20 * CAPACITY);
    uint64_t best = late[0] > late[1] ? late[0] : late[1];
    if (late[2] * 100 < best * percent)
        fail_msg("after 20 capacities %llu hits, the better simple policy has %llu", (unsigned long long)late[2],
                 (unsigned long long)best);
}

/* Forty capacities; with YOLK_LONG=1 a hundred and twenty. */
static uint32_t accesses(void) {
    return getenv("YOLK_LONG") != NULL ? 60000 : 20000;
}

static void test_scan_beside_a_working_set(void **state) {
    struct yk_sim_trace t = {0};
    uint64_t random = 7;
    (void)state;
    for (uint32_t i = 0, n = accesses(); i < n; i++)
        add_one(&t, i * 10, i % 3 != 0 ? 1000000 + i : next_random(&random) % 400);
    assert_floor(&t, CAPACITY);
    yk_sim_trace_fini(&t);
}

static void test_loop_longer_than_the_cache(void **state) {
    struct yk_sim_trace t = {0};
    (void)state;
    for (uint32_t i = 0, n = accesses(); i < n; i++)
        add_one(&t, i * 10, i % (CAPACITY + CAPACITY / 5));
    assert_floor(&t, CAPACITY);
    yk_sim_trace_fini(&t);
}

/* What was popular never comes again, and what never came is popular. */
static void test_popularity_flips(void **state) {
    struct yk_sim_trace t = {0};
    uint64_t random = 9;
    (void)state;
    for (uint32_t i = 0, n = accesses(); i < n; i++) {
        uint64_t hot = next_random(&random) % 600, cold = next_random(&random) % 100000;
        add_one(&t, i * 10, i % 4 != 0 ? (uint64_t)(i / (n / 4)) * 10000 + hot : 1000000 + cold);
    }
    assert_floor(&t, CAPACITY);
    yk_sim_trace_fini(&t);
}

static void test_random(void **state) {
    struct yk_sim_trace t = {0};
    uint64_t random = 11;
    (void)state;
    for (uint32_t i = 0, n = accesses(); i < n; i++)
        add_one(&t, i * 10, next_random(&random) % 2000);
    assert_floor(&t, CAPACITY);
    yk_sim_trace_fini(&t);
}

/* A trace without times, and one whose clock jumps about. */
static void test_clocks_that_say_nothing(void **state) {
    struct yk_sim_trace still = {0}, wild = {0};
    uint64_t random = 13;
    (void)state;
    for (uint32_t i = 0, n = accesses(); i < n; i++) {
        uint64_t id = next_random(&random) % 3000;
        id = id * id / 3000;
        add_one(&still, 0, id);
        add_one(&wild, next_random(&random) % (UINT64_C(1) << 53), id);
    }
    assert_floor(&still, CAPACITY);
    assert_floor(&wild, CAPACITY);
    yk_sim_trace_fini(&still);
    yk_sim_trace_fini(&wild);
}

static void test_generated_sessions(void **state) {
    (void)state;
    for (int kind = 0; kind < YK_TRACE_KINDS; kind++) {
        struct yk_sim_trace t = {0};
        generate(&t, kind, 21, 1000);
        for (uint32_t capacity = 100; capacity <= 1000; capacity *= 10)
            assert_floor(&t, capacity);
        yk_sim_trace_fini(&t);
    }
}

/* A walk, which suits lru, and a scan beside a working set, which suits s3fifo, in turn: in slow turns and in such as
 * end when the choice has just followed them. */
static void test_the_better_one_changes(void **state) {
    static const uint32_t capacities[] = {2, 4, 6, 10};
    (void)state;
    for (size_t k = 0; k < sizeof(capacities) / sizeof(capacities[0]); k++) {
        struct yk_sim_trace t = {0};
        uint64_t random = 19;
        for (uint32_t i = 0, n = accesses(); i < n; i++) {
            if (i / (capacities[k] * CAPACITY) % 2 == 0)
                add_one(&t, i * 10, 5000000 + i / 2 - next_random(&random) % 300);
            else
                add_one(&t, i * 10, i % 3 != 0 ? 1000000 + i : next_random(&random) % 400);
        }
        assert_floor(&t, CAPACITY);
        assert_late_floor(&t, capacities[k] > 2 ? 96 : 94);
        yk_sim_trace_fini(&t);
    }
}

/* Chats whose last turn shows by its long answer: who learns that keeps the others. */
static void test_learns_what_ends_a_session(void **state) {
    struct yk_sim_trace t = {0};
    uint64_t random = 17, ids[6];
    (void)state;
    for (uint32_t i = 0; i < 4000; i++) {
        bool goes_on = next_random(&random) % 4 == 0;
        for (uint32_t k = 0; k < 6; k++)
            ids[k] = (uint64_t)i * 8 + k;
        struct yk_trace_req req = {.timestamp_ms = i * 100,
                                   .hash_ids = ids,
                                   .n = 6,
                                   .input_length = 6 * 512,
                                   .output_length = goes_on ? 10 : 1000};
        assert_int_equal(yk_sim_trace_add(&t, &req, NULL), 0);
        /* The turns of 40 requests ago that went on come again; they are known by their number. */
        if (i >= 40) {
            const struct yk_sim_req *q = NULL;
            for (uint64_t k = t.req_count; k-- > 0 && q == NULL;)
                if (t.reqs[k].n == 6 && t.id[t.blocks[t.reqs[k].first]] == (uint64_t)(i - 40) * 8)
                    q = &t.reqs[k];
            if (q != NULL && q->output_length == 10) {
                for (uint32_t k = 0; k < 6; k++)
                    ids[k] = (uint64_t)(i - 40) * 8 + k;
                req.output_length = 1000;
                assert_int_equal(yk_sim_trace_add(&t, &req, NULL), 0);
            }
        }
    }
    uint64_t best = best_simple(&t, 120), learned = hits_of(&t, "learned", 120, 1);
    assert_true(learned > best * 2);
    yk_sim_trace_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_beside_a_working_set), cmocka_unit_test(test_loop_longer_than_the_cache),
        cmocka_unit_test(test_popularity_flips),          cmocka_unit_test(test_random),
        cmocka_unit_test(test_clocks_that_say_nothing),   cmocka_unit_test(test_generated_sessions),
        cmocka_unit_test(test_the_better_one_changes),    cmocka_unit_test(test_learns_what_ends_a_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
