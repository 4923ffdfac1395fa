/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of CUDA devices, as RDMA devices take it: the driver is found at run time (cuda_driver.c), asked which device
 * has the memory, and for a dma-buf of it. No header of CUDA is needed: what is used of its driver's interface is
 * declared here.
 *
 * Threads: any.
 */
#ifndef YK_XFER_CUDA_H
#define YK_XFER_CUDA_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_cuda_memory {
    int fd;          /* a dma-buf, the caller's to close; -1: nvidia_peermem has devices reach it by its address */
    uint64_t offset; /* of the memory in it */
    int device;      /* ordinal, as this process sees them */
};

/* [addr, addr + len), device pointers of one allocation. Also sees to it that copies which the driver calls synchronous are
 * over when they return (as its interface wants of memory that other devices read). -YK_EINVAL: it is no memory of a
 * CUDA device; -YK_ENOTSUP: there is no driver, or it exports nothing of it and nvidia_peermem is not loaded. */
int yk_cuda_find(const void *addr, uint64_t len, struct yk_cuda_memory *ret_memory, struct yk_err *err);

/* ---- cuda_driver.c ------------------------------------------------------------------------------------ */

/* Each returns 0, or a number of the driver's. */
struct yk_cuda_driver {
    int (*init)(unsigned int flags);
    int (*attribute)(void *ret, int attribute, unsigned long long ptr);
    int (*set_attribute)(const void *value, int attribute, unsigned long long ptr);
    int (*push_context)(void *context);
    int (*pop_context)(void **ret_context);
    int (*retain_context)(void **ret_context, int device); /* a device's primary one */
    int (*release_context)(int device);
    int (*handle)(void *ret, unsigned long long ptr, size_t len, int type, unsigned long long flags); /* or NULL */
    int (*has_peermem)(void); /* whether the kernel has nvidia_peermem */
};

/* Loads and begins it once for the process; NULL: there is none (text). */
const struct yk_cuda_driver *yk_cuda_driver_load(struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
