/* SPDX-License-Identifier: Apache-2.0
 *
 * Several rails between two hosts, on one machine: two network namespaces with N veth pairs, each held
 * to its rate by a token bucket. The scaled model of a host with N NICs.
 *
 * The namespaces have no names: each belongs to a process (this benchmark's child and its target), and
 * goes with it, links and all, however it ends. Rates are far below what loopback can do, so that the
 * links are the limit and not the processors. The limit is iperf3's, rail by rail, in the same run.
 *
 * `cut` cases keep reads of 64 KiB under way, take one rail away in the middle, by its link or in
 * silence, and give it back; the value is the time until the rate was back, from completions in windows of
 * WINDOW_NS, which is printed. Reads go on while a rail goes: that is a thread's doing, and a link is taken by a
 * system call, not by a program that has to be started first; the time counts from before it. What is under way is
 * little (10 ms of what the rig moves), so that it does not cover a gap.
 *
 * Threads: one; while a rail goes or comes, one more.
 */
#include "bench/xfer_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <jansson.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define RAILS_MAX   16u
#define RAIL_MBIT   400u /* of each; of a quarter of them four times it where they are unequal */
#define IPERF_PORT  5299
#define IPERF_WAIT_S 60 /* beside what it measures */
#define CUT_BYTES   (64 * KIB)
#define CUT_FLYING  64u
#define SAMPLES_MAX 200000u
#define WINDOW_NS   (10 * YK_NS_PER_MS) /* 50 ms are to be judged: some 50 completions with eight rails */

struct rails {
    struct yk_bench_run *run;
    uint32_t count;
    uint32_t mbit[RAILS_MAX];
    pid_t host;             /* holds the other namespace; the target is its child */
    int to_host, from_host; /* pipes */
    struct xfer_target target;
};

/* ---- commands ----------------------------------------------------------------------------------- */

static int command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int command(const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    int rc = system(text);
    if (rc == 0)
        return 0;
    fprintf(stderr, "yolk bench: '%s' failed with %d\n", text, rc);
    return -YK_EIO;
}

static int have(const char *program, const char *package) {
    char text[128];
    snprintf(text, sizeof(text), "command -v %s >/dev/null", program);
    if (system(text) == 0)
        return 0;
    fprintf(stderr, "yolk bench: %s is not installed (package %s)\n", program, package);
    return YK_BENCH_NO_PEER;
}

/* ---- the rig ------------------------------------------------------------------------------------- */

static int shape(const struct rails *r, uint32_t i, const char *in_ns) {
    /* A bucket of 2 ms, and room for 50 ms of what is queued. */
    return command("%s tc qdisc replace dev v%u root tbf rate %umbit burst %ukb limit %ukb", in_ns, i,
                   r->mbit[i], r->mbit[i] / 4 + 16, r->mbit[i] * 6 + 64);
}

static int link_up(const struct rails *r, uint32_t i) {
    char in_ns[64];
    snprintf(in_ns, sizeof(in_ns), "nsenter -t %d -n", (int)r->host);
    int rc = command("ip link add v%u type veth peer name v%u netns %d", i, i, (int)r->host);
    if (rc == 0)
        rc = command("ip addr add 10.77.%u.1/24 dev v%u && ip link set v%u up", i, i, i);
    if (rc == 0)
        rc = command("%s ip addr add 10.77.%u.2/24 dev v%u && %s ip link set v%u up", in_ns, i, i,
                     in_ns, i);
    if (rc == 0)
        rc = shape(r, i, "");
    return rc == 0 ? shape(r, i, in_ns) : rc;
}

/* The process that holds the other namespace: says that it has it, waits for the links, becomes the
 * target. */
static void host_main(struct rails *r, int tell, int hear) {
    char byte = 'x';
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (unshare(CLONE_NEWNET) < 0 || command("ip link set lo up") < 0)
        _exit(1);
    if (write(tell, &byte, 1) != 1 || read(hear, &byte, 1) != 1)
        _exit(1);
    yk_xfer_opts o = {.size = sizeof(o),
                      .transports = YK_XFER_TCP,
                      .listen = "0.0.0.0:0",
                      .insecure_network = 1,
                      .shm_dir = ""};
    struct xfer_target t;
    int rc = xfer_target_start(&t, &o, 0);
    if (rc < 0 || write(tell, t.address, sizeof(t.address)) != (ssize_t)sizeof(t.address))
        _exit(1);
    while (read(hear, &byte, 1) < 0 && errno == EINTR)
        continue;
    xfer_target_stop(&t);
    _exit(0);
}

