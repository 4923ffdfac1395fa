/* SPDX-License-Identifier: Apache-2.0
 *
 * What a restart makes of a segment: the descriptors are the truth, all else is rebuilt (R5).
 *
 * One pass over the descriptors ever used:
 *   FREE               onto the free list
 *   COMMITTED, SUSPECT kept if its sums agree, its epoch is the namespace's, it has not expired and
 *                      no younger block has its key; SUSPECT after an unclean stop
 *   MOVING             as COMMITTED: the sums tell whether its offset is whole
 *   RESERVED           kept for its client if that process is alive; a connection's is free
 *   RETIRED            free, unless a hazard of a living client names it: then limbo
 *   what is not kept   retired like any block, since living clients may read it all the while
 * A second pass counts children. The index is rebuilt in the other of the two areas and then
 * published, while clients may still be reading the old one; the free lists of key cells and the
 * allocator's slots are what no descriptor claims.
 *
 * Policies start in the order of births: the best guess that survives, but for one that learns, which knows them again
 * (store_learned.c). A block is in the range that its offset says, whichever step of a move between the two a kill has
 * hit.
 */
#include "node/ssd_priv.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

struct recovery {
    struct yk_store *s;
    uint64_t *key_used; /* bitmap of granules */
    uint32_t *kept;     /* descriptors that live on, then sorted by birth */
    uint32_t kept_count;
    uint64_t now_ms;
    int unclean;
};

static void clients_recover(struct yk_store *s) {
    for (uint32_t slot = 1; slot < s->own.layout.max_clients; slot++) {
        struct yk_client_owner *o = &s->own.owners[slot];
        if (o->cookie == 0)
            continue;
        if (yk_process_alive(o->pid, o->start_time)) {
            yk_store_client_activate(s, slot);
            memcpy(s->clients[slot].seen, s->own.pages[slot].counters,
                   sizeof(s->clients[slot].seen));
        } else {
            o->cookie = 0;
            o->pid = 0;
            yk_owner_page_reset(&s->own, slot);
        }
    }
    /* Slot 0 is this process: whatever its predecessor held is over. */
    yk_owner_page_reset(&s->own, 0);
    yk_store_client_activate(s, 0);
    s->hold_used[0] = 1ull << YK_HAZARD_SCRUB;
    s->own.pages[0].hazard_top = YK_HAZARD_SCRUB + 1u;
}

void yk_store_namespaces_recover(struct yk_store *s) {
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++) {
        struct yk_ns_entry *e = &s->own.ns[i];
        if (e->state == 0)
            continue;
        if (e->state != 1 || e->sum != yk_ns_entry_sum(e)) {
            e->epoch = UINT64_MAX; /* its blocks go in the pass; see namespaces_free */
            continue;
        }
        if (e->epoch_copy > e->epoch)
            e->epoch = e->epoch_copy;
        e->epoch_copy = e->epoch;
    }
}

/* A removed namespace whose blocks are gone: its number is free again, unless a client that lives
 * may still look things up under it. */
static void namespaces_free(struct yk_store *s) {
    if (s->slot_count > 1)
        return;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
        if (s->own.ns[i].epoch == UINT64_MAX)
            memset(&s->own.ns[i], 0, sizeof(s->own.ns[i]));
}

static void key_mark(struct recovery *r, const struct yk_desc *d) {
    uint32_t end = d->key_cell + yk_cell_granules(yk_key_tail(d->key_len));
    for (uint32_t g = d->key_cell; g < end; g++)
        r->key_used[g >> 6] |= 1ull << (g & 63u);
}

static int key_taken(const struct recovery *r, const struct yk_desc *d) {
    uint32_t end = d->key_cell + yk_cell_granules(yk_key_tail(d->key_len));
    for (uint32_t g = d->key_cell; g < end; g++)
        if (g >= r->s->own.hdr->key_top || (r->key_used[g >> 6] >> (g & 63u)) & 1u)
            return 1;
    return 0;
}

static void to_free(struct recovery *r, uint32_t idx) {
    desc_at(r->s, idx)->key_len = 0;
    yk_owner_desc_give(&r->s->own, idx);
}

/* Found dead: free at once, unless a living client that pinned it before its death still reads. */
static void dead_recover(struct recovery *r, uint32_t idx) {
    struct yk_store *s = r->s;
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    if (!yk_owner_named(&s->own, idx) || !yk_owner_desc_sane(&s->own, idx, 0) ||
        yk_store_place_claim(s, rest->offset, rest->cap) < 0) {
        to_free(r, idx);
        return;
    }
    d->key_len = 0; /* the cell is not claimed: nobody compares the key of a retired block */
    limbo_push(s, idx);
}

