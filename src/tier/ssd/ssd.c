/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier from outside: open, close, what is asked of the table, one turn of everything.
 *
 * A poll is: take what the devices have done (which calls back), let each log go on, let the cleaner go
 * on, hand over what is to be done, then tell of drops and of what became durable.
 *
 * Threads: the owner's.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yolk/status.h>

#define CLEAN_PERCENT 40u
#define IDS_MAX       (1u << 30)
#define SWEEP_STEPS   2048u  /* ids a tick, for what expired */
#define SWEEP_FAST    65536u /* after an epoch was raised, or a device went: about a millisecond */

static uint64_t ids_for(uint64_t device_bytes) {
    uint64_t ids = device_bytes / YK_SSD_SECTOR + 65536u;
    return ids < IDS_MAX ? ids : IDS_MAX;
}

uint64_t yk_ssd_index_bytes(uint64_t device_bytes) {
    return yk_filter_bytes((uint32_t)ids_for(device_bytes));
}

/* ---- open ------------------------------------------------------------------------------------------- */

static void ssd_free(struct yk_ssd *ssd) {
    for (uint32_t i = 0; i < ssd->ndev; i++)
        yk_ssd_dev_free(ssd->devs[i]);
    yk_ssd_table_fini(&ssd->table);
    free(ssd->segs);
    free(ssd->pend);
    free(ssd->rops);
    free(ssd->subs);
    free(ssd->zeros);
    pthread_mutex_destroy(&ssd->shown_lock);
    free(ssd);
}

static struct yk_ssd *ssd_new(const struct yk_ssd_opts *opts) {
    struct yk_ssd *ssd = calloc(1, sizeof(*ssd));
    if (ssd == NULL)
        return NULL;
    ssd->o = *opts;
    if (ssd->o.io == NULL)
        ssd->o.io = &yk_file_uring;
    if (ssd->o.clean_percent == 0)
        ssd->o.clean_percent = CLEAN_PERCENT;
    ssd->node_id = opts->node_id;
    ssd->cluster_id = opts->cluster_id;
    ssd->now_ms = opts->now_ms;
    ssd->clock_ms = opts->now_ms;
    ssd->drops = YK_SSD_NONE;
    ssd->tokens_ns = yk_now_ns();
    memset(ssd->ns_tag, 0xff, sizeof(ssd->ns_tag));
    pthread_mutex_init(&ssd->shown_lock, NULL);
    yk_ssd_tokens_fill(ssd);
    ssd->zeros = aligned_alloc(YK_SSD_SECTOR, YK_SSD_SECTOR);
    int ok = ssd->zeros != NULL && yk_ssd_reads_init(ssd) == 0;
    if (ssd->zeros != NULL)
        memset(ssd->zeros, 0, YK_SSD_SECTOR);
    for (uint32_t i = 0; i < opts->dev_count && ok; i++) {
        struct yk_ssd_dev *d = calloc(1, sizeof(*d));
        ok = d != NULL;
        if (!ok)
            break;
        d->ssd = ssd;
        d->index = (uint8_t)i;
        d->submit_tail = &d->submit_head;
        d->opt_size = opts->dev[i].size_bytes;
        snprintf(d->path, sizeof(d->path), "%s", opts->dev[i].path);
        ssd->devs[ssd->ndev++] = d;
    }
    if (!ok) {
        ssd_free(ssd);
        return NULL;
    }
    return ssd;
}

/* As many ids as the limit asks for, with some room for what recovery finds above it, and as the index
 * memory holds. */
static int table_make(struct yk_ssd *ssd, uint64_t device_bytes, struct yk_err *err) {
    uint64_t cap = ssd->o.capacity_blocks, ids = ids_for(device_bytes);
    if (cap != 0 && cap + cap / 8u + 8192u < ids)
        ids = cap + cap / 8u + 8192u;
    while (ssd->o.index_mem != NULL && ids > 1024u &&
           yk_filter_bytes((uint32_t)ids) > ssd->o.index_bytes)
        ids -= ids / 64u + 1u;
    ssd->capacity = ids - ids / 64u;
    if (cap != 0 && cap < ssd->capacity)
        ssd->capacity = cap;
    int rc = yk_ssd_table_init(&ssd->table, (uint32_t)ids, ssd->o.index_mem, ssd->o.index_bytes);
    if (rc < 0)
        return yk_err_set(err, rc, "no memory for the SSD tier's table of %llu blocks",
                          (unsigned long long)ids);
    return 0;
}

