/* SPDX-License-Identifier: Apache-2.0
 *
 * What others do to a messenger: garbage, frames cut anywhere, other versions and clusters, silence, death;
 * and what its own process does: no descriptors, standing still, closing with everything under way.
 *
 * Whatever it is, others' connections go on, and each request ends once.
 */
#include "peer_rig.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned conns_of(const struct node *n) {
    struct yk_peers_counts c;
    yk_peers_counts(n->peers, &c);
    return (unsigned)c.conns;
}

static uint64_t dialled_by(const struct node *n) {
    struct yk_peers_counts c;
    yk_peers_counts(n->peers, &c);
    return c.dialled;
}

static void expect_refusal(int fd, int status, const char *part) {
    struct raw_frame r;
    raw_frame(fd, &r);
    assert_int_equal(r.f.op, YK_PEER_ERROR);
    assert_int_equal(r.err.code, status);
    if (strstr(r.err.text, part) == NULL)
        fail_msg("'%s' does not say '%s'", r.err.text, part);
    raw_frame(fd, &r);
    assert_int_equal(r.f.op, 0); /* and it hangs up */
    close(fd);
}

static void request(int fd, unsigned op, unsigned flags, uint64_t id, uint32_t len) {
    unsigned char frame[YK_FRAME_HDR + 64] = {0};
    struct yk_frame f = {len, (uint8_t)op, (uint8_t)flags, id};
    yk_frame_encode(frame, &f);
    raw_send(fd, frame, YK_FRAME_HDR + (len < 64 ? len : 64));
}

/* ---- whoever dials ------------------------------------------------------------------------------- */

static void test_garbage(void **state) {
    (void)state;
    static const char http[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static const unsigned char zeros[4096];
    struct node a, b;
    struct asked x = {0}, y = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&b, &a);
    assert_int_equal(rig_ask(&b, 1, OP_HOLD, 1, 4, 20000, &x), 0);
    UNTIL(a.held_count == 1);

    int fd = raw_connect(yk_peers_address(a.peers));
    raw_send(fd, http, sizeof(http) - 1);
    expect_refusal(fd, -YK_EPROTO, "not the hello of a Yolk node");
    fd = raw_connect(yk_peers_address(a.peers));
    raw_send(fd, zeros, sizeof(zeros));
    expect_refusal(fd, -YK_EPROTO, "not the hello of a Yolk node");
    fd = raw_connect(yk_peers_address(a.peers));
    request(fd, YK_MSG_HELLO, 0, 1, 40); /* a client's, on the wrong port */
    expect_refusal(fd, -YK_EPROTO, "clients have another");
    fd = raw_connect(yk_peers_address(a.peers));
    request(fd, YK_PEER_HELLO, 0, 0, 32);
    expect_refusal(fd, -YK_EPROTO, "magic 00000000");
    fd = raw_connect(yk_peers_address(a.peers));
    request(fd, YK_PEER_HELLO, 0, 0, 0);
    expect_refusal(fd, -YK_EPROTO, "0 bytes");
    fd = raw_connect(yk_peers_address(a.peers));
    request(fd, YK_PEER_HELLO, 0, 0, YK_PEER_HELLO_MAX + 1);
    expect_refusal(fd, -YK_EPROTO, "513 bytes");

    rig_release(&a, 0, 5); /* nothing was lost */
    UNTIL(x.calls);
    assert_int_equal(x.status, 0);
    assert_int_equal(rig_ask(&b, 1, OP_ECHO, 2, 4, 20000, &y), 0);
    UNTIL(y.calls);
    assert_int_equal(a.suspects + b.suspects, 0);
    rig_close(&a);
    rig_close(&b);
}

