/* SPDX-License-Identifier: Apache-2.0
 *
 * Which slice goes next, and where.
 *
 * Classes: each has a virtual time, the bytes that it was served over its weight; the class with
 * something to send that is furthest behind goes next, urgent first among equals. One that was idle
 * begins at the time of the others, so that it cannot save up. With all of them full, background has
 * 1/15 of the bytes; urgent alone against it, a tenth of its own slices at most wait for one of
 * background. This is deficit round robin without rounds: a slice's size is known only when its rail is.
 *
 * Within a class requests take turns, a slice each: a small one does not wait for a large one to end.
 *
 * Choice: of the rails of the first transport that works, the one with the earliest predicted end. When
 * that has no room, the best that has: as long as more waits than it would take that one to end. At the
 * end of a transfer the class waits: sending elsewhere would end later.
 *
 * Thread: the shard's owner.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COPY_SLICE  (1u << 20)   /* of rails whose bytes the shard's owner copies itself */
#define COPY_WINDOW (2u << 20)   /* and what is in flight there */
#define COPY_STEP   (256u << 10) /* and how much is copied before urgent ones are looked for again */
#define WINDOW_NS   4e6          /* of others in flight: what they move in so long, */
#define WINDOW_MIN  (1u << 20)   /* but so many bytes, */
#define WINDOW_SLICES 4u         /* and slices, or two for each lane */
#define SPRAY_BYTES (256u << 10) /* more than this under way: all rails are connected */
#define STALE_NS    (250 * YK_NS_PER_MS) /* a rail that was not used for so long is tried with a small slice */

static const double weights[YK_XFER_CLASSES] = {120, 36, 14, 12};

/* ---- prediction --------------------------------------------------------------------------------- */

int yk_rail_suits(const struct yk_rail *r, const struct yk_want *w) {
    return (r->desc.caps & w->caps) == w->caps && (r->desc.caps & w->without) == 0 && !(w->shun & yk_rail_bit(r));
}

int yk_route_suits(const struct yk_route *t, const struct yk_want *w) {
    for (uint32_t i = 0; i < t->rail_count; i++)
        if (yk_rail_suits(t->rails[i], w))
            return 1;
    return 0;
}

/* When another lane of the rail was last seen to move something. */
static uint64_t others_stirred(const struct yk_rail *r, const struct yk_link *l) {
    uint64_t last = 0;
    for (uint32_t i = 0; i < r->link_count; i++)
        if (&r->links[i] != l && r->links[i].stirred_ns > last)
            last = r->links[i].stirred_ns;
    return last;
}

/* The age of what is in flight there and overdue, as far as nothing has moved on the rail meanwhile: one lane that
 * is silent is not the way. */
static double late_ns(const struct yk_rail *r, uint64_t now) {
    double late = 0;
    for (uint32_t i = 0; i < r->link_count; i++) {
        const struct yk_link *l = &r->links[i];
        if (l->count == 0)
            continue;
        const struct yk_piece *p = yk_list_of(l->pieces.next, struct yk_piece, link);
        double age = now > p->s.post_ns ? (double)(now - p->s.post_ns) : 0;
        if (age <= 2 * p->predict_ns || age <= late)
            continue;
        uint64_t last = others_stirred(r, l);
        double still = now > last ? (double)(now - last) : 0;
        age = age < still ? age : still;
        late = age > late ? age : late;
    }
    return late;
}

double yk_rail_predict(const struct yk_rail *r, uint64_t len, uint64_t now) {
    return yk_model_predict_ns(&r->model, r->bytes, len, late_ns(r, now));
}

/* Of a long way nothing is believed before it was seen: what it is given grows with what it has moved, as with
 * TCP. Else a first guess would put more on its first lane than that moves within a deadline. */
static uint64_t grown(const struct yk_rail *r, uint64_t bytes) {
    return r->path_ns >= YK_LONG_NS && bytes > r->total_bytes ? r->total_bytes : bytes;
}

