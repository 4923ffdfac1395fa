/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's HTTP server: what people and monitoring read.
 *
 *   GET /metrics    Prometheus text
 *   GET /healthz    200 "ok" while the process serves; 503 with the reason when the tier is lost
 *   GET /readyz     200 "ready" when blocks can be put and got
 *   GET /v1/stats   the statistics as one JSON object
 *   /v1/route...    the router: which engine should serve a request (route.c; yolk/route.h)
 *
 * One thread of libmicrohttpd's own answers; it only reads relaxed copies of counters, so a slow
 * scraper costs the node nothing. What concerns the router is done on another (later.h), so that
 * probes and scrapers do not wait behind it. Loopback addresses only, until there is
 * authentication. Requests other than GET and HEAD are refused but for the router's POSTs of JSON.
 *
 * Threads: start and stop from one thread.
 */
#ifndef YK_HTTP_HTTP_H
#define YK_HTTP_HTTP_H

#include "base/parse.h"
#include "node/node.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_http;

struct yk_http_key {
    const void *data;
    size_t len;
};

/* A node that is to keep copies of the head of a chain, as the router sends requests for it there. Borrowed. */
struct yk_http_keep {
    const char *node, *name_space;
    const struct yk_http_key *keys;
    uint32_t n;
};

struct yk_http_opts {
    struct yk_addr listen; /* tcp; port 0 = any free one */
    int allow_remote;      /* else on a loopback address */
    uint32_t max_conns;    /* 0 = 512 */
    uint32_t timeout_s;    /* of an idle connection; 0 = 3 */
    /* Asks for such copies, and returns for how many blocks; must not block. Called on the router's thread. NULL: there is
     * nobody to ask. */
    uint32_t (*keep)(void *arg, const struct yk_http_keep *what);
    void *keep_arg;
};

/* Serves until yk_http_stop. The node must live longer. Errors: EBUSY the port is taken, EPERM not
 * a loopback address, EINVAL. */
int yk_http_start(const struct yk_http_opts *opts, struct yk_node *node, struct yk_http **ret_http,
                  struct yk_err *err);

/* The port that is listened on. */
uint16_t yk_http_port(const struct yk_http *http);

/* The router that it answers with (yolk/route.h): NULL before somebody has asked or told it something. Valid until
 * the stop. Any thread. */
struct yk_routes *yk_http_routes(const struct yk_http *http);

/* Waits for answers under way. NULL is fine. */
void yk_http_stop(struct yk_http *http);

#ifdef __cplusplus
}
#endif

#endif
