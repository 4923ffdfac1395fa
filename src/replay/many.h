/* SPDX-License-Identifier: Apache-2.0
 *
 * A cluster of one's own: an etcd and several yolkd for a run of `yolk run --nodes`, gone with it.
 *
 *   yolk run ----life pipe----> keeper ---> etcd
 *       |                         |-------> yolkd n1, n2, ...   each in a network namespace of its own
 *       `-- client processes      `-------> (nothing else)
 *
 * The keeper is a process that does nothing but keep: it makes the network, starts all, says when all serve, and
 * when the pipe that the run holds is closed, however that came (a kill -9 of the run, too), it stops all, removes the
 * folder and ends. What it has started ends with it (PR_SET_PDEATHSIG). Segments have no names, and namespaces have
 * none either: each lives as long as the processes in it. Should somebody kill the keeper itself, the run removes
 * the folder.
 *
 * As root each node stands on a host of its own, as far as its network goes: a namespace with a veth pair to a
 * bridge in the keeper's, where etcd is. What passes a node's port of the bridge is its traffic. Otherwise all
 * stand on 127.0.0.1, and only what the nodes count themselves is known. Clients connect by unix sockets in the folder,
 * which no namespace keeps apart: each maps its node's memory, as on a host.
 *
 * Threads: one; no other thread may run in the process when it is started (it forks).
 */
#ifndef YK_REPLAY_MANY_H
#define YK_REPLAY_MANY_H

#include "replay/kept.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_MANY_MAX 16u /* nodes */

struct yk_many_opts {
    uint32_t nodes;           /* 1 to YK_MANY_MAX */
    uint64_t dram_bytes;      /* of each */
    uint64_t capacity_blocks; /* of each; 0 = as many as fit */
    uint64_t ssd_bytes;       /* of each, of a file in the folder; 0 = none */
    uint64_t ssd_segment_bytes, ssd_capacity_blocks;
    uint32_t max_clients;     /* of each */
    const char *policy;       /* NULL = "lru" */
};

struct yk_many {
    struct yk_kept kept; /* the keeper */
    int apart; /* each node has a network namespace */
    uint32_t nodes;
    char dir[80];              /* "" = removed */
    char url[YK_MANY_MAX][112]; /* "unix:..." */
};

/* All nodes are members and serve when it returns 0. -YK_ENOENT: there is no etcd, or no yolkd beside this program;
 * -YK_ETIMEDOUT, -YK_EGONE (one ended: the text has its last line), -YK_EIO. */
int yk_many_start(const struct yk_many_opts *opts, struct yk_many *ret_many, struct yk_err *err);

/* Bytes that node i (from 0) has received and sent by its link: 0, or YK_MISS where none is its own. */
int yk_many_wire(const struct yk_many *many, uint32_t i, uint64_t *ret_in, uint64_t *ret_out);

/* Ends all in good order and waits, at most about a minute; then by SIGKILL. Takes one that never started. */
void yk_many_stop(struct yk_many *many);

#ifdef __cplusplus
}
#endif

#endif
