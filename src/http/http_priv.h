/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the HTTP server: the server itself and its metrics page.
 *
 * Threads: libmicrohttpd's one thread renders.
 */
#ifndef YK_HTTP_HTTP_PRIV_H
#define YK_HTTP_HTTP_PRIV_H

#include "base/metrics.h"
#include "http/http.h"

struct MHD_Daemon;
struct http_page;

struct yk_http {
    struct yk_node *node;
    struct http_page *page;
    struct MHD_Daemon *daemon;
};

int http_page_new(struct yk_node *node, struct http_page **ret_page, struct yk_err *err);
void http_page_free(struct http_page *page);
/* Takes a copy of the node's figures and appends the page. */
int http_page_render(struct http_page *page, struct yk_buf *out);

#endif
