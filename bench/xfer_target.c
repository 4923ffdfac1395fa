/* SPDX-License-Identifier: Apache-2.0
 *
 * The two ends of a transfer benchmark (xfer_priv.h). The target tells its address through a pipe and
 * lives until the other pipe is closed, which the end of this process does, too, however it comes.
 */
#include "bench/xfer_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int xfer_failed(const char *what, int rc) {
    const char *text = yk_xfer_error_text();
    fprintf(stderr, "yolk bench: %s: %s\n", what, text[0] != '\0' ? text : yk_strerror(rc));
    return rc;
}

static int own_memory(yk_xfer *engine, int mappable, char **ret_memory) {
    void *p;
    int rc;
    if (mappable) {
        rc = yk_xfer_alloc(engine, XFER_FOOTPRINT, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, &p);
        if (rc < 0)
            return xfer_failed("memory", rc);
        memset(p, 1, XFER_FOOTPRINT);
        *ret_memory = p;
        return 0;
    }
    p = yk_bench_buffer(XFER_FOOTPRINT);
    if (p == NULL)
        return -YK_ENOMEM;
    yk_xfer_memory m = {.addr = p,
                        .length = XFER_FOOTPRINT,
                        .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE,
                        .fd = -1};
    rc = yk_xfer_register(engine, &m, 1);
    *ret_memory = p;
    return rc < 0 ? xfer_failed("register", rc) : 0;
}

/* ---- the target -------------------------------------------------------------------------------- */

static void target_main(const yk_xfer_opts *opts, int mappable, int tell_fd, int life_fd) {
    yk_xfer *engine = NULL;
    char *memory, address[512] = "", byte;
    int rc = yk_xfer_create(opts, &engine);
    if (rc < 0)
        xfer_failed("target", rc);
    if (rc == 0)
        rc = own_memory(engine, mappable, &memory);
    if (rc == 0) {
        rc = yk_xfer_publish(engine, "bench", memory, XFER_FOOTPRINT, NULL);
        if (rc < 0)
            xfer_failed("publish", rc);
    }
    if (rc == 0)
        snprintf(address, sizeof(address), "%s", yk_xfer_address(engine));
    if (write(tell_fd, address, sizeof(address)) != (ssize_t)sizeof(address))
        rc = -YK_EGONE;
    close(tell_fd);
    while (rc == 0 && read(life_fd, &byte, 1) < 0 && errno == EINTR)
        continue;
    yk_xfer_destroy(engine);
    _exit(rc < 0);
}

int xfer_target_start(struct xfer_target *t, const yk_xfer_opts *opts, int mappable) {
    int tell[2], life[2];
    *t = (struct xfer_target){.life_fd = -1};
    if (pipe(tell) < 0)
        return -YK_EIO;
    if (pipe(life) < 0) {
        close(tell[0]);
        close(tell[1]);
        return -YK_EIO;
    }
    t->pid = fork();
    if (t->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(tell[0]);
        close(life[1]);
        target_main(opts, mappable, tell[1], life[0]);
    }
    close(tell[1]);
    close(life[0]);
    t->life_fd = life[1];
    size_t got = 0;
    ssize_t n = 1;
    while (t->pid > 0 && got < sizeof(t->address) && n > 0) {
        n = read(tell[0], t->address + got, sizeof(t->address) - got);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            got += (size_t)n;
    }
    close(tell[0]);
    t->address[sizeof(t->address) - 1] = '\0';
    if (got < sizeof(t->address) || t->address[0] == '\0') {
        xfer_target_stop(t);
        return -YK_EGONE;
    }
    snprintf(t->where, sizeof(t->where), "%s/bench", t->address);
    return 0;
}

void xfer_target_stop(struct xfer_target *t) {
    if (t->life_fd >= 0)
        close(t->life_fd);
    while (t->pid > 0 && waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    *t = (struct xfer_target){.life_fd = -1};
}

/* ---- the initiator ------------------------------------------------------------------------------ */

int xfer_side_open(struct xfer_side *s, const yk_xfer_opts *opts, const char *where) {
    *s = (struct xfer_side){0};
    int rc = yk_xfer_create(opts, &s->engine);
    if (rc < 0)
        return xfer_failed("engine", rc);
    rc = own_memory(s->engine, 0, &s->memory);
    if (rc == 0 && where != NULL) {
        rc = yk_xfer_open(s->engine, where, 0, &s->segment);
        if (rc < 0)
            xfer_failed(where, rc);
    }
    if (rc < 0)
        xfer_side_close(s);
    return rc;
}

void xfer_side_close(struct xfer_side *s) {
    yk_xfer_destroy(s->engine);
    if (s->memory != NULL)
        munmap(s->memory, XFER_FOOTPRINT);
    *s = (struct xfer_side){0};
}
