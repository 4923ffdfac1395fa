/* SPDX-License-Identifier: Apache-2.0
 *
 * Pins of the transfer engine against everything that takes a block or place away: what is pinned stays
 * where it is, what went before is a miss, and memory is used again when the pin is gone, not earlier.
 */
#include "store_rig.h"

#include "base/clock.h"
#include "base/hash.h"
#include "node/guard.h"
#include "shm/owner.h"

#include <poll.h>
#include <pthread.h>

#include <yolk/transfer.h>

#define LEN 4096u

static char block[LEN];

struct at {
    uint32_t idx;
    uint64_t gen, epoch, offset;
};

static struct yk_pins *pins(struct fixture *f) {
    return yk_store_pins(f->s);
}

static struct at locate(struct fixture *f, const char *key) {
    struct at a;
    yk_block_info info;
    assert_int_equal(find(f, key, &a.idx), 0);
    yk_store_info(f->s, a.idx, &info);
    a.gen = info.generation;
    a.epoch = info.epoch;
    const char *data = yk_store_segment(f->s)->data, *payload = yk_store_payload(f->s, a.idx);
    a.offset = (uint64_t)(payload - data);
    return a;
}

static int pin_part(struct fixture *f, uint32_t op, const struct at *a, uint64_t from, uint64_t len,
                    uint64_t *ret_pin) {
    return yk_pins_pin(pins(f), op, a->idx, a->gen, a->epoch, a->offset + from, len, ret_pin);
}

static int pin(struct fixture *f, const struct at *a, uint64_t *ret_pin) {
    return pin_part(f, YK_XFER_READ, a, 0, LEN, ret_pin);
}

static int is_miss(struct fixture *f, const struct at *a) {
    uint64_t p = UINT64_MAX;
    return pin(f, a, &p) == YK_MISS && p == UINT64_MAX;
}

static void unpin(struct fixture *f, uint64_t p) {
    yk_pins_unpin(pins(f), p);
}

static void open_with_blocks(struct fixture *f, int n) {
    char key[16];
    fixture_open(f, 4 * MIB, 0, "lru");
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        memset(block, i + 1, LEN);
        assert_int_equal(put(f, key, block, LEN), 0);
    }
}

/* ---- what a pin asks ---------------------------------------------------------------------------- */

static void a_pin_is_of_this_block_and_these_bytes(void **state) {
    struct fixture f;
    uint64_t p;
    open_with_blocks(&f, 2);
    struct at a = locate(&f, "k0"), b = a;
    assert_int_equal(pin(&f, &a, &p), 0);
    unpin(&f, p);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, LEN - 1u, 1, &p), 0);
    unpin(&f, p);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, 0, LEN + 1u, &p), YK_MISS);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, 1, LEN, &p), YK_MISS);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, LEN, 1, &p), YK_MISS);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, 0, 0, &p), YK_MISS);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, 1, UINT64_MAX, &p), YK_MISS);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, UINT64_MAX - a.offset, 1, &p), YK_MISS);
    assert_int_equal(pin_part(&f, YK_XFER_WRITE, &a, 0, LEN, &p), YK_MISS);
    assert_int_equal(pin_part(&f, 3, &a, 0, LEN, &p), -YK_EINVAL);
    b.gen++;
    assert_true(is_miss(&f, &b));
    b.gen = a.gen | 1ull << 56; /* that bit has no place in the word */
    assert_true(is_miss(&f, &b));
    b = a;
    b.epoch++;
    assert_true(is_miss(&f, &b));
    b = a;
    b.idx = yk_store_segment(f.s)->layout.max_blocks;
    assert_true(is_miss(&f, &b));
    b.idx = a.idx + 1u;
    assert_true(is_miss(&f, &b));
    assert_int_equal(yk_pins_pin(pins(&f), YK_XFER_READ, a.idx | 1ull << 32, a.gen, a.epoch, a.offset, 1,
                                 &p),
                     YK_MISS);
    fixture_close(&f);
}

