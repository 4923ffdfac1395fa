/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the router: what it keeps of nodes, decisions and chains. route.c makes and frees it and ranks,
 * route_cost.c predicts one node, route_told.c takes decisions and outcomes, route_hot.c counts chains, route_error.c says
 * how far off predictions were.
 *
 * Thread: one at a time.
 */
#ifndef YK_SCHED_ROUTE_PRIV_H
#define YK_SCHED_ROUTE_PRIV_H

#include "sched/route.h"

enum route_curve { ROUTE_QUEUE, ROUTE_TRANSFER, ROUTE_COMPUTE, ROUTE_CURVES };

#define ROUTE_NONE UINT32_MAX

/* A number that stands for none of the decisions. */
#define ROUTE_NO_DECISION UINT64_C(0)

struct route_decision {
    uint64_t number; /* 0: free */
    uint64_t at_ms;
    uint32_t node;
    uint32_t prev, next; /* among the open ones of its node, oldest first */
    bool flies;          /* its node's report cannot know of it */
    uint32_t tokens, new_tokens;
    float ttft_s, work_s, slow;
    float part_s[ROUTE_CURVES]; /* as predicted */
    float x[ROUTE_CURVES][YK_COST_FEATURES];
};

/* What is learned, of one node or of all. */
struct route_curves {
    struct yk_cost_fit fit[ROUTE_CURVES];
    struct yk_cost_tail tail;
    double tail_ratio; /* of the tail: an exponential that ranking would take for each node */
};

struct route_node {
    struct route_curves learned; /* empty until its first outcome: the common one counts */
    bool has_outcomes;
    uint32_t first, last; /* its open decisions: without an outcome */
    uint32_t flying;      /* the first that its report cannot know of: those behind it neither */
    uint32_t open, in_flight;
    double open_s;       /* that the open ones will compute */
    uint64_t since_ms;   /* the latest outcome: the oldest open one runs since then, or since it was taken */
    double doubt;        /* share of its own blocks that were not there */
    uint64_t doubted_ms; /* when that was seen: it fades */
};

/* How far off the last predictions of one part were. */
#define ROUTE_ERRORS 512u
struct route_errors {
    uint32_t n; /* ever */
    float last[ROUTE_ERRORS];
};

struct route_chain {
    uint64_t hash; /* 0: free */
    uint64_t at_ms;
    float count; /* faded */
};

struct yk_router {
    struct yk_router_opts opts;
    struct yk_cost_curve prior[ROUTE_CURVES];
    struct route_curves common;
    struct route_node *nodes;
    struct route_decision *decisions;
    struct route_chain *chains;
    uint32_t sets;        /* of chains */
    uint64_t last;        /* number of the last decision */
    uint32_t open;        /* decisions */
    struct route_errors errors[YK_ROUTER_PARTS];
    uint64_t random;
    uint64_t now_ms;      /* the latest that was told */
    double mean_tokens;   /* of a prompt */
    double *scores;       /* of one call: what it ranks by, */
    uint32_t *brought;    /* and blocks that would be fetched from others or computed */
};

/* The node with what is learned of it, or of all. */
const struct route_curves *route_curves_of(const struct yk_router *router, uint32_t id);

/* Predicts. ret_choice->index is the caller's to set. */
void route_predict(const struct yk_router *router, const struct yk_router_request *request,
                   const struct yk_router_node *node, struct yk_router_choice *ret_choice);

/* Share of its own blocks that a node is believed to have. */
double route_believed(const struct yk_router *router, uint32_t id, uint64_t now_ms);

/* Decisions that a report of that time knows of, or that are too old, no longer count. */
void route_land(struct yk_router *router, uint32_t id, uint64_t reported_ms, uint64_t now_ms);

/* Seconds below 0 are not known. */
void route_note_error(struct yk_router *router, enum yk_router_part part, double predicted_s, double actual_s);
/* What the node still has to compute of what was decided for it and has no outcome yet: of the last so many, and of
 * those that its report cannot know of. *ret_known: how many these were. */
double route_open_s(const struct yk_router *router, uint32_t id, uint32_t waiting, uint64_t now_ms, uint32_t *ret_known);

/* Counts a request for the chain; is it hot? */
bool route_hot(struct yk_router *router, uint64_t chain, uint64_t now_ms);
#define ROUTE_WAYS 8u

#endif