static int segments_make(struct yk_ssd *ssd, struct yk_err *err) {
    uint64_t n = 0, bytes = 0;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        ssd->devs[i]->seg_base = (uint32_t)n;
        n += ssd->devs[i]->nseg;
        bytes += ssd->devs[i]->super.size_bytes;
    }
    if (n > YK_SSD_SEGMENTS_MAX)
        return yk_err_set(err, -YK_ELIMIT, "%llu SSD segments are more than %u: use larger ones",
                          (unsigned long long)n, YK_SSD_SEGMENTS_MAX);
    ssd->nseg = (uint32_t)n;
    ssd->segs = calloc(n, sizeof(*ssd->segs));
    if (ssd->segs == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for %llu SSD segments",
                          (unsigned long long)n);
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        d->segs = ssd->segs + d->seg_base;
        for (uint32_t k = 0; k < d->nseg; k++)
            d->segs[k].dev = (uint8_t)i;
        if (yk_ssd_dev_mem(d) < 0)
            return yk_err_set(err, -YK_ENOMEM, "%s: no memory for its buffers", d->path);
    }
    return table_make(ssd, bytes, err);
}

/* First all devices learn of the run, then the node, then the devices that it begins (attach.c): whoever is
 * cut off in between has missed nothing. */
static int run_begin(struct yk_ssd *ssd, struct yk_err *err) {
    for (int started = 0; started < 2; started++) {
        if (started && ssd->o.on_run != NULL)
            ssd->o.on_run(ssd->o.arg, ssd->run, ssd->dev_started);
        ssd->begun = (uint8_t)started;
        for (uint32_t i = 0; i < ssd->ndev; i++) {
            struct yk_ssd_dev *d = ssd->devs[i];
            int rc = yk_ssd_ckpt_wait(d, started, 0);
            if (rc < 0)
                return yk_err_set(err, rc, "%s: cannot be written", d->path);
            d->ckpt_at_ms = yk_now_ns() / YK_NS_PER_MS + YK_SSD_CKPT_MS;
            d->ckpt_wear = d->wear_bytes;
        }
    }
    return 0;
}

static void ios_close(struct yk_ssd *ssd) {
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        if (d->io != NULL)
            d->ops->close(d->io);
        d->io = NULL;
    }
}

static void show_queued(struct yk_ssd *ssd) {
    uint64_t queued = 0;
    for (uint32_t i = 0; i < ssd->ndev; i++)
        queued += ssd->devs[i]->queued_bytes;
    __atomic_store_n(&ssd->c.queued_bytes, queued, __ATOMIC_RELAXED);
}

void yk_ssd_queued(struct yk_ssd_dev *d, uint64_t more) {
    d->queued_bytes += more;
    show_queued(d->ssd);
}

static void gauges(struct yk_ssd *ssd) {
    uint64_t capacity = 0, free_bytes = 0, ok = 0;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        const struct yk_ssd_dev *d = ssd->devs[i];
        if (d->state == YK_SSD_DEV_GONE)
            continue;
        capacity += (uint64_t)d->nseg * d->super.segment_bytes;
        free_bytes += (uint64_t)d->free_count * d->super.segment_bytes;
        ok += d->state == YK_SSD_DEV_OK;
    }
    struct yk_ssd_counters *c = &ssd->c;
    show_queued(ssd); /* of a device that was opened anew */
    __atomic_store_n(&c->capacity_bytes, capacity, __ATOMIC_RELAXED);
    __atomic_store_n(&c->free_bytes, free_bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&c->devices, ssd->ndev, __ATOMIC_RELAXED);
    __atomic_store_n(&c->devices_ok, ok, __ATOMIC_RELAXED);
    __atomic_store_n(&c->meta_bytes, yk_ssd_table_bytes(&ssd->table), __ATOMIC_RELAXED);
    __atomic_store_n(&c->key_bytes, ssd->table.cells.used * 8u, __ATOMIC_RELAXED);
}

/* The owner does not wait for who copies just now: the next tick shows what this one did not. */
static void show(struct yk_ssd *ssd) {
    if (pthread_mutex_trylock(&ssd->shown_lock) != 0)
        return;
    for (uint32_t i = 0; i < ssd->ndev; i++)
        yk_ssd_dev_show(ssd->devs[i], &ssd->shown[i]);
    pthread_mutex_unlock(&ssd->shown_lock);
}

