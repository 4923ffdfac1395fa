/* SPDX-License-Identifier: Apache-2.0
 *
 * RDMA beside perftest: reads and writes of 64 KiB and 1 MiB, and the latency of single reads of 4 KiB, for each
 * pair of devices of this host, and over all of them at once.
 *
 * A pair is two devices that reach each other, or one that is both ends: --pair names their addresses, else devices in
 * one subnet are paired. Engine and perftest (ib_write_bw, ib_read_bw, ib_read_lat) take turns of as many bytes each, TURNS
 * times, since emulated devices and their hosts change from second to second; medians are compared. How many bytes a turn
 * has is found out by the engine's rate, so that it lasts about as long on every device.
 *
 * A write of the engine is a read by its target, and answered when that has ended (record 0019); perftest's is complete when
 * the other device says that it has it. Both are what a user of them waits for. perftest moves one buffer again and
 * again, which the caches hold; the engine goes through its memory.
 *
 * Beside the rates: core-seconds a GB of each end, and what a slice took of work requests and doorbells (the transport's
 * counters). On emulated devices the first is the kernel's emulation, mostly.
 *
 * perftest is run by the shell, each program under `timeout`: none is left behind for long if this ends early.
 *
 * Threads: one.
 */
#include "bench/xfer_priv.h"

#include "base/clock.h"
#include "xfer/rdma/rdma.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAIRS_MAX   16u
#define ADDRESSES   64u
#define TURNS       5u
#define TURN_MIN    (8 * MIB)
#define TURN_MAX    (64ull << 30)
#define PORT        18515u /* perftest's own default, and those behind it */
#define PROGRAM_S   120
#define LISTEN_MS   60000u
#define TRIES       5
#define SPIN_US     200u
#define TARGET_BW   0.7    /* of perftest's rate */
#define TARGET_LAT  2.0    /* times perftest's */

struct pair {
    struct yk_rdma_address here, there;
};

struct rig {
    struct yk_bench_run *run;
    const struct pair *pairs; /* of this case: one, or all */
    uint32_t count;
    char label[80];   /* "rxe0a", "2 devices" */
    int perftest;     /* it is there */
    uint32_t turns;
    struct xfer_target target;
    struct xfer_side side;
};

/* ---- pairs ---------------------------------------------------------------------------------------- */

static int same_subnet(const struct yk_rdma_address *a, const struct yk_rdma_address *b) {
    unsigned char x[16], y[16], mask[16];
    int family = strchr(a->host, ':') != NULL ? AF_INET6 : AF_INET;
    if (inet_pton(family, a->host, x) != 1 || inet_pton(family, b->host, y) != 1 ||
        inet_pton(family, a->mask, mask) != 1)
        return 0;
    for (int i = 0; i < (family == AF_INET6 ? 16 : 4); i++)
        if ((x[i] & mask[i]) != (y[i] & mask[i]))
            return 0;
    return 1;
}

static int is_used(const struct pair *pairs, uint32_t n, const char *device) {
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(pairs[i].here.device, device) == 0 || strcmp(pairs[i].there.device, device) == 0)
            return 1;
    return 0;
}

/* Each device once, with another in its subnet; without any such the first with itself. */
static uint32_t pairs_found(const struct yk_rdma_address *a, uint32_t n, struct pair *ret_pairs) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = i + 1; k < n && count < PAIRS_MAX && !is_used(ret_pairs, count, a[i].device); k++)
            if (strcmp(a[i].device, a[k].device) != 0 && !is_used(ret_pairs, count, a[k].device) &&
                same_subnet(&a[i], &a[k]))
                ret_pairs[count++] = (struct pair){a[i], a[k]};
    if (count == 0 && n > 0)
        ret_pairs[count++] = (struct pair){a[0], a[0]};
    return count;
}

static const struct yk_rdma_address *address_of(const struct yk_rdma_address *a, uint32_t n, const char *host) {
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(a[i].host, host) == 0)
            return &a[i];
    fprintf(stderr, "yolk bench: no active RDMA port has the address %s (yolk topo shows them)\n", host);
    return NULL;
}

/* "HERE=THERE", as --pair has it. */
static int pair_named(const char *text, const struct yk_rdma_address *a, uint32_t n, struct pair *ret_pair) {
    char here[64];
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text || (size_t)(equals - text) >= sizeof(here)) {
        fprintf(stderr, "yolk bench: found --pair %s, expected two addresses of RDMA devices, 10.0.0.1=10.0.0.2\n", text);
        return YK_BENCH_USAGE;
    }
    snprintf(here, sizeof(here), "%.*s", (int)(equals - text), text);
    const struct yk_rdma_address *one = address_of(a, n, here), *two = address_of(a, n, equals + 1);
    if (one == NULL || two == NULL)
        return YK_BENCH_USAGE;
    *ret_pair = (struct pair){*one, *two};
    return 0;
}

