/* SPDX-License-Identifier: Apache-2.0
 *
 * Lookups and changes among a million tiny blocks: what a call costs when no payload is in the way.
 *
 * Keys are taken at random, so every lookup misses the caches in bucket and descriptor, and one that
 * wants more than an answer in the descriptor's rest. It is measured beside three loads that depend on
 * each other in an area as large as the node's metadata: what a lookup was before descriptors held keys
 * (docs/decisions/0012), and is for keys beyond 16 bytes. The same cases through the socket show what a
 * client without the mapping gets.
 */
#include "bench/store_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS        1000000u
#define BLOCKS_QUICK  20000u
#define PAYLOAD_BYTES 64u
#define FILL_ROUND    20000u /* blocks between two looks at the clock */
#define MATCH_KEYS    256u
#define BATCH_KEYS    1024u
#define LOADS         3u   /* that depend on each other: bucket, descriptor, cell of a long key */
#define LOADS_BESIDE  16u  /* of different keys that a match has under way */
#define META_BYTES    192u /* of a block, for the area of the load limits */
#define HOT_PART      8u   /* lookups beside puts go to an eighth of the blocks */

struct lookups {
    struct yk_rig rig;
    yk_client *far; /* without the mapping */
    struct yk_pingpong pp;
    struct yk_rig_keys keys; /* for filling */
    uint64_t n;
    struct yk_load_limit one, many;
    uint64_t random, next;
    char room[BATCH_KEYS][YK_RIG_KEY_BYTES];
    yk_key picked[BATCH_KEYS];
    yk_op ops[BATCH_KEYS];
    unsigned char payload[PAYLOAD_BYTES];
};

/* A key at random; room is as the key's bytes. */
static yk_key pick(struct lookups *l, char room[YK_RIG_KEY_BYTES]) {
    yk_rig_key(yk_random_below(&l->random, l->n), room);
    return (yk_key){room, YK_RIG_KEY_BYTES};
}

static int expect(struct lookups *l, const char *what, int have, int want) {
    if (have == want)
        return 0;
    if (have < 0)
        return yk_rig_failed(l->rig.client, what, have);
    fprintf(stderr, "yolk bench: %s: found %d, expected %d\n", what, have, want);
    return -YK_EINTERNAL;
}

/* ---- operations ----------------------------------------------------------------------------- */

static int op_ref(void *arg, uint64_t i) {
    struct lookups *l = arg;
    yk_ref ref;
    int rc = yk_ref_get(l->rig.client, pick(l, l->room[0]), &ref);
    if (rc == 0)
        yk_ref_release(l->rig.client, &ref);
    return expect(l, "reference", rc, 0);
}

static int op_exists(void *arg, uint64_t i) {
    struct lookups *l = arg;
    return expect(l, "exists", yk_exists(l->rig.client, pick(l, l->room[0])), 1);
}

static int match(struct lookups *l, yk_client *c, size_t n) {
    for (size_t k = 0; k < n; k++)
        l->picked[k] = pick(l, l->room[k]);
    return expect(l, "match", yk_match(c, l->picked, n, NULL), (int)n);
}

static int op_match(void *arg, uint64_t i) {
    struct lookups *l = arg;
    return match(l, l->rig.client, MATCH_KEYS);
}

static int op_far_match(void *arg, uint64_t i) {
    struct lookups *l = arg;
    return match(l, l->far, BATCH_KEYS);
}

static int batch(struct lookups *l, yk_client *c, uint32_t opcode) {
    for (size_t k = 0; k < BATCH_KEYS; k++)
        l->ops[k] = (yk_op){.opcode = opcode, .key = pick(l, l->room[k])};
    return expect(l, "batch", yk_run(c, l->ops, BATCH_KEYS, 0), BATCH_KEYS);
}

static int op_exists_batch(void *arg, uint64_t i) {
    struct lookups *l = arg;
    return batch(l, l->rig.client, YK_OP_EXISTS);
}

static int op_far_exists(void *arg, uint64_t i) {
    struct lookups *l = arg;
    return batch(l, l->far, YK_OP_EXISTS);
}

static int op_touch(void *arg, uint64_t i) {
    struct lookups *l = arg;
    return expect(l, "touch", yk_touch(l->rig.client, pick(l, l->room[0])), 0);
}

static int op_far_get(void *arg, uint64_t i) {
    struct lookups *l = arg;
    unsigned char buf[PAYLOAD_BYTES];
    size_t len;
    return expect(l, "get", yk_get(l->far, pick(l, l->room[0]), buf, sizeof(buf), &len), 0);
}

