/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of a victim that are worth it, written again.
 *
 * In rounds: as many blocks as the buffer and the list hold are read, then put into the log like any
 * other block but with their old generation, and the round is over when their batches are complete.
 * An entry points to the old place until then, so a read finds it all the time. First those that were
 * used go, then young ones, as far as the budget and three quarters of a segment reach: a victim must
 * free more than it takes.
 *
 * An entry that went meanwhile has left a tombstone that knows nothing of its second copy: that gets
 * one of its own, of the copy's generation.
 *
 * Threads: the owner's.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/hash.h"

#include <string.h>

#include <yolk/status.h>

static int record_at(struct yk_ssd_dev *d, uint64_t at, struct yk_ssd_rec *ret,
                     uint64_t *ret_next) {
    const struct yk_ssd_victim *v = yk_clean_victim(d);
    struct yk_ssd_recs recs = {v->recs + at, v->recs + v->recs_len};
    int rc = yk_ssd_rec_next(&recs, d->super.segment_bytes, ret);
    *ret_next = (uint64_t)(recs.at - v->recs);
    return rc;
}

static uint32_t entry_of(struct yk_ssd_dev *d, const struct yk_ssd_rec *rec) {
    const struct yk_ssd *ssd = d->ssd;
    int ns = yk_ssd_ns_number(ssd, rec->ns_uid);
    if (ns < 0)
        return YK_SSD_NONE;
    return yk_ssd_entry_at(ssd, (uint32_t)ns, rec, yk_ssd_place(yk_clean_victim(d)->seg, rec->place));
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static void piece_read(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd_cmove *m = op->ctx;
    if (op->req.status < 0)
        m->ok = 0;
    if (--m->pending == 0)
        d->clean.reads_pending--;
}

/* The block with the sectors around it; payload begins at the same place in its sector as on the
 * device. */
static void move_read(struct yk_ssd_dev *d, struct yk_ssd_cmove *m, uint64_t unit, uint64_t len) {
    struct yk_ssd_clean *c = &d->clean;
    uint64_t at = yk_seg_at(d, yk_clean_victim(d)->seg) + unit * YK_SSD_UNIT, skip = at % YK_SSD_SECTOR;
    uint64_t bytes = yk_ssd_up(skip + len, YK_SSD_SECTOR), done = 0;
    m->buf_at = c->buf_used + skip;
    m->ok = 1;
    c->reads_pending++;
    for (uint32_t i = 0; done < bytes; i++) {
        uint64_t n = bytes - done < YK_FILE_BYTES ? bytes - done : YK_FILE_BYTES;
        m->iov[i] = (struct iovec){c->buf + c->buf_used + done, n};
        m->op[i].ctx = m;
        m->op[i].done = piece_read;
        m->pending++;
        yk_ssd_op_start(d, &m->op[i], YK_FILE_READ, at - skip + done, n, &m->iov[i], 1,
                        YK_SSD_PRIO_BACKGROUND);
        done += n;
    }
    c->buf_used += bytes;
}

/* 1: read is begun; 0: not wanted; -YK_EAGAIN: not in this round. */
static int move_want(struct yk_ssd_dev *d, const struct yk_ssd_rec *rec, uint64_t at) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_clean *c = &d->clean;
    uint64_t takes = yk_ssd_takes(rec->len);
    uint32_t id = entry_of(d, rec);
    if (id == YK_SSD_NONE || !yk_ssd_entry_live(ssd, id, ssd->now_ms) ||
        !yk_ssd_worth_moving(ssd, id, c->pass) || takes > c->credit || takes > yk_ssd_len_max(d) ||
        c->moved + takes > d->super.segment_bytes / 4u * 3u)
        return 0;
    if (c->nmoves == YK_SSD_CLEAN_READS || /* the buffer has two sectors more than one such block */
        (c->nmoves > 0 && c->buf_used + takes + 2u * YK_SSD_SECTOR > YK_SSD_CLEAN_BUF))
        return -YK_EAGAIN;
    struct yk_ssd_cmove *m = &c->moves[c->nmoves++];
    m->id = id;
    m->rec_at = at;
    m->place = yk_ssd_place(yk_clean_victim(d)->seg, rec->place);
    m->queued = 0;
    m->pending = 0;
    c->credit -= takes;
    c->moved += takes;
    move_read(d, m, rec->place, rec->len);
    return 1;
}

