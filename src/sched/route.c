/* SPDX-License-Identifier: Apache-2.0
 *
 * The router: making it, and ranking nodes (route.h).
 *
 * Ranking goes over all nodes once and keeps of each one number; the few that are asked for are selected by that
 * number and predicted again in full. A choice takes 200 bytes, and of a thousand nodes a caller wants three.
 */
#include "sched/route_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NODES     1024u
#define DECISIONS 65536u
#define CHAINS    4096u
#define TABLE_MAX (1u << 26)
#define DRAM_BYTES_S 20e9
#define SSD_BYTES_S  5e9
#define PEER_BYTES_S 2e9
#define PRIOR_FLOPS_S 200e12
#define PRIOR_START_S 0.01

/* Added to what a node is ranked by: one that misses the objective comes after all that keep to it, and a silent
 * one after all that are heard. No time is as long. */
#define LONGEST_S 9e6
#define MISSES_S  1e7
#define SILENT_S  1e8
#define OUT       1e30 /* no candidate */

/* Measured in the cluster simulator on two public traces: with 0.1 and 0.02 s a third more bytes move between nodes,
 * with 0.5 and 0.5 s chats wait longer. */
#define GOOD_SHARE 0.3
#define GOOD_S     0.2
#define GOOD_MAX_S 0.3 /* of the share: under load, when all is slow, more makes it slower for all (record 0027) */
#define NEAR_SHARE 0.03
#define NEAR_S     0.001 /* so close nodes are equal whatever their share */

/* ---- making it ---- */

static void set_defaults(struct yk_router_opts *o) {
    static const double bytes_s[YK_ROUTER_FROMS] = {DRAM_BYTES_S, DRAM_BYTES_S, SSD_BYTES_S, PEER_BYTES_S};
    o->nodes_max = o->nodes_max != 0 ? o->nodes_max : NODES;
    o->decisions_max = o->decisions_max != 0 ? o->decisions_max : DECISIONS;
    o->chains_max = o->chains_max != 0 ? o->chains_max : CHAINS;
    o->near_share = o->near_share != 0 ? o->near_share : NEAR_SHARE;
    o->good_share = o->good_share != 0 ? o->good_share : GOOD_SHARE;
    o->good_s = o->good_s > 0 ? o->good_s : GOOD_S;
    o->quantile = o->quantile != 0 ? o->quantile : 0.9;
    o->silent_ms = o->silent_ms != 0 ? o->silent_ms : 10000;
    o->hot_per_s = o->hot_per_s != 0 ? o->hot_per_s : 1;
    for (int i = 0; i < YK_ROUTER_FROMS; i++)
        o->bytes_s[i] = o->bytes_s[i] > 0 && isfinite(o->bytes_s[i]) ? o->bytes_s[i] : bytes_s[i];
}

static bool in_range(const struct yk_router_opts *o) {
    const double *theta = o->compute.theta;
    for (uint32_t i = 0; i < YK_COST_FEATURES; i++)
        if (!(theta[i] >= 0) || !isfinite(theta[i]))
            return false;
    return o->nodes_max <= YK_ROUTER_NODES_MAX && o->decisions_max <= TABLE_MAX && o->chains_max <= TABLE_MAX &&
           o->quantile > 0 && o->quantile < 1 && isfinite(o->near_share) && isfinite(o->good_share) &&
           isfinite(o->good_s) && isfinite(o->silent_ms) &&
           o->overlap >= 0 && o->overlap <= 1 && o->hot_per_s > 0;
}

/* The work that waits is waited for, and links keep their promises. */
static void set_priors(struct yk_router *router) {
    const struct yk_cost_curve promised = {{0, 1, 0}}, *compute = &router->opts.compute;
    router->prior[ROUTE_QUEUE] = router->prior[ROUTE_TRANSFER] = promised;
    router->prior[ROUTE_COMPUTE] = *compute;
    if (compute->theta[0] + compute->theta[1] + compute->theta[2] == 0)
        yk_cost_compute_prior(yk_cost_shapes(), PRIOR_FLOPS_S, PRIOR_START_S, &router->prior[ROUTE_COMPUTE]);
    for (int i = 0; i < ROUTE_CURVES; i++)
        yk_cost_init(&router->common.fit[i], &router->prior[i]);
    yk_cost_tail_init(&router->common.tail);
    router->common.tail_ratio = yk_cost_tail_ratio(&router->common.tail);
}

