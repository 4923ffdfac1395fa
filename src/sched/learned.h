/* SPDX-License-Identifier: Apache-2.0
 *
 * learned: a policy that learns from the stream which blocks are wanted again, with a floor under it.
 *
 * It is told of requests, each a whole chain with what is known of it, and keeps a bounded history of blocks,
 * here or not. From that it learns the rate of a block's next use (trees_priv.h). Three caches without
 * payload run over the same requests, each of the policy's capacity: lru, s3fifo, and one that keeps the
 * blocks of highest predicted rate, never a block without its parent. The real one holds what that of them
 * holds which hit most in the recent past. docs/scheduler.md has the model and its evidence.
 *
 * Its ops are those of every policy (policy.h).
 *
 * Room: what it is told when it is made (capacity_objects) is a limit. How much there is it sees from how many
 * blocks are here when one has to go, and of what length, and its three caches have as much: in a node blocks have
 * different sizes, some are pinned, and namespaces share what there is. Of blocks of different lengths those stay that
 * are wanted most by the byte. Where it is known how much it should have (yk_learned_set_share), it does not wait until
 * it has it.
 *
 * Memory: about 140 bytes for each of 4 x R + 100,000 blocks, R being the most that were here at a time, and 4 MiB.
 * All of it is mapped when it is made and touched as it is used. Threads: as every policy; training may leave its
 * owner's thread.
 */
#ifndef YK_SCHED_LEARNED_H
#define YK_SCHED_LEARNED_H

#include "sched/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct yk_policy_ops yk_policy_learned;

/* capacity_objects is held to this. */
#define YK_LEARNED_CAPACITY_MAX 10000000u

/* p is an instance of yk_policy_learned here and below. What the policy has seen is enough to learn from anew: a copy of that, from which
 *
 *     training = yk_learned_training_begin(p)     the owner, after requests; NULL: not now
 *     yk_learned_training_run(training)           any thread: it touches nothing else of the policy
 *     yk_learned_training_end(p)                  the owner, when run has returned: the new model decides
 *
 * make the model that decides; end without run gives it up. There is one at a time, begin returns NULL until its end; the policy is not freed in
 * between. Who never asks has a policy that never learns: the floor. begin takes up to 0.4 ms, run about 0.2 us for
 * each of up to 24,000 examples, end nothing. */
struct yk_learned_training;
struct yk_learned_training *yk_learned_training_begin(struct yk_policy *p);
void yk_learned_training_run(struct yk_learned_training *training);
void yk_learned_training_end(struct yk_policy *p);

/* ---- saved and restored ------------------------------------------------------------------------------------------
 *
 * Model, examples, records, what the caches without payload hold and how they did: all but which blocks are here. So it
 * is bound to whatever is here after a restart (yk_policy_block.found). docs/decisions/0029. */

/* Records that are saved at most, of those that were used last; about 60 bytes each, and 2 MiB besides. */
#define YK_LEARNED_SAVED_MAX (1u << 20)

/* begin, and step until it returns true, on the owner's thread, between other calls, up to 30 ns a record (the last step
 * 1 ms more); then end on any thread, some 0.3 us a record: *ret_bytes is the caller's to free. `free` takes NULL, and
 * gives up a saving at any point. The policy must not be freed before step has returned true, or free. */
struct yk_learned_saving;
struct yk_learned_saving *yk_learned_saving_begin(const struct yk_policy *p); /* NULL: no memory */
bool yk_learned_saving_step(struct yk_learned_saving *saving, uint32_t records);
int yk_learned_saving_end(struct yk_learned_saving *saving, void **ret_bytes, size_t *ret_len); /* -YK_ENOMEM */
void yk_learned_saving_free(struct yk_learned_saving *saving);

/* All of that at once. -YK_ENOMEM. */
int yk_learned_save(const struct yk_policy *p, void **ret_bytes, size_t *ret_len);

/* Into a policy that has seen nothing yet. It is now_ms by its clock, and that was saved away_ms ago. What there is no
 * room for is left out, least recently used first. -YK_ECORRUPT, -YK_EVERSION with a text: the policy is as it was;
 * -YK_EBUSY. bytes may be anything, and aligned anyhow. */
int yk_learned_load(struct yk_policy *p, const void *bytes, size_t len, uint64_t now_ms, uint64_t away_ms,
                    struct yk_err *err);

/* All that was found at a start is in: the order among those is that of their last uses, as far as it was loaded. 0.1 to
 * 0.2 us a record. */
