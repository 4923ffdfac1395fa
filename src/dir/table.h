/* SPDX-License-Identifier: Apache-2.0
 *
 * What an owner knows of its slots (docs/decisions/0014, 0016): which members hold which blocks.
 *
 * Entries are (namespace, key, epoch) in a slot, with up to YK_DIR_TABLE_COPIES copies; full keys are
 * compared. Aliases (hash of a key, epoch -> hash of its group, checksum) stand in the slot of the key's own hash;
 * nothing but the hash is known of their keys, so they may lie: they only say where to ask. An entry, or an
 * alias, goes with the last of its holders.
 *
 * Each slot knows its holders: (member, incarnation). What a holder had and has no longer, because it was
 * forgotten, has a new incarnation or sent a snapshot that does not name it, is invisible at once, and its
 * memory is got back by yk_dir_table_sweep, some at a time. So is that of a dropped slot. No call but close takes
 * time by the size of a slot, and no index is ever rehashed in one go.
 *
 * Memory: 40 bytes an entry, 12 a copy, the key, rounded up to 8, and 4 to 8 bytes of index: at most 64
 * beside the key for an entry with one copy (test_table prints what it measures). An alias: 48 and index. A slot: about
 * 400 bytes, and 40 a holder.
 *
 * Everywhere: `hash` is yk_dir_hash of the key; keys are borrowed during the call.
 *
 * Threads: pure; one caller at a time.
 */
#ifndef YK_DIR_TABLE_H
#define YK_DIR_TABLE_H

#include "dir/core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_DIR_TABLE_COPIES 64u /* kept of a block, or holders of an alias; a look-up tells YK_DIR_COPIES_MAX */

struct yk_dir_table;

/* max_bytes: of entries and aliases, reserved as address space, used as needed; 0 = 16 GiB; at most 32 GiB.
 * -YK_ENOMEM, -YK_EINVAL. */
int yk_dir_table_open(uint64_t max_bytes, struct yk_dir_table **ret_table);
void yk_dir_table_close(struct yk_dir_table *table); /* NULL is fine */

/* ---- what holders say --------------------------------------------------------------------------
 *
 * All of these: -YK_ESTALE: the slot knows a higher incarnation of the member (nothing was changed); a higher
 * one than known takes its place, and what the older one had is gone. */

/* A copy came or changed. block->group's slot must be `slot`; tiers not 0.
 * 0; -YK_ECONFLICT: others hold this (key, epoch) with another checksum or length, and came first (in this slot, if it
 * is the key's own, they may have it in another group, as an alias): the copy was not noted, and a copy that this member had there before is gone; -YK_EINVAL; -YK_ELIMIT: memory, copies of
 * the block, namespaces, or keys that fall together; -YK_ENOMEM. After these two the member's copy is not noted. */
int yk_dir_table_add(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t incarnation,
                     const struct yk_dir_block *block, uint64_t hash);
/* A copy went, whatever its generation. 0, or YK_MISS: it was not noted. */
int yk_dir_table_drop(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t incarnation,
                      const struct yk_dir_key *key, uint64_t hash, uint64_t epoch);

/* Likewise; `slot` must be that of `hash`. One member may have several aliases of a hash (epochs, groups); one
 * that says the same twice has it once. -YK_ECONFLICT: in another group others hold other bytes for this hash and
 * epoch, and came first. Two keys of one hash (64 bits) would be taken for one. */
int yk_dir_table_alias_add(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t incarnation,
                           uint64_t hash, uint64_t epoch, uint64_t group, uint64_t sum);
int yk_dir_table_alias_drop(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t incarnation,
                            uint64_t hash, uint64_t epoch, uint64_t group, uint64_t sum);

/* A snapshot of a holder: begin, then what it has by add and alias_add (drops may come between: they are of
 * after it), then end: what was not named since begin is gone. Until then, all that was known stays known, and
 * after an abort too, with what has been named. A begin while one is open aborts that. One at a time for
 * each (slot, member). end and abort: -YK_ENOENT: none is open, or it ended with its incarnation. */
int yk_dir_table_snapshot_begin(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t incarnation);
int yk_dir_table_snapshot_end(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t incarnation);
int yk_dir_table_snapshot_abort(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t incarnation);

/* All that incarnations below `below` of a member have is gone (UINT64_MAX: all), in one slot or in all. That the
 * slot knew the incarnation is forgotten too: who must refuse an older one later, keeps that itself. */
void yk_dir_table_forget(struct yk_dir_table *table, uint32_t slot, uint32_t member, uint64_t below);
void yk_dir_table_forget_all(struct yk_dir_table *table, uint32_t member, uint64_t below);
/* The slot is another's now. */
void yk_dir_table_drop_slot(struct yk_dir_table *table, uint32_t slot);

/* Gets memory back: looks at about `steps` places of the index. 1: there is more to do; 0: nothing. */
int yk_dir_table_sweep(struct yk_dir_table *table, uint32_t steps);

/* ---- looking up --------------------------------------------------------------------------------- */

struct yk_dir_question {
    struct yk_dir_key key;
    uint64_t hash, epoch;
    uint64_t group; /* 0: not known: the slot of the key itself is looked into */
};

/* ret_found->status: 0; -YK_EAGAIN with group: an alias says so (only if the question named no group); YK_MISS
 * (then nothing else of it is set). Other statuses are the caller's to give. The first copies first. */
void yk_dir_table_find(const struct yk_dir_table *table, const struct yk_dir_question *question,
                       struct yk_dir_found *ret_found);
/* The same for many, their cache misses overlapped. */
void yk_dir_table_find_many(const struct yk_dir_table *table, const struct yk_dir_question *questions, size_t count,
                            struct yk_dir_found *ret_found);

/* One thing in a slot: an entry (key.key not NULL; found.status 0), or an alias (found.status -YK_EAGAIN; found.group,
 * found.epoch and found.sum; no copies are told). Valid during the call. */
struct yk_dir_table_item {
    struct yk_dir_key key;
    uint64_t hash;
    struct yk_dir_found found;
};
/* All of a slot, some at a time: from *cursor (0 at first) at least one and about `steps` places of the index.
 * 1: there is more; 0: that was all. What is there all the time is told at least once, perhaps twice. fn must not
 * change the table. */
int yk_dir_table_walk(const struct yk_dir_table *table, uint32_t slot, uint64_t *cursor, uint32_t steps,
                      void (*fn)(void *arg, const struct yk_dir_table_item *item), void *arg);

/* ---- counts ------------------------------------------------------------------------------------- */

/* What one holder has in a slot; digest as yk_dir_held_load's. 0, or YK_MISS: it is not known there. */
struct yk_dir_share {
    uint64_t incarnation, copies, aliases, digest;
};
int yk_dir_table_share(const struct yk_dir_table *table, uint32_t slot, uint32_t member, struct yk_dir_share *ret);

/* Entries and aliases with nothing but invisible copies count until they are swept. */
struct yk_dir_load {
    uint64_t entries, aliases;
    uint64_t bytes; /* lengths of the entries' blocks, each once */
};
void yk_dir_table_load(const struct yk_dir_table *table, uint32_t slot, struct yk_dir_load *ret);
void yk_dir_table_total(const struct yk_dir_table *table, struct yk_dir_load *ret);
/* Of entries, aliases and indexes, as taken from the system. */
uint64_t yk_dir_table_memory(const struct yk_dir_table *table);

#ifdef __cplusplus
}
#endif

#endif
