/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks go down and come up, many at a time, beside fio.
 *
 * Writes are demotions: puts of new blocks into a DRAM tier that is full push older ones down. What
 * counts are the bytes of blocks that reached the SSD, over a window in which the puts never stop. Reads
 * take blocks of a set of eight times DRAM and more, each once before any comes again, so that none is
 * found in DRAM; what counts are bytes that were returned and compared, but no more than the SSD read.
 *
 * fio never flushes, the log does before it uses segments again. So that it pays for its own data alone,
 * the file is flushed after each turn of writes; `base flush after fio write` is how long that took, and
 * `base fio write and flush` fio's rate with it: what the device takes when it has to keep it, too.
 *
 * The limit of writes is fio's with 1 MiB whatever the blocks' size, since a log writes them together;
 * that of reads is fio's with the size of a block.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"

#include <stdlib.h>

#define FIO_WRITE_BYTES MIB
#define GB              1e9

/* What one kind of turn came to, over all turns. */
struct rates {
    double turn[TURNS_MAX];
    uint32_t n;
    double cpu_s, bytes; /* of all turns */
    double max_ns;       /* the longest operation */
};

struct moves {
    struct ssd_bench *b;
    const char *size; /* in names */
    uint64_t bytes;
    struct ssd_node node;
    struct ssd_flow flow;
    struct ssd_tier *tier;
    struct rates fio, fio_same, seen, put, direct, flush, kept;
    struct yk_fio_result last; /* percentiles are of the last turn */
    struct yk_hist hist;
    uint64_t misses;
    uint64_t hurried, demoted; /* blocks that left unwritten, and written, in turns of writes */
};

static void add(struct rates *r, double rate) {
    if (r->n < TURNS_MAX)
        r->turn[r->n++] = rate;
}

static double median(const struct rates *r) {
    double v[TURNS_MAX];
    memcpy(v, r->turn, sizeof(v));
    return yk_bench_median(v, r->n);
}

static void begin(struct moves *m) {
    m->fio = m->fio_same = m->seen = m->put = m->direct = m->flush = m->kept = (struct rates){0};
    yk_hist_reset(&m->hist);
    m->hurried = m->demoted = 0;
    m->misses = 0;
}

/* ---- turns ------------------------------------------------------------------------------------------ */

static int fio_turn(struct moves *m, enum yk_fio_rw rw, uint64_t bytes, uint32_t turn,
                    struct rates *r) {
    struct yk_fio_result f;
    int rc = ssd_fio(m->b, rw, bytes, DEPTH, turn, &f);
    if (rc < 0)
        return rc;
    add(r, f.rate);
    r->cpu_s += f.cpu_s;
    r->bytes += (double)f.bytes;
    r->max_ns = f.max_ns > r->max_ns ? f.max_ns : r->max_ns;
    if (r == &m->fio)
        m->last = f;
    if (rw != YK_FIO_WRITE || f.rate <= 0)
        return 0;
    double flush_s = ssd_settle(&m->b->fio), all = (double)f.bytes;
    add(&m->flush, flush_s);
    if (r == &m->fio)
        add(&m->kept, all / (all / f.rate + flush_s));
    return 0;
}

/* The flow runs; what was counted in the middle of it. */
static int window(struct moves *m, struct ssd_snap *from, struct ssd_snap *to, double *ret_cpu_s) {
    uint64_t ramp = (uint64_t)(m->b->ramp_s * 1e9), turn = (uint64_t)(m->b->turn_s * 1e9);
    int rc = ssd_flow_run(&m->flow, yk_now_ns() + ramp, 0);
    if (rc == 0)
        rc = ssd_node_snap(&m->node, from);
    double cpu = yk_bench_cpu_s();
    ssd_flow_reset(&m->flow);
    if (rc == 0)
        rc = ssd_flow_run(&m->flow, yk_now_ns() + turn, 0);
    if (rc == 0)
        rc = ssd_node_snap(&m->node, to);
    *ret_cpu_s = yk_bench_cpu_s() - cpu + to->cpu_s - from->cpu_s;
    return rc;
}

static int write_turn(struct moves *m) {
    struct ssd_snap from = {0}, to = {0};
    double cpu;
    int rc = window(m, &from, &to, &cpu);
    if (rc < 0)
        return rc;
    double s = (double)(to.now_ns - from.now_ns) / 1e9;
    double bytes = (double)(to.ssd.put_bytes - from.ssd.put_bytes);
    add(&m->seen, bytes / s);
    add(&m->put, (double)m->flow.put_bytes / s);
    m->hurried += to.store.demote_hurried - from.store.demote_hurried;
    m->demoted += to.store.demoted - from.store.demoted;
    m->seen.bytes += bytes;
    m->seen.cpu_s += cpu;
    double max = (double)yk_hist_max(&m->flow.put);
    m->put.max_ns = max > m->put.max_ns ? max : m->put.max_ns;
    yk_hist_merge(&m->hist, &m->flow.put);
    /* The next turn of fio has the device for itself. */
    rc = ssd_flow_drain(&m->flow);
    return rc < 0 ? rc : ssd_node_idle(&m->node);
}

