/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches: where a payload goes, which requests carry it, when a batch takes no more.
 *
 * Large payloads go to the device from where they are, as pieces of requests of about a megabyte, with
 * pieces of zeros up to the next sector; small ones are packed into the batch's stage. Requests are
 * sent as they fill, long before the batch closes. Room for the header is reserved at the batch's
 * beginning before it is known how many records will come: as much as the last batches needed.
 *
 * A batch with removals ends in a copy of its header: a removal that was acknowledged must survive a
 * rotten sector, and until the segment has its footer nothing else repeats it.
 */
#include "tier/ssd/ssd_priv.h"

#include <string.h>

#include <yolk/status.h>

static void payload_done(struct yk_ssd_dev *d, struct yk_ssd_op *op);

uint64_t yk_ssd_len_max(const struct yk_ssd_dev *d) {
    return d->super.segment_bytes - 3u * YK_SSD_SECTOR - yk_ssd_foot_bytes(YK_SSD_REC_MAX);
}

/* ---- requests of a batch ------------------------------------------------------------------------------- */

static struct yk_ssd_wreq *wreq_take(struct yk_ssd_dev *d, struct yk_ssd_batch *b,
                                     uint64_t offset) {
    struct yk_ssd_wreq *w = d->wreq_free; /* batch_for has made sure that there are enough */
    d->wreq_free = w->next_free;
    d->wreqs_free--;
    w->batch = b;
    w->offset = offset;
    w->bytes = 0;
    w->iov_count = 0;
    return w;
}

static void wreq_give(struct yk_ssd_dev *d, struct yk_ssd_wreq *w) {
    d->writing_bytes -= w->bytes;
    w->next_free = d->wreq_free;
    d->wreq_free = w;
    d->wreqs_free++;
}

void yk_ssd_batch_send(struct yk_ssd_dev *d, struct yk_ssd_batch *b) {
    struct yk_ssd_wreq *w = b->cur;
    b->cur = NULL;
    if (w == NULL)
        return;
    if (b->open->failed || d->state != YK_SSD_DEV_OK) { /* it will be for nothing */
        wreq_give(d, w);
        return;
    }
    b->pending++;
    w->op.ctx = w;
    w->op.done = payload_done;
    yk_ssd_op_start(d, &w->op, YK_FILE_WRITE, w->offset, w->bytes, w->iov, w->iov_count,
                    YK_SSD_PRIO_BACKGROUND);
}

static void payload_done(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd_wreq *w = op->ctx;
    struct yk_ssd_batch *b = w->batch;
    if (op->req.status < 0) {
        b->status = op->req.status;
        b->open->failed = 1;
    }
    b->pending--;
    wreq_give(d, w);
}

/* Appends bytes at b->pos; what continues the last piece in memory makes it longer. Never sends a part
 * of a sector: pieces but for stages are whole sectors, or are followed by zeros. */
static void piece_add(struct yk_ssd_dev *d, struct yk_ssd_batch *b, const void *from,
                      uint64_t bytes) {
    const unsigned char *p = from;
    while (bytes > 0) {
        struct yk_ssd_wreq *w = b->cur;
        if (w == NULL)
            w = b->cur = wreq_take(d, b, yk_seg_at(d, b->open->seg) + b->pos);
        uint64_t n = YK_FILE_BYTES - w->bytes < bytes ? YK_FILE_BYTES - w->bytes : bytes;
        struct iovec *last = w->iov_count > 0 ? &w->iov[w->iov_count - 1] : NULL;
        if (last != NULL && (unsigned char *)last->iov_base + last->iov_len == p)
            last->iov_len += n;
        else
            w->iov[w->iov_count++] = (struct iovec){(void *)(uintptr_t)p, n};
        w->bytes += n;
        d->writing_bytes += n;
        b->pos += n;
        p += n;
        bytes -= n;
        if (w->bytes == YK_FILE_BYTES)
            yk_ssd_batch_send(d, b);
    }
}

static void stage_pad(struct yk_ssd_dev *d, struct yk_ssd_batch *b, uint64_t to) {
    uint64_t n = yk_ssd_up(b->pos, to) - b->pos;
    if (n == 0)
        return;
    memset(b->stage + b->stage_used, 0, n);
    b->stage_used += (uint32_t)n;
    piece_add(d, b, b->stage + b->stage_used - n, n);
}

/* ---- records and payload --------------------------------------------------------------------------------- */

uint64_t yk_ssd_batch_place(const struct yk_ssd_batch *b, uint64_t len) {
    return yk_ssd_up(b->pos, len >= YK_SSD_LARGE ? YK_SSD_SECTOR : YK_SSD_UNIT);
}

static void payload_large(struct yk_ssd_dev *d, struct yk_ssd_batch *b, const void *payload,
                          uint64_t len) {
    stage_pad(d, b, YK_SSD_SECTOR);
    if (b->cur != NULL &&
        (b->cur->iov_count + 2 > YK_FILE_IOVS || b->cur->bytes >= YK_SSD_WRITE_BYTES))
        yk_ssd_batch_send(d, b);
    piece_add(d, b, payload, len);
    piece_add(d, b, d->ssd->zeros, yk_ssd_up(len, YK_SSD_SECTOR) - len);
}