void yk_learned_found(struct yk_policy *p);

/* What a start with nothing here is to load first, of what was loaded: what the followed cache had, what is worth most
 * first, ancestors before their descendants. worth: of a place, the logarithm of a rate, comparable among policies. 0 and
 * an array that is the caller's to free, or -YK_ENOMEM. About 0.2 us a block. */
struct yk_learned_first {
    uint64_t key_hash;
    float worth;
};
int yk_learned_first(const struct yk_policy *p, struct yk_learned_first **ret_first, uint32_t *ret_n);

/* A chain that is likely to be wanted soon and has blocks that the policy let go: hashes of those, head first, at most
 * `most` (a chain of more is left alone). They are to be fetched from the tier below and inserted with is_ahead. 0: none
 * for now; else ask again. Where timing is not predictable it is 0 for long. Takes up to 0.1 ms. Of hashes
 * YK_POLICY_HASH_BITS count. */
uint32_t yk_learned_prefetch(struct yk_policy *p, uint64_t now_ms, uint64_t *ret_hashes, uint32_t most);

/* Is a block that prefetch has named still to come up? Not when it was used since, or was let go of. */
bool yk_learned_is_due(const struct yk_policy *p, uint64_t key_hash);

/* It does not come: it is nowhere, or was not to be had in time. Else the policy would hold what cannot be hit, in the place
 * of what is here, and take it for used when it is wanted. Not due, or here: nothing happens. */
void yk_learned_not_coming(struct yk_policy *p, uint64_t key_hash);

#define YK_LEARNED_FEATURES 19u

/* What is thought of a block, here or not. */
struct yk_learned_block {
    bool is_here;
    bool in_lru, in_s3fifo, in_learned; /* which of the caches without payload have it */
    bool stays;                         /* the one that is followed has it; else it is the first to go */
    uint32_t uses, children;            /* that were seen */
    uint32_t age_ms, life_ms;           /* since its last, its first use */
    double rate;                        /* predicted uses a second; 0: nothing was learned yet */
    bool is_leaf;                       /* none of its children is in the one that learned: it may go there */
    uint32_t before, leaves;            /* of these, those that would go before it, if it is one */
    uint8_t features[YK_LEARNED_FEATURES]; /* as the model has them: steps of logarithms, most of them */
};

/* 0, or YK_MISS: it is not known, or was forgotten. Walks the leaves, some ns each. */
int yk_learned_explain(const struct yk_policy *p, uint64_t key_hash, struct yk_learned_block *ret_block);
/* Static storage; NULL for what is none. */
const char *yk_learned_feature_name(uint32_t feature);

/* Predicted against seen, of the last 20,000 to 40,000 examples: uses within 300 s that were expected, and that came. In
 * tenths of the examples by predicted rate, the lowest first; tenths are rough, and one may be empty. */
#define YK_LEARNED_TENTHS 10u
struct yk_learned_tenth {
    double examples, expected, seen;
};
struct yk_learned_calibration {
    double examples, expected, seen;
    double ratio;      /* seen by expected: 1 is right, below 1 is too hopeful. 0: nothing was expected */
    double bits_a_use; /* by which uses surprise less than if all blocks had the mean rate: what the model knows */
    struct yk_learned_tenth tenths[YK_LEARNED_TENTHS];
};

/* How it does. hits: of lru, s3fifo, the one that learned; in blocks of leading runs. */
#define YK_LEARNED_CACHES 3u
struct yk_learned_report {
    const char *follows; /* static */
    uint64_t changes;    /* of what is followed, ever */
    uint32_t room, here, records, examples;
    uint64_t blocks, hits[YK_LEARNED_CACHES], real_hits; /* since the start */
    double late_blocks, late_hits[YK_LEARNED_CACHES];    /* of the last four rooms of blocks, fading */
    uint64_t trainings, model_age_ms;
    bool has_model;
    struct yk_learned_calibration calibration;
};
void yk_learned_report(const struct yk_policy *p, struct yk_learned_report *ret);

/* It may have so many blocks, when others have given what is not theirs. 0: nobody knows. */
void yk_learned_set_share(struct yk_policy *p, uint32_t blocks);

/* Blocks that the caches without payload have room for now. */
uint32_t yk_learned_room(const struct yk_policy *p);

/* Which cache is followed now: "lru", "s3fifo" or "learned". */
const char *yk_learned_follows(const struct yk_policy *p);

#ifdef __cplusplus
}
#endif

#endif
