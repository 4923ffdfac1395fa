/* SPDX-License-Identifier: Apache-2.0
 *
 * What TCP over loopback does by itself: a child and this process, one connection, plain blocking send
 * and recv of whole blocks, the footprint of both memories as in the cases beside it. The socket is as
 * the kernel makes it, but for TCP_NODELAY.
 *
 * One command of 16 bytes starts a series of blocks, one byte ends it; in a ping-pong the 48 bytes of a
 * request are answered by 16 and a block, as the engine's are.
 */
#include "bench/xfer_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUEST_BYTES 48u
#define ANSWER_BYTES  16u

/* All of buf. spin: looks again instead of sleeping. */
static int whole(int fd, void *buf, uint64_t bytes, int sends, int spins) {
    uint64_t done = 0;
    int flags = (spins ? MSG_DONTWAIT : 0) | MSG_NOSIGNAL;
    while (done < bytes) {
        ssize_t n = sends ? send(fd, (char *)buf + done, bytes - done, flags)
                          : recv(fd, (char *)buf + done, bytes - done, flags);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return -YK_EGONE;
        done += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

static int blocks(struct xfer_plain *p, uint64_t n, int sends) {
    uint64_t places = XFER_FOOTPRINT / p->bytes;
    int rc = 0;
    for (uint64_t i = 0; i < n && rc == 0; i++)
        rc = whole(p->fd, p->memory + p->at++ % places * p->bytes, p->bytes, sends, 0);
    return rc;
}

/* ---- the child ---------------------------------------------------------------------------------- */

static int serve_series(struct xfer_plain *p) {
    uint64_t command[2];
    char byte = 0;
    if (whole(p->fd, command, sizeof(command), 0, 0) < 0)
        return -YK_EGONE;
    int rc = blocks(p, command[0], !p->writes);
    return rc == 0 && p->writes ? whole(p->fd, &byte, 1, 1, 0) : rc;
}

static int serve_ping(struct xfer_plain *p) {
    char request[REQUEST_BYTES], *answer = p->memory + p->at++ % 1024u * (p->bytes + ANSWER_BYTES);
    if (whole(p->fd, request, sizeof(request), 0, p->spins) < 0)
        return -YK_EGONE;
    return whole(p->fd, answer, p->bytes + ANSWER_BYTES, 1, p->spins);
}

static void child_main(struct xfer_plain *p, int pings) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    p->memory = yk_bench_buffer(XFER_FOOTPRINT);
    while (p->memory != NULL && (pings ? serve_ping(p) : serve_series(p)) == 0)
        continue;
    _exit(0);
}

/* ---- this side ---------------------------------------------------------------------------------- */

static int connected_pair(int fds[2]) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(sa);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (listener >= 0 && fds[0] >= 0 && bind(listener, (struct sockaddr *)&sa, sizeof(sa)) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&sa, &len) == 0 &&
        connect(fds[0], (struct sockaddr *)&sa, sizeof(sa)) == 0)
        fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (listener >= 0)
        close(listener);
    for (int i = 0; i < 2 && fds[1] >= 0; i++)
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (fds[1] >= 0)
        return 0;
    if (fds[0] >= 0)
        close(fds[0]);
    return -YK_EIO;
}

int xfer_plain_open(struct xfer_plain *p, uint64_t bytes, int writes, int spins) {
    int fds[2], pings = bytes < 16 * KIB;
    *p = (struct xfer_plain){.fd = -1, .bytes = bytes, .writes = writes, .spins = spins};
    int rc = connected_pair(fds);
    if (rc < 0)
        return rc;
    p->pid = fork();
    if (p->pid == 0) {
        close(fds[0]);
        p->fd = fds[1];
        child_main(p, pings);
    }
    close(fds[1]);
    p->fd = fds[0];
    p->memory = yk_bench_buffer(XFER_FOOTPRINT);
    if (p->pid > 0 && p->memory != NULL)
        return 0;
    xfer_plain_close(p);
    return -YK_ENOMEM;
}

void xfer_plain_close(struct xfer_plain *p) {
    if (p->fd >= 0)
        close(p->fd);
    while (p->pid > 0 && waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (p->memory != NULL)
        munmap(p->memory, XFER_FOOTPRINT);
    *p = (struct xfer_plain){.fd = -1};
}

int xfer_plain_many(struct yk_series *s, uint64_t i, uint64_t n) {
    struct xfer_plain *p = s->arg;
    uint64_t command[2] = {n, i};
    char byte;
    int rc = whole(p->fd, command, sizeof(command), 1, 0);
    if (rc == 0)
        rc = blocks(p, n, p->writes);
    return rc == 0 && p->writes ? whole(p->fd, &byte, 1, 0, 0) : rc;
}

int xfer_plain_ping(void *arg, uint64_t i) {
    struct xfer_plain *p = arg;
    char request[REQUEST_BYTES] = {(char)i};
    char *answer = p->memory + i % 1024u * (p->bytes + ANSWER_BYTES);
    int rc = whole(p->fd, request, sizeof(request), 1, p->spins);
    return rc == 0 ? whole(p->fd, answer, p->bytes + ANSWER_BYTES, 0, p->spins) : rc;
}
