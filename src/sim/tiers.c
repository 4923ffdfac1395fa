/* SPDX-License-Identifier: Apache-2.0
 *
 * The tier below: what left the cache, and stays there until its room is needed (sim.h).
 *
 * A block that comes up keeps its copy, as in a node, so that it goes down again for nothing; the copy least
 * recently used goes first, a use in the cache above counting only when it came up for it. Where there is room for
 * all there is no order to keep.
 *
 * Thread: one.
 */
#include "sim/cache_priv.h"

enum { BELOW };

int yk_sim_below_init(struct yk_sim_below *b, const struct yk_sim_trace *t, uint64_t capacity) {
    b->capacity = capacity;
    return yk_sim_lists_init(&b->lists, t->distinct);
}

void yk_sim_below_fini(struct yk_sim_below *b) {
    yk_sim_lists_fini(&b->lists);
}

void yk_sim_below_add(struct yk_sim_below *b, uint32_t block) {
    if (b->capacity == 0 || yk_sim_below_has(b, block))
        return;
    if (b->lists.count[BELOW] == b->capacity)
        yk_sim_lists_drop(&b->lists, b->lists.oldest[BELOW]);
    yk_sim_lists_move(&b->lists, block, BELOW);
    b->written++;
}

void yk_sim_below_use(struct yk_sim_below *b, uint32_t block) {
    yk_sim_lists_move(&b->lists, block, BELOW);
}
