/* SPDX-License-Identifier: Apache-2.0
 *
 * The file transport with a small core around it: slices of any range and alignment move exactly their
 * bytes, each ends exactly once and never from within post, whatever the device does.
 */
#include "xfer/file/transport.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define BYTES   ((3u << 20) + 777u) /* of the file: its last sector is not whole */
#define WAIT_MS 20000u
#define SLICES  200u
#define SHARDS  2u
#define BOTH    (YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE)

static const char *const dirs[] = {"/var/tmp", "/dev/shm"};

struct rig;

struct shard {
    struct rig *rig;
    struct yk_loop *loop;
    struct yk_shard_env env;
    struct yk_xport *xport;
    struct yk_lane *lane;
    int up;
};

struct rig {
    const char *dir;
    char path[64];
    uint64_t bytes;
    struct yk_registry *registry;
    uint64_t region;
    struct shard shard[SHARDS];
    struct yk_file *faults[8]; /* devices that were wrapped */
    unsigned fault_count;
    struct yk_file_fault fault; /* kind 0: none; of devices opened from now on */
    char *model, *buf;
    uint64_t rand;
    unsigned posting; /* within post */
    unsigned ended;
};

static uint64_t rnd(struct rig *r, uint64_t below) {
    r->rand ^= r->rand << 13;
    r->rand ^= r->rand >> 7;
    r->rand ^= r->rand << 17;
    return r->rand % below;
}

/* ---- the core ------------------------------------------------------------------------------------- */

static void slice_done(struct yk_lane *lane, struct yk_slice *s) {
    struct shard *sh = lane->core;
    assert_int_equal(sh->rig->posting, 0);
    assert_ptr_equal(s->core, sh); /* once */
    s->core = NULL;
    sh->rig->ended++;
}

static void lane_up(struct yk_lane *lane) {
    ((struct shard *)lane->core)->up++;
}

static void lane_down(struct yk_lane *lane, int code, enum yk_scope scope, const char *text) {
    (void)lane, (void)code, (void)scope;
    fail_msg("a lane went down: %s", text);
}

static const struct yk_shard_events events = {
    .slice_done = slice_done, .lane_up = lane_up, .lane_down = lane_down};

static int wrap_faults(void *user, struct yk_file *dev, struct yk_file **ret_dev) {
    struct rig *r = user;
    int rc = yk_file_fault_new(dev, ret_dev);
    if (rc == 0) {
        assert_true(r->fault_count < 8);
        r->faults[r->fault_count++] = *ret_dev;
        if (r->fault.kind != 0)
            yk_file_fault_set(*ret_dev, &r->fault);
    }
    return rc;
}

static void turn(struct rig *r, uint64_t ms) {
    for (unsigned i = 0; i < SHARDS; i++)
        if (r->shard[i].loop != NULL)
            yk_loop_turn(r->shard[i].loop, ms * YK_NS_PER_MS);
}

static void connect(struct shard *sh) {
    struct yk_peer_info peer = {.incarnation = sh->env.incarnation};
    struct yk_rail_desc rail;
    struct yk_err err = {0};
    assert_int_equal(sh->xport->ops->rails(sh->xport, &peer, &rail, 1), 1);
    assert_int_equal(rail.caps, YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_HOLDS);
    assert_int_equal(sh->xport->ops->connect(sh->xport, &peer, &rail, 1, &sh->lane, &err), 0);
    sh->lane->core = sh;
    sh->up = 0;
    assert_int_equal(sh->xport->ops->room(sh->lane), 0);
    for (int i = 0; i < 100 && sh->up == 0; i++)
        yk_loop_turn(sh->loop, YK_NS_PER_MS);
    assert_int_equal(sh->up, 1);
    assert_true(sh->xport->ops->room(sh->lane) >= 32);
}

static void shard_open(struct rig *r, struct shard *sh) {
    struct yk_err err = {0};
    sh->rig = r;
    assert_int_equal(yk_loop_new(&sh->loop, &err), 0);
    sh->env = (struct yk_shard_env){
        .loop = sh->loop, .events = &events, .registry = r->registry, .incarnation = 77};
    assert_int_equal(yk_xport_file.open(&sh->env, &sh->xport, &err), 0);
    connect(sh);
}

