/* SPDX-License-Identifier: Apache-2.0
 *
 * 32 nodes on this machine, small ones: that they start, that ten of them may be killed, one after the other and at
 * random, and what a node costs while nothing happens. With --quick there are four, and one is killed.
 *
 * Then blocks come, MORE to each node, and as many again: what the directories of all nodes say and keep for each of
 * them must not grow with their number. The balancer goes on filling the nodes meanwhile, in bursts, and each slot that
 * moves is asked for at all nodes: how many did is printed beside, since it is in the bytes.
 *
 * After each kill the survivors have to own all slots, whole; in the end every block of a survivor is read through
 * another one.
 *
 * Threads: the caller's.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#define NODES   32u
#define KILLS   10u
#define AT_ONCE 4u  /* start: all at once would leave no core for etcd, which each of them waits for */
#define BLOCKS  64u /* of each node */
#define BYTES   4096u
#define REST_MS 3000u
#define MORE       1000u
#define MORE_FIRST (UINT64_C(1) << 40)
#define MORE_BYTES 64u
#define TOLD_NS    (60 * YK_NS_PER_S)

struct crowd {
    struct cluster_etcd etcd;
    struct cluster_node node[NODES];
    struct cluster_node *alive[NODES];
    uint32_t count;
};

static int start(struct crowd *c) {
    int rc = cluster_node_begin(c->alive[0]);
    if (rc == 0)
        rc = cluster_node_ready(c->alive[0]); /* who finds an empty etcd waits for others; one does it alone */
    for (uint32_t first = 1; first < c->count && rc == 0; first += AT_ONCE) {
        for (uint32_t i = first; i < first + AT_ONCE && i < c->count && rc == 0; i++)
            rc = cluster_node_begin(c->alive[i]);
        for (uint32_t i = first; i < first + AT_ONCE && i < c->count && rc == 0; i++)
            rc = cluster_node_ready(c->alive[i]);
    }
    for (uint32_t i = 0; i < c->count && rc == 0; i++)
        rc = cluster_fill(c->alive[i]->url[0], (uint64_t)(c->alive[i] - c->node) * BLOCKS, BLOCKS, BYTES, NULL);
    return rc == 0 ? cluster_settle(c->alive, c->count, c->count) : rc;
}

/* Sums over all: bytes that directories have sent, and memory beside the tiers. */
static int sums(struct crowd *c, uint64_t *ret_sent, uint64_t *ret_memory) {
    *ret_sent = *ret_memory = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        int rc = cluster_node_ask(c->alive[i]);
        if (rc < 0)
            return rc;
        *ret_sent += c->alive[i]->told.dir.peers.bytes_out;
        *ret_memory += c->alive[i]->told.rss_bytes;
    }
    return 0;
}

static int at_rest(struct yk_bench_run *run, struct crowd *c) {
    uint64_t before, after, memory, begin = yk_now_ns();
    int rc = sums(c, &before, &memory);
    cluster_pause_ms(run->opts->quick ? REST_MS / 2 : REST_MS);
    if (rc == 0)
        rc = sums(c, &after, &memory);
    double s = (double)(yk_now_ns() - begin) / 1e9;
    if (rc < 0)
        return rc;
    cluster_row(run, "32 nodes memory of one", "B", (double)memory / c->count, NAN);
    cluster_row(run, "32 nodes control traffic of one", "B/s", (double)(after - before) / s / c->count, NAN);
    return 0;
}

/* Until every node says that its blocks are published, and what it says is not of before. */
static int until_told(struct crowd *c, uint64_t blocks) {
    uint64_t until = yk_now_ns() + TOLD_NS;
    for (uint32_t i = 0; i < c->count;) {
        int rc = cluster_node_ask(c->alive[i]);
        if (rc < 0 || yk_now_ns() > until)
            return rc < 0 ? rc : -YK_ETIMEDOUT;
        const struct yk_dir_core_counts *n = &c->alive[i]->told.dir.core;
        if (n->held >= blocks && n->unpublished == 0)
            i++;
        else
            cluster_pause_ms(20);
    }
    cluster_pause_ms(1100); /* answers of others may be newer than what they say of themselves */
    return 0;
}

/* What MORE blocks at each node cost: bytes sent and kept for one of them; slots that got another owner meanwhile. */
struct more {
    double sent, kept;
    uint64_t moved;
};

static void owned_now(const struct crowd *c, uint64_t owned[NODES]) {
    for (uint32_t i = 0; i < c->count; i++)
        owned[i] = c->alive[i]->told.dir.core.slots_owned;
}

