/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's part of the cluster (docs/decisions/0016): it joins, tells owners of slots what the node has, owns
 * slots itself, brings blocks from other nodes, and answers peers and guests. It ties together what the other
 * files of this folder are:
 *
 *   dir.c     the thread and its life
 *   post.c    what goes between it and the node's owner thread
 *   join.c    membership, map, the core; log_lost.c when its log cannot be written
 *   change.c  what this node has, to the core
 *   wish.c    what clients of this node want: ask.c (where are these keys?), cache.c (where they were lately),
 *             pull.c (a block comes from another node), reach.c (segments of others)
 *   copy.c    copies that are wanted, with take.c (made here), give.c (moved from here), place.c (where), repair.c
 *             (what lost one) and task.c (asked for by name)
 *   drain.c   a node that drains hands its blocks over
 *   remove.c  removes, wanted and applied; ns.c namespaces; epoch.c their epochs, as messages tell them
 *   sync.c    the log of removes, onto its disk
 *   serve.c   what peers and guests ask; info.c what they are told of the cluster; figures.c what is counted
 *
 * Life: new, then yk_node_start with yk_dir_pool's ops, then start; to end: stop, then yk_node_stop, then
 * free. Before start and after stop the node's wishes are refused (-YK_EAGAIN): it goes on alone.
 *
 * One thread, `yolk-dir`, has a libuv loop and owns everything. To the node's owner thread it speaks by
 * yk_node_post, in order; from it by two queues: a ring of bytes for what changed (no lock, no allocation), and
 * a list of wishes, both with limits. A copy from elsewhere is judged (yk_dir_core_may_commit) on this thread
 * just before its commit is posted, and a removal is posted after the core has noted it: so either the copy is
 * refused, or the removal comes behind it.
 *
 * Threads: new, start, stop, free: the caller's, one at a time. The rest as it says.
 */
#ifndef YK_DIR_DIR_H
#define YK_DIR_DIR_H

#include "dir/core.h"
#include "dir/peer.h"
#include "meta/meta.h"
#include "node/node.h"
#include "node/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_dir;

/* NULL and 0 stand for what is in brackets. Copied by new. */
struct yk_dir_opts {
    struct yk_meta_opts meta;  /* endpoints NULL: embedded, for tests: a cluster of one process */
    struct yk_meta *shared_meta; /* tests: this one in place of one made of `meta`; borrowed until free */
    const char *prefix;        /* of the cluster's keys, without '/' at its end ["yolk"] */
    const char *name;          /* of this node; 1 to YK_DIR_NAME_MAX bytes */
    const char *zone;          /* [""] */
    const char *listen;        /* "HOST:PORT" for peers; port 0: any free one */
    const char *advertise;     /* host that others reach this one by, in place of that of `listen` [NULL] */
    const char *clients;       /* where clients connect, for others to read [""] */
    const char *local;         /* where clients of this host do, "unix:..." [""] */
    const char *state_dir;     /* map, incarnation, log of removes */
    int allow_remote;
    uint32_t lease_ms;         /* [3000] */
    uint32_t start_ms;         /* how long start may take to become a member [10000] */
    uint32_t cut_off_ms;       /* this node's own clients find what it holds for so long after etcd was last heard, at
                                  least lease_ms [120000] */
    /* A node waits longer where etcd is there and it is for time or other nodes, and one that has been a member of its
     * cluster before also where etcd is away. Called on the thread of start when that begins and about once a second: why, and since when
     * (monotonic). Not 0: start ends with -YK_ECANCELED. NULL: it ends after start_ms in any case. */
    int (*waits)(void *arg, const char *why, uint64_t since_ns);
    void *waits_arg;
    uint64_t seed;
};

/* -YK_EINVAL (which option), -YK_ENOMEM. */
int yk_dir_new(const struct yk_dir_opts *opts, struct yk_dir **ret_dir, struct yk_err *err);
/* For struct yk_node_opts; valid until free. */
const struct yk_pool_ops *yk_dir_pool(struct yk_dir *dir);

/* Reads the map, joins, and is a member when it returns. The node outlives stop. -YK_EGONE: no etcd answers;
 * -YK_EPERM: credentials; -YK_EBUSY: a live node has the name, or the address; -YK_ECONFLICT: the state on disk is
 * another cluster's; -YK_EVERSION; -YK_ECORRUPT; -YK_EIO; -YK_ETIMEDOUT; -YK_ECANCELED (opts.waits). The text says
 * what to do. */
int yk_dir_start(struct yk_dir *dir, struct yk_node *node, struct yk_err *err);
/* Leaves: the lease is given back, peers see connections close, copies under way are given up. What was wished
 * is answered before it returns. NULL and one that was not started are fine. */
void yk_dir_stop(struct yk_dir *dir);
void yk_dir_free(struct yk_dir *dir);

/* "host:port" that peers and guests reach it by; "" before start. Any thread; valid until stop. */
const char *yk_dir_address(const struct yk_dir *dir);

/* What has been counted, and the state. Any thread; at most a second old. */
struct yk_dir_stats {
    uint32_t id, members, returning, expelled;
    uint64_t incarnation, map_version;
    int serves, etcd, balancer; /* etcd: the lease is held */
    int kept_out; /* its log of removes cannot be written: it keeps out of the cluster until it can */
    int walking;  /* changes were lost, or it starts: it looks at all blocks */
    struct yk_dir_core_counts core;
    struct yk_peers_counts peers;
    uint64_t pulls, pulled, pulled_bytes, pull_failed, pull_tries; /* keys; tries: holders that were asked */
    uint64_t far_pulled, far_pulled_bytes;                         /* of them from nodes of other zones */
    uint64_t lent;                                                 /* blocks whose place was told to others */
    uint64_t pulling, asking;                                      /* under way */
    uint64_t asks, ask_keys, cache_hits, refused;                  /* refused: too much was under way */
    uint64_t drain_left, drain_left_bytes, drain_handed, drain_handed_bytes, drain_kept; /* blocks; drain.c */
    int drained;                                                   /* it drains, and has handed all over that it can */
    uint64_t questions;                                            /* that asks have sent to owners of slots */
    uint64_t epochs_heard; /* raises that a message told first */
    /* docs/decisions/0017: blocks that were to have copies, those that have them, and those that got fewer; under
     * way; copies made here for somebody; and blocks of own slots that have fewer copies than are wanted */
    uint64_t copies, copies_done, copies_failed, copying, taken, take_failed, taking, short_of_copies;
};
void yk_dir_stats(struct yk_dir *dir, struct yk_dir_stats *ret);

#ifdef __cplusplus
}
#endif

#endif
