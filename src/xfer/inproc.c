/* SPDX-License-Identifier: Apache-2.0
 *
 * See inproc.h. A list: a process has a few engines, and peers are looked up when they are first used.
 *
 * Threads: any, under `lock`. `forks` and `token` are written by a forked child's only thread.
 */
#include "xfer/inproc.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct yk_inproc *table;
static uint32_t forks;
static uint64_t token;

static void draw_token(void) {
    if (getrandom(&token, sizeof(token), 0) != (ssize_t)sizeof(token))
        token = yk_now_ns() * 0x9e3779b97f4a7c15ull ^ (uint64_t)getpid() << 32;
}

/* The parent's entries are left alone: their owners' threads are not here to end them. */
static void in_child(void) {
    forks++;
    table = NULL;
    pthread_mutex_init(&lock, NULL);
    draw_token();
}

static void begin(void) {
    draw_token();
    pthread_atfork(NULL, NULL, in_child);
}

uint32_t yk_inproc_forks(void) {
    return forks;
}

uint64_t yk_inproc_token(void) {
    pthread_once(&once, begin);
    return token;
}

struct yk_inproc *yk_inproc_new(uint64_t incarnation, struct yk_registry *registry,
                              yk_inproc_note_fn note, void *user) {
    struct yk_inproc *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    pthread_once(&once, begin);
    *l = (struct yk_inproc){.incarnation = incarnation,
                           .registry = registry,
                           .note = note,
                           .user = user,
                           .refs = 1};
    pthread_mutex_lock(&lock);
    l->next = table;
    table = l;
    pthread_mutex_unlock(&lock);
    return l;
}

struct yk_inproc *yk_inproc_find(uint64_t incarnation) {
    pthread_mutex_lock(&lock);
    struct yk_inproc *l = table;
    while (l != NULL && l->incarnation != incarnation)
        l = l->next;
    if (l != NULL)
        l->refs++;
    pthread_mutex_unlock(&lock);
    return l;
}

void yk_inproc_close(struct yk_inproc *l) {
    pthread_mutex_lock(&lock);
    struct yk_inproc **at = &table;
    while (*at != NULL && *at != l)
        at = &(*at)->next;
    if (*at == l)
        *at = l->next;
    l->note = NULL;
    pthread_mutex_unlock(&lock);
}

void yk_inproc_put(struct yk_inproc *l) {
    if (l == NULL)
        return;
    pthread_mutex_lock(&lock);
    int last = --l->refs == 0;
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    yk_registry_free(l->registry);
    free(l);
}

int yk_inproc_note(struct yk_inproc *l, const char *peer, const void *data, uint32_t len) {
    pthread_mutex_lock(&lock);
    int rc = l->note != NULL ? l->note(l->user, peer, data, len) : -YK_EGONE;
    pthread_mutex_unlock(&lock);
    return rc;
}
