/* SPDX-License-Identifier: Apache-2.0
 *
 * Shows that the model checker's memories are what they claim: the classic litmus tests, each with
 * the outcomes that x86-TSO and RC11 allow and no others, with and without the reduction.
 *
 * An outcome is the registers of a final state packed into a bit number, two bits each.
 *
 * Threads: single-threaded.
 */
#include "mc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { X, Y, LOCS };

struct regs {
    uint8_t a, b;
};

/* Orders and fences of the test that runs. */
static struct {
    enum mc_order st, ld;
    bool fence;
} with;

static struct regs *regs(struct mc *mc) {
    return mc_local(mc);
}

static void init(struct mc *mc) {
    (void)mc;
}

static void final(struct mc *mc) {
    int bit = 0, n = 0;
    for (int t = 0; t < 4; t++) {
        const struct regs *r = mc_local_of(mc, t);
        if (r->a & 0x80)
            bit |= (r->a & 1) << n++;
        if (r->b & 0x80)
            bit |= (r->b & 1) << n++;
    }
    mc_note(mc, bit);
}

/* 0x80 marks a register as part of the outcome. */
static uint8_t mark(uint8_t val) {
    return val | 0x80;
}

static void sb(struct mc *mc, int mine, int other) {
    MC_BEGIN(mc);
    STORE(mc, mine, 1, with.st);
    if (with.fence)
        FENCE_SC(mc);
    LOAD(mc, regs(mc)->a, other, with.ld);
    regs(mc)->a = mark(regs(mc)->a);
    MC_END(mc);
}

static void sb_x(struct mc *mc) {
    sb(mc, X, Y);
}
static void sb_y(struct mc *mc) {
    sb(mc, Y, X);
}

static void mp_writer(struct mc *mc) {
    MC_BEGIN(mc);
    STORE(mc, X, 1, MC_RLX);
    if (with.fence)
        mc_fence_rel(mc);
    STORE(mc, Y, 1, with.st);
    MC_END(mc);
}

static void mp_reader(struct mc *mc) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    LOAD(mc, r->a, Y, with.ld);
    if (with.fence)
        mc_fence_acq(mc);
    LOAD(mc, r->b, X, MC_RLX);
    r->a = mark(r->a);
    r->b = mark(r->b);
    MC_END(mc);
}

static void co_writer(struct mc *mc) {
    MC_BEGIN(mc);
    STORE(mc, X, 1, MC_RLX);
    MC_END(mc);
}

static void co_reader(struct mc *mc) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    LOAD(mc, r->a, X, MC_RLX);
    LOAD(mc, r->b, X, MC_RLX);
    r->a = mark(r->a);
    r->b = mark(r->b);
    MC_END(mc);
}

static void iriw_reader(struct mc *mc, int first, int second) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    LOAD(mc, r->a, first, MC_ACQ);
    if (with.fence)
        FENCE_SC(mc);
    LOAD(mc, r->b, second, MC_ACQ);
    r->a = mark(r->a);
    r->b = mark(r->b);
    MC_END(mc);
}

static void iriw_xy(struct mc *mc) {
    iriw_reader(mc, X, Y);
}
static void iriw_yx(struct mc *mc) {
    iriw_reader(mc, Y, X);
}

static void iriw_store(struct mc *mc, int loc) {
    MC_BEGIN(mc);
    STORE(mc, loc, 1, MC_REL);
    MC_END(mc);
}

static void iriw_x(struct mc *mc) {
    iriw_store(mc, X);
}
static void iriw_y(struct mc *mc) {
    iriw_store(mc, Y);
}

/* A release store, then a relaxed one to the same location: reading the second says nothing (C20).
 */
static void seq_writer(struct mc *mc) {
    MC_BEGIN(mc);
    STORE(mc, X, 1, MC_RLX);
    STORE(mc, Y, 1, MC_REL);
    STORE(mc, Y, 3, with.st);
    MC_END(mc);
}

