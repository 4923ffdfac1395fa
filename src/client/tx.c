/* SPDX-License-Identifier: Apache-2.0
 *
 * Sending: what is queued becomes frames, many operations in one, many frames in one system call.
 *
 * Frames are encoded under the lock, at the moment when the socket is free, so that whatever queued
 * up meanwhile shares them: threads that commit at the same time cost one system call. The bytes are
 * sent without the lock and never waited for inside send; a full socket leaves the rest in tx, where
 * the next turn of any thread goes on. Payload of puts through the socket is sent from the caller's
 * memory, behind the head of its frame.
 *
 * Threads: any, under the lock; one at a time sends (tx.busy).
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "base/ready.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Room that the next frame must find: no frame is longer (items of 650 bytes at most, calls). */
#define FRAME_ROOM  (100u << 10)
#define COMMITS_MAX 64u /* and as many places that come back with the reply */

_Static_assert(YK_FRAME_HDR + 64u + YK_FRAME_ITEMS * 664u <= FRAME_ROOM, "a frame fits");
_Static_assert(YK_FRAME_HDR + YK_CALL_BYTES <= FRAME_ROOM, "a call fits");

/* ---- requests --------------------------------------------------------------------------------------- */

#define REQ_INDEX_BITS 20u

struct yk_req *yk_req_new(yk_client *c, unsigned op) {
    struct yk_req *req = c->req_free;
    if (req != NULL)
        c->req_free = req->next;
    else if (c->req_top < c->req_count)
        req = &c->reqs[c->req_top++];
    else
        return NULL;
    uint64_t index = (uint64_t)(req - c->reqs);
    yk_list_init(&req->recs);
    req->id = ++c->next_id << REQ_INDEX_BITS | index;
    req->op = (uint8_t)op;
    req->call = NULL;
    req->ahead = req->items = 0;
    req->ahead_len = 0;
    req->patient = 0;
    c->gets_sent += op == YK_MSG_GET;
    return req;
}

struct yk_req *yk_req_find(yk_client *c, uint64_t id) {
    uint64_t index = id & ((1u << REQ_INDEX_BITS) - 1u);
    return index < c->req_top && id != 0 && c->reqs[index].id == id ? &c->reqs[index] : NULL;
}

void yk_req_free(yk_client *c, struct yk_req *req) {
    c->gets_sent -= req->op == YK_MSG_GET;
    req->id = 0;
    req->next = c->req_free;
    c->req_free = req;
}

/* ---- scatter lists ------------------------------------------------------------------------------------ */

void yk_cursor_init(struct yk_cursor *cur, const struct iovec *iov, int count, uint64_t skip) {
    *cur = (struct yk_cursor){iov, count, 0};
    yk_cursor_advance(cur, skip);
}

int yk_cursor_peek(const struct yk_cursor *cur, uint64_t bytes, struct iovec *ret_iov, int max) {
    int n = 0;
    size_t at = cur->at;
    for (int i = 0; i < cur->count && n < max && bytes > 0; i++, at = 0) {
        size_t len = cur->iov[i].iov_len - at;
        if (len == 0)
            continue;
        len = len < bytes ? len : (size_t)bytes;
        ret_iov[n++] = (struct iovec){(char *)cur->iov[i].iov_base + at, len};
        bytes -= len;
    }
    return n;
}

void yk_cursor_advance(struct yk_cursor *cur, uint64_t bytes) {
    while (cur->count > 0) {
        size_t len = cur->iov->iov_len - cur->at;
        if (bytes < len) {
            cur->at += (size_t)bytes;
            return;
        }
        bytes -= len;
        cur->iov++;
        cur->count--;
        cur->at = 0;
    }
}

/* ---- frames ------------------------------------------------------------------------------------------- */

static void frame_begin(yk_client *c, struct yk_wr *w) {
    yk_wr_init(w, c->tx.buf + c->tx.len + YK_FRAME_HDR, YK_TX_BYTES - c->tx.len - YK_FRAME_HDR);
}

/* payload: bytes of the body that follow from elsewhere. */
static void frame_end(yk_client *c, const struct yk_wr *w, unsigned op, uint64_t id,
                      uint64_t payload) {
    struct yk_frame f = {(uint32_t)(yk_wr_len(w) + payload), (uint8_t)op, 0, id};
    yk_frame_encode(c->tx.buf + c->tx.len, &f);
    c->tx.len += YK_FRAME_HDR + yk_wr_len(w);
}

