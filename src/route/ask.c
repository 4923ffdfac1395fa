/* SPDX-License-Identifier: Apache-2.0
 *
 * A request: whom it may go to, where each of them would take its blocks from, and what the router makes of it.
 *
 * Of peers an instance is offered three: the one in its zone, and the one anywhere, whose memory has most of the
 * chain, and the one with most in any tier. Others have less of the chain, over the same links.
 */
#include "route/routes_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHOICES_MAX 64u
#define ASSUMED_MAX 4096u /* blocks of one request that are taken to be kept where it goes */

/* The two that have most, as one may be the one that asks. */
struct most {
    uint32_t at[2], blocks[2];
};

struct ask {
    struct yk_routes *r;
    const yk_route_request *request;
    struct most memory, any;
};

/* ---- who has what of the chain ---- */

static void raise_lead(uint32_t lead[YK_WHERE_TIERS], const uint32_t blocks[YK_WHERE_TIERS]) {
    for (uint32_t t = 0; t < YK_WHERE_TIERS; t++)
        if (blocks[t] > lead[t])
            lead[t] = blocks[t];
}

/* A quicker tier's run is a slower one's, too. */
static void widen(uint32_t lead[YK_WHERE_TIERS]) {
    for (uint32_t t = 1; t < YK_WHERE_TIERS; t++)
        if (lead[t] < lead[t - 1])
            lead[t] = lead[t - 1];
}

static int find_leads(struct ask *a) {
    struct yk_routes *r = a->r;
    const yk_route_request *q = a->request;
    uint32_t at;
    for (uint32_t i = 0; i < r->n; i++)
        memset(r->holders[i].lead, 0, sizeof(r->holders[i].lead));
    uint32_t n = q->chain != NULL ? yk_where_leads(r->where, q->chain, q->blocks, r->leads, r->holders_max) : 0;
    for (uint32_t i = 0; i < n; i++)
        raise_lead(r->holders[r->leads[i].holder].lead, r->leads[i].blocks);
    if (q->chain != NULL)
        routes_recent_raise(r, q->chain, q->blocks);
    for (size_t i = 0; i < q->n_held; i++) {
        int rc = routes_make(r, q->held[i].name, &at);
        if (rc < 0)
            return rc;
        raise_lead(r->holders[at].lead, q->held[i].blocks);
    }
    for (uint32_t i = 0; i < r->n; i++)
        widen(r->holders[i].lead);
    return 0;
}

/* The node of an instance's host is its own, and others can fetch from it. */
static void find_nodes(struct yk_routes *r) {
    for (uint32_t i = 0; i < r->n; i++) {
        struct routes_holder *h = &r->holders[i];
        if (h->node_names != r->names) { /* a look at all names for each instance is not for each request */
            h->node_at = h->name[0] != '\0' ? routes_find(r, h->node) : ROUTES_NONE;
            h->node_names = r->names;
        }
        if (h->node_at != ROUTES_NONE) {
            struct routes_holder *node = &r->holders[h->node_at];
            node->flags |= YK_ROUTE_SHARES;
            if (node->zone[0] == '\0')
                memcpy(node->zone, h->zone, sizeof(node->zone));
        }
    }
}

static void keep_most(struct most *m, uint32_t at, uint32_t blocks) {
    if (blocks > m->blocks[0]) {
        m->at[1] = m->at[0];
        m->blocks[1] = m->blocks[0];
        m->at[0] = at;
        m->blocks[0] = blocks;
    } else if (blocks > m->blocks[1]) {
        m->at[1] = at;
        m->blocks[1] = blocks;
    }
}

static bool shares(const struct routes_holder *h) {
    return h->name[0] != '\0' && !h->leaving && (h->flags & (YK_ROUTE_SHARES | YK_ROUTE_STORE)) != 0;
}

static void find_most(struct ask *a) {
    for (uint32_t i = 0; i < a->r->n; i++) {
        const struct routes_holder *h = &a->r->holders[i];
        if (!shares(h))
            continue;
        keep_most(&a->memory, i, h->lead[YK_WHERE_DRAM]);
        keep_most(&a->any, i, h->lead[YK_WHERE_SSD]);
    }
}

/* ---- sources of one instance ---- */

static void add_source(struct yk_router_node *n, struct yk_router_source *into, enum yk_router_from from,
                       uint32_t blocks, double bytes_s, double load, uint32_t peer) {
    if (blocks > 0)
        into[n->n_sources++] = (struct yk_router_source){.from = from, .blocks = blocks, .bytes_s = bytes_s,
                                                         .load = load, .peer = peer};
}

static void add_peer(const struct ask *a, struct yk_router_node *n, struct yk_router_source *into, uint32_t at,
                     uint32_t blocks) {
    const struct routes_holder *own = &a->r->holders[n->id], *peer = &a->r->holders[at];
    bool near = strcmp(own->zone, peer->zone) == 0;
    add_source(n, into, YK_ROUTER_PEER, blocks, near ? own->peer_s : own->far_s, own->network_load, at);
}

