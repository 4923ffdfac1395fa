/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a policy space: one anonymous mapping, so that a node sized for many small blocks
 * pays only for the ids it has used.
 *
 * mmap rather than calloc: the zero pages are promised, not an accident of the allocator, and
 * MAP_NORESERVE keeps a large max_ids from counting against strict overcommit.
 */
#include "sched/space_priv.h"

#include <stdlib.h>
#include <sys/mman.h>

int yk_policy_space_new(uint32_t max_ids, struct yk_policy_space **ret_space) {
    if (max_ids == 0 || max_ids > YK_POLICY_IDS_MAX)
        return -YK_EINVAL;
    struct yk_policy_space *space = calloc(1, sizeof(*space));
    if (space == NULL)
        return -YK_ENOMEM;
    void *mem = mmap(NULL, (size_t)max_ids * sizeof(struct yk_node), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED) {
        free(space);
        return -YK_ENOMEM;
    }
    space->nodes = mem;
    space->max_ids = max_ids;
    *ret_space = space;
    return 0;
}

uint64_t yk_policy_value(const struct yk_policy_space *space, uint32_t id) {
    const struct yk_node *n = id < space->max_ids ? yk_node_at(space, id) : NULL;
    if (n == NULL || n->place == YK_NODE_ABSENT)
        return 0;
    return UINT64_C(1) << 63 | (uint64_t)n->queue << 62 | (uint64_t)n->freq << 60 |
           (yk_node_stamp(space, n) & ((UINT64_C(1) << 60) - 1));
}

void yk_policy_space_free(struct yk_policy_space *space) {
    if (space == NULL)
        return;
    munmap(space->nodes, (size_t)space->max_ids * sizeof(struct yk_node));
    free(space);
}
