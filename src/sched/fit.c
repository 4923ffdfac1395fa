/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradient boosting of a rate (fit_priv.h).
 */
#include "sched/fit_priv.h"

#include "base/status.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TREES    24
#define PARTS    2 /* of many examples: each has its share of the trees, upon those of the parts before it */
#define MANY     16000u /* fewer than that are too few to be halved, and cost little */
#define SHRINK   0.19f /* of each tree's step */
#define FEATURES 12    /* of a tree */
#define RIDGE    4.0f  /* expected events added to each leaf: few examples move little */
#define LEAF_MIN 1.0f  /* expected events on each side of a split */
#define STEP_MAX 3.0f  /* of one leaf, before it is shrunk */
#define GAIN_MIN 1e-6f
#define AHEAD    8 /* rows: fetched meanwhile */
/* How much more than the long wait the near one counts where a node is split: fewer events come within it, and its rate
 * would hardly have a say. */
#define NEAR_COUNTS 3

_Static_assert(TREES <= YK_TREES_MAX && TREES % PARTS == 0, "there is room");

/* Events less expected ones of the long and of the near wait, and expected ones of both: added at once. */
typedef float sums __attribute__((vector_size(16)));
enum { LONG, NEAR, EXPECTED, EXPECTED_NEAR = EXPECTED + NEAR };

struct yk_fit_row {
    sums gh;
    uint8_t x[YK_TREES_FEATURES];
};

struct yk_fit_hist {
    sums at[YK_TREES_FEATURES][YK_TREES_VALUES];
};

struct split {
    sums first, second; /* of the halves */
    uint32_t feature, limit;
    float gain;
};

/* What a tree is grown from, at one depth after another. */
struct growing {
    struct yk_fit *fit;
    struct yk_trees *trees;
    uint32_t tree, parts;
};

int yk_fit_init(struct yk_fit *f, uint32_t max_examples, uint64_t seed) {
    *f = (struct yk_fit){.max_examples = max_examples, .random = seed * 2 + 1};
    f->rows = malloc(max_examples * sizeof(*f->rows));
    f->order = malloc(max_examples * sizeof(*f->order));
    f->aside = malloc(max_examples * sizeof(*f->aside));
    f->hist = malloc((YK_TREES_DEPTH + 1) * sizeof(*f->hist));
    for (uint32_t i = 0; i < YK_TREES_FEATURES; i++)
        f->features[i] = (uint8_t)i;
    return f->rows != NULL && f->order != NULL && f->aside != NULL && f->hist != NULL ? 0 : -YK_ENOMEM;
}

void yk_fit_fini(struct yk_fit *f) {
    free(f->rows);
    free(f->order);
    free(f->aside);
    free(f->hist);
}

/* Another n of the features come first. */
static void draw_features(struct yk_fit *f, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        f->random = f->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t other = i + (uint32_t)((f->random >> 33) % (YK_TREES_FEATURES - i));
        uint8_t feature = f->features[i];
        f->features[i] = f->features[other];
        f->features[other] = feature;
    }
    f->n_features = n;
}

/* ---- histograms ------------------------------------------------------------------------------- */

static void count_rows(const struct growing *w, const uint32_t *rows, uint32_t n, struct yk_fit_hist *h) {
    const struct yk_fit *f = w->fit;
    uint8_t features[FEATURES]; /* no sum is written over it, so it is read once and not for each row */
    memcpy(features, f->features, sizeof(features));
    for (uint32_t i = 0; i < FEATURES; i++)
        memset(h->at[features[i]], 0, sizeof(h->at[0]));
    for (uint32_t k = 0; k < n; k++) {
        const struct yk_fit_row *r = &f->rows[rows[k]];
        __builtin_prefetch(&f->rows[rows[k + AHEAD < n ? k + AHEAD : k]]);
        sums gh = r->gh;
        for (uint32_t i = 0; i < FEATURES; i++)
            h->at[features[i]][r->x[features[i]]] += gh;
    }
}

