/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench store`: what the store's operations cost on this machine, each beside the machine's own
 * limit from the same run: glibc's memcpy over shared memory for payload, a bare ping-pong over a
 * unix socket for what needs the node, loads that miss the caches for lookups.
 *
 * Nodes run in a process of their own, as in production; clients map their memory unless the case
 * says `socket`. Nothing is left behind.
 *
 * Thread: the caller's.
 */
#include "bench/store_priv.h"

#include <unistd.h>

/* Seconds for what is measured together. Some thirty of these, with filling in between, make a run
 * of a minute and a half on two cores. */
#define SECONDS       1.5
#define SECONDS_QUICK 0.02
#define DEFAULT_RUN_S 60.0

static int (*const groups[])(struct yk_bench_run *run) = {
    yk_store_copies,
    yk_store_lookups,
    yk_store_crowd,
    yk_store_far,
    yk_store_restart,
};

static int base(struct yk_bench_run *run) {
    struct yk_pingpong pp;
    static struct yk_series ping = {.op = yk_pingpong_op, .per_round = 500, .weight = 1};
    struct yk_series *series[] = {&ping};
    if (!yk_bench_wants(&run->report, (const char *const[]){"base unix socket ping-pong", NULL}))
        return 0;
    yk_bench_run_at(YK_BENCH_THERE);
    int rc = yk_pingpong_open(&pp);
    yk_bench_run_at(YK_BENCH_HERE);
    if (rc < 0)
        return rc;
    ping.arg = &pp;
    rc = yk_measure(series, 1, run->seconds);
    if (rc == 0)
        yk_series_row(&run->report, "base unix socket ping-pong", "1/s", &ping, NULL);
    yk_pingpong_close(&pp);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    return rc;
}

int yk_bench_store(const struct yk_bench_opts *opts) {
    struct yk_bench_run run;
    yk_bench_run_init(&run, "store", opts, SECONDS, SECONDS_QUICK);
    if (opts->seconds > 0)
        run.seconds *= opts->seconds / DEFAULT_RUN_S;
    int rc = base(&run);
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]) && rc == 0; i++)
        rc = groups[i](&run);
    return yk_bench_report_end(&run.report, rc);
}
