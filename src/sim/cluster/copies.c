/* SPDX-License-Identifier: Apache-2.0
 *
 * Who has which block: the tiers of all nodes, and the directory over them.
 *
 * A place is one block of capacity; the places of all tiers are one array, so a copy is a number. A table leads from
 * tier and block to the place, a list from a block to all its copies. A policy knows places of its own tier as ids.
 * Rejected: an array over all blocks for each tier, as the simulator of one cache has it, which is nodes times blocks.
 */
#include "sim/cluster/cluster_priv.h"

#include "sched/learned.h"

#include <string.h>

const char *const yk_sim_cluster_policy_names[] = {"lru", "s3fifo", "learned", NULL};

/* ---- the table ---- */

static uint64_t home_of(const struct copies *s, uint32_t cache, uint32_t block) {
    uint64_t z = ((uint64_t)cache << 32 | block) * UINT64_C(0x9e3779b97f4a7c15);
    return (z ^ z >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 20 & s->mask;
}

static uint64_t seek(const struct copies *s, uint32_t cache, uint32_t block) {
    uint64_t at = home_of(s, cache, block);
    for (uint32_t p; (p = s->table[at]) != 0; at = (at + 1) & s->mask)
        if (s->copy[p - 1].block == block && s->copy[p - 1].cache == cache)
            break;
    return at;
}

uint32_t copies_find(const struct copies *s, uint32_t cache, uint32_t block) {
    return s->cache[cache].count != 0 ? s->table[seek(s, cache, block)] - 1 : NONE;
}

/* What stands behind it moves up, so that no place in between is empty. */
static void unlist(struct copies *s, uint64_t at) {
    for (uint64_t next = at;;) {
        next = (next + 1) & s->mask;
        if (s->table[next] == 0)
            break;
        const struct copy *c = &s->copy[s->table[next] - 1];
        uint64_t home = home_of(s, c->cache, c->block);
        if (((next - home) & s->mask) < ((next - at) & s->mask))
            continue;
        s->table[at] = s->table[next];
        at = next;
    }
    s->table[at] = 0;
}

/* ---- copies ---- */

static uint32_t free_place(struct copies *s, struct cache *c) {
    if (c->free == NONE)
        return c->base + c->used++;
    uint32_t place = c->free;
    c->free = s->copy[place].next;
    return place;
}

static uint32_t take_place(struct copies *s, struct cache *c, uint32_t block) {
    uint32_t place = c->reserved;
    c->count++;
    if (place == NONE || c->reserved_for != block)
        return free_place(s, c);
    c->reserved = NONE;
    return place;
}

/* Chains come in tail first, so a block names a parent that is still to come. Its place is chosen now, which is why there
 * is one more than the capacity. */
static uint32_t reserve(struct copies *s, struct cache *c, uint32_t block) {
    if (c->reserved == NONE)
        c->reserved = free_place(s, c);
    c->reserved_for = block;
    return c->reserved;
}

static uint32_t add(struct copies *s, uint32_t cache, uint32_t block) {
    uint32_t place = take_place(s, &s->cache[cache], block), next = s->first[block];
    s->copy[place] = (struct copy){
        .block = block, .cache = cache, .next = next, .prev = NONE, .used_s = s->now_s, .came_s = s->now_s};
    if (next != NONE)
        s->copy[next].prev = place;
    s->first[block] = place;
    s->table[seek(s, cache, block)] = place + 1;
    return place;
}

static void drop(struct copies *s, uint32_t place) {
    struct copy *p = &s->copy[place];
    struct cache *c = &s->cache[p->cache];
    unlist(s, seek(s, p->cache, p->block));
    if (p->next != NONE)
        s->copy[p->next].prev = p->prev;
    *(p->prev != NONE ? &s->copy[p->prev].next : &s->first[p->block]) = p->next;
    p->next = c->free;
    c->free = place;
    c->count--;
}

/* Stands for a hash of the key, as in src/sim/sched.c. */
static uint64_t hash_of(const struct copies *s, uint32_t block) {
    uint64_t z = (s->trace->id[block] + 1) * UINT64_C(0xff51afd7ed558ccd);
    return z ^ (z >> 32);
}

static int evict(struct copies *s, uint32_t cache, uint32_t *ret_gone) {
    struct cache *c = &s->cache[cache];
    uint32_t id;
    if (yk_policy_victim_any(c->policy, &id) != 0)
        return -YK_EINTERNAL;
    *ret_gone = s->copy[c->base + id].block;
    (void)yk_policy_evict(c->policy, id, hash_of(s, *ret_gone));
    drop(s, c->base + id);
    return 0;
}

void copies_touch(struct copies *s, uint32_t place) {
    struct cache *c = &s->cache[s->copy[place].cache];
    s->copy[place].used_s = s->now_s;
    (void)yk_policy_access(c->policy, place - c->base);
}

void copies_yield(struct copies *s, uint32_t place) {
    struct cache *c = &s->cache[s->copy[place].cache];
    s->copy[place].used_s = 0;
    (void)yk_policy_yield(c->policy, place - c->base);
}

void copies_lose(struct copies *s, uint32_t cache) {
    struct cache *c = &s->cache[cache];
    c->reserved = NONE;
    c->free = NONE;
    for (uint32_t place = c->base; place < c->base + c->used; place++) {
        const struct copy *p = &s->copy[place];
        if (c->count > 0 && p->cache == cache && s->table[seek(s, cache, p->block)] == place + 1) {
            (void)yk_policy_remove(c->policy, place - c->base);
            drop(s, place);
        }
    }
    c->used = 0;
    c->free = NONE;
}

double copies_idle_s(struct copies *s, uint32_t cache) {
    struct cache *c = &s->cache[cache];
    double room = c->capacity - c->count, now_s = (double)s->now_s;
    uint32_t id;
    if (room > 0 || yk_policy_victim_any(c->policy, &id) != 0)
        return now_s + room;
    return now_s - (double)s->copy[c->base + id].used_s;
}

/* The id of its parent, there or next to come; or none. */
static uint32_t parent_id(struct copies *s, uint32_t cache, uint32_t block, uint32_t comes) {
    struct cache *c = &s->cache[cache];
    uint32_t parent = s->trace->parent[block];
    if (!c->knows_parents || parent == NONE)
        return YK_POLICY_NONE;
    uint32_t place = copies_find(s, cache, parent);
    if (place == NONE && parent == comes)
        place = reserve(s, c, parent);
    return place != NONE ? place - c->base : YK_POLICY_NONE;
}

int copies_use(struct copies *s, uint32_t cache, uint32_t block, uint32_t comes, uint32_t *ret_gone) {
    struct cache *c = &s->cache[cache];
    struct yk_policy_block info = {.key_hash = hash_of(s, block), .size_bytes = 1};
    uint32_t place = copies_find(s, cache, block);
    *ret_gone = NONE;
    if (place != NONE) {
        copies_touch(s, place);
        return 0;
    }
    int rc = c->count == c->capacity ? evict(s, cache, ret_gone) : 0;
    if (rc != 0)
        return rc;
    place = add(s, cache, block);
    info.parent_id = parent_id(s, cache, block, comes);
    return yk_policy_insert(c->policy, place - c->base, &info);
}

/* ---- requests, as policies are told of them ---- */

static int hash_chain(struct copies *s, const struct yk_sim_req *q) {
    if (q->n > s->hashes_max) {
        uint64_t *hashes = realloc(s->hashes, q->n * sizeof(*hashes));
        if (hashes == NULL)
            return -YK_ENOMEM;
        s->hashes = hashes;
        s->hashes_max = q->n;
    }
    for (uint32_t i = 0; i < q->n; i++)
        s->hashes[i] = hash_of(s, s->trace->blocks[q->first + i]);
    return 0;
}

/* At once, on this thread, so that a run repeats. */
static void train(struct copies *s, struct cache *c) {
    struct yk_learned_training *training = c->learns ? yk_learned_training_begin(c->policy) : NULL;
    if (training == NULL)
        return;
    yk_learned_training_run(training);
    yk_learned_training_end(c->policy);
    s->trainings++;
}

int copies_request(struct copies *s, uint32_t node, uint64_t number, double now) {
    const struct yk_sim_req *q = &s->trace->reqs[number];
    bool hashed = false;
    for (uint32_t t = 0; t < YK_SIM_TIERS; t++) {
        struct cache *c = &s->cache[node * YK_SIM_TIERS + t];
        if (!c->wants_requests)
            continue;
        if (!hashed && hash_chain(s, q) < 0)
            return -YK_ENOMEM;
        hashed = true;
        struct yk_policy_request r = {.now_ms = (uint64_t)(now * 1e3 + 0.5),
                                      .key_hashes = s->hashes,
                                      .n = q->n,
                                      .last_block_eighths = yk_trace_last_eighths(q->n, q->input_length, s->block_tokens),
                                      .output_length = q->output_length,
                                      .stop = q->stop};
        yk_policy_request(c->policy, &r);
        train(s, c);
    }
    return 0;
}

/* ---- making it ---- */

static int cache_init(struct cache *c, uint32_t base, uint32_t capacity, const struct yk_policy_ops *ops,
                      uint64_t seed, bool has_below) {
    struct yk_policy_opts opts = {.capacity_objects = capacity, .seed = seed, .has_below = has_below};
    *c = (struct cache){.base = base, .capacity = capacity, .free = NONE, .reserved = NONE};
    if (capacity == 0)
        return 0;
    int rc = yk_policy_space_new(capacity + 1, &c->space);
    if (rc == 0)
        rc = yk_policy_new(ops, c->space, &opts, &c->policy);
    c->wants_requests = (ops->caps & YK_POLICY_CAP_REQUESTS) != 0;
    c->knows_parents = (ops->caps & YK_POLICY_CAP_PARENTS) != 0;
    c->learns = (ops->caps & YK_POLICY_CAP_LEARNS) != 0;
    return rc;
}

static int make_arrays(struct copies *s, uint64_t places) {
    uint64_t size = 1024;
    while (size < places * 2)
        size *= 2;
    s->mask = size - 1;
    s->copy = calloc(places + 1, sizeof(*s->copy));
    s->table = calloc(size, sizeof(*s->table));
    s->first = malloc((s->trace->distinct + 1) * sizeof(*s->first));
    s->cache = calloc(s->caches, sizeof(*s->cache));
    if (s->copy == NULL || s->table == NULL || s->first == NULL || s->cache == NULL)
        return -YK_ENOMEM;
    memset(s->first, 0xff, (s->trace->distinct + 1) * sizeof(*s->first));
    return 0;
}

int copies_init(struct copies *s, const struct yk_sim_trace *trace, const struct yk_sim_cluster_opts *o,
                struct yk_err *err) {
    const struct yk_policy_ops *ops = yk_policy_find(o->policy);
    uint64_t places = 0, of_node = 0;
    for (int t = 0; t < YK_SIM_TIERS; t++)
        of_node += o->blocks[t] + 1ull;
    *s = (struct copies){.trace = trace, .caches = o->nodes * YK_SIM_TIERS, .block_tokens = o->block_tokens};
    if (ops == NULL)
        return yk_err_set(err, -YK_EINVAL, "found policy '%s', expected lru, s3fifo or learned", o->policy);
    if (of_node * o->nodes > YK_SIM_COPIES_MAX)
        return yk_err_set(err, -YK_EINVAL, "found %llu blocks of capacity in all, expected at most %u",
                          (unsigned long long)(of_node * o->nodes), YK_SIM_COPIES_MAX);
    int rc = make_arrays(s, of_node * o->nodes);
    for (uint32_t i = 0; rc == 0 && i < s->caches; i++) {
        uint32_t capacity = o->blocks[i % YK_SIM_TIERS];
        bool has_below = i % YK_SIM_TIERS == YK_SIM_DRAM && o->blocks[YK_SIM_SSD] > 0;
        rc = cache_init(&s->cache[i], (uint32_t)places, capacity, ops, o->seed + i / YK_SIM_TIERS, has_below);
        places += capacity + 1ull;
    }
    return rc == 0 ? 0 : yk_err_set(err, rc, "no memory for %llu blocks of capacity", (unsigned long long)places);
}

void copies_fini(struct copies *s) {
    for (uint32_t i = 0; s->cache != NULL && i < s->caches; i++) {
        yk_policy_free(s->cache[i].policy);
        yk_policy_space_free(s->cache[i].space);
    }
    free(s->copy);
    free(s->table);
    free(s->first);
    free(s->cache);
    free(s->hashes);
}
