/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes that talk: what arrives, in which order, how often, in how many sends.
 *
 * The messenger's send passes through this file, so that sends can be counted.
 */
#include "peer_rig.h"

#include "base/clock.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned sends;

ssize_t send(int fd, const void *data, size_t len, int flags) {
    sends++;
    return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

static void test_talk(void **state) {
    (void)state;
    struct node a, b, guest;
    struct asked x = {0}, y = {0}, z = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_open(&guest, 0);
    rig_know(&a, &b);
    rig_know(&b, &a);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 41, 100, 5000, &x), 0);
    assert_int_equal(rig_ask(&b, 1, OP_ECHO, 42, 4, 5000, &y), 0);
    UNTIL(x.calls && y.calls);
    assert_int_equal(x.status, 0);
    assert_int_equal(x.len, 100);
    assert_int_equal(x.first, 41);
    assert_int_equal(y.first, 42);
    assert_int_equal(a.from.id, 2);
    assert_int_equal(b.from.id, 1);
    assert_int_equal(b.from.incarnation, 1);
    rig_tell(&a, 2, 7);
    UNTIL(b.tells == 1);

    /* A guest knows neither cluster nor whom it asks. */
    assert_int_equal(yk_peers_cluster(guest.peers), 0);
    assert_int_equal(yk_peers_set(guest.peers, 9, 0, yk_peers_address(b.peers)), 0);
    assert_int_equal(rig_ask(&guest, 9, OP_ECHO, 43, 4, 5000, &z), 0);
    UNTIL(z.calls);
    assert_int_equal(z.status, 0);
    assert_int_equal(b.from.id, 0);
    assert_true(yk_peers_cluster(guest.peers) == CLUSTER);
    assert_int_equal(x.calls + y.calls + z.calls, 3);
    assert_string_equal(yk_peers_why(a.peers, 2), "");
    rig_close(&guest);
    rig_close(&a);
    rig_close(&b);
}

static void test_a_guest_may_only_ask(void **state) {
    (void)state;
    struct node a, guest;
    rig_open(&a, 1);
    rig_open(&guest, 0);
    assert_int_equal(yk_peers_set(guest.peers, 1, 0, yk_peers_address(a.peers)), 0);
    rig_tell(&guest, 1, 0);
    UNTIL(guest.suspects == 1);
    assert_non_null(strstr(yk_peers_why(guest.peers, 1), "a guest may only ask"));
    assert_int_equal(a.tells, 0);
    rig_close(&guest);
    rig_close(&a);
}

/* The other's boot clock, or a little before: here both are the same one. */
static void test_their_clock(void **state) {
    (void)state;
    struct node a, b;
    uint64_t begin = yk_boot_ms(), theirs = 0;
    rig_open(&a, 1);
    rig_open(&b, 2);
    assert_int_equal(yk_peers_their_ms(a.peers, 2, begin, &theirs), -YK_ENOENT);
    rig_know(&a, &b);
    assert_int_equal(yk_peers_their_ms(a.peers, 2, begin, &theirs), -YK_EAGAIN); /* and dials for it */
    UNTIL(yk_peers_their_ms(a.peers, 2, begin, &theirs) == 0);
    assert_true(theirs <= begin && theirs + (yk_boot_ms() - begin) >= begin);
    assert_int_equal(yk_peers_set(a.peers, 2, 9, yk_peers_address(b.peers)), 0); /* another life, perhaps another boot */
    assert_int_equal(yk_peers_their_ms(a.peers, 2, begin, &theirs), -YK_EAGAIN);
    rig_close(&a);
    rig_close(&b);
}

/* One-way frames and requests of one connection are one sequence. */
static void test_order(void **state) {
    (void)state;
    struct node a, b;
    enum { N = 20000 };
    struct asked *x = calloc(N / 100, sizeof(*x));
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    for (uint32_t i = 0; i < N; i++) {
        rig_tell(&a, 2, i);
        if (i % 100 == 0)
            assert_int_equal(rig_ask(&a, 2, OP_ECHO, i, 1000, 20000, &x[i / 100]), 0);
        if (i % 1000 == 0)
            uv_run(&rig_loop, UV_RUN_NOWAIT);
    }
    UNTIL(b.tells == N && x[N / 100 - 1].calls);
    assert_int_equal(b.disorder, 0);
    for (uint32_t i = 0; i < N / 100; i++) {
        assert_int_equal(x[i].calls, 1);
        assert_int_equal(x[i].first, i * 100);
    }
    rig_close(&a);
    rig_close(&b);
    free(x);
}

