/* SPDX-License-Identifier: Apache-2.0
 *
 * The trace generator: a clock of session starts, and a heap of sessions by their next request.
 *
 * A session has randomness of its own, seeded by the trace's seed and its number, so that what it
 * asks does not depend on who else is active. All times are integers of microseconds inside.
 *
 * Not a hot path: sessions and contexts are on the heap, freed when they end.
 */
#include "trace/gen.h"

#include "trace/gen_kinds_priv.h"

#include <stdlib.h>
#include <string.h>

#define US_PER_MS 1000
#define US_PER_S  UINT64_C(1000000)

/* Time from request to answer: 20 ms a token, a common pace of interactive serving. */
#define US_PER_OUTPUT_TOKEN 20000

/* Bursty arrivals: means of the phases, and their rates in tenths of the mean rate. The rates
 * average to one: (10 x 4.0 + 50 x 0.4) / 60. */
#define BURST_US      (10 * US_PER_S)
#define CALM_US       (50 * US_PER_S)
#define BURST_TENTHS  40
#define CALM_TENTHS   4
#define STEADY_TENTHS 10

struct item { /* of a catalogue */
    uint32_t tokens;
    uint64_t *ids; /* of its full blocks; NULL until it is first used */
};

struct session {
    uint64_t number; /* from 1 */
    uint64_t due_us;
    const struct yk_trace_kind_params *kind;
    const struct item *item;
    struct yk_rng rng;
    uint32_t tokens;        /* the context: what the next request starts with */
    uint32_t before_tokens; /* the same before the last message and its answer */
    uint32_t input_tokens;  /* of the last request */
    uint32_t turn;
    uint64_t *ids; /* of the context's full blocks, then the last request's partial one */
    uint32_t full, ids_allocated;
};

struct yk_trace_gen {
    struct yk_trace_gen_opts opts;
    struct yk_rng rng;
    struct item *items[YK_TRACE_KINDS];
    uint64_t zipf[YK_CATALOGUE_MAX];  /* running sums of 2^32 / rank */
    uint32_t weights[YK_TRACE_KINDS]; /* of sessions of each kind */
    uint64_t mean_gap_us;             /* between session starts */
    uint64_t next_start_us, phase_end_us;
    uint32_t tenths; /* present rate of arrivals */
    uint64_t next_id, started, requests_left, sessions_left;
    struct session **heap; /* by due_us, then number */
    uint32_t active, heap_allocated;
    struct session *last; /* the one whose ids the caller borrows: freed or put back next time */
    bool last_ended;
};

void yk_trace_gen_opts_init(struct yk_trace_gen_opts *opts) {
    *opts = (struct yk_trace_gen_opts){
        .seed = 1,
        .requests = 1000,
        .mix = {50, 20, 20, 10},
        .arrival = YK_TRACE_POISSON,
        .rate_per_s = 10,
        .block_tokens = 512,
        .max_context_tokens = 131072,
    };
}

static int check_opts(const struct yk_trace_gen_opts *o, struct yk_err *err) {
    uint32_t sum = 0;
    for (int k = 0; k < YK_TRACE_KINDS; k++) {
        if (o->mix[k] > YK_TRACE_MIX_MAX)
            return yk_err_set(err, -YK_EINVAL, "found a share of %u for %s, expected 0 to %d",
                              o->mix[k], yk_trace_kind_name(k), YK_TRACE_MIX_MAX);
        sum += o->mix[k];
    }
    if (sum == 0)
        return yk_err_set(err, -YK_EINVAL, "found a mix of nothing, expected a share over 0");
    if (o->requests == 0 && o->sessions == 0)
        return yk_err_set(err, -YK_EINVAL,
                          "found no limit, expected a number of requests or of sessions");
    if (!(o->rate_per_s >= 0.001 && o->rate_per_s <= YK_TRACE_RATE_MAX_PER_S))
        return yk_err_set(err, -YK_EINVAL, "found a rate of %g/s, expected 0.001 to %g",
                          o->rate_per_s, YK_TRACE_RATE_MAX_PER_S);
    if (o->block_tokens == 0 || o->max_context_tokens / 8 < o->block_tokens)
        return yk_err_set(err, -YK_EINVAL,
                          "found blocks of %u tokens in contexts of %u, expected 1 to an eighth",
                          o->block_tokens, o->max_context_tokens);
    if (o->max_context_tokens > YK_TRACE_CONTEXT_MAX)
        return yk_err_set(err, -YK_EINVAL, "found contexts of %u tokens, expected at most %u",
                          o->max_context_tokens, YK_TRACE_CONTEXT_MAX);
    if (o->max_context_tokens / o->block_tokens >= YK_TRACE_IDS_MAX)
        return yk_err_set(err, -YK_EINVAL, "found contexts of %u blocks, expected fewer than %u",
                          o->max_context_tokens / o->block_tokens, YK_TRACE_IDS_MAX);
    if (o->arrival != YK_TRACE_POISSON && o->arrival != YK_TRACE_BURSTY)
        return yk_err_set(err, -YK_EINVAL, "found arrival %d, expected poisson or bursty",
                          (int)o->arrival);
    return 0;
}

