/* SPDX-License-Identifier: Apache-2.0
 *
 * The messenger from inside (peer.h):
 *
 *   peer.c         what others call; the turn of the loop: dials, sends, calls back
 *   peer_ask.c     requests under way: ids, deadlines
 *   peer_conn.c    a connection: bytes in, frames out, hello
 *   peer_dial.c    peers: dial, back-off, suspicion, pings
 *   peer_listen.c  the listening socket, accepted connections
 *
 * Nobody is called back from inside a call, and nothing is freed in the middle of a turn: a request that
 * ends without a reply goes to `ended`, a peer that is forgotten to `graves`, a connection is freed by
 * libuv; on_turn (a prepare handle, before the loop sleeps) does what was put off. So a callback may do
 * whatever it likes, forget the peer that it was called for, or close everything.
 *
 * Threads: the loop's.
 */
#ifndef YK_DIR_PEER_PRIV_H
#define YK_DIR_PEER_PRIV_H

#include "base/parse.h"
#include "dir/peer.h"
#include "dir/peer_wire.h"

#include <netinet/in.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEER_TICK_MS     10u   /* while anything waits; nothing runs while nothing does */
#define PEER_BACKOFF_MIN 10u   /* ms */
#define PEER_BACKOFF_MAX 1000u
#define PEER_STALL_MS    5000u /* a frame half sent or half received, without a byte more */
#define PEER_LINGER_MS   500u  /* for a refusal to be read before the connection is closed */
#define PEER_PAUSE_MS    500u  /* out of descriptors: until accepting is tried again */
#define PEER_SCRATCH     (64u << 10)
#define PEER_BUCKETS     256u
#define PEER_WHEEL       512u  /* ticks */
#define PEER_ASK_CHUNK   256u
#define PEER_ASK_CHUNKS  1024u /* of requests under way to all peers together */
#define PEER_ADDR_TEXT   (YK_ADDR_HOST_MAX + 9u)

struct link {
    struct link *prev, *next;
};

#define LINK_ITEM(l, type, field) ((type *)(void *)((char *)(l)-offsetof(type, field)))

static inline void link_init(struct link *l) {
    l->prev = l->next = l;
}
static inline int link_empty(const struct link *head) {
    return head->next == head;
}
static inline void link_add(struct link *head, struct link *l) {
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}
static inline void link_del(struct link *l) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    link_init(l);
}

/* Bytes that wait to be sent: [off, len). */
struct obuf {
    unsigned char *data;
    size_t cap, off, len;
};

/*   accepted:  HELLO -> UP -> LINGER -> CLOSED
 *   dialled:   CONNECTING -> HELLO -> UP -> CLOSED           (to CLOSED from any)
 *
 *   CONNECTING  nothing was sent; a deadline (the peer's dial_until_ms)
 *   HELLO       accepted: theirs is waited for, dialled: the answer to ours; a deadline
 *   UP          frames; `who` and `version` are known
 *   LINGER      a refusal is in `out` or on its way; what comes in is thrown away; a deadline
 *   CLOSED      its descriptor is closed; in the list of all until libuv lets go of it at the end of the turn */
enum conn_state { CONN_CONNECTING = 1, CONN_HELLO, CONN_UP, CONN_LINGER, CONN_CLOSED };

struct peer;

struct conn {
    struct yk_peers *peers;
    struct peer *peer; /* dialled: to whom. Accepted: NULL */
    uv_poll_t poll;
    int fd, polled;    /* polled: events that are waited for */
    enum conn_state state;
    uint32_t version;  /* agreed */
    uint64_t key;      /* accepted: serial << 20 | place in the table */
    uint64_t since_ms; /* when it entered its state */
    uint64_t moved_ms; /* when a half sent or half received frame last moved */
    struct yk_peer_who who;
    struct obuf out;
    unsigned char *in; /* the frame whose end has not come; in_len bytes of it */
    size_t in_len, in_cap;
    struct link all, dirty; /* dirty: has something new to send */
};

struct resolve;

struct peer {
    struct link all, todo; /* todo: to be dialled in this turn */
    struct peer *next;     /* in its bucket */
    uint32_t member;
    int gone, suspect;
    int owing; /* a request ran out and nothing has come since */
    uint64_t incarnation;
    int clock_wanted;   /* until the next connection, or failure */
    int clocked;        /* behind_ms is of this incarnation's clock */
    uint64_t behind_ms; /* its boot clock is at most so far behind ours (modulo 2^64) */
    struct yk_addr addr;
    char address[PEER_ADDR_TEXT];
    struct conn *conn;       /* dialled; NULL: none */
    struct resolve *resolve; /* of its host's name, under way */
    uint32_t attempt;
    struct obuf queue; /* frames, until the connection is up */
    struct link asks;  /* requests under way */
    uint32_t ask_count, backoff_ms;
    int dialling;                  /* resolving, connecting or in hello, until */
    uint64_t dial_until_ms;
    uint64_t retry_ms, up_ms;      /* not dialled before; came up */
    uint64_t heard_ms, pinged_ms;  /* last byte, or when the first request began to wait; last ping */
    struct yk_err why;
};

