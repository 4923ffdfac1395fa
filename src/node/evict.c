/* SPDX-License-Identifier: Apache-2.0
 *
 * How blocks go: retire, hazard scan, eviction in policy order, reclaim for an allocation.
 *
 * Retiring makes a block invisible at once (index entry out, new generation) and puts its
 * descriptor into limbo. A scan reads all hazards once for everything in limbo and frees what none
 * names (R2). Nothing here waits for a reader: what is pinned stays in limbo, and the next scan
 * looks again.
 *
 * With slow memory (docs/decisions/0020) what the policy of DRAM lets go for space or capacity sinks there
 * (cxl_sink.c), if it may; the rest goes on as before, to SSD or away.
 *
 * The limbo list is linked through `parent`, which means nothing in a retired descriptor.
 */
#include "node/ssd_priv.h"

#include "base/clock.h"

#include <stddef.h>

/* One call of yk_store_alloc evicts no more blocks than this before it says ENOSPC. */
#define EVICT_MAX 4096u
/* One tick no more than these, some 50 us: messages that arrive meanwhile wait for it. */
#define TICK_EVICTIONS 64u

static void count_retired(struct yk_store *s, enum retire_reason why) {
    switch (why) {
    case RETIRE_CAPACITY:
        COUNT(s, evict_capacity);
        break;
    case RETIRE_SPACE:
        COUNT(s, evict_space);
        break;
    case RETIRE_QUOTA:
        COUNT(s, evict_quota);
        break;
    case RETIRE_EXPIRED:
        COUNT(s, evict_expired);
        break;
    case RETIRE_EPOCH:
        COUNT(s, evict_epoch);
        break;
    case RETIRE_REPLACED:
        COUNT(s, evict_replaced);
        break;
    case RETIRE_REMOVED:
        COUNT(s, removed);
        break;
    case RETIRE_CORRUPT:
        COUNT(s, corrupt);
        break;
    }
}

/* The parent loses a child, if it is still the block that the child was linked to. */
void yk_store_parent_release(struct yk_store *s, uint32_t idx) {
    const struct yk_rest *rest = rest_at(s, idx);
    if (rest->parent >= s->own.layout.max_blocks)
        return;
    struct yk_rest *parent = rest_at(s, rest->parent);
    if (parent->birth != rest->parent_birth || !desc_live(desc_at(s, rest->parent)))
        return;
    uint32_t n = LOAD(&parent->children);
    if (n != 0 && n != YK_CHILDREN_RETIRING)
        __atomic_compare_exchange_n(&parent->children, &n, n - 1u, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED);
}

static int evicts(enum retire_reason why) {
    return why == RETIRE_CAPACITY || why == RETIRE_SPACE || why == RETIRE_QUOTA;
}

void yk_store_retire(struct yk_store *s, uint32_t idx, enum retire_reason why, int keep_entry) {
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    int fetched = desc_fetched(s, idx);
    if (s->low != NULL) {
        if (why == RETIRE_CORRUPT && desc_fetched(s, idx))
            yk_store_ssd_rotten(s, idx);
        else if (why == RETIRE_REMOVED || (why == RETIRE_CORRUPT && yk_store_writing(s, idx)))
            yk_store_ssd_forget(s, idx); /* or what is being written is as bad */
    }
    yk_store_demote_forget(s, idx);
    /* Checked before `parent` becomes a link: what fails is leaked until the restart, since its
     * offsets cannot be believed (somebody wrote into the meta file). */
    int sane = yk_owner_desc_sane(&s->own, idx, 1);
    if (YK_WORD_STATE(d->word) == YK_DESC_SUSPECT && !fetched)
        COUNT_SUB(s, suspect_blocks, 1);
    __atomic_store_n(&rest->children, YK_CHILDREN_RETIRING, __ATOMIC_RELEASE); /* R7 */
    if (!keep_entry)
        yk_index_remove(&s->index, d->hash, idx);
    desc_publish(d, YK_WORD(yk_owner_gen(&s->own), YK_DESC_RETIRED));
    yk_store_share_drop(s, idx, evicts(why));
    yk_store_parent_release(s, idx);
    count_retired(s, why);
    if (evicts(why))
        COUNT_ADD(s, evicted_bytes, d->len);
    if (rest->pin_until_ms == YK_PIN_HARD && sane)
        COUNT_SUB(s, hard_pinned_bytes, rest->cap);
    if (yk_store_tells(s) && why != RETIRE_REPLACED)
        yk_store_tell(s, idx);
    if (!sane) {
        COUNT(s, corrupt);
        return;
    }
    limbo_push(s, idx);
}

