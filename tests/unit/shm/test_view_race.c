/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers that hold blocks while the owner retires, moves and reuses everything as fast as it can.
 *
 * Every payload is filled with one number, which is also the block's stored checksum: key in the
 * high half, a version in the low one. There are hardly more slots than blocks, so a slot is
 * written again as soon as a scan says that nobody holds it. A reader that pinned a block must see
 * that block's number all over the slot until it lets go. A reader that only looks must get a
 * descriptor whose stored sums agree with its fields: a copy torn by a move or a reuse would not.
 *
 * Payload is read and written with plain accesses on purpose: the protocol alone must order them,
 * and the thread sanitizer checks that it does.
 */
#include "rig.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define KEYS  48u
#define SLOTS 56u
#define WORDS 32u /* of 8 bytes, in a slot */
#define HELD  4u  /* blocks that a reader holds at most */
#define STEPS 200000u
#define LOOKS 20000u

static struct rig rig;
static uint64_t names[KEYS][3];
static uint32_t desc_of[KEYS]; /* YK_SHM_NONE: not there */
static uint32_t free_slots[SLOTS], free_count;

static uint64_t *slot_at(uint64_t offset) {
    return (uint64_t *)(void *)(rig.data + offset);
}

static void slot_freed(void *arg, uint32_t idx) {
    (void)arg;
    free_slots[free_count++] = (uint32_t)(rig.owner.rest[idx].offset / (WORDS * 8));
}

struct held {
    struct yk_found found;
    uint32_t *hazard;
};

static int slot_is(const struct yk_found *f, uint32_t key) {
    const uint64_t *at = (const uint64_t *)(const void *)(rig.view.data + f->rest.offset);
    int good = f->rest.sum >> 32 == key;
    for (unsigned i = 0; i < WORDS; i++)
        good &= at[i] == f->rest.sum;
    return good;
}

static int copy_is_whole(const struct yk_found *f, uint32_t key) {
    return f->desc.word == f->word && f->rest.place_sum == yk_desc_place_sum(&f->rest, f->idx) &&
           f->rest.ident_sum == yk_desc_ident_sum(&f->desc, &f->rest, names[key]) &&
           f->rest.sum >> 32 == key;
}

static void look(struct rig_reader *rd, uint32_t key) {
    struct yk_query q = rig_query(0, names[key], sizeof(names[key]));
    struct yk_found f;
    int rc = yk_view_find(&rig.view, &q, 0, &f);
    rd->unsure += rc == -YK_EAGAIN;
    rd->wrong += rc == 0 && !copy_is_whole(&f, key);
}

static void *reader_run(void *arg) {
    struct rig_reader *rd = arg;
    struct yk_client_page *page = &rig.pages[rd->number];
    struct held held[HELD];
    uint64_t seed = rd->number;
    unsigned h = 0;
    memset(held, 0, sizeof(held));
    __atomic_store_n(&page->hazard_top, HELD, __ATOMIC_RELEASE);
    for (; rig_reader_goes_on(rd); h = (h + 1) % HELD) {
        uint32_t key = (uint32_t)(rig_random(&seed) % KEYS);
        struct held *at = &held[h];
        if (at->hazard != NULL) { /* held for some turns: still the same, then let go */
            rd->wrong += !slot_is(&at->found, (uint32_t)(at->found.rest.sum >> 32));
            yk_hazard_clear(at->hazard);
            at->hazard = NULL;
        }
        struct yk_query q = rig_query(0, names[key], sizeof(names[key]));
        int rc = yk_view_pin(&rig.view, &q, 0, &page->hazard[h], &at->found);
        rd->unsure += rc == -YK_EAGAIN;
        if (rc == 0) {
            at->hazard = &page->hazard[h];
            rd->wrong += !slot_is(&at->found, key);
            if (rd->looks % 64 == 0)
                sched_yield(); /* the owner runs meanwhile, on one core too */
            rd->wrong += !slot_is(&at->found, key);
        }
        look(rd, (uint32_t)(rig_random(&seed) % KEYS));
    }
    for (h = 0; h < HELD; h++)
        yk_hazard_clear(&page->hazard[h]);
    return NULL;
}

static void put(uint32_t key, uint32_t version) {
    while (free_count == 0)
        if (rig_scan(&rig) == 0)
            sched_yield();
    uint32_t slot = free_slots[--free_count];
    struct rig_block b = {.key = names[key],
                          .key_len = sizeof(names[key]),
                          .offset = (uint64_t)slot * WORDS * 8,
                          .len = WORDS * 8,
                          .sum = (uint64_t)key << 32 | version};
    for (unsigned i = 0; i < WORDS; i++)
        slot_at(b.offset)[i] = b.sum;
    desc_of[key] = rig_put(&rig, &b);
    assert_int_not_equal(desc_of[key], YK_SHM_NONE);
}

/* 1 moved, 0 held by a reader or no room. */
static int move(uint32_t key) {
    if (free_count == 0)
        return 0;
    uint64_t from = rig.owner.rest[desc_of[key]].offset;
    uint32_t slot = free_slots[free_count - 1];
    uint64_t to = (uint64_t)slot * WORDS * 8;
    memcpy(slot_at(to), slot_at(from), WORDS * 8);
    if (!rig_move(&rig, desc_of[key], to))
        return 0;
    free_slots[free_count - 1] = (uint32_t)(from / (WORDS * 8));
    memset(slot_at(from), 0xdd, WORDS * 8);
    return 1;
}

static void what_is_held_does_not_change(void **state) {
    (void)state;
    struct rig_reader rd[RIG_READERS];
    uint64_t seed = 4711;
    uint32_t moved = 0, refused = 0;
    rig_open(&rig, (uint64_t)SLOTS * WORDS * 8, SLOTS + 100, RIG_READERS);
    rig.freed = slot_freed;
    free_count = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        free_slots[free_count++] = i;
    for (uint32_t key = 0; key < KEYS; key++) {
        names[key][0] = names[key][2] = key * 0x123456789u;
        put(key, 0);
    }
    rig_readers_start(rd, reader_run);
    for (uint32_t step = 1; step < STEPS || rig_readers_lag(rd, LOOKS); step++) {
        uint32_t key = (uint32_t)(rig_random(&seed) % KEYS);
        uint64_t what = rig_random(&seed) % 8;
        if (desc_of[key] == YK_SHM_NONE) {
            put(key, step);
        } else if (what < 4) {
            int rc = move(key);
            moved += rc == 1;
            refused += rc == 0;
        } else {
            rig_retire(&rig, desc_of[key]);
            desc_of[key] = YK_SHM_NONE;
            if (what == 7)
                rig_scan(&rig);
        }
    }
    rig_readers_end(rd);
    assert_true(moved > 0 && refused > 0);
    rig_scan(&rig);
    assert_int_equal(rig.limbo_count, 0); /* nobody holds anything any more */
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_held_does_not_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
