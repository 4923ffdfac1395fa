/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts the hits of a policy on a trace, block by block.
 *
 * A request hits the leading run of its ids that is present. Then all its ids are used: present
 * ones are accessed, missing ones inserted, each after as many evictions as make room for it. By
 * default the tail of the chain comes first, so that it is also the first to go.
 *
 * A missing block's descriptor is reserved before the request's blocks go in, so that a child that
 * goes in first can name its parent.
 */
#ifndef YK_TEST_HIT_SIM_H
#define YK_TEST_HIT_SIM_H

#include "sched/policy.h"

enum hit_sim_order { TAIL_FIRST, HEAD_FIRST };

struct hit_sim;

struct hit_sim *hit_sim_new(const struct yk_policy_ops *ops, uint32_t capacity_blocks,
                            enum hit_sim_order order);

/* Returns the leading run that was present. Ids may be any below 2^32; they are looked up in an
 * array as long as the largest. */
uint32_t hit_sim_request(struct hit_sim *sim, const uint64_t *ids, uint32_t n);

/* Called with the ids of each request of a generated trace. */
typedef void (*generated_fn)(void *arg, const uint64_t *ids, uint32_t n);

/* Hands the requests of a generated trace of one kind (enum yk_trace_kind; negative: the default
 * mix) to fn. Contexts are kept to 64 blocks, so that small capacities mean something. */
void hit_sim_generate(int kind, uint64_t seed, uint64_t requests, generated_fn fn, void *arg);

/* generated_fn whose arg is a hit_sim. */
void hit_sim_feed(void *sim, const uint64_t *ids, uint32_t n);

uint64_t hit_sim_hits(const struct hit_sim *sim);
uint64_t hit_sim_total(const struct hit_sim *sim);

/* Victims that had a child present. */
uint64_t hit_sim_orphaned(const struct hit_sim *sim);

void hit_sim_free(struct hit_sim *sim);

#endif
