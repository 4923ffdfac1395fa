/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a request's blocks come from, and where they stay.
 *
 * The leading run is followed block by block: what a tier of the node itself has is taken from the fastest, what none
 * has from another node, of whose copies a few are looked at for the one that leads farthest and has the least to
 * send. What came over a link or from SSD is in DRAM from when all of it has arrived; what was computed, from when it
 * is. What DRAM lets go is written to SSD, unless it is there or too much waits for the SSD as it is: what waits stays
 * in memory, beside DRAM's blocks, up to a part of them, and what comes on top is dropped unwritten, as a node does.
 * Or (--write new) what comes into DRAM is written at once, so that it can be dropped when a long prompt needs a
 * thousand places in one moment: about the same bytes, as what comes also leaves, but never in a burst.
 */
#include "sim/cluster/cluster_priv.h"

#define SOURCES_MAX   8u  /* of one request; what more nodes have is computed */
#define HOLDERS_MAX   8u  /* looked at for a block */
#define AHEAD_MAX     64u /* blocks, for the one that leads farthest */
#define WAITS_ONE_IN  8u  /* of DRAM's blocks; WAITS_MIN at least */
#define WAITS_MIN     64u
#define SSD_LATENCY_S 100e-6

struct source {
    uint32_t node, tier, blocks;
};

struct plan {
    struct cluster *c;
    struct job *job;
    const uint32_t *blocks; /* of the request */
    uint32_t n, node;
    uint32_t from_dram, from_ssd;
    struct source source[SOURCES_MAX];
    uint32_t n_sources;
    uint32_t current; /* node that the last block came from, or NONE */
};

/* ---- the leading run ---- */

static uint32_t find_at(const struct cluster *c, uint32_t node, uint32_t block, uint32_t *ret_tier) {
    for (uint32_t t = 0; t < YK_SIM_TIERS; t++) {
        uint32_t place = copies_find(&c->copies, cache_of(node, t), block);
        *ret_tier = t;
        if (place != NONE)
            return place;
    }
    return NONE;
}

static uint32_t leads(const struct plan *p, uint32_t node, uint32_t at) {
    uint32_t i = at, tier;
    while (i < p->n && i - at < AHEAD_MAX && find_at(p->c, node, p->blocks[i], &tier) != NONE)
        i++;
    return i - at;
}

/* The better of two holders: farther, then nearer, then quieter. */
static bool is_better(const struct plan *p, uint32_t node, uint32_t run, uint32_t than, uint32_t than_run) {
    const struct link *links = p->c->flows.links;
    if (than == NONE || run != than_run)
        return than == NONE || run > than_run;
    bool near = zone_of(p->c, node) == zone_of(p->c, p->node), than_near = zone_of(p->c, than) == zone_of(p->c, p->node);
    if (near != than_near)
        return near;
    return links[node_link(node, LINK_OUT)].n < links[node_link(than, LINK_OUT)].n;
}

static uint32_t choose_holder(const struct plan *p, uint32_t at) {
    const struct copies *s = &p->c->copies;
    uint32_t best = NONE, best_run = 0, looked = 0;
    for (uint32_t place = s->first[p->blocks[at]]; place != NONE && looked < HOLDERS_MAX; place = s->copy[place].next) {
        uint32_t node = s->copy[place].cache / YK_SIM_TIERS;
        if (node == p->node)
            continue;
        uint32_t run = leads(p, node, at);
        looked++;
        if (is_better(p, node, run, best, best_run)) {
            best = node;
            best_run = run;
        }
    }
    return best;
}

static bool note_source(struct plan *p, uint32_t node, uint32_t tier) {
    uint32_t i = 0;
    while (i < p->n_sources && (p->source[i].node != node || p->source[i].tier != tier))
        i++;
    if (i == SOURCES_MAX)
        return false;
    if (i == p->n_sources)
        p->source[p->n_sources++] = (struct source){.node = node, .tier = tier};
    p->source[i].blocks++;
    return true;
}

