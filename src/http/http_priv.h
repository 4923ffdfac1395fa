/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the HTTP server: the server itself, its metrics page, and the router (route.c, fields.c).
 *
 * Threads: libmicrohttpd's one thread renders and answers; what concerns the router is done on a thread of its own
 * (later.h), as it may take long.
 */
#ifndef YK_HTTP_HTTP_PRIV_H
#define YK_HTTP_HTTP_PRIV_H

#include "base/metrics.h"
#include "http/http.h"
#include "http/later.h"

#include <yolk/route.h>

#include <stdbool.h>

struct MHD_Daemon;
struct http_page;

struct yk_http {
    struct yk_node *node;
    struct http_page *page;
    struct MHD_Daemon *daemon;
    struct yk_later *later;
    uint32_t (*keep)(void *arg, const struct yk_http_keep *what);
    void *keep_arg;
    uint64_t kept; /* blocks that copies were asked of; the router's thread writes it */
    size_t body_bytes; /* of all requests that are being read or wait; the server's thread's */
    yk_routes *routes; /* NULL: nobody has asked. Made by the router's thread; others load it once, acquire */
};

/* page_ssd.c: the SSD tier's part of the page, and the words that it is made of. */
struct http_ssd {
    struct yk_node *node;
    struct yk_node_stats now;
    struct yk_ssd_counters ssd;
    uint32_t devices;
    struct yk_ssd_dev_stats dev[YK_SSD_DEVICES_MAX];
    uint64_t dram_hits, dram_misses, ssd_misses, dram_hit_bytes, degraded, is_degraded, write_amplification_ppm;
};
int http_ssd_add(struct http_ssd *ssd, struct yk_node *node, struct yk_metrics *metrics,
                 struct yk_err *err);
void http_ssd_copy(struct http_ssd *ssd); /* before each render */

/* page_route.c: the router's part of the page. */
struct http_route_page {
    const uint64_t *kept;
    bool is_there;
    yk_route_figures now;
};
int http_route_page_add(struct http_route_page *page, struct yk_metrics *metrics, struct yk_err *err);
void http_route_page_copy(struct http_route_page *page, yk_routes *routes); /* before each render; NULL: none yet */

/* page_learned.c */
int http_learned_add(struct yk_node *node, struct yk_metrics *metrics, struct yk_err *err);
/* route.c: is that a path of the router's that takes a body; and what a body to it says. 0 with `out`, which may stay
 * empty; YK_MISS or -YK_E... with a text. */
int http_route_takes(const char *path);
yk_routes *http_routes(const struct yk_http *h); /* or NULL */
int http_route_post(struct yk_http *h, const char *path, const char *body, size_t len, struct yk_buf *out,
                    struct yk_err *err);
int http_route_get(struct yk_http *h, char **ret_json); /* the caller frees it */

int http_page_new(struct yk_http *h, struct http_page **ret_page, struct yk_err *err);
void http_page_free(struct http_page *page);
/* Takes a copy of the node's figures and appends the page. */
int http_page_render(struct http_page *page, yk_routes *routes, struct yk_buf *out);

#endif