static void test_garbage_after_the_hello(void **state) {
    (void)state;
    struct node a;
    struct raw_frame r;
    rig_open(&a, 1);
    static const struct {
        uint32_t member;
        unsigned op, flags;
        uint64_t id;
        uint32_t len;
        int status;
        const char *text;
    } bad[] = {
        {7, 0, 0, 1, 0, -YK_EPROTO, "not a frame"},
        {7, 240, 0, 1, 0, -YK_EPROTO, "not a frame"},
        {7, YK_PEER_HELLO, 0, 1, 0, -YK_EPROTO, "not a frame"},
        {7, OP_ECHO, 2, 1, 0, -YK_EPROTO, "flags 2"},
        {7, OP_ECHO, YK_FRAME_REPLY, 1, 0, -YK_EPROTO, "where a request belongs"},
        {7, YK_PEER_ERROR, 0, 1, 0, -YK_EPROTO, "where a request belongs"},
        {7, OP_ECHO, 0, 1, YK_PEER_BODY_MAX + 1, -YK_ETOOBIG, "at most 4194304"},
        {7, OP_ECHO, 0, 1, UINT32_MAX, -YK_ETOOBIG, "at most 4194304"},
        {0, OP_ECHO, 0, 1, YK_PEER_GUEST_BODY_MAX + 1, -YK_ETOOBIG, "at most 262144"},
        {0, OP_TELL, 0, 0, 4, -YK_EPERM, "may only ask"},
        {7, OP_BAD, 0, 1, 0, -YK_EPROTO, "not liked here"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int fd = raw_connect(yk_peers_address(a.peers));
        raw_hello(fd, 1, 1, CLUSTER, bad[i].member, 1);
        raw_frame(fd, &r);
        assert_int_equal(r.f.op, YK_PEER_HELLO);
        request(fd, bad[i].op, bad[i].flags, bad[i].id, bad[i].len);
        expect_refusal(fd, bad[i].status, bad[i].text);
    }
    UNTIL(conns_of(&a) == 0);
    rig_close(&a);
}

/* A hello and a request, cut at every byte: in two pieces all is well, with an end after the first nothing is. */
static void test_cut_anywhere(void **state) {
    (void)state;
    struct node a;
    struct raw_frame r;
    unsigned char bytes[YK_PEER_HELLO_BYTES + YK_FRAME_HDR + 8] = {0};
    struct yk_peer_hello h = {1, 1, CLUSTER, {7, 1}, 0};
    struct yk_frame f = {8, OP_ECHO, 0, 77};
    rig_open(&a, 1);
    yk_peer_hello_encode(bytes, 0, &h);
    yk_frame_encode(bytes + YK_PEER_HELLO_BYTES, &f);
    bytes[sizeof(bytes) - 1] = 9;
    for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
        int fd = raw_connect(yk_peers_address(a.peers));
        raw_send(fd, bytes, cut);
        UNTIL(conns_of(&a) == 1);
        uv_run(&rig_loop, UV_RUN_NOWAIT);
        raw_send(fd, bytes + cut, sizeof(bytes) - cut);
        raw_frame(fd, &r);
        assert_int_equal(r.f.op, YK_PEER_HELLO);
        raw_frame(fd, &r);
        assert_int_equal(r.f.op, OP_ECHO);
        assert_int_equal(r.f.id, 77);
        assert_int_equal(r.body[7], 9);
        close(fd);
        UNTIL(conns_of(&a) == 0);
    }
    unsigned frames = a.frames;
    for (size_t cut = 0; cut < sizeof(bytes); cut++) {
        int fd = raw_connect(yk_peers_address(a.peers));
        raw_send(fd, bytes, cut);
        UNTIL(conns_of(&a) == 1);
        close(fd);
        UNTIL(conns_of(&a) == 0);
    }
    assert_int_equal(a.frames, frames);
    rig_close(&a);
}

static void test_versions(void **state) {
    (void)state;
    struct node a;
    struct raw_frame r;
    rig_open(&a, 1);
    int fd = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd, 1, 7, CLUSTER, 7, 1); /* newer, and understands us */
    raw_frame(fd, &r);
    assert_int_equal(r.f.op, YK_PEER_HELLO);
    close(fd);
    fd = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd, 2, 3, CLUSTER, 7, 1);
    expect_refusal(fd, -YK_EVERSION, "member 1 speaks versions 1 to 1 of the nodes' protocol, member 7 versions 2 to 3");
    fd = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd, 0, 0, CLUSTER, 7, 1);
    expect_refusal(fd, -YK_EPROTO, "makes no sense");
    rig_close(&a);
}

