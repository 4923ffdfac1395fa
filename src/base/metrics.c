/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics registry and its Prometheus page (metrics.h).
 *
 * A family is a name with its type and help; it has series, told apart by their labels, and a
 * series has one source or, summed, several. Labels are checked, sorted by name and written out
 * once at registration, so that {a,b} and {b,a} are one series and a page is mostly copying. Lists
 * are in order of registration; looking a name up walks them, which happens at start only.
 *
 * Thread: see metrics.h.
 */
#include "base/metrics.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_TEXT_MAX 4096 /* of one series, escaped */
#define COUNT_OF(a)     (sizeof(a) / sizeof((a)[0]))

struct source {
    struct source *next;
    const void *data; /* uint64_t or struct yk_hist */
};

struct series {
    struct series *next;
    struct source *sources;
    char *labels; /* a="b",c="d" or "" */
};

struct family {
    struct family *next;
    struct series *series;
    char *name;
    char *help; /* escaped */
    enum yk_metric_type type;
    double divisor;
    yk_metrics_collect_fn collect;
    void *collect_ctx;
};

struct yk_metrics {
    struct family *families;
    uint32_t used;
    uint32_t max;
};

struct yk_metrics_page {
    const struct family *family;
    struct yk_buf *out;
    int status;
};

/* ---- names and labels ---- */

static bool name_ok(const char *name) {
    size_t len = (name != NULL) ? strlen(name) : 0;
    if (len == 0 || len > YK_METRICS_NAME_MAX || (name[0] >= '0' && name[0] <= '9'))
        return false;
    for (; *name != '\0'; name++)
        if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
              (*name >= '0' && *name <= '9') || *name == '_'))
            return false;
    return true;
}

static bool ends_in(const char *name, const char *suffix) {
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static int check_desc(const struct yk_metric_desc *desc, struct yk_err *err) {
    static const char *const reserved[] = {"_bucket", "_sum", "_count"};
    char quoted[YK_QUOTE_MAX];
    yk_quote(desc->name, quoted);
    if (!name_ok(desc->name))
        return yk_err_set(err, -YK_EINVAL, "metric %s: expected letters, digits and _, %d at most",
                          quoted, YK_METRICS_NAME_MAX);
    for (size_t i = 0; i < COUNT_OF(reserved); i++)
        if (ends_in(desc->name, reserved[i]))
            return yk_err_set(err, -YK_EINVAL, "metric %s: %s is for parts of a histogram", quoted,
                              reserved[i]);
    if (ends_in(desc->name, "_total") != (desc->type == YK_METRIC_COUNTER))
        return yk_err_set(err, -YK_EINVAL, "metric %s: counters, and only they, end in _total",
                          quoted);
    if (desc->type == YK_METRIC_HISTOGRAM && !ends_in(desc->name, "_seconds"))
        return yk_err_set(err, -YK_EINVAL, "metric %s: histograms end in _seconds", quoted);
    if (desc->help == NULL || desc->help[0] == '\0')
        return yk_err_set(err, -YK_EINVAL, "metric %s has no help text", quoted);
    return 0;
}

/* Backslash and line feed are escaped everywhere, quotes in label values only; ill-formed bytes are
 * replaced, since the page is UTF-8. */
static void put_escaped(struct yk_buf *out, const char *text, bool in_quotes) {
    size_t n = strlen(text), len;
    for (size_t at = 0; at < n; at += (len > 0) ? len : 1) {
        len = yk_utf8_len(text + at, n - at);
        if (len == 0)
            yk_buf_puts(out, YK_UTF8_REPLACEMENT);
        else if (text[at] == '\n')
            yk_buf_puts(out, "\\n");
        else if (text[at] == '\\')
            yk_buf_puts(out, "\\\\");
        else if (text[at] == '"' && in_quotes)
            yk_buf_puts(out, "\\\"");
        else
            yk_buf_append(out, text + at, len);
    }
}

/* Insertion sort into an array of pointers: there are a handful. */
static void sort_labels(const struct yk_label *labels, size_t n, const struct yk_label **sorted) {
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && strcmp(sorted[at - 1]->name, labels[i].name) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = &labels[i];
    }
}