static void what_needs_the_node_is_a_miss(void **state) {
    struct fixture f;
    uint64_t p;
    open_with_blocks(&f, 1);
    crash(&f); /* SUSPECT now: to be verified by the node, which a get makes it do */
    struct at a = locate(&f, "k0");
    assert_true(is_miss(&f, &a));
    assert_int_equal(yk_store_settle(f.s, a.idx), 0);
    a = locate(&f, "k0");
    assert_int_equal(pin(&f, &a, &p), 0);
    unpin(&f, p);
    fixture_close(&f);
}

static void counts_say_what_was_pinned(void **state) {
    struct fixture f;
    uint64_t p;
    open_with_blocks(&f, 1);
    struct at a = locate(&f, "k0");
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, 0, 100, &p), 0);
    unpin(&f, p);
    a.gen++;
    assert_true(is_miss(&f, &a));
    struct yk_counters n = counters(&f);
    assert_int_equal(n.remote_reads, 1);
    assert_int_equal(n.remote_read_bytes, 100);
    assert_int_equal(n.remote_missed, 1);
    assert_int_equal(n.remote_full, 0);
    fixture_close(&f);
}

static void a_full_table_says_so_and_empties_again(void **state) {
    static uint64_t all[YK_PINS_MAX];
    struct fixture f;
    uint64_t p;
    open_with_blocks(&f, 1);
    struct at a = locate(&f, "k0");
    for (uint32_t i = 0; i < YK_PINS_MAX; i++)
        assert_int_equal(pin(&f, &a, &all[i]), 0);
    assert_int_equal(pin(&f, &a, &p), -YK_EAGAIN);
    assert_int_equal(counters(&f).remote_full, 1);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "k0"), 0);
    for (uint32_t i = 0; i < YK_PINS_MAX; i++) {
        assert_int_equal(counters(&f).limbo_blocks, 1); /* until the last one */
        unpin(&f, all[i]);
    }
    assert_int_equal(counters(&f).limbo_blocks, 0);
    fixture_close(&f);
}

/* ---- readers --------------------------------------------------------------------------------- */

/* The block went while it was pinned: nobody else gets its memory before the pin is gone. */
static void expect_kept(struct fixture *f, const struct at *a, uint64_t p, char byte) {
    const char *data = (const char *)yk_store_segment(f->s)->data + a->offset;
    char expected[LEN];
    char key[16];
    memset(expected, byte, LEN);
    assert_true(is_miss(f, a));
    assert_int_equal(counters(f).limbo_blocks, 1);
    memset(block, 'x', LEN);
    for (int i = 0; i < 2000; i++) { /* twice the tier */
        snprintf(key, sizeof(key), "n%d", i);
        assert_int_equal(put(f, key, block, LEN), 0);
    }
    assert_memory_equal(data, expected, LEN);
    unpin(f, p);
    assert_int_equal(counters(f).limbo_blocks, 0);
}

static void a_pinned_block_that_is_removed_keeps_its_memory(void **state) {
    struct fixture f;
    uint64_t p;
    open_with_blocks(&f, 3);
    struct at a = locate(&f, "k1");
    assert_int_equal(pin(&f, &a, &p), 0);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "k1"), 0);
    expect_kept(&f, &a, p, 2);
    fixture_close(&f);
}

static void a_raise_of_the_epoch_ends_pins_to_come_not_those_that_are(void **state) {
    struct fixture f;
    uint64_t p;
    open_with_blocks(&f, 3);
    struct at a = locate(&f, "k1"), b = locate(&f, "k0");
    assert_int_equal(pin(&f, &a, &p), 0);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    assert_true(is_miss(&f, &b)); /* at once, before a sweep has seen it */
    f.epoch++;
    while (counters(&f).blocks > 0)
        ;
    expect_kept(&f, &a, p, 2);
    fixture_close(&f);
}

