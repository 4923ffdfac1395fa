/* SPDX-License-Identifier: Apache-2.0
 *
 * Routes, rails and lanes: what there is to send over, and how it comes and goes. (Which rails: ways.c.)
 *
 * Lanes are connected when something wants them: one for the first small request, all rails' when there
 * is much to send. One that fails takes its rail's others with it (what cut it will cut them) and the
 * rail is quarantined; a fresh lane decides whether it is back. One that does not come up beside others that
 * work is tried again later: on a way that loses packets that happens. Where this process has no descriptor for one
 * more, what is up carries all. Lanes are never disconnected where
 * they are found dead, which is deep in a transport's callback, but by the next step.
 *
 * The lanes of the only rail are not given up for silence alone, since a peer that is slow or stopped is
 * silent, too. A path that has forgotten its connections (a router in between that restarted, say) lets
 * a new one through: one is dialled beside them (health.c), and takes their place when it is answered.
 *
 * A shard has so many lanes and no more, and a device or this process may have fewer to give: then the lane that has been
 * idle for longest makes room, and is dialled again when something wants it.
 *
 * A long way gets more lanes while it is full (health.c); they go when it has not been for a while.
 *
 * Thread: the shard's owner.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_MIN_MS 20u
#define BACKOFF_MAX_MS 500u
#define DUD_MAX_MS     4000u /* of one that connects and moves nothing: each look at it holds requests up for stall_ms,
                                where another that moves them would have had them (a network that passes TCP and drops
                                RDMA's packets, say) */
#define MISSED_MAX     6u

/* ---- routes ------------------------------------------------------------------------------------- */

struct yk_route *yk_route_get(struct yk_shard *s, struct yk_peer *peer) {
    if (peer->index < s->route_cap && s->routes[peer->index] != NULL)
        return s->routes[peer->index];
    if (peer->index >= s->route_cap) {
        uint32_t cap = s->route_cap == 0 ? 8 : s->route_cap;
        while (cap <= peer->index)
            cap *= 2;
        struct yk_route **more = realloc(s->routes, cap * sizeof(struct yk_route *));
        if (more == NULL)
            return NULL;
        memset(more + s->route_cap, 0, (cap - s->route_cap) * sizeof(struct yk_route *));
        s->routes = more;
        s->route_cap = cap;
    }
    struct yk_route *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return NULL;
    t->shard = s;
    t->peer = peer;
    yk_list_init(&t->active);
    yk_list_init(&t->fences);
    yk_list_init(&t->later);
    t->later_timer = (struct yk_timer){.fn = yk_later_due, .user = t};
    for (uint32_t c = 0; c < YK_QUEUES; c++) {
        yk_list_init(&t->queue[c].reqs);
        yk_list_init(&t->queue[c].again);
    }
    s->routes[peer->index] = t;
    return t;
}

/* Those that it begins with: one for urgent requests, and `lanes`. */
static uint32_t least_links(const struct yk_rail *r) {
    return 1 + r->route->shard->engine->opts.lanes;
}

static void hang_up(struct yk_link *l) {
    l->lane->ops->disconnect(l->lane);
    l->lane = NULL;
    l->rail->route->shard->lanes--;
}

static void link_free(struct yk_link *l) {
    if (l->lane != NULL)
        hang_up(l);
    yk_fence_free(l->rail->route, l->fence);
}

void yk_rail_free(struct yk_rail *r) {
    if (r->link_count > least_links(r))
        yk_shard_wide(r->route->shard, -1);
    (void)yk_loop_timer(r->route->shard->loop, &r->retry, 0);
    for (uint32_t k = 0; k < r->link_count; k++)
        link_free(&r->links[k]);
    link_free(&r->beside);
    free(r);
}

int yk_rail_is_empty(const struct yk_rail *r) {
    int empty = r->beside.state == YK_LINK_NONE && r->bytes == 0;
    for (uint32_t k = 0; k < r->link_count; k++)
        empty &= r->links[k].state == YK_LINK_NONE;
    return empty;
}

