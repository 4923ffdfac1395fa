/* SPDX-License-Identifier: Apache-2.0
 *
 * See server.h: life, the thread, what other threads ask of it.
 *
 * The thread sleeps in its loop; with poll_us it looks for that long before it does, while looks
 * mostly find something (base/spin.h). Nothing it does waits, so that forget ends within what one turn
 * of each lane takes.
 *
 * Threads: `lock` guards posts and stop (rank: none taken under it).
 */
#include "server_priv.h"

#include "base/clock.h"
#include "base/spin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ---- from other threads -------------------------------------------------------------------------- */

static void forget_now(struct yk_server *s, const struct yk_region *region) {
    struct yk_in_lane *next;
    for (struct yk_in_lane *l = s->lanes; l != NULL; l = next) {
        next = l->next;
        yk_in_forget(l, region);
    }
}

int yk_in_is_revoked(const struct yk_server *s, uint64_t incarnation) {
    for (uint32_t i = 0; i < s->revoked_count; i++)
        if (s->revoked[i] == incarnation)
            return 1;
    return 0;
}

static int revoke_now(struct yk_server *s, uint64_t incarnation) {
    struct yk_in_lane *next;
    int known = yk_in_is_revoked(s, incarnation);
    if (s->revoked == NULL)
        s->revoked = calloc(YK_IN_REVOKED, sizeof(uint64_t));
    if (!known && (s->revoked == NULL || s->revoked_count == YK_IN_REVOKED))
        return -YK_ELIMIT;
    if (!known)
        s->revoked[s->revoked_count++] = incarnation;
    for (struct yk_in_lane *l = s->lanes; l != NULL; l = next) {
        next = l->next;
        if (l->greeted && l->incarnation == incarnation)
            yk_in_close(l, "its engine was revoked");
    }
    return 0;
}

static void do_post(struct yk_server *s, struct yk_in_post *p) {
    if (p->region != NULL)
        forget_now(s, p->region);
    else
        p->rc = revoke_now(s, p->incarnation);
}

