/* SPDX-License-Identifier: Apache-2.0
 *
 * The report of a cluster run: one HTML file, with plots as SVG inside (cluster.h).
 *
 * Without scripts, fonts or anything else from elsewhere, so that it can be kept, sent and looked at anywhere. Every
 * plot is a frame with two axes and lines or bars in it; what is drawn is what --json has, and the series over time.
 */
#include "sim/cluster/cluster.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>

#define WIDTH  760.0
#define HEIGHT 240.0
#define LEFT   70.0
#define RIGHT  16.0
#define TOP    12.0
#define BOTTOM 34.0
#define TICKS  5

static const char *const from_names[YK_SIM_FROMS] = {"VRAM", "DRAM", "SSD", "other nodes"};
static const char *const colours[] = {"#7b3294", "#2166ac", "#e08214", "#1b7837", "#555555"};

/* ---- frames ---- */

struct plot {
    FILE *out;
    double x_max, y_max;
    bool log_x; /* from x_min */
    double x_min;
};

static double at_x(const struct plot *p, double x) {
    double share = p->log_x ? log(fmax(x, p->x_min) / p->x_min) / log(p->x_max / p->x_min) : x / p->x_max;
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double at_y(const struct plot *p, double y) {
    return HEIGHT - BOTTOM - y / p->y_max * (HEIGHT - TOP - BOTTOM);
}

/* The next number that ends an axis well: 1, 2, 2.5, 5 times a power of ten. */
static double round_up(double value) {
    static const double steps[] = {1, 2, 2.5, 5, 10};
    if (!(value > 0))
        return 1;
    double power = pow(10, floor(log10(value)));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (steps[i] * power >= value)
            return steps[i] * power;
    return 10 * power;
}

static void text(FILE *out, double x, double y, const char *anchor, const char *what) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, what);
}

static void line(FILE *out, double x1, double y1, double x2, double y2) {
    fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>\n", x1, y1, x2, y2);
}

static void put_y_axis(const struct plot *p) {
    char label[32];
    for (int i = 0; i <= TICKS; i++) {
        double value = p->y_max * i / TICKS;
        line(p->out, LEFT, at_y(p, value), WIDTH - RIGHT, at_y(p, value));
        snprintf(label, sizeof(label), "%.4g", value);
        text(p->out, LEFT - 6, at_y(p, value) + 4, "end", label);
    }
}

static void put_x_axis(const struct plot *p) {
    char label[32];
    if (p->log_x)
        for (double value = p->x_min; value <= p->x_max * 1.001; value *= 10) {
            line(p->out, at_x(p, value), TOP, at_x(p, value), HEIGHT - BOTTOM);
            snprintf(label, sizeof(label), "%.4g", value);
            text(p->out, at_x(p, value), HEIGHT - BOTTOM + 15, "middle", label);
        }
    else
        for (int i = 0; i <= TICKS; i++) {
            snprintf(label, sizeof(label), "%.4g", p->x_max * i / TICKS);
            text(p->out, at_x(p, p->x_max * i / TICKS), HEIGHT - BOTTOM + 15, "middle", label);
        }
}

static void begin_plot(const struct plot *p, const char *title, const char *x, const char *y) {
    fprintf(p->out, "<h2>%s</h2>\n<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", title, WIDTH, HEIGHT, title);
    put_y_axis(p);
    put_x_axis(p);
    text(p->out, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle", x);
    fprintf(p->out, "<text transform=\"translate(12 %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", HEIGHT / 2, y);
}

static void end_plot(const struct plot *p) {
    fputs("</svg>\n", p->out);
}

static void begin_line(const struct plot *p, const char *colour) {
    fprintf(p->out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\" points=\"", colour);
}

static void put_point(const struct plot *p, double x, double y) {
    fprintf(p->out, "%.1f,%.1f ", at_x(p, x), at_y(p, fmin(y, p->y_max)));
}

static void end_line(const struct plot *p) {
    fputs("\"/>\n", p->out);
}

static void put_key(FILE *out, size_t n, const char *const *names) {
    fputs("<p class=\"key\">", out);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "<span style=\"color:%s\">&#9632;</span> %s&ensp;", colours[i], names[i]);
    fputs("</p>\n", out);
}

/* ---- plots ---- */

static void put_cumulative(const struct plot *p, const struct yk_hist *h, const char *colour) {
    uint64_t seen = 0, all = yk_hist_count(h);
    begin_line(p, colour);
    for (uint32_t i = 0; i < YK_HIST_BUCKETS && all > 0; i++) {
        if (h->buckets[i] == 0)
            continue;
        seen += h->buckets[i];
        put_point(p, (double)yk_hist_bucket_middle(i) / 1e6, 100 * (double)seen / (double)all);
    }
    end_line(p);
}

