/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks go down to SSD: those that a policy has chosen to leave DRAM, and, where everything is written
 * through, those that were put. The states are in ssd_priv.h.
 *
 * A chosen block leaves its policy at once, so that what the policies decide does not depend on how
 * fast a device is, and waits in a queue for its turn to be written. It is found in DRAM meanwhile.
 * The queue has room for every block: what bounds it is that reclaim counts what is leaving as free
 * soon and chooses no more than it needs, and puts wait for space (R4's waiters).
 */
#include "node/ssd_priv.h"

#include "base/clock.h"

#include <stdlib.h>

#define HURRY_MAX 256u /* blocks that one waiting put may drop at a time, beside those that are queued */

int ssd_demote_init(struct yk_store *s) {
    struct ssd_side *l = s->low;
    uint32_t size = 1024;
    while (size <= s->own.layout.max_blocks && size < 1u << 31)
        size *= 2;
    l->queue = calloc(size, sizeof(*l->queue));
    l->queue_mask = size - 1u;
    l->demotions = calloc(DEMOTIONS_MAX, sizeof(*l->demotions));
    if (l->queue == NULL || l->demotions == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = DEMOTIONS_MAX; i-- > 0;) {
        l->demotions[i].next_free = l->demotion_free;
        l->demotion_free = i + 1u;
    }
    return 0;
}

static void queue_push(struct yk_store *s, uint32_t idx) {
    struct ssd_side *l = s->low;
    if (l->queue_tail - l->queue_head > l->queue_mask) /* stale places fill it: cannot be, but R5 */
        return;
    l->queue[l->queue_tail++ & l->queue_mask] = idx;
    *mark_of(s, idx) |= MARK_QUEUED;
    l->queue_bytes += desc_at(s, idx)->len;
}

static void unqueue(struct yk_store *s, uint32_t idx) {
    struct ssd_side *l = s->low;
    uint64_t len = desc_at(s, idx)->len;
    *mark_of(s, idx) &= (uint8_t)~MARK_QUEUED;
    l->queue_bytes -= len < l->queue_bytes ? len : l->queue_bytes;
}

static void stay(struct yk_store *s, uint32_t idx) {
    if (!(*mark_of(s, idx) & MARK_LEAVING))
        return;
    *mark_of(s, idx) &= (uint8_t)~MARK_LEAVING;
    COUNT_SUB(s, leaving_blocks, 1);
    COUNT_SUB(s, leaving_bytes, rest_at(s, idx)->cap);
    if (in_slow(s, idx))
        bytes_sub(&s->slow_leaving_bytes, rest_at(s, idx)->cap);
}

static void leave(struct yk_store *s, uint32_t idx) {
    *mark_of(s, idx) |= MARK_LEAVING;
    COUNT(s, leaving_blocks);
    COUNT_ADD(s, leaving_bytes, rest_at(s, idx)->cap);
    if (in_slow(s, idx))
        s->slow_leaving_bytes += rest_at(s, idx)->cap;
    yk_store_share_drop(s, idx, 1);
}

/* Is its copy there already? Its entry is used then: it is what is left of the block, with the block's expiry.
 * Nobody waits for that here: who was told of an expiry was told when both tiers had it. */
static int has_copy(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    const struct yk_rest *rest = rest_at(s, idx);
    struct yk_key_room room;
    const void *key = yk_owner_key(&s->own, idx, &room);
    struct yk_ssd_info info;
    uint32_t id;
    if (key == NULL || yk_store_ssd_find(s, d->ns, d->hash, key, d->key_len, &id) != 0)
        return 0;
    yk_ssd_info_get(s->low->ssd, id, &info);
    yk_ssd_touch(s->low->ssd, id);
    if (!info.written || info.sum != rest->sum || info.len != d->len)
        return 0;
    if (info.expiry_ms != d->expiry_ms)
        yk_ssd_expire(s->low->ssd, id, d->expiry_ms, yk_owner_gen(&s->own));
    return yk_ssd_live(s->low->ssd, id);
}

static int worth_it(const struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at((struct yk_store *)(uintptr_t)s, idx);
    uint64_t expiry = LOAD(&d->expiry_ms);
    if (d->ns >= YK_SHM_NAMESPACES || s->own.ns[d->ns].epoch != d->epoch ||
        (expiry != 0 && expiry <= yk_view_now_ms(&s->view)) || (s->marks[idx] & MARK_COPY))
        return 0;
    struct yk_policy_leaving leaving = {.used = (s->marks[idx] & MARK_USED) != 0};
    return s->low->admit->admits(&leaving);
}

/* Can it be written at all, now or later? */
static int writable(const struct yk_store *s, uint64_t len) {
    int rc = yk_ssd_may_put(s->low->ssd, len);
    return rc == 0 || rc == -YK_EAGAIN;
}

int yk_store_demote(struct yk_store *s, uint32_t idx) {
    if (s->low == NULL)
        return 0;
    if (s->hurrying) {
        COUNT(s, demote_hurried);
        return 0;
    }
    uint8_t m = *mark_of(s, idx);
    if (m & MARK_LEAVING)
        return 1;
    if (!(m & (MARK_QUEUED | MARK_WRITING))) {
        if (!yk_owner_desc_sane(&s->own, idx, 1))
            return 0;
        int copy = has_copy(s, idx);
        if (copy && LOAD(&rest_at(s, idx)->children) == 0)
            return 0;
        if (!copy && !worth_it(s, idx)) {
            COUNT(s, demote_refused);
            return 0;
        }
        if (!copy && !writable(s, desc_at(s, idx)->len))
            return 0;
        queue_push(s, idx); /* with a copy, too: its children are before it in the queue, and may stay yet */
    }
    leave(s, idx);
    ssd_demote_pump(s);
    return 1;
}

void ssd_write_down(struct yk_store *s, uint32_t idx) {
    if (!(*mark_of(s, idx) & (MARK_QUEUED | MARK_WRITING)) &&
        yk_owner_desc_sane(&s->own, idx, 1) && !has_copy(s, idx) && worth_it(s, idx) &&
        writable(s, desc_at(s, idx)->len))
        queue_push(s, idx);
}

void yk_store_write_through(struct yk_store *s, uint32_t idx) {
    if (s->low == NULL || s->low->opts.when != YK_SSD_WRITE_THROUGH ||
        (*mark_of(s, idx) & (MARK_QUEUED | MARK_WRITING)) || has_copy(s, idx) ||
        !writable(s, desc_at(s, idx)->len))
        return;
    queue_push(s, idx);
    ssd_demote_pump(s);
}

int yk_store_demote_undo(struct yk_store *s, uint32_t idx) {
    if (s->low == NULL || !(*mark_of(s, idx) & MARK_LEAVING))
        return 0;
    /* Its write goes on: what was chosen once is likely to be chosen again. */
    if (yk_store_share_add(s, idx, 0) < 0)
        return 0; /* it leaves, then */
    stay(s, idx);
    has_copy(s, idx); /* which is used, too */
    while (s->capacity_blocks != 0 && s->n.blocks > s->capacity_blocks)
        if (yk_store_evict_one(s, YK_SHM_NONE, RETIRE_CAPACITY) != 0)
            break;
    return 1;
}

void yk_store_demote_forget(struct yk_store *s, uint32_t idx) {
    if (s->marks == NULL)
        return;
    stay(s, idx);
    if (*mark_of(s, idx) & MARK_QUEUED)
        unqueue(s, idx);
    if (*mark_of(s, idx) & MARK_FETCHED)
        COUNT_SUB(s, unverified_blocks, 1);
    *mark_of(s, idx) &= MARK_WRITING; /* its demotion still names it */
}

/* The parent by its key (which may stand in room), as long as it is the block that the child was linked
 * to. */
static void fill_parent(struct yk_store *s, const struct yk_rest *rest, struct yk_key_room *room,
                        struct yk_ssd_put *put) {
    if (rest->parent >= s->own.layout.max_blocks)
        return;
    const struct yk_desc *p = desc_at(s, rest->parent);
    const void *key = yk_owner_key(&s->own, rest->parent, room);
    if (rest_at(s, rest->parent)->birth != rest->parent_birth || !desc_live(p) || key == NULL)
        return;
    put->parent = key;
    put->parent_len = p->key_len;
    put->parent_hash = (uint32_t)p->hash;
}

/* A key has one entry. 0: it has none now; -YK_EAGAIN: one whose write is under way, whatever becomes of it. */
static int make_way(struct yk_store *s, const struct yk_desc *d, const void *key) {
    struct yk_ssd_info info;
    uint32_t id;
    if (key == NULL || yk_store_ssd_find(s, d->ns, d->hash, key, d->key_len, &id) != 0)
        return 0;
    yk_ssd_info_get(s->low->ssd, id, &info);
    if (!info.written)
        return -YK_EAGAIN;
    yk_ssd_remove(s->low->ssd, id, yk_owner_gen(&s->own));
    return 0;
}

/* Memory that a device works on cannot be freed, however long it takes. */
static uint64_t writing_max(const struct yk_store *s) {
    return s->seg.layout.data_bytes / 4u;
}

/* Begins the write of a block. 0; -YK_EAGAIN not now; other failures: not at all. */
static int begin(struct yk_store *s, uint32_t idx) {
    struct ssd_side *l = s->low;
    const struct yk_desc *d = desc_at(s, idx);
    const struct yk_rest *rest = rest_at(s, idx);
    struct yk_key_room room, parent_room;
    const void *key = yk_owner_key(&s->own, idx, &room);
    int rc = yk_ssd_may_put(l->ssd, d->len);
    yk_store_copy_set(s, idx, 0);
    if (rc == 0)
        rc = make_way(s, d, key);
    if (rc < 0)
        return rc;
    if (l->demotion_free == 0 || (l->writing_bytes > 0 && l->writing_bytes + d->len > writing_max(s)))
        return -YK_EAGAIN;
    int hold = yk_store_hold(s, idx);
    if (hold < 0)
        return -YK_EAGAIN;
    uint32_t at = l->demotion_free - 1u;
    struct yk_ssd_put put = {
        .ns = d->ns,
        .key = key,
        .key_len = d->key_len,
        .hash = d->hash,
        .gen = YK_WORD_GEN(d->word),
        .sum = rest->sum,
        .len = d->len,
        .expiry_ms = d->expiry_ms,
        .session = rest->session,
        .depth_tokens = rest->depth_tokens,
        .length_tokens = rest->length_tokens,
        .model = rest->model,
        .kind = d->kind,
        .prio = YK_SSD_PRIO_BACKGROUND,
        .payload = yk_store_payload(s, idx),
        .cookie = at,
    };
    fill_parent(s, rest, &parent_room, &put);
    struct demotion *m = &l->demotions[at];
    uint32_t id;
    rc = yk_ssd_put(l->ssd, &put, &id);
    if (rc < 0) {
        yk_store_unhold(s, hold);
        return rc;
    }
    l->demotion_free = m->next_free;
    l->demotion_count++;
    *m = (struct demotion){.idx = idx, .birth = rest->birth, .id = id, .hold = hold, .len = d->len};
    l->writing_bytes += d->len;
    *mark_of(s, idx) |= MARK_WRITING;
    return 0;
}

/* What cannot be written is not kept waiting: it leaves as if there were no SSD. */
static void give_up(struct yk_store *s, uint32_t idx) {
    COUNT(s, demote_failed);
    if (*mark_of(s, idx) & MARK_LEAVING)
        yk_store_retire(s, idx, RETIRE_SPACE, 0);
}

void ssd_demote_pump(struct yk_store *s) {
    struct ssd_side *l = s->low;
    while (l->queue_head != l->queue_tail) {
        uint32_t idx = l->queue[l->queue_head & l->queue_mask];
        uint8_t m = *mark_of(s, idx);
        if (!(m & MARK_QUEUED) || !desc_live(desc_at(s, idx))) {
            l->queue_head++;
            continue;
        }
        /* Still the predecessor's write under this number: its hazard goes first. */
        int rc = m & MARK_WRITING ? -YK_EAGAIN : has_copy(s, idx) ? 1 : begin(s, idx);
        if (rc == -YK_EAGAIN)
            return;
        l->queue_head++;
        unqueue(s, idx);
        if (rc < 0)
            give_up(s, idx);
        else if (rc == 1 && (*mark_of(s, idx) & MARK_LEAVING))
            yk_store_retire(s, idx, RETIRE_SPACE, 0);
    }
}

/* Its block has left DRAM, and may have been told to be on SSD. */
static void entry_failed(struct yk_store *s, uint32_t id) {
    struct yk_ssd_info info;
    uint32_t len;
    const void *key = yk_ssd_key(s->low->ssd, id, &len);
    yk_ssd_info_get(s->low->ssd, id, &info);
    if (key != NULL)
        yk_store_tell_key(s, info.ns, key, len, NULL, 0);
}

/* Those that are queued and leave, until so many bytes of DRAM are free (the put waits for those), and no more than as
 * many of slow memory, which what sinks needs. Returns those of DRAM. */
static uint64_t drop_queued(struct yk_store *s, uint64_t len) {
    struct ssd_side *l = s->low;
    uint64_t freed = 0, slow_freed = 0;
    for (uint32_t at = l->queue_head; at != l->queue_tail && freed < len; at++) {
        uint32_t idx = l->queue[at & l->queue_mask];
        uint8_t m = *mark_of(s, idx);
        if ((m & (MARK_QUEUED | MARK_LEAVING | MARK_WRITING)) != (MARK_QUEUED | MARK_LEAVING) ||
            !desc_live(desc_at(s, idx)))
            continue;
        uint64_t *sum = in_slow(s, idx) ? &slow_freed : &freed;
        if (*sum >= len)
            continue;
        *sum += rest_at(s, idx)->cap;
        COUNT(s, demote_hurried);
        yk_store_retire(s, idx, RETIRE_SPACE, 0); /* which takes it off the queue; the pump skips its place */
    }
    return freed;
}

void yk_store_ssd_hurry(struct yk_store *s, uint64_t len) {
    if (s->low == NULL && s->cxl == NULL)
        return;
    uint64_t freed = s->low != NULL ? drop_queued(s, len) : 0;
    s->hurrying = 1;
    if (freed < len)
        yk_store_evict_bytes(s, len - freed, HURRY_MAX);
    s->hurrying = 0;
    yk_store_scan(s);
}

void ssd_on_put(void *arg, uint32_t id, uint64_t cookie, int status) {
    struct yk_store *s = arg;
    struct ssd_side *l = s->low;
    struct demotion *m = &l->demotions[cookie];
    struct demotion was = *m;
    struct yk_desc *d = desc_at(s, was.idx);
    struct yk_rest *rest = rest_at(s, was.idx);
    m->next_free = l->demotion_free;
    l->demotion_free = (uint32_t)cookie + 1u;
    l->demotion_count--;
    l->writing_bytes -= was.len;
    yk_store_unhold(s, was.hold);
    *mark_of(s, was.idx) &= (uint8_t)~MARK_WRITING;
    if (!desc_live(d) || rest->birth != was.birth) {
        if (status < 0 && yk_store_tells(s))
            entry_failed(s, id);
        return; /* removed meanwhile; the hazard kept its bytes */
    }
    if (status < 0) {
        give_up(s, was.idx);
        return;
    }
    COUNT(s, demoted);
    COUNT_ADD(s, demoted_bytes, d->len);
    yk_store_copy_set(s, was.idx, id + 1u);
    if (*mark_of(s, was.idx) & MARK_LEAVING)
        yk_store_retire(s, was.idx, RETIRE_SPACE, 0);
}
