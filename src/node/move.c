/* SPDX-License-Identifier: Apache-2.0
 *
 * Compaction: blocks move so that free space comes together (src/tier/alloc.h plans it).
 *
 * A move keeps the descriptor, so that index, policy and children are not touched. The payload is
 * copied while the block is readable; then the word goes to MOVING, the hazards are looked at
 * behind a full fence, and either the new place is published or, if somebody holds the old one,
 * the word is restored (docs/decisions/0002). Readers see MOVING for well under a microsecond and
 * look again.
 *
 * The same move takes a block from one range of the payload to the other (cxl_sink.c, cxl_rise.c). The compactor
 * looks after DRAM alone.
 *
 * The planner speaks of offsets; which descriptor lives at one is told by a hash table that is made
 * for a session and checked at use, so that resident blocks pay nothing for it.
 */
#include "node/store_priv.h"

#include "base/clock.h"
#include "base/copyhash.h"

#include <stdlib.h>

#define MAP_FRESH_MS 2000u         /* a table younger than this is used again */
#define IDLE_MOVES   64u           /* of one call in the background, which max_bytes bounds too */
#define CALL_BYTES   (64ull << 20) /* copied in one call at most: some 10 ms of the owner's time */

static uint32_t map_slot(const struct yk_store *s, uint64_t offset) {
    return (uint32_t)((offset / 64u * 0x9e3779b97f4a7c15ull) >> 32) & s->move_map_mask;
}

/* Places live blocks of DRAM by offset. -YK_ENOMEM leaves no table. */
static int map_build(struct yk_store *s) {
    uint64_t now = yk_boot_ms();
    if (s->move_map != NULL && now - s->move_map_ms < MAP_FRESH_MS)
        return 0;
    uint32_t size = 1024;
    while (size < s->n.blocks * 2u && size < 1u << 30)
        size *= 2;
    free(s->move_map);
    s->move_map = calloc(size, sizeof(uint32_t));
    if (s->move_map == NULL)
        return -YK_ENOMEM;
    s->move_map_mask = size - 1u;
    s->move_map_ms = now;
    uint32_t top = yk_store_desc_top(s);
    for (uint32_t idx = 0; idx < top; idx++) {
        const struct yk_desc *d = desc_at(s, idx);
        const struct yk_rest *rest = rest_at(s, idx);
        if (!desc_live(d) || in_slow(s, idx)) /* the planner knows of none there */
            continue;
        uint32_t at = map_slot(s, rest->offset);
        for (uint32_t probes = 0; s->move_map[at] != 0 && probes < size; probes++)
            at = (at + 1u) & s->move_map_mask;
        s->move_map[at] = idx + 1u;
    }
    return 0;
}

static uint32_t map_find(const struct yk_store *s, uint64_t offset) {
    uint32_t at = map_slot(s, offset);
    for (uint32_t probes = 0; s->move_map[at] != 0 && probes <= s->move_map_mask; probes++) {
        uint32_t idx = s->move_map[at] - 1u;
        if (desc_live(desc_at(s, idx)) && rest_at(s, idx)->offset == offset)
            return idx;
        at = (at + 1u) & s->move_map_mask;
    }
    return YK_SHM_NONE;
}

/* 0 moved; -YK_EPINNED somebody holds it. */
static int move_block(struct yk_store *s, uint32_t idx, uint64_t to) {
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    uint64_t word = d->word;
    unsigned char *data = s->seg.data;
    yk_copy(data + to, data + rest->offset, d->len);
    desc_publish(d, YK_WORD(yk_owner_gen(&s->own), YK_DESC_MOVING));
    if (yk_owner_is_named(&s->own, s->slots, s->slot_count, idx)) {
        desc_publish(d, word); /* the same block at the same place: nothing happened */
        return -YK_EPINNED;
    }
    STORE(&rest->offset, to);
    STORE(&rest->place_sum, yk_desc_place_sum(rest, idx));
    desc_publish(d, YK_WORD(yk_owner_gen(&s->own), YK_WORD_STATE(word)));
    return 0;
}

int yk_store_move(struct yk_store *s, uint32_t idx, uint64_t to) {
    struct yk_rest *rest = rest_at(s, idx);
    uint64_t from = rest->offset;
    if (move_block(s, idx, to) < 0)
        return -YK_EPINNED;
    yk_store_place_put(s, from, rest->cap);
    return 0;
}

static int try_move(struct yk_store *s, const struct yk_alloc_move *m) {
    uint32_t idx = map_find(s, m->from_offset);
    if (idx == YK_SHM_NONE || !yk_owner_desc_sane(&s->own, idx, 1) ||
        yk_store_back(s, m->to_offset, desc_at(s, idx)->len) < 0 ||
        move_block(s, idx, m->to_offset) < 0) {
        COUNT(s, moves_refused);
        yk_alloc_compact_skip(s->alloc, m);
        return 0;
    }
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    yk_alloc_compact_commit(s->alloc, m, rest->cap);
    yk_alloc_put(s->alloc, m->from_offset, rest->cap);
    uint32_t at = map_slot(s, m->to_offset); /* it may have to move again */
    for (uint32_t probes = 0; s->move_map[at] != 0 && probes <= s->move_map_mask; probes++)
        at = (at + 1u) & s->move_map_mask;
    if (s->move_map[at] == 0)
        s->move_map[at] = idx + 1u;
    COUNT(s, moves);
    COUNT_ADD(s, moved_bytes, d->len);
    if (yk_store_tells(s))
        yk_store_tell(s, idx);
    return 1;
}

static uint32_t compact(struct yk_store *s, uint64_t want_bytes, uint32_t max_moves,
                        uint64_t max_bytes) {
    uint32_t moved = 0;
    struct yk_alloc_move m;
    yk_store_scan(s); /* what is in limbo still stands in the way */
    if (map_build(s) < 0 || yk_alloc_compact_begin(s->alloc, want_bytes) < 0)
        return 0;
    uint64_t stop_bytes = s->n.moved_bytes + max_bytes;
    for (uint32_t steps = 0;
         steps < 4u * max_moves && moved < max_moves && s->n.moved_bytes < stop_bytes; steps++) {
        int rc = yk_alloc_compact_next(s->alloc, &m);
        if (rc == -YK_EAGAIN)
            continue;
        if (rc != 1)
            break;
        moved += (uint32_t)try_move(s, &m);
    }
    return moved;
}

uint32_t yk_store_compact(struct yk_store *s, uint64_t want_bytes, uint32_t max_moves) {
    return compact(s, want_bytes, max_moves, CALL_BYTES);
}

/* Counts what can make or fill a gap. */
static uint64_t changes(const struct yk_store *s) {
    const struct yk_counters *n = &s->n;
    return n->commits + n->removed + n->evict_capacity + n->evict_space + n->evict_quota +
           n->evict_expired + n->evict_epoch + n->evict_replaced + n->corrupt + n->aborts + n->sunk + n->risen + 1;
}

uint32_t yk_store_compact_idle(struct yk_store *s, uint32_t percent, uint64_t max_bytes) {
    struct yk_alloc_stats st;
    uint64_t now = changes(s);
    yk_alloc_stats(s->alloc, &st);
    uint64_t loose = st.idle_bytes + st.free_bytes - st.largest_free_bytes;
    if (percent == 0 || s->settled == now || loose < st.capacity_bytes / 100u * percent)
        return 0;
    uint32_t moved = compact(s, 0, IDLE_MOVES, max_bytes);
    COUNT_ADD(s, background_moves, moved);
    if (moved == 0)
        s->settled = now;
    return moved;
}
