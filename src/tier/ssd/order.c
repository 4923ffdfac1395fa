/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of use over a stop: hashes of the blocks that were used last, as records of the log.
 *
 * The log itself only says when a block was written. What a node used most may have been written long
 * ago, and is what it should bring up first when it starts again. So an orderly stop writes a list, the
 * most valuable first, in parts; recovery takes the latest list and makes its blocks the youngest. It is
 * a hint: blocks that went meanwhile, parts that are missing, or a list that the cleaner let go cost
 * nothing but a worse order.
 *
 * Threads: the owner's, at open and close.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/clock.h"
#include "wire/codec.h"

#include <stdlib.h>

#include <yolk/status.h>

#define PART (YK_SSD_ORDER_PART)

/* ---- writing ------------------------------------------------------------------------------------------- */

/* One part, when there is room for it; 0, or why not. */
static int part_write(struct yk_ssd_dev *d, const struct yk_ssd_rec *rec, uint64_t end_ns) {
    struct yk_ssd_batch *b;
    int rc;
    while ((rc = yk_ssd_batch_for(d, 0, yk_ssd_rec_put(NULL, rec), ROOM_MOVE, &b)) == -YK_EAGAIN) {
        if (d->free_count <= 1 || yk_now_ns() >= end_ns || d->state != YK_SSD_DEV_OK)
            return rc;
        yk_ssd_turn(d->ssd);
    }
    if (rc == 0)
        yk_ssd_batch_record(b, rec, 0);
    return rc;
}

void yk_ssd_order_write(struct yk_ssd *ssd, uint64_t end_ns) {
    unsigned char hashes[PART * 8u];
    struct yk_ssd_dev *d = NULL;
    struct yk_ssd_rec rec = {.type = YK_SSD_REC_ORDER, .key = hashes};
    for (uint32_t i = 0; i < ssd->ndev && d == NULL; i++)
        d = ssd->devs[i]->state == YK_SSD_DEV_OK ? ssd->devs[i] : NULL;
    if (d == NULL)
        return;
    rec.gen = rec.ns_uid = yk_ssd_gen_next(ssd, 0);
    uint32_t id = ssd->table.youngest;
    for (uint64_t at = 0; at < YK_SSD_ORDER_MAX && id != YK_SSD_NONE;) {
        struct yk_wr w;
        rec.origin = at;
        yk_wr_init(&w, hashes, sizeof(hashes));
        for (uint32_t n = 0; n < PART && id != YK_SSD_NONE; n++, at++) {
            yk_wr_u64(&w, yk_ssd_table_hash(&ssd->table, id));
            id = ssd->table.e[id].next;
        }
        rec.key_len = (uint8_t)((at - rec.origin) * 8u);
        if (part_write(d, &rec, end_ns) < 0)
            return;
    }
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

int yk_ssd_order_found(struct yk_ssd_order *o, const struct yk_ssd_rec *rec) {
    struct yk_rd rd;
    if (rec->ns_uid < o->list || rec->origin >= YK_SSD_ORDER_MAX)
        return 0;
    if (rec->ns_uid > o->list)
        o->count = 0;
    o->list = rec->ns_uid;
    if (o->count + PART > o->cap) {
        uint64_t cap = o->cap * 2u + 16u * PART;
        struct yk_ssd_hint *h = realloc(o->hints, cap * sizeof(*h));
        if (h == NULL)
            return -YK_ENOMEM;
        o->hints = h;
        o->cap = cap;
    }
    yk_rd_init(&rd, rec->key, rec->key_len);
    for (uint32_t n = rec->key_len / 8u, i = 0; i < n && i < PART; i++)
        o->hints[o->count++] = (struct yk_ssd_hint){rec->origin + i, yk_rd_u64(&rd)};
    return 0;
}

static int least_first(const void *a, const void *b) {
    const struct yk_ssd_hint *x = a, *y = b;
    return x->at > y->at ? -1 : x->at < y->at;
}

void yk_ssd_order_apply(struct yk_ssd *ssd, struct yk_ssd_order *o) {
    if (o->count > 0)
        qsort(o->hints, o->count, sizeof(*o->hints), least_first);
    for (uint64_t i = 0; i < o->count; i++) {
        uint32_t id;
        if (yk_ssd_table_by_hash(&ssd->table, o->hints[i].hash, &id))
            yk_ssd_table_touch(&ssd->table, id);
    }
    free(o->hints);
    *o = (struct yk_ssd_order){0};
}
