/* SPDX-License-Identifier: Apache-2.0
 *
 * What owners are told (held.h): the list of changes of each slot, batches of it, snapshots.
 *
 * The list has for each block what it is now, at the number of its last change; that is why a batch can be applied
 * by an owner that has part of it already. Nothing is left out of it but blocks that came and went before
 * anybody was told of them: `sent` is up to where somebody may have been told, by a batch or by a piece of a
 * snapshot.
 *
 * Threads: pure; one caller at a time.
 */
#include "dir/held_priv.h"

#define FETCH_AHEAD 16u /* buckets */

static struct change *change_at(const struct yk_dir_held *h, uint32_t handle) {
    return (struct change *)yk_slab_at(&h->slab, handle);
}

static void list_take(struct yk_dir_held *h, struct held_slot *s, uint32_t handle) {
    const struct change *c = change_at(h, handle);
    if (c->prev != 0)
        change_at(h, c->prev)->next = c->next;
    else
        s->first = c->next;
    if (c->next != 0)
        change_at(h, c->next)->prev = c->prev;
    else
        s->last = c->prev;
    s->count--;
    h->changes--;
}

static void list_append(struct yk_dir_held *h, struct held_slot *s, uint32_t handle) {
    struct change *c = change_at(h, handle);
    c->next = 0;
    c->prev = s->last;
    if (s->last != 0)
        change_at(h, s->last)->next = handle;
    else
        s->first = handle;
    s->last = handle;
    s->count++;
    h->changes++;
}

static void change_free(struct yk_dir_held *h, struct held_slot *s, uint32_t handle) {
    const struct change *c = change_at(h, handle);
    uint32_t block = c->block;
    list_take(h, s, handle);
    block_at(h, block)->change[c->which] = 0;
    yk_slab_free(&h->slab, handle);
    block_release(h, block);
}

/* Takes as long as the list is. */
static void list_drop(struct yk_dir_held *h, struct held_slot *s) {
    while (s->first != 0)
        change_free(h, s, s->first);
    s->lost = 1;
}

void changes_drop(struct yk_dir_held *h, uint32_t slot) {
    struct held_slot *s = &h->slot[slot];
    if (s->first == 0)
        return;
    list_drop(h, s);
    h->dropped++;
}

/* A change for a block that has none; 0: the list is too long for it. */
static uint32_t change_new(struct yk_dir_held *h, struct held_slot *s, uint32_t block, unsigned which, int fresh) {
    uint32_t handle = 0;
    if (s->count < h->max_changes && h->changes < h->max_total)
        handle = yk_slab_alloc(&h->slab, sizeof(struct change));
    if (handle == 0)
        return 0;
    *change_at(h, handle) =
        (struct change){.block = block, .which = (uint8_t)which, .fresh = fresh != 0};
    block_at(h, block)->change[which] = handle;
    return handle;
}

uint32_t change_note(struct yk_dir_held *h, uint32_t block, unsigned which, int fresh) {
    struct block *b = block_at(h, block);
    uint32_t slot = which == HOME ? block_home(b) : yk_dir_slot_of(b->group);
    struct held_slot *s = &h->slot[slot];
    uint32_t handle = b->change[which];
    s->seq++;
    if (s->lost)
        return slot;
    if (handle != 0) {
        struct change *c = change_at(h, handle);
        c->fresh = c->fresh && c->seq > s->sent;
        if (c->fresh && b->tiers == 0) {
            change_free(h, s, handle);
            return slot;
        }
        list_take(h, s, handle);
    } else if ((handle = change_new(h, s, block, which, fresh)) == 0) {
        list_drop(h, s);
        h->dropped++;
        return slot;
    }
    change_at(h, handle)->seq = s->seq;
    list_append(h, s, handle);
    return slot;
}

/* ---- batches ------------------------------------------------------------------------------------ */

void yk_dir_held_stream(const struct yk_dir_held *h, uint32_t slot, struct yk_dir_stream *ret) {
    const struct held_slot *s = &h->slot[slot % YK_DIR_SLOTS];
    *ret = (struct yk_dir_stream){.seq = s->seq, .confirmed = s->base, .changes = s->count, .snapshot = s->lost};
}

/* A block as `slot` sees it. */
static void item_fill(const struct yk_dir_held *h, struct block *b, uint32_t slot, struct yk_dir_item *ret) {
    block_tell(h, b, &ret->block);
    ret->hash = b->hash;
    ret->alias = yk_dir_slot_of(b->group) != slot;
    if (ret->alias && b->tiers == 0 && block_twin(h, b, 0))
        ret->block.tiers = 1;
}

