/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the directory (src/dir/dir.h): what dir.c, ask.c, pull.c, serve.c, space.c and cache.c share.
 *
 * Threads: the directory's loop, but for what is marked.
 */
#ifndef YK_DIR_DIR_PRIV_H
#define YK_DIR_DIR_PRIV_H

#include "base/buf.h"
#include "base/clock.h"
#include "dir/dir.h"
#include "dir/member.h"
#include "wire/dir.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <yolk/transfer.h>
#include <yolk/yolk.h>

#define DIR_RING_BYTES  (16u << 20) /* of changes that the loop has not taken: a hundred thousand */
#define DIR_WISHES_MAX  4096u       /* requests of clients under way: as many as the node parks */
#define DIR_PULLS_MAX   8192u       /* blocks that are wanted from elsewhere */
#define DIR_PULLS_BUSY  128u        /* of them at a time */
#define DIR_REMOVES_MAX 4096u
#define DIR_SERVING_MAX 8192u       /* questions of peers that wait for the node */
#define DIR_CACHE       16384u      /* locations; a power of two */
#define DIR_CACHE_MS    2000u
#define DIR_ASK_NODES   16u         /* R12: while a slot is not whole so many are asked */
#define DIR_ASK_MS      20u         /* and for so long */
#define DIR_REOPEN_NS   (100 * YK_NS_PER_MS) /* a segment that broke, or could not be opened, is left alone for so long */
#define DIR_OWNER_MS    300u        /* the owner of a slot may take so long; then nodes are asked */

/* ---- lists ------------------------------------------------------------------------------------------ */

struct dir_link {
    struct dir_link *prev, *next;
};

#define DIR_ITEM(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void dir_list_init(struct dir_link *l) {
    l->prev = l->next = l;
}
static inline int dir_list_empty(const struct dir_link *l) {
    return l->next == l;
}
static inline void dir_list_add(struct dir_link *head, struct dir_link *l) {
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}
static inline void dir_list_remove(struct dir_link *l) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    dir_list_init(l);
}

/* ---- turns.c: whose turn it is --------------------------------------------------------------------------- */

#define DIR_TURNS_KEPT 4u /* one in so many is kept for what somebody waits for */

struct dir_turn {
    struct dir_link at; /* in queued or busy */
    uint8_t later;      /* nobody waits for it */
    uint8_t begun;
};

struct dir_turns {
    struct dir_link queued[2], busy; /* the second: of what can wait */
    uint32_t max, busy_max, count, busy_count;
    uint32_t later_count, later_busy; /* of these, what can wait */
};

void dir_turns_init(struct dir_turns *turns, uint32_t max, uint32_t busy_max);
/* 0, or -YK_EAGAIN: there are too many. */
int dir_turns_add(struct dir_turns *turns, struct dir_turn *turn, int later);
/* Whose turn it is, busy from now on; NULL: nobody's. */
struct dir_turn *dir_turns_next(struct dir_turns *turns);
/* Somebody waits for it now. */
void dir_turns_hurry(struct dir_turns *turns, struct dir_turn *turn);
/* It is over, or was never begun. */
void dir_turns_end(struct dir_turns *turns, struct dir_turn *turn);

/* ---- between the threads ---------------------------------------------------------------------------- */

/* One piece of work that goes to the node's owner thread, to the loop, or to one after the other. */
struct dir_job {
    struct dir_job *next;
    struct yk_dir *dir;
    void (*there)(struct dir_job *job, struct yk_store *store); /* on the owner thread */
    void (*back)(struct dir_job *job);                         /* on the loop; frees the job, or keeps it */
    uint8_t closed; /* the node has stopped: `there` did not run */
    uint8_t out;    /* on its way to the owner thread and back */
};

/* `there`, then `back`, in the order of calls. `back` is never called before this returns. */
void dir_to_node(struct yk_dir *d, struct dir_job *job);
/* `back` alone. Any thread. */
void dir_to_loop(struct yk_dir *d, struct dir_job *job);

/* What counts once the store's ticket is durable (0: at once). */
struct dir_ticket {
    struct dir_job job; /* idle while it waits */
    struct dir_link all;
    uint64_t ticket;
    int status, result;
    void (*done)(struct dir_ticket *t); /* with status, as it was or -YK_E...; frees it */
};
void dir_ticket_wait(struct dir_ticket *t);
/* Looks again at those that wait. Returns how many there are. */
uint32_t dir_tickets_look(struct yk_dir *d);

