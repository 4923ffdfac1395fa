/* SPDX-License-Identifier: Apache-2.0
 *
 * The model checker's search: see mc.h for what it does.
 *
 * States wait in a double-ended queue of blobs (taken from the end: depth first, which finds errors
 * soon and keeps the queue short; from the front: breadth first, the shortest counterexample). A
 * table of 128-bit fingerprints remembers what was seen; by each stands the state it was reached
 * from and the step, so that a counterexample is replayed from the start with the log on. Two
 * states with one fingerprint would hide one of them: for 10^7 states the odds are below 10^-24.
 *
 * A step re-runs once for each combination of the choices it makes (mc_choose), like an odometer.
 *
 * Threads: single-threaded.
 */
#include "mc_priv.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { STEP_RUN, STEP_DRAIN, STEP_INTERRUPT };
enum { CHOICE_BITS = 5, DEFAULT_MAX_STATES = 4000000 };

/* How a state was reached. */
struct seen {
    XXH128_hash_t print;
    uint32_t parent;
    uint32_t step; /* thread, STEP_, interrupt number, choices */
};

struct blob {
    uint32_t id;
    uint32_t bytes;
    uint8_t state[];
};

struct search {
    struct mc *mc;
    struct seen *seen;
    uint32_t nseen, seen_max, *table, table_mask;
    struct blob **queue; /* ring */
    uint32_t queue_mask, queue_first, queue_n;
    uint64_t steps;
    bool broken; /* out of memory or states */
    bool found;
    uint32_t found_parent, found_step;
};

/* --- running one thread --- */

int mc_self(const struct mc *mc) {
    return mc->t;
}

void *mc_local_of(struct mc *mc, int t) {
    return mc->s.thread[t].local;
}

void *mc_local(struct mc *mc) {
    return mc_local_of(mc, mc->t);
}

static struct mc_frame *top(struct mc *mc, int t) {
    struct mc_thread *th = &mc->s.thread[t];
    assert(th->nframes > 0);
    return &th->frame[th->nframes - 1];
}

int mc_pc(const struct mc *mc) {
    return top((struct mc *)mc, mc->t)->pc;
}

void mc_at(struct mc *mc, enum mc_kind kind, int line) {
    top(mc, mc->t)->pc = (uint16_t)line;
    mc->s.thread[mc->t].kind = (uint8_t)kind;
    mc->pausing = true;
}

static void push(struct mc *mc, int t, int fn) {
    struct mc_thread *th = &mc->s.thread[t];
    assert(th->nframes < MC_MAX_FRAMES);
    th->frame[th->nframes++] = (struct mc_frame){.fn = (uint8_t)fn};
}

void mc_call(struct mc *mc, int fn, int line) {
    top(mc, mc->t)->pc = (uint16_t)line;
    push(mc, mc->t, fn);
}

void mc_return(struct mc *mc) {
    *top(mc, mc->t) = (struct mc_frame){0};
    mc->s.thread[mc->t].nframes--;
}

/* Runs thread t from behind its pending step's label to the next step. */
static void resume(struct mc *mc, int t) {
    mc->t = t;
    mc->pausing = false;
    while (!mc->pausing && !mc->failed && mc->s.thread[t].nframes > 0)
        mc->model->fn[top(mc, t)->fn](mc);
    if (mc->s.thread[t].nframes == 0)
        mc->s.thread[t].kind = 0;
}

void mc_restart(struct mc *mc, int t, int fn) {
    struct mc_thread *th = &mc->s.thread[t];
    mc_mem_settle(mc, t);
    memset(th->frame, 0, sizeof(th->frame));
    th->nframes = 0;
    push(mc, t, fn);
    resume(mc, t);
}

void mc_stop(struct mc *mc, int t) {
    struct mc_thread *th = &mc->s.thread[t];
    mc_mem_settle(mc, t);
    memset(th->frame, 0, sizeof(th->frame));
    th->nframes = 0;
    th->kind = 0;
    th->stopped = 1;
}

bool mc_stopped(const struct mc *mc, int t) {
    return mc->s.thread[t].stopped;
}

