/* SPDX-License-Identifier: Apache-2.0
 *
 * The allocator's compaction planner: which slots to move where. It moves nothing itself.
 *
 * Drain: in a class whose other extents have room for it, the emptiest extent is closed and its
 * slots are proposed one by one; its pages return when the last slot is put.
 *
 * Join: runs and whole extents that border on a hole are moved so that holes become fewer and
 * longer. The measure is the sum of the squares of hole lengths, in pages. Moving x pages from
 * between holes of a and b pages (either may be 0) into another hole of z pages changes half of
 * it by a*b + x*(a + b + x - z); into one of its own neighbours, if x fits, by a*b. Of the moves
 * within a window of the map the one with the most gain for the bytes it copies is proposed; only
 * moves that gain, so the phase ends. A block can only go where it fits without overlap: readers
 * use the old copy until the new one is published. Rejected: sliding everything towards one end
 * (copies the whole tier, and stops at the first block larger than the hole before it).
 *
 * A source with a pinned block is left alone for the rest of the session.
 *
 * Thread: owner of the struct yk_alloc.
 */
#include "tier/alloc_priv.h"

/* Extents and runs looked at in one call, about 20 to 50 us. */
#define WINDOW     1024u
#define DRAIN_LOOK 8u /* extents of a bucket compared when a source is chosen */

struct join {
    double score;
    uint32_t src;  /* first page of what moves */
    uint32_t hole; /* first page of the hole it goes to */
    uint32_t dst;
};

static void compact_end(struct yk_alloc *a) {
    if (a->compact.src != YK_NONE)
        yk_ext_undrain(a, a->compact.src);
    a->compact.phase = COMPACT_IDLE;
}

int yk_alloc_compact_begin(struct yk_alloc *a, uint64_t want_bytes) {
    if (a->recovering)
        return -YK_EBUSY;
    if (want_bytes > a->capacity_bytes)
        return -YK_ETOOBIG;
    compact_end(a);
    yk_run_flush(a);
    yk_class_release_empty(a);
    while (a->stuck != YK_NONE)
        yk_run_unstick(a, a->stuck);
    a->compact.session++;
    a->compact.want_pages = yk_pages_for(a, want_bytes);
    a->compact.cls = 0;
    a->compact.phase = COMPACT_DRAIN;
    return 0;
}

/* Whether there is a point in going on: the wanted run is not there yet, and could be. */
static bool worthwhile(const struct yk_alloc *a) {
    uint32_t want = a->compact.want_pages;
    if (want == 0)
        return true;
    uint64_t idle = 0;
    if (a->compact.phase == COMPACT_DRAIN)
        idle = ((a->ext_units - a->ext_used_units) << UNIT_SHIFT) >> a->page_shift;
    return a->free_pages + idle >= want && yk_pages_fit(a, want) == YK_NONE;
}

/* The next used slot of the source and a place for it. False: no more of this source. */
static bool propose_slot(struct yk_alloc *a, struct yk_alloc_move *ret) {
    uint32_t x = a->compact.src;
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    while (a->compact.slot < e->slots && yk_slot_is_free(e, a->compact.slot))
        a->compact.slot++;
    if (a->compact.slot == e->slots) {
        a->compact.src = YK_NONE; /* drains as its slots are put */
        return false;
    }
    if (!c->mask) { /* gets took the room meanwhile */
        e->stuck_session = a->compact.session;
        yk_ext_undrain(a, x);
        return false;
    }
    ret->from_offset = yk_slot_offset(a, e, a->compact.slot++);
    ret->len = (uint64_t)c->units << UNIT_SHIFT;
    return yk_slot_get(a, c, &ret->to_offset) == 0;
}

static void source_open(struct yk_alloc *a, uint32_t x) {
    yk_ext_drain(a, x);
    a->compact.src = x;
    a->compact.slot = 0;
}

static uint32_t emptiest(const struct yk_alloc *a, const struct yk_class *c) {
    uint32_t best = YK_NONE;
    for (uint32_t b = 0; b < BUCKETS && best == YK_NONE; b++) {
        uint32_t x = c->heads[b];
        for (uint32_t n = 0; x != YK_NONE && n < DRAIN_LOOK; x = a->ext[x].next, n++) {
            const struct yk_ext *e = &a->ext[x];
            if (e->used > 0 && e->stuck_session != a->compact.session &&
                (best == YK_NONE || e->used < a->ext[best].used))
                best = x;
        }
    }
    return best;
}

