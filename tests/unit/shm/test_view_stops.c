/* SPDX-License-Identifier: Apache-2.0
 *
 * Interleavings of one lookup with the owner, forced: the reader is stopped at a chosen place, the
 * owner does something there, the reader goes on.
 *
 * The reader has a mapping of its own in which one page cannot be read (or, for the hazard slots,
 * written): its first access to that page faults, the handler opens the page and plays the owner,
 * and the access is made again. So each of a lookup's second looks (bucket version, table, active
 * area, word after the fields, word after the hazard) has a test that needs just that one; chance
 * would find some of them once in hours (test_index_race.c, test_view_race.c).
 */
#include "rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <yolk/status.h>

#define BLOCKS  4000u
#define ENTRIES YK_SHM_BUCKET_ENTRIES

static struct rig rig;
static struct yk_view view; /* of the reader's mapping */
static unsigned char *reader_meta;
static struct sigaction before;

static struct {
    unsigned char *page;
    int prot; /* to give back */
    void (*act)(void);
    int times;
} stop;

static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)sig;
    (void)context;
    unsigned char *at = info->si_addr;
    if (at < stop.page || at >= stop.page + YK_SHM_PAGE) {
        signal(SIGSEGV, SIG_DFL);
        return;
    }
    stop.times++;
    mprotect(stop.page, YK_SHM_PAGE, stop.prot);
    stop.act();
}

static int set_up(void **state) {
    (void)state;
    rig_open(&rig, 1 << 20, BLOCKS, 1);
    reader_meta = mmap(NULL, rig.layout.meta_bytes, PROT_READ, MAP_SHARED, rig.meta_fd, 0);
    assert_ptr_not_equal(reader_meta, MAP_FAILED);
    assert_int_equal(yk_view_init(&view, reader_meta, rig.layout.meta_bytes, rig.data, 1 << 20), 0);
    rig.pages[0].hazard_top = 1;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    munmap(reader_meta, rig.layout.meta_bytes);
    rig_close(&rig);
    return 0;
}

/* The next access of the reader to what the owner knows as `at` makes the owner act. */
static void stop_at(const void *at, void (*act)(void)) {
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGSEGV, &sa, &before);
    uint64_t off = (uint64_t)((const unsigned char *)at - rig.meta);
    stop.page = reader_meta + (off & ~(uint64_t)(YK_SHM_PAGE - 1));
    stop.prot = PROT_READ;
    stop.act = act;
    stop.times = 0;
    mprotect(stop.page, YK_SHM_PAGE, PROT_NONE);
}

static int stopped_once(void) {
    sigaction(SIGSEGV, &before, NULL);
    return stop.times == 1;
}

static uint32_t put(const char *key, uint64_t hash) {
    struct rig_block b = {.key = key, .key_len = (uint32_t)strlen(key), .hash = hash};
    uint32_t idx = rig_put(&rig, &b);
    assert_int_not_equal(idx, YK_SHM_NONE);
    return idx;
}

static int find(const char *key, uint64_t hash, struct yk_found *ret) {
    struct yk_query q = rig_query(0, key, (uint32_t)strlen(key));
    if (hash != 0)
        q.hash = hash;
    return yk_view_find(&view, &q, 0, ret);
}

/* Bytes of descriptors so that those before and those to come are on different pages. */
static void new_desc_page(void) {
    rig.hdr->desc_top = (rig.hdr->desc_top + 128) & ~63u;
}

static uint32_t old_idx, new_idx;

/* ---- bucket version ----------------------------------------------------------------------- */

static void remove_first(void) {
    rig_retire(&rig, old_idx);
}