/* Gives memory, key cell and descriptor of a dead block back. cap 0: its place is not known. */
static void desc_release(struct yk_store *s, uint32_t idx) {
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    if (rest->cap != 0 && yk_store_place_put(s, rest->offset, rest->cap) < 0)
        COUNT(s, corrupt);
    yk_owner_cell_give(&s->own, d->key_cell, yk_key_tail(d->key_len));
    yk_owner_desc_give(&s->own, idx);
}

void yk_store_scan(struct yk_store *s) {
    if (s->limbo_head == 0)
        return;
    COUNT(s, scans);
    yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
    uint32_t link = s->limbo_head;
    uint32_t keep = 0;
    for (uint64_t n = s->n.limbo_blocks; link != 0 && n > 0; n--) {
        uint32_t idx = link - 1u;
        struct yk_desc *d = desc_at(s, idx);
        struct yk_rest *rest = rest_at(s, idx);
        if (idx >= s->own.layout.max_blocks || YK_WORD_STATE(d->word) != YK_DESC_RETIRED)
            break; /* a scribbled link: the rest of the list is leaked until the restart */
        link = LOAD(&rest->parent);
        if (yk_owner_named(&s->own, idx)) {
            STORE(&rest->parent, keep);
            keep = idx + 1u;
            continue;
        }
        COUNT_SUB(s, limbo_blocks, 1);
        COUNT_SUB(s, limbo_bytes, rest->cap);
        if (in_slow(s, idx))
            bytes_sub(&s->slow_limbo_bytes, rest->cap);
        desc_release(s, idx);
    }
    s->limbo_head = keep;
    yk_owner_hazards_clear(&s->own);
}

void yk_store_unreserve(struct yk_store *s, uint32_t idx) {
    struct yk_desc *d = desc_at(s, idx);
    yk_store_reservation_unlink(s, idx);
    d->key_len = 0;
    if (!yk_owner_desc_sane(&s->own, idx, 0)) {
        COUNT(s, corrupt);
        return;
    }
    desc_publish(d, YK_WORD(yk_owner_gen(&s->own), YK_DESC_RETIRED));
    if (yk_owner_is_remote(rest_at(s, idx)->owner) && yk_owner_is_pinned(&s->own, idx))
        limbo_push(s, idx); /* a write is under way */
    else
        desc_release(s, idx);
}

enum yk_policy_answer yk_store_can_go(void *arg, uint32_t id) {
    struct can_arg *c = arg;
    const struct yk_store *s = c->s;
    const struct yk_rest *rest = rest_at(s, id);
    if (rest->pin_until_ms == YK_PIN_HARD || (rest->pin_until_ms > c->boot_ms && !c->soft_too))
        return YK_POLICY_SKIP;
    /* Its children may be in the other range, which its order does not see. */
    if ((c->childless || in_slow(s, id)) && yk_store_has_children(s, id))
        return YK_POLICY_SKIP;
    /* The node's own hazard on what it is writing to SSD is no reason: it may leave when that is done. But it does
     * not sink meanwhile. */
    int may_leave = yk_store_writing(s, id) && (s->cxl == NULL || in_slow(s, id));
    return yk_owner_named(&s->own, id) && !may_leave ? YK_POLICY_SKIP : YK_POLICY_TAKE;
}

