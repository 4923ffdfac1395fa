/* SPDX-License-Identifier: Apache-2.0
 *
 * A shard: the requests that it was given, its rails and lanes, and who turns it (record 0009).
 *
 *   shard.c   inbox, who turns, sleep and wake
 *   sched.c   queues, classes, cutting, choice
 *   slice.c   ends of slices and requests, cancel, deadlines
 *   rail.c    routes, rails, lanes
 *   fence.c   memory that a dead lane may yet write to
 *   health.c  silence, quarantine, links
 *
 * A request waits in its route's queue of its class until all of it is cut into pieces. A piece is a
 * slice with what the core keeps of it; it is, until it is free again, in one list: of its lane (in
 * flight), `again` of its route (to be sent again), `later` (the same, when its time has come), or `held`
 * of a fence (until the target has closed the lane that it may have touched memory over).
 *
 * Thread: all here by who owns the shard (yk_shard_try_own), but what says "any".
 */
#ifndef YK_XFER_SHARD_PRIV_H
#define YK_XFER_SHARD_PRIV_H

#include "xfer/batch_priv.h"
#include "xfer/list_priv.h"
#include "xfer/model.h"
#include "xfer/transport.h"

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_XPORTS_MAX 8u
#define YK_LANES_MAX  33u /* of a rail in a shard: one for urgent requests, up to 8, up to 32 on a long way */
#define YK_RAILS_MAX  32u /* of a peer */
#define YK_WHY_MAX    96
#define YK_LONG_NS    5000000u /* there and back: a way that is longer leads out of the data centre */

struct yk_rail;
struct yk_route;

/* Memory of a peer that a dead lane may yet write to, in the peer's list: for all shards. */
struct yk_bar {
    struct yk_list link;
    uint64_t lane;
    uint64_t region, offset, len;
};

/* A slice and what the core keeps of it. */
struct yk_piece {
    struct yk_slice s;
    struct yk_list link;     /* lane's pieces, route's again or later, or fence's held */
    struct yk_list of_req;   /* request's pieces */
    struct yk_req *req;      /* NULL: a note, a fence, or one whose request has ended */
    struct yk_part *note;    /* whose batch's notification this is */
    struct yk_fence *fence;  /* that this piece asks for */
    struct yk_link *on;      /* in flight there, or NULL */
    struct yk_bar bar;       /* while a fence holds it */
    double predict_ns;
    uint64_t cancel_ns;      /* when it was cancelled, 0 = it was not */
    uint64_t due_ns;         /* in `later`: when it is sent again */
    uint32_t waits;          /* how often it was there */
    uint64_t avoid;          /* the rail that could not move it yet (yk_rail_bit): another is tried first */
    uint32_t asked;          /* how often a peer was asked again that was not sure */
    struct yk_piece *free;
};

/* A lane that went down and may have left bytes on their way: memory it touched is not written again
 * before the target has closed it. */
struct yk_fence {
    struct yk_list link; /* route's */
    uint64_t lane;
    struct yk_list held;   /* pieces; those without a request keep their range only. None: another shard's
                              lane is in the way */
    struct yk_piece *ask;  /* the FENCE that is under way, or NULL */
};

enum yk_link_state { YK_LINK_NONE, YK_LINK_CONNECTING, YK_LINK_UP, YK_LINK_DEAD };

/* A lane's place on its rail. DEAD: to be disconnected by the next step (yk_rails_reap). */
struct yk_link {
    struct yk_rail *rail;
    struct yk_lane *lane;
    enum yk_link_state state;
    int bulk;
    unsigned missed; /* so many times, up to MISSED_MAX, it did not come up beside others that are up */
    int dirty; /* something was posted and not flushed */
    struct yk_list pieces;
    uint32_t count;
    uint64_t bytes;
    uint64_t since_ns; /* CONNECTING: when it began */
    uint64_t up_ns;    /* UP: since when */
    uint64_t moved, moved_ns;
    uint64_t proven; /* of that, by the rail's devices */
    int moved_known;
    uint32_t strikes; /* looks that found nothing moved; CONNECTING: looks */
    uint64_t stirred_ns; /* when its devices were last seen to have moved something */
    uint64_t asked_ns; /* a PING was sent since, 0 = none: nothing has moved, and there is no other rail */
    struct yk_fence *fence; /* made with the lane, so that its end needs no memory */
};

/*
 *   OK --a lane failed, or was silent--> OUT --its time came--> TRYING --lane up--> OK
 *                                         ^------- it failed -----+
 */
enum yk_rail_state { YK_RAIL_OK, YK_RAIL_OUT, YK_RAIL_TRYING };

