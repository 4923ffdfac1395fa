/* SPDX-License-Identifier: Apache-2.0
 *
 * Regions of a segment and the sums stored in it.
 *
 * The sums decide after a crash which blocks are believed, so the test states for every byte of a
 * descriptor, by the name of its field, which sum must notice a change: a field that is added and
 * forgotten in the sums fails here.
 */
#include "shm/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

struct region {
    uint64_t off, bytes;
};

static unsigned regions_of(const struct yk_shm_layout *l, struct region *ret) {
    unsigned n = 0;
    ret[n++] = (struct region){0, sizeof(struct yk_shm_hdr)};
    ret[n++] = (struct region){l->off_ns, l->max_namespaces * sizeof(struct yk_ns_entry)};
    ret[n++] =
        (struct region){l->off_owners, (uint64_t)l->max_clients * sizeof(struct yk_client_owner)};
    ret[n++] = (struct region){l->off_extents, l->extents_bytes};
    ret[n++] = (struct region){l->off_desc, (uint64_t)l->max_blocks * sizeof(struct yk_desc)};
    ret[n++] = (struct region){l->off_rest, (uint64_t)l->max_blocks * sizeof(struct yk_rest)};
    ret[n++] = (struct region){l->off_keys, (uint64_t)l->max_key_granules * YK_SHM_KEY_GRANULE};
    ret[n++] = (struct region){l->off_index[0], l->index_bytes};
    ret[n++] = (struct region){l->off_index[1], l->index_bytes};
    return n;
}

static void regions_are_apart_aligned_and_inside(void **state) {
    (void)state;
    static const uint32_t blocks[] = {1, 5, 1000, 1u << 20, 1u << 28, (1u << 28) + 1, 1u << 30};
    static const uint64_t extents[] = {0, 1, 4096, 1ull << 40};
    for (unsigned i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        for (unsigned e = 0; e < sizeof(extents) / sizeof(extents[0]); e++) {
            struct yk_shm_layout l;
            struct region at[9];
            assert_int_equal(yk_shm_layout_make(1ull << 33, blocks[i], 65536, extents[e], &l), 0);
            unsigned n = regions_of(&l, at);
            for (unsigned k = 0; k < n; k++) {
                assert_int_equal(at[k].off % YK_SHM_PAGE, 0);
                uint64_t end = k + 1 < n ? at[k + 1].off : l.meta_bytes;
                assert_true(at[k].off + at[k].bytes <= end);
            }
            assert_int_equal(l.meta_bytes % YK_SHM_PAGE, 0);
            assert_int_equal(l.clients_bytes, 65536ull * sizeof(struct yk_client_page));
            /* Index areas are emptied by whole pages: nothing else may be on their last one. */
            for (unsigned a = 0; a < 2; a++) {
                uint64_t end = (l.off_index[a] + l.index_bytes + 4095) & ~4095ull;
                assert_true(end <= (a == 0 ? l.off_index[1] : l.meta_bytes));
            }
            /* Granules and links are 32-bit and hold the number + 1. */
            assert_true(l.max_key_granules < UINT32_MAX - 16 && l.max_key_granules >= 16384);
            assert_true(l.max_overflow > 0 && l.max_buckets * 7ull >= blocks[i]);
        }
    }
}

