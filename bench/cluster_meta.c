/* SPDX-License-Identifier: Apache-2.0
 *
 * etcd fails under a load of reads and puts: three members, three nodes, and at each node a thread that gets blocks of
 * the next one and puts new ones. None of that needs etcd, so none of it may fail; and when etcd is well again the
 * cluster has all of its members, and all slots have owners.
 *
 *   leader killed    kill -9, started again
 *   leader stopped   SIGSTOP, SIGCONT
 *   majority lost    two members killed, started again (--time of a minute or more: for 60 s, as long as is asked for)
 *   empty            all killed and started again without their data
 *
 * Threads: the caller's, and three of the load. etcd is forked beside them: such a child does nothing but exec.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#include <signal.h>

#define REFILL_NS (60 * YK_NS_PER_S)
#define NODES     3u
#define BYTES     1024u
#define PUT_FIRST (UINT64_C(1) << 41)

enum harm { LEADER_KILLED, LEADER_STOPPED, MAJORITY_LOST, EMPTY, HARMS };

static const char *const harm_name[HARMS] = {"etcd leader killed", "etcd leader stopped", "etcd majority lost",
                                             "etcd empty"};

struct hurt {
    struct cluster_etcd etcd;
    struct cluster_node node[NODES];
    struct cluster_load load[NODES];
    uint64_t set, next_put;
    uint32_t per_s;
};

static uint64_t first_of(const struct hurt *h, enum harm harm, uint32_t node) {
    return (harm * NODES + node) * h->set;
}

static int load_begin(struct hurt *h, enum harm harm) {
    int rc = 0;
    for (uint32_t i = 0; i < NODES && rc == 0; i++) {
        h->load[i] = (struct cluster_load){.first = first_of(h, harm, (i + 1) % NODES),
                                           .keys = h->set,
                                           .bytes = BYTES,
                                           .per_s = h->per_s,
                                           .put_first = PUT_FIRST + h->next_put};
        h->next_put += h->set;
        snprintf(h->load[i].url, sizeof(h->load[i].url), "%s", h->node[i].url[0]);
        rc = cluster_load_start(&h->load[i]);
    }
    return rc;
}

/* Done, and undone after so long. */
static int do_harm(struct cluster_etcd *e, enum harm harm, uint32_t ms) {
    int leader = cluster_etcd_leader(e), rc = 0;
    uint32_t first = leader < 0 ? 0 : (uint32_t)leader, count = harm == EMPTY ? 3 : harm == MAJORITY_LOST ? 2 : 1;
    if (harm == LEADER_STOPPED) {
        kill(e->at[first].pid, SIGSTOP);
        cluster_pause_ms(ms);
        kill(e->at[first].pid, SIGCONT);
        return 0;
    }
    for (uint32_t i = 0; i < count; i++)
        cluster_etcd_kill(e, (first + i) % CLUSTER_ETCDS);
    cluster_pause_ms(ms);
    for (uint32_t i = 0; i < count && rc == 0; i++)
        rc = cluster_etcd_again(e, (first + i) % CLUSTER_ETCDS, harm == EMPTY);
    return rc;
}

static void rows(struct yk_bench_run *run, struct hurt *h, enum harm harm) {
    uint64_t done = 0, failed = 0, missed = 0, longest = 0;
    char name[64];
    for (uint32_t i = 0; i < NODES; i++) {
        done += h->load[i].done;
        failed += h->load[i].failed;
        missed += h->load[i].missed;
        longest = h->load[i].longest_ns > longest ? h->load[i].longest_ns : longest;
    }
    snprintf(name, sizeof(name), "%s failed operations", harm_name[harm]);
    cluster_row(run, name, "1", (double)failed, NAN);
    snprintf(name, sizeof(name), "%s missed gets", harm_name[harm]);
    cluster_row(run, name, "1", (double)missed, NAN);
    snprintf(name, sizeof(name), "%s operations", harm_name[harm]);
    cluster_row(run, name, "1", (double)done, NAN);
    snprintf(name, sizeof(name), "%s longest stall", harm_name[harm]);
    cluster_row(run, name, "s", (double)longest / 1e9, NAN);
}

