/* SPDX-License-Identifier: Apache-2.0
 *
 * Tickets: what was removed, changed or raised, and when it is durable.
 *
 * A ticket is a count, and in its low bits the devices that have to record it (or all): several where
 * one waits for more than one thing, up to the highest count then. Each device knows the lowest ticket that still waits with it: in records without a batch, in a batch,
 * for a flush, in a flush. Whatever is below is durable. When a device stops writing, what waited with
 * it, and everything given to it from then on, is lost: -YK_EIO, as a range of counts.
 *
 * Of a device that is gone nothing counts any more when another one has recorded that it is gone: it
 * will come back empty. Until then nobody is told that a key is gone which may be on it: the table has
 * forgotten what was there.
 *
 * A namespace is recorded on all devices, and recovery takes the highest epoch of any; so it is durable
 * when all that still write have it, and one at least does.
 *
 * Removals that are not durable yet are remembered by the hash of their key and the device: nobody is told
 * that the key is gone before all of them are.
 */
#include "tier/ssd/ssd_priv.h"

#include <stdlib.h>
#include <string.h>

#include <yolk/status.h>

#define PEND_MIN 1024u

uint64_t yk_ssd_ticket_new(struct yk_ssd *ssd, uint32_t tag) {
    return ++ssd->ticket << YK_SSD_TICKET_BITS | tag;
}

static uint64_t ticket_of_dev(struct yk_ssd *ssd, const struct yk_ssd_dev *d) {
    return yk_ssd_ticket_new(ssd, 1u << d->index);
}

static uint32_t tag_of(uint64_t ticket) {
    return (uint32_t)ticket & ((1u << YK_SSD_TICKET_BITS) - 1u);
}

uint64_t yk_ssd_ticket_join(uint64_t a, uint64_t b) {
    return (a > b ? a : b) | tag_of(a) | tag_of(b);
}

static uint64_t lower(uint64_t a, uint64_t b) {
    return a == 0 || (b != 0 && b < a) ? b : a;
}

uint64_t yk_ssd_dev_waits(const struct yk_ssd_dev *d) {
    uint64_t t = lower(d->tk_done, lower(d->tk_flush, d->back_ticket));
    for (const struct yk_ssd_batch *b = d->fifo; b != NULL; b = b->next)
        t = lower(t, b->ticket_min);
    return t;
}

static int dev_lost(const struct yk_ssd_dev *d, uint64_t count) {
    return d->broken_from != 0 && count >= d->broken_from;
}

static int dev_has(const struct yk_ssd_dev *d, uint64_t count) {
    uint64_t waits = yk_ssd_dev_waits(d);
    if (dev_lost(d, count))
        return -YK_EIO;
    return waits == 0 || count < waits;
}

/* The same of what has to be gone from this device. */
static int dev_rid(const struct yk_ssd_dev *d, uint64_t count) {
    int rc = dev_has(d, count);
    if (rc >= 0 || d->state != YK_SSD_DEV_GONE)
        return rc;
    return yk_ssd_gone_recorded(d) ? 1 : yk_ssd_hole_closes(d->ssd) ? 0 : rc;
}

static int all_have(const struct yk_ssd *ssd, uint64_t count) {
    int have = 0;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        int rc = dev_has(ssd->devs[i], count);
        if (rc == 0)
            return 0;
        have += rc > 0;
    }
    return have > 0 ? 1 : -YK_EIO;
}

int yk_ssd_durable(const struct yk_ssd *ssd, uint64_t ticket) {
    uint32_t tag = tag_of(ticket);
    uint64_t count = ticket >> YK_SSD_TICKET_BITS;
    int all = tag & YK_SSD_TAG_ALL ? all_have(ssd, count) : 1;
    for (uint32_t i = 0; i < ssd->ndev && all >= 0; i++) {
        int rc = tag & 1u << i ? dev_rid(ssd->devs[i], count) : 1;
        all = rc < all ? rc : all;
    }
    if (all == 1 && (tag & YK_SSD_TAG_HOLE) && yk_ssd_hole(ssd))
        return yk_ssd_hole_closes(ssd) ? 0 : -YK_EIO;
    return all;
}

void yk_ssd_durable_tell(struct yk_ssd *ssd) {
    uint64_t waits = 0;
    for (uint32_t i = 0; i < ssd->ndev; i++)
        if (ssd->devs[i]->state == YK_SSD_DEV_OK)
            waits = lower(waits, yk_ssd_dev_waits(ssd->devs[i]));
    uint64_t upto = waits == 0 ? ssd->ticket : waits - 1;
    int hole = yk_ssd_hole_closes(ssd), closed = ssd->hole_seen && !hole;
    ssd->hole_seen = (uint8_t)hole;
    if (upto <= ssd->ticket_told && !closed)
        return;
    ssd->ticket_told = upto;
    if (ssd->o.on_durable != NULL)
        ssd->o.on_durable(ssd->o.arg, upto << YK_SSD_TICKET_BITS | YK_SSD_TAG_ALL);
}

