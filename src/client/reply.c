/* SPDX-License-Identifier: Apache-2.0
 *
 * What the node's answers do to calls and records.
 *
 * A place that is granted belongs to somebody the moment its reply is read, whether or not the one
 * who asked is still waiting: it goes to a waiting put, into the pool, or back to the node. That is
 * why reservations are answered here and not by whoever asked.
 *
 * Threads: the one that receives, under the lock.
 */
#include "client/client_priv.h"

#include <stdlib.h>

/* A put starts over when its place was lost; each of the places held may have been. */
#define TRIES_MAX 8

/* ---- places ----------------------------------------------------------------------------------------------- */

/* The next place of a reply; 0 when it is none of this segment's. */
static int place_read(yk_client *c, struct yk_rd *r, uint64_t len, struct yk_rsv *ret) {
    ret->idx = yk_rd_u32(r);
    ret->gen = yk_rd_u64(r);
    ret->offset = yk_rd_u64(r);
    if (!r->bad && ret->gen > c->heard)
        c->heard = ret->gen;
    const struct yk_map *m = c->map; /* replaced under the lock only */
    uint64_t room = m != NULL ? m->view.layout.data_bytes : c->far.length;
    return !r->bad && (m == NULL || ret->idx < m->view.layout.max_blocks) && ret->offset <= room &&
           len <= room - ret->offset;
}

static void place_keep(yk_client *c, uint64_t len, const struct yk_rsv *rsv) {
    if (yk_hold_keep(&c->hold, len, rsv) < 0)
        yk_rec_give_back(c, rsv);
}

/* n places at r: first to the records that wait, the rest into the pool. */
static int places_read(yk_client *c, struct yk_req *req, struct yk_rd *r, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct yk_rsv rsv;
        if (!place_read(c, r, req->ahead_len, &rsv))
            return -YK_EPROTO;
        struct yk_link *l = req->op == YK_MSG_RESERVE ? yk_list_take(&req->recs) : NULL;
        if (l == NULL) {
            place_keep(c, req->ahead_len, &rsv);
            continue;
        }
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
        if (rec->op == NULL) { /* ended meanwhile */
            yk_rec_free(c, rec);
            place_keep(c, req->ahead_len, &rsv);
            continue;
        }
        rec->map = yk_map_enter_write(&c->map);
        rec->conn = c->conn_number;
        rec->rsv = rsv;
        rec->in_place = 1;
        yk_rec_runnable(c, rec);
    }
    return 0;
}

/* All places that are held go back: they were lost, or their room is needed. */
static uint32_t give_all_back(yk_client *c, uint64_t but_len) {
    struct yk_rsv rsv;
    uint32_t n = yk_hold_yield(&c->hold, but_len);
    while (yk_hold_stale(&c->hold, &rsv))
        yk_rec_give_back(c, &rsv);
    return n;
}

static void came(yk_client *c, struct yk_req *req) {
    yk_hold_came(&c->hold, req->ahead_len, req->ahead);
    req->ahead = 0;
    if (req->call != NULL)
        req->call->ahead = 0;
}

static int reply_reserve(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    int32_t status = (int32_t)yk_rd_u32(r);
    uint32_t n = yk_rd_u32(r);
    uint32_t most = req->items + req->ahead;
    came(c, req);
    if (r->bad || n > most || (status == 0) != (n > 0) || status > 0)
        return -YK_EPROTO;
    if (places_read(c, req, r, n) < 0 || !yk_rd_ok(r))
        return -YK_EPROTO;
    /* Room is held here: it goes back, and the next request may wait for it. */
    int retry = status == -YK_ENOSPC && !req->patient;
    if (retry)
        give_all_back(c, req->ahead_len);
    /* Fewer than asked for: the rest asks again. None: all who asked are told. */
    while (!yk_list_empty(&req->recs)) {
        struct yk_rec *rec = YK_LIST_ITEM(req->recs.prev, struct yk_rec, link);
        yk_list_remove(&rec->link);
        if (rec->op == NULL) {
            yk_rec_free(c, rec);
        } else if (retry) {
            yk_rec_runnable(c, rec);
        } else if (status != 0 && status != -YK_ENOSPC && c->map == NULL) {
            c->far.fallbacks++; /* the node knows why it grants none */
            rec->through = 1;
            yk_rec_runnable(c, rec);
        } else {
            rec->state = YK_REC_QUEUED;
            yk_list_add_first(&c->queue[YK_Q_RESERVE], &rec->link);
            if (status != 0)
                yk_rec_end(c, rec, status);
        }
    }
    return 0;
}

