/* SPDX-License-Identifier: Apache-2.0
 *
 * The cleaner of one device: makes segments free, a group of them with one flush.
 *
 *   IDLE -> META -> READ <-> WRITE -> OTHERS -> BARRIER -> CKPT -> ZERO -> FLUSH -> DROP -> SWEEP -> REFS
 *            ^     (move.c)             |                                    ^        -> DISCARD -> IDLE
 *            +--- the next victim ------+                                    +--- the next ---+
 *
 * Up to ZERO nothing is lost if it stops: what was moved stands twice. ZERO begins only when all that
 * was written again is durable, and entries are forgotten only when the victim is invalid durably. So
 * no moment exists at which recovery finds in a victim what the table has forgotten.
 *
 * Tombstones of the victim are needed while the segment with what they kill is valid (`origin`), expiries
 * while their entry lives and has that expiry, both while an older segment has records that the table
 * does not know of; namespaces stand in checkpoints. What a tombstone kills in other segments than its origin
 * has a tombstone of its own (recover.c).
 *
 * Some segments are always left for that. Should there be none all the same (a device that was killed
 * again and again at the worst moment), the oldest segment goes, whatever it holds: everything that its
 * tombstones and expiries are about stood in itself or in older ones.
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
    return &d->ssd->segs[d->clean.v[d->clean.at].seg];
}

/* ---- META --------------------------------------------------------------------------------------------- */

static void meta_found(struct yk_ssd_scan *s, struct yk_ssd_recs recs) {
    struct yk_ssd_victim *v = yk_clean_victim(s->d);
    uint64_t n = (uint64_t)(recs.end - recs.at);
    if (v->recs_len + n > v->recs_cap) {
        uint64_t cap = (v->recs_cap + n) * 2u;
        unsigned char *r = realloc(v->recs, cap);
        if (r == NULL) {
            s->status = -YK_ENOMEM;
            return;
        }
        v->recs = r;
        v->recs_cap = cap;
    }
    memcpy(v->recs + v->recs_len, recs.at, n);
    v->recs_len += n;
}

static void victim_add(struct yk_ssd_dev *d, uint32_t i);

/* The victim is ready: does another one go with it? One flush makes all of a group free, and on a device
 * with a cache of its own a flush takes as long as what is in there. A victim of which something was
 * written again is the last of its group, so that no more is written before room is made than for one. */
static void group_on(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    uint32_t i = YK_SSD_NONE;
    if (c->moved == 0 && c->count < YK_SSD_CLEAN_GROUP && d->free_count + c->count < d->target)
        i = yk_ssd_victim(d);
    if (i == YK_SSD_NONE)
        c->state = CLEAN_BARRIER;
    else
        victim_add(d, i);
}

/* The victim stays: its records cannot be read, and may be removals. */
static void victim_leave(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    victim_of(d)->stuck = 1;
    yk_seg_failed(victim_of(d));
    victim_of(d)->state = SEG_SEALED;
    if (--c->count == 0) {
        c->state = CLEAN_IDLE;
        return;
    }
    c->at = c->count - 1u;
    c->moved = 0;
    group_on(d);
}

/* What is read must be what is meant. */
static void meta_ended(struct yk_ssd_scan *s) {
    struct yk_ssd_dev *d = s->d;
    const struct yk_ssd_seg *v = victim_of(d);
    if (s->seq == v->seq && s->status == 0) {
        d->clean.state = CLEAN_READ;
        return;
    }
    yk_clean_victim(d)->recs_len = 0;
    if (v->others == 0 && v->ns_gen <= d->ckpt_ns_gen)
        group_on(d); /* its entries are found by a sweep */
    else
        victim_leave(d);
}

/* Nothing can be written any more, not even what would make a segment free. */
static int no_room(const struct yk_ssd_dev *d) {
    return d->free_count == 0 && d->open == NULL;
}

static void victim_take(struct yk_ssd_dev *d, uint32_t i) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_victim *v = &c->v[c->count];
    c->at = c->count++;
    v->seg = d->seg_base + i;
    v->failed = 0;
    v->recs_len = 0;
    c->pass = 0;
    c->nmoves = 0;
    c->rec_at = c->moved = c->buf_used = 0;
    /* Stale: its blocks may have been moved without a barrier. Others: an expiry may not be needed since
     * a later one is on its way. */
    c->wrote |= d->segs[i].stale || d->segs[i].others > 0;
    d->segs[i].state = SEG_CLEANING;
}

static void victim_add(struct yk_ssd_dev *d, uint32_t i) {
    struct yk_ssd_clean *c = &d->clean;
    victim_take(d, i);
    if (d->segs[i].live == 0 && d->segs[i].others == 0) {
        group_on(d);
        return;
    }
    c->state = CLEAN_META;
    c->scan.ctx = c;
    c->scan.found = meta_found;
    c->scan.ended = meta_ended;
    yk_ssd_scan_start(&c->scan, d, i);
}

