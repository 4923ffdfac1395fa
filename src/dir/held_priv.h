/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of what this node holds (held.h). held.c: blocks. held_list.c: the numbered changes of each slot, snapshots.
 *
 * Every block is in the index `home` of its key's slot, and in the index `guest` of its group's slot where that is
 * another one. What one slot must be told of it is one change: of the home slot (change[HOME]: its entry, or
 * its alias), and of the group's (change[GUEST]). A block that is gone stays, with tiers 0, until nobody must be
 * told any more. One that comes with another group or checksum is another block: the old one is gone first.
 *
 * An alias is there as long as any block is that says the same (hash, epoch, group, checksum): keys of one hash may.
 *
 * Threads: pure; one caller at a time.
 */
#ifndef YK_DIR_HELD_PRIV_H
#define YK_DIR_HELD_PRIV_H

#include "dir/chain_priv.h"
#include "dir/held.h"
#include "dir/space_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { HOME, GUEST };

/* Its key behind `tiers`. */
struct block {
    uint32_t next[2];
    uint64_t hash;
    uint64_t group, gen, sum;
    uint64_t len : 56, round : 8; /* round: of the walk that it was last told in */
    uint32_t change[2];
    uint16_t space;
    uint8_t key_len, tiers; /* tiers 0: gone */
};

#define BLOCK_BYTES (offsetof(struct block, tiers) + 1u)

struct change {
    uint32_t next, prev; /* in the slot's list, by seq */
    uint64_t seq;
    uint32_t block;
    uint8_t which; /* HOME, GUEST */
    uint8_t fresh; /* nobody was told of what this is about before */
};

struct held_slot {
    struct yk_chain home, guest;
    uint64_t seq;  /* of the newest change */
    uint64_t base; /* the list has all behind it, unless `lost` */
    uint64_t sent; /* somebody may have been told of changes up to it */
    uint32_t first, last, count; /* changes */
    uint8_t lost;
    uint64_t entries, aliases, bytes, digest;
};

struct yk_dir_held {
    struct yk_slab slab;
    struct yk_spaces spaces;
    uint32_t max_changes, max_total;
    uint8_t round;
    uint32_t busy; /* a block that is not freed now, whatever happens to its changes */
    uint64_t blocks, changes, dropped;
    struct held_slot slot[YK_DIR_SLOTS];
};

static inline struct block *block_at(const struct yk_dir_held *h, uint32_t handle) {
    return (struct block *)yk_slab_at(&h->slab, handle);
}
static inline unsigned char *block_key(struct block *b) {
    return (unsigned char *)b + BLOCK_BYTES;
}
static inline uint32_t block_home(const struct block *b) {
    return yk_dir_slot_of(b->hash);
}
static inline int block_abroad(const struct block *b) {
    return yk_dir_slot_of(b->group) != yk_dir_slot_of(b->hash);
}

/* held.c */
/* Another block says the same as this one's alias. gone: those that are gone count, too. */
int block_twin(const struct yk_dir_held *h, const struct block *b, int gone);
/* Frees it if it is gone and nobody must be told. */
void block_release(struct yk_dir_held *h, uint32_t handle);
void block_tell(const struct yk_dir_held *h, struct block *b, struct yk_dir_block *ret);

/* held_list.c */
/* The slot must be told of the block as it is now. fresh: it never was of anything under this name. Returns the slot. */
uint32_t change_note(struct yk_dir_held *h, uint32_t handle, unsigned which, int fresh);
/* The slot's list is thrown away: a snapshot tells what is there, and what is gone takes no room any more. */
void changes_drop(struct yk_dir_held *h, uint32_t slot);

#ifdef __cplusplus
}
#endif

#endif
