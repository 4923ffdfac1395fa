/* SPDX-License-Identifier: Apache-2.0
 *
 * A segment that somebody scribbled on, live: lookups and the owner's functions may answer anything
 * that their comments allow, but they end, stay inside the mappings, and hand out no number outside
 * its region.
 *
 * Garbage is of several kinds, since random words alone are refused at the first check: small
 * numbers (which are valid links), words copied from elsewhere in the segment, single flipped bits.
 * Queries are made from what stands in the index, so that their tags are met. The mappings end in
 * pages that nobody may touch; a function that does not end is stopped by the test runner.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define BLOCKS 300u
#define DATA   (64u << 10)
#define TURNS  12u /* of each kind of garbage in each region */

static struct rig rig;
static uint64_t seed;

struct region {
    uint64_t off, bytes;
};

static uint32_t below(uint32_t n) {
    return (uint32_t)(rig_random(&seed) % n);
}

static void populate(void) {
    char key[64];
    rig_open(&rig, DATA, BLOCKS, 2);
    memset(key, 'k', sizeof(key));
    for (uint32_t i = 0; i < BLOCKS - 20; i++) {
        memcpy(key, &i, sizeof(i));
        struct rig_block b = {
            .key = key, .key_len = 4 + i % 60, .ns = i % 4, .offset = i * 100, .len = 1 + i % 100};
        assert_int_not_equal(rig_put(&rig, &b), YK_SHM_NONE);
    }
    for (uint32_t i = 0; i < 40; i++)
        rig_retire(&rig, i * 5);
    rig_scan(&rig);
}

static uint64_t garbage(uint64_t old, unsigned kind) {
    const uint64_t *meta = (const uint64_t *)(const void *)rig.meta;
    switch (kind) {
    case 0:
        return rig_random(&seed);
    case 1:
        return (uint64_t)below(BLOCKS + 5) << 32 | below(BLOCKS + 5);
    case 2:
        return meta[rig_random(&seed) % (rig.layout.meta_bytes / 8)];
    case 3:
        return old ^ 1ull << below(64);
    case 4:
        return UINT64_MAX - below(3);
    default:
        return below(4) != 0 ? old : rig_random(&seed);
    }
}

#define KINDS 6u

static void scribble(struct region at, unsigned kind) {
    uint64_t *w = (uint64_t *)(void *)(rig.meta + at.off);
    for (uint64_t i = 0; i < at.bytes / 8; i++)
        w[i] = garbage(w[i], kind);
}

/* A query that meets an entry: its bucket and tag, a key from anywhere, which may stand in room. */
static struct yk_query query_from_index(struct yk_key_room *room) {
    uint32_t b = below(rig.layout.max_buckets);
    uint64_t e = rig.index.buckets[b].entry[below(YK_SHM_BUCKET_ENTRIES)];
    uint32_t idx = (uint32_t)e - 1;
    struct yk_query q = rig_query(below(5), rig.meta + rig.layout.off_keys + below(4096), 1);
    q.key_len = 1 + below(255);
    q.hash = e >> 32 << 32 | b;
    if (idx < BLOCKS) { /* and even its descriptor */
        const struct yk_desc *d = &rig.owner.desc[idx];
        const void *key = yk_owner_key(&rig.owner, idx, room);
        q.hash = d->hash;
        q.ns = d->ns;
        q.epoch = d->epoch;
        if (key != NULL) {
            q.key = key;
            q.key_len = d->key_len;
        }
        if (q.ns < YK_SHM_NAMESPACES && below(2))
            q.epoch = rig.owner.ns[q.ns].epoch;
    }
    return q;
}

static void check_found(const struct yk_found *f) {
    assert_true(f->idx < BLOCKS);
    assert_true(f->rest.offset <= DATA && f->desc.len <= DATA - f->rest.offset);
}

static void look_around(void) {
    static struct yk_query q[64];
    static struct yk_key_room room[64];
    static struct yk_found found[64];
    int unsure;
    for (unsigned i = 0; i < 64; i++) {
        uint32_t *hazard = &rig.pages[0].hazard[0];
        q[i] = query_from_index(&room[i]);
        yk_view_prefetch(&rig.view, q[i].hash);
        if (yk_view_find(&rig.view, &q[i], 0, &found[0]) == 0)
            check_found(&found[0]);
        if (yk_view_pin(&rig.view, &q[i], 0, hazard, &found[0]) == 0)
            check_found(&found[0]);
        else
            assert_int_equal(*hazard, 0);
        yk_hazard_clear(hazard);
    }
    for (unsigned i = 0; i < 16; i++) {
        size_t n = yk_view_match(&rig.view, q + i * 4, 64 - i * 4, 0, found, &unsure);
        assert_true(n <= 64);
        for (size_t k = 0; k < n; k++)
            check_found(&found[k]);
    }
}

static void own_descriptors(struct yk_owner *o) {
    for (unsigned i = 0; i < 2 * BLOCKS; i++) {
        uint32_t idx = yk_owner_desc_take(o);
        if (idx == YK_SHM_NONE)
            break;
        assert_true(idx < BLOCKS);
        if (below(3) == 0)
            yk_owner_desc_give(o, idx);
        else
            o->desc[idx].word = YK_WORD(yk_owner_gen(o), YK_DESC_RESERVED);
    }
    for (uint32_t idx = 0; idx < BLOCKS; idx++) {
        const struct yk_desc *d = &o->desc[idx];
        const struct yk_rest *rest = &o->rest[idx];
        struct yk_key_room room = {{0}};
        if (yk_owner_desc_sane(o, idx, 1)) {
            assert_non_null(yk_owner_key(o, idx, &room));
            assert_true(rest->offset <= DATA && rest->cap <= DATA - rest->offset &&
                        d->len <= rest->cap);
        }
        yk_owner_key_is(o, idx, room.bytes, d->key_len);
        yk_owner_desc_sane(o, idx, 0);
        yk_owner_cell_give(o, d->key_cell, yk_key_tail(d->key_len));
    }
}

