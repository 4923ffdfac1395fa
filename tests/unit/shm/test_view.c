/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader's half without a race: what is found, what is hidden, what is refused.
 *
 * Each test states one rule of view.h or of the table of states in layout.h: keys are compared
 * whole, expiry and epochs hide, SUSPECT is found, other states say "ask the node", nothing outside
 * the regions is followed. Races are in test_view_race.c, garbage in test_garbage.c.
 */
#include "rig.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define DATA (1u << 20)

static struct rig rig;
static struct yk_found found;

static int set_up(void **state) {
    (void)state;
    rig_open(&rig, DATA, 1000, 2);
    __atomic_store_n(&rig.pages[0].hazard_top, 4, __ATOMIC_RELEASE);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    rig_close(&rig);
    return 0;
}

static uint32_t put_text(const char *key, struct rig_block b) {
    b.key = key;
    b.key_len = (uint32_t)strlen(key);
    uint32_t idx = rig_put(&rig, &b);
    assert_int_not_equal(idx, YK_SHM_NONE);
    return idx;
}

static int find_at(const char *key, uint64_t now_ms) {
    struct yk_query q = rig_query(0, key, (uint32_t)strlen(key));
    uint32_t *hazard = &rig.pages[0].hazard[1];
    int rc = yk_view_find(&rig.view, &q, now_ms, &found);
    uint32_t idx = found.idx;
    /* Pinning decides the same, and leaves the slot clear unless it found the block. */
    assert_int_equal(yk_view_pin(&rig.view, &q, now_ms, hazard, &found), rc);
    assert_int_equal(*hazard, rc == 0 ? idx + 1 : 0);
    yk_hazard_clear(hazard);
    assert_int_equal(*hazard, 0);
    return rc;
}

static int find(const char *key) {
    return find_at(key, 1000);
}

static void keys_are_compared_whole(void **state) {
    (void)state;
    unsigned char key[256];
    for (uint32_t i = 0; i < sizeof(key); i++)
        key[i] = (unsigned char)(i * 31 + 7);
    uint32_t idx[256];
    for (uint32_t len = 1; len <= 255; len++) {
        struct rig_block b = {
            .key = key, .key_len = len, .ns = len % 4, .offset = len * 16u, .len = len};
        idx[len] = rig_put(&rig, &b);
        assert_int_not_equal(idx[len], YK_SHM_NONE);
    }
    for (uint32_t len = 1; len <= 255; len++) {
        struct yk_query q = rig_query(len % 4, key, len);
        assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), 0);
        assert_int_equal(found.idx, idx[len]);
        assert_int_equal(found.desc.len, len);
        assert_int_equal(found.rest.offset, len * 16u);
        assert_true(found.word == rig.owner.desc[idx[len]].word);
        /* One byte changed, under the same hash: as a collision would be. */
        key[len - 1] ^= 0x40;
        assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
        key[len - 1] ^= 0x40;
        key[0] ^= 0x40; /* and among those in the descriptor */
        assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
        key[0] ^= 0x40;
        q.ns = (len + 1) % 4;
        assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
        q = rig_query((len + 1) % 4, key, len);
        assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
    }
}

static void colliding_hashes_are_different_blocks(void **state) {
    (void)state;
    char key[20][8];
    for (uint32_t i = 0; i < 20; i++) {
        snprintf(key[i], sizeof(key[i]), "k%u", i);
        put_text(key[i], (struct rig_block){.hash = 0x1234567887654321u, .offset = i});
    }
    for (uint32_t i = 0; i < 20; i++) {
        struct yk_query q = rig_query(0, key[i], (uint32_t)strlen(key[i]));
        q.hash = 0x1234567887654321u;
        assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), 0);
        assert_int_equal(found.rest.offset, i);
    }
}

static void expiry_hides(void **state) {
    (void)state;
    uint32_t idx = put_text("mortal", (struct rig_block){.expiry_ms = 1000});
    put_text("for ever", (struct rig_block){.expiry_ms = 0});
    assert_int_equal(find_at("mortal", 999), 0);
    assert_int_equal(find_at("mortal", 1000), YK_MISS);
    assert_int_equal(find_at("mortal", UINT64_MAX), YK_MISS);
    assert_int_equal(find_at("for ever", UINT64_MAX), 0);
    __atomic_store_n(&rig.owner.desc[idx].expiry_ms, 5000, __ATOMIC_RELAXED);
    assert_int_equal(find_at("mortal", 4999), 0);
    assert_int_equal(find_at("mortal", 5000), YK_MISS);
}