/* `mix` shares out requests, but what starts is sessions, of very different lengths. */
static void set_rates(struct yk_trace_gen *g) {
    uint64_t shares = 0, weights = 0;
    for (int k = 0; k < YK_TRACE_KINDS; k++) {
        g->weights[k] = g->opts.mix[k] * 1000 / yk_trace_kinds[k].turns;
        shares += g->opts.mix[k];
        weights += g->weights[k];
    }
    uint64_t milli_per_s = (uint64_t)(g->opts.rate_per_s * 1000);
    g->mean_gap_us = shares * 1000 * 1000 * US_PER_S / (milli_per_s * weights);
    for (uint32_t i = 0; i < YK_CATALOGUE_MAX; i++)
        g->zipf[i] = (UINT64_C(1) << 32) / (i + 1) + (i > 0 ? g->zipf[i - 1] : 0);
}

static int make_catalogues(struct yk_trace_gen *g) {
    /* No more than 3/4 of a context, so that there is room for a question. */
    uint32_t max = g->opts.max_context_tokens / 4 * 3;
    for (int k = 0; k < YK_TRACE_KINDS; k++) {
        const struct yk_trace_kind_params *kind = &yk_trace_kinds[k];
        g->items[k] = calloc(kind->catalogue_items, sizeof(struct item));
        if (g->items[k] == NULL)
            return -YK_ENOMEM;
        for (uint32_t i = 0; i < kind->catalogue_items; i++) {
            uint32_t tokens = yk_rng_quantiles(&g->rng, kind->catalogue_tokens);
            g->items[k][i].tokens = tokens < max ? tokens : max;
        }
    }
    return 0;
}

/* Draws when the next session starts. In a phase of rate r the wait passes r times as fast. */
static void schedule_start(struct yk_trace_gen *g) {
    uint64_t now = g->next_start_us;
    /* An exponential of over 40 means is drawn by nobody: 40 x 2^32 x mean fits for all rates. */
    uint64_t x = yk_rng_exponential(&g->rng);
    uint64_t wait = (x >> 16) * g->mean_gap_us >> 16;
    while (g->opts.arrival == YK_TRACE_BURSTY &&
           wait * STEADY_TENTHS / g->tenths > g->phase_end_us - now) {
        wait -= (g->phase_end_us - now) * g->tenths / STEADY_TENTHS;
        now = g->phase_end_us;
        bool burst = g->tenths == CALM_TENTHS;
        g->tenths = burst ? BURST_TENTHS : CALM_TENTHS;
        x = yk_rng_exponential(&g->rng);
        g->phase_end_us = now + ((x >> 16) * (burst ? BURST_US : CALM_US) >> 16);
    }
    g->next_start_us = now + wait * STEADY_TENTHS / g->tenths;
}

int yk_trace_gen_new(const struct yk_trace_gen_opts *opts, struct yk_trace_gen **ret_gen,
                     struct yk_err *err) {
    int rc = check_opts(opts, err);
    if (rc != 0)
        return rc;
    struct yk_trace_gen *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    g->opts = *opts;
    g->rng.state = opts->seed;
    g->requests_left = opts->requests > 0 ? opts->requests : UINT64_MAX;
    g->sessions_left = opts->sessions > 0 ? opts->sessions : UINT64_MAX;
    bool bursty = opts->arrival == YK_TRACE_BURSTY;
    g->tenths = bursty ? BURST_TENTHS : STEADY_TENTHS; /* of a burst that ends at 0: calm follows */
    set_rates(g);
    if (make_catalogues(g) != 0) {
        yk_trace_gen_free(g);
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    }
    *ret_gen = g;
    return 0;
}

static void session_free(struct session *s) {
    if (s == NULL)
        return;
    free(s->ids);
    free(s);
}