/* A removal in front of the reader fills the gap with the entry that the reader is about to reach. */
static void an_entry_that_jumps_back_is_found(void **state) {
    (void)state;
    struct yk_found found;
    char key[ENTRIES][4];
    for (unsigned i = 0; i < ENTRIES; i++) {
        key[i][0] = 'k';
        key[i][1] = (char)('0' + i);
        key[i][2] = 0;
        uint32_t idx = put(key[i], (uint64_t)(i + 1) << 32 | 5);
        old_idx = i == 0 ? idx : old_idx;
    }
    put("in between",
        98ull << 32 | 5); /* its bucket stays linked: only the jump raises the version */
    new_idx = put("target", 99ull << 32 | 5);
    assert_int_equal(rig.index.overflow_top, 1);
    stop_at(&rig.index.buckets[rig.index.max_buckets], remove_first);
    int rc = find("target", 99ull << 32 | 5, &found);
    assert_true(stopped_once());
    assert_int_equal(rc, 0);
    assert_int_equal(found.idx, new_idx);
    assert_int_equal(rig.index.buckets[5].next, 1);
}

static void replace_and_reuse(void) {
    static const char other[] = "somebody else";
    struct rig_block b = {.key = "upserted", .key_len = 8};
    uint32_t was = old_idx;
    new_desc_page();
    /* As an upsert: the new block, the entry, then the old one goes. */
    uint64_t hash = rig.owner.desc[was].hash;
    uint32_t decoy = rig_put(&rig, &b);
    yk_index_remove(&rig.index, hash, decoy);
    yk_index_replace(&rig.index, hash, was, decoy);
    __atomic_store_n(&rig.owner.desc[was].word, YK_WORD(yk_owner_gen(&rig.owner), YK_DESC_RETIRED),
                     __ATOMIC_RELEASE);
    rig.limbo[rig.limbo_count++] = was;
    rig_scan(&rig);
    new_idx = decoy;
    b.key = other;
    b.key_len = sizeof(other) - 1;
    if (rig_put(&rig, &b) != was)
        new_idx = YK_SHM_NONE; /* the descriptor was to serve another key by now */
}

/* The reader holds the entry of the old block; when it looks, another key lives there. */
static void a_replaced_block_is_found_in_its_new_place(void **state) {
    (void)state;
    struct yk_found found;
    old_idx = put("upserted", 0);
    stop_at(&rig.owner.desc[old_idx], replace_and_reuse);
    int rc = find("upserted", 0, &found);
    assert_true(stopped_once());
    assert_int_equal(rc, 0);
    assert_int_equal(found.idx, new_idx);
}

/* ---- table and area ----------------------------------------------------------------------- */

static void split_first(void) {
    put("one more", 7ull << 32 | 9);
}

/* Stopped after the table word was read, before the bucket is. */
static void a_block_that_went_to_a_new_bucket_is_found(void **state) {
    (void)state;
    struct yk_found found;
    /* The bucket must not share a page with the table word: those from the 64th on do not. A false
     * count makes the table grow without entries. */
    while (rig.index.level < 7 || rig.index.split < 70) {
        rig.index.count = BLOCKS;
        rig_retire(&rig, put("grow", 1));
        rig_scan(&rig);
    }
    uint32_t from = rig.index.split, level = rig.index.level;
    uint64_t hash = 3ull << 32 | from | 1u << level;
    rig.index.count = 0;
    old_idx = put("moves", hash);
    rig.index.count = ((1u << level) + from) * YK_INDEX_FILL;
    stop_at(&rig.index.buckets[from], split_first);
    int rc = find("moves", hash, &found);
    assert_true(stopped_once());
    assert_int_equal(rig.index.split, from + 1);
    assert_int_equal(rig.index.buckets[from].entry[0], 0);
    assert_int_equal(rc, 0);
    assert_int_equal(found.idx, old_idx);
}

