/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles without a map: payload through the transfer engine (client/far.h, client/move.h).
 *
 * Every test runs over TCP (a node in a process of its own, NO_MAP); the forms of put and get also with
 * the node in this process and with memory that two processes share, where the engine copies. What has to
 * happen between an answer of the node and the handle's hearing of it is done by a proxy in between.
 *
 * Long, since its first third is what every way to the engine is run through: puts, gets, ranges, references,
 * batches and asynchronous operations, of sizes at both sides of each limit.
 */
#include "fixture.h"
#include "proxy.h"

#include "client/client_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB  1024u
#define LIMIT (64u * KIB) /* of handles whose tests have blocks on both sides of it */
#define LONG 20000u /* ms: a deadline that is not meant to be reached */

/* ---- the rig ---------------------------------------------------------------------------------------- */

struct rig {
    struct fixture f;
    struct proxy proxy;
    int proxied;
};

static void tune(struct yk_node_opts *o) {
    o->transfer = "127.0.0.1:0";
}

/* A node that listens on TCP, as a process or in this one, with a proxy before it or not. */
static void rig_open(struct rig *r, int in_process, int proxied) {
    memset(r, 0, sizeof(*r));
    fixture_init(&r->f, 1);
    snprintf(r->f.url, sizeof(r->f.url), "tcp:127.0.0.1:%u", proxy_free_port());
    r->f.tune = tune;
    if (in_process) {
        fixture_start(&r->f);
    } else {
        fixture_fork(&r->f);
        fixture_fork_spare(&r->f);
    }
    r->proxied = proxied;
    if (proxied)
        proxy_start(&r->proxy, r->f.url);
}

static void rig_close(struct rig *r) {
    if (r->proxied)
        proxy_stop(&r->proxy);
    fixture_fini(&r->f);
}

static yk_client *rig_client_any(struct rig *r, uint32_t flags, uint32_t timeout_ms) {
    yk_open_opts o = {.size = sizeof(o), .flags = flags, .timeout_ms = timeout_ms};
    yk_client *c = NULL;
    assert_status(yk_open(r->proxied ? r->proxy.url : r->f.url, &o, &c), 0);
    return c;
}

/* With its engine, if it is to have one: on a busy machine yk_open goes without rather than to wait. */
static yk_client *rig_client(struct rig *r, uint32_t flags, uint32_t timeout_ms) {
    uint64_t end = yk_now_ns() + LONG * YK_NS_PER_MS;
    yk_client *c = rig_client_any(r, flags, timeout_ms);
    while (!(flags & YK_OPEN_NO_XFER) && !c->far.up) {
        assert_true(yk_now_ns() < end);
        yk_close(c);
        c = rig_client_any(r, flags, timeout_ms);
    }
    return c;
}

static int all_filled(const void *buf, size_t len, uint64_t seed) {
    return is_filled(buf, len, seed);
}

/* ---- forms ------------------------------------------------------------------------------------------ */

/* Three kinds of path, and the socket alone as the control. */
static const struct way {
    const char *name;
    int in_process;
    uint32_t flags;
} ways[] = {
    {"tcp", 0, YK_OPEN_NO_MAP},
    {"shm", 0, 0},
    {"mem", 1, 0},
    {"socket", 0, YK_OPEN_NO_MAP | YK_OPEN_NO_XFER},
};

