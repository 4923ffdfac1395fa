/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes of blocks that are there: access, remove, pin, touch, expire, verify; listing and batch
 * removal, which walk the descriptors in bounded steps so that a node with a million blocks goes on
 * serving meanwhile.
 */
#include "node/ssd_priv.h"

#include "base/clock.h"
#include "base/hash.h"
#include "sched/learned.h"

#include <string.h>

void yk_store_policy_access(struct yk_store *s, uint32_t idx) {
    struct yk_policy *p = yk_store_policy_of(s, idx);
    if (p != NULL)
        yk_policy_access(p, idx);
    yk_store_partition_use(s, idx);
}

void yk_store_access(struct yk_store *s, uint32_t idx) {
    if (YK_IS_ON_SSD(idx)) {
        yk_ssd_touch(s->low->ssd, idx & ~YK_ON_SSD);
        return;
    }
    if (s->marks != NULL) {
        *mark_of(s, idx) |= MARK_USED;
        yk_store_ahead_used(s, idx);
        if (yk_store_demote_undo(s, idx) || yk_store_guest_leaves(s, idx))
            return;
        if ((*mark_of(s, idx) & MARK_COPY) && s->local_copies == YK_LOCAL_NEVER)
            return;
    }
    yk_store_policy_access(s, idx);
    if (in_slow(s, idx))
        yk_store_cxl_used(s, idx);
    if (s->marks != NULL && (*mark_of(s, idx) & MARK_COPY)) {
        *mark_of(s, idx) &= (uint8_t)~MARK_COPY;
        COUNT(s, copies_kept);
        yk_store_tell(s, idx);
    }
}

int yk_store_wants_requests(const struct yk_store *s) {
    return (s->policy_ops->caps & YK_POLICY_CAP_REQUESTS) != 0;
}

void yk_store_request(struct yk_store *s, uint32_t ns, const struct yk_policy_request *request) {
    struct yk_policy_request q = *request;
    if (ns >= YK_SHM_NAMESPACES || s->shares[ns].policy == NULL) /* nothing is here, so nothing is to be decided */
        return;
    if (!s->replays)
        q.now_ms = yk_boot_ms();
    yk_store_ahead_replayed(s, ns, q.now_ms);
    yk_policy_request(s->shares[ns].policy, &q);
    yk_store_partition_request(s, ns, &q);
    COUNT(s, requests);
}

void yk_store_time(struct yk_store *s, uint32_t ns, uint64_t now_ms) {
    if (ns < YK_SHM_NAMESPACES && s->replays && s->shares[ns].policy != NULL)
        yk_store_ahead_replayed(s, ns, now_ms);
}

int yk_store_learns(const struct yk_store *s) {
    return (s->policy_ops->caps & YK_POLICY_CAP_LEARNS) != 0;
}

struct yk_learned_training *yk_store_training_begin(struct yk_store *s) {
    if (!yk_store_learns(s) || s->training != NULL)
        return NULL;
    for (uint32_t i = 0; i < s->policy_count; i++) {
        struct yk_policy *p = s->policies[s->training_next++ % s->policy_count];
        struct yk_learned_training *t = yk_learned_training_begin(p);
        if (t == NULL)
            continue;
        s->training = p;
        return t;
    }
    return NULL;
}

void yk_store_training_end(struct yk_store *s) {
    yk_learned_training_end(s->training);
    s->training = NULL;
    COUNT(s, trainings);
}

void yk_store_pass_time(struct yk_store *s) {
    struct yk_policy_request q = {.now_ms = yk_boot_ms()};
    if (!yk_store_wants_requests(s) || s->replays)
        return;
    for (uint32_t i = 0; i < s->policy_count; i++)
        yk_policy_request(s->policies[i], &q);
}

void yk_store_count_located(struct yk_store *s, uint32_t ns, uint64_t bytes) {
    yk_store_count_get(s, ns, 1, 0);
    COUNT(s, located_gets);
    COUNT_ADD(s, located_bytes, bytes);
}

void yk_store_count_get(struct yk_store *s, uint32_t ns, int hit, uint64_t bytes) {
    struct yk_ns_lookups *n = ns < YK_SHM_NAMESPACES ? &s->shares[ns].n : NULL;
    COUNT(s, node_gets);
    if (hit)
        COUNT(s, node_hits);
    else
        COUNT(s, node_misses);
    if (n != NULL && hit)
        STORE(&n->node_hits, n->node_hits + 1);
    else if (n != NULL)
        STORE(&n->node_misses, n->node_misses + 1);
    COUNT_ADD(s, node_get_bytes, bytes);
}