static void test_many_under_way(void **state) {
    (void)state;
    struct node a, b;
    enum { N = 5000 };
    struct asked *x = calloc(N, sizeof(*x));
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(rig_ask(&a, 2, OP_HOLD, i, 4, 20000, &x[i]), 0);
    UNTIL(b.held_count == N);
    for (uint32_t i = N; i-- > 0;)
        rig_release(&b, i, i + 7);
    UNTIL(x[0].calls);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(x[i].calls, 1);
        assert_int_equal(x[i].first, i + 7);
    }
    rig_close(&a);
    rig_close(&b);
    free(x);
}

/* What is queued in one turn leaves in one send, and so does what answers it. */
static void test_a_turn_is_a_send(void **state) {
    (void)state;
    struct node a, b;
    struct asked x[100] = {{0}};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 0, 4, 5000, &x[0]), 0);
    UNTIL(x[0].calls);
    sends = 0;
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(rig_ask(&a, 2, OP_ECHO, i, 100, 5000, &x[i]), 0);
    assert_int_equal(sends, 0);
    UNTIL(x[99].calls);
    assert_int_equal(sends, 2);
    rig_close(&a);
    rig_close(&b);
}

static void test_nothing_runs_when_nothing_waits(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 0, 4, 5000, &x), 0);
    UNTIL(x.calls);
    rig_wait_begin(); /* the guard's timer alone is left, and it is far */
    int turns = 0;
    while (uv_backend_timeout(&rig_loop) < 1000 && turns++ < 200)
        uv_run(&rig_loop, UV_RUN_ONCE);
    assert_true(uv_backend_timeout(&rig_loop) >= 1000);
    rig_close(&a);
    rig_close(&b);
}

static void test_sizes(void **state) {
    (void)state;
    static const uint32_t size[] = {0, 1, 3, 65519, 65520, 65521, 131056, 1u << 20, YK_PEER_BODY_MAX};
    enum { N = sizeof(size) / sizeof(size[0]) };
    struct node a, b;
    struct asked x[N] = {{0}};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(rig_ask(&a, 2, OP_ECHO, 77 + i, size[i], 20000, &x[i]), 0);
    UNTIL(x[N - 1].calls);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(x[i].calls, 1);
        assert_int_equal(x[i].status, 0);
        assert_int_equal(x[i].len, size[i]);
        assert_int_equal(x[i].first, size[i] >= 4 ? 77 + i : 0);
    }
    rig_close(&a);
    rig_close(&b);
}

static void test_deadlines(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0}, y = {0}, z = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    uint64_t begun = yk_now_ns();
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 1, 4, 50, &x), 0);
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 2, 4, 20000, &y), 0);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ETIMEDOUT);
    assert_true(yk_now_ns() - begun >= 49 * YK_NS_PER_MS);
    assert_int_equal(y.calls, 0);
    /* Its answer comes too late, and belongs to nobody; its place may be another's by then. */
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 3, 4, 20000, &z), 0);
    UNTIL(b.held_count == 3);
    rig_release(&b, 0, 100);
    rig_release(&b, 1, 101);
    rig_release(&b, 2, 102);
    UNTIL(y.calls && z.calls);
    assert_int_equal(y.first, 101);
    assert_int_equal(z.first, 102);
    assert_int_equal(x.calls + y.calls + z.calls, 3);
    struct yk_peers_counts n;
    yk_peers_counts(a.peers, &n);
    assert_int_equal(n.timeouts, 1);
    rig_close(&a);
    rig_close(&b);
}

