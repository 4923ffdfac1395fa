/* SPDX-License-Identifier: Apache-2.0
 *
 * A run: requests in the order of the trace (src/sim/sim.h).
 */
#include "sim/cache_priv.h"

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

static int run_request(const struct yk_sim_trace *t, uint64_t number, struct yk_sim_cache *c,
                       struct yk_sim_result *r) {
    const struct yk_sim_req *q = &t->reqs[number];
    const uint32_t *blocks = t->blocks + q->first;
    uint32_t hits = 0;
    int rc = 0;
    while (hits < q->n && c->ops->has(c, blocks[hits]))
        hits++;
    if (c->ops->request != NULL)
        rc = c->ops->request(c, number);
    for (uint32_t i = q->n; rc == 0 && i-- > 0;)
        rc = c->ops->use(c, blocks[i]);
    r->requests++;
    r->blocks += q->n;
    r->hit_blocks += hits;
    return rc;
}

int yk_sim_run(const struct yk_sim_trace *t, const struct yk_sim_opts *o, struct yk_sim_result *ret_result,
               struct yk_err *err) {
    const struct yk_sim_cache_ops *ops = find(o->policy);
    struct yk_sim_result r = {0};
    struct yk_sim_cache *c;
    if (ops == NULL)
        return yk_err_set(err, -YK_EINVAL, "found policy '%s', expected one of the simulator's", o->policy);
    if (o->capacity == 0 || o->capacity > YK_SIM_CAPACITY_MAX || t->distinct == 0)
        return yk_err_set(err, -YK_EINVAL, "found a capacity of %u blocks for a trace of %llu, expected 1 to %u",
                          o->capacity, (unsigned long long)t->distinct, YK_SIM_CAPACITY_MAX);
    c = calloc(1, ops->size);
    if (c == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for %s", o->policy);
    c->ops = ops;
    int rc = ops->init(c, t, o);
    uint64_t began_ns = yk_sim_cpu_ns();
    for (uint64_t i = 0; rc == 0 && i < t->req_count; i++)
        rc = run_request(t, i, c, &r);
    r.trainings = c->trainings;
    r.training_ns = c->training_ns;
    r.decision_ns = yk_sim_cpu_ns() - began_ns - c->training_ns;
    ops->fini(c);
    free(c);
    if (rc != 0)
        return yk_err_set(err, rc < 0 ? rc : -YK_EINTERNAL, "%s failed after %llu requests", o->policy,
                          (unsigned long long)r.requests);
    *ret_result = r;
    return 0;
}
