/* SPDX-License-Identifier: Apache-2.0
 *
 * Puts in place: the caller writes into the node's memory itself, between yk_reserve and yk_commit.
 *
 * The reservation is the caller's: it stays through deadlines, reconnects and restarts of the node
 * until it is committed, aborted, or the node says that it is gone. A commit that timed out may be
 * made again; the node answers it as it would have the first.
 *
 * Threads: any; one reservation belongs to one thread at a time.
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "base/hash.h"
#include "client/fail.h"

#include <string.h>

/* yk_reservation.priv: the map, descriptor, generation, epoch at yk_reserve. priv[0] 0: over. */
static struct yk_map *map_of(const yk_reservation *r) {
    return (struct yk_map *)(uintptr_t)r->priv[0];
}

void yk_rsv_over(yk_reservation *r) {
    struct yk_map *m = map_of(r);
    memset(r, 0, sizeof(*r));
    yk_map_leave_write(m);
}

int yk_rsv_check(const yk_reservation *r, const char *what) {
    return r != NULL && r->priv[0] != 0
               ? 0
               : yk_fail(-YK_EINVAL, "%s: the reservation is over, or never was", what);
}

static int check(yk_client *c, const yk_reservation *r, const char *what) {
    int rc = yk_client_enter(c);
    return rc < 0 ? rc : yk_rsv_check(r, what);
}

/* ---- reserve ---------------------------------------------------------------------------------------------------- */

struct granted {
    yk_client *c;
    uint64_t len;
    int status;
    struct yk_rsv rsv;
    struct yk_map *map;
};

static int reserve_reply(void *arg, struct yk_rd *r) {
    struct granted *g = arg;
    g->status = (int32_t)yk_rd_u32(r);
    uint32_t n = yk_rd_u32(r);
    if (g->status != 0)
        return g->status < 0 && n == 0 && yk_rd_ok(r) ? 0 : -YK_EPROTO;
    g->rsv.idx = yk_rd_u32(r);
    g->rsv.gen = yk_rd_u64(r);
    g->rsv.offset = yk_rd_u64(r);
    if (!r->bad && g->rsv.gen > g->c->heard) /* under the lock */
        g->c->heard = g->rsv.gen;
    const struct yk_map *m = g->c->map;
    if (n != 1 || !yk_rd_ok(r) || m == NULL || g->rsv.offset > m->view.layout.data_bytes ||
        g->len > m->view.layout.data_bytes - g->rsv.offset)
        return -YK_EPROTO;
    g->map = yk_map_enter_write(&g->c->map);
    return 0;
}

static int ask(yk_client *c, struct granted *g, uint32_t timeout_ms) {
    unsigned char body[16];
    struct yk_wr w;
    uint32_t ms = timeout_ms != 0 ? timeout_ms : c->timeout_ms;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u32(&w, ms - ms / 16); /* "no space" comes before the deadline */
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, g->len);
    struct yk_call call = {.op = YK_MSG_RESERVE,
                           .body = body,
                           .body_bytes = sizeof(body),
                           .reply = reserve_reply,
                           .arg = g,
                           .place_len = g->len};
    int rc = yk_conn_call(c, &call, yk_client_deadline(c, timeout_ms));
    return rc < 0 ? rc : g->status;
}

/* A place that is held already, if there is one. */
static int take_held(yk_client *c, struct granted *g) {
    struct yk_rsv stale;
    pthread_mutex_lock(&c->lock);
    int have = c->map != NULL && yk_hold_take(&c->hold, g->len, &g->rsv);
    if (have)
        g->map = yk_map_enter_write(&c->map);
    else /* their room may be what is missing */
        (void)yk_hold_yield(&c->hold, g->len);
    while (c->recs_left > 0 && yk_hold_stale(&c->hold, &stale))
        yk_rec_give_back(c, &stale);
    yk_conn_unlock(c);
    return have;
}

int yk_reserve(yk_client *c, size_t len, uint32_t timeout_ms, yk_reservation *ret) {
    struct granted g = {.c = c, .len = len};
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    uint64_t epoch = yk_client_epoch(c);
    if (ret == NULL)
        return yk_fail(-YK_EINVAL, "yk_reserve: ret_reservation is NULL");
    if (__atomic_load_n(&c->map, __ATOMIC_RELAXED) == NULL)
        return yk_fail(-YK_ENOTSUP, "a put in place needs the node's memory mapped");
    rc = yk_put_check_len(c, len);
    if (rc < 0)
        return rc; /* its text has both sizes */
    if (!take_held(c, &g))
        rc = ask(c, &g, timeout_ms);
    if (rc < 0)
        return yk_fail(rc, "reserving %zu bytes: %s", len, yk_fail_put_text(rc));
    yk_map_populate(g.map, g.rsv.offset, len, 1);
    *ret = (yk_reservation){
        g.map->rw + g.rsv.offset, len, {(uint64_t)(uintptr_t)g.map, g.rsv.idx, g.rsv.gen, epoch}};
    return 0;
}

/* ---- commit, abort ---------------------------------------------------------------------------------------------- */

struct answer {
    yk_client *c;
    uint64_t len;
    uint32_t ahead;
    int status;
};

/* One status, and the places for the next reservations. */
static int commit_reply(void *arg, struct yk_rd *r) {
    struct answer *a = arg;
    uint32_t n = yk_rd_u32(r);
    a->status = (int32_t)yk_rd_u32(r);
    if (n != 1 || r->bad || (a->status > YK_MISS && a->status != YK_FEWER))
        return -YK_EPROTO;
    return yk_reply_places(a->c, r, a->len, a->ahead);
}

