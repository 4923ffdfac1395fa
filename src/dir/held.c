/* SPDX-License-Identifier: Apache-2.0
 *
 * What this node holds: blocks, by slot (held.h, held_priv.h).
 *
 * Threads: pure; one caller at a time.
 */
#include "dir/held_priv.h"
#include "dir/digest_priv.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(BLOCK_BYTES == 60, "what held.h says");
_Static_assert(BLOCK_BYTES + 255 <= YK_SLAB_RECORD_MAX, "the largest record");
_Static_assert(offsetof(struct block, hash) == offsetof(struct yk_chain_link, hash), "chain_priv.h");

#define NO_SLOT 0xffffffffu

int yk_dir_held_open(const struct yk_dir_held_opts *opts, struct yk_dir_held **ret_held) {
    struct yk_dir_held_opts o = opts != NULL ? *opts : (struct yk_dir_held_opts){0};
    struct yk_dir_held *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return -YK_ENOMEM;
    h->max_changes = o.max_changes == 0 ? 65536 : o.max_changes;
    h->max_total = o.max_total == 0 ? 1u << 20 : o.max_total;
    int rc = yk_slab_init(&h->slab, o.max_bytes == 0 ? 8ull << 30 : o.max_bytes);
    if (rc == 0 && (rc = yk_spaces_init(&h->spaces)) != 0)
        yk_slab_fini(&h->slab);
    if (rc != 0) {
        free(h);
        return rc;
    }
    *ret_held = h;
    return 0;
}

void yk_dir_held_close(struct yk_dir_held *h) {
    if (h == NULL)
        return;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        yk_chain_fini(&h->slot[i].home);
        yk_chain_fini(&h->slot[i].guest);
    }
    yk_spaces_fini(&h->spaces);
    yk_slab_fini(&h->slab);
    free(h);
}

/* ---- blocks ------------------------------------------------------------------------------------- */

static int block_is(struct block *b, uint64_t hash, uint32_t space, const struct yk_dir_key *key) {
    return b->hash == hash && b->space == space && b->key_len == key->key_len &&
           memcmp(block_key(b), key->key, key->key_len) == 0;
}

/* The one that is held; 0: none. */
static uint32_t block_find(const struct yk_dir_held *h, uint64_t hash, uint32_t space,
                           const struct yk_dir_key *key) {
    const uint32_t *head = yk_chain_head(&h->slot[yk_dir_slot_of(hash)].home, hash);
    uint32_t at = head != NULL ? *head : 0;
    while (at != 0) {
        struct block *b = block_at(h, at);
        if (b->tiers != 0 && block_is(b, hash, space, key))
            return at;
        at = b->next[HOME];
    }
    return 0;
}

/* One that is gone, but not yet told so, and was the same; *ret_hops: how far the list goes. */
static uint32_t block_find_gone(const struct yk_dir_held *h, uint64_t hash, uint32_t space,
                                const struct yk_dir_block *like, uint32_t *ret_hops) {
    const uint32_t *head = yk_chain_head(&h->slot[yk_dir_slot_of(hash)].home, hash);
    uint32_t at = head != NULL ? *head : 0;
    for (*ret_hops = 0; at != 0; ++*ret_hops) {
        struct block *b = block_at(h, at);
        if (b->tiers == 0 && block_is(b, hash, space, &like->key) && b->group == like->group &&
            b->sum == like->sum)
            return at;
        at = b->next[HOME];
    }
    return 0;
}

int block_twin(const struct yk_dir_held *h, const struct block *b, int gone) {
    const uint32_t *head = yk_chain_head(&h->slot[block_home(b)].home, b->hash);
    for (uint32_t at = head != NULL ? *head : 0; at != 0;) {
        const struct block *other = block_at(h, at);
        if (other != b && other->hash == b->hash && other->space == b->space && other->group == b->group &&
            other->sum == b->sum && (gone || other->tiers != 0))
            return 1;
        at = other->next[HOME];
    }
    return 0;
}