int yk_reply_places(yk_client *c, struct yk_rd *r, uint64_t len, uint32_t most) {
    struct yk_rsv rsv;
    uint32_t n = yk_rd_u32(r);
    if (r->bad || n > most)
        return -YK_EPROTO;
    for (uint32_t i = 0; i < n; i++) {
        if (!place_read(c, r, len, &rsv))
            return -YK_EPROTO;
        place_keep(c, len, &rsv);
    }
    return yk_rd_ok(r) ? 0 : -YK_EPROTO;
}

/* The answer to yk_reserve or yk_commit whose caller gave up: the places in it are nobody's. */
static int reply_late(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    uint32_t most = req->ahead + (req->op == YK_MSG_RESERVE);
    came(c, req);
    if (req->op == YK_MSG_COMMIT && yk_rd_u32(r) != 1)
        return -YK_EPROTO;
    (void)yk_rd_u32(r); /* status */
    return yk_reply_places(c, r, req->ahead_len, most);
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* A status from outside: nothing but 0, a miss, a put's fewer copies and failures means anything. */
static int32_t status_read(struct yk_rd *r) {
    int32_t status = (int32_t)yk_rd_u32(r);
    return status <= YK_MISS || status == YK_FEWER ? status : -YK_EPROTO;
}

/* Did the commit of what the engine wrote fail in a way that another attempt may mend? 1: it is made. */
static int committed_far(yk_client *c, struct yk_rec *rec, int32_t status) {
    if (status != -YK_EBUSY && status != -YK_ECORRUPT && status != -YK_EGONE)
        return 0;
    rec->tries++;
    if (status == -YK_EBUSY && rec->tries <= TRIES_MAX) { /* the end of a write has yet to be seen there */
        yk_rec_enqueue(c, rec, YK_Q_COMMIT);
        return 1;
    }
    if (status == -YK_EBUSY)
        yk_place_give_back(c, rec);
    yk_rec_drop_place(rec);
    rec->through = status != -YK_ECORRUPT || rec->tries > 1;
    c->far.fallbacks += rec->through;
    yk_rec_runnable(c, rec);
    return 1;
}

static void committed(yk_client *c, struct yk_rec *rec, int32_t status) {
    if (status == -YK_EAGAIN) { /* the place is still ours */
        if (rec->op != NULL) {
            yk_rec_enqueue(c, rec, YK_Q_COMMIT);
            return;
        }
        if (!rec->borrowed)
            yk_rec_give_back(c, &rec->rsv);
    } else if (rec->in_place && rec->map == NULL) {
        if (rec->op != NULL && committed_far(c, rec, status))
            return;
        if (rec->op == NULL && status == -YK_EBUSY)
            yk_rec_give_back(c, &rec->rsv);
    }
    yk_rec_drop_place(rec); /* used up, or lost; or the caller's, who may try again */
    if (rec->op == NULL) {
        yk_rec_free(c, rec);
        return;
    }
    rec->state = YK_REC_QUEUED; /* out of the request */
    if (status == -YK_EGONE && !rec->borrowed && ++rec->tries <= TRIES_MAX) {
        give_all_back(c, 0);
        yk_rec_runnable(c, rec);
        return;
    }
    yk_rec_end(c, rec, status);
}

static int reply_commit(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    uint32_t most = req->ahead;
    came(c, req);
    if (yk_rd_u32(r) != req->items)
        return -YK_EPROTO;
    struct yk_rd places = *r;
    (void)yk_rd_bytes(&places, 4u * (size_t)req->items);
    uint32_t n = yk_rd_u32(&places);
    if (places.bad || n > most || yk_rd_left(&places) != (size_t)n * 20u)
        return -YK_EPROTO;
    for (struct yk_link *l; (l = yk_list_take(&req->recs)) != NULL;)
        committed(c, YK_LIST_ITEM(l, struct yk_rec, link), status_read(r));
    return places_read(c, req, &places, n);
}

/* A put found its block there and brought one of expiry and pin up to date. */
static void fixed(yk_client *c, struct yk_rec *rec, int32_t status) {
    uint8_t step = rec->fix & YK_FIX_EXPIRE ? YK_FIX_EXPIRE : YK_FIX_PIN;
    rec->fix &= (uint8_t)~step;
    if (status == YK_MISS) { /* it went meanwhile: put it after all */
        rec->fix = 0;
        yk_rec_runnable(c, rec);
    } else if (status == 0 && rec->fix != 0) {
        yk_rec_enqueue(c, rec, YK_Q_CHANGE);
    } else {
        yk_rec_end(c, rec, status);
    }
}

/* Its block is in DRAM: the get goes on there. Or it cannot come up now: the node serves it. */
static void raised(yk_client *c, struct yk_rec *rec, int32_t status) {
    if (status == YK_OK)
        yk_rec_runnable(c, rec);
    else if (status == YK_MISS)
        yk_rec_end(c, rec, YK_MISS);
    else
        yk_rec_enqueue(c, rec, YK_Q_GET);
}

/* One status for a record that has left its request. */
static void answered(yk_client *c, struct yk_rec *rec, int32_t status) {
    if (rec->op == NULL) {
        yk_rec_free(c, rec);
        return;
    }
    rec->state = YK_REC_QUEUED;
    if (rec->queue == YK_Q_CHANGE && rec->op->opcode == YK_OP_PUT)
        fixed(c, rec, status);
    else if (rec->queue == YK_Q_RAISE)
        raised(c, rec, status);
    else if (rec->queue == YK_Q_PUT && status == -YK_ECORRUPT && rec->tries++ == 0)
        yk_rec_enqueue(c, rec, YK_Q_PUT); /* damaged on the way */
    else
        yk_rec_end(c, rec, status);
}

/* CHANGE, ABORT, RAISE: a count and statuses; PUT: one status. */
static int reply_statuses(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    if (req->op != YK_MSG_PUT && yk_rd_u32(r) != req->items)
        return -YK_EPROTO;
    if (r->bad || yk_rd_left(r) != 4u * (size_t)req->items)
        return -YK_EPROTO;
    for (struct yk_link *l; (l = yk_list_take(&req->recs)) != NULL;)
        answered(c, YK_LIST_ITEM(l, struct yk_rec, link), status_read(r));
    return 0;
}

static int reply_exists(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    uint32_t n = yk_rd_u32(r), i = 0;
    const unsigned char *bits = yk_rd_bytes(r, (req->items + 7u) / 8u);
    if (n != req->items || !yk_rd_ok(r))
        return -YK_EPROTO;
    for (struct yk_link *l; (l = yk_list_take(&req->recs)) != NULL; i++)
        answered(c, YK_LIST_ITEM(l, struct yk_rec, link),
                 bits[i / 8u] >> (i % 8u) & 1 ? YK_OK : YK_MISS);
    return 0;
}

/* LOOKUP for STAT: a count, then for each a status, and of a block its info. */
static int reply_stat(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    if (yk_rd_u32(r) != req->items)
        return -YK_EPROTO;
    for (struct yk_link *l; !r->bad && (l = yk_list_take(&req->recs)) != NULL;) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
        yk_block_info info;
        int32_t status = status_read(r);
        if (status == 0)
            yk_rd_info(r, &info);
        if (r->bad) { /* unanswered */
            yk_list_add_first(&req->recs, l);
            break;
        }
        if (status == 0 && rec->op != NULL && rec->op->info != NULL)
            yk_sized_copy(rec->op->info, yk_op_info_size(rec->op), &info, sizeof(info));
        answered(c, rec, status);
    }
    return yk_rd_ok(r) ? 0 : -YK_EPROTO;
}

