/* SPDX-License-Identifier: Apache-2.0
 *
 * A node as its peers meet it: raw frames over a socket pair. Each test starts a node with a
 * nameless segment, speaks the protocol of src/wire/msg.h byte by byte, and stops it. What libyolk
 * makes of it is tested in tests/unit/client.
 */
#include "node/node.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/layout.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB     (1u << 20)
#define WAIT_MS 20000

struct peer {
    struct yk_node *node;
    int fd;
    int fds[3];
    uint32_t slot, ns;
    uint64_t cookie, epoch;
    unsigned char body[4 * MIB];
    struct yk_frame f;
};

static struct yk_node *start(uint64_t bytes, uint64_t capacity_blocks) {
    struct yk_node_opts o = {0};
    struct yk_err err = {0};
    struct yk_node *node;
    o.store.segment.data_bytes = bytes;
    o.store.segment.max_clients = 1024;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    o.store.capacity_blocks = capacity_blocks;
    o.store.reserve_percent = 2;
    o.store.held_percent = 50;
    o.populate = 1;
    int rc = yk_node_start(&o, &node, &err);
    if (rc < 0)
        print_error("%s\n", err.text);
    assert_int_equal(rc, 0);
    return node;
}

static void send_all(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        assert_true(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

/* Waits for n bytes; 0 at the end of the stream. */
static int recv_all(int fd, void *data, size_t len, int *ret_fds) {
    char *p = data;
    while (len > 0) {
        struct pollfd pf = {fd, POLLIN, 0};
        assert_true(poll(&pf, 1, WAIT_MS) == 1);
        union {
            char buf[CMSG_SPACE(3 * sizeof(int))];
            struct cmsghdr align;
        } u;
        struct iovec iov = {p, len};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = u.buf,
                           .msg_controllen = sizeof(u.buf)};
        ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
        if (n <= 0)
            return 0;
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        if (h != NULL && ret_fds != NULL)
            memcpy(ret_fds, CMSG_DATA(h), 3 * sizeof(int));
        p += n;
        len -= (size_t)n;
    }
    return 1;
}

static void request(struct peer *p, unsigned op, uint64_t id, const void *body, size_t len) {
    unsigned char hdr[YK_FRAME_HDR];
    struct yk_frame f = {(uint32_t)len, (uint8_t)op, 0, id};
    yk_frame_encode(hdr, &f);
    send_all(p->fd, hdr, sizeof(hdr));
    send_all(p->fd, body, len);
}

/* Receives a reply; its body is in p->body. Returns 0 when the node closed the connection. */
static int reply(struct peer *p, struct yk_rd *r) {
    unsigned char hdr[YK_FRAME_HDR];
    if (!recv_all(p->fd, hdr, sizeof(hdr), p->fds))
        return 0;
    assert_int_equal(yk_frame_decode(hdr, 1u << 30, &p->f, NULL), 0);
    assert_true(p->f.flags & YK_FRAME_REPLY);
    assert_true(p->f.body_bytes <= sizeof(p->body));
    assert_true(recv_all(p->fd, p->body, p->f.body_bytes, NULL));
    yk_rd_init(r, p->body, p->f.body_bytes);
    return 1;
}

static int hello(struct peer *p, uint32_t flags, const char *ns, uint64_t epoch) {
    unsigned char b[256];
    char text[300];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, YK_WIRE_MAGIC);
    yk_wr_u32(&w, YK_WIRE_VERSION);
    yk_wr_u32(&w, flags);
    yk_wr_u32(&w, p->slot);
    yk_wr_u64(&w, p->cookie);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, epoch);
    yk_wr_str8(&w, ns, strlen(ns));
    request(p, YK_MSG_HELLO, 1, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    int rc = (int)yk_rd_u32(&r);
    yk_rd_text(&r, text, sizeof(text));
    if (rc < 0)
        return rc;
    assert_int_equal(yk_rd_u32(&r), flags);
    p->slot = yk_rd_u32(&r);
    p->cookie = yk_rd_u64(&r);
    yk_rd_u64(&r);
    p->ns = yk_rd_u32(&r);
    p->epoch = yk_rd_u64(&r);
    assert_int_equal(yk_rd_u32(&r), getpid());
    for (int i = 0; i < 6; i++)
        yk_rd_u64(&r);
    assert_true(yk_rd_ok(&r));
    return 0;
}