static void put_latencies(FILE *out, const struct yk_sim_cluster_result *r) {
    static const char *const names[] = {"time to first token", "time between tokens"};
    uint64_t low = yk_hist_count(&r->tbt) > 0 ? yk_hist_min(&r->tbt) : yk_hist_min(&r->ttft);
    uint64_t high = yk_hist_max(&r->ttft) > yk_hist_max(&r->tbt) ? yk_hist_max(&r->ttft) : yk_hist_max(&r->tbt);
    struct plot p = {.out = out, .log_x = true, .y_max = 100};
    p.x_min = pow(10, floor(log10(fmax((double)low / 1e6, 0.01))));
    p.x_max = pow(10, ceil(log10(fmax((double)high / 1e6, p.x_min * 10))));
    begin_plot(&p, "Latency, cumulative", "milliseconds", "% of requests");
    put_cumulative(&p, &r->ttft, colours[0]);
    put_cumulative(&p, &r->tbt, colours[1]);
    end_plot(&p);
    put_key(out, 2, names);
}

static double hit_share(const struct yk_sim_step *s, int from) {
    return s->blocks > 0 ? 100 * (double)s->hits[from] / (double)s->blocks : 0;
}

static void put_hits(FILE *out, const struct yk_sim_cluster_result *r) {
    const char *names[YK_SIM_FROMS + 1];
    struct plot p = {.out = out, .x_max = r->step_s * YK_SIM_STEPS, .y_max = 100};
    begin_plot(&p, "Hit ratio over time", "seconds, by arrival", "% of blocks");
    for (int from = 0; from <= YK_SIM_FROMS; from++) {
        begin_line(&p, colours[from]);
        for (uint32_t i = 0; i < YK_SIM_STEPS; i++) {
            double y = 0;
            for (int k = 0; k < YK_SIM_FROMS; k++)
                y += from == k || from == YK_SIM_FROMS ? hit_share(&r->steps[i], k) : 0;
            put_point(&p, (i + 0.5) * r->step_s, y);
        }
        end_line(&p);
        names[from] = from < YK_SIM_FROMS ? from_names[from] : "all";
    }
    end_plot(&p);
    put_key(out, YK_SIM_FROMS + 1, names);
}

static void put_traffic(FILE *out, const struct yk_sim_cluster_result *r) {
    struct plot p = {.out = out, .x_max = r->step_s * YK_SIM_STEPS};
    double most = 0;
    for (uint32_t i = 0; i < YK_SIM_STEPS; i++)
        most = fmax(most, r->steps[i].cross_bytes / r->step_s / 1e9);
    p.y_max = round_up(most);
    begin_plot(&p, "Traffic between nodes over time", "seconds", "GB/s");
    begin_line(&p, colours[3]);
    for (uint32_t i = 0; i < YK_SIM_STEPS; i++)
        put_point(&p, (i + 0.5) * r->step_s, r->steps[i].cross_bytes / r->step_s / 1e9);
    end_line(&p);
    end_plot(&p);
}

static void put_bar(const struct plot *p, double x, double width, double y, const char *colour) {
    fprintf(p->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\"/>\n", at_x(p, x), at_y(p, y),
            fmax(at_x(p, x + width) - at_x(p, x), 0.3), at_y(p, 0) - at_y(p, y), colour);
}

static double share(double part, double all) {
    return all > 0 ? 100 * part / all : 0;
}

static void put_nodes(FILE *out, const struct yk_sim_cluster_result *r) {
    static const char *const names[] = {"prefill", "decode"};
    struct plot p = {.out = out, .x_max = r->nodes, .y_max = 100};
    begin_plot(&p, "Load of each node", "node", "% of the time");
    for (uint32_t i = 0; i < r->nodes; i++) {
        put_bar(&p, i + 0.1, 0.4, share(r->node[i].prefill_busy_s, r->prefilled_s - r->began_s), colours[0]);
        put_bar(&p, i + 0.5, 0.4, share(r->node[i].decode_busy_s, r->ended_s - r->began_s), colours[1]);
    }
    end_plot(&p);
    put_key(out, 2, names);
}