/* One side newer, one older than the other understands; both see the same text. */
static void test_versions_decide(void **state) {
    (void)state;
    struct yk_err err;
    struct yk_peer_hello v1 = {1, 1, 0, {1, 1}, 0}, v13 = {3, 1, 0, {2, 1}, 0}, v25 = {5, 2, 0, {3, 1}, 0};
    assert_int_equal(yk_peer_hello_fit(&v1, &v13, &err), 1);
    assert_int_equal(yk_peer_hello_fit(&v13, &v1, &err), 1);
    assert_int_equal(yk_peer_hello_fit(&v25, &v13, &err), 3);
    assert_int_equal(yk_peer_hello_fit(&v13, &v25, &err), 3);
    assert_int_equal(yk_peer_hello_fit(&v1, &v25, &err), -YK_EVERSION);
    assert_int_equal(yk_peer_hello_fit(&v25, &v1, &err), -YK_EVERSION);
}

static void test_clusters(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0};
    rig_open(&a, 1);
    struct yk_peers_opts o = rig_opts(&b, 2);
    o.cluster = 0xabcdef;
    rig_open_with(&b, &o);
    rig_know(&b, &a);
    assert_int_equal(rig_ask(&b, 1, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    assert_string_equal(yk_peers_why(b.peers, 1),
                        "member 1 is of cluster 1122334455667788, member 2 of cluster 0000000000abcdef");
    assert_int_equal(a.frames, 0);
    rig_close(&b);

    int fd = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd, 1, 1, 0, 7, 1);
    expect_refusal(fd, -YK_EPERM, "names no cluster");
    struct yk_peer_who who = {1, 1};
    yk_peers_self(a.peers, 0, &who); /* not joined yet */
    fd = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd, 1, 1, CLUSTER, 7, 1);
    expect_refusal(fd, -YK_EAGAIN, "in no cluster yet");
    rig_close(&a);
}

static void test_one_connection_a_member(void **state) {
    (void)state;
    struct node a;
    struct raw_frame r;
    rig_open(&a, 1);
    int first = raw_connect(yk_peers_address(a.peers));
    raw_hello(first, 1, 1, CLUSTER, 7, 4);
    raw_frame(first, &r);
    int second = raw_connect(yk_peers_address(a.peers));
    raw_hello(second, 1, 1, CLUSTER, 7, 5);
    raw_frame(second, &r);
    assert_int_equal(r.f.op, YK_PEER_HELLO);
    raw_frame(first, &r);
    assert_int_equal(r.f.op, 0);
    int third = raw_connect(yk_peers_address(a.peers));
    raw_hello(third, 1, 1, CLUSTER, 7, 4);
    expect_refusal(third, -YK_ESTALE, "incarnation 5, this hello is of 4");
    request(second, OP_ECHO, 0, 1, 0);
    raw_frame(second, &r);
    assert_int_equal(r.f.op, OP_ECHO);
    close(first);
    close(second);
    rig_close(&a);
}

static void test_too_many_connections(void **state) {
    (void)state;
    struct node a;
    struct raw_frame r;
    int fd[3];
    struct yk_peers_opts o = rig_opts(&a, 1);
    o.max_conns = 2;
    rig_open_with(&a, &o);
    for (int i = 0; i < 2; i++) {
        fd[i] = raw_connect(yk_peers_address(a.peers));
        raw_hello(fd[i], 1, 1, CLUSTER, 0, 0);
        raw_frame(fd[i], &r);
        assert_int_equal(r.f.op, YK_PEER_HELLO);
    }
    fd[2] = raw_connect(yk_peers_address(a.peers));
    expect_refusal(fd[2], -YK_ELIMIT, "all 2 connections");
    close(fd[0]);
    UNTIL(conns_of(&a) == 1);
    fd[2] = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd[2], 1, 1, CLUSTER, 0, 0);
    raw_frame(fd[2], &r);
    assert_int_equal(r.f.op, YK_PEER_HELLO);
    close(fd[1]);
    close(fd[2]);
    rig_close(&a);
}