static void a_namespace_that_is_removed_ends_them_too(void **state) {
    struct fixture f;
    struct yk_err err;
    uint64_t p;
    open_with_blocks(&f, 3);
    struct at a = locate(&f, "k1"), b = locate(&f, "k0");
    assert_int_equal(pin(&f, &a, &p), 0);
    assert_int_equal(yk_store_ns_remove(f.s, f.ns), 0);
    assert_true(is_miss(&f, &b));
    while (counters(&f).blocks > 0)
        ;
    assert_int_equal(yk_store_ns_open(f.s, "other", 5, 1, &f.ns, &err), 0);
    f.epoch = yk_store_ns_epoch(f.s, f.ns);
    expect_kept(&f, &a, p, 2);
    fixture_close(&f);
}

static void an_expired_block_is_a_miss(void **state) {
    struct fixture f;
    uint64_t p;
    open_with_blocks(&f, 1);
    struct at a = locate(&f, "k0");
    assert_int_equal(pin(&f, &a, &p), 0);
    assert_int_equal(change(&f, YK_CHANGE_EXPIRE, 1, "k0"), 0);
    uint64_t q, until = yk_boot_ms() + 20000;
    while (pin(&f, &a, &q) == 0 && yk_boot_ms() < until)
        unpin(&f, q);
    assert_true(is_miss(&f, &a));
    while (counters(&f).blocks > 0 && yk_boot_ms() < until)
        poll(NULL, 0, 1);
    expect_kept(&f, &a, p, 1);
    fixture_close(&f);
}

static void eviction_passes_a_pinned_block_by(void **state) {
    struct fixture f;
    uint64_t p;
    char key[16];
    open_with_blocks(&f, 1);
    struct at a = locate(&f, "k0");
    assert_int_equal(pin(&f, &a, &p), 0);
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof(key), "n%d", i);
        assert_int_equal(put(&f, key, block, LEN), 0);
    }
    assert_true(counters(&f).evict_space > 0);
    assert_true(here(&f, "k0")); /* the oldest of all */
    assert_false(here(&f, "n0"));
    unpin(&f, p);
    fixture_close(&f);
}

static void compaction_does_not_move_a_pinned_block(void **state) {
    enum { N = 700 };
    struct fixture f;
    char key[16];
    open_with_blocks(&f, N);
    static struct at was[N];
    static uint64_t held[N];
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        was[i] = locate(&f, key);
        if (i % 7 != 0)
            assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, key), 0);
        else
            assert_int_equal(pin(&f, &was[i], &held[i]), 0);
    }
    yk_store_tick(f.s);
    yk_store_compact(f.s, 2 * MIB, 1000);
    assert_true(counters(&f).moves_refused > 0);
    assert_int_equal(counters(&f).moves, 0);
    for (int i = 0; i < N; i += 7) {
        uint64_t p;
        assert_int_equal(pin(&f, &was[i], &p), 0); /* as if nothing had happened */
        unpin(&f, p);
        unpin(&f, held[i]);
    }
    uint64_t until = yk_boot_ms() + 20000; /* a plan is kept for a while */
    while (counters(&f).moves == 0 && yk_boot_ms() < until) {
        yk_store_compact(f.s, 2 * MIB, 1000);
        poll(NULL, 0, 10);
    }
    assert_true(counters(&f).moves > 0);
    int moved = 0;
    for (int i = 0; i < N; i += 7)
        moved += is_miss(&f, &was[i]);
    assert_true(moved > 0);
    fixture_close(&f);
}

/* ---- writers --------------------------------------------------------------------------------- */

static uint32_t peer(struct fixture *f) {
    uint32_t p = 0;
    assert_int_equal(yk_store_peer_open(f->s, &p), 0);
    return p;
}

static struct at reserve(struct fixture *f, uint32_t who, uint64_t len) {
    struct yk_place place;
    struct yk_err err;
    assert_int_equal(yk_store_reserve(f->s, who, len, &place, &err), 0);
    return (struct at){place.idx, place.gen, 0, place.offset};
}

static int pin_write(struct fixture *f, const struct at *a, uint64_t *ret_pin) {
    return pin_part(f, YK_XFER_WRITE, a, 0, LEN, ret_pin);
}

static void fill(struct fixture *f, const struct at *a, char byte) {
    memset((char *)yk_store_segment(f->s)->data + a->offset, byte, LEN);
}

