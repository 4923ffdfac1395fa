/* SPDX-License-Identifier: Apache-2.0
 *
 * Linear hashing under concurrent readers (src/shm/index.h): the writer's side.
 *
 * Order of stores that readers rely on (view.c, tests/model):
 *   insert   entry release (the descriptor was complete before)
 *   remove   entry = 0 (release); where there are overflow buckets the chain's last entry takes its
 *            place: that entry's copy (release), then version++, then its old place = 0. Otherwise
 *            chains would only grow while blocks come and go, until no overflow bucket is left
 *   replace  entry release, then version++; the caller retires the old block after that
 *   split    copies into the new chain, table release, then version++ and entry = 0 in the old one
 *   pack     copies an entry of an overflow bucket into an empty place before it, then version++,
 *            then entry = 0
 *   trim     unlinks an empty overflow bucket, then version++, and only then writes to that bucket
 * A reader may stand in a bucket when it is unlinked, and walk on through the list of free ones or
 * through a stranger's chain. Every store into a bucket is a release, and those into an unlinked
 * one come after the raised version, so who reads any of them finds the version changed and looks
 * again. The raise at the split's beginning is not enough: a reader may come after it.
 */
#include "shm/index.h"

#include <stddef.h>
#include <string.h>

#include <yolk/status.h>

#define ENTRIES     YK_SHM_BUCKET_ENTRIES
#define FIRST_LEVEL 4u
#define CHAIN_MAX   64u

#define STORE_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

static inline uint64_t entry_make(uint64_t hash, uint32_t idx) {
    return (hash >> 32) << 32 | (idx + 1u);
}

static inline uint32_t bucket_of(const struct yk_index *x, uint64_t hash) {
    uint32_t b = (uint32_t)hash & ((1u << x->level) - 1u);
    if (b < x->split)
        b = (uint32_t)hash & (uint32_t)((2ull << x->level) - 1u);
    return b;
}

static inline void version_raise(struct yk_bucket *primary) {
    STORE_RELEASE(&primary->version, primary->version + 1u);
}

static inline uint32_t primary_count(const struct yk_index *x) {
    return (1u << x->level) + x->split;
}

static struct yk_bucket *overflow_at(const struct yk_index *x, uint32_t link) {
    if (link == 0 || link > x->max_overflow)
        return NULL;
    return &x->buckets[x->max_buckets + link - 1u];
}

void yk_index_init_at(struct yk_index *index, void *mem, uint32_t max_buckets,
                      uint32_t max_overflow, const struct yk_index_ids *ids) {
    memset(index, 0, sizeof(*index));
    index->hdr = mem;
    index->buckets = (struct yk_bucket *)(index->hdr + 1);
    index->ids = *ids;
    index->max_buckets = max_buckets;
    index->max_overflow = max_overflow;
    index->split_limit = max_buckets;
    index->overflow_limit = max_overflow;
    index->level = FIRST_LEVEL;
    STORE_RELEASE(&index->hdr->table, (uint64_t)index->level << 32);
}

static uint64_t desc_hash(const void *arg, uint32_t idx) {
    return ((const struct yk_desc *)arg)[idx].hash;
}

static void desc_prefetch(const void *arg, uint32_t idx) {
    __builtin_prefetch(&((const struct yk_desc *)arg)[idx].hash);
}

void yk_index_init(struct yk_index *index, void *meta, const struct yk_shm_layout *layout,
                   unsigned area) {
    unsigned char *base = meta;
    struct yk_index_ids ids = {.hash = desc_hash,
                               .prefetch = desc_prefetch,
                               .arg = base + layout->off_desc,
                               .max = layout->max_blocks};
    yk_index_init_at(index, base + layout->off_index[area & 1u], layout->max_buckets,
                     layout->max_overflow, &ids);
}

