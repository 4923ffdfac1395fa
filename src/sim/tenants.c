/* SPDX-License-Identifier: Apache-2.0
 *
 * Several tenants on one cache (src/sim/tenants.h). All policies stand in one space, as in a node: a tenant's blocks are
 * numbered from its first id on.
 */
#include "sim/tenants.h"

#include "sched/learned.h"
#include "sched/shares.h"
#include "sim/cache_priv.h"

#include <stdlib.h>
#include <string.h>

struct tenant {
    const struct yk_sim_trace *trace;
    struct yk_policy *policy;
    uint64_t next; /* request */
    uint32_t first_id;
    struct yk_sim_tenant_result *result;
};

struct house {
    struct yk_policy_space *space;
    struct yk_shares *shares; /* NULL: the oldest goes */
    struct tenant *of;
    struct yk_policy **policies; /* the same, for who wants a list */
    uint8_t *in;                 /* by id */
    uint64_t *hashes;            /* of the request */
    uint32_t count, capacity, blocks;
    bool learns;
};

/* ---- who comes next --------------------------------------------------------------------------- */

static uint64_t next_ms(const struct tenant *t) {
    return t->next < t->trace->req_count ? t->trace->reqs[t->next].at_ms : UINT64_MAX;
}

/* The tenant whose next request is first, or `count`. */
static uint32_t who_asks(const struct tenant *of, uint32_t count) {
    uint32_t first = count;
    for (uint32_t i = 0; i < count; i++)
        if (of[i].next < of[i].trace->req_count && (first == count || next_ms(&of[i]) < next_ms(&of[first])))
            first = i;
    return first;
}

static uint64_t hash_of(const struct tenant *t, uint32_t block) {
    return yk_sim_hash(t->trace->id[block]);
}

static uint32_t take_hashes(const struct tenant *t, const struct yk_sim_req *q, uint64_t *ret_hashes) {
    for (uint32_t i = 0; i < q->n; i++)
        ret_hashes[i] = hash_of(t, t->trace->blocks[q->first + i]);
    return q->n;
}

static uint32_t longest(const struct yk_sim_trace *traces, uint32_t count) {
    uint32_t most = 1;
    for (uint32_t i = 0; i < count; i++)
        for (uint64_t r = 0; r < traces[i].req_count; r++)
            most = traces[i].reqs[r].n > most ? traces[i].reqs[r].n : most;
    return most;
}

/* ---- who gives --------------------------------------------------------------------------------- */

static void look_what_they_have(struct house *h) {
    for (uint32_t i = 0; i < h->count; i++)
        yk_shares_set_used(h->shares, i, yk_policy_count(h->of[i].policy));
}

static enum yk_policy_answer any(void *arg, uint32_t id) {
    (void)arg;
    (void)id;
    return YK_POLICY_TAKE;
}

/* Nothing is pinned here, so who gives has something. */
static int choose(struct house *h, uint32_t *ret_id) {
    size_t which;
    if (h->shares != NULL && h->count > 1) {
        look_what_they_have(h);
        uint32_t who = yk_shares_giver(h->shares, YK_SHARES_NONE);
        if (who != YK_SHARES_NONE)
            return yk_policy_victim_any(h->of[who].policy, ret_id);
    }
    return yk_policy_victim_oldest(h->policies, h->count, any, NULL, &which, ret_id);
}

static int evict_one(struct house *h) {
    uint32_t id, who = 0;
    int rc;
    while ((rc = choose(h, &id)) == -YK_EAGAIN) /* a policy that has used up its steps goes on */
        ;
    if (rc != 0)
        return -YK_EINTERNAL;
    while (who + 1 < h->count && id >= h->of[who + 1].first_id)
        who++;
    const struct tenant *t = &h->of[who];
    (void)yk_policy_evict(t->policy, id, hash_of(t, id - t->first_id));
    h->in[id] = 0;
    h->blocks--;
    return 0;
}

/* ---- a request --------------------------------------------------------------------------------- */

static int use(struct house *h, struct tenant *t, uint32_t block) {
    uint32_t id = t->first_id + block, parent = t->trace->parent[block];
    struct yk_policy_block info = {.key_hash = hash_of(t, block),
                                   .size_bytes = 1,
                                   .parent_id = parent == YK_SIM_NONE ? YK_POLICY_NONE : t->first_id + parent};
    if (h->in[id])
        return yk_policy_access(t->policy, id);
    int rc = h->blocks == h->capacity ? evict_one(h) : 0;
    if (rc == 0)
        rc = yk_policy_insert(t->policy, id, &info);
    if (rc != 0)
        return rc;
    h->in[id] = 1;
    h->blocks++;
    return 0;
}

