/* SPDX-License-Identifier: Apache-2.0
 *
 * The RDMA transport at the initiator: a lane is a stream (xfer/stream.h) with a queue pair beside it
 * (docs/decisions/0019-rdma.md).
 *
 *   OPENING --dial--> CONNECTING --stream is up: OFFER, TAKE--> SETTING --both answered--> UP --anything fails--> FAILED
 *
 * OPENING: the device's helper thread opens it (registrar.c), which may take long, or not end: this thread goes on.
 *
 * A slice is an op, in one of these ways:
 *
 *   STREAM    sent over the stream as tcp would: what is no payload, small, or not possible over RDMA
 *   LEND      the key (and with a guard the pin) is asked for; then READ
 *   READ      the device reads; then done (with a pin: GIVEBACK, which is nobody's slice)
 *   PULL      the target has been told to read
 *   REFUSED   it can go in none of these ways, and is given back behind the turn
 *
 * What the target says it cannot do over RDMA (-YK_ENOTSUP) goes by STREAM, but for memory of devices: that is refused.
 * Keys to unguarded memory are kept.
 *
 * Local memory is a region's, or (any_local) a caller's that no region has. That is borrowed: registered for the slice
 * alone, and returned when the slice ends, which is when no queue pair may touch it (R16).
 *
 * Thread: the shard's.
 */
#include "rdma_priv.h"

#include "base/clock.h"
#include "xfer/dial.h"
#include "xfer/sock.h"
#include "xfer/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define SLICES_MAX 64u          /* of a lane */
#define OPS        (3 * SLICES_MAX) /* and pins on their way back: fewer than the stream has places */
#define KEYS       64u          /* kept; a power of two */
#define SMALL      (16u << 10)  /* below, a message to the target costs more than its bytes in it */
#define OPEN_NS     (1 * YK_NS_PER_MS) /* after which it is seen whether the device is open; doubled each time, */
#define OPEN_MAX_NS (100 * YK_NS_PER_MS) /* up to that */
#define BORROW_MIN (64u << 10)  /* below, registering and letting go (two system calls) cost more than copies */

enum way { FREE, SETUP, STREAM, LEND, READ, PULL, GIVEBACK, REFUSED };
enum state { OPENING, CONNECTING, SETTING, UP, FAILED };

struct lane;

struct op {
    struct yk_slice sub; /* the stream's, first */
    struct lane *lane;
    struct yk_slice *slice; /* the core's; NULL: none */
    struct yk_rdma_mem *mem; /* local memory, held while a device may touch it */
    struct yk_rdma_loan *loan; /* or this */
    struct op *next;        /* free ones */
    uint64_t number;        /* of what is lent */
    uint32_t lkey;
    uint8_t way;            /* enum way */
    uint8_t cancelled;
    unsigned char answer[YK_OFFER_BYTES];
};

struct lane {
    struct yk_lane base;  /* first */
    struct yk_lane inner; /* what the stream knows as its lane */
    struct yk_stream *stream;
    struct yk_rdma_port port;
    struct yk_rdma_dev *dev; /* held from the dialling on: one that cannot be opened is not dialled for */
    struct yk_qp *qp;      /* NULL while it is CONNECTING: a device makes none for peers that are gone */
    struct yk_timer timer; /* OPENING: the next look; FAILED: that is to be told */
    struct yk_timer later; /* what this turn's answers and completions led to is to be posted and sent */
    const struct yk_peer_info *peer; /* these are to dial by */
    struct yk_rail_desc rail;
    int bulk;
    uint64_t look_ns;
    uint64_t dialled_ns;
    struct yk_err fail;
    uint8_t state;         /* enum state */
    uint8_t told, closing;
    uint8_t scope;
    uint32_t count;        /* of slices, */
    uint32_t refused;      /* and of these of those that are about to be given back */
    uint64_t number;       /* of the last LEND */
    uint64_t pulled;       /* bytes that the target's device has read */
    struct op *free_ops;
    struct op ops[OPS];
    struct {
        uint64_t region;   /* 0 = none */
        struct yk_rdma_key key;
    } keys[KEYS];
};

struct xport {
    struct yk_xport base;    /* first */
    struct yk_rdma_settings settings;
    struct yk_shard_env env; /* the shard's, with our events: the streams' */
};