const void *yk_store_payload(const struct yk_store *s, uint32_t idx) {
    return (const unsigned char *)s->seg.data + rest_at(s, idx)->offset;
}

/* Offset and length as the allocator gave them, or somebody wrote into the meta file. */
static int in_tier(const struct yk_store *s, uint32_t idx) {
    uint64_t data = s->own.layout.data_bytes, offset = rest_at(s, idx)->offset;
    return offset <= data && desc_at(s, idx)->len <= data - offset;
}

static int payload_good(const struct yk_store *s, uint32_t idx) {
    return in_tier(s, idx) &&
           yk_hash64(yk_store_payload(s, idx), desc_at(s, idx)->len) == rest_at(s, idx)->sum;
}

/* A SUSPECT block's bytes are right. */
static void settled(struct yk_store *s, uint32_t idx) {
    struct yk_desc *d = desc_at(s, idx);
    COUNT(s, verified);
    if (desc_fetched(s, idx)) {
        *mark_of(s, idx) &= (uint8_t)~MARK_FETCHED;
        COUNT_SUB(s, unverified_blocks, 1);
    } else {
        COUNT_SUB(s, suspect_blocks, 1);
    }
    desc_publish(d, YK_WORD(YK_WORD_GEN(d->word), YK_DESC_COMMITTED));
}

/* A payload was hashed: 0 and the block may be used, or it is dropped: -YK_ECORRUPT. */
static int judge(struct yk_store *s, uint32_t idx, int good) {
    struct yk_desc *d = desc_at(s, idx);
    if (!good) {
        COUNT(s, verify_failed);
        yk_store_retire(s, idx, RETIRE_CORRUPT, 0);
        return -YK_ECORRUPT;
    }
    if (YK_WORD_STATE(d->word) == YK_DESC_SUSPECT)
        settled(s, idx);
    else
        COUNT(s, verified);
    return 0;
}

int yk_store_settle(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    if (YK_WORD_STATE(d->word) != YK_DESC_SUSPECT)
        return in_tier(s, idx) ? 0 : YK_MISS;
    return judge(s, idx, payload_good(s, idx)) == 0 ? 0 : YK_MISS;
}

int yk_store_verify_begin(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key,
                          uint32_t key_len, struct yk_verify *v) {
    uint32_t idx;
    int rc = yk_store_ns_check(s, ns);
    if (rc == 0 && (key_len == 0 || key_len > YK_KEY_MAX))
        rc = -YK_EKEY;
    if (rc == 0)
        rc = yk_store_find(s, ns, epoch, key, key_len, &idx);
    if (rc != 0)
        return rc;
    int hold = yk_store_hold(s, idx); /* not moved meanwhile, its memory not reused */
    if (hold < 0)
        return -YK_EAGAIN;
    *v = (struct yk_verify){.idx = idx, .hold = hold, .gen = YK_WORD_GEN(desc_at(s, idx)->word)};
    return 0;
}

int yk_store_verify_step(struct yk_store *s, struct yk_verify *v, uint64_t *budget_bytes) {
    const struct yk_desc *d = desc_at(s, v->idx);
    if (!desc_live(d) || YK_WORD_GEN(d->word) != v->gen)
        return YK_MISS; /* it went meanwhile */
    if (!in_tier(s, v->idx))
        return judge(s, v->idx, 0);
    uint64_t left = d->len > v->at ? d->len - v->at : 0;
    uint64_t n = left < *budget_bytes ? left : *budget_bytes;
    *budget_bytes -= n;
    if (v->at == 0 && n == left) /* all at once, by the faster kernel */
        return judge(s, v->idx, payload_good(s, v->idx));
    if (v->hash == NULL)
        v->hash = yk_hasher_new();
    if (v->hash == NULL)
        return -YK_ENOMEM;
    yk_hasher_add(v->hash, (const char *)yk_store_payload(s, v->idx) + v->at, n);
    v->at += n;
    return n < left ? YK_PENDING
                    : judge(s, v->idx, yk_hasher_sum(v->hash) == rest_at(s, v->idx)->sum);
}