static int commit_call(yk_client *c, const yk_reservation *r, const yk_op *op, const yk_put_opts *o,
                       uint64_t deadline_ns) {
    unsigned char body[1024];
    struct yk_wr w;
    struct answer answer = {.c = c, .len = r->len};
    const struct yk_map *m = map_of(r);
    if (yk_map_lost(m))
        return -YK_EGONE;
    pthread_mutex_lock(&c->lock);
    answer.ahead = yk_hold_wish(&c->hold, r->len, YK_RESERVE_MAX);
    yk_conn_unlock(c);
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u32(&w, 1);
    yk_wr_u32(&w, answer.ahead);
    yk_wr_u64(&w, answer.ahead > 0 ? r->len : 0);
    yk_wr_u32(&w, (uint32_t)r->priv[1]);
    yk_wr_u64(&w, r->priv[2]);
    yk_wr_u64(&w, r->priv[3]);
    yk_wr_u64(&w, yk_hash64(r->data, r->len));
    yk_wr_u32(&w, (uint32_t)r->len);
    yk_put_tail(&w, o, op->key);
    struct yk_call call = {.op = YK_MSG_COMMIT,
                           .body = body,
                           .body_bytes = (uint32_t)yk_wr_len(&w),
                           .reply = commit_reply,
                           .arg = &answer,
                           .map = m,
                           .place_len = r->len,
                           .ahead = answer.ahead};
    int rc = yk_conn_call(c, &call, deadline_ns);
    return rc < 0 ? rc : answer.status;
}

/* A reservation in a segment that the node does not have any more. */
static int is_gone(yk_client *c, const yk_reservation *r) {
    return map_of(r) != __atomic_load_n(&c->map, __ATOMIC_ACQUIRE);
}

int yk_commit(yk_client *c, yk_reservation *r, yk_key key, const yk_put_opts *opts) {
    yk_put_opts o;
    int rc = check(c, r, "yk_commit");
    if (rc < 0)
        return rc;
    struct iovec iov = {r->data, r->len};
    yk_op op = {.opcode = YK_OP_PUT, .key = key, .iov = &iov, .iov_count = 1, .put = opts};
    rc = yk_op_check(c, &op);
    if (rc < 0) { /* any outcome but a time-out ends it */
        char text[YK_ERR_TEXT_MAX];
        memcpy(text, yk_fail_text(), sizeof(text));
        (void)yk_abort(c, r);
        return yk_fail(rc, "%s", text);
    }
    yk_put_opts_read(opts, &o);
    uint64_t deadline_ns = yk_client_deadline(c, o.timeout_ms);
    do /* -YK_EAGAIN: the node makes room in steps */
        rc = is_gone(c, r) ? -YK_EGONE : commit_call(c, r, &op, &o, deadline_ns);
    while (rc == -YK_EAGAIN && yk_now_ns() < deadline_ns);
    if (rc == -YK_EAGAIN)
        rc = -YK_ETIMEDOUT;
    /* Without the node nothing is known of a commit: it may be made again. */
    if (rc == -YK_EGONE && !is_gone(c, r) && yk_conn_is_down(c))
        rc = -YK_ETIMEDOUT;
    yk_op_count_put(c, &op, rc);
    if (rc != -YK_ETIMEDOUT)
        yk_rsv_over(r);
    return rc < 0 ? yk_fail_put(rc, "commit", key.data, key.len) : rc;
}

int yk_abort(yk_client *c, yk_reservation *r) {
    int rc = check(c, r, "yk_abort");
    if (rc < 0)
        return rc;
    struct yk_rsv rsv = {(uint32_t)r->priv[1], r->priv[2], 0}; /* to give back: no offset */
    pthread_mutex_lock(&c->lock);
    if (!is_gone(c, r))
        yk_rec_give_back(c, &rsv); /* sent again after a reconnect, and nobody waits for it */
    yk_conn_flush(c);
    yk_conn_unlock(c);
    yk_rsv_over(r);
    return 0;
}

/* ---- the same in batches ------------------------------------------------------------------------------------------ */

static yk_reservation reservation_of(const struct yk_rec *rec) {
    return (yk_reservation){
        rec->map->rw + rec->rsv.offset,
        rec->len,
        {(uint64_t)(uintptr_t)rec->map, rec->rsv.idx, rec->rsv.gen, rec->epoch}};
}

void yk_reserve_run(yk_client *c, struct yk_rec *rec) {
    if (!yk_place_take(c, rec))
        return;
    yk_map_populate(rec->map, rec->rsv.offset, rec->len, 1);
    if (!yk_rec_lock(c, rec))
        return;
    if (rec->map != c->map) {
        yk_rec_runnable(c, rec);
    } else { /* the place, and its hold on the mapping, are the caller's from here on */
        *rec->op->reservation = reservation_of(rec);
        rec->in_place = 0;
        rec->map = NULL;
        yk_rec_end(c, rec, 0);
    }
    pthread_mutex_unlock(&c->lock);
}

/* The record enters the mapping beside the reservation: it may outlive the operation, whose caller may
 * abort meanwhile. */
void yk_commit_run(yk_client *c, struct yk_rec *rec) {
    const yk_reservation *r = rec->op->reservation;
    rec->sum = yk_hash64(r->data, r->len);
    int lost = yk_map_lost(map_of(r));
    if (!yk_rec_lock(c, rec))
        return;
    if (lost || map_of(r) != c->map) {
        yk_rec_end(c, rec, -YK_EGONE);
    } else {
        rec->rsv = (struct yk_rsv){(uint32_t)r->priv[1], r->priv[2], 0};
        rec->map = yk_map_enter_write(&c->map);
        rec->in_place = rec->borrowed = 1;
        yk_rec_enqueue(c, rec, YK_Q_COMMIT);
    }
    pthread_mutex_unlock(&c->lock);
}
