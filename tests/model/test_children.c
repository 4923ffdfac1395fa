/* SPDX-License-Identifier: Apache-2.0
 *
 * R7 explored: children link to a parent on one shard while another shard evicts it and uses its
 * descriptor again.
 *
 * A child's commit finds the parent, pins it as any reader does (hazard, fence, word again), and
 * raises the parent's child count by compare-and-swap, which fails once the count says RETIRING; the
 * evictor swaps 0 for RETIRING, retires the word, waits for the hazards, and then reuses descriptor
 * and count. The pin is what keeps the count the parent's: without it a slow child counts on the next
 * block's. A birth number inside the count word does as well (variant BIRTH), and needs no pin.
 *
 * Two children and an evictor; one child is evicted again and lowers the count.
 *
 * Threads: single-threaded; the functions are threads of the model.
 */
#include "mc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { WORD, COUNT, HAZARD, LOCS = HAZARD + 2 };
enum { PARENT = 1, GONE, NEXT }; /* values of WORD */
enum { RETIRING = 0x0f, BIRTH_SHIFT = 4 };
enum mut { NONE, PLAIN_ADD, NO_RETIRING_CHECK, LOOK_THEN_RETIRE, NO_SWAP, NO_PIN, NO_FENCE, MUTS };
enum { SAW_LINK, SAW_REFUSED, SAW_EVICTED, SAW_KEPT };

static enum mut mut;
static bool births; /* the count word carries the block's birth; nobody pins */

struct child {
    uint8_t w, n, ok, linked;
};

struct evictor {
    uint8_t n, ok, i, h, evicted;
};

static uint8_t count_word(int birth, int n) {
    return (uint8_t)(births ? birth << BIRTH_SHIFT | n : n);
}

static int count_of(uint8_t word) {
    return births ? word & 0x0f : word;
}

static int hazard(struct mc *mc) {
    return HAZARD + mc_self(mc) - 1;
}

static bool pins(void) {
    return !births && mut != NO_PIN;
}

static bool refused(const struct child *c) {
    if (births && c->n >> BIRTH_SHIFT != PARENT)
        return true;
    return count_of(c->n) == RETIRING && mut != NO_RETIRING_CHECK;
}

static void child(struct mc *mc) {
    struct child *c = mc_local(mc);
    MC_BEGIN(mc);
    LOAD(mc, c->w, WORD, MC_ACQ);
    if (c->w != PARENT)
        MC_RETURN(mc);
    if (pins()) {
        STORE(mc, hazard(mc), 1, MC_REL);
        if (mut != NO_FENCE)
            FENCE_SC(mc);
        LOAD(mc, c->w, WORD, MC_ACQ);
    }
    while (c->w == PARENT && !c->linked) {
        YIELD(mc);
        LOAD(mc, c->n, COUNT, MC_RLX);
        if (refused(c)) {
            mc_note(mc, SAW_REFUSED);
            break;
        }
        if (mut == PLAIN_ADD) {
            STORE(mc, COUNT, c->n + 1, MC_REL);
            c->linked = 1;
        } else {
            CAS(mc, c->linked, COUNT, c->n, c->n + 1);
        }
    }
    if (pins())
        STORE(mc, hazard(mc), 0, MC_REL);
    if (c->linked)
        mc_note(mc, SAW_LINK);
    if (c->linked && mc_self(mc) == 1) /* this child is evicted again */
        while (c->linked) {
            YIELD(mc);
            LOAD(mc, c->n, COUNT, MC_RLX);
            CAS(mc, c->ok, COUNT, c->n, c->n - 1);
            c->linked = !c->ok;
        }
    c->w = c->n = c->ok = 0;
    MC_END(mc);
}

static void evictor(struct mc *mc) {
    struct evictor *e = mc_local(mc);
    MC_BEGIN(mc);
    if (mut == LOOK_THEN_RETIRE) {
        LOAD(mc, e->n, COUNT, MC_ACQ);
        e->ok = e->n == 0;
        if (e->ok)
            STORE(mc, COUNT, RETIRING, MC_REL);
    } else if (mut == NO_SWAP) {
        LOAD(mc, e->n, COUNT, MC_ACQ);
        e->ok = e->n == 0;
    } else {
        CAS(mc, e->ok, COUNT, count_word(PARENT, 0), count_word(PARENT, RETIRING));
    }
    if (!e->ok) {
        mc_note(mc, SAW_KEPT);
        MC_RETURN(mc);
    }
    STORE(mc, WORD, GONE, MC_REL);
    FENCE_SC(mc);
    for (e->i = 0; e->i < 2; e->i++)
        do {
            YIELD(mc);
            LOAD(mc, e->h, HAZARD + e->i, MC_ACQ);
        } while (e->h);
    e->evicted = 1;
    MC_STEP(mc, MC_SYNC);
    mc_store(mc, COUNT, count_word(NEXT, 0), MC_REL);
    STORE(mc, WORD, NEXT, MC_REL);
    mc_note(mc, SAW_EVICTED);
    MC_END(mc);
}

static void init(struct mc *mc) {
    mc_init_loc(mc, WORD, PARENT);
    mc_init_loc(mc, COUNT, count_word(PARENT, 0));
}

static void final(struct mc *mc) {
    const struct evictor *e = mc_local_of(mc, 0);
    int linked = 0;
    for (int t = 1; t <= 2; t++)
        linked += ((struct child *)mc_local_of(mc, t))->linked;
    if (e->evicted && linked > 0)
        mc_fail(mc, "the parent is evicted and has a live child");
    else if (count_of(mc_latest(mc, COUNT)) != linked)
        mc_fail(mc, "the count is %d with %d children linked", count_of(mc_latest(mc, COUNT)),
                linked);
}

static void print_loc(FILE *f, int loc) {
    static const char *const name[LOCS] = {"word", "children", "hazard[1]", "hazard[2]"};
    fputs(name[loc], f);
}

static const mc_fn fns[] = {evictor, child};

static const struct mc_model model = {
    .name = "children",
    .nthreads = 3,
    .nlocs = LOCS,
    .fn = fns,
    .entry = {0, 1, 1},
    .thread_name = {"evictor", "child 1", "child 2"},
    .init = init,
    .final = final,
    .print_loc = print_loc,
};

static struct mc_result explore(enum mc_mode mode) {
    struct mc_result res;
    struct mc_opts opts = {.mode = mode, .bfs = true};
    assert_int_equal(mc_explore(&model, &opts, &res), 0);
    printf("  children%s, %s, mutation %d: %u states%s%s\n", births ? " (births)" : "",
           mode == MC_TSO ? "TSO" : "weak", mut, res.states, res.failed ? ": " : "",
           res.failed ? res.text : "");
    return res;
}

static void test_holds(void **state) {
    (void)state;
    mut = NONE;
    for (int b = 0; b <= 1; b++)
        for (int mode = 0; mode < MC_MODES; mode++) {
            births = b;
            struct mc_result res = explore(mode);
            assert_true(res.exhausted);
            assert_int_equal(res.notes,
                             1 << SAW_LINK | 1 << SAW_REFUSED | 1 << SAW_EVICTED | 1 << SAW_KEPT);
        }
}

static void test_every_step_is_needed(void **state) {
    (void)state;
    births = false;
    for (mut = NONE + 1; mut < MUTS; mut++)
        for (int mode = 0; mode < MC_MODES; mode++)
            assert_true(explore(mode).failed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_every_step_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
