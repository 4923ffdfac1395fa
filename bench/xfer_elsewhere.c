/* SPDX-License-Identifier: Apache-2.0
 *
 * One load on a segment elsewhere (`yolk xfer serve`): what a person measures between two hosts. There is
 * no limit beside it: what a network does on its own, iperf3 and its like say.
 *
 * Thread: the caller's, and the load's.
 */
#include "bench/xfer_priv.h"

#include <string.h>

#define ROUND_BYTES (256 * MIB)

static const char *const class_name[] = {"urgent", "demand", "prefetch", "background"};

int xfer_target_load(struct yk_bench_run *run) {
    static struct yk_series s;
    const struct yk_bench_opts *o = run->opts;
    struct xfer_side side;
    yk_xfer_opts eo = {.size = sizeof(eo), .insecure_network = 1};
    yk_xfer_segment_info info;
    char name[96];
    int rc = xfer_side_open(&side, &eo, o->target);
    if (rc < 0)
        return rc;
    struct xfer_load load = {.side = &side,
                             .op = o->writes ? YK_XFER_WRITE : YK_XFER_READ,
                             .xclass = o->xclass,
                             .bytes = o->block_bytes,
                             .batch = o->batch,
                             .deep = 2,
                             .threads = o->threads,
                             .hist = &s.hist};
    memset(&s, 0, sizeof(s));
    rc = yk_xfer_segment_stat(side.engine, side.segment, &info);
    if (rc == 0 && (info.length < XFER_FOOTPRINT || load.bytes * load.threads > XFER_FOOTPRINT)) {
        fprintf(stderr, "yolk bench: %s has %llu bytes; this load takes 256 MiB of it, each thread at least a "
                        "block\n", o->target, (unsigned long long)info.length);
        xfer_side_close(&side);
        return YK_BENCH_USAGE;
    }
    s.many = xfer_load_many;
    s.arg = &load;
    s.per_round = (uint32_t)(ROUND_BYTES / load.bytes);
    s.weight = (double)load.bytes;
    struct yk_series *one[] = {&s};
    if (rc == 0)
        rc = yk_measure(one, 1, run->seconds);
    xfer_side_close(&side);
    if (rc < 0)
        return rc;
    snprintf(name, sizeof(name), "%s %llu bytes x %u, %u threads, %s", load.op == YK_XFER_READ ? "read" : "write",
             (unsigned long long)load.bytes, load.batch, load.threads, class_name[load.xclass]);
    yk_series_row(&run->report, name, "B/s", &s, NULL);
    xfer_cpu_row(run, name, &s);
    return 0;
}
