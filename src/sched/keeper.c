/* SPDX-License-Identifier: Apache-2.0
 *
 * The heap of predicted rates (keeper_priv.h).
 */
#include "sched/keeper_priv.h"
#include "sched/place_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REFRESHED_EACH 2u /* evictions: one leaf, in turn */
#define UNKNOWN 1e-15f /* about 0, in the order of last uses, so that a comparison need not fetch records for it */
#define WORTH_NOTHING (-1e9f)
/* What came up ahead of its use is worth so much more, as a logarithm: else it goes for the next that does. Of 0, 0.5
 * and 1 this made the most hits. */
#define LIFTED_STAYS 0.5f
#define MEAN_LENGTH_OF 16 /* blocks; more are no better */
#define RETRIES   4 /* the top may have been worth more when it was predicted: look again so often */

int yk_keeper_init(struct yk_keeper *k, struct yk_history *history, const struct yk_trees *trees,
                   uint32_t capacity, uint8_t bit) {
    *k = (struct yk_keeper){.history = history, .capacity = capacity, .bit = bit};
    k->heap = malloc(((size_t)history->max + 1) * sizeof(*k->heap)); /* touched as it is used */
    k->scored = malloc(YK_KEEPER_SCORED * sizeof(*k->scored));
    if (k->heap == NULL || k->scored == NULL)
        return -YK_ENOMEM;
    yk_keeper_set_trees(k, trees);
    return 0;
}

void yk_keeper_fini(struct yk_keeper *k) {
    free(k->heap);
    free(k->scored);
}

void yk_keeper_set_trees(struct yk_keeper *k, const struct yk_trees *trees) {
    k->trees = trees;
    memset(k->scored, 0xff, YK_KEEPER_SCORED * sizeof(*k->scored)); /* what no record looks like */
}

static struct yk_record *at(const struct yk_keeper *k, uint32_t record) {
    return &k->history->records[record];
}

static bool is_lower(const struct yk_keeper *k, struct yk_keeper_place a, struct yk_keeper_place b) {
    return a.value != b.value ? a.value < b.value : at(k, a.record)->touched < at(k, b.record)->touched;
}

static void put(struct yk_keeper *k, uint32_t i, struct yk_keeper_place p) {
    k->heap[i] = p;
    at(k, p.record)->heap_at = i;
}

/* Place i is free, or that of p's record. */
static void sift(struct yk_keeper *k, uint32_t i, struct yk_keeper_place p) {
    for (; i > 0 && is_lower(k, p, k->heap[(i - 1) / 2]); i = (i - 1) / 2)
        put(k, i, k->heap[(i - 1) / 2]);
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child + 1 < k->leaves && is_lower(k, k->heap[child + 1], k->heap[child]))
            child++;
        if (child >= k->leaves || !is_lower(k, k->heap[child], p))
            break;
        put(k, i, k->heap[child]);
        i = child;
    }
    put(k, i, p);
}

void yk_keeper_set_growth(struct yk_keeper *k, double saved_growth) {
    for (uint32_t step = 0; step < YK_TREES_VALUES; step++)
        k->by_depth[step] = (float)log(1 + saved_growth / 2 * yk_history_depth_of(step));
}

/* Of the block and the nearest before it. */
static double mean_length(const struct yk_keeper *k, const struct yk_record *r) {
    double sum = 0;
    uint32_t n = 0, parent = YK_RECORD_NONE;
    do {
        sum += r->bytes != 0 ? r->bytes : k->unit_bytes;
        parent = yk_history_parent(k->history, r);
        r = parent != YK_RECORD_NONE ? at(k, parent) : NULL;
    } while (++n < MEAN_LENGTH_OF && r != NULL);
    return sum / n;
}

float yk_keeper_worth(const struct yk_keeper *k, const struct yk_record *r) {
    float saved = k->by_depth[yk_history_depth_step(r)];
    return k->is_mixed ? saved - logf((float)mean_length(k, r) / (float)k->unit_bytes) : saved;
}

static float score(struct yk_keeper *k, uint32_t record) {
    uint8_t x[sizeof(k->scored->x)] = {0};
    uint64_t words[3];
    yk_history_features(k->history, record, x);
    memcpy(words, x, sizeof(words));
    uint64_t hash = (words[0] ^ (words[1] << 29 | words[1] >> 35) ^ (words[2] << 17)) * UINT64_C(0x9e3779b97f4a7c15);
    struct yk_keeper_scored *s = &k->scored[hash >> 32 & (YK_KEEPER_SCORED - 1)];
    if (s->x[0] == words[0] && s->x[1] == words[1] && s->x[2] == words[2])
        return s->score;
    memcpy(s->x, words, sizeof(words));
    return s->score = yk_place_score(k->trees, x);
}

/* All rates are alike: of what is worth as much the least recently used goes. */
static float unknown(const struct yk_keeper *k, const struct yk_record *r) {
    float worth = yk_keeper_worth(k, r);
    return worth != 0 ? worth : (float)r->touched * UNKNOWN;
}

static float predict(struct yk_keeper *k, uint32_t record) {
    const struct yk_record *r = at(k, record);
    at(k, record)->predicted = k->history->request;
    if (k->trees->count == 0)
        return unknown(k, r);
    float rate = score(k, record) + yk_history_prior(k->history, record);
    return rate + yk_keeper_worth(k, r) + (r->lifted ? LIFTED_STAYS : 0);
}

