/* SPDX-License-Identifier: Apache-2.0
 *
 * A model of what the block allocator promises, for its tests: every 64-byte unit of the capacity
 * has an owner (the number of a block, or none), so that any overlap, any byte past the capacity
 * and any slot lost or handed out twice is seen at once. Figures are compared with the
 * allocator's own. All sequences are seeded.
 *
 * Thread: the test's.
 */
#ifndef YK_TEST_ALLOC_MODEL_H
#define YK_TEST_ALLOC_MODEL_H

#include "tier/alloc.h"

struct model_block {
    uint64_t offset;
    uint64_t len;
    uint32_t id;
};

struct model {
    struct yk_alloc *a;
    uint64_t capacity_bytes;
    uint64_t *table; /* NULL: the allocator's own */
    struct model_block *live;
    size_t count, max;
    uint32_t *owner; /* of each 64-byte unit; 0: nobody */
    uint32_t last_id;
    uint64_t payload_bytes;
    uint64_t rng;
};

/* What lengths a sequence is made of. */
enum model_sizes { SIZES_FEW, SIZES_SMALL, SIZES_ODD, SIZES_LARGE, SIZES_ALL };

uint64_t model_rand(struct model *m, uint64_t n); /* uniform in [0, n) */
uint64_t model_len(struct model *m, enum model_sizes sizes);

void model_init(struct model *m, uint64_t capacity_bytes, bool table, uint64_t seed);
void model_fini(struct model *m);

/* -YK_ENOSPC is the only error that is allowed. */
int model_get(struct model *m, uint64_t len);
void model_put(struct model *m, size_t i);
void model_drop(struct model *m, size_t i); /* forget it without a put */

/* Sets or clears the owner of [offset, offset + len rounded up); it must have been `from`. */
void model_own(struct model *m, uint64_t offset, uint64_t len, uint32_t from, uint32_t to);

/* Index of the live block at offset, or count. */
size_t model_find(const struct model *m, uint64_t offset);

/* Compares figures. extra_slots: allocated beside the live blocks (moves under way). */
void model_check(const struct model *m, uint64_t extra_slots);

/* Puts everything; all pages must come together again. */
void model_empty(struct model *m);

#endif
