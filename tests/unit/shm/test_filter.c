/* SPDX-License-Identifier: Apache-2.0
 *
 * The filter in front of the SSD tier: what is there is never `surely not`, whatever the owner does
 * meanwhile; what is not there is mostly `surely not`; no content of the memory makes it leave it.
 */
#include "rig.h"

#include "shm/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define IDS    20000u
#define STEADY 700u
#define TURNS  12u

static uint64_t hashes[IDS];
static void *mem;
static uint64_t bytes;
static struct yk_index index_;
static struct yk_filter filter;

static uint64_t id_hash(const void *arg, uint32_t id) {
    assert_true(arg == hashes);
    return hashes[id];
}

static void id_prefetch(const void *arg, uint32_t id) {
    (void)arg;
    (void)id;
}

static const struct yk_index_ids ids = {
    .hash = id_hash, .prefetch = id_prefetch, .arg = hashes, .max = IDS};

static void set_up(void) {
    uint64_t seed = 5;
    for (uint32_t i = 0; i < IDS; i++)
        hashes[i] = rig_random(&seed);
    bytes = yk_filter_bytes(IDS);
    mem = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(mem);
    memset(mem, 0, bytes);
    assert_int_equal(yk_filter_init(&filter, mem, bytes), -YK_ECORRUPT);
    assert_int_equal(yk_filter_make(mem, bytes, &ids, &index_), 0);
    assert_int_equal(yk_filter_init(&filter, mem, bytes), 0);
}

static void tells_what_is_not_there(void **state) {
    (void)state;
    uint32_t wrong = 0;
    set_up();
    assert_int_equal(yk_filter_maybe(&filter, 1), 1); /* not complete: nothing is known */
    yk_filter_complete(mem, 1);
    for (uint32_t i = 0; i < IDS; i++)
        wrong += (uint32_t)yk_filter_maybe(&filter, hashes[i]);
    assert_int_equal(wrong, 0);
    for (uint32_t i = 0; i < IDS; i += 2)
        assert_int_equal(yk_index_insert(&index_, hashes[i], i), 0);
    for (uint32_t i = 0; i < IDS; i += 2)
        assert_int_equal(yk_filter_maybe(&filter, hashes[i]), 1);
    for (uint32_t i = 1; i < IDS; i += 2)
        wrong += (uint32_t)yk_filter_maybe(&filter, hashes[i]);
    assert_int_equal(wrong, 0); /* 32 bits of tag among a handful of entries */
    for (uint32_t i = 0; i < IDS; i += 2)
        assert_int_equal(yk_index_remove(&index_, hashes[i], i), 0);
    for (uint32_t i = 0; i < IDS; i++)
        assert_int_equal(yk_filter_maybe(&filter, hashes[i]), 0);
    yk_filter_complete(mem, 0);
    assert_int_equal(yk_filter_maybe(&filter, 1), 1);
    free(mem);
}

static void any_tag_of_a_half(void **state) {
    (void)state;
    set_up();
    for (uint32_t i = 0; i < IDS; i++)
        assert_int_equal(yk_index_insert(&index_, hashes[i], i), 0);
    for (uint32_t i = 0; i < IDS; i++) {
        struct yk_index_cursor c = {0};
        uint32_t id, found = 0;
        while (yk_index_next_any(&index_, (uint32_t)hashes[i], &c, &id))
            found += id == i;
        assert_int_equal(found, 1);
    }
    free(mem);
}

static void refuses_what_is_none(void **state) {
    (void)state;
    set_up();
    struct yk_ssd_index_hdr *hdr = mem;
    struct yk_filter f;
    assert_int_equal(yk_filter_init(&f, mem, bytes - 1), -YK_ECORRUPT);
    assert_int_equal(yk_filter_init(&f, mem, 8), -YK_ECORRUPT);
    hdr->max_buckets = UINT32_MAX;
    assert_int_equal(yk_filter_init(&f, mem, bytes), -YK_ECORRUPT);
    hdr->version++;
    assert_int_equal(yk_filter_init(&f, mem, bytes), -YK_EVERSION);
    assert_int_equal(yk_filter_make(mem, bytes - 1, &ids, &index_), -YK_EINVAL);
    free(mem);
}

/* Random words in the buckets: answers come, from within the memory (the address sanitizer looks). */
static void garbage_stays_inside(void **state) {
    (void)state;
    uint64_t seed = 77;
    set_up();
    yk_filter_complete(mem, 1);
    uint64_t *w = (uint64_t *)mem + sizeof(struct yk_ssd_index_hdr) / 8;
    uint64_t words = (bytes - sizeof(struct yk_ssd_index_hdr)) / 8;
    for (uint32_t turn = 0; turn < 50; turn++) {
        for (uint64_t i = 0; i < words; i++)
            w[i] = turn % 2 ? rig_random(&seed) : rig_random(&seed) & 0x0000ffff00000fffull;
        w[0] =
            rig_random(&seed) % 2 ? (uint64_t)(turn % 40) << 32 | (turn * 7u) : rig_random(&seed);
        for (uint32_t i = 0; i < 400; i++) {
            int rc = yk_filter_maybe(&filter, rig_random(&seed));
            assert_true(rc == 0 || rc == 1);
        }
    }
    free(mem);
}

/* ---- readers beside the owner ------------------------------------------------------------------- */

static void *reader(void *arg) {
    struct rig_reader *rd = arg;
    uint64_t seed = rd->number + 1;
    while (rig_reader_goes_on(rd)) {
        uint32_t i = (uint32_t)(rig_random(&seed) % STEADY);
        rd->missed += yk_filter_maybe(&filter, hashes[i]) == 0;
    }
    return NULL;
}

static void splits_hide_nothing(void **state) {
    (void)state;
    struct rig_reader rd[RIG_READERS];
    uint64_t seed = 3;
    static unsigned char present[IDS];
    memset(present, 0, sizeof(present));
    set_up();
    /* A few buckets get most of it, so that chains with overflow are split under the readers. */
    for (uint32_t i = 0; i < IDS; i++)
        if (i % 3 == 0)
            hashes[i] = (hashes[i] & ~(uint64_t)0xffffff) | ((hashes[i] & 0x0f0000) | i % 24);
    yk_filter_complete(mem, 1);
    for (uint32_t i = 0; i < STEADY; i++)
        assert_int_equal(yk_index_insert(&index_, hashes[i], i), 0);
    rig_readers_start(rd, reader);
    for (uint32_t turn = 0; turn < TURNS || rig_readers_lag(rd, 1000); turn++) {
        for (uint32_t n = 0; n < IDS; n++) {
            uint32_t i = STEADY + (uint32_t)(rig_random(&seed) % (IDS - STEADY));
            if (present[i])
                assert_int_equal(yk_index_remove(&index_, hashes[i], i), 0);
            if (present[i] || yk_index_insert(&index_, hashes[i], i) == 0)
                present[i] ^= 1;
        }
    }
    rig_readers_end(rd);
    free(mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_what_is_not_there), cmocka_unit_test(any_tag_of_a_half),
        cmocka_unit_test(refuses_what_is_none),    cmocka_unit_test(garbage_stays_inside),
        cmocka_unit_test(splits_hide_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
