/* SPDX-License-Identifier: Apache-2.0
 *
 * The handle: what its parts share. Lookups go through `map` and take no lock; everything that needs
 * the node goes through the one connection, under the one lock.
 *
 * There is no background thread. Whoever waits for something drives the connection meanwhile
 * (yk_conn_step): one thread at a time receives, for all (leader and followers), one sends, one
 * reconnects; the others sleep until their own thing has ended or a role is free.
 *
 * Two kinds of work use the connection:
 *   call    one frame and its reply, on the caller's stack: everything that is not in a batch
 *   record  one operation of a batch; records of a kind that are queued together share a frame
 *
 *   record:  FREE -> BLOCKED -> RUNNABLE -> QUEUED -> SENT -> FREE
 *                       |       ^  ^  ^        ^        |  \
 *                       |       |  |  |        +--lost--+   +-> ORPHAN -> FREE
 *                       +-------+  |  +---place granted, block located, payload here-- (SENT)
 *                                MOVING
 *
 *   BLOCKED   an earlier operation of its key is under way
 *   RUNNABLE  its owner (the thread in yk_run, or any in yk_poll) must do the part that moves
 *             payload: never under the lock, never in another's thread
 *   QUEUED    in queue[kind], for the next frame
 *   SENT      in the list of its request, until the reply or the loss of the connection
 *   MOVING    without a map: the transfer engine reads or writes its payload (move.h)
 *   ORPHAN    as SENT, but the operation was ended (deadline, cancel): the reply still decides what
 *             becomes of its reservation, which is nobody else's before that
 *
 * A record whose caller's memory is being read or written right now without the lock (io: a system
 * call that does not wait, the copying of its payload, or the engine) is not ended before that is over.
 *
 * Threads: fields below `lock` are under it unless they say otherwise.
 */
#ifndef YK_CLIENT_PRIV_H
#define YK_CLIENT_PRIV_H

#include "base/parse.h"
#include "base/sized.h"
#include "base/spin.h"
#include "client/dial.h"
#include "client/far.h"
#include "client/hold.h"
#include "client/list.h"
#include "client/map.h"
#include "client/move.h"
#include "client/route.h"
#include "wire/msg.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <yolk/yolk.h>

#define YK_TX_BYTES    (256u << 10) /* frames encoded at a time */
#define YK_RX_BYTES    (64u << 10)  /* read at a time; grows for a longer frame */
#define YK_CALL_BYTES  (32u << 10)  /* body of a call, on the caller's stack; longer is cut */
#define YK_FRAME_ITEMS 128u         /* operations in a frame */
#define YK_RECS_SPARE  1024u        /* records beyond inflight_max: yk_run, orphans, give-backs */
#define YK_KEY_BUCKETS 1024u

/* Threads asleep in a call. On the stack of the sleeper. */
struct yk_waiter {
    struct yk_link link; /* client->sleepers, while asleep */
    pthread_cond_t cond;
    int poll; /* in yk_poll: to be woken by ended operations of yk_submit */
};

typedef int (*yk_reply_fn)(void *arg, struct yk_rd *body);

/* One frame and its reply. On the caller's stack. */
struct yk_call {
    struct yk_link link; /* client->calls while it is to be sent */
    struct yk_waiter *waiter;
    struct yk_req *req; /* while it is sent and not answered */
    const void *body;
    uint32_t body_bytes;
    uint8_t op;
    int status;        /* YK_PENDING, 0, or failure */
    yk_reply_fn reply; /* decodes, under the lock; < 0: the reply is malformed */
    void *arg;
    const struct yk_map *map; /* it names a place there, and goes to that node or ends with -YK_EGONE; NULL: to any */
    uint64_t place_len; /* of places that its reply grants: not lost if the call is given up */
    uint32_t ahead;     /* how many of them were wished for ahead of need; 0 when that is answered */
};

