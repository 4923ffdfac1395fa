/* SPDX-License-Identifier: Apache-2.0
 *
 * The router's handle: life, holders, load reports (routes_priv.h).
 */
#include "route/routes_priv.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/sized.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define INSTANCES   1024u
#define BLOCKS      (1u << 20)
#define SILENT_MS   10000u
#define FORGET_MS   600000u
#define FLOPS_S     2e14
#define START_S     0.01 /* of a prefill, before anything is known */
#define ROOM_STEPS  4096u /* of an old holder's blocks, for one newcomer */

static _Thread_local struct yk_err last;

uint64_t routes_now_ms(void) {
    return yk_now_ns() / YK_NS_PER_MS;
}

int routes_fail(int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    last.code = code;
    vsnprintf(last.text, sizeof(last.text), fmt, ap);
    va_end(ap);
    return code;
}

int routes_take(const void *from, uint32_t size, void *to, size_t known, const char *what) {
    if (size > 4096 || yk_sized_has_more(from, size, known))
        return routes_fail(-YK_ENOTSUP, "%s: fields beyond the first %zu bytes are set", what, known);
    memcpy(to, from, size < known ? size : known);
    return 0;
}

const char *yk_route_error_text(void) {
    return last.text;
}

/* ---- life ---- */

static int make_router(struct yk_routes *r, const yk_route_opts *o) {
    const struct yk_cost_shape *shape = yk_cost_shape_find(o->model != NULL ? o->model : yk_cost_shapes()->name);
    struct yk_router_opts opts = {.nodes_max = r->holders_max, .seed = o->seed, .quantile = o->quantile,
                                  .overlap = o->overlap, .silent_ms = r->silent_ms};
    if (shape == NULL)
        return routes_fail(-YK_EINVAL, "model: found '%.40s', expected 8b, 70b or moe", o->model);
    if (!(o->flops_per_s >= 0) || !isfinite(o->flops_per_s))
        return routes_fail(-YK_EINVAL, "flops_per_s is no number above 0");
    yk_cost_compute_prior(shape, o->flops_per_s > 0 ? o->flops_per_s : FLOPS_S, START_S, &opts.compute);
    r->kv_bytes_per_token = shape->kv_bytes_per_token;
    int rc = yk_router_new(&opts, &r->router);
    return rc == -YK_EINVAL ? routes_fail(rc, "quantile or overlap is out of range") : rc;
}

/* That engines cannot know. */
static uint64_t secret(void) {
    uint64_t value = yk_now_ns();
    if (getrandom(&value, sizeof(value), GRND_NONBLOCK) != sizeof(value))
        value ^= (uint64_t)(uintptr_t)&value;
    return value;
}

static int make_tables(struct yk_routes *r, const yk_route_opts *o) {
    r->holders = calloc(r->holders_max, sizeof(*r->holders));
    r->recent = routes_recent_new();
    r->leads = calloc(r->holders_max, sizeof(*r->leads));
    r->nodes = calloc(r->holders_max, sizeof(*r->nodes));
    r->sources = calloc((size_t)r->holders_max * ROUTES_SOURCES, sizeof(*r->sources));
    if (r->holders == NULL || r->recent == NULL || r->leads == NULL || r->nodes == NULL || r->sources == NULL ||
        routes_names_new(r) < 0 || routes_zones_new(r) < 0)
        return -YK_ENOMEM;
    int rc = yk_where_new(o->blocks_max != 0 ? o->blocks_max : BLOCKS, r->holders_max, secret(), &r->where);
    return rc < 0 ? rc : yk_feeds_new(&r->feeds);
}

static int make(const yk_route_opts *o, struct yk_routes *r) {
    r->holders_max = o->instances_max != 0 ? o->instances_max : INSTANCES;
    r->silent_ms = o->silent_ms != 0 ? o->silent_ms : SILENT_MS;
    r->forget_ms = o->forget_ms != 0 ? o->forget_ms : FORGET_MS;
    if (r->holders_max > YK_WHERE_HOLDERS_MAX || o->blocks_max > YK_WHERE_COPIES_MAX)
        return routes_fail(-YK_EINVAL, "instances_max or blocks_max is out of range");
    int rc = make_router(r, o);
    return rc < 0 ? rc : make_tables(r, o);
}

