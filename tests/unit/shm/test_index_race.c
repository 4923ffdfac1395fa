/* SPDX-License-Identifier: Apache-2.0
 *
 * Lookups while the owner changes the index: what is there all the time is never missed, what was
 * removed and acknowledged is never found.
 *
 * Two workloads. `splits` makes the rare window common: chains whose overflow buckets are empty but
 * for the last, so that each split unlinks dozens of buckets under readers that stand in them.
 * `churn` inserts and removes at random, descriptors and key cells being reused behind hazard
 * scans, with the index moved to its other area now and then as recovery does.
 *
 * The tests end after so many rounds of the owner and looks of the readers, not after a time.
 * -YK_EAGAIN is an answer that a reader may get (ask the node) and is counted apart. Run them with
 * the thread sanitizer: every access of readers and owner to shared fields is atomic.
 */
#include "rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static struct rig rig;

/* ---- splits ------------------------------------------------------------------------------- */

#define TARGETS     8u   /* chains, each with one block that stays, at its end */
#define HOLES       280u /* entries before it that are removed again: 40 buckets */
#define PUSHERS     400u /* entries elsewhere that make the table split those chains */
#define SPLIT_TURNS 60u

static struct yk_query targets[TARGETS];
static uint32_t target_desc[TARGETS];
static uint64_t target_names[TARGETS];

static void *split_reader(void *arg) {
    struct rig_reader *rd = arg;
    for (uint32_t i = 0; rig_reader_goes_on(rd); i = (i + 1) % TARGETS) {
        struct yk_found found;
        int rc = yk_view_find(&rig.view, &targets[i], 0, &found);
        rd->missed += rc == YK_MISS;
        rd->unsure += rc == -YK_EAGAIN;
        rd->wrong += rc == 0 && found.idx != target_desc[i];
    }
    return NULL;
}

static void targets_put(void) {
    for (uint32_t t = 0; t < TARGETS; t++) {
        target_names[t] = t;
        struct rig_block b = {.key = &target_names[t],
                              .key_len = sizeof(target_names[t]),
                              .hash = (uint64_t)(0x10000u + t) << 32 | t};
        target_desc[t] = rig_put(&rig, &b);
        targets[t] = rig_query(0, &target_names[t], sizeof(target_names[t]));
        targets[t].hash = b.hash;
    }
}

static void filler_insert(uint32_t idx, uint32_t bucket) {
    uint64_t hash = (uint64_t)idx << 32 | bucket;
    rig.owner.desc[idx].hash = hash;
    assert_int_equal(yk_index_insert(&rig.index, hash, idx), 0);
}

/* An empty index in the other area; readers may still be inside it for one more lookup. */
static unsigned other_area(void) {
    unsigned area = (unsigned)(rig.hdr->active & 1u) ^ 1u;
    uint64_t *at = (uint64_t *)(void *)(rig.meta + rig.layout.off_index[area]);
    for (uint64_t i = 0; i < rig.layout.index_bytes / 8; i++)
        __atomic_store_n(&at[i], 0, __ATOMIC_RELEASE);
    yk_index_init(&rig.index, rig.meta, &rig.layout, area);
    return area;
}

static void publish(unsigned area) {
    uint64_t incarnation = (rig.hdr->active >> 1) + 1;
    __atomic_store_n(&rig.hdr->active, incarnation << 1 | area, __ATOMIC_RELEASE);
}

static void split_turn(void) {
    unsigned area = other_area();
    for (uint32_t t = 0; t < TARGETS; t++) {
        for (uint32_t i = 0; i < HOLES; i++)
            filler_insert(TARGETS + i, t);
        assert_int_equal(yk_index_insert(&rig.index, targets[t].hash, target_desc[t]), 0);
        for (uint32_t i = 0; i < HOLES; i++)
            assert_int_equal(
                yk_index_remove(&rig.index, rig.owner.desc[TARGETS + i].hash, TARGETS + i), 0);
    }
    publish(area);
    for (uint32_t i = 0; i < PUSHERS; i++)
        filler_insert(TARGETS + i, 8u | (i & 0xffu));
}