/* What waits for room in the node's queue goes on; returns 1 if there is some left. */
uint32_t dir_outbox_look(struct yk_dir *d);
/* Takes what came to the loop. */
void dir_inbox_run(struct yk_dir *d);

/* Changes of blocks: one writer (put), one reader (take, took). NULL: no memory. Freed with free. */
struct dir_ring *dir_ring_new(void);
void dir_ring_put(struct dir_ring *ring, const struct yk_pool_block *block);
/* 1: *ret is the oldest, valid until took, which is given *ret_bytes. 0: empty. */
int dir_ring_take(struct dir_ring *ring, struct yk_pool_block *ret, uint32_t *ret_bytes);
void dir_ring_took(struct dir_ring *ring, uint32_t bytes);
/* 1: something found no room since the last call. */
int dir_ring_lost(struct dir_ring *ring);
int dir_ring_has_lost(const struct dir_ring *ring); /* the same, and the next call says so, too */
/* Bytes that were ever written; read. The loop's. */
uint64_t dir_ring_written(const struct dir_ring *ring);
uint64_t dir_ring_read(const struct dir_ring *ring);

/* ---- change.c: what this node has, to the core ------------------------------------------------------- */

/* Looks at all blocks of the node; then the core knows what there is. Called again when changes were lost. */
void dir_walk_start(struct yk_dir *d);
/* Takes what the ring has. */
void dir_changes_run(struct yk_dir *d);
/* All that the owner thread had told before this was called: before the core hears that it has done something. */
void dir_changes_until_now(struct yk_dir *d);

/* ---- locations -------------------------------------------------------------------------------------- */

/* Where copies of a key are, for some time; several keys share a place, and the last one has it. */
struct dir_cache {
    struct dir_cached *at[DIR_CACHE];
};
void dir_cache_put(struct yk_dir *d, const struct yk_dir_key *key, uint64_t epoch, uint64_t hash,
                   const struct yk_dir_found *found);
/* NULL: not known (any more). Valid until the next put or drop. */
const struct yk_dir_found *dir_cache_get(struct yk_dir *d, const struct yk_dir_key *key, uint64_t epoch,
                                         uint64_t hash);
void dir_cache_drop(struct yk_dir *d, const struct yk_dir_key *key);
void dir_cache_clear(struct yk_dir *d);

/* ---- ask.c ------------------------------------------------------------------------------------------ */

enum dir_ask_state { DIR_ASK_OPEN, DIR_ASK_OUT, DIR_ASK_NODES_OPEN, DIR_ASK_ENDED };

struct dir_ask_key {
    const void *key;
    uint32_t key_len;
    uint64_t hash;  /* its own */
    uint64_t group; /* in whose slot it is asked for */
    uint32_t owner; /* while OUT */
    uint32_t sent_on; /* to whom a newer map than this node's has the slot; YK_DIR_NOBODY: as this node's says */
    uint8_t state, hops;
    struct yk_dir_found found; /* status 0, YK_MISS or -YK_EAGAIN once it has ENDED */
};

/* Where are keys of one namespace? One question to each owner of a slot, at the same time. */
struct dir_ask {
    struct dir_link all;
    struct yk_dir *dir;
    void (*done)(struct dir_ask *ask); /* frees it by dir_ask_free */
    void *arg;
    uint64_t epoch, deadline_ns;
    uint32_t count, out, rounds;
    uint8_t chain, starting, nodes_asked;
    uint32_t ns_len;
    char ns[YK_DIR_NS_MAX + 1];
    struct dir_ask_key key[];
};

/* Room for count keys, which are borrowed until done: the caller fills in ns, epoch, deadline, and for each key,
 * len and group (0: not known). NULL: no memory. */
struct dir_ask *dir_ask_new(struct yk_dir *d, uint32_t count);
/* done is called once, perhaps before this returns. */
void dir_ask_start(struct dir_ask *ask);
void dir_ask_free(struct dir_ask *ask);

/* As a message has it, and back (FIND, TAKE). */
void dir_found_from_wire(const struct yk_dirw_found *from, struct yk_dir_found *ret);
void dir_found_to_wire(const struct yk_dir_found *from, struct yk_dirw_found *ret);

