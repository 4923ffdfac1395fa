/* SPDX-License-Identifier: Apache-2.0
 *
 * A node is killed under a load of reads. Three nodes: the first to start owns nearly all slots and leads the
 * cluster; it has a copy of every block that the others' clients read; it is the one that goes. So reads in flight to
 * it fail over to the other copy, all of its slots find new owners, and a third member takes the lead: the worst case
 * of the three. One of the others holds a large number of small blocks, which the new owners have to hear of.
 *
 *   longest stall   of a read of another node's block, from a second before to the end
 *   slots served    from the kill until a survivor answers for every slot of the sample
 *   slots whole     until every key of the sample is found again: lease, new owners, rebuild
 *   rebuild         the time between these two
 *   missed gets     of the load, at the first attempt, which until then is allowed (R12)
 *   failed gets     of the load, asked again; unreadable: of all its blocks, read once more in the end
 *
 * Limits are what is to be reached: 50 ms, the lease and a second, a second for each million blocks of an owner.
 *
 * Threads: the caller's, and two of the load.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#include <stdlib.h>

#define NODES       3u
#define LEASE_S     3.0
#define BULK        1000000u /* blocks that the new owners are told of */
#define BULK_QUICK  5000u
#define BULK_FIRST  (UINT64_C(1) << 40)
#define BULK_BYTES  64u
#define BYTES       4096u /* of a block that is read */
#define SAMPLE      2048u
#define POLL_MS     200u
#define LIMIT_NS    (60 * YK_NS_PER_S)
#define BEFORE_MS   1000u
#define AFTER_MS    1000u

struct killed {
    struct cluster_etcd etcd;
    struct cluster_node node[NODES];
    struct cluster_load load[2];
    uint64_t bulk, set; /* blocks of each load */
    uint64_t sample[SAMPLE];
    uint32_t samples;
    int status[SAMPLE];
    uint64_t killed_ns;
    double served_s, whole_s, cpu_load;
};

static int nodes_start(struct killed *k) {
    struct cluster_node *all[NODES];
    int rc = 0;
    for (uint32_t i = 0; i < NODES && rc == 0; i++) {
        all[i] = &k->node[i];
        rc = cluster_node_begin(all[i]);
        if (rc == 0)
            rc = cluster_node_ready(all[i]); /* one after the other: the first one leads */
    }
    return rc == 0 ? cluster_settle(all, NODES, NODES) : rc;
}

/* Load i reads through node 2 - i what nodes 1 + i and 0 have. The many come last: those before wait for their owners. */
static int blocks_put(struct killed *k) {
    char first[32];
    yk_put_opts two = {.size = sizeof(two), .replicas = 2, .prefer = first};
    int rc = 0;
    snprintf(first, sizeof(first), "%s-0", k->node[0].name);
    for (uint32_t i = 0; i < 2 && rc == 0; i++)
        rc = cluster_fill(k->node[1 + i].url[0], i * k->set, k->set, BYTES, &two);
    return rc == 0 ? cluster_fill(k->node[1].url[0], BULK_FIRST, k->bulk, BULK_BYTES, NULL) : rc;
}

static int all_at_least(const struct killed *k, int served_will_do) {
    for (uint32_t i = 0; i < k->samples; i++)
        if (k->status[i] != 0 && !(served_will_do && k->status[i] != -YK_EGONE))
            return 0;
    return 1;
}

/* Until the one with the many blocks has nothing to tell any more, and what it says of itself is of now. */
static int until_told(struct killed *k) {
    uint64_t until = yk_now_ns() + LIMIT_NS;
    struct cluster_node *n = &k->node[1];
    for (int quiet = 0; quiet < 2;) {
        int rc = cluster_node_ask(n);
        if (rc < 0 || yk_now_ns() > until)
            return rc < 0 ? rc : -YK_ETIMEDOUT;
        quiet = n->told.dir.walking || n->told.dir.core.unpublished > 0 ? 0 : quiet + 1;
        cluster_pause_ms(1100);
    }
    return 0;
}

/* Until the nodes from `first` on find all of the sample. */
static int until_found(struct killed *k, uint32_t first, uint64_t begin_ns) {
    const char *addresses[NODES];
    uint64_t until = yk_now_ns() + LIMIT_NS;
    k->served_s = k->whole_s = 0;
    for (uint32_t i = first; i < NODES; i++)
        addresses[i - first] = k->node[i].told.peers[0];
    for (;;) {
        int rc = cluster_who(addresses, NODES - first, k->sample, k->samples, POLL_MS, k->status);
        double s = (double)(yk_now_ns() - begin_ns) / 1e9;
        if (rc < 0)
            return rc;
        if (k->served_s == 0 && all_at_least(k, 1))
            k->served_s = s;
        if (all_at_least(k, 0)) {
            k->whole_s = s;
            return 0;
        }
        if (yk_now_ns() > until)
            return -YK_ETIMEDOUT;
        cluster_pause_ms(2);
    }
}

static double cpu_s(const struct killed *k) {
    double s = yk_bench_cpu_s();
    for (uint32_t i = 0; i < NODES; i++)
        s += yk_process_cpu_s(k->node[i].pid);
    return s;
}

