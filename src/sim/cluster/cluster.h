/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster of `yolk sim --nodes N`: requests of a trace against N nodes, by discrete events.
 *
 * A node is a prefill instance, a decode instance, and three tiers of blocks (VRAM, DRAM, SSD), in each of which a
 * policy object of src/sched decides, as it does in a node. A router says which node takes a request. The node looks
 * up the leading run of its blocks in its own tiers and in those of others, moves what is not in VRAM over the links,
 * computes the rest, stores it, and decodes. Links are shared: PCIe, SSDs, NICs, uplinks of zones.
 *
 *   arrive --> route --> look up --> [queue] --> compute, layer by layer behind the load --> store --> decode
 *                          |                        ^
 *                          +---- load, over links --+
 *
 * What is a model, and how good one, is in docs/scheduler.md; why it is as it is, in record 0027.
 *
 * Thread: one; no globals. The same trace, options and seed give the same figures on one build.
 * Memory: about 50 bytes for each block of capacity in the cluster (more with `learned`), 170 for each request in
 * flight, and the trace.
 */
#ifndef YK_SIM_CLUSTER_H
#define YK_SIM_CLUSTER_H

#include "base/hist.h"
#include "sim/load.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum yk_sim_tier { YK_SIM_VRAM, YK_SIM_DRAM, YK_SIM_SSD, YK_SIM_TIERS };

/* Where a hit came from: a tier of the node itself, or another node. */
#define YK_SIM_REMOTE YK_SIM_TIERS
#define YK_SIM_FROMS  (YK_SIM_TIERS + 1)

#define YK_SIM_NODES_MAX  10000u
#define YK_SIM_COPIES_MAX (1u << 30) /* blocks of capacity, all nodes and tiers */

enum yk_sim_router { YK_SIM_ROUND_ROBIN, YK_SIM_LEAST_LOADED, YK_SIM_CACHE_AWARE, YK_SIM_LEARNED_ROUTER };

/* When blocks that are elsewhere begin to move. */
enum yk_sim_prefetch {
    YK_SIM_AT_ARRIVAL, /* when the request arrives, while it queues and while earlier layers compute */
    YK_SIM_AT_START,   /* when its turn has come, while earlier layers compute */
    YK_SIM_BEFORE      /* when its turn has come, and it computes when all is there */
};

/* What becomes of a copy that another node reads, and has a copy of its own of from then on. */
enum yk_sim_replicas {
    YK_SIM_KEEP, /* it was used */
    YK_SIM_YIELD /* it is the first to go, until it is used where it is */
};

/* When blocks are written to SSD. */
enum yk_sim_writes {
    YK_SIM_WRITE_LEAVING, /* when DRAM lets them go */
    YK_SIM_WRITE_NEW      /* when they have come into DRAM */
};

/* Which of the requests that wait has its turn next. */
enum yk_sim_order {
    YK_SIM_BY_ARRIVAL,
    YK_SIM_BY_RATIO /* the one that has waited longest by how long it computes */
};

/* NULL at the end of each. */
extern const char *const yk_sim_router_names[];
extern const char *const yk_sim_prefetch_names[];
extern const char *const yk_sim_replicas_names[];
extern const char *const yk_sim_order_names[];
extern const char *const yk_sim_writes_names[];
extern const char *const yk_sim_model_names[];
extern const char *const yk_sim_gpu_names[];
extern const char *const yk_sim_cluster_policy_names[];

/* Between nodes; one direction of one node. */
struct yk_sim_link {
    double bytes_s;        /* of all its NICs */
    double uplink_bytes_s; /* its part of what leaves its zone, before oversubscription */
    double latency_s;
};

/* "tcp", "rdma", "rdma:8" (NICs, 1 to 64), "nvlink". -YK_EINVAL with text. */
int yk_sim_link_parse(const char *text, struct yk_sim_link *ret_link, struct yk_err *err);

typedef void (*yk_sim_progress_fn)(void *arg, uint64_t done, uint64_t all); /* requests */