static void test_limits(void **state) {
    (void)state;
    struct node a, b;
    struct asked x[8] = {{0}};
    struct yk_peers_opts o = rig_opts(&a, 1);
    o.max_queued = 10000;
    o.max_asks = 3;
    rig_open_with(&a, &o);
    rig_open(&b, 2);
    rig_know(&a, &b);
    unsigned char body[4000] = {0};
    assert_int_equal(yk_peers_tell(a.peers, 3, OP_TELL, body, 4), -YK_ENOENT);
    assert_int_equal(yk_peers_tell(a.peers, 2, 0, body, 4), -YK_EINVAL);
    assert_int_equal(yk_peers_tell(a.peers, 2, YK_PEER_OP_MAX + 1, body, 4), -YK_EINVAL);
    assert_int_equal(yk_peers_tell(a.peers, 2, OP_TELL, body, YK_PEER_BODY_MAX + 1), -YK_ETOOBIG);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 0, 4, 0, &x[0]), -YK_EINVAL);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4000, 5000, &x[0]), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 2, 4000, 5000, &x[1]), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 3, 4000, 5000, &x[2]), -YK_EAGAIN); /* bytes */
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 4, 4, 5000, &x[3]), 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 5, 4, 5000, &x[4]), -YK_EAGAIN); /* requests */
    UNTIL(x[0].calls && x[1].calls && x[3].calls);
    assert_int_equal(x[3].first, 4);
    assert_int_equal(x[2].calls + x[4].calls, 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 6, 4000, 5000, &x[5]), 0); /* there is room again */
    UNTIL(x[5].calls);
    rig_close(&a);
    rig_close(&b);
}

/* Replies that nobody reads are a limit of their own: the connection ends, its node does not. */
static void test_replies_have_a_limit(void **state) {
    (void)state;
    struct node a, b;
    struct asked x[3] = {{0}};
    struct yk_peers_opts o = rig_opts(&b, 2);
    o.max_queued = 100;
    rig_open(&a, 1);
    rig_open_with(&b, &o);
    rig_know(&a, &b);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(rig_ask(&a, 2, OP_HOLD, i, 4, 5000, &x[i]), 0);
    UNTIL(b.held_count == 3);
    unsigned char body[80] = {0};
    assert_int_equal(yk_peers_reply(b.peers, &b.held[0], OP_HOLD, body, 80), 0);
    assert_int_equal(yk_peers_reply(b.peers, &b.held[1], OP_HOLD, body, 80), -YK_EAGAIN);
    assert_int_equal(yk_peers_reply(b.peers, &b.held[2], OP_HOLD, body, 80), 0); /* it is gone */
    UNTIL(x[0].calls && x[1].calls && x[2].calls);
    assert_int_equal(x[1].status, -YK_ECLOSED);
    x[0].calls = 0;
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 9, 4, 5000, &x[0]), 0);
    UNTIL(x[0].calls);
    assert_int_equal(x[0].status, 0);
    rig_close(&a);
    rig_close(&b);
}

/* A node that comes back at its address: what waited ended, what is said from then on arrives in order. */
static void test_again_after_a_break(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0}, y = {0};
    char address[64];
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 1, 4, 20000, &x), 0);
    UNTIL(b.held_count == 1);
    snprintf(address, sizeof(address), "%s", yk_peers_address(b.peers));
    rig_close(&b);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    assert_int_equal(a.suspects, 1);
    assert_true(yk_peers_suspect(a.peers, 2));

    struct yk_peers_opts o = rig_opts(&b, 2);
    o.listen = address;
    rig_open_with(&b, &o);
    UNTIL(!yk_peers_suspect(a.peers, 2)); /* nobody asked: it is looked for */
    assert_int_equal(a.cleared, 1);
    for (uint32_t i = 0; i < 1000; i++)
        rig_tell(&a, 2, i);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 5, 4, 20000, &y), 0);
    UNTIL(y.calls);
    assert_int_equal(y.status, 0);
    assert_int_equal(b.tells, 1000);
    assert_int_equal(b.disorder, 0);
    assert_int_equal(x.calls, 1);
    rig_close(&a);
    rig_close(&b);
}

