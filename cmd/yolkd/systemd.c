/* SPDX-License-Identifier: Apache-2.0
 *
 * Readiness messages and passed sockets (systemd.h).
 */
#include "systemd.h"

#include "machine.h"

#include "base/log.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3

/* A variable that must be a number; 0 if it is not there. */
static int number(const char *name, uint64_t *ret_value, struct yk_err *err) {
    const char *text = getenv(name);
    char *end;
    *ret_value = 0;
    if (text == NULL)
        return 0;
    errno = 0;
    *ret_value = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0')
        return yk_err_set(err, -YK_EINVAL, "environment %s: found '%.40s', expected a number", name,
                          text);
    return 0;
}

/* A socket that the node can serve: listening, and unix or on a loopback address if no other is
 * allowed. */
static int check_socket(int fd, bool allow_remote, bool *ret_remote, struct yk_err *err) {
    struct sockaddr_storage a;
    socklen_t len = sizeof(a), int_len = sizeof(int);
    int listening = 0, type = 0;
    if (getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return yk_err_set(err, -YK_EINVAL, "passed descriptor %d: %s", fd, strerror(errno));
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_len);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_len);
    if (!listening || type != SOCK_STREAM)
        return yk_err_set(err, -YK_EINVAL, "passed descriptor %d is no listening stream socket",
                          fd);
    *ret_remote |= !yolkd_address_is_local((const struct sockaddr *)&a);
    if (allow_remote || !*ret_remote)
        return 0;
    return yk_err_set(
        err, -YK_EPERM,
        "passed descriptor %d is not on a loopback address, and --insecure-network is "
        "not given: nobody is authenticated yet",
        fd);
}

static int take_sockets(struct yolkd_systemd *systemd, bool allow_remote, struct yk_err *err) {
    uint64_t pid = 0, n = 0;
    int rc = number("LISTEN_PID", &pid, err);
    if (rc == 0)
        rc = number("LISTEN_FDS", &n, err);
    if (rc < 0 || pid != (uint64_t)getpid())
        return rc;
    if (n > YOLKD_SYSTEMD_FDS_MAX)
        return yk_err_set(err, -YK_EINVAL,
                          "environment LISTEN_FDS: found %llu, expected at most %d",
                          (unsigned long long)n, YOLKD_SYSTEMD_FDS_MAX);
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
        rc = check_socket(fd, allow_remote, &systemd->remote, err);
        if (rc < 0)
            return rc;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        systemd->fds[systemd->n_fds++] = fd;
    }
    return 0;
}

static int take_notify(struct yolkd_systemd *systemd, struct yk_err *err) {
    uint64_t pid = 0, us = 0;
    const char *path = getenv("NOTIFY_SOCKET");
    int rc = number("WATCHDOG_PID", &pid, err);
    if (rc == 0)
        rc = number("WATCHDOG_USEC", &us, err);
    if (rc < 0 || path == NULL)
        return rc;
    if ((path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(systemd->notify))
        return yk_err_set(err, -YK_EINVAL,
                          "environment NOTIFY_SOCKET: found '%.40s', expected a path or '@' and a "
                          "name, of at most %zu bytes",
                          path, sizeof(systemd->notify) - 1);
    memcpy(systemd->notify, path, strlen(path) + 1);
    if (pid == 0 || pid == (uint64_t)getpid())
        systemd->watchdog_ns = us * 1000u;
    return 0;
}

int yolkd_systemd_init(struct yolkd_systemd *systemd, bool allow_remote, struct yk_err *err) {
    static const char *const names[] = {"LISTEN_PID",    "LISTEN_FDS",   "LISTEN_FDNAMES",
                                        "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"};
    memset(systemd, 0, sizeof(*systemd));
    int rc = take_sockets(systemd, allow_remote, err);
    if (rc == 0)
        rc = take_notify(systemd, err);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    return rc;
}

void yolkd_systemd_notify(const struct yolkd_systemd *systemd, const char *fmt, ...) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char text[512];
    va_list ap;
    size_t len = strlen(systemd->notify);
    if (len == 0)
        return;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(to.sun_path, systemd->notify, len);
    if (to.sun_path[0] == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || n < 0)
        return;
    size_t bytes = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    struct timeval patience = {.tv_sec = 1}; /* a manager that hangs must not hang its services */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (sendto(fd, text, bytes, MSG_NOSIGNAL, (struct sockaddr *)&to,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
        yk_log(YK_LOG_DEBUG, "yolkd", "cannot notify '%s': %s", systemd->notify, strerror(errno));
    close(fd);
}

char *yolkd_socket_name(int fd, char *buf, unsigned size) {
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;
    socklen_t len = sizeof(a);
    char host[INET6_ADDRSTRLEN] = "?";
    memset(&a, 0, sizeof(a));
    if (getsockname(fd, &a.any, &len) < 0 || len < sizeof(a.any.sa_family)) {
        snprintf(buf, size, "descriptor %d", fd);
    } else if (a.any.sa_family == AF_UNIX) {
        int n = (int)(len - offsetof(struct sockaddr_un, sun_path));
        snprintf(buf, size, "unix:%.*s", n, a.un.sun_path);
    } else if (a.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof(host));
        snprintf(buf, size, "tcp:%s:%u", host, ntohs(a.v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof(host));
        snprintf(buf, size, "tcp:[%s]:%u", host, ntohs(a.v6.sin6_port));
    }
    return buf;
}
