/* SPDX-License-Identifier: Apache-2.0
 *
 * The explorer of world.h: one array of states in the order in which they were found, which is also
 * the queue; a table of their numbers by hash; and for each the number of the state before it. A
 * trace makes the successors of each state on the way again and keeps the label of the right one.
 *
 * Threads: single-threaded.
 */
#include "world.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct world {
    const struct world_model *model;
    uint8_t *states;   /* max of them; pages appear as they are touched */
    uint32_t *parents; /* of each state */
    uint32_t *table;   /* number + 1, or 0; open addressing */
    uint32_t mask;     /* size of the table - 1 */
    uint32_t max;
    uint32_t count;
    uint32_t at; /* the state whose successors are made */
    uint32_t notes;
    bool full;
    /* Set while a trace is printed: the state whose step is looked for. */
    const uint8_t *wanted;
    FILE *trace;
};

static uint8_t *state_of(const struct world *w, uint32_t n) {
    return w->states + (size_t)n * w->model->size;
}

/* Adds state unless it is there. */
static void add(struct world *w, const void *state) {
    uint32_t i = (uint32_t)XXH3_64bits(state, w->model->size) & w->mask;
    for (; w->table[i]; i = (i + 1) & w->mask)
        if (memcmp(state_of(w, w->table[i] - 1), state, w->model->size) == 0)
            return;
    if (w->count == w->max) {
        w->full = true;
        return;
    }
    memcpy(state_of(w, w->count), state, w->model->size);
    w->parents[w->count] = w->at;
    w->table[i] = ++w->count;
}

void world_to(struct world *w, const void *state, const char *fmt, ...) {
    if (!w->trace) {
        add(w, state);
        return;
    }
    if (!w->wanted || memcmp(w->wanted, state, w->model->size) != 0)
        return;
    va_list ap;
    va_start(ap, fmt);
    fputs("    ", w->trace);
    vfprintf(w->trace, fmt, ap);
    fputc('\n', w->trace);
    va_end(ap);
    w->wanted = NULL;
}

void world_note(struct world *w, unsigned bit) {
    w->notes |= 1U << bit;
}

/* Prints the steps to state n; returns their number. */
static uint32_t walk(struct world *w, uint32_t n, FILE *trace) {
    uint32_t depth = 0;
    for (uint32_t i = n; i != 0; i = w->parents[i])
        depth++;
    uint32_t *way = trace ? malloc((depth + 1) * sizeof(*way)) : NULL;
    if (!way)
        return depth;
    for (uint32_t i = n, d = depth + 1; d > 0; i = w->parents[i])
        way[--d] = i;
    w->trace = trace;
    for (uint32_t d = 0; d < depth; d++) {
        w->wanted = state_of(w, way[d + 1]);
        w->model->next(w, state_of(w, way[d]));
    }
    w->trace = NULL;
    free(way);
    return depth;
}

static void explore(struct world *w, FILE *trace, struct world_result *ret) {
    uint32_t last = 0;
    for (w->at = 0; w->at < w->count && !w->full; w->at++) {
        last = w->at;
        ret->failed = w->model->check(state_of(w, w->at));
        if (ret->failed)
            break;
        w->model->next(w, state_of(w, w->at));
    }
    ret->exhausted = !ret->failed && !w->full;
    ret->states = w->count;
    ret->notes = w->notes;
    ret->depth = walk(w, last, ret->failed ? trace : NULL);
}

int world_explore(const struct world_model *model, uint32_t max_states, FILE *trace,
                  struct world_result *ret) {
    struct world w = {.model = model, .max = max_states, .mask = 1};
    while (w.mask < max_states)
        w.mask = w.mask << 1 | 1;
    w.mask = w.mask << 1 | 1;
    w.states = malloc((size_t)max_states * model->size);
    w.parents = malloc(max_states * sizeof(*w.parents));
    w.table = calloc((size_t)w.mask + 1, sizeof(*w.table));
    uint8_t *first = calloc(1, model->size);
    int err = w.states && w.parents && w.table && first ? 0 : -1;
    if (!err) {
        *ret = (struct world_result){0};
        model->init(first);
        add(&w, first);
        explore(&w, trace, ret);
    }
    free(first);
    free(w.table);
    free(w.parents);
    free(w.states);
    return err;
}
