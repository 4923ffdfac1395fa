/* SPDX-License-Identifier: Apache-2.0
 *
 * Running fio and reading what it says (bench/fio.h).
 */
#include "bench/fio.h"

#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (1u << 20) /* one job's JSON is some 10 KiB */

/* ---- what it says ----------------------------------------------------------------------------- */

static int number(const json_t *object, const char *name, double *ret, struct yk_err *err) {
    const json_t *v = json_object_get(object, name);
    if (!json_is_number(v))
        return yk_err_set(err, -YK_EPROTO, "fio's JSON has no number '%s'", name);
    *ret = json_number_value(v);
    return 0;
}

/* Percentiles are absent where nothing was done. */
static int latencies(const json_t *op, struct yk_fio_result *r, struct yk_err *err) {
    const json_t *clat = json_object_get(op, "clat_ns");
    const json_t *p = json_object_get(clat, "percentile");
    int rc = number(clat, "max", &r->max_ns, err);
    if (rc == 0)
        rc = number(p, "50.000000", &r->p50_ns, err);
    if (rc == 0)
        rc = number(p, "99.000000", &r->p99_ns, err);
    return rc == 0 ? number(p, "99.900000", &r->p999_ns, err) : rc;
}

static int read_job(const json_t *job, enum yk_fio_rw rw, struct yk_fio_result *r,
                    struct yk_err *err) {
    const json_t *op = json_object_get(job, rw == YK_FIO_WRITE ? "write" : "read");
    double bytes = 0, ops = 0, failed = 0;
    int rc = number(job, "error", &failed, err);
    if (rc == 0 && failed != 0)
        return yk_err_set(err, -YK_EPROTO, "fio's job failed: %s", strerror((int)failed));
    if (rc == 0)
        rc = number(op, "bw_bytes", &r->rate, err);
    if (rc == 0)
        rc = number(op, "io_bytes", &bytes, err);
    if (rc == 0)
        rc = number(op, "total_ios", &ops, err);
    if (rc < 0)
        return rc;
    if (ops < 1 || r->rate <= 0)
        return yk_err_set(err, -YK_EPROTO, "fio did nothing in its time");
    r->bytes = (uint64_t)bytes;
    r->ops = (uint64_t)ops;
    return latencies(op, r, err);
}

int yk_fio_parse(const char *text, size_t len, enum yk_fio_rw rw, struct yk_fio_result *ret,
                 struct yk_err *err) {
    struct yk_fio_result r = {0};
    json_error_t why;
    const char *brace = memchr(text, '{', len);
    if (brace == NULL)
        return yk_err_set(err, -YK_EPROTO, "fio printed no JSON");
    json_t *root = json_loadb(brace, len - (size_t)(brace - text), JSON_DISABLE_EOF_CHECK, &why);
    if (root == NULL)
        return yk_err_set(err, -YK_EPROTO, "fio's JSON: line %d: %s", why.line, why.text);
    int rc = read_job(json_array_get(json_object_get(root, "jobs"), 0), rw, &r, err);
    json_decref(root);
    if (rc == 0)
        *ret = r;
    return rc;
}

/* ---- running it ------------------------------------------------------------------------------- */

static void become_fio(char *const argv[], int out_fd, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(out_fd, STDOUT_FILENO) < 0)
        _exit(126);
    execvp("fio", argv);
    _exit(errno == ENOENT ? 127 : 126);
}

/* Starts fio with its standard output in a pipe. */
static pid_t start(char *const argv[], int keep_fd, int *ret_fd) {
    int fds[2];
    pid_t parent = getpid();
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        if (keep_fd >= 0)
            (void)fcntl(keep_fd, F_SETFD, 0);
        become_fio(argv, fds[1], parent);
    }
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return -1;
    }
    *ret_fd = fds[0];
    return pid;
}

static size_t read_all(int fd, char *buf, size_t cap) {
    size_t len = 0;
    for (;;) {
        char rest[512];
        ssize_t n = len < cap ? read(fd, buf + len, cap - len) : read(fd, rest, sizeof(rest));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return len;
        len += len < cap ? (size_t)n : 0;
    }
}

static double seconds(const struct timeval *tv) {
    return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

/* Its exit code; 128 and more: a signal. */
static int reap(pid_t pid, double *ret_cpu_s) {
    struct rusage ru = {0};
    int status = 0;
    while (wait4(pid, &status, 0, &ru) < 0 && errno == EINTR)
        continue;
    *ret_cpu_s = seconds(&ru.ru_utime) + seconds(&ru.ru_stime);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int missing(void) {
    fputs("yolk bench: fio is not installed (package fio)\n", stderr);
    return YK_BENCH_NO_PEER;
}

int yk_fio_find(void) {
    static char fio[] = "fio", version[] = "--version";
    char *argv[] = {fio, version, NULL};
    char text[64];
    double cpu;
    int fd;
    pid_t pid = start(argv, -1, &fd);
    if (pid < 0)
        return -YK_EIO;
    (void)read_all(fd, text, sizeof(text));
    close(fd);
    return reap(pid, &cpu) == 0 ? 0 : missing();
}

static int run(char *const argv[], const struct yk_fio_job *job, struct yk_fio_result *ret,
               struct yk_err *err) {
    int fd;
    char *text = malloc(OUTPUT_MAX);
    if (text == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    pid_t pid = start(argv, job->fd, &fd);
    if (pid < 0) {
        free(text);
        return yk_err_set(err, -YK_EIO, "cannot start fio: %s", strerror(errno));
    }
    double cpu;
    size_t len = read_all(fd, text, OUTPUT_MAX);
    close(fd);
    int code = reap(pid, &cpu);
    int rc = code == 0 ? yk_fio_parse(text, len, job->rw, ret, err)
                       : yk_err_set(err, -YK_EIO, "fio ended with %d", code);
    free(text);
    if (rc == 0)
        ret->cpu_s = cpu;
    return rc;
}

int yk_fio_run(const struct yk_fio_job *job, struct yk_fio_result *ret) {
    enum { ARGS = 24, TEXT = 64 };
    static char text[ARGS][TEXT];
    char *argv[ARGS + 1];
    struct yk_err err = {0};
    int n = 0;
#define ARG(...) (snprintf(text[n], TEXT, __VA_ARGS__), argv[n] = text[n], n++)
    ARG("fio");
    ARG("--name=yolk");
    ARG("--filename=/proc/self/fd/%d", job->fd);
    ARG("--size=%llu", (unsigned long long)job->size_bytes);
    ARG("--rw=%s", job->rw == YK_FIO_WRITE ? "write" : "randread");
    ARG("--bs=%llu", (unsigned long long)job->block_bytes);
    ARG("--iodepth=%u", job->depth);
    ARG("--runtime=%ums", (unsigned)(job->seconds * 1e3));
    ARG("--randseed=%llu", (unsigned long long)job->seed);
    ARG("--direct=1");
    ARG("--ioengine=io_uring");
    ARG("--time_based");
    ARG("--norandommap");
    ARG("--fallocate=none");
    ARG("--allow_file_create=0");
    ARG("--thread");
    ARG("--eta=never");
    ARG("--output-format=json");
#undef ARG
    argv[n] = NULL;
    int rc = run(argv, job, ret, &err);
    if (rc < 0)
        fprintf(stderr, "yolk bench: %s\n", err.text);
    return rc;
}
