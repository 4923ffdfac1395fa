/* SPDX-License-Identifier: Apache-2.0
 *
 * What a trace reaches with DRAM alone (src/replay/replay.h): the eviction policy run over it in this
 * process, without a node, bytes or clients.
 *
 * A second run through a node would cost as long as the first for the same number: the policy's code is
 * the node's, and with one client a node of one tier hits exactly what this counts (which the tests of
 * the replay show). Ids of the trace are numbered in their order, and their numbers are the policy's ids.
 *
 * Threads: one.
 */
#include "replay/replay.h"

#include "sched/learned.h"

#include <stdlib.h>
#include <string.h>

struct alone {
    const struct yk_replay_opts *o;
    struct yk_policy *policy;
    uint64_t *ids; /* distinct, ascending */
    uint8_t *in;   /* by number */
    uint64_t count, blocks;
};

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t number_of(const struct alone *a, uint64_t id) {
    const uint64_t *at = bsearch(&id, a->ids, a->count, sizeof(id), by_value);
    return (uint32_t)(at - a->ids);
}

static int number_ids(struct alone *a, const struct yk_replay_trace *t) {
    a->ids = malloc((t->id_count + 1u) * sizeof(*a->ids));
    if (a->ids == NULL)
        return -YK_ENOMEM;
    memcpy(a->ids, t->ids, t->id_count * sizeof(*a->ids));
    qsort(a->ids, t->id_count, sizeof(*a->ids), by_value);
    for (uint64_t i = 0; i < t->id_count; i++)
        if (a->count == 0 || a->ids[i] != a->ids[a->count - 1u])
            a->ids[a->count++] = a->ids[i];
    a->in = calloc(a->count + 1u, 1);
    return a->in == NULL || a->count > YK_POLICY_IDS_MAX ? -YK_ENOMEM : 0;
}

static enum yk_policy_answer take_any(void *arg, uint32_t id) {
    (void)arg;
    (void)id;
    return YK_POLICY_TAKE;
}

/* Stands for a hash of the key: ids that follow each other must not look alike. */
static uint64_t hash_of(uint64_t id) {
    uint64_t z = (id + 1u) * UINT64_C(0xff51afd7ed558ccd);
    return z ^ (z >> 32);
}

static int evict_one(struct alone *a) {
    uint32_t id;
    int rc;
    do
        rc = yk_policy_victim(a->policy, take_any, NULL, &id);
    while (rc == -YK_EAGAIN);
    if (rc != 0)
        return -YK_EINTERNAL;
    yk_policy_evict(a->policy, id, hash_of(a->ids[id]));
    a->in[id] = 0;
    a->blocks--;
    return 0;
}

static int use(struct alone *a, uint32_t number, uint32_t parent, uint32_t depth_tokens) {
    struct yk_policy_block block = {.key_hash = hash_of(a->ids[number]),
                                    .size_bytes = a->o->block_bytes,
                                    .parent_id = parent,
                                    .depth_tokens = depth_tokens};
    int rc = 0;
    if (a->in[number]) {
        yk_policy_access(a->policy, number);
        return 0;
    }
    while (rc == 0 && a->blocks >= a->o->capacity_blocks)
        rc = evict_one(a);
    if (rc == 0)
        rc = yk_policy_insert(a->policy, number, &block);
    a->in[number] = rc == 0;
    a->blocks += rc == 0;
    return rc;
}

/* A policy that learns does so at once here. */
static void learn(struct alone *a) {
    struct yk_learned_training *t =
        a->policy->ops->caps & YK_POLICY_CAP_LEARNS ? yk_learned_training_begin(a->policy) : NULL;
    if (t == NULL)
        return;
    yk_learned_training_run(t);
    yk_learned_training_end(a->policy);
}

static int announce(struct alone *a, const struct yk_replay_req *req, const uint64_t *ids) {
    uint64_t *hashes = malloc((req->n + 1u) * sizeof(*hashes));
    if (hashes == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < req->n; i++)
        hashes[i] = hash_of(ids[i]);
    yk_policy_request(a->policy, &(struct yk_policy_request){.now_ms = req->at_ms + 1,
                                                             .key_hashes = hashes,
                                                             .n = req->n,
                                                             .last_block_eighths = yk_trace_last_eighths(
                                                                 req->n, req->input_length, a->o->block_tokens),
                                                             .output_length = req->output_length,
                                                             .stop = req->stop});
    free(hashes);
    learn(a);
    return 0;
}

static int request(struct alone *a, const struct yk_replay_req *req, const uint64_t *ids,
                   struct yk_replay_alone *n) {
    uint32_t hits = 0;
    while (hits < req->n && a->in[number_of(a, ids[hits])])
        hits++;
    int rc = a->policy->ops->caps & YK_POLICY_CAP_REQUESTS ? announce(a, req, ids) : 0;
    for (uint32_t k = 0; k < req->n && rc == 0; k++) {
        uint32_t i = a->o->order == YK_REPLAY_TAIL_FIRST ? req->n - 1u - k : k;
        rc = use(a, number_of(a, ids[i]), i > 0 ? number_of(a, ids[i - 1u]) : YK_POLICY_NONE,
                 (i + 1u) * a->o->block_tokens);
    }
    uint64_t saved = (uint64_t)hits * a->o->block_tokens;
    n->blocks += req->n;
    n->hits += hits;
    n->tokens += req->input_length;
    n->tokens_saved += saved < req->input_length ? saved : req->input_length;
    return rc;
}

void yk_replay_alone(const struct yk_replay_opts *opts, const struct yk_replay_trace *trace,
                     uint64_t requests, struct yk_replay_alone *ret) {
    const struct yk_policy_ops *ops = yk_policy_find(opts->policy != NULL ? opts->policy : "lru");
    struct yk_policy_opts po = {.capacity_objects = (uint32_t)opts->capacity_blocks, .seed = 1};
    struct yk_replay_alone n = {.known = true};
    struct yk_policy_space *space = NULL;
    struct alone a = {.o = opts};
    memset(ret, 0, sizeof(*ret));
    int rc = ops == NULL || opts->capacity_blocks == 0 || trace->id_count == 0
                 ? -YK_EINVAL
                 : number_ids(&a, trace);
    if (rc == 0)
        rc = yk_policy_space_new((uint32_t)a.count, &space);
    if (rc == 0)
        rc = yk_policy_new(ops, space, &po, &a.policy);
    for (uint64_t i = 0; i < requests && i < trace->req_count && rc == 0; i++)
        rc = request(&a, &trace->reqs[i], trace->ids + trace->reqs[i].first, &n);
    if (rc == 0)
        *ret = n;
    yk_policy_free(a.policy);
    yk_policy_space_free(space);
    free(a.ids);
    free(a.in);
}