void yk_trace_gen_free(struct yk_trace_gen *g) {
    if (g == NULL)
        return;
    for (uint32_t i = 0; i < g->active; i++)
        session_free(g->heap[i]);
    session_free(g->last);
    for (int k = 0; k < YK_TRACE_KINDS; k++) {
        for (uint32_t i = 0; g->items[k] != NULL && i < yk_trace_kinds[k].catalogue_items; i++)
            free(g->items[k][i].ids);
        free(g->items[k]);
    }
    free(g->heap);
    free(g);
}

static bool is_before(const struct session *x, const struct session *y) {
    return x->due_us != y->due_us ? x->due_us < y->due_us : x->number < y->number;
}

static int heap_push(struct yk_trace_gen *g, struct session *s) {
    if (g->active == YK_TRACE_GEN_ACTIVE_MAX)
        return -YK_ELIMIT;
    if (g->active == g->heap_allocated) {
        uint32_t want = g->heap_allocated > 0 ? g->heap_allocated * 2 : 64;
        struct session **heap = realloc(g->heap, want * sizeof(*heap));
        if (heap == NULL)
            return -YK_ENOMEM;
        g->heap = heap;
        g->heap_allocated = want;
    }
    uint32_t at = g->active++;
    for (; at > 0 && is_before(s, g->heap[(at - 1) / 2]); at = (at - 1) / 2)
        g->heap[at] = g->heap[(at - 1) / 2];
    g->heap[at] = s;
    return 0;
}

static struct session *heap_pop(struct yk_trace_gen *g) {
    struct session *top = g->heap[0], *s = g->heap[--g->active];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < g->active && is_before(g->heap[child + 1], g->heap[child]))
            child++;
        if (child >= g->active || !is_before(g->heap[child], s))
            break;
        g->heap[at] = g->heap[child];
        at = child;
    }
    g->heap[at] = s;
    return top;
}

static int reserve_ids(struct session *s, uint32_t want) {
    if (want <= s->ids_allocated)
        return 0;
    uint64_t *ids = realloc(s->ids, (want + want / 2) * sizeof(*ids));
    if (ids == NULL)
        return -YK_ENOMEM;
    s->ids = ids;
    s->ids_allocated = want + want / 2;
    return 0;
}

/* The context becomes the shared beginning and nothing else. */
static int begin_with_item(struct yk_trace_gen *g, struct session *s) {
    uint32_t full = s->item->tokens / g->opts.block_tokens;
    if (reserve_ids(s, full + 1) != 0)
        return -YK_ENOMEM;
    memcpy(s->ids, s->item->ids, full * sizeof(*s->ids));
    s->full = full;
    s->tokens = s->before_tokens = s->item->tokens;
    return 0;
}

static int name_item_blocks(struct yk_trace_gen *g, struct item *item) {
    uint32_t full = item->tokens / g->opts.block_tokens;
    if (item->ids != NULL)
        return 0;
    item->ids = malloc((full + 1) * sizeof(*item->ids));
    if (item->ids == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < full; i++)
        item->ids[i] = g->next_id++;
    return 0;
}

static int draw_kind(struct yk_trace_gen *g) {
    uint32_t sum = 0;
    for (int k = 0; k < YK_TRACE_KINDS; k++)
        sum += g->weights[k];
    uint32_t u = yk_rng_below(&g->rng, sum);
    int k = 0;
    for (; u >= g->weights[k]; k++)
        u -= g->weights[k];
    return k;
}

static struct item *draw_item(struct yk_trace_gen *g, int kind) {
    uint32_t lo = 0, hi = yk_trace_kinds[kind].catalogue_items - 1;
    uint64_t u = yk_rng_next(&g->rng) % g->zipf[hi];
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (u < g->zipf[mid])
            hi = mid;
        else
            lo = mid + 1;
    }
    return &g->items[kind][lo];
}

static int start_session(struct yk_trace_gen *g) {
    int kind = draw_kind(g);
    struct item *item = draw_item(g, kind);
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL || name_item_blocks(g, item) != 0)
        goto err_session;
    s->number = ++g->started;
    s->due_us = g->next_start_us;
    s->kind = &yk_trace_kinds[kind];
    s->item = item;
    s->rng.state = yk_rng_next(&g->rng);
    if (begin_with_item(g, s) != 0)
        goto err_session;
    int rc = heap_push(g, s);
    if (rc != 0) {
        session_free(s);
        return rc;
    }
    g->sessions_left--;
    schedule_start(g);
    return 0;

err_session:
    session_free(s);
    return -YK_ENOMEM;
}