static struct lane *lane_of(const struct yk_lane *lane) {
    return (struct lane *)(uintptr_t)lane;
}

static const struct yk_rdma_settings *settings_of(const struct yk_xport *xport) {
    return &((const struct xport *)(const void *)xport)->settings;
}

static const struct yk_shard_events *core_of(const struct lane *l) {
    return l->base.xport->env->events;
}

/* Told from the loop. */
static void fail(struct lane *l, int code, enum yk_scope scope, const char *text) {
    if (l->state == FAILED)
        return;
    l->state = FAILED;
    l->scope = (uint8_t)scope;
    yk_err_set(&l->fail, code, "%s", text);
    (void)yk_loop_timer(l->base.xport->env->loop, &l->timer, 1);
}

static void tell(struct lane *l) {
    (void)yk_loop_timer(l->base.xport->env->loop, &l->timer, 0);
    if (l->told || l->closing)
        return;
    l->told = 1;
    struct yk_err why = l->fail;
    core_of(l)->lane_down(&l->base, why.code, (enum yk_scope)l->scope, why.text);
}

static void open_or_wait(struct lane *l);

static void on_timer(struct yk_timer *t) {
    struct lane *l = t->user;
    if (l->state == OPENING)
        open_or_wait(l);
    else
        tell(l);
}

static void give_refused(struct lane *l);

/* Answers and completions come several at a time, and each leads to a read or to a message: these are gathered until the
 * end of the turn (timers run behind descriptors), or of the look. */
static void on_later(struct yk_timer *t) {
    struct lane *l = t->user;
    (void)yk_loop_timer(l->base.xport->env->loop, t, 0);
    if (l->state != UP)
        return;
    if (l->refused > 0)
        give_refused(l);
    yk_qp_flush(l->qp);
    yk_stream_flush(l->stream);
}

static void flush_later(struct lane *l) {
    if (l->later.slot == 0 && yk_loop_timer(l->base.xport->env->loop, &l->later, 1) < 0)
        on_later(&l->later);
}

/* ---- ops -------------------------------------------------------------------------------------------- */

static struct op *op_take(struct lane *l, enum way way) {
    struct op *op = l->free_ops;
    if (op == NULL)
        return NULL;
    l->free_ops = op->next;
    memset(&op->sub, 0, sizeof(op->sub));
    op->sub.core = op;
    op->slice = NULL;
    op->mem = NULL;
    op->loan = NULL;
    op->cancelled = 0;
    op->way = (uint8_t)way;
    return op;
}

/* No device touches its memory (any more). */
static void let_go(struct op *op) {
    yk_rdma_mem_put(op->mem);
    yk_rdma_return(op->lane->dev, op->loan);
    op->mem = NULL;
    op->loan = NULL;
}

static void op_free(struct op *op) {
    struct lane *l = op->lane;
    let_go(op);
    op->way = FREE;
    op->next = l->free_ops;
    l->free_ops = op;
}

/* Gives its slice back. */
static void finish(struct op *op, int32_t status, enum yk_scope scope, int touched) {
    struct lane *l = op->lane;
    struct yk_slice *s = op->slice;
    s->status = status;
    s->scope = (uint8_t)scope;
    s->touched = (uint8_t)touched;
    s->aside = op->way == STREAM;
    l->pulled += op->way == PULL && status == 0 ? s->len : 0;
    op_free(op);
    l->count--;
    core_of(l)->slice_done(&l->base, s);
}

static void give_refused(struct lane *l) {
    for (uint32_t i = 0; i < OPS && l->refused > 0; i++)
        if (l->ops[i].way == REFUSED) {
            l->refused--;
            finish(&l->ops[i], l->ops[i].sub.status, YK_SCOPE_REQUEST, 0);
        }
}

/* What was just posted, since it is a device's memory that ours does not know. */
static void refuse(struct op *op, int status) {
    struct lane *l = op->lane;
    let_go(op);
    op->way = REFUSED;
    op->sub.status = status;
    l->refused++;
    (void)yk_loop_timer(l->base.xport->env->loop, &l->later, 1); /* without memory for it, it ends when it is cancelled */
}

static void send_sub(struct op *op) {
    yk_stream_post(op->lane->stream, &op->sub);
}

