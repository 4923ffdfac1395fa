/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's prefill instance: one request at a time, in the order in which they came, or so that nobody waits long
 * for how little it computes (--order ratio: a short one passes a long one, which passes all in time).
 *
 * Compute follows the load layer by layer: with all layers the same, a request that began at s, computes for c seconds
 * and has all its blocks at e is done at max(s + c, e + c / layers), as the last layer is computed when it is there
 * and no layer before it waits longer than it does.
 */
#include "sim/cluster/cluster_priv.h"

static void compute(struct cluster *c, uint32_t node) {
    struct node *n = &c->node[node];
    n->state = PREFILL_COMPUTE;
    timers_set(&c->timers, node, c->now + c->jobs[n->running].compute_s);
}

/* Takes the next out of the queue. A walk: queues are short, or nothing helps any more. */
static uint32_t next_of(struct cluster *c, struct node *n) {
    uint32_t best = n->first, before = NONE;
    double most = 0;
    if (c->opts->order == YK_SIM_BY_RATIO) {
        for (uint32_t at = n->first, prev = NONE; at != NONE; prev = at, at = c->jobs[at].next) {
            double ratio = 1 + (c->now - c->jobs[at].arrived) / c->jobs[at].backlog_s;
            if (ratio > most || (ratio == most && c->jobs[at].backlog_s < c->jobs[best].backlog_s)) {
                most = ratio;
                best = at;
                before = prev;
            }
        }
    }
    *(before != NONE ? &c->jobs[before].next : &n->first) = c->jobs[best].next;
    n->last = n->last == best ? before : n->last;
    return best;
}

/* What is there is known only now: others may have computed some of it while this one waited. */
static int start(struct cluster *c, uint32_t node) {
    struct node *n = &c->node[node];
    if (n->first == NONE)
        return 0;
    uint32_t job = next_of(c, n);
    struct job *j = &c->jobs[job];
    n->running = job;
    j->started = c->now;
    int rc = c->opts->prefetch != YK_SIM_AT_ARRIVAL ? copies_request(&c->copies, node, j->number, c->now) : 0;
    if (rc == 0)
        rc = plan_load(c, job);
    if (rc < 0)
        return rc;
    double hit = (double)j->run * c->opts->block_tokens;
    j->hit_tokens = hit < j->tokens - 1 ? hit : j->tokens - 1;
    j->compute_s = cost_prefill_s(&c->cost, j->hit_tokens, j->tokens);
    if (c->opts->prefetch == YK_SIM_BEFORE && j->flows > 0)
        n->state = PREFILL_LOADING;
    else
        compute(c, node);
    return 0;
}

int prefill_join(struct cluster *c, uint32_t job) {
    struct job *j = &c->jobs[job];
    struct node *n = &c->node[j->node];
    int rc = 0;
    if (c->opts->prefetch == YK_SIM_AT_ARRIVAL) {
        rc = copies_request(&c->copies, j->node, j->number, c->now);
        rc = rc == 0 ? plan_load(c, job) : rc;
    }
    if (rc < 0)
        return rc;
    double hit = (double)j->run * c->opts->block_tokens;
    j->hit_tokens = hit < j->tokens - 1 ? hit : j->tokens - 1;
    j->backlog_s = cost_prefill_s(&c->cost, j->hit_tokens, j->tokens);
    j->waiting_tokens = j->tokens - j->hit_tokens;
    n->waiting++;
    n->waiting_tokens += j->waiting_tokens;
    n->backlog_s += j->backlog_s;
    j->next = NONE;
    *(n->last != NONE ? &c->jobs[n->last].next : &n->first) = job;
    n->last = job;
    return n->running == NONE ? start(c, j->node) : 0;
}

static void lose(struct cluster *c, uint32_t job, uint32_t *list) {
    c->jobs[job].next = *list;
    *list = job;
}

void prefill_lose(struct cluster *c, uint32_t node, uint32_t *list) {
    struct node *n = &c->node[node];
    while (n->first != NONE) {
        uint32_t job = n->first;
        n->first = c->jobs[job].next;
        lose(c, job, list);
    }
    if (n->running != NONE)
        lose(c, n->running, list);
    timers_stop(&c->timers, node);
    n->state = PREFILL_IDLE;
    n->running = n->last = NONE;
    n->waiting = 0;
    n->waiting_tokens = n->backlog_s = 0;
}

static int finish(struct cluster *c, uint32_t node) {
    struct node *n = &c->node[node];
    uint32_t job = n->running;
    struct job *j = &c->jobs[job];
    n->waiting--;
    n->waiting_tokens -= j->waiting_tokens;
    n->backlog_s = n->waiting > 0 ? n->backlog_s - j->backlog_s : 0;
    n->running = NONE;
    n->state = PREFILL_IDLE;
    j->computed = c->now;
    measure_first_token(c, j);
    routing_tell(c, j);
    int rc = plan_store(c, job);
    if (rc == 0)
        rc = decode_join(c, job);
    return rc == 0 ? start(c, node) : rc;
}

int prefill_step(struct cluster *c, uint32_t node) {
    struct node *n = &c->node[node];
    const struct job *j = &c->jobs[n->running];
    timers_stop(&c->timers, node);
    if (n->state == PREFILL_LAST)
        return finish(c, node);
    if (j->flows > 0) {
        n->state = PREFILL_STALLED;
        return 0;
    }
    double last = j->loaded + j->compute_s / c->cost.layers;
    if (last <= c->now || c->opts->prefetch == YK_SIM_BEFORE)
        return finish(c, node);
    n->state = PREFILL_LAST;
    timers_set(&c->timers, node, last);
    return 0;
}

int prefill_loaded(struct cluster *c, uint32_t job) {
    struct job *j = &c->jobs[job];
    struct node *n = &c->node[j->node];
    if (n->running != job)
        return 0;
    if (n->state == PREFILL_LOADING)
        compute(c, j->node);
    if (n->state == PREFILL_STALLED) {
        n->state = PREFILL_LAST;
        timers_set(&c->timers, j->node, c->now + j->compute_s / c->cost.layers);
    }
    return 0;
}