void yk_route_free(struct yk_route *t) {
    if (t == NULL)
        return;
    (void)yk_loop_timer(t->shard->loop, &t->later_timer, 0);
    for (uint32_t i = 0; i < t->rail_count; i++)
        yk_rail_free(t->rails[i]);
    while (!yk_list_empty(&t->fences))
        yk_fence_free(t, yk_list_of(t->fences.next, struct yk_fence, link));
    free(t->rails);
    free(t);
}

void yk_route_work(struct yk_route *t, int more) {
    struct yk_shard *s = t->shard;
    t->work += (uint32_t)more;
    __atomic_store_n(&s->work, s->work + (uint32_t)more, __ATOMIC_RELAXED);
    if (t->work == 0)
        yk_list_remove(&t->active);
    else if (yk_list_empty(&t->active))
        yk_list_add(&s->active, &t->active);
}

static void retry_due(struct yk_timer *timer);

struct yk_rail *yk_rail_new(struct yk_route *t, struct yk_xport *x, uint32_t group, const struct yk_rail_desc *desc) {
    struct yk_rail *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->route = t;
    r->xport = x;
    r->number = t->rails_made++;
    r->group = group;
    r->desc = *desc;
    r->retry = (struct yk_timer){.fn = retry_due, .user = r};
    yk_model_init(&r->model, desc->bytes_per_s, desc->fixed_ns);
    r->model.distance = desc->distance;
    r->link_count = least_links(r);
    t->copies |= x->ops->progress != NULL;
    for (uint32_t k = 0; k < YK_LANES_MAX; k++) { /* it may get more lanes later */
        r->links[k].rail = r;
        r->links[k].bulk = k > 0;
        yk_list_init(&r->links[k].pieces);
    }
    r->beside.rail = r;
    r->beside.bulk = 1;
    yk_list_init(&r->beside.pieces);
    return r;
}

/* ---- lanes -------------------------------------------------------------------------------------- */

static void link_dies(struct yk_link *l) {
    if (l->state != YK_LINK_CONNECTING && l->state != YK_LINK_UP)
        return;
    l->state = YK_LINK_DEAD;
    l->rail->route->shard->dead_links++;
}

void yk_rail_beside_out(struct yk_rail *r) {
    link_dies(&r->beside);
}

static int is_silent(const struct yk_link *l) {
    return l->state == YK_LINK_UP && l->count > 0 && l->asked_ns != 0 &&
           l->lane->ops->moved(l->lane) == l->moved;
}

/* The lane that was dialled beside is up. It moves to its place when those that stand there are reaped. */
static void take_over(struct yk_rail *r) {
    int silent = 0;
    for (uint32_t k = 0; k < r->link_count; k++)
        silent |= is_silent(&r->links[k]);
    if (!silent) {
        yk_rail_beside_out(r); /* they have moved meanwhile, or ended */
        return;
    }
    for (uint32_t k = 0; k < r->link_count; k++)
        link_dies(&r->links[k]);
    snprintf(r->why, sizeof(r->why), "silent, while a new connection was answered");
}

/* It is a bulk lane like any other from now on. */
static void move_in(struct yk_rail *r) {
    struct yk_link *to = &r->links[1], *from = &r->beside;
    struct yk_fence *fence = to->fence;
    to->fence = from->fence;
    from->fence = fence;
    to->lane = from->lane;
    to->lane->core = to;
    to->state = YK_LINK_UP;
    to->up_ns = to->moved_ns = yk_now_ns();
    from->lane = NULL;
    from->state = YK_LINK_NONE;
}

static void link_up(struct yk_link *l) {
    struct yk_rail *r = l->rail;
    l->state = YK_LINK_UP;
    l->up_ns = l->moved_ns = l->stirred_ns = yk_now_ns();
    r->answered = 1;
    r->stranger = 0;
    r->modest_ms = l->bulk ? 0 : r->modest_ms;
    if (l == &r->beside)
        take_over(r);
    if (r->state == YK_RAIL_TRYING)
        r->state = YK_RAIL_OK;
    yk_route_changed(r->route);
}