static int commit(struct fixture *f, uint32_t who, const struct at *a, const char *key, char byte) {
    memset(block, byte, LEN);
    struct yk_commit c = {.idx = a->idx,
                          .gen = a->gen,
                          .epoch = f->epoch,
                          .sum = yk_hash64(block, LEN),
                          .len = LEN,
                          .key = key,
                          .key_len = (uint32_t)strlen(key)};
    return yk_store_commit(f->s, who, f->ns, &c);
}

static void a_place_of_a_peer_becomes_a_block(void **state) {
    struct fixture f;
    uint64_t p;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct at a = reserve(&f, who, LEN);
    assert_int_equal(counters(&f).remote_places, 1);
    assert_int_equal(pin_part(&f, YK_XFER_WRITE, &a, 1, LEN, &p), YK_MISS);
    assert_int_equal(pin_part(&f, YK_XFER_READ, &a, 0, LEN, &p), YK_MISS);
    assert_int_equal(pin_write(&f, &a, &p), 0);
    fill(&f, &a, 'p');
    unpin(&f, p);
    assert_int_equal(commit(&f, who, &a, "k", 'p'), 0);
    assert_int_equal(commit(&f, who, &a, "k", 'p'), 0); /* sent again */
    assert_int_equal(counters(&f).remote_places, 0);
    assert_int_equal(counters(&f).reserved_bytes, 0);
    assert_true(same(&f, "k", block, LEN));
    crash(&f);
    assert_true(same(&f, "k", block, LEN)); /* its sums are as a client's block's */
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "k"), 0);
    assert_int_equal(counters(&f).corrupt, 0);
    fixture_close(&f);
}

static void a_place_of_a_client_is_closed_to_peers(void **state) {
    struct fixture f;
    uint64_t p;
    fixture_open(&f, 4 * MIB, 0, "lru");
    struct at a = reserve(&f, 0, LEN);
    assert_int_equal(pin_write(&f, &a, &p), YK_MISS);
    fixture_close(&f);
}

static void a_late_write_is_a_miss(void **state) {
    struct fixture f;
    uint64_t p;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct at a = reserve(&f, who, LEN);
    fill(&f, &a, 'a');
    assert_int_equal(commit(&f, who, &a, "k", 'a'), 0);
    assert_int_equal(pin_write(&f, &a, &p), YK_MISS);
    struct at b = reserve(&f, who, LEN);
    assert_int_equal(yk_store_abort(f.s, who, b.idx, b.gen), 0);
    assert_int_equal(pin_write(&f, &b, &p), YK_MISS);
    struct at c = reserve(&f, who, LEN); /* the same memory, and descriptor, perhaps */
    assert_int_equal(pin_write(&f, &b, &p), YK_MISS);
    assert_int_equal(pin_write(&f, &c, &p), 0);
    unpin(&f, p);
    fixture_close(&f);
}

static void a_commit_waits_for_no_writer(void **state) {
    struct fixture f;
    uint64_t p, q;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct at a = reserve(&f, who, LEN);
    assert_int_equal(pin_write(&f, &a, &p), 0);
    fill(&f, &a, 'a');
    assert_int_equal(commit(&f, who, &a, "k", 'a'), -YK_EBUSY);
    assert_false(here(&f, "k"));
    assert_int_equal(pin_write(&f, &a, &q), 0); /* it is open again */
    unpin(&f, q);
    assert_int_equal(commit(&f, who, &a, "k", 'a'), -YK_EBUSY);
    unpin(&f, p);
    assert_int_equal(commit(&f, who, &a, "k", 'a'), 0);
    assert_true(same(&f, "k", block, LEN));
    fixture_close(&f);
}