static void absurd_sizes_are_refused(void **state) {
    (void)state;
    struct yk_shm_layout l, before;
    memset(&l, 0x5a, sizeof(l));
    before = l;
    assert_int_equal(yk_shm_layout_make(0, 1, 1, 0, &l), -YK_EINVAL);
    assert_int_equal(yk_shm_layout_make((1ull << 56) + 1, 1, 1, 0, &l), -YK_EINVAL);
    assert_int_equal(yk_shm_layout_make(1, 0, 1, 0, &l), -YK_EINVAL);
    assert_int_equal(yk_shm_layout_make(1, (1u << 30) + 1, 1, 0, &l), -YK_EINVAL);
    assert_int_equal(yk_shm_layout_make(1, UINT32_MAX, 1, 0, &l), -YK_EINVAL);
    assert_int_equal(yk_shm_layout_make(1, 1, 0, 0, &l), -YK_EINVAL);
    assert_int_equal(yk_shm_layout_make(1, 1, 65537, 0, &l), -YK_EINVAL);
    assert_int_equal(yk_shm_layout_make(1, 1, 1, (1ull << 40) + 1, &l), -YK_EINVAL);
    assert_memory_equal(&l, &before, sizeof(l));
    assert_int_equal(yk_shm_layout_make(1ull << 56, 1u << 30, 65536, 1ull << 40, &l), 0);
}

enum sums { NO_SUM = 0, PLACE = 1, IDENT = 2, STORED = 4 };

struct whole {
    struct yk_desc desc;
    struct yk_rest rest;
};

/* Every byte of both, in order. The key's bytes are summed as the caller gives them. */
static const struct field {
    size_t off, bytes;
    int sums;
} fields[] = {
#define FIELD(name, sums)                                                                          \
    { offsetof(struct whole, name), sizeof(((struct whole *)0)->name), sums }
    FIELD(desc.word, NO_SUM),        FIELD(desc.hash, IDENT),          FIELD(desc.epoch, IDENT),
    FIELD(desc.expiry_ms, NO_SUM),   FIELD(desc.key, NO_SUM),          FIELD(desc.key_cell, IDENT),
    FIELD(desc.ns, IDENT),           FIELD(desc.len, IDENT),           FIELD(desc.key_len, IDENT),
    FIELD(desc.kind, IDENT),         FIELD(desc.copies, NO_SUM),       FIELD(desc.reserved0, NO_SUM),
    FIELD(rest.sum, IDENT),
    FIELD(rest.offset, PLACE),       FIELD(rest.pin_until_ms, NO_SUM), FIELD(rest.session, IDENT),
    FIELD(rest.depth_tokens, IDENT), FIELD(rest.length_tokens, IDENT), FIELD(rest.parent, IDENT),
    FIELD(rest.parent_birth, IDENT), FIELD(rest.birth, IDENT),         FIELD(rest.children, NO_SUM),
    FIELD(rest.model, IDENT),        FIELD(rest.owner, PLACE),         FIELD(rest.cap, PLACE),
    FIELD(rest.place_sum, STORED),   FIELD(rest.ident_sum, STORED),    FIELD(rest.ssd, NO_SUM),
#undef FIELD
};

static void every_byte_of_a_descriptor_is_in_its_sum(void **state) {
    (void)state;
    struct whole d;
    unsigned char key[512];
    for (unsigned i = 0; i < sizeof(d); i++)
        ((unsigned char *)&d)[i] = (unsigned char)(i * 37 + 11);
    for (unsigned i = 0; i < sizeof(key); i++)
        key[i] = (unsigned char)(i * 7);
    d.desc.key_len = 40;
    size_t next = 0;
    uint32_t place = yk_desc_place_sum(&d.rest, 9);
    uint32_t ident = yk_desc_ident_sum(&d.desc, &d.rest, key);
    for (unsigned f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
        assert_int_equal(fields[f].off, next);
        next += fields[f].bytes;
        for (size_t b = 0; b < fields[f].bytes; b++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                unsigned char *at = (unsigned char *)&d + fields[f].off + b;
                *at ^= (unsigned char)(1u << bit);
                assert_int_equal(yk_desc_place_sum(&d.rest, 9) != place,
                                 !!(fields[f].sums & PLACE));
                assert_int_equal(yk_desc_ident_sum(&d.desc, &d.rest, key) != ident,
                                 !!(fields[f].sums & IDENT));
                *at ^= (unsigned char)(1u << bit);
            }
        }
    }
    assert_int_equal(next, sizeof(d));
    /* What a lookup without a copy reads is one cache line: the table begins at one. */
    struct yk_shm_layout l;
    assert_int_equal(yk_shm_layout_make(1 << 20, 1001, 3, 64, &l), 0);
    assert_int_equal(sizeof(struct yk_desc), 64);
    assert_int_equal(l.off_desc % 64, 0);
}

