/* SPDX-License-Identifier: Apache-2.0
 *
 * A request: whom it may go to, where each of them would take its blocks from, and what the router makes of it.
 *
 * Of peers an instance is offered three: the one in its zone, and the one anywhere, whose memory has most of the
 * chain, and the one with most in any tier. Others have less of the chain, over the same links.
 */
#include "route/routes_priv.h"

#include "base/sized.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHOICES_MAX 64u
#define ASSUMED_MAX 4096u /* blocks of one request that are taken to be kept where it goes, */
#define ASSUMED_STEPS 16384u /* in so many looks at the table */

struct ask {
    struct yk_routes *r;
    const yk_route_request *request;
    struct routes_most memory, any;
    size_t choice_size; /* of the caller's */
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

/* For whom there is no place is passed over, and no place is looked for again: that takes a look at all. */
static int take_held(struct ask *a) {
    struct yk_routes *r = a->r;
    bool full = false;
    uint32_t at;
    for (size_t i = 0; i < a->request->n_held; i++) {
        const yk_route_held *held = &a->request->held[i];
        if (full && routes_is_name(held->name) && routes_find(r, held->name) == ROUTES_NONE)
            continue;
        int rc = routes_make(r, held->name, &at);
        full |= rc == -YK_ELIMIT;
        if (rc == 0)
            raise_lead(r->holders[at].lead, held->blocks);
        else if (rc != -YK_ELIMIT)
            return rc;
    }
    return 0;
}

static int find_leads(struct ask *a) {
    struct yk_routes *r = a->r;
    const yk_route_request *q = a->request;
    r->asks++;
    for (uint32_t i = 0; i < r->n; i++)
        memset(r->holders[i].lead, 0, sizeof(r->holders[i].lead));
    uint32_t n = q->chain != NULL ? yk_where_leads(r->where, q->chain, q->blocks, r->leads, r->holders_max) : 0;
    for (uint32_t i = 0; i < n; i++)
        raise_lead(r->holders[r->leads[i].holder].lead, r->leads[i].blocks);
    if (q->chain != NULL)
        routes_recent_raise(r, q->chain, q->blocks);
    int rc = take_held(a);
    for (uint32_t i = 0; i < r->n; i++)
        widen(r->holders[i].lead);
    return rc;
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
            if (node->zone[0] == '\0') {
                memcpy(node->zone, h->zone, sizeof(node->zone));
                routes_set_zone(node);
            }
        }
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
        routes_most_keep(&a->memory, i, h->lead[YK_WHERE_DRAM]);
        routes_most_keep(&a->any, i, h->lead[YK_WHERE_SSD]);
        routes_zones_note(a->r, i);
    }
}

/* ---- sources of one instance ---- */

static void add_source(struct yk_router_node *n, struct yk_router_source *into, enum yk_router_from from,
                       uint32_t blocks, struct routes_cost cost, uint32_t peer) {
    if (blocks > 0)
        into[n->n_sources++] = (struct yk_router_source){.from = from, .blocks = blocks, .bytes_s = cost.bytes_s,
                                                         .latency_s = cost.latency_s, .load = cost.load, .peer = peer};
}

static void add_peer(const struct ask *a, struct yk_router_node *n, struct yk_router_source *into, uint32_t at,
                     uint32_t blocks) {
    bool from_ssd = blocks > a->r->holders[at].lead[YK_WHERE_DRAM];
    add_source(n, into, YK_ROUTER_PEER, blocks, routes_cost_peer(a->r, n->id, at, from_ssd), at);
}

static void add_most(const struct ask *a, struct yk_router_node *n, struct yk_router_source *into,
                     const struct routes_most *m) {
    for (uint32_t i = 0; i < ROUTES_MOST && m->blocks[i] > 0; i++) {
        if (m->at[i] == n->id || m->at[i] == a->r->holders[n->id].node_at)
            continue;
        add_peer(a, n, into, m->at[i], m->blocks[i]);
        return;
    }
}

/* In its zone, if what is anywhere is not. */
static void add_near(const struct ask *a, struct yk_router_node *n, struct yk_router_source *into) {
    uint64_t zone = routes_zone_of(a->r, n->id);
    const struct routes_most *near = routes_zones_find(a->r, zone);
    if (near != NULL && routes_zone_of(a->r, a->memory.at[0]) != zone)
        add_most(a, n, into, near);
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
    add_source(n, into, YK_ROUTER_VRAM, lead[YK_WHERE_VRAM], (struct routes_cost){0}, at);
    add_source(n, into, YK_ROUTER_DRAM, lead[YK_WHERE_DRAM], routes_cost_dram(a->r, at), at);
    add_source(n, into, YK_ROUTER_SSD, lead[YK_WHERE_SSD], routes_cost_ssd(a->r, at), at);
    add_most(a, n, into, &a->memory);
    add_near(a, n, into);
    add_most(a, n, into, &a->any);
}

/* Those that are named, marked: a look at all names for each instance is not for each request. */
static void mark_targets(struct ask *a) {
    for (size_t i = 0; i < a->request->n_targets; i++) {
        uint32_t at = routes_find(a->r, a->request->targets[i]);
        if (at != ROUTES_NONE)
            a->r->holders[at].asked = a->r->asks;
    }
}

static bool is_target(const struct ask *a, uint32_t at) {
    const struct routes_holder *h = &a->r->holders[at];
    if (h->name[0] == '\0' || h->leaving || !h->has_load || (h->flags & YK_ROUTE_STORE) != 0)
        return false;
    return a->request->targets == NULL || a->request->n_targets == 0 || h->asked == a->r->asks;
}

