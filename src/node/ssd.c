/* SPDX-License-Identifier: Apache-2.0
 *
 * The block table's tier below DRAM: opening and closing it, namespaces, what is found there, what is
 * removed there. docs/decisions/0007 has the whole picture.
 *
 * A removal that concerns SSD gets a ticket; the message that asked for it is answered when the
 * ticket is durable (R18). The block table only remembers the highest ticket of what it did
 * (yk_store_ticket_take); the connection layer keeps the reply back.
 *
 * Whether a copy stands on SSD is always looked up by key. The entry's number in the descriptor is a
 * hint for clients, who show it.
 */
#include "node/ssd_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

/* With a tier below, reclaim has to run further ahead: what leaves is free only when it is written.
 * An eighth of DRAM, but no more than some 50 ms of a fast device. */
#define AHEAD_DIV  8u
#define AHEAD_MOST (128ull << 20)

/* ---- open and close ---------------------------------------------------------------------------- */

/* What the device has, or will have; only to size the index, whose pages are taken as they are used. */
static uint64_t device_bytes(const struct yk_ssd_dev_opts *dev) {
    struct stat st;
    uint64_t bytes = 0;
    if (dev->size_bytes != 0 || stat(dev->path, &st) < 0)
        return dev->size_bytes;
    if (!S_ISBLK(st.st_mode))
        return (uint64_t)st.st_size;
    int fd = open(dev->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
            bytes = 0;
        close(fd);
    }
    return bytes;
}

