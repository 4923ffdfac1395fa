/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool of reservations held ahead: what it asks for, keeps, gives back.
 */
#include "client/hold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static struct yk_hold *new_pool(uint64_t limit) {
    struct yk_hold *h = malloc(sizeof(*h));
    yk_hold_init(h, limit);
    return h;
}

static struct yk_rsv place(uint32_t i) {
    return (struct yk_rsv){i, 1000u + i, 64u * i};
}

/* n places of a length arrive as asked for. */
static void arrive(struct yk_hold *h, uint64_t len, uint32_t n, uint32_t first) {
    yk_hold_came(h, len, n);
    for (uint32_t i = 0; i < n; i++) {
        struct yk_rsv r = place(first + i);
        assert_int_equal(yk_hold_keep(h, len, &r), 0);
    }
}

static void a_length_put_once_is_not_held_for(void **state) {
    (void)state;
    struct yk_hold *h = new_pool(1 << 20);
    struct yk_rsv r;
    assert_int_equal(yk_hold_take(h, 1000, &r), 0);
    assert_int_equal(yk_hold_wish(h, 1000, 64), 0);
    assert_int_equal(yk_hold_take(h, 1000, &r), 0);
    assert_int_equal(yk_hold_wish(h, 1000, 64), 8);
    assert_int_equal(yk_hold_wish(h, 1000, 64), 0); /* they are coming */
    arrive(h, 1000, 8, 0);
    assert_int_equal(yk_hold_bytes(h), 8000);
    free(h);
}

static void what_is_kept_comes_out_once(void **state) {
    (void)state;
    struct yk_hold *h = new_pool(1 << 20);
    struct yk_rsv r;
    int seen[8] = {0};
    yk_hold_take(h, 10, &r);
    yk_hold_take(h, 10, &r);
    arrive(h, 10, yk_hold_wish(h, 10, 64), 0);
    assert_int_equal(yk_hold_take(h, 11, &r), 0); /* the exact length only */
    for (int i = 0; i < 8; i++) {
        assert_int_equal(yk_hold_take(h, 10, &r), 1);
        assert_int_equal(r.gen, 1000 + r.idx);
        assert_int_equal(seen[r.idx]++, 0);
    }
    assert_int_equal(yk_hold_take(h, 10, &r), 0);
    assert_int_equal(yk_hold_bytes(h), 0);
    free(h);
}

static void running_dry_raises_the_target_up_to_the_limit(void **state) {
    (void)state;
    struct yk_hold *h = new_pool(100000);
    struct yk_rsv r;
    uint32_t most = 0;
    for (int i = 0; i < 20; i++) {
        while (yk_hold_take(h, 1000, &r))
            continue;
        uint32_t n = yk_hold_wish(h, 1000, 4096);
        most = n > most ? n : most;
        arrive(h, 1000, n, 0);
        assert_true(yk_hold_bytes(h) <= 100000);
    }
    assert_int_equal(most, 100);
    assert_int_equal(yk_hold_wish(h, 200000, 64), 0);
    yk_hold_take(h, 200000, &r);
    yk_hold_take(h, 200000, &r);
    assert_int_equal(yk_hold_wish(h, 200000, 64), 0); /* longer than the limit */
    struct yk_rsv p = place(1);
    assert_int_equal(yk_hold_keep(h, 200000, &p), -YK_ELIMIT);
    free(h);
}

static void an_unused_length_gives_back(void **state) {
    (void)state;
    struct yk_hold *h = new_pool(1 << 20);
    struct yk_rsv r;
    yk_hold_take(h, 10, &r);
    yk_hold_take(h, 10, &r);
    arrive(h, 10, yk_hold_wish(h, 10, 64), 0);
    assert_int_equal(yk_hold_stale(h, &r), 0);
    for (int i = 0; i < 200; i++)
        yk_hold_take(h, 20, &r);
    int n = 0;
    while (yk_hold_stale(h, &r))
        n++;
    assert_int_equal(n, 8);
    assert_int_equal(yk_hold_bytes(h), 0);
    free(h);
}

static void room_is_made_for_another_length(void **state) {
    (void)state;
    struct yk_hold *h = new_pool(1 << 20);
    struct yk_rsv r;
    for (uint64_t len = 10; len <= 20; len += 10) {
        yk_hold_take(h, len, &r);
        yk_hold_take(h, len, &r);
        arrive(h, len, yk_hold_wish(h, len, 64), (uint32_t)len);
    }
    assert_int_equal(yk_hold_yield(h, 20), 8);
    int n = 0;
    while (yk_hold_stale(h, &r)) {
        assert_in_range(r.idx, 10, 17);
        n++;
    }
    assert_int_equal(n, 8);
    assert_int_equal(yk_hold_bytes(h), 160);
    yk_hold_forget(h);
    assert_int_equal(yk_hold_bytes(h), 0);
    assert_int_equal(yk_hold_stale(h, &r), 0);
    free(h);
}

/* Thousands of lengths pass through a table of 64 rows; nothing is lost or kept twice. */
static void many_lengths(void **state) {
    (void)state;
    struct yk_hold *h = new_pool(1 << 30);
    struct yk_rsv r;
    uint64_t kept = 0, out = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        uint64_t len = 1 + (i * 7919u) % (i % 2 ? 40u : 500u); /* some come back soon */
        out += (uint64_t)yk_hold_take(h, len, &r);
        uint32_t n = yk_hold_wish(h, len, 64);
        yk_hold_came(h, len, n);
        for (uint32_t k = 0; k < n; k++) {
            struct yk_rsv p = place(k);
            kept += yk_hold_keep(h, len, &p) == 0;
        }
        while (yk_hold_stale(h, &r))
            out++;
    }
    (void)yk_hold_yield(h, 0);
    while (yk_hold_stale(h, &r))
        out++;
    assert_true(kept > 0);
    assert_int_equal(kept, out);
    assert_int_equal(h->bytes, 0);
    free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_length_put_once_is_not_held_for),
        cmocka_unit_test(what_is_kept_comes_out_once),
        cmocka_unit_test(running_dry_raises_the_target_up_to_the_limit),
        cmocka_unit_test(an_unused_length_gives_back),
        cmocka_unit_test(room_is_made_for_another_length),
        cmocka_unit_test(many_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
