/* SPDX-License-Identifier: Apache-2.0
 *
 * balance.h. Greedy, one slot at a time, from the heaviest to the lightest: with limits this small an optimal
 * plan would be no better after its first step, and what follows is planned anew from measurements anyway.
 *
 * An interval has two halves: in the first there are moves, in the second their effect is measured, so the
 * next interval does not begin with loads from before them. Within an interval loads are those of its begin,
 * moved along with the slots.
 *
 * Cost: moves of a plan times (slots + members), some 300,000 steps.
 */
#include "dir/balance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INTERVAL_MS 10000u
#define MOVES       256u
#define BATCH       64u
#define SLACK_PPM   50000u

#define SHARE_MOVED 8u /* an eighth of what one had, or should have, in an interval */
#define MOVED_MIN   8u /* and so many, so that small shares come to an end */

/* A member in this interval. */
struct part {
    uint32_t id, slots, given, taken, had;
    uint8_t known, suspect, draining, stuck; /* stuck: has no slot that may move, for this plan */
    double load, weight;
};

struct yk_balance {
    struct yk_balance_opts opts;
    uint64_t began_ms; /* of the interval: its first move; valid once moved */
    uint32_t left;     /* moves in this interval */
    uint8_t moved;     /* in this interval */
    uint8_t hurry, flows; /* flows: the last plan of a hurry had moves */
    struct yk_balance_rest rest;
    uint32_t cursor;   /* next slot to look at: each gets its turn */
    uint32_t count;
    struct part part[YK_DIR_MEMBERS_MAX];
    uint32_t owner[YK_DIR_SLOTS];    /* as planned */
    uint64_t free_ms[YK_DIR_SLOTS];  /* from when on it may move again */
};

static uint32_t or_default(uint32_t value, uint32_t otherwise) {
    return value != 0 ? value : otherwise;
}

struct yk_balance *yk_balance_new(const struct yk_balance_opts *opts) {
    struct yk_balance *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return NULL;
    b->opts.interval_ms = or_default(opts->interval_ms, INTERVAL_MS);
    b->opts.moves = or_default(opts->moves, MOVES);
    b->opts.batch = or_default(opts->batch, BATCH);
    b->opts.slack_ppm = or_default(opts->slack_ppm, SLACK_PPM);
    b->left = b->opts.moves;
    return b;
}

void yk_balance_free(struct yk_balance *b) {
    free(b);
}

/* ---- what is there ---------------------------------------------------------------------------- */

static struct part *part_of(struct yk_balance *b, uint32_t id) {
    uint32_t lo = 0, hi = b->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (b->part[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < b->count && b->part[lo].id == id ? &b->part[lo] : NULL;
}

/* The members of the map, by id, with what is remembered of this interval. */
static void take_members(struct yk_balance *b, const struct yk_dir_map *map) {
    struct part was[YK_DIR_MEMBERS_MAX];
    uint32_t had = b->count, k = 0;
    memcpy(was, b->part, had * sizeof(was[0]));
    b->count = 0;
    for (uint32_t i = 0; i < map->member_count; i++) {
        const struct yk_dir_member *m = &map->member[i];
        if (m->state != YK_DIR_MEMBER)
            continue;
        while (k < had && was[k].id < m->id)
            k++;
        struct part *p = &b->part[b->count++];
        *p = k < had && was[k].id == m->id ? was[k] : (struct part){.id = m->id};
        p->draining = m->draining;
        p->suspect = 1;
        p->stuck = 0;
        p->slots = 0;
    }
}

static void take_slots(struct yk_balance *b, const struct yk_dir_map *map) {
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        struct part *p = part_of(b, map->slot[i].owner);
        b->owner[i] = map->slot[i].owner;
        if (p != NULL)
            p->slots++;
    }
}

static void take_loads(struct yk_balance *b, const struct yk_balance_member *members, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct part *p = part_of(b, members[i].id);
        if (p == NULL)
            continue;
        p->suspect = members[i].suspect;
        if (!p->known)
            p->load = isfinite(members[i].load) && members[i].load > 0 ? members[i].load : 0;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        if (!b->part[i].known)
            b->part[i].had = b->part[i].slots;
        b->part[i].known = 1;
    }
}

static void weigh(struct yk_balance *b) {
    double all = 0;
    for (uint32_t i = 0; i < b->count; i++)
        all += b->part[i].load;
    for (uint32_t i = 0; i < b->count; i++) {
        double number = (double)b->part[i].slots / YK_DIR_SLOTS;
        b->part[i].weight = all > 0 ? (number + b->part[i].load / all) / 2 : number;
    }
}

/* ---- who gives, who takes --------------------------------------------------------------------- */

/* What there is to share out, and among how many. */
struct fair {
    double weight;
    uint32_t slots;
};

static struct fair fair_share(const struct yk_balance *b) {
    struct fair f = {0, 0};
    uint32_t n = 0, owners = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        owners += !b->part[i].draining;
        if (b->part[i].draining || b->part[i].suspect)
            continue;
        f.weight += b->part[i].weight;
        n++;
    }
    f.weight = n > 0 ? f.weight / n : 0;
    f.slots = owners > 0 ? YK_DIR_SLOTS / owners : 0;
    return f;
}

static uint32_t at_least(uint32_t share) {
    return share > MOVED_MIN ? share : MOVED_MIN;
}

static int may_give(const struct yk_balance *b, const struct part *p, const struct fair *f) {
    if (p->slots == 0 || p->stuck)
        return 0;
    return p->draining || (!p->suspect && p->slots > f->slots / 2 &&
                           (b->hurry || p->given < at_least(p->had / SHARE_MOVED)));
}

