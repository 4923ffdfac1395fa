/* SPDX-License-Identifier: Apache-2.0
 *
 * What clients of this node want and the node has not (node/pool.h): FIND is one question (ask.c); BRING
 * asks for what is neither on its way nor known, and waits for the pulls (pull.c).
 *
 * A wish ends once, with its pulls or at its deadline; pulls go on for others, and for the next request.
 * Questions end by the deadline that they were given.
 *
 * Threads: new: the node's owner thread; the rest: the directory's loop, but for `tell` (the owner thread).
 */
#include "dir/dir_priv.h"

static void begin(struct dir_job *job);

struct dir_wish *dir_wish_new(struct yk_dir *d, const struct yk_pool_want *want) {
    size_t keys = want->count * sizeof(struct yk_pool_key), bytes = keys + want->ns_len + want->first.key_len;
    for (uint32_t i = 0; i < want->count; i++)
        bytes += want->keys[i].key_len;
    struct dir_wish *w = malloc(sizeof(*w) + bytes);
    if (w == NULL)
        return NULL;
    memset(w, 0, sizeof(*w));
    w->want = *want;
    struct yk_pool_key *to = (struct yk_pool_key *)(void *)w->bytes;
    unsigned char *at = w->bytes + keys;
    w->want.keys = to;
    for (uint32_t i = 0; i < want->count; i++) {
        to[i] = (struct yk_pool_key){at, want->keys[i].key_len};
        memcpy(at, want->keys[i].key, to[i].key_len);
        at += to[i].key_len;
    }
    w->want.ns = (const char *)at;
    memcpy(at, want->ns, want->ns_len);
    at += want->ns_len;
    w->want.first.key = at;
    if (want->first.key_len > 0)
        memcpy(at, want->first.key, want->first.key_len);
    w->job = (struct dir_job){.dir = d, .back = begin};
    dir_list_init(&w->all);
    dir_list_init(&w->waits);
    return w;
}

/* ---- end -------------------------------------------------------------------------------------------- */

static void tell(struct dir_job *job, struct yk_store *store) {
    const struct dir_wish *w = DIR_ITEM(job, struct dir_wish, job);
    yk_node_pool_found(job->dir->node, w->want.token, w->found, w->found != NULL ? w->want.count : 0);
}

static void told(struct dir_job *job) {
    struct dir_wish *w = DIR_ITEM(job, struct dir_wish, job);
    __atomic_fetch_sub(&job->dir->wish_count, 1, __ATOMIC_RELAXED);
    free(w->found);
    free(w);
}

static void end(struct dir_wish *w) {
    if (w->ended)
        return;
    w->ended = 1;
    while (!dir_list_empty(&w->waits)) {
        struct dir_wait *wait = DIR_ITEM(w->waits.next, struct dir_wait, by_wish);
        dir_list_remove(&wait->by_wish);
        dir_list_remove(&wait->by_pull);
        free(wait);
    }
    dir_list_remove(&w->all);
    w->job.back = told;
    w->job.there = tell;
    if (w->want.token != 0)
        dir_to_node(w->job.dir, &w->job);
    else
        dir_to_loop(w->job.dir, &w->job);
}

static void end_if_done(struct dir_wish *w) {
    if (w->asking == 0 && dir_list_empty(&w->waits))
        end(w);
}

void dir_wish_pulled(struct dir_wait *wait) {
    struct dir_wish *w = wait->wish;
    free(wait);
    end_if_done(w);
}

uint32_t dir_wishes_expire(struct yk_dir *d, uint64_t now_ns) {
    uint32_t left = 0;
    for (struct dir_link *l = d->wishes.next, *next; l != &d->wishes; l = next) {
        struct dir_wish *w = DIR_ITEM(l, struct dir_wish, all);
        next = l->next;
        if (w->asking == 0 && w->want.deadline_ns <= now_ns)
            end(w);
        else
            left++;
    }
    return left;
}

/* ---- FIND ------------------------------------------------------------------------------------------- */

static struct dir_ask *ask_of(struct dir_wish *w, uint32_t count) {
    struct dir_ask *a = dir_ask_new(w->job.dir, count);
    if (a == NULL)
        return NULL;
    a->arg = w;
    a->chain = w->want.chain != 0;
    a->epoch = w->want.epoch;
    a->deadline_ns = w->want.deadline_ns;
    a->ns_len = w->want.ns_len;
    memcpy(a->ns, w->want.ns, a->ns_len);
    return a;
}

/* The root of the chain, as far as it is known: the group of its first key, which this node may have. */
static uint64_t first_group(const struct dir_wish *w) {
    const struct yk_pool_want *want = &w->want;
    struct yk_dir_key key = {want->ns, want->ns_len, want->first.key, want->first.key_len};
    if (!want->chain || key.key_len == 0)
        return 0;
    uint64_t group = yk_dir_core_group(w->job.dir->core, &key, want->epoch);
    return group != 0 ? group : yk_dir_hash(key.ns, key.ns_len, key.key, key.key_len);
}

