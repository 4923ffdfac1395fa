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

/* A start is no request: a use after it counts, announced or not. */
static void test_a_use_of_what_was_found_counts(void **state) {
    struct yk_policy_space *space = make_space(64);
    struct yk_policy *p = make_learned(space, 10);
    struct yk_policy_block block = {.key_hash = 5, .size_bytes = 1, .parent_id = YK_POLICY_NONE, .found = true};
    struct yk_learned_report r;
    (void)state;
    assert_int_equal(yk_policy_insert(p, 1, &block), 0);
    yk_learned_found(p);
    yk_learned_report(p, &r);
    assert_int_equal(r.blocks, 0);
    assert_int_equal(yk_policy_access(p, 1), 0);
    yk_learned_report(p, &r);
    assert_int_equal(r.blocks, 1);
    assert_int_equal(r.real_hits, 1);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

static void assert_hits(struct yk_policy *p, const uint64_t *hashes, uint32_t n, uint32_t wanted, uint32_t wanted_real) {
    struct yk_learned_report before, after;
    yk_learned_report(p, &before);
    yk_policy_request(p, &(struct yk_policy_request){.now_ms = 1000, .key_hashes = hashes, .n = n});
    yk_learned_report(p, &after);
    for (uint32_t i = 0; i < YK_LEARNED_CACHES; i++)
        assert_int_equal(after.hits[i] - before.hits[i], wanted);
    assert_int_equal(after.real_hits - before.real_hits, wanted_real);
    assert_int_equal(after.blocks - before.blocks, n);
}

/* Of a chain the leading run is hit, of each cache its own; with a tier below all that is there, wherever it stands. */
static void test_what_counts_as_a_hit(void **state) {
    const uint64_t hashes[] = {11, 12, 13, 14};
    (void)state;
    for (uint32_t below = 0; below < 2; below++) {
        struct yk_policy_space *space = make_space(64);
        struct yk_policy_opts opts = {.capacity_objects = 10, .seed = 42, .has_below = below != 0};
        struct yk_policy *p;
        assert_int_equal(yk_policy_new(&yk_policy_learned, space, &opts, &p), 0);
        assert_hits(p, hashes, 4, 0, 0);
        for (uint32_t id = 0; id < 4; id++) {
            struct yk_policy_block block = {.key_hash = hashes[id], .size_bytes = 1, .parent_id = id > 0 ? id - 1 : YK_POLICY_NONE};
            assert_int_equal(yk_policy_insert(p, id, &block), 0);
        }
        assert_hits(p, hashes, 4, 4, 4);
        assert_int_equal(yk_policy_remove(p, 2), 0); /* from all of them */
        assert_hits(p, hashes, 4, below ? 3 : 2, below ? 3 : 2);
        assert_int_equal(yk_policy_evict(p, 0, hashes[0]), 0); /* those without payload have it still, and the third again */
        assert_hits(p, hashes, 4, 4, below ? 2 : 0);
        yk_policy_free(p);
        yk_policy_space_free(space);
    }
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
        yk_policy_request(p, &(struct yk_policy_request){.now_ms = i, .key_hashes = i > 0 ? &other : chain, .n = 1});
    }
    yk_policy_request(p, &(struct yk_policy_request){.now_ms = RECORDS, .key_hashes = chain, .n = 2});
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
        struct yk_policy_request q = {.now_ms = at, .key_hashes = hashes, .n = 64, .stop = UINT32_MAX,
                                       .output_length = UINT32_MAX, .last_block_eighths = UINT32_MAX};
        yk_policy_request(p, &q);
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
        yk_policy_request(p, &(struct yk_policy_request){.now_ms = *at * 100, .key_hashes = &hash, .n = 1});
    }
    return hash;
}

/* A block that somebody removed is in none of the caches without payload, whichever is followed: hits there would be
 * hits that the real one cannot have. What was evicted, which was the policy's own doing, stays in them. */
