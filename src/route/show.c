/* SPDX-License-Identifier: Apache-2.0
 *
 * What the router knows, as JSON: each instance with its last report, and what was learned of it.
 */
#include "route/routes_priv.h"

#include "base/json.h"

#define JSON_MAX (16u << 20)
#define PIECE    32u /* instances for each turn of the lock */

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

static void put_measured(struct yk_json *j, const struct routes_holder *h, uint64_t now_ms) {
    const yk_route_node_report *m = &h->measured;
    if (!h->is_node)
        return;
    yk_json_key(j, "measured");
    yk_json_begin_object(j);
    yk_json_put_uint(j, "age_ms", now_ms - h->measured_ms);
    yk_json_put_double(j, "near_bytes_per_s", m->near_bytes_per_s);
    yk_json_put_double(j, "far_bytes_per_s", m->far_bytes_per_s);
    yk_json_put_double(j, "in_load", m->in_load);
    yk_json_put_double(j, "out_load", m->out_load);
    yk_json_put_double(j, "ssd_bytes_per_s", m->ssd_bytes_per_s);
    yk_json_put_double(j, "ssd_latency_ms", m->ssd_latency_ms);
    yk_json_put_uint(j, "ssd_reads", m->ssd_reads);
    yk_json_put_uint(j, "dram_bytes", m->dram_bytes);
    yk_json_put_uint(j, "dram_free_bytes", m->dram_free_bytes);
    yk_json_put_uint(j, "ssd_bytes", m->ssd_bytes);
    yk_json_put_uint(j, "ssd_free_bytes", m->ssd_free_bytes);
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
    put_measured(j, h, now_ms);
    put_events(j, r, h);
    yk_json_end_object(j);
}

static void put_error(struct yk_json *j, const char *key, const yk_route_error *e) {
    yk_json_key(j, key);
    yk_json_begin_object(j);
    yk_json_put_uint(j, "outcomes", e->outcomes);
    yk_json_put_double(j, "mean", e->mean);
    yk_json_put_double(j, "p90", e->p90);
    yk_json_end_object(j);
}

static void put_errors(struct yk_json *j, const yk_route_figures *f) {
    yk_json_key(j, "error");
    yk_json_begin_object(j);
    put_error(j, "queue", &f->queue);
    put_error(j, "transfer", &f->transfer);
    put_error(j, "compute", &f->compute);
    put_error(j, "ttft", &f->ttft);
    yk_json_end_object(j);
}

#define PUT(j, f, field) yk_json_put_uint(j, #field, (f)->field)

static void put_figures(struct yk_json *j, const yk_route_figures *f) {
    yk_json_key(j, "figures");
    yk_json_begin_object(j);
    PUT(j, f, instances);
    PUT(j, f, silent);
    PUT(j, f, others);
    PUT(j, f, nodes);
    PUT(j, f, blocks);
    PUT(j, f, open);
    PUT(j, f, hot_chains);
    PUT(j, f, forgotten);
    PUT(j, f, asked);
    PUT(j, f, admitted);
    PUT(j, f, late_queue);
    PUT(j, f, late_work);
    PUT(j, f, unknown);
    PUT(j, f, refused);
    PUT(j, f, taken);
    PUT(j, f, thrifty);
    PUT(j, f, drawn);
    PUT(j, f, hot);
    PUT(j, f, replicate);
    PUT(j, f, outcomes);
    PUT(j, f, strays);
    PUT(j, f, dropped);
    put_errors(j, f);
    PUT(j, f, feeds);
    PUT(j, f, batches);
    PUT(j, f, event_blocks);
    PUT(j, f, gaps);
    PUT(j, f, missed);
    PUT(j, f, replayed);
    PUT(j, f, lost);
    PUT(j, f, malformed);
    PUT(j, f, restarts);
    yk_json_end_object(j);
}

/* Under the lock. */
static void put_common(struct yk_json *j, const struct yk_routes *r) {
    struct yk_router_learned learned;
    yk_route_figures f;
    routes_figures(r, &f);
    yk_json_put_uint(j, "blocks", f.blocks);
    put_figures(j, &f);
    if (yk_router_learned(r->router, YK_ROUTER_NOBODY, &learned) == 0) {
        yk_json_key(j, "all");
        yk_json_begin_object(j);
        put_learned(j, &learned);
        yk_json_end_object(j);
    }
}

/* Under the lock, of which it lets go after a few: of thousands it takes milliseconds. */
static void put_holders(struct yk_json *j, struct yk_routes *r) {
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->holders[i].name[0] != '\0' && !r->holders[i].leaving)
            put_holder(j, r, i, routes_now_ms());
        if (i % PIECE == PIECE - 1) {
            routes_unlock(r);
            routes_lock(r);
        }
    }
}

int yk_route_json(yk_routes *r, char **ret_json) {
    struct yk_buf buf;
    struct yk_json j;
    yk_buf_init(&buf, JSON_MAX);
    yk_json_init_buf(&j, &buf);
    yk_json_begin_object(&j);
    routes_lock(r);
    put_common(&j, r);
    yk_json_key(&j, "instances");
    yk_json_begin_array(&j);
    put_holders(&j, r);
    routes_unlock(r);
    yk_json_end_array(&j);
    yk_json_end_object(&j);
    if (yk_json_finish(&j) < 0) {
        yk_buf_fini(&buf);
        return routes_fail(-YK_ENOMEM, "out of memory");
    }
    *ret_json = buf.data;
    return 0;
}