static void go_stream(struct op *op) {
    const struct yk_slice *s = op->slice;
    let_go(op);
    op->way = STREAM;
    op->sub = (struct yk_slice){.op = s->op, .xclass = s->xclass, .local = s->local, .len = s->len,
                                .region = s->region, .offset = s->offset, .guard = s->guard, .core = op};
    send_sub(op);
}

static void go_read(struct op *op, const struct yk_rdma_key *key) {
    const struct yk_slice *s = op->slice;
    op->way = READ;
    yk_qp_read(op->lane->qp, s->local, op->lkey, (uint32_t)s->len, key->addr + (s->offset - key->from), key->rkey,
               s->device & YK_DEVICE_HERE, (uint64_t)(op - op->lane->ops));
}

static void go_lend(struct op *op) {
    const struct yk_slice *s = op->slice;
    op->way = LEND;
    op->number = ++op->lane->number;
    op->sub = (struct yk_slice){.op = YK_SLICE_LEND, .xclass = s->xclass, .local = (char *)op->answer, .len = s->len,
                                .region = s->region, .offset = s->offset, .guard = s->guard, .core = op};
    op->sub.priv[1] = op->number;
    send_sub(op);
}

static void go_pull(struct op *op, const struct yk_rdma_key *mine, uint64_t at) {
    const struct yk_slice *s = op->slice;
    op->way = PULL;
    op->sub = (struct yk_slice){.op = YK_SLICE_PULL, .xclass = s->xclass, .len = s->len, .region = s->region,
                                .offset = s->offset, .guard = s->guard, .core = op};
    op->sub.priv[1] = mine->addr + (at - mine->from);
    op->sub.priv[2] = mine->rkey;
    send_sub(op);
}

/* ---- keys ------------------------------------------------------------------------------------------- */

#define KEY_SHIFT 26 /* spans are of 64 MiB at most */

static uint32_t key_slot(uint64_t region, uint64_t offset) {
    return (uint32_t)((region * 0x9e3779b97f4a7c15ull ^ offset >> KEY_SHIFT) % KEYS);
}

static const struct yk_rdma_key *key_known(const struct lane *l, const struct yk_slice *s) {
    uint32_t i = key_slot(s->region, s->offset);
    return l->keys[i].region == s->region && yk_rdma_key_covers(&l->keys[i].key, s->offset, s->len)
               ? &l->keys[i].key
               : NULL;
}

static void key_keep(struct lane *l, const struct yk_slice *s, const struct yk_rdma_key *key) {
    uint32_t i = key_slot(s->region, s->offset);
    l->keys[i].region = s->region;
    l->keys[i].key = *key;
}

static int borrow(struct op *op, struct yk_rdma_key *ret_key) {
    const struct yk_slice *s = op->slice;
    return op->lane->base.xport->env->opts->any_local && (s->len >= BORROW_MIN || s->device) &&
           yk_rdma_borrow(op->lane->dev, s->local, s->len, s->op == YK_SLICE_WRITE, ret_key, &op->loan) == 0;
}

/* A region's. -YK_EAGAIN: it is a device's (or is to go there), and ours will know it soon. */
static int region_key(struct op *op, const struct yk_region *r, struct yk_rdma_key *ret_key, uint64_t *ret_at) {
    const struct yk_slice *s = op->slice;
    struct yk_rdma_dev *dev = op->lane->dev;
    struct yk_rdma_mem *m = yk_rdma_mem_of(r);
    uint64_t at = (uint64_t)(s->local - r->base);
    int rc = -YK_ENOTSUP;
    *ret_at = 0;
    if (m != NULL && op->lane->port.iwarp && s->op == YK_SLICE_READ) {
        rc = yk_rdma_sink(dev, m, at, s->len, ret_key, &op->loan);
        yk_rdma_mem_put(m);
    } else if (m != NULL) {
        op->mem = m;
        *ret_at = at;
        rc = yk_rdma_mem_key(m, dev, at, s->len, ret_key);
        if (rc < 0 && s->device && yk_rdma_mem_comes(m, dev, at, s->len))
            rc = -YK_EAGAIN;
    }
    return rc;
}

/* Of a slice's local memory, and where in the key's span it begins. -YK_ENOTSUP: no device of this lane may have it;
 * -YK_EAGAIN: not now. */