int mc_choose(struct mc *mc, int n) {
    if (n <= 1)
        return 0;
    assert(mc->nchosen < MC_MAX_CHOICES && n <= 1 << CHOICE_BITS);
    int i = mc->nchosen++;
    if (i >= mc->nfixed)
        mc->choice[i] = 0;
    mc->limit[i] = (uint8_t)n;
    return mc->choice[i];
}

void mc_note(struct mc *mc, int bit) {
    mc->notes |= UINT64_C(1) << bit;
}

void mc_fail(struct mc *mc, const char *fmt, ...) {
    if (mc->failed)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(mc->text, sizeof(mc->text), fmt, ap);
    va_end(ap);
    mc->failed = true;
    if (mc->log)
        fprintf(mc->log, "    %-8s !! %s\n", mc->model->thread_name[mc->t], mc->text);
}

void mc_say(struct mc *mc, const char *fmt, ...) {
    if (!mc->log)
        return;
    va_list ap;
    fprintf(mc->log, "    %-8s -- ", mc->model->thread_name[mc->t]);
    va_start(ap, fmt);
    vfprintf(mc->log, fmt, ap);
    va_end(ap);
    fputc('\n', mc->log);
}

void mc_log(struct mc *mc, const char *what, int loc, int val, int older) {
    if (!mc->log)
        return;
    fprintf(mc->log, "    %-8s %s", mc->model->thread_name[mc->t], what);
    if (loc >= 0) {
        fputc(' ', mc->log);
        if (mc->model->print_loc)
            mc->model->print_loc(mc->log, loc);
        else
            fprintf(mc->log, "x%d", loc);
        fputs(" = ", mc->log);
        if (mc->model->print_val)
            mc->model->print_val(mc->log, loc, val);
        else
            fprintf(mc->log, "%d", val);
    }
    if (older > 0)
        fprintf(mc->log, "   (%d newer not seen)", older);
    fputc('\n', mc->log);
}

/* --- atomic blocks --- */

/* Whether thread t's block, whose last step was of kind `did`, goes on with its pending step. Weak:
 * loads are right movers, stores left movers: loads, then at most one sync, then stores. TSO: a
 * store into the own buffer moves left (not right: its own drain waits for it), a load or a drain
 * moves neither way: at most one load, then stores. */
static bool goes_on(struct mc *mc, int t, enum mc_kind did) {
    struct mc_state *s = &mc->s;
    enum mc_kind next = s->thread[t].kind;
    if (mc->opts.full || s->thread[t].nframes == 0 || next == MC_BREAK ||
        !mc_mem_ready(mc, t, next))
        return false;
    s->phase |= did == MC_ST || did == MC_SYNC || mc->opts.mode == MC_TSO;
    return next == MC_ST || !s->phase;
}

static void end_step(struct mc *mc, int t, enum mc_kind did) {
    bool on = goes_on(mc, t, did);
    mc->s.running = on ? (uint8_t)t : MC_ANY;
    if (!on)
        mc->s.phase = 0;
    if (!mc->failed && mc->model->invariant)
        mc->model->invariant(mc);
    mc_mem_normalise(mc);
}

/* Runs one step; false: there is no such step. */
static bool run_step(struct mc *mc, int t, int what, int which) {
    enum mc_kind did = mc->s.thread[t].kind;
    mc->nchosen = 0;
    mc->t = t;
    if (what == STEP_DRAIN) {
        mc_mem_drain(mc, t);
        did = MC_BREAK;
    } else if (what == STEP_INTERRUPT) {
        if (!mc->model->interrupt(mc, t, which))
            return false;
        did = MC_SYNC;
        mc->s.phase = 1;
    } else {
        resume(mc, t);
    }
    end_step(mc, t, did);
    return true;
}

/* --- states seen and states waiting --- */

static size_t state_bytes(const struct mc *mc) {
    return offsetof(struct mc_state, mem) + mc_mem_bytes(mc);
}

static void *grown(void *old, size_t n, size_t size) {
    void *p = realloc(old, n * size);
    if (!p)
        free(old);
    return p;
}

static bool table_grow(struct search *se) {
    uint32_t n = (se->table_mask + 1) * 2;
    free(se->table);
    se->table = calloc(n, sizeof(*se->table));
    if (!se->table)
        return false;
    se->table_mask = n - 1;
    for (uint32_t id = 0; id < se->nseen; id++) {
        uint32_t at = (uint32_t)se->seen[id].print.low64 & se->table_mask;
        while (se->table[at])
            at = (at + 1) & se->table_mask;
        se->table[at] = id + 1;
    }
    return true;
}

