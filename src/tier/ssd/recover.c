/* SPDX-License-Identifier: Apache-2.0
 *
 * From what is on the devices to the table. Segments are read in any order, many at a time; so nothing
 * may depend on the order of records but their generations.
 *
 * First pass, a record at a time as segments are read: of the blocks of one key the highest generation
 * stays; tombstones, expiries and namespace records are set aside. Second pass, over the entries: what
 * a tombstone of its generation or a higher one kills goes, expiries are applied, then whatever is of
 * another epoch than its namespace's, of no namespace, or expired by its own record. Third: order of use by generation,
 * and what of each segment is alive.
 *
 * A record that is dead only because of another one must stay dead when that one goes. Its own tombstone
 * sees to that (its `origin` is the record's segment), but may have been lost: in a power cut that a
 * younger block of the key survived, on another device or in a later batch, or because the device was
 * read-only. Such a record gets its tombstone again (`again`), and nothing is cleaned before that is durable.
 *
 * Namespaces: the checkpoint with the youngest table counts, then records younger than it in order.
 * Numbers are the node's; a namespace that the node does not know is gone, unless it knows none at all.
 * Blocks reach a device only after a checkpoint there has their namespace (put.c), so one look at the
 * tables before the first pass is enough to know all numbers.
 *
 * Memory that only recovery needs: 10 bytes a block, 32 a tombstone, and 32 a record that a younger one of
 * its key outlives.
 *
 * Threads: the owner's; blocks.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <yolk/status.h>

#define SCANS      64u /* segments that are read at the same time, of each device */
#define EPOCHS_MAX 65536u

struct tomb {
    uint64_t hash, gen;
    uint64_t origin;
    uint32_t dev;
};

/* A block's record below a younger one of the same key. */
struct under {
    uint64_t hash, gen, expiry_ms;
    uint32_t seg;
    uint16_t epoch; /* index into epochs */
    uint8_t ns;
};

struct expiry {
    uint64_t hash, gen, expiry_ms, key_at;
    uint32_t key_len;
};

struct ns_rec {
    uint64_t gen;
    uint32_t number;
    struct yk_ssd_ns ns;
};

/* A list that grows. */
struct list {
    void *data;
    uint64_t n, cap; /* elements */
};

struct recover {
    struct yk_ssd *ssd;
    uint64_t *gens;     /* of each id */
    uint16_t *epoch_of; /* of each id: index into epochs */
    uint64_t ids;
    struct list epochs, tombs, expiries, ns_recs, keys, under;
    uint32_t again[YK_SSD_DEVICES_MAX]; /* tombstones that are written again, of each device */
    struct yk_ssd_order order;
    uint64_t ns_gen; /* of the table that counts */
    struct yk_ssd_ns start[YK_SSD_NAMESPACES], dev_ns[YK_SSD_NAMESPACES];
    int node_has;
    uint64_t done_bytes, all_bytes;
    int rc;
    uint32_t running;
};

struct job {
    struct yk_ssd_scan scan;
    struct recover *r;
    uint32_t others;
    uint64_t ns_gen;
    uint8_t stale;
};

static void *list_add(struct list *l, uint64_t count, size_t size) {
    if (l->n + count > l->cap) {
        uint64_t cap = l->cap * 2u + count + 64u;
        void *p = realloc(l->data, cap * size);
        if (p == NULL)
            return NULL;
        l->data = p;
        l->cap = cap;
    }
    void *at = (char *)l->data + l->n * size;
    l->n += count;
    return at;
}

/* ---- first pass: records --------------------------------------------------------------------------- */

static int number_of(const struct recover *r, uint64_t uid) {
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++)
        if (r->start[i].uid == uid)
            return (int)i;
    return -1;
}

static int epoch_index(struct recover *r, uint64_t epoch) {
    uint64_t *e = r->epochs.data;
    for (uint64_t i = r->epochs.n; i > 0; i--) /* the last ones are the most usual */
        if (e[i - 1] == epoch)
            return (int)(i - 1);
    if (r->epochs.n == EPOCHS_MAX || (e = list_add(&r->epochs, 1, sizeof(*e))) == NULL)
        return -1;
    *e = epoch;
    return (int)r->epochs.n - 1;
}

