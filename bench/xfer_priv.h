/* SPDX-License-Identifier: Apache-2.0
 *
 * What the groups of `yolk bench xfer` share: a target process with an engine, an initiator's engine,
 * plain loops over a socket as the limit.
 *
 *   xfer.c         the command's table of transports
 *   xfer_target.c  the other process
 *   xfer_load.c    batches in flight, by one or more threads
 *   xfer_mix.c     the same of several classes at once
 *   xfer_plain.c   send and recv alone
 *   xfer_crowd.c   a process full of engines
 *   xfer_tcp.c, xfer_copy.c, xfer_file.c, xfer_rails.c, xfer_elsewhere.c   cases
 *   xfer_rdma.c    beside perftest
 *   xfer_wan.c     a long way that loses packets
 *   xfer_regions.c, xfer_peers.c   cases of --scale
 *
 * Threads: one, but for the load's.
 */
#ifndef YK_BENCH_XFER_PRIV_H
#define YK_BENCH_XFER_PRIV_H

#include "bench/measure.h"
#include "bench/rig.h"

#include <yolk/transfer.h>

#define KIB 1024ull
#define MIB (1024ull * 1024)

#define XFER_FOOTPRINT (256 * MIB) /* of each side's memory: far beyond the caches */

/* ---- xfer_target.c --------------------------------------------------------------------------- */

/* A process with an engine that publishes XFER_FOOTPRINT bytes, touched, as "bench". */
struct xfer_target {
    pid_t pid;
    int life_fd;       /* it ends when this is closed */
    char address[512]; /* "HOST:PORT" */
    char where[560];   /* address/bench */
};

/* Forks: no engine may be there in this process. mappable: peers of the host can map the memory.
 * Failures are told on standard error. */
int xfer_target_start(struct xfer_target *t, const yk_xfer_opts *opts, int mappable);
void xfer_target_stop(struct xfer_target *t);

/* The initiator: an engine, its memory, the target's segment. */
struct xfer_side {
    yk_xfer *engine;
    char *memory; /* XFER_FOOTPRINT, touched, registered */
    yk_xfer_segment segment;
};

/* where NULL: no segment is opened. */
int xfer_side_open(struct xfer_side *s, const yk_xfer_opts *opts, const char *where);
void xfer_side_close(struct xfer_side *s);

/* Tells what the engine said of its last failure, and returns rc. */
int xfer_failed(const char *what, int rc);

/* ---- xfer_load.c ----------------------------------------------------------------------------- */

/* A series' `many`: requests of `bytes` in batches, `deep` batches in flight, by so many threads, over
 * the whole of both memories in turn. */
struct xfer_load {
    struct xfer_side *side;
    uint32_t op; /* enum yk_xfer_op */
    uint32_t xclass;
    uint64_t bytes;
    uint32_t batch, deep, threads;
    struct yk_hist *hist; /* of batches, when one thread runs them; or NULL */
};
int xfer_load_many(struct yk_series *s, uint64_t i, uint64_t n);

/* A series' `op`: one request with yk_xfer_run. */
int xfer_load_one(void *arg, uint64_t i);

/* ---- xfer_plain.c ---------------------------------------------------------------------------- */

/* A child at the other end of a TCP connection over loopback, with XFER_FOOTPRINT bytes on each side:
 * blocks are sent from and received into all of it in turn. */
struct xfer_plain {
    int fd;
    pid_t pid;
    char *memory;
    uint64_t bytes; /* of a block */
    int writes;     /* this side sends */
    int spins;      /* ping-pong: both look again and again, and never sleep */
    uint64_t at;
};

int xfer_plain_open(struct xfer_plain *p, uint64_t bytes, int writes, int spins);
void xfer_plain_close(struct xfer_plain *p);
int xfer_plain_many(struct yk_series *s, uint64_t i, uint64_t n); /* n blocks one way, one answer */
int xfer_plain_ping(void *arg, uint64_t i); /* 48 bytes there, a block and 16 bytes back */

/* ---- xfer_crowd.c ---------------------------------------------------------------------------- */

#define XFER_CROWD_WHERE 160u
#define XFER_CROWD_BYTES 4096u     /* of each engine's segment "bench", and of a read */

/* A process that makes engines as it is told; TCP over loopback alone. */
struct xfer_crowd {
    pid_t pid;
    int fd; /* it ends when this is closed */
};

/* Forks: no engine may be there in this process. */
int xfer_crowd_start(struct xfer_crowd *c);
/* count more engines: with where "" they listen, and `each` (or NULL) is called with the segment of each
 * as it comes; else they read from the segment `where`, over both kinds of lanes. Waits at most 30 seconds
 * for each: -YK_ETIMEDOUT; -YK_EGONE one failed, which was told; or the failure of `each`. */
int xfer_crowd_more(struct xfer_crowd *c, uint32_t count, const char *where,
                    int (*each)(void *arg, const char *segment), void *arg);
void xfer_crowd_stop(struct xfer_crowd *c);

/* ---- groups ---------------------------------------------------------------------------------- */

int xfer_tcp(struct yk_bench_run *run);
int xfer_rdma(struct yk_bench_run *run);
int xfer_copy_mem(struct yk_bench_run *run);
int xfer_copy_shm(struct yk_bench_run *run);
int xfer_file(struct yk_bench_run *run);
int xfer_rails(struct yk_bench_run *run, uint32_t rails);
int xfer_wan(struct yk_bench_run *run);
int xfer_regions(struct yk_bench_run *run);
int xfer_peers(struct yk_bench_run *run);
/* One load on a segment that is there. */
int xfer_target_load(struct yk_bench_run *run);
extern const char *const xfer_class_names[YK_XFER_CLASSES];
/* That load by each class of run->opts->weights, all at once for run->seconds; load's class, depth and
 * histogram mean nothing. */
int xfer_mix(struct yk_bench_run *run, const struct xfer_load *load);

/* "cpu NAME" in core-seconds for each 10^9 bytes. */
void xfer_cpu_of(struct yk_bench_run *run, const char *name, double cpu_s, double bytes);
/* The same of a series: both processes, where the other is this machine's. */
void xfer_cpu_row(struct yk_bench_run *run, const char *name, const struct yk_series *s);

#endif
