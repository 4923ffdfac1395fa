/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients that do not map the node's memory, over TCP on loopback: payload through the transfer engine,
 * and through the one connection ("socket"), each in turn with a plain send and recv loop of the same
 * block size as the limit of both. One block at a time, and 32 in a batch.
 *
 * The engine's cases move blocks of every size through it, below the limit that the library has
 * (YK_FAR_INLINE), too: where the two meet is where that limit belongs (record 0011).
 *
 * Thread: the caller's.
 */
#include "bench/store_priv.h"
#include "bench/xfer_priv.h"

#include "client/far.h"
#include "node/node.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIER_BYTES  (512 * MIB)
#define SET_BYTES   (96 * MIB) /* of blocks that are got in turn: beyond the caches */
#define ROUND_BYTES (32 * MIB)
#define BATCH       32u

static const struct {
    uint64_t bytes;
    const char *name;
} sizes[] = {{16 * KIB, "16KiB"}, {64 * KIB, "64KiB"}, {256 * KIB, "256KiB"},
             {512 * KIB, "512KiB"}, {MIB, "1MiB"}};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct side {
    yk_client *c;
    uint64_t bytes;
    uint64_t keys, first;  /* of the set, by number */
    uint64_t *next;        /* number of the next key that is put */
    unsigned char *memory; /* BATCH blocks */
    uint32_t batch;
    int puts;
};

/* ---- operations ------------------------------------------------------------------------------------- */

static int one(void *arg, uint64_t i) {
    struct side *s = arg;
    char key[YK_RIG_KEY_BYTES];
    size_t n;
    yk_rig_key(s->puts ? (*s->next)++ : s->first + i % s->keys, key);
    yk_key k = {key, sizeof(key)};
    int rc = s->puts ? yk_put(s->c, k, s->memory, s->bytes, NULL)
                     : yk_get(s->c, k, s->memory, s->bytes, &n);
    return rc == 0 ? 0 : yk_rig_failed(s->c, s->puts ? "put" : "get", rc);
}

static int many(void *arg, uint64_t i) {
    struct side *s = arg;
    static yk_op ops[BATCH];
    static struct iovec iov[BATCH];
    static char keys[BATCH][YK_RIG_KEY_BYTES];
    for (uint32_t k = 0; k < s->batch; k++) {
        yk_rig_key(s->puts ? (*s->next)++ : s->first + (i * s->batch + k) % s->keys, keys[k]);
        iov[k] = (struct iovec){s->memory + k * s->bytes, s->bytes};
        ops[k] = (yk_op){.opcode = s->puts ? YK_OP_PUT : YK_OP_GET,
                         .key = {keys[k], YK_RIG_KEY_BYTES},
                         .iov = &iov[k],
                         .iov_count = 1};
    }
    int rc = yk_run(s->c, ops, s->batch, 0);
    return rc == (int)s->batch ? 0 : yk_rig_failed(s->c, "batch", rc < 0 ? rc : ops[0].status);
}

/* ---- the node --------------------------------------------------------------------------------------- */

struct place {
    struct yk_own own;
    char url[48];
    unsigned port;
};

static void tune(void *arg, struct yk_node_opts *o) {
    const struct place *p = arg;
    o->listen[1].kind = YK_ADDR_TCP;
    snprintf(o->listen[1].host, sizeof(o->listen[1].host), "127.0.0.1");
    o->listen[1].port = (uint16_t)p->port;
    o->listen_count = 2;
    o->transfer = "auto";
}

static unsigned free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        a.sin_port = 0;
    if (fd >= 0)
        close(fd);
    return ntohs(a.sin_port);
}

static int place_open(struct place *p, uint64_t bytes) {
    struct yk_err err = {0};
    struct yk_own_opts oo = {.dram_bytes = bytes, .reserve_percent = 5, .tune = tune, .arg = p};
    p->port = free_port();
    snprintf(p->url, sizeof(p->url), "tcp:127.0.0.1:%u", p->port);
    int rc = yk_own_start(&oo, &p->own, &err);
    if (rc < 0)
        fprintf(stderr, "yolk bench: %s\n", err.text);
    return rc;
}

/* ---- cases ------------------------------------------------------------------------------------------ */

struct pair {
    struct yk_series plain, engine, socket;
    struct side engine_side, socket_side;
};

static void series_init(struct yk_series *s, struct side *side, pid_t node) {
    memset(s, 0, sizeof(*s));
    uint64_t weight = side->bytes * side->batch;
    *s = (struct yk_series){.op = side->batch > 1 ? many : one,
                            .arg = side,
                            .per_round =
                                (uint32_t)(ROUND_BYTES / weight > 0 ? ROUND_BYTES / weight : 1),
                            .weight = (double)weight,
                            .node = node};
}