void block_release(struct yk_dir_held *h, uint32_t handle) {
    struct block *b = block_at(h, handle);
    if (b->tiers != 0 || b->change[HOME] != 0 || b->change[GUEST] != 0 || handle == h->busy)
        return;
    yk_chain_remove(&h->slot[block_home(b)].home, &h->slab, HOME, handle);
    if (block_abroad(b))
        yk_chain_remove(&h->slot[yk_dir_slot_of(b->group)].guest, &h->slab, GUEST, handle);
    yk_spaces_drop(&h->spaces, b->space);
    yk_slab_free(&h->slab, handle);
}

void block_tell(const struct yk_dir_held *h, struct block *b, struct yk_dir_block *ret) {
    const struct yk_space *space = h->spaces.at[b->space];
    *ret = (struct yk_dir_block){.key = {space->ns, space->ns_len, block_key(b), b->key_len},
                                 .group = b->group,
                                 .epoch = space->epoch,
                                 .gen = b->gen,
                                 .len = b->len,
                                 .sum = b->sum,
                                 .tiers = b->tiers};
}

/* Counts it in (by 1) or out (by -1). */
static void block_count(struct yk_dir_held *h, const struct block *b, int by) {
    struct held_slot *in = &h->slot[yk_dir_slot_of(b->group)], *home = &h->slot[block_home(b)];
    uint64_t digest = yk_digest_copy(b->hash, b->gen, b->tiers);
    in->entries += (uint64_t)(int64_t)by;
    h->blocks += (uint64_t)(int64_t)by;
    in->bytes += by > 0 ? (uint64_t)b->len : 0 - (uint64_t)b->len; /* a bit-field counts modulo its own width */
    in->digest += by > 0 ? digest : 0 - digest;
    if (!block_abroad(b) || block_twin(h, b, 0))
        return;
    digest = yk_digest_alias(b->hash, h->spaces.at[b->space]->epoch, b->group, b->sum);
    home->aliases += (uint64_t)(int64_t)by;
    home->digest += by > 0 ? digest : 0 - digest;
}

static void slots_add(uint32_t *slots, uint32_t slot) {
    if (slots[0] == NO_SLOT || slots[0] == slot)
        slots[0] = slot;
    else
        slots[1] = slot;
}

/* The slots that know of it are to be told. */
static void block_changed(struct yk_dir_held *h, uint32_t handle, int fresh, int alias_too, uint32_t *slots) {
    const struct block *b = block_at(h, handle);
    if (!block_abroad(b)) {
        slots_add(slots, change_note(h, handle, HOME, fresh));
        return;
    }
    slots_add(slots, change_note(h, handle, GUEST, fresh));
    if (alias_too)
        slots_add(slots, change_note(h, handle, HOME, fresh && !block_twin(h, b, 1)));
}

static void block_go(struct yk_dir_held *h, uint32_t handle, uint32_t *slots) {
    struct block *b = block_at(h, handle);
    block_count(h, b, -1);
    b->tiers = 0;
    h->busy = handle;
    block_changed(h, handle, 0, 1, slots);
    h->busy = 0;
    block_release(h, handle);
}

static void block_fill(struct block *b, const struct yk_dir_block *from) {
    b->gen = from->gen;
    b->len = from->len & (UINT64_MAX >> 8);
    b->tiers = from->tiers;
}

static uint32_t chain_hops(const struct yk_dir_held *h, const struct yk_chain *chain, unsigned which,
                           uint64_t hash) {
    uint32_t hops = 0;
    const uint32_t *head = yk_chain_head(chain, hash);
    for (uint32_t at = head != NULL ? *head : 0; at != 0; hops++)
        at = block_at(h, at)->next[which];
    return hops;
}