struct yk_rail {
    struct yk_route *route;
    struct yk_xport *xport;
    uint32_t number; /* of those that its route has had */
    uint32_t group; /* rails of one transport: those of the first that works are used */
    struct yk_rail_desc desc;
    struct yk_model model;
    enum yk_rail_state state;
    uint32_t backoff_ms; /* of the next quarantine; 0: the first */
    uint32_t duds;       /* how often in a row its lanes came up, moved nothing and failed */
    struct yk_timer retry;
    uint64_t gone_ns;    /* since when there is no such way (ways.c); 0: there is */
    uint64_t used_ns;    /* last post */
    uint64_t trip_ns;    /* the shortest round trip that a greeting took; 0: none was */
    uint64_t bytes;      /* in flight */
    uint64_t path_ns;    /* the shortest that its lanes knew of; 0: none did */
    int full;            /* the last slice that wanted to go there had no room */
    uint64_t widen_ns, widen_bytes; /* when its lanes were looked at last, and its total_bytes then; 0: was not full */
    uint64_t widen_lost;            /* and what had been lost */
    uint64_t full_ns;     /* when it was last seen full */
    uint64_t total_slices, total_bytes, total_failed;
    int answered;         /* the peer did there, once */
    int stranger;         /* another engine answered there, last time */
    int starved;          /* no descriptor or memory for another lane: until the next look none is tried */
    uint64_t starved_ns; /* of the peer: not before */
    uint32_t modest_ms;   /* of the next such wait; 0: the first */
    char why[YK_WHY_MAX]; /* of the last failure */
    struct yk_link links[YK_LANES_MAX];
    uint32_t link_count;
    struct yk_link beside; /* dialled while the lanes of the only rail are silent; takes their place */
};

/* Of each class what any rail may carry, and behind those of each what is of a device's memory: that waits for its own. */
#define YK_QUEUES (2u * YK_XFER_CLASSES)

struct yk_queue {
    struct yk_list reqs;
    struct yk_list again;
    double served; /* virtual time: bytes over weight */
};

/* A peer as a shard sees it. */
struct yk_route {
    struct yk_shard *shard;
    struct yk_peer *peer;
    struct yk_list active; /* in the shard's list while it has something to do */
    uint32_t work;         /* requests and notes that have not ended */
    int changed;           /* look at its queues again */
    int dirty;             /* a lane is to be flushed */
    int copies;            /* some rail's transport is carried out by progress */
    struct yk_queue queue[YK_QUEUES];
    double served;         /* virtual time of the last pick */
    struct yk_list later;  /* pieces that the target could not take now */
    struct yk_timer later_timer; /* of the earliest */
    struct yk_list fences;
    struct yk_rail **rails; /* in order of their transports, the preferred first; room for YK_RAILS_MAX */
    uint32_t rail_count;
    uint32_t rails_made;
    uint64_t look_ns;      /* when other ways to the peer are looked for (ways.c); 0: not */
    uint64_t looked_ns;    /* when they were last */
    uint32_t looks;        /* that are to follow the next */
    int rails_known;
    int blind;             /* errno of a transport that could not look for them, or 0 */
};

static inline struct yk_queue *yk_queue_of(struct yk_route *t, uint32_t xclass, uint8_t device) {
    return &t->queue[xclass + (device ? YK_XFER_CLASSES : 0)];
}

struct yk_shard {
    uint32_t owned;     /* any: atomic, 1 while somebody turns it */
    uint32_t sleeping;  /* any: atomic, its owner sleeps in the loop; pairs with inbox */
    uint32_t asleep;    /* any: atomic and futex, its thread sleeps; pairs with inbox, work, calls, stop */
    uint32_t stop;      /* any: atomic */
    uint32_t work;      /* written by the owner, read by any: requests and notes that have not ended */
    uint32_t wide;      /* likewise: rails with more lanes than they begin with */
    struct yk_msg *inbox;     /* any: atomic stack */
    struct yk_batch *calls;   /* any: atomic stack of ended batches whose callback the thread makes */
    uint32_t number;
    struct yk_xfer *engine;
    pthread_t thread;
    int thread_runs;

    struct yk_loop *loop;
    struct yk_shard_env env;
    struct yk_xport *xports[YK_XPORTS_MAX];
    uint32_t xport_count;
    struct yk_route **routes; /* by the peer's index */
    uint32_t route_cap;
    struct yk_list active; /* routes with work */
    struct yk_list parts;  /* that have not ended */
    uint32_t dead_links;
    uint32_t lanes;        /* connected, or being so */
    int changed; /* some route is */
    struct yk_piece *free_pieces;
    struct yk_chunk *chunks;
    struct yk_timer health;
    struct yk_timer ways;  /* the next look for ways to peers (ways.c) */
    struct yk_watch netlink; /* fd -1: none */
    uint64_t random;
};

/* ---- shard.c: any thread --------------------------------------------------------------------- */

