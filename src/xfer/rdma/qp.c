/* SPDX-License-Identifier: Apache-2.0
 *
 * A queue pair that reads: RDMA READs out, their completions in. Both ends of a lane have one.
 *
 *   made --offer, connect--> ready --error, deadline--> failed         free: from any of them
 *      \--connect (iWARP)--> calling --its connection--> /
 *
 * iWARP's queue pairs are connected by cm.c, some time after yk_qp_connect. Who called must send first: it reads the
 * token that the other end shows, and is up when it has it; so each knows that the other is who its stream says.
 *
 * Reads complete in the order in which they were posted, so a ring of tags is all the state there is, and not
 * every one needs a completion of its own: of a list that is posted at once, small ones but the last are silent,
 * and the next completion speaks for them. A list is one call of the driver, one doorbell.
 *
 * Its completion queue has a channel, a descriptor in the loop: who waits sleeps there. It is armed again when
 * it has fired and something is under way. Who polls looks at the queue itself, which costs no system call.
 *
 * A read that does not complete (a driver may forget it: rxe does when its link goes down) fails the queue pair
 * when none has for STALL_MS. The end of a queue pair is the error state, a short wait for what is flushed (a
 * driver may take seconds to destroy one that is busy), and its destruction, which is what counts: after it
 * the device touches no memory.
 *
 * Thread: the loop's.
 */
#include "device_priv.h"
#include "marks.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>

#define LIST_MAX  16u
#define SMALL     (16u << 10) /* larger ones always have a completion: they are worth one */
#define POLL_MAX  32
#define STALL_MS  3000u       /* longer than the time-outs below add up to */
#define DRAIN_NS  (20 * YK_NS_PER_MS)
#define TIMEOUT   16          /* 4.096 us << 16 = 268 ms until a packet is sent again: stall_ms is quicker where
                                 there is another rail, and a busy peer is not a broken path */
#define RETRIES   6           /* 7 would be for ever with some drivers */
#define HOPS      64
#define SHOWN     4096u       /* bytes that a token stands in: a page, which nothing shares */
#define SHOWN_TAG UINT64_MAX

enum state { MADE, CALLING, READY, FAILED };

struct yk_qp {
    struct yk_rdma_dev *dev;
    struct yk_rdma_port port;
    uint32_t depth; /* of its queues, and reads under way: a part of the ring */
    uint8_t traffic_class, service_level;
    struct yk_loop *loop;
    const struct yk_qp_events *events;
    void *user;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_qp *qp;
    struct yk_watch watch;
    struct yk_timer timer; /* READY: the deadline; FAILED: it is to be told */
    uint8_t state;         /* enum state */
    uint8_t watched, armed, told;
    uint8_t mtu;
    uint8_t up;            /* READY for others, too */
    struct yk_cm *cm;      /* iWARP's connection; NULL: not asked for */
    uint8_t *shown;        /* the page with the token (the target's), or where it is read to */
    struct ibv_mr *shown_mr;
    struct yk_rdma_offer call; /* what the target says, at both ends */
    uint8_t called;        /* this end dials */
    uint8_t ever_ready;
    uint32_t psn;
    uint32_t head, tail;   /* of tags; head: the oldest that has not completed */
    uint32_t listed;       /* of the last ones, not posted yet */
    uint64_t moved_ns;     /* when one completed, or the first was posted */
    uint64_t bytes;
    int code;
    char why[YK_ERR_TEXT_MAX];
    uint64_t last_mark;
    struct {
        uint64_t tag;
        uint32_t len;
        struct yk_mark mark; /* of an emulated device */
    } ring[YK_RDMA_DEPTH];
    struct ibv_send_wr wr[LIST_MAX];
    struct ibv_sge sge[LIST_MAX];
};

static void count(uint64_t *at, uint64_t n) {
    (void)__atomic_fetch_add(at, n, __ATOMIC_RELAXED);
}

static void fail(struct yk_qp *q, int code, const char *text) {
    if (q->state == FAILED)
        return;
    q->state = FAILED;
    q->code = code;
    snprintf(q->why, sizeof(q->why), "%s: %s", q->port.device, text);
    (void)yk_loop_timer(q->loop, &q->timer, 1);
}