static int check_labels(const struct yk_label *labels, size_t n, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    if (n > YK_METRICS_LABELS_MAX)
        return yk_err_set(err, -YK_EINVAL, "%zu labels, expected at most %d", n,
                          YK_METRICS_LABELS_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *name = labels[i].name;
        if (!name_ok(name) || strncmp(name, "__", 2) == 0 || strcmp(name, "le") == 0)
            return yk_err_set(err, -YK_EINVAL, "label %s: not an allowed name",
                              yk_quote(name, quoted));
        if (labels[i].value == NULL)
            return yk_err_set(err, -YK_EINVAL, "label %s has no value", yk_quote(name, quoted));
    }
    return 0;
}

/* Writes a="b",c="d" in order of names. */
static int put_labels(struct yk_buf *out, const struct yk_label *labels, size_t n,
                      struct yk_err *err) {
    const struct yk_label *sorted[YK_METRICS_LABELS_MAX];
    int rc = check_labels(labels, n, err);
    if (rc < 0)
        return rc;
    sort_labels(labels, n, sorted);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            return yk_err_set(err, -YK_EINVAL, "label '%s' is given twice", sorted[i]->name);
        yk_buf_printf(out, "%s%s=\"", (i > 0) ? "," : "", sorted[i]->name);
        put_escaped(out, sorted[i]->value, true);
        yk_buf_putc(out, '"');
    }
    return 0;
}

/* ---- registration ---- */

int yk_metrics_new(uint32_t max_series, struct yk_metrics **ret_metrics) {
    struct yk_metrics *metrics = calloc(1, sizeof(*metrics));
    if (metrics == NULL)
        return -YK_ENOMEM;
    metrics->max = max_series;
    *ret_metrics = metrics;
    return 0;
}

static void series_free(struct series *series) {
    for (struct source *source = series->sources; source != NULL;) {
        struct source *next = source->next;
        free(source);
        source = next;
    }
    free(series->labels);
    free(series);
}

static void family_free(struct family *family) {
    for (struct series *series = family->series; series != NULL;) {
        struct series *next = series->next;
        series_free(series);
        series = next;
    }
    free(family->name);
    free(family->help);
    free(family);
}

void yk_metrics_free(struct yk_metrics *metrics) {
    if (metrics == NULL)
        return;
    for (struct family *family = metrics->families; family != NULL;) {
        struct family *next = family->next;
        family_free(family);
        family = next;
    }
    free(metrics);
}

static char *escaped_copy(const char *text) {
    struct yk_buf buf;
    yk_buf_init(&buf, LABELS_TEXT_MAX);
    put_escaped(&buf, text, false);
    if (buf.status < 0)
        yk_buf_fini(&buf);
    return buf.data;
}

static int family_new(const struct yk_metric_desc *desc, struct family **ret_family,
                      struct yk_err *err) {
    struct family *family = calloc(1, sizeof(*family));
    if (family == NULL)
        return yk_err_set(err, -YK_ENOMEM, "metric %s: out of memory", desc->name);
    family->name = strdup(desc->name);
    family->help = escaped_copy(desc->help);
    family->type = desc->type;
    family->divisor = desc->divisor;
    if (family->name == NULL || family->help == NULL) {
        family_free(family);
        return yk_err_set(err, -YK_ENOMEM, "metric %s: no memory for its help", desc->name);
    }
    *ret_family = family;
    return 0;
}

/* The family of that name, made if it isn't there. */
static int family_get(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                      struct family **ret_family, struct yk_err *err) {
    struct family **link = &metrics->families;
    int rc;
    for (; *link != NULL; link = &(*link)->next) {
        struct family *family = *link;
        if (strcmp(family->name, desc->name) != 0)
            continue;
        if (family->type != desc->type || family->divisor != desc->divisor)
            return yk_err_set(err, -YK_EINVAL, "metric '%s' is registered with another type",
                              desc->name);
        *ret_family = family;
        return 0;
    }
    rc = family_new(desc, link, err);
    *ret_family = *link;
    return rc;
}

