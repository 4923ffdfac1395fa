/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that devices know: a region's, in chunks, and a caller's for one slice.
 *
 * Chunks are registered by helper threads (registrar.c), from when the region is registered with the engine. Here they
 * are looked up, on threads that move bytes: no lock, no system call. What is not known yet goes over the stream, and is
 * registered before others. A region of one chunk is waited for when it is registered, since that takes no longer than
 * what its caller does with it then, and only for a while.
 *
 * Rejected: registering where a slice needs it, which held a server's thread (and all of its peers) up for 5 to 20 ms a
 * chunk and device, and for as long as opening the device took.
 *
 * Threads: any.
 */
#include "mem_priv.h"

#include "base/clock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READY_NS (3 * YK_NS_PER_S) /* that registering a small region waits for its devices */
#define HASTY_NS (60 * YK_NS_PER_S) /* when that was in vain, others do not wait for so long */
#define RELAXED  (1u << 20) /* IBV_ACCESS_RELAXED_ORDERING, which older headers do not have */
#define ACCESS   (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ) /* of a region: a peer never has more */

struct ibv_mr yk_rdma_refused;
static uint64_t hasty_until_ns; /* atomic: alone, a hint */

/* A device's writes may come in any order: what is read is looked at behind its completion, which is behind all of them
 * and those of reads before it; and nobody has two reads into one place. One that refuses that is not asked again. */
static struct ibv_mr *reg_relaxed(struct yk_rdma_dev *dev, void *addr, uint64_t len, int access) {
    if (dev->v->reg_mr_iova2 == NULL || __atomic_load_n(&dev->strict, __ATOMIC_RELAXED))
        return NULL;
    return dev->v->reg_mr_iova2(dev->pd, addr, len, (uint64_t)(uintptr_t)addr,
                                (unsigned int)access | RELAXED);
}

/* Of a dma-buf. There it has its address, too, so that slices of it are addressed as those of other memory. */
static struct ibv_mr *reg_buffer(struct yk_rdma_dev *dev, const struct yk_rdma_mem *m, uint64_t from, uint64_t len, int access) {
    uint64_t at = (uint64_t)(uintptr_t)m->base + from;
    struct ibv_mr *mr = NULL;
    if (dev->v->reg_dmabuf_mr == NULL)
        return NULL;
    if (!__atomic_load_n(&dev->strict, __ATOMIC_RELAXED))
        mr = dev->v->reg_dmabuf_mr(dev->pd, m->fd_offset + from, len, at, m->fd, access | (int)RELAXED);
    return mr != NULL ? mr : dev->v->reg_dmabuf_mr(dev->pd, m->fd_offset + from, len, at, m->fd, access);
}

/* What cannot be pinned a device may page in when it gets there: slower, and so the last that is tried. */
static struct ibv_mr *reg_range(struct yk_rdma_dev *dev, void *addr, uint64_t len, int access) {
    struct ibv_mr *mr = reg_relaxed(dev, addr, len, access);
    if (mr != NULL)
        return mr;
    mr = dev->v->reg_mr(dev->pd, addr, len, access);
    if (mr != NULL)
        __atomic_store_n(&dev->strict, 1, __ATOMIC_RELAXED);
    else if (dev->pages)
        mr = dev->v->reg_mr(dev->pd, addr, len, access | IBV_ACCESS_ON_DEMAND);
    return mr;
}

/* Of a region, whatever its memory is. */
static struct ibv_mr *reg_part(struct yk_rdma_dev *dev, const struct yk_rdma_mem *m, uint64_t from, uint64_t len, int access) {
    if (m->fd >= 0)
        return reg_buffer(dev, m, from, len, access);
    return m->device ? dev->v->reg_mr(dev->pd, m->base + from, len, access)
                     : reg_range(dev, m->base + from, len, access);
}