int yk_router_new(const struct yk_router_opts *opts, struct yk_router **ret_router) {
    struct yk_router *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -YK_ENOMEM;
    if (opts != NULL)
        r->opts = *opts;
    set_defaults(&r->opts);
    if (!in_range(&r->opts)) {
        free(r);
        return -YK_EINVAL;
    }
    r->sets = (r->opts.chains_max + ROUTE_WAYS - 1) / ROUTE_WAYS;
    r->nodes = calloc(r->opts.nodes_max, sizeof(*r->nodes));
    r->scores = calloc(r->opts.nodes_max, sizeof(*r->scores));
    r->brought = calloc(r->opts.nodes_max, sizeof(*r->brought));
    r->decisions = calloc(r->opts.decisions_max, sizeof(*r->decisions));
    r->chains = calloc((size_t)r->sets * ROUTE_WAYS, sizeof(*r->chains));
    if (r->nodes == NULL || r->scores == NULL || r->brought == NULL || r->decisions == NULL || r->chains == NULL) {
        yk_router_free(r);
        return -YK_ENOMEM;
    }
    for (uint32_t i = 0; i < r->opts.nodes_max; i++)
        r->nodes[i].first = r->nodes[i].last = r->nodes[i].flying = ROUTE_NONE;
    r->random = r->opts.seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    set_priors(r);
    *ret_router = r;
    return 0;
}

void yk_router_free(struct yk_router *r) {
    if (r == NULL)
        return;
    free(r->nodes);
    free(r->scores);
    free(r->brought);
    free(r->decisions);
    free(r->chains);
    free(r);
}

uint64_t yk_router_chain(const uint64_t *hashes, uint32_t n) {
    return n > 1 ? hashes[1] : n > 0 ? hashes[0] : 0;
}

/* ---- ranking ---- */

static uint64_t random_next(struct yk_router *r) {
    r->random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = r->random;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* One call. */
struct ranking {
    struct yk_router *router;
    const struct yk_router_request *request;
    const struct yk_router_node *nodes;
    uint32_t n;
    double best;        /* score */
    double wait_s;      /* the least that a node would need */
    bool waiting_helps;
    uint32_t held;      /* of the chain, by the node that has most of it, in tiers of its own */
};

static uint32_t held_by(const struct yk_router_node *node, const struct yk_router_request *request) {
    uint32_t held = 0;
    for (uint32_t i = 0; node->sources != NULL && i < node->n_sources && i < YK_ROUTER_SOURCES_MAX; i++)
        if (node->sources[i].from != YK_ROUTER_PEER && node->sources[i].blocks > held)
            held = node->sources[i].blocks;
    return held < request->blocks ? held : request->blocks;
}

/* How long until this node's queue has shrunk to what the objective leaves for it. */
static void note_wait(struct ranking *k, const struct yk_router_choice *c) {
    double ratio = c->worse_s / fmax(c->ttft_s, 1e-9);
    double wait = c->ttft_s - k->request->objective_s / ratio;
    if (c->meets || wait > c->queue_s)
        return;
    if (!k->waiting_helps || wait < k->wait_s)
        k->wait_s = wait;
    k->waiting_helps = true;
}

static double score_of(const struct yk_router_choice *c) {
    return fmin(c->ttft_s, LONGEST_S) + (c->meets ? 0 : MISSES_S) + (c->silent ? SILENT_S : 0);
}

static void score_all(struct ranking *k) {
    struct yk_router_choice c;
    for (uint32_t i = 0; i < k->n; i++) {
        const struct yk_router_node *node = &k->nodes[i];
        k->router->scores[i] = OUT;
        if (node->id >= k->router->opts.nodes_max || node->refuses)
            continue;
        route_land(k->router, node->id, node->reported_ms, k->request->now_ms);
        route_predict(k->router, k->request, node, &c);
        k->router->scores[i] = score_of(&c);
        k->router->brought[i] = c.fetch[YK_ROUTER_PEER] + c.compute_blocks;
        k->best = fmin(k->best, k->router->scores[i]);
        uint32_t held = held_by(node, k->request);
        k->held = held > k->held ? held : k->held;
        note_wait(k, &c);
    }
}

/* The indices of the best, in order: a sorted list of at most max, as max is small. */
static uint32_t select_best(const struct ranking *k, struct yk_router_choice *choices, uint32_t max) {
    const double *scores = k->router->scores;
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->n && max > 0; i++) {
        if (scores[i] >= OUT || (n == max && scores[i] >= scores[choices[n - 1].index]))
            continue;
        uint32_t at = n < max ? n++ : n - 1;
        for (; at > 0 && scores[choices[at - 1].index] > scores[i]; at--)
            choices[at].index = choices[at - 1].index;
        choices[at].index = i;
    }
    return n;
}

/* What a score may be to be no more than a share and a time longer. Scores of late and of silent nodes are of another
 * size, and so never are. */
static double within(double score, double share, double share_max_s, double seconds) {
    return score + fmin(fmod(score, MISSES_S) * share, share_max_s) + seconds;
}

/* The quickest of those about as good as the best that bring least. */
static uint32_t thriftiest(const struct ranking *k, double limit) {
    const struct yk_router *r = k->router;
    uint32_t best = ROUTE_NONE;
    for (uint32_t i = 0; i < k->n; i++)
        if (r->scores[i] <= limit &&
            (best == ROUTE_NONE || r->brought[i] < r->brought[best] ||
             (r->brought[i] == r->brought[best] && r->scores[i] < r->scores[best])))
            best = i;
    return best;
}