void yk_index_size(uint32_t max_ids, uint32_t *ret_max_buckets, uint32_t *ret_max_overflow) {
    /* Fewer than the index puts into a bucket: a full region is still to be split. */
    *ret_max_buckets = max_ids / (YK_INDEX_FILL - 1u) + 64;
    *ret_max_overflow = *ret_max_buckets / 2 + 64;
}

uint64_t yk_index_bytes(uint32_t max_buckets, uint32_t max_overflow) {
    return sizeof(struct yk_index_hdr) +
           ((uint64_t)max_buckets + max_overflow) * sizeof(struct yk_bucket);
}

static struct yk_bucket *overflow_take(struct yk_index *x, uint32_t *ret_link) {
    uint32_t link = x->overflow_free;
    struct yk_bucket *b = overflow_at(x, link);
    if (b != NULL) {
        x->overflow_free = b->next;
    } else {
        if (x->overflow_top >= x->overflow_limit)
            return NULL;
        link = ++x->overflow_top;
        b = overflow_at(x, link);
    }
    /* Release: a reader that still walks this bucket as part of its former chain and sees it empty
     * sees the former chain's version raised, too. */
    for (unsigned i = 0; i < ENTRIES; i++)
        STORE_RELEASE(&b->entry[i], 0);
    STORE_RELEASE(&b->next, 0);
    *ret_link = link;
    return b;
}

/* Puts an entry into the chain of bucket b. */
static int chain_add(struct yk_index *x, struct yk_bucket *b, uint64_t entry) {
    for (uint32_t hops = 0; hops < CHAIN_MAX; hops++) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            if (b->entry[i] == 0) {
                STORE_RELEASE(&b->entry[i], entry);
                return 0;
            }
        }
        struct yk_bucket *next = overflow_at(x, b->next);
        if (next == NULL) {
            uint32_t link;
            if (hops == CHAIN_MAX - 1u) /* nobody would walk as far as one more */
                return -YK_ELIMIT;
            next = overflow_take(x, &link);
            if (next == NULL)
                return -YK_ELIMIT;
            STORE_RELEASE(&next->entry[0], entry);
            STORE_RELEASE(&b->next, link); /* the new bucket is complete before it is linked */
            return 0;
        }
        b = next;
    }
    return -YK_ELIMIT;
}

/* Fills the empty places of a chain from its overflow buckets: without it, what a split leaves behind
 * stays where it was, and a third of all buckets had overflow instead of a sixth. */
static void chain_pack(struct yk_index *x, struct yk_bucket *primary) {
    struct yk_bucket *hole = primary;
    unsigned slot = 0;
    struct yk_bucket *b = overflow_at(x, primary->next);
    for (unsigned hops = 1; b != NULL && hops < CHAIN_MAX; b = overflow_at(x, b->next), hops++) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            if (b->entry[i] == 0)
                continue;
            while (hole != b && hole->entry[slot] != 0) {
                if (++slot == ENTRIES) {
                    slot = 0;
                    hole = overflow_at(x, hole->next);
                    if (hole == NULL)
                        return; /* a scribbled chain */
                }
            }
            if (hole == b)
                break; /* all full up to here */
            STORE_RELEASE(&hole->entry[slot], b->entry[i]);
            version_raise(primary);
            STORE_RELEASE(&b->entry[i], 0);
        }
    }
}

/* Unlinks overflow buckets of a chain that became empty. */
static void chain_trim(struct yk_index *x, struct yk_bucket *primary) {
    struct yk_bucket *b = primary;
    for (uint32_t hops = 0; hops < CHAIN_MAX; hops++) {
        uint32_t link = b->next;
        struct yk_bucket *next = overflow_at(x, link);
        if (next == NULL)
            return;
        int empty = 1;
        for (unsigned i = 0; i < ENTRIES; i++)
            empty &= next->entry[i] == 0;
        if (!empty) {
            b = next;
            continue;
        }
        STORE_RELEASE(&b->next, next->next);
        version_raise(primary); /* before the bucket's own next changes: see above */
        STORE_RELEASE(&next->next, x->overflow_free);
        x->overflow_free = link;
    }
}

