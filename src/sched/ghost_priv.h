/* SPDX-License-Identifier: Apache-2.0
 *
 * A ghost list: the keys of the last so many evicted blocks, without their data.
 *
 * Keys are 32-bit fingerprints in a ring in the order of eviction, found through an open-addressed
 * index of ring positions: about 10.5 bytes an entry. Two keys with one fingerprint (0.02 % of
 * look-ups among a million entries) make a block look as if it had been here before, which costs
 * that block's place in a queue and nothing else; full 64-bit keys would cost double.
 *
 * A key that is taken out leaves a hole, so the ring has a quarter more places than entries may be
 * in; when holes fill those too, the oldest entries go a little early. (Counting holes as entries
 * instead lost 0.2 points of hits on a public chat trace.)
 *
 * Memory is fixed at init, touched as used. Thread: owner loop.
 */
#ifndef YK_SCHED_GHOST_PRIV_H
#define YK_SCHED_GHOST_PRIV_H

#include <stdbool.h>
#include <stdint.h>

struct yk_ghost {
    uint32_t *ring;  /* fingerprints; 0 is a hole */
    uint32_t *index; /* ring position + 1; 0 is empty */
    uint32_t slots, index_size;
    uint32_t next;  /* ring position of the next entry */
    uint32_t span;  /* positions in use before it, holes too */
    uint32_t count; /* entries among them */
    uint32_t count_max;
};

/* Room for count_max entries (at least one is made). 0 or -YK_ENOMEM. */
int yk_ghost_init(struct yk_ghost *g, uint32_t count_max);
void yk_ghost_fini(struct yk_ghost *g);

/* Remembers the key as the youngest; the oldest are forgotten until no more than `limit` (at least
 * one, at most count_max) are in. */
void yk_ghost_add(struct yk_ghost *g, uint64_t key_hash, uint32_t limit);

/* Forgets the key, and says whether it was there. */
bool yk_ghost_take(struct yk_ghost *g, uint64_t key_hash);

bool yk_ghost_has(const struct yk_ghost *g, uint64_t key_hash);

#endif