static void subtract(const struct yk_fit *f, struct yk_fit_hist *from, const struct yk_fit_hist *h) {
    for (uint32_t i = 0; i < f->n_features; i++)
        for (uint32_t v = 0; v < YK_TREES_VALUES; v++)
            from->at[f->features[i]][v] -= h->at[f->features[i]][v];
}

/* Of both waits, of two halves of a node: by one division of four. */
static float worth(sums a, sums b) {
    sums off = {a[LONG], a[NEAR], b[LONG], b[NEAR]};
    sums expected = {a[EXPECTED], a[EXPECTED_NEAR], b[EXPECTED], b[EXPECTED_NEAR]};
    sums each = (sums){1, NEAR_COUNTS, 1, NEAR_COUNTS} * off * off / (expected + RIDGE);
    return (each[0] + each[1]) + (each[2] + each[3]);
}

static void try_feature(uint32_t feature, const sums *at, sums all, struct split *best) {
    sums first = {0};
    for (uint32_t v = 0; v + 1 < YK_TREES_VALUES; v++) {
        if (at[v][EXPECTED] == 0)
            continue;
        first += at[v];
        sums second = all - first;
        if (first[EXPECTED] < LEAF_MIN)
            continue;
        if (second[EXPECTED] < LEAF_MIN)
            break;
        float gain = worth(first, second);
        if (gain > best->gain)
            *best = (struct split){first, second, feature, v, gain};
    }
}

static struct split find_split(const struct yk_fit *f, const struct yk_fit_hist *h, sums all) {
    struct split best = {.feature = YK_TREES_FEATURES, .gain = worth(all, (sums){0}) + GAIN_MIN};
    for (uint32_t i = 0; i < f->n_features; i++)
        try_feature(f->features[i], h->at[f->features[i]], all, &best);
    return best;
}

/* ---- growing ---------------------------------------------------------------------------------- */

static float step_of(float off, float expected) {
    float step = off / (expected + RIDGE);
    return SHRINK * (step > STEP_MAX ? STEP_MAX : step < -STEP_MAX ? -STEP_MAX : step);
}

static void become_leaf(const struct growing *w, uint32_t leaf, const uint32_t *rows, uint32_t n, sums all) {
    yk_trees_pair step = {step_of(all[LONG], all[EXPECTED]), step_of(all[NEAR], all[EXPECTED_NEAR])};
    float less = 1 - expf(step[LONG]), less_near = 1 - expf(step[NEAR]);
    w->trees->leaf[w->tree][leaf] = step;
    for (uint32_t k = 0; k < n; k++) {
        sums *gh = &w->fit->rows[rows[k]].gh;
        float off = (*gh)[EXPECTED] * less, off_near = (*gh)[EXPECTED_NEAR] * less_near;
        *gh += (sums){off, off_near, -off, -off_near};
    }
}

/* Rows of the first half, then those of the second; returns how many are of the first. */
static uint32_t part(const struct growing *w, uint32_t *rows, uint32_t n, const struct split *s) {
    uint32_t *aside = w->fit->aside, first = 0, second = 0;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t row = rows[k];
        bool is_second = w->fit->rows[row].x[s->feature] > s->limit;
        rows[first] = row;
        aside[second] = row;
        first += !is_second;
        second += is_second;
    }
    memcpy(rows + first, aside, second * sizeof(*rows));
    return first;
}

/* The node over the leaves [leaf, leaf + 2 * half), whose histogram is h[0]; h[1] and on are free. */
static void grow(const struct growing *w, uint32_t leaf, uint32_t half, uint32_t *rows, uint32_t n, sums all,
                 struct yk_fit_hist *h) {
    struct split s = {.feature = YK_TREES_FEATURES};
    if (half > 0 && all[EXPECTED] >= 2 * LEAF_MIN)
        s = find_split(w->fit, h, all);
    if (s.feature == YK_TREES_FEATURES) {
        become_leaf(w, leaf, rows, n, all);
        return;
    }
    yk_trees_split(w->trees, w->tree, leaf, half, s.feature, s.limit);
    uint32_t first = part(w, rows, n, &s);
    if (half == 1) {
        become_leaf(w, leaf, rows, first, s.first);
        become_leaf(w, leaf + 1, rows + first, n - first, s.second);
        return;
    }
    bool first_is_smaller = first < n - first;
    count_rows(w, first_is_smaller ? rows : rows + first, first_is_smaller ? first : n - first, &h[1]);
    subtract(w->fit, &h[0], &h[1]);
    /* The smaller one first: the other's histogram stays where it is meanwhile. */
    if (first_is_smaller)
        grow(w, leaf, half / 2, rows, first, s.first, &h[1]);
    else
        grow(w, leaf + half, half / 2, rows + first, n - first, s.second, &h[1]);
    if (first_is_smaller)
        grow(w, leaf + half, half / 2, rows + first, n - first, s.second, &h[0]);
    else
        grow(w, leaf, half / 2, rows, first, s.first, &h[0]);
}

