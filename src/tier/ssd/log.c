/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of one device: batches become complete in their order, segments get their footer, what is
 * not a put (removals, expiries, namespaces) finds its way into a batch.
 *
 * A header is written when all payload of its batch was reaped and all earlier batches are complete.
 * Two things follow. After a kill of the process a header that is found has its payload. And when a
 * write fails, no later batch of that segment is on the device, and at most one header is uncertain:
 * its blocks get tombstones in the next segment, instead of the whole segment being thrown away.
 *
 * A segment in which a write failed takes no more and gets no footer: what is complete in it is found
 * by walking its headers. It is cleaned like any other, and used again some time later (segment.c).
 */
#include "tier/ssd/ssd_priv.h"

#include <stdlib.h>
#include <string.h>

#include <yolk/status.h>

static void batch_list(const struct yk_ssd_batch *b, struct yk_ssd_recs *ret_recs) {
    ret_recs->at = b->head + YK_SSD_HEAD_BYTES;
    ret_recs->end = ret_recs->at + b->recs_bytes;
}

/* The record at an offset of the batch's list. It was written here, so it can be read. */
static void record_at(const struct yk_ssd_dev *d, const struct yk_ssd_batch *b, uint32_t at,
                      struct yk_ssd_rec *ret) {
    struct yk_ssd_recs recs;
    batch_list(b, &recs);
    recs.at += at;
    yk_ssd_rec_next(&recs, d->super.segment_bytes, ret);
}

/* ---- records that are no puts ---------------------------------------------------------------------- */

int yk_ssd_log_later(struct yk_ssd_dev *d, const struct yk_ssd_rec *rec, uint64_t ticket) {
    uint32_t bytes = yk_ssd_rec_put(NULL, rec);
    if (d->back_len + bytes > d->back_cap) {
        uint64_t cap = d->back_cap * 2u + 65536u;
        unsigned char *b = realloc(d->back, cap);
        if (b == NULL)
            return -YK_ENOMEM;
        d->back = b;
        d->back_cap = cap;
    }
    yk_ssd_rec_put(d->back + d->back_len, rec);
    d->back_len += bytes;
    if (ticket != 0 && (d->back_ticket == 0 || ticket < d->back_ticket))
        d->back_ticket = ticket;
    return 0;
}

void yk_ssd_log_record(struct yk_ssd_dev *d, const struct yk_ssd_rec *rec, uint64_t ticket) {
    struct yk_ssd_batch *b;
    if (d->state != YK_SSD_DEV_OK)
        return;
    if (d->back_at == d->back_len &&
        yk_ssd_batch_for(d, 0, yk_ssd_rec_put(NULL, rec), ROOM_RECORD, &b) == 0)
        yk_ssd_batch_record(b, rec, ticket);
    else if (yk_ssd_log_later(d, rec, ticket) < 0)
        yk_ssd_dev_read_only(d, "no memory for a removal's record");
}

static void back_pump(struct yk_ssd_dev *d) {
    struct yk_ssd_recs recs = {d->back + d->back_at, d->back + d->back_len};
    struct yk_ssd_rec rec;
    struct yk_ssd_batch *b;
    if (d->back_len == 0)
        return;
    for (;;) {
        const unsigned char *at = recs.at;
        if (yk_ssd_rec_next(&recs, d->super.segment_bytes, &rec) != 1)
            break;
        if (yk_ssd_batch_for(d, 0, (uint32_t)(recs.at - at), ROOM_RECORD, &b) < 0) {
            d->back_at = (uint64_t)(at - d->back);
            return;
        }
        yk_ssd_batch_record(b, &rec, d->back_ticket);
    }
    d->back_at = d->back_len = d->back_ticket = 0;
}

/* ---- a batch ends ---------------------------------------------------------------------------------- */

static void batch_free(struct yk_ssd_dev *d, struct yk_ssd_batch *b) {
    yk_ssd_queued(d, 0u - b->payload_bytes);
    d->fifo = b->next;
    if (d->fifo == NULL)
        d->fifo_last = NULL;
    d->bseq_done = b->bseq;
    b->open->batches--;
    b->state = BATCH_FREE;
    d->batches_free++;
}

static void put_told(struct yk_ssd *ssd, uint32_t id, uint64_t cookie, int status) {
    if (ssd->o.on_put != NULL)
        ssd->o.on_put(ssd->o.arg, id, cookie, status);
}

