/* SPDX-License-Identifier: Apache-2.0
 *
 * How a block comes to be: reserve a place, let its writer fill it, commit or abort.
 *
 * A reservation has no key: clients hold some ahead, so that a put costs one round trip. It is
 * bound to its client slot, not to a connection, and lives in the segment: it survives a restart of
 * the node, and its memory is never given to another before the client released it or is known
 * dead (R3). Those of connections that write through the transfer engine are in places.c. A commit that arrives twice (sent again after a restart) finds its own block by the
 * birth number and is answered as the first.
 *
 * The reservations of a client are linked through `parent` (next) and `parent_birth` (previous),
 * +1, which mean nothing before the commit.
 */
#include "node/cxl_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* For the quotas of all commits of one turn, about a millisecond: other connections wait for it. */
#define TURN_EVICTIONS 1024u

void yk_store_reservation_link(struct yk_store *s, uint32_t idx) {
    struct yk_rest *rest = rest_at(s, idx);
    struct client *c = yk_store_holder(s, rest->owner);
    if (c == NULL)
        return;
    STORE(&rest->parent, c->reserved_head);
    STORE(&rest->parent_birth, 0u);
    if (c->reserved_head != 0)
        STORE(&rest_at(s, c->reserved_head - 1u)->parent_birth, idx + 1u);
    c->reserved_head = idx + 1u;
    c->reserved_count++;
    c->reserved_bytes += rest->cap;
    COUNT(s, reserved_blocks);
    COUNT_ADD(s, reserved_bytes, rest->cap);
    COUNT_ADD(s, remote_places, yk_owner_is_remote(rest->owner) ? 1u : 0u);
}

void yk_store_reservation_unlink(struct yk_store *s, uint32_t idx) {
    struct yk_rest *rest = rest_at(s, idx);
    struct client *c = yk_store_holder(s, rest->owner);
    if (c == NULL)
        return;
    uint32_t next = rest->parent, prev = rest->parent_birth;
    uint32_t max = s->own.layout.max_blocks;
    if (prev != 0 && prev <= max)
        STORE(&rest_at(s, prev - 1u)->parent, next);
    else
        c->reserved_head = next <= max ? next : 0;
    if (next != 0 && next <= max)
        STORE(&rest_at(s, next - 1u)->parent_birth, prev);
    c->reserved_count--;
    c->reserved_bytes -= rest->cap;
    COUNT_SUB(s, reserved_blocks, 1);
    COUNT_SUB(s, reserved_bytes, rest->cap);
    COUNT_SUB(s, remote_places, yk_owner_is_remote(rest->owner) ? 1u : 0u);
}

/* Blocks on their way to SSD whose descriptors and keys are free soon: no more are chosen for those. */
#define LEAVING_ENOUGH 64u

/* A descriptor, evicting for one when all are in use. */
static uint32_t desc_need(struct yk_store *s) {
    yk_store_back_tables(s);
    uint32_t idx = yk_owner_desc_take(&s->own);
    for (int i = 0; idx == YK_SHM_NONE && i < 64 && s->n.leaving_blocks < LEAVING_ENOUGH; i++) {
        if (yk_store_evict_entry(s) != 0)
            break;
        yk_store_scan(s);
        idx = yk_owner_desc_take(&s->own);
    }
    return idx;
}

/* Is there room for a reservation of len bytes in the share (R4)? A block larger than all of it may
 * pass it, one at a time; nothing else may. */
static int share_has(const struct yk_store *s, uint64_t len) {
    uint64_t pins = s->n.hard_pinned_bytes < pins_max(s) ? s->n.hard_pinned_bytes : pins_max(s);
    uint64_t budget = s->held_max - pins;
    return s->n.reserved_bytes <= budget && (len > budget || s->n.reserved_bytes + len <= budget);
}

int yk_store_may_hold(const struct yk_store *s, uint64_t len) {
    return s->turn_backed < TURN_BACKED &&
           s->n.reserved_bytes + s->n.hard_pinned_bytes + len <= s->held_max / 2u;
}