enum yk_queue {
    YK_Q_RESERVE,
    YK_Q_COMMIT,
    YK_Q_PUT, /* payload through the socket */
    YK_Q_GET,
    YK_Q_RAISE, /* a get whose block is to come up to DRAM first; one a frame, so that each is answered
                   when it is there */
    YK_Q_EXISTS,
    YK_Q_STAT,
    YK_Q_ASK, /* operations on lists and patterns: one a frame, and as many frames as its keys need */
    YK_Q_CHANGE,
    YK_Q_ABORT, /* a place goes back to the node; no operation */
    YK_QUEUES
};

enum yk_rec_state {
    YK_REC_FREE,
    YK_REC_BLOCKED,
    YK_REC_RUNNABLE,
    YK_REC_QUEUED,
    YK_REC_SENT,
    YK_REC_MOVING
};

/* Operations that one yk_run waits for. On its stack. */
struct yk_batch {
    struct yk_link recs;     /* by owner_link */
    struct yk_link runnable; /* by link */
    struct yk_link moves;    /* of the transfer engine, oldest first */
    struct yk_waiter *waiter;
    uint32_t left;
    uint32_t moving;   /* records in moves */
    uint32_t good;     /* ended with status 0 */
    int own_deadlines; /* some end before the batch does */
};

struct yk_rec {
    struct yk_link link;       /* a queue, a request, a runnable list, or the free list */
    struct yk_link owner_link; /* batch->recs or client->async_recs */
    struct yk_link key_link;   /* client->keys[], in order of submission */
    yk_op *op;                 /* NULL: orphan or give-back */
    struct yk_batch *batch;    /* NULL: yk_poll's */
    struct yk_map *map;        /* that rsv is in; entered for writing. NULL: it is written by the engine */
    struct yk_rsv rsv;
    struct yk_move *move; /* MOVING */
    yk_xfer_guard guard;  /* of what the engine is to read or to write, */
    uint64_t place;       /* where in its segment, */
    uint64_t moving;      /* and how many bytes */
    uint32_t pieces;      /* of the caller's memory */
    uint32_t conn;        /* number of the connection that granted a place for the engine, or found a block */
    uint64_t deadline_ns;
    uint64_t hash;  /* of the key, for the order */
    uint64_t epoch; /* the handle's when the operation began (R9) */
    uint64_t len,
        sum;      /* put: payload; get: bytes wanted, checksum by the node; list: end of the keys */
    uint64_t at;  /* get: bytes received; list: keys that were answered */
    uint64_t gen; /* get: generation of the first piece */
    struct iovec copy; /* get for a reference: the buffer allocated here */
    uint32_t asked;    /* list: keys in the frame that is under way */
    uint8_t state;     /* enum yk_rec_state */
    uint8_t queue;     /* enum yk_queue */
    uint8_t tries;
    uint8_t raises;     /* get: how often its block was asked up from a tier below */
    uint8_t io;         /* the caller's memory is in use without the lock */
    uint8_t check;      /* get: payload is here, compare checksums */
    uint8_t whole;      /* get of a range: that of the whole block, by its length */
    uint8_t fix;        /* put of a block that was there: FIX_* to bring up to date */
    uint8_t in_place;   /* has rsv */
    uint8_t load;       /* RUNNABLE: to be moved by the engine, in place of being run */
    uint8_t written;    /* put: the engine was let at its place; RUNNABLE: it has written it */
    uint8_t through;    /* the engine could not: all through the socket from here on */
    uint8_t maybe_made; /* its commit was sent: rsv may be a block's by now */
    uint8_t borrowed;   /* rsv is the caller's reservation: never given back here */
    uint8_t tried;      /* yk_op_try said YK_PENDING a moment ago */
    uint8_t end_due;    /* to be ended when io is over */
    int32_t end_status; /* with this */
};

enum { YK_FIX_EXPIRE = 1, YK_FIX_PIN = 2 };

/* A block that comes up may go down again before it is got. After so many times the node serves it. */
#define YK_RAISES_MAX 3u

/* A frame that was sent and not answered. */
struct yk_req {
    struct yk_link recs;  /* of one kind, in the order of the frame */
    struct yk_call *call; /* NULL: given up, or records */
    struct yk_req *next;  /* free list */
    uint64_t id;          /* 0 = free */
    uint64_t ahead_len;   /* reserve, commit: places asked for ahead of need */
    uint32_t ahead;
    uint32_t items; /* expected in the reply */
    uint8_t op;
    uint8_t patient; /* reserve: the node was allowed to wait */
};