static int local_key(struct op *op, struct yk_rdma_key *ret_key, uint64_t *ret_at) {
    struct yk_registry *g = op->lane->base.xport->env->registry;
    const struct yk_slice *s = op->slice;
    struct yk_region *r = yk_registry_find(g, s->local, s->len);
    int rc;
    *ret_at = 0;
    if (r != NULL)
        rc = region_key(op, r, ret_key, ret_at);
    else if (s->device & YK_DEVICE_HERE) /* it is being unregistered, which ends this */
        rc = -YK_EAGAIN;
    else
        rc = borrow(op, ret_key) ? 0 : -YK_ENOTSUP;
    yk_registry_put(g, r);
    if (rc == 0)
        op->lkey = ret_key->lkey;
    return rc;
}

/* ---- what the stream says ------------------------------------------------------------------------------ */

static void come_up(struct lane *l) {
    l->state = UP;
    core_of(l)->lane_up(&l->base);
}

static void set_up(struct lane *l, struct op *op) {
    struct yk_rdma_offer theirs;
    struct yk_err err;
    if (op->sub.status != 0)
        fail(l, op->sub.status < 0 ? yk_peer_said(op->sub.status) : -YK_EPROTO, YK_SCOPE_LANE,
             op->sub.op == YK_SLICE_OFFER ? "the peer makes no queue pair" : "the peer says nothing of its queue pair");
    else if (op->sub.op == YK_SLICE_TAKE && l->state == SETTING) {
        if (yk_rdma_offer_decode(op->answer, &theirs, &err) < 0 || yk_qp_connect(l->qp, &theirs, l->rail.remote, &err) < 0) {
            fail(l, err.code, YK_SCOPE_LANE, err.text);
        } else if (yk_qp_is_up(l->qp)) {
            op_free(op);
            come_up(l);
            return;
        }
    }
    op_free(op);
}

static void lent(struct op *op) {
    struct lane *l = op->lane;
    struct yk_slice *s = op->slice;
    struct yk_rdma_key key;
    struct yk_err err;
    int status = op->sub.status;
    s->unsure = !(s->device & YK_DEVICE_THERE); /* of other memory it is not said whether that is for a moment only */
    if (status == -YK_ENOTSUP && op->sub.scope == YK_SCOPE_REQUEST && l->state == UP && !op->cancelled && !s->device) {
        go_stream(op);
        yk_stream_flush(l->stream);
        return;
    }
    if (status != 0) {
        finish(op, op->cancelled ? -YK_ECANCELED : status, (enum yk_scope)op->sub.scope, 0);
        return;
    }
    if (yk_rdma_key_decode(op->answer, &key, &err) < 0 || !yk_rdma_key_covers(&key, s->offset, s->len)) {
        fail(l, -YK_EPROTO, YK_SCOPE_LANE, "a key to something else");
        finish(op, -YK_EPROTO, YK_SCOPE_LANE, 0);
        return;
    }
    if (s->guard == NULL)
        key_keep(l, s, &key);
    if (l->state != UP || yk_qp_room(l->qp) == 0) {
        finish(op, -YK_EGONE, YK_SCOPE_LANE, 0); /* it is failing: what is lent goes with it */
        return;
    }
    go_read(op, &key); /* cancelled, too: it has its pin, which goes back behind it */
    flush_later(l);
}

static void sub_done(struct yk_lane *inner, struct yk_slice *sub) {
    struct lane *l = inner->core;
    struct op *op = sub->core;
    switch ((enum way)op->way) {
    case SETUP:
        set_up(l, op);
        break;
    case LEND:
        lent(op);
        break;
    case PULL:
        op->slice->unsure = !(op->slice->device & YK_DEVICE_THERE);
        if (sub->status == -YK_ENOTSUP && sub->scope == YK_SCOPE_REQUEST && l->state == UP && !op->slice->device) {
            go_stream(op);
            yk_stream_flush(l->stream);
            break;
        }
        finish(op, sub->status, (enum yk_scope)sub->scope, sub->touched);
        break;
    case STREAM:
        finish(op, sub->status, (enum yk_scope)sub->scope, sub->touched);
        break;
    default: /* GIVEBACK: that it is done is all that is of interest */
        op_free(op);
    }
}

static void read_done(void *user, uint64_t tag);
static void qp_failed(void *user, int code, const char *text);
static void qp_up(void *user);
static const struct yk_qp_events qp_events = {read_done, qp_failed, qp_up};

