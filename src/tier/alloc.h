/* SPDX-License-Identifier: Apache-2.0
 *
 * Block allocator of a tier: hands out byte ranges [offset, offset + len) of a payload segment of
 * `capacity` bytes. It never touches the payload, so the segment may be DRAM, VRAM or a file.
 *
 * The capacity is cut into pages (4 KiB to 64 KiB, by capacity). An extent is a run of pages that
 * is divided into slots of exactly one size (a class); its length is chosen so that the tail that
 * no slot fits into is below 1/256. Classes come from the sizes that really arrive: the few exact
 * sizes of KV blocks get classes of their own, the long tail of odd sizes shares classes 1/32
 * apart. A size that fills whole pages well, or is too large for a class, takes a page run of its
 * own by best fit. Rejected: power-of-two or fixed bins (a block of 3,274,752 bytes wastes up to
 * a quarter of its bin), fixed 64 MiB extents (an extent is seldom empty again under random
 * eviction, so memory would never move between sizes), per-block headers (they would live in
 * memory that clients write).
 *
 * What persists is one 64-bit word for each extent or run, in memory the caller provides (the
 * `table`). It is only written while running and never believed: a recovery checks every word.
 * Which slots are in use is told by the caller's own block descriptors, through yk_alloc_claim.
 *
 * Thread: one owner; no locks, no atomics beyond the table's stores, no allocation after _new.
 */
#ifndef YK_TIER_ALLOC_H
#define YK_TIER_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_ALLOC_LEN_MAX      (1ull << 32) /* one allocation, bytes */
#define YK_ALLOC_CAPACITY_MIN 4096ull
#define YK_ALLOC_CAPACITY_MAX (1ull << 45)

/* Slots and runs start at multiples of this: whole cache lines, and from 4 KiB lengths up whole
 * 512-byte sectors, so that a direct read from a device can land in a slot. */
#define YK_ALLOC_ALIGN_SMALL 64u
#define YK_ALLOC_ALIGN_LARGE 512u

/* Thread: owner loop. */
struct yk_alloc;

struct yk_alloc_opts {
    uint32_t size; /* sizeof(struct yk_alloc_opts) */
    uint64_t capacity_bytes;
    /* Extent table: borrowed until yk_alloc_free, 8-byte aligned, at least
     * yk_alloc_table_bytes(capacity_bytes) long. NULL: a private one (nothing survives). */
    void *table;
    uint64_t table_bytes;
    /* Read the table as a crash left it; see yk_alloc_claim. Otherwise the table is cleared. */
    bool recover;
};

struct yk_alloc_stats {
    uint64_t capacity_bytes;
    uint64_t page_bytes;
    uint64_t payload_bytes;      /* what callers asked for and still hold */
    uint64_t slot_bytes;         /* reserved for it: allocated slots and runs, rounding included */
    uint64_t idle_bytes;         /* free slots inside extents */
    uint64_t free_bytes;         /* whole free pages */
    uint64_t waste_bytes;        /* extent tails and the capacity's own tail */
    uint64_t largest_free_bytes; /* longest run of free pages */
    uint64_t metadata_bytes;     /* private memory in use for bookkeeping, table included */
    uint64_t slots;              /* allocated slots and runs */
    uint64_t dropped;            /* table words that the recovery refused */
    uint32_t extents;            /* multi-slot extents */
    uint32_t runs;               /* page runs that hold one allocation */
};

struct yk_alloc_class_stats {
    uint64_t slot_bytes; /* of one slot */
    uint64_t slots;      /* in all extents of the class */
    uint64_t used;
    uint32_t extents;
};

/* One move: the caller copies [from, from + len) to [to, to + len). len is the slot's; the block
 * in it may be shorter. */
struct yk_alloc_move {
    uint64_t from_offset;
    uint64_t to_offset;
    uint64_t len;
};

/* Bytes of table that a capacity needs. */
uint64_t yk_alloc_table_bytes(uint64_t capacity_bytes);

/* Page size that a capacity gets. */
uint64_t yk_alloc_page_bytes(uint64_t capacity_bytes);

