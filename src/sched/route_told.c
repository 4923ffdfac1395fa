/* SPDX-License-Identifier: Apache-2.0
 *
 * What the router is told: decisions that were taken, and how they went.
 *
 * Decisions stand in a ring, so the oldest is given up for a new one; those in flight to a node are a list through
 * it, oldest first, since a report makes all older ones land at once. Numbers are never used twice: an outcome that
 * comes late, or twice, or is made up, finds no decision.
 */
#include "sched/route_priv.h"

#include <math.h>
#include <string.h>

/* Of no report and no outcome for so long, something else has become of it. */
#define FLIGHT_MS 120000u
#define WALK_MAX  32u /* open decisions that are looked at one by one */
/* Doubt: a step for each outcome, and halves in ten minutes, as who isn't asked can't prove better. Below a tenth
 * it is rounding. */
#define DOUBT_STEP    0.1
#define DOUBT_HALF_MS 600000.0
#define DOUBT_MIN     0.1

const struct route_curves *route_curves_of(const struct yk_router *router, uint32_t id) {
    return router->nodes[id].has_outcomes ? &router->nodes[id].learned : &router->common;
}

/* ---- decisions in flight ---- */

static struct route_decision *find(const struct yk_router *router, uint64_t number) {
    struct route_decision *d = &router->decisions[number % router->opts.decisions_max];
    return number != ROUTE_NO_DECISION && d->number == number ? d : NULL;
}

static void fly(struct yk_router *router, struct route_decision *d) {
    struct route_node *node = &router->nodes[d->node];
    uint32_t at = (uint32_t)(d - router->decisions);
    d->prev = node->last;
    d->next = ROUTE_NONE;
    d->flies = true;
    if (node->last != ROUTE_NONE)
        router->decisions[node->last].next = at;
    else
        node->first = at;
    node->last = at;
    node->flying = node->flying != ROUTE_NONE ? node->flying : at;
    node->open++;
    router->open++;
    node->in_flight++;
    node->open_s += (double)d->work_s;
}

/* A report knows of the first that flies. */
static void land(struct yk_router *router, struct route_node *node) {
    struct route_decision *d = &router->decisions[node->flying];
    d->flies = false;
    node->flying = d->next;
    node->in_flight--;
}

/* It has an outcome, or never will. */
static void close(struct yk_router *router, struct route_decision *d) {
    struct route_node *node = &router->nodes[d->node];
    if (node->flying == (uint32_t)(d - router->decisions))
        node->flying = d->next;
    if (d->prev != ROUTE_NONE)
        router->decisions[d->prev].next = d->next;
    else
        node->first = d->next;
    if (d->next != ROUTE_NONE)
        router->decisions[d->next].prev = d->prev;
    else
        node->last = d->prev;
    node->in_flight -= d->flies;
    node->open--;
    router->open--;
    node->open_s = node->open > 0 ? fmax(node->open_s - (double)d->work_s, 0) : 0;
    d->number = ROUTE_NO_DECISION;
}

void route_land(struct yk_router *router, uint32_t id, uint64_t reported_ms, uint64_t now_ms) {
    struct route_node *node = &router->nodes[id];
    while (node->flying != ROUTE_NONE) {
        struct route_decision *d = &router->decisions[node->flying];
        bool old = now_ms > d->at_ms && now_ms - d->at_ms > FLIGHT_MS;
        /* A report from the future says nothing of what is decided now. */
        bool known = reported_ms <= now_ms && d->at_ms < reported_ms;
        if (!old && !known)
            break;
        land(router, node);
    }
}

/* Of the last n open ones; beyond a few, as their mean is. */
static double last_s(const struct yk_router *router, const struct route_node *node, uint32_t n) {
    double sum = 0;
    uint32_t i = 0;
    if (n == node->open)
        return node->open_s;
    for (uint32_t at = node->last; i < n && i < WALK_MAX; i++, at = router->decisions[at].prev)
        sum += (double)router->decisions[at].work_s;
    return i > 0 ? sum * n / i : 0;
}