void yk_store_verify_end(struct yk_store *s, struct yk_verify *v) {
    yk_store_unhold(s, v->hold);
    yk_hasher_free(v->hash);
    v->hash = NULL;
    v->hold = -1;
}

/* One of a chain's: the last of them completes it. What has no beginning was overwritten. */
static void chain_event(struct yk_store *s, uint32_t slot, uint64_t e) {
    struct chain *c = &s->chain;
    if (YK_EVENT_KIND(e) == YK_EVENT_CHAIN) {
        c->got = 0;
        c->wanted = (uint32_t)e <= YK_EVENT_CHAIN_MAX ? (uint32_t)e : 0;
        return;
    }
    if (c->got == c->wanted)
        return;
    c->hashes[c->got++] = YK_EVENT_HASH(e);
    if (c->got == c->wanted)
        yk_store_request(s, s->own.owners[slot].ns - 1u,
                         &(struct yk_policy_request){.key_hashes = c->hashes, .n = c->got});
}

/* An event names a descriptor as it was when the client used it; it may be another block's now. */
static void event(struct yk_store *s, uint32_t slot, uint64_t e) {
    uint32_t idx = YK_EVENT_IDX(e);
    if (YK_EVENT_KIND(e) == YK_EVENT_CHAIN || YK_EVENT_KIND(e) == YK_EVENT_KEY) {
        chain_event(s, slot, e);
        return;
    }
    s->chain.wanted = s->chain.got = 0;
    if (idx >= s->own.hdr->desc_top || idx >= s->own.layout.max_blocks)
        return;
    struct yk_desc *d = desc_at(s, idx);
    if (!desc_live(d) || (rest_at(s, idx)->birth & 0x0fffffffu) != YK_EVENT_BIRTH(e))
        return;
    switch (YK_EVENT_KIND(e)) {
    case YK_EVENT_ACCESS:
        COUNT(s, events);
        yk_store_access(s, idx);
        break;
    case YK_EVENT_VERIFIED:
        if (YK_WORD_STATE(d->word) == YK_DESC_SUSPECT)
            settled(s, idx);
        break;
    case YK_EVENT_CORRUPT: /* looked at again here: the reader's memory may be the bad one */
        if (!payload_good(s, idx)) {
            COUNT(s, verify_failed);
            yk_store_retire(s, idx, RETIRE_CORRUPT, 0);
        }
        break;
    default:
        break;
    }
}

void yk_store_drain(struct yk_store *s) {
    uint64_t events[256];
    for (uint32_t i = 0; i < s->slot_count; i++) {
        uint64_t lost = 0;
        s->chain.wanted = s->chain.got = 0;
        /* One ring's worth: a client that writes as fast as it is drained does not hold us. */
        for (uint32_t left = YK_SHM_RING; left > 0;) {
            uint32_t n = yk_owner_ring_drain(&s->own, s->slots[i], events, 256, &lost);
            for (uint32_t k = 0; k < n; k++)
                event(s, s->slots[i], events[k]);
            if (n < 256)
                break;
            left -= n;
        }
        COUNT_ADD(s, events_lost, lost);
    }
}

static uint32_t pinned(const struct yk_rest *rest) {
    if (rest->pin_until_ms == YK_PIN_HARD)
        return 2;
    return rest->pin_until_ms > yk_boot_ms();
}

static void info_on_ssd(const struct yk_store *s, uint32_t id, yk_block_info *ret) {
    struct yk_ssd_info i;
    yk_ssd_info_get(s->low->ssd, id, &i);
    ret->len = i.len;
    ret->checksum = i.sum;
    ret->epoch = yk_store_ns_epoch(s, i.ns);
    ret->expiry_ms = i.expiry_ms;
    ret->session = i.session;
    ret->tiers = 1u << YK_TIER_SSD;
    ret->depth_tokens = i.depth_tokens;
    ret->length_tokens = i.length_tokens;
    ret->model = i.model;
    ret->kind = i.kind;
    ret->has_parent = i.parent_hash != 0;
}