static const size_t sizes[] = {1, 4096, LIMIT, LIMIT + 1, MIB - 1, MIB, 3 * MIB + 17, 9 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* What of so many bytes is not for the socket. */
static uint64_t large(const yk_client *c, uint64_t len) {
    return len > c->far.inline_max && !(c->flags & YK_OPEN_NO_XFER) ? len : 0;
}

static void put_and_get(yk_client *c) {
    uint64_t moved = 0;
    char key[32];
    for (size_t i = 0; i < SIZES; i++) {
        snprintf(key, sizeof(key), "one %zu", i);
        put_ok(c, key, sizes[i], i);
        moved += large(c, sizes[i]);
        assert_int_equal(STAT(c, xfer_bytes), moved);
        assert_int_equal(get_is(c, key, sizes[i], i), 0);
        moved += large(c, sizes[i]);
        assert_int_equal(STAT(c, xfer_bytes), moved);
    }
    assert_int_equal(STAT(c, xfer_fallbacks), 0);
    assert_int_equal(STAT(c, hits), SIZES);
    assert_int_equal(STAT(c, puts), SIZES);
    assert_int_equal(get_is(c, "no such", 1, 1), YK_MISS);
}

/* As engines have it: a piece for each layer, and some of them empty. */
static void scattered(yk_client *c) {
    enum { PIECES = 161, PIECE = 6000 };
    static unsigned char from[PIECES * PIECE], to[PIECES * PIECE];
    struct iovec out[PIECES], in[PIECES + 1];
    size_t n;
    fill(from, sizeof(from), 5);
    memset(to, 0, sizeof(to));
    for (int i = 0; i < PIECES; i++) {
        out[i] = (struct iovec){from + i * PIECE, i % 7 == 3 ? 0 : PIECE};
        in[i] = (struct iovec){to + i * PIECE, i % 7 == 3 ? 0 : PIECE};
    }
    in[PIECES] = (struct iovec){to, 100}; /* more room than is needed */
    assert_status(yk_putv(c, yk_key_str("scattered"), out, PIECES, NULL), 0);
    assert_status(yk_getv(c, yk_key_str("scattered"), in, PIECES + 1, &n), 0);
    size_t len = 0;
    for (int i = 0; i < PIECES; i++) {
        assert_memory_equal(from + i * PIECE, (char *)in[i].iov_base, in[i].iov_len);
        len += in[i].iov_len;
    }
    assert_int_equal(n, len);
    assert_int_equal(yk_getv(c, yk_key_str("scattered"), in, 5, &n), -YK_ETOOBIG);
    assert_int_equal(n, len);
}

static void ranges(yk_client *c) {
    enum { LEN = 2 * MIB };
    static unsigned char block[LEN], part[LEN];
    fill(block, LEN, 9);
    put_ok(c, "range", LEN, 9);
    static const struct {
        uint32_t at, len;
    } of[] = {{0, LEN}, {1, LEN - 1}, {LEN - 1, 1}, {MIB - 3, 200 * KIB}, {7, LIMIT}};
    for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
        memset(part, 0, sizeof(part));
        assert_status(yk_get_range(c, yk_key_str("range"), of[i].at, part, of[i].len), 0);
        assert_memory_equal(part, block + of[i].at, of[i].len);
        assert_true(of[i].len == LEN || part[of[i].len] == 0); /* and no more */
    }
    assert_int_equal(yk_get_range(c, yk_key_str("range"), 1, part, LEN), -YK_EINVAL);
}

static void references(yk_client *c) {
    yk_ref ref;
    put_ok(c, "ref", MIB + 1, 3);
    assert_status(yk_ref_get(c, yk_key_str("ref"), &ref), 0);
    assert_int_equal(ref.len, MIB + 1);
    assert_true(all_filled(ref.data, ref.len, 3));
    assert_int_equal(ref.checksum, yk_hash64(ref.data, ref.len));
    yk_ref_release(c, &ref);
    assert_int_equal(yk_ref_get(c, yk_key_str("none"), &ref), YK_MISS);
}

enum { BATCH = 96 };

struct batch {
    yk_op ops[BATCH];
    struct iovec iov[BATCH];
    char keys[BATCH][16];
    size_t len[BATCH];
};

static size_t batch_len(int i) {
    return i % 5 == 0 ? 1000u + (unsigned)i : 70u * KIB + 4096u * (unsigned)(i % 40);
}

static void batch_make(struct batch *b, uint32_t opcode, uint64_t seed) {
    for (int i = 0; i < BATCH; i++) {
        snprintf(b->keys[i], sizeof(b->keys[i]), "batch %d", i);
        b->len[i] = batch_len(i);
        b->iov[i] = (struct iovec){malloc(b->len[i]), b->len[i]};
        fill(b->iov[i].iov_base, b->len[i], opcode == YK_OP_PUT ? seed + (unsigned)i : 0);
        b->ops[i] = (yk_op){.opcode = opcode,
                            .key = yk_key_str(b->keys[i]),
                            .iov = &b->iov[i],
                            .iov_count = 1,
                            .user = &b->len[i]};
    }
}

static void batch_check(struct batch *b, uint64_t seed) {
    for (int i = 0; i < BATCH; i++) {
        check_status(b->ops[i].status, 0, b->keys[i], __FILE__, __LINE__);
        assert_true(all_filled(b->iov[i].iov_base, b->len[i], seed + (unsigned)i));
        free(b->iov[i].iov_base);
    }
}

static void batches(yk_client *c) {
    struct batch b;
    for (uint64_t round = 0; round < 3; round++) {
        yk_put_opts upsert = {.size = sizeof(upsert), .flags = YK_PUT_UPSERT};
        batch_make(&b, YK_OP_PUT, round * 1000);
        for (int i = 0; i < BATCH; i++)
            b.ops[i].put = &upsert;
        assert_int_equal(yk_run(c, b.ops, BATCH, 0), BATCH);
        batch_check(&b, round * 1000);
        batch_make(&b, YK_OP_GET, 0);
        assert_int_equal(yk_run(c, b.ops, BATCH, 0), BATCH);
        batch_check(&b, round * 1000);
    }
}