/* It goes while much is on its way: numbers may be missing after that, none comes twice or late. */
static void test_order_over_breaks(void **state) {
    (void)state;
    struct node a, b;
    uint32_t sent = 0;
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    for (int round = 0; round < 5; round++) {
        unsigned before_tells = b.tells;
        UNTIL((rig_tell(&a, 2, sent++), b.tells > before_tells + 50));
        struct yk_peer_who who = {2, 1};
        yk_peers_self(b.peers, CLUSTER + 1, &who); /* ends all its connections */
        yk_peers_self(b.peers, CLUSTER, &who);
    }
    unsigned last = b.tells;
    UNTIL((rig_tell(&a, 2, sent++), b.tells > last));
    assert_int_equal(b.disorder, 0);
    rig_close(&a);
    rig_close(&b);
}

static void test_new_incarnation(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0}, y = {0}, z = {0}, r = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    rig_know(&b, &a);
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 1, 4, 20000, &x), 0);
    UNTIL(b.held_count == 1);
    /* The map says that it is another life of it; that one is not there yet. */
    assert_int_equal(yk_peers_set(a.peers, 2, 5, yk_peers_address(b.peers)), 0);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &y), 0);
    UNTIL(y.calls);
    assert_int_equal(y.status, -YK_ECLOSED);
    assert_non_null(strstr(yk_peers_why(a.peers, 2), "incarnation 1, not 5"));
    struct yk_peer_who who = {2, 5};
    yk_peers_self(b.peers, CLUSTER, &who);
    UNTIL(!yk_peers_suspect(a.peers, 2));
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 3, 4, 20000, &z), 0);
    UNTIL(z.calls);
    assert_int_equal(z.status, 0);

    /* The other way round: b knows a newer life of a than the one that dials. */
    assert_int_equal(yk_peers_set(b.peers, 1, 7, yk_peers_address(a.peers)), 0);
    UNTIL(a.suspects == 2);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 3, 4, 20000, &r), 0);
    UNTIL(r.calls);
    assert_int_equal(r.status, -YK_ECLOSED);
    assert_non_null(strstr(yk_peers_why(a.peers, 2), "incarnation 7, this hello is of 1"));
    rig_close(&a);
    rig_close(&b);
}

static void test_forgotten(void **state) {
    (void)state;
    struct node a, b;
    struct asked x = {0}, y = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_know(&a, &b);
    assert_int_equal(rig_ask(&a, 2, OP_HOLD, 1, 4, 20000, &x), 0);
    UNTIL(b.held_count == 1);
    assert_int_equal(yk_peers_set(a.peers, 2, 0, NULL), 0);
    assert_int_equal(x.calls, 0);
    assert_int_equal(rig_ask(&a, 2, OP_ECHO, 1, 4, 20000, &y), -YK_ENOENT);
    UNTIL(x.calls);
    assert_int_equal(x.status, -YK_ECLOSED);
    assert_int_equal(a.suspects, 0);
    assert_int_equal(yk_peers_set(a.peers, 2, 0, NULL), 0);
    assert_int_equal(yk_peers_set(a.peers, 2, 0, "nonsense"), -YK_EINVAL);
    assert_int_equal(yk_peers_set(a.peers, 2, 0, "127.0.0.1:0"), -YK_EINVAL);
    assert_int_equal(yk_peers_set(a.peers, 0, 0, "127.0.0.1:1"), -YK_EINVAL);
    rig_close(&a);
    rig_close(&b);
}

static void forget_it(struct asked *a) {
    struct node *n = a->arg;
    yk_peers_set(n->peers, 2, 0, NULL);
}

static void close_it(struct asked *a) {
    struct node *n = a->arg;
    n->closing = 1;
    yk_peers_close(n->peers, NULL, NULL);
}

