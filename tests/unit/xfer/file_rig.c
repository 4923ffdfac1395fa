/* SPDX-License-Identifier: Apache-2.0
 *
 * file_rig.h. Directories lie in $TMPDIR, or where the test runs: a real file system, so that
 * O_DIRECT is tested where there is any.
 */
#include "file_rig.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

static void count_wake(void *arg) {
    __atomic_fetch_add((uint64_t *)arg, 1, __ATOMIC_RELAXED);
}

void rig_init(struct rig *rig, const struct variant *v) {
    memset(rig, 0, sizeof(*rig));
    const char *tmp = getenv("TMPDIR");
    snprintf(rig->dir, sizeof(rig->dir), "%s/yolk-file-XXXXXX",
             v->shm                    ? "/dev/shm"
             : tmp && strlen(tmp) < 40 ? tmp
                                       : "/var/tmp");
    assert_non_null(mkdtemp(rig->dir));
    snprintf(rig->path, sizeof(rig->path), "%s/ssd", rig->dir);
    rig->v = v;
    rig->rand = 88172645463325252ull;
    rig->opts = (struct yk_file_opts){.path = rig->path,
                                      .size_bytes = RIG_SIZE,
                                      .create = 1,
                                      .buffered = v->buffered,
                                      .wake = count_wake,
                                      .wake_arg = &rig->wakes};
    if (v->quick) {
        rig->opts.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        assert_true(rig->opts.wake_fd > 0);
    }
}

void rig_open(struct rig *rig) {
    int rc = rig->v->ops->open(&rig->opts, &rig->io, &rig->err);
    if (rc < 0)
        fail_msg("%s: %s", yk_status_name(rc), rig->err.text);
    if (rig->v->fault) {
        struct yk_file *inner = rig->io;
        assert_int_equal(yk_file_fault_new(inner, &rig->io), 0);
    }
}

void rig_start(struct rig *rig, const struct variant *v) {
    rig_init(rig, v);
    rig_open(rig);
}

void rig_close(struct rig *rig) {
    if (rig->io)
        rig->io->ops->close(rig->io);
    rig->io = NULL;
}

void rig_fini(struct rig *rig) {
    rig_close(rig);
    if (rig->opts.wake_fd > 0)
        close(rig->opts.wake_fd);
    DIR *d = opendir(rig->dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[400];
        snprintf(path, sizeof(path), "%s/%s", rig->dir, e->d_name);
        if (e->d_name[0] != '.')
            (void)remove(path);
    }
    if (d)
        closedir(d);
    assert_int_equal(rmdir(rig->dir), 0);
}

uint64_t rig_rand(struct rig *rig, uint64_t below) {
    rig->rand ^= rig->rand << 13;
    rig->rand ^= rig->rand >> 7;
    rig->rand ^= rig->rand << 17;
    return below ? rig->rand % below : rig->rand;
}

void rig_fill(struct rig *rig, void *to, size_t bytes) {
    uint8_t *p = to;
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t r = rig_rand(rig, 0);
        memcpy(p + i, &r, bytes - i < 8 ? bytes - i : 8);
    }
}

struct yk_file_req *rig_reap(struct rig *rig) {
    uint64_t begun = yk_now_ns();
    struct yk_file_req *reqs;
    while (!(reqs = rig->io->ops->reap(rig->io))) {
        if (yk_now_ns() - begun > RIG_WAIT_MS * YK_NS_PER_MS)
            fail_msg("nothing came back in %u ms", RIG_WAIT_MS);
        rig->io->ops->wait(rig->io, 1000);
    }
    return reqs;
}

int rig_do_iov(struct rig *rig, unsigned op, uint64_t offset, const struct iovec *iov,
               unsigned iov_count) {
    struct yk_file_req req = {
        .op = (uint8_t)op, .offset = offset, .iov = iov, .iov_count = (uint16_t)iov_count};
    for (unsigned i = 0; i < iov_count; i++)
        req.bytes += iov[i].iov_len;
    rig->io->ops->submit(rig->io, &req);
    assert_ptr_equal(rig_reap(rig), &req);
    assert_null(req.next);
    assert_true(req.done_ns >= req.submit_ns);
    return req.status;
}

int rig_do(struct rig *rig, unsigned op, uint64_t offset, void *buf, uint64_t bytes) {
    struct iovec iov = {.iov_base = buf, .iov_len = bytes};
    struct yk_file_req req = {
        .op = (uint8_t)op, .offset = offset, .bytes = bytes, .iov = &iov, .iov_count = buf != NULL};
    rig->io->ops->submit(rig->io, &req);
    assert_ptr_equal(rig_reap(rig), &req);
    assert_null(req.next);
    return req.status;
}

unsigned rig_cut(struct rig *rig, char *buf, uint64_t bytes, unsigned most, struct iovec *iov) {
    unsigned n = 0;
    while (bytes > 0) {
        uint64_t len = n + 1u == most ? bytes : rig_rand(rig, bytes * 2u / (most - n) + 1u);
        if (len > bytes)
            len = bytes;
        if (n + 1u < most && rig_rand(rig, 3) == 0 && len > 512u)
            len -= len % 512u; /* some are aligned */
        iov[n].iov_base = buf;
        iov[n++].iov_len = len;
        buf += len;
        bytes -= len;
    }
    return n;
}
