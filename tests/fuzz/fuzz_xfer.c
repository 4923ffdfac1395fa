/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: the messages between transfer engines, in both directions and against both ends.
 *
 * The first byte chooses. 0: the bytes are a header or a body; what decodes must encode to the same
 * bytes. 1: they come to a server, behind a proper hello: whatever they ask, memory that is not
 * published for writing stays as it is, and the server answers another lane afterwards. 2: they come to
 * an initiator with requests out, behind a proper welcome: each request ends once, and nothing is
 * written outside its memory. 3: they come in place of the welcome.
 *
 * Thread: the fuzzing one, and the server's.
 */
#include "base/clock.h"
#include "xfer/ask.h"
#include "xfer/proto.h"
#include "xfer/rdma/rdma_priv.h"
#include "xfer/server.h"
#include "xfer/sock.h"
#include "xfer/stream.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INCARNATION 77u
#define CANARY      0x5a
#define BYTES       4096u

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---- 0: codecs ------------------------------------------------------------------------------------ */

static void codecs(const uint8_t *data, size_t size) {
    static unsigned char again[YK_WELCOME_MAX];
    struct yk_err err;
    struct yk_xreq req;
    struct yk_xans ans;
    struct yk_hello hello;
    struct yk_found found;
    static struct yk_welcome welcome;
    if (size >= YK_XREQ_BYTES) {
        uint32_t n = size < YK_XREQ_BYTES_MAX ? YK_XREQ_BYTES : YK_XREQ_BYTES_MAX;
        if (yk_xreq_decode(data, n, &req, &err) == 0)
            CHECK(yk_xreq_encode(again, &req) == n && memcmp(again, data, n) == 0);
        if (yk_xreq_decode(data, YK_XREQ_BYTES, &req, &err) == 0)
            CHECK(yk_xreq_encode(again, &req) == YK_XREQ_BYTES && memcmp(again, data, YK_XREQ_BYTES) == 0);
    }
    if (size >= YK_XANS_BYTES && yk_xans_decode(data, &ans, &err) == 0) {
        yk_xans_encode(again, &ans);
        CHECK(memcmp(again, data, YK_XANS_BYTES) == 0);
    }
    struct yk_rdma_offer offer;
    if (size >= YK_OFFER_BYTES && yk_rdma_offer_decode(data, &offer, &err) == 0) {
        yk_rdma_offer_encode(again, &offer);
        CHECK(memcmp(again, data, YK_OFFER_BYTES) == 0);
    }
    static const uint8_t token[YK_CM_TOKEN] = "a token of sixtn";
    if (yk_rdma_call_is(data, size < UINT32_MAX ? (uint32_t)size : UINT32_MAX, token)) {
        yk_rdma_call_encode(again, token);
        CHECK(memcmp(again, data, YK_CALL_BYTES) == 0);
    }
    struct yk_rdma_key key;
    if (size >= YK_KEY_BYTES && yk_rdma_key_decode(data, &key, &err) == 0) {
        yk_rdma_key_encode(again, &key);
        CHECK(memcmp(again, data, YK_KEY_BYTES) == 0);
    }
    uint32_t len = size < YK_WELCOME_MAX ? (uint32_t)size : YK_WELCOME_MAX;
    if (yk_hello_decode(data, len, &hello, &err) == 0 && hello.version == YK_PROTO_VERSION)
        CHECK(yk_hello_encode(again, &hello) == len && memcmp(again, data, len) == 0);
    if (yk_welcome_decode(data, len, &welcome, &err) == 0 && welcome.version == YK_PROTO_VERSION)
        CHECK(yk_welcome_encode(again, &welcome) == len && memcmp(again, data, len) == 0);
    for (int status = 0; status >= -YK_ENOENT; status -= YK_ENOENT)
        if (len <= YK_FOUND_MAX && yk_found_decode(data, len, status, &found, &err) == 0)
            CHECK(yk_found_encode(again, status, &found) == len && memcmp(again, data, len) == 0);
}

/* ---- 1: a server ---------------------------------------------------------------------------------- */

static char open_memory[3 * BYTES], closed_memory[3 * BYTES];
static struct yk_server *server;
static struct yk_registry *registry;
static struct yk_loop *loop;
static struct yk_peer_info self = {.incarnation = INCARNATION};
static yk_xfer_opts opts = {.size = sizeof(opts), .connect_ms = 60000};

