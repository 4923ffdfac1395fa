/* SPDX-License-Identifier: Apache-2.0
 *
 * A small explicit-state explorer for protocols of messages between nodes.
 *
 * A model is a flat state (bytes, all of them meaningful and padding zero), its successors and a
 * check. All states are seen breadth first, so that a counterexample is as short as can be; it is
 * printed as the labels of the steps that lead to it. States are kept whole and found by hash:
 * nothing is taken for seen that was not.
 *
 * mc.h is the other explorer: threads over shared memory. Messages fit badly there: a node's step
 * is atomic for everybody else, and what matters is the set of messages under way.
 *
 * Threads: single-threaded.
 */
#ifndef YK_TESTS_MODEL_WORLD_H
#define YK_TESTS_MODEL_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct world;

/* Thread: immutable. */
struct world_model {
    size_t size; /* bytes of a state */
    void (*init)(void *ret_state);
    /* Calls world_to() once for each state that can follow. */
    void (*next)(struct world *w, const void *state);
    /* What is wrong with state (static text), or NULL. */
    const char *(*check)(const void *state);
};

/* Thread: the caller's. */
struct world_result {
    const char *failed; /* what check() said; NULL: nothing */
    bool exhausted;     /* all that can be reached was seen */
    uint32_t states;
    uint32_t depth; /* steps of the counterexample, or of the farthest state */
    uint32_t notes; /* bits that the model set with world_note() */
};

/* Explores at most max_states. trace: where to print a counterexample, or NULL. Returns 0 (look at
 * ret), or -1 when memory is short. */
int world_explore(const struct world_model *model, uint32_t max_states, FILE *trace,
                  struct world_result *ret);

/* For next(): state can follow; the rest names the step, and is formatted for traces only. */
void world_to(struct world *w, const void *state, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* For next(): this happens somewhere. */
void world_note(struct world *w, unsigned bit);

#endif