int yk_store_reserve(struct yk_store *s, uint32_t slot, uint64_t len, struct yk_place *ret_place,
                     struct yk_err *err) {
    uint64_t tier = s->dram_bytes;
    if (len == 0 || len > YK_BLOCK_MAX || len > tier)
        return yk_err_set(err, len == 0 ? -YK_EINVAL : -YK_ETOOBIG,
                          "a block of %llu bytes: the tier has %llu, a block at most %u",
                          (unsigned long long)len, (unsigned long long)tier, YK_BLOCK_MAX);
    if (__atomic_load_n(&s->seg.lost, __ATOMIC_ACQUIRE))
        return yk_err_set(err, -YK_EIO,
                          "the DRAM tier is lost (a file of its segment was truncated, or its file "
                          "system is full)");
    uint64_t held = s->n.reserved_bytes + s->n.hard_pinned_bytes;
    if (!share_has(s, len))
        return yk_err_set(
            err, -YK_ENOSPC, "%llu bytes are reserved or pinned, %llu may be: no room for %llu",
            (unsigned long long)held, (unsigned long long)s->held_max, (unsigned long long)len);
    uint32_t idx = desc_need(s);
    if (idx == YK_SHM_NONE)
        return yk_err_set(err, -YK_ENOSPC, "all %u descriptors are in use",
                          s->own.layout.max_blocks);
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    uint64_t offset;
    int rc = yk_store_alloc(s, len, &offset);
    if (rc < 0) {
        yk_owner_desc_give(&s->own, idx);
        return yk_err_set(
            err, -YK_ENOSPC, "no room for %llu bytes: %llu of %llu are held, the rest is pinned",
            (unsigned long long)len, (unsigned long long)held, (unsigned long long)tier);
    }
    uint64_t gen = yk_owner_gen(&s->own);
    /* A lookup that still stands at this descriptor's former block sees the word change before any
     * field: pairs with the acquire fence before its second look. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    STORE(&d->key_len, (uint8_t)0);
    STORE(&rest->offset, offset);
    STORE(&rest->cap, (uint32_t)len);
    STORE(&rest->owner, slot);
    STORE(&rest->birth, (uint32_t)gen);
    STORE(&rest->ssd, 0u);
    STORE(&rest->place_sum, yk_desc_place_sum(rest, idx));
    yk_store_reservation_link(s, idx);
    desc_publish(d, YK_WORD(gen, YK_DESC_RESERVED));
    COUNT(s, reserves);
    *ret_place = (struct yk_place){idx, gen, offset};
    return 0;
}

/* Is it this one's place? What was closed for a commit that has to be sent again still is. */
static int is_owner(const struct yk_rest *rest, uint32_t slot) {
    return rest->owner == slot ||
           (yk_owner_is_remote(slot) && rest->owner == (slot | YK_SHM_OWNER_CLOSED));
}

/* The reservation that (idx, gen) names, or -YK_EGONE. */
static int reservation_at(struct yk_store *s, uint32_t slot, uint32_t idx, uint64_t gen) {
    if (idx >= s->own.hdr->desc_top || idx >= s->own.layout.max_blocks)
        return -YK_EGONE;
    const struct yk_desc *d = desc_at(s, idx);
    return d->word == YK_WORD(gen, YK_DESC_RESERVED) && is_owner(rest_at(s, idx), slot) ? 0 : -YK_EGONE;
}

int yk_store_abort(struct yk_store *s, uint32_t slot, uint32_t idx, uint64_t gen) {
    int rc = reservation_at(s, slot, idx, gen);
    if (rc == 0) {
        yk_store_unreserve(s, idx);
        COUNT(s, aborts);
    }
    return rc;
}

/* ---- parents that are gone (chain policies) ---- */

static struct gone *gone_at(struct yk_store *s, uint64_t hash) {
    return &s->gone[hash % GONE_PARENTS];
}

/* Was the parent that a commit names, and that is in no tier, evicted? One that was never here is not
 * gone: it may be put after its child. */
static int parent_gone(struct yk_store *s, uint32_t ns, const struct yk_commit *c) {
    uint32_t idx;
    if (c->parent_len == 0 || !yk_store_follows_chains(s))
        return 0;
    uint64_t hash = yk_hash_key(ns, c->parent, c->parent_len);
    return gone_at(s, hash)->hash == hash && gone_at(s, hash)->epoch == c->epoch &&
           yk_store_find_any(s, ns, c->epoch, c->parent, c->parent_len, &idx) != 0;
}

/* Blocks that a policy shall be prepared for. One that learns has some 500 bytes for each: it hears of so many as there
 * are where blocks have 16 KiB or more, and of more it orders some by their last use alone. */
#define LEARNS_BLOCK_BYTES (16u << 10)

uint32_t yk_store_capacity_objects(const struct yk_store *s) {
    uint64_t n = s->own.layout.max_blocks, large = s->dram_bytes / LEARNS_BLOCK_BYTES + 1;
    if ((s->policy_ops->caps & YK_POLICY_CAP_LEARNS) && s->capacity_blocks == 0 && large < n)
        n = large;
    return (uint32_t)(s->capacity_blocks != 0 && s->capacity_blocks < n ? s->capacity_blocks : n);
}

int yk_store_policy_make(struct yk_store *s, uint32_t ns) {
    struct share *sh = &s->shares[ns];
    struct yk_policy_opts po = {.capacity_objects = yk_store_capacity_objects(s),
                                .seed = s->seed ^ ns,
                                .saved_growth = s->saved_growth,
                                .has_below = s->low != NULL || s->cxl != NULL};
    if (sh->policy != NULL)
        return 0;
    int rc = yk_store_partition_join(s, ns);
    if (rc == 0)
        rc = yk_policy_new(s->policy_ops, s->space, &po, &sh->policy);
    if (rc < 0)
        return rc;
    s->policy_ns[s->policy_count] = (uint16_t)ns;
    s->policies[s->policy_count++] = sh->policy;
    yk_store_learned_load(s, ns);
    return 0;
}

struct yk_policy *yk_store_policy_of(const struct yk_store *s, uint32_t idx) {
    uint32_t ns = desc_at(s, idx)->ns;
    if (ns >= YK_SHM_NAMESPACES)
        return NULL;
    return in_slow(s, idx) ? s->cxl->of[ns] : s->shares[ns].policy;
}

struct yk_policy_block yk_store_policy_block(const struct yk_store *s, uint32_t idx, int cut_off) {
    const struct yk_desc *d = desc_at(s, idx);
    const struct yk_rest *rest = rest_at(s, idx);
    struct yk_policy_block pb = {.key_hash = d->hash,
                                 .size_bytes = d->len,
                                 .parent_id = rest->parent,
                                 .depth_tokens = rest->depth_tokens,
                                 .cut_off = cut_off != 0,
                                 .is_ahead = s->arrives == ARRIVES_AHEAD,
                                 .found = s->recovering != 0 || s->arrives == ARRIVES_FOUND};
    if (rest->parent >= s->own.layout.max_blocks || !desc_live(desc_at(s, rest->parent)) ||
        rest_at(s, rest->parent)->birth != rest->parent_birth)
        pb.parent_id = YK_POLICY_NONE;
    else
        pb.parent_yields = yk_store_yields(s, rest->parent);
    return pb;
}

static struct yk_policy *policy_need(struct yk_store *s, uint32_t idx) {
    uint32_t ns = desc_at(s, idx)->ns;
    if (in_slow(s, idx))
        return cxl_policy_need(s, ns);
    return yk_store_policy_make(s, ns) < 0 ? NULL : s->shares[ns].policy;
}

int yk_store_share_add(struct yk_store *s, uint32_t idx, int cut_off) {
    struct yk_desc *d = desc_at(s, idx);
    struct share *sh = &s->shares[d->ns];
    struct yk_policy *p = policy_need(s, idx);
    if (p == NULL)
        return -YK_ENOMEM;
    struct yk_policy_block pb = yk_store_policy_block(s, idx, cut_off);
    int rc = yk_policy_insert(p, idx, &pb);
    if (rc < 0)
        return rc;
    sh->blocks++;
    sh->bytes += d->len;
    if (LOAD(&rest_at(s, idx)->ssd) != 0)
        yk_store_both(s, d, 1);
    if (in_slow(s, idx)) {
        sh->slow_bytes += d->len;
        COUNT(s, cxl_blocks);
        COUNT_ADD(s, cxl_block_bytes, d->len);
    } else {
        COUNT(s, blocks);
        COUNT_ADD(s, block_bytes, d->len);
    }
    yk_store_partition_use(s, idx);
    return 0;
}

static int policy_drop(struct yk_policy *p, uint32_t idx, uint64_t hash, int by_policy) {
    if (p == NULL)
        return YK_MISS;
    return by_policy ? yk_policy_evict(p, idx, hash) : yk_policy_remove(p, idx);
}

void yk_store_share_drop(struct yk_store *s, uint32_t idx, int by_policy) {
    const struct yk_desc *d = desc_at(s, idx);
    if (d->ns >= YK_SHM_NAMESPACES)
        return;
    struct share *sh = &s->shares[d->ns];
    int slow = in_slow(s, idx);
    int rc = policy_drop(yk_store_policy_of(s, idx), idx, d->hash, by_policy);
    if (rc != 0 && s->cxl != NULL) { /* its offset was scribbled on: it is in the other order, or in none */
        slow = !slow;
        rc = policy_drop(slow ? s->cxl->of[d->ns] : sh->policy, idx, d->hash, by_policy);
    }
    if (rc != 0)
        return;
    if (by_policy && yk_store_follows_chains(s))
        *gone_at(s, d->hash) = (struct gone){d->hash, d->epoch};
    yk_store_ahead_left(s, idx);
    sh->blocks--;
    sh->bytes -= d->len;
    if (LOAD(&rest_at(s, idx)->ssd) != 0)
        yk_store_both(s, d, -1);
    if (slow) {
        bytes_sub(&sh->slow_bytes, d->len);
        COUNT_SUB(s, cxl_blocks, 1);
        COUNT_SUB(s, cxl_block_bytes, d->len);
    } else {
        COUNT_SUB(s, blocks, 1);
        COUNT_SUB(s, block_bytes, d->len);
    }
}

int yk_store_standing(const struct yk_store *s, uint64_t hash, uint32_t ns, const void *key,
                      uint32_t key_len, uint32_t *ret_idx) {
    struct yk_index_cursor cur = {NULL, 0, 0};
    uint32_t idx;
    while (yk_index_next(&s->index, hash, &cur, &idx)) {
        const struct yk_desc *d = desc_at(s, idx);
        if (desc_live(d) && d->hash == hash && d->ns == ns &&
            yk_owner_key_is(&s->own, idx, key, key_len)) {
            *ret_idx = idx;
            return 0;
        }
    }
    return YK_MISS;
}

int yk_store_visible(const struct yk_store *s, const struct yk_desc *d, uint64_t epoch) {
    return d->epoch == epoch && (d->expiry_ms == 0 || d->expiry_ms > yk_view_now_ms(&s->view));
}

int yk_store_find(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key,
                  uint32_t key_len, uint32_t *ret_idx) {
    uint32_t idx;
    if (ns >= YK_SHM_NAMESPACES || s->own.ns[ns].epoch != epoch ||
        yk_store_standing(s, yk_hash_key(ns, key, key_len), ns, key, key_len, &idx) != 0 ||
        !yk_store_visible(s, desc_at(s, idx), epoch))
        return YK_MISS;
    *ret_idx = idx;
    return 0;
}

/* Takes one more child, unless the parent is on its way out (R7). */
static int parent_take(struct yk_rest *parent) {
    uint32_t n = __atomic_load_n(&parent->children, __ATOMIC_RELAXED);
    while (n < YK_CHILDREN_RETIRING - 1u)
        if (__atomic_compare_exchange_n(&parent->children, &n, n + 1u, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return 1;
    return 0;
}

static void link_parent(struct yk_store *s, struct yk_rest *rest, uint32_t ns,
                        const struct yk_commit *c) {
    uint32_t p;
    STORE(&rest->parent, YK_SHM_NONE);
    STORE(&rest->parent_birth, 0u);
    if (c->parent_len == 0 || yk_store_find(s, ns, c->epoch, c->parent, c->parent_len, &p) != 0 ||
        !parent_take(rest_at(s, p)))
        return;
    STORE(&rest->parent, p);
    STORE(&rest->parent_birth, rest_at(s, p)->birth);
}

static void fill(struct yk_store *s, uint32_t idx, uint32_t ns, uint64_t hash, uint32_t cell,
                 const struct yk_commit *c) {
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    const struct yk_attrs *a = &c->attrs;
    STORE(&d->hash, hash);
    STORE(&d->len, c->len);
    STORE(&d->epoch, c->epoch);
    STORE(&d->ns, ns);
    STORE(&d->kind, a->kind);
    STORE(&d->copies, (uint8_t)YK_ATTR_COPIES(a->flags));
    yk_owner_key_set(&s->own, idx, c->key, c->key_len, cell);
    STORE(&rest->sum, c->sum);
    STORE(&rest->depth_tokens, a->depth_tokens);
    STORE(&rest->length_tokens, a->length_tokens);
    STORE(&rest->session, a->session);
    STORE(&rest->model, a->model);
    STORE(&rest->ssd, 0u);
    STORE(&rest->children, 0u);
    uint64_t expiry =
        a->ttl_ms == 0 ? 0 : yk_store_after(yk_view_now_ms(&s->view), a->ttl_ms, UINT64_MAX);
    STORE(&d->expiry_ms, expiry);
    yk_store_expiry_seen(s, expiry);
    uint64_t pin = 0;
    if (a->flags & YK_PUT_HARD_PIN)
        pin = YK_PIN_HARD;
    else if (a->flags & YK_PUT_SOFT_PIN)
        pin = yk_store_after(yk_boot_ms(), a->pin_ms, YK_PIN_HARD - 1);
    STORE(&rest->pin_until_ms, pin);
    link_parent(s, rest, ns, c);
    STORE(&rest->ident_sum, yk_desc_ident_sum(d, rest, c->key));
}

void yk_store_turn(struct yk_store *s) {
    s->turn_evictions = TURN_EVICTIONS;
    s->turn_backed = 0;
    yk_store_cxl_turn(s);
}

/* Room for one more block in capacity, and for len bytes in the quota. What was over before (a limit that
 * was lowered) is not this put's to evict: it makes room for itself, and ticks do the rest. */
static int make_room(struct yk_store *s, uint32_t ns, uint32_t len) {
    uint64_t quota = s->own.ns[ns].quota_bytes, blocks = s->n.blocks;
    if (quota != 0 && len > quota)
        return -YK_EQUOTA;
    uint64_t used = quota != 0 ? yk_store_used(s, ns, NULL) : 0, now = used;
    while (quota != 0 && now + len > quota && used < now + len) {
        if (s->turn_evictions == 0)
            return -YK_EAGAIN;
        s->turn_evictions--;
        int rc = yk_store_quota_low(s, ns);
        if (rc == -YK_EAGAIN)
            return rc;
        if (rc == YK_MISS && yk_store_evict_one(s, ns, RETIRE_QUOTA) != 0)
            return -YK_EQUOTA;
        now = yk_store_used(s, ns, NULL);
    }
    if (s->capacity_blocks != 0 && s->n.blocks >= s->capacity_blocks && s->n.blocks == blocks &&
        yk_store_evict_one(s, YK_SHM_NONE, RETIRE_CAPACITY) != 0)
        return -YK_ENOSPC;
    return 0;
}

#define KEYS_MERGE_MS 10000u

/* Free key cells that lie side by side become one again: a population of short keys would else
 * leave nothing that fits long ones. Reads every descriptor, so not often. */
static void keys_merge(struct yk_store *s) {
    uint64_t now = yk_boot_ms();
    uint64_t *used = now < s->next_keys_merge_ms
                         ? NULL
                         : calloc((size_t)s->own.hdr->key_top / 64u + 2u, sizeof(uint64_t));
    if (used == NULL)
        return;
    s->next_keys_merge_ms = now + KEYS_MERGE_MS;
    uint32_t top = yk_store_desc_top(s);
    for (uint32_t idx = 0; idx < top; idx++) {
        const struct yk_desc *d = desc_at(s, idx);
        uint32_t tail = yk_key_tail(d->key_len);
        if (YK_WORD_STATE(d->word) == YK_DESC_FREE ||
            yk_owner_cell(&s->own, d->key_cell, tail) == NULL)
            continue;
        uint32_t end = d->key_cell + yk_cell_granules(tail);
        for (uint32_t g = d->key_cell; g < end && g < s->own.hdr->key_top; g++)
            used[g >> 6] |= 1ull << (g & 63u);
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    yk_owner_keys_rebuild(&s->own, used);
    free(used);
}

/* A cell for what does not fit into the descriptor; 0 where all of the key does. */
static uint32_t key_need(struct yk_store *s, const void *key, uint32_t key_len) {
    uint32_t tail = yk_key_tail(key_len);
    if (tail == 0)
        return 0;
    const void *bytes = (const char *)key + YK_SHM_KEY_INLINE;
    uint32_t cell = yk_owner_cell_take(&s->own, bytes, tail);
    if (cell == YK_SHM_NONE) {
        keys_merge(s);
        cell = yk_owner_cell_take(&s->own, bytes, tail);
    }
    for (int i = 0; cell == YK_SHM_NONE && i < 64 && s->n.leaving_blocks < LEAVING_ENOUGH; i++) {
        if (yk_store_evict_entry(s) != 0)
            break;
        yk_store_scan(s);
        cell = yk_owner_cell_take(&s->own, bytes, tail);
    }
    return cell;
}

/* Puts the filled descriptor into index and share; old (or YK_SHM_NONE) makes way for it. What can
 * fail comes before the word is published: a generation that was COMMITTED once is never taken
 * back. A lookup that meets the entry before the word looks again. */
static int enter(struct yk_store *s, uint32_t idx, uint64_t gen, uint64_t hash, uint32_t old,
                 unsigned state, int cut_off) {
    struct yk_desc *d = desc_at(s, idx);
    int fresh = old == YK_SHM_NONE;
    if (fresh && yk_index_insert(&s->index, hash, idx) < 0)
        return -YK_ENOSPC;
    int rc = yk_store_share_add(s, idx, cut_off);
    if (rc < 0) {
        if (fresh)
            yk_index_remove(&s->index, hash, idx);
        return rc;
    }
    desc_publish(d, YK_WORD(gen, state));
    if (!fresh) {
        yk_index_replace(&s->index, hash, old, idx);
        yk_store_retire(s, old, RETIRE_REPLACED, 1);
    }
    return 0;
}

/* A commit whose reservation is no longer one: was it made before? It left its block, or found the
 * same bytes there. */
static int committed_before(struct yk_store *s, uint32_t ns, const struct yk_commit *c) {
    uint32_t idx;
    if (yk_store_find_any(s, ns, c->epoch, c->key, c->key_len, &idx) != 0)
        return -YK_EGONE;
    if (YK_IS_ON_SSD(idx)) {
        yk_block_info info;
        yk_store_info(s, idx, &info);
        return info.checksum == c->sum && info.len == c->len ? 0 : -YK_EGONE;
    }
    const struct yk_desc *d = desc_at(s, idx);
    const struct yk_rest *rest = rest_at(s, idx);
    if (rest->sum != c->sum || d->len != c->len)
        return -YK_EGONE;
    return yk_store_settle(s, idx) == 0 ? 0 : -YK_EGONE;
}

static int commit_checks(struct yk_store *s, uint32_t ns, const struct yk_commit *c) {
    if (c->key_len == 0 || c->key_len > YK_KEY_MAX)
        return -YK_EKEY;
    if (c->len == 0 || c->len > rest_at(s, c->idx)->cap)
        return -YK_EINVAL;
    /* Its payload may be in pages that nobody else has (guard.h), and so may this descriptor. */
    if (__atomic_load_n(&s->seg.lost, __ATOMIC_ACQUIRE))
        return -YK_EIO;
    int rc = yk_store_ns_check(s, ns);
    if (rc == 0 && s->own.ns[ns].epoch != c->epoch)
        rc = -YK_ESTALE; /* R9: raised since the put began */
    if (rc == 0 && (c->attrs.flags & YK_PUT_HARD_PIN) &&
        s->n.hard_pinned_bytes + rest_at(s, c->idx)->cap > pins_max(s))
        rc = -YK_ELIMIT;
    return rc;
}

/* What a block that stands under the key means for the commit: 1 it is the same (nothing to do), 0
 * it makes way, or -YK_ECONFLICT. */
static int against(struct yk_store *s, uint32_t old, const struct yk_commit *c) {
    const struct yk_desc *o = desc_at(s, old);
    const struct yk_rest *o_rest = rest_at(s, old);
    if (!yk_store_visible(s, o, c->epoch))
        return 0;
    if (YK_WORD_STATE(o->word) == YK_DESC_SUSPECT && yk_store_settle(s, old) != 0)
        return 0; /* it was rotten and is gone: see commit_new */
    if (o->len == c->len && o_rest->sum == c->sum)
        return 1;
    return (c->attrs.flags & YK_PUT_UPSERT) ? 0 : -YK_ECONFLICT;
}

/* A parent that was chosen to go down, as a block without children, gets one: it stays, and so do those of
 * its ancestors that were chosen after it. */
static void parent_stays(struct yk_store *s, uint32_t ns, const struct yk_commit *c) {
    uint32_t idx;
    if (c->parent_len == 0 || s->n.leaving_blocks == 0 || !yk_store_follows_chains(s) ||
        yk_store_find(s, ns, c->epoch, c->parent, c->parent_len, &idx) != 0)
        return;
    while (yk_store_demote_undo(s, idx)) {
        const struct yk_rest *rest = rest_at(s, idx);
        if (rest->parent >= s->own.layout.max_blocks || !desc_live(desc_at(s, rest->parent)) ||
            rest_at(s, rest->parent)->birth != rest->parent_birth)
            return;
        idx = rest->parent;
    }
}

/* expiry_ms: of a block that came up from SSD, or stands there; 0 = none, or the commit's own. more: what the
 * namespace has more of the pool then. */
static int commit_new(struct yk_store *s, uint32_t ns, uint64_t hash, const struct yk_commit *c,
                      unsigned state, uint64_t expiry_ms, uint32_t more) {
    parent_stays(s, ns, c);
    int rc = make_room(s, ns, more);
    if (rc < 0)
        return rc;
    uint32_t cell = key_need(s, c->key, c->key_len);
    if (cell == YK_SHM_NONE)
        return -YK_ENOSPC;
    /* Looked for only now: making room may have evicted it. */
    uint32_t old = YK_SHM_NONE;
    if (yk_store_standing(s, hash, ns, c->key, c->key_len, &old) != 0)
        old = YK_SHM_NONE;
    yk_store_reservation_unlink(s, c->idx);
    fill(s, c->idx, ns, hash, cell, c);
    if (expiry_ms != 0) {
        STORE(&desc_at(s, c->idx)->expiry_ms, expiry_ms);
        yk_store_expiry_seen(s, expiry_ms);
    }
    rc = enter(s, c->idx, c->gen, hash, old, state, parent_gone(s, ns, c));
    if (rc == 0) {
        if (rest_at(s, c->idx)->pin_until_ms == YK_PIN_HARD)
            COUNT_ADD(s, hard_pinned_bytes, rest_at(s, c->idx)->cap);
        return 0;
    }
    yk_store_parent_release(s, c->idx);
    yk_owner_cell_give(&s->own, cell, yk_key_tail(c->key_len));
    STORE(&desc_at(s, c->idx)->key_len, (uint8_t)0);
    yk_store_reservation_link(s, c->idx);
    return rc;
}

int yk_store_commit_raised(struct yk_store *s, uint32_t ns, uint64_t hash,
                           const struct yk_commit *c, uint64_t expiry_ms) {
    return commit_new(s, ns, hash, c, YK_DESC_SUSPECT, expiry_ms, 0);
}

/* What stands on SSD under the key, and not in DRAM, means for the commit: 0 it is the same, or makes
 * way; -YK_ECONFLICT. The same bytes are put into DRAM all the same: the writer had to compute them, so
 * they are wanted, and their copy on SSD stays. Their expiry holds on if the put names none, as it does for
 * a block in DRAM (yk_store_prolong). */
static int against_ssd(struct yk_store *s, uint32_t ns, uint64_t hash, const struct yk_commit *c,
                       uint64_t *ret_expiry_ms) {
    struct yk_ssd_info info;
    uint32_t id;
    if (yk_store_ssd_find(s, ns, hash, c->key, c->key_len, &id) != 0) {
        yk_store_ssd_await(s, ns, hash);
        return 0;
    }
    yk_ssd_info_get(s->low->ssd, id, &info);
    if (info.len == c->len && info.sum == c->sum) {
        yk_ssd_touch(s->low->ssd, id); /* it is used */
        *ret_expiry_ms = c->attrs.ttl_ms == 0 ? info.expiry_ms : 0;
        return 0;
    }
    if (!(c->attrs.flags & YK_PUT_UPSERT))
        return -YK_ECONFLICT;
    yk_store_ssd_remove(s, id);
    return 0;
}

/* Does the same block stand on SSD? */
static int has_same(const struct yk_store *s, uint32_t ns, uint64_t hash,
                    const struct yk_commit *c) {
    struct yk_ssd_info info;
    uint32_t id;
    if (yk_store_ssd_find(s, ns, hash, c->key, c->key_len, &id) != 0)
        return 0;
    yk_ssd_info_get(s->low->ssd, id, &info);
    return info.len == c->len && info.sum == c->sum;
}

int yk_store_commit(struct yk_store *s, uint32_t slot, uint32_t ns, const struct yk_commit *c) {
    int rc = reservation_at(s, slot, c->idx, c->gen);
    yk_store_back_tables(s);
    if (rc < 0)
        return committed_before(s, ns, c);
    uint64_t hash = yk_hash_key(ns, c->key, c->key_len);
    uint32_t old = YK_SHM_NONE;
    uint64_t expiry_ms = 0;
    rc = commit_checks(s, ns, c);
    if (rc == 0 && yk_owner_is_remote(slot))
        rc = yk_store_place_settle(s, c);
    if (rc == -YK_EBUSY)
        return rc;
    int in_dram = rc == 0 && yk_store_standing(s, hash, ns, c->key, c->key_len, &old) == 0;
    if (in_dram)
        rc = against(s, old, c);
    if (rc == 0 && s->low != NULL)
        rc = against_ssd(s, ns, hash, c, &expiry_ms);
    if (rc == 1) {
        COUNT(s, duplicates);
        yk_store_access(s, old);
        yk_store_prolong(s, old, &c->attrs);
        yk_store_unreserve(s, c->idx);
        return 0;
    }
    if (rc == 0)
        rc = commit_new(s, ns, hash, c, YK_DESC_COMMITTED, expiry_ms,
                        s->low != NULL && has_same(s, ns, hash, c) ? 0 : c->len);
    if (rc == -YK_EAGAIN)
        return rc;
    if (rc < 0) {
        if (rc == -YK_ECONFLICT)
            COUNT(s, conflicts);
        yk_store_unreserve(s, c->idx);
        return rc;
    }
    COUNT(s, commits);
    COUNT_ADD(s, put_bytes, c->len);
    if (yk_store_tells(s))
        yk_store_tell_key(s, ns, c->key, c->key_len, c->parent, c->parent_len);
    if (s->low != NULL) {
        yk_store_ssd_link(s, c->idx);
        yk_store_write_through(s, c->idx);
    }
    return 0;
}

/* Another node's block is not verified here: what stands under its key is taken at its word, too. */
static int against_copy(struct yk_store *s, uint32_t ns, uint64_t hash, const struct yk_commit *c) {
    uint32_t old;
    if (yk_store_find(s, ns, c->epoch, c->key, c->key_len, &old) == 0)
        return desc_at(s, old)->len == c->len && rest_at(s, old)->sum == c->sum ? 1 : -YK_ECONFLICT;
    if (yk_store_ssd_find(s, ns, hash, c->key, c->key_len, &old) == 0)
        return has_same(s, ns, hash, c) ? 1 : -YK_ECONFLICT;
    return 0;
}

int yk_store_commit_copy(struct yk_store *s, uint32_t ns, const struct yk_commit *c,
                         uint64_t expiry_ms) {
    uint64_t hash = yk_hash_key(ns, c->key, c->key_len);
    int rc = reservation_at(s, 0, c->idx, c->gen);
    if (rc < 0)
        return rc;
    yk_store_back_tables(s);
    rc = commit_checks(s, ns, c);
    if (rc == 0)
        rc = against_copy(s, ns, hash, c);
    if (rc == 0)
        rc = commit_new(s, ns, hash, c, YK_DESC_SUSPECT, expiry_ms, c->len);
    if (rc != 0)
        yk_store_unreserve(s, c->idx);
    return rc;
}