static void add_most(const struct ask *a, struct yk_router_node *n, struct yk_router_source *into, const struct most *m) {
    for (int i = 0; i < 2; i++) {
        if (m->blocks[i] == 0 || m->at[i] == n->id || m->at[i] == a->r->holders[n->id].node_at)
            continue;
        add_peer(a, n, into, m->at[i], m->blocks[i]);
        return;
    }
}

/* In its zone, if what is anywhere is not. */
static void add_near(const struct ask *a, struct yk_router_node *n, struct yk_router_source *into) {
    const struct routes_holder *own = &a->r->holders[n->id];
    uint32_t best = ROUTES_NONE;
    if (own->zone[0] == '\0' || a->memory.blocks[0] == 0 || strcmp(a->r->holders[a->memory.at[0]].zone, own->zone) == 0)
        return;
    for (uint32_t i = 0; i < a->r->n; i++) {
        const struct routes_holder *h = &a->r->holders[i];
        if (i != n->id && i != own->node_at && h->lead[YK_WHERE_DRAM] > 0 && shares(h) &&
            strcmp(h->zone, own->zone) == 0 &&
            (best == ROUTES_NONE || h->lead[YK_WHERE_DRAM] > a->r->holders[best].lead[YK_WHERE_DRAM]))
            best = i;
    }
    if (best != ROUTES_NONE)
        add_peer(a, n, into, best, a->r->holders[best].lead[YK_WHERE_DRAM]);
}

static void add_candidate(const struct ask *a, uint32_t at, struct yk_router_node *n, struct yk_router_source *into) {
    const struct routes_holder *h = &a->r->holders[at];
    uint32_t lead[YK_WHERE_TIERS];
    memcpy(lead, h->lead, sizeof(lead));
    if (h->node_at != ROUTES_NONE && h->node_at != at) {
        const uint32_t *node = a->r->holders[h->node_at].lead;
        const uint32_t below[YK_WHERE_TIERS] = {0, node[YK_WHERE_DRAM], node[YK_WHERE_SSD]};
        raise_lead(lead, below);
    }
    *n = (struct yk_router_node){.id = at, .reported_ms = h->reported_ms, .waiting = h->waiting, .running = h->running,
                                 .waiting_tokens = h->waiting_tokens, .tokens_s = h->tokens_s,
                                 .refuses = (h->flags & YK_ROUTE_REFUSES) != 0, .sources = into};
    add_source(n, into, YK_ROUTER_VRAM, lead[YK_WHERE_VRAM], 0, 0, at);
    add_source(n, into, YK_ROUTER_DRAM, lead[YK_WHERE_DRAM], h->dram_s, 0, at);
    add_source(n, into, YK_ROUTER_SSD, lead[YK_WHERE_SSD], h->ssd_s, 0, at);
    add_most(a, n, into, &a->memory);
    add_near(a, n, into);
    add_most(a, n, into, &a->any);
}

static bool is_target(const struct ask *a, uint32_t at) {
    const struct routes_holder *h = &a->r->holders[at];
    if (h->name[0] == '\0' || h->leaving || !h->has_load || (h->flags & YK_ROUTE_STORE) != 0)
        return false;
    for (size_t i = 0; i < a->request->n_targets; i++)
        if (a->request->targets[i] != NULL && strcmp(a->request->targets[i], h->name) == 0)
            return true;
    return a->request->targets == NULL || a->request->n_targets == 0;
}

static uint32_t find_candidates(struct ask *a) {
    uint32_t n = 0;
    find_nodes(a->r);
    find_most(a);
    for (uint32_t i = 0; i < a->r->n; i++) {
        if (!is_target(a, i))
            continue;
        add_candidate(a, i, &a->r->nodes[n], &a->r->sources[(size_t)n * ROUTES_SOURCES]);
        n++;
    }
    return n;
}

/* ---- the answer ---- */

static void fill_choice(const struct yk_routes *r, const struct yk_router_choice *c, yk_route_choice *ret) {
    *ret = (yk_route_choice){
        .ttft_ms = c->ttft_s * 1e3,
        .queue_ms = c->queue_s * 1e3,
        .transfer_ms = c->transfer_s * 1e3,
        .compute_ms = c->compute_s * 1e3,
        .worse_ms = c->worse_s * 1e3,
        .vram = c->fetch[YK_ROUTER_VRAM],
        .dram = c->fetch[YK_ROUTER_DRAM],
        .ssd = c->fetch[YK_ROUTER_SSD],
        .peer = c->fetch[YK_ROUTER_PEER],
        .compute_blocks = c->compute_blocks,
        .new_tokens = c->new_tokens,
        .transfer_bytes = c->transfer_bytes,
        .in_flight = c->in_flight,
        .silent = c->silent,
        .meets = c->meets,
    };
    memcpy(ret->name, r->holders[c->id].name, sizeof(ret->name));
    if (c->peer < r->n)
        memcpy(ret->peer_name, r->holders[c->peer].name, sizeof(ret->peer_name));
}

