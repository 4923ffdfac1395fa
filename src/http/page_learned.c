/* SPDX-License-Identifier: Apache-2.0
 *
 * The metrics page's part of policies that learn: by namespace what is followed, what each of the three would have hit, how
 * old the model is, and whether it is right.
 *
 * Thread: the rendering one.
 */
#include "http/http_priv.h"

#include <stdio.h>
#include <string.h>

typedef void (*sample_fn)(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r);

static const char *const caches[YK_LEARNED_CACHES] = {"lru", "s3fifo", "learned"};

static void each(struct yk_node *node, struct yk_metrics_page *page, sample_fn fn) {
    struct yk_learned_report r;
    char name[64];
    for (uint32_t i = 0; yk_node_learned(node, i, name, &r) == 0; i++)
        fn(page, name, &r);
}

static void one(struct yk_metrics_page *page, const char *name, double value) {
    struct yk_label l = {"namespace", name};
    yk_metrics_sample(page, &l, 1, value);
}

static void by(struct yk_metrics_page *page, const char *name, const char *label, const char *value, double n) {
    struct yk_label l[] = {{"namespace", name}, {label, value}};
    yk_metrics_sample(page, l, 2, n);
}

static void follows(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    for (uint32_t i = 0; i < YK_LEARNED_CACHES; i++)
        by(page, name, "cache", caches[i], strcmp(r->follows, caches[i]) == 0);
}

static void changes(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    one(page, name, (double)r->changes);
}

static void requested(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    one(page, name, (double)r->blocks);
}

static void hits(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    by(page, name, "cache", "real", (double)r->real_hits);
    for (uint32_t i = 0; i < YK_LEARNED_CACHES; i++)
        by(page, name, "cache", caches[i], (double)r->hits[i]);
}

static void model_age(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    if (r->has_model)
        one(page, name, (double)r->model_age_ms / 1e3);
}

static void calibration(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    if (r->calibration.expected > 0)
        one(page, name, r->calibration.ratio);
}

static void bits(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    if (r->calibration.seen >= 1)
        one(page, name, r->calibration.bits_a_use);
}

static void tenths(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r, int seen) {
    char tenth[12];
    for (uint32_t i = 0; i < YK_LEARNED_TENTHS; i++) {
        const struct yk_learned_tenth *t = &r->calibration.tenths[i];
        snprintf(tenth, sizeof(tenth), "%u", i + 1);
        by(page, name, "tenth", tenth, seen ? t->seen : t->expected);
    }
}

static void expected_uses(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    tenths(page, name, r, 0);
}

static void seen_uses(struct yk_metrics_page *page, const char *name, const struct yk_learned_report *r) {
    tenths(page, name, r, 1);
}

#define COLLECT(fn)                                                                                \
    static void collect_##fn(void *node, struct yk_metrics_page *page) {                          \
        each(node, page, fn);                                                                      \
    }
COLLECT(follows)
COLLECT(changes)
COLLECT(requested)
COLLECT(hits)
COLLECT(model_age)
COLLECT(calibration)
COLLECT(bits)
COLLECT(expected_uses)
COLLECT(seen_uses)
#undef COLLECT

int http_learned_add(struct yk_node *node, struct yk_metrics *metrics, struct yk_err *err) {
    static const struct {
        struct yk_metric_desc d;
        yk_metrics_collect_fn fn;
    } list[] = {
        {{"yolk_policy_follows", "1 for the cache without payload that the real one follows, by namespace.", YK_METRIC_GAUGE, 0},
         collect_follows},
        {{"yolk_policy_changes_total", "How often another was followed.", YK_METRIC_COUNTER, 0}, collect_changes},
        {{"yolk_policy_requested_blocks_total", "Blocks of requests that the policy heard of.", YK_METRIC_COUNTER, 0},
         collect_requested},
        {{"yolk_policy_hit_blocks_total",
          "Leading blocks of these requests that were here (real), and that each cache without payload had.",
          YK_METRIC_COUNTER, 0},
         collect_hits},
        {{"yolk_policy_model_age_seconds", "Since the model that decides was made.", YK_METRIC_GAUGE, 0}, collect_model_age},
        {{"yolk_policy_calibration_ratio", "Uses seen by uses predicted, of late; 1 is right.", YK_METRIC_GAUGE, 0},
         collect_calibration},
        {{"yolk_policy_bits_per_use", "What the model knows: by how many bits a use surprises it less than the mean rate would.",
          YK_METRIC_GAUGE, 0},
         collect_bits},
        {{"yolk_policy_expected_uses", "Uses predicted, of late, by tenth of the predicted rates; 10 is the highest.",
          YK_METRIC_GAUGE, 0},
         collect_expected_uses},
        {{"yolk_policy_seen_uses", "Uses seen of the same.", YK_METRIC_GAUGE, 0}, collect_seen_uses},
    };
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < sizeof(list) / sizeof(list[0]); i++)
        rc = yk_metrics_add_collector(metrics, &list[i].d, list[i].fn, node, err);
    return rc;
}
