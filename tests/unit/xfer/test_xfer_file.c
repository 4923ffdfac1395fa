/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance of `file`: an engine, and a file that it opens by its path. The file is in memory, so that
 * no disk decides how long what cannot be taken back lasts; files on disks are file_transport's.
 */
#include "conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static int fd = -1;

static void open_one(struct conform_rig *rig, const yk_xfer_opts *opts) {
    char where[48];
    yk_xfer_opts o = *opts;
    fd = memfd_create("yk-conform", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, CONFORM_BYTES), 0);
    o.size = sizeof(o);
    o.transports = rig->transports;
    assert_int_equal(yk_xfer_create(&o, &rig->from), 0);
    snprintf(where, sizeof(where), "file:/proc/self/fd/%d", fd);
    assert_int_equal(yk_xfer_open(rig->from, where, 0, &rig->segment), 0);
}

static void close_one(struct conform_rig *rig) {
    yk_xfer_destroy(rig->from);
    close(fd);
}

static void put(struct conform_rig *rig, uint64_t offset, const void *data, uint64_t len) {
    (void)rig;
    assert_int_equal(pwrite(fd, data, len, (off_t)offset), (ssize_t)len);
}

static void get(struct conform_rig *rig, uint64_t offset, void *data, uint64_t len) {
    (void)rig;
    assert_int_equal(pread(fd, data, len, (off_t)offset), (ssize_t)len);
}

static struct conform_rig rig = {.name = "file",
                                 .open = open_one,
                                 .close = close_one,
                                 .put = put,
                                 .get = get,
                                 .transports = YK_XFER_FILE};

static void plain(void **state) {
    (void)state;
    conform_plain(&rig);
}

static void lanes_that_fail(void **state) {
    (void)state;
    conform_faults(&rig, "error", "");
}

static void requests_that_fail(void **state) {
    (void)state;
    conform_faults(&rig, "error", ",scope=request");
}

static void slices_that_vanish(void **state) {
    (void)state;
    conform_faults(&rig, "drop", "");
}

static void slices_that_are_late(void **state) {
    (void)state;
    conform_faults(&rig, "delay", ",ms=2");
}

static uint32_t descriptors(void) {
    uint32_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* Though the engine is idle afterwards: else an unlinked file would keep its space. */
static void a_closed_file_is_not_kept_open(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .shards = 2};
    (void)state;
    open_one(&rig, &o);
    char local[4096];
    yk_xfer_memory m = {.addr = local, .length = sizeof(local), .fd = -1};
    assert_int_equal(yk_xfer_register(rig.from, &m, 1), 0);
    assert_int_equal(yk_xfer_close(rig.from, rig.segment), 0);
    uint32_t before = descriptors();
    char where[48];
    snprintf(where, sizeof(where), "file:/proc/self/fd/%d", fd);
    assert_int_equal(yk_xfer_open(rig.from, where, 0, &rig.segment), 0);
    yk_xfer_request q = {.op = YK_XFER_READ, .local = local, .segment = rig.segment, .length = sizeof(local)};
    assert_int_equal(yk_xfer_run(rig.from, &q, 1, NULL), 0);
    assert_true(descriptors() > before);
    assert_int_equal(yk_xfer_close(rig.from, rig.segment), 0);
    assert_int_equal(descriptors(), before);
    close_one(&rig);
}

static void faults_at_random(void **state) {
    (void)state;
    conform_rates(&rig, "error", "");
    conform_rates(&rig, "error", ",scope=request");
    conform_rates(&rig, "delay", ",ms=2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_closed_file_is_not_kept_open),
        cmocka_unit_test(plain),
        cmocka_unit_test(lanes_that_fail),
        cmocka_unit_test(requests_that_fail),
        cmocka_unit_test(slices_that_vanish),
        cmocka_unit_test(slices_that_are_late),
        cmocka_unit_test(faults_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
