/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys of the SSD tier's table, and what few blocks have beside a key.
 *
 * A cell is whole 8-byte granules: up to three words (expiry, session, attributes that could not be
 * shared), then the key, zero-padded. Address space for the most there can be is reserved at start and
 * touched as it is used, so cells never move and nothing is copied when there are more. Free cells are
 * linked by size through their first word. A size that has none takes the next that has, and what is
 * left of it becomes a smaller one; pieces are not joined again: keys of a cache have few lengths.
 *
 * Attributes: pairs (length, model) repeat over and over, so an entry has a 12-bit number of a pair;
 * pairs are counted, and go with their last entry.
 *
 * Threads: the owner's only.
 */
#ifndef YK_TIER_SSD_CELLS_H
#define YK_TIER_SSD_CELLS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_CELL_CLASSES 36u /* 1..35 granules: 32 of key, 3 words */
#define YK_CELL_NONE    UINT32_MAX

struct yk_cells {
    unsigned char *base;
    uint64_t max; /* granules of address space */
    uint64_t top; /* granules at or above were never used */
    uint64_t used;
    uint32_t free[YK_CELL_CLASSES]; /* granule of the first free cell; YK_CELL_NONE */
};

/* Reserves room for so many granules. -YK_ENOMEM. */
int yk_cells_init(struct yk_cells *c, uint64_t granules);
void yk_cells_fini(struct yk_cells *c);
uint32_t yk_cells_take(struct yk_cells *c, uint32_t granules); /* YK_CELL_NONE: full */
void yk_cells_give(struct yk_cells *c, uint32_t cell, uint32_t granules);

static inline uint64_t *yk_cell(const struct yk_cells *c, uint32_t cell) {
    return (uint64_t *)(void *)(c->base + (uint64_t)cell * 8u);
}

#define YK_ATTRS     4096u
#define YK_ATTR_NONE YK_ATTRS /* all numbers are taken */

struct yk_attrs {
    struct {
        uint32_t length_tokens, model, refs;
        uint16_t next; /* in its chain, or in the list of free ones; 0 = end */
    } a[YK_ATTRS];     /* 0 is the pair of zeros, always there */
    uint16_t heads[YK_ATTRS];
    uint16_t free, top;
};

void yk_attrs_init(struct yk_attrs *at);
uint32_t yk_attrs_take(struct yk_attrs *at, uint32_t length_tokens, uint32_t model);
void yk_attrs_give(struct yk_attrs *at, uint32_t attr);

#ifdef __cplusplus
}
#endif

#endif
