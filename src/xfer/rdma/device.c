/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices that are open, and memory that is registered with them.
 *
 * A device is opened for the first lane or queue pair and closed with the last thing that stands on it, so that a
 * driver can be taken out of a host whose lanes have ended. There is one table for the process: several engines
 * share a device as they share the kernel's.
 *
 * A region's memory is registered in chunks, each with each device when something first needs it: registering
 * 180 GB at once takes a minute, a chunk 5 to 20 ms. Two that need one chunk at a time wait for each other
 * (lock of the region). A chunk that cannot be registered is tried again by the next that needs it.
 *
 * Threads: any; locks docs/locks.md.
 */
#include "device_priv.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES_MAX 16u
#define CHUNK       (64ull << 20)
#define READS_MAX   16u

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct yk_rdma_dev *table[DEVICES_MAX];
/* Counts outlast the device that they are of; the last entry is that of all for which there was none left. */
static struct yk_device_counts counts[DEVICES_MAX];

/* ---- counts ----------------------------------------------------------------------------------------- */

/* Those of a device, by its name; the table's lock is held. */
static struct yk_device_counts *counts_of(const char *name) {
    uint32_t i = 0;
    while (i + 1 < DEVICES_MAX && counts[i].name[0] != 0 && strcmp(counts[i].name, name) != 0)
        i++;
    if (counts[i].name[0] == 0)
        snprintf(counts[i].name, sizeof(counts[i].name), "%s", i + 1 < DEVICES_MAX ? name : "others");
    return &counts[i];
}

static uint64_t count_of(const uint64_t *count) {
    return __atomic_load_n(count, __ATOMIC_RELAXED); /* a figure for people: nothing hangs on its order */
}

uint32_t yk_rdma_devices(struct yk_device_counts *ret_counts, uint32_t cap) {
    uint32_t n = 0;
    pthread_mutex_lock(&table_lock);
    for (; n < cap && n < DEVICES_MAX && counts[n].name[0] != 0; n++) {
        const struct yk_device_counts *c = &counts[n];
        memcpy(ret_counts[n].name, c->name, sizeof(c->name));
        ret_counts[n].requests = count_of(&c->requests);
        ret_counts[n].signalled = count_of(&c->signalled);
        ret_counts[n].doorbells = count_of(&c->doorbells);
        ret_counts[n].completions = count_of(&c->completions);
        ret_counts[n].wakeups = count_of(&c->wakeups);
        ret_counts[n].arms = count_of(&c->arms);
        ret_counts[n].bytes = count_of(&c->bytes);
    }
    pthread_mutex_unlock(&table_lock);
    return n;
}

/* ---- devices ---------------------------------------------------------------------------------------- */

static struct ibv_context *open_by_name(const struct yk_verbs *v, const char *name) {
    struct ibv_context *ctx = NULL;
    int n = 0;
    struct ibv_device **list = v->get_device_list(&n);
    for (int i = 0; list != NULL && i < n && ctx == NULL; i++)
        if (strcmp(v->get_device_name(list[i]), name) == 0)
            ctx = v->open_device(list[i]);
    if (list != NULL)
        v->free_device_list(list);
    return ctx;
}

static int dev_open(struct yk_rdma_dev *d, struct yk_err *err) {
    struct ibv_device_attr attr;
    memset(&attr, 0, sizeof(attr));
    d->ctx = open_by_name(d->v, d->name);
    if (d->ctx == NULL)
        return yk_err_set(err, -YK_ENOENT, "RDMA device %s cannot be opened", d->name);
    d->pd = d->v->alloc_pd(d->ctx);
    if (d->pd == NULL || d->v->query_device(d->ctx, &attr) != 0)
        return yk_err_set(err, -YK_EIO, "RDMA device %s does not say what it is", d->name);
    int reads = attr.max_qp_rd_atom < attr.max_qp_init_rd_atom ? attr.max_qp_rd_atom : attr.max_qp_init_rd_atom;
    d->reads = reads < 1 ? 1 : reads > (int)READS_MAX ? READS_MAX : (uint32_t)reads;
    d->depth = (uint32_t)attr.max_qp_wr;
    d->iwarp = d->ctx->device->transport_type == IBV_TRANSPORT_IWARP;
    return 0;
}

