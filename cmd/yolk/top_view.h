/* SPDX-License-Identifier: Apache-2.0
 *
 * What yolk top shows: two samples become a screen of text, or one JSON object. No terminal here,
 * so that it can be printed once as well.
 *
 * Thread: one.
 */
#ifndef YOLK_TOP_VIEW_H
#define YOLK_TOP_VIEW_H

#include "sample.h"

#include "base/buf.h"
#include "base/json.h"

#define YOLK_TOP_NAMESPACES 16

struct yolk_top_view {
    const char *url;
    struct yolk_sample before, now; /* before is empty at first */
    yk_ns_info namespaces[YOLK_TOP_NAMESPACES];
    int n_namespaces;
    const char *message; /* why there is no newer sample; NULL: there is */
};

/* Lines of plain ASCII but for names of namespaces, each ended by a line feed. */
void yolk_top_text(const struct yolk_top_view *view, struct yk_buf *out);
void yolk_top_json(const struct yolk_top_view *view, struct yk_json *json);

/* top_ssd.c: the SSD tier's part; nothing (JSON: null) for a node without one. */
#define YOLK_TOP_BAR 30
void yolk_top_bar(uint64_t n, uint64_t all, char bar[YOLK_TOP_BAR + 1]);
void yolk_top_ssd_text(const struct yolk_top_view *view, struct yk_buf *out);
void yolk_top_ssd_devices_text(const struct yolk_top_view *view, struct yk_buf *out);
void yolk_top_ssd_json(const struct yolk_top_view *view, struct yk_json *json);

#endif
