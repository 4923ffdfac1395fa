/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of links and SSDs: what an engine reports, else what the node of its host has measured, else what the
 * header (yolk/route.h) says. Of a transfer between two nodes both ends count: the slower, and the busier.
 *
 * Thread: under the router's lock.
 */
#include "route/routes_priv.h"

#include <math.h>
#include <string.h>

#define FAR_S      0.5e9   /* in place of the router's own, which is of a near link, */
#define NEAR_S     2e9     /* and is this */
#define FRESH_MS   30000u  /* what was measured before that says nothing */

bool routes_measures(const struct routes_holder *h, uint64_t now_ms) {
    return h->is_node && (now_ms <= h->measured_ms || now_ms - h->measured_ms <= FRESH_MS);
}

/* Of a node, or of the node of an engine's host; NULL: nothing is measured. */
static const yk_route_node_report *measured(const struct yk_routes *r, uint32_t at) {
    const struct routes_holder *h = &r->holders[at];
    uint64_t now_ms = routes_now_ms();
    if (routes_measures(h, now_ms))
        return &h->measured;
    return h->node_at != ROUTES_NONE && routes_measures(&r->holders[h->node_at], now_ms) ? &r->holders[h->node_at].measured : NULL;
}

static double first_of(double a, double b) {
    return a > 0 ? a : b;
}

struct routes_cost routes_cost_dram(const struct yk_routes *r, uint32_t at) {
    return (struct routes_cost){.bytes_s = r->holders[at].dram_s};
}

struct routes_cost routes_cost_ssd(const struct yk_routes *r, uint32_t at) {
    const yk_route_node_report *m = measured(r, at);
    struct routes_cost c = {.bytes_s = r->holders[at].ssd_s};
    if (m != NULL) {
        c.bytes_s = first_of(c.bytes_s, m->ssd_bytes_per_s);
        c.latency_s = m->ssd_latency_ms / 1e3;
    }
    return c;
}

struct routes_cost routes_cost_peer(const struct yk_routes *r, uint32_t at, uint32_t peer, bool from_ssd) {
    const struct routes_holder *own = &r->holders[at];
    const yk_route_node_report *here = measured(r, at), *there = measured(r, peer);
    bool near = routes_zone_of(r, at) == routes_zone_of(r, peer);
    struct routes_cost c = {.bytes_s = near ? own->peer_s : own->far_s, .load = own->network_load};
    if (here != NULL) {
        c.bytes_s = first_of(c.bytes_s, near ? here->near_bytes_per_s : here->far_bytes_per_s);
        c.load = fmax(c.load, here->in_load);
    }
    c.bytes_s = first_of(c.bytes_s, near ? NEAR_S : FAR_S);
    if (there != NULL)
        c.load = fmax(c.load, there->out_load);
    if (there != NULL && from_ssd) {
        c.latency_s = there->ssd_latency_ms / 1e3;
        c.bytes_s = there->ssd_bytes_per_s > 0 ? fmin(c.bytes_s, there->ssd_bytes_per_s) : c.bytes_s;
    }
    return c;
}

/* ---- reports ---- */

static double sane(double value, double most) {
    return value > 0 && isfinite(value) ? fmin(value, most) : 0;
}

static void set_measured(struct routes_holder *h, const yk_route_node_report *p) {
    h->is_node = true;
    h->measured_ms = routes_now_ms();
    h->measured = *p;
    h->measured.name = h->measured.zone = NULL;
    h->measured.near_bytes_per_s = sane(p->near_bytes_per_s, INFINITY);
    h->measured.far_bytes_per_s = sane(p->far_bytes_per_s, INFINITY);
    h->measured.in_load = sane(p->in_load, 1);
    h->measured.out_load = sane(p->out_load, 1);
    h->measured.ssd_bytes_per_s = sane(p->ssd_bytes_per_s, INFINITY);
    h->measured.ssd_latency_ms = sane(p->ssd_latency_ms, 60000);
    if (!h->has_load)
        h->flags |= YK_ROUTE_SHARES;
}

int yk_route_node(yk_routes *r, const yk_route_node_report *report) {
    yk_route_node_report p = {.size = sizeof(p)};
    uint32_t at;
    int rc = routes_take(report, report->size, &p, sizeof(p), "yk_route_node_report");
    if (rc < 0)
        return rc;
    if (p.zone != NULL && p.zone[0] != '\0' && !routes_is_name(p.zone))
        return routes_fail(-YK_EINVAL, "zone: a name has 1 to %u bytes and no control characters", YK_ROUTE_NAME_MAX);
    routes_lock(r);
    rc = routes_make(r, p.name, &at);
    if (rc == 0 && p.zone != NULL) {
        memset(r->holders[at].zone, 0, sizeof(r->holders[at].zone));
        memcpy(r->holders[at].zone, p.zone, strlen(p.zone));
        routes_set_zone(&r->holders[at]);
    }
    if (rc == 0)
        set_measured(&r->holders[at], &p);
    routes_unlock(r);
    return rc;
}

int yk_route_node_of(yk_routes *r, const char *name, char ret_node[YK_ROUTE_NAME_MAX + 1]) {
    routes_lock(r);
    uint32_t at = routes_find(r, name);
    bool has = at != ROUTES_NONE && r->holders[at].node[0] != '\0';
    if (has)
        memcpy(ret_node, r->holders[at].node, sizeof(r->holders[at].node));
    routes_unlock(r);
    return has ? 0 : YK_MISS;
}