struct ibv_mr *yk_rdma_reg_chunk(struct yk_rdma_dev *dev, const struct yk_rdma_mem *m, uint64_t chunk) {
    return reg_part(dev, m, chunk * YK_RDMA_CHUNK, yk_rdma_span(m, chunk), ACCESS);
}

/* ---- regions ------------------------------------------------------------------------------------------ */

/* Where regions keep it. */
static uint32_t slot(void) {
    uint32_t i = 0;
    while (yk_xports[i] != &yk_xport_rdma)
        i++;
    return i;
}

struct yk_rdma_mem *yk_rdma_mem_new(void *base, uint64_t len, const void *owner) {
    struct yk_rdma_mem *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return NULL;
    m->refs = 1;
    m->owner = owner;
    m->base = base;
    m->len = len;
    m->fd = -1;
    yk_rdma_mem_open(m);
    return m;
}

void yk_rdma_mem_free(struct yk_rdma_mem *m) {
    if (m->fd >= 0)
        close(m->fd);
    free(m);
}

int yk_rdma_mem_device(struct yk_rdma_mem *m, int fd, uint64_t fd_offset) {
    m->device = 1;
    m->fd_offset = fd_offset;
    m->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1; /* a device may yet hang when the region is gone */
    return fd >= 0 && m->fd < 0 ? -YK_ELIMIT : 0;
}

int yk_rdma_reg(struct yk_region *region, struct yk_err *err) {
    if (region->file || region->base == NULL)
        return 0;
    struct yk_rdma_mem *m = yk_rdma_mem_new(region->base, region->len, NULL);
    region->keys[slot()] = m;
    if (m == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory to register memory");
    if (yk_region_is_device(region) && yk_rdma_mem_device(m, region->fd, region->fd_offset) < 0)
        return yk_err_set(err, -YK_ELIMIT, "no descriptor for memory of a device");
    return 0;
}

/* With all devices that the settings choose: those that come up later know it when they first need it. */
void yk_rdma_ready(const struct yk_xfer_opts *opts, struct yk_region *region) {
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    struct yk_rdma_settings s;
    struct yk_rdma_mem *m = region->keys[slot()];
    if (m == NULL || yk_rdma_settings_parse(opts->rdma, &s, NULL) < 0)
        return;
    yk_rdma_mem_own(m, opts);
    uint32_t n = yk_rdma_ports_now(&s, ports, YK_RDMA_PORTS_MAX);
    for (uint32_t i = 0; i < n; i++)
        yk_rdma_mem_want(m, ports[i].device, YK_RDMA_ALL);
    uint64_t now = yk_now_ns();
    if (n > 0 && m->len <= YK_RDMA_CHUNK && now >= __atomic_load_n(&hasty_until_ns, __ATOMIC_RELAXED) &&
        yk_rdma_mem_wait(m, now + READY_NS) < 0)
        __atomic_store_n(&hasty_until_ns, now + HASTY_NS, __ATOMIC_RELAXED);
}

int yk_rdma_unready(struct yk_region *region, int last) {
    struct yk_rdma_mem *m = region->keys[slot()];
    int rc = m != NULL ? yk_rdma_mem_end(m, last) : 0;
    if (rc == 0 || last)
        region->keys[slot()] = NULL;
    return rc;
}

struct yk_rdma_mem *yk_rdma_mem_of(const struct yk_region *region) {
    struct yk_rdma_mem *m = region->keys[slot()];
    if (m != NULL)
        __atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED); /* the region's reference is held meanwhile */
    return m;
}

static const struct yk_rdma_job *job_of(const struct yk_rdma_mem *m, const struct yk_rdma_dev *dev) {
    uint32_t n = __atomic_load_n(&m->job_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < n; i++)
        if (__atomic_load_n(&m->jobs[i]->dev, __ATOMIC_ACQUIRE) == dev)
            return m->jobs[i];
    return NULL;
}

