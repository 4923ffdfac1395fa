/* SPDX-License-Identifier: Apache-2.0
 *
 * Which node takes a request.
 *
 *   round-robin    the next one
 *   least-loaded   the one whose queue takes the least time
 *   cache-aware    the one whose tiers have most of the leading run, whatever its queue; the least loaded of equals
 *   learned        src/sched/route.h, which is told what a node would report, and how each request went
 *
 * How far each node leads is counted from the directory, block by block, over the copies there are: a node that has
 * block i and led as far as i leads to i + 1. So it costs as much as there are copies, not nodes times blocks.
 *
 * A node would take what it lacks from the one that leads farthest, or from one of its zone that leads as far: across
 * zones the router is told what the uplinks would give one more flow.
 *
 * With --report-every loads are those of the last report, with --directory-delay copies count some time after they
 * came; what is gone is known at once, which a node that asks finds out as well.
 *
 * The learned router predicts each node it is shown with some care, 0.3 us a node and more. Of a larger cluster it is
 * shown CANDIDATES nodes: those whose queue, less what their blocks save, is shortest. Its first choice is taken, without
 * drawing among equals. Nodes fetch what they find whatever the router, which only says where.
 */
#include "sim/cluster/cluster_priv.h"

#include <math.h>

#define SOURCES       4u /* of a node: its tiers, and the node that leads farthest */
#define DECISIONS_MAX (1u << 18)
#define CANDIDATES    64u

/* Of the objective between tokens, beyond which a node refuses: what waits for its prefill comes on top. */
#define FULL_SHARE 0.5
#define FULL_KEY_S 1e6 /* such nodes are shown after all others */

const char *const yk_sim_router_names[] = {"round-robin", "least-loaded", "cache-aware", "learned", NULL};

/* ---- how far nodes lead ---- */

static uint32_t *reach_of(struct cluster *c, uint32_t node, uint32_t tier) {
    return &c->reach[node * YK_SIM_TIERS + tier];
}

/* A copy of block i in this tier: it and the slower ones lead on. */
static bool reach_on(struct cluster *c, uint32_t cache, uint32_t i) {
    uint32_t node = cache / YK_SIM_TIERS;
    bool on = false;
    if (i == 0 && *reach_of(c, node, YK_SIM_SSD) == 0)
        c->reached[c->n_reached++] = node;
    for (uint32_t t = cache % YK_SIM_TIERS; t < YK_SIM_TIERS; t++) {
        uint32_t *reach = reach_of(c, node, t);
        on |= *reach == i;
        *reach += *reach == i;
    }
    return on;
}

static bool is_known(const struct cluster *c, const struct copy *copy) {
    return c->opts->directory_s == 0 || (double)copy->came_s + c->opts->directory_s <= c->now;
}

static void find_reach(struct cluster *c, const struct job *j) {
    const struct yk_sim_req *q = job_req(c, j);
    const struct copies *s = &c->copies;
    while (c->n_reached > 0) {
        uint32_t node = c->reached[--c->n_reached];
        for (uint32_t t = 0; t < YK_SIM_TIERS; t++)
            *reach_of(c, node, t) = 0;
    }
    bool on = true;
    for (uint32_t i = 0; i < q->n && on; i++) {
        on = false;
        for (uint32_t place = s->first[c->trace->blocks[q->first + i]]; place != NONE; place = s->copy[place].next)
            if (is_known(c, &s->copy[place]))
                on |= reach_on(c, s->copy[place].cache, i);
    }
}

/* ---- what is told of loads ---- */

static void report(struct cluster *c, uint32_t i) {
    const struct node *n = &c->node[i];
    c->reports[i] = (struct report){.backlog_s = n->backlog_s,
                                    .waiting_tokens = n->waiting_tokens,
                                    .context = n->context,
                                    .waiting = n->waiting,
                                    .n_batch = n->n_batch};
    if (c->opts->router == YK_SIM_LEARNED_ROUTER)
        c->reports[i].idle_s = copies_idle_s(&c->copies, cache_of(i, c->fills));
}

/* All at once, when it is time again. */
static void report_all(struct cluster *c) {
    double every = c->opts->report_s;
    if (every == 0 || c->now < c->reported_s + every)
        return;
    for (uint32_t i = 0; i < c->opts->nodes; i++)
        report(c, i);
    c->reported_s = floor(c->now / every) * every;
}