static struct peer *peer_open(struct yk_node *node) {
    struct peer *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->node = node;
    p->fds[0] = p->fds[1] = p->fds[2] = -1;
    assert_int_equal(yk_node_connect(node, &p->fd), 0);
    return p;
}

static void peer_close(struct peer *p) {
    for (int i = 0; i < 3; i++)
        if (p->fds[i] >= 0)
            close(p->fds[i]);
    close(p->fd);
    free(p);
}

static int put(struct peer *p, const char *key, const void *data, size_t len, uint64_t sum,
               uint32_t timeout_ms) {
    size_t cap = len + 512;
    unsigned char *b = malloc(cap);
    struct yk_attrs a = {0};
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, cap);
    yk_wr_u32(&w, timeout_ms);
    yk_wr_u64(&w, len);
    yk_wr_u64(&w, sum);
    yk_wr_u64(&w, p->epoch);
    yk_wr_attrs(&w, &a);
    yk_wr_str8(&w, key, strlen(key));
    yk_wr_str8(&w, NULL, 0);
    yk_wr_bytes(&w, data, len);
    request(p, YK_MSG_PUT, 2, b, yk_wr_len(&w));
    free(b);
    assert_true(reply(p, &r));
    assert_int_equal(p->f.op, YK_MSG_PUT);
    return (int)yk_rd_u32(&r);
}

/* Status; the payload is then at *ret_data, *ret_len. */
static int get(struct peer *p, const char *key, const void **ret_data, uint64_t *ret_len) {
    unsigned char b[300];
    struct yk_wr w;
    struct yk_rd r;
    yk_block_info info;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, p->epoch);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, UINT64_MAX);
    yk_wr_u64(&w, UINT64_MAX);
    yk_wr_str8(&w, key, strlen(key));
    request(p, YK_MSG_GET, 3, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    int rc = (int)yk_rd_u32(&r);
    if (rc != 0)
        return rc;
    yk_rd_info(&r, &info);
    assert_int_equal(yk_rd_u32(&r), YK_GET_INLINE);
    assert_int_equal(yk_rd_u64(&r), 0);
    *ret_len = yk_rd_u64(&r);
    *ret_data = yk_rd_bytes(&r, *ret_len);
    assert_true(yk_rd_ok(&r));
    assert_int_equal(info.checksum, yk_hash64(*ret_data, *ret_len));
    return 0;
}

static void payload_goes_through_the_socket(void **state) {
    struct yk_node *node = start(64 * MIB, 0);
    struct peer *p = peer_open(node);
    const void *data;
    uint64_t len;
    assert_int_equal(hello(p, 0, "default", 0), 0);
    char *big = malloc(3 * MIB);
    for (unsigned i = 0; i < 3 * MIB; i++)
        big[i] = (char)(i * 7);
    assert_int_equal(put(p, "big", big, 3 * MIB, 0, 1000), 0);
    assert_int_equal(put(p, "small", "x", 1, yk_hash64("x", 1), 1000), 0);
    assert_int_equal(put(p, "bad", "x", 1, 12345, 1000), -YK_ECORRUPT);
    assert_int_equal(put(p, "empty", "", 0, 0, 1000), -YK_EINVAL);
    assert_int_equal(put(p, "", "x", 1, 0, 1000), -YK_EKEY);
    assert_int_equal(get(p, "big", &data, &len), 0);
    assert_int_equal(len, 3 * MIB);
    assert_memory_equal(data, big, 3 * MIB);
    assert_int_equal(get(p, "small", &data, &len), 0);
    assert_int_equal(len, 1);
    assert_int_equal(get(p, "none", &data, &len), YK_MISS);
    free(big);
    peer_close(p);
    yk_node_stop(node);
}

