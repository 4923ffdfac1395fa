/* SPDX-License-Identifier: Apache-2.0
 *
 * How pieces, requests and parts end (R16): a request ends when none of its pieces is in flight any
 * more and it is whole, or failing. A failing request cancels what is in flight of it and waits for
 * that to end; what can no longer change anything is dropped at once.
 *
 * A piece whose lane failed goes to `again` of its route, or, when it may have left bytes on their way,
 * into the lane's fence first. When its request ends before the fence has (its deadline came), the piece
 * stays there without it, for its range: yk_route_fenced keeps later writes off, of all shards.
 *
 * A piece whose guard the target could not pin now goes to `later`, and from there to `again`; so does
 * a note that found its queue full.
 *
 * Pieces come from chunks that only grow: as many as were ever in flight.
 *
 * Thread: the shard's owner.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK        64u
#define AGAIN_MAX    3u /* reads whose checksum was wrong are repeated so often */
#define ASKED_MAX    64u /* a peer that may be able to soon is asked so often: with those waits two seconds */
#define LATER_MAX    5u /* what the target cannot take now waits 1 ms, doubled so often */

struct yk_chunk {
    struct yk_chunk *next;
    struct yk_piece pieces[CHUNK];
};

/* ---- pieces ----------------------------------------------------------------------------------- */

struct yk_piece *yk_piece_new(struct yk_shard *s) {
    if (s->free_pieces == NULL) {
        struct yk_chunk *c = calloc(1, sizeof(*c));
        if (c == NULL)
            return NULL;
        c->next = s->chunks;
        s->chunks = c;
        for (uint32_t i = 0; i < CHUNK; i++) {
            c->pieces[i].free = s->free_pieces;
            s->free_pieces = &c->pieces[i];
        }
    }
    struct yk_piece *p = s->free_pieces;
    s->free_pieces = p->free;
    *p = (struct yk_piece){.req = NULL};
    p->s.core = p;
    yk_list_init(&p->link);
    yk_list_init(&p->of_req);
    yk_list_init(&p->bar.link);
    return p;
}

void yk_piece_free(struct yk_shard *s, struct yk_piece *p) {
    yk_list_remove(&p->link);
    yk_list_remove(&p->of_req);
    p->req = NULL;
    p->free = s->free_pieces;
    s->free_pieces = p;
}

void yk_pieces_free(struct yk_shard *s) {
    while (s->chunks != NULL) {
        struct yk_chunk *c = s->chunks;
        s->chunks = c->next;
        free(c);
    }
}

/* ---- ends of requests --------------------------------------------------------------------------- */

static struct yk_route *route_of(struct yk_shard *s, const struct yk_peer *peer) {
    return s->routes[peer->index]; /* it is there: the request was taken */
}

/* A guarded read that is whole and came over a network: R15, R17. 1: it is read again. */
static int check_sum(struct yk_shard *s, struct yk_req *r) {
    if (r->status != 0 || r->op != YK_XFER_READ || !r->network || !r->guarded || !r->guard.has_checksum ||
        yk_hash64(r->local, r->len) == r->guard.checksum)
        return 0;
    if (r->again++ < AGAIN_MAX) {
        r->cut = 0;
        r->network = 0;
        __atomic_store_n(&r->done, 0, __ATOMIC_RELAXED);
        yk_list_add(&yk_queue_of(route_of(s, r->peer), r->xclass, r->device)->reqs, &r->link);
        yk_route_changed(route_of(s, r->peer));
        return 1;
    }
    r->status = -YK_ECORRUPT;
    return 0;
}

static void part_expired(struct yk_timer *timer) {
    struct yk_part *p = timer->user;
    yk_part_fail(p->shard, p, NULL, NULL, -YK_ETIMEDOUT);
}

void yk_part_open(struct yk_shard *s, struct yk_part *p) {
    p->timer = (struct yk_timer){.fn = part_expired, .user = p};
    (void)yk_loop_timer(s->loop, &p->timer, p->batch->deadline_ns); /* no memory: health looks too */
    yk_list_add(&s->parts, &p->link);
}

static void part_close(struct yk_shard *s, struct yk_part *p) {
    (void)yk_loop_timer(s->loop, &p->timer, 0);
    yk_list_remove(&p->link);
}