static void refresh(struct yk_keeper *k, uint32_t i) {
    uint32_t record = k->heap[i].record;
    if (at(k, record)->predicted != k->history->request)
        sift(k, i, (struct yk_keeper_place){predict(k, record), record});
}

static void become_leaf(struct yk_keeper *k, uint32_t record) {
    k->leaves++;
    sift(k, k->leaves - 1, (struct yk_keeper_place){predict(k, record), record});
}

static void leave_heap(struct yk_keeper *k, uint32_t record) {
    uint32_t i = at(k, record)->heap_at;
    struct yk_keeper_place last = k->heap[--k->leaves];
    at(k, record)->heap_at = YK_RECORD_NONE;
    if (last.record != record)
        sift(k, i, last);
}

/* One becomes a leaf as another stops being one, and has its place. */
static void replace(struct yk_keeper *k, uint32_t goes, uint32_t comes) {
    uint32_t i = at(k, goes)->heap_at;
    at(k, goes)->heap_at = YK_RECORD_NONE;
    sift(k, i, (struct yk_keeper_place){predict(k, comes), comes});
}

void yk_keeper_use(struct yk_keeper *k, uint32_t record) {
    struct yk_record *r = at(k, record);
    uint32_t parent = yk_history_parent(k->history, r);
    if (r->in & k->bit) {
        if (r->heap_at != YK_RECORD_NONE)
            sift(k, r->heap_at, (struct yk_keeper_place){predict(k, record), record});
        return;
    }
    r->in |= k->bit;
    k->count++;
    k->bytes += r->bytes;
    bool has_only_child =
        parent != YK_RECORD_NONE && at(k, parent)->kept_children++ == 0 && at(k, parent)->heap_at != YK_RECORD_NONE;
    if (r->kept_children == 0 && has_only_child)
        replace(k, parent, record);
    else if (r->kept_children == 0)
        become_leaf(k, record);
    else if (has_only_child)
        leave_heap(k, parent);
}

void yk_keeper_drop(struct yk_keeper *k, uint32_t record) {
    struct yk_record *r = at(k, record);
    uint32_t parent = yk_history_parent(k->history, r);
    if (!(r->in & k->bit))
        return;
    r->in &= (uint8_t)~k->bit;
    k->count--;
    k->bytes -= r->bytes;
    bool lost_last_child = parent != YK_RECORD_NONE && at(k, parent)->kept_children > 0 &&
                           --at(k, parent)->kept_children == 0 && (at(k, parent)->in & k->bit);
    if (r->heap_at != YK_RECORD_NONE && lost_last_child)
        replace(k, record, parent);
    else if (r->heap_at != YK_RECORD_NONE)
        leave_heap(k, record);
    else if (lost_last_child)
        become_leaf(k, parent);
}

/* Looks again at the top, which may have been worth more when it was predicted. */
static void settle_top(struct yk_keeper *k) {
    uint32_t top = YK_RECORD_NONE;
    for (unsigned i = 0; i < RETRIES && k->heap[0].record != top; i++) {
        top = k->heap[0].record;
        refresh(k, 0);
    }
}

bool yk_keeper_peek(struct yk_keeper *k, float *ret_value) {
    if (k->leaves == 0)
        return false;
    settle_top(k);
    *ret_value = k->heap[0].value;
    return true;
}

bool yk_keeper_trim(struct yk_keeper *k, uint32_t *ret_record) {
    if (!yk_history_is_over(k->count, k->capacity, k->bytes, k->capacity_bytes) || k->leaves == 0)
        return false;
    if (++k->trims % REFRESHED_EACH == 0) {
        k->next_refreshed = k->next_refreshed + 1 < k->leaves ? k->next_refreshed + 1 : 0;
        refresh(k, k->next_refreshed);
        if (k->next_refreshed + 1 < k->leaves)
            yk_history_prefetch_all(k->history, k->heap[k->next_refreshed + 1].record);
    }
    settle_top(k);
    *ret_record = k->heap[0].record;
    yk_keeper_drop(k, *ret_record);
    return true;
}

void yk_keeper_restore(struct yk_keeper *k, uint32_t record) {
    struct yk_record *r = at(k, record);
    uint32_t parent = yk_history_parent(k->history, r);
    r->in |= k->bit;
    k->count++;
    k->bytes += r->bytes;
    if (parent != YK_RECORD_NONE)
        at(k, parent)->kept_children++;
}

void yk_keeper_restore_leaf(struct yk_keeper *k, struct yk_keeper_place leaf) {
    const struct yk_record *r = at(k, leaf.record);
    if ((r->in & k->bit) && r->kept_children == 0 && r->heap_at == YK_RECORD_NONE)
        put(k, k->leaves++, leaf);
}

void yk_keeper_restored(struct yk_keeper *k, uint32_t records) {
    for (uint32_t record = 0; record < records; record++)
        yk_keeper_restore_leaf(k, (struct yk_keeper_place){WORTH_NOTHING, record});
    for (uint32_t i = k->leaves / 2; i-- > 0;)
        sift(k, i, k->heap[i]);
}