static void under_found(struct recover *r, struct under what) {
    struct under *u = list_add(&r->under, 1, sizeof(*u));
    if (u != NULL)
        *u = what;
    else
        r->rc = -YK_ENOMEM;
}

/* 1: what is there already is younger. Otherwise it makes room. */
static int older_than_known(struct recover *r, struct job *job, const struct yk_ssd_rec *rec,
                            uint32_t ns, uint64_t hash, uint16_t epoch) {
    struct yk_ssd *ssd = r->ssd;
    struct yk_index_cursor cursor = {0};
    uint32_t id;
    if (!yk_ssd_table_next(&ssd->table, ns, hash, rec->key, rec->key_len, &cursor, &id))
        return 0;
    struct yk_ssd_seg *other = yk_seg_of(ssd, id);
    uint64_t gen = r->gens[id];
    if (gen == rec->gen) {
        /* The cleaner had made a copy. The one that it was made from was durable; the copy perhaps not
         * yet, payload and header reach a device in any order. The other segment goes soon. */
        if (other->seq < job->scan.seq) {
            job->stale = 1;
            return 1;
        }
        other->stale = 1;
    } else if (gen > rec->gen) {
        under_found(r, (struct under){.hash = hash,
                                      .gen = rec->gen,
                                      .expiry_ms = rec->expiry_ms,
                                      .seg = job->scan.d->seg_base + job->scan.seg,
                                      .epoch = epoch,
                                      .ns = (uint8_t)ns});
        return 1;
    } else {
        under_found(r, (struct under){.hash = hash,
                                      .gen = gen,
                                      .expiry_ms = yk_ssd_table_expiry(&ssd->table, id),
                                      .seg = yk_ssd_entry_segment(&ssd->table.e[id]),
                                      .epoch = r->epoch_of[id],
                                      .ns = (uint8_t)ns});
    }
    yk_ssd_table_unlink(&ssd->table, id);
    yk_ssd_table_free(&ssd->table, id);
    return 0;
}

static void block_found(struct recover *r, struct job *job, const struct yk_ssd_rec *rec,
                        uint32_t ns) {
    struct yk_ssd *ssd = r->ssd;
    struct yk_ssd_dev *d = job->scan.d;
    uint64_t hash = yk_hash_key(ns, rec->key, rec->key_len);
    int epoch = epoch_index(r, rec->epoch);
    uint32_t id;
    if (epoch < 0 || older_than_known(r, job, rec, ns, hash, (uint16_t)epoch))
        return;
    struct yk_ssd_new n = {
        .key = rec->key,
        .key_len = rec->key_len,
        .hash = hash,
        .sum = rec->sum,
        .len = rec->len,
        .expiry_ms = rec->expiry_ms,
        .session = rec->session,
        .place = yk_ssd_place(d->seg_base + job->scan.seg, rec->place),
        .depth_tokens = rec->depth_tokens,
        .length_tokens = rec->length_tokens,
        .model = rec->model,
        .parent_hash =
            rec->parent_len > 0 ? (uint32_t)yk_hash_key(ns, rec->parent, rec->parent_len) : 0,
        .ns = (uint8_t)ns,
        .kind = rec->kind,
        .flags = YK_SSD_E_WRITTEN};
    if (yk_ssd_table_add(&ssd->table, &n, &id) < 0) {
        job->stale = 1; /* it is on the device, and the table does not know it */
        YK_SSD_ADD(ssd->c.recovery_dropped, 1);
        return;
    }
    r->gens[id] = rec->gen;
    r->epoch_of[id] = (uint16_t)epoch;
}

static int tomb_found(struct recover *r, const struct job *job, const struct yk_ssd_rec *rec,
                      uint32_t ns) {
    struct tomb *t = list_add(&r->tombs, 1, sizeof(*t));
    if (t == NULL)
        return -YK_ENOMEM;
    *t = (struct tomb){.hash = yk_hash_key(ns, rec->key, rec->key_len),
                       .gen = rec->gen,
                       .origin = rec->origin,
                       .dev = job->scan.d->index};
    return 0;
}

