/* SPDX-License-Identifier: Apache-2.0
 *
 * Several tenants on one cache: a trace each, at the traces' times, as the namespaces of a node (src/node/partition.c).
 *
 * Each tenant has a policy of its own, and all have one capacity, in blocks. What has to go is chosen by shares
 * (sched/shares.h), or, without them, it is the oldest of all. Policies and shares are those of a node; it is one tier.
 *
 * Thread: one; no globals. The same traces, options and seed give the same counts everywhere.
 */
#ifndef YK_SIM_TENANTS_H
#define YK_SIM_TENANTS_H

#include "sim/load.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SIM_TENANTS_MAX 64u

struct yk_sim_tenants_opts {
    const char *policy; /* of src/sched: lru, s3fifo, learned */
    uint32_t capacity;  /* blocks, of all together */
    uint64_t seed;
    bool shares;
};

struct yk_sim_tenant_result {
    uint64_t requests, blocks, hit_blocks;
    uint64_t end_blocks;  /* that it had at the end */
    uint64_t share_blocks; /* that it should have had; 0: no shares, or not known */
    double share_hit_ratio; /* what an LRU of its share would have hit of late */
};

/* Requests of one time are made in the order of the traces. -YK_EINVAL: no such policy, no or too many traces, a capacity
 * out of range; -YK_ETOOBIG: too many different blocks; -YK_ENOMEM. */
int yk_sim_tenants_run(const struct yk_sim_trace *traces, uint32_t count, const struct yk_sim_tenants_opts *opts,
                       struct yk_sim_tenant_result *ret_results, struct yk_err *err);

/* CPU time of shares alone: hearing all requests of these tenants, with the divisions that are due meanwhile; and saying who
 * gives, once for each block. */
struct yk_sim_shares_cost {
    uint64_t blocks, divisions;
    uint64_t hearing_ns, giving_ns;
};
int yk_sim_shares_cost(const struct yk_sim_trace *traces, uint32_t count, uint32_t capacity, uint64_t seed,
                       struct yk_sim_shares_cost *ret_cost, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
