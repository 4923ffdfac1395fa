/* SPDX-License-Identifier: Apache-2.0
 *
 * The heap of predicted rates (keeper_priv.h).
 */
#include "sched/keeper_priv.h"

#include "base/heap.h"

#include <stdlib.h>
#include <string.h>

#define REFRESHED 4 /* leaves an eviction, in turn */
#define RETRIES   8 /* the top may have been worth more when it was predicted: look again so often */

int yk_keeper_init(struct yk_keeper *k, struct yk_history *history, const struct yk_trees *trees,
                   uint32_t capacity, uint32_t max_request, uint8_t bit) {
    *k = (struct yk_keeper){.history = history, .trees = trees, .capacity = capacity, .bit = bit};
    k->heap = malloc(((size_t)capacity + max_request + 1) * sizeof(*k->heap));
    return k->heap != NULL ? 0 : -YK_ENOMEM;
}

void yk_keeper_fini(struct yk_keeper *k) {
    free(k->heap);
}

static struct yk_record *at(const struct yk_keeper *k, uint32_t record) {
    return &k->history->records[record];
}

static bool is_lower(const void *keeper, uint32_t a, uint32_t b) {
    const struct yk_record *x = at(keeper, a), *y = at(keeper, b);
    return x->value != y->value ? x->value < y->value : x->touched < y->touched;
}

static void placed(void *keeper, uint32_t record, uint32_t place) {
    at(keeper, record)->heap_at = place;
}

static void sift(struct yk_keeper *k, uint32_t place, uint32_t record) {
    yk_heap_sift(k->heap, k->leaves, place, record, is_lower, placed, k);
}

static void predict(struct yk_keeper *k, uint32_t record) {
    uint8_t x[YK_TREES_FEATURES];
    if (k->trees->trained == 0) {
        at(k, record)->value = 0; /* all alike: the least recently used goes */
        return;
    }
    yk_history_features(k->history, record, x);
    at(k, record)->value = yk_trees_score(k->trees, x) + yk_history_prior(k->history, record);
}

static void refresh(struct yk_keeper *k, uint32_t record) {
    predict(k, record);
    sift(k, at(k, record)->heap_at, record);
}

static void become_leaf(struct yk_keeper *k, uint32_t record) {
    predict(k, record);
    k->leaves++;
    sift(k, k->leaves - 1, record);
}

static void leave_heap(struct yk_keeper *k, uint32_t record) {
    uint32_t place = at(k, record)->heap_at, last = k->heap[--k->leaves];
    at(k, record)->heap_at = YK_RECORD_NONE;
    if (last != record)
        sift(k, place, last);
}

void yk_keeper_use(struct yk_keeper *k, uint32_t record) {
    struct yk_record *r = at(k, record);
    uint32_t parent = yk_history_parent(k->history, r);
    if (r->in & k->bit) {
        if (r->heap_at != YK_RECORD_NONE)
            refresh(k, record);
        return;
    }
    r->in |= k->bit;
    k->count++;
    if (r->kept_children == 0)
        become_leaf(k, record);
    if (parent != YK_RECORD_NONE && at(k, parent)->kept_children++ == 0 && at(k, parent)->heap_at != YK_RECORD_NONE)
        leave_heap(k, parent);
}

void yk_keeper_drop(struct yk_keeper *k, uint32_t record) {
    struct yk_record *r = at(k, record);
    uint32_t parent = yk_history_parent(k->history, r);
    if (!(r->in & k->bit))
        return;
    r->in &= (uint8_t)~k->bit;
    k->count--;
    if (r->heap_at != YK_RECORD_NONE)
        leave_heap(k, record);
    if (parent != YK_RECORD_NONE && at(k, parent)->kept_children > 0 && --at(k, parent)->kept_children == 0 &&
        (at(k, parent)->in & k->bit))
        become_leaf(k, parent);
}

bool yk_keeper_trim(struct yk_keeper *k, uint32_t *ret_record) {
    if (k->count <= k->capacity || k->leaves == 0)
        return false;
    for (unsigned i = 0; i < REFRESHED; i++) {
        k->next_refreshed = k->next_refreshed + 1 < k->leaves ? k->next_refreshed + 1 : 0;
        refresh(k, k->heap[k->next_refreshed]);
    }
    uint32_t record = YK_RECORD_NONE;
    for (unsigned i = 0; i < RETRIES && k->heap[0] != record; i++) {
        record = k->heap[0];
        refresh(k, record);
    }
    *ret_record = k->heap[0];
    yk_keeper_drop(k, *ret_record);
    return true;
}
