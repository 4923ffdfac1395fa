/* SPDX-License-Identifier: Apache-2.0
 *
 * Which node gets one more copy of a block (docs/decisions/0017).
 *
 * In this order: one in a zone that has no copy yet; one that, as it last said, has room without evicting; then by
 * a hash of block and node, weighted by the node's size and by how little it is asked. So equal nodes share,
 * a bigger one gets more, all who ask choose alike, and nobody keeps any state for it.
 *
 * Threads: pure.
 */
#ifndef YK_DIR_PLACE_H
#define YK_DIR_PLACE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A node that may have it: alive, not suspect, not draining, without a copy. The caller sees to that. */
struct yk_dir_place_node {
    uint32_t id;
    const char *zone; /* borrowed; "" = the zone of all that have none */
    uint64_t capacity_bytes, held_bytes; /* as it last said; capacity 0: not known */
    double lookups_per_s;
};

/* Has it room for so many bytes without evicting, as far as it has said? */
int yk_dir_place_fits(const struct yk_dir_place_node *node, uint64_t len);

/* Index of the best of count nodes, or -1: there are none. zones: of the copies that there are. hash: of the block's
 * key; len: its bytes. */
int yk_dir_place(const struct yk_dir_place_node *nodes, uint32_t count, const char *const *zones, uint32_t zone_count,
                 uint64_t hash, uint64_t len);

#ifdef __cplusplus
}
#endif

#endif
