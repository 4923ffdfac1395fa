/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP calls to members of etcd, many at once, on one thread: libcurl's multi interface and its own poll.
 *
 * A call is a POST with a JSON body; its answer is collected, or handed on line by line as it comes
 * (streams). Callbacks come from yk_http_turn, never from within libcurl, so they may start and stop
 * calls. Connections are kept and used again by libcurl.
 *
 * HTTP/1.1 only, no proxies, no redirects: members of a cluster are spoken to directly.
 *
 * Thread: yolk-meta, but for yk_http_wake.
 */
#ifndef YK_META_ETCD_HTTP_H
#define YK_META_ETCD_HTTP_H

#include "base/buf.h"
#include "base/status.h"
#include "meta/meta.h"

#include <sys/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_http;

struct yk_http_ask {
    const char *base, *path; /* "http://host:2379" and "/v3/kv/range" */
    const char *body;
    size_t body_len;
    const char *token;   /* NULL = none */
    uint32_t timeout_ms; /* of the whole call; of connecting only for a stream */
    uint32_t connect_ms;
    size_t max_bytes; /* of the answer, or of a line */
    bool fresh;       /* on a connection of its own: libcurl then never sends it twice */
};

/* The user's storage, zeroed but for the callbacks and user. Started again after on_done if wished. */
struct yk_http_call {
    void (*on_line)(struct yk_http_call *call, const char *line, size_t len); /* NULL: no stream */
    void (*on_done)(struct yk_http_call *call); /* once, but not after stop */
    void *user;

    /* For on_done. */
    bool failed; /* no whole answer: err says why */
    bool sent;   /* some of the request may have arrived */
    long status; /* of HTTP */
    struct yk_buf body;
    struct yk_err err;

    /* http.c's. */
    void *easy, *headers;
    struct yk_buf ask;
    char text[256]; /* CURL_ERROR_SIZE */
    bool dirty, too_big;
    TAILQ_ENTRY(yk_http_call) link;
};

/* Keeps opts, which outlives it. -YK_EINVAL (a file that can't be read), -YK_ENOMEM, -YK_ENOTSUP. */
int yk_http_new(const struct yk_meta_opts *opts, struct yk_http **ret_http, struct yk_err *err);
void yk_http_free(struct yk_http *http); /* without calls */

/* Everything in ask is copied. -YK_ENOMEM, -YK_EINVAL: on_done does not come. */
int yk_etcd_http_start(struct yk_http *http, struct yk_http_call *call, const struct yk_http_ask *ask);
void yk_etcd_http_stop(struct yk_http *http, struct yk_http_call *call); /* fine when not started */
bool yk_http_active(const struct yk_http_call *call);

void yk_http_turn(struct yk_http *http, int wait_ms);
void yk_http_wake(struct yk_http *http); /* any thread */

#ifdef __cplusplus
}
#endif

#endif
