/* SPDX-License-Identifier: Apache-2.0
 *
 * A child process that lives as long as a pipe of its parent's is open: a node of one's own (own.c), the keeper of a
 * cluster (many.c). However the parent ends, kill -9 included, the child sees the end of the pipe and goes.
 *
 * Threads: one; no other thread may run in the process when a child is started (it forks).
 */
#ifndef YK_REPLAY_KEPT_H
#define YK_REPLAY_KEPT_H

#include "base/status.h"

#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_kept {
    pid_t pid;   /* 0 = not running */
    int life_fd; /* the child ends when this is closed; -1 = none */
};

/* What the child says once: that it serves, or why not. */
struct yk_kept_report {
    int status, detail; /* detail: the child's own */
    char text[YK_ERR_TEXT_MAX];
};

/* The child. It tells by yk_kept_tell, once, and ends with the process when life_fd ends; the terminal's signals are
 * ignored: they are for the parent, which closes the pipe when it is done. Does not return. */
typedef void yk_kept_main(void *arg, int life_fd, int report_fd);

/* Forks and waits for the report. 0: the child said that it serves, ret_kept is filled in. Else the child's status and
 * text, -YK_EIO, or -YK_EGONE: it ended without a word, and `what` in the text says who; ret_kept is to be stopped
 * then as well. */
int yk_kept_start(yk_kept_main *main, void *arg, const char *what, struct yk_kept *ret_kept,
                  struct yk_kept_report *ret_report, struct yk_err *err);

/* In the child. 1: the parent has it. Closes the descriptor. */
int yk_kept_tell(int report_fd, int status, int detail, const char *text);

/* In the child: waits for the pipe's end. */
void yk_kept_live(int life_fd);

/* Closes the pipe and waits for so long, then SIGKILL (timeout_ms 0: at once). ret_cpu_s (NULL is fine): the child's
 * user and system time, 0 if it did not run. */
void yk_kept_stop(struct yk_kept *kept, uint32_t timeout_ms, double *ret_cpu_s);

/* In another child of the same parent: the process is not ours to keep alive. */
void yk_kept_forget(struct yk_kept *kept);

/* A folder under $TMPDIR, short enough for sockets in it. "" on failure. */
int yk_kept_dir(char *ret_dir, size_t cap, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
