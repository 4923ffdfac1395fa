/* SPDX-License-Identifier: Apache-2.0
 *
 * What peers cost that are connected and have nothing to do (`yolk bench xfer --scale`): private memory
 * of the process for each of 1,000, at an initiator that has read from all of them and at a target that
 * all of them have read from, with both kinds of lanes up; and a read of 4 KiB with 1,000 peers open
 * beside one with a single peer.
 *
 * Memory is what the process has for itself (smaps_rollup: private pages); sockets
 * in the kernel are no part of it. The first peer is not counted: what the engine makes once comes with it.
 *
 * Fewer than 1,000 where the limit of open files does not let them be; a row says how many.
 *
 * Thread: the caller's; engines have their own.
 */
#include "bench/xfer_priv.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define PEERS        1000u
#define PEERS_QUICK  20u
#define FILES_A_PEER 12u /* of the process that has the engines: the most one takes */
#define IDLE_BYTES   (64.0 * 1024)

static uint32_t peer_count(const struct yk_bench_run *run) {
    struct rlimit files;
    uint32_t n = run->opts->quick ? PEERS_QUICK : PEERS;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return n;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files); /* children have it, too */
    rlim_t fit = files.rlim_max / FILES_A_PEER;
    return fit < n ? (uint32_t)fit : n;
}

/* Private memory of this process; 0: it cannot be read. */
static double private_bytes(void) {
    char line[256];
    double kib = 0, one;
    malloc_trim(0);
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "Private_Clean: %lf", &one) == 1 || sscanf(line, "Private_Dirty: %lf", &one) == 1)
            kib += one;
    if (f != NULL)
        fclose(f);
    return kib * 1024;
}

static void idle_row(struct yk_bench_run *run, const char *name, double before, uint32_t peers) {
    double now = private_bytes();
    struct yk_bench_row row = YK_BENCH_ROW(name, "B", now > before ? (now - before) / peers : 0);
    row.limit = IDLE_BYTES;
    yk_bench_report_row(&run->report, &row);
}

static void count_row(struct yk_bench_run *run, uint32_t peers) {
    struct yk_bench_row row = YK_BENCH_ROW("base peers", "1", peers);
    yk_bench_report_row(&run->report, &row);
}

/* ---- the initiator -------------------------------------------------------------------------------- */

/* An engine with segments of so many peers. */
struct from_many {
    yk_xfer *engine;
    char *memory;
    yk_xfer_segment segments[PEERS];
    uint32_t count;
    int in_turn; /* reads go from one peer to the next; else they stay with the first */
};

static int read_from(struct from_many *m, yk_xfer_segment segment, uint32_t xclass) {
    yk_xfer_request r = {.op = YK_XFER_READ, .local = m->memory, .segment = segment, .length = XFER_CROWD_BYTES};
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = xclass, .flags = YK_XFER_WILL_WAIT};
    yk_xfer_batch batch;
    int rc = yk_xfer_submit(m->engine, &r, 1, &so, &batch);
    if (rc < 0)
        return xfer_failed("submit", rc);
    rc = yk_xfer_wait(m->engine, batch, UINT32_MAX);
    yk_xfer_batch_free(m->engine, batch);
    return rc < 0 ? xfer_failed("transfer", rc) : 0;
}

static int one_read(void *arg, uint64_t i) {
    struct from_many *m = arg;
    return read_from(m, m->segments[m->in_turn ? i % m->count : 0], YK_XFER_DEMAND);
}

/* One more peer: both kinds of lanes are up then. */
static int meet(void *arg, const char *address) {
    struct from_many *m = arg;
    int rc = yk_xfer_open(m->engine, address, 0, &m->segments[m->count]);
    if (rc < 0)
        return xfer_failed(address, rc);
    yk_xfer_segment s = m->segments[m->count++];
    rc = read_from(m, s, YK_XFER_URGENT);
    return rc == 0 ? read_from(m, s, YK_XFER_DEMAND) : rc;
}

static int from_open(struct from_many *m, char *memory) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_TCP, .shm_dir = ""};
    yk_xfer_memory r = {.addr = memory, .length = XFER_CROWD_BYTES, .fd = -1};
    m->memory = memory;
    m->count = 0;
    int rc = yk_xfer_create(&o, &m->engine);
    if (rc == 0)
        rc = yk_xfer_register(m->engine, &r, 1);
    return rc < 0 ? xfer_failed("engine", rc) : 0;
}

