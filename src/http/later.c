/* SPDX-License-Identifier: Apache-2.0
 *
 * Work of the HTTP server on a thread of its own (later.h).
 */
#include "http/later.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE 5 /* below the owner's thread, and what answers probes */

/* Thread: any (lock `lock`). */
struct yk_later {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    yk_later_fn fn;
    void *arg;
    struct yk_later_job *first, **last;
    uint32_t n;
    bool runs, ends;
};

/* The next one, or NULL at the end. Waits. */
static struct yk_later_job *take(struct yk_later *l, bool *ret_ends) {
    pthread_mutex_lock(&l->lock);
    while (l->first == NULL && !l->ends)
        pthread_cond_wait(&l->changed, &l->lock);
    struct yk_later_job *job = l->first;
    if (job != NULL) {
        l->first = job->next;
        l->last = l->first == NULL ? &l->first : l->last;
        l->n--;
    }
    *ret_ends = l->ends;
    pthread_mutex_unlock(&l->lock);
    return job;
}

static void *run(void *arg) {
    struct yk_later *l = arg;
    struct yk_later_job *job;
    bool ends;
    pthread_setname_np(pthread_self(), "yolk-http-later");
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* Linux: of this thread */
    while ((job = take(l, &ends)) != NULL)
        l->fn(l->arg, job, ends);
    return NULL;
}

int yk_later_new(yk_later_fn fn, void *arg, struct yk_later **ret_later, struct yk_err *err) {
    struct yk_later *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->fn = fn;
    l->arg = arg;
    l->last = &l->first;
    if (pthread_create(&l->thread, NULL, run, l) != 0) {
        yk_later_free(l);
        return yk_err_set(err, -YK_ENOMEM, "no thread for the router's requests");
    }
    l->runs = true;
    *ret_later = l;
    return 0;
}

bool yk_later_room(struct yk_later *l) {
    pthread_mutex_lock(&l->lock);
    bool room = l->n < YK_LATER_MAX && !l->ends;
    pthread_mutex_unlock(&l->lock);
    return room;
}

void yk_later_put(struct yk_later *l, struct yk_later_job *job) {
    job->next = NULL;
    pthread_mutex_lock(&l->lock);
    bool ends = l->ends;
    if (!ends) {
        *l->last = job;
        l->last = &job->next;
        l->n++;
        pthread_cond_signal(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    if (ends)
        l->fn(l->arg, job, true);
}

void yk_later_end(struct yk_later *l) {
    pthread_mutex_lock(&l->lock);
    l->ends = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (l->runs)
        pthread_join(l->thread, NULL);
    l->runs = false;
}

void yk_later_free(struct yk_later *l) {
    if (l == NULL)
        return;
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l);
}
