/* SPDX-License-Identifier: Apache-2.0
 *
 * What a start with nothing in its cache loads first (learned.h): what the followed cache had, by what a place is worth
 * to it. An ancestor is worth at least what its descendants are, as they are of no use without it; so chains come whole, the
 * dearest first, each head first. Nothing here changes anything.
 *
 * Thread: owner loop.
 */
#include "sched/learned_priv.h"

#include <math.h>
#include <stdlib.h>

struct wish {
    float worth;
    uint32_t place; /* from the least recently used record on: ancestors are behind their descendants */
    uint32_t record;
};

static float worth_of(const struct learned *l, uint32_t record) {
    uint8_t x[YK_TREES_FEATURES];
    float prior = yk_history_prior(&l->history, record) + yk_keeper_worth(&l->keeper, &l->history.records[record]);
    if (l->follows != FOLLOW_KEEPER || l->keeper.trees->count == 0)
        return prior; /* of what saves as much it falls with age: the order of last use */
    yk_history_features(&l->history, record, x);
    return prior + yk_place_score(l->keeper.trees, x);
}

/* The dearer one, of equals the ancestor. */
static int dearer_first(const void *a, const void *b) {
    const struct wish *x = a, *y = b;
    if (x->worth != y->worth)
        return x->worth > y->worth ? -1 : 1;
    return x->place > y->place ? -1 : x->place < y->place;
}

/* From descendants to ancestors, so that each has heard of all of its own. */
static uint32_t gather(const struct learned *l, float *worth, struct wish *wishes) {
    const struct yk_history *h = &l->history;
    uint32_t n = 0;
    for (uint32_t record = h->oldest; record != YK_RECORD_NONE; record = h->records[record].younger) {
        const struct yk_record *r = &h->records[record];
        if (!(r->in & 1u << l->follows))
            continue;
        float own = worth_of(l, record);
        worth[record] = own > worth[record] ? own : worth[record];
        uint32_t parent = yk_history_parent(h, r);
        if (parent != YK_RECORD_NONE && worth[record] > worth[parent])
            worth[parent] = worth[record];
        wishes[n] = (struct wish){worth[record], n, record};
        n++;
    }
    return n;
}

int yk_learned_first(const struct yk_policy *p, struct yk_learned_first **ret_first, uint32_t *ret_n) {
    const struct learned *l = (const struct learned *)p;
    uint32_t used = l->history.used;
    float *worth = malloc((used + 1) * sizeof(*worth));
    struct wish *wishes = malloc((used + 1) * sizeof(*wishes));
    struct yk_learned_first *first = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; worth != NULL && i < used; i++)
        worth[i] = -INFINITY;
    if (worth != NULL && wishes != NULL) {
        n = gather(l, worth, wishes);
        first = malloc((n + 1) * sizeof(*first));
    }
    if (first != NULL)
        qsort(wishes, n, sizeof(*wishes), dearer_first);
    for (uint32_t i = 0; first != NULL && i < n; i++)
        first[i] = (struct yk_learned_first){l->history.records[wishes[i].record].key_hash, wishes[i].worth};
    free(worth);
    free(wishes);
    if (first == NULL)
        return -YK_ENOMEM;
    *ret_first = first;
    *ret_n = n;
    return 0;
}
