/* SPDX-License-Identifier: Apache-2.0
 *
 * The folders of a run (cluster_priv.h). A pipe's writing end is inherited by everything that is forked while the
 * place is open; so the janitor, which has none, reads its end when all of them have ended, and nobody writes into
 * the folders any more.
 */
#include "bench/cluster_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

static void remove_all(const struct cluster_place *p) {
    nftw(p->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (p->memory[0] != '\0')
        nftw(p->memory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void janitor_main(const struct cluster_place *p, int fd) {
    char byte;
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    while (read(fd, &byte, 1) < 0 && errno == EINTR)
        continue;
    remove_all(p);
    _exit(0);
}

int cluster_place_open(struct cluster_place *p) {
    const char *tmp = getenv("TMPDIR");
    int fds[2];
    *p = (struct cluster_place){.fd = -1};
    if (tmp == NULL || tmp[0] == '\0' || strlen(tmp) > 40) /* sockets lie in it, whose paths are short */
        tmp = "/tmp";
    snprintf(p->dir, sizeof(p->dir), "%s/yolk-XXXXXX", tmp);
    if (pipe(fds) < 0)
        return -YK_EIO;
    if (mkdtemp(p->dir) == NULL) {
        fprintf(stderr, "yolk bench: cannot make a directory in %s: %s\n", tmp, strerror(errno));
        close(fds[0]);
        close(fds[1]);
        return -YK_EIO;
    }
    snprintf(p->memory, sizeof(p->memory), "/dev/shm/yolk-etcd-XXXXXX");
    if (mkdtemp(p->memory) == NULL)
        p->memory[0] = '\0';
    p->janitor = fork();
    if (p->janitor == 0) {
        close(fds[1]);
        janitor_main(p, fds[0]);
    }
    close(fds[0]);
    p->fd = fds[1];
    if (p->janitor > 0)
        return 0;
    remove_all(p);
    close(p->fd);
    return -YK_EIO;
}

void cluster_place_close(struct cluster_place *p) {
    close(p->fd);
    while (p->janitor > 0 && waitpid(p->janitor, NULL, 0) < 0 && errno == EINTR)
        continue;
}

unsigned cluster_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        a.sin_port = 0;
    if (fd >= 0)
        close(fd);
    return ntohs(a.sin_port);
}

void cluster_reap(pid_t *pid, uint32_t timeout_ms) {
    if (*pid <= 0)
        return;
    int fd = (int)syscall(SYS_pidfd_open, *pid, 0u), n = 0;
    struct pollfd p = {fd, POLLIN, 0};
    while (fd >= 0 && timeout_ms > 0 && (n = poll(&p, 1, (int)timeout_ms)) < 0 && errno == EINTR)
        continue;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        kill(*pid, SIGKILL);
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    *pid = 0;
}

void cluster_pause_ms(uint32_t ms) {
    struct timespec ts = {ms / 1000u, (long)(ms % 1000u) * 1000000l};
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        continue;
}
