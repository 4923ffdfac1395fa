/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles with several nodes to go to: which one, what happens when it dies, and the way back. Nodes are processes
 * of their own, forked while this one has no other thread; they are in no cluster, so what one has the other has not.
 */
#include "fixture.h"

#include "base/clock.h"
#include "client/route.h"

#include <signal.h>
#include <stdio.h>

#define TIMEOUT_MS 20000u
#define SMALL      30000u

struct two {
    struct fixture a, b;
    char url[300];
};

static int two_nodes(void **state) {
    struct two *t = calloc(1, sizeof(*t));
    fixture_init(&t->a, 1);
    fixture_init(&t->b, 1);
    fixture_fork(&t->a);
    fixture_fork(&t->b);
    snprintf(t->url, sizeof(t->url), "%s,%s", t->a.url, t->b.url);
    *state = t;
    return 0;
}

static int no_nodes(void **state) {
    struct two *t = *state;
    fixture_fini(&t->a);
    fixture_fini(&t->b);
    free(t);
    return 0;
}

static yk_client *open_both(const struct two *t, uint32_t flags) {
    yk_open_opts o = {.size = sizeof(o), .flags = flags, .timeout_ms = TIMEOUT_MS};
    yk_client *c = NULL;
    assert_status(yk_open(t->url, &o, &c), 0);
    return c;
}

/* Calls until the handle is with the node that has this block. */
static void wait_for_block(yk_client *c, const char *key) {
    uint64_t until = yk_now_ns() + TIMEOUT_MS * YK_NS_PER_MS;
    while (yk_exists(c, yk_key_str(key)) != 1) {
        char *text = NULL;
        assert_true(yk_now_ns() < until);
        assert_status(yk_stats_json(c, &text), 0); /* a message: who asks nothing of its node stays with it */
        free(text);
    }
}

/* With the first node, which a handle that opens while that one is slow to answer is not. */
static yk_client *open_at_a(struct two *t, uint32_t flags) {
    yk_client *own = open_with(&t->a, YK_OPEN_NO_MAP, TIMEOUT_MS), *c = open_both(t, flags);
    put_ok(own, "here", SMALL, 7);
    yk_close(own);
    wait_for_block(c, "here");
    return c;
}

static void clients_of(struct fixture *f, uint64_t want) {
    yk_client *c = open_with(f, YK_OPEN_NO_MAP, TIMEOUT_MS);
    char *text = NULL, part[40];
    snprintf(part, sizeof(part), "\"clients\":%llu,", (unsigned long long)want);
    assert_status(yk_stats_json(c, &text), 0);
    if (strstr(text, part) == NULL)
        print_error("expected %s in %s\n", part, text);
    assert_non_null(strstr(text, part));
    free(text);
    yk_close(c);
}

/* What a node has reserved, for whomever. */
static uint64_t reserved_at(struct fixture *f) {
    static const char name[] = "\"reserved_blocks\":";
    yk_client *c = open_with(f, YK_OPEN_NO_MAP, TIMEOUT_MS);
    char *text = NULL;
    assert_status(yk_stats_json(c, &text), 0);
    const char *at = strstr(text, name);
    assert_non_null(at);
    uint64_t n = strtoull(at + strlen(name), NULL, 10);
    free(text);
    yk_close(c);
    return n;
}

static void the_first_that_answers_is_taken(void **state) {
    struct two *t = *state;
    yk_client *c = open_at_a(t, 0);
    put_ok(c, "at a", SMALL, 1);
    yk_close(c);
    c = open_client(&t->b);
    assert_status(get_is(c, "at a", SMALL, 1), YK_MISS);
    yk_close(c);
    fixture_kill(&t->a, SIGKILL);
    c = open_both(t, 0);
    assert_status(get_is(c, "at a", SMALL, 1), YK_MISS);
    put_ok(c, "at b", SMALL, 2);
    yk_close(c);
}