static void payload_with_another_sum_ends_the_place(void **state) {
    struct fixture f;
    uint64_t p;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct at a = reserve(&f, who, LEN);
    fill(&f, &a, 'a');
    assert_int_equal(commit(&f, who, &a, "k", 'b'), -YK_ECORRUPT);
    assert_false(here(&f, "k"));
    assert_int_equal(counters(&f).remote_corrupt, 1);
    assert_int_equal(counters(&f).reserved_blocks, 0);
    assert_int_equal(counters(&f).limbo_blocks, 0);
    assert_int_equal(pin_write(&f, &a, &p), YK_MISS);
    assert_int_equal(commit(&f, who, &a, "k", 'a'), -YK_EGONE);
    fixture_close(&f);
}

static void a_place_is_its_connection_s_alone(void **state) {
    struct fixture f;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t one = peer(&f), two = peer(&f);
    assert_int_not_equal(one, two);
    struct at a = reserve(&f, one, LEN);
    fill(&f, &a, 'a');
    assert_int_equal(commit(&f, two, &a, "k", 'a'), -YK_EGONE);
    assert_int_equal(yk_store_abort(f.s, two, a.idx, a.gen), -YK_EGONE);
    assert_int_equal(yk_store_abort(f.s, YK_SHM_NONE, a.idx, a.gen), -YK_EGONE);
    assert_int_equal(yk_store_abort(f.s, 0, a.idx, a.gen), -YK_EGONE);
    yk_store_peer_close(f.s, two);
    assert_int_equal(commit(&f, one, &a, "k", 'a'), 0);
    fixture_close(&f);
}

/* The memory of a place that ended while it was written to is nobody's until the writer is through. */
static void expect_write_kept(struct fixture *f, const struct at *a, uint64_t p) {
    assert_int_equal(counters(f).reserved_blocks, 0);
    assert_int_equal(counters(f).limbo_blocks, 1);
    uint32_t who = peer(f);
    struct at b;
    for (int i = 0; i < 400; i++) {
        b = reserve(f, who, LEN);
        assert_true(b.offset + LEN <= a->offset || b.offset >= a->offset + LEN);
    }
    fill(f, a, 'w'); /* it goes on */
    yk_store_peer_close(f->s, who);
    unpin(f, p);
    assert_int_equal(counters(f).limbo_blocks, 0);
}

static void an_aborted_place_is_free_when_its_writer_is_through(void **state) {
    struct fixture f;
    uint64_t p;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct at a = reserve(&f, who, LEN);
    assert_int_equal(pin_write(&f, &a, &p), 0);
    assert_int_equal(yk_store_abort(f.s, who, a.idx, a.gen), 0);
    expect_write_kept(&f, &a, p);
    fixture_close(&f);
}

static void so_is_one_whose_connection_is_over(void **state) {
    struct fixture f;
    uint64_t p;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct at a = reserve(&f, who, LEN);
    reserve(&f, who, LEN);
    reserve(&f, who, LEN);
    assert_int_equal(pin_write(&f, &a, &p), 0);
    yk_store_peer_close(f.s, who);
    assert_int_equal(counters(&f).abandoned, 3);
    expect_write_kept(&f, &a, p);
    fixture_close(&f);
}

static void so_is_one_whose_commit_failed(void **state) {
    struct fixture f;
    uint64_t p;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct at a = reserve(&f, who, LEN);
    assert_int_equal(pin_write(&f, &a, &p), 0);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    assert_int_equal(commit(&f, who, &a, "k", 'a'), -YK_ESTALE);
    expect_write_kept(&f, &a, p);
    fixture_close(&f);
}

static void places_of_peers_are_free_after_a_restart(void **state) {
    struct fixture f;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint64_t free_bytes = counters(&f).free_bytes;
    uint32_t who = peer(&f);
    for (int i = 0; i < 300; i++)
        reserve(&f, who, LEN);
    struct at closed = reserve(&f, who, LEN);
    fill(&f, &closed, 'c');
    assert_int_equal(commit(&f, who, &closed, "k", 'c'), 0);
    crash(&f);
    struct yk_counters n = counters(&f);
    assert_int_equal(n.reserved_blocks, 0);
    assert_int_equal(n.remote_places, 0);
    assert_int_equal(n.limbo_blocks, 0);
    assert_true(here(&f, "k"));
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "k"), 0);
    assert_int_equal(counters(&f).free_bytes + counters(&f).idle_bytes, free_bytes);
    fixture_close(&f);
}

