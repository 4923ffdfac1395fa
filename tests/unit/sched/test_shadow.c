/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor's caches over records keep what the policies lru and s3fifo keep.
 */
#include "testing.h"

#include "sched/shadow_priv.h"

#define KEYS     400u
#define CAPACITY 60u

static uint64_t hash_of(uint32_t key) {
    return (key + 1) * UINT64_C(0x2545f4914f6cdd1d);
}

/* A policy as a cache of blocks, by key. */
struct cache {
    struct yk_policy_space *space;
    struct yk_policy *policy;
    bool in[KEYS];
};

/* With more room for ghosts than they may take, so that no hole among them costs one. */
static void make_cache(struct cache *c, const char *name) {
    *c = (struct cache){.space = make_space(100 * CAPACITY)};
    c->policy = make_policy(name, c->space, 100 * CAPACITY);
}

static void use_cache(struct cache *c, uint32_t key) {
    struct yk_policy_block block = {.key_hash = hash_of(key), .size_bytes = 1, .parent_id = YK_POLICY_NONE};
    uint32_t victim;
    if (c->in[key]) {
        assert_int_equal(yk_policy_access(c->policy, key), 0);
        return;
    }
    if (yk_policy_count(c->policy) == CAPACITY) {
        assert_int_equal(yk_policy_victim_any(c->policy, &victim), 0);
        assert_int_equal(yk_policy_evict(c->policy, victim, hash_of(victim)), 0);
        c->in[victim] = false;
    }
    assert_int_equal(yk_policy_insert(c->policy, key, &block), 0);
    c->in[key] = true;
}

static void drop_from_cache(struct cache *c, uint32_t key) {
    if (c->in[key])
        assert_int_equal(yk_policy_remove(c->policy, key), 0);
    c->in[key] = false;
}

static void free_cache(struct cache *c) {
    yk_policy_free(c->policy);
    yk_policy_space_free(c->space);
}

/* Few keys often, many seldom; the favourites move on. */
static uint32_t next_key(uint64_t *rng, uint32_t i) {
    uint32_t base = i / 4000 * 37;
    return (base + (random_below(rng, 3) ? random_below(rng, 80) : random_below(rng, KEYS))) % KEYS;
}

static void assert_same(const struct yk_history *h, uint8_t bit, const struct cache *c, int at) {
    for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t record = yk_history_find(h, hash_of(key));
        bool is_in = record != YK_RECORD_NONE && h->records[record].in & bit;
        if (is_in != c->in[key])
            fail_msg("key %u after %d uses", key, at);
    }
}

static uint32_t record_for(struct yk_history *h, uint32_t key) {
    uint32_t record = yk_history_find(h, hash_of(key));
    return record != YK_RECORD_NONE ? record : yk_history_add(h, hash_of(key), 0);
}

static void lru_keeps_what_the_policy_keeps(void **state) {
    struct yk_history h;
    struct yk_shadow_lru lru;
    struct cache c;
    uint64_t rng = 3;
    (void)state;
    assert_int_equal(yk_history_init(&h, KEYS), 0);
    yk_shadow_lru_init(&lru, &h, CAPACITY, 1);
    make_cache(&c, "lru");
    for (int i = 0; i < 20000; i++) {
        uint32_t key = next_key(&rng, (uint32_t)i), record = record_for(&h, key);
        h.request++;
        if (random_below(&rng, 50) == 0) {
            yk_shadow_lru_drop(&lru, record);
            drop_from_cache(&c, key);
        } else {
            yk_shadow_lru_before(&lru, record);
            yk_history_touch(&h, record, &(struct yk_history_request){.length = 1}, 0);
            (void)yk_shadow_lru_after(&lru, record);
            use_cache(&c, key);
        }
        assert_int_equal(lru.count, yk_policy_count(c.policy));
        if (i % 16 == 0)
            assert_same(&h, 1, &c, i);
    }
    free_cache(&c);
    yk_history_fini(&h);
}

static void s3fifo_keeps_what_the_policy_keeps(void **state) {
    struct yk_history h;
    struct yk_shadow_s3fifo s3fifo;
    struct cache c;
    uint64_t rng = 5;
    (void)state;
    assert_int_equal(yk_history_init(&h, KEYS), 0);
    yk_shadow_s3fifo_init(&s3fifo, &h, CAPACITY, 2);
    make_cache(&c, "s3fifo");
    for (int i = 0; i < 40000; i++) {
        uint32_t key = next_key(&rng, (uint32_t)i), record = record_for(&h, key);
        if (random_below(&rng, 50) == 0 && c.in[key]) {
            yk_shadow_s3fifo_drop(&s3fifo, record);
            drop_from_cache(&c, key);
        } else {
            (void)yk_shadow_s3fifo_use(&s3fifo, record);
            use_cache(&c, key);
        }
        if (i % 16 == 0)
            assert_same(&h, 2, &c, i);
    }
    free_cache(&c);
    yk_history_fini(&h);
}

static void says_who_left(void **state) {
    struct yk_history h;
    struct yk_shadow_lru lru;
    struct yk_shadow_s3fifo s3fifo;
    (void)state;
    assert_int_equal(yk_history_init(&h, 10), 0);
    yk_shadow_lru_init(&lru, &h, 1, 1);
    yk_shadow_s3fifo_init(&s3fifo, &h, 1, 2);
    for (uint32_t key = 0; key < 10; key++) {
        uint32_t record = yk_history_add(&h, hash_of(key), 0), expected = key == 0 ? YK_RECORD_NONE : record - 1;
        yk_history_touch(&h, record, &(struct yk_history_request){.length = 1}, 0);
        assert_int_equal(yk_shadow_lru_after(&lru, record), expected);
        assert_int_equal(yk_shadow_s3fifo_use(&s3fifo, record), expected);
    }
    yk_history_fini(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lru_keeps_what_the_policy_keeps),
        cmocka_unit_test(s3fifo_keeps_what_the_policy_keeps),
        cmocka_unit_test(says_who_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
