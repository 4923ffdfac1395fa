/* SPDX-License-Identifier: Apache-2.0
 *
 * How policies that learn do, for other threads: a copy that the owner makes at each tick, as part of the node's
 * statistics. And what one thinks of a block, for who asks (EXPLAIN).
 */
#include "node/conn_priv.h"

#include "base/hash.h"
#include "base/json.h"
#include "sched/learned.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const caches[YK_LEARNED_CACHES] = {"lru", "s3fifo", "learned"};

/* The owner's half. Under the node's lock. */
void node_learned_snapshot(struct yk_node *node) {
    uint32_t which = 0, ns;
    char name[64];
    const struct yk_policy *p;
    if (node->learned_shots == NULL)
        return;
    node->learned_count = 0;
    while (node->learned_count < YK_SHM_NAMESPACES &&
           (p = yk_store_learned_next(node->store, &which, &ns, name)) != NULL) {
        struct learned_shot *s = &node->learned_shots[node->learned_count++];
        s->ns = ns;
        memcpy(s->name, name, sizeof(s->name));
        yk_learned_report(p, &s->report);
    }
}

static int learned_at(struct yk_node *node, uint32_t at, char ret_name[64], uint32_t *ret_ns,
                      struct yk_learned_report *ret_report) {
    pthread_mutex_lock(&node->lock);
    int rc = at < node->learned_count ? 0 : YK_MISS;
    if (rc == 0) {
        memcpy(ret_name, node->learned_shots[at].name, 64);
        *ret_ns = node->learned_shots[at].ns;
        *ret_report = node->learned_shots[at].report;
    }
    pthread_mutex_unlock(&node->lock);
    return rc;
}

int yk_node_learned(struct yk_node *node, uint32_t at, char ret_name[64], struct yk_learned_report *ret_report) {
    uint32_t ns;
    return learned_at(node, at, ret_name, &ns, ret_report);
}

static void put_calibration(struct yk_json *json, const struct yk_learned_calibration *c) {
    yk_json_key(json, "calibration");
    yk_json_begin_object(json);
    yk_json_put_double(json, "examples", c->examples);
    yk_json_put_double(json, "expected_uses", c->expected);
    yk_json_put_double(json, "seen_uses", c->seen);
    yk_json_put_double(json, "ratio", c->ratio);
    yk_json_put_double(json, "bits_per_use", c->bits_a_use);
    yk_json_key(json, "tenths");
    yk_json_begin_array(json);
    for (uint32_t i = 0; i < YK_LEARNED_TENTHS; i++) {
        yk_json_begin_object(json);
        yk_json_put_double(json, "examples", c->tenths[i].examples);
        yk_json_put_double(json, "expected_uses", c->tenths[i].expected);
        yk_json_put_double(json, "seen_uses", c->tenths[i].seen);
        yk_json_end_object(json);
    }
    yk_json_end_array(json);
    yk_json_end_object(json);
}

static void put_hits(struct yk_json *json, const struct yk_learned_report *r) {
    yk_json_key(json, "hit_blocks");
    yk_json_begin_object(json);
    yk_json_put_uint(json, "real", r->real_hits);
    for (uint32_t i = 0; i < YK_LEARNED_CACHES; i++)
        yk_json_put_uint(json, caches[i], r->hits[i]);
    yk_json_end_object(json);
    yk_json_key(json, "late_hit_ratio");
    yk_json_begin_object(json);
    for (uint32_t i = 0; i < YK_LEARNED_CACHES; i++)
        yk_json_put_double(json, caches[i], r->late_blocks > 0 ? r->late_hits[i] / r->late_blocks : 0);
    yk_json_end_object(json);
}

static void put_share(struct yk_node *node, struct yk_json *json, uint32_t ns) {
    yk_ns_info i;
    if (yk_node_ns_info(node, ns, &i) != 0)
        return;
    yk_json_put_uint(json, "share_bytes", i.share_bytes);
    yk_json_put_uint(json, "share_used_bytes", i.share_used_bytes);
    yk_json_put_double(json, "share_hit_ratio", i.share_hit_ratio);
    yk_json_put_uint(json, "guarantee_bytes", i.guarantee_bytes);
    yk_json_put_uint(json, "guaranteed_bytes", i.guaranteed_bytes);
    yk_json_put_uint(json, "priority", i.priority != 0 ? i.priority : YK_PRIORITY_DEFAULT);
}