static void found(struct dir_ask *a) {
    struct dir_wish *w = a->arg;
    w->found = calloc(a->count, sizeof(*w->found));
    for (uint32_t i = 0; w->found != NULL && i < a->count; i++) {
        const struct yk_dir_found *f = &a->key[i].found;
        w->found[i] = (struct yk_pool_found){.status = f->status};
        if (f->status != 0)
            continue;
        w->found[i].len = f->len;
        w->found[i].sum = f->sum;
        for (uint32_t c = 0; c < f->count; c++)
            w->found[i].tiers |= (uint8_t)YK_DIR_TIERS(f->copy[c].tiers);
    }
    dir_ask_free(a);
    w->asking = 0;
    end(w);
}

static void begin_find(struct dir_wish *w) {
    struct dir_ask *a = ask_of(w, w->want.count);
    if (a == NULL) {
        end(w);
        return;
    }
    uint64_t group = first_group(w);
    for (uint32_t i = 0; i < a->count; i++) {
        a->key[i].key = w->want.keys[i].key;
        a->key[i].key_len = w->want.keys[i].key_len;
        a->key[i].group = group;
    }
    a->done = found;
    w->asking = 1;
    dir_ask_start(a);
}

/* ---- BRING ------------------------------------------------------------------------------------------ */

static struct dir_wait *wait_new(struct dir_wish *w) {
    struct dir_wait *wait = w->want.token != 0 ? malloc(sizeof(*wait)) : NULL;
    if (wait == NULL)
        return NULL;
    *wait = (struct dir_wait){.wish = w};
    dir_list_init(&wait->by_wish);
    dir_list_init(&wait->by_pull);
    return wait;
}

static void wait_keep(struct dir_wish *w, struct dir_wait *wait, int waits) {
    if (wait != NULL && waits)
        dir_list_add(&w->waits, &wait->by_wish);
    else
        free(wait);
}

static struct dir_pull_want pull_want(const struct dir_wish *w, uint32_t i) {
    const struct yk_pool_want *want = &w->want;
    struct dir_pull_want p = {.key = {want->ns, want->ns_len, want->keys[i].key, want->keys[i].key_len},
                              .epoch = want->epoch,
                              .deadline_ns = want->deadline_ns,
                              .xclass = want->token == 0 ? YK_XFER_PREFETCH : YK_XFER_DEMAND};
    p.hash = yk_dir_hash(p.key.ns, p.key.ns_len, p.key.key, p.key.key_len);
    return p;
}

/* 1: it is on its way. */
static int bring(struct dir_wish *w, struct dir_pull_want *p) {
    struct dir_wait *wait = wait_new(w);
    int on = dir_pull_join(w->job.dir, p, wait), begun = 0;
    if (!on && p->found != NULL)
        begun = dir_pull_start(w->job.dir, p, wait) == 0;
    wait_keep(w, wait, on || begun);
    return on || begun;
}

static void located(struct dir_ask *a) {
    struct dir_wish *w = a->arg;
    w->asking = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct yk_dir_found *f = &a->key[i].found;
        struct yk_dir_key key = {a->ns, a->ns_len, a->key[i].key, a->key[i].key_len};
        struct dir_pull_want p = {.key = key,
                                  .epoch = a->epoch,
                                  .hash = a->key[i].hash,
                                  .deadline_ns = a->deadline_ns,
                                  .xclass = w->want.token == 0 ? YK_XFER_PREFETCH : YK_XFER_DEMAND,
                                  .found = f};
        if (f->status == 0)
            (void)bring(w, &p);
        else if (a->chain)
            break;
    }
    dir_ask_free(a);
    end_if_done(w);
}

static void begin_bring(struct dir_wish *w) {
    struct dir_ask *a = ask_of(w, w->want.count);
    uint32_t n = 0;
    if (a == NULL) {
        end(w);
        return;
    }
    for (uint32_t i = 0; i < w->want.count; i++) {
        struct dir_pull_want p = pull_want(w, i);
        p.found = dir_cache_get(w->job.dir, &p.key, p.epoch, p.hash);
        p.cached = 1;
        w->job.dir->n.cache_hits += p.found != NULL;
        if (bring(w, &p))
            continue;
        a->key[n].key = p.key.key;
        a->key[n++].key_len = p.key.key_len;
    }
    a->count = n;
    a->done = located;
    if (n > 0) {
        w->asking = 1;
        dir_ask_start(a);
    } else {
        dir_ask_free(a);
        end_if_done(w);
    }
}

static void begin(struct dir_job *job) {
    struct dir_wish *w = DIR_ITEM(job, struct dir_wish, job);
    struct yk_dir *d = job->dir;
    dir_list_add(&d->wishes, &w->all);
    dir_look_soon(d);
    if (d->stopping || d->core == NULL) /* it has not joined yet: a map of its last life tells nothing */
        end(w);
    else if (w->want.kind == YK_POOL_FIND)
        begin_find(w);
    else
        begin_bring(w);
}
