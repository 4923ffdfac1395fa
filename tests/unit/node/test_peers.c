/* SPDX-License-Identifier: Apache-2.0
 *
 * What unlucky and ill-behaved peers do to a node: processes that die with their connection open in
 * another, greetings that nobody waits for, payload that never comes, requests on reservations of
 * others, a socket that is full at the wrong moment, descriptors that run out.
 *
 * The node's sendmsg and accept4 pass through this file, so that their failures can be played.
 */
#include "node/node.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/layout.h"
#include "shm/owner.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB     (1u << 20)
#define WAIT_MS 20000
#define EPOCH   1 /* that of a fresh namespace */

static int full_sends; /* so many of the node's sends find the socket full */
static int accepts;    /* calls of accept4 */

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    int n = __atomic_load_n(&full_sends, __ATOMIC_SEQ_CST);
    if (n > 0 && (flags & MSG_DONTWAIT)) {
        __atomic_store_n(&full_sends, n - 1, __ATOMIC_SEQ_CST);
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, m, flags);
}

int accept4(int fd, struct sockaddr *restrict addr, socklen_t *restrict len, int flags) {
    __atomic_add_fetch(&accepts, 1, __ATOMIC_SEQ_CST);
    return (int)syscall(SYS_accept4, fd, addr, len, flags);
}

/* ---- a node and its peers -------------------------------------------------------------------- */

struct peer {
    int fd;
    int fds[3];
    uint32_t slot;
    uint64_t cookie, heard;
    unsigned char body[MIB];
    struct yk_frame f;
};

static struct yk_node_opts options(uint64_t bytes) {
    struct yk_node_opts o = {0};
    o.store.segment.data_bytes = bytes;
    o.store.segment.max_clients = 64;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    o.store.reserve_percent = 2;
    o.store.held_percent = 50;
    return o;
}

static struct yk_node *start(const struct yk_node_opts *o) {
    struct yk_err err = {0};
    struct yk_node *node;
    int rc = yk_node_start(o, &node, &err);
    if (rc < 0)
        print_error("%s\n", err.text);
    assert_int_equal(rc, 0);
    return node;
}

static struct yk_counters counters(struct yk_node *node) {
    struct yk_node_stats st;
    yk_node_stats(node, &st);
    return st.store;
}

static int send_all(int fd, const void *data, size_t len) {
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, (const char *)data + at, len - at, MSG_NOSIGNAL);
        if (n <= 0)
            return -1;
        at += (size_t)n;
    }
    return 0;
}

/* 0 at the end of the stream. */
static int recv_all(struct peer *p, void *data, size_t len) {
    for (size_t at = 0; at < len;) {
        struct pollfd pf = {p->fd, POLLIN, 0};
        assert_true(poll(&pf, 1, WAIT_MS) == 1);
        union {
            char buf[CMSG_SPACE(3 * sizeof(int))];
            struct cmsghdr align;
        } u;
        struct iovec iov = {(char *)data + at, len - at};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = u.buf,
                           .msg_controllen = sizeof(u.buf)};
        ssize_t n = recvmsg(p->fd, &m, MSG_CMSG_CLOEXEC);
        if (n <= 0)
            return 0;
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        if (h != NULL)
            memcpy(p->fds, CMSG_DATA(h), sizeof(p->fds));
        at += (size_t)n;
    }
    return 1;
}

static size_t frame(unsigned char *to, unsigned op, uint64_t id, const void *body, size_t len) {
    struct yk_frame f = {(uint32_t)len, (uint8_t)op, 0, id};
    yk_frame_encode(to, &f);
    memcpy(to + YK_FRAME_HDR, body, len);
    return YK_FRAME_HDR + len;
}

static void request(struct peer *p, unsigned op, uint64_t id, const void *body, size_t len) {
    unsigned char b[4096];
    assert_true(len + YK_FRAME_HDR <= sizeof(b));
    assert_int_equal(send_all(p->fd, b, frame(b, op, id, body, len)), 0);
}

/* 0 when the node closed the connection. */
static int reply(struct peer *p, struct yk_rd *r) {
    unsigned char hdr[YK_FRAME_HDR];
    if (!recv_all(p, hdr, sizeof(hdr)))
        return 0;
    assert_int_equal(yk_frame_decode(hdr, 1u << 30, &p->f, NULL), 0);
    assert_true(p->f.body_bytes <= sizeof(p->body));
    assert_true(recv_all(p, p->body, p->f.body_bytes));
    yk_rd_init(r, p->body, p->f.body_bytes);
    return 1;
}

