/* SPDX-License-Identifier: Apache-2.0
 *
 * What a segment holds, from its metadata alone: for recovery (many at a time) and for the cleaner.
 *
 *   TAIL --footer's end is good--> (FOOT: the rest of a long one) --> its records
 *     |
 *     +--none--> HEAD --good--> REST --> the batch's records --> HEAD of the next batch ...
 *                  |
 *                  +--damaged--> SEEK: the next header of this sequence, or the copy that stands at
 *                                the end of a batch with removals
 *
 * A walk ends at what is no header of this sequence. Where it stopped because a header was damaged,
 * the rest of the segment is searched sector by sector: behind it there may be removals that were
 * acknowledged. That reads a whole segment, but only then.
 *
 * Threads: the owner's; ended is called from the poll that reaps the last read.
 */
#include "tier/ssd/ssd_priv.h"

#include <stdlib.h>
#include <string.h>

#include <yolk/status.h>

#define SEEK_BYTES (1u << 20)

static void scan_step(struct yk_ssd_scan *s);
static void scan_read_next(struct yk_ssd_scan *s);
static void scan_read(struct yk_ssd_scan *s, enum yk_scan_state state, uint64_t at, uint64_t bytes);

static void scan_end(struct yk_ssd_scan *s, int status) {
    s->state = SCAN_IDLE;
    if (status < 0)
        s->status = status;
    s->ended(s);
}

static void read_done(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd_scan *s = op->ctx;
    (void)d;
    if (op->req.status < 0 && (s->state == SCAN_TAIL || s->state == SCAN_FOOT)) {
        s->torn++; /* the batches say the same as a footer that cannot be read */
        scan_read(s, SCAN_HEAD, 0, YK_SSD_SECTOR);
        return;
    }
    if (op->req.status < 0) {
        scan_end(s, op->req.status);
        return;
    }
    s->read_done += op->req.bytes;
    s->bytes_read += op->req.bytes;
    if (s->read_done < s->read_bytes)
        scan_read_next(s);
    else
        scan_step(s);
}

static void scan_read_next(struct yk_ssd_scan *s) {
    uint64_t n = s->read_bytes - s->read_done;
    if (n > YK_FILE_BYTES)
        n = YK_FILE_BYTES;
    s->iov = (struct iovec){s->buf + s->read_done, n};
    s->op.ctx = s;
    s->op.done = read_done;
    yk_ssd_op_start(s->d, &s->op, YK_FILE_READ,
                    yk_ssd_segment_at(s->d->super.segment_bytes, s->seg) + s->read_at +
                        s->read_done,
                    n, &s->iov, 1, YK_SSD_PRIO_BACKGROUND);
}

/* Reads bytes of the segment to the buffer's beginning; scan_step goes on in `state`. */
static void scan_read(struct yk_ssd_scan *s, enum yk_scan_state state, uint64_t at,
                      uint64_t bytes) {
    if (s->cap < bytes) {
        unsigned char *b = realloc(s->buf, bytes);
        if (b == NULL) {
            scan_end(s, -YK_ENOMEM);
            return;
        }
        s->buf = b;
        s->cap = bytes;
    }
    s->state = (uint8_t)state;
    s->read_at = at;
    s->read_bytes = bytes;
    s->read_done = 0;
    scan_read_next(s);
}

/* ---- footer ----------------------------------------------------------------------------------------- */

static void foot_found(struct yk_ssd_scan *s, const unsigned char *foot) {
    struct yk_ssd_recs recs;
    if (yk_ssd_foot_get(foot, &s->foot, &recs) < 0) {
        s->torn++;
        scan_read(s, SCAN_HEAD, 0, YK_SSD_SECTOR);
        return;
    }
    s->from_footer = 1;
    s->seq = s->foot.seq;
    s->clock_ms = s->foot.clock_ms;
    s->gen_max = s->foot.gen_max;
    s->found(s, recs);
    scan_end(s, 0);
}

static void tail_step(struct yk_ssd_scan *s) {
    uint64_t segment = s->d->super.segment_bytes;
    const unsigned char *end = s->buf + s->read_bytes;
    if (yk_ssd_foot_peek(end - YK_SSD_SECTOR, s->d->super.uid, segment, &s->foot) < 0) {
        scan_read(s, SCAN_HEAD, 0, YK_SSD_SECTOR);
        return;
    }
    uint64_t bytes = yk_ssd_foot_bytes(s->foot.recs_bytes);
    if (bytes <= s->read_bytes)
        foot_found(s, end - bytes);
    else
        scan_read(s, SCAN_FOOT, segment - bytes, bytes);
}

/* ---- batches ------------------------------------------------------------------------------------------ */

