/* SPDX-License-Identifier: Apache-2.0
 *
 * What the owner hands out beside the index: descriptors, key cells, generations; and what it reads
 * from its clients: hazards and access rings.
 *
 * Two rules stand behind all of these tests: nothing is handed out twice, and a client's pages hold
 * whatever a client wrote there. Random and damaged links are in test_garbage.c as well.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static struct rig rig;
static struct yk_owner *own = &rig.owner;

static uint32_t take_desc(void) {
    uint32_t idx = yk_owner_desc_take(own);
    if (idx != YK_SHM_NONE) {
        assert_true(idx < rig.layout.max_blocks);
        own->desc[idx].word = YK_WORD(yk_owner_gen(own), YK_DESC_RESERVED);
    }
    return idx;
}

static void descriptors_are_handed_out_once(void **state) {
    (void)state;
    enum { N = 200 };
    unsigned char used[N] = {0};
    uint64_t seed = 3;
    uint32_t count = 0;
    rig_open(&rig, 4096, N, 1);
    for (unsigned step = 0; step < 20000; step++) {
        uint32_t idx = (uint32_t)(rig_random(&seed) % N);
        if (used[idx] && (step / 1000) % 2) {
            yk_owner_desc_give(own, idx);
            used[idx] = 0;
            count--;
            continue;
        }
        idx = take_desc();
        assert_int_equal(idx == YK_SHM_NONE, count == N);
        if (idx != YK_SHM_NONE) {
            assert_false(used[idx]);
            used[idx] = 1;
            count++;
        }
    }
    rig_close(&rig);
}

static void a_scribbled_list_of_descriptors_costs_its_rest(void **state) {
    (void)state;
    static const uint32_t links[] = {0, 9, 10, 11,
                                     UINT32_MAX}; /* 9: itself, 10: in use, 11: none */
    for (unsigned i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        rig_open(&rig, 4096, 10, 1);
        for (uint32_t k = 0; k < 10; k++)
            assert_int_equal(take_desc(), k);
        assert_int_equal(take_desc(), YK_SHM_NONE);
        for (uint32_t k = 0; k < 9; k++)
            yk_owner_desc_give(own, k);
        own->rest[8].parent = links[i];
        assert_int_equal(take_desc(), 8);
        assert_int_equal(take_desc(), YK_SHM_NONE);
        yk_owner_desc_give(own, 8);
        assert_int_equal(take_desc(), 8);
        rig_close(&rig);
    }
}

static void a_scribbled_top_hands_out_nothing_in_use(void **state) {
    (void)state;
    rig_open(&rig, 4096, 10, 1);
    for (uint32_t k = 0; k < 6; k++)
        assert_int_equal(take_desc(), k);
    rig.hdr->desc_top = 2;
    assert_int_equal(take_desc(), 6);
    rig.hdr->desc_top = UINT32_MAX;
    assert_int_equal(take_desc(), YK_SHM_NONE);
    rig_close(&rig);
}

/* ---- keys --------------------------------------------------------------------------------- */

struct cell {
    uint32_t at, len;
};

static unsigned char granule_used[16384 + 16];

static void mark(struct cell c, unsigned char from, unsigned char to) {
    for (uint32_t g = c.at; g < c.at + yk_cell_granules(c.len); g++) {
        assert_int_equal(granule_used[g], from);
        granule_used[g] = to;
    }
}

static void key_of(unsigned char *key, uint32_t n, uint32_t len) {
    for (uint32_t i = 0; i < len; i++)
        key[i] = (unsigned char)(n * 13 + i * 7);
}

