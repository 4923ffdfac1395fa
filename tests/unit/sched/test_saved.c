/* SPDX-License-Identifier: Apache-2.0
 *
 * What the learned policy knows, saved and loaded: a policy that loads it goes on as the one that was saved does; what
 * was damaged leaves it as it was; and what there is no room for is left out.
 */
#include "sched/learned.h"

#include "testing.h"

#include <math.h>

#define KEYS 3000u
#define ROOM 300u

/* A cache of ROOM blocks, whose ids are those of its keys. */
struct cache {
    struct yk_policy_space *space;
    struct yk_policy *policy;
    bool in[KEYS];
    uint64_t hits;
    bool is_mixed; /* sessions have blocks of different lengths */
};

static uint64_t hash_of(uint32_t key) {
    return ((key + 1) * UINT64_C(0x2545f4914f6cdd1d)) & YK_POLICY_HASH_BITS;
}

static void open_cache(struct cache *c, uint32_t capacity) {
    struct yk_policy_opts opts = {.capacity_objects = capacity, .seed = 42};
    memset(c, 0, sizeof(*c));
    c->space = make_space(KEYS);
    assert_int_equal(yk_policy_new(&yk_policy_learned, c->space, &opts, &c->policy), 0);
}

static void close_cache(struct cache *c) {
    yk_policy_free(c->policy);
    yk_policy_space_free(c->space);
}

static void put_block(struct cache *c, uint32_t key, struct yk_policy_block block) {
    uint32_t victim;
    if (yk_policy_count(c->policy) == ROOM) {
        assert_int_equal(yk_policy_victim_any(c->policy, &victim), 0);
        assert_int_equal(yk_policy_evict(c->policy, victim, hash_of(victim)), 0);
        c->in[victim] = false;
    }
    assert_int_equal(yk_policy_insert(c->policy, key, &block), 0);
    c->in[key] = true;
}

static void put(struct cache *c, uint32_t key, uint32_t parent, bool found) {
    put_block(c, key,
              (struct yk_policy_block){.key_hash = hash_of(key), .size_bytes = c->is_mixed ? 1000 + key / 3 % 5 * 500 : 1,
                                       .parent_id = parent, .found = found});
}

/* A chain of three keys of one of KEYS / 3 sessions, of which some come much more often than others. */
static uint32_t session_of(uint64_t *rng) {
    return random_below(rng, 3) > 0 ? random_below(rng, ROOM / 2) : random_below(rng, KEYS / 3);
}

static void use(struct cache *c, uint64_t now_ms, uint32_t session) {
    uint64_t chain[3];
    for (uint32_t i = 0; i < 3; i++)
        chain[i] = hash_of(session * 3 + i);
    yk_policy_request(c->policy, &(struct yk_policy_request){.now_ms = now_ms, .key_hashes = chain, .n = 3,
                                                             .output_length = session % 50});
    struct yk_learned_training *t = yk_learned_training_begin(c->policy);
    if (t != NULL) {
        yk_learned_training_run(t);
        yk_learned_training_end(c->policy);
    }
    for (uint32_t i = 0; i < 3 && c->in[session * 3 + i]; i++)
        c->hits++;
    for (uint32_t i = 3; i-- > 0;) {
        uint32_t key = session * 3 + i;
        if (c->in[key])
            assert_int_equal(yk_policy_access(c->policy, key), 0);
        else
            put(c, key, i > 0 ? key - 1 : YK_POLICY_NONE, false);
    }
}

static void play(struct cache *c, uint64_t *rng, uint64_t *now_ms, uint32_t requests) {
    for (uint32_t i = 0; i < requests; i++)
        use(c, *now_ms += 1000, session_of(rng));
}

