/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions that other threads want run on the owner thread (pool.h, yk_node_post): a list under the node's
 * lock, and an async handle that wakes the loop. What a turn leaves over the next one runs, so that connections
 * have theirs between.
 *
 * Threads: post and pool_end: any but the owner's; the rest the owner's.
 */
#include "node/node_priv.h"

#include <stdlib.h>

#define TURN_POSTS 256u

struct post {
    struct post *next;
    void (*fn)(void *arg, struct yk_store *store);
    void *arg;
    int borrowed; /* not the heap's */
};

/* Sent under the lock: the handle is closed only after `closed` was set under it. */
static int post_add(struct yk_node *node, struct post *p) {
    pthread_mutex_lock(&node->lock);
    int rc = node->posts_closed                                         ? -YK_ECLOSED
             : node->post_count >= YK_NODE_POSTS_MAX && !p->borrowed ? -YK_EAGAIN
                                                                        : 0;
    if (rc == 0) {
        p->next = NULL;
        *node->posts_tail = p;
        node->posts_tail = &p->next;
        if (node->post_count++ == 0)
            uv_async_send(&node->posted);
    }
    pthread_mutex_unlock(&node->lock);
    return rc;
}

int yk_node_post(struct yk_node *node, void (*fn)(void *arg, struct yk_store *store), void *arg) {
    struct post *p = malloc(sizeof(*p));
    if (p == NULL)
        return -YK_ENOMEM;
    *p = (struct post){NULL, fn, arg, 0};
    int rc = post_add(node, p);
    if (rc < 0)
        free(p);
    return rc;
}

static struct post *post_take(struct yk_node *node) {
    pthread_mutex_lock(&node->lock);
    struct post *p = node->posts;
    if (p != NULL) {
        node->posts = p->next;
        if (p->next == NULL)
            node->posts_tail = &node->posts;
        node->post_count--;
    }
    pthread_mutex_unlock(&node->lock);
    return p;
}

/* 1: there may be more. */
static int posts_run(struct yk_node *node, uint32_t most) {
    for (uint32_t n = 0; n < most; n++) {
        struct post *p = post_take(node);
        if (p == NULL)
            return 0;
        struct post run = *p;
        if (!run.borrowed)
            free(p);
        run.fn(run.arg, node->store);
    }
    return 1;
}

static void on_posted(uv_async_t *async) {
    struct yk_node *node = async->data;
    node_active(node);
    if (posts_run(node, TURN_POSTS))
        uv_async_send(async);
    node_turn(node);
}

void posts_init(struct yk_node *node) {
    node->posts_tail = &node->posts;
}

void posts_loop(struct yk_node *node) {
    uv_async_init(&node->loop, &node->posted, on_posted);
    node->posted.data = node;
}

void posts_close(struct yk_node *node) {
    pthread_mutex_lock(&node->lock);
    node->posts_closed = 1;
    pthread_mutex_unlock(&node->lock);
    while (posts_run(node, TURN_POSTS))
        continue;
}

/* ---- the pool begins, and ends ------------------------------------------------------------------- */

static void begin_run(void *arg, struct yk_store *store) {
    struct yk_node *node = arg;
    (void)store;
    if (node->accept_held)
        node_accept_begin(node);
}

int yk_node_pool_begin(struct yk_node *node) {
    return yk_node_post(node, begin_run, node);
}

struct ending {
    struct post post; /* no memory is needed to end */
    struct yk_node *node;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int done;
};

static void end_run(void *arg, struct yk_store *store) {
    struct ending *e = arg;
    yk_store_pool_forget(store);
    pool_end(e->node);
    pthread_mutex_lock(&e->lock);
    e->done = 1;
    pthread_cond_signal(&e->cond);
    pthread_mutex_unlock(&e->lock); /* the last that is done with it */
}

void yk_node_pool_end(struct yk_node *node) {
    struct ending e = {.node = node};
    e.post = (struct post){NULL, end_run, &e, 1};
    pthread_mutex_init(&e.lock, NULL);
    pthread_cond_init(&e.cond, NULL);
    if (post_add(node, &e.post) == 0) {
        pthread_mutex_lock(&e.lock);
        while (!e.done)
            pthread_cond_wait(&e.cond, &e.lock);
        pthread_mutex_unlock(&e.lock);
    }
    pthread_cond_destroy(&e.cond);
    pthread_mutex_destroy(&e.lock);
}