/* Walks a scatter list. */
struct yk_cursor {
    const struct iovec *iov;
    int count;
    size_t at; /* in iov[0] */
};

struct yk_tx {
    unsigned char *buf;
    size_t at, len;
    struct yk_rec *rec; /* whose payload follows the bytes in buf */
    struct yk_cursor payload;
    uint64_t payload_left;
    int busy; /* a thread is sending */
};

struct yk_rx {
    unsigned char *buf;
    size_t at, len, cap;
    struct yk_rec *rec; /* whose payload is being received; NULL: it is dropped */
    struct yk_cursor payload;
    uint64_t payload_left;
    int busy;            /* a thread is receiving */
    int kickable;        /* it is in yk_poll and looks at event_fd, too */
    struct yk_spin spin; /* the thread's that is receiving */
};

enum yk_conn_state { YK_CONN_DOWN, YK_CONN_UP, YK_CONN_DEAD };

struct yk_client {
    /* Immutable after yk_open. */
    char name_space[YK_NAMESPACE_MAX + 1];
    uint32_t flags;
    uint32_t timeout_ms;
    uint32_t inflight_max;
    uint32_t forks; /* value of the process's fork count at open */
    void *node;     /* of an embedded node */

    /* Any thread, atomic. */
    struct yk_map *map;      /* entered with yk_map_enter*; NULL: not mapped */
    struct yk_map *retired; /* (under lock, but for who connects) maps of before, or of other nodes */
    uint64_t epoch;          /* of the weights; follows yk_ns_raise_epoch */
    uint64_t max_block_bytes;
    uint64_t own[YK_COUNTERS]; /* counters of handles and times without a map */
    uint64_t conflicts, puts, put_bytes;
    uint64_t raised, raised_bytes; /* hits that came up from a tier below for it */

    pthread_mutex_t lock;
    struct yk_link sleepers;
    enum yk_conn_state state;
    int dead_status; /* DEAD: why */
    int fd;
    uint32_t conn_number; /* counts connections: whoever slept compares it */
    int connecting;       /* a thread is connecting */
    struct yk_route route; /* that thread's, or under the lock while it is connected */
    struct yk_addr addr;   /* likewise: of the node it is connected to, or tries */
    uint64_t up_ns;        /* since when it is */
    uint64_t retry_at_ns;
    uint64_t heard;    /* highest generation of a place that arrived in this segment */
    uint64_t raise_to; /* atomic: epoch that yk_ns_raise_epoch is asking for, or 0 */
    struct yk_welcome welcome;
    struct yk_tx tx;
    struct yk_rx rx;

    struct yk_req *reqs, *req_free; /* a table; used from its front on, then again */
    uint32_t req_count, req_top;
    uint32_t gets_sent; /* GET requests under way: payload goes to its place directly */
    uint64_t next_id;
    struct yk_link calls;
    struct yk_link queue[YK_QUEUES];
    struct yk_rec *recs; /* as reqs: what was never used is never touched */
    struct yk_link recs_free;
    uint32_t rec_top, recs_left;
    struct yk_link keys[YK_KEY_BUCKETS];
    struct yk_link async_recs, async_runnable;
    yk_op *ended_first, *ended_last; /* linked through priv[1] */
    uint32_t inflight;               /* submitted and not polled */
    struct yk_hold hold;
    struct yk_far far;
    int want_drain;
    int announces;      /* atomic: matches do not, as the caller does */
    int wants_requests; /* atomic: the node, as of its welcome */
    uint64_t round_trips, reconnects;

    int epoll_fd, event_fd, timer_fd; /* -1 before yk_fd */
    int event_set, epoll_out;
    uint64_t timer_at_ns;
};

/* ---- infos that the caller has room for ------------------------------------------------------------- */

/* An array of the caller's, whose yk_block_info may be shorter or longer than here. */
struct yk_infos {
    void *to; /* NULL: there is none */
    size_t size;
};

