/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages between engines: layouts that must not change unnoticed, what must be refused, ends.
 */
#include "xfer/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void layouts(void **state) {
    static const unsigned char read[YK_XREQ_BYTES_MAX] = {
        0x59, 0x78, 3, 1, 4, 3, 2, 1,         7, 0, 0, 0, 1, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0,
        0,    0,    1, 0, 0, 0, 0, 0,         0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0,
        5,    0,    0, 0, 0, 0, 0, 0,         6, 0, 0, 0, 0, 0, 0, 0, 9, 0,  0, 0, 0, 0, 0, 0};
    static const unsigned char miss[YK_XANS_BYTES] = {0x59, 0x78, 3, 0, 4, 3, 2, 1, 1, 0, 0, 0, 0, 0, 1, 0};
    struct yk_xreq q = {.op = YK_PROTO_READ, .flags = YK_XREQ_GUARD, .seq = 0x01020304,
                       .region = 0x100000007, .offset = 4096, .len = 65536, .descriptor = 5,
                       .generation = 6, .epoch = 9};
    struct yk_xans a = {.op = YK_PROTO_READ, .seq = 0x01020304, .status = YK_MISS, .len = 65536};
    struct yk_xreq q2;
    struct yk_xans a2;
    unsigned char b[YK_XREQ_BYTES_MAX];
    (void)state;
    assert_int_equal(yk_xreq_encode(b, &q), sizeof(read));
    assert_memory_equal(b, read, sizeof(read));
    assert_int_equal(yk_xreq_size(b, NULL), sizeof(read));
    assert_int_equal(yk_xreq_decode(b, sizeof(read), &q2, NULL), 0);
    unsigned char again[YK_XREQ_BYTES_MAX];
    assert_int_equal(yk_xreq_encode(again, &q2), sizeof(read));
    assert_memory_equal(again, read, sizeof(read));
    assert_int_equal(yk_xreq_decode(b, YK_XREQ_BYTES, &q2, NULL), -YK_EPROTO);
    for (uint8_t op = YK_PROTO_HELLO; op < YK_PROTO_END; op++) { /* what reads and writes has guards */
        int guarded = op == YK_PROTO_READ || op == YK_PROTO_WRITE || op == YK_PROTO_LEND || op == YK_PROTO_PULL;
        b[2] = op;
        assert_int_equal(yk_xreq_size(b, NULL), guarded ? (int)YK_XREQ_BYTES_MAX : -YK_EPROTO);
    }
    yk_xans_encode(b, &a);
    assert_memory_equal(b, miss, sizeof(miss));
    assert_int_equal(yk_xans_decode(b, &a2, NULL), 0);
    yk_xans_encode(again, &a2);
    assert_memory_equal(again, miss, sizeof(miss));
}

/* `remote` and `key` are of the requests whose payload devices move, and of no others. */
static void remote_addresses(void **state) {
    static const struct {
        uint8_t op;
        int remote, key, code;
        uint64_t len;
    } rows[] = {
        {YK_PROTO_PULL, 1, 1, 0, 4096},          {YK_PROTO_LEND, 1, 0, 0, 4096},
        {YK_PROTO_GIVEBACK, 1, 0, 0, 0},         {YK_PROTO_LEND, 1, 1, -YK_EPROTO, 4096},
        {YK_PROTO_READ, 1, 0, -YK_EPROTO, 4096}, {YK_PROTO_WRITE, 0, 1, -YK_EPROTO, 4096},
        {YK_PROTO_TAKE, 1, 0, -YK_EPROTO, 0},    {YK_PROTO_TAKE, 0, 0, 0, 0},
        {YK_PROTO_PULL, 1, 1, -YK_EPROTO, 0},    {YK_PROTO_OFFER, 0, 0, 0, YK_OFFER_BYTES},
        {YK_PROTO_OFFER, 0, 0, -YK_EPROTO, YK_OFFER_BYTES - 1},
    };
    unsigned char b[YK_XREQ_BYTES_MAX];
    struct yk_xreq got;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct yk_xreq q = {.op = rows[i].op, .seq = 1, .len = rows[i].len,
                            .remote = rows[i].remote ? 0x7f0012345678 : 0, .key = rows[i].key ? 0xfffffff1 : 0};
        assert_int_equal(yk_xreq_encode(b, &q), YK_XREQ_BYTES);
        assert_int_equal(yk_xreq_decode(b, YK_XREQ_BYTES, &got, NULL), rows[i].code);
        if (rows[i].code == 0)
            assert_true(got.remote == q.remote && got.key == q.key && got.len == q.len);
    }
    struct yk_xreq wide = {.op = YK_PROTO_PULL, .len = 1, .key = 1ull << 32}; /* keys have 32 bits */
    yk_xreq_encode(b, &wide);
    assert_int_equal(yk_xreq_decode(b, YK_XREQ_BYTES, &got, NULL), -YK_EPROTO);
}

/* Any one byte of a header without payload that is changed makes another request, or none; never a
 * status that is none or a length beyond bounds. */