int yk_ssd_open(const struct yk_ssd_opts *opts, struct yk_ssd_ns *ns, struct yk_ssd **ret_ssd,
                struct yk_err *err) {
    if (opts->dev_count == 0 || opts->dev_count > YK_SSD_DEVICES_MAX)
        return yk_err_set(err, -YK_EINVAL, "1 to %u SSD devices, not %u", YK_SSD_DEVICES_MAX,
                          opts->dev_count);
    struct yk_ssd *ssd = ssd_new(opts);
    struct yk_ssd_ckpt *ckpts = calloc(YK_SSD_DEVICES_MAX, sizeof(*ckpts));
    int rc = -YK_ENOMEM;
    if (ssd == NULL || ckpts == NULL)
        yk_err_set(err, rc, "no memory for the SSD tier");
    else
        rc = yk_ssd_devs_attach(ssd, ckpts, err);
    if (rc == 0)
        rc = segments_make(ssd, err);
    if (rc == 0)
        rc = yk_ssd_recover(ssd, ns, ckpts, err);
    if (rc == 0) {
        ssd->ns_gen = yk_ssd_gen_next(ssd, 0); /* the table is complete as of now */
        rc = run_begin(ssd, err);
    }
    free(ckpts);
    if (rc < 0) {
        if (ssd != NULL) {
            ios_close(ssd);
            ssd_free(ssd);
        }
        return rc;
    }
    yk_filter_complete(ssd->table.index_mem, 1);
    gauges(ssd); /* who asks before the first tick */
    show(ssd);
    *ret_ssd = ssd;
    return 0;
}

/* ---- close ------------------------------------------------------------------------------------------- */

static int all_idle(const struct yk_ssd *ssd) {
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        const struct yk_ssd_dev *d = ssd->devs[i];
        if (d->busy_count > 0 || (d->state == YK_SSD_DEV_OK && !yk_ssd_log_idle(d)))
            return 0;
    }
    return 1;
}

void yk_ssd_turn(struct yk_ssd *ssd) {
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        yk_ssd_log_pump(d);
        yk_ssd_ops_send(d);
        if (d->busy_count > 0 && d->io != NULL)
            d->ops->wait(d->io, 10);
        yk_ssd_ops_reap(d);
    }
}

/* Until everything is written, or the time is over: checkpoints and cleaning that are under way go on
 * as far as their next request. */
static void drain(struct yk_ssd *ssd, uint32_t timeout_ms) {
    uint64_t end = yk_now_ns() + (uint64_t)timeout_ms * YK_NS_PER_MS;
    yk_ssd_order_write(ssd, end);
    for (uint32_t i = 0; i < ssd->ndev; i++)
        if (ssd->devs[i]->state == YK_SSD_DEV_OK)
            yk_ssd_log_seal(ssd->devs[i]);
    while (!all_idle(ssd) && yk_now_ns() < end)
        yk_ssd_turn(ssd);
    int clean = all_idle(ssd);
    for (uint32_t i = 0; i < ssd->ndev; i++)
        if (ssd->devs[i]->state == YK_SSD_DEV_OK && !ssd->devs[i]->ckpt.busy)
            yk_ssd_ckpt_start(ssd->devs[i], 1, clean);
    while (!all_idle(ssd) && yk_now_ns() < end)
        yk_ssd_turn(ssd);
}

void yk_ssd_close(struct yk_ssd *ssd, int clean, uint32_t timeout_ms) {
    if (ssd == NULL)
        return;
    ssd->closing = 1;
    yk_filter_complete(ssd->table.index_mem, 0);
    for (uint32_t i = 0; i < ssd->ndev; i++)
        yk_ssd_clean_abort(ssd->devs[i]);
    if (clean)
        drain(ssd, timeout_ms);
    ios_close(ssd);
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        yk_ssd_dev_gone(d, "closed");
        yk_ssd_ops_abandon(d);
        if (d->batch != NULL)
            yk_ssd_batch_close(d);
        yk_ssd_log_pump(d);
    }
    yk_ssd_durable_tell(ssd);
    ssd_free(ssd);
}

/* ---- turns --------------------------------------------------------------------------------------------- */