/* Back to where the last message began: another one takes its place. */
static void edit(const struct yk_trace_gen *g, struct session *s) {
    s->tokens = s->before_tokens;
    uint32_t full = s->tokens / g->opts.block_tokens;
    if (s->full > full)
        s->full = full;
}

static int add_message(struct yk_trace_gen *g, struct session *s) {
    uint32_t message =
        yk_rng_quantiles(&s->rng, s->turn == 0 ? s->kind->first_tokens : s->kind->next_tokens);
    uint32_t room = g->opts.max_context_tokens - s->tokens;
    s->before_tokens = s->tokens;
    s->tokens += message < room ? message : room;
    uint32_t full = s->tokens / g->opts.block_tokens;
    if (reserve_ids(s, full + 1) != 0)
        return -YK_ENOMEM;
    while (s->full < full)
        s->ids[s->full++] = g->next_id++;
    if (s->tokens % g->opts.block_tokens != 0)
        s->ids[s->full] = g->next_id++;
    s->input_tokens = s->tokens;
    return 0;
}

/* Appends the answer and says when the next request comes; false: there is none. */
static bool answer(struct yk_trace_gen *g, struct session *s, struct yk_trace_req *req) {
    const struct yk_trace_kind_params *kind = s->kind;
    bool is_tool = yk_rng_percent(&s->rng, kind->tool_percent);
    req->output_length = yk_rng_quantiles(&s->rng, kind->output_tokens);
    req->stop = is_tool ? YK_TRACE_STOP_TOOL : YK_TRACE_STOP_END;
    s->tokens = s->input_tokens + req->output_length;
    s->turn++;
    s->due_us += (uint64_t)req->output_length * US_PER_OUTPUT_TOKEN;
    s->due_us +=
        (uint64_t)yk_rng_quantiles(&s->rng, is_tool ? kind->tool_pause_ms : kind->pause_ms) *
        US_PER_MS;
    bool is_full = (uint64_t)s->tokens + g->opts.block_tokens > g->opts.max_context_tokens;
    return yk_rng_below(&s->rng, kind->turns) != 0 && (!is_full || kind->compacts);
}

/* Makes the context that the session's next request carries. */
static int take_turn(struct yk_trace_gen *g, struct session *s) {
    uint32_t u = yk_rng_below(&s->rng, 100);
    if (s->turn > 0 && u < s->kind->repeat_percent)
        return 0; /* the same once more, its partial block included */
    if (s->turn > 0 && u < s->kind->repeat_percent + s->kind->edit_percent)
        edit(g, s);
    if ((uint64_t)s->tokens + g->opts.block_tokens > g->opts.max_context_tokens) {
        if (begin_with_item(g, s) != 0)
            return -YK_ENOMEM;
        s->tokens += yk_rng_quantiles(&s->rng, s->kind->summary_tokens);
        if (s->tokens > g->opts.max_context_tokens)
            s->tokens = g->opts.max_context_tokens;
    }
    return add_message(g, s);
}

static int emit(struct yk_trace_gen *g, struct session *s, struct yk_trace_req *req) {
    int rc = take_turn(g, s);
    if (rc != 0)
        return rc;
    *req = (struct yk_trace_req){
        .timestamp_ms = s->due_us / US_PER_MS,
        .session = s->number,
        .hash_ids = s->ids,
        .n = s->full + (s->input_tokens % g->opts.block_tokens != 0),
        .input_length = s->input_tokens,
    };
    g->last_ended = !answer(g, s, req);
    return 1;
}

/* The session of the last request goes back to the heap, or away. */
static int settle_last(struct yk_trace_gen *g) {
    struct session *s = g->last;
    g->last = NULL;
    if (s == NULL)
        return 0;
    int rc = g->last_ended ? 0 : heap_push(g, s);
    if (g->last_ended || rc != 0)
        session_free(s);
    return rc;
}

int yk_trace_gen_next(struct yk_trace_gen *g, struct yk_trace_req *req, struct yk_err *err) {
    int rc = settle_last(g);
    while (rc == 0 && g->requests_left > 0 && g->sessions_left > 0 &&
           (g->active == 0 || g->next_start_us <= g->heap[0]->due_us))
        rc = start_session(g);
    if (rc == 0 && g->requests_left > 0 && g->active > 0) {
        g->last = heap_pop(g);
        g->requests_left--;
        rc = emit(g, g->last, req);
    }
    if (rc < 0)
        yk_err_set(err, rc, "after %llu sessions: %s", (unsigned long long)g->started,
                   rc == -YK_ELIMIT ? "too many of them are active at once" : "out of memory");
    return rc;
}
