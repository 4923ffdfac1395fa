/* SPDX-License-Identifier: Apache-2.0
 *
 * What the groups of `yolk bench cluster` share: a folder that is gone in the end, node processes that start
 * when they are told, etcd, guests that ask a directory, a load of reads.
 *
 *   cluster.c        the command: the groups in their order
 *   cluster_place.c  the folder and its janitor
 *   cluster_etcd.c   etcd's members as child processes
 *   cluster_node.c   nodes as child processes
 *   cluster_guest.c  a connection to a node's directory, and FIND over it, pipelined
 *   cluster_load.c   reads at a fixed rate of blocks that other nodes have
 *   cluster_find.c, cluster_copy.c               cases without etcd
 *   cluster_kill.c, cluster_meta.c, cluster_add.c, cluster_crowd.c   cases with it
 *
 * Threads: one, but for the load's, which run only while no node is forked.
 */
#ifndef YK_BENCH_CLUSTER_PRIV_H
#define YK_BENCH_CLUSTER_PRIV_H

#include "bench/rig.h"
#include "bench/xfer_priv.h"
#include "dir/dir.h"
#include "wire/dir.h"

#include <pthread.h>
#include <unistd.h>

#define CLUSTER_TOGETHER 2u  /* nodes in one process at most */
#define CLUSTER_NS       "bench"

/* ---- cluster_place.c ---------------------------------------------------------------------------------- */

/* A folder under $TMPDIR for sockets and states, and one in memory for etcd's data: its flushes would otherwise wait for
 * whatever else writes to the disk, and its leader would change. Both are removed when this process and all that it
 * forked since have ended, however that came. */
struct cluster_place {
    char dir[80], memory[80]; /* memory "": there is no /dev/shm; then etcd's data is in dir */
    int fd; /* held open by all of them, and read by the janitor */
    pid_t janitor;
};
int cluster_place_open(struct cluster_place *p);
/* All children have ended. Waits until the folder is gone. */
void cluster_place_close(struct cluster_place *p);

/* A free port of 127.0.0.1; 0: none. */
unsigned cluster_port(void);
/* Waits for the child at most so long, then kills it. */
void cluster_reap(pid_t *pid, uint32_t timeout_ms);
void cluster_pause_ms(uint32_t ms);

/* ---- cluster_etcd.c ----------------------------------------------------------------------------------- */

#define CLUSTER_ETCDS 3u

struct cluster_etcd {
    uint32_t count;
    const struct cluster_place *place;
    char urls[256];
    struct {
        pid_t pid; /* 0: it does not run */
        unsigned port, peer_port;
        char dir[120];
    } at[CLUSTER_ETCDS];
};
/* count: 1 or 3. Waits until it has a leader. YK_BENCH_NO_PEER: etcd is not on PATH; else told on standard error. */
int cluster_etcd_start(struct cluster_etcd *e, const struct cluster_place *place, uint32_t count);
/* Its leader's number; -1: none says so. */
int cluster_etcd_leader(struct cluster_etcd *e);
void cluster_etcd_kill(struct cluster_etcd *e, uint32_t i);
/* Starts it again on its data, or (empty) on none; does not wait. */
int cluster_etcd_again(struct cluster_etcd *e, uint32_t i, int empty);
/* Until there is a leader, for 30 s at most. */
int cluster_etcd_wait(struct cluster_etcd *e);
void cluster_etcd_stop(struct cluster_etcd *e);

/* ---- cluster_node.c ----------------------------------------------------------------------------------- */

struct cluster_node_opts {
    const char *etcd;      /* NULL: metadata lies in the process */
    uint32_t together;     /* nodes in the process; 0 = 1 */
    uint64_t dram_bytes[CLUSTER_TOGETHER];
    uint32_t max_blocks;   /* descriptors of each; 0 = by the node's own rule */
    int over_tcp;          /* payload goes between nodes as if they were on different hosts */
};

/* What a node says of itself; at most a second old. */
struct cluster_told {
    int32_t status; /* of its start */
    char text[YK_ERR_TEXT_MAX];
    char peers[CLUSTER_TOGETHER][64]; /* "host:port" of the directories */
    struct yk_dir_stats dir;          /* of its last node, as the rest */
    uint64_t blocks, rss_bytes;
};

/* Forked early, so that no thread runs then; it starts nothing before it is told to. */
struct cluster_node {
    pid_t pid;
    int fd;
    char name[24];
    char url[CLUSTER_TOGETHER][120];
    char far_url[48]; /* of the first, for clients without a map */
    struct cluster_told told; /* the last that was heard */
};
int cluster_node_spawn(struct cluster_node *n, const struct cluster_place *place, const char *name,
                       const struct cluster_node_opts *opts);
