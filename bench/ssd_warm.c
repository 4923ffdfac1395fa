/* SPDX-License-Identifier: Apache-2.0
 *
 * How long a node that starts with an empty DRAM and a full SSD needs until it serves as it did before.
 *
 * A generated trace of chats is replayed as fast as it goes: a request matches its keys, gets what is
 * there, and puts the rest; everything is written through, so that the SSD has all blocks at the stop.
 * Blocks on SSD are hits at once, so what a restart loses is DRAM: the figure is the share of the hits
 * that DRAM serves. "Back" is when it is at 90 % of what it was before the stop, over the last REQUESTS
 * requests; the time runs from the start of the new process, so recovery counts. After a restart requests
 * come at a hundred a second, as from engines that compute meanwhile: as fast as they go, they would fill
 * DRAM at the speed of the device, which is what preloading does. Starts that preload and
 * starts that fill on demand take turns, each after the same number of requests.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"
#include "replay/load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BYTES         (64 * KIB)
#define BLOCK_TOKENS  512u
#define CONTEXT       32768u
#define KEYS_MAX      (CONTEXT / BLOCK_TOKENS + 2u)
#define REQUESTS      60u /* of a window */
#define BACK          0.9
#define TURNS_WARM    3u
#define BETWEEN       3000u /* requests between two restarts */
#define BETWEEN_QUICK 200u
#define FIRST_FACTOR  3u                  /* times BETWEEN, before the first one */
#define GIVE_UP       4u                  /* times BETWEEN without being back */
#define PACE_NS       (10 * YK_NS_PER_MS) /* between two requests after a restart */
#define TIMEOUT_MS    30000u

struct warm {
    struct ssd_bench *b;
    struct ssd_node node;
    struct yk_replay_trace trace;
    uint64_t at; /* next request */
    unsigned char *bufs;
    yk_op ops[KEYS_MAX];
    struct iovec iov[KEYS_MAX];
    yk_put_opts puts[KEYS_MAX];
    yk_key keys[KEYS_MAX];
    char text[KEYS_MAX][YK_RIG_KEY_BYTES];
    yk_block_info infos[KEYS_MAX];
    /* the last REQUESTS requests: hits, and of those in DRAM */
    uint32_t hits[REQUESTS], dram[REQUESTS];
    uint64_t seen;
    double preload[TURNS_WARM], demand[TURNS_WARM];
};

/* ---- requests --------------------------------------------------------------------------------------- */

static double share(const struct warm *w) {
    uint64_t hits = 0, dram = 0;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        hits += w->hits[i];
        dram += w->dram[i];
    }
    return hits == 0 ? 0 : (double)dram / (double)hits;
}

/* One batch, tail first, as the policies expect it. */
static int batch(struct warm *w, uint32_t opcode, uint32_t from, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = from + n - 1u - k;
        w->puts[i] = (yk_put_opts){.size = sizeof(yk_put_opts),
                                   .depth_tokens = i * BLOCK_TOKENS,
                                   .length_tokens = BLOCK_TOKENS};
        if (i > 0)
            w->puts[i].parent = w->keys[i - 1u];
        w->ops[k] = (yk_op){.opcode = opcode,
                            .key = w->keys[i],
                            .iov = &w->iov[k],
                            .iov_count = 1,
                            .put = opcode == YK_OP_PUT ? &w->puts[i] : NULL};
    }
    int rc = yk_run(w->node.rig.client, w->ops, n, TIMEOUT_MS);
    for (uint32_t k = 0; k < n && rc >= 0; k++)
        if (w->ops[k].status < 0 && w->ops[k].status != -YK_ECONFLICT)
            rc = w->ops[k].status;
    return rc < 0 ? yk_rig_failed(w->node.rig.client, opcode == YK_OP_PUT ? "put" : "get", rc) : 0;
}

static int request(struct warm *w) {
    const struct yk_replay_req *r = &w->trace.reqs[w->at++ % w->trace.req_count];
    const uint64_t *ids = w->trace.ids + r->first;
    uint32_t n = r->n < KEYS_MAX ? r->n : KEYS_MAX, dram = 0;
    for (uint32_t i = 0; i < n; i++) {
        yk_rig_key(ids[i], w->text[i]);
        w->keys[i] = (yk_key){w->text[i], YK_RIG_KEY_BYTES};
    }
    int hits = yk_match(w->node.rig.client, w->keys, n, w->infos);
    if (hits < 0)
        return yk_rig_failed(w->node.rig.client, "match", hits);
    for (int i = 0; i < hits; i++)
        dram += (w->infos[i].tiers & (1u << YK_TIER_DRAM)) != 0;
    w->hits[w->seen % REQUESTS] = (uint32_t)hits;
    w->dram[w->seen++ % REQUESTS] = dram;
    int rc = batch(w, YK_OP_GET, 0, (uint32_t)hits);
    return rc < 0 ? rc : batch(w, YK_OP_PUT, (uint32_t)hits, n - (uint32_t)hits);
}

