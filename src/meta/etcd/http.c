/* SPDX-License-Identifier: Apache-2.0
 *
 * http.h, over libcurl. An easy handle a call: the pool of connections is the multi handle's, so nothing
 * is gained by keeping them, and options of one call cannot leak into the next.
 *
 * Thread: yolk-meta, but for yk_http_wake.
 */
#include "meta/etcd/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASK_MAX (8u << 20) /* of a body: the largest transaction, in base64 */

struct yk_http {
    CURLM *multi;
    const struct yk_meta_opts *opts;
    TAILQ_HEAD(, yk_http_call) calls;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global_rc;

static void init_global(void) {
    global_rc = curl_global_init(CURL_GLOBAL_DEFAULT); /* never undone: others may use it, too */
}

static int check_file(const char *what, const char *path, struct yk_err *err) {
    if (path == NULL || access(path, R_OK) == 0)
        return 0;
    return yk_err_set(err, -YK_EINVAL, "cannot read the %s '%s'", what, path);
}

int yk_http_new(const struct yk_meta_opts *opts, struct yk_http **ret_http, struct yk_err *err) {
    int rc;
    pthread_once(&once, init_global);
    if (global_rc != CURLE_OK)
        return yk_err_set(err, -YK_ENOTSUP, "libcurl: %s", curl_easy_strerror(global_rc));
    if ((rc = check_file("CA file", opts->ca_file, err)) < 0 ||
        (rc = check_file("client certificate", opts->cert_file, err)) < 0 ||
        (rc = check_file("client certificate's key", opts->key_file, err)) < 0)
        return rc;
    struct yk_http *http = calloc(1, sizeof(*http));
    if (http == NULL || (http->multi = curl_multi_init()) == NULL) {
        free(http);
        return yk_err_set(err, -YK_ENOMEM, "no memory for HTTP");
    }
    http->opts = opts;
    TAILQ_INIT(&http->calls);
    curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, 16L);
    *ret_http = http;
    return 0;
}

void yk_http_free(struct yk_http *http) {
    if (http == NULL)
        return;
    curl_multi_cleanup(http->multi);
    free(http);
}

bool yk_http_active(const struct yk_http_call *call) {
    return call->easy != NULL;
}

void yk_http_wake(struct yk_http *http) {
    curl_multi_wakeup(http->multi);
}

/* Called by libcurl: only keeps the bytes. */
static size_t take(char *data, size_t size, size_t n, void *user) {
    struct yk_http_call *call = user;
    yk_buf_append(&call->body, data, size * n);
    call->dirty = true;
    if (call->body.status < 0) {
        call->too_big = true;
        return 0;
    }
    return size * n;
}

static void release(struct yk_http *http, struct yk_http_call *call) {
    TAILQ_REMOVE(&http->calls, call, link);
    curl_multi_remove_handle(http->multi, call->easy);
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    yk_buf_fini(&call->ask);
    call->easy = NULL;
    call->headers = NULL;
}

void yk_etcd_http_stop(struct yk_http *http, struct yk_http_call *call) {
    if (call->easy == NULL)
        return;
    release(http, call);
    yk_buf_fini(&call->body);
}

static void set_tls(CURL *easy, const struct yk_meta_opts *o) {
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (o->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, o->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (o->cert_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, o->cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, o->key_file);
    }
}

static void set_limits(CURL *easy, const struct yk_http_call *call, const struct yk_http_ask *ask) {
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)ask->connect_ms);
    if (call->on_line == NULL)
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)ask->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, ask->fresh ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* don't wait for the resolver's thread */
#endif
}

static bool add_header(struct yk_http_call *call, const char *line) {
    struct curl_slist *more = curl_slist_append(call->headers, line);
    if (more != NULL)
        call->headers = more;
    return more != NULL;
}

static bool set_headers(struct yk_http_call *call, const char *token) {
    struct yk_buf line;
    yk_buf_init(&line, 16384);
    yk_buf_printf(&line, "Authorization: %s", token != NULL ? token : "");
    bool ok = line.status == 0 && add_header(call, "Content-Type: application/json") &&
              add_header(call, "Expect:") && add_header(call, "Grpc-Metadata-hasleader: true") &&
              (token == NULL || add_header(call, yk_buf_text(&line)));
    yk_buf_fini(&line);
    return ok && curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK;
}

static bool set_ask(struct yk_http_call *call, const struct yk_http_ask *ask) {
    char url[1024];
    int n = snprintf(url, sizeof(url), "%s%s", ask->base, ask->path);
    yk_buf_append(&call->ask, ask->body, ask->body_len);
    return n > 0 && (size_t)n < sizeof(url) && call->ask.status == 0 &&
           curl_easy_setopt(call->easy, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->ask.len) ==
               CURLE_OK &&
           curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, yk_buf_text(&call->ask)) == CURLE_OK;
}