static double backlog_of(const struct cluster *c, uint32_t i) {
    return c->opts->report_s > 0 ? c->reports[i].backlog_s : c->node[i].backlog_s;
}

static const struct report *told_of(struct cluster *c, uint32_t i) {
    if (c->opts->report_s == 0)
        report(c, i);
    return &c->reports[i];
}

/* ---- simple ones ---- */

/* Of equals the next in turn, so that idle nodes are not all the first. */
static uint32_t least_loaded(struct cluster *c) {
    uint32_t nodes = c->opts->nodes, best = c->turn++ % nodes;
    for (uint32_t k = 1, i = best; k < nodes; k++) {
        i = i + 1 < nodes ? i + 1 : 0;
        if (backlog_of(c, i) < backlog_of(c, best))
            best = i;
    }
    return best;
}

static uint32_t cache_aware(struct cluster *c, const struct job *j) {
    uint32_t best = NONE;
    find_reach(c, j);
    for (uint32_t i = 0; i < c->n_reached; i++) {
        uint32_t node = c->reached[i], reach = *reach_of(c, node, YK_SIM_SSD);
        uint32_t best_reach = best != NONE ? *reach_of(c, best, YK_SIM_SSD) : 0;
        if (reach > best_reach || (reach == best_reach && backlog_of(c, node) < backlog_of(c, best)))
            best = node;
    }
    return best != NONE ? best : least_loaded(c);
}

/* ---- learned ---- */

