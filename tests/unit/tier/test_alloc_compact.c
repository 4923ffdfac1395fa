/* SPDX-License-Identifier: Apache-2.0
 *
 * Block allocator: the compaction planner. Its moves never touch what is somebody else's, whatever
 * gets, puts, late puts and pins come between; sessions end; drained extents and joined runs give
 * back what they should.
 */
#include "alloc_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PENDING_MAX 16

/* A block that was moved; its old place is still read by somebody. */
struct retired {
    uint64_t offset, len;
    uint32_t id;
};

struct late {
    struct retired list[PENDING_MAX];
    uint32_t count;
};

static void late_put(struct model *m, struct late *late, uint32_t i) {
    struct retired r = late->list[i];
    assert_int_equal(yk_alloc_put(m->a, r.offset, r.len), 0);
    model_own(m, r.offset, r.len, r.id, 0);
    late->list[i] = late->list[--late->count];
}

/* Handles one proposed move as a tier does; one block in `pin_every` can't move. */
static void handle(struct model *m, struct late *late, const struct yk_alloc_move *mv,
                   uint64_t pin_every) {
    size_t i = model_find(m, mv->from_offset);
    model_own(m, mv->to_offset, mv->len, 0, UINT32_MAX); /* nobody's, all of it */
    model_own(m, mv->to_offset, mv->len, UINT32_MAX, 0);
    if (i == m->count || m->live[i].id % pin_every == 0 || late->count == PENDING_MAX) {
        assert_int_equal(yk_alloc_compact_skip(m->a, mv), 0);
        return;
    }
    struct model_block *b = &m->live[i];
    assert_true(b->len <= mv->len);
    assert_int_equal(yk_alloc_compact_commit(m->a, mv, b->len), 0);
    model_own(m, mv->to_offset, b->len, 0, b->id);
    late->list[late->count++] = (struct retired){b->offset, b->len, b->id};
    b->offset = mv->to_offset;
    if (model_rand(m, 2))
        late_put(m, late, late->count - 1);
}

static void moves_between_gets_and_puts(void **state) {
    (void)state;
    static const uint64_t capacities[] = {300000, 5000001, 64000000, 140000000};
    uint64_t moves = 0;
    for (uint64_t run = 0; run < 24; run++) {
        struct model m;
        struct late late = {.count = 0};
        struct yk_alloc_move mv;
        enum model_sizes sizes = (enum model_sizes)(run % 5);
        model_init(&m, capacities[run % 4], true, run + 100);
        for (int op = 0; op < 6000; op++) {
            uint64_t r = model_rand(&m, 100);
            if (r < 30) {
                model_get(&m, model_len(&m, sizes));
            } else if (r < (op / 1000 % 2 ? 50u : 62u) && m.count > 0) {
                model_put(&m, model_rand(&m, m.count));
            } else if (r < 66 && late.count > 0) {
                late_put(&m, &late, (uint32_t)model_rand(&m, late.count));
            } else if (r < 68) {
                uint64_t want = model_rand(&m, 2) ? 0 : model_len(&m, SIZES_LARGE);
                int rc = yk_alloc_compact_begin(m.a, want);
                assert_true(rc == 0 || (rc == -YK_ETOOBIG && want > m.capacity_bytes));
            } else if (r >= 70) {
                int rc = yk_alloc_compact_next(m.a, &mv);
                assert_true(rc == 0 || rc == 1 || rc == -YK_EAGAIN);
                if (rc == 1) {
                    handle(&m, &late, &mv, 10);
                    moves++;
                }
            }
        }
        while (late.count > 0)
            late_put(&m, &late, 0);
        model_check(&m, 0);
        model_empty(&m);
        model_fini(&m);
    }
    assert_true(moves > 10000);
}

