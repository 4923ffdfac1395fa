/* SPDX-License-Identifier: Apache-2.0
 *
 * What the block table does for the cluster (pool.h): says what it has, takes in copies of other nodes' blocks,
 * shows where its own are, removes.
 *
 * What is told of a key is worked out anew each time that something about it has changed, from both tiers as they
 * stand then, and by the same look that a walk takes: so it does not matter in which order the tiers let go of
 * it, nor that the SSD tier tells of its losses some time after they happened. Rejected: to tell each event as
 * what it is ("left DRAM"), which makes whoever listens put the two tiers together, and a late "gone" undo a put.
 *
 * Threads: the owner's.
 */
#include "node/cxl_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <string.h>

const char *const yk_local_copies_names[] = {"reused", "always", "never", NULL};

/* ---- telling ------------------------------------------------------------------------------------ */

/* For a block on SSD alone: there is no other number of it that is kept. */
static uint64_t gen_of_bytes(uint64_t sum) {
    return YK_POOL_GEN_SSD | sum >> 1;
}

static const void *dram_parent(const struct yk_store *s, const struct yk_rest *rest,
                               struct yk_key_room *room, uint32_t *ret_len) {
    *ret_len = 0;
    if (rest->parent >= s->own.layout.max_blocks || !desc_live(desc_at(s, rest->parent)) ||
        rest_at(s, rest->parent)->birth != rest->parent_birth)
        return NULL;
    const void *key = yk_owner_key(&s->own, rest->parent, room);
    *ret_len = key != NULL ? desc_at(s, rest->parent)->key_len : 0;
    return key;
}

/* Fills in what is known of a block that was found; the parent's key may stand in room. */
static void block_fill(struct yk_store *s, uint32_t idx, struct yk_key_room *room,
                       struct yk_pool_block *b) {
    yk_block_info info;
    yk_store_info(s, idx, &info);
    b->len = info.len;
    b->sum = info.checksum;
    b->tiers = (uint8_t)info.tiers;
    if (YK_IS_ON_SSD(idx)) {
        struct yk_ssd_info i;
        yk_ssd_info_get(s->low->ssd, idx & ~YK_ON_SSD, &i);
        b->gen = gen_of_bytes(i.sum);
        b->parent = ssd_parent(s, &i, room, &b->parent_len);
        return;
    }
    b->gen = info.generation;
    if (in_slow(s, idx)) /* peers read it as they read DRAM */
        b->tiers = (uint8_t)((b->tiers & ~(1u << YK_TIER_CXL)) | 1u << YK_TIER_DRAM);
    b->value = yk_policy_value(in_slow(s, idx) ? s->cxl->space : s->space, idx);
    b->used = s->marks != NULL && (*mark_of(s, idx) & MARK_USED) != 0;
    b->copies = desc_at(s, idx)->copies;
    b->parent = dram_parent(s, rest_at(s, idx), room, &b->parent_len);
    b->guest = s->marks != NULL && (*mark_of(s, idx) & MARK_COPY) != 0;
}

static void name_fill(const struct yk_store *s, uint32_t ns, struct yk_pool_block *b) {
    const struct yk_ns_entry *e = &s->own.ns[ns];
    b->ns = e->name;
    b->ns_len = (uint32_t)strnlen(e->name, sizeof(e->name));
}

void yk_store_tell_key(struct yk_store *s, uint32_t ns, const void *key, uint32_t key_len,
                       const void *parent, uint32_t parent_len) {
    struct yk_pool_block b = {.key = key, .key_len = key_len};
    struct yk_key_room room;
    uint32_t idx, now = ns;
    if (!yk_store_tells(s) || ns >= YK_SHM_NAMESPACES)
        return;
    name_fill(s, ns, &b);
    /* A namespace that was removed is swept while another of its name may have the key. */
    if (yk_store_ns_check(s, ns) < 0 && yk_store_ns_open(s, b.ns, b.ns_len, 0, &now, NULL) < 0)
        now = ns;
    b.epoch = yk_store_ns_epoch(s, now);
    if (yk_store_find_any(s, now, b.epoch, key, key_len, &idx) == 0)
        block_fill(s, idx, &room, &b);
    if (parent_len > 0) {
        b.parent = parent;
        b.parent_len = parent_len;
    }
    s->pool.changed(s->pool.arg, &b);
}