static void test_no_hello(void **state) {
    (void)state;
    struct node a;
    struct yk_peers_opts o = rig_opts(&a, 1);
    o.connect_ms = 60;
    rig_open_with(&a, &o);
    int mute = raw_connect(yk_peers_address(a.peers));
    int slow = raw_connect(yk_peers_address(a.peers));
    raw_send(slow, "\x20", 1);
    expect_refusal(mute, -YK_ETIMEDOUT, "no hello came");
    expect_refusal(slow, -YK_ETIMEDOUT, "no hello came");
    UNTIL(conns_of(&a) == 0);
    rig_close(&a);
}

/* Asks for much and reads nothing: it is not read from, then cut off, as is who stops in the middle of a
 * frame; another guest does not notice. */
static void test_who_reads_nothing(void **state) {
    (void)state;
    struct node a;
    struct raw_frame r;
    struct yk_peers_counts n;
    struct yk_peers_opts o = rig_opts(&a, 1);
    o.max_queued = 2u << 20;
    rig_open_with(&a, &o);
    int fd = raw_connect(yk_peers_address(a.peers)), other = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd, 1, 1, CLUSTER, 0, 0);
    raw_hello(other, 1, 1, CLUSTER, 0, 0);
    raw_frame(other, &r);
    int half = raw_connect(yk_peers_address(a.peers));
    raw_hello(half, 1, 1, CLUSTER, 0, 0);
    raw_frame(half, &r);
    request(half, OP_ECHO, 0, 1, 100);
    static unsigned char ask[YK_FRAME_HDR + (200u << 10)];
    struct yk_frame f = {sizeof(ask) - YK_FRAME_HDR, OP_ECHO, 0, 1};
    yk_frame_encode(ask, &f);
    rig_wait_begin();
    uint64_t in = 0;
    for (int still = 0; still < 100 && !rig_late();) { /* until nothing is taken any more */
        (void)!send(fd, ask, sizeof(ask), MSG_NOSIGNAL | MSG_DONTWAIT);
        uv_run(&rig_loop, UV_RUN_NOWAIT);
        yk_peers_counts(a.peers, &n);
        still = n.bytes_in == in ? still + 1 : 0;
        in = n.bytes_in;
        if (still > 0) /* what was sent may be on its way: acknowledgements take their time, too */
            (void)poll(NULL, 0, 5);
    }
    request(other, OP_ECHO, 0, 5, 0);
    raw_frame(other, &r);
    assert_int_equal(r.f.id, 5);
    UNTIL(conns_of(&a) == 1);
    request(other, OP_ECHO, 0, 6, 0);
    raw_frame(other, &r);
    assert_int_equal(r.f.id, 6);
    close(fd);
    close(other);
    close(half);
    rig_close(&a);
}

/* ---- whoever is dialled -------------------------------------------------------------------------- */

static void test_refused_dial(void **state) {
    (void)state;
    struct node a;
    struct asked x = {0}, y = {0};
    char address[64];
    int fd = raw_listen(address);
    close(fd); /* nobody listens there */
    rig_open(&a, 1);
    assert_int_equal(yk_peers_set(a.peers, 2, 1, address), 0);
    uint64_t begun = yk_now_ns();
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    assert_int_equal(a.suspects, 1);
    assert_non_null(strstr(yk_peers_why(a.peers, 2), "refused"));
    /* With back-off: the fifth dial is not before 10 + 20 + 40 + 80 ms. */
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &y), 0);
    UNTIL(dialled_by(&a) >= 5);
    assert_true(yk_now_ns() - begun >= 150 * YK_NS_PER_MS);
    assert_int_equal(y.calls, 1); /* it waited for the second dial, and failed with it */
    assert_int_equal(a.suspects, 1);
    rig_close(&a);
}

