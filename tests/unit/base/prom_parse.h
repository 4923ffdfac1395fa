/* SPDX-License-Identifier: Apache-2.0
 *
 * A strict reader of the Prometheus text exposition format, for tests: whatever a lenient scraper
 * would forgive fails here. Written from the format's description and apart from the renderer, so
 * that the two do not share a mistake. Header only, since several test programs read pages.
 *
 * It demands: UTF-8, a line feed after each line, HELP then TYPE before a family's samples, samples
 * of a family together, names and labels of the allowed characters, values that are floats, no
 * series twice, and for each histogram ascending bounds, cumulative counts, a +Inf bucket equal to
 * _count, and a _sum.
 *
 * Thread: one at a time (cmocka).
 */
#ifndef YK_TESTS_PROM_PARSE_H
#define YK_TESTS_PROM_PARSE_H

#include "base/text.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PROM_SAMPLES_MAX 4096
#define PROM_TEXT_MAX    1024

struct prom_sample {
    char name[PROM_TEXT_MAX];
    char labels[PROM_TEXT_MAX]; /* without le, as written: a="b",c="d" */
    char le[64];
    double value;
};

struct prom_page {
    struct prom_sample samples[PROM_SAMPLES_MAX];
    size_t n;
    char families[256][PROM_TEXT_MAX];
    char types[256][16];
    size_t n_families;
};

static inline bool prom_is_name(const char *name, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!isalpha((unsigned char)name[i]) && name[i] != '_' && name[i] != ':' &&
            !(i > 0 && isdigit((unsigned char)name[i])))
            return false;
    return len > 0;
}

/* Copies `len` bytes as a string. */
static inline void prom_copy(char *to, size_t room, const char *from, size_t len) {
    assert_true(len < room);
    memcpy(to, from, len);
    to[len] = '\0';
}

/* "# HELP name text" or "# TYPE name type"; HELP opens a family. */
static inline void prom_comment(struct prom_page *page, const char *line, bool *ret_typed) {
    const char *name = line + 7, *end = strchr(name, ' ');
    assert_non_null(end);
    size_t len = (size_t)(end - name);
    assert_true(prom_is_name(name, len));
    if (strncmp(line, "# HELP ", 7) == 0) {
        assert_true(page->n_families < 256);
        prom_copy(page->families[page->n_families], PROM_TEXT_MAX, name, len);
        for (size_t i = 0; i < page->n_families; i++)
            assert_string_not_equal(page->families[i], page->families[page->n_families]);
        for (const char *p = end; *p != '\0'; p++) /* only \\ and \n are escapes */
            if (*p == '\\') {
                assert_true(p[1] == '\\' || p[1] == 'n');
                p++;
            }
        page->n_families++;
        *ret_typed = false;
        return;
    }
    assert_int_equal(strncmp(line, "# TYPE ", 7), 0);
    assert_true(page->n_families > 0 && !*ret_typed);
    assert_int_equal(strlen(page->families[page->n_families - 1]), len);
    assert_memory_equal(page->families[page->n_families - 1], name, len);
    assert_true(strcmp(end + 1, "counter") == 0 || strcmp(end + 1, "gauge") == 0 ||
                strcmp(end + 1, "histogram") == 0);
    prom_copy(page->types[page->n_families - 1], 16, end + 1, strlen(end + 1));
    *ret_typed = true;
}

/* name="value" with its escapes; returns what follows the closing quote. */
static inline const char *prom_label(struct prom_sample *sample, const char *p) {
    const char *name = p, *equals = strchr(p, '=');
    assert_non_null(equals);
    size_t len = (size_t)(equals - name);
    assert_true(prom_is_name(name, len) && memchr(name, ':', len) == NULL);
    assert_int_equal(equals[1], '"');
    for (p = equals + 2; *p != '"'; p++) {
        assert_int_not_equal(*p, '\0');
        if (*p == '\\') {
            assert_true(p[1] == '\\' || p[1] == '"' || p[1] == 'n');
            p++;
        }
    }
    if (len == 2 && strncmp(name, "le", 2) == 0) {
        assert_int_equal(sample->le[0], '\0');
        prom_copy(sample->le, sizeof(sample->le), equals + 2, (size_t)(p - equals - 2));
    } else {
        size_t at = strlen(sample->labels);
        size_t n = (size_t)(p + 1 - name);
        assert_true(at + n + 2 < sizeof(sample->labels));
        if (at > 0)
            sample->labels[at++] = ',';
        memcpy(sample->labels + at, name, n);
        sample->labels[at + n] = '\0';
    }
    return p + 1;
}