int yk_route_open(const yk_route_opts *opts, yk_routes **ret_routes) {
    yk_route_opts o = {.size = sizeof(o)};
    int read = opts != NULL ? routes_take(opts, opts->size, &o, sizeof(o), "yk_route_opts") : 0;
    if (read < 0)
        return read;
    struct yk_routes *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return routes_fail(-YK_ENOMEM, "out of memory");
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->next, NULL);
    pthread_mutex_init(&r->control, NULL);
    int rc = make(&o, r);
    if (rc < 0) {
        yk_route_close(r);
        return rc == -YK_ENOMEM ? routes_fail(rc, "out of memory") : rc;
    }
    *ret_routes = r;
    return 0;
}

void yk_route_close(yk_routes *r) {
    if (r == NULL)
        return;
    yk_feeds_free(r->feeds);
    yk_router_free(r->router);
    yk_where_free(r->where);
    free(r->holders);
    free(r->recent);
    free(r->heads);
    free(r->leads);
    free(r->nodes);
    free(r->sources);
    free(r->zones);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->next);
    pthread_mutex_destroy(&r->control);
    free(r);
}

/* ---- holders ---- */

static bool is_old(const struct yk_routes *r, const struct routes_holder *h, uint64_t now_ms) {
    return h->name[0] != '\0' && !h->leaving && now_ms > h->seen_ms && now_ms - h->seen_ms > r->forget_ms;
}

/* Nobody finds it any more; what was known of it goes in pieces. */
static void begin_to_leave(struct yk_routes *r, uint32_t at) {
    if (r->holders[at].leaving)
        return;
    routes_names_remove(r, at);
    r->holders[at].leaving = true;
    routes_recent_forget(r, at);
    yk_router_forget(r->router, at);
}

static void forget(struct yk_routes *r, uint32_t at) {
    yk_router_forget(r->router, at);
    r->holders[at] = (struct routes_holder){.node_at = ROUTES_NONE};
}

/* An old one makes room, as far as that goes at once. */
static bool make_room(struct yk_routes *r, uint32_t at) {
    begin_to_leave(r, at);
    if (yk_where_clear(r->where, at, ROOM_STEPS) > 0)
        return false;
    r->forgotten++;
    forget(r, at);
    return true;
}

/* A number for a newcomer, or ROUTES_NONE. Of old ones that go one piece a call is taken: the next call goes on. */
static uint32_t free_number(struct yk_routes *r, uint64_t now_ms) {
    bool tried = false;
    for (uint32_t i = 0; i < r->n; i++) {
        struct routes_holder *h = &r->holders[i];
        bool goes = h->name[0] != '\0' && !h->has_feed && (is_old(r, h, now_ms) || h->goes);
        if (h->name[0] == '\0')
            return i;
        if (!goes || tried)
            continue;
        tried = h->goes = true;
        if (make_room(r, i))
            return i;
    }
    return r->n < r->holders_max ? r->n++ : ROUTES_NONE;
}

int routes_make(struct yk_routes *r, const char *name, uint32_t *ret_at) {
    uint64_t now_ms = routes_now_ms();
    if (!routes_is_name(name))
        return routes_fail(-YK_EINVAL, "a name has 1 to %u bytes and no control characters", YK_ROUTE_NAME_MAX);
    uint32_t at = routes_find(r, name);
    if (at == ROUTES_NONE) {
        at = free_number(r, now_ms);
        if (at == ROUTES_NONE)
            return routes_fail(-YK_ELIMIT, "%u instances and holders are known, and no more", r->n);
        r->holders[at] = (struct routes_holder){.routes = r, .node_at = ROUTES_NONE};
        memcpy(r->holders[at].name, name, strlen(name) + 1);
        routes_names_add(r, at);
    }
    r->holders[at].seen_ms = now_ms;
    *ret_at = at;
    return 0;
}