/* ---- completions ------------------------------------------------------------------------------------ */

static void token_is_here(struct yk_qp *q) {
    if (memcmp(q->shown, q->call.token, sizeof(q->call.token)) != 0) {
        fail(q, -YK_EPROTO, "its connection leads to another queue pair");
        return;
    }
    q->up = 1;
    if (q->events->up != NULL)
        q->events->up(q->user);
}

/* All up to this one are done. */
static void completed(struct yk_qp *q, uint32_t upto) {
    uint64_t had = q->bytes;
    q->moved_ns = yk_now_ns();
    while (q->state == READY && (int32_t)(upto - q->head) >= 0 && q->head != q->tail) {
        uint32_t i = q->head % YK_RDMA_DEPTH;
        if (yk_mark_stands(&q->ring[i].mark)) {
            count(&q->dev->counts->untrue, 1);
            fail(q, -YK_EIO, "it says that a read is complete whose bytes have not come");
            break;
        }
        q->head++;
        q->bytes += q->ring[i].len;
        if (q->ring[i].tag == SHOWN_TAG)
            token_is_here(q);
        else
            q->events->read(q->user, q->ring[i].tag);
    }
    count(&q->dev->counts->bytes, q->bytes - had);
}

static void poll_queue(struct yk_qp *q) {
    struct ibv_wc wc[POLL_MAX];
    int n;
    do {
        n = ibv_poll_cq(q->cq, POLL_MAX, wc);
        if (n < 0)
            fail(q, -YK_EIO, "its completion queue cannot be read");
        if (n > 0)
            count(&q->dev->counts->completions, (uint64_t)n);
        for (int i = 0; i < n && q->state == READY; i++) {
            if (wc[i].status == IBV_WC_SUCCESS)
                completed(q, (uint32_t)wc[i].wr_id);
            else
                fail(q, wc[i].status == IBV_WC_RETRY_EXC_ERR ? -YK_ETIMEDOUT : -YK_EIO,
                     q->dev->v->wc_status_str(wc[i].status));
        }
    } while (n == POLL_MAX && q->state == READY);
}

/* Before anything is posted, and before the look that follows an event: what completes from here on fires. So
 * nothing needs to be looked for behind it, and no event of ours comes from within flush. */
static void arm(struct yk_qp *q) {
    if (q->armed || q->state != READY || q->head == q->tail)
        return;
    q->armed = 1;
    count(&q->dev->counts->arms, 1);
    if (ibv_req_notify_cq(q->cq, 0) != 0)
        fail(q, -YK_EIO, "its completion queue cannot be armed");
}

void yk_qp_look(struct yk_qp *q) {
    if (q->state == READY && q->head != q->tail)
        poll_queue(q);
}

static void on_channel(struct yk_watch *w, uint32_t events) {
    struct yk_qp *q = w->user;
    struct ibv_cq *cq;
    void *user;
    (void)events;
    while (q->dev->v->get_cq_event(q->channel, &cq, &user) == 0) {
        q->dev->v->ack_cq_events(cq, 1);
        count(&q->dev->counts->wakeups, 1);
        q->armed = 0;
    }
    arm(q);
    yk_qp_look(q);
    yk_qp_flush(q); /* what its completions led to */
}

static void set_deadline(struct yk_qp *q) {
    if (q->timer.due_ns == 0 && q->state == READY)
        (void)yk_loop_timer(q->loop, &q->timer, yk_now_ns() + STALL_MS * YK_NS_PER_MS / 4);
}

static void on_timer(struct yk_timer *t) {
    struct yk_qp *q = t->user;
    if (q->state == READY && q->head != q->tail) {
        poll_queue(q);
        if (q->state == READY && q->head != q->tail && yk_now_ns() - q->moved_ns >= STALL_MS * YK_NS_PER_MS)
            fail(q, -YK_ETIMEDOUT, "a read did not complete");
        else if (q->state == READY && q->head != q->tail)
            set_deadline(q);
    }
    if (q->state == FAILED && !q->told) {
        (void)yk_loop_timer(q->loop, &q->timer, 0);
        q->told = 1;
        q->events->failed(q->user, q->code, q->why);
    }
}