/* ---- flush ------------------------------------------------------------------------------------------- */

uint64_t yk_ssd_flush_want(struct yk_ssd_dev *d) {
    return ++d->flush_want;
}

static void flush_ended(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    if (op->req.status < 0) /* the device is read-only or gone by now: what waits is lost */
        return;
    d->tk_flush = 0;
    d->flush_done = d->flush_started;
    YK_SSD_ADD(d->ssd->c.flushes, 1);
}

void yk_ssd_flush_pump(struct yk_ssd_dev *d) {
    if (d->flush_op.busy || d->state != YK_SSD_DEV_OK ||
        (d->tk_done == 0 && d->flush_want == d->flush_started))
        return;
    d->tk_flush = d->tk_done;
    d->tk_done = 0;
    d->flush_started = d->flush_want;
    d->flush_op.done = flush_ended;
    yk_ssd_op_start(d, &d->flush_op, YK_FILE_FLUSH, 0, 0, NULL, 0, YK_SSD_PRIO_DEMAND);
}

/* ---- removals that are not durable --------------------------------------------------------------------- */

static uint64_t pend_key(uint32_t ns, uint64_t hash) {
    return hash ^ (uint64_t)ns * 0x9e3779b97f4a7c15ull;
}

static void pend_insert(struct yk_ssd_pend *p, uint32_t cap, uint64_t key, uint64_t ticket) {
    uint32_t i = (uint32_t)(key & (cap - 1u));
    while (p[i].ticket != 0 && (p[i].hash != key || tag_of(p[i].ticket) != tag_of(ticket)))
        i = (i + 1u) & (cap - 1u);
    p[i] = (struct yk_ssd_pend){key, ticket};
}

/* Forgets what is durable; doubles if much is left. */
static int pend_rebuild(struct yk_ssd *ssd) {
    uint32_t n = 0, cap = PEND_MIN;
    for (uint32_t i = 0; i < ssd->pend_cap; i++)
        n += ssd->pend[i].ticket != 0 && yk_ssd_durable(ssd, ssd->pend[i].ticket) != 1;
    while (cap < 4u * (n + 1u))
        cap *= 2u;
    struct yk_ssd_pend *p = calloc(cap, sizeof(*p));
    if (p == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < ssd->pend_cap; i++)
        if (ssd->pend[i].ticket != 0 && yk_ssd_durable(ssd, ssd->pend[i].ticket) != 1)
            pend_insert(p, cap, ssd->pend[i].hash, ssd->pend[i].ticket);
    free(ssd->pend);
    ssd->pend = p;
    ssd->pend_cap = cap;
    ssd->pend_count = n;
    return 0;
}

void yk_ssd_pend_add(struct yk_ssd *ssd, uint32_t ns, uint64_t hash, uint64_t ticket) {
    if (2u * (ssd->pend_count + 1u) > ssd->pend_cap && pend_rebuild(ssd) < 0) {
        /* From here on any key may be pending until it is durable. */
        ssd->pend_lost = yk_ssd_ticket_join(ssd->pend_lost, ticket);
        return;
    }
    pend_insert(ssd->pend, ssd->pend_cap, pend_key(ns, hash), ticket);
    ssd->pend_count++;
}

/* What waits whatever the key. */
static uint64_t pend_all_keys(const struct yk_ssd *ssd) {
    uint64_t all = yk_ssd_durable(ssd, ssd->pend_lost) == 1 ? 0 : ssd->pend_lost;
    if (yk_ssd_hole_closes(ssd))
        all = yk_ssd_ticket_join(all, ssd->ticket << YK_SSD_TICKET_BITS | YK_SSD_TAG_HOLE);
    return all;
}

uint64_t yk_ssd_pending_gone(const struct yk_ssd *ssd) {
    if (!ssd->broken_any || !yk_ssd_hole(ssd))
        return 0;
    return ssd->ticket << YK_SSD_TICKET_BITS | YK_SSD_TAG_HOLE;
}

uint64_t yk_ssd_pending(const struct yk_ssd *ssd, uint32_t ns, uint64_t hash) {
    uint64_t key = pend_key(ns, hash), all = pend_all_keys(ssd);
    uint32_t i = (uint32_t)(key & (ssd->pend_cap - 1u));
    for (; ssd->pend_cap > 0 && ssd->pend[i].ticket != 0; i = (i + 1u) & (ssd->pend_cap - 1u))
        if (ssd->pend[i].hash == key && yk_ssd_durable(ssd, ssd->pend[i].ticket) != 1)
            all = yk_ssd_ticket_join(all, ssd->pend[i].ticket);
    return all;
}

uint64_t yk_ssd_pending_any(const struct yk_ssd *ssd) {
    uint64_t all = pend_all_keys(ssd);
    for (uint32_t i = 0; i < ssd->pend_cap; i++)
        if (yk_ssd_durable(ssd, ssd->pend[i].ticket) != 1)
            all = yk_ssd_ticket_join(all, ssd->pend[i].ticket);
    return all;
}