static void test_unknown_host(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0}, y = {0};
    char address[64];
    rig_open(&a, 1);
    rig_open(&b, 2);
    assert_int_equal(yk_peers_set(a.peers, 3, 1, "no-such-host.invalid:99"), 0);
    assert_int_equal(rig_ask(&a, 3, OP_ECHO, 1, 4, 10000, &x), 0);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    snprintf(address, sizeof(address), "localhost%s", strchr(yk_peers_address(b.peers), ':'));
    assert_int_equal(yk_peers_set(a.peers, 2, 1, address), 0);
    for (int i = 0; i < 2 && (y.calls == 0 || y.status != 0); i++) { /* ::1 may come first */
        y.calls = 0;
        assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 10000, &y), 0);
        UNTIL(y.calls);
    }
    assert_int_equal(y.status, 0);
    rig_close(&a);
    rig_close(&b);
}

/* Connected, and then not a word. */
static void test_silent(void **state) {
    (void)state;
    struct node a;
    struct asked x = {0}, y = {0};
    char address[64];
    int listener = raw_listen(address);
    struct yk_peers_opts o = rig_opts(&a, 1);
    o.suspect_ms = 40;
    o.connect_ms = 200;
    rig_open_with(&a, &o);
    assert_int_equal(yk_peers_set(a.peers, 2, 1, address), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(a.suspects == 1);
    assert_int_equal(x.calls, 0); /* that comes first */
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    assert_non_null(strstr(yk_peers_why(a.peers, 2), "not connected in 200 ms"));

    /* Answers the hello, and then not a word: pings come, the connection ends. */
    int fd;
    struct raw_frame r;
    do { /* those that were given up stand before it */
        fd = raw_accept(listener);
        raw_frame(fd, &r);
        unsigned char hello[YK_PEER_HELLO_BYTES];
        struct yk_peer_hello h = {1, 1, CLUSTER, {2, 1}, 0};
        yk_peer_hello_encode(hello, 1, &h);
        raw_send(fd, hello, sizeof(hello));
        for (int i = 0; i < 20; i++)
            uv_run(&rig_loop, UV_RUN_NOWAIT);
    } while (a.cleared == 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 2, 4, 20000, &y), 0);
    raw_frame(fd, &r);
    assert_int_equal(r.f.op, OP_ECHO);
    raw_frame(fd, &r);
    assert_int_equal(r.f.op, YK_PEER_PING);
    UNTIL(y.calls);
    assert_int_equal(y.status, -YK_ECLOSED);
    assert_non_null(strstr(yk_peers_why(a.peers, 2), "no answer for"));
    assert_int_equal(a.suspects, 2);
    close(listener);
    close(fd);
    rig_close(&a);
}

/* Requests that are given up before suspect_ms are over do not hide that nothing comes. */
static void test_short_deadlines_do_not_hide_silence(void **state) {
    (void)state;
    struct node a;
    struct asked x = {0};
    char address[64];
    pid_t pid = rig_fork(2, address);
    rig_open(&a, 1);
    assert_int_equal(yk_peers_set(a.peers, 2, 1, address), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    kill(pid, SIGSTOP);
    for (int i = 0; i < 100 && a.suspects == 0; i++) {
        x.calls = 0;
        assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20, &x), 0);
        UNTIL(x.calls || a.suspects);
        UNTIL(x.calls);
        assert_int_equal(x.status, -YK_ETIMEDOUT);
    }
    assert_int_equal(a.suspects, 1);
    rig_close(&a);
    rig_reap(pid);
}

