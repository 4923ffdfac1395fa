/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies of src/sched as caches of the simulator. A block's number is its descriptor.
 */
#include "sim/cache_priv.h"

#include "sched/learned.h"
#include "sched/policy.h"

struct sched {
    struct yk_sim_cache base;
    const struct yk_sim_trace *trace;
    struct yk_policy_space *space;
    struct yk_policy *policy;
    struct yk_policy_opts opts;
    uint8_t *in; /* by block: enum in, or 0 */
    uint32_t *first; /* after a restart: blocks that are to come up, in order */
    uint64_t first_count, first_at;
    uint32_t *by_hash; /* learned with prefetch: block + 1, or 0; open addressing, a power of two */
    uint64_t by_hash_mask;
    uint64_t *hashes; /* learned: of the request, grown to the longest */
    uint32_t hashes_max;
    uint64_t bytes;
};

static struct sched *of(struct yk_sim_cache *c) {
    return (struct sched *)c;
}

static void sched_fini(struct yk_sim_cache *c) {
    yk_policy_free(of(c)->policy);
    yk_policy_space_free(of(c)->space);
    free(of(c)->in);
    free(of(c)->hashes);
    free(of(c)->by_hash);
    free(of(c)->first);
}

static int make_policy(struct sched *s) {
    yk_policy_free(s->policy);
    yk_policy_space_free(s->space);
    s->policy = NULL;
    s->space = NULL;
    int rc = yk_policy_space_new((uint32_t)s->trace->distinct, &s->space);
    return rc == 0 ? yk_policy_new(yk_policy_find(s->base.ops->name), s->space, &s->opts, &s->policy) : rc;
}

static int sched_init(struct yk_sim_cache *c, const struct yk_sim_trace *t, const struct yk_sim_opts *o) {
    struct sched *s = of(c);
    s->opts = (struct yk_policy_opts){.capacity_objects = o->capacity, .seed = o->seed, .saved_growth = c->saved_growth, .has_below = o->below != 0};
    if (c->lengths != NULL) /* as many as may be in */
        s->opts.capacity_objects = (uint32_t)(c->room_bytes / o->bytes_min < t->distinct ? c->room_bytes / o->bytes_min : t->distinct);
    s->trace = t;
    s->in = calloc(t->distinct + 1, 1);
    return s->in != NULL ? make_policy(s) : -YK_ENOMEM;
}

static bool sched_has(const struct yk_sim_cache *c, uint32_t block) {
    return ((const struct sched *)c)->in[block] != 0;
}

static uint64_t hash_of(const struct sched *s, uint32_t block) {
    return yk_sim_hash(s->trace->id[block]);
}

static int evict_one(struct sched *s) {
    uint32_t id;
    if (yk_policy_victim_any(s->policy, &id) != 0)
        return -YK_EINTERNAL;
    (void)yk_policy_evict(s->policy, id, hash_of(s, id));
    s->in[id] = 0;
    s->bytes -= yk_sim_length(&s->base, id);
    yk_sim_left(&s->base, id);
    return 0;
}

enum in { IN = 1, IN_AHEAD, IN_FOUND }; /* the latter two: came up ahead, after a restart, and not used since */

static int come_in(struct sched *s, uint32_t block, enum in why) {
    uint32_t length = yk_sim_length(&s->base, block);
    struct yk_policy_block info = {.key_hash = hash_of(s, block),
                                   .size_bytes = length,
                                   .parent_id = s->trace->parent[block],
                                   .is_ahead = why == IN_AHEAD,
                                   .found = why == IN_FOUND};
    int rc = 0;
    if (length > s->base.room_bytes)
        return 0; /* never fits */
    while (rc == 0 && s->bytes + length > s->base.room_bytes)
        rc = evict_one(s);
    if (rc == 0)
        rc = yk_policy_insert(s->policy, block, &info);
    if (rc != 0)
        return rc;
    s->in[block] = (uint8_t)why;
    s->bytes += length;
    return 0;
}

static int sched_use(struct yk_sim_cache *c, uint32_t block) {
    struct sched *s = of(c);
    if (!s->in[block])
        return come_in(s, block, IN);
    s->base.moved_used += s->in[block] == IN_AHEAD;
    s->in[block] = IN;
    return yk_policy_access(s->policy, block);
}

/* ---- what comes up ahead: the policy names hashes ------------------------------------------------- */