static void divide(struct house *h) {
    yk_shares_update(h->shares);
    for (uint32_t i = 0; i < h->count && h->learns && h->count > 1; i++)
        yk_learned_set_share(h->of[i].policy, (uint32_t)yk_shares_bytes(h->shares, i));
}

static void hear(struct house *h, uint32_t who, const struct yk_sim_req *q) {
    struct tenant *t = &h->of[who];
    struct yk_policy_request r = {.now_ms = q->at_ms,
                                  .key_hashes = h->hashes,
                                  .n = take_hashes(t, q, h->hashes),
                                  .last_block_eighths = yk_trace_last_eighths(q->n, q->input_length, YK_SIM_BLOCK_TOKENS),
                                  .output_length = q->output_length,
                                  .stop = q->stop};
    yk_policy_request(t->policy, &r);
    struct yk_learned_training *training = h->learns ? yk_learned_training_begin(t->policy) : NULL;
    if (training != NULL) { /* at once, so that a run repeats */
        yk_learned_training_run(training);
        yk_learned_training_end(t->policy);
    }
    if (h->shares == NULL)
        return;
    yk_shares_request(h->shares, who, h->hashes, q->n);
    if (yk_shares_is_due(h->shares))
        divide(h);
}

static int ask(struct house *h, uint32_t who) {
    struct tenant *t = &h->of[who];
    const struct yk_sim_req *q = &t->trace->reqs[t->next++];
    const uint32_t *blocks = t->trace->blocks + q->first;
    uint32_t hits = 0;
    int rc = 0;
    while (hits < q->n && h->in[t->first_id + blocks[hits]])
        hits++;
    hear(h, who, q);
    for (uint32_t i = q->n; rc == 0 && i-- > 0;)
        rc = use(h, t, blocks[i]);
    t->result->requests++;
    t->result->blocks += q->n;
    t->result->hit_blocks += hits;
    return rc;
}

/* ---- open, run, close -------------------------------------------------------------------------- */

static void house_fini(struct house *h) {
    for (uint32_t i = 0; h->of != NULL && i < h->count; i++)
        yk_policy_free(h->of[i].policy);
    yk_policy_space_free(h->space);
    yk_shares_free(h->shares);
    free(h->of);
    free(h->policies);
    free(h->in);
    free(h->hashes);
}

static int tenant_init(struct house *h, uint32_t i, const struct yk_policy_ops *ops, uint64_t seed) {
    struct yk_policy_opts opts = {.capacity_objects = h->capacity, .seed = seed ^ i};
    int rc = h->shares != NULL ? yk_shares_join(h->shares, i) : 0;
    if (rc == 0)
        rc = yk_policy_new(ops, h->space, &opts, &h->of[i].policy);
    h->policies[i] = h->of[i].policy;
    return rc;
}

static int house_init(struct house *h, const struct yk_sim_trace *traces, uint32_t count,
                      const struct yk_sim_tenants_opts *o, struct yk_sim_tenant_result *results) {
    const struct yk_policy_ops *ops = yk_policy_find(o->policy);
    struct yk_shares_opts so = {.tenants = count, .capacity_bytes = o->capacity, .seed = o->seed};
    uint64_t ids = 0;
    h->count = count;
    h->capacity = o->capacity;
    h->learns = (ops->caps & YK_POLICY_CAP_LEARNS) != 0;
    h->of = calloc(count, sizeof(*h->of));
    h->policies = calloc(count, sizeof(*h->policies));
    h->hashes = calloc(longest(traces, count), sizeof(*h->hashes));
    if (h->of == NULL || h->policies == NULL || h->hashes == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        h->of[i] = (struct tenant){.trace = &traces[i], .first_id = (uint32_t)ids, .result = &results[i]};
        ids += traces[i].distinct;
        if (ids > YK_POLICY_IDS_MAX)
            return -YK_ETOOBIG;
    }
    h->in = calloc(ids + 1, 1);
    int rc = h->in != NULL ? yk_policy_space_new((uint32_t)ids, &h->space) : -YK_ENOMEM;
    if (rc == 0 && o->shares)
        rc = yk_shares_new(&so, &h->shares);
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = tenant_init(h, i, ops, o->seed);
    return rc;
}

static void note_end(const struct house *h) {
    for (uint32_t i = 0; i < h->count; i++) {
        struct yk_sim_tenant_result *r = h->of[i].result;
        r->end_blocks = yk_policy_count(h->of[i].policy);
        r->share_blocks = h->shares != NULL ? yk_shares_bytes(h->shares, i) : 0;
        r->share_hit_ratio = h->shares != NULL ? yk_shares_predicted(h->shares, i) : 0;
    }
}