static int raise_epoch(struct peer *p, const char *ns, uint64_t epoch) {
    unsigned char b[64];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u8(&w, YK_NS_RAISE);
    yk_wr_u64(&w, epoch);
    yk_wr_str8(&w, ns, strlen(ns));
    request(p, YK_MSG_NS, 4, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    return (int)yk_rd_u32(&r);
}

/* The connection that raises the epoch is no exception: what it began before is of the old one. */
static void every_request_is_of_the_epoch_that_it_carries(void **state) {
    struct yk_node *node = start(16 * MIB, 0);
    struct peer *p = peer_open(node);
    const void *data;
    uint64_t len;
    assert_int_equal(hello(p, 0, "default", 3), 0);
    assert_int_equal(put(p, "k", "old", 3, 0, 1000), 0);
    assert_int_equal(raise_epoch(p, "default", 8), 0);
    assert_int_equal(put(p, "k2", "late", 4, 0, 1000), -YK_ESTALE);
    assert_int_equal(get(p, "k", &data, &len), YK_MISS);
    p->epoch = 8;
    assert_int_equal(get(p, "k", &data, &len), YK_MISS);
    assert_int_equal(get(p, "k2", &data, &len), YK_MISS);
    assert_int_equal(put(p, "k", "new", 3, 0, 1000), 0);
    assert_int_equal(get(p, "k", &data, &len), 0);
    p->epoch = 3;
    assert_int_equal(get(p, "k", &data, &len), YK_MISS);
    peer_close(p);
    yk_node_stop(node);
}

static void reserve_write_commit_through_the_mapping(void **state) {
    struct yk_node *node = start(16 * MIB, 0);
    struct peer *p = peer_open(node);
    unsigned char b[512];
    struct yk_wr w;
    struct yk_rd r;
    struct yk_attrs a = {0};
    const void *data;
    uint64_t len;
    assert_int_equal(hello(p, YK_HELLO_MAP, "default", 0), 0);
    assert_true(p->slot > 0 && p->cookie != 0);
    char *map = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, p->fds[1], 0);
    assert_true(map != MAP_FAILED);
    assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p->fds[0], 0) == MAP_FAILED);
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 0);
    yk_wr_u32(&w, 2);
    yk_wr_u64(&w, 5000);
    request(p, YK_MSG_RESERVE, 9, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 0);
    assert_int_equal(yk_rd_u32(&r), 2);
    uint32_t idx = yk_rd_u32(&r);
    uint64_t gen = yk_rd_u64(&r), offset = yk_rd_u64(&r);
    memset(map + offset, 'z', 5000);
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 1);
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, 5000);
    yk_wr_u32(&w, idx);
    yk_wr_u64(&w, gen);
    yk_wr_u64(&w, p->epoch);
    yk_wr_u64(&w, yk_hash64(map + offset, 5000));
    yk_wr_u32(&w, 5000);
    yk_wr_attrs(&w, &a);
    yk_wr_str8(&w, "k", 1);
    yk_wr_str8(&w, NULL, 0);
    request(p, YK_MSG_COMMIT, 10, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 1);
    assert_int_equal(yk_rd_u32(&r), 0);
    assert_int_equal(yk_rd_u32(&r), 1); /* the refill */
    assert_int_equal(get(p, "k", &data, &len), 0);
    assert_int_equal(len, 5000);
    request(p, YK_MSG_BYE, 11, NULL, 0);
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 0);
    struct yk_node_stats st;
    yk_node_stats(node, &st);
    assert_int_equal(st.store.reserved_blocks, 0);
    munmap(map, 16 * MIB);
    peer_close(p);
    yk_node_stop(node);
}

