/* SPDX-License-Identifier: Apache-2.0
 *
 * The cleaner of one device: makes a segment free, one at a time.
 *
 *   IDLE -> META -> READ <-> WRITE -> OTHERS -> BARRIER -> CKPT -> ZERO -> DROP -> SWEEP -> REFS
 *                   (move.c)                                                          -> DISCARD -> IDLE
 *
 * Up to ZERO nothing is lost if it stops: what was moved stands twice. ZERO begins only when all that
 * was written again is durable, and entries are forgotten only when the victim is invalid durably. So
 * no moment exists at which recovery finds in a victim what the table has forgotten.
 *
 * Tombstones of the victim are needed while the segment with what they kill is valid (`origin`), or any
 * segment with records that the table does not know of; expiries while their entry lives and has that
 * expiry; namespaces stand in checkpoints.
 *
 * A segment whose records cannot be read is left alone if it may hold removals: they must not be lost.
 *
 * Threads: the owner's. Every step is bounded; requests end in callbacks that the next turn looks at.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#include <yolk/status.h>

#define STEPS 4096u /* records or ids a turn */

static struct yk_ssd_seg *victim_of(const struct yk_ssd_dev *d) {
    return &d->ssd->segs[d->clean.victim];
}

/* ---- META --------------------------------------------------------------------------------------------- */

static void meta_found(struct yk_ssd_scan *s, struct yk_ssd_recs recs) {
    struct yk_ssd_clean *c = &s->d->clean;
    uint64_t n = (uint64_t)(recs.end - recs.at);
    if (c->recs_len + n > c->recs_cap) {
        uint64_t cap = (c->recs_cap + n) * 2u;
        unsigned char *r = realloc(c->recs, cap);
        if (r == NULL) {
            s->status = -YK_ENOMEM;
            return;
        }
        c->recs = r;
        c->recs_cap = cap;
    }
    memcpy(c->recs + c->recs_len, recs.at, n);
    c->recs_len += n;
}

/* What is read must be what is meant. */
static void meta_ended(struct yk_ssd_scan *s) {
    struct yk_ssd_dev *d = s->d;
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_seg *v = victim_of(d);
    int ours = s->seq == v->seq && s->status == 0;
    if (ours) {
        c->state = CLEAN_READ;
        return;
    }
    c->recs_len = 0;
    if (v->others == 0 && v->ns_gen <= d->ckpt_ns_gen) {
        c->state = CLEAN_BARRIER; /* its entries are found by a sweep */
        return;
    }
    v->stuck = 1;
    v->state = SEG_SEALED;
    c->state = CLEAN_IDLE;
}

static void clean_begin(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    uint32_t i = yk_ssd_victim(d);
    if (i == YK_SSD_NONE)
        return;
    c->victim = d->seg_base + i;
    c->pass = c->rebarrier = 0;
    c->recs_len = c->rec_at = c->moved = c->buf_used = c->barrier = c->flush = 0;
    c->nmoves = c->sweep_at = 0;
    d->segs[i].state = SEG_CLEANING;
    if (d->segs[i].live == 0 && d->segs[i].others == 0) {
        c->state = CLEAN_BARRIER;
        return;
    }
    c->state = CLEAN_META;
    c->scan.ctx = c;
    c->scan.found = meta_found;
    c->scan.ended = meta_ended;
    yk_ssd_scan_start(&c->scan, d, i);
}

/* ---- OTHERS --------------------------------------------------------------------------------------------- */

static int any_stale(const struct yk_ssd_dev *d) {
    for (uint32_t i = 0; i < d->nseg; i++)
        if (d->segs[i].stale && d->segs[i].state != SEG_FREE && d->seg_base + i != d->clean.victim)
            return 1;
    return 0;
}

static int expiry_needed(const struct yk_ssd *ssd, const struct yk_ssd_rec *rec) {
    struct yk_index_cursor cursor = {0};
    int ns = yk_ssd_ns_number(ssd, rec->ns_uid);
    uint32_t id;
    if (ns < 0)
        return 0;
    uint64_t hash = yk_hash_key((uint32_t)ns, rec->key, rec->key_len);
    while (yk_ssd_table_next(&ssd->table, (uint32_t)ns, hash, rec->key, rec->key_len, &cursor, &id))
        if ((ssd->table.e[id].flags & YK_SSD_E_EXPREC) && yk_ssd_entry_current(ssd, id) &&
            yk_ssd_table_expiry(&ssd->table, id) == rec->expiry_ms)
            return 1;
    return 0;
}

