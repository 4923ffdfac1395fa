/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of 1 MiB that are on another node, over TCP on loopback, beside the transfer engine alone. Two nodes of one
 * process, which speak TCP only, as if they were on different hosts.
 *
 *   get, put             one hop: a client without a node of its own asks the node that has the block, and its engine
 *                        reads it from that node's memory into the client's buffer, or writes it there (record 0011)
 *   get through a node   a client maps the memory of the second node and asks it for blocks that the first one has:
 *                        they are looked up, come into the second node's memory, and are copied into the client's
 *                        buffer. They are asked for in turn, and are many times what the second node holds, so that
 *                        nearly each has to come again: a row says which part did.
 *
 * Everything that crosses the network is verified, which the engine alone does not do.
 *
 * Limits: the engine between two processes, 16 requests a batch and two batches under way; for one at a time a bare
 * ping-pong and one request of the engine together.
 *
 * Threads: the caller's; those of the engines.
 */
#include "bench/cluster_priv.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SET        1024u /* blocks that are got in turn */
#define SET_QUICK  192u
#define SMALL      96u /* MiB of the second node: what is under way, and few of them */
#define DEEP       32u  /* operations under way */
#define ROUND      128u /* blocks of a round */
#define PUT_FIRST  (UINT64_C(1) << 40)
#define WAIT_MS    30000u
#define COME_TRIES 1000u

struct side {
    yk_client *c;
    unsigned char *memory; /* DEEP blocks */
    uint64_t set, next;    /* gets: in turn; puts: new ones */
    int puts;
    yk_op ops[DEEP];
    struct iovec iov[DEEP];
    char keys[DEEP][YK_RIG_KEY_BYTES];
};

/* ---- operations --------------------------------------------------------------------------------------- */

static void prepare(struct side *s, uint32_t i) {
    yk_rig_key(s->puts ? PUT_FIRST + s->next++ : s->next++ % s->set, s->keys[i]);
    s->iov[i] = (struct iovec){s->memory + i * MIB, MIB};
    s->ops[i] = (yk_op){.opcode = s->puts ? YK_OP_PUT : YK_OP_GET,
                        .key = {s->keys[i], YK_RIG_KEY_BYTES},
                        .iov = &s->iov[i],
                        .iov_count = 1,
                        .user = (void *)(uintptr_t)i};
}

/* n operations, DEEP of them under way: each that has ended makes room for the next. */
static int pipelined(struct yk_series *series, uint64_t at, uint64_t n) {
    struct side *s = series->arg;
    yk_op *ended[DEEP];
    uint64_t begun = 0, over = 0;
    int rc = 0;
    (void)at;
    for (; begun < n && begun < DEEP && rc == 0; begun += rc == 0) {
        prepare(s, (uint32_t)begun);
        rc = yk_submit(s->c, &s->ops[begun], 1, WAIT_MS);
    }
    while (over < begun) {
        int got = yk_poll(s->c, ended, DEEP, WAIT_MS);
        if (got <= 0)
            return yk_rig_failed(s->c, "poll", got < 0 ? got : -YK_ETIMEDOUT);
        over += (uint64_t)got;
        for (int i = 0; i < got; i++) {
            uint32_t k = (uint32_t)(uintptr_t)ended[i]->user;
            if (rc == 0 && ended[i]->status != 0)
                rc = ended[i]->status;
            if (rc != 0 || begun == n)
                continue;
            prepare(s, k);
            rc = yk_submit(s->c, &s->ops[k], 1, WAIT_MS);
            begun += rc == 0;
        }
    }
    return rc == 0 ? 0 : yk_rig_failed(s->c, s->puts ? "put" : "get", rc < 0 ? rc : -YK_EGONE);
}

static int one(void *arg, uint64_t i) {
    struct side *s = arg;
    size_t len;
    (void)i;
    prepare(s, 0);
    int rc = s->puts ? yk_put(s->c, s->ops[0].key, s->memory, MIB, NULL)
                     : yk_get(s->c, s->ops[0].key, s->memory, MIB, &len);
    return rc == 0 ? 0 : yk_rig_failed(s->c, s->puts ? "put" : "get", rc < 0 ? rc : -YK_EGONE);
}