#define YK_INFO_SIZE_MAX 4096u /* bytes that a caller may say, as of options: more is a field that meant something else */

static inline void yk_info_put(struct yk_infos infos, size_t i, const yk_block_info *info) {
    yk_sized_copy((char *)infos.to + i * infos.size, infos.size, info, sizeof(*info));
}

/* Of a STAT. */
static inline size_t yk_op_info_size(const yk_op *op) {
    return op->arg > 0 ? (size_t)op->arg : YK_BLOCK_INFO_FIRST;
}

/* Of a MATCH (ask.c). */
struct yk_infos yk_ask_infos(const yk_key_list *list);

/* ---- client.c ------------------------------------------------------------------------------------- */

extern uint32_t yk_fork_count;

/* 0, or -YK_EINVAL / -YK_EFORK with a text: every call begins with it. */
int yk_client_enter(const yk_client *c);
/* 0 or -YK_EKEY with a text. */
int yk_client_check_key(yk_key key);
/* now + timeout_ms, 0 = the handle's. */
uint64_t yk_client_deadline(const yk_client *c, uint32_t timeout_ms);
/* Of a removal: behind this time of CLOCK_BOOTTIME it is not begun any more; 0: at any time. */
uint64_t yk_tx_until_ms(uint64_t deadline_ns);
static inline uint64_t yk_client_epoch(const yk_client *c) {
    return __atomic_load_n(&c->epoch, __ATOMIC_ACQUIRE);
}
/* Counts into the page of map, or into the handle's own counters when map is NULL. */
void yk_client_count(yk_client *c, struct yk_map *map, enum yk_client_counter what, uint64_t n);

/* Counts a hit, counted as such elsewhere, whose block was raised for it. */
void yk_client_count_raised(yk_client *c, uint64_t bytes);

/* ---- conn.c: roles, reconnect --------------------------------------------------------------------- */

void yk_waiter_init(struct yk_waiter *w);
void yk_waiter_fini(struct yk_waiter *w);
void yk_waiter_wake(struct yk_waiter *w);

/* Lock held. One turn of work on the connection, or sleep until there may be some. 0, or
 * -YK_ETIMEDOUT at the deadline, -YK_EGONE at the deadline while the node is away, or why the
 * connection is dead. */
int yk_conn_step(yk_client *c, struct yk_waiter *w, uint64_t deadline_ns);

/* Lock held. Sleeps until it is woken, or the time has come. */
void yk_conn_sleep(yk_client *c, struct yk_waiter *w, uint64_t until_ns);

/* Lock held. Sends what is queued, without waiting. */
void yk_conn_flush(yk_client *c);
/* Lock held. The same, and takes in what has arrived. */
void yk_conn_look(yk_client *c);

/* Lock held. Wakes one sleeper (roles are free), or one in yk_poll. */
void yk_conn_wake(yk_client *c);
void yk_conn_wake_poller(yk_client *c);

/* Lock held; leaves it for good. Passes on roles and sets yk_fd's readiness. */
void yk_conn_unlock(yk_client *c);

/* Takes the lock. Is the connection lost, and to come back? */
int yk_conn_is_down(yk_client *c);

/* Lock held. Ends everything with status, for ever. */
void yk_conn_dead(yk_client *c, int status);

/* Lock held. The connection broke: everything unanswered is queued again. */
void yk_conn_lost(yk_client *c);

/* First connection, by yk_open. Takes the lock. */
int yk_conn_open(yk_client *c, int embedded_fd, uint64_t deadline_ns, struct yk_err *err);

/* Takes the lock. Sends one call and waits for its reply: 0, or failure of the transport. Statuses
 * inside the reply are the reply function's. */
int yk_conn_call(yk_client *c, struct yk_call *call, uint64_t deadline_ns);

/* ---- tx.c, rx.c ------------------------------------------------------------------------------------- */

/* Lock held, tx.busy 0. Sends until nothing is left, or the socket is full at the deadline. Receives
 * meanwhile if nobody does. */
