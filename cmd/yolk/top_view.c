/* SPDX-License-Identifier: Apache-2.0
 *
 * The screen and the JSON of yolk top (top_view.h).
 */
#include "top_view.h"

#include "keys.h"

#include "base/clock.h"
#include "base/fmt.h"
#include "base/hist.h"

#include <math.h>
#include <string.h>

struct flow {
    const char *label, *name;
};

/* Side by side on the screen: what is done, and why blocks go. */
static const struct flow done[] = {
    {"hits", NULL},      {"misses", NULL},       {"keys matched", "local_match_keys"},
    {"puts", "commits"}, {"removes", "removed"}, {"bytes put", "put_bytes"},
    {"bytes got", NULL},
};
static const struct flow gone[] = {
    {"for space", "evict_space"},   {"for capacity", "evict_capacity"},
    {"for a quota", "evict_quota"}, {"expired", "evict_expired"},
    {"old epoch", "evict_epoch"},   {"replaced", "evict_replaced"},
    {"corrupt", "corrupt"},
};

#define N_FLOWS (sizeof(done) / sizeof(done[0]))
_Static_assert(N_FLOWS == sizeof(gone) / sizeof(gone[0]), "the columns are of one length");

static uint64_t flow_total(const struct yolk_sample *s, const struct flow *f) {
    if (f->name != NULL)
        return yolk_sample_get(s, f->name);
    if (strcmp(f->label, "hits") == 0)
        return yolk_sample_hits(s);
    return strcmp(f->label, "misses") == 0 ? yolk_sample_misses(s) : yolk_sample_got_bytes(s);
}

static double flow_rate(const struct yolk_top_view *v, const struct flow *f) {
    double seconds = yolk_sample_seconds(&v->before, &v->now);
    if (seconds <= 0)
        return 0;
    uint64_t a = flow_total(&v->before, f), b = flow_total(&v->now, f);
    return b > a ? (double)(b - a) / seconds : 0;
}

static bool is_bytes(const struct flow *f) {
    return strncmp(f->label, "bytes", 5) == 0;
}

/* ---- text --------------------------------------------------------------------------------------- */

static const char *percent(double ratio, char buf[YK_FMT_MAX]) {
    if (isnan(ratio))
        return "-";
    snprintf(buf, YK_FMT_MAX, "%.2f %%", ratio * 100);
    return buf;
}

static void put_head(const struct yolk_top_view *v, struct yk_buf *out) {
    char up[YK_FMT_MAX], now[YK_FMT_MAX], all[YK_FMT_MAX];
    const struct yolk_sample *s = &v->now;
    yk_buf_printf(out, "yolkd %s  %s  process %llu  up %s  policy %s\n",
                  yolk_sample_text(s, "version"), v->url,
                  (unsigned long long)yolk_sample_get(s, "pid"),
                  yk_fmt_duration(yolk_sample_get(s, "uptime_ms") * YK_NS_PER_MS, up),
                  yolk_sample_text(s, "policy"));
    if (v->message != NULL)
        yk_buf_printf(out, "NO ANSWER: %s\n", v->message);
    else if (json_is_true(json_object_get(s->root, "tier_lost")))
        yk_buf_puts(out, "MEMORY LOST: a file of its segment was truncated, or its file system is full; "
                         "restart yolkd\n");
    else
        yk_buf_putc(out, '\n');
    double ratio = v->before.root != NULL ? yolk_sample_hit_ratio(&v->before, s) : NAN;
    yk_buf_printf(out, "hit ratio  %s now, %s since the start\n", percent(ratio, now),
                  percent(yolk_sample_hit_ratio(NULL, s), all));
}

