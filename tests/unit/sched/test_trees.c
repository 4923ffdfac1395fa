/* SPDX-License-Identifier: Apache-2.0
 *
 * Trees: a score is what a walk comes to, and a fit finds the rates that examples were made with.
 */
#include "testing.h"

#include "sched/fit_priv.h"

#include <math.h>

/* ---- scores against walks ----------------------------------------------------------------------- */

struct walk {
    uint8_t feature[32], limit[32]; /* from [1]: heap order */
    bool is_split[32];
};

static uint32_t walk(const struct walk *w, const uint8_t *x) {
    uint32_t first = 0, half = YK_TREES_LEAVES / 2;
    for (uint32_t node = 1; half > 0 && w->is_split[node]; half /= 2) {
        bool is_second = x[w->feature[node]] > w->limit[node];
        first += is_second ? half : 0;
        node = 2 * node + is_second;
    }
    return first;
}

static void grow(struct walk *w, struct yk_trees *t, uint32_t tree, uint32_t node, uint32_t first, uint32_t half,
                 uint64_t *rng) {
    if (half == 0 || random_below(rng, 8) == 0)
        return; /* a leaf, where rows of the whole node end */
    w->is_split[node] = true;
    w->feature[node] = (uint8_t)random_below(rng, YK_TREES_FEATURES);
    w->limit[node] = (uint8_t)random_below(rng, YK_TREES_VALUES);
    yk_trees_split(t, tree, first, half, w->feature[node], w->limit[node]);
    grow(w, t, tree, 2 * node, first, half / 2, rng);
    grow(w, t, tree, 2 * node + 1, first + half, half / 2, rng);
}

static void a_score_is_what_a_walk_comes_to(void **state) {
    struct yk_trees *t = malloc(sizeof(*t));
    uint64_t rng = 11;
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct walk w[YK_TREES_MAX];
        uint32_t count = 1 + random_below(&rng, YK_TREES_MAX);
        memset(w, 0, sizeof(w));
        yk_trees_clear(t);
        t->base = (yk_trees_pair){(float)random_below(&rng, 100), (float)random_below(&rng, 100)};
        for (uint32_t k = 0; k < count; k++) {
            assert_int_equal(yk_trees_add(t), k);
            grow(&w[k], t, k, 1, 0, YK_TREES_LEAVES / 2, &rng);
            for (uint32_t leaf = 0; leaf < YK_TREES_LEAVES; leaf++)
                t->leaf[k][leaf] = (yk_trees_pair){(float)random_below(&rng, 1000), (float)random_below(&rng, 1000)};
        }
        for (int i = 0; i < 200; i++) {
            uint8_t x[YK_TREES_FEATURES];
            yk_trees_pair expected = t->base; /* of whole numbers: exact in any order */
            for (uint32_t f = 0; f < YK_TREES_FEATURES; f++)
                x[f] = (uint8_t)random_below(&rng, YK_TREES_VALUES);
            for (uint32_t k = 0; k < count; k++)
                expected += t->leaf[k][walk(&w[k], x)];
            assert_true(yk_trees_score(t, x)[0] == expected[0] && yk_trees_score(t, x)[1] == expected[1]);
        }
    }
    free(t);
}

static void without_trees_nothing_is_added(void **state) {
    struct yk_trees *t = malloc(sizeof(*t));
    uint8_t x[YK_TREES_FEATURES] = {1, 2, 3};
    (void)state;
    yk_trees_clear(t);
    assert_true(yk_trees_score(t, x)[0] == 0 && yk_trees_score(t, x)[1] == 0);
    free(t);
}

/* ---- fits ------------------------------------------------------------------------------------- */

#define EXAMPLES 12000u

/* Events a second. Feature 3 matters where feature 7 is high; the others do not. */
static double rate_of(const uint8_t *x) {
    return x[7] < 32 ? 0.01 : x[3] < 20 ? 0.1 : 1;
}

static double uniform(uint64_t *rng) {
    return (random_below(rng, 1u << 30) + 0.5) / (1u << 30);
}

/* Half of them wait for 10 s at most: what has not happened by then counts for those. */
static struct yk_fit_example *make_examples(uint64_t seed, float prior) {
    struct yk_fit_example *e = calloc(EXAMPLES, sizeof(*e));
    uint64_t rng = seed;
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        for (uint32_t f = 0; f < YK_TREES_FEATURES; f++)
            e[i].x[f] = (uint8_t)random_below(&rng, YK_TREES_VALUES);
        double event_s = -log(uniform(&rng)) / rate_of(e[i].x), until_s = i % 2 ? 10 : 300;
        e[i].event = event_s < until_s;
        e[i].waited_s = (float)(e[i].event ? event_s : until_s) + 1e-3f;
        e[i].prior = prior;
    }
    return e;
}

static struct yk_trees *fit(const struct yk_fit_example *e, uint32_t n, float near_s, uint64_t seed) {
    struct yk_trees *t = malloc(sizeof(*t));
    struct yk_fit f;
    assert_int_equal(yk_fit_init(&f, EXAMPLES, seed), 0);
    yk_fit_run(&f, e, n, near_s, t);
    yk_fit_fini(&f);
    return t;
}

/* Within a factor of two, on the average, where rates differ by a hundred, and which wait a rate is over does not matter. */
static void assert_finds_rates(float prior) {
    struct yk_fit_example *e = make_examples(7, prior), *others = make_examples(8, prior);
    struct yk_trees *t = fit(e, EXAMPLES, 5, 1);
    double off = 0, off_near = 0;
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        double rate = log(rate_of(others[i].x)) - prior;
        off += fabs(yk_trees_score(t, others[i].x)[0] - rate);
        off_near += fabs(yk_trees_score(t, others[i].x)[1] - rate);
    }
    assert_true(off / EXAMPLES < log(2) && off_near / EXAMPLES < log(2));
    free(t);
    free(others);
    free(e);
}

static void a_fit_finds_the_rates(void **state) {
    (void)state;
    assert_finds_rates(0);
    assert_finds_rates(-4);
}

static void a_fit_repeats(void **state) {
    struct yk_fit_example *e = make_examples(9, 0);
    struct yk_trees *a = fit(e, EXAMPLES, 20, 5), *b = fit(e, EXAMPLES, 20, 5);
    (void)state;
    for (uint32_t i = 0; i < EXAMPLES; i++)
        for (int wait = 0; wait < 2; wait++)
            assert_true(yk_trees_score(a, e[i].x)[wait] == yk_trees_score(b, e[i].x)[wait]);
    free(a);
    free(b);
    free(e);
}

/* None, one, all alike, all with events, none with. */
static void odd_examples_end_well(void **state) {
    struct yk_fit_example *e = calloc(EXAMPLES, sizeof(*e));
    (void)state;
    for (int events = 0; events < 2; events++) {
        for (uint32_t i = 0; i < EXAMPLES; i++)
            e[i] = (struct yk_fit_example){.event = (uint8_t)events, .waited_s = 100};
        for (uint32_t n = 0; n <= EXAMPLES; n = n * 10 + 1) {
            struct yk_trees *t = fit(e, n, n % 2 ? 30 : 0, 3);
            assert_true(isfinite(yk_trees_score(t, e[0].x)[0]) && isfinite(yk_trees_score(t, e[0].x)[1]));
            free(t);
        }
    }
    free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_score_is_what_a_walk_comes_to), cmocka_unit_test(without_trees_nothing_is_added),
        cmocka_unit_test(a_fit_finds_the_rates),           cmocka_unit_test(a_fit_repeats),
        cmocka_unit_test(odd_examples_end_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
