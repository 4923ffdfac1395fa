/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client process and its parent share.
 *
 *   STARTING --connected--> READY --go--> RUNNING --no request left, stop--> DONE
 *       |                                    |
 *       +------------- FAILED <--------------+
 *
 * Threads: a client writes its own struct (relaxed stores are enough for counters that are shown;
 * final figures are read after the process is gone), the parent the head.
 */
#ifndef YK_REPLAY_WORKER_PRIV_H
#define YK_REPLAY_WORKER_PRIV_H

#include "replay/replay.h"

enum worker_state {
    WORKER_STARTING,
    WORKER_READY,
    WORKER_RUNNING,
    WORKER_DONE,
    WORKER_FAILED,
};

/* In its own cache lines. */
struct worker_share {
    uint32_t state; /* release store by the client, acquire load by the parent */
    struct yk_replay_counts n;
    struct yk_hist put, get, match;
    struct yk_err err; /* FAILED */
} __attribute__((aligned(128)));

struct share {
    uint64_t next;  /* request to be taken next; atomic add */
    uint64_t go_ns; /* 0: wait; release store by the parent */
    uint32_t stop;  /* 1: end after the operation under way */
    uint32_t
        gate; /* futex: 1 once go_ns or stop is set. Whoever looked at it each millisecond instead,
                       with a thousand like it, left no time for those that were still connecting */
    uint32_t client_count;
    struct worker_share clients[];
};

/* By the parent, once go_ns or stop is set. */
void worker_open_gate(struct share *share);

/* Runs in the child until the trace is over. */
void worker_run(const struct yk_replay_opts *opts, const char *url,
                const struct yk_replay_trace *trace, struct share *share, struct worker_share *own);

#endif