static int tomb_needed(const struct yk_ssd_dev *d, const struct yk_ssd_rec *rec) {
    if (yk_ssd_ns_number(d->ssd, rec->ns_uid) < 0)
        return 0;
    return (rec->origin != victim_of(d)->seq && yk_seg_valid(d, rec->origin)) || any_stale(d);
}

static void others_step(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_recs recs = {c->recs + c->rec_at, c->recs + c->recs_len};
    struct yk_ssd_rec rec;
    int rc = 1;
    for (uint32_t n = 0; n < STEPS && (rc = yk_ssd_rec_next(&recs, d->super.segment_bytes, &rec)) == 1;
         n++) {
        if ((rec.type == YK_SSD_REC_TOMB && tomb_needed(d, &rec)) ||
            (rec.type == YK_SSD_REC_EXPIRY && expiry_needed(d->ssd, &rec)))
            yk_ssd_log_record(d, &rec, 0);
    }
    c->rec_at = (uint64_t)(recs.at - c->recs);
    if (rc != 1)
        c->state = CLEAN_BARRIER;
}

/* ---- BARRIER, CKPT ----------------------------------------------------------------------------------------- */

/* 1: all that was put into the log before this state is durable. */
static int barrier_passed(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    if (d->back_len > d->back_at)
        return 0;
    if (c->barrier == 0 || c->rebarrier) {
        c->rebarrier = 0;
        c->barrier = d->bseq;
        c->flush = 0;
        d->close_bseq = d->bseq;
    }
    if (d->bseq_done < c->barrier)
        return 0;
    if (c->flush == 0)
        c->flush = yk_ssd_flush_want(d);
    return d->flush_done >= c->flush && !c->rebarrier;
}

/* Does a checkpoint have what only the victim has: namespaces, the latest time? */
static int ckpt_covers(const struct yk_ssd_dev *d) {
    const struct yk_ssd_seg *v = victim_of(d);
    if (v->ns_gen > d->ckpt_ns_gen)
        return 0;
    for (uint32_t i = 0; i < d->nseg; i++) /* a younger one has a later time */
        if (d->segs[i].state == SEG_SEALED && d->segs[i].seq > v->seq)
            return 1;
    return d->ckpt_clock >= v->clock_ms;
}

/* ---- ZERO ---------------------------------------------------------------------------------------------------- */

static void zero_done(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_seg *v = victim_of(d);
    /* It is valid, or perhaps not: nothing of it is forgotten. Blocks that were moved have a record here,
     * too, which no tombstone's origin names. */
    if (s->status < 0) {
        v->state = SEG_SEALED;
        v->stuck = v->stale = 1;
        c->state = CLEAN_IDLE;
        return;
    }
    yk_seg_valid_remove(d, c->victim - d->seg_base);
    c->state = CLEAN_DROP;
    c->rec_at = 0;
}

static void zero_begin(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    uint64_t at = yk_seg_at(d, c->victim);
    struct yk_ssd_script *s = &c->script;
    c->state = CLEAN_ZERO;
    s->n = 0;
    yk_ssd_script_add(s, YK_SSD_IO_WRITE, at, d->ssd->zeros, YK_SSD_SECTOR);
    yk_ssd_script_add(s, YK_SSD_IO_WRITE, at + d->super.segment_bytes - YK_SSD_SECTOR,
                      d->ssd->zeros, YK_SSD_SECTOR);
    yk_ssd_script_add(s, YK_SSD_IO_FLUSH, 0, NULL, 0);
    yk_ssd_script_start(d, s, zero_done);
}

/* ---- DROP, SWEEP ------------------------------------------------------------------------------------------------ */

static void victim_drop(struct yk_ssd_dev *d, uint32_t id) {
    struct yk_ssd *ssd = d->ssd;
    if (yk_ssd_entry_live(ssd, id, ssd->now_ms)) {
        YK_SSD_ADD(ssd->c.clean_dropped, 1);
        YK_SSD_ADD(ssd->c.clean_dropped_bytes, ssd->table.e[id].len);
    }
    yk_ssd_entry_drop(ssd, id);
}

