/* SPDX-License-Identifier: Apache-2.0
 *
 * Shares go where they hit most, within what is guaranteed and allowed, and what they say is true of caches of that
 * size: streams of several tenants run through one LRU for all, and through one where who is most above its share gives
 * way.
 */
#include "testing.h"

#include "sched/shares.h"

#include <math.h>

#define CAPACITY 1000u
#define IDS      (1u << 16)

static struct yk_shares *make(uint32_t tenants, uint64_t capacity) {
    struct yk_shares *s;
    struct yk_shares_opts opts = {.tenants = tenants, .capacity_bytes = capacity, .seed = 42};
    assert_int_equal(yk_shares_new(&opts, &s), 0);
    for (uint32_t i = 0; i < tenants; i++)
        assert_int_equal(yk_shares_join(s, i), 0);
    return s;
}

/* Blocks of tenants have unlike hashes. */
static uint64_t hash_of(uint32_t tenant, uint64_t block) {
    uint64_t x = (block + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)tenant << 53;
    return (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

static void ask(struct yk_shares *s, uint32_t tenant, uint64_t block) {
    uint64_t hash = hash_of(tenant, block);
    yk_shares_request(s, tenant, &hash, 1);
    if (yk_shares_is_due(s))
        yk_shares_update(s);
}

/* What a stream asks for next. */
struct source {
    uint32_t working_set; /* random blocks of these; 0: each time a new one */
    uint32_t loop;        /* these in turn, instead */
    uint32_t often;       /* requests a round */
    uint64_t next;
};

static uint64_t draw(struct source *from, uint64_t *rng) {
    uint64_t n = from->next++;
    if (from->loop != 0)
        return n % from->loop;
    return from->working_set == 0 ? UINT64_C(1) << 40 | n : random_below(rng, from->working_set);
}

static void run(struct yk_shares *s, struct source *of, uint32_t tenants, uint32_t rounds) {
    uint64_t rng = 5;
    for (uint32_t i = 0; i < rounds; i++)
        for (uint32_t t = 0; t < tenants; t++)
            for (uint32_t k = 0; k < of[t].often; k++)
                ask(s, t, draw(&of[t], &rng));
}

static uint64_t sum_of(const struct yk_shares *s, uint32_t tenants) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < tenants; i++)
        sum += yk_shares_bytes(s, i);
    return sum;
}

/* ---- what is divided, and how ---- */

static void a_scan_gets_little(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 500, .often = 1}, {.often = 9}};
    run(s, of, 2, 5000);
    assert_true(yk_shares_bytes(s, 0) >= 900);
    assert_true(yk_shares_bytes(s, 1) <= 100 && yk_shares_bytes(s, 1) > 0);
    assert_true(yk_shares_hit_ratio(s, 0, 500) > 0.95);
    assert_true(yk_shares_hit_ratio(s, 1, CAPACITY) < 0.02);
    yk_shares_free(s);
}

static void equal_tenants_have_equal_shares(void **state) {
    struct yk_shares *s = make(4, CAPACITY);
    struct source of[4];
    for (int i = 0; i < 4; i++)
        of[i] = (struct source){.working_set = 400, .often = 1};
    run(s, of, 4, 20000);
    for (uint32_t i = 0; i < 4; i++)
        assert_in_range(yk_shares_bytes(s, i), 150, 350);
    assert_in_range(sum_of(s, 4), CAPACITY - 4, CAPACITY);
    yk_shares_free(s);
}

/* A loop hits nothing until all of it fits. */
static void a_loop_has_all_that_it_needs_or_nothing(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.loop = 700, .often = 4}, {.working_set = 250, .often = 1}};
    run(s, of, 2, 5000);
    assert_true(yk_shares_bytes(s, 0) >= 700);
    yk_shares_free(s);

    s = make(2, CAPACITY);
    of[0] = (struct source){.loop = 2000, .often = 4}; /* larger than the cache */
    run(s, of, 2, 5000);
    assert_true(yk_shares_bytes(s, 0) < 100);
    assert_true(yk_shares_bytes(s, 1) > 900);
    yk_shares_free(s);

    s = make(2, CAPACITY);
    of[0] = (struct source){.loop = 900, .often = 1}; /* it would fit, were it not for who gains more */
    of[1] = (struct source){.working_set = 250, .often = 4};
    run(s, of, 2, 8000);
    assert_true(yk_shares_bytes(s, 1) >= 250);
    assert_true(yk_shares_bytes(s, 0) < 100);
    yk_shares_free(s);
}