/* A header that is good: its records, and on to the next batch. */
static void batch_found(struct yk_ssd_scan *s, const struct yk_ssd_head *h,
                        struct yk_ssd_recs recs) {
    uint64_t segment = s->d->super.segment_bytes;
    s->seq = h->seq;
    if (h->clock_ms > s->clock_ms)
        s->clock_ms = h->clock_ms;
    if (h->gen_max > s->gen_max)
        s->gen_max = h->gen_max;
    s->number = (uint64_t)h->number + 1;
    s->at = (uint64_t)h->at_sector * YK_SSD_SECTOR + h->bytes;
    s->found(s, recs);
    if (s->at + YK_SSD_SECTOR <= segment)
        scan_read(s, SCAN_HEAD, s->at, YK_SSD_SECTOR);
    else
        scan_end(s, 0);
}

static void seek_from(struct yk_ssd_scan *s, uint64_t at) {
    uint64_t left = s->d->super.segment_bytes - at;
    if (left < YK_SSD_SECTOR)
        scan_end(s, 0);
    else
        scan_read(s, SCAN_SEEK, at, left < SEEK_BYTES ? left : SEEK_BYTES);
}

static void head_bad(struct yk_ssd_scan *s) {
    if (!yk_ssd_head_damaged(s->buf, s->d->super.uid, s->seq)) {
        scan_end(s, 0);
        return;
    }
    s->torn++;
    memcpy(s->first, s->buf, sizeof(s->first));
    seek_from(s, s->read_at + YK_SSD_SECTOR);
}

static int head_fits(const struct yk_ssd_scan *s, const struct yk_ssd_head *h) {
    return (s->seq == 0 || h->seq == s->seq) && h->number >= s->number &&
           (uint64_t)h->at_sector * YK_SSD_SECTOR >= s->at;
}

static void head_step(struct yk_ssd_scan *s) {
    struct yk_ssd_head h;
    if (yk_ssd_head_peek(s->buf, s->d->super.uid, s->d->super.segment_bytes, &h) < 0 ||
        !head_fits(s, &h) || (uint64_t)h.at_sector * YK_SSD_SECTOR != s->at)
        head_bad(s);
    else
        scan_read(s, SCAN_REST, s->read_at, h.room);
}

static void rest_step(struct yk_ssd_scan *s) {
    struct yk_ssd_head h;
    struct yk_ssd_recs recs;
    if (yk_ssd_head_get(s->buf, s->read_bytes, s->d->super.uid, s->d->super.segment_bytes, &h,
                        &recs) < 0 ||
        !head_fits(s, &h))
        head_bad(s);
    else
        batch_found(s, &h, recs);
}

/* Headers whose end is beyond what was read are looked at again with the next piece. */
static void seek_step(struct yk_ssd_scan *s) {
    uint64_t segment = s->d->super.segment_bytes;
    for (uint64_t i = 0; i + YK_SSD_SECTOR <= s->read_bytes; i += YK_SSD_SECTOR) {
        struct yk_ssd_head h;
        struct yk_ssd_recs recs;
        if (yk_ssd_head_peek(s->buf + i, s->d->super.uid, segment, &h) < 0 || !head_fits(s, &h) ||
            (s->seq == 0 && !yk_ssd_head_seq_is(s->first, h.seq)))
            continue;
        if (h.room > s->read_bytes - i && i > 0) {
            seek_from(s, s->read_at + i);
            return;
        }
        if (yk_ssd_head_get(s->buf + i, s->read_bytes - i, s->d->super.uid, segment, &h, &recs) ==
            0) {
            batch_found(s, &h, recs);
            return;
        }
        s->torn++;
    }
    seek_from(s, s->read_at + s->read_bytes);
}

static void scan_step(struct yk_ssd_scan *s) {
    switch (s->state) {
    case SCAN_TAIL:
        tail_step(s);
        return;
    case SCAN_FOOT:
        foot_found(s, s->buf);
        return;
    case SCAN_HEAD:
        head_step(s);
        return;
    case SCAN_REST:
        rest_step(s);
        return;
    default:
        seek_step(s);
    }
}

void yk_ssd_scan_start(struct yk_ssd_scan *s, struct yk_ssd_dev *d, uint32_t seg) {
    uint64_t segment = d->super.segment_bytes;
    uint64_t tail = segment < YK_SSD_TAIL_READ ? segment : YK_SSD_TAIL_READ;
    s->d = d;
    s->seg = seg;
    s->from_footer = 0;
    s->seq = s->at = s->number = s->clock_ms = s->gen_max = s->bytes_read = 0;
    s->torn = 0;
    s->status = 0;
    scan_read(s, SCAN_TAIL, segment - tail, tail);
}

void yk_ssd_scan_free(struct yk_ssd_scan *s) {
    free(s->buf);
    s->buf = NULL;
    s->cap = 0;
}