static int wants(const struct yk_bench_run *run, enum harm harm) {
    char names[4][64];
    static const char *const ends[4] = {"failed operations", "missed gets", "operations", "longest stall"};
    for (int i = 0; i < 4; i++)
        snprintf(names[i], sizeof(names[i]), "%s %s", harm_name[harm], ends[i]);
    return yk_bench_wants(&run->report, (const char *const[]){names[0], names[1], names[2], names[3], NULL});
}

/* The map that an empty etcd is filled with is a newer one than all before it. */
static int until_newer(struct cluster_node *const *nodes, uint64_t version) {
    uint64_t until = yk_now_ns() + REFILL_NS;
    for (uint32_t i = 0; i < NODES;) {
        int rc = cluster_node_ask(nodes[i]);
        if (rc < 0 || yk_now_ns() > until)
            return rc < 0 ? rc : -YK_ETIMEDOUT;
        if (nodes[i]->told.dir.map_version > version)
            i++;
        else
            cluster_pause_ms(20);
    }
    return 0;
}

static int harm_run(struct yk_bench_run *run, struct hurt *h, enum harm harm) {
    struct cluster_node *all[NODES] = {&h->node[0], &h->node[1], &h->node[2]};
    uint32_t ms = run->opts->quick ? 1500 : harm != MAJORITY_LOST ? 6000 : run->opts->seconds >= 60 ? 60000 : 10000;
    uint64_t version = h->node[0].told.dir.map_version; /* all had come to rest */
    int rc = load_begin(h, harm);
    cluster_pause_ms(500);
    if (rc == 0)
        rc = do_harm(&h->etcd, harm, ms);
    if (rc == 0)
        rc = cluster_etcd_wait(&h->etcd);
    if (rc == 0 && harm == EMPTY)
        rc = until_newer(all, version);
    if (rc == 0)
        rc = cluster_settle(all, NODES, NODES);
    for (uint32_t i = 0; i < NODES; i++)
        cluster_load_stop(&h->load[i]);
    if (rc == 0)
        rows(run, h, harm);
    else
        fprintf(stderr, "yolk bench: %s: %s\n", harm_name[harm], yk_strerror(rc));
    return rc;
}

static int nodes_start(struct yk_bench_run *run, struct hurt *h) {
    struct cluster_node *all[NODES] = {&h->node[0], &h->node[1], &h->node[2]};
    int rc = 0;
    for (uint32_t i = 0; i < NODES && rc == 0; i++) {
        rc = cluster_node_begin(all[i]);
        if (rc == 0)
            rc = cluster_node_ready(all[i]);
    }
    for (unsigned harm = 0; harm < HARMS; harm++)
        for (uint32_t i = 0; i < NODES && rc == 0 && wants(run, harm); i++)
            rc = cluster_fill(all[i]->url[0], first_of(h, harm, i), h->set, BYTES, NULL);
    return rc == 0 ? cluster_settle(all, NODES, NODES) : rc;
}

int cluster_meta(struct yk_bench_run *run, const struct cluster_place *place) {
    static struct hurt h;
    unsigned wanted = 0;
    for (unsigned harm = 0; harm < HARMS; harm++)
        wanted += wants(run, harm) != 0;
    if (wanted == 0)
        return 0;
    h = (struct hurt){.per_s = run->opts->quick ? 50 : 200, .set = run->opts->quick ? 2000 : 12000};
    int rc = cluster_etcd_start(&h.etcd, place, CLUSTER_ETCDS);
    struct cluster_node_opts o = {.etcd = h.etcd.urls, .dram_bytes = {384 * MIB}};
    for (uint32_t i = 0; i < NODES && rc == 0; i++) {
        char name[16];
        snprintf(name, sizeof(name), "meta%u", i);
        rc = cluster_node_spawn(&h.node[i], place, name, &o);
    }
    if (rc == 0)
        rc = nodes_start(run, &h);
    for (unsigned harm = 0; harm < HARMS && rc == 0; harm++)
        if (wants(run, harm))
            rc = harm_run(run, &h, harm);
    for (uint32_t i = 0; i < NODES; i++)
        cluster_node_stop(&h.node[i]);
    cluster_etcd_stop(&h.etcd);
    return cluster_skipped(run, "etcd", rc);
}
