/* SPDX-License-Identifier: Apache-2.0
 *
 * Which segments are free, which are valid (by sequence), and what of each is alive.
 *
 * Free ones are taken in the order in which they became free, so that a device wears evenly. The chains
 * by sequence answer one question: may this tombstone go (clean.c)?
 *
 * A segment in which a write failed is set aside: for a minute the first time, each time twice as long, or
 * until there is no other. One that could not be made free, for a second: no tombstone goes while it is
 * there. A device with an error now and then so loses nothing but what it was writing. One
 * most of whose segments fail again and again has no log any more: when nothing is left that did not fail
 * FAILS_MAX times, it is read-only, which says so, instead of letting everybody wait.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/clock.h"

#define BAD_S      60u
#define STUCK_S    1u
#define RETRY_MOST 6u /* doublings: an hour, a minute */
#define LOOK_MS    1000u
#define FAILS_MAX  8u /* of one that is tried again since there is no other */

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
    struct yk_ssd_held *held = &ssd->ns_held[e->ns][e->flags & YK_SSD_E_TAG];
    held->bytes += (uint64_t)e->len * (uint64_t)(int64_t)sign;
    held->count += (uint64_t)(int64_t)sign;
    seg->live_bytes += bytes;
    if (e->flags & YK_SSD_E_HOT)
        seg->hot_bytes += bytes;
    seg->live += (uint32_t)sign;
    d->live += (uint32_t)sign;
    d->live_bytes += bytes;
    YK_SSD_ADD(ssd->c.block_bytes, (uint64_t)e->len * (uint64_t)(int64_t)sign);
    YK_SSD_ADD(ssd->c.blocks, (uint64_t)(int64_t)sign);
}

/* ---- those that failed ---------------------------------------------------------------------------------- */

static uint32_t now_s(void) {
    return (uint32_t)(yk_now_ns() / YK_NS_PER_S);
}

void yk_seg_failed(struct yk_ssd_seg *seg) {
    seg->fails += seg->fails < UINT8_MAX;
    seg->failed_s = now_s();
}

static int is_due(const struct yk_ssd_seg *seg, uint32_t now) {
    uint32_t doublings = seg->fails == 0 ? 0 : seg->fails - 1u;
    return now - seg->failed_s >= (seg->state == SEG_BAD ? BAD_S : STUCK_S)
                                      << (doublings < RETRY_MOST ? doublings : RETRY_MOST);
}

/* wanted: there is no other. Returns how many may be used, or made free, now. */
static uint32_t retry_some(struct yk_ssd_dev *d, int wanted) {
    uint32_t n = 0, now = now_s();
    for (uint32_t i = 0; i < d->nseg; i++) {
        struct yk_ssd_seg *seg = &d->segs[i];
        int bad = seg->state == SEG_BAD, stuck = seg->state == SEG_SEALED && seg->stuck;
        if ((!bad && !stuck) || !(is_due(seg, now) || (wanted && seg->fails < FAILS_MAX)))
            continue;
        n++;
        seg->stuck = 0;
        if (bad) {
            seg->bad = 0;
            yk_seg_free_push(d, i);
        }
    }
    return n;
}

/* Puts have no segment, none is becoming free, and the cleaner has nothing to begin with. */
static int is_starved(const struct yk_ssd_dev *d) {
    if (d->free_count > d->reserve || d->clean.state != CLEAN_IDLE)
        return 0;
    for (uint32_t i = 0; i < YK_SSD_OPENS; i++)
        if (d->opens[i].used && d->opens[i].sealing)
            return 0;
    return (d->free_count == 0 && d->open == NULL ? yk_ssd_oldest(d) : yk_ssd_victim(d)) ==
           YK_SSD_NONE;
}

void yk_seg_retry(struct yk_ssd_dev *d) {
    uint64_t now_ms = yk_now_ns() / YK_NS_PER_MS;
    if (d->state != YK_SSD_DEV_OK || d->ssd->closing)
        return;
    if (is_starved(d)) {
        if (retry_some(d, 1) == 0)
            yk_ssd_dev_read_only(d, "too many of its segments failed; replace it");
    } else if (now_ms >= d->segs_at_ms) {
        d->segs_at_ms = now_ms + LOOK_MS;
        retry_some(d, 0);
    }
}