uint64_t yk_rail_slice(const struct yk_rail *r, uint64_t left, uint32_t rails) {
    uint64_t size = yk_model_slice(&r->model, left, rails), most = grown(r, size * WINDOW_SLICES) / WINDOW_SLICES;
    if (size > most)
        size = size < YK_MODEL_SLICE_MIN ? size : most < YK_MODEL_SLICE_MIN ? YK_MODEL_SLICE_MIN : most;
    return (r->desc.caps & YK_RAIL_COPIES) && size > COPY_SLICE ? COPY_SLICE : size;
}

static int usable(const struct yk_rail *r) {
    if (r->state == YK_RAIL_OK)
        for (uint32_t i = 0; i < r->link_count; i++)
            if (r->links[i].state == YK_LINK_UP)
                return 1;
    return 0;
}

uint32_t yk_rails_useful(const struct yk_route *t, const struct yk_want *w, uint32_t group) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->rail_count; i++)
        n += t->rails[i]->group == group && yk_rail_suits(t->rails[i], w) && usable(t->rails[i]);
    return n;
}

/* ---- choice ------------------------------------------------------------------------------------- */

/* The lane of a rail that a slice of that class takes: the urgent one has its own, the other lanes do
 * while it is not up. The one with the fewest bytes in flight. */
static struct yk_link *link_for(struct yk_rail *r, uint32_t xclass) {
    struct yk_link *best = NULL;
    if (xclass == YK_XFER_URGENT && r->links[0].state == YK_LINK_UP)
        return &r->links[0];
    for (uint32_t i = 1; i < r->link_count; i++) {
        struct yk_link *l = &r->links[i];
        if (l->state == YK_LINK_UP && (best == NULL || l->bytes < best->bytes))
            best = l;
    }
    if (best == NULL && r->starved && r->links[0].state == YK_LINK_UP)
        return &r->links[0]; /* no other can be had now */
    return best;
}

static int has_room(const struct yk_link *l, uint64_t len) {
    const struct yk_rail *r = l->rail;
    if (l->lane->ops->room(l->lane) == 0)
        return 0;
    if (l->count == 0)
        return 1;
    if (r->desc.caps & YK_RAIL_COPIES)
        return l->bytes + len <= COPY_WINDOW;
    uint64_t bytes = (l->bulk ? r->bytes - r->links[0].bytes : l->bytes) + len;
    /* A long way holds more, and several times as much, so that it may get faster as quickly as TCP does, and
     * does not run dry while what was lost is sent again. */
    double ns = WINDOW_NS + (double)r->trip_ns + 4 * (double)r->path_ns;
    double window = yk_model_bytes_per_s(&r->model, len) * (ns / 1e9);
    uint64_t lanes = r->link_count - 1 > WINDOW_SLICES / 2 ? (r->link_count - 1) * 2ull : WINDOW_SLICES;
    uint64_t least = len * lanes > WINDOW_MIN ? len * lanes : WINDOW_MIN;
    return bytes <= grown(r, (uint64_t)window) || bytes <= least;
}

static int is_late(const struct yk_rail *r, uint64_t now) {
    for (uint32_t i = 0; i < r->link_count; i++)
        if (yk_link_is_late(&r->links[i], now))
            return 1;
    return 0;
}

/* Lanes that a want of that class should have on the rail. 1: one is being connected, and it is not late. */
static int connect_for(struct yk_rail *r, uint32_t xclass, uint64_t now) {
    int bulk = xclass != YK_XFER_URGENT, connecting = 0;
    if (r->state == YK_RAIL_OUT)
        return 0;
    if (r->state == YK_RAIL_OK)
        yk_rail_connect(r, bulk);
    for (uint32_t i = 0; i < r->link_count; i++)
        connecting |= r->links[i].state == YK_LINK_CONNECTING;
    return connecting && r->state == YK_RAIL_OK && !is_late(r, now);
}

/* What is known to wait behind the request at hand: of the first few, which is enough to tell a long
 * queue from the end of a transfer. */
static uint64_t waiting(const struct yk_want *w) {
    uint64_t bytes = w->left;
    int n = 0;
    if (w->queue == NULL)
        return bytes;
    for (const struct yk_list *at = w->queue->reqs.next; at != &w->queue->reqs && n < 16; at = at->next, n++) {
        const struct yk_req *r = yk_list_of(at, struct yk_req, link);
        bytes += r->len - r->cut;
    }
    return bytes;
}

