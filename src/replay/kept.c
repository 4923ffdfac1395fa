/* SPDX-License-Identifier: Apache-2.0
 *
 * A child process that a pipe keeps (src/replay/kept.h).
 */
#include "replay/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TMPDIR_MAX 60u /* paths of sockets are short */

/* ---- the child ------------------------------------------------------------------------------ */

int yk_kept_tell(int report_fd, int status, int detail, const char *text) {
    struct yk_kept_report r = {.status = status, .detail = detail};
    snprintf(r.text, sizeof(r.text), "%s", text);
    int told = write(report_fd, &r, sizeof(r)) == (ssize_t)sizeof(r);
    close(report_fd);
    return told;
}

void yk_kept_live(int life_fd) {
    char byte;
    while (read(life_fd, &byte, 1) < 0 && errno == EINTR)
        continue;
}

/* ---- the parent ----------------------------------------------------------------------------- */

static int hear(int fd, const char *what, struct yk_kept_report *r, struct yk_err *err) {
    ssize_t n;
    while ((n = read(fd, r, sizeof(*r))) < 0 && errno == EINTR)
        continue;
    if (n != (ssize_t)sizeof(*r))
        return yk_err_set(err, -YK_EGONE, "%s ended before it served", what);
    r->text[sizeof(r->text) - 1] = '\0';
    return r->status < 0 ? yk_err_set(err, r->status, "%s", r->text) : 0;
}

int yk_kept_start(yk_kept_main *main, void *arg, const char *what, struct yk_kept *ret_kept,
                  struct yk_kept_report *ret_report, struct yk_err *err) {
    int life[2], report[2];
    *ret_kept = (struct yk_kept){.life_fd = -1};
    *ret_report = (struct yk_kept_report){0};
    if (pipe2(life, O_CLOEXEC) < 0)
        return yk_err_set(err, -YK_EIO, "pipe: %s", strerror(errno));
    if (pipe2(report, O_CLOEXEC) < 0) {
        close(life[0]);
        close(life[1]);
        return yk_err_set(err, -YK_EIO, "pipe: %s", strerror(errno));
    }
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        signal(SIGPIPE, SIG_IGN);
        close(life[1]);
        close(report[0]);
        main(arg, life[0], report[1]);
        _exit(0);
    }
    int rc = pid < 0 ? yk_err_set(err, -YK_EIO, "fork: %s", strerror(errno)) : 0;
    close(life[0]);
    close(report[1]);
    *ret_kept = (struct yk_kept){.pid = pid > 0 ? pid : 0, .life_fd = life[1]};
    if (rc == 0)
        rc = hear(report[0], what, ret_report, err);
    close(report[0]);
    return rc;
}

/* 1 when it is gone. pidfd: a wait with a deadline. */
static int gone_within(pid_t pid, uint32_t timeout_ms) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0u), n;
    if (fd < 0)
        return 0;
    struct pollfd p = {fd, POLLIN, 0};
    while ((n = poll(&p, 1, (int)timeout_ms)) < 0 && errno == EINTR)
        continue;
    close(fd);
    return n > 0;
}

static double seconds(const struct timeval *tv) {
    return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

void yk_kept_forget(struct yk_kept *kept) {
    if (kept->life_fd >= 0)
        close(kept->life_fd);
    *kept = (struct yk_kept){.life_fd = -1};
}

void yk_kept_stop(struct yk_kept *kept, uint32_t timeout_ms, double *ret_cpu_s) {
    struct rusage ru = {0};
    pid_t pid = kept->pid;
    if (pid != 0 && timeout_ms == 0) /* before the pipe's end tells it to go in good order */
        kill(pid, SIGKILL);
    yk_kept_forget(kept);
    if (pid != 0) {
        if (timeout_ms != 0 && !gone_within(pid, timeout_ms))
            kill(pid, SIGKILL);
        while (wait4(pid, NULL, 0, &ru) < 0 && errno == EINTR)
            continue;
    }
    if (ret_cpu_s != NULL)
        *ret_cpu_s = seconds(&ru.ru_utime) + seconds(&ru.ru_stime);
}

int yk_kept_dir(char *ret_dir, size_t cap, struct yk_err *err) {
    const char *tmp = getenv("TMPDIR");
    if (tmp == NULL || tmp[0] == '\0' || strlen(tmp) > TMPDIR_MAX)
        tmp = "/tmp";
    snprintf(ret_dir, cap, "%s/yolk-XXXXXX", tmp);
    if (mkdtemp(ret_dir) != NULL)
        return 0;
    ret_dir[0] = '\0';
    return yk_err_set(err, -YK_EIO, "cannot make a directory in %s: %s", tmp, strerror(errno));
}
