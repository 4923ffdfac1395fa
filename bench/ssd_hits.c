/* SPDX-License-Identifier: Apache-2.0
 *
 * Hits in DRAM while demotion and reads keep the SSD busy.
 *
 * This process gets hot blocks of 64 KiB at a steady pace (an engine asks at its own speed; a loop
 * without a pause would measure the scheduler's shares instead). Another one puts new blocks of 1 MiB and
 * gets old ones, as many at a time as saturate the device, in every second turn. The percentile is the
 * median of those of the turns.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOT_BLOCKS 64u
#define HOT_BYTES  (64 * KIB)
#define HOT_FIRST  (UINT64_C(1) << 40)
#define PACE_NS    (500 * YK_NS_PER_US)
#define LOAD_PUTS  16u
#define LOAD_GETS  16u
#define STEP_NS    (20 * YK_NS_PER_MS) /* of the load, between two looks at what it should do */
#define LOOK_US    1000u
#define READY_NS   (120 * YK_NS_PER_S)

enum want { REST, RUN };
enum is { FILLING, RESTING, RUNNING, FAILED };

struct load {
    uint32_t want; /* atomic; the parent's */
    uint32_t is;   /* atomic; the load's */
};

struct hits {
    struct ssd_bench *b;
    struct ssd_node node;
    struct load *load;
    pid_t pid;
    unsigned char *buf;
    uint64_t random, slow; /* slow: not from DRAM, or not there */
    double idle[TURNS_MAX], beside[TURNS_MAX], written[TURNS_MAX], read[TURNS_MAX];
    struct yk_hist idle_all, beside_all, turn;
};

/* ---- the load's process ----------------------------------------------------------------------------- */