static int pairs_of(const struct yk_bench_opts *o, struct pair *ret_pairs, uint32_t *ret_count) {
    struct yk_rdma_address addresses[ADDRESSES];
    uint32_t n = yk_rdma_addresses(addresses, ADDRESSES);
    if (o->n_pairs > PAIRS_MAX) {
        fprintf(stderr, "yolk bench: found %zu times --pair, expected at most %u\n", o->n_pairs, PAIRS_MAX);
        return YK_BENCH_USAGE;
    }
    for (size_t i = 0; i < o->n_pairs; i++) {
        int rc = pair_named(o->pairs[i], addresses, n, &ret_pairs[i]);
        if (rc != 0)
            return rc;
    }
    *ret_count = o->n_pairs > 0 ? (uint32_t)o->n_pairs : pairs_found(addresses, n, ret_pairs);
    return 0;
}

/* ---- perftest ---------------------------------------------------------------------------------------- */

/* Whether somebody listens at the TCP port. */
static int listens(uint32_t port) {
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    char line[256];
    int found = 0;
    for (size_t i = 0; i < 2 && !found; i++) {
        FILE *f = fopen(tables[i], "re");
        unsigned at, state;
        while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
            found = sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &at, &state) == 2 && at == port &&
                    state == 0x0a;
        if (f != NULL)
            fclose(f);
    }
    return found;
}

/* The numbers of the line that begins with the size and how often: what perftest's table has below its head. */
static int numbers_of(FILE *f, uint64_t bytes, double *ret_numbers, uint32_t cap) {
    char line[512];
    int n = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        char *at = line, *end;
        uint32_t got = 0;
        for (double v = strtod(at, &end); end != at && got < cap; v = strtod(at, &end)) {
            ret_numbers[got++] = v;
            at = end;
        }
        if (got >= 5 && ret_numbers[0] == (double)bytes)
            n = (int)got;
        if (n > 0)
            break;
    }
    while (fgets(line, sizeof(line), f) != NULL) /* it must not die of a closed pipe */
        continue;
    return n;
}

/* Both ends of a perftest program, over one pair. */
static int perftest(const struct pair *p, const char *program, uint64_t bytes, uint64_t count, double *ret_numbers,
                    uint32_t cap) {
    static uint32_t runs;
    uint32_t port = PORT + runs++ % 64; /* its last may be in TIME_WAIT */
    char text[400];
    snprintf(text, sizeof(text), "timeout %d %s -F -d %s -i %u -x %u -s %llu -n %llu -p %u >/dev/null 2>&1 &", PROGRAM_S,
             program, p->there.device, p->there.port, p->there.gid_index, (unsigned long long)bytes,
             (unsigned long long)count, port);
    if (system(text) != 0)
        return -YK_EIO;
    uint64_t until = yk_now_ns() + LISTEN_MS * YK_NS_PER_MS;
    while (!listens(port) && yk_now_ns() < until)
        usleep(20000);
    snprintf(text, sizeof(text), "timeout %d %s -F -d %s -i %u -x %u -s %llu -n %llu -p %u %s 2>&1", PROGRAM_S, program,
             p->here.device, p->here.port, p->here.gid_index, (unsigned long long)bytes, (unsigned long long)count, port,
             p->there.host);
    FILE *f = popen(text, "r");
    int n = f != NULL ? numbers_of(f, bytes, ret_numbers, cap) : 0;
    if (f != NULL)
        pclose(f);
    if (n >= 5)
        return 0;
    fprintf(stderr, "yolk bench: '%s' has no figure\n", text);
    return -YK_EIO;
}

/* A column of it. Where the processor's clock is not steady (emulation) perftest now and then takes one that is none,
 * and its figure is 0: it is asked again. */
static int perftest_column(const struct pair *p, const char *program, uint64_t bytes, uint64_t count, uint32_t column,
                           double *ret_value) {
    double v[12] = {0};
    int rc = 0;
    for (int i = 0; i < TRIES && rc == 0 && !(v[column] > 0); i++)
        rc = perftest(p, program, bytes, count, v, 12);
    if (rc == 0 && !(v[column] > 0)) {
        fprintf(stderr, "yolk bench: %s says 0 again and again\n", program);
        return -YK_EIO;
    }
    *ret_value = v[column];
    return rc;
}

