/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks come up from SSD: those that somebody waits for, those that are fetched ahead (by clients, or as predicted:
 * ahead.c), and, after a start with an empty DRAM tier, the most valuable ones (preload.c).
 *
 * The read goes straight into a place in DRAM, reserved for the node itself. What comes out is a
 * SUSPECT descriptor, so that its first user verifies the payload while copying it; the owner thread
 * touches no payload. A block that turns out to be rotten is dropped in both tiers.
 *
 * A fetch that finds no place in DRAM, or too many reads under way, waits in one of two lists until its
 * deadline. The rest is tried only when no demand waits; what was fetched ahead and is demanded meanwhile
 * goes to the end of the demand. Deadlines hold wherever in its list a fetch stands. One block is fetched
 * once, however many ask for it.
 */
#include "node/ssd_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

/* Of a fetch that names no deadline, and of others than demand at most, so that hints do not gather. */
#define WAIT_NS (5ull * 1000000000ull)

int ssd_raise_init(struct yk_store *s) {
    struct ssd_side *l = s->low;
    l->fetches = calloc(FETCHES_MAX, sizeof(*l->fetches));
    if (l->fetches == NULL)
        return -YK_ENOMEM;
    l->waiting_due_ns = UINT64_MAX;
    for (uint32_t i = FETCHES_MAX; i-- > 0;) {
        l->fetches[i].next = l->fetch_free;
        l->fetch_free = i + 1u;
    }
    return 0;
}

void ssd_raise_fini(struct yk_store *s) {
    struct ssd_side *l = s->low;
    for (uint32_t i = 0; l->fetches != NULL && i < FETCHES_MAX; i++)
        if (l->fetches[i].tokens != l->fetches[i].few)
            free(l->fetches[i].tokens);
    free(l->fetches);
    ssd_preload_end(l);
}

/* ---- the table of fetches ------------------------------------------------------------------------- */

static uint32_t *bucket_of(struct ssd_side *l, uint64_t hash) {
    return &l->buckets[hash % FETCH_BUCKETS];
}

static struct fetch *fetch_find(struct ssd_side *l, uint32_t ns, uint64_t hash, const void *key,
                                uint32_t key_len) {
    for (uint32_t link = *bucket_of(l, hash); link != 0; link = l->fetches[link - 1u].next) {
        struct fetch *f = &l->fetches[link - 1u];
        if (f->hash == hash && f->ns == ns && f->key_len == key_len &&
            memcmp(f->key, key, key_len) == 0)
            return f;
    }
    return NULL;
}

static uint32_t number(const struct ssd_side *l, const struct fetch *f) {
    return (uint32_t)(f - l->fetches);
}

static int token_add(struct fetch *f, uint64_t token) {
    if (token == 0)
        return 0;
    if (f->token_count == f->token_cap) {
        uint64_t *p = malloc(2u * f->token_cap * sizeof(*p));
        if (p == NULL)
            return -YK_ENOMEM;
        memcpy(p, f->tokens, f->token_count * sizeof(*p));
        if (f->tokens != f->few)
            free(f->tokens);
        f->tokens = p;
        f->token_cap *= 2u;
    }
    f->tokens[f->token_count++] = token;
    return 0;
}

static struct fetch_list *list_of(struct ssd_side *l, const struct fetch *f) {
    return &l->waiting[f->prio != YK_SSD_PRIO_DEMAND];
}

static int waits_before(const struct ssd_side *l, unsigned prio) {
    return l->waiting[0].head != 0 || (prio != YK_SSD_PRIO_DEMAND && l->waiting[1].head != 0);
}

static void waiting_add(struct ssd_side *l, struct fetch *f) {
    struct fetch_list *list = list_of(l, f);
    uint32_t link = number(l, f) + 1u;
    f->state = FETCH_WAITING;
    f->next_waiting = 0;
    f->prev_waiting = list->tail;
    if (list->tail != 0)
        l->fetches[list->tail - 1u].next_waiting = link;
    else
        list->head = link;
    list->tail = link;
    if (f->deadline_ns < l->waiting_due_ns)
        l->waiting_due_ns = f->deadline_ns;
}

