/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks sink from DRAM into slow memory, and leave that one for SSD or for good (docs/decisions/0020).
 *
 * What sinks is everything that the policy of DRAM lets go for space or capacity, but what is dead, and what is
 * only a guest here (raise.c). The owner copies it, in the middle of the reclaim that needs the place; what it
 * copies in one turn is bounded, and whoever needs more waits for the next one, as for a write to SSD, and no
 * longer than that (yk_store_ssd_hurry). Rejected for now: a helper thread that copies while the block is
 * readable, as writes to SSD are done. It would take the copies off the owner, and each would need a hazard, a
 * place that is nobody's meanwhile and an end for every way that its block may go.
 *
 * Where slow memory is full, its own oldest block makes way. A parent leaves it when it has no child in memory: those
 * in slow memory its order knows, those in DRAM its count of children tells (R7; chain policies only, as in DRAM). So
 * does a parent in DRAM that has children in slow memory, and finds no place there.
 *
 * Threads: the owner's.
 */
#include "node/cxl_priv.h"

#include "base/clock.h"

#define ROOM_TRIES 4u   /* for one place: other sizes free nothing for this one, so twice as much each time */
#define EVICT_MAX  256u /* blocks that leave for one place */

/* ---- leaving --------------------------------------------------------------------------------------- */

uint64_t cxl_room(const struct yk_store *s) {
    struct yk_alloc_stats st;
    yk_alloc_stats(s->cxl->alloc, &st);
    return st.free_bytes + st.idle_bytes + s->slow_limbo_bytes + s->slow_leaving_bytes;
}

static int choose(struct yk_store *s, uint32_t ns, struct can_arg *arg, uint32_t *ret_idx) {
    const struct cxl_side *c = s->cxl;
    if (ns != YK_SHM_NONE)
        return c->of[ns] == NULL ? YK_MISS : yk_policy_victim(c->of[ns], yk_store_can_go, arg, ret_idx);
    return c->policy_count == 0 ? YK_MISS : yk_store_partition_victim_slow(s, yk_store_can_go, arg, ret_idx);
}

int yk_store_cxl_evict(struct yk_store *s, uint32_t ns, enum retire_reason why, uint64_t *ret_cap) {
    uint32_t idx;
    int rc = YK_MISS;
    if (s->cxl == NULL)
        return rc;
    struct can_arg arg = {.s = s, .boot_ms = yk_boot_ms()};
    for (; arg.soft_too < 2; arg.soft_too++) {
        for (int i = 0; i < 8; i++) { /* past a run of pinned ones */
            rc = choose(s, ns, &arg, &idx);
            if (rc != -YK_EAGAIN)
                break;
        }
        if (rc != -YK_EAGAIN)
            break;
    }
    if (rc != 0)
        return rc;
    *ret_cap = rest_at(s, idx)->cap;
    COUNT(s, cxl_evicted);
    if (why == RETIRE_QUOTA)
        yk_store_quota_drop_copy(s, idx);
    if (why == RETIRE_QUOTA || !yk_store_demote(s, idx))
        yk_store_retire(s, idx, why, 0);
    return 0;
}

uint32_t cxl_evict_bytes(struct yk_store *s, uint64_t want, uint32_t max) {
    uint32_t n = 0;
    uint64_t done = 0, cap;
    while (n < max && done < want && yk_store_cxl_evict(s, YK_SHM_NONE, RETIRE_SPACE, &cap) == 0) {
        done += cap;
        n++;
    }
    return n;
}

/* ---- sinking --------------------------------------------------------------------------------------- */

/* Frees what nobody reads any more; the hazards are collected again behind it. */
static void rescan(struct yk_store *s) {
    yk_owner_hazards_clear(&s->own);
    yk_store_scan(s);
    yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
}

