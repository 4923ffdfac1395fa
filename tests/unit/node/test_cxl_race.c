/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers of another thread, as clients are: they pin blocks and compare every byte while the owner moves blocks between
 * the ranges, replaces them and lets them go (docs/decisions/0020, R2). What a reader holds is what was put until it lets go
 * of it.
 *
 * A block's words follow from its first one, which names its key and version.
 */
#include "store_rig.h"

#include "base/clock.h"
#include "base/hash.h"

#include <pthread.h>
#include <sched.h>

#define WORDS   4096u
#define BLOCK   (8u * WORDS)
#define KEYS    300u
#define HOT     24u
#define READERS 2u
#define HELD    4u
#define STEPS   6000u
#define LOOKS   4000u
#define ODD     0x9e3779b97f4a7c15ull

static struct fixture f;

struct reader {
    pthread_t thread;
    struct yk_client_page *page;
    unsigned seed;
    int stop;
    uint64_t looks, hits, slow, wrong;
};

static uint32_t key_of(char key[32], uint32_t i) {
    return (uint32_t)snprintf(key, 32, "block-%u", i);
}

/* The pin is what makes it sound to read here, and the thread sanitizer knows nothing of fences. */
__attribute__((no_sanitize("thread"))) static int whole(const uint64_t *p, uint32_t key) {
    if (p[0] >> 32 != key)
        return 0;
    for (uint32_t i = 1; i < WORDS; i++)
        if (p[i] != p[0] + i * ODD)
            return 0;
    return 1;
}

static void *read_on(void *arg) {
    struct reader *r = arg;
    const uint64_t *held[HELD] = {NULL};
    uint32_t keys[HELD];
    char key[32];
    for (unsigned h = 0; !__atomic_load_n(&r->stop, __ATOMIC_RELAXED); h = (h + 1u) % HELD) {
        struct yk_found found;
        if (held[h] != NULL) { /* held since some turns: still the same */
            r->wrong += !whole(held[h], keys[h]);
            yk_hazard_clear(&r->page->hazard[h]);
            held[h] = NULL;
        }
        keys[h] = (uint32_t)rand_r(&r->seed) % (rand_r(&r->seed) % 2 ? KEYS : HOT);
        struct yk_query q = {.epoch = f.epoch, .key = key, .key_len = key_of(key, keys[h]), .ns = f.ns};
        q.hash = yk_hash_key(f.ns, key, q.key_len);
        if (yk_view_pin(yk_store_view(f.s), &q, 0, &r->page->hazard[h], &found) == 0) {
            held[h] = (const uint64_t *)(const void *)(yk_store_view(f.s)->data + found.rest.offset);
            r->wrong += !whole(held[h], keys[h]);
            r->hits++;
            r->slow += (uint64_t)found.slow;
        }
        __atomic_store_n(&r->looks, r->looks + 1, __ATOMIC_RELAXED);
        if (r->looks % 16 == 0)
            sched_yield(); /* the owner runs meanwhile, on one core too */
    }
    for (unsigned h = 0; h < HELD; h++)
        yk_hazard_clear(&r->page->hazard[h]);
    return NULL;
}

static void reader_start(struct reader *r, unsigned number) {
    uint32_t slot;
    uint64_t cookie;
    assert_int_equal(yk_store_client_attach(f.s, (uint32_t)getpid(), 0, 0, &slot, &cookie), 0);
    *r = (struct reader){.page = (struct yk_client_page *)yk_store_segment(f.s)->clients + slot, .seed = number};
    r->page->hazard_top = HELD;
    assert_int_equal(pthread_create(&r->thread, NULL, read_on, r), 0);
}

static void put_next(uint32_t i, uint32_t version) {
    static uint64_t words[WORDS];
    char key[32];
    for (uint32_t k = 0; k < WORDS; k++)
        words[k] = ((uint64_t)i << 32 | version) + k * ODD;
    key_of(key, i);
    int rc = put_as(&f, 0, key, NULL, words, BLOCK, YK_PUT_UPSERT);
    assert_true(rc == 0 || rc == -YK_ENOSPC);
}

static int behind(const struct reader *r) {
    for (unsigned i = 0; i < READERS; i++)
        if (__atomic_load_n(&r[i].looks, __ATOMIC_RELAXED) < LOOKS)
            return 1;
    return 0;
}

static void what_is_held_does_not_change(void **state) {
    struct reader r[READERS];
    unsigned seed = 7;
    fixture_init(&f, 4 * MIB, 0, "lru");
    f.o.cxl = (struct yk_store_cxl_opts){.bytes = 4 * MIB, .node = -1, .figures = {100, 10000000000ull, 1000, 1000000000ull}};
    store_open(&f);
    for (uint32_t i = 0; i < KEYS; i++)
        put_next(i, 0);
    for (unsigned i = 0; i < READERS; i++)
        reader_start(&r[i], i + 1u);
    for (uint32_t n = 1; n < STEPS || behind(r); n++) {
        uint32_t i = (uint32_t)rand_r(&seed) % KEYS;
        char key[32];
        yk_store_turn(f.s);
        if (n % 4 == 0)
            put_next(i, n);
        key_of(key, (uint32_t)rand_r(&seed) % KEYS);
        for (int k = 0; k < 4 && n % 8 == 0 && here(&f, key); k++) /* if it is in slow memory, it rises */
            change(&f, YK_CHANGE_TOUCH, 0, key);
        if (n % 8 == 0)
            yk_store_tick(f.s);
    }
    for (unsigned i = 0; i < READERS; i++) {
        __atomic_store_n(&r[i].stop, 1, __ATOMIC_RELAXED);
        pthread_join(r[i].thread, NULL);
        assert_int_equal(r[i].wrong, 0);
        assert_true(r[i].hits > 0 && r[i].slow > 0);
    }
    struct yk_counters n = counters(&f);
    assert_true(n.sunk > 100 && n.risen > 10);
    assert_int_equal(n.corrupt, 0);
    assert_int_equal(counters(&f).limbo_blocks, 0);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_held_does_not_change),
    };
    return cmocka_run_group_tests_name("cxl_race", tests, make_dir, remove_dir);
}