static void own_keys(struct yk_owner *o) {
    unsigned char key[255];
    uint64_t *used = calloc(rig.layout.max_key_granules / 64 + 1, 8);
    memset(key, 'x', sizeof(key));
    assert_non_null(used);
    for (unsigned i = 0; i < 400; i++) {
        uint32_t len = 1 + below(255);
        uint32_t cell = yk_owner_cell_take(o, key, len);
        if (cell != YK_SHM_NONE)
            assert_true(cell + yk_cell_granules(len) <= rig.layout.max_key_granules);
        if (below(2))
            yk_owner_cell_give(o, cell, len);
    }
    yk_owner_keys_rebuild(o, used);
    for (unsigned i = 0; i < 100; i++)
        assert_true(yk_owner_cell_take(o, key, 1 + below(255)) != 0xdeadbeef);
    free(used);
}

static void own_index(struct yk_index *x) {
    for (unsigned i = 0; i < 200; i++) {
        struct yk_key_room room;
        struct yk_query q = query_from_index(&room);
        struct yk_index_cursor cursor = {0};
        uint32_t idx = below(BLOCKS), n = 0;
        while (yk_index_next(x, q.hash, &cursor, &idx)) {
            assert_true(idx < BLOCKS);
            assert_true(++n <= 64 * YK_SHM_BUCKET_ENTRIES);
        }
        yk_index_prefetch(x, q.hash);
        yk_index_replace(x, q.hash, idx, below(BLOCKS));
        yk_index_insert(x, q.hash, below(BLOCKS));
        if (below(2))
            yk_index_remove(x, q.hash, idx);
    }
}

static void own_clients(struct yk_owner *o) {
    uint64_t events[64], lost = 0;
    uint64_t *w = (uint64_t *)(void *)rig.pages;
    for (uint64_t i = 0; i < rig.layout.clients_bytes / 8; i++)
        w[i] = rig_random(&seed);
    yk_owner_hazards_collect(o, rig.slots, 2);
    for (uint32_t i = 0; i < BLOCKS; i++)
        yk_owner_named(o, i);
    yk_owner_hazards_clear(o);
    for (uint32_t i = 0; i < BLOCKS; i++)
        assert_int_equal(yk_owner_named(o, i), 0);
    yk_owner_is_named(o, rig.slots, 2, below(BLOCKS));
    for (unsigned i = 0; i < 10; i++)
        assert_true(yk_owner_ring_drain(o, 1, events, 64, &lost) <= 64);
    yk_owner_page_reset(o, 0);
    yk_owner_page_reset(o, 1);
}

/* As a daemon does that finds the segment at its start; it got past the header's checks. */
static void own_again(void) {
    struct yk_owner o;
    assert_int_equal(yk_owner_init(&o, rig.meta, rig.pages, &rig.layout), 0);
    own_descriptors(&o);
    own_keys(&o);
    uint64_t gen = yk_owner_gen(&o);
    assert_true(gen != 0 && gen < 1ull << 56);
    yk_owner_fini(&o);
}

static void turn(unsigned region, unsigned kind) {
    const struct yk_shm_layout *l = &rig.layout;
    const struct region at[] = {
        {sizeof(struct yk_shm_hdr) - 128, 128},
        {l->off_index[0], l->index_bytes},
        {l->off_desc, (uint64_t)l->max_blocks * sizeof(struct yk_desc)},
        {l->off_rest, (uint64_t)l->max_blocks * sizeof(struct yk_rest)},
        {l->off_keys, 65536},
        {0, l->meta_bytes},
    };
    populate();
    scribble(at[region], kind);
    look_around();
    own_index(&rig.index);
    own_clients(&rig.owner);
    own_descriptors(&rig.owner);
    own_keys(&rig.owner);
    look_around();
    own_again();
    rig_close(&rig);
}

static void garbage_in(unsigned region) {
    for (unsigned kind = 0; kind < KINDS; kind++) {
        for (unsigned i = 0; i < TURNS; i++) {
            seed = region * 10000 + kind * 100 + i;
            turn(region, kind);
        }
    }
}

static void garbage_in_the_header(void **state) {
    (void)state;
    garbage_in(0);
}

static void garbage_in_the_index(void **state) {
    (void)state;
    garbage_in(1);
}

static void garbage_in_the_descriptors(void **state) {
    (void)state;
    garbage_in(2);
}

static void garbage_in_the_rest_of_descriptors(void **state) {
    (void)state;
    garbage_in(3);
}

static void garbage_in_the_keys(void **state) {
    (void)state;
    garbage_in(4);
}

static void garbage_everywhere(void **state) {
    (void)state;
    garbage_in(5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_in_the_header),
        cmocka_unit_test(garbage_in_the_index),
        cmocka_unit_test(garbage_in_the_descriptors),
        cmocka_unit_test(garbage_in_the_rest_of_descriptors),
        cmocka_unit_test(garbage_in_the_keys),
        cmocka_unit_test(garbage_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
