/* SPDX-License-Identifier: Apache-2.0
 *
 * Boosted trees as they are asked (trees_priv.h).
 */
#include "sched/trees_priv.h"

#include <stdbool.h>
#include <string.h>

void yk_trees_clear(struct yk_trees *t) {
    t->count = t->n_used = 0;
    t->waits = 1;
    t->base = (yk_trees_pair){0, 0};
    memset(t->leaf, 0, sizeof(t->leaf));
    memset(t->left_over, 0xff, sizeof(t->left_over));
}

uint32_t yk_trees_add(struct yk_trees *t) {
    return t->count++;
}

static void note_used(struct yk_trees *t, uint32_t feature) {
    for (uint32_t i = 0; i < t->n_used; i++)
        if (t->used[i] == feature)
            return;
    t->used[t->n_used++] = (uint8_t)feature;
}

void yk_trees_split(struct yk_trees *t, uint32_t tree, uint32_t first, uint32_t half, uint32_t feature,
                    uint32_t limit) {
    uint32_t first_half = ((1u << half) - 1) << first;
    for (uint32_t v = limit + 1; v < YK_TREES_VALUES; v++)
        t->left_over[feature][v][tree] &= ~first_half;
    note_used(t, feature);
}

/* Of four trees. Said to the compiler, so that they stay in registers from one feature to the next. */
typedef uint32_t fours __attribute__((vector_size(16), may_alias));
enum { FOURS = YK_TREES_MAX / 4 };
_Static_assert(YK_TREES_MAX % 4 == 0, "no tree is left out");

yk_trees_pair yk_trees_score(const struct yk_trees *t, const uint8_t x[YK_TREES_FEATURES]) {
    fours left[FOURS];
    yk_trees_pair sums[4] = {t->base};
    for (uint32_t k = 0; k < FOURS; k++)
        left[k] = ~(fours){0};
    for (uint32_t i = 0; i < t->n_used; i++) {
        uint32_t feature = t->used[i];
        const fours *row = (const fours *)t->left_over[feature][x[feature]];
        for (uint32_t k = 0; k < FOURS; k++)
            left[k] &= row[k];
    }
    for (uint32_t k = 0; k < FOURS; k++) /* trees that are not there add 0 */
        for (uint32_t i = 0; i < 4; i++)
            sums[i] += t->leaf[4 * k + i][__builtin_ctz(left[k][i])];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}
