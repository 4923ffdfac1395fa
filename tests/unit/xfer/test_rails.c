/* SPDX-License-Identifier: Apache-2.0
 *
 * Which devices reach which peer: hosts as lists of devices, peers as lists of addresses.
 */
#include "xfer/sock.h"
#include "xfer/tcp/tcp_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct yk_tcp_device device(const char *name, const char *host, const char *mask, uint32_t index,
                                   uint32_t mbit) {
    struct yk_tcp_device d = {.index = index, .mbit = mbit, .loopback = strcmp(name, "lo") == 0};
    snprintf(d.name, sizeof(d.name), "%s", name);
    snprintf(d.host, sizeof(d.host), "%s", host);
    snprintf(d.mask, sizeof(d.mask), "%s", mask);
    return d;
}

/* hosts: "10.0.0.2 10.0.1.2" */
static struct yk_peer_info peer(const char *hosts) {
    struct yk_peer_info p = {.incarnation = 1};
    char text[512], *save, *at;
    snprintf(text, sizeof(text), "%s", hosts);
    for (at = strtok_r(text, " ", &save); at != NULL; at = strtok_r(NULL, " ", &save)) {
        snprintf(p.addrs[p.addr_count].host, YK_PEER_HOST, "%s", at);
        p.addrs[p.addr_count++].port = 7000;
    }
    return p;
}

/* "local>remote ..." of the rails. */
static const char *rails(const struct yk_tcp_device *d, uint32_t n, const char *filter, const char *hosts,
                         int same_host) {
    static char text[2048];
    struct yk_rail_desc r[32];
    struct yk_peer_info p = peer(hosts);
    size_t len = 0;
    uint32_t count = yk_tcp_rails_of(d, n, filter, &p, same_host, r, 32);
    text[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(r[i].bytes_per_s > 0 && r[i].fixed_ns > 0 && r[i].port == 7000);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s>%s", i > 0 ? " " : "", r[i].local,
                                r[i].remote);
    }
    return text;
}

#define MASK "255.255.255.0"

static void one_device(void **state) {
    struct yk_tcp_device d[] = {device("lo", "127.0.0.1", "255.0.0.0", 1, 0),
                                device("eth0", "10.0.0.1", MASK, 2, 25000)};
    (void)state;
    assert_string_equal(rails(d, 2, NULL, "10.0.0.2", 0), "10.0.0.1>10.0.0.2");
    /* Loopback and a bridge that every host has lead nowhere. */
    assert_string_equal(rails(d, 2, NULL, "127.0.0.1 10.0.0.2", 0), "10.0.0.1>10.0.0.2");
    /* Not in a subnet of ours: the kernel's routes. */
    assert_string_equal(rails(d, 2, NULL, "192.168.7.7", 0), ">192.168.7.7");
    assert_string_equal(rails(d, 2, "eth0", "192.168.7.7", 0), "10.0.0.1>192.168.7.7");
    assert_string_equal(rails(d, 2, "eth1", "192.168.7.7", 0), "");
    assert_string_equal(rails(d, 2, NULL, "127.0.0.1", 0), "");
    assert_string_equal(rails(d, 2, NULL, "127.0.0.1", 1), ">127.0.0.1");
    assert_string_equal(rails(d, 2, NULL, "10.0.0.1", 1), ">10.0.0.1");
    assert_string_equal(rails(d, 2, NULL, "", 0), "");
    assert_string_equal(rails(d, 2, NULL, "not-numeric", 0), "");
}

/* Another network namespace of this kernel has addresses of its own. */
static void namespaces(void **state) {
    struct yk_tcp_device d[] = {device("lo", "127.0.0.1", "255.0.0.0", 1, 0),
                                device("veth0", "10.9.0.1", MASK, 2, 10000),
                                device("veth1", "10.9.1.1", MASK, 3, 10000)};
    (void)state;
    assert_string_equal(rails(d, 3, NULL, "10.9.0.2 10.9.1.2", 1), "10.9.0.1>10.9.0.2 10.9.1.1>10.9.1.2");
    /* What we have, too, may lead to ourselves: the others are rails all the same, on the wire or by a route. */
    assert_string_equal(rails(d, 3, NULL, "10.9.1.1 10.9.0.2", 1), ">10.9.1.1 10.9.0.1>10.9.0.2");
    assert_string_equal(rails(d, 3, NULL, "10.9.1.1 192.168.7.7", 1), ">10.9.1.1 >192.168.7.7");
    assert_string_equal(rails(d, 3, NULL, "10.9.0.1 10.9.1.1", 1), ">10.9.0.1");
}