struct yk_sim_cluster_opts {
    uint32_t nodes, zones;          /* nodes are dealt to zones in turn */
    uint32_t blocks[YK_SIM_TIERS];  /* of capacity, a node; 0: no such tier */
    const char *policy;             /* one of yk_sim_cluster_policy_names */
    const char *model, *gpu;        /* likewise */
    uint32_t prefill_gpus, decode_gpus; /* of a node; 0: as many as the model needs */
    enum yk_sim_router router;
    enum yk_sim_prefetch prefetch;
    enum yk_sim_replicas replicas;
    enum yk_sim_order order;
    enum yk_sim_writes writes;
    struct yk_sim_link link;
    double oversubscription;        /* of uplinks between zones; 1: none */
    double ssd_bytes_s;             /* reads of a node; writes have half */
    double report_s;                /* nodes tell their loads so often; 0: routers see them as they are */
    double directory_s;             /* routers know of a copy so long after it came */
    double mtbf_s;                  /* a node fails, in the mean, so often; 0: never */
    double load;                    /* requests come so many times as fast as the trace says */
    uint32_t block_tokens;
    double ttft_objective_s, tbt_objective_s; /* 0: none */
    uint64_t seed;
    yk_sim_progress_fn progress;    /* or NULL */
    void *progress_arg;
};

/* Defaults: 1 node, 1 zone, 2,000 blocks of DRAM, lru, 8b on h100, cache-aware, rdma:8, objectives 2 s and 100 ms. */
void yk_sim_cluster_opts_init(struct yk_sim_cluster_opts *opts);

/* One step of the series over time, by when requests arrived and bytes began to move. */
struct yk_sim_step {
    uint64_t blocks, hits[YK_SIM_FROMS];
    double cross_bytes;
};
#define YK_SIM_STEPS 120u

struct yk_sim_node_result {
    uint64_t requests, blocks, hit_blocks;
    double prefill_busy_s, decode_busy_s;
    double sent_bytes, received_bytes;
};

struct yk_sim_cluster_result {
    uint64_t requests, finished, blocks, hits[YK_SIM_FROMS];
    uint64_t prompt_tokens, computed_tokens, output_tokens;
    struct yk_hist ttft, tbt;     /* time to first token; between tokens, the mean of each request */
    uint64_t good;                /* requests that kept to both objectives */
    double began_s, ended_s;      /* first arrival, last token */
    double prefilled_s;           /* end of the last prefill */
    double queued_s;              /* from arrival to a request's turn, all requests */
    double asked_bytes[YK_SIM_FROMS], loaded_bytes; /* that began to move, by source; that arrived */
    double cross_zone_bytes;
    double load_s, stalled_s;     /* time that loads took, and that prefill waited for them, all requests */
    double far_load_s, far_stalled_s; /* of those that loaded from SSD or another node */
    double written_bytes;         /* to SSDs */
    uint64_t failures, repeated;  /* of nodes; requests that began anew for that */
    uint64_t demoted, not_demoted; /* blocks written to SSD; dropped, as its queue was full */
    double prefill_utilisation, decode_utilisation, nic_utilisation, ssd_utilisation, pcie_utilisation;
    double uplink_utilisation;
    uint64_t events, trainings;
    struct yk_sim_step steps[YK_SIM_STEPS];
    double step_s;
    struct yk_sim_node_result *node; /* of each */
    uint32_t nodes;
};

/* 0; -YK_EINVAL with text: an option out of range, or one that does not go with another; -YK_ENOMEM. The result is to
 * be finished. */
int yk_sim_cluster_run(const struct yk_sim_trace *trace, const struct yk_sim_cluster_opts *opts,
                       struct yk_sim_cluster_result *ret_result, struct yk_err *err);
void yk_sim_cluster_result_fini(struct yk_sim_cluster_result *result);

/* The report: one HTML file that needs no other. -YK_EIO. */
int yk_sim_cluster_report(FILE *out, const struct yk_sim_cluster_opts *opts, const struct yk_sim_cluster_result *result);

#ifdef __cplusplus
}
#endif

#endif