/* Nothing but a decimal float, +Inf, -Inf or NaN. */
static inline double prom_value(const char *text) {
    char *end;
    if (strcmp(text, "+Inf") == 0 || strcmp(text, "-Inf") == 0 || strcmp(text, "NaN") == 0)
        return strtod(text, NULL);
    assert_int_equal(strspn(text, "0123456789+-.e"), strlen(text));
    assert_true(text[0] != '\0');
    double value = strtod(text, &end);
    assert_int_equal(*end, '\0');
    return value;
}

static inline void prom_sample_line(struct prom_page *page, const char *line) {
    struct prom_sample *sample = &page->samples[page->n];
    assert_true(page->n < PROM_SAMPLES_MAX && page->n_families > 0);
    memset(sample, 0, sizeof(*sample));
    size_t len = strcspn(line, "{ ");
    assert_true(prom_is_name(line, len));
    prom_copy(sample->name, sizeof(sample->name), line, len);
    const char *p = line + len;
    if (*p == '{') {
        do
            p = prom_label(sample, p + 1);
        while (*p == ',');
        assert_int_equal(*p++, '}');
    }
    assert_int_equal(*p, ' ');
    sample->value = prom_value(p + 1);
    const char *family = page->families[page->n_families - 1];
    const char *type = page->types[page->n_families - 1];
    assert_memory_equal(sample->name, family, strlen(family));
    const char *suffix = sample->name + strlen(family);
    if (strcmp(type, "histogram") == 0) {
        assert_true(strcmp(suffix, "_bucket") == 0 || strcmp(suffix, "_sum") == 0 ||
                    strcmp(suffix, "_count") == 0);
        assert_int_equal(sample->le[0] != '\0', strcmp(suffix, "_bucket") == 0);
    } else {
        assert_string_equal(suffix, "");
        assert_string_equal(sample->le, "");
    }
    for (size_t i = 0; i < page->n; i++)
        if (strcmp(page->samples[i].name, sample->name) == 0 &&
            strcmp(page->samples[i].labels, sample->labels) == 0 &&
            strcmp(page->samples[i].le, sample->le) == 0)
            fail_msg("series twice: %s", line);
    page->n++;
}

/* The value of a series, by its name and labels as written; fails the test if it isn't there. */
static inline double prom_get(const struct prom_page *page, const char *name, const char *labels,
                              const char *le) {
    for (size_t i = 0; i < page->n; i++)
        if (strcmp(page->samples[i].name, name) == 0 &&
            strcmp(page->samples[i].labels, labels) == 0 && strcmp(page->samples[i].le, le) == 0)
            return page->samples[i].value;
    fail_msg("no series %s{%s} le '%s'", name, labels, le);
    return 0;
}

/* From the first bucket of one series at i; returns the index after its last bucket. */
static inline size_t prom_check_hist(const struct prom_page *page, size_t i) {
    const struct prom_sample *first = &page->samples[i];
    char name[PROM_TEXT_MAX];
    double bound = -1, count = 0;
    size_t stem = strlen(first->name) - strlen("_bucket");
    for (; i < page->n && strcmp(page->samples[i].name, first->name) == 0 &&
           strcmp(page->samples[i].labels, first->labels) == 0;
         i++) {
        double next = prom_value(page->samples[i].le);
        assert_true(next > bound);
        assert_true(page->samples[i].value >= count);
        bound = next;
        count = page->samples[i].value;
    }
    assert_string_equal(page->samples[i - 1].le, "+Inf");
    snprintf(name, sizeof(name), "%.*s_count", (int)stem, first->name);
    assert_true(prom_get(page, name, first->labels, "") == count);
    snprintf(name, sizeof(name), "%.*s_sum", (int)stem, first->name);
    assert_true(prom_get(page, name, first->labels, "") >= 0);
    return i;
}

/* Reads a whole page into *page (large: let it be static), failing the test at the first fault. */
static inline void prom_parse(struct prom_page *page, const char *text) {
    static char line[PROM_TEXT_MAX * 4];
    bool typed = false;
    page->n = page->n_families = 0;
    assert_true(yk_utf8_valid(text, strlen(text)));
    while (*text != '\0') {
        const char *end = strchr(text, '\n');
        assert_non_null(end);
        prom_copy(line, sizeof(line), text, (size_t)(end - text));
        text = end + 1;
        assert_true(line[0] != '\0' && strchr(line, '\r') == NULL);
        if (line[0] == '#') {
            prom_comment(page, line, &typed);
        } else {
            assert_true(typed);
            prom_sample_line(page, line);
        }
    }
    for (size_t i = 0; i < page->n;) {
        size_t len = strlen(page->samples[i].name);
        bool bucket = len > 7 && strcmp(page->samples[i].name + len - 7, "_bucket") == 0;
        i = bucket ? prom_check_hist(page, i) : i + 1;
    }
}

#endif