void yk_tx_pump(yk_client *c, uint64_t deadline_ns);
int yk_tx_pending(const yk_client *c);
/* Body of a RAISE of one key, for who waits until the deadline. */
void yk_tx_raise(struct yk_wr *w, yk_key key, uint64_t epoch, uint64_t deadline_ns);

/* Lock held, rx.busy 0. Receives once and handles it; waits for input up to the deadline (0: does
 * not wait) or for about a tenth of a second. kickable: ends early when event_fd is set. */
void yk_rx_pump(yk_client *c, uint64_t deadline_ns, int kickable);
/* Lock held. Forgets what was received and sent in part. */
void yk_rx_reset(yk_client *c);
void yk_tx_reset(yk_client *c);

/* Lock held. Keeps the places that a reply grants: a count (at most `most`), and they. */
int yk_reply_places(yk_client *c, struct yk_rd *r, uint64_t len, uint32_t most);

/* Lock held. Handles the reply of one frame whose body is complete. 0 or -YK_EPROTO. */
int yk_reply(yk_client *c, const struct yk_frame *f, const void *body);
/* Lock held. A GET reply begins: returns the request's record to receive into (NULL: drop). */
int yk_reply_get_begin(yk_client *c, const struct yk_frame *f, const unsigned char *head,
                       struct yk_rec **ret_rec);
/* Lock held. All payload bytes of the reply are there. */
void yk_reply_get_end(yk_client *c, struct yk_rec *rec);

struct yk_req *yk_req_new(yk_client *c, unsigned op);
struct yk_req *yk_req_find(yk_client *c, uint64_t id);
void yk_req_free(yk_client *c, struct yk_req *req);

void yk_cursor_init(struct yk_cursor *cur, const struct iovec *iov, int count, uint64_t skip);
/* Fills up to max entries with what comes next, up to `bytes`. Returns how many. */
int yk_cursor_peek(const struct yk_cursor *cur, uint64_t bytes, struct iovec *ret_iov, int max);
void yk_cursor_advance(struct yk_cursor *cur, uint64_t bytes);

/* ---- ops.c: records ---------------------------------------------------------------------------------- */

/* Lock held. NULL: none is free. */
struct yk_rec *yk_rec_new(yk_client *c, yk_op *op, struct yk_batch *batch, uint64_t hash,
                          uint64_t epoch, uint64_t deadline_ns);
void yk_rec_free(yk_client *c, struct yk_rec *rec);
/* Lock held. A get, from its beginning: the block may be another one by now, and longer. */
void yk_rec_get_again(yk_client *c, struct yk_rec *rec);
void yk_rec_enqueue(yk_client *c, struct yk_rec *rec, enum yk_queue queue);
void yk_rec_runnable(yk_client *c, struct yk_rec *rec);
/* Ends the operation with a status; the record becomes an orphan if its frame is under way. */
void yk_rec_end(yk_client *c, struct yk_rec *rec, int status);
/* After a system call on its memory: ends it if that was asked for meanwhile. */
void yk_rec_io_done(yk_client *c, struct yk_rec *rec);
/* Gives a place back to the node with the next frame; dropped if no record is free. */
void yk_rec_give_back(yk_client *c, const struct yk_rsv *rsv);
/* Leaves the mapping of a place that is used up or lost. */
void yk_rec_drop_place(struct yk_rec *rec);
/* Can the place of a record still be committed: is its segment, or its connection, the handle's? */
int yk_place_is_valid(const yk_client *c, const struct yk_rec *rec);
/* To the node, if it is still there; the record has none any more. */
void yk_place_give_back(yk_client *c, struct yk_rec *rec);
/* Ends all of a list whose deadline has passed; returns the earliest that is left, or UINT64_MAX. */
uint64_t yk_recs_expire(yk_client *c, struct yk_link *recs, uint64_t now_ns);
/* What an operation is told when its deadline passes now. */
int yk_rec_late_status(const yk_client *c, const struct yk_rec *rec);

/* Lock held; left meanwhile. Runs what is runnable, in order, and begins the moves of what is to be
 * moved. owner: whose list it is; NULL: that of yk_poll. */
