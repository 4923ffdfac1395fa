/* SPDX-License-Identifier: Apache-2.0
 *
 * Conformance of devices: what file.h promises, against every implementation.
 *
 * Each case runs once for each variant below. Where something cannot be had (a ring, a mount, a
 * process without rights), the case says so and is skipped.
 */
#include "file_rig.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define IN_FLIGHT 200u

static const struct variant variants[] = {
    {.name = "uring", .ops = &yk_file_uring},
    {.name = "uring and the owner", .ops = &yk_file_uring, .quick = 1},
    {.name = "uring, buffered", .ops = &yk_file_uring, .buffered = 1},
    {.name = "uring, tmpfs", .ops = &yk_file_uring, .shm = 1},
    {.name = "threads", .ops = &yk_file_threads},
    {.name = "threads, buffered", .ops = &yk_file_threads, .buffered = 1},
    {.name = "uring in fault", .ops = &yk_file_uring, .fault = 1},
};

static void *aligned(size_t bytes) {
    void *p = aligned_alloc(4096, (bytes + 4095u) / 4096u * 4096u);
    assert_non_null(p);
    memset(p, 0, (bytes + 4095u) / 4096u * 4096u);
    return p;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void what_is_written_is_read(void **state) {
    struct rig r;
    rig_start(&r, *state);
    char *out = aligned(1u << 20), *in = aligned(1u << 20);
    rig_fill(&r, out, 1u << 20);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 4096, out, 1u << 20), 0);
    assert_int_equal(rig_do(&r, YK_FILE_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 4096, in, 1u << 20), 0);
    assert_memory_equal(in, out, 1u << 20);
    rig_close(&r);
    r.opts.create = 0;
    r.opts.size_bytes = 0;
    rig_open(&r);
    struct yk_file_info info;
    r.io->ops->info(r.io, &info);
    assert_int_equal(info.size_bytes, RIG_SIZE);
    memset(in, 0, 1u << 20);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 4096, in, 1u << 20), 0);
    assert_memory_equal(in, out, 1u << 20);
    rig_fini(&r);
    free(out);
    free(in);
}

/* Pieces of any address and length, up to the largest request; guards around them stay. */
static void pieces_may_be_odd(void **state) {
    struct rig r;
    rig_start(&r, *state);
    size_t room = YK_FILE_BYTES + 8192u;
    char *model = aligned(RIG_SIZE), *buf = aligned(room), *all = aligned(RIG_SIZE);
    rig_fill(&r, model, RIG_SIZE);
    assert_int_equal(RIG_SIZE % YK_FILE_BYTES, 0);
    for (uint64_t at = 0; at < RIG_SIZE; at += YK_FILE_BYTES)
        assert_int_equal(rig_do(&r, YK_FILE_WRITE, at, model + at, YK_FILE_BYTES), 0);
    for (int round = 0; round < 150; round++) {
        struct iovec iov[YK_FILE_IOVS];
        uint64_t most = round % 10 == 0 ? YK_FILE_BYTES : 65536u;
        uint64_t bytes = (1u + rig_rand(&r, most / YK_FILE_SECTOR)) * YK_FILE_SECTOR;
        uint64_t off = rig_rand(&r, (RIG_SIZE - bytes) / YK_FILE_SECTOR + 1u) * YK_FILE_SECTOR;
        uint64_t lead = rig_rand(&r, 2) ? rig_rand(&r, 4096) : rig_rand(&r, 8) * 512u;
        unsigned most_pieces = 1u + (unsigned)rig_rand(&r, YK_FILE_IOVS);
        int write = (int)rig_rand(&r, 2);
        if (!write)
            bytes -= rig_rand(&r, YK_FILE_SECTOR); /* a short tail */
        rig_fill(&r, buf, room);
        char before = buf[lead ? lead - 1u : 0], after = buf[lead + bytes];
        unsigned n = rig_cut(&r, buf + lead, bytes, most_pieces, iov);
        assert_int_equal(rig_do_iov(&r, write ? YK_FILE_WRITE : YK_FILE_READ, off, iov, n), 0);
        if (write)
            memcpy(model + off, buf + lead, bytes);
        else
            assert_memory_equal(buf + lead, model + off, bytes);
        assert_true(lead == 0 || buf[lead - 1u] == before);
        assert_int_equal(buf[lead + bytes], after);
    }
    for (uint64_t at = 0; at < RIG_SIZE; at += YK_FILE_BYTES)
        assert_int_equal(rig_do(&r, YK_FILE_READ, at, all + at, YK_FILE_BYTES), 0);
    assert_memory_equal(all, model, RIG_SIZE);
    struct yk_file_info info;
    struct yk_file_stats st;
    r.io->ops->info(r.io, &info);
    r.io->ops->stats(r.io, &st);
    assert_int_equal(st.bounced_bytes > 0, info.direct);
    assert_int_equal(st.errors[YK_FILE_READ] + st.errors[YK_FILE_WRITE], 0);
    rig_fini(&r);
    free(model);
    free(buf);
    free(all);
}

