/* SPDX-License-Identifier: Apache-2.0
 *
 * Talking to Redis (bench/resp.h).
 */
#include "bench/resp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <yolk/status.h>

int yk_resp_open(struct yk_resp *r, const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path))
        return -YK_EINVAL;
    memcpy(a.sun_path, path, strlen(path));
    r->at = r->len = 0;
    r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->fd < 0)
        return -YK_EGONE;
    if (connect(r->fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return 0;
    close(r->fd);
    r->fd = -1;
    return -YK_EGONE;
}

void yk_resp_close(struct yk_resp *r) {
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

int yk_resp_send(struct yk_resp *r, const void *bytes, size_t len) {
    size_t done = 0;
    while (done < len) {
        ssize_t n = send(r->fd, (const char *)bytes + done, len - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return -YK_EGONE;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

size_t yk_resp_command(char *to, const char *const *words, const size_t *lens, size_t n,
                       size_t last_len) {
    size_t at = (size_t)sprintf(to, "*%zu\r\n", n + (last_len != SIZE_MAX));
    for (size_t i = 0; i < n; i++) {
        at += (size_t)sprintf(to + at, "$%zu\r\n", lens[i]);
        memcpy(to + at, words[i], lens[i]);
        at += lens[i];
        at += (size_t)sprintf(to + at, "\r\n");
    }
    if (last_len != SIZE_MAX)
        at += (size_t)sprintf(to + at, "$%zu\r\n", last_len);
    return at;
}

static int fill(struct yk_resp *r) {
    if (r->at > 0) {
        memmove(r->in, r->in + r->at, r->len - r->at);
        r->len -= r->at;
        r->at = 0;
    }
    if (r->len == sizeof(r->in))
        return -YK_EPROTO;
    ssize_t n;
    while ((n = recv(r->fd, r->in + r->len, sizeof(r->in) - r->len, 0)) < 0 && errno == EINTR)
        continue;
    if (n <= 0)
        return -YK_EGONE;
    r->len += (size_t)n;
    return 0;
}

/* A line without its end, terminated; it stays until the next read. */
static int line(struct yk_resp *r, char **ret_line) {
    for (;;) {
        char *from = r->in + r->at;
        char *end = memchr(from, '\n', r->len - r->at);
        if (end != NULL && end > from && end[-1] == '\r') {
            end[-1] = '\0';
            r->at = (size_t)(end + 1 - r->in);
            *ret_line = from;
            return 0;
        }
        int rc = fill(r);
        if (rc < 0)
            return rc;
    }
}

/* Bytes that follow: those that came along, the rest straight into buf. */
static int bulk(struct yk_resp *r, void *buf, size_t len) {
    size_t have = r->len - r->at < len ? r->len - r->at : len;
    memcpy(buf, r->in + r->at, have);
    r->at += have;
    while (have < len) {
        ssize_t n = recv(r->fd, (char *)buf + have, len - have, MSG_WAITALL);
        if (n == 0 || (n < 0 && errno != EINTR))
            return -YK_EGONE;
        have += n > 0 ? (size_t)n : 0;
    }
    char *end;
    return line(r, &end);
}

int yk_resp_reply(struct yk_resp *r, void *buf, size_t cap, int64_t *ret_int) {
    char *text;
    int rc = line(r, &text);
    if (rc < 0)
        return rc;
    *ret_int = strtoll(text + 1, NULL, 10);
    if (text[0] == '+')
        *ret_int = 0;
    if (text[0] == '+' || text[0] == ':')
        return 0;
    if (text[0] != '$' || (*ret_int > 0 && (uint64_t)*ret_int > cap))
        return -YK_EPROTO;
    return *ret_int < 0 ? 0 : bulk(r, buf, (size_t)*ret_int);
}
