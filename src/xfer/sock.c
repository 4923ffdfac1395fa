/* SPDX-License-Identifier: Apache-2.0
 *
 * See sock.h. What a path inside the host wants, as measured on it: a congestion control that does not
 * pace (bbr's pacing halves the throughput of loopback). What a long path wants, also measured: bbr, since cubic
 * halves its window at each lost packet (docs/performance.md, WAN). Buffers are left to the kernel's own
 * tuning, which also follows what a network needs.
 *
 * Threads: any.
 */
#include "xfer/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <linux/tcp.h> /* tcpi_min_rtt, which netinet/tcp.h has not */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Half-open connections: whoever has vanished without a word is given up by the kernel after DEAD_MS, whether data waits
 * for it (the core gives a lane up long before) or, since it is asked then, nothing does: a host that lost its power
 * may have left thousands. */
#define DEAD_MS     30000
#define IDLE_S      20
#define ASK_EVERY_S 5
#define ASK_TIMES   3     /* without TCP_USER_TIMEOUT */
#define LONG_US     5000u /* within a data centre it is less, unless a queue is in the way */

int yk_sock_parse(const char *host, uint16_t port, struct yk_sockaddr *ret_addr) {
    struct yk_sockaddr a;
    memset(&a, 0, sizeof(a));
    if (inet_pton(AF_INET, host, &a.u.v4.sin_addr) == 1) {
        a.u.v4.sin_family = AF_INET;
        a.u.v4.sin_port = htons(port);
        a.len = sizeof(a.u.v4);
    } else if (inet_pton(AF_INET6, host, &a.u.v6.sin6_addr) == 1) {
        a.u.v6.sin6_family = AF_INET6;
        a.u.v6.sin6_port = htons(port);
        a.len = sizeof(a.u.v6);
    } else {
        return -YK_EINVAL;
    }
    *ret_addr = a;
    return 0;
}

int yk_sock_resolve(const char *host, uint16_t port, int passive, struct yk_sockaddr *ret_addrs, int cap,
                    struct yk_err *err) {
    if (cap > 0 && yk_sock_parse(host, port, &ret_addrs[0]) == 0)
        return 1;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0};
    struct addrinfo *found = NULL;
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    int rc = getaddrinfo(host, service, &hints, &found);
    if (rc != 0)
        return yk_err_set(err, -YK_ENOENT, "host '%s' is not known: %s", host, gai_strerror(rc));
    int n = 0;
    for (struct addrinfo *a = found; a != NULL && n < cap; a = a->ai_next) {
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) ||
            a->ai_addrlen > sizeof(ret_addrs[n].u))
            continue;
        memcpy(&ret_addrs[n].u, a->ai_addr, a->ai_addrlen);
        ret_addrs[n++].len = a->ai_addrlen;
    }
    freeaddrinfo(found);
    return n > 0 ? n : yk_err_set(err, -YK_ENOENT, "host '%s' has no address", host);
}

int yk_sock_unix(const char *path, struct yk_sockaddr *ret_addr) {
    size_t len = strlen(path);
    memset(ret_addr, 0, sizeof(*ret_addr));
    if (len == 0 || len >= sizeof(ret_addr->u.un.sun_path))
        return -YK_EINVAL;
    ret_addr->u.un.sun_family = AF_UNIX;
    memcpy(ret_addr->u.un.sun_path, path, len + 1);
    ret_addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return 0;
}

const char *yk_sock_dir(void) {
    const char *run = getenv("XDG_RUNTIME_DIR");
    return run != NULL && run[0] == '/' && access(run, W_OK | X_OK) == 0 ? run : "/tmp";
}

/* ---- addresses ---------------------------------------------------------------------------------- */

/* The address of v4 or v6 as bytes; how many. */
static size_t bytes_of(const struct sockaddr *a, const unsigned char **ret) {
    if (a != NULL && a->sa_family == AF_INET) {
        *ret = (const unsigned char *)&((const struct sockaddr_in *)(const void *)a)->sin_addr;
        return 4;
    }
    if (a != NULL && a->sa_family == AF_INET6) {
        *ret = (const unsigned char *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
        return 16;
    }
    return 0;
}

void yk_sock_host(const struct sockaddr *addr, char buf[YK_PEER_HOST]) {
    const unsigned char *b;
    buf[0] = 0;
    if (bytes_of(addr, &b) > 0 && inet_ntop(addr->sa_family, b, buf, YK_PEER_HOST) == NULL)
        buf[0] = 0;
}

uint16_t yk_sock_port(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)a)->sin_port);
    return a->sa_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)(const void *)a)->sin6_port) : 0;
}