static int pins; /* the server's thread; and read when it has ended */

static int pin(void *user, uint32_t op, uint64_t d, uint64_t g, uint64_t e, uint64_t offset, uint64_t len,
               uint64_t *ret) {
    CHECK(op == YK_XFER_READ || op == YK_XFER_WRITE);
    CHECK(len > 0 && len <= BYTES / 2 && offset <= BYTES / 2 - len);
    *ret = 1;
    pins += !(g & 1);
    return g & 1 ? d & 1 ? -YK_EAGAIN : YK_MISS : 0;
}

static void unpin(void *user, uint64_t p) {
    CHECK(p == 1 && --pins >= 0);
}

static int note(void *user, const char *peer, const void *data, uint32_t len) {
    return len % 7 == 3 ? -YK_ELIMIT : 0;
}

static void stop_server(void) {
    yk_server_close(server);
    CHECK(pins == 0);
    yk_registry_free(registry);
}

static void free_loop(void) {
    yk_loop_free(loop);
}

static void start_server(void) {
    static const yk_xfer_guard_ops guard = {sizeof(guard), NULL, pin, unpin};
    yk_xfer_memory m[2] = {{.addr = open_memory + BYTES, .length = BYTES, .fd = -1, .access = 3},
                           {.addr = closed_memory + BYTES, .length = BYTES, .fd = -1, .access = 1}};
    struct yk_err err;
    memset(open_memory, CANARY, sizeof(open_memory));
    memset(closed_memory, CANARY, sizeof(closed_memory));
    registry = yk_registry_new();
    CHECK(registry != NULL && yk_registry_add(registry, m, 2, &err) == 0);
    CHECK(yk_registry_publish(registry, "a", m[0].addr, BYTES / 2, &guard, &err) == 0);
    CHECK(yk_server_open(&opts, &self, &server, &err) == 0);
    struct yk_server_env env = {.registry = registry, .opts = &opts, .self = &self, .note = note};
    CHECK(yk_server_start(server, &env, &err) == 0);
    atexit(stop_server);
}

static void put_hello(unsigned char *to, uint64_t lane) {
    struct yk_xreq req = {.op = YK_PROTO_HELLO, .len = YK_HELLO_BYTES};
    struct yk_hello hello = {.version = YK_PROTO_VERSION, .lane = lane, .incarnation = 1};
    yk_xreq_encode(to, &req);
    yk_hello_encode(to + YK_XREQ_BYTES, &hello);
}

static int intact(const char *memory, int whole) {
    for (size_t i = 0; i < 3 * BYTES; i++)
        if (memory[i] != CANARY && (whole || i < BYTES || i >= 2 * BYTES))
            return 0;
    return 1;
}

