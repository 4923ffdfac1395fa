/* SPDX-License-Identifier: Apache-2.0
 *
 * A node and clients that cannot map its memory: their payload goes through a real transfer engine of the
 * test's, over tcp, guarded by what the node's messages say; and what is asked late, twice, or by somebody
 * else changes nothing.
 */
#include "node/node.h"

#include "base/clock.h"
#include "base/hash.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <yolk/transfer.h>

#define MIB     (1u << 20)
#define WAIT_MS 20000
#define EPOCH   1 /* that of a fresh namespace */
#define LIMIT   (64u << 10) /* of payload in replies */

struct peer {
    int fd;
    uint32_t granted;
    char addresses[1024], segment[128];
    unsigned char body[4 * MIB];
    struct yk_frame f;
};

struct place {
    uint32_t idx;
    uint64_t gen, offset;
};

static char block[MIB]; /* what is put */
static yk_xfer *engine; /* the test's */

/* ---- frames ---------------------------------------------------------------------------------- */

static void request(struct peer *p, unsigned op, const void *body, size_t len) {
    unsigned char hdr[YK_FRAME_HDR];
    struct yk_frame f = {(uint32_t)len, (uint8_t)op, 0, 7};
    yk_frame_encode(hdr, &f);
    assert_int_equal(send(p->fd, hdr, sizeof(hdr), MSG_NOSIGNAL), sizeof(hdr));
    for (size_t at = 0; at < len;) {
        ssize_t n = send(p->fd, (const char *)body + at, len - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

static int recv_all(struct peer *p, void *data, size_t len) {
    for (size_t at = 0; at < len;) {
        struct pollfd pf = {p->fd, POLLIN, 0};
        assert_int_equal(poll(&pf, 1, WAIT_MS), 1);
        ssize_t n = recv(p->fd, (char *)data + at, len - at, 0);
        if (n <= 0)
            return 0;
        at += (size_t)n;
    }
    return 1;
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

/* ---- nodes and peers ---------------------------------------------------------------------------- */

static struct yk_node_opts options(const char *transfer) {
    struct yk_node_opts o = {0};
    o.store.segment.data_bytes = 16 * MIB;
    o.store.segment.max_clients = 8;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    o.store.reserve_percent = 2;
    o.store.held_percent = 50;
    o.transfer = transfer;
    return o;
}

static struct yk_node *start_with(const struct yk_node_opts *o) {
    struct yk_err err = {0};
    struct yk_node *node;
    int rc = yk_node_start(o, &node, &err);
    if (rc < 0)
        print_error("%s\n", err.text);
    assert_int_equal(rc, 0);
    return node;
}

static struct yk_node *start(void) {
    struct yk_node_opts o = options("127.0.0.1:0");
    return start_with(&o);
}

static struct yk_counters counters(struct yk_node *node) {
    struct yk_node_stats st;
    yk_node_stats(node, &st);
    return st.store;
}

#define WAIT_FOR(node, field, value)                                                               \
    do {                                                                                           \
        uint64_t until_ms = yk_boot_ms() + WAIT_MS;                                                \
        while (counters(node).field != (value) && yk_boot_ms() < until_ms)                         \
            poll(NULL, 0, 1);                                                                      \
        assert_int_equal(counters(node).field, (value));                                           \
    } while (0)

static int hello(struct peer *p, uint32_t version, uint32_t flags) {
    unsigned char b[256];
    char text[300];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, YK_WIRE_MAGIC);
    yk_wr_u32(&w, version);
    yk_wr_u32(&w, flags);
    yk_wr_u32(&w, 0);
    for (int i = 0; i < 3; i++)
        yk_wr_u64(&w, 0);
    yk_wr_str8(&w, "default", 7);
    request(p, YK_MSG_HELLO, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    int rc = (int)yk_rd_u32(&r);
    yk_rd_text(&r, text, sizeof(text));
    if (rc < 0)
        return rc;
    p->granted = yk_rd_u32(&r);
    yk_rd_bytes(&r, 4 + 8 + 8 + 4 + 8 + 4 + 6 * 8);
    if (p->granted & YK_HELLO_XFER) {
        yk_rd_text(&r, p->addresses, sizeof(p->addresses));
        yk_rd_text(&r, p->segment, sizeof(p->segment));
    }
    assert_true(yk_rd_ok(&r));
    return 0;
}

static struct peer *peer_raw(struct yk_node *node) {
    struct peer *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    assert_int_equal(yk_node_connect(node, &p->fd), 0);
    return p;
}

static struct peer *peer_open(struct yk_node *node, uint32_t flags) {
    struct peer *p = peer_raw(node);
    assert_int_equal(hello(p, YK_WIRE_VERSION, flags), 0);
    return p;
}

static void peer_close(struct peer *p) {
    close(p->fd);
    free(p);
}

/* ---- the store's messages ------------------------------------------------------------------------ */

static int put(struct peer *p, const char *key, const void *data, size_t len) {
    struct yk_attrs a = {0};
    unsigned char *b = malloc(len + 512);
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, len + 512);
    yk_wr_u32(&w, 1000);
    yk_wr_u64(&w, len);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, EPOCH);
    yk_wr_attrs(&w, &a);
    yk_wr_str8(&w, key, strlen(key));
    yk_wr_str8(&w, NULL, 0);
    yk_wr_bytes(&w, data, len);
    request(p, YK_MSG_PUT, b, yk_wr_len(&w));
    free(b);
    assert_true(reply(p, &r));
    return (int)yk_rd_u32(&r);
}

struct got {
    yk_block_info info;
    uint32_t idx;
    uint64_t place, n;
    const void *data; /* of a reply with payload; in the peer's body */
};

static int get_range(struct peer *p, const char *key, uint64_t offset, uint64_t max_len, uint64_t inline_max,
                     struct got *ret) {
    unsigned char b[300];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, EPOCH);
    yk_wr_u64(&w, offset);
    yk_wr_u64(&w, max_len);
    yk_wr_u64(&w, inline_max);
    yk_wr_str8(&w, key, strlen(key));
    request(p, YK_MSG_GET, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    int rc = (int)yk_rd_u32(&r);
    if (rc != 0)
        return rc;
    yk_rd_info(&r, &ret->info);
    ret->idx = yk_rd_u32(&r);
    ret->place = yk_rd_u64(&r);
    ret->n = yk_rd_u64(&r);
    ret->data = ret->idx == YK_GET_INLINE ? yk_rd_bytes(&r, ret->n) : NULL;
    assert_true(yk_rd_ok(&r));
    assert_int_equal(yk_rd_left(&r), 0);
    return 0;
}

static int get(struct peer *p, const char *key, uint64_t inline_max, struct got *ret) {
    return get_range(p, key, 0, UINT64_MAX, inline_max, ret);
}

static int change(struct peer *p, unsigned what, uint64_t arg, const char *key) {
    unsigned char b[300];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, EPOCH);
    yk_wr_u32(&w, 1);
    yk_wr_u8(&w, (uint8_t)what);
    yk_wr_u64(&w, arg);
    yk_wr_str8(&w, key, strlen(key));
    request(p, YK_MSG_CHANGE, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 1);
    return (int)yk_rd_u32(&r);
}

static void reserve_send(struct peer *p, uint32_t timeout_ms, uint64_t len) {
    unsigned char b[64];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, timeout_ms);
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, len);
    request(p, YK_MSG_RESERVE, b, yk_wr_len(&w));
}