static bool seen_grow(struct search *se) {
    uint32_t limit = se->mc->opts.max_states ? se->mc->opts.max_states : DEFAULT_MAX_STATES;
    if (se->nseen >= limit)
        return false;
    if (se->nseen < se->seen_max)
        return true;
    se->seen_max = se->seen_max ? se->seen_max * 2 : 4096;
    se->seen = grown(se->seen, se->seen_max, sizeof(*se->seen));
    return se->seen && table_grow(se);
}

/* Returns the id of a state not seen before, or -1. */
static int64_t remember(struct search *se, uint32_t parent, uint32_t step) {
    XXH128_hash_t print = XXH3_128bits(&se->mc->s, state_bytes(se->mc));
    if (!seen_grow(se)) {
        se->broken = true;
        return -1;
    }
    uint32_t at = (uint32_t)print.low64 & se->table_mask;
    for (; se->table[at]; at = (at + 1) & se->table_mask)
        if (XXH128_isEqual(se->seen[se->table[at] - 1].print, print))
            return -1;
    se->seen[se->nseen] = (struct seen){print, parent, step};
    se->table[at] = ++se->nseen;
    return se->nseen - 1;
}

static bool queue_grow(struct search *se) {
    uint32_t n = (se->queue_mask + 1) * 2;
    struct blob **q = malloc(n * sizeof(struct blob *));
    if (!q)
        return false;
    for (uint32_t i = 0; i < se->queue_n; i++)
        q[i] = se->queue[(se->queue_first + i) & se->queue_mask];
    free(se->queue);
    se->queue = q;
    se->queue_first = 0;
    se->queue_mask = n - 1;
    return true;
}

static void enqueue(struct search *se, int64_t id) {
    if (id < 0)
        return;
    size_t n = state_bytes(se->mc);
    struct blob *b = malloc(sizeof(*b) + n);
    if (!b || (se->queue_n > se->queue_mask && !queue_grow(se))) {
        free(b);
        se->broken = true;
        return;
    }
    b->id = (uint32_t)id;
    b->bytes = (uint32_t)n;
    memcpy(b->state, &se->mc->s, n);
    se->queue[(se->queue_first + se->queue_n++) & se->queue_mask] = b;
}

static struct blob *dequeue(struct search *se) {
    if (se->mc->opts.bfs) {
        struct blob *b = se->queue[se->queue_first++ & se->queue_mask];
        se->queue_n--;
        return b;
    }
    return se->queue[(se->queue_first + --se->queue_n) & se->queue_mask];
}

/* --- search --- */

static uint32_t pack_step(const struct mc *mc, int t, int what, int which) {
    uint32_t step = (uint32_t)(t | what << 3 | which << 5);
    for (int i = 0; i < mc->nchosen; i++)
        step |= (uint32_t)mc->choice[i] << (8 + i * CHOICE_BITS);
    return step;
}

/* Next combination of choices, or false. */
static bool turn_odometer(struct mc *mc) {
    for (int i = mc->nchosen - 1; i >= 0; i--)
        if (mc->choice[i] + 1 < mc->limit[i]) {
            mc->choice[i]++;
            mc->nfixed = i + 1;
            return true;
        }
    return false;
}

static bool expand_step(struct search *se, const struct blob *b, int t, int what, int which) {
    struct mc *mc = se->mc;
    mc->nfixed = 0;
    do {
        memcpy(&mc->s, b->state, b->bytes);
        if (!run_step(mc, t, what, which))
            return false;
        se->steps++;
        uint32_t step = pack_step(mc, t, what, which);
        if (mc->failed) {
            se->found = true;
            se->found_parent = b->id;
            se->found_step = step;
            return true;
        }
        enqueue(se, remember(se, b->id, step));
    } while (!se->broken && turn_odometer(mc));
    return true;
}

