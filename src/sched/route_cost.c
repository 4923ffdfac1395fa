/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request would cost on one node, and how many of its blocks it had better fetch.
 *
 * Sources are leading runs, so between two of their ends the choice of sources is the same for every block, and each
 * costs the same: fetching is linear there, and computing the rest is linear or bends downwards. The least is at an
 * end of a run, then, or where transfers stop to hide behind the queue; no other number is tried.
 */
#include "sched/route_priv.h"

#include <math.h>
#include <string.h>

#define RATE_MIN 1e3  /* bytes a second: slower is a lie, or no link */
#define RATE_MAX 1e13
#define LATENCY_MAX_S 60.0
#define LOAD_MAX 0.98 /* a full link still moves a little */
#define WAITING_MAX 1000000u
#define WAITING_TOKENS_MAX 10000000000u
#define SLOW_MAX 64.0
#define SPEED_TOKENS 2048.0 /* the prompt that a told speed is of */

struct run {
    uint32_t blocks;
    enum yk_router_from from;
    uint32_t peer;
    double block_s, latency_s;
    bool used;
};

struct plan {
    uint32_t blocks, runs; /* fetched, or there; of the first so many runs, cheapest first within each */
    double told_s;         /* by what links promise */
    double bytes;
    uint32_t from[YK_ROUTER_FROMS], peer, peer_blocks;
};

struct job {
    const struct yk_router *router;
    const struct yk_router_request *request;
    const struct yk_router_node *node;
    const struct route_curves *curves;
    double queue_s, slow;
    uint32_t tokens, block_tokens, blocks;
    struct run runs[YK_ROUTER_SOURCES_MAX];
    uint32_t n_runs;
};

static double clamp(double value, double low, double high, double otherwise) {
    return isfinite(value) ? fmin(fmax(value, low), high) : otherwise;
}

/* ---- the queue ---- */

/* How much slower than the prior a node says it is. By the prior and not by what was learned: that moves. */
static double slowness(const struct yk_router *router, double tokens_s) {
    double x[YK_COST_FEATURES];
    if (!(tokens_s > 0) || !isfinite(tokens_s))
        return 1;
    yk_cost_compute_features(SPEED_TOKENS, SPEED_TOKENS, x);
    double known = yk_cost_at(&router->prior[ROUTE_COMPUTE], x);
    return known > 0 ? clamp(SPEED_TOKENS / tokens_s / known, 1 / SLOW_MAX, SLOW_MAX, 1) : 1;
}

static double compute_s(const struct job *job, double fresh, double tokens, double ret_x[YK_COST_FEATURES]) {
    yk_cost_compute_features(fresh, tokens, ret_x);
    for (uint32_t i = 0; i < YK_COST_FEATURES; i++)
        ret_x[i] *= job->slow;
    return yk_cost_at(&job->curves->fit[ROUTE_COMPUTE].curve, ret_x);
}

/* Seconds of prompts that wait, of which so many are known one by one; the others as a request of their mean length
 * computes. */
static double others_s(const struct job *job, uint32_t known) {
    const struct yk_router_node *node = job->node;
    double x[YK_COST_FEATURES];
    double all = node->waiting < WAITING_MAX ? node->waiting : WAITING_MAX;
    double tokens = (double)(node->waiting_tokens < WAITING_TOKENS_MAX ? node->waiting_tokens : WAITING_TOKENS_MAX);
    double requests = fmax(all - known, 0);
    if (all > 0)
        tokens *= requests / all;
    if (tokens == 0)
        tokens = requests * job->router->mean_tokens;
    if (tokens == 0)
        return 0;
    requests = fmax(requests, 1);
    return requests * compute_s(job, tokens / requests, tokens / requests, x);
}

/* What was decided here is known one by one, with what each finds in the cache; a count and a sum of tokens know
 * nothing of that, and a prompt of which most is there is long in context and short in tokens. */