static void epochs_must_agree_exactly(void **state) {
    (void)state;
    put_text("now", (struct rig_block){0});
    put_text("old", (struct rig_block){.epoch = RIG_EPOCH - 1});
    assert_int_equal(find("now"), 0);
    assert_int_equal(find("old"), YK_MISS);
    struct yk_query q = rig_query(0, "now", 3);
    q.epoch = RIG_EPOCH - 1;
    assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
    q = rig_query(0, "old", 3);
    q.epoch = RIG_EPOCH - 1; /* an engine that still has the weights of the block */
    assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
    __atomic_store_n(&rig.owner.ns[0].epoch, RIG_EPOCH + 1, __ATOMIC_RELEASE);
    assert_int_equal(find("now"), YK_MISS);
    q = rig_query(0, "now", 3);
    q.epoch = RIG_EPOCH + 1;
    assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
    q.ns = YK_SHM_NAMESPACES;
    assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
    q.ns = UINT32_MAX;
    assert_int_equal(yk_view_find(&rig.view, &q, 0, &found), YK_MISS);
}

static void states_decide(void **state) {
    (void)state;
    static const int want[] = {
        [YK_DESC_FREE] = -YK_EAGAIN,   [YK_DESC_RESERVED] = -YK_EAGAIN,
        [YK_DESC_COMMITTED] = 0,       [YK_DESC_SUSPECT] = 0,
        [YK_DESC_MOVING] = -YK_EAGAIN, [YK_DESC_RETIRED] = -YK_EAGAIN,
    };
    uint32_t idx = put_text("key", (struct rig_block){0});
    for (unsigned s = YK_DESC_FREE; s <= YK_DESC_RETIRED; s++) {
        uint64_t word = YK_WORD(yk_owner_gen(&rig.owner), s);
        __atomic_store_n(&rig.owner.desc[idx].word, word, __ATOMIC_RELEASE);
        assert_int_equal(find("key"), want[s]);
        if (want[s] == 0)
            assert_int_equal(YK_WORD_STATE(found.word), s);
    }
}

static void removed_and_lost_are_missed(void **state) {
    (void)state;
    uint32_t idx = put_text("a", (struct rig_block){0});
    put_text("b", (struct rig_block){0});
    assert_int_equal(find("never put"), YK_MISS);
    rig_retire(&rig, idx);
    assert_int_equal(find("a"), YK_MISS);
    assert_int_equal(find("b"), 0);
    __atomic_store_n(&rig.hdr->lost, 1, __ATOMIC_RELEASE);
    assert_int_equal(yk_view_lost(&rig.view), 1);
    assert_int_equal(find("b"), YK_MISS);
}

static void nothing_outside_the_regions_is_followed(void **state) {
    (void)state;
    static const char long_key[] = "a key longer than its descriptor has room for";
    struct yk_desc good, *d;
    struct yk_rest good_rest, *rest;
    put_text("x", (struct rig_block){.offset = DATA - 10, .len = 10});
    d = &rig.owner.desc[0];
    rest = &rig.owner.rest[0];
    good = *d;
    good_rest = *rest;
    assert_int_equal(find("x"), 0);
    d->len = 11;
    assert_int_equal(find("x"), YK_MISS);
    *d = good;
    rest->offset = UINT64_MAX - 4;
    assert_int_equal(find("x"), YK_MISS);
    *rest = good_rest;
    assert_int_equal(find("x"), 0);
    uint32_t with_cell = put_text(long_key, (struct rig_block){.offset = 0, .len = 10});
    assert_int_equal(find(long_key), 0);
    rig.owner.desc[with_cell].key_cell = rig.layout.max_key_granules;
    assert_int_equal(find(long_key), YK_MISS);
    rig.owner.desc[with_cell].key_cell = UINT32_MAX;
    assert_int_equal(find(long_key), YK_MISS);
    struct yk_bucket *b = &rig.index.buckets[good.hash & 15];
    uint64_t tag = good.hash >> 32 << 32;
    b->entry[0] = tag | (rig.layout.max_blocks + 1);
    b->entry[1] = tag | UINT32_MAX;
    b->entry[2] = tag; /* a tag of no descriptor */
    b->next = rig.layout.max_overflow + 1;
    assert_int_equal(find("x"), YK_MISS);
    b->next = UINT32_MAX;
    assert_int_equal(find("x"), YK_MISS);
    b->next = 1;
    rig.index.buckets[rig.index.max_buckets].next = 1; /* a ring */
    assert_int_equal(find("x"), YK_MISS);
    __atomic_store_n(&rig.index.hdr->table, UINT64_MAX, __ATOMIC_RELEASE);
    assert_int_equal(find("x"), YK_MISS);
    yk_view_prefetch(&rig.view, good.hash);
}