static void flips(void **state) {
    struct yk_xans a = {.op = YK_PROTO_PING, .seq = 1};
    unsigned char b[YK_XANS_BYTES];
    int refused = 0;
    (void)state;
    for (int i = 0; i < (int)YK_XANS_BYTES * 8; i++) {
        struct yk_xans got;
        struct yk_err err = {0};
        yk_xans_encode(b, &a);
        b[i / 8] ^= (unsigned char)(1 << i % 8);
        if (yk_xans_decode(b, &got, &err) == 0) {
            assert_true(got.status <= YK_MISS && got.status >= -YK_STATUS_LAST);
            continue;
        }
        assert_true(err.code == -YK_EPROTO && err.text[0] != 0);
        refused++;
    }
    assert_true(refused > 60);
}

static struct yk_welcome *welcome(void) {
    struct yk_welcome *w = calloc(1, sizeof(*w));
    w->version = YK_PROTO_VERSION;
    memset(w->text, 'x', sizeof(w->text) - 1);
    w->peer.incarnation = 77;
    memset(w->peer.boot_id, 'b', sizeof(w->peer.boot_id) - 1);
    memset(w->peer.unix_path, 'u', sizeof(w->peer.unix_path) - 1);
    w->credit_requests = 5;
    w->peer.addr_count = YK_PEER_ADDRS;
    for (uint32_t i = 0; i < YK_PEER_ADDRS; i++) {
        memset(w->peer.addrs[i].host, 'h', YK_PEER_HOST - 1);
        w->peer.addrs[i].port = (uint16_t)i;
        w->peer.addrs[i].mbit = i * 1000;
        w->peer.addrs[i].rdma = (uint8_t)(i % 5); /* kinds that nobody knows yet, too */
    }
    return w;
}

/* The largest fits, comes back whole, and any shorter one is refused. */
static void largest_welcome(void **state) {
    struct yk_welcome *w = welcome(), *got = malloc(sizeof(*got));
    unsigned char *b = malloc(YK_WELCOME_MAX);
    (void)state;
    uint32_t n = yk_welcome_encode(b, w);
    assert_true(n > 2000 && n < YK_WELCOME_MAX);
    assert_int_equal(yk_welcome_decode(b, n, got, NULL), 0);
    assert_memory_equal(w, got, sizeof(*w));
    for (uint32_t i = 0; i < n; i++) {
        unsigned char *exact = malloc(i > 0 ? i : 1);
        memcpy(exact, b, i);
        assert_int_equal(yk_welcome_decode(exact, i, got, NULL), -YK_EPROTO);
        free(exact);
    }
    w->peer.addrs[3].host[5] = '\n';
    n = yk_welcome_encode(b, w);
    assert_int_equal(yk_welcome_decode(b, n, got, NULL), -YK_EPROTO);
    free(w);
    free(got);
    free(b);
}

static void bodies(void **state) {
    struct yk_hello h = {.version = YK_PROTO_VERSION, .flags = YK_XHELLO_URGENT, .lane = 1, .incarnation = 2,
                         .wanted = 3}, h2;
    struct yk_found f = {.region = 1, .offset = 2, .len = 3, .access = 3, .guarded = 1}, f2;
    unsigned char b[YK_FOUND_MAX];
    (void)state;
    assert_int_equal(yk_hello_encode(b, &h), YK_HELLO_BYTES);
    assert_int_equal(yk_hello_decode(b, YK_HELLO_BYTES, &h2, NULL), 0);
    assert_memory_equal(&h, &h2, sizeof(h));
    assert_int_equal(yk_hello_decode(b, YK_HELLO_BYTES - 1, &h2, NULL), -YK_EPROTO);
    assert_int_equal(yk_hello_decode(b, YK_HELLO_BYTES + 1, &h2, NULL), -YK_EPROTO);
    b[4] = YK_PROTO_VERSION + 1; /* a newer version may say more: it is told which one is spoken here */
    assert_int_equal(yk_hello_decode(b, YK_HELLO_BYTES + 1, &h2, NULL), 0);
    assert_int_equal(h2.version, YK_PROTO_VERSION + 1);
    uint32_t n = yk_found_encode(b, 0, &f);
    assert_int_equal(yk_found_decode(b, n, 0, &f2, NULL), 0);
    assert_memory_equal(&f, &f2, sizeof(f));
    f.offset = UINT64_MAX;
    n = yk_found_encode(b, 0, &f);
    assert_int_equal(yk_found_decode(b, n, 0, &f2, NULL), -YK_EPROTO);
    strcpy(f.text, "no");
    n = yk_found_encode(b, -YK_ENOENT, &f);
    assert_int_equal(yk_found_decode(b, n, -YK_ENOENT, &f2, NULL), 0);
    assert_string_equal(f2.text, "no");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts), cmocka_unit_test(flips), cmocka_unit_test(remote_addresses),
                                       cmocka_unit_test(largest_welcome), cmocka_unit_test(bodies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
