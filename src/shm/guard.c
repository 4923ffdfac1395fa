/* SPDX-License-Identifier: Apache-2.0
 *
 * The SIGBUS handler and its ranges (src/shm/guard.h). The only state that is the process's, since
 * a signal handler is.
 */
#include "shm/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <yolk/status.h>

#define RANGES 256

struct range {
    uintptr_t base; /* 0 = free, 1 = being filled; release store publishes the rest */
    size_t bytes;
    int prot;
    int *lost;
};

static struct range ranges[RANGES];
static struct sigaction previous;
static int installed;

/* Async-signal-safe: no lock, no allocation; mmap is a plain system call. */
static int rescue(uintptr_t at) {
    for (int i = 0; i < RANGES; i++) {
        uintptr_t base = __atomic_load_n(&ranges[i].base, __ATOMIC_ACQUIRE);
        if (base <= 1 || at < base || at - base >= ranges[i].bytes)
            continue;
        void *p = mmap((void *)base, ranges[i].bytes, ranges[i].prot,
                       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            return 0;
        __atomic_store_n(ranges[i].lost, 1, __ATOMIC_RELEASE);
        return 1;
    }
    return 0;
}

static void on_sigbus(int sig, siginfo_t *info, void *context) {
    int fault = info->si_code > 0; /* else it was sent by somebody, and si_addr means nothing */
    int saved_errno = errno;
    int rescued = fault && rescue((uintptr_t)info->si_addr);
    errno = saved_errno;
    if (rescued)
        return;
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(sig, info, context);
        return;
    }
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(sig);
        return;
    }
    signal(SIGBUS, SIG_DFL); /* the access is made again and ends the process */
    if (!fault)
        raise(SIGBUS);
}

int yk_guard_install(void) {
    if (__atomic_exchange_n(&installed, 1, __ATOMIC_ACQ_REL) != 0)
        return 0;
    struct sigaction sa;
    memset(&sa, 0, sizeof(sa));
    sa.sa_sigaction = on_sigbus;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGBUS, &sa, &previous) == 0)
        return 0;
    __atomic_store_n(&installed, 0, __ATOMIC_RELEASE);
    return -YK_EIO;
}

int yk_guard_add(void *base, size_t bytes, int prot, int *lost) {
    for (int i = 0; i < RANGES; i++) {
        uintptr_t expected = 0;
        if (!__atomic_compare_exchange_n(&ranges[i].base, &expected, 1, 0, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        ranges[i].bytes = bytes;
        ranges[i].prot = prot;
        ranges[i].lost = lost;
        __atomic_store_n(&ranges[i].base, (uintptr_t)base, __ATOMIC_RELEASE);
        return 0;
    }
    return -YK_ELIMIT;
}

void yk_guard_remove(void *base) {
    for (int i = 0; i < RANGES; i++) {
        uintptr_t expected = (uintptr_t)base;
        if (base != NULL && __atomic_compare_exchange_n(&ranges[i].base, &expected, 0, 0,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return;
    }
}