/* The filter is made anew each start: it goes with its last user, like a nameless segment. */
static int filter_open(struct ssd_side *l, struct yk_err *err) {
    uint64_t bytes = 0;
    char path[64];
    for (uint32_t i = 0; i < l->opts.dev_count; i++)
        bytes += device_bytes(&l->opts.dev[i]);
    l->filter_bytes = yk_ssd_index_bytes(bytes);
    l->filter_fd = memfd_create("yolk-ssd-index", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (l->filter_fd >= 0 && ftruncate(l->filter_fd, (off_t)l->filter_bytes) == 0 &&
        fcntl(l->filter_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
        l->filter = mmap(NULL, l->filter_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                         l->filter_fd, 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", l->filter_fd);
        l->filter_fd_ro = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (l->filter == NULL || l->filter == MAP_FAILED || l->filter_fd_ro < 0) {
        l->filter = NULL;
        return yk_err_set(err, -YK_ENOMEM, "cannot make the SSD tier's index of %llu bytes",
                          (unsigned long long)l->filter_bytes);
    }
    return 0;
}

static void on_durable(void *arg, uint64_t ticket) {
    struct yk_store *s = arg;
    if (s->low->durable != NULL)
        s->low->durable(s->low->arg, ticket);
}

static void on_wake(void *arg) {
    const struct ssd_side *l = ((struct yk_store *)arg)->low;
    if (l->wake != NULL)
        l->wake(l->arg);
}

/* The tier let an entry go. A copy in DRAM stands alone now. */
static void on_drop(void *arg, uint32_t id) {
    struct yk_store *s = arg;
    struct yk_ssd_info info;
    uint32_t len, idx;
    const void *key = yk_ssd_key(s->low->ssd, id, &len);
    yk_ssd_info_get(s->low->ssd, id, &info);
    if (key == NULL || info.ns >= YK_SHM_NAMESPACES)
        return;
    if (yk_store_find(s, info.ns, s->own.ns[info.ns].epoch, key, len, &idx) != 0)
        yk_store_tell_key(s, info.ns, key, len, NULL, 0);
    else if (LOAD(&rest_at(s, idx)->ssd) == id + 1u)
        yk_store_copy_set(s, idx, 0);
}

static void ns_out(const struct yk_store *s, uint32_t ns, struct yk_ssd_ns *to) {
    const struct yk_ns_entry *e = &s->own.ns[ns];
    memset(to, 0, sizeof(*to));
    if (e->state == 0)
        return;
    to->uid = e->uid;
    to->epoch = e->epoch;
    to->quota_bytes = e->quota_bytes;
    to->guarantee_bytes = e->guarantee_bytes;
    to->priority = e->priority;
    to->removed = e->state != 1;
    memcpy(to->name, e->name, sizeof(to->name));
}

/* Before the descriptors are recovered, so that these epochs hold for them. */
static void ns_in(struct yk_store *s, uint32_t ns, const struct yk_ssd_ns *from) {
    struct yk_ns_entry *e = &s->own.ns[ns];
    if (from->uid == 0 || from->removed)
        return; /* one that the segment has and is removed goes its own way */
    if (e->state == 0) {
        memset(e, 0, sizeof(*e));
        memcpy(e->name, from->name, sizeof(e->name));
        e->name[sizeof(e->name) - 1] = 0;
        e->epoch = e->epoch_copy = from->epoch;
        e->quota_bytes = from->quota_bytes;
        e->guarantee_bytes = from->guarantee_bytes;
        e->priority = from->priority;
        e->uid = from->uid;
        e->state = 1;
        e->sum = yk_ns_entry_sum(e);
        yk_store_partition_terms(s, ns);
    } else if (e->state == 1 && from->epoch > e->epoch) {
        __atomic_store_n(&e->epoch, from->epoch, __ATOMIC_RELEASE);
        __atomic_store_n(&e->epoch_copy, from->epoch, __ATOMIC_RELEASE);
    }
}

/* Blocks of a segment that missed a run of the devices may have been removed or replaced in it: they are
 * outdated. Their expiry is what readers and recovery heed in any state, and one store. */
static void outdate(struct yk_store *s) {
    uint32_t top = yk_store_desc_top(s);
    for (uint32_t idx = 0; idx < top; idx++)
        STORE(&desc_at(s, idx)->expiry_ms, 1u);
    if (top > 0)
        snprintf(s->seg.why_fresh, sizeof(s->seg.why_fresh),
                 "its SSDs were used by a run without it, and its blocks may be outdated");
}

/* The run is remembered when it is certain that nothing outdated is found any more (R18). */
static void on_run(void *arg, uint64_t run, uint64_t before) {
    struct yk_store *s = arg;
    if (before > (s->own.hdr->ssd_run & ~YK_SHM_ALONE))
        outdate(s);
    __atomic_store_n(&s->own.hdr->ssd_run, run, __ATOMIC_RELEASE);
}

static void on_progress(void *arg, uint64_t done, uint64_t all) {
    struct yk_store *s = arg;
    if (s->low->opts.progress != NULL)
        s->low->opts.progress(s->low->opts.progress_arg, done, all);
}

static int open_tier(struct yk_store *s, const struct yk_store_opts *opts, struct yk_err *err) {
    struct ssd_side *l = s->low;
    const struct yk_store_ssd_opts *o = &opts->ssd;
    struct yk_ssd_ns *ns = calloc(YK_SSD_NAMESPACES, sizeof(*ns));
    if (ns == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    struct yk_ssd_opts so = {
        .dev_count = o->dev_count,
        .io = o->io,
        .io_wrap = o->io_wrap,
        .io_wrap_arg = o->io_wrap_arg,
        .format = o->format,
        .node_id = s->own.hdr->node_id,
        .node_name = o->name,
        .run = s->own.hdr->ssd_run & ~YK_SHM_ALONE,
        .alone = s->seg.found != YK_SEGMENT_FRESH &&
                 (s->own.hdr->ssd_run == 0 || s->own.hdr->ssd_run & YK_SHM_ALONE),
        .segment_bytes = o->segment_bytes,
        .capacity_blocks = o->capacity_blocks,
        .write_limit_bps = o->write_limit_bps,
        .clean_percent = o->clean_percent,
        .trim = o->trim,
        .buffered = o->buffered,
        .mem = s->seg.data,
        /* Not slow memory: what is registered is pinned, and the kernel first moves it out of a zone that is movable,
         * which hot-plugged memory is in: to DRAM. */
        .mem_bytes = s->dram_bytes,
        .now_ms = yk_view_now_ms(&s->view),
        .wake = on_wake,
        .wake_fd = opts->wake_fd,
        .on_put = ssd_on_put,
        .on_read = ssd_on_read,
        .on_durable = on_durable,
        .on_drop = on_drop,
        .on_run = on_run,
        .on_progress = on_progress,
        .arg = s,
        .index_mem = l->filter,
        .index_bytes = l->filter_bytes,
    };
    memcpy(so.dev, o->dev, sizeof(so.dev));
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++) {
        if (s->own.ns[i].state == 1 && s->own.ns[i].uid == 0)
            s->own.ns[i].uid = yk_owner_gen(&s->own);
        ns_out(s, i, &ns[i]);
    }
    int rc = yk_ssd_open(&so, ns, &l->ssd, err);
    if (rc == 0) {
        s->own.hdr->node_id = yk_ssd_node_id(l->ssd);
        for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
            ns_in(s, i, &ns[i]);
        if (s->own.gen_next <= yk_ssd_gen_max(l->ssd)) /* a clock that was set back */
            s->own.gen_next = s->own.gen_limit = yk_ssd_gen_max(l->ssd) + 1u;
    }
    free(ns);
    return rc;
}

int yk_store_ssd_open(struct yk_store *s, const struct yk_store_opts *opts, struct yk_err *err) {
    if (opts->ssd.dev_count == 0) {
        /* A run without the SSDs: they may hold what is removed in it, and come back empty. */
        if (s->own.hdr->ssd_run != 0)
            s->own.hdr->ssd_run |= YK_SHM_ALONE;
        return 0;
    }
    struct ssd_side *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    s->low = l;
    l->opts = opts->ssd;
    l->admit = &yk_policy_admit_list()[opts->ssd.admit];
    l->raised = opts->raised;
    l->durable = opts->durable;
    l->wake = opts->wake;
    l->arg = opts->arg;
    l->filter_fd = l->filter_fd_ro = -1;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
        l->quota[i] = (struct quota_walk){YK_SSD_NONE, 1};
    int rc = ssd_demote_init(s);
    if (rc == 0)
        rc = ssd_raise_init(s);
    if (rc == 0)
        rc = ssd_ahead_open(s);
    if (rc < 0)
        return yk_err_set(err, rc, "no memory for the SSD tier's tables");
    rc = filter_open(l, err);
    if (rc == 0)
        rc = open_tier(s, opts, err);
    if (rc < 0)
        return rc;
    uint64_t data = s->dram_bytes;
    uint64_t ahead = data / AHEAD_DIV < AHEAD_MOST ? data / AHEAD_DIV : AHEAD_MOST;
    if (s->low_bytes < ahead) {
        s->low_bytes = ahead;
        s->high_bytes = ahead + ahead / 2u;
    }
    return 0;
}

void yk_store_ssd_ready(struct yk_store *s) {
    int more = 0;
    if (s->low == NULL)
        return;
    ssd_preload_plan(s);
    yk_store_ssd_tick(s, &more);
}

void yk_store_ssd_close(struct yk_store *s, int clean) {
    struct ssd_side *l = s->low;
    if (l == NULL)
        return;
    l->durable = NULL;
    l->raised = NULL;
    yk_ssd_close(l->ssd, clean, 5000);
    ssd_ahead_close(s);
    ssd_raise_fini(s);
    if (l->filter != NULL)
        munmap(l->filter, l->filter_bytes);
    if (l->filter_fd >= 0)
        close(l->filter_fd);
    if (l->filter_fd_ro >= 0)
        close(l->filter_fd_ro);
    free(l->queue);
    free(l->demotions);
    free(l);
    s->low = NULL;
}

const struct yk_ssd *yk_store_ssd(const struct yk_store *s) {
    return s->low != NULL ? s->low->ssd : NULL;
}

int yk_store_filter_fd(const struct yk_store *s, uint64_t *ret_bytes) {
    if (s->low == NULL)
        return -1;
    *ret_bytes = s->low->filter_bytes;
    return s->low->filter_fd_ro;
}

/* ---- finding ------------------------------------------------------------------------------------- */

int yk_store_ssd_find(const struct yk_store *s, uint32_t ns, uint64_t hash, const void *key,
                      uint32_t key_len, uint32_t *ret_id) {
    if (s->low == NULL || s->low->ssd == NULL)
        return YK_MISS;
    return yk_ssd_find(s->low->ssd, ns, hash, key, key_len, yk_view_now_ms(&s->view), ret_id);
}

int yk_store_find_any(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key,
                      uint32_t key_len, uint32_t *ret_idx) {
    uint32_t id;
    int rc = yk_store_find(s, ns, epoch, key, key_len, ret_idx);
    if (rc == 0 || s->low == NULL)
        return rc;
    if (ns >= YK_SHM_NAMESPACES || s->own.ns[ns].epoch != epoch ||
        yk_store_ssd_find(s, ns, yk_hash_key(ns, key, key_len), key, key_len, &id) != 0)
        return YK_MISS;
    *ret_idx = id | YK_ON_SSD;
    return 0;
}

/* ---- removals ------------------------------------------------------------------------------------- */

uint64_t yk_store_ticket_join(uint64_t a, uint64_t b) {
    return yk_ssd_ticket_join(a, b);
}

static void await(struct yk_store *s, uint64_t ticket) {
    s->low->ticket = yk_store_ticket_join(s->low->ticket, ticket);
}

uint64_t yk_store_ticket_take(struct yk_store *s) {
    if (s->low == NULL)
        return 0;
    uint64_t t = s->low->ticket;
    s->low->ticket = 0;
    return t;
}

int yk_store_durable(const struct yk_store *s, uint64_t ticket) {
    return ticket == 0 || s->low == NULL ? 1 : yk_ssd_durable(s->low->ssd, ticket);
}

void yk_store_ssd_await(struct yk_store *s, uint32_t ns, uint64_t hash) {
    if (s->low != NULL)
        await(s, yk_ssd_pending(s->low->ssd, ns, hash));
}

void yk_store_ssd_await_any(struct yk_store *s) {
    if (s->low != NULL)
        await(s, yk_ssd_pending_any(s->low->ssd));
}

void yk_store_ssd_await_gone(struct yk_store *s) {
    if (s->low != NULL)
        await(s, yk_ssd_pending_gone(s->low->ssd));
}

/* Whatever is asked for of a key is acknowledged when its earlier removals are durable, too. */
static void await_earlier(struct yk_store *s, uint32_t id) {
    struct yk_ssd_info info;
    uint32_t len;
    const void *key = yk_ssd_key(s->low->ssd, id, &len);
    yk_ssd_info_get(s->low->ssd, id, &info);
    yk_store_ssd_await(s, info.ns, yk_hash_key(info.ns, key, len));
}

/* Not told: see who calls. */
static void entry_remove(struct yk_store *s, uint32_t id) {
    await_earlier(s, id);
    await(s, yk_ssd_remove(s->low->ssd, id, yk_owner_gen(&s->own)));
}

void yk_store_ssd_remove(struct yk_store *s, uint32_t id) {
    struct yk_key_room copy; /* the entry's own goes with it */
    struct yk_ssd_info info;
    uint32_t len = 0;
    const void *key = yk_store_tells(s) ? yk_ssd_key(s->low->ssd, id, &len) : NULL;
    if (key == NULL) {
        entry_remove(s, id);
        return;
    }
    memcpy(copy.bytes, key, len);
    yk_ssd_info_get(s->low->ssd, id, &info);
    entry_remove(s, id);
    yk_store_tell_key(s, info.ns, copy.bytes, len, NULL, 0);
}

/* The entry of a descriptor's key, if it has one. */
static int entry_of(struct yk_store *s, uint32_t idx, uint32_t *ret_id) {
    const struct yk_desc *d = desc_at(s, idx);
    struct yk_key_room room;
    const void *key = yk_owner_key(&s->own, idx, &room);
    return key == NULL ? YK_MISS : yk_store_ssd_find(s, d->ns, d->hash, key, d->key_len, ret_id);
}

void yk_store_ssd_forget(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    uint32_t id;
    if (s->low == NULL)
        return;
    yk_store_ssd_await(s, d->ns, d->hash);
    if (entry_of(s, idx, &id) == 0)
        entry_remove(s, id); /* what is retired is told when it is */
}

void yk_store_ssd_rotten(struct yk_store *s, uint32_t idx) {
    uint32_t id;
    if (entry_of(s, idx, &id) == 0)
        await(s, yk_ssd_rotten(s->low->ssd, id, yk_owner_gen(&s->own)));
}

void yk_store_ssd_set_expiry(struct yk_store *s, uint32_t id, uint64_t expiry_ms) {
    await_earlier(s, id);
    await(s, yk_ssd_expire(s->low->ssd, id, expiry_ms, yk_owner_gen(&s->own)));
}

void yk_store_ssd_expire(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    uint32_t id;
    if (s->low == NULL)
        return;
    yk_store_ssd_await(s, d->ns, d->hash);
    if (entry_of(s, idx, &id) == 0)
        yk_store_ssd_set_expiry(s, id, d->expiry_ms);
}

void yk_store_ssd_link(struct yk_store *s, uint32_t idx) {
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    struct yk_ssd_info info;
    uint32_t id;
    if (s->low == NULL)
        return;
    yk_store_copy_set(s, idx, 0);
    if (entry_of(s, idx, &id) != 0)
        return;
    yk_ssd_info_get(s->low->ssd, id, &info);
    /* What stands in DRAM is never older: other bytes on SSD are of a block that was replaced. */
    if (info.sum != rest->sum || info.len != d->len) {
        yk_store_ssd_remove(s, id);
        return;
    }
    yk_store_copy_set(s, idx, id + 1u);
    if (info.expiry_ms != d->expiry_ms)
        yk_store_ssd_set_expiry(s, id, d->expiry_ms);
}

/* ---- namespaces ------------------------------------------------------------------------------------- */

void yk_store_ssd_ns(struct yk_store *s, uint32_t ns, int wait) {
    struct yk_ssd_ns e;
    if (s->low == NULL)
        return;
    ns_out(s, ns, &e);
    uint64_t ticket = yk_ssd_ns_set(s->low->ssd, ns, &e);
    if (!wait)
        return;
    s->low->ns_ticket[ns] = ticket;
    await(s, ticket);
}

void yk_store_ssd_ns_await(struct yk_store *s, uint32_t ns) {
    if (s->low != NULL)
        await(s, s->low->ns_ticket[ns]);
}

int yk_store_ssd_may_record(const struct yk_store *s) {
    return s->low != NULL ? yk_ssd_may_record(s->low->ssd) : 0;
}

int yk_store_ssd_ns_busy(const struct yk_store *s, uint32_t ns) {
    return s->low != NULL && s->low->ssd != NULL && yk_ssd_ns_busy(s->low->ssd, ns);
}

/* ---- upkeep ------------------------------------------------------------------------------------------ */

void yk_store_ssd_poll(struct yk_store *s) {
    if (s->low == NULL)
        return;
    yk_ssd_poll(s->low->ssd);
    ssd_demote_pump(s);
    ssd_raise_pump(s);
    yk_ssd_poll(s->low->ssd); /* what was just given to it leaves at once */
}

void yk_store_ssd_tick(struct yk_store *s, int *more) {
    if (s->low == NULL)
        return;
    if (!s->replays)
        ssd_ahead_tick(s, yk_boot_ms());
    yk_store_ssd_poll(s);
    *more |= yk_ssd_tick(s->low->ssd, yk_view_now_ms(&s->view));
}

void yk_store_ssd_mem_ready(struct yk_store *s, uint64_t bytes) {
    if (s->low != NULL)
        yk_ssd_mem_ready(s->low->ssd, bytes < s->dram_bytes ? bytes : s->dram_bytes);
}

int yk_store_ssd_busy(const struct yk_store *s) {
    struct yk_ssd_counters n;
    if (s->low == NULL)
        return 0;
    yk_ssd_counters_get(s->low->ssd, &n);
    return s->low->demotion_count > 0 || s->low->queue_head != s->low->queue_tail ||
           s->low->fetch_count > 0 || s->low->preload != NULL || ssd_ahead_busy(s->low) || n.queued_bytes > 0 ||
           n.reads_now > 0 || yk_ssd_busy(s->low->ssd);
}