static uint32_t look(const uint32_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void say(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static int load_fill(struct hits *h, struct ssd_flow *f) {
    uint64_t want = h->b->size + h->b->dram;
    int rc = ssd_flow_run(f, UINT64_MAX, want);
    f->near = h->b->dram / f->bytes * 5u / 4u; /* younger ones may be in DRAM */
    f->far = f->near + h->b->size / f->bytes / 2u;
    return rc < 0 ? rc : ssd_flow_drain(f);
}

static int load_loop(struct hits *h, struct ssd_flow *f) {
    int rc = 0;
    while (rc == 0) {
        if (look(&h->load->want) == RUN) {
            f->gets = LOAD_GETS;
            rc = ssd_flow_run(f, yk_now_ns() + STEP_NS, 0);
            say(&h->load->is, RUNNING);
        } else {
            rc = ssd_flow_drain(f);
            say(&h->load->is, RESTING);
            usleep(LOOK_US);
        }
    }
    return rc;
}

static void load_main(struct hits *h, pid_t parent) {
    static struct ssd_flow f;
    yk_client *c = NULL;
    char url[sizeof(h->node.rig.own.url)];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    memcpy(url, h->node.rig.own.url, sizeof(url));
    yk_own_forget(&h->node.rig.own);
    int rc = yk_rig_connect(url, 0, &c);
    if (rc == 0)
        rc = ssd_flow_open(&f, c, MIB, LOAD_PUTS, 0);
    if (rc == 0)
        rc = load_fill(h, &f);
    if (rc == 0)
        rc = load_loop(h, &f);
    say(&h->load->is, FAILED);
    _exit(1);
}

/* ---- ours ------------------------------------------------------------------------------------------- */

static int load_start(struct hits *h) {
    pid_t parent = getpid();
    h->load =
        mmap(NULL, sizeof(*h->load), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (h->load == MAP_FAILED) {
        h->load = NULL;
        return -YK_ENOMEM;
    }
    h->pid = fork();
    if (h->pid == 0)
        load_main(h, parent);
    return h->pid < 0 ? -YK_EIO : 0;
}

static void load_end(struct hits *h) {
    if (h->pid > 0) {
        kill(h->pid, SIGKILL);
        while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    if (h->load != NULL)
        munmap(h->load, sizeof(*h->load));
}

static int load_until(struct hits *h, uint32_t is) {
    uint64_t end = yk_now_ns() + READY_NS;
    while (look(&h->load->is) != is) {
        if (look(&h->load->is) == FAILED)
            return -YK_EINTERNAL; /* it has said why */
        if (yk_now_ns() > end || waitpid(h->pid, NULL, WNOHANG) == h->pid) {
            fputs("yolk bench: the load beside DRAM hits ended, or hangs\n", stderr);
            return -YK_ETIMEDOUT;
        }
        usleep(LOOK_US);
    }
    return 0;
}

static yk_key hot_key(uint64_t i, char text[YK_RIG_KEY_BYTES]) {
    yk_rig_key(HOT_FIRST + i, text);
    return (yk_key){text, YK_RIG_KEY_BYTES};
}

static int hot_put(struct hits *h) {
    char text[YK_RIG_KEY_BYTES];
    int rc = 0;
    for (uint64_t i = 0; i < HOT_BLOCKS && rc == 0; i++) {
        rc = yk_put(h->node.rig.client, hot_key(i, text), h->buf, HOT_BYTES, NULL);
        if (rc < 0)
            return yk_rig_failed(h->node.rig.client, "put", rc);
    }
    return 0;
}

static int hot_get(struct hits *h) {
    char text[YK_RIG_KEY_BYTES];
    size_t len;
    yk_key key = hot_key(yk_random_below(&h->random, HOT_BLOCKS), text);
    uint64_t start = yk_now_ns();
    int rc = yk_get(h->node.rig.client, key, h->buf, HOT_BYTES, &len);
    yk_hist_record(&h->turn, yk_now_ns() - start);
    h->slow += rc == YK_MISS;
    return rc < 0 ? yk_rig_failed(h->node.rig.client, "get", rc) : 0;
}

static int gets(struct hits *h, double seconds) {
    uint64_t at = yk_now_ns(), end = at + (uint64_t)(seconds * 1e9);
    int rc = 0;
    while (rc == 0 && at < end) {
        struct timespec ts = {(time_t)(at / YK_NS_PER_S), (long)(at % YK_NS_PER_S)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
            continue;
        rc = hot_get(h);
        at = yk_now_ns() > at + PACE_NS ? yk_now_ns() + PACE_NS : at + PACE_NS;
    }
    return rc;
}

static int idle_turn(struct hits *h, uint32_t i) {
    say(&h->load->want, REST);
    int rc = load_until(h, RESTING);
    if (rc == 0)
        rc = ssd_node_idle(&h->node);
    if (rc == 0)
        rc = gets(h, h->b->ramp_s);
    yk_hist_reset(&h->turn);
    if (rc == 0)
        rc = gets(h, h->b->turn_s / 2);
    h->idle[i] = (double)yk_hist_percentile(&h->turn, 99) / 1e9;
    yk_hist_merge(&h->idle_all, &h->turn);
    return rc;
}

static int beside_turn(struct hits *h, uint32_t i) {
    struct ssd_snap from, to;
    say(&h->load->want, RUN);
    int rc = load_until(h, RUNNING);
    if (rc == 0)
        rc = gets(h, h->b->ramp_s);
    yk_hist_reset(&h->turn);
    if (rc == 0)
        rc = ssd_node_snap(&h->node, &from);
    if (rc == 0)
        rc = gets(h, h->b->turn_s / 2);
    if (rc == 0)
        rc = ssd_node_snap(&h->node, &to);
    if (rc < 0)
        return rc;
    double s = (double)(to.now_ns - from.now_ns) / 1e9;
    h->written[i] = (double)(to.ssd.put_bytes - from.ssd.put_bytes) / s;
    h->read[i] = (double)(to.ssd.read_bytes - from.ssd.read_bytes) / s;
    h->beside[i] = (double)yk_hist_percentile(&h->turn, 99) / 1e9;
    yk_hist_merge(&h->beside_all, &h->turn);
    return 0;
}

static void rows(struct hits *h) {
    struct yk_bench_report *report = &h->b->run.report;
    uint32_t n = h->b->turns;
    struct yk_bench_row r =
        YK_BENCH_ROW("base ssd write beside dram hits", "B/s", yk_bench_median(h->written, n));
    yk_bench_report_row(report, &r);
    r = YK_BENCH_ROW("base ssd read beside dram hits", "B/s", yk_bench_median(h->read, n));
    yk_bench_report_row(report, &r);
    double idle = yk_bench_median(h->idle, n);
    r = YK_BENCH_ROW("dram hit p99 idle", "s", idle);
    yk_row_hist(&r, &h->idle_all);
    yk_bench_report_row(report, &r);
    r = YK_BENCH_ROW("dram hit p99 beside ssd", "s", yk_bench_median(h->beside, n));
    r.limit = idle;
    yk_row_hist(&r, &h->beside_all);
    yk_bench_report_row(report, &r);
    if (h->slow != 0)
        fprintf(stderr, "yolk bench ssd: %llu hot blocks were not there\n",
                (unsigned long long)h->slow);
}

int ssd_hits(struct ssd_bench *b) {
    static struct hits h;
    struct ssd_node_opts no = {.block_bytes = HOT_BYTES};
    memset(&h, 0, sizeof(h));
    h.b = b;
    h.random = b->run.seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    h.buf = yk_bench_buffer(HOT_BYTES);
    ssd_progress(b, "dram hits: filling");
    int rc = h.buf == NULL ? -YK_ENOMEM : ssd_node_open(b, &no, &h.node);
    if (rc < 0)
        return rc;
    rc = load_start(&h);
    if (rc == 0)
        rc = load_until(&h, RESTING);
    yk_own_hide(&h.node.rig.own);
    if (rc == 0)
        rc = hot_put(&h);
    for (uint32_t i = 0; i < b->turns && rc == 0; i++) {
        ssd_progress(b, "dram hits, turn %u of %u", i + 1u, b->turns);
        rc = idle_turn(&h, i);
        if (rc == 0)
            rc = beside_turn(&h, i);
    }
    if (rc == 0)
        rows(&h);
    load_end(&h);
    ssd_node_close(&h.node);
    munmap(h.buf, HOT_BYTES);
    return rc;
}
