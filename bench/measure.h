/* SPDX-License-Identifier: Apache-2.0
 *
 * Measuring operations beside the machine's limits.
 *
 * What is compared takes turns: a round of one, a round of the next, and again, until the time is
 * over. What else runs on the machine, and its clock rate, then weigh on all of them alike; rates are
 * medians of the rounds. Percentiles are over single operations (every sample_every-th one, since
 * two looks at a clock cost as much as a short operation).
 *
 * Also here: the limits themselves (glibc's memcpy over shared memory, a bare ping-pong over a unix
 * socket, loads that miss the caches) and the CPU time of another process.
 *
 * Threads: one.
 */
#ifndef YK_BENCH_MEASURE_H
#define YK_BENCH_MEASURE_H

#include "base/hist.h"
#include "bench/report.h"

#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_ROUNDS_MAX 4096u

struct yk_series {
    const char *name;
    /* Operation i (counted over all rounds): 0 or a failure, which ends the measurement. */
    int (*op)(void *arg, uint64_t i);
    /* Instead of op: n operations, the first of which is i; times what it wants into hist. */
    int (*many)(struct yk_series *s, uint64_t i, uint64_t n);
    void *arg;
    uint32_t per_round;    /* operations */
    uint32_t sample_every; /* of op; 0 = 1 */
    double weight;         /* bytes, or keys, of one operation; the rate counts these */
    pid_t node;            /* its CPU time counts as well; 0 = none */
    /* result */
    double rate;         /* a second; median of the rounds */
    uint64_t ops;        /* in all rounds */
    double cpu_s;        /* this process, all rounds */
    double node_s;       /* the node, all rounds */
    struct yk_hist hist; /* ns */
    double rates[YK_ROUNDS_MAX];
    uint32_t rounds;
};

/* At least three rounds of each, and about so many seconds in all. */
int yk_measure(struct yk_series *const *series, size_t n, double seconds);

/* A row with value = rate, percentiles, CPU time, and limit's rate as its limit (NULL: none). */
void yk_series_row(struct yk_bench_report *r, const char *name, const char *unit,
                   const struct yk_series *s, const struct yk_series *limit);

/* Rows "cpu NAME client" and "cpu NAME node": seconds an operation. */
void yk_series_cpu_rows(struct yk_bench_report *r, const char *name, const struct yk_series *s);

/* Fills a row's percentiles. */
void yk_row_hist(struct yk_bench_row *row, const struct yk_hist *h);

/* Sorts v. 0 of nothing. */
double yk_bench_median(double *v, uint32_t n);

/* CPU time of another process so far, all threads; 0 if it is gone. */
double yk_process_cpu_s(pid_t pid);

/* xorshift64*; *state is not 0. */
static inline uint64_t yk_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0..n-1, n below 2^32. */
static inline uint64_t yk_random_below(uint64_t *state, uint64_t n) {
    return ((yk_random(state) >> 32) * n) >> 32;
}

/* ---- limits --------------------------------------------------------------------------------- */

/* memcpy of `bytes` between a private buffer and places of a shared mapping (a memfd, as a node's
 * tier is) of the given footprint. to_shared: places in order, as puts fill a tier; else at random.
 * buffers: how many private ones take turns. */
struct yk_copy_limit {
    unsigned char *shared;
    unsigned char **buffers;
    uint64_t footprint, bytes, random;
    uint32_t buffer_count;
    int to_shared;
};

int yk_copy_limit_open(struct yk_copy_limit *c, uint64_t footprint, uint64_t bytes);
int yk_copy_limit_op(void *arg, uint64_t i);
void yk_copy_limit_close(struct yk_copy_limit *c);

/* A child that answers each message of 64 bytes over a socketpair with one, by plain blocking reads
 * and writes. */
struct yk_pingpong {
    int fd;
    pid_t pid;
};

int yk_pingpong_open(struct yk_pingpong *p);
int yk_pingpong_op(void *arg, uint64_t i);
void yk_pingpong_close(struct yk_pingpong *p);

/* Loads from random lines of a private area, as a lookup makes them. chain: each of `depth` loads
 * needs the one before it. many: `group` chains side by side. */
struct yk_load_limit {
    uint64_t *area;
    uint64_t bytes, lines, random;
    uint32_t depth, group;
    uint64_t sink;
};

int yk_load_limit_open(struct yk_load_limit *l, uint64_t bytes, uint32_t depth, uint32_t group);
int yk_load_limit_op(void *arg, uint64_t i);
void yk_load_limit_close(struct yk_load_limit *l);

/* Page-aligned, touched. NULL: no memory. */
void *yk_bench_buffer(uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
