/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices that are open.
 *
 * A device is opened for the first lane or memory and closed when nothing stands on it any more, so that
 * a driver can be taken out of a host whose engines have ended. There is one table for the process: several engines
 * share a device as they share the kernel's. Opening one may take seconds: its helper does it (registrar.c), without the
 * lock; closing it is the helper's, too, who is its last user. A forked child has none of it: what is open belongs to its parent.
 *
 * Threads: any; locks docs/locks.md.
 */
#include "device_priv.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES_MAX YK_RDMA_DEVICES_MAX
#define READS_MAX   16u
#define READS_EMULATED 4u /* what a few queue pairs are answered at a time then fits a processor's backlog of packets, and is
                             not dropped (docs/decisions/0036-reads-that-did-not-happen.md) */
#define VENDOR_RXE  0xffffffu /* as their drivers say it, which have nobody's number; 0 before Linux 5.8 */
#define VENDOR_SIW  0x626d74u

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER; /* one is open, or could not be opened */
static pthread_once_t once = PTHREAD_ONCE_INIT;
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
        ret_counts[n].untrue = count_of(&c->untrue);
    }
    pthread_mutex_unlock(&table_lock);
    return n;
}

static void in_child(void) {
    pthread_mutex_init(&table_lock, NULL);
    pthread_cond_init(&opened, NULL);
    memset(table, 0, sizeof(table));
    memset(counts, 0, sizeof(counts));
}

static void mind_forks(void) {
    (void)pthread_atfork(NULL, NULL, in_child);
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

/* Whether it takes memory that is not pinned, at both ends of a read. */
static int has_paging(struct ibv_context *ctx) {
    struct ibv_device_attr_ex attr;
    const struct verbs_context *v = verbs_get_ctx_op(ctx, query_device_ex);
    memset(&attr, 0, sizeof(attr));
    return v != NULL && v->query_device_ex(ctx, NULL, &attr, sizeof(attr)) == 0 &&
           (attr.odp_caps.general_caps & IBV_ODP_SUPPORT) != 0 &&
           (attr.odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_READ) != 0;
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
    d->pages = has_paging(d->ctx);
    if (d->v->get_async_event != NULL) { /* it is asked for its events, not waited for */
        int flags = fcntl(d->ctx->async_fd, F_GETFL);
        if (flags < 0 || fcntl(d->ctx->async_fd, F_SETFL, flags | O_NONBLOCK) < 0)
            return yk_err_set(err, -YK_EIO, "RDMA device %s: its events cannot be looked at", d->name);
    }
    int reads = attr.max_qp_rd_atom < attr.max_qp_init_rd_atom ? attr.max_qp_rd_atom : attr.max_qp_init_rd_atom;
    d->reads = reads < 1 ? 1 : reads > (int)READS_MAX ? READS_MAX : (uint32_t)reads;
    d->depth = (uint32_t)attr.max_qp_wr;
    d->marks = attr.vendor_id == 0 || attr.vendor_id == VENDOR_RXE || attr.vendor_id == VENDOR_SIW;
    if (d->marks && d->reads > READS_EMULATED)
        d->reads = READS_EMULATED;
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

/* Not open yet. */
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
    d->opening = 1;
    *ret_dev = d;
    return 0;
}

/* The place of that name, or a free one; DEVICES_MAX: there is none. */
static uint32_t place_of(const char *name) {
    uint32_t at = DEVICES_MAX;
    for (uint32_t i = 0; i < DEVICES_MAX; i++)
        if (table[i] == NULL)
            at = at == DEVICES_MAX ? i : at;
        else if (strcmp(table[i]->name, name) == 0)
            return i;
    return at;
}

/* The kernel says so once to each that has it open: who asks first keeps it for all. */
int yk_rdma_dev_is_gone(struct yk_rdma_dev *d) {
    struct ibv_async_event e;
    if (__atomic_load_n(&d->gone, __ATOMIC_RELAXED))
        return 1;
    while (d->v->get_async_event != NULL && d->v->get_async_event(d->ctx, &e) == 0) {
        if (e.event_type == IBV_EVENT_DEVICE_FATAL)
            __atomic_store_n(&d->gone, 1, __ATOMIC_RELAXED);
        d->v->ack_async_event(&e);
    }
    return __atomic_load_n(&d->gone, __ATOMIC_RELAXED);
}

/* The place of that name, for another to take if the one in it was taken out: who has that keeps it. */
static uint32_t place_for(const char *name) {
    uint32_t at = place_of(name);
    if (at < DEVICES_MAX && table[at] != NULL && !table[at]->opening && yk_rdma_dev_is_gone(table[at]))
        table[at] = NULL;
    return at;
}

/* Puts one at a free place; the lock is given up while it is opened. */
static int open_at(uint32_t at, const char *name, struct yk_err *err) {
    struct yk_rdma_dev *d = NULL;
    int rc = dev_new(name, at, &d, err);
    if (rc < 0)
        return rc;
    table[at] = d;
    pthread_mutex_unlock(&table_lock);
    rc = dev_open(d, err);
    pthread_mutex_lock(&table_lock);
    d->opening = 0;
    if (rc < 0) {
        table[at] = NULL;
        dev_free(d);
    }
    pthread_cond_broadcast(&opened);
    return rc;
}

int yk_rdma_dev_get(const char *name, struct yk_rdma_dev **ret_dev, struct yk_err *err) {
    uint32_t at;
    int rc = 0;
    (void)pthread_once(&once, mind_forks);
    pthread_mutex_lock(&table_lock);
    while ((at = place_for(name)) < DEVICES_MAX && table[at] != NULL && table[at]->opening)
        pthread_cond_wait(&opened, &table_lock);
    if (at == DEVICES_MAX)
        rc = yk_err_set(err, -YK_ELIMIT, "more than %u RDMA devices are in use", DEVICES_MAX);
    else if (table[at] == NULL)
        rc = open_at(at, name, err);
    else
        table[at]->refs++;
    if (rc == 0)
        *ret_dev = table[at];
    pthread_mutex_unlock(&table_lock);
    return rc;
}

struct yk_rdma_dev *yk_rdma_dev_ref(const char *name) {
    pthread_mutex_lock(&table_lock);
    uint32_t at = place_for(name);
    struct yk_rdma_dev *d = at < DEVICES_MAX && table[at] != NULL && !table[at]->opening ? table[at] : NULL;
    if (d != NULL)
        d->refs++;
    pthread_mutex_unlock(&table_lock);
    return d;
}

void yk_rdma_dev_hold(struct yk_rdma_dev *d) {
    pthread_mutex_lock(&table_lock);
    d->refs++;
    pthread_mutex_unlock(&table_lock);
}

int yk_rdma_dev_is_shared(const struct yk_rdma_dev *d) {
    pthread_mutex_lock(&table_lock);
    int yes = d->refs > 1;
    pthread_mutex_unlock(&table_lock);
    return yes;
}

void yk_rdma_dev_put(struct yk_rdma_dev *d) {
    if (d == NULL)
        return;
    pthread_mutex_lock(&table_lock);
    int last = --d->refs == 0;
    if (last && table[d->index] == d) /* another may stand there, if it was taken out */
        table[d->index] = NULL;
    pthread_mutex_unlock(&table_lock);
    if (last)
        dev_free(d);
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