/* Tells it to start; cluster_node_ready waits for it (60 s), and tells on standard error why it did not. */
int cluster_node_begin(struct cluster_node *n);
int cluster_node_ready(struct cluster_node *n);
/* Its statistics into told. -YK_EGONE, -YK_ETIMEDOUT (5 s). */
int cluster_node_ask(struct cluster_node *n);
void cluster_node_kill(struct cluster_node *n); /* -9, and waits */
void cluster_node_stop(struct cluster_node *n); /* in good order; one that never started, too */

/* Until all of these see `members` members that serve, and own all slots whole between them; 90 s at most. */
int cluster_settle(struct cluster_node *const *nodes, uint32_t count, uint32_t members);

/* ---- cluster_guest.c ---------------------------------------------------------------------------------- */

#define CLUSTER_BATCH 32u /* keys of a question */

/* Asks the directory at one address for keys by number, from a loop of its own: what a node does to its peers. */
struct cluster_guest {
    uv_loop_t loop;
    struct yk_peers *peers;
    uint64_t keys, random; /* 0 to keys, at random */
    uint32_t batch;        /* keys of a question, 1 to CLUSTER_BATCH */
    uint64_t left, out;    /* questions to be asked, and under way */
    uint64_t failed;       /* keys that were not found, or not answered for */
    uint64_t ran_ns;       /* when the loop ran last */
    int status;
};
int cluster_guest_open(struct cluster_guest *g, const char *address);
void cluster_guest_close(struct cluster_guest *g);
/* n questions of g->batch random keys, `deep` of them under way. A key that is not found is -YK_EGONE. */
int cluster_guest_run(struct cluster_guest *g, uint64_t n, uint32_t deep);

/* Asks several directories for the same keys, once; ret_status[i]: the best that one of them said of keys[i] (0,
 * YK_MISS, YK_PENDING, in this order; -YK_EGONE: nobody owns its slot or answers). At most 4,096 keys. */
int cluster_who(const char *const *addresses, uint32_t count, const uint64_t *keys, uint32_t n, uint32_t timeout_ms,
                int *ret_status);

/* ---- cluster_load.c ----------------------------------------------------------------------------------- */

/* A thread that gets keys [first, first + keys) through one node, each once and at a steady rate. */
struct cluster_load {
    pthread_t thread;
    char url[120];
    uint64_t first, keys;
    uint32_t per_s, bytes;
    uint64_t put_first; /* not 0: every eighth operation puts a new block, numbered from here on, besides */
    int stop;           /* atomic */
    /* result. A get that misses is asked again, since a miss is allowed while a slot is rebuilt or its owner does not
     * answer (R12); it has failed when it still misses after 10 s. Times are those of the first attempt. */
    uint64_t done, failed, missed, longest_ns; /* atomic; longest: since cluster_load_mark */
    uint64_t longest_at_ns; /* when that one began; read when the load has ended */
    struct yk_hist hist[2];
    int phase; /* atomic: which of them */
};
int cluster_load_start(struct cluster_load *l);
/* From here on: the second histogram, and the longest is begun anew. */
void cluster_load_mark(struct cluster_load *l);
void cluster_load_stop(struct cluster_load *l);

/* Puts keys [first, first + n) of so many bytes through the node at url; put may be NULL. -YK_EGONE: one of them has not
 * all that `put` asks for. */
int cluster_fill(const char *url, uint64_t first, uint64_t n, uint32_t bytes, const yk_put_opts *put);

/* ---- groups ------------------------------------------------------------------------------------------- */

int cluster_find(struct yk_bench_run *run, const struct cluster_place *place);
int cluster_copy(struct yk_bench_run *run, const struct cluster_place *place);
int cluster_kill(struct yk_bench_run *run, const struct cluster_place *place);
int cluster_meta(struct yk_bench_run *run, const struct cluster_place *place);
int cluster_add(struct yk_bench_run *run, const struct cluster_place *place);
int cluster_crowd(struct yk_bench_run *run, const struct cluster_place *place);

/* rc; and 0 where it says that etcd is not installed: then a row says so in place of those of `what`. */
int cluster_skipped(struct yk_bench_run *run, const char *what, int rc);

/* A row of one value, and of one that is the p50 of a histogram in seconds. */
void cluster_row(struct yk_bench_run *run, const char *name, const char *unit, double value, double limit);
void cluster_row_p50(struct yk_bench_run *run, const char *name, const struct yk_hist *hist, double limit);

#endif
