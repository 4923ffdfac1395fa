/* SPDX-License-Identifier: Apache-2.0
 *
 * Who has what (where.h): copies in one array, each in three lists by index. Those of a block hang on its place of
 * the index, together with other blocks' of the same place; those of a holder are in the order in which they came,
 * and so are all. Chains of the index are short as it has a place for each copy; equal hashes of many holders are
 * the exception, and as many as there are holders.
 */
#include "sched/where.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct copy {
    uint64_t block;
    uint32_t next;             /* in its place of the index; or of the free ones */
    uint32_t prev_own, next_own; /* the holder's, oldest first */
    uint32_t prev_all, next_all;
    uint16_t holder;
    uint8_t tiers; /* bits of enum yk_where_tier; 0: free */
};

struct holder {
    uint32_t first, last, count;
    uint32_t lead; /* of a call: its place in the answer */
};

struct yk_where {
    struct copy *copies;
    uint32_t *index;
    struct holder *holders;
    uint64_t seed;
    uint32_t copies_max, holders_max, mask;
    uint32_t first, last, count, free, used; /* used: copies that ever were */
    uint64_t steps; /* copies looked at, ever */
};

/* ---- making it ---- */

int yk_where_new(uint32_t copies_max, uint32_t holders_max, uint64_t seed, struct yk_where **ret_where) {
    if (copies_max == 0 || copies_max > YK_WHERE_COPIES_MAX || holders_max == 0 || holders_max > YK_WHERE_HOLDERS_MAX)
        return -YK_EINVAL;
    struct yk_where *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -YK_ENOMEM;
    uint32_t places = 2;
    while (places < copies_max)
        places *= 2;
    *w = (struct yk_where){.copies_max = copies_max, .holders_max = holders_max, .mask = places - 1, .seed = seed,
                           .first = NONE, .last = NONE, .free = NONE};
    w->copies = calloc(copies_max, sizeof(*w->copies));
    w->index = malloc((size_t)places * sizeof(*w->index));
    w->holders = calloc(holders_max, sizeof(*w->holders));
    if (w->copies == NULL || w->index == NULL || w->holders == NULL) {
        yk_where_free(w);
        return -YK_ENOMEM;
    }
    memset(w->index, 0xff, (size_t)places * sizeof(*w->index));
    for (uint32_t i = 0; i < holders_max; i++)
        w->holders[i] = (struct holder){.first = NONE, .last = NONE, .lead = NONE};
    *ret_where = w;
    return 0;
}

void yk_where_free(struct yk_where *w) {
    if (w == NULL)
        return;
    free(w->copies);
    free(w->index);
    free(w->holders);
    free(w);
}

/* ---- lists ---- */

static uint32_t *place_of(const struct yk_where *w, uint64_t block) {
    uint64_t x = (block ^ w->seed) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 32) ^ w->seed >> 7) * UINT64_C(0xbf58476d1ce4e5b9);
    return &w->index[(uint32_t)(x >> 32) & w->mask];
}

static uint32_t find(struct yk_where *w, uint32_t holder, uint64_t block) {
    uint32_t at = *place_of(w, block);
    for (w->steps++; at != NONE && (w->copies[at].block != block || w->copies[at].holder != holder); w->steps++)
        at = w->copies[at].next;
    return at;
}

static void link_lists(struct yk_where *w, uint32_t at) {
    struct copy *c = &w->copies[at];
    struct holder *h = &w->holders[c->holder];
    c->prev_own = h->last;
    c->prev_all = w->last;
    c->next_own = c->next_all = NONE;
    *(h->last != NONE ? &w->copies[h->last].next_own : &h->first) = at;
    *(w->last != NONE ? &w->copies[w->last].next_all : &w->first) = at;
    h->last = w->last = at;
    h->count++;
    w->count++;
}

static void unlink_lists(struct yk_where *w, uint32_t at) {
    struct copy *c = &w->copies[at];
    struct holder *h = &w->holders[c->holder];
    *(c->prev_own != NONE ? &w->copies[c->prev_own].next_own : &h->first) = c->next_own;
    *(c->next_own != NONE ? &w->copies[c->next_own].prev_own : &h->last) = c->prev_own;
    *(c->prev_all != NONE ? &w->copies[c->prev_all].next_all : &w->first) = c->next_all;
    *(c->next_all != NONE ? &w->copies[c->next_all].prev_all : &w->last) = c->prev_all;
    h->count--;
    w->count--;
}

