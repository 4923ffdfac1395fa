/* SPDX-License-Identifier: Apache-2.0
 *
 * Places that peers write (docs/decisions/0011) explored: two threads of the transfer engine pin a place
 * and write their part of it, while the owner closes it to writers, hashes and publishes it, or, when it
 * found a writer twice, gives it up and hands its memory to somebody else.
 *
 * A writer pins as any reader does (hazard, fence, word), and looks whether the place is open. The owner
 * closes the place or retires the word, fences, and looks at the hazards. What must hold: no byte changes
 * from the hash on, and none of memory that was handed on.
 *
 * Threads: single-threaded; the functions are threads of the model.
 */
#include "mc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { WORD, OWNER, HAZARD, DATA = HAZARD + 2, LOCS = DATA + 2 };
enum { RESERVED = 1, COMMITTED, RETIRED }; /* values of WORD */
enum { OPEN = 0, CLOSED };                 /* of OWNER */
enum { PEERS = 5, OTHERS = 9 };            /* of DATA: who wrote it last */
enum mut {
    NONE,
    NO_PIN,
    NO_WRITER_FENCE,
    NO_WORD,
    NO_OPEN,
    EARLY_UNPIN,
    NO_CLOSE,
    NO_OWNER_FENCE,
    NO_LOOK,
    NO_WAIT,
    MUTS
};
enum { SAW_WRITE, SAW_MISS, SAW_BUSY, SAW_COMMIT, SAW_HANDED_ON };

static enum mut mut;

struct writer {
    uint8_t w, open, times;
};

struct owner {
    uint8_t h0, h1, tries, closed, a, b, i;
};

static int mine(struct mc *mc, int loc) {
    return loc + mc_self(mc) - 1;
}

/* One of them comes twice: a slice that was sent again. */
static void writer(struct mc *mc) {
    struct writer *p = mc_local(mc);
    MC_BEGIN(mc);
    for (p->times = 0; p->times < mc_self(mc); p->times++) {
        YIELD(mc);
        if (mut != NO_PIN)
            STORE(mc, mine(mc, HAZARD), 1, MC_REL);
        if (mut != NO_WRITER_FENCE)
            FENCE_SC(mc);
        LOAD(mc, p->w, WORD, MC_ACQ);
        LOAD(mc, p->open, OWNER, MC_RLX);
        if (mut == EARLY_UNPIN)
            STORE(mc, mine(mc, HAZARD), 0, MC_REL);
        if ((p->w == RESERVED || mut == NO_WORD) && (p->open == OPEN || mut == NO_OPEN)) {
            WRITE(mc, mine(mc, DATA), PEERS);
            mc_note(mc, SAW_WRITE);
        } else {
            mc_note(mc, SAW_MISS);
        }
        STORE(mc, mine(mc, HAZARD), 0, MC_REL);
    }
    p->w = p->open = 0;
    MC_END(mc);
}

static void owner(struct mc *mc) {
    struct owner *o = mc_local(mc);
    MC_BEGIN(mc);
    for (o->tries = 0; o->tries < 2 && !o->closed; o->tries++) {
        YIELD(mc);
        if (mut != NO_CLOSE)
            STORE(mc, OWNER, CLOSED, MC_RLX);
        if (mut != NO_OWNER_FENCE)
            FENCE_SC(mc);
        LOAD(mc, o->h0, HAZARD, MC_ACQ);
        LOAD(mc, o->h1, HAZARD + 1, MC_ACQ);
        o->closed = (o->h0 == 0 && o->h1 == 0) || mut == NO_LOOK;
        if (!o->closed) {
            mc_note(mc, SAW_BUSY);
            STORE(mc, OWNER, OPEN, MC_RLX);
        }
    }
    if (o->closed) { /* the hash, and what a reader finds later */
        READ(mc, o->a, DATA);
        READ(mc, o->b, DATA + 1);
        STORE(mc, WORD, COMMITTED, MC_REL);
        mc_note(mc, SAW_COMMIT);
        MC_RETURN(mc);
    }
    STORE(mc, WORD, RETIRED, MC_REL);
    FENCE_SC(mc);
    for (o->i = 0; o->i < 2 && mut != NO_WAIT; o->i++)
        do {
            YIELD(mc);
            LOAD(mc, o->h0, HAZARD + o->i, MC_ACQ);
        } while (o->h0);
    WRITE(mc, DATA, OTHERS);
    WRITE(mc, DATA + 1, OTHERS);
    mc_note(mc, SAW_HANDED_ON);
    MC_END(mc);
}

static void init(struct mc *mc) {
    mc_init_loc(mc, WORD, RESERVED);
    mc_init_loc(mc, OWNER, OPEN);
    mc_track(mc, DATA, 0);
    mc_track(mc, DATA + 1, 1);
}

static void final(struct mc *mc) {
    const struct owner *o = mc_local_of(mc, 0);
    if (o->closed && (mc_latest(mc, DATA) != o->a || mc_latest(mc, DATA + 1) != o->b))
        mc_fail(mc, "bytes changed under their sum");
    if (!o->closed && (mc_latest(mc, DATA) != OTHERS || mc_latest(mc, DATA + 1) != OTHERS))
        mc_fail(mc, "a late write into somebody else's memory");
}

static void print_loc(FILE *f, int loc) {
    static const char *const name[LOCS] = {"word",      "owner",   "hazard[0]",
                                           "hazard[1]", "data[0]", "data[1]"};
    fputs(name[loc], f);
}

static const mc_fn fns[] = {owner, writer};

static const struct mc_model model = {
    .name = "places",
    .nthreads = 3,
    .nlocs = LOCS,
    .fn = fns,
    .entry = {0, 1, 1},
    .thread_name = {"owner", "writer 1", "writer 2"},
    .init = init,
    .final = final,
    .print_loc = print_loc,
};

static struct mc_result explore(enum mc_mode mode) {
    struct mc_result res;
    struct mc_opts opts = {.mode = mode, .bfs = true};
    assert_int_equal(mc_explore(&model, &opts, &res), 0);
    printf("  places, %s, mutation %d: %u states%s%s\n", mode == MC_TSO ? "TSO" : "weak", mut, res.states,
           res.failed ? ": " : "", res.failed ? res.text : "");
    return res;
}

static void test_holds(void **state) {
    (void)state;
    mut = NONE;
    for (int mode = 0; mode < MC_MODES; mode++) {
        struct mc_result res = explore(mode);
        assert_true(res.exhausted);
        assert_int_equal(res.notes, 1 << SAW_WRITE | 1 << SAW_MISS | 1 << SAW_BUSY | 1 << SAW_COMMIT |
                                        1 << SAW_HANDED_ON);
    }
}

static void test_every_step_is_needed(void **state) {
    (void)state;
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