static void dev_free(struct yk_rdma_dev *d) {
    if (d->pd != NULL)
        d->v->dealloc_pd(d->pd);
    if (d->ctx != NULL)
        d->v->close_device(d->ctx);
    free(d);
}

static int dev_new(const char *name, uint32_t index, struct yk_rdma_dev **ret_dev, struct yk_err *err) {
    const struct yk_verbs *v = yk_verbs_load(err);
    struct yk_rdma_dev *d = v != NULL ? calloc(1, sizeof(*d)) : NULL;
    if (d == NULL)
        return v == NULL ? -YK_ENOTSUP : yk_err_set(err, -YK_ENOMEM, "no memory for an RDMA device");
    d->v = v;
    d->index = index;
    d->refs = 1;
    d->counts = counts_of(name);
    snprintf(d->name, sizeof(d->name), "%s", name);
    int rc = dev_open(d, err);
    if (rc < 0) {
        dev_free(d);
        return rc;
    }
    *ret_dev = d;
    return 0;
}

int yk_rdma_dev_get(const char *name, struct yk_rdma_dev **ret_dev, struct yk_err *err) {
    uint32_t at = DEVICES_MAX;
    int rc = 0;
    pthread_mutex_lock(&table_lock);
    for (uint32_t i = 0; i < DEVICES_MAX; i++)
        if (table[i] == NULL)
            at = at == DEVICES_MAX ? i : at;
        else if (strcmp(table[i]->name, name) == 0) {
            at = i;
            break;
        }
    if (at == DEVICES_MAX)
        rc = yk_err_set(err, -YK_ELIMIT, "more than %u RDMA devices are in use", DEVICES_MAX);
    else if (table[at] == NULL)
        rc = dev_new(name, at, &table[at], err);
    else
        table[at]->refs++;
    if (rc == 0)
        *ret_dev = table[at];
    pthread_mutex_unlock(&table_lock);
    return rc;
}

void yk_rdma_dev_put(struct yk_rdma_dev *d) {
    if (d == NULL)
        return;
    pthread_mutex_lock(&table_lock);
    if (--d->refs == 0) {
        table[d->index] = NULL;
        dev_free(d);
    }
    pthread_mutex_unlock(&table_lock);
}

int yk_rdma_check(const char *settings, struct yk_err *err) {
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    struct yk_rdma_settings s;
    int rc = yk_rdma_settings_parse(settings, &s, err);
    if (rc < 0)
        return rc;
    if (yk_verbs_load(err) == NULL)
        return -YK_ENOTSUP;
    if (yk_rdma_ports_now(&s, ports, YK_RDMA_PORTS_MAX) == 0)
        return yk_err_set(err, -YK_ENOTSUP, "no RDMA: no device%s has an active port with an IP address "
                                            "(RoCE v2, InfiniBand with IPoIB, or iWARP with librdmacm)",
                          s.device_count > 0 ? " of those named" : "");
    return 0;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

struct yk_rdma_mem {
    uint32_t refs; /* atomic: the region's, and one for each that is at work in it */
    char *base;
    uint64_t len;
    pthread_mutex_t lock; /* the rest */
    struct {
        struct yk_rdma_dev *dev;  /* counted; NULL: not used here */
        struct ibv_mr **mrs;      /* by chunk; NULL: not registered */
    } on[DEVICES_MAX];
};

static uint64_t chunks_of(uint64_t len) {
    return (len + CHUNK - 1) / CHUNK;
}

/* Where regions keep it. */
static uint32_t slot(void) {
    uint32_t i = 0;
    while (yk_xports[i] != &yk_xport_rdma)
        i++;
    return i;
}

int yk_rdma_reg(struct yk_region *region, struct yk_err *err) {
    if (region->file || region->base == NULL)
        return 0;
    struct yk_rdma_mem *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory to register memory");
    m->refs = 1;
    m->base = region->base;
    m->len = region->len;
    pthread_mutex_init(&m->lock, NULL);
    region->keys[slot()] = m;
    return 0;
}

void yk_rdma_unreg(struct yk_region *region) {
    yk_rdma_mem_put(region->keys[slot()]);
    region->keys[slot()] = NULL;
}

struct yk_rdma_mem *yk_rdma_mem_of(const struct yk_region *region) {
    struct yk_rdma_mem *m = region->keys[slot()];
    if (m != NULL)
        __atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED); /* the region's reference is held meanwhile */
    return m;
}

