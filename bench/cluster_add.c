/* SPDX-License-Identifier: Apache-2.0
 *
 * A node comes to two under a load of reads: what it costs those who read, and where the slots are in the end.
 *
 * The balancer fills an empty node over minutes, by design (src/dir/balance.h); the case ends when slots are within
 * 5 % of their mean, or after LIMIT_NS. With --quick it ends with the first slot that the new node owns.
 *
 * Threads: the caller's, and two of the load.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#include <math.h>

#define NODES    3u
#define BYTES    4096u
#define SLACK    0.05
#define LIMIT_NS (240 * YK_NS_PER_S)

struct added {
    struct cluster_etcd etcd;
    struct cluster_node node[NODES];
    struct cluster_load load[2];
    uint64_t set;
    double spread, balanced_s;
};

static int start(struct added *a, uint32_t i) {
    int rc = cluster_node_begin(&a->node[i]);
    return rc == 0 ? cluster_node_ready(&a->node[i]) : rc;
}

/* Of slots, from their mean. */
static double spread_of(struct added *a, int *io_rc) {
    double mean = (double)YK_DIR_SLOTS / NODES, most = 0;
    for (uint32_t i = 0; i < NODES && *io_rc == 0; i++) {
        *io_rc = cluster_node_ask(&a->node[i]);
        double off = fabs((double)a->node[i].told.dir.core.slots_owned - mean) / mean;
        most = off > most ? off : most;
    }
    return most;
}

static int until_balanced(struct added *a, int quick) {
    uint64_t begin = yk_now_ns();
    int rc = 0;
    do {
        cluster_pause_ms(200);
        a->spread = spread_of(a, &rc);
        a->balanced_s = (double)(yk_now_ns() - begin) / 1e9;
        if (rc == 0 && quick && a->node[NODES - 1].told.dir.core.slots_owned > 0)
            return 0;
    } while (rc == 0 && a->spread > SLACK && yk_now_ns() - begin < LIMIT_NS);
    return rc;
}

static double p99_s(const struct added *a, int phase) {
    static struct yk_hist both;
    yk_hist_reset(&both);
    for (int i = 0; i < 2; i++)
        yk_hist_merge(&both, &a->load[i].hist[phase]);
    return (double)yk_hist_percentile(&both, 99) / 1e9;
}

static int case_run(struct yk_bench_run *run, struct added *a) {
    struct cluster_node *two[2] = {&a->node[0], &a->node[1]};
    uint32_t per_s = run->opts->quick ? 50 : 100;
    a->set = run->opts->quick ? 3000 : 26000;
    int rc = start(a, 0);
    rc = rc == 0 ? start(a, 1) : rc;
    for (uint32_t i = 0; i < 2 && rc == 0; i++)
        rc = cluster_fill(a->node[i].url[0], i * a->set, a->set, BYTES, NULL);
    if (rc == 0)
        rc = cluster_settle(two, 2, 2);
    for (uint32_t i = 0; i < 2 && rc == 0; i++) {
        a->load[i] =
            (struct cluster_load){.first = (1 - i) * a->set, .keys = a->set, .bytes = BYTES, .per_s = per_s};
        snprintf(a->load[i].url, sizeof(a->load[i].url), "%s", a->node[i].url[0]);
        rc = cluster_load_start(&a->load[i]);
    }
    cluster_pause_ms(run->opts->quick ? 1000 : 8000);
    for (uint32_t i = 0; i < 2; i++)
        cluster_load_mark(&a->load[i]);
    if (rc == 0)
        rc = start(a, 2);
    if (rc == 0)
        rc = until_balanced(a, run->opts->quick);
    for (uint32_t i = 0; i < 2; i++)
        cluster_load_stop(&a->load[i]);
    if (rc < 0)
        return rc;
    cluster_row(run, "base node added p99 before", "s", p99_s(a, 0), NAN);
    cluster_row(run, "node added p99", "s", p99_s(a, 1), p99_s(a, 0));
    cluster_row(run, "node added off balance", "fraction", a->spread, SLACK);
    cluster_row(run, "node added time", "s", a->balanced_s, NAN);
    cluster_row(run, "node added failed gets", "1", (double)(a->load[0].failed + a->load[1].failed), NAN);
    return 0;
}

int cluster_add(struct yk_bench_run *run, const struct cluster_place *place) {
    static struct added a;
    static const char *const names[] = {"node added p99", "node added off balance", "node added time",
                                        "node added failed gets", NULL};
    if (!yk_bench_wants(&run->report, names))
        return 0;
    a = (struct added){0};
    int rc = cluster_etcd_start(&a.etcd, place, 1);
    struct cluster_node_opts o = {.etcd = a.etcd.urls, .dram_bytes = {512 * MIB}};
    for (uint32_t i = 0; i < NODES && rc == 0; i++) {
        char name[16];
        snprintf(name, sizeof(name), "add%u", i);
        rc = cluster_node_spawn(&a.node[i], place, name, &o);
    }
    if (rc == 0)
        rc = case_run(run, &a);
    for (uint32_t i = 0; i < NODES; i++)
        cluster_node_stop(&a.node[i]);
    cluster_etcd_stop(&a.etcd);
    return cluster_skipped(run, "node added", rc);
}
