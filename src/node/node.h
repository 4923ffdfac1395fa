/* SPDX-License-Identifier: Apache-2.0
 *
 * A storage node: one owner thread with an event loop around a block table, its listeners, and two
 * helpers of low priority (populate, scrub).
 *
 * The same object runs in yolkd and, through libyolk-node, inside an engine's process.
 *
 * Threads: start, stop and connect from any one thread; counters and statistics from any.
 */
#ifndef YK_NODE_NODE_H
#define YK_NODE_NODE_H

#include "base/hist.h"
#include "base/parse.h"
#include "node/store.h"
#include "sched/learned.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_node;
struct yk_pool_ops; /* node/pool.h */

#define YK_NODE_LISTEN_MAX 8u

struct yk_node_opts {
    struct yk_store_opts store;
    struct yk_addr listen[YK_NODE_LISTEN_MAX]; /* unix, or tcp on a loopback address */
    uint32_t listen_count;
    const int *listen_fds; /* listening sockets that were passed in; taken over */
    uint32_t listen_fd_count;
    uint32_t unix_mode;       /* permissions of unix sockets, e.g. 0660; 0 = 0600 */
    uint32_t max_conns;       /* 0 = 4096 */
    uint32_t stop_timeout_ms; /* replies under way may take this long at a stop; 0 = 2000 */
    uint32_t settle_ms; /* and writing to SSD what only memory has; 0 = it is not written */
    uint64_t
        scrub_bytes_per_s; /* of the background pass; 0 = none. Suspect blocks are always read */
    uint32_t scrub_interval_s; /* between two passes */
    int populate;              /* touch a fresh tier in the background; with an SSD tier any */
    uint32_t compact_percent;  /* fragments above which an idle node moves blocks; 0 = never */
    uint32_t learned_save_ms;  /* between two writes of store.learned_path; 0 = 300,000 */
    int allow_remote;          /* tcp on other than loopback addresses: nobody is authenticated */
    /* Where the transfer engine listens for peers that cannot map the memory: "HOST:PORT" (port 0: any free
     * one), "auto" (the host of the first tcp listener; without one there is no engine), or "off" = NULL.
     * Borrowed during start. */
    const char *transfer;
    uint32_t transports; /* of it, bits of enum yk_xfer_transports (yolk/transfer.h); 0 = all. Benchmarks: peers on this
                            host as if they were on another */
    const char *rdma;    /* devices and settings of rdma, as yk_xfer_opts has them; NULL: all. Borrowed during start */
    const struct yk_pool_ops *pool; /* the cluster that it is in; copied. NULL: it is alone */
    uint32_t pool_wait_ms; /* that a request without a deadline waits for it; 0 = 4500: less than the 5 s of a
                              client's call, so that it hears how it went */
};

/* Opens the store, listens, starts the thread; serving when it returns. Errors as yk_store_open,
 * and EBUSY or EPERM for an address, the transfer engine's as well. */
int yk_node_start(const struct yk_node_opts *opts, struct yk_node **ret_node, struct yk_err *err);

/* Ends connections, writes the segment off as clean, joins, frees. NULL is fine. */
void yk_node_stop(struct yk_node *node);

/* As stop, after a start that failed later on: a segment that it had made, and that holds nothing, is
 * removed. */
void yk_node_discard(struct yk_node *node);

/* One end of a new connection to this node, for a client in the same process; the caller owns it.
 */
int yk_node_connect(struct yk_node *node, int *ret_fd);

/* Asks the event loop for a sign of life and returns how many it has given so far: a number that
 * does not change between two calls means a loop that hangs. Any thread; does not block. */
uint64_t yk_node_beats(struct yk_node *node);

/* Where peers reach the transfer engine: "host:port,...,unix:/path"; "" = there is none. Any thread; valid
 * until stop. */
const char *yk_node_transfer(const struct yk_node *node);

/* The transfer engine, which has the payload of the DRAM tier registered; NULL = there is none. Any thread; valid
 * until stop. */
struct yk_xfer;
struct yk_xfer *yk_node_engine(const struct yk_node *node);
/* Where its payload is, as yk_xfer_open takes it, for other nodes; "" = nowhere. As above. */
const char *yk_node_segment(const struct yk_node *node);

/* Where other nodes of its cluster reach this one, "host:port": told in its statistics. Any thread; copied. */
void yk_node_set_peers(struct yk_node *node, const char *address);

struct yk_node_stats {
    struct yk_counters store;
    uint64_t conns, conns_accepted, conns_refused, protocol_errors;
    uint64_t in_bytes, out_bytes, waiting, wait_timeouts;
    uint64_t requests[YK_MSG_OPS]; /* frames, by op */
    uint64_t keys[YK_MSG_OPS];     /* items in them */
    uint64_t conn_buffer_bytes;    /* of frames that arrive and replies that leave */
    uint64_t populated_bytes, scrubbed_bytes, scrub_passes;
    uint64_t start_wall_ms;
};

/* A relaxed copy; any thread. */
void yk_node_stats(const struct yk_node *node, struct yk_node_stats *ret);

/* The SSD tier, for its figures; NULL: there is none. Valid until stop; any thread may copy counters,
 * statistics of devices and latencies. */
const struct yk_ssd *yk_node_ssd(const struct yk_node *node);

/* Service time of an op in the node, from its frame complete to its reply queued. Any thread may
 * take a snapshot of it. Never NULL for an op of enum yk_wire_op. */
const struct yk_hist *yk_node_latency(const struct yk_node *node, unsigned op);

/* Information of namespace number ns (0..YK_SHM_NAMESPACES-1) as it was at the last tick; YK_MISS
 * when there is none. Any thread. */
int yk_node_ns_info(struct yk_node *node, uint32_t ns, yk_ns_info *ret_info);

/* Lookups in namespace number ns. Any thread. */
void yk_node_ns_lookups(const struct yk_node *node, uint32_t ns, struct yk_ns_lookups *ret);

/* How the policy of the `at`-th namespace that has one does, if it learns; YK_MISS: there are no more. Any thread. */
int yk_node_learned(struct yk_node *node, uint32_t at, char ret_name[64], struct yk_learned_report *ret_report);

/* The statistics as one JSON object, terminated; the caller frees it. Any thread. -YK_ENOMEM. */
int yk_node_stats_json(struct yk_node *node, char **ret_json);

/* What the segment was at the start, and why it was empty if it was ("" otherwise). */
enum yk_segment_found yk_node_found(const struct yk_node *node, const char **ret_why);

/* 1 when the tier was lost (a file was truncated, or its file system is full): lookups miss, puts are refused. */
int yk_node_tier_lost(const struct yk_node *node);

#ifdef __cplusplus
}
#endif

#endif
