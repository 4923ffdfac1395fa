/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics registry, rendered in the Prometheus text exposition format (version 0.0.4).
 *
 * The registry holds no values. A module keeps its counters as plain 64-bit words in its own
 * structures, beside what else its thread touches, and registers their addresses at start; the
 * owner adds to a word with a relaxed load and store (yk_metric_add), and whoever renders the page
 * reads it. Nothing is locked, and a counter that nobody scrapes costs one add. Shards that
 * register the same name and labels are summed (histograms merged) on the page: each counts into
 * its own cache line.
 *
 * What is not known at start (one sample for each namespace) or not kept as a word (memory in use
 * according to the kernel) comes from a collector, which is called while the page is rendered.
 *
 * Words are integers; a divisor turns them into the base units that the page shows (nanoseconds
 * into seconds, parts per million into a fraction). Histograms are struct yk_hist, shown in seconds
 * with the fixed bounds YK_METRICS_BOUNDS_NS, each count exact to one histogram bucket (1.6 %).
 *
 * Names are held to the format's and to its naming practice, so that a page never needs cleaning:
 * counters end in _total, histograms in _seconds, nothing ends in _bucket, _sum or _count.
 *
 * Thread: registration by one thread, before the first render; then immutable. Rendering: any
 * thread, as often as it likes, if the collectors allow it.
 */
#ifndef YK_BASE_METRICS_H
#define YK_BASE_METRICS_H

#include "base/buf.h"
#include "base/hist.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define YK_METRICS_LABELS_MAX   8
#define YK_METRICS_NAME_MAX     128 /* bytes, of a metric or a label */

enum yk_metric_type { YK_METRIC_COUNTER, YK_METRIC_GAUGE, YK_METRIC_HISTOGRAM };

/* Several series of one name are registered with equal descriptions. Strings are copied. */
struct yk_metric_desc {
    const char *name; /* "yolk_hits_total" */
    const char *help; /* one sentence */
    enum yk_metric_type type;
    double divisor; /* shown value = word / divisor; 0: as it is. Not for histograms */
};

/* Names: [a-zA-Z_][a-zA-Z0-9_]*, not beginning with "__", not "le". Values: any bytes; what is not
 * UTF-8 is replaced by U+FFFD. Order does not matter. */
struct yk_label {
    const char *name;
    const char *value;
};

struct yk_metrics;

/* At most max_series words, histograms and collectors can be registered. */
int yk_metrics_new(uint32_t max_series, struct yk_metrics **ret_metrics);
void yk_metrics_free(struct yk_metrics *metrics);

/* Registers a counter or gauge (a gauge's word is an int64_t). *word is borrowed until
 * yk_metrics_free. -YK_EINVAL with the reason if name, label or description is wrong; -YK_ELIMIT if
 * the registry is full; -YK_ENOMEM. */
int yk_metrics_add_word(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                        const struct yk_label *labels, size_t n_labels, const uint64_t *word,
                        struct yk_err *err);

/* Registers a histogram; *hist is borrowed until yk_metrics_free. Errors as above. */
int yk_metrics_add_hist(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                        const struct yk_label *labels, size_t n_labels, const struct yk_hist *hist,
                        struct yk_err *err);

/* The part of a page that a collector fills. */
struct yk_metrics_page;

/* Called on the rendering thread, once for each page. */
typedef void (*yk_metrics_collect_fn)(void *ctx, struct yk_metrics_page *page);

/* Registers a collector for a counter or gauge; one for each name. Errors as above. */
int yk_metrics_add_collector(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                             yk_metrics_collect_fn collect, void *ctx, struct yk_err *err);

/* From a collector: one sample, already in the unit shown. Each set of labels may come once. Labels
 * that the format does not allow make the whole render fail. */
void yk_metrics_sample(struct yk_metrics_page *page, const struct yk_label *labels, size_t n_labels,
                       double value);

/* Appends the page to out, names in order of registration. 0, or out's status (-YK_ENOMEM,
 * -YK_ETOOBIG), or -YK_EINVAL from a collector's labels: then the page is not to be sent. */
int yk_metrics_render(const struct yk_metrics *metrics, struct yk_buf *out);

/* Owner's updates: one writer for each word; pair with the relaxed load of render. */
static inline void yk_metric_add(uint64_t *word, uint64_t n) {
    __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline void yk_metric_set(uint64_t *word, int64_t value) {
    __atomic_store_n(word, (uint64_t)value, __ATOMIC_RELAXED);
}

static inline uint64_t yk_metric_get(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* Upper bounds of the histogram buckets on the page: 1, 2.5, 5 in each decade, from a local lookup
 * (0.3 us) to a stuck transfer. */
#define YK_METRICS_BOUNDS_NS                                                                       \
    {                                                                                              \
        250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, \
            5000000, 10000000, 25000000, 50000000, 100000000, 250000000, 500000000, 1000000000,    \
            2500000000, 5000000000, 10000000000                                                    \
    }

#ifdef __cplusplus
}
#endif

#endif