static void put_dram(const struct yolk_sample *s, struct yk_buf *out) {
    char bar[YOLK_TOP_BAR + 1], used[YK_FMT_MAX], all[YK_FMT_MAX], free_text[YK_FMT_MAX];
    char blocks[YK_FMT_MAX];
    uint64_t capacity = yolk_sample_get(s, "capacity_bytes"), n = yolk_sample_get(s, "block_bytes");
    yolk_top_bar(n, capacity, bar);
    yk_buf_printf(out, "dram       [%s] %s of %s in %s blocks, %s free\n", bar,
                  yk_fmt_bytes(n, used), yk_fmt_bytes(capacity, all),
                  yk_fmt_count(yolk_sample_get(s, "blocks"), blocks),
                  yk_fmt_bytes(yolk_sample_get(s, "free_bytes"), free_text));
}

static uint64_t cxl_get(const json_t *cxl, const char *name) {
    return (uint64_t)json_integer_value(json_object_get(cxl, name));
}

/* Nothing for a node without slow memory. */
static void put_cxl(const struct yolk_top_view *v, struct yk_buf *out) {
    char bar[YOLK_TOP_BAR + 1], used[YK_FMT_MAX], all[YK_FMT_MAX], blocks[YK_FMT_MAX], rates[3][YK_FMT_MAX];
    static const char *const names[3] = {"hits", "sunk_bytes", "risen_bytes"};
    const json_t *cxl = json_object_get(v->now.root, "cxl"), *old = json_object_get(v->before.root, "cxl");
    double seconds = yolk_sample_seconds(&v->before, &v->now);
    if (!json_is_object(cxl))
        return;
    for (int i = 0; i < 3; i++) {
        uint64_t a = cxl_get(old, names[i]), b = cxl_get(cxl, names[i]);
        uint64_t rate = seconds > 0 && b > a ? (uint64_t)((double)(b - a) / seconds + 0.5) : 0;
        if (i == 0)
            yk_fmt_count(rate, rates[i]);
        else
            yk_fmt_bytes(rate, rates[i]);
    }
    yolk_top_bar(cxl_get(cxl, "block_bytes"), cxl_get(cxl, "capacity_bytes"), bar);
    yk_buf_printf(out, "cxl        [%s] %s of %s in %s blocks%s\n", bar, yk_fmt_bytes(cxl_get(cxl, "block_bytes"), used),
                  yk_fmt_bytes(cxl_get(cxl, "capacity_bytes"), all), yk_fmt_count(cxl_get(cxl, "blocks"), blocks),
                  json_is_true(json_object_get(cxl, "used")) ? "" : ", NOT USED: no quicker than SSD");
    yk_buf_printf(out, "           %s hits/s, %s/s sink, %s/s rise\n", rates[0], rates[1], rates[2]);
}

static void put_clients(const struct yolk_sample *s, struct yk_buf *out) {
    yk_buf_printf(out, "clients    %llu mapped, %llu connections, %llu puts waiting for space",
                  (unsigned long long)yolk_sample_get(s, "clients"),
                  (unsigned long long)yolk_sample_get(s, "connections"),
                  (unsigned long long)yolk_sample_get(s, "waiting"));
    uint64_t suspect = yolk_sample_get(s, "suspect_blocks");
    if (suspect > 0)
        yk_buf_printf(out, ", %llu blocks to verify", (unsigned long long)suspect);
    yk_buf_putc(out, '\n');
}

static void put_flow(const struct yolk_top_view *v, const struct flow *f, const char *after,
                     struct yk_buf *out) {
    char rate[YK_FMT_MAX], total[YK_FMT_MAX];
    uint64_t n = flow_total(&v->now, f), a_second = (uint64_t)(flow_rate(v, f) + 0.5);
    if (is_bytes(f))
        yk_buf_printf(out, "%-13s%11s%11s%s", f->label, yk_fmt_bytes(a_second, rate),
                      yk_fmt_bytes(n, total), after);
    else
        yk_buf_printf(out, "%-13s%11s%11s%s", f->label, yk_fmt_count(a_second, rate),
                      yk_fmt_count(n, total), after);
}