static void calls_go_on_with_the_other_node(void **state) {
    static const uint32_t flags[] = {0, YK_OPEN_NO_MAP};
    struct two *t = *state;
    for (int i = 0; i < 2; i++) {
        yk_client *c = open_at_a(t, flags[i]);
        uint64_t reconnects = STAT(c, reconnects);
        char data[SMALL];
        struct iovec iov = {data, sizeof(data)};
        yk_op op = {.opcode = YK_OP_PUT, .key = yk_key_str("under way"), .iov = &iov, .iov_count = 1}, *out;
        put_ok(c, "first", SMALL, 1);
        fill(data, sizeof(data), 9);
        fixture_kill(&t->a, SIGKILL);
        assert_status(yk_submit(c, &op, 1, TIMEOUT_MS), 0); /* its place may be the dead node's */
        assert_int_equal(yk_poll(c, &out, 1, TIMEOUT_MS), 1);
        assert_status(op.status, 0);
        assert_status(get_is(c, "under way", sizeof(data), 9), 0);
        put_ok(c, "second", SMALL, 2);
        assert_status(get_is(c, "second", SMALL, 2), 0);
        assert_int_equal(STAT(c, reconnects), reconnects + 1);
        assert_status(yk_remove(c, yk_key_str("under way")), 0);
        assert_status(yk_remove(c, yk_key_str("second")), 0);
        yk_close(c);
        fixture_fork(&t->a);
    }
}

/* And back: with the client slot that it had, whose hazards are still set. */
static void the_nearer_node_is_taken_again(void **state) {
    struct two *t = *state;
    yk_client *c = open_at_a(t, 0);
    char key[16];
    yk_ref ref;
    put_ok(c, "at a", SMALL, 1);
    assert_status(yk_ref_get(c, yk_key_str("at a"), &ref), 0);
    for (int turn = 0; turn < 3; turn++) {
        fixture_kill(&t->a, SIGKILL);
        snprintf(key, sizeof(key), "at b %d", turn);
        put_ok(c, key, SMALL, 2);
        assert_true(is_filled(ref.data, ref.len, 1));
        fixture_fork(&t->a);
        wait_for_block(c, "at a");
        assert_status(get_is(c, key, SMALL, 2), YK_MISS); /* it is with the first node, and with it alone */
        assert_status(get_is(c, "at a", SMALL, 1), 0);
    }
    clients_of(&t->a, 2); /* the node's own, and this handle's one */
    assert_int_equal(STAT(c, refs_held), 1);
    /* All that is put from here on needs the room of what was there; what is referred to stays. */
    assert_status(yk_remove(c, yk_key_str("at a")), 0);
    for (int i = 0; i < 200; i++) {
        yk_ref other;
        snprintf(key, sizeof(key), "k%d", i);
        put_ok(c, key, MIB, (uint64_t)i);
        if (yk_ref_get(c, yk_key_str(key), &other) == 0) /* another hazard slot than the first one's */
            yk_ref_release(c, &other);
    }
    assert_true(is_filled(ref.data, ref.len, 1));
    yk_ref_release(c, &ref);
    assert_int_equal(STAT(c, refs_held), 0);
    yk_close(c);
}

/* A handle that goes, and comes back while it refers to a block there, has forgotten the places that it held: so does
 * the node. Those of the caller stay his. */