/* ---- wish.c: what clients of this node want ----------------------------------------------------------- */

struct dir_wish {
    struct dir_job job;
    struct dir_link all;
    struct dir_link waits;    /* for pulls */
    struct yk_pool_want want; /* its pointers lead into `bytes` */
    uint32_t asking;          /* questions that have not ended */
    uint8_t ended;
    struct yk_pool_found *found; /* FIND */
    unsigned char bytes[];
};

/* A copy of want, to be started on the loop. NULL: no memory. Any thread. */
struct dir_wish *dir_wish_new(struct yk_dir *d, const struct yk_pool_want *want);
/* Those whose time is over (UINT64_MAX: all) end; returns how many go on. */
uint32_t dir_wishes_expire(struct yk_dir *d, uint64_t now_ns);

/* ---- pull.c: blocks that come from elsewhere --------------------------------------------------------- */

/* A wish waits for a pull. */
struct dir_wait {
    struct dir_link by_wish, by_pull;
    struct dir_wish *wish;
    void (*pulled)(struct dir_wait *wait, int status); /* no wish: who waits; in no list any more. NULL: the wish */
};

/* As of a wish for one key. */
struct dir_pull_want {
    struct yk_dir_key key;
    uint64_t epoch, hash, deadline_ns;
    uint8_t xclass;                   /* enum yk_xfer_class */
    const struct yk_dir_found *found; /* copied */
    int cached;                       /* it may be old */
};

/* Joins the one that is under way for the key. 1: wait is in its list; 0: there is none. */
int dir_pull_join(struct yk_dir *d, const struct dir_pull_want *want, struct dir_wait *wait);
/* Begins one, which nobody asked for so far; wait NULL: nobody waits. 0, -YK_EAGAIN, -YK_ENOMEM. */
int dir_pull_start(struct yk_dir *d, const struct dir_pull_want *want, struct dir_wait *wait);
/* What a wish does when one that it waits for has ended; the wait is in no list any more. */
void dir_wish_pulled(struct dir_wait *wait);

/* The group that is known of a key that is being brought; 0: none. */
uint64_t dir_pull_group(const struct yk_dir *d, const struct yk_dir_key *key, uint64_t hash);
/* Those that wait for a time or a deadline go on; returns how many there are. */
uint32_t dir_pulls_look(struct yk_dir *d, uint64_t now_ns);
/* All are given up; each ends by itself. */
void dir_pulls_cancel(struct yk_dir *d);

struct dir_pull;
/* Its segment is open, or will not be. */
void dir_pull_reached(struct dir_link *waiting, int status);

/* ---- reach.c: other members, and the segments that their payload is in ------------------------------- */

enum dir_segment { DIR_SEG_CLOSED, DIR_SEG_OPENING, DIR_SEG_OPEN };

/* What is known of another member beside the map. */
struct dir_peer {
    struct yk_member_node say; /* its transfer: as yk_xfer_open takes it; "" = it has no engine */
    uint8_t gone;              /* its lease ended */
    uint8_t state;             /* enum dir_segment: it is opened when it is first wanted */
    yk_xfer_segment segment;
    uint8_t broke;             /* it was open, and broke: else it could not be opened */
    uint64_t retry_ns;         /* not before */
    struct dir_link waiting;   /* pulls */
};

/* NULL: not known. */
struct dir_peer *dir_peer_of(const struct yk_dir *d, uint32_t id);
/* This node itself is one of them. -YK_ENOMEM, -YK_ELIMIT. */
int dir_peer_set(struct yk_dir *d, const struct yk_member_node *node, int gone);
void dir_peer_forget(struct yk_dir *d, uint32_t id);
/* All; when no segment is being opened any more and the engine is idle. */
void dir_peers_free(struct yk_dir *d);
/* 0: *ret_segment is open; YK_PENDING: `wait` is in a list, and dir_pull_reached comes; -YK_EAGAIN: it broke less than
 * DIR_REOPEN_NS ago; -YK_EGONE: it could not be opened since then, or never can. */
int dir_peer_reach(struct yk_dir *d, struct dir_peer *p, yk_xfer_segment *ret_segment, struct dir_link *wait);
/* A request to this segment failed otherwise than by its guard: it is opened anew when it is wanted again. */
void dir_peer_broken(struct yk_dir *d, struct dir_peer *p, yk_xfer_segment segment);