static int check(const struct yk_sim_trace *traces, uint32_t count, uint32_t capacity, struct yk_err *err) {
    if (count == 0 || count > YK_SIM_TENANTS_MAX)
        return yk_err_set(err, -YK_EINVAL, "found %u tenants, expected 1 to %u", count, YK_SIM_TENANTS_MAX);
    if (capacity == 0 || capacity > YK_SIM_CAPACITY_MAX)
        return yk_err_set(err, -YK_EINVAL, "found a capacity of %u blocks, expected 1 to %u", capacity, YK_SIM_CAPACITY_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (traces[i].distinct == 0)
            return yk_err_set(err, -YK_EINVAL, "the trace of tenant %u has no blocks", i + 1);
    return 0;
}

int yk_sim_tenants_run(const struct yk_sim_trace *traces, uint32_t count, const struct yk_sim_tenants_opts *opts,
                       struct yk_sim_tenant_result *ret_results, struct yk_err *err) {
    struct house h = {0};
    uint32_t who;
    int rc = check(traces, count, opts->capacity, err);
    if (rc < 0)
        return rc;
    if (yk_policy_find(opts->policy) == NULL)
        return yk_err_set(err, -YK_EINVAL, "found policy '%s' with several tenants, expected lru, s3fifo or learned",
                          opts->policy);
    memset(ret_results, 0, count * sizeof(*ret_results));
    rc = house_init(&h, traces, count, opts, ret_results);
    while (rc == 0 && (who = who_asks(h.of, count)) < count)
        rc = ask(&h, who);
    if (rc == 0)
        note_end(&h);
    house_fini(&h);
    return rc == 0 ? 0 : yk_err_set(err, rc < 0 ? rc : -YK_EINTERNAL, "%s with %u tenants failed", opts->policy, count);
}

/* ---- what shares cost --------------------------------------------------------------------------- */

/* With the making of hashes, some ns a block. */
static void cost_of_hearing(struct yk_shares *s, struct tenant *of, uint32_t count, uint64_t *hashes,
                            struct yk_sim_shares_cost *cost) {
    uint64_t began_ns = yk_sim_cpu_ns();
    uint32_t who;
    while ((who = who_asks(of, count)) < count) {
        const struct yk_sim_req *q = &of[who].trace->reqs[of[who].next++];
        uint32_t n = take_hashes(&of[who], q, hashes);
        yk_shares_request(s, who, hashes, n);
        if (yk_shares_is_due(s)) {
            yk_shares_update(s);
            cost->divisions++;
        }
        cost->blocks += n;
    }
    cost->hearing_ns = yk_sim_cpu_ns() - began_ns;
}

static void cost_of_giving(struct yk_shares *s, uint32_t count, struct yk_sim_shares_cost *cost) {
    uint64_t began_ns = yk_sim_cpu_ns(), sum = 0;
    for (uint64_t i = 0; i < cost->blocks; i++) {
        for (uint32_t who = 0; who < count; who++)
            yk_shares_set_used(s, who, 1 + ((i + who) & 1023));
        sum += yk_shares_giver(s, YK_SHARES_NONE);
    }
    cost->giving_ns = yk_sim_cpu_ns() - began_ns + (sum == 0 && count > 1); /* the sum is wanted, so nothing is left out */
}

int yk_sim_shares_cost(const struct yk_sim_trace *traces, uint32_t count, uint32_t capacity, uint64_t seed,
                       struct yk_sim_shares_cost *ret_cost, struct yk_err *err) {
    struct yk_shares_opts so = {.tenants = count, .capacity_bytes = capacity, .seed = seed};
    struct tenant of[YK_SIM_TENANTS_MAX];
    struct yk_sim_shares_cost cost = {0};
    struct yk_shares *s = NULL;
    int rc = check(traces, count, capacity, err);
    if (rc < 0)
        return rc;
    uint64_t *hashes = calloc(longest(traces, count), sizeof(*hashes));
    rc = hashes != NULL ? yk_shares_new(&so, &s) : -YK_ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        of[i] = (struct tenant){.trace = &traces[i]};
        rc = yk_shares_join(s, i);
    }
    if (rc == 0) {
        cost_of_hearing(s, of, count, hashes, &cost);
        cost_of_giving(s, count, &cost);
        *ret_cost = cost;
    }
    yk_shares_free(s);
    free(hashes);
    return rc == 0 ? 0 : yk_err_set(err, rc, "no memory for shares of %u tenants", count);
}