static void places_of_a_node_that_was_left_are_free_again(void **state) {
    struct two *t = *state;
    yk_client *c = open_at_a(t, 0);
    yk_reservation r;
    char key[16];
    yk_ref ref;
    put_ok(c, "at a", SMALL, 1);
    assert_status(yk_ref_get(c, yk_key_str("at a"), &ref), 0);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 4; i++) { /* enough for places to be held ahead */
            snprintf(key, sizeof(key), "a %d %d", turn, i);
            put_ok(c, key, SMALL, 3);
        }
        assert_true(reserved_at(&t->a) > 0);
        fixture_kill(&t->a, SIGKILL);
        snprintf(key, sizeof(key), "at b %d", turn);
        put_ok(c, key, SMALL, 2);
        fixture_fork(&t->a);
        wait_for_block(c, "at a");
        assert_int_equal(reserved_at(&t->a), 0);
    }
    assert_status(yk_reserve(c, SMALL, 0, &r), 0);
    fixture_kill(&t->a, SIGKILL);
    put_ok(c, "at b", SMALL, 2);
    fixture_fork(&t->a);
    wait_for_block(c, "at a");
    assert_true(reserved_at(&t->a) > 0);
    memset(r.data, 1, r.len);
    (void)yk_abort(c, &r);
    assert_true(is_filled(ref.data, ref.len, 1));
    yk_ref_release(c, &ref);
    yk_close(c);
    assert_int_equal(reserved_at(&t->a), 0);
}

static void a_hung_node_is_passed_by(void **state) {
    struct two *t = *state;
    fixture_kill(&t->a, SIGSTOP);
    yk_client *c = open_both(t, YK_OPEN_NO_MAP); /* so that each call asks, and drives the look at the first */
    put_ok(c, "at b", SMALL, 2);
    fixture_kill(&t->a, SIGCONT);
    uint64_t until = yk_now_ns() + TIMEOUT_MS * YK_NS_PER_MS;
    while (STAT(c, reconnects) == 0) {
        assert_true(yk_now_ns() < until);
        (void)yk_exists(c, yk_key_str("nothing"));
    }
    assert_status(get_is(c, "at b", SMALL, 2), YK_MISS);
    yk_close(c);
}

/* What lay before a node that stood still is not begun when that goes on: its caller has gone on, too. */
static void a_remove_that_is_late_is_not_begun(void **state) {
    struct two *t = *state;
    for (int many = 0; many < 2; many++) {
        yk_open_opts o = {.size = sizeof(o), .timeout_ms = 200};
        yk_client *c = NULL, *other = open_client(&t->a);
        yk_op op = {.opcode = YK_OP_REMOVE, .key = yk_key_str("kept")}, *out;
        char *text = NULL;
        uint64_t until = yk_now_ns() + TIMEOUT_MS * YK_NS_PER_MS;
        while (yk_open(t->a.url, &o, &c) != 0) /* its time is short */
            assert_true(yk_now_ns() < until);
        put_ok(other, "kept", SMALL, 1);
        fixture_kill(&t->a, SIGSTOP);
        if (many) {
            assert_status(yk_submit(c, &op, 1, 200), 0);
            assert_int_equal(yk_poll(c, &out, 1, TIMEOUT_MS), 1);
            assert_status(op.status, -YK_ETIMEDOUT);
        } else {
            assert_status(yk_remove(c, yk_key_str("kept")), -YK_ETIMEDOUT);
        }
        uint64_t over = yk_boot_ms() + 2; /* clocks of a millisecond */
        while (yk_boot_ms() < over)
            ;
        fixture_kill(&t->a, SIGCONT);
        for (int i = 0; i < 2; i++) { /* the node has read what was there before */
            assert_status(yk_stats_json(other, &text), 0);
            free(text);
        }
        while (yk_stats_json(c, &text) != 0)
            ;
        free(text);
        assert_status(get_is(other, "kept", SMALL, 1), 0);
        yk_close(c);
        yk_close(other);
    }
}

static void without_any_node_the_deadline_is_kept(void **state) {
    struct two *t = *state;
    yk_client *c = open_both(t, YK_OPEN_NO_MAP);
    yk_open_opts o = {.size = sizeof(o), .timeout_ms = 300};
    char data[] = "x";
    struct iovec iov = {data, 1};
    yk_op op = {.opcode = YK_OP_PUT, .key = yk_key_str("x"), .iov = &iov, .iov_count = 1};
    yk_client *none = NULL;
    fixture_kill(&t->a, SIGKILL);
    fixture_kill(&t->b, SIGKILL);
    assert_int_equal(yk_run(c, &op, 1, 300), 0);
    assert_status(op.status, -YK_EGONE);
    assert_status(yk_open(t->url, &o, &none), -YK_EGONE);
    assert_null(none);
    fixture_fork(&t->b);
    assert_int_equal(yk_run(c, &op, 1, 0), 1);
    yk_close(c);
}

