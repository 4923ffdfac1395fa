/* SPDX-License-Identifier: Apache-2.0
 *
 * What the core of the metadata asks of a backend, and what it gives to it. Only src/meta includes this.
 *
 * The core has checked what it passes, keeps deadlines and limits, and owns requests and watches; a
 * backend carries them out. Everything here runs on the thread `yolk-meta`, but for wake, and so needs no
 * lock.
 *
 * Thread: yolk-meta.
 */
#ifndef YK_META_BACKEND_H
#define YK_META_BACKEND_H

#include "meta/meta.h"

#include <sys/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Called once when due, then not set any more. The user's storage, zeroed but for fn and user. */
struct yk_meta_timer {
    uint64_t due_ns; /* monotonic; 0 = not set */
    void (*fn)(void *user);
    void *user;
    TAILQ_ENTRY(yk_meta_timer) link;
};

void yk_meta_timer_set(struct yk_meta *meta, struct yk_meta_timer *timer, uint64_t due_ns);
void yk_meta_timer_stop(struct yk_meta *meta, struct yk_meta_timer *timer); /* fine when not set */

enum yk_meta_what {
    YK_META_DO_RANGE,
    YK_META_DO_TXN,
    YK_META_DO_GRANT,
    YK_META_DO_KEEPALIVE,
    YK_META_DO_REVOKE
};

struct yk_meta_msg {
    void (*fn)(struct yk_meta_msg *msg);
    STAILQ_ENTRY(yk_meta_msg) link;
};

struct yk_meta_req {
    struct yk_meta *meta;
    enum yk_meta_what what;
    bool internal;          /* not counted among max_requests */
    char *key;              /* RANGE */
    bool prefix;            /* RANGE: all keys that begin with it */
    struct yk_meta_txn txn; /* TXN: a copy of the request's own */
    uint64_t lease, ttl_ms; /* the others */
    uint64_t deadline_ns;   /* monotonic */
    yk_meta_fn fn;
    void *user;

    /* What the backend tells, before yk_meta_done. */
    uint64_t sent_boot_ms;  /* KEEPALIVE, GRANT: when the message left that was answered */
    uint64_t answer_ttl_ms; /* KEEPALIVE, GRANT */
    bool unsure;            /* a change that was sent and not answered */
    struct yk_err trouble;  /* why the last try failed */
    void *state;            /* the backend's, while it has the request */

    /* The core's. */
    struct yk_meta_msg msg;
    struct yk_meta_timer timer;
    void *txn_copy;
    uint32_t timeout_ms;
    bool started;
    TAILQ_ENTRY(yk_meta_req) link;
};

struct yk_meta_watch {
    struct yk_meta *meta;
    char *prefix;
    uint64_t next; /* first revision that is still to be told; 0: the state comes first */
    yk_meta_watch_fn fn;
    void *user;
    void *state; /* the backend's */

    /* The core's. */
    struct yk_meta_msg open_msg, close_msg;
    bool started, listed, told_state, in_trouble;
    TAILQ_ENTRY(yk_meta_watch) link;
};

struct yk_meta_backend {
    const char *name;
    int (*open)(struct yk_meta *meta, const struct yk_meta_opts *opts, void **ret_backend,
                struct yk_err *err); /* on the opener's thread */
    void (*close)(void *backend);    /* after the thread; holds no request or watch then */

    /* Ends in yk_meta_done, now or later. */
    void (*start)(void *backend, struct yk_meta_req *req);
    void (*stop)(void *backend, struct yk_meta_req *req); /* forgets it */

    /* Tells by yk_meta_tell_... until unwatch. 0 or -YK_ENOMEM. */
    int (*watch)(void *backend, struct yk_meta_watch *watch);
    void (*unwatch)(void *backend, struct yk_meta_watch *watch);

    /* Sleeps until something happened, wake, or wait_ms; then does what is to do. */
    void (*turn)(void *backend, int wait_ms);
    void (*wake)(void *backend); /* any thread */
};

extern const struct yk_meta_backend yk_meta_embedded;
extern const struct yk_meta_backend yk_meta_etcd; /* where libcurl was found */

const struct yk_meta_opts *yk_meta_opts_of(const struct yk_meta *meta); /* defaults filled in */

/* Ends and frees it. result is borrowed; unsure is taken from the request. */
void yk_meta_done(struct yk_meta_req *req, const struct yk_meta_result *result);
void yk_meta_fail(struct yk_meta_req *req, int status, const char *text);

/* Requests of the metadata's own, from its thread. NULL: no memory. */
struct yk_meta_req *yk_meta_req_new(struct yk_meta *meta, enum yk_meta_what what, const char *key,
                                    yk_meta_fn fn, void *user);
/* Fills in a copy. -YK_ENOMEM. */
int yk_meta_req_txn(struct yk_meta_req *req, const struct yk_meta_txn *txn);
void yk_meta_req_start(struct yk_meta_req *req, uint64_t deadline_ns);
/* Forgets it without its callback. */
void yk_meta_req_drop(struct yk_meta_req *req);

/* To a watch's user. tell_state and tell_changes move `next`. */
void yk_meta_tell_state(struct yk_meta_watch *watch, const struct yk_meta_kv *kvs, size_t count,
                        uint64_t revision);
void yk_meta_tell_changes(struct yk_meta_watch *watch, const struct yk_meta_kv *kvs, size_t count,
                          uint64_t revision);
void yk_meta_tell_good(struct yk_meta_watch *watch); /* nothing unless in trouble */
void yk_meta_tell_trouble(struct yk_meta_watch *watch, int status, const char *text);

#ifdef __cplusplus
}
#endif

#endif
