/* SPDX-License-Identifier: Apache-2.0
 *
 * How many blocks one tenant used between two uses of a block, counted over a sample: from it follows what an LRU of
 * any size would hit of this tenant's requests.
 *
 * A block is in the sample if its hash, mixed with a seed, ends in so many zeros; the others cost a multiplication. The
 * sample is an order by last use, in which a block's depth, times the sampling factor, is the depth that it has among
 * all blocks. An order of REUSE_SLOTS is enough: the factor is chosen so that what falls out at its old end is deeper
 * than the capacity, where no share can help. So memory is fixed, and a scan of any length only passes through.
 *
 * Depths are those before the request, and its head becomes the youngest: so no block is deeper than its children, an
 * LRU's blocks are whole prefixes at any size, and the depth of each block says alone whether a prefix of that length
 * is hit. That is why blocks may be sampled, and not whole chains: chains that begin with one prompt for all would be
 * in the sample together or not at all (docs/decisions/0031).
 * A block that every request uses is in the sample by luck. So what was sampled is compared with what was asked for,
 * and the difference counts as hits of the smallest size, as few blocks are used that often (SHARDS-adj, Waldspurger
 * et al. 2015).
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_REUSE_PRIV_H
#define YK_SCHED_REUSE_PRIV_H

#include <stdint.h>

#define YK_REUSE_SLOTS   2048u
#define YK_REUSE_BUCKETS 256u

struct yk_reuse;

/* Of a tenant for which capacity_blocks would be all there is. NULL: no memory. */
struct yk_reuse *yk_reuse_new(uint64_t capacity_blocks, uint64_t seed);
void yk_reuse_free(struct yk_reuse *r);

/* Capacity has changed: what was counted is kept, at another width of the buckets if it must be; then the sample
 * begins anew. */
void yk_reuse_resize(struct yk_reuse *r, uint64_t capacity_blocks);

/* A chain is used, its head first. */
void yk_reuse_request(struct yk_reuse *r, const uint64_t *hashes, uint32_t n);

/* What was counted until now counts so much less. */
void yk_reuse_fade(struct yk_reuse *r, double keep);

/* Blocks that a bucket is wide. */
uint64_t yk_reuse_width(const struct yk_reuse *r);

/* Uses that an LRU of so many bucket widths would hit: ret_hits[0] = 0, never falling. Returns all uses. */
double yk_reuse_curve(const struct yk_reuse *r, double ret_hits[YK_REUSE_BUCKETS + 1]);

#endif
