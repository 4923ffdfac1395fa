/* SPDX-License-Identifier: Apache-2.0
 *
 * What benchmarks print: a table for people, or with json one object a line and nothing else on
 * the output. Every figure stands beside the machine's own limit from the same run where there is
 * one. Base units only: B/s, 1/s, s, fraction.
 *
 * {"bench": "alloc", "case": "ops", "value": 2.1e+07, "unit": "1/s", "limit": 9e+07,
 *  "ratio": 0.23, "p50_us": null, "p99_us": null, "p999_us": null, "cpu_s": 1.5}   (on one line)
 *
 * Thread: one at a time.
 */
#ifndef YK_BENCH_REPORT_H
#define YK_BENCH_REPORT_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_bench_report {
    const char *bench; /* borrowed */
    FILE *out;         /* borrowed */
    bool json;
    bool began;         /* the table's head is printed */
    char *const *cases; /* globs of the rows that are printed, beside "base ..." and "cpu ..." */
    size_t n_cases;     /* 0: all */
    unsigned matched;   /* rows printed for it */
};

/* One line. Whatever does not apply is NAN (YK_BENCH_ROW sets them all so) and prints as null. */
struct yk_bench_row {
    const char *name; /* the case */
    const char *unit;
    double value;
    double limit; /* the ratio is value / limit */
    double p50_us, p99_us, p999_us;
    double cpu_s; /* user and system time that the case took, all threads */
};

#define YK_BENCH_ROW(name_, unit_, value_)                                                         \
    ((struct yk_bench_row){.name = (name_),                                                        \
                           .unit = (unit_),                                                        \
                           .value = (value_),                                                      \
                           .limit = NAN,                                                           \
                           .p50_us = NAN,                                                          \
                           .p99_us = NAN,                                                          \
                           .p999_us = NAN,                                                         \
                           .cpu_s = NAN})

/* out NULL: stdout. */
void yk_bench_report_init(struct yk_bench_report *r, const char *bench, FILE *out, bool json);

/* Is one of the names (NULL ends them) a case that is to be printed? */
bool yk_bench_wants(const struct yk_bench_report *r, const char *const *names);

/* For a benchmark's end: rc, or -YK_ENOENT where no case is called as was wanted. */
int yk_bench_report_end(const struct yk_bench_report *r, int rc);

/* Prints the row at once and flushes. */
void yk_bench_report_row(struct yk_bench_report *r, const struct yk_bench_row *row);

/* Sorts the n samples and sets the row's percentiles from them; n 0 leaves them NAN. */
void yk_bench_row_percentiles(struct yk_bench_row *row, uint64_t *lat_ns, size_t n);

/* CPU time of this process so far, all threads. */
double yk_bench_cpu_s(void);

#ifdef __cplusplus
}
#endif

#endif
