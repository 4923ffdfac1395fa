/* SPDX-License-Identifier: Apache-2.0
 *
 * Which segments are free, which are valid (by sequence), and what of each is alive.
 *
 * Free ones are taken in the order in which they became free, so that a device wears evenly. The chains
 * by sequence answer one question: may this tombstone go (clean.c)?
 */
#include "tier/ssd/ssd_priv.h"

void yk_seg_free_push(struct yk_ssd_dev *d, uint32_t i) {
    d->freeq[(d->free_head + d->free_count) % d->nseg] = i;
    d->free_count++;
    d->segs[i].state = SEG_FREE;
}

uint32_t yk_seg_free_pop(struct yk_ssd_dev *d) {
    if (d->free_count == 0)
        return YK_SSD_NONE;
    uint32_t i = d->freeq[d->free_head];
    d->free_head = (d->free_head + 1) % d->nseg;
    d->free_count--;
    return i;
}

static uint32_t *head_of(const struct yk_ssd_dev *d, uint64_t seq) {
    return &d->seq_heads[(seq * 0x9e3779b97f4a7c15ull >> 32) % d->nseg];
}

void yk_seg_valid_add(struct yk_ssd_dev *d, uint32_t i) {
    uint32_t *head = head_of(d, d->segs[i].seq);
    d->segs[i].seq_next = *head;
    *head = i + 1;
}

void yk_seg_valid_remove(struct yk_ssd_dev *d, uint32_t i) {
    uint32_t *link = head_of(d, d->segs[i].seq);
    while (*link != 0 && *link != i + 1)
        link = &d->segs[*link - 1].seq_next;
    if (*link != 0)
        *link = d->segs[i].seq_next;
}

int yk_seg_valid(const struct yk_ssd_dev *d, uint64_t seq) {
    for (uint32_t i = *head_of(d, seq); i != 0; i = d->segs[i - 1].seq_next)
        if (d->segs[i - 1].seq == seq)
            return 1;
    return 0;
}

void yk_seg_count(struct yk_ssd *ssd, uint32_t id, int sign) {
    const struct yk_ssd_entry *e = &ssd->table.e[id];
    struct yk_ssd_seg *seg = yk_seg_of(ssd, id);
    struct yk_ssd_dev *d = ssd->devs[seg->dev];
    uint64_t bytes = yk_ssd_takes(e->len) * (uint64_t)(int64_t)sign;
    seg->live_bytes += bytes;
    if (e->flags & YK_SSD_E_HOT)
        seg->hot_bytes += bytes;
    seg->live += (uint32_t)sign;
    d->live += (uint32_t)sign;
    d->live_bytes += bytes;
    YK_SSD_ADD(ssd->c.block_bytes, (uint64_t)e->len * (uint64_t)(int64_t)sign);
    YK_SSD_ADD(ssd->c.blocks, (uint64_t)(int64_t)sign);
}