/* ---- lists, and what etcd says ------------------------------------------------------------------- */

static void urls_are_read(void **state) {
    static const char *const bad[] = {"", "unix:/a,tcp:nowhere", "http://x", "tcp:h:1,unix:"};
    struct yk_route r;
    struct yk_err err;
    (void)state;
    yk_route_init(&r, 1);
    assert_int_equal(yk_route_read(&r, "unix:/a,b,tcp:h:1,unix:/c", 0, &err), 0);
    assert_int_equal(r.count, 3);
    assert_string_equal(r.ends[0].addr.host, "/a,b");
    assert_string_equal(r.ends[1].addr.host, "h");
    assert_string_equal(r.ends[2].addr.host, "/c");
    yk_route_fini(&r);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        yk_route_init(&r, 1);
        assert_int_equal(yk_route_read(&r, bad[i], 0, &err), -YK_EINVAL);
        assert_true(err.text[0] != 0);
        yk_route_fini(&r);
    }
}

static const char text[] = "h1\tz1\tunix:/run/one\ttcp:10.0.0.1:7777\n"
                           "h2\tz1\tunix:/run/two\ttcp:10.0.0.2:7777\n"
                           "h3\tz2\t-\ttcp:10.0.0.3:7777\n"
                           "h4\tz2\tunix:/run/four\ttcp:127.0.0.1:7777\n"
                           "h5\tz1\t-\t-\n"
                           "broken\n"
                           "h6\tz1\tunix:/run/six\tunix:/run/six\n";

static void near_nodes_come_first(void **state) {
    struct yk_found_end e[8];
    uint64_t seed = 7;
    int first[2] = {0, 0};
    (void)state;
    assert_int_equal(yk_found_read(text, "h2", "z1", &seed, e, 8), 4);
    assert_string_equal(e[0].addr.host, "/run/two");
    assert_true(e[0].rank < e[1].rank && e[1].rank == e[2].rank && e[2].rank < e[3].rank);
    assert_string_equal(e[3].addr.host, "10.0.0.3");
    /* A loopback address is its host's own. */
    assert_int_equal(yk_found_read(text, "h4", "", &seed, e, 8), 5);
    assert_string_equal(e[0].addr.host, "/run/four");
    assert_string_equal(e[1].addr.host, "127.0.0.1");
    /* Equals come in any order, and the nearest stay where there is no room for all. */
    for (int i = 0; i < 64; i++) {
        assert_int_equal(yk_found_read(text, "", "z1", &seed, e, 2), 2);
        assert_int_equal(e[0].rank, e[1].rank);
        first[strcmp(e[0].addr.host, "10.0.0.1") == 0]++;
    }
    assert_true(first[0] > 0 && first[1] > 0);
    assert_int_equal(yk_found_read("", "h", "z", &seed, e, 8), 0);
}

static const char *found_text;
static int found_calls;

static int find_stub(const char *url, uint32_t timeout_ms, char *ret, size_t size, char *err, size_t err_size) {
    (void)timeout_ms;
    found_calls++;
    assert_string_equal(url, "etcd://e:2379/c");
    if (found_text == NULL) {
        snprintf(err, err_size, "no etcd");
        return -YK_EGONE;
    }
    snprintf(ret, size, "%s", found_text);
    return 0;
}