static void grow_tree(const struct growing *w, uint32_t n) {
    struct yk_fit *f = w->fit;
    sums all = {0};
    draw_features(f, FEATURES);
    for (uint32_t i = 0; i < n; i++) {
        f->order[i] = i;
        all += f->rows[i].gh;
    }
    count_rows(w, f->order, n, f->hist);
    grow(w, 0, YK_TREES_LEAVES / 2, f->order, n, all, f->hist);
}

/* ---- examples --------------------------------------------------------------------------------- */

/* What was seen within the wait: was there an event, and for how long was it waited for? */
static sums seen(const struct yk_fit_example *e, float near_s) {
    bool is_over = e->waited_s > near_s;
    return (sums){e->event, is_over ? 0 : e->event, e->waited_s, is_over ? near_s : e->waited_s};
}

/* The rates of all, as factors of their priors. */
static yk_trees_pair start(const struct yk_fit_example *e, uint32_t n, float near_s) {
    double events = 1, events_near = 1, expected = 1, expected_near = 1;
    for (uint32_t i = 0; i < n; i++) {
        sums s = seen(&e[i], near_s);
        float rate = expf(e[i].prior);
        events += s[LONG];
        events_near += s[NEAR];
        expected += s[EXPECTED] * rate;
        expected_near += s[EXPECTED_NEAR] * rate;
    }
    return (yk_trees_pair){(float)log(events / expected), (float)log(events_near / expected_near)};
}

/* Examples of two kinds may come in turn, so which part one is of is drawn. */
static uint32_t part_of(uint64_t seed, uint32_t example, uint32_t parts) {
    uint64_t z = (seed + example) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 32) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(z >> 32) % parts;
}

/* Those of the part become rows, that expect what the trees so far say. Returns how many. */
static uint32_t fill_rows(const struct growing *w, const struct yk_fit_example *e, uint32_t n, float near_s, uint64_t seed,
                          uint32_t wanted) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (part_of(seed, i, w->parts) != wanted)
            continue;
        struct yk_fit_row *r = &w->fit->rows[rows++];
        sums s = seen(&e[i], near_s);
        yk_trees_pair score = yk_trees_score(w->trees, e[i].x);
        float expected = s[EXPECTED] * expf(e[i].prior + score[LONG]);
        float expected_near = near_s > 0 ? s[EXPECTED_NEAR] * expf(e[i].prior + score[NEAR]) : 0;
        r->gh = (sums){s[LONG] - expected, s[NEAR] - expected_near, expected, expected_near};
        memcpy(r->x, e[i].x, sizeof(r->x));
    }
    return rows;
}

void yk_fit_run(struct yk_fit *f, const struct yk_fit_example *examples, uint32_t n, float near_s,
                struct yk_trees *t) {
    struct growing w = {.fit = f, .trees = t};
    if (n > f->max_examples)
        n = f->max_examples;
    yk_trees_clear(t);
    t->waits = near_s > 0 ? 2 : 1;
    t->base = start(examples, n, near_s);
    uint64_t seed = f->random;
    w.parts = n < MANY ? 1 : PARTS;
    for (uint32_t part = 0; part < w.parts; part++) {
        uint32_t rows = fill_rows(&w, examples, n, near_s, seed, part);
        for (uint32_t k = 0; k < TREES / w.parts; k++) {
            w.tree = yk_trees_add(t);
            grow_tree(&w, rows);
        }
    }
}