/* After `had` of them. */
static int more_blocks(struct crowd *c, uint64_t had, struct more *ret) {
    uint64_t sent[2] = {0}, memory[2] = {0}, before[NODES] = {0}, now[NODES] = {0};
    int rc = sums(c, &sent[0], &memory[0]);
    owned_now(c, before);
    for (uint32_t i = 0; i < c->count && rc == 0; i++)
        rc = cluster_fill(c->alive[i]->url[0], MORE_FIRST + (had * NODES) + (uint64_t)i * MORE, MORE, MORE_BYTES, NULL);
    if (rc == 0)
        rc = until_told(c, BLOCKS + had + MORE);
    if (rc == 0)
        rc = sums(c, &sent[1], &memory[1]);
    owned_now(c, now);
    ret->sent = (double)(sent[1] - sent[0]) / ((double)MORE * c->count);
    ret->kept = (double)((int64_t)(memory[1] - memory[0])) / ((double)MORE * c->count);
    ret->moved = 0;
    for (uint32_t i = 0; i < c->count; i++)
        ret->moved += now[i] > before[i] ? now[i] - before[i] : 0;
    return rc;
}

static int linear(struct yk_bench_run *run, struct crowd *c) {
    struct more first, second;
    int rc = more_blocks(c, 0, &first);
    if (rc == 0)
        rc = more_blocks(c, MORE, &second);
    if (rc < 0)
        return rc;
    cluster_row(run, "base 32 nodes control bytes a block", "B", first.sent, NAN);
    cluster_row(run, "base 32 nodes slots that moved", "1", (double)first.moved, NAN);
    cluster_row(run, "32 nodes control bytes a block of twice as many", "B", second.sent, first.sent);
    cluster_row(run, "base 32 nodes slots that moved of twice as many", "1", (double)second.moved, NAN);
    cluster_row(run, "base 32 nodes memory a block", "B", first.kept, NAN);
    cluster_row(run, "32 nodes memory a block of twice as many", "B", second.kept, first.kept);
    return 0;
}

static int kill_some(struct crowd *c, uint32_t kills, uint64_t *random) {
    int rc = 0;
    for (uint32_t k = 0; k < kills && rc == 0; k++) {
        uint32_t i = (uint32_t)yk_random_below(random, c->count);
        cluster_node_kill(c->alive[i]);
        c->alive[i] = c->alive[--c->count];
        rc = cluster_settle(c->alive, c->count, c->count);
    }
    return rc;
}

/* Blocks of survivors that the next survivor does not get. */
static uint64_t unreadable(struct crowd *c) {
    static struct cluster_load load;
    uint64_t failed = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        load = (struct cluster_load){.first = (uint64_t)(c->alive[i] - c->node) * BLOCKS,
                                     .keys = BLOCKS,
                                     .bytes = BYTES,
                                     .per_s = 1000000};
        snprintf(load.url, sizeof(load.url), "%s", c->alive[(i + 1) % c->count]->url[0]);
        if (cluster_load_start(&load) < 0)
            return BLOCKS;
        pthread_join(load.thread, NULL);
        failed += load.failed + (BLOCKS - load.done);
    }
    return failed;
}

static int case_run(struct yk_bench_run *run, struct crowd *c) {
    uint64_t begin = yk_now_ns(), random = run->seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    uint32_t kills = run->opts->quick ? 1 : KILLS;
    int rc = start(c);
    if (rc < 0)
        return rc;
    cluster_row(run, "32 nodes start", "s", (double)(yk_now_ns() - begin) / 1e9, NAN);
    rc = at_rest(run, c);
    if (rc == 0)
        rc = linear(run, c);
    begin = yk_now_ns();
    if (rc == 0)
        rc = kill_some(c, kills, &random);
    if (rc < 0)
        return rc;
    cluster_row(run, "32 nodes kills survived", "1", kills, NAN);
    cluster_row(run, "32 nodes slots whole after a kill", "s", (double)(yk_now_ns() - begin) / 1e9 / kills, NAN);
    cluster_row(run, "32 nodes unreadable blocks", "1", (double)unreadable(c), NAN);
    return 0;
}

int cluster_crowd(struct yk_bench_run *run, const struct cluster_place *place) {
    static struct crowd c;
    static const char *const names[] = {"32 nodes start", "32 nodes memory of one", "32 nodes control traffic of one",
                                        "32 nodes control bytes a block of twice as many",
                                        "32 nodes memory a block of twice as many", "32 nodes kills survived", "32 nodes slots whole after a kill",
                                        "32 nodes unreadable blocks", NULL};
    if (!yk_bench_wants(&run->report, names))
        return 0;
    c = (struct crowd){0};
    int rc = cluster_etcd_start(&c.etcd, place, 1);
    struct cluster_node_opts o = {.etcd = c.etcd.urls, .dram_bytes = {16 * MIB}, .max_blocks = 4096};
    for (uint32_t i = 0; i < (run->opts->quick ? 4 : NODES) && rc == 0; i++) {
        char name[16];
        snprintf(name, sizeof(name), "crowd%u", i);
        rc = cluster_node_spawn(&c.node[i], place, name, &o);
        c.alive[c.count++] = &c.node[i];
    }
    if (rc == 0)
        rc = case_run(run, &c);
    for (uint32_t i = 0; i < NODES; i++)
        cluster_node_stop(&c.node[i]);
    cluster_etcd_stop(&c.etcd);
    return cluster_skipped(run, "32 nodes", rc);
}
