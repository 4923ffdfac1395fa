/* SPDX-License-Identifier: Apache-2.0
 *
 * Two interleavings of a split and a lookup, forced step by step: the reader stands in an overflow
 * bucket while the owner unlinks it, or takes an entry out of it to fill a gap further ahead.
 *
 * A reader that comes after a split has raised its bucket's version takes the raised one for the
 * state of things. If the bucket it stands in is then unlinked and its `next` used for the list of
 * free buckets, it follows that list, finds nothing, sees no version change, and reports a block
 * missing that was there all the time. So the version must move again before an unlinked bucket is
 * written to, and before an entry that was copied to an earlier place leaves its old one.
 *
 * Chance shows this once in many hours; here page protection stops each side where it should stop.
 * Reader and owner have mappings of their own: the owner's cannot write the page of the first
 * overflow bucket, so it stops when it clears an entry there (after the version was raised, before
 * anything is unlinked); the reader's cannot read the page of the second one, so it stops inside it
 * until the split is over.
 */
#include "rig.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <yolk/status.h>

#define BLOCKS  4000u
#define GROW    200u
#define ENTRIES YK_SHM_BUCKET_ENTRIES

static struct rig rig;
static unsigned char *reader_meta;
static unsigned char *owner_page, *reader_page; /* that stop them */
static sem_t owner_stopped, reader_inside, split_done;
static int owner_stops, reader_stops;

/* Both faults are of this test's own making; nothing is interrupted but a load or a store. */
static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)sig;
    (void)context;
    unsigned char *at = info->si_addr;
    if (at >= owner_page && at < owner_page + YK_SHM_PAGE) {
        owner_stops++;
        sem_post(&owner_stopped);
        sem_wait(&reader_inside);
        mprotect(owner_page, YK_SHM_PAGE, PROT_READ | PROT_WRITE);
    } else if (at >= reader_page && at < reader_page + YK_SHM_PAGE) {
        reader_stops++;
        sem_post(&reader_inside);
        sem_wait(&split_done);
        mprotect(reader_page, YK_SHM_PAGE, PROT_READ);
    } else {
        signal(SIGSEGV, SIG_DFL);
    }
}

static unsigned char *page_of(const void *at) {
    return (unsigned char *)((uintptr_t)at & ~(uintptr_t)(YK_SHM_PAGE - 1));
}

static struct yk_bucket *overflow(uint32_t link) {
    return &rig.index.buckets[rig.index.max_buckets + link - 1];
}

static void filler(uint32_t idx, uint32_t low) {
    uint64_t hash = (uint64_t)idx << 32 | low;
    rig.owner.desc[idx].hash = hash;
    assert_int_equal(yk_index_insert(&rig.index, hash, idx), 0);
}

/* Some hundred buckets, all empty: from here on nothing splits before there are that many entries
 * again, and the next to be split is rig.index.split. A false count spares the entries. */
static void table_grow(void) {
    for (uint32_t i = 0; i < GROW; i++) {
        rig.index.count = BLOCKS;
        filler(0, 0);
        assert_int_equal(yk_index_remove(&rig.index, 0, 0), 0);
    }
    rig.index.count = 0;
    assert_int_equal(rig.index.overflow_top, 0);
}

/* Lengthens the chain of another bucket until the next overflow bucket is the last of a page. */
static uint32_t fill_to_page_end(uint32_t idx) {
    uint32_t other = rig.index.split + 1;
    for (unsigned n = 0;; n++) {
        struct yk_bucket *next = overflow(rig.index.overflow_top + 1);
        if (((uintptr_t)(next + 1) & (YK_SHM_PAGE - 1)) == 0 && n % ENTRIES == 0)
            return idx;
        filler(idx++, n < 60 * ENTRIES ? other : other + 1);
    }
}

/* Takes an entry out where it stands. yk_index_remove would close the gap; a split leaves gaps, too,
 * and the buckets in question must not move before it. */
static void leave_gap(uint32_t bucket, uint32_t idx) {
    struct yk_bucket *b = &rig.index.buckets[bucket];
    for (;; b = overflow(b->next)) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            if ((uint32_t)b->entry[i] == idx + 1) {
                b->entry[i] = 0;
                rig.index.count--;
                return;
            }
        }
        assert_int_not_equal(b->next, 0);
    }
}

static uint32_t put_staying(uint32_t idx, struct yk_query *ret_q) {
    static const char key[] = "stays";
    struct rig_block b = {.key = key, .key_len = 5, .hash = 0xfffffull << 32 | rig.index.split};
    rig.hdr->desc_top = idx;
    assert_int_equal(rig_put(&rig, &b), idx);
    *ret_q = rig_query(0, key, 5);
    ret_q->hash = b.hash;
    return idx;
}

