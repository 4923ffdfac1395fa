/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine shows of itself: links and decisions as JSON.
 *
 * Threads: any; each shard's part is written by its owner.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "xfer/rdma/rdma.h"

#include <stdio.h>
#include <stdlib.h>

#define JSON_MAX    (64u << 20)
#define DEVICES_MAX 16u

static const char *const states[] = {"ok", "out", "trying"};
static const char *const band_names[] = {"16KiB", "128KiB", "1MiB", "above"};

static void hex(struct yk_json *j, const char *key, uint64_t value) {
    char text[20];
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)value);
    yk_json_put_str(j, key, text);
}

/* ---- links ----------------------------------------------------------------------------------------- */

static void put_model(struct yk_json *j, const struct yk_model *m) {
    yk_json_key(j, "model");
    yk_json_begin_array(j);
    for (uint32_t b = 0; b < YK_MODEL_BANDS; b++) {
        yk_json_begin_object(j);
        yk_json_put_str(j, "up_to", band_names[b]);
        yk_json_put_double(j, "bytes_per_s", m->band[b].bytes_per_s);
        yk_json_put_double(j, "fixed_ns", m->band[b].fixed_ns);
        yk_json_put_uint(j, "samples", m->band[b].samples);
        yk_json_end_object(j);
    }
    yk_json_end_array(j);
}

static void put_ends(struct yk_json *j, const struct yk_rail *r) {
    yk_json_put_str(j, "transport", r->xport->ops->name);
    yk_json_put_str(j, "local", r->desc.local);
    yk_json_put_str(j, "remote", r->desc.remote);
    yk_json_put_uint(j, "port", r->desc.port);
    yk_json_put_uint(j, "distance", r->desc.distance);
    yk_json_put_str(j, "state", states[r->state]);
    yk_json_put_str(j, "last_failure", r->why[0] != 0 ? r->why : NULL);
    yk_json_put_uint(j, "bytes_in_flight", r->bytes);
}

static void put_rail(struct yk_json *j, const struct yk_rail *r) {
    uint32_t up = 0, connecting = 0;
    for (uint32_t k = 0; k < r->link_count; k++) {
        up += r->links[k].state == YK_LINK_UP;
        connecting += r->links[k].state == YK_LINK_CONNECTING;
    }
    connecting += r->beside.state == YK_LINK_CONNECTING;
    yk_json_begin_object(j);
    put_ends(j, r);
    yk_json_put_uint(j, "lanes_up", up);
    yk_json_put_uint(j, "lanes_connecting", connecting);
    yk_json_put_uint(j, "slices", r->total_slices);
    yk_json_put_uint(j, "bytes", r->total_bytes);
    yk_json_put_uint(j, "failed", r->total_failed);
    put_model(j, &r->model);
    yk_json_end_object(j);
}

static void put_route(struct yk_json *j, const struct yk_route *t) {
    yk_json_begin_object(j);
    hex(j, "incarnation", t->peer->info.incarnation);
    yk_json_put_bool(j, "files", t->peer->file != 0);
    yk_json_put_bool(j, "gone", t->peer->gone != 0);
    yk_json_put_uint(j, "requests", t->work);
    yk_json_put_bool(j, "fences", !yk_list_empty(&t->fences));
    yk_json_key(j, "rails");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < t->rail_count; i++)
        put_rail(j, t->rails[i]);
    yk_json_end_array(j);
    yk_json_end_object(j);
}

static void put_shard(struct yk_shard *s, void *arg) {
    struct yk_json *j = arg;
    yk_json_begin_object(j);
    yk_json_put_uint(j, "number", s->number);
    yk_json_put_uint(j, "requests", s->work);
    yk_json_key(j, "peers");
    yk_json_begin_array(j);
    for (uint32_t p = 0; p < s->route_cap; p++)
        if (s->routes[p] != NULL)
            put_route(j, s->routes[p]);
    yk_json_end_array(j);
    yk_json_end_object(j);
}

static void put_transports(struct yk_json *j, const struct yk_xfer *e) {
    yk_json_key(j, "transports");
    yk_json_begin_array(j);
    for (uint32_t i = 0; e->xports[i] != NULL; i++)
        if (e->opts.transports & e->xports[i]->bit)
            yk_json_str(j, e->xports[i]->name);
    yk_json_end_array(j);
}