static void test_wrong_answers(void **state) {
    (void)state;
    static const struct {
        unsigned op, flags;
        uint32_t id, len;
        const char *why;
    } bad[] = {
        {OP_ECHO, 0, 1, 0, "where a reply belongs"},
        {0, YK_FRAME_REPLY, 1, 0, "not a frame"},
        {OP_ECHO, YK_FRAME_REPLY, 1, YK_PEER_BODY_MAX + 1, "at most"},
        {YK_PEER_ERROR, YK_FRAME_REPLY, 0, 0, "cannot be read"},
    };
    struct node a;
    struct raw_frame r;
    char address[64];
    rig_open(&a, 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct asked x = {0};
        int listener = raw_listen(address); /* one each: it is dialled again and again */
        assert_int_equal(yk_peers_set(a.peers, 2, 0, address), 0);
        assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
        int fd = raw_accept(listener);
        raw_frame(fd, &r);
        unsigned char hello[YK_PEER_HELLO_BYTES];
        struct yk_peer_hello h = {1, 1, CLUSTER, {2, 1}, 0};
        yk_peer_hello_encode(hello, 1, &h);
        raw_send(fd, hello, sizeof(hello));
        raw_frame(fd, &r);
        request(fd, OP_ECHO, YK_FRAME_REPLY, r.f.id + (1ull << 40), 4); /* nobody's: passed over */
        request(fd, OP_ECHO, YK_FRAME_REPLY, 0xffffffffu, 4);
        request(fd, bad[i].op, bad[i].flags, bad[i].id, bad[i].len);
        UNTIL(x.calls);
        assert_int_equal(x.status, -YK_ECLOSED);
        if (strstr(yk_peers_why(a.peers, 2), bad[i].why) == NULL)
            fail_msg("'%s' does not say '%s'", yk_peers_why(a.peers, 2), bad[i].why);
        assert_int_equal(yk_peers_set(a.peers, 2, 0, NULL), 0);
        close(fd);
        close(listener);
    }
    rig_close(&a);
}

/* No node listens there, or another one than was looked for, or one of a version that is not understood. */
static void test_somebody_else_answers(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0}, y = {0}, z = {0};
    struct raw_frame r;
    char address[64];
    int listener = raw_listen(address);
    rig_open(&a, 1);
    rig_open(&b, 2);
    assert_int_equal(yk_peers_set(a.peers, 3, 1, yk_peers_address(b.peers)), 0);
    assert_int_equal(rig_ask(&a, 3, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    assert_non_null(strstr(yk_peers_why(a.peers, 3), "answers member 2, not 3"));

    assert_int_equal(yk_peers_set(a.peers, 4, 1, address), 0);
    assert_int_equal(rig_ask(&a, 4, OP_ECHO, 1, 4, 20000, &y), 0);
    int fd = raw_accept(listener);
    raw_send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    UNTIL(y.calls);
    assert_non_null(strstr(yk_peers_why(a.peers, 4), "not answered as a Yolk node does"));
    close(fd);
    close(listener); /* with what was dialled anew */
    assert_int_equal(yk_peers_set(a.peers, 4, 0, NULL), 0);

    listener = raw_listen(address);
    assert_int_equal(yk_peers_set(a.peers, 5, 1, address), 0);
    assert_int_equal(rig_ask(&a, 5, OP_ECHO, 1, 4, 20000, &z), 0);
    fd = raw_accept(listener);
    raw_frame(fd, &r);
    unsigned char hello[YK_PEER_HELLO_BYTES];
    struct yk_peer_hello h = {9, 8, CLUSTER, {5, 1}, 0};
    yk_peer_hello_encode(hello, 1, &h);
    raw_send(fd, hello, sizeof(hello));
    UNTIL(z.calls);
    assert_non_null(strstr(yk_peers_why(a.peers, 5), "member 1 speaks versions 1 to 1"));
    assert_non_null(strstr(yk_peers_why(a.peers, 5), "member 5 versions 8 to 9"));
    close(fd);
    close(listener);
    rig_close(&a);
    rig_close(&b);
}

/* ---- death, sleep -------------------------------------------------------------------------------- */

static void test_killed(void **state) {
    (void)state;
    struct node a;
    struct asked x = {0}, y = {0};
    char address[64];
    pid_t pid = rig_fork(2, address);
    rig_open(&a, 1);
    assert_int_equal(yk_peers_set(a.peers, 2, 1, address), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 1, 4, 20000, &y), 0);
    uv_run(&rig_loop, UV_RUN_NOWAIT);
    rig_reap(pid);
    UNTIL(y.calls);
    assert_int_equal(y.status, -YK_ECLOSED);
    assert_int_equal(a.suspects, 1);
    rig_close(&a);
}

