/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the log of removes share: removes of test keys, logs on images, and their I/O done at once.
 * Threads: a test's own.
 */
#ifndef YK_TESTS_DIR_RLOG_FIXTURE_H
#define YK_TESTS_DIR_RLOG_FIXTURE_H

#include "dir/rlog.h"
#include "dir_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { HEAD = 64 }; /* of an image or a file, in bytes */

static inline struct yk_dir_remove remove_of(const struct test_key *k, struct yk_dir_num origin, struct yk_dir_num num) {
    return (struct yk_dir_remove){.origin = origin, .num = num, .key = k->key, .hash = k->hash};
}

/* 1: something was written; 0: there was nothing to do. */
static inline int work(struct yk_dir_rlog *log) {
    struct yk_dir_rlog_io io;
    int rc = yk_dir_rlog_begin(log, &io);
    if (rc != 1)
        return rc;
    yk_dir_rlog_io(&io);
    return yk_dir_rlog_end(log, &io, NULL) == 0 ? 1 : -1;
}

static inline struct yk_dir_rlog *image_open(const void *image, size_t len, uint32_t keep,
                                             struct yk_dir_rlog_report *report) {
    struct yk_dir_rlog *log = NULL;
    struct yk_dir_rlog_opts opts = {
        .image = image, .image_len = len, .keep_removes = keep, .keep_s = 50, .compact_min = 1024};
    assert_int_equal(yk_dir_rlog_open(&opts, &log, report, NULL), 0);
    return log;
}

#endif