/* Another cache with what the first has, as a restart finds it: in another order. */
static void restart(struct cache *to, const struct cache *from, const void *bytes, size_t len, uint64_t now_ms,
                    uint64_t away_ms) {
    struct yk_err err = {0};
    open_cache(to, ROOM * 2);
    to->is_mixed = from->is_mixed;
    if (yk_learned_load(to->policy, bytes, len, now_ms, away_ms, &err) != 0)
        fail_msg("%s", err.text);
    for (uint32_t key = 0; key < KEYS; key++)
        if (from->in[key])
            put(to, key, key % 3 != 0 ? key - 1 : YK_POLICY_NONE, true);
    yk_learned_found(to->policy);
}

static void assert_same_thought(const struct cache *a, const struct cache *b, uint32_t key) {
    struct yk_learned_block x, y;
    int rc = yk_learned_explain(a->policy, hash_of(key), &x);
    assert_int_equal(yk_learned_explain(b->policy, hash_of(key), &y), rc);
    if (rc != 0)
        return;
    assert_int_equal(x.in_lru, y.in_lru);
    assert_int_equal(x.in_s3fifo, y.in_s3fifo);
    assert_int_equal(x.in_learned, y.in_learned);
    assert_int_equal(x.stays, y.stays);
    assert_int_equal(x.uses, y.uses);
    assert_int_equal(x.children, y.children);
    assert_int_equal(x.age_ms, y.age_ms);
    assert_int_equal(x.life_ms, y.life_ms);
    assert_memory_equal(x.features, y.features, sizeof(x.features));
    assert_true(fabs(x.rate - y.rate) <= 1e-12 * x.rate);
}

/* A start with nothing here loads what the followed cache had: what is worth most first, no block before its parent. */
static void test_first_comes_what_is_worth_most(void **state) {
    struct cache one, two;
    struct yk_learned_first *first;
    uint64_t rng = 5, now_ms = 1000;
    uint32_t n, place[KEYS], often = 0;
    void *bytes;
    size_t len;
    open_cache(&one, ROOM * 2);
    play(&one, &rng, &now_ms, 6000);
    for (int i = 0; i < 1000 && strcmp(yk_learned_follows(one.policy), "learned") != 0; i++)
        play(&one, &rng, &now_ms, 20); /* which is best may change; for lru the last use is all that counts */
    assert_string_equal(yk_learned_follows(one.policy), "learned");
    assert_int_equal(yk_learned_save(one.policy, &bytes, &len), 0);
    open_cache(&two, ROOM * 2);
    assert_int_equal(yk_learned_load(two.policy, bytes, len, now_ms, 0, NULL), 0);
    assert_int_equal(yk_learned_first(two.policy, &first, &n), 0);
    assert_true(n > ROOM / 2 && n <= ROOM * 2);
    memset(place, 0xff, sizeof(place));
    for (uint32_t i = 0; i < n; i++) {
        assert_true(i == 0 || first[i].worth <= first[i - 1].worth);
        for (uint32_t key = 0; key < KEYS; key++)
            if (hash_of(key) == first[i].key_hash)
                place[key] = i;
    }
    for (uint32_t key = 0; key < KEYS; key++) {
        struct yk_learned_block b = {.stays = false};
        (void)yk_learned_explain(one.policy, hash_of(key), &b);
        assert_int_equal(place[key] != UINT32_MAX, b.stays);
        if (key % 3 != 0 && place[key] != UINT32_MAX)
            assert_true(place[key - 1] < place[key]);
        often += place[key] < 60 && key / 3 < ROOM / 2;
    }
    assert_in_range(often, 55, 60); /* of the 60 that are first */
    free(first);
    free(bytes);
    close_cache(&one);
    close_cache(&two);
}

