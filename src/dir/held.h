/* SPDX-License-Identifier: Apache-2.0
 *
 * What this node holds, slot by slot, and how that changed (docs/decisions/0014, 0016): what a holder
 * publishes comes from here.
 *
 * A block stands in the slot of its group as an entry and, where that is another one, in the slot of its key's
 * hash as an alias. Each slot numbers its changes, of entries and aliases alike, from 1. The changes that the
 * owner has not confirmed are kept in order, one for each block: a later one takes the place of an earlier
 * one, and what came and went before anybody was told of it leaves nothing. So numbers may be missing from the
 * list, and a batch says up to which number it tells everything: an owner that has all up to A and gets a batch
 * of (from <= A, to > A) applies all items of it and has all up to `to`; it need not know their numbers.
 *
 * A list that would grow too long, or keeps what is gone where another block needs the place, is thrown away: the slot
 * then needs a snapshot. A snapshot at number S names,
 * some at a time, all that the slot had at S and was not changed since; what was changed since is in the list
 * behind S.
 *
 * Memory: 60 bytes a block and its key, rounded up to 8, and 4 to 16 bytes of index; 24 a change (test_held prints
 * what it measures).
 *
 * Everywhere: `hash` is yk_dir_hash of the key; keys are borrowed during the call.
 *
 * Threads: pure; one caller at a time.
 */
#ifndef YK_DIR_HELD_H
#define YK_DIR_HELD_H

#include "dir/core.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_dir_held;

struct yk_dir_held_opts {
    uint64_t max_bytes;   /* of blocks and changes, address space; 0 = 8 GiB; at most 32 GiB */
    uint32_t max_changes; /* kept for a slot; 0 = 65,536 */
    uint32_t max_total;   /* kept for all slots together; 0 = 1,048,576 */
};

/* opts NULL: all defaults. -YK_ENOMEM, -YK_EINVAL. */
int yk_dir_held_open(const struct yk_dir_held_opts *opts, struct yk_dir_held **ret_held);
void yk_dir_held_close(struct yk_dir_held *held); /* NULL is fine */

/* The group of a block: its own if it is held, else its parent's if that is held in the epoch (parent.key NULL:
 * none is known), else `hash`. */
uint64_t yk_dir_held_group(const struct yk_dir_held *held, const struct yk_dir_key *key, uint64_t hash,
                           uint64_t epoch, const struct yk_dir_key *parent, uint64_t parent_hash);

/* It came, changed, or (tiers 0) went. One that comes in another group than it was held in goes from there. Nothing
 * is numbered when nothing changed. 0; YK_MISS: what went was not held; -YK_ELIMIT, -YK_ENOMEM: it is not held,
 * and told as gone if it was. ret_slots (2, or NULL): the slots that have a new change; 0xffffffff: none. */
int yk_dir_held_set(struct yk_dir_held *held, const struct yk_dir_block *block, uint64_t hash, uint32_t *ret_slots);

/* What is held of the key in other epochs is gone; `changed` as of unseen. */
void yk_dir_held_only(struct yk_dir_held *held, const struct yk_dir_key *key, uint64_t hash, uint64_t epoch,
                      void (*changed)(void *arg, const uint32_t *slots), void *arg);

/* 1: held; *ret (or NULL) is valid until the next change. 0: not. */
int yk_dir_held_find(const struct yk_dir_held *held, const struct yk_dir_key *key, uint64_t hash, uint64_t epoch,
                     struct yk_dir_block *ret);

/* What was held is to be told again by set, since changes may have been lost; unseen: what of a slot (by the keys' own
 * hashes) was not is gone. At most 255 rounds may go by between the two. Takes time by the size of the slot; ret_slots
 * as of set, called back for each. */
void yk_dir_held_round(struct yk_dir_held *held);
void yk_dir_held_unseen(struct yk_dir_held *held, uint32_t slot, void (*changed)(void *arg, const uint32_t *slots),
                        void *arg);

/* ---- what is told to owners --------------------------------------------------------------------- */

/* A block as one slot sees it: as it is now. */
struct yk_dir_item {
    struct yk_dir_block block; /* tiers 0: gone. Pointers are valid until the next change */
    uint64_t hash;
    uint8_t alias; /* of an alias the slot's owner keeps hash, block.epoch, group and sum alone, and whether it is gone */
};

/* seq: of the newest change; confirmed: all up to it the owner is known to have, or (after a snapshot has begun) is
 * told by the snapshot; snapshot: the list does not go back to `confirmed`: only a snapshot helps. */
struct yk_dir_stream {
    uint64_t seq, confirmed;
    uint32_t changes; /* in the list */
    uint8_t snapshot;
};
void yk_dir_held_stream(const struct yk_dir_held *held, uint32_t slot, struct yk_dir_stream *ret);

/* Changes behind number `from`, oldest first, at most `max` of them. Returns how many; with *ret_to all changes up
 * to it are told (0 items, *ret_to > from: they left nothing; *ret_to == from: there are none). -YK_ESTALE:
 * the list does not go back to `from`: a snapshot is needed. -YK_EINVAL: from is a number never given. */
int yk_dir_held_batch(struct yk_dir_held *held, uint32_t slot, uint64_t from, struct yk_dir_item *ret_items,
                      uint32_t max, uint64_t *ret_to);
/* The owner has all up to seq. Numbers never given, or confirmed before, change nothing. */
void yk_dir_held_confirm(struct yk_dir_held *held, uint32_t slot, uint64_t seq);

/* A snapshot begins: *ret_seq is its number. The list behind it is kept from now on; should it grow too long
 * meanwhile, batch from *ret_seq says so, and the snapshot is for nothing. */
void yk_dir_held_snapshot(struct yk_dir_held *held, uint32_t slot, uint64_t *ret_seq);
/* Its next piece: from *cursor (0 at first) up to `max` items, or fewer; returns how many, and *ret_more 0 after the
 * last. What did not change meanwhile is told once or twice; what is gone is not told. max at least
 * YK_DIR_HELD_PIECE_MIN, else -YK_EINVAL. Any number of snapshots may be under way at once. */
#define YK_DIR_HELD_PIECE_MIN 128u
int yk_dir_held_piece(struct yk_dir_held *held, uint32_t slot, uint64_t *cursor, struct yk_dir_item *ret_items,
                      uint32_t max, int *ret_more);

/* A new incarnation: numbers begin at 1 again, and every slot with anything in it needs a snapshot. */
void yk_dir_held_restart(struct yk_dir_held *held);

/* ---- counts ------------------------------------------------------------------------------------- */

struct yk_dir_held_load {
    uint64_t entries, aliases;
    uint64_t bytes;  /* lengths of the entries' blocks */
    uint64_t digest; /* equal to the owner's share's (table.h) when both know the same */
};
void yk_dir_held_load(const struct yk_dir_held *held, uint32_t slot, struct yk_dir_held_load *ret);

struct yk_dir_held_total {
    uint64_t blocks, bytes;
    uint64_t changes; /* kept, of all slots */
    uint64_t dropped; /* lists that grew too long, ever */
    uint64_t memory;  /* as taken from the system */
};
void yk_dir_held_total(const struct yk_dir_held *held, struct yk_dir_held_total *ret);

#ifdef __cplusplus
}
#endif

#endif
