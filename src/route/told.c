/* SPDX-License-Identifier: Apache-2.0
 *
 * Who has what, as it is told: by calls, and by engines' KV events (events/feeds.h), whose thread calls the sinks.
 */
#include "route/routes_priv.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>

uint64_t yk_route_hash(const void *data, size_t len) {
    return yk_hash64(data, len);
}

/* Under the lock. */
static int tell(yk_routes *r, const char *name, unsigned tier, uint32_t *ret_at) {
    if (tier >= YK_WHERE_TIERS)
        return routes_fail(-YK_EINVAL, "tier: found %u, expected 0, 1 or 2", tier);
    int rc = routes_make(r, name, ret_at);
    if (rc == 0 && !r->holders[*ret_at].told) {
        yk_where_clear(r->where, *ret_at); /* what was assumed */
        r->holders[*ret_at].told = true;
    }
    return rc;
}

int yk_route_stored(yk_routes *r, const char *name, unsigned tier, const uint64_t *blocks, size_t n) {
    uint32_t at;
    pthread_mutex_lock(&r->lock);
    int rc = tell(r, name, tier, &at);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = yk_where_add(r->where, at, blocks[i], (enum yk_where_tier)tier);
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int yk_route_removed(yk_routes *r, const char *name, unsigned tier, const uint64_t *blocks, size_t n) {
    uint32_t at;
    pthread_mutex_lock(&r->lock);
    int rc = tell(r, name, tier, &at);
    for (size_t i = 0; i < n && rc == 0; i++)
        yk_where_remove(r->where, at, blocks[i], (enum yk_where_tier)tier);
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int yk_route_cleared(yk_routes *r, const char *name) {
    pthread_mutex_lock(&r->lock);
    uint32_t at = routes_find(r, name);
    if (at != ROUTES_NONE) {
        yk_where_clear(r->where, at);
        routes_recent_forget(r, at);
    }
    pthread_mutex_unlock(&r->lock);
    return at != ROUTES_NONE ? 0 : YK_MISS;
}

/* ---- engines' events ---- */

static uint32_t number_of(const struct routes_holder *h) {
    return (uint32_t)(h - h->routes->holders);
}

static const enum yk_where_tier tier_of[] = {
    [YK_KV_GPU] = YK_WHERE_VRAM, [YK_KV_CPU] = YK_WHERE_DRAM, [YK_KV_OTHER] = YK_WHERE_SSD,
};

static void stored(void *arg, uint64_t block, enum yk_kv_medium medium, uint32_t block_tokens) {
    struct routes_holder *h = arg;
    pthread_mutex_lock(&h->routes->lock);
    h->seen_ms = routes_now_ms();
    yk_where_add(h->routes->where, number_of(h), block, tier_of[medium]);
    pthread_mutex_unlock(&h->routes->lock);
}

static void removed(void *arg, uint64_t block, enum yk_kv_medium medium) {
    struct routes_holder *h = arg;
    pthread_mutex_lock(&h->routes->lock);
    h->seen_ms = routes_now_ms();
    yk_where_remove(h->routes->where, number_of(h), block, tier_of[medium]);
    pthread_mutex_unlock(&h->routes->lock);
}

static void cleared(void *arg) {
    struct routes_holder *h = arg;
    pthread_mutex_lock(&h->routes->lock);
    yk_where_clear(h->routes->where, number_of(h));
    routes_recent_forget(h->routes, number_of(h));
    pthread_mutex_unlock(&h->routes->lock);
}

/* Under both locks, of which it lets go of one. */
static void unsubscribe(yk_routes *r, uint32_t at) {
    uint32_t feed = r->holders[at].feed;
    pthread_mutex_unlock(&r->lock);
    yk_feeds_remove(r->feeds, feed);
    pthread_mutex_lock(&r->lock);
    r->holders[at].has_feed = false;
    yk_where_clear(r->where, at);
}

/* Under both locks, of which it may let go of one. */
static int subscribe(yk_routes *r, uint32_t at, const char *endpoint, const char *replay, const char *topic) {
    struct routes_holder *h = &r->holders[at];
    struct yk_err err = {0};
    struct yk_feed_opts opts = {.endpoint = endpoint, .replay = replay, .topic = topic,
                                .sink = {stored, removed, cleared, h}, .lost = cleared};
    int rc = yk_feeds_look(&opts, &err);
    if (rc == 0 && h->has_feed)
        unsubscribe(r, at); /* not before: an address that is none leaves the one there is */
    if (rc == 0)
        rc = yk_feeds_add(r->feeds, &opts, &h->feed, &err);
    if (rc < 0)
        return routes_fail(rc, "%s", err.text);
    snprintf(h->endpoint, sizeof(h->endpoint), "%s", endpoint);
    yk_where_clear(r->where, at);
    h->has_feed = h->told = true;
    return 0;
}

int yk_route_events(yk_routes *r, const char *name, const char *endpoint, const char *replay, const char *topic) {
    uint32_t at;
    pthread_mutex_lock(&r->control);
    pthread_mutex_lock(&r->lock);
    int rc = endpoint != NULL ? routes_make(r, name, &at) : routes_fail(-YK_EINVAL, "an endpoint is wanted");
    if (rc == 0 && (!r->holders[at].has_feed || strcmp(r->holders[at].endpoint, endpoint) != 0))
        rc = subscribe(r, at, endpoint, replay, topic);
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_unlock(&r->control);
    return rc;
}