static void terms_are_kept(void **state) {
    struct yk_shares *s = make(3, CAPACITY);
    struct source of[] = {{.working_set = 900, .often = 3}, {.working_set = 900, .often = 1}, {.often = 1}};
    struct yk_shares_terms quota = {.most_bytes = 300, .block_bytes = 1}, least = {.least_bytes = 200, .block_bytes = 1};
    assert_int_equal(yk_shares_set_terms(s, 0, &quota), 0);
    assert_int_equal(yk_shares_set_terms(s, 2, &least), 0);
    run(s, of, 3, 5000);
    assert_in_range(yk_shares_bytes(s, 0), 250, 300);
    assert_in_range(yk_shares_bytes(s, 2), 200, 300); /* it scans, but has a right to it */
    assert_true(yk_shares_bytes(s, 1) >= 400);
    yk_shares_free(s);
}

static void more_is_guaranteed_than_there_is(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 900, .often = 1}, {.often = 1}};
    for (uint32_t i = 0; i < 2; i++) {
        struct yk_shares_terms t = {.least_bytes = i == 0 ? 3 * CAPACITY / 4 : 3 * CAPACITY, .block_bytes = 1};
        assert_int_equal(yk_shares_set_terms(s, i, &t), 0);
    }
    run(s, of, 2, 2000);
    assert_in_range(sum_of(s, 2), CAPACITY - 2, CAPACITY);
    assert_in_range(yk_shares_bytes(s, 0), 420, 440); /* 3 of 7, but for the 64th that is nobody's */
    yk_shares_free(s);
}

/* Down from who is most above, each once; who has nothing has nothing to give. */
static void who_is_most_above_gives_first(void **state) {
    struct yk_shares *s = make(4, CAPACITY);
    struct source of[] = {{.working_set = 500, .often = 1}, {.often = 3}, {.often = 1}, {.often = 1}};
    for (uint32_t i = 0; i < 3; i++)
        yk_shares_set_used(s, i, 100);
    assert_int_equal(yk_shares_giver(s, YK_SHARES_NONE), YK_SHARES_NONE); /* nothing is known yet */
    run(s, of, 4, 5000);
    yk_shares_set_used(s, 2, 300);
    yk_shares_set_used(s, 3, 0);
    assert_int_equal(yk_shares_giver(s, YK_SHARES_NONE), 2);
    assert_int_equal(yk_shares_giver(s, 2), 1);
    assert_int_equal(yk_shares_giver(s, 1), 0);
    assert_int_equal(yk_shares_giver(s, 0), YK_SHARES_NONE);
    yk_shares_leave(s, 2);
    assert_int_equal(yk_shares_giver(s, YK_SHARES_NONE), 1);
    yk_shares_free(s);
}

static void a_guarantee_holds_before_anything_is_known(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct yk_shares_terms t = {.least_bytes = 200, .block_bytes = 1};
    assert_int_equal(yk_shares_set_terms(s, 0, &t), 0);
    yk_shares_set_used(s, 0, 200);
    yk_shares_set_used(s, 1, 1);
    assert_true(yk_shares_is_guaranteed(s, 0) && !yk_shares_is_guaranteed(s, 1));
    yk_shares_set_used(s, 0, 201);
    assert_true(!yk_shares_is_guaranteed(s, 0));
    assert_int_equal(yk_shares_least_bytes(s, 0), 200);
    t.least_bytes = UINT64_MAX; /* as all there is, but for the part that others begin with */
    assert_int_equal(yk_shares_set_terms(s, 0, &t), 0);
    assert_in_range(yk_shares_least_bytes(s, 0), CAPACITY - CAPACITY / 64 - 1, CAPACITY - CAPACITY / 64);
    yk_shares_free(s);
}