static int kill_one(struct killed *k) {
    int rc = 0;
    for (uint32_t i = 0; i < 2 && rc == 0; i++)
        rc = cluster_load_start(&k->load[i]);
    double cpu = cpu_s(k);
    cluster_pause_ms(BEFORE_MS);
    k->cpu_load = (cpu_s(k) - cpu) / (BEFORE_MS / 1e3) / (double)sysconf(_SC_NPROCESSORS_ONLN);
    k->killed_ns = yk_now_ns();
    cluster_node_kill(&k->node[0]);
    if (rc == 0)
        rc = until_found(k, 1, k->killed_ns);
    cluster_pause_ms(AFTER_MS);
    for (uint32_t i = 0; i < 2; i++)
        cluster_load_stop(&k->load[i]);
    return rc;
}

/* All blocks of both loads, through the same nodes, as fast as they come. */
static uint64_t unreadable(struct killed *k) {
    uint64_t failed = 0;
    for (uint32_t i = 0; i < 2; i++) {
        static struct cluster_load again;
        again = (struct cluster_load){.first = i * k->set, .keys = k->set, .bytes = BYTES, .per_s = 1000000};
        snprintf(again.url, sizeof(again.url), "%s", k->load[i].url);
        if (cluster_load_start(&again) < 0)
            return k->set;
        pthread_join(again.thread, NULL);
        failed += again.failed + (k->set - again.done);
    }
    return failed;
}

static void rows(struct yk_bench_run *run, struct killed *k) {
    const struct cluster_load *longest = &k->load[k->load[1].longest_ns > k->load[0].longest_ns];
    double rebuild = k->whole_s - k->served_s, millions = (double)k->bulk / 2 / 1e6; /* two owners share them */
    cluster_row(run, "base node killed cpu load before", "fraction", k->cpu_load, NAN);
    cluster_row(run, "node killed longest stall", "s", (double)longest->longest_ns / 1e9, 0.05);
    cluster_row(run, "base node killed longest stall began after", "s",
                (double)(int64_t)(longest->longest_at_ns - k->killed_ns) / 1e9, NAN);
    cluster_row(run, "node killed slots served", "s", k->served_s, LEASE_S + 1);
    cluster_row(run, "node killed slots whole", "s", k->whole_s, NAN);
    cluster_row(run, "node killed rebuild", "s", rebuild, millions);
    cluster_row(run, "node killed blocks told to an owner", "1", (double)k->bulk / 2, NAN);
    cluster_row(run, "node killed gets", "1", (double)(k->load[0].done + k->load[1].done), NAN);
    cluster_row(run, "node killed missed gets", "1", (double)(k->load[0].missed + k->load[1].missed), NAN);
    cluster_row(run, "node killed failed gets", "1", (double)(k->load[0].failed + k->load[1].failed), NAN);
    cluster_row(run, "node killed unreadable blocks", "1", (double)unreadable(k), NAN);
}

static int case_run(struct yk_bench_run *run, struct killed *k) {
    uint32_t per_s = run->opts->quick ? 50 : 400;
    uint64_t random = run->seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    k->bulk = run->opts->quick ? BULK_QUICK : BULK;
    k->set = run->opts->quick ? 600 : 6000;
    k->samples = SAMPLE;
    for (uint32_t i = 0; i < SAMPLE; i++)
        k->sample[i] = BULK_FIRST + yk_random_below(&random, k->bulk);
    int rc = nodes_start(k);
    if (rc == 0)
        rc = blocks_put(k);
    if (rc == 0)
        rc = until_told(k);
    if (rc == 0)
        rc = until_found(k, 0, yk_now_ns());
    for (uint32_t i = 0; i < 2 && rc == 0; i++) {
        k->load[i] = (struct cluster_load){.first = i * k->set, .keys = k->set, .bytes = BYTES, .per_s = per_s};
        snprintf(k->load[i].url, sizeof(k->load[i].url), "%s", k->node[2 - i].url[0]);
    }
    if (rc == 0)
        rc = kill_one(k);
    if (rc == 0)
        rows(run, k);
    else
        fprintf(stderr, "yolk bench: node killed: %s\n", yk_strerror(rc));
    return rc;
}

int cluster_kill(struct yk_bench_run *run, const struct cluster_place *place) {
    static struct killed k;
    static const char *const names[] = {"node killed longest stall", "node killed slots served",
                                        "node killed slots whole", "node killed rebuild",
                                        "node killed failed gets", "node killed unreadable blocks", NULL};
    if (!yk_bench_wants(&run->report, names))
        return 0;
    k = (struct killed){0};
    int rc = cluster_etcd_start(&k.etcd, place, 1);
    struct cluster_node_opts o = {
        .etcd = k.etcd.urls, .max_blocks = run->opts->quick ? 0 : BULK + 65536u, .dram_bytes = {512 * MIB}};
    for (uint32_t i = 0; i < NODES && rc == 0; i++) {
        char name[16];
        snprintf(name, sizeof(name), "kill%u", i);
        rc = cluster_node_spawn(&k.node[i], place, name, &o);
    }
    if (rc == 0)
        rc = case_run(run, &k);
    for (uint32_t i = 0; i < NODES; i++)
        cluster_node_stop(&k.node[i]);
    cluster_etcd_stop(&k.etcd);
    return cluster_skipped(run, "node killed", rc);
}
