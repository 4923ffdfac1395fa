/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of `yolk bench ssd`.
 *
 *   ssd.c         files, order, progress
 *   ssd_node.c    a node with an SSD tier and what it counted
 *   ssd_flow.c    puts and gets under way through the client
 *   ssd_tier.c    the tier driven directly: payload in memory, no node, no client
 *   ssd_moves.c   writes and reads of 1 MiB and 64 KiB beside fio's
 *   ssd_single.c  one read at a time
 *   ssd_hits.c    hits in DRAM while the SSD is busy
 *   ssd_wear.c    write amplification; memory of the index
 *   ssd_warm.c    how long until a restarted node is warm
 *
 * Three files of the same size, each written over once before anything is measured (a file system
 * pays for the first write to a place): fio's, the node's, and the directly driven tier's. They have no
 * names, so nothing stays whatever ends the process; they are opened through /proc/self/fd.
 *
 * Threads: one, but for the tier's own workers and the load of ssd_hits.c (a process).
 */
#ifndef YK_BENCH_SSD_PRIV_H
#define YK_BENCH_SSD_PRIV_H

#include "bench/fio.h"
#include "bench/rig.h"
#include "node/node.h"

#define KIB          1024ull
#define MIB          (1ull << 20)
#define TURNS_MAX    9u
#define DEPTH        32u  /* fio's, and that of reads */
#define PUTS         16u  /* under way at a time */
#define RAMP_S       0.25 /* a flow runs so long before it is measured */
#define RAMP_S_QUICK 0.02

struct ssd_file {
    int fd;
    char path[32];
};

struct ssd_bench {
    struct yk_bench_run run;
    struct ssd_file fio, node, tier;
    uint64_t size; /* of each file */
    uint64_t dram; /* of a node's payload: a tenth */
    uint32_t turns;
    double turn_s, ramp_s;
};

/* Tells on standard error what is being done. */
void ssd_progress(const struct ssd_bench *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- ssd_node.c ------------------------------------------------------------------------------- */

struct ssd_node {
    struct yk_rig rig;
    int fd; /* asks it for what it counted */
};

struct ssd_node_opts {
    uint64_t block_bytes; /* most of its blocks are so large */
    uint8_t when;         /* enum yk_ssd_when */
    uint8_t keep;         /* what is on the SSD: the node starts on it again */
    uint8_t no_preload;
};

struct ssd_snap {
    uint64_t now_ns;
    double cpu_s; /* the node's so far */
    struct yk_counters store;
    struct yk_ssd_counters ssd;
    struct yk_ssd_dev_stats dev;
};

int ssd_node_open(const struct ssd_bench *b, const struct ssd_node_opts *opts,
                  struct ssd_node *ret);
void ssd_node_close(struct ssd_node *n);
int ssd_node_snap(struct ssd_node *n, struct ssd_snap *ret);

/* Waits until nothing is on its way between the tiers. */
int ssd_node_idle(struct ssd_node *n);

/* ---- ssd_flow.c ------------------------------------------------------------------------------- */

#define FLOW_MAX 64u

/* Numbers of blocks that gets choose from. In order: all once, then again; so that with a set much
 * larger than DRAM none is there any more when its turn comes again. */
struct ssd_set {
    uint64_t first;
    uint32_t *order; /* a permutation of [0, n); NULL: at random */
    uint64_t n, at;
};

int ssd_set_make(struct ssd_set *s, uint64_t first, uint64_t n, uint64_t *random);
void ssd_set_free(struct ssd_set *s);

struct ssd_flow {
    yk_client *c;
    uint64_t bytes;      /* of a block */
    uint32_t puts, gets; /* under way at a time */
    uint64_t next;       /* number of the next block to be put */
    struct ssd_set set;  /* for gets */
    uint64_t near, far;  /* set.n 0: gets go to [next - far, next - near) */
    uint64_t random;
    struct ssd_flow_slot {
        yk_op op;
        struct iovec iov;
        uint64_t number, start_ns;
        uint8_t is_put, busy;
        char key[YK_RIG_KEY_BYTES];
    } slots[FLOW_MAX];
    unsigned char *buffers;
    uint32_t busy;
    /* since ssd_flow_reset; what came back wrong ends the flow */
    uint64_t put_bytes, get_bytes, misses;
    struct yk_hist put, get; /* ns, each from its submission */
};

int ssd_flow_open(struct ssd_flow *f, yk_client *c, uint64_t bytes, uint32_t puts, uint32_t gets);
void ssd_flow_close(struct ssd_flow *f);
void ssd_flow_reset(struct ssd_flow *f);

/* Keeps the flow going until then (yk_now_ns), or until so many bytes were put; what is under way
 * stays so. */
int ssd_flow_run(struct ssd_flow *f, uint64_t until_ns, uint64_t put_bytes);
int ssd_flow_drain(struct ssd_flow *f);

/* One get that waits. 0, YK_MISS, or failure. */
int ssd_flow_get(struct ssd_flow *f, uint64_t *ret_ns);

/* Puts until the SSD holds what it can, waits, and makes the set of those that are there and not in
 * DRAM. f->puts is not 0. */
int ssd_flow_fill(struct ssd_flow *f, const struct ssd_bench *b, struct ssd_node *n);

/* ---- ssd_tier.c ------------------------------------------------------------------------------- */

struct ssd_tier_opts {
    uint64_t block_bytes;
    uint64_t size_bytes; /* of the file to be used; 0 = all */
    uint64_t blocks_max; /* 0 = as many as fit */
};

struct ssd_tier;

/* Formats the file. Failures of this and all others are told on standard error. */
int ssd_tier_open(const struct ssd_bench *b, const struct ssd_tier_opts *opts,
                  struct ssd_tier **ret_tier);
void ssd_tier_close(struct ssd_tier *t);

const struct yk_ssd *ssd_tier_ssd(const struct ssd_tier *t);
uint64_t ssd_tier_live(const struct ssd_tier *t);

/* Writes new blocks for so long, after a ramp: B/s of payload. */
int ssd_tier_write(struct ssd_tier *t, double ramp_s, double seconds, double *ret_rate);

/* Reads live blocks at random. depth 1: hist (may be NULL) has each read's time. */
int ssd_tier_read(struct ssd_tier *t, uint32_t depth, double ramp_s, double seconds,
                  double *ret_rate, struct yk_hist *hist);

/* Writes so many blocks. ttl: each expires when so many more were written; 0 = never. keep_percent of
 * the tier's capacity are kept live by removing blocks at random, and blocks at random are used; 0 = neither. */
int ssd_tier_fill(struct ssd_tier *t, uint64_t blocks, uint64_t ttl, uint32_t keep_percent);

/* ---- the cases ---------------------------------------------------------------------------------- */

int ssd_moves_large(struct ssd_bench *b);
int ssd_moves_small(struct ssd_bench *b);
int ssd_single(struct ssd_bench *b);
int ssd_hits(struct ssd_bench *b);
int ssd_wear(struct ssd_bench *b);
int ssd_index(struct ssd_bench *b);
int ssd_warm(struct ssd_bench *b);

/* Waits until what was written to the file has left the device's cache too, so that the next turn does
 * not pay for it. Returns the seconds. */
double ssd_settle(const struct ssd_file *f);

/* One turn of fio. It writes its own file, and reads the node's: what a host keeps of a virtual disk differs
 * from file to file, and would be taken for a difference between the programs. */
int ssd_fio(const struct ssd_bench *b, enum yk_fio_rw rw, uint64_t block_bytes, uint32_t depth,
            uint32_t turn, struct yk_fio_result *ret);

#endif
