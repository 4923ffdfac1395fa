/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of the block table: what reservations and hard pins may hold together, times that do not
 * fit, commits that come twice.
 */
#include "node/store.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1u << 20)

struct fixture {
    struct yk_store *s;
    uint32_t ns;
    uint64_t epoch;
};

/* Half of 32 MiB may be held. */
static void fixture_open(struct fixture *f) {
    struct yk_store_opts o = {.policy = "lru", .reserve_percent = 2, .held_percent = 50};
    struct yk_err err = {0};
    o.segment.data_bytes = 32 * MIB;
    o.segment.max_clients = 16;
    o.segment.numa_node = -1;
    assert_int_equal(yk_store_open(&o, &f->s, &err), 0);
    assert_int_equal(yk_store_ns_open(f->s, "default", 7, 1, &f->ns, &err), 0);
    f->epoch = yk_store_ns_epoch(f->s, f->ns);
}

static struct yk_commit reserved(struct fixture *f, const char *key, uint32_t len) {
    struct yk_place p;
    struct yk_err err = {0};
    assert_int_equal(yk_store_reserve(f->s, 0, len, &p, &err), 0);
    char *data = (char *)yk_store_segment(f->s)->data + p.offset;
    memset(data, key[0], len);
    return (struct yk_commit){.idx = p.idx,
                              .gen = p.gen,
                              .epoch = f->epoch,
                              .sum = yk_hash64(data, len),
                              .len = len,
                              .key = key,
                              .key_len = (uint32_t)strlen(key)};
}

static int commit(struct fixture *f, const struct yk_commit *c) {
    return yk_store_commit(f->s, 0, f->ns, c);
}

static int find(struct fixture *f, const char *key) {
    uint32_t idx;
    return yk_store_find(f->s, f->ns, f->epoch, key, (uint32_t)strlen(key), &idx);
}

static int change(struct fixture *f, unsigned what, uint64_t arg, const char *key) {
    return yk_store_change(f->s, f->ns, f->epoch, what, arg, key, (uint32_t)strlen(key));
}

static void hard_pins_leave_room_for_puts(void **state) {
    struct fixture f;
    char key[2] = "a";
    int rc = 0;
    fixture_open(&f);
    for (; rc == 0 && key[0] < 'z'; key[0]++) {
        struct yk_commit c = reserved(&f, key, MIB);
        assert_int_equal(commit(&f, &c), 0);
        rc = change(&f, YK_CHANGE_PIN, 0, key);
    }
    assert_int_equal(rc, -YK_ELIMIT);
    struct yk_commit c = reserved(&f, "put", MIB); /* with as much pinned as may be */
    assert_int_equal(commit(&f, &c), 0);
    c = reserved(&f, "put pinned", MIB);
    c.attrs.flags = YK_PUT_HARD_PIN;
    assert_int_equal(commit(&f, &c), -YK_ELIMIT);
    yk_store_close(f.s, 0);
}

/* The place counts that a pin keeps, not the bytes that are used of it. */
static void a_pin_counts_its_place(void **state) {
    struct fixture f;
    fixture_open(&f);
    struct yk_commit c = reserved(&f, "k", 14 * MIB);
    c.len = 1;
    c.sum = yk_hash64("k", 1);
    c.attrs.flags = YK_PUT_HARD_PIN;
    assert_int_equal(commit(&f, &c), -YK_ELIMIT);
    yk_store_close(f.s, 0);
}

static void a_block_larger_than_the_share_passes_it_alone(void **state) {
    struct fixture f;
    struct yk_place p;
    struct yk_err err = {0};
    fixture_open(&f);
    struct yk_commit small = reserved(&f, "held", MIB);
    struct yk_commit large = reserved(&f, "large", 20 * MIB);
    assert_int_equal(yk_store_reserve(f.s, 0, MIB, &p, &err), -YK_ENOSPC);
    assert_int_equal(commit(&f, &large), 0);
    assert_int_equal(yk_store_reserve(f.s, 0, MIB, &p, &err), 0);
    assert_int_equal(commit(&f, &small), 0);
    yk_store_close(f.s, 0);
}

static void a_time_to_live_without_end_does_not_wrap(void **state) {
    struct fixture f;
    fixture_open(&f);
    struct yk_commit c = reserved(&f, "k", 100);
    c.attrs.ttl_ms = UINT64_MAX;
    c.attrs.flags = YK_PUT_SOFT_PIN;
    c.attrs.pin_ms = UINT64_MAX;
    assert_int_equal(commit(&f, &c), 0);
    assert_int_equal(find(&f, "k"), 0);
    struct yk_counters n;
    yk_store_counters(f.s, &n);
    assert_int_equal(n.hard_pinned_bytes, 0);
    assert_int_equal(change(&f, YK_CHANGE_UNPIN, 0, "k"), 0);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.hard_pinned_bytes, 0);
    yk_store_close(f.s, 0);
}

/* The reply was lost: the second time it is answered as the first, whichever way that went. */
static void a_commit_that_comes_twice_is_answered_twice(void **state) {
    struct fixture f;
    fixture_open(&f);
    struct yk_commit first = reserved(&f, "k", 1000);
    struct yk_commit same = reserved(&f, "k", 1000);
    assert_int_equal(commit(&f, &first), 0);
    assert_int_equal(commit(&f, &first), 0);
    assert_int_equal(commit(&f, &same), 0);
    assert_int_equal(commit(&f, &same), 0);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, "k"), 0);
    assert_int_equal(commit(&f, &same), -YK_EGONE);
    yk_store_close(f.s, 0);
}

/* Somebody wrote into the meta file of a running node: figures may be wrong, puts go on. */
static void scribbled_sizes_do_not_end_puts(void **state) {
    struct fixture f;
    struct yk_counters n;
    fixture_open(&f);
    const struct yk_segment *seg = yk_store_segment(f.s);
    struct yk_rest *rest = (struct yk_rest *)((char *)seg->meta + seg->layout.off_rest);
    struct yk_commit c = reserved(&f, "reserved", 1000);
    rest[c.idx].cap = 0x7fffffff;
    assert_int_equal(yk_store_abort(f.s, 0, c.idx, c.gen), 0);
    c = reserved(&f, "pinned", 1000);
    assert_int_equal(commit(&f, &c), 0);
    rest[c.idx].pin_until_ms = YK_PIN_HARD;
    assert_int_equal(change(&f, YK_CHANGE_UNPIN, 0, "pinned"), 0);
    yk_store_counters(f.s, &n);
    assert_true(n.reserved_bytes < seg->layout.data_bytes);
    assert_true(n.hard_pinned_bytes < seg->layout.data_bytes);
    c = reserved(&f, "put", 1000);
    assert_int_equal(commit(&f, &c), 0);
    assert_int_equal(change(&f, YK_CHANGE_PIN, 0, "put"), 0);
    yk_store_close(f.s, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_pins_leave_room_for_puts),
        cmocka_unit_test(a_pin_counts_its_place),
        cmocka_unit_test(a_block_larger_than_the_share_passes_it_alone),
        cmocka_unit_test(a_time_to_live_without_end_does_not_wrap),
        cmocka_unit_test(a_commit_that_comes_twice_is_answered_twice),
        cmocka_unit_test(scribbled_sizes_do_not_end_puts),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
