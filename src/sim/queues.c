/* SPDX-License-Identifier: Apache-2.0
 *
 * arc: Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache" (FAST 2003), figure 4.
 * sieve: Zhang et al., "SIEVE is simpler than LRU" (NSDI 2024).
 *
 * Yardsticks as they were published, so they know nothing of chains.
 */
#include "sim/cache_priv.h"

struct queues {
    struct yk_sim_cache base;
    struct yk_sim_lists lists;
    uint32_t capacity;
    double target;     /* arc: of T1 */
    uint32_t hand;     /* sieve: a block, or YK_SIM_NONE */
    uint8_t *visited;  /* sieve: by block */
};

static struct queues *of(struct yk_sim_cache *c) {
    return (struct queues *)c;
}

static void queues_fini(struct yk_sim_cache *c) {
    yk_sim_lists_fini(&of(c)->lists);
    free(of(c)->visited);
}

static int queues_init(struct yk_sim_cache *c, const struct yk_sim_trace *t, const struct yk_sim_opts *o) {
    struct queues *q = of(c);
    q->capacity = o->capacity;
    q->hand = YK_SIM_NONE;
    q->visited = calloc(t->distinct + 1, 1);
    return yk_sim_lists_init(&q->lists, t->distinct) == 0 && q->visited != NULL ? 0 : -YK_ENOMEM;
}

/* ---- arc ------------------------------------------------------------------------------------- */

enum { T1, T2, B1, B2 };

static bool arc_has(const struct yk_sim_cache *c, uint32_t b) {
    const struct yk_sim_lists *l = &((const struct queues *)c)->lists;
    return yk_sim_lists_has(l, b, T1) || yk_sim_lists_has(l, b, T2);
}

static void arc_replace(struct queues *q, bool in_b2) {
    struct yk_sim_lists *l = &q->lists;
    bool first = l->count[T1] > 0 && (l->count[T1] > q->target || (in_b2 && l->count[T1] == q->target));
    if (first || l->count[T2] == 0)
        yk_sim_lists_move(l, l->oldest[T1], B1);
    else
        yk_sim_lists_move(l, l->oldest[T2], B2);
}

/* A block that no list knows comes in: case IV. */
static void arc_make_room(struct queues *q) {
    struct yk_sim_lists *l = &q->lists;
    uint64_t first = (uint64_t)l->count[T1] + l->count[B1];
    uint64_t all = first + l->count[T2] + l->count[B2];
    if (first == q->capacity) {
        if (l->count[T1] == q->capacity) {
            yk_sim_lists_drop(l, l->oldest[T1]);
            return;
        }
        yk_sim_lists_drop(l, l->oldest[B1]);
        arc_replace(q, false);
    } else if (all >= q->capacity) {
        if (all == 2 * (uint64_t)q->capacity)
            yk_sim_lists_drop(l, l->oldest[B2]);
        arc_replace(q, false);
    }
}

static int arc_use(struct yk_sim_cache *c, uint32_t b) {
    struct queues *q = of(c);
    struct yk_sim_lists *l = &q->lists;
    double b1 = l->count[B1], b2 = l->count[B2];
    if (arc_has(c, b)) {
        yk_sim_lists_move(l, b, T2);
    } else if (yk_sim_lists_has(l, b, B1)) {
        q->target += b1 >= b2 ? 1 : b2 / b1;
        if (q->target > q->capacity)
            q->target = q->capacity;
        arc_replace(q, false);
        yk_sim_lists_move(l, b, T2);
    } else if (yk_sim_lists_has(l, b, B2)) {
        q->target -= b2 >= b1 ? 1 : b1 / b2;
        if (q->target < 0)
            q->target = 0;
        arc_replace(q, true);
        yk_sim_lists_move(l, b, T2);
    } else {
        arc_make_room(q);
        yk_sim_lists_move(l, b, T1);
    }
    return 0;
}

const struct yk_sim_cache_ops yk_sim_arc = {.name = "arc",
                                            .size = sizeof(struct queues),
                                            .init = queues_init,
                                            .fini = queues_fini,
                                            .has = arc_has,
                                            .use = arc_use};

/* ---- sieve ----------------------------------------------------------------------------------- */

static bool sieve_has(const struct yk_sim_cache *c, uint32_t b) {
    return yk_sim_lists_has(&((const struct queues *)c)->lists, b, 0);
}

static void sieve_evict(struct queues *q) {
    struct yk_sim_lists *l = &q->lists;
    uint32_t b = q->hand != YK_SIM_NONE ? q->hand : l->oldest[0];
    while (q->visited[b]) {
        q->visited[b] = 0;
        b = l->younger[b] != YK_SIM_NONE ? l->younger[b] : l->oldest[0];
    }
    q->hand = l->younger[b];
    yk_sim_lists_drop(l, b);
}

static int sieve_use(struct yk_sim_cache *c, uint32_t b) {
    struct queues *q = of(c);
    if (sieve_has(c, b)) {
        q->visited[b] = 1;
        return 0;
    }
    if (q->lists.count[0] == q->capacity)
        sieve_evict(q);
    q->visited[b] = 0;
    yk_sim_lists_move(&q->lists, b, 0);
    return 0;
}

const struct yk_sim_cache_ops yk_sim_sieve = {.name = "sieve",
                                              .size = sizeof(struct queues),
                                              .init = queues_init,
                                              .fini = queues_fini,
                                              .has = sieve_has,
                                              .use = sieve_use};