static void stream_up(struct yk_lane *inner) {
    struct lane *l = inner->core;
    struct yk_rdma_offer ours;
    struct yk_err err;
    l->base.trip_ns = inner->trip_ns;
    /* Making queue pairs takes many times as long as a trip: taken for one, it would let a whole transfer under way on
     * the first rail that is up. */
    l->base.greet_ns = inner->trip_ns != 0 ? inner->trip_ns : (yk_now_ns() - l->dialled_ns) / 2;
    l->base.patient = inner->patient;
    if (yk_qp_new(settings_of(l->base.xport), &l->port, l->base.xport->env->loop, &qp_events, l, &l->qp, &err) < 0) {
        fail(l, err.code, YK_SCOPE_LANE, err.text);
        return;
    }
    l->state = SETTING;
    struct op *offer = op_take(l, SETUP), *take = op_take(l, SETUP);
    yk_qp_offer(l->qp, &ours);
    yk_rdma_offer_encode(offer->answer, &ours);
    offer->sub.op = YK_SLICE_OFFER;
    offer->sub.local = (char *)offer->answer;
    offer->sub.len = YK_OFFER_BYTES;
    take->sub.op = YK_SLICE_TAKE;
    take->sub.local = (char *)take->answer;
    send_sub(offer);
    send_sub(take);
    yk_stream_flush(l->stream);
}

static void stream_down(struct yk_lane *inner, int code, enum yk_scope scope, const char *text) {
    struct lane *l = inner->core;
    fail(l, code, scope, text);
    tell(l);
}

static const struct yk_shard_events stream_events = {sub_done, stream_up, stream_down};

/* ---- what the queue pair says -------------------------------------------------------------------------- */

static void give_back(struct lane *l, uint64_t number) {
    struct op *op = op_take(l, GIVEBACK);
    if (op == NULL || yk_stream_room(l->stream) == 0) {
        if (op != NULL)
            op_free(op);
        fail(l, -YK_EPROTO, YK_SCOPE_LANE, "the peer does not take back what it lent");
        return;
    }
    op->sub.op = YK_SLICE_GIVEBACK;
    op->sub.priv[1] = number;
    send_sub(op);
    flush_later(l);
}

static void read_done(void *user, uint64_t tag) {
    struct lane *l = user;
    struct op *op = &l->ops[tag];
    if (op->slice->guard != NULL)
        give_back(l, op->number);
    if (op->cancelled)
        finish(op, -YK_ECANCELED, YK_SCOPE_REQUEST, 0);
    else
        finish(op, 0, YK_SCOPE_NONE, 0);
}

static void qp_failed(void *user, int code, const char *text) {
    struct lane *l = user;
    fail(l, code, YK_SCOPE_LANE, text);
    tell(l);
}

static void qp_up(void *user) {
    struct lane *l = user;
    if (l->state == SETTING)
        come_up(l);
}

/* ---- slices ------------------------------------------------------------------------------------------- */

static uint32_t rdma_room(const struct yk_lane *lane) {
    const struct lane *l = lane_of(lane);
    if (l->state != UP)
        return 0;
    uint32_t most = settings_of(lane->xport)->depth; /* each may come to be a read; it has room for that then */
    most = most < SLICES_MAX ? most : SLICES_MAX;
    uint32_t n = most - l->count, stream = yk_stream_room(l->stream), reads = yk_qp_room(l->qp);
    n = stream < n ? stream : n;
    return reads < n ? reads : n;
}

static void rdma_post(struct yk_lane *lane, struct yk_slice *s) {
    struct lane *l = lane_of(lane);
    struct op *op = op_take(l, STREAM);
    struct yk_rdma_key mine;
    uint64_t at;
    op->slice = s;
    l->count++;
    s->priv[0] = (uint64_t)(op - l->ops);
    s->status = 0;
    s->scope = YK_SCOPE_NONE;
    s->touched = 0;
    /* Over iWARP each read has its sink registered. */
    int small = s->len < SMALL && (l->port.iwarp || s->op == YK_SLICE_WRITE || s->guard != NULL);
    int moves = s->op == YK_SLICE_WRITE || /* what the target's queue pair takes it says */
                (s->op == YK_SLICE_READ && yk_qp_takes(l->qp, s->len, s->device & YK_DEVICE_HERE));
    int rc = moves && (!small || s->device) ? local_key(op, &mine, &at) : -YK_ENOTSUP;
    if (rc < 0 && s->device) {
        refuse(op, rc);
        return;
    }
    if (rc < 0) {
        go_stream(op);
        return;
    }
    const struct yk_rdma_key *key = s->guard == NULL ? key_known(l, s) : NULL;
    if (s->op == YK_SLICE_WRITE)
        go_pull(op, &mine, at);
    else if (key != NULL)
        go_read(op, key);
    else
        go_lend(op);
}