/* Opens the next extent that fits into the others of its class; false: there is none. */
static bool drain_next(struct yk_alloc *a) {
    for (; a->compact.cls < a->cls_top; a->compact.cls++) {
        const struct yk_class *c = &a->cls[a->compact.cls];
        uint32_t x = c->extents > 1 ? emptiest(a, c) : YK_NONE;
        if (x == YK_NONE)
            continue;
        const struct yk_ext *e = &a->ext[x];
        if (c->slots - c->used - (e->slots - e->used) < e->used)
            continue;
        source_open(a, x);
        return true;
    }
    return false;
}

/* Pages of what begins at a first page. */
static uint32_t length_at(const struct yk_alloc *a, uint32_t page) {
    uint32_t word = a->map[page];
    if ((word & TAG_MASK) == TAG_EXT)
        return a->ext[word & ~TAG_MASK].npages;
    return (word & TAG_MASK) == TAG_RUN ? word & RUN_LEN_MASK : word & ~TAG_MASK;
}

static uint32_t hole_at(const struct yk_alloc *a, uint32_t page) {
    return page < a->pages && (a->map[page] & TAG_MASK) == TAG_FREE ? a->map[page] & ~TAG_MASK : 0;
}

/* Pages to copy if this moves; 0: it must not. */
static uint64_t cost_at(const struct yk_alloc *a, uint32_t page) {
    uint32_t word = a->map[page];
    if ((word & TAG_MASK) == TAG_RUN)
        return word & (RUN_MOVING | RUN_STUCK) ? 0 : word & RUN_LEN_MASK;
    const struct yk_ext *e = &a->ext[word & ~TAG_MASK];
    const struct yk_class *c = &a->cls[e->cls];
    if (e->draining || e->used == 0 || e->stuck_session == a->compact.session ||
        c->empty != YK_NONE)
        return 0;
    return (((uint64_t)e->used * c->units << UNIT_SHIFT) >> a->page_shift) + 1;
}

static void consider(struct join *best, double gain, uint64_t cost, struct join move) {
    move.score = gain / (double)cost;
    if (move.score > best->score)
        *best = move;
}

/* Compares what moving [page, page + x) could gain with the best so far. */
static void join_consider(const struct yk_alloc *a, uint32_t page, uint32_t x, struct join *best) {
    int64_t left = page > 0 ? hole_at(a, page - 1) : 0, right = hole_at(a, page + x);
    uint64_t cost = left + right > 0 ? cost_at(a, page) : 0;
    if (cost == 0)
        return;
    uint32_t lhole = left ? page - (uint32_t)left : YK_NONE, rhole = right ? page + x : YK_NONE;
    if (left >= x)
        consider(best, (double)(left * right), cost, (struct join){0, page, lhole, lhole});
    else if (right >= x)
        consider(best, (double)(left * right), cost,
                 (struct join){0, page, rhole, page + (uint32_t)right});
    uint32_t z = yk_pages_fit_except(a, x, lhole, rhole);
    if (z == YK_NONE)
        return;
    int64_t gain = left * right + (int64_t)x * (left + right + x - (int64_t)length_at(a, z));
    consider(best, (double)gain, cost, (struct join){0, page, z, z});
}

/* True: a run's move is in *ret. False: an extent was opened as the source. */
static bool join_start(struct yk_alloc *a, const struct join *j, struct yk_alloc_move *ret) {
    uint32_t n = length_at(a, j->src), word = a->map[j->src];
    yk_pages_carve(a, j->hole, j->dst, n);
    if ((word & TAG_MASK) == TAG_EXT) {
        const struct yk_ext *e = &a->ext[word & ~TAG_MASK];
        yk_ext_new(a, e->cls, j->dst, n, e->slots);
        source_open(a, word & ~TAG_MASK);
        return false;
    }
    yk_run_mark(a, j->dst, n);
    a->map[j->dst] |= RUN_MOVING;
    a->map[j->src] |= RUN_MOVING;
    *ret = (struct yk_alloc_move){.from_offset = (uint64_t)j->src << a->page_shift,
                                  .to_offset = (uint64_t)j->dst << a->page_shift,
                                  .len = (uint64_t)n << a->page_shift};
    return true;
}