/* ---- reads ------------------------------------------------------------------------------------------ */

uint32_t yk_qp_room(const struct yk_qp *q) {
    return q->state == READY && q->up ? q->depth - (q->tail - q->head) : 0;
}

int yk_qp_takes(const struct yk_qp *q, uint64_t len, int device) {
    return !q->dev->marks || (!device && len >= YK_MARK_BYTES);
}

/* What goes to addr: all marks of a queue pair differ, and no peer can know one. */
static struct yk_mark next_mark(struct yk_qp *q, char *addr, uint32_t len) {
    if (!q->dev->marks || len < YK_MARK_BYTES)
        return (struct yk_mark){.at = NULL};
    q->last_mark = q->last_mark * 6364136223846793005ull + 1442695040888963407ull;
    return (struct yk_mark){.at = addr + len - YK_MARK_BYTES, .value = q->last_mark};
}

static void put_marks(struct yk_qp *q, uint32_t first, uint32_t n) {
    struct yk_mark marks[LIST_MAX];
    if (!q->dev->marks)
        return;
    for (uint32_t i = 0; i < n; i++)
        marks[i] = q->ring[(first + i) % YK_RDMA_DEPTH].mark;
    yk_marks_put(marks, n);
}

void yk_qp_read(struct yk_qp *q, void *local, uint32_t lkey, uint32_t len, uint64_t addr, uint32_t rkey, int device,
                uint64_t tag) {
    uint32_t i = q->listed++;
    if (q->head == q->tail)
        q->moved_ns = yk_now_ns();
    q->ring[q->tail % YK_RDMA_DEPTH].tag = tag;
    q->ring[q->tail % YK_RDMA_DEPTH].len = len;
    q->ring[q->tail % YK_RDMA_DEPTH].mark = next_mark(q, local, device ? 0 : len); /* which nobody touches */
    q->sge[i] = (struct ibv_sge){.addr = (uint64_t)(uintptr_t)local, .length = len, .lkey = lkey};
    memset(&q->wr[i], 0, sizeof(q->wr[i]));
    q->wr[i].wr_id = q->tail++;
    q->wr[i].sg_list = &q->sge[i];
    q->wr[i].num_sge = 1;
    q->wr[i].opcode = IBV_WR_RDMA_READ;
    q->wr[i].send_flags = len > SMALL ? IBV_SEND_SIGNALED : 0;
    q->wr[i].wr.rdma.remote_addr = addr;
    q->wr[i].wr.rdma.rkey = rkey;
    if (q->listed == LIST_MAX)
        yk_qp_flush(q);
}

void yk_qp_flush(struct yk_qp *q) {
    struct ibv_send_wr *bad;
    uint32_t n = q->listed, signalled = 1;
    if (n == 0)
        return;
    q->listed = 0;
    for (uint32_t i = 0; i + 1 < n; i++) {
        q->wr[i].next = &q->wr[i + 1];
        signalled += q->wr[i].send_flags != 0;
    }
    q->wr[n - 1].send_flags = IBV_SEND_SIGNALED;
    count(&q->dev->counts->requests, n);
    count(&q->dev->counts->signalled, signalled);
    count(&q->dev->counts->doorbells, 1);
    arm(q);
    put_marks(q, q->tail - n, n);
    if (q->state == READY && ibv_post_send(q->qp, q->wr, &bad) != 0)
        fail(q, -YK_EIO, "a read cannot be posted");
    set_deadline(q);
}

uint64_t yk_qp_bytes(const struct yk_qp *q) {
    return q->bytes;
}

struct yk_rdma_dev *yk_qp_dev(const struct yk_qp *q) {
    return q->dev;
}

/* ---- life ------------------------------------------------------------------------------------------- */