void yk_store_tell(struct yk_store *s, uint32_t idx) {
    struct yk_key_room room;
    const void *key = yk_owner_key(&s->own, idx, &room);
    if (key != NULL) /* or somebody wrote into the meta file: the pool keeps a location that no reader finds */
        yk_store_tell_key(s, desc_at(s, idx)->ns, key, desc_at(s, idx)->key_len, NULL, 0);
}

void yk_store_pool_walk(struct yk_store *s, uint32_t *cursor, uint32_t steps,
                        void (*fn)(void *arg, const struct yk_pool_block *block), void *arg) {
    uint64_t now_ms = yk_view_now_ms(&s->view), epoch, expiry;
    uint32_t idx, ns;
    for (; steps > 0 && *cursor != YK_WALK_END; steps--) {
        yk_store_walk_next(s, cursor, &idx);
        if (idx == YK_SHM_NONE || !yk_store_walk_facts(s, idx, &ns, &epoch, &expiry) ||
            yk_store_ns_check(s, ns) < 0 || yk_store_ns_epoch(s, ns) != epoch ||
            (expiry != 0 && expiry <= now_ms))
            continue;
        struct yk_pool_block b = {.epoch = epoch};
        struct yk_key_room room, parent;
        uint32_t in_dram;
        b.key = yk_store_key(s, idx, &room, &b.key_len);
        if (b.key == NULL)
            continue;
        /* It may have come up behind the walk: it is told from here, too. */
        if (YK_IS_ON_SSD(idx) && yk_store_find(s, ns, epoch, b.key, b.key_len, &in_dram) == 0)
            idx = in_dram;
        name_fill(s, ns, &b);
        block_fill(s, idx, &parent, &b);
        fn(arg, &b);
    }
}

/* ---- copies of other nodes' blocks --------------------------------------------------------------- */

/* However much is brought, clients have places to put into: but for one at a time it has a part of what may be reserved
 * and pinned in all (R4). */
#define POOL_SHARE_DIV 4u

int yk_store_pool_reserve(struct yk_store *s, uint64_t len, struct yk_place *ret_place, void **ret_addr) {
    if (s->pool_bytes != 0 && s->pool_bytes + len > s->held_max / POOL_SHARE_DIV)
        return -YK_ENOSPC;
    int rc = yk_store_reserve(s, 0, len, ret_place, NULL);
    if (rc < 0)
        return rc;
    s->pool_bytes += rest_at(s, ret_place->idx)->cap;
    *ret_addr = (unsigned char *)s->seg.data + ret_place->offset;
    return 0;
}

/* The place is about to be over, if it is not. */
static void place_uncount(struct yk_store *s, uint32_t idx, uint64_t gen) {
    if (idx < s->own.layout.max_blocks && desc_at(s, idx)->word == YK_WORD(gen, YK_DESC_RESERVED))
        s->pool_bytes -= rest_at(s, idx)->cap;
}

int yk_store_pool_commit(struct yk_store *s, uint32_t ns, const struct yk_commit *commit,
                         uint64_t left_ms, int guest) {
    struct yk_commit c = *commit;
    uint64_t expiry_ms = left_ms == 0 ? 0 : yk_view_now_ms(&s->view) + left_ms;
    c.attrs.flags &= YK_ATTR_WITH_COPIES(15u); /* a pin holds where it was made */
    c.attrs.ttl_ms = c.attrs.pin_ms = 0;
    place_uncount(s, c.idx, c.gen);
    int rc = yk_store_commit_copy(s, ns, &c, expiry_ms);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (guest && s->local_copies == YK_LOCAL_ALWAYS) {
        guest = 0;
        COUNT(s, copies_kept);
    }
    *mark_of(s, c.idx) = guest ? MARK_FETCHED | MARK_GUEST | MARK_COPY : MARK_FETCHED;
    COUNT(s, unverified_blocks);
    COUNT(s, copies);
    COUNT_ADD(s, copy_bytes, c.len);
    yk_store_tell_key(s, ns, c.key, c.key_len, c.parent, c.parent_len);
    if (!guest && s->low != NULL)
        yk_store_write_through(s, c.idx);
    return 0;
}