/* Takes labels on success. */
static int series_get(struct family *family, char *labels, struct series **ret_series) {
    struct series **link = &family->series;
    for (; *link != NULL; link = &(*link)->next) {
        if (strcmp((*link)->labels, labels) == 0) {
            free(labels);
            *ret_series = *link;
            return 0;
        }
    }
    struct series *series = calloc(1, sizeof(*series));
    if (series == NULL)
        return -YK_ENOMEM;
    series->labels = labels;
    *link = *ret_series = series;
    return 0;
}

static int source_add(struct family *family, char *labels, const void *data) {
    struct series *series;
    struct source *source = calloc(1, sizeof(*source));
    int rc = (source != NULL) ? series_get(family, labels, &series) : -YK_ENOMEM;
    if (rc < 0) {
        free(source);
        free(labels);
        return rc;
    }
    source->data = data;
    source->next = series->sources;
    series->sources = source;
    return 0;
}

/* Whether desc is well formed, of the right kind, and has a place. */
static int check_new(const struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                     bool want_hist, struct yk_err *err) {
    int rc = check_desc(desc, err);
    if (rc < 0)
        return rc;
    if ((desc->type == YK_METRIC_HISTOGRAM) != want_hist)
        return yk_err_set(err, -YK_EINVAL, "metric '%s' is registered with data of another type",
                          desc->name);
    if (metrics->used >= metrics->max)
        return yk_err_set(err, -YK_ELIMIT, "metric '%s': the registry is full (%" PRIu32 ")",
                          desc->name, metrics->max);
    return 0;
}

static int add(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
               const struct yk_label *labels, size_t n_labels, const void *data,
               struct yk_err *err) {
    struct family *family;
    struct yk_buf text;
    yk_buf_init(&text, LABELS_TEXT_MAX);
    yk_buf_puts(&text, "");
    int rc = put_labels(&text, labels, n_labels, err);
    if (rc == 0 && text.status < 0)
        rc = yk_err_set(err, text.status, "metric '%s': the labels do not fit", desc->name);
    if (rc == 0)
        rc = family_get(metrics, desc, &family, err);
    if (rc < 0) {
        yk_buf_fini(&text);
        return rc;
    }
    rc = source_add(family, text.data, data);
    if (rc < 0)
        return yk_err_set(err, rc, "metric '%s': out of memory", desc->name);
    metrics->used++;
    return 0;
}

int yk_metrics_add_word(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                        const struct yk_label *labels, size_t n_labels, const uint64_t *word,
                        struct yk_err *err) {
    int rc = check_new(metrics, desc, false, err);
    return (rc < 0) ? rc : add(metrics, desc, labels, n_labels, word, err);
}

int yk_metrics_add_hist(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                        const struct yk_label *labels, size_t n_labels, const struct yk_hist *hist,
                        struct yk_err *err) {
    int rc = check_new(metrics, desc, true, err);
    return (rc < 0) ? rc : add(metrics, desc, labels, n_labels, hist, err);
}

int yk_metrics_add_collector(struct yk_metrics *metrics, const struct yk_metric_desc *desc,
                             yk_metrics_collect_fn collect, void *ctx, struct yk_err *err) {
    struct family *family;
    int rc = check_new(metrics, desc, false, err);
    if (rc == 0)
        rc = family_get(metrics, desc, &family, err);
    if (rc < 0)
        return rc;
    if (family->collect != NULL)
        return yk_err_set(err, -YK_EINVAL, "metric '%s' has a collector already", desc->name);
    family->collect = collect;
    family->collect_ctx = ctx;
    metrics->used++;
    return 0;
}

/* ---- the page ---- */

