/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench cluster`: what nodes cost each other, and what is felt of it when one of them, or etcd, goes.
 *
 * Two groups. Without etcd: look-ups at a directory and blocks of 1 MiB from node to node, beside a bare
 * ping-pong and the transfer engine alone, both over TCP on loopback. A shard is a directory's thread, so two
 * shards are two nodes in processes of their own, each with a load of its own. With etcd, if it is on PATH:
 * whole nodes and its members are child processes that are killed and stopped under a load of reads.
 *
 * Thread: the caller's, and those of the loads.
 */
#include "bench/cluster_priv.h"

#define SECONDS       2.0
#define SECONDS_QUICK 0.02
#define DEFAULT_RUN_S 60.0

static int (*const groups[])(struct yk_bench_run *run, const struct cluster_place *place) = {
    cluster_find, cluster_copy, cluster_kill, cluster_meta, cluster_add, cluster_crowd,
};

void cluster_row(struct yk_bench_run *run, const char *name, const char *unit, double value, double limit) {
    struct yk_bench_row row = YK_BENCH_ROW(name, unit, value);
    row.limit = limit;
    yk_bench_report_row(&run->report, &row);
}

void cluster_row_p50(struct yk_bench_run *run, const char *name, const struct yk_hist *hist, double limit) {
    struct yk_bench_row row = YK_BENCH_ROW(name, "s", (double)yk_hist_percentile(hist, 50) / 1e9);
    row.limit = limit;
    yk_row_hist(&row, hist);
    yk_bench_report_row(&run->report, &row);
}

int cluster_skipped(struct yk_bench_run *run, const char *what, int rc) {
    char name[96];
    if (rc != YK_BENCH_NO_PEER)
        return rc;
    snprintf(name, sizeof(name), "base %s: left out, no etcd", what);
    cluster_row(run, name, "1", NAN, NAN);
    return 0;
}

int yk_bench_cluster(const struct yk_bench_opts *opts) {
    struct yk_bench_run run;
    struct cluster_place place;
    yk_bench_run_init(&run, "cluster", opts, SECONDS, SECONDS_QUICK);
    if (opts->seconds > 0)
        run.seconds *= opts->seconds / DEFAULT_RUN_S;
    int rc = cluster_place_open(&place);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]) && rc == 0; i++)
        rc = groups[i](&run, &place);
    cluster_place_close(&place);
    return yk_bench_report_end(&run.report, rc);
}