/* ---- cases -------------------------------------------------------------------------------------------- */

struct copy {
    struct cluster_node nodes;
    struct xfer_target target;
    struct xfer_side engine;
    struct xfer_plain plain;
    struct side side;
    struct yk_series ping, stream, alone, deep, single;
};

/* Blocks that have come to the second node so far. What a node says is at most a second old. */
static int pulled(struct copy *c, uint64_t *ret) {
    cluster_pause_ms(1100);
    int rc = cluster_node_ask(&c->nodes);
    *ret = c->nodes.told.dir.pulled;
    return rc;
}

enum kind { GET, PUT, THROUGH };
static const char *const what[] = {"get 1MiB", "put 1MiB", "get 1MiB through a node"};

static int measure(struct yk_bench_run *run, struct copy *c, enum kind kind) {
    int puts = kind == PUT;
    char name[64];
    struct yk_series *all[] = {&c->ping, &c->stream, &c->alone, &c->deep, &c->single};
    struct xfer_load load = {.side = &c->engine,
                             .op = puts ? YK_XFER_WRITE : YK_XFER_READ,
                             .xclass = YK_XFER_DEMAND,
                             .bytes = MIB,
                             .batch = 16,
                             .deep = 2,
                             .threads = 1};
    uint32_t round = run->opts->quick ? 16 : ROUND;
    c->side.puts = puts;
    c->ping = (struct yk_series){.op = xfer_plain_ping, .arg = &c->plain, .per_round = round, .weight = 1};
    c->stream = (struct yk_series){
        .many = xfer_load_many, .arg = &load, .per_round = round, .weight = MIB, .node = c->target.pid};
    c->alone = (struct yk_series){.op = xfer_load_one, .arg = &load, .per_round = round, .weight = MIB};
    c->deep = (struct yk_series){
        .many = pipelined, .arg = &c->side, .per_round = round, .weight = MIB, .node = c->nodes.pid};
    c->single = (struct yk_series){
        .op = one, .arg = &c->side, .per_round = round, .weight = MIB, .node = c->nodes.pid};
    int rc = yk_measure(all, 5, 2 * run->seconds);
    if (rc < 0)
        return rc;
    double limit = (double)(yk_hist_percentile(&c->ping.hist, 50) + yk_hist_percentile(&c->alone.hist, 50)) / 1e9;
    if (kind != THROUGH) {
        snprintf(name, sizeof(name), "base engine tcp 1MiB%s", puts ? " write" : "");
        yk_series_row(&run->report, name, "B/s", &c->stream, NULL);
        xfer_cpu_row(run, name + 5, &c->stream);
        snprintf(name, sizeof(name), "base engine tcp 1MiB%s single", puts ? " write" : "");
        cluster_row_p50(run, name, &c->alone.hist, NAN);
    }
    snprintf(name, sizeof(name), "%s pipelined", what[kind]);
    yk_series_row(&run->report, name, "B/s", &c->deep, &c->stream);
    xfer_cpu_row(run, name, &c->deep);
    snprintf(name, sizeof(name), "%s single", what[kind]);
    cluster_row_p50(run, name, &c->single.hist, limit);
    xfer_cpu_row(run, name, &c->single);
    return 0;
}

/* Every block is there for who asks the second node, and all of that one's memory has been touched. What was just put
 * is told to its owner a little later. */
static int come_once(struct copy *c) {
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < c->side.set; i++) {
        char key[YK_RIG_KEY_BYTES];
        size_t len;
        int got = YK_MISS;
        yk_rig_key(i, key);
        for (uint32_t k = 0; k < COME_TRIES && got == YK_MISS; k++) {
            if (k > 0)
                cluster_pause_ms(10);
            got = yk_get(c->side.c, (yk_key){key, sizeof(key)}, c->side.memory, MIB, &len);
        }
        rc = got == 0 ? 0 : yk_rig_failed(c->side.c, "get", got < 0 ? got : -YK_EGONE);
    }
    return rc;
}

