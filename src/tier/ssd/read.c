/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads of payload: straight into the caller's memory, in requests of 4 MiB at most.
 *
 * A read holds its segment, which is not used again before it ends, whatever becomes of the entry.
 * A small payload may begin inside a sector: what stands before it goes into a scrap of the read's own.
 *
 * Threads: the owner's.
 */
#include "tier/ssd/ssd_priv.h"

#include <stdlib.h>

#include <yolk/status.h>

int yk_ssd_reads_init(struct yk_ssd *ssd) {
    ssd->rops = calloc(YK_SSD_READS_MAX, sizeof(*ssd->rops));
    ssd->subs = calloc(YK_SSD_SUBREADS, sizeof(*ssd->subs));
    if (ssd->rops == NULL || ssd->subs == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < YK_SSD_READS_MAX; i++)
        ssd->rops[i].next = i + 1 < YK_SSD_READS_MAX ? i + 1 : YK_SSD_NONE;
    for (uint32_t i = 0; i < YK_SSD_SUBREADS; i++)
        ssd->subs[i].next = i + 1 < YK_SSD_SUBREADS ? i + 1 : YK_SSD_NONE;
    ssd->subs_free = YK_SSD_SUBREADS;
    return 0;
}

/* The entry whose payload cannot be read, if it is still the one that the read was of. */
static void entry_unreadable(struct yk_ssd *ssd, const struct yk_ssd_rop *r) {
    const struct yk_ssd_entry *e = &ssd->table.e[r->id];
    if ((e->flags & (YK_SSD_E_USED | YK_SSD_E_DEAD)) != YK_SSD_E_USED ||
        yk_ssd_entry_place(e) != r->place)
        return;
    yk_ssd_tomb(ssd, r->id, 0);
    yk_ssd_entry_drop(ssd, r->id);
}

static void read_end(struct yk_ssd *ssd, struct yk_ssd_rop *r) {
    uint64_t cookie = r->cookie;
    int status = r->status;
    ssd->segs[(uint32_t)(r->place >> 24)].refs--;
    if (status < 0) {
        YK_SSD_ADD(ssd->c.read_fails, 1);
        status = status == -YK_EGONE ? -YK_EGONE : -YK_EIO;
        entry_unreadable(ssd, r);
    }
    r->next = ssd->rop_free;
    ssd->rop_free = (uint32_t)(r - ssd->rops);
    YK_SSD_ADD(ssd->c.reads_now, (uint64_t)-1);
    if (ssd->o.on_read != NULL)
        ssd->o.on_read(ssd->o.arg, cookie, status);
}

static void sub_done(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_subread *s = op->ctx;
    struct yk_ssd_rop *r = &ssd->rops[s->rop];
    if (op->req.status < 0)
        r->status = op->req.status;
    s->next = ssd->sub_free;
    ssd->sub_free = (uint32_t)(s - ssd->subs);
    ssd->subs_free++;
    if (--r->pending == 0)
        read_end(ssd, r);
}

static void sub_start(struct yk_ssd *ssd, struct yk_ssd_dev *d, struct yk_ssd_rop *r, uint64_t at,
                      uint64_t skip, unsigned char *to, uint64_t bytes, unsigned prio) {
    struct yk_ssd_subread *s = &ssd->subs[ssd->sub_free];
    uint32_t n = 0;
    ssd->sub_free = s->next;
    ssd->subs_free--;
    s->rop = (uint32_t)(r - ssd->rops);
    if (skip > 0)
        s->iov[n++] = (struct iovec){r->skip, skip};
    s->iov[n++] = (struct iovec){to, bytes};
    s->op.ctx = s;
    s->op.done = sub_done;
    r->pending++;
    yk_ssd_op_start(d, &s->op, YK_FILE_READ, at, skip + bytes, s->iov, n, prio);
}

int yk_ssd_read(struct yk_ssd *ssd, uint32_t id, void *to, unsigned prio, uint64_t cookie) {
    const struct yk_ssd_entry *e = &ssd->table.e[id];
    struct yk_ssd_dev *d = yk_dev_of(ssd, id);
    uint64_t len = e->len;
    if (d->state == YK_SSD_DEV_GONE)
        return -YK_EGONE;
    if (!(e->flags & YK_SSD_E_WRITTEN) || ssd->rop_free == YK_SSD_NONE ||
        ssd->subs_free < len / YK_FILE_BYTES + 2u)
        return -YK_EAGAIN;
    struct yk_ssd_rop *r = &ssd->rops[ssd->rop_free];
    ssd->rop_free = r->next;
    r->cookie = cookie;
    r->id = id;
    r->place = yk_ssd_entry_place(e);
    r->status = 0;
    r->pending = 0;
    ssd->segs[yk_ssd_entry_segment(e)].refs++;
    YK_SSD_ADD(ssd->c.reads, 1);
    YK_SSD_ADD(ssd->c.read_bytes, len);
    YK_SSD_ADD(ssd->c.reads_now, 1);
    uint64_t at = yk_seg_at(d, yk_ssd_entry_segment(e)) + yk_ssd_entry_unit(e) * YK_SSD_UNIT;
    uint64_t skip = at % YK_SSD_SECTOR;
    unsigned char *p = to;
    at -= skip;
    do { /* of an empty block, too: it ends like any other */
        uint64_t n = YK_FILE_BYTES - skip < len ? YK_FILE_BYTES - skip : len;
        sub_start(ssd, d, r, at, skip, n > 0 ? p : r->skip, n > 0 ? n : 1, prio);
        at += skip + n;
        p += n;
        len -= n;
        skip = 0;
    } while (len > 0);
    return 0;
}