/* B/s: columns size, iterations, peak, average, messages; in MiB. */
static int perftest_rate(const struct pair *p, uint32_t op, uint64_t bytes, uint64_t count, double *ret_rate) {
    double mib = 0;
    int rc = perftest_column(p, op == YK_XFER_READ ? "ib_read_bw" : "ib_write_bw", bytes, count, 3, &mib);
    *ret_rate = mib * (double)MIB;
    return rc;
}

/* Seconds: columns size, iterations, least, most, typical (the median), and more. */
static int perftest_latency(const struct pair *p, uint64_t bytes, uint64_t count, double *ret_s) {
    double us = 0;
    int rc = perftest_column(p, "ib_read_lat", bytes, count, 4, &us);
    *ret_s = us / 1e6;
    return rc;
}

static int perftest_is_there(void) {
    if (system("command -v ib_read_bw >/dev/null && command -v ib_write_bw >/dev/null && "
               "command -v ib_read_lat >/dev/null") == 0)
        return 1;
    fprintf(stderr, "yolk bench: ib_read_bw, ib_write_bw or ib_read_lat is not installed (package perftest): rdma's rows "
                    "are without a limit\n");
    return 0;
}

/* ---- the two engines ------------------------------------------------------------------------------------- */

/* "device=rxe0a:1,device=rxe1a:1" */
static void devices_text(const struct rig *r, int here, char *text, size_t cap) {
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < r->count && n < cap; i++) {
        const struct yk_rdma_address *a = here ? &r->pairs[i].here : &r->pairs[i].there;
        n += (size_t)snprintf(text + n, cap - n, "%sdevice=%s:%u", i > 0 ? "," : "", a->device, a->port);
    }
}

static int rig_open(struct rig *r, uint32_t poll_us) {
    char here[1024], there[1024], listen_at[80];
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_RDMA, .insecure_network = 1, .shm_dir = "",
                      .poll_us = poll_us, .connect_ms = 30000, .stall_ms = 5000};
    yk_xfer_opts to = o;
    const char *host = r->pairs[0].there.host;
    devices_text(r, 1, here, sizeof(here));
    devices_text(r, 0, there, sizeof(there));
    snprintf(listen_at, sizeof(listen_at), strchr(host, ':') != NULL ? "[%s]:0" : "%s:0", host);
    to.listen = r->count > 1 ? "0.0.0.0:0" : listen_at; /* of all addresses those of these devices are marked */
    to.rdma = there;
    o.rdma = here;
    int rc = xfer_target_start(&r->target, &to, 0);
    if (rc == 0)
        rc = xfer_side_open(&r->side, &o, r->target.where);
    if (rc < 0)
        xfer_target_stop(&r->target);
    return rc;
}

static void rig_close(struct rig *r) {
    xfer_side_close(&r->side);
    xfer_target_stop(&r->target);
}

/* What the initiator's devices were told, all together, and the slices of its rails. */
struct counts {
    double requests, doorbells, slices;
};

static int counts_of(struct rig *r, struct counts *ret_counts) {
    const json_t *device, *shard, *peer, *rail;
    size_t i, k, l;
    char *text = NULL;
    int rc = yk_xfer_links_json(r->side.engine, &text);
    json_t *root = rc == 0 ? json_loads(text, 0, NULL) : NULL;
    *ret_counts = (struct counts){0};
    json_array_foreach(json_object_get(root, "devices"), i, device) {
        ret_counts->requests += json_number_value(json_object_get(device, "requests"));
        ret_counts->doorbells += json_number_value(json_object_get(device, "doorbells"));
    }
    json_array_foreach(json_object_get(root, "shards"), i, shard)
        json_array_foreach(json_object_get(shard, "peers"), k, peer)
            json_array_foreach(json_object_get(peer, "rails"), l, rail)
                ret_counts->slices += json_number_value(json_object_get(rail, "slices"));
    json_decref(root);
    free(text);
    return rc;
}

/* ---- rates ------------------------------------------------------------------------------------------------ */

static const struct {
    uint32_t op;
    uint64_t bytes;
    uint32_t batch;
    const char *name;
} rates[] = {
    {YK_XFER_READ, 64 * KIB, 64, "read 64KiB"},
    {YK_XFER_READ, MIB, 16, "read 1MiB"},
    {YK_XFER_WRITE, 64 * KIB, 64, "write 64KiB"},
    {YK_XFER_WRITE, MIB, 16, "write 1MiB"},
};
#define RATES (sizeof(rates) / sizeof(rates[0]))

