/* SPDX-License-Identifier: Apache-2.0
 *
 * TCP over loopback: large blocks and small ones beside a plain send/recv loop, one small read beside a
 * bare ping-pong, an urgent one beside a background stream.
 *
 * Each limit takes turns with its case. The limit of 64 KiB and 16 KiB is the case of 1 MiB: what lies
 * between them is the engine's cost for each block, which gathering has to keep small.
 */
#include "bench/xfer_priv.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ROUND_BYTES (256 * MIB)
#define SPIN_US     200u

static const char *const op_name[] = {"", "read", "write"};

static yk_xfer_opts tcp_opts(int target, uint32_t poll_us) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_TCP, .shm_dir = "", .poll_us = poll_us};
    if (target)
        o.listen = "127.0.0.1:0";
    return o;
}

void xfer_cpu_of(struct yk_bench_run *run, const char *name, double cpu_s, double bytes) {
    char text[96];
    snprintf(text, sizeof(text), "cpu %s", name);
    struct yk_bench_row row = YK_BENCH_ROW(text, "s/GB", cpu_s / (bytes / 1e9));
    yk_bench_report_row(&run->report, &row);
}

void xfer_cpu_row(struct yk_bench_run *run, const char *name, const struct yk_series *s) {
    xfer_cpu_of(run, name, s->cpu_s + s->node_s, (double)s->ops * s->weight);
}

/* ---- streams ---------------------------------------------------------------------------------- */

struct stream_case {
    uint64_t bytes;
    uint32_t batch, threads;
    const char *size;
};

