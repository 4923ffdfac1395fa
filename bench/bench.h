/* SPDX-License-Identifier: Apache-2.0
 *
 * The benchmarks behind `yolk bench NAME`: library functions in one table, the command only parses
 * flags and looks a name up. A benchmark starts and removes all it needs, prints through
 * bench/report.h, and ends within two minutes by default; ssd within four: five turns of two seconds for
 * each of its cases and fio's, and sets that have to be written first; cluster within ten: leases have to
 * end, and a balancer fills a new node over minutes.
 *
 * Thread: each function runs on its caller's thread and starts what others it needs.
 */
#ifndef YK_BENCH_BENCH_H
#define YK_BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a benchmark returns beside 0 and -YK_E...: a peer it measures against is not installed
 * (the package was named on stderr); the command exits with it. */
#define YK_BENCH_NO_PEER 3
/* Likewise: what was asked for cannot be done here, and a line on stderr said so. */
#define YK_BENCH_USAGE 2

struct yk_bench_opts {
    uint32_t size;       /* sizeof(struct yk_bench_opts) */
    bool json;           /* one-line objects instead of a table */
    bool quick;          /* smallest run that still exercises every case; figures mean little */
    double seconds;      /* about how long to measure in all; 0: the benchmark's own default */
    uint64_t seed;       /* of everything random; 0: the default, 1 */
    char *const *cases;  /* globs: only what these cases need is run, only their rows, and those of
                          * baselines and costs beside them, are printed */
    size_t n_cases;      /* 0: all */
    FILE *out;           /* NULL: stdout */
    const char *path;    /* a directory on the file system to measure; NULL: none was named */
    uint64_t size_bytes; /* of each file there; 0: the benchmark's own */
    const char *transport; /* of xfer: this one only; NULL: all */
    uint32_t rails;        /* of xfer: over so many rails between namespaces; 0: none */
    char *const *pairs;    /* of xfer, rdma: "HERE=THERE", two addresses of RDMA devices of this host, */
    size_t n_pairs;        /* ... so many; 0: those that are found */
    bool wan;              /* of xfer: over a long way that loses packets, between namespaces */
    const char *target;    /* of xfer: a segment (HOST:PORT/NAME) elsewhere, and one load on it: */
    uint32_t target_transports; /* ... over these, bits of enum yk_xfer_transport; 0: all but RDMA, */
    const char *target_rails; /* ... over these own devices or addresses, NULL: all, */
    int writes;            /* ... that it writes, else reads, */
    uint64_t block_bytes;  /* ... blocks of so many bytes, */
    uint32_t batch;        /* ... so many in a batch, two batches under way, */
    uint32_t threads;      /* ... by so many threads, */
    uint32_t weights[4];   /* ... of these classes (enum yk_xfer_class): one alone, or several at once, each
                            * with so many times two batches under way */
    bool scale;            /* of xfer: what many regions and peers cost, instead of the transports */
};

struct yk_bench {
    const char *name;
    const char *help; /* one line */
    int (*fn)(const struct yk_bench_opts *opts);
    bool needs_path; /* opts.path is not NULL */
};

/* In the order of `yolk bench --help`; ends with a NULL name. */
extern const struct yk_bench yk_benches[];

/* NULL: there is none of that name. */
const struct yk_bench *yk_bench_find(const char *name);

int yk_bench_alloc(const struct yk_bench_opts *opts);
int yk_bench_store(const struct yk_bench_opts *opts);
int yk_bench_peers(const struct yk_bench_opts *opts);
int yk_bench_ssd(const struct yk_bench_opts *opts);
int yk_bench_xfer(const struct yk_bench_opts *opts);
int yk_bench_cluster(const struct yk_bench_opts *opts);
int yk_bench_route(const struct yk_bench_opts *opts);

#ifdef __cplusplus
}
#endif

#endif