/* Runs a session to its end; returns the bytes moved. */
static uint64_t session(struct model *m, uint64_t want_bytes, uint64_t pin_every) {
    struct late late = {.count = 0};
    struct yk_alloc_move mv;
    uint64_t moved = 0;
    int rc, calls = 0;
    assert_int_equal(yk_alloc_compact_begin(m->a, want_bytes), 0);
    while ((rc = yk_alloc_compact_next(m->a, &mv)) != 0) {
        assert_true(++calls < 1000000);
        assert_true(rc == 1 || rc == -YK_EAGAIN);
        if (rc == 1) {
            handle(m, &late, &mv, pin_every);
            moved += mv.len;
        }
        while (late.count > 0)
            late_put(m, &late, 0);
    }
    assert_int_equal(yk_alloc_compact_next(m->a, &mv), 0);
    model_check(m, 0);
    return moved;
}

static void emptiest_extents_are_drained(void **state) {
    (void)state;
    struct model m;
    struct yk_alloc_stats before, after;
    model_init(&m, 256ull << 20, false, 1);
    while (model_get(&m, 8192) == 0)
        ;
    for (size_t n = m.count * 7 / 10; n > 0; n--)
        model_put(&m, model_rand(&m, m.count));
    yk_alloc_stats(m.a, &before);
    assert_true(before.idle_bytes > before.capacity_bytes / 2);
    session(&m, 0, UINT64_MAX);
    yk_alloc_stats(m.a, &after);
    assert_int_equal(after.payload_bytes, before.payload_bytes);
    assert_true(after.idle_bytes < after.capacity_bytes / 100);
    assert_true(after.free_bytes > after.capacity_bytes * 2 / 3);
    model_empty(&m);
    model_fini(&m);
}

/* Every other run is free: half of the pool, and no place for two. */
static void fill_every_other(struct model *m, uint64_t len) {
    while (model_get(m, len) == 0)
        ;
    for (size_t i = m->count; i-- > 0;) {
        if (m->live[i].offset / len % 2 == 0)
            model_put(m, i);
    }
}

static void runs_are_joined_as_far_as_wanted(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 64ull << 20, false, 2);
    uint64_t len = 1 << 20, offset;
    fill_every_other(&m, len);
    assert_int_equal(yk_alloc_compact_begin(m.a, 0), 0); /* held runs to the pool */
    assert_int_equal(yk_alloc_get(m.a, 5 * len, &offset), -YK_ENOSPC);
    uint64_t moved = session(&m, 5 * len, UINT64_MAX);
    assert_true(moved > 0 && moved <= 8 * len);
    assert_int_equal(model_get(&m, 5 * len), 0);
    assert_int_equal(session(&m, 60 * len, UINT64_MAX), 0); /* can't be: nothing is copied */
    session(&m, 0, UINT64_MAX);
    struct yk_alloc_stats st;
    yk_alloc_stats(m.a, &st);
    assert_true(st.largest_free_bytes >= st.free_bytes * 9 / 10);
    model_empty(&m);
    model_fini(&m);
}

static void pinned_blocks_stay_and_sessions_end(void **state) {
    (void)state;
    for (uint64_t pin_every = 1; pin_every <= 4; pin_every++) {
        struct model m;
        model_init(&m, 64ull << 20, false, pin_every);
        fill_every_other(&m, 1 << 20);
        session(&m, 0, pin_every);
        while (model_get(&m, 20000) == 0)
            ;
        for (size_t n = m.count / 2; n > 0; n--)
            model_put(&m, model_rand(&m, m.count));
        session(&m, 0, pin_every);
        session(&m, 0, pin_every); /* another try is made, and ends too */
        model_empty(&m);
        model_fini(&m);
    }
}

/* Full extents between holes move as a whole. */
static void extents_give_way_to_a_large_block(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 64ull << 20, false, 8);
    while (model_get(&m, 36864) == 0)
        ;
    /* Free every other MiB entirely: the extents there go, those between stay full. */
    for (size_t i = m.count; i-- > 0;) {
        if ((m.live[i].offset >> 20) % 2 == 0)
            model_put(&m, i);
    }
    uint64_t want = 16ull << 20;
    session(&m, want, UINT64_MAX);
    assert_int_equal(model_get(&m, want), 0);
    model_empty(&m);
    model_fini(&m);
}

