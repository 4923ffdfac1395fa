/* SPDX-License-Identifier: Apache-2.0
 *
 * The other ways to a node: over TCP, and inside this process (whose entry points this program
 * exports, as one that links libyolk-node does).
 */
#include "fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* A port that was free a moment ago. */
static unsigned free_port(void) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

static void over_tcp(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    (void)state;
    fixture_init(f, 0);
    snprintf(f->url, sizeof(f->url), "tcp:127.0.0.1:%u", free_port());
    fixture_start(f);
    yk_client *c = open_client(f);
    yk_reservation r;
    yk_ref ref;
    put_ok(c, "k", 5u * MIB + 3, 1);
    assert_status(get_is(c, "k", 5u * MIB + 3, 1), 0);
    assert_status(yk_reserve(c, 10, 0, &r), -YK_ENOTSUP);
    assert_status(yk_ref_get(c, yk_key_str("k"), &ref), 0);
    assert_true(is_filled(ref.data, ref.len, 1));
    yk_ref_release(c, &ref);
    yk_close(c);
    fixture_fini(f);
    free(f);
}

static int option(int fd, int level, int name) {
    int on = 0;
    socklen_t len = sizeof(on);
    assert_int_equal(getsockopt(fd, level, name, &on, &len), 0);
    return on;
}

/* How many connected TCP sockets this process has; each sends what it is given at once, acknowledged or
 * not what went before, and notices a peer that is gone without a word. */
static int tuned_sockets(void) {
    int n = 0;
    for (int fd = 0; fd < 1024; fd++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 || peer.ss_family != AF_INET)
            continue;
        assert_true(option(fd, IPPROTO_TCP, TCP_NODELAY));
        assert_true(option(fd, SOL_SOCKET, SO_KEEPALIVE));
        n++;
    }
    return n;
}

/* Replies to a batch are many small sends of the node's; with Nagle's algorithm at its end of the
 * connection the last of them waited for the acknowledgement that a client delays by 40 ms. */
static void neither_end_of_tcp_waits_for_acknowledgements(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    (void)state;
    fixture_init(f, 0);
    snprintf(f->url, sizeof(f->url), "tcp:127.0.0.1:%u", free_port());
    fixture_start(f);
    yk_client *c = open_client(f);
    assert_int_equal(tuned_sockets(), 2);
    yk_close(c);
    fixture_fini(f);
    free(f);
}

static void embedded(void **state) {
    (void)state;
    yk_client *c = NULL, *d = NULL;
    yk_ref ref;
    char *json = NULL;
    assert_status(yk_open("embedded:dram=lots", NULL, &c), -YK_EINVAL);
    assert_non_null(strstr(yk_error_text(NULL), "lots"));
    assert_status(yk_open("embedded:dram=900T", NULL, &c), -YK_ENOSPC); /* no yolkd: no options of it */
    assert_non_null(strstr(yk_error_text(NULL), "lower dram or max_clients"));
    assert_null(strstr(yk_error_text(NULL), "--"));
    assert_status(yk_open("embedded:max_clients=0", NULL, &c), -YK_EINVAL);
    assert_status(yk_open("embedded:dram=64M", NULL, &c), 0);
    assert_status(yk_open("embedded:dram=64M", NULL, &d), 0); /* a node of its own */
    put_ok(c, "k", 100000, 1);
    assert_status(get_is(c, "k", 100000, 1), 0);
    assert_int_equal(yk_exists(d, yk_key_str("k")), 0);
    assert_status(yk_ref_get(c, yk_key_str("k"), &ref), 0);
    assert_true(is_filled(ref.data, ref.len, 1));
    assert_int_equal(STAT(c, refs_held), 1); /* mapped */
    assert_status(yk_stats_json(c, &json), 0);
    free(json);
    yk_close(c); /* with the reference held */
    yk_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_tcp),
        cmocka_unit_test(neither_end_of_tcp_waits_for_acknowledgements),
        cmocka_unit_test(embedded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