static void waiting_remove(struct ssd_side *l, struct fetch *f) {
    struct fetch_list *list = list_of(l, f);
    if (f->prev_waiting != 0)
        l->fetches[f->prev_waiting - 1u].next_waiting = f->next_waiting;
    else
        list->head = f->next_waiting;
    if (f->next_waiting != 0)
        l->fetches[f->next_waiting - 1u].prev_waiting = f->prev_waiting;
    else
        list->tail = f->prev_waiting;
}

static void set_prio(struct ssd_side *l, struct fetch *f, unsigned prio) {
    l->demand_count += (prio == YK_SSD_PRIO_DEMAND) - (f->prio == YK_SSD_PRIO_DEMAND);
    f->prio = (uint8_t)prio;
}

/* Another asks for it, too. */
static void fetch_join(struct ssd_side *l, struct fetch *f, unsigned prio, uint64_t deadline_ns) {
    if (deadline_ns > f->deadline_ns)
        f->deadline_ns = deadline_ns;
    if (prio >= f->prio)
        return;
    int waits = f->state == FETCH_WAITING;
    if (waits)
        waiting_remove(l, f);
    set_prio(l, f, prio);
    if (waits)
        waiting_add(l, f);
}

static struct fetch *fetch_new(struct yk_store *s, uint32_t ns, uint64_t hash, const void *key,
                               uint32_t key_len, unsigned prio) {
    struct ssd_side *l = s->low;
    if (l->fetch_free == 0)
        return NULL;
    struct fetch *f = &l->fetches[l->fetch_free - 1u];
    l->fetch_free = f->next;
    memset(f, 0, offsetof(struct fetch, key));
    memcpy(f->key, key, key_len);
    f->key_len = (uint8_t)key_len;
    f->ns = ns;
    f->hash = hash;
    f->prio = (uint8_t)prio;
    l->demand_count += prio == YK_SSD_PRIO_DEMAND;
    f->tokens = f->few;
    f->token_cap = RAISE_TOKENS;
    f->next = *bucket_of(l, hash);
    *bucket_of(l, hash) = number(l, f) + 1u;
    l->fetch_count++;
    COUNT(s, raising);
    return f;
}

/* Over, well or not: whoever waits looks again. The fetch is free before they are told, since they may
 * ask for the same block again. */
static void fetch_end(struct yk_store *s, struct fetch *f) {
    struct ssd_side *l = s->low;
    uint64_t *tokens = f->tokens, few[RAISE_TOKENS];
    uint32_t n = f->token_count;
    uint32_t *link = bucket_of(l, f->hash);
    memcpy(few, f->few, sizeof(few));
    while (*link != 0 && *link != number(l, f) + 1u)
        link = &l->fetches[*link - 1u].next;
    if (*link != 0)
        *link = f->next;
    int heap = tokens != f->few;
    f->tokens = f->few;
    f->state = FETCH_FREE;
    f->next = l->fetch_free;
    l->fetch_free = number(l, f) + 1u;
    l->fetch_count--;
    l->demand_count -= f->prio == YK_SSD_PRIO_DEMAND;
    COUNT_SUB(s, raising, 1);
    for (uint32_t i = 0; i < n && l->raised != NULL; i++)
        l->raised(l->arg, heap ? tokens[i] : few[i]);
    if (heap)
        free(tokens);
}

/* ---- reads ------------------------------------------------------------------------------------------ */

