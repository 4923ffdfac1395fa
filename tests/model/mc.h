/* SPDX-License-Identifier: Apache-2.0
 *
 * A small explicit-state model checker for shared-memory protocols under weak memory.
 *
 * A model is a set of threads; each is a stack of C functions written top to bottom with the macros
 * below, which cut it into steps of at most one access to shared memory (a switch on the line
 * number, so locals live in mc_local()). The checker tries every interleaving and every answer that
 * the memory model allows, remembers states by a 128-bit fingerprint and prints a counterexample as
 * the list of accesses that lead to it.
 *
 * Two memories (mc_mem.c says what each allows and what it doesn't):
 *  MC_TSO  x86: one FIFO store buffer a thread, which drains at any time; fences and CAS wait for
 * it. MC_WEAK C11/ARM: per-location histories and per-thread views. Loads may be satisfied by any
 * older store that coherence and happens-before leave; stores become visible in any order that
 *          release, acquire and fences leave; plain accesses are checked for data races.
 *
 * Reduction: loads move right and stores move left over other threads' accesses, so a run of loads
 * followed by a run of stores is one atomic block (Lipton). mc_opts.full turns that off; the litmus
 * tests compare both. Rejected: spin (a second language, sequential consistency only, and a model that
 * drifts from the C code); CBMC and GenMC (loops unrolled, no crashes, and one more tool to install).
 *
 * Threads: single-threaded.
 */
#ifndef YK_TESTS_MODEL_MC_H
#define YK_TESTS_MODEL_MC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    MC_MAX_THREADS = 4,
    MC_MAX_LOCS = 48,
    MC_MAX_MSGS = 160,
    MC_MAX_TRACKED = 16,
    MC_MAX_BUF = 14,
    MC_MAX_FRAMES = 6,
    MC_LOCAL_BYTES = 40,
};

enum mc_mode { MC_TSO, MC_WEAK, MC_MODES };
enum mc_order { MC_RLX, MC_ACQ, MC_REL };
/* What a pending step does to shared memory; decides where another thread may come between. */
enum mc_kind { MC_LD, MC_ST, MC_SYNC, MC_BREAK };

struct mc;
typedef void (*mc_fn)(struct mc *mc);

/* Thread: immutable. */
struct mc_model {
    const char *name;
    int nthreads;
    int nlocs;
    const mc_fn *fn; /* functions by number; thread t starts in entry[t] */
    uint8_t entry[MC_MAX_THREADS];
    const char *thread_name[MC_MAX_THREADS];
    /* Sets initial memory (mc_init_loc) and locals (mc_local_of). */
    void (*init)(struct mc *mc);
    /* May be NULL. Called before each step of thread t with what = 0, 1, ... until it returns
     * false; true: it changed the thread (mc_restart, mc_stop): a crash, a death. */
    bool (*interrupt)(struct mc *mc, int t, int what);
    /* May be NULL: called after every step. Looks at mc_latest() and locals, calls mc_fail(). */
    void (*invariant)(struct mc *mc);
    /* May be NULL: called once for each state in which no thread can go on. */
    void (*final)(struct mc *mc);
    /* Names of locations and values for traces; may be NULL. */
    void (*print_loc)(FILE *f, int loc);
    void (*print_val)(FILE *f, int loc, int val);
};

/* Thread: the caller's. */
struct mc_opts {
    enum mc_mode mode;
    bool full;           /* no reduction */
    bool bfs;            /* shortest counterexample instead of a quick one */
    uint32_t max_states; /* 0: 4 million; more is an error */
    FILE *trace;         /* where to print a counterexample; NULL: nowhere */
};

/* Thread: the caller's. */
struct mc_result {
    bool failed;    /* a counterexample was found */
    bool exhausted; /* the whole space was seen */
    uint32_t states;
    uint64_t steps;
    uint64_t notes; /* bits that the model set with mc_note() */
    uint32_t depth; /* steps of the counterexample */
    char text[160]; /* what failed */
};

/* Explores model. Returns 0 (look at ret), or -1 when out of memory or over max_states. */
int mc_explore(const struct mc_model *model, const struct mc_opts *opts, struct mc_result *ret);

/* --- for init --- */
void mc_init_loc(struct mc *mc, int loc, uint8_t val);
/* Only one thread ever touches loc: its history is not kept. */
void mc_private(struct mc *mc, int loc);
/* Plain accesses to loc are checked for races against plain reads too, not only against writes. */
void mc_track(struct mc *mc, int loc, int slot);