/* In the bucket that is split next: a primary and two overflow buckets of entries that go again, on
 * two pages, and a third with the block that stays. One entry of the first overflow bucket is still
 * there at the split and moves to the new bucket. */
static uint32_t chain_to_trim(uint32_t idx, struct yk_query *ret_q) {
    uint32_t low = rig.index.split, end = idx + 3 * ENTRIES, mover = idx + ENTRIES;
    for (uint32_t i = idx; i < end; i++)
        filler(i, i == mover ? low | 1u << rig.index.level : low);
    uint32_t stays = put_staying(end, ret_q);
    for (uint32_t i = idx; i < end; i++)
        if (i != mover)
            leave_gap(low, i);
    return stays;
}

/* Primary and first overflow bucket are full; one entry there moves and leaves the only gap. In the
 * second one are the block that will fill it and another, so that no bucket becomes empty. */
static uint32_t chain_to_pack(uint32_t idx, struct yk_query *ret_q) {
    uint32_t low = rig.index.split, end = idx + 2 * ENTRIES, mover = idx + ENTRIES;
    for (uint32_t i = idx; i < end; i++)
        filler(i, i == mover ? low | 1u << rig.index.level : low);
    uint32_t stays = put_staying(end, ret_q);
    filler(end + 1, low);
    return stays;
}

/* Adds entries elsewhere until one more makes the table split. */
static uint32_t push_to_brink(uint32_t idx) {
    uint32_t buckets = (1u << rig.index.level) + rig.index.split;
    while (rig.index.count + 1 <= buckets * YK_INDEX_FILL) {
        filler(idx, rig.index.split + 3 + idx % 32);
        idx++;
    }
    return idx;
}

static void *owner_run(void *arg) {
    filler(*(uint32_t *)arg, rig.index.split + 3);
    sem_post(&split_done);
    return NULL;
}

static void split_under_reader(uint32_t (*chain_build)(uint32_t, struct yk_query *)) {
    struct yk_view view;
    struct yk_query q;
    struct yk_found found;
    pthread_t owner;
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER}, before;
    rig_open(&rig, 1 << 20, BLOCKS, 1);
    reader_meta = mmap(NULL, rig.layout.meta_bytes, PROT_READ, MAP_SHARED, rig.meta_fd, 0);
    assert_ptr_not_equal(reader_meta, MAP_FAILED);
    assert_int_equal(yk_view_init(&view, reader_meta, rig.layout.meta_bytes, rig.data, 1 << 20), 0);
    table_grow();
    uint32_t split = rig.index.split;
    uint32_t stays = chain_build(fill_to_page_end(0), &q);
    uint32_t next = push_to_brink(stays + 2);
    struct yk_bucket *first = overflow(rig.index.buckets[split].next);
    struct yk_bucket *second = overflow(first->next);
    assert_int_equal(yk_view_find(&view, &q, 0, &found), 0);
    assert_int_equal(rig.index.split, split);

    owner_stops = reader_stops = 0;
    sem_init(&owner_stopped, 0, 0);
    sem_init(&reader_inside, 0, 0);
    sem_init(&split_done, 0, 0);
    owner_page = page_of(first);
    reader_page = reader_meta + (page_of(second) - rig.meta);
    assert_ptr_not_equal(owner_page, page_of(second));
    sigemptyset(&sa.sa_mask);
    sigaction(SIGSEGV, &sa, &before);
    mprotect(owner_page, YK_SHM_PAGE, PROT_READ);
    mprotect(reader_page, YK_SHM_PAGE, PROT_NONE);
    assert_int_equal(pthread_create(&owner, NULL, owner_run, &next), 0);
    sem_wait(&owner_stopped);
    int rc = yk_view_find(&view, &q, 0, &found);
    pthread_join(owner, NULL);
    sigaction(SIGSEGV, &before, NULL);

    assert_int_equal(owner_stops, 1);
    assert_int_equal(reader_stops, 1);
    assert_int_equal(rc, 0);
    assert_int_equal(found.idx, stays);
    munmap(reader_meta, rig.layout.meta_bytes);
    rig_close(&rig);
}

static void a_reader_in_an_unlinked_bucket_looks_again(void **state) {
    (void)state;
    split_under_reader(chain_to_trim);
}

static void a_reader_behind_a_gap_that_is_filled_looks_again(void **state) {
    (void)state;
    split_under_reader(chain_to_pack);
}

int main(void) {
    if (!rig_may_fault())
        return 77; /* skipped, in meson's words */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_in_an_unlinked_bucket_looks_again),
        cmocka_unit_test(a_reader_behind_a_gap_that_is_filled_looks_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
