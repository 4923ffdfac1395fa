/* SPDX-License-Identifier: Apache-2.0
 *
 * A cache without payload that keeps the records of highest predicted rate, never one without its parent: a
 * heap of those without kept children.
 *
 * Rates change with time, so a place in the heap is a little old. Before a record goes it is predicted anew,
 * and with every second one another in turn; none twice within a request. Whoever comes in takes part, so a newcomer may go at
 * once: admission.
 *
 * Blocks of one request that have been silent since look alike, features being steps of logarithms: half of what is to be
 * scored was scored a moment ago, and is looked up.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_KEEPER_PRIV_H
#define YK_SCHED_KEEPER_PRIV_H

#include "sched/history_priv.h"

#include <stdbool.h>

struct yk_keeper_place {
    float value; /* here and not in the record, as most comparisons would fetch that for it */
    uint32_t record;
};

#define YK_KEEPER_SCORED 256u /* a power of two */

struct yk_keeper_scored {
    uint64_t x[3]; /* of a record, 0 at the end */
    float score;
};

struct yk_keeper {
    struct yk_history *history;
    const struct yk_trees *trees;
    struct yk_keeper_scored *scored; /* by these trees, in places by their features */
    struct yk_keeper_place *heap;
    uint32_t leaves, count, capacity, next_refreshed, trims;
    uint64_t bytes, capacity_bytes; /* of what is in; and the most, 0: capacity counts (history_priv.h) */
    float by_depth[YK_TREES_VALUES]; /* logarithm of what a block and those before it save in the mean, by its step */
    uint32_t unit_bytes;            /* what a block is worth by its rate alone if it is so long; 0: not known */
    bool is_mixed;                  /* some are of another length */
    uint8_t bit; /* of record.in */
};

/* All records of the history may be in between two trims, or if they are short. -YK_ENOMEM. */
int yk_keeper_init(struct yk_keeper *k, struct yk_history *history, const struct yk_trees *trees,
                   uint32_t capacity, uint8_t bit);
void yk_keeper_fini(struct yk_keeper *k);

/* Others decide from now on, or the same ones, which were changed. */
void yk_keeper_set_trees(struct yk_keeper *k, const struct yk_trees *trees);

/* The record was used: it comes in, or is predicted anew. Tail first within a request. */
void yk_keeper_use(struct yk_keeper *k, uint32_t record);

/* What a use saves grows by so much with each block of depth (policy.h); 0 before this is called. */
void yk_keeper_set_growth(struct yk_keeper *k, double saved_growth);

/* What is to be added to the logarithm of a record's rate for the logarithm of its worth, which is rate x what a use
 * saves / bytes: 0 where all save alike and are of one length. Both as means over the block and those before it: it keeps
 * them here, so a short one on top of long ones is not worth more than they are, nor is the deepest of a chain worth
 * more than a chain that is as long. */
float yk_keeper_worth(const struct yk_keeper *k, const struct yk_record *r);

/* If there are more than capacity, the next to go is out: true and *ret_record. */
bool yk_keeper_trim(struct yk_keeper *k, uint32_t *ret_record);

/* The value of the next to go, as of now. false: nobody is in. */
bool yk_keeper_peek(struct yk_keeper *k, float *ret_value);

/* Out, whatever it is worth. */
void yk_keeper_drop(struct yk_keeper *k, uint32_t record);

/* From what was saved: first all records that are in, then the leaves of them as the heap had them. What is no leaf is
 * left out, and what is one and does not come is the next to go. */
void yk_keeper_restore(struct yk_keeper *k, uint32_t record);
void yk_keeper_restore_leaf(struct yk_keeper *k, struct yk_keeper_place leaf);
/* All have come; of the history's first `records` ones. */
void yk_keeper_restored(struct yk_keeper *k, uint32_t records);

#endif
