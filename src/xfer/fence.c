/* SPDX-License-Identifier: Apache-2.0
 *
 * Fences: memory that a dead lane may yet write to is not written again before the target has closed
 * that lane (R16).
 *
 * A lane that goes down leaves the pieces that it may have sent in part in its fence, with its request
 * or, when that has ended, without. Their ranges are the peer's: a write of any shard looks at them, and
 * one that meets such a range asks for the dead lane to be closed over a lane of its own shard. So no
 * shard waits for another to be turned, and closing what is closed already does no harm.
 *
 * Fences are nothing to wait for by themselves: with no request that needs them nobody turns the shard,
 * and a peer that never comes back is not dialled for ever. The next request asks again.
 *
 * `barred` of a peer is how many such ranges there are: 0 nearly always, and then no lock is taken. A
 * range is in before its request ends, so that whoever knows of that end sees it: what tells of the end
 * orders both, and a relaxed load is enough.
 *
 * Thread: the shard's owner; the peer's ranges any, under its `lock`.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include <stdlib.h>

#define BLOCKERS 16u /* lanes that are asked about at once */

/* ---- ranges of a peer ----------------------------------------------------------------------------- */

static void bar(struct yk_peer *peer, struct yk_piece *p, const struct yk_fence *f) {
    pthread_mutex_lock(&peer->lock);
    p->bar.lane = f->lane;
    p->bar.region = p->s.region;
    p->bar.offset = p->s.offset;
    p->bar.len = p->s.len;
    yk_list_add(&peer->bars, &p->bar.link);
    __atomic_store_n(&peer->barred, peer->barred + 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&peer->lock);
}

/* The target has closed the lane: all that it might have written to is free, whichever shard's it was. */
static void unbar(struct yk_peer *peer, uint64_t lane) {
    struct yk_list *next;
    if (__atomic_load_n(&peer->barred, __ATOMIC_RELAXED) == 0)
        return;
    pthread_mutex_lock(&peer->lock);
    for (struct yk_list *at = peer->bars.next; at != &peer->bars; at = next) {
        next = at->next;
        if (yk_list_of(at, struct yk_bar, link)->lane != lane)
            continue;
        yk_list_remove(at);
        __atomic_store_n(&peer->barred, peer->barred - 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&peer->lock);
}

/* Lanes that may yet write there, each once; how many. */
static uint32_t blockers(struct yk_peer *peer, uint64_t region, uint64_t offset, uint64_t len,
                         struct yk_bar *ret) {
    uint32_t n = 0;
    pthread_mutex_lock(&peer->lock);
    for (struct yk_list *at = peer->bars.next; at != &peer->bars && n < BLOCKERS; at = at->next) {
        const struct yk_bar *b = yk_list_of(at, struct yk_bar, link);
        uint32_t k = 0;
        if (b->region != region || b->offset >= offset + len || offset >= b->offset + b->len)
            continue;
        while (k < n && ret[k].lane != b->lane)
            k++;
        ret[k] = *b;
        n += k == n;
    }
    pthread_mutex_unlock(&peer->lock);
    return n;
}

/* ---- fences ----------------------------------------------------------------------------------------- */

struct yk_fence *yk_fence_new(void) {
    struct yk_fence *f = calloc(1, sizeof(*f));
    if (f != NULL) {
        yk_list_init(&f->link);
        yk_list_init(&f->held);
    }
    return f;
}

void yk_fence_free(struct yk_route *t, struct yk_fence *f) {
    if (f == NULL)
        return;
    if (!yk_list_empty(&f->held))
        unbar(t->peer, f->lane);
    yk_list_remove(&f->link);
    while (!yk_list_empty(&f->held))
        yk_piece_free(t->shard, yk_list_of(f->held.next, struct yk_piece, link));
    free(f);
}

void yk_fence_hold(struct yk_route *t, struct yk_fence *f, struct yk_piece *p) {
    yk_list_add(&f->held, &p->link);
    bar(t->peer, p, f);
}

/* Asks for a lane, of another shard too, to be closed. Without memory the next look does. */
static void ask_for(struct yk_route *t, const struct yk_bar *b) {
    for (const struct yk_list *at = t->fences.next; at != &t->fences; at = at->next)
        if (yk_list_of(at, struct yk_fence, link)->lane == b->lane)
            return;
    struct yk_fence *f = yk_fence_new();
    if (f == NULL)
        return;
    f->lane = b->lane;
    yk_list_add(&t->fences, &f->link);
    yk_route_changed(t);
}

int yk_route_fenced(struct yk_route *t, uint64_t region, uint64_t offset, uint64_t len) {
    struct yk_bar b[BLOCKERS];
    if (__atomic_load_n(&t->peer->barred, __ATOMIC_RELAXED) == 0)
        return 0;
    uint32_t n = blockers(t->peer, region, offset, len, b);
    for (uint32_t i = 0; i < n; i++)
        ask_for(t, &b[i]);
    return n > 0;
}

/* Any lane that ends at the target's server, which has the dead one, whatever transport that was of: a
 * unix socket that is gone must not keep TCP from going on. */
static struct yk_link *carrier(struct yk_route *t) {
    for (uint32_t i = 0; i < t->rail_count; i++) {
        struct yk_rail *r = t->rails[i];
        if (!(r->desc.caps & YK_RAIL_NOTIFY) || (r->desc.caps & YK_RAIL_COPIES))
            continue;
        for (uint32_t k = 0; k < r->link_count; k++)
            if (r->links[k].state == YK_LINK_UP)
                return &r->links[k];
        if (r->state == YK_RAIL_OK)
            yk_rail_connect(r, 1);
    }
    return NULL;
}

void yk_route_fences(struct yk_route *t) {
    for (struct yk_list *at = t->fences.next; at != &t->fences; at = at->next) {
        struct yk_fence *f = yk_list_of(at, struct yk_fence, link);
        struct yk_link *l = f->ask == NULL ? carrier(t) : NULL;
        struct yk_piece *p = l != NULL ? yk_piece_new(t->shard) : NULL;
        if (p == NULL)
            continue;
        p->s.op = YK_SLICE_FENCE;
        p->s.offset = f->lane;
        p->fence = f;
        f->ask = p;
        if (!yk_sched_post(l, p)) {
            f->ask = NULL;
            yk_piece_free(t->shard, p);
        }
    }
}

/* Closed there: what it held may be sent again. A lane that failed under it: asked again by the next
 * step. Refused by the target: it knows no such lane, which is as good. */
void yk_fence_done(struct yk_fence *f, struct yk_route *t, int status, enum yk_scope scope) {
    f->ask = NULL;
    yk_route_changed(t);
    if (status < 0 && scope != YK_SCOPE_REQUEST)
        return;
    unbar(t->peer, f->lane);
    while (!yk_list_empty(&f->held)) {
        struct yk_piece *p = yk_list_of(f->held.next, struct yk_piece, link);
        yk_list_remove(&p->link);
        p->s.touched = 0;
        if (p->req == NULL)
            yk_piece_free(t->shard, p);
        else
            yk_list_add(&yk_queue_of(t, p->s.xclass, p->s.device)->again, &p->link);
    }
    yk_list_remove(&f->link);
    free(f);
}

void yk_fences_void(struct yk_route *t) {
    while (!yk_list_empty(&t->fences)) {
        struct yk_fence *f = yk_list_of(t->fences.next, struct yk_fence, link);
        if (f->ask != NULL)
            f->ask->fence = NULL;
        f->ask = NULL;
        yk_fence_done(f, t, 0, YK_SCOPE_NONE);
    }
}