/* 0, or an error of the transport. */
static int link_connect(struct yk_link *l, struct yk_err *err) {
    struct yk_rail *r = l->rail;
    l->since_ns = yk_now_ns();
    if (l->fence == NULL)
        l->fence = yk_fence_new();
    if (l->fence == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    if (r->route->shard->lanes >= r->route->shard->engine->lanes_kept)
        return yk_err_set(err, -YK_ELIMIT, "%u lanes are open", r->route->shard->lanes);
    l->state = YK_LINK_CONNECTING;
    l->strikes = 0;
    int rc = r->xport->ops->connect(r->xport, &r->route->peer->info, &r->desc, l->bulk, &l->lane, err);
    if (rc < 0) {
        l->state = YK_LINK_NONE;
        l->lane = NULL;
        return rc;
    }
    r->route->shard->lanes++;
    l->lane->core = l;
    l->fence->lane = l->lane->id;
    if (l->lane->up)
        link_up(l);
    return 0;
}

/* Others of its rail that carry the same requests are up: bulk ones never take the urgent lane. */
static int one_of_several(const struct yk_link *l) {
    const struct yk_rail *r = l->rail;
    for (uint32_t k = 1; k < r->link_count; k++)
        if (&r->links[k] != l && r->links[k].state == YK_LINK_UP)
            return 1;
    return 0;
}

uint64_t yk_rail_connect_ns(const struct yk_rail *r) {
    uint32_t ms = r->route->shard->engine->opts.connect_ms;
    return (ms > r->desc.connect_ms ? ms : r->desc.connect_ms) * YK_NS_PER_MS;
}

/* Beside others it waits for its next turn: as long as an attempt may take, doubled with each that failed. */
static int may_connect(const struct yk_link *l) {
    uint64_t wait_ns = yk_rail_connect_ns(l->rail);
    return l->state == YK_LINK_NONE &&
           (!l->missed || !one_of_several(l) || yk_now_ns() - l->since_ns >= wait_ns << l->missed);
}

static int is_up(const struct yk_rail *r) {
    for (uint32_t k = 0; k < r->link_count; k++)
        if (r->links[k].state == YK_LINK_UP)
            return 1;
    return 0;
}

static void missed(struct yk_link *l, const char *why) {
    l->missed += l->missed < MISSED_MAX;
    snprintf(l->rail->why, sizeof(l->rail->why), "a lane: %.70s", why);
}

static int for_want(int code) {
    return code == -YK_ELIMIT || code == -YK_ENOMEM;
}

/* Of another rail, and least useful: what has not been used for longest. One that came up only just now waits for what it
 * was dialled for. */
static void look_for_idle(const struct yk_rail *r, const struct yk_rail *wants, uint64_t before_ns,
                          struct yk_link **ret_link) {
    if (r == wants || r->used_ns > before_ns || (*ret_link != NULL && r->used_ns >= (*ret_link)->rail->used_ns))
        return;
    for (uint32_t k = 0; k < r->link_count; k++)
        if (r->links[k].state == YK_LINK_UP && r->links[k].count == 0 && r->links[k].up_ns <= before_ns)
            *ret_link = (struct yk_link *)(uintptr_t)&r->links[k];
}

/* There was no room for a lane of that rail: next time there is, if one lies idle. */
static void make_room(const struct yk_rail *wants) {
    struct yk_shard *s = wants->route->shard;
    struct yk_link *idle = NULL;
    uint64_t now = yk_now_ns(), before_ns = now > s->engine->evict_ns ? now - s->engine->evict_ns : 0;
    for (uint32_t p = 0; p < s->route_cap; p++)
        for (uint32_t i = 0; s->routes[p] != NULL && i < s->routes[p]->rail_count; i++)
            look_for_idle(s->routes[p]->rails[i], wants, before_ns, &idle);
    if (idle != NULL)
        link_dies(idle);
}

void yk_rail_connect(struct yk_rail *r, int bulk) {
    struct yk_err err = {.code = 0};
    r->starved &= is_up(r); /* what was up may have made room for another's */
    for (uint32_t k = bulk ? 1 : 0; k < (bulk ? r->link_count : 1) && !r->starved; k++)
        if (may_connect(&r->links[k]) && link_connect(&r->links[k], &err) < 0) {
            if (for_want(err.code))
                make_room(r);
            r->starved = is_up(r) && for_want(err.code);
            if (r->starved) { /* our own want: what is up goes on */
                snprintf(r->why, sizeof(r->why), "a lane: %.70s", err.text);
                return;
            }
            if (!one_of_several(&r->links[k])) {
                yk_rail_out(r, err.text);
                return;
            }
            missed(&r->links[k], err.text);
        }
}

void yk_link_out(struct yk_link *l, const char *why) {
    uint32_t before = l->missed;
    missed(l, why);
    if (!one_of_several(l))
        l->missed = before; /* a new one is wanted at once */
    l->since_ns = yk_now_ns();
    link_dies(l);
    yk_route_changed(l->rail->route);
}

int yk_link_missed(struct yk_link *l, const char *why) {
    if (l->state != YK_LINK_CONNECTING || !one_of_several(l))
        return 0;
    yk_link_out(l, why);
    return 1;
}

static void narrow(struct yk_rail *r) {
    uint32_t least = least_links(r);
    while (r->link_count > least) {
        struct yk_link *l = &r->links[r->link_count - 1];
        if (l->state == YK_LINK_DEAD || l->count > 0)
            return; /* it, and those before it, next time */
        link_free(l);
        *l = (struct yk_link){.rail = r, .bulk = 1};
        yk_list_init(&l->pieces);
        r->link_count--;
    }
    yk_shard_wide(r->route->shard, -1);
}

void yk_rails_narrow(struct yk_shard *s) {
    uint64_t now = yk_now_ns();
    for (uint32_t p = 0; p < s->route_cap && s->wide > 0; p++) {
        struct yk_route *t = s->routes[p];
        for (uint32_t i = 0; t != NULL && i < t->rail_count; i++) {
            struct yk_rail *r = t->rails[i];
            if (r->link_count > least_links(r) && now >= r->full_ns + s->engine->lanes_idle_ns)
                narrow(r);
        }
    }
}

void yk_rail_beside(struct yk_rail *r, uint64_t now) {
    struct yk_link *l = &r->beside;
    struct yk_err err;
    uint64_t again_ns = r->route->shard->engine->opts.connect_ms * YK_NS_PER_MS;
    if (l->state == YK_LINK_NONE && (l->since_ns == 0 || now >= l->since_ns + again_ns))
        (void)link_connect(l, &err); /* it cannot be: the others are waited for as before */
}

void yk_lane_is_up(struct yk_lane *lane) {
    struct yk_link *l = lane->core;
    struct yk_rail *r = l->rail;
    uint64_t trip_ns = lane->greet_ns != 0 ? lane->greet_ns : (yk_now_ns() - l->since_ns) / 2; /* to connect, to greet */
    if (l->state != YK_LINK_CONNECTING)
        return;
    if (r->trip_ns == 0 || trip_ns < r->trip_ns)
        r->trip_ns = trip_ns;
    if (lane->trip_ns != 0 && (r->path_ns == 0 || lane->trip_ns < r->path_ns))
        r->path_ns = lane->trip_ns;
    l->missed = 0;
    link_up(l);
}

void yk_route_lost(struct yk_route *t, const char *why) {
    __atomic_store_n(&t->peer->gone, 1, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < t->rail_count; i++)
        yk_rail_out(t->rails[i], why);
    yk_fences_void(t); /* what they wait for is gone with the process */
    yk_shard_fail(t->shard, NULL, t->peer, -YK_EGONE);
}

static int any_answered(const struct yk_route *t, uint32_t group) {
    for (uint32_t i = 0; i < t->rail_count; i++)
        if (t->rails[i]->group == group && t->rails[i]->answered)
            return 1;
    return 0;
}

/* Whether strangers answer at all addresses of a transport at which the peer did (before it did at any: at all that
 * there are), and it is not seen over another transport: it has restarted. One of several addresses may just lead
 * elsewhere, and another never have led anywhere. A socket of this host may, too (a container has others at the same
 * path): its name has the incarnation in it, and never is a successor's. */
static int all_say_so(const struct yk_rail *r) {
    const struct yk_route *t = r->route;
    if (r->xport->ops->bit == YK_XFER_SHM)
        return 0;
    int answered = any_answered(t, r->group);
    for (uint32_t i = 0; i < t->rail_count; i++) {
        const struct yk_rail *o = t->rails[i];
        if (o->group == r->group && !o->stranger && (o->answered || !answered))
            return 0;
        for (uint32_t k = 0; k < o->link_count; k++)
            if (o->links[k].state == YK_LINK_UP)
                return 0;
    }
    return 1;
}

/* Several lanes that were dialled together are refused together: that counts once. */
static void be_modest(struct yk_rail *r) {
    uint64_t now = yk_now_ns();
    if (now < r->starved_ns)
        return;
    uint32_t ms = r->modest_ms > 0 ? r->modest_ms : BACKOFF_MIN_MS;
    r->modest_ms = ms * 2 < BACKOFF_MAX_MS ? ms * 2 : BACKOFF_MAX_MS;
    uint64_t ns = ms * YK_NS_PER_MS;
    r->starved_ns = now + ns - ns / 4 + yk_shard_random(r->route->shard) % (ns / 2);
}

/* A lane that did not come up for want of something, while others are up, as where connecting fails of that at once
 * (yk_rail_connect): those go on. */
static int starves(struct yk_link *l, int code, const char *text) {
    struct yk_rail *r = l->rail;
    if (l->state != YK_LINK_CONNECTING || (!for_want(code) && code != -YK_EBUSY) || !is_up(r))
        return 0;
    r->starved = 1;
    if (code == -YK_EBUSY) /* nobody tells when the peer has room again: less and less often */
        be_modest(r);
    snprintf(r->why, sizeof(r->why), "a lane: %.70s", text);
    link_dies(l);
    yk_route_changed(r->route); /* what waited for it goes over the others */
    return 1;
}

void yk_lane_is_down(struct yk_lane *lane, int code, enum yk_scope scope, const char *text) {
    struct yk_link *l = lane->core;
    struct yk_rail *r = l->rail;
    if (l->state == YK_LINK_DEAD)
        return;
    if (l == &r->beside && scope == YK_SCOPE_LANE) {
        link_dies(l);
        return;
    }
    text = text != NULL ? text : yk_status_text(code);
    if (for_want(code))
        make_room(r);
    if (scope == YK_SCOPE_LANE && (yk_link_missed(l, text) || starves(l, code, text)))
        return;
    r->stranger |= scope == YK_SCOPE_RAIL;
    yk_rail_out(r, text);
    if (scope == YK_SCOPE_PEER || (scope == YK_SCOPE_RAIL && all_say_so(r)))
        yk_route_lost(r->route, text);
}

/* ---- rails that fail ------------------------------------------------------------------------------ */

int yk_rail_has_other(const struct yk_rail *r) {
    const struct yk_route *t = r->route;
    uint32_t does = r->desc.caps & (YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_GUARD | YK_RAIL_NOTIFY);
    for (uint32_t i = 0; i < t->rail_count; i++)
        if (t->rails[i] != r && t->rails[i]->state == YK_RAIL_OK && (t->rails[i]->desc.caps & does) == does)
            return 1;
    return 0;
}

static uint32_t dud_ms(const struct yk_rail *r) {
    uint32_t ms = BACKOFF_MAX_MS;
    for (uint32_t i = 1; i < r->duds && ms < DUD_MAX_MS; i++)
        ms *= 2;
    return r->duds > 1 && yk_rail_has_other(r) ? ms : 0;
}

void yk_rail_out(struct yk_rail *r, const char *why) {
    struct yk_shard *s = r->route->shard;
    r->duds += is_up(r) && r->state == YK_RAIL_OK;
    for (uint32_t k = 0; k < r->link_count; k++)
        link_dies(&r->links[k]);
    link_dies(&r->beside);
    yk_route_changed(r->route);
    snprintf(r->why, sizeof(r->why), "%s", why != NULL ? why : "");
    r->starved = 0; /* nothing of it is up any more */
    r->starved_ns = 0;
    if (r->state == YK_RAIL_OUT)
        return;
    r->state = YK_RAIL_OUT;
    yk_ways_failed(r->route);
    uint32_t ms = r->backoff_ms > 0 ? r->backoff_ms : BACKOFF_MIN_MS;
    int only = r->backoff_ms == 0 && !yk_rail_has_other(r);
    r->backoff_ms = ms * 2 < BACKOFF_MAX_MS ? ms * 2 : BACKOFF_MAX_MS;
    ms = dud_ms(r) > ms ? dud_ms(r) : ms;
    ms = only ? 1 : ms; /* the only one, and it worked so far: a connection broke while idle, say */
    uint64_t ns = ms * YK_NS_PER_MS; /* a quarter more or less, so that many do not come at once */
    ns = ns - ns / 4 + yk_shard_random(s) % (ns / 2);
    (void)yk_loop_timer(s->loop, &r->retry, yk_now_ns() + ns);
}

/* A fresh lane tells whether it is back; with nothing to do, the next request will. */
void yk_rail_retry(struct yk_rail *r) {
    struct yk_shard *s = r->route->shard;
    (void)yk_loop_timer(s->loop, &r->retry, 0);
    if (r->gone_ns != 0)
        return; /* tried when it is back */
    yk_route_changed(r->route);
    if (r->state != YK_RAIL_OUT || r->route->peer->gone)
        return;
    if (s->dead_links > 0)
        yk_rails_reap(s);
    if (r->route->work == 0) {
        r->state = YK_RAIL_OK;
        return;
    }
    r->state = YK_RAIL_TRYING;
    yk_rail_connect(r, 1);
}

static void retry_due(struct yk_timer *timer) {
    yk_rail_retry(timer->user);
}

/* Its slices end in disconnect; those that may have touched the target are in the fence then. */
static void reap(struct yk_shard *s, struct yk_route *t, struct yk_link *l) {
    hang_up(l);
    l->state = YK_LINK_NONE;
    l->dirty = 0;
    s->dead_links--;
    if (l->fence == NULL || yk_list_empty(&l->fence->held))
        return;
    struct yk_fence *f = l->fence;
    l->fence = NULL;
    yk_list_add(&t->fences, &f->link);
    if (t->peer->gone)
        yk_fence_done(f, t, 0, YK_SCOPE_NONE);
}

void yk_rails_reap(struct yk_shard *s) {
    for (uint32_t p = 0; p < s->route_cap && s->dead_links > 0; p++) {
        struct yk_route *t = s->routes[p];
        for (uint32_t i = 0; t != NULL && i < t->rail_count; i++) {
            struct yk_rail *r = t->rails[i];
            for (uint32_t k = 0; k < r->link_count; k++)
                if (r->links[k].state == YK_LINK_DEAD)
                    reap(s, t, &r->links[k]);
            if (r->beside.state == YK_LINK_DEAD)
                reap(s, t, &r->beside);
            else if (r->beside.state == YK_LINK_UP)
                move_in(r);
        }
    }
}
