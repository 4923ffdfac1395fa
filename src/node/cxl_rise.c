/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks rise from slow memory when that is worth two moves (docs/decisions/0020).
 *
 * A use of a slow block costs more than one of a block in DRAM; how much follows from what was measured of both. A block
 * that was used so often since it sank is expected to be used as often again before it would sink: if that saves more than
 * a copy down (of DRAM's oldest, for its place) and a copy up cost, it rises. Where DRAM has room there is only the copy up.
 * A copy takes as long as the slower of its ends.
 *
 * So memory that is nearly as quick keeps its blocks, memory three times as slow gives up what was used more than three
 * times, and none gives up what was used once.
 *
 * It is not done where the use is noticed: who uses a block has its place in hand. It waits for a tick.
 *
 * Threads: the owner's.
 */
#include "node/cxl_priv.h"

#define EVICT_MAX 64u /* blocks that sink for one that rises */
#define TICK_MAX  64u /* that rise in one tick, or find no place */

/* Free bytes of DRAM that nobody else has to make way for. */
static int has_room(const struct yk_store *s, uint64_t cap) {
    struct yk_alloc_stats st;
    yk_alloc_stats(s->alloc, &st);
    return st.free_bytes + st.idle_bytes >= s->high_bytes + cap &&
           (s->capacity_blocks == 0 || s->n.blocks < s->capacity_blocks);
}

static int worth_it(const struct yk_store *s, uint32_t idx) {
    const struct yk_cxl_figures *f = &s->cxl->figures;
    uint64_t len = desc_at(s, idx)->len;
    uint64_t near = cxl_use_ns(f->dram_lat_ns, f->dram_bps, len), far = cxl_use_ns(f->slow_lat_ns, f->slow_bps, len);
    uint64_t saved = far > near ? s->cxl->uses[idx] * (far - near) : 0;
    return saved > far && (saved > 2u * far || has_room(s, rest_at(s, idx)->cap));
}

void yk_store_cxl_used(struct yk_store *s, uint32_t idx) {
    struct cxl_side *c = s->cxl;
    COUNT(s, cxl_hits);
    COUNT_ADD(s, cxl_hit_bytes, desc_at(s, idx)->len);
    if (c->uses[idx] < UINT8_MAX)
        c->uses[idx]++;
    if (c->rise_tail - c->rise_head == RISES_MAX || !worth_it(s, idx))
        return;
    c->rises[c->rise_tail++ % RISES_MAX] = (struct rise){idx, rest_at(s, idx)->birth};
}

/* Still the block that was used, and where it was; one on its way to SSD is in no order. */
static int still(const struct yk_store *s, const struct rise *r) {
    return desc_live(desc_at(s, r->idx)) && rest_at(s, r->idx)->birth == r->birth && in_slow(s, r->idx) &&
           !(s->marks[r->idx] & (MARK_LEAVING | MARK_WRITING)) && yk_owner_desc_sane(&s->own, r->idx, 1);
}

/* A place in DRAM, for which others sink. 0 or -YK_ENOSPC. */
static int place_for(struct yk_store *s, uint64_t cap, uint64_t *ret_offset) {
    if (s->capacity_blocks != 0 && s->n.blocks >= s->capacity_blocks &&
        yk_store_evict_one(s, YK_SHM_NONE, RETIRE_CAPACITY) != 0)
        return -YK_ENOSPC;
    int rc = yk_store_alloc_get(s, cap, ret_offset);
    if (rc == 0 || yk_store_evict_bytes(s, cap, EVICT_MAX) == 0)
        return rc;
    yk_store_scan(s);
    return yk_store_alloc_get(s, cap, ret_offset);
}

static void count_risen(struct yk_store *s, uint32_t ns, uint64_t len) {
    bytes_sub(&s->shares[ns].slow_bytes, len);
    COUNT(s, risen);
    COUNT_ADD(s, risen_bytes, len);
    COUNT(s, blocks);
    COUNT_ADD(s, block_bytes, len);
    COUNT_SUB(s, cxl_blocks, 1);
    COUNT_SUB(s, cxl_block_bytes, len);
}

/* 0, or why it stays where it is. */
static int move_up(struct yk_store *s, uint32_t idx, uint64_t offset) {
    uint32_t ns = desc_at(s, idx)->ns;
    struct yk_policy *from = s->cxl->of[ns];
    struct yk_policy_block pb = yk_store_policy_block(s, idx, 0);
    if (from == NULL || yk_store_policy_make(s, ns) < 0) /* a start found none of it in DRAM */
        return -YK_ENOSPC;
    struct yk_policy *to = s->shares[ns].policy;
    if (yk_policy_insert(to, idx, &pb) < 0)
        return -YK_ENOSPC;
    if (yk_store_move(s, idx, offset) < 0) {
        yk_policy_remove(to, idx);
        COUNT(s, moves_refused);
        return -YK_EPINNED;
    }
    yk_policy_remove(from, idx);
    return 0;
}

static void rise(struct yk_store *s, const struct rise *r) {
    uint64_t offset, cap = rest_at(s, r->idx)->cap, len = desc_at(s, r->idx)->len;
    if (place_for(s, cap, &offset) < 0) {
        COUNT(s, rise_refused);
        return;
    }
    s->cxl->turn_bytes += len;
    /* What sank for it may have pushed it out. */
    if (!still(s, r) || move_up(s, r->idx, offset) < 0) {
        yk_store_place_put(s, offset, cap);
        COUNT(s, rise_refused);
        return;
    }
    s->cxl->uses[r->idx] = 0;
    count_risen(s, desc_at(s, r->idx)->ns, len);
    if (yk_store_tells(s))
        yk_store_tell(s, r->idx);
}

int cxl_rise_step(struct yk_store *s) {
    struct cxl_side *c = s->cxl;
    for (uint32_t n = 0; c->rise_head != c->rise_tail; c->rise_head++) {
        struct rise r = c->rises[c->rise_head % RISES_MAX];
        if (!still(s, &r) || !worth_it(s, r.idx))
            continue;
        if (n++ == TICK_MAX || !cxl_may_copy(s, desc_at(s, r.idx)->len))
            return 1;
        rise(s, &r);
    }
    return 0;
}
