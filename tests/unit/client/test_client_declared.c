/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that a client declares (yk_register): where payload goes then, what is refused, and how it is taken back under
 * operations. Without devices: that they are told of it once shows `client_rdma`, in a guest.
 *
 * The node is a process of its own, reached over TCP.
 */
#include "fixture.h"
#include "held.h"
#include "proxy.h"

#include "client/client_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONG 20000u /* ms: a deadline that is not meant to be reached */

static void tune(struct yk_node_opts *o) {
    o->transfer = "127.0.0.1:0";
}

/* A handle without the mapping, which would use RDMA. */
static yk_client *open_far(struct fixture *f) {
    yk_open_opts o = {.size = sizeof(o), .flags = YK_OPEN_NO_MAP, .transports = "rdma,tcp"};
    yk_client *c = NULL;
    memset(f, 0, sizeof(*f));
    fixture_init(f, 1);
    snprintf(f->url, sizeof(f->url), "tcp:127.0.0.1:%u", proxy_free_port());
    f->tune = tune;
    fixture_fork(f);
    fixture_fork_spare(f);
    assert_status(yk_open(f->url, &o, &c), 0);
    return c;
}

static uint64_t regions_of(yk_client *c) {
    char *text = NULL;
    assert_status(yk_xfer_links_json(c->far.engine, &text), 0);
    const char *at = strstr(text, "\"regions\":");
    assert_non_null(at);
    uint64_t n = strtoull(at + strlen("\"regions\":"), NULL, 10);
    free(text);
    return n;
}

/* Whether a block goes from there to the node and comes back there. */
static void there_and_back(yk_client *c, const char *key, char *at, size_t len, char byte) {
    size_t got = 0;
    memset(at, byte, len);
    assert_status(yk_put(c, yk_key_str(key), at, len, NULL), 0);
    memset(at, 0, len);
    assert_status(yk_get(c, yk_key_str(key), at, len, &got), 0);
    assert_int_equal(got, len);
    assert_true(at[0] == byte && memcmp(at, at + 1, len - 1) == 0);
}

static void test_declared_memory(void **state) {
    (void)state;
    static char buffer[4 * MIB];
    struct fixture f;
    yk_client *c = open_far(&f);
    assert_int_equal(yk_register(c, NULL, 1), -YK_EINVAL);
    assert_int_equal(yk_register(c, buffer, 0), -YK_EINVAL);
    assert_int_equal(yk_unregister(c, buffer), -YK_ENOENT);
    assert_status(yk_register(c, buffer + MIB, 2 * MIB), 0);
    assert_int_equal(yk_register(c, buffer, MIB + 1), -YK_EINVAL);
    assert_int_equal(yk_register(c, buffer + 3 * MIB - 1, MIB), -YK_EINVAL);
    assert_int_equal(regions_of(c), 1);
    there_and_back(c, "within", buffer + MIB, MIB, 'a');
    assert_int_equal(STAT(c, xfer_bytes), 2 * MIB);
    there_and_back(c, "beside", buffer, MIB, 'b');
    assert_int_equal(STAT(c, xfer_bytes), 4 * MIB);
    there_and_back(c, "across", buffer + MIB / 2, MIB, 'c'); /* through the connection */
    assert_int_equal(STAT(c, xfer_bytes), 4 * MIB);
    there_and_back(c, "within", buffer + 2 * MIB, MIB, 'a'); /* the path is none the worse for it */
    assert_int_equal(STAT(c, xfer_bytes), 6 * MIB);
    assert_int_equal(yk_unregister(c, buffer + MIB + 1), -YK_ENOENT);
    assert_status(yk_unregister(c, buffer + MIB), 0);
    assert_int_equal(regions_of(c), 0);
    there_and_back(c, "again", buffer + MIB / 2, MIB, 'd');
    assert_status(yk_register(c, buffer, sizeof(buffer)), 0);
    yk_close(c); /* with what is declared */
    fixture_fini(&f);
}

/* In the middle of gets into it: they end well, by another way. */
static void test_memory_that_is_taken_back(void **state) {
    (void)state;
    enum { BLOCKS = 16 };
    static char buffer[BLOCKS * MIB];
    struct iovec iov[BLOCKS];
    yk_op ops[BLOCKS], *done[BLOCKS];
    struct fixture f;
    yk_client *c = open_far(&f);
    there_and_back(c, "k", buffer, MIB, 'x');
    for (uint32_t round = 0; round < 8; round++) {
        memset(buffer, 0, sizeof(buffer));
        assert_status(yk_register(c, buffer, sizeof(buffer)), 0);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            iov[i] = (struct iovec){buffer + i * MIB, MIB};
            ops[i] = (yk_op){.opcode = YK_OP_GET, .key = yk_key_str("k"), .iov = &iov[i], .iov_count = 1};
        }
        assert_status(yk_submit(c, ops, BLOCKS, LONG), 0);
        assert_status(yk_unregister(c, buffer), 0);
        for (uint32_t left = BLOCKS; left > 0;) {
            int n = yk_poll(c, done, BLOCKS, LONG);
            assert_true(n > 0);
            for (int i = 0; i < n; i++)
                assert_status(done[i]->status, 0);
            left -= (uint32_t)n;
        }
        assert_true(buffer[0] == 'x' && memcmp(buffer, buffer + 1, sizeof(buffer) - 1) == 0);
    }
    yk_close(c);
    fixture_fini(&f);
}

/* The engine gives up waiting for what uses the memory: it stays declared, however often it is asked, since whoever is told
 * that it is not may unmap it. */
static void test_memory_that_is_not_let_go(void **state) {
    (void)state;
    static char buffer[MIB];
    struct fixture f;
    yk_client *c = open_far(&f);
    assert_status(yk_register(c, buffer, sizeof(buffer)), 0);
    void *held = held_take(c->far.engine, buffer);
    assert_non_null(held);
    for (int i = 0; i < 2; i++)
        assert_int_equal(yk_unregister(c, buffer), -YK_ETIMEDOUT);
    assert_int_equal(regions_of(c), 1);
    there_and_back(c, "k", buffer, MIB, 'x'); /* through the connection */
    held_give(c->far.engine, held);
    yk_close(c);
    fixture_fini(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_declared_memory),
        cmocka_unit_test(test_memory_that_is_taken_back),
        cmocka_unit_test(test_memory_that_is_not_let_go),
    };
    return cmocka_run_group_tests_name("client declared", tests, NULL, NULL);
}