/* Moves the first record of a queue into a request. */
static struct yk_rec *send_next(yk_client *c, enum yk_queue q, struct yk_req *req) {
    struct yk_link *l = yk_list_take(&c->queue[q]);
    if (l == NULL)
        return NULL;
    struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
    rec->state = YK_REC_SENT;
    yk_list_add(&req->recs, l);
    req->items++;
    return rec;
}

/* Epoch of the first record of a queue that is not empty: a frame of lookups or changes has one. */
static uint64_t epoch_next(const yk_client *c, enum yk_queue q) {
    return YK_LIST_ITEM(c->queue[q].next, struct yk_rec, link)->epoch;
}

/* As send_next while the epoch stays the same. */
static struct yk_rec *send_next_at(yk_client *c, enum yk_queue q, uint64_t epoch,
                                   struct yk_req *req) {
    return yk_list_empty(&c->queue[q]) || epoch_next(c, q) != epoch ? NULL : send_next(c, q, req);
}

static void patch_u32(unsigned char *at, uint32_t v) {
    struct yk_wr w;
    yk_wr_init(&w, at, 4);
    yk_wr_u32(&w, v);
}

static uint32_t ms_left(uint64_t deadline_ns) {
    uint64_t now = yk_now_ns();
    uint64_t ms = deadline_ns > now ? (deadline_ns - now) / YK_NS_PER_MS : 0;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void fill_call(yk_client *c, struct yk_req *req, struct yk_call *call) {
    struct yk_wr w;
    yk_list_remove(&call->link);
    req->call = call;
    req->ahead_len = call->place_len;
    req->ahead = call->ahead;
    call->req = req;
    frame_begin(c, &w);
    yk_wr_bytes(&w, call->body, call->body_bytes);
    frame_end(c, &w, call->op, req->id, 0);
}

/* One RESERVE for all records that wait for a place of the first one's length. A node that has no
 * room is asked to wait for some only when nothing is held here that could make it. */
static void fill_reserve(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *first = send_next(c, YK_Q_RESERVE, req);
    struct yk_link *next;
    for (struct yk_link *l = c->queue[YK_Q_RESERVE].next;
         l != &c->queue[YK_Q_RESERVE] && req->items < YK_RESERVE_MAX; l = next) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
        next = l->next;
        if (rec->len != first->len)
            continue;
        yk_list_remove(l);
        yk_list_add(&req->recs, l);
        rec->state = YK_REC_SENT;
        req->items++;
    }
    req->ahead_len = first->len;
    req->ahead = yk_hold_wish(&c->hold, first->len, YK_RESERVE_MAX - req->items);
    req->patient = yk_hold_bytes(&c->hold) == 0;
    uint32_t ms = ms_left(first->deadline_ns);
    frame_begin(c, &w);
    /* A little less than is left, so that "no space" arrives before the deadline does. */
    yk_wr_u32(&w, req->patient ? ms - ms / 16 : 0);
    yk_wr_u32(&w, req->items + req->ahead);
    yk_wr_u64(&w, first->len);
    frame_end(c, &w, YK_MSG_RESERVE, req->id, 0);
}

static void put_tail(struct yk_wr *w, const yk_op *op) {
    yk_put_opts o;
    yk_put_opts_read(op->put, &o); /* was checked when the operation began */
    yk_put_tail(w, &o, op->key);
}

static void fill_commit(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec;
    frame_begin(c, &w);
    unsigned char *head = yk_wr_space(&w, 16);
    while (req->items < COMMITS_MAX && (rec = send_next(c, YK_Q_COMMIT, req)) != NULL) {
        rec->maybe_made = 1; /* whatever is answered, or not: only the node knows */
        yk_wr_u32(&w, rec->rsv.idx);
        yk_wr_u64(&w, rec->rsv.gen);
        yk_wr_u64(&w, rec->epoch);
        yk_wr_u64(&w, rec->sum);
        yk_wr_u32(&w, (uint32_t)rec->len);
        put_tail(&w, rec->op);
        req->ahead_len = rec->len;
    }
    req->ahead = yk_hold_wish(&c->hold, req->ahead_len, YK_RESERVE_MAX);
    struct yk_wr h;
    yk_wr_init(&h, head, 16);
    yk_wr_u32(&h, req->items);
    yk_wr_u32(&h, req->ahead);
    yk_wr_u64(&h, req->ahead > 0 ? req->ahead_len : 0);
    frame_end(c, &w, YK_MSG_COMMIT, req->id, 0);
}

