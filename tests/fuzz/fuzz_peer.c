/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: bytes on the port for nodes.
 *
 * The first byte chooses. 0 to 3: what follows goes to the decoders of the messenger as first header and hello,
 * header of a frame, answer to a hello, refusal; what is decoded must be within what the header promises, and a
 * hello is encoded again and must read the same. Others: the bytes come to a messenger on a connection, behind
 * a proper hello if the choice is odd, in pieces of a length that the choice gives; it must answer or refuse,
 * end the connection with its other end, and have nothing left.
 *
 * Threads: one.
 */
#include "dir/peer.h"
#include "dir/peer_wire.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NEED(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void text_is_plain(const struct yk_err *err) {
    NEED(memchr(err->text, 0, sizeof(err->text)) != NULL);
    for (const char *p = err->text; *p != 0; p++)
        NEED((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void decode_hello(const uint8_t *body, uint32_t len) {
    unsigned char again[YK_PEER_HELLO_BYTES];
    struct yk_peer_hello h, h2, mine = {YK_PEER_VERSION, YK_PEER_VERSION_MIN, 1, {1, 1}, 0};
    struct yk_err err = {0};
    int rc = yk_peer_hello_decode(body, len, &h, &err);
    NEED(rc == 0 || rc == -YK_EPROTO);
    if (rc < 0)
        return;
    NEED(h.version_min <= h.version && h.version > 0);
    yk_peer_hello_encode(again, 0, &h);
    NEED(memcmp(again + YK_FRAME_HDR, body, YK_PEER_HELLO_BYTES - YK_FRAME_HDR) == 0);
    NEED(yk_peer_hello_decode(again + YK_FRAME_HDR, YK_PEER_HELLO_BYTES - YK_FRAME_HDR, &h2, &err) == 0);
    int a = yk_peer_hello_fit(&mine, &h, &err), b = yk_peer_hello_fit(&h, &mine, &err);
    NEED(a == b && a <= (int)YK_PEER_VERSION && (a > 0 || a == -YK_EVERSION || a == -YK_EPERM));
}

static void decode(unsigned kind, const uint8_t *data, size_t size) {
    struct yk_frame f = {0};
    struct yk_err err = {0};
    int rc;
    if (kind == 3) {
        rc = yk_peer_error_decode(data, (uint32_t)size, &err);
        NEED(rc < 0 && rc == err.code);
        text_is_plain(&err);
        return;
    }
    if (size < YK_FRAME_HDR)
        return;
    rc = kind == 0   ? yk_peer_first_decode(data, &f, &err)
         : kind == 1 ? yk_peer_frame_decode(data, YK_PEER_GUEST_BODY_MAX, &f, &err)
                     : yk_peer_answer_decode(data, &f, &err);
    NEED(rc == 0 || rc == -YK_EPROTO || (kind == 1 && rc == -YK_ETOOBIG));
    NEED(rc < 0 || f.body_bytes <= (kind == 1 ? YK_PEER_GUEST_BODY_MAX : YK_PEER_HELLO_MAX));
    size_t body = size - YK_FRAME_HDR;
    if (rc == 0 && kind != 1 && body >= f.body_bytes)
        decode_hello(data + YK_FRAME_HDR, f.body_bytes);
}

/* ---- a messenger --------------------------------------------------------------------------------- */

static uv_loop_t loop;
static struct yk_peers *peers;

static int on_frame(void *user, const struct yk_peer_who *from, unsigned op, const void *body, uint32_t len,
                    const struct yk_peer_reply_to *to, struct yk_err *err) {
    (void)user;
    NEED(from->id != 0 || to->id != 0);
    NEED(op >= 1 && op <= YK_PEER_OP_MAX);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum += ((const uint8_t *)body)[i];
    if (op == 99)
        return yk_err_set(err, -YK_EPROTO, "sum %u", sum);
    return to->id != 0 ? yk_peers_reply(peers, to, op, body, len) : 0;
}

static void start(void) {
    struct yk_peers_opts o = {
        .loop = &loop, .listen = "127.0.0.1:0", .cluster = 1, .self = {1, 1}, .ops = {.frame = on_frame}};
    NEED(uv_loop_init(&loop) == 0);
    NEED(yk_peers_open(&o, &peers, NULL) == 0);
}

static uint64_t conns(void) {
    struct yk_peers_counts n;
    yk_peers_counts(peers, &n);
    return n.conns;
}

static void drain(int fd) {
    char buf[4096];
    while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
        continue;
}

static void converse(unsigned choice, const uint8_t *data, size_t size) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)atoi(strchr(yk_peers_address(peers), ':') + 1))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEED(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    if (choice & 1) {
        unsigned char hello[YK_PEER_HELLO_BYTES];
        struct yk_peer_hello h = {1, 1, choice & 2 ? 1 : 0, {choice & 2 ? 7 : 0, 1}, 0};
        yk_peer_hello_encode(hello, 0, &h);
        NEED(send(fd, hello, sizeof(hello), 0) == (ssize_t)sizeof(hello));
    }
    size_t piece = 1 + (choice >> 2) * 7u;
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        if (send(fd, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        uv_run(&loop, UV_RUN_NOWAIT);
        drain(fd);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    drain(fd);
    close(fd);
    for (int i = 0; conns() > 0; i++) { /* at the latest when what it lingers for is over */
        NEED(i < 10000);
        uv_run(&loop, UV_RUN_ONCE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    if (data[0] < 4) {
        decode(data[0], data + 1, size - 1);
        return 0;
    }
    if (peers == NULL)
        start();
    converse(data[0], data + 1, size < 4096 ? size - 1 : 4095);
    return 0;
}
