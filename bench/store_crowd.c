/* SPDX-License-Identifier: Apache-2.0
 *
 * Many client processes at once: 64 of them with mixed puts and gets beside two, and four whose
 * payload goes through the node's memory beside four whose payload goes through its socket.
 *
 * All processes of a run begin together and stop when the time is over; an operation that began
 * before the end counts. Blocks have keys of their own process, so that puts never meet; gets ask
 * for what the process put most recently, most of which is still there (a miss is an answer, and
 * counts neither as bytes nor as latency).
 *
 * What the machine itself allows: as many processes that copy the same sizes in the same pattern with
 * memcpy, into places of a shared area that they take in turn and out of those they took last. They
 * share no more than a cursor and map what they touch, as clients do: page tables are a process' own.
 * Left alone, such a process copies for a whole time slice, from warm caches, while 62 others wait: the
 * most bytes, and a p99 of fifty fair shares. `in turn` each lets the next one go after every copy, as
 * who waits for a reply must: what the machine can do for all of them alike. `turns of N` are between the
 * two: with N copies a turn one of N waits for the turns of all others, which is N fair shares, so that a
 * p99 of N fair shares allows no longer turns than that (N below 100). An operation's time counts from the
 * end of the one before it there, which is where its wait is.
 *
 * The tier is put full once before anything is measured, and the area filled: a first touch of memory
 * takes ten times its copy, and two clients would pay for all that 64 find ready.
 */
#include "bench/store_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB          1024u
#define MIB          (1024u * KIB)
#define CROWD        64u
#define FEW          2u
#define FIELD        4u           /* clients of the headline cases */
#define FIELD_BYTES  (256u * KIB) /* and their blocks */
#define FIELD_PUTS   4u           /* one operation of so many is a put */
#define OWN_BLOCKS   32u          /* of a process, that its gets choose from */
#define TIER_BYTES   (768ull * MIB)
#define SECONDS_MORE 2.0 /* times the run's seconds, for each crowd */
#define MAP_CHUNK    (64u * KIB)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

struct member {
    uint64_t ops, bytes, misses;
    double cpu_s;
    int status;
    struct yk_hist hist;
} __attribute__((aligned(128)));

struct crowd {
    int area_fd; /* copies only, in this area of tier_bytes; -1: clients of `own` */
    uint64_t tier_bytes;
    uint32_t turn; /* copies after which the next process has its turn; 0: when its time slice is over */
    uint32_t n, flags;
    uint32_t min_bytes, max_bytes; /* powers of two; sizes are those from the one to the other */
    uint32_t put_of;               /* one of so many */
    double seconds;
    uint64_t seed;
    struct yk_own *own;
    struct shared {
        uint32_t ready;  /* atomic */
        uint64_t go_ns;  /* 0: wait */
        uint64_t cursor; /* atomic: places taken in the area, in bytes */
        struct member members[];
    } * shared;
    size_t shared_bytes;
    pid_t pids[CROWD];
    /* result */
    uint64_t ops, bytes;
    double total, slowest, mean; /* B/s */
    double node_s;
    struct yk_hist hist;
};

/* ---- in a client ------------------------------------------------------------------------------ */

struct client {
    yk_client *c;
    const struct crowd *crowd;
    struct member *m;
    unsigned char *buf;
    uint64_t random, base, puts;
    uint32_t sizes; /* how many powers of two */
    /* a process that only copies */
    unsigned char *area;
    unsigned char *mapped;     /* a chunk of the area each */
    uint64_t took[OWN_BLOCKS]; /* where the last blocks are */
    uint64_t ended_ns;         /* its last operation */
};

/* A block's length follows from its number. */
static size_t length_of(const struct client *k, uint64_t number) {
    return (size_t)k->crowd->min_bytes << (number * UINT64_C(0x9e3779b97f4a7c15) >> 40) % k->sizes;
}

static int put(struct client *k, size_t *ret_len) {
    char text[YK_RIG_KEY_BYTES];
    yk_key key = {text, sizeof(text)};
    *ret_len = length_of(k, k->puts);
    yk_rig_key(k->base + k->puts, text);
    k->puts++;
    return yk_put(k->c, key, k->buf, *ret_len, NULL);
}

static int get(struct client *k, size_t *ret_len) {
    char text[YK_RIG_KEY_BYTES];
    yk_key key = {text, sizeof(text)};
    uint64_t have = k->puts < OWN_BLOCKS ? k->puts : OWN_BLOCKS;
    yk_rig_key(k->base + k->puts - 1 - yk_random_below(&k->random, have), text);
    return yk_get(k->c, key, k->buf, k->crowd->max_bytes, ret_len);
}

/* ---- in a process that only copies ------------------------------------------------------------ */

