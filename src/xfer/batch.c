/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles and pools of batches. A batch keeps its slot for ever and is used again under the next
 * generation: a stale handle finds another number and is refused. Ended ones wait in free lists by the
 * number of requests they have room for (powers of four), so that a steady load allocates nothing.
 *
 * Threads: any, under `lock`; `refs` as batch_priv.h says.
 */
#include "xfer/engine_priv.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES     9u /* 1, 4, ... 65536 requests */
#define BATCHES_MAX (1u << 20)

struct yk_batches {
    pthread_mutex_t lock;
    struct yk_batch **slots;
    uint8_t *published;
    uint32_t count, cap;
    struct yk_batch *free[CLASSES];
};

struct pooled {
    struct yk_batch batch;
    struct yk_batches *pool;
};

struct yk_batches *yk_batches_new(void) {
    struct yk_batches *g = calloc(1, sizeof(*g));
    if (g != NULL)
        pthread_mutex_init(&g->lock, NULL);
    return g;
}

void yk_batches_free(struct yk_batches *g) {
    if (g == NULL)
        return;
    for (uint32_t i = 0; i < g->count; i++) {
        free(g->slots[i]->reqs);
        free(g->slots[i]->note);
        free(g->slots[i]);
    }
    pthread_mutex_destroy(&g->lock);
    free(g->slots);
    free(g->published);
    free(g);
}

static int slots_grow(struct yk_batches *g) {
    uint32_t cap = g->cap == 0 ? 64 : g->cap * 2;
    struct yk_batch **more = realloc(g->slots, cap * sizeof(struct yk_batch *));
    if (more == NULL)
        return -YK_ENOMEM;
    g->slots = more;
    uint8_t *flags = realloc(g->published, cap);
    if (flags == NULL)
        return -YK_ENOMEM;
    g->published = flags;
    g->cap = cap;
    return 0;
}

static uint32_t class_of(uint32_t n, uint32_t *ret_room) {
    uint32_t c = 0, room = 1;
    while (room < n) {
        room *= 4;
        c++;
    }
    *ret_room = room;
    return c;
}

static struct yk_batch *make(struct yk_batches *g, uint32_t size_class, uint32_t room) {
    if (g->count == BATCHES_MAX || (g->count == g->cap && slots_grow(g) < 0))
        return NULL;
    struct pooled *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->batch.reqs = calloc(room, sizeof(*p->batch.reqs));
    if (p->batch.reqs == NULL) {
        free(p);
        return NULL;
    }
    p->pool = g;
    p->batch.size_class = size_class;
    p->batch.slot = g->count;
    p->batch.generation = 1;
    g->published[g->count] = 0;
    g->slots[g->count++] = &p->batch;
    return &p->batch;
}

struct yk_batch *yk_batch_new(struct yk_batches *g, uint32_t n) {
    uint32_t room, c = class_of(n, &room);
    pthread_mutex_lock(&g->lock);
    struct yk_batch *b = g->free[c];
    if (b != NULL)
        g->free[c] = b->next;
    else
        b = make(g, c, room);
    pthread_mutex_unlock(&g->lock);
    if (b == NULL)
        return NULL;
    b->refs = 1;
    b->n = n;
    b->left = n;
    b->failed = b->done = b->doomed = b->freed = 0;
    b->status = 0;
    b->why_of = 0;
    b->why[0] = 0;
    b->note_bytes = 0;
    b->note_peer = NULL;
    b->part_count = 0;
    b->fn = NULL;
    return b;
}

void yk_batch_publish(struct yk_batches *g, struct yk_batch *b) {
    pthread_mutex_lock(&g->lock);
    g->published[b->slot] = 1;
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&g->lock);
}

static struct yk_batch *find(struct yk_batches *g, yk_xfer_batch handle) {
    uint32_t slot = (uint32_t)handle;
    if (slot >= g->count || !g->published[slot] ||
        g->slots[slot]->generation != (uint32_t)(handle >> 32))
        return NULL;
    return g->slots[slot];
}

struct yk_batch *yk_batch_get(struct yk_batches *g, yk_xfer_batch handle) {
    pthread_mutex_lock(&g->lock);
    struct yk_batch *b = find(g, handle);
    if (b != NULL)
        __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&g->lock);
    return b;
}

int yk_batch_unpublish(struct yk_batches *g, yk_xfer_batch handle, struct yk_batch **ret_batch) {
    pthread_mutex_lock(&g->lock);
    struct yk_batch *b = find(g, handle);
    if (b != NULL) {
        g->published[b->slot] = 0;
        *ret_batch = b;
    }
    pthread_mutex_unlock(&g->lock);
    return b != NULL ? 0 : -YK_ENOENT;
}

/* A run of requests to one peer has one reference (submit.c). */
static void put_peers(struct yk_batch *b) {
    for (uint32_t i = 0; i < b->n; i++)
        if (i == 0 || b->reqs[i].peer != b->reqs[i - 1].peer)
            yk_peer_put(b->reqs[i].peer);
    if (b->note_peer != NULL)
        yk_peer_put(b->note_peer);
}

void yk_batch_put(struct yk_batch *b) {
    if (b == NULL || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    struct yk_batches *g = ((struct pooled *)b)->pool;
    put_peers(b);
    free(b->note);
    b->note = NULL;
    pthread_mutex_lock(&g->lock);
    if (++b->generation == 0)
        b->generation = 1; /* after 2^32 uses of this one slot */
    b->next = g->free[b->size_class];
    g->free[b->size_class] = b;
    pthread_mutex_unlock(&g->lock);
}