static void drop_step(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_recs recs = {c->recs + c->rec_at, c->recs + c->recs_len};
    struct yk_ssd_rec rec;
    int rc = c->recs_len == 0 ? 0 : 1;
    for (uint32_t n = 0; n < STEPS && rc == 1 && victim_of(d)->live > 0; n++) {
        rc = yk_ssd_rec_next(&recs, d->super.segment_bytes, &rec);
        if (rc != 1 || rec.type != YK_SSD_REC_BLOCK)
            continue;
        int ns = yk_ssd_ns_number(d->ssd, rec.ns_uid);
        uint32_t id = ns < 0 ? YK_SSD_NONE
                             : yk_ssd_entry_at(d->ssd, (uint32_t)ns, &rec,
                                               yk_ssd_place(c->victim, rec.place));
        if (id != YK_SSD_NONE)
            victim_drop(d, id);
    }
    c->rec_at = (uint64_t)(recs.at - c->recs);
    if (rc != 1 || victim_of(d)->live == 0)
        c->state = CLEAN_SWEEP;
}

static void sweep_step(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_table *t = &d->ssd->table;
    for (uint32_t n = 0; n < STEPS * 4u && victim_of(d)->live > 0; n++) {
        if (c->sweep_at >= t->top)
            c->sweep_at = 0;
        uint32_t id = c->sweep_at++;
        if ((t->e[id].flags & (YK_SSD_E_USED | YK_SSD_E_DEAD)) == YK_SSD_E_USED &&
            yk_ssd_entry_segment(&t->e[id]) == c->victim)
            victim_drop(d, id);
    }
    if (victim_of(d)->live == 0)
        c->state = CLEAN_REFS;
}

/* ---- the end ------------------------------------------------------------------------------------------------------ */

static void victim_free(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    uint32_t i = c->victim - d->seg_base;
    struct yk_ssd_seg *v = &d->segs[i];
    int bad = v->bad;
    memset(v, 0, sizeof(*v));
    v->dev = d->index;
    v->bad = (uint8_t)bad;
    if (bad)
        v->state = SEG_BAD;
    else
        yk_seg_free_push(d, i);
    c->state = CLEAN_IDLE;
    YK_SSD_ADD(d->ssd->c.clean_segments, 1);
}

static void discard_done(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    (void)s;
    victim_free(d);
}

/* All but the two sectors that say that it is free: a device may give back older bytes for what was
 * discarded. */
static void discard_begin(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_script *s = &c->script;
    if (!d->ssd->o.trim) {
        victim_free(d);
        return;
    }
    c->state = CLEAN_DISCARD;
    s->n = 0;
    yk_ssd_script_add(s, YK_SSD_IO_DISCARD, yk_seg_at(d, c->victim) + YK_SSD_SECTOR, NULL,
                      d->super.segment_bytes - 2u * YK_SSD_SECTOR);
    yk_ssd_script_start(d, s, discard_done);
}

void yk_ssd_clean_abort(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    if (c->state == CLEAN_IDLE || c->scan.state != SCAN_IDLE || c->script.busy ||
        c->reads_pending > 0 || c->moves_pending > 0)
        return;
    if (victim_of(d)->state == SEG_CLEANING) {
        victim_of(d)->state = SEG_SEALED;
        victim_of(d)->stale = 1; /* of blocks that were moved */
    }
    c->state = CLEAN_IDLE;
}

static void clean_step(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    switch (c->state) {
    case CLEAN_IDLE:
        if (yk_ssd_clean_wants(d))
            clean_begin(d);
        return;
    case CLEAN_READ:
    case CLEAN_WRITE:
        yk_ssd_move_pump(d);
        return;
    case CLEAN_OTHERS:
        others_step(d);
        return;
    case CLEAN_BARRIER:
        if (barrier_passed(d))
            c->state = CLEAN_CKPT;
        return;
    case CLEAN_CKPT:
        if (ckpt_covers(d))
            zero_begin(d);
        else
            d->ckpt_want = 1;
        return;
    case CLEAN_DROP:
        drop_step(d);
        return;
    case CLEAN_SWEEP:
        sweep_step(d);
        return;
    case CLEAN_REFS:
        if (victim_of(d)->refs == 0)
            discard_begin(d);
        return;
    default: /* a request is under way */
        return;
    }
}

void yk_ssd_clean_pump(struct yk_ssd_dev *d) {
    uint8_t before;
    if (d->state != YK_SSD_DEV_OK || d->ssd->closing) {
        yk_ssd_clean_abort(d);
        return;
    }
    do { /* steps that need no request follow each other */
        before = d->clean.state;
        clean_step(d);
    } while (d->clean.state != before && d->clean.state != CLEAN_IDLE);
}
