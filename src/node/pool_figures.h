/* SPDX-License-Identifier: Apache-2.0
 *
 * The figures of the cluster that a node is in, as its pool tells them (pool.h): one row each, from which come the
 * words of /metrics (src/http), the object `cluster` of the statistics (stats.c) and what a node tells those who
 * ask it (src/dir/info.c). A new figure is a row here and its value in src/dir/figures.c.
 *
 *   X(field, type, metric, label, value, help)   type: C counter, G gauge; label "" = none
 *
 * Rows of one metric stand together and have one help text.
 */
#ifndef YK_NODE_POOL_FIGURES_H
#define YK_NODE_POOL_FIGURES_H

#include <stdint.h>

#define YK_POOL_H_NODES  "Nodes in the map, by state."
#define YK_POOL_H_SLOTS  "Slots of the directory that this node owns; whole: it has heard all members of them."
#define YK_POOL_H_KEYS   "Entries of the directory in this node's slots."
#define YK_POOL_H_PULLS  "Blocks that were wanted from other nodes, by how that ended."
#define YK_POOL_H_BYTES  "Payload bytes of blocks that were brought from other nodes; cross: from those of another zone."
#define YK_POOL_H_FRAMES "Frames between nodes."
#define YK_POOL_H_WIRE   "Bytes of frames between nodes, without payload."
#define YK_POOL_H_CONNS  "Connections to nodes that ended and were not meant to, frames that did not fit, questions without answer."

#define YK_POOL_FIGURES(X)                                                                                             \
    X(members, G, "yolk_cluster_nodes", "state", "member", YK_POOL_H_NODES)                                            \
    X(returning, G, "yolk_cluster_nodes", "state", "returning", YK_POOL_H_NODES)                                       \
    X(expelled, G, "yolk_cluster_nodes", "state", "expelled", YK_POOL_H_NODES)                                         \
    X(serves, G, "yolk_cluster_serving", "", "", "1: this node is a member and serves others.")                        \
    X(etcd, G, "yolk_cluster_etcd", "", "", "1: this node holds its lease in etcd.")                                   \
    X(balancer, G, "yolk_cluster_balancer", "", "", "1: this node is the balancer.")                                   \
    X(incarnation, G, "yolk_cluster_incarnation", "", "", "Lives of this node so far.")                                \
    X(map_version, G, "yolk_cluster_map_version", "", "", "Version of the map that this node acts on.")                \
    X(slots_owned, G, "yolk_cluster_slots", "state", "owned", YK_POOL_H_SLOTS)                                         \
    X(slots_whole, G, "yolk_cluster_slots", "state", "whole", YK_POOL_H_SLOTS)                                         \
    X(entries, G, "yolk_cluster_entries", "kind", "block", YK_POOL_H_KEYS)                                             \
    X(aliases, G, "yolk_cluster_entries", "kind", "alias", YK_POOL_H_KEYS)                                             \
    X(held, G, "yolk_cluster_held_blocks", "", "", "Blocks of this node that it tells owners of.")                     \
    X(unpublished, G, "yolk_cluster_lag_changes", "", "",                                                              \
      "Changes here that the owners of their slots have not confirmed yet.")                                           \
    X(removes_pending, G, "yolk_cluster_removes_pending", "", "",                                                      \
      "Removes in this node's slots that not every member has applied.")                                               \
    X(removes, C, "yolk_cluster_removes_total", "", "", "Removes that were numbered in this node's slots.")            \
    X(conflicts, C, "yolk_cluster_conflicts_total", "", "", "Keys that two nodes had with different bytes.")           \
    X(repaired, C, "yolk_cluster_digests_differed_total", "", "",                                                        \
      "Digests of what a node has of a slot that were not what this owner knew; it then asks for all of it.")            \
    X(finds, C, "yolk_cluster_finds_total", "", "", "Keys that were looked up in this node's slots.")                  \
    X(asks, C, "yolk_cluster_asks_total", "", "", "Questions of this node's clients that went to owners.")             \
    X(ask_keys, C, "yolk_cluster_ask_keys_total", "", "", "Keys in these.")                                            \
    X(cache_hits, C, "yolk_cluster_cached_locations_total", "", "",                                                    \
      "Blocks that were looked for where they were a moment ago, without asking.")                                     \
    X(refused, C, "yolk_cluster_refused_total", "", "", "Requests that went on without the cluster: too much was under way.") \
    X(asking, G, "yolk_cluster_asking", "", "", "Questions under way.")                                                \
    X(pulled, C, "yolk_cluster_pulls_total", "result", "brought", YK_POOL_H_PULLS)                                     \
    X(pull_failed, C, "yolk_cluster_pulls_total", "result", "failed", YK_POOL_H_PULLS)                                 \
    X(pull_tries, C, "yolk_cluster_pull_tries_total", "", "", "Holders that were asked for a block.")                  \
    X(pulling, G, "yolk_cluster_pulling", "", "", "Blocks on their way here.")                                         \
    X(pulled_bytes, C, "yolk_cluster_pulled_bytes_total", "zone", "all", YK_POOL_H_BYTES)                              \
    X(pulled_cross_bytes, C, "yolk_cluster_pulled_bytes_total", "zone", "cross", YK_POOL_H_BYTES)                      \
    X(lent, C, "yolk_cluster_lent_total", "", "", "Blocks of this node that others were told the place of.")           \
    X(peer_conns, G, "yolk_cluster_connections", "", "", "Connections with nodes and guests.")                         \
    X(frames_in, C, "yolk_cluster_frames_total", "direction", "in", YK_POOL_H_FRAMES)                                  \
    X(frames_out, C, "yolk_cluster_frames_total", "direction", "out", YK_POOL_H_FRAMES)                                \
    X(bytes_in, C, "yolk_cluster_frame_bytes_total", "direction", "in", YK_POOL_H_WIRE)                                \
    X(bytes_out, C, "yolk_cluster_frame_bytes_total", "direction", "out", YK_POOL_H_WIRE)                              \
    X(broken, C, "yolk_cluster_faults_total", "kind", "broken", YK_POOL_H_CONNS)                                       \
    X(refused_frames, C, "yolk_cluster_faults_total", "kind", "refused", YK_POOL_H_CONNS)                              \
    X(timeouts, C, "yolk_cluster_faults_total", "kind", "timeout", YK_POOL_H_CONNS)                                    \
    X(log_records, G, "yolk_cluster_remove_log_records", "", "", "Records in the log of removes.")                     \
    X(log_bytes, G, "yolk_cluster_remove_log_bytes", "", "", "Size of the log of removes.")                            \
    X(log_failed, G, "yolk_cluster_remove_log_failed", "", "", "1: the log of removes cannot be written.")

struct yk_pool_figures {
#define YK_POOL_FIELD(field, type, metric, label, value, help) uint64_t field;
    YK_POOL_FIGURES(YK_POOL_FIELD)
#undef YK_POOL_FIELD
};

#endif