/* The number is new, so the block is not there. */
static int op_put(void *arg, uint64_t i) {
    struct lookups *l = arg;
    char text[YK_RIG_KEY_BYTES];
    yk_rig_key(l->next++, text);
    yk_key key = {text, sizeof(text)};
    return expect(l, "put", yk_put(l->rig.client, key, l->payload, PAYLOAD_BYTES, NULL), 0);
}

/* ---- filling: puts of tiny blocks, and what their metadata takes -------------------------------- */

/* The first line of a mapping in /proc/PID/smaps; the others name a figure. */
static int is_mapping(const char *line) {
    size_t digits = strspn(line, "0123456789abcdef");
    return digits >= 8 && line[digits] == '-';
}

/* Resident memory of the node but for the payload: what a block costs beside its bytes. */
static uint64_t node_meta_bytes(pid_t pid) {
    char path[40], line[512];
    unsigned long long kb, sum = 0;
    int payload = 0;
    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        if (is_mapping(line))
            payload = strstr(line, "yolk.data") != NULL;
        else if (!payload && sscanf(line, "Rss: %llu kB", &kb) == 1)
            sum += kb * 1024u;
    }
    fclose(f);
    return sum;
}

static int fill_many(struct yk_series *s, uint64_t first, uint64_t n) {
    struct lookups *l = s->arg;
    return yk_rig_fill(l->rig.client, &l->keys, first, n, l->payload, PAYLOAD_BYTES);
}

static const char *const fill_cases[] = {"put 64B batched", "metadata of a block beside its key",
                                         NULL};

static int fill(struct yk_bench_run *run, struct lookups *l) {
    static struct yk_series s;
    struct yk_series *series[] = {&s};
    uint64_t meta = node_meta_bytes(l->rig.own.kept.pid);
    s = (struct yk_series){.many = fill_many, .arg = l, .weight = 1, .node = l->rig.own.kept.pid};
    s.per_round = FILL_ROUND < l->keys.n / 4 ? FILL_ROUND : (uint32_t)l->keys.n / 4;
    int rc = yk_measure(series, 1, 0); /* three rounds; the rest without a look at the clock */
    if (rc == 0)
        rc = yk_rig_fill(l->rig.client, &l->keys, s.ops, l->keys.n - s.ops, l->payload,
                         PAYLOAD_BYTES);
    if (rc < 0)
        return rc;
    if (!yk_bench_wants(&run->report, fill_cases))
        return 0;
    yk_series_row(&run->report, "put 64B batched", "1/s", &s, NULL);
    yk_series_cpu_rows(&run->report, "put 64B batched", &s);
    double per_block = (double)(node_meta_bytes(l->rig.own.kept.pid) - meta) / (double)l->keys.n;
    struct yk_bench_row row =
        YK_BENCH_ROW("metadata of a block beside its key", "B", per_block - YK_RIG_KEY_BYTES);
    yk_bench_report_row(&run->report, &row);
    return 0;
}

/* ---- cases ---------------------------------------------------------------------------------- */

#define SERIES(name_, fn_, arg_, per_round_, sample_every_, weight_)                               \
    static struct yk_series name_;                                                                 \
    name_ = (struct yk_series) {                                                                   \
        .op = (fn_), .arg = (arg_), .per_round = (per_round_), .sample_every = (sample_every_),    \
        .weight = (weight_)                                                                        \
    }

static int local(struct yk_bench_run *run, struct lookups *l) {
    SERIES(ref, op_ref, l, 20000, 3, 1);
    SERIES(exists, op_exists, l, 20000, 3, 1);
    SERIES(chain, yk_load_limit_op, &l->one, 20000, 3, 1);
    SERIES(match256, op_match, l, 100, 1, MATCH_KEYS);
    SERIES(batched, op_exists_batch, l, 20, 1, BATCH_KEYS);
    SERIES(chains, yk_load_limit_op, &l->many, 2000, 1, LOADS_BESIDE);
    struct yk_series *series[] = {&ref, &exists, &chain, &match256, &batched, &chains};
    int rc = yk_measure(series, 6, 4 * run->seconds);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, "base three dependent loads", "1/s", &chain, NULL);
    yk_series_row(&run->report, "lookup reference", "1/s", &ref, &chain);
    yk_series_row(&run->report, "exists", "1/s", &exists, &chain);
    yk_series_row(&run->report, "match 256", "1/s", &match256, &chains);
    yk_series_row(&run->report, "exists batched", "1/s", &batched, &chains);
    return 0;
}