int yk_shard_new(struct yk_xfer *engine, uint32_t number, const struct yk_xport_ops *const *xports,
                 struct yk_shard **ret_shard, struct yk_err *err);
void yk_shard_free(struct yk_shard *s); /* with nothing outstanding; NULL is fine */

int yk_shard_try_own(struct yk_shard *s);
/* Hands what is left to the shard's thread. */
void yk_shard_release(struct yk_shard *s);
/* Owner: turns it until *done (atomic) is 2, nothing is left to do, or the time has come. */
void yk_shard_turn_until(struct yk_shard *s, const uint32_t *done, uint64_t until_ns);

/* Puts a message in; kick sees to it that somebody looks. */
void yk_shard_post(struct yk_shard *s, struct yk_msg *m);
void yk_shard_kick(struct yk_shard *s);
/* Runs fn as the owner, and waits for it. */
void yk_shard_call(struct yk_shard *s, void (*fn)(struct yk_shard *s, void *arg), void *arg);
/* Has the shard's thread make a batch's callback. */
void yk_shard_callback(struct yk_shard *s, struct yk_batch *b);
/* The owner sleeps in the loop for a batch that another shard ended. */
void yk_shard_nudge(struct yk_shard *s);
/* Owner: one more, or one less, wide rail; while there are any the shard's thread looks after them. */
void yk_shard_wide(struct yk_shard *s, int more);

/* ---- sched.c --------------------------------------------------------------------------------- */

/* Takes the requests of a part into its queues. */
void yk_sched_part(struct yk_shard *s, struct yk_part *p);
/* Cuts, chooses, posts, flushes, copies. 1: there is more to copy, do not sleep. */
int yk_sched_step(struct yk_shard *s);
/* Posts a piece that has no request (fence). 0: no lane has room. */
int yk_sched_post(struct yk_link *l, struct yk_piece *p);
/* A request in a route: what the choice looks at. */
struct yk_want {
    uint64_t left;  /* bytes */
    uint32_t caps;  /* enum yk_rail_caps that the rail needs */
    uint32_t without; /* and must not have */
    uint64_t shun;    /* rails that it must not be (yk_rail_bit) */
    uint32_t xclass;
    const struct yk_queue *queue; /* where it waits with others, or NULL */
};
/* In a set of rails; the 65th of a route shares the first one's. */
static inline uint64_t yk_rail_bit(const struct yk_rail *r) {
    return 1ull << r->number % 64;
}
int yk_rail_suits(const struct yk_rail *r, const struct yk_want *w);
/* What a request needs of a rail, whichever of its slices. */
struct yk_want yk_sched_want(const struct yk_req *r);
int yk_route_suits(const struct yk_route *t, const struct yk_want *w); /* some rail of it does */
/* What a slice needs (enum yk_rail_caps). op: enum yk_slice_op. */
uint32_t yk_sched_caps(uint8_t op, int guarded);
uint32_t yk_rails_useful(const struct yk_route *t, const struct yk_want *w, uint32_t group);
/* The predicted end of a slice of that length on the rail, from now. */
double yk_rail_predict(const struct yk_rail *r, uint64_t len, uint64_t now);
uint64_t yk_rail_slice(const struct yk_rail *r, uint64_t left, uint32_t rails);

/* ---- slice.c --------------------------------------------------------------------------------- */

struct yk_piece *yk_piece_new(struct yk_shard *s); /* NULL: no memory */
void yk_piece_free(struct yk_shard *s, struct yk_piece *p);
void yk_pieces_free(struct yk_shard *s);
void yk_slice_ended(struct yk_lane *lane, struct yk_slice *slice); /* event of the transport */
void yk_later_due(struct yk_timer *timer); /* a route's later_timer */
/* Its deadline counts from now on. */
void yk_part_open(struct yk_shard *s, struct yk_part *p);
/* Ends a request early: what is in flight of it is cancelled, it ends when that has. */
void yk_req_fail(struct yk_shard *s, struct yk_req *r, int status);
/* The same for one that is in no route; why: for the batch's text, or NULL. */
void yk_req_refuse(struct yk_shard *s, struct yk_req *r, int status, const char *why);
#define YK_DEVICE_NO_WAY "device memory needs an RDMA device that can reach it"
/* Ends one of a device's memory for which there is no rail. */
void yk_req_strand(struct yk_shard *s, struct yk_req *r);
/* The requests of a part that have not ended, of those with local memory in a region, of those to a
 * peer (NULL: all); and its note. */
void yk_part_fail(struct yk_shard *s, struct yk_part *p, const struct yk_region *in,
                  const struct yk_peer *of, int status);
/* The same of all parts of the shard. */
void yk_shard_fail(struct yk_shard *s, const struct yk_region *in, const struct yk_peer *of,
                   int status);
