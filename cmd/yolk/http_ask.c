/* SPDX-License-Identifier: Apache-2.0
 *
 * One HTTP request (http_ask.h): HTTP/1.0, so that the answer comes in one piece and ends with the connection.
 */
#include "http_ask.h"

#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADS_MAX 16384u

static int left_ms(uint64_t until_ns) {
    uint64_t now = yk_now_ns();
    return now < until_ns ? (int)((until_ns - now) / YK_NS_PER_MS) + 1 : 0;
}

static int wait_for(int fd, short events, uint64_t until_ns) {
    struct pollfd p = {.fd = fd, .events = events};
    int rc;
    do {
        rc = poll(&p, 1, left_ms(until_ns));
    } while (rc < 0 && errno == EINTR);
    return rc > 0 ? 0 : -YK_ETIMEDOUT;
}

static int try_address(const struct addrinfo *a, uint64_t until_ns) {
    int error = 0, fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    socklen_t len = sizeof(error);
    if (fd < 0)
        return -1;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 ||
        (errno == EINPROGRESS && wait_for(fd, POLLOUT, until_ns) == 0 &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0))
        return fd;
    close(fd);
    return -1;
}

static int dial(const char *address, uint64_t until_ns, int *ret_fd, struct yk_err *err) {
    struct addrinfo want = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    const char *colon = strrchr(address, ':');
    char host[256];
    int fd = -1;
    if (colon == NULL || colon == address || (size_t)(colon - address) >= sizeof(host) || colon[1] == '\0')
        return yk_err_set(err, -YK_EINVAL, "found '%.80s', expected HOST:PORT", address);
    bool is_v6 = address[0] == '[' && colon[-1] == ']';
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address) - 2 * is_v6, address + is_v6);
    if (getaddrinfo(host, colon + 1, &want, &found) == 0)
        for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next)
            fd = try_address(a, until_ns);
    if (found != NULL)
        freeaddrinfo(found);
    *ret_fd = fd;
    return fd >= 0 ? 0 : yk_err_set(err, -YK_EGONE, "nobody answers at %.80s: start yolkd, or say where its --http is", address);
}

static int send_all(int fd, const char *data, size_t len, uint64_t until_ns) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -YK_EGONE;
        if (n < 0 && wait_for(fd, POLLOUT, until_ns) < 0)
            return -YK_ETIMEDOUT;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int receive_all(int fd, struct yk_buf *into, uint64_t until_ns) {
    char part[16384];
    for (;;) {
        ssize_t n = recv(fd, part, sizeof(part), 0);
        if (n == 0)
            return into->status;
        if (n > 0)
            yk_buf_append(into, part, (size_t)n);
        else if (errno != EAGAIN && errno != EINTR)
            return -YK_EGONE;
        else if (wait_for(fd, POLLIN, until_ns) < 0)
            return -YK_ETIMEDOUT;
    }
}

static int split(const struct yk_buf *all, struct yk_buf *ret_body, int *ret_status) {
    const char *text = yk_buf_text(all), *body = strstr(text, "\r\n\r\n");
    if (body == NULL || sscanf(text, "HTTP/1.%*d %d", ret_status) != 1)
        return -YK_EPROTO;
    yk_buf_append(ret_body, body + 4, all->len - (size_t)(body + 4 - text));
    return ret_body->status;
}

int yolk_http_ask(const char *address, const char *path, const char *body, uint32_t timeout_ms, struct yk_buf *ret_body,
                  int *ret_status, struct yk_err *err) {
    uint64_t until_ns = yk_now_ns() + timeout_ms * YK_NS_PER_MS;
    size_t len = body != NULL ? strlen(body) : 0;
    struct yk_buf all;
    char head[512];
    int fd, n = snprintf(head, sizeof(head),
                         "%s %s HTTP/1.0\r\nHost: %.200s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                         body != NULL ? "POST" : "GET", path, address, len);
    int rc = dial(address, until_ns, &fd, err);
    if (rc < 0)
        return rc;
    yk_buf_init(&all, ret_body->max + HEADS_MAX);
    rc = send_all(fd, head, (size_t)n, until_ns);
    if (rc == 0)
        rc = send_all(fd, body, len, until_ns);
    if (rc == 0)
        rc = receive_all(fd, &all, until_ns);
    if (rc == 0)
        rc = split(&all, ret_body, ret_status);
    close(fd);
    yk_buf_fini(&all);
    return rc == 0 ? 0 : yk_err_set(err, rc, "%.80s: %s", address, yk_status_text(rc));
}