#define AHEAD_MAX    65536u /* blocks at one moment */
#define AHEAD_CHAINS 8      /* likewise */

static uint32_t *bucket_of(const struct sched *s, uint64_t hash) {
    uint64_t i = hash & s->by_hash_mask;
    while (s->by_hash[i] != 0 && ((hash_of(s, s->by_hash[i] - 1) ^ hash) & YK_POLICY_HASH_BITS) != 0)
        i = (i + 1) & s->by_hash_mask;
    return &s->by_hash[i];
}

static int index_hashes(struct sched *s) {
    s->by_hash_mask = 1023;
    while (s->by_hash_mask < 2 * s->trace->distinct)
        s->by_hash_mask = s->by_hash_mask * 2 + 1;
    s->by_hash = calloc(s->by_hash_mask + 1, sizeof(*s->by_hash));
    if (s->by_hash == NULL)
        return -YK_ENOMEM;
    for (uint32_t block = 0; block < s->trace->distinct; block++)
        *bucket_of(s, hash_of(s, block)) = block + 1;
    return 0;
}

/* As a node does: ancestors first, and not what the policy has let go of again for what it named after it. */
static int bring_up(struct sched *s, const uint64_t *hashes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t block = *bucket_of(s, hashes[i]) - 1;
        if (block == YK_SIM_NONE || (!s->in[block] && !yk_sim_below_has(s->base.below, block))) {
            yk_learned_not_coming(s->policy, hashes[i]);
            continue;
        }
        if (s->in[block] || !yk_learned_is_due(s->policy, hashes[i]))
            continue;
        int rc = come_in(s, block, IN_AHEAD);
        if (rc != 0)
            return rc;
        s->base.moved++;
    }
    return 0;
}

static int learned_prefetch(struct yk_sim_cache *c, uint64_t at_ms) {
    struct sched *s = of(c);
    uint64_t *hashes = malloc(AHEAD_MAX * sizeof(*hashes));
    int rc = hashes == NULL ? -YK_ENOMEM : s->by_hash == NULL ? index_hashes(s) : 0;
    uint32_t all = 0, n = 1;
    for (int i = 0; rc == 0 && n > 0 && i < AHEAD_CHAINS; i++) {
        n = yk_learned_prefetch(s->policy, at_ms, hashes + all, AHEAD_MAX - all);
        all += n;
    }
    if (rc == 0)
        rc = bring_up(s, hashes, all);
    free(hashes);
    return rc;
}

/* ---- a restart ---------------------------------------------------------------------------------------- */

static bool learns(const struct sched *s) {
    return (s->policy->ops->caps & YK_POLICY_CAP_LEARNS) != 0;
}

/* What an orderly stop does: all that is here is below then, what would go last as the youngest. */
static int go_below(struct sched *s) {
    uint32_t id;
    while (s->bytes > 0) {
        if (yk_policy_victim_any(s->policy, &id) != 0)
            return -YK_EINTERNAL;
        (void)yk_policy_evict(s->policy, id, hash_of(s, id));
        s->in[id] = 0;
        s->bytes -= yk_sim_length(&s->base, id);
        yk_sim_left(&s->base, id);
        yk_sim_below_use(s->base.below, id);
    }
    return 0;
}

/* All that a node's policy would load first, then what is below in the order of its use: some come twice. */
static int plan_preload(struct sched *s) {
    const struct yk_sim_lists *below = &s->base.below->lists;
    struct yk_learned_first *first = NULL;
    uint32_t n = 0;
    int rc = learns(s) ? yk_learned_first(s->policy, &first, &n) : 0;
    s->first = rc == 0 ? malloc((n + s->trace->distinct + 1) * sizeof(*s->first)) : NULL;
    if (s->first == NULL)
        rc = -YK_ENOMEM;
    if (rc == 0 && n > 0 && s->by_hash == NULL)
        rc = index_hashes(s);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        uint32_t block = *bucket_of(s, first[i].key_hash) - 1;
        if (block != YK_SIM_NONE)
            s->first[s->first_count++] = block;
    }
    for (uint32_t block = below->youngest[0]; rc == 0 && block != YK_SIM_NONE; block = below->older[block])
        s->first[s->first_count++] = block;
    free(first);
    return rc;
}