static void shard_close(struct shard *sh) {
    if (sh->lane != NULL)
        sh->xport->ops->disconnect(sh->lane);
    sh->xport->ops->close(sh->xport);
    yk_loop_free(sh->loop);
    memset(sh, 0, sizeof(*sh));
}

static uint64_t add_file(struct rig *r, uint32_t access) {
    uint64_t id;
    int fd = open(r->path, (access & YK_XFER_REMOTE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(yk_registry_add_file(r->registry, fd, r->bytes, access, &id), 0);
    return id;
}

static void start(struct rig *r, const char *dir, uint64_t bytes) {
    memset(r, 0, sizeof(*r));
    r->dir = dir;
    r->bytes = bytes;
    r->rand = 88172645463325252ull;
    snprintf(r->path, sizeof(r->path), "%s/yolk-xfile-XXXXXX", dir);
    int fd = mkstemp(r->path);
    assert_true(fd >= 0);
    r->model = malloc(bytes);
    r->buf = malloc(bytes + SLICES * 4096u);
    assert_true(r->model != NULL && r->buf != NULL);
    for (uint64_t i = 0; i < bytes; i += 8) {
        (void)rnd(r, 2);
        memcpy(r->model + i, &r->rand, bytes - i < 8 ? bytes - i : 8);
    }
    assert_int_equal(write(fd, r->model, bytes), (ssize_t)bytes);
    close(fd);
    r->registry = yk_registry_new();
    r->region = add_file(r, BOTH);
    for (unsigned i = 0; i < SHARDS; i++)
        shard_open(r, &r->shard[i]);
}

static void drop_region(struct rig *r, uint64_t id) {
    struct yk_region *region;
    assert_int_equal(yk_registry_doom_id(r->registry, id, &region), 0);
    assert_int_equal(yk_registry_remove(r->registry, region), 1); /* nobody holds it */
}

static void finish(struct rig *r) {
    for (unsigned i = 0; i < SHARDS; i++)
        shard_close(&r->shard[i]);
    drop_region(r, r->region);
    yk_registry_free(r->registry);
    assert_int_equal(unlink(r->path), 0);
    free(r->model);
    free(r->buf);
}

/* What is in the file is what the model says. */
static void compare_file(struct rig *r) {
    char *all = malloc(r->bytes);
    int fd = open(r->path, O_RDONLY);
    assert_true(all != NULL && fd >= 0);
    assert_int_equal(read(fd, all, r->bytes), (ssize_t)r->bytes);
    assert_int_equal(memcmp(all, r->model, r->bytes), 0); /* at once: sanitizers make each access many */
    close(fd);
    free(all);
}

static void post(struct shard *sh, struct yk_slice *s, int op, uint64_t offset, void *local,
                 uint64_t len) {
    *s = (struct yk_slice){.op = (uint8_t)op,
                           .xclass = (uint8_t)(sh->rig->rand % YK_XFER_CLASSES),
                           .local = local,
                           .len = len,
                           .region = sh->rig->region,
                           .offset = offset,
                           .status = 99,
                           .core = sh};
    sh->rig->posting++;
    sh->xport->ops->post(sh->lane, s);
    sh->rig->posting--;
}

static void flush(struct rig *r) {
    for (unsigned i = 0; i < SHARDS; i++)
        r->shard[i].xport->ops->flush(r->shard[i].lane);
}

static void wait_ended(struct rig *r, unsigned n) {
    uint64_t begun = yk_now_ns();
    while (r->ended < n) {
        turn(r, 1);
        if (yk_now_ns() - begun > WAIT_MS * YK_NS_PER_MS)
            fail_msg("%u of %u slices ended in %u ms", r->ended, n, WAIT_MS);
    }
    turn(r, 0);
    assert_int_equal(r->ended, n);
    r->ended = 0;
}

static int one(struct rig *r, int op, uint64_t offset, void *local, uint64_t len) {
    struct yk_slice s;
    post(&r->shard[0], &s, op, offset, local, len);
    flush(r);
    wait_ended(r, 1);
    assert_true(s.scope == (s.status < 0 ? YK_SCOPE_REQUEST : YK_SCOPE_NONE));
    assert_true(s.done_ns > 0 && s.touched == 0);
    return s.status;
}

/* ---- bytes ------------------------------------------------------------------------------------------ */

/* A run of neighbours that meet anywhere, each a read or a write, in both shards, all at once. */
static void round_of(struct rig *r, int writes, uint64_t most) {
    static struct yk_slice slices[SLICES];
    static uint64_t from[SLICES];
    uint64_t at = rnd(r, r->bytes), lead = 0;
    unsigned n = 0;
    for (; at < r->bytes && n < 60; n++) {
        uint64_t len = 1 + rnd(r, most);
        len = rnd(r, 4) == 0 ? (len + 4095) / 4096 * 4096 : len;
        len = len < r->bytes - at ? len : r->bytes - at;
        lead += rnd(r, 2) ? rnd(r, 64) : 0;
        int write = writes && rnd(r, 2);
        from[n] = at;
        if (write)
            for (uint64_t i = 0; i < len; i += 8) {
                (void)rnd(r, 2);
                memcpy(r->buf + lead + i, &r->rand, len - i < 8 ? len - i : 8);
            }
        else
            memset(r->buf + lead, 0x5a, len);
        post(&r->shard[rnd(r, SHARDS)], &slices[n], write ? YK_SLICE_WRITE : YK_SLICE_READ, at,
             r->buf + lead, len);
        if (rnd(r, 8) == 0)
            flush(r);
        at += len;
        lead += len;
    }
    flush(r);
    wait_ended(r, n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(slices[i].status, 0);
        if (slices[i].op == YK_SLICE_WRITE)
            memcpy(r->model + from[i], slices[i].local, slices[i].len);
        else
            assert_memory_equal(slices[i].local, r->model + from[i], slices[i].len);
    }
}

static void all_ranges_keep_their_bytes(void **state) {
    struct rig r;
    start(&r, *state, BYTES);
    for (int i = 0; i < 60; i++)
        round_of(&r, 1, i % 3 == 0 ? 200000 : i % 3 == 1 ? 9000 : 500);
    compare_file(&r);
    assert_true(r.shard[0].xport->ops->moved(r.shard[0].lane) > 0);
    finish(&r);
}

static void a_slice_may_be_larger_than_a_request(void **state) {
    struct rig r;
    uint64_t bytes = 2u * YK_FILE_BYTES + 5000u;
    start(&r, *state, bytes);
    assert_int_equal(one(&r, YK_SLICE_READ, 1, r.buf + 3, bytes - 1), 0);
    assert_memory_equal(r.buf + 3, r.model + 1, bytes - 1);
    for (uint64_t i = 0; i < bytes; i++)
        r.buf[i] = (char)(r.buf[i] ^ 0x33);
    assert_int_equal(one(&r, YK_SLICE_WRITE, 1, r.buf + 3, bytes - 2), 0);
    memcpy(r.model + 1, r.buf + 3, bytes - 2);
    compare_file(&r);
    assert_int_equal(r.shard[0].xport->ops->moved(r.shard[0].lane), bytes - 1 + bytes - 2);
    finish(&r);
}

static void small_files(void **state) {
    static const uint64_t sizes[] = {1, 100, 4095, 4096, 4097, 8191, 8192};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rig r;
        start(&r, *state, sizes[i]);
        for (int k = 0; k < 30; k++)
            round_of(&r, 1, 5000);
        compare_file(&r);
        finish(&r);
    }
}

/* ---- refusals --------------------------------------------------------------------------------------- */

static void wrong_slices_are_refused(void **state) {
    struct rig r;
    struct yk_slice s;
    struct yk_xfer_guard guard = {0};
    start(&r, *state, BYTES);
    assert_int_equal(one(&r, YK_SLICE_READ, BYTES - 1, r.buf, 2), -YK_EINVAL);
    assert_int_equal(one(&r, YK_SLICE_READ, UINT64_MAX, r.buf, 2), -YK_EINVAL);
    assert_int_equal(one(&r, YK_SLICE_WRITE, 0, r.buf, 0), -YK_EINVAL);
    assert_int_equal(one(&r, YK_SLICE_NOTE, 0, r.buf, 2), -YK_ENOTSUP);
    assert_int_equal(one(&r, YK_SLICE_PING, 0, NULL, 0), 0);
    assert_int_equal(one(&r, YK_SLICE_FENCE, 1234, NULL, 0), 0);
    post(&r.shard[0], &s, YK_SLICE_READ, 0, r.buf, 1);
    wait_ended(&r, 0);
    flush(&r);
    wait_ended(&r, 1);
    uint64_t own = r.region;
    r.region = own + (1ull << 32);
    assert_int_equal(one(&r, YK_SLICE_READ, 0, r.buf, 1), -YK_EGONE);
    yk_xfer_memory m = {.addr = r.buf, .length = 100, .access = BOTH, .fd = -1};
    struct yk_err err;
    assert_int_equal(yk_registry_add(r.registry, &m, 1, &err), 0);
    struct yk_region *region = yk_registry_find(r.registry, r.buf, 1);
    r.region = region->id;
    yk_registry_put(r.registry, region);
    assert_int_equal(one(&r, YK_SLICE_READ, 0, r.buf, 1), -YK_ENOTSUP);
    r.region = add_file(&r, YK_XFER_REMOTE_READ);
    assert_int_equal(one(&r, YK_SLICE_WRITE, 0, r.buf, 1), -YK_EPERM);
    assert_int_equal(one(&r, YK_SLICE_READ, 0, r.buf, 1), 0);
    drop_region(&r, r.region);
    r.region = own;
    s = (struct yk_slice){.op = YK_SLICE_READ,
                          .local = r.buf,
                          .len = 1,
                          .region = own,
                          .guard = &guard,
                          .core = &r.shard[0]};
    r.shard[0].xport->ops->post(r.shard[0].lane, &s);
    wait_ended(&r, 1);
    assert_int_equal(s.status, -YK_ENOTSUP);
    struct yk_peer_info other = {.incarnation = 78};
    struct yk_rail_desc rail;
    struct yk_lane *lane = NULL;
    assert_int_equal(yk_xport_file.rails(r.shard[0].xport, &other, &rail, 1), 0);
    assert_int_equal(yk_xport_file.connect(r.shard[0].xport, &other, &rail, 1, &lane, &err),
                     -YK_EGONE);
    compare_file(&r);
    finish(&r);
}

/* ---- classes ---------------------------------------------------------------------------------------- */

static struct yk_file_ops spy;
static void (*spied)(struct yk_file *io, struct yk_file_req *reqs);
static uint8_t seen_prio;

static void spy_submit(struct yk_file *io, struct yk_file_req *reqs) {
    seen_prio = reqs->prio;
    spied(io, reqs);
}

static int wrap_spy(void *user, struct yk_file *dev, struct yk_file **ret_dev) {
    (void)user;
    spied = dev->ops->submit;
    spy = *dev->ops;
    spy.submit = spy_submit;
    dev->ops = &spy;
    *ret_dev = dev;
    return 0;
}

static void classes_are_priorities(void **state) {
    static const uint8_t prio[YK_XFER_CLASSES] = {YK_FILE_PRIO_DEMAND, YK_FILE_PRIO_DEMAND,
                                                  YK_FILE_PRIO_PREFETCH, YK_FILE_PRIO_BACKGROUND};
    struct rig r;
    start(&r, *state, BYTES);
    yk_xport_file_wrap(r.shard[0].xport, wrap_spy, NULL);
    for (unsigned c = 0; c < YK_XFER_CLASSES; c++) {
        r.rand = c + YK_XFER_CLASSES;
        assert_int_equal(one(&r, YK_SLICE_READ, 0, r.buf, 4096), 0);
        assert_int_equal(seen_prio, prio[c]);
    }
    finish(&r);
}

/* ---- ends ------------------------------------------------------------------------------------------- */

static void disconnect_ends_all(void **state) {
    static struct yk_slice slices[60];
    struct rig r;
    start(&r, *state, BYTES);
    for (int late = 0; late < 3; late++) {
        struct shard *sh = &r.shard[0];
        r.fault = (struct yk_file_fault){.kind = YK_FILE_FAULT_DELAY,
                                         .op_mask = 1u << YK_FILE_READ,
                                         .rate_ppm = 300000,
                                         .arg = 20};
        yk_xport_file_wrap(sh->xport, wrap_faults, &r);
        for (unsigned i = 0; i < 60; i++)
            post(sh, &slices[i], YK_SLICE_READ, i * 50000u + i, r.buf + i * 50000u, 50000);
        if (late > 0)
            flush(&r);
        if (late > 1)
            turn(&r, 1);
        sh->xport->ops->disconnect(sh->lane);
        assert_int_equal(r.ended, 60);
        r.ended = 0;
        for (unsigned i = 0; i < 60; i++) {
            assert_true(slices[i].status == 0 || slices[i].scope == YK_SCOPE_LANE);
            if (slices[i].status == 0)
                assert_memory_equal(slices[i].local, r.model + i * 50000u + i, 50000);
        }
        connect(sh);
        assert_int_equal(one(&r, YK_SLICE_READ, 5, r.buf, 5000), 0);
        assert_memory_equal(r.buf, r.model + 5, 5000);
    }
    finish(&r);
}

static void cancel_ends_between_requests(void **state) {
    struct rig r;
    struct yk_slice s;
    uint64_t bytes = 3u * YK_FILE_BYTES;
    start(&r, *state, bytes);
    post(&r.shard[0], &s, YK_SLICE_READ, 0, r.buf, bytes);
    flush(&r);
    r.shard[0].xport->ops->cancel(r.shard[0].lane, &s);
    wait_ended(&r, 1);
    assert_int_equal(s.status, -YK_ECANCELED);
    assert_memory_equal(r.buf, r.model, YK_FILE_BYTES);
    finish(&r);
}

/* How many descriptors of this process are of the file. */
static unsigned opened(const struct rig *r) {
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[300], to[300];
        snprintf(path, sizeof(path), "/proc/self/fd/%s", e->d_name);
        ssize_t len = readlink(path, to, sizeof(to) - 1);
        to[len > 0 ? len : 0] = 0;
        n += strcmp(to, r->path) == 0;
    }
    closedir(d);
    return n;
}

