/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the server: server.c (life, thread, forget), server_listen.c, server_lane.c (a lane's life),
 * server_req.c (what each request does), server_note.c, server_one.c (payload that devices move), server_rx.c,
 * server_tx.c.
 *
 * A lane's requests stand in a ring:
 *
 *   head <= recv <= tail    [head, recv) can be answered, as far as none is `pending`; [recv, tail) headers
 *                           are here, payload is not
 *
 * Ring and buffer are only there while a lane has something to do; the server keeps some to lend.
 *
 * Thread: the server's, but for what `lock` guards.
 */
#ifndef YK_XFER_SERVER_PRIV_H
#define YK_XFER_SERVER_PRIV_H

#include "xfer/proto.h"
#include "xfer/server.h"
#include "xfer/sock.h"

#include <pthread.h>

#define YK_IN_BUF        (8u << 10)   /* headers, and what was received behind them */
#define YK_IN_TURN       (512u << 10) /* bytes a bulk lane moves each way before others are looked at */
#define YK_IN_TURN_SHORT (128u << 10) /* while urgent lanes are in use: shorter ones cost throughput */
#define YK_IN_URGENT_NS  5000000u     /* since the last urgent request */
#define YK_IN_SINK       (64u << 10)
#define YK_IN_SPARE      16u          /* works that are kept to lend */
#define YK_IN_LISTENERS  8u
#define YK_IN_REVOKED    1024u        /* engines that are shut out */
#define YK_IN_STUCK_MS   30000u       /* a half message, or answers that nobody takes, for so long */
#define YK_IN_PIN_MS     3000u        /* the same while a guard holds something for it */
#define YK_IN_PAUSE_MS   100u         /* no descriptor to accept with */

struct yk_in_req {
    uint8_t op;
    uint8_t pinned;
    uint8_t pending;          /* a PULL that is under way */
    int32_t status;
    uint32_t seq;
    uint32_t blob_len;
    uint64_t len;             /* of payload, in or out */
    struct yk_region *region; /* referenced, or NULL: into the sink, zeros out */
    char *mem;                /* in it */
    char *blob;               /* a whole answer of another form, or NULL */
    uint64_t number;          /* of a NOTE; FENCE: the lane's id; LEND, GIVEBACK, PULL: remote */
    uint64_t offset;          /* into region: LEND, PULL */
    uint32_t rkey;            /* PULL */
    uint8_t guarded;          /* LEND */
    uint64_t pin;
    void *pin_user;
    void (*unpin)(void *user, uint64_t pin);
};

struct yk_in_work {
    struct yk_in_work *next; /* spare ones */
    uint32_t head, recv, tail;
    uint32_t run;            /* headers of a run that has not ended; their payload is behind it */
    uint64_t got;            /* bytes of the payload of `recv` that are here */
    uint64_t sent;           /* bytes of the answer of `head` that are sent */
    uint32_t at, end;        /* of buf, not looked at */
    struct yk_in_req ring[YK_SERVER_REQUESTS];
    unsigned char buf[YK_IN_BUF];
    char small[YK_XFER_NOTIFY_MAX]; /* payload that is no region's */
};

struct yk_in_lane {
    struct yk_server *server;
    struct yk_in_lane *prev, *next;
    struct yk_in_lane *ready_next; /* bulk lanes that wait for their turn */
    struct yk_watch watch;
    struct yk_in_work *work;       /* NULL: idle */
    uint64_t id, incarnation;      /* the initiator's */
    uint32_t seq;                  /* of the next request */
    uint8_t urgent, greeted, is_ready;
    uint8_t closing;               /* when all is sent */
    uint8_t full;                  /* the socket takes no more now */
    uint8_t dead;                  /* closed; freed when nobody looks at it */
    struct yk_in_one *one;         /* its queue pair and what was lent over it; NULL: none */
    uint64_t moved, moved_seen;    /* bytes, for the sweep */
    uint64_t still_ns;             /* since when they are the same */
    char peer[YK_PEER_HOST];
};

struct yk_in_post { /* from another thread: end all uses of region, or (NULL) shut that engine out */
    struct yk_in_post *next;
    const struct yk_region *region;
    uint64_t incarnation;
    int rc;
    int done; /* under lock */
};

struct yk_server {
    struct yk_server_env env;
    struct yk_loop *loop;
    pthread_t thread;
    uint8_t started, polls;
    uint64_t urgent_ns;            /* when an urgent lane was served last */
    uint64_t turn_bytes;           /* of the turn of a bulk lane that is served */
    uint32_t listener_count;
    struct yk_watch listeners[YK_IN_LISTENERS];
    struct yk_timer pause, sweep;
    char unix_path[108];

    struct yk_in_lane *lanes;
    struct yk_in_lane *ready_first, **ready_last;
    struct yk_in_lane *serving; /* not freed meanwhile */
    struct yk_in_work *spare;
    uint32_t spare_count;
    char *sink;
    uint64_t *revoked;  /* YK_IN_REVOKED engines, of which no lane is taken; NULL: there are none */
    uint32_t revoked_count;
    int mem; /* /proc/self/mem + 1; 0: not opened, or it could not be */
    struct yk_in_notes *notes; /* NULL: none came yet */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t posted;
    int stop;
    struct yk_in_post *posts;
    struct yk_server_counts counts;
};

#define YK_IN_COUNT(s, what, n) \
    __atomic_fetch_add(&(s)->counts.what, (uint64_t)(n), __ATOMIC_RELAXED) /* read by stat */

static inline struct yk_in_req *yk_in_at(struct yk_in_work *w, uint32_t i) {
    return &w->ring[i % YK_SERVER_REQUESTS];
}

int yk_server_listen(struct yk_server *s, const struct yk_xfer_opts *opts, struct yk_peer_info *self,
                     struct yk_err *err);
void yk_server_on_accept(struct yk_watch *w, uint32_t events);
void yk_server_on_pause(struct yk_timer *t);

void yk_in_open(struct yk_server *s, int fd, const struct yk_sockaddr *peer);
/* Serves it once; 1: there is more to do at once. */
int yk_in_serve(struct yk_in_lane *l);
void yk_in_ready(struct yk_in_lane *l);
/* Closes it because of what it did (text) or (NULL) because it ended. */
void yk_in_close(struct yk_in_lane *l, const char *text);
void yk_in_forget(struct yk_in_lane *l, const struct yk_region *region);
int yk_in_is_revoked(const struct yk_server *s, uint64_t incarnation);
void yk_in_sweep(struct yk_timer *t);

/* A header is here: what it asks for, checked. */
int yk_in_begin(struct yk_in_lane *l, const struct yk_xreq *req);
/* Requests whose payload is here take effect; 0 as far as they go, or it closed the lane. */
int yk_in_advance(struct yk_in_lane *l);
void yk_in_release(struct yk_in_lane *l, struct yk_in_req *q);
/* The memory of a READ or WRITE turned out not to be accessible: it is not touched any more (zeros out, into
 * the sink), and the request is answered by -YK_EFAULT. */
void yk_in_fault(struct yk_in_lane *l, struct yk_in_req *q);

/* ---- payload that devices move (server_one.c) ---- */

/* OFFER, TAKE, LEND, GIVEBACK, PULL: 0, or -YK_ENOMEM, and the lane is to be closed. */
int yk_in_one(struct yk_in_lane *l, struct yk_in_req *q);
/* Before the lane's requests are released: the queue pair is destroyed, then all pins are given back. */
void yk_in_one_free(struct yk_in_lane *l);
/* Why it is to be closed, or NULL. */
const char *yk_in_one_failed(const struct yk_in_lane *l);
/* Whether a device may touch the region over this lane. */
int yk_in_one_uses(const struct yk_in_lane *l, const struct yk_region *region);
/* Whether pins are lent. */
int yk_in_one_lends(const struct yk_in_lane *l);
/* Behind the requests that came together: what is to be read for them is posted as one list. */
void yk_in_one_flush(struct yk_in_lane *l);

/* A notification, unless it came before. 0 or its status; -YK_EAGAIN: the queue is full, it shall be
 * sent again. */
int yk_in_note(struct yk_in_lane *l, uint64_t number, const void *data, uint32_t len);

/* 1: the bound was reached, there may be more; 0: there is no more; < 0: closed. */
int yk_in_rx(struct yk_in_lane *l);
int yk_in_tx(struct yk_in_lane *l);

#endif