int yk_sock_is_loopback(const struct sockaddr *addr) {
    static const unsigned char v6[16] = {[15] = 1};
    const unsigned char *b;
    size_t n = bytes_of(addr, &b);
    return n == 4 ? b[0] == 127 : n == 16 && memcmp(b, v6, 16) == 0;
}

int yk_sock_is_any(const struct sockaddr *addr) {
    static const unsigned char zero[16];
    const unsigned char *b;
    size_t n = bytes_of(addr, &b);
    return n > 0 && memcmp(b, zero, n) == 0;
}

int yk_sock_same_host(const struct sockaddr *a, const struct sockaddr *b) {
    const unsigned char *x, *y;
    size_t n = bytes_of(a, &x);
    return n > 0 && n == bytes_of(b, &y) && memcmp(x, y, n) == 0;
}

int yk_sock_same_net(const struct sockaddr *a, const struct sockaddr *b, const struct sockaddr *mask) {
    const unsigned char *x, *y, *m;
    size_t n = bytes_of(a, &x);
    if (n == 0 || n != bytes_of(b, &y) || n != bytes_of(mask, &m))
        return 0;
    for (size_t i = 0; i < n; i++)
        if ((x[i] ^ y[i]) & m[i])
            return 0;
    return 1;
}

/* ---- options ------------------------------------------------------------------------------------ */

void yk_sock_tune(int fd, int same_host) {
    int one = 1, idle = IDLE_S, every = ASK_EVERY_S, times = ASK_TIMES, dead = DEAD_MS;
    /* What a socket does not take, it does without. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
    if (same_host)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

const char *yk_sock_dial_error(int e, int *ret_code) {
    *ret_code = e == EMFILE || e == ENFILE || e == EADDRINUSE || e == EADDRNOTAVAIL ? -YK_ELIMIT
                : e == EACCES || e == EPERM                                         ? -YK_EPERM
                : e == ETIMEDOUT                                                    ? -YK_ETIMEDOUT
                                                                                    : -YK_EGONE;
    if (e != EADDRINUSE && e != EADDRNOTAVAIL)
        return strerror(e);
    /* What the kernel says of it is of addresses. It says the same where it has none of the family to come from. */
    return "no local port is free (net.ipv4.ip_local_port_range), or no local address leads there";
}

static int tcp_info(int fd, struct tcp_info *ret) {
    socklen_t len = sizeof(*ret);
    memset(ret, 0, sizeof(*ret)); /* an older kernel fills in less */
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len);
}

uint64_t yk_sock_path(int fd, int *ret_patient) {
    struct tcp_info i;
    char name[16] = "";
    socklen_t len = sizeof(name) - 1;
    *ret_patient = 0;
    if (tcp_info(fd, &i) < 0 || i.tcpi_min_rtt == UINT32_MAX)
        return 0;
    if (i.tcpi_min_rtt >= LONG_US)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3);
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0)
        *ret_patient = strncmp(name, "bbr", 3) == 0;
    return i.tcpi_min_rtt * UINT64_C(1000);
}

uint64_t yk_sock_lost(int fd) {
    struct tcp_info i;
    return tcp_info(fd, &i) < 0 ? 0 : (uint64_t)i.tcpi_total_retrans + i.tcpi_rcv_ooopack;
}

uint32_t yk_sock_device_mbit(const char *device) {
    char path[128], text[16] = "";
    snprintf(path, sizeof(path), "/sys/class/net/%.64s/speed", device);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0)
        close(fd);
    long mbit = n > 0 ? strtol(text, NULL, 10) : 0;
    return mbit > 0 && mbit < 100000000 ? (uint32_t)mbit : 0;
}

/* Kept once it is known: later there may be no descriptor to read it with. */
int yk_host_boot_id(char buf[YK_BOOT_ID_BYTES]) {
    static pthread_mutex_t boot_lock = PTHREAD_MUTEX_INITIALIZER;
    static char known[YK_BOOT_ID_BYTES];
    pthread_mutex_lock(&boot_lock);
    int fd = known[0] == 0 ? open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        char text[YK_BOOT_ID_BYTES] = "";
        if (read(fd, text, YK_BOOT_ID_BYTES - 1) == (ssize_t)YK_BOOT_ID_BYTES - 1)
            memcpy(known, text, sizeof(known));
        close(fd);
    }
    memcpy(buf, known, sizeof(known));
    pthread_mutex_unlock(&boot_lock);
    return buf[0] != 0;
}