static size_t hello_body(const struct peer *p, uint32_t flags, unsigned char *b, size_t cap) {
    struct yk_wr w;
    yk_wr_init(&w, b, cap);
    yk_wr_u32(&w, YK_WIRE_MAGIC);
    yk_wr_u32(&w, YK_WIRE_VERSION);
    yk_wr_u32(&w, flags);
    yk_wr_u32(&w, p->slot);
    yk_wr_u64(&w, p->cookie);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, 0);
    yk_wr_str8(&w, "default", 7);
    if (p->heard != 0)
        yk_wr_u64(&w, p->heard);
    return yk_wr_len(&w);
}

static struct peer *peer_new(int fd) {
    struct peer *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->fd = fd;
    p->fds[0] = p->fds[1] = p->fds[2] = -1;
    return p;
}

static void hello(struct peer *p, uint32_t flags) {
    unsigned char b[256];
    char text[300];
    struct yk_rd r;
    request(p, YK_MSG_HELLO, 1, b, hello_body(p, flags, b, sizeof(b)));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 0);
    yk_rd_text(&r, text, sizeof(text));
    assert_int_equal(yk_rd_u32(&r), flags);
    p->slot = yk_rd_u32(&r);
    p->cookie = yk_rd_u64(&r);
}

static struct peer *peer_open(struct yk_node *node, uint32_t flags) {
    int fd;
    assert_int_equal(yk_node_connect(node, &fd), 0);
    struct peer *p = peer_new(fd);
    hello(p, flags);
    return p;
}

static void peer_close(struct peer *p) {
    for (int i = 0; i < 3; i++)
        if (p->fds[i] >= 0)
            close(p->fds[i]);
    if (p->fd >= 0)
        close(p->fd);
    free(p);
}

struct place {
    uint32_t idx;
    uint64_t gen;
};

static size_t reserve_body(unsigned char *b, size_t cap, uint32_t timeout_ms, uint32_t count,
                           uint64_t len) {
    struct yk_wr w;
    yk_wr_init(&w, b, cap);
    yk_wr_u32(&w, timeout_ms);
    yk_wr_u32(&w, count);
    yk_wr_u64(&w, len);
    return yk_wr_len(&w);
}

/* How many were granted, or the failure; -1: the connection is closed. */
static int reserve(struct peer *p, uint32_t count, uint64_t len, struct place *ret) {
    unsigned char b[64];
    struct yk_rd r;
    if (send_all(p->fd, b, 0) < 0)
        return -1;
    unsigned char f[128];
    size_t n = frame(f, YK_MSG_RESERVE, 2, b, reserve_body(b, sizeof(b), 0, count, len));
    if (send_all(p->fd, f, n) < 0 || !reply(p, &r))
        return -1;
    int rc = (int)yk_rd_u32(&r);
    uint32_t got = yk_rd_u32(&r);
    for (uint32_t i = 0; i < got; i++) {
        struct place at = {yk_rd_u32(&r), yk_rd_u64(&r)};
        yk_rd_u64(&r);
        if (ret != NULL)
            ret[i] = at;
    }
    return rc < 0 ? rc : (int)got;
}

static int abort_one(struct peer *p, struct place at) {
    unsigned char b[64];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 1);
    yk_wr_u32(&w, at.idx);
    yk_wr_u64(&w, at.gen);
    request(p, YK_MSG_ABORT, 3, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 1);
    return (int)yk_rd_u32(&r);
}

static size_t put_head(unsigned char *b, size_t cap, uint32_t timeout_ms, const char *key,
                       uint64_t len) {
    struct yk_attrs a = {0};
    struct yk_wr w;
    yk_wr_init(&w, b, cap);
    yk_wr_u32(&w, timeout_ms);
    yk_wr_u64(&w, len);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, EPOCH);
    yk_wr_attrs(&w, &a);
    yk_wr_str8(&w, key, strlen(key));
    yk_wr_str8(&w, NULL, 0);
    return yk_wr_len(&w);
}

/* Sends a put's frame with `part` of its len bytes. */
static void put_part(struct peer *p, uint32_t timeout_ms, const char *key, uint64_t len,
                     size_t part) {
    unsigned char b[512], f[YK_FRAME_HDR + 512];
    size_t head = put_head(b, sizeof(b), timeout_ms, key, len);
    struct yk_frame fr = {(uint32_t)(head + len), YK_MSG_PUT, 0, 4};
    yk_frame_encode(f, &fr);
    memcpy(f + YK_FRAME_HDR, b, head);
    char *zeros = calloc(1, part + 1);
    assert_int_equal(send_all(p->fd, f, YK_FRAME_HDR + head), 0);
    assert_int_equal(send_all(p->fd, zeros, part), 0);
    free(zeros);
}