void yk_ssd_poll(struct yk_ssd *ssd) {
    if (ssd->o.write_limit_bps != 0)
        yk_ssd_tokens_fill(ssd);
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        yk_ssd_ops_reap(d);
        yk_ssd_log_pump(d);
        yk_ssd_clean_pump(d);
        yk_ssd_log_pump(d);
        yk_ssd_ckpt_pump(d);
        yk_ssd_ops_send(d);
    }
    yk_ssd_drops_tell(ssd);
    yk_ssd_durable_tell(ssd);
}

int yk_ssd_tick(struct yk_ssd *ssd, uint64_t now_ms) {
    if (now_ms > ssd->now_ms)
        ssd->now_ms = now_ms;
    if (now_ms > ssd->clock_ms)
        ssd->clock_ms = now_ms;
    yk_ssd_tokens_fill(ssd);
    int more = yk_ssd_sweep(ssd, ssd->sweep_left > 0 ? SWEEP_FAST : SWEEP_STEPS);
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        yk_ssd_dev_tick(ssd->devs[i]);
    }
    yk_ssd_poll(ssd);
    /* Only what needs no device: the rest goes on when the device has done its part. */
    for (uint32_t i = 0; i < ssd->ndev; i++)
        more |= ssd->devs[i]->clean.state == CLEAN_DROP || ssd->devs[i]->clean.state == CLEAN_SWEEP;
    gauges(ssd);
    show(ssd);
    return more;
}

int yk_ssd_may_record(const struct yk_ssd *ssd) {
    for (uint32_t i = 0; i < ssd->ndev; i++)
        if (ssd->devs[i]->state == YK_SSD_DEV_OK)
            return 0;
    return -YK_EIO;
}

int yk_ssd_busy(const struct yk_ssd *ssd) {
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        const struct yk_ssd_dev *d = ssd->devs[i];
        if (d->busy_count > 0)
            return 1;
        if (d->state == YK_SSD_DEV_OK &&
            (!yk_ssd_log_idle(d) || d->clean.state != CLEAN_IDLE || d->ckpt_want))
            return 1;
    }
    return 0;
}

void yk_ssd_mem_ready(struct yk_ssd *ssd, uint64_t bytes) {
    if (bytes <= ssd->mem_ready)
        return;
    ssd->mem_ready = bytes;
    for (uint32_t i = 0; i < ssd->ndev; i++)
        if (ssd->devs[i]->io != NULL)
            ssd->devs[i]->ops->mem_ready(ssd->devs[i]->io, bytes);
}

void yk_ssd_wait(struct yk_ssd *ssd, uint32_t ms) {
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        if (d->busy_count > 0 && d->io != NULL)
            d->ops->wait(d->io, ms);
    }
}

/* ---- the table, as others see it --------------------------------------------------------------------------- */

int yk_ssd_find(const struct yk_ssd *ssd, uint32_t ns, uint64_t hash, const void *key,
                uint32_t key_len, uint64_t now_ms, uint32_t *ret_id) {
    struct yk_index_cursor cursor = {0};
    uint32_t id;
    while (yk_ssd_table_next(&ssd->table, ns, hash, key, key_len, &cursor, &id)) {
        if (yk_ssd_entry_live(ssd, id, now_ms)) {
            *ret_id = id;
            return 0;
        }
    }
    return YK_MISS;
}

void yk_ssd_prefetch(const struct yk_ssd *ssd, uint64_t hash) {
    yk_index_prefetch(&ssd->table.index, hash);
}

void yk_ssd_info_get(const struct yk_ssd *ssd, uint32_t id, struct yk_ssd_info *ret) {
    const struct yk_ssd_table *t = &ssd->table;
    const struct yk_ssd_entry *e = &t->e[id];
    *ret = (struct yk_ssd_info){.sum = e->sum,
                                .len = e->len,
                                .expiry_ms = yk_ssd_table_expiry(t, id),
                                .session = yk_ssd_table_session(t, id),
                                .depth_tokens = e->depth_tokens,
                                .parent_hash = e->parent_hash,
                                .ns = e->ns,
                                .kind = e->kind,
                                .written = (e->flags & YK_SSD_E_WRITTEN) != 0,
                                .used = (e->flags & YK_SSD_E_HOT) != 0,
                                .device = yk_seg_of(ssd, id)->dev};
    yk_ssd_table_attr(t, id, &ret->length_tokens, &ret->model);
}