static void rdma_flush(struct yk_lane *lane) {
    struct lane *l = lane_of(lane);
    if (l->state != UP)
        return;
    yk_qp_flush(l->qp);
    yk_stream_flush(l->stream);
}

/* What a device has been told cannot be taken back: it ends when it has ended, or with the lane. */
static void rdma_cancel(struct yk_lane *lane, struct yk_slice *s) {
    struct lane *l = lane_of(lane);
    struct op *op = &l->ops[s->priv[0]];
    if (op->slice != s || op->way == FREE)
        return;
    if (op->way == REFUSED) {
        l->refused--;
        finish(op, -YK_ECANCELED, YK_SCOPE_REQUEST, 0);
    } else if (op->way == STREAM) {
        yk_stream_cancel(l->stream, &op->sub);
    } else if (op->way != PULL) {
        op->cancelled = 1;
    }
}

static uint64_t rdma_moved(struct yk_lane *lane) {
    struct lane *l = lane_of(lane);
    return (l->stream != NULL ? yk_stream_moved(l->stream) : 0) + (l->qp != NULL ? yk_qp_bytes(l->qp) : 0);
}

/* By queue pairs: what passes over the stream would make a network look well that drops all of RDMA's packets. */
static uint64_t rdma_proven(struct yk_lane *lane) {
    struct lane *l = lane_of(lane);
    return l->pulled + (l->qp != NULL ? yk_qp_bytes(l->qp) : 0);
}

static uint64_t rdma_lost(struct yk_lane *lane) {
    const struct lane *l = lane_of(lane);
    return l->stream != NULL ? yk_stream_lost(l->stream) : 0;
}

static int rdma_progress(struct yk_lane *lane, uint64_t bytes) {
    (void)lane, (void)bytes;
    return 0; /* its descriptors are in the loop */
}

static void rdma_look(struct yk_lane *lane) {
    struct lane *l = lane_of(lane);
    if (l->state != UP)
        return;
    yk_stream_look(l->stream);
    if (l->state == UP) /* which that may have ended */
        yk_qp_look(l->qp);
    if (l->later.slot != 0)
        on_later(&l->later);
}

/* ---- lanes --------------------------------------------------------------------------------------------- */

/* The device first: from then on it touches nothing. */
static void rdma_disconnect(struct yk_lane *lane) {
    struct lane *l = lane_of(lane);
    l->closing = 1;
    l->state = FAILED;
    (void)yk_loop_timer(l->base.xport->env->loop, &l->timer, 0);
    (void)yk_loop_timer(l->base.xport->env->loop, &l->later, 0);
    yk_qp_free(l->qp);
    l->qp = NULL;
    for (uint32_t i = 0; i < OPS; i++)
        if (l->ops[i].way == READ || l->ops[i].way == REFUSED)
            finish(&l->ops[i], l->fail.code < 0 ? l->fail.code : -YK_EGONE, YK_SCOPE_LANE, 0);
    yk_stream_free(l->stream);
    yk_rdma_dev_put(l->dev);
    free(l);
}

static struct lane *lane_new(struct yk_xport *xport) {
    struct lane *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->base = l->inner = (struct yk_lane){.ops = xport->ops, .xport = xport};
    l->inner.core = l;
    l->timer = (struct yk_timer){.fn = on_timer, .user = l};
    l->later = (struct yk_timer){.fn = on_later, .user = l};
    for (uint32_t i = 0; i < OPS; i++) {
        l->ops[i].lane = l;
        l->ops[i].next = l->free_ops;
        l->free_ops = &l->ops[i];
    }
    return l;
}

