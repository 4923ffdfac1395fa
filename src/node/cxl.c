/* SPDX-License-Identifier: Apache-2.0
 *
 * Slow memory as a part of the block table (cxl_priv.h): its allocator, its orders, its figures.
 *
 * Its orders are instances in a space of their own. Rejected: instances in DRAM's space, twice as many of them
 * (an id is in one instance of a space, so that a child in the one range and its parent in the other could not
 * be told apart from strangers; here a parent that is not in yet counts the children that name it). Where DRAM's
 * policy learns, slow memory follows the chains and the last use alone: what it holds is what the other let go.
 *
 * Threads: the owner's.
 */
#include "node/cxl_priv.h"

#include <stdlib.h>

/* Copied between the ranges in one turn of the loop: some 8 ms where the slower of them copies 4 GB/s. */
#define TURN_COPIED (32ull << 20)
/* Of slow memory that is kept free ahead of need, and how much that is at most. */
#define AHEAD_DIV  50u
#define AHEAD_MOST (256ull << 20)

/* A common NVMe drive's read; what this node's do is not measured: a fresh file has nothing to read. */
#define SSD_LAT_NS 100000u
#define SSD_BPS    3000000000ull
#define SSD_BLOCK  (1ull << 20) /* compared over a block of this size */

/* ---- places -------------------------------------------------------------------------------------- */

/* Which range an offset lies in; where that begins. */
static struct yk_alloc *range_of(const struct yk_store *s, uint64_t offset, uint64_t *ret_base) {
    int slow = s->cxl != NULL && offset >= s->dram_bytes;
    *ret_base = slow ? s->dram_bytes : 0;
    return slow ? s->cxl->alloc : s->alloc;
}

int yk_store_place_put(struct yk_store *s, uint64_t offset, uint64_t len) {
    uint64_t base;
    struct yk_alloc *a = range_of(s, offset, &base);
    return yk_alloc_put(a, offset - base, len);
}

int yk_store_place_claim(struct yk_store *s, uint64_t offset, uint64_t len) {
    uint64_t base;
    struct yk_alloc *a = range_of(s, offset, &base);
    return yk_alloc_claim(a, offset - base, len);
}

int cxl_get(struct yk_store *s, uint64_t len, uint64_t *ret_offset) {
    return yk_store_range_get(s, s->cxl->alloc, s->dram_bytes, len, ret_offset) < 0 ? -YK_ENOSPC : 0;
}

int cxl_may_copy(const struct yk_store *s, uint64_t len) {
    uint64_t done = s->cxl->turn_bytes;
    return done == 0 || done + len <= TURN_COPIED;
}

void yk_store_cxl_turn(struct yk_store *s) {
    if (s->cxl == NULL)
        return;
    s->cxl->turn_bytes = 0;
    s->cxl->turn_full = 0;
}

/* ---- orders --------------------------------------------------------------------------------------- */

struct yk_policy *cxl_policy_need(struct yk_store *s, uint32_t ns) {
    struct cxl_side *c = s->cxl;
    if (c->of[ns] == NULL) {
        if (yk_store_partition_join(s, ns) < 0)
            return NULL;
        struct yk_policy_opts po = {.capacity_objects = yk_store_capacity_objects(s),
                                    .seed = s->seed ^ ns,
                                    .has_below = s->low != NULL};
        if (yk_policy_new(c->policy_ops, c->space, &po, &c->of[ns]) < 0)
            return NULL;
        c->policy_ns[c->policy_count] = (uint16_t)ns;
        c->policies[c->policy_count++] = c->of[ns];
    }
    return c->of[ns];
}

/* ---- open, close ---------------------------------------------------------------------------------- */

static int alloc_open(struct yk_store *s, struct yk_err *err) {
    uint64_t near = yk_alloc_table_bytes(s->dram_bytes) + YK_SHM_PAGE;
    struct yk_alloc_opts ao = {
        .size = sizeof(ao),
        .capacity_bytes = s->cxl->bytes,
        .table = (char *)s->seg.meta + s->own.layout.off_extents + near,
        .table_bytes = s->own.layout.extents_bytes - near,
        .recover = s->seg.found != YK_SEGMENT_FRESH,
    };
    return yk_alloc_new(&ao, &s->cxl->alloc, err);
}