const void *yk_ssd_key(const struct yk_ssd *ssd, uint32_t id, uint32_t *ret_len) {
    *ret_len = ssd->table.e[id].key_len;
    return yk_ssd_table_key(&ssd->table, id);
}

uint32_t yk_ssd_top(const struct yk_ssd *ssd) {
    return ssd->table.top;
}

int yk_ssd_live(const struct yk_ssd *ssd, uint32_t id) {
    return id < ssd->table.top && yk_ssd_entry_live(ssd, id, ssd->now_ms);
}

int yk_ssd_by_bits(const struct yk_ssd *ssd, uint32_t ns, uint64_t hash, uint64_t bits, uint32_t *ret_id) {
    struct yk_index_cursor cursor = {0};
    uint32_t id;
    while (yk_ssd_table_next_half(&ssd->table, ns, (uint32_t)hash, &cursor, &id)) {
        if (((yk_ssd_table_hash(&ssd->table, id) ^ hash) & bits) == 0 && yk_ssd_entry_live(ssd, id, ssd->now_ms)) {
            *ret_id = id;
            return 0;
        }
    }
    return YK_MISS;
}

int yk_ssd_by_half(const struct yk_ssd *ssd, uint32_t ns, uint32_t half, uint32_t *ret_id) {
    return yk_ssd_by_bits(ssd, ns, half, UINT32_MAX, ret_id);
}

void yk_ssd_touch(struct yk_ssd *ssd, uint32_t id) {
    struct yk_ssd_entry *e = &ssd->table.e[id];
    yk_ssd_table_touch(&ssd->table, id);
    if (e->flags & YK_SSD_E_HOT)
        return;
    e->flags |= YK_SSD_E_HOT;
    yk_seg_of(ssd, id)->hot_bytes += yk_ssd_takes(e->len);
}

/* Skips what is not live: its caller makes way with what it gets. */
uint32_t yk_ssd_older(const struct yk_ssd *ssd, uint32_t id) {
    do
        id = id == YK_SSD_NONE ? ssd->table.youngest : ssd->table.e[id].next;
    while (id != YK_SSD_NONE && !yk_ssd_entry_live(ssd, id, ssd->now_ms));
    return id;
}

uint32_t yk_ssd_younger(const struct yk_ssd *ssd, uint32_t id) {
    do
        id = id == YK_SSD_NONE ? ssd->table.oldest : ssd->table.e[id].prev;
    while (id != YK_SSD_NONE && !yk_ssd_entry_live(ssd, id, ssd->now_ms));
    return id;
}

uint64_t yk_ssd_ns_bytes(const struct yk_ssd *ssd, uint32_t ns, uint64_t *ret_count) {
    uint8_t tag = ssd->ns_tag[ns];
    const struct yk_ssd_held *h = &ssd->ns_held[ns][tag < 8 ? tag : 0];
    if (ret_count != NULL)
        *ret_count = tag < 8 ? h->count : 0;
    return tag < 8 ? h->bytes : 0;
}

/* ---- figures --------------------------------------------------------------------------------------------------- */

uint64_t yk_ssd_node_id(const struct yk_ssd *ssd) {
    return ssd->node_id;
}

uint64_t yk_ssd_run(const struct yk_ssd *ssd) {
    return ssd->run;
}

uint64_t yk_ssd_gen_max(const struct yk_ssd *ssd) {
    return ssd->gen;
}

const char *yk_ssd_note(const struct yk_ssd *ssd, uint32_t dev) {
    return ssd->devs[dev]->note;
}

void yk_ssd_counters_get(const struct yk_ssd *ssd, struct yk_ssd_counters *ret) {
    const uint64_t *from = (const uint64_t *)(const void *)&ssd->c;
    uint64_t *to = (uint64_t *)(void *)ret;
    for (size_t i = 0; i < sizeof(*ret) / 8; i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void yk_ssd_dev_stats_get(const struct yk_ssd *ssd, uint32_t dev, struct yk_ssd_dev_stats *ret) {
    pthread_mutex_t *lock = &((struct yk_ssd *)(uintptr_t)ssd)->shown_lock;
    pthread_mutex_lock(lock);
    *ret = ssd->shown[dev];
    pthread_mutex_unlock(lock);
}

const struct yk_hist *yk_ssd_latency(const struct yk_ssd *ssd, unsigned op) {
    return &ssd->lat[op & 1u];
}