static int through_socket(struct yk_bench_run *run, struct lookups *l) {
    SERIES(touch, op_touch, l, 500, 1, 1);
    SERIES(get, op_far_get, l, 500, 1, 1);
    SERIES(ping, yk_pingpong_op, &l->pp, 500, 1, 1);
    SERIES(exists, op_far_exists, l, 20, 1, BATCH_KEYS);
    SERIES(match1024, op_far_match, l, 20, 1, BATCH_KEYS);
    touch.node = get.node = exists.node = match1024.node = l->rig.own.kept.pid;
    struct yk_series *series[] = {&touch, &get, &ping, &exists, &match1024};
    int rc = yk_measure(series, 5, 4 * run->seconds);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, "touch single", "1/s", &touch, &ping);
    yk_series_row(&run->report, "socket get 64B single", "1/s", &get, &ping);
    yk_series_row(&run->report, "socket exists batched", "1/s", &exists, NULL);
    yk_series_row(&run->report, "socket match batched", "1/s", &match1024, NULL);
    /* What a thread of the node could do with all of a processor. */
    struct yk_bench_row row = YK_BENCH_ROW("socket exists of a node thread", "1/s",
                                           (double)exists.ops * BATCH_KEYS / exists.node_s);
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("socket match of a node thread", "1/s",
                       (double)match1024.ops * BATCH_KEYS / match1024.node_s);
    yk_bench_report_row(&run->report, &row);
    return 0;
}

/* Each evicts a block. */
static int single_puts(struct yk_bench_run *run, struct lookups *l) {
    SERIES(put, op_put, l, 500, 1, 1);
    SERIES(ping, yk_pingpong_op, &l->pp, 500, 1, 1);
    put.node = l->rig.own.kept.pid;
    struct yk_series *series[] = {&put, &ping};
    int rc = yk_measure(series, 2, run->seconds);
    if (rc == 0)
        yk_series_row(&run->report, "put 64B single", "1/s", &put, &ping);
    /* All keys again. */
    return rc < 0 ? rc
                  : yk_rig_fill(l->rig.client, &l->keys, 0, l->keys.n, l->payload, PAYLOAD_BYTES);
}

/* ---- lookups while another client puts ---------------------------------------------------------- */

struct putter {
    pid_t pid;
    uint64_t *puts; /* shared */
};

/* Until it is killed: batches of puts into a full tier, each of which evicts. */
static void putter_main(struct yk_own *own, uint64_t first, uint64_t *puts) {
    struct yk_rig_keys keys;
    unsigned char payload[PAYLOAD_BYTES] = {1};
    yk_client *c;
    char url[sizeof(own->url)];
    memcpy(url, own->url, sizeof(url));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    yk_own_forget(own);
    if (yk_rig_connect(url, 0, &c) < 0)
        _exit(1);
    for (uint64_t at = first;; at += BATCH_KEYS) {
        if (yk_rig_keys_make(&keys, at, BATCH_KEYS) < 0 ||
            yk_rig_fill(c, &keys, 0, BATCH_KEYS, payload, PAYLOAD_BYTES) < 0)
            _exit(1);
        yk_rig_keys_free(&keys);
        __atomic_fetch_add(puts, BATCH_KEYS, __ATOMIC_RELAXED);
    }
}

