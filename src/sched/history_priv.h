/* SPDX-License-Identifier: Apache-2.0
 *
 * What the learned policy remembers of blocks, whether they are here or not: records by key hash, the one
 * untouched for longest given up for a new one. And what of that predicts a use: yk_history_features.
 *
 * Blocks of a request are touched tail first, so a record's ancestors always outlive it.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_HISTORY_PRIV_H
#define YK_SCHED_HISTORY_PRIV_H

#include "sched/learned.h"
#include "sched/trees_priv.h"

#include <assert.h>

#define YK_RECORD_NONE UINT32_MAX

/* Two lines of the processor's cache: what the lists and the caches without payload ask for, and what a prediction does. */
struct yk_record {
    uint64_t key_hash __attribute__((aligned(64)));
    uint64_t touched;    /* the history's clock at its last use */
    uint32_t chained;    /* record + 1, or 0 */
    uint32_t request;    /* number of the last request that had it */
    uint32_t id;         /* of the block that is here, or YK_POLICY_NONE */
    uint32_t generation; /* of the record: grows when it is given to another block */
    uint32_t last_ms;    /* its last use; ages are differences modulo 2^32 */
    uint32_t older, younger;
    uint32_t queue_older, queue_younger; /* shadow_priv.h */
    uint32_t bytes;      /* of its payload; guessed until it came in, 0 while nothing is known to guess from */
    uint8_t in;                          /* bits: which of the caches without payload have it */
    uint8_t queue, freq;                 /* shadow_priv.h */
    uint8_t lifted;                      /* it came up ahead of a use that it waits for (wanted_priv.h) */
    uint8_t announced;                   /* its last use was of a request that was announced */
    uint8_t turn;                        /* how many its session had at the last request */

    uint32_t parent __attribute__((aligned(64))); /* a record, or YK_RECORD_NONE */
    uint32_t parent_gen;
    uint32_t heap_at, kept_children, predicted; /* keeper_priv.h; heap_at YK_RECORD_NONE: not in the heap */
    uint32_t first_ms;                          /* its first use */
    uint32_t uses, children;                    /* ever */
    uint32_t lessons;             /* head of its open examples, or YK_RECORD_NONE (lessons_priv.h) */
    uint8_t x[YK_TREES_FEATURES]; /* its features, but for those that change while it waits */
};
static_assert(sizeof(struct yk_record) == 128, "two lines");

/* What all blocks of a request have in common. */
struct yk_history_request {
    uint32_t length, output, new_blocks; /* blocks; tokens; blocks */
    uint32_t pause_ms;                   /* since its session's last; UINT32_MAX: there was none */
    uint8_t stop, eighths, turn;
    uint8_t x_length, x_output, x_turn, x_pause, x_new_blocks; /* of these, as features: yk_history_quantize */
};

struct yk_history {
    struct yk_record *records;
    size_t memory_bytes; /* mapped for them, and touched as they are used */
    uint32_t *buckets; /* a power of two; 0 = empty, else a record + 1, so that the table is touched only as it is used */
    uint32_t mask, max, used;
    uint32_t limit; /* of used, at most max; may be raised between calls */
    uint32_t oldest, youngest;
    uint64_t clock;
    uint32_t now_ms, request;
};

/* Of hashes YK_POLICY_HASH_BITS count. */
int yk_history_init(struct yk_history *h, uint32_t max_records); /* -YK_ENOMEM */
void yk_history_fini(struct yk_history *h);

uint32_t yk_history_find(const struct yk_history *h, uint64_t key_hash);

/* The record that a new block will get, if that means to give up another: YK_RECORD_NONE when there is room. One of
 * the present request is never given up. */
uint32_t yk_history_next_to_go(struct yk_history *h);

/* A record for a key that has none, of the present request, as the youngest. The caller has let go of next_to_go. */
uint32_t yk_history_add(struct yk_history *h, uint64_t key_hash, uint32_t depth);

void yk_history_set_parent(struct yk_history *h, uint32_t record, uint32_t parent);

/* Before its blocks are touched. */
void yk_history_quantize(struct yk_history_request *request);

/* The record becomes the youngest, and its features are those of its use in this request, `tail` blocks from its
 * end. */
void yk_history_touch(struct yk_history *h, uint32_t record, const struct yk_history_request *request, uint32_t tail);

/* How much of its room a cache without payload uses. capacity_bytes 0: nothing is known of lengths yet, blocks count. Where
 * all blocks are of one length it makes no difference which counts. */
static inline bool yk_history_is_over(uint32_t count, uint32_t capacity, uint64_t bytes, uint64_t capacity_bytes) {
    return capacity_bytes != 0 ? bytes > capacity_bytes : count > capacity;
}

/* There is no room for one more of mean length. */
static inline bool yk_history_is_full(uint32_t count, uint32_t capacity, uint64_t bytes, uint64_t capacity_bytes) {
    return capacity_bytes != 0 && count != 0 ? bytes + bytes / count > capacity_bytes : count >= capacity;
}

/* The parent, or YK_RECORD_NONE: none, or its record is another's by now. */
static inline uint32_t yk_history_parent(const struct yk_history *h, const struct yk_record *r) {
    return r->parent != YK_RECORD_NONE && h->records[r->parent].generation == r->parent_gen ? r->parent
                                                                                           : YK_RECORD_NONE;
}

/* How deep the block stands in its chain, in steps of a logarithm, and a step's depth in blocks: 15 % wide. */
uint32_t yk_history_depth_step(const struct yk_record *r);
double yk_history_depth_of(uint32_t step);

extern const char *const yk_history_feature_names[YK_TREES_FEATURES];

/* As seen at now_ms. */
void yk_history_features(const struct yk_history *h, uint32_t record, uint8_t ret_x[YK_TREES_FEATURES]);

/* The logarithm of a rate that falls as 1 / age: what is true of reuse before anything is known, and where
 * nothing that old was seen yet. */
float yk_history_prior(const struct yk_history *h, uint32_t record);

/* Fetches what find will look at for this key, a few calls ahead of it. */
void yk_history_prefetch(const struct yk_history *h, uint64_t key_hash);
void yk_history_prefetch_record(const struct yk_history *h, uint64_t key_hash);

/* The record will be looked at soon: what lists ask of it, or all. YK_RECORD_NONE is fine. */
static inline void yk_history_prefetch_lists(const struct yk_history *h, uint32_t record) {
    if (record != YK_RECORD_NONE)
        __builtin_prefetch(&h->records[record]);
}

static inline void yk_history_prefetch_all(const struct yk_history *h, uint32_t record) {
    __builtin_prefetch(&h->records[record]);
    __builtin_prefetch(&h->records[record].parent);
}

#endif
