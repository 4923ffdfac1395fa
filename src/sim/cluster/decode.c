/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's decode instance: all its requests make a token in each step.
 *
 * How long a step takes depends on how many there are and how long their contexts are, so it changes when one comes or
 * goes, and only then (contexts count as they are halfway). Between two changes only time passes: the instance
 * counts steps, a request is due at a step, and a heap knows whose is next. One event a request, not one a token.
 */
#include "sim/cluster/cluster_priv.h"

static bool is_due_before(const void *owner, uint32_t a, uint32_t b) {
    const struct job *jobs = owner;
    return jobs[a].due != jobs[b].due ? jobs[a].due < jobs[b].due : a < b;
}

static void placed(void *owner, uint32_t item, uint32_t place) {
    (void)owner;
    (void)item;
    (void)place;
}

static void pass(struct cluster *c, uint32_t node) {
    struct node *n = &c->node[node];
    if (n->n_batch > 0) {
        n->steps += (c->now - n->step_at) / n->step_s;
        c->result->node[node].decode_busy_s += c->now - n->step_at;
    } else {
        n->steps = 0;
        n->context = 0;
    }
    n->step_at = c->now;
}

static void pace(struct cluster *c, uint32_t node) {
    struct node *n = &c->node[node];
    uint32_t timer = c->opts->nodes + node;
    if (n->n_batch == 0) {
        timers_stop(&c->timers, timer);
        return;
    }
    n->step_s = cost_step_s(&c->cost, n->n_batch, n->context);
    double left = c->jobs[n->batch[0]].due - n->steps;
    timers_set(&c->timers, timer, c->now + (left > 0 ? left * n->step_s : 0));
}

static double context_of(const struct cluster *c, const struct job *j) {
    return j->tokens + job_req(c, j)->output_length / 2;
}

static void end(struct cluster *c, uint32_t job) {
    c->jobs[job].ended = c->now;
    measure_end(c, &c->jobs[job]);
    cluster_free_job(c, job);
}

int decode_join(struct cluster *c, uint32_t job) {
    struct job *j = &c->jobs[job];
    struct node *n = &c->node[j->node];
    if (job_req(c, j)->output_length < 2) {
        end(c, job);
        return 0;
    }
    if (n->n_batch == n->cap_batch) {
        uint32_t cap = n->cap_batch != 0 ? n->cap_batch * 2 : 8;
        uint32_t *batch = realloc(n->batch, cap * sizeof(*batch));
        if (batch == NULL)
            return -YK_ENOMEM;
        n->batch = batch;
        n->cap_batch = cap;
    }
    pass(c, j->node);
    j->due = n->steps + job_req(c, j)->output_length - 1;
    n->context += context_of(c, j);
    n->n_batch++;
    yk_heap_sift(n->batch, n->n_batch, n->n_batch - 1, job, is_due_before, placed, c->jobs);
    pace(c, j->node);
    return 0;
}

void decode_lose(struct cluster *c, uint32_t node, uint32_t *list) {
    struct node *n = &c->node[node];
    pass(c, node);
    while (n->n_batch > 0) {
        uint32_t job = n->batch[--n->n_batch];
        c->jobs[job].next = *list;
        *list = job;
    }
    pass(c, node);
    pace(c, node);
}

void decode_step(struct cluster *c, uint32_t node) {
    struct node *n = &c->node[node];
    uint32_t job = n->batch[0];
    pass(c, node);
    n->steps = c->jobs[job].due; /* that is when this timer was set to come */
    n->context -= context_of(c, &c->jobs[job]);
    uint32_t last = n->batch[--n->n_batch];
    if (n->n_batch > 0)
        yk_heap_sift(n->batch, n->n_batch, 0, last, is_due_before, placed, c->jobs);
    pace(c, node);
    end(c, job);
}