static void rebuild(void) {
    uint64_t hash = rig.owner.desc[old_idx].hash;
    yk_index_init(&rig.index, rig.meta, &rig.layout, 1);
    yk_index_insert(&rig.index, hash, old_idx);
    __atomic_store_n(&rig.hdr->active, 1u << 1 | 1u, __ATOMIC_RELEASE);
    /* As recovery does with the area that is not used any more; its pages read zero then. */
    memset(rig.meta + rig.layout.off_index[0] + sizeof(struct yk_index_hdr), 0,
           rig.layout.index_bytes - sizeof(struct yk_index_hdr));
}

/* Stopped after the area was chosen; the table word of the old area stays as it was. */
static void a_block_is_found_in_a_new_incarnation(void **state) {
    (void)state;
    struct yk_found found;
    uint64_t hash = 5ull << 32 | 3;
    for (uint32_t i = 0; i < ENTRIES; i++)
        put("before it", (uint64_t)(i + 50) << 32 | 3);
    old_idx = put("stays", hash); /* in an overflow bucket, on another page than the table word */
    stop_at(&rig.index.buckets[rig.index.max_buckets], rebuild);
    struct yk_bucket *primary = &rig.index.buckets[3];
    uint32_t version = primary->version;
    int rc = find("stays", hash, &found);
    assert_true(stopped_once());
    assert_int_equal(primary->version, 0);
    assert_int_equal(version, 0); /* so that it alone would tell nothing */
    assert_int_equal(rc, 0);
    assert_int_equal(found.idx, old_idx);
}

/* ---- words -------------------------------------------------------------------------------- */

static void reuse_everything(void) {
    struct rig_block b = {.key = "key", .key_len = 3, .offset = 4096};
    rig_retire(&rig, old_idx);
    rig_scan(&rig);
    new_idx = rig_put(&rig, &b);
}

/* Stopped when the key was compared, before the rest is looked at: the copy must not be of two blocks. */
static void fields_of_two_blocks_are_not_mixed(void **state) {
    (void)state;
    struct yk_found found;
    old_idx = put("key", 0);
    uint64_t word = rig.owner.desc[old_idx].word;
    stop_at(&rig.owner.rest[old_idx], reuse_everything);
    int rc = find("key", 0, &found);
    assert_true(stopped_once());
    assert_int_equal(new_idx, old_idx); /* the same descriptor, another block */
    assert_int_equal(rc, 0);
    assert_true(found.word != word && found.word == rig.owner.desc[old_idx].word);
    assert_int_equal(found.rest.offset, 4096);
}

#define LONG_KEY "a key longer than its descriptor has room for"

static void reuse_with_long_key(void) {
    struct rig_block b = {.key = LONG_KEY, .key_len = strlen(LONG_KEY), .offset = 4096};
    rig_retire(&rig, old_idx);
    rig_scan(&rig);
    new_idx = rig_put(&rig, &b);
}

/* Stopped when the first bytes were compared, before the others in their cell. */
static void halves_of_two_keys_are_not_mixed(void **state) {
    (void)state;
    struct yk_found found;
    old_idx = put(LONG_KEY, 0);
    uint64_t word = rig.owner.desc[old_idx].word;
    uint32_t cell = rig.owner.desc[old_idx].key_cell;
    stop_at(yk_owner_cell(&rig.owner, cell, 16), reuse_with_long_key);
    int rc = find(LONG_KEY, 0, &found);
    assert_true(stopped_once());
    assert_int_equal(new_idx, old_idx);
    assert_int_equal(rig.owner.desc[new_idx].key_cell, cell);
    assert_int_equal(rc, 0);
    assert_true(found.word != word && found.word == rig.owner.desc[old_idx].word);
    assert_int_equal(found.rest.offset, 4096);
}

static void remove_and_reuse(void) {
    struct rig_block b = {.key = "other", .key_len = 5, .offset = 4096};
    rig_retire(&rig, old_idx);
    rig_scan(&rig);
    new_idx = rig_put(&rig, &b);
}

