/* SPDX-License-Identifier: Apache-2.0
 *
 * cmocka's includes, and files for the trace tests.
 */
#ifndef YK_TEST_TRACE_TESTING_H
#define YK_TEST_TRACE_TESTING_H

#include "trace/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Writes a file of its own name into path (at least 32 bytes); the caller unlinks it. */
static inline void make_file(char *path, const void *bytes, size_t len) {
    strcpy(path, "/tmp/yk-trace-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, (const char *)bytes + at, len - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    close(fd);
}

#endif
