/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory for very many small records, named by 32-bit handles, for what owners know (table.c) and what this
 * node holds (held.c): a pointer would be 8 bytes, and malloc adds 8 more to each record.
 *
 * A range of addresses is reserved at once and made accessible bit by bit, so that nothing ever moves and a
 * handle is an offset. It is cut into pages of 64 KiB, each of records of one size (a multiple of 8); a page
 * that is empty serves any size again, and goes back to the system when there are many.
 *
 * Thread: its holder's.
 */
#ifndef YK_DIR_SLAB_PRIV_H
#define YK_DIR_SLAB_PRIV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SLAB_RECORD_MAX 1200u         /* bytes; more than both users' largest */
#define YK_SLAB_BYTES_MAX  (32ull << 30) /* a handle counts units of 8 bytes */
#define YK_SLAB_CLASSES    (YK_SLAB_RECORD_MAX / 8u + 1u)

/* A page's records: how many are in use, which was freed last. */
struct yk_slab_page {
    uint32_t next, prev;    /* of its size with room, or of the empty ones */
    uint16_t used, carved;  /* records; carved: ever given out since it got this size */
    uint16_t freed, units;  /* freed: number + 1 of the last one freed; units: of 8 bytes, a record */
};

struct yk_slab {
    unsigned char *base; /* in the mapping, at a huge page */
    unsigned char *mapping;
    size_t reserved;
    struct yk_slab_page *pages;
    uint32_t page_max, page_end; /* page_end: never used from here on */
    uint32_t open_end;           /* accessible up to here */
    uint32_t empty, empty_count; /* list */
    uint32_t in_use;             /* pages */
    uint32_t room[YK_SLAB_CLASSES];
};

/* -YK_ENOMEM, -YK_EINVAL (max_bytes is less than a page or above the maximum). */
int yk_slab_init(struct yk_slab *slab, uint64_t max_bytes);
void yk_slab_fini(struct yk_slab *slab);

/* A record of at least bytes (1 to YK_SLAB_RECORD_MAX), its contents not set. 0: there is no memory left. */
uint32_t yk_slab_alloc(struct yk_slab *slab, size_t bytes);
void yk_slab_free(struct yk_slab *slab, uint32_t handle);

static inline void *yk_slab_at(const struct yk_slab *slab, uint32_t handle) {
    return slab->base + (uint64_t)handle * 8u;
}
/* How many bytes the record really has. */
static inline size_t yk_slab_size(const struct yk_slab *slab, uint32_t handle) {
    return slab->pages[handle >> 13].units * 8u;
}
/* Taken from the system. */
uint64_t yk_slab_bytes(const struct yk_slab *slab);

#ifdef __cplusplus
}
#endif

#endif
