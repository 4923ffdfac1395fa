/* SPDX-License-Identifier: Apache-2.0
 *
 * An engine that another shuts out, and one that comes after another at its address: who may read what then. Over TCP,
 * and over RDMA where there are devices (YOLK_RDMA_LISTEN as in test_xfer_rdma.c).
 */
#include <yolk/transfer.h>

#include "base/clock.h"
#include "xfer/engine_priv.h"
#include "xfer/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BYTES  (1u << 20)
#define LOOK_S 120u /* for what must come in the end */

static const char *listen_at;
static uint32_t transports;
static char dir[64], there[BYTES], here[BYTES];

static yk_xfer *engine(const char *at) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .shm_dir = dir, .registry_dir = dir, .any_local = 1,
                      .listen = at, .insecure_network = 1, .stall_ms = 5000, .connect_ms = 30000};
    yk_xfer *e = NULL;
    if (yk_xfer_create(&o, &e) < 0)
        fail_msg("%s", yk_xfer_error_text());
    return e;
}

static yk_xfer *target(const char *at, char byte) {
    yk_xfer *e = engine(at);
    yk_xfer_memory m = {.addr = there, .length = BYTES, .fd = -1, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
    memset(there, byte, BYTES);
    assert_int_equal(yk_xfer_register(e, &m, 1), 0);
    assert_int_equal(yk_xfer_publish(e, "m", there, BYTES, NULL), 0);
    return e;
}

static yk_xfer_segment open_it(yk_xfer *e) {
    yk_xfer_segment s = 0;
    if (yk_xfer_open(e, "m", 60000, &s) < 0)
        fail_msg("%s", yk_xfer_error_text());
    return s;
}

static int move(yk_xfer *e, yk_xfer_segment s, uint32_t op, uint32_t timeout_ms) {
    yk_xfer_request q = {.op = op, .local = here, .segment = s, .length = BYTES};
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = timeout_ms};
    memset(here, 0, BYTES);
    return yk_xfer_run(e, &q, 1, &so);
}

static int reads(yk_xfer *e, yk_xfer_segment s, char byte) {
    int rc = move(e, s, YK_XFER_READ, 60000);
    if (rc == 0) {
        assert_int_equal(here[0], byte);
        assert_int_equal(memcmp(here, here + 1, BYTES - 1), 0);
    }
    return rc;
}

/* As a list of its addresses begins. */
static const char *name_of(const yk_xfer *e, char text[64]) {
    snprintf(text, 64, "engine=%016llx,10.0.0.1:1", (unsigned long long)e->self.incarnation);
    return text;
}

static struct yk_server_counts counts_of(yk_xfer *e) {
    struct yk_server_counts c;
    yk_server_stat(e->server, &c);
    return c;
}

static void lanes_are_taken_and_refused(void **state) {
    char name[64];
    (void)state;
    yk_xfer *t = target(listen_at, 'a'), *bad = engine(NULL), *good = engine(NULL);
    yk_xfer_segment of_bad = open_it(bad), of_good = open_it(good), again;
    assert_int_equal(reads(good, of_good, 'a'), 0);
    assert_int_equal(reads(bad, of_bad, 'a'), 0);
    struct yk_server_counts before = counts_of(t);
    assert_int_equal(yk_xfer_revoke(t, name_of(bad, name)), 0);
    struct yk_server_counts after = counts_of(t);
    assert_true(after.lanes < before.lanes && after.broken > before.broken); /* with their queue pairs */
    assert_non_null(strstr(after.last_broken, "revoked"));
    assert_int_equal(yk_xfer_revoke(t, name), 0); /* which it is already */
    assert_true(move(bad, of_bad, YK_XFER_READ, 300) < 0);
    assert_int_equal(here[BYTES - 1], 0);
    assert_true(move(bad, of_bad, YK_XFER_WRITE, 300) < 0);
    assert_int_equal(there[0], 'a');
    assert_int_equal(yk_xfer_open(bad, "m", 60000, &again), -YK_EPERM);
    assert_non_null(strstr(yk_xfer_error_text(), "revoked"));
    assert_int_equal(reads(good, of_good, 'a'), 0);
    yk_xfer_destroy(bad);
    bad = engine(NULL); /* another, as far as anybody can tell */
    assert_int_equal(reads(bad, open_it(bad), 'a'), 0);
    yk_xfer_destroy(bad);
    yk_xfer_destroy(good);
    yk_xfer_destroy(t);
}