static void fill_put(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec = send_next(c, YK_Q_PUT, req);
    uint32_t ms = ms_left(rec->deadline_ns);
    frame_begin(c, &w);
    yk_wr_u32(&w, ms - ms / 16);
    yk_wr_u64(&w, rec->len);
    yk_wr_u64(&w, rec->sum);
    yk_wr_u64(&w, rec->epoch);
    put_tail(&w, rec->op);
    frame_end(c, &w, YK_MSG_PUT, req->id, rec->len);
    c->tx.rec = rec;
    c->tx.payload_left = rec->len;
    yk_cursor_init(&c->tx.payload, rec->op->iov, rec->op->iov_count, 0);
}

/* Longest piece of a block that one GET asks for: a frame's length has 32 bits. */
#define GET_PIECE (1ull << 30)

static void fill_get(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec = send_next(c, YK_Q_GET, req);
    uint64_t left = rec->len - rec->at;
    uint64_t base = rec->op->opcode == YK_OP_GET_RANGE ? rec->op->arg : 0;
    frame_begin(c, &w);
    yk_wr_u64(&w, rec->epoch);
    yk_wr_u64(&w, base + rec->at);
    yk_wr_u64(&w, left < GET_PIECE ? left : GET_PIECE);
    yk_wr_u64(&w, rec->through || !c->far.up ? UINT64_MAX : c->far.inline_max);
    yk_wr_str8(&w, rec->op->key.data, rec->op->key.len);
    frame_end(c, &w, YK_MSG_GET, req->id, 0);
}

void yk_tx_raise(struct yk_wr *w, yk_key key, uint64_t epoch, uint64_t deadline_ns) {
    uint32_t ms = ms_left(deadline_ns);
    yk_wr_u64(w, epoch);
    /* A little less than is left, as for a reserve. */
    yk_wr_u32(w, ms - ms / 16);
    yk_wr_u8(w, 0);
    yk_wr_u32(w, 1);
    yk_wr_str8(w, key.data, key.len);
}

static void fill_raise(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec = send_next(c, YK_Q_RAISE, req);
    frame_begin(c, &w);
    yk_tx_raise(&w, rec->op->key, rec->epoch, rec->deadline_ns);
    frame_end(c, &w, YK_MSG_RAISE, req->id, 0);
}

static void fill_exists(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec;
    uint64_t epoch = epoch_next(c, YK_Q_EXISTS);
    frame_begin(c, &w);
    yk_wr_u64(&w, epoch);
    unsigned char *count = yk_wr_space(&w, 4);
    while (req->items < YK_FRAME_ITEMS && (rec = send_next_at(c, YK_Q_EXISTS, epoch, req)) != NULL)
        yk_wr_str8(&w, rec->op->key.data, rec->op->key.len);
    patch_u32(count, req->items);
    frame_end(c, &w, YK_MSG_EXISTS, req->id, 0);
}

static void fill_stat(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec;
    uint64_t epoch = epoch_next(c, YK_Q_STAT);
    frame_begin(c, &w);
    yk_wr_u64(&w, epoch);
    unsigned char *count = yk_wr_space(&w, 4);
    while (req->items < YK_FRAME_ITEMS && (rec = send_next_at(c, YK_Q_STAT, epoch, req)) != NULL)
        yk_wr_str8(&w, rec->op->key.data, rec->op->key.len);
    patch_u32(count, req->items);
    frame_end(c, &w, YK_MSG_LOOKUP, req->id, 0);
}

static void fill_ask(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec = send_next(c, YK_Q_ASK, req);
    frame_begin(c, &w);
    req->op = (uint8_t)yk_ask_fill(c, &w, rec);
    frame_end(c, &w, req->op, req->id, 0);
}

uint64_t yk_tx_until_ms(uint64_t deadline_ns) {
    return deadline_ns != 0 && deadline_ns != UINT64_MAX ? yk_boot_ms() + ms_left(deadline_ns) : 0;
}