static void aligned_pieces_are_not_copied(void **state) {
    struct rig r;
    rig_start(&r, *state);
    char *buf = aligned(1u << 20);
    struct iovec iov[3] = {{buf, 8192}, {buf + 65536, 4096}, {buf + 131072, 512u << 10}};
    struct yk_file_stats st;
    assert_int_equal(rig_do_iov(&r, YK_FILE_WRITE, 0, iov, 3), 0);
    assert_int_equal(rig_do_iov(&r, YK_FILE_READ, 0, iov, 3), 0);
    r.io->ops->stats(r.io, &st);
    assert_int_equal(st.bounced_bytes, 0);
    /* Only the tail of a read goes through a copy. */
    iov[2].iov_len -= 100;
    assert_int_equal(rig_do_iov(&r, YK_FILE_READ, 0, iov, 3), 0);
    r.io->ops->stats(r.io, &st);
    assert_true(st.bounced_bytes <= 4096);
    rig_fini(&r);
    free(buf);
}

/* ---- many at once --------------------------------------------------------------------------- */

struct flight {
    struct yk_file_req req;
    struct iovec iov[8];
    char *buf;
    uint64_t blocks; /* of the device, from first */
    uint64_t first;
};

#define FLIGHT_BLOCK 65536u

/* Random reads and writes of blocks that no other request touches at that time, each verified. */
static void many_requests_at_once_keep_their_bytes(void **state) {
    struct rig r;
    rig_start(&r, *state);
    unsigned blocks = RIG_SIZE / FLIGHT_BLOCK, under_way = 0, ended = 0, begun = 0;
    char *model = aligned(RIG_SIZE), *taken = calloc(blocks, 1);
    struct flight *fl = calloc(64, sizeof(*fl));
    for (unsigned i = 0; i < 64; i++)
        fl[i].buf = aligned(FLIGHT_BLOCK + 4096u);
    for (uint64_t at = 0; at < RIG_SIZE; at += YK_FILE_BYTES)
        assert_int_equal(rig_do(&r, YK_FILE_WRITE, at, model + at, YK_FILE_BYTES), 0);
    while (ended < 3000) {
        struct yk_file_req *list = NULL;
        for (unsigned i = 0; i < 64 && begun < 3000; i++) {
            struct flight *f = &fl[i];
            uint64_t b = rig_rand(&r, blocks);
            if (f->req.user || taken[b])
                continue;
            taken[b] = 1;
            f->first = b;
            uint64_t lead = rig_rand(&r, 4) ? 0 : rig_rand(&r, 4096);
            memset(&f->req, 0, sizeof(f->req));
            f->req.op = (uint8_t)rig_rand(&r, 2);
            f->req.prio = (uint8_t)rig_rand(&r, 3);
            f->req.offset = b * FLIGHT_BLOCK;
            f->req.bytes = FLIGHT_BLOCK;
            f->req.iov = f->iov;
            f->req.iov_count =
                (uint16_t)rig_cut(&r, f->buf + lead, FLIGHT_BLOCK, lead ? 8 : 1, f->iov);
            f->req.user = f;
            if (f->req.op == YK_FILE_WRITE) {
                rig_fill(&r, f->buf + lead, FLIGHT_BLOCK);
                memcpy(model + b * FLIGHT_BLOCK, f->buf + lead, FLIGHT_BLOCK);
            }
            f->req.next = list;
            list = &f->req;
            begun++;
            under_way++;
        }
        if (list)
            r.io->ops->submit(r.io, list);
        for (struct yk_file_req *q = rig_reap(&r), *next; q; q = next) {
            struct flight *f = q->user;
            next = q->next;
            assert_int_equal(q->status, 0);
            if (q->op == YK_FILE_READ)
                assert_memory_equal(f->iov[0].iov_base, model + f->first * FLIGHT_BLOCK,
                                    FLIGHT_BLOCK);
            taken[f->first] = 0;
            q->user = NULL;
            ended++;
            under_way--;
        }
    }
    assert_int_equal(under_way, 0);
    assert_null(r.io->ops->reap(r.io));
    assert_int_equal(r.io->ops->stalled(r.io), 0);
    assert_true(__atomic_load_n(&r.wakes, __ATOMIC_RELAXED) > 0);
    struct yk_file_stats st;
    r.io->ops->stats(r.io, &st);
    assert_int_equal(st.queued, 0);
    for (unsigned i = 0; i < 64; i++)
        free(fl[i].buf);
    free(fl);
    free(taken);
    free(model);
    rig_fini(&r);
}