/* ---- serve.c ---------------------------------------------------------------------------------------- */

int dir_serve_frame(void *user, const struct yk_peer_who *from, unsigned op, const void *body, uint32_t len,
                    const struct yk_peer_reply_to *reply_to, struct yk_err *err);
/* Looks again at what waits for a block to come up. Returns how many go on. */
uint32_t dir_serve_look(struct yk_dir *d, uint64_t now_ns);

/* ---- remove.c --------------------------------------------------------------------------------------- */

/* This node wants a key removed everywhere: a job for dir_to_loop. NULL: no memory. Any thread. */
struct dir_job *dir_remove_wish(struct yk_dir *d, const struct yk_dir_key *key, uint64_t deadline_ns,
                                uint64_t token);
/* A peer does, that takes this node for the owner of the key's slot. */
void dir_remove_serve(struct yk_dir *d, const struct yk_dir_key *key, uint64_t deadline_ns,
                      const struct yk_peer_who *from, const struct yk_peer_reply_to *to);
/* The core's op. */
void dir_remove_ended(void *arg, uint64_t id, int status, const uint32_t *missing, uint32_t missing_count);
/* Tries again what is due; UINT64_MAX: all end. Returns how many go on. */
uint32_t dir_removes_look(struct yk_dir *d, uint64_t now_ns);
/* The core's ops that take blocks out of this node. */
int dir_apply(void *arg, const struct yk_dir_key *key, uint64_t gen, uint64_t token);
int dir_drop_slot(void *arg, uint32_t slot, uint64_t token);
/* All that this node has goes; then done. -YK_ENOMEM. */
int dir_drop_all(struct yk_dir *d, void (*done)(struct yk_dir *d, uint64_t token, int status));

/* ---- ns.c ------------------------------------------------------------------------------------------- */

/* A job for dir_to_loop: a client's change of a namespace (pool.h). NULL: no memory. Any thread. */
struct dir_job *dir_space_wish(struct yk_dir *d, unsigned what, const char *ns, uint32_t ns_len, uint64_t value,
                               uint64_t deadline_ns, uint64_t token);
/* Those that wait until this node is ready; returns how many there are. */
uint32_t dir_spaces_look(struct yk_dir *d, uint64_t now_ns);
/* The membership's op: any thread. */
void dir_space_told(void *arg, const struct yk_member_space *space);
/* A peer says that this is its epoch: it is applied to this node, and dir_epoch_applied follows. -YK_ENOMEM. */
int dir_space_learn(struct yk_dir *d, const char *ns, uint32_t ns_len, uint64_t epoch);

/* ---- epoch.c ---------------------------------------------------------------------------------------- */

#define DIR_EPOCH_HEADS 256u

struct dir_epochs {
    struct dir_epoch *head[DIR_EPOCH_HEADS];
    uint32_t count; /* YK_MEMBER_SPACES_MAX at most */
};
/* As this node has applied it; 0: not known. */
uint64_t dir_epoch_of(struct yk_dir *d, const char *ns, uint32_t ns_len);
void dir_epoch_applied(struct yk_dir *d, const char *ns, uint32_t ns_len, uint64_t epoch, int status);
/* The namespace was removed here, at this epoch: no lower one makes it again. */
void dir_epoch_gone(struct yk_dir *d, const char *ns, uint32_t ns_len, uint64_t epoch);
/* 1: it was removed, with all blocks of this epoch: whoever still has them has not heard of that. */
int dir_epoch_is_gone(struct yk_dir *d, const struct yk_dirw_str *ns, uint64_t epoch);
/* A message says that the sender has this one: learned if it is higher; else the sender hears of the higher one. */
void dir_epoch_hear(struct yk_dir *d, const struct yk_peer_who *from, const struct yk_dirw_str *ns, uint64_t epoch);
/* The core's op: a member has published a block of this epoch. */
void dir_epoch_published(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch);
/* All peers hear of it. */
void dir_epochs_tell(struct yk_dir *d, const char *ns, uint32_t ns_len);
void dir_epochs_clear(struct yk_dir *d);

/* ---- sync.c ----------------------------------------------------------------------------------------- */

