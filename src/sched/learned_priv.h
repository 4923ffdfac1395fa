/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the learned policy (learned.h): shared by what decides (learned.c) and what is saved of it (saved.c).
 *
 * Thread: owner loop, but for a training that is under way.
 */
#ifndef YK_SCHED_LEARNED_PRIV_H
#define YK_SCHED_LEARNED_PRIV_H

#include "sched/choice_priv.h"
#include "sched/keeper_priv.h"
#include "sched/learned.h"
#include "sched/lessons_priv.h"
#include "sched/order_priv.h"
#include "sched/place_priv.h"
#include "sched/shadow_priv.h"
#include "sched/wanted_priv.h"

/* The model in use, and the next one with what it is made from. */
struct yk_learned_training {
    struct yk_trees trees[2];
    struct yk_place place; /* the near wait */
    uint32_t used; /* of the two */
    bool is_taken, is_made;
    struct yk_fit fit;
    uint32_t count;
    struct yk_fit_example examples[YK_LESSONS];
};

enum { FOLLOW_LRU, FOLLOW_S3FIFO, FOLLOW_KEEPER, FOLLOWED };

struct learned {
    struct yk_policy base;
    struct yk_order order; /* of what is here */
    struct yk_history history;
    struct yk_lessons lessons;
    struct yk_keeper keeper;
    struct yk_wanted wanted;
    struct yk_shadow_lru lru;
    struct yk_shadow_s3fifo s3fifo;
    struct yk_learned_training *training;
    double saved_growth; /* policy.h */
    uint32_t *chain;     /* records of the request */
    uint32_t *record_of; /* by id: a record + 1, or 0 */
    uint32_t *bytes_of;  /* by id: of the block that is here */
    uint64_t here_bytes;
    double mean;         /* length of the blocks that are here, in unit_bytes */
    uint32_t unit_bytes; /* the first block's length, in which lengths are told; 0: none came yet */
    struct yk_choice choice;
    uint64_t requests_clock; /* of the history, when the last request began */
    uint64_t last_ms;
    uint64_t blocks, all_hits[FOLLOWED], real_hits, changes, trainings; /* ever */
    uint64_t model_ms; /* when the model was taken */
    double room; /* blocks of unit_bytes; 0: none had to go yet */
    uint32_t peak; /* blocks that were here at a time */
    uint32_t share; /* blocks that it was told that it may have; 0: nobody knows */
    uint32_t capacity, capacity_max, chain_max, follows;
    bool has_below; /* what is not here costs a read, and its children nothing */
    uint32_t walk, walk_left; /* the next record to see whether it is followed, and blocks that are to be seen */
};

/* Records that it remembers where so many blocks are here at a time. */
#define YK_LEARNED_RECORDS_OF(capacity) (4 * (capacity) + 100000u)

/* Of the caches without payload, in blocks of mean length. Trims nothing. */
void yk_learned_set_capacity(struct learned *l, uint32_t capacity);

#endif