/* What is asked after a verification that takes long is answered before it. */
static void verifying_holds_nobody(void **state) {
    enum { N = 20 };
    struct yk_node *node = start(64 * MIB, 0);
    struct peer *p = peer_open(node), *q = peer_open(node);
    unsigned char b[1024];
    struct yk_wr w;
    struct yk_rd r;
    char *big = calloc(1, 3 * MIB);
    assert_int_equal(hello(p, 0, "default", 0), 0);
    assert_int_equal(hello(q, 0, "default", 0), 0);
    assert_int_equal(put(p, "big", big, 3 * MIB, 0, 100), 0);
    yk_wr_init(&w, b + YK_FRAME_HDR, sizeof(b) - YK_FRAME_HDR);
    yk_wr_u64(&w, p->epoch);
    yk_wr_u32(&w, N + 2);
    for (int i = 0; i < N + 2; i++) {
        yk_wr_u8(&w, i == N ? YK_CHANGE_REMOVE : YK_CHANGE_VERIFY);
        yk_wr_u64(&w, 0);
        yk_wr_str8(&w, i == 1 ? "no" : "big", i == 1 ? 2 : 3);
    }
    struct yk_frame f = {(uint32_t)yk_wr_len(&w), YK_MSG_CHANGE, 0, 21};
    yk_frame_encode(b, &f);
    struct yk_frame ping = {0, YK_MSG_PING, 0, 22};
    yk_frame_encode(b + YK_FRAME_HDR + yk_wr_len(&w), &ping);
    send_all(p->fd, b, 2 * YK_FRAME_HDR + yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(p->f.id, 22);
    assert_true(reply(p, &r));
    assert_int_equal(p->f.id, 21);
    assert_int_equal(yk_rd_u32(&r), N + 2);
    for (int i = 0; i < N + 2; i++) /* in order: the last one after the removal */
        assert_int_equal(yk_rd_u32(&r), i == 1 || i == N + 1 ? YK_MISS : 0);
    /* One who leaves meanwhile leaves nothing behind. */
    assert_int_equal(put(p, "big", big, 3 * MIB, 0, 100), 0);
    send_all(p->fd, b, YK_FRAME_HDR + f.body_bytes);
    peer_close(p);
    assert_int_equal(put(q, "k", "v", 1, 0, 100), 0);
    peer_close(q);
    free(big);
    yk_node_stop(node);
}

static uint64_t wait_for_buffers(struct yk_node *node, uint64_t least, uint64_t most) {
    struct yk_node_stats st;
    uint64_t end = yk_now_ns() + WAIT_MS * 1000000ull;
    do {
        sched_yield();
        yk_node_stats(node, &st);
    } while ((st.conn_buffer_bytes < least || st.conn_buffer_bytes > most) && yk_now_ns() < end);
    return st.conn_buffer_bytes;
}

static void quiet_connections_have_no_buffers(void **state) {
    struct yk_node *node = start(16 * MIB, 0);
    struct peer *p = peer_open(node);
    unsigned char *ping = calloc(1, YK_FRAME_HDR + MIB);
    struct yk_frame f = {MIB, YK_MSG_PING, 0, 5};
    struct yk_rd r;
    yk_frame_encode(ping, &f);
    assert_int_equal(hello(p, 0, "default", 0), 0);
    for (int i = 0; i < 2; i++) {
        send_all(p->fd, ping, MIB / 2); /* what has arrived in part is kept */
        assert_true(wait_for_buffers(node, MIB, UINT64_MAX) >= MIB);
        send_all(p->fd, ping + MIB / 2, YK_FRAME_HDR + MIB - MIB / 2);
        assert_true(reply(p, &r));
        assert_int_equal(wait_for_buffers(node, 0, 0), 0);
    }
    free(ping);
    peer_close(p);
    yk_node_stop(node);
}

static void a_put_waits_for_space_until_its_deadline(void **state) {
    struct yk_node *node = start(4 * MIB, 0);
    struct peer *p = peer_open(node);
    struct peer *q = peer_open(node);
    unsigned char b[64];
    struct yk_wr w;
    struct yk_rd r;
    char *data = calloc(1, 3 * MIB);
    assert_int_equal(hello(p, YK_HELLO_MAP, "default", 0), 0);
    assert_int_equal(hello(q, 0, "default", 0), 0);
    /* Half of the tier may be held: the first lone one is granted, the next must wait. */
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 0);
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, 3 * MIB);
    request(p, YK_MSG_RESERVE, 1, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 0);
    yk_rd_u32(&r);
    uint32_t idx = yk_rd_u32(&r);
    uint64_t gen = yk_rd_u64(&r);
    assert_int_equal(put(q, "k", data, 3 * MIB, 0, 0), -YK_ENOSPC);
    uint64_t t0 = yk_now_ns();
    assert_int_equal(put(q, "k", data, 3 * MIB, 0, 50), -YK_ENOSPC);
    assert_true(yk_now_ns() - t0 >= 50000000u);
    /* With time enough it gets its place as soon as the other gives one back. */
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 1);
    yk_wr_u32(&w, idx);
    yk_wr_u64(&w, gen);
    request(p, YK_MSG_ABORT, 2, b, yk_wr_len(&w));
    assert_int_equal(put(q, "k", data, 3 * MIB, 0, WAIT_MS), 0);
    assert_true(reply(p, &r));
    free(data);
    peer_close(p);
    peer_close(q);
    yk_node_stop(node);
}