/* What a CHANGE asks for; a put of a block that was there brings its expiry and pin up to date. */
static unsigned change_of(const struct yk_rec *rec, uint64_t *ret_arg) {
    const yk_op *op = rec->op;
    yk_put_opts o;
    *ret_arg = op->arg;
    switch (op->opcode) {
    case YK_OP_REMOVE:
        *ret_arg = yk_tx_until_ms(rec->deadline_ns);
        return YK_CHANGE_REMOVE;
    case YK_OP_TOUCH:
        return YK_CHANGE_TOUCH;
    case YK_OP_PIN:
        return YK_CHANGE_PIN;
    case YK_OP_UNPIN:
        return YK_CHANGE_UNPIN;
    case YK_OP_PUT:
        yk_put_opts_read(op->put, &o);
        *ret_arg = (rec->fix & YK_FIX_EXPIRE)    ? o.ttl_ms
                   : (o.flags & YK_PUT_HARD_PIN) ? 0
                                                 : o.pin_ms;
        return (rec->fix & YK_FIX_EXPIRE) ? YK_CHANGE_EXPIRE : YK_CHANGE_PIN;
    default:
        return YK_CHANGE_EXPIRE;
    }
}

static void fill_change(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec;
    uint64_t epoch = epoch_next(c, YK_Q_CHANGE);
    frame_begin(c, &w);
    yk_wr_u64(&w, epoch);
    unsigned char *count = yk_wr_space(&w, 4);
    while (req->items < YK_FRAME_ITEMS &&
           (rec = send_next_at(c, YK_Q_CHANGE, epoch, req)) != NULL) {
        uint64_t arg;
        unsigned what = change_of(rec, &arg);
        yk_wr_u8(&w, (uint8_t)what);
        yk_wr_u64(&w, arg);
        yk_wr_str8(&w, rec->op->key.data, rec->op->key.len);
    }
    patch_u32(count, req->items);
    frame_end(c, &w, YK_MSG_CHANGE, req->id, 0);
}

static void fill_abort(yk_client *c, struct yk_req *req) {
    struct yk_wr w;
    struct yk_rec *rec;
    frame_begin(c, &w);
    unsigned char *count = yk_wr_space(&w, 4);
    while (req->items < YK_FRAME_ITEMS && (rec = send_next(c, YK_Q_ABORT, req)) != NULL) {
        yk_wr_u32(&w, rec->rsv.idx);
        yk_wr_u64(&w, rec->rsv.gen);
    }
    patch_u32(count, req->items);
    frame_end(c, &w, YK_MSG_ABORT, req->id, 0);
}

/* Places go back before new ones are asked for; a put's payload ends what can be encoded. */
static const struct {
    enum yk_queue queue;
    uint8_t op;
    void (*fill)(yk_client *c, struct yk_req *req);
} fillers[] = {
    {YK_Q_ABORT, YK_MSG_ABORT, fill_abort},
    {YK_Q_COMMIT, YK_MSG_COMMIT, fill_commit},
    {YK_Q_RESERVE, YK_MSG_RESERVE, fill_reserve},
    {YK_Q_CHANGE, YK_MSG_CHANGE, fill_change},
    {YK_Q_EXISTS, YK_MSG_EXISTS, fill_exists},
    {YK_Q_STAT, YK_MSG_LOOKUP, fill_stat},
    {YK_Q_ASK, YK_MSG_MATCH, fill_ask}, /* the op depends on the operation */
    {YK_Q_RAISE, YK_MSG_RAISE, fill_raise},
    {YK_Q_GET, YK_MSG_GET, fill_get},
    {YK_Q_PUT, YK_MSG_PUT, fill_put},
};

/* Encodes one frame; 0 when there is nothing to send, or no request is free. */
static int fill_one(yk_client *c) {
    struct yk_req *req;
    if (c->want_drain) {
        struct yk_wr w;
        c->want_drain = 0;
        frame_begin(c, &w);
        frame_end(c, &w, YK_MSG_DRAIN, 0, 0);
        return 1;
    }
    if (!yk_list_empty(&c->calls)) {
        struct yk_call *call = YK_LIST_ITEM(c->calls.next, struct yk_call, link);
        req = yk_req_new(c, call->op);
        if (req != NULL)
            fill_call(c, req, call);
        return req != NULL;
    }
    for (unsigned i = 0; i < sizeof(fillers) / sizeof(fillers[0]); i++) {
        if (yk_list_empty(&c->queue[fillers[i].queue]))
            continue;
        req = yk_req_new(c, fillers[i].op);
        if (req != NULL)
            fillers[i].fill(c, req);
        return req != NULL;
    }
    return 0;
}