/* One goes on, the other is saved, loaded and goes on: they think the same of every block, for many trainings. */
static void test_goes_on_as_if_nothing_was(void **state) {
    struct cache one, two;
    uint64_t rng = 5, now_ms = 0;
    void *bytes;
    size_t len;
    (void)state;
    open_cache(&one, ROOM * 2);
    play(&one, &rng, &now_ms, 6000);
    assert_int_equal(yk_learned_save(one.policy, &bytes, &len), 0);
    restart(&two, &one, bytes, len, now_ms, 0);
    free(bytes);
    for (uint32_t key = 0; key < KEYS; key++)
        assert_same_thought(&one, &two, key);
    one.hits = two.hits = 0;
    uint64_t rng_two = rng, now_two_ms = now_ms;
    for (uint32_t i = 0; i < 4000; i++) {
        play(&one, &rng, &now_ms, 1);
        play(&two, &rng_two, &now_two_ms, 1);
        assert_string_equal(yk_learned_follows(one.policy), yk_learned_follows(two.policy));
        for (uint32_t key = i % 50; key < KEYS; key += 50)
            assert_same_thought(&one, &two, key);
    }
    /* Only the order among those that yield is another. */
    if (two.hits * 100 < one.hits * 98)
        fail_msg("%llu hits, and %llu after a restart", (unsigned long long)one.hits, (unsigned long long)two.hits);
    close_cache(&one);
    close_cache(&two);
}

/* Of different lengths: they think the same when it is loaded, and go on alike; not to the bit, as what is here is not the
 * same for long, and its lengths are what room is seen from. */
static void test_lengths_are_kept(void **state) {
    struct cache one, two;
    uint64_t rng = 5, now_ms = 0;
    void *bytes;
    size_t len;
    (void)state;
    open_cache(&one, ROOM * 2);
    one.is_mixed = true;
    play(&one, &rng, &now_ms, 6000);
    assert_int_equal(yk_learned_save(one.policy, &bytes, &len), 0);
    restart(&two, &one, bytes, len, now_ms, 0);
    free(bytes);
    for (uint32_t key = 0; key < KEYS; key++)
        assert_same_thought(&one, &two, key);
    one.hits = two.hits = 0;
    uint64_t rng_two = rng, now_two_ms = now_ms;
    play(&one, &rng, &now_ms, 4000);
    play(&two, &rng_two, &now_two_ms, 4000);
    if (two.hits * 100 < one.hits * 95)
        fail_msg("%llu hits, and %llu after a restart", (unsigned long long)one.hits, (unsigned long long)two.hits);
    close_cache(&one);
    close_cache(&two);
}

static void test_ages_grow_while_it_is_away(void **state) {
    struct cache one, two;
    struct yk_learned_block x, y;
    uint64_t rng = 9, now_ms = 0;
    void *bytes;
    size_t len;
    (void)state;
    open_cache(&one, ROOM * 2);
    play(&one, &rng, &now_ms, 500);
    assert_int_equal(yk_learned_save(one.policy, &bytes, &len), 0);
    restart(&two, &one, bytes, len, 77, 12345); /* another boot: its clock begins anew */
    for (uint32_t key = 0; key < KEYS; key++) {
        if (yk_learned_explain(one.policy, hash_of(key), &x) != 0)
            continue;
        assert_int_equal(yk_learned_explain(two.policy, hash_of(key), &y), 0);
        assert_int_equal(y.age_ms, x.age_ms + 12345);
        assert_int_equal(y.life_ms, x.life_ms + 12345);
    }
    close_cache(&two);
    restart(&two, &one, bytes, len, 5, UINT64_MAX); /* a wall clock that jumped */
    assert_int_equal(yk_learned_explain(two.policy, hash_of(0), &y), 0);
    assert_in_range(y.age_ms, 1u << 30, INT32_MAX);
    now_ms = 6;
    play(&two, &rng, &now_ms, 500);
    close_cache(&two);
    close_cache(&one);
    free(bytes);
}

/* What a build before this one wrote is read, so its trees lie where they lay: counts, steps of leaves, and then what
 * values leave over, a row a value, of which the first rules out nothing. */