/* Was readable until now, so that a reader may pin it at any moment through the old index: it goes
 * by the common rule, retire first and scan (behind a fence of its own) later. claimed: its memory
 * is; otherwise it is claimed here, or, if its place can't be believed, left out. */
static void drop(struct recovery *r, uint32_t idx, int claimed) {
    struct yk_store *s = r->s;
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    COUNT(s, recovery_dropped);
    desc_publish(d, YK_WORD(yk_owner_gen(&s->own), YK_DESC_RETIRED));
    __atomic_thread_fence(__ATOMIC_RELEASE); /* as limbo_push, for the fields below */
    if (!claimed && (!yk_owner_desc_sane(&s->own, idx, 0) ||
                     yk_store_place_claim(s, rest->offset, rest->cap) < 0))
        STORE(&rest->cap, 0u);
    if (!claimed)
        STORE(&d->key_len, (uint8_t)0);
    limbo_push(s, idx);
}

static void reserved_recover(struct recovery *r, uint32_t idx) {
    struct yk_store *s = r->s;
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    if (!yk_owner_desc_sane(&s->own, idx, 0) || rest->owner == 0 ||
        rest->owner >= s->own.layout.max_clients || !s->clients[rest->owner].active ||
        yk_store_place_claim(s, rest->offset, rest->cap) < 0) {
        to_free(r, idx);
        return;
    }
    d->key_len = 0;
    yk_store_reservation_link(s, idx);
}

/* The descriptor with the same key that this recovery kept already, or YK_SHM_NONE. */
static uint32_t twin(const struct recovery *r, const struct yk_desc *d, const void *key) {
    const struct yk_store *s = r->s;
    struct yk_index_cursor cur = {NULL, 0, 0};
    uint32_t idx;
    while (yk_index_next(&s->index, d->hash, &cur, &idx)) {
        const struct yk_desc *o = desc_at(s, idx);
        if (o->hash == d->hash && o->ns == d->ns && yk_owner_key_is(&s->own, idx, key, d->key_len))
            return idx;
    }
    return YK_SHM_NONE;
}

static int keepable(const struct recovery *r, uint32_t idx) {
    const struct yk_store *s = r->s;
    const struct yk_desc *d = desc_at(s, idx);
    return yk_owner_desc_sane(&s->own, idx, 1) && s->own.ns[d->ns].state == 1 &&
           s->own.ns[d->ns].epoch == d->epoch && (d->expiry_ms == 0 || d->expiry_ms > r->now_ms) &&
           !key_taken(r, d);
}

static void committed_recover(struct recovery *r, uint32_t idx) {
    struct yk_store *s = r->s;
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    uint64_t gen = YK_WORD_GEN(d->word);
    uint32_t other = YK_SHM_NONE;
    struct yk_key_room room;
    int keep = keepable(r, idx);
    if (keep) {
        other = twin(r, d, yk_owner_key(&s->own, idx, &room));
        keep = other == YK_SHM_NONE || YK_WORD_GEN(desc_at(s, other)->word) < gen;
    }
    if (!keep || yk_store_place_claim(s, rest->offset, rest->cap) < 0) {
        drop(r, idx, 0);
        return;
    }
    key_mark(r, d);
    if (other != YK_SHM_NONE) {
        yk_index_replace(&s->index, d->hash, other, idx);
        drop(r, other, 1);
    } else if (yk_index_insert(&s->index, d->hash, idx) < 0) {
        drop(r, idx, 1);
        return;
    }
    rest->children = 0;
    unsigned state = r->unclean ? YK_DESC_SUSPECT : YK_WORD_STATE(d->word);
    if (state == YK_DESC_MOVING)
        state = YK_DESC_SUSPECT;
    desc_publish(d,
                 YK_WORD(gen, state)); /* the generation stays: of twins the younger wins again */
    r->kept[r->kept_count++] = idx;
}

static void pass_descriptors(struct recovery *r) {
    struct yk_store *s = r->s;
    uint32_t top = yk_store_desc_top(s);
    for (uint32_t idx = 0; idx < top; idx++) {
        if (idx % 256u == 0)
            yk_store_back_tables(s); /* the index outgrows what it began with */
        if (idx + 8 < top) {
            __builtin_prefetch(desc_at(s, idx + 8));
            __builtin_prefetch(&rest_at(s, idx + 8)->ident_sum);
        }
        if (idx + 4 < top)
            yk_index_prefetch(&s->index, desc_at(s, idx + 4)->hash);
        switch (YK_WORD_STATE(desc_at(s, idx)->word)) {
        case YK_DESC_RESERVED:
            reserved_recover(r, idx);
            break;
        case YK_DESC_COMMITTED:
        case YK_DESC_SUSPECT:
        case YK_DESC_MOVING:
            committed_recover(r, idx);
            break;
        case YK_DESC_FREE:
            to_free(r, idx);
            break;
        default:
            dead_recover(r, idx);
            break;
        }
    }
}

