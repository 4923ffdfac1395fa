/* SPDX-License-Identifier: Apache-2.0
 *
 * The run's side of a cluster of its own (src/replay/many.h); the keeper's is many_keeper.c.
 */
#include "replay/many_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_TIMEOUT_MS 60000
#define REMOVE_FDS      16

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *at) {
    (void)st;
    (void)what;
    (void)at;
    (void)remove(path);
    return 0;
}

void many_remove(char *dir) {
    if (dir[0] != '\0')
        (void)nftw(dir, remove_one, REMOVE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    dir[0] = '\0';
}

/* What yk_many_start hands to the keeper. */
struct birth {
    const struct yk_many_opts *opts;
    struct yk_many *many;
};

static void keep(void *arg, int life_fd, int report_fd) {
    const struct birth *b = arg;
    many_keep(b->opts, b->many, life_fd, report_fd);
}

int yk_many_start(const struct yk_many_opts *o, struct yk_many *ret, struct yk_err *err) {
    struct yk_many m = {.kept.life_fd = -1, .nodes = o->nodes};
    struct birth b = {o, &m};
    struct yk_kept_report said;
    if (o->nodes == 0 || o->nodes > YK_MANY_MAX)
        return yk_err_set(err, -YK_EINVAL, "%u nodes: 1 to %u can be started", o->nodes, YK_MANY_MAX);
    int rc = yk_kept_dir(m.dir, sizeof(m.dir), err);
    for (uint32_t i = 0; i < m.nodes; i++)
        snprintf(m.url[i], sizeof(m.url[i]), "unix:%s/n%u.sock", m.dir, i + 1);
    if (rc == 0)
        rc = yk_kept_start(keep, &b, "the process that keeps the nodes", &m.kept, &said, err);
    if (rc < 0) {
        yk_many_stop(&m);
        return rc;
    }
    m.apart = said.detail;
    *ret = m;
    return rc;
}

/* A line of /proc/net/dev: "  port1: RECEIVED 7 numbers SENT ...", as the bridge sees it. */
int yk_many_wire(const struct yk_many *m, uint32_t i, uint64_t *ret_in, uint64_t *ret_out) {
    char path[64], line[512], want[16];
    uint64_t from, to;
    int found = YK_MISS;
    if (!m->apart)
        return YK_MISS;
    snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)m->kept.pid);
    snprintf(want, sizeof(want), "port%u:", i + 1);
    FILE *f = fopen(path, "re");
    while (f != NULL && found != 0 && fgets(line, sizeof(line), f) != NULL) {
        const char *at = strstr(line, want);
        if (at == NULL || sscanf(at + strlen(want), "%" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &from, &to) != 2)
            continue;
        *ret_out = from;
        *ret_in = to;
        found = 0;
    }
    if (f != NULL)
        fclose(f);
    return found;
}

void yk_many_stop(struct yk_many *m) {
    yk_kept_stop(&m->kept, STOP_TIMEOUT_MS, NULL);
    many_remove(m->dir); /* there only if the keeper was killed */
}