/* Callbacks may forget whom they were called for, and close everything, while more of the same read waits. */
static void test_callbacks_may_do_anything(void **state) {
    (void)state;
    struct node a, b, c;
    struct asked x[3] = {{0}}, y[3] = {{0}}, z = {0};
    rig_open(&a, 1);
    rig_open(&b, 2);
    rig_open(&c, 3);
    rig_know(&a, &b);
    rig_know(&c, &b);
    x[0].then = forget_it;
    x[0].arg = &a;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(rig_ask(&a, 2, OP_ECHO, i, 4, 20000, &x[i]), 0);
    UNTIL(x[1].calls && x[2].calls);
    assert_int_equal(x[0].status, 0);
    assert_int_equal(x[1].status, -YK_ECLOSED);
    assert_int_equal(x[0].calls + x[1].calls + x[2].calls, 3);

    y[0].then = close_it;
    y[0].arg = &a;
    rig_know(&a, &b);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(rig_ask(&a, 2, OP_ECHO, i, 4, 20000, &y[i]), 0);
    UNTIL(y[1].calls && y[2].calls);
    assert_int_equal(y[1].status, -YK_ECANCELED);
    assert_int_equal(y[0].calls + y[1].calls + y[2].calls, 3);

    assert_int_equal(rig_ask(&c, 2, OP_CLOSE, 0, 4, 20000, &z), 0); /* b closes inside of frame */
    UNTIL(z.calls);
    assert_int_equal(z.status, -YK_ECLOSED);
    rig_close(&b);
    rig_close(&c);
}

static void test_listening(void **state) {
    (void)state;
    struct node a, b;
    struct yk_err err = {0};
    rig_open(&a, 1);
    struct yk_peers_opts o = rig_opts(&b, 2);
    o.listen = yk_peers_address(a.peers);
    assert_int_equal(yk_peers_open(&o, &b.peers, &err), -YK_EBUSY);
    o.listen = "0.0.0.0:0";
    assert_int_equal(yk_peers_open(&o, &b.peers, &err), -YK_EPERM);
    o.listen = "unix:/tmp/x";
    assert_int_equal(yk_peers_open(&o, &b.peers, &err), -YK_EINVAL);
    o.listen = "nonsense";
    assert_int_equal(yk_peers_open(&o, &b.peers, &err), -YK_EINVAL);
    o.listen = NULL;
    o.suspect_ms = 1;
    assert_int_equal(yk_peers_open(&o, &b.peers, &err), -YK_EINVAL);
    uv_loop_t empty;
    uv_loop_init(&empty);
    o = rig_opts(&b, 2);
    o.loop = &empty;
    o.listen = yk_peers_address(a.peers);
    assert_int_equal(yk_peers_open(&o, &b.peers, &err), -YK_EBUSY);
    assert_int_equal(uv_loop_close(&empty), 0); /* it left nothing there */
    o.loop = &rig_loop;
    o.allow_remote = 1;
    o.listen = "0.0.0.0:0";
    rig_open_with(&b, &o);
    rig_close(&a);
    rig_close(&b);
}

/* ---- opt-in: figures ------------------------------------------------------------------------------ */

enum { RATE_N = 100000, RATE_DEEP = 16, RATE_BYTES = 32 * 24 };

struct rate {
    struct node node;
    unsigned sent, done;
    uint64_t *begun, *took; /* ns, by request */
};

struct rate_ask {
    struct rate *r;
    unsigned i;
};

static void rate_more(struct rate_ask *a);

static void rate_replied(void *user, int status, const void *body, uint32_t len) {
    struct rate_ask *a = user;
    assert_int_equal(status, 0);
    assert_int_equal(len, RATE_BYTES);
    assert_non_null(body);
    a->r->took[a->i] = yk_now_ns() - a->r->begun[a->i];
    a->r->done++;
    rate_more(a);
}

static void rate_more(struct rate_ask *a) {
    static const unsigned char keys[RATE_BYTES];
    if (a->r->sent == RATE_N)
        return;
    a->i = a->r->sent++;
    a->r->begun[a->i] = yk_now_ns();
    assert_int_equal(yk_peers_ask(a->r->node.peers, 2, OP_ECHO, keys, RATE_BYTES, 20000, rate_replied, a), 0);
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void rate_print(const char *what, int deep, uint64_t begun_ns, double cpu, uint64_t *took) {
    double s = (double)(yk_now_ns() - begun_ns) / 1e9;
    qsort(took, RATE_N, sizeof(*took), by_size);
    printf("%-9s %2d deep: %7.0f requests/s of %u bytes, p50 %.1f us, p99 %.1f us, this side %.2f CPU s in %.2f s\n", what,
           deep, RATE_N / s, RATE_BYTES, (double)took[RATE_N / 2] / 1e3, (double)took[RATE_N / 100 * 99] / 1e3,
           cpu_seconds() - cpu, s);
}

static void move(int fd, int out, unsigned char *p, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = out ? syscall(SYS_sendto, fd, p + done, len - done, MSG_NOSIGNAL, NULL, 0)
                        : recv(fd, p + done, len - done, 0);
        if (n <= 0)
            _exit(0);
        done += (size_t)n;
    }
}