static int area_open(struct client *k) {
    uint64_t bytes = k->crowd->tier_bytes;
    k->mapped = calloc(1, bytes / MAP_CHUNK + 1);
    k->area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->crowd->area_fd, 0);
    return k->mapped == NULL || k->area == MAP_FAILED ? -YK_ENOMEM : 0;
}

/* A block's place in the area, with its pages mapped by the cheapest way there is. */
static unsigned char *area_at(struct client *k, uint64_t at, size_t len) {
    for (uint64_t c = at / MAP_CHUNK; c <= (at + len - 1) / MAP_CHUNK; c++) {
        if (!k->mapped[c])
            (void)madvise(k->area + c * MAP_CHUNK, MAP_CHUNK, MADV_POPULATE_READ);
        k->mapped[c] = 1;
    }
    return k->area + at;
}

static int copy_in(struct client *k, size_t *ret_len) {
    uint64_t at, bytes = k->crowd->tier_bytes;
    *ret_len = length_of(k, k->puts);
    do /* a place that does not cross the end */
        at = __atomic_fetch_add(&k->crowd->shared->cursor, *ret_len, __ATOMIC_RELAXED) % bytes;
    while (at + *ret_len > bytes);
    memcpy(area_at(k, at, *ret_len), k->buf, *ret_len);
    k->took[k->puts++ % OWN_BLOCKS] = at;
    return 0;
}

static int copy_out(struct client *k, size_t *ret_len) {
    uint64_t have = k->puts < OWN_BLOCKS ? k->puts : OWN_BLOCKS;
    uint64_t number = k->puts - 1 - yk_random_below(&k->random, have);
    *ret_len = length_of(k, number);
    memcpy(k->buf, area_at(k, k->took[number % OWN_BLOCKS], *ret_len), *ret_len);
    return 0;
}

/* ---- either ----------------------------------------------------------------------------------- */

static int one(struct client *k) {
    size_t len = 0;
    int is_put = k->puts == 0 || yk_random_below(&k->random, k->crowd->put_of) == 0;
    uint64_t start = yk_now_ns();
    int rc = k->area != NULL ? (is_put ? copy_in(k, &len) : copy_out(k, &len))
             : is_put        ? put(k, &len)
                             : get(k, &len);
    uint64_t end = yk_now_ns();
    if (rc == YK_MISS) {
        k->m->misses++;
        return 0;
    }
    if (rc < 0)
        return yk_rig_failed(k->c, is_put ? "put" : "get", rc);
    yk_hist_record(&k->m->hist, end - (k->crowd->turn > 0 && k->ended_ns != 0 ? k->ended_ns : start));
    k->ended_ns = end;
    k->m->ops++;
    k->m->bytes += len;
    if (k->crowd->turn > 0 && k->m->ops % k->crowd->turn == 0)
        sched_yield();
    return 0;
}

static void wait_go(struct shared *s) {
    __atomic_fetch_add(&s->ready, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&s->go_ns, __ATOMIC_ACQUIRE) == 0)
        usleep(1000);
}

static int client_run(struct client *k) {
    const struct crowd *w = k->crowd;
    int rc = w->area_fd >= 0 ? area_open(k) : yk_rig_connect(w->own->url, w->flags, &k->c);
    k->buf = yk_bench_buffer(w->max_bytes);
    if (rc == 0 && k->buf == NULL)
        rc = -YK_ENOMEM;
    /* Its blocks, before the clock runs: pages are mapped, lengths are known. */
    for (uint32_t i = 0; i < OWN_BLOCKS && rc == 0; i++) {
        size_t len;
        rc = k->area != NULL ? copy_in(k, &len) : put(k, &len);
    }
    wait_go(w->shared);
    uint64_t end = w->shared->go_ns + (uint64_t)(w->seconds * 1e9);
    double cpu = yk_bench_cpu_s();
    while (rc == 0 && yk_now_ns() < end)
        rc = one(k);
    k->m->cpu_s = yk_bench_cpu_s() - cpu;
    return rc;
}

static void client_main(struct crowd *w, uint32_t i) {
    struct client k = {.crowd = w,
                       .m = &w->shared->members[i],
                       .random = (w->seed + i) * UINT64_C(0x9e3779b97f4a7c15) | 1u,
                       .base = (uint64_t)(i + 1) << 40 | (uint64_t)w->n << 32};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (uint32_t b = w->min_bytes; b <= w->max_bytes; b *= 2)
        k.sizes++;
    if (w->own != NULL)
        yk_own_forget(w->own); /* its url stays */
    k.m->status = client_run(&k);
    yk_close(k.c);
    _exit(0);
}

/* ---- in the parent ---------------------------------------------------------------------------- */

