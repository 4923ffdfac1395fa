/* SPDX-License-Identifier: Apache-2.0
 *
 * State of the model checker, shared by its search (mc.c) and its memories (mc_mem.c).
 *
 * A state is one flat struct without pointers whose unused tail is not copied or hashed: the weak
 * memory's messages stand last. All fields are bytes (or padded by hand), so equal states are equal
 * bytes.
 *
 * Threads: single-threaded.
 */
#ifndef YK_TESTS_MODEL_MC_PRIV_H
#define YK_TESTS_MODEL_MC_PRIV_H

#include "mc.h"

#include <stddef.h>

#define MC_ANY 0xff

/* What a thread (or a message) knows: of each location, the oldest store it may still read (index
 * in the location's history); and which plain reads it knows of (bit = thread * 16 + tracked slot;
 * set: the latest such read happened before). */
struct mc_view {
    uint8_t ts[MC_MAX_LOCS];
    uint64_t reads;
};

struct mc_msg {
    uint8_t val;
    uint8_t pad[7];
    struct mc_view view;
};

/* Messages of location l: msg[first[l]] .. msg[first[l + 1] - 1], oldest first. */
struct mc_weak {
    struct mc_view cur[MC_MAX_THREADS]; /* what loads and releases go by */
    struct mc_view acq[MC_MAX_THREADS]; /* cur and what relaxed loads brought: for acquire fences */
    struct mc_view rel[MC_MAX_THREADS]; /* cur at the last release fence: for relaxed stores */
    struct mc_view sc;                  /* what sc fences have gathered */
    uint8_t first[MC_MAX_LOCS + 8];
    struct mc_msg msg[MC_MAX_MSGS];
};

struct mc_tso {
    uint8_t mem[MC_MAX_LOCS];
    struct {
        uint8_t loc, val;
    } buf[MC_MAX_THREADS][MC_MAX_BUF];
    uint8_t nbuf[MC_MAX_THREADS];
};

struct mc_frame {
    uint8_t fn, pad;
    uint16_t pc;
};

struct mc_thread {
    struct mc_frame frame[MC_MAX_FRAMES];
    uint8_t nframes; /* 0: ended */
    uint8_t kind;    /* of the pending step */
    uint8_t stopped; /* by mc_stop */
    uint8_t pad[5];
    uint8_t local[MC_LOCAL_BYTES];
};

struct mc_state {
    struct mc_thread thread[MC_MAX_THREADS];
    uint8_t running; /* thread inside an atomic block, or MC_ANY */
    uint8_t phase;   /* of that block: see mc_goes_on() */
    uint8_t pad[6];
    union {
        struct mc_tso tso;
        struct mc_weak weak;
    } mem;
};

enum { MC_MAX_CHOICES = 4 };

struct mc {
    struct mc_state s;
    const struct mc_model *model;
    struct mc_opts opts;
    int t; /* running thread */
    bool pausing;
    uint8_t track[MC_MAX_LOCS]; /* slot + 1, or 0 */
    bool private[MC_MAX_LOCS];
    /* Choices of the step that runs: those below nfixed are given, later ones are 0. */
    uint8_t choice[MC_MAX_CHOICES], limit[MC_MAX_CHOICES];
    int nfixed, nchosen;
    uint64_t notes;
    bool failed;
    char text[160];
    FILE *log; /* while a counterexample is replayed */
};

/* mc_mem.c */
void mc_mem_init(struct mc *mc);
size_t mc_mem_bytes(const struct mc *mc);
bool mc_mem_ready(const struct mc *mc, int t, enum mc_kind kind);
bool mc_mem_can_drain(const struct mc *mc, int t);
void mc_mem_drain(struct mc *mc, int t);
void mc_mem_settle(struct mc *mc, int t);
void mc_mem_normalise(struct mc *mc);

/* mc.c */
void mc_log(struct mc *mc, const char *what, int loc, int val, int older);

#endif