static void places_of_peers_are_bounded_like_others(void **state) {
    struct fixture f;
    struct yk_place place;
    struct yk_err err;
    int n = 0;
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    while (yk_store_reserve(f.s, who, 64u << 10, &place, &err) == 0)
        n++;
    assert_true(n >= 28 && n <= 32); /* half of the tier */
    yk_store_peer_close(f.s, who);
    assert_int_equal(counters(&f).reserved_bytes, 0);
    fixture_close(&f);
}

static void numbers_of_connections_are_used_again(void **state) {
    struct fixture f;
    uint32_t all[100];
    fixture_open(&f, 4 * MIB, 0, "lru");
    for (int i = 0; i < 100; i++)
        all[i] = peer(&f);
    yk_store_peer_close(f.s, all[40]);
    assert_int_equal(peer(&f), all[40]);
    struct at a = reserve(&f, all[99], LEN);
    assert_int_equal(yk_store_abort(f.s, all[99], a.idx, a.gen), 0);
    fixture_close(&f);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct race {
    struct yk_pins *pins;
    char *data;
    int stop;                            /* atomic, all of them */
    uint64_t seq;                        /* odd: the rest is being changed */
    uint64_t idx, gen, epoch, offset, n; /* what to pin; n: the block is full of it */
    uint64_t pinned;
};

#define GET(p)    __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define SET(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Reads what it has pinned: all of it is what the block had, however long ago it was told of it. */
static void *reader(void *arg) {
    struct race *r = arg;
    while (!GET(&r->stop)) {
        uint64_t p, seq = GET(&r->seq);
        struct race at = {.idx = GET(&r->idx), .gen = GET(&r->gen), .offset = GET(&r->offset), .n = GET(&r->n)};
        if ((seq & 1u) != 0 || GET(&r->seq) != seq ||
            yk_pins_pin(r->pins, YK_XFER_READ, at.idx, at.gen, r->epoch, at.offset, LEN, &p) != 0)
            continue;
        const uint64_t *words = (const uint64_t *)(const void *)(r->data + at.offset);
        for (uint32_t i = 0; i < LEN / 8u; i++)
            if (words[i] != at.n)
                abort();
        __atomic_fetch_add(&r->pinned, 1, __ATOMIC_RELAXED);
        yk_pins_unpin(r->pins, p);
    }
    return NULL;
}

static void readers_never_see_memory_of_another(void **state) {
    struct fixture f;
    pthread_t threads[2];
    open_with_blocks(&f, 0);
    struct race r = {.pins = pins(&f), .data = yk_store_segment(f.s)->data, .epoch = f.epoch,
                     .idx = UINT32_MAX};
    uint64_t words[LEN / 8u];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &r), 0);
    uint64_t until = yk_boot_ms() + 20000;
    for (uint64_t n = 1; n <= 3000 || (GET(&r.pinned) < 100 && yk_boot_ms() < until); n++) {
        for (uint32_t i = 0; i < LEN / 8u; i++)
            words[i] = n;
        assert_int_equal(put_as(&f, 0, "k", NULL, words, LEN, YK_PUT_UPSERT), 0);
        struct at a = locate(&f, "k");
        SET(&r.seq, 2 * n - 1);
        SET(&r.idx, a.idx);
        SET(&r.gen, a.gen);
        SET(&r.offset, a.offset);
        SET(&r.n, n);
        SET(&r.seq, 2 * n);
        yk_store_tick(f.s);
    }
    SET(&r.stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(r.pinned >= 100);
    fixture_close(&f);
}

/* Writes what it may: bytes of its own, all of them or none of them seen by a commit. */
static void *writer(void *arg) {
    struct race *r = arg;
    while (!GET(&r->stop)) {
        uint64_t p, offset = GET(&r->offset);
        if (yk_pins_pin(r->pins, YK_XFER_WRITE, GET(&r->idx), GET(&r->gen), 0, offset, LEN, &p) != 0)
            continue;
        memset(r->data + offset, 'w', LEN);
        __atomic_fetch_add(&r->pinned, 1, __ATOMIC_RELAXED);
        yk_pins_unpin(r->pins, p);
    }
    return NULL;
}