static void test_trees_lie_where_they_lay(void **state) {
    enum { FEATURES = 19, VALUES = 64, ROW = 24 * 4, LEAVES_END = 6184, TREES = LEAVES_END + FEATURES * VALUES * ROW };
    struct cache c;
    uint64_t rng = 5, now_ms = 0;
    uint32_t head_bytes, count;
    unsigned char *bytes, all[ROW];
    size_t len, empty;
    (void)state;
    memset(all, 0xff, sizeof(all));
    open_cache(&c, ROOM);
    assert_int_equal(yk_learned_save(c.policy, (void **)&bytes, &empty), 0);
    memcpy(&head_bytes, bytes + 12, sizeof(head_bytes));
    assert_int_equal(empty, (head_bytes + 7) / 8 * 8 + TREES); /* no records yet, so nothing follows */
    free(bytes);
    play(&c, &rng, &now_ms, 6000);
    assert_int_equal(yk_learned_save(c.policy, (void **)&bytes, &len), 0);
    const unsigned char *trees = bytes + empty - TREES;
    memcpy(&count, trees, sizeof(count));
    assert_int_equal(count, 24);
    for (uint32_t f = 0; f < FEATURES; f++)
        assert_memory_equal(trees + LEAVES_END + f * VALUES * ROW, all, ROW);
    assert_memory_not_equal(trees + LEAVES_END - 8, all, 8);
    free(bytes);
    close_cache(&c);
}

static void test_damage_is_seen_and_changes_nothing(void **state) {
    struct cache one, two;
    struct yk_err err;
    uint64_t rng = 5, now_ms = 0;
    unsigned char *bytes;
    size_t len;
    (void)state;
    open_cache(&one, ROOM * 2);
    open_cache(&two, ROOM * 2);
    play(&one, &rng, &now_ms, 1000);
    assert_int_equal(yk_learned_save(one.policy, (void **)&bytes, &len), 0);
    for (size_t at = 0; at < len; at += at < 512 ? 1 : len / 97) {
        bytes[at] ^= 0x10;
        err.text[0] = 0;
        int rc = yk_learned_load(two.policy, bytes, len, 0, 0, &err);
        assert_true(rc == -YK_ECORRUPT || rc == -YK_EVERSION);
        assert_true(err.text[0] != 0);
        bytes[at] ^= 0x10;
        assert_int_equal(yk_learned_load(two.policy, bytes, at, 0, 0, &err), -YK_ECORRUPT);
    }
    assert_int_equal(yk_learned_load(one.policy, bytes, len, 0, 0, &err), -YK_EBUSY);
    now_ms = 0;
    play(&two, &rng, &now_ms, 1000); /* as a fresh one */
    close_cache(&two);
    open_cache(&two, ROOM * 2);
    assert_int_equal(yk_learned_load(two.policy, bytes, len, 0, 0, &err), 0);
    close_cache(&two);
    close_cache(&one);
    free(bytes);
}

/* Copied in steps, between which requests go on and records are given up. */
static void test_is_saved_while_requests_go_on(void **state) {
    struct cache one, two;
    uint64_t rng = 31, now_ms = 0;
    void *bytes;
    size_t len;
    (void)state;
    open_cache(&one, ROOM * 2);
    play(&one, &rng, &now_ms, 6000);
    for (uint32_t step = 1; step <= 125; step *= 5) {
        struct yk_learned_saving *s = yk_learned_saving_begin(one.policy);
        assert_non_null(s);
        while (!yk_learned_saving_step(s, step))
            play(&one, &rng, &now_ms, 1);
        play(&one, &rng, &now_ms, 50);
        assert_int_equal(yk_learned_saving_end(s, &bytes, &len), 0);
        yk_learned_saving_free(s);
        restart(&two, &one, bytes, len, now_ms, 0);
        uint64_t rng_two = rng, now_two_ms = now_ms, before = one.hits;
        play(&one, &rng, &now_ms, 3000);
        play(&two, &rng_two, &now_two_ms, 3000);
        if (two.hits * 100 < (one.hits - before) * 95)
            fail_msg("%llu hits, and %llu after a restart", (unsigned long long)(one.hits - before),
                     (unsigned long long)two.hits);
        close_cache(&two);
        free(bytes);
    }
    yk_learned_saving_free(yk_learned_saving_begin(one.policy)); /* given up */
    close_cache(&one);
}