/* Put, get, remove, get, put, get of one key in one batch. */
static void one_key(yk_client *c) {
    static unsigned char a[MIB], b[MIB], got[3][MIB];
    struct iovec ia = {a, MIB}, ib = {b, MIB};
    struct iovec ig[3] = {{got[0], MIB}, {got[1], MIB}, {got[2], MIB}};
    yk_key key = yk_key_str("one key");
    fill(a, MIB, 1);
    fill(b, MIB, 2);
    yk_op ops[] = {{.opcode = YK_OP_PUT, .key = key, .iov = &ia, .iov_count = 1},
                   {.opcode = YK_OP_GET, .key = key, .iov = &ig[0], .iov_count = 1},
                   {.opcode = YK_OP_REMOVE, .key = key},
                   {.opcode = YK_OP_GET, .key = key, .iov = &ig[1], .iov_count = 1},
                   {.opcode = YK_OP_PUT, .key = key, .iov = &ib, .iov_count = 1},
                   {.opcode = YK_OP_GET, .key = key, .iov = &ig[2], .iov_count = 1}};
    assert_int_equal(yk_run(c, ops, 6, 0), 5);
    assert_int_equal(ops[3].status, YK_MISS);
    assert_true(all_filled(got[0], MIB, 1) && all_filled(got[2], MIB, 2));
    assert_int_equal(yk_put(c, key, a, MIB, NULL), -YK_ECONFLICT);
    assert_int_equal(yk_put(c, key, b, MIB, NULL), 0);
}

/* Fetches all of a batch by yk_poll that waits, or by yk_fd and yk_poll that does not. */
static void poll_all(yk_client *c, int by_fd) {
    yk_op *done[16];
    uint64_t end = yk_now_ns() + LONG * YK_NS_PER_MS;
    for (int left = BATCH; left > 0;) {
        assert_true(yk_now_ns() < end);
        struct pollfd p = {by_fd ? yk_fd(c) : -1, POLLIN, 0};
        if (by_fd)
            assert_true(poll(&p, 1, LONG) == 1);
        int n = yk_poll(c, done, 16, by_fd ? 0 : LONG);
        assert_true(n >= 0);
        left -= n;
    }
}

static void asynchronous(yk_client *c) {
    struct batch b;
    for (int by_fd = 0; by_fd < 2; by_fd++) {
        yk_put_opts upsert = {.size = sizeof(upsert), .flags = YK_PUT_UPSERT};
        batch_make(&b, YK_OP_PUT, 77);
        for (int i = 0; i < BATCH; i++)
            b.ops[i].put = &upsert;
        assert_status(yk_submit(c, b.ops, BATCH, 0), 0);
        poll_all(c, by_fd);
        batch_check(&b, 77);
        batch_make(&b, YK_OP_GET, 0);
        assert_status(yk_submit(c, b.ops, BATCH, 0), 0);
        poll_all(c, by_fd);
        batch_check(&b, 77);
    }
}

static void with_all_ways(void (*fn)(yk_client *c)) {
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct rig r;
        rig_open(&r, ways[i].in_process, 0);
        yk_client *c = rig_client(&r, ways[i].flags, LONG);
        assert_int_equal(c->far.up, !(ways[i].flags & YK_OPEN_NO_XFER));
        yk_far_set_inline(c, LIMIT);
        fn(c);
        assert_int_equal(STAT(c, xfer_fallbacks), 0);
        yk_close(c);
        rig_close(&r);
    }
}

#define FORM(name)                                                                                 \
    static void test_##name(void **state) {                                                        \
        (void)state;                                                                               \
        with_all_ways(name);                                                                       \
    }
FORM(put_and_get)
FORM(scattered)
FORM(ranges)
FORM(references)
FORM(batches)
FORM(one_key)
FORM(asynchronous)

/* All of these nodes are on this host, where the engine's way is the connection's: large blocks alone. */
static void test_one_way(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct rig r;
        rig_open(&r, ways[i].in_process, 0);
        yk_client *c = rig_client(&r, ways[i].flags, LONG);
        assert_int_equal(large(c, MIB - 1), 0);
        assert_int_equal(large(c, MIB) > 0, c->far.up);
        put_and_get(c);
        assert_int_equal(STAT(c, xfer_bytes) > 0, !(ways[i].flags & YK_OPEN_NO_XFER));
        yk_close(c);
        rig_close(&r);
    }
}