/* ---- what is asked for ------------------------------------------------------------------------------------ */

/* Records that an entry's block is gone; the entry is still there. Returns the ticket. */
uint64_t yk_ssd_tomb(struct yk_ssd *ssd, uint32_t id, uint64_t gen) {
    const struct yk_ssd_entry *e = &ssd->table.e[id];
    struct yk_ssd_dev *d = yk_dev_of(ssd, id);
    uint64_t ticket = ticket_of_dev(ssd, d);
    struct yk_ssd_rec rec = {.type = YK_SSD_REC_TOMB,
                             .ns_uid = ssd->ns[e->ns].uid,
                             .gen = yk_ssd_gen_next(ssd, gen),
                             .origin = yk_seg_of(ssd, id)->seq,
                             .key = yk_ssd_table_key(&ssd->table, id),
                             .key_len = e->key_len};
    yk_ssd_pend_add(ssd, e->ns, yk_ssd_table_hash(&ssd->table, id), ticket);
    if (rec.ns_uid != 0) { /* else its namespace is gone, and all of its blocks */
        yk_ssd_log_record(d, &rec, ticket >> YK_SSD_TICKET_BITS);
        YK_SSD_ADD(ssd->c.tombstones, 1);
    }
    return ticket;
}

static uint64_t entry_remove(struct yk_ssd *ssd, uint32_t id, uint64_t gen) {
    uint64_t ticket = yk_ssd_tomb(ssd, id, gen);
    yk_ssd_entry_forget(ssd, id);
    if (ssd->table.e[id].flags & YK_SSD_E_WRITTEN)
        yk_ssd_entry_free(ssd, id); /* else when its put ends */
    return ticket;
}

uint64_t yk_ssd_remove(struct yk_ssd *ssd, uint32_t id, uint64_t gen) {
    YK_SSD_ADD(ssd->c.removed, 1);
    return entry_remove(ssd, id, gen);
}

uint64_t yk_ssd_rotten(struct yk_ssd *ssd, uint32_t id, uint64_t gen) {
    YK_SSD_ADD(ssd->c.rotten, 1);
    return entry_remove(ssd, id, gen);
}

uint64_t yk_ssd_expire(struct yk_ssd *ssd, uint32_t id, uint64_t expiry_ms, uint64_t gen) {
    struct yk_ssd_entry *e = &ssd->table.e[id];
    struct yk_ssd_dev *d = yk_dev_of(ssd, id);
    uint64_t ticket = ticket_of_dev(ssd, d);
    struct yk_ssd_rec rec = {.type = YK_SSD_REC_EXPIRY,
                             .ns_uid = ssd->ns[e->ns].uid,
                             .gen = yk_ssd_gen_next(ssd, gen),
                             .expiry_ms = expiry_ms,
                             .key_len = e->key_len};
    if (rec.ns_uid == 0) /* not live */
        return 0;
    if (yk_ssd_table_expiry_set(&ssd->table, id, expiry_ms) < 0) {
        /* No room for the word: it is gone early rather than late. */
        ticket = yk_ssd_tomb(ssd, id, 0);
        if (e->flags & YK_SSD_E_WRITTEN)
            yk_ssd_entry_drop(ssd, id);
        else
            yk_ssd_entry_forget(ssd, id);
        return ticket;
    }
    e->flags |= YK_SSD_E_EXPREC;
    rec.key = yk_ssd_table_key(&ssd->table, id); /* where it stands now */
    yk_ssd_log_record(d, &rec, ticket >> YK_SSD_TICKET_BITS);
    return ticket;
}

uint64_t yk_ssd_ns_set(struct yk_ssd *ssd, uint32_t ns, const struct yk_ssd_ns *entry) {
    struct yk_ssd_rec rec = {.type = YK_SSD_REC_NS,
                             .ns_number = (uint8_t)ns,
                             .ns_uid = entry->uid,
                             .gen = yk_ssd_gen_next(ssd, 0),
                             .ns = *entry};
    uint64_t ticket = yk_ssd_ticket_new(ssd, YK_SSD_TAG_ALL);
    int made = ssd->ns[ns].uid != entry->uid;
    int other_terms = ssd->ns[ns].guarantee_bytes != entry->guarantee_bytes || ssd->ns[ns].priority != entry->priority;
    yk_ssd_ns_apply(ssd, ns, entry);
    if (entry->uid == 0)
        return 0;
    ssd->ns_gen = rec.gen;
    if (made)
        ssd->ns_made[ns] = rec.gen;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        yk_ssd_log_record(ssd->devs[i], &rec, ticket >> YK_SSD_TICKET_BITS);
        ssd->devs[i]->ckpt_want |= (uint8_t)(made || other_terms);
    }
    return ticket;
}
