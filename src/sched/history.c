/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of blocks and their features (history_priv.h).
 */
#include "sched/history_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEPTH_STEPS  10 /* two doublings of 1 + depth */
#define PRIOR_AGE_MS 60000u /* ages far below are as good as each other; 20 to 60 did equally well */

/* Places in a row of features. */
enum {
    AGE, USES, GAP, GAP2, DEPTH, TAIL, LENGTH, OUTPUT, STOP, LAST_EIGHTHS, CHILDREN, PARENTS_LEAD, LIFE, TURN, PAUSE,
    NEW_BLOCKS, RATE, END_EIGHTHS, BRANCHES, PLACES
};
_Static_assert(PLACES == YK_TREES_FEATURES, "a row has a place for each");

_Static_assert(YK_TREES_FEATURES == YK_LEARNED_FEATURES, "as the header has it");

const char *const yk_history_feature_names[YK_TREES_FEATURES] = {
    [AGE] = "age", [USES] = "uses", [GAP] = "gap", [GAP2] = "gap_before", [DEPTH] = "depth", [TAIL] = "from_tail",
    [LENGTH] = "length", [OUTPUT] = "output", [STOP] = "stop", [LAST_EIGHTHS] = "last_eighths",
    [CHILDREN] = "children", [PARENTS_LEAD] = "parents_lead", [LIFE] = "life", [TURN] = "turn", [PAUSE] = "pause",
    [NEW_BLOCKS] = "new_blocks", [RATE] = "rate_of_uses", [END_EIGHTHS] = "end_eighths", [BRANCHES] = "branches"};

/* log2 in 65,536ths, x > 0, to within 0.01: a parabola between the powers of two. In integers, as a dozen are wanted
 * for each prediction, and so that all hosts round alike. */
static inline uint32_t log2_of(uint64_t x) {
    uint32_t whole = 63 - (uint32_t)__builtin_clzll(x);
    uint64_t part = (x << (63 - whole) >> 47) & 0xffff;
    uint64_t bend = part * (65536 - part) >> 16;
    return (whole << 16) + (uint32_t)(part + (bend * 22544 >> 16));
}

/* log2(1 + x / unit) in steps of 2 / half_steps, below YK_TREES_VALUES. */
static inline uint8_t quantize(uint32_t x, uint32_t unit, uint32_t half_steps) {
    uint64_t q = (uint64_t)(log2_of((uint64_t)x + unit) - log2_of(unit)) * half_steps >> 17;
    return q < YK_TREES_VALUES - 1 ? (uint8_t)q : YK_TREES_VALUES - 1;
}