static void keys_are_whole_and_apart(void **state) {
    (void)state;
    enum { N = 5000 };
    static struct cell cells[N];
    unsigned char key[255];
    uint64_t seed = 8;
    memset(granule_used, 0, sizeof(granule_used));
    memset(cells, 0, sizeof(cells));
    rig_open(&rig, 4096, 100, 1); /* the least: 16,384 granules */
    assert_int_equal(rig.layout.max_key_granules, 16384);
    uint32_t refused = 0;
    for (uint32_t step = 0; step < 30000; step++) {
        uint32_t n = (uint32_t)(rig_random(&seed) % N);
        if (cells[n].len != 0) {
            mark(cells[n], 1, 0);
            key_of(key, n, cells[n].len);
            assert_memory_equal(yk_owner_cell(own, cells[n].at, cells[n].len), key, cells[n].len);
            yk_owner_cell_give(own, cells[n].at, cells[n].len);
            cells[n].len = 0;
            continue;
        }
        struct cell c = {0, 1 + (uint32_t)(rig_random(&seed) % 255)};
        key_of(key, n, c.len);
        c.at = yk_owner_cell_take(own, key, c.len);
        refused += c.at == YK_SHM_NONE;
        if (c.at == YK_SHM_NONE)
            continue;
        mark(c, 0, 1);
        const unsigned char *cell = yk_owner_cell(own, c.at, c.len);
        for (uint32_t i = c.len; i % YK_SHM_KEY_GRANULE != 0; i++)
            assert_int_equal(cell[i], 0);
        cells[n] = c;
    }
    assert_true(refused > 0);
    rig_close(&rig);
}

static void longer_cells_are_cut_when_all_is_used(void **state) {
    (void)state;
    unsigned char key[255] = {1};
    uint32_t longest[1024];
    rig_open(&rig, 4096, 100, 1);
    for (unsigned i = 0; i < 1024; i++) {
        longest[i] = yk_owner_cell_take(own, key, 255);
        assert_int_not_equal(longest[i], YK_SHM_NONE);
    }
    assert_int_equal(yk_owner_cell_take(own, key, 1), YK_SHM_NONE);
    yk_owner_cell_give(own, longest[500], 255);
    memset(granule_used, 0, sizeof(granule_used));
    for (unsigned i = 0; i < 8; i++) {
        struct cell c = {yk_owner_cell_take(own, key, 17), 17};
        assert_true(c.at >= longest[500] && c.at + 2 <= longest[500] + 16);
        mark(c, 0, 1);
    }
    assert_int_equal(yk_owner_cell_take(own, key, 1), YK_SHM_NONE);
    rig_close(&rig);
}

static void bad_cells_have_no_key(void **state) {
    (void)state;
    unsigned char key[255] = {1};
    rig_open(&rig, 4096, 100, 1);
    assert_int_equal(yk_owner_cell_take(own, key, 0), YK_SHM_NONE);
    assert_int_equal(yk_owner_cell_take(own, key, 256), YK_SHM_NONE);
    assert_null(yk_owner_cell(own, 0, 0));
    assert_null(yk_owner_cell(own, 0, 256));
    assert_null(yk_owner_cell(own, 16384, 1));
    assert_null(yk_owner_cell(own, 16383, 17));
    assert_non_null(yk_owner_cell(own, 16383, 16));
    assert_null(yk_owner_cell(own, UINT32_MAX, 255));
    yk_owner_cell_give(own, UINT32_MAX, 255); /* nothing */
    yk_owner_cell_give(own, 16383, 255);
    assert_int_equal(yk_owner_cell_take(own, key, 255), 0);
    rig_close(&rig);
}

static void a_rebuild_hands_out_what_no_key_uses(void **state) {
    (void)state;
    uint64_t seed = 21;
    unsigned char key[255] = {1};
    uint64_t used[16384 / 64] = {0};
    rig_open(&rig, 4096, 100, 1);
    uint32_t top = 0, in_use = 0, taken = 0, cell;
    while (top < 5000)
        top = yk_owner_cell_take(own, key, 100) + 7;
    for (uint32_t g = 0; g < top; g++) {
        if (rig_random(&seed) % 3 == 0 || (g / 100) % 5 == 0) {
            used[g / 64] |= 1ull << (g % 64);
            in_use++;
        }
    }
    yk_owner_keys_rebuild(own, used);
    memset(granule_used, 0, sizeof(granule_used));
    rig.hdr->key_top = 16384; /* so that only cells that were given come */
    while ((cell = yk_owner_cell_take(own, key, 16)) != YK_SHM_NONE) {
        assert_true(cell < top);
        assert_int_equal((used[cell / 64] >> (cell % 64)) & 1, 0);
        mark((struct cell){cell, 16}, 0, 1);
        taken++;
    }
    assert_int_equal(taken, top - in_use);
    rig_close(&rig);
}

