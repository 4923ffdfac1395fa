/* SPDX-License-Identifier: Apache-2.0
 *
 * The router over HTTP: a round trip of reports, a request and its outcome; every refusal says what was wrong; probes and
 * scrapers do not wait for it, and what waits for it is bounded.
 */
#include "http/http_priv.h"

#include "base/clock.h"
#include "route/routes_priv.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
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

#define PATIENCE_S 60

static struct yk_node *node;
static struct yk_http *http;

/* What was to be kept, as text; written by the router's thread before the answer is there. */
static char kept[200];

static uint32_t keep(void *arg, const struct yk_http_keep *what) {
    size_t at = (size_t)snprintf(kept, sizeof(kept), "%s %s", what->node, what->name_space);
    for (uint32_t i = 0; i < what->n; i++)
        at += (size_t)snprintf(kept + at, sizeof(kept) - at, " %.*s", (int)what->keys[i].len, (const char *)what->keys[i].data);
    return what->n;
}

static int setup(void **state) {
    struct yk_node_opts o = {0};
    struct yk_http_opts ho = {.timeout_s = PATIENCE_S, .keep = keep};
    struct yk_err err = {0};
    o.store.segment.data_bytes = 4u << 20;
    o.store.segment.max_clients = 4;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    if (yk_node_start(&o, &node, &err) < 0)
        return -1;
    yk_parse_addr("tcp:127.0.0.1:0", &ho.listen, &err);
    return yk_http_start(&ho, node, &http, &err);
}

static int teardown(void **state) {
    yk_http_stop(http);
    yk_node_stop(node);
    return 0;
}

/* The whole answer; freed by the caller. */
static char *send_all(const char *head, const char *body, size_t len) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(yk_http_port(http)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval tv = {PATIENCE_S, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, body + at, len - at, MSG_NOSIGNAL);
        if (n <= 0)
            break; /* refused while it was sent */
        at += (size_t)n;
    }
    size_t cap = 1u << 20, got = 0;
    char *b = malloc(cap);
    ssize_t n;
    while (got + 1 < cap && (n = recv(fd, b + got, cap - 1 - got, 0)) > 0)
        got += (size_t)n;
    b[got] = '\0';
    close(fd);
    return b;
}

static char *post_as(const char *path, const char *type, const char *body, size_t len) {
    char head[300];
    snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
             path, type, len);
    return send_all(head, body, len);
}

/* The status; the body into *ret_body, or NULL is not looked at. */
static int post(const char *path, const char *body, json_t **ret_body) {
    char *answer = post_as(path, "application/json; charset=utf-8", body, strlen(body));
    int status = 0;
    assert_int_equal(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    if (ret_body != NULL) {
        const char *at = strstr(answer, "\r\n\r\n");
        assert_non_null(at);
        *ret_body = json_loads(at + 4, 0, NULL);
        if (*ret_body == NULL)
            fail_msg("%s", answer);
    }
    free(answer);
    return status;
}

static json_t *get_route(void) {
    char *answer = send_all("GET /v1/route HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 0);
    json_t *j = json_loads(strstr(answer, "\r\n\r\n") + 4, 0, NULL);
    assert_non_null(j);
    free(answer);
    return j;
}

static const char *text_at(json_t *j, const char *key) {
    return json_string_value(json_object_get(j, key));
}

static void nothing_is_known_before_it_is_told(void **state) {
    json_t *j = get_route();
    assert_int_equal(json_array_size(json_object_get(j, "instances")), 0);
    json_decref(j);
    assert_int_equal(post("/v1/route", "{\"tokens\": 100}", &j), 200);
    assert_string_equal(text_at(j, "verdict"), "nobody");
    json_decref(j);
}

static void a_request_goes_round(void **state) {
    char body[300];
    json_t *j, *first;
    assert_int_equal(post("/v1/route/load", "{\"name\": \"e1\", \"zone\": \"a\", \"waiting\": 4, \"waiting_tokens\": 90000}", NULL), 204);
    assert_int_equal(post("/v1/route/load", "{\"name\": \"e2\", \"zone\": \"a\", \"waiting\": 0, \"running\": 2, \"network_load\": 0.5}", NULL), 204);
    assert_int_equal(post("/v1/route/blocks", "{\"name\": \"e2\", \"tier\": \"vram\", \"stored\": [1, \"2\", \"0x3\", \"18446744073709551615\"]}", NULL), 204);
    assert_int_equal(post("/v1/route", "{\"tokens\": 2100, \"block_tokens\": 512, \"chain\": [1, 2, 3, \"0xffffffffffffffff\"], \"objective_ms\": 60000}", &j), 200);
    assert_string_equal(text_at(j, "verdict"), "admit");
    assert_int_equal(json_array_size(json_object_get(j, "ranked")), 2);
    first = json_array_get(json_object_get(j, "ranked"), 0);
    assert_string_equal(text_at(first, "name"), "e2");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(first, "blocks"), "vram")), 4);
    assert_int_equal(json_integer_value(json_object_get(first, "new_tokens")), 52);
    snprintf(body, sizeof(body), "{\"decision\": \"%s\", \"queue_ms\": 1.5, \"transfer_ms\": null, \"compute_ms\": 30, \"ttft_ms\": 33, \"new_tokens\": 52}",
             text_at(j, "decision"));
    assert_int_equal(post("/v1/route/outcome", body, NULL), 204);
    assert_int_equal(post("/v1/route/outcome", body, NULL), 404);
    json_decref(j);
    j = get_route();
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "all"), "outcomes")), 1);
    assert_int_equal(json_integer_value(json_object_get(j, "blocks")), 4);
    json_decref(j);
}