/* Looks through one window. 1: *ret is a move; 0: a round found nothing; -YK_EAGAIN: not yet
 * round, or an extent is the source now. */
static int join_next(struct yk_alloc *a, struct yk_alloc_move *ret) {
    struct yk_compact *c = &a->compact;
    struct join best = {0, YK_NONE, YK_NONE, YK_NONE};
    uint32_t page = c->cursor;
    for (uint32_t n = 0; n < WINDOW && c->idle_pages < a->pages; n++) {
        uint32_t len = length_at(a, page);
        if ((a->map[page] & TAG_MASK) != TAG_FREE)
            join_consider(a, page, len, &best);
        c->idle_pages += len;
        page = page + len < a->pages ? page + len : 0;
    }
    if (best.src != YK_NONE) {
        c->idle_pages = 0;
        return join_start(a, &best, ret) ? 1 : -YK_EAGAIN;
    }
    c->cursor = page;
    return c->idle_pages < a->pages ? -YK_EAGAIN : 0;
}

int yk_alloc_compact_next(struct yk_alloc *a, struct yk_alloc_move *ret_move) {
    if (a->recovering)
        return -YK_EBUSY;
    while (a->compact.phase != COMPACT_IDLE && worthwhile(a)) {
        if (a->compact.src != YK_NONE) {
            if (propose_slot(a, ret_move))
                return 1;
        } else if (a->compact.phase == COMPACT_DRAIN) {
            if (!drain_next(a)) {
                a->compact.phase = COMPACT_JOIN;
                a->compact.cursor = a->compact.idle_pages = 0;
            }
        } else {
            int rc = join_next(a, ret_move);
            if (rc > 0 || (rc < 0 && a->compact.src == YK_NONE))
                return rc;
            if (rc == 0)
                break;
        }
    }
    compact_end(a);
    return 0;
}

int yk_alloc_compact_commit(struct yk_alloc *a, const struct yk_alloc_move *move,
                            uint64_t payload_len) {
    uint32_t x, slot;
    if (payload_len == 0 || payload_len > move->len)
        return -YK_EINVAL;
    if (yk_slot_find(a, move->to_offset, &x, &slot)) {
        if (yk_slot_is_free(&a->ext[x], slot) || !yk_slot_takes(a, &a->ext[x], payload_len))
            return -YK_EINVAL;
    } else if (yk_run_takes(a, move->to_offset, payload_len)) {
        a->map[move->to_offset >> a->page_shift] &= ~RUN_MOVING;
    } else {
        return -YK_EINVAL;
    }
    a->payload_bytes += payload_len;
    return 0;
}

/* The source stays; it is not proposed again in this session. It may be gone by now. */
static void source_stick(struct yk_alloc *a, uint64_t offset) {
    uint32_t x, slot;
    uint64_t page = offset >> a->page_shift;
    if (yk_slot_find(a, offset, &x, &slot)) {
        if (a->ext[x].draining)
            yk_ext_undrain(a, x);
        a->ext[x].stuck_session = a->compact.session;
    } else if (page < a->pages &&
               (a->map[page] & (TAG_MASK | RUN_MOVING | RUN_STUCK)) == (TAG_RUN | RUN_MOVING)) {
        a->map[page] = (a->map[page] & ~RUN_MOVING) | RUN_STUCK;
        a->links[page] = (struct yk_link){.prev = YK_NONE, .next = a->stuck};
        if (a->stuck != YK_NONE)
            a->links[a->stuck].prev = (uint32_t)page;
        a->stuck = (uint32_t)page;
    }
}

int yk_alloc_compact_skip(struct yk_alloc *a, const struct yk_alloc_move *move) {
    uint32_t x, slot;
    if (yk_slot_find(a, move->to_offset, &x, &slot)) {
        if (yk_slot_is_free(&a->ext[x], slot))
            return -YK_EINVAL;
        yk_slot_put(a, x, slot);
    } else if (yk_run_takes(a, move->to_offset, move->len) &&
               a->map[move->to_offset >> a->page_shift] & RUN_MOVING) {
        yk_run_free(a, (uint32_t)(move->to_offset >> a->page_shift));
    } else {
        return -YK_EINVAL;
    }
    source_stick(a, move->from_offset);
    return 0;
}
