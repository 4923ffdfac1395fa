/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection as its handlers see it: input, output queue, the put under way.
 *
 *   HELLO --hello--> OPEN --put frame--> PUT --payload complete--> OPEN
 *                     |                   | ^
 *                     |                   v | space is there
 *                     |                  WAIT (reads nothing; payload complete: for its commit)
 *                     +--error, EOF--> closed
 *   A put that is refused reads its payload all the same and drops it (DROP), so that the frames
 *   after it are found.
 *
 * Threads: the owner loop's.
 */
#ifndef YK_NODE_CONN_PRIV_H
#define YK_NODE_CONN_PRIV_H

#include "node/node_priv.h"

#define SEGMENTS_MAX 128u       /* output pieces that wait to be sent */
#define OUT_MAX      (8u << 20) /* bytes of replies beyond which no more requests are read */

#define LOCATED_MAX  32u        /* located gets that may fall back without being counted again */

enum conn_state { CONN_HELLO, CONN_OPEN, CONN_PUT, CONN_WAIT, CONN_DROP };

/* A piece of output: bytes of obuf, or a block's payload that is held until it is sent. */
struct piece {
    const unsigned char *payload; /* NULL: obuf */
    size_t off;                   /* into obuf */
    size_t len;
    int hold;
};

struct conn {
    struct conn *next, **prev;
    struct yk_node *node;
    uv_poll_t poll;
    int fd;
    int is_unix;
    int closing;
    int polled; /* uv events that are asked for */
    enum conn_state state;
    uint32_t pid;
    uint64_t number; /* in the order in which they were made */
    uint64_t opened_ms;
    struct yk_err err; /* why it is being closed */

    /* from HELLO */
    uint32_t slot; /* client slot, 0 = none (not mapped) */
    uint32_t ns;
    int mapped;
    int announces; /* it says what its requests are: what it matches is not taken for one */
    int xfer;      /* payload may go through the transfer engine */
    uint32_t peer; /* who its places belong to when it is not mapped (yk_store_peer_open); 0 = it has none */
    uint64_t located[LOCATED_MAX]; /* hashes of keys that were located last, for handle_get.c; 0 = none */
    uint32_t located_at;

    unsigned char *in;
    size_t in_len, in_cap;
    int stalled; /* input stands there for a full output */
    int quiet;   /* nothing happened on it since upkeep looked last */

    unsigned char *obuf;
    size_t olen, ocap;
    struct piece pieces[SEGMENTS_MAX];
    uint32_t piece_first, piece_count;
    size_t reply_at; /* of the frame header being written */
    int rerun;       /* the request being handled was parked: what it waited for has come, or never will */
    int asked;       /* and it has asked the pool */
    int shut;        /* the request being handled finds nothing: the segment's gate is shut */
    uint64_t begun_ns; /* when it came */
    struct answers *answers; /* then: the pool's; NULL = none */

    /* the put under way */
    struct {
        uint64_t id, len, sum, epoch, got;
        uint64_t deadline_ns;
        uint64_t seen;            /* got, when upkeep last looked */
        uint64_t idle_ms, age_ms; /* since it last grew, since its place was there; while looked at */
        struct yk_place place;
        struct yk_attrs attrs;
        unsigned char key[256], parent[256], prefer[256];
        uint32_t key_len, parent_len, prefer_len;
        int status;
    } put;
};

/* Blocks that a request needs in DRAM. */
struct needs {
    uint64_t token; /* of the slot it will be parked in, 0 = none yet */
    uint32_t pending;
    uint32_t wanted; /* keys of the pool, gathered in pool.c */
    uint64_t deadline_ns; /* of these; 0 = as long as the node waits for any */
};

/* Whatever the tables say, nothing is found now. */
static inline int conn_is_blind(const struct conn *c) {
    return c->shut || yk_node_tier_lost(c->node);
}