static void seq_reader(struct mc *mc) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    LOAD(mc, r->a, Y, MC_ACQ);
    LOAD(mc, r->b, X, MC_RLX);
    r->a = mark(r->a == 3);
    r->b = mark(r->b);
    MC_END(mc);
}

static void cas_adder(struct mc *mc) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    do {
        LOAD(mc, r->a, X, MC_RLX);
        CAS(mc, r->b, X, r->a, r->a + 1);
        if (!r->b)
            YIELD(mc);
    } while (!r->b);
    r->a = r->b = 0;
    MC_END(mc);
}

static void cas_final(struct mc *mc) {
    mc_note(mc, mc_latest(mc, X));
}

/* Plain data behind a flag, read only once the flag is seen. */
static void race_writer(struct mc *mc) {
    MC_BEGIN(mc);
    WRITE(mc, X, 1);
    STORE(mc, Y, 1, with.st);
    MC_END(mc);
}

static void race_reader(struct mc *mc) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    LOAD(mc, r->a, Y, MC_ACQ);
    if (r->a)
        READ(mc, r->b, X);
    MC_END(mc);
}

/* A reader that says it is done by a store, a writer that then overwrites. */
static void done_reader(struct mc *mc) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    READ(mc, r->b, X);
    STORE(mc, Y, 1, with.st);
    MC_END(mc);
}

static void done_writer(struct mc *mc) {
    struct regs *r = regs(mc);
    MC_BEGIN(mc);
    LOAD(mc, r->a, Y, with.ld);
    if (r->a)
        WRITE(mc, X, 1);
    MC_END(mc);
}

static void done_init(struct mc *mc) {
    mc_track(mc, X, 0);
}

enum {
    SB_X,
    SB_Y,
    MP_W,
    MP_R,
    CO_W,
    CO_R,
    IRIW_XY,
    IRIW_YX,
    IRIW_X,
    IRIW_Y,
    SEQ_W,
    SEQ_R,
    CAS_A,
    RACE_W,
    RACE_R,
    DONE_R,
    DONE_W
};

static const mc_fn fns[] = {sb_x,        sb_y,       mp_writer, mp_reader,   co_writer,
                            co_reader,   iriw_xy,    iriw_yx,   iriw_x,      iriw_y,
                            seq_writer,  seq_reader, cas_adder, race_writer, race_reader,
                            done_reader, done_writer};

#define NAMES                                                                                      \
    { "t0", "t1", "t2", "t3" }
#define TWO(name, f, g, ini, fin)                                                                  \
    static const struct mc_model name = {#name,  2,     LOCS,        fns,                          \
                                         {f, g}, NAMES, .init = ini, .final = fin}

TWO(m_sb, SB_X, SB_Y, init, final);
TWO(m_mp, MP_W, MP_R, init, final);
TWO(m_co, CO_W, CO_R, init, final);
TWO(m_seq, SEQ_W, SEQ_R, init, final);
TWO(m_cas, CAS_A, CAS_A, init, cas_final);
TWO(m_race, RACE_W, RACE_R, init, NULL);
TWO(m_done, DONE_R, DONE_W, done_init, NULL);
static const struct mc_model m_iriw = {
    "m_iriw",      4, LOCS, fns, {IRIW_XY, IRIW_YX, IRIW_X, IRIW_Y}, NAMES, .init = init,
    .final = final};

static void set(enum mc_order st, enum mc_order ld, bool fence) {
    with.st = st;
    with.ld = ld;
    with.fence = fence;
}

static struct mc_result explore(const struct mc_model *m, enum mc_mode mode, bool full, bool bfs) {
    struct mc_result res;
    struct mc_opts opts = {.mode = mode, .full = full, .bfs = bfs};
    assert_int_equal(mc_explore(m, &opts, &res), 0);
    return res;
}

/* The outcomes in `mode` are exactly those whose bits are set, reduced or not. */
static void outcomes(const struct mc_model *m, enum mc_mode mode, uint64_t want) {
    for (int full = 0; full <= 1; full++) {
        struct mc_result res = explore(m, mode, full, false);
        assert_true(res.exhausted);
        assert_int_equal(res.notes, want);
    }
}