static void put_report(struct yk_node *node, struct yk_json *json, const char *name, uint32_t ns,
                       const struct yk_learned_report *r) {
    yk_json_begin_object(json);
    yk_json_put_str(json, "namespace", name);
    yk_json_put_str(json, "follows", r->follows);
    yk_json_put_uint(json, "changes", r->changes);
    yk_json_put_uint(json, "room_blocks", r->room);
    yk_json_put_uint(json, "blocks", r->here);
    yk_json_put_uint(json, "records", r->records);
    yk_json_put_uint(json, "examples", r->examples);
    yk_json_put_uint(json, "requested_blocks", r->blocks);
    put_hits(json, r);
    yk_json_put_uint(json, "trainings", r->trainings);
    if (r->has_model)
        yk_json_put_uint(json, "model_age_ms", r->model_age_ms);
    else
        yk_json_put_null(json, "model_age_ms");
    put_share(node, json, ns);
    put_calibration(json, &r->calibration);
    yk_json_end_object(json);
}

void node_stats_learned(struct yk_node *node, struct yk_buf *out) {
    struct yk_learned_report report;
    struct yk_json json;
    uint32_t ns;
    char name[64];
    if (node->learned_shots == NULL)
        return;
    yk_buf_puts(out, ",\"learned\":");
    yk_json_init_buf(&json, out);
    yk_json_begin_array(&json);
    for (uint32_t i = 0; learned_at(node, i, name, &ns, &report) == 0; i++)
        put_report(node, &json, name, ns, &report);
    yk_json_end_array(&json);
    (void)yk_json_finish(&json);
}

/* ---- EXPLAIN ------------------------------------------------------------------------------------ */

static void put_features(struct yk_json *json, const struct yk_learned_block *b) {
    yk_json_key(json, "features");
    yk_json_begin_object(json);
    for (uint32_t i = 0; i < YK_LEARNED_FEATURES; i++)
        yk_json_put_uint(json, yk_learned_feature_name(i), b->features[i]);
    yk_json_end_object(json);
}

static void put_block(struct yk_json *json, const struct yk_policy *p, const struct yk_learned_block *b) {
    yk_json_begin_object(json);
    yk_json_put_bool(json, "here", b->is_here);
    yk_json_put_str(json, "follows", yk_learned_follows(p));
    yk_json_put_bool(json, "stays", b->stays);
    yk_json_put_bool(json, "in_lru", b->in_lru);
    yk_json_put_bool(json, "in_s3fifo", b->in_s3fifo);
    yk_json_put_bool(json, "in_learned", b->in_learned);
    yk_json_put_uint(json, "uses", b->uses);
    yk_json_put_uint(json, "children", b->children);
    yk_json_put_uint(json, "age_ms", b->age_ms);
    yk_json_put_uint(json, "life_ms", b->life_ms);
    yk_json_put_double(json, "uses_per_s", b->rate);
    yk_json_put_uint(json, "room_blocks", yk_learned_room(p));
    yk_json_put_bool(json, "leaf", b->is_leaf);
    yk_json_put_uint(json, "go_before", b->before);
    yk_json_put_uint(json, "leaves", b->leaves);
    put_features(json, b);
    yk_json_end_object(json);
}

static int reply_json(struct conn *c, const struct yk_frame *f, const char *text, size_t len) {
    struct yk_wr w;
    int rc = reply_begin(c, 8u + len, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, 0);
    yk_wr_u32(&w, (uint32_t)len);
    yk_wr_bytes(&w, text, len);
    reply_end(c, &w, f->op, f->id);
    return 0;
}

int handle_explain(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    struct yk_learned_block block;
    struct yk_json json;
    struct yk_buf text;
    uint32_t len;
    const void *key = yk_rd_str8(r, &len);
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    if (!yk_store_learns(c->node->store))
        return reply_status(c, f->op, f->id, -YK_ENOTSUP);
    yk_store_drain(c->node->store); /* what was used before is heard of before */
    const struct yk_policy *p = c->ns != YK_NO_NS && len > 0 ? yk_store_policy_of_ns(c->node->store, c->ns) : NULL;
    if (p == NULL || yk_learned_explain(p, yk_hash_key(c->ns, key, len), &block) != 0)
        return reply_status(c, f->op, f->id, len > 0 ? YK_MISS : -YK_EKEY);
    yk_buf_init(&text, 1u << 16);
    yk_json_init_buf(&json, &text);
    put_block(&json, p, &block);
    int rc = yk_json_finish(&json);
    rc = rc == 0 ? reply_json(c, f, yk_buf_text(&text), strlen(yk_buf_text(&text)))
                 : reply_status(c, f->op, f->id, rc);
    yk_buf_fini(&text);
    return rc;
}