static void who_says_goodbye_while_it_waits_gets_no_place(void **state) {
    (void)state;
    struct yk_node *node = start(4 * MIB, 0);
    struct peer *p = peer_open(node), *q = peer_open(node);
    unsigned char b[64];
    struct yk_wr w;
    struct yk_rd r;
    struct yk_node_stats st;
    assert_int_equal(hello(p, YK_HELLO_MAP, "default", 0), 0);
    assert_int_equal(hello(q, YK_HELLO_MAP, "default", 0), 0);
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, WAIT_MS);
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, 3 * MIB);
    request(p, YK_MSG_RESERVE, 1, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    request(q, YK_MSG_RESERVE, 1, b, yk_wr_len(&w)); /* waits for p's */
    request(q, YK_MSG_BYE, 2, NULL, 0);
    assert_true(reply(q, &r));
    assert_int_equal(yk_rd_u32(&r), 0);
    request(p, YK_MSG_BYE, 2, NULL, 0);
    assert_true(reply(p, &r));
    assert_true(reply(q, &r));
    assert_int_equal(yk_rd_u32(&r), (uint32_t)-YK_EGONE);
    yk_node_stats(node, &st);
    assert_int_equal(st.store.reserved_blocks, 0);
    peer_close(p);
    peer_close(q);
    yk_node_stop(node);
}

static void garbage_gets_an_error_and_is_closed(void **state) {
    struct yk_node *node = start(4 * MIB, 0);
    static const char *const junk[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00 huge",
        "\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00 before hello",
    };
    const size_t lens[] = {28, 21, 29};
    for (int i = 0; i < 3; i++) {
        struct peer *p = peer_open(node);
        struct yk_rd r;
        char text[300];
        send_all(p->fd, junk[i], lens[i]);
        assert_true(reply(p, &r));
        assert_int_equal(p->f.op, YK_MSG_ERROR);
        assert_int_equal((int)yk_rd_u32(&r), -YK_EPROTO);
        yk_rd_text(&r, text, sizeof(text));
        assert_true(strlen(text) > 10);
        assert_false(reply(p, &r)); /* closed */
        peer_close(p);
    }
    /* Half a message and then nothing, then death: nobody else notices. */
    struct peer *half = peer_open(node);
    send_all(half->fd, "\x40\x00\x00", 3);
    struct peer *p = peer_open(node);
    assert_int_equal(hello(p, 0, "default", 0), 0);
    assert_int_equal(put(p, "k", "v", 1, 0, 100), 0);
    peer_close(half);
    peer_close(p);
    yk_node_stop(node);
}

static void malformed_bodies_of_every_op_are_refused(void **state) {
    struct yk_node *node = start(4 * MIB, 0);
    unsigned seed = 7;
    for (unsigned op = 1; op < YK_MSG_OPS; op++) {
        for (int round = 0; round < 20; round++) {
            struct peer *p = peer_open(node);
            unsigned char b[400];
            assert_int_equal(hello(p, round % 2 ? YK_HELLO_MAP : 0, "default", 0), 0);
            size_t len = (size_t)rand_r(&seed) % sizeof(b);
            for (size_t i = 0; i < len; i++)
                b[i] = (unsigned char)(rand_r(&seed) % (round < 10 ? 4 : 256));
            request(p, op, 5, b, len);
            shutdown(p->fd, SHUT_WR);
            char sink[4096];
            while (recv(p->fd, sink, sizeof(sink), 0) > 0)
                ; /* whatever it answers, it ends */
            peer_close(p);
        }
    }
    struct peer *p = peer_open(node);
    assert_int_equal(hello(p, 0, "default", 0), 0);
    assert_int_equal(put(p, "k", "v", 1, 0, 100), 0);
    peer_close(p);
    yk_node_stop(node);
}

