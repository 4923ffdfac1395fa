/* SPDX-License-Identifier: Apache-2.0
 *
 * A run: requests in the order of the trace (src/sim/sim.h).
 */
#include "sim/cache_priv.h"

#include "sched/cost.h"
#include "sched/policy.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct yk_sim_cache_ops *const caches[] = {
    &yk_sim_lru,    &yk_sim_lfu,     &yk_sim_arc,  &yk_sim_s3fifo,
    &yk_sim_sieve,  &yk_sim_tinylfu, &yk_sim_gdsf, &yk_sim_opt,
    &yk_sim_learned,
};

#define N_CACHES (sizeof(caches) / sizeof(caches[0]))

/* A copy of the names above: an option row needs constants. The tests compare them. */
const char *const yk_sim_policy_names[] = {"lru",   "lfu",      "arc",  "s3fifo",
                                           "sieve", "wtinylfu", "gdsf", "opt", "learned", NULL};

/* The same of cost.h's shapes. */
const char *const yk_sim_shape_names[] = {"none", "8b", "70b", "moe", NULL};

/* By how much more each further block saves; below 0: no such shape. */
static double growth_of(const char *shape) {
    if (shape == NULL || strcmp(shape, yk_sim_shape_names[0]) == 0)
        return 0;
    const struct yk_cost_shape *s = yk_cost_shape_find(shape);
    return s != NULL ? yk_cost_growth(s, YK_SIM_BLOCK_TOKENS) : -1;
}