/* Of the one operation that the frame is for. */
static int reply_ask(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    struct yk_rec *rec = YK_LIST_ITEM(req->recs.next, struct yk_rec, link);
    int bad = 0, status = rec->op != NULL ? yk_ask_reply(c, rec, r, &bad) : 0;
    if (bad)
        return -YK_EPROTO;
    yk_list_remove(&rec->link);
    if (rec->op != NULL && status == YK_PENDING)
        yk_rec_enqueue(c, rec, YK_Q_ASK);
    else
        answered(c, rec, status);
    return 0;
}

static int reply_records(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    if (req->items == 0)
        return reply_late(c, req, r);
    if (!yk_list_empty(&req->recs) &&
        YK_LIST_ITEM(req->recs.next, struct yk_rec, link)->queue == YK_Q_ASK)
        return reply_ask(c, req, r);
    switch (req->op) {
    case YK_MSG_RESERVE:
        return reply_reserve(c, req, r);
    case YK_MSG_COMMIT:
        return reply_commit(c, req, r);
    case YK_MSG_CHANGE:
    case YK_MSG_ABORT:
    case YK_MSG_RAISE:
    case YK_MSG_PUT:
        return reply_statuses(c, req, r);
    case YK_MSG_EXISTS:
        return reply_exists(c, req, r);
    case YK_MSG_LOOKUP:
        return reply_stat(c, req, r);
    default:
        return -YK_EPROTO;
    }
}

