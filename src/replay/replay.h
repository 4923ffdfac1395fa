/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a request trace against a node with real bytes and checks every byte that comes back.
 *
 * For each request: match its keys; get the leading run that is present and compare its bytes with
 * what the ids say; put all that is missing. Client processes take requests from one counter in
 * trace order, at once or when their timestamps say; what they count stands in memory that they
 * share with the parent, which shows progress and adds it up. A wrong byte ends the run.
 *
 * Order of use. A request's blocks count as used one after another, tail first (so that the tail of
 * a chain goes before its head) or head first. With one client and one put at a time the node sees
 * exactly the accesses of this definition, which an LRU simulator can follow block for block:
 *
 *   gets      in the order asked for. Under LRU an access in between changes nothing if all of the
 *             request's blocks are used once more afterwards: what is in the cache is always the
 *             last `capacity` different blocks used.
 *   puts      of what is missing, in the order
 *   touches   of the hits, if puts came after their gets (tail first only). A request that does not
 *             fit beside itself loses hits to its own puts: then they are put again, in the order.
 *
 * With an SSD tier (exact): what is in the pool depends on which blocks leave DRAM when, and so on the
 * order of every single access. Then a request is, tail first, puts of what is missing and after them
 * gets of the hits (what its own puts have driven out of the pool by then is put again); head first the
 * other way round: each block is used once, in one order. Payload goes through the socket, so that the
 * node does all accesses in its one thread; and after each request the client waits until what was on its
 * way to SSD is there: a block that waits for its turn is in the pool, and in no tier's capacity. With prefetch ahead it
 * tells each second of the trace between two requests, 60 at most, and waits until what is due then is up.
 *
 * Rejected: threads as clients (they would share a handle or a process's mappings, which engines
 * on one host do not), and touching with the gets alone (the access ring is lossy by design).
 *
 * Threads: one; the process must have no other threads (it forks).
 */
#ifndef YK_REPLAY_REPLAY_H
#define YK_REPLAY_REPLAY_H

#include "base/hist.h"
#include "base/status.h"
#include "replay/load.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_REPLAY_CLIENTS_MAX  1024u
#define YK_REPLAY_INFLIGHT_MAX 64u
#define YK_REPLAY_URLS_MAX     16u

enum yk_replay_order { YK_REPLAY_TAIL_FIRST, YK_REPLAY_HEAD_FIRST };

struct yk_replay_progress {
    double elapsed_s;
    uint64_t requests, requests_all;
    uint64_t blocks, hits, put_bytes, get_bytes;
};

typedef void (*yk_replay_progress_fn)(void *arg, const struct yk_replay_progress *progress);

struct yk_replay_opts {
    const char *url;        /* NULL: a node of its own */
    const char *const *urls; /* or nodes of one pool: client i speaks to number i modulo url_count */
    uint32_t url_count;      /* 0: url */
    const char *name_space; /* NULL: "replay" */
    uint64_t block_bytes;
    uint32_t block_tokens; /* of one id */
    uint32_t clients;
    uint32_t inflight; /* puts under way at a time, for each client; 1: exact order */
    double speed;      /* 0: as fast as possible; 2: twice as fast as the timestamps */
    enum yk_replay_order order;
    bool sample;         /* check a part of each block's bytes only */
    bool no_map;         /* payload through sockets, */
    bool no_xfer;        /* through the one connection, */
    const char *rails;   /* or over these devices or addresses of this host; NULL: all */
    uint32_t timeout_ms; /* of each call; 0 = 30 s */
    /* of a node of its own */
    uint64_t capacity_blocks; /* 0: what fits dram_bytes */
    uint64_t dram_bytes;      /* 0: what capacity_blocks need */
    const char *policy;
    uint64_t ssd_capacity_blocks; /* 0: no SSD tier */
    const char *ssd_dir;          /* NULL: yk_own_ssd_dir */
    bool exact;                   /* exact order over two tiers; one client, inflight 1 */
    bool ahead;                   /* its policy brings blocks up from SSD before they are asked for */
    /* called about every progress_ms */
    yk_replay_progress_fn progress;
    void *progress_arg;
    uint32_t progress_ms;
};