/* Its share moves step by step. */
static void a_guarantee_counts_at_once(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 900, .often = 1}, {.often = 1}};
    struct yk_shares_terms t = {.least_bytes = 300, .block_bytes = 1};
    run(s, of, 2, 5000);
    yk_shares_set_used(s, 0, 900);
    yk_shares_set_used(s, 1, 100);
    uint64_t share = yk_shares_bytes(s, 1);
    assert_int_equal(yk_shares_giver(s, YK_SHARES_NONE), 1);
    assert_int_equal(yk_shares_set_terms(s, 1, &t), 0);
    assert_int_equal(yk_shares_giver(s, YK_SHARES_NONE), 0);
    assert_int_equal(yk_shares_bytes(s, 1), share);
    yk_shares_set_used(s, 1, 400);
    assert_int_equal(yk_shares_giver(s, YK_SHARES_NONE), 1);
    yk_shares_free(s);
}

static void what_its_share_should_hit_is_told(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 500, .often = 1}, {.often = 9}};
    assert_true(yk_shares_predicted(s, 0) == 0);
    run(s, of, 2, 5000);
    assert_true(yk_shares_predicted(s, 0) > 0.95 && yk_shares_predicted(s, 1) < 0.02);
    yk_shares_free(s);
}

static void priority_is_what_a_hit_counts(void **state) {
    for (int favoured = 0; favoured < 2; favoured++) {
        struct yk_shares *s = make(2, CAPACITY);
        struct source of[] = {{.working_set = 900, .often = 1}, {.working_set = 900, .often = 1}};
        struct yk_shares_terms t = {.priority = 4, .block_bytes = 1};
        assert_int_equal(yk_shares_set_terms(s, (uint32_t)favoured, &t), 0);
        run(s, of, 2, 20000);
        assert_true(yk_shares_bytes(s, (uint32_t)favoured) > 800);
        yk_shares_free(s);
    }
}

/* Blocks of ten bytes bring a tenth of the hits of a byte. */
static void small_blocks_bring_more_for_a_byte(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 800, .often = 1}, {.working_set = 80, .often = 1}};
    struct yk_shares_terms t = {.block_bytes = 10};
    assert_int_equal(yk_shares_set_terms(s, 1, &t), 0);
    run(s, of, 2, 20000);
    /* Each needs 800 bytes for one hit a round. Half of what the small ones ask for is better than nothing. */
    assert_in_range(sum_of(s, 2), CAPACITY - 2, CAPACITY);
    assert_true(fabs(yk_shares_hit_ratio(s, 0, 400) - 0.5) < 0.1);
    assert_true(fabs(yk_shares_hit_ratio(s, 1, 400) - 0.5) < 0.1);
    of[0].often = 3;
    run(s, of, 2, 20000);
    assert_true(yk_shares_bytes(s, 0) > 750);
    yk_shares_free(s);
}

static void shares_follow_by_bounded_steps(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 600, .often = 2}, {.often = 2}};
    run(s, of, 2, 5000);
    assert_true(yk_shares_bytes(s, 0) > 900);
    uint64_t rng = 9, before = yk_shares_bytes(s, 0);
    for (uint32_t i = 0; i < 20000; i++) { /* they change places */
        uint64_t scanned = UINT64_C(1) << 41 | i, wanted = random_below(&rng, 600);
        ask(s, 0, scanned);
        ask(s, 1, wanted);
        uint64_t now = yk_shares_bytes(s, 0);
        assert_true((now > before ? now - before : before - now) <= CAPACITY / 16 + 1);
        before = now;
    }
    assert_true(yk_shares_bytes(s, 1) > 900);
    yk_shares_free(s);
}

static void who_leaves_leaves_room(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 300, .often = 1}, {.working_set = 300, .often = 1}};
    run(s, of, 2, 5000);
    yk_shares_leave(s, 0);
    assert_int_equal(yk_shares_bytes(s, 0), 0);
    run(s, of, 2, 8000);
    assert_in_range(yk_shares_bytes(s, 1), CAPACITY - 1, CAPACITY);
    assert_int_equal(yk_shares_join(s, 0), 0);
    run(s, of, 2, 8000);
    assert_true(yk_shares_bytes(s, 0) >= 300);
    yk_shares_free(s);
}

static void shares_grow_with_the_capacity(void **state) {
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 300, .often = 1}, {.working_set = 600, .often = 1}};
    run(s, of, 2, 5000);
    uint64_t before = yk_shares_bytes(s, 0);
    yk_shares_capacity(s, 4 * CAPACITY);
    assert_in_range(yk_shares_bytes(s, 0), 4 * before, 4 * before + 4);
    run(s, of, 2, 20000);
    assert_in_range(sum_of(s, 2), 4 * CAPACITY - 2, 4 * CAPACITY);
    yk_shares_capacity(s, 0);
    run(s, of, 2, 1000);
    assert_true(sum_of(s, 2) <= 1);
    yk_shares_capacity(s, UINT64_MAX);
    run(s, of, 2, 100);
    yk_shares_capacity(s, 600);
    run(s, of, 2, 20000);
    assert_in_range(sum_of(s, 2), 598, 600);
    yk_shares_free(s);
}

