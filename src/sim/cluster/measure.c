/* SPDX-License-Identifier: Apache-2.0
 *
 * What is counted while a cluster runs, and what follows from it at the end.
 */
#include "sim/cluster/cluster_priv.h"

static struct yk_sim_step *step_of(struct cluster *c, double at) {
    double i = at / c->result->step_s; /* may be more than a uint32_t has: a trace's last time need not be its latest */
    return &c->result->steps[i < YK_SIM_STEPS ? (uint32_t)i : YK_SIM_STEPS - 1];
}

static uint64_t to_ns(double seconds) {
    return seconds > 0 ? (uint64_t)(seconds * 1e9 + 0.5) : 0;
}

void measure_arrival(struct cluster *c, const struct job *j) {
    const struct yk_sim_req *q = job_req(c, j);
    if (c->result->requests++ == 0)
        c->result->began_s = j->arrived;
    c->result->blocks += q->n;
    c->result->node[j->node].requests++;
    c->result->node[j->node].blocks += q->n;
    step_of(c, j->arrived)->blocks += q->n;
}

void measure_bytes(struct cluster *c, const struct job *j, uint32_t from, uint32_t source, double bytes) {
    struct yk_sim_cluster_result *r = c->result;
    r->asked_bytes[from] += bytes;
    if (from != YK_SIM_REMOTE)
        return;
    step_of(c, c->now)->cross_bytes += bytes;
    r->node[source].sent_bytes += bytes;
    r->node[j->node].received_bytes += bytes;
    if (zone_of(c, source) != zone_of(c, j->node))
        r->cross_zone_bytes += bytes;
}

void measure_first_token(struct cluster *c, struct job *j) {
    struct yk_sim_cluster_result *r = c->result;
    struct yk_sim_step *step = step_of(c, j->arrived);
    double ready = j->started + j->compute_s, stalled = j->computed > ready ? j->computed - ready : 0;
    bool is_far = j->hits[YK_SIM_SSD] + j->hits[YK_SIM_REMOTE] > 0;
    r->computed_tokens += (uint64_t)(j->tokens - j->hit_tokens);
    r->node[j->node].prefill_busy_s += j->computed - j->started;
    r->prefilled_s = j->computed;
    if (j->first_s > 0)
        return; /* computed again, as its node failed */
    j->first_s = j->computed;
    yk_hist_record(&r->ttft, to_ns(j->computed - j->arrived));
    for (uint32_t i = 0; i < YK_SIM_FROMS; i++) {
        r->hits[i] += j->hits[i];
        step->hits[i] += j->hits[i];
        r->node[j->node].hit_blocks += j->hits[i];
    }
    r->queued_s += j->started - j->arrived;
    r->load_s += j->load_s;
    r->stalled_s += stalled;
    r->far_load_s += is_far ? j->load_s : 0;
    r->far_stalled_s += is_far ? stalled : 0;
    r->prompt_tokens += (uint64_t)j->tokens;
}

void measure_end(struct cluster *c, const struct job *j) {
    struct yk_sim_cluster_result *r = c->result;
    uint32_t tokens = job_req(c, j)->output_length;
    double between = tokens > 1 ? (j->ended - j->first_s) / (tokens - 1) : 0;
    if (tokens > 1)
        yk_hist_record(&r->tbt, to_ns(between));
    r->output_tokens += tokens;
    r->finished++;
    r->ended_s = j->ended;
    r->good += (c->opts->ttft_objective_s == 0 || j->first_s - j->arrived <= c->opts->ttft_objective_s) &&
               (c->opts->tbt_objective_s == 0 || between <= c->opts->tbt_objective_s);
}

/* ---- shares of what the cluster could have done in the time ---- */

static double carried(const struct cluster *c, enum node_link which) {
    double bytes = 0;
    for (uint32_t i = 0; i < c->opts->nodes; i++)
        bytes += c->flows.links[node_link(i, which)].carried;
    return bytes / c->opts->nodes / c->flows.links[which].bytes_s;
}

static double share(double of, double all) {
    return all > 0 ? of / all : 0;
}

void measure_all(struct cluster *c) {
    struct yk_sim_cluster_result *r = c->result;
    double prefill_s = r->prefilled_s - r->began_s, all_s = r->ended_s - r->began_s, uplinks = 0;
    double prefill_busy = 0, decode_busy = 0;
    const struct link *up = c->flows.links + (size_t)c->opts->nodes * NODE_LINKS;
    for (uint32_t i = 0; i < c->opts->nodes; i++) {
        prefill_busy += r->node[i].prefill_busy_s;
        decode_busy += r->node[i].decode_busy_s;
    }
    for (uint32_t i = 0; i < c->opts->zones; i++)
        uplinks += up[i * 2].carried / up[i * 2].bytes_s / c->opts->zones;
    r->prefill_utilisation = share(prefill_busy / c->opts->nodes, prefill_s);
    r->decode_utilisation = share(decode_busy / c->opts->nodes, all_s);
    r->nic_utilisation = share(carried(c, LINK_IN), prefill_s);
    r->ssd_utilisation = share(carried(c, LINK_SSD), prefill_s);
    r->pcie_utilisation = share(carried(c, LINK_PCIE), prefill_s);
    r->uplink_utilisation = share(uplinks, prefill_s);
    r->trainings = c->copies.trainings;
}