double route_open_s(const struct yk_router *router, uint32_t id, uint32_t waiting, uint64_t now_ms, uint32_t *ret_known) {
    const struct route_node *node = &router->nodes[id];
    uint64_t n = (uint64_t)waiting + node->in_flight;
    *ret_known = n < node->open ? (uint32_t)n : node->open;
    if (*ret_known == 0)
        return 0;
    double left = last_s(router, node, *ret_known);
    if (*ret_known < node->open)
        return left;
    const struct route_decision *first = &router->decisions[node->first];
    uint64_t since = first->at_ms > node->since_ms ? first->at_ms : node->since_ms;
    double ran = now_ms > since ? (double)(now_ms - since) / 1e3 : 0;
    return fmax(left - fmin(ran, (double)first->work_s), 0);
}

uint64_t yk_router_take(struct yk_router *router, const struct yk_router_request *request,
                        const struct yk_router_choice *choice) {
    uint64_t number = ++router->last;
    struct route_decision *d = &router->decisions[number % router->opts.decisions_max];
    if (choice->id >= router->opts.nodes_max)
        return number;
    if (d->number != ROUTE_NO_DECISION)
        close(router, d);
    *d = (struct route_decision){.number = number, .at_ms = request->now_ms, .node = choice->id};
    d->tokens = request->tokens;
    d->new_tokens = choice->new_tokens;
    d->ttft_s = (float)choice->ttft_s;
    d->work_s = choice->compute_s > 0 && isfinite(choice->compute_s) ? (float)choice->compute_s : 0;
    d->slow = (float)choice->slow;
    d->part_s[ROUTE_QUEUE] = (float)choice->queue_s;
    d->part_s[ROUTE_TRANSFER] = (float)choice->transfer_s;
    d->part_s[ROUTE_COMPUTE] = (float)choice->compute_s;
    for (uint32_t i = 0; i < YK_COST_FEATURES; i++) {
        d->x[ROUTE_QUEUE][i] = (float)choice->x_queue[i];
        d->x[ROUTE_TRANSFER][i] = (float)choice->x_transfer[i];
        d->x[ROUTE_COMPUTE][i] = (float)choice->x_compute[i];
    }
    fly(router, d);
    return number;
}

int yk_router_drop(struct yk_router *router, uint64_t decision) {
    struct route_decision *d = find(router, decision);
    if (d == NULL)
        return YK_MISS;
    close(router, d);
    return 0;
}

/* ---- outcomes ---- */

static double doubt_at(const struct route_node *node, uint64_t now_ms) {
    double age = now_ms > node->doubted_ms ? (double)(now_ms - node->doubted_ms) : 0;
    return node->doubt > 0 ? node->doubt * exp2(-age / DOUBT_HALF_MS) : 0;
}

double route_believed(const struct yk_router *router, uint32_t id, uint64_t now_ms) {
    double doubt = doubt_at(&router->nodes[id], now_ms);
    return doubt < DOUBT_MIN ? 1 : 1 - doubt;
}

/* Of the tokens that were expected to be there, how many had to be computed all the same? */
static void learn_doubt(struct yk_router *router, const struct route_decision *d, uint32_t new_tokens) {
    struct route_node *node = &router->nodes[d->node];
    if (new_tokens == 0 || d->tokens <= d->new_tokens)
        return;
    double expected = (double)d->tokens - d->new_tokens;
    double missed = new_tokens > d->new_tokens ? (double)new_tokens - d->new_tokens : 0;
    double now = doubt_at(node, router->now_ms);
    node->doubt = now + DOUBT_STEP * (fmin(missed / expected, 1) - now);
    node->doubted_ms = router->now_ms;
}

static void begin_node(struct yk_router *router, struct route_node *node) {
    if (node->has_outcomes)
        return;
    for (int i = 0; i < ROUTE_CURVES; i++)
        yk_cost_init(&node->learned.fit[i], &router->common.fit[i].curve);
    node->learned.tail = router->common.tail;
    node->learned.tail_ratio = router->common.tail_ratio;
    node->learned.tail.outcomes = 0;
    node->has_outcomes = true;
}

static void learn(struct yk_router *router, struct route_node *node, enum route_curve which,
                  const double x[YK_COST_FEATURES], double seconds) {
    struct yk_cost_fit *common = &router->common.fit[which];
    yk_cost_learn(common, &router->opts.cost, &router->prior[which], x, seconds);
    yk_cost_learn(&node->learned.fit[which], &router->opts.cost, &common->curve, x, seconds);
}