/* handle_look.c */
int handle_announce(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
/* stats_learned.c: what a policy that learns thinks of a block. */
int handle_explain(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);

/* handle_raise.c. need: asks for one block; a status as of yk_store_raise. wait: HANDLE_PARKED when
 * something is on its way; 0: go on. */
int handle_need(struct conn *c, struct needs *n, uint64_t epoch, const void *key, uint32_t key_len,
                unsigned prio, uint64_t deadline_ns);
int handle_needs_wait(struct conn *c, struct needs *n, const struct yk_frame *f, const void *body);

/* pool.c. May a request be taken to the pool: is there one, and is this its namespace's epoch? */
int pool_serves(const struct conn *c, uint64_t epoch);
/* Likewise, or was there one: a key is not removed by this node alone. */
int pool_governs(const struct conn *c, uint64_t epoch);
/* Likewise to look for what this node has not: once by a request (what did not come up from SSD may be elsewhere),
 * and not where it cannot be kept. */
int pool_looks(const struct conn *c, uint64_t epoch);
/* Gathers one key, at this place in the request; the first one begins. The key is borrowed until it is asked for.
 * -YK_EAGAIN: there are enough. */
int pool_gather(struct needs *n, struct conn *c, const void *key, uint32_t key_len, uint32_t at);
/* Asks to bring what was gathered. 0: it is owed to the needs' token (a prefetch: to nobody). -YK_EAGAIN. */
int pool_bring(struct conn *c, struct needs *n);
int pool_prefetch(struct conn *c, struct needs *n);
/* LOOKUP, EXISTS, MATCH (chain): asks where those of n keys are that are not here. HANDLE_PARKED; 0: go on with
 * what there is; a failure ends the connection. */
int pool_find(struct conn *c, const struct yk_frame *f, const void *body, struct yk_rd keys,
              uint64_t epoch, uint32_t n, int chain);
/* Removes a key everywhere: item `at` of n of a CHANGE. */
void pool_remove(struct conn *c, struct needs *n, uint64_t epoch, const void *key, uint32_t key_len,
                 uint64_t until_ms, uint32_t at, uint32_t items);
/* A put has made its block; does it want copies of it, or a node (prefer_len not 0)? Item `at` of a frame's statuses, of
 * which there are `items`: YK_FEWER until it is answered. */
void pool_copies(struct conn *c, struct needs *n, const struct yk_commit *commit, const void *prefer,
                 uint32_t prefer_len, uint64_t deadline_ns, int32_t *statuses, uint32_t at, uint32_t items);
/* Something was asked (needs.pending): the statuses are kept, and the ticket of what the frame has changed, for its
 * second run. handle_needs_wait follows. */
void pool_copies_keep(struct conn *c, struct needs *n, const int32_t *statuses, uint32_t items);
/* A change of a namespace. HANDLE_PARKED, or a status: -YK_EAGAIN (also when the pool has ended), or -YK_ENOMEM. */
int pool_space(struct conn *c, const struct yk_frame *f, const void *body, unsigned what,
               const void *name, uint32_t name_len, uint64_t value);
/* In the second run: what the pool said to item `at`; NULL: it was not asked. Items in their order. */
const struct yk_pool_found *pool_answer(struct conn *c, uint32_t at);

/* conn.c: the places that it may write through the transfer engine are over. */
void conn_places_end(struct conn *c);

/* One frame each, as handle_frame. */
int handle_get(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_raise(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_prefetch(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_lookup(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_exists(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_match(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_list(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_change(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err);
int handle_remove_many(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                       struct yk_err *err);
/* The text of a body that breaks its layout; -YK_EPROTO. */
int handle_bad_body(struct yk_err *err, const struct yk_frame *f);

/* Begins a reply with room for max_body bytes; finish with reply_end, or reply_cancel. NULL: no
 * memory (the connection is closed by the caller with -YK_ENOMEM). */
int reply_begin(struct conn *c, size_t max_body, struct yk_wr *ret_w);
void reply_end(struct conn *c, struct yk_wr *w, unsigned op, uint64_t id);
/* As reply_end; payload bytes of a held block follow the body. */
void reply_end_payload(struct conn *c, struct yk_wr *w, unsigned op, uint64_t id,
                       const void *payload, size_t len, int hold);
/* A whole reply that was kept. 0: queued and sent; 1: not now, the output is full. */
int conn_reply(struct conn *c, const struct yk_frame *f, const void *body);
/* i32 status alone. */
int reply_status(struct conn *c, unsigned op, uint64_t id, int status);
/* The reply that was written last waits for what the store has changed to be durable. */
void reply_settle(struct conn *c, unsigned op, uint64_t id, uint64_t ticket);
/* Statuses of a reply's body that said 0 say rc: what was changed could not be recorded. Of a CHANGE those
 * that said YK_MISS, too. */
void reply_fail(unsigned char *body, size_t len, unsigned op, int rc);
/* Sends what is queued; arms the poll for the rest. */
void conn_flush(struct conn *c);
/* Sends the reply of HELLO with up to four descriptors at once. */
int conn_send_fds(struct conn *c, const int *fds, uint32_t count);

#endif