/* Who shuts a target out asks nothing of it any more, and it has none of our memory. */
static void own_requests_end(void **state) {
    char name[64];
    (void)state;
    yk_xfer *t = target(listen_at, 'b'), *e = engine(NULL);
    yk_xfer_segment s = open_it(e);
    assert_int_equal(move(e, s, YK_XFER_WRITE, 60000), 0);
    assert_int_equal(yk_xfer_revoke(e, name_of(t, name)), 0);
    assert_int_equal(move(e, s, YK_XFER_WRITE, 60000), -YK_EGONE);
    assert_int_equal(move(e, s, YK_XFER_READ, 60000), -YK_EGONE);
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    while (counts_of(t).lanes > 0 && yk_now_ns() < until)
        (void)poll(NULL, 0, 5);
    assert_int_equal(counts_of(t).lanes, 0);
    yk_xfer_destroy(e);
    yk_xfer_destroy(t);
}

static void names_that_are_none(void **state) {
    static const char *const bad[] = {"", "engine=", "engine=0", "10.0.0.1:7", "engine=xyz", "unix:/tmp/a"};
    char name[64];
    (void)state;
    yk_xfer *e = engine(NULL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(yk_xfer_revoke(e, bad[i]), -YK_EINVAL);
    assert_int_equal(yk_xfer_revoke(e, NULL), -YK_EINVAL);
    assert_int_equal(yk_xfer_revoke(NULL, "engine=1"), -YK_EINVAL);
    assert_int_equal(yk_xfer_revoke(e, name_of(e, name)), -YK_EINVAL);
    assert_int_equal(yk_xfer_revoke(e, "engine=1"), 0); /* nobody that it knows */
    yk_xfer_destroy(e);
}

static void there_is_an_end_of_it(void **state) {
    char name[64];
    (void)state;
    yk_xfer *t = target(listen_at, 'c');
    for (uint32_t i = 1; i <= 1024; i++) {
        snprintf(name, sizeof(name), "engine=%x", i);
        assert_int_equal(yk_xfer_revoke(t, name), 0);
    }
    assert_int_equal(yk_xfer_revoke(t, "engine=1"), 0);
    assert_int_equal(yk_xfer_revoke(t, "engine=ffffff"), -YK_ELIMIT);
    yk_xfer_destroy(t);
}

/* At the same address and the same place of memory: what was known of the first one's keys is no key to the second. */
static void a_new_incarnation_has_new_keys(void **state) {
    char at[128];
    (void)state;
    yk_xfer *t = target(listen_at, 'd'), *e = engine(NULL);
    yk_xfer_segment s = open_it(e);
    for (char byte = 'e'; byte < 'h'; byte++) {
        assert_int_equal(reads(e, s, (char)(byte - 1)), 0); /* from here on it has a key */
        snprintf(at, sizeof(at), "%s", yk_xfer_address(t));
        yk_xfer_destroy(t);
        t = target(at, byte);
        yk_xfer_segment now = open_it(e);
        int rc = move(e, s, YK_XFER_READ, 5000); /* of the one that was */
        assert_true(rc == -YK_EGONE || rc == -YK_ETIMEDOUT);
        assert_int_equal(yk_xfer_close(e, s), 0);
        assert_int_equal(reads(e, now, byte), 0);
        s = now;
    }
    yk_xfer_destroy(e);
    yk_xfer_destroy(t);
}

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/yk-revoke-XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int drop_dir(void **state) {
    (void)state;
    return rmdir(dir);
}

static int run(const char *what, uint32_t bits, const char *at) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_are_taken_and_refused), cmocka_unit_test(own_requests_end),
        cmocka_unit_test(names_that_are_none),         cmocka_unit_test(there_is_an_end_of_it),
        cmocka_unit_test(a_new_incarnation_has_new_keys),
    };
    transports = bits;
    listen_at = at;
    print_message("over %s\n", what);
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}

int main(void) {
    const char *devices = getenv("YOLK_RDMA_LISTEN");
    int failed = run("tcp", YK_XFER_TCP, "127.0.0.1:0");
    if (devices != NULL)
        failed += run("rdma", YK_XFER_RDMA, devices);
    return failed;
}