/* Nothing is posted any more; what was is flushed, or not. */
static void drain(struct yk_qp *q) {
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
    struct ibv_wc wc[POLL_MAX];
    uint64_t until = yk_now_ns() + DRAIN_NS;
    uint32_t posted = q->tail - q->listed;
    if (q->head == posted || q->dev->v->modify_qp(q->qp, &attr, IBV_QP_STATE) != 0)
        return;
    while (yk_now_ns() < until) {
        int n = ibv_poll_cq(q->cq, POLL_MAX, wc);
        if (n < 0 || (n > 0 && (uint32_t)wc[n - 1].wr_id == posted - 1))
            return;
    }
}

static void destroy(struct yk_qp *q) {
    if (q->qp != NULL) {
        drain(q);
        q->dev->v->destroy_qp(q->qp);
    }
    if (q->cq != NULL)
        q->dev->v->destroy_cq(q->cq);
    if (q->channel != NULL)
        q->dev->v->destroy_comp_channel(q->channel);
    if (q->shown_mr != NULL)
        q->dev->v->dereg_mr(q->shown_mr);
    if (q->shown != NULL)
        munmap(q->shown, SHOWN);
    yk_rdma_dev_put(q->dev);
    free(q);
}

static void let_go(void *user) {
    destroy(user);
}

void yk_qp_free(struct yk_qp *q) {
    if (q == NULL)
        return;
    (void)yk_loop_timer(q->loop, &q->timer, 0);
    if (q->watched)
        yk_loop_unwatch(q->loop, &q->watch);
    if (q->cm != NULL && !q->ever_ready) { /* the kernel may hold it for a while: nothing was read over it */
        yk_cm_end(q->cm, let_go, q);
        return;
    }
    struct yk_cm *cm = q->cm;
    destroy(q);
    yk_cm_end(cm, NULL, NULL);
}

/* Of the port, as it is now. */
static int active_mtu(struct yk_qp *q) {
    struct ibv_port_attr attr;
    memset(&attr, 0, sizeof(attr));
    if (q->dev->v->query_port(q->dev->ctx, q->port.port, (struct _compat_ibv_port_attr *)(void *)&attr) != 0)
        return 0;
    return attr.state == IBV_PORT_ACTIVE ? (int)attr.active_mtu : 0;
}

