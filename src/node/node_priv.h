/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the node (src/node/node.h): what its loop, connections, handlers and helpers share.
 *
 * Threads: the owner loop's, but for what is marked.
 */
#ifndef YK_NODE_NODE_PRIV_H
#define YK_NODE_NODE_PRIV_H

#include "node/node.h"
#include "node/store.h"
#include "wire/msg.h"

#include <pthread.h>
#include <uv.h>

struct conn;

/* A process that holds client slots is watched until it is dead. */
struct watch {
    uv_poll_t poll;
    struct yk_node *node;
    int pidfd;
    uint32_t slot;
};

/* A request that waits for space. */
struct waiter {
    struct conn *conn;
    uint64_t id;
    uint64_t len;
    uint64_t deadline_ns;
    uint32_t count;
    int is_put;   /* the conn's put, for its place or to be committed; else a RESERVE */
    int answered; /* while it is being */
};

#define WAITERS_MAX 4096u
#define JOBS_MAX    64u

/* A CHANGE that verifies. */
struct changes {
    uint64_t epoch;
    uint32_t n, done; /* items of the frame, those that have their status */
    int verifying;    /* item `done` is under way */
    struct yk_verify verify;
    struct yk_rd rest;   /* of the body, a copy behind the statuses */
    uint32_t statuses[]; /* n */
};

/* What goes on in steps: a batch removal, or changes that verify. */
struct job {
    struct conn *conn;       /* NULL when it has left: a removal goes on all the same */
    struct changes *changes; /* NULL: a removal */
    uint64_t id;
    uint64_t removed;
    uint32_t ns, cursor, top;
    uint8_t how, pattern_len;
    unsigned char pattern[255];
};

struct yk_node {
    struct yk_node_opts opts;
    struct yk_store *store;
    struct yk_segment *seg;
    uv_loop_t loop;
    uv_timer_t upkeep;
    uv_timer_t wait_timer;
    uv_timer_t stop_timer;
    uv_idle_t busy;    /* runs while there is work left from a tick */
    uv_prepare_t turn; /* at each turn of the loop */
    uv_async_t wake;   /* stop, connect */
    uv_async_t beat;   /* apart from wake, which ends a doze */
    uint64_t beats;    /* atomic; relaxed: a counter of its own */
    uv_poll_t *listeners;
    int *listener_fds;
    uint32_t listener_count;
    pthread_t thread;
    int thread_started;

    struct conn *conns;     /* list */
    struct watch **watches; /* by client slot */
    struct waiter *waiters;
    uint32_t waiter_count;
    struct job *jobs;
    uint32_t job_count;
    uint32_t idle_ticks;
    int accept_paused; /* out of descriptors: listeners are looked at by upkeep */
    int dozing;
    int stopping;
    uint64_t last_events, last_in_bytes, stop_deadline_ns;

    pthread_mutex_t lock; /* guards handover[] and ns_snapshot[]; rank 1 in docs/locks.md */
    int handover[64];
    uint32_t handover_count;
    int stop_asked;
    yk_ns_info ns_snapshot[YK_SHM_NAMESPACES]; /* name "" = none */

    /* helpers (upkeep.c) */
    pthread_t populate_thread, scrub_thread;
    int populate_started, scrub_started;
    int helpers_stop;            /* atomic */
    pthread_mutex_t helper_lock; /* with helper_cond; rank 2 */
    pthread_cond_t helper_cond;

    struct yk_node_stats n; /* store part unused; relaxed stores by the owner */
    struct yk_hist latency[YK_MSG_OPS];
};

#define NODE_ADD(node, f, v)                                                                       \
    __atomic_store_n(&(node)->n.f, (node)->n.f + (uint64_t)(v), __ATOMIC_RELAXED)

/* conn.c */
void conn_open(struct yk_node *node, int fd, int is_unix);
void conn_close(struct conn *c);
void conn_resume(struct conn *c);
/* Ends the connections of a client slot, but for one (or NULL). */
void conns_close_slot(struct yk_node *node, uint32_t slot, const struct conn *but);
/* Connections on which nothing happens give their buffers back. */
void conns_shrink(struct yk_node *node);
/* Puts whose payload has stopped coming give their places back. */
void conns_drop_stalled(struct yk_node *node);

/* handle.c: runs one complete frame. Returns 0, or a failure that ends the connection, with its
 * text in err. */
int handle_frame(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
/* Answers a waiter if it can be now, or if its time is over: 1 answered. */
int handle_waiter(struct yk_node *node, struct waiter *w, uint64_t now_ns);
/* Starts the PUT whose fixed part is complete. 0: payload is wanted; 1: waits for space. */
int handle_put_begin(struct conn *c);
void handle_put_end(struct conn *c);
void handle_job_done(struct yk_node *node, struct job *j);
/* Goes on with changes; 1 done. */
int handle_changes_step(struct yk_node *node, struct job *j, uint64_t budget_bytes);
void handle_changes_free(struct yk_node *node, struct job *j);

/* node.c */
void node_watch(struct yk_node *node, uint32_t slot, uint32_t pid);
void node_unwatch(struct yk_node *node, uint32_t slot);
int node_wait(struct yk_node *node, const struct waiter *w); /* -YK_EAGAIN: the table is full */
void node_forget(struct yk_node *node, struct conn *c);      /* its waiters and jobs */
void node_active(struct yk_node *node);                      /* something happened: no dozing */
void node_more(struct yk_node *node);                        /* there is work for the busy handle */

/* upkeep.c */
int helpers_start(struct yk_node *node);
void helpers_stop(struct yk_node *node);

#endif