static bool take_remote(struct plan *p, uint32_t at) {
    uint32_t tier, place = NONE;
    if (p->c->opts->nodes == 1)
        return false;
    if (p->current != NONE)
        place = find_at(p->c, p->current, p->blocks[at], &tier);
    if (place == NONE) {
        p->current = choose_holder(p, at);
        place = p->current != NONE ? find_at(p->c, p->current, p->blocks[at], &tier) : NONE;
    }
    if (place == NONE || !note_source(p, p->current, tier))
        return false;
    if (p->c->opts->replicas == YK_SIM_YIELD)
        copies_yield(&p->c->copies, place);
    else
        copies_touch(&p->c->copies, place);
    p->job->hits[YK_SIM_REMOTE]++;
    return true;
}

static bool take(struct plan *p, uint32_t at) {
    uint32_t tier, place = find_at(p->c, p->node, p->blocks[at], &tier);
    if (place == NONE)
        return take_remote(p, at);
    p->current = NONE;
    p->job->hits[tier]++;
    p->from_dram += tier == YK_SIM_DRAM;
    p->from_ssd += tier == YK_SIM_SSD;
    if (tier == YK_SIM_SSD)
        copies_touch(&p->c->copies, place);
    return true;
}

/* ---- moving it ---- */

static int begin(struct plan *p, uint32_t from, uint32_t source, uint32_t blocks, const uint32_t *path, uint8_t n,
                 double latency_s) {
    struct cluster *c = p->c;
    struct job *j = p->job;
    double bytes = blocks * c->cost.block_bytes;
    int64_t flow = flows_begin(&c->flows, c->now, path, n, bytes, latency_s);
    if (flow < 0)
        return (int)flow;
    c->flows.flow[flow].job = (uint32_t)(j - c->jobs);
    c->flows.flow[flow].from = (uint8_t)from;
    if (j->flows++ == 0)
        j->load_began = c->now;
    measure_bytes(c, j, from, source, bytes);
    return 0;
}

static int begin_remote(struct plan *p, const struct source *s) {
    struct cluster *c = p->c;
    uint32_t path[PATH_MAX_LINKS], from = zone_of(c, s->node), to = zone_of(c, p->node);
    uint32_t uplinks = c->opts->nodes * NODE_LINKS;
    uint8_t n = 0;
    if (s->tier != YK_SIM_DRAM)
        path[n++] = node_link(s->node, s->tier == YK_SIM_SSD ? LINK_SSD : LINK_PCIE);
    path[n++] = node_link(s->node, LINK_OUT);
    if (from != to) {
        path[n++] = uplinks + from * 2;
        path[n++] = uplinks + to * 2 + 1;
    }
    path[n++] = node_link(p->node, LINK_IN);
    path[n++] = node_link(p->node, LINK_PCIE);
    double latency_s = c->opts->link.latency_s * (from != to ? 2 : 1) + (s->tier == YK_SIM_SSD ? SSD_LATENCY_S : 0);
    return begin(p, YK_SIM_REMOTE, s->node, s->blocks, path, n, latency_s);
}

static int begin_all(struct plan *p) {
    uint32_t path[] = {node_link(p->node, LINK_PCIE), node_link(p->node, LINK_SSD)};
    int rc = 0;
    if (p->from_dram > 0)
        rc = begin(p, YK_SIM_DRAM, p->node, p->from_dram, path, 1, 0);
    if (rc == 0 && p->from_ssd > 0)
        rc = begin(p, YK_SIM_SSD, p->node, p->from_ssd, path, 2, SSD_LATENCY_S);
    for (uint32_t i = 0; rc == 0 && i < p->n_sources; i++)
        rc = begin_remote(p, &p->source[i]);
    return rc;
}

int plan_load(struct cluster *c, uint32_t job) {
    struct job *j = &c->jobs[job];
    const struct yk_sim_req *q = job_req(c, j);
    struct plan p = {.c = c,
                     .job = j,
                     .blocks = c->trace->blocks + q->first,
                     .n = q->n,
                     .node = j->node,
                     .current = NONE};
    while (j->run < p.n && take(&p, j->run))
        j->run++;
    return begin_all(&p);
}

/* ---- where they stay ---- */

