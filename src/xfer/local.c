/* SPDX-License-Identifier: Apache-2.0
 *
 * See local.h. A list: a process has a few engines, and peers are looked up when they are first used.
 *
 * Threads: any, under `lock`. `forks` and `token` are written by a forked child's only thread.
 */
#include "xfer/local.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct yk_local *table;
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

uint32_t yk_local_forks(void) {
    return forks;
}

uint64_t yk_local_token(void) {
    pthread_once(&once, begin);
    return token;
}

struct yk_local *yk_local_new(uint64_t incarnation, struct yk_registry *registry,
                              yk_local_note_fn note, void *user) {
    struct yk_local *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    pthread_once(&once, begin);
    *l = (struct yk_local){.incarnation = incarnation,
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

struct yk_local *yk_local_find(uint64_t incarnation) {
    pthread_mutex_lock(&lock);
    struct yk_local *l = table;
    while (l != NULL && l->incarnation != incarnation)
        l = l->next;
    if (l != NULL)
        l->refs++;
    pthread_mutex_unlock(&lock);
    return l;
}

void yk_local_close(struct yk_local *l) {
    pthread_mutex_lock(&lock);
    struct yk_local **at = &table;
    while (*at != NULL && *at != l)
        at = &(*at)->next;
    if (*at == l)
        *at = l->next;
    l->note = NULL;
    pthread_mutex_unlock(&lock);
}

void yk_local_put(struct yk_local *l) {
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

int yk_local_note(struct yk_local *l, const char *peer, const void *data, uint32_t len) {
    pthread_mutex_lock(&lock);
    int rc = l->note != NULL ? l->note(l->user, peer, data, len) : -YK_EGONE;
    pthread_mutex_unlock(&lock);
    return rc;
}