static void put_name(struct yk_buf *out, const struct family *family, const char *suffix,
                     const char *labels) {
    yk_buf_puts(out, family->name);
    yk_buf_puts(out, suffix);
    if (labels[0] != '\0')
        yk_buf_printf(out, "{%s}", labels);
    yk_buf_putc(out, ' ');
}

/* Sums wrap as the words do. */
static void render_words(const struct family *family, const struct series *series,
                         struct yk_buf *out) {
    bool gauge = family->type == YK_METRIC_GAUGE;
    uint64_t sum = 0;
    for (const struct source *source = series->sources; source != NULL; source = source->next)
        sum += yk_metric_get(source->data);
    put_name(out, family, "", series->labels);
    if (family->divisor != 0)
        yk_buf_put_double(out, (gauge ? (double)(int64_t)sum : (double)sum) / family->divisor);
    else if (gauge)
        yk_buf_printf(out, "%" PRId64, (int64_t)sum);
    else
        yk_buf_printf(out, "%" PRIu64, sum);
    yk_buf_putc(out, '\n');
}

static void put_bucket(struct yk_buf *out, const struct family *family, const char *labels,
                       double bound, uint64_t count) {
    yk_buf_printf(out, "%s_bucket{%s%sle=\"", family->name, labels, (labels[0] != '\0') ? "," : "");
    yk_buf_put_double(out, bound);
    yk_buf_printf(out, "\"} %" PRIu64 "\n", count);
}

static void render_hist(const struct family *family, const struct series *series,
                        struct yk_buf *out) {
    static const uint64_t bounds_ns[] = YK_METRICS_BOUNDS_NS;
    uint64_t counts[COUNT_OF(bounds_ns)];
    struct yk_hist total, one;
    yk_hist_snapshot(series->sources->data, &total);
    for (const struct source *source = series->sources->next; source != NULL;
         source = source->next) {
        yk_hist_snapshot(source->data, &one);
        yk_hist_merge(&total, &one);
    }
    yk_hist_cumulate(&total, bounds_ns, COUNT_OF(bounds_ns), counts);
    for (size_t i = 0; i < COUNT_OF(bounds_ns); i++)
        put_bucket(out, family, series->labels, (double)bounds_ns[i] / 1e9, counts[i]);
    put_bucket(out, family, series->labels, __builtin_inf(), yk_hist_count(&total));
    put_name(out, family, "_sum", series->labels);
    yk_buf_put_double(out, (double)total.sum_ns / 1e9);
    yk_buf_putc(out, '\n');
    put_name(out, family, "_count", series->labels);
    yk_buf_printf(out, "%" PRIu64 "\n", yk_hist_count(&total));
}

void yk_metrics_sample(struct yk_metrics_page *page, const struct yk_label *labels, size_t n_labels,
                       double value) {
    struct yk_buf text;
    yk_buf_init(&text, LABELS_TEXT_MAX);
    int rc = put_labels(&text, labels, n_labels, NULL);
    if (rc == 0)
        rc = text.status;
    if (rc == 0) {
        put_name(page->out, page->family, "", yk_buf_text(&text));
        yk_buf_put_double(page->out, value);
        yk_buf_putc(page->out, '\n');
    } else {
        page->status = rc;
    }
    yk_buf_fini(&text);
}

static int render_family(const struct family *family, struct yk_buf *out) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    struct yk_metrics_page page = {.family = family, .out = out};
    yk_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                  types[family->type]);
    for (const struct series *series = family->series; series != NULL; series = series->next) {
        if (family->type == YK_METRIC_HISTOGRAM)
            render_hist(family, series, out);
        else
            render_words(family, series, out);
    }
    if (family->collect != NULL)
        family->collect(family->collect_ctx, &page);
    return page.status;
}

int yk_metrics_render(const struct yk_metrics *metrics, struct yk_buf *out) {
    for (const struct family *family = metrics->families; family != NULL; family = family->next) {
        int rc = render_family(family, out);
        if (rc < 0)
            return rc;
    }
    return out->status;
}
