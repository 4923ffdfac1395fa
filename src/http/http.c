/* SPDX-License-Identifier: Apache-2.0
 *
 * Routes and life cycle of the HTTP server (src/http/http.h). The metrics page is made in page.c.
 */
#include "http/http_priv.h"

#include "base/buf.h"
#include "http/later.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Connections that say nothing take room from probes of /healthz, which give up after a second or so;
 * nobody can be told from anybody by an address of this host. */
#define MAX_CONNS 512u
#define TIMEOUT_S 3u
#define BODY_MAX  (4u << 20) /* a list of some 200,000 blocks */
#define ANSWER_MAX (16u << 20) /* the router with all that it knows */
#define BODIES_MAX (64u << 20) /* of all bodies that are being read or wait */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type,
                              const char *text, size_t len, enum MHD_ResponseMemoryMode mode) {
    struct MHD_Response *r = MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, mode);
    if (r == NULL)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, "Allow", "GET, HEAD, POST");
    enum MHD_Result rc = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *text) {
    return answer(c, status, "text/plain; charset=utf-8", text, strlen(text),
                  MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result get_metrics(struct yk_http *h, struct MHD_Connection *c) {
    struct yk_buf page;
    yk_buf_init(&page, 4u << 20);
    if (http_page_render(h->page, http_routes(h), &page) < 0) {
        yk_buf_fini(&page);
        return answer_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "the page could not be made\n");
    }
    enum MHD_Result rc = answer(c, MHD_HTTP_OK, YK_METRICS_CONTENT_TYPE, yk_buf_text(&page),
                                page.len, MHD_RESPMEM_MUST_COPY);
    yk_buf_fini(&page);
    return rc;
}

static enum MHD_Result get_stats(struct yk_http *h, struct MHD_Connection *c) {
    char *json;
    if (yk_node_stats_json(h->node, &json) < 0)
        return answer_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    return answer(c, MHD_HTTP_OK, "application/json", json, strlen(json), MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result get_health(struct yk_http *h, struct MHD_Connection *c, const char *ok) {
    if (yk_node_tier_lost(h->node))
        return answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE,
                           "the DRAM tier is lost (a file of its segment was "
                           "truncated, or its file system is full): restart the node\n");
    return answer_text(c, MHD_HTTP_OK, ok);
}

static enum MHD_Result get(struct yk_http *h, struct MHD_Connection *c, const char *url) {
    if (strcmp(url, "/metrics") == 0)
        return get_metrics(h, c);
    if (strcmp(url, "/v1/stats") == 0)
        return get_stats(h, c);
    if (strcmp(url, "/healthz") == 0)
        return get_health(h, c, "ok\n");
    if (strcmp(url, "/readyz") == 0)
        return get_health(h, c, "ready\n");
    return answer_text(c, MHD_HTTP_NOT_FOUND,
                       "not here: try /metrics, /healthz, /readyz, /v1/stats, /v1/route\n");
}

/* ---- bodies ---------------------------------------------------------------------------------- */

/* A request whose headers are there. What concerns the router goes READING -> WAITING (its connection is suspended,
 * and the router's thread has it) -> DONE (it was resumed, and is answered); the others are answered from READING. */
struct request {
    struct yk_later_job job; /* first */
    struct MHD_Connection *connection;
    enum { READING, WAITING, DONE } stage;
    struct yk_buf body, out;
    size_t counted; /* of yk_http.body_bytes */
    bool posts, is_too_much;
    char path[32];
    int rc;
    struct yk_err err;
};

static unsigned status_of(int rc) {
    switch (rc) {
    case YK_MISS:
        return MHD_HTTP_NOT_FOUND;
    case -YK_EINVAL:
        return MHD_HTTP_BAD_REQUEST;
    case -YK_ELIMIT:
    case -YK_EGONE:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case -YK_ENOTSUP:
        return MHD_HTTP_NOT_IMPLEMENTED;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

static int get_router(struct yk_http *h, struct yk_buf *out) {
    char *json;
    int rc = http_route_get(h, &json);
    if (rc < 0)
        return rc;
    yk_buf_append(out, json, strlen(json));
    free(json);
    return out->status;
}

/* On the router's thread; after its end on the server's, to be told so. */
static void do_later(void *arg, struct yk_later_job *job, bool ends) {
    struct request *q = (struct request *)(void *)job;
    yk_buf_init(&q->out, ANSWER_MAX);
    if (ends)
        q->rc = yk_err_set(&q->err, -YK_EGONE, "the node stops");
    else if (q->posts)
        q->rc = http_route_post(arg, q->path, yk_buf_text(&q->body), q->body.len, &q->out, &q->err);
    else
        q->rc = get_router(arg, &q->out);
    q->stage = DONE;
    MHD_resume_connection(q->connection); /* q may be gone at once */
}

static enum MHD_Result put_off(struct yk_http *h, struct MHD_Connection *c, struct request *q) {
    if (q->body.status < 0)
        return answer_text(c, MHD_HTTP_CONTENT_TOO_LARGE, "a body of more than 4 MiB is not taken\n");
    if (q->is_too_much || !yk_later_room(h->later))
        return answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, "the router has more to do than it takes: ask again\n");
    q->connection = c;
    q->stage = WAITING;
    MHD_suspend_connection(c);
    yk_later_put(h->later, &q->job);
    return MHD_YES;
}

static enum MHD_Result answer_router(struct MHD_Connection *c, struct request *q) {
    if (q->rc == 0 && q->out.len == 0)
        return answer(c, MHD_HTTP_NO_CONTENT, "text/plain", "", 0, MHD_RESPMEM_PERSISTENT);
    if (q->rc == 0)
        return answer(c, MHD_HTTP_OK, "application/json", yk_buf_text(&q->out), q->out.len, MHD_RESPMEM_MUST_COPY);
    yk_buf_clear(&q->out);
    yk_buf_printf(&q->out, "%s\n", q->err.text[0] != '\0' ? q->err.text : yk_status_text(q->rc));
    return answer_text(c, status_of(q->rc), yk_buf_text(&q->out));
}

/* Bodies take memory until their requests are answered, and hundreds of connections may send such. */
static void read_body(struct yk_http *h, struct request *q, const char *upload, size_t len) {
    if (h->body_bytes + len > BODIES_MAX)
        q->is_too_much = true;
    if (q->is_too_much || q->body.status < 0)
        return;
    yk_buf_append(&q->body, upload, len);
    q->counted += len;
    h->body_bytes += len;
}

/* A page in a browser on this host may send text to here unasked, but JSON only after it was allowed to. */
static int says_json(struct MHD_Connection *c) {
    const char *type = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Type");
    return type != NULL && strncasecmp(type, "application/json", 16) == 0 && (type[16] == '\0' || type[16] == ';' || type[16] == ' ');
}

/* Headers are there: refused now, or read on. */
static enum MHD_Result begin(struct MHD_Connection *c, const char *url, const char *method, void **state) {
    int posts = strcmp(method, "POST") == 0 && http_route_takes(url);
    if (!posts && strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only; POST to what is below /v1/route\n");
    if (posts && !says_json(c))
        return answer_text(c, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json\n");
    struct request *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return MHD_NO;
    yk_buf_init(&q->body, BODY_MAX);
    q->posts = posts;
    snprintf(q->path, sizeof(q->path), "%s", url);
    *state = q;
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **state) {
    struct yk_http *h = cls;
    struct request *q = *state;
    if (q == NULL)
        return begin(c, url, method, state);
    if (q->stage == DONE)
        return answer_router(c, q);
    if (*upload_len > 0) {
        if (q->posts)
            read_body(h, q, upload, *upload_len);
        *upload_len = 0;
        return MHD_YES;
    }
    return q->posts || strcmp(url, "/v1/route") == 0 ? put_off(h, c, q) : get(h, c, url);
}

static void on_end(void *cls, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why) {
    struct yk_http *h = cls;
    struct request *q = *state;
    if (q == NULL)
        return;
    h->body_bytes -= q->counted;
    yk_buf_fini(&q->body);
    if (q->stage == DONE)
        yk_buf_fini(&q->out);
    free(q);
    *state = NULL;
}

/* Fills sa from a numeric address, or "localhost". */
static int address(const struct yk_http_opts *opts, struct sockaddr_storage *sa,
                   struct yk_err *err) {
    const struct yk_addr *a = &opts->listen;
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)sa;
    const char *host = strcmp(a->host, "localhost") == 0 ? "127.0.0.1" : a->host;
    memset(sa, 0, sizeof(*sa));
    if (a->kind == YK_ADDR_TCP && inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        if (opts->allow_remote || ntohl(v4->sin_addr.s_addr) >> 24 == 127)
            return 0;
    } else if (a->kind == YK_ADDR_TCP && inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(a->port);
        if (opts->allow_remote || IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
            return 0;
    } else {
        return yk_err_set(err, -YK_EINVAL, "'%s' is no numeric TCP address", a->host);
    }
    return yk_err_set(err, -YK_EPERM,
                      "'%s' is not a loopback address, and others are not allowed: nobody is "
                      "authenticated yet",
                      a->host);
}

static struct MHD_Daemon *daemon_start(struct yk_http *h, const struct yk_http_opts *opts,
                                       const struct sockaddr_storage *sa) {
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;
    if (sa->ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR, sa, MHD_OPTION_CONNECTION_LIMIT,
        opts->max_conns != 0 ? opts->max_conns : MAX_CONNS, MHD_OPTION_CONNECTION_TIMEOUT,
        opts->timeout_s != 0 ? opts->timeout_s : TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED, on_end, h,
        MHD_OPTION_END);
}

int yk_http_start(const struct yk_http_opts *opts, struct yk_node *node, struct yk_http **ret_http,
                  struct yk_err *err) {
    struct sockaddr_storage sa;
    int rc = address(opts, &sa, err);
    if (rc < 0)
        return rc;
    struct yk_http *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    h->node = node;
    h->keep = opts->keep;
    h->keep_arg = opts->keep_arg;
    rc = http_page_new(h, &h->page, err);
    if (rc == 0)
        rc = yk_later_new(do_later, h, &h->later, err);
    if (rc < 0) {
        yk_http_stop(h);
        return rc;
    }
    errno = 0;
    h->daemon = daemon_start(h, opts, &sa);
    if (h->daemon == NULL) {
        rc = yk_err_set(err, errno == EADDRINUSE ? -YK_EBUSY : -YK_EIO,
                        "cannot serve HTTP on %s:%u: %s", opts->listen.host, opts->listen.port,
                        strerror(errno));
        yk_http_stop(h);
        return rc;
    }
    *ret_http = h;
    return 0;
}

uint16_t yk_http_port(const struct yk_http *h) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info != NULL ? info->port : 0;
}

struct yk_routes *yk_http_routes(const struct yk_http *h) {
    return http_routes(h);
}

void yk_http_stop(struct yk_http *h) {
    if (h == NULL)
        return;
    if (h->later != NULL)
        yk_later_end(h->later); /* before the server: no connection may be suspended at its end */
    if (h->daemon != NULL)
        MHD_stop_daemon(h->daemon);
    yk_later_free(h->later);
    http_page_free(h->page);
    yk_route_close(h->routes);
    free(h);
}