static int dial(struct lane *l, struct yk_err *err) {
    struct xport *x = (struct xport *)(void *)l->base.xport;
    struct yk_stream_opts o = {.lane = &l->inner, .env = &x->env, .peer = l->peer, .bulk = l->bulk};
    l->state = CONNECTING;
    l->dialled_ns = yk_now_ns();
    int rc = o.fd = yk_rail_dial(&l->rail, err);
    if (rc < 0)
        return rc;
    rc = yk_stream_new(&o, &l->stream, err);
    if (rc < 0)
        close(o.fd);
    return rc;
}

/* 0: it dials, or will when the device is open. */
static int look(struct lane *l, struct yk_err *err) {
    struct yk_loop *loop = l->base.xport->env->loop;
    int rc = yk_rdma_dev_soon(l->port.device, l->base.xport->env->opts, &l->dev, err);
    if (rc == 0)
        return dial(l, err);
    if (rc != -YK_EAGAIN)
        return rc;
    l->look_ns = l->look_ns == 0 ? OPEN_NS : l->look_ns < OPEN_MAX_NS ? 2 * l->look_ns : OPEN_MAX_NS;
    rc = yk_loop_timer(loop, &l->timer, yk_now_ns() + l->look_ns);
    return rc < 0 ? yk_err_set(err, rc, "no memory for a timer") : 0;
}

static void open_or_wait(struct lane *l) {
    struct yk_err err;
    if (look(l, &err) == 0)
        return;
    fail(l, err.code, YK_SCOPE_LANE, err.text);
    tell(l);
}

static int rdma_connect(struct yk_xport *xport, const struct yk_peer_info *peer, const struct yk_rail_desc *rail,
                        int bulk, struct yk_lane **ret_lane, struct yk_err *err) {
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    const struct yk_rdma_port *port =
        yk_rdma_port_of(ports, yk_rdma_ports_now(settings_of(xport), ports, YK_RDMA_PORTS_MAX), rail->local);
    if (port == NULL)
        return yk_err_set(err, -YK_EGONE, "no active RDMA port has the address %s", rail->local);
    struct lane *l = lane_new(xport);
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    int rc = getrandom(&l->base.id, sizeof(l->base.id), 0) == (ssize_t)sizeof(l->base.id)
                 ? 0
                 : yk_err_set(err, -YK_EIO, "no random number for a lane");
    l->inner.id = l->base.id;
    l->port = *port;
    l->peer = peer;
    l->rail = *rail;
    l->bulk = bulk;
    if (rc == 0)
        rc = look(l, err);
    if (rc < 0) {
        yk_rdma_dev_put(l->dev);
        free(l);
        return rc;
    }
    *ret_lane = &l->base;
    return 0;
}

/* ---- the transport -------------------------------------------------------------------------------------- */

static uint32_t rdma_rails(struct yk_xport *xport, const struct yk_peer_info *peer, struct yk_rail_desc *ret_rails,
                           uint32_t cap) {
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    char boot[YK_BOOT_ID_BYTES];
    uint32_t n = yk_rdma_ports_now(settings_of(xport), ports, YK_RDMA_PORTS_MAX);
    yk_rdma_gone_forget();
    int same_host = yk_host_boot_id(boot) && strcmp(boot, peer->boot_id) == 0;
    return yk_rdma_rails_of(ports, n, xport->env->rails, peer, same_host, ret_rails, cap);
}

static void rdma_close(struct yk_xport *xport) {
    free(xport);
}

static int rdma_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    struct xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the rdma transport");
    int rc = yk_rdma_settings_parse(env->opts->rdma, &x->settings, err);
    if (rc < 0) {
        free(x);
        return rc;
    }
    x->base.ops = &yk_xport_rdma;
    x->base.env = env;
    x->env = *env;
    x->env.events = &stream_events;
    *ret_xport = &x->base;
    return 0;
}

const struct yk_xport_ops yk_xport_rdma = {
    .name = "rdma",
    .bit = YK_XFER_RDMA,
    .open = rdma_open,
    .close = rdma_close,
    .reg = yk_rdma_reg,
    .ready = yk_rdma_ready,
    .unready = yk_rdma_unready,
    .rails = rdma_rails,
    .connect = rdma_connect,
    .disconnect = rdma_disconnect,
    .room = rdma_room,
    .post = rdma_post,
    .flush = rdma_flush,
    .cancel = rdma_cancel,
    .moved = rdma_moved,
    .proven = rdma_proven,
    .lost = rdma_lost,
    .progress = rdma_progress,
    .look = rdma_look,
    .devices = yk_rdma_devices,
};
