/* SPDX-License-Identifier: Apache-2.0
 *
 * Who has what, as far as it was told: which holders (nodes, engines) have which blocks in which tiers, and how far a
 * chain reaches at each of them.
 *
 * A block is a 64-bit hash that stands for its whole prefix, as engines' block hashes do, so a chain is the list of
 * its blocks' hashes and needs no links between them. It is fed by whoever knows: an engine's own events, or answers
 * of the directory. What it says is a hint: a block may be gone, or another may have come; nobody is harmed who
 * computes after all.
 *
 * Bounded: copies_max pairs of a block and a holder, 32 bytes each and 8 of index. When they are used up the one that
 * was entered longest ago goes. A flood by one holder pushes out others' at most to its share: see yk_where_add.
 *
 * Pure; nothing is allocated after it was made. Thread: one at a time.
 */
#ifndef YK_SCHED_WHERE_H
#define YK_SCHED_WHERE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_WHERE_HOLDERS_MAX 4096u
#define YK_WHERE_COPIES_MAX  (1u << 28)
#define YK_WHERE_STEPS_MAX   (1u << 17) /* copies that one look at a chain goes over */

/* Quickest first; a block in several counts as in the quickest. */
enum yk_where_tier { YK_WHERE_VRAM, YK_WHERE_DRAM, YK_WHERE_SSD, YK_WHERE_TIERS };

struct yk_where;

/* copies_max 1 to YK_WHERE_COPIES_MAX, holders_max 1 to YK_WHERE_HOLDERS_MAX. Who does not know the seed cannot make
 * hashes that are slow to find. -YK_EINVAL, -YK_ENOMEM. */
int yk_where_new(uint32_t copies_max, uint32_t holders_max, uint64_t seed, struct yk_where **ret_where);
void yk_where_free(struct yk_where *where); /* NULL is fine */

/* The holder (below holders_max) has it in that tier, besides others that were told. A holder that has half of all
 * copies replaces its own oldest for each new one once all are used, so that one that floods cannot push out the
 * others. 0; -YK_EINVAL: holder or tier out of range. */
int yk_where_add(struct yk_where *where, uint32_t holder, uint64_t block, enum yk_where_tier tier);

/* It has left that tier. 0, YK_MISS, -YK_EINVAL. */
int yk_where_remove(struct yk_where *where, uint32_t holder, uint64_t block, enum yk_where_tier tier);

/* The holder has nothing any more, as far as is known: its oldest first, until about so many copies were looked at.
 * Returns how many it still has; 0: done. */
uint32_t yk_where_clear(struct yk_where *where, uint32_t holder, uint32_t steps);

/* Copies looked at by all calls so far: by it a caller cuts what it does under a lock into pieces of about one
 * length, as a block that a thousand have costs a thousand steps. */
uint64_t yk_where_steps(const struct yk_where *where);

/* How far a chain reaches at a holder: blocks from its head on that are in VRAM, in VRAM or DRAM, in any tier. */
struct yk_where_lead {
    uint32_t holder;
    uint32_t blocks[YK_WHERE_TIERS];
};

/* Of holders that have the first block, in no order: writes at most max and returns how many. Ends at the first
 * block that nobody has who had all before it: a chain of which nothing is known costs one look. Ends after
 * YK_WHERE_STEPS_MAX copies, too: of a long chain that hundreds have what follows then is not seen. */
uint32_t yk_where_leads(struct yk_where *where, const uint64_t *blocks, uint32_t n, struct yk_where_lead *ret_leads,
                        uint32_t max);

/* Copies that are known: of one holder, or of all (YK_WHERE_ALL). */
#define YK_WHERE_ALL UINT32_MAX
uint32_t yk_where_count(const struct yk_where *where, uint32_t holder);

#ifdef __cplusplus
}
#endif

#endif
