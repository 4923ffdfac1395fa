/* SPDX-License-Identifier: Apache-2.0
 *
 * Output of benchmarks; see report.h. JSON is written by hand: ten fixed fields, and names are
 * literals of the benchmarks, but they are escaped all the same.
 */
#include "bench/report.h"

#include "base/status.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void yk_bench_report_init(struct yk_bench_report *r, const char *bench, FILE *out, bool json) {
    *r = (struct yk_bench_report){.bench = bench, .out = out ? out : stdout, .json = json};
}

static void json_string(FILE *out, const char *s) {
    fputc('"', out);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fputc('\\', out);
        if ((unsigned char)*s < 0x20)
            fprintf(out, "\\u%04x", (unsigned)*s);
        else
            fputc(*s, out);
    }
    fputc('"', out);
}

static void json_number(FILE *out, const char *key, double v) {
    if (isfinite(v))
        fprintf(out, ", \"%s\": %.6g", key, v);
    else
        fprintf(out, ", \"%s\": null", key);
}

static void row_json(const struct yk_bench_report *r, const struct yk_bench_row *row) {
    FILE *out = r->out;
    fputs("{\"bench\": ", out);
    json_string(out, r->bench);
    fputs(", \"case\": ", out);
    json_string(out, row->name);
    json_number(out, "value", row->value);
    fputs(", \"unit\": ", out);
    json_string(out, row->unit);
    json_number(out, "limit", row->limit);
    json_number(out, "ratio", row->value / row->limit);
    json_number(out, "p50_us", row->p50_us);
    json_number(out, "p99_us", row->p99_us);
    json_number(out, "p999_us", row->p999_us);
    json_number(out, "cpu_s", row->cpu_s);
    fputs("}\n", out);
}

static void cell(FILE *out, int width, double v) {
    if (!isfinite(v))
        fprintf(out, " %*s", width, "-");
    else if (fabs(v) >= 1e6 || (v != 0 && fabs(v) < 1e-3))
        fprintf(out, " %*.3e", width, v);
    else
        fprintf(out, " %*.4g", width, v);
}

static void row_table(struct yk_bench_report *r, const struct yk_bench_row *row) {
    if (!r->began)
        fprintf(r->out, "%-8s %-38s %10s %-8s %10s %7s %9s %9s %9s %7s\n", "bench", "case", "value",
                "unit", "limit", "ratio", "p50 us", "p99 us", "p99.9 us", "cpu s");
    r->began = true;
    fprintf(r->out, "%-8s %-38s", r->bench, row->name);
    cell(r->out, 10, row->value);
    fprintf(r->out, " %-8s", row->unit);
    cell(r->out, 10, row->limit);
    cell(r->out, 7, row->value / row->limit);
    cell(r->out, 9, row->p50_us);
    cell(r->out, 9, row->p99_us);
    cell(r->out, 9, row->p999_us);
    cell(r->out, 7, row->cpu_s);
    fputc('\n', r->out);
}

static bool matches(const struct yk_bench_report *r, const char *name) {
    bool any = r->n_cases == 0;
    for (size_t i = 0; i < r->n_cases && !any; i++)
        any = fnmatch(r->cases[i], name, 0) == 0;
    return any;
}

bool yk_bench_wants(const struct yk_bench_report *r, const char *const *names) {
    for (; *names != NULL; names++)
        if (matches(r, *names))
            return true;
    return false;
}

static int is_beside(const char *name) {
    return strncmp(name, "base ", 5) == 0 || strncmp(name, "cpu ", 4) == 0;
}

int yk_bench_report_end(const struct yk_bench_report *r, int rc) {
    return rc == 0 && r->matched == 0 ? -YK_ENOENT : rc;
}

void yk_bench_report_row(struct yk_bench_report *r, const struct yk_bench_row *row) {
    if (!yk_bench_wants(r, (const char *const[]){row->name, NULL})) {
        if (!is_beside(row->name))
            return;
    } else {
        r->matched++;
    }
    if (r->json)
        row_json(r, row);
    else
        row_table(r, row);
    fflush(r->out);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void yk_bench_row_percentiles(struct yk_bench_row *row, uint64_t *lat_ns, size_t n) {
    if (n == 0)
        return;
    qsort(lat_ns, n, sizeof(lat_ns[0]), by_value);
    row->p50_us = (double)lat_ns[(n - 1) / 2] / 1e3;
    row->p99_us = (double)lat_ns[(size_t)((double)(n - 1) * 0.99)] / 1e3;
    row->p999_us = (double)lat_ns[(size_t)((double)(n - 1) * 0.999)] / 1e3;
}

double yk_bench_cpu_s(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}
