/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies that are lost with their connection, or come late. The node made what it was asked for, the client never
 * hears of it, comes back and asks again.
 *
 * The client's recv and connect pass through this file: a reply is lost by reading it and reporting the end
 * of the stream, and the node stays away by refusing connections. Only in the thread that asks for it, so
 * that the node in this process is not touched.
 */
#include "fixture.h"

#include "client/client_priv.h"
#include "wire/msg.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Thread_local int lose; /* so many replies */
static _Thread_local int cut_payload; /* of a get, behind what came with its head */
static _Thread_local int deaf; /* so many answers to hello come, and are not read */
static _Thread_local void (*before_connect)(void); /* called once */
static _Thread_local int away; /* no connection can be made */
static _Thread_local int again; /* so many commits are answered with "again", when their time is over */

#define SOON_MS 500u
#define PLACE   30000u

/* Done by the thread that calls, before it takes a lock for the n-th time. Not for the thread sanitizer, which has to
 * see the locks. */
#if !defined(__SANITIZE_THREAD__)
struct between {
    struct fixture *first;
    yk_client *client;
    int locks;
};
static _Thread_local struct between *before_lock;
static void to_the_second(struct between *b);

int pthread_mutex_lock(pthread_mutex_t *lock) {
    static void *next;
    struct between *b = before_lock;
    void *real = __atomic_load_n(&next, __ATOMIC_RELAXED);
    if (real == NULL) {
        real = dlsym(RTLD_NEXT, "pthread_mutex_lock");
        __atomic_store_n(&next, real, __ATOMIC_RELAXED);
    }
    if (b != NULL && --b->locks == 0) {
        before_lock = NULL;
        to_the_second(b);
    }
    return ((int (*)(pthread_mutex_t *))real)(lock);
}
#endif

/* Turns the answer to a commit (a count, the statuses) into "again". */
static int is_made_again(void *buf, ssize_t n) {
    struct timespec soon = {SOON_MS / 1000u, SOON_MS % 1000u * 1000000};
    struct yk_frame f;
    struct yk_wr w;
    if (n < (ssize_t)YK_FRAME_HDR + 8 || yk_frame_decode(buf, MIB, &f, NULL) < 0 || f.op != YK_MSG_COMMIT)
        return 0;
    yk_wr_init(&w, (char *)buf + YK_FRAME_HDR + 4, 4);
    yk_wr_u32(&w, (uint32_t)-YK_EAGAIN);
    while (nanosleep(&soon, &soon) < 0)
        ;
    return 1;
}

ssize_t recv(int fd, void *buf, size_t len, int flags) {
    ssize_t n = syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
    if (again > 0 && n > 0)
        again -= is_made_again(buf, n);
    if (n <= 0 || lose == 0)
        return n;
    lose--;
    return 0;
}

static int is_there(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 60000) == 1 && (p.revents & POLLIN) != 0;
}

/* Payload and the answer to hello come by this one. */
ssize_t recvmsg(int fd, struct msghdr *msg, int flags) {
    if (deaf > 0) {
        deaf -= is_there(fd);
        return 0;
    }
    ssize_t n = syscall(SYS_recvmsg, fd, msg, flags);
    if (n <= 0 || !cut_payload)
        return n;
    cut_payload = 0;
    return 0;
}

int connect(int fd, const struct sockaddr *to, socklen_t len) {
    void (*before)(void) = before_connect;
    before_connect = NULL;
    if (before != NULL)
        before();
    if (!away)
        return (int)syscall(SYS_connect, fd, to, len);
    errno = ECONNREFUSED;
    return -1;
}

#if !defined(__SANITIZE_THREAD__)
static uint64_t commits_asked(const struct fixture *f) {
    struct yk_node_stats st;
    yk_node_stats(f->node, &st);
    return st.requests[YK_MSG_COMMIT];
}
#endif

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

/* The node has made a commit and cannot say that it lasts: it says "again", when the put's time is over. The place is
 * a block's, as if nothing had been said. */
static void a_put_that_was_told_to_come_again_and_had_no_time(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    char data[5000];
    yk_put_opts soon = {.size = sizeof(soon), .timeout_ms = SOON_MS};
    for (uint64_t i = 0; i < 4; i++) /* places of this length are held ahead */
        put_ok(c, (char[2]){(char)('0' + i), 0}, sizeof(data), i);
    for (uint64_t i = 0; i < 2; i++) {
        char late[3] = {'l', (char)('0' + i), 0}, next[3] = {'n', (char)('0' + i), 0};
        fill(data, sizeof(data), 10 + i);
        again = 1;
        assert_status(yk_put(c, yk_key_str(late), data, sizeof(data), &soon), -YK_ETIMEDOUT);
        assert_int_equal(again, 0);
        put_ok(c, next, sizeof(data), 20 + i);
        assert_status(get_is(c, late, sizeof(data), 10 + i), 0);
        assert_status(get_is(c, next, sizeof(data), 20 + i), 0);
    }
    yk_close(c);
    assert_int_equal(counters(f).reserved_blocks, 0);
}