static void put_flows(const struct yolk_top_view *v, struct yk_buf *out) {
    yk_buf_printf(out, "\n%-13s%11s%11s    %-13s%11s%11s\n", "", "a second", "in all", "GONE",
                  "a second", "in all");
    for (size_t i = 0; i < N_FLOWS; i++) {
        put_flow(v, &done[i], "    ", out);
        put_flow(v, &gone[i], "\n", out);
    }
}

/* The messages of one kind up to a look, from the pairs of its buckets. */
static void op_hist(const struct yolk_sample *s, const char *op, struct yk_hist *ret) {
    json_t *row = json_object_get(json_object_get(s->root, "latency"), op);
    json_t *pairs = json_object_get(row, "buckets");
    memset(ret, 0, sizeof(*ret));
    for (size_t k = 0; k + 1 < json_array_size(pairs); k += 2) {
        json_int_t i = json_integer_value(json_array_get(pairs, k));
        json_int_t n = json_integer_value(json_array_get(pairs, k + 1));
        if (i < 0 || i >= (json_int_t)YK_HIST_BUCKETS || n <= 0)
            continue; /* a node of another version */
        ret->buckets[i] = (uint64_t)n;
        ret->count += (uint64_t)n;
        if (ret->min_ns_plus_1 == 0)
            ret->min_ns_plus_1 = yk_hist_bucket_low((uint32_t)i) + 1;
        ret->max_ns = yk_hist_bucket_high((uint32_t)i);
    }
}

/* Those between the two looks; of the first look, or after a restart of the node, all so far. */
static void op_between(const struct yolk_top_view *v, const char *op, struct yk_hist *ret) {
    struct yk_hist before;
    op_hist(&v->now, op, ret);
    if (yolk_sample_seconds(&v->before, &v->now) <= 0)
        return;
    op_hist(&v->before, op, &before);
    yk_hist_subtract(ret, &before, ret);
}

static double op_rate(const struct yolk_top_view *v, const struct yk_hist *h) {
    double seconds = yolk_sample_seconds(&v->before, &v->now);
    return seconds > 0 ? (double)yk_hist_count(h) / seconds : 0;
}

/* Microseconds; NAN when nothing came. */
static double op_percentile(const struct yk_hist *h, double percent) {
    return yk_hist_count(h) > 0 ? (double)yk_hist_percentile(h, percent) / 1e3 : NAN;
}

static void put_latency(const struct yolk_top_view *v, struct yk_buf *out) {
    static const double percents[] = {50, 99, 99.9};
    const char *op;
    char rate[YK_FMT_MAX];
    json_t *row, *all = json_object_get(v->now.root, "latency");
    if (json_object_size(all) == 0)
        return;
    yk_buf_printf(out, "\n%-13s%11s%11s%11s%11s   (in the node, in this interval)\n", "MESSAGES",
                  "a second", "p50 us", "p99 us", "p99.9 us");
    json_object_foreach(all, op, row) {
        struct yk_hist h;
        op_between(v, op, &h);
        yk_buf_printf(out, "%-13s%11s", op, yk_fmt_count((uint64_t)(op_rate(v, &h) + 0.5), rate));
        for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
            double us = op_percentile(&h, percents[i]);
            if (isnan(us))
                yk_buf_printf(out, "%11s", "-");
            else
                yk_buf_printf(out, "%11.1f", us);
        }
        yk_buf_putc(out, '\n');
    }
}

static void put_namespaces(const struct yolk_top_view *v, struct yk_buf *out) {
    char used[YK_FMT_MAX], quota[YK_FMT_MAX], share[YK_FMT_MAX], name[YOLK_KEY_TEXT_MAX];
    if (v->n_namespaces == 0)
        return;
    yk_buf_printf(out, "\n%11s%11s%11s%11s  %s\n", "BLOCKS", "bytes", "quota", "share", "namespace");
    for (int i = 0; i < v->n_namespaces; i++) {
        const yk_ns_info *ns = &v->namespaces[i];
        yk_buf_printf(out, "%11llu%11s%11s%11s  %s\n", (unsigned long long)ns->blocks,
                      yk_fmt_bytes(ns->used_bytes, used),
                      ns->quota_bytes != 0 ? yk_fmt_bytes(ns->quota_bytes, quota) : "-",
                      ns->share_bytes != 0 ? yk_fmt_bytes(ns->share_bytes, share) : "-",
                      yolk_safe_text(ns->name, name));
    }
}