static void put_done(struct yk_ssd *ssd, const struct yk_ssd_bput *p) {
    struct yk_ssd_entry *e = &ssd->table.e[p->id];
    if (e->flags & YK_SSD_E_DEAD) {
        put_told(ssd, p->id, p->cookie, -YK_ECANCELED);
        yk_ssd_entry_free(ssd, p->id);
        return;
    }
    e->flags |= YK_SSD_E_WRITTEN;
    put_told(ssd, p->id, p->cookie, 0);
}

static void put_failed(struct yk_ssd *ssd, const struct yk_ssd_bput *p, int status) {
    YK_SSD_ADD(ssd->c.put_fails, 1);
    if (ssd->table.e[p->id].flags & YK_SSD_E_DEAD)
        status = -YK_ECANCELED;
    else
        yk_ssd_entry_forget(ssd, p->id);
    put_told(ssd, p->id, p->cookie, status);
    yk_ssd_entry_free(ssd, p->id);
}

static int foot_add(struct yk_ssd_open *o, const struct yk_ssd_batch *b) {
    if (o->foot_len + b->recs_bytes > o->foot_cap) {
        uint64_t cap = (o->foot_cap + b->recs_bytes) * 2u + 65536u;
        unsigned char *f = realloc(o->foot, cap);
        if (f == NULL)
            return -YK_ENOMEM;
        o->foot = f;
        o->foot_cap = cap;
    }
    memcpy(o->foot + o->foot_len, b->head + YK_SSD_HEAD_BYTES, b->recs_bytes);
    o->foot_len += b->recs_bytes;
    o->foot_count += b->count;
    if (b->gen_max > o->gen_max)
        o->gen_max = b->gen_max;
    return 0;
}

static void batch_complete(struct yk_ssd_dev *d, struct yk_ssd_batch *b) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_seg *seg = &ssd->segs[b->open->seg];
    if (foot_add(b->open, b) < 0)
        b->open->failed = 1; /* no memory: the segment stays without a footer */
    seg->others += b->others;
    if (b->ns_gen > seg->ns_gen)
        seg->ns_gen = b->ns_gen;
    if (b->ticket_min != 0 && (d->tk_done == 0 || b->ticket_min < d->tk_done))
        d->tk_done = b->ticket_min;
    YK_SSD_ADD(ssd->c.batches, 1);
    for (uint32_t i = 0; i < b->nputs; i++) {
        if (b->puts[i].move)
            yk_ssd_move_done(d, b, &b->puts[i], 1);
        else
            put_done(ssd, &b->puts[i]);
    }
    batch_free(d, b);
}

/* A tombstone for a block that may stand in a batch whose header failed. */
static void put_doubtful(struct yk_ssd_dev *d, const struct yk_ssd_batch *b,
                         const struct yk_ssd_bput *p) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_rec rec, tomb = {.type = YK_SSD_REC_TOMB};
    uint64_t ticket = yk_ssd_ticket_new(ssd, 1u << d->index);
    record_at(d, b, p->rec_at, &rec);
    tomb.ns_uid = rec.ns_uid;
    tomb.gen = rec.gen;
    tomb.key = rec.key;
    tomb.key_len = rec.key_len;
    tomb.origin = ssd->segs[b->open->seg].seq;
    yk_ssd_pend_add(ssd, ssd->table.e[p->id].ns, yk_ssd_table_hash(&ssd->table, p->id), ticket);
    yk_ssd_log_record(d, &tomb, ticket >> YK_SSD_TICKET_BITS);
}

/* What else the batch recorded goes into another one. */
static void others_again(struct yk_ssd_dev *d, const struct yk_ssd_batch *b) {
    struct yk_ssd_recs recs;
    struct yk_ssd_rec rec;
    batch_list(b, &recs);
    while (yk_ssd_rec_next(&recs, d->super.segment_bytes, &rec) == 1)
        if (rec.type != YK_SSD_REC_BLOCK && rec.type != YK_SSD_REC_ORDER)
            yk_ssd_log_record(d, &rec, b->ticket_min);
}