/* Under both locks, of which it lets go of the inner one. What subscribes for it is ended first. */
static void leave(struct yk_routes *r, uint32_t at) {
    bool has_feed = r->holders[at].has_feed;
    uint32_t feed = r->holders[at].feed;
    begin_to_leave(r, at);
    if (has_feed) {
        routes_unlock(r);
        yk_feeds_remove(r->feeds, feed);
        routes_lock(r);
    }
    while (yk_where_count(r->where, at) > 0)
        routes_clear(r, at); /* what is entered for it now was under way when it left: little */
    forget(r, at);
}

int yk_route_gone(yk_routes *r, const char *name) {
    pthread_mutex_lock(&r->control);
    routes_lock(r);
    uint32_t at = routes_find(r, name);
    if (at != ROUTES_NONE)
        leave(r, at);
    routes_unlock(r);
    pthread_mutex_unlock(&r->control);
    return at != ROUTES_NONE ? 0 : YK_MISS;
}

/* One that was not heard of for long, or a piece of one that goes, at each report: as many go as can come. */
static void leave_old(struct yk_routes *r) {
    uint64_t now_ms = routes_now_ms();
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->holders[i].goes) {
            (void)make_room(r, i);
            return;
        }
        if (!is_old(r, &r->holders[i], now_ms))
            continue;
        leave(r, i);
        r->forgotten++;
        return;
    }
}

/* ---- load reports ---- */

/* NULL and "": none is said. */
static bool may_be(const char *name) {
    return name == NULL || name[0] == '\0' || routes_is_name(name);
}

static void set_text(char into[YK_ROUTE_NAME_MAX + 1], const char *text) {
    if (text != NULL)
        snprintf(into, YK_ROUTE_NAME_MAX + 1, "%s", text);
}

static void set_rate(double *into, double rate) {
    if (rate > 0 && isfinite(rate))
        *into = rate;
}

void routes_set_zone(struct routes_holder *h) {
    h->zone_hash = h->zone[0] != '\0' ? yk_hash64(h->zone, strlen(h->zone)) | 1 : 0;
}

static void set_load(struct routes_holder *h, const yk_route_load_report *p) {
    h->has_load = true;
    h->flags = p->flags;
    h->reported_ms = h->seen_ms;
    h->waiting = p->waiting;
    h->running = p->running;
    h->waiting_tokens = p->waiting_tokens;
    h->tokens_s = p->tokens_per_s;
    h->network_load = isfinite(p->network_load) ? p->network_load : 0; /* as if it was not said */
    set_text(h->zone, p->zone);
    routes_set_zone(h);
    set_text(h->node, p->node);
    h->node_names = p->node != NULL ? 0 : h->node_names;
    set_rate(&h->dram_s, p->dram_bytes_per_s);
    set_rate(&h->ssd_s, p->ssd_bytes_per_s);
    set_rate(&h->peer_s, p->peer_bytes_per_s);
    set_rate(&h->far_s, p->far_bytes_per_s);
}

int yk_route_load(yk_routes *r, const yk_route_load_report *report) {
    yk_route_load_report p = {.size = sizeof(p)};
    uint32_t at;
    int rc = routes_take(report, report->size, &p, sizeof(p), "yk_route_load_report");
    if (rc < 0)
        return rc;
    if (!may_be(p.zone) || !may_be(p.node))
        return routes_fail(-YK_EINVAL, "zone, node: a name has 1 to %u bytes and no control characters", YK_ROUTE_NAME_MAX);
    pthread_mutex_lock(&r->control);
    routes_lock(r);
    leave_old(r);
    rc = routes_make(r, p.name, &at);
    if (rc == 0)
        set_load(&r->holders[at], &p);
    routes_unlock(r);
    pthread_mutex_unlock(&r->control);
    return rc;
}