static void a_scribbled_list_of_cells_stays_inside(void **state) {
    (void)state;
    static const uint64_t links[] = {64, 50, 65, 16384, 16385, UINT32_MAX, UINT64_MAX, 1ull << 32};
    unsigned char key[255] = {1};
    for (unsigned i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        rig_open(&rig, 4096, 100, 1);
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(yk_owner_cell_take(own, key, 255), 16 * k);
        yk_owner_cell_give(own, 16, 255);
        *(uint64_t *)(void *)(own->keys + (uint64_t)16 * YK_SHM_KEY_GRANULE) = links[i];
        assert_int_equal(yk_owner_cell_take(own, key, 255), 16);
        /* None of those links leaves room for 16 granules below what was ever used. */
        assert_int_equal(yk_owner_cell_take(own, key, 255), 64);
        rig_close(&rig);
    }
}

/* ---- generations -------------------------------------------------------------------------- */

static void generations_never_repeat(void **state) {
    (void)state;
    uint64_t last = 0;
    rig_open(&rig, 4096, 100, 1);
    for (unsigned life = 0; life < 5; life++) { /* killed each time: nothing is put in order */
        struct yk_owner o;
        assert_int_equal(yk_owner_init(&o, rig.meta, rig.pages, &rig.layout), 0);
        uint32_t n = life == 2 ? (1u << 20) + 5 : 1000;
        for (uint32_t i = 0; i < n; i++) {
            uint64_t gen = yk_owner_gen(&o);
            if (gen <= last || gen >= rig.hdr->gen_limit || gen >> 56 != 0)
                fail_msg("generation %llu after %llu", (unsigned long long)gen,
                         (unsigned long long)last);
            last = gen;
        }
        yk_owner_fini(&o);
    }
    static const uint64_t scribbles[] = {0, 1, 1ull << 55, UINT64_MAX};
    for (unsigned i = 0; i < 4; i++) {
        struct yk_owner o;
        rig.hdr->gen_limit = scribbles[i];
        assert_int_equal(yk_owner_init(&o, rig.meta, rig.pages, &rig.layout), 0);
        uint64_t gen = yk_owner_gen(&o);
        assert_true(gen > 1ull << 50 && gen < 1ull << 55); /* microseconds of this century */
        yk_owner_fini(&o);
    }
    rig_close(&rig);
}

/* ---- hazards ------------------------------------------------------------------------------ */

static void hazards_are_collected_and_cleared(void **state) {
    (void)state;
    enum { N = 100000 };
    uint64_t seed = 2;
    uint32_t slots[3] = {0, 2, 5}; /* 1, 3, 4 belong to nobody */
    static unsigned char want[N];
    rig_open(&rig, 4096, N, 6);
    for (unsigned turn = 0; turn < 6; turn++) {
        memset(want, 0, sizeof(want));
        for (unsigned s = 0; s < 6; s++) {
            uint32_t top = turn == 5 ? YK_SHM_HAZARDS : (uint32_t)(turn * 200 + s);
            memset(rig.pages[s].hazard, 0, sizeof(rig.pages[s].hazard));
            rig.pages[s].hazard_top = top;
            for (uint32_t i = 0; i < YK_SHM_HAZARDS; i++) {
                uint32_t idx = (uint32_t)(rig_random(&seed) % N);
                rig.pages[s].hazard[i] = i % 3 ? idx + 1 : 0;
                if (i % 3 && i < top && (s == 0 || s == 2 || s == 5))
                    want[idx] = 1;
            }
        }
        yk_owner_hazards_collect(own, slots, 3);
        for (uint32_t i = 0; i < N; i++)
            assert_int_equal(yk_owner_named(own, i), want[i]);
        for (uint32_t i = 0; i < N; i += 97)
            assert_int_equal(yk_owner_is_named(own, slots, 3, i), want[i]);
        yk_owner_hazards_clear(own);
        for (uint32_t i = 0; i < N; i++)
            assert_int_equal(yk_owner_named(own, i), 0);
    }
    rig_close(&rig);
}