static int expiry_found(struct recover *r, const struct yk_ssd_rec *rec, uint32_t ns) {
    struct expiry *x = list_add(&r->expiries, 1, sizeof(*x));
    unsigned char *key = list_add(&r->keys, rec->key_len, 1);
    if (x == NULL || key == NULL)
        return -YK_ENOMEM;
    memcpy(key, rec->key, rec->key_len);
    *x = (struct expiry){.hash = yk_hash_key(ns, rec->key, rec->key_len),
                         .gen = rec->gen,
                         .expiry_ms = rec->expiry_ms,
                         .key_at = r->keys.n - rec->key_len,
                         .key_len = rec->key_len};
    return 0;
}

static int ns_found(struct recover *r, struct job *job, const struct yk_ssd_rec *rec) {
    if (rec->gen > job->ns_gen)
        job->ns_gen = rec->gen;
    if (rec->gen <= r->ns_gen)
        return 0;
    struct ns_rec *n = list_add(&r->ns_recs, 1, sizeof(*n));
    if (n == NULL)
        return -YK_ENOMEM;
    *n = (struct ns_rec){rec->gen, rec->ns_number, rec->ns};
    return 0;
}

static int record_found(struct recover *r, struct job *job, const struct yk_ssd_rec *rec) {
    if (rec->gen > r->ssd->gen)
        r->ssd->gen = rec->gen;
    if (rec->type == YK_SSD_REC_NS)
        return ns_found(r, job, rec);
    if (rec->type == YK_SSD_REC_ORDER)
        return yk_ssd_order_found(&r->order, rec);
    int ns = number_of(r, rec->ns_uid);
    job->others += rec->type != YK_SSD_REC_BLOCK;
    if (ns < 0)
        return 0;
    if (rec->type == YK_SSD_REC_TOMB)
        return tomb_found(r, job, rec, (uint32_t)ns);
    if (rec->type == YK_SSD_REC_EXPIRY)
        return expiry_found(r, rec, (uint32_t)ns);
    block_found(r, job, rec, (uint32_t)ns);
    return 0;
}

static void job_found(struct yk_ssd_scan *s, struct yk_ssd_recs recs) {
    struct job *job = s->ctx;
    struct yk_ssd_rec rec;
    int rc;
    s->d->segs[s->seg].seq = s->seq; /* who finds a copy of its blocks asks which is younger */
    while ((rc = yk_ssd_rec_next(&recs, s->d->super.segment_bytes, &rec)) == 1) {
        int one = record_found(job->r, job, &rec);
        if (one < 0)
            job->r->rc = one;
    }
    s->torn += rc < 0;
}

static void job_ended(struct yk_ssd_scan *s) {
    struct job *job = s->ctx;
    struct recover *r = job->r;
    struct yk_ssd *ssd = r->ssd;
    struct yk_ssd_seg *seg = &s->d->segs[s->seg];
    if (s->status < 0)
        r->rc = s->status;
    if (s->seq != 0) {
        seg->seq = s->seq;
        seg->state = SEG_SEALED;
        seg->others = job->others;
        seg->ns_gen = job->ns_gen;
        seg->clock_ms = s->clock_ms;
        seg->stale |= job->stale;
        yk_seg_valid_add(s->d, s->seg);
        if ((s->seq & UINT32_MAX) >= s->d->seg_count)
            s->d->seg_count = (s->seq & UINT32_MAX) + 1;
    }
    if (s->clock_ms > ssd->clock_ms)
        ssd->clock_ms = s->clock_ms;
    if (s->gen_max > ssd->gen)
        ssd->gen = s->gen_max;
    YK_SSD_ADD(ssd->c.recovery_torn, s->torn);
    YK_SSD_ADD(ssd->c.recovery_bytes, s->bytes_read);
    r->done_bytes += s->d->super.segment_bytes;
    r->running--;
    if (ssd->o.on_progress != NULL)
        ssd->o.on_progress(ssd->o.arg, r->done_bytes, r->all_bytes);
}

/* ---- reading all segments ----------------------------------------------------------------------------- */

