/* SPDX-License-Identifier: Apache-2.0
 *
 * The router: which node should serve a request, by predicted time to first token
 *
 *     queue + transfer of what is missing + compute of the rest
 *
 * The caller says what is known of the request and of each node: its queue, how far the request's chain reaches in
 * each of its tiers, and how far elsewhere over which link. For each node the router chooses how many of these blocks
 * to fetch and how many to compute, and says of each what it expects, part by part. It learns the three curves from
 * how long requests took (cost.h), for each node with what all nodes have in common as the prior.
 *
 * Decisions that the nodes' reports cannot know of yet count as if they were in them, so requests of one moment do
 * not all go to one node. Of nodes that are about as good the one is taken that brings least, fetched from others or
 * computed: what is saved there is saved for all; of those that bring as little the one whose cache lets go what was
 * of no use for longest. Where that does not tell them apart one of two drawn at random is
 * taken, the one with less decided for it. A chain that many ask for, whose holder's queue costs more than another node's fetch, goes to that
 * other node, and the answer says that the copy is worth keeping there.
 *
 * Nothing that a node says is trusted beyond this: values out of range are cut, what is not finite is unknown, a
 * node whose queue or blocks are not what it said costs what its outcomes say, and one that has not
 * reported lately comes after all that have.
 *
 * Pure: no I/O, no clock (the caller's now_ms, which may stand still), no globals; deterministic by seed. Nothing is
 * allocated after yk_router_new. Memory: about 500 bytes a node, 110 an open decision, 24 a hot chain. Ranking
 * takes 0.2 us a node (docs/performance.md). Thread: one at a time.
 */
#ifndef YK_SCHED_ROUTE_H
#define YK_SCHED_ROUTE_H

#include "base/status.h"
#include "sched/cost.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_ROUTER_NODES_MAX   65536u
#define YK_ROUTER_SOURCES_MAX 8u         /* of one node and request; more are not looked at */
#define YK_ROUTER_BLOCKS_MAX  (1u << 24) /* of one chain */
#define YK_ROUTER_TOKENS_MAX  (1u << 28)

/* Where a node would take a block from. */
enum yk_router_from {
    YK_ROUTER_VRAM, /* of the node itself: costs nothing */
    YK_ROUTER_DRAM, /* likewise, over its bus */
    YK_ROUTER_SSD,  /* likewise */
    YK_ROUTER_PEER, /* another node's, over a link */
    YK_ROUTER_FROMS
};

/* The first `blocks` blocks of the chain can be had from here. A chain that is partly in DRAM and then on SSD is two
 * sources: DRAM with as many as lead there, SSD with as many as lead in either. */
struct yk_router_source {
    enum yk_router_from from;
    uint32_t blocks;
    double bytes_s;   /* of the link or device, for one that has it alone; 0: not known, opts.bytes_s */
    double latency_s; /* until the first byte */
    double load;      /* share of it that others use now, 0 to 1 */
    uint32_t peer;    /* of YK_ROUTER_PEER: its node, for the answer */
};

struct yk_router_node {
    uint32_t id;   /* below opts.nodes_max; the same node always has the same */
    uint32_t zone; /* not weighed by itself: links say what is far */
    /* As reported, at reported_ms of the caller's clock: requests and their prompt tokens that still have to be
     * computed. A decision that is older than the report is in it. */
    uint64_t reported_ms;
    uint32_t waiting, running; /* running: those in the engine's batch now, decoding ones among them */
    uint64_t waiting_tokens;   /* of the waiting, and of the running whose prompt is not done; 0 with waiting > 0: not known */
    double tokens_s;           /* prompt tokens that it computes a second; 0: not known, by the learned curve */
    bool refuses;              /* drains, or is full: not a candidate */
    double idle_s;             /* for how long nobody wanted the block that its cache lets go next; 0 or less: not known */
    const struct yk_router_source *sources; /* borrowed for the call */
    uint32_t n_sources;
};

struct yk_router_request {
    uint64_t now_ms;
    uint32_t tokens;         /* of the prompt */
    uint32_t blocks;         /* whole ones of it */
    uint32_t block_tokens;   /* of one; 0: tokens / blocks */
    uint64_t block_bytes;    /* of one, KV of all layers */
    uint32_t output_tokens;  /* 0: not known */
    uint64_t chain;          /* hash of the block by which requests share: see yk_router_chain; 0: none */
    double objective_s;      /* of the time to first token; 0: none, all are admitted */
};

/* Of a chain's hashes the one to be given as `chain`: that of the second block, or of the only one. The first alone
 * is the same system prompt for all there is. */
uint64_t yk_router_chain(const uint64_t *hashes, uint32_t n);

/* What is expected of one node. */
struct yk_router_choice {
    uint32_t id;
    uint32_t index;                    /* in the caller's array */
    double ttft_s;                     /* the three below */
    double queue_s, transfer_s, compute_s;
    double worse_s;                    /* it takes no longer than this with the chance opts.quantile */
    uint32_t fetch[YK_ROUTER_FROMS];   /* blocks from each; what is in VRAM costs nothing */
    uint32_t peer;                     /* of which most come, of YK_ROUTER_PEER; YK_ROUTER_NOBODY: none */
    uint32_t compute_blocks;           /* whole blocks that could be had, or not, and are computed */
    uint32_t new_tokens;               /* to compute, one at least */
    uint64_t transfer_bytes;
    uint32_t in_flight;                /* requests decided for it that its report cannot know of */
    bool silent;                       /* no report lately: after all that have */
    bool meets;                        /* worse_s is within the objective, or there is none */
    /* What the curves were asked: the router's own. */
    double x_queue[YK_COST_FEATURES], x_transfer[YK_COST_FEATURES], x_compute[YK_COST_FEATURES], slow;
};

