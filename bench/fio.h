/* SPDX-License-Identifier: Apache-2.0
 *
 * fio, Debian's, as the limit of a file system: one job at a time over io_uring and O_DIRECT on a file
 * that is open here. It is found at run time and asked for JSON.
 *
 * The file is handed over as a descriptor (/proc/self/fd), so that it needs no name and is gone with
 * this process. fio is one process with one thread, dies with its parent, and its CPU time is known.
 *
 * Thread: any, one at a time.
 */
#ifndef YK_BENCH_FIO_H
#define YK_BENCH_FIO_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum yk_fio_rw { YK_FIO_WRITE, YK_FIO_READ };

struct yk_fio_job {
    int fd;              /* of the file */
    uint64_t size_bytes; /* of it */
    enum yk_fio_rw rw;   /* writes go in order, reads at random */
    uint64_t block_bytes;
    uint32_t depth;
    double seconds;
    uint64_t seed;
};

struct yk_fio_result {
    double rate; /* B/s */
    uint64_t bytes, ops;
    double p50_ns, p99_ns, p999_ns, max_ns; /* of completions */
    double cpu_s;                           /* of the process; not from the JSON */
};

/* 0, or YK_BENCH_NO_PEER after a line on standard error that names the package. */
int yk_fio_find(void);

/* Runs one job. Failures are told on standard error and returned. */
int yk_fio_run(const struct yk_fio_job *job, struct yk_fio_result *ret);

/* Reads what fio printed: anything before the first brace is skipped. -YK_EPROTO with a text: no JSON,
 * a job that failed, or fields that are missing. */
int yk_fio_parse(const char *text, size_t len, enum yk_fio_rw rw, struct yk_fio_result *ret,
                 struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