static int reserve_reply(struct peer *p, struct place *ret) {
    struct yk_rd r;
    assert_true(reply(p, &r));
    int rc = (int)yk_rd_u32(&r);
    if (yk_rd_u32(&r) == 1) {
        ret->idx = yk_rd_u32(&r);
        ret->gen = yk_rd_u64(&r);
        ret->offset = yk_rd_u64(&r);
    }
    assert_true(yk_rd_ok(&r));
    return rc;
}

static int reserve(struct peer *p, uint64_t len, struct place *ret) {
    reserve_send(p, 0, len);
    return reserve_reply(p, ret);
}

static int commit(struct peer *p, const struct place *at, const char *key, uint32_t len, uint64_t sum) {
    unsigned char b[512];
    struct yk_attrs a = {0};
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 1);
    yk_wr_u32(&w, 0);
    yk_wr_u64(&w, 0);
    yk_wr_u32(&w, at->idx);
    yk_wr_u64(&w, at->gen);
    yk_wr_u64(&w, EPOCH);
    yk_wr_u64(&w, sum);
    yk_wr_u32(&w, len);
    yk_wr_attrs(&w, &a);
    yk_wr_str8(&w, key, strlen(key));
    yk_wr_str8(&w, NULL, 0);
    request(p, YK_MSG_COMMIT, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 1);
    return (int)yk_rd_u32(&r);
}