static int choose_victim(struct yk_store *s, uint32_t ns, struct can_arg *arg, uint32_t *ret_idx) {
    if (ns == YK_SHM_NONE)
        return s->policy_count == 0 ? YK_MISS : yk_store_partition_victim(s, yk_store_can_go, arg, ret_idx);
    struct yk_policy *p = s->shares[ns].policy;
    return p == NULL ? YK_MISS : yk_policy_victim(p, yk_store_can_go, arg, ret_idx);
}

/* The policy has chosen it. 0: it is on its way; otherwise as yk_store_sink, and nothing has happened. -YK_EBUSY: it
 * does not sink, and has children in slow memory. */
static int let_go(struct yk_store *s, uint32_t idx, enum retire_reason why) {
    if (why == RETIRE_QUOTA) {
        yk_store_quota_drop_copy(s, idx);
        yk_store_retire(s, idx, why, 0);
        return 0;
    }
    int rc = yk_store_sink(s, idx);
    if (rc == 1)
        return 0;
    if (rc == -YK_EPINNED || (rc == -YK_EAGAIN && why == RETIRE_SPACE && !s->hurrying))
        return rc;
    if (s->cxl != NULL && yk_store_has_children(s, idx))
        return -YK_EBUSY;
    if (!yk_store_demote(s, idx))
        yk_store_retire(s, idx, why, 0);
    return 0;
}

#define HELD_TRIES 8u /* blocks that somebody took hold of while they were copied */

/* As yk_store_evict_one; *ret_cap: bytes of it. Expects the hazards to be collected. */
static int evict_collected(struct yk_store *s, uint32_t ns, enum retire_reason why, uint64_t *ret_cap) {
    struct can_arg arg = {.s = s, .boot_ms = yk_boot_ms()};
    uint32_t idx, held = 0;
    int rc = YK_MISS;
    if (why == RETIRE_QUOTA && yk_store_cxl_evict(s, ns, why, ret_cap) == 0)
        return 0;
    while (arg.soft_too < 2) {
        /* The policy looks at a bounded number of blocks a call; a few calls see past a run of
         * pinned ones. */
        for (int i = 0; i < 8; i++) {
            rc = choose_victim(s, ns, &arg, &idx);
            if (rc != -YK_EAGAIN)
                break;
        }
        if (rc == YK_MISS)
            return rc;
        if (rc != 0) {
            arg.soft_too++;
            continue;
        }
        *ret_cap = rest_at(s, idx)->cap;
        rc = let_go(s, idx, why);
        if (rc == -YK_EBUSY && !arg.childless) { /* the last of each chain has none, and may go */
            arg.childless = 1;
            continue;
        }
        if (rc != -YK_EPINNED || ++held == HELD_TRIES)
            return rc == -YK_EPINNED ? -YK_EAGAIN : rc;
    }
    return rc;
}

int yk_store_evict_one(struct yk_store *s, uint32_t ns, enum retire_reason why) {
    uint64_t cap;
    yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
    int rc = evict_collected(s, ns, why, &cap);
    yk_owner_hazards_clear(&s->own);
    if (s->n.limbo_blocks >= LIMBO_BATCH)
        yk_store_scan(s);
    return rc;
}

int yk_store_evict_entry(struct yk_store *s) {
    uint64_t cap;
    yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
    int rc = yk_store_cxl_evict(s, YK_SHM_NONE, RETIRE_SPACE, &cap);
    yk_owner_hazards_clear(&s->own);
    return rc == 0 ? rc : yk_store_evict_one(s, YK_SHM_NONE, RETIRE_SPACE);
}

