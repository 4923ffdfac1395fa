/* SPDX-License-Identifier: Apache-2.0
 *
 * What the simulator asks of a cache, and the list over block numbers that most are made of.
 *
 * `use` is one op for a hit and a miss, as ARC and W-TinyLFU move blocks between queues on either. The
 * evictions happen inside: nobody pins a block here.
 *
 * Thread: one.
 */
#ifndef YK_SIM_CACHE_PRIV_H
#define YK_SIM_CACHE_PRIV_H

#include "sim/sim.h"

#include <stdbool.h>
#include <stdlib.h>

#define YK_SIM_BLOCK_TOKENS 512u /* as in the public traces */

struct yk_sim_cache;

struct yk_sim_cache_ops {
    const char *name;
    bool takes_lengths; /* counts bytes, not blocks: lengths and room_bytes */
    bool says_left; /* calls yk_sim_left: it can stand over another tier */
    size_t size; /* of its struct, which begins with yk_sim_cache and comes zeroed */
    /* 0 or a failure, after which fini is called too. The trace outlives the cache; only the optimum looks ahead in
     * it. */
    int (*init)(struct yk_sim_cache *cache, const struct yk_sim_trace *trace, const struct yk_sim_opts *opts);
    void (*fini)(struct yk_sim_cache *cache); /* half-built ones too */
    /* The request of this number begins: its hits are counted, its blocks will be used. 0 or a failure. Or NULL. */
    int (*request)(struct yk_sim_cache *cache, uint64_t number);
    /* What is wanted soon comes up, at a moment between two requests. 0 or a failure. NULL: it never does. */
    int (*prefetch)(struct yk_sim_cache *cache, uint64_t at_ms);
    /* A restart: all it holds goes below, and what it knows stays. 0 or a failure. NULL: it cannot. */
    int (*restart)(struct yk_sim_cache *cache, uint64_t at_ms);
    /* After it, at most so many blocks come up again, what is worth most first. 0 or a failure. */
    int (*preload)(struct yk_sim_cache *cache, uint64_t most);
    bool (*has)(const struct yk_sim_cache *cache, uint32_t block);
    int (*use)(struct yk_sim_cache *cache, uint32_t block); /* 0 or a failure that ends the run */
};

/* The head of every cache. */
struct yk_sim_cache {
    const struct yk_sim_cache_ops *ops;
    const uint32_t *lengths;    /* by block, in bytes; NULL: all have 1 */
    uint64_t room_bytes;        /* of such, as many as capacity blocks of mean length; capacity where all have 1 */
    double saved_growth;        /* as in policy.h */
    struct yk_sim_below *below; /* where what leaves goes, if says_left; NULL: nowhere */
    uint64_t moved, moved_used, preloaded; /* as in the result */
    uint64_t training_ns; /* CPU time, and how often: learned */
    uint32_t trainings;
};

/* From one request to a later one; a trace that goes back stands still. */
static inline uint64_t yk_sim_since_ms(const struct yk_sim_trace *t, uint64_t from, uint64_t to) {
    return t->reqs[to].at_ms > t->reqs[from].at_ms ? t->reqs[to].at_ms - t->reqs[from].at_ms : 0;
}

/* Stands for a hash of the key: numbers that follow each other must not look alike. */
static inline uint64_t yk_sim_hash(uint64_t id) {
    uint64_t z = (id + 1) * UINT64_C(0xff51afd7ed558ccd);
    return z ^ (z >> 32);
}

static inline uint32_t yk_sim_length(const struct yk_sim_cache *cache, uint32_t block) {
    return cache->lengths != NULL ? cache->lengths[block] : 1;
}

/* CPU time of the process. */
uint64_t yk_sim_cpu_ns(void);

extern const struct yk_sim_cache_ops yk_sim_lru;     /* sched.c */
extern const struct yk_sim_cache_ops yk_sim_s3fifo;  /* sched.c */
extern const struct yk_sim_cache_ops yk_sim_learned; /* sched.c */
extern const struct yk_sim_cache_ops yk_sim_lfu;     /* ranked.c */
extern const struct yk_sim_cache_ops yk_sim_gdsf;    /* ranked.c */
extern const struct yk_sim_cache_ops yk_sim_opt;     /* ranked.c */
extern const struct yk_sim_cache_ops yk_sim_arc;     /* queues.c */
extern const struct yk_sim_cache_ops yk_sim_sieve;   /* queues.c */
extern const struct yk_sim_cache_ops yk_sim_tinylfu; /* tinylfu.c */

/* ---- lists.c: up to YK_SIM_LISTS lists, each block in one at a time -------------------------- */

#define YK_SIM_LISTS 4

struct yk_sim_lists {
    uint32_t *older, *younger;            /* by block */
    uint8_t *in;                          /* by block: 1 + its list, or 0 */
    uint32_t oldest[YK_SIM_LISTS], youngest[YK_SIM_LISTS], count[YK_SIM_LISTS];
};

int yk_sim_lists_init(struct yk_sim_lists *lists, uint64_t blocks); /* -YK_ENOMEM, to be finished */
void yk_sim_lists_fini(struct yk_sim_lists *lists);
/* Moves the block, from whatever list it is in, to the young end of `list`. */
void yk_sim_lists_move(struct yk_sim_lists *lists, uint32_t block, int list);
void yk_sim_lists_drop(struct yk_sim_lists *lists, uint32_t block);

static inline bool yk_sim_lists_has(const struct yk_sim_lists *lists, uint32_t block, int list) {
    return lists->in[block] == list + 1;
}

/* ---- tiers.c: the tier below -------------------------------------------------------------------- */

struct yk_sim_below {
    struct yk_sim_lists lists;
    uint64_t capacity, written; /* blocks */
};

int yk_sim_below_init(struct yk_sim_below *below, const struct yk_sim_trace *trace, uint64_t capacity);
void yk_sim_below_fini(struct yk_sim_below *below);
/* The block left the cache above: it is written, unless it stands here already. */
void yk_sim_below_add(struct yk_sim_below *below, uint32_t block);
/* It is here, and comes up. */
void yk_sim_below_use(struct yk_sim_below *below, uint32_t block);

static inline bool yk_sim_below_has(const struct yk_sim_below *below, uint32_t block) {
    return below->lists.in[block] != 0;
}

static inline void yk_sim_left(struct yk_sim_cache *cache, uint32_t block) {
    if (cache->below != NULL)
        yk_sim_below_add(cache->below, block);
}

#endif