static int block_new(struct yk_dir_held *h, const struct yk_dir_block *from, uint64_t hash, uint32_t hops,
                     uint32_t *ret_handle) {
    struct held_slot *home = &h->slot[yk_dir_slot_of(hash)], *in = &h->slot[yk_dir_slot_of(from->group)];
    int abroad = home != in;
    uint16_t space;
    if (hops >= YK_CHAIN_LONGEST ||
        (abroad && chain_hops(h, &in->guest, GUEST, hash) >= YK_CHAIN_LONGEST))
        return -YK_ELIMIT;
    int rc = yk_spaces_take(&h->spaces, from->key.ns, from->key.ns_len, from->epoch, &space);
    if (rc != 0)
        return rc;
    uint32_t handle = yk_slab_alloc(&h->slab, BLOCK_BYTES + from->key.key_len);
    rc = -YK_ELIMIT;
    if (handle == 0)
        goto err_space;
    struct block *b = block_at(h, handle);
    memset(b, 0, BLOCK_BYTES); /* the record may be shorter than the struct */
    b->hash = hash;
    b->group = from->group;
    b->sum = from->sum;
    b->space = space;
    b->key_len = (uint8_t)from->key.key_len;
    memcpy(block_key(b), from->key.key, from->key.key_len);
    if ((rc = yk_chain_add(&home->home, &h->slab, HOME, handle)) != 0)
        goto err_block;
    if (abroad && (rc = yk_chain_add(&in->guest, &h->slab, GUEST, handle)) != 0)
        goto err_home;
    *ret_handle = handle;
    return 0;
err_home:
    yk_chain_remove(&home->home, &h->slab, HOME, handle);
err_block:
    yk_slab_free(&h->slab, handle);
err_space:
    yk_spaces_drop(&h->spaces, space);
    return rc;
}

static int block_come(struct yk_dir_held *h, const struct yk_dir_block *from, uint64_t hash, uint32_t space,
                      uint32_t *slots) {
    uint32_t hops, handle = block_find_gone(h, hash, space, from, &hops);
    int fresh = handle == 0;
    int rc = fresh ? block_new(h, from, hash, hops, &handle) : 0;
    if (rc == -YK_ELIMIT) { /* what is gone, and could not be told yet, must not keep out what is there */
        changes_drop(h, yk_dir_slot_of(hash));
        changes_drop(h, yk_dir_slot_of(from->group));
        space = yk_spaces_find(&h->spaces, from->key.ns, from->key.ns_len, from->epoch);
        (void)block_find_gone(h, hash, space, from, &hops);
        rc = block_new(h, from, hash, hops, &handle);
    }
    if (rc != 0)
        return rc;
    struct block *b = block_at(h, handle);
    block_fill(b, from);
    b->round = h->round;
    block_count(h, b, 1);
    block_changed(h, handle, fresh, 1, slots);
    return 0;
}

int yk_dir_held_set(struct yk_dir_held *h, const struct yk_dir_block *from, uint64_t hash, uint32_t *ret_slots) {
    uint32_t slots[2] = {NO_SLOT, NO_SLOT};
    int rc = 0;
    if (ret_slots != NULL)
        memcpy(ret_slots, slots, sizeof(slots));
    if (from->key.key_len == 0 || from->key.key_len > 255 || from->key.ns_len > YK_DIR_NS_MAX)
        return -YK_EINVAL;
    uint32_t space = yk_spaces_find(&h->spaces, from->key.ns, from->key.ns_len, from->epoch);
    uint32_t handle = block_find(h, hash, space, &from->key);
    struct block *b = handle != 0 ? block_at(h, handle) : NULL;
    if (b != NULL)
        b->round = h->round;
    if (from->tiers == 0) {
        if (b == NULL)
            return YK_MISS;
        block_go(h, handle, slots);
    } else if (b == NULL) {
        rc = block_come(h, from, hash, space, slots);
    } else if (b->group != from->group || b->sum != from->sum) {
        block_go(h, handle, slots);
        rc = block_come(h, from, hash, yk_spaces_find(&h->spaces, from->key.ns, from->key.ns_len, from->epoch),
                        slots);
    } else if (b->gen != from->gen || b->len != from->len || b->tiers != from->tiers) {
        block_count(h, b, -1);
        block_fill(b, from);
        block_count(h, b, 1);
        block_changed(h, handle, 0, 0, slots);
    }
    if (ret_slots != NULL)
        memcpy(ret_slots, slots, sizeof(slots));
    return rc;
}