/* Nobody waits for it: that its own connection to us ends is enough. */
static void test_death_shows_on_what_it_dialled(void **state) {
    (void)state;
    struct node a;
    struct raw_frame r;
    char address[64];
    int listener = raw_listen(address);
    close(listener);
    rig_open(&a, 1);
    assert_int_equal(yk_peers_set(a.peers, 7, 1, address), 0);
    int fd = raw_connect(yk_peers_address(a.peers));
    raw_hello(fd, 1, 1, CLUSTER, 7, 1);
    raw_frame(fd, &r);
    assert_int_equal(a.suspects, 0);
    close(fd);
    UNTIL(a.suspects == 1);
    rig_close(&a);
}

static void test_stopped(void **state) {
    (void)state;
    struct node a;
    struct asked x = {0}, y = {0};
    char address[64];
    pid_t pid = rig_fork(2, address);
    rig_open(&a, 1);
    assert_int_equal(yk_peers_set(a.peers, 2, 1, address), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    kill(pid, SIGSTOP);
    uint64_t begun = yk_now_ns();
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 2, 4, 20000, &y), 0);
    UNTIL(a.suspects == 1);
    assert_true(yk_now_ns() - begun >= 190 * YK_NS_PER_MS);
    assert_int_equal(y.calls, 0); /* suspect is not dead */
    kill(pid, SIGCONT);
    UNTIL(y.calls);
    assert_int_equal(a.cleared, 1);

    /* Stopped for long: the connection is given up, dialled anew with back-off, and answers again. */
    struct asked z = {0};
    kill(pid, SIGSTOP);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 3, 4, 20000, &z), 0);
    UNTIL(z.calls);
    assert_int_equal(z.status, -YK_ECLOSED);
    assert_int_equal(a.suspects, 2);
    kill(pid, SIGCONT);
    UNTIL(a.cleared == 2);
    rig_close(&a);
    rig_reap(pid);
}

/* A slow answer is none to be suspected for. */
static void test_alive_with_nothing_to_say(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0};
    struct yk_peers_opts o = rig_opts(&a, 1);
    o.suspect_ms = 300;
    rig_open_with(&a, &o);
    rig_open(&b, 2);
    rig_know(&a, &b);
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 1, 4, 1500, &x), 0);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ETIMEDOUT);
    assert_int_equal(a.suspects, 0);
    rig_close(&a);
    rig_close(&b);
}

/* This process stands still while the answer lies in the socket: nobody is to blame. */
static void test_standing_still(void **state) {
    (void)state;
    struct node a;
    struct asked x = {0}, y = {0};
    char address[64];
    pid_t pid = rig_fork(2, address);
    rig_open(&a, 1);
    assert_int_equal(yk_peers_set(a.peers, 2, 1, address), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 2, 4, 20000, &y), 0);
    uv_run(&rig_loop, UV_RUN_NOWAIT);
    if (!y.calls)
        poll(NULL, 0, 3000);
    UNTIL(y.calls);
    assert_int_equal(y.status, 0);
    assert_int_equal(a.suspects, 0);
    rig_close(&a);
    rig_reap(pid);
}

/* ---- its own process ----------------------------------------------------------------------------- */

static void test_no_descriptors(void **state) {
    (void)state;
    struct node a, b;
    struct raw_frame r;
    struct asked x = {0}, y = {0};
    struct rlimit was, low;
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    int fd = raw_connect(yk_peers_address(b.peers)); /* waits to be accepted */
    raw_hello(fd, 1, 1, CLUSTER, 0, 0);
    getrlimit(RLIMIT_NOFILE, &was);
    low = was;
    low.rlim_cur = (rlim_t)fd + 1;
    setrlimit(RLIMIT_NOFILE, &low);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &x), 0);
    UNTIL(x.calls);
    setrlimit(RLIMIT_NOFILE, &was);
    assert_int_equal(x.status, -YK_EAGAIN);
    assert_int_equal(a.suspects, 0); /* it is not the peer's fault */
    raw_frame(fd, &r);               /* accepted as soon as there are some */
    assert_int_equal(r.f.op, YK_PEER_HELLO);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &y), 0);
    UNTIL(y.calls);
    assert_int_equal(y.status, 0);
    close(fd);
    rig_close(&a);
    rig_close(&b);
}