static double busy(const struct cluster *c, uint32_t link) {
    double n = c->flows.links[link].n;
    return n / (n + 1);
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double smaller(double a, double b) {
    return a < b ? a : b;
}

static void add_source(struct yk_router_node *node, struct yk_router_source *sources, struct yk_router_source source) {
    if (source.blocks > 0)
        sources[node->n_sources++] = source;
}

static uint64_t to_ms(double seconds) {
    return (uint64_t)(seconds * 1e3 + 0.5);
}

/* Another request would make the tokens of all in its batch come too slowly. */
static bool is_full(const struct cluster *c, uint32_t i, const struct job *j) {
    uint32_t batch = c->opts->report_s > 0 ? c->reports[i].n_batch : c->node[i].n_batch;
    double context = c->opts->report_s > 0 ? c->reports[i].context : c->node[i].context;
    return c->opts->tbt_objective_s > 0 &&
           cost_step_s(&c->cost, batch + 1, context + j->tokens) > c->opts->tbt_objective_s * FULL_SHARE;
}

/* Across zones, an uplink's share is what there is. */
static struct yk_router_source far_source(struct cluster *c, uint32_t i, uint32_t peer) {
    uint32_t from = zone_of(c, peer), to = zone_of(c, i), up = c->opts->nodes * NODE_LINKS;
    struct yk_router_source s = {.from = YK_ROUTER_PEER,
                                 .blocks = *reach_of(c, peer, YK_SIM_SSD),
                                 .bytes_s = c->opts->link.bytes_s,
                                 .latency_s = c->opts->link.latency_s,
                                 .load = larger(busy(c, node_link(i, LINK_IN)), busy(c, node_link(peer, LINK_OUT))),
                                 .peer = peer};
    if (from == to)
        return s;
    const struct link *out = &c->flows.links[up + from * 2], *in = &c->flows.links[up + to * 2 + 1];
    double part = smaller(out->bytes_s / (out->n + 1), in->bytes_s / (in->n + 1));
    s.latency_s *= 2;
    if (part < s.bytes_s * (1 - s.load)) {
        s.bytes_s = part;
        s.load = 0;
    }
    return s;
}

/* As the place-th of those that the router is shown. */
static void describe(struct cluster *c, uint32_t place, uint32_t i, uint32_t peer, const struct job *j) {
    struct yk_router_node *node = &c->router_nodes[place];
    const struct report *told = told_of(c, i);
    struct yk_router_source *sources = &c->router_sources[place * SOURCES];
    *node = (struct yk_router_node){.id = i,
                                    .zone = zone_of(c, i),
                                    .reported_ms = to_ms(c->opts->report_s > 0 ? c->reported_s : c->now),
                                    .refuses = is_full(c, i, j),
                                    .waiting = told->waiting,
                                    .waiting_tokens = (uint64_t)(told->waiting_tokens + 0.5),
                                    .idle_s = told->idle_s,
                                    .sources = sources};
    add_source(node, sources, (struct yk_router_source){.from = YK_ROUTER_VRAM, .blocks = *reach_of(c, i, YK_SIM_VRAM)});
    add_source(node, sources,
               (struct yk_router_source){.from = YK_ROUTER_DRAM,
                                         .blocks = *reach_of(c, i, YK_SIM_DRAM),
                                         .bytes_s = c->cost.pcie_bytes_s,
                                         .load = busy(c, node_link(i, LINK_PCIE))});
    add_source(node, sources,
               (struct yk_router_source){.from = YK_ROUTER_SSD,
                                         .blocks = *reach_of(c, i, YK_SIM_SSD),
                                         .bytes_s = c->opts->ssd_bytes_s,
                                         .load = busy(c, node_link(i, LINK_SSD))});
    if (peer != NONE && peer != i)
        add_source(node, sources, far_source(c, i, peer));
}

static bool is_worse(const void *owner, uint32_t a, uint32_t b) {
    const struct cluster *c = owner;
    return c->keys[a] > c->keys[b];
}

static void placed(void *owner, uint32_t item, uint32_t place) {
    (void)owner;
    (void)item;
    (void)place;
}

/* Which nodes the router is shown; returns how many. A heap with the worst of the best at its top. */
static uint32_t choose_candidates(struct cluster *c, const struct job *j) {
    uint32_t nodes = c->opts->nodes, n = 0, i = c->turn++ % nodes;
    double block_s = 2 * c->cost.active_params * c->opts->block_tokens / c->cost.prefill_flops_s;
    for (uint32_t k = 0; k < nodes; k++, i = i + 1 < nodes ? i + 1 : 0) {
        c->keys[i] = backlog_of(c, i) - *reach_of(c, i, YK_SIM_SSD) * block_s;
        if (n == CANDIDATES && c->keys[i] >= c->keys[c->shown[0]])
            continue; /* most nodes of a large cluster end here, before more is asked of them */
        c->keys[i] += is_full(c, i, j) ? FULL_KEY_S : 0;
        if (n < CANDIDATES) {
            n++;
            yk_heap_sift(c->shown, n, n - 1, i, is_worse, placed, c);
        } else if (c->keys[i] < c->keys[c->shown[0]]) {
            yk_heap_sift(c->shown, n, 0, i, is_worse, placed, c);
        }
    }
    return n;
}

/* Of all, or of those of a zone. */
static uint32_t farther(struct cluster *c, uint32_t than, uint32_t node) {
    return than == NONE || *reach_of(c, node, YK_SIM_SSD) > *reach_of(c, than, YK_SIM_SSD) ? node : than;
}

/* The node that leads farthest; and that of each zone, which is as good for the nodes of it if it leads as far. */
static uint32_t find_farthest(struct cluster *c) {
    uint32_t best = NONE;
    for (uint32_t i = 0; i < c->n_reached; i++) {
        uint32_t node = c->reached[i], *of_zone = &c->of_zone[zone_of(c, node)];
        *of_zone = farther(c, *of_zone, node);
        best = farther(c, best, node);
    }
    return best;
}

/* Where this node would take what it has not. */
static uint32_t peer_of(struct cluster *c, uint32_t i, uint32_t farthest) {
    uint32_t near = c->of_zone[zone_of(c, i)];
    return near != NONE && *reach_of(c, near, YK_SIM_SSD) == *reach_of(c, farthest, YK_SIM_SSD) ? near : farthest;
}

static struct yk_router_request ask_of(const struct cluster *c, const struct job *j) {
    const struct yk_sim_req *q = job_req(c, j);
    uint64_t ids[2] = {0, 0};
    for (uint32_t i = 0; i < q->n && i < 2; i++)
        ids[i] = (c->trace->id[c->trace->blocks[q->first + i]] + 1) * UINT64_C(0xff51afd7ed558ccd);
    return (struct yk_router_request){.now_ms = to_ms(c->now),
                                      .tokens = (uint32_t)j->tokens,
                                      .blocks = q->n,
                                      .block_tokens = c->opts->block_tokens,
                                      .block_bytes = (uint64_t)c->cost.block_bytes,
                                      .output_tokens = q->output_length,
                                      .chain = yk_router_chain(ids, q->n)};
}

static int ask_router(struct cluster *c, struct job *j) {
    struct yk_router_request request = ask_of(c, j);
    struct yk_router_choice choice;
    struct yk_router_answer answer;
    find_reach(c, j);
    uint32_t farthest = find_farthest(c), shown = choose_candidates(c, j);
    for (uint32_t i = 0; i < shown; i++)
        describe(c, i, c->shown[i], peer_of(c, c->shown[i], farthest), j);
    for (uint32_t i = 0; i < c->n_reached; i++)
        c->of_zone[zone_of(c, c->reached[i])] = NONE;
    int rc = yk_router_rank(c->router, &request, c->router_nodes, shown, &choice, 1, &answer);
    if (rc < 0)
        return rc;
    if (answer.ranked == 0) { /* all are full */
        j->node = least_loaded(c);
        return 0;
    }
    j->node = choice.id;
    j->decision = yk_router_take(c->router, &request, &choice);
    return 0;
}

void routing_lost(struct cluster *c, uint32_t node) {
    if (c->router != NULL)
        yk_router_forget(c->router, node);
}

void routing_tell(struct cluster *c, const struct job *j) {
    if (j->decision == 0)
        return;
    double ready = j->started + j->compute_s;
    struct yk_router_outcome outcome = {.queue_s = j->started - j->arrived,
                                        .transfer_s = j->computed > ready ? j->computed - ready : 0,
                                        .compute_s = j->compute_s,
                                        .ttft_s = j->computed - j->arrived,
                                        .new_tokens = (uint32_t)(j->tokens - j->hit_tokens)};
    (void)yk_router_outcome(c->router, j->decision, &outcome);
}

/* ---- all of them ---- */

int routing_init(struct cluster *c) {
    const struct yk_sim_cluster_opts *o = c->opts;
    struct yk_router_opts opts = {.nodes_max = o->nodes, .decisions_max = DECISIONS_MAX, .seed = o->seed, .near_share = -1};
    c->fills = o->blocks[YK_SIM_DRAM] > 0 ? YK_SIM_DRAM : YK_SIM_VRAM;
    c->reach = calloc((size_t)o->nodes * YK_SIM_TIERS, sizeof(*c->reach));
    c->reached = calloc(o->nodes, sizeof(*c->reached));
    c->reports = calloc(o->nodes, sizeof(*c->reports));
    if (c->reach == NULL || c->reached == NULL || c->reports == NULL)
        return -YK_ENOMEM;
    if (o->router != YK_SIM_LEARNED_ROUTER)
        return 0;
    c->of_zone = calloc(o->zones, sizeof(*c->of_zone));
    c->keys = calloc(o->nodes, sizeof(*c->keys));
    c->shown = calloc(CANDIDATES, sizeof(*c->shown));
    c->router_nodes = calloc(CANDIDATES, sizeof(*c->router_nodes));
    c->router_sources = calloc(CANDIDATES * SOURCES, sizeof(*c->router_sources));
    if (c->of_zone == NULL || c->keys == NULL || c->shown == NULL || c->router_nodes == NULL || c->router_sources == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < o->zones; i++)
        c->of_zone[i] = NONE;
    yk_cost_compute_prior(yk_cost_shape_find(o->model), c->cost.prefill_flops_s, 0, &opts.compute);
    return yk_router_new(&opts, &c->router);
}

void routing_fini(struct cluster *c) {
    free(c->reach);
    free(c->reached);
    free(c->reports);
    free(c->of_zone);
    free(c->keys);
    free(c->shown);
    free(c->router_nodes);
    free(c->router_sources);
    yk_router_free(c->router);
}

int routing_choose(struct cluster *c, struct job *j) {
    report_all(c);
    switch (c->opts->router) {
    case YK_SIM_ROUND_ROBIN:
        j->node = c->turn++ % c->opts->nodes;
        return 0;
    case YK_SIM_LEAST_LOADED:
        j->node = least_loaded(c);
        return 0;
    case YK_SIM_CACHE_AWARE:
        j->node = cache_aware(c, j);
        return 0;
    case YK_SIM_LEARNED_ROUTER:
        return ask_router(c, j);
    }
    return -YK_EINVAL;
}