/* Ends that fail are asked for anew, and keep what is known of them. */
static void etcd_is_asked_again_when_all_ends_fail(void **state) {
    struct yk_route r;
    struct yk_err err;
    uint64_t now = yk_now_ns(), later = now + 3600 * YK_NS_PER_S;
    (void)state;
    yk_client_find = find_stub;
    yk_route_init(&r, 1);
    found_text = "h\tz\t-\ttcp:10.0.0.1:1\n";
    assert_int_equal(yk_route_read(&r, "etcd://e:2379/c", later, &err), 0);
    assert_int_equal(r.count, 1);
    r.ends[0].cookie = 77;
    yk_route_refresh(&r, later); /* one may be tried: nothing is asked */
    assert_int_equal(found_calls, 1);
    yk_route_failed(&r, 0, 0, later);
    found_text = "h\tz\t-\ttcp:10.0.0.2:1\nh\tz\t-\ttcp:10.0.0.1:1\n";
    yk_route_refresh(&r, later);
    assert_int_equal(found_calls, 2);
    assert_int_equal(r.count, 2);
    int old = strcmp(r.ends[0].addr.host, "10.0.0.1") != 0;
    assert_int_equal(r.ends[old].cookie, 77);
    assert_int_equal(yk_route_next(&r, now), !old);
    yk_route_failed(&r, (uint32_t)!old, 0, later);
    yk_route_refresh(&r, later); /* it was just asked */
    assert_int_equal(found_calls, 2);
    yk_route_fini(&r);
    found_text = NULL;
    yk_route_init(&r, 1);
    assert_int_equal(yk_route_read(&r, "etcd://e:2379/c", later, &err), -YK_EGONE);
    yk_route_fini(&r);
    yk_client_find = NULL;
}

/* A nearer end that answers looks and takes no connection is looked at less and less often. */
static void an_end_that_only_answers_looks_is_left_alone(void **state) {
    struct yk_route r;
    struct yk_err err;
    uint64_t now = yk_now_ns(), wait = 0;
    (void)state;
    yk_route_init(&r, 1);
    assert_int_equal(yk_route_read(&r, "tcp:10.0.0.1:1,tcp:10.0.0.2:1", now, &err), 0);
    for (int turn = 0; turn < 12; turn++) {
        yk_route_failed(&r, 0, 0, now);
        yk_route_up(&r, 1, 1, now);
        wait = r.probe_at_ns - now;
        assert_true(wait <= (turn < 7 ? YK_NS_PER_S << turn : 64 * YK_NS_PER_S));
        assert_true(wait >= (turn < 7 ? YK_NS_PER_S << turn : 64 * YK_NS_PER_S) / 2);
        r.ends[0].looked = 1; /* as yk_route_tend does when it has answered */
    }
    yk_route_up(&r, 0, 1, now); /* it takes this node again: all is forgotten */
    for (int turn = 0; turn < 12; turn++) { /* one that does not answer looks costs nothing */
        yk_route_failed(&r, 0, 0, now);
        yk_route_up(&r, 1, 1, now);
        assert_true(r.probe_at_ns - now <= YK_NS_PER_S);
    }
    yk_route_fini(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_read),
        cmocka_unit_test(near_nodes_come_first),
        cmocka_unit_test(etcd_is_asked_again_when_all_ends_fail),
        cmocka_unit_test(an_end_that_only_answers_looks_is_left_alone),
        cmocka_unit_test_setup_teardown(the_first_that_answers_is_taken, two_nodes, no_nodes),
        cmocka_unit_test_setup_teardown(calls_go_on_with_the_other_node, two_nodes, no_nodes),
        cmocka_unit_test_setup_teardown(the_nearer_node_is_taken_again, two_nodes, no_nodes),
        cmocka_unit_test_setup_teardown(places_of_a_node_that_was_left_are_free_again, two_nodes, no_nodes),
        cmocka_unit_test_setup_teardown(a_hung_node_is_passed_by, two_nodes, no_nodes),
        cmocka_unit_test_setup_teardown(a_remove_that_is_late_is_not_begun, two_nodes, no_nodes),
        cmocka_unit_test_setup_teardown(without_any_node_the_deadline_is_kept, two_nodes, no_nodes),
    };
    return cmocka_run_group_tests_name("client_route", tests, NULL, NULL);
}
