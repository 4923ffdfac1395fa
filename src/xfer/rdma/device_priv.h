/* SPDX-License-Identifier: Apache-2.0
 *
 * What qp.c sees of a device (device.c).
 *
 * Thread: immutable while it is counted, but for its counts: any.
 */
#ifndef YK_XFER_RDMA_DEVICE_PRIV_H
#define YK_XFER_RDMA_DEVICE_PRIV_H

#include "rdma_priv.h"
#include "verbs.h"

struct ibv_context;
struct ibv_pd;
struct yk_verbs;

struct yk_rdma_dev {
    const struct yk_verbs *v;
    struct ibv_context *ctx;
    struct ibv_pd *pd;
    char name[64];
    int opening; /* under the table's lock: by who put it there; else immutable while it is counted */
    int gone;   /* atomic: it was taken out of the host */
    int pages;  /* it reads and writes memory that is not pinned (on-demand paging) */
    int strict; /* atomic: it takes no memory for which the order of its writes may be relaxed; a hint */
    uint32_t index;  /* in the table of devices */
    uint32_t refs;   /* under the table's lock */
    uint32_t reads;  /* READs that a queue pair answers, and has under way, at most */
    uint32_t depth;  /* entries of a send queue at most */
    struct yk_device_counts *counts; /* of all that use it: added to with relaxed atomics, since nothing hangs on them */
    uint8_t iwarp;   /* the sink of a read must be one that peers may write to */
    uint8_t marks;   /* it is emulated: what it says of reads is looked at (marks.h) */
};

#endif