void yk_store_info(const struct yk_store *s, uint32_t idx, yk_block_info *ret_info) {
    memset(ret_info, 0, sizeof(*ret_info));
    if (YK_IS_ON_SSD(idx)) {
        info_on_ssd(s, idx & ~YK_ON_SSD, ret_info);
        return;
    }
    const struct yk_desc *d = desc_at(s, idx);
    const struct yk_rest *rest = rest_at(s, idx);
    ret_info->len = d->len;
    ret_info->checksum = rest->sum;
    ret_info->generation = YK_WORD_GEN(d->word);
    ret_info->epoch = d->epoch;
    ret_info->expiry_ms = d->expiry_ms;
    ret_info->session = rest->session;
    ret_info->tiers = 1u << (in_slow(s, idx) ? YK_TIER_CXL : YK_TIER_DRAM) | (rest->ssd != 0 ? 1u << YK_TIER_SSD : 0);
    ret_info->depth_tokens = rest->depth_tokens;
    ret_info->length_tokens = rest->length_tokens;
    ret_info->model = rest->model;
    ret_info->kind = d->kind;
    ret_info->children = rest->children == YK_CHILDREN_RETIRING ? 0 : rest->children;
    ret_info->pinned = pinned(rest);
    ret_info->has_parent = rest->parent != YK_SHM_NONE;
}

static int pin(struct yk_store *s, struct yk_rest *rest, uint64_t pin_ms) {
    int was_hard = rest->pin_until_ms == YK_PIN_HARD;
    if (pin_ms == 0) {
        if (was_hard)
            return 0;
        if (s->n.hard_pinned_bytes + s->n.reserved_bytes + rest->cap > s->held_max ||
            s->n.hard_pinned_bytes + rest->cap > pins_max(s))
            return -YK_ELIMIT;
        STORE(&rest->pin_until_ms, YK_PIN_HARD);
        COUNT_ADD(s, hard_pinned_bytes, rest->cap);
        return 0;
    }
    uint64_t now = yk_boot_ms();
    STORE(&rest->pin_until_ms, yk_store_after(now, pin_ms, YK_PIN_HARD - 1));
    if (was_hard)
        COUNT_SUB(s, hard_pinned_bytes, rest->cap);
    return 0;
}

static int unpin(struct yk_store *s, struct yk_rest *rest) {
    if (rest->pin_until_ms == YK_PIN_HARD)
        COUNT_SUB(s, hard_pinned_bytes, rest->cap);
    STORE(&rest->pin_until_ms, 0);
    return 0;
}

static uint64_t expiry_at(const struct yk_store *s, uint64_t ttl_ms) {
    return ttl_ms == 0 ? 0 : yk_store_after(yk_view_now_ms(&s->view), ttl_ms, UINT64_MAX);
}

static int expire(struct yk_store *s, uint32_t idx, uint64_t ttl_ms) {
    uint64_t at = expiry_at(s, ttl_ms);
    STORE(&desc_at(s, idx)->expiry_ms, at);
    yk_store_expiry_seen(s, at);
    yk_store_ssd_expire(s, idx);
    return 0;
}

void yk_store_prolong(struct yk_store *s, uint32_t idx, const struct yk_attrs *attrs) {
    struct yk_rest *rest = rest_at(s, idx);
    if (attrs->ttl_ms != 0)
        expire(s, idx, attrs->ttl_ms);
    if (attrs->flags & YK_PUT_HARD_PIN)
        pin(s, rest, 0);
    else if ((attrs->flags & YK_PUT_SOFT_PIN) && attrs->pin_ms != 0 &&
             rest->pin_until_ms != YK_PIN_HARD)
        pin(s, rest, attrs->pin_ms);
}

/* Of a block that is on SSD alone. What needs its payload, or a pin, needs it in DRAM first. */
static int change_on_ssd(struct yk_store *s, uint32_t id, unsigned what, uint64_t arg) {
    switch (what) {
    case YK_CHANGE_REMOVE:
        yk_store_ssd_remove(s, id);
        COUNT(s, removed);
        return 0;
    case YK_CHANGE_TOUCH:
        yk_ssd_touch(s->low->ssd, id);
        return 0;
    case YK_CHANGE_UNPIN:
        return 0;
    case YK_CHANGE_EXPIRE:
        yk_store_ssd_set_expiry(s, id, expiry_at(s, arg));
        return 0;
    case YK_CHANGE_PIN:
    case YK_CHANGE_VERIFY:
        return -YK_EAGAIN;
    default:
        return -YK_EINVAL;
    }
}