/* By births, oldest first; births are 32 bits of a 56-bit counter, so compared around the newest.
 */
struct birth {
    uint32_t age;
    uint32_t idx;
};

static int birth_cmp(const void *a, const void *b) {
    const struct birth *x = a, *y = b;
    return x->age > y->age ? -1 : x->age < y->age;
}

static int pass_shares(struct recovery *r) {
    struct yk_store *s = r->s;
    struct birth *order = malloc(((size_t)r->kept_count + 1u) * sizeof(*order));
    if (order == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < r->kept_count; i++)
        order[i] =
            (struct birth){(uint32_t)s->own.gen_next - rest_at(s, r->kept[i])->birth, r->kept[i]};
    qsort(order, r->kept_count, sizeof(*order), birth_cmp);
    for (uint32_t i = 0; i < r->kept_count; i++) {
        struct yk_desc *d = desc_at(s, order[i].idx);
        struct yk_rest *rest = rest_at(s, order[i].idx);
        if (!desc_live(d))
            continue; /* a twin that left */
        if (rest->parent < s->own.layout.max_blocks) {
            struct yk_rest *parent = rest_at(s, rest->parent);
            if (desc_live(desc_at(s, rest->parent)) && parent->birth == rest->parent_birth)
                parent->children++;
        }
        STORE(&rest->ssd, 0u); /* of the last run; see below */
        if (yk_store_share_add(s, order[i].idx, 0) < 0)
            continue;
        yk_store_ssd_link(s, order[i].idx);
        yk_store_expiry_seen(s, d->expiry_ms);
        if (rest->pin_until_ms == YK_PIN_HARD)
            COUNT_ADD(s, hard_pinned_bytes, rest->cap);
        if (YK_WORD_STATE(d->word) == YK_DESC_SUSPECT)
            COUNT(s, suspect_blocks);
        COUNT(s, recovered);
    }
    free(order);
    return 0;
}

/* The new index area becomes the one; readers that are inside the old one notice at their next look
 * at `active`. Release: everything built above is seen by who sees the new value. */
static void publish(struct yk_store *s, unsigned area) {
    uint64_t inc = (s->own.hdr->active >> 1) + 1u;
    __atomic_store_n(&s->own.hdr->active, inc << 1 | area, __ATOMIC_RELEASE);
}

int yk_store_recover(struct yk_store *s, struct yk_err *err) {
    uint64_t t0 = yk_now_ns();
    struct recovery r = {.s = s, .unclean = s->seg.found == YK_SEGMENT_UNCLEAN};
    unsigned area = (unsigned)(s->own.hdr->active & 1u) ^ 1u;
    uint32_t top = yk_store_desc_top(s);
    if (s->own.hdr->key_top > s->own.layout.max_key_granules)
        s->own.hdr->key_top = s->own.layout.max_key_granules;
    s->own.hdr->desc_top = top;
    r.now_ms = yk_view_now_ms(&s->view);
    r.key_used = calloc((size_t)s->own.hdr->key_top / 64u + 2u, sizeof(uint64_t));
    r.kept = malloc(((size_t)top + 1u) * sizeof(uint32_t));
    int rc = r.key_used != NULL && r.kept != NULL ? 0 : -YK_ENOMEM;
    if (rc == 0)
        rc = yk_segment_index_zero(&s->seg, area);
    if (rc == 0)
        rc = yk_store_back_index(s, area, top);
    if (rc == 0) {
        clients_recover(s);
        yk_owner_hazards_collect(&s->own, s->slots, s->slot_count);
        pass_descriptors(&r);
        yk_owner_hazards_clear(&s->own);
        __atomic_thread_fence(__ATOMIC_RELEASE); /* words before the links in freed key cells */
        yk_owner_keys_rebuild(&s->own, r.key_used);
        yk_alloc_recover_done(s->alloc);
        yk_store_cxl_recovered(s);
        namespaces_free(s);
        s->recovering = 1;
        rc = pass_shares(&r);
        s->recovering = 0;
        yk_store_learned_found(s);
    }
    if (rc == 0) {
        publish(s, area);
        yk_segment_index_zero(&s->seg, area ^ 1u);
        yk_store_scan(s);
    }
    free(r.key_used);
    free(r.kept);
    STORE(&s->n.recovery_us, (yk_now_ns() - t0) / 1000u);
    return rc < 0 ? yk_err_set(err, rc, "no memory for the recovery of %u blocks", top) : 0;
}