int yk_history_init(struct yk_history *h, uint32_t max_records) {
    memset(h, 0, sizeof(*h));
    h->mask = 1023;
    while (h->mask < max_records)
        h->mask = h->mask * 2 + 1;
    h->max = h->limit = max_records;
    h->oldest = h->youngest = YK_RECORD_NONE;
    h->memory_bytes = (size_t)max_records * sizeof(*h->records);
    h->records = mmap(NULL, h->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (h->records == MAP_FAILED)
        h->records = NULL;
    else
        (void)madvise(h->records, h->memory_bytes, MADV_HUGEPAGE); /* filled from the first on */
    h->buckets = calloc((size_t)h->mask + 1, sizeof(*h->buckets));
    return h->records != NULL && h->buckets != NULL ? 0 : -YK_ENOMEM;
}

void yk_history_fini(struct yk_history *h) {
    if (h->records != NULL)
        munmap(h->records, h->memory_bytes);
    free(h->buckets);
}

static uint32_t *bucket_of(const struct yk_history *h, uint64_t key_hash) {
    key_hash &= YK_POLICY_HASH_BITS;
    return &h->buckets[(key_hash ^ key_hash >> 32) & h->mask];
}

uint32_t yk_history_find(const struct yk_history *h, uint64_t key_hash) {
    uint32_t link = *bucket_of(h, key_hash);
    key_hash &= YK_POLICY_HASH_BITS;
    while (link != 0 && h->records[link - 1].key_hash != key_hash)
        link = h->records[link - 1].chained;
    return link - 1; /* YK_RECORD_NONE */
}

void yk_history_prefetch(const struct yk_history *h, uint64_t key_hash) {
    __builtin_prefetch(bucket_of(h, key_hash));
}

void yk_history_prefetch_record(const struct yk_history *h, uint64_t key_hash) {
    uint32_t link = *bucket_of(h, key_hash);
    if (link == 0)
        return;
    yk_history_prefetch_all(h, link - 1);
}

static void unlink_age(struct yk_history *h, const struct yk_record *r) {
    *(r->older != YK_RECORD_NONE ? &h->records[r->older].younger : &h->oldest) = r->younger;
    *(r->younger != YK_RECORD_NONE ? &h->records[r->younger].older : &h->youngest) = r->older;
}

static void make_youngest(struct yk_history *h, uint32_t record) {
    struct yk_record *r = &h->records[record];
    r->older = h->youngest;
    r->younger = YK_RECORD_NONE;
    *(h->youngest != YK_RECORD_NONE ? &h->records[h->youngest].younger : &h->oldest) = record;
    h->youngest = record;
}

static void renew(struct yk_history *h, uint32_t record) {
    if (record == h->youngest)
        return;
    unlink_age(h, &h->records[record]);
    make_youngest(h, record);
}

uint32_t yk_history_next_to_go(struct yk_history *h) {
    if (h->used < h->limit)
        return YK_RECORD_NONE;
    while (h->records[h->oldest].request == h->request)
        renew(h, h->oldest);
    return h->oldest;
}

/* The next to be given up lies where nobody has been for long: it is fetched with the one before the last, what it is
 * found by with the last. */
static void prefetch_next_to_go(const struct yk_history *h, uint32_t record) {
    uint32_t next = h->records[record].younger;
    if (next == YK_RECORD_NONE)
        return;
    __builtin_prefetch(bucket_of(h, h->records[next].key_hash));
    if (h->records[next].younger != YK_RECORD_NONE)
        yk_history_prefetch_all(h, h->records[next].younger);
}

static uint32_t give_up_oldest(struct yk_history *h) {
    uint32_t record = h->oldest;
    prefetch_next_to_go(h, record);
    uint32_t *at = bucket_of(h, h->records[record].key_hash);
    while (*at != record + 1)
        at = &h->records[*at - 1].chained;
    *at = h->records[record].chained;
    unlink_age(h, &h->records[record]);
    return record;
}

uint32_t yk_history_add(struct yk_history *h, uint64_t key_hash, uint32_t depth) {
    uint32_t record = h->used < h->limit ? h->used++ : give_up_oldest(h);
    uint32_t *bucket = bucket_of(h, key_hash);
    struct yk_record *r = &h->records[record];
    *r = (struct yk_record){.key_hash = key_hash & YK_POLICY_HASH_BITS,
                            .touched = ++h->clock,
                            .generation = r->generation + 1,
                            .parent = YK_RECORD_NONE,
                            .first_ms = h->now_ms,
                            .last_ms = h->now_ms,
                            .request = h->request,
                            .id = YK_POLICY_NONE,
                            .lessons = YK_RECORD_NONE,
                            .heap_at = YK_RECORD_NONE,
                            .queue_older = YK_RECORD_NONE,
                            .queue_younger = YK_RECORD_NONE,
                            .chained = *bucket};
    r->x[USES] = 0;
    r->x[GAP] = r->x[GAP2] = YK_TREES_VALUES - 1;
    r->x[DEPTH] = quantize(depth, 1, DEPTH_STEPS);
    *bucket = record + 1;
    make_youngest(h, record);
    return record;
}

uint32_t yk_history_depth_step(const struct yk_record *r) {
    return r->x[DEPTH];
}

double yk_history_depth_of(uint32_t step) {
    return step == 0 ? 0 : exp2((step + 0.5) * 2 / DEPTH_STEPS) - 1;
}

void yk_history_set_parent(struct yk_history *h, uint32_t record, uint32_t parent) {
    struct yk_record *p = &h->records[parent];
    h->records[record].parent = parent;
    h->records[record].parent_gen = p->generation;
    p->children++;
    p->x[CHILDREN] = quantize(p->children, 1, 12);
    p->x[BRANCHES] = p->x[DEPTH] == 0 ? 1 : 2;
}

static void note_use(struct yk_history *h, struct yk_record *r) {
    if (r->uses > 0) {
        r->x[GAP2] = r->x[GAP];
        r->x[GAP] = quantize(h->now_ms - r->last_ms, 500, 8);
    }
    r->x[USES] = quantize(r->uses, 1, 8);
    r->uses++;
    r->last_ms = h->now_ms;
    r->request = h->request;
    r->touched = ++h->clock;
}

/* What all of its blocks have in common, once for all. */
void yk_history_quantize(struct yk_history_request *q) {
    q->x_length = quantize(q->length, 1, 10);
    q->x_output = quantize(q->output, 1, 8);
    q->x_turn = quantize(q->turn, 1, 12);
    q->x_pause = q->pause_ms == UINT32_MAX ? YK_TREES_VALUES - 1 : quantize(q->pause_ms, 500, 8);
    q->x_new_blocks = quantize(q->new_blocks, 1, 10);
}

void yk_history_touch(struct yk_history *h, uint32_t record, const struct yk_history_request *q, uint32_t tail) {
    struct yk_record *r = &h->records[record];
    note_use(h, r);
    r->turn = q->turn;
    r->x[TAIL] = quantize(tail, 1, 10);
    r->x[LENGTH] = q->x_length;
    r->x[OUTPUT] = q->x_output;
    r->x[STOP] = q->stop;
    r->x[LAST_EIGHTHS] = tail == 0 ? q->eighths : 0;
    r->x[END_EIGHTHS] = tail <= 1 ? q->eighths : 0;
    r->x[TURN] = q->x_turn;
    r->x[PAUSE] = q->x_pause;
    r->x[NEW_BLOCKS] = q->x_new_blocks;
    renew(h, record);
}

/* 1: the parent was used with it last; more: it was used that much later without it, so this branch may have
 * been superseded. 0: no parent. */
static uint8_t parents_lead(const struct yk_history *h, const struct yk_record *r) {
    uint32_t parent = yk_history_parent(h, r);
    if (parent == YK_RECORD_NONE)
        return 0;
    const struct yk_record *p = &h->records[parent];
    if (p->request == r->request)
        return 1;
    uint8_t q = quantize(p->last_ms - r->last_ms, 500, 6);
    return 2 + (q < YK_TREES_VALUES - 3 ? q : YK_TREES_VALUES - 3);
}

/* log2 of uses a second, in quarters, from 2^-14 on. */
static uint8_t quantize_rate(const struct yk_record *r, uint32_t life_ms) {
    if (r->uses < 2)
        return 0;
    int32_t log = (int32_t)(log2_of(r->uses - 1) + log2_of(1000)) - (int32_t)log2_of((uint64_t)life_ms + 1000);
    int32_t q = (log + (14 << 16)) >> 14;
    return q < 1 ? 1 : q < YK_TREES_VALUES - 1 ? (uint8_t)q : YK_TREES_VALUES - 1;
}

void yk_history_features(const struct yk_history *h, uint32_t record, uint8_t x[YK_TREES_FEATURES]) {
    const struct yk_record *r = &h->records[record];
    uint32_t life_ms = h->now_ms - r->first_ms;
    memcpy(x, r->x, YK_TREES_FEATURES);
    x[AGE] = quantize(h->now_ms - r->last_ms, 250, 9);
    x[PARENTS_LEAD] = parents_lead(h, r);
    x[LIFE] = quantize(life_ms, 1000, 9);
    x[RATE] = quantize_rate(r, life_ms);
}

float yk_history_prior(const struct yk_history *h, uint32_t record) {
    uint64_t age_ms = h->now_ms - h->records[record].last_ms;
    int32_t log = (int32_t)log2_of(age_ms + PRIOR_AGE_MS) - (int32_t)log2_of(1000);
    return (float)log * -(0.69314718f / 65536);
}