static void expand(struct search *se, const struct blob *b) {
    const struct mc_state *s = (const struct mc_state *)b->state;
    struct mc *mc = se->mc;
    bool any = false;
    for (int t = 0; t < mc->model->nthreads && !se->found && !se->broken; t++) {
        memcpy(&mc->s, b->state, b->bytes);
        bool run = s->thread[t].nframes > 0 && (s->running == MC_ANY || s->running == t);
        bool drain = s->running == MC_ANY && mc_mem_can_drain(mc, t);
        bool ready = run && mc_mem_ready(mc, t, s->thread[t].kind);
        any |= drain || ready;
        if (drain)
            expand_step(se, b, t, STEP_DRAIN, 0);
        if (ready && !se->found)
            expand_step(se, b, t, STEP_RUN, 0);
        for (int i = 0; run && mc->model->interrupt && !se->found; i++)
            if (!expand_step(se, b, t, STEP_INTERRUPT, i))
                break;
    }
    if (!any && mc->model->final) {
        memcpy(&mc->s, b->state, b->bytes);
        mc->t = 0;
        mc->model->final(mc);
        if (mc->failed) {
            se->found = true;
            se->found_parent = b->id;
            se->found_step = UINT32_MAX;
        }
    }
}

static void start(struct mc *mc) {
    memset(&mc->s, 0, sizeof(mc->s));
    memset(mc->track, 0, sizeof(mc->track));
    memset(mc->private, 0, sizeof(mc->private));
    mc_mem_init(mc);
    mc->model->init(mc);
    for (int t = 0; t < mc->model->nthreads; t++) {
        push(mc, t, mc->model->entry[t]);
        resume(mc, t);
    }
    mc->s.running = MC_ANY;
}

static void replay_step(struct mc *mc, uint32_t step) {
    if (step == UINT32_MAX) {
        mc->t = 0;
        mc->model->final(mc);
        return;
    }
    for (int i = 0; i < MC_MAX_CHOICES; i++)
        mc->choice[i] = step >> (8 + i * CHOICE_BITS) & ((1 << CHOICE_BITS) - 1);
    mc->nfixed = MC_MAX_CHOICES;
    run_step(mc, step & 7, step >> 3 & 3, step >> 5 & 7);
}

static uint32_t depth_of(const struct search *se) {
    uint32_t n = 1;
    for (uint32_t id = se->found_parent; id; id = se->seen[id].parent)
        n++;
    return n;
}

static void print_trace(struct search *se, FILE *f) {
    struct mc *mc = se->mc;
    uint32_t n = depth_of(se), *steps = malloc(n * sizeof(*steps)), i = n;
    if (!steps)
        return;
    steps[--i] = se->found_step;
    for (uint32_t id = se->found_parent; id; id = se->seen[id].parent)
        steps[--i] = se->seen[id].step;
    fprintf(f, "  counterexample of %s, %s memory, %u steps:\n", mc->model->name,
            mc->opts.mode == MC_TSO ? "TSO" : "weak", n);
    mc->failed = false;
    mc->log = f;
    start(mc);
    for (i = 0; i < n; i++)
        replay_step(mc, steps[i]);
    mc->log = NULL;
    free(steps);
}

static void search_fini(struct search *se) {
    for (uint32_t i = 0; i < se->queue_n; i++)
        free(se->queue[(se->queue_first + i) & se->queue_mask]);
    free(se->queue);
    free(se->seen);
    free(se->table);
    free(se->mc);
}

int mc_explore(const struct mc_model *model, const struct mc_opts *opts, struct mc_result *ret) {
    struct search se = {.table_mask = 8191};
    se.mc = calloc(1, sizeof(*se.mc));
    se.queue = calloc(1, sizeof(struct blob *));
    if (!se.mc || !se.queue) {
        search_fini(&se);
        return -1;
    }
    se.mc->model = model;
    se.mc->opts = *opts;
    start(se.mc);
    enqueue(&se, remember(&se, 0, 0));
    while (se.queue_n > 0 && !se.broken && !se.found) {
        struct blob *b = dequeue(&se);
        expand(&se, b);
        free(b);
    }
    *ret = (struct mc_result){.failed = se.found,
                              .exhausted = !se.found && !se.broken,
                              .states = se.nseen,
                              .steps = se.steps,
                              .notes = se.mc->notes};
    if (se.found) {
        ret->depth = depth_of(&se);
        memcpy(ret->text, se.mc->text, sizeof(ret->text));
        if (opts->trace)
            print_trace(&se, opts->trace);
    }
    search_fini(&se);
    return se.broken ? -1 : 0;
}