static void clean_begin(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    int forced = no_room(d);
    uint32_t i = forced ? yk_ssd_oldest(d) : yk_ssd_victim(d);
    if (i == YK_SSD_NONE)
        return;
    c->rebarrier = c->wrote = 0;
    c->barrier = c->flush = 0;
    c->count = c->sweep_at = 0;
    if (!forced) {
        victim_add(d, i);
        return;
    }
    victim_take(d, i);
    c->state = CLEAN_CKPT;
}

/* ---- OTHERS --------------------------------------------------------------------------------------------- */

/* Is there an older one with records that the table does not know? What a tombstone kills was recorded
 * before it, so younger ones do not matter. On another device, too: a later block of the key may have been put
 * here. Sequences of two devices are compared by their runs. */
static int older_stale(const struct yk_ssd_dev *d) {
    const struct yk_ssd *ssd = d->ssd;
    uint64_t seq = victim_of(d)->seq;
    for (uint32_t i = 0; i < ssd->nseg; i++) {
        const struct yk_ssd_seg *s = &ssd->segs[i];
        if (!s->stale || s->state == SEG_FREE || ssd->devs[s->dev]->state == YK_SSD_DEV_GONE)
            continue;
        if (s->dev == d->index ? s->seq < seq : s->seq >> 32 <= seq >> 32)
            return 1;
    }
    return 0;
}

static int expiry_needed(const struct yk_ssd_dev *d, const struct yk_ssd_rec *rec) {
    const struct yk_ssd *ssd = d->ssd;
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
    return older_stale(d);
}

static int tomb_needed(const struct yk_ssd_dev *d, const struct yk_ssd_rec *rec) {
    if (yk_ssd_ns_number(d->ssd, rec->ns_uid) < 0)
        return 0;
    return (rec->origin != victim_of(d)->seq && yk_seg_valid(d, rec->origin)) || older_stale(d) ||
           yk_ssd_durable(d->ssd, d->ssd->again) != 1;
}

static void others_step(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    const struct yk_ssd_victim *v = yk_clean_victim(d);
    struct yk_ssd_recs recs = {v->recs + c->rec_at, v->recs + v->recs_len};
    struct yk_ssd_rec rec;
    int rc = 1;
    for (uint32_t n = 0;
         n < STEPS && (rc = yk_ssd_rec_next(&recs, d->super.segment_bytes, &rec)) == 1; n++) {
        if ((rec.type == YK_SSD_REC_TOMB && tomb_needed(d, &rec)) ||
            (rec.type == YK_SSD_REC_EXPIRY && expiry_needed(d, &rec)))
            yk_ssd_log_record(d, &rec, 0);
    }
    c->rec_at = (uint64_t)(recs.at - v->recs);
    if (rc != 1)
        group_on(d);
}

/* ---- BARRIER, CKPT ----------------------------------------------------------------------------------------- */

