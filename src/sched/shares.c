/* SPDX-License-Identifier: Apache-2.0
 *
 * The division of capacity (shares.h).
 *
 * The best next piece of each tenant is looked for from where it stands over all sizes up to what is left, so no hull
 * is kept: a piece costs 256 steps to find, and a tenant has mostly a dozen. Capacity is counted in bytes as doubles, which
 * are exact to 2^53.
 */
#include "sched/shares.h"

#include "base/status.h"
#include "sched/reuse_priv.h"

#include <math.h>
#include <stdlib.h>

/* All who joined have this part of the capacity among them, whatever they ask for: a new tenant begins somewhere, and
 * a block that is put is not the next to go. */
#define FLOOR_PART 64.0
/* Of a period's count this is left a period later: what was seen in the last eight periods, two capacities of blocks,
 * counts most. */
#define KEEP 0.875
/* No share moves by more of the capacity in a period: all of it takes four capacities of requests. */
#define STEP_PART 16.0
/* Blocks asked for in a period are the capacity by this, and so many at least. */
#define PERIODS    4u
#define PERIOD_MIN 64u
/* A piece is worth giving if as many hits a byte, over all of the capacity, made one in so many of all uses. Less is
 * noise of the sample, or what has faded. */
#define NOISE_PART 256.0

struct tenant {
    struct yk_reuse *reuse; /* NULL: has not joined */
    struct yk_shares_terms terms;
    double target;
    double predicted; /* hits of its uses at its share, as of the last update */
    double at, most; /* while capacity is divided */
    double uses, hits[YK_REUSE_BUCKETS + 1];
    double next, gain; /* the best piece from `at` on: where it ends, weighted hits a byte */
};

/* Apart from the rest: all of them are looked at whenever something has to go. */
struct has {
    double share, used, least;
};

struct yk_shares {
    uint32_t tenants, joined;
    uint16_t list[YK_SHARES_TENANTS_MAX]; /* those who joined, in no order */
    struct has has[YK_SHARES_TENANTS_MAX];
    uint64_t seed;
    double capacity;
    double asked, asked_bytes; /* in this period */
    double least_gain;
    bool known;
    struct tenant of[];
};

static bool is_in(const struct yk_shares *s, uint32_t tenant) {
    return tenant < s->tenants && s->of[tenant].reuse != NULL;
}

static uint64_t blocks_of(const struct yk_shares *s, const struct tenant *t) {
    return (uint64_t)(s->capacity / (double)t->terms.block_bytes);
}

/* ---- who and how much ---- */

/* What a sum of shares and a cast have room for. */
static double sane_capacity(uint64_t bytes) {
    return fmin(fmax((double)bytes, 1), 0x1p62);
}

int yk_shares_new(const struct yk_shares_opts *opts, struct yk_shares **ret_shares) {
    if (opts->tenants == 0 || opts->tenants > YK_SHARES_TENANTS_MAX || opts->capacity_bytes == 0)
        return -YK_EINVAL;
    struct yk_shares *s = calloc(1, sizeof(*s) + opts->tenants * sizeof(s->of[0]));
    if (s == NULL)
        return -YK_ENOMEM;
    s->tenants = opts->tenants;
    s->capacity = sane_capacity(opts->capacity_bytes);
    s->seed = opts->seed;
    *ret_shares = s;
    return 0;
}

void yk_shares_free(struct yk_shares *s) {
    if (s == NULL)
        return;
    for (uint32_t i = 0; i < s->tenants; i++)
        yk_reuse_free(s->of[i].reuse);
    free(s);
}

/* Nobody can have more than there is: one that was promised the moon counts as one that was promised everything. */
static double least_wanted(const struct yk_shares *s, const struct tenant *t) {
    uint64_t most = t->terms.most_bytes, least = t->terms.least_bytes;
    return fmin((double)(most != 0 && most < least ? most : least), s->capacity);
}

static double floor_of_all(const struct yk_shares *s) {
    return s->capacity / FLOOR_PART;
}

