/* SPDX-License-Identifier: Apache-2.0
 *
 * The sample of reuse distances (reuse_priv.h).
 *
 * Every use takes the next position; a block's depth is the number of taken positions behind its own: bits, counted a
 * word at a time, as depths are asked of hits alone and each use takes a position and leaves one. When positions run out
 * they are given anew in the same order, once in as many uses as there are slots. Blocks are found through chained buckets
 * of 16-bit slots. Rejected: a list by last use (a depth costs a walk), a balanced tree (three times the memory), and a
 * tree of prefix sums (a depth costs less, and each use four times as much).
 */
#include "sched/reuse_priv.h"

#include "sched/policy.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define POSITIONS (2 * YK_REUSE_SLOTS)
#define WORDS     (POSITIONS / 64)
#define HEADS     YK_REUSE_SLOTS
#define NONE      UINT16_MAX
/* Up to here a bucket's width comes from a coarser count of depths, beyond it from a thinner sample. */
#define DEPTH_BITS 3u
/* A width goes back only when so few buckets are in use: sizes that swing about a power of two change nothing. */
#define BUCKETS_FEW (YK_REUSE_BUCKETS * 3 / 8)

struct yk_reuse {
    uint64_t hash[YK_REUSE_SLOTS];
    uint16_t next[YK_REUSE_SLOTS]; /* of the same head, or of those that are free */
    uint16_t position[YK_REUSE_SLOTS];
    uint16_t heads[HEADS];
    uint16_t slot_at[POSITIONS];
    uint64_t taken[WORDS]; /* positions, a bit each */
    uint8_t taken_in[WORDS]; /* how many of a word */
    uint32_t used, oldest; /* positions: given, and below which none is taken */
    uint32_t count;
    uint16_t free_slot;
    uint8_t level; /* a bucket is 2^level blocks wide */
    uint64_t seed;
    double hits[YK_REUSE_BUCKETS];
    double uses, sampled; /* all, and what the sample stands for */
};

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ (x >> 29)) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ (x >> 32);
}

/* One block in 2^thinning is sampled. */
static unsigned thinning(const struct yk_reuse *r) {
    return r->level > DEPTH_BITS ? r->level - DEPTH_BITS : 0;
}

static unsigned depth_shift(const struct yk_reuse *r) {
    return r->level < DEPTH_BITS ? r->level : DEPTH_BITS;
}

/* ---- positions ---- */

static uint32_t depth_of(const struct yk_reuse *r, uint16_t slot) {
    uint32_t word = r->position[slot] / 64, depth = 0;
    for (uint32_t i = word + 1; i < WORDS; i++)
        depth += r->taken_in[i];
    return depth + (uint32_t)__builtin_popcountll(r->taken[word] >> r->position[slot] % 64 >> 1);
}

/* ---- the order by last use ---- */

static uint16_t *head_of(struct yk_reuse *r, uint64_t hash) {
    return &r->heads[(hash >> 40) % HEADS];
}

static uint16_t find(const struct yk_reuse *r, uint64_t hash) {
    uint16_t slot = r->heads[(hash >> 40) % HEADS];
    while (slot != NONE && r->hash[slot] != hash)
        slot = r->next[slot];
    return slot;
}

static void leave_position(struct yk_reuse *r, uint16_t slot) {
    uint32_t position = r->position[slot];
    r->slot_at[position] = NONE;
    r->taken[position / 64] &= ~(UINT64_C(1) << position % 64);
    r->taken_in[position / 64]--;
}

static void take_position(struct yk_reuse *r, uint16_t slot, uint32_t position) {
    r->position[slot] = (uint16_t)position;
    r->slot_at[position] = slot;
    r->taken[position / 64] |= UINT64_C(1) << position % 64;
    r->taken_in[position / 64]++;
}

static void none_taken(struct yk_reuse *r) {
    memset(r->taken, 0, sizeof(r->taken));
    memset(r->taken_in, 0, sizeof(r->taken_in));
}

static void renumber(struct yk_reuse *r) {
    uint32_t n = 0;
    none_taken(r);
    for (uint32_t i = 0; i < POSITIONS; i++) {
        uint16_t slot = r->slot_at[i];
        r->slot_at[i] = NONE;
        if (slot != NONE)
            take_position(r, slot, n++);
    }
    r->used = n;
    r->oldest = 0;
}

static void drop_oldest(struct yk_reuse *r) {
    while (r->slot_at[r->oldest] == NONE)
        r->oldest++;
    uint16_t slot = r->slot_at[r->oldest];
    uint16_t *link = head_of(r, r->hash[slot]);
    while (*link != slot)
        link = &r->next[*link];
    *link = r->next[slot];
    leave_position(r, slot);
    r->next[slot] = r->free_slot;
    r->free_slot = slot;
    r->count--;
}