static int abort_place(struct peer *p, const struct place *at) {
    unsigned char b[64];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 1);
    yk_wr_u32(&w, at->idx);
    yk_wr_u64(&w, at->gen);
    request(p, YK_MSG_ABORT, b, yk_wr_len(&w));
    assert_true(reply(p, &r));
    assert_int_equal(yk_rd_u32(&r), 1);
    return (int)yk_rd_u32(&r);
}

/* ---- transfers --------------------------------------------------------------------------------- */

static char local[4 * MIB];          /* registered */
static uint32_t within_ms = WAIT_MS; /* how long a transfer may take */

static int engine_start(void **state) {
    yk_xfer_opts opts = {.size = sizeof(opts), .transports = YK_XFER_TCP, .shm_dir = ""};
    yk_xfer_memory m = {.addr = local, .length = sizeof(local), .fd = -1};
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (char)(i * 7 + i / 256);
    return yk_xfer_create(&opts, &engine) == 0 && yk_xfer_register(engine, &m, 1) == 0 ? 0 : -1;
}

static int engine_stop(void **state) {
    yk_xfer_destroy(engine);
    return 0;
}

static yk_xfer_segment open_segment(const struct peer *p) {
    char where[2048];
    yk_xfer_segment s = 0;
    snprintf(where, sizeof(where), "%s/%s", p->addresses, p->segment);
    int rc = yk_xfer_open(engine, where, WAIT_MS, &s);
    if (rc < 0)
        print_error("%s: %s\n", where, yk_xfer_error_text());
    assert_int_equal(rc, 0);
    return s;
}

static int move(yk_xfer_segment s, uint32_t op, uint64_t offset, uint64_t len, const yk_xfer_guard *guard) {
    yk_xfer_request q = {
        .op = op, .local = local, .segment = s, .offset = offset, .length = len, .guard = guard};
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = YK_XFER_DEMAND, .timeout_ms = within_ms};
    return yk_xfer_run(engine, &q, 1, &o);
}

static int read_got(yk_xfer_segment s, const struct got *g) {
    yk_xfer_guard guard = {.descriptor = g->idx, .generation = g->info.generation, .epoch = g->info.epoch};
    memset(local, 0, sizeof(local));
    return move(s, YK_XFER_READ, g->place, g->n, &guard);
}

static int write_place(yk_xfer_segment s, const struct place *at, const void *data, uint64_t len) {
    yk_xfer_guard guard = {.descriptor = at->idx, .generation = at->gen};
    memcpy(local, data, len);
    return move(s, YK_XFER_WRITE, at->offset, len, &guard);
}

/* ---- HELLO --------------------------------------------------------------------------------------- */