static int crowd_fork(struct crowd *w) {
    for (uint32_t i = 0; i < w->n; i++) {
        w->pids[i] = fork();
        if (w->pids[i] == 0)
            client_main(w, i);
        if (w->pids[i] < 0) {
            w->n = i;
            return -YK_EIO;
        }
    }
    return 0;
}

/* Waits for all; a client that died without a word is a failure. */
static int crowd_join(struct crowd *w, int rc) {
    for (uint32_t i = 0; i < w->n; i++) {
        int status = 0;
        while (waitpid(w->pids[i], &status, 0) < 0 && errno == EINTR)
            continue;
        if (rc == 0 && status != 0)
            rc = -YK_EINTERNAL;
        if (rc == 0)
            rc = w->shared->members[i].status;
    }
    return rc;
}

static void crowd_add_up(struct crowd *w) {
    w->slowest = -1;
    for (uint32_t i = 0; i < w->n; i++) {
        const struct member *m = &w->shared->members[i];
        double rate = (double)m->bytes / w->seconds;
        w->ops += m->ops;
        w->bytes += m->bytes;
        w->total += rate;
        if (w->slowest < 0 || rate < w->slowest)
            w->slowest = rate;
        yk_hist_merge(&w->hist, &m->hist);
    }
    w->mean = w->total / w->n;
}

static int crowd_run(struct crowd *w) {
    w->shared_bytes = sizeof(*w->shared) + (w->n + 1) * sizeof(struct member);
    w->shared =
        mmap(NULL, w->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w->shared == MAP_FAILED)
        return -YK_ENOMEM;
    int rc = crowd_fork(w);
    while (rc == 0 && __atomic_load_n(&w->shared->ready, __ATOMIC_ACQUIRE) < w->n)
        usleep(1000);
    pid_t pid = w->own != NULL ? w->own->kept.pid : 0;
    double node = yk_process_cpu_s(pid);
    __atomic_store_n(&w->shared->go_ns, yk_now_ns(), __ATOMIC_RELEASE);
    rc = crowd_join(w, rc);
    w->node_s = yk_process_cpu_s(pid) - node;
    if (rc == 0)
        crowd_add_up(w);
    munmap(w->shared, w->shared_bytes);
    return rc;
}

static int crowd_of(struct yk_bench_run *run, struct yk_own *own, struct crowd *w, uint32_t n) {
    memset(w, 0, sizeof(*w));
    w->own = own;
    w->area_fd = -1;
    w->n = n;
    w->min_bytes = 64 * KIB;
    w->max_bytes = MIB;
    w->put_of = 2;
    w->seconds = SECONDS_MORE * run->seconds;
    w->seed = run->seed;
    return 0;
}

/* ---- cases ------------------------------------------------------------------------------------ */

static void copy_row(struct yk_bench_run *run, const char *name, const struct crowd *w) {
    char text[80];
    struct yk_bench_row row = YK_BENCH_ROW(name, "B/s", w->total);
    yk_row_hist(&row, &w->hist);
    yk_bench_report_row(&run->report, &row);
    snprintf(text, sizeof(text), "%s p99 shares", name);
    row = YK_BENCH_ROW(text, "1",
                       (double)yk_hist_percentile(&w->hist, 99) / 1e9 * (double)w->ops /
                           (w->n * w->seconds));
    yk_bench_report_row(&run->report, &row);
}

/* What 2 and 64 processes reach that only copy; ret: all of them, in turn. */
static int copying(struct yk_bench_run *run, uint64_t tier_bytes, struct crowd *ret) {
    static const struct {
        const char *name;
        uint32_t n;
        uint32_t turn;
    } how[] = {{"base memcpy 2 processes", FEW, 0},
               {"base memcpy 64 processes", CROWD, 0},
               {"base memcpy 64 turns of 16", CROWD, 16},
               {"base memcpy 64 turns of 8", CROWD, 8},
               {"base memcpy 64 turns of 4", CROWD, 4},
               {"base memcpy 64 turns of 2", CROWD, 2},
               {"base memcpy 64 processes in turn", CROWD, 1}};
    int fd = memfd_create("yolk-bench", MFD_CLOEXEC);
    if (fd < 0)
        return -YK_EIO;
    int rc = fallocate(fd, 0, 0, (off_t)tier_bytes) < 0 ? -YK_ENOMEM : 0;
    for (size_t i = 0; i < sizeof(how) / sizeof(how[0]) && rc == 0; i++) {
        crowd_of(run, NULL, ret, how[i].n);
        ret->area_fd = fd;
        ret->tier_bytes = tier_bytes;
        ret->turn = how[i].turn;
        rc = crowd_run(ret);
        if (rc == 0)
            copy_row(run, how[i].name, ret);
    }
    close(fd);
    return rc;
}