/* A block that was committed does not change, and neither does what others have, however late a write is. */
static void writers_never_touch_what_is_not_theirs(void **state) {
    struct fixture f;
    pthread_t thread;
    char key[16], mine[LEN];
    fixture_open(&f, 4 * MIB, 0, "lru");
    uint32_t who = peer(&f);
    struct race r = {.pins = pins(&f), .data = yk_store_segment(f.s)->data, .idx = UINT32_MAX};
    assert_int_equal(pthread_create(&thread, NULL, writer, &r), 0);
    uint64_t until = yk_boot_ms() + 20000;
    for (int n = 0; n < 2000 || (GET(&r.pinned) < 100 && yk_boot_ms() < until); n++) {
        struct at a = reserve(&f, who, LEN);
        SET(&r.offset, a.offset);
        SET(&r.gen, a.gen);
        SET(&r.idx, a.idx);
        snprintf(key, sizeof(key), "k%d", n % 100);
        if (n % 3 == 0) {
            assert_int_equal(yk_store_abort(f.s, who, a.idx, a.gen), 0);
        } else {
            int rc; /* the writer may never have come, or be there just now */
            do
                rc = commit(&f, who, &a, key, 'w');
            while (rc == -YK_EBUSY);
            assert_true(rc == 0 || rc == -YK_ECORRUPT);
        }
        memset(mine, n, LEN);
        snprintf(key, sizeof(key), "m%d", n % 100);
        assert_int_equal(put_as(&f, 0, key, NULL, mine, LEN, YK_PUT_UPSERT), 0);
        assert_true(same(&f, key, mine, LEN));
        yk_store_tick(f.s);
    }
    SET(&r.stop, 1);
    pthread_join(thread, NULL);
    assert_true(r.pinned >= 100);
    memset(mine, 'w', LEN);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_true(!here(&f, key) || same(&f, key, mine, LEN));
    }
    assert_int_equal(counters(&f).reserved_blocks, 0);
    assert_int_equal(counters(&f).limbo_blocks, 0);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pin_is_of_this_block_and_these_bytes),
        cmocka_unit_test(what_needs_the_node_is_a_miss),
        cmocka_unit_test(counts_say_what_was_pinned),
        cmocka_unit_test(a_full_table_says_so_and_empties_again),
        cmocka_unit_test(a_pinned_block_that_is_removed_keeps_its_memory),
        cmocka_unit_test(a_raise_of_the_epoch_ends_pins_to_come_not_those_that_are),
        cmocka_unit_test(a_namespace_that_is_removed_ends_them_too),
        cmocka_unit_test(an_expired_block_is_a_miss),
        cmocka_unit_test(eviction_passes_a_pinned_block_by),
        cmocka_unit_test(compaction_does_not_move_a_pinned_block),
        cmocka_unit_test(a_place_of_a_peer_becomes_a_block),
        cmocka_unit_test(a_place_of_a_client_is_closed_to_peers),
        cmocka_unit_test(a_late_write_is_a_miss),
        cmocka_unit_test(a_commit_waits_for_no_writer),
        cmocka_unit_test(payload_with_another_sum_ends_the_place),
        cmocka_unit_test(a_place_is_its_connection_s_alone),
        cmocka_unit_test(an_aborted_place_is_free_when_its_writer_is_through),
        cmocka_unit_test(so_is_one_whose_connection_is_over),
        cmocka_unit_test(so_is_one_whose_commit_failed),
        cmocka_unit_test(places_of_peers_are_free_after_a_restart),
        cmocka_unit_test(places_of_peers_are_bounded_like_others),
        cmocka_unit_test(numbers_of_connections_are_used_again),
        cmocka_unit_test(readers_never_see_memory_of_another),
        cmocka_unit_test(writers_never_touch_what_is_not_theirs),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