/* What devices that move payload by themselves did for this process. */
static void put_devices(struct yk_json *j, const struct yk_xfer *e) {
    struct yk_device_counts c[DEVICES_MAX];
    yk_json_key(j, "devices");
    yk_json_begin_array(j);
    for (uint32_t i = 0; e->xports[i] != NULL; i++) {
        uint32_t n = e->xports[i]->devices != NULL && (e->opts.transports & e->xports[i]->bit) != 0
                         ? e->xports[i]->devices(c, DEVICES_MAX)
                         : 0;
        for (uint32_t k = 0; k < n; k++) {
            yk_json_begin_object(j);
            yk_json_put_str(j, "device", c[k].name);
            yk_json_put_uint(j, "requests", c[k].requests);
            yk_json_put_uint(j, "signalled", c[k].signalled);
            yk_json_put_uint(j, "doorbells", c[k].doorbells);
            yk_json_put_uint(j, "completions", c[k].completions);
            yk_json_put_uint(j, "wakeups", c[k].wakeups);
            yk_json_put_uint(j, "arms", c[k].arms);
            yk_json_put_uint(j, "untrue", c[k].untrue);
            yk_json_put_uint(j, "bytes", c[k].bytes);
            yk_json_end_object(j);
        }
    }
    yk_json_end_array(j);
}

/* {"cpu:0": bytes}, most first: rails count their distance from the first. */
static void put_places(struct yk_json *j, const struct yk_xfer *e) {
    struct yk_place places[YK_PLACES_MAX];
    uint32_t n = yk_places_list(e->places, places);
    yk_json_key(j, "memory");
    yk_json_begin_object(j);
    for (uint32_t i = 0; i < n; i++)
        yk_json_put_uint(j, places[i].location, places[i].bytes);
    yk_json_end_object(j);
}

/* What RDMA devices know of this process's memory, of all that they shall. */
static void put_known(struct yk_json *j) {
    struct yk_rdma_progress p[YK_RDMA_DEVICES_MAX];
    uint32_t n = yk_rdma_progress(p);
    yk_json_key(j, "rdma_memory");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < n; i++) {
        yk_json_begin_object(j);
        yk_json_put_str(j, "device", p[i].device);
        yk_json_put_uint(j, "bytes", p[i].bytes);
        yk_json_put_uint(j, "known", p[i].known);
        yk_json_put_uint(j, "refused", p[i].refused);
        yk_json_end_object(j);
    }
    yk_json_end_array(j);
}

/* The text to the caller, or why there is none. */
static int finish(struct yk_json *j, struct yk_buf *buf, char **ret_json) {
    int rc = yk_json_finish(j);
    if (rc == 0 && buf->status != 0)
        rc = buf->status;
    if (rc < 0) {
        yk_buf_fini(buf);
        return yk_xfer_fail(rc, "the view: %s", yk_status_text(rc));
    }
    *ret_json = buf->data;
    return 0;
}

int yk_xfer_links_json(yk_xfer *e, char **ret_json) {
    struct yk_json j;
    struct yk_buf buf;
    uint32_t regions, segments;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (ret_json == NULL)
        return yk_xfer_fail(-YK_EINVAL, "ret_json is NULL");
    yk_buf_init(&buf, JSON_MAX);
    yk_json_init_buf(&j, &buf);
    yk_registry_counts(e->registry, &regions, &segments);
    yk_json_begin_object(&j);
    yk_json_put_str(&j, "address", e->address);
    hex(&j, "incarnation", e->self.incarnation);
    put_transports(&j, e);
    yk_json_put_uint(&j, "regions", regions);
    yk_json_put_uint(&j, "segments", segments);
    put_places(&j, e);
    put_devices(&j, e);
    if (e->opts.transports & YK_XFER_RDMA)
        put_known(&j);
    yk_json_put_uint(&j, "requests", __atomic_load_n(&e->in_flight, __ATOMIC_RELAXED));
    yk_json_key(&j, "shards");
    yk_json_begin_array(&j);
    for (uint32_t i = 0; i < e->shard_count; i++)
        yk_shard_call(e->shards[i], put_shard, &j);
    yk_json_end_array(&j);
    yk_json_end_object(&j);
    return finish(&j, &buf, ret_json);
}

/* ---- explain ----------------------------------------------------------------------------------------- */

struct question {
    struct yk_json json;
    struct yk_peer *peer;
    struct yk_want want;
};

/* Why a rail is not the one that takes the first slice. */
static const char *reason(const struct yk_rail *r, const struct yk_want *w, uint32_t group,
                          const struct yk_rail *best) {
    if (!yk_rail_suits(r, w))
        return "cannot do that";
    if (r->state != YK_RAIL_OK)
        return "in quarantine";
    if (r->group != group)
        return "another transport is preferred";
    return best != NULL && r->desc.distance > best->desc.distance ? "would end later, and is farther"
                                                                   : "would end later";
}