static int rig_open(struct rails *r) {
    int up[2], down[2];
    char byte;
    if (unshare(CLONE_NEWNET) < 0) {
        fprintf(stderr, "yolk bench: --rails needs root: it makes network namespaces (%s)\n",
                strerror(errno));
        return YK_BENCH_USAGE;
    }
    int rc = command("ip link set lo up");
    if (rc < 0 || pipe(up) < 0 || pipe(down) < 0)
        return -YK_EIO;
    r->host = fork();
    if (r->host == 0) {
        close(up[0]);
        close(down[1]);
        host_main(r, up[1], down[0]);
    }
    close(up[1]);
    close(down[0]);
    r->to_host = down[1];
    r->from_host = up[0];
    if (read(r->from_host, &byte, 1) != 1)
        return -YK_EIO;
    for (uint32_t i = 0; i < r->count && rc == 0; i++)
        rc = link_up(r, i);
    if (rc < 0 || write(r->to_host, "x", 1) != 1)
        return rc < 0 ? rc : -YK_EIO;
    char *a = r->target.address;
    size_t got = 0;
    while (got < sizeof(r->target.address)) {
        ssize_t n = read(r->from_host, a + got, sizeof(r->target.address) - got);
        if (n <= 0)
            return -YK_EGONE;
        got += (size_t)n;
    }
    /* Whatever address it tells: by the first rail. */
    const char *port = strrchr(a, ':');
    snprintf(r->target.where, sizeof(r->target.where), "10.77.0.2%s/bench", port != NULL ? port : "");
    return 0;
}