static void the_engine_is_granted_to_who_asks(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER), *q = peer_open(node, 0);
    struct peer *m = peer_open(node, YK_HELLO_MAP | YK_HELLO_XFER);
    assert_int_equal(p->granted, YK_HELLO_XFER);
    assert_non_null(strstr(p->addresses, "127.0.0.1:"));
    assert_memory_equal(p->addresses, "engine=", 7); /* after a restart nobody is taken for it */
    assert_string_equal(strchr(p->addresses, ',') + 1, yk_node_transfer(node));
    assert_true(p->segment[0] != 0);
    assert_int_equal(q->granted, 0);
    assert_int_equal(m->granted, YK_HELLO_MAP | YK_HELLO_XFER);
    yk_xfer_segment_info info;
    yk_xfer_segment s = open_segment(p);
    assert_int_equal(yk_xfer_segment_stat(engine, s, &info), 0);
    assert_int_equal(info.length, 16 * MIB);
    assert_int_equal(info.guarded, 1);
    yk_xfer_close(engine, s);
    peer_close(p);
    peer_close(q);
    peer_close(m);
    yk_node_stop(node);
}

static void a_node_without_an_engine_grants_none(void **state) {
    struct yk_node_opts o = options("off");
    struct yk_node *node = start_with(&o);
    struct peer *p = peer_open(node, YK_HELLO_XFER);
    struct place at;
    struct got g;
    assert_string_equal(yk_node_transfer(node), "");
    assert_int_equal(p->granted, 0);
    assert_int_equal(reserve(p, 1000, &at), -YK_ENOTSUP);
    assert_int_equal(put(p, "k", block, MIB), 0);
    assert_int_equal(get(p, "k", 0, &g), 0); /* whatever it says */
    assert_int_equal(g.idx, YK_GET_INLINE);
    assert_memory_equal(g.data, block, MIB);
    peer_close(p);
    yk_node_stop(node);
}

static void other_versions_are_refused(void **state) {
    struct yk_node *node = start();
    for (uint32_t v = 1; v < 6; v++) {
        struct peer *p = peer_raw(node);
        assert_int_equal(hello(p, v, YK_HELLO_XFER), v == YK_WIRE_VERSION ? 0 : -YK_EVERSION);
        peer_close(p);
    }
    yk_node_stop(node);
}

static void it_listens_where_it_should(void **state) {
    struct yk_node_opts o = options("auto");
    struct yk_err err = {0};
    struct yk_node *other;
    assert_int_equal(yk_parse_addr("tcp:127.0.0.1:0", &o.listen[0], &err), 0);
    o.listen_count = 1;
    struct yk_node *node = start_with(&o);
    assert_memory_equal(yk_node_transfer(node), "127.0.0.1:", 10);
    char taken[128];
    snprintf(taken, sizeof(taken), "%.*s", (int)strcspn(yk_node_transfer(node), ","),
             yk_node_transfer(node));
    o = options(taken);
    assert_int_equal(yk_node_start(&o, &other, &err), -YK_EBUSY);
    assert_non_null(strstr(err.text, "--transfer"));
    assert_non_null(strstr(err.text, taken));
    o = options("192.0.2.1:0");
    assert_int_equal(yk_node_start(&o, &other, &err), -YK_EPERM);
    yk_node_stop(node);
    o = options("auto"); /* nobody comes over tcp */
    node = start_with(&o);
    assert_string_equal(yk_node_transfer(node), "");
    yk_node_stop(node);
}

/* ---- GET ----------------------------------------------------------------------------------------- */