static void cost_rows(struct yk_bench_run *run, const struct yk_series *s) {
    static const char *const names[] = {"base tcp 4KiB of one peer", "tcp 4KiB with many peers",
                                        "base tcp 4KiB of many peers in turn"};
    for (int k = 0; k < 3; k++) {
        struct yk_bench_row row =
            YK_BENCH_ROW(names[k], "s", (double)yk_hist_percentile(&s[k].hist, 50) / 1e9);
        if (k > 0)
            row.limit = (double)yk_hist_percentile(&s[0].hist, 50) / 1e9;
        yk_row_hist(&row, &s[k].hist);
        row.cpu_s = s[k].cpu_s;
        yk_bench_report_row(&run->report, &row);
    }
}

static int costs(struct yk_bench_run *run, struct from_many *one, struct from_many *many,
                 struct from_many *in_turn) {
    static struct yk_series series[3];
    struct from_many *args[3] = {one, many, in_turn};
    struct yk_series *all[3];
    for (int k = 0; k < 3; k++) {
        series[k] = (struct yk_series){.op = one_read, .arg = args[k], .per_round = 500, .weight = 1};
        all[k] = &series[k];
    }
    int rc = yk_measure(all, 3, run->seconds);
    if (rc == 0)
        cost_rows(run, series);
    return rc;
}

static int at_initiator(struct yk_bench_run *run, struct xfer_crowd *crowd, uint32_t peers) {
    static struct from_many one, many, in_turn;
    static char memory[XFER_CROWD_BYTES];
    double before = 0;
    int rc = from_open(&many, memory);
    if (rc == 0)
        rc = xfer_crowd_more(crowd, 1, "", meet, &many);
    if (rc == 0) {
        before = private_bytes();
        rc = xfer_crowd_more(crowd, peers - 1, "", meet, &many);
    }
    if (rc == 0) {
        idle_row(run, "idle peer at the initiator", before, peers - 1);
        rc = from_open(&one, memory);
    }
    if (rc == 0)
        rc = xfer_crowd_more(crowd, 1, "", meet, &one);
    if (rc == 0) {
        in_turn = many;
        in_turn.in_turn = 1;
        rc = costs(run, &one, &many, &in_turn);
    }
    yk_xfer_destroy(many.engine);
    yk_xfer_destroy(one.engine);
    many.engine = one.engine = NULL;
    return rc;
}

/* ---- the target ----------------------------------------------------------------------------------- */

static int at_target(struct yk_bench_run *run, struct xfer_crowd *crowd, uint32_t peers) {
    static char memory[XFER_CROWD_BYTES];
    yk_xfer_opts o = {
        .size = sizeof(o), .transports = YK_XFER_TCP, .shm_dir = "", .listen = "127.0.0.1:0"};
    yk_xfer_memory m = {
        .addr = memory, .length = sizeof(memory), .access = YK_XFER_REMOTE_READ, .fd = -1};
    char where[XFER_CROWD_WHERE];
    yk_xfer *engine = NULL;
    int rc = yk_xfer_create(&o, &engine);
    if (rc == 0)
        rc = yk_xfer_register(engine, &m, 1);
    if (rc == 0)
        rc = yk_xfer_publish(engine, "bench", memory, sizeof(memory), NULL);
    if (rc < 0) {
        yk_xfer_destroy(engine);
        return xfer_failed("target", rc);
    }
    snprintf(where, sizeof(where), "%s/bench", yk_xfer_address(engine));
    rc = xfer_crowd_more(crowd, 1, where, NULL, NULL);
    if (rc == 0) {
        double before = private_bytes();
        rc = xfer_crowd_more(crowd, peers - 1, where, NULL, NULL);
        if (rc == 0)
            idle_row(run, "idle peer at the target", before, peers - 1);
    }
    yk_xfer_destroy(engine);
    return rc;
}

int xfer_peers(struct yk_bench_run *run) {
    static const char *const here[] = {"idle peer at the initiator", "tcp 4KiB with many peers", NULL};
    static const char *const there[] = {"idle peer at the target", NULL};
    int want_here = yk_bench_wants(&run->report, here), want_there = yk_bench_wants(&run->report, there);
    uint32_t peers = peer_count(run);
    struct xfer_crowd crowds[2] = {{.fd = -1}, {.fd = -1}}; /* both forked before there are engines */
    int rc = 0;
    if (!want_here && !want_there)
        return 0;
    count_row(run, peers);
    if (want_here)
        rc = xfer_crowd_start(&crowds[0]);
    if (rc == 0 && want_there)
        rc = xfer_crowd_start(&crowds[1]);
    if (rc == 0 && want_there)
        rc = at_target(run, &crowds[1], peers);
    xfer_crowd_stop(&crowds[1]);
    if (rc == 0 && want_here)
        rc = at_initiator(run, &crowds[0], peers);
    xfer_crowd_stop(&crowds[0]);
    return rc;
}