/* Whether asking for it again would change nothing. */
static int is_asked(const struct yk_rdma_job *j, const struct ibv_mr *mr) {
    return __atomic_load_n(&j->wanted, __ATOMIC_RELAXED) != 0 ||
           (mr == &yk_rdma_refused && yk_now_ns() < __atomic_load_n(&j->again_ns, __ATOMIC_RELAXED));
}

int yk_rdma_mem_key(struct yk_rdma_mem *m, struct yk_rdma_dev *dev, uint64_t offset, uint64_t len,
                    struct yk_rdma_key *ret_key) {
    if (len == 0 || offset >= m->len || len > m->len - offset)
        return -YK_ENOTSUP;
    uint64_t chunk = offset / YK_RDMA_CHUNK, from = chunk * YK_RDMA_CHUNK, span = yk_rdma_span(m, chunk);
    if (len > span - (offset - from))
        return -YK_ENOTSUP;
    const struct yk_rdma_job *j = job_of(m, dev);
    struct ibv_mr *mr = j != NULL ? __atomic_load_n(&j->mrs[chunk], __ATOMIC_ACQUIRE) : NULL;
    if (mr == NULL || mr == &yk_rdma_refused) {
        if (j == NULL || !is_asked(j, mr))
            yk_rdma_mem_want(m, dev->name, chunk);
        return -YK_ENOTSUP;
    }
    const struct yk_rdma_keys *keys = &j->keys[chunk]; /* of a device that is gone they open nothing */
    *ret_key = (struct yk_rdma_key){.addr = (uint64_t)(uintptr_t)(m->base + from), .from = from, .span = span,
                                    .rkey = __atomic_load_n(&keys->rkey, __ATOMIC_RELAXED),
                                    .lkey = __atomic_load_n(&keys->lkey, __ATOMIC_RELAXED)};
    return 0;
}

/* ---- memory that is borrowed --------------------------------------------------------------------------- */

static int sink_access(const struct yk_rdma_dev *dev) {
    return IBV_ACCESS_LOCAL_WRITE | (dev->iwarp ? IBV_ACCESS_REMOTE_WRITE : 0);
}

int yk_rdma_sink(struct yk_rdma_dev *dev, const struct yk_rdma_mem *m, uint64_t offset, uint64_t len,
                 struct yk_rdma_key *ret_key, struct yk_rdma_loan **ret_loan) {
    struct ibv_mr *mr = reg_part(dev, m, offset, len, sink_access(dev));
    if (mr == NULL)
        return -YK_ENOTSUP;
    *ret_key = (struct yk_rdma_key){.addr = (uint64_t)(uintptr_t)m->base + offset, .span = len, .rkey = mr->rkey, .lkey = mr->lkey};
    *ret_loan = (struct yk_rdma_loan *)(void *)mr;
    return 0;
}

/* A cache of these was rejected: nobody says when a caller unmaps memory and maps other in its place, which the
 * device would then not know. Memory that stays is registered. */
int yk_rdma_borrow(struct yk_rdma_dev *dev, void *addr, uint64_t len, int peers_read, struct yk_rdma_key *ret_key,
                   struct yk_rdma_loan **ret_loan) {
    if (!dev->v->forks_well) /* else a child of the caller would be without these pages */
        return -YK_ENOTSUP;
    struct ibv_mr *mr = reg_range(dev, addr, len, peers_read ? IBV_ACCESS_REMOTE_READ : sink_access(dev));
    if (mr == NULL)
        return -YK_ENOTSUP;
    *ret_key = (struct yk_rdma_key){.addr = (uint64_t)(uintptr_t)addr, .span = len, .rkey = mr->rkey, .lkey = mr->lkey};
    *ret_loan = (struct yk_rdma_loan *)(void *)mr;
    return 0;
}

void yk_rdma_return(struct yk_rdma_dev *dev, struct yk_rdma_loan *loan) {
    if (loan != NULL)
        dev->v->dereg_mr((struct ibv_mr *)(void *)loan);
}