struct measured {
    double ours[TURNS], theirs[TURNS];
    double here_s, there_s, bytes; /* CPU time of both ends, all turns */
    struct counts counts;          /* of all turns */
    uint64_t requests;             /* of a turn */
};

static int move(struct rig *r, size_t which, uint64_t requests, double *ret_rate) {
    static struct yk_series s;
    struct xfer_load load = {.side = &r->side, .op = rates[which].op, .xclass = YK_XFER_DEMAND,
                             .bytes = rates[which].bytes, .batch = rates[which].batch, .deep = 2, .threads = 1};
    s.arg = &load;
    uint64_t began = yk_now_ns();
    int rc = xfer_load_many(&s, 0, requests);
    *ret_rate = (double)(requests * rates[which].bytes) / ((double)(yk_now_ns() - began) / 1e9);
    return rc;
}

/* How many requests take a turn. Before that all that a turn touches is registered, and queue pairs are made. */
static int calibrate(struct rig *r, size_t which, uint64_t *ret_requests) {
    double rate = 0, seconds = r->run->seconds / (2 * TURNS * RATES);
    uint64_t bytes = TURN_MIN;
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        rc = move(r, which, bytes / rates[which].bytes, &rate);
        if (rate * seconds > (double)bytes)
            bytes = rate * seconds < (double)TURN_MAX ? (uint64_t)(rate * seconds) : TURN_MAX;
    }
    *ret_requests = bytes / rates[which].bytes;
    return rc;
}

static int our_turn(struct rig *r, size_t which, struct measured *m, uint32_t turn) {
    struct counts before, after;
    int rc = counts_of(r, &before);
    double here_s = yk_bench_cpu_s(), there_s = yk_process_cpu_s(r->target.pid);
    if (rc == 0)
        rc = move(r, which, m->requests, &m->ours[turn]);
    m->here_s += yk_bench_cpu_s() - here_s;
    m->there_s += yk_process_cpu_s(r->target.pid) - there_s;
    m->bytes += (double)(m->requests * rates[which].bytes);
    if (rc == 0)
        rc = counts_of(r, &after);
    if (rc < 0)
        return rc;
    m->counts.requests += after.requests - before.requests;
    m->counts.doorbells += after.doorbells - before.doorbells;
    m->counts.slices += after.slices - before.slices;
    return 0;
}

/* Of several pairs the sum, one after the other. */
static int their_turn(struct rig *r, size_t which, struct measured *m, uint32_t turn) {
    int rc = 0;
    m->theirs[turn] = 0;
    for (uint32_t i = 0; i < r->count && rc == 0 && r->perftest; i++) {
        double rate = 0;
        rc = perftest_rate(&r->pairs[i], rates[which].op, rates[which].bytes, m->requests / r->count + 1, &rate);
        m->theirs[turn] += rate;
    }
    return rc;
}

static void base_row(struct yk_bench_run *run, const char *unit, double value, double limit, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static void base_row(struct yk_bench_run *run, const char *unit, double value, double limit, const char *fmt, ...) {
    char name[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof(name), fmt, ap);
    va_end(ap);
    struct yk_bench_row row = YK_BENCH_ROW(name, unit, value);
    row.limit = limit;
    yk_bench_report_row(&run->report, &row);
}

static void rate_rows(struct rig *r, size_t which, struct measured *m) {
    char name[128];
    double ours = yk_bench_median(m->ours, r->turns), theirs = yk_bench_median(m->theirs, r->turns);
    snprintf(name, sizeof(name), "rdma %s %s", rates[which].name, r->label);
    struct yk_bench_row row = YK_BENCH_ROW(name, "B/s", ours);
    if (r->perftest)
        row.limit = theirs;
    row.cpu_s = m->here_s + m->there_s;
    yk_bench_report_row(&r->run->report, &row);
    if (r->perftest)
        base_row(r->run, "1", ours / theirs, TARGET_BW, "base %s of perftest", name);
    base_row(r->run, "s/GB", m->here_s / (m->bytes / 1e9), NAN, "cpu %s initiator", name);
    base_row(r->run, "s/GB", m->there_s / (m->bytes / 1e9), NAN, "cpu %s target", name);
    if (rates[which].op != YK_XFER_READ) /* those of writes are the target's */
        return;
    base_row(r->run, "1", m->counts.requests / m->counts.slices, NAN, "base %s requests a slice", name);
    base_row(r->run, "1", m->counts.doorbells / m->counts.slices, NAN, "base %s doorbells a slice", name);
    base_row(r->run, "B", m->bytes / m->counts.slices, NAN, "base %s bytes a slice", name);
}

static int rate_case(struct rig *r, size_t which) {
    struct measured m = {.requests = 0};
    int rc = calibrate(r, which, &m.requests);
    for (uint32_t turn = 0; turn < r->turns && rc == 0; turn++) {
        rc = their_turn(r, which, &m, turn);
        if (rc == 0)
            rc = our_turn(r, which, &m, turn);
    }
    if (rc == 0)
        rate_rows(r, which, &m);
    return rc;
}

static int rates_of(struct rig *r) {
    int rc = 0, wanted = 0;
    char name[RATES][128];
    for (size_t i = 0; i < RATES; i++) {
        snprintf(name[i], sizeof(name[i]), "rdma %s %s", rates[i].name, r->label);
        wanted |= yk_bench_wants(&r->run->report, (const char *const[]){name[i], NULL});
    }
    if (!wanted)
        return 0;
    rc = rig_open(r, 0);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < RATES && rc == 0; i++)
        if (yk_bench_wants(&r->run->report, (const char *const[]){name[i], NULL}))
            rc = rate_case(r, i);
    rig_close(r);
    return rc;
}