/* What is guaranteed; of all together if that is more than there is, in proportion. */
static void set_least(struct yk_shares *s) {
    double sum = 0, most = s->capacity - floor_of_all(s);
    for (uint32_t i = 0; i < s->joined; i++)
        sum += least_wanted(s, &s->of[s->list[i]]);
    for (uint32_t i = 0; i < s->joined; i++)
        s->has[s->list[i]].least = least_wanted(s, &s->of[s->list[i]]) * (sum > most ? most / sum : 1);
}

void yk_shares_capacity(struct yk_shares *s, uint64_t capacity_bytes) {
    double capacity = sane_capacity(capacity_bytes), by = capacity / s->capacity;
    if (by == 1)
        return;
    s->capacity = capacity;
    for (uint32_t i = 0; i < s->tenants; i++) {
        struct tenant *t = &s->of[i];
        if (t->reuse == NULL)
            continue;
        s->has[i].share *= by;
        t->target *= by;
        yk_reuse_resize(t->reuse, blocks_of(s, t));
    }
    set_least(s);
}

int yk_shares_join(struct yk_shares *s, uint32_t tenant) {
    if (tenant >= s->tenants)
        return -YK_EINVAL;
    if (s->of[tenant].reuse != NULL)
        return 0;
    struct yk_reuse *reuse = yk_reuse_new((uint64_t)s->capacity, s->seed ^ tenant);
    if (reuse == NULL)
        return -YK_ENOMEM;
    s->of[tenant] = (struct tenant){.reuse = reuse, .terms = {.priority = 1, .block_bytes = 1}};
    s->has[tenant] = (struct has){0};
    s->list[s->joined++] = (uint16_t)tenant;
    return 0;
}

void yk_shares_leave(struct yk_shares *s, uint32_t tenant) {
    if (!is_in(s, tenant))
        return;
    yk_reuse_free(s->of[tenant].reuse);
    s->of[tenant] = (struct tenant){0};
    s->has[tenant] = (struct has){0};
    uint32_t at = 0;
    while (s->list[at] != tenant)
        at++;
    s->list[at] = s->list[--s->joined];
    set_least(s);
}

static double sane_priority(double priority) {
    if (!isfinite(priority) || priority <= 0)
        return 1;
    return fmin(fmax(priority, 1e-3), 1e3);
}

int yk_shares_set_terms(struct yk_shares *s, uint32_t tenant, const struct yk_shares_terms *terms) {
    if (!is_in(s, tenant))
        return YK_MISS;
    struct tenant *t = &s->of[tenant];
    t->terms = *terms;
    t->terms.priority = sane_priority(terms->priority);
    t->terms.block_bytes = terms->block_bytes == 0 ? 1 : terms->block_bytes;
    yk_reuse_resize(t->reuse, blocks_of(s, t));
    set_least(s);
    return 0;
}

/* ---- curves ---- */

static double width_of(const struct tenant *t) {
    return (double)yk_reuse_width(t->reuse) * (double)t->terms.block_bytes;
}

/* Hits of so many bytes; between two sizes as on the line between them. */
static double hits_at(const struct tenant *t, double bytes) {
    double at = bytes / width_of(t);
    if (at >= YK_REUSE_BUCKETS)
        return t->hits[YK_REUSE_BUCKETS];
    uint32_t i = (uint32_t)at;
    return t->hits[i] + (t->hits[i + 1] - t->hits[i]) * (at - i);
}

static void consider(struct tenant *t, double end, double from_hits) {
    double gain = (hits_at(t, end) - from_hits) * t->terms.priority / (end - t->at);
    if (gain > 0 && gain >= t->gain) {
        t->gain = gain;
        t->next = end;
    }
}