/* Begins the read. 0; YK_MISS: the block is gone; -YK_EAGAIN: no place or no turn now. */
static int fetch_start(struct yk_store *s, struct fetch *f) {
    struct ssd_side *l = s->low;
    struct yk_ssd_info info;
    uint32_t id;
    if (f->ns >= YK_SHM_NAMESPACES || s->own.ns[f->ns].epoch != f->epoch ||
        yk_store_ssd_find(s, f->ns, f->hash, f->key, f->key_len, &id) != 0)
        return YK_MISS;
    yk_ssd_info_get(l->ssd, id, &info);
    f->used = info.used;
    int rc = yk_store_reserve(s, 0, info.len, &f->place, NULL);
    if (rc < 0)
        return rc == -YK_ENOSPC ? -YK_EAGAIN : YK_MISS;
    f->id = id;
    f->sum = info.sum;
    f->len = info.len;
    f->begun_ns = yk_now_ns();
    rc = yk_ssd_read(l->ssd, id, (unsigned char *)s->seg.data + f->place.offset, f->prio,
                     number(l, f));
    if (rc < 0) {
        yk_store_abort(s, 0, f->place.idx, f->place.gen);
        COUNT_SUB(s, aborts, 1);
        return rc == -YK_EAGAIN ? rc : YK_MISS;
    }
    f->state = FETCH_READING;
    yk_ssd_touch(l->ssd, id);
    return 0;
}

/* A block in DRAM whose hash ends in this half, or YK_SHM_NONE. */
static uint32_t by_half(const struct yk_store *s, uint32_t ns, uint32_t half) {
    struct yk_index_cursor cursor = {0};
    uint32_t idx;
    while (yk_index_next_any(&s->index, half, &cursor, &idx)) {
        const struct yk_desc *d = desc_at(s, idx);
        if (desc_live(d) && d->ns == ns && (uint32_t)d->hash == half)
            return idx;
    }
    return YK_SHM_NONE;
}

const void *ssd_parent(struct yk_store *s, const struct yk_ssd_info *info, struct yk_key_room *room,
                       uint32_t *ret_len) {
    const void *key = NULL;
    uint32_t id;
    *ret_len = 0;
    if (info->parent_hash == 0)
        return NULL;
    uint32_t idx = by_half(s, info->ns, info->parent_hash);
    if (idx != YK_SHM_NONE) {
        key = yk_owner_key(&s->own, idx, room);
        *ret_len = desc_at(s, idx)->key_len;
    } else if (yk_ssd_by_half(s->low->ssd, info->ns, info->parent_hash, &id) == 0) {
        key = yk_ssd_key(s->low->ssd, id, ret_len);
    }
    if (key == NULL)
        *ret_len = 0;
    return key;
}

static int two_wait(const struct fetch *f) {
    for (uint32_t i = 1; i < f->token_count; i++)
        if (f->tokens[i] != f->tokens[0])
            return 1;
    return 0;
}

/* Who fetched it ahead is about to use it, and two who wait are two uses. Without a block here there is no
 * policy to ask, and room. */
static int deserves_it(const struct yk_store *s, const struct fetch *f) {
    const struct yk_policy *p = s->shares[f->ns].policy;
    return f->preload || f->prio != YK_SSD_PRIO_DEMAND || p == NULL || two_wait(f) ||
           yk_policy_rises(p, f->hash, f->used);
}

int yk_store_guest_leaves(struct yk_store *s, uint32_t idx) {
    if (!(*mark_of(s, idx) & MARK_GUEST))
        return 0;
    *mark_of(s, idx) = (uint8_t)((*mark_of(s, idx) & ~MARK_GUEST) | MARK_YIELDS);
    struct yk_policy *p = yk_store_policy_of(s, idx);
    if (p == NULL || yk_policy_yield(p, idx) != 0)
        return 0;
    COUNT(s, yielded);
    return 1;
}

static enum arrival arrival(const struct fetch *f) {
    if (f->token_count > 0 || f->prio == YK_SSD_PRIO_DEMAND)
        return ARRIVES_USED;
    return f->preload ? ARRIVES_FOUND : ARRIVES_AHEAD;
}

