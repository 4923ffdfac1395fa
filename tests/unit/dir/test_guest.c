/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest that asks one node and waits; the nodes are children, or bare sockets of a thread that says what it
 * is told.
 */
#include "dir/guest.h"
#include "peer_rig.h"

#include "base/clock.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_asks(void **state) {
    (void)state;
    struct yk_guest *g = NULL;
    struct yk_err err = {0};
    const void *body;
    uint32_t len;
    char address[64], *big = calloc(1, YK_PEER_GUEST_BODY_MAX + 1);
    pid_t pid = rig_fork(2, address);
    assert_int_equal(yk_guest_open(address, 10000, &g, &err), 0);
    assert_true(yk_guest_cluster(g) == CLUSTER);
    assert_int_equal(yk_guest_node(g).id, 2);
    assert_int_equal(yk_guest_node(g).incarnation, 1);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(yk_guest_ask(g, OP_ECHO, "hello", 5, 10000, &body, &len, &err), 0);
        assert_int_equal(len, 5);
        assert_memory_equal(body, "hello", 5);
    }
    assert_int_equal(yk_guest_ask(g, OP_ECHO, NULL, 0, 10000, &body, &len, &err), 0);
    assert_int_equal(len, 0);
    big[YK_PEER_GUEST_BODY_MAX - 1] = 'x';
    assert_int_equal(yk_guest_ask(g, OP_ECHO, big, YK_PEER_GUEST_BODY_MAX, 10000, &body, &len, &err), 0);
    assert_int_equal(len, YK_PEER_GUEST_BODY_MAX);
    assert_memory_equal(body, big, len);
    assert_int_equal(yk_guest_ask(g, OP_ECHO, big, YK_PEER_GUEST_BODY_MAX + 1, 10000, &body, &len, &err),
                     -YK_ETOOBIG);
    assert_int_equal(yk_guest_ask(g, 0, NULL, 0, 10000, &body, &len, &err), -YK_EINVAL);
    assert_int_equal(yk_guest_ask(g, 250, NULL, 0, 10000, &body, &len, &err), -YK_EINVAL);
    assert_int_equal(yk_guest_ask(g, OP_ECHO, "on", 2, 10000, &body, &len, &err), 0); /* it goes on */
    assert_int_equal(yk_guest_ask(g, OP_BAD, "x", 1, 10000, &body, &len, &err), -YK_EPROTO);
    assert_string_equal(err.text, "op 4 is not liked here");
    assert_int_equal(yk_guest_ask(g, OP_ECHO, "x", 1, 10000, &body, &len, &err), -YK_EGONE);
    yk_guest_close(g);
    yk_guest_close(NULL);
    rig_reap(pid);
    free(big);
}

static void test_deadlines(void **state) {
    (void)state;
    struct yk_guest *g = NULL, *never = NULL;
    struct yk_err err = {0};
    const void *body;
    uint32_t len;
    char address[64];
    pid_t pid = rig_fork(2, address);
    assert_int_equal(yk_guest_open(address, 10000, &g, &err), 0);
    assert_int_equal(yk_guest_ask(g, OP_HOLD, "x", 1, 50, &body, &len, &err), -YK_ETIMEDOUT);
    assert_int_equal(yk_guest_ask(g, OP_ECHO, "yy", 2, 10000, &body, &len, &err), 0);
    kill(pid, SIGSTOP);
    assert_int_equal(yk_guest_ask(g, OP_ECHO, "x", 1, 50, &body, &len, &err), -YK_ETIMEDOUT);
    assert_int_equal(yk_guest_open(address, 50, &never, &err), -YK_ETIMEDOUT);
    kill(pid, SIGCONT);
    /* What was asked before is answered late, and is not taken for the answer to this. */
    assert_int_equal(yk_guest_ask(g, OP_ECHO, "zzz", 3, 10000, &body, &len, &err), 0);
    assert_int_equal(len, 3);
    rig_reap(pid);
    assert_int_equal(yk_guest_ask(g, OP_ECHO, "x", 1, 10000, &body, &len, &err), -YK_EGONE);
    yk_guest_close(g);
    assert_int_equal(yk_guest_open(address, 10000, &g, &err), -YK_EGONE);
    assert_non_null(strstr(err.text, address));
}

static void test_addresses(void **state) {
    (void)state;
    struct yk_guest *g = NULL;
    struct yk_err err = {0};
    assert_int_equal(yk_guest_open("", 1000, &g, &err), -YK_EINVAL);
    assert_int_equal(yk_guest_open("unix:/tmp/x", 1000, &g, &err), -YK_EINVAL);
    assert_int_equal(yk_guest_open("127.0.0.1:0", 1000, &g, &err), -YK_EINVAL);
    assert_int_equal(yk_guest_open("no-such-host.invalid:77", 1000, &g, &err), -YK_ENOENT);
}

/* ---- what is no node ------------------------------------------------------------------------------ */

struct fake {
    int listener;
    const void *say;
    size_t len;
};

static void *fake_main(void *arg) {
    const struct fake *f = arg;
    struct pollfd p = {f->listener, POLLIN, 0};
    char hello[YK_PEER_HELLO_BYTES];
    if (poll(&p, 1, 20000) != 1)
        return NULL;
    int fd = accept(f->listener, NULL, NULL);
    if (fd < 0 || recv(fd, hello, sizeof(hello), MSG_WAITALL) != (ssize_t)sizeof(hello))
        return NULL;
    (void)!send(fd, f->say, f->len, MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static int open_fake(const void *say, size_t len, struct yk_err *err) {
    struct yk_guest *g = NULL;
    char address[64];
    pthread_t t;
    struct fake f = {raw_listen(address), say, len};
    assert_int_equal(pthread_create(&t, NULL, fake_main, &f), 0);
    int rc = yk_guest_open(address, 10000, &g, err);
    pthread_join(t, NULL);
    close(f.listener);
    if (rc == 0)
        yk_guest_close(g);
    return rc;
}

static void test_no_node(void **state) {
    (void)state;
    unsigned char b[YK_PEER_ERROR_BYTES];
    struct yk_err err = {0};
    struct yk_peer_hello newer = {9, 8, CLUSTER, {5, 1}, 0};
    assert_int_equal(open_fake("HTTP/1.1 400 Bad Request\r\n\r\n", 28, &err), -YK_EPROTO);
    assert_int_equal(open_fake("", 0, &err), -YK_EGONE);
    yk_peer_hello_encode(b, 1, &newer);
    assert_int_equal(open_fake(b, YK_PEER_HELLO_BYTES, &err), -YK_EVERSION);
    assert_non_null(strstr(err.text, "member 0 speaks versions 1 to 1"));
    assert_non_null(strstr(err.text, "member 5 versions 8 to 9"));
    for (size_t cut = 1; cut < YK_PEER_HELLO_BYTES; cut += 5)
        assert_int_equal(open_fake(b, cut, &err), -YK_EGONE);
    size_t len = yk_peer_error_encode(b, -YK_ELIMIT, "full\x1b[2J");
    assert_int_equal(open_fake(b, len, &err), -YK_ELIMIT);
    assert_string_equal(err.text, "full?[2J"); /* nothing of a stranger's reaches a terminal as it is */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asks),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_no_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