static void fails(const struct mc_model *m, enum mc_mode mode, bool want) {
    for (int i = 0; i < 4; i++)
        assert_int_equal(explore(m, mode, i & 1, i & 2).failed, want);
}

/* Outcome bit of two or four registers, first register lowest. */
#define R2(a, b)       (UINT64_C(1) << ((a) | (b) << 1))
#define R4(a, b, c, d) (UINT64_C(1) << ((a) | (b) << 1 | (c) << 2 | (d) << 3))

static void test_store_buffering(void **state) {
    (void)state;
    const uint64_t sc = R2(0, 1) | R2(1, 0) | R2(1, 1);
    set(MC_REL, MC_ACQ, false);
    outcomes(&m_sb, MC_TSO, sc | R2(0, 0));
    outcomes(&m_sb, MC_WEAK, sc | R2(0, 0));
    set(MC_RLX, MC_RLX, true);
    outcomes(&m_sb, MC_TSO, sc);
    outcomes(&m_sb, MC_WEAK, sc);
}

static void test_message_passing(void **state) {
    (void)state;
    const uint64_t sc = R2(0, 0) | R2(0, 1) | R2(1, 1), stale = R2(1, 0);
    set(MC_RLX, MC_RLX, false);
    outcomes(&m_mp, MC_TSO, sc);
    outcomes(&m_mp, MC_WEAK, sc | stale);
    set(MC_REL, MC_RLX, false);
    outcomes(&m_mp, MC_WEAK, sc | stale);
    set(MC_RLX, MC_ACQ, false);
    outcomes(&m_mp, MC_WEAK, sc | stale);
    set(MC_REL, MC_ACQ, false);
    outcomes(&m_mp, MC_WEAK, sc);
    set(MC_RLX, MC_RLX, true);
    outcomes(&m_mp, MC_WEAK, sc);
}

static void test_coherence(void **state) {
    (void)state;
    set(MC_RLX, MC_RLX, false);
    outcomes(&m_co, MC_TSO, R2(0, 0) | R2(0, 1) | R2(1, 1));
    outcomes(&m_co, MC_WEAK, R2(0, 0) | R2(0, 1) | R2(1, 1));
}

static void test_independent_reads(void **state) {
    (void)state;
    const uint64_t all = 0xffff, split = R4(1, 0, 1, 0);
    set(MC_REL, MC_ACQ, false);
    outcomes(&m_iriw, MC_TSO, all & ~split);
    outcomes(&m_iriw, MC_WEAK, all);
    set(MC_REL, MC_ACQ, true);
    outcomes(&m_iriw, MC_WEAK, all & ~split);
}

static void test_release_sequence(void **state) {
    (void)state;
    const uint64_t sc = R2(0, 0) | R2(0, 1) | R2(1, 1);
    set(MC_REL, MC_ACQ, false);
    outcomes(&m_seq, MC_WEAK, sc);
    set(MC_RLX, MC_ACQ, false);
    outcomes(&m_seq, MC_WEAK, sc | R2(1, 0));
    outcomes(&m_seq, MC_TSO, sc);
}

static void test_cas_loses_nothing(void **state) {
    (void)state;
    outcomes(&m_cas, MC_TSO, 1 << 2);
    outcomes(&m_cas, MC_WEAK, 1 << 2);
}

static void test_races(void **state) {
    (void)state;
    set(MC_REL, MC_ACQ, false);
    fails(&m_race, MC_WEAK, false);
    fails(&m_done, MC_WEAK, false);
    set(MC_RLX, MC_ACQ, false);
    fails(&m_race, MC_WEAK, true);
    fails(&m_done, MC_WEAK, true);
    set(MC_REL, MC_RLX, false);
    fails(&m_done, MC_WEAK, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_buffering),
        cmocka_unit_test(test_message_passing),
        cmocka_unit_test(test_coherence),
        cmocka_unit_test(test_independent_reads),
        cmocka_unit_test(test_release_sequence),
        cmocka_unit_test(test_cas_loses_nothing),
        cmocka_unit_test(test_races),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