/* A handle that maps has no engine. */
static void test_mapped(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    assert_non_null(c->map);
    assert_null(c->far.engine);
    put_ok(c, "k", MIB, 1);
    assert_int_equal(get_is(c, "k", MIB, 1), 0);
    assert_int_equal(STAT(c, xfer_bytes), 0);
    char memory[64]; /* there is nobody to tell, and it is well */
    assert_status(yk_register(c, memory, sizeof(memory)), 0);
    assert_int_equal(yk_register(c, memory + 10, 10), -YK_EINVAL);
    assert_status(yk_unregister(c, memory), 0);
    assert_int_equal(yk_unregister(c, memory), -YK_ENOENT);
    yk_close(c);
}

/* What cannot be read is refused by it all the same: the next handle may be one that needs it. */
static void test_mapped_and_rdma(void **state) {
    struct fixture *f = *state;
    yk_client *c = NULL;
    yk_open_opts o = {.size = sizeof(o), .transports = "rdma,tcp", .rdma = "depth=1"};
    assert_int_equal(yk_open(f->url, &o, &c), -YK_EINVAL);
    assert_non_null(strstr(yk_error_text(NULL), "depth"));
    o.rdma = "depth=64,";
    assert_int_equal(yk_open(f->url, &o, &c), -YK_EINVAL);
    o.rdma = "depth=64";
    o.transports = "tcp";
    assert_int_equal(yk_open(f->url, &o, &c), -YK_EINVAL);
    assert_non_null(strstr(yk_error_text(NULL), "transports"));
    o.transports = "rdma,tcp";
    assert_status(yk_open(f->url, &o, &c), 0);
    assert_non_null(c->map);
    yk_close(c);
}

static void test_rails_that_are_not_there(void **state) {
    (void)state;
    struct rig r;
    yk_client *c = NULL;
    yk_open_opts o = {.size = sizeof(o), .flags = YK_OPEN_NO_MAP, .rails = "no-such-dev"};
    rig_open(&r, 0, 0);
    assert_int_equal(yk_open(r.f.url, &o, &c), -YK_EINVAL);
    assert_non_null(strstr(yk_error_text(NULL), "no-such-dev"));
    o.rails = "lo";
    o.transports = "tcp,pigeon";
    assert_int_equal(yk_open(r.f.url, &o, &c), -YK_EINVAL);
    assert_non_null(strstr(yk_error_text(NULL), "pigeon"));
    o.transports = "rdma,tcp"; /* there is no RDMA device: TCP it is */
    assert_status(yk_open(r.f.url, &o, &c), 0);
    put_ok(c, "k", MIB, 1);
    assert_int_equal(STAT(c, xfer_bytes), MIB);
    yk_close(c);
    rig_close(&r);
}

static int is_named(yk_client *c, const char *what) {
    char *text = NULL;
    assert_status(yk_xfer_links_json(c->far.engine, &text), 0);
    int found = strstr(text, what) != NULL;
    free(text);
    return found;
}

/* Who forbids to map and names a TCP address has no shm, whatever else is named; nor what is not there. */
static void test_transports_that_are_not_used(void **state) {
    (void)state;
    struct rig r;
    yk_client *c = NULL;
    yk_open_opts o = {.size = sizeof(o), .transports = "shm,tcp"};
    rig_open(&r, 0, 0);
    assert_status(yk_open(r.f.url, &o, &c), 0);
    assert_true(is_named(c, "\"shm\"") && is_named(c, "\"tcp\""));
    yk_close(c);
    o.flags = YK_OPEN_NO_MAP;
    assert_status(yk_open(r.f.url, &o, &c), 0);
    assert_true(!is_named(c, "\"shm\"") && is_named(c, "\"tcp\""));
    yk_close(c);
    o.transports = "shm";
    assert_int_equal(yk_open(r.f.url, &o, &c), -YK_EINVAL);
    assert_non_null(strstr(yk_error_text(NULL), "shm alone"));
    o.flags |= YK_OPEN_NO_XFER; /* then none is needed */
    assert_status(yk_open(r.f.url, &o, &c), 0);
    yk_close(c);
    rig_close(&r);
}

/* ---- the block goes between its being located and its being read ---------------------------------- */

struct between {
    struct rig *r;
    unsigned op; /* the answer that it happens at */
    int left;    /* how often yet */
    yk_client *other;
    void (*fn)(struct between *b);
    int done; /* atomic */
};

static int is_located(const unsigned char *frame, size_t len) {
    return len == YK_FRAME_HDR + 4 + YK_WIRE_INFO_BYTES + YK_GET_TAIL_BYTES &&
           memcmp(frame + YK_FRAME_HDR + 4 + YK_WIRE_INFO_BYTES, "\xff\xff\xff\xff", 4) != 0;
}

static void at_answer(void *arg, unsigned op, unsigned char *frame, size_t len) {
    struct between *b = arg;
    if (b->left == 0 || op != b->op || (op == YK_MSG_GET && !is_located(frame, len)))
        return;
    b->left--;
    b->fn(b);
    __atomic_store_n(&b->done, b->done + 1, __ATOMIC_RELEASE);
}