static void test_close_with_everything_under_way(void **state) {
    (void)state;
    enum { UNDER_WAY, DIALLING, RESOLVING, RESTING, KINDS, EACH = 40 };
    struct node a, b;
    struct asked x[KINDS][EACH] = {{{0}}};
    char silent[64], nobody[64];
    int listener = raw_listen(silent), none = raw_listen(nobody);
    close(none);
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    assert_int_equal(yk_peers_set(a.peers, 3, 1, silent), 0);
    assert_int_equal(yk_peers_set(a.peers, 4, 1, "localhost:9"), 0);
    assert_int_equal(yk_peers_set(a.peers, 5, 1, nobody), 0);
    rig_tell(&a, 5, 0);
    UNTIL(a.suspects == 1);
    for (unsigned i = 0; i < EACH; i++)
        assert_int_equal(rig_ask(&a, 2, OP_HOLD, i, 4, 20000, &x[UNDER_WAY][i]), 0);
    assert_int_equal(rig_ask(&a, 3, OP_ECHO, 0, 4, 20000, &x[DIALLING][0]), 0);
    UNTIL(b.held_count == EACH);
    for (unsigned i = 0; i < EACH; i++) {
        if (i > 0)
            assert_int_equal(rig_ask(&a, 3, OP_ECHO, i, 4, 20000, &x[DIALLING][i]), 0);
        assert_int_equal(rig_ask(&a, 4, OP_ECHO, i, 4, 20000, &x[RESOLVING][i]), 0);
        assert_int_equal(rig_ask(&a, 5, OP_ECHO, i, 4, 20000, &x[RESTING][i]), 0);
    }
    for (unsigned i = 0; i < 3; i++)
        rig_release(&b, i, i); /* on their way */
    a.closing = 1;
    yk_peers_close(a.peers, NULL, NULL);
    rig_close(&b);
    UNTIL(!uv_loop_alive(&rig_loop));
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned i = 0; i < EACH; i++) {
            assert_int_equal(x[k][i].calls, 1);
            assert_int_equal(x[k][i].status, -YK_ECANCELED);
        }
    close(listener);
    free(a.held);
}

static void test_close_answered_too_late(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 1, 4, 20000, &x), 0);
    UNTIL(b.held_count == 1);
    rig_close(&a);
    assert_int_equal(x.status, -YK_ECANCELED);
    UNTIL(conns_of(&b) == 0);
    rig_release(&b, 0, 1); /* goes nowhere */
    struct yk_peer_reply_to made_up[] = {{0, 1}, {UINT64_MAX, 1}, {b.held[0].conn + (1u << 20), 1}};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(yk_peers_reply(b.peers, &made_up[i], OP_HOLD, NULL, 0), 0);
    rig_close(&b);
    yk_peers_close(NULL, NULL, NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_begin, rig_end)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_garbage),
        T(test_garbage_after_the_hello),
        T(test_cut_anywhere),
        T(test_versions),
        T(test_versions_decide),
        T(test_clusters),
        T(test_one_connection_a_member),
        T(test_too_many_connections),
        T(test_no_hello),
        T(test_who_reads_nothing),
        T(test_refused_dial),
        T(test_unknown_host),
        T(test_silent),
        T(test_short_deadlines_do_not_hide_silence),
        T(test_wrong_answers),
        T(test_somebody_else_answers),
        T(test_killed),
        T(test_death_shows_on_what_it_dialled),
        T(test_stopped),
        T(test_alive_with_nothing_to_say),
        T(test_standing_still),
        T(test_no_descriptors),
        T(test_close_with_everything_under_way),
        T(test_close_answered_too_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