static void held_targets_and_dry_runs(void **state) {
    json_t *j;
    assert_int_equal(post("/v1/route", "{\"tokens\": 5000, \"block_tokens\": 500, \"keys\": [\"a\", \"b\", \"c\", \"d\"], \"take\": false, \"count\": 1,"
                          " \"targets\": [\"e1\"], \"held\": {\"e1\": {\"vram\": 2, \"ssd\": 4}}}", &j), 200);
    assert_true(json_is_null(json_object_get(j, "decision")));
    json_t *blocks = json_object_get(json_array_get(json_object_get(j, "ranked"), 0), "blocks");
    assert_int_equal(json_array_size(json_object_get(j, "ranked")), 1);
    assert_int_equal(json_integer_value(json_object_get(blocks, "vram")), 2);
    json_decref(j);
    assert_int_equal(post("/v1/route/blocks", "{\"name\": \"e2\", \"tier\": \"vram\", \"removed\": [2]}", NULL), 204);
    assert_int_equal(post("/v1/route/blocks", "{\"name\": \"e2\", \"cleared\": true}", NULL), 204);
    assert_int_equal(post("/v1/route/load", "{\"name\": \"e2\", \"gone\": true}", NULL), 204);
    assert_int_equal(post("/v1/route/load", "{\"name\": \"e2\", \"gone\": true}", NULL), 404);
}