/* tried: its header was sent, so it may be on the device or not. */
static void batch_fail(struct yk_ssd_dev *d, struct yk_ssd_batch *b, int tried) {
    struct yk_ssd *ssd = d->ssd;
    int status = d->state == YK_SSD_DEV_GONE ? -YK_EGONE : -YK_EIO;
    b->open->failed = 1;
    d->clean.rebarrier = 1;
    if (d->state == YK_SSD_DEV_OK)
        others_again(d, b);
    for (uint32_t i = 0; i < b->nputs; i++) {
        const struct yk_ssd_bput *p = &b->puts[i];
        if (p->move) {
            ssd->segs[b->open->seg].stale |= (uint8_t)tried;
            yk_ssd_move_done(d, b, p, 0);
        } else if (tried && d->state == YK_SSD_DEV_READ_ONLY) {
            /* Nothing can be recorded any more, not even that it is not there: so it is. */
            put_done(ssd, p);
        } else {
            if (tried && d->state == YK_SSD_DEV_OK)
                put_doubtful(d, b, p);
            put_failed(ssd, p, status);
        }
    }
    batch_free(d, b);
}

/* ---- headers ------------------------------------------------------------------------------------------ */

static void header_done(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd_batch *b = op->ctx;
    if (op->req.status < 0)
        b->status = op->req.status;
    b->pending--;
}

/* Before other writes that wait: room in memory and in the queue depends on it. */
static void header_write(struct yk_ssd_dev *d, struct yk_ssd_batch *b) {
    struct yk_ssd *ssd = d->ssd;
    uint64_t at = yk_seg_at(d, b->open->seg);
    struct yk_ssd_head h = {.uid = d->super.uid,
                            .seq = ssd->segs[b->open->seg].seq,
                            .number = b->number,
                            .count = b->count,
                            .recs_bytes = b->recs_bytes,
                            .room = b->room,
                            .bytes = b->pos - b->at,
                            .clock_ms = ssd->clock_ms,
                            .gen_max = ssd->gen,
                            .at_sector = (uint32_t)(b->at / YK_SSD_SECTOR)};
    yk_ssd_head_put(b->head, &h);
    b->head_iov = (struct iovec){b->head, b->room};
    b->state = BATCH_HEADER;
    b->pending = 1u + b->copy;
    b->head_op.ctx = b->copy_op.ctx = b;
    b->head_op.done = b->copy_op.done = header_done;
    yk_ssd_op_start(d, &b->head_op, YK_FILE_WRITE, at + b->at, b->room, &b->head_iov, 1,
                    YK_SSD_PRIO_DEMAND);
    if (b->copy)
        yk_ssd_op_start(d, &b->copy_op, YK_FILE_WRITE, at + b->pos - b->room, b->room,
                        &b->head_iov, 1, YK_SSD_PRIO_DEMAND);
}

static void batches_advance(struct yk_ssd_dev *d) {
    struct yk_ssd_batch *b;
    while ((b = d->fifo) != NULL && b->state != BATCH_OPEN && b->pending == 0) {
        if (b->state == BATCH_PAYLOAD && !b->open->failed && d->state == YK_SSD_DEV_OK)
            header_write(d, b);
        else if (b->state == BATCH_PAYLOAD)
            batch_fail(d, b, 0);
        else if (b->status < 0)
            batch_fail(d, b, 1);
        else
            batch_complete(d, b);
    }
}

/* ---- segments ------------------------------------------------------------------------------------------- */

void yk_ssd_log_seal(struct yk_ssd_dev *d) {
    struct yk_ssd_open *o = d->open;
    if (o == NULL)
        return;
    if (d->batch != NULL)
        yk_ssd_batch_close(d);
    o->sealing = 1;
    d->ssd->segs[o->seg].state = SEG_SEALING;
    d->open = NULL;
}

static void open_ends(struct yk_ssd_dev *d, struct yk_ssd_open *o) {
    struct yk_ssd_seg *seg = &d->ssd->segs[o->seg];
    seg->state = SEG_SEALED;
    seg->bad = o->failed;
    if (o->failed)
        yk_seg_failed(seg);
    else
        seg->fails = 0;
    o->used = 0;
}

static void footer_next(struct yk_ssd_dev *d, struct yk_ssd_open *o);

static void footer_done(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd_open *o = op->ctx;
    o->failed |= op->req.status < 0;
    o->foot_at += op->req.bytes;
    if (o->failed || o->foot_at == yk_ssd_foot_bytes(o->foot_len))
        open_ends(d, o);
    else
        footer_next(d, o);
}