void yk_recs_ready(yk_client *c, struct yk_link *runnable, struct yk_batch *owner);

/* Lock held. Takes the first runnable record for yk_rec_run (its io is set), or NULL. */
struct yk_rec *yk_rec_next(struct yk_link *runnable);
/* Takes the lock again in the middle of running a record: 1; or 0, without the lock: the record was
 * to end meanwhile, and has. */
int yk_rec_lock(yk_client *c, struct yk_rec *rec);

/* Lock not held. Does the part of a runnable record that moves payload, then queues or ends it. */
void yk_rec_run(yk_client *c, struct yk_rec *rec);

/* Tries an operation without the node. A final status, or YK_PENDING: it needs a record. priv[2] of
 * the operation then says to the record what it is for: of a put, what must be brought up to date; of
 * a get, 1 = its block is to be raised. */
int yk_op_try(yk_client *c, yk_op *op);
/* 0, or why the operation is not valid (with a text). */
int yk_op_check(const yk_client *c, const yk_op *op);
uint64_t yk_op_hash(const yk_op *op);
/* Counts an ended put. */
void yk_op_count_put(yk_client *c, const yk_op *op, int status);

/* Runs operations to their end. Returns how many ended with 0. */
int yk_ops_run(yk_client *c, yk_op *ops, size_t count, uint64_t deadline_ns);
/* Where the payload of a record comes from or goes to. */
static inline const struct iovec *yk_rec_iov(const struct yk_rec *rec, int *ret_count) {
    int ref = rec->op->opcode == YK_OP_REF;
    *ret_count = ref ? 1 : rec->op->iov_count;
    return ref ? &rec->copy : rec->op->iov;
}
static inline int yk_op_is_get(const yk_op *op) {
    return op->opcode == YK_OP_GET || op->opcode == YK_OP_GET_RANGE || op->opcode == YK_OP_REF;
}

/* ---- ask.c: operations on lists and patterns, through the socket --------------------------------------- */

/* Lock held. Encodes the next frame of a record in YK_Q_ASK; returns its op. */
unsigned yk_ask_fill(yk_client *c, struct yk_wr *w, struct yk_rec *rec);
/* Lock held. Takes its answer: 0 and failures of the operation; YK_MISS; YK_PENDING: the next frame is
 * to be sent. *ret_bad: the reply is malformed. */
int yk_ask_reply(yk_client *c, struct yk_rec *rec, struct yk_rd *r, int *ret_bad);
/* 0, or why the list is not valid (with a text). */
int yk_ask_check_list(const yk_key_list *list, int tier_too);

/* ---- lookup.c ------------------------------------------------------------------------------------------ */

/* Asks the node to look at the map's ring, as soon as nobody has to wait for that. */
void yk_local_drain(yk_client *c, struct yk_map *map);
/* The leading run of keys as far as the mapping shows it. *ret_ask: how many of the keys behind it the
 * node must be asked for. Announces the chain. */
size_t yk_local_match(yk_client *c, const yk_key *keys, size_t count, struct yk_infos infos,
                      size_t *ret_ask);

/* ---- get.c ------------------------------------------------------------------------------------------- */

struct yk_pin {
    struct yk_map *map;
    uint32_t slot;
    uint64_t gate; /* as it was entered */
    struct yk_found found;
};

/* Finds without pinning, in all tiers: 0, YK_MISS, or -YK_EAGAIN: ask the node (there is no map; the
 * index cannot be read; it may be in a tier below). */
int yk_local_find(yk_client *c, yk_key key, struct yk_found *ret_found);
/* In DRAM alone, in a map that the caller has entered. */
int yk_local_find_in(yk_client *c, struct yk_map *m, yk_key key, struct yk_found *ret_found);
/* Pins, and verifies where that is due (in_place: the payload as it stands, before it is handed
 * out). 0, YK_MISS, -YK_EAGAIN, -YK_ELIMIT, or YK_PENDING: it may be in a tier below; raise it. */