static bool is_on_ssd(const struct cluster *c, uint32_t node, uint32_t block) {
    return c->opts->blocks[YK_SIM_SSD] == 0 || copies_find(&c->copies, cache_of(node, YK_SIM_SSD), block) != NONE;
}

/* Writes it, if no more than so many blocks wait for that. Copies count as there from now on: what waits is in memory. */
static int write_out(struct cluster *c, uint32_t node, uint32_t block, double waits, bool *ret_written) {
    struct node *n = &c->node[node];
    double write_s = c->cost.block_bytes / (c->opts->ssd_bytes_s / 2);
    uint32_t gone;
    n->written_until = n->written_until > c->now ? n->written_until : c->now;
    *ret_written = n->written_until <= c->now + (waits > WAITS_MIN ? waits : WAITS_MIN) * write_s;
    if (!*ret_written)
        return 0;
    n->written_until += write_s;
    c->result->demoted++;
    c->result->written_bytes += c->cost.block_bytes;
    return copies_use(&c->copies, cache_of(node, YK_SIM_SSD), block, NONE, &gone);
}

static int demote(struct cluster *c, uint32_t node, uint32_t block) {
    bool written;
    if (block == NONE || is_on_ssd(c, node, block))
        return 0;
    int rc = write_out(c, node, block, c->opts->blocks[YK_SIM_DRAM] / WAITS_ONE_IN, &written);
    c->result->not_demoted += rc == 0 && !written;
    return rc;
}

/* It came into DRAM, where it stays for as long as DRAM turns over in: that is the time there is to write it. */
static int write_new(struct cluster *c, uint32_t node, uint32_t block) {
    bool written;
    if (c->opts->writes != YK_SIM_WRITE_NEW || is_on_ssd(c, node, block))
        return 0;
    return write_out(c, node, block, c->opts->blocks[YK_SIM_DRAM], &written);
}

/* Block i of a request, of which the one before it is next. */
static int keep(struct cluster *c, uint32_t node, const uint32_t *blocks, uint32_t i) {
    uint32_t gone;
    int rc = copies_use(&c->copies, cache_of(node, YK_SIM_DRAM), blocks[i], i > 0 ? blocks[i - 1] : NONE, &gone);
    rc = rc == 0 ? demote(c, node, gone) : rc;
    return rc == 0 ? write_new(c, node, blocks[i]) : rc;
}

int plan_arrived(struct cluster *c, uint32_t flow) {
    struct flow *w = &c->flows.flow[flow];
    uint32_t job = w->job;
    struct job *j = &c->jobs[job];
    const uint32_t *blocks = c->trace->blocks + job_req(c, j)->first;
    int rc = 0;
    c->result->loaded_bytes += w->bytes;
    flows_free(&c->flows, flow);
    if (--j->flows > 0)
        return 0;
    j->loaded = c->now;
    j->load_s += c->now - j->load_began;
    for (uint32_t i = j->run; rc == 0 && c->opts->blocks[YK_SIM_DRAM] > 0 && i-- > 0;)
        if (copies_find(&c->copies, cache_of(j->node, YK_SIM_DRAM), blocks[i]) == NONE)
            rc = keep(c, j->node, blocks, i);
    return rc == 0 ? prefill_loaded(c, job) : rc;
}

int plan_store(struct cluster *c, uint32_t job) {
    const struct job *j = &c->jobs[job];
    const struct yk_sim_req *q = job_req(c, j);
    const uint32_t *blocks = c->trace->blocks + q->first;
    uint32_t gone;
    int rc = 0;
    for (uint32_t i = q->n; rc == 0 && c->opts->blocks[YK_SIM_VRAM] > 0 && i-- > 0;)
        rc = copies_use(&c->copies, cache_of(j->node, YK_SIM_VRAM), blocks[i], i > 0 ? blocks[i - 1] : NONE, &gone);
    for (uint32_t i = q->n; rc == 0 && c->opts->blocks[YK_SIM_DRAM] > 0 && i-- > 0;)
        rc = keep(c, j->node, blocks, i);
    return rc;
}
