/* SPDX-License-Identifier: Apache-2.0
 *
 * Caches that keep the blocks of highest rank, in one heap.
 *
 *   lfu   uses, of all times; of equals the least recently used goes
 *   gdsf  age + uses of all times by length, where age is the rank of the last that went (Cherkasova 1998; all blocks
 *         cost the same here)
 *   opt   the soonest next use (Belady), the newcomer included, so it may pass by. Of blocks that the same
 *         request uses next the one farthest from the chain's head goes, so ancestors outlive descendants and
 *         no better order exists. It looks ahead; nothing else here does.
 */
#include "sim/cache_priv.h"

#include "base/heap.h"

struct rank {
    double major, minor; /* the lowest goes first */
};

struct ranked {
    struct yk_sim_cache base;
    uint32_t capacity, count;
    uint64_t bytes;
    double mean_length;
    uint32_t *heap;  /* blocks; capacity + 1, or all if their lengths differ */
    uint32_t *place; /* by block: in the heap + 1, or 0 */
    struct rank *rank;
    uint32_t *uses;  /* by block */
    uint64_t *next;  /* opt: by access: the next request with the block */
    uint64_t clock;
    double age;
    const struct yk_sim_trace *trace;
    uint64_t left; /* opt: accesses of the request that are not yet used */
};

static struct ranked *of(struct yk_sim_cache *c) {
    return (struct ranked *)c;
}

static bool is_lower(const void *ranked, uint32_t a, uint32_t b) {
    const struct rank *rank = ((const struct ranked *)ranked)->rank;
    return rank[a].major != rank[b].major ? rank[a].major < rank[b].major : rank[a].minor < rank[b].minor;
}

static void placed(void *ranked, uint32_t block, uint32_t at) {
    ((struct ranked *)ranked)->place[block] = at + 1;
}

static void sift(struct ranked *r, uint32_t at, uint32_t block) {
    yk_heap_sift(r->heap, r->count, at, block, is_lower, placed, r);
}

static struct rank pop(struct ranked *r) {
    uint32_t block = r->heap[0], last = r->heap[--r->count];
    r->place[block] = 0;
    r->bytes -= yk_sim_length(&r->base, block);
    yk_sim_left(&r->base, block);
    if (r->count > 0)
        sift(r, 0, last);
    return r->rank[block];
}

static void rerank(struct ranked *r, uint32_t block, struct rank rank) {
    r->rank[block] = rank;
    if (r->place[block] == 0) {
        r->place[block] = ++r->count;
        r->bytes += yk_sim_length(&r->base, block);
    }
    sift(r, r->place[block] - 1, block);
}

static void ranked_fini(struct yk_sim_cache *c) {
    free(of(c)->heap);
    free(of(c)->place);
    free(of(c)->rank);
    free(of(c)->uses);
    free(of(c)->next);
}

static int ranked_init(struct yk_sim_cache *c, const struct yk_sim_trace *t, const struct yk_sim_opts *o) {
    struct ranked *r = of(c);
    r->capacity = o->capacity;
    r->trace = t;
    uint64_t places = c->lengths != NULL ? t->distinct : o->capacity;
    r->mean_length = (double)c->room_bytes / o->capacity;
    r->heap = malloc((places + 1) * sizeof(*r->heap));
    r->place = calloc(t->distinct + 1, sizeof(*r->place));
    r->rank = malloc((t->distinct + 1) * sizeof(*r->rank));
    r->uses = calloc(t->distinct + 1, sizeof(*r->uses));
    return r->heap != NULL && r->place != NULL && r->rank != NULL && r->uses != NULL ? 0 : -YK_ENOMEM;
}

static bool ranked_has(const struct yk_sim_cache *c, uint32_t block) {
    return ((const struct ranked *)c)->place[block] != 0;
}

/* Is one more to go before the block may come in? */
static bool lacks_room(const struct ranked *r, uint32_t block) {
    return r->place[block] == 0 && r->count > 0 && r->bytes + yk_sim_length(&r->base, block) > r->base.room_bytes;
}

static int lfu_use(struct yk_sim_cache *c, uint32_t block) {
    struct ranked *r = of(c);
    if (yk_sim_length(c, block) > c->room_bytes)
        return 0; /* never fits */
    while (lacks_room(r, block))
        (void)pop(r);
    rerank(r, block, (struct rank){(double)++r->uses[block], (double)++r->clock});
    return 0;
}

static int gdsf_use(struct yk_sim_cache *c, uint32_t block) {
    struct ranked *r = of(c);
    if (yk_sim_length(c, block) > c->room_bytes)
        return 0; /* never fits */
    while (lacks_room(r, block))
        r->age = pop(r).major;
    double by_length = r->mean_length / yk_sim_length(c, block);
    rerank(r, block, (struct rank){r->age + (double)++r->uses[block] * by_length, (double)++r->clock});
    return 0;
}

/* next[a] of access a: the request of the block's next access, or one past the last. */
static int opt_init(struct yk_sim_cache *c, const struct yk_sim_trace *t, const struct yk_sim_opts *o) {
    struct ranked *r = of(c);
    uint64_t *soonest = malloc((t->distinct + 1) * sizeof(*soonest));
    r->next = malloc((t->block_count + 1) * sizeof(*r->next));
    if (ranked_init(c, t, o) < 0 || soonest == NULL || r->next == NULL) {
        free(soonest);
        return -YK_ENOMEM;
    }
    for (uint64_t b = 0; b < t->distinct; b++)
        soonest[b] = t->req_count;
    for (uint64_t i = t->req_count; i-- > 0;) {
        const struct yk_sim_req *q = &t->reqs[i];
        for (uint64_t a = q->first; a < q->first + q->n; a++)
            r->next[a] = soonest[t->blocks[a]];
        for (uint64_t a = q->first; a < q->first + q->n; a++)
            soonest[t->blocks[a]] = i;
    }
    free(soonest);
    return 0;
}

static int opt_request(struct yk_sim_cache *c, uint64_t number) {
    const struct yk_sim_req *q = &of(c)->trace->reqs[number];
    of(c)->clock = q->first;
    of(c)->left = q->n;
    return 0;
}

/* Blocks are used tail first, so the position in the chain is what is left. */
static int opt_use(struct yk_sim_cache *c, uint32_t block) {
    struct ranked *r = of(c);
    double depth = (double)--r->left;
    rerank(r, block, (struct rank){-(double)r->next[r->clock + r->left], -depth});
    if (r->count > r->capacity)
        (void)pop(r);
    return 0;
}

const struct yk_sim_cache_ops yk_sim_lfu = {.name = "lfu",
                                            .takes_lengths = true,
                                            .says_left = true,
                                            .size = sizeof(struct ranked),
                                            .init = ranked_init,
                                            .fini = ranked_fini,
                                            .has = ranked_has,
                                            .use = lfu_use};
const struct yk_sim_cache_ops yk_sim_gdsf = {.name = "gdsf",
                                             .takes_lengths = true,
                                             .says_left = true,
                                            .size = sizeof(struct ranked),
                                             .init = ranked_init,
                                             .fini = ranked_fini,
                                             .has = ranked_has,
                                             .use = gdsf_use};
const struct yk_sim_cache_ops yk_sim_opt = {.name = "opt",
                                            .says_left = true,
                                            .size = sizeof(struct ranked),
                                            .init = opt_init,
                                            .fini = ranked_fini,
                                            .request = opt_request,
                                            .has = ranked_has,
                                            .use = opt_use};