/* Into a policy that is for fewer blocks. */
static void test_less_room_than_it_had(void **state) {
    struct cache one, two;
    struct yk_err err;
    uint64_t rng = 5, now_ms = 0;
    void *bytes;
    size_t len;
    (void)state;
    open_cache(&one, ROOM * 2);
    play(&one, &rng, &now_ms, 3000);
    assert_int_equal(yk_learned_save(one.policy, &bytes, &len), 0);
    for (uint32_t capacity = 1; capacity < ROOM; capacity *= 7) {
        struct yk_learned_block b;
        uint32_t in_lru = 0, in_s3fifo = 0, in_learned = 0;
        open_cache(&two, capacity);
        assert_int_equal(yk_learned_load(two.policy, bytes, len, now_ms, 0, &err), 0);
        for (uint32_t key = 0; key < KEYS; key++)
            if (yk_learned_explain(two.policy, hash_of(key), &b) == 0) {
                in_lru += b.in_lru;
                in_s3fifo += b.in_s3fifo;
                in_learned += b.in_learned;
            }
        assert_int_equal(in_lru, capacity);
        assert_int_equal(in_s3fifo, capacity);
        assert_int_equal(in_learned, capacity);
        uint64_t rng_two = rng, now_two_ms = now_ms;
        play(&two, &rng_two, &now_two_ms, 500);
        close_cache(&two);
    }
    close_cache(&one);
    free(bytes);
}

/* ---- prefetch ---- */

static uint32_t key_of(uint64_t hash) {
    uint32_t key = 0;
    while (key < KEYS && hash_of(key) != hash)
        key++;
    assert_true(key < KEYS);
    return key;
}

/* What is wanted soon comes up; returns how many blocks. */
static uint32_t tick(struct cache *c, uint64_t now_ms) {
    uint64_t hashes[3];
    uint32_t n, moved = 0;
    for (int chains = 0; chains < 8 && (n = yk_learned_prefetch(c->policy, now_ms, hashes, 3)) > 0; chains++)
        for (uint32_t i = n; i-- > 0;) {
            uint32_t key = key_of(hashes[i]);
            if (c->in[key])
                continue;
            moved++;
            put_block(c, key, (struct yk_policy_block){.key_hash = hashes[i], .size_bytes = 1, .is_ahead = true,
                                                       .parent_id = key % 3 != 0 ? key - 1 : YK_POLICY_NONE});
        }
    return moved;
}

/* More sessions than there is room for, each on time, one every 100 ms. Returns what came up ahead. */
static uint32_t play_on_time(struct cache *c, uint64_t *now_ms, uint32_t requests) {
    enum { SESSIONS = ROOM * 4 / 3, EVERY_MS = 100 };
    uint32_t moved = 0;
    for (uint32_t i = 0; i < requests; i++) {
        *now_ms += EVERY_MS;
        if (*now_ms % 1000 == 0)
            moved += tick(c, *now_ms);
        use(c, *now_ms, (uint32_t)(*now_ms / EVERY_MS % SESSIONS));
    }
    return moved;
}

static uint64_t trainings_of(const struct cache *c) {
    struct yk_learned_report r;
    yk_learned_report(c->policy, &r);
    return r.trainings;
}

