/* SPDX-License-Identifier: Apache-2.0
 *
 * Look-ups at the owner of a slot, over TCP on loopback: one key at a time beside a bare ping-pong of as many
 * bytes, and 32 in a question with several questions under way, at one shard and at two. A shard is the thread of
 * a directory, so two shards are two nodes, each in a process of its own with all 4,096 slots of a cluster of its own,
 * and each asked by a thread of its own. What a shard can do beside another one is counted in keys for each second of
 * its process's CPU time, since four busy threads share this machine's cores.
 *
 * Threads: the caller's, and one more while two shards are asked.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#define KEYS        262144u
#define KEYS_QUICK  2048u
#define BLOCK_BYTES 64u
#define DEEP        16u /* questions under way */
#define FILL_NS     (60 * YK_NS_PER_S)

struct shard {
    struct cluster_node node;
    struct cluster_guest many;
    double cpu_s;
    uint64_t keys; /* looked up in that time */
    int status;
    uint64_t n;
};

/* ---- operations --------------------------------------------------------------------------------------- */

static int one_key(void *arg, uint64_t i) {
    (void)i;
    return cluster_guest_run(arg, 1, 1);
}

static int ask_shard(struct shard *s, uint64_t n) {
    double cpu = yk_process_cpu_s(s->node.pid);
    int rc = cluster_guest_run(&s->many, n, DEEP);
    s->cpu_s += yk_process_cpu_s(s->node.pid) - cpu;
    s->keys += n * s->many.batch;
    return rc;
}

static int one_shard(struct yk_series *series, uint64_t i, uint64_t n) {
    (void)i;
    return ask_shard(series->arg, n);
}

static void *shard_main(void *arg) {
    struct shard *s = arg;
    yk_bench_run_at(YK_BENCH_THERE); /* its server is on the other core */
    s->status = ask_shard(s, s->n);
    return NULL;
}

/* shards[1], and shards[2] beside it, n questions each. */
static int two_shards(struct yk_series *series, uint64_t i, uint64_t n) {
    struct shard *s = series->arg;
    pthread_t thread;
    (void)i;
    s[1].n = n;
    if (pthread_create(&thread, NULL, shard_main, &s[1]) != 0)
        return -YK_ELIMIT;
    int rc = ask_shard(&s[0], n);
    pthread_join(thread, NULL);
    return rc < 0 ? rc : s[1].status;
}

/* ---- shards ------------------------------------------------------------------------------------------- */

static int shard_open(struct shard *s, const struct cluster_place *place, const char *name, enum yk_bench_place at) {
    struct cluster_node_opts o = {.dram_bytes = {256 * MIB}, .max_blocks = 2 * KEYS};
    memset(s, 0, sizeof(*s));
    yk_bench_run_at(at);
    int rc = cluster_node_spawn(&s->node, place, name, &o);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    return rc;
}

/* The directory's own table has all keys, and everything was said to it. */
static int shard_fill(struct shard *s, uint64_t keys) {
    uint64_t until = yk_now_ns() + FILL_NS;
    int rc = cluster_node_begin(&s->node);
    if (rc == 0)
        rc = cluster_node_ready(&s->node);
    if (rc == 0)
        rc = cluster_fill(s->node.url[0], 0, keys, BLOCK_BYTES, NULL);
    while (rc == 0 && s->node.told.dir.core.entries < keys) {
        cluster_pause_ms(50);
        rc = yk_now_ns() > until ? -YK_ETIMEDOUT : cluster_node_ask(&s->node);
    }
    if (rc == 0)
        rc = cluster_guest_open(&s->many, s->node.told.peers[0]);
    s->many.keys = keys;
    s->many.batch = CLUSTER_BATCH;
    if (rc == 0)
        rc = cluster_guest_run(&s->many, 64, DEEP); /* the connection, and the table's memory */
    if (rc < 0)
        fprintf(stderr, "yolk bench: look-ups: %s\n", yk_strerror(rc));
    return rc;
}

static void shard_close(struct shard *s) {
    if (s->many.peers != NULL)
        cluster_guest_close(&s->many);
    cluster_node_stop(&s->node);
}

/* ---- cases -------------------------------------------------------------------------------------------- */

