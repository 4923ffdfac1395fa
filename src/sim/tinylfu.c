/* SPDX-License-Identifier: Apache-2.0
 *
 * wtinylfu: Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy" (2017): a
 * window of 1 % in LRU order; what leaves it takes the place of the main part's victim if a sketch of past
 * uses has seen it more often. The main part is a segmented LRU, 80 % of it protected.
 *
 * The sketch has four rows of four-bit-range counters and is halved every ten capacities of uses. So
 * many different blocks may come meanwhile, and each row has room for all of them: with one counter a block
 * of capacity most share theirs with others, newcomers seem to be used as often as what is kept, and hits may fall to
 * a tenth (docs/performance.md). A yardstick as published: it knows nothing of chains.
 */
#include "sim/cache_priv.h"

enum { WINDOW, PROBATION, PROTECTED };

#define ROWS       4
#define COUNT_MAX  15
#define SAMPLE_OF(capacity) (10 * (uint64_t)(capacity))
#define COUNTERS_OF(blocks) (16 * (uint64_t)(blocks)) /* a row; 4 and 8 hit up to 2.1 and 0.4 points less */

struct tinylfu {
    struct yk_sim_cache base;
    struct yk_sim_lists lists;
    uint32_t window_max, main_max, protected_max;
    uint8_t *sketch; /* ROWS rows of mask + 1 */
    uint64_t mask, seed, uses, sample;
};

static struct tinylfu *of(struct yk_sim_cache *c) {
    return (struct tinylfu *)c;
}

static void tinylfu_fini(struct yk_sim_cache *c) {
    yk_sim_lists_fini(&of(c)->lists);
    free(of(c)->sketch);
}

static int tinylfu_init(struct yk_sim_cache *cache, const struct yk_sim_trace *t, const struct yk_sim_opts *o) {
    struct tinylfu *c = of(cache);
    uint64_t most = o->capacity < t->distinct ? o->capacity : t->distinct;
    c->window_max = o->capacity / 100 > 0 ? o->capacity / 100 : 1;
    c->main_max = o->capacity - c->window_max;
    c->protected_max = (uint32_t)((uint64_t)c->main_max * 8 / 10);
    c->sample = SAMPLE_OF(o->capacity);
    c->seed = o->seed;
    c->mask = 63;
    while (c->mask < COUNTERS_OF(most))
        c->mask = c->mask * 2 + 1;
    c->sketch = calloc(ROWS, c->mask + 1);
    return yk_sim_lists_init(&c->lists, t->distinct) == 0 && c->sketch != NULL ? 0 : -YK_ENOMEM;
}

static uint8_t *counter(const struct tinylfu *c, uint32_t block, unsigned row) {
    uint64_t z = (block + 1 + (c->seed + row) * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);
    z = (z ^ z >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return &c->sketch[row * (c->mask + 1) + ((z ^ z >> 33) & c->mask)];
}

static uint8_t estimate(const struct tinylfu *c, uint32_t block) {
    uint8_t least = COUNT_MAX;
    for (unsigned row = 0; row < ROWS; row++)
        if (*counter(c, block, row) < least)
            least = *counter(c, block, row);
    return least;
}

static void note(struct tinylfu *c, uint32_t block) {
    uint8_t least = estimate(c, block);
    for (unsigned row = 0; row < ROWS && least < COUNT_MAX; row++)
        if (*counter(c, block, row) == least)
            ++*counter(c, block, row);
    if (++c->uses < c->sample)
        return;
    for (uint64_t i = 0; i < ROWS * (c->mask + 1); i++)
        c->sketch[i] /= 2;
    c->uses /= 2;
}

/* The window's oldest asks for a place in the main part. */
static void leave_window(struct tinylfu *c) {
    struct yk_sim_lists *l = &c->lists;
    uint32_t candidate = l->oldest[WINDOW];
    if (l->count[PROBATION] + l->count[PROTECTED] < c->main_max) {
        yk_sim_lists_move(l, candidate, PROBATION);
        return;
    }
    uint32_t victim = l->oldest[l->count[PROBATION] > 0 ? PROBATION : PROTECTED];
    if (victim == YK_SIM_NONE || estimate(c, candidate) <= estimate(c, victim)) {
        yk_sim_lists_drop(l, candidate);
        return;
    }
    yk_sim_lists_drop(l, victim);
    yk_sim_lists_move(l, candidate, PROBATION);
}

static bool tinylfu_has(const struct yk_sim_cache *c, uint32_t block) {
    return ((const struct tinylfu *)c)->lists.in[block] != 0;
}

static int tinylfu_use(struct yk_sim_cache *cache, uint32_t block) {
    struct tinylfu *c = of(cache);
    struct yk_sim_lists *l = &c->lists;
    note(c, block);
    if (l->in[block] == 0 || yk_sim_lists_has(l, block, WINDOW)) {
        yk_sim_lists_move(l, block, WINDOW);
        if (l->count[WINDOW] > c->window_max)
            leave_window(c);
        return 0;
    }
    yk_sim_lists_move(l, block, PROTECTED);
    if (l->count[PROTECTED] > c->protected_max)
        yk_sim_lists_move(l, l->oldest[PROTECTED], PROBATION);
    return 0;
}

const struct yk_sim_cache_ops yk_sim_tinylfu = {.name = "wtinylfu",
                                                .size = sizeof(struct tinylfu),
                                                .init = tinylfu_init,
                                                .fini = tinylfu_fini,
                                                .has = tinylfu_has,
                                                .use = tinylfu_use};