static void what_is_wrong_is_said(void **state) {
    static const struct {
        const char *path, *body;
        int status;
        const char *has;
    } wrong[] = {
        {"/v1/route", "", 400, "no JSON"},
        {"/v1/route", "{\"tokens\": 5", 400, "no JSON"},
        {"/v1/route", "[]", 400, "expected an object"},
        {"/v1/route", "{}", 400, "'tokens'"},
        {"/v1/route", "{\"tokens\": -1}", 400, "'tokens': expected a whole number"},
        {"/v1/route", "{\"tokens\": 1.5}", 400, "'tokens': expected a whole number"},
        {"/v1/route", "{\"tokens\": 5, \"tokns\": 5}", 400, "'tokns' is no field"},
        {"/v1/route", "{\"tokens\": 5, \"tokens\": 6}", 400, "no JSON"},
        {"/v1/route", "{\"tokens\": 5, \"count\": 0}", 400, "'count'"},
        {"/v1/route", "{\"tokens\": 5, \"take\": 1}", 400, "'take': expected true or false"},
        {"/v1/route", "{\"tokens\": 5, \"chain\": [1.5]}", 400, "a block's hash"},
        {"/v1/route", "{\"tokens\": 5, \"chain\": [\"0x\"]}", 400, "a block's hash"},
        {"/v1/route", "{\"tokens\": 5, \"chain\": [\"99999999999999999999\"]}", 400, "a block's hash"},
        {"/v1/route", "{\"tokens\": 5, \"chain\": [\"0x00112233445566778\"]}", 400, "a block's hash"},
        {"/v1/route", "{\"tokens\": 5, \"chain\": [1], \"keys\": [\"a\"]}", 400, "one of them"},
        {"/v1/route", "{\"tokens\": 5, \"chain\": [1], \"blocks\": 2}", 400, "'blocks'"},
        {"/v1/route", "{\"tokens\": 5, \"keys\": [1]}", 400, "'keys'"},
        {"/v1/route", "{\"tokens\": 5, \"targets\": []}", 400, "'targets'"},
        {"/v1/route", "{\"tokens\": 5, \"held\": {\"a\": 5}}", 400, "expected an object"},
        {"/v1/route", "{\"tokens\": 5, \"held\": {\"\": {}}}", 400, "a name has"},
        {"/v1/route", "{\"tokens\": 5, \"chain\": [1], \"keep\": true}", 400, "'keep': expected 'keys'"},
        {"/v1/route/outcome", "{}", 400, "'decision'"},
        {"/v1/route/outcome", "{\"decision\": \"x\"}", 400, "'decision'"},
        {"/v1/route/outcome", "{\"decision\": \"12345678\", \"dropped\": true}", 404, "no decision 12345678"},
        {"/v1/route/load", "{}", 400, "a name has"},
        {"/v1/route/load", "{\"name\": \"e1\", \"events\": {}}", 400, "an endpoint"},
        {"/v1/route/load", "{\"name\": \"e1\", \"events\": {\"port\": 1}}", 400, "'port' is no field"},
        {"/v1/route/blocks", "{}", 400, "'name'"},
        {"/v1/route/blocks", "{\"name\": \"e1\", \"stored\": [1]}", 400, "'tier'"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char *answer = post_as(wrong[i].path, "application/json", wrong[i].body, strlen(wrong[i].body));
        int status = 0;
        sscanf(answer, "HTTP/1.1 %d", &status);
        if (status != wrong[i].status || strstr(answer, wrong[i].has) == NULL)
            fail_msg("%s %s: %s", wrong[i].path, wrong[i].body, answer);
        free(answer);
    }
}

static void expect_status(char *answer, const char *status) {
    if (strncmp(answer, status, strlen(status)) != 0)
        fail_msg("%s: %s", status, answer);
    free(answer);
}

static void other_requests_are_refused(void **state) {
    size_t len = 5u << 20;
    char *large = malloc(len);
    memset(large, ' ', len);
    expect_status(post_as("/v1/route", "text/plain", "{\"tokens\": 5}", 13), "HTTP/1.1 415");
    expect_status(post_as("/v1/route", "application/jsonx", "{\"tokens\": 5}", 13), "HTTP/1.1 415");
    expect_status(post_as("/v1/stats", "application/json", "{}", 2), "HTTP/1.1 405");
    expect_status(post_as("/v1/route/x", "application/json", "{}", 2), "HTTP/1.1 405");
    expect_status(send_all("PUT /v1/route HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "", 0), "HTTP/1.1 405");
    expect_status(send_all("GET /v1/route/load HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 0), "HTTP/1.1 404");
    expect_status(post_as("/v1/route", "application/json", large, len), "HTTP/1.1 413");
    free(large);
}

#define HOT                                                                                                            \
    "\"tokens\": 2100, \"block_tokens\": 512, \"block_bytes\": 1000, \"keys\": [\"h1\", \"h2\", \"h3\", \"h4\"],"              \
    " \"held\": {\"m0\": {\"dram\": 3}}"

/* The node of the engine that a hot chain goes to, and what of it others have. */
static void a_hot_chain_is_to_be_kept(void **state) {
    uint32_t asked = 0;
    assert_int_equal(post("/v1/route/load", "{\"name\": \"warm\", \"node\": \"m0\", \"waiting_tokens\": 900000}", NULL), 204);
    assert_int_equal(post("/v1/route/load", "{\"name\": \"cold\", \"node\": \"m1\"}", NULL), 204);
    assert_int_equal(post("/v1/route/blocks", "{\"name\": \"cold\", \"tier\": \"vram\", \"stored\": []}", NULL), 204);
    for (int i = 0; i < 1000 && asked == 0; i++) {
        char done[100];
        json_t *j;
        assert_int_equal(post("/v1/route", "{" HOT ", \"keep\": true, \"namespace\": \"ns\"}", &j), 200);
        asked = (uint32_t)json_integer_value(json_object_get(j, "keeping"));
        assert_true(asked == 0 || json_is_true(json_object_get(j, "replicate")));
        snprintf(done, sizeof(done), "{\"decision\": \"%s\", \"dropped\": true}", text_at(j, "decision"));
        assert_int_equal(post("/v1/route/outcome", done, NULL), 204);
        json_decref(j);
    }
    assert_int_equal(asked, 3);
    assert_string_equal(kept, "m1 ns h1 h2 h3");
    kept[0] = '\0';
    assert_int_equal(post("/v1/route", "{" HOT "}", NULL), 200); /* nobody wanted it to be */
    assert_string_equal(kept, "");
}

static void long_lists_are_refused(void **state) {
    size_t cap = 600000, at;
    char *body = malloc(cap);
    at = (size_t)snprintf(body, cap, "{\"tokens\": 5, \"chain\": [1");
    for (uint32_t i = 0; i < YK_ROUTE_CHAIN_MAX; i++)
        at += (size_t)snprintf(body + at, cap - at, ",%u", i);
    snprintf(body + at, cap - at, "]}");
    char *answer = post_as("/v1/route", "application/json", body, strlen(body));
    assert_int_equal(strncmp(answer, "HTTP/1.1 400", 12), 0);
    assert_non_null(strstr(answer, "found 65537 blocks, at most 65536 are taken"));
    free(answer);
    free(body);
}

/* ---- a router that is busy ---- */

#define ASKED "{\"tokens\": 100}"

static int dial(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(yk_http_port(http)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval tv = {PATIENCE_S, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static int post_unread(void) {
    static const char text[] = "POST /v1/route HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                               "Content-Length: 15\r\n\r\n" ASKED;
    int fd = dial();
    assert_int_equal(send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL), sizeof(text) - 1);
    return fd;
}

static int status_of(int fd) {
    char text[4096];
    size_t got = 0;
    ssize_t n;
    int status = 0;
    while (got + 1 < sizeof(text) && (n = recv(fd, text + got, sizeof(text) - 1 - got, 0)) > 0)
        got += (size_t)n;
    text[got] = '\0';
    sscanf(text, "HTTP/1.1 %d", &status);
    close(fd);
    return status;
}

static bool is_answered(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static void probes_do_not_wait_for_the_router(void **state) {
    assert_int_equal(post("/v1/route/load", "{\"name\": \"e1\"}", NULL), 204);
    expect_status(send_all("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 0), "HTTP/1.1 200");
    yk_routes *r = http_routes(http);
    routes_lock(r);
    int fd = post_unread();
    expect_status(send_all("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 0), "HTTP/1.1 200");
    expect_status(send_all("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 0), "HTTP/1.1 200");
    char *page = send_all("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 0);
    assert_non_null(strstr(page, "yolk_route_instances{state=\"heard\"} 1")); /* as it was */
    free(page);
    assert_false(is_answered(fd));
    routes_unlock(r);
    assert_int_equal(status_of(fd), 200);
}

/* One is with the router and as many as may wait do; the next is told so at once. */
static void what_waits_for_the_router_is_bounded(void **state) {
    enum { N = YK_LATER_MAX + 4 };
    struct pollfd polls[N];
    int answered[2] = {0, 0};
    yk_routes *r = http_routes(http);
    routes_lock(r);
    for (int i = 0; i < N; i++)
        polls[i] = (struct pollfd){.fd = post_unread(), .events = POLLIN};
    assert_true(poll(polls, N, PATIENCE_S * 1000) > 0);
    routes_unlock(r);
    for (int i = 0; i < N; i++) {
        int status = status_of(polls[i].fd);
        assert_true(status == 200 || status == 503);
        answered[status == 503]++;
    }
    assert_true(answered[0] >= 1 && answered[1] >= 1);
}

/* Nodes that report what they measure take no room from engines. */
static void nodes_keep_no_engines_out(void **state) {
    char name[32], body[64];
    for (int i = 0; i < 1024; i++) {
        snprintf(name, sizeof(name), "node%d", i);
        yk_route_node_report p = {.size = sizeof(p), .name = name};
        assert_int_equal(yk_route_node(yk_http_routes(http), &p), 0);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(body, sizeof(body), "{\"name\": \"engine%d\"}", i);
        assert_int_equal(post("/v1/route/load", body, NULL), 204);
    }
}

static void it_stops_while_requests_wait(void **state) {
    int fds[20];
    for (int i = 0; i < 20; i++)
        fds[i] = post_unread();
    teardown(state);
    for (int i = 0; i < 20; i++)
        (void)status_of(fds[i]); /* an answer, or the end */
    assert_int_equal(setup(state), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_before_it_is_told),
        cmocka_unit_test(a_request_goes_round),
        cmocka_unit_test(held_targets_and_dry_runs),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(other_requests_are_refused),
        cmocka_unit_test(long_lists_are_refused),
        cmocka_unit_test(probes_do_not_wait_for_the_router),
        cmocka_unit_test(what_waits_for_the_router_is_bounded),
        cmocka_unit_test(a_hot_chain_is_to_be_kept),
        cmocka_unit_test(nodes_keep_no_engines_out),
        cmocka_unit_test(it_stops_while_requests_wait),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
