/* SPDX-License-Identifier: Apache-2.0
 *
 * Reservations held ahead, so that a put costs one round trip: it takes a place that was granted
 * before, and its commit brings the next one along.
 *
 * KV blocks have a few exact lengths, so places are kept by exact length. A length is worth holding
 * for once it was put twice; then the pool asks for a few ahead, and for more when it ran dry, up to
 * a limit in bytes. A length that was not used in the last 64 puts gives its places back: held
 * memory is memory that the node cannot use (R4).
 *
 * Pure bookkeeping without input or output: who asks and who gives back is in tx.c and rx.c.
 * Rejected: holding by size class and cutting the tail (a reservation is exactly as long as its
 * block, so that the tier wastes nothing).
 *
 * Threads: under the lock of the handle.
 */
#ifndef YK_CLIENT_HOLD_H
#define YK_CLIENT_HOLD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_HOLD_LENGTHS 64u   /* lengths remembered at a time */
#define YK_HOLD_PLACES  1024u /* places held at a time */

/* A granted place: descriptor, its generation, offset of the payload. */
struct yk_rsv {
    uint32_t idx;
    uint64_t gen;
    uint64_t offset;
};

struct yk_hold_length {
    uint64_t len;     /* 0 = free */
    uint64_t used_at; /* number of the put that used it last */
    uint32_t puts;    /* how often it was put, up to 3 */
    uint32_t held;    /* places in the list */
    uint32_t coming;  /* asked for and not answered */
    uint32_t target;  /* how many to have ahead */
    uint32_t first;   /* place + 1, 0 = none */
};

struct yk_hold_place {
    struct yk_rsv rsv;
    uint32_t next; /* place + 1 */
};

struct yk_hold {
    uint64_t limit_bytes;
    uint64_t bytes; /* held and coming */
    uint64_t puts;
    uint32_t free;  /* place + 1 */
    uint32_t stale; /* place + 1: to be given back */
    struct yk_hold_length lengths[YK_HOLD_LENGTHS];
    struct yk_hold_place places[YK_HOLD_PLACES];
};

void yk_hold_init(struct yk_hold *h, uint64_t limit_bytes);

/* Notes a put of len bytes and takes a place for it. 1 with *ret_rsv, or 0: none is held. */
int yk_hold_take(struct yk_hold *h, uint64_t len, struct yk_rsv *ret_rsv);

/* How many places of this length to ask for ahead of need now, at most max; counts them as coming.
 * Every wish is answered by one yk_hold_came with the same number. */
uint32_t yk_hold_wish(struct yk_hold *h, uint64_t len, uint32_t max);

/* A wish of n was answered (granted, refused or lost). */
void yk_hold_came(struct yk_hold *h, uint64_t len, uint32_t n);

/* Keeps a granted place. 0, or -YK_ELIMIT: the caller gives it back to the node. */
int yk_hold_keep(struct yk_hold *h, uint64_t len, const struct yk_rsv *rsv);

/* Takes one place that is to be given back to the node: 1 with *ret_rsv, or 0. */
int yk_hold_stale(struct yk_hold *h, struct yk_rsv *ret_rsv);

/* Makes the places of every length but this one stale (the node has no room and some of it is
 * held here). Returns how many there are to give back now. */
uint32_t yk_hold_yield(struct yk_hold *h, uint64_t len);

/* Forgets all places: their segment is gone. What was learned about lengths stays. */
void yk_hold_forget(struct yk_hold *h);

/* Bytes of the places that are held. */
uint64_t yk_hold_bytes(const struct yk_hold *h);

#ifdef __cplusplus
}
#endif

#endif