static int requests(struct warm *w, uint64_t n, double *ret_share) {
    int rc = 0;
    double sum = 0;
    uint64_t counted = 0;
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        rc = request(w);
        if (i >= n / 2 && w->seen >= REQUESTS) {
            sum += share(w);
            counted++;
        }
    }
    *ret_share = counted == 0 ? 0 : sum / (double)counted;
    return rc;
}

/* ---- restarts --------------------------------------------------------------------------------------- */

static int start(struct warm *w, int keep, int preload) {
    struct ssd_node_opts no = {.block_bytes = BYTES,
                               .when = YK_SSD_WRITE_THROUGH,
                               .keep = (uint8_t)keep,
                               .no_preload = (uint8_t)!preload};
    int rc = ssd_node_open(w->b, &no, &w->node);
    if (rc == 0)
        yk_own_hide(&w->node.rig.own);
    return rc;
}

static void wait_until(uint64_t ns) {
    struct timespec ts = {(time_t)(ns / YK_NS_PER_S), (long)(ns % YK_NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        continue;
}

/* Stops, starts, and replays until it is back. */
static int restart(struct warm *w, int preload, double before, double *ret_s) {
    uint64_t most = GIVE_UP * (uint64_t)(w->b->run.opts->quick ? BETWEEN_QUICK : BETWEEN);
    int rc = ssd_node_idle(&w->node);
    ssd_node_close(&w->node);
    uint64_t begin = yk_now_ns();
    w->seen = 0;
    if (rc == 0)
        rc = start(w, 1, preload);
    uint64_t due = yk_now_ns();
    for (; rc == 0 && w->seen < most; due += PACE_NS) {
        wait_until(due);
        rc = request(w);
        if (w->seen >= REQUESTS && share(w) >= BACK * before)
            break;
    }
    *ret_s = (double)(yk_now_ns() - begin) / 1e9;
    struct ssd_snap snap = {0};
    if (rc == 0)
        rc = ssd_node_snap(&w->node, &snap);
    ssd_progress(w->b, "warm-up %s: %.3f s, %llu requests; %llu blocks of %llu preloaded",
                 preload ? "preloading" : "on demand", *ret_s, (unsigned long long)w->seen,
                 (unsigned long long)snap.store.preloaded,
                 (unsigned long long)(snap.store.preload_goal / BYTES));
    if (rc == 0 && w->seen == most)
        fprintf(stderr, "yolk bench ssd: warm-up: not back after %llu requests\n",
                (unsigned long long)most);
    return rc;
}

static int turns(struct warm *w, uint32_t n) {
    uint64_t between = w->b->run.opts->quick ? BETWEEN_QUICK : BETWEEN;
    double before = 0;
    int rc = start(w, 0, 0);
    if (rc == 0)
        rc = requests(w, FIRST_FACTOR * between, &before);
    for (uint32_t i = 0; i < 2 * n && rc == 0; i++) {
        int preload = i % 2u == 1u;
        ssd_progress(w->b, "warm-up, turn %u of %u (DRAM had %.0f %% of the hits)", i + 1u, 2 * n,
                     100 * before);
        rc = restart(w, preload, before, preload ? &w->preload[i / 2u] : &w->demand[i / 2u]);
        if (rc == 0)
            rc = requests(w, between, &before);
    }
    if (rc < 0)
        return rc;
    struct yk_bench_row r =
        YK_BENCH_ROW("base warm-up on demand", "s", yk_bench_median(w->demand, n));
    yk_bench_report_row(&w->b->run.report, &r);
    double limit = r.value;
    r = YK_BENCH_ROW("warm-up", "s", yk_bench_median(w->preload, n));
    r.limit = limit;
    yk_bench_report_row(&w->b->run.report, &r);
    return 0;
}

static int prepare(struct warm *w) {
    struct yk_trace_gen_opts go;
    struct yk_err err = {0};
    yk_trace_gen_opts_init(&go);
    go.seed = w->b->run.seed;
    go.requests =
        (w->b->run.opts->quick ? BETWEEN_QUICK : BETWEEN) * (FIRST_FACTOR + 4u * TURNS_WARM);
    go.max_context_tokens = CONTEXT;
    go.block_tokens = BLOCK_TOKENS;
    int rc = yk_replay_generate(&go, &w->trace, &err);
    if (rc < 0) {
        fprintf(stderr, "yolk bench: %s\n", err.text);
        return rc;
    }
    w->bufs = yk_bench_buffer(KEYS_MAX * BYTES);
    if (w->bufs == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < KEYS_MAX; i++)
        w->iov[i] = (struct iovec){w->bufs + i * BYTES, BYTES};
    return 0;
}

int ssd_warm(struct ssd_bench *b) {
    static struct warm w;
    memset(&w, 0, sizeof(w));
    w.b = b;
    w.node.fd = -1;
    w.node.rig.own.kept.life_fd = -1;
    ssd_progress(b, "warm-up: filling");
    int rc = prepare(&w);
    if (rc == 0)
        rc = turns(&w, b->run.opts->quick ? 1 : TURNS_WARM);
    ssd_node_close(&w.node);
    yk_replay_trace_fini(&w.trace);
    if (w.bufs != NULL)
        munmap(w.bufs, KEYS_MAX * BYTES);
    return rc;
}
