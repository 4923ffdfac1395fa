/* SPDX-License-Identifier: Apache-2.0
 *
 * The small Redis client against replies as they come: whole, in pieces, of the wrong kind, cut off.
 */
#include "bench/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <yolk/status.h>

static struct yk_resp conn;
static int peer;

static int setup(void **state) {
    (void)state;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    conn = (struct yk_resp){.fd = sv[0]};
    peer = sv[1];
    return 0;
}

static int teardown(void **state) {
    (void)state;
    yk_resp_close(&conn);
    if (peer >= 0)
        close(peer);
    return 0;
}

static void says(const char *text) {
    assert_int_equal(send(peer, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void replies_of_all_kinds(void **state) {
    (void)state;
    char buf[8];
    int64_t n;
    says("+OK\r\n:42\r\n$5\r\nhello\r\n$0\r\n\r\n$-1\r\n:-7\r\n");
    assert_int_equal(yk_resp_reply(&conn, NULL, 0, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(yk_resp_reply(&conn, NULL, 0, &n), 0);
    assert_int_equal(n, 42);
    assert_int_equal(yk_resp_reply(&conn, buf, sizeof(buf), &n), 0);
    assert_int_equal(n, 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(yk_resp_reply(&conn, buf, sizeof(buf), &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(yk_resp_reply(&conn, buf, sizeof(buf), &n), 0);
    assert_int_equal(n, YK_RESP_NIL);
    assert_int_equal(yk_resp_reply(&conn, buf, sizeof(buf), &n), 0);
    assert_int_equal(n, -7);
}

static void large_values_come_whole(void **state) {
    (void)state;
    enum { LEN = 100000 };
    char *sent = malloc(LEN), *got = calloc(1, LEN), head[32];
    int64_t n;
    for (int i = 0; i < LEN; i++)
        sent[i] = (char)(i * 7 + i / 256);
    snprintf(head, sizeof(head), "$%d\r\n", LEN);
    says(head);
    assert_int_equal(send(peer, sent, LEN, 0), LEN);
    says("\r\n:1\r\n");
    assert_int_equal(yk_resp_reply(&conn, got, LEN, &n), 0);
    assert_int_equal(n, LEN);
    assert_memory_equal(got, sent, LEN);
    assert_int_equal(yk_resp_reply(&conn, NULL, 0, &n), 0);
    assert_int_equal(n, 1);
    free(sent);
    free(got);
}

static void other_replies_are_errors(void **state) {
    (void)state;
    char buf[4];
    int64_t n;
    says("-ERR no\r\n$9\r\n");
    assert_int_equal(yk_resp_reply(&conn, buf, sizeof(buf), &n), -YK_EPROTO);
    assert_int_equal(yk_resp_reply(&conn, buf, sizeof(buf), &n), -YK_EPROTO); /* longer than buf */
    says("$3\r\nab");
    close(peer);
    peer = -1;
    assert_int_equal(yk_resp_reply(&conn, buf, sizeof(buf), &n), -YK_EGONE);
}

static void commands_are_length_prefixed(void **state) {
    (void)state;
    char text[100] = {0};
    const char *words[] = {"SET", "a\r\nb"};
    const size_t lens[] = {3, 4};
    size_t n = yk_resp_command(text, words, lens, 2, 10);
    assert_int_equal(n, strlen(text));
    assert_string_equal(text, "*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$10\r\n");
    memset(text, 0, sizeof(text));
    yk_resp_command(text, words, lens, 1, SIZE_MAX);
    assert_string_equal(text, "*1\r\n$3\r\nSET\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replies_of_all_kinds, setup, teardown),
        cmocka_unit_test_setup_teardown(large_values_come_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(other_replies_are_errors, setup, teardown),
        cmocka_unit_test(commands_are_length_prefixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