/* Has the server's thread do it, and waits. */
static int post_and_wait(struct yk_server *s, struct yk_in_post *post) {
    if (s == NULL || !s->started)
        return 0;
    if (pthread_equal(pthread_self(), s->thread)) { /* from a callback */
        do_post(s, post);
        return post->rc;
    }
    pthread_mutex_lock(&s->lock);
    post->next = s->posts;
    s->posts = post;
    yk_loop_wake(s->loop);
    while (!post->done)
        pthread_cond_wait(&s->posted, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return post->rc;
}

void yk_server_forget(struct yk_server *s, const struct yk_region *region) {
    struct yk_in_post post = {.region = region};
    (void)post_and_wait(s, &post);
}

int yk_server_revoke(struct yk_server *s, uint64_t incarnation) {
    struct yk_in_post post = {.incarnation = incarnation};
    return post_and_wait(s, &post);
}

/* 1: the thread shall end. */
static int do_posts(struct yk_server *s) {
    pthread_mutex_lock(&s->lock);
    struct yk_in_post *posts = s->posts;
    int stop = s->stop;
    s->posts = NULL;
    pthread_mutex_unlock(&s->lock);
    if (posts == NULL)
        return stop;
    for (struct yk_in_post *p = posts; p != NULL; p = p->next)
        do_post(s, p);
    pthread_mutex_lock(&s->lock);
    for (struct yk_in_post *p = posts, *next; p != NULL; p = next) {
        next = p->next; /* its owner may go when done is set */
        p->done = 1;
    }
    pthread_cond_broadcast(&s->posted);
    pthread_mutex_unlock(&s->lock);
    return stop;
}

void yk_server_stat(struct yk_server *s, struct yk_server_counts *ret_counts) {
    struct yk_server_counts c;
    const struct yk_server_counts *from = &s->counts;
    memset(&c, 0, sizeof(c));
    c.lanes = __atomic_load_n(&from->lanes, __ATOMIC_RELAXED);
    c.accepted = __atomic_load_n(&from->accepted, __ATOMIC_RELAXED);
    c.refused = __atomic_load_n(&from->refused, __ATOMIC_RELAXED);
    c.requests = __atomic_load_n(&from->requests, __ATOMIC_RELAXED);
    c.bytes_in = __atomic_load_n(&from->bytes_in, __ATOMIC_RELAXED);
    c.bytes_out = __atomic_load_n(&from->bytes_out, __ATOMIC_RELAXED);
    c.accept_pauses = __atomic_load_n(&from->accept_pauses, __ATOMIC_RELAXED);
    pthread_mutex_lock(&s->lock);
    c.broken = from->broken;
    memcpy(c.last_broken, from->last_broken, sizeof(c.last_broken));
    pthread_mutex_unlock(&s->lock);
    *ret_counts = c;
}

/* ---- the thread ----------------------------------------------------------------------------------- */

static void serve_one(struct yk_server *s) {
    struct yk_in_lane *l = s->ready_first;
    s->ready_first = l->ready_next;
    if (s->ready_first == NULL)
        s->ready_last = &s->ready_first;
    l->ready_next = NULL;
    l->is_ready = 0;
    if (yk_in_serve(l))
        yk_in_ready(l);
}

/* Looks for a while, or sleeps; what comes is handled by callbacks of the loop. */
static void wait_for_work(struct yk_server *s, struct yk_spin *spin) {
    uint64_t poll_ns = s->env.opts->poll_us * YK_NS_PER_US;
    if (poll_ns > 0 && s->lanes != NULL && yk_spin_try(spin)) {
        uint64_t until = yk_now_ns() + poll_ns;
        int found = 0;
        while (!found && yk_now_ns() < until)
            found = yk_loop_turn(s->loop, 0) > 0 || s->ready_first != NULL;
        yk_spin_end(spin, found);
        if (found)
            return;
    }
    (void)yk_loop_turn(s->loop, UINT64_MAX);
}

static void *server_main(void *arg) {
    struct yk_server *s = arg;
    struct yk_spin spin = {0};
    while (!do_posts(s)) {
        if (s->ready_first == NULL) {
            wait_for_work(s, &spin);
            continue;
        }
        serve_one(s);
        (void)yk_loop_turn(s->loop, 0); /* urgent lanes are served from there */
    }
    while (s->lanes != NULL)
        yk_in_close(s->lanes, NULL);
    return NULL;
}

/* ---- life ----------------------------------------------------------------------------------------- */

static void server_free(struct yk_server *s) {
    for (uint32_t i = 0; i < s->listener_count; i++) {
        yk_loop_unwatch(s->loop, &s->listeners[i]);
        close(s->listeners[i].fd);
    }
    if (s->unix_path[0] != 0)
        unlink(s->unix_path);
    while (s->spare != NULL) {
        struct yk_in_work *w = s->spare;
        s->spare = w->next;
        free(w);
    }
    yk_loop_free(s->loop);
    pthread_cond_destroy(&s->posted);
    pthread_mutex_destroy(&s->lock);
    free(s->sink);
    if (s->mem > 0)
        close(s->mem - 1);
    free(s->notes);
    free(s->revoked);
    free(s);
}

int yk_server_open(const struct yk_xfer_opts *opts, struct yk_peer_info *self,
                   struct yk_server **ret_server, struct yk_err *err) {
    struct yk_server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a server");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->posted, NULL);
    s->ready_last = &s->ready_first;
    s->pause = (struct yk_timer){.fn = yk_server_on_pause, .user = s};
    s->sweep = (struct yk_timer){.fn = yk_in_sweep, .user = s};
    s->sink = malloc(YK_IN_SINK);
    int rc = s->sink == NULL ? yk_err_set(err, -YK_ENOMEM, "no memory for a server")
                             : yk_loop_new(&s->loop, err);
    if (rc == 0)
        rc = yk_server_listen(s, opts, self, err);
    if (rc < 0) {
        server_free(s);
        return rc;
    }
    *ret_server = s;
    return 0;
}

int yk_server_start(struct yk_server *s, const struct yk_server_env *env, struct yk_err *err) {
    s->env = *env;
    if (s->env.lanes_max == 0)
        s->env.lanes_max = 65536;
    if (s->env.hello_ms == 0)
        s->env.hello_ms = 5000;
    if (s->env.pin_ms == 0)
        s->env.pin_ms = YK_IN_PIN_MS;
    for (uint32_t i = 0; i < s->listener_count; i++) {
        int rc = yk_loop_watch(s->loop, &s->listeners[i]);
        if (rc < 0)
            return yk_err_set(err, rc, "a listener cannot be watched");
    }
    /* Under the lock, so that the thread's own look at s->thread comes after it is written. */
    pthread_mutex_lock(&s->lock);
    int rc = pthread_create(&s->thread, NULL, server_main, s);
    s->started = rc == 0;
    pthread_mutex_unlock(&s->lock);
    return rc == 0 ? 0 : yk_err_set(err, -YK_ENOMEM, "no thread for the server (errno %d)", rc);
}

void yk_server_close(struct yk_server *s) {
    if (s == NULL)
        return;
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->stop = 1;
        yk_loop_wake(s->loop);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    server_free(s);
}