static int read_turn(struct moves *m) {
    struct ssd_snap from = {0}, to = {0};
    double cpu;
    int rc = window(m, &from, &to, &cpu);
    if (rc < 0)
        return rc;
    double s = (double)(to.now_ns - from.now_ns) / 1e9;
    uint64_t from_ssd = to.ssd.read_bytes - from.ssd.read_bytes;
    uint64_t bytes = m->flow.get_bytes < from_ssd ? m->flow.get_bytes : from_ssd;
    add(&m->seen, (double)bytes / s);
    m->seen.bytes += (double)bytes;
    m->seen.cpu_s += cpu;
    m->misses += m->flow.misses;
    yk_hist_merge(&m->hist, &m->flow.get);
    rc = ssd_flow_drain(&m->flow);
    return rc < 0 ? rc : ssd_node_idle(&m->node);
}

static int direct_turn(struct moves *m, enum yk_fio_rw rw) {
    double rate, s = m->b->turn_s / 2;
    int rc = rw == YK_FIO_WRITE ? ssd_tier_write(m->tier, m->b->ramp_s, s, &rate)
                                : ssd_tier_read(m->tier, DEPTH, m->b->ramp_s, s, &rate, NULL);
    if (rc == 0)
        add(&m->direct, rate);
    if (rw == YK_FIO_WRITE)
        (void)ssd_settle(&m->b->tier);
    return rc;
}

/* ---- rows ------------------------------------------------------------------------------------------- */

static void row(struct moves *m, struct yk_bench_row *r, const char *what, const char *suffix) {
    char name[80];
    snprintf(name, sizeof(name), "%s %s%s", what, m->size, suffix);
    r->name = name;
    yk_bench_report_row(&m->b->run.report, r);
}

static void fio_row(struct moves *m, enum yk_fio_rw rw, const char *size, const struct rates *r) {
    char name[80];
    snprintf(name, sizeof(name), "base fio %s %s%s", rw == YK_FIO_WRITE ? "write" : "read", size,
             rw == YK_FIO_WRITE ? "" : " depth32");
    struct yk_bench_row b = YK_BENCH_ROW(name, "B/s", median(r));
    if (r == &m->fio) {
        b.p50_us = m->last.p50_ns / 1e3;
        b.p99_us = m->last.p99_ns / 1e3;
        b.p999_us = m->last.p999_ns / 1e3;
    }
    b.cpu_s = r->cpu_s;
    yk_bench_report_row(&m->b->run.report, &b);
}

static void cpu_rows(struct moves *m, const char *what) {
    char name[80];
    const char *blank = m->bytes == MIB ? "" : " ", *size = m->bytes == MIB ? "" : m->size;
    snprintf(name, sizeof(name), "cpu %s%s%s", what, blank, size);
    struct yk_bench_row b = YK_BENCH_ROW(name, "s/GB", m->seen.cpu_s / (m->seen.bytes / GB));
    yk_bench_report_row(&m->b->run.report, &b);
    snprintf(name, sizeof(name), "cpu fio %s%s%s", what, blank, size);
    b = YK_BENCH_ROW(name, "s/GB", m->fio.cpu_s / (m->fio.bytes / GB));
    yk_bench_report_row(&m->b->run.report, &b);
}

static void move_rows(struct moves *m, enum yk_fio_rw rw) {
    int writes = rw == YK_FIO_WRITE;
    fio_row(m, rw, !writes ? m->size : m->bytes == MIB ? "1MiB" : "1MiB beside 64KiB", &m->fio);
    if (m->fio_same.n > 0)
        fio_row(m, rw, m->size, &m->fio_same);
    struct yk_bench_row r = YK_BENCH_ROW(NULL, "s", median(&m->flush));
    if (writes)
        row(m, &r, "base flush after fio write", "");
    r = YK_BENCH_ROW(NULL, "B/s", median(&m->kept));
    if (writes)
        row(m, &r, "base fio write and flush", "");
    r = YK_BENCH_ROW(NULL, "B/s", median(&m->direct));
    row(m, &r, writes ? "base tier write" : "base tier read", writes ? "" : " depth32");
    r = YK_BENCH_ROW(NULL, "B/s", median(&m->seen));
    r.limit = median(&m->fio);
    r.cpu_s = m->seen.cpu_s;
    yk_row_hist(&r, &m->hist);
    row(m, &r, writes ? "write" : "read", writes ? "" : " depth32");
    double left = (double)(m->hurried + m->demoted);
    r = YK_BENCH_ROW(NULL, "fraction", left > 0 ? (double)m->hurried / left : 0);
    if (writes)
        row(m, &r, "base dropped unwritten", "");
    cpu_rows(m, writes ? "write" : "read");
}

