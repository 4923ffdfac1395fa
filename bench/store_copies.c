/* SPDX-License-Identifier: Apache-2.0
 *
 * Payload in and out: blocks of 1 MiB and of 16 KiB, one client.
 *
 * The tier is filled once over before anything is measured, so that no page is touched for the first
 * time; puts then go on into a full tier, each evicting the oldest block. Gets take blocks at
 * random. The footprint is far larger than the caches, for the store and for its limit alike.
 */
#include "bench/store_priv.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define MIB            (1ull << 20)
#define FOOTPRINT      (512 * MIB)
#define INFLIGHT       8u
#define CLIENTS        1u
#define REFS_PER_ROUND 20000u

struct copies;

/* Cases of one measurement. */
struct part {
    const char *const *cases;
    int (*fn)(struct yk_bench_run *run, struct copies *c);
};

struct copies {
    struct yk_rig rig;
    struct yk_copy_limit out, in; /* out: from the shared mapping, as gets do */
    struct yk_pingpong pp;
    struct yk_rig_keys keys; /* those of the blocks that are there at first */
    uint64_t bytes, random, next;
    unsigned char *buffer;
    /* puts under way */
    struct yk_op ops[INFLIGHT];
    struct iovec iov[INFLIGHT];
    char key[INFLIGHT][YK_RIG_KEY_BYTES];
    uint64_t start_ns[INFLIGHT];
};

static int op_get(void *arg, uint64_t i) {
    struct copies *c = arg;
    size_t len;
    yk_key key = c->keys.keys[yk_random_below(&c->random, c->keys.n)];
    int rc = yk_get(c->rig.client, key, c->buffer, c->bytes, &len);
    if (rc == 0)
        return 0;
    return yk_rig_failed(c->rig.client, "get", rc == YK_MISS ? -YK_EINTERNAL : rc);
}

static int op_ref(void *arg, uint64_t i) {
    struct copies *c = arg;
    yk_ref ref;
    yk_key key = c->keys.keys[yk_random_below(&c->random, c->keys.n)];
    int rc = yk_ref_get(c->rig.client, key, &ref);
    if (rc != 0)
        return yk_rig_failed(c->rig.client, "reference", rc == YK_MISS ? -YK_EINTERNAL : rc);
    yk_ref_release(c->rig.client, &ref);
    return 0;
}

static int op_put(void *arg, uint64_t i) {
    struct copies *c = arg;
    char text[YK_RIG_KEY_BYTES];
    yk_rig_key(c->next++, text);
    yk_key key = {text, sizeof(text)};
    int rc = yk_put(c->rig.client, key, c->in.buffers[i % INFLIGHT], c->bytes, NULL);
    return rc < 0 ? yk_rig_failed(c->rig.client, "put", rc) : 0;
}

/* Takes what has ended; returns a bit for each. */
static int reap(struct copies *c, struct yk_series *s, uint32_t *ret_free) {
    yk_op *ended[INFLIGHT];
    int n = yk_poll(c->rig.client, ended, INFLIGHT, 30000);
    uint64_t now = yk_now_ns();
    if (n <= 0)
        return yk_rig_failed(c->rig.client, "poll", n < 0 ? n : -YK_ETIMEDOUT);
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)(ended[i] - c->ops);
        if (ended[i]->status != 0)
            return yk_rig_failed(c->rig.client, "put", ended[i]->status);
        yk_hist_record(&s->hist, now - c->start_ns[at]);
        *ret_free |= 1u << at;
    }
    return 0;
}

static int put_start(struct copies *c, uint32_t at) {
    yk_rig_key(c->next++, c->key[at]);
    c->iov[at] = (struct iovec){c->in.buffers[at], c->bytes};
    c->ops[at] = (yk_op){.opcode = YK_OP_PUT,
                         .key = {c->key[at], YK_RIG_KEY_BYTES},
                         .iov = &c->iov[at],
                         .iov_count = 1};
    c->start_ns[at] = yk_now_ns();
    int rc = yk_submit(c->rig.client, &c->ops[at], 1, 30000);
    return rc < 0 ? yk_rig_failed(c->rig.client, "put", rc) : 0;
}