static int kind_run(struct yk_bench_run *run, struct copy *c, enum kind kind) {
    static struct yk_series warm;
    uint64_t before = 0, after = 0;
    warm = (struct yk_series){.arg = &c->side};
    c->side.puts = kind == PUT;
    int rc = kind == THROUGH ? yk_rig_connect(c->nodes.url[1], 0, &c->side.c)
                             : yk_rig_connect(c->nodes.far_url, YK_OPEN_NO_MAP, &c->side.c);
    if (rc == 0 && kind == THROUGH)
        rc = come_once(c);
    if (rc == 0)
        rc = pipelined(&warm, 0, (kind == PUT ? 2 : 1) * c->side.set); /* puts: all of the memory is touched */
    if (rc == 0 && kind == THROUGH)
        rc = pulled(c, &before);
    if (rc == 0)
        rc = measure(run, c, kind);
    if (rc == 0 && kind == THROUGH)
        rc = pulled(c, &after);
    if (rc == 0 && kind == THROUGH)
        cluster_row(run, "base get 1MiB part from elsewhere", "fraction",
                    (double)(after - before) / (double)(c->deep.ops + c->single.ops), NAN);
    yk_close(c->side.c);
    c->side.c = NULL;
    return rc;
}

static int copy_open(struct yk_bench_run *run, const struct cluster_place *place, struct copy *c) {
    uint64_t set = run->opts->quick ? SET_QUICK : SET;
    struct cluster_node_opts o = {
        .together = 2, .over_tcp = 1, .dram_bytes = {(set + 64) * MIB * 9 / 8, SMALL * MIB}};
    yk_xfer_opts to = {
        .size = sizeof(to), .transports = YK_XFER_TCP, .shm_dir = "", .listen = "127.0.0.1:0"};
    c->side.memory = yk_bench_buffer(DEEP * MIB);
    int rc = c->side.memory == NULL ? -YK_ENOMEM : cluster_node_spawn(&c->nodes, place, "copy", &o);
    if (rc == 0)
        rc = xfer_target_start(&c->target, &to, 0);
    if (rc == 0)
        rc = xfer_plain_open(&c->plain, 64, 0, 0);
    if (rc == 0)
        rc = cluster_node_begin(&c->nodes);
    if (rc == 0)
        rc = cluster_node_ready(&c->nodes);
    to.listen = NULL;
    return rc == 0 ? xfer_side_open(&c->engine, &to, c->target.where) : rc;
}

static int wants(const struct yk_bench_run *run, enum kind kind) {
    char pipelined_name[64], single_name[64];
    snprintf(pipelined_name, sizeof(pipelined_name), "%s pipelined", what[kind]);
    snprintf(single_name, sizeof(single_name), "%s single", what[kind]);
    return yk_bench_wants(&run->report, (const char *const[]){pipelined_name, single_name, NULL});
}

int cluster_copy(struct yk_bench_run *run, const struct cluster_place *place) {
    static struct copy c;
    static const enum kind order[] = {GET, THROUGH, PUT}; /* puts drive the others' blocks out */
    if (!wants(run, GET) && !wants(run, PUT) && !wants(run, THROUGH))
        return 0;
    c = (struct copy){.nodes.fd = -1, .target.life_fd = -1, .plain.fd = -1};
    c.side.set = run->opts->quick ? SET_QUICK : SET;
    int rc = copy_open(run, place, &c);
    if (rc == 0)
        rc = cluster_fill(c.nodes.url[0], 0, c.side.set, MIB, NULL);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]) && rc == 0; i++)
        if (wants(run, order[i]))
            rc = kind_run(run, &c, order[i]);
    if (c.engine.engine != NULL)
        xfer_side_close(&c.engine);
    xfer_plain_close(&c.plain);
    xfer_target_stop(&c.target);
    cluster_node_stop(&c.nodes);
    if (c.side.memory != NULL)
        munmap(c.side.memory, DEEP * MIB);
    return rc;
}