static void jobs_start(struct recover *r, struct yk_ssd_dev *d, struct job *jobs, uint32_t *next) {
    for (uint32_t i = 0; i < SCANS && *next < d->nseg && r->rc == 0; i++) {
        struct job *job = &jobs[i];
        if (job->scan.state != SCAN_IDLE)
            continue;
        job->r = r;
        job->others = 0;
        job->ns_gen = 0;
        job->stale = 0;
        job->scan.ctx = job;
        job->scan.found = job_found;
        job->scan.ended = job_ended;
        r->running++;
        yk_ssd_scan_start(&job->scan, d, (*next)++);
    }
}

static int devices_read(struct recover *r) {
    struct yk_ssd *ssd = r->ssd;
    uint32_t next[YK_SSD_DEVICES_MAX] = {0};
    struct job *jobs = calloc((size_t)ssd->ndev * SCANS, sizeof(*jobs));
    if (jobs == NULL)
        return -YK_ENOMEM;
    for (;;) {
        for (uint32_t i = 0; i < ssd->ndev; i++) {
            yk_ssd_ops_reap(ssd->devs[i]);
            jobs_start(r, ssd->devs[i], jobs + (size_t)i * SCANS, &next[i]);
            yk_ssd_ops_send(ssd->devs[i]);
        }
        if (r->running == 0)
            break;
        for (uint32_t i = 0; i < ssd->ndev; i++)
            if (ssd->devs[i]->busy_count > 0)
                ssd->devs[i]->ops->wait(ssd->devs[i]->io, ssd->ndev == 1 ? 100 : 1);
    }
    for (uint32_t i = 0; i < ssd->ndev * SCANS; i++)
        yk_ssd_scan_free(&jobs[i].scan);
    free(jobs);
    return r->rc;
}

/* ---- namespaces ------------------------------------------------------------------------------------------ */

/* Which numbers the first pass goes by: the node's, or the devices' if it has none. */
static void namespaces_begin(struct recover *r, const struct yk_ssd_ns *ns,
                             const struct yk_ssd_ckpt *ckpts) {
    const struct yk_ssd_ckpt *best = &ckpts[0];
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++)
        r->node_has |= ns[i].uid != 0;
    for (uint32_t i = 1; i < r->ssd->ndev; i++)
        if (ckpts[i].ns_gen > best->ns_gen)
            best = &ckpts[i];
    r->ns_gen = best->ns_gen;
    memcpy(r->dev_ns, best->ns, sizeof(r->dev_ns));
    memcpy(r->start, r->node_has ? ns : r->dev_ns, sizeof(r->start));
}

static int ns_rec_order(const void *a, const void *b) {
    const struct ns_rec *x = a, *y = b;
    return x->gen < y->gen ? -1 : x->gen > y->gen;
}

/* A record says nothing of shares. */
static void take_ns(struct yk_ssd_ns *now, const struct yk_ssd_ns *rec) {
    struct yk_ssd_ns old = *now;
    *now = *rec;
    if (old.uid != rec->uid)
        return;
    now->guarantee_bytes = old.guarantee_bytes;
    now->priority = old.priority;
}

static void namespaces_end(struct recover *r, struct yk_ssd_ns *ns) {
    struct ns_rec *recs = r->ns_recs.data;
    if (r->ns_recs.n > 0)
        qsort(recs, r->ns_recs.n, sizeof(*recs), ns_rec_order);
    for (uint64_t i = 0; i < r->ns_recs.n; i++)
        take_ns(&r->dev_ns[recs[i].number], &recs[i].ns);
    if (!r->node_has)
        memcpy(ns, r->dev_ns, sizeof(r->dev_ns));
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++) {
        for (uint32_t k = 0; k < YK_SSD_NAMESPACES && ns[i].uid != 0; k++) {
            if (r->dev_ns[k].uid != ns[i].uid)
                continue;
            if (r->dev_ns[k].epoch > ns[i].epoch)
                ns[i].epoch = r->dev_ns[k].epoch;
            ns[i].removed |= r->dev_ns[k].removed;
        }
        yk_ssd_ns_apply(r->ssd, i, &ns[i]);
    }
    r->ssd->sweep_left = 0;
}

