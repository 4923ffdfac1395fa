/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the cluster simulator share. Each part is a file and knows only the struct below it here:
 *
 *   shapes.c   what a model costs on a GPU         flows.c    links and the transfers that share them
 *   copies.c   who has which block; tiers          plan.c     where a request's blocks come from
 *   prefill.c  queue, compute behind the load      decode.c   tokens in batches
 *   routing.c  which node                          cluster.c  the whole run; measure.c its figures
 *   fail.c     nodes that lose everything
 *
 * Times are seconds as doubles from the start of the trace. Everything is indexed by dense numbers; pools grow by
 * doubling and are never shrunk.
 *
 * Thread: one.
 */
#ifndef YK_SIM_CLUSTER_PRIV_H
#define YK_SIM_CLUSTER_PRIV_H

#include "sched/policy.h"
#include "sched/route.h"
#include "sim/cluster/cluster.h"
#include "sim/cluster/timers_priv.h"

#define NONE UINT32_MAX

/* ---- shapes.c ---------------------------------------------------------------------------------- */

/* A model on the GPUs of a node. */
struct cost {
    double layers, active_params, attention; /* FLOPs of a pair of tokens */
    double block_bytes, token_bytes;         /* of KV */
    double weight_bytes, active_bytes;       /* all; what one token needs of them */
    double prefill_flops_s, decode_flops_s, decode_bytes_s;
    double pcie_bytes_s;                     /* into the prefill instance */
    uint32_t prefill_gpus, decode_gpus;
};

int cost_init(struct cost *cost, const struct yk_sim_cluster_opts *opts, struct yk_err *err); /* -YK_EINVAL */
/* Of a prompt of so many tokens, of which the first `hit` are there. */
double cost_prefill_s(const struct cost *cost, double hit, double tokens);
/* One token for each of so many requests, whose contexts have so many tokens together. */
double cost_step_s(const struct cost *cost, uint32_t requests, double context);

/* ---- flows.c ----------------------------------------------------------------------------------- */

#define PATH_MAX_LINKS 7

struct link {
    double bytes_s, share; /* share: of each flow, as of when flows were counted last */
    double carried;        /* bytes, of all flows that began */
    uint32_t n, shared_n;
    uint32_t first;        /* of its flows: flow * 8 + place in its path */
};

struct flow {
    double bytes, left, rate, at, latency_s;
    uint32_t job;
    uint8_t n_links, from;  /* from: YK_SIM_FROMS */
    bool arriving;          /* its bytes are through; the latency is left */
    uint32_t link[PATH_MAX_LINKS], next[PATH_MAX_LINKS], prev[PATH_MAX_LINKS];
};

struct flows {
    struct link *links;
    struct flow *flow;
    uint32_t n_links, n, cap, free; /* free: through next[0] */
    struct timers *timers;
    uint32_t timer0; /* the timer of flow 0 */
};

int flows_init(struct flows *flows, uint32_t n_links, struct timers *timers, uint32_t timer0);
void flows_set_link(struct flows *flows, uint32_t link, double bytes_s); /* before any flow */
void flows_fini(struct flows *flows);
/* Begins to move bytes. The number of the flow, or -YK_ENOMEM. */
int64_t flows_begin(struct flows *flows, double now, const uint32_t *path, uint8_t n, double bytes, double latency_s);
/* Its timer came: true when it has arrived, and is no more once flows_free was called. */
bool flows_step(struct flows *flows, double now, uint32_t flow);
void flows_free(struct flows *flows, uint32_t flow);
bool flows_moves(const struct flows *flows, uint32_t flow);
void flows_end(struct flows *flows, double now, uint32_t flow); /* before it has arrived */

/* ---- copies.c ---------------------------------------------------------------------------------- */

struct copy {
    uint32_t block, cache;
    uint32_t next, prev; /* of the same block; next: of the free ones too */
    float used_s;        /* last; 0: it yields */
    float came_s;
};

