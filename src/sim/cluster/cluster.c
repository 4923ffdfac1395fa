/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole run: arrivals as the trace has them, between them whatever comes due (cluster.h).
 */
#include "sim/cluster/cluster_priv.h"

#include <math.h>
#include <string.h>

const char *const yk_sim_prefetch_names[] = {"arrival", "start", "before", NULL};
const char *const yk_sim_replicas_names[] = {"keep", "yield", NULL};
const char *const yk_sim_writes_names[] = {"leaving", "new", NULL};
const char *const yk_sim_order_names[] = {"arrival", "ratio", NULL};

#define JOBS_MIN       1024u
#define MTBF_MIN_S     1.0
#define PROGRESS_STEPS 4096u /* requests */

/* ---- jobs ---- */

static int new_job(struct cluster *c, uint32_t *ret_job) {
    if (c->free_job != NONE) {
        *ret_job = c->free_job;
        c->free_job = c->jobs[*ret_job].next;
        return 0;
    }
    if (c->n_jobs == c->cap_jobs) {
        uint32_t cap = c->cap_jobs != 0 ? c->cap_jobs * 2 : JOBS_MIN;
        struct job *jobs = realloc(c->jobs, cap * sizeof(*jobs));
        if (jobs == NULL)
            return -YK_ENOMEM;
        c->jobs = jobs;
        c->cap_jobs = cap;
    }
    *ret_job = c->n_jobs++;
    return 0;
}

void cluster_free_job(struct cluster *c, uint32_t job) {
    c->jobs[job].next = c->free_job;
    c->free_job = job;
}

/* ---- events ---- */

static double tokens_of(const struct cluster *c, const struct yk_sim_req *q) {
    double tokens = q->input_length != 0 ? q->input_length : (double)q->n * c->opts->block_tokens;
    return tokens > 1 ? tokens : 1;
}

static int arrive(struct cluster *c, uint64_t number) {
    uint32_t job;
    if (new_job(c, &job) < 0)
        return -YK_ENOMEM;
    struct job *j = &c->jobs[job];
    *j = (struct job){.number = number, .arrived = c->now, .next = NONE};
    j->tokens = tokens_of(c, &c->trace->reqs[number]);
    return cluster_send(c, job);
}

int cluster_send(struct cluster *c, uint32_t job) {
    struct job *j = &c->jobs[job];
    int rc = routing_choose(c, j);
    if (rc < 0)
        return rc;
    if (j->arrived >= c->now)
        measure_arrival(c, j);
    return prefill_join(c, job);
}

void cluster_set_now(struct cluster *c, double now) {
    c->now = now;
    c->copies.now_s = (float)now;
}

static int step(struct cluster *c) {
    uint32_t timer = c->timers.heap[0], nodes = c->opts->nodes;
    cluster_set_now(c, c->timers.at[timer]);
    c->result->events++;
    if (timer < nodes)
        return prefill_step(c, timer);
    if (timer < 2 * nodes) {
        decode_step(c, timer - nodes);
        return 0;
    }
    uint32_t flow = timer - 2 * nodes;
    if (!flows_step(&c->flows, c->now, flow))
        return 0;
    timers_stop(&c->timers, timer);
    return plan_arrived(c, flow);
}

static double arrival_s(const struct cluster *c, uint64_t number) {
    return (double)c->trace->reqs[number].at_ms / 1e3 / c->opts->load;
}

static double next_event(const struct cluster *c) {
    return c->timers.n > 0 ? c->timers.at[c->timers.heap[0]] : INFINITY;
}

static int run_until(struct cluster *c, double until) {
    int rc = 0;
    while (rc == 0 && (next_event(c) <= until || c->fails_at <= until)) {
        if (c->fails_at < next_event(c)) {
            cluster_set_now(c, c->fails_at);
            rc = fail_next(c);
        } else {
            rc = step(c);
        }
    }
    return rc;
}

static int run(struct cluster *c) {
    uint64_t all = c->trace->req_count;
    int rc = 0;
    c->random = c->opts->seed;
    fail_plan(c);
    for (uint64_t i = 0; rc == 0 && i < all; i++) {
        double at = arrival_s(c, i);
        rc = run_until(c, at);
        cluster_set_now(c, at > c->now ? at : c->now); /* a trace that goes back stands still */
        rc = rc == 0 ? arrive(c, i) : rc;
        if (c->opts->progress != NULL && i % PROGRESS_STEPS == 0)
            c->opts->progress(c->opts->progress_arg, i, all);
    }
    while (rc == 0 && c->timers.n > 0)
        rc = step(c);
    return rc;
}

/* ---- making it ---- */

void yk_sim_cluster_opts_init(struct yk_sim_cluster_opts *o) {
    *o = (struct yk_sim_cluster_opts){.nodes = 1,
                                      .zones = 1,
                                      .blocks = {0, 2000, 0},
                                      .policy = "lru",
                                      .model = "8b",
                                      .gpu = "h100",
                                      .router = YK_SIM_CACHE_AWARE,
                                      .oversubscription = 4,
                                      .ssd_bytes_s = 12e9,
                                      .load = 1,
                                      .block_tokens = 512,
                                      .ttft_objective_s = 2,
                                      .tbt_objective_s = 0.1,
                                      .seed = 1};
    (void)yk_sim_link_parse("rdma:8", &o->link, NULL);
}