static void a_large_block_is_located_and_read(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER);
    yk_xfer_segment s = open_segment(p);
    struct got g;
    assert_int_equal(put(p, "big", block, MIB), 0);
    assert_int_equal(put(p, "small", block, LIMIT), 0);
    assert_int_equal(get(p, "big", LIMIT, &g), 0);
    assert_int_not_equal(g.idx, YK_GET_INLINE);
    assert_int_equal(g.n, MIB);
    assert_int_equal(g.info.checksum, yk_hash64(block, MIB));
    assert_int_equal(read_got(s, &g), 0);
    assert_memory_equal(local, block, MIB);
    assert_int_equal(get_range(p, "big", 1000, 200000, LIMIT, &g), 0);
    assert_int_equal(g.n, 200000);
    assert_int_equal(read_got(s, &g), 0);
    assert_memory_equal(local, block + 1000, 200000);
    assert_int_equal(get_range(p, "big", MIB - 100, UINT64_MAX, LIMIT, &g), 0);
    assert_int_equal(g.idx, YK_GET_INLINE);
    assert_int_equal(g.n, 100);
    assert_memory_equal(g.data, block + MIB - 100, 100);
    assert_int_equal(get_range(p, "big", MIB, UINT64_MAX, 0, &g), 0); /* nothing is read of nothing */
    assert_int_equal(g.idx, YK_GET_INLINE);
    assert_int_equal(g.n, 0);
    assert_int_equal(get_range(p, "big", MIB + 1, 1, 0, &g), -YK_EINVAL);
    assert_int_equal(get(p, "small", LIMIT, &g), 0);
    assert_int_equal(g.idx, YK_GET_INLINE);
    assert_int_equal(get(p, "none", LIMIT, &g), YK_MISS);
    struct yk_counters n = counters(node);
    assert_int_equal(n.located_gets, 2);
    assert_int_equal(n.located_bytes, MIB + 200000);
    assert_int_equal(n.remote_read_bytes, MIB + 200000);
    assert_int_equal(n.node_hits, 5);
    assert_int_equal(n.node_misses, 1);
    yk_xfer_close(engine, s);
    peer_close(p);
    yk_node_stop(node);
}

static void a_guard_that_fails_is_asked_for_again_and_counts_once(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER);
    yk_xfer_segment s = open_segment(p);
    struct got g, h;
    assert_int_equal(put(p, "k", block, MIB), 0);
    assert_int_equal(get(p, "k", LIMIT, &g), 0);
    assert_int_equal(change(p, YK_CHANGE_REMOVE, 0, "k"), 0);
    assert_int_equal(read_got(s, &g), YK_MISS);
    assert_int_equal(get(p, "k", UINT64_MAX, &h), YK_MISS); /* the same lookup */
    assert_int_equal(counters(node).node_hits, 1);
    assert_int_equal(counters(node).node_misses, 0);
    assert_int_equal(get(p, "k", UINT64_MAX, &h), YK_MISS); /* another */
    assert_int_equal(counters(node).node_misses, 1);
    assert_int_equal(put(p, "k", block, MIB), 0); /* the same bytes, another block */
    assert_int_equal(read_got(s, &g), YK_MISS);
    assert_int_equal(get(p, "k", LIMIT, &h), 0);
    assert_int_equal(get(p, "k", UINT64_MAX, &h), 0);
    assert_int_equal(h.idx, YK_GET_INLINE);
    assert_memory_equal(h.data, block, MIB);
    assert_int_equal(counters(node).node_hits, 2);
    assert_int_equal(counters(node).node_get_bytes, 0);
    assert_true(counters(node).remote_missed >= 2);
    yk_xfer_close(engine, s);
    peer_close(p);
    yk_node_stop(node);
}

static void without_a_guard_nothing_is_touched(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER);
    yk_xfer_segment s = open_segment(p);
    struct got g;
    assert_int_equal(put(p, "k", block, MIB), 0);
    assert_int_equal(get(p, "k", LIMIT, &g), 0);
    assert_int_equal(move(s, YK_XFER_READ, g.place, g.n, NULL), -YK_EPERM);
    memset(local, 'x', MIB);
    assert_int_equal(move(s, YK_XFER_WRITE, g.place, g.n, NULL), -YK_EPERM);
    yk_xfer_guard guard = {.descriptor = g.idx, .generation = g.info.generation, .epoch = g.info.epoch};
    assert_int_equal(move(s, YK_XFER_WRITE, g.place, g.n, &guard), YK_MISS); /* a block is no place */
    assert_int_equal(read_got(s, &g), 0);
    assert_memory_equal(local, block, MIB);
    yk_xfer_close(engine, s);
    peer_close(p);
    yk_node_stop(node);
}