int yk_local_pin(yk_client *c, yk_key key, int in_place, struct yk_pin *ret_pin);
/* The payload that was copied out of a pin has this hash: 0, or YK_MISS (reported as corrupt). */
int yk_local_verify(yk_client *c, const struct yk_pin *pin, uint64_t hash);
int yk_local_must_verify(const yk_client *c, const struct yk_pin *pin);
void yk_local_unpin(struct yk_pin *pin);
void yk_local_access(yk_client *c, struct yk_map *map, const struct yk_found *found);
uint64_t yk_local_now_ms(const struct yk_map *m);
/* Answers existence checks at the head of a batch; returns how many (0: not mapped, or not such). */
size_t yk_local_exists_many(yk_client *c, yk_op *ops, size_t count);
/* 0 and failures of the operation; YK_MISS; -YK_EAGAIN: ask the node; YK_PENDING: raise it. */
int yk_local_get(yk_client *c, yk_op *op);
int yk_local_ref(yk_client *c, yk_op *op);
/* Of a REF that ended: hands out the copy, or lets go of what there is. */
void yk_ref_end(struct yk_rec *rec, int status);
int yk_local_look(yk_client *c, yk_op *op);
/* yk_hash64 of the first len bytes of a scatter list. 0 or -YK_ENOMEM. */
int yk_iov_hash(const struct iovec *iov, int count, uint64_t len, uint64_t *ret_hash);
void yk_found_info(const struct yk_found *found, yk_block_info *ret_info);

/* ---- put.c ------------------------------------------------------------------------------------------- */

/* Reads the caller's option struct of `size` bytes into *ret of `known`, which holds the defaults.
 * -YK_EINVAL, -YK_ENOTSUP, with a text that names it. */
int yk_opts_read(const void *opts, uint32_t size, void *ret, size_t known, const char *what);
int yk_put_opts_read(const yk_put_opts *opts, yk_put_opts *ret);
int yk_put_check_len(const yk_client *c, uint64_t len);
int yk_put_check_opts(const yk_put_opts *opts);
int yk_put_check(const yk_client *c, const yk_op *op);
/* What follows a place in a COMMIT, and the numbers in a PUT: attributes, key, parent, the preferred node. */
void yk_put_tail(struct yk_wr *w, const yk_put_opts *opts, yk_key key);
/* Without a lock: is the block there already? 0 the same bytes, -YK_ECONFLICT, or YK_PENDING.
 * *ret_fix: what must be brought up to date. */
int yk_put_try(yk_client *c, const yk_op *op, uint8_t *ret_fix);
/* Lock not held. Copies a put's payload into its place (taking one that is held), queues it. */
void yk_put_run(yk_client *c, struct yk_rec *rec);
/* Lock not held. The engine has written its payload: queues its commit. */
void yk_put_written(yk_client *c, struct yk_rec *rec);
/* Lock not held. Finds a record a place among those held, or queues it for one. 1: it has one. */
int yk_place_take(yk_client *c, struct yk_rec *rec);

/* ---- inplace.c --------------------------------------------------------------------------------------- */

/* 0, or why a reservation cannot be used (with a text). */
int yk_rsv_check(const yk_reservation *r, const char *what);
/* Lock not held. The parts of RESERVE and COMMIT that touch payload or hand it out. */
void yk_reserve_run(yk_client *c, struct yk_rec *rec);
void yk_commit_run(yk_client *c, struct yk_rec *rec);
/* Lock held. The caller's reservation is used up, or lost. */
void yk_rsv_over(yk_reservation *r);

/* ---- poll.c -------------------------------------------------------------------------------------------- */

/* Lock held. Makes yk_fd's descriptors say what yk_poll has to do. */
void yk_poll_sync(yk_client *c);
/* Lock held. Adds an ended operation for yk_poll. */
void yk_poll_ended(yk_client *c, yk_op *op);
/* Adds the connection's socket to yk_fd's set, if there is one. */
void yk_poll_watch(yk_client *c);

/* ---- embedded.c ---------------------------------------------------------------------------------------- */

int yk_embedded_start(const char *options, int *ret_fd, void **ret_node, struct yk_err *err);
void yk_embedded_stop(void *node);

#endif
