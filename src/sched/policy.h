/* SPDX-License-Identifier: Apache-2.0
 *
 * Eviction policies behind one ops table: which block should leave next, and which deserves to come back
 * from the tier below. Beside them, by name, too, which block that leaves is worth a write to that tier.
 *
 * A policy only orders ids. It does no I/O, reads no clock, keeps no globals and allocates nothing
 * after it was made, so the same object decides in the daemon and in a simulator. An id is the
 * index of a block's descriptor: dense, below the space's max_ids. Keys, bytes and pins stay with
 * the caller, who answers for them through yk_policy_can_fn.
 *
 * One `space` holds the 16 bytes of state of every id of a node; every instance (one for each
 * namespace's share) threads its own queues through them. So an id is in one instance at a time,
 * each id knows in which, and what is asked of another is answered with YK_MISS: ids and parents
 * come from memory that a crash or a stray write may have spoiled, and no wrong one may hurt more
 * than the order. Rejected: an array for each instance (max_ids times instances), and nodes on the
 * heap (16 bytes of malloc header and pointers for 16 bytes of state).
 *
 * Thread: a space and all its instances belong to one owner loop.
 */
#ifndef YK_SCHED_POLICY_H
#define YK_SCHED_POLICY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_POLICY_NONE UINT32_MAX

/* Ids are packed into 26 bits (space_priv.h): 67 million blocks, 1 TiB of 16 KiB ones. */
#define YK_POLICY_IDS_MAX ((1u << 26) - 1)

/* Instances of one space at a time. */
#define YK_POLICY_INSTANCES_MAX 256

/* One call of victim looks at no more than this many blocks. A step is one promotion, one second
 * chance or one SKIP, 0.1 to 0.2 us with cold caches: a call takes tens of microseconds at most. */
#define YK_POLICY_STEPS_MAX 256

struct yk_policy_space;
struct yk_policy;

/* Memory of max_ids ids (1..YK_POLICY_IDS_MAX), zeroed and touched only as ids are used.
 * -YK_EINVAL, -YK_ENOMEM. */
int yk_policy_space_new(uint32_t max_ids, struct yk_policy_space **ret_space);

/* All instances are freed first. NULL is fine. */
void yk_policy_space_free(struct yk_policy_space *space);

/* What an id is worth beside the others of its space, as its policy orders them now: higher stays longer, as far as uses
 * and ages say it. (What is cut off, or yields, is not told apart.) 0: in no instance, or out of range. Changes
 * nothing. */
uint64_t yk_policy_value(const struct yk_policy_space *space, uint32_t id);

struct yk_policy_opts {
    uint32_t capacity_objects; /* about as many as will be in at once, rather more than fewer; bounds ghost lists */
    uint64_t seed;             /* for whatever is random inside; same calls + seed = same victims */
    double saved_growth;       /* how much more than the first block of a chain each one further down saves, as a part of
                                * that: attention looks at all before it. 0: all save alike. See yk_policy_saved_by */
    bool has_below;            /* what leaves goes to a tier below that has room for all: see rises */
};

/* What a policy may know of a block when it comes in. */
struct yk_policy_block {
    uint64_t key_hash;     /* of namespace and key: how a block is known again after it left */
    uint64_t size_bytes;   /* of the payload */
    uint32_t parent_id;    /* in, or to come; YK_POLICY_NONE, or another instance's: no parent */
    uint32_t depth_tokens; /* tokens from the start of the chain to this block's end */
    bool cut_off;          /* its parent was evicted and is in no tier: see YK_POLICY_CAP_CHAIN */
    bool is_ahead;         /* nobody has used it: it is fetched ahead */
    bool parent_yields;    /* its parent goes first because it was told to yield, not since it is cut off */
    bool found;            /* it was here before this start: no use */
};

/* What the first n blocks of a chain save together, in what the first one saves: their number, if they save alike. */
static inline double yk_policy_saved_by(double saved_growth, uint32_t n) {
    return n + saved_growth * ((double)n * (n - 1.0) / 2);
}