static void many_devices(void **state) {
    struct yk_tcp_device d[] = {
        device("lo", "127.0.0.1", "255.0.0.0", 1, 0), device("a", "10.0.0.1", MASK, 2, 1000),
        device("b", "10.0.1.1", MASK, 3, 4000),       device("c", "10.0.1.2", MASK, 4, 4000),
        device("docker0", "172.17.0.1", "255.255.0.0", 5, 0), device("e", "fd00::1", "ffff:ffff::", 6, 0)};
    (void)state;
    assert_string_equal(rails(d, 6, NULL, "10.0.0.7 10.0.1.7", 0),
                        "10.0.0.1>10.0.0.7 10.0.1.1>10.0.1.7 10.0.1.2>10.0.1.7");
    /* Two and two in one subnet are two rails; the bridge on both hosts is none. */
    assert_string_equal(rails(d, 6, NULL, "10.0.1.7 10.0.1.8 172.17.0.1", 0),
                        "10.0.1.1>10.0.1.7 10.0.1.2>10.0.1.8");
    assert_string_equal(rails(d, 6, "b", "10.0.1.7 10.0.1.8", 0), "10.0.1.1>10.0.1.7 10.0.1.1>10.0.1.8");
    assert_string_equal(rails(d, 6, "a,10.0.1.2", "10.0.0.7 10.0.1.7", 0),
                        "10.0.0.1>10.0.0.7 10.0.1.2>10.0.1.7");
    assert_string_equal(rails(d, 6, NULL, "fd00::7", 0), "fd00::1>fd00::7");
}

static void speed(void **state) {
    struct yk_tcp_device d = device("a", "10.0.0.1", MASK, 2, 100000);
    struct yk_peer_info p = peer("10.0.0.2");
    struct yk_rail_desc r;
    (void)state;
    p.addrs[0].mbit = 25000; /* the slower end */
    assert_int_equal(yk_tcp_rails_of(&d, 1, NULL, &p, 0, &r, 1), 1);
    assert_true(r.bytes_per_s > 3.1e9 && r.bytes_per_s < 3.2e9);
    assert_true(r.caps & YK_RAIL_NETWORK);
    assert_int_equal(r.local_if, 2);
    assert_int_equal(yk_tcp_rails_of(&d, 1, NULL, &p, 0, &r, 0), 0);
}

static void addresses(void **state) {
    struct yk_sockaddr a, b, m;
    char host[YK_PEER_HOST];
    (void)state;
    assert_int_equal(yk_sock_parse("10.1.2.3", 99, &a), 0);
    yk_sock_host(&a.u.any, host);
    assert_string_equal(host, "10.1.2.3");
    assert_int_equal(yk_sock_port(&a.u.any), 99);
    assert_int_equal(yk_sock_parse("10.1.2", 99, &b), -YK_EINVAL);
    assert_int_equal(yk_sock_parse("10.1.3.4", 0, &b), 0);
    assert_int_equal(yk_sock_parse("255.255.254.0", 0, &m), 0);
    assert_true(yk_sock_same_net(&a.u.any, &b.u.any, &m.u.any));
    assert_int_equal(yk_sock_parse("255.255.255.0", 0, &m), 0);
    assert_false(yk_sock_same_net(&a.u.any, &b.u.any, &m.u.any));
    assert_int_equal(yk_sock_parse("::1", 0, &b), 0);
    assert_true(yk_sock_is_loopback(&b.u.any) && !yk_sock_is_loopback(&a.u.any));
    assert_false(yk_sock_same_host(&a.u.any, &b.u.any));
    assert_int_equal(yk_sock_parse("0.0.0.0", 0, &b), 0);
    assert_true(yk_sock_is_any(&b.u.any));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_device),   cmocka_unit_test(namespaces),
                                       cmocka_unit_test(many_devices), cmocka_unit_test(speed),
                                       cmocka_unit_test(addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