static int puts_pipelined(struct yk_series *s, uint64_t first, uint64_t n) {
    const uint32_t all = (1u << INFLIGHT) - 1u;
    struct copies *c = s->arg;
    uint32_t free_ops = all;
    int rc = 0;
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        if (free_ops == 0)
            rc = reap(c, s, &free_ops);
        if (rc == 0) {
            uint32_t at = (uint32_t)__builtin_ctz(free_ops);
            free_ops &= ~(1u << at);
            rc = put_start(c, at);
        }
    }
    while (rc == 0 && free_ops != all)
        rc = reap(c, s, &free_ops);
    return rc;
}

static void copies_close(struct copies *c) {
    yk_bench_run_at(YK_BENCH_ANYWHERE);
    yk_rig_close(&c->rig);
    yk_copy_limit_close(&c->out);
    yk_copy_limit_close(&c->in);
    yk_pingpong_close(&c->pp);
    yk_rig_keys_free(&c->keys);
    free(c->buffer);
}

static int copies_open(struct copies *c, const struct yk_bench_run *run, uint64_t bytes,
                       uint64_t footprint) {
    uint64_t n = (run->opts->quick ? footprint / 16 : yk_rig_memory(footprint)) / bytes;
    struct yk_own_opts oo = {.dram_bytes = yk_own_dram_bytes(n, bytes, CLIENTS, 0),
                             .capacity_blocks = n,
                             .max_blocks = (uint32_t)n + 8192u};
    memset(c, 0, sizeof(*c));
    c->bytes = bytes;
    c->random = run->seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    c->rig.own.kept.life_fd = -1;
    yk_bench_run_at(YK_BENCH_THERE);
    int rc = yk_pingpong_open(&c->pp);
    if (rc == 0)
        rc = yk_rig_open(&c->rig, &oo, 0);
    yk_bench_run_at(YK_BENCH_HERE);
    if (rc == 0)
        rc = yk_copy_limit_open(&c->out, n * bytes, bytes);
    if (rc == 0)
        rc = yk_copy_limit_open(&c->in, n * bytes, bytes);
    if (rc == 0)
        rc = yk_rig_keys_make(&c->keys, 0, n);
    c->in.to_shared = 1;
    c->next = n;
    c->buffer = aligned_alloc(4096, bytes);
    if (rc == 0 && c->buffer == NULL)
        rc = -YK_ENOMEM;
    /* Twice: the second pass finds the tier full and uses every page again. */
    for (uint64_t i = 0; i < 2 * n && rc == 0; i++)
        rc = op_put(c, i);
    if (rc == 0)
        rc = yk_rig_fill(c->rig.client, &c->keys, 0, n, c->in.buffers[0], bytes);
    return rc;
}

#define SERIES(name_, fn_, per_round_, weight_)                                                    \
    static struct yk_series name_;                                                                 \
    name_ = (struct yk_series) {                                                                   \
        .op = (fn_), .per_round = (per_round_), .weight = (weight_)                                \
    }

static int mib_gets(struct yk_bench_run *run, struct copies *c) {
    SERIES(get, op_get, 64, (double)c->bytes);
    SERIES(copy, yk_copy_limit_op, 64, (double)c->bytes);
    SERIES(ref, op_ref, REFS_PER_ROUND, (double)c->bytes);
    get.arg = ref.arg = c;
    copy.arg = &c->out;
    get.node = c->rig.own.kept.pid;
    ref.sample_every = 4;
    struct yk_series *series[] = {&get, &copy, &ref};
    int rc = yk_measure(series, 3, 2 * run->seconds);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, "base memcpy 1MiB out", "B/s", &copy, NULL);
    yk_series_row(&run->report, "get 1MiB buffer", "B/s", &get, &copy);
    yk_series_row(&run->report, "get 1MiB reference", "B/s", &ref, &copy);
    yk_series_cpu_rows(&run->report, "get 1MiB buffer", &get);
    return 0;
}