/* The same bytes through two blocking sockets: `deep` frames there, `deep` back. */
static void rate_bare(int deep, uint64_t *took) {
    static unsigned char frames[RATE_DEEP * (YK_FRAME_HDR + RATE_BYTES)];
    size_t len = (size_t)deep * (YK_FRAME_HDR + RATE_BYTES);
    char address[64];
    int listener = raw_listen(address);
    pid_t pid = fork();
    if (pid == 0) {
        struct pollfd p = {listener, POLLIN, 0};
        poll(&p, 1, 20000);
        int fd = accept(listener, NULL, NULL), one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
        for (;;) {
            move(fd, 0, frames, len);
            move(fd, 1, frames, len);
        }
    }
    int fd = raw_connect(address), one = 1;
    fcntl(fd, F_SETFL, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    uint64_t t0 = yk_now_ns();
    double c0 = cpu_seconds();
    for (unsigned i = 0; i < RATE_N; i += (unsigned)deep) {
        uint64_t t = yk_now_ns();
        move(fd, 1, frames, len);
        move(fd, 0, frames, len);
        t = yk_now_ns() - t;
        for (unsigned k = i; k < i + (unsigned)deep && k < RATE_N; k++)
            took[k] = t;
    }
    rate_print("bare", deep, t0, c0, took);
    close(fd);
    close(listener);
    rig_reap(pid);
}

static void rate_peers(int deep, struct rate *r) {
    struct rate_ask asks[RATE_DEEP];
    struct asked x = {0};
    char address[64];
    pid_t pid = rig_fork(2, address);
    rig_open(&r->node, 1);
    assert_int_equal(yk_peers_set(r->node.peers, 2, 1, address), 0);
    assert_int_equal(rig_ask(&r->node, 2, OP_ECHO, 0, 4, 20000, &x), 0);
    UNTIL(x.calls);
    uint64_t t0 = yk_now_ns();
    double c0 = cpu_seconds();
    r->sent = r->done = 0;
    for (int i = 0; i < deep; i++) {
        asks[i].r = r;
        rate_more(&asks[i]);
    }
    while (r->done < RATE_N)
        uv_run(&rig_loop, UV_RUN_ONCE);
    rate_print("messenger", deep, t0, c0, r->took);
    rig_close(&r->node);
    rig_reap(pid);
}

/* With YK_PEER_RATE set: prints what a node in another process answers, beside bare sockets. Judges nothing. */
static void test_rate(void **state) {
    (void)state;
    struct rate r;
    if (getenv("YK_PEER_RATE") == NULL)
        skip();
    r.begun = calloc(RATE_N, sizeof(uint64_t));
    r.took = calloc(RATE_N, sizeof(uint64_t));
    for (int deep = 1; deep <= RATE_DEEP; deep *= RATE_DEEP) {
        rate_bare(deep, r.took);
        rate_peers(deep, &r);
    }
    free(r.begun);
    free(r.took);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_begin, rig_end)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_talk),
        T(test_a_guest_may_only_ask),
        T(test_their_clock),
        T(test_order),
        T(test_many_under_way),
        T(test_a_turn_is_a_send),
        T(test_nothing_runs_when_nothing_waits),
        T(test_sizes),
        T(test_deadlines),
        T(test_limits),
        T(test_replies_have_a_limit),
        T(test_again_after_a_break),
        T(test_order_over_breaks),
        T(test_new_incarnation),
        T(test_forgotten),
        T(test_callbacks_may_do_anything),
        T(test_listening),
        T(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