/* What the clients did, in all. */
struct yk_replay_counts {
    uint64_t requests, blocks, hits;
    uint64_t tokens, tokens_saved; /* of prompts; of those, not to be computed again */
    uint64_t puts, put_bytes, gets, get_bytes;
    uint64_t vanished;    /* matched, and gone before the get */
    uint64_t refused;     /* puts for which there was no room in time */
    uint64_t late_ns_max; /* furthest behind the timestamps */
    uint64_t wrong_bytes, checked_bytes;
    uint64_t xfer_bytes, xfer_fallbacks; /* yk_client_stats */
    uint64_t cpu_ns;  /* of the client processes */
    uint64_t call_ns; /* spent in calls of libyolk, all clients */
};

/* The SSD tier during the replay; known = false: there is none. */
struct yk_replay_ssd_counts {
    bool known;
    uint64_t hits, hit_bytes; /* gets that waited for a block from SSD */
    uint64_t demoted, demoted_bytes, raised, raised_bytes, failed;
    uint64_t ahead_moved, ahead_used; /* blocks that came up before they were asked for; used then */
    uint64_t put_bytes, written_bytes;
    uint64_t blocks, capacity_bytes; /* at the end */
};

/* What the same requests reach with DRAM alone: the policy itself, run over the trace without a node. */
struct yk_replay_alone {
    bool known;
    uint64_t blocks, hits, tokens, tokens_saved;
};

struct yk_replay_node_counts { /* during the replay; known = false: the node did not say */
    bool known;
    uint64_t evictions, evicted_bytes, commits, duplicates, events_lost;
    uint64_t evict_space;            /* of the evictions: not for capacity_blocks but for memory */
    uint64_t blocks, capacity_bytes; /* at the end */
};

/* A node of several, during the replay. */
struct yk_replay_member {
    bool known;
    uint64_t commits, hits;              /* by its clients; hits: of blocks that it had */
    uint64_t pulled, pulled_bytes, lent; /* blocks that came from other nodes; that others asked it for */
    uint64_t frame_bytes;                /* of the directory, both ways */
    uint64_t blocks;                     /* at the end */
};

struct yk_replay_result {
    struct yk_replay_counts n;
    struct yk_replay_member member[YK_REPLAY_URLS_MAX];
    struct yk_replay_node_counts node;
    struct yk_replay_ssd_counts ssd;
    struct yk_replay_alone alone; /* of a node of its own with an SSD tier */
    struct yk_hist put, get, match; /* latency of each call, in ns */
    double elapsed_s;
    double node_cpu_s;   /* of a node of its own; 0 otherwise */
    uint64_t dram_bytes; /* of a node of its own */
    bool interrupted;    /* SIGINT or SIGTERM came: the rest is what was done until then */
};

/* 0, also when interrupted; -YK_ECORRUPT: a wrong byte; or what kept it from running. ret_result is
 * filled with what was done in every case (it is large: not for a small stack). SIGINT, SIGTERM,
 * SIGHUP and SIGCHLD are blocked meanwhile and restored. */
int yk_replay_run(const struct yk_replay_opts *opts, const struct yk_replay_trace *trace,
                  struct yk_replay_result *ret_result, struct yk_err *err);

/* Memory that a node of its own will have. -YK_EINVAL with both figures when dram_bytes do not hold
 * capacity_blocks. */
int yk_replay_dram(const struct yk_replay_opts *opts, uint64_t *ret_bytes, struct yk_err *err);

/* Bytes of the SSD file of a node of its own; 0: none. */
uint64_t yk_replay_ssd_bytes(const struct yk_replay_opts *opts, uint64_t *ret_segment_bytes);

/* ---- alone.c ------------------------------------------------------------------------------- */

/* Runs opts' policy over the first `requests` requests with capacity_blocks of DRAM and nothing else. known
 * = false where that cannot be said (capacity 0, no memory). */
void yk_replay_alone(const struct yk_replay_opts *opts, const struct yk_replay_trace *trace,
                     uint64_t requests, struct yk_replay_alone *ret);

/* ---- report.c ------------------------------------------------------------------------------ */

/* A table for people. */
void yk_replay_print(FILE *out, const struct yk_replay_opts *opts,
                     const struct yk_replay_result *result);

/* One JSON object on one line. 0 or -YK_EIO. */
int yk_replay_print_json(FILE *out, const struct yk_replay_opts *opts,
                         const struct yk_replay_result *result);

/* One line of progress without its end. */
#define YK_REPLAY_LINE_MAX 160
void yk_replay_progress_line(const struct yk_replay_progress *p, char buf[YK_REPLAY_LINE_MAX]);

#ifdef __cplusplus
}
#endif

#endif