static int put(struct peer *p, const char *key, uint64_t len) {
    struct yk_rd r;
    put_part(p, 0, key, len, (size_t)len);
    assert_true(reply(p, &r));
    return (int)yk_rd_u32(&r);
}

static int ping(struct peer *p) {
    struct yk_rd r;
    request(p, YK_MSG_PING, 5, "x", 1);
    return reply(p, &r);
}

/* Waits until a counter of the node has a value. */
#define WAIT_FOR(node, field, value)                                                               \
    do {                                                                                           \
        uint64_t until_ms = yk_boot_ms() + WAIT_MS;                                                \
        while (counters(node).field != (value) && yk_boot_ms() < until_ms)                         \
            poll(NULL, 0, 1);                                                                      \
        assert_int_equal(counters(node).field, (value));                                           \
    } while (0)

static int listen_at(char *path, size_t cap) {
    static int number;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(path, cap, "/tmp/yolk-peers-%d-%d", (int)getpid(), number++);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 256), 0);
    return fd;
}

static int connect_to(int fd, const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* The descriptor and generation of a put under way, as anybody can guess them. */
static struct place put_under_way(const struct peer *mapped) {
    struct yk_shm_hdr hdr;
    struct yk_desc d;
    struct yk_rest rest;
    assert_int_equal(pread(mapped->fds[0], &hdr, sizeof(hdr), 0), sizeof(hdr));
    for (uint32_t i = 0; i < hdr.desc_top; i++) {
        off_t at = (off_t)(hdr.layout.off_desc + i * sizeof(d));
        off_t rest_at = (off_t)(hdr.layout.off_rest + i * sizeof(rest));
        assert_int_equal(pread(mapped->fds[0], &d, sizeof(d), at), sizeof(d));
        assert_int_equal(pread(mapped->fds[0], &rest, sizeof(rest), rest_at), sizeof(rest));
        if (YK_WORD_STATE(d.word) == YK_DESC_RESERVED && rest.owner == 0)
            return (struct place){i, YK_WORD_GEN(d.word)};
    }
    return (struct place){YK_SHM_NONE, 0};
}

static void a_put_under_way_is_nobody_elses(void **state) {
    struct yk_node_opts o = options(8 * MIB);
    struct yk_node *node = start(&o);
    struct peer *victim = peer_open(node, 0);
    struct peer *other = peer_open(node, 0);
    struct peer *mapped = peer_open(node, YK_HELLO_MAP);
    struct yk_rd r;
    put_part(victim, 0, "k", 100000, 1000);
    WAIT_FOR(node, reserved_blocks, 1);
    struct place at = put_under_way(mapped);
    assert_int_not_equal(at.idx, YK_SHM_NONE);
    assert_int_equal(abort_one(other, at), -YK_EGONE);
    assert_int_equal(abort_one(mapped, at), -YK_EGONE);
    assert_int_equal(counters(node).reserved_blocks, 1);
    char *rest = calloc(1, 99000);
    assert_int_equal(send_all(victim->fd, rest, 99000), 0);
    free(rest);
    assert_true(reply(victim, &r));
    assert_int_equal(yk_rd_u32(&r), 0);
    peer_close(victim);
    peer_close(other);
    peer_close(mapped);
    yk_node_stop(node);
}

/* A connection that outlives the process it was granted to (a forked child has it, or bytes are
 * still to be read): nothing can be had through it. */
static void a_dead_process_leaves_nothing(void **state) {
    char path[100];
    struct yk_node_opts o = options(8 * MIB);
    int lfd = listen_at(path, sizeof(path));
    o.listen_fds = &lfd;
    o.listen_fd_count = 1;
    struct yk_node *node = start(&o);
    struct peer *p = peer_new(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    pid_t pid = fork();
    if (pid == 0) {
        if (connect_to(p->fd, path) < 0)
            _exit(1);
        hello(p, YK_HELLO_MAP);
        _exit(reserve(p, 3, 4096, NULL) == 3 ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    WAIT_FOR(node, clients, 1);
    WAIT_FOR(node, reserved_blocks, 0);
    struct peer *next = peer_open(node, YK_HELLO_MAP); /* may have the slot now */
    assert_true(reserve(p, 3, 4096, NULL) < 0);
    assert_int_equal(counters(node).reserved_blocks, 0);
    assert_int_equal(reserve(next, 1, 4096, NULL), 1);
    peer_close(next);
    peer_close(p);
    yk_node_stop(node);
    unlink(path);
}

/* A client that comes back speaks through its new connection alone. */
static void an_older_connection_of_a_slot_is_closed(void **state) {
    struct yk_node_opts o = options(8 * MIB);
    struct yk_node *node = start(&o);
    struct peer *p = peer_open(node, YK_HELLO_MAP);
    struct peer *q = peer_new(-1);
    struct place at[2];
    assert_int_equal(reserve(p, 2, 4096, at), 2);
    assert_int_equal(yk_node_connect(node, &q->fd), 0);
    q->slot = p->slot;
    q->cookie = p->cookie;
    hello(q, YK_HELLO_MAP);
    assert_int_equal(q->slot, p->slot);
    assert_true(reserve(p, 1, 4096, NULL) < 0);
    assert_int_equal(counters(node).reserved_blocks, 2);
    assert_int_equal(abort_one(q, at[0]), 0);
    peer_close(p);
    peer_close(q);
    yk_node_stop(node);
}

/* Reservations whose grant was lost with a connection. */
static void unheard_reservations_end_at_the_next_hello(void **state) {
    struct yk_node_opts o = options(8 * MIB);
    struct yk_node *node = start(&o);
    struct peer *p = peer_open(node, YK_HELLO_MAP);
    struct peer *q = peer_new(-1);
    struct place heard[2], lost[2];
    assert_int_equal(reserve(p, 2, 4096, heard), 2);
    assert_int_equal(reserve(p, 2, 4096, lost), 2);
    q->slot = p->slot;
    q->cookie = p->cookie;
    q->heard = heard[1].gen;
    peer_close(p); /* as if the second grant had never arrived */
    assert_int_equal(yk_node_connect(node, &q->fd), 0);
    hello(q, YK_HELLO_MAP);
    assert_int_equal(counters(node).reserved_blocks, 2);
    assert_int_equal(abort_one(q, lost[0]), -YK_EGONE);
    assert_int_equal(abort_one(q, lost[1]), -YK_EGONE);
    assert_int_equal(abort_one(q, heard[0]), 0);
    assert_int_equal(abort_one(q, heard[1]), 0);
    peer_close(q);
    yk_node_stop(node);
}

/* Clients whose patience ended while the node was stopped: nobody has the slots. */
static void a_hello_that_nobody_waits_for_takes_no_slot(void **state) {
    char path[100];
    unsigned char b[256], f[300];
    struct yk_node_opts o = options(8 * MIB);
    int lfd = listen_at(path, sizeof(path));
    for (int i = 0; i < 5; i++) {
        struct peer *p = peer_new(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        assert_int_equal(connect_to(p->fd, path), 0);
        size_t n = hello_body(p, YK_HELLO_MAP, b, sizeof(b));
        assert_int_equal(send_all(p->fd, f, frame(f, YK_MSG_HELLO, 1, b, n)), 0);
        peer_close(p);
    }
    o.listen_fds = &lfd;
    o.listen_fd_count = 1;
    struct yk_node *node = start(&o);
    struct yk_node_stats st;
    do
        yk_node_stats(node, &st);
    while (st.conns_accepted < 5 || st.conns > 0);
    struct peer *p = peer_open(node, YK_HELLO_MAP);
    WAIT_FOR(node, clients, 2); /* the node's own, and this one */
    yk_node_stats(node, &st);
    assert_int_equal(st.protocol_errors, 0); /* to leave is no error */
    peer_close(p);
    yk_node_stop(node);
    unlink(path);
}

static void gaps_are_closed_while_nobody_asks(void **state) {
    struct yk_node_opts o = options(16 * MIB);
    o.compact_percent = 10;
    struct yk_node *node = start(&o);
    struct peer *p = peer_open(node, 0);
    unsigned char b[16];
    char key[16];
    struct yk_wr w;
    struct yk_rd r;
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "%s%d", i % 4 != 0 ? "go" : "stay", i);
        assert_int_equal(put(p, key, 120000u - (unsigned)(i % 5) * 10000u), 0);
    }
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u8(&w, YK_REMOVE_PREFIX);
    yk_wr_str8(&w, "go", 2);
    request(p, YK_MSG_REMOVE_MANY, 6, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    uint64_t end = yk_now_ns() + WAIT_MS * 1000000ull;
    while (counters(node).background_moves == 0 && yk_now_ns() < end)
        sched_yield();
    assert_true(counters(node).background_moves > 0);
    assert_int_equal(counters(node).blocks, 25);
    peer_close(p);
    yk_node_stop(node);
}

static void requests_go_on_after_a_socket_that_was_full(void **state) {
    enum { N = 400 };
    struct yk_node_opts o = options(8 * MIB);
    struct yk_node *node = start(&o);
    struct peer *p = peer_open(node, 0);
    static unsigned char all[N * 64];
    unsigned char b[64];
    struct yk_wr w;
    struct yk_rd r;
    size_t n = 0;
    assert_int_equal(put(p, "k", 100), 0);
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, EPOCH);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, 100);
    yk_wr_u64(&w, UINT64_MAX);
    yk_wr_str8(&w, "k", 1);
    for (uint64_t i = 0; i < N; i++)
        n += frame(all + n, YK_MSG_GET, i, b, yk_wr_len(&w));
    __atomic_store_n(&full_sends, 1, __ATOMIC_SEQ_CST);
    assert_int_equal(send_all(p->fd, all, n), 0);
    for (uint64_t i = 0; i < N; i++) {
        assert_true(reply(p, &r));
        assert_int_equal(p->f.id, i);
        assert_int_equal(yk_rd_u32(&r), 0);
    }
    peer_close(p);
    yk_node_stop(node);
}

/* Sends the rest of a put that was given up: it is read and dropped, so that the connection is good
 * for more. */
static void put_rest(struct peer *p, size_t len) {
    struct yk_rd r;
    char *rest = calloc(1, len);
    assert_int_equal(send_all(p->fd, rest, len), 0);
    free(rest);
    assert_true(reply(p, &r));
    assert_int_equal((int)yk_rd_u32(&r), -YK_ETIMEDOUT);
    assert_true(ping(p));
}

/* A put whose payload stops coming, or drips, does not keep its place from others, however much time
 * its sender gave it. */
static void half_a_put_gives_its_place_back(void **state) {
    struct yk_node_opts o = options(32 * MIB);
    struct yk_node *node = start(&o);
    struct peer *silent = peer_open(node, 0), *drips = peer_open(node, 0), *q = peer_open(node, 0);
    uint64_t end_ms = yk_boot_ms() + WAIT_MS;
    size_t sent = 1000;
    put_part(silent, UINT32_MAX, "half", 4 * MIB, 1000);
    put_part(drips, UINT32_MAX, "drips", 4 * MIB, sent);
    WAIT_FOR(node, reserved_blocks, 2);
    for (; counters(node).reserved_blocks > 0 && yk_boot_ms() < end_ms; sent += 100) {
        assert_int_equal(send_all(drips->fd, drips->body, 100), 0);
        poll(NULL, 0, 20);
    }
    assert_int_equal(counters(node).reserved_blocks, 0);
    assert_int_equal(put(q, "k", 4 * MIB), 0);
    put_rest(silent, 4 * MIB - 1000);
    put_rest(drips, 4 * MIB - sent);
    peer_close(silent);
    peer_close(drips);
    peer_close(q);
    yk_node_stop(node);
}

/* Out of descriptors: the listener is left alone for a while, the clients there are are served. */
static void descriptors_that_run_out_cost_no_cpu(void **state) {
    char path[100];
    struct rlimit old, low;
    struct yk_node_opts o = options(8 * MIB);
    int lfd = listen_at(path, sizeof(path));
    o.listen_fds = &lfd;
    o.listen_fd_count = 1;
    struct yk_node *node = start(&o);
    struct peer *p = peer_open(node, 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = (struct rlimit){(rlim_t)fd + 1u, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int before = __atomic_load_n(&accepts, __ATOMIC_SEQ_CST);
    assert_int_equal(connect_to(fd, path), 0);
    for (int i = 0; i < 1000; i++)
        assert_true(ping(p));
    int tries = __atomic_load_n(&accepts, __ATOMIC_SEQ_CST) - before;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(tries > 0 && tries < 100);
    struct peer *q = peer_new(fd);
    hello(q, 0); /* accepted in the end */
    peer_close(q);
    peer_close(p);
    yk_node_stop(node);
    unlink(path);
}

/* Places held ahead by those who came first leave room for others. */
static void places_held_ahead_leave_room_for_others(void **state) {
    struct yk_node_opts o = options(16 * MIB);
    struct yk_node *node = start(&o);
    struct peer *p[4];
    for (int i = 0; i < 4; i++)
        p[i] = peer_open(node, YK_HELLO_MAP);
    for (int i = 0; i < 4; i++)
        assert_true(reserve(p[i], 64, 512u << 10, NULL) >= 1);
    for (int i = 0; i < 4; i++)
        peer_close(p[i]);
    yk_node_stop(node);
}

static void *stay(void *arg) {
    for (;;)
        pause();
    return NULL;
}

/* A process whose first thread has left looks like a zombie and lives. */
static void a_process_without_its_first_thread_is_alive(void **state) {
    int up[2];
    char c;
    assert_int_equal(pipe(up), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t t;
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever the test does */
        pthread_create(&t, NULL, stay, NULL);
        (void)!write(up[1], "x", 1);
        pthread_exit(NULL);
    }
    assert_int_equal(read(up[0], &c, 1), 1);
    uint64_t start_time = yk_process_start_time((uint32_t)pid);
    char path[64], line[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    for (int zombie = 0; !zombie;) {
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        assert_non_null(fgets(line, sizeof(line), f));
        fclose(f);
        zombie = strstr(line, ") Z ") != NULL;
    }
    assert_true(yk_process_alive((uint32_t)pid, start_time));
    assert_false(yk_process_alive((uint32_t)pid, start_time + 1));
    assert_int_equal(kill(pid, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(yk_process_alive((uint32_t)pid, start_time)); /* dead, and not reaped */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(yk_process_alive((uint32_t)pid, start_time));
    close(up[0]);
    close(up[1]);
}

/* After an unclean stop every block is read and found good, however small and many they are. */
static void the_scrubber_loses_no_report(void **state) {
    enum { N = 30000 };
    char dir[64], path[200];
    snprintf(dir, sizeof(dir), "/dev/shm/yolk-peers-%d", (int)getpid());
    assert_int_equal(mkdir(dir, 0700), 0);
    struct yk_node_opts o = options(16 * MIB);
    struct yk_err err = {0};
    struct yk_store *s;
    uint32_t ns;
    o.store.segment.dir = dir;
    o.store.segment.name = "t";
    o.store.segment.max_blocks = 2 * N;
    assert_int_equal(yk_store_open(&o.store, &s, &err), 0);
    assert_int_equal(yk_store_ns_open(s, "default", 7, 1, &ns, &err), 0);
    for (uint32_t i = 0; i < N; i++) {
        struct yk_place at;
        assert_int_equal(yk_store_reserve(s, 0, 64, &at, &err), 0);
        char *data = (char *)yk_store_segment(s)->data + at.offset;
        memset(data, (int)i, 64);
        struct yk_commit c = {.idx = at.idx,
                              .epoch = yk_store_ns_epoch(s, ns),
                              .gen = at.gen,
                              .sum = yk_hash64(data, 64),
                              .len = 64,
                              .key = &i,
                              .key_len = sizeof(i)};
        assert_int_equal(yk_store_commit(s, 0, ns, &c), 0);
    }
    yk_store_close(s, 0);
    struct yk_node *node = start(&o);
    WAIT_FOR(node, suspect_blocks, 0);
    assert_int_equal(counters(node).verified, N);
    assert_int_equal(counters(node).blocks, N);
    yk_node_stop(node);
    static const char *const files[] = {"meta", "data", "clients"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/yolk-t.%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_put_under_way_is_nobody_elses),
        cmocka_unit_test(a_dead_process_leaves_nothing),
        cmocka_unit_test(an_older_connection_of_a_slot_is_closed),
        cmocka_unit_test(unheard_reservations_end_at_the_next_hello),
        cmocka_unit_test(a_hello_that_nobody_waits_for_takes_no_slot),
        cmocka_unit_test(gaps_are_closed_while_nobody_asks),
        cmocka_unit_test(requests_go_on_after_a_socket_that_was_full),
        cmocka_unit_test(half_a_put_gives_its_place_back),
        cmocka_unit_test(descriptors_that_run_out_cost_no_cpu),
        cmocka_unit_test(places_held_ahead_leave_room_for_others),
        cmocka_unit_test(a_process_without_its_first_thread_is_alive),
        cmocka_unit_test(the_scrubber_loses_no_report),
    };
    return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
