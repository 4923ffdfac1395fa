/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP server over a real socket: routes, refusals, and a metrics page that holds what the node
 * did.
 */
#include "http/http.h"

#include "node/pool.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_S 20
/* So long that a test which is slow on a busy machine does not lose its connection, and that who waits for a silent one's
 * room waits in vain. */
#define SILENT_S 120

static struct yk_node *node;
static struct yk_http *http;

static int setup(void **state) {
    struct yk_node_opts o = {0};
    struct yk_http_opts ho = {0};
    struct yk_err err = {0};
    o.store.segment.data_bytes = 4u << 20;
    o.store.segment.max_clients = 4;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    if (yk_node_start(&o, &node, &err) < 0)
        return -1;
    yk_parse_addr("tcp:127.0.0.1:0", &ho.listen, &err);
    ho.timeout_s = SILENT_S;
    return yk_http_start(&ho, node, &http, &err);
}

static int teardown(void **state) {
    yk_http_stop(http);
    yk_node_stop(node);
    return 0;
}

/* Sends a request and returns the whole answer; freed by the caller. */
static char *ask(const char *request) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(yk_http_port(http)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval tv = {PATIENCE_S, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    size_t cap = 1u << 20, len = 0;
    char *b = malloc(cap);
    ssize_t n;
    while (len + 1 < cap && (n = recv(fd, b + len, cap - 1 - len, 0)) > 0)
        len += (size_t)n;
    b[len] = 0;
    close(fd);
    return b;
}

static char *get(const char *path) {
    char r[256];
    snprintf(r, sizeof(r), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    return ask(r);
}

static void routes_answer(void **state) {
    static const struct {
        const char *path, *status, *has;
    } want[] = {
        {"/healthz", "HTTP/1.1 200", "ok"},
        {"/readyz", "HTTP/1.1 200", "ready"},
        {"/v1/stats", "HTTP/1.1 200", "\"blocks\":0"},
        {"/metrics", "HTTP/1.1 200", "# TYPE yolk_blocks gauge"},
        {"/metrics", "HTTP/1.1 200", "yolk_evictions_total{reason=\"quota\"} 0"},
        {"/metrics", "HTTP/1.1 200", "text/plain; version=0.0.4"},
        {"/metrics", "HTTP/1.1 200", "yolk_request_duration_seconds_bucket{"},
        {"/nothing", "HTTP/1.1 404", "/metrics"},
    };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        char *b = get(want[i].path);
        assert_ptr_equal(strstr(b, want[i].status), b);
        assert_non_null(strstr(b, want[i].has));
        free(b);
    }
}

static void other_methods_and_garbage_are_refused(void **state) {
    char *b = ask("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
                  "0\r\n\r\n");
    assert_non_null(strstr(b, "405"));
    free(b);
    b = ask("\x01\x02\x03 nonsense\r\n\r\n");
    assert_null(strstr(b, "200 OK"));
    free(b);
    b = get("/healthz");
    assert_non_null(strstr(b, "200 OK"));
    free(b);
}

/* They keep their places for longer than the probe waits. */
static void silent_connections_keep_no_probe_waiting(void **state) {
    enum { N = 200 };
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(yk_http_port(http)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&a, sizeof(a)), 0);
    }
    char *b = get("/healthz");
    assert_non_null(strstr(b, "200 OK"));
    free(b);
    for (int i = 0; i < N; i++)
        close(fds[i]);
}

static void only_loopback_is_served_unless_told_otherwise(void **state) {
    struct yk_http_opts ho = {0};
    struct yk_http *h = NULL;
    struct yk_err err = {0};
    assert_int_equal(yk_parse_addr("tcp:192.0.2.1:80", &ho.listen, &err), 0);
    assert_int_equal(yk_http_start(&ho, node, &h, &err), -YK_EPERM);
    assert_non_null(strstr(err.text, "192.0.2.1"));
    assert_int_equal(yk_parse_addr("tcp:0.0.0.0:0", &ho.listen, &err), 0);
    assert_int_equal(yk_http_start(&ho, node, &h, &err), -YK_EPERM);
    ho.allow_remote = 1;
    assert_int_equal(yk_http_start(&ho, node, &h, &err), 0);
    yk_http_stop(h);
    h = NULL;
    ho.allow_remote = 0;
    char taken[64];
    snprintf(taken, sizeof(taken), "tcp:127.0.0.1:%u", yk_http_port(http));
    assert_int_equal(yk_parse_addr(taken, &ho.listen, &err), 0);
    assert_true(yk_http_start(&ho, node, &h, &err) < 0);
    assert_non_null(strstr(err.text, "cannot serve HTTP"));
}