static void predict_queue(struct job *job, struct yk_router_choice *c) {
    const struct yk_router *router = job->router;
    uint32_t known, id = job->node->id, in_flight = router->nodes[id].in_flight;
    double open_s = route_open_s(router, id, job->node->waiting, job->request->now_ms, &known);
    c->in_flight = in_flight;
    c->x_queue[0] = 1;
    c->x_queue[1] = open_s + others_s(job, known > in_flight ? known - in_flight : 0);
    c->x_queue[2] = job->node->running < WAITING_MAX ? job->node->running : WAITING_MAX;
    job->queue_s = yk_cost_at(&job->curves->fit[ROUTE_QUEUE].curve, c->x_queue);
    c->queue_s = job->queue_s;
}

/* ---- where blocks come from ---- */

static void add_run(struct job *job, const struct yk_router_source *s, double believed) {
    uint32_t blocks = s->blocks < job->blocks ? s->blocks : job->blocks, at = job->n_runs;
    double rate = s->bytes_s > 0 && isfinite(s->bytes_s) ? s->bytes_s : job->router->opts.bytes_s[s->from];
    if (s->from != YK_ROUTER_PEER && believed < 1)
        blocks = (uint32_t)(blocks * believed);
    if (blocks == 0)
        return;
    rate = clamp(rate, RATE_MIN, RATE_MAX, RATE_MIN) * (1 - clamp(s->load, 0, LOAD_MAX, LOAD_MAX));
    struct run run = {.blocks = blocks, .from = s->from, .peer = s->peer};
    if (s->from != YK_ROUTER_VRAM) {
        run.block_s = (double)job->request->block_bytes / rate;
        run.latency_s = clamp(s->latency_s, 0, LATENCY_MAX_S, LATENCY_MAX_S);
    }
    for (; at > 0 && job->runs[at - 1].blocks > blocks; at--)
        job->runs[at] = job->runs[at - 1];
    job->runs[at] = run;
    job->n_runs++;
}

static void find_runs(struct job *job) {
    double believed = route_believed(job->router, job->node->id, job->request->now_ms);
    uint32_t n = job->node->sources != NULL ? job->node->n_sources : 0;
    for (uint32_t i = 0; i < n && i < YK_ROUTER_SOURCES_MAX; i++)
        if ((uint32_t)job->node->sources[i].from < YK_ROUTER_FROMS)
            add_run(job, &job->node->sources[i], believed);
}

static double run_cost(const struct run *run, uint32_t blocks) {
    return run->block_s * blocks + (run->used ? 0 : run->latency_s);
}

/* The plan that takes `blocks` more, of a part that runs from `first` on all have. */
static void extend(struct job *job, struct plan *plan, uint32_t first, uint32_t blocks) {
    struct run *best = &job->runs[first];
    for (uint32_t i = first + 1; i < job->n_runs; i++)
        if (run_cost(&job->runs[i], blocks) < run_cost(best, blocks))
            best = &job->runs[i];
    plan->told_s += run_cost(best, blocks);
    best->used = true;
    plan->blocks += blocks;
    plan->from[best->from] += blocks;
    if (best->from != YK_ROUTER_VRAM)
        plan->bytes += (double)blocks * (double)job->request->block_bytes;
    if (best->from == YK_ROUTER_PEER && blocks >= plan->peer_blocks) {
        plan->peer = best->peer;
        plan->peer_blocks = blocks;
    }
}

/* ---- all of it ---- */

static uint32_t new_tokens(const struct job *job, const struct plan *plan) {
    uint64_t there = (uint64_t)plan->blocks * job->block_tokens;
    return there < job->tokens ? job->tokens - (uint32_t)there : 1;
}

/* The part of a transfer that the queue does not hide. */
static double transfer_s(const struct job *job, const struct plan *plan, double ret_x[YK_COST_FEATURES]) {
    ret_x[0] = plan->told_s > 0;
    ret_x[1] = plan->told_s;
    ret_x[2] = 0;
    double whole = yk_cost_at(&job->curves->fit[ROUTE_TRANSFER].curve, ret_x);
    return fmax(whole - job->router->opts.overlap * job->queue_s, 0);
}