static int sched_restart(struct yk_sim_cache *c, uint64_t at_ms) {
    struct sched *s = of(c);
    void *known = NULL;
    size_t len = 0;
    int rc = learns(s) ? yk_learned_save(s->policy, &known, &len) : 0;
    if (rc == 0)
        rc = go_below(s);
    if (rc == 0)
        rc = make_policy(s);
    if (rc == 0 && known != NULL)
        rc = yk_learned_load(s->policy, known, len, at_ms, 0, NULL);
    if (rc == 0 && known != NULL)
        yk_learned_found(s->policy);
    free(known);
    return rc == 0 ? plan_preload(s) : rc;
}

/* As in a node: a policy that learns knows when each was used; for others those that were used since come last. */
static void order_preloaded(struct sched *s) {
    if (learns(s)) {
        yk_learned_found(s->policy);
        return;
    }
    for (int used = 0; used < 2; used++)
        for (uint64_t i = s->first_at; i-- > 0;)
            if (s->in[s->first[i]] == (used ? IN : IN_FOUND))
                (void)yk_policy_access(s->policy, s->first[i]);
}

static int sched_preload(struct yk_sim_cache *c, uint64_t most) {
    struct sched *s = of(c);
    if (s->first == NULL)
        return 0;
    for (; most > 0 && s->bytes < s->base.room_bytes && s->first_at < s->first_count; s->first_at++) {
        uint32_t block = s->first[s->first_at];
        if (s->in[block] || !yk_sim_below_has(c->below, block))
            continue;
        int rc = come_in(s, block, IN_FOUND);
        if (rc != 0)
            return rc;
        c->preloaded++;
        most--;
    }
    if (s->bytes < s->base.room_bytes && s->first_at < s->first_count)
        return 0;
    order_preloaded(s);
    free(s->first);
    s->first = NULL;
    return 0;
}

/* At once, on this thread, so that a run repeats. */
static void train(struct sched *s) {
    struct yk_learned_training *training = yk_learned_training_begin(s->policy);
    if (training == NULL)
        return;
    uint64_t began_ns = yk_sim_cpu_ns();
    yk_learned_training_run(training);
    s->base.training_ns += yk_sim_cpu_ns() - began_ns;
    s->base.trainings++;
    yk_learned_training_end(s->policy);
}

static int learned_request(struct yk_sim_cache *c, uint64_t number) {
    struct sched *s = of(c);
    const struct yk_sim_req *q = &s->trace->reqs[number];
    if (q->n > s->hashes_max) {
        uint64_t *hashes = realloc(s->hashes, q->n * sizeof(*hashes));
        if (hashes == NULL)
            return -YK_ENOMEM;
        s->hashes = hashes;
        s->hashes_max = q->n;
    }
    for (uint32_t i = 0; i < q->n; i++)
        s->hashes[i] = hash_of(s, s->trace->blocks[q->first + i]);
    struct yk_policy_request r = {.now_ms = q->at_ms,
                                   .key_hashes = s->hashes,
                                   .n = q->n,
                                   .last_block_eighths = yk_trace_last_eighths(q->n, q->input_length, YK_SIM_BLOCK_TOKENS),
                                   .output_length = q->output_length,
                                   .stop = q->stop};
    yk_policy_request(s->policy, &r);
    train(s);
    return 0;
}

const struct yk_sim_cache_ops yk_sim_learned = {.name = "learned",
                                                .takes_lengths = true,
                                                .says_left = true,
                                                .size = sizeof(struct sched),
                                                .init = sched_init,
                                                .fini = sched_fini,
                                                .request = learned_request,
                                                .prefetch = learned_prefetch,
                                                .restart = sched_restart,
                                                .preload = sched_preload,
                                                .has = sched_has,
                                                .use = sched_use};
const struct yk_sim_cache_ops yk_sim_lru = {.name = "lru",
                                            .takes_lengths = true,
                                            .says_left = true,
                                            .size = sizeof(struct sched),
                                            .init = sched_init,
                                            .fini = sched_fini,
                                            .restart = sched_restart,
                                            .preload = sched_preload,
                                            .has = sched_has,
                                            .use = sched_use};
const struct yk_sim_cache_ops yk_sim_s3fifo = {.name = "s3fifo",
                                               .takes_lengths = true,
                                               .says_left = true,
                                               .size = sizeof(struct sched),
                                               .init = sched_init,
                                               .fini = sched_fini,
                                               .restart = sched_restart,
                                               .preload = sched_preload,
                                               .has = sched_has,
                                               .use = sched_use};