/* Puts the tier full, so that no page is touched for the first time later. */
static int warm(struct yk_own *own, uint64_t bytes) {
    struct yk_rig_keys keys = {0};
    yk_client *c = NULL;
    void *payload = yk_bench_buffer(MIB);
    int rc = payload == NULL ? -YK_ENOMEM : yk_rig_connect(own->url, 0, &c);
    if (rc == 0)
        rc = yk_rig_keys_make(&keys, UINT64_C(1) << 60, bytes / MIB);
    if (rc == 0)
        rc = yk_rig_fill(c, &keys, 0, keys.n, payload, MIB);
    yk_rig_keys_free(&keys);
    yk_close(c);
    if (payload != NULL)
        munmap(payload, MIB);
    return rc;
}

static int many(struct yk_bench_run *run, struct yk_own *own, const struct crowd *copies) {
    static struct crowd few, all;
    crowd_of(run, own, &few, FEW);
    crowd_of(run, own, &all, CROWD);
    all.seconds *= 2;
    int rc = crowd_run(&few);
    if (rc == 0)
        rc = crowd_run(&all);
    if (rc < 0)
        return rc;
    struct yk_bench_row row = YK_BENCH_ROW("base 2 clients mixed", "B/s", few.total);
    yk_row_hist(&row, &few.hist);
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("64 clients mixed", "B/s", all.total);
    row.limit = few.total;
    yk_row_hist(&row, &all.hist);
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("64 clients mixed slowest", "B/s", all.slowest);
    row.limit = all.mean;
    yk_bench_report_row(&run->report, &row);
    /* The fair share: as long as an operation takes when all take turns. */
    row =
        YK_BENCH_ROW("64 clients mixed p99", "s", (double)yk_hist_percentile(&all.hist, 99) / 1e9);
    row.limit = all.n * all.seconds / (double)all.ops;
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("64 clients mixed of memcpy", "B/s", all.total);
    row.limit = copies->total;
    yk_bench_report_row(&run->report, &row);
    return 0;
}

static int headline(struct yk_bench_run *run, struct yk_own *own) {
    static struct crowd near, far;
    crowd_of(run, own, &near, FIELD);
    crowd_of(run, own, &far, FIELD);
    near.min_bytes = near.max_bytes = far.min_bytes = far.max_bytes = FIELD_BYTES;
    near.put_of = far.put_of = FIELD_PUTS;
    far.flags = YK_OPEN_NO_MAP | YK_OPEN_NO_XFER;
    int rc = crowd_run(&near);
    if (rc == 0)
        rc = crowd_run(&far);
    if (rc < 0)
        return rc;
    struct yk_bench_row row = YK_BENCH_ROW("headline throughput", "B/s", near.total);
    row.limit = far.total;
    yk_row_hist(&row, &near.hist);
    yk_bench_report_row(&run->report, &row);
    row = YK_BENCH_ROW("headline latency", "s", yk_hist_mean(&near.hist) / 1e9);
    row.limit = yk_hist_mean(&far.hist) / 1e9;
    yk_bench_report_row(&run->report, &row);
    return 0;
}

static const char *const many_cases[] = {"base 2 clients mixed",       "64 clients mixed",
                                         "64 clients mixed slowest",   "64 clients mixed p99",
                                         "64 clients mixed of memcpy", NULL};
static const char *const headline_cases[] = {"headline throughput", "headline latency", NULL};

int yk_store_crowd(struct yk_bench_run *run) {
    int want_many = yk_bench_wants(&run->report, many_cases);
    int want_headline = yk_bench_wants(&run->report, headline_cases);
    if (!want_many && !want_headline)
        return 0;
    uint64_t bytes = yk_rig_memory(TIER_BYTES);
    /* Clients hold places ahead: half of the tier may be held. */
    struct yk_own_opts oo = {
        .dram_bytes = bytes + CROWD * 32ull * MIB, .max_clients = CROWD + 8, .reserve_percent = 5};
    struct yk_err err = {0};
    struct yk_own own;
    static struct crowd copies;
    int rc = want_many ? copying(run, oo.dram_bytes, &copies) : 0;
    if (rc == 0) {
        rc = yk_own_start(&oo, &own, &err);
        if (rc < 0)
            fprintf(stderr, "yolk bench: %s\n", err.text);
    }
    if (rc < 0)
        return rc;
    rc = warm(&own, run->opts->quick ? MIB : oo.dram_bytes);
    if (rc == 0 && want_many)
        rc = many(run, &own, &copies);
    if (rc == 0 && want_headline)
        rc = headline(run, &own);
    yk_own_stop(&own, NULL);
    return rc;
}