/* The node refused a frame and will close the connection. What was in it fails; all else is sent
 * again. */
static void refused(yk_client *c, struct yk_req *req, struct yk_rd *r) {
    int32_t status = (int32_t)yk_rd_u32(r);
    status = status < 0 ? status : -YK_EPROTO;
    came(c, req);
    if (req->call != NULL) {
        req->call->status = status;
        yk_waiter_wake(req->call->waiter);
        req->call = NULL;
    }
    for (struct yk_link *l; (l = yk_list_take(&req->recs)) != NULL;) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
        rec->state = YK_REC_QUEUED;
        if (rec->op != NULL)
            yk_rec_end(c, rec, status);
        else
            yk_rec_free(c, rec);
    }
    yk_req_free(c, req);
}

int yk_reply(yk_client *c, const struct yk_frame *f, const void *body) {
    struct yk_rd r;
    struct yk_req *req = yk_req_find(c, f->id);
    int rc = 0;
    yk_rd_init(&r, body, f->body_bytes);
    if (f->op == YK_MSG_ERROR) {
        if (req != NULL)
            refused(c, req, &r);
        return -YK_EPROTO;
    }
    if (req == NULL)
        return 0; /* given up */
    if (req->op != f->op)
        return -YK_EPROTO;
    c->round_trips++;
    struct yk_call *call = req->call;
    if (call != NULL) {
        came(c, req);
        rc = call->reply(call->arg, &r);
        call->req = NULL;
        call->status = rc;
        req->call = NULL;
        yk_waiter_wake(call->waiter);
    } else {
        rc = reply_records(c, req, &r);
    }
    /* What a malformed reply left unanswered stays with the request: yk_conn_lost queues it again. */
    if (rc == 0)
        yk_req_free(c, req);
    return rc;
}

/* ---- GET ------------------------------------------------------------------------------------------------------ */

/* Checks one piece against what was asked for. */
static int piece_check(const yk_client *c, struct yk_rec *rec, const yk_block_info *info,
                       uint64_t n) {
    const yk_op *op = rec->op;
    uint64_t base = op->opcode == YK_OP_GET_RANGE ? op->arg : 0;
    if (n > rec->len - rec->at || info->len > c->welcome.max_block_bytes ||
        base + rec->at + n > info->len)
        return -YK_EPROTO;
    return 0;
}

/* Decides what the payload of n bytes that follows is good for: the status to end with (then it is
 * dropped), or YK_PENDING: receive it. */
static int piece_begin(const yk_client *c, struct yk_rec *rec, const yk_block_info *info) {
    yk_op *op = rec->op;
    if (rec->at > 0 && (info->generation != rec->gen || rec->conn != c->conn_number))
        return -YK_EAGAIN; /* another block by now, or another node's: from the beginning */
    rec->gen = info->generation;
    rec->conn = c->conn_number;
    rec->sum = info->checksum;
    rec->whole = op->arg == 0 && rec->len == info->len;
    if (op->opcode == YK_OP_GET_RANGE)
        return op->arg > info->len || rec->len > info->len - op->arg ? -YK_EINVAL : YK_PENDING;
    op->len = info->len;
    if (info->len > rec->len)
        return -YK_ETOOBIG;
    rec->len = info->len;
    return YK_PENDING;
}

