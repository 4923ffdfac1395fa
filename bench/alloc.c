/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench alloc`: how much of a pool the block allocator makes usable, and how fast it is.
 *
 * The workloads are those that Mooncake publishes for its allocator (allocator_bench of its store):
 * fill the pool, and when an allocation fails evict 5 % of the live ones at random and try again;
 * usable = live payload bytes / capacity, sampled just before each eviction. Sizes: one
 * (3,274,752 B); two (and 658,432 B, in rounds of 1 to 128 of the first, then as many of the
 * second); random, uniform from 1 KiB to 64 MiB in a pool of 2 GiB. There a failed allocation first
 * has the pool compacted (nothing is pinned) and is tried again. The pool of the first two is
 * 64 GiB; Mooncake's is 1 TiB, which is easier since every effect of whole blocks is smaller, so it
 * has a line of its own, as has 8 GiB. `worst` lines are the lowest single sample.
 *
 * `ops` counts pairs of put and get at a full pool, the victim at random. Its limit is the
 * least that any allocator does for that: a stack of free offsets, in the same loop. glibc's malloc
 * is a baseline and not the limit; it has to serve any size at once.
 *
 * The pool has no memory behind it: the allocator never touches the payload.
 *
 * Thread: the caller's.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "bench/report.h"
#include "tier/alloc.h"

#define SIZE_KV       3274752u
#define SIZE_INDEX    658432u
#define RANDOM_MIN    1024u
#define RANDOM_MAX    (1u << 26)
#define ROUND_MAX     128u
#define EVICT_DIV     20u /* 5 % */
#define GIB           (1ull << 30)
#define LAT_SAMPLES   100000u
#define BATCH         1000u
#define WINDOWS_MAX   200000u
#define MALLOC_BLOCKS 8192u /* glibc touches a page of each: 32 MiB */

struct block {
    uint64_t offset;
    uint64_t len;
};

struct pool {
    struct yk_alloc *a;
    struct block *live;
    size_t count, max;
    uint32_t step;              /* of pair_batch */
    volatile uint64_t stack[2]; /* of pair_stack */
    volatile uint32_t top;
    size_t next; /* the block that `ops` replaces next */
    uint64_t capacity_bytes, live_bytes;
    uint64_t rng;
    bool compact;
    uint64_t moved_bytes, got_bytes;
    /* samples */
    double sum, worst;
    uint32_t samples;
};

/* A sequence of lengths; state is its own. */
struct sizes {
    uint64_t (*next)(struct sizes *s, struct pool *p);
    uint32_t left_kv, left_index;
};

static uint64_t rng_next(uint64_t *s) { /* xorshift64* */
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 0x2545f4914f6cdd1dull;
}

/* Uniform in [0, n), n below 2^32. */
static uint64_t rng_below(uint64_t *s, uint64_t n) {
    return ((rng_next(s) >> 32) * n) >> 32;
}

static uint64_t next_one(struct sizes *s, struct pool *p) {
    (void)s;
    (void)p;
    return SIZE_KV;
}

static uint64_t next_two(struct sizes *s, struct pool *p) {
    if (s->left_kv + s->left_index == 0)
        s->left_kv = s->left_index = 1 + (uint32_t)rng_below(&p->rng, ROUND_MAX);
    if (s->left_kv > 0) {
        s->left_kv--;
        return SIZE_KV;
    }
    s->left_index--;
    return SIZE_INDEX;
}

static uint64_t next_random(struct sizes *s, struct pool *p) {
    (void)s;
    return RANDOM_MIN + rng_below(&p->rng, RANDOM_MAX - RANDOM_MIN + 1);
}

static void pool_fini(struct pool *p) {
    yk_alloc_free(p->a);
    free(p->live);
}

static int pool_init(struct pool *p, uint64_t capacity_bytes, uint64_t len_min, uint64_t seed) {
    *p = (struct pool){.capacity_bytes = capacity_bytes,
                       .max = capacity_bytes / len_min + 1,
                       .rng = seed * 0x9e3779b97f4a7c15ull | 1,
                       .worst = 1.0};
    struct yk_alloc_opts opts = {.size = sizeof(opts), .capacity_bytes = capacity_bytes};
    p->live = malloc(p->max * sizeof(p->live[0]));
    if (!p->live)
        return -YK_ENOMEM;
    return yk_alloc_new(&opts, &p->a, NULL);
}

static void pool_evict(struct pool *p, size_t i) {
    struct block b = p->live[i];
    p->live[i] = p->live[--p->count];
    p->live_bytes -= b.len;
    if (yk_alloc_put(p->a, b.offset, b.len) < 0)
        abort(); /* a figure from a broken allocator is worth nothing */
}

/* What the tier's compactor does, without readers to wait for and without bytes to copy. Blocks
 * are few where this runs, so they are searched one by one. */
static void pool_compact(struct pool *p, uint64_t want_bytes) {
    struct yk_alloc_move m;
    int rc = yk_alloc_compact_begin(p->a, want_bytes);
    while (rc >= 0 && ((rc = yk_alloc_compact_next(p->a, &m)) == 1 || rc == -YK_EAGAIN)) {
        if (rc == -YK_EAGAIN) {
            rc = 0;
            continue;
        }
        size_t i = 0;
        while (i < p->count && p->live[i].offset != m.from_offset)
            i++;
        if (i == p->count || yk_alloc_compact_commit(p->a, &m, p->live[i].len) < 0 ||
            yk_alloc_put(p->a, m.from_offset, p->live[i].len) < 0)
            abort();
        p->live[i].offset = m.to_offset;
        p->moved_bytes += p->live[i].len;
    }
}

static void pool_sample(struct pool *p) {
    double usable = (double)p->live_bytes / (double)p->capacity_bytes;
    p->sum += usable;
    p->samples++;
    if (usable < p->worst)
        p->worst = usable;
}

static void pool_get(struct pool *p, uint64_t len) {
    uint64_t offset;
    while (yk_alloc_get(p->a, len, &offset) < 0) {
        if (p->compact) {
            pool_compact(p, len);
            if (yk_alloc_get(p->a, len, &offset) == 0)
                break;
        }
        pool_sample(p);
        for (size_t n = 1 + p->count / EVICT_DIV; n > 0 && p->count > 0; n--)
            pool_evict(p, rng_below(&p->rng, p->count));
    }
    p->live[p->count++] = (struct block){offset, len};
    p->live_bytes += len;
    p->got_bytes += len;
}

/* One workload: fill, age it by a tenth of the samples, then measure. */
static void usable_run(struct pool *p, struct sizes *s, uint32_t samples) {
    while (p->samples < samples / 10 + 1)
        pool_get(p, s->next(s, p));
    p->samples = 0;
    p->sum = 0;
    p->worst = 1.0;
    p->moved_bytes = p->got_bytes = 0;
    while (p->samples < samples)
        pool_get(p, s->next(s, p));
}

struct usable_case {
    const char *name, *worst_name, *moved_name; /* NULL: no such line */
    uint64_t (*next)(struct sizes *s, struct pool *p);
    uint64_t capacity_bytes, len_min;
    uint32_t samples;
    bool compact;
};

static const struct usable_case usable_cases[] = {
    {"usable one-size", "usable one-size worst", NULL, next_one, 64 * GIB, SIZE_KV, 1000, false},
    {"usable two-sizes", "usable two-sizes worst", NULL, next_two, 64 * GIB, SIZE_INDEX, 1000,
     false},
    {"usable two-sizes 8GiB", "usable two-sizes 8GiB worst", NULL, next_two, 8 * GIB, SIZE_INDEX,
     1000, false},
    {"usable two-sizes 8GiB compacted", "usable two-sizes 8GiB compacted worst",
     "usable two-sizes 8GiB compacted moved", next_two, 8 * GIB, SIZE_INDEX, 1000, true},
    {"usable two-sizes 1TiB", "usable two-sizes 1TiB worst", NULL, next_two, 1024 * GIB, SIZE_INDEX,
     100, false},
    {"usable random", "usable random worst", "usable random moved", next_random, 2 * GIB,
     RANDOM_MIN, 10000, true},
    {"usable random uncompacted", "usable random uncompacted worst", NULL, next_random, 2 * GIB,
     RANDOM_MIN, 10000, false},
};

static int usable_case(struct yk_bench_report *r, const struct yk_bench_opts *opts, uint64_t seed,
                       const struct usable_case *c) {
    struct pool p;
    struct sizes s = {.next = c->next};
    double cpu = yk_bench_cpu_s();
    int rc = pool_init(&p, c->capacity_bytes, c->len_min, seed);
    if (rc < 0)
        goto out;
    p.compact = c->compact;
    usable_run(&p, &s, opts->quick ? c->samples / 20 : c->samples);
    struct yk_bench_row row = YK_BENCH_ROW(c->name, "fraction", p.sum / p.samples);
    row.limit = 1.0;
    row.cpu_s = yk_bench_cpu_s() - cpu;
    yk_bench_report_row(r, &row);
    row = YK_BENCH_ROW(c->worst_name, "fraction", p.worst);
    row.limit = 1.0;
    yk_bench_report_row(r, &row);
    if (c->moved_name) { /* bytes copied for each byte allocated: what the compaction costs */
        row = YK_BENCH_ROW(c->moved_name, "fraction", (double)p.moved_bytes / (double)p.got_bytes);
        yk_bench_report_row(r, &row);
    }
out:
    pool_fini(&p);
    return rc;
}

/* What is measured in `ops`: one put and one get on p, the block at random. */
typedef void (*pair_fn)(struct pool *p);

/* The block to replace next. Its place in live[] is the bench's own, so it is fetched a pair ahead:
 * whoever evicts a block has just looked at it. */
static struct block *victim(struct pool *p) {
    struct block *b = &p->live[p->next];
    p->next = rng_below(&p->rng, p->count);
    __builtin_prefetch(&p->live[p->next], 1);
    return b;
}

static void pair_alloc(struct pool *p) {
    struct block *b = victim(p);
    if (yk_alloc_put(p->a, b->offset, b->len) < 0 || yk_alloc_get(p->a, b->len, &b->offset) < 0)
        abort();
}

/* As a reclaimer does it: BATCH blocks go, then as many come (all of one size). Two puts or two
 * gets a call. */
static void pair_batch(struct pool *p) {
    bool put = p->step++ % BATCH < BATCH / 2;
    for (int i = 0; i < 2; i++) {
        struct block *b = &p->live[p->count];
        if (put) {
            pool_evict(p, rng_below(&p->rng, p->count));
            continue;
        }
        b->len = p->live[0].len;
        if (yk_alloc_get(p->a, b->len, &b->offset) < 0)
            abort();
        p->count++;
    }
}

/* The stack of free offsets holds this one only, and is volatile lest the pair become a no-op. */
static void pair_stack(struct pool *p) {
    struct block *b = victim(p);
    p->stack[p->top++] = b->offset;
    b->offset = p->stack[--p->top];
}

static void pair_malloc(struct pool *p) {
    struct block *b = victim(p);
    free((void *)(uintptr_t)b->offset);
    void *volatile fresh = malloc(b->len);
    b->offset = (uint64_t)(uintptr_t)fresh;
}

/* Pairs a second: the median of windows of 1,000 pairs, some 100 us each, so that what else runs on
 * the machine doesn't count. */
static double pairs_rate(struct pool *p, pair_fn pair, double seconds) {
    uint64_t *window_ns = malloc(WINDOWS_MAX * sizeof(window_ns[0]));
    if (!window_ns)
        return NAN;
    uint64_t start = yk_now_ns(), now = start;
    size_t n = 0;
    while (n < WINDOWS_MAX && (double)(now - start) < seconds * 1e9) {
        uint64_t before = now;
        for (uint32_t i = 0; i < 1000; i++)
            pair(p);
        now = yk_now_ns();
        window_ns[n++] = now - before;
    }
    struct yk_bench_row row;
    yk_bench_row_percentiles(&row, window_ns, n);
    free(window_ns);
    return 1000 * 1e6 / row.p50_us;
}

/* Percentiles of single pairs, reading the clock (some 20 ns) included. */
static void pairs_latency(struct pool *p, pair_fn pair, struct yk_bench_row *row) {
    uint64_t *lat_ns = malloc(LAT_SAMPLES * sizeof(lat_ns[0]));
    if (!lat_ns)
        return;
    for (uint32_t i = 0; i < LAT_SAMPLES; i++) {
        uint64_t start = yk_now_ns();
        pair(p);
        lat_ns[i] = yk_now_ns() - start;
    }
    yk_bench_row_percentiles(row, lat_ns, LAT_SAMPLES);
    free(lat_ns);
}

struct ops_case {
    const char *name;
    uint64_t capacity_bytes, len, len2; /* every other block is len2 */
    pair_fn pair;
};

static const struct ops_case ops_cases[] = {
    {"ops", 64 * GIB, SIZE_KV, SIZE_KV, pair_alloc},
    {"ops batches of 1000", 64 * GIB, SIZE_KV, SIZE_KV, pair_batch},
    {"ops two-sizes", 64 * GIB, SIZE_KV, SIZE_INDEX, pair_alloc},
    {"ops 1 M blocks of 8 KiB", 8 * GIB, 8192, 8192, pair_alloc},
};

static int ops_case(struct yk_bench_report *r, double seconds, uint64_t seed,
                    const struct ops_case *c) {
    struct pool p;
    uint64_t len = c->len, offset;
    int rc = pool_init(&p, c->capacity_bytes, c->len < c->len2 ? c->len : c->len2, seed);
    if (rc < 0)
        goto out;
    while (yk_alloc_get(p.a, len, &offset) == 0) {
        p.live[p.count++] = (struct block){offset, len};
        len = len == c->len ? c->len2 : c->len;
    }
    pairs_rate(&p, c->pair, seconds / 10); /* from the order of filling to a random one */
    double cpu = yk_bench_cpu_s();
    struct yk_bench_row row = YK_BENCH_ROW(c->name, "1/s", pairs_rate(&p, c->pair, seconds));
    row.cpu_s = yk_bench_cpu_s() - cpu;
    while (p.step % BATCH != 0) /* back to a full pool */
        c->pair(&p);
    if (c->pair == pair_alloc)
        pairs_latency(&p, c->pair, &row);
    row.limit = pairs_rate(&p, pair_stack, seconds / 2);
    yk_bench_report_row(r, &row);
out:
    pool_fini(&p);
    return rc;
}

static int ops_malloc(struct yk_bench_report *r, double seconds, uint64_t seed) {
    struct pool p = {.rng = seed, .live = malloc(MALLOC_BLOCKS * sizeof(p.live[0]))};
    if (!p.live)
        return -YK_ENOMEM;
    for (; p.count < MALLOC_BLOCKS; p.count++)
        p.live[p.count] = (struct block){(uint64_t)(uintptr_t)malloc(8192), 8192};
    struct yk_bench_row row =
        YK_BENCH_ROW("base malloc+free 8 KiB", "1/s", pairs_rate(&p, pair_malloc, seconds));
    yk_bench_report_row(r, &row);
    while (p.count > 0)
        free((void *)(uintptr_t)p.live[--p.count].offset);
    pool_fini(&p);
    return 0;
}

static bool wants(const struct yk_bench_report *r, const char *name) {
    return yk_bench_wants(r, (const char *const[]){name, NULL});
}

int yk_bench_alloc(const struct yk_bench_opts *opts) {
    struct yk_bench_report r;
    double seconds = opts->quick ? 0.05 : opts->seconds > 0 ? opts->seconds / 16 : 1.5;
    uint64_t seed = opts->seed ? opts->seed : 1;
    int rc = 0;
    yk_bench_report_init(&r, "alloc", opts->out, opts->json);
    r.cases = opts->cases;
    r.n_cases = opts->n_cases;
    for (size_t i = 0; i < sizeof(usable_cases) / sizeof(usable_cases[0]) && rc == 0; i++)
        if (wants(&r, usable_cases[i].name) ||
            (usable_cases[i].worst_name != NULL && wants(&r, usable_cases[i].worst_name)) ||
            (usable_cases[i].moved_name != NULL && wants(&r, usable_cases[i].moved_name)))
            rc = usable_case(&r, opts, seed, &usable_cases[i]);
    for (size_t i = 0; i < sizeof(ops_cases) / sizeof(ops_cases[0]) && rc == 0; i++)
        if (wants(&r, ops_cases[i].name))
            rc = ops_case(&r, seconds, seed, &ops_cases[i]);
    if (rc == 0 && wants(&r, "base malloc+free 8 KiB"))
        rc = ops_malloc(&r, seconds / 2, seed);
    return yk_bench_report_end(&r, rc);
}