/* More odd requests than there are bounce buffers wait for one, and none fails. */
static void a_request_waits_for_a_bounce_buffer(void **state) {
    struct rig r;
    rig_start(&r, *state);
    static struct yk_file_req req[IN_FLIGHT];
    static struct iovec iov[IN_FLIGHT];
    char *buf = aligned(RIG_SIZE + 4096u);
    rig_fill(&r, buf, RIG_SIZE);
    memset(req, 0, sizeof(req));
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        iov[i] = (struct iovec){buf + 1 + i * 65536u, 65536u};
        req[i].op = i % 2u ? YK_FILE_WRITE : YK_FILE_READ;
        req[i].offset = i * 65536u;
        req[i].bytes = 65536u;
        req[i].iov = &iov[i];
        req[i].iov_count = 1;
        req[i].next = i + 1u < IN_FLIGHT ? &req[i + 1u] : NULL;
    }
    r.io->ops->submit(r.io, req);
    for (unsigned ended = 0; ended < IN_FLIGHT;)
        for (struct yk_file_req *q = rig_reap(&r); q; q = q->next, ended++)
            assert_int_equal(q->status, 0);
    char *in = aligned(65536u);
    for (unsigned i = 1; i < IN_FLIGHT; i += 2) {
        assert_int_equal(rig_do(&r, YK_FILE_READ, i * 65536u, in, 65536u), 0);
        assert_memory_equal(in, buf + 1 + i * 65536u, 65536u);
    }
    rig_fini(&r);
    free(buf);
    free(in);
}

/* How many of a long queue of writes come back before a read that was submitted behind them. */
static unsigned writes_before_a_read(struct rig *r, char *buf) {
    static struct yk_file_req req[IN_FLIGHT + 1u];
    static struct iovec iov[IN_FLIGHT + 1u];
    unsigned before = 0, ended = 0;
    int seen = 0;
    memset(req, 0, sizeof(req));
    for (unsigned i = 0; i <= IN_FLIGHT; i++) {
        iov[i] = (struct iovec){buf + i * 65536u, 65536u};
        req[i].op = i == IN_FLIGHT ? YK_FILE_READ : YK_FILE_WRITE;
        req[i].offset = i * 65536u;
        req[i].bytes = 65536u;
        req[i].iov = &iov[i];
        req[i].iov_count = 1;
        req[i].next = i < IN_FLIGHT ? &req[i + 1u] : NULL;
    }
    r->io->ops->submit(r->io, req);
    while (ended <= IN_FLIGHT)
        for (struct yk_file_req *q = rig_reap(r); q; q = q->next, ended++) {
            seen |= q == &req[IN_FLIGHT];
            before += !seen;
        }
    return before;
}

