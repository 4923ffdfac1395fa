/* SPDX-License-Identifier: Apache-2.0
 *
 * Boosted trees for rates (trees_priv.h).
 */
#include "sched/trees_priv.h"

#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHRINK   0.15 /* of each tree's step */
#define RIDGE    4.0  /* expected events added to each leaf: few examples move little */
#define LEAF_MIN 1.0  /* expected events on each side of a split */
#define STEP_MAX 3.0  /* of one leaf, before it is shrunk */

struct sums {
    float g, h; /* events less expected ones; expected ones */
};

struct yk_trees_scratch {
    struct sums hist[YK_TREES_LEAVES / 2][YK_TREES_FEATURES][YK_TREES_VALUES];
    struct sums leaf[YK_TREES_LEAVES];
    uint32_t max_examples;
    struct {
        float log_rate, g, h;
        uint32_t node;
    } row[];
};

int yk_trees_init(struct yk_trees *t, uint32_t max_examples) {
    memset(t, 0, sizeof(*t));
    t->scratch = calloc(1, sizeof(*t->scratch) + max_examples * sizeof(t->scratch->row[0]));
    if (t->scratch == NULL)
        return -YK_ENOMEM;
    t->scratch->max_examples = max_examples;
    return 0;
}

void yk_trees_fini(struct yk_trees *t) {
    free(t->scratch);
    t->scratch = NULL;
}

static inline uint32_t descend(const struct yk_trees_tree *tree, const uint8_t *x, uint32_t node) {
    return 2 * node + (x[tree->feature[node]] > tree->limit[node]);
}

static double gain_of(double g, double h) {
    return g * g / (h + RIDGE);
}

/* The split of a node that explains most; one that sends all to one side where there is none. */
static void find_split(struct yk_trees_tree *tree, uint32_t node,
                       const struct sums hist[YK_TREES_FEATURES][YK_TREES_VALUES]) {
    double all_g = 0, all_h = 0, best = 1e-6;
    tree->feature[node] = 0;
    tree->limit[node] = UINT8_MAX;
    for (int v = 0; v < YK_TREES_VALUES; v++) {
        all_g += hist[0][v].g;
        all_h += hist[0][v].h;
    }
    for (int f = 0; f < YK_TREES_FEATURES; f++) {
        double g = 0, h = 0;
        for (int v = 0; v + 1 < YK_TREES_VALUES; v++) {
            g += hist[f][v].g;
            h += hist[f][v].h;
            if (h < LEAF_MIN || all_h - h < LEAF_MIN || hist[f][v].h == 0)
                continue;
            double gain = gain_of(g, h) + gain_of(all_g - g, all_h - h) - gain_of(all_g, all_h);
            if (gain > best) {
                best = gain;
                tree->feature[node] = (uint8_t)f;
                tree->limit[node] = (uint8_t)v;
            }
        }
    }
}

static void grow(struct yk_trees_tree *tree, struct yk_trees_scratch *s,
                 const struct yk_trees_example *e, uint32_t n) {
    for (uint32_t first = 1; first < YK_TREES_LEAVES; first *= 2) {
        memset(s->hist, 0, first * sizeof(s->hist[0]));
        for (uint32_t i = 0; i < n; i++) {
            struct sums(*hist)[YK_TREES_VALUES] = s->hist[s->row[i].node - first];
            float g = s->row[i].g, h = s->row[i].h;
            for (int f = 0; f < YK_TREES_FEATURES; f++) {
                hist[f][e[i].x[f]].g += g;
                hist[f][e[i].x[f]].h += h;
            }
        }
        for (uint32_t node = first; node < 2 * first; node++)
            find_split(tree, node, s->hist[node - first]);
        for (uint32_t i = 0; i < n; i++)
            s->row[i].node = descend(tree, e[i].x, s->row[i].node);
    }
}

static void set_leaves(struct yk_trees_tree *tree, struct yk_trees_scratch *s, uint32_t n) {
    memset(s->leaf, 0, sizeof(s->leaf));
    for (uint32_t i = 0; i < n; i++) {
        struct sums *leaf = &s->leaf[s->row[i].node - YK_TREES_LEAVES];
        leaf->g += s->row[i].g;
        leaf->h += s->row[i].h;
    }
    for (uint32_t l = 0; l < YK_TREES_LEAVES; l++) {
        double step = s->leaf[l].g / (s->leaf[l].h + RIDGE);
        step = step > STEP_MAX ? STEP_MAX : step < -STEP_MAX ? -STEP_MAX : step;
        tree->leaf[l] = (float)(SHRINK * step);
    }
}

void yk_trees_train(struct yk_trees *t, const struct yk_trees_example *e, uint32_t n) {
    struct yk_trees_scratch *s = t->scratch;
    double events = 1, expected = 1;
    if (n > s->max_examples)
        n = s->max_examples;
    for (uint32_t i = 0; i < n; i++) {
        events += e[i].events;
        expected += e[i].waited_s * exp(e[i].prior);
    }
    t->base = (float)log(events / expected);
    for (uint32_t i = 0; i < n; i++)
        s->row[i].log_rate = t->base + e[i].prior;
    for (int k = 0; k < YK_TREES_COUNT; k++) {
        for (uint32_t i = 0; i < n; i++) {
            s->row[i].h = e[i].waited_s * expf(s->row[i].log_rate);
            s->row[i].g = e[i].events - s->row[i].h;
            s->row[i].node = 1;
        }
        grow(&t->tree[k], s, e, n);
        set_leaves(&t->tree[k], s, n);
        for (uint32_t i = 0; i < n; i++)
            s->row[i].log_rate += t->tree[k].leaf[s->row[i].node - YK_TREES_LEAVES];
    }
    t->trained++;
}

float yk_trees_score(const struct yk_trees *t, const uint8_t x[YK_TREES_FEATURES]) {
    float sum = t->base;
    if (t->trained == 0)
        return 0;
    for (int k = 0; k < YK_TREES_COUNT; k++) {
        uint32_t node = 1;
        for (int d = 0; d < YK_TREES_DEPTH; d++)
            node = descend(&t->tree[k], x, node);
        sum += t->tree[k].leaf[node - YK_TREES_LEAVES];
    }
    return sum;
}