uint64_t yk_sim_cpu_ns(void) {
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static const struct yk_sim_cache_ops *find(const char *name) {
    for (size_t i = 0; i < N_CACHES; i++)
        if (strcmp(caches[i]->name, name) == 0)
            return caches[i];
    return NULL;
}

/* The leading run that is present; those of it that come from below are used there. */
static uint32_t count_hits(struct yk_sim_cache *c, const uint32_t *blocks, uint32_t n, struct yk_sim_result *r) {
    uint32_t hits = 0;
    for (; hits < n; hits++) {
        if (c->ops->has(c, blocks[hits]))
            continue;
        if (c->below == NULL || !yk_sim_below_has(c->below, blocks[hits]))
            break;
        yk_sim_below_use(c->below, blocks[hits]);
        r->below_hit_blocks++;
    }
    return hits;
}

static int run_request(const struct yk_sim_trace *t, uint64_t number, struct yk_sim_cache *c,
                       uint32_t *ret_cache_hits, struct yk_sim_result *r) {
    const struct yk_sim_req *q = &t->reqs[number];
    const uint32_t *blocks = t->blocks + q->first;
    uint64_t before = r->below_hit_blocks;
    uint32_t hits = count_hits(c, blocks, q->n, r);
    int rc = 0;
    for (uint32_t i = 0; i < q->n; i++) {
        uint64_t bytes = yk_sim_length(c, blocks[i]);
        r->bytes += bytes;
        r->hit_bytes += i < hits ? bytes : 0;
    }
    r->saved += yk_policy_saved_by(c->saved_growth, hits);
    r->all_saved += yk_policy_saved_by(c->saved_growth, q->n);
    if (c->ops->request != NULL)
        rc = c->ops->request(c, number);
    for (uint32_t i = q->n; rc == 0 && i-- > 0;)
        rc = c->ops->use(c, blocks[i]);
    if (ret_cache_hits != NULL)
        ret_cache_hits[number] = hits - (uint32_t)(r->below_hit_blocks - before);
    r->requests++;
    r->blocks += q->n;
    r->hit_blocks += hits;
    return rc;
}

#define TICK_MS   1000u
#define TICKS_MAX 60u /* between two requests: a pause of a night is no reason for more */

static int prefetch(struct yk_sim_cache *c, uint64_t from_ms, uint64_t to_ms) {
    int rc = 0;
    for (uint64_t i = 1; rc == 0 && i <= TICKS_MAX && (from_ms / TICK_MS + i) * TICK_MS < to_ms; i++)
        rc = c->ops->prefetch(c, (from_ms / TICK_MS + i) * TICK_MS);
    return rc;
}

#define PRELOAD_ALL 1e15 /* blocks: more than there are, and a whole number, whatever the rate and the times */

/* The restart, or what has come up since it until this request. */
static int restart(const struct yk_sim_trace *t, uint64_t number, const struct yk_sim_restart *r, struct yk_sim_cache *c) {
    if (number == r->request)
        return c->ops->restart(c, t->reqs[number].at_ms);
    if (number < r->request)
        return 0;
    double until = (double)yk_sim_since_ms(t, r->request, number) / 1000 * r->preload_per_s;
    uint64_t in_all = until < PRELOAD_ALL ? (uint64_t)until : (uint64_t)PRELOAD_ALL;
    return in_all > c->preloaded ? c->ops->preload(c, in_all - c->preloaded) : 0;
}

static int run(const struct yk_sim_trace *t, const struct yk_sim_opts *o, struct yk_sim_cache *c,
               struct yk_sim_result *r) {
    int rc = c->below != NULL ? yk_sim_below_init(c->below, t, o->below) : 0;
    if (rc == 0)
        rc = c->ops->init(c, t, o);
    uint64_t began_ns = yk_sim_cpu_ns();
    for (uint64_t i = 0; rc == 0 && i < t->req_count; i++) {
        if (o->prefetches && i > 0)
            rc = prefetch(c, t->reqs[i - 1].at_ms, t->reqs[i].at_ms);
        if (rc == 0 && o->restart != NULL)
            rc = restart(t, i, o->restart, c);
        if (rc == 0)
            rc = run_request(t, i, c, o->ret_cache_hits, r);
    }
    r->preloaded = c->preloaded;
    r->moved = c->moved;
    r->moved_used = c->moved_used;
    r->trainings = c->trainings;
    r->training_ns = c->training_ns;
    r->decision_ns = yk_sim_cpu_ns() - began_ns - c->training_ns;
    r->below_written = c->below != NULL ? c->below->written : 0;
    r->room_bytes = c->room_bytes;
    c->ops->fini(c);
    if (c->below != NULL)
        yk_sim_below_fini(c->below);
    return rc;
}

/* Integers alone: alike on all machines. */
static uint32_t draw_length(uint64_t id, const struct yk_sim_opts *o) {
    uint64_t z = (id + 1) * UINT64_C(0x9e3779b97f4a7c15), doublings = 0;
    z = (z ^ z >> 32) * UINT64_C(0xd6e8feb86659fd93);
    while (o->bytes_min << (doublings + 1) <= o->bytes_max)
        doublings++;
    return (uint32_t)(o->bytes_min << ((z >> 32) % (doublings + 1)));
}

/* *ret_lengths is to be freed, after the cache. */
static int give_lengths(const struct yk_sim_trace *t, const struct yk_sim_opts *o, struct yk_sim_cache *c,
                        uint32_t **ret_lengths) {
    double sum = 0;
    c->room_bytes = o->capacity;
    if (o->bytes_min == 0)
        return 0;
    c->lengths = *ret_lengths = malloc(t->distinct * sizeof(**ret_lengths));
    if (*ret_lengths == NULL)
        return -YK_ENOMEM;
    for (uint64_t b = 0; b < t->distinct; b++) {
        bool goes_on = !o->draws_each && t->parent[b] != YK_SIM_NONE && t->parent[t->parent[b]] != YK_SIM_NONE;
        (*ret_lengths)[b] = goes_on ? (*ret_lengths)[t->parent[b]] : draw_length(t->id[b], o);
        sum += (*ret_lengths)[b];
    }
    c->room_bytes = (uint64_t)(sum / (double)t->distinct * o->capacity);
    return 0;
}

int yk_sim_run(const struct yk_sim_trace *t, const struct yk_sim_opts *o, struct yk_sim_result *ret_result,
               struct yk_err *err) {
    const struct yk_sim_cache_ops *ops = find(o->policy);
    struct yk_sim_below below = {0};
    struct yk_sim_result r = {0};
    struct yk_sim_cache *c;
    if (ops == NULL)
        return yk_err_set(err, -YK_EINVAL, "found policy '%s', expected one of the simulator's", o->policy);
    if (o->capacity == 0 || o->capacity > YK_SIM_CAPACITY_MAX || t->distinct == 0)
        return yk_err_set(err, -YK_EINVAL, "found a capacity of %u blocks for a trace of %llu, expected 1 to %u",
                          o->capacity, (unsigned long long)t->distinct, YK_SIM_CAPACITY_MAX);
    if (o->below != 0 && !ops->says_left)
        return yk_err_set(err, -YK_EINVAL, "found policy '%s' with two tiers, expected one that knows them", o->policy);
    if (o->bytes_min != 0 && (o->bytes_max < o->bytes_min || o->bytes_max > YK_SIM_LENGTH_MAX))
        return yk_err_set(err, -YK_EINVAL, "found lengths of %llu to %llu bytes, expected the larger last, at most %u",
                          (unsigned long long)o->bytes_min, (unsigned long long)o->bytes_max, YK_SIM_LENGTH_MAX);
    if (o->bytes_min != 0 && (!ops->takes_lengths || o->below != 0))
        return yk_err_set(err, -YK_EINVAL, "found policy '%s' with lengths of blocks, expected lru, lfu, s3fifo, gdsf or "
                          "learned, and one tier", o->policy);
    if (o->prefetches && (ops->prefetch == NULL || o->below == 0))
        return yk_err_set(err, -YK_EINVAL, "found policy '%s' with prefetch, expected learned, and two tiers", o->policy);
    if (o->restart != NULL && (ops->restart == NULL || o->below == 0))
        return yk_err_set(err, -YK_EINVAL, "found policy '%s' with a restart, expected lru, s3fifo or learned, and two tiers",
                          o->policy);
    if (growth_of(o->shape) < 0)
        return yk_err_set(err, -YK_EINVAL, "found model shape '%s', expected none, 8b, 70b or moe", o->shape);
    c = calloc(1, ops->size);
    if (c == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for %s", o->policy);
    c->ops = ops;
    c->saved_growth = growth_of(o->shape);
    c->below = o->below != 0 ? &below : NULL;
    uint32_t *lengths = NULL;
    int rc = give_lengths(t, o, c, &lengths);
    if (rc == 0)
        rc = run(t, o, c, &r);
    free(c);
    free(lengths);
    if (rc != 0)
        return yk_err_set(err, rc < 0 ? rc : -YK_EINTERNAL, "%s failed after %llu requests", o->policy,
                          (unsigned long long)r.requests);
    *ret_result = r;
    return 0;
}
