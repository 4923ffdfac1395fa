/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier on the screen of yolk top and in its JSON (top_view.h): how full it is, which tier hits
 * come from, what moves, each device. Nothing of it is shown for a node without one.
 */
#include "top_view.h"

#include "base/fmt.h"

#include <math.h>
#include <string.h>

static json_t *tier(const struct yolk_sample *s) {
    json_t *ssd = json_object_get(s->root, "ssd");
    return json_is_object(ssd) ? ssd : NULL;
}

static uint64_t figure(const json_t *of, const char *name) {
    json_int_t n = json_integer_value(json_object_get(of, name));
    return n > 0 ? (uint64_t)n : 0;
}

static double of_parts(uint64_t n, uint64_t all) {
    return all > 0 ? (double)n / (double)all : 0;
}

/* A second, of a counter of the tier or of one of its devices. */
static double rate(const struct yolk_top_view *v, const json_t *old, const json_t *now,
                   const char *name) {
    double seconds = yolk_sample_seconds(&v->before, &v->now);
    uint64_t a = figure(old, name), b = figure(now, name);
    return seconds > 0 && b > a ? (double)(b - a) / seconds : 0;
}

static double dram_hit_rate(const struct yolk_top_view *v) {
    double all = yolk_sample_rate(&v->before, &v->now, "local_hits") +
                 yolk_sample_rate(&v->before, &v->now, "node_hits");
    double ssd = yolk_sample_rate(&v->before, &v->now, "ssd_hits");
    return all > ssd ? all - ssd : 0;
}

static uint64_t dram_hits(const struct yolk_sample *s) {
    uint64_t all = yolk_sample_hits(s), ssd = yolk_sample_get(s, "ssd_hits");
    return all > ssd ? all - ssd : 0;
}

/* ---- text --------------------------------------------------------------------------------------- */

static const char *bytes_a_second(double n, char buf[YK_FMT_MAX]) {
    yk_fmt_bytes((uint64_t)(n + 0.5), buf);
    return buf;
}

static const char *count_a_second(double n, char buf[YK_FMT_MAX]) {
    return yk_fmt_count((uint64_t)(n + 0.5), buf);
}

void yolk_top_bar(uint64_t n, uint64_t all, char bar[YOLK_TOP_BAR + 1]) {
    size_t cells = (size_t)(of_parts(n, all) * YOLK_TOP_BAR + 0.5);
    memset(bar, '.', YOLK_TOP_BAR);
    memset(bar, '#', cells < YOLK_TOP_BAR ? cells : YOLK_TOP_BAR);
    bar[YOLK_TOP_BAR] = '\0';
}

static void put_size(const json_t *ssd, struct yk_buf *out) {
    char bar[YOLK_TOP_BAR + 1], used[YK_FMT_MAX], all[YK_FMT_MAX], blocks[YK_FMT_MAX];
    char free_text[YK_FMT_MAX];
    uint64_t n = figure(ssd, "block_bytes"), capacity = figure(ssd, "capacity_bytes");
    yolk_top_bar(n, capacity, bar);
    yk_buf_printf(out, "ssd        [%s] %s of %s in %s blocks, %s free\n", bar,
                  yk_fmt_bytes(n, used), yk_fmt_bytes(capacity, all),
                  yk_fmt_count(figure(ssd, "blocks"), blocks),
                  yk_fmt_bytes(figure(ssd, "free_bytes"), free_text));
}

static void put_hits(const struct yolk_top_view *v, struct yk_buf *out) {
    char dram[YK_FMT_MAX], ssd[YK_FMT_MAX], dram_all[YK_FMT_MAX], ssd_all[YK_FMT_MAX];
    const struct yolk_sample *s = &v->now;
    yk_buf_printf(out, "hits from  dram %s/s (%s in all), ssd %s/s (%s in all)\n",
                  count_a_second(dram_hit_rate(v), dram), yk_fmt_count(dram_hits(s), dram_all),
                  count_a_second(yolk_sample_rate(&v->before, s, "ssd_hits"), ssd),
                  yk_fmt_count(yolk_sample_get(s, "ssd_hits"), ssd_all));
}

