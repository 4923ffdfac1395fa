/* SPDX-License-Identifier: Apache-2.0
 *
 * See peer_rig.h.
 */
#include "peer_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 60000u

uv_loop_t rig_loop;
static uv_timer_t guard;
static int late;

/* ---- the loop ------------------------------------------------------------------------------------ */

static void on_guard(uv_timer_t *t) {
    (void)t;
    late = 1;
}

int rig_begin(void **state) {
    (void)state;
    assert_int_equal(uv_loop_init(&rig_loop), 0);
    uv_timer_init(&rig_loop, &guard);
    uv_unref((uv_handle_t *)&guard);
    return 0;
}

void rig_wait_begin(void) {
    late = 0;
    uv_update_time(&rig_loop);
    uv_timer_start(&guard, on_guard, WAIT_MS, 0);
}

int rig_late(void) {
    return late;
}

/* A test that failed has left its nodes open. */
int rig_end(void **state) {
    (void)state;
    rig_wait_begin();
    while (uv_loop_alive(&rig_loop) && !late)
        uv_run(&rig_loop, UV_RUN_ONCE);
    assert_false(late);
    uv_close((uv_handle_t *)&guard, NULL);
    uv_run(&rig_loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig_loop), 0);
    return 0;
}

/* ---- nodes --------------------------------------------------------------------------------------- */

static void on_closed(void *user) {
    ((struct node *)user)->closed = 1;
}

static uint32_t number(const void *body, uint32_t len) {
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    return yk_rd_u32(&r);
}

static int on_frame(void *user, const struct yk_peer_who *from, unsigned op, const void *body, uint32_t len,
                    const struct yk_peer_reply_to *to, struct yk_err *err) {
    struct node *n = user;
    n->frames++;
    n->from = *from;
    switch (op) {
    case OP_ECHO:
        return yk_peers_reply(n->peers, to, op, body, len);
    case OP_HOLD:
        if (n->held_count == n->held_cap) {
            n->held_cap = n->held_cap != 0 ? 2 * n->held_cap : 64;
            n->held = realloc(n->held, n->held_cap * sizeof(*n->held));
            assert_non_null(n->held);
        }
        n->held[n->held_count++] = *to;
        return 0;
    case OP_TELL:
        n->disorder += number(body, len) < n->next_tell;
        n->next_tell = number(body, len) + 1;
        n->tells++;
        return 0;
    case OP_BAD:
        return yk_err_set(err, -YK_EPROTO, "op %u is not liked here", op);
    case OP_CLOSE:
        n->closing = 1;
        yk_peers_close(n->peers, on_closed, n);
        return 0;
    case OP_SUSPECTS: {
        unsigned char b[4];
        struct yk_wr w;
        yk_wr_init(&w, b, sizeof(b));
        yk_wr_u32(&w, n->suspects);
        return yk_peers_reply(n->peers, to, op, b, sizeof(b));
    }
    default:
        return yk_err_set(err, -YK_EPROTO, "op %u is not known", op);
    }
}

static void on_suspect(void *user, uint32_t member, int suspect) {
    struct node *n = user;
    n->suspects += suspect != 0;
    n->cleared += suspect == 0;
    if (n->on_suspect != NULL)
        n->on_suspect(n, member, suspect);
}

struct yk_peers_opts rig_opts(struct node *n, uint32_t id) {
    memset(n, 0, sizeof(*n));
    n->id = id;
    return (struct yk_peers_opts){.loop = &rig_loop,
                                  .listen = id != 0 ? "127.0.0.1:0" : NULL,
                                  .cluster = id != 0 ? CLUSTER : 0,
                                  .self = {id, id != 0 ? 1 : 0},
                                  .ops = {on_frame, on_suspect, n}};
}

void rig_open_with(struct node *n, const struct yk_peers_opts *opts) {
    struct yk_err err = {0};
    int rc = yk_peers_open(opts, &n->peers, &err);
    if (rc != 0)
        fail_msg("open: %s", err.text);
}

void rig_open(struct node *n, uint32_t id) {
    struct yk_peers_opts o = rig_opts(n, id);
    rig_open_with(n, &o);
}

void rig_close(struct node *n) {
    if (!n->closing)
        yk_peers_close(n->peers, on_closed, n);
    UNTIL(n->closed);
    free(n->held);
    memset(n, 0, sizeof(*n));
}

void rig_know(struct node *a, const struct node *b) {
    assert_int_equal(yk_peers_set(a->peers, b->id, 1, yk_peers_address(b->peers)), 0);
}

void rig_release(struct node *n, unsigned i, uint32_t value) {
    unsigned char b[4];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, value);
    assert_int_equal(yk_peers_reply(n->peers, &n->held[i], OP_HOLD, b, sizeof(b)), 0);
}

