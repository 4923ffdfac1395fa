/* SPDX-License-Identifier: Apache-2.0
 *
 * One load on a segment elsewhere (`yolk xfer serve`), of one class or of several at once (xfer_mix.c): what a
 * person measures between two hosts. There is no limit beside it: what a network does on its own, iperf3 and
 * its like say.
 *
 * Thread: the caller's, and the load's.
 */
#include "bench/xfer_priv.h"

#include <string.h>

#define ROUND_BYTES (256 * MIB)

const char *const xfer_class_names[YK_XFER_CLASSES] = {"urgent", "demand", "prefetch", "background"};

/* The only class that is wanted, or -1: several are. */
static int only_class(const uint32_t weights[YK_XFER_CLASSES]) {
    int found = -1;
    for (int c = 0; c < YK_XFER_CLASSES; c++) {
        if (weights[c] > 0 && found >= 0)
            return -1;
        found = weights[c] > 0 ? c : found;
    }
    return found;
}

int xfer_target_load(struct yk_bench_run *run) {
    static struct yk_series s;
    const struct yk_bench_opts *o = run->opts;
    struct xfer_side side;
    yk_xfer_opts eo = {.size = sizeof(eo), .insecure_network = 1, .rails = o->target_rails,
                       .transports = o->target_transports};
    yk_xfer_segment_info info;
    char name[96];
    int xclass = only_class(o->weights);
    int rc = xfer_side_open(&side, &eo, o->target);
    if (rc < 0)
        return rc;
    struct xfer_load load = {.side = &side,
                             .op = o->writes ? YK_XFER_WRITE : YK_XFER_READ,
                             .xclass = (uint32_t)(xclass >= 0 ? xclass : 0),
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
    if (rc == 0 && xclass < 0) {
        rc = xfer_mix(run, &load);
        xfer_side_close(&side);
        return rc;
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
             (unsigned long long)load.bytes, load.batch, load.threads, xfer_class_names[load.xclass]);
    yk_series_row(&run->report, name, "B/s", &s, NULL);
    xfer_cpu_row(run, name, &s);
    return 0;
}