static void between(struct between *b, struct rig *r, unsigned op, void (*fn)(struct between *)) {
    *b = (struct between){.r = r, .op = op, .left = 1, .fn = fn};
    rig_open(r, 0, 1);
    r->proxy.hook = at_answer;
    r->proxy.arg = b;
}

static void replace(struct between *b) {
    static unsigned char other[MIB];
    fill(other, MIB, 2);
    assert_status(yk_remove(b->other, yk_key_str("k")), 0);
    assert_status(yk_put(b->other, yk_key_str("k"), other, MIB, NULL), 0);
}

static void drop(struct between *b) {
    assert_status(yk_remove(b->other, yk_key_str("k")), 0);
}

/* Exactly the new bytes, or a miss: by the node, once. */
static void test_block_goes_after_it_was_located(void **state) {
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct rig r;
        struct between b;
        between(&b, &r, YK_MSG_GET, gone ? drop : replace);
        b.other = open_with(&r.f, YK_OPEN_NO_MAP, LONG);
        put_ok(b.other, "k", MIB, 1);
        yk_client *c = rig_client(&r, YK_OPEN_NO_MAP, LONG);
        assert_int_equal(get_is(c, "k", MIB, 2), gone ? YK_MISS : 0);
        assert_int_equal(b.done, 1);
        assert_int_equal(STAT(c, xfer_fallbacks), 1);
        assert_int_equal(STAT(c, xfer_bytes), 0);
        assert_true(c->far.up); /* it says nothing of the path */
        put_ok(c, "l", MIB, 3);
        assert_int_equal(get_is(c, "l", MIB, 3), 0);
        assert_int_equal(STAT(c, xfer_bytes), 2 * MIB);
        yk_close(c);
        yk_close(b.other);
        rig_close(&r);
    }
}

static uint64_t missed_at(struct rig *r) {
    static const char name[] = "\"remote_missed\":";
    yk_client *c = rig_client(r, YK_OPEN_NO_MAP, LONG);
    char *text = NULL;
    assert_status(yk_stats_json(c, &text), 0);
    const char *at = strstr(text, name);
    assert_non_null(at);
    uint64_t n = strtoull(at + strlen(name), NULL, 10);
    free(text);
    yk_close(c);
    return n;
}

static void call(yk_client *c) {
    char *text = NULL;
    assert_status(yk_stats_json(c, &text), 0);
    free(text);
}

/* Where one node says that a block is, another node has something else: that node is asked anew. */
static void test_located_by_another_node(void **state) {
    static unsigned char part[MIB];
    struct rig a, b;
    char url[300];
    struct iovec iov = {part, sizeof(part)};
    yk_op op = {.opcode = YK_OP_GET_RANGE, .key = yk_key_str("k"), .iov = &iov, .iov_count = 1, .arg = 1}, *out;
    yk_open_opts o = {.size = sizeof(o), .flags = YK_OPEN_NO_MAP, .timeout_ms = LONG};
    yk_client *c = NULL;
    uint64_t until = yk_now_ns() + LONG * YK_NS_PER_MS;
    (void)state;
    rig_open(&a, 0, 0);
    rig_open(&b, 0, 0);
    snprintf(url, sizeof(url), "%s,%s", a.f.url, b.f.url);
    for (; c == NULL || !c->far.up || c->route.at != 0; assert_true(yk_now_ns() < until)) {
        yk_close(c);
        assert_status(yk_open(url, &o, &c), 0);
    }
    put_ok(c, "k", 2 * MIB, 1);
    assert_status(yk_submit(c, &op, 1, LONG), 0);
    for (; yk_list_empty(&c->async_runnable); assert_true(yk_now_ns() < until))
        call(c);
    fixture_kill(&a.f, SIGKILL);
    for (; STAT(c, reconnects) == 0; assert_true(yk_now_ns() < until))
        call(c);
    assert_int_equal(yk_poll(c, &out, 1, LONG), 1);
    assert_status(op.status, YK_MISS);
    assert_int_equal(missed_at(&b), 0);
    yk_close(c);
    rig_close(&b); /* whose processes have pipes of the first */
    rig_close(&a);
}

/* ---- the node stops while payload is under way ------------------------------------------------------ */

static void stop_node(struct between *b) {
    fixture_kill(&b->r->f, SIGSTOP);
}