int yk_etcd_http_start(struct yk_http *http, struct yk_http_call *call, const struct yk_http_ask *ask) {
    call->failed = call->sent = call->dirty = call->too_big = false;
    call->status = 0;
    call->text[0] = '\0';
    call->err = (struct yk_err){0};
    yk_buf_init(&call->ask, ASK_MAX);
    yk_buf_fini(&call->body);
    yk_buf_init(&call->body, ask->max_bytes);
    call->headers = NULL;
    if ((call->easy = curl_easy_init()) == NULL)
        return -YK_ENOMEM;
    TAILQ_INSERT_TAIL(&http->calls, call, link);
    curl_easy_setopt(call->easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, call->text);
    curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
    set_limits(call->easy, call, ask);
    set_tls(call->easy, http->opts);
    if (!set_ask(call, ask) || !set_headers(call, ask->token) ||
        curl_multi_add_handle(http->multi, call->easy) != CURLM_OK) {
        release(http, call);
        return -YK_ENOMEM;
    }
    return 0;
}

/* ---- turning ---------------------------------------------------------------------------------- */

/* Hands on one whole line; false when there is none, or the call was stopped meanwhile. */
static bool hand_on_line(struct yk_http_call *call) {
    struct yk_buf *b = &call->body;
    char *end = b->len > 0 ? memchr(b->data, '\n', b->len) : NULL;
    if (end == NULL)
        return false;
    size_t len = (size_t)(end - b->data);
    char *line = malloc(len + 1); /* of its own: on_line may stop the call */
    if (line == NULL) {
        call->too_big = true;
        return false;
    }
    memcpy(line, b->data, len);
    line[len] = '\0';
    memmove(b->data, end + 1, b->len - len - 1);
    b->len -= len + 1;
    b->data[b->len] = '\0';
    if (len > 0)
        call->on_line(call, line, len);
    free(line);
    return call->easy != NULL;
}

static void hand_on(struct yk_http *http) {
    struct yk_http_call *call = TAILQ_FIRST(&http->calls);
    while (call != NULL) {
        if (!call->dirty || call->on_line == NULL) {
            call = TAILQ_NEXT(call, link);
            continue;
        }
        call->dirty = false;
        while (hand_on_line(call)) {
        }
        call = TAILQ_FIRST(&http->calls); /* on_line may have stopped any */
    }
}

static void fail(struct yk_http_call *call, CURLcode rc) {
    const char *why = call->text[0] != '\0' ? call->text : curl_easy_strerror(rc);
    call->failed = true;
    if (call->too_big)
        yk_err_set(&call->err, -YK_ETOOBIG, "the answer is larger than %zu bytes", call->body.max);
    else if (rc == CURLE_OPERATION_TIMEDOUT)
        yk_err_set(&call->err, -YK_ETIMEDOUT, "no answer in time (%.120s)", why);
    else if (rc == CURLE_SSL_CONNECT_ERROR || rc == CURLE_PEER_FAILED_VERIFICATION ||
             rc == CURLE_SSL_CACERT_BADFILE || rc == CURLE_SSL_CERTPROBLEM)
        yk_err_set(&call->err, -YK_EPERM,
                   "TLS failed: %.130s: check https or http, the CA and the client certificate",
                   why);
    else if (rc == CURLE_GOT_NOTHING)
        yk_err_set(
            &call->err, -YK_EIO,
            "it closed the connection without an answer (if it always does: does it want https?)");
    else
        yk_err_set(&call->err, -YK_EIO, "%.160s", why);
}

static void finish(struct yk_http *http, struct yk_http_call *call, CURLcode rc) {
    long request_bytes = 0;
    curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &call->status);
    call->sent = request_bytes > 0;
    if (rc != CURLE_OK)
        fail(call, rc);
    release(http, call);
    call->on_done(call);
}

void yk_http_turn(struct yk_http *http, int wait_ms) {
    CURLMsg *msg;
    int left;
    if (curl_multi_poll(http->multi, NULL, 0, wait_ms, NULL) != CURLM_OK)
        (void)curl_multi_poll(http->multi, NULL, 0, 10,
                              NULL); /* no descriptors left: not in a spin */
    curl_multi_perform(http->multi, &left);
    hand_on(http);
    while ((msg = curl_multi_info_read(http->multi, &left)) != NULL) {
        struct yk_http_call *call = NULL;
        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        finish(http, call, msg->data.result);
    }
}