int yk_store_change(struct yk_store *s, uint32_t ns, uint64_t epoch, unsigned what, uint64_t arg,
                    const void *key, uint32_t key_len) {
    uint32_t idx;
    int rc = yk_store_ns_check(s, ns);
    if (rc < 0)
        return rc;
    if (key_len == 0 || key_len > YK_KEY_MAX)
        return -YK_EKEY;
    if (what == YK_CHANGE_REMOVE)
        yk_store_ssd_await_gone(s);
    rc = yk_store_find_any(s, ns, epoch, key, key_len, &idx);
    if (rc == 0 && YK_IS_ON_SSD(idx))
        return change_on_ssd(s, idx & ~YK_ON_SSD, what, arg);
    if (rc != 0) {
        if (what == YK_CHANGE_REMOVE) /* that it is gone is said when it cannot come back */
            yk_store_ssd_await(s, ns, yk_hash_key(ns, key, key_len));
        return rc;
    }
    switch (what) {
    case YK_CHANGE_REMOVE:
        yk_store_retire(s, idx, RETIRE_REMOVED, 0);
        return 0;
    case YK_CHANGE_TOUCH:
        yk_store_access(s, idx);
        return 0;
    case YK_CHANGE_PIN:
        yk_store_demote_undo(s, idx);
        return pin(s, rest_at(s, idx), arg);
    case YK_CHANGE_UNPIN:
        return unpin(s, rest_at(s, idx));
    case YK_CHANGE_EXPIRE:
        return expire(s, idx, arg);
    case YK_CHANGE_VERIFY:
        return judge(s, idx, payload_good(s, idx));
    default:
        return -YK_EINVAL;
    }
}

uint32_t yk_store_desc_top(const struct yk_store *s) {
    uint32_t top = s->own.hdr->desc_top;
    return top < s->own.layout.max_blocks ? top : s->own.layout.max_blocks;
}

const void *yk_store_key(const struct yk_store *s, uint32_t idx, struct yk_key_room *room,
                         uint32_t *ret_len) {
    if (YK_IS_ON_SSD(idx))
        return yk_ssd_key(s->low->ssd, idx & ~YK_ON_SSD, ret_len);
    *ret_len = desc_at(s, idx)->key_len;
    return yk_owner_key(&s->own, idx, room);
}

/* Does [set] at p (after the bracket) hold c? Moves *p past the closing bracket; 0 for an unclosed
 * set, which then matches nothing. */
static int glob_set(const unsigned char **p, const unsigned char *end, unsigned char c) {
    const unsigned char *q = *p;
    int negate = q < end && (*q == '!' || *q == '^');
    int hit = 0;
    q += negate;
    for (int first = 1; q < end && (*q != ']' || first); first = 0) {
        unsigned char lo = *q++;
        unsigned char hi = lo;
        if (q + 1 < end && *q == '-' && q[1] != ']') {
            hi = q[1];
            q += 2;
        }
        hit |= lo <= c && c <= hi;
    }
    if (q >= end)
        return 0;
    *p = q + 1;
    return hit != negate;
}

int yk_glob_match(const void *pattern, size_t pattern_len, const void *text, size_t text_len) {
    const unsigned char *p = pattern, *pe = p + pattern_len;
    const unsigned char *t = text, *te = t + text_len;
    const unsigned char *star = NULL, *star_t = NULL;
    /* One step back to the last star is enough: an earlier one can't do better. */
    while (t < te) {
        const unsigned char *next = p + 1;
        int ok = 0;
        if (p < pe && *p == '*') {
            star = p++;
            star_t = t;
            continue;
        }
        if (p < pe && *p == '[')
            ok = glob_set(&next, pe, *t);
        else if (p < pe && *p == '\\' && p + 1 < pe)
            ok = *next++ == *t;
        else if (p < pe)
            ok = *p == '?' || *p == *t;
        if (ok) {
            p = next;
            t++;
        } else if (star != NULL) {
            p = star + 1;
            t = ++star_t;
        } else {
            return 0;
        }
    }
    while (p < pe && *p == '*')
        p++;
    return p == pe;
}