struct dir_sync {
    pthread_t thread;
    pthread_cond_t cond; /* with the directory's lock: io, stop */
    int started, stop;
    struct yk_dir_rlog_io *io; /* that the thread is to take */
    struct dir_job done;
};
int dir_sync_open(struct yk_dir *d); /* -YK_EIO */
/* Nothing is under way. One that was not opened is fine. */
void dir_sync_close(struct yk_dir *d);
/* The core's op. */
void dir_sync(void *arg, struct yk_dir_rlog_io *io);

/* ---- join.c ----------------------------------------------------------------------------------------- */

/* The membership's ops, on its thread. */
void dir_map_told(void *arg, const struct yk_dir_map *map);
void dir_node_told(void *arg, const struct yk_member_node *node, int gone);
void dir_state_told(void *arg, const struct yk_member_state *state);
/* Something that start waits for may have changed. */
void dir_state_changed(struct yk_dir *d);
/* Goes on with what could not be done at once; each second. */
void dir_join_look(struct yk_dir *d);
/* What the core has asked for and not heard yet it does not wait for any more; its incarnation is over. 0 (there is
 * none); -YK_EAGAIN: not yet. */
int dir_core_close(struct yk_dir *d);
/* The terms that the log of removes knows, for the membership (member.h); to be freed. NULL: none. Blocks. */
uint64_t *dir_log_terms(const struct yk_dir *d);

/* ---- log_lost.c: a log of removes that cannot be written ------------------------------------------------------ */

#define DIR_LOG_FILE "removes"

/* This node leaves the cluster since its log cannot be `done` ("read", "written"), and tries again later. */
void dir_log_failed(struct yk_dir *d, const char *done, const char *why);
/* Has it failed? Is it time to try again? After each write and each second. */
void dir_log_look(struct yk_dir *d);
/* Until when this node's own clients may find what it holds, as of now. */
void dir_gate_set(struct yk_dir *d);

/* ---- figures.c -------------------------------------------------------------------------------------- */

void dir_figures(void *arg, struct yk_pool_figures *ret); /* any thread */
void dir_figures_json(const struct yk_dir *d, struct yk_buf *out);

/* ---- info.c ----------------------------------------------------------------------------------------- */

void dir_info_json(const struct yk_dir *d, struct yk_buf *out);
/* DRAIN or FORGET. */
int dir_serve_change(struct yk_dir *d, unsigned op, struct yk_rd *r, const struct yk_peer_reply_to *to);
int dir_serve_rebalance(struct yk_dir *d, struct yk_rd *r, const struct yk_peer_reply_to *to);

/* ---- drain.c ---------------------------------------------------------------------------------------- */

struct dir_drain_stats {
    uint64_t blocks_left, bytes_left; /* that have to be looked at yet in this round */
    uint64_t handed, handed_bytes;    /* that others have now */
    uint64_t kept;                    /* that found no place in the last round */
    uint8_t done;                     /* the last round found nothing else to do */
    char text[YK_ERR_TEXT_MAX];       /* why one failed; "" */
};

/* Begins, goes on, or ends; every second. */
void dir_drain_look(struct yk_dir *d, uint64_t now_ns);
/* 1: *ret says how far it is; 0: this node does not drain. */
int dir_drain_stats(const struct yk_dir *d, struct dir_drain_stats *ret);
void dir_drain_free(struct yk_dir *d);

/* ---- dir.c ------------------------------------------------------------------------------------------ */

/* meter.c: reads that are under way, and what came of those that ended. */
struct dir_meter {
    uint64_t bytes, busy_ns, since_ns;
    uint32_t under_way;
};
void dir_meter_begin(struct dir_meter *meter);
void dir_meter_end(struct dir_meter *meter, uint64_t bytes);
uint64_t dir_meter_busy_ns(const struct dir_meter *meter);

struct yk_dir {
    struct yk_dir_opts opts; /* texts are its own */
    char address[300]; /* that others reach it by */
    struct yk_pool_ops ops;
    struct yk_node *node;
    struct yk_xfer *engine; /* the node's; NULL: nothing can be brought */
    pthread_t thread;
    int started, loop_open;

    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t tick; /* the core's */
    uv_timer_t look; /* while somebody waits: deadlines, tickets, blocks that come up */
    uv_timer_t second;
    uv_timer_t gate;
    int tick_due;