/* A tier of a node. */
struct cache {
    uint32_t base, capacity, count, used, free; /* used: places ever */
    uint32_t reserved, reserved_for;            /* a place, or NONE; the block */
    struct yk_policy_space *space;
    struct yk_policy *policy;
    bool wants_requests, knows_parents, learns;
};

struct copies {
    const struct yk_sim_trace *trace;
    struct copy *copy;     /* by place */
    struct cache *cache;   /* by node * YK_SIM_TIERS + tier */
    uint32_t *first;       /* by block: one of its places */
    uint32_t *table;       /* (cache, block) -> place + 1; open addressing, a power of two */
    uint64_t mask, trainings;
    uint32_t caches, block_tokens;
    float now_s;
    uint64_t *hashes;      /* of a request, for policies */
    uint32_t hashes_max;
};

int copies_init(struct copies *copies, const struct yk_sim_trace *trace, const struct yk_sim_cluster_opts *opts,
                struct yk_err *err);
void copies_fini(struct copies *copies);
/* The place, or NONE. */
uint32_t copies_find(const struct copies *copies, uint32_t cache, uint32_t block);
int copies_request(struct copies *copies, uint32_t node, uint64_t number, double now); /* tells policies of it */
void copies_touch(struct copies *copies, uint32_t place);
/* It is the first to go until it is used again. */
void copies_yield(struct copies *copies, uint32_t place);
/* The tier has nothing any more. */
void copies_lose(struct copies *copies, uint32_t cache);
/* For how long nobody used what would go next; longer than any is, while there is room. */
double copies_idle_s(struct copies *copies, uint32_t cache);
/* Accesses it there, or brings it in. comes: the block that is brought in next, if it was not there, or NONE. *ret_gone:
 * the block that had to go, or NONE. 0 or a failure. */
int copies_use(struct copies *copies, uint32_t cache, uint32_t block, uint32_t comes, uint32_t *ret_gone);

/* ---- jobs: requests between arrival and last token ----------------------------------------------- */

struct job {
    uint64_t number;        /* in the trace */
    uint64_t decision;      /* of the learned router, or 0 */
    double arrived, started, computed, compute_s, ended;
    double load_began, loaded, load_s; /* loaded: the end of the last load */
    double tokens, hit_tokens;
    double backlog_s, waiting_tokens; /* that it stands for in its node's queue */
    double first_s;         /* when it had its first token; 0: not yet */
    double due;             /* decode: at which step it has its last token */
    uint32_t node, next;    /* next: in the queue, or of the free ones */
    uint32_t run;           /* blocks that are not computed */
    uint32_t flows;         /* that still move */
    uint32_t hits[YK_SIM_FROMS];
};

enum prefill_state {
    PREFILL_IDLE,    /* no job */
    PREFILL_LOADING, /* only with YK_SIM_BEFORE: waits for flows, then computes */
    PREFILL_COMPUTE, /* timer: all layers computed, if each was loaded in time */
    PREFILL_STALLED, /* they could have been, but flows still move */
    PREFILL_LAST     /* timer: the layer that was loaded last */
};

struct node {
    enum prefill_state state;
    uint32_t running;     /* job in prefill, or NONE */
    uint32_t first, last; /* of the queue */
    uint32_t waiting;     /* the running one among them */
    double waiting_tokens; /* that they compute */
    double backlog_s;      /* which takes so long */
    double written_until;  /* the SSD's queue of writes is empty by then */
    /* decode */
    uint32_t *batch;      /* heap of jobs by due */
    uint32_t n_batch, cap_batch;
    double steps, step_at, step_s, context; /* steps made until step_at; how long one takes now */
};

/* What routers are told of a node's load. */
struct report {
    double backlog_s, waiting_tokens, context, idle_s;
    uint32_t waiting, n_batch;
};

enum node_link { LINK_PCIE, LINK_SSD, LINK_IN, LINK_OUT, NODE_LINKS };

