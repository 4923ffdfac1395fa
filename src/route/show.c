/* SPDX-License-Identifier: Apache-2.0
 *
 * What the router knows, as JSON: each instance with its last report, and what was learned of it.
 */
#include "route/routes_priv.h"

#include "base/json.h"

#define JSON_MAX (16u << 20)

static void put_curve(struct yk_json *j, const char *key, const struct yk_cost_curve *curve) {
    yk_json_key(j, key);
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < YK_COST_FEATURES; i++)
        yk_json_double(j, curve->theta[i]);
    yk_json_end_array(j);
}

static void put_learned(struct yk_json *j, const struct yk_router_learned *l) {
    put_curve(j, "queue_s", &l->queue);
    put_curve(j, "transfer_s", &l->transfer);
    put_curve(j, "compute_s", &l->compute);
    yk_json_put_double(j, "worse_ratio", l->worse_ratio);
    yk_json_put_double(j, "believed", l->believed);
    yk_json_put_uint(j, "outcomes", l->outcomes);
    yk_json_put_uint(j, "in_flight", l->in_flight);
}

static void put_events(struct yk_json *j, const struct yk_routes *r, const struct routes_holder *h) {
    struct yk_feed_stats s;
    if (!h->has_feed || yk_feeds_stats(r->feeds, h->feed, &s) != 0)
        return;
    yk_json_key(j, "events");
    yk_json_begin_object(j);
    yk_json_put_str(j, "endpoint", h->endpoint);
    yk_json_put_uint(j, "batches", s.batches);
    yk_json_put_uint(j, "blocks", s.blocks);
    yk_json_put_uint(j, "gaps", s.gaps);
    yk_json_put_uint(j, "replayed", s.replayed);
    yk_json_put_uint(j, "lost", s.lost);
    yk_json_put_uint(j, "malformed", s.malformed);
    yk_json_put_uint(j, "restarts", s.restarts);
    yk_json_end_object(j);
}

static void put_holder(struct yk_json *j, const struct yk_routes *r, uint32_t at, uint64_t now_ms) {
    const struct routes_holder *h = &r->holders[at];
    struct yk_router_learned learned;
    yk_json_begin_object(j);
    yk_json_put_str(j, "name", h->name);
    yk_json_put_str(j, "zone", h->zone);
    yk_json_put_str(j, "node", h->node);
    yk_json_put_bool(j, "serves", h->has_load && (h->flags & YK_ROUTE_STORE) == 0);
    yk_json_put_bool(j, "refuses", (h->flags & YK_ROUTE_REFUSES) != 0);
    yk_json_put_bool(j, "shares", (h->flags & (YK_ROUTE_SHARES | YK_ROUTE_STORE)) != 0);
    yk_json_put_uint(j, "blocks", yk_where_count(r->where, at));
    if (h->has_load) {
        yk_json_put_uint(j, "report_age_ms", now_ms - h->reported_ms);
        yk_json_put_uint(j, "waiting", h->waiting);
        yk_json_put_uint(j, "running", h->running);
        yk_json_put_uint(j, "waiting_tokens", h->waiting_tokens);
    }
    if (yk_router_learned(r->router, at, &learned) == 0)
        put_learned(j, &learned);
    put_events(j, r, h);
    yk_json_end_object(j);
}

/* Under the lock. */
static void put_all(struct yk_json *j, struct yk_routes *r) {
    struct yk_router_learned learned;
    uint64_t now_ms = routes_now_ms();
    yk_json_begin_object(j);
    yk_json_put_uint(j, "blocks", yk_where_count(r->where, YK_WHERE_ALL));
    if (yk_router_learned(r->router, YK_ROUTER_NOBODY, &learned) == 0) {
        yk_json_key(j, "all");
        yk_json_begin_object(j);
        put_learned(j, &learned);
        yk_json_end_object(j);
    }
    yk_json_key(j, "instances");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < r->n; i++)
        if (r->holders[i].name[0] != '\0' && !r->holders[i].leaving)
            put_holder(j, r, i, now_ms);
    yk_json_end_array(j);
    yk_json_end_object(j);
}

int yk_route_json(yk_routes *r, char **ret_json) {
    struct yk_buf buf;
    struct yk_json j;
    yk_buf_init(&buf, JSON_MAX);
    yk_json_init_buf(&j, &buf);
    pthread_mutex_lock(&r->lock);
    put_all(&j, r);
    pthread_mutex_unlock(&r->lock);
    if (yk_json_finish(&j) < 0) {
        yk_buf_fini(&buf);
        return routes_fail(-YK_ENOMEM, "out of memory");
    }
    *ret_json = buf.data;
    return 0;
}
