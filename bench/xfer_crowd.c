/* SPDX-License-Identifier: Apache-2.0
 *
 * A process full of engines, each a peer of its own to the one that is measured (xfer_peers.c). They are
 * in a process of their own, so that their memory is not counted.
 *
 * It is forked before this process has engines and then does what it is told through a socket: a command
 * asks for so many engines, either such that listen or such that read once over each kind of lane from a
 * segment; each is answered when it is there. It ends when the socket does, however that comes.
 *
 * Threads: the caller's; the child has one, beside those of its engines.
 */
#include "bench/xfer_priv.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MS 30000 /* an engine that takes so long will not come */

struct command {
    uint32_t count;
    char where[XFER_CROWD_WHERE]; /* to be read from; "": listen */
};

/* ---- the child ------------------------------------------------------------------------------------ */

static int read_once(yk_xfer *engine, const char *where, uint32_t xclass, char *memory) {
    yk_xfer_segment segment;
    int rc = yk_xfer_open(engine, where, 0, &segment);
    if (rc < 0)
        return rc;
    yk_xfer_request r = {.op = YK_XFER_READ, .local = memory, .segment = segment, .length = XFER_CROWD_BYTES};
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = xclass};
    return yk_xfer_run(engine, &r, 1, &so);
}

static int one_engine(const char *where, char *memory, char ret_address[XFER_CROWD_WHERE]) {
    yk_xfer_opts o = {.size = sizeof(o),
                      .transports = YK_XFER_TCP,
                      .shm_dir = "",
                      .listen = where[0] == 0 ? "127.0.0.1:0" : NULL};
    yk_xfer_memory m = {
        .addr = memory, .length = XFER_CROWD_BYTES, .access = YK_XFER_REMOTE_READ, .fd = -1};
    yk_xfer *engine;
    int rc = yk_xfer_create(&o, &engine);
    if (rc == 0)
        rc = yk_xfer_register(engine, &m, 1);
    if (rc == 0 && where[0] == 0)
        rc = yk_xfer_publish(engine, "bench", memory, XFER_CROWD_BYTES, NULL);
    for (uint32_t c = YK_XFER_URGENT; c <= YK_XFER_DEMAND && rc == 0 && where[0] != 0; c++)
        rc = read_once(engine, where, c, memory);
    if (rc < 0)
        return xfer_failed("one of many peers", rc);
    snprintf(ret_address, XFER_CROWD_WHERE, "%s/bench", yk_xfer_address(engine));
    return 0;
}

static void crowd_main(int fd) {
    static char memory[XFER_CROWD_BYTES];
    struct command c;
    while (recv(fd, &c, sizeof(c), MSG_WAITALL) == (ssize_t)sizeof(c))
        for (uint32_t i = 0; i < c.count; i++) {
            char address[XFER_CROWD_WHERE] = "";
            int rc = one_engine(c.where, memory, address);
            if (rc < 0)
                address[0] = 0;
            if (send(fd, address, sizeof(address), MSG_NOSIGNAL) != (ssize_t)sizeof(address) || rc < 0)
                _exit(1);
        }
    _exit(0);
}

/* ---- the parent ----------------------------------------------------------------------------------- */

int xfer_crowd_start(struct xfer_crowd *c) {
    int pair[2];
    *c = (struct xfer_crowd){.fd = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -YK_EIO;
    c->pid = fork();
    if (c->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(pair[0]);
        crowd_main(pair[1]);
    }
    close(pair[1]);
    c->fd = pair[0];
    if (c->pid > 0)
        return 0;
    xfer_crowd_stop(c);
    return -YK_ELIMIT;
}

int xfer_crowd_more(struct xfer_crowd *c, uint32_t count, const char *where,
                    int (*each)(void *arg, const char *address), void *arg) {
    struct command m = {.count = count};
    char address[XFER_CROWD_WHERE];
    snprintf(m.where, sizeof(m.where), "%s", where);
    if (send(c->fd, &m, sizeof(m), MSG_NOSIGNAL) != (ssize_t)sizeof(m))
        return -YK_EGONE;
    for (uint32_t i = 0; i < count; i++) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        int n;
        while ((n = poll(&p, 1, ANSWER_MS)) < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return -YK_ETIMEDOUT;
        if (recv(c->fd, address, sizeof(address), MSG_WAITALL) != (ssize_t)sizeof(address) ||
            address[0] == 0)
            return -YK_EGONE; /* it has said why */
        int rc = each != NULL ? each(arg, address) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

void xfer_crowd_stop(struct xfer_crowd *c) {
    if (c->fd >= 0)
        close(c->fd);
    while (c->pid > 0 && waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    *c = (struct xfer_crowd){.fd = -1};
}