/* Where the block is, when it does not follow: the engine shall read it. */
static int located(const yk_client *c, struct yk_rec *rec, const yk_block_info *info, uint32_t idx,
                   uint64_t place, uint64_t n) {
    if (rec->through || c->map != NULL || c->far.engine == NULL || n == 0 || n > rec->len - rec->at)
        return -YK_EPROTO; /* that was not asked for */
    rec->guard = (yk_xfer_guard){
        .descriptor = idx, .generation = info->generation, .epoch = info->epoch};
    rec->place = place;
    rec->moving = n;
    rec->load = 1;
    return 0;
}

/* A get for a reference: its length is known now. */
static int copy_begin(struct yk_rec *rec, const yk_block_info *info) {
    if (rec->op->opcode != YK_OP_REF || rec->at > 0)
        return 0;
    free(rec->copy.iov_base);
    rec->copy = (struct iovec){malloc(info->len), info->len};
    if (rec->copy.iov_base == NULL)
        return -YK_ENOMEM;
    rec->len = info->len;
    return 0;
}

/* Of a GET reply behind its status, before the payload. */
#define FOUND_BYTES (YK_WIRE_INFO_BYTES + YK_GET_TAIL_BYTES)

int yk_reply_get_begin(yk_client *c, const struct yk_frame *f, const unsigned char *head,
                       struct yk_rec **ret_rec) {
    struct yk_rd r;
    yk_block_info info;
    struct yk_req *req = yk_req_find(c, f->id);
    if (req == NULL || req->op != YK_MSG_GET)
        return req == NULL ? 0 : -YK_EPROTO;
    yk_rd_init(&r, head, f->body_bytes < 4 ? f->body_bytes : 4);
    int32_t status = status_read(&r);
    uint64_t n = 0, place = 0;
    uint32_t idx = YK_GET_INLINE;
    if (r.bad || (status != 0) != (f->body_bytes == 4))
        return -YK_EPROTO;
    if (status == 0) {
        uint32_t left = f->body_bytes - 4;
        yk_rd_init(&r, head + 4, left < FOUND_BYTES ? left : FOUND_BYTES);
        yk_rd_info(&r, &info);
        idx = yk_rd_u32(&r);
        place = yk_rd_u64(&r);
        n = yk_rd_u64(&r);
        if (!yk_rd_ok(&r) || left - FOUND_BYTES != (idx == YK_GET_INLINE ? n : 0))
            return -YK_EPROTO;
    }
    struct yk_rec *rec = YK_LIST_ITEM(req->recs.next, struct yk_rec, link);
    if (status == 0 && rec->op != NULL) {
        if (piece_check(c, rec, &info, n) < 0)
            return -YK_EPROTO;
        status = copy_begin(rec, &info);
        if (status == 0)
            status = piece_begin(c, rec, &info);
        if (status == YK_PENDING && n == 0 && rec->at < rec->len)
            return -YK_EPROTO;
        if (status == YK_PENDING && idx != YK_GET_INLINE &&
            located(c, rec, &info, idx, place, n) < 0)
            return -YK_EPROTO;
    }
    c->round_trips++;
    yk_list_remove(&rec->link);
    yk_req_free(c, req);
    rec->state = YK_REC_QUEUED;
    if (rec->op == NULL) {
        yk_rec_free(c, rec);
        return 0;
    }
    if (status == -YK_EAGAIN) {
        yk_rec_get_again(c, rec);
        yk_rec_enqueue(c, rec, YK_Q_GET);
        return 0;
    }
    if (status != YK_PENDING) {
        yk_rec_end(c, rec, status);
        return 0;
    }
    if (rec->load) {
        yk_rec_runnable(c, rec);
        return 0;
    }
    int count;
    const struct iovec *iov = yk_rec_iov(rec, &count);
    yk_cursor_init(&c->rx.payload, iov, count, rec->at);
    rec->at += n;
    *ret_rec = rec;
    return 0;
}

void yk_reply_get_end(yk_client *c, struct yk_rec *rec) {
    if (rec->at < rec->len) {
        yk_rec_enqueue(c, rec, YK_Q_GET);
        return;
    }
    rec->check = 1;
    yk_rec_runnable(c, rec); /* the checksum is compared without the lock */
}
