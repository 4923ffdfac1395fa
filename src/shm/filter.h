/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client may know of the SSD tier: that a key is surely not there.
 *
 * The index of the SSD tier's table (linear hashing, index.h) lives in memory that clients map
 * read-only; keys and entries stay in the node. A bucket entry carries 32 bits of the key's hash, so
 * a walk of one chain says `surely not` or `maybe`, and only `maybe` costs a message. A Bloom filter
 * beside the index was rejected: it would cost 2 bytes a block more and could not forget.
 *
 * A wrong `surely not` is a miss that need not be, never wrong bytes; it is avoided all the same, by
 * the rules that view.c follows: it counts only if the table word and the primary bucket's version
 * did not change meanwhile. What would not hold still, or makes no sense, is `maybe`.
 *
 * Threads: init and owner's calls by the owner of the memory; maybe by any, in any process.
 */
#ifndef YK_SHM_FILTER_H
#define YK_SHM_FILTER_H

#include "shm/index.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_FILTER_MAGIC   0x3158444e494b6c6full /* "olkINDX1" */
#define YK_FILTER_VERSION 1u

/* Head of the memory; then struct yk_index_hdr, buckets, overflow buckets. */
struct yk_ssd_index_hdr {
    uint64_t magic;
    uint32_t version;
    uint32_t max_buckets, max_overflow;
    uint32_t reserved0;
    uint64_t bytes;    /* of it all */
    uint64_t complete; /* 1: what is not in it is not in the tier; release */
    uint64_t reserved1[3];
};

#ifndef __cplusplus
_Static_assert(sizeof(struct yk_ssd_index_hdr) == 64, "one cache line");
#endif

/* ---- the owner's side --------------------------------------------------------------------------- */

/* Bytes of memory for so many ids. */
uint64_t yk_filter_bytes(uint32_t max_ids);

/* Writes the head into mem (zeroed, 64-byte aligned, yk_filter_bytes(ids->max) at least) and begins an
 * empty index behind it. -YK_EINVAL: bytes are too few. */
int yk_filter_make(void *mem, uint64_t bytes, const struct yk_index_ids *ids,
                   struct yk_index *ret_index);

/* Before it is complete (the tier is being recovered) and after the tier's end every answer is maybe. */
void yk_filter_complete(void *mem, int complete);

/* ---- the reader's side -------------------------------------------------------------------------- */

struct yk_filter {
    const struct yk_ssd_index_hdr *hdr;
    const struct yk_index_hdr *index;
    const struct yk_bucket *buckets;
    uint32_t max_buckets, max_overflow;
};

/* Binds to mapped memory. 0; -YK_ECORRUPT (no index there, or larger than bytes), -YK_EVERSION. */
int yk_filter_init(struct yk_filter *f, const void *mem, uint64_t bytes);

/* 0: no block whose key has this hash (yk_hash_key) is in the tier. 1: maybe. Never blocks. */
int yk_filter_maybe(const struct yk_filter *f, uint64_t hash);

#ifdef __cplusplus
}
#endif

#endif