int yk_dir_held_batch(struct yk_dir_held *h, uint32_t slot, uint64_t from, struct yk_dir_item *ret_items,
                      uint32_t max, uint64_t *ret_to) {
    if (slot >= YK_DIR_SLOTS || from > h->slot[slot].seq || max == 0 || max > INT32_MAX)
        return -YK_EINVAL;
    struct held_slot *s = &h->slot[slot];
    if (s->lost || from < s->base)
        return -YK_ESTALE;
    uint32_t at = s->first, count = 0;
    uint64_t to = from;
    while (at != 0 && change_at(h, at)->seq <= from)
        at = change_at(h, at)->next;
    for (; at != 0 && count < max; at = change_at(h, at)->next) {
        item_fill(h, block_at(h, change_at(h, at)->block), slot, &ret_items[count++]);
        to = change_at(h, at)->seq;
    }
    *ret_to = at == 0 ? s->seq : to;
    if (*ret_to > s->sent)
        s->sent = *ret_to;
    return (int)count;
}

void yk_dir_held_confirm(struct yk_dir_held *h, uint32_t slot, uint64_t seq) {
    struct held_slot *s = &h->slot[slot % YK_DIR_SLOTS];
    if (slot >= YK_DIR_SLOTS || s->lost || seq > s->seq || seq <= s->base)
        return;
    s->base = seq;
    while (s->first != 0 && change_at(h, s->first)->seq <= seq)
        change_free(h, s, s->first);
}

/* ---- snapshots ---------------------------------------------------------------------------------- */

void yk_dir_held_snapshot(struct yk_dir_held *h, uint32_t slot, uint64_t *ret_seq) {
    struct held_slot *s = &h->slot[slot % YK_DIR_SLOTS];
    if (s->lost) {
        s->lost = 0;
        s->base = s->seq;
    }
    s->sent = s->seq;
    *ret_seq = s->seq;
}

static uint32_t piece_first(const struct yk_chain *chain, uint32_t bucket) {
    return bucket < chain->buckets ? *yk_chain_bucket(chain, bucket) : 0;
}

static void piece_fetch(const struct yk_dir_held *h, uint32_t at) {
    const char *block = (const char *)block_at(h, at);
    if (at == 0)
        return;
    __builtin_prefetch(block);
    __builtin_prefetch(block + BLOCK_BYTES); /* its key is mostly in the next line */
}

/* Walking a slot is mostly waiting for memory: what it will come to is fetched ahead, the first blocks of buckets, and
 * the second ones when the first have come. */
static void piece_ahead(const struct yk_dir_held *h, const struct yk_chain *chain, unsigned which, uint32_t bucket) {
    uint32_t near = piece_first(chain, bucket + FETCH_AHEAD / 2);
    piece_fetch(h, piece_first(chain, bucket + FETCH_AHEAD));
    if (near != 0)
        piece_fetch(h, block_at(h, near)->next[which]);
}

/* A bucket has at most YK_CHAIN_LONGEST blocks. */
static uint32_t piece_bucket(struct yk_dir_held *h, uint32_t slot, unsigned which, uint32_t bucket,
                             struct yk_dir_item *ret) {
    const struct yk_chain *chain = which == HOME ? &h->slot[slot].home : &h->slot[slot].guest;
    uint32_t count = 0;
    piece_ahead(h, chain, which, bucket);
    for (uint32_t at = *yk_chain_bucket(chain, bucket); at != 0;) {
        struct block *b = block_at(h, at);
        if (b->tiers != 0)
            item_fill(h, b, slot, &ret[count++]);
        at = b->next[which];
    }
    return count;
}

/* The cursor: bucket, and above 32 bits the index. */
int yk_dir_held_piece(struct yk_dir_held *h, uint32_t slot, uint64_t *cursor, struct yk_dir_item *ret_items,
                      uint32_t max, int *ret_more) {
    if (slot >= YK_DIR_SLOTS || max < YK_DIR_HELD_PIECE_MIN || max > INT32_MAX)
        return -YK_EINVAL;
    struct held_slot *s = &h->slot[slot];
    uint64_t which = *cursor >> 32, bucket = *cursor & 0xffffffffu;
    uint32_t count = 0, looked = 0;
    for (; which <= GUEST && max - count >= YK_CHAIN_LONGEST && looked < 4 * max; looked++) {
        if (bucket >= (which == HOME ? s->home.buckets : s->guest.buckets)) {
            which++;
            bucket = 0;
            continue;
        }
        count += piece_bucket(h, slot, (unsigned)which, (uint32_t)bucket++, &ret_items[count]);
    }
    *cursor = which << 32 | bucket;
    *ret_more = which <= GUEST;
    s->sent = s->seq; /* what came since the snapshot began may just have been told */
    return (int)count;
}

void yk_dir_held_restart(struct yk_dir_held *h) {
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        struct held_slot *s = &h->slot[i];
        list_drop(h, s);
        s->seq = s->base = s->sent = 0;
        s->lost = s->entries != 0 || s->aliases != 0;
    }
}