static void match_ends_at_the_first_absent(void **state) {
    (void)state;
    enum { N = 300 };
    static char key[N][8];
    static struct yk_query q[N];
    static struct yk_found infos[N];
    uint32_t idx[N];
    int unsure;
    for (unsigned i = 0; i < N; i++) {
        snprintf(key[i], sizeof(key[i]), "m%u", i);
        idx[i] = put_text(key[i], (struct rig_block){.offset = i});
        q[i] = rig_query(0, key[i], (uint32_t)strlen(key[i]));
    }
    static const size_t lengths[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 300};
    for (unsigned n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++) {
        size_t len = lengths[n];
        memset(infos, 0xee, sizeof(infos));
        assert_int_equal(yk_view_match(&rig.view, q, len, 0, infos, &unsure), len);
        assert_int_equal(unsure, 0);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(infos[i].rest.offset, i);
        if (len < N)
            assert_int_equal(infos[len].idx, 0xeeeeeeeeu);
        assert_int_equal(yk_view_match(&rig.view, q, len, 0, NULL, &unsure), len);
    }
    for (size_t gap = N; gap-- > 0;) {
        rig_retire(&rig, idx[gap]);
        assert_int_equal(yk_view_match(&rig.view, q, N, 0, gap % 2 ? infos : NULL, &unsure), gap);
        assert_int_equal(unsure, 0);
    }
    put_text(key[0], (struct rig_block){0});
    idx[1] = put_text(key[1], (struct rig_block){0});
    __atomic_store_n(&rig.owner.desc[idx[1]].word, YK_WORD(1, YK_DESC_MOVING), __ATOMIC_RELEASE);
    assert_int_equal(yk_view_match(&rig.view, q, N, 0, infos, &unsure), 1);
    assert_int_equal(unsure, 1);
}

static void many_at_once_are_as_one_by_one(void **state) {
    (void)state;
    enum { N = 200 };
    static char key[N][8];
    static struct yk_query q[N];
    static struct yk_found found_many[N];
    static int rc[N + 1];
    for (unsigned i = 0; i < N; i++) {
        snprintf(key[i], sizeof(key[i]), "f%u", i);
        q[i] = rig_query(0, key[i], (uint32_t)strlen(key[i]));
        if (i % 3 == 0)
            continue;
        uint32_t idx = put_text(key[i], (struct rig_block){.offset = i});
        if (i % 5 == 0)
            rig.owner.desc[idx].word = YK_WORD(1, YK_DESC_MOVING);
    }
    for (size_t n = 0; n <= N; n += n < 40 ? 1 : 40) {
        for (int copies = 0; copies < 2; copies++) {
            rc[n] = 12345;
            yk_view_find_many(&rig.view, q, n, 0, copies ? found_many : NULL, rc);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(rc[i], yk_view_find(&rig.view, &q[i], 0, &found));
                assert_int_equal(rc[i], yk_view_find(&rig.view, &q[i], 0, NULL));
                if (rc[i] == 0 && copies)
                    assert_memory_equal(&found_many[i], &found, sizeof(found));
            }
            assert_int_equal(rc[n], 12345);
        }
    }
}