uint32_t yk_store_evict_bytes(struct yk_store *s, uint64_t want, uint32_t max) {
    uint32_t n = 0;
    uint64_t done = 0, cap;
    yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
    while (n < max && done < want && evict_collected(s, YK_SHM_NONE, RETIRE_SPACE, &cap) == 0) {
        done += cap;
        n++;
    }
    yk_owner_hazards_clear(&s->own);
    return n;
}

static int is_over(const struct yk_store *s, uint32_t ns) {
    if (ns == YK_SHM_NAMESPACES)
        return s->capacity_blocks != 0 && s->n.blocks > s->capacity_blocks;
    const struct yk_ns_entry *e = &s->own.ns[ns];
    return e->state == 1 && e->quota_bytes != 0 && yk_store_used(s, ns, NULL) > e->quota_bytes;
}

/* Evicts what is over quotas and capacity (they were lowered), at most max blocks. Returns how many
 * were. */
static uint32_t evict_over(struct yk_store *s, uint32_t max) {
    uint32_t n = 0;
    uint64_t cap;
    int collected = 0;
    for (uint32_t ns = 0; ns <= YK_SHM_NAMESPACES; ns++) { /* the last one: all together */
        int all = ns == YK_SHM_NAMESPACES;
        while (n < max && is_over(s, ns)) {
            if (!collected) {
                yk_store_drain(s);
                yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
                collected = 1;
                continue; /* what was drained may have dropped some */
            }
            int rc = all ? YK_MISS : yk_store_quota_low(s, ns);
            if (rc == YK_MISS)
                rc = evict_collected(s, all ? YK_SHM_NONE : ns,
                                     all ? RETIRE_CAPACITY : RETIRE_QUOTA, &cap);
            if (rc != 0)
                break;
            n++;
        }
    }
    if (collected)
        yk_owner_hazards_clear(&s->own);
    return n;
}

/* Bytes are free, only not together: is it worth moving blocks for this allocation? Only when a good
 * part of the tier lies in fragments; otherwise an eviction is cheaper than the copies. */
static int fragmented(const struct yk_store *s, uint64_t len) {
    struct yk_alloc_stats st;
    yk_alloc_stats(s->alloc, &st);
    uint64_t loose = st.free_bytes + st.idle_bytes;
    return loose >= 2 * len && loose >= st.capacity_bytes / 32u;
}

int yk_store_alloc(struct yk_store *s, uint64_t len, uint64_t *ret_offset) {
    uint32_t evicted = 0;
    uint64_t want = len;
    int compacted = 0;
    int rc = yk_store_alloc_get(s, len, ret_offset);
    if (rc != -YK_ENOSPC)
        return rc;
    yk_store_drain(s);
    yk_store_scan(s);
    while ((rc = yk_store_alloc_get(s, len, ret_offset)) == -YK_ENOSPC && evicted < EVICT_MAX) {
        if (!compacted && fragmented(s, len)) {
            compacted = 1; /* once: its moves must not keep a put from its deadline */
            yk_store_compact(s, len, 64);
            continue;
        }
        /* What is on its way to SSD is free when it is written: then the caller tries again. */
        if (dram_leaving(s) >= want)
            break;
        uint32_t n = yk_store_evict_bytes(s, want - dram_leaving(s), EVICT_MAX - evicted);
        if (n == 0)
            break;
        evicted += n;
        want += want / 2; /* other sizes free nothing for this one: more each time */
        yk_store_scan(s);
    }
    return rc;
}

int yk_store_dead(const struct yk_store *s, const struct yk_desc *d, uint64_t now_ms,
                  enum retire_reason *ret_why) {
    if (!desc_live(d))
        return 0;
    if (d->ns >= YK_SHM_NAMESPACES || s->own.ns[d->ns].epoch != d->epoch) {
        *ret_why = RETIRE_EPOCH;
        return 1;
    }
    uint64_t expiry = LOAD(&d->expiry_ms);
    *ret_why = RETIRE_EXPIRED;
    return expiry != 0 && expiry <= now_ms;
}