static uint64_t entry_hash(const struct yk_index *x, uint64_t entry) {
    uint32_t idx = (uint32_t)entry - 1u;
    return idx < x->ids.max ? x->ids.hash(x->ids.arg, idx) : 0;
}

/* The descriptors of a chain lie anywhere: their cache misses overlap this way. */
static void prefetch_hashes(const struct yk_index *x, const struct yk_bucket *b) {
    for (unsigned hops = 0; b != NULL && hops < CHAIN_MAX; b = overflow_at(x, b->next), hops++) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            uint32_t idx = (uint32_t)b->entry[i] - 1u;
            if (idx < x->ids.max)
                x->ids.prefetch(x->ids.arg, idx);
        }
    }
}

/* Copies the entries of bucket `from` that belong to `to` under the next table word. */
static int split_copy(struct yk_index *x, struct yk_bucket *from, uint32_t to_index) {
    uint32_t mask = (uint32_t)((2ull << x->level) - 1u);
    struct yk_bucket *b = from;
    prefetch_hashes(x, from);
    for (unsigned hops = 0; b != NULL && hops < CHAIN_MAX; b = overflow_at(x, b->next), hops++) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            uint64_t e = b->entry[i];
            if (e != 0 && ((uint32_t)entry_hash(x, e) & mask) == to_index) {
                int rc = chain_add(x, &x->buckets[to_index], e);
                if (rc < 0)
                    return rc;
            }
        }
    }
    return 0;
}

static void split_clear(struct yk_index *x, struct yk_bucket *from, uint32_t to_index,
                        uint32_t mask) {
    /* Readers that come later find the new table word; those inside see the version move. */
    version_raise(from);
    struct yk_bucket *b = from;
    for (unsigned hops = 0; b != NULL && hops < CHAIN_MAX; b = overflow_at(x, b->next), hops++)
        for (unsigned i = 0; i < ENTRIES; i++)
            if (b->entry[i] != 0 && ((uint32_t)entry_hash(x, b->entry[i]) & mask) == to_index)
                STORE_RELEASE(&b->entry[i], 0);
    chain_pack(x, from);
    chain_trim(x, from);
}

/* Empties a chain that no reader can reach yet. */
static void chain_drop(struct yk_index *x, struct yk_bucket *first) {
    struct yk_bucket *b = first;
    for (unsigned hops = 0; b != NULL && hops < CHAIN_MAX; b = overflow_at(x, b->next), hops++)
        for (unsigned i = 0; i < ENTRIES; i++)
            STORE_RELEASE(&b->entry[i], 0);
    chain_trim(x, first);
}

/* Splits the next bucket. A failure (no overflow bucket) leaves the table as it was. */
static void split_one(struct yk_index *x) {
    uint32_t from = x->split;
    uint32_t to = from + (1u << x->level);
    uint32_t mask = (uint32_t)((2ull << x->level) - 1u);
    if (to >= x->split_limit)
        return;
    if (split_copy(x, &x->buckets[from], to) < 0) {
        chain_drop(x, &x->buckets[to]);
        return;
    }
    if (++x->split == 1u << x->level) {
        x->level++;
        x->split = 0;
    }
    STORE_RELEASE(&x->hdr->table, (uint64_t)x->level << 32 | x->split);
    split_clear(x, &x->buckets[from], to, mask);
}

int yk_index_insert(struct yk_index *index, uint64_t hash, uint32_t idx) {
    if (index->count + 1u > primary_count(index) * YK_INDEX_FILL)
        split_one(index);
    int rc = chain_add(index, &index->buckets[bucket_of(index, hash)], entry_make(hash, idx));
    if (rc == 0)
        index->count++;
    return rc;
}

