/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk sim --nodes N: its options, which are rows of sim.c's table, and the run.
 */
#ifndef YOLK_SIM_CLUSTER_H
#define YOLK_SIM_CLUSTER_H

#include "cmd.h"

#include "sim/cluster/cluster.h"

struct sim_cluster_config {
    int64_t nodes, zones, vram, dram, prefill_gpus, decode_gpus, block_tokens;
    int router, prefetch, replicas, order, writes, model, gpu;
    char *link, *html;
    double load, oversubscription;
    uint64_t ssd_rate, ttft_ns, tbt_ns, report_ns, directory_ns, mtbf_ns;
};

/* What the cluster takes of sim's other options. */
struct sim_cluster_common {
    const char *policy;
    uint64_t ssd_blocks; /* 0: none; YK_SIM_BELOW_ALL: as many as there are */
    uint64_t seed;
    bool json, quiet;
};

#define SIM_CLUSTER_ROW(config_, name_, type_, field_)                                             \
    .name = (name_), .type = (type_), YK_OPT_AT(config_, cluster.field_), .section = "cluster"

#define SIM_CLUSTER_ROWS(config_)                                                                  \
    {SIM_CLUSTER_ROW(config_, "nodes", YK_OPT_INT, nodes), .letter = 'n', .def = "0", .min = "0", .max = "10000", \
     .help = "Simulate a cluster of so many nodes, by events in time. The options below go with it."}, \
    {SIM_CLUSTER_ROW(config_, "vram", YK_OPT_INT, vram), .def = "0", .min = "0", .max = "60000000", .metavar = "BLOCKS", \
     .help = "Blocks that a node keeps in VRAM."},                                                 \
    {SIM_CLUSTER_ROW(config_, "dram", YK_OPT_INT, dram), .def = "2000", .min = "0", .max = "60000000", .metavar = "BLOCKS", \
     .help = "Blocks that a node keeps in DRAM."},                                                 \
    {SIM_CLUSTER_ROW(config_, "router", YK_OPT_ENUM, router), .def = "cache-aware", .values = yk_sim_router_names, \
     .help = "Which node takes a request: the next; the shortest queue; the longest prefix; or by the time to first token " \
             "that is predicted for each."},                                                       \
    {SIM_CLUSTER_ROW(config_, "prefetch", YK_OPT_ENUM, prefetch), .values = yk_sim_prefetch_names, \
     .help = "Blocks begin to move when the request arrives, or when its turn has come, each behind the layers that are " \
             "computed; or before anything is computed."},                                         \
    {SIM_CLUSTER_ROW(config_, "replicas", YK_OPT_ENUM, replicas), .values = yk_sim_replicas_names, \
     .help = "What another node reads counts as used here, too; or is the first to go, as that node has it now."}, \
    {SIM_CLUSTER_ROW(config_, "order", YK_OPT_ENUM, order), .values = yk_sim_order_names,         \
     .help = "Prompts of a node have their turns as they came; or the one that has waited longest by how long it computes."}, \
    {SIM_CLUSTER_ROW(config_, "write", YK_OPT_ENUM, writes), .values = yk_sim_writes_names,       \
     .help = "Blocks are written to SSD when DRAM lets them go; or when they have come into DRAM, so that they can go at once."}, \
    {SIM_CLUSTER_ROW(config_, "model", YK_OPT_ENUM, model), .def = "8b", .values = yk_sim_model_names, \
     .help = "Shape of the model: what tokens cost, and how large blocks are."},                   \
    {SIM_CLUSTER_ROW(config_, "gpu", YK_OPT_ENUM, gpu), .def = "h100", .values = yk_sim_gpu_names, .help = "What computes."}, \
    {SIM_CLUSTER_ROW(config_, "prefill-gpus", YK_OPT_INT, prefill_gpus), .def = "0", .min = "0", .max = "1024", \
     .help = "GPUs of a node for prompts; 0: as many as the model needs (8b 1, 70b 4, moe 16)."},  \
    {SIM_CLUSTER_ROW(config_, "decode-gpus", YK_OPT_INT, decode_gpus), .def = "0", .min = "0", .max = "1024", \
     .help = "The same for output."},                                                              \
    {SIM_CLUSTER_ROW(config_, "link", YK_OPT_STR, link), .def = "rdma:8", .metavar = "tcp|rdma:NICS|nvlink", \
     .help = "Between nodes."},                                                                    \
    {SIM_CLUSTER_ROW(config_, "zones", YK_OPT_INT, zones), .def = "1", .min = "1", .max = "10000", \
     .help = "Nodes are dealt to so many zones, whose uplinks they share."},                       \
    {SIM_CLUSTER_ROW(config_, "oversubscription", YK_OPT_REAL, oversubscription), .def = "4", .min = "1", .max = "1000", \
     .help = "A zone's uplink has its nodes' links together, divided by this."},                   \
    {SIM_CLUSTER_ROW(config_, "ssd-rate", YK_OPT_SIZE, ssd_rate), .def = "12000000000", .min = "1", \
     .help = "Bytes a second that a node reads from SSD; it writes half as many."},                \
    {SIM_CLUSTER_ROW(config_, "load", YK_OPT_REAL, load), .def = "1", .min = "0.000001", .max = "1000000", \
     .help = "Requests come so many times as fast as the trace says."},                            \
    {SIM_CLUSTER_ROW(config_, "report-every", YK_OPT_DURATION, report_ns), .def = "0", .metavar = "TIME", \
     .help = "Routers see queues as they were at the last report of all nodes; 0: as they are."},  \
    {SIM_CLUSTER_ROW(config_, "directory-delay", YK_OPT_DURATION, directory_ns), .def = "0", .metavar = "TIME", \
     .help = "Routers know of a copy of a block so long after it came."},                          \
    {SIM_CLUSTER_ROW(config_, "mtbf", YK_OPT_DURATION, mtbf_ns), .def = "0", .metavar = "TIME",    \
     .help = "A node fails in the mean so often, by the seed: it is back at once, without a block, and its requests begin " \
             "anew; 0: never."},                                                                   \
    {SIM_CLUSTER_ROW(config_, "block-tokens", YK_OPT_INT, block_tokens), .def = "512", .min = "1", .max = "1048576", \
     .help = "Tokens of one block of the trace."},                                                 \
    {SIM_CLUSTER_ROW(config_, "ttft-objective", YK_OPT_DURATION, ttft_ns), .def = "2s", .metavar = "TIME", \
     .help = "Time to first token within which a request counts as good; 0: any."},                \
    {SIM_CLUSTER_ROW(config_, "tbt-objective", YK_OPT_DURATION, tbt_ns), .def = "100ms", .metavar = "TIME", \
     .help = "The same for the mean time between its tokens."},                                    \
    {SIM_CLUSTER_ROW(config_, "html", YK_OPT_STR, html), .metavar = "FILE",                        \
     .help = "Write a report with plots, too: one file, which needs no other."}

/* Fails, with the text printed, where an option of the cluster was given without --nodes, or one of the single cache with
 * it. An exit code. */
int sim_cluster_check(const struct yk_opts *opts, bool is_cluster);

/* Runs it and prints. An exit code. */
int sim_cluster(const struct sim_cluster_config *config, const struct sim_cluster_common *common,
                const struct yk_sim_trace *trace);

#endif