static void files_are_closed_when_their_region_is_gone(void **state) {
    struct rig r;
    start(&r, *state, BYTES);
    assert_int_equal(opened(&r), 1);
    uint64_t own = r.region;
    r.region = add_file(&r, BOTH);
    assert_int_equal(one(&r, YK_SLICE_WRITE, 0, r.model, 4097), 0);
    assert_true(opened(&r) > 2);
    drop_region(&r, r.region);
    uint64_t begun = yk_now_ns();
    while (opened(&r) > 1 && yk_now_ns() - begun < WAIT_MS * YK_NS_PER_MS)
        turn(&r, 20);
    assert_int_equal(opened(&r), 1);
    r.region = own;
    assert_int_equal(one(&r, YK_SLICE_READ, 0, r.buf, 4097), 0);
    finish(&r);
}

static void a_file_that_was_cut_short(void **state) {
    struct rig r;
    start(&r, *state, BYTES);
    assert_int_equal(one(&r, YK_SLICE_READ, 0, r.buf, BYTES), 0);
    assert_int_equal(truncate(r.path, 1u << 20), 0);
    assert_int_equal(one(&r, YK_SLICE_READ, 0, r.buf, 1u << 20), 0);
    assert_int_equal(one(&r, YK_SLICE_READ, 2u << 20, r.buf, 5000), -YK_EGONE);
    assert_int_equal(one(&r, YK_SLICE_READ, 3u << 20, r.buf, 777), -YK_EGONE);
    finish(&r);
}