static void more_hazards_than_the_list_of_words_holds(void **state) {
    (void)state;
    enum { N = 100000, CLIENTS = 8 };
    rig_open(&rig, 4096, N, CLIENTS);
    for (unsigned s = 0; s < CLIENTS; s++) {
        rig.pages[s].hazard_top = UINT32_MAX; /* taken for all of them */
        for (uint32_t i = 0; i < YK_SHM_HAZARDS; i++)
            rig.pages[s].hazard[i] = (s * YK_SHM_HAZARDS + i) * 12 + 1;
    }
    rig.pages[0].hazard[0] = N + 1; /* no descriptor */
    rig.pages[0].hazard[1] = UINT32_MAX;
    yk_owner_hazards_collect(own, rig.slots, CLIENTS);
    for (uint32_t i = 24; i < N; i++)
        assert_int_equal(yk_owner_named(own, i), i % 12 == 0 && i / 12 < CLIENTS * YK_SHM_HAZARDS);
    assert_int_equal(yk_owner_named(own, 0), 0);
    yk_owner_hazards_clear(own);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(yk_owner_named(own, i), 0);
    yk_owner_hazards_collect(own, rig.slots, 0);
    yk_owner_hazards_clear(own);
    rig_close(&rig);
}

/* ---- rings -------------------------------------------------------------------------------- */

static void events_write(struct yk_client_page *page, uint64_t from, uint64_t n) {
    for (uint64_t i = from; i < from + n; i++)
        page->ring[i % YK_SHM_RING] = i;
    page->ring_head = from + n;
}

static void rings_are_drained_in_order(void **state) {
    (void)state;
    uint64_t got[YK_SHM_RING + 10], lost = 0, next = 0, expect = 0, seed = 6;
    rig_open(&rig, 4096, 10, 2);
    for (unsigned turn = 0; turn < 500; turn++) {
        uint64_t n = rig_random(&seed) % 800;
        uint32_t max = (uint32_t)(rig_random(&seed) % 1200);
        if (next + n - expect > YK_SHM_RING)
            n = YK_SHM_RING - (next - expect);
        events_write(&rig.pages[1], next, n);
        next += n;
        uint32_t took = yk_owner_ring_drain(own, 1, got, max, &lost);
        assert_int_equal(took, max < next - expect ? max : next - expect);
        for (uint32_t i = 0; i < took; i++)
            assert_int_equal(got[i], expect++);
    }
    assert_int_equal(lost, 0);
    while (yk_owner_ring_drain(own, 1, got, YK_SHM_RING, &lost) > 0)
        ;
    /* Lapped: the newest that fit are kept, the others counted. */
    events_write(&rig.pages[1], next, YK_SHM_RING + 123);
    next += YK_SHM_RING + 123;
    assert_int_equal(yk_owner_ring_drain(own, 1, got, YK_SHM_RING + 10, &lost), YK_SHM_RING);
    assert_int_equal(lost, 123);
    assert_int_equal(got[0], next - YK_SHM_RING);
    assert_int_equal(got[YK_SHM_RING - 1], next - 1);
    assert_int_equal(yk_owner_ring_drain(own, 1, got, 10, &lost), 0);
    rig_close(&rig);
}