static void fill(const struct job *job, const struct plan *plan, struct yk_router_choice *c) {
    c->new_tokens = new_tokens(job, plan);
    c->transfer_s = transfer_s(job, plan, c->x_transfer);
    c->compute_s = compute_s(job, c->new_tokens, fmax(job->tokens, c->new_tokens), c->x_compute);
    c->ttft_s = job->queue_s + c->transfer_s + c->compute_s;
    memcpy(c->fetch, plan->from, sizeof(c->fetch));
    c->peer = plan->peer_blocks > 0 ? plan->peer : YK_ROUTER_NOBODY;
    c->compute_blocks = job->blocks - plan->blocks;
    c->transfer_bytes = (uint64_t)plan->bytes;
}

struct best {
    struct plan plan;
    double work_s; /* transfer and compute */
};

static void keep_better(const struct job *job, const struct plan *plan, struct best *best) {
    double x[YK_COST_FEATURES], tokens = new_tokens(job, plan);
    double work_s = transfer_s(job, plan, x) + compute_s(job, tokens, fmax(job->tokens, tokens), x);
    if (work_s < best->work_s)
        *best = (struct best){.plan = *plan, .work_s = work_s};
}

/* How many of `blocks` come while the request queues anyway. */
static uint32_t hidden(const struct job *job, const struct plan *plan, uint32_t first, uint32_t blocks) {
    double room = job->router->opts.overlap * job->queue_s - plan->told_s - job->runs[first].latency_s;
    double fit = job->runs[first].block_s > 0 ? room / job->runs[first].block_s : blocks;
    return fit <= 0 ? 0 : fit >= blocks ? blocks : (uint32_t)fit;
}

static void choose(struct job *job, struct yk_router_choice *c) {
    struct plan plan = {0};
    struct best best = {.work_s = INFINITY};
    keep_better(job, &plan, &best);
    for (uint32_t i = 0; i < job->n_runs; i++) {
        uint32_t more = job->runs[i].blocks - plan.blocks;
        uint32_t first = job->router->opts.overlap > 0 && more > 0 ? hidden(job, &plan, i, more) : 0;
        if (first > 0 && first < more) {
            extend(job, &plan, i, first);
            keep_better(job, &plan, &best);
            more -= first;
        }
        if (more == 0)
            continue;
        extend(job, &plan, i, more);
        keep_better(job, &plan, &best);
    }
    fill(job, &best.plan, c);
}

void route_predict(const struct yk_router *router, const struct yk_router_request *request,
                   const struct yk_router_node *node, struct yk_router_choice *ret_choice) {
    struct job job = {.router = router, .request = request, .node = node};
    job.curves = route_curves_of(router, node->id);
    job.slow = slowness(router, node->tokens_s);
    job.tokens = request->tokens < YK_ROUTER_TOKENS_MAX ? request->tokens : YK_ROUTER_TOKENS_MAX;
    job.blocks = request->blocks < YK_ROUTER_BLOCKS_MAX ? request->blocks : YK_ROUTER_BLOCKS_MAX;
    job.block_tokens = request->block_tokens;
    if (job.block_tokens == 0 && job.blocks > 0)
        job.block_tokens = job.tokens / job.blocks;
    *ret_choice = (struct yk_router_choice){.id = node->id, .slow = job.slow};
    predict_queue(&job, ret_choice);
    find_runs(&job);
    choose(&job, ret_choice);
    ret_choice->worse_s = ret_choice->ttft_s * job.curves->tail_ratio;
    ret_choice->meets = !(request->objective_s > 0) || ret_choice->worse_s <= request->objective_s;
    ret_choice->silent = router->opts.silent_ms > 0 &&
                         (double)request->now_ms - (double)node->reported_ms > router->opts.silent_ms;
}
