/* SPDX-License-Identifier: Apache-2.0
 *
 * The owner's half of the segment beside the index: descriptors and key cells to hand out,
 * generations, hazards to honour, access rings to drain.
 *
 * A key's first bytes stand in its descriptor, the others, if it has any, in a cell.
 *
 * Free descriptors and key cells are linked through themselves (the `parent` field of a descriptor's rest,
 * a cell's first word): no private memory a block, and a scribbled link is caught by a check (bounds;
 * a descriptor must be FREE) and costs the rest of that list until the next restart, which rebuilds
 * both. A scribbled link to another key cell is not caught: two blocks then share a key's bytes, and
 * since keys are compared one of them is missed, never mistaken.
 *
 * Threads: the owner's only.
 */
#ifndef YK_SHM_OWNER_H
#define YK_SHM_OWNER_H

#include "base/status.h"
#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_KEY_CLASSES 16u

struct yk_owner {
    struct yk_shm_hdr *hdr;
    struct yk_desc *desc;
    struct yk_rest *rest; /* of the same number */
    unsigned char *keys;  /* cells */
    struct yk_client_owner *owners;
    struct yk_ns_entry *ns;
    struct yk_client_page *pages;
    struct yk_shm_layout layout;
    uint32_t desc_limit, key_limit; /* of the regions, what may be used now; init: all */
    uint32_t desc_free; /* +1; 0 = empty */
    uint32_t desc_free_count;
    uint32_t key_free[YK_KEY_CLASSES]; /* granule + 1 of the first free cell of each size */
    uint64_t gen_next, gen_limit;
    uint64_t *named;      /* bitmap over descriptors, all zero between scans */
    uint32_t *named_list; /* which words of it are not; NAMED_MAX of them */
    uint32_t named_count;
    /* Hazards of this process beside those in the segment: *pins_top slots as a client's. NULL: none. */
    const uint32_t *pins, *pins_top;
};

/* Binds to a mapped segment; takes the generations from hdr->gen_limit on. Allocates the hazard
 * bitmap. -YK_ENOMEM. */
int yk_owner_init(struct yk_owner *o, void *meta, void *clients,
                  const struct yk_shm_layout *layout);
void yk_owner_fini(struct yk_owner *o);

/* A generation that no descriptor of this segment ever had, nor will have after any crash. */
uint64_t yk_owner_gen(struct yk_owner *o);

/* Takes a free descriptor; YK_SHM_NONE when all are in use. It is the caller's once its word is no
 * longer FREE: store RESERVED before another is taken. Give makes the word FREE. */
uint32_t yk_owner_desc_take(struct yk_owner *o);
void yk_owner_desc_give(struct yk_owner *o, uint32_t idx);

/* Takes a cell and writes len bytes there, zero-padded: what a key has beyond its descriptor (key + inline,
 * yk_key_tail of it). YK_SHM_NONE when the region is full or len is not 1..255. */
uint32_t yk_owner_cell_take(struct yk_owner *o, const void *bytes, uint32_t len);
void yk_owner_cell_give(struct yk_owner *o, uint32_t cell, uint32_t len); /* len 0: there is none */

/* Bytes of a cell, or NULL when cell and length leave the region or len is not 1..255. */
const void *yk_owner_cell(const struct yk_owner *o, uint32_t cell, uint32_t len);

/* The key of a descriptor, key_len bytes: in the descriptor, or put together in room, which must live as
 * long as it is used. NULL when there is none or its cell lies outside the region. */
const void *yk_owner_key(const struct yk_owner *o, uint32_t idx, struct yk_key_room *room);

/* Is it this one? */
int yk_owner_key_is(const struct yk_owner *o, uint32_t idx, const void *key, uint32_t key_len);

/* Stores a key's length and first bytes, and where its others are (0 if it has none). */
void yk_owner_key_set(struct yk_owner *o, uint32_t idx, const void *key, uint32_t key_len,
                      uint32_t cell);

/* Recovery: hands out as free cells what lies between used ones; used is a bitmap of key_top
 * granules (of max_key_granules if that is less). */
void yk_owner_keys_rebuild(struct yk_owner *o, const uint64_t *used);

/* Reads all hazards of the client slots listed, and the pins (after a full fence), and sets their bits in
 * o->named. Then test with yk_owner_named; end with yk_owner_hazards_clear. */
void yk_owner_hazards_collect(struct yk_owner *o, const uint32_t *slots, uint32_t count);
void yk_owner_hazards_clear(struct yk_owner *o);
static inline int yk_owner_named(const struct yk_owner *o, uint32_t idx) {
    return (int)(o->named[idx >> 6] >> (idx & 63u)) & 1;
}

/* Is descriptor idx named by a hazard or pin right now? The caller has retired or MOVED it. */
int yk_owner_is_named(struct yk_owner *o, const uint32_t *slots, uint32_t count, uint32_t idx);
/* By a pin alone. Whoever takes one after this must find what the caller stored before it. */
int yk_owner_is_pinned(const struct yk_owner *o, uint32_t idx);

/* Takes up to max events from a client's ring; returns how many, adds those overwritten before
 * they were read to *lost. */
uint32_t yk_owner_ring_drain(struct yk_owner *o, uint32_t slot, uint64_t *ret_events, uint32_t max,
                             uint64_t *lost);

/* Zeroes a client's pages before the slot serves another client. */
void yk_owner_page_reset(struct yk_owner *o, uint32_t slot);

/* The descriptor's stored sums agree with its fields and every offset lies inside its region.
 * identity 0 checks the place only (a reservation). */
int yk_owner_desc_sane(const struct yk_owner *o, uint32_t idx, int identity);

#ifdef __cplusplus
}
#endif

#endif