void yolk_top_text(const struct yolk_top_view *v, struct yk_buf *out) {
    put_head(v, out);
    put_dram(&v->now, out);
    put_cxl(v, out);
    yolk_top_ssd_text(v, out);
    put_clients(&v->now, out);
    put_flows(v, out);
    put_latency(v, out);
    yolk_top_ssd_devices_text(v, out);
    put_namespaces(v, out);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static void json_flows(const struct yolk_top_view *v, const struct flow *flows,
                       struct yk_json *json) {
    char key[64];
    for (size_t i = 0; i < N_FLOWS; i++) {
        snprintf(key, sizeof(key), "%s",
                 flows[i].name != NULL ? flows[i].name
                 : is_bytes(&flows[i]) ? "got_bytes"
                                       : flows[i].label);
        yk_json_key(json, key);
        yk_json_begin_object(json);
        yk_json_put_double(json, "per_s", flow_rate(v, &flows[i]));
        yk_json_put_uint(json, "total", flow_total(&v->now, &flows[i]));
        yk_json_end_object(json);
    }
}

static void json_latency(const struct yolk_top_view *v, struct yk_json *json) {
    const char *op;
    json_t *row, *all = json_object_get(v->now.root, "latency");
    yk_json_key(json, "latency");
    yk_json_begin_object(json);
    json_object_foreach(all, op, row) {
        struct yk_hist h;
        op_between(v, op, &h);
        yk_json_key(json, op);
        yk_json_begin_object(json);
        yk_json_put_double(json, "per_s", op_rate(v, &h));
        yk_json_put_double(json, "p50_us", op_percentile(&h, 50));
        yk_json_put_double(json, "p99_us", op_percentile(&h, 99));
        yk_json_put_double(json, "p999_us", op_percentile(&h, 99.9));
        yk_json_end_object(json);
    }
    yk_json_end_object(json);
}

static void json_cxl(const struct yolk_top_view *v, struct yk_json *json) {
    static const char *const names[] = {"blocks", "block_bytes", "capacity_bytes", "hits", "sunk", "risen"};
    const json_t *cxl = json_object_get(v->now.root, "cxl");
    if (!json_is_object(cxl))
        return;
    yk_json_key(json, "cxl");
    yk_json_begin_object(json);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        yk_json_put_uint(json, names[i], cxl_get(cxl, names[i]));
    yk_json_end_object(json);
}

void yolk_top_json(const struct yolk_top_view *v, struct yk_json *json) {
    static const char *const gauges[] = {"blocks",  "block_bytes", "capacity_bytes", "free_bytes",
                                         "clients", "connections", "waiting"};
    yk_json_begin_object(json);
    yk_json_put_uint(json, "time_ms", yk_wall_ms());
    yk_json_put_double(json, "interval_s", yolk_sample_seconds(&v->before, &v->now));
    yk_json_put_double(json, "hit_ratio",
                       v->before.root != NULL ? yolk_sample_hit_ratio(&v->before, &v->now) : NAN);
    yk_json_put_double(json, "hit_ratio_total", yolk_sample_hit_ratio(NULL, &v->now));
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
        yk_json_put_uint(json, gauges[i], yolk_sample_get(&v->now, gauges[i]));
    json_flows(v, done, json);
    json_flows(v, gone, json);
    json_latency(v, json);
    json_cxl(v, json);
    yolk_top_ssd_json(v, json);
    yk_json_end_object(json);
    yk_json_newline(json);
}