/* --- for steps; `self` is the running thread --- */
int mc_self(const struct mc *mc);
void *mc_local(struct mc *mc);
void *mc_local_of(struct mc *mc, int t);
uint8_t mc_load(struct mc *mc, int loc, enum mc_order order);
void mc_store(struct mc *mc, int loc, uint8_t val, enum mc_order order);
/* Non-atomic access, or an atomic one that the protocol claims is ordered: a race is a failure. */
uint8_t mc_read(struct mc *mc, int loc);
void mc_write(struct mc *mc, int loc, uint8_t val);
/* True and stored if loc held expected. acquire + release. */
bool mc_cas(struct mc *mc, int loc, uint8_t expected, uint8_t val);
void mc_fence_sc(struct mc *mc);
void mc_fence_acq(struct mc *mc);
void mc_fence_rel(struct mc *mc);
/* 0..n-1, all of them tried. */
int mc_choose(struct mc *mc, int n);
/* Everything that thread t did happened before what self does next (t's death was waited for). */
void mc_join_thread(struct mc *mc, int t);
/* Newest value of loc whatever the viewer: for single-writer locations read by their writer, and
 * for invariants. */
uint8_t mc_latest(struct mc *mc, int loc);
void mc_note(struct mc *mc, int bit);
void mc_fail(struct mc *mc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line in the counterexample. */
void mc_say(struct mc *mc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool mc_stopped(const struct mc *mc, int t);
/* For interrupt: thread t goes on in function fn / never again. What it stored is visible. */
void mc_restart(struct mc *mc, int t, int fn);
void mc_stop(struct mc *mc, int t);

/* --- behind the macros --- */
int mc_pc(const struct mc *mc);
void mc_at(struct mc *mc, enum mc_kind kind, int line);
void mc_call(struct mc *mc, int fn, int line);
void mc_return(struct mc *mc);

/* clang-format off */
#define MC_BEGIN(mc) switch (mc_pc(mc)) { case 0:
#define MC_END(mc)   } mc_return(mc)
/* clang-format on */
#define MC_STEP(mc, kind)                                                                          \
    do {                                                                                           \
        mc_at(mc, kind, __LINE__);                                                                 \
        return;                                                                                    \
    case __LINE__:;                                                                                \
    } while (0)
#define MC_CALL(mc, fn)                                                                            \
    do {                                                                                           \
        mc_call(mc, fn, __LINE__);                                                                 \
        return;                                                                                    \
    case __LINE__:;                                                                                \
    } while (0)
#define MC_RETURN(mc)                                                                              \
    do {                                                                                           \
        mc_return(mc);                                                                             \
        return;                                                                                    \
    } while (0)
#define LOAD(mc, dst, loc, order)                                                                  \
    do {                                                                                           \
        MC_STEP(mc, MC_LD);                                                                        \
        (dst) = mc_load(mc, loc, order);                                                           \
    } while (0)
#define READ(mc, dst, loc)                                                                         \
    do {                                                                                           \
        MC_STEP(mc, MC_LD);                                                                        \
        (dst) = mc_read(mc, loc);                                                                  \
    } while (0)
#define STORE(mc, loc, val, order)                                                                 \
    do {                                                                                           \
        MC_STEP(mc, MC_ST);                                                                        \
        mc_store(mc, loc, (uint8_t)(val), order);                                                  \
    } while (0)
#define WRITE(mc, loc, val)                                                                        \
    do {                                                                                           \
        MC_STEP(mc, MC_ST);                                                                        \
        mc_write(mc, loc, (uint8_t)(val));                                                         \
    } while (0)
#define CAS(mc, dst, loc, expected, val)                                                           \
    do {                                                                                           \
        MC_STEP(mc, MC_SYNC);                                                                      \
        (dst) = mc_cas(mc, loc, expected, (uint8_t)(val));                                         \
    } while (0)
#define FENCE_SC(mc)                                                                               \
    do {                                                                                           \
        MC_STEP(mc, MC_SYNC);                                                                      \
        mc_fence_sc(mc);                                                                           \
    } while (0)
/* At the head of every loop that may not end: another thread may run here. */
#define YIELD(mc) MC_STEP(mc, MC_BREAK)

#endif