/* Its namespace was removed meanwhile and is made anew, under another number: what the handle refers to stays. */
static void a_reference_into_a_namespace_that_is_made_anew(void **state) {
    struct fixture *f = *state;
    yk_open_opts o = {.size = sizeof(o), .name_space = "team"};
    yk_client *c = NULL, *other = open_client(f);
    yk_ref kept, next;
    char key[16];
    assert_status(yk_open(f->url, &o, &c), 0);
    put_ok(c, "kept", 5000, 1);
    assert_status(yk_ref_get(c, yk_key_str("kept"), &kept), 0);
    assert_status(yk_ns_remove(other, "team"), 0);
    lose = 1;
    put_ok(c, "next", 5000, 2);
    assert_int_equal(lose, 0);
    assert_status(get_is(c, "kept", 5000, 1), YK_MISS);
    assert_int_equal(STAT(c, refs_held), 1);
    assert_status(yk_ref_get(c, yk_key_str("next"), &next), 0);
    assert_int_equal(STAT(c, refs_held), 2);
    yk_ref_release(c, &next);
    for (uint64_t i = 0; i < 200; i++) { /* more than there is room for */
        snprintf(key, sizeof(key), "k%u", (unsigned)i);
        put_ok(c, key, MIB, 10 + i);
        assert_true(is_filled(kept.data, kept.len, 1));
    }
    yk_ref_release(c, &kept);
    yk_close(c);
    yk_close(other);
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

static int with_few_slots(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    fixture_init(f, 0);
    f->max_clients = 4;
    fixture_start(f);
    *state = f;
    return 0;
}

/* Who gives up on its hello when the answer is there already, and nobody has read it, has a slot: it says bye. Else a
 * process that tries again and again takes all of them, for as long as it lives. */
static void an_answer_to_hello_that_nobody_hears(void **state) {
    struct fixture *f = *state;
    yk_client *c = NULL;
    yk_open_opts final = {.size = sizeof(final), .flags = YK_OPEN_NO_RECONNECT};
    for (int i = 0; i < 8; i++) {
        deaf = 1;
        assert_int_not_equal(yk_open(f->url, &final, &c), 0);
        assert_int_equal(deaf, 0);
        int rc;
        for (unsigned ms = 0; (rc = yk_open(f->url, NULL, &c)) == -YK_ELIMIT && ms < 60000; ms += 5)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* the node has yet to read it */
        assert_status(rc, 0);
        put_ok(c, "key", 5000, (uint64_t)i);
        assert_status(yk_remove(c, yk_key_str("key")), 0);
        yk_close(c);
    }
    assert_int_equal(counters(f).reserved_blocks, 0);
}

/* Places of that length that were asked for and not answered. */
static uint32_t coming(const yk_client *c, uint64_t len) {
    for (uint32_t i = 0; i < YK_HOLD_LENGTHS; i++)
        if (c->hold.lengths[i].len == len)
            return c->hold.lengths[i].coming;
    return UINT32_MAX;
}

/* The connection breaks, and no other can be made. */
static void cut_off(yk_client *c) {
    lose = away = 1;
    for (uint32_t ms = 50; lose != 0; ms *= 2) { /* until the answer was there to be lost */
        yk_op op = {.opcode = YK_OP_EXPIRE, .key = yk_key_str("k0")};
        assert_true(ms < 60000);
        (void)yk_run(c, &op, 1, ms);
    }
}

/* Of a commit that was never sent nobody answers the wish for places that it had: it is taken back. Else the handle would
 * wait for them for ever, and ask for none of this length any more. So with one that was sent, lost, and not sent again. */
static void a_commit_that_is_not_sent_wishes_for_nothing(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    yk_reservation r[10];
    yk_put_opts soon = {.size = sizeof(soon), .timeout_ms = 50};
    for (uint32_t i = 0; i < 10; i++) { /* more than are held ahead at first: some are to be asked for */
        assert_status(yk_reserve(c, PLACE, 0, &r[i]), 0);
        fill(r[i].data, PLACE, i);
    }
    cut_off(c);
    assert_status(yk_commit(c, &r[0], yk_key_str("k0"), &soon), -YK_ETIMEDOUT);
    assert_int_equal(coming(c, PLACE), 0);
    away = 0;
    assert_status(yk_commit(c, &r[0], yk_key_str("k0"), NULL), 0);
    assert_int_equal(coming(c, PLACE), 0);
    lose = away = 1;
    int rc = yk_commit(c, &r[1], yk_key_str("k1"), &soon);
    lose = away = 0;
    if (rc != 0) /* as a rule */
        assert_status(yk_commit(c, &r[1], yk_key_str("k1"), NULL), 0);
    lose = 1;
    assert_status(yk_commit(c, &r[2], yk_key_str("k2"), NULL), 0); /* sent twice */
    lose = 0;
    for (uint32_t i = 3; i < 10; i++)
        assert_status(yk_commit(c, &r[i], yk_key_str((char[3]){'k', (char)('0' + i), 0}), NULL), 0);
    assert_int_equal(coming(c, PLACE), 0);
    assert_true(yk_hold_bytes(&c->hold) > 0);
    assert_int_equal(c->hold.bytes, yk_hold_bytes(&c->hold));
    for (uint32_t i = 0; i < 10; i++)
        assert_status(get_is(c, (char[3]){'k', (char)('0' + i), 0}, PLACE, i), 0);
    yk_close(c);
}

#if !defined(__SANITIZE_THREAD__)
/* The handle goes to the second node while the caller is about to commit a place of the first. */
static void to_the_second(struct between *b) {
    yk_reservation r;
    fixture_stop(b->first);
    assert_status(yk_reserve(b->client, PLACE, 0, &r), 0); /* answered by the second node */
    assert_status(yk_abort(b->client, &r), 0);
}

/* What a node granted is not asked of another node, whenever the handle changes over. */
static void a_commit_goes_to_the_node_that_gave_the_place(void **state) {
    struct fixture *f = *state, second;
    char url[300];
    yk_client *c = NULL;
    yk_reservation r;
    fixture_init(&second, 0);
    fixture_start(&second);
    for (int at = 1; at <= 2; at++) { /* the call takes the lock twice before it is sent */
        struct between b = {.first = f};
        yk_open_opts o = {.size = sizeof(o), .timeout_ms = 20000};
        snprintf(url, sizeof(url), "%s,%s", f->url, second.url);
        assert_status(yk_open(url, &o, &c), 0);
        b.client = c;
        assert_status(yk_reserve(c, PLACE, 0, &r), 0);
        fill(r.data, r.len, 1);
        b.locks = at;
        before_lock = &b;
        assert_status(yk_commit(c, &r, yk_key_str("key"), NULL), -YK_EGONE);
        assert_null(before_lock);
        assert_int_equal(commits_asked(&second), 0);
        yk_close(c);
        fixture_start(f);
    }
    fixture_fini(&second);
}
#endif

static yk_client *replacer;

static void replace(void) {
    assert_status(yk_remove(replacer, yk_key_str("k")), 0);
    put_ok(replacer, "k", 3 * MIB, 2);
}

/* Its first piece came; what the key has when it is asked for again is longer, and there is room for it. */
static void a_get_that_is_cut_and_finds_a_longer_block(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_with(f, YK_OPEN_NO_MAP | YK_OPEN_NO_XFER, 20000);
    replacer = open_client(f);
    put_ok(replacer, "k", MIB, 1);
    cut_payload = 1;
    before_connect = replace;
    assert_status(get_is(c, "k", 3 * MIB, 2), 0);
    assert_int_equal(cut_payload, 0);
    assert_int_equal(STAT(c, reconnects), 1);
    yk_close(replacer);
    yk_close(c);
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
        cmocka_unit_test_setup_teardown(a_commit_that_is_not_sent_wishes_for_nothing, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(an_answer_to_hello_that_nobody_hears, with_few_slots,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_put_that_was_told_to_come_again_and_had_no_time, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_reference_into_a_namespace_that_is_made_anew, with_node,
                                        without_node),
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test_setup_teardown(a_commit_goes_to_the_node_that_gave_the_place, with_node,
                                        without_node),
#endif
        cmocka_unit_test_setup_teardown(a_get_that_is_cut_and_finds_a_longer_block, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(an_epoch_whose_raise_was_not_heard_of, with_node,
                                        without_node),
    };
    return cmocka_run_group_tests_name("client_lost", tests, NULL, NULL);
}
