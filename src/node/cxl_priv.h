/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the block table: slow memory, the tier between DRAM and SSD (docs/decisions/0020).
 *
 * It is the tail of the payload, so that a block's tier is the range that its offset lies in, and nobody who reads
 * one asks for it. What it has of its own: an allocator, an order for each namespace in a space of its own (an id is
 * in one of the two spaces at a time), and how often each block was used since it sank.
 *
 *   put --> DRAM --sinks (cxl_sink.c)--> slow memory --goes down (demote.c)--> SSD, or away
 *             ^------ rises (cxl_rise.c) ----'
 *
 * A change of range is a move (move.c): the descriptor stays, so index, children and pins do not notice.
 *
 * Threads: the owner's.
 */
#ifndef YK_NODE_CXL_PRIV_H
#define YK_NODE_CXL_PRIV_H

#include "node/ssd_priv.h"

/* Blocks that were used often enough to rise, and wait for it. What finds no place here is used again, or not worth it. */
#define RISES_MAX 1024u

struct rise {
    uint32_t idx, birth;
};

struct cxl_side {
    struct yk_alloc *alloc; /* its offsets begin at the range's */
    uint64_t bytes;
    uint64_t low_bytes, high_bytes; /* as the store's, of this range */
    struct yk_cxl_figures figures;
    int off; /* it is no better than what is below it: nothing sinks */
    struct yk_policy_space *space;
    const struct yk_policy_ops *policy_ops;
    struct yk_policy *of[YK_SHM_NAMESPACES];       /* made with its first block */
    struct yk_policy *policies[YK_SHM_NAMESPACES]; /* those that exist, dense */
    uint16_t policy_ns[YK_SHM_NAMESPACES];         /* whose */
    uint32_t policy_count;
    uint8_t *uses; /* by descriptor: since it came here; stays at its most */
    uint64_t turn_bytes; /* copied between the ranges in this turn of the loop */
    int turn_full;       /* and nothing there could make way in it: no more is tried */
    struct rise rises[RISES_MAX];
    uint32_t rise_head, rise_tail;
};

/* cxl.c */
/* A place in slow memory, its pages there. 0 or -YK_ENOSPC. */
int cxl_get(struct yk_store *s, uint64_t len, uint64_t *ret_offset);
/* The namespace's order there, made if need be; NULL: no memory for it. */
struct yk_policy *cxl_policy_need(struct yk_store *s, uint32_t ns);
/* May so many bytes more be copied in this turn? One block may, however large. */
int cxl_may_copy(const struct yk_store *s, uint64_t len);

/* cxl_sink.c */
/* Free bytes, and those that will be free without more being done. */
uint64_t cxl_room(const struct yk_store *s);
/* Lets about so many bytes go from slow memory, at most max blocks: to SSD, or away. Expects the hazards to be
 * collected. Returns blocks. */
uint32_t cxl_evict_bytes(struct yk_store *s, uint64_t want, uint32_t max);

/* cxl_rise.c */
/* Moves up what is worth it, as far as this turn goes. 1: there is more. */
int cxl_rise_step(struct yk_store *s);

/* cxl_measure.c */
/* Fills in what is 0. Reads both ranges, and writes nothing. */
void cxl_measure(struct yk_store *s, struct yk_cxl_figures *io);
/* What one use of len bytes costs in the range. */
static inline uint64_t cxl_use_ns(uint64_t lat_ns, uint64_t bps, uint64_t len) {
    return lat_ns + (uint64_t)((double)len * 1e9 / (double)bps);
}

#endif