/* The bytes are in place: they become a block, unless what they are of has changed meanwhile. */
static int publish(struct yk_store *s, struct fetch *f) {
    struct ssd_side *l = s->low;
    struct yk_ssd_info info;
    uint32_t id, other;
    if (s->own.ns[f->ns].epoch != f->epoch ||
        yk_store_find(s, f->ns, f->epoch, f->key, f->key_len, &other) == 0 ||
        yk_store_ssd_find(s, f->ns, f->hash, f->key, f->key_len, &id) != 0 || id != f->id)
        return YK_MISS;
    if (f->ahead && f->token_count == 0 && !ssd_ahead_wanted(s, f->ns, f->hash))
        return YK_MISS;
    yk_ssd_info_get(l->ssd, id, &info);
    if (info.sum != f->sum || info.len != f->len)
        return YK_MISS;
    struct yk_key_room room;
    struct yk_commit c = {
        .idx = f->place.idx,
        .gen = f->place.gen,
        .sum = f->sum,
        .len = (uint32_t)f->len,
        .epoch = f->epoch,
        .attrs = {.depth_tokens = info.depth_tokens,
                  .length_tokens = info.length_tokens,
                  .model = info.model,
                  .session = info.session,
                  .kind = info.kind},
        .key = f->key,
        .key_len = f->key_len,
    };
    c.parent = ssd_parent(s, &info, &room, &c.parent_len);
    int rises = deserves_it(s, f); /* before its insert, which the policy remembers */
    s->arrives = (uint8_t)arrival(f);
    int rc = yk_store_commit_raised(s, f->ns, f->hash, &c, info.expiry_ms);
    s->arrives = ARRIVES_USED;
    if (rc < 0)
        return rc;
    yk_store_copy_set(s, f->place.idx, id + 1u);
    *mark_of(s, f->place.idx) = rises ? MARK_FETCHED : MARK_FETCHED | MARK_GUEST;
    COUNT(s, unverified_blocks);
    return 0;
}

static void count_raised(struct yk_store *s, const struct fetch *f) {
    COUNT(s, raised);
    COUNT_ADD(s, raised_bytes, f->len);
    if (f->token_count > 0) {
        struct yk_ns_lookups *n = &s->shares[f->ns].n;
        COUNT(s, ssd_hits);
        STORE(&n->ssd_hits, n->ssd_hits + 1);
        COUNT_ADD(s, ssd_hit_bytes, f->len);
    } else if (f->preload) {
        COUNT(s, preloaded);
        COUNT_ADD(s, preloaded_bytes, f->len);
    } else {
        COUNT(s, prefetched);
    }
}

void ssd_on_read(void *arg, uint64_t cookie, int status) {
    struct yk_store *s = arg;
    struct fetch *f = &s->low->fetches[cookie];
    int rc = status == 0 ? publish(s, f) : status;
    if (rc == 0) {
        count_raised(s, f);
        if (f->preload && s->low->preloaded != NULL)
            s->low->preloaded[s->low->preloaded_count++] = f->place.idx;
    } else {
        if (rc < 0)
            COUNT(s, raise_failed);
        yk_store_abort(s, 0, f->place.idx, f->place.gen);
        COUNT_SUB(s, aborts, 1);
    }
    if (f->ahead)
        ssd_ahead_ended(s, f, rc);
    fetch_end(s, f);
}

/* Begins or queues it. The fetch may be over when this returns only if it was never begun. */
static void fetch_go(struct yk_store *s, struct fetch *f) {
    int rc = waits_before(s->low, f->prio) ? -YK_EAGAIN : fetch_start(s, f);
    if (rc != 0)
        waiting_add(s->low, f); /* what is gone ends from there, after its caller has its answer */
}

int yk_store_raise(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key,
                   uint32_t key_len, unsigned prio, uint64_t deadline_ns, uint64_t token) {
    uint32_t idx;
    if (key_len == 0 || key_len > YK_KEY_MAX)
        return -YK_EKEY;
    int rc = yk_store_find_any(s, ns, epoch, key, key_len, &idx);
    if (rc != 0 || !YK_IS_ON_SSD(idx))
        return rc;
    struct ssd_side *l = s->low;
    uint64_t hash = yk_hash_key(ns, key, key_len), most = yk_now_ns() + WAIT_NS;
    if (deadline_ns == 0 || (prio != YK_SSD_PRIO_DEMAND && deadline_ns > most))
        deadline_ns = most;
    struct fetch *f = fetch_find(l, ns, hash, key, key_len);
    if (f != NULL) {
        fetch_join(l, f, prio, deadline_ns);
        rc = token_add(f, token);
        return rc < 0 ? rc : YK_PENDING;
    }
    f = fetch_new(s, ns, hash, key, key_len, prio);
    if (f == NULL)
        return -YK_EAGAIN;
    f->epoch = epoch;
    f->deadline_ns = deadline_ns;
    token_add(f, token);
    fetch_go(s, f);
    return YK_PENDING;
}