static int single(struct yk_bench_run *run, struct shard *s, struct xfer_plain *plain) {
    static struct yk_series ping, look;
    static struct cluster_guest guest;
    struct yk_series *both[] = {&ping, &look};
    int rc = cluster_guest_open(&guest, s->node.told.peers[0]);
    guest.keys = s->many.keys;
    guest.batch = 1;
    ping = (struct yk_series){.op = xfer_plain_ping, .arg = plain, .per_round = 500, .weight = 1};
    look = (struct yk_series){.op = one_key, .arg = &guest, .per_round = 500, .weight = 1};
    yk_bench_run_at(YK_BENCH_HERE);
    if (rc == 0)
        rc = one_key(&guest, 0);
    if (rc == 0)
        rc = yk_measure(both, 2, run->seconds);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    cluster_guest_close(&guest);
    if (rc < 0)
        return rc;
    cluster_row_p50(run, "base ping-pong", &ping.hist, NAN);
    cluster_row_p50(run, "lookup single", &look.hist, (double)yk_hist_percentile(&ping.hist, 50) / 1e9);
    return 0;
}

static double per_cpu_s(const struct shard *s) {
    return s->cpu_s > 0 ? (double)s->keys / s->cpu_s : 0;
}

static int batches(struct yk_bench_run *run, struct shard *s) {
    static struct yk_series one, two;
    struct yk_series *both[] = {&one, &two};
    uint32_t round = run->opts->quick ? 32 : 2048;
    one = (struct yk_series){.many = one_shard, .arg = &s[0], .per_round = round, .weight = CLUSTER_BATCH};
    two = (struct yk_series){.many = two_shards, .arg = &s[1], .per_round = round, .weight = 2 * CLUSTER_BATCH};
    yk_bench_run_at(YK_BENCH_HERE);
    int rc = yk_measure(both, 2, run->seconds);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, "lookup batch32 1shard", "1/s", &one, NULL);
    yk_series_row(&run->report, "lookup batch32 2shards", "1/s", &two, &one);
    double a = per_cpu_s(&s[1]), b = per_cpu_s(&s[2]);
    cluster_row(run, "base lookup batch32 1shard keys per cpu", "1/s", per_cpu_s(&s[0]), NAN);
    cluster_row(run, "lookup batch32 2shards keys per cpu", "1/s", a < b ? a : b, per_cpu_s(&s[0]));
    return 0;
}

/* Three nodes: that of the single shard stays what it is while two others are asked at a time. */
int cluster_find(struct yk_bench_run *run, const struct cluster_place *place) {
    static struct shard s[3];
    static const char *const batch_names[] = {"lookup batch32 1shard", "lookup batch32 2shards",
                                              "lookup batch32 2shards keys per cpu", NULL};
    int want_single = yk_bench_wants(&run->report, (const char *const[]){"lookup single", NULL});
    int want_batches = yk_bench_wants(&run->report, batch_names);
    uint64_t keys = run->opts->quick ? KEYS_QUICK : KEYS;
    uint32_t count = want_batches ? 3 : want_single ? 1 : 0;
    struct xfer_plain plain = {.fd = -1};
    int rc = 0;
    if (count == 0)
        return 0;
    for (uint32_t i = 0; i < 3; i++)
        s[i] = (struct shard){.node.fd = -1};
    for (uint32_t i = 0; i < count && rc == 0; i++)
        rc = shard_open(&s[i], place, (const char *const[]){"one", "two-a", "two-b"}[i],
                        i == 2 ? YK_BENCH_HERE : YK_BENCH_THERE);
    yk_bench_run_at(YK_BENCH_THERE);
    if (rc == 0 && want_single)
        rc = xfer_plain_open(&plain, 64, 0, 0);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    for (uint32_t i = 0; i < count && rc == 0; i++)
        rc = shard_fill(&s[i], keys);
    if (rc == 0 && want_single)
        rc = single(run, &s[0], &plain);
    if (rc == 0 && want_batches)
        rc = batches(run, s);
    xfer_plain_close(&plain);
    for (uint32_t i = 0; i < count; i++)
        shard_close(&s[i]);
    return rc;
}