/* One thread, several, and small blocks in batches of 128. */
static const struct stream_case cases[] = {
    {MIB, 16, 1, "1MiB"},
    {MIB, 16, 4, "1MiB 4 threads"},
    {MIB, 16, 16, "1MiB 16 threads"},
    {64 * KIB, 128, 1, "64KiB"},
    {16 * KIB, 128, 1, "16KiB"},
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

static int streams(struct yk_bench_run *run, struct xfer_side *side, pid_t target, uint32_t op) {
    static struct yk_series plain, series[CASES];
    struct yk_series *all[CASES + 1] = {&plain};
    struct xfer_load loads[CASES];
    struct xfer_plain p;
    char name[80];
    int rc = xfer_plain_open(&p, MIB, op == YK_XFER_WRITE, 0);
    if (rc < 0)
        return rc;
    memset(&plain, 0, sizeof(plain));
    plain.many = xfer_plain_many;
    plain.arg = &p;
    plain.node = p.pid;
    plain.per_round = ROUND_BYTES / MIB;
    plain.weight = MIB;
    for (size_t i = 0; i < CASES; i++) {
        loads[i] = (struct xfer_load){.side = side,
                                      .op = op,
                                      .xclass = YK_XFER_DEMAND,
                                      .bytes = cases[i].bytes,
                                      .batch = cases[i].batch,
                                      .deep = 2,
                                      .threads = cases[i].threads};
        memset(&series[i], 0, sizeof(series[i]));
        series[i].many = xfer_load_many;
        series[i].arg = &loads[i];
        series[i].node = target;
        series[i].per_round = (uint32_t)(ROUND_BYTES / cases[i].bytes);
        series[i].weight = (double)cases[i].bytes;
        all[i + 1] = &series[i];
    }
    rc = yk_measure(all, CASES + 1, run->seconds * 2);
    xfer_plain_close(&p);
    if (rc < 0)
        return rc;
    snprintf(name, sizeof(name), "base plain %s 1MiB", op_name[op]);
    yk_series_row(&run->report, name, "B/s", &plain, NULL);
    xfer_cpu_row(run, name + 5, &plain);
    for (size_t i = 0; i < CASES; i++) {
        snprintf(name, sizeof(name), "tcp %s %s", op_name[op], cases[i].size);
        yk_series_row(&run->report, name, "B/s", &series[i],
                      cases[i].bytes == MIB ? &plain : &series[0]);
        xfer_cpu_row(run, name, &series[i]);
    }
    return 0;
}

/* ---- one at a time ------------------------------------------------------------------------------ */

static int single(struct yk_bench_run *run, uint32_t poll_us, const char *mode) {
    static struct yk_series ping, one;
    struct xfer_target t;
    struct xfer_side side;
    struct xfer_plain p = {.fd = -1};
    yk_xfer_opts to = tcp_opts(1, poll_us), so = tcp_opts(0, poll_us);
    char name[80];
    yk_bench_run_at(YK_BENCH_THERE);
    int rc = xfer_target_start(&t, &to, 0);
    if (rc == 0)
        rc = xfer_plain_open(&p, 4 * KIB, 0, poll_us > 0);
    yk_bench_run_at(YK_BENCH_HERE);
    if (rc == 0)
        rc = xfer_side_open(&side, &so, t.where);
    if (rc == 0) {
        struct xfer_load load = {
            .side = &side, .op = YK_XFER_READ, .xclass = YK_XFER_URGENT, .bytes = 4 * KIB};
        memset(&ping, 0, sizeof(ping));
        memset(&one, 0, sizeof(one));
        ping = (struct yk_series){.op = xfer_plain_ping, .arg = &p, .per_round = 500, .weight = 1};
        one = (struct yk_series){.op = xfer_load_one, .arg = &load, .per_round = 500, .weight = 1};
        struct yk_series *both[] = {&ping, &one};
        rc = yk_measure(both, 2, run->seconds);
        xfer_side_close(&side);
    }
    xfer_plain_close(&p);
    xfer_target_stop(&t);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    if (rc < 0)
        return rc;
    snprintf(name, sizeof(name), "base plain ping-pong 4KiB%s", mode);
    struct yk_bench_row row =
        YK_BENCH_ROW(name, "s", (double)yk_hist_percentile(&ping.hist, 50) / 1e9);
    double limit = row.value;
    yk_row_hist(&row, &ping.hist);
    yk_bench_report_row(&run->report, &row);
    snprintf(name, sizeof(name), "tcp read 4KiB%s", mode);
    row = YK_BENCH_ROW(name, "s", (double)yk_hist_percentile(&one.hist, 50) / 1e9);
    row.limit = limit;
    yk_row_hist(&row, &one.hist);
    yk_bench_report_row(&run->report, &row);
    return 0;
}

/* ---- classes ------------------------------------------------------------------------------------ */

struct beside {
    struct xfer_load load;
    struct yk_series series;
    pthread_t thread;
    int stop, status;
    uint64_t bytes;
};

static void *beside_main(void *arg) {
    struct beside *b = arg;
    while (!__atomic_load_n(&b->stop, __ATOMIC_RELAXED) && b->status == 0) {
        b->status = xfer_load_many(&b->series, 0, 2ull * b->load.batch);
        b->bytes += 2ull * b->load.batch * b->load.bytes;
    }
    return NULL;
}

static int beside_start(struct beside *b, struct xfer_side *side, uint32_t xclass, uint64_t bytes) {
    memset(b, 0, sizeof(*b));
    b->load = (struct xfer_load){.side = side,
                                 .op = YK_XFER_READ,
                                 .xclass = xclass,
                                 .bytes = bytes,
                                 .batch = 16,
                                 .deep = 2,
                                 .threads = 1};
    b->series.arg = &b->load;
    return pthread_create(&b->thread, NULL, beside_main, b) == 0 ? 0 : -YK_ELIMIT;
}

static int beside_stop(struct beside *b) {
    __atomic_store_n(&b->stop, 1, __ATOMIC_RELAXED);
    pthread_join(b->thread, NULL);
    return b->status;
}

static int urgent_reads(struct yk_bench_run *run, struct xfer_side *side, struct yk_series *s,
                        struct xfer_load *load) {
    *load = (struct xfer_load){
        .side = side, .op = YK_XFER_READ, .xclass = YK_XFER_URGENT, .bytes = 64 * KIB};
    memset(s, 0, sizeof(*s));
    s->op = xfer_load_one;
    s->arg = load;
    s->per_round = 100;
    s->weight = 64 * KIB;
    struct yk_series *one[] = {s};
    return yk_measure(one, 1, run->seconds);
}

/* Urgent reads as fast as they go, and a background stream: what is left for it. */
static int shares(struct yk_bench_run *run, struct xfer_side *side) {
    static struct beside urgent, background;
    int rc = beside_start(&urgent, side, YK_XFER_URGENT, MIB);
    if (rc < 0)
        return rc;
    rc = beside_start(&background, side, YK_XFER_BACKGROUND, MIB);
    struct timespec wait = {(time_t)run->seconds, (long)(1e9 * (run->seconds - (time_t)run->seconds))};
    nanosleep(&wait, NULL);
    int one = beside_stop(&urgent);
    rc = rc == 0 ? beside_stop(&background) : rc;
    if (rc < 0 || one < 0)
        return rc < 0 ? rc : one;
    struct yk_bench_row row =
        YK_BENCH_ROW("tcp background share", "fraction",
                     (double)background.bytes / (double)(background.bytes + urgent.bytes));
    row.limit = 0.05;
    yk_bench_report_row(&run->report, &row);
    return 0;
}

static int classes(struct yk_bench_run *run, struct xfer_side *side) {
    static struct yk_series idle, busy;
    static struct beside background;
    struct xfer_load load;
    int rc = urgent_reads(run, side, &idle, &load);
    if (rc == 0)
        rc = beside_start(&background, side, YK_XFER_BACKGROUND, MIB);
    if (rc < 0)
        return rc;
    uint64_t begin = yk_now_ns();
    rc = urgent_reads(run, side, &busy, &load);
    int one = beside_stop(&background);
    double s = (double)(yk_now_ns() - begin) / 1e9;
    if (rc < 0 || one < 0)
        return rc < 0 ? rc : one;
    struct yk_bench_row row = YK_BENCH_ROW("base tcp urgent 64KiB idle p99", "s",
                                           (double)yk_hist_percentile(&idle.hist, 99) / 1e9);
    double limit = row.value;
    yk_row_hist(&row, &idle.hist);
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("tcp urgent 64KiB beside background p99", "s",
                       (double)yk_hist_percentile(&busy.hist, 99) / 1e9);
    row.limit = limit;
    yk_row_hist(&row, &busy.hist);
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("base tcp background beside urgent", "B/s", (double)background.bytes / s);
    yk_bench_report_row(&run->report, &row);
    return shares(run, side);
}

int xfer_tcp(struct yk_bench_run *run) {
    static const char *const stream_names[] = {
        "tcp read 1MiB",  "tcp read 1MiB 4 threads",  "tcp read 1MiB 16 threads",  "tcp read 64KiB",
        "tcp read 16KiB", "tcp write 1MiB", "tcp write 1MiB 4 threads", "tcp write 1MiB 16 threads",
        "tcp write 64KiB", "tcp write 16KiB", NULL};
    static const char *const class_names[] = {"tcp urgent 64KiB beside background p99",
                                              "tcp background share", NULL};
    int want_streams = yk_bench_wants(&run->report, stream_names);
    int want_classes = yk_bench_wants(&run->report, class_names);
    int rc = 0;
    if (want_streams || want_classes) {
        struct xfer_target t;
        struct xfer_side side;
        yk_xfer_opts to = tcp_opts(1, 0), so = tcp_opts(0, 0);
        rc = xfer_target_start(&t, &to, 0);
        if (rc == 0)
            rc = xfer_side_open(&side, &so, t.where);
        if (rc == 0) {
            for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE && rc == 0 && want_streams; op++)
                rc = streams(run, &side, t.pid, op);
            if (rc == 0 && want_classes)
                rc = classes(run, &side);
            xfer_side_close(&side);
        }
        xfer_target_stop(&t);
    }
    if (rc == 0 && yk_bench_wants(&run->report, (const char *const[]){"tcp read 4KiB", NULL}))
        rc = single(run, 0, "");
    if (rc == 0 && yk_bench_wants(&run->report, (const char *const[]){"tcp read 4KiB polling", NULL}))
        rc = single(run, SPIN_US, " polling");
    return rc;
}