static void fill(yk_client *c) {
    c->tx.at = c->tx.len = 0;
    while (YK_TX_BYTES - c->tx.len >= FRAME_ROOM && c->tx.rec == NULL && fill_one(c))
        continue;
}

int yk_tx_pending(const yk_client *c) {
    if (c->tx.at < c->tx.len || c->tx.payload_left > 0 || c->want_drain)
        return 1;
    if (c->req_free == NULL && c->req_top == c->req_count)
        return 0;
    if (!yk_list_empty(&c->calls))
        return 1;
    for (unsigned q = 0; q < YK_QUEUES; q++)
        if (!yk_list_empty(&c->queue[q]))
            return 1;
    return 0;
}

void yk_tx_reset(yk_client *c) {
    c->tx.at = c->tx.len = 0;
    c->tx.rec = NULL;
    c->tx.payload_left = 0;
}

/* ---- sending -------------------------------------------------------------------------------------------- */

#define SEND_IOV 64

static void sent(yk_client *c, size_t n) {
    struct yk_tx *tx = &c->tx;
    size_t head = tx->len - tx->at;
    head = n < head ? n : head;
    tx->at += head;
    n -= head;
    if (n == 0)
        return; /* without payload the cursor points at what is long gone */
    yk_cursor_advance(&tx->payload, n);
    tx->payload_left -= n;
    if (tx->payload_left == 0)
        tx->rec = NULL;
}

/* Sends some of what is encoded, without the lock. 1 went on, 0 the socket is full, -1 it broke. */
static int send_some(yk_client *c) {
    struct yk_tx *tx = &c->tx;
    struct iovec iov[SEND_IOV];
    struct msghdr msg = {.msg_iov = iov};
    struct yk_rec *rec = tx->rec;
    uint32_t number = c->conn_number;
    int n = 0, fd = c->fd;
    if (tx->at < tx->len)
        iov[n++] = (struct iovec){tx->buf + tx->at, tx->len - tx->at};
    if (tx->payload_left > 0)
        n += yk_cursor_peek(&tx->payload, tx->payload_left, iov + n, SEND_IOV - n);
    msg.msg_iovlen = (size_t)n;
    if (rec != NULL)
        rec->io = 1;
    pthread_mutex_unlock(&c->lock);
    ssize_t k = n == 1 ? send(fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                       : sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    int e = errno;
    pthread_mutex_lock(&c->lock);
    int same = c->state == YK_CONN_UP && c->conn_number == number;
    if (same && k >= 0)
        sent(c, (size_t)k);
    if (rec != NULL)
        yk_rec_io_done(c, rec);
    if (!same)
        return -1;
    if (k >= 0 || e == EINTR)
        return 1;
    return e == EAGAIN || e == EWOULDBLOCK ? 0 : -1;
}

/* The socket is full: the node may be waiting for us to read what it sent. */
static void wait_writable(yk_client *c, uint64_t deadline_ns) {
    int receive = !c->rx.busy;
    if (receive)
        yk_rx_pump(c, 0, 0);
    if (c->state != YK_CONN_UP || deadline_ns == 0)
        return;
    uint64_t tick = yk_now_ns() + 100 * YK_NS_PER_MS;
    int fd = c->fd;
    pthread_mutex_unlock(&c->lock);
    (void)yk_poll_until(fd, receive ? POLLIN | POLLOUT : POLLOUT,
                       deadline_ns < tick ? deadline_ns : tick);
    pthread_mutex_lock(&c->lock);
}

void yk_tx_pump(yk_client *c, uint64_t deadline_ns) {
    c->tx.busy = 1;
    for (;;) {
        if (c->tx.at == c->tx.len && c->tx.payload_left == 0)
            fill(c);
        if (c->tx.at == c->tx.len && c->tx.payload_left == 0)
            break;
        int rc = send_some(c);
        if (rc < 0)
            yk_conn_lost(c);
        else if (rc == 0)
            wait_writable(c, deadline_ns);
        if (rc <= 0)
            break;
    }
    c->tx.busy = 0;
}