void yk_store_pool_abort(struct yk_store *s, const struct yk_place *place) {
    place_uncount(s, place->idx, place->gen);
    yk_store_abort(s, 0, place->idx, place->gen);
}

static int has_gen(const struct yk_store *s, uint32_t idx, uint64_t gen) {
    return gen == 0 || YK_WORD_GEN(desc_at(s, idx)->word) == gen ||
           gen_of_bytes(rest_at(s, idx)->sum) == gen;
}

void yk_store_pool_marks(const struct yk_store *s, uint32_t idx, int *ret_guest, uint32_t *ret_copies) {
    int there = !YK_IS_ON_SSD(idx);
    *ret_guest = there && s->marks != NULL && (s->marks[idx] & MARK_COPY) != 0;
    *ret_copies = there ? desc_at(s, idx)->copies : 0;
}

int yk_store_pool_keep(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                       uint32_t copies, uint64_t *ret_gen) {
    uint32_t idx;
    if (ret_gen != NULL)
        *ret_gen = 0;
    if (key_len == 0 || key_len > YK_KEY_MAX || yk_store_find_any(s, ns, epoch, key, key_len, &idx) != 0)
        return YK_MISS;
    if (YK_IS_ON_SSD(idx))
        return 0; /* that is never a guest, and has no place for the number */
    struct yk_desc *d = desc_at(s, idx);
    int guest = (*mark_of(s, idx) & (MARK_COPY | MARK_GUEST)) != 0;
    if (ret_gen != NULL)
        *ret_gen = YK_WORD_GEN(d->word);
    if (!guest && d->copies >= copies)
        return 0;
    if (d->copies < copies)
        STORE(&d->copies, (uint8_t)copies);
    *mark_of(s, idx) &= (uint8_t) ~(MARK_COPY | MARK_GUEST);
    if (guest && (*mark_of(s, idx) & MARK_YIELDS)) { /* it was to go first */
        *mark_of(s, idx) &= (uint8_t)~MARK_YIELDS;
        yk_store_policy_access(s, idx);
    }
    yk_store_tell(s, idx);
    if (guest)
        yk_store_write_through(s, idx);
    return 0;
}

int yk_store_pool_lend(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                       uint64_t gen) {
    uint32_t idx;
    if (gen == 0 || key_len == 0 || key_len > YK_KEY_MAX || yk_store_find(s, ns, epoch, key, key_len, &idx) != 0 ||
        !has_gen(s, idx, gen))
        return YK_MISS;
    if (rest_at(s, idx)->pin_until_ms != 0 || (*mark_of(s, idx) & (MARK_QUEUED | MARK_WRITING | MARK_LEAVING)))
        return 0; /* it stays as it is: one copy too many */
    *mark_of(s, idx) |= MARK_COPY | MARK_GUEST;
    yk_store_guest_leaves(s, idx); /* nobody waits for it */
    yk_store_tell(s, idx);
    return 0;
}

int yk_store_pool_leave(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                        uint64_t gen) {
    uint32_t idx;
    uint64_t ticket; /* that it is gone over a crash is not waited for: it would be one copy too many */
    if (gen == 0 || key_len == 0 || key_len > YK_KEY_MAX || yk_store_find_any(s, ns, epoch, key, key_len, &idx) != 0)
        return YK_MISS;
    if (!YK_IS_ON_SSD(idx) && rest_at(s, idx)->pin_until_ms != 0)
        return -YK_EBUSY;
    int rc = yk_store_pool_remove(s, ns, key, key_len, gen, &ticket);
    return rc == YK_MISS ? -YK_EAGAIN : rc; /* it was found above: as another generation */
}