static void payload_small(struct yk_ssd_dev *d, struct yk_ssd_batch *b, const void *payload,
                          uint64_t len) {
    uint64_t takes = yk_ssd_takes(len);
    unsigned char *to = b->stage + b->stage_used;
    if (b->cur != NULL && b->cur->iov_count == YK_FILE_IOVS && b->pos % YK_SSD_SECTOR == 0)
        yk_ssd_batch_send(d, b);
    memcpy(to, payload, len);
    memset(to + len, 0, takes - len);
    b->stage_used += (uint32_t)takes;
    piece_add(d, b, to, takes);
}

/* Its place is what yk_ssd_batch_place said. */
void yk_ssd_batch_payload(struct yk_ssd_dev *d, struct yk_ssd_batch *b, const void *payload,
                          uint64_t len) {
    if (len >= YK_SSD_LARGE)
        payload_large(d, b, payload, len);
    else if (len > 0)
        payload_small(d, b, payload, len);
    b->payload_bytes += len;
    yk_ssd_queued(d, len);
    if (b->cur != NULL && b->cur->bytes >= YK_SSD_WRITE_BYTES && b->pos % YK_SSD_SECTOR == 0)
        yk_ssd_batch_send(d, b);
}

void yk_ssd_batch_record(struct yk_ssd_batch *b, const struct yk_ssd_rec *rec, uint64_t ticket) {
    uint32_t bytes = yk_ssd_rec_put(b->head + YK_SSD_HEAD_BYTES + b->recs_bytes, rec);
    b->recs_bytes += bytes;
    b->open->recs_bytes += bytes;
    b->count++;
    if (rec->gen > b->gen_max)
        b->gen_max = rec->gen;
    if (rec->type != YK_SSD_REC_BLOCK && rec->type != YK_SSD_REC_ORDER)
        b->copy = 1;
    if (rec->type == YK_SSD_REC_NS && rec->gen > b->ns_gen)
        b->ns_gen = rec->gen;
    b->others += rec->type == YK_SSD_REC_TOMB || rec->type == YK_SSD_REC_EXPIRY;
    if (ticket != 0 && (b->ticket_min == 0 || ticket < b->ticket_min))
        b->ticket_min = ticket;
}

/* ---- opening and closing ------------------------------------------------------------------------------------ */

/* Would the segment still hold its footer after this? pos: end of the payload; room: once more, for
 * the header's copy. */
static int segment_holds(const struct yk_ssd_dev *d, const struct yk_ssd_open *o, uint64_t pos,
                         uint64_t room, uint32_t rec_bytes) {
    uint64_t end =
        yk_ssd_up(pos, YK_SSD_SECTOR) + room + yk_ssd_foot_bytes(o->recs_bytes + rec_bytes);
    return end <= d->super.segment_bytes;
}

static int batch_holds(const struct yk_ssd_dev *d, const struct yk_ssd_batch *b, uint64_t len,
                       uint32_t rec_bytes) {
    if (YK_SSD_HEAD_BYTES + b->recs_bytes + rec_bytes > b->room || b->nputs == YK_SSD_BATCH_PUTS ||
        b->open->failed)
        return 0;
    /* A sector for each padding before a large one: stages hold some of both. */
    if (b->stage_used + 2u * YK_SSD_SECTOR + (len < YK_SSD_LARGE ? len + YK_SSD_UNIT : 0) >
        YK_SSD_STAGE_BYTES)
        return 0;
    return segment_holds(d, b->open, yk_ssd_batch_place(b, len) + yk_ssd_takes(len), b->room,
                         rec_bytes);
}

static uint32_t room_for(const struct yk_ssd_dev *d, uint32_t rec_bytes) {
    uint64_t most = d->super.segment_bytes / 16 / YK_SSD_SECTOR * YK_SSD_SECTOR;
    uint32_t room = (uint32_t)yk_ssd_up(d->room_want, YK_SSD_SECTOR);
    if (room > most)
        room = (uint32_t)most;
    if (room > YK_SSD_ROOM_MAX)
        room = YK_SSD_ROOM_MAX;
    if (room < YK_SSD_HEAD_BYTES + rec_bytes)
        room = YK_SSD_SECTOR;
    return room;
}

static struct yk_ssd_batch *batch_take(struct yk_ssd_dev *d) {
    for (uint32_t i = 0; i < YK_SSD_BATCHES; i++)
        if (d->batches[i].state == BATCH_FREE)
            return &d->batches[i];
    return NULL;
}

