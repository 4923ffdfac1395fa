/* SPDX-License-Identifier: Apache-2.0
 *
 * The owner's half of the block index: linear hashing that grows one bucket at a time, in place,
 * under lock-free readers (src/shm/view.c).
 *
 * Why linear hashing: resident memory follows the number of blocks, no insert ever pays for a
 * whole-table resize, and a reader needs one word (level, split) to find its bucket. Entries move
 * in two cases only. When their bucket is split, they are written to the new bucket, the table word
 * is published, and only then do they leave the old one, after its version was raised. When an entry
 * leaves a chain that has overflow buckets, the chain's last one takes its place (copy, version,
 * clear), so that chains are as short as their entries allow however many came and went. The table
 * never shrinks. Rejected: open addressing (a removal must move entries or leave tombstones),
 * cuckoo hashing (an insert moves entries of keys that are being looked up).
 *
 * It knows nothing of what it holds but ids and how to hash one of them again (struct yk_index_ids),
 * so the block table in shared memory and the SSD tier's use the same code and the same buckets.
 *
 * Threads: the owner's only. Readers run at the same time in other processes (view.c, filter.c).
 */
#ifndef YK_SHM_INDEX_H
#define YK_SHM_INDEX_H

#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Mean entries of a primary bucket above which one more is split. The buckets that are not split yet
 * hold more, those that are fewer: at a million blocks 7.6 and 3.8. With 6 the index takes 13.9 bytes a
 * block, overflow included, and one key in eight lies behind an overflow bucket; with 5 it took 15.1,
 * and one in twelve did. */
#define YK_INDEX_FILL 6u

/* What the entries are: ids 0 .. max - 1. Immutable. */
struct yk_index_ids {
    /* Hash of an id that is in the index; called when its bucket is split. Only the low half counts. */
    uint64_t (*hash)(const void *arg, uint32_t id);
    void (*prefetch)(const void *arg, uint32_t id); /* what hash will read */
    const void *arg;
    uint32_t max;
};

struct yk_index {
    struct yk_index_hdr *hdr;
    struct yk_bucket *buckets; /* max_buckets primary, then max_overflow */
    struct yk_index_ids ids;
    uint32_t max_buckets, max_overflow;
    uint32_t split_limit, overflow_limit; /* of these, what may be used now; init: all */
    uint32_t overflow_free; /* list of freed overflow buckets, +1; 0 = empty */
    uint32_t overflow_top;  /* overflow buckets at or above were never used */
    uint32_t count;         /* entries */
    uint32_t level, split;
};

/* Starts an empty index in area 0 or 1 of the mapped meta file, whose pages must be all zero. */
void yk_index_init(struct yk_index *index, void *meta, const struct yk_shm_layout *layout,
                   unsigned area);

/* The same at any place: mem (64-byte aligned, all zero) holds the head, max_buckets buckets (a few
 * dozen at least), max_overflow overflow buckets; yk_index_bytes of them. */
void yk_index_init_at(struct yk_index *index, void *mem, uint32_t max_buckets,
                      uint32_t max_overflow, const struct yk_index_ids *ids);
uint64_t yk_index_bytes(uint32_t max_buckets, uint32_t max_overflow);

/* How many buckets of either kind so many ids want (layout.c uses it, too). */
void yk_index_size(uint32_t max_ids, uint32_t *ret_max_buckets, uint32_t *ret_max_overflow);

/* Adds descriptor idx under its hash. Does not look for duplicates. -YK_ELIMIT: no overflow bucket
 * is left. */
int yk_index_insert(struct yk_index *index, uint64_t hash, uint32_t idx);

/* Points the entry of old_idx to new_idx in one store: a lookup finds the one or the other.
 * -YK_ENOENT: old_idx has no entry. */
int yk_index_replace(struct yk_index *index, uint64_t hash, uint32_t old_idx, uint32_t new_idx);

/* Removes the entry of idx; -YK_ENOENT when there is none. */
int yk_index_remove(struct yk_index *index, uint64_t hash, uint32_t idx);

/* The idx-th candidate walk for the owner itself: calls with *cursor = 0 first; returns 1 and the
 * next descriptor whose tag equals the hash's, or 0 at the end. Nothing may change in between. */
struct yk_index_cursor {
    const struct yk_bucket *bucket;
    unsigned slot;
    unsigned hops;
};
int yk_index_next(const struct yk_index *index, uint64_t hash, struct yk_index_cursor *cursor,
                  uint32_t *ret_idx);

/* Likewise, whatever the tag: all ids of the chain that the low half of a hash leads to. */
int yk_index_next_any(const struct yk_index *index, uint32_t half, struct yk_index_cursor *cursor,
                      uint32_t *ret_idx);

/* Prefetches the bucket of a hash. */
void yk_index_prefetch(const struct yk_index *index, uint64_t hash);

#ifdef __cplusplus
}
#endif

#endif