/* A thread that has read may be kept from saying so while the others write; not every time. */
static void reads_overtake_writes(void **state) {
    struct rig r;
    rig_start(&r, *state);
    char *buf = aligned((IN_FLIGHT + 1u) * 65536u);
    unsigned before = IN_FLIGHT;
    for (int round = 0; round < 20 && before > 48u; round++)
        before = writes_before_a_read(&r, buf);
    assert_true(before <= 48u);
    rig_fini(&r);
    free(buf);
}

static void close_waits_for_what_is_under_way(void **state) {
    struct rig r;
    rig_start(&r, *state);
    static struct yk_file_req req[IN_FLIGHT];
    struct iovec iov = {aligned(RIG_SIZE), 65536u};
    rig_fill(&r, iov.iov_base, 65536u);
    memset(req, 0, sizeof(req));
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        req[i].op = i == 100u ? YK_FILE_FLUSH : YK_FILE_WRITE;
        req[i].offset = i * 65536u;
        req[i].bytes = 65536u;
        req[i].iov = &iov;
        req[i].iov_count = 1;
        req[i].next = i + 1u < IN_FLIGHT ? &req[i + 1u] : NULL;
    }
    r.io->ops->submit(r.io, req);
    rig_close(&r);
    rig_open(&r);
    char *in = aligned(65536u);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        if (i == 100u)
            continue;
        assert_int_equal(rig_do(&r, YK_FILE_READ, i * 65536u, in, 65536u), 0);
        assert_memory_equal(in, iov.iov_base, 65536u);
    }
    rig_fini(&r);
    free(iov.iov_base);
    free(in);
}

static void flushes_and_discards_come_back(void **state) {
    struct rig r;
    rig_start(&r, *state);
    static struct yk_file_req req[60];
    memset(req, 0, sizeof(req));
    for (unsigned i = 0; i < 60; i++) {
        req[i].op = i % 3u ? YK_FILE_FLUSH : YK_FILE_DISCARD;
        req[i].offset = (i / 3u) * 65536u;
        req[i].bytes = req[i].op == YK_FILE_DISCARD ? 65536u : 0;
        req[i].next = i + 1u < 60 ? &req[i + 1u] : NULL;
    }
    r.io->ops->submit(r.io, req);
    for (unsigned ended = 0; ended < 60;)
        for (struct yk_file_req *q = rig_reap(&r); q; q = q->next, ended++)
            assert_int_equal(q->status, 0);
    /* Space of a file that was discarded is still its own. */
    struct stat st;
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_size, RIG_SIZE);
    assert_true((uint64_t)st.st_blocks * 512u >= RIG_SIZE);
    rig_fini(&r);
}

static void bad_requests_are_refused(void **state) {
    struct rig r;
    rig_start(&r, *state);
    char *buf = aligned(8192);
    assert_int_equal(rig_do(&r, YK_FILE_READ, RIG_SIZE, buf, 4096), -YK_EINVAL);
    assert_int_equal(rig_do(&r, YK_FILE_READ, RIG_SIZE - 4096u, buf, 8192), -YK_EINVAL);
    assert_int_equal(rig_do(&r, YK_FILE_READ, UINT64_MAX - 4095u, buf, 8192), -YK_EINVAL);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 512, buf, 4096), -YK_EINVAL);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 0, buf, 100), -YK_EINVAL);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 0, buf, 0), -YK_EINVAL);
    assert_true(__atomic_load_n(&r.wakes, __ATOMIC_RELAXED) > 0);
    rig_close(&r);
    r.opts.read_only = 1;
    rig_open(&r);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 0, buf, 4096), -YK_EPERM);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 0, buf, 4096), 0);
    rig_fini(&r);
    free(buf);
}

/* ---- the file under it ---------------------------------------------------------------------- */

