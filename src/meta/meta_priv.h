/* SPDX-License-Identifier: Apache-2.0
 *
 * The core of the metadata: its thread, mailbox, timers, and the table of what is under way.
 *
 * Thread: yolk-meta, but for what is marked.
 */
#ifndef YK_META_META_PRIV_H
#define YK_META_META_PRIV_H

#include "meta/backend.h"

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_META_RESIGN_MS 2000 /* how long closing a lease or an election may wait for the store */

struct yk_meta {
    struct yk_meta_opts opts; /* with the strings behind it; immutable after open */
    const struct yk_meta_backend *ops;
    void *backend;
    pthread_t thread;

    pthread_mutex_t lock; /* mailbox and stop */
    STAILQ_HEAD(, yk_meta_msg) mailbox;
    bool stop;

    uint32_t requests, watches; /* atomic counters against the limits; any thread */

    TAILQ_HEAD(, yk_meta_req) reqs;
    TAILQ_HEAD(, yk_meta_watch) watch_list;
    TAILQ_HEAD(, yk_meta_lease) leases;
    TAILQ_HEAD(, yk_meta_election) elections;
    TAILQ_HEAD(yk_meta_timers, yk_meta_timer) timers; /* by due time */
};

enum yk_election_phase { YK_EL_IDLE, YK_EL_PUTTING, YK_EL_PUT };

/* Thread: yolk-meta, but for id and until_boot_ms (atomic, relaxed: each is a number by itself). */
struct yk_meta_lease {
    struct yk_meta *meta;
    uint64_t id, until_boot_ms;
    uint32_t ttl_ms;
    enum yk_meta_lease_state state;
    yk_meta_lease_fn fn;
    void *user;
    struct yk_meta_req *req; /* grant, keepalive or revoke under way */
    struct yk_meta_timer timer;
    struct yk_meta_msg open_msg, close_msg;
    bool revoke, closing;
    TAILQ_HEAD(, yk_meta_election) elections;
    TAILQ_ENTRY(yk_meta_lease) link;
};

struct yk_election_key;

struct yk_meta_election {
    struct yk_meta *meta;
    struct yk_meta_lease *lease; /* NULL: observes only */
    struct yk_meta_watch *watch;
    char *prefix, *key; /* key: of the candidate, made when its lease has an id */
    void *value;
    uint32_t value_len;
    yk_meta_election_fn fn;
    void *user;

    struct yk_election_key *keys; /* those who stand, by age */
    size_t count, cap;
    bool known, missed; /* keys are what the store has; one is missing for want of memory */
    enum yk_election_phase phase;
    uint64_t put_revision;
    struct yk_meta_req *req;
    struct yk_meta_timer timer;
    struct yk_meta_msg open_msg, close_msg;
    bool closing;
    /* What was told last. */
    uint64_t told_term;
    bool told, told_mine;
    TAILQ_ENTRY(yk_meta_election) link, of_lease;
};

/* Any thread. -YK_ECLOSED: the metadata ends; what msg belongs to is ended by that, or its sender's. */
int yk_meta_post(struct yk_meta *meta, struct yk_meta_msg *msg);

/* In two steps, for the metadata's own; the second on its thread. */
int yk_meta_watch_make(struct yk_meta *meta, const char *prefix, uint64_t from_revision,
                       yk_meta_watch_fn fn, void *user, struct yk_meta_watch **ret_watch);
void yk_meta_watch_start(struct yk_meta_watch *watch);
void yk_meta_watches_end(struct yk_meta *meta);
void yk_meta_watch_drop(struct yk_meta_watch *watch); /* without its last call */

/* What a lease tells elections about. */
void yk_election_lease_changed(struct yk_meta_election *election);

/* At the end of the metadata: tells ENDED and frees. */
void yk_meta_lease_end(struct yk_meta_lease *lease, int status, const char *text);
void yk_meta_election_end(struct yk_meta_election *election);

/* Checks of what users pass (check.c). */
int yk_meta_check_key(const char *key);
int yk_meta_check_txn(const struct yk_meta_txn *txn);
int yk_meta_check_opts(const struct yk_meta_opts *opts, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