/* A request: a whole chain, of which any part may be here. */
struct yk_policy_request {
    uint64_t now_ms;            /* from any start; going back counts as standing still */
    const uint64_t *key_hashes; /* head of the chain first; borrowed for the call */
    uint32_t n;                 /* 0: no request, but time has passed */
    uint32_t last_block_eighths; /* how full the last block is, 1 to 7; 0: full, or not known */
    uint32_t output_length;      /* tokens; 0: not known */
    uint32_t stop;               /* enum yk_trace_stop; 0: not known */
};

/* Of a hash that a policy is given these bits count: as many as an event of a client's ring has room for. */
#define YK_POLICY_HASH_BITS ((UINT64_C(1) << 60) - 1)

enum yk_policy_answer { YK_POLICY_SKIP = 0, YK_POLICY_TAKE = 1 };

/* May this id go now? SKIP: pinned, being written, and so on. Must not call the policy. */
typedef enum yk_policy_answer (*yk_policy_can_fn)(void *arg, uint32_t id);

/* As YK_POLICY_CAP_PARENTS; and proposes what is cut off first: a block
 * that came in as cut_off, or as the child of one that is, is a candidate before every block that is
 * not, until it is accessed (a SKIP counts as that) or, in S3-FIFO, promoted for its uses. So a chain
 * that is longer than memory, put from its head on, keeps its head: its tail is evicted for the next
 * block, which is then cut off and makes room for the one after it, instead of one more of the head. No
 * prefix match reaches what is cut off. Other policies do not look at cut_off. */
#define YK_POLICY_CAP_CHAIN (1u << 0)
/* Proposes exactly the least recently accessed of all candidates that are not cut off. */
#define YK_POLICY_CAP_EXACT_LRU (1u << 1)
/* Never proposes a block that has a child in the instance. */
#define YK_POLICY_CAP_PARENTS (1u << 4)
/* Wants to be told of requests, and of the time. */
#define YK_POLICY_CAP_REQUESTS (1u << 2)
/* Learns: yk_learned_training_begin (learned.h). */
#define YK_POLICY_CAP_LEARNS (1u << 3)

/* Every op is present in every policy. `p` is an instance, `id` below the space's max_ids. */
struct yk_policy_ops {
    const char *name;
    const char *help; /* one line */
    uint32_t caps;    /* YK_POLICY_CAP_... */

    /* -YK_ENOMEM; -YK_ELIMIT: YK_POLICY_INSTANCES_MAX. */
    int (*create)(struct yk_policy_space *space, const struct yk_policy_opts *opts,
                  struct yk_policy **ret_policy);

    /* Ids still inside are lost to the space, where they stay in nobody's instance, and so is one
     * of its instances: remove them first unless the space goes too. NULL is fine. */
    void (*free)(struct yk_policy *p);

    /* The id comes in as just accessed. Takes nothing. -YK_EINVAL: id or parent out of range;
     * -YK_EBUSY: the id is in an instance. */
    int (*insert)(struct yk_policy *p, uint32_t id, const struct yk_policy_block *block);

    /* The block was used. Its parent is not touched by that. YK_MISS: not in (a late event). */
    int (*access)(struct yk_policy *p, uint32_t id);

    /* Out for a reason that is not the policy's: remove, expiry, an old epoch. It may have
     * children; they stay, and no block ever waits for them but one that takes over the id while
     * they are still here. YK_MISS: not in. */
    int (*remove)(struct yk_policy *p, uint32_t id);

    /* Out because victim proposed it and the caller evicted it; the policy may remember key_hash.
     * YK_MISS: not in. */
    int (*evict)(struct yk_policy *p, uint32_t id, uint64_t key_hash);

    /* Proposes the next to go; the caller evicts it and says so with evict. Asked again before
     * that, it proposes the same one. What `can` skips goes to the young end, so that the next
     * call does not meet it again. 0 and *ret_id; YK_MISS: nothing is in; -YK_EAGAIN: max_steps
     * are used up, or every candidate was skipped: call again, now or when pins have gone. */
    int (*victim)(struct yk_policy *p, yk_policy_can_fn can, void *arg, uint32_t max_steps,
                  uint32_t *ret_id);

    /* How old the next candidate is: the space's clock (one tick an insert, access or rotation in
     * any instance) when it took its present place: for LRU its last access, for S3-FIFO its entry
     * into its queue. The smaller, the older. 0, or YK_MISS: nothing is in. */
    int (*peek)(const struct yk_policy *p, uint64_t *ret_stamp);