/* ---- curves ---- */

static uint32_t skewed(uint64_t *rng, uint32_t working_set) {
    uint32_t part = random_below(rng, 1000);
    return (uint32_t)((uint64_t)random_below(rng, working_set) * part / 1000);
}

/* The hits of an LRU, counted from so many requests on. */
static double lru_ratio(uint32_t capacity, uint32_t working_set, uint32_t from, uint32_t n) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy("lru", space, capacity);
    uint32_t hits = 0, id;
    uint64_t rng = 11;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t block = skewed(&rng, working_set);
        if (yk_policy_access(p, block) == 0) {
            hits += i >= from;
            continue;
        }
        while (yk_policy_count(p) >= capacity && (id = next_victim(p, take_all, NULL)) != YK_POLICY_NONE)
            assert_int_equal(evict_block(p, id), 0);
        assert_int_equal(insert_block(p, block, YK_POLICY_NONE), 0);
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
    return (double)hits / (n - from);
}

/* Of 256 blocks each is sampled and counted by itself. */
static void a_small_curve_is_exact(void **state) {
    struct yk_shares *s = make(1, 256);
    uint64_t rng = 11, hash;
    for (uint32_t i = 0; i < 20000; i++) {
        hash = hash_of(0, skewed(&rng, 500));
        yk_shares_request(s, 0, &hash, 1);
    }
    for (uint32_t size = 1; size <= 256; size += 15)
        assert_true(fabs(yk_shares_hit_ratio(s, 0, size) - lru_ratio(size, 500, 0, 20000)) < 1e-9);
    yk_shares_free(s);
}

/* The same stream. One block in eight is sampled. */
static void a_curve_says_what_an_lru_hits(void **state) {
    struct yk_shares *s = make(1, 16000);
    uint64_t rng = 11;
    for (uint32_t i = 0; i < 200000; i++)
        ask(s, 0, skewed(&rng, 20000));
    for (uint32_t size = 1000; size <= 16000; size *= 2)
        assert_true(fabs(yk_shares_hit_ratio(s, 0, size) - lru_ratio(size, 20000, 100000, 200000)) < 0.03);
    yk_shares_free(s);
}

/* All chains begin with the same block: in a sample of chains they would be all or none. */
static void chains_with_one_head_are_seen(void **state) {
    struct yk_shares *s = make(2, 16000);
    uint64_t rng = 3;
    for (uint32_t i = 0; i < 20000; i++) {
        uint64_t chain[8] = {hash_of(0, 0)};
        uint32_t which = random_below(&rng, 1000);
        for (uint32_t k = 1; k < 8; k++)
            chain[k] = hash_of(0, 1 + which * 8 + k);
        yk_shares_request(s, 0, chain, 8);
        ask(s, 1, i);
    }
    assert_true(yk_shares_hit_ratio(s, 0, 8000) > 0.9);
    assert_true(yk_shares_hit_ratio(s, 0, 800) > 0.1); /* the head alone is one in eight */
    assert_true(yk_shares_hit_ratio(s, 0, 800) < 0.35);
    assert_true(yk_shares_bytes(s, 0) > 7000);
    yk_shares_free(s);
}

/* ---- caches with these shares ---- */

struct cache {
    struct yk_policy_space *space;
    struct yk_policy *of[2];
    uint32_t known[2][4096]; /* the id of a block of the working set, + 1 */
    uint32_t block_of[IDS];
    uint32_t next_id, count;
    uint32_t hits[2], asked[2];
    uint64_t capacity;
};

static void cache_init(struct cache *c, uint64_t capacity) {
    memset(c, 0, sizeof(*c));
    c->space = make_space(IDS);
    c->capacity = capacity;
    for (int i = 0; i < 2; i++)
        c->of[i] = make_policy("lru", c->space, (uint32_t)capacity);
}

static void cache_fini(struct cache *c) {
    for (int i = 0; i < 2; i++)
        yk_policy_free(c->of[i]);
    yk_policy_space_free(c->space);
}