/* ---- a node of a cluster ------------------------------------------------------------------------ */

static void nothing_changed(void *arg, const struct yk_pool_block *block) {
}

static int nothing_wanted(void *arg, const struct yk_pool_want *want) {
    return -YK_EAGAIN;
}

static int nothing_removed(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch, const void *key,
                           uint32_t key_len, uint64_t deadline_ns, uint64_t token) {
    return -YK_EAGAIN;
}

static int no_space(void *arg, unsigned what, const char *ns, uint32_t ns_len, uint64_t value, uint64_t deadline_ns,
                    uint64_t token) {
    return -YK_EAGAIN;
}

static void some_figures(void *arg, struct yk_pool_figures *ret) {
    *ret = (struct yk_pool_figures){.members = 3, .expelled = 1, .pulled_bytes = 4096, .pulled_cross_bytes = 1024};
    ret->removes_pending = ++*(uint64_t *)arg;
}

static void a_cluster_has_its_figures(void **state) {
    uint64_t pending = 0;
    const struct yk_pool_ops ops = {.changed = nothing_changed,
                                    .want = nothing_wanted,
                                    .remove = nothing_removed,
                                    .space = no_space,
                                    .figures = some_figures,
                                    .arg = &pending};
    struct yk_node_opts o = {.pool = &ops};
    struct yk_http_opts ho = {0};
    struct yk_http *alone = http;
    struct yk_node *other = NULL;
    struct yk_err err = {0};
    char *b = get("/metrics");
    assert_null(strstr(b, "yolk_cluster_")); /* of a node that is alone */
    free(b);
    o.store.segment.data_bytes = 4u << 20;
    o.store.segment.max_clients = 4;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    assert_int_equal(yk_node_start(&o, &other, &err), 0);
    yk_parse_addr("tcp:127.0.0.1:0", &ho.listen, &err);
    http = NULL;
    assert_int_equal(yk_http_start(&ho, other, &http, &err), 0);
    for (int i = 0; i < 2; i++) { /* each page is of its own moment */
        static const char *const want[] = {
            "# TYPE yolk_cluster_nodes gauge",
            "yolk_cluster_nodes{state=\"member\"} 3\n",
            "yolk_cluster_nodes{state=\"expelled\"} 1\n",
            "# TYPE yolk_cluster_pulled_bytes_total counter",
            "yolk_cluster_pulled_bytes_total{zone=\"all\"} 4096\n",
            "yolk_cluster_pulled_bytes_total{zone=\"cross\"} 1024\n",
            "yolk_cluster_serving 0\n",
        };
        char line[64];
        b = get("/metrics");
        for (size_t k = 0; k < sizeof(want) / sizeof(want[0]); k++)
            assert_non_null(strstr(b, want[k]));
        snprintf(line, sizeof(line), "yolk_cluster_removes_pending %llu\n", (unsigned long long)pending);
        assert_non_null(strstr(b, line));
        free(b);
    }
    b = get("/v1/stats");
    assert_non_null(strstr(b, "\"cluster\":{\"members\":3,"));
    free(b);
    yk_http_stop(http);
    http = alone;
    yk_node_stop(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_answer),
        cmocka_unit_test(other_methods_and_garbage_are_refused),
        cmocka_unit_test(silent_connections_keep_no_probe_waiting),
        cmocka_unit_test(only_loopback_is_served_unless_told_otherwise),
        cmocka_unit_test(a_cluster_has_its_figures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