int yk_store_cxl_open(struct yk_store *s, const struct yk_store_opts *opts, struct yk_err *err) {
    if (s->seg.slow_bytes == 0)
        return 0;
    struct cxl_side *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    s->cxl = c;
    c->bytes = s->seg.slow_bytes;
    c->figures = opts->cxl.figures;
    c->low_bytes = c->bytes / AHEAD_DIV < AHEAD_MOST ? c->bytes / AHEAD_DIV : AHEAD_MOST;
    c->high_bytes = c->low_bytes + c->low_bytes / 2u;
    int learns = (s->policy_ops->caps & YK_POLICY_CAP_LEARNS) != 0;
    c->policy_ops = learns ? yk_policy_find("chain-lru") : s->policy_ops;
    c->uses = calloc(s->own.layout.max_blocks, 1);
    if (c->uses == NULL || yk_policy_space_new(s->own.layout.max_blocks, &c->space) < 0)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    return alloc_open(s, err);
}

void yk_store_cxl_close(struct yk_store *s) {
    struct cxl_side *c = s->cxl;
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->policy_count; i++)
        yk_policy_free(c->policies[i]);
    yk_policy_space_free(c->space);
    yk_alloc_free(c->alloc);
    free(c->uses);
    free(c);
    s->cxl = NULL;
}

void yk_store_cxl_recovered(struct yk_store *s) {
    if (s->cxl != NULL)
        yk_alloc_recover_done(s->cxl->alloc);
}

void yk_store_cxl_ready(struct yk_store *s) {
    struct cxl_side *c = s->cxl;
    if (c == NULL)
        return;
    struct yk_cxl_figures *f = &c->figures;
    cxl_measure(s, f);
    c->off = s->low != NULL &&
             cxl_use_ns(f->slow_lat_ns, f->slow_bps, SSD_BLOCK) >= cxl_use_ns(SSD_LAT_NS, SSD_BPS, SSD_BLOCK);
    STORE(&s->n.cxl_used, (uint64_t)!c->off);
    STORE(&s->n.cxl_dram_latency_ns, f->dram_lat_ns);
    STORE(&s->n.cxl_dram_bytes_per_s, f->dram_bps);
    STORE(&s->n.cxl_latency_ns, f->slow_lat_ns);
    STORE(&s->n.cxl_bytes_per_s, f->slow_bps);
}

/* ---- upkeep --------------------------------------------------------------------------------------- */

void yk_store_cxl_gauges(struct yk_store *s) {
    struct yk_alloc_stats st;
    if (s->cxl == NULL || s->cxl->alloc == NULL) /* its open failed */
        return;
    yk_alloc_stats(s->cxl->alloc, &st);
    STORE(&s->n.cxl_capacity_bytes, st.capacity_bytes);
    STORE(&s->n.cxl_free_bytes, st.free_bytes);
    STORE(&s->n.cxl_idle_bytes, st.idle_bytes);
}

/* One tick no more than these, as in DRAM. */
#define TICK_EVICTIONS 64u

void yk_store_cxl_tick(struct yk_store *s, int *more) {
    struct cxl_side *c = s->cxl;
    if (c == NULL)
        return;
    uint64_t room = cxl_room(s);
    if (s->n.cxl_blocks > 0 && room < c->low_bytes) {
        yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
        *more |= cxl_evict_bytes(s, c->high_bytes - room, TICK_EVICTIONS) == TICK_EVICTIONS;
        yk_owner_hazards_clear(&s->own);
    }
    *more |= cxl_rise_step(s);
    /* Reclaim that stopped for this turn goes on in the next. */
    *more |= yk_store_short(s) && !cxl_may_copy(s, TURN_COPIED / 2u);
}
