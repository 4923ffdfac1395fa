/* SPDX-License-Identifier: Apache-2.0
 *
 * See system_calls.h.
 */
#include "system_calls.h"

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing"
#define EVENT   TRACING "/events/raw_syscalls/sys_enter"
#define TOLD    6u

static int trigger(const char *text) {
    int fd = open(EVENT "/trigger", O_WRONLY | O_CLOEXEC);
    int ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok ? 0 : -YK_ENOTSUP;
}

int system_calls_begin(void) {
    if (access(EVENT "/trigger", F_OK) != 0)
        (void)mount("tracefs", TRACING, "tracefs", 0, NULL);
    return trigger("hist:keys=common_pid,id:size=4096\n");
}

void system_calls_end(void) {
    (void)trigger("!hist:keys=common_pid,id:size=4096\n");
}

static int is_thread_of(pid_t pid, long tid) {
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/task/%ld", (int)pid, tid);
    return stat(path, &st) == 0;
}

void system_calls_of(pid_t pid, struct system_calls *ret_calls) {
    char line[256];
    memset(ret_calls, 0, sizeof(*ret_calls));
    FILE *f = fopen(EVENT "/hist", "re");
    assert_non_null(f);
    /* "{ common_pid:       1234, id:          7 } hitcount:         42" */
    while (fgets(line, sizeof(line), f) != NULL) {
        long tid, id;
        unsigned long long n;
        if (sscanf(line, "{ common_pid: %ld, id: %ld } hitcount: %llu", &tid, &id, &n) != 3 || !is_thread_of(pid, tid))
            continue;
        ret_calls->all += n;
        if (id >= 0 && id < (long)SYSTEM_CALLS_MAX)
            ret_calls->of[id] += n;
    }
    fclose(f);
}

uint64_t system_calls_since(pid_t pid, const struct system_calls *before, const char *who) {
    struct system_calls now;
    system_calls_of(pid, &now);
    uint64_t all = now.all - before->all;
    for (uint32_t i = 0; i < SYSTEM_CALLS_MAX; i++)
        now.of[i] -= before->of[i];
    all -= now.of[SYS_clock_gettime] + now.of[SYS_newfstatat];
    now.of[SYS_clock_gettime] = now.of[SYS_newfstatat] = 0;
    print_message("%s: %llu system calls:", who, (unsigned long long)all);
    for (uint32_t told = 0; told < TOLD; told++) {
        uint32_t most = 0;
        for (uint32_t i = 1; i < SYSTEM_CALLS_MAX; i++)
            most = now.of[i] > now.of[most] ? i : most;
        if (now.of[most] > 0)
            print_message(" number %u: %llu", most, (unsigned long long)now.of[most]);
        now.of[most] = 0;
    }
    print_message("\n");
    return all;
}