/* Small blocks make a footer of several requests; its end, which makes it one, goes last. */
static void footer_next(struct yk_ssd_dev *d, struct yk_ssd_open *o) {
    uint64_t all = yk_ssd_foot_bytes(o->foot_len), n = all - o->foot_at;
    if (n > YK_FILE_BYTES)
        n = YK_FILE_BYTES;
    o->iov = (struct iovec){o->foot + o->foot_at, n};
    yk_ssd_op_start(d, &o->op, YK_FILE_WRITE,
                    yk_seg_at(d, o->seg) + d->super.segment_bytes - all + o->foot_at, n, &o->iov, 1,
                    YK_SSD_PRIO_BACKGROUND);
}

static void footer_write(struct yk_ssd_dev *d, struct yk_ssd_open *o) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_foot f = {.uid = d->super.uid,
                            .seq = ssd->segs[o->seg].seq,
                            .count = o->foot_count,
                            .recs_bytes = (uint32_t)o->foot_len,
                            .clock_ms = ssd->clock_ms,
                            .gen_max = o->gen_max};
    uint64_t bytes = yk_ssd_foot_bytes(o->foot_len);
    if (o->foot_cap < bytes) {
        unsigned char *foot = realloc(o->foot, bytes);
        if (foot == NULL) {
            o->failed = 1;
            open_ends(d, o);
            return;
        }
        o->foot = foot;
        o->foot_cap = bytes;
    }
    yk_ssd_foot_put(o->foot, &f);
    ssd->segs[o->seg].clock_ms = ssd->clock_ms;
    o->foot_at = 0;
    o->op.ctx = o;
    o->op.done = footer_done;
    footer_next(d, o);
}

static void opens_advance(struct yk_ssd_dev *d) {
    if (d->open != NULL && (d->open->failed || d->state != YK_SSD_DEV_OK))
        yk_ssd_log_seal(d);
    for (uint32_t i = 0; i < YK_SSD_OPENS; i++) {
        struct yk_ssd_open *o = &d->opens[i];
        if (!o->used || !o->sealing || o->batches > 0 || o->op.busy)
            continue;
        if (o->failed || d->state != YK_SSD_DEV_OK)
            open_ends(d, o);
        else
            footer_write(d, o);
    }
}

/* ---- one turn -------------------------------------------------------------------------------------------- */

/* Does the open batch close now? Somebody waits for it (unless a flush that will be followed by another
 * is under way: then more may join), it is large, or the device has nothing else to do. */
static int batch_ripe(const struct yk_ssd_dev *d) {
    const struct yk_ssd_batch *b = d->batch;
    if (b == NULL)
        return 0;
    if (b->payload_bytes >= YK_SSD_BATCH_BYTES || b->bseq <= d->close_bseq || b->open->failed ||
        d->state != YK_SSD_DEV_OK)
        return 1;
    if (b->ticket_min != 0 && d->tk_done == 0 && d->tk_flush == 0) {
        int before = 0; /* a batch that somebody waits for, too */
        for (const struct yk_ssd_batch *p = d->fifo; p != b; p = p->next)
            before |= p->ticket_min != 0;
        if (!before)
            return 1;
    }
    return d->writes_busy == 0 && d->fifo == b;
}

void yk_ssd_log_pump(struct yk_ssd_dev *d) {
    batches_advance(d);
    back_pump(d);
    opens_advance(d);
    if (batch_ripe(d))
        yk_ssd_batch_close(d);
    else if (d->batch != NULL && d->batch->cur != NULL && d->writes_busy < 2 &&
             d->batch->pos % YK_SSD_SECTOR == 0)
        yk_ssd_batch_send(d, d->batch);
    batches_advance(d);
    opens_advance(d);
    yk_ssd_flush_pump(d);
}

int yk_ssd_log_idle(const struct yk_ssd_dev *d) {
    int opens = 0;
    for (uint32_t i = 0; i < YK_SSD_OPENS; i++)
        opens |= d->opens[i].used && d->opens[i].sealing;
    return d->fifo == NULL && d->back_len == d->back_at && !opens && yk_ssd_dev_waits(d) == 0 &&
           d->flush_want == d->flush_done;
}