/* The first of that key in another epoch; 0: none. */
static uint32_t block_of_other_epoch(const struct yk_dir_held *h, const struct yk_dir_key *key, uint64_t hash, uint64_t epoch) {
    const uint32_t *head = yk_chain_head(&h->slot[yk_dir_slot_of(hash)].home, hash);
    for (uint32_t at = head != NULL ? *head : 0; at != 0; at = block_at(h, at)->next[HOME]) {
        struct block *b = block_at(h, at);
        const struct yk_space *space = h->spaces.at[b->space];
        if (b->tiers != 0 && block_is(b, hash, b->space, key) && space->epoch != epoch &&
            space->ns_len == key->ns_len && memcmp(space->ns, key->ns, key->ns_len) == 0)
            return at;
    }
    return 0;
}

void yk_dir_held_only(struct yk_dir_held *h, const struct yk_dir_key *key, uint64_t hash, uint64_t epoch,
                      void (*changed)(void *arg, const uint32_t *slots), void *arg) {
    for (uint32_t at; (at = block_of_other_epoch(h, key, hash, epoch)) != 0;) {
        uint32_t slots[2] = {NO_SLOT, NO_SLOT};
        block_go(h, at, slots);
        changed(arg, slots);
    }
}

/* ---- what was lost ------------------------------------------------------------------------------ */

void yk_dir_held_round(struct yk_dir_held *h) {
    h->round++;
}

static uint32_t unseen_in(const struct yk_dir_held *h, uint32_t at) {
    while (at != 0 && (block_at(h, at)->tiers == 0 || block_at(h, at)->round == h->round))
        at = block_at(h, at)->next[HOME];
    return at;
}

/* From the bucket's beginning after each: what goes may be freed, and others with it. */
void yk_dir_held_unseen(struct yk_dir_held *h, uint32_t slot, void (*changed)(void *arg, const uint32_t *slots),
                        void *arg) {
    const struct yk_chain *home = &h->slot[slot % YK_DIR_SLOTS].home;
    for (uint32_t bucket = 0; bucket < home->buckets; bucket++)
        for (uint32_t at; (at = unseen_in(h, *yk_chain_bucket(home, bucket))) != 0;) {
            uint32_t slots[2] = {NO_SLOT, NO_SLOT};
            block_go(h, at, slots);
            changed(arg, slots);
        }
}

/* ---- looking ------------------------------------------------------------------------------------ */

int yk_dir_held_find(const struct yk_dir_held *h, const struct yk_dir_key *key, uint64_t hash, uint64_t epoch,
                     struct yk_dir_block *ret) {
    uint32_t space = yk_spaces_find(&h->spaces, key->ns, key->ns_len, epoch);
    uint32_t handle = space != YK_SPACE_NONE ? block_find(h, hash, space, key) : 0;
    if (handle != 0 && ret != NULL)
        block_tell(h, block_at(h, handle), ret);
    return handle != 0;
}

uint64_t yk_dir_held_group(const struct yk_dir_held *h, const struct yk_dir_key *key, uint64_t hash,
                           uint64_t epoch, const struct yk_dir_key *parent, uint64_t parent_hash) {
    struct yk_dir_block b;
    if (yk_dir_held_find(h, key, hash, epoch, &b))
        return b.group;
    if (parent->key != NULL && yk_dir_held_find(h, parent, parent_hash, epoch, &b))
        return b.group;
    return hash;
}

void yk_dir_held_load(const struct yk_dir_held *h, uint32_t slot, struct yk_dir_held_load *ret) {
    const struct held_slot *s = &h->slot[slot % YK_DIR_SLOTS];
    *ret = (struct yk_dir_held_load){s->entries, s->aliases, s->bytes, s->digest};
}

void yk_dir_held_total(const struct yk_dir_held *h, struct yk_dir_held_total *ret) {
    *ret = (struct yk_dir_held_total){.blocks = h->blocks, .changes = h->changes, .dropped = h->dropped};
    ret->memory = yk_slab_bytes(&h->slab) + sizeof(*h);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        ret->bytes += h->slot[i].bytes;
        ret->memory += yk_chain_bytes(&h->slot[i].home) + yk_chain_bytes(&h->slot[i].guest);
    }
}