static void a_pin_holds_block_and_place(void **state) {
    (void)state;
    uint32_t *hazard = &rig.pages[0].hazard[3];
    uint32_t idx = put_text("held", (struct rig_block){.offset = 100});
    struct yk_query q = rig_query(0, "held", 4);
    uint64_t gen = YK_WORD_GEN(rig.owner.desc[idx].word);
    assert_int_equal(yk_view_pin(&rig.view, &q, 0, hazard, &found), 0);
    assert_int_equal(rig_move(&rig, idx, 500), 0);
    assert_int_equal(rig.owner.rest[idx].offset, 100);
    yk_hazard_clear(hazard);
    assert_int_equal(rig_move(&rig, idx, 500), 1);
    assert_true(YK_WORD_GEN(rig.owner.desc[idx].word) > gen);
    assert_int_equal(yk_view_pin(&rig.view, &q, 0, hazard, &found), 0);
    assert_int_equal(found.rest.offset, 500);
    rig_retire(&rig, idx);
    assert_int_equal(rig_scan(&rig), 0);
    assert_int_equal(rig.owner.rest[idx].offset, 500);
    yk_hazard_clear(hazard);
    assert_int_equal(rig_scan(&rig), 1);
    assert_int_equal(YK_WORD_STATE(rig.owner.desc[idx].word), YK_DESC_FREE);
}

static int init_rc(uint64_t meta_bytes, uint64_t data_bytes) {
    struct yk_view v;
    return yk_view_init(&v, rig.meta, meta_bytes, rig.data, data_bytes);
}

static void a_strange_header_is_refused(void **state) {
    (void)state;
    struct yk_view v;
    uint64_t meta = rig.layout.meta_bytes;
    assert_int_equal(init_rc(meta, DATA), 0);
    assert_int_equal(yk_view_init(&v, rig.meta, meta, NULL, 0), 0);
    assert_int_equal(init_rc(meta, DATA - 1), -YK_ECORRUPT);
    assert_int_equal(init_rc(meta - YK_SHM_PAGE, DATA), -YK_ECORRUPT);
    assert_int_equal(init_rc(meta + YK_SHM_PAGE, DATA), -YK_ECORRUPT);
    assert_int_equal(init_rc(YK_SHM_PAGE - 1, DATA), -YK_ECORRUPT);
    rig.hdr->version++;
    assert_int_equal(init_rc(meta, DATA), -YK_EVERSION);
    rig.hdr->version--;
    rig.hdr->magic ^= 1;
    assert_int_equal(init_rc(meta, DATA), -YK_ECORRUPT);
    rig.hdr->magic ^= 1;
    for (size_t i = 0; i < sizeof(rig.hdr->layout); i++) {
        unsigned char *at = (unsigned char *)&rig.hdr->layout + i;
        *at ^= 0x10;
        assert_int_equal(init_rc(meta, DATA), -YK_ECORRUPT);
        /* Nor one whose sum agrees: offsets are computed again, never believed. (Some lengths of
         * the extent table give the same offsets.) */
        rig.hdr->layout_sum = yk_shm_layout_sum(&rig.hdr->layout);
        if (i / 8 != offsetof(struct yk_shm_layout, extents_bytes) / 8)
            assert_int_equal(init_rc(meta, DATA), -YK_ECORRUPT);
        *at ^= 0x10;
        rig.hdr->layout_sum = yk_shm_layout_sum(&rig.hdr->layout);
    }
    assert_int_equal(init_rc(meta, DATA), 0);
}

static void the_clock_never_goes_back(void **state) {
    (void)state;
    uint64_t wall = yk_wall_ms();
    assert_true(yk_view_now_ms(&rig.view) >= wall);
    rig.hdr->clock_ms = wall + 1000000;
    assert_true(yk_view_now_ms(&rig.view) == wall + 1000000);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(keys_are_compared_whole),
        TEST(colliding_hashes_are_different_blocks),
        TEST(expiry_hides),
        TEST(epochs_must_agree_exactly),
        TEST(states_decide),
        TEST(removed_and_lost_are_missed),
        TEST(nothing_outside_the_regions_is_followed),
        TEST(match_ends_at_the_first_absent),
        TEST(many_at_once_are_as_one_by_one),
        TEST(a_pin_holds_block_and_place),
        TEST(a_strange_header_is_refused),
        TEST(the_clock_never_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
