/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request costs with more and more memory registered (`yolk bench xfer --scale`): submit, wait and
 * free of 4 KiB at a random place, by memory of the process and over TCP, with 10 to 10,000 regions at
 * both ends.
 *
 * The place is in the same 40 MiB whatever their number: they are cut into more regions, not made
 * more. So what differs is what the engine looks up, not what the caches miss in the payload. Engines
 * of all numbers take turns. A row's limit is the cost with 10 regions times log2(n) / log2(10):
 * a ratio of at most 1 is no worse than logarithmic.
 *
 * Both ends are in this process: nothing that is forked has to be told how many regions to register.
 *
 * Thread: the caller's; engines have their own.
 */
#include "bench/xfer_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK   (4 * KIB)
#define BLOCKS  10000u
#define PLACES  (BLOCKS * BLOCK)
#define COUNTS  4u

static const uint32_t counts[COUNTS] = {10, 100, 1000, 10000};

/* An engine with so many regions of `places`, and one that it reads from: itself over mem. */
struct many_regions {
    yk_xfer *engine, *target;
    yk_xfer_segment segment;
    char *places;
    uint64_t random;
};

static int one_read(void *arg, uint64_t i) {
    struct many_regions *m = arg;
    uint64_t at = yk_random_below(&m->random, BLOCKS) * BLOCK;
    yk_xfer_request r = {.op = YK_XFER_READ,
                         .local = m->places + at,
                         .segment = m->segment,
                         .offset = at,
                         .length = BLOCK};
    yk_xfer_submit_opts so = {
        .size = sizeof(so), .xclass = YK_XFER_DEMAND, .flags = YK_XFER_WILL_WAIT};
    yk_xfer_batch batch;
    (void)i;
    int rc = yk_xfer_submit(m->engine, &r, 1, &so, &batch);
    if (rc < 0)
        return xfer_failed("submit", rc);
    rc = yk_xfer_wait(m->engine, batch, UINT32_MAX);
    yk_xfer_batch_free(m->engine, batch);
    return rc < 0 ? xfer_failed("transfer", rc) : 0;
}

/* n regions next to each other, over all of the places. */
static int cut(yk_xfer *engine, char *places, uint32_t n) {
    yk_xfer_memory *all = calloc(n, sizeof(*all));
    if (all == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        all[i] = (yk_xfer_memory){.addr = places + PLACES / n * i, .length = PLACES / n, .fd = -1};
    int rc = yk_xfer_register(engine, all, n);
    free(all);
    return rc < 0 ? xfer_failed("register", rc) : 0;
}

/* Regions at the target: its segment is one more of them. */
static int publish(yk_xfer *engine, char *memory) {
    yk_xfer_memory m = {
        .addr = memory, .length = PLACES, .access = YK_XFER_REMOTE_READ, .fd = -1};
    int rc = yk_xfer_register(engine, &m, 1);
    if (rc == 0)
        rc = yk_xfer_publish(engine, "bench", memory, PLACES, NULL);
    return rc < 0 ? xfer_failed("segment", rc) : 0;
}

static int regions_open(struct many_regions *m, uint32_t transport, uint32_t n, char *far, char *near,
                        char *spare) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transport, .shm_dir = ""};
    char where[160] = "bench";
    *m = (struct many_regions){.places = near, .random = 1};
    int rc = yk_xfer_create(&o, &m->engine);
    if (rc == 0 && transport == YK_XFER_TCP) {
        o.listen = "127.0.0.1:0";
        rc = yk_xfer_create(&o, &m->target);
    }
    if (rc < 0)
        return xfer_failed("engine", rc);
    yk_xfer *target = m->target != NULL ? m->target : m->engine;
    rc = cut(m->engine, near, n);
    if (rc == 0 && m->target != NULL)
        rc = cut(m->target, spare, n);
    if (rc == 0)
        rc = publish(target, far);
    if (rc < 0)
        return rc;
    if (m->target != NULL)
        snprintf(where, sizeof(where), "%s/bench", yk_xfer_address(m->target));
    rc = yk_xfer_open(m->engine, where, 0, &m->segment);
    return rc < 0 ? xfer_failed(where, rc) : 0;
}

static void regions_close(struct many_regions *m) {
    yk_xfer_destroy(m->engine);
    yk_xfer_destroy(m->target);
    *m = (struct many_regions){.engine = NULL};
}

static void rows(struct yk_bench_run *run, const char *transport, const struct yk_series *s) {
    char name[64];
    double first = (double)yk_hist_percentile(&s[0].hist, 50) / 1e9;
    for (uint32_t k = 0; k < COUNTS; k++) {
        snprintf(name, sizeof(name), "%s%s 4KiB %u regions", k == 0 ? "base " : "", transport, counts[k]);
        struct yk_bench_row row = YK_BENCH_ROW(name, "s", (double)yk_hist_percentile(&s[k].hist, 50) / 1e9);
        if (k > 0)
            row.limit = first * log2(counts[k]) / log2(counts[0]);
        yk_row_hist(&row, &s[k].hist);
        row.cpu_s = s[k].cpu_s;
        yk_bench_report_row(&run->report, &row);
    }
}

static int of_transport(struct yk_bench_run *run, const char *transport, uint32_t bit, uint32_t per_round,
                        char *memory) {
    static struct yk_series series[COUNTS];
    struct yk_series *all[COUNTS];
    struct many_regions many[COUNTS] = {{.engine = NULL}};
    int rc = 0;
    for (uint32_t k = 0; k < COUNTS && rc == 0; k++) {
        rc = regions_open(&many[k], bit, counts[k], memory, memory + PLACES, memory + 2 * PLACES);
        memset(&series[k], 0, sizeof(series[k]));
        series[k].op = one_read;
        series[k].arg = &many[k];
        series[k].per_round = per_round;
        series[k].weight = 1;
        all[k] = &series[k];
    }
    if (rc == 0)
        rc = yk_measure(all, COUNTS, run->seconds);
    for (uint32_t k = 0; k < COUNTS; k++)
        regions_close(&many[k]);
    if (rc == 0)
        rows(run, transport, series);
    return rc;
}

int xfer_regions(struct yk_bench_run *run) {
    static const char *const mem[] = {"mem 4KiB 100 regions", "mem 4KiB 1000 regions",
                                      "mem 4KiB 10000 regions", NULL};
    static const char *const tcp[] = {"tcp 4KiB 100 regions", "tcp 4KiB 1000 regions",
                                      "tcp 4KiB 10000 regions", NULL};
    int want_mem = yk_bench_wants(&run->report, mem), want_tcp = yk_bench_wants(&run->report, tcp);
    char *memory = want_mem || want_tcp ? yk_bench_buffer(3 * PLACES) : NULL;
    int rc = 0;
    if (memory == NULL)
        return want_mem || want_tcp ? -YK_ENOMEM : 0;
    if (want_mem)
        rc = of_transport(run, "mem", YK_XFER_MEM, 2000, memory);
    if (rc == 0 && want_tcp)
        rc = of_transport(run, "tcp", YK_XFER_TCP, 300, memory);
    munmap(memory, 3 * PLACES);
    return rc;
}