static int measure_pair(struct yk_bench_run *run, struct pair *p, struct side *of, yk_client *c[2],
                        pid_t node, const char *name) {
    char text[64];
    struct xfer_plain plain;
    int rc = xfer_plain_open(&plain, of->bytes, of->puts, 0);
    if (rc < 0)
        return rc;
    memset(&p->plain, 0, sizeof(p->plain));
    p->plain = (struct yk_series){.many = xfer_plain_many,
                                  .arg = &plain,
                                  .node = plain.pid,
                                  .per_round = (uint32_t)(ROUND_BYTES / of->bytes),
                                  .weight = (double)of->bytes};
    p->engine_side = p->socket_side = *of;
    p->engine_side.c = c[0];
    p->socket_side.c = c[1];
    series_init(&p->engine, &p->engine_side, node);
    series_init(&p->socket, &p->socket_side, node);
    struct yk_series *all[] = {&p->plain, &p->engine, &p->socket};
    rc = yk_measure(all, 3, run->seconds);
    xfer_plain_close(&plain);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, name, "B/s", &p->engine, &p->plain);
    snprintf(text, sizeof(text), "%s socket", name);
    yk_series_row(&run->report, text, "B/s", &p->socket, &p->plain);
    return 0;
}

/* Blocks of one size are put, then got in turn; then others are put. */
static int size_cases(struct yk_bench_run *run, yk_client *c[2], pid_t node, struct side *s,
                      const char *size) {
    static struct pair p;
    char name[48];
    const char *names[] = {name, NULL};
    int rc = 0;
    s->first = *s->next;
    s->keys = SET_BYTES / s->bytes;
    s->c = c[1];
    s->puts = 1;
    s->batch = BATCH;
    for (uint64_t i = 0; i < s->keys / BATCH && rc == 0; i++)
        rc = many(s, i);
    for (int k = 0; k < 4 && rc == 0; k++) {
        s->puts = k / 2;
        s->batch = k % 2 ? BATCH : 1;
        snprintf(name, sizeof(name), "far %s %s%s", s->puts ? "put" : "get", size,
                 s->batch > 1 ? " batched" : "");
        if (yk_bench_wants(&run->report, names))
            rc = measure_pair(run, &p, s, c, node, name);
    }
    return rc;
}

/* All of the tier is written once: no put that is measured meets memory that the kernel has to make. */
static int fill_tier(yk_client *c, struct side *s, uint64_t bytes) {
    int rc = 0;
    s->c = c;
    s->puts = 1;
    s->batch = BATCH;
    s->bytes = MIB;
    for (uint64_t i = 0; i < bytes / MIB / BATCH + 1 && rc == 0; i++)
        rc = many(s, i);
    return rc;
}

static int wanted(const struct yk_bench_run *run) {
    char name[48];
    const char *names[] = {name, NULL};
    for (size_t i = 0; i < 4 * SIZES; i++) {
        snprintf(name, sizeof(name), "far %s %s%s", i & 1 ? "put" : "get", sizes[i / 4].name,
                 i & 2 ? " batched" : "");
        if (yk_bench_wants(&run->report, names))
            return 1;
    }
    return 0;
}

int yk_store_far(struct yk_bench_run *run) {
    static struct place place;
    yk_client *c[2] = {NULL, NULL};
    uint64_t next = UINT64_C(1) << 61;
    struct side side = {.next = &next};
    if (!wanted(run))
        return 0;
    side.memory = yk_bench_buffer(BATCH * MIB);
    uint64_t bytes = yk_rig_memory(TIER_BYTES);
    int rc = side.memory == NULL ? -YK_ENOMEM : place_open(&place, bytes);
    if (rc == 0)
        rc = yk_rig_connect(place.url, YK_OPEN_NO_MAP, &c[0]);
    if (rc == 0)
        rc = yk_rig_connect(place.url, YK_OPEN_NO_MAP | YK_OPEN_NO_XFER, &c[1]);
    if (rc == 0)
        rc = fill_tier(c[1], &side, bytes);
    if (rc == 0)
        yk_far_set_inline(c[0], 0);
    for (size_t i = 0; i < SIZES && rc == 0; i++) {
        side.bytes = sizes[i].bytes;
        rc = size_cases(run, c, place.own.kept.pid, &side, sizes[i].name);
    }
    yk_close(c[0]);
    yk_close(c[1]);
    yk_own_stop(&place.own, NULL);
    if (side.memory != NULL)
        munmap(side.memory, BATCH * MIB);
    return rc;
}