static int mib_puts(struct yk_bench_run *run, struct copies *c) {
    SERIES(piped, NULL, 64, (double)c->bytes);
    SERIES(single, op_put, 64, (double)c->bytes);
    SERIES(copy, yk_copy_limit_op, 64, (double)c->bytes);
    SERIES(ping, yk_pingpong_op, 64, 1);
    piped.many = puts_pipelined;
    piped.arg = single.arg = c;
    piped.node = single.node = c->rig.own.kept.pid;
    copy.arg = &c->in;
    ping.arg = &c->pp;
    struct yk_series *series[] = {&piped, &copy, &single, &ping};
    int rc = yk_measure(series, 4, 4 * run->seconds);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, "base memcpy 1MiB in", "B/s", &copy, NULL);
    yk_series_row(&run->report, "put 1MiB pipelined", "B/s", &piped, &copy);
    yk_series_row(&run->report, "put 1MiB single", "B/s", &single, &copy);
    /* What one put at a time can reach: the pipelined rate, and a round trip for each. */
    double budget_s = (double)c->bytes / piped.rate + 1.3 / ping.rate;
    struct yk_bench_row row = YK_BENCH_ROW("put 1MiB single of its budget", "B/s", single.rate);
    row.limit = (double)c->bytes / budget_s;
    yk_bench_report_row(&run->report, &row);
    yk_series_cpu_rows(&run->report, "put 1MiB pipelined", &piped);
    yk_series_cpu_rows(&run->report, "put 1MiB single", &single);
    return 0;
}

static int small_gets(struct yk_bench_run *run, struct copies *c) {
    SERIES(get, op_get, 2000, 1);
    SERIES(copy, yk_copy_limit_op, 2000, 1);
    get.arg = c;
    get.node = c->rig.own.kept.pid;
    copy.arg = &c->out;
    struct yk_series *series[] = {&get, &copy};
    int rc = yk_measure(series, 2, run->seconds);
    if (rc == 0)
        yk_series_row(&run->report, "get 16KiB buffer", "1/s", &get, &copy);
    return rc;
}

static int small_puts(struct yk_bench_run *run, struct copies *c) {
    SERIES(put, op_put, 500, 1);
    SERIES(ping, yk_pingpong_op, 500, 1);
    put.arg = c;
    put.node = c->rig.own.kept.pid;
    ping.arg = &c->pp;
    struct yk_series *series[] = {&put, &ping};
    int rc = yk_measure(series, 2, 2 * run->seconds);
    if (rc < 0)
        return rc;
    yk_series_row(&run->report, "put 16KiB single", "1/s", &put, &ping);
    yk_series_cpu_rows(&run->report, "put 16KiB single", &put);
    return 0;
}

static const char *const mib_get_cases[] = {"base memcpy 1MiB out", "get 1MiB buffer",
                                            "get 1MiB reference", NULL};
static const char *const mib_put_cases[] = {"base memcpy 1MiB in", "put 1MiB pipelined",
                                            "put 1MiB single", "put 1MiB single of its budget",
                                            NULL};
static const char *const small_get_cases[] = {"get 16KiB buffer", NULL};
static const char *const small_put_cases[] = {"put 16KiB single", NULL};

/* Runs those parts of a size that are wanted. */
static int of_size(struct yk_bench_run *run, uint64_t bytes, uint64_t footprint,
                   const struct part *parts) {
    static struct copies c;
    int gets = yk_bench_wants(&run->report, parts[0].cases);
    int puts = yk_bench_wants(&run->report, parts[1].cases);
    if (!gets && !puts)
        return 0;
    int rc = copies_open(&c, run, bytes, footprint);
    if (rc == 0 && gets)
        rc = parts[0].fn(run, &c);
    if (rc == 0 && puts)
        rc = parts[1].fn(run, &c);
    copies_close(&c);
    return rc;
}

int yk_store_copies(struct yk_bench_run *run) {
    static const struct part mib[] = {{mib_get_cases, mib_gets}, {mib_put_cases, mib_puts}};
    static const struct part kib[] = {{small_get_cases, small_gets}, {small_put_cases, small_puts}};
    int rc = of_size(run, MIB, FOOTPRINT, mib);
    return rc < 0 ? rc : of_size(run, 16u << 10, FOOTPRINT / 4, kib);
}
