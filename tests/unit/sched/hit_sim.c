/* SPDX-License-Identifier: Apache-2.0
 *
 * The hit-count simulator: a table from trace ids to descriptors, and the policy. It keeps its own
 * account of who is whose child, so that it can tell whether a chain policy keeps its promise.
 */
#include "hit_sim.h"

#include "trace/gen.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_IDS_MAX (1u << 17)

struct block {
    uint64_t trace_id;
    uint32_t parent;
    uint32_t children; /* present ones */
    bool is_in;
};

struct hit_sim {
    struct yk_policy_space *space;
    struct yk_policy *policy;
    uint32_t capacity, in, max_ids;
    enum hit_sim_order order;
    struct block *blocks; /* by descriptor */
    uint32_t *free_ids, free_count;
    uint32_t *descriptor; /* by trace id: descriptor + 1, or 0 */
    uint64_t descriptors;
    uint64_t hits, total, orphaned;
};

struct hit_sim *hit_sim_new(const struct yk_policy_ops *ops, uint32_t capacity_blocks,
                            enum hit_sim_order order) {
    struct hit_sim *s = calloc(1, sizeof(*s));
    struct yk_policy_opts opts = {.capacity_objects = capacity_blocks, .seed = 7};
    s->capacity = capacity_blocks;
    s->order = order;
    s->max_ids = capacity_blocks + REQUEST_IDS_MAX;
    s->blocks = calloc(s->max_ids, sizeof(*s->blocks));
    s->free_ids = malloc(s->max_ids * sizeof(*s->free_ids));
    for (uint32_t i = 0; i < s->max_ids; i++)
        s->free_ids[s->free_count++] = s->max_ids - 1 - i;
    int rc = yk_policy_space_new(s->max_ids, &s->space);
    assert(rc == 0);
    rc = yk_policy_new(ops, s->space, &opts, &s->policy);
    assert(rc == 0);
    (void)rc;
    return s;
}

static void grow_table(struct hit_sim *s, uint64_t trace_id) {
    if (trace_id < s->descriptors)
        return;
    uint64_t want = s->descriptors > 0 ? s->descriptors : 1024;
    while (want <= trace_id)
        want *= 2;
    s->descriptor = realloc(s->descriptor, want * sizeof(*s->descriptor));
    assert(s->descriptor != NULL);
    memset(s->descriptor + s->descriptors, 0, (want - s->descriptors) * sizeof(*s->descriptor));
    s->descriptors = want;
}

static uint32_t find_or_reserve(struct hit_sim *s, uint64_t trace_id) {
    if (s->descriptor[trace_id] == 0) {
        assert(s->free_count > 0);
        uint32_t id = s->free_ids[--s->free_count];
        s->descriptor[trace_id] = id + 1;
        s->blocks[id] = (struct block){.trace_id = trace_id, .parent = YK_POLICY_NONE};
    }
    return s->descriptor[trace_id] - 1;
}

static enum yk_policy_answer take_any(void *arg, uint32_t id) {
    (void)arg;
    (void)id;
    return YK_POLICY_TAKE;
}

/* Stands for a hash of the key: consecutive ids must not look alike. */
static uint64_t hash_of(uint64_t trace_id) {
    uint64_t z = (trace_id + 1) * UINT64_C(0xff51afd7ed558ccd);
    return z ^ (z >> 32);
}

static void evict_one(struct hit_sim *s) {
    uint32_t id;
    int rc;
    do
        rc = yk_policy_victim(s->policy, take_any, NULL, &id);
    while (rc == -YK_EAGAIN);
    assert(rc == 0);
    struct block *b = &s->blocks[id];
    assert(b->is_in);
    s->orphaned += b->children > 0;
    if (b->parent != YK_POLICY_NONE && s->blocks[b->parent].children > 0)
        s->blocks[b->parent].children--;
    yk_policy_evict(s->policy, id, hash_of(b->trace_id));
    b->is_in = false;
    s->descriptor[b->trace_id] = 0;
    s->free_ids[s->free_count++] = id;
    s->in--;
}

static void use(struct hit_sim *s, uint64_t trace_id, uint32_t parent) {
    uint32_t id = find_or_reserve(s, trace_id);
    struct block *b = &s->blocks[id];
    if (b->is_in) {
        yk_policy_access(s->policy, id);
        return;
    }
    while (s->in >= s->capacity)
        evict_one(s);
    struct yk_policy_block info = {
        .key_hash = hash_of(trace_id), .size_bytes = 1, .parent_id = parent};
    int rc = yk_policy_insert(s->policy, id, &info);
    assert(rc == 0);
    (void)rc;
    b->is_in = true;
    b->parent = parent;
    if (parent != YK_POLICY_NONE)
        s->blocks[parent].children++;
    s->in++;
}

uint32_t hit_sim_request(struct hit_sim *s, const uint64_t *ids, uint32_t n) {
    uint32_t hits = 0;
    assert(n <= REQUEST_IDS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        grow_table(s, ids[i]);
        uint32_t d = s->descriptor[ids[i]];
        if (hits == i && d != 0 && s->blocks[d - 1].is_in)
            hits++;
    }
    for (uint32_t i = 0; i < n; i++)
        find_or_reserve(s, ids[i]);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = s->order == TAIL_FIRST ? n - 1 - k : k;
        use(s, ids[i], i > 0 ? find_or_reserve(s, ids[i - 1]) : YK_POLICY_NONE);
    }
    s->hits += hits;
    s->total += n;
    return hits;
}

void hit_sim_generate(int kind, uint64_t seed, uint64_t requests, generated_fn fn, void *arg) {
    struct yk_trace_gen_opts opts;
    yk_trace_gen_opts_init(&opts);
    opts.seed = seed;
    opts.requests = requests;
    opts.block_tokens = 2048;
    if (kind >= 0) {
        memset(opts.mix, 0, sizeof(opts.mix));
        opts.mix[kind] = 1;
    }
    struct yk_trace_gen *gen;
    struct yk_trace_req req;
    int rc = yk_trace_gen_new(&opts, &gen, NULL);
    assert(rc == 0);
    while ((rc = yk_trace_gen_next(gen, &req, NULL)) == 1)
        fn(arg, req.hash_ids, req.n);
    assert(rc == 0);
    yk_trace_gen_free(gen);
}

void hit_sim_feed(void *sim, const uint64_t *ids, uint32_t n) {
    hit_sim_request(sim, ids, n);
}

uint64_t hit_sim_hits(const struct hit_sim *s) {
    return s->hits;
}
uint64_t hit_sim_total(const struct hit_sim *s) {
    return s->total;
}
uint64_t hit_sim_orphaned(const struct hit_sim *s) {
    return s->orphaned;
}

void hit_sim_free(struct hit_sim *s) {
    yk_policy_free(s->policy);
    yk_policy_space_free(s->space);
    free(s->blocks);
    free(s->free_ids);
    free(s->descriptor);
    free(s);
}