/* ---- second pass: entries ---------------------------------------------------------------------------------- */

static int tomb_order(const void *a, const void *b) {
    const struct tomb *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->gen > y->gen ? -1 : x->gen < y->gen;
}

static int expiry_order(const void *a, const void *b) {
    const struct expiry *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->gen > y->gen ? -1 : x->gen < y->gen;
}

/* First element of a list sorted by its first word that is not below hash. */
static uint64_t lower_bound(const struct list *l, size_t size, uint64_t hash) {
    uint64_t lo = 0, hi = l->n;
    while (lo < hi) {
        uint64_t mid = (lo + hi) / 2;
        if (*(const uint64_t *)(const void *)((const char *)l->data + mid * size) < hash)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Two keys with one hash of 64 bits: one that was not removed becomes a miss. */
static int killed(const struct recover *r, uint64_t hash, uint64_t gen) {
    const struct tomb *t = r->tombs.data;
    uint64_t i = lower_bound(&r->tombs, sizeof(*t), hash);
    return i < r->tombs.n && t[i].hash == hash && t[i].gen >= gen;
}

/* Is there one of its own, which is kept as long as the record's segment is valid? From the lowest generation
 * that kills it on: that is the usual one. */
static int killed_for_good(const struct recover *r, uint64_t hash, uint64_t gen, uint32_t seg) {
    const struct tomb *t = r->tombs.data;
    const struct yk_ssd_seg *s = &r->ssd->segs[seg];
    uint64_t begin = lower_bound(&r->tombs, sizeof(*t), hash), end = begin, hi = r->tombs.n;
    while (end < hi) {
        uint64_t mid = (end + hi) / 2;
        if (t[mid].hash == hash && t[mid].gen >= gen)
            end = mid + 1;
        else
            hi = mid;
    }
    for (; end > begin; end--)
        if (t[end - 1].origin == s->seq && t[end - 1].dev == s->dev)
            return 1;
    return 0;
}

/* Its tombstone is recorded again. Which ticket waits for it is known at the end. */
static void tomb_again(struct recover *r, const struct yk_ssd_entry *e, const void *key,
                       uint64_t gen, uint32_t seg) {
    const struct yk_ssd_seg *s = &r->ssd->segs[seg];
    struct yk_ssd_rec rec = {.type = YK_SSD_REC_TOMB,
                             .ns_uid = r->start[e->ns].uid,
                             .gen = gen,
                             .origin = s->seq,
                             .key = key,
                             .key_len = e->key_len};
    if (yk_ssd_log_later(r->ssd->devs[s->dev], &rec, 0) < 0)
        r->rc = -YK_ENOMEM;
    r->again[s->dev]++;
}

/* Is there a record that gives it another expiry than its own? */
static int has_expiry(const struct recover *r, uint64_t hash, uint64_t gen) {
    const struct expiry *x = r->expiries.data;
    uint64_t i = lower_bound(&r->expiries, sizeof(*x), hash);
    return i < r->expiries.n && x[i].hash == hash && x[i].gen > gen;
}

/* Of what stands below a younger record: what would be found if that one were not there. The key is the
 * younger one's. */
static void under_judge(struct recover *r, const struct under *u) {
    struct yk_ssd *ssd = r->ssd;
    const struct yk_ssd_ns *ns = &ssd->ns[u->ns];
    uint32_t id;
    if (ns->uid == 0 || ns->removed || ns->uid != r->start[u->ns].uid ||
        ((uint64_t *)r->epochs.data)[u->epoch] != ns->epoch)
        return;
    if (u->expiry_ms != 0 && u->expiry_ms <= yk_ssd_now(ssd, ssd->now_ms) &&
        !has_expiry(r, u->hash, u->gen))
        return;
    if (killed_for_good(r, u->hash, u->gen, u->seg))
        return;
    if (yk_ssd_table_by_hash(&ssd->table, u->hash, &id))
        tomb_again(r, &ssd->table.e[id], yk_ssd_table_key(&ssd->table, id), u->gen, u->seg);
    else
        ssd->segs[u->seg].stale = 1; /* the table had no room for the younger one */
}

static void expiry_apply(struct recover *r, uint32_t id, uint64_t hash) {
    struct yk_ssd_table *t = &r->ssd->table;
    const struct expiry *x = r->expiries.data;
    const void *key = yk_ssd_table_key(t, id);
    uint64_t i = lower_bound(&r->expiries, sizeof(*x), hash);
    for (; i < r->expiries.n && x[i].hash == hash; i++) {
        if (x[i].key_len != t->e[id].key_len || x[i].gen < r->gens[id] ||
            memcmp((char *)r->keys.data + x[i].key_at, key, x[i].key_len) != 0)
            continue;
        t->e[id].flags |= YK_SSD_E_EXPREC;
        if (yk_ssd_table_expiry_set(t, id, x[i].expiry_ms) < 0) {
            r->epoch_of[id] = UINT16_MAX; /* gone early rather than late */
            yk_seg_of(r->ssd, id)->stale = 1;
        }
        return;
    }
}

static int entry_stays(struct recover *r, uint32_t id) {
    struct yk_ssd *ssd = r->ssd;
    struct yk_ssd_entry *e = &ssd->table.e[id];
    const struct yk_ssd_ns *ns = &ssd->ns[e->ns];
    if (ns->uid == 0 || ns->removed || ns->uid != r->start[e->ns].uid)
        return 0;
    if (r->tombs.n > 0 || r->expiries.n > 0) {
        uint64_t hash = yk_ssd_table_hash(&ssd->table, id);
        uint32_t seg = yk_ssd_entry_segment(e);
        if (killed(r, hash, r->gens[id])) {
            if (!killed_for_good(r, hash, r->gens[id], seg))
                tomb_again(r, e, yk_ssd_table_key(&ssd->table, id), r->gens[id], seg);
            return 0;
        }
        expiry_apply(r, id, hash);
    }
    uint64_t epoch_at = r->epoch_of[id];
    if (epoch_at >= r->epochs.n || ((uint64_t *)r->epochs.data)[epoch_at] != ns->epoch)
        return 0;
    if (e->flags & YK_SSD_E_EXPREC) /* if it has expired the sweep goes, which leaves a tombstone */
        return 1;
    uint64_t expiry = yk_ssd_table_expiry(&ssd->table, id);
    return expiry == 0 || expiry > yk_ssd_now(ssd, ssd->now_ms);
}

static void entries_judge(struct recover *r) {
    struct yk_ssd *ssd = r->ssd;
    if (r->tombs.n > 0)
        qsort(r->tombs.data, r->tombs.n, sizeof(struct tomb), tomb_order);
    if (r->expiries.n > 0)
        qsort(r->expiries.data, r->expiries.n, sizeof(struct expiry), expiry_order);
    for (uint64_t i = 0; i < r->under.n; i++)
        under_judge(r, (struct under *)r->under.data + i);
    for (uint32_t id = 0; id < ssd->table.top; id++) {
        struct yk_ssd_entry *e = &ssd->table.e[id];
        if (!(e->flags & YK_SSD_E_USED))
            continue;
        if (!entry_stays(r, id)) {
            yk_ssd_table_unlink(&ssd->table, id);
            yk_ssd_table_free(&ssd->table, id);
            YK_SSD_ADD(ssd->c.recovery_dropped, 1);
            continue;
        }
        e->flags = (uint8_t)((e->flags & ~YK_SSD_E_TAG) | ssd->ns_tag[e->ns]);
        ssd->ns_tags[e->ns][ssd->ns_tag[e->ns]]++;
        yk_seg_count(ssd, id, 1);
    }
}

/* ---- third pass: order of use --------------------------------------------------------------------------------- */

struct by_gen {
    uint64_t gen;
    uint32_t id;
};

static int gen_order(const void *a, const void *b) {
    const struct by_gen *x = a, *y = b;
    return x->gen < y->gen ? -1 : x->gen > y->gen;
}

static int entries_order(struct recover *r) {
    struct yk_ssd *ssd = r->ssd;
    struct yk_ssd_table *t = &ssd->table;
    uint64_t n = 0;
    struct by_gen *order = malloc(((size_t)t->count + 1u) * sizeof(*order));
    if (order == NULL)
        return -YK_ENOMEM;
    for (uint32_t id = 0; id < t->top; id++)
        if (t->e[id].flags & YK_SSD_E_USED)
            order[n++] = (struct by_gen){r->gens[id], id};
    qsort(order, n, sizeof(*order), gen_order);
    t->youngest = t->oldest = YK_SSD_NONE;
    for (uint64_t i = 0; i < n; i++) {
        yk_ssd_table_link(t, order[i].id);
        yk_seg_of(ssd, order[i].id)->stamp = t->e[order[i].id].stamp;
    }
    for (uint64_t i = 0; n - i > ssd->capacity; i++) { /* what the new limit does not hold */
        yk_seg_of(ssd, order[i].id)->stale = 1;
        yk_ssd_entry_forget(ssd, order[i].id);
        yk_ssd_entry_free(ssd, order[i].id);
        YK_SSD_ADD(ssd->c.recovery_dropped, 1);
    }
    free(order);
    return 0;
}

/* Who cleans waits for this ticket. */
static void again_ticket(struct recover *r) {
    struct yk_ssd *ssd = r->ssd;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        if (r->again[i] == 0)
            continue;
        uint64_t ticket = yk_ssd_ticket_new(ssd, 1u << i);
        ssd->devs[i]->back_ticket = ticket >> YK_SSD_TICKET_BITS;
        ssd->again = yk_ssd_ticket_join(ssd->again, ticket);
        YK_SSD_ADD(ssd->c.tombstones, r->again[i]);
    }
}

static void segments_free(struct yk_ssd *ssd) {
    for (uint32_t i = 0; i < ssd->ndev; i++)
        for (uint32_t k = 0; k < ssd->devs[i]->nseg; k++)
            if (ssd->devs[i]->segs[k].state == SEG_FREE)
                yk_seg_free_push(ssd->devs[i], k);
}

static void *ids_map(uint64_t bytes) {
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return m == MAP_FAILED ? NULL : m;
}

static void recover_fini(struct recover *r) {
    if (r->gens != NULL)
        munmap(r->gens, r->ids * sizeof(*r->gens));
    if (r->epoch_of != NULL)
        munmap(r->epoch_of, r->ids * sizeof(*r->epoch_of));
    free(r->epochs.data);
    free(r->tombs.data);
    free(r->expiries.data);
    free(r->ns_recs.data);
    free(r->keys.data);
    free(r->under.data);
    free(r->order.hints);
    free(r);
}

int yk_ssd_recover(struct yk_ssd *ssd, struct yk_ssd_ns *ns, const struct yk_ssd_ckpt *ckpts,
                   struct yk_err *err) {
    uint64_t begin = yk_now_ns();
    struct recover *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for SSD recovery");
    r->ssd = ssd;
    r->ids = ssd->table.max;
    r->gens = ids_map(r->ids * sizeof(*r->gens));
    r->epoch_of = ids_map(r->ids * sizeof(*r->epoch_of));
    for (uint32_t i = 0; i < ssd->ndev; i++)
        r->all_bytes += ssd->devs[i]->nseg * ssd->devs[i]->super.segment_bytes;
    namespaces_begin(r, ns, ckpts);
    int rc = r->gens == NULL || r->epoch_of == NULL ? -YK_ENOMEM : devices_read(r);
    if (rc == 0) {
        namespaces_end(r, ns);
        entries_judge(r);
        again_ticket(r);
        rc = r->rc < 0 ? r->rc : entries_order(r);
        yk_ssd_order_apply(ssd, &r->order);
        segments_free(ssd);
    }
    recover_fini(r);
    YK_SSD_ADD(ssd->c.recovered, ssd->table.count);
    YK_SSD_ADD(ssd->c.recovery_us, (yk_now_ns() - begin) / YK_NS_PER_US);
    if (rc == -YK_ENOMEM)
        return yk_err_set(err, rc, "no memory to recover the SSD tier");
    if (rc < 0)
        return yk_err_set(err, rc,
                          "cannot read the records of an SSD device, and removals may be among "
                          "them; replace it, or start it empty with --ssd-format");
    return 0;
}
