/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the node (src/node/node.h): what its loop, connections, handlers and helpers share.
 *
 * Threads: the owner loop's, but for what is marked.
 */
#ifndef YK_NODE_NODE_PRIV_H
#define YK_NODE_NODE_PRIV_H

#include "base/spin.h"
#include "node/learned_file.h"
#include "node/node.h"
#include "node/pool.h"
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
    uint64_t since_ns, deadline_ns;
    uint32_t count;
    int is_put;   /* the conn's put, for its place or to be committed; else a RESERVE */
    int answered; /* while it is being */
};

/* What the pool has said to items of one request, kept for its second run (pool.c). */
struct answer {
    uint32_t at; /* which item; they grow */
    uint8_t asked, done;
    struct yk_pool_found found; /* before it was answered: what is said without */
};

struct answers {
    uint32_t count;
    uint32_t next; /* where the run looks for the next one */
    int each;      /* items are answered one by one, by tokens of their own; else all at once */
    uint64_t ticket; /* of what the first run changed: durable before that is answered */
    struct answer of[];
};

/* A request that waits for blocks to come up from SSD, or for the pool; it is run again when they have, or
 * that has answered. */
struct parked {
    struct conn *conn; /* NULL: it has left, or the slot is free */
    unsigned char *body;
    struct yk_frame frame;
    uint64_t begun_ns;
    uint32_t pending; /* raises that have not ended, and answers that the pool owes */
    uint32_t seq;     /* of the slot's use: part of the token */
    uint32_t next;    /* free or ready list, +1 */
    uint8_t used;
    uint8_t owed; /* a yk_node_pool_found */
    uint32_t owed_each; /* yk_node_pool_removed */
    uint32_t keys;      /* that it has asked the pool for; 0: it may yet */
    uint64_t deadline_ns; /* of what is owed */
    struct answers *answers; /* NULL = none */
};

/* A reply that waits for a removal to be durable, or (rerun) a request that does. */
struct held {
    struct held *next;
    struct conn *conn;
    uint64_t ticket;
    struct yk_frame frame; /* body_bytes: of body */
    int rerun;
    unsigned char body[];
};

#define WAITERS_MAX 4096u
#define PARKED_MAX  4096u /* with the item's number in 32 bits of a token */
#define HELD_MAX    65536u
#define JOBS_MAX    64u

/* A CHANGE that verifies. */
struct changes {
    uint64_t epoch;
    uint32_t n, done; /* items of the frame, those that have their status */
    int verifying;    /* item `done` is under way */
    int removed;      /* by the pool: removals have their statuses already */
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
    uint64_t ticket;
    uint32_t ns, cursor;
    uint8_t how, pattern_len;
    unsigned char pattern[255];
};

/* What was learned, on its way into a file (learn.c). The owner's, but for what is handed: the helper has that, and file,
 * name and ns, until it is not. */
struct saving {
    char *path; /* NULL: it is not kept */
    uint64_t last_ms, seen; /* boot clock: when the last began; and what had been seen then */
    uint64_t wall_ms;
    int under_way, failed;
    uint32_t which; /* of the policies, the next */
    struct yk_learned_saving *copying; /* step by step */
    int handed; /* under helper_lock */
    struct yk_learned_saving *copy;
    struct yk_learned_file_writer file;
    uint32_t ns;
    char name[64];
};

/* How a namespace's policy does, as of the last tick (stats_learned.c). */
struct learned_shot {
    uint32_t ns;
    char name[64];
    struct yk_learned_report report;
};

struct yk_node {
    struct yk_node_opts opts;
    struct yk_store *store;
    struct yk_segment *seg;
    uv_loop_t loop;
    uv_timer_t upkeep;
    uv_timer_t doze; /* instead of upkeep while the node dozes over SSD devices */
    uv_timer_t wait_timer;
    uv_timer_t stop_timer;
    uv_idle_t busy;    /* runs while there is work left from a tick, or a message is looked for */
    uv_prepare_t turn; /* at each turn of the loop */
    uv_check_t after;  /* after each turn: what it gave to the SSD tier leaves */
    uv_async_t wake;   /* stop, connect */
    uv_async_t low;    /* the SSD tier has done something */
    uv_poll_t low_fd;  /* likewise: reads that this thread gave to a device itself */
    uv_async_t beat;   /* apart from wake, which ends a doze */
    uint64_t beats;    /* atomic; relaxed: a counter of its own */
    uv_poll_t *listeners;
    int *listener_fds;
    uint32_t listener_count;
    pthread_t thread;
    int thread_started;

    struct conn *conns;     /* list */
    struct watch **watches; /* by client slot */
    uint64_t *greeted;      /* by client slot: number of the latest connection that has said hello for it */
    struct waiter *waiters;
    uint32_t waiter_count;
    uint64_t ssd_wait_ns; /* 0 = until their deadlines */
    struct job *jobs;
    uint32_t job_count;
    struct parked *parked;
    uint32_t parked_free, parked_ready, parked_count; /* lists, +1 */
    struct held *held, **held_tail;
    uint32_t held_count;
    uint32_t idle_ticks;
    int accept_paused; /* out of descriptors: listeners are looked at by upkeep */
    int accept_held;   /* until the pool begins */
    int dozing;
    int more;               /* there is work left from a tick */
    struct yk_spin spin;    /* before the loop sleeps */
    uint64_t spin_until_ns; /* 0: not looking */
    int stopping;
    uint64_t last_events, last_in_bytes, stop_deadline_ns;
    uint64_t looked_ms; /* at puts under way, by upkeep */