void rig_replied(void *user, int status, const void *body, uint32_t len) {
    struct asked *a = user;
    a->calls++;
    a->status = status;
    a->len = len;
    a->first = number(body, len);
    if (a->then != NULL)
        a->then(a);
}

int rig_ask(struct node *n, uint32_t member, unsigned op, uint32_t value, uint32_t len, uint32_t timeout_ms,
            struct asked *a) {
    unsigned char *body = calloc(1, len > 4 ? len : 4);
    struct yk_wr w;
    assert_non_null(body);
    yk_wr_init(&w, body, 4);
    yk_wr_u32(&w, value);
    unsigned calls = a->calls;
    int rc = yk_peers_ask(n->peers, member, op, body, len, timeout_ms, rig_replied, a);
    assert_int_equal(a->calls, calls); /* never from inside */
    free(body);
    return rc;
}

void rig_tell(struct node *n, uint32_t member, uint32_t value) {
    unsigned char b[4];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, value);
    assert_int_equal(yk_peers_tell(n->peers, member, OP_TELL, b, sizeof(b)), 0);
}

/* ---- a child ------------------------------------------------------------------------------------- */

static void child(uint32_t id, int out) {
    struct node n;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    uv_loop_init(&rig_loop);
    struct yk_peers_opts o = rig_opts(&n, id);
    if (yk_peers_open(&o, &n.peers, NULL) < 0)
        _exit(1);
    char text[64] = "";
    snprintf(text, sizeof(text), "%s", yk_peers_address(n.peers));
    if (write(out, text, sizeof(text)) != (ssize_t)sizeof(text))
        _exit(1);
    uv_run(&rig_loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* To be called before the loop has anything. */
pid_t rig_fork(uint32_t id, char address[64]) {
    int p[2];
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(id, p[1]);
    assert_true(pid > 0);
    assert_int_equal(read(p[0], address, 64), 64);
    close(p[0]);
    close(p[1]);
    return pid;
}

void rig_reap(pid_t pid) {
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- bare sockets -------------------------------------------------------------------------------- */

int raw_connect(const char *address) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

void raw_send(int fd, const void *bytes, size_t len) {
    const char *p = bytes;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            uv_run(&rig_loop, UV_RUN_NOWAIT);
            continue;
        }
        if (n < 0)
            return; /* closed: the test sees that in what it reads */
        p += n;
        len -= (size_t)n;
    }
}

void raw_hello(int fd, uint32_t version_min, uint32_t version, uint64_t cluster, uint32_t id, uint64_t incarnation) {
    unsigned char frame[YK_PEER_HELLO_BYTES];
    struct yk_peer_hello h = {version, version_min, cluster, {id, incarnation}, 0};
    yk_peer_hello_encode(frame, 0, &h);
    raw_send(fd, frame, sizeof(frame));
}

/* Whether all len bytes came; else it is over. */
static int raw_read(int fd, void *buf, size_t len) {
    size_t got = 0;
    rig_wait_begin();
    while (got < len && !rig_late()) {
        ssize_t n = recv(fd, (char *)buf + got, len - got, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return 0;
        if (n > 0)
            got += (size_t)n;
        else
            uv_run(&rig_loop, UV_RUN_NOWAIT);
    }
    return got == len;
}

void raw_frame(int fd, struct raw_frame *ret) {
    unsigned char header[YK_FRAME_HDR];
    struct yk_rd r;
    memset(ret, 0, sizeof(*ret));
    if (!raw_read(fd, header, sizeof(header))) {
        assert_false(rig_late());
        return;
    }
    yk_rd_init(&r, header, sizeof(header));
    ret->f.body_bytes = yk_rd_u32(&r);
    ret->f.op = yk_rd_u8(&r);
    ret->f.flags = yk_rd_u8(&r);
    (void)yk_rd_u16(&r);
    ret->f.id = yk_rd_u64(&r);
    assert_true(ret->f.body_bytes <= sizeof(ret->body));
    assert_true(raw_read(fd, ret->body, ret->f.body_bytes));
    if (ret->f.op == YK_PEER_ERROR)
        yk_peer_error_decode(ret->body, ret->f.body_bytes, &ret->err);
}

int raw_listen(char address[64]) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 64), 0);
    getsockname(fd, (struct sockaddr *)&a, &len);
    snprintf(address, 64, "127.0.0.1:%u", ntohs(a.sin_port));
    return fd;
}

int raw_accept(int listener) {
    int fd = -1;
    rig_wait_begin();
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0 && !rig_late())
        uv_run(&rig_loop, UV_RUN_NOWAIT);
    assert_true(fd >= 0);
    return fd;
}
