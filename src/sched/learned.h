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
 * Its ops are those of every policy (policy.h); it is in yolkd's list when the node announces requests.
 *
 * Memory: about 125 bytes for each of 4 x capacity_objects + 100,000 blocks, and 4 MiB. All of it is
 * allocated when it is made. Threads: as every policy; training may leave its owner's thread.
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

struct yk_learned_request {
    uint64_t now_ms;            /* from any start; going back counts as standing still */
    const uint64_t *key_hashes; /* head of the chain first; borrowed for the call */
    uint32_t n;
    uint32_t last_block_eighths; /* how full the last block is, 1 to 7; 0: full, or not known */
    uint32_t output_length;      /* tokens; 0: not known */
    uint32_t stop;               /* enum yk_trace_stop; 0: not known */
};

/* A request begins: its blocks are accessed or inserted next, tail first. p is an instance of
 * yk_policy_learned. */
void yk_learned_request(struct yk_policy *p, const struct yk_learned_request *request);

/* What the policy has seen is enough to learn from anew: a copy of that, from which
 *
 *     training = yk_learned_training_begin(p)     the owner, after requests; NULL: not now
 *     yk_learned_training_run(training)           any thread: it touches nothing else of the policy
 *     yk_learned_training_end(p)                  the owner, when run has returned: the new model decides
 *
 * make the model that decides; end without run gives it up. There is one at a time, begin returns NULL until its end; the policy is not freed in
 * between. Who never asks has a policy that never learns: the floor. begin takes up to 0.4 ms, run about 0.4 us for
 * each of up to 24,000 examples, end nothing. */
struct yk_learned_training;
struct yk_learned_training *yk_learned_training_begin(struct yk_policy *p);
void yk_learned_training_run(struct yk_learned_training *training);
void yk_learned_training_end(struct yk_policy *p);

/* Which cache is followed now: "lru", "s3fifo" or "learned". */
const char *yk_learned_follows(const struct yk_policy *p);

#ifdef __cplusplus
}
#endif

#endif