/* The last request of a batch has ended, in this part: its note is sent, or the batch ends. */
void yk_part_last(struct yk_shard *s, struct yk_part *part);

/* ---- rail.c ---------------------------------------------------------------------------------- */

struct yk_route *yk_route_get(struct yk_shard *s, struct yk_peer *peer); /* NULL: no memory */
void yk_route_free(struct yk_route *t);
/* Its peer is gone for good: requests to it end, lanes are given up, none is dialled. */
void yk_route_lost(struct yk_route *t, const char *why);
/* Of a way; NULL: no memory. */
struct yk_rail *yk_rail_new(struct yk_route *t, struct yk_xport *x, uint32_t group, const struct yk_rail_desc *desc);
void yk_rail_free(struct yk_rail *r); /* not from within a callback of one of its lanes */
int yk_rail_is_empty(const struct yk_rail *r); /* it has no lane, and none is connecting */
/* One more, or one less, thing to do for a route. */
void yk_route_work(struct yk_route *t, int more);
/* Slices ended, lanes or queues changed: the next step looks at its queues. */
static inline void yk_route_changed(struct yk_route *t) {
    t->changed = 1;
    t->shard->changed = 1;
}
/* How long an attempt may take. */
uint64_t yk_rail_connect_ns(const struct yk_rail *r);
/* Begins to connect what a want of that class needs on the rail. */
void yk_rail_connect(struct yk_rail *r, int bulk);
/* A lane that does not come up, while others of its rail are up, is given up alone. 1: so it was. */
int yk_link_missed(struct yk_link *l, const char *why);
void yk_lane_is_up(struct yk_lane *lane);
void yk_lane_is_down(struct yk_lane *lane, int code, enum yk_scope scope, const char *text);
/* A lane is given up alone: others of its rail work. */
void yk_link_out(struct yk_link *l, const char *why);
/* Lanes beyond those that a rail begins with, and without a slice, go where it has not been full for a while. */
void yk_rails_narrow(struct yk_shard *s);
/* All of the rail's lanes are given up; its time out begins. */
void yk_rail_out(struct yk_rail *r, const char *why);
/* Its time out is over: a fresh lane is tried. */
void yk_rail_retry(struct yk_rail *r);
/* Dials one more lane, unless one was dialled lately: when it is up and the others are silent still, it is
 * the rail's, and they are given up. */
void yk_rail_beside(struct yk_rail *r, uint64_t now);
/* The lane that was dialled beside is given up. */
void yk_rail_beside_out(struct yk_rail *r);
/* Disconnects lanes that are DEAD. */
void yk_rails_reap(struct yk_shard *s);
/* Any other rail of the route that can do the same and is not in quarantine. */
int yk_rail_has_other(const struct yk_rail *r);

/* ---- ways.c ---------------------------------------------------------------------------------- */

/* Finds the ways to the peer once. */
void yk_route_rails(struct yk_route *t);
/* A rail of it failed: there may be other ways by now. */
void yk_ways_failed(struct yk_route *t);
/* None of its rails can do what is asked, and that is not waited for: looks at once, a second after the last time at the
 * earliest. */
void yk_ways_want(struct yk_route *t);
/* This host's addresses or links are others. */
void yk_ways_news(struct yk_shard *s);

/* ---- fence.c --------------------------------------------------------------------------------- */

struct yk_fence *yk_fence_new(void); /* NULL: no memory */
void yk_fence_free(struct yk_route *t, struct yk_fence *f); /* with what it holds; NULL is fine */
/* A piece that may have left bytes on their way: kept, its range barred to all shards. */
void yk_fence_hold(struct yk_route *t, struct yk_fence *f, struct yk_piece *p);
/* Asks for fences where a lane can carry them. */
void yk_route_fences(struct yk_route *t);
/* Whether a write there has to wait for some; those are asked for. */
int yk_route_fenced(struct yk_route *t, uint64_t region, uint64_t offset, uint64_t len);
void yk_fence_done(struct yk_fence *f, struct yk_route *t, int status, enum yk_scope scope);
/* All of a route's are done: its peer is gone. */
void yk_fences_void(struct yk_route *t);

/* ---- health.c -------------------------------------------------------------------------------- */

void yk_health_open(struct yk_shard *s);
void yk_health_close(struct yk_shard *s);
/* Looks are made from now on, while there is work. */
void yk_health_arm(struct yk_shard *s);
/* It has been connecting for stall_ms, and through three looks (this process may have slept itself): what it was meant for
 * looks for another rail meanwhile. */
int yk_link_is_late(const struct yk_link *l, uint64_t now);
uint64_t yk_shard_random(struct yk_shard *s);

#ifdef __cplusplus
}
#endif

#endif