/* Whether the batch's text is this request's to write: it is that of the first that wants to. */
static int may_say(struct yk_req *r) {
    struct yk_batch *b = r->part->batch;
    uint32_t nobody = 0, mine = 1 + (uint32_t)(r - b->reqs);
    return __atomic_compare_exchange_n(&b->why_of, &nobody, mine, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Where a request ends because no rail would have it: what the rails said last. */
static void say_why(struct yk_req *r, const struct yk_route *t) {
    struct yk_batch *b = r->part->batch;
    size_t n = 0;
    for (uint32_t i = 0; i < t->rail_count && n < sizeof(b->why); i++) {
        const struct yk_rail *rail = t->rails[i];
        if (rail->state == YK_RAIL_OK || rail->why[0] == 0)
            continue;
        if (n == 0 && !may_say(r))
            return;
        n += (size_t)snprintf(b->why + n, sizeof(b->why) - n, "; %s%s%s to %s: %s", rail->xport->ops->name,
                              rail->desc.local[0] != 0 ? " " : "", rail->desc.local, rail->desc.remote,
                              rail->why);
    }
}

/* t: NULL when it was never taken into a route. */
static void req_end(struct yk_shard *s, struct yk_req *r, struct yk_route *t) {
    struct yk_part *part = r->part;
    struct yk_batch *b = part->batch;
    yk_list_remove(&r->link);
    yk_registry_put(s->engine->registry, r->region);
    r->region = NULL;
    if (r->status != 0)
        __atomic_store_n(&b->failed, 1, __ATOMIC_RELAXED);
    if (t != NULL && (r->status == -YK_ETIMEDOUT || r->status == -YK_EGONE))
        say_why(r, t);
    __atomic_store_n(&r->ended, 1, __ATOMIC_RELEASE);
    if (t != NULL)
        yk_route_work(t, -1);
    if (--part->left == 0)
        part_close(s, part); /* now: when this is not the batch's last, others may free it */
    if (__atomic_sub_fetch(&b->left, 1, __ATOMIC_ACQ_REL) == 0)
        yk_part_last(s, part);
}

/* Ends it if nothing of it is under way. */
static void req_settle(struct yk_shard *s, struct yk_req *r) {
    if (r->hold || !yk_list_empty(&r->pieces) || (r->status == 0 && r->cut < r->len))
        return;
    if (!check_sum(s, r))
        req_end(s, r, route_of(s, r->peer));
}

void yk_req_refuse(struct yk_shard *s, struct yk_req *r, int status, const char *why) {
    struct yk_batch *b = r->part->batch;
    if (why != NULL && may_say(r))
        snprintf(b->why, sizeof(b->why), "; %s", why);
    r->status = status;
    req_end(s, r, NULL);
}

void yk_req_strand(struct yk_shard *s, struct yk_req *r) {
    struct yk_batch *b = r->part->batch;
    if (may_say(r))
        snprintf(b->why, sizeof(b->why), "; %s", YK_DEVICE_NO_WAY);
    yk_req_fail(s, r, -YK_ENOTSUP);
}

/* Takes a piece from its request: it has ended, or lives on without. */
static void piece_leaves(struct yk_shard *s, struct yk_piece *p) {
    struct yk_req *r = p->req;
    yk_list_remove(&p->of_req);
    p->req = NULL;
    req_settle(s, r);
}

/* 1: it was asked to end, and may have from within. */
static int cancel_in_flight(struct yk_piece *p) {
    if (p->cancel_ns != 0)
        return 0;
    p->cancel_ns = yk_now_ns();
    struct yk_link *l = p->on;
    if (l->state != YK_LINK_UP || l->lane->ops->cancel == NULL)
        return 0;
    l->lane->ops->cancel(l->lane, &p->s);
    return 1;
}

void yk_req_fail(struct yk_shard *s, struct yk_req *r, int status) {
    if (__atomic_load_n(&r->ended, __ATOMIC_RELAXED))
        return;
    if (r->status == 0)
        r->status = status;
    r->hold++;
    yk_list_remove(&r->link);
    struct yk_list *at = r->pieces.next;
    while (at != &r->pieces) {
        struct yk_piece *p = yk_list_of(at, struct yk_piece, of_req);
        at = at->next;
        if (p->on != NULL) {
            if (cancel_in_flight(p))
                at = r->pieces.next; /* others may have ended with it */
        } else if (p->s.touched) {
            yk_list_remove(&p->of_req); /* its range stays in the fence */
            p->req = NULL;
        } else {
            yk_piece_free(s, p);
        }
    }
    r->hold--;
    req_settle(s, r);
}

/* ---- ends of pieces ----------------------------------------------------------------------------- */

/* What has waited long enough; the timer is set for the rest. Without memory for it nothing waits. */
static void later_look(struct yk_route *t, uint64_t now) {
    struct yk_list *next;
    uint64_t due = UINT64_MAX;
    for (struct yk_list *at = t->later.next; at != &t->later; at = next) {
        struct yk_piece *p = yk_list_of(at, struct yk_piece, link);
        next = at->next;
        if (p->due_ns > now) {
            due = p->due_ns < due ? p->due_ns : due;
            continue;
        }
        yk_list_remove(&p->link);
        yk_list_add(&yk_queue_of(t, p->s.xclass, p->s.device)->again, &p->link);
        yk_route_changed(t);
    }
    if (due != UINT64_MAX && yk_loop_timer(t->shard->loop, &t->later_timer, due) < 0)
        later_look(t, UINT64_MAX);
}

void yk_later_due(struct yk_timer *timer) {
    later_look(timer->user, yk_now_ns());
}

/* The target had no pin for its guard, or no room for the note. */
static void send_later(struct yk_route *t, struct yk_piece *p) {
    uint64_t now = yk_now_ns();
    p->due_ns = now + (YK_NS_PER_MS << p->waits);
    p->waits += p->waits < LATER_MAX;
    yk_list_add(&t->later, &p->link);
    later_look(t, now);
}

static void note_end(struct yk_shard *s, struct yk_piece *p, struct yk_route *t, int status) {
    struct yk_part *part = p->note;
    part->note = NULL;
    yk_piece_free(s, p);
    yk_route_work(t, -1);
    part_close(s, part);
    yk_batch_end(part->batch, s, status);
}

static void note_piece_ended(struct yk_shard *s, struct yk_piece *p, struct yk_route *t) {
    int status = p->s.status;
    int lane = status < 0 && p->s.scope == YK_SCOPE_LANE;
    if (status == -YK_EAGAIN && p->cancel_ns == 0)
        send_later(t, p);
    else if (lane && p->cancel_ns == 0)
        yk_list_add(&yk_queue_of(t, p->s.xclass, p->s.device)->again, &p->link);
    else if (lane || status == -YK_ECANCELED || status == -YK_EAGAIN)
        note_end(s, p, t, p->note->note_status != 0 ? p->note->note_status : -YK_ECANCELED);
    else
        note_end(s, p, t, status);
}

/* A copy from or to another process pins pages, which not all memory allows (a device's): what is there after all
 * another way finds. 0: there is none. */
static int goes_without_copies(struct yk_req *r, const struct yk_rail *met) {
    struct yk_want w = yk_sched_want(r);
    w.without = YK_RAIL_COPIES;
    if (!(met->desc.caps & YK_RAIL_COPIES) || !yk_route_suits(met->route, &w))
        return 0;
    return r->no_copies = 1;
}

/* Memory of a device, here or there, that this rail's devices do not know: others may. When none does, the request has
 * ended. */
static void go_by_others(struct yk_shard *s, struct yk_piece *p, const struct yk_rail *met) {
    struct yk_req *r = p->req;
    struct yk_route *t = met->route;
    if (p->s.unsure && p->asked++ < ASKED_MAX) {
        p->avoid = yk_rail_bit(met);
        send_later(t, p);
        return;
    }
    r->shun |= yk_rail_bit(met);
    struct yk_want w = yk_sched_want(r);
    yk_list_add(&yk_queue_of(t, r->xclass, r->device)->again, &p->link);
    if (!yk_route_suits(t, &w))
        yk_req_strand(s, r);
}

static void req_piece_ended(struct yk_shard *s, struct yk_piece *p, struct yk_link *l) {
    struct yk_req *r = p->req;
    struct yk_slice *sl = &p->s;
    struct yk_route *t = l->rail->route;
    if (sl->status == 0) {
        __atomic_store_n(&r->done, r->done + sl->len, __ATOMIC_RELAXED);
        r->network |= (l->rail->desc.caps & YK_RAIL_NETWORK) != 0;
        yk_list_remove(&p->of_req);
        yk_piece_free(s, p);
        req_settle(s, r);
        return;
    }
    if (sl->status == -YK_EAGAIN && (sl->guard != NULL || sl->device) && r->status == 0) {
        p->avoid = sl->device ? yk_rail_bit(l->rail) : 0;
        send_later(t, p);
        return;
    }
    if (sl->status == -YK_ENOTSUP && sl->scope == YK_SCOPE_REQUEST && sl->device && r->status == 0) {
        go_by_others(s, p, l->rail);
        return;
    }
    if (sl->status == -YK_EFAULT && r->status == 0 && goes_without_copies(r, l->rail)) {
        yk_list_add(&yk_queue_of(t, r->xclass, r->device)->again, &p->link);
        return;
    }
    int lane = sl->scope >= YK_SCOPE_LANE;
    if (lane && sl->touched && l->fence != NULL) {
        yk_fence_hold(t, l->fence, p);
        if (r->status != 0)
            piece_leaves(s, p);
        return;
    }
    if (lane && r->status == 0) {
        yk_list_add(&yk_queue_of(t, r->xclass, r->device)->again, &p->link);
        return;
    }
    int status = sl->status;
    yk_list_remove(&p->of_req);
    yk_piece_free(s, p);
    if (r->status == 0)
        yk_req_fail(s, r, status);
    else
        req_settle(s, r);
}

void yk_slice_ended(struct yk_lane *lane, struct yk_slice *slice) {
    struct yk_piece *p = slice->core;
    struct yk_link *l = lane->core;
    struct yk_rail *rail = l->rail;
    struct yk_route *t = rail->route;
    struct yk_shard *s = t->shard;
    slice->done_ns = yk_now_ns();
    yk_list_remove(&p->link);
    p->on = NULL;
    l->count--;
    l->bytes -= slice->len;
    rail->bytes -= slice->len;
    yk_route_changed(t);
    if (slice->status == 0 && !slice->aside)
        l->stirred_ns = slice->done_ns;
    if (slice->status == 0 && slice->op <= YK_SLICE_WRITE) {
        yk_model_done(&rail->model, slice->len, slice->post_ns, slice->done_ns, rail->bytes == 0);
        rail->total_slices++;
        rail->total_bytes += slice->len;
        if (!slice->aside)
            rail->backoff_ms = rail->duds = 0;
    } else if (slice->status < 0 && slice->status != -YK_EAGAIN) {
        rail->total_failed++;
    }
    if (p->req != NULL) {
        req_piece_ended(s, p, l);
    } else if (p->note != NULL) {
        note_piece_ended(s, p, t);
    } else {
        struct yk_fence *f = p->fence;
        int status = slice->status;
        enum yk_scope scope = (enum yk_scope)slice->scope;
        yk_piece_free(s, p);
        if (f != NULL)
            yk_fence_done(f, t, status, scope);
    }
}

/* ---- batches ------------------------------------------------------------------------------------ */

static int send_note(struct yk_shard *s, struct yk_part *part) {
    struct yk_batch *b = part->batch;
    struct yk_route *t = yk_route_get(s, b->note_peer);
    struct yk_piece *p = t != NULL ? yk_piece_new(s) : NULL;
    if (p == NULL)
        return -YK_ENOMEM;
    p->note = part;
    p->s.op = YK_SLICE_NOTE;
    p->s.xclass = (uint8_t)b->xclass;
    p->s.local = b->note;
    p->s.len = b->note_bytes;
    p->s.offset = b->note_number;
    part->note = p;
    yk_part_open(s, part);
    yk_route_rails(t);
    yk_route_work(t, 1);
    yk_list_add(&t->queue[b->xclass].again, &p->link);
    yk_route_changed(t);
    return 0;
}

/* The batch's requests have all ended, the last of them in this part. */
void yk_part_last(struct yk_shard *s, struct yk_part *part) {
    struct yk_batch *b = part->batch;
    int rc = 0;
    if (b->note_bytes > 0 && !__atomic_load_n(&b->failed, __ATOMIC_RELAXED)) {
        rc = __atomic_load_n(&b->doomed, __ATOMIC_SEQ_CST)            ? -YK_ECANCELED
             : __atomic_load_n(&b->note_peer->gone, __ATOMIC_RELAXED) ? -YK_EGONE
                                                                      : send_note(s, part);
        if (rc == 0)
            return;
    }
    yk_batch_end(b, s, rc);
}

/* ---- failing many --------------------------------------------------------------------------------- */

static void note_fail(struct yk_shard *s, struct yk_part *part, int status) {
    struct yk_piece *p = part->note;
    part->note_status = status;
    if (p->on != NULL)
        (void)cancel_in_flight(p);
    else
        note_end(s, p, route_of(s, part->batch->note_peer), status);
}

void yk_part_fail(struct yk_shard *s, struct yk_part *p, const struct yk_region *in,
                  const struct yk_peer *of, int status) {
    struct yk_batch *b = p->batch;
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED); /* its last request may end in here */
    for (uint32_t i = p->first; i < p->first + p->count; i++) {
        struct yk_req *r = &b->reqs[i];
        if ((in == NULL || r->region == in) && (of == NULL || r->peer == of))
            yk_req_fail(s, r, status);
    }
    if (in == NULL && p->note != NULL && (of == NULL || b->note_peer == of))
        note_fail(s, p, status);
    yk_batch_put(b);
}

void yk_shard_fail(struct yk_shard *s, const struct yk_region *in, const struct yk_peer *of,
                   int status) {
    struct yk_list parts; /* parts leave the shard's list while it is walked */
    yk_list_init(&parts);
    while (!yk_list_empty(&s->parts)) {
        struct yk_list *at = s->parts.next;
        yk_list_remove(at);
        yk_list_add(&parts, at);
        yk_part_fail(s, yk_list_of(at, struct yk_part, link), in, of, status);
    }
    while (!yk_list_empty(&parts)) {
        struct yk_list *at = parts.next;
        yk_list_remove(at);
        yk_list_add(&s->parts, at);
    }
}