static void a_file_cut_short_is_gone(void **state) {
    struct rig r;
    rig_start(&r, *state);
    char *buf = aligned(1u << 20);
    assert_int_equal(r.io->ops->check(r.io), 0);
    assert_int_equal(truncate(r.path, RIG_SIZE - (1u << 20) + 5000), 0);
    assert_int_equal(r.io->ops->check(r.io), -YK_EGONE);
    assert_int_equal(rig_do(&r, YK_FILE_READ, RIG_SIZE - 4096u, buf, 4096), -YK_EGONE);
    assert_int_equal(rig_do(&r, YK_FILE_READ, RIG_SIZE - (1u << 20), buf, 1u << 20), -YK_EGONE);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 0, buf, 4096), 0);
    rig_fini(&r);
    free(buf);
}

static void a_file_removed_or_replaced_is_noticed(void **state) {
    struct rig r;
    rig_start(&r, *state);
    char other[160];
    snprintf(other, sizeof(other), "%s.2", r.path);
    assert_int_equal(rename(r.path, other), 0);
    assert_int_equal(r.io->ops->check(r.io), -YK_EGONE);
    int fd = open(r.path, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, RIG_SIZE), 0);
    close(fd);
    assert_int_equal(r.io->ops->check(r.io), -YK_EGONE);
    assert_int_equal(rename(other, r.path), 0);
    assert_int_equal(r.io->ops->check(r.io), 0);
    assert_int_equal(chmod(r.path, 0), 0); /* rights count at open only */
    assert_int_equal(r.io->ops->check(r.io), 0);
    rig_fini(&r);
}

/* ---- rest ----------------------------------------------------------------------------------- */

/* Voluntary context switches of the devices' threads (a sanitizer has threads of its own). */
static uint64_t switches(void) {
    uint64_t sum = 0;
    unsigned found = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], line[200];
        uint64_t n;
        int ours = 0;
        snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && fgets(line, sizeof(line), f)) {
            if (strncmp(line, "Name:\tyolk-file", 15) == 0)
                ours = 1;
            if (ours && sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &n) == 1) {
                sum += n;
                found++;
            }
        }
        if (f)
            fclose(f);
    }
    closedir(d);
    assert_true(found > 0);
    return sum;
}

/* A thread that looks for work now and then switches; one that waits for it does not. */
static void idle_threads_sleep(void **state) {
    struct rig r;
    rig_start(&r, *state);
    char *buf = aligned(4096);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 0, buf, 4096), 0);
    int quiet = 0;
    for (int window = 0; window < 50 && !quiet; window++) {
        uint64_t before = switches();
        r.io->ops->wait(r.io, 200);
        quiet = switches() == before;
    }
    assert_true(quiet);
    assert_int_equal(r.io->ops->stalled(r.io), 0);
    rig_fini(&r);
    free(buf);
}

static void memory_that_is_ready_is_registered(void **state) {
    struct rig r;
    rig_init(&r, *state);
    size_t bytes = 80u << 20; /* a chunk and a part */
    char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(mem, MAP_FAILED);
    r.opts.mem = mem;
    r.opts.mem_bytes = bytes;
    rig_open(&r);
    struct yk_file_info info;
    r.io->ops->info(r.io, &info);
    assert_int_equal(info.fixed_bytes, 0);
    static const size_t ready[] = {10u << 20, 64u << 20, 80u << 20};
    static const size_t fixed[] = {0, 64u << 20, 80u << 20};
    for (unsigned i = 0; i < 3; i++) {
        r.io->ops->mem_ready(r.io, ready[i]);
        uint64_t begun = yk_now_ns();
        do {
            r.io->ops->wait(r.io, 1);
            r.io->ops->info(r.io, &info);
        } while (info.ring && info.fixed_bytes < fixed[i] && !info.note[0] &&
                 yk_now_ns() - begun < RIG_WAIT_MS * YK_NS_PER_MS);
        assert_true(!info.ring || info.note[0] || info.fixed_bytes == fixed[i]);
    }
    /* In a chunk, across two, and beside all. */
    static const size_t at[] = {4096, (64u << 20) - 65536u, (80u << 20) - (1u << 20)};
    char *in = aligned(1u << 20);
    for (unsigned i = 0; i < 3; i++) {
        rig_fill(&r, mem + at[i], 1u << 20);
        assert_int_equal(rig_do(&r, YK_FILE_WRITE, i << 20, mem + at[i], 1u << 20), 0);
        assert_int_equal(rig_do(&r, YK_FILE_READ, i << 20, in, 1u << 20), 0);
        assert_memory_equal(in, mem + at[i], 1u << 20);
        memset(mem + at[i], 0, 1u << 20);
        assert_int_equal(rig_do(&r, YK_FILE_READ, i << 20, mem + at[i], 1u << 20), 0);
        assert_memory_equal(in, mem + at[i], 1u << 20);
    }
    rig_fini(&r);
    munmap(mem, bytes);
    free(in);
}