/* A new batch in the open segment that holds this; -YK_ENOSPC: the segment does not. */
static int batch_open(struct yk_ssd_dev *d, uint64_t len, uint32_t rec_bytes) {
    struct yk_ssd_open *o = d->open;
    uint32_t room = room_for(d, rec_bytes);
    uint64_t pos = o->pos + yk_ssd_takes(len);
    if (!segment_holds(d, o, pos + room, room, rec_bytes))
        room = YK_SSD_SECTOR;
    if (!segment_holds(d, o, pos + room, room, rec_bytes))
        return -YK_ENOSPC;
    struct yk_ssd_batch *b = batch_take(d);
    if (b == NULL)
        return -YK_EAGAIN;
    d->batches_free--;
    b->state = BATCH_OPEN;
    b->next = NULL;
    b->open = o;
    b->bseq = ++d->bseq;
    b->at = o->pos;
    b->pos = o->pos + room;
    b->room = room;
    b->number = o->next_number++;
    b->payload_bytes = b->ticket_min = b->gen_max = b->ns_gen = 0;
    b->count = b->recs_bytes = b->nputs = b->others = b->stage_used = b->pending = 0;
    b->status = 0;
    b->copy = 0;
    b->cur = NULL;
    o->batches++;
    if (d->fifo_last != NULL)
        d->fifo_last->next = b;
    else
        d->fifo = b;
    d->fifo_last = d->batch = b;
    return 0;
}

void yk_ssd_batch_close(struct yk_ssd_dev *d) {
    struct yk_ssd_batch *b = d->batch;
    uint32_t used = YK_SSD_HEAD_BYTES + b->recs_bytes;
    stage_pad(d, b, YK_SSD_SECTOR);
    yk_ssd_batch_send(d, b);
    if (b->copy)
        b->pos += b->room;
    b->open->pos = b->pos;
    b->state = BATCH_PAYLOAD;
    d->batch = NULL;
    /* A full header asks for twice the room; what was not needed is asked for less slowly. */
    d->room_want =
        used + YK_SSD_REC_MAX / 4 > b->room ? b->room * 2u : (d->room_want * 3u + used) / 4u;
    if (d->room_want > YK_SSD_ROOM_MAX)
        d->room_want = YK_SSD_ROOM_MAX;
}

static int segment_open(struct yk_ssd_dev *d, enum yk_ssd_room room) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_open *o = NULL;
    for (uint32_t i = 0; i < YK_SSD_OPENS && o == NULL; i++)
        if (!d->opens[i].used)
            o = &d->opens[i];
    uint32_t leave = room == ROOM_PUT ? d->reserve : 1;
    if (room == ROOM_RECORD && (d->clean.state == CLEAN_OTHERS || d->clean.state == CLEAN_BARRIER))
        leave = 0; /* the last one is for what must be written so that another becomes free */
    if (o == NULL || d->free_count <= leave)
        return -YK_EAGAIN;
    uint32_t i = yk_seg_free_pop(d);
    struct yk_ssd_seg *seg = &d->segs[i];
    seg->seq = ssd->run << 32 | ++d->seg_count;
    seg->state = SEG_OPEN;
    seg->live_bytes = seg->hot_bytes = seg->ns_gen = 0;
    seg->live = seg->others = 0;
    seg->stale = 0;
    seg->clock_ms = ssd->clock_ms;
    seg->stamp = yk_ssd_stamp(&ssd->table);
    yk_seg_valid_add(d, i);
    o->used = 1;
    o->sealing = o->failed = 0;
    o->seg = d->seg_base + i;
    o->next_number = o->batches = o->foot_count = 0;
    o->pos = o->recs_bytes = o->foot_len = o->gen_max = 0;
    d->open = o;
    return 0;
}

static int requests_for(const struct yk_ssd_dev *d, uint64_t len) {
    return d->wreqs_free >= len / YK_FILE_BYTES + 4u;
}

int yk_ssd_batch_for(struct yk_ssd_dev *d, uint64_t len, uint32_t rec_bytes, enum yk_ssd_room room,
                     struct yk_ssd_batch **ret_batch) {
    if (!requests_for(d, len))
        return -YK_EAGAIN;
    for (;;) {
        int rc = 0;
        if (d->batch != NULL && batch_holds(d, d->batch, len, rec_bytes)) {
            *ret_batch = d->batch;
            return 0;
        }
        if (d->batch != NULL)
            yk_ssd_batch_close(d);
        if (d->open == NULL && (rc = segment_open(d, room)) < 0)
            return rc;
        rc = d->open->failed ? -YK_ENOSPC : batch_open(d, len, rec_bytes);
        if (rc == -YK_EAGAIN)
            return rc;
        if (rc == -YK_ENOSPC)
            yk_ssd_log_seal(d); /* and the next one */
    }
}

int yk_ssd_batch_may(const struct yk_ssd_dev *d, uint64_t len) {
    const struct yk_ssd_open *o = d->open;
    if (d->batches_free < 2 || !requests_for(d, len))
        return 0;
    if (d->free_count > d->reserve)
        return 1;
    uint64_t pos = o == NULL ? 0 : d->batch != NULL ? d->batch->pos : o->pos;
    return o != NULL && !o->failed &&
           segment_holds(d, o, yk_ssd_up(pos, YK_SSD_SECTOR) + yk_ssd_takes(len) + YK_SSD_ROOM_MAX,
                         YK_SSD_ROOM_MAX, YK_SSD_REC_MAX);
}
