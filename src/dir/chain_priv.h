/* SPDX-License-Identifier: Apache-2.0
 *
 * An index of records of a slab by hash: buckets are lists through the records. It grows one bucket at a time
 * (linear hashing, in parts that double, so that no head ever moves): no addition takes long, and a walk over the
 * buckets in order misses nothing, since what moves, moves to a bucket behind. It never shrinks.
 *
 * A record begins with up to two links (a record may be in two indexes), and has its hash at offset 8. Hashes of one
 * slot are equal in their upper 12 bits; the lower ones choose the bucket.
 *
 * Nobody can be kept from choosing keys that fall together: who adds, counts how far it had to walk and refuses
 * at YK_CHAIN_LONGEST.
 *
 * Thread: its holder's.
 */
#ifndef YK_DIR_CHAIN_PRIV_H
#define YK_DIR_CHAIN_PRIV_H

#include "dir/slab_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_CHAIN_PARTS   26u /* part 0: 8 buckets, part i: 8 << (i - 1) */
#define YK_CHAIN_FIRST   8u
#define YK_CHAIN_LONGEST 64u /* with a bucket for each record, 12 of them together are one case in a billion */

struct yk_chain_link {
    uint32_t next[2];
    uint64_t hash;
};

struct yk_chain {
    uint32_t buckets; /* in use; 0: no memory was taken yet */
    uint32_t mask;    /* of the last doubling that is complete */
    uint32_t count;   /* records */
    uint32_t *part[YK_CHAIN_PARTS];
};

void yk_chain_fini(struct yk_chain *chain); /* the records are not freed; all of zero is an empty index */

static inline uint32_t *yk_chain_bucket(const struct yk_chain *chain, uint32_t b) {
    if (b < YK_CHAIN_FIRST)
        return &chain->part[0][b];
    uint32_t top = 31u - (uint32_t)__builtin_clz(b);
    return &chain->part[top - 2u][b - (1u << top)];
}

/* Where the list for this hash begins; NULL: the index is empty. */
static inline uint32_t *yk_chain_head(const struct yk_chain *chain, uint64_t hash) {
    if (chain->buckets == 0)
        return NULL;
    uint32_t b = (uint32_t)hash & (chain->mask * 2u + 1u);
    return yk_chain_bucket(chain, b < chain->buckets ? b : b & chain->mask);
}

static inline struct yk_chain_link *yk_chain_at(const struct yk_slab *slab, uint32_t handle) {
    return (struct yk_chain_link *)yk_slab_at(slab, handle);
}

/* Puts a record, whose hash is set, into the index by its link `which`. -YK_ENOMEM (only of the first buckets). */
int yk_chain_add(struct yk_chain *chain, const struct yk_slab *slab, unsigned which, uint32_t handle);
/* Takes out the record that *link names: a head, or another record's link. */
static inline void yk_chain_take(struct yk_chain *chain, const struct yk_slab *slab, unsigned which,
                                 uint32_t *link) {
    *link = yk_chain_at(slab, *link)->next[which];
    chain->count--;
}
/* Likewise by its handle; it is in the index. */
void yk_chain_remove(struct yk_chain *chain, const struct yk_slab *slab, unsigned which, uint32_t handle);

uint64_t yk_chain_bytes(const struct yk_chain *chain);

#ifdef __cplusplus
}
#endif

#endif