/* ---- faults ----------------------------------------------------------------------------------------- */

/* Unaligned slices in both shards; the Nth request of each device fails. What ended well is exact; what
 * failed says so, and the bytes of a failed write are old or new ones. 1: nothing was hit. */
static int faulty_run(struct rig *r, enum yk_file_fault_kind kind, uint64_t nth) {
    static struct yk_slice slices[24];
    unsigned failed = 0;
    uint64_t hits = 0;
    r->fault_count = 0;
    r->fault = (struct yk_file_fault){.kind = (uint8_t)kind,
                                      .op_mask = 1u << YK_FILE_READ | 1u << YK_FILE_WRITE,
                                      .nth = nth,
                                      .arg = 30};
    for (unsigned i = 0; i < SHARDS; i++) {
        shard_close(&r->shard[i]);
        shard_open(r, &r->shard[i]);
        yk_xport_file_wrap(r->shard[i].xport, wrap_faults, r);
    }
    for (unsigned i = 0; i < 24; i++) {
        uint64_t at = 1000 + i * 20001u;
        int write = i % 2;
        memset(r->buf + at, write ? (int)(nth + i) : 0x5a, 20001);
        post(&r->shard[i % SHARDS ^ (i / 8 % 2)], &slices[i],
             write ? YK_SLICE_WRITE : YK_SLICE_READ, at, r->buf + at, 20001);
    }
    flush(r);
    wait_ended(r, 24);
    for (unsigned i = 0; i < r->fault_count; i++)
        hits += yk_file_fault_hits(r->faults[i]);
    for (unsigned i = 0; i < 24; i++) {
        uint64_t at = 1000 + i * 20001u;
        failed += slices[i].status < 0;
        assert_true(slices[i].status == 0 || slices[i].status == -YK_EIO ||
                    slices[i].status == -YK_EGONE);
        if (slices[i].status < 0) {
            assert_int_equal(slices[i].scope, YK_SCOPE_REQUEST);
            int fd = open(r->path, O_RDONLY);
            assert_int_equal(pread(fd, r->buf + at, 20001, (off_t)at), 20001);
            close(fd);
            for (unsigned k = 0; i % 2 == 1 && k < 20001; k++)
                assert_true(r->buf[at + k] == r->model[at + k] ||
                            r->buf[at + k] == (char)(nth + i));
        } else if (i % 2 == 0) {
            assert_memory_equal(r->buf + at, r->model + at, 20001);
        }
        if (i % 2 == 1)
            memcpy(r->model + at, r->buf + at, 20001);
    }
    compare_file(r);
    assert_true(kind == YK_FILE_FAULT_DELAY ? failed == 0 : failed >= (hits > 0));
    return hits == 0;
}

