/* SPDX-License-Identifier: Apache-2.0
 *
 * A device in a directory of its own, requests of random pieces, and the bytes that they should have
 * moved: what the tests of devices share.
 */
#ifndef YK_TESTS_XFER_FILE_RIG_H
#define YK_TESTS_XFER_FILE_RIG_H

#include "xfer/file/file.h"

#include <stddef.h>

#define RIG_SIZE    (16u << 20)
#define RIG_WAIT_MS 20000u

/* Which device a case runs on. */
struct variant {
    const char *name;
    const struct yk_file_ops *ops;
    int buffered;
    int shm;   /* in /dev/shm */
    int fault; /* wrapped */
    int quick; /* with an eventfd, so that some reads are the owner's own */
};

struct rig {
    const struct variant *v;
    char dir[64], path[128];
    struct yk_file *io;
    struct yk_file_opts opts;
    struct yk_err err;
    uint64_t wakes; /* atomic */
    uint64_t rand;
};

/* The directory only. */
void rig_init(struct rig *rig, const struct variant *v);
/* Opens rig->opts; asserts that it does. */
void rig_open(struct rig *rig);
/* rig_init, a file of RIG_SIZE, rig_open. */
void rig_start(struct rig *rig, const struct variant *v);
void rig_close(struct rig *rig);
void rig_fini(struct rig *rig);

uint64_t rig_rand(struct rig *rig, uint64_t below);
void rig_fill(struct rig *rig, void *to, size_t bytes);

/* Submits one request and waits for it; its status. */
int rig_do(struct rig *rig, unsigned op, uint64_t offset, void *buf, uint64_t bytes);
int rig_do_iov(struct rig *rig, unsigned op, uint64_t offset, const struct iovec *iov,
               unsigned iov_count);
/* Waits for at least one; a list, as reap. Fails the test after RIG_WAIT_MS. */
struct yk_file_req *rig_reap(struct rig *rig);
/* Cuts [buf, buf + bytes) into at most `most` pieces of random, odd lengths; returns their number. */
unsigned rig_cut(struct rig *rig, char *buf, uint64_t bytes, unsigned most, struct iovec *iov);

#endif
