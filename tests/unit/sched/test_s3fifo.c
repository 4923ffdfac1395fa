/* SPDX-License-Identifier: Apache-2.0
 *
 * s3fifo against a straightforward writing-down of the paper's algorithm with arrays as queues,
 * victim by victim, on random and on generated streams.
 */
#include "testing.h"

#include "hit_sim.h"
#include "trace/gen.h"

#define CAPACITY 100
#define KEYS     4096

/* More room for ghosts than is used (their number follows what is in), so that the holes of keys
 * taken out of the list never push an old one out early. */
#define OPTS_CAPACITY (10 * CAPACITY)

struct fifo { /* oldest first */
    uint32_t keys[2 * CAPACITY];
    uint32_t n;
};

static uint32_t pop(struct fifo *q) {
    uint32_t k = q->keys[0];
    memmove(&q->keys[0], &q->keys[1], --q->n * sizeof(q->keys[0]));
    return k;
}

static void push(struct fifo *q, uint32_t k) {
    q->keys[q->n++] = k;
}

static bool take_out(struct fifo *q, uint32_t k) {
    for (uint32_t i = 0; i < q->n; i++) {
        if (q->keys[i] == k) {
            memmove(&q->keys[i], &q->keys[i + 1], (--q->n - i) * sizeof(q->keys[0]));
            return true;
        }
    }
    return false;
}

struct paper {
    struct fifo small, main, ghost;
    uint8_t freq[KEYS];
    bool in[KEYS];
};

static uint32_t paper_evict(struct paper *c) {
    for (;;) {
        if (c->small.n * 10 >= c->small.n + c->main.n) {
            uint32_t k = pop(&c->small);
            if (c->freq[k] > 1) {
                c->freq[k] = 0;
                push(&c->main, k);
                continue;
            }
            while (c->ghost.n >= CAPACITY * 9 / 10)
                pop(&c->ghost);
            push(&c->ghost, k);
            c->in[k] = false;
            return k;
        }
        uint32_t k = pop(&c->main);
        if (c->freq[k] == 0) {
            c->in[k] = false;
            return k;
        }
        c->freq[k]--;
        push(&c->main, k);
    }
}

static void paper_insert(struct paper *c, uint32_t k) {
    c->in[k] = true;
    c->freq[k] = 0;
    push(take_out(&c->ghost, k) ? &c->main : &c->small, k);
}

/* Keys are ids here: an id comes back with the key that it had. */
static void one_access(struct yk_policy *p, struct paper *c, uint32_t k) {
    if (c->in[k]) {
        c->freq[k] += c->freq[k] < 3;
        assert_int_equal(yk_policy_access(p, k), 0);
        return;
    }
    if (c->small.n + c->main.n == CAPACITY) {
        uint32_t victim = next_victim(p, take_all, NULL);
        assert_int_equal(victim, paper_evict(c));
        evict_block(p, victim);
    }
    paper_insert(c, k);
    assert_int_equal(insert_block(p, k, YK_POLICY_NONE), 0);
}

static void random_stream_equals_the_paper(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(KEYS);
    struct yk_policy *p = make_policy("s3fifo", space, OPTS_CAPACITY);
    static struct paper c;
    uint64_t rng = 31;
    memset(&c, 0, sizeof(c));
    for (int i = 0; i < 100000; i++) {
        /* Squared: low keys often, high ones rarely, and a window that moves. */
        uint64_t x = random_below(&rng, 1000);
        one_access(p, &c, (uint32_t)((x * x / 2000 + (uint64_t)i / 200) % KEYS));
    }
    assert_true(c.main.n > CAPACITY / 4); /* all three queues had something to do */
    yk_policy_free(p);
    yk_policy_space_free(space);
}

struct both {
    struct yk_policy *p;
    struct paper *c;
};

static void feed_both(void *arg, const uint64_t *ids, uint32_t n) {
    struct both *b = arg;
    for (uint32_t i = n; i > 0; i--)
        if (ids[i - 1] < KEYS)
            one_access(b->p, b->c, (uint32_t)ids[i - 1]);
}

static void prefix_traces_equal_the_paper(void **state) {
    (void)state;
    for (int kind = -1; kind < YK_TRACE_KINDS; kind++) {
        struct yk_policy_space *space = make_space(KEYS);
        static struct paper c;
        memset(&c, 0, sizeof(c));
        struct both b = {.p = make_policy("s3fifo", space, OPTS_CAPACITY), .c = &c};
        hit_sim_generate(kind, 8, 800, feed_both, &b);
        yk_policy_free(b.p);
        yk_policy_space_free(space);
    }
}

static void a_scan_passes_through_the_small_queue(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(KEYS);
    struct yk_policy *p = make_policy("s3fifo", space, OPTS_CAPACITY);
    static struct paper c;
    memset(&c, 0, sizeof(c));
    for (uint32_t round = 0; round < 4; round++)
        for (uint32_t k = 0; k < 50; k++)
            one_access(p, &c, k);
    for (uint32_t k = 1000; k < 3000; k++)
        one_access(p, &c, k);
    for (uint32_t k = 0; k < 50; k++) /* what was used often is still here */
        assert_int_equal(yk_policy_access(p, k), 0);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

static void a_key_that_comes_back_goes_to_main(void **state) {
    (void)state;
    struct yk_policy_space *space = make_space(KEYS);
    struct yk_policy *p = make_policy("s3fifo", space, OPTS_CAPACITY);
    static struct paper c;
    memset(&c, 0, sizeof(c));
    for (uint32_t k = 0; k <= CAPACITY; k++)
        one_access(p, &c, k); /* key 0 is evicted */
    assert_false(c.in[0]);
    assert_true(yk_policy_rises(p, UINT64_C(0), false)); /* also from the tier below */
    assert_false(yk_policy_rises(p, KEYS * UINT64_C(0x2545f4914f6cdd1d), false));
    one_access(p, &c, 0);
    for (uint32_t k = 1000; k < 1000 + 3 * CAPACITY; k++)
        one_access(p, &c, k);
    assert_int_equal(yk_policy_access(p, 0), 0);
    yk_policy_free(p);
    yk_policy_space_free(space);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_stream_equals_the_paper),
        cmocka_unit_test(prefix_traces_equal_the_paper),
        cmocka_unit_test(a_scan_passes_through_the_small_queue),
        cmocka_unit_test(a_key_that_comes_back_goes_to_main),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