/* A file of any length, in any ranges, beside another who has it open and locked. */
static void odd_ranges_beside_another(void **state) {
    struct rig r;
    struct yk_file *io = NULL;
    struct yk_err err = {0};
    struct yk_file_info info;
    char a[5000], b[5000];
    rig_start(&r, *state);
    rig_fill(&r, a, sizeof(a));
    assert_int_equal(truncate(r.path, RIG_SIZE + 777), 0);
    struct yk_file_opts opts = {.path = r.path, .shared = 1, .odd = 1, .buffered = 1};
    assert_int_equal(r.v->ops->open(&opts, &io, &err), 0);
    struct yk_file *first = r.io;
    r.io = io;
    io->ops->info(io, &info);
    assert_int_equal(info.size_bytes, RIG_SIZE + 777);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 4095, a, 4099), 0);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, RIG_SIZE + 700, a, 77), 0);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, RIG_SIZE + 700, a, 78), -YK_EINVAL);
    assert_int_equal(rig_do(&r, YK_FILE_READ, RIG_SIZE + 776, b, 1), 0);
    assert_int_equal(b[0], a[76]);
    r.io = first;
    char *in = aligned(12288);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 0, in, 12288), 0); /* sees what the other wrote */
    assert_memory_equal(in + 4095, a, 4099);
    assert_true(in[4094] == 0 && in[4095 + 4099] == 0);
    io->ops->close(io);
    rig_fini(&r);
    free(in);
}

#define CASES(X)                                                                                   \
    X(what_is_written_is_read)                                                                     \
    X(pieces_may_be_odd)                                                                           \
    X(aligned_pieces_are_not_copied)                                                               \
    X(many_requests_at_once_keep_their_bytes)                                                      \
    X(a_request_waits_for_a_bounce_buffer)                                                         \
    X(reads_overtake_writes)                                                                       \
    X(close_waits_for_what_is_under_way)                                                           \
    X(flushes_and_discards_come_back)                                                              \
    X(bad_requests_are_refused)                                                                    \
    X(a_file_cut_short_is_gone)                                                                    \
    X(a_file_removed_or_replaced_is_noticed)                                                       \
    X(odd_ranges_beside_another)                                                                   \
    X(idle_threads_sleep)                                                                          \
    X(memory_that_is_ready_is_registered)

int main(void) {
#define CASE(f) cmocka_unit_test(f),
    static const struct CMUnitTest cases[] = {CASES(CASE)};
    enum { COUNT = sizeof(cases) / sizeof(cases[0]) };
    int failed = 0;
    for (size_t v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
        if (variants[v].shm && access("/dev/shm", W_OK) < 0)
            continue;
        struct CMUnitTest tests[COUNT];
        char names[COUNT][100];
        for (size_t i = 0; i < COUNT; i++) {
            snprintf(names[i], sizeof(names[i]), "%s: %s", variants[v].name, cases[i].name);
            tests[i] = cases[i];
            tests[i].name = names[i];
            tests[i].initial_state = (void *)(uintptr_t)&variants[v];
        }
        failed += cmocka_run_group_tests_name(variants[v].name, tests, NULL, NULL);
    }
    return failed;
}