void yk_rdma_mem_put(struct yk_rdma_mem *m) {
    if (m == NULL || __atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL) > 0) /* the last sees what all did */
        return;
    for (uint32_t i = 0; i < DEVICES_MAX; i++) {
        struct yk_rdma_dev *d = m->on[i].dev;
        for (uint64_t k = 0; d != NULL && k < chunks_of(m->len); k++)
            if (m->on[i].mrs[k] != NULL)
                d->v->dereg_mr(m->on[i].mrs[k]);
        free(m->on[i].mrs);
        yk_rdma_dev_put(d);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* The place of a device's registrations, made if there is none; its lock is held. */
static struct ibv_mr **mrs_of(struct yk_rdma_mem *m, struct yk_rdma_dev *dev) {
    uint32_t i = dev->index;
    struct yk_err err;
    struct yk_rdma_dev *counted = NULL;
    if (m->on[i].dev == dev)
        return m->on[i].mrs;
    struct ibv_mr **mrs = calloc(chunks_of(m->len), sizeof(struct ibv_mr *));
    if (mrs == NULL || yk_rdma_dev_get(dev->name, &counted, &err) < 0) {
        free(mrs);
        return NULL;
    }
    m->on[i].dev = counted;
    m->on[i].mrs = mrs;
    return mrs;
}

int yk_rdma_mem_key(struct yk_rdma_mem *m, struct yk_rdma_dev *dev, uint64_t offset, uint64_t len,
                    struct yk_rdma_key *ret_key) {
    uint64_t chunk = offset / CHUNK, from = chunk * CHUNK;
    uint64_t span = m->len - from < CHUNK ? m->len - from : CHUNK;
    if (len == 0 || offset + len > from + span)
        return -YK_ENOTSUP;
    pthread_mutex_lock(&m->lock);
    struct ibv_mr **mrs = mrs_of(m, dev), *mr = mrs != NULL ? mrs[chunk] : NULL;
    if (mrs != NULL && mr == NULL)
        mr = mrs[chunk] = dev->v->reg_mr(dev->pd, m->base + from, span,
                                         IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
    pthread_mutex_unlock(&m->lock);
    if (mr == NULL)
        return -YK_ENOTSUP;
    *ret_key = (struct yk_rdma_key){.addr = (uint64_t)(uintptr_t)(m->base + from), .from = from, .span = span,
                                    .rkey = mr->rkey};
    ret_key->lkey = mr->lkey;
    return 0;
}

/* ---- memory that is borrowed --------------------------------------------------------------------------- */

static int sink_access(const struct yk_rdma_dev *dev) {
    return IBV_ACCESS_LOCAL_WRITE | (dev->iwarp ? IBV_ACCESS_REMOTE_WRITE : 0);
}

int yk_rdma_sink(struct yk_rdma_dev *dev, void *addr, uint64_t len, struct yk_rdma_key *ret_key,
                 struct yk_rdma_loan **ret_loan) {
    struct ibv_mr *mr = dev->v->reg_mr(dev->pd, addr, len, sink_access(dev));
    if (mr == NULL)
        return -YK_ENOTSUP;
    *ret_key = (struct yk_rdma_key){.addr = (uint64_t)(uintptr_t)addr, .span = len, .rkey = mr->rkey, .lkey = mr->lkey};
    *ret_loan = (struct yk_rdma_loan *)(void *)mr;
    return 0;
}

/* A cache of these was rejected: nobody says when a caller unmaps memory and maps other in its place, which the
 * device would then not know. Memory that stays is registered. */
int yk_rdma_borrow(struct yk_rdma_dev *dev, void *addr, uint64_t len, int peers_read, struct yk_rdma_key *ret_key,
                   struct yk_rdma_loan **ret_loan) {
    if (!dev->v->forks_well) /* else a child of the caller would be without these pages */
        return -YK_ENOTSUP;
    struct ibv_mr *mr = dev->v->reg_mr(dev->pd, addr, len, peers_read ? IBV_ACCESS_REMOTE_READ : sink_access(dev));
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