    uint32_t (*count)(const struct yk_policy *p);

    /* A block of the tier below was asked for and comes in. Does it deserve a place here, in that of
     * another? used: it was used before, since it went down. Changes nothing; before its insert.
     * A policy that remembers what left, and whose opts.has_below said that all of it comes back, may answer by that
     * alone. */
    bool (*rises)(const struct yk_policy *p, uint64_t key_hash, bool used);

    /* Who it came in for has had it, and it did not deserve to rise: it goes before all others, as what is
     * cut off does, until it is accessed. Its children that come in with parent_yields do not. YK_MISS:
     * not in. */
    int (*yield)(struct yk_policy *p, uint32_t id);

    /* A request begins: its blocks are accessed, or come in, next, tail first for the best. Who is not told of requests
     * (YK_POLICY_CAP_REQUESTS) takes each access and insert for one of its own. */
    void (*request)(struct yk_policy *p, const struct yk_policy_request *request);
};

/* Is a block that leaves worth a write to the tier below? Pure, without a state. */
struct yk_policy_leaving {
    bool used; /* since it was put, or came up */
};
struct yk_policy_admit {
    const char *name;
    const char *help; /* one line */
    bool (*admits)(const struct yk_policy_leaving *block);
};

/* All of them, an entry without a name at the end; the first is the default. */
const struct yk_policy_admit *yk_policy_admit_list(void);

/* The head of every instance. */
struct yk_policy {
    const struct yk_policy_ops *ops;
};

/* By name, or NULL. */
const struct yk_policy_ops *yk_policy_find(const char *name);

/* All policies, NULL at the end. */
const struct yk_policy_ops *const *yk_policy_list(void);

/* The victim where nothing is pinned, after as many steps as that takes: 0 and *ret_id, or YK_MISS. */
int yk_policy_victim_any(struct yk_policy *p, uint32_t *ret_id);

/* The victim of the instance whose candidate is oldest: over LRU instances this is one exact LRU
 * over all their ids, pins included. Looks at all n instances for each of at most
 * YK_POLICY_STEPS_MAX steps, so it is meant for tens of instances. 0, *ret_which and *ret_id;
 * otherwise as victim. */
int yk_policy_victim_oldest(struct yk_policy *const *policies, size_t n, yk_policy_can_fn can,
                            void *arg, size_t *ret_which, uint32_t *ret_id);

static inline int yk_policy_new(const struct yk_policy_ops *ops, struct yk_policy_space *space,
                                const struct yk_policy_opts *opts, struct yk_policy **ret_policy) {
    return ops->create(space, opts, ret_policy);
}

static inline void yk_policy_free(struct yk_policy *p) {
    if (p != NULL)
        p->ops->free(p);
}

static inline int yk_policy_insert(struct yk_policy *p, uint32_t id,
                                   const struct yk_policy_block *block) {
    return p->ops->insert(p, id, block);
}

static inline int yk_policy_access(struct yk_policy *p, uint32_t id) {
    return p->ops->access(p, id);
}

static inline int yk_policy_remove(struct yk_policy *p, uint32_t id) {
    return p->ops->remove(p, id);
}

static inline int yk_policy_evict(struct yk_policy *p, uint32_t id, uint64_t key_hash) {
    return p->ops->evict(p, id, key_hash);
}

static inline int yk_policy_victim(struct yk_policy *p, yk_policy_can_fn can, void *arg,
                                   uint32_t *ret_id) {
    return p->ops->victim(p, can, arg, YK_POLICY_STEPS_MAX, ret_id);
}

static inline int yk_policy_peek(const struct yk_policy *p, uint64_t *ret_stamp) {
    return p->ops->peek(p, ret_stamp);
}

static inline uint32_t yk_policy_count(const struct yk_policy *p) {
    return p->ops->count(p);
}

static inline bool yk_policy_rises(const struct yk_policy *p, uint64_t key_hash, bool used) {
    return p->ops->rises(p, key_hash, used);
}

static inline int yk_policy_yield(struct yk_policy *p, uint32_t id) {
    return p->ops->yield(p, id);
}

static inline void yk_policy_request(struct yk_policy *p, const struct yk_policy_request *request) {
    p->ops->request(p, request);
}

#ifdef __cplusplus
}
#endif

#endif
