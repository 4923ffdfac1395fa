/* SPDX-License-Identifier: Apache-2.0
 *
 * See cuda.h. A dma-buf is of whole pages, so it is asked for from the page in which the memory begins to the one in which it
 * ends; what is beside the memory in those is the same allocation's or padding, and no key reaches it. Exporting needs a
 * current context, which the thread that registers need not have: that of the memory, or the device's primary one for
 * memory that belongs to none, is pushed for as long as that takes.
 *
 * Rejected: a dma-buf for each chunk of a large range (a call of the driver on the threads that register, each with a context
 * of its own, and thousands of descriptors); asking the driver for every address that is registered (host memory, nearly
 * always; and it would load CUDA into every process).
 *
 * Threads: any.
 */
#include "xfer/cuda.h"

#include <unistd.h>

/* Of the driver's interface. */
#define ATTRIBUTE_CONTEXT     1
#define ATTRIBUTE_MEMORY_TYPE 2
#define ATTRIBUTE_SYNC        6
#define ATTRIBUTE_IS_MANAGED  8
#define ATTRIBUTE_ORDINAL     9
#define MEMORY_OF_DEVICE      2
#define HANDLE_DMA_BUF        1

/* Which device has it: all of it, and it stays there. */
static int check(const struct yk_cuda_driver *d, unsigned long long at, uint64_t len, int *ret_device, struct yk_err *err) {
    unsigned int type = 0, managed = 0;
    int ordinal = -1, last = -1;
    int rc = d->attribute(&type, ATTRIBUTE_MEMORY_TYPE, at);
    if (rc == 0)
        rc = d->attribute(&ordinal, ATTRIBUTE_ORDINAL, at);
    if (rc == 0)
        rc = d->attribute(&last, ATTRIBUTE_ORDINAL, at + len - 1);
    if (rc != 0 || type != MEMORY_OF_DEVICE || ordinal < 0 || last != ordinal)
        return yk_err_set(err, -YK_EINVAL, "%llu bytes at %#llx are not memory of one CUDA device",
                          (unsigned long long)len, at);
    if (d->attribute(&managed, ATTRIBUTE_IS_MANAGED, at) == 0 && managed)
        return yk_err_set(err, -YK_EINVAL, "%llu bytes at %#llx are managed by CUDA, which moves them",
                          (unsigned long long)len, at);
    *ret_device = ordinal;
    return 0;
}

/* With a current context. The number of the driver's; 0: and a descriptor. */
static int export(const struct yk_cuda_driver *d, unsigned long long at, uint64_t len, struct yk_cuda_memory *m) {
    unsigned long long page = (unsigned long long)sysconf(_SC_PAGESIZE), from = at / page * page;
    unsigned long long end = (at + len + page - 1) / page * page;
    int fd = -1;
    int rc = d->handle != NULL ? d->handle(&fd, from, end - from, HANDLE_DMA_BUF, 0) : -1;
    if (rc != 0 || fd < 0)
        return rc != 0 ? rc : -1;
    m->fd = fd;
    m->offset = at - from;
    return 0;
}

/* Makes a context current in which the memory is known; *ret_retained: it is the device's own, and counted. */
static int enter(const struct yk_cuda_driver *d, unsigned long long at, int device, int *ret_retained) {
    void *context = NULL;
    *ret_retained = 0;
    if (d->attribute(&context, ATTRIBUTE_CONTEXT, at) != 0 || context == NULL) {
        int rc = d->retain_context(&context, device);
        if (rc != 0)
            return rc;
        *ret_retained = 1;
    }
    int rc = d->push_context(context);
    if (rc != 0 && *ret_retained)
        (void)d->release_context(device);
    return rc;
}

int yk_cuda_find(const void *addr, uint64_t len, struct yk_cuda_memory *ret_memory, struct yk_err *err) {
    unsigned long long at = (unsigned long long)(uintptr_t)addr;
    struct yk_cuda_memory m = {.fd = -1};
    unsigned int yes = 1;
    int retained;
    const struct yk_cuda_driver *d = yk_cuda_driver_load(err);
    int rc = d == NULL ? -YK_ENOTSUP : check(d, at, len, &m.device, err);
    if (rc < 0)
        return rc;
    int why = enter(d, at, m.device, &retained);
    if (why == 0) {
        void *was;
        why = export(d, at, len, &m);
        (void)d->set_attribute(&yes, ATTRIBUTE_SYNC, at); /* some memory has no such thing */
        (void)d->pop_context(&was);
        if (retained)
            (void)d->release_context(m.device);
    }
    if (why != 0 && !d->has_peermem())
        return yk_err_set(err, -YK_ENOTSUP, "CUDA exports no dma-buf of %llu bytes at %#llx (%s %d), and nvidia_peermem is "
                                            "not loaded", (unsigned long long)len, at,
                          d->handle != NULL ? "error" : "an old driver:", why);
    *ret_memory = m;
    return 0;
}