/* ---- own blocks for others ----------------------------------------------------------------------- */

static void copy_fill(struct yk_store *s, uint32_t idx, struct yk_pool_copy *to) {
    const struct yk_rest *rest = rest_at(s, idx);
    struct yk_key_room room;
    uint64_t now_ms = yk_view_now_ms(&s->view);
    yk_block_info info;
    yk_store_info(s, idx, &info);
    *to = (struct yk_pool_copy){
        .idx = idx,
        .gen = info.generation,
        .offset = rest->offset,
        .len = info.len,
        .sum = info.checksum,
        .epoch = info.epoch,
        .left_ms = info.expiry_ms == 0 ? 0 : info.expiry_ms > now_ms ? info.expiry_ms - now_ms : 1,
        .attrs = {.flags = YK_ATTR_WITH_COPIES(desc_at(s, idx)->copies),
                  .depth_tokens = info.depth_tokens,
                  .length_tokens = info.length_tokens,
                  .model = info.model,
                  .session = info.session,
                  .kind = (uint8_t)info.kind},
    };
    const void *parent = dram_parent(s, rest, &room, &to->parent_len);
    if (parent != NULL)
        memcpy(to->parent, parent, to->parent_len);
}

int yk_store_pool_locate(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key,
                         uint32_t key_len, struct yk_pool_copy *ret_copy) {
    uint32_t idx;
    if (__atomic_load_n(&s->seg.lost, __ATOMIC_ACQUIRE) || key_len == 0 || key_len > YK_KEY_MAX ||
        yk_store_ns_check(s, ns) < 0 ||
        yk_store_find_any(s, ns, epoch, key, key_len, &idx) != 0)
        return YK_MISS;
    if (YK_IS_ON_SSD(idx)) {
        int rc = yk_store_raise(s, ns, epoch, key, key_len, YK_SSD_PRIO_DEMAND, 0, 0);
        return rc == YK_MISS ? rc : YK_PENDING;
    }
    if (yk_store_settle(s, idx) != 0) /* a guarded request does not read what is not verified */
        return YK_MISS;
    yk_store_access(s, idx);
    if (yk_store_find(s, ns, epoch, key, key_len, &idx) != 0)
        return YK_MISS;
    copy_fill(s, idx, ret_copy);
    return 0;
}

static int remove_on_ssd(struct yk_store *s, uint32_t id, uint64_t gen) {
    struct yk_ssd_info info;
    yk_ssd_info_get(s->low->ssd, id, &info);
    if (gen != 0 && gen_of_bytes(info.sum) != gen)
        return YK_MISS;
    yk_store_ssd_remove(s, id);
    COUNT(s, removed);
    return 0;
}

int yk_store_pool_remove(struct yk_store *s, uint32_t ns, const void *key, uint32_t key_len,
                         uint64_t gen, uint64_t *ret_ticket) {
    uint32_t at;
    int rc = yk_store_ns_check(s, ns);
    if (rc == 0 && (key_len == 0 || key_len > YK_KEY_MAX))
        rc = -YK_EKEY;
    if (rc < 0)
        return rc;
    uint64_t hash = yk_hash_key(ns, key, key_len);
    yk_store_ssd_await_gone(s);
    rc = YK_MISS;
    if (yk_store_standing(s, hash, ns, key, key_len, &at) == 0 && has_gen(s, at, gen)) {
        yk_store_retire(s, at, RETIRE_REMOVED, 0); /* and its copy */
        rc = 0;
    } else if (yk_store_ssd_find(s, ns, hash, key, key_len, &at) == 0) {
        rc = remove_on_ssd(s, at, gen);
    }
    if (rc == YK_MISS) /* that it is gone is said when it cannot come back */
        yk_store_ssd_await(s, ns, hash);
    *ret_ticket = yk_store_ticket_take(s);
    return rc;
}

uint64_t yk_store_pool_dropped(struct yk_store *s) {
    yk_store_ssd_await_any(s);
    yk_store_ssd_await_gone(s);
    return yk_store_ticket_take(s);
}