/* A fetch of an entry that nobody has asked for: NULL, and *ret_rc as ssd_fetch_ahead. */
static struct fetch *fetch_unasked(struct yk_store *s, uint32_t id, int *ret_rc) {
    struct ssd_side *l = s->low;
    struct yk_ssd_info info;
    uint32_t key_len, idx;
    *ret_rc = YK_MISS;
    if (!yk_ssd_live(l->ssd, id))
        return NULL;
    const void *key = yk_ssd_key(l->ssd, id, &key_len);
    yk_ssd_info_get(l->ssd, id, &info);
    uint64_t hash = yk_hash_key(info.ns, key, key_len), epoch = s->own.ns[info.ns].epoch;
    if (yk_store_find(s, info.ns, epoch, key, key_len, &idx) == 0 ||
        fetch_find(l, info.ns, hash, key, key_len) != NULL)
        return NULL;
    struct fetch *f = fetch_new(s, info.ns, hash, key, key_len, YK_SSD_PRIO_PREFETCH);
    *ret_rc = f != NULL ? 0 : -YK_EAGAIN;
    if (f == NULL)
        return NULL;
    f->epoch = epoch;
    f->deadline_ns = yk_now_ns() + WAIT_NS;
    return f;
}

int ssd_fetch_ahead(struct yk_store *s, uint32_t id) {
    int rc;
    struct fetch *f = fetch_unasked(s, id, &rc);
    if (f == NULL)
        return rc;
    rc = fetch_start(s, f);
    f->ahead = rc == 0;
    if (rc != 0)
        fetch_end(s, f);
    return rc;
}

int ssd_fetch_preload(struct yk_store *s, uint32_t id) {
    int rc;
    struct fetch *f = fetch_unasked(s, id, &rc);
    if (f == NULL)
        return rc;
    f->preload = 1;
    fetch_go(s, f);
    return 0;
}

/* Begins what can be begun, in order. 1: the one at the head finds no place, and the rest waits behind. */
static int list_start(struct yk_store *s, struct fetch_list *list) {
    struct ssd_side *l = s->low;
    while (list->head != 0) {
        struct fetch *f = &l->fetches[list->head - 1u];
        int rc = fetch_start(s, f);
        if (rc == -YK_EAGAIN)
            return 1;
        waiting_remove(l, f);
        if (rc != 0)
            fetch_end(s, f);
    }
    return 0;
}

/* Ends those whose time is over. They are all looked at (FETCHES_MAX at most), but only when one is due. */
static void waiting_expire(struct yk_store *s) {
    struct ssd_side *l = s->low;
    uint64_t now = yk_now_ns();
    if (now < l->waiting_due_ns)
        return;
    l->waiting_due_ns = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        for (uint32_t link = l->waiting[i].head, next; link != 0; link = next) {
            struct fetch *f = &l->fetches[link - 1u];
            next = f->next_waiting;
            if (now < f->deadline_ns) {
                if (f->deadline_ns < l->waiting_due_ns)
                    l->waiting_due_ns = f->deadline_ns;
                continue;
            }
            waiting_remove(l, f);
            COUNT(s, raise_failed);
            fetch_end(s, f);
        }
    }
}

void ssd_raise_pump(struct yk_store *s) {
    struct ssd_side *l = s->low;
    if (waits_before(l, YK_SSD_PRIO_PREFETCH)) {
        if (!list_start(s, &l->waiting[0]))
            list_start(s, &l->waiting[1]);
        waiting_expire(s);
    }
    ssd_ahead_pump(s);
    ssd_preload_step(s);
}
