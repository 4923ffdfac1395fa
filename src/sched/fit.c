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
#define SHRINK   0.19f /* of each tree's step */
#define FEATURES 12    /* of a tree */
#define RIDGE    4.0f  /* expected events added to each leaf: few examples move little */
#define LEAF_MIN 1.0f  /* expected events on each side of a split */
#define STEP_MAX 3.0f  /* of one leaf, before it is shrunk */
#define GAIN_MIN 1e-6f

_Static_assert(TREES <= YK_TREES_MAX, "there is room");

/* Events less expected ones of the long and of the near wait, and expected ones of both: added at once. */
typedef float sums __attribute__((vector_size(16)));
enum { LONG, NEAR, EXPECTED, EXPECTED_NEAR = EXPECTED + NEAR };

struct yk_fit_row {
    sums gh;
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
    const struct yk_fit_example *examples;
    struct yk_trees *trees;
    uint32_t tree;
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
    for (uint32_t i = 0; i < f->n_features; i++)
        memset(h->at[f->features[i]], 0, sizeof(h->at[0]));
    for (uint32_t k = 0; k < n; k++) {
        const uint8_t *x = w->examples[rows[k]].x;
        sums gh = f->rows[rows[k]].gh;
        for (uint32_t i = 0; i < f->n_features; i++)
            h->at[f->features[i]][x[f->features[i]]] += gh;
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
    sums each = off * off / (expected + RIDGE);
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
        bool is_second = w->examples[row].x[s->feature] > s->limit;
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

/* What follows an example within the near wait; nothing where there is none. */
static void add_near(sums *gh, const struct yk_fit_example *e, float near_s) {
    bool is_over = e->waited_s > near_s;
    (*gh)[NEAR] = !is_over && e->event;
    (*gh)[EXPECTED_NEAR] = (is_over ? near_s : e->waited_s) * expf(e->prior);
}

/* The rates of all, as factors of their priors; each row's expected events by them. */
static yk_trees_pair start(struct yk_fit *f, const struct yk_fit_example *e, uint32_t n, float near_s) {
    double events[2] = {1, 1}, expected[2] = {1, 1};
    for (uint32_t i = 0; i < n; i++) {
        sums gh = {e[i].event, 0, e[i].waited_s * expf(e[i].prior), 0};
        if (near_s > 0)
            add_near(&gh, &e[i], near_s);
        f->rows[i].gh = gh;
        for (uint32_t wait = LONG; wait <= NEAR; wait++) {
            events[wait] += gh[wait];
            expected[wait] += gh[EXPECTED + wait];
        }
    }
    float times = (float)(events[LONG] / expected[LONG]), times_near = (float)(events[NEAR] / expected[NEAR]);
    for (uint32_t i = 0; i < n; i++) {
        sums gh = f->rows[i].gh;
        float h = gh[EXPECTED] * times, h_near = gh[EXPECTED_NEAR] * times_near;
        f->rows[i].gh = (sums){gh[LONG] - h, gh[NEAR] - h_near, h, h_near};
    }
    return (yk_trees_pair){logf(times), logf(times_near)};
}

void yk_fit_run(struct yk_fit *f, const struct yk_fit_example *examples, uint32_t n, float near_s,
                struct yk_trees *t) {
    struct growing w = {.fit = f, .examples = examples, .trees = t};
    if (n > f->max_examples)
        n = f->max_examples;
    yk_trees_clear(t);
    t->waits = near_s > 0 ? 2 : 1;
    t->base = start(f, examples, n, near_s);
    for (int k = 0; k < TREES; k++) {
        w.tree = yk_trees_add(t);
        grow_tree(&w, n);
    }
}