struct choice {
    struct yk_link *link;
    uint64_t len;
    double ns;
};

static void better(struct choice *c, struct yk_link *l, uint64_t len, double ns) {
    if (c->link == NULL || ns < c->ns ||
        (ns == c->ns && l->rail->desc.distance < c->link->rail->desc.distance))
        *c = (struct choice){l, len, ns};
}

/* For a small request one rail is connected, and the next one where that takes long: its address may be one that cannot
 * be reached from here.
 *
 * The best lane among the rails of a group, or the best that has room when all that waits takes longer
 * than a slice there; *ret_wait: there is reason to wait for one. */
static struct yk_link *choose_in(struct yk_route *t, uint32_t group, const struct yk_want *w,
                                 uint64_t now, uint64_t *ret_len, int *ret_wait) {
    uint32_t useful = yk_rails_useful(t, w, group), seen = 0;
    uint64_t flying = 0;
    double bytes_per_s = 0;
    struct choice best = {.link = NULL}, open = {.link = NULL};
    for (uint32_t i = 0; i < t->rail_count; i++)
        flying += t->rails[i]->group == group ? t->rails[i]->bytes : 0;
    for (uint32_t i = 0; i < t->rail_count; i++) {
        struct yk_rail *r = t->rails[i];
        if (r->group != group || !yk_rail_suits(r, w))
            continue;
        if ((r->state == YK_RAIL_OK && seen == 0) || w->left + flying > SPRAY_BYTES)
            *ret_wait |= connect_for(r, w->xclass, now);
        struct yk_link *l = r->state == YK_RAIL_OK ? link_for(r, w->xclass) : NULL;
        seen += l != NULL || (r->state == YK_RAIL_OK && !is_late(r, now));
        if (l == NULL)
            continue;
        uint64_t len = yk_rail_slice(r, w->left, useful);
        if (useful > 1 && w->xclass != YK_XFER_URGENT && r->bytes == 0 &&
            now - r->used_ns > STALE_NS && has_room(l, 1)) {
            *ret_len = w->left < YK_MODEL_SLICE_MIN ? w->left : YK_MODEL_SLICE_MIN;
            return l; /* what is known of it is old */
        }
        double ns = yk_rail_predict(r, len, now);
        bytes_per_s += yk_model_bytes_per_s(&r->model, len);
        better(&best, l, len, ns);
        if (has_room(l, len))
            better(&open, l, len, ns);
    }
    if (best.link != open.link && open.link != NULL &&
        open.ns > best.ns + (double)(waiting(w) + flying) / bytes_per_s * 1e9)
        open = best; /* it will have room, and end, sooner */
    if (open.link == NULL)
        open = best;
    *ret_len = open.len;
    return open.link;
}

static struct yk_link *choose(struct yk_route *t, const struct yk_want *w, uint64_t *ret_len) {
    uint64_t now = yk_now_ns();
    uint32_t group = UINT32_MAX;
    for (uint32_t i = 0; i < t->rail_count; i++) {
        if (t->rails[i]->group == group)
            continue;
        group = t->rails[i]->group;
        int wait = 0;
        struct yk_link *l = choose_in(t, group, w, now, ret_len, &wait);
        int room = l != NULL && has_room(l, *ret_len);
        if (l != NULL && l->bulk)
            l->rail->full = !room;
        if (l != NULL)
            return room ? l : NULL;
        if (wait)
            return NULL;
    }
    return NULL;
}

/* ---- posting ------------------------------------------------------------------------------------ */

