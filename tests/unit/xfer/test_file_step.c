/* SPDX-License-Identifier: Apache-2.0
 *
 * Without a device: a request as a series of transfers (bounce.c) against memory that answers short
 * and late, checks alignment and guards its ends; and the order in which requests start (sched.c).
 */
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DISK (9u << 20)

static uint64_t seed = 88172645463325252ull;

static uint64_t rnd(uint64_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

/* ---- transfers ------------------------------------------------------------------------------ */

/* What a device with O_DIRECT would do, or rarely all of it. */
static int64_t device(const struct yk_file_handle *f, const struct yk_file_step *s, char *disk) {
    uint64_t off = s->req->offset + s->done, sum = 0;
    assert_int_equal(off % f->unit, 0);
    assert_true(s->iov_count > 0 && s->iov_count <= YK_FILE_STEP_IOVS);
    for (uint32_t i = 0; i < s->iov_count; i++) {
        assert_int_equal((uintptr_t)s->iov[i].iov_base % f->mem_align, 0);
        assert_int_equal(s->iov[i].iov_len % f->unit, 0);
        assert_true(s->iov[i].iov_len > 0);
        sum += s->iov[i].iov_len;
    }
    assert_int_equal(sum, s->bytes);
    assert_true(off + sum <= DISK);
    uint64_t fate = rnd(8), n = sum;
    if (fate == 0)
        return rnd(2) ? -EAGAIN : -EINTR;
    if (fate < 3)
        n = (1u + rnd(sum / f->unit)) * f->unit;
    if (fate == 3 && n > f->unit)
        n -= rnd(f->unit); /* ends inside a unit */
    int64_t res = (int64_t)n;
    for (uint32_t i = 0; i < s->iov_count && n > 0; i++) {
        uint64_t k = s->iov[i].iov_len < n ? s->iov[i].iov_len : n;
        if (s->req->op == YK_FILE_WRITE)
            memcpy(disk + off, s->iov[i].iov_base, k);
        else
            memcpy(s->iov[i].iov_base, disk + off, k);
        off += k;
        n -= k;
    }
    return res;
}

static void run(const struct yk_file_handle *f, struct yk_file_req *req, char *disk, char *bounce) {
    struct yk_file_step s;
    uint64_t bounced = 0;
    enum yk_file_step_next next;
    yk_file_step_init(&s, req);
    do {
        if (yk_file_step_prepare(&s, f, NULL) == YK_FILE_STEP_BOUNCE)
            assert_int_equal(yk_file_step_prepare(&s, f, bounce), YK_FILE_STEP_GO);
        next = yk_file_step_finish(&s, f, device(f, &s, disk), &bounced);
    } while (next != YK_FILE_STEP_DONE);
    assert_int_equal(req->status, 0);
    assert_true(f->unit > 1 || bounced == 0);
}

static unsigned cut(char *buf, uint64_t bytes, unsigned most, struct iovec *iov) {
    unsigned n = 0;
    for (; bytes > 0; n++) {
        uint64_t len = n + 1u == most ? bytes : rnd(bytes * 2u / (most - n) + 2u);
        if (n + 1u < most && rnd(2))
            len -= len % 512u;
        if (len > bytes)
            len = bytes;
        iov[n] = (struct iovec){buf, len};
        buf += len;
        bytes -= len;
    }
    return n;
}

static void any_pieces_come_whole_through_short_transfers(void **state) {
    (void)state;
    static const struct yk_file_handle files[] = {{.unit = 1, .mem_align = 1},
                                                  {.unit = 512, .mem_align = 4},
                                                  {.unit = 512, .mem_align = 512},
                                                  {.unit = 4096, .mem_align = 4},
                                                  {.unit = 4096, .mem_align = 4096}};
    char *disk = malloc(DISK), *model = malloc(DISK), *buf = calloc(1, YK_FILE_BYTES + 16384u);
    /* Beside a bounce buffer lies memory of the caller: they must not become one piece. */
    char *both = aligned_alloc(4096, 3u * YK_FILE_BOUNCE), *bounce = both + YK_FILE_BOUNCE;
    for (uint64_t i = 0; i < DISK; i++)
        disk[i] = model[i] = (char)rnd(256);
    for (int round = 0; round < 2500; round++) {
        const struct yk_file_handle *f = &files[round % 5];
        uint64_t most = round % 20 == 0 ? YK_FILE_BYTES : 40960u;
        struct yk_file_req req = {.op = (uint8_t)rnd(2)};
        req.bytes = (1u + rnd(most / YK_FILE_SECTOR)) * YK_FILE_SECTOR;
        char *at = buf + 1u + rnd(4096);
        if (round % 3 == 0 && req.bytes <= YK_FILE_BOUNCE)
            at = rnd(2) ? bounce + YK_FILE_BOUNCE : bounce - req.bytes;
        req.offset = rnd((DISK - req.bytes) / YK_FILE_SECTOR + 1u) * YK_FILE_SECTOR;
        if (req.op == YK_FILE_READ)
            req.bytes -= rnd(YK_FILE_SECTOR);
        struct iovec iov[YK_FILE_IOVS];
        req.iov_count = (uint16_t)cut(at, req.bytes, 1u + (unsigned)rnd(YK_FILE_IOVS), iov);
        req.iov = iov;
        for (uint64_t i = 0; i < req.bytes; i++)
            at[i] = (char)rnd(256);
        char before = at[-1], after = 0;
        int guarded = at >= buf && at < buf + 8192;
        if (guarded)
            after = at[req.bytes];
        run(f, &req, disk, bounce);
        if (req.op == YK_FILE_WRITE)
            memcpy(model + req.offset, at, req.bytes);
        assert_memory_equal(at, model + req.offset, req.bytes);
        assert_true(!guarded || (at[-1] == before && at[req.bytes] == after));
    }
    assert_memory_equal(disk, model, DISK);
    free(disk);
    free(model);
    free(buf);
    free(both);
}

static void an_error_ends_it(void **state) {
    (void)state;
    static const struct {
        int64_t res;
        int status_read, status_write, os_error;
    } ends[] = {
        {-EIO, -YK_EIO, -YK_EIO, EIO},
        {-ENOSPC, -YK_ENOSPC, -YK_ENOSPC, ENOSPC},
        {-ENODEV, -YK_EGONE, -YK_EGONE, ENODEV},
        {-ENXIO, -YK_EGONE, -YK_EGONE, ENXIO},
        {-EBADF, -YK_EGONE, -YK_EGONE, EBADF},
        {0, -YK_EGONE, -YK_EIO, 0},
        {100, -YK_EGONE, -YK_EIO, 0},
    };
    const struct yk_file_handle f = {.unit = 512, .mem_align = 512};
    char *buf = aligned_alloc(4096, 4096);
    struct iovec iov = {buf, 4096};
    for (unsigned i = 0; i < 2u * sizeof(ends) / sizeof(ends[0]); i++) {
        struct yk_file_req req = {
            .op = (uint8_t)(i & 1u), .bytes = 4096, .iov = &iov, .iov_count = 1};
        struct yk_file_step s;
        uint64_t bounced = 0;
        yk_file_step_init(&s, &req);
        assert_int_equal(yk_file_step_prepare(&s, &f, NULL), YK_FILE_STEP_GO);
        assert_int_equal(yk_file_step_finish(&s, &f, ends[i / 2u].res, &bounced),
                         YK_FILE_STEP_DONE);
        assert_int_equal(req.status, i & 1u ? ends[i / 2u].status_write : ends[i / 2u].status_read);
        assert_int_equal(req.os_error, ends[i / 2u].os_error);
    }
    free(buf);
}

/* A kernel that is short of memory for ever ends in an error, too. */
static void trying_again_has_an_end(void **state) {
    (void)state;
    const struct yk_file_handle f = {.unit = 1, .mem_align = 1};
    char buf[16];
    struct iovec iov = {buf, sizeof(buf)};
    struct yk_file_req req = {.op = YK_FILE_READ, .bytes = 16, .iov = &iov, .iov_count = 1};
    struct yk_file_step s;
    uint64_t bounced = 0;
    unsigned tries = 0;
    yk_file_step_init(&s, &req);
    do
        assert_int_equal(yk_file_step_prepare(&s, &f, NULL), YK_FILE_STEP_GO);
    while (yk_file_step_finish(&s, &f, -EAGAIN, &bounced) == YK_FILE_STEP_LATER &&
           ++tries < 100000u);
    assert_int_equal(req.status, -YK_EIO);
    assert_int_equal(tries, YK_FILE_RETRIES);
}

/* ---- order ---------------------------------------------------------------------------------- */

static struct yk_file_req reqs[400];

static struct yk_file_req *add(struct yk_file_sched *s, unsigned i, unsigned op, unsigned prio) {
    memset(&reqs[i], 0, sizeof(reqs[i]));
    reqs[i].op = (uint8_t)op;
    reqs[i].prio = (uint8_t)prio;
    yk_file_sched_add(s, &reqs[i]);
    return &reqs[i];
}

static unsigned start_all(struct yk_file_sched *s) {
    unsigned n = 0;
    while (yk_file_sched_next(s))
        n++;
    return n;
}

static void who_is_waited_for_goes_first(void **state) {
    (void)state;
    struct yk_file_sched s = {.depth = 64};
    struct yk_file_req *want[8];
    want[6] = add(&s, 0, YK_FILE_WRITE, YK_FILE_PRIO_BACKGROUND);
    want[4] = add(&s, 1, YK_FILE_READ, YK_FILE_PRIO_BACKGROUND);
    want[7] = add(&s, 2, YK_FILE_DISCARD, YK_FILE_PRIO_DEMAND);
    want[3] = add(&s, 3, YK_FILE_READ, YK_FILE_PRIO_PREFETCH);
    want[5] = add(&s, 4, YK_FILE_WRITE, YK_FILE_PRIO_DEMAND);
    want[1] = add(&s, 5, YK_FILE_READ, YK_FILE_PRIO_DEMAND);
    want[2] = add(&s, 6, YK_FILE_READ, YK_FILE_PRIO_DEMAND);
    want[0] = add(&s, 7, YK_FILE_FLUSH, YK_FILE_PRIO_BACKGROUND);
    for (unsigned i = 0; i < 8; i++)
        assert_ptr_equal(yk_file_sched_next(&s), want[i]);
    assert_null(yk_file_sched_next(&s));
}

static void writes_leave_room_for_reads(void **state) {
    (void)state;
    struct yk_file_sched s = {.depth = 64};
    for (unsigned i = 0; i < 100; i++)
        add(&s, i, YK_FILE_WRITE, YK_FILE_PRIO_DEMAND);
    assert_int_equal(start_all(&s), 32); /* alone: half of the depth */
    struct yk_file_req *read = add(&s, 100, YK_FILE_READ, YK_FILE_PRIO_DEMAND);
    assert_ptr_equal(yk_file_sched_next(&s), read);
    for (unsigned i = 0; i < 24; i++) { /* with a read: 8 at a time */
        yk_file_sched_done(&s, &reqs[i]);
        assert_null(yk_file_sched_next(&s));
    }
    yk_file_sched_done(&s, &reqs[24]);
    assert_ptr_equal(yk_file_sched_next(&s), &reqs[32]);
    yk_file_sched_done(&s, read);
    assert_int_equal(start_all(&s), 24);
}

static void reads_for_nobody_leave_room(void **state) {
    (void)state;
    struct yk_file_sched s = {.depth = 64};
    for (unsigned i = 0; i < 100; i++)
        add(&s, i, YK_FILE_READ, 1u + i % 2u);
    assert_int_equal(start_all(&s), 32);
    for (unsigned i = 100; i < 140; i++)
        add(&s, i, YK_FILE_READ, YK_FILE_PRIO_DEMAND);
    assert_int_equal(start_all(&s), 32); /* 64 in all */
    yk_file_sched_done(&s, &reqs[1]);
    assert_ptr_equal(yk_file_sched_next(&s), &reqs[132]);
}

static void one_flush_serves_all_that_wait(void **state) {
    (void)state;
    struct yk_file_sched s = {.depth = 4};
    add(&s, 0, YK_FILE_FLUSH, 0);
    assert_ptr_equal(yk_file_sched_next(&s), &reqs[0]);
    for (unsigned i = 1; i < 5; i++)
        add(&s, i, YK_FILE_FLUSH, 0);
    /* Those came after the one under way began: it does not count for them. */
    assert_null(yk_file_sched_next(&s));
    yk_file_sched_done(&s, &reqs[0]);
    struct yk_file_req *all = yk_file_sched_next(&s);
    for (unsigned i = 1; i < 5; i++, all = all->next)
        assert_ptr_equal(all, &reqs[i]);
    assert_null(all);
}

/* Whatever comes, in whatever order it ends: all of it starts, and the limits hold. */
static void nothing_starves(void **state) {
    (void)state;
    for (uint32_t depth = 1; depth <= 64; depth = depth * 3u + 1u) {
        struct yk_file_sched s = {.depth = depth};
        struct yk_file_req *under_way[500];
        unsigned n = 0, added = 0, ended = 0;
        while (ended < 400) {
            if (added < 400 && rnd(2)) {
                add(&s, added, (unsigned)rnd(YK_FILE_OPS), (unsigned)rnd(4));
                added++;
            }
            struct yk_file_req *req;
            while ((req = yk_file_sched_next(&s)))
                under_way[n++] = req;
            assert_true(n <= depth + 2u); /* a flush and a discard beside */
            assert_true(n > 0 || added == ended || added < 400);
            if (n > 0 && (added == 400 || rnd(2))) {
                unsigned i = (unsigned)rnd(n);
                yk_file_sched_done(&s, under_way[i]);
                for (req = under_way[i]; req; req = req->op == YK_FILE_FLUSH ? req->next : NULL)
                    ended++;
                under_way[i] = under_way[--n];
            }
        }
        assert_int_equal(ended, 400);
        assert_null(yk_file_sched_next(&s));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_pieces_come_whole_through_short_transfers),
        cmocka_unit_test(an_error_ends_it),
        cmocka_unit_test(trying_again_has_an_end),
        cmocka_unit_test(who_is_waited_for_goes_first),
        cmocka_unit_test(writes_leave_room_for_reads),
        cmocka_unit_test(reads_for_nobody_leave_room),
        cmocka_unit_test(one_flush_serves_all_that_wait),
        cmocka_unit_test(nothing_starves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