static uint64_t *entry_find(const struct yk_index *x, uint64_t hash, uint32_t idx) {
    uint64_t want = entry_make(hash, idx);
    struct yk_bucket *b = &x->buckets[bucket_of(x, hash)];
    for (uint32_t hops = 0; b != NULL && hops < CHAIN_MAX; hops++) {
        for (unsigned i = 0; i < ENTRIES; i++)
            if (b->entry[i] == want)
                return &b->entry[i];
        b = overflow_at(x, b->next);
    }
    return NULL;
}

int yk_index_replace(struct yk_index *index, uint64_t hash, uint32_t old_idx, uint32_t new_idx) {
    uint64_t *e = entry_find(index, hash, old_idx);
    if (e == NULL)
        return -YK_ENOENT;
    STORE_RELEASE(e, entry_make(hash, new_idx));
    /* A lookup that still holds the old entry may find its descriptor serving another key before it
     * looks at it: the version tells it to look again. After the entry, before the old block is
     * retired. */
    version_raise(&index->buckets[bucket_of(index, hash)]);
    return 0;
}

/* The last entry of a chain that holds one at least. */
static uint64_t *chain_last(const struct yk_index *x, struct yk_bucket *primary, uint64_t *last) {
    struct yk_bucket *b = primary;
    for (unsigned hops = 0; b != NULL && hops < CHAIN_MAX; b = overflow_at(x, b->next), hops++)
        for (unsigned i = 0; i < ENTRIES; i++)
            if (b->entry[i] != 0)
                last = &b->entry[i];
    return last;
}

int yk_index_remove(struct yk_index *index, uint64_t hash, uint32_t idx) {
    struct yk_bucket *primary = &index->buckets[bucket_of(index, hash)];
    uint64_t *e = entry_find(index, hash, idx);
    if (e == NULL)
        return -YK_ENOENT;
    index->count--;
    if (primary->next == 0) {
        STORE_RELEASE(e, 0);
        return 0;
    }
    uint64_t *last = chain_last(index, primary, e);
    if (last != e) {
        STORE_RELEASE(e, *last);
        version_raise(primary); /* who passed e before and finds `last` empty looks again */
    }
    STORE_RELEASE(last, 0);
    chain_trim(index, primary);
    return 0;
}

/* The next entry of the chain whose bits under mask are those of want. */
static int next_entry(const struct yk_index *x, uint64_t hash, uint64_t want, uint64_t mask,
                      struct yk_index_cursor *cursor, uint32_t *ret_idx) {
    if (cursor->bucket == NULL) {
        cursor->bucket = &x->buckets[bucket_of(x, hash)];
        cursor->slot = 0;
        cursor->hops = 0;
    }
    while (cursor->bucket != NULL && cursor->hops < CHAIN_MAX) {
        for (; cursor->slot < ENTRIES; cursor->slot++) {
            uint64_t e = cursor->bucket->entry[cursor->slot];
            if (e != 0 && (e & mask) == want && (uint32_t)e - 1u < x->ids.max) {
                cursor->slot++;
                *ret_idx = (uint32_t)e - 1u;
                return 1;
            }
        }
        cursor->bucket = overflow_at(x, cursor->bucket->next);
        cursor->slot = 0;
        cursor->hops++;
    }
    return 0;
}

int yk_index_next(const struct yk_index *index, uint64_t hash, struct yk_index_cursor *cursor,
                  uint32_t *ret_idx) {
    uint64_t mask = (uint64_t)UINT32_MAX << 32;
    return next_entry(index, hash, hash & mask, mask, cursor, ret_idx);
}

int yk_index_next_any(const struct yk_index *index, uint32_t half, struct yk_index_cursor *cursor,
                      uint32_t *ret_idx) {
    return next_entry(index, half, 0, 0, cursor, ret_idx);
}

void yk_index_prefetch(const struct yk_index *index, uint64_t hash) {
    __builtin_prefetch(&index->buckets[bucket_of(index, hash)]);
}