struct ask {
    struct link peer_link, wheel_link; /* peer_link: of its peer, of `ended`, or of the free ones */
    struct peer *peer;                 /* NULL: none is under way */
    uint64_t id, due;                  /* due: tick */
    int status;                        /* in `ended` */
    yk_peer_reply_fn reply;
    void *user;
};

struct yk_peers {
    uv_loop_t *loop;
    struct yk_peers_opts opts;
    uint64_t cluster;
    char address[PEER_ADDR_TEXT];
    int listen_fd, paused; /* paused: out of descriptors, until */
    uint64_t paused_until_ms;
    uv_poll_t listener;
    uv_prepare_t turn;
    uv_timer_t timer;
    int turning, ticking;
    int watching; /* the next sweep has to look at connections */
    int handles;  /* that libuv has not let go of */
    int closing;
    void (*done)(void *user);
    void *done_user;
    uint64_t ticked_ms, swept_ms;
    struct link peers, graves, todo, conns, dirty, ended;
    struct peer *bucket[PEER_BUCKETS];
    struct conn **accepted; /* by place; max_conns of them are the most */
    uint32_t accepted_cap, accepted_count;
    uint64_t serial;
    /* requests */
    struct ask *chunk[PEER_ASK_CHUNKS];
    uint32_t chunks, asks_open;
    struct link asks_free, wheel[PEER_WHEEL];
    uint64_t wheel_tick;
    unsigned char *scratch; /* what a read brings, before it is known whose end has not come */
    struct yk_peers_counts n;
};

/* peer.c */
struct peer *peer_find(const struct yk_peers *ps, uint32_t member);
/* Has on_turn called before the loop sleeps; has ticks come until nothing waits any more. */
void peers_turn(struct yk_peers *ps);
void peers_tick(struct yk_peers *ps);
void peers_handle_closed(struct yk_peers *ps);

/* peer_ask.c */
void asks_init(struct yk_peers *ps);
void asks_fini(struct yk_peers *ps);
/* NULL: the limit, or no memory (*ret_status). Its deadline runs. */
struct ask *ask_new(struct yk_peers *ps, struct peer *p, uint32_t timeout_ms, int *ret_status);
struct ask *ask_of(const struct yk_peers *ps, uint64_t id);
/* It never was: nobody is called. */
void ask_drop(struct yk_peers *ps, struct ask *a);
void ask_end(struct yk_peers *ps, struct ask *a, int status);
void ask_end_all(struct yk_peers *ps, struct peer *p, int status);
/* With its reply, at once. */
void ask_reply(struct yk_peers *ps, struct ask *a, const void *body, uint32_t len);
void asks_tick(struct yk_peers *ps);
void asks_call_back(struct yk_peers *ps);

/* peer_conn.c */
/* -YK_EAGAIN: more than max would be queued. 0 = no limit. */
int obuf_frame(struct obuf *o, size_t max, const struct yk_frame *f, const void *body);
void obuf_free(struct obuf *o);
/* Takes fd (closed on failure). */
int conn_new(struct yk_peers *ps, int fd, enum conn_state state, struct peer *p, struct conn **ret_conn);
void conn_wrote(struct conn *c); /* something was put into out */
void peer_conn_flush(struct conn *c);
/* Ends it; nobody is blamed. */
void peer_conn_close(struct conn *c);
/* It ended without our wish, or cannot be used. */
void conn_broke(struct conn *c, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Accepted: tells why, then ends it. */
void conn_refuse(struct conn *c, const struct yk_err *err);
/* Looks at deadlines; whether there are any. */
int conn_sweep(struct conn *c, uint64_t now_ms);
struct yk_peer_hello peers_hello(const struct yk_peers *ps);
void sock_tune(int fd, const struct sockaddr *addr);

/* peer_dial.c */
/* Something is to be said to it, or to be heard of it. */
void peer_wanted(struct yk_peers *ps, struct peer *p);
void peer_dial(struct yk_peers *ps, struct peer *p);
void peer_connected(struct conn *c); /* its hello was answered, and fits */
/* Its dial or its connection failed. blame: it is suspect. */
void peer_failed(struct yk_peers *ps, struct peer *p, int status, const struct yk_err *why, int blame);
void peer_heard(struct yk_peers *ps, struct peer *p);
void peer_blame(struct yk_peers *ps, struct peer *p);
/* Of its own accord nobody would look for it before the back-off is over: it came to us. */
void peer_came(struct yk_peers *ps, struct peer *p);
/* Drops its connection, what waits ends with status. */
void peer_reset(struct yk_peers *ps, struct peer *p, int status);
int peer_tick(struct yk_peers *ps, struct peer *p, uint64_t now_ms);

/* peer_listen.c */
/* On failure it leaves nothing behind, in the loop neither. */
int peers_listen(struct yk_peers *ps, const char *where, struct yk_err *err);
void peers_listen_pause(struct yk_peers *ps, int pause);
/* Of its key; NULL: gone. */
struct conn *accepted_of(const struct yk_peers *ps, uint64_t key);
void accepted_forget(struct conn *c);
/* A hello came on c: checks who it is, ends what it replaces. */
int accepted_hello(struct conn *c, const struct yk_peer_hello *theirs, struct yk_err *err);
/* Ends accepted connections of a member from before an incarnation. */
void accepted_end_before(struct yk_peers *ps, uint32_t member, uint64_t incarnation);

#ifdef __cplusplus
}
#endif

#endif
