/* SPDX-License-Identifier: Apache-2.0
 *
 * Slow memory over starts and kills (docs/decisions/0020): blocks are found in the range that they were in, a segment of
 * other lengths begins empty, and a kill at any step of a move leaves the block exact, or a miss.
 */
#include "cxl_rig.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/layout.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- starts ---------------------------------------------------------------------------------------------------- */

static void both_ranges_survive_a_restart(void **state) {
    struct fixture f;
    slow_open(&f, 8 * MIB, 8 * MIB, 20, "lru", 250);
    for (uint32_t i = 0; i < 60; i++)
        put_block(&f, i);
    int tier[60];
    for (int clean = 0; clean < 2; clean++) {
        for (uint32_t i = 0; i < 60; i++)
            tier[i] = tier_of(&f, i);
        yk_store_close(f.s, clean);
        store_open(&f);
        struct yk_counters n = counters(&f);
        assert_int_equal(n.recovered, 60);
        assert_int_equal(n.suspect_blocks, clean ? 0 : 60);
        assert_int_equal(n.cxl_blocks, 40);
        for (uint32_t i = 0; i < 60; i++) {
            assert_int_equal(tier_of(&f, i), tier[i]);
            assert_true(exact(&f, i, 0));
        }
    }
    /* The places of both are known: nothing is given out twice. */
    for (uint32_t i = 60; i < 100; i++)
        put_block(&f, i);
    for (uint32_t i = 0; i < 100; i++)
        assert_true(exact(&f, i, 0));
    fixture_close(&f);
}

/* A segment of other lengths is another segment: it begins empty, and says why. */
static void a_range_of_another_length_begins_empty(void **state) {
    static const struct {
        uint64_t dram, slow;
    } other[] = {{8 * MIB, 16 * MIB}, {8 * MIB, 4 * MIB}, {8 * MIB, 0},        {16 * MIB, 8 * MIB},
                 {4 * MIB, 8 * MIB},  {12 * MIB, 4 * MIB}, {16 * MIB, 0}};
    for (size_t k = 0; k < sizeof(other) / sizeof(other[0]); k++) {
        struct fixture f;
        slow_open(&f, 8 * MIB, 8 * MIB, 20, "lru", 250);
        for (uint32_t i = 0; i < 60; i++)
            put_block(&f, i);
        yk_store_close(f.s, 1);
        f.o.segment.data_bytes = other[k].dram;
        f.o.cxl.bytes = other[k].slow;
        f.o.segment.max_blocks = 4096; /* what it was: the lengths decide alone */
        store_open(&f);
        assert_int_equal(yk_store_segment(f.s)->found, YK_SEGMENT_FRESH);
        assert_true(yk_store_segment(f.s)->why_fresh[0] != 0);
        for (uint32_t i = 0; i < 60; i++)
            assert_int_equal(tier_of(&f, i), 0);
        for (uint32_t i = 0; i < 100; i++)
            put_block(&f, i);
        for (uint32_t i = 0; i < 100; i++)
            assert_true(tier_of(&f, i) == 0 || exact(&f, i, 0));
        fixture_close(&f);
    }
}

static void a_segment_from_before_begins_empty_with_it(void **state) {
    struct fixture f;
    slow_init(&f, 8 * MIB, 0, 20, "lru", 250);
    store_open(&f);
    put_block(&f, 1);
    yk_store_close(f.s, 1);
    f.o.cxl.bytes = 8 * MIB;
    store_open(&f);
    assert_int_equal(tier_of(&f, 1), 0);
    put_block(&f, 1);
    assert_true(exact(&f, 1, 0));
    fixture_close(&f);
}

/* ---- kills -------------------------------------------------------------------------------------------------------- */

/* Where a kill may stop a move: the word says MOVING, the new offset stands, its sum stands. What is left is the block at
 * one of its places, or a miss. */