static void epochs_are_checked_at_hello(void **state) {
    struct yk_node *node = start(4 * MIB, 0);
    struct peer *p = peer_open(node), *q = peer_open(node), *o = peer_open(node);
    const void *data;
    uint64_t len;
    assert_int_equal(hello(p, 0, "m", 5), 0);
    assert_int_equal(put(p, "k", "v", 1, 0, 100), 0);
    assert_int_equal(hello(q, 0, "m", 6), 0); /* a higher one is learnt */
    assert_int_equal(get(q, "k", &data, &len), YK_MISS);
    assert_int_equal(get(p, "k", &data, &len), YK_MISS);
    assert_int_equal(put(p, "k", "v", 1, 0, 100), -YK_ESTALE);
    assert_int_equal(hello(o, 0, "m", 5), -YK_ESTALE);
    peer_close(p);
    peer_close(q);
    peer_close(o);
    yk_node_stop(node);
}

static void a_peer_that_does_not_read_holds_nobody(void **state) {
    struct yk_node *node = start(64 * MIB, 0);
    struct peer *p = peer_open(node), *q = peer_open(node);
    char *big = calloc(1, 2 * MIB);
    unsigned char b[64];
    struct yk_wr w;
    assert_int_equal(hello(p, 0, "default", 0), 0);
    assert_int_equal(hello(q, 0, "default", 0), 0);
    assert_int_equal(put(p, "big", big, 2 * MIB, 0, 100), 0);
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, p->epoch);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, UINT64_MAX);
    yk_wr_u64(&w, UINT64_MAX);
    yk_wr_str8(&w, "big", 3);
    for (int i = 0; i < 200; i++) { /* 400 MiB of replies that nobody reads */
        unsigned char hdr[YK_FRAME_HDR];
        struct yk_frame f = {(uint32_t)yk_wr_len(&w), YK_MSG_GET, 0, (uint64_t)i};
        yk_frame_encode(hdr, &f);
        if (send(p->fd, hdr, sizeof(hdr), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(hdr) ||
            send(p->fd, b, yk_wr_len(&w), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
    }
    for (int i = 0; i < 100; i++) {
        const void *data;
        uint64_t len;
        assert_int_equal(put(q, "k", "v", 1, 0, 100), 0);
        assert_int_equal(get(q, "k", &data, &len), 0);
    }
    peer_close(p);
    peer_close(q);
    free(big);
    yk_node_stop(node);
}

static void statistics_are_one_json_object(void **state) {
    struct yk_node *node = start(4 * MIB, 0);
    char *json = NULL;
    assert_int_equal(yk_node_stats_json(node, &json), 0);
    assert_int_equal(json[0], '{');
    assert_int_equal(json[strlen(json) - 1], '}');
    assert_non_null(strstr(json, "\"blocks\":0"));
    free(json);
    yk_node_stop(node);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payload_goes_through_the_socket),
        cmocka_unit_test(every_request_is_of_the_epoch_that_it_carries),
        cmocka_unit_test(reserve_write_commit_through_the_mapping),
        cmocka_unit_test(verifying_holds_nobody),
        cmocka_unit_test(quiet_connections_have_no_buffers),
        cmocka_unit_test(a_put_waits_for_space_until_its_deadline),
        cmocka_unit_test(who_says_goodbye_while_it_waits_gets_no_place),
        cmocka_unit_test(garbage_gets_an_error_and_is_closed),
        cmocka_unit_test(malformed_bodies_of_every_op_are_refused),
        cmocka_unit_test(epochs_are_checked_at_hello),
        cmocka_unit_test(a_peer_that_does_not_read_holds_nobody),
        cmocka_unit_test(statistics_are_one_json_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