static int check(const struct yk_sim_trace *t, const struct yk_sim_cluster_opts *o, struct yk_err *err) {
    if (o->nodes == 0 || o->nodes > YK_SIM_NODES_MAX)
        return yk_err_set(err, -YK_EINVAL, "found %u nodes, expected 1 to %u", o->nodes, YK_SIM_NODES_MAX);
    if (o->zones == 0 || o->zones > o->nodes)
        return yk_err_set(err, -YK_EINVAL, "found %u zones of %u nodes, expected a node in each", o->zones, o->nodes);
    if (o->blocks[YK_SIM_VRAM] == 0 && o->blocks[YK_SIM_DRAM] == 0)
        return yk_err_set(err, -YK_EINVAL, "found no room in VRAM and DRAM, expected a block at least in one of them");
    if (o->blocks[YK_SIM_SSD] != 0 && o->blocks[YK_SIM_DRAM] == 0)
        return yk_err_set(err, -YK_EINVAL, "found room on SSD without DRAM, expected DRAM before it");
    if (!(o->load > 0) || !isfinite(o->load) || o->block_tokens == 0 || !(o->ssd_bytes_s > 0) ||
        !(o->oversubscription >= 1) || !(o->report_s >= 0) || !(o->directory_s >= 0) || !(o->mtbf_s >= 0) || !(o->link.bytes_s > 0) || !(o->link.uplink_bytes_s > 0))
        return yk_err_set(err, -YK_EINVAL, "found a load, block size, link or SSD out of range, expected positive ones");
    if (o->mtbf_s > 0 && o->mtbf_s < MTBF_MIN_S)
        return yk_err_set(err, -YK_EINVAL, "found nodes that fail each %g s, expected %g s or more", o->mtbf_s, MTBF_MIN_S);
    if (t->req_count == 0)
        return yk_err_set(err, -YK_EINVAL, "found a trace without a request, expected one at least");
    return 0;
}

/* Nodes are dealt to zones in turn, so the first ones have one more where it does not come out even. */
static void set_links(struct cluster *c) {
    const struct yk_sim_cluster_opts *o = c->opts;
    const double bytes_s[NODE_LINKS] = {c->cost.pcie_bytes_s, o->ssd_bytes_s, o->link.bytes_s, o->link.bytes_s};
    for (uint32_t i = 0; i < o->nodes * NODE_LINKS; i++)
        flows_set_link(&c->flows, i, bytes_s[i % NODE_LINKS]);
    for (uint32_t zone = 0; zone < o->zones; zone++) {
        uint32_t in_zone = o->nodes / o->zones + (zone < o->nodes % o->zones);
        double up = in_zone * o->link.uplink_bytes_s / o->oversubscription;
        flows_set_link(&c->flows, o->nodes * NODE_LINKS + zone * 2, up);
        flows_set_link(&c->flows, o->nodes * NODE_LINKS + zone * 2 + 1, up);
    }
}

static int make(struct cluster *c, struct yk_err *err) {
    const struct yk_sim_cluster_opts *o = c->opts;
    int rc = cost_init(&c->cost, o, err);
    if (rc == 0)
        rc = copies_init(&c->copies, c->trace, o, err);
    if (rc < 0)
        return rc;
    c->node = calloc(o->nodes, sizeof(*c->node));
    c->result->node = calloc(o->nodes, sizeof(*c->result->node));
    c->result->nodes = o->nodes;
    if (c->node == NULL || c->result->node == NULL || timers_room(&c->timers, 2 * o->nodes) < 0 ||
        flows_init(&c->flows, o->nodes * NODE_LINKS + o->zones * 2, &c->timers, 2 * o->nodes) < 0)
        return yk_err_set(err, -YK_ENOMEM, "no memory for %u nodes", o->nodes);
    for (uint32_t i = 0; i < o->nodes; i++)
        c->node[i] = (struct node){.running = NONE, .first = NONE, .last = NONE};
    set_links(c);
    double last = arrival_s(c, c->trace->req_count - 1);
    c->result->step_s = last > 0 ? last / YK_SIM_STEPS : 1;
    return routing_init(c) < 0 ? yk_err_set(err, -YK_ENOMEM, "no memory for the router") : 0;
}

static void free_all(struct cluster *c) {
    for (uint32_t i = 0; c->node != NULL && i < c->opts->nodes; i++)
        free(c->node[i].batch);
    routing_fini(c);
    copies_fini(&c->copies);
    flows_fini(&c->flows);
    timers_fini(&c->timers);
    free(c->node);
    free(c->jobs);
}

void yk_sim_cluster_result_fini(struct yk_sim_cluster_result *r) {
    free(r->node);
    r->node = NULL;
}

int yk_sim_cluster_run(const struct yk_sim_trace *trace, const struct yk_sim_cluster_opts *opts,
                       struct yk_sim_cluster_result *ret, struct yk_err *err) {
    struct yk_sim_cluster_result r = {0};
    struct cluster c = {.trace = trace, .opts = opts, .result = &r, .free_job = NONE};
    int rc = check(trace, opts, err);
    if (rc < 0)
        return rc;
    rc = make(&c, err);
    if (rc == 0 && (rc = run(&c)) != 0)
        rc = yk_err_set(err, rc < 0 ? rc : -YK_EINTERNAL, "failed after %llu requests", (unsigned long long)r.requests);
    if (rc == 0)
        measure_all(&c);
    free_all(&c);
    if (rc < 0)
        yk_sim_cluster_result_fini(&r);
    else
        *ret = r;
    return rc;
}