static void put_node_traffic(FILE *out, const struct yk_sim_cluster_result *r) {
    static const char *const names[] = {"sent", "received"};
    struct plot p = {.out = out, .x_max = r->nodes};
    double most = 0;
    for (uint32_t i = 0; i < r->nodes; i++)
        most = fmax(most, fmax(r->node[i].sent_bytes, r->node[i].received_bytes) / 1e9);
    p.y_max = round_up(most);
    begin_plot(&p, "Traffic of each node", "node", "GB");
    for (uint32_t i = 0; i < r->nodes; i++) {
        put_bar(&p, i + 0.1, 0.4, r->node[i].sent_bytes / 1e9, colours[0]);
        put_bar(&p, i + 0.5, 0.4, r->node[i].received_bytes / 1e9, colours[1]);
    }
    end_plot(&p);
    put_key(out, 2, names);
}

/* ---- the table, and all of it ---- */

static void put_row(FILE *out, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void put_row(FILE *out, const char *what, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(out, "<tr><th>%s</th><td>", what);
    vfprintf(out, format, args);
    fputs("</td></tr>\n", out);
    va_end(args);
}

static void put_times(FILE *out, const char *what, const struct yk_hist *h) {
    put_row(out, what, "mean %.1f ms, p50 %.1f, p90 %.1f, p99 %.1f", yk_hist_mean(h) / 1e6,
            (double)yk_hist_percentile(h, 50) / 1e6, (double)yk_hist_percentile(h, 90) / 1e6,
            (double)yk_hist_percentile(h, 99) / 1e6);
}

static void put_table(FILE *out, const struct yk_sim_cluster_opts *o, const struct yk_sim_cluster_result *r) {
    uint64_t hits = 0;
    for (int i = 0; i < YK_SIM_FROMS; i++)
        hits += r->hits[i];
    fputs("<table>\n", out);
    put_row(out, "cluster", "%u nodes in %u zones, %s on %s, prefetch at %s", o->nodes, o->zones, o->model, o->gpu,
            yk_sim_prefetch_names[o->prefetch]);
    put_row(out, "a node keeps", "%u blocks in VRAM, %u in DRAM, %u on SSD, by %s", o->blocks[YK_SIM_VRAM],
            o->blocks[YK_SIM_DRAM], o->blocks[YK_SIM_SSD], o->policy);
    put_row(out, "router", "%s", yk_sim_router_names[o->router]);
    put_row(out, "requests", "%" PRIu64 " in %.1f s (load %g)", r->requests, r->ended_s - r->began_s, o->load);
    put_row(out, "hits", "%.2f %% of %" PRIu64 " blocks", share((double)hits, (double)r->blocks), r->blocks);
    put_times(out, "time to first token", &r->ttft);
    put_times(out, "time between tokens", &r->tbt);
    put_row(out, "goodput", "%.1f %% of requests keep to %g s and %g ms", share((double)r->good, (double)r->requests),
            o->ttft_objective_s, o->tbt_objective_s * 1e3);
    put_row(out, "between nodes", "%.1f GB, %.1f of it between zones", r->asked_bytes[YK_SIM_REMOTE] / 1e9,
            r->cross_zone_bytes / 1e9);
    put_row(out, "loads", "%.1f s, of which prefill waited for %.1f", r->load_s, r->stalled_s);
    put_row(out, "used", "prefill %.1f %%, decode %.1f, NICs %.1f, PCIe %.1f, SSD %.1f", 100 * r->prefill_utilisation,
            100 * r->decode_utilisation, 100 * r->nic_utilisation, 100 * r->pcie_utilisation, 100 * r->ssd_utilisation);
    fputs("</table>\n", out);
}

int yk_sim_cluster_report(FILE *out, const struct yk_sim_cluster_opts *o, const struct yk_sim_cluster_result *r) {
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>yolk sim</title>\n<style>\n"
          "body{font:15px/1.45 sans-serif;max-width:800px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\n"
          "h1{font-size:1.5em}h2{font-size:1.1em;margin:1.6em 0 .2em}\n"
          "table{border-collapse:collapse}th{text-align:left;font-weight:normal;color:#666;padding:2px 1.5em 2px 0}\n"
          "svg{width:100%;height:auto}svg text{font:11px sans-serif;fill:#444}.grid{stroke:#ddd;stroke-width:1}\n"
          ".key{margin:.1em 0 0;font-size:13px;color:#444}\n"
          "</style></head><body>\n<h1>A cluster, simulated</h1>\n",
          out);
    put_table(out, o, r);
    put_latencies(out, r);
    put_hits(out, r);
    put_traffic(out, r);
    put_nodes(out, r);
    put_node_traffic(out, r);
    fputs("</body></html>\n", out);
    return fflush(out) != 0 || ferror(out) ? -YK_EIO : 0;
}