#define YK_ROUTER_NOBODY UINT32_MAX

enum yk_router_verdict {
    YK_ROUTER_ADMIT = 0,
    YK_ROUTER_REJECT = 1, /* no node would keep to the objective: better told now than after it has waited */
    YK_ROUTER_NO_NODE = 2 /* none, or all refuse */
};

struct yk_router_answer {
    enum yk_router_verdict verdict;
    double wait_s;       /* of REJECT: about how long until the best node's queue allows it; 0: waiting does not help */
    uint32_t ranked;     /* choices written, best first */
    bool hot;            /* its chain is asked for often */
    bool replicate;      /* the first choice fetches or computes what a busier node holds, and it is worth keeping */
    bool thrifty;        /* the first is not the quickest: it brings less, and is about as good */
    bool drawn;          /* others are as good as the first, which was drawn among them */
};

struct yk_router_opts {
    uint32_t nodes_max;     /* 0: 1,024 */
    uint32_t decisions_max; /* open ones, whose outcome may be told; 0: 65,536. The oldest are given up. */
    uint32_t chains_max;    /* hot ones counted; 0: 4,096 */
    uint64_t seed;
    /* Nodes that take no longer than the best by this share (0.3 s at most) and this time are about as good: the one of
     * them that brings least is first. 0: 0.3 and 0.2 s; a share below 0: none is. */
    double good_share, good_s;
    double near_share;      /* of those that bring as little, these are equal, and drawn from; 0: 0.03; below 0: none */
    double quantile;        /* 0: 0.9 */
    double silent_ms;       /* 0: 10,000; a node without a report for so long is silent. Below 0: never */
    double overlap;         /* share of the queue's time in which transfers go on, 0 to 1. 0: queue + transfer */
    double hot_per_s;       /* requests a second that make a chain hot; 0: 1 */
    double bytes_s[YK_ROUTER_FROMS]; /* of links and devices that are not known; 0: 20, 5 and 2 GB/s */
    struct yk_cost_curve compute;    /* prior; all 0: of the shape "8b" on 200 TFLOP/s */
    struct yk_cost_opts cost;
};

struct yk_router;

/* -YK_EINVAL: an option out of range; -YK_ENOMEM. opts NULL: all defaults. */
int yk_router_new(const struct yk_router_opts *opts, struct yk_router **ret_router);
void yk_router_free(struct yk_router *router); /* NULL is fine */

/* Ranks: writes at most max (>= 1) choices, best first (of 1,000 nodes ask for few: only these are sorted). Changes no
 * counts but the chain's and the random number. -YK_EINVAL: n above nodes_max; ids out of range are left out. */
int yk_router_rank(struct yk_router *router, const struct yk_router_request *request,
                   const struct yk_router_node *nodes, uint32_t n, struct yk_router_choice *ret_choices, uint32_t max,
                   struct yk_router_answer *ret_answer);

/* The request goes to that node: counts until its report is newer, and is remembered until its outcome is told.
 * Returns its number, never 0. A choice of another call does no harm. */
uint64_t yk_router_take(struct yk_router *router, const struct yk_router_request *request,
                        const struct yk_router_choice *choice);

/* It was not sent after all, or failed. YK_MISS: not known. */
int yk_router_drop(struct yk_router *router, uint64_t decision);

/* How it went. Below 0: not known. The parts are learned from singly, ttft_s for the tail (when it is not known, the
 * sum of the parts, where all are). new_tokens: that the engine did compute; 0: not known. It corrects how far a node is believed to have what it
 * says, and compute is learned from it. */
struct yk_router_outcome {
    double queue_s, transfer_s, compute_s, ttft_s;
    uint32_t new_tokens;
};

/* 0; YK_MISS: not known, given up or told before. */
int yk_router_outcome(struct yk_router *router, uint64_t decision, const struct yk_router_outcome *outcome);

/* How far off predictions were: |predicted - actual| / actual (of 1 ms at least), of the last 512 outcomes that told
 * the part. */
enum yk_router_part { YK_ROUTER_QUEUE, YK_ROUTER_TRANSFER, YK_ROUTER_COMPUTE, YK_ROUTER_TTFT, YK_ROUTER_PARTS };
struct yk_router_error {
    uint32_t outcomes; /* that this is of */
    double mean, p90;
};
void yk_router_error(const struct yk_router *router, enum yk_router_part part, struct yk_router_error *ret_error);

/* What is held now: open decisions, chains that are asked for often. Looks at all that could be: microseconds. */
uint32_t yk_router_open(const struct yk_router *router);
uint32_t yk_router_hot_chains(const struct yk_router *router, uint64_t now_ms);

/* The node is another one now (or came back empty): what was learned of it and decided for it is forgotten. */
void yk_router_forget(struct yk_router *router, uint32_t id);

/* What was learned: of a node, or of all (id YK_ROUTER_NOBODY). */
struct yk_router_learned {
    struct yk_cost_curve queue, transfer, compute;
    double worse_ratio; /* the tail: that much longer than predicted */
    double believed;    /* share of what it says it has that was there */
    uint32_t outcomes;
    uint32_t in_flight;
};
/* -YK_EINVAL. */
int yk_router_learned(const struct yk_router *router, uint32_t id, struct yk_router_learned *ret_learned);

#ifdef __cplusplus
}
#endif

#endif