static void post(struct yk_link *l, struct yk_piece *p) {
    struct yk_rail *r = l->rail;
    uint64_t now = yk_now_ns();
    yk_list_remove(&p->link);
    p->predict_ns = yk_model_predict_ns(&r->model, r->bytes, p->s.len, 0);
    p->s.post_ns = now;
    p->s.status = 0;
    p->s.touched = 0;
    p->s.aside = 0;
    p->s.unsure = 0;
    p->s.scope = YK_SCOPE_NONE;
    p->on = l;
    if (l->count++ == 0) {
        l->moved_known = 0; /* asking is a system call with some: health does, later */
        l->strikes = 0;
        l->asked_ns = 0;
    }
    yk_list_add(&l->pieces, &p->link);
    l->bytes += p->s.len;
    r->bytes += p->s.len;
    r->used_ns = now;
    l->dirty = r->route->dirty = 1;
    if (p->req != NULL)
        __atomic_store_n(&p->req->attempts, p->req->attempts + 1, __ATOMIC_RELAXED);
    l->lane->ops->post(l->lane, &p->s);
}

int yk_sched_post(struct yk_link *l, struct yk_piece *p) {
    if (l->state != YK_LINK_UP || l->lane->ops->room(l->lane) == 0)
        return 0;
    post(l, p);
    return 1;
}

uint32_t yk_sched_caps(uint8_t op, int guarded) {
    uint32_t guard = guarded ? YK_RAIL_GUARD : 0;
    return op == YK_SLICE_NOTE    ? (uint32_t)YK_RAIL_NOTIFY
           : op == YK_SLICE_WRITE ? (uint32_t)YK_RAIL_WRITE | guard
                                  : (uint32_t)YK_RAIL_READ | guard;
}

struct yk_want yk_sched_want(const struct yk_req *r) {
    return (struct yk_want){.left = r->len - r->cut,
                            .caps = yk_sched_caps(r->op, r->guarded) | (r->device ? YK_RAIL_DEVICE : 0),
                            .without = r->no_copies ? YK_RAIL_COPIES : 0,
                            .shun = r->shun,
                            .xclass = r->xclass};
}

static int has_usable(const struct yk_route *t, const struct yk_want *w) {
    for (uint32_t i = 0; i < t->rail_count; i++)
        if (yk_rail_suits(t->rails[i], w) && usable(t->rails[i]))
            return 1;
    return 0;
}

/* What serving comes to. NO_RAIL: it waits for one that others do not need. */
enum served { NO_RAIL, NO_ROOM, SERVED };

/* There is no lane for it. Memory of a device waits for no other transport: where no rail is left its request ends. */
static enum served not_now(struct yk_shard *s, struct yk_route *t, struct yk_req *r, const struct yk_want *w) {
    if (r == NULL || !r->device)
        return NO_ROOM;
    if (yk_route_suits(t, w))
        return has_usable(t, w) ? NO_ROOM : NO_RAIL;
    yk_req_strand(s, r);
    return SERVED;
}

/* As much of it as lies in one span of both regions. */
static uint64_t in_spans(const struct yk_req *r, uint64_t len) {
    uint64_t there = YK_DEVICE_SPAN - (r->offset + r->cut) % YK_DEVICE_SPAN, here = there;
    if (r->region != NULL)
        here = YK_DEVICE_SPAN - ((uint64_t)(r->local - r->region->base) + r->cut) % YK_DEVICE_SPAN;
    len = here < len ? here : len;
    return there < len ? there : len;
}

/* By another rail than the one that could not move it, if there is one: that one may never. */
static struct yk_link *choose_again(struct yk_route *t, const struct yk_piece *p, const struct yk_want *w, uint64_t *ret_len) {
    struct yk_want other = *w;
    other.shun |= p->avoid;
    struct yk_link *l = choose(t, &other, ret_len);
    return l != NULL || p->avoid == 0 ? l : choose(t, w, ret_len);
}

/* A piece that is sent again. */
static enum served serve_again(struct yk_shard *s, struct yk_route *t, struct yk_queue *q, uint32_t xclass, uint64_t *ret_len) {
    struct yk_piece *p = yk_list_of(q->again.next, struct yk_piece, link);
    struct yk_want w = {.caps = yk_sched_caps(p->s.op, p->s.guard != NULL)};
    if (p->req != NULL)
        w = yk_sched_want(p->req);
    w.left = p->s.len;
    w.xclass = xclass;
    w.queue = q;
    if (p->s.op == YK_SLICE_WRITE && yk_route_fenced(t, p->s.region, p->s.offset, p->s.len))
        return NO_ROOM;
    struct yk_link *l = choose_again(t, p, &w, ret_len);
    if (l == NULL)
        return not_now(s, t, p->req, &w);
    *ret_len = p->s.len;
    post(l, p);
    return SERVED;
}