/* The piece from where it stands that brings most a byte, of those that fit into what is left. */
static void find_next(struct tenant *t, double left) {
    double width = width_of(t), end = fmin(t->most, t->at + left), from_hits = hits_at(t, t->at);
    t->gain = 0;
    t->next = t->at;
    if (end <= t->at)
        return;
    for (uint32_t i = (uint32_t)fmin(t->at / width, YK_REUSE_BUCKETS) + 1; i <= YK_REUSE_BUCKETS && i * width < end; i++)
        if (i * width > t->at)
            consider(t, i * width, from_hits);
    consider(t, end, from_hits);
}

/* ---- the division ---- */

/* Everybody at what is guaranteed, or their part of the floor. Returns what is left. */
static double begin(struct yk_shares *s) {
    double sum = 0, uses = 0, floor = floor_of_all(s) / s->joined;
    for (uint32_t i = 0; i < s->tenants; i++) {
        struct tenant *t = &s->of[i];
        if (t->reuse == NULL)
            continue;
        t->uses = yk_reuse_curve(t->reuse, t->hits);
        t->at = fmax(floor, s->has[i].least);
        t->most = t->terms.most_bytes == 0 ? s->capacity : fmin((double)t->terms.most_bytes, s->capacity);
        t->at = fmin(t->at, t->most);
        sum += t->at;
        uses += t->uses * t->terms.priority;
    }
    s->least_gain = uses / s->capacity / NOISE_PART;
    return fmax(s->capacity - sum, 0);
}

static struct tenant *who_gains_most(struct yk_shares *s) {
    struct tenant *best = NULL;
    for (uint32_t i = 0; i < s->tenants; i++)
        if (s->of[i].reuse != NULL && s->of[i].gain > (best == NULL ? s->least_gain : best->gain))
            best = &s->of[i];
    return best;
}

/* Each turn a piece is given, or one that is too long by now is looked for anew. Every piece but a tenant's first and last
 * is a bucket at least, of which there are no more than BUCKETS in the capacity; what is looked for anew is bounded
 * by the count, and what is then left goes the way of the rest. Of a piece that is all that is left, rounding may make a
 * byte more. */
static double give_by_gain(struct yk_shares *s, double left) {
    struct tenant *t;
    if (s->joined == 1) /* it gets all, whatever the pieces bring */
        return left;
    for (uint32_t i = 0; i < s->tenants; i++)
        if (s->of[i].reuse != NULL)
            find_next(&s->of[i], left);
    uint32_t turns = 4 * (s->joined + YK_REUSE_BUCKETS);
    while (turns-- > 0 && left >= 1 && (t = who_gains_most(s)) != NULL) {
        double piece = t->next - t->at;
        if (piece < left + 1) {
            t->at = t->next;
            left = fmax(left - piece, 0);
        }
        find_next(t, left);
    }
    return left;
}

/* To each who is below its quota, as much more as it has; those who come to it leave the rest to the others, so there
 * are no more rounds than tenants. */
static void give_rest(struct yk_shares *s, double left) {
    for (uint32_t round = 0; round < s->joined && left >= 1; round++) {
        double open = 0, given = 0;
        for (uint32_t i = 0; i < s->tenants; i++)
            if (s->of[i].reuse != NULL && s->of[i].at < s->of[i].most)
                open += s->of[i].at;
        if (open <= 0)
            return;
        for (uint32_t i = 0; i < s->tenants; i++) {
            struct tenant *t = &s->of[i];
            if (t->reuse == NULL || t->at >= t->most)
                continue;
            double more = fmin(left * (t->at / open), t->most - t->at);
            t->at += more;
            given += more;
        }
        left -= given;
    }
}

/* All by the same part of their way: so shares are the whole as targets are. */
static void move_shares(struct yk_shares *s) {
    double most = 0, part = 1;
    for (uint32_t i = 0; i < s->tenants; i++)
        most = fmax(most, fabs(s->of[i].target - s->has[i].share));
    if (s->known && most > s->capacity / STEP_PART)
        part = s->capacity / STEP_PART / most;
    for (uint32_t i = 0; i < s->tenants; i++)
        s->has[i].share += (s->of[i].target - s->has[i].share) * part;
    s->known = true;
}