static void sums_cover_place_and_key(void **state) {
    (void)state;
    struct yk_desc d;
    struct yk_rest rest;
    unsigned char key[256];
    memset(&d, 0, sizeof(d));
    memset(&rest, 0, sizeof(rest));
    memset(key, 'k', sizeof(key));
    /* A descriptor copied to another place in the array is not believed. */
    assert_int_not_equal(yk_desc_place_sum(&rest, 1), yk_desc_place_sum(&rest, 2));
    static const uint8_t lens[] = {1, 7, 8, 16, 17, 255};
    for (unsigned n = 0; n < sizeof(lens); n++) {
        d.key_len = lens[n];
        uint32_t ident = yk_desc_ident_sum(&d, &rest, key);
        for (unsigned i = 0; i < sizeof(key); i++) {
            key[i] ^= 1;
            assert_int_equal(yk_desc_ident_sum(&d, &rest, key) != ident, i < lens[n]);
            key[i] ^= 1;
        }
    }
}

static void namespace_and_layout_sums(void **state) {
    (void)state;
    struct yk_ns_entry e;
    memset(&e, 0, sizeof(e));
    uint64_t sum = yk_ns_entry_sum(&e);
    for (size_t i = 0; i < sizeof(e); i++) {
        ((unsigned char *)&e)[i] ^= 0x80;
        /* The epochs and the quota change by one store each: they must stay out. */
        assert_int_equal(yk_ns_entry_sum(&e) != sum, i < offsetof(struct yk_ns_entry, epoch));
        ((unsigned char *)&e)[i] ^= 0x80;
    }
    struct yk_shm_layout l;
    assert_int_equal(yk_shm_layout_make(1 << 20, 100, 4, 64, &l), 0);
    sum = yk_shm_layout_sum(&l);
    for (size_t i = 0; i < sizeof(l); i++) {
        ((unsigned char *)&l)[i] ^= 1;
        assert_true(yk_shm_layout_sum(&l) != sum);
        ((unsigned char *)&l)[i] ^= 1;
    }
}

static void words_and_events_keep_their_parts(void **state) {
    (void)state;
    uint64_t w = YK_WORD((1ull << 56) - 1, YK_DESC_RETIRED);
    assert_int_equal(YK_WORD_STATE(w), YK_DESC_RETIRED);
    assert_true(YK_WORD_GEN(w) == (1ull << 56) - 1);
    uint64_t e = YK_EVENT(YK_EVENT_CORRUPT, 0xffffffffu, 0xfffffffeu);
    assert_int_equal(YK_EVENT_KIND(e), YK_EVENT_CORRUPT);
    assert_int_equal(YK_EVENT_BIRTH(e), 0x0fffffffu);
    assert_int_equal(YK_EVENT_IDX(e), 0xfffffffeu);
    assert_int_equal(yk_key_tail(1), 0);
    assert_int_equal(yk_key_tail(16), 0);
    assert_int_equal(yk_key_tail(17), 1);
    assert_int_equal(yk_key_tail(255), 239);
    assert_int_equal(yk_cell_granules(0), 0);
    assert_int_equal(yk_cell_granules(1), 1);
    assert_int_equal(yk_cell_granules(16), 1);
    assert_int_equal(yk_cell_granules(17), 2);
    assert_int_equal(yk_cell_granules(255), 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_are_apart_aligned_and_inside),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(every_byte_of_a_descriptor_is_in_its_sum),
        cmocka_unit_test(sums_cover_place_and_key),
        cmocka_unit_test(namespace_and_layout_sums),
        cmocka_unit_test(words_and_events_keep_their_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
