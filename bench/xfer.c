/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench xfer`: the transfer engine, each transport beside the machine's own limit: memcpy for
 * memory, a plain send/recv loop for TCP, perftest for RDMA, iperf3 rail by rail for several rails.
 *
 * Target and initiator are processes of their own, as in production; nothing stays behind. --scale has
 * another question: what registered regions and connected peers cost when there are many.
 *
 * Thread: the caller's.
 */
#include "bench/xfer_priv.h"

#include <string.h>

#define SECONDS       6.0
#define SECONDS_QUICK 0.02
#define DEFAULT_RUN_S 60.0

static const struct {
    const char *name;
    int (*fn)(struct yk_bench_run *run);
} groups[] = {{"mem", xfer_copy_mem}, {"shm", xfer_copy_shm}, {"tcp", xfer_tcp}, {"file", xfer_file},
            {"rdma", xfer_rdma}};
#define GROUPS (sizeof(groups) / sizeof(groups[0]))

/* Peers first: they fork, which nobody may who has had engines. */
static int scale(struct yk_bench_run *run) {
    int rc = xfer_peers(run);
    return rc == 0 ? xfer_regions(run) : rc;
}

int yk_bench_xfer(const struct yk_bench_opts *opts) {
    struct yk_bench_run run;
    yk_bench_run_init(&run, "xfer", opts, SECONDS, SECONDS_QUICK);
    if (opts->seconds > 0)
        run.seconds *= opts->seconds / DEFAULT_RUN_S;
    if (opts->rails > 0) {
        int rc = xfer_rails(&run, opts->rails);
        return rc != 0 ? rc : yk_bench_report_end(&run.report, 0);
    }
    if (opts->wan)
        return xfer_wan(&run);
    if (opts->target != NULL)
        return yk_bench_report_end(&run.report, xfer_target_load(&run));
    if (opts->scale)
        return yk_bench_report_end(&run.report, scale(&run));
    int found = opts->transport == NULL, rc = 0;
    for (size_t i = 0; i < GROUPS && rc == 0; i++) {
        if (opts->transport != NULL && strcmp(opts->transport, groups[i].name) != 0)
            continue;
        found = 1;
        rc = groups[i].fn(&run);
    }
    if (!found) {
        fprintf(stderr, "yolk bench: found --transport '%s', expected mem, shm, tcp, file or rdma\n",
                opts->transport);
        return YK_BENCH_USAGE;
    }
    return yk_bench_report_end(&run.report, rc);
}