/* ---- RESERVE, COMMIT, ABORT --------------------------------------------------------------------- */

static void a_place_is_written_and_committed(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER), *q = peer_open(node, YK_HELLO_XFER);
    yk_xfer_segment s = open_segment(p);
    struct place at = {0}, late;
    struct got g;
    uint64_t sum = yk_hash64(block, MIB);
    assert_int_equal(reserve(p, MIB, &at), 0);
    WAIT_FOR(node, remote_places, 1);
    assert_int_equal(write_place(s, &at, block, MIB), 0);
    assert_int_equal(commit(q, &at, "k", MIB, sum), -YK_EGONE); /* not its own */
    assert_int_equal(abort_place(q, &at), -YK_EGONE);
    assert_int_equal(commit(p, &at, "k", MIB, sum), 0);
    assert_int_equal(get(q, "k", LIMIT, &g), 0);
    assert_int_equal(read_got(s, &g), 0);
    assert_memory_equal(local, block, MIB);
    late = at;
    memset(local, 'x', MIB);
    assert_int_equal(write_place(s, &late, local, MIB), YK_MISS);
    assert_int_equal(read_got(s, &g), 0);
    assert_memory_equal(local, block, MIB);
    struct yk_counters n = counters(node);
    assert_int_equal(n.remote_places, 0);
    assert_int_equal(n.remote_write_bytes, MIB);
    assert_int_equal(n.commits, 1);
    yk_xfer_close(engine, s);
    peer_close(p);
    peer_close(q);
    yk_node_stop(node);
}

static void payload_that_is_not_what_its_writer_says_is_refused(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER);
    yk_xfer_segment s = open_segment(p);
    struct place at = {0};
    struct got g;
    assert_int_equal(reserve(p, MIB, &at), 0);
    assert_int_equal(write_place(s, &at, block, MIB), 0);
    assert_int_equal(commit(p, &at, "k", MIB, yk_hash64(block, MIB) + 1), -YK_ECORRUPT);
    assert_int_equal(commit(p, &at, "k", MIB, yk_hash64(block, MIB)), -YK_EGONE);
    assert_int_equal(get(p, "k", LIMIT, &g), YK_MISS);
    assert_int_equal(counters(node).remote_corrupt, 1);
    assert_int_equal(counters(node).reserved_bytes, 0);
    assert_int_equal(reserve(p, MIB, &at), 0); /* too long for it, and empty */
    assert_int_equal(commit(p, &at, "k", MIB + 1, 0), -YK_EINVAL);
    assert_int_equal(reserve(p, MIB, &at), 0);
    assert_int_equal(commit(p, &at, "k", 0, 0), -YK_EINVAL);
    assert_int_equal(counters(node).reserved_bytes, 0);
    yk_xfer_close(engine, s);
    peer_close(p);
    yk_node_stop(node);
}

static void places_end_with_their_connection(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER), *q = peer_open(node, YK_HELLO_XFER);
    yk_xfer_segment s = open_segment(p);
    struct place at = {0}, mine = {0};
    struct yk_rd r;
    assert_int_equal(reserve(p, MIB, &at), 0);
    assert_int_equal(reserve(p, MIB, &at), 0);
    assert_int_equal(reserve(q, MIB, &mine), 0);
    peer_close(p);
    WAIT_FOR(node, remote_places, 1);
    assert_int_equal(write_place(s, &at, block, MIB), YK_MISS);
    assert_int_equal(write_place(s, &mine, block, MIB), 0);
    assert_int_equal(abort_place(q, &mine), 0);
    assert_int_equal(write_place(s, &mine, block, MIB), YK_MISS);
    assert_int_equal(reserve(q, MIB, &mine), 0);
    request(q, YK_MSG_BYE, NULL, 0);
    assert_true(reply(q, &r));
    assert_int_equal(yk_rd_u32(&r), 0);
    assert_int_equal(counters(node).remote_places, 0);
    assert_int_equal(reserve(q, MIB, &mine), -YK_ENOTSUP);
    yk_xfer_close(engine, s);
    peer_close(q);
    yk_node_stop(node);
}

