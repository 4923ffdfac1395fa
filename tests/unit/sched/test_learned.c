/* SPDX-License-Identifier: Apache-2.0
 *
 * The learned policy as an instance behind the ops: late and wrong events, pins, blocks that no request
 * announced, bounded memory, and two instances of one seed.
 */
#include "sched/learned.h"

#include "testing.h"

#include <pthread.h>

static struct yk_policy *make_learned(struct yk_policy_space *space, uint32_t capacity) {
    struct yk_policy_opts opts = {.capacity_objects = capacity, .seed = 42};
    struct yk_policy *p;
    assert_int_equal(yk_policy_new(&yk_policy_learned, space, &opts, &p), 0);
    return p;
}

static void test_wrong_and_late_events_are_answered(void **state) {
    struct yk_policy_space *space = make_space(64);
    struct yk_policy *p = make_learned(space, 10);
    struct pins pins = {0};
    uint64_t stamp;
    uint32_t id;
    (void)state;
    assert_int_equal(yk_policy_access(p, 3), YK_MISS);
    assert_int_equal(yk_policy_access(p, 1000), YK_MISS);
    assert_int_equal(yk_policy_remove(p, 3), YK_MISS);
    assert_int_equal(yk_policy_yield(p, 3), YK_MISS);
    assert_int_equal(yk_policy_peek(p, &stamp), YK_MISS);
    assert_int_equal(yk_policy_victim(p, unless_pinned, &pins, &id), YK_MISS);
    assert_int_equal(insert_block(p, 64, YK_POLICY_NONE), -YK_EINVAL);
    assert_int_equal(insert_block(p, 1, 64), -YK_EINVAL);
    assert_int_equal(insert_block(p, 1, 1), -YK_EINVAL);
    assert_int_equal(insert_block(p, 1, YK_POLICY_NONE), 0);
    assert_int_equal(insert_block(p, 1, YK_POLICY_NONE), -YK_EBUSY);
    assert_int_equal(yk_policy_count(p), 1);
    assert_int_equal(yk_policy_remove(p, 1), 0);
    assert_int_equal(yk_policy_count(p), 0);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* Two ids of one key hash, as a collision or a spoiled descriptor would have it. */
static void test_a_hash_that_comes_twice(void **state) {
    struct yk_policy_space *space = make_space(64);
    struct yk_policy *p = make_learned(space, 10);
    struct yk_policy_block block = {.key_hash = 5, .size_bytes = 1, .parent_id = YK_POLICY_NONE};
    (void)state;
    assert_int_equal(yk_policy_insert(p, 1, &block), 0);
    assert_int_equal(yk_policy_insert(p, 2, &block), 0);
    assert_int_equal(yk_policy_access(p, 1), 0);
    assert_int_equal(yk_policy_remove(p, 2), 0);
    assert_int_equal(yk_policy_access(p, 1), 0);
    assert_int_equal(yk_policy_evict(p, 1, 5), 0);
    assert_int_equal(yk_policy_count(p), 0);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

static void test_pinned_blocks_stay_and_children_go_before_parents(void **state) {
    struct yk_policy_space *space = make_space(64);
    struct yk_policy *p = make_learned(space, 8);
    struct pins pins = {0};
    (void)state;
    for (uint32_t id = 0; id < 8; id++)
        assert_int_equal(insert_block(p, id, id % 4 != 0 ? id - 1 : YK_POLICY_NONE), 0);
    pins.pinned[3] = true;
    for (uint32_t id = 7; id > 3; id--) { /* the chain 0 to 3 is held by its pinned tail */
        assert_int_equal(next_victim(p, unless_pinned, &pins), id);
        assert_int_equal(evict_block(p, id), 0);
    }
    uint32_t none;
    assert_int_equal(yk_policy_victim(p, unless_pinned, &pins, &none), -YK_EAGAIN);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* The oldest record is that of a request's first block, and there is no free one for its second. */
static void test_a_chain_does_not_push_out_its_own_beginning(void **state) {
    enum { RECORDS = 4 * 4 + 100000 };
    struct yk_policy_space *space = make_space(16);
    struct yk_policy *p = make_learned(space, 4);
    uint64_t chain[2] = {77, 78};
    (void)state;
    for (uint64_t i = 0; i < RECORDS; i++) {
        uint64_t other = (i + 1) * UINT64_C(0x2545f4914f6cdd1d);
        yk_learned_request(p, &(struct yk_learned_request){.now_ms = i, .key_hashes = i > 0 ? &other : chain, .n = 1});
    }
    yk_learned_request(p, &(struct yk_learned_request){.now_ms = RECORDS, .key_hashes = chain, .n = 2});
    assert_string_equal(yk_learned_follows(p), "learned");
    assert_true(yk_policy_rises(p, chain[1], false));
    assert_true(yk_policy_rises(p, chain[0], false));
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* A flood of keys that never come again: what is remembered of them is bounded, and given up. */
static void test_a_flood_of_keys_is_forgotten(void **state) {
    struct yk_policy_space *space = make_space(16);
    struct yk_policy *p = make_learned(space, 4);
    uint64_t hashes[64];
    (void)state;
    for (uint64_t at = 0; at < 250000; at += 64) { /* records: 100,016 */
        for (uint32_t i = 0; i < 64; i++)
            hashes[i] = (at + i + 1) * UINT64_C(0x2545f4914f6cdd1d);
        struct yk_learned_request q = {.now_ms = at, .key_hashes = hashes, .n = 64, .stop = UINT32_MAX,
                                       .output_length = UINT32_MAX, .last_block_eighths = UINT32_MAX};
        yk_learned_request(p, &q);
    }
    struct yk_policy_block block = {.key_hash = hashes[63], .size_bytes = 1, .parent_id = YK_POLICY_NONE};
    assert_int_equal(yk_policy_insert(p, 1, &block), 0);
    assert_int_equal(yk_policy_access(p, 1), 0);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* Favourites more than fit, and between them blocks that come once. Returns the last of those. */
static uint64_t play(struct yk_policy *p, uint64_t *rng, uint64_t *at, uint32_t requests) {
    uint64_t hash = 0;
    for (uint32_t i = 0; i < 2 * requests; i++) {
        hash = (i % 2 == 0 ? 1 + random_below(rng, 24) : 1000 + *at) * UINT64_C(0x2545f4914f6cdd1d);
        *at += 1;
        yk_learned_request(p, &(struct yk_learned_request){.now_ms = *at * 100, .key_hashes = &hash, .n = 1});
    }
    return hash;
}

static void *run_training(void *training) {
    yk_learned_training_run(training);
    return NULL;
}

/* The owner goes on while another thread learns; the model is another when the owner has taken it. */
static void test_learns_on_another_thread(void **state) {
    struct yk_policy_space *space = make_space(16);
    struct yk_policy *p = make_learned(space, 16);
    uint64_t rng = 3, at = 0;
    pthread_t thread;
    (void)state;
    assert_null(yk_learned_training_begin(p)); /* from nothing */
    assert_true(yk_policy_rises(p, play(p, &rng, &at, 2000), false)); /* a newcomer stays for a while */
    struct yk_learned_training *training = yk_learned_training_begin(p);
    assert_non_null(training);
    assert_int_equal(pthread_create(&thread, NULL, run_training, training), 0);
    assert_true(yk_policy_rises(p, play(p, &rng, &at, 20000), false)); /* as before */
    assert_null(yk_learned_training_begin(p)); /* one at a time */
    assert_int_equal(pthread_join(thread, NULL), 0);
    yk_learned_training_end(p);
    /* What comes once has no place now, so more of the favourites have than in either of the others. */
    for (int i = 0; i < 300 && strcmp(yk_learned_follows(p), "learned") != 0; i++)
        (void)play(p, &rng, &at, 100);
    assert_string_equal(yk_learned_follows(p), "learned");
    assert_false(yk_policy_rises(p, play(p, &rng, &at, 100), false));
    training = yk_learned_training_begin(p); /* from what came meanwhile */
    assert_non_null(training);
    yk_learned_training_run(training);
    yk_learned_training_end(p);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_and_late_events_are_answered),
        cmocka_unit_test(test_a_hash_that_comes_twice),
        cmocka_unit_test(test_pinned_blocks_stay_and_children_go_before_parents),
        cmocka_unit_test(test_a_chain_does_not_push_out_its_own_beginning),
        cmocka_unit_test(test_a_flood_of_keys_is_forgotten),
        cmocka_unit_test(test_learns_on_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