static uint32_t find_candidates(struct ask *a) {
    uint32_t n = 0;
    if (a->request->targets != NULL)
        mark_targets(a);
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

static void put_choice(const struct ask *a, const struct yk_router_choice *c, void *to) {
    yk_route_choice choice;
    fill_choice(a->r, c, &choice);
    yk_sized_copy(to, a->choice_size, &choice, sizeof(choice));
}

/* It will have the chain. If nobody tells what it has, it is taken to keep what it is given. */
static void expect(struct ask *a, uint32_t at, uint64_t decision) {
    const yk_route_request *q = a->request;
    if (q->chain == NULL || q->blocks == 0)
        return;
    if (a->r->holders[at].told)
        routes_recent_add(a->r, at, decision, q->chain, q->blocks);
    uint64_t until = yk_where_steps(a->r->where) + ASSUMED_STEPS;
    for (uint32_t i = 0; !a->r->holders[at].told && i < q->blocks && i < ASSUMED_MAX; i++)
        if (yk_where_steps(a->r->where) < until)
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
    a->r->counts.unknown += n == 0;
    rc = yk_router_rank(a->r->router, &request, a->r->nodes, n, choices,
                        max < CHOICES_MAX ? (uint32_t)max : CHOICES_MAX, &answer);
    if (rc < 0)
        return rc;
    *ret = (yk_route_answer){.verdict = answer.verdict, .ranked = answer.ranked, .wait_ms = answer.wait_s * 1e3,
                             .hot = answer.hot, .replicate = answer.replicate, .thrifty = answer.thrifty,
                             .drawn = answer.drawn};
    a->r->counts.refused += n > 0 && answer.ranked == 0;
    for (uint32_t i = 0; i < answer.ranked; i++)
        put_choice(a, &choices[i], (char *)ret_choices + i * a->choice_size);
    if (answer.verdict == YK_ROUTER_ADMIT && (a->request->flags & YK_ROUTE_TAKE) != 0) {
        ret->decision = yk_router_take(a->r->router, &request, &choices[0]);
        expect(a, choices[0].id, ret->decision);
    }
    return 0;
}

static int check(const yk_route_request *q) {
    if (q->blocks > YK_ROUTE_CHAIN_MAX)
        return routes_fail(-YK_EINVAL, "a chain of %u blocks, at most %u are taken", q->blocks, YK_ROUTE_CHAIN_MAX);
    if (q->n_targets > YK_ROUTE_NAMES_MAX || q->n_held > YK_ROUTE_NAMES_MAX)
        return routes_fail(-YK_EINVAL, "%zu names, at most %u are taken",
                           q->n_targets > q->n_held ? q->n_targets : q->n_held, YK_ROUTE_NAMES_MAX);
    return 0;
}

static void count(struct yk_routes *r, const yk_route_request *q, const yk_route_answer *a) {
    struct routes_counts *c = &r->counts;
    c->asked++;
    c->admitted += a->verdict == YK_ROUTE_ADMIT;
    c->late_queue += a->verdict == YK_ROUTE_REJECT && a->wait_ms > 0;
    c->late_work += a->verdict == YK_ROUTE_REJECT && !(a->wait_ms > 0);
    c->taken += a->decision != 0;
    c->thrifty += a->verdict == YK_ROUTE_ADMIT && a->thrifty;
    c->drawn += a->verdict == YK_ROUTE_ADMIT && a->drawn;
    c->hot += a->hot;
    c->replicate += a->replicate;
}

int yk_route_ask_sized(yk_routes *r, const yk_route_request *request, yk_route_choice *ret_choices, size_t max,
                       size_t choice_size, yk_route_answer *ret_answer, size_t answer_size) {
    yk_route_request q = {.size = sizeof(q)};
    yk_route_answer answer = {.verdict = 0};
    struct ask a = {.r = r, .request = &q, .choice_size = choice_size};
    int rc = routes_take(request, request->size, &q, sizeof(q), "yk_route_request");
    if (rc == 0 && max == 0)
        return routes_fail(-YK_EINVAL, "no room for a choice");
    rc = rc == 0 ? check(&q) : rc;
    if (rc < 0)
        return rc;
    routes_lock(r);
    rc = ask(&a, ret_choices, max, &answer);
    if (rc == 0)
        count(r, &q, &answer);
    routes_unlock(r);
    if (rc == 0)
        yk_sized_copy(ret_answer, answer_size, &answer, sizeof(answer));
    return rc;
}

/* ---- outcomes ---- */

static double seconds(double ms) {
    return ms >= 0 && isfinite(ms) ? ms / 1e3 : -1;
}

int yk_route_outcome(yk_routes *r, uint64_t decision, const yk_route_result *result) {
    yk_route_result o = {.size = sizeof(o), .queue_ms = -1, .transfer_ms = -1, .compute_ms = -1, .ttft_ms = -1};
    int rc = routes_take(result, result->size, &o, sizeof(o), "yk_route_result");
    if (rc < 0)
        return rc;
    struct yk_router_outcome outcome = {seconds(o.queue_ms), seconds(o.transfer_ms), seconds(o.compute_ms),
                                        seconds(o.ttft_ms), o.new_tokens};
    routes_lock(r);
    rc = yk_router_outcome(r->router, decision, &outcome);
    r->counts.outcomes += rc == 0;
    r->counts.strays += rc != 0;
    routes_unlock(r);
    return rc;
}

int yk_route_drop(yk_routes *r, uint64_t decision) {
    routes_lock(r);
    int rc = yk_router_drop(r->router, decision);
    r->counts.dropped += rc == 0;
    routes_recent_drop(r, decision);
    routes_unlock(r);
    return rc;
}