    struct yk_peers *peers; /* NULL once it is closing */
    int peers_open;         /* until it has closed */
    struct yk_dir_core *core; /* NULL until it has joined, and while it begins anew (join.c) */
    uint32_t core_life;       /* which one: what an earlier one asked for is not told to it */
    int caught_up;            /* this one has heard, and applied, all that was removed before it */
    struct yk_meta *meta;
    struct yk_member *member;
    struct yk_member_state state;
    int opening; /* the core is about to be opened */
    uint64_t over;     /* the incarnation whose core was closed: it is not gone on in */
    char log_text[YK_ERR_TEXT_MAX]; /* log_lost.c: why this node keeps out of the cluster; "": it does not */
    uint64_t log_ms;                /* since when, on dir_now_ms */
    uint32_t log_wait_ms;           /* from then until it tries again */
    int probing;
    int walking;
    struct dir_sync sync;
    int syncing; /* the log is being written */
    uint32_t regrouped;
    struct yk_dir_map *map; /* the newest; NULL before the first */
    uint32_t self;
    uint64_t incarnation;
    struct dir_peer *peer[YK_DIR_MEMBERS_MAX];
    uint32_t peer_count;

    struct dir_ring *ring;
    struct dir_cache cache;
    struct dir_epochs epochs;
    struct dir_link asks, wishes, removes, tickets, serving, spaces;
    struct dir_pulls *pulls;
    struct dir_drain *drain; /* NULL: it never did */
    uint64_t next_remove;
    uint32_t serving_count, remove_count;
    uint32_t jobs; /* that have not come back */
    int stopping; /* the membership and the core's tick are left alone */
    int left;     /* the membership is closed */
    int ended;

    struct dir_copies *copies; /* copy.c, and so on; NULL: none yet */
    struct dir_takes *takes;
    struct dir_repair *repair;
    struct dir_tasks *tasks;

    uint64_t refused;    /* atomic, relaxed */
    uint32_t wish_count; /* atomic: under way; both threads */
    int open;            /* atomic: wishes and changes are taken */
    pthread_mutex_t lock; /* with cond: inbox, what start waits for, stats (rank 6 in docs/locks.md) */
    pthread_cond_t cond;
    struct dir_job *inbox, **inbox_tail;
    struct dir_job *outbox, **outbox_tail; /* the loop's */
    struct yk_dir_stats shown;
    struct yk_dir_stats n; /* the loop's */
    struct dir_meter near, far; /* the loop's: reads of other nodes' blocks, in this zone and in others */
    struct yk_err fail; /* why start has failed */
    int ready;          /* start may return; written by the loop, under the lock */
    int stop_begun;     /* stop may close the membership */
    struct yk_member_state said; /* what start says when it gives up */
    char waits_for[224];         /* under the lock: the same, of a node that catches up; "" = it does not */
};

/* A member (not returning, not expelled) in this incarnation: its copies count. */
int dir_is_live(const struct yk_dir *d, uint32_t id, uint64_t incarnation);
/* Milliseconds until then, at least 1 and at most `most`; 0: it is over. */
uint32_t dir_left_ms(uint64_t deadline_ns, uint32_t most);
/* Something waits that the look timer sees to. */
void dir_look_soon(struct yk_dir *d);
/* The core has been called: its tick is due. */
void dir_tick_soon(struct yk_dir *d);
/* It has been called, and has done all but what it waits with: its tick is due in 20 ms, what was too much at once. */
void dir_tick_later(struct yk_dir *d);

/* peer.h, for as long as it is open. */
static inline void dir_reply(struct yk_dir *d, const struct yk_peer_reply_to *to, unsigned op, const void *body,
                             size_t len) {
    if (d->peers != NULL)
        (void)yk_peers_reply(d->peers, to, op, body, (uint32_t)len);
}
static inline int dir_peers_ask(struct yk_dir *d, uint32_t member, unsigned op, const struct yk_wr *w,
                                uint32_t timeout_ms, yk_peer_reply_fn reply, void *user) {
    return d->peers != NULL && timeout_ms > 0 ? yk_peers_ask(d->peers, member, op, w->base, (uint32_t)yk_wr_len(w),
                                                             timeout_ms, reply, user)
                                              : -YK_ECLOSED;
}
static inline int dir_suspect(const struct yk_dir *d, uint32_t member) {
    return d->peers == NULL || yk_peers_suspect(d->peers, member) != 0;
}

static inline uint64_t dir_now_ms(void) {
    return yk_now_ns() / YK_NS_PER_MS;
}

#endif