static int make(struct yk_qp *q, struct yk_err *err) {
    const struct yk_verbs *v = q->dev->v;
    struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC,
                                    .cap = {.max_send_wr = q->depth,
                                            .max_recv_wr = 1,
                                            .max_send_sge = 1,
                                            .max_recv_sge = 1}};
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = q->port.port,
                               .qp_access_flags = IBV_ACCESS_REMOTE_READ};
    int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
    if (q->port.iwarp) { /* to some, answers to reads are writes by the peer */
        attr.qp_access_flags |= IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
        mask = IBV_QP_STATE | IBV_QP_ACCESS_FLAGS;
    }
    int mtu = active_mtu(q);
    if (q->depth > q->dev->depth)
        return yk_err_set(err, -YK_ENOTSUP, "%s has queues of %u entries, not of %u: set depth", q->port.device,
                          q->dev->depth, q->depth);
    if (mtu == 0)
        return yk_err_set(err, -YK_EGONE, "port %u of %s is not active", q->port.port, q->port.device);
    q->mtu = (uint8_t)mtu;
    q->channel = v->create_comp_channel(q->dev->ctx);
    if (q->channel != NULL)
        q->cq = v->create_cq(q->dev->ctx, (int)q->depth, NULL, q->channel, 0);
    init.send_cq = init.recv_cq = q->cq;
    if (q->cq != NULL)
        q->qp = v->create_qp(q->dev->pd, &init);
    if (q->qp == NULL)
        return yk_err_set(err, -YK_ELIMIT, "%s gives no queue pair: %s", q->port.device, strerror(errno));
    if (v->modify_qp(q->qp, &attr, mask) != 0)
        return yk_err_set(err, -YK_EIO, "%s: a queue pair cannot be set up: %s", q->port.device, strerror(errno));
    int flags = fcntl(q->channel->fd, F_GETFL);
    if (flags < 0 || fcntl(q->channel->fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return yk_err_set(err, -YK_EIO, "%s: its completions cannot be waited for", q->port.device);
    q->watch = (struct yk_watch){.fd = q->channel->fd, .events = EPOLLIN, .fn = on_channel, .user = q};
    int rc = yk_loop_watch(q->loop, &q->watch);
    q->watched = rc == 0;
    return rc < 0 ? yk_err_set(err, rc, "%s: its completions cannot be waited for", q->port.device) : 0;
}

int yk_qp_new(const struct yk_rdma_settings *settings, const struct yk_rdma_port *port, struct yk_loop *loop,
              const struct yk_qp_events *events, void *user, struct yk_qp **ret_qp, struct yk_err *err) {
    struct yk_qp *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a queue pair");
    q->port = *port;
    q->depth = settings->depth;
    q->traffic_class = (uint8_t)settings->traffic_class;
    q->service_level = (uint8_t)settings->service_level;
    q->loop = loop;
    q->events = events;
    q->user = user;
    q->timer = (struct yk_timer){.fn = on_timer, .user = q};
    if (getrandom(&q->psn, sizeof(q->psn), GRND_NONBLOCK) != (ssize_t)sizeof(q->psn))
        q->psn = (uint32_t)yk_now_ns();
    q->psn &= 0xffffffu;
    if (getrandom(&q->last_mark, sizeof(q->last_mark), GRND_NONBLOCK) != (ssize_t)sizeof(q->last_mark))
        q->last_mark = yk_now_ns();
    q->dev = yk_rdma_dev_ref(port->device);
    int rc = q->dev != NULL ? make(q, err) : yk_err_set(err, -YK_EGONE, "%s is not open", port->device);
    if (rc < 0) {
        if (q->dev == NULL)
            free(q);
        else
            yk_qp_free(q);
        return rc;
    }
    *ret_qp = q;
    return 0;
}

void yk_qp_offer(const struct yk_qp *q, struct yk_rdma_offer *ret_offer) {
    if (q->port.iwarp) {
        *ret_offer = q->call;
        ret_offer->iwarp = 1;
        ret_offer->reads = (uint8_t)q->dev->reads;
        return;
    }
    *ret_offer = (struct yk_rdma_offer){.mtu = q->mtu,
                                        .reads = (uint8_t)q->dev->reads,
                                        .qpn = q->qp->qp_num,
                                        .psn = q->psn,
                                        .lid = q->port.lid};
    memcpy(ret_offer->gid, q->port.gid, sizeof(ret_offer->gid));
}

static uint8_t lesser(uint32_t a, uint32_t b) {
    return (uint8_t)(a < b ? a : b);
}

/* ---- iWARP ------------------------------------------------------------------------------------------ */

static void on_up(void *user) {
    struct yk_qp *q = user;
    if (q->state != CALLING)
        return;
    q->state = READY;
    q->ever_ready = 1;
    if (q->called) {
        yk_qp_read(q, q->shown, q->shown_mr->lkey, sizeof(q->call.token), q->call.addr, q->call.rkey, 0, SHOWN_TAG);
        yk_qp_flush(q);
    } else {
        q->up = 1;
    }
}

static void on_broken(void *user, int code, const char *text) {
    fail(user, code, text);
}

static const struct yk_cm_events cm_events = {on_up, on_broken};

static int show(struct yk_qp *q, int access, struct yk_err *err) {
    void *page = mmap(NULL, SHOWN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a token");
    q->shown = page;
    q->shown_mr = q->dev->v->reg_mr(q->dev->pd, page, sizeof(q->call.token), access);
    return q->shown_mr != NULL ? 0 : yk_err_set(err, -YK_ELIMIT, "%s: a token's memory cannot be registered: %s",
                                                q->port.device, strerror(errno));
}

static int dial(struct yk_qp *q, const struct yk_cm_opts *o, const struct yk_rdma_offer *theirs, const char *remote,
                struct yk_err *err) {
    q->call = *theirs;
    q->called = 1;
    int rc = show(q, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE, err);
    return rc < 0 ? rc : yk_cm_dial(o, remote, theirs->port, &q->cm, err);
}

static int await(struct yk_qp *q, const struct yk_cm_opts *o, struct yk_err *err) {
    if (getrandom(q->call.token, sizeof(q->call.token), 0) != (ssize_t)sizeof(q->call.token))
        return yk_err_set(err, -YK_EIO, "no random number for a token");
    int rc = show(q, IBV_ACCESS_REMOTE_READ, err);
    if (rc < 0)
        return rc;
    memcpy(q->shown, q->call.token, sizeof(q->call.token));
    q->call.addr = (uint64_t)(uintptr_t)q->shown;
    q->call.rkey = q->shown_mr->rkey;
    return yk_cm_await(o, &q->call.port, &q->cm, err);
}

static int connect_iwarp(struct yk_qp *q, const struct yk_rdma_offer *theirs, const char *remote, struct yk_err *err) {
    struct yk_cm_opts o = {.loop = q->loop,
                           .events = &cm_events,
                           .user = q,
                           .device = q->port.device,
                           .host = q->port.host,
                           .qpn = q->qp->qp_num,
                           .answers = (uint8_t)q->dev->reads,
                           .asks = lesser(q->dev->reads, theirs->reads),
                           .traffic_class = q->traffic_class,
                           .token = q->call.token};
    if ((theirs->port != 0) != (remote != NULL))
        return yk_err_set(err, -YK_EPROTO, "the wrong end of an iWARP connection");
    q->state = CALLING;
    return remote != NULL ? dial(q, &o, theirs, remote, err) : await(q, &o, err);
}

void yk_qp_catch_up(struct yk_qp *q) {
    if (q->state == CALLING && q->cm != NULL)
        yk_cm_look(q->cm);
}

int yk_qp_is_up(const struct yk_qp *q) {
    return q->up;
}

/* ---- all -------------------------------------------------------------------------------------------- */

int yk_qp_connect(struct yk_qp *q, const struct yk_rdma_offer *o, const char *remote, struct yk_err *err) {
    if (q->port.iwarp != o->iwarp)
        return yk_err_set(err, -YK_ENOTSUP, "%s: the peer's port is%s of iWARP", q->port.device,
                          o->iwarp ? "" : " not");
    if (q->port.iwarp)
        return connect_iwarp(q, o, remote, err);
    struct ibv_qp_attr to = {.qp_state = IBV_QPS_RTR,
                             .path_mtu = (enum ibv_mtu)lesser(q->mtu, o->mtu),
                             .dest_qp_num = o->qpn,
                             .rq_psn = o->psn,
                             .max_dest_rd_atomic = (uint8_t)q->dev->reads,
                             .min_rnr_timer = 12,
                             .ah_attr = {.dlid = o->lid,
                                         .sl = q->service_level,
                                         .is_global = 1,
                                         .port_num = q->port.port,
                                         .grh = {.sgid_index = (uint8_t)q->port.gid_index,
                                                 .hop_limit = HOPS,
                                                 .traffic_class = q->traffic_class}}};
    struct ibv_qp_attr from = {.qp_state = IBV_QPS_RTS,
                               .sq_psn = q->psn,
                               .timeout = TIMEOUT,
                               .retry_cnt = RETRIES,
                               .rnr_retry = RETRIES,
                               .max_rd_atomic = lesser(q->dev->reads, o->reads)};
    memcpy(to.ah_attr.grh.dgid.raw, o->gid, sizeof(o->gid));
    if (q->dev->v->modify_qp(q->qp, &to,
                             IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                 IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER) != 0 ||
        q->dev->v->modify_qp(q->qp, &from,
                             IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                                 IBV_QP_MAX_QP_RD_ATOMIC) != 0)
        return yk_err_set(err, -YK_EIO, "%s: no way to the peer's queue pair: %s", q->port.device, strerror(errno));
    q->state = READY;
    q->ever_ready = 1;
    q->up = 1;
    return 0;
}