/* Begins a round; 0: there is nothing more to move. */
static int round_begin(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_rec rec;
    uint64_t next;
    c->nmoves = 0;
    c->buf_used = 0;
    for (; c->pass < 2; c->pass++, c->rec_at = 0) {
        while (record_at(d, c->rec_at, &rec, &next) == 1) {
            if (rec.type == YK_SSD_REC_BLOCK && move_want(d, &rec, c->rec_at) < 0)
                return 1;
            c->rec_at = next;
        }
    }
    return c->nmoves > 0;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Puts one block that was read into the log. -YK_EAGAIN: later. */
static int move_queue(struct yk_ssd_dev *d, struct yk_ssd_cmove *m) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_clean *c = &d->clean;
    struct yk_ssd_batch *b;
    struct yk_ssd_rec rec;
    uint64_t next;
    record_at(d, m->rec_at, &rec, &next);
    if (!m->ok || entry_of(d, &rec) != m->id || !yk_ssd_entry_live(ssd, m->id, ssd->now_ms))
        return 0;
    int rc = yk_ssd_batch_for(d, rec.len, (uint32_t)(next - m->rec_at), ROOM_MOVE, &b);
    if (rc < 0) /* without a segment to go to it is dropped with the victim */
        return d->open == NULL && d->free_count < 2 ? 0 : rc;
    rec.place = (uint32_t)(yk_ssd_batch_place(b, rec.len) / YK_SSD_UNIT);
    rec.expiry_ms = yk_ssd_table_expiry(&ssd->table, m->id);
    b->puts[b->nputs++] = (struct yk_ssd_bput){.place = yk_ssd_place(b->open->seg, rec.place),
                                               .place_old = m->place,
                                               .id = m->id,
                                               .rec_at = b->recs_bytes,
                                               .move = 1};
    yk_ssd_batch_payload(d, b, c->buf + m->buf_at, rec.len);
    yk_ssd_batch_record(b, &rec, 0);
    c->moves_pending++;
    c->wrote = 1;
    YK_SSD_ADD(ssd->c.clean_blocks, 1);
    YK_SSD_ADD(ssd->c.clean_bytes, rec.len);
    return 0;
}

static void tomb_for_copy(struct yk_ssd_dev *d, const struct yk_ssd_batch *b, uint32_t rec_at) {
    struct yk_ssd_recs recs = {b->head + YK_SSD_HEAD_BYTES + rec_at,
                               b->head + YK_SSD_HEAD_BYTES + b->recs_bytes};
    struct yk_ssd_rec rec, tomb = {.type = YK_SSD_REC_TOMB};
    if (yk_ssd_rec_next(&recs, d->super.segment_bytes, &rec) != 1)
        return;
    tomb.ns_uid = rec.ns_uid;
    tomb.gen = rec.gen;
    tomb.key = rec.key;
    tomb.key_len = rec.key_len;
    tomb.origin = d->ssd->segs[b->open->seg].seq;
    yk_ssd_log_record(d, &tomb, 0);
}

void yk_ssd_move_done(struct yk_ssd_dev *d, struct yk_ssd_batch *b, const struct yk_ssd_bput *p,
                      int ok) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_entry *e = &ssd->table.e[p->id];
    if (d->clean.moves_pending > 0)
        d->clean.moves_pending--;
    if (!ok)
        return;
    if ((e->flags & (YK_SSD_E_USED | YK_SSD_E_DEAD)) != YK_SSD_E_USED ||
        yk_ssd_entry_place(e) != p->place_old) {
        tomb_for_copy(d, b, p->rec_at);
        return;
    }
    yk_seg_count(ssd, p->id, -1);
    e->flags &= (uint8_t)~YK_SSD_E_HOT; /* to be kept again it must be used again */
    yk_ssd_entry_place_set(e, p->place);
    yk_seg_count(ssd, p->id, 1);
}

/* READ and WRITE of the cleaner; leaves them for OTHERS when all is moved. */
void yk_ssd_move_pump(struct yk_ssd_dev *d) {
    struct yk_ssd_clean *c = &d->clean;
    for (;;) {
        if (c->state == CLEAN_READ && c->nmoves == 0 && !round_begin(d)) {
            c->state = CLEAN_OTHERS;
            c->rec_at = 0;
            return;
        }
        if (c->reads_pending > 0)
            return;
        c->state = CLEAN_WRITE;
        for (uint32_t i = 0; i < c->nmoves; i++) {
            struct yk_ssd_cmove *m = &c->moves[i];
            if (!m->queued && move_queue(d, m) < 0)
                return;
            m->queued = 1;
        }
        if (c->moves_pending > 0) {
            d->close_bseq = d->bseq;
            return;
        }
        c->nmoves = 0;
        c->state = CLEAN_READ;
    }
}