/* Who gives way: with shares who is most above its own, else the oldest of all. */
static void make_room(struct cache *c, const struct yk_shares *s) {
    size_t which = 0;
    uint32_t id;
    if (s != NULL && yk_shares_are_known(s)) {
        int64_t above[2];
        for (uint32_t i = 0; i < 2; i++)
            above[i] = (int64_t)yk_policy_count(c->of[i]) - (int64_t)yk_shares_bytes(s, i);
        which = above[1] > above[0];
        id = next_victim(c->of[which], take_all, NULL);
    } else {
        assert_int_equal(yk_policy_victim_oldest(c->of, 2, take_all, NULL, &which, &id), 0);
    }
    assert_int_equal(evict_block(c->of[which], id), 0);
    if (c->block_of[id] != UINT32_MAX)
        c->known[which][c->block_of[id]] = 0;
    c->count--;
}

static void cache_use(struct cache *c, const struct yk_shares *s, uint32_t tenant, uint64_t block) {
    uint32_t *known = block < 4096 ? &c->known[tenant][block] : NULL;
    c->asked[tenant]++;
    if (known != NULL && *known != 0) {
        assert_int_equal(yk_policy_access(c->of[tenant], *known - 1), 0);
        c->hits[tenant]++;
        return;
    }
    if (c->count == c->capacity)
        make_room(c, s);
    uint32_t id = c->next_id++ % IDS;
    while (insert_block(c->of[tenant], id, YK_POLICY_NONE) == -YK_EBUSY)
        id = c->next_id++ % IDS;
    c->block_of[id] = known != NULL ? (uint32_t)block : UINT32_MAX;
    if (known != NULL)
        *known = id + 1;
    c->count++;
}

static void two_tenants(struct cache *c, struct yk_shares *s, struct source of[2]) {
    uint64_t rng = 7;
    for (uint32_t i = 0; i < 20000; i++)
        for (uint32_t t = 0; t < 2; t++)
            for (uint32_t k = 0; k < of[t].often; k++) {
                uint64_t block = draw(&of[t], &rng);
                if (s != NULL)
                    ask(s, t, block);
                cache_use(c, s, t, block);
            }
}

static void a_scan_does_not_flush_anothers_working_set(void **state) {
    static struct cache with, without;
    struct source a[2] = {{.working_set = 600, .often = 1}, {.often = 9}}, b[2] = {a[0], a[1]};
    struct yk_shares *s = make(2, CAPACITY);
    cache_init(&with, CAPACITY);
    cache_init(&without, CAPACITY);
    two_tenants(&with, s, a);
    two_tenants(&without, NULL, b);
    double hit = (double)with.hits[0] / with.asked[0], hit_without = (double)without.hits[0] / without.asked[0];
    print_message("working set beside a scan: %.1f %% hit with shares, %.1f %% without\n", 100 * hit, 100 * hit_without);
    assert_true(hit > 0.9);
    assert_true(hit_without < 0.3);
    cache_fini(&with);
    cache_fini(&without);
    yk_shares_free(s);
}

/* Where nobody is in another's way, nobody loses by it. */
static void all_that_fits_stays(void **state) {
    static struct cache with;
    struct source of[2] = {{.working_set = 300, .often = 1}, {.working_set = 600, .often = 3}};
    struct yk_shares *s = make(2, CAPACITY);
    cache_init(&with, CAPACITY);
    two_tenants(&with, s, of);
    assert_int_equal(with.asked[0] - with.hits[0], 300);
    assert_int_equal(with.asked[1] - with.hits[1], 600);
    cache_fini(&with);
    yk_shares_free(s);
}

/* ---- bounds ---- */