static int putter_start(struct putter *p, struct lookups *l) {
    p->puts =
        mmap(NULL, sizeof(*p->puts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p->puts == MAP_FAILED)
        return -YK_ENOMEM;
    yk_bench_run_at(YK_BENCH_THERE); /* with the node: the lookups' processor is their own */
    p->pid = fork();
    if (p->pid == 0)
        putter_main(&l->rig.own, UINT64_C(1) << 40, p->puts);
    yk_bench_run_at(YK_BENCH_HERE);
    if (p->pid < 0) {
        munmap(p->puts, sizeof(*p->puts));
        return -YK_EIO;
    }
    /* Under way, and the tier full for sure. */
    for (int i = 0; i < 10000 && __atomic_load_n(p->puts, __ATOMIC_RELAXED) < l->keys.n / 4; i++)
        usleep(1000);
    return 0;
}

static void putter_stop(struct putter *p) {
    kill(p->pid, SIGKILL);
    while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    munmap(p->puts, sizeof(*p->puts));
}

/* References to the hot part of the keys, which stays in the cache because it is used. */
static int op_hot(void *arg, uint64_t i) {
    struct lookups *l = arg;
    yk_ref ref;
    yk_rig_key(yk_random_below(&l->random, l->n / HOT_PART), l->room[0]);
    int rc = yk_ref_get(l->rig.client, (yk_key){l->room[0], YK_RIG_KEY_BYTES}, &ref);
    if (rc == 0)
        yk_ref_release(l->rig.client, &ref);
    return rc < 0 ? expect(l, "reference", rc, 0) : 0;
}

static int beside_puts(struct yk_bench_run *run, struct lookups *l) {
    struct putter p = {0};
    SERIES(idle, op_hot, l, 20000, 1, 1);
    SERIES(busy, op_hot, l, 20000, 1, 1);
    struct yk_series *quiet[] = {&idle}, *loud[] = {&busy};
    int rc = yk_measure(quiet, 1, run->seconds);
    if (rc == 0)
        rc = putter_start(&p, l);
    if (rc < 0)
        return rc;
    uint64_t before = *p.puts, start = yk_now_ns();
    rc = yk_measure(loud, 1, 2 * run->seconds);
    double rate = (double)(__atomic_load_n(p.puts, __ATOMIC_RELAXED) - before) /
                  ((double)(yk_now_ns() - start) / 1e9);
    putter_stop(&p);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, "base lookup hot idle", "1/s", &idle, NULL);
    yk_series_row(&run->report, "lookup hot beside puts", "1/s", &busy, &idle);
    struct yk_bench_row row = YK_BENCH_ROW("lookup hot beside puts p99.9", "s",
                                           (double)yk_hist_percentile(&busy.hist, 99.9) / 1e9);
    row.limit = (double)yk_hist_percentile(&idle.hist, 99.9) / 1e9;
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("base puts beside lookups", "1/s", rate);
    yk_bench_report_row(&run->report, &row);
    return 0;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static int lookups_open(struct lookups *l, const struct yk_bench_run *run) {
    uint64_t n = run->opts->quick ? BLOCKS_QUICK : BLOCKS;
    struct yk_own_opts oo = {.dram_bytes = yk_own_dram_bytes(n, PAYLOAD_BYTES, 2, 0),
                             .capacity_blocks = n,
                             .max_blocks = (uint32_t)(n + n / 16u) + 8192u};
    memset(l, 0, sizeof(*l));
    l->rig.own.kept.life_fd = -1;
    l->random = run->seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    l->next = UINT64_C(1) << 32;
    l->n = n;
    yk_bench_run_at(YK_BENCH_THERE);
    int rc = yk_pingpong_open(&l->pp);
    if (rc == 0)
        rc = yk_rig_open(&l->rig, &oo, 0);
    yk_bench_run_at(YK_BENCH_HERE);
    if (rc == 0)
        rc = yk_rig_connect(l->rig.own.url, YK_OPEN_NO_MAP | YK_OPEN_NO_XFER, &l->far);
    if (rc == 0)
        rc = yk_rig_keys_make(&l->keys, 0, n);
    if (rc == 0)
        rc = yk_load_limit_open(&l->one, n * META_BYTES, LOADS, 1);
    if (rc == 0)
        rc = yk_load_limit_open(&l->many, n * META_BYTES, LOADS, LOADS_BESIDE);
    return rc;
}

static void lookups_close(struct lookups *l) {
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    yk_close(l->far);
    yk_rig_close(&l->rig);
    yk_pingpong_close(&l->pp);
    yk_rig_keys_free(&l->keys);
    yk_load_limit_close(&l->one);
    yk_load_limit_close(&l->many);
}

static const char *const local_cases[] = {"base three dependent loads",
                                          "lookup reference",
                                          "exists",
                                          "match 256",
                                          "exists batched",
                                          NULL};
static const char *const socket_cases[] = {"touch single",
                                           "socket get 64B single",
                                           "socket exists batched",
                                           "socket match batched",
                                           "socket exists of a node thread",
                                           "socket match of a node thread",
                                           NULL};
static const char *const single_put_cases[] = {"put 64B single", NULL};
static const char *const beside_cases[] = {"lookup hot beside puts", "lookup hot beside puts p99.9",
                                           NULL};

static const struct {
    const char *const *cases;
    int (*fn)(struct yk_bench_run *run, struct lookups *l);
} parts[] = {
    {fill_cases, fill}, /* always: the others need the blocks */
    {local_cases, local},        {socket_cases, through_socket}, {single_put_cases, single_puts},
    {beside_cases, beside_puts},
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

int yk_store_lookups(struct yk_bench_run *run) {
    static struct lookups l;
    int wanted = 0;
    for (size_t i = 0; i < PARTS; i++)
        wanted |= yk_bench_wants(&run->report, parts[i].cases);
    if (!wanted)
        return 0;
    int rc = lookups_open(&l, run);
    for (size_t i = 0; i < PARTS && rc == 0; i++)
        if (i == 0 || yk_bench_wants(&run->report, parts[i].cases))
            rc = parts[i].fn(run, &l);
    lookups_close(&l);
    return rc;
}