static void every_request_fails_once(void **state) {
    static const enum yk_file_fault_kind kinds[] = {YK_FILE_FAULT_EIO, YK_FILE_FAULT_SHORT,
                                                    YK_FILE_FAULT_GONE, YK_FILE_FAULT_DELAY};
    const char *is_slow = getenv("YOLK_SLOW"); /* sanitizers: a part of the series */
    int slow = is_slow != NULL && is_slow[0] == '1';
    struct rig r;
    start(&r, *state, BYTES);
    for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        uint64_t nth = 1;
        while (!faulty_run(&r, kinds[k], nth)) {
            nth += slow && nth > 5 ? 7 : 1;
            assert_true(nth < 200);
        }
        assert_true(nth > 5);
    }
    finish(&r);
}

#define CASES(X)                                                                                   \
    X(all_ranges_keep_their_bytes)                                                                 \
    X(a_slice_may_be_larger_than_a_request)                                                        \
    X(small_files)                                                                                 \
    X(wrong_slices_are_refused)                                                                    \
    X(classes_are_priorities)                                                                      \
    X(disconnect_ends_all)                                                                         \
    X(cancel_ends_between_requests)                                                                \
    X(files_are_closed_when_their_region_is_gone)                                                  \
    X(a_file_that_was_cut_short)                                                                   \
    X(every_request_fails_once)

int main(void) {
    int failed = 0;
    for (unsigned d = 0; d < 2; d++) {
        if (access(dirs[d], W_OK) < 0)
            continue;
#define CASE(f) {.name = #f, .test_func = f, .initial_state = (void *)(uintptr_t)dirs[d]},
        const struct CMUnitTest tests[] = {CASES(CASE)};
        failed += cmocka_run_group_tests_name(dirs[d], tests, NULL, NULL);
    }
    return failed;
}