static void floods_are_bounded(void **state) {
    struct yk_shares *s = make(YK_SHARES_TENANTS_MAX, 100000);
    uint64_t rng = 17, hash = 1, sum = 0;
    static uint64_t chain[5000];
    assert_int_equal(yk_shares_join(s, YK_SHARES_TENANTS_MAX), -YK_EINVAL);
    for (uint32_t i = 0; i < 600000; i++)
        ask(s, random_below(&rng, YK_SHARES_TENANTS_MAX + 50), (uint64_t)random_below(&rng, 1u << 30) << 10 | i % 1024);
    for (uint32_t i = 0; i < 5000; i++)
        chain[i] = hash_of(1, i);
    for (uint32_t i = 0; i < 50; i++)
        yk_shares_request(s, i, chain, 5000);
    yk_shares_request(s, UINT32_MAX, &hash, 1);
    yk_shares_request(s, 0, NULL, 0);
    yk_shares_update(s);
    for (uint32_t i = 0; i < YK_SHARES_TENANTS_MAX; i++) {
        assert_true(yk_shares_target_bytes(s, i) > 0);
        sum += yk_shares_target_bytes(s, i);
    }
    assert_in_range(sum, 100000 - YK_SHARES_TENANTS_MAX, 100000);
    assert_int_equal(yk_shares_bytes(s, UINT32_MAX), 0);
    assert_int_equal(yk_shares_set_terms(s, UINT32_MAX, &(struct yk_shares_terms){0}), YK_MISS);
    yk_shares_free(s);
}

static void absurd_terms_are_cut(void **state) {
    static const double priorities[] = {NAN, INFINITY, -1, 1e300, 1e-300, 0};
    struct yk_shares *s = make(2, CAPACITY);
    struct source of[] = {{.working_set = 300, .often = 1}, {.working_set = 300, .often = 1}};
    for (size_t i = 0; i < sizeof(priorities) / sizeof(priorities[0]); i++) {
        struct yk_shares_terms t = {.priority = priorities[i], .least_bytes = i % 2 ? UINT64_MAX : 0,
                                    .most_bytes = i % 3 ? UINT64_MAX : 1, .block_bytes = i == 4 ? UINT64_MAX : 1};
        assert_int_equal(yk_shares_set_terms(s, 1, &t), 0);
        run(s, of, 2, 2000);
        assert_true(sum_of(s, 2) <= CAPACITY);
    }
    yk_shares_free(s);
}

static void wrong_sizes_are_refused(void **state) {
    struct yk_shares *s;
    assert_int_equal(yk_shares_new(&(struct yk_shares_opts){.capacity_bytes = 1}, &s), -YK_EINVAL);
    assert_int_equal(yk_shares_new(&(struct yk_shares_opts){.tenants = 257, .capacity_bytes = 1}, &s), -YK_EINVAL);
    assert_int_equal(yk_shares_new(&(struct yk_shares_opts){.tenants = 1}, &s), -YK_EINVAL);
    yk_shares_free(NULL);
}

static void the_same_seed_makes_the_same_shares(void **state) {
    struct yk_shares *one = make(2, 20000), *two = make(2, 20000);
    struct source of[] = {{.working_set = 9000, .often = 1}, {.working_set = 15000, .often = 2}}, again[] = {of[0], of[1]};
    run(one, of, 2, 50000);
    run(two, again, 2, 50000);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(yk_shares_bytes(one, i), yk_shares_bytes(two, i));
        assert_int_equal(yk_shares_target_bytes(one, i), yk_shares_target_bytes(two, i));
    }
    yk_shares_free(one);
    yk_shares_free(two);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_gets_little),
        cmocka_unit_test(equal_tenants_have_equal_shares),
        cmocka_unit_test(a_loop_has_all_that_it_needs_or_nothing),
        cmocka_unit_test(terms_are_kept),
        cmocka_unit_test(more_is_guaranteed_than_there_is),
        cmocka_unit_test(who_is_most_above_gives_first),
        cmocka_unit_test(a_guarantee_holds_before_anything_is_known),
        cmocka_unit_test(a_guarantee_counts_at_once),
        cmocka_unit_test(what_its_share_should_hit_is_told),
        cmocka_unit_test(priority_is_what_a_hit_counts),
        cmocka_unit_test(small_blocks_bring_more_for_a_byte),
        cmocka_unit_test(shares_follow_by_bounded_steps),
        cmocka_unit_test(who_leaves_leaves_room),
        cmocka_unit_test(shares_grow_with_the_capacity),
        cmocka_unit_test(a_small_curve_is_exact),
        cmocka_unit_test(a_curve_says_what_an_lru_hits),
        cmocka_unit_test(chains_with_one_head_are_seen),
        cmocka_unit_test(a_scan_does_not_flush_anothers_working_set),
        cmocka_unit_test(all_that_fits_stays),
        cmocka_unit_test(floods_are_bounded),
        cmocka_unit_test(absurd_terms_are_cut),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(the_same_seed_makes_the_same_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