static void rig_close(struct rails *r) {
    if (r->to_host > 0)
        close(r->to_host);
    while (r->host > 0 && waitpid(r->host, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (r->from_host > 0)
        close(r->from_host);
}

/* ---- limits -------------------------------------------------------------------------------------- */

/* iperf3 over one rail, from the target to here. */
static int iperf(const struct rails *r, uint32_t i, double seconds, double *ret_rate) {
    char text[256];
    /* It waits for its client, who may have been killed: a namespace lasts as long as somebody is in it. */
    int rc = command("timeout %d nsenter -t %d -n iperf3 -s -1 -B 10.77.%u.2 -p %d >/dev/null &",
                     (int)seconds + IPERF_WAIT_S, (int)r->host, i, IPERF_PORT);
    if (rc < 0)
        return rc;
    snprintf(text, sizeof(text), "iperf3 -c 10.77.%u.2 -p %d -R -t %.1f -J --connect-timeout 2000", i,
             IPERF_PORT, seconds < 1 ? 1.0 : seconds);
    json_t *root = NULL;
    for (int tries = 0; tries < 20 && root == NULL; tries++) { /* until it listens */
        usleep(50000);
        FILE *f = popen(text, "r");
        root = f != NULL ? json_loadf(f, 0, NULL) : NULL;
        if (f != NULL && pclose(f) != 0 && root != NULL) {
            json_decref(root);
            root = NULL;
        }
    }
    json_t *end = json_object_get(root, "end");
    json_t *sum = json_object_get(end, "sum_received");
    *ret_rate = json_number_value(json_object_get(sum, "bits_per_second")) / 8;
    json_decref(root);
    return *ret_rate > 0 ? 0 : -YK_EIO;
}

/* All rails, one after the other. */
static int iperf_sum(const struct rails *r, double *ret_sum, double *ret_first) {
    *ret_sum = *ret_first = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        double rate;
        int rc = iperf(r, i, r->run->seconds / r->count, &rate);
        if (rc < 0)
            return rc;
        *ret_sum += rate;
        if (i == 0)
            *ret_first = rate;
    }
    return 0;
}

/* ---- equal, unequal -------------------------------------------------------------------------------- */

static const yk_xfer_opts side_opts = {.size = sizeof(yk_xfer_opts),
                                       .transports = YK_XFER_TCP,
                                       .insecure_network = 1,
                                       .shm_dir = ""};

static int spread(struct rails *r, const char *name) {
    static struct yk_series s;
    struct xfer_side side;
    double sum = 0, first = 0;
    int rc = iperf_sum(r, &sum, &first);
    if (rc == 0)
        rc = xfer_side_open(&side, &side_opts, r->target.where);
    if (rc < 0)
        return rc;
    struct xfer_load load = {.side = &side,
                             .op = YK_XFER_READ,
                             .xclass = YK_XFER_DEMAND,
                             .bytes = 16 * MIB,
                             .batch = 4,
                             .deep = 2,
                             .threads = 1};
    memset(&s, 0, sizeof(s));
    s.many = xfer_load_many;
    s.arg = &load;
    s.per_round = 32;
    s.weight = (double)load.bytes;
    struct yk_series *one[] = {&s};
    rc = yk_measure(one, 1, r->run->seconds * 2);
    xfer_side_close(&side);
    if (rc < 0)
        return rc;
    struct yk_bench_row row = YK_BENCH_ROW("base one-connection", "B/s", first);
    yk_bench_report_row(&r->run->report, &row);
    row = YK_BENCH_ROW(name, "B/s", s.rate);
    row.limit = sum;
    row.cpu_s = s.cpu_s;
    yk_bench_report_row(&r->run->report, &row);
    char text[64];
    snprintf(text, sizeof(text), "base %s of one connection", name);
    row = YK_BENCH_ROW(text, "1", s.rate / first);
    yk_bench_report_row(&r->run->report, &row);
    return 0;
}

static int unequal(struct rails *r) {
    static const uint32_t shares[] = {1, 1, 2, 4};
    char in_ns[64];
    snprintf(in_ns, sizeof(in_ns), "nsenter -t %d -n", (int)r->host);
    int rc = 0;
    for (uint32_t i = 0; i < r->count && rc == 0; i++) {
        r->mbit[i] = RAIL_MBIT / 2 * shares[i % 4];
        rc = shape(r, i, "");
        if (rc == 0)
            rc = shape(r, i, in_ns);
    }
    if (rc == 0)
        rc = spread(r, "rails unequal");
    for (uint32_t i = 0; i < r->count && rc == 0; i++) {
        r->mbit[i] = RAIL_MBIT;
        rc = shape(r, i, "");
        if (rc == 0)
            rc = shape(r, i, in_ns);
    }
    return rc;
}

/* ---- a rail goes and comes back ---------------------------------------------------------------------- */

struct cut {
    struct xfer_side side;
    uint64_t *done_ns; /* of each completion */
    uint32_t n, failed;
    uint64_t next;
};

static int cut_submit(struct cut *c) {
    uint64_t offset = c->next++ % (XFER_FOOTPRINT / CUT_BYTES) * CUT_BYTES;
    yk_xfer_request q = {.op = YK_XFER_READ,
                         .local = c->side.memory + offset,
                         .segment = c->side.segment,
                         .offset = offset,
                         .length = CUT_BYTES};
    yk_xfer_submit_opts so = {
        .size = sizeof(so), .xclass = YK_XFER_DEMAND, .flags = YK_XFER_EVENT};
    yk_xfer_batch b;
    return yk_xfer_submit(c->side.engine, &q, 1, &so, &b);
}

/* Completions until `until_ns`; each is followed by the next read while `more`. */
static int cut_run(struct cut *c, uint64_t until_ns, int more) {
    yk_xfer_completion done[32];
    for (uint64_t now = yk_now_ns(); now < until_ns; now = yk_now_ns()) {
        int n = yk_xfer_poll(c->side.engine, done, 32, 2);
        if (n < 0)
            return n;
        now = yk_now_ns();
        for (int i = 0; i < n; i++) {
            c->failed += done[i].status != 0;
            yk_xfer_batch_free(c->side.engine, done[i].batch);
            if (c->n < SAMPLES_MAX)
                c->done_ns[c->n++] = now;
            int rc = more ? cut_submit(c) : 0;
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* How many were completed before; they are in order. */
static uint32_t done_before(const struct cut *c, uint64_t ns) {
    uint32_t low = 0, high = c->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (c->done_ns[mid] < ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Bytes a second that were completed in [from, from + window). */
static double rate_at(const struct cut *c, uint64_t from, uint64_t window) {
    uint32_t n = done_before(c, from + window) - done_before(c, from);
    return (double)n * (double)CUT_BYTES / ((double)window / 1e9);
}

#define LONG_NS (400 * YK_NS_PER_MS) /* over which the rate is what was wanted: a gap of 20 ms in it is too much, */
                                     /* and its first WINDOW_NS, which must be most of it: no gap stands in there */

/* When the rate was `wanted` again, and stayed so for a while: what was under way when a rail went may
 * hide a gap that comes a moment later. NAN: it never was. */
static double back_after(const struct cut *c, uint64_t from, uint64_t to, double wanted) {
    for (uint64_t at = from; at + LONG_NS <= to; at += YK_NS_PER_MS)
        if (rate_at(c, at, LONG_NS) >= wanted && rate_at(c, at, WINDOW_NS) >= 0.8 * wanted)
            return (double)(at - from) / 1e9;
    return NAN;
}

/* What the worst window had of the mean, where nothing was cut: near to 0 the machine itself makes gaps, and no short
 * time can be judged. */
static double least_before(const struct cut *c, uint64_t from, uint64_t to) {
    double mean = rate_at(c, from, to - from), least = 1;
    for (uint64_t at = from; at + WINDOW_NS <= to; at += WINDOW_NS) {
        double part = rate_at(c, at, WINDOW_NS) / mean;
        least = part < least ? part : least;
    }
    return least;
}

static int set_link(uint32_t i, int up) {
    struct ifreq q = {.ifr_flags = 0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = -1;
    snprintf(q.ifr_name, sizeof(q.ifr_name), "v%u", i);
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &q) == 0) {
        q.ifr_flags = (short)(up ? q.ifr_flags | IFF_UP : q.ifr_flags & ~IFF_UP);
        rc = ioctl(fd, SIOCSIFFLAGS, &q);
    }
    if (rc < 0)
        fprintf(stderr, "yolk bench: link v%u: %s\n", i, strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc == 0 ? 0 : -YK_EIO;
}

static int take_away(const struct rails *r, uint32_t i, int silent) {
    if (!silent)
        return set_link(i, 0);
    return command("tc qdisc replace dev v%u root blackhole && nsenter -t %d -n tc qdisc replace dev "
                   "v%u root blackhole",
                   i, (int)r->host, i);
}

static int give_back(const struct rails *r, uint32_t i, int silent) {
    char in_ns[64];
    if (!silent)
        return set_link(i, 1);
    snprintf(in_ns, sizeof(in_ns), "nsenter -t %d -n", (int)r->host);
    int rc = shape(r, i, "");
    return rc == 0 ? shape(r, i, in_ns) : rc;
}

/* Beside the reads. */
struct change {
    const struct rails *rails;
    int (*fn)(const struct rails *r, uint32_t i, int silent);
    int silent, rc;
};

static void *change_main(void *arg) {
    struct change *x = arg;
    x->rc = x->fn(x->rails, x->rails->count / 2, x->silent);
    return NULL;
}

/* Reads until `ns` after a rail went or came; *ret_at: just before it did. */
static int cut_through(struct cut *c, struct change *x, uint64_t ns, uint64_t *ret_at) {
    pthread_t thread;
    *ret_at = yk_now_ns();
    if (pthread_create(&thread, NULL, change_main, x) != 0)
        return -YK_ELIMIT;
    int rc = cut_run(c, *ret_at + ns, 1);
    pthread_join(thread, NULL);
    return rc == 0 ? x->rc : rc;
}

static void cut_rows(struct rails *r, const struct cut *c, const char *name, int silent,
                     const uint64_t t[4]) {
    char text[80];
    double part = (double)(r->count - 1) / r->count;
    double before = rate_at(c, t[0], t[1] - t[0]);
    struct yk_bench_row row = YK_BENCH_ROW("base rate before the cut", "B/s", before);
    yk_bench_report_row(&r->run->report, &row);
    row = YK_BENCH_ROW(name, "s", back_after(c, t[1], t[2], 0.95 * part * before));
    row.limit = silent ? 0.5 : 0.05;
    yk_bench_report_row(&r->run->report, &row);
    snprintf(text, sizeof(text), "%s repaired", name);
    row = YK_BENCH_ROW(text, "s", back_after(c, t[2], t[3], 0.95 * before));
    row.limit = 1;
    yk_bench_report_row(&r->run->report, &row);
    snprintf(text, sizeof(text), "base %s window", name);
    row = YK_BENCH_ROW(text, "s", WINDOW_NS / 1e9);
    yk_bench_report_row(&r->run->report, &row);
    snprintf(text, sizeof(text), "base %s least window before", name);
    row = YK_BENCH_ROW(text, "1", least_before(c, t[0], t[1]));
    yk_bench_report_row(&r->run->report, &row);
    snprintf(text, sizeof(text), "base %s failed requests", name);
    row = YK_BENCH_ROW(text, "1", c->failed);
    yk_bench_report_row(&r->run->report, &row);
}

static int cut(struct rails *r, const char *name, int silent) {
    struct cut c = {0};
    uint64_t t[4];
    int rc = xfer_side_open(&c.side, &side_opts, r->target.where);
    if (rc < 0)
        return rc;
    c.done_ns = calloc(SAMPLES_MAX, sizeof(*c.done_ns));
    rc = c.done_ns != NULL ? 0 : -YK_ENOMEM;
    for (uint32_t i = 0; i < CUT_FLYING && rc == 0; i++)
        rc = cut_submit(&c);
    if (rc == 0)
        rc = cut_run(&c, yk_now_ns() + YK_NS_PER_S, 1);
    t[0] = yk_now_ns();
    if (rc == 0)
        rc = cut_run(&c, t[0] + YK_NS_PER_S, 1);
    struct change away = {r, take_away, silent, 0}, back = {r, give_back, silent, 0};
    if (rc == 0)
        rc = cut_through(&c, &away, 2 * YK_NS_PER_S, &t[1]);
    if (rc == 0)
        rc = cut_through(&c, &back, 2 * YK_NS_PER_S, &t[2]);
    t[3] = yk_now_ns();
    if (rc == 0)
        cut_rows(r, &c, name, silent, t);
    if (rc == 0 && c.failed > 0) {
        fprintf(stderr, "yolk bench: %u requests failed as one rail of %u was cut\n", c.failed,
                r->count);
        rc = -YK_EIO;
    }
    xfer_side_close(&c.side);
    free(c.done_ns);
    return rc;
}

/* ---- the group ---------------------------------------------------------------------------------------- */

static int wants(struct yk_bench_run *run, const char *name) {
    return yk_bench_wants(&run->report, (const char *const[]){name, NULL});
}

static int rails_child(struct yk_bench_run *run, uint32_t count) {
    struct rails r = {.run = run, .count = count};
    for (uint32_t i = 0; i < count; i++)
        r.mbit[i] = RAIL_MBIT;
    int rc = rig_open(&r);
    if (rc == 0 && wants(run, "rails equal"))
        rc = spread(&r, "rails equal");
    if (rc == 0 && wants(run, "rails unequal"))
        rc = unequal(&r);
    if (rc == 0 && wants(run, "cut link"))
        rc = cut(&r, "cut link", 0);
    if (rc == 0 && wants(run, "cut silent"))
        rc = cut(&r, "cut silent", 1);
    rig_close(&r);
    return rc;
}

/* In a child: this process stays in its own namespace. */
int xfer_rails(struct yk_bench_run *run, uint32_t rails) {
    int status, rc = have("ip", "iproute2");
    if (rc == 0 && (wants(run, "rails equal") || wants(run, "rails unequal")))
        rc = have("iperf3", "iperf3");
    if (rc == 0)
        rc = have("nsenter", "util-linux");
    if (rc != 0)
        return rc;
    if (rails < 2 || rails > RAILS_MAX) {
        fprintf(stderr, "yolk bench: found --rails %u, expected 2 to %u\n", rails, RAILS_MAX);
        return YK_BENCH_USAGE;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return -YK_EIO;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        rc = rails_child(run, rails);
        fflush(NULL);
        _exit(rc == 0 ? 0 : rc == YK_BENCH_USAGE ? 2 : 1);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 1)
        return -YK_EIO;
    run->report.matched++; /* its rows were the child's */
    return WEXITSTATUS(status) == 2 ? YK_BENCH_USAGE : 0;
}