static void test_removed_blocks_are_in_no_shadow_cache(void **state) {
    struct yk_policy_space *space = make_space(64);
    struct yk_policy *p = make_learned(space, 16);
    struct yk_learned_block b;
    uint64_t chain[8];
    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        chain[i] = (i + 1) * UINT64_C(0x2545f4914f6cdd1d);
    assert_int_equal(yk_learned_explain(p, chain[0], &b), YK_MISS);
    for (uint32_t again = 0; again < 2; again++) {
        yk_policy_request(p, &(struct yk_policy_request){.now_ms = again * 1000, .key_hashes = chain, .n = 8});
        for (uint32_t i = 8; i-- > 0;) {
            struct yk_policy_block block = {.key_hash = chain[i], .size_bytes = 1,
                                            .parent_id = i > 0 ? i - 1 : YK_POLICY_NONE};
            assert_int_equal(yk_policy_insert(p, i, &block), 0);
        }
        for (uint32_t i = 0; i < 8; i++) {
            assert_int_equal(yk_learned_explain(p, chain[i], &b), 0);
            assert_true(b.is_here && b.in_lru && b.in_s3fifo && b.in_learned && b.stays);
            assert_int_equal(b.uses, again + 1);
        }
        assert_int_equal(yk_policy_evict(p, 7, chain[7]), 0);
        for (uint32_t i = 0; i < 7; i++)
            assert_int_equal(yk_policy_remove(p, i), 0);
        for (uint32_t i = 0; i < 8; i++) {
            assert_int_equal(yk_learned_explain(p, chain[i], &b), 0);
            assert_false(b.is_here);
            assert_true(b.in_lru == (i == 7) && b.in_s3fifo == (i == 7) && b.in_learned == (i == 7));
            assert_int_equal(b.stays, i == 7);
        }
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* ---- a cache with payload, of which the policy was told more or less ----------------------------------------------- */

#define KEYS 4000u

struct real {
    struct yk_policy_space *space;
    struct yk_policy *policy;
    bool in[KEYS];
    uint32_t room;
    uint64_t hits;
};

static uint64_t key_hash(uint32_t key) {
    return (key + 1) * UINT64_C(0x2545f4914f6cdd1d);
}

static void use_real(struct real *c, uint64_t now_ms, uint32_t key) {
    uint64_t hash = key_hash(key);
    struct yk_policy_block block = {.key_hash = hash, .size_bytes = 1, .parent_id = YK_POLICY_NONE};
    uint32_t victim;
    yk_policy_request(c->policy, &(struct yk_policy_request){.now_ms = now_ms, .key_hashes = &hash, .n = 1});
    struct yk_learned_training *training = yk_learned_training_begin(c->policy);
    if (training != NULL) {
        yk_learned_training_run(training);
        yk_learned_training_end(c->policy);
    }
    if (c->in[key]) {
        c->hits++;
        assert_int_equal(yk_policy_access(c->policy, key), 0);
        return;
    }
    if (yk_policy_count(c->policy) == c->room) {
        assert_int_equal(yk_policy_victim_any(c->policy, &victim), 0);
        assert_int_equal(yk_policy_evict(c->policy, victim, key_hash(victim)), 0);
        c->in[victim] = false;
    }
    assert_int_equal(yk_policy_insert(c->policy, key, &block), 0);
    c->in[key] = true;
}

/* Half of the uses are of some favourites, a bit more than there is room for; the rest come seldom. */
static uint64_t hits_with(uint32_t told, uint32_t room) {
    struct real *c = calloc(1, sizeof(*c));
    uint64_t rng = 17;
    assert_non_null(c);
    c->room = room;
    c->space = make_space(KEYS);
    c->policy = make_learned(c->space, told);
    for (uint32_t i = 0; i < 40000; i++)
        use_real(c, i * 50, random_below(&rng, 2) ? random_below(&rng, room * 5 / 4) : random_below(&rng, KEYS));
    uint64_t hits = c->hits;
    assert_in_range(yk_learned_room(c->policy), room - 1, room + 1);
    yk_policy_free(c->policy);
    yk_policy_space_free(c->space);
    free(c);
    return hits;
}

/* In a node nobody knows how many blocks will fit: it is told too many, and sees. */
static void test_sees_how_much_room_there_is(void **state) {
    uint64_t right = hits_with(300, 300), much = hits_with(500, 300), absurd = hits_with(1000000, 300);
    (void)state;
    if (much * 100 < right * 97 || absurd * 100 < right * 97)
        fail_msg("%llu hits when it was told, %llu and %llu when it had to see", (unsigned long long)right,
                 (unsigned long long)much, (unsigned long long)absurd);
}

/* Room is lost and won as other namespaces need it: the caches without payload follow, a few blocks at a time. */
static void test_follows_a_room_that_changes(void **state) {
    struct real *c = calloc(1, sizeof(*c));
    uint64_t rng = 23, at = 0;
    (void)state;
    assert_non_null(c);
    c->space = make_space(KEYS);
    c->policy = make_learned(c->space, 1000);
    static const uint32_t rooms[] = {600, 150, 800};
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t victim;
        c->room = rooms[k];
        while (yk_policy_count(c->policy) > c->room) { /* another takes it */
            assert_int_equal(yk_policy_victim_any(c->policy, &victim), 0);
            assert_int_equal(yk_policy_evict(c->policy, victim, key_hash(victim)), 0);
            c->in[victim] = false;
        }
        for (uint32_t i = 0; i < 6000; i++)
            use_real(c, ++at * 50, random_below(&rng, KEYS));
        assert_in_range(yk_learned_room(c->policy), rooms[k] - 1, rooms[k] + 1);
    }
    yk_policy_free(c->policy);
    yk_policy_space_free(c->space);
    free(c);
}

/* Who is told a share plans for that, before it has it; and for what it has, where that is more. */
static void test_plans_for_its_share(void **state) {
    struct real *c = calloc(1, sizeof(*c));
    uint64_t rng = 29, at = 0;
    (void)state;
    assert_non_null(c);
    c->room = 300;
    c->space = make_space(KEYS);
    c->policy = make_learned(c->space, 1000);
    for (uint32_t i = 0; i < 3000; i++)
        use_real(c, ++at * 50, random_below(&rng, KEYS));
    assert_in_range(yk_learned_room(c->policy), 299, 301);
    static const uint32_t shares[] = {500, 200, 5000, 0}, rooms[] = {500, 300, 1000, 300};
    for (uint32_t k = 0; k < 4; k++) {
        yk_learned_set_share(c->policy, shares[k]);
        for (uint32_t i = 0; i < 1000; i++)
            use_real(c, ++at * 50, random_below(&rng, KEYS));
        assert_in_range(yk_learned_room(c->policy), rooms[k] - 1, rooms[k] + 1);
    }
    yk_policy_free(c->policy);
    yk_policy_space_free(c->space);
    free(c);
}

/* Two clients: what one announced is used after the other has announced, and is not taken for requests of their own. */
static void test_requests_overlap(void **state) {
    struct yk_policy_space *space = make_space(64);
    struct yk_policy *p = make_learned(space, 32);
    struct yk_learned_block b;
    uint64_t one[4], two[4];
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        one[i] = key_hash(i);
        two[i] = key_hash(100 + i);
    }
    yk_policy_request(p, &(struct yk_policy_request){.now_ms = 1000, .key_hashes = one, .n = 4});
    yk_policy_request(p, &(struct yk_policy_request){.now_ms = 1001, .key_hashes = two, .n = 4});
    for (uint32_t i = 4; i-- > 0;) {
        struct yk_policy_block block = {.key_hash = one[i], .size_bytes = 1, .parent_id = YK_POLICY_NONE};
        assert_int_equal(yk_policy_insert(p, i, &block), 0);
        assert_int_equal(yk_policy_access(p, i), 0);
        assert_int_equal(yk_learned_explain(p, one[i], &b), 0);
        assert_int_equal(b.uses, 1);
    }
    yk_policy_request(p, &(struct yk_policy_request){.now_ms = 200000}); /* time passes, and nobody announces */
    assert_int_equal(yk_policy_access(p, 0), 0);
    assert_int_equal(yk_learned_explain(p, one[0], &b), 0);
    assert_int_equal(b.uses, 2);
    assert_int_equal(b.age_ms, 0);
    yk_policy_free(p);
    yk_policy_space_free(space);
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
        cmocka_unit_test(test_a_use_of_what_was_found_counts),
        cmocka_unit_test(test_what_counts_as_a_hit),
        cmocka_unit_test(test_a_hash_that_comes_twice),
        cmocka_unit_test(test_pinned_blocks_stay_and_children_go_before_parents),
        cmocka_unit_test(test_a_chain_does_not_push_out_its_own_beginning),
        cmocka_unit_test(test_a_flood_of_keys_is_forgotten),
        cmocka_unit_test(test_removed_blocks_are_in_no_shadow_cache),
        cmocka_unit_test(test_sees_how_much_room_there_is),
        cmocka_unit_test(test_follows_a_room_that_changes),
        cmocka_unit_test(test_plans_for_its_share),
        cmocka_unit_test(test_requests_overlap),
        cmocka_unit_test(test_learns_on_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
