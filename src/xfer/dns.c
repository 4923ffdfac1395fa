/* SPDX-License-Identifier: Apache-2.0
 *
 * See dns.h. getaddrinfo asks servers for as long as it likes and cannot be interrupted, so that it runs
 * on a thread of its own; who asked leaves at the deadline, and what is left of the job goes with the
 * thread. There are at most YK_DNS_RUNNING of those. Rejected: getaddrinfo_a (glibc's alone, its threads
 * are not bounded), a resolver of our own (what nsswitch.conf says would not count).
 *
 * Threads: any. A job is the asker's and its thread's, under its lock; the last one frees it.
 */
#include "xfer/dns.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STACK_BYTES (512u << 10) /* name service modules want more than most */

struct job {
    pthread_mutex_t lock;
    pthread_cond_t ended; /* by the monotonic clock */
    int refs, done;
    int rc; /* of yk_sock_resolve */
    struct yk_err err;
    struct yk_sockaddr found[YK_DNS_MAX];
    uint16_t port;
    char host[];
};

static uint32_t running; /* atomic */

static struct job *job_new(const char *host, uint16_t port) {
    size_t len = strlen(host);
    struct job *j = calloc(1, sizeof(*j) + len + 1);
    pthread_condattr_t attr;
    if (j == NULL)
        return NULL;
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->ended, &attr);
    pthread_condattr_destroy(&attr);
    j->refs = 2;
    j->port = port;
    memcpy(j->host, host, len + 1);
    return j;
}

/* Under its lock, which is given back. */
static void job_put(struct job *j) {
    int last = --j->refs == 0;
    pthread_mutex_unlock(&j->lock);
    if (!last)
        return;
    pthread_cond_destroy(&j->ended);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

static void *job_main(void *arg) {
    struct job *j = arg;
    struct yk_sockaddr found[YK_DNS_MAX];
    struct yk_err err = {.code = 0};
    int rc = yk_sock_resolve(j->host, j->port, 0, found, YK_DNS_MAX, &err);
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&j->lock);
    j->rc = rc;
    j->err = err;
    if (rc > 0)
        memcpy(j->found, found, (size_t)rc * sizeof(found[0]));
    j->done = 1;
    pthread_cond_signal(&j->ended);
    job_put(j);
    return NULL;
}

static int start(struct job *j) {
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the program's threads' */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int rc = pthread_create(&thread, &attr, job_main, j);
    if (rc == EINVAL) /* the program's thread-local memory does not fit into such a stack */
        rc = pthread_create(&thread, NULL, job_main, j);
    if (rc == 0)
        pthread_detach(thread);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* Until it is done or the time has come, and lets go of it. */
static int finish(struct job *j, uint64_t deadline_ns, struct yk_sockaddr *ret_addrs, struct yk_err *err) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / YK_NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % YK_NS_PER_S)};
    int late = 0;
    pthread_mutex_lock(&j->lock);
    while (!j->done && !late)
        late = pthread_cond_timedwait(&j->ended, &j->lock, &until) == ETIMEDOUT;
    int rc = j->done ? j->rc : -YK_ETIMEDOUT;
    if (rc > 0)
        memcpy(ret_addrs, j->found, (size_t)rc * sizeof(j->found[0]));
    else if (j->done)
        yk_err_set(err, rc, "%s", j->err.text);
    else
        yk_err_set(err, rc, "host '%.200s' was not resolved in time", j->host);
    job_put(j);
    return rc;
}

int yk_dns_resolve(const char *host, uint16_t port, uint64_t deadline_ns, struct yk_sockaddr *ret_addrs,
                   struct yk_err *err) {
    if (yk_sock_parse(host, port, &ret_addrs[0]) == 0)
        return 1;
    if (__atomic_add_fetch(&running, 1, __ATOMIC_RELAXED) > YK_DNS_RUNNING) {
        __atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
        return yk_err_set(err, -YK_ELIMIT, "%u names of hosts are being resolved, and none is done",
                          YK_DNS_RUNNING);
    }
    struct job *j = job_new(host, port);
    int e = j != NULL ? start(j) : ENOMEM;
    if (e == 0)
        return finish(j, deadline_ns, ret_addrs, err);
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
    if (j != NULL) {
        pthread_mutex_lock(&j->lock);
        j->refs--; /* the thread's */
        job_put(j);
    }
    return yk_err_set(err, -YK_ENOMEM, "no thread to resolve host '%.100s' (errno %d)", host, e);
}