static void splits_hide_nothing(void **state) {
    (void)state;
    struct rig_reader rd[RIG_READERS];
    rig_open(&rig, 1 << 20, 4000, 1);
    targets_put();
    rig_readers_start(rd, split_reader);
    for (uint32_t i = 0; i < SPLIT_TURNS || rig_readers_lag(rd, 1000); i++)
        split_turn();
    rig_readers_end(rd);
    rig_close(&rig);
}

/* ---- churn -------------------------------------------------------------------------------- */

#define KEYS        4000u
#define STEADY      500u /* of them, never removed */
#define CHURN_STEPS 60000u
#define REBUILD_AT  10000u

/* Life of a key, counted: the owner stores each step after (before) what it tells of.
 * 0 gone, 1 coming, 2 there, 3 going, 4 gone, ... */
static uint32_t life[KEYS];
static uint32_t desc_of[KEYS];
static char names[KEYS][24];
static uint32_t name_lens[KEYS];

static uint32_t name_len(uint32_t key) {
    return (uint32_t)snprintf(names[key], sizeof(names[key]), "%.*skey-%u", (int)(key % 14),
                              "aaaaaaaaaaaaaa", key);
}

static void life_step(uint32_t key) {
    __atomic_store_n(&life[key], life[key] + 1, __ATOMIC_RELEASE);
}

static void churn_look(struct rig_reader *rd, uint32_t key) {
    struct yk_query q = rig_query(key % 4, names[key], name_lens[key]);
    struct yk_found found;
    uint32_t before = __atomic_load_n(&life[key], __ATOMIC_ACQUIRE);
    int rc = yk_view_find(&rig.view, &q, 0, &found);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    int still = __atomic_load_n(&life[key], __ATOMIC_ACQUIRE) == before;
    rd->unsure += rc == -YK_EAGAIN;
    rd->missed += still && before % 4 == 2 && rc == YK_MISS;
    rd->wrong += still && before % 4 == 0 && rc == 0;
    if (rc == 0)
        rd->wrong += found.desc.hash != q.hash || found.desc.key_len != name_lens[key] ||
                     found.desc.len != key + 1 || found.desc.word != found.word;
}

static void *churn_reader(void *arg) {
    struct rig_reader *rd = arg;
    uint64_t seed = rd->number;
    while (rig_reader_goes_on(rd)) {
        churn_look(rd, (uint32_t)(rig_random(&seed) % STEADY));
        churn_look(rd, (uint32_t)(rig_random(&seed) % KEYS));
    }
    return NULL;
}

static void churn_put(uint32_t key) {
    struct rig_block b = {
        .key = names[key], .key_len = name_lens[key], .ns = key % 4, .len = key + 1};
    life_step(key);
    desc_of[key] = rig_put(&rig, &b);
    assert_int_not_equal(desc_of[key], YK_SHM_NONE);
    life_step(key);
}

static void churn_remove(uint32_t key) {
    life_step(key);
    rig_retire(&rig, desc_of[key]);
    life_step(key);
    if (rig.limbo_count > 50)
        rig_scan(&rig);
}

static void rebuild(void) {
    unsigned area = other_area();
    for (uint32_t key = 0; key < KEYS; key++)
        if (life[key] % 4 == 2)
            assert_int_equal(
                yk_index_insert(&rig.index, rig.owner.desc[desc_of[key]].hash, desc_of[key]), 0);
    publish(area);
}

static void churn_hides_nothing_and_shows_nothing_dead(void **state) {
    (void)state;
    struct rig_reader rd[RIG_READERS];
    uint64_t seed = 99;
    memset(life, 0, sizeof(life));
    rig_open(&rig, 1 << 20, KEYS + 100, 1);
    for (uint32_t key = 0; key < KEYS; key++)
        name_lens[key] = name_len(key);
    for (uint32_t key = 0; key < STEADY; key++)
        churn_put(key);
    rig_readers_start(rd, churn_reader);
    for (uint32_t i = 0; i < CHURN_STEPS || rig_readers_lag(rd, 1000); i++) {
        uint32_t key = STEADY + (uint32_t)(rig_random(&seed) % (KEYS - STEADY));
        if (life[key] % 4 == 0)
            churn_put(key);
        else
            churn_remove(key);
        if (i % REBUILD_AT == REBUILD_AT - 1)
            rebuild();
    }
    rig_readers_end(rd);
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_hide_nothing),
        cmocka_unit_test(churn_hides_nothing_and_shows_nothing_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
