/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulator behind `yolk sim`: a trace against one cache of one tier or two, counted in blocks.
 *
 * A request hits the leading run of its blocks that is present: without its ancestors a block is useless.
 * Then all its blocks are used, tail first, so that the tail is also the first to go: present ones are
 * accessed, missing ones come in. What a policy of src/sched decides here is what it decides in a node, as
 * it is the same object; the others are yardsticks (ranked.c, queues.c, tinylfu.c).
 *
 * With a tier below what leaves the cache goes there. Then a hit is a block of the leading run of what is present in
 * either tier, and each is served by the tier that has it; a block that is used comes into the cache from below too,
 * as if it was missing, and goes at once if the policy has better.
 *
 * Where blocks are given lengths, the cache has room for as many bytes as `capacity` blocks of mean length have. What a
 * block saves is alike for all, or grows with its depth as attention makes it.
 *
 * Thread: one; no globals. The same trace, options and seed give the same counts everywhere.
 */
#ifndef YK_SIM_SIM_H
#define YK_SIM_SIM_H

#include "sim/load.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SIM_CAPACITY_MAX 60000000u /* blocks; below YK_POLICY_IDS_MAX */

/* Before this request the cache loses all that it holds, but not what it knows; the tier below has all of it, as after an
 * orderly stop. */
struct yk_sim_restart {
    uint64_t request;
    double preload_per_s; /* blocks that come up from below by themselves, in the order of a node; 0: none */
    uint32_t window;      /* requests over which hits are compared */
};
#define YK_SIM_LENGTH_MAX   (1u << 30) /* bytes */

struct yk_sim_opts {
    const char *policy; /* one of yk_sim_policy_names */
    uint32_t capacity;  /* blocks, 1 to YK_SIM_CAPACITY_MAX */
    uint64_t seed;
    uint64_t below;     /* blocks that the tier below has room for; 0: there is none, YK_SIM_BELOW_ALL: for all */
    /* A block's length: bytes_min, or twice that, and so on up to bytes_max, drawn from its id; but from the second block of
     * a chain on all are as long as that. 0: all have one length. For lru, lfu, s3fifo, gdsf, learned; one tier. */
    uint64_t bytes_min, bytes_max;
    bool draws_each; /* a length for each block of a chain */
    const char *shape;  /* of yk_sim_shape_names: what a hit saves grows with its depth as this model's compute does. NULL,
                         * or the first: all hits save alike */
    bool prefetches;    /* chains come up from below before they are wanted, each second of the trace: learned */
    const struct yk_sim_restart *restart; /* NULL: none. lru, s3fifo, learned, with a tier below */
    uint32_t *ret_cache_hits;             /* by request: of its hits those of the cache itself; NULL: not wanted */
};

#define YK_SIM_BELOW_ALL UINT64_MAX

struct yk_sim_result {
    uint64_t requests, blocks, hit_blocks;
    uint64_t below_hit_blocks; /* of hit_blocks: those that only the tier below had */
    uint64_t below_written;    /* blocks that went there */
    uint64_t moved, moved_used; /* blocks that came up ahead, and those of them that were used before they left */
    uint64_t preloaded;         /* blocks that came up so after a restart */
    uint64_t room_bytes, bytes, hit_bytes; /* where blocks have lengths; else in blocks */
    double saved, all_saved;               /* compute that hits saved, and all blocks would, in that of a first block */
    uint64_t trainings;
    uint64_t decision_ns, training_ns; /* CPU time of the run, without its trainings and of those */
};

/* NULL at the end. */
extern const char *const yk_sim_policy_names[];
extern const char *const yk_sim_shape_names[]; /* "none", and those of sched/cost.h */

/* 0; -YK_EINVAL: no such policy or shape, not one for two tiers or for prefetch, or a capacity out of range; -YK_ENOMEM. */
int yk_sim_run(const struct yk_sim_trace *trace, const struct yk_sim_opts *opts,
               struct yk_sim_result *ret_result, struct yk_err *err);

/* Back: over the next `window` requests the cache itself hits 0.9 of what it would have hit without a restart. */
struct yk_sim_back {
    bool is_back; /* false: not within the trace */
    uint64_t requests, ms; /* from the restart on */
};
struct yk_sim_restarted {
    struct yk_sim_result never, preload; /* runs without the restart, and with it */
    struct yk_sim_back preload_back, demand_back; /* demand: filled as blocks are asked for, and no other way */
};

/* Three runs. Errors as of yk_sim_run; restart and ret_cache_hits of opts do not count. */
int yk_sim_restart_run(const struct yk_sim_trace *trace, const struct yk_sim_opts *opts, const struct yk_sim_restart *restart,
                       struct yk_sim_restarted *ret, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
