/* SPDX-License-Identifier: Apache-2.0
 *
 * See proxy.h.
 */
#include "proxy.h"

#include "fixture.h"

#include "base/clock.h"
#include "client/dial.h"
#include "wire/msg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_loopback(unsigned *ret_port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

unsigned proxy_free_port(void) {
    unsigned port;
    close(listen_loopback(&port));
    return port;
}

static void conn_close(struct proxy_conn *c) {
    close(c->client);
    close(c->node);
    free(c->buf);
    *c = (struct proxy_conn){.client = -1, .node = -1};
}

/* A client that finds no node is turned away, as the node would. */
static void conn_open(struct proxy *p) {
    int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC), node = -1, one = 1;
    struct yk_err err;
    if (fd < 0)
        return;
    for (unsigned i = 0; i < PROXY_CONNS; i++) {
        if (p->conns[i].client >= 0)
            continue;
        if (yk_dial(&p->node, yk_now_ns() + YK_NS_PER_S, &node, &err) < 0)
            break;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        p->conns[i] = (struct proxy_conn){.client = fd, .node = node};
        return;
    }
    close(fd);
}

/* 0, or -1: the other side is gone. */
static int send_all(int fd, const unsigned char *at, size_t len) {
    while (len > 0) {
        struct pollfd w = {fd, POLLOUT, 0};
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            if (poll(&w, 1, 10000) <= 0)
                return -1;
        } else {
            return -1;
        }
    }
    return 0;
}

static int from_client(struct proxy_conn *c) {
    unsigned char buf[65536];
    ssize_t n = recv(c->client, buf, sizeof(buf), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return 0;
    return n <= 0 ? -1 : send_all(c->node, buf, (size_t)n);
}

/* Passes on the frames that are whole. */
static int frames(struct proxy *p, struct proxy_conn *c) {
    struct yk_frame f;
    size_t at = 0;
    while (c->len - at >= YK_FRAME_HDR) {
        if (yk_frame_decode(c->buf + at, UINT32_MAX, &f, NULL) < 0)
            return -1;
        size_t len = YK_FRAME_HDR + (size_t)f.body_bytes;
        if (c->len - at < len)
            break;
        if (p->hook != NULL)
            p->hook(p->arg, f.op, c->buf + at, len);
        if (send_all(c->client, c->buf + at, len) < 0)
            return -1;
        at += len;
    }
    memmove(c->buf, c->buf + at, c->len - at);
    c->len -= at;
    return 0;
}

static int from_node(struct proxy *p, struct proxy_conn *c) {
    if (c->cap - c->len < 65536) {
        c->cap = c->cap * 2 + 131072;
        c->buf = realloc(c->buf, c->cap);
        if (c->buf == NULL)
            abort();
    }
    ssize_t n = recv(c->node, c->buf + c->len, c->cap - c->len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        return -1;
    c->len += (size_t)n;
    return frames(p, c);
}

static void *relay(void *arg) {
    struct proxy *p = arg;
    for (;;) {
        struct pollfd w[2 + 2 * PROXY_CONNS] = {{p->stop[0], POLLIN, 0}, {p->listener, POLLIN, 0}};
        for (unsigned i = 0; i < PROXY_CONNS; i++) {
            w[2 + 2 * i] = (struct pollfd){p->conns[i].client, POLLIN, 0};
            w[3 + 2 * i] = (struct pollfd){p->conns[i].node, POLLIN, 0};
        }
        if (poll(w, 2 + 2 * PROXY_CONNS, -1) < 0)
            continue;
        if (w[0].revents != 0)
            return NULL;
        for (unsigned i = 0; i < PROXY_CONNS; i++) {
            struct proxy_conn *c = &p->conns[i];
            int rc = w[2 + 2 * i].revents != 0 ? from_client(c) : 0;
            if (rc == 0 && w[3 + 2 * i].revents != 0)
                rc = from_node(p, c);
            if (rc < 0)
                conn_close(c);
        }
        if (w[1].revents != 0)
            conn_open(p);
    }
}

void proxy_start(struct proxy *p, const char *node_url) {
    unsigned port;
    struct yk_err err;
    memset(p, 0, sizeof(*p));
    for (unsigned i = 0; i < PROXY_CONNS; i++)
        p->conns[i].client = p->conns[i].node = -1;
    assert_int_equal(yk_parse_addr(node_url, &p->node, &err), 0);
    p->listener = listen_loopback(&port);
    snprintf(p->url, sizeof(p->url), "tcp:127.0.0.1:%u", port);
    assert_int_equal(pipe(p->stop), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, relay, p), 0);
}

void proxy_stop(struct proxy *p) {
    assert_int_equal(write(p->stop[1], "", 1), 1);
    pthread_join(p->thread, NULL);
    for (unsigned i = 0; i < PROXY_CONNS; i++)
        if (p->conns[i].client >= 0)
            conn_close(&p->conns[i]);
    close(p->listener);
    close(p->stop[0]);
    close(p->stop[1]);
}