/* ---- latency ------------------------------------------------------------------------------------------------- */

static int latency_of(struct rig *r, uint32_t poll_us, const char *mode) {
    static struct yk_hist hist;
    char name[128];
    double theirs[TURNS], ours[TURNS];
    uint64_t count = r->run->opts->quick ? 20 : 500;
    snprintf(name, sizeof(name), "rdma read 4KiB%s %s", mode, r->label);
    if (!yk_bench_wants(&r->run->report, (const char *const[]){name, NULL}))
        return 0;
    int rc = rig_open(r, poll_us);
    if (rc < 0)
        return rc;
    struct xfer_load load = {.side = &r->side, .op = YK_XFER_READ, .xclass = YK_XFER_URGENT, .bytes = 4 * KIB};
    for (uint64_t i = 0; i < count / 4 && rc == 0; i++)
        rc = xfer_load_one(&load, i);
    for (uint32_t turn = 0; turn < r->turns && rc == 0; turn++) {
        if (r->perftest)
            rc = perftest_latency(&r->pairs[0], 4 * KIB, count, &theirs[turn]);
        memset(&hist, 0, sizeof(hist));
        for (uint64_t i = 0; i < count && rc == 0; i++) {
            uint64_t began = yk_now_ns();
            rc = xfer_load_one(&load, i);
            yk_hist_record(&hist, yk_now_ns() - began);
        }
        ours[turn] = (double)yk_hist_percentile(&hist, 50) / 1e9;
    }
    rig_close(r);
    if (rc < 0)
        return rc;
    struct yk_bench_row row = YK_BENCH_ROW(name, "s", yk_bench_median(ours, r->turns));
    if (r->perftest)
        row.limit = yk_bench_median(theirs, r->turns);
    yk_row_hist(&row, &hist); /* of the last turn */
    yk_bench_report_row(&r->run->report, &row);
    if (r->perftest)
        base_row(r->run, "1", row.value / row.limit, TARGET_LAT, "base %s of perftest", name);
    return 0;
}

/* ---- the group ------------------------------------------------------------------------------------------------- */

int xfer_rdma(struct yk_bench_run *run) {
    static struct pair pairs[PAIRS_MAX];
    uint32_t count = 0;
    struct yk_err err;
    if (yk_rdma_check(NULL, &err) < 0) {
        fprintf(stderr, "yolk bench: rdma is left out: %s\n", err.text);
        return run->opts->transport != NULL ? YK_BENCH_USAGE : 0;
    }
    int rc = pairs_of(run->opts, pairs, &count);
    if (rc != 0)
        return rc;
    struct rig r = {.run = run, .turns = run->opts->quick ? 1 : TURNS, .perftest = perftest_is_there()};
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        r.pairs = &pairs[i];
        r.count = 1;
        snprintf(r.label, sizeof(r.label), "%s", pairs[i].here.device);
        fprintf(stderr, "yolk bench: %s (%s) to %s (%s)\n", pairs[i].here.device, pairs[i].here.host,
                pairs[i].there.device, pairs[i].there.host);
        rc = rates_of(&r);
        if (rc == 0)
            rc = latency_of(&r, 0, "");
        if (rc == 0)
            rc = latency_of(&r, SPIN_US, " polling");
    }
    if (count < 2 || rc != 0)
        return rc;
    r.pairs = pairs;
    r.count = count;
    snprintf(r.label, sizeof(r.label), "%u devices", count);
    return rates_of(&r);
}