static uint16_t take_slot(struct yk_reuse *r, uint64_t hash) {
    if (r->count == YK_REUSE_SLOTS)
        drop_oldest(r);
    uint16_t slot = r->free_slot;
    uint16_t *head = head_of(r, hash);
    r->free_slot = r->next[slot];
    r->hash[slot] = hash;
    r->next[slot] = *head;
    *head = slot;
    r->count++;
    return slot;
}

static void use(struct yk_reuse *r, uint64_t hash) {
    if (r->used == POSITIONS)
        renumber(r);
    uint16_t slot = find(r, hash);
    if (slot == NONE)
        slot = take_slot(r, hash);
    else
        leave_position(r, slot);
    take_position(r, slot, r->used++);
}

static void forget_all(struct yk_reuse *r) {
    memset(r->heads, 0xff, sizeof(r->heads));
    memset(r->slot_at, 0xff, sizeof(r->slot_at));
    none_taken(r);
    for (uint32_t i = 0; i < YK_REUSE_SLOTS; i++)
        r->next[i] = (uint16_t)(i + 1 < YK_REUSE_SLOTS ? i + 1 : NONE);
    r->free_slot = 0;
    r->used = r->oldest = r->count = 0;
}

/* ---- sizes ---- */

static uint8_t level_for(uint64_t blocks) {
    uint8_t level = 0;
    while (level < 48 && (blocks >> level) > YK_REUSE_BUCKETS)
        level++;
    return level;
}

struct yk_reuse *yk_reuse_new(uint64_t capacity_blocks, uint64_t seed) {
    struct yk_reuse *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->seed = mix(seed + 1);
    r->level = level_for(capacity_blocks);
    forget_all(r);
    return r;
}

void yk_reuse_free(struct yk_reuse *r) {
    free(r);
}

static void widen(struct yk_reuse *r) {
    for (uint32_t i = 0; i < YK_REUSE_BUCKETS; i++)
        r->hits[i] = i < YK_REUSE_BUCKETS / 2 ? r->hits[2 * i] + r->hits[2 * i + 1] : 0;
    r->level++;
}

static void narrow(struct yk_reuse *r) {
    for (uint32_t i = YK_REUSE_BUCKETS; i-- > 0;)
        r->hits[i] = r->hits[i / 2] / 2;
    r->level--;
}

void yk_reuse_resize(struct yk_reuse *r, uint64_t capacity_blocks) {
    uint8_t level = level_for(capacity_blocks);
    if (level == r->level || (level < r->level && (capacity_blocks >> r->level) >= BUCKETS_FEW))
        return;
    while (r->level < level)
        widen(r);
    while (r->level > level)
        narrow(r);
    forget_all(r);
}

uint64_t yk_reuse_width(const struct yk_reuse *r) {
    return UINT64_C(1) << r->level;
}

/* ---- what is counted ---- */

static bool is_sampled(const struct yk_reuse *r, uint64_t hash, uint64_t *ret_mixed) {
    *ret_mixed = mix((hash & YK_POLICY_HASH_BITS) ^ r->seed);
    return (*ret_mixed & ((UINT64_C(1) << thinning(r)) - 1)) == 0;
}

/* In a small cache the sample reaches deeper than there are buckets. */
static void count_hit(struct yk_reuse *r, uint32_t bucket, double each) {
    if (bucket < YK_REUSE_BUCKETS)
        r->hits[bucket] += each;
}

void yk_reuse_request(struct yk_reuse *r, const uint64_t *hashes, uint32_t n) {
    double each = (double)(UINT64_C(1) << thinning(r));
    uint64_t hash;
    r->uses += n;
    for (uint32_t i = 0; i < n; i++) {
        if (!is_sampled(r, hashes[i], &hash))
            continue;
        uint16_t slot = find(r, hash);
        r->sampled += each;
        if (slot != NONE)
            count_hit(r, depth_of(r, slot) >> depth_shift(r), each);
    }
    for (uint32_t i = n; i-- > 0;)
        if (is_sampled(r, hashes[i], &hash))
            use(r, hash);
}

void yk_reuse_fade(struct yk_reuse *r, double keep) {
    for (uint32_t i = 0; i < YK_REUSE_BUCKETS; i++)
        r->hits[i] *= keep;
    r->uses *= keep;
    r->sampled *= keep;
}

double yk_reuse_curve(const struct yk_reuse *r, double ret_hits[YK_REUSE_BUCKETS + 1]) {
    double sum = r->uses - r->sampled; /* below 0: too many of those used often are sampled */
    ret_hits[0] = 0;
    for (uint32_t i = 0; i < YK_REUSE_BUCKETS; i++) {
        sum += r->hits[i];
        ret_hits[i + 1] = sum > 0 ? sum : 0;
    }
    return r->uses;
}
