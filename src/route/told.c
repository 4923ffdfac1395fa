/* SPDX-License-Identifier: Apache-2.0
 *
 * Who has what, as it is told: by calls, and by engines' KV events (events/feeds.h), whose thread calls the sinks.
 *
 * What is told may be long, and others wait for the lock: it is entered in pieces of about PIECE_STEPS looks at the
 * table, half a millisecond at worst, and between two of them whoever waits has his turn (routes_lock). So a million
 * blocks that are told at once, an engine that floods, and one that leaves with half of the table hold up nobody.
 * Between pieces the table is half of one thing and half of the other, as it is between two events.
 */
#include "route/routes_priv.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>

uint64_t yk_route_hash(const void *data, size_t len) {
    return yk_hash64(data, len);
}

#define PIECE_STEPS 4096u

/* ---- pieces ---- */

/* Others' turn. Is the holder still the one that it was? */
static bool go_on(yk_routes *r, const struct routes_holder *h, uint64_t born) {
    routes_unlock(r);
    routes_lock(r);
    return h->born == born;
}

/* Under the lock, of which it lets go between pieces. What is entered meanwhile may stay. */
void routes_clear(yk_routes *r, uint32_t at) {
    uint64_t born = r->holders[at].born;
    uint32_t left = yk_where_count(r->where, at);
    while (left > 0) {
        uint32_t before = yk_where_count(r->where, at), after = yk_where_clear(r->where, at, PIECE_STEPS);
        uint32_t gone = before - after;
        left = gone < left && after > 0 ? left - gone : 0;
        if (left > 0 && !go_on(r, &r->holders[at], born))
            return;
    }
}

/* ---- by calls ---- */

/* Under the lock, of which it may let go. */
static int tell(yk_routes *r, const char *name, unsigned tier, uint32_t *ret_at) {
    if (tier >= YK_WHERE_TIERS)
        return routes_fail(-YK_EINVAL, "tier: found %u, expected 0, 1 or 2", tier);
    int rc = routes_make(r, name, ret_at);
    if (rc == 0 && !r->holders[*ret_at].told) {
        r->holders[*ret_at].told = true;
        routes_clear(r, *ret_at); /* what was assumed */
        rc = routes_make(r, name, ret_at);
    }
    return rc;
}

static int one(struct yk_where *w, bool stored, uint32_t at, uint64_t block, unsigned tier) {
    return stored ? yk_where_add(w, at, block, (enum yk_where_tier)tier)
                  : yk_where_remove(w, at, block, (enum yk_where_tier)tier);
}

/* As many as a piece has, from *i on. */
static void piece(struct yk_where *w, bool stored, uint32_t at, unsigned tier, const uint64_t *blocks, size_t n, size_t *i) {
    uint64_t until = yk_where_steps(w) + PIECE_STEPS;
    while (*i < n && yk_where_steps(w) < until)
        one(w, stored, at, blocks[(*i)++], tier);
}

static int tell_all(yk_routes *r, bool stored, const char *name, unsigned tier, const uint64_t *blocks, size_t n) {
    uint32_t at;
    size_t i = 0;
    routes_lock(r);
    int rc = tell(r, name, tier, &at);
    while (rc == 0 && i < n) {
        piece(r->where, stored, at, tier, blocks, n, &i);
        if (i < n && (!go_on(r, &r->holders[at], r->holders[at].born) || r->holders[at].leaving))
            break;
    }
    routes_unlock(r);
    return rc;
}

int yk_route_stored(yk_routes *r, const char *name, unsigned tier, const uint64_t *blocks, size_t n) {
    return tell_all(r, true, name, tier, blocks, n);
}

int yk_route_removed(yk_routes *r, const char *name, unsigned tier, const uint64_t *blocks, size_t n) {
    return tell_all(r, false, name, tier, blocks, n);
}

int yk_route_cleared(yk_routes *r, const char *name) {
    routes_lock(r);
    uint32_t at = routes_find(r, name);
    if (at != ROUTES_NONE) {
        routes_recent_forget(r, at);
        routes_clear(r, at);
    }
    routes_unlock(r);
    return at != ROUTES_NONE ? 0 : YK_MISS;
}