/* Gets of the class go on when its extents are being drained. */
static void a_drain_never_makes_a_get_fail(void **state) {
    (void)state;
    struct model m;
    struct late late = {.count = 0};
    struct yk_alloc_move mv;
    model_init(&m, 16ull << 20, false, 12);
    while (model_get(&m, 20000) == 0)
        ;
    size_t full = m.count;
    for (size_t n = full / 2; n > 0; n--)
        model_put(&m, model_rand(&m, m.count));
    assert_int_equal(yk_alloc_compact_begin(m.a, 0), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(yk_alloc_compact_next(m.a, &mv), 1);
        handle(&m, &late, &mv, UINT64_MAX);
    }
    while (late.count > 0)
        late_put(&m, &late, 0);
    while (model_get(&m, 20000) == 0)
        ;
    assert_true(m.count >= full);
    model_check(&m, 0);
    model_empty(&m);
    model_fini(&m);
}

/* Thousands of runs: the planner looks at a window at a time, and what it looked at is merged and
 * split between its calls. */
static void many_runs_and_a_map_that_changes(void **state) {
    (void)state;
    struct model m;
    struct late late = {.count = 0};
    struct yk_alloc_move mv;
    model_init(&m, 256ull << 20, false, 15);
    while (model_get(&m, 65536 + 4096 * model_rand(&m, 3)) == 0)
        ;
    for (size_t n = m.count / 2; n > 0; n--)
        model_put(&m, model_rand(&m, m.count));
    for (int round = 0; round < 5; round++) {
        assert_int_equal(yk_alloc_compact_begin(m.a, 0), 0);
        for (int op = 0; op < 400; op++) {
            int rc = yk_alloc_compact_next(m.a, &mv);
            if (rc == 1)
                handle(&m, &late, &mv, 2); /* half are pinned: the windows move on */
            for (int i = 0; i < 2; i++) {
                model_put(&m, model_rand(&m, m.count));
                model_get(&m, 65536 + 4096 * model_rand(&m, 3));
            }
        }
        while (late.count > 0)
            late_put(&m, &late, 0);
        session(&m, 0, 3);
    }
    model_empty(&m);
    model_fini(&m);
}

static void wrong_commits_and_skips_are_refused(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 4ull << 20, false, 3);
    model_get(&m, 5000);
    struct yk_alloc_move mv = {.from_offset = 0, .to_offset = UINT64_MAX, .len = 8192};
    assert_int_equal(yk_alloc_compact_commit(m.a, &mv, 5000), -YK_EINVAL);
    assert_int_equal(yk_alloc_compact_skip(m.a, &mv), -YK_EINVAL);
    mv.to_offset = m.live[0].offset + 5120; /* a free slot */
    assert_int_equal(yk_alloc_compact_commit(m.a, &mv, 5000), -YK_EINVAL);
    assert_int_equal(yk_alloc_compact_skip(m.a, &mv), -YK_EINVAL);
    mv.to_offset = m.live[0].offset;
    assert_int_equal(yk_alloc_compact_commit(m.a, &mv, 0), -YK_EINVAL);
    assert_int_equal(yk_alloc_compact_commit(m.a, &mv, 9000), -YK_EINVAL);
    assert_int_equal(yk_alloc_compact_begin(m.a, (4ull << 20) + 1), -YK_ETOOBIG);
    model_check(&m, 0);
    model_empty(&m);
    model_fini(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_between_gets_and_puts),
        cmocka_unit_test(emptiest_extents_are_drained),
        cmocka_unit_test(runs_are_joined_as_far_as_wanted),
        cmocka_unit_test(pinned_blocks_stay_and_sessions_end),
        cmocka_unit_test(extents_give_way_to_a_large_block),
        cmocka_unit_test(a_drain_never_makes_a_get_fail),
        cmocka_unit_test(many_runs_and_a_map_that_changes),
        cmocka_unit_test(wrong_commits_and_skips_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