/* What was learned of timing is loaded, too, and counts before the next training. */
static void test_what_is_due_comes_up_after_a_load(void **state) {
    enum { REQUESTS = 350 }; /* fewer than between two trainings; and as of which sessions are known is not saved */
    struct cache one, two;
    uint64_t now_ms = 0;
    void *bytes;
    size_t len;
    (void)state;
    open_cache(&one, ROOM * 2);
    play_on_time(&one, &now_ms, 30000);
    for (uint64_t before = trainings_of(&one); trainings_of(&one) == before;)
        play_on_time(&one, &now_ms, 1);
    assert_int_equal(yk_learned_save(one.policy, &bytes, &len), 0);
    restart(&two, &one, bytes, len, now_ms, 0);
    free(bytes);
    uint64_t now_two_ms = now_ms;
    uint32_t moved = play_on_time(&one, &now_ms, REQUESTS), moved_two = play_on_time(&two, &now_two_ms, REQUESTS);
    assert_int_equal(trainings_of(&two), 0);
    if (moved == 0 || moved_two == 0)
        fail_msg("%u blocks came up, and %u after a restart", moved, moved_two);
    close_cache(&one);
    close_cache(&two);
}

static struct yk_policy *make_large(uint32_t blocks, struct yk_policy_space **ret_space) {
    struct yk_policy_opts opts = {.capacity_objects = blocks, .seed = 42};
    struct yk_policy *p;
    *ret_space = make_space(blocks);
    assert_int_equal(yk_policy_new(&yk_policy_learned, *ret_space, &opts, &p), 0);
    return p;
}

/* More records than are saved: those that were used last are. As many are remembered as BLOCKS that were here allow. */
static void test_the_longest_untouched_are_left_out(void **state) {
    enum { MORE = YK_LEARNED_SAVED_MAX + 64 * 1000, BLOCKS = MORE / 4 };
    struct yk_policy_space *spaces[2];
    struct yk_policy *one = make_large(BLOCKS, &spaces[0]), *two = make_large(BLOCKS, &spaces[1]);
    struct yk_learned_block b;
    struct yk_err err;
    uint64_t hashes[64];
    void *bytes;
    size_t len;
    (void)state;
    for (uint32_t id = 0; id < BLOCKS; id++) {
        struct yk_policy_block block = {.key_hash = hash_of(id), .parent_id = YK_POLICY_NONE, .found = true};
        assert_int_equal(yk_policy_insert(one, id, &block), 0);
    }
    for (uint32_t at = BLOCKS; at < MORE + 64; at += 64) {
        for (uint32_t i = 0; i < 64; i++)
            hashes[i] = hash_of(at + i);
        yk_policy_request(one, &(struct yk_policy_request){.now_ms = at, .key_hashes = hashes, .n = 64});
    }
    assert_int_equal(yk_learned_explain(one, hash_of(0), &b), 0);
    assert_int_equal(yk_learned_save(one, &bytes, &len), 0);
    assert_in_range(len, YK_LEARNED_SAVED_MAX * 40, YK_LEARNED_SAVED_MAX * 80);
    assert_int_equal(yk_learned_load(two, bytes, len, MORE, 0, &err), 0);
    assert_int_equal(yk_learned_explain(two, hashes[0], &b), 0);
    assert_int_equal(yk_learned_explain(two, hash_of(0), &b), YK_MISS);
    yk_policy_free(one);
    yk_policy_free(two);
    yk_policy_space_free(spaces[0]);
    yk_policy_space_free(spaces[1]);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_comes_what_is_worth_most),
        cmocka_unit_test(test_goes_on_as_if_nothing_was),
        cmocka_unit_test(test_lengths_are_kept),
        cmocka_unit_test(test_ages_grow_while_it_is_away),
        cmocka_unit_test(test_trees_lie_where_they_lay),
        cmocka_unit_test(test_damage_is_seen_and_changes_nothing),
        cmocka_unit_test(test_is_saved_while_requests_go_on),
        cmocka_unit_test(test_less_room_than_it_had),
        cmocka_unit_test(test_what_is_due_comes_up_after_a_load),
        cmocka_unit_test(test_the_longest_untouched_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