/* It will have the chain. If nobody tells what it has, it is taken to keep what it is given. */
static void expect(struct ask *a, uint32_t at, uint64_t decision) {
    const yk_route_request *q = a->request;
    if (q->chain == NULL || q->blocks == 0)
        return;
    if (a->r->holders[at].told)
        routes_recent_add(a->r, at, decision, q->chain, q->blocks);
    for (uint32_t i = 0; !a->r->holders[at].told && i < q->blocks && i < ASSUMED_MAX; i++)
        yk_where_add(a->r->where, at, q->chain[i], YK_WHERE_VRAM);
}

static void fill_request(const struct ask *a, struct yk_router_request *ret) {
    const yk_route_request *q = a->request;
    uint32_t block_tokens = q->block_tokens != 0 ? q->block_tokens : q->blocks > 0 ? q->tokens / q->blocks : 0;
    *ret = (struct yk_router_request){
        .now_ms = routes_now_ms(),
        .tokens = q->tokens,
        .blocks = q->blocks,
        .block_tokens = block_tokens,
        .block_bytes = q->block_bytes != 0 ? q->block_bytes : (uint64_t)block_tokens * a->r->kv_bytes_per_token,
        .output_tokens = q->output_tokens,
        .chain = q->chain != NULL ? yk_router_chain(q->chain, q->blocks) : 0,
        .objective_s = q->objective_ms > 0 ? q->objective_ms / 1e3 : 0,
    };
}

/* Under the lock. */
static int ask(struct ask *a, yk_route_choice *ret_choices, size_t max, yk_route_answer *ret) {
    struct yk_router_choice choices[CHOICES_MAX];
    struct yk_router_request request;
    struct yk_router_answer answer;
    int rc = find_leads(a);
    if (rc < 0)
        return rc;
    fill_request(a, &request);
    uint32_t n = find_candidates(a);
    rc = yk_router_rank(a->r->router, &request, a->r->nodes, n, choices,
                        max < CHOICES_MAX ? (uint32_t)max : CHOICES_MAX, &answer);
    if (rc < 0)
        return rc;
    *ret = (yk_route_answer){.verdict = answer.verdict, .ranked = answer.ranked, .wait_ms = answer.wait_s * 1e3,
                             .hot = answer.hot, .replicate = answer.replicate, .thrifty = answer.thrifty,
                             .drawn = answer.drawn};
    for (uint32_t i = 0; i < answer.ranked; i++)
        fill_choice(a->r, &choices[i], &ret_choices[i]);
    if (answer.verdict == YK_ROUTER_ADMIT && (a->request->flags & YK_ROUTE_TAKE) != 0) {
        ret->decision = yk_router_take(a->r->router, &request, &choices[0]);
        expect(a, choices[0].id, ret->decision);
    }
    return 0;
}

int yk_route_ask(yk_routes *r, const yk_route_request *request, yk_route_choice *ret_choices, size_t max,
                 yk_route_answer *ret_answer) {
    yk_route_request q = {.size = sizeof(q)};
    struct ask a = {.r = r, .request = &q};
    memcpy(&q, request, request->size < sizeof(q) ? request->size : sizeof(q));
    if (max == 0)
        return routes_fail(-YK_EINVAL, "no room for a choice");
    if (q.blocks > YK_ROUTE_CHAIN_MAX)
        return routes_fail(-YK_EINVAL, "a chain of %u blocks, at most %u are taken", q.blocks, YK_ROUTE_CHAIN_MAX);
    pthread_mutex_lock(&r->lock);
    int rc = ask(&a, ret_choices, max, ret_answer);
    pthread_mutex_unlock(&r->lock);
    return rc;
}

/* ---- outcomes ---- */

static double seconds(double ms) {
    return ms >= 0 && isfinite(ms) ? ms / 1e3 : -1;
}

int yk_route_outcome(yk_routes *r, uint64_t decision, const yk_route_result *result) {
    yk_route_result o = {.size = sizeof(o), .queue_ms = -1, .transfer_ms = -1, .compute_ms = -1, .ttft_ms = -1};
    memcpy(&o, result, result->size < sizeof(o) ? result->size : sizeof(o));
    struct yk_router_outcome outcome = {seconds(o.queue_ms), seconds(o.transfer_ms), seconds(o.compute_ms),
                                        seconds(o.ttft_ms), o.new_tokens};
    pthread_mutex_lock(&r->lock);
    int rc = yk_router_outcome(r->router, decision, &outcome);
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int yk_route_drop(yk_routes *r, uint64_t decision) {
    pthread_mutex_lock(&r->lock);
    int rc = yk_router_drop(r->router, decision);
    routes_recent_drop(r, decision);
    pthread_mutex_unlock(&r->lock);
    return rc;
}
