/* SPDX-License-Identifier: Apache-2.0
 *
 * How many system calls the threads of a process make, as the kernel's tracing counts them (tracefs, the histogram of
 * raw_syscalls:sys_enter): what is counted is not slowed down by more than the count. For tests in a guest, where it may
 * be turned on; it counts those of the whole machine.
 *
 * Threads: the test's.
 */
#ifndef YK_TEST_XFER_SYSTEM_CALLS_H
#define YK_TEST_XFER_SYSTEM_CALLS_H

#include <stdint.h>
#include <sys/types.h>

/* 0, or -YK_ENOTSUP: this kernel or this user cannot. */
int system_calls_begin(void);
void system_calls_end(void);

#define SYSTEM_CALLS_MAX 512u /* numbers of system calls that are told apart */

struct system_calls {
    uint64_t all, of[SYSTEM_CALLS_MAX]; /* by number */
};
/* Of all threads of a process that are there now, since begin. */
void system_calls_of(pid_t pid, struct system_calls *ret_calls);
/* Tells those since `before`, most first, and returns their number without looks at clocks (a system call where the clock
 * is not a steady one, as under emulation) and at files' properties (which this counting makes). */
uint64_t system_calls_since(pid_t pid, const struct system_calls *before, const char *who);

#endif