/* Of those that bring as little and are no later than that: what comes pushes something out, so it comes where that was
 * of no use for longest. */
static uint32_t roomiest(const struct ranking *k, uint32_t first, double limit) {
    const struct yk_router *r = k->router;
    uint32_t best = first;
    for (uint32_t i = 0; i < k->n; i++)
        if (r->scores[i] <= limit && r->brought[i] == r->brought[first] && k->nodes[i].idle_s > k->nodes[best].idle_s)
            best = i;
    return best;
}

/* Of nodes that bring as little, have as much room and are no later than that one drawn at random for each of two
 * places; how many there were. */
static uint32_t draw_two(struct ranking *k, uint32_t first, double limit, bool any, uint32_t ret_two[2]) {
    const struct yk_router *r = k->router;
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->n; i++) {
        if (r->scores[i] > limit ||
            (!any && (r->brought[i] != r->brought[first] || k->nodes[i].idle_s < k->nodes[first].idle_s)))
            continue;
        n++;
        for (uint32_t place = 0; place < 2; place++)
            if (random_next(k->router) % n == 0)
                ret_two[place] = i;
    }
    return n;
}

/* Of two, the one that fewer requests are in flight to. */
static uint32_t freer(const struct ranking *k, const uint32_t two[2]) {
    const struct route_node *a = &k->router->nodes[k->nodes[two[0]].id], *b = &k->router->nodes[k->nodes[two[1]].id];
    bool later = k->router->scores[two[0]] > k->router->scores[two[1]];
    return two[a->in_flight > b->in_flight || (a->in_flight == b->in_flight && later)];
}

static void put_first(struct yk_router_choice *choices, uint32_t n, uint32_t index) {
    uint32_t at = 0;
    while (at < n - 1 && choices[at].index != index)
        at++;
    for (; at > 0; at--)
        choices[at].index = choices[at - 1].index;
    choices[0].index = index;
}

/* The best is first now; one that is about as good may take its place. */
static void settle_first(struct ranking *k, struct yk_router_choice *choices, uint32_t n, struct yk_router_answer *a) {
    const struct yk_router_opts *o = &k->router->opts;
    uint32_t first, two[2] = {0, 0};
    if (n == 0)
        return;
    first = choices[0].index;
    if (o->good_share >= 0)
        first = thriftiest(k, within(k->best, o->good_share, GOOD_MAX_S, o->good_s));
    if (o->good_share >= 0)
        first = roomiest(k, first, within(k->router->scores[first], NEAR_SHARE, GOOD_MAX_S, NEAR_S));
    a->thrifty = first != choices[0].index && k->router->brought[first] < k->router->brought[choices[0].index];
    double limit = within(k->router->scores[first], o->near_share, INFINITY, NEAR_S);
    if (o->near_share >= 0 && draw_two(k, first, limit, o->good_share < 0, two) > 1) {
        first = freer(k, two);
        a->drawn = true;
    }
    put_first(choices, n, first);
}

static void answer(struct ranking *k, const struct yk_router_choice *choices, struct yk_router_answer *a) {
    if (a->ranked == 0) {
        a->verdict = YK_ROUTER_NO_NODE;
        return;
    }
    const struct yk_router_choice *first = &choices[0];
    uint32_t own = held_by(&k->nodes[first->index], k->request);
    a->verdict = first->meets ? YK_ROUTER_ADMIT : YK_ROUTER_REJECT;
    a->wait_s = first->meets || !k->waiting_helps ? 0 : k->wait_s;
    a->replicate = a->hot && own < k->held;
}

static void note_time(struct yk_router *router, const struct yk_router_request *request) {
    router->now_ms = request->now_ms > router->now_ms ? request->now_ms : router->now_ms;
    double tokens = fmin(request->tokens, YK_ROUTER_TOKENS_MAX);
    router->mean_tokens += (tokens - router->mean_tokens) * (router->mean_tokens > 0 ? 0.02 : 1);
}

int yk_router_rank(struct yk_router *router, const struct yk_router_request *request,
                   const struct yk_router_node *nodes, uint32_t n, struct yk_router_choice *ret_choices, uint32_t max,
                   struct yk_router_answer *ret_answer) {
    struct ranking k = {.router = router, .request = request, .nodes = nodes, .n = n, .best = OUT};
    if (n > router->opts.nodes_max)
        return -YK_EINVAL;
    *ret_answer = (struct yk_router_answer){.hot = route_hot(router, request->chain, request->now_ms)};
    note_time(router, request);
    score_all(&k);
    ret_answer->ranked = select_best(&k, ret_choices, max);
    settle_first(&k, ret_choices, ret_answer->ranked, ret_answer);
    for (uint32_t i = 0; i < ret_answer->ranked; i++) {
        uint32_t index = ret_choices[i].index;
        route_predict(router, request, &nodes[index], &ret_choices[i]);
        ret_choices[i].index = index;
    }
    answer(&k, ret_choices, ret_answer);
    return 0;
}