/* Memory that nobody may touch once it is closed: who does ends the test. */
static void *guarded_buffer(void) {
    void *p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

static void guarded_close(void *p) {
    assert_int_equal(mprotect(p, 4 * MIB, PROT_NONE), 0);
}

static yk_op *poll_one(yk_client *c) {
    yk_op *done = NULL;
    assert_int_equal(yk_poll(c, &done, 1, LONG), 1);
    return done;
}

/* Until the operation's payload is under way in the engine. */
static void wait_moving(yk_client *c, struct between *b, const yk_op *op) {
    uint64_t end = yk_now_ns() + LONG * YK_NS_PER_MS;
    yk_op *done;
    for (int moving = 0; !moving;) {
        assert_true(yk_now_ns() < end);
        assert_int_equal(yk_poll(c, &done, 1, 10), 0);
        pthread_mutex_lock(&c->lock);
        moving = op->priv[0] > 0 && c->recs[op->priv[0] - 1].state == YK_REC_MOVING;
        pthread_mutex_unlock(&c->lock);
    }
    assert_int_equal(__atomic_load_n(&b->done, __ATOMIC_ACQUIRE), 1);
}

/* The operation is cancelled, or reaches its deadline, while the node stands still; then its memory is
 * closed, and the node goes on. */
static void stopped(uint32_t opcode, int cancel) {
    struct rig r;
    struct between b;
    between(&b, &r, opcode == YK_OP_GET ? YK_MSG_GET : YK_MSG_RESERVE, stop_node);
    yk_client *other = open_with(&r.f, YK_OPEN_NO_MAP, LONG);
    put_ok(other, "k", 4 * MIB, 1);
    yk_client *c = rig_client(&r, YK_OPEN_NO_MAP, LONG);
    void *buf = guarded_buffer();
    struct iovec iov = {buf, 4 * MIB};
    fill(buf, 4 * MIB, 2);
    yk_op op = {.opcode = opcode,
                .key = yk_key_str(opcode == YK_OP_GET ? "k" : "l"),
                .iov = &iov,
                .iov_count = 1};
    assert_status(yk_submit(c, &op, 1, cancel ? LONG : 700), 0);
    if (cancel) {
        wait_moving(c, &b, &op);
        assert_status(yk_cancel(c, &op), 0);
    }
    assert_ptr_equal(poll_one(c), &op);
    assert_true(op.status == (cancel ? -YK_ECANCELED : -YK_ETIMEDOUT));
    guarded_close(buf);
    fixture_kill(&r.f, SIGCONT);
    /* What was on its way arrives before this does, and the handle is as good as new. */
    assert_int_equal(get_is(c, "k", 4 * MIB, 1), 0);
    put_ok(c, "m", 4 * MIB, 3);
    assert_int_equal(get_is(other, "m", 4 * MIB, 3), 0);
    munmap(buf, 4 * MIB);
    yk_close(c);
    yk_close(other);
    rig_close(&r);
}

static void test_get_is_cancelled_while_it_moves(void **state) {
    (void)state;
    stopped(YK_OP_GET, 1);
}
static void test_get_is_late_while_it_moves(void **state) {
    (void)state;
    stopped(YK_OP_GET, 0);
}
static void test_put_is_cancelled_while_it_moves(void **state) {
    (void)state;
    stopped(YK_OP_PUT, 1);
}
static void test_put_is_late_while_it_moves(void **state) {
    (void)state;
    stopped(YK_OP_PUT, 0);
}

/* The same in a call that waits: it comes back, and nothing touches the memory after that. */
static void test_call_is_late_while_it_moves(void **state) {
    (void)state;
    struct rig r;
    struct between b;
    between(&b, &r, YK_MSG_GET, stop_node);
    yk_client *other = open_with(&r.f, YK_OPEN_NO_MAP, LONG);
    put_ok(other, "k", 4 * MIB, 1);
    yk_client *c = rig_client(&r, YK_OPEN_NO_MAP, 700);
    void *buf = guarded_buffer();
    size_t n;
    assert_int_equal(yk_get(c, yk_key_str("k"), buf, 4 * MIB, &n), -YK_ETIMEDOUT);
    guarded_close(buf);
    fixture_kill(&r.f, SIGCONT);
    assert_int_equal(get_is(other, "k", 4 * MIB, 1), 0);
    munmap(buf, 4 * MIB);
    yk_close(c);
    yk_close(other);
    rig_close(&r);
}

/* yk_close with payload under way, and a node that stands still: it ends, and so does the use of memory. */
static void test_close_while_it_moves(void **state) {
    (void)state;
    struct rig r;
    struct between b;
    between(&b, &r, YK_MSG_GET, stop_node);
    yk_client *other = open_with(&r.f, YK_OPEN_NO_MAP, LONG);
    put_ok(other, "k", 4 * MIB, 1);
    yk_client *c = rig_client(&r, YK_OPEN_NO_MAP, LONG);
    void *buf = guarded_buffer();
    struct iovec iov = {buf, 4 * MIB};
    yk_op op = {.opcode = YK_OP_GET, .key = yk_key_str("k"), .iov = &iov, .iov_count = 1};
    assert_status(yk_submit(c, &op, 1, 0), 0);
    wait_moving(c, &b, &op);
    yk_close(c);
    guarded_close(buf);
    fixture_kill(&r.f, SIGCONT);
    assert_int_equal(get_is(other, "k", 4 * MIB, 1), 0);
    munmap(buf, 4 * MIB);
    yk_close(other);
    rig_close(&r);
}

/* A handle that does not reconnect loses its node while payload is under way: yk_poll waits for the end
 * of the operation all the same. */
static void test_lost_for_good_while_it_moves(void **state) {
    (void)state;
    struct rig r;
    struct between b;
    between(&b, &r, YK_MSG_GET, stop_node);
    yk_client *other = open_with(&r.f, YK_OPEN_NO_MAP, LONG);
    put_ok(other, "k", 4 * MIB, 1);
    yk_client *c = rig_client(&r, YK_OPEN_NO_MAP | YK_OPEN_NO_RECONNECT, LONG);
    void *buf = guarded_buffer();
    struct iovec iov = {buf, 4 * MIB};
    yk_op op = {.opcode = YK_OP_GET, .key = yk_key_str("k"), .iov = &iov, .iov_count = 1};
    assert_status(yk_submit(c, &op, 1, 0), 0);
    wait_moving(c, &b, &op);
    proxy_stop(&r.proxy);
    r.proxied = 0;
    assert_ptr_equal(poll_one(c), &op);
    assert_int_equal(op.status, YK_MISS); /* what a lookup is without a node */
    guarded_close(buf);
    fixture_kill(&r.f, SIGCONT);
    assert_int_equal(get_is(other, "k", 4 * MIB, 1), 0);
    munmap(buf, 4 * MIB);
    yk_close(c);
    yk_close(other);
    rig_close(&r);
}

/* ---- the engine cannot be reached ------------------------------------------------------------------- */

struct elsewhere {
    char get[16]; /* a port as text: five digits, as every ephemeral one */
    int found;
};

/* The welcome names another port. */
static void lead_astray(void *arg, unsigned op, unsigned char *frame, size_t len) {
    struct elsewhere *e = arg;
    static const char host[] = "127.0.0.1:";
    if (op != YK_MSG_HELLO)
        return;
    unsigned char *at = memmem(frame + YK_FRAME_HDR, len - YK_FRAME_HDR, host, strlen(host));
    if (at == NULL)
        return;
    at += strlen(host);
    memcpy(at, e->get, strlen(e->get));
    at = memmem(at, (size_t)(frame + len - at), "unix:/tmp", 9);
    if (at != NULL)
        at[8] = 'q'; /* nobody is there, either */
    e->found = 1;
}

/* silent: it takes connections and says nothing; else nothing listens. */
static void unreachable(int silent) {
    struct rig r;
    struct elsewhere e = {.found = 0};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rig_open(&r, 0, 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    if (silent)
        assert_int_equal(listen(fd, 8), 0);
    snprintf(e.get, sizeof(e.get), "%05u", ntohs(a.sin_port));
    r.proxy.hook = lead_astray;
    r.proxy.arg = &e;
    yk_client *c = rig_client_any(&r, YK_OPEN_NO_MAP, LONG);
    assert_true(e.found);
    assert_false(c->far.up);
    put_ok(c, "k", MIB, 1);
    assert_int_equal(get_is(c, "k", MIB, 1), 0);
    assert_int_equal(STAT(c, xfer_bytes), 0);
    yk_close(c);
    close(fd);
    rig_close(&r);
}

static void test_nothing_listens_there(void **state) {
    (void)state;
    unreachable(0);
}
static void test_nobody_answers_there(void **state) {
    (void)state;
    unreachable(1);
}

/* ---- kill, restart ---------------------------------------------------------------------------------- */

struct load {
    yk_client *c;
    uint64_t seed;
    int stop, rounds; /* atomic */
    int failed;
};

/* Puts and gets of its own keys until it is told to stop; what is there has the right bytes. */
static void *load_main(void *arg) {
    struct load *l = arg;
    unsigned char *from = malloc(MIB), *to = malloc(MIB);
    char key[32];
    for (uint64_t i = 0; !__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE); i++) {
        size_t n, len = i % 3 == 0 ? 20 * KIB : 200 * KIB + (size_t)(i % 7) * 100 * KIB;
        snprintf(key, sizeof(key), "%llu %llu", (unsigned long long)l->seed,
                 (unsigned long long)i % 20);
        yk_put_opts upsert = {.size = sizeof(upsert), .flags = YK_PUT_UPSERT};
        fill(from, len, l->seed + i);
        int rc = yk_put(l->c, yk_key_str(key), from, len, &upsert);
        int got = yk_get(l->c, yk_key_str(key), to, MIB, &n);
        if (rc != 0 || got < 0 || (got == 0 && (n != len || memcmp(from, to, len) != 0)))
            l->failed = 1;
        __atomic_fetch_add(&l->rounds, 1, __ATOMIC_RELEASE);
    }
    free(from);
    free(to);
    return NULL;
}

static void wait_rounds(struct load *l, int n, int more) {
    uint64_t end = yk_now_ns() + LONG * YK_NS_PER_MS;
    for (int i = 0; i < n; i++) {
        int until = __atomic_load_n(&l[i].rounds, __ATOMIC_ACQUIRE) + more;
        while (__atomic_load_n(&l[i].rounds, __ATOMIC_ACQUIRE) < until) {
            assert_true(yk_now_ns() < end);
            poll(NULL, 0, 1);
        }
    }
}

/* The node is killed while threads put and get, and another takes its place: nothing fails, no byte is
 * wrong, and the engine is used again. */
static void test_node_is_killed_and_comes_back(void **state) {
    (void)state;
    enum { THREADS = 4 };
    struct rig r;
    pthread_t threads[THREADS];
    struct load loads[THREADS];
    rig_open(&r, 0, 0);
    yk_client *c = rig_client(&r, YK_OPEN_NO_MAP, LONG);
    yk_far_set_inline(c, LIMIT);
    for (unsigned i = 0; i < THREADS; i++) {
        loads[i] = (struct load){.c = c, .seed = (i + 1) * 1000000u};
        pthread_create(&threads[i], NULL, load_main, &loads[i]);
    }
    wait_rounds(loads, THREADS, 10);
    assert_true(STAT(c, xfer_bytes) > 0);
    fixture_kill(&r.f, SIGKILL);
    fixture_start_spare(&r.f);
    wait_rounds(loads, THREADS, 10);
    for (unsigned i = 0; i < THREADS; i++)
        __atomic_store_n(&loads[i].stop, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(loads[i].failed);
    }
    assert_int_equal(STAT(c, reconnects), 1);
    uint64_t end = yk_now_ns() + LONG * YK_NS_PER_MS, before = STAT(c, xfer_bytes);
    while (STAT(c, xfer_bytes) == before) { /* its rest may not be over yet */
        assert_true(yk_now_ns() < end);
        put_ok(c, "after", MIB, 1);
        assert_int_equal(get_is(c, "after", MIB, 1), 0);
        poll(NULL, 0, 5);
    }
    yk_close(c);
    rig_close(&r);
}

/* ---- fork ------------------------------------------------------------------------------------------- */

static void test_fork(void **state) {
    (void)state;
    struct rig r;
    int status;
    rig_open(&r, 0, 0);
    yk_client *c = rig_client(&r, YK_OPEN_NO_MAP, LONG);
    put_ok(c, "k", MIB, 1);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static char buf[MIB];
        size_t n;
        int rc = yk_get(c, yk_key_str("k"), buf, MIB, &n);
        yk_close(c);
        _exit(rc == -YK_EFORK ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(get_is(c, "k", MIB, 1), 0);
    assert_int_equal(STAT(c, xfer_bytes), 2 * MIB);
    yk_close(c);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_scattered),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_one_key),
        cmocka_unit_test(test_asynchronous),
        cmocka_unit_test(test_one_way),
        cmocka_unit_test_setup_teardown(test_mapped, with_node, without_node),
        cmocka_unit_test_setup_teardown(test_mapped_and_rdma, with_node, without_node),
        cmocka_unit_test(test_rails_that_are_not_there),
        cmocka_unit_test(test_transports_that_are_not_used),
        cmocka_unit_test(test_block_goes_after_it_was_located),
        cmocka_unit_test(test_located_by_another_node),
        cmocka_unit_test(test_get_is_cancelled_while_it_moves),
        cmocka_unit_test(test_get_is_late_while_it_moves),
        cmocka_unit_test(test_put_is_cancelled_while_it_moves),
        cmocka_unit_test(test_put_is_late_while_it_moves),
        cmocka_unit_test(test_call_is_late_while_it_moves),
        cmocka_unit_test(test_close_while_it_moves),
        cmocka_unit_test(test_lost_for_good_while_it_moves),
        cmocka_unit_test(test_nothing_listens_there),
        cmocka_unit_test(test_nobody_answers_there),
        cmocka_unit_test(test_node_is_killed_and_comes_back),
        cmocka_unit_test(test_fork),
    };
    return cmocka_run_group_tests_name("client far", tests, NULL, NULL);
}