/* Smallest capacity (a whole number of pages) that surely holds `count` allocations of `len`
 * bytes when nothing of another size is there. 0 if that is beyond the limits. */
uint64_t yk_alloc_capacity_for(uint64_t len, uint64_t count);

/* Errors: -YK_EINVAL (capacity, table too small or misaligned), -YK_ETOOBIG, -YK_ENOMEM. */
int yk_alloc_new(const struct yk_alloc_opts *opts, struct yk_alloc **ret, struct yk_err *err);

/* Leaves the table as it is, so that a later _new with `recover` can read it. NULL is fine. */
void yk_alloc_free(struct yk_alloc *a);

/* Allocates len bytes (1 .. YK_ALLOC_LEN_MAX). O(1), page runs of 64 MiB and more excepted.
 * Errors: -YK_ENOSPC, -YK_EINVAL (len 0), -YK_ETOOBIG, -YK_EBUSY (recovery not done). */
int yk_alloc_get(struct yk_alloc *a, uint64_t len, uint64_t *ret_offset);

/* Gives back what get, claim or a committed move handed out. Refuses with -YK_EINVAL whatever is
 * not the start of an allocated slot that a get of len could have returned: offset and len may
 * come from shared memory that somebody scribbled on. */
int yk_alloc_put(struct yk_alloc *a, uint64_t offset, uint64_t len);

/* Bytes that a get of len would reserve now; 0 if len is out of range. */
uint64_t yk_alloc_slot_bytes(const struct yk_alloc *a, uint64_t len);

/* Recovery. After _new with `recover` every slot that the table describes is unclaimed: claim what
 * the block descriptors (and reservations whose writer may still be alive) name, then call
 * _recover_done, which frees the rest and opens get and put. A claim that does not fit its extent,
 * or was made before, is -YK_ECORRUPT; a claim when no recovery is under way is -YK_EBUSY. */
int yk_alloc_claim(struct yk_alloc *a, uint64_t offset, uint64_t len);
int yk_alloc_recover_done(struct yk_alloc *a);

/* Compaction. _begin opens a session (and ends the one before): want_bytes > 0 stops as soon as a
 * free run of that many bytes exists, or at once if the free pages can't make one; 0 goes on until
 * nothing is left to gain. _next proposes one move after another: first the emptiest extents of
 * a class are drained into its fuller ones, then runs and extents are moved so that holes join.
 * The destination of a proposed move is allocated already. Many moves may be under way; each needs
 * exactly one of
 *   _commit: the block of payload_len bytes now lives at to_offset. from_offset stays allocated
 *            until the caller puts it (at once, or when the last reader has left).
 *   _skip:   the block can't move (pinned, or nothing there): to_offset is freed, from_offset stays
 *            as it was and is left alone for the rest of the session.
 * Returns 1 with a move; 0 when there is nothing (more) to do until slots change; -YK_EAGAIN when
 * the step's bound on work is reached and the caller may call again; -YK_EBUSY in a recovery.
 * The planner never waits, and gets and puts may come between its calls. A block moves only where it
 * fits, so a session gains most while some space is free, after a reclaim rather than after a get
 * has failed. */
int yk_alloc_compact_begin(struct yk_alloc *a, uint64_t want_bytes);
int yk_alloc_compact_next(struct yk_alloc *a, struct yk_alloc_move *ret_move);
int yk_alloc_compact_commit(struct yk_alloc *a, const struct yk_alloc_move *move,
                            uint64_t payload_len);
int yk_alloc_compact_skip(struct yk_alloc *a, const struct yk_alloc_move *move);

/* slot + idle + free + waste = capacity. */
void yk_alloc_stats(const struct yk_alloc *a, struct yk_alloc_stats *ret);

/* Fills at most max entries, one for each class with extents; returns how many there are. */
uint32_t yk_alloc_classes(const struct yk_alloc *a, struct yk_alloc_class_stats *ret, uint32_t max);

#ifdef __cplusplus
}
#endif

#endif