static void a_reserve_waits_for_space(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER), *q = peer_open(node, YK_HELLO_XFER);
    struct place at = {0};
    for (int i = 0; i < 7; i++)
        assert_int_equal(reserve(p, MIB, &at), 0);
    while (reserve(p, LIMIT, &at) == 0)
        ; /* half of the tier is held now */
    assert_int_equal(reserve(q, MIB, &at), -YK_ENOSPC);
    reserve_send(q, 1, MIB);
    assert_int_equal(reserve_reply(q, &at), -YK_ENOSPC);
    reserve_send(q, WAIT_MS, MIB);
    peer_close(p);
    assert_int_equal(reserve_reply(q, &at), 0);
    assert_int_equal(counters(node).remote_places, 1);
    peer_close(q);
    WAIT_FOR(node, remote_places, 0);
    yk_node_stop(node);
}

/* The layout of version 2, and bodies cut or too long: one ERROR frame, and the connection is closed. */
static void garbage_ends_the_connection(void **state) {
    struct yk_node *node = start();
    for (size_t len = 0; len < 64; len++) {
        struct peer *p = peer_open(node, YK_HELLO_XFER);
        unsigned char b[64] = {0};
        struct yk_wr w;
        struct yk_rd r;
        yk_wr_init(&w, b, sizeof(b));
        for (int i = 0; i < 4; i++)
            yk_wr_u64(&w, EPOCH);
        yk_wr_str8(&w, "k", 1);
        request(p, YK_MSG_GET, b, len);
        assert_true(reply(p, &r));
        assert_int_equal(p->f.op, len == yk_wr_len(&w) ? YK_MSG_GET : YK_MSG_ERROR);
        peer_close(p);
    }
    yk_node_stop(node);
}

static void a_node_stops_while_peers_are_connected(void **state) {
    struct yk_node *node = start();
    struct peer *p = peer_open(node, YK_HELLO_XFER);
    yk_xfer_segment s = open_segment(p);
    struct place at = {0};
    assert_int_equal(reserve(p, MIB, &at), 0);
    assert_int_equal(write_place(s, &at, block, MIB), 0);
    yk_node_stop(node);
    within_ms = 300; /* nobody is there any more, and it is looked for until then */
    assert_true(write_place(s, &at, block, 100) < 0);
    within_ms = WAIT_MS;
    yk_xfer_close(engine, s);
    peer_close(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_is_granted_to_who_asks),
        cmocka_unit_test(a_node_without_an_engine_grants_none),
        cmocka_unit_test(other_versions_are_refused),
        cmocka_unit_test(it_listens_where_it_should),
        cmocka_unit_test(a_large_block_is_located_and_read),
        cmocka_unit_test(a_guard_that_fails_is_asked_for_again_and_counts_once),
        cmocka_unit_test(without_a_guard_nothing_is_touched),
        cmocka_unit_test(a_place_is_written_and_committed),
        cmocka_unit_test(payload_that_is_not_what_its_writer_says_is_refused),
        cmocka_unit_test(places_end_with_their_connection),
        cmocka_unit_test(a_reserve_waits_for_space),
        cmocka_unit_test(garbage_ends_the_connection),
        cmocka_unit_test(a_node_stops_while_peers_are_connected),
    };
    return cmocka_run_group_tests(tests, engine_start, engine_stop);
}