/* 1: all that was put into the log before this state is durable, or nothing was for this group. */
static int barrier_passed(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    if (!c->wrote)
        return 1;
    if (d->back_len > d->back_at) {
        if (no_room(d))
            yk_ssd_clean_abort(d); /* and another one is begun, the oldest */
        return 0;
    }
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

/* Does a checkpoint have what only this victim has: namespaces, the latest time? */
static int ckpt_covers(const struct yk_ssd_dev *d, const struct yk_ssd_seg *v) {
    if (v->ns_gen > d->ckpt_ns_gen)
        return 0;
    for (uint32_t i = 0; i < d->nseg; i++) /* a younger one has a later time */
        if (d->segs[i].state == SEG_SEALED && d->segs[i].seq > v->seq)
            return 1;
    return d->ckpt_clock >= v->clock_ms;
}

static int ckpt_covers_all(const struct yk_ssd_dev *d) {
    for (uint32_t i = 0; i < d->clean.count; i++)
        if (!ckpt_covers(d, &d->ssd->segs[d->clean.v[i].seg]))
            return 0;
    return 1;
}

/* What recovery has recorded again stands in for what goes now. It may take the last free segment, as all that
 * this state waits for. If a device will never have it, every tombstone is kept instead (tomb_needed); if there
 * is no room for it, room goes first. */
static int again_waits(const struct yk_ssd_dev *d) {
    return yk_ssd_durable(d->ssd, d->ssd->again) == 0 && !no_room(d);
}

/* ---- ZERO, FLUSH ----------------------------------------------------------------------------------------------- */

/* Goes on with the next victim that is invalid; with none left the group is done. */
static void victim_next(struct yk_ssd_dev *d, uint32_t at) {
    struct yk_ssd_clean *c = &d->clean;
    while (at < c->count && c->v[at].failed)
        at++;
    c->at = at;
    c->rec_at = 0;
    c->sweep_at = 0;
    c->state = at < c->count ? CLEAN_DROP : CLEAN_IDLE;
}

static void flush_ended(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    struct yk_ssd_clean *c = &d->clean;
    for (uint32_t i = 0; i < c->count; i++) {
        struct yk_ssd_victim *v = &c->v[i];
        struct yk_ssd_seg *seg = &d->ssd->segs[v->seg];
        v->failed |= s->status < 0;
        /* It is valid, or perhaps not: nothing of it is forgotten. Blocks that were moved have a record
         * here, too, which no tombstone's origin names. */
        if (v->failed) {
            seg->state = SEG_SEALED;
            seg->stuck = seg->stale = 1;
            yk_seg_failed(seg);
        } else {
            yk_seg_valid_remove(d, v->seg - d->seg_base);
        }
    }
    victim_next(d, 0);
}

static void zero_ended(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_victim *v = op->ctx;
    v->failed |= op->req.status < 0;
    if (--c->zeros_pending > 0)
        return;
    c->state = CLEAN_FLUSH;
    c->script.n = 0;
    yk_ssd_script_add(&c->script, YK_FILE_FLUSH, 0, NULL, 0);
    yk_ssd_script_start(d, &c->script, flush_ended);
}

/* All at once, and before what else waits to be written: puts may wait for the room. */
static void zero_begin(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    c->state = CLEAN_ZERO;
    c->zeros_pending = 2u * c->count;
    for (uint32_t i = 0; i < c->count; i++) {
        struct yk_ssd_victim *v = &c->v[i];
        uint64_t at = yk_seg_at(d, v->seg);
        v->iov = (struct iovec){d->ssd->zeros, YK_SSD_SECTOR};
        v->op[0].ctx = v->op[1].ctx = v;
        v->op[0].done = v->op[1].done = zero_ended;
        yk_ssd_op_start(d, &v->op[0], YK_FILE_WRITE, at, YK_SSD_SECTOR, &v->iov, 1,
                        YK_SSD_PRIO_DEMAND);
        yk_ssd_op_start(d, &v->op[1], YK_FILE_WRITE,
                        at + d->super.segment_bytes - YK_SSD_SECTOR, YK_SSD_SECTOR, &v->iov, 1,
                        YK_SSD_PRIO_DEMAND);
    }
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
    const struct yk_ssd_victim *v = yk_clean_victim(d);
    struct yk_ssd_recs recs = {v->recs + c->rec_at, v->recs + v->recs_len};
    struct yk_ssd_rec rec;
    int rc = v->recs_len == 0 ? 0 : 1;
    for (uint32_t n = 0; n < STEPS && rc == 1 && victim_of(d)->live > 0; n++) {
        rc = yk_ssd_rec_next(&recs, d->super.segment_bytes, &rec);
        if (rc != 1 || rec.type != YK_SSD_REC_BLOCK)
            continue;
        int ns = yk_ssd_ns_number(d->ssd, rec.ns_uid);
        uint32_t id = ns < 0 ? YK_SSD_NONE
                             : yk_ssd_entry_at(d->ssd, (uint32_t)ns, &rec,
                                               yk_ssd_place(v->seg, rec.place));
        if (id != YK_SSD_NONE)
            victim_drop(d, id);
    }
    c->rec_at = (uint64_t)(recs.at - v->recs);
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
            yk_ssd_entry_segment(&t->e[id]) == yk_clean_victim(d)->seg)
            victim_drop(d, id);
    }
    if (victim_of(d)->live == 0)
        c->state = CLEAN_REFS;
}

/* ---- the end ------------------------------------------------------------------------------------------------------ */

static void victim_free(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    uint32_t i = yk_clean_victim(d)->seg - d->seg_base;
    struct yk_ssd_seg *v = &d->segs[i];
    struct yk_ssd_seg was = *v;
    memset(v, 0, sizeof(*v));
    v->dev = d->index;
    v->bad = was.bad;
    v->fails = was.fails;
    v->failed_s = was.failed_s;
    if (was.bad)
        v->state = SEG_BAD;
    else
        yk_seg_free_push(d, i);
    victim_next(d, c->at + 1u);
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
    yk_ssd_script_add(s, YK_FILE_DISCARD, yk_seg_at(d, yk_clean_victim(d)->seg) + YK_SSD_SECTOR, NULL,
                      d->super.segment_bytes - 2u * YK_SSD_SECTOR);
    yk_ssd_script_start(d, s, discard_done);
}

void yk_ssd_clean_abort(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    if (c->state == CLEAN_IDLE || c->scan.state != SCAN_IDLE || c->script.busy ||
        c->reads_pending > 0 || c->moves_pending > 0 || c->zeros_pending > 0)
        return;
    for (uint32_t i = 0; i < c->count; i++) {
        struct yk_ssd_seg *seg = &d->ssd->segs[c->v[i].seg];
        if (seg->state == SEG_CLEANING) {
            seg->state = SEG_SEALED;
            seg->stale = 1; /* of blocks that were moved */
        }
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
        if (barrier_passed(d) && !again_waits(d))
            c->state = CLEAN_CKPT;
        return;
    case CLEAN_CKPT:
        if (ckpt_covers_all(d))
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