static void a_kill_at_each_step_of_a_move(void **state) {
    for (int step = 0; step < 3; step++) {
        for (int up = 0; up < 2; up++) {
            struct fixture f;
            uint32_t idx;
            slow_open(&f, 8 * MIB, 8 * MIB, 20, "lru", 250);
            for (uint32_t i = 0; i < 60; i++)
                put_block(&f, i);
            /* The other place of the move: a block of the other range that has just been removed, whose bytes are there. */
            uint32_t from = up ? 10u : 50u, other = up ? 51u : 11u;
            struct yk_segment *seg = yk_store_segment(f.s);
            assert_int_equal(find(&f, key_of(other), &idx), 0);
            struct yk_rest *rest = (struct yk_rest *)((char *)seg->meta + seg->layout.off_rest);
            struct yk_desc *desc = (struct yk_desc *)((char *)seg->meta + seg->layout.off_desc);
            uint64_t to = rest[idx].offset;
            desc[idx].word = YK_WORD(YK_WORD_GEN(desc[idx].word), YK_DESC_FREE);
            assert_int_equal(find(&f, key_of(from), &idx), 0);
            memcpy((char *)seg->data + to, (char *)seg->data + rest[idx].offset, BLOCK);
            desc[idx].word = YK_WORD(YK_WORD_GEN(desc[idx].word) + 1u, YK_DESC_MOVING);
            if (step > 0)
                rest[idx].offset = to;
            if (step > 1)
                rest[idx].place_sum = yk_desc_place_sum(&rest[idx], idx);
            crash(&f);
            assert_int_equal(tier_of(&f, from) != 0, step != 1);
            if (step != 1) {
                int was = up ? YK_TIER_CXL : YK_TIER_DRAM, is = up ? YK_TIER_DRAM : YK_TIER_CXL;
                assert_int_equal(tier_of(&f, from), step == 0 ? was : is);
                assert_true(exact(&f, from, 0));
            }
            for (uint32_t i = 0; i < 60; i++)
                assert_int_equal(exact(&f, i, 0), i != other && (i != from || step != 1));
            for (uint32_t i = 100; i < 160; i++)
                put_block(&f, i);
            for (uint32_t i = 0; i < 160; i++)
                assert_true(tier_of(&f, i) == 0 || exact(&f, i, 0));
            fixture_close(&f);
        }
    }
}

/* Puts and uses until it is killed. Versions are 0: whatever is found has one content. */
static void churn(struct fixture *f, unsigned seed, int fd) {
    for (unsigned n = 0;; n++) {
        uint32_t i = (uint32_t)rand_r(&seed) % 200u;
        yk_store_turn(f->s);
        put_at(f, i, 0);
        for (int k = 0; k < 4; k++) {
            i = (uint32_t)rand_r(&seed) % 30u;
            if (here(f, key_of(i)))
                change(f, YK_CHANGE_TOUCH, 0, key_of(i));
        }
        yk_store_tick(f->s);
        if (n == 150 && write(fd, "x", 1) != 1)
            _exit(1);
    }
}

/* A process dies anywhere in its moves. */
static void killed_anywhere_every_block_is_exact_or_a_miss(void **state) {
    for (unsigned round = 0; round < 12; round++) {
        struct fixture f;
        int fd[2];
        char c;
        slow_init(&f, 4 * MIB, 4 * MIB, 30, "lru", 1000);
        assert_int_equal(pipe(fd), 0);
        pid_t pid = fork();
        if (pid == 0) {
            struct yk_err err = {0};
            if (yk_store_open(&f.o, &f.s, &err) < 0 || yk_store_ns_open(f.s, "default", 7, 1, &f.ns, &err) < 0)
                _exit(1);
            f.epoch = yk_store_ns_epoch(f.s, f.ns);
            churn(&f, round, fd[1]);
        }
        close(fd[1]);
        assert_int_equal(read(fd[0], &c, 1), 1);
        usleep(round * 700u); /* anywhere, not at a moment that matters */
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(fd[0]);
        store_open(&f);
        assert_int_equal(yk_store_segment(f.s)->found, YK_SEGMENT_UNCLEAN);
        uint32_t found = 0;
        for (uint32_t i = 0; i < 200; i++) {
            found += tier_of(&f, i) != 0;
            assert_true(tier_of(&f, i) == 0 || exact(&f, i, 0));
        }
        assert_true(found > 60);
        struct yk_counters n = counters(&f);
        assert_int_equal(n.verify_failed, 0);
        assert_int_equal(n.corrupt, 0);
        for (uint32_t i = 300; i < 400; i++)
            put_block(&f, i);
        for (uint32_t i = 0; i < 400; i++)
            assert_true(tier_of(&f, i) == 0 || exact(&f, i, 0));
        fixture_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ranges_survive_a_restart),
        cmocka_unit_test(a_range_of_another_length_begins_empty),
        cmocka_unit_test(a_segment_from_before_begins_empty_with_it),
        cmocka_unit_test(a_kill_at_each_step_of_a_move),
        cmocka_unit_test(killed_anywhere_every_block_is_exact_or_a_miss),
    };
    return cmocka_run_group_tests_name("cxl restart", tests, make_dir, remove_dir);
}
