/* SPDX-License-Identifier: Apache-2.0
 *
 * How much of a cache each tenant should have: the division that hits most, by what each has asked for of late.
 *
 * Of each tenant (a node's namespaces) it is known what an LRU of any size would have hit (reuse_priv.h). Each begins
 * with what it is guaranteed; then the piece of capacity that brings most hits a byte, times its tenant's priority,
 * goes to that tenant, and so on. A piece is as long as its hits a byte are most: so a loop, which hits nothing until
 * all of it fits, competes as a whole, and where the whole does not fit any more it gets nothing (the concave hull of
 * the curve, cut where capacity ends; "lookahead" of Qureshi and Patt 2006). What nobody gains by is divided as the
 * rest was. A tenant that only scans has a flat curve and gets next to nothing, however much it asks for.
 *
 * Shares move towards that by a bounded step a period. A period is a quarter of the capacity in blocks asked for: no
 * clock, and who is idle together stays as they are.
 * Rejected: one order of use for all (whoever asks most has most); equal shares (who needs little wastes it); hit rates
 * alone (they do not say what more would bring).
 *
 * Bytes of tenants are compared through their mean block. Memory: some 40 KiB for each tenant that joined. Pure,
 * deterministic: the same calls and seed make the same shares. Thread: owner loop.
 */
#ifndef YK_SCHED_SHARES_H
#define YK_SCHED_SHARES_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SHARES_TENANTS_MAX 256u

struct yk_shares;

struct yk_shares_opts {
    uint32_t tenants; /* numbers go below; 1..YK_SHARES_TENANTS_MAX */
    uint64_t capacity_bytes;
    uint64_t seed; /* of the sample */
};

/* -YK_EINVAL: no tenants, too many, or no capacity; -YK_ENOMEM. */
int yk_shares_new(const struct yk_shares_opts *opts, struct yk_shares **ret_shares);
void yk_shares_free(struct yk_shares *shares); /* NULL is fine */

/* Of all tenants; 0 is taken as 1. Shares keep their proportions. */
void yk_shares_capacity(struct yk_shares *shares, uint64_t capacity_bytes);

/* Allocates; nothing below does. Again: nothing happens. -YK_EINVAL: the number; -YK_ENOMEM. */
int yk_shares_join(struct yk_shares *shares, uint32_t tenant);
/* Its share goes to the others, step by step. */
void yk_shares_leave(struct yk_shares *shares, uint32_t tenant);

struct yk_shares_terms {
    uint64_t least_bytes; /* guaranteed; together more than there is, but for a 64th: each less in proportion */
    uint64_t most_bytes;  /* quota; 0: none. It is above the guarantee */
    double priority;      /* what a hit counts; 0, or not a number: 1. Cut to 1/1,000 to 1,000 */
    uint64_t block_bytes; /* the mean block; 0: 1 */
};
/* YK_MISS: it has not joined. */
int yk_shares_set_terms(struct yk_shares *shares, uint32_t tenant, const struct yk_shares_terms *terms);

/* The tenant asks for a chain, its head first: as struct yk_policy_request. Who has not joined is not heard. */
void yk_shares_request(struct yk_shares *shares, uint32_t tenant, const uint64_t *key_hashes, uint32_t n);

/* Is a period over? Then the next step may be made, which takes up to some milliseconds of very many tenants. */
bool yk_shares_is_due(const struct yk_shares *shares);
void yk_shares_update(struct yk_shares *shares);

/* Has a period passed at all? Before that there are no shares. */
bool yk_shares_are_known(const struct yk_shares *shares);

uint64_t yk_shares_bytes(const struct yk_shares *shares, uint32_t tenant);
/* What its guarantee comes to beside those of the others. */
uint64_t yk_shares_least_bytes(const struct yk_shares *shares, uint32_t tenant);
/* As yk_shares_hit_ratio of its share, as of the last update. */
double yk_shares_predicted(const struct yk_shares *shares, uint32_t tenant);
/* What the last update found best; the share is on its way there. */
uint64_t yk_shares_target_bytes(const struct yk_shares *shares, uint32_t tenant);

/* ---- who gives --------------------------------------------------------------------------------- */

#define YK_SHARES_NONE UINT32_MAX

/* It has so much now. */
void yk_shares_set_used(struct yk_shares *shares, uint32_t tenant, uint64_t bytes);
/* Who gives next when something has to go: the tenant that has something and is most above its share, or its guarantee if
 * that is more, then (`after` that
 * one) the next, down to who is most below. After the last, and as long as shares are not known: YK_SHARES_NONE. */
uint32_t yk_shares_giver(const struct yk_shares *shares, uint32_t after);
/* Is it within what it is guaranteed? That holds before shares are known, too, from the terms alone. */
bool yk_shares_is_guaranteed(const struct yk_shares *shares, uint32_t tenant);

/* Of what it asked for of late: the part that an LRU of so many bytes would have hit. 0 if nothing is known. */
double yk_shares_hit_ratio(const struct yk_shares *shares, uint32_t tenant, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