static int key_selected(const struct yk_store *s, uint32_t idx, unsigned how, const void *pattern,
                        uint32_t pattern_len) {
    uint32_t len;
    struct yk_key_room room;
    const void *key = yk_store_key(s, idx, &room, &len);
    if (key == NULL)
        return 0;
    if (how == YK_REMOVE_ALL)
        return 1;
    if (how == YK_REMOVE_PREFIX)
        return len >= pattern_len && (pattern_len == 0 || memcmp(key, pattern, pattern_len) == 0);
    return yk_glob_match(pattern, pattern_len, key, len);
}

void yk_store_walk_next(struct yk_store *s, uint32_t *cursor, uint32_t *ret_idx) {
    *ret_idx = YK_SHM_NONE;
    if (!YK_IS_ON_SSD(*cursor)) {
        if (*cursor < yk_store_desc_top(s))
            *ret_idx = (*cursor)++;
        if (*cursor >= yk_store_desc_top(s))
            *cursor = s->low != NULL ? YK_ON_SSD : YK_WALK_END;
        return;
    }
    uint32_t id = *cursor & ~YK_ON_SSD, top = s->low != NULL ? yk_ssd_top(s->low->ssd) : 0;
    if (id < top) {
        if (yk_ssd_live(s->low->ssd, id))
            *ret_idx = id | YK_ON_SSD;
        ++*cursor;
    }
    if (id + 1u >= top)
        *cursor = YK_WALK_END;
}

int yk_store_walk_facts(const struct yk_store *s, uint32_t idx, uint32_t *ret_ns, uint64_t *ret_epoch,
                        uint64_t *ret_expiry) {
    if (YK_IS_ON_SSD(idx)) {
        struct yk_ssd_info i;
        yk_ssd_info_get(s->low->ssd, idx & ~YK_ON_SSD, &i);
        *ret_ns = i.ns;
        *ret_epoch = yk_store_ns_epoch(s, i.ns);
        *ret_expiry = i.expiry_ms;
        return 1;
    }
    const struct yk_desc *d = desc_at(s, idx);
    *ret_ns = d->ns;
    *ret_epoch = d->epoch;
    *ret_expiry = d->expiry_ms;
    return desc_live(d);
}

uint64_t yk_store_remove_step(struct yk_store *s, uint32_t ns, unsigned how, const void *pattern,
                              uint32_t pattern_len, uint32_t *cursor, uint32_t steps) {
    uint64_t removed = 0, epoch, expiry;
    uint32_t idx, of;
    for (; steps > 0 && *cursor != YK_WALK_END; steps--) {
        yk_store_walk_next(s, cursor, &idx);
        if (idx == YK_SHM_NONE || !yk_store_walk_facts(s, idx, &of, &epoch, &expiry) || of != ns ||
            !key_selected(s, idx, how, pattern, pattern_len))
            continue;
        if (YK_IS_ON_SSD(idx)) {
            yk_store_ssd_remove(s, idx & ~YK_ON_SSD);
            COUNT(s, removed);
        } else {
            yk_store_retire(s, idx, RETIRE_REMOVED, 0);
        }
        removed++;
    }
    if (*cursor == YK_WALK_END) {
        yk_store_ssd_await_any(s); /* what the tier dropped itself was not met, and may match */
        yk_store_ssd_await_gone(s);
    }
    return removed;
}

int yk_store_also_in_dram(struct yk_store *s, uint32_t idx, uint32_t ns, uint64_t epoch) {
    uint32_t len, other;
    struct yk_key_room room;
    const void *key = yk_store_key(s, idx, &room, &len);
    return YK_IS_ON_SSD(idx) && key != NULL && yk_store_find(s, ns, epoch, key, len, &other) == 0;
}

int yk_store_list_next(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *prefix,
                       uint32_t prefix_len, uint32_t *cursor, uint32_t *steps, uint32_t *ret_idx) {
    uint64_t now = yk_view_now_ms(&s->view), is, expiry;
    uint32_t idx, of;
    for (; *steps > 0 && *cursor != YK_WALK_END; --*steps) {
        yk_store_walk_next(s, cursor, &idx);
        if (idx == YK_SHM_NONE || !yk_store_walk_facts(s, idx, &of, &is, &expiry) || of != ns ||
            is != epoch || (expiry != 0 && expiry <= now) ||
            !key_selected(s, idx, YK_REMOVE_PREFIX, prefix, prefix_len) ||
            yk_store_also_in_dram(s, idx, ns, epoch))
            continue;
        *ret_idx = idx;
        return 1;
    }
    return 0;
}
