/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies that are lost with their connection. The node made what it was asked for, the client never
 * hears of it, comes back and asks again.
 *
 * The client's recv and connect pass through this file: a reply is lost by reading it and reporting the end
 * of the stream, and the node stays away by refusing connections. Only in the thread that asks for it, so
 * that the node in this process is not touched.
 */
#include "fixture.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local int lose; /* so many replies */
static _Thread_local int away; /* no connection can be made */

ssize_t recv(int fd, void *buf, size_t len, int flags) {
    ssize_t n = syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
    if (n <= 0 || lose == 0)
        return n;
    lose--;
    return 0;
}

int connect(int fd, const struct sockaddr *to, socklen_t len) {
    if (!away)
        return (int)syscall(SYS_connect, fd, to, len);
    errno = ECONNREFUSED;
    return -1;
}

static struct yk_counters counters(const struct fixture *f) {
    struct yk_node_stats st;
    yk_node_stats(f->node, &st);
    return st.store;
}

static void places_that_never_arrived_are_nobodys(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    yk_reservation r[10];
    for (int i = 0; i < 10; i++) {
        lose = 1;
        assert_status(yk_reserve(c, 50000 + (size_t)i, 0, &r[i]), 0);
        assert_int_equal(lose, 0);
    }
    assert_int_equal(STAT(c, reconnects), 10);
    assert_int_equal(counters(f).reserved_blocks, 10); /* those that did arrive, and no more */
    for (int i = 0; i < 10; i++) {
        char key[2] = {(char)('a' + i), 0};
        fill(r[i].data, r[i].len, (uint64_t)i);
        assert_status(yk_commit(c, &r[i], yk_key_str(key), NULL), 0);
        assert_status(get_is(c, key, 50000 + (size_t)i, (uint64_t)i), 0);
    }
    assert_int_equal(counters(f).reserved_blocks, 0);
    yk_close(c);
}

static void places_that_came_with_a_lost_commit_are_nobodys(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    for (int i = 0; i < 40; i++) {
        char key[3] = {(char)('a' + i / 10), (char)('0' + i % 10), 0};
        lose = i % 3 == 2;
        put_ok(c, key, 100000, (uint64_t)i);
        assert_status(get_is(c, key, 100000, (uint64_t)i), 0);
        lose = 0;
    }
    assert_true(STAT(c, reconnects) > 0);
    assert_true(counters(f).reserved_blocks <= 8); /* what one length is held for at first */
    yk_close(c);
}

/* The put ends without an answer, its commit was made: its place is a block's now, and not for the next put. */
static void a_put_that_ended_while_its_node_was_away(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    char data[5000];
    yk_put_opts soon = {.size = sizeof(soon), .timeout_ms = 50};
    for (uint64_t i = 0; i < 4; i++) /* places of this length are held ahead */
        put_ok(c, (char[2]){(char)('0' + i), 0}, sizeof(data), i);
    for (uint64_t i = 0, seen = 0; seen < 3; i++) {
        char lost[3] = {'l', (char)('0' + i), 0}, next[3] = {'n', (char)('0' + i), 0};
        assert_true(i < 10);
        fill(data, sizeof(data), 10 + i);
        lose = away = 1;
        int rc = yk_put(c, yk_key_str(lost), data, sizeof(data), &soon);
        assert_true(rc == -YK_EGONE || rc == -YK_ETIMEDOUT);
        int unheard = lose == 0; /* else the node had not answered in time: its commit may be made or not */
        lose = away = 0;
        put_ok(c, next, sizeof(data), 20 + i);
        rc = get_is(c, lost, sizeof(data), 10 + i);
        assert_true(rc == 0 || (!unheard && rc == YK_MISS));
        assert_status(get_is(c, next, sizeof(data), 20 + i), 0);
        seen += (unsigned)unheard;
        soon.timeout_ms *= unheard ? 1 : 2;
    }
    yk_close(c);
    assert_int_equal(counters(f).reserved_blocks, 0);
}

static void an_epoch_whose_raise_was_not_heard_of(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    put_ok(c, "old", 1000, 1);
    lose = 1;
    assert_status(yk_ns_raise_epoch(c, "default", 7), 0);
    assert_int_equal(lose, 0);
    assert_status(get_is(c, "old", 1000, 1), YK_MISS);
    put_ok(c, "new", 1000, 2);
    assert_status(get_is(c, "new", 1000, 2), 0);
    yk_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(places_that_never_arrived_are_nobodys, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(places_that_came_with_a_lost_commit_are_nobodys, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_put_that_ended_while_its_node_was_away, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(an_epoch_whose_raise_was_not_heard_of, with_node,
                                        without_node),
    };
    return cmocka_run_group_tests_name("client_lost", tests, NULL, NULL);
}