static void put_moves(const struct yolk_top_view *v, const json_t *ssd, struct yk_buf *out) {
    char down[YK_FMT_MAX], up[YK_FMT_MAX], queue[YK_FMT_MAX], wear[YK_FMT_MAX];
    const struct yolk_sample *s = &v->now;
    yk_buf_printf(out,
                  "moves      down %s/s (%s waiting), up %s/s (%llu waiting), written %s, "
                  "amplification %.2f\n",
                  bytes_a_second(yolk_sample_rate(&v->before, s, "demoted_bytes"), down),
                  yk_fmt_bytes(yolk_sample_get(s, "leaving_bytes"), queue),
                  bytes_a_second(yolk_sample_rate(&v->before, s, "raised_bytes"), up),
                  (unsigned long long)yolk_sample_get(s, "raising"),
                  yk_fmt_bytes(figure(ssd, "written_bytes"), wear),
                  json_number_value(json_object_get(ssd, "write_amplification")));
}

static void put_preload(const struct yolk_sample *s, struct yk_buf *out) {
    char done[YK_FMT_MAX], all[YK_FMT_MAX];
    uint64_t n = yolk_sample_get(s, "preloaded_bytes"), goal = yolk_sample_get(s, "preload_goal");
    if (n < goal)
        yk_buf_printf(out, "preload    %s of %s (%.0f %%)\n", yk_fmt_bytes(n, done),
                      yk_fmt_bytes(goal, all), of_parts(n, goal) * 100);
}

/* Nothing, where nothing was ever named. */
static void put_ahead(const struct yolk_sample *s, struct yk_buf *out) {
    static const char *const names[] = {"prefetch_ahead_moved", "prefetch_ahead_used", "prefetch_ahead_wasted",
                                        "prefetch_ahead_cancelled"};
    char text[4][YK_FMT_MAX];
    if (yolk_sample_get(s, "prefetch_ahead_asked") == 0)
        return;
    for (size_t i = 0; i < 4; i++)
        yk_fmt_count(yolk_sample_get(s, names[i]), text[i]);
    yk_buf_printf(out, "ahead      %s came up as predicted, %s used, %s wasted, %s cancelled\n", text[0], text[1], text[2],
                  text[3]);
}

static void put_device(const struct yolk_top_view *v, const json_t *old, const json_t *now,
                       struct yk_buf *out) {
    char read[YK_FMT_MAX], written[YK_FMT_MAX], wear[YK_FMT_MAX];
    const char *state = json_string_value(json_object_get(now, "state"));
    const char *path = json_string_value(json_object_get(now, "path"));
    yk_buf_printf(out, "%-11s%9llu%12s%12s%10llu%11s  %s\n", state != NULL ? state : "?",
                  (unsigned long long)figure(now, "queue_depth"),
                  bytes_a_second(rate(v, old, now, "read_bytes"), read),
                  bytes_a_second(rate(v, old, now, "written_bytes"), written),
                  (unsigned long long)(figure(now, "read_errors") + figure(now, "write_errors")),
                  yk_fmt_bytes(figure(now, "wear_bytes"), wear), path != NULL ? path : "?");
}

static void put_time(const json_t *ssd, const char *op, struct yk_buf *out) {
    const json_t *row = json_object_get(json_object_get(ssd, "latency"), op);
    yk_buf_printf(out, "  %s p50 %.0f us, p99 %.0f us", op,
                  json_number_value(json_object_get(row, "p50_us")),
                  json_number_value(json_object_get(row, "p99_us")));
}

void yolk_top_ssd_text(const struct yolk_top_view *v, struct yk_buf *out) {
    const json_t *ssd = tier(&v->now);
    if (ssd == NULL)
        return;
    put_size(ssd, out);
    put_hits(v, out);
    put_moves(v, ssd, out);
    put_preload(&v->now, out);
    put_ahead(&v->now, out);
}

