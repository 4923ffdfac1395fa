/* SPDX-License-Identifier: Apache-2.0
 *
 * The router's figures: a copy of its counts, and how it stands.
 *
 * Who shows them may not be held up, so there is a limit to how long the lock is waited for.
 */
#include "route/routes_priv.h"

#include "base/clock.h"
#include "base/sized.h"

#include <string.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

/* As routes_lock, until then. By the clock that is set: should it jump, the lock is held for less than a millisecond
 * anyway. */
static bool lock_until(struct yk_routes *r, uint32_t wait_ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + wait_ms * YK_NS_PER_MS;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    if (pthread_mutex_timedlock(&r->next, &until) != 0)
        return false;
    bool locked = pthread_mutex_timedlock(&r->lock, &until) == 0;
    pthread_mutex_unlock(&r->next);
    return locked;
}

static yk_route_error error_of(const struct yk_routes *r, enum yk_router_part part) {
    struct yk_router_error e;
    yk_router_error(r->router, part, &e);
    return (yk_route_error){e.outcomes, e.mean, e.p90};
}

static void count_holders(const struct yk_routes *r, uint64_t now_ms, yk_route_figures *f) {
    for (uint32_t i = 0; i < r->n; i++) {
        const struct routes_holder *h = &r->holders[i];
        if (h->name[0] == '\0' || h->leaving)
            continue;
        bool serves = h->has_load && (h->flags & YK_ROUTE_STORE) == 0;
        f->instances += serves;
        f->others += !serves;
        f->nodes += routes_measures(h, now_ms);
        f->silent += serves && now_ms > h->reported_ms && now_ms - h->reported_ms > r->silent_ms;
        f->feeds += h->has_feed;
    }
}

static void copy_counts(const struct routes_counts *c, yk_route_figures *f) {
    f->asked = c->asked;
    f->admitted = c->admitted;
    f->late_queue = c->late_queue;
    f->late_work = c->late_work;
    f->unknown = c->unknown;
    f->refused = c->refused;
    f->taken = c->taken;
    f->thrifty = c->thrifty;
    f->drawn = c->drawn;
    f->hot = c->hot;
    f->replicate = c->replicate;
    f->outcomes = c->outcomes;
    f->strays = c->strays;
    f->dropped = c->dropped;
}

static void copy_events(const struct yk_routes *r, yk_route_figures *f) {
    struct yk_feed_stats s;
    yk_feeds_total(r->feeds, &s);
    f->batches = s.batches;
    f->event_blocks = s.blocks;
    f->gaps = s.gaps;
    f->missed = s.missed;
    f->replayed = s.replayed;
    f->lost = s.lost;
    f->malformed = s.malformed;
    f->restarts = s.restarts;
}

void routes_figures(const struct yk_routes *r, yk_route_figures *f) {
    uint64_t now_ms = routes_now_ms();
    *f = (yk_route_figures){.size = sizeof(*f)};
    count_holders(r, now_ms, f);
    copy_counts(&r->counts, f);
    copy_events(r, f);
    f->forgotten = r->forgotten;
    f->blocks = yk_where_count(r->where, YK_WHERE_ALL);
    f->open = yk_router_open(r->router);
    f->hot_chains = yk_router_hot_chains(r->router, now_ms);
    f->queue = error_of(r, YK_ROUTER_QUEUE);
    f->transfer = error_of(r, YK_ROUTER_TRANSFER);
    f->compute = error_of(r, YK_ROUTER_COMPUTE);
    f->ttft = error_of(r, YK_ROUTER_TTFT);
}

int yk_route_figures_get(yk_routes *r, uint32_t wait_ms, yk_route_figures *ret) {
    yk_route_figures f;
    if (!lock_until(r, wait_ms))
        return routes_fail(-YK_EAGAIN, "the router was busy for %u ms", wait_ms);
    routes_figures(r, &f);
    routes_unlock(r);
    f.size = ret->size;
    yk_sized_copy(ret, f.size, &f, sizeof(f));
    return 0;
}