static int may_take(const struct yk_balance *b, const struct part *p, const struct fair *f) {
    return !p->draining && !p->suspect && p->slots < 2 * f->slots + 1 &&
           (b->hurry || p->taken < at_least(f->slots / SHARE_MOVED));
}

static struct part *giver(struct yk_balance *b, const struct fair *f) {
    struct part *best = NULL;
    for (uint32_t i = 0; i < b->count; i++) {
        struct part *p = &b->part[i];
        if (may_give(b, p, f) && (best == NULL || p->draining > best->draining ||
                               (p->draining == best->draining && p->weight > best->weight)))
            best = p;
    }
    return best;
}

static struct part *taker(struct yk_balance *b, const struct fair *f) {
    struct part *best = NULL;
    for (uint32_t i = 0; i < b->count; i++)
        if (may_take(b, &b->part[i], f) && (best == NULL || b->part[i].weight < best->weight))
            best = &b->part[i];
    return best;
}

/* Is it out of balance, and does a slot more there make it better? */
static int worth(const struct yk_balance *b, const struct part *from, const struct part *to, const struct fair *f) {
    double slack = f->weight * b->opts.slack_ppm / 1e6, slot = from->weight / from->slots;
    if (from->draining)
        return 1;
    return (from->weight > f->weight + slack || to->weight < f->weight - slack) &&
           from->weight - slot >= to->weight + slot;
}

/* ---- the plan --------------------------------------------------------------------------------- */

static int next_slot(struct yk_balance *b, uint32_t owner, uint64_t now_ms, uint32_t *ret_slot) {
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        uint32_t slot = (b->cursor + i) % YK_DIR_SLOTS;
        if (b->owner[slot] == owner && b->free_ms[slot] <= now_ms) {
            b->cursor = slot + 1;
            *ret_slot = slot;
            return 1;
        }
    }
    return 0;
}

static void move(struct yk_balance *b, struct part *from, struct part *to, uint32_t slot, uint64_t now_ms) {
    double load = from->load / from->slots, weight = from->weight / from->slots;
    if (!b->moved)
        b->began_ms = now_ms;
    b->moved = 1;
    b->left--;
    b->owner[slot] = to->id;
    b->free_ms[slot] = now_ms + b->opts.interval_ms;
    from->slots--;
    from->given++;
    from->load -= load;
    from->weight -= weight;
    to->slots++;
    to->taken++;
    to->load += load;
    to->weight += weight;
}

/* What there is to say when nothing more is to be moved now. */
static void sum_up(struct yk_balance *b, const struct fair *f) {
    struct yk_balance_rest *r = &b->rest;
    double off = -1;
    *r = (struct yk_balance_rest){.share = 1};
    for (uint32_t i = 0; i < b->count; i++) {
        const struct part *p = &b->part[i];
        double share = f->weight > 0 ? p->weight / f->weight : 1;
        if (p->draining) {
            r->left += p->slots;
            continue;
        }
        if (p->suspect && r->suspect == YK_DIR_NOBODY)
            r->suspect = p->id;
        if (fabs(share - 1) <= off)
            continue;
        off = fabs(share - 1);
        r->worst = p->id;
        r->share = share;
    }
    r->even = r->left == 0 && off * 1e6 <= b->opts.slack_ppm;
}

void yk_balance_rest(const struct yk_balance *b, struct yk_balance_rest *ret) {
    *ret = b->rest;
    ret->hurries = b->hurry;
}

void yk_balance_hurry(struct yk_balance *b) {
    b->hurry = b->flows = 1;
    b->left = YK_DIR_SLOTS;
}

/* 1: a plan is to be made; at the begin of an interval from new loads. */
static int is_time(struct yk_balance *b, uint64_t now_ms) {
    if (b->moved && b->hurry && b->flows)
        return 1;
    if (b->moved && now_ms - b->began_ms < b->opts.interval_ms)
        return now_ms - b->began_ms < b->opts.interval_ms / 2; /* else what was moved is being measured */
    b->left = b->hurry ? YK_DIR_SLOTS : b->opts.moves;
    b->count = 0;
    b->moved = 0;
    return 1;
}

/* A hurry whose moves are all made is measured for half an interval; then there is more to move, or it is over. */
static void hurry_on(struct yk_balance *b, uint32_t moves, uint64_t now_ms) {
    b->flows = moves > 0;
    if (moves > 0)
        return;
    if (b->moved)
        b->began_ms = now_ms - b->opts.interval_ms / 2;
    else
        b->hurry = 0;
}

uint32_t yk_balance_plan(struct yk_balance *b, const struct yk_dir_map *map, const struct yk_balance_member *members,
                         uint32_t count, uint64_t now_ms, struct yk_balance_move *ret_moves) {
    if (!is_time(b, now_ms))
        return 0;
    take_members(b, map);
    take_slots(b, map);
    take_loads(b, members, count);
    weigh(b);
    struct fair f = fair_share(b);
    uint32_t n = 0, slot;
    while (n < b->opts.batch && b->left > 0) {
        struct part *from = giver(b, &f), *to = taker(b, &f);
        if (from == NULL || to == NULL || from == to || !worth(b, from, to, &f))
            break;
        if (!next_slot(b, from->id, now_ms, &slot)) {
            from->stuck = 1;
            continue;
        }
        move(b, from, to, slot, now_ms);
        ret_moves[n++] = (struct yk_balance_move){.slot = slot, .to = to->id};
    }
    sum_up(b, &f);
    if (b->hurry)
        hurry_on(b, n, now_ms);
    return n;
}