void yolk_top_ssd_devices_text(const struct yolk_top_view *v, struct yk_buf *out) {
    const json_t *ssd = tier(&v->now), *old = tier(&v->before);
    const json_t *devices = json_object_get(ssd, "devices");
    if (ssd == NULL)
        return;
    yk_buf_printf(out, "\n%-11s%9s%12s%12s%10s%11s  %s\n", "DEVICES", "queue", "read/s",
                  "written/s", "errors", "wear", "path");
    for (size_t i = 0; i < json_array_size(devices); i++)
        put_device(v, json_array_get(json_object_get(old, "devices"), i),
                   json_array_get(devices, i), out);
    yk_buf_puts(out, "since the start");
    put_time(ssd, "read", out);
    put_time(ssd, "write", out);
    yk_buf_putc(out, '\n');
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static void json_flow(struct yk_json *json, const char *name, double a_second, uint64_t total) {
    yk_json_key(json, name);
    yk_json_begin_object(json);
    yk_json_put_double(json, "per_s", a_second);
    yk_json_put_uint(json, "total", total);
    yk_json_end_object(json);
}

static void json_device(const struct yolk_top_view *v, const json_t *old, const json_t *now,
                        struct yk_json *json) {
    yk_json_begin_object(json);
    yk_json_put_str(json, "path", json_string_value(json_object_get(now, "path")));
    yk_json_put_str(json, "state", json_string_value(json_object_get(now, "state")));
    yk_json_put_uint(json, "queue_depth", figure(now, "queue_depth"));
    yk_json_put_uint(json, "wear_bytes", figure(now, "wear_bytes"));
    json_flow(json, "read_bytes", rate(v, old, now, "read_bytes"), figure(now, "read_bytes"));
    json_flow(json, "written_bytes", rate(v, old, now, "written_bytes"),
              figure(now, "written_bytes"));
    yk_json_put_uint(json, "errors", figure(now, "read_errors") + figure(now, "write_errors"));
    yk_json_end_object(json);
}

static void json_time(const json_t *ssd, const char *op, struct yk_json *json) {
    static const char *const names[] = {"p50_us", "p99_us", "p999_us"};
    const json_t *row = json_object_get(json_object_get(ssd, "latency"), op);
    yk_json_key(json, op);
    yk_json_begin_object(json);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        yk_json_put_double(json, names[i], json_number_value(json_object_get(row, names[i])));
    yk_json_end_object(json);
}

static void json_flows(const struct yolk_top_view *v, struct yk_json *json) {
    static const char *const names[] = {"ssd_hits", "ssd_hit_bytes", "demoted",   "demoted_bytes",
                                        "raised",   "raised_bytes",  "prefetched",
                                        "prefetch_ahead_asked", "prefetch_ahead_moved", "prefetch_ahead_used",
                                        "prefetch_ahead_wasted", "prefetch_ahead_cancelled"};
    json_flow(json, "dram_hits", dram_hit_rate(v), dram_hits(&v->now));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        json_flow(json, names[i], yolk_sample_rate(&v->before, &v->now, names[i]),
                  yolk_sample_get(&v->now, names[i]));
}

void yolk_top_ssd_json(const struct yolk_top_view *v, struct yk_json *json) {
    static const char *const gauges[] = {"blocks",        "block_bytes", "capacity_bytes",
                                         "free_bytes",    "reads_now",   "queued_bytes",
                                         "written_bytes", "io_errors"};
    const json_t *ssd = tier(&v->now), *devices = json_object_get(ssd, "devices");
    yk_json_key(json, "ssd");
    if (ssd == NULL) {
        yk_json_null(json);
        return;
    }
    yk_json_begin_object(json);
    json_flows(v, json);
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
        yk_json_put_uint(json, gauges[i], figure(ssd, gauges[i]));
    yk_json_put_uint(json, "leaving_bytes", yolk_sample_get(&v->now, "leaving_bytes"));
    yk_json_put_uint(json, "raising", yolk_sample_get(&v->now, "raising"));
    yk_json_put_uint(json, "preloaded_bytes", yolk_sample_get(&v->now, "preloaded_bytes"));
    yk_json_put_uint(json, "preload_goal", yolk_sample_get(&v->now, "preload_goal"));
    yk_json_put_double(json, "write_amplification",
                       json_number_value(json_object_get(ssd, "write_amplification")));
    yk_json_key(json, "devices");
    yk_json_begin_array(json);
    for (size_t i = 0; i < json_array_size(devices); i++)
        json_device(v, json_array_get(json_object_get(tier(&v->before), "devices"), i),
                    json_array_get(devices, i), json);
    yk_json_end_array(json);
    yk_json_key(json, "latency");
    yk_json_begin_object(json);
    json_time(ssd, "read", json);
    json_time(ssd, "write", json);
    yk_json_end_object(json);
    yk_json_end_object(json);
}