static void to_server(const uint8_t *data, size_t size) {
    static uint64_t lanes;
    static char sink[65536];
    unsigned char hello[YK_XREQ_BYTES + YK_HELLO_BYTES];
    struct timeval wait = {.tv_sec = 10};
    struct yk_sockaddr a;
    struct yk_peer_info peer;
    char where[128];
    if (server == NULL)
        start_server();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(yk_sock_unix(self.unix_path, &a) == 0 && connect(fd, &a.u.any, a.len) == 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    put_hello(hello, ++lanes);
    CHECK(send(fd, hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello));
    size = size < 16384 ? size : 16384; /* as much as a socket takes while nobody reads */
    (void)!send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    ssize_t n;
    do /* to its end, or the server hangs */
        n = recv(fd, sink, sizeof(sink), 0);
    while (n > 0);
    close(fd);
    snprintf(where, sizeof(where), "unix:%s", self.unix_path);
    CHECK(yk_ask_greet(where, 1, 10000, &peer, NULL, NULL) == 0); /* it lives, and has seen all of it */
    CHECK(intact(open_memory, 0) && intact(closed_memory, 1));
}

/* ---- 2, 3: an initiator ---------------------------------------------------------------------------- */

#define SLICES 7

static int ups, downs, ended;

static void slice_done(struct yk_lane *lane, struct yk_slice *slice) {
    CHECK(slice->core == slice);
    slice->core = NULL;
    ended++;
}

static void lane_up(struct yk_lane *lane) {
    ups++;
}

static void lane_down(struct yk_lane *lane, int code, enum yk_scope scope, const char *text) {
    CHECK(code < 0 && scope != YK_SCOPE_NONE && text[0] != 0);
    downs++;
}

static const struct yk_shard_events events = {slice_done, lane_up, lane_down};

static void put_welcome(int fd) {
    static struct yk_welcome w = {.version = YK_PROTO_VERSION, .peer = {.incarnation = INCARNATION},
                                  .credit_requests = 64, .credit_bytes = 1 << 20};
    unsigned char out[YK_XANS_BYTES + YK_WELCOME_MAX];
    struct yk_xans ans = {.op = YK_PROTO_HELLO};
    ans.len = yk_welcome_encode(out + YK_XANS_BYTES, &w);
    yk_xans_encode(out, &ans);
    CHECK(send(fd, out, YK_XANS_BYTES + ans.len, MSG_NOSIGNAL) == (ssize_t)(YK_XANS_BYTES + ans.len));
}

static char local[SLICES + 2][1024];

static void post_all(struct yk_stream *s, struct yk_slice *slices, unsigned how) {
    static const uint8_t ops[SLICES] = {YK_SLICE_READ, YK_SLICE_WRITE, YK_SLICE_READ, YK_SLICE_PING,
                                        YK_SLICE_NOTE, YK_SLICE_FENCE, YK_SLICE_READ};
    static const struct yk_xfer_guard guard = {.descriptor = 1};
    for (int i = 0; i < SLICES; i++) {
        slices[i] = (struct yk_slice){.op = ops[i], .local = local[i + 1], .len = 32, .region = 1,
                                      .offset = 64, .core = &slices[i]};
        slices[i].guard = i == 1 || i == 2 ? &guard : NULL; /* a write, a read */
        CHECK(yk_stream_room(s) > 0);
        yk_stream_post(s, &slices[i]);
    }
    yk_stream_flush(s);
    if (how & 1) /* one whose bytes go nowhere, and one that ends with its answer */
        yk_stream_cancel(s, &slices[2]);
    if (how & 2)
        yk_stream_cancel(s, &slices[1]);
}

static void to_initiator(const uint8_t *data, size_t size, int greeted) {
    struct yk_shard_env env = {.events = &events, .opts = &opts, .incarnation = 1};
    struct yk_lane lane = {.id = 5};
    struct yk_slice slices[SLICES];
    struct yk_stream *s;
    struct yk_err err;
    int fds[2];
    if (loop == NULL) {
        CHECK(yk_loop_new(&loop, &err) == 0);
        atexit(free_loop);
    }
    env.loop = loop;
    ups = downs = ended = 0;
    memset(local, CANARY, sizeof(local));
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    struct yk_stream_opts o = {.lane = &lane, .env = &env, .peer = &self, .fd = fds[0], .bulk = 1};
    CHECK(yk_stream_new(&o, &s, &err) == 0);
    if (greeted) {
        put_welcome(fds[1]);
        while (ups == 0)
            yk_loop_turn(loop, YK_NS_PER_S);
        post_all(s, slices, size > 0 ? data[0] : 0);
    }
    for (size_t half = size / 2, i = 0; i < 2 && size > 0; i++) { /* in two pieces */
        (void)!send(fds[1], data + i * half, i == 0 ? half : size - half, MSG_NOSIGNAL | MSG_DONTWAIT);
        yk_loop_turn(loop, 0);
    }
    shutdown(fds[1], SHUT_RDWR);
    for (int i = 0; i < 100 && downs == 0; i++)
        yk_loop_turn(loop, YK_NS_PER_S);
    CHECK(downs == 1);
    yk_stream_free(s);
    CHECK(ended == (greeted ? SLICES : 0));
    for (size_t i = 0; i < sizeof(local); i++) {
        size_t slice = i / sizeof(local[0]), at = i % sizeof(local[0]);
        int theirs = slice == 1 || slice == 3 || slice == 7; /* the reads */
        CHECK(((char *)local)[i] == CANARY || (theirs && at < 32));
    }
    close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    switch (data[0] & 3) {
    case 0:
        codecs(data + 1, size - 1);
        break;
    case 1:
        to_server(data + 1, size - 1);
        break;
    default:
        to_initiator(data + 1, size - 1, (data[0] & 3) == 2);
        break;
    }
    return 0;
}
