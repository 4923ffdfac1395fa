/* SPDX-License-Identifier: Apache-2.0
 *
 * Rounds, medians, rows (bench/measure.h).
 */
#include "bench/measure.h"

#include "base/clock.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double yk_process_cpu_s(pid_t pid) {
    clockid_t clock;
    struct timespec ts;
    if (pid == 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) != 0)
        return 0;
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int round_of_ops(struct yk_series *s, uint64_t first, uint64_t n) {
    uint32_t every = s->sample_every != 0 ? s->sample_every : 1;
    int rc = 0;
    for (uint64_t i = first; i < first + n && rc == 0; i++) {
        if (i % every != 0) {
            rc = s->op(s->arg, i);
            continue;
        }
        uint64_t start = yk_now_ns();
        rc = s->op(s->arg, i);
        yk_hist_record(&s->hist, yk_now_ns() - start);
    }
    return rc;
}

static int round_run(struct yk_series *s) {
    double cpu = yk_bench_cpu_s(), node = yk_process_cpu_s(s->node);
    uint64_t start = yk_now_ns();
    int rc =
        s->many != NULL ? s->many(s, s->ops, s->per_round) : round_of_ops(s, s->ops, s->per_round);
    uint64_t ns = yk_now_ns() - start;
    if (rc < 0)
        return rc;
    s->cpu_s += yk_bench_cpu_s() - cpu;
    s->node_s += yk_process_cpu_s(s->node) - node;
    s->ops += s->per_round;
    s->rates[s->rounds++ % YK_ROUNDS_MAX] =
        (double)s->per_round * s->weight / ((double)(ns != 0 ? ns : 1) / 1e9);
    return 0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double yk_bench_median(double *v, uint32_t n) {
    qsort(v, n, sizeof(*v), by_value);
    return n == 0 ? 0 : n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

int yk_measure(struct yk_series *const *series, size_t n, double seconds) {
    uint64_t end = yk_now_ns() + (uint64_t)(seconds * 1e9);
    for (uint32_t round = 0; round < 3 || yk_now_ns() < end; round++) {
        for (size_t i = 0; i < n; i++) {
            int rc = round_run(series[i]);
            if (rc < 0)
                return rc;
        }
    }
    for (size_t i = 0; i < n; i++)
        series[i]->rate =
            yk_bench_median(series[i]->rates,
                            series[i]->rounds < YK_ROUNDS_MAX ? series[i]->rounds : YK_ROUNDS_MAX);
    return 0;
}

void yk_row_hist(struct yk_bench_row *row, const struct yk_hist *h) {
    if (yk_hist_count(h) == 0)
        return;
    row->p50_us = (double)yk_hist_percentile(h, 50) / 1e3;
    row->p99_us = (double)yk_hist_percentile(h, 99) / 1e3;
    row->p999_us = (double)yk_hist_percentile(h, 99.9) / 1e3;
}

void yk_series_row(struct yk_bench_report *r, const char *name, const char *unit,
                   const struct yk_series *s, const struct yk_series *limit) {
    struct yk_bench_row row = YK_BENCH_ROW(name, unit, s->rate);
    if (limit != NULL)
        row.limit = limit->rate;
    yk_row_hist(&row, &s->hist);
    row.cpu_s = s->cpu_s + s->node_s;
    yk_bench_report_row(r, &row);
}

void yk_series_cpu_rows(struct yk_bench_report *r, const char *name, const struct yk_series *s) {
    char text[80];
    snprintf(text, sizeof(text), "cpu %s client", name);
    struct yk_bench_row row = YK_BENCH_ROW(text, "s", s->cpu_s / (double)s->ops);
    yk_bench_report_row(r, &row);
    if (s->node == 0)
        return;
    snprintf(text, sizeof(text), "cpu %s node", name);
    row = YK_BENCH_ROW(text, "s", s->node_s / (double)s->ops);
    yk_bench_report_row(r, &row);
}