static enum served serve_req(struct yk_shard *s, struct yk_route *t, struct yk_queue *q, uint32_t xclass,
                             uint64_t *ret_len) {
    struct yk_req *r = yk_list_of(q->reqs.next, struct yk_req, link);
    struct yk_want w = yk_sched_want(r);
    uint64_t len = 0;
    w.queue = q;
    struct yk_link *l = choose(t, &w, &len);
    if (l == NULL)
        return not_now(s, t, r, &w);
    if (r->device)
        len = in_spans(r, len);
    if (r->op == YK_XFER_WRITE && yk_route_fenced(t, r->remote, r->offset + r->cut, len))
        return NO_ROOM;
    struct yk_piece *p = yk_piece_new(s);
    if (p == NULL) {
        yk_req_fail(s, r, -YK_ENOMEM);
        return SERVED;
    }
    p->s.op = r->op;
    p->s.xclass = (uint8_t)xclass;
    p->s.local = r->local + r->cut;
    p->s.len = len;
    p->s.region = r->remote;
    p->s.offset = r->offset + r->cut;
    p->s.guard = r->guarded ? &r->guard : NULL;
    p->s.device = r->device;
    p->req = r;
    yk_list_add(&r->pieces, &p->of_req);
    r->cut += len;
    yk_list_remove(&r->link);
    if (r->cut < r->len)
        yk_list_add(&q->reqs, &r->link); /* the others' turn */
    *ret_len = len;
    post(l, p);
    return SERVED;
}

/* ---- classes ------------------------------------------------------------------------------------ */

static int pick(struct yk_route *t, uint32_t blocked) {
    int best = -1;
    for (int c = 0; c < (int)YK_QUEUES; c++) {
        struct yk_queue *q = &t->queue[c];
        if (yk_list_empty(&q->reqs) && yk_list_empty(&q->again))
            continue;
        if (q->served < t->served)
            q->served = t->served; /* it was idle */
        if ((blocked & 1u << c) == 0 && (best < 0 || q->served < t->queue[best].served))
            best = c;
    }
    return best;
}

/* A class that waits holds those behind it back where they would take its lanes: else they would
 * always find room first. Urgent has lanes of its own. What waits for rails of devices, which are not there, takes none: it
 * holds back its like alone. */
static uint32_t blocks(uint32_t c, enum served how) {
    uint32_t urgent = 1u << YK_XFER_URGENT | 1u << (YK_XFER_URGENT + YK_XFER_CLASSES);
    uint32_t devices = (1u << YK_QUEUES) - (1u << YK_XFER_CLASSES);
    if (urgent & 1u << c)
        return 1u << c;
    return ~urgent & (how == NO_RAIL ? devices : UINT32_MAX);
}

static enum served serve(struct yk_shard *s, struct yk_route *t, struct yk_queue *q, uint32_t xclass, uint64_t *ret_len) {
    enum served again = NO_RAIL, how = NO_RAIL;
    if (!yk_list_empty(&q->again))
        again = serve_again(s, t, q, xclass, ret_len);
    if (again != SERVED && !yk_list_empty(&q->reqs))
        how = serve_req(s, t, q, xclass, ret_len);
    return how > again ? how : again;
}

static void pump(struct yk_shard *s, struct yk_route *t) {
    uint32_t blocked = 0;
    int c;
    while ((c = pick(t, blocked)) >= 0) {
        struct yk_queue *q = &t->queue[c];
        uint64_t len = 0;
        double before = q->served;
        enum served how = serve(s, t, q, (uint32_t)c % YK_XFER_CLASSES, &len);
        if (how != SERVED) {
            blocked |= blocks((uint32_t)c, how);
            continue;
        }
        q->served = before + (double)len / weights[c % YK_XFER_CLASSES];
        t->served = before;
    }
}

/* ---- a step ------------------------------------------------------------------------------------- */