/* Of the first transport that has a rail in order; UINT32_MAX: none has. */
static uint32_t preferred(const struct yk_route *t, const struct yk_want *w) {
    for (uint32_t i = 0; i < t->rail_count; i++)
        if (yk_rail_suits(t->rails[i], w) && t->rails[i]->state == YK_RAIL_OK)
            return t->rails[i]->group;
    return UINT32_MAX;
}

static void put_rails(struct yk_json *j, const struct yk_route *t, const struct yk_want *w) {
    uint64_t now = yk_now_ns();
    uint32_t group = preferred(t, w), useful = 0, best = UINT32_MAX;
    double best_ns = 0;
    for (uint32_t i = 0; i < t->rail_count; i++)
        useful += t->rails[i]->group == group && t->rails[i]->state == YK_RAIL_OK;
    for (uint32_t i = 0; i < t->rail_count; i++) {
        const struct yk_rail *r = t->rails[i];
        double ns = yk_rail_predict(r, yk_rail_slice(r, w->left, useful), now);
        if (r->group != group || !yk_rail_suits(r, w) || r->state != YK_RAIL_OK ||
            (best != UINT32_MAX && ns >= best_ns))
            continue;
        best = i;
        best_ns = ns;
    }
    yk_json_put_uint(j, "useful_rails", useful);
    yk_json_key(j, "rails");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < t->rail_count; i++) {
        const struct yk_rail *r = t->rails[i];
        uint64_t slice = yk_rail_slice(r, w->left, useful);
        yk_json_begin_object(j);
        put_ends(j, r);
        yk_json_put_uint(j, "slice_bytes", slice);
        yk_json_put_double(j, "predicted_slice_ns", yk_rail_predict(r, slice, now));
        yk_json_put_double(j, "predicted_alone_ns", yk_rail_predict(r, w->left, now));
        yk_json_put_bool(j, "first_slice", i == best);
        yk_json_put_str(j, "reason", i == best ? "the earliest predicted end"
                                         : reason(r, w, group, best != UINT32_MAX ? t->rails[best] : NULL));
        yk_json_end_object(j);
    }
    yk_json_end_array(j);
}

static void answer(struct yk_shard *s, void *arg) {
    struct question *q = arg;
    struct yk_route *t = yk_route_get(s, q->peer);
    if (t == NULL)
        return;
    yk_route_rails(t);
    put_rails(&q->json, t, &q->want);
}

int yk_xfer_explain_json(yk_xfer *e, yk_xfer_segment segment, uint64_t length, uint32_t op,
                         char **ret_json) {
    struct yk_buf buf;
    struct question q = {.want = {.left = length,
                                  .caps = op == YK_XFER_READ ? YK_RAIL_READ : YK_RAIL_WRITE,
                                  .xclass = YK_XFER_DEMAND}};
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (ret_json == NULL || length == 0 || (op != YK_XFER_READ && op != YK_XFER_WRITE))
        return yk_xfer_fail(-YK_EINVAL, "ret_json is NULL, length is 0, or op %u is none", op);
    pthread_mutex_lock(&e->tables);
    const struct yk_seg *g = yk_segment_at(e, segment);
    q.peer = g != NULL ? g->peer : NULL;
    if (q.peer != NULL)
        yk_peer_ref(q.peer);
    if (g != NULL && (g->access & YK_REGION_KINDS))
        q.want.caps |= YK_RAIL_DEVICE;
    pthread_mutex_unlock(&e->tables);
    if (q.peer == NULL)
        return yk_xfer_fail(-YK_ENOENT, "segment %#llx is not open", (unsigned long long)segment);
    yk_buf_init(&buf, JSON_MAX);
    yk_json_init_buf(&q.json, &buf);
    yk_json_begin_object(&q.json);
    yk_json_put_uint(&q.json, "length", length);
    yk_json_put_str(&q.json, "op", op == YK_XFER_READ ? "read" : "write");
    hex(&q.json, "incarnation", q.peer->info.incarnation);
    yk_json_put_bool(&q.json, "copied_by_caller", q.peer->local != NULL && !q.peer->file);
    yk_shard_call(e->shards[0], answer, &q);
    yk_peer_put(q.peer);
    yk_json_end_object(&q.json);
    return finish(&q.json, &buf, ret_json);
}
