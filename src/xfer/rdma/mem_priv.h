/* SPDX-License-Identifier: Apache-2.0
 *
 * What mem.c and registrar.c share: a region's memory, and what is to be done, or was, to make it known to a device.
 *
 * Thread: the registrar's lock, but for what says atomic.
 */
#ifndef YK_XFER_RDMA_MEM_PRIV_H
#define YK_XFER_RDMA_MEM_PRIV_H

#include "device_priv.h"

struct yk_rdma_helper;

/* Of a chunk; atomic. */
struct yk_rdma_keys {
    uint32_t lkey, rkey;
};

/* One region's memory and one device. */
struct yk_rdma_job {
    struct yk_rdma_mem *mem;
    struct yk_rdma_helper *helper;
    struct yk_rdma_job *next, *prev; /* the helper's, while `queued` */
    struct yk_rdma_dev *dev;         /* atomic: released when it is open, and counted; NULL: not yet, or it was taken out */
    struct ibv_mr **mrs;             /* by chunk; atomic: released when it is registered; NULL, or yk_rdma_refused */
    struct yk_rdma_keys *keys;       /* likewise: who looks at them does not look at what may go with a device */
    uint64_t chunks, at;             /* at: the next in order */
    uint64_t wanted;                 /* atomic: a chunk that something needs now, + 1; 0: none */
    uint64_t taken;                  /* the chunk that is being registered, + 1; 0: none */
    uint64_t again_ns;               /* atomic: what was refused is not tried before */
    uint64_t known, refused;         /* bytes */
    uint8_t queued;
    uint8_t busy;   /* a chunk is being registered */
    uint8_t ending; /* what the device knows is to be forgotten */
};

struct yk_rdma_mem {
    uint32_t refs; /* atomic: the region's, and one for each that is at work in it */
    uint32_t job_count; /* atomic: released when the job is whole */
    char *base;
    uint64_t len;
    int fd;             /* a dma-buf of it, at fd_offset, its own; -1: it is known by its address */
    uint64_t fd_offset;
    uint8_t device;     /* it is a device's: nothing pages it in */
    const void *owner; /* whose it is: devices that another chose are not told of it */
    struct yk_rdma_mem *next, *prev; /* all of the process, until it is closed */
    int closed;
    uint32_t pinned; /* jobs that are not gone: devices may know it */
    int awaited;     /* somebody is to be told when they do not any more */
    struct yk_rdma_job *jobs[YK_RDMA_DEVICES_MAX];
};

extern struct ibv_mr yk_rdma_refused; /* in place of what a device did not take */

static inline uint64_t yk_rdma_span(const struct yk_rdma_mem *m, uint64_t chunk) {
    uint64_t from = chunk * YK_RDMA_CHUNK;
    return m->len - from < YK_RDMA_CHUNK ? m->len - from : YK_RDMA_CHUNK;
}

/* ---- mem.c ---- */

void yk_rdma_mem_free(struct yk_rdma_mem *m); /* nobody has it */
/* Of the region alone. NULL: it was refused. Blocks. */
struct ibv_mr *yk_rdma_reg_chunk(struct yk_rdma_dev *dev, const struct yk_rdma_mem *m, uint64_t chunk);

/* ---- registrar.c ---- */

void yk_rdma_mem_open(struct yk_rdma_mem *m); /* into the list of all */

#endif