/* ---- engines' events ---- */

static uint32_t number_of(const struct routes_holder *h) {
    return (uint32_t)(h - h->routes->holders);
}

static const enum yk_where_tier tier_of[] = {
    [YK_KV_GPU] = YK_WHERE_VRAM, [YK_KV_CPU] = YK_WHERE_DRAM, [YK_KV_OTHER] = YK_WHERE_SSD,
};

/* The thread of events keeps what it is told until a few hundred are together: a lock for each would be most of the
 * work. */
static void enter(struct routes_holder *h) {
    struct yk_routes *r = h->routes;
    struct routes_events *e = &r->events;
    for (uint32_t i = 0; i < e->n;) {
        routes_lock(r);
        h->seen_ms = routes_now_ms();
        uint64_t until = yk_where_steps(r->where) + PIECE_STEPS;
        for (; i < e->n && yk_where_steps(r->where) < until; i++)
            one(r->where, e->stored[i], number_of(h), e->blocks[i], e->tiers[i]);
        routes_unlock(r);
    }
    e->n = 0;
}

static void note(struct routes_holder *h, bool is_stored, uint64_t block, enum yk_kv_medium medium) {
    struct routes_events *e = &h->routes->events;
    e->blocks[e->n] = block;
    e->tiers[e->n] = (uint8_t)tier_of[medium];
    e->stored[e->n] = is_stored;
    if (++e->n == ROUTES_EVENTS)
        enter(h);
}

static void stored(void *arg, uint64_t block, enum yk_kv_medium medium, uint32_t block_tokens) {
    note(arg, true, block, medium);
}

static void removed(void *arg, uint64_t block, enum yk_kv_medium medium) {
    note(arg, false, block, medium);
}

static void cleared(void *arg) {
    struct routes_holder *h = arg;
    enter(h);
    routes_lock(h->routes);
    routes_recent_forget(h->routes, number_of(h));
    routes_clear(h->routes, number_of(h));
    routes_unlock(h->routes);
}

static void ended(void *arg) {
    enter(arg);
}

/* Under both locks, of which it lets go of the inner one. */
static void unsubscribe(yk_routes *r, uint32_t at) {
    uint32_t feed = r->holders[at].feed;
    routes_unlock(r);
    yk_feeds_remove(r->feeds, feed);
    routes_lock(r);
    r->holders[at].has_feed = false;
    routes_clear(r, at);
}

/* Under both locks, of which it may let go of the inner one. */
static int subscribe(yk_routes *r, uint32_t at, const char *endpoint, const char *replay, const char *topic) {
    struct routes_holder *h = &r->holders[at];
    struct yk_err err = {0};
    struct yk_feed_opts opts = {.endpoint = endpoint, .replay = replay, .topic = topic,
                                .sink = {stored, removed, cleared, ended, h}, .lost = cleared};
    int rc = yk_feeds_look(&opts, &err);
    if (rc == 0 && h->has_feed)
        unsubscribe(r, at); /* not before: an address that is none leaves the one there is */
    if (rc == 0)
        routes_clear(r, at); /* what was assumed */
    if (rc == 0)
        rc = yk_feeds_add(r->feeds, &opts, &h->feed, &err);
    if (rc < 0)
        return routes_fail(rc, "%s", err.text);
    snprintf(h->endpoint, sizeof(h->endpoint), "%s", endpoint);
    h->has_feed = h->told = true;
    return 0;
}

int yk_route_events(yk_routes *r, const char *name, const char *endpoint, const char *replay, const char *topic) {
    uint32_t at;
    pthread_mutex_lock(&r->control);
    routes_lock(r);
    int rc = endpoint != NULL ? routes_make(r, name, &at) : routes_fail(-YK_EINVAL, "an endpoint is wanted");
    if (rc == 0 && (!r->holders[at].has_feed || strcmp(r->holders[at].endpoint, endpoint) != 0))
        rc = subscribe(r, at, endpoint, replay, topic);
    routes_unlock(r);
    pthread_mutex_unlock(&r->control);
    return rc;
}