/* A place for a block that sinks, by eviction if need be. 0; -YK_EAGAIN: when writes to SSD are done; -YK_ENOSPC. */
static int place_for(struct yk_store *s, uint64_t cap, uint64_t *ret_offset) {
    uint64_t want = cap;
    if (cap > s->cxl->bytes || s->cxl->turn_full)
        return -YK_ENOSPC;
    int rc = cxl_get(s, cap, ret_offset);
    if (rc < 0 && s->slow_limbo_bytes > 0) {
        rescan(s);
        rc = cxl_get(s, cap, ret_offset);
    }
    for (uint32_t i = 0; i < ROOM_TRIES && rc < 0; i++, want *= 2u) {
        if (s->slow_leaving_bytes >= want && !s->hurrying)
            return -YK_EAGAIN;
        if (cxl_evict_bytes(s, want, EVICT_MAX) == 0)
            break;
        rescan(s);
        rc = cxl_get(s, cap, ret_offset);
    }
    if (rc < 0 && s->slow_leaving_bytes > 0)
        return -YK_EAGAIN;
    s->cxl->turn_full = rc < 0;
    return rc;
}

/* Whoever came for one reader, or is another node's, goes when it yields; what is dead goes as well. */
static int may_sink(const struct yk_store *s, uint32_t idx) {
    enum retire_reason why;
    return !(s->marks[idx] & (MARK_COPY | MARK_YIELDS)) && yk_owner_desc_sane(&s->own, idx, 1) &&
           !yk_store_dead(s, desc_at(s, idx), yk_view_now_ms(&s->view), &why);
}

/* From DRAM's order into the other one. Into it first: what can fail comes before the block is moved. */
static int change_range(struct yk_store *s, uint32_t idx, struct yk_policy *from, struct yk_policy *to,
                        uint64_t offset) {
    struct yk_policy_block pb = yk_store_policy_block(s, idx, 0);
    pb.parent_yields = false;
    if (yk_policy_insert(to, idx, &pb) < 0)
        return -YK_ENOSPC;
    if (yk_store_move(s, idx, offset) < 0) {
        yk_policy_remove(to, idx);
        yk_policy_access(from, idx); /* to the young end, as what is skipped */
        COUNT(s, moves_refused);
        return -YK_EPINNED;
    }
    yk_policy_evict(from, idx, desc_at(s, idx)->hash);
    return 0;
}

static void count_sunk(struct yk_store *s, uint32_t ns, uint64_t len) {
    s->shares[ns].slow_bytes += len;
    COUNT(s, sunk);
    COUNT_ADD(s, sunk_bytes, len);
    COUNT_SUB(s, blocks, 1);
    COUNT_SUB(s, block_bytes, len);
    COUNT(s, cxl_blocks);
    COUNT_ADD(s, cxl_block_bytes, len);
}

int yk_store_sink(struct yk_store *s, uint32_t idx) {
    struct cxl_side *c = s->cxl;
    uint64_t offset;
    if (c == NULL || c->off || in_slow(s, idx) || !may_sink(s, idx))
        return 0;
    uint64_t len = desc_at(s, idx)->len, cap = rest_at(s, idx)->cap;
    uint32_t ns = desc_at(s, idx)->ns;
    struct yk_policy *to = cxl_policy_need(s, ns);
    int rc = to == NULL ? -YK_ENOSPC : cxl_may_copy(s, len) ? place_for(s, cap, &offset) : -YK_EAGAIN;
    if (rc == 0) {
        rc = change_range(s, idx, s->shares[ns].policy, to, offset);
        c->turn_bytes += len;
        if (rc < 0)
            yk_store_place_put(s, offset, cap);
    }
    if (rc == -YK_EAGAIN)
        COUNT(s, sink_waits);
    if (rc == -YK_ENOSPC)
        COUNT(s, sink_refused);
    if (rc < 0)
        return rc == -YK_ENOSPC ? 0 : rc;
    c->uses[idx] = 0;
    count_sunk(s, ns, len);
    if (yk_store_tells(s))
        yk_store_tell(s, idx);
    return 1;
}