static double ratio_at(const struct tenant *t, double bytes) {
    return t->uses > 0 ? fmin(hits_at(t, bytes) / t->uses, 1) : 0;
}

void yk_shares_update(struct yk_shares *s) {
    s->asked = 0;
    s->asked_bytes = 0;
    if (s->joined == 0)
        return;
    give_rest(s, give_by_gain(s, begin(s)));
    for (uint32_t i = 0; i < s->tenants; i++) {
        struct tenant *t = &s->of[i];
        if (t->reuse == NULL)
            continue;
        t->target = t->at;
        yk_reuse_fade(t->reuse, KEEP);
    }
    move_shares(s);
    for (uint32_t i = 0; i < s->tenants; i++)
        if (s->of[i].reuse != NULL)
            s->of[i].predicted = ratio_at(&s->of[i], s->has[i].share);
}

/* ---- what is asked for, and asked ---- */

void yk_shares_request(struct yk_shares *s, uint32_t tenant, const uint64_t *key_hashes, uint32_t n) {
    if (!is_in(s, tenant))
        return;
    yk_reuse_request(s->of[tenant].reuse, key_hashes, n);
    s->asked += n;
    s->asked_bytes += (double)n * (double)s->of[tenant].terms.block_bytes;
}

bool yk_shares_is_due(const struct yk_shares *s) {
    return s->asked >= PERIOD_MIN && s->asked_bytes * PERIODS >= s->capacity;
}

bool yk_shares_are_known(const struct yk_shares *s) {
    return s->known;
}

uint64_t yk_shares_bytes(const struct yk_shares *s, uint32_t tenant) {
    return is_in(s, tenant) ? (uint64_t)s->has[tenant].share : 0;
}

uint64_t yk_shares_target_bytes(const struct yk_shares *s, uint32_t tenant) {
    return is_in(s, tenant) ? (uint64_t)s->of[tenant].target : 0;
}

double yk_shares_hit_ratio(const struct yk_shares *s, uint32_t tenant, uint64_t bytes) {
    if (!is_in(s, tenant))
        return 0;
    struct tenant t = s->of[tenant];
    t.uses = yk_reuse_curve(t.reuse, t.hits);
    return ratio_at(&t, (double)bytes);
}

uint64_t yk_shares_least_bytes(const struct yk_shares *s, uint32_t tenant) {
    return is_in(s, tenant) ? (uint64_t)s->has[tenant].least : 0;
}

double yk_shares_predicted(const struct yk_shares *s, uint32_t tenant) {
    return is_in(s, tenant) ? s->of[tenant].predicted : 0;
}

/* ---- who gives ---- */

void yk_shares_set_used(struct yk_shares *s, uint32_t tenant, uint64_t bytes) {
    if (is_in(s, tenant))
        s->has[tenant].used = (double)bytes;
}

static double above(const struct yk_shares *s, uint32_t tenant) {
    const struct has *h = &s->has[tenant];
    return h->used - fmax(h->share, h->least); /* a guarantee counts at once, a share may be on its way there */
}

/* Of two that are as much above, the one of the lower number. */
static bool gives_before(const struct yk_shares *s, uint32_t a, uint32_t b) {
    double by_a = above(s, a), by_b = above(s, b);
    return by_a > by_b || (by_a == by_b && a < b);
}

uint32_t yk_shares_giver(const struct yk_shares *s, uint32_t after) {
    uint32_t best = YK_SHARES_NONE;
    for (uint32_t i = 0; i < s->joined && s->known; i++) {
        uint32_t t = s->list[i];
        if (s->has[t].used <= 0 || (after < s->tenants && !gives_before(s, after, t)))
            continue;
        if (best == YK_SHARES_NONE || gives_before(s, t, best))
            best = t;
    }
    return best;
}

bool yk_shares_is_guaranteed(const struct yk_shares *s, uint32_t tenant) {
    return is_in(s, tenant) && s->has[tenant].least > 0 && s->has[tenant].used <= s->has[tenant].least;
}