static void flush(struct yk_route *t) {
    t->dirty = 0;
    for (uint32_t i = 0; i < t->rail_count; i++)
        for (uint32_t k = 0; k < t->rails[i]->link_count; k++) {
            struct yk_link *l = &t->rails[i]->links[k];
            if (!l->dirty)
                continue;
            l->dirty = 0;
            if (l->state == YK_LINK_UP && l->lane->ops->flush != NULL)
                l->lane->ops->flush(l->lane);
        }
}

/* Urgent lanes first and whole, then a step on the others. */
static int copy(struct yk_route *t, int bulk) {
    int more = 0;
    for (uint32_t i = 0; i < t->rail_count; i++)
        for (uint32_t k = 0; k < t->rails[i]->link_count; k++) {
            struct yk_link *l = &t->rails[i]->links[k];
            if (l->bulk == bulk && l->state == YK_LINK_UP && l->count > 0 &&
                l->lane->ops->progress != NULL)
                more |= l->lane->ops->progress(l->lane, COPY_STEP) != 0;
        }
    return more;
}

int yk_sched_step(struct yk_shard *s) {
    int more = 0, rounds = 0;
    do {
        s->changed = 0;
        more = 0;
        if (s->dead_links > 0)
            yk_rails_reap(s);
        struct yk_list *at, *next;
        for (at = s->active.next; at != &s->active; at = next) {
            next = at->next;
            struct yk_route *t = yk_list_of(at, struct yk_route, active);
            if (!t->changed)
                continue;
            t->changed = 0;
            if (!yk_list_empty(&t->fences))
                yk_route_fences(t);
            pump(s, t);
            if (t->dirty)
                flush(t);
        }
        for (int bulk = 0; bulk <= 1; bulk++)
            for (at = s->active.next; at != &s->active; at = next) {
                struct yk_route *t = yk_list_of(at, struct yk_route, active);
                next = at->next;
                if (t->copies)
                    more |= copy(t, bulk);
            }
    } while (s->changed && !more && ++rounds < 4);
    return more || s->changed || s->dead_links > 0;
}

/* ---- a part comes in ----------------------------------------------------------------------------- */

/* There may be ways to the peer: it is not taken for one that is gone. */
static void refuse_blind(struct yk_shard *s, struct yk_req *r, int e) {
    char text[YK_ERR_TEXT_MAX];
    snprintf(text, sizeof(text), "the devices of this host cannot be listed: %s", strerror(e));
    yk_req_refuse(s, r, e == EMFILE || e == ENFILE ? -YK_ELIMIT : -YK_EIO, text);
}

void yk_sched_part(struct yk_shard *s, struct yk_part *p) {
    struct yk_batch *b = p->batch;
    uint32_t first = p->first, count = p->count;
    p->left = count;
    if (count == 0) { /* a notification alone */
        yk_part_last(s, p);
        return;
    }
    yk_part_open(s, p);
    yk_health_arm(s);
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED); /* it may end in here */
    for (uint32_t i = first; i < first + count; i++) {
        struct yk_req *r = &b->reqs[i];
        struct yk_route *t = yk_route_get(s, r->peer);
        int gone = __atomic_load_n(&r->peer->gone, __ATOMIC_RELAXED);
        if (t == NULL || gone) {
            yk_req_refuse(s, r, gone ? -YK_EGONE : -YK_ENOMEM, NULL);
            continue;
        }
        yk_route_rails(t);
        struct yk_want w = yk_sched_want(r);
        if (r->device && !yk_route_suits(t, &w))
            yk_ways_want(t);
        if (t->rail_count == 0 && t->blind) {
            refuse_blind(s, r, t->blind);
            continue;
        }
        if (!yk_route_suits(t, &w)) {
            int no_way = t->rail_count > 0 && r->device;
            yk_req_refuse(s, r, t->rail_count > 0 ? -YK_ENOTSUP : -YK_EGONE, no_way ? YK_DEVICE_NO_WAY : NULL);
            continue;
        }
        yk_route_work(t, 1);
        yk_list_add(&yk_queue_of(t, r->xclass, r->device)->reqs, &r->link);
        yk_route_changed(t);
    }
    yk_batch_put(b);
}