    struct transfer *transfer; /* the engine's; NULL = none */
    struct pool *pool;         /* pool.c; NULL: the node is alone */

    pthread_mutex_t lock; /* guards handover[], ns_snapshot[] and posts; rank 1 in docs/locks.md */
    struct post *posts, **posts_tail; /* post.c */
    uint32_t post_count;
    int posts_closed;
    uv_async_t posted;
    int handover[64];
    uint32_t handover_count;
    int stop_asked;
    int discarded; /* nothing of this life is kept; set before the loop hears of the stop */
    yk_ns_info ns_snapshot[YK_SHM_NAMESPACES]; /* name "" = none */
    struct learned_shot *learned_shots; /* under the lock; NULL: the policy learns nothing */
    uint32_t learned_count;
    char peers[300]; /* under the lock: node.h, yk_node_set_peers */

    /* helpers (upkeep.c) */
    pthread_t populate_thread, scrub_thread;
    int populate_started, scrub_started;
    int helpers_stop;            /* atomic */
    pthread_mutex_t helper_lock; /* with helper_cond, learn_cond; rank 2 */
    pthread_cond_t helper_cond, learn_cond;
    pthread_t learn_thread;
    int learn_started;
    struct yk_learned_training *training; /* under the lock; the helper's until it was made. NULL: none */
    int training_made;                    /* likewise */
    uv_async_t learned;                   /* it was made */
    struct saving saving;

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

/* Runs a request again that was held or (NULL: it was not) parked. 0: done with; 1: not now, its output is
 * full. */
int conn_rerun(struct conn *c, const struct yk_frame *f, const void *body, uint64_t begun_ns,
               const struct parked *parked);

/* park.c */
int park_init(struct yk_node *node);
void park_fini(struct yk_node *node);
/* A slot to be parked in: its token for yk_store_raise, or 0 when all are taken. Then either _keep,
 * with the raises that are under way, or _drop. */
uint64_t park_take(struct yk_node *node);
int park_keep(struct yk_node *node, uint64_t token, struct conn *c, const struct yk_frame *f,
              const void *body, uint32_t pending);
void park_drop(struct yk_node *node, uint64_t token);
/* The request of a token; NULL: it is over. */
struct parked *park_find(struct yk_node *node, uint64_t token);
/* n of what a request waits for have ended. */
void park_ended(struct yk_node *node, struct parked *p, uint32_t n);
void park_raised(void *arg, uint64_t token); /* the store's callback */
/* Keeps a reply, or a request, until the ticket is durable. */
int held_add(struct yk_node *node, struct conn *c, uint64_t ticket, const struct yk_frame *f,
             const void *body, int rerun);
/* Runs and sends what can be now. */
void park_run(struct yk_node *node);
void park_forget(struct yk_node *node, const struct conn *c);

/* handle.c: runs one complete frame. Returns 0, or a failure that ends the connection, with its
 * text in err. */
int handle_frame(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
#define HANDLE_PARKED 1 /* it will be run again, and answered then */
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
void node_turn(struct yk_node *node); /* answers who waited for what has just happened */
void node_heard(struct yk_node *node); /* a message came: the next may follow */

/* listen.c */
int node_listen(struct yk_node *node, struct yk_err *err);
/* A listener that can't accept is left alone: it stays readable. 0: they are looked at again. */
void node_accept_pause(struct yk_node *node, int pause);
void node_accept_begin(struct yk_node *node); /* they were held back until now */

/* transfer.c: starts the engine as the options say, after node_listen; stop takes a node without one. */
int transfer_start(struct yk_node *node, struct yk_err *err);
void transfer_stop(struct yk_node *node);
/* What HELLO says of it; "" when there is none. Valid until the stop. Any thread. */
const char *transfer_addresses(const struct yk_node *node);
const char *transfer_segment(const struct yk_node *node);

/* pool.c */
int pool_init(struct yk_node *node, const struct yk_pool_ops *ops); /* -YK_ENOMEM */
void pool_loop(struct yk_node *node); /* its timer */
void pool_fini(struct yk_node *node);
/* Is there one, and has it not ended? */
int pool_alive(const struct yk_node *node);
/* The filter for clients, that allows every key. */
int pool_filter_fd(const struct yk_node *node, uint64_t *ret_bytes);
/* Nothing is asked any more, and what is owed is over. */
void pool_end(struct yk_node *node);
void pool_forget_keys(struct yk_node *node, const struct parked *p);

/* post.c */
void posts_init(struct yk_node *node);
void posts_loop(struct yk_node *node);
/* Runs what there is, and takes no more. */
void posts_close(struct yk_node *node);

/* stats_ssd.c: appends `,"ssd":...`. Any thread. */
struct yk_buf;
void node_stats_cxl(const struct yk_node *node, struct yk_buf *out);
void node_stats_ssd(const struct yk_node *node, struct yk_buf *out);

/* stats_learned.c: a copy of how policies do, under the lock; and appends `,"learned":[...]`. */
void node_learned_snapshot(struct yk_node *node);
void node_stats_learned(struct yk_node *node, struct yk_buf *out);

/* learn.c. learn: has a policy seen enough? Then the helper makes the model that decides from what it saw. */
void node_learn(struct yk_node *node);
void node_learn_loop(struct yk_node *node);
int node_learn_start(struct yk_node *node);
/* A step of what is saved, if it is due. */
void node_save(struct yk_node *node);
int node_saves(const struct yk_node *node);  /* steps are to follow */
void node_save_all(struct yk_node *node);    /* at a stop, when no helper runs */

/* upkeep.c */
int helpers_start(struct yk_node *node);
void helpers_stop(struct yk_node *node);

#endif