static void learn_parts(struct yk_router *router, const struct route_decision *d,
                        const struct yk_router_outcome *outcome) {
    struct route_node *node = &router->nodes[d->node];
    const double seconds[ROUTE_CURVES] = {outcome->queue_s, outcome->transfer_s, outcome->compute_s};
    for (int which = 0; which < ROUTE_CURVES; which++) {
        double x[YK_COST_FEATURES];
        for (uint32_t i = 0; i < YK_COST_FEATURES; i++)
            x[i] = (double)d->x[which][i];
        if (which == ROUTE_COMPUTE && outcome->new_tokens > 0) {
            double tokens = fmin(outcome->new_tokens, YK_ROUTER_TOKENS_MAX);
            yk_cost_compute_features(tokens, fmax(tokens, d->tokens), x);
            for (uint32_t i = 0; i < YK_COST_FEATURES; i++)
                x[i] *= (double)d->slow;
        }
        learn(router, node, (enum route_curve)which, x, seconds[which]);
    }
}

/* The time to first token, told or added up; below 0: not known. */
static double whole_s(const struct yk_router_outcome *o) {
    if (o->ttft_s >= 0 || !(o->queue_s >= 0 && o->transfer_s >= 0 && o->compute_s >= 0))
        return o->ttft_s;
    return o->queue_s + o->transfer_s + o->compute_s;
}

static void note_errors(struct yk_router *router, const struct route_decision *d, const struct yk_router_outcome *o) {
    route_note_error(router, YK_ROUTER_QUEUE, (double)d->part_s[ROUTE_QUEUE], o->queue_s);
    route_note_error(router, YK_ROUTER_TRANSFER, (double)d->part_s[ROUTE_TRANSFER], o->transfer_s);
    route_note_error(router, YK_ROUTER_COMPUTE, (double)d->part_s[ROUTE_COMPUTE], o->compute_s);
    route_note_error(router, YK_ROUTER_TTFT, (double)d->ttft_s, whole_s(o));
}

static void learn_tail(const struct yk_router *router, struct route_curves *curves, double predicted_s, double actual_s) {
    yk_cost_tail_learn(&curves->tail, router->opts.quantile, predicted_s, actual_s);
    curves->tail_ratio = yk_cost_tail_ratio(&curves->tail);
}

int yk_router_outcome(struct yk_router *router, uint64_t decision, const struct yk_router_outcome *outcome) {
    struct route_decision *d = find(router, decision);
    if (d == NULL)
        return YK_MISS;
    struct route_node *node = &router->nodes[d->node];
    begin_node(router, node);
    note_errors(router, d, outcome);
    learn_parts(router, d, outcome);
    learn_doubt(router, d, outcome->new_tokens);
    learn_tail(router, &router->common, (double)d->ttft_s, whole_s(outcome));
    learn_tail(router, &node->learned, (double)d->ttft_s, whole_s(outcome));
    close(router, d);
    node->since_ms = router->now_ms;
    return 0;
}

void yk_router_forget(struct yk_router *router, uint32_t id) {
    if (id >= router->opts.nodes_max)
        return;
    struct route_node *node = &router->nodes[id];
    while (node->first != ROUTE_NONE)
        close(router, &router->decisions[node->first]);
    *node = (struct route_node){.first = ROUTE_NONE, .last = ROUTE_NONE, .flying = ROUTE_NONE};
}

uint32_t yk_router_open(const struct yk_router *router) {
    return router->open;
}

int yk_router_learned(const struct yk_router *router, uint32_t id, struct yk_router_learned *ret_learned) {
    if (id != YK_ROUTER_NOBODY && id >= router->opts.nodes_max)
        return -YK_EINVAL;
    const struct route_curves *c = id == YK_ROUTER_NOBODY ? &router->common : route_curves_of(router, id);
    *ret_learned = (struct yk_router_learned){
        .queue = c->fit[ROUTE_QUEUE].curve,
        .transfer = c->fit[ROUTE_TRANSFER].curve,
        .compute = c->fit[ROUTE_COMPUTE].curve,
        .worse_ratio = c->tail_ratio,
        .believed = id == YK_ROUTER_NOBODY ? 1 : route_believed(router, id, router->now_ms),
        .outcomes = c->tail.outcomes,
        .in_flight = id == YK_ROUTER_NOBODY ? 0 : router->nodes[id].in_flight,
    };
    return 0;
}
