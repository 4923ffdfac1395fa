/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench peers`: the store beside what else a host could keep blocks in, in the same run.
 *
 * Redis: Debian's redis-server on a unix socket in a folder of its own, nothing persistent, one
 * client with one request at a time (batched: as many keys in one EXISTS as yolk has in one match).
 * Its client is ours (bench/resp.h) and receives into the caller's buffer. The value of a case is
 * Yolk's, its limit Redis's: the ratio says how many times faster.
 *
 * Threads: the caller's.
 */
#include "bench/resp.h"
#include "bench/rig.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB           (1ull << 20)
#define SMALL_BYTES   (16u << 10)
#define LARGE_KEYS    128u
#define SMALL_KEYS    4096u
#define BATCH_KEYS    256u
#define SECONDS       1.5
#define SECONDS_QUICK 0.02
#define DEFAULT_RUN_S 12.0
#define START_MS      10000

struct redis {
    pid_t pid;
    char dir[40], sock[64];
    struct yk_resp conn;
};

struct peers {
    struct yk_rig rig;
    struct redis redis;
    struct yk_rig_keys large, small;
    unsigned char *payload, *buffer;
    uint64_t random;
    yk_key picked[BATCH_KEYS];
    char *command;
};

/* ---- the server ------------------------------------------------------------------------------- */

static void redis_exec(const struct redis *r) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (chdir(r->dir) < 0 || freopen("/dev/null", "w", stdout) == NULL ||
        freopen("/dev/null", "w", stderr) == NULL)
        _exit(126);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", r->sock, "--save", "",
           "--appendonly", "no", "--daemonize", "no", "--dir", r->dir, (char *)NULL);
    _exit(errno == ENOENT ? 127 : 126);
}

/* Ends it if it is still there; its exit code, or -1. */
static int redis_reap(struct redis *r, int options) {
    int status;
    pid_t pid;
    if (r->pid == 0)
        return -1;
    while ((pid = waitpid(r->pid, &status, options)) < 0 && errno == EINTR)
        continue;
    if (pid != r->pid)
        return -1;
    r->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void redis_stop(struct redis *r) {
    yk_resp_close(&r->conn);
    if (r->pid != 0) {
        kill(r->pid, SIGKILL); /* it keeps nothing */
        redis_reap(r, 0);
    }
    if (r->dir[0] == '\0')
        return;
    unlink(r->sock);
    rmdir(r->dir);
}

/* 0, YK_BENCH_NO_PEER, or a failure. */
static int redis_start(struct redis *r) {
    memset(r, 0, sizeof(*r));
    r->conn.fd = -1;
    strcpy(r->dir, "/tmp/yolk-redis-XXXXXX");
    if (mkdtemp(r->dir) == NULL) {
        r->dir[0] = '\0';
        return -YK_EIO;
    }
    snprintf(r->sock, sizeof(r->sock), "%s/sock", r->dir);
    r->pid = fork();
    if (r->pid == 0)
        redis_exec(r);
    if (r->pid < 0) {
        r->pid = 0;
        return -YK_EIO;
    }
    for (int ms = 0; ms < START_MS; ms++) {
        if (yk_resp_open(&r->conn, r->sock) == 0)
            return 0;
        int code = redis_reap(r, WNOHANG);
        if (code == 127) {
            fputs("yolk bench: redis-server is not installed (package redis-server)\n", stderr);
            return YK_BENCH_NO_PEER;
        }
        if (code >= 0)
            break;
        usleep(1000);
    }
    fputs("yolk bench: redis-server did not start\n", stderr);
    return -YK_EGONE;
}

/* ---- its operations --------------------------------------------------------------------------- */

static int redis_answer(struct peers *p, void *buf, size_t cap, int64_t want) {
    int64_t have;
    int rc = yk_resp_reply(&p->redis.conn, buf, cap, &have);
    if (rc == 0 && have != want)
        rc = -YK_EPROTO;
    if (rc < 0)
        fprintf(stderr, "yolk bench: redis: %s\n", yk_strerror(rc));
    return rc;
}

static int redis_set(struct peers *p, yk_key key, size_t len) {
    const char *words[] = {"SET", key.data};
    const size_t lens[] = {3, key.len};
    size_t n = yk_resp_command(p->command, words, lens, 2, len);
    int rc = yk_resp_send(&p->redis.conn, p->command, n);
    if (rc == 0)
        rc = yk_resp_send(&p->redis.conn, p->payload, len);
    if (rc == 0)
        rc = yk_resp_send(&p->redis.conn, "\r\n", 2);
    return rc < 0 ? rc : redis_answer(p, NULL, 0, 0);
}

static int redis_get(struct peers *p, yk_key key, size_t len) {
    const char *words[] = {"GET", key.data};
    const size_t lens[] = {3, key.len};
    size_t n = yk_resp_command(p->command, words, lens, 2, SIZE_MAX);
    int rc = yk_resp_send(&p->redis.conn, p->command, n);
    return rc < 0 ? rc : redis_answer(p, p->buffer, len, (int64_t)len);
}

static int redis_exists(struct peers *p, const yk_key *keys, size_t count) {
    const char *words[BATCH_KEYS + 1] = {"EXISTS"};
    size_t lens[BATCH_KEYS + 1] = {6};
    for (size_t i = 0; i < count; i++) {
        words[i + 1] = keys[i].data;
        lens[i + 1] = keys[i].len;
    }
    size_t n = yk_resp_command(p->command, words, lens, count + 1, SIZE_MAX);
    int rc = yk_resp_send(&p->redis.conn, p->command, n);
    return rc < 0 ? rc : redis_answer(p, NULL, 0, (int64_t)count);
}

/* ---- operations to measure ---------------------------------------------------------------------- */

static yk_key pick(struct peers *p, const struct yk_rig_keys *k) {
    return k->keys[yk_random_below(&p->random, k->n)];
}

static const yk_key *pick_many(struct peers *p) {
    for (size_t i = 0; i < BATCH_KEYS; i++)
        p->picked[i] = pick(p, &p->small);
    return p->picked;
}

static int ok(struct peers *p, const char *what, int have, int want) {
    return have == want ? 0 : yk_rig_failed(p->rig.client, what, have < 0 ? have : -YK_EINTERNAL);
}

static int yolk_get(struct peers *p, yk_key key, size_t cap) {
    size_t len;
    return ok(p, "get", yk_get(p->rig.client, key, p->buffer, cap, &len), 0);
}

static int yolk_ref(struct peers *p, yk_key key) {
    yk_ref ref;
    int rc = yk_ref_get(p->rig.client, key, &ref);
    if (rc == 0)
        yk_ref_release(p->rig.client, &ref);
    return ok(p, "reference", rc, 0);
}

/* Replaces a block, as SET does. */
static int yolk_put(struct peers *p, yk_key key, size_t len) {
    yk_put_opts po = {.size = sizeof(po), .flags = YK_PUT_UPSERT};
    p->payload[0]++; /* other bytes than those that are there */
    return ok(p, "put", yk_put(p->rig.client, key, p->payload, len, &po), 0);
}

#define OP(name, call)                                                                             \
    static int name(void *arg, uint64_t i) {                                                       \
        struct peers *p = arg;                                                                     \
        return call;                                                                               \
    }

OP(yolk_get_large, yolk_get(p, pick(p, &p->large), MIB))
OP(redis_get_large, redis_get(p, pick(p, &p->large), MIB))
OP(yolk_ref_large, yolk_ref(p, pick(p, &p->large)))
OP(yolk_put_large, yolk_put(p, pick(p, &p->large), MIB))
OP(redis_put_large, redis_set(p, pick(p, &p->large), MIB))
OP(yolk_get_small, yolk_get(p, pick(p, &p->small), SMALL_BYTES))
OP(redis_get_small, redis_get(p, pick(p, &p->small), SMALL_BYTES))
OP(yolk_put_small, yolk_put(p, pick(p, &p->small), SMALL_BYTES))
OP(redis_put_small, redis_set(p, pick(p, &p->small), SMALL_BYTES))
OP(yolk_exists_one, ok(p, "exists", yk_exists(p->rig.client, pick(p, &p->small)), 1))
OP(redis_exists_one, redis_exists(p, pick_many(p), 1))
OP(yolk_exists_many,
   ok(p, "match", yk_match(p->rig.client, pick_many(p), BATCH_KEYS, NULL), BATCH_KEYS))
OP(redis_exists_many, redis_exists(p, pick_many(p), BATCH_KEYS))

/* ---- cases ---------------------------------------------------------------------------------- */

struct peer_case {
    const char *name, *base; /* base NULL: the limit's row is another case's */
    int (*yolk)(void *arg, uint64_t i);
    int (*redis)(void *arg, uint64_t i);
    uint32_t per_round, per_round_redis, sample_every;
    double weight;
    const char *unit;
};

static const struct peer_case cases[] = {
    {"redis get 1MiB buffer", "base redis get 1MiB", yolk_get_large, redis_get_large, 32, 32, 1,
     (double)MIB, "B/s"},
    {"redis get 1MiB reference", NULL, yolk_ref_large, redis_get_large, 20000, 32, 4, (double)MIB,
     "B/s"},
    {"redis put 1MiB", "base redis put 1MiB", yolk_put_large, redis_put_large, 32, 32, 1,
     (double)MIB, "B/s"},
    {"redis get 16KiB buffer", "base redis get 16KiB", yolk_get_small, redis_get_small, 2000, 200,
     1, 1, "1/s"},
    {"redis put 16KiB", "base redis put 16KiB", yolk_put_small, redis_put_small, 200, 200, 1, 1,
     "1/s"},
    {"redis exists single", "base redis exists single", yolk_exists_one, redis_exists_one, 20000,
     500, 4, 1, "1/s"},
    {"redis exists batched", "base redis exists batched", yolk_exists_many, redis_exists_many, 200,
     20, 1, BATCH_KEYS, "1/s"},
};

static int run_case(struct yk_bench_run *run, struct peers *p, const struct peer_case *c) {
    static struct yk_series mine, theirs;
    struct yk_series *series[] = {&mine, &theirs};
    mine = (struct yk_series){.op = c->yolk,
                              .arg = p,
                              .per_round = c->per_round,
                              .sample_every = c->sample_every,
                              .weight = c->weight,
                              .node = p->rig.own.kept.pid};
    theirs = (struct yk_series){.op = c->redis,
                                .arg = p,
                                .per_round = c->per_round_redis,
                                .weight = c->weight,
                                .node = p->redis.pid};
    if (!yk_bench_wants(&run->report, (const char *const[]){c->name, NULL}))
        return 0;
    int rc = yk_measure(series, 2, run->seconds);
    if (rc < 0)
        return rc;
    if (c->base != NULL)
        yk_series_row(&run->report, c->base, c->unit, &theirs, NULL);
    yk_series_row(&run->report, c->name, c->unit, &mine, &theirs);
    return 0;
}

static int fill(struct peers *p) {
    int rc = yk_rig_fill(p->rig.client, &p->large, 0, p->large.n, p->payload, MIB);
    if (rc == 0)
        rc = yk_rig_fill(p->rig.client, &p->small, 0, p->small.n, p->payload, SMALL_BYTES);
    for (uint64_t i = 0; i < p->large.n && rc == 0; i++)
        rc = redis_set(p, p->large.keys[i], MIB);
    for (uint64_t i = 0; i < p->small.n && rc == 0; i++)
        rc = redis_set(p, p->small.keys[i], SMALL_BYTES);
    return rc;
}

static int peers_open(struct peers *p, struct yk_bench_run *run) {
    uint64_t large = run->opts->quick ? LARGE_KEYS / 16 : LARGE_KEYS;
    uint64_t small = run->opts->quick ? SMALL_KEYS / 16 : SMALL_KEYS;
    struct yk_own_opts oo = {.dram_bytes =
                                 yk_own_dram_bytes(2 * large, MIB, 1, 0) + 2 * small * SMALL_BYTES};
    memset(p, 0, sizeof(*p));
    p->rig.own.kept.life_fd = -1;
    p->random = run->seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    p->payload = yk_bench_buffer(MIB);
    p->buffer = yk_bench_buffer(MIB);
    p->command = yk_bench_buffer(64u << 10);
    yk_bench_run_at(YK_BENCH_THERE); /* either server on the other core */
    int rc = redis_start(&p->redis);
    if (rc == 0 && (p->payload == NULL || p->buffer == NULL || p->command == NULL))
        rc = -YK_ENOMEM;
    if (rc == 0)
        rc = yk_rig_open(&p->rig, &oo, 0);
    yk_bench_run_at(YK_BENCH_HERE);
    if (rc == 0)
        rc = yk_rig_keys_make(&p->large, 0, large);
    if (rc == 0)
        rc = yk_rig_keys_make(&p->small, large, small);
    return rc != 0 ? rc : fill(p);
}

int yk_bench_peers(const struct yk_bench_opts *opts) {
    static struct peers p;
    struct yk_bench_run run;
    yk_bench_run_init(&run, "peers", opts, SECONDS, SECONDS_QUICK);
    if (opts->seconds > 0)
        run.seconds *= opts->seconds / DEFAULT_RUN_S;
    int rc = peers_open(&p, &run);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && rc == 0; i++)
        rc = run_case(&run, &p, &cases[i]);
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    yk_rig_close(&p.rig);
    redis_stop(&p.redis);
    yk_rig_keys_free(&p.large);
    yk_rig_keys_free(&p.small);
    return yk_bench_report_end(&run.report, rc);
}