static void drop(struct yk_where *w, uint32_t at) {
    uint32_t *link = place_of(w, w->copies[at].block);
    for (w->steps++; *link != at; w->steps++)
        link = &w->copies[*link].next;
    *link = w->copies[at].next;
    unlink_lists(w, at);
    w->copies[at].tiers = 0;
    w->copies[at].next = w->free;
    w->free = at;
}

/* A copy's memory: free, or that of the oldest. */
static uint32_t take(struct yk_where *w, const struct holder *h) {
    if (w->free == NONE && w->used < w->copies_max)
        return w->used++;
    if (w->free == NONE)
        drop(w, h->count > 0 && h->count >= w->copies_max / 2 ? h->first : w->first);
    uint32_t at = w->free;
    w->free = w->copies[at].next;
    return at;
}

/* ---- what is told ---- */

static bool in_range(const struct yk_where *w, uint32_t holder, enum yk_where_tier tier) {
    return holder < w->holders_max && (uint32_t)tier < YK_WHERE_TIERS;
}

int yk_where_add(struct yk_where *w, uint32_t holder, uint64_t block, enum yk_where_tier tier) {
    if (!in_range(w, holder, tier))
        return -YK_EINVAL;
    uint32_t at = find(w, holder, block);
    if (at != NONE) {
        w->copies[at].tiers |= (uint8_t)(1u << tier);
        unlink_lists(w, at);
        link_lists(w, at);
        return 0;
    }
    at = take(w, &w->holders[holder]);
    uint32_t *place = place_of(w, block);
    w->copies[at] = (struct copy){.block = block, .next = *place, .holder = (uint16_t)holder, .tiers = (uint8_t)(1u << tier)};
    *place = at;
    link_lists(w, at);
    return 0;
}

int yk_where_remove(struct yk_where *w, uint32_t holder, uint64_t block, enum yk_where_tier tier) {
    if (!in_range(w, holder, tier))
        return -YK_EINVAL;
    uint32_t at = find(w, holder, block);
    if (at == NONE || (w->copies[at].tiers >> tier & 1) == 0)
        return YK_MISS;
    w->copies[at].tiers &= (uint8_t)~(1u << tier);
    if (w->copies[at].tiers == 0)
        drop(w, at);
    return 0;
}

uint32_t yk_where_clear(struct yk_where *w, uint32_t holder, uint32_t steps) {
    uint64_t until = w->steps + steps;
    if (holder >= w->holders_max)
        return 0;
    while (w->holders[holder].first != NONE && w->steps < until)
        drop(w, w->holders[holder].first);
    return w->holders[holder].count;
}

uint64_t yk_where_steps(const struct yk_where *w) {
    return w->steps;
}

uint32_t yk_where_count(const struct yk_where *w, uint32_t holder) {
    return holder == YK_WHERE_ALL ? w->count : holder < w->holders_max ? w->holders[holder].count : 0;
}

/* ---- how far chains reach ---- */

/* Block i is at that holder: each tier's run that came so far goes on, if it is in that tier or a quicker one. */
static bool go_on(struct yk_where_lead *lead, uint32_t i, uint8_t tiers) {
    bool any = false;
    for (uint32_t t = 0; t < YK_WHERE_TIERS; t++) {
        uint8_t quick_enough = (uint8_t)((2u << t) - 1);
        if (lead->blocks[t] == i && (tiers & quick_enough) != 0) {
            lead->blocks[t] = i + 1;
            any = true;
        }
    }
    return any;
}

static bool look(struct yk_where *w, uint64_t block, uint32_t i, struct yk_where_lead *leads, uint32_t max, uint32_t *n) {
    bool any = false;
    for (uint32_t at = *place_of(w, block); at != NONE; at = w->copies[at].next) {
        const struct copy *c = &w->copies[at];
        struct holder *h = &w->holders[c->holder];
        w->steps++;
        if (c->block != block)
            continue;
        if (i == 0 && *n < max) {
            h->lead = (*n)++;
            leads[h->lead] = (struct yk_where_lead){.holder = c->holder};
        }
        if (h->lead != NONE)
            any |= go_on(&leads[h->lead], i, c->tiers);
    }
    return any;
}

uint32_t yk_where_leads(struct yk_where *w, const uint64_t *blocks, uint32_t n, struct yk_where_lead *ret_leads,
                        uint32_t max) {
    uint32_t found = 0;
    uint64_t until = w->steps + YK_WHERE_STEPS_MAX;
    for (uint32_t i = 0; i < n && w->steps < until; i++)
        if (!look(w, blocks[i], i, ret_leads, max, &found))
            break;
    for (uint32_t i = 0; i < found; i++)
        w->holders[ret_leads[i].holder].lead = NONE;
    return found;
}