static void a_removed_block_is_missed(void **state) {
    (void)state;
    struct yk_found found;
    old_idx = put("key", 0);
    stop_at(&rig.owner.rest[old_idx], remove_and_reuse);
    int rc = find("key", 0, &found);
    assert_true(stopped_once());
    assert_int_equal(new_idx, old_idx);
    assert_int_equal(rc, YK_MISS);
}

static uint32_t scanned;

static void try_all(void) {
    scanned = 0;
    if (rig_move(&rig, old_idx, 8192) == 0)
        scanned |= 1;
    rig_retire(&rig, old_idx);
    if (rig_scan(&rig) == 0)
        scanned |= 2;
}

/* Stopped after the second look at the word: from here on the hazard must hold the block. */
static void a_named_block_is_neither_moved_nor_reused(void **state) {
    (void)state;
    struct yk_found found;
    struct yk_query q = rig_query(0, "key", 3);
    uint32_t *hazard = &rig.pages[0].hazard[0];
    old_idx = put("key", 0);
    stop_at(&rig.owner.rest[old_idx], try_all);
    int rc = yk_view_pin(&view, &q, 0, hazard, &found);
    assert_true(stopped_once());
    assert_int_equal(scanned, 3);
    assert_int_equal(rc, 0); /* it was there when it was named, and stays readable */
    assert_int_equal(found.rest.offset, 0);
    assert_int_equal(YK_WORD_STATE(found.desc.word), YK_DESC_COMMITTED);
    yk_hazard_clear(hazard);
    assert_int_equal(rig_scan(&rig), 1);
}

static int pin_stopped_at_the_hazard(void (*act)(void), struct yk_found *ret) {
    struct yk_query q = rig_query(0, "key", 3);
    old_idx = put("key", 0);
    stop_at(rig.meta, act);
    mprotect(stop.page, YK_SHM_PAGE, PROT_READ); /* not that page after all, but the slots' */
    stop.page = (unsigned char *)rig.pages + YK_SHM_PAGE;
    stop.prot = PROT_READ | PROT_WRITE;
    assert_true((unsigned char *)&rig.pages[0].hazard[0] == stop.page);
    mprotect(stop.page, YK_SHM_PAGE, PROT_READ);
    int rc = yk_view_pin(&view, &q, 0, &rig.pages[0].hazard[0], ret);
    assert_true(stopped_once());
    return rc;
}

/* Stopped between the first look at the word and the hazard: nobody knew of this reader. */
static void a_hazard_that_came_too_late_holds_nothing(void **state) {
    (void)state;
    struct yk_found found;
    assert_int_equal(pin_stopped_at_the_hazard(remove_and_reuse, &found), YK_MISS);
    assert_int_equal(new_idx, old_idx);
    assert_int_equal(rig.pages[0].hazard[0], 0);
}

static void move_unseen(void) {
    rig_move(&rig, old_idx, 8192);
}

static void a_hazard_that_came_after_a_move_holds_the_new_place(void **state) {
    (void)state;
    struct yk_found found;
    assert_int_equal(pin_stopped_at_the_hazard(move_unseen, &found), 0);
    assert_int_equal(found.rest.offset, 8192);
    assert_true(found.word == rig.owner.desc[old_idx].word);
    assert_int_equal(rig.pages[0].hazard[0], old_idx + 1);
}

int main(void) {
    if (!rig_may_fault())
        return 77; /* skipped, in meson's words */
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_entry_that_jumps_back_is_found),
        TEST(a_replaced_block_is_found_in_its_new_place),
        TEST(a_block_that_went_to_a_new_bucket_is_found),
        TEST(a_block_is_found_in_a_new_incarnation),
        TEST(fields_of_two_blocks_are_not_mixed),
        TEST(halves_of_two_keys_are_not_mixed),
        TEST(a_removed_block_is_missed),
        TEST(a_named_block_is_neither_moved_nor_reused),
        TEST(a_hazard_that_came_too_late_holds_nothing),
        TEST(a_hazard_that_came_after_a_move_holds_the_new_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