static void a_scribbled_head_ends(void **state) {
    (void)state;
    static const uint64_t heads[] = {UINT64_MAX, 0, 1, 1ull << 63, YK_SHM_RING, 12345678};
    uint64_t got[100], lost = 0;
    rig_open(&rig, 4096, 10, 1);
    events_write(&rig.pages[0], 0, 1000);
    for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        uint32_t n = 0, took;
        rig.pages[0].ring_head = heads[i];
        while ((took = yk_owner_ring_drain(own, 0, got, 100, &lost)) > 0)
            assert_true((n += took) <= YK_SHM_RING);
    }
    rig.pages[0].hazard[5] = 7;
    yk_owner_page_reset(own, 0);
    for (size_t i = 0; i < sizeof(rig.pages[0]); i++)
        assert_int_equal(((unsigned char *)&rig.pages[0])[i], 0);
    rig_close(&rig);
}

/* ---- sums --------------------------------------------------------------------------------- */

static void damaged_descriptors_are_not_believed(void **state) {
    (void)state;
    struct rig_block b = {.key = "some key that is long", .key_len = 21, .offset = 64, .len = 128};
    rig_open(&rig, 4096, 10, 1);
    uint32_t idx = rig_put(&rig, &b);
    struct yk_desc *d = &own->desc[idx], good = *d;
    struct yk_rest *rest = &own->rest[idx], good_rest = *rest;
    assert_int_equal(yk_owner_desc_sane(own, idx, 1), 1);
    assert_int_equal(yk_owner_desc_sane(own, idx, 0), 1);
    rest->cap = 64; /* less than len: even with the right sum */
    rest->place_sum = yk_desc_place_sum(rest, idx);
    assert_int_equal(yk_owner_desc_sane(own, idx, 0), 1);
    assert_int_equal(yk_owner_desc_sane(own, idx, 1), 0);
    rest->cap = 4096;
    rest->place_sum = yk_desc_place_sum(rest, idx);
    assert_int_equal(yk_owner_desc_sane(own, idx, 0), 0);
    rest->cap = 128;
    rest->offset = UINT64_MAX - 64;
    rest->place_sum = yk_desc_place_sum(rest, idx);
    assert_int_equal(yk_owner_desc_sane(own, idx, 0), 0);
    *rest = good_rest;
    d->ns = YK_SHM_NAMESPACES;
    rest->ident_sum = yk_desc_ident_sum(d, rest, b.key);
    assert_int_equal(yk_owner_desc_sane(own, idx, 1), 0);
    *d = good;
    *rest = good_rest;
    assert_int_equal(yk_owner_desc_sane(own, idx, 1), 1);
    ((unsigned char *)d->key)[7] ^= 1; /* what stands in the descriptor */
    assert_int_equal(yk_owner_desc_sane(own, idx, 1), 0);
    assert_int_equal(yk_owner_desc_sane(own, idx, 0), 1);
    *d = good;
    own->keys[(uint64_t)d->key_cell * YK_SHM_KEY_GRANULE + 3] ^= 1; /* what stands in its cell */
    assert_int_equal(yk_owner_desc_sane(own, idx, 1), 0);
    assert_int_equal(yk_owner_desc_sane(own, idx, 0), 1);
    own->desc[idx + 1] = good; /* the right bytes at the wrong place */
    own->rest[idx + 1] = good_rest;
    assert_int_equal(yk_owner_desc_sane(own, idx + 1, 0), 0);
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_are_handed_out_once),
        cmocka_unit_test(a_scribbled_list_of_descriptors_costs_its_rest),
        cmocka_unit_test(a_scribbled_top_hands_out_nothing_in_use),
        cmocka_unit_test(keys_are_whole_and_apart),
        cmocka_unit_test(longer_cells_are_cut_when_all_is_used),
        cmocka_unit_test(bad_cells_have_no_key),
        cmocka_unit_test(a_rebuild_hands_out_what_no_key_uses),
        cmocka_unit_test(a_scribbled_list_of_cells_stays_inside),
        cmocka_unit_test(generations_never_repeat),
        cmocka_unit_test(hazards_are_collected_and_cleared),
        cmocka_unit_test(more_hazards_than_the_list_of_words_holds),
        cmocka_unit_test(rings_are_drained_in_order),
        cmocka_unit_test(a_scribbled_head_ends),
        cmocka_unit_test(damaged_descriptors_are_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