#define SWEEP_STEPS 8192u
/* A sweep reads every descriptor, so that many blocks with different times to live must not start
 * one each: expired blocks are invisible anyway, this only gives their memory back. */
#define EXPIRY_SWEEP_MS 5000u

void yk_store_sweep_soon(struct yk_store *s) {
    if (s->sweep_cursor < s->sweep_end) {
        s->sweep_again = 1;
        return;
    }
    s->sweep_again = 0;
    s->sweep_cursor = 0;
    s->sweep_end = s->own.hdr->desc_top;
}

static void sweep_step(struct yk_store *s) {
    uint64_t now = yk_view_now_ms(&s->view);
    enum retire_reason why;
    for (uint32_t n = 0; n < SWEEP_STEPS && s->sweep_cursor < s->sweep_end; n++) {
        uint32_t idx = s->sweep_cursor++;
        struct yk_desc *d = desc_at(s, idx);
        if (yk_store_dead(s, d, now, &why))
            yk_store_retire(s, idx, why, 0);
        else if (desc_live(d))
            yk_store_expiry_seen(s, d->expiry_ms);
    }
    if (s->sweep_cursor >= s->sweep_end && s->sweep_again)
        yk_store_sweep_soon(s);
}

/* Persists the latest wall clock (R18) and starts the sweep for the earliest expiry. */
static void tick_clock(struct yk_store *s, uint64_t boot_ms) {
    uint64_t now = yk_view_now_ms(&s->view);
    if (now > LOAD(&s->own.hdr->clock_ms))
        STORE(&s->own.hdr->clock_ms, now);
    if (now < s->next_expiry_ms || boot_ms < s->next_expiry_sweep_ms)
        return;
    s->next_expiry_sweep_ms = boot_ms + EXPIRY_SWEEP_MS;
    s->next_expiry_ms = UINT64_MAX; /* the sweep finds the next one */
    yk_store_sweep_soon(s);
}

void yk_store_gauges(struct yk_store *s) {
    struct yk_alloc_stats st;
    yk_alloc_stats(s->alloc, &st);
    STORE(&s->n.capacity_bytes, st.capacity_bytes);
    STORE(&s->n.free_bytes, st.free_bytes);
    STORE(&s->n.idle_bytes, st.idle_bytes);
    STORE(&s->n.largest_free_bytes, st.largest_free_bytes);
    STORE(&s->n.waste_bytes, st.waste_bytes);
    STORE(&s->n.clients, s->slot_count);
    yk_store_cxl_gauges(s);
}

/* Bytes that allocations can have now, or as soon as limbo is scanned and what leaves is written. */
static uint64_t room(const struct yk_store *s) {
    struct yk_alloc_stats st;
    yk_alloc_stats(s->alloc, &st);
    return st.free_bytes + st.idle_bytes + dram_limbo(s) + dram_leaving(s);
}

int yk_store_short(const struct yk_store *s) {
    return s->n.blocks > 0 && room(s) < s->low_bytes;
}

int yk_store_tick(struct yk_store *s) {
    uint64_t boot_ms = yk_boot_ms();
    tick_clock(s, boot_ms);
    yk_store_pass_time(s);
    yk_store_partition_step(s);
    yk_store_back_tick(s, boot_ms);
    if (s->sweep_cursor < s->sweep_end)
        sweep_step(s);
    int more = evict_over(s, TICK_EVICTIONS) == TICK_EVICTIONS;
    if (yk_store_short(s)) {
        yk_store_drain(s);
        more |= yk_store_evict_bytes(s, s->high_bytes - room(s), TICK_EVICTIONS) == TICK_EVICTIONS;
    }
    yk_store_cxl_tick(s, &more);
    yk_store_ssd_tick(s, &more);
    if (s->limbo_head != 0)
        yk_store_scan(s);
    yk_store_gauges(s);
    return more || s->sweep_cursor < s->sweep_end;
}