struct cluster {
    const struct yk_sim_trace *trace;
    const struct yk_sim_cluster_opts *opts;
    struct yk_sim_cluster_result *result;
    struct cost cost;
    struct timers timers; /* node: prefill; nodes + node: decode; 2 * nodes + flow */
    struct flows flows;
    struct copies copies;
    struct node *node;
    struct job *jobs;
    uint32_t n_jobs, cap_jobs, free_job;
    double now;
    double fails_at;        /* when the next node fails */
    uint64_t random;
    /* routing.c */
    uint32_t turn;
    struct report *reports; /* by node */
    double reported_s;      /* when they were made */
    uint32_t fills;  /* the tier in which what comes takes room */
    uint32_t *reach; /* by node, three each: blocks that VRAM, that and DRAM, and all tiers lead through */
    uint32_t *reached, n_reached;
    struct yk_router *router;
    uint32_t *of_zone; /* the node that leads farthest, of zones that have one */
    double *keys;    /* by node: what it is chosen by to be shown */
    uint32_t *shown; /* to the router */
    struct yk_router_node *router_nodes;
    struct yk_router_source *router_sources;
};

static inline const struct yk_sim_req *job_req(const struct cluster *c, const struct job *j) {
    return &c->trace->reqs[j->number];
}

static inline uint32_t node_link(uint32_t node, enum node_link which) {
    return node * NODE_LINKS + (uint32_t)which;
}

static inline uint32_t zone_of(const struct cluster *c, uint32_t node) {
    return node % c->opts->zones;
}

static inline uint32_t cache_of(uint32_t node, uint32_t tier) {
    return node * YK_SIM_TIERS + tier;
}

/* ---- plan.c ---- */
/* Looks up how far the request's blocks lead from where it is, and begins to move them. 0 or a failure. */
int plan_load(struct cluster *c, uint32_t job);
/* A flow of it has arrived. */
int plan_arrived(struct cluster *c, uint32_t flow);
/* All its blocks were used: they stay in what tiers there are. */
int plan_store(struct cluster *c, uint32_t job);

/* ---- prefill.c ---- */
int prefill_join(struct cluster *c, uint32_t job);
/* The node has no request any more: they are put before those of the list. */
void prefill_lose(struct cluster *c, uint32_t node, uint32_t *list);
int prefill_step(struct cluster *c, uint32_t node);   /* its timer came */
int prefill_loaded(struct cluster *c, uint32_t job);  /* its last flow has arrived */

/* ---- decode.c ---- */
void decode_lose(struct cluster *c, uint32_t node, uint32_t *list); /* as prefill_lose */
int decode_join(struct cluster *c, uint32_t job);
void decode_step(struct cluster *c, uint32_t node);

/* ---- routing.c ---- */
int routing_init(struct cluster *c);
void routing_fini(struct cluster *c);
/* Sets the job's node. 0 or a failure. */
int routing_choose(struct cluster *c, struct job *job);
void routing_lost(struct cluster *c, uint32_t node); /* it is empty */
void routing_tell(struct cluster *c, const struct job *job); /* its first token is there */

/* ---- measure.c ---- */
void measure_arrival(struct cluster *c, const struct job *job);
void measure_bytes(struct cluster *c, const struct job *job, uint32_t from, uint32_t source, double bytes);
void measure_first_token(struct cluster *c, struct job *job);
void measure_end(struct cluster *c, const struct job *job); /* its last token */
void measure_all(struct cluster *c);

/* ---- fail.c ---- */
void fail_plan(struct cluster *c); /* chooses when the next node fails */
int fail_next(struct cluster *c);  /* it does */

/* ---- cluster.c ---- */
int cluster_send(struct cluster *c, uint32_t job); /* to the node that the router says */
void cluster_set_now(struct cluster *c, double now);
void cluster_free_job(struct cluster *c, uint32_t job);

#endif
