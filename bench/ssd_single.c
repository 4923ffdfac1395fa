/* SPDX-License-Identifier: Apache-2.0
 *
 * One read of 256 KiB at a time, beside fio's at depth 1, and what a get adds to the device by its
 * nature: 1.3 ping-pongs over a unix socket (the node has to be asked), and the hash of the payload.
 *
 * Client and node stand on two cores, as the ping-pong beside them does; fio may run anywhere.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <sys/mman.h>

#define BYTES      (256 * KIB)
#define HASH_AREA  (256 * MIB) /* larger than the caches: the payload comes from the device */
#define HASHES     300u
#define PINGPONGS  2000u
#define PINGPONG_K 1.3

struct single {
    struct ssd_bench *b;
    struct ssd_node node;
    struct ssd_flow flow;
    struct ssd_tier *tier;
    struct yk_pingpong pp;
    unsigned char *area;
    uint64_t random, sink;
    /* p50 of each turn, in s */
    double fio[TURNS_MAX], ping[TURNS_MAX], hash[TURNS_MAX], get[TURNS_MAX], direct[TURNS_MAX];
    struct yk_hist gets, turn;
    struct yk_fio_result last;
};

static double p50_s(const struct yk_hist *h) {
    return (double)yk_hist_percentile(h, 50) / 1e9;
}

static int fio_turn(struct single *s, uint32_t i) {
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    int rc = ssd_fio(s->b, YK_FIO_READ, BYTES, 1, i, &s->last);
    yk_bench_run_at(YK_BENCH_HERE);
    s->fio[i] = s->last.p50_ns / 1e9;
    return rc;
}

static int ping_turn(struct single *s, uint32_t i) {
    int rc = 0;
    yk_hist_reset(&s->turn);
    for (uint32_t k = 0; k < PINGPONGS && rc == 0; k++) {
        uint64_t start = yk_now_ns();
        rc = yk_pingpong_op(&s->pp, k);
        yk_hist_record(&s->turn, yk_now_ns() - start);
    }
    s->ping[i] = p50_s(&s->turn);
    return rc;
}

static void hash_turn(struct single *s, uint32_t i) {
    yk_hist_reset(&s->turn);
    for (uint32_t k = 0; k < HASHES; k++) {
        uint64_t at = yk_random_below(&s->random, HASH_AREA / BYTES) * BYTES;
        uint64_t start = yk_now_ns();
        s->sink ^= yk_hash64(s->area + at, BYTES);
        yk_hist_record(&s->turn, yk_now_ns() - start);
    }
    s->hash[i] = p50_s(&s->turn);
}

static int get_turn(struct single *s, uint32_t i) {
    uint64_t end = yk_now_ns() + (uint64_t)(s->b->turn_s * 1e9), ns;
    int rc = 0;
    yk_hist_reset(&s->turn);
    while (rc == 0 && yk_now_ns() < end) {
        rc = ssd_flow_get(&s->flow, &ns);
        if (rc == 0)
            yk_hist_record(&s->turn, ns);
        rc = rc == YK_MISS ? 0 : rc;
    }
    s->get[i] = p50_s(&s->turn);
    yk_hist_merge(&s->gets, &s->turn);
    return rc < 0 ? rc : ssd_node_idle(&s->node);
}

static int direct_turn(struct single *s, uint32_t i) {
    double rate;
    yk_hist_reset(&s->turn);
    int rc = ssd_tier_read(s->tier, 1, s->b->ramp_s, s->b->turn_s / 4, &rate, &s->turn);
    s->direct[i] = p50_s(&s->turn);
    return rc;
}

static int turns(struct single *s) {
    struct ssd_snap from, to;
    int rc = ssd_node_snap(&s->node, &from);
    for (uint32_t i = 0; i < s->b->turns && rc == 0; i++) {
        ssd_progress(s->b, "read 256KiB single, turn %u of %u", i + 1u, s->b->turns);
        rc = fio_turn(s, i);
        if (rc == 0)
            rc = ping_turn(s, i);
        hash_turn(s, i);
        if (rc == 0)
            rc = get_turn(s, i);
        if (rc == 0)
            rc = direct_turn(s, i);
    }
    if (rc == 0)
        rc = ssd_node_snap(&s->node, &to);
    if (rc == 0 && to.ssd.reads - from.ssd.reads < yk_hist_count(&s->gets) / 20u * 19u)
        fprintf(stderr, "yolk bench ssd: of %llu gets only %llu came from the SSD\n",
                (unsigned long long)yk_hist_count(&s->gets),
                (unsigned long long)(to.ssd.reads - from.ssd.reads));
    return rc;
}

static double base(struct single *s, const char *name, double *v) {
    struct yk_bench_row r = YK_BENCH_ROW(name, "s", yk_bench_median(v, s->b->turns));
    yk_bench_report_row(&s->b->run.report, &r);
    return r.value;
}

static void rows(struct single *s) {
    double fio = base(s, "base fio read 256KiB single", s->fio);
    double ping = base(s, "base unix socket ping-pong", s->ping);
    double hash = base(s, "base hash 256KiB", s->hash);
    base(s, "base tier read 256KiB single", s->direct);
    struct yk_bench_row r =
        YK_BENCH_ROW("read 256KiB single", "s", yk_bench_median(s->get, s->b->turns));
    r.limit = fio + PINGPONG_K * ping + hash;
    yk_row_hist(&r, &s->gets);
    yk_bench_report_row(&s->b->run.report, &r);
}

static int open_all(struct single *s) {
    struct ssd_node_opts no = {.block_bytes = BYTES};
    struct ssd_tier_opts to = {.block_bytes = BYTES, .size_bytes = s->b->size / 2 / MIB * MIB};
    yk_bench_run_at(YK_BENCH_THERE);
    int rc = yk_pingpong_open(&s->pp);
    if (rc == 0)
        rc = ssd_node_open(s->b, &no, &s->node);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    if (rc == 0)
        rc = ssd_flow_open(&s->flow, s->node.rig.client, BYTES, PUTS, 0);
    if (rc == 0)
        yk_own_hide(&s->node.rig.own);
    s->area = yk_bench_buffer(HASH_AREA);
    if (rc == 0 && s->area == NULL)
        rc = -YK_ENOMEM;
    if (rc == 0)
        rc = ssd_tier_open(s->b, &to, &s->tier);
    if (rc == 0)
        rc = ssd_tier_fill(s->tier, to.size_bytes / 2 / BYTES, 0, 0);
    return rc < 0 ? rc : ssd_flow_fill(&s->flow, s->b, &s->node);
}

int ssd_single(struct ssd_bench *b) {
    static struct single s;
    memset(&s, 0, sizeof(s));
    s.b = b;
    s.node.fd = -1;
    s.node.rig.own.kept.life_fd = -1;
    s.random = b->run.seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    ssd_progress(b, "read 256KiB single: filling");
    int rc = open_all(&s);
    if (rc == 0)
        rc = turns(&s);
    if (rc == 0)
        rows(&s);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    ssd_tier_close(s.tier);
    ssd_node_close(&s.node);
    ssd_flow_close(&s.flow);
    yk_pingpong_close(&s.pp);
    if (s.area != NULL)
        munmap(s.area, HASH_AREA);
    return rc;
}