static void put_rows(struct moves *m) {
    struct yk_bench_row r = YK_BENCH_ROW("put 10x dram", "B/s", median(&m->put));
    r.limit = median(&m->fio);
    yk_row_hist(&r, &m->hist);
    yk_bench_report_row(&m->b->run.report, &r);
    r = YK_BENCH_ROW("base fio longest completion", "s", m->fio.max_ns / 1e9);
    yk_bench_report_row(&m->b->run.report, &r);
    r = YK_BENCH_ROW("put 10x dram longest stall", "s", m->put.max_ns / 1e9);
    r.limit = m->fio.max_ns / 1e9 + 0.05;
    yk_bench_report_row(&m->b->run.report, &r);
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static int writes(struct moves *m) {
    int rc = 0;
    begin(m);
    m->flow.puts = PUTS;
    m->flow.gets = 0;
    rc = ssd_flow_run(&m->flow, UINT64_MAX, m->b->dram + m->b->dram / 4u); /* DRAM is full now */
    for (uint32_t i = 0; i < m->b->turns && rc == 0; i++) {
        ssd_progress(m->b, "write %s, turn %u of %u", m->size, i + 1u, m->b->turns);
        rc = fio_turn(m, YK_FIO_WRITE, FIO_WRITE_BYTES, i, &m->fio);
        if (rc == 0 && m->bytes != FIO_WRITE_BYTES)
            rc = fio_turn(m, YK_FIO_WRITE, m->bytes, i, &m->fio_same);
        if (rc == 0)
            rc = write_turn(m);
        if (rc == 0)
            rc = direct_turn(m, YK_FIO_WRITE);
    }
    if (rc == 0)
        move_rows(m, YK_FIO_WRITE);
    if (rc == 0 && m->bytes == MIB)
        put_rows(m);
    return rc;
}

static int fill(struct moves *m) {
    m->flow.puts = PUTS;
    m->flow.gets = 0;
    int rc = ssd_flow_fill(&m->flow, m->b, &m->node);
    uint64_t have = ssd_tier_live(m->tier) * m->bytes, want = m->b->size / 2;
    return rc == 0 && have < want ? ssd_tier_fill(m->tier, (want - have) / m->bytes, 0, 0) : rc;
}

static void say_misses(struct moves *m, const struct ssd_snap *made) {
    struct ssd_snap now;
    if (ssd_node_snap(&m->node, &now) < 0)
        return;
    fprintf(
        stderr,
        "yolk bench ssd: %llu gets of %s missed; since the set was made %llu raises failed and the "
        "log dropped %llu blocks; before, %llu demotions failed\n",
        (unsigned long long)m->misses, m->size,
        (unsigned long long)(now.store.raise_failed - made->store.raise_failed),
        (unsigned long long)(now.ssd.clean_dropped - made->ssd.clean_dropped),
        (unsigned long long)made->store.demote_failed);
}

static int reads(struct moves *m) {
    struct ssd_snap made = {0};
    begin(m);
    ssd_progress(m->b, "read %s: filling", m->size);
    int rc = fill(m);
    if (rc == 0)
        rc = ssd_node_snap(&m->node, &made);
    m->flow.puts = 0;
    m->flow.gets = DEPTH;
    for (uint32_t i = 0; i < m->b->turns && rc == 0; i++) {
        ssd_progress(m->b, "read %s, turn %u of %u", m->size, i + 1u, m->b->turns);
        rc = fio_turn(m, YK_FIO_READ, m->bytes, i, &m->fio);
        if (rc == 0)
            rc = read_turn(m);
        if (rc == 0)
            rc = direct_turn(m, YK_FIO_READ);
    }
    if (rc == 0)
        move_rows(m, YK_FIO_READ);
    if (rc == 0 && m->misses != 0)
        say_misses(m, &made);
    return rc;
}

static int moves(struct ssd_bench *b, const char *size, uint64_t bytes,
                 const char *const *write_names, const char *const *read_names) {
    static struct moves m;
    struct ssd_node_opts no = {.block_bytes = bytes};
    struct ssd_tier_opts to = {.block_bytes = bytes};
    memset(&m, 0, sizeof(m));
    m.b = b;
    m.size = size;
    m.bytes = bytes;
    int rc = ssd_node_open(b, &no, &m.node);
    if (rc == 0)
        rc = ssd_flow_open(&m.flow, m.node.rig.client, bytes, PUTS, 0);
    if (rc == 0)
        yk_own_hide(&m.node.rig.own); /* all that connect are connected */
    if (rc == 0)
        rc = ssd_tier_open(b, &to, &m.tier);
    if (rc == 0 && yk_bench_wants(&b->run.report, write_names))
        rc = writes(&m);
    if (rc == 0 && yk_bench_wants(&b->run.report, read_names))
        rc = reads(&m);
    ssd_tier_close(m.tier);
    ssd_node_close(&m.node);
    ssd_flow_close(&m.flow);
    return rc;
}

int ssd_moves_large(struct ssd_bench *b) {
    static const char *const writing[] = {"write 1MiB", "put 10x dram",
                                          "put 10x dram longest stall", NULL};
    static const char *const reading[] = {"read 1MiB depth32", NULL};
    return moves(b, "1MiB", MIB, writing, reading);
}

int ssd_moves_small(struct ssd_bench *b) {
    static const char *const writing[] = {"write 64KiB", NULL};
    static const char *const reading[] = {"read 64KiB depth32", NULL};
    return moves(b, "64KiB", 64 * KIB, writing, reading);
}
