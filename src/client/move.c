/* SPDX-License-Identifier: Apache-2.0
 *
 * Payload that the transfer engine moves (src/client/move.h).
 *
 * A move is begun under the lock: that queues it and wakes a thread, no more. Its time is bounded by what
 * is under way in all, at a pace that a path in use stays far above, so that a path which does not
 * move leaves most of the operation's time to the socket.
 *
 * Threads: under the lock; callbacks of the engine take it.
 */
#include "client/move.h"

#include "client/client_priv.h"

#include "base/clock.h"

#include <stdlib.h>

/* A move is as large as that, so that commits and comparisons of what came first go on beside what
 * comes later; and has so many pieces of memory, which bounds the time under the lock. */
#define MOVE_BYTES (8u << 20)
#define MOVE_REQS  1024u
/* Scatter lists of more pieces go through the socket. */
#define PIECES_MAX 16384u

#define MOVE_MS     3000u  /* until a path that moved nothing has failed */
#define PACE_BYTES  20000u /* a millisecond: a path slower than that is not worth it */
#define TIME_ENOUGH 200u   /* ms: less says nothing of the path */

/* ---- filling ---------------------------------------------------------------------------------------- */

static struct yk_move *move_new(yk_client *c, struct yk_batch *owner) {
    struct yk_link *l = yk_list_take(&c->far.spare);
    struct yk_move *m =
        l != NULL ? YK_LIST_ITEM(l, struct yk_move, link) : calloc(1, sizeof(struct yk_move));
    if (m == NULL)
        return NULL;
    yk_list_init(&m->link);
    yk_list_init(&m->all);
    yk_list_init(&m->recs);
    m->client = c;
    m->conn = c->conn_number;
    m->owner = owner;
    m->batch = 0;
    m->n = 0;
    m->bytes = 0;
    return m;
}

static int make_room(struct yk_move *m, uint32_t n) {
    if (m->n + n <= m->cap)
        return 0;
    uint32_t cap = m->n + n < MOVE_REQS / 16 ? MOVE_REQS / 16 : (m->n + n) * 2;
    yk_xfer_request *more = realloc(m->reqs, cap * sizeof(*more));
    if (more == NULL)
        return -YK_ENOMEM;
    m->reqs = more;
    m->cap = cap;
    return 0;
}

/* The scatter list of a record from where it goes on. */
static void cursor_of(const struct yk_rec *rec, struct yk_cursor *ret) {
    int count;
    const struct iovec *iov = yk_rec_iov(rec, &count);
    yk_cursor_init(ret, iov, count, rec->at);
}

static uint32_t count_pieces(const struct yk_rec *rec) {
    struct yk_cursor cur;
    struct iovec one;
    uint32_t n = 0;
    cursor_of(rec, &cur);
    for (uint64_t left = rec->moving; left > 0 && n <= PIECES_MAX; n++) {
        if (yk_cursor_peek(&cur, left, &one, 1) == 0)
            return PIECES_MAX + 1; /* cannot be: its length was compared */
        yk_cursor_advance(&cur, one.iov_len);
        left -= one.iov_len;
    }
    return n;
}

static void fill(struct yk_move *m, struct yk_rec *rec) {
    struct yk_cursor cur;
    struct iovec one;
    uint64_t offset = rec->place;
    cursor_of(rec, &cur);
    for (uint32_t i = 0; i < rec->pieces; i++) {
        (void)yk_cursor_peek(&cur, rec->place + rec->moving - offset, &one, 1);
        yk_cursor_advance(&cur, one.iov_len);
        m->reqs[m->n++] =
            (yk_xfer_request){.op = yk_op_is_get(rec->op) ? YK_XFER_READ : YK_XFER_WRITE,
                              .local = one.iov_base,
                              .offset = offset,
                              .length = one.iov_len,
                              .guard = &rec->guard};
        offset += one.iov_len;
    }
    m->bytes += rec->moving;
}

/* Through the socket in place of the engine. Its io is over. */
static void through(yk_client *c, struct yk_rec *rec) {
    c->far.fallbacks++;
    rec->through = 1;
    if (rec->in_place)
        yk_place_give_back(c, rec);
    rec->written = 0;
}

static void refuse(yk_client *c, struct yk_rec *rec) {
    rec->io = rec->load = 0;
    through(c, rec);
    yk_rec_runnable(c, rec);
}

/* Is what the record names of the node that the engine would ask? Else another one's numbers would be taken for it. */
static int is_of_this_node(const yk_client *c, const struct yk_rec *rec) {
    return yk_op_is_get(rec->op) ? rec->conn == c->conn_number : !rec->in_place || yk_place_is_valid(c, rec);
}

void yk_move_add(yk_client *c, struct yk_move **at, struct yk_batch *owner, struct yk_rec *rec) {
    uint32_t pieces = count_pieces(rec);
    struct yk_move *m = *at;
    if (!c->far.up || pieces > PIECES_MAX || !is_of_this_node(c, rec)) {
        refuse(c, rec);
        return;
    }
    if (m != NULL && (m->bytes + rec->moving > MOVE_BYTES || m->n + pieces > MOVE_REQS)) {
        yk_move_begin(c, at, 0);
        m = NULL;
    }
    if (m == NULL)
        m = move_new(c, owner);
    if (m == NULL || make_room(m, pieces) < 0) {
        if (m != NULL && m->n == 0)
            yk_list_add_first(&c->far.spare, &m->link);
        refuse(c, rec);
        return;
    }
    *at = m;
    rec->load = 0;
    rec->written = !yk_op_is_get(rec->op); /* its place has bytes of it, all or some */
    rec->pieces = pieces;
    rec->state = YK_REC_MOVING;
    rec->move = m;
    fill(m, rec);
    yk_list_add(&m->recs, &rec->link);
    if (owner != NULL)
        owner->moving++;
}

/* ---- ends ------------------------------------------------------------------------------------------- */

/* How a record's requests ended: n of them from `first` on. */
static int status_of(const struct yk_move *m, uint32_t first, uint32_t n, int status) {
    yk_xfer_status s;
    if (status == 0 || m->batch == 0)
        return status;
    for (uint32_t i = first; i < first + n; i++)
        if (yk_xfer_request_status(m->client->far.engine, m->batch, i, &s) == 0 && s.status != 0)
            return s.status;
    return 0;
}

/* Does it say that the path is bad, and not that this one request came too late or too early? */
static int is_path(const struct yk_move *m, int status) {
    switch (status) {
    case YK_OK:
    case YK_MISS:
    case -YK_EAGAIN:
    case -YK_EBUSY:
    case -YK_ECANCELED:
    case -YK_ECORRUPT:
    case -YK_ENOMEM:
    case -YK_EINVAL: /* memory that is registered in part, or is being unregistered */
        return 0;
    case -YK_ETIMEDOUT:
        return m->timeout_ms >= TIME_ENOUGH;
    default:
        return 1;
    }
}

static void moved(yk_client *c, struct yk_rec *rec, int status) {
    rec->io = 0;
    rec->move = NULL;
    rec->state = YK_REC_RUNNABLE;
    if (status == 0)
        c->far.bytes += rec->moving;
    if (rec->end_due) {
        yk_rec_end(c, rec, rec->end_status);
        return;
    }
    if (status == -YK_ECANCELED) {
        rec->load = 1; /* another's cancel */
    } else if (status != 0) {
        through(c, rec);
    } else if (yk_op_is_get(rec->op)) {
        rec->at += rec->moving;
        rec->check = rec->at == rec->len;
    }
    yk_rec_runnable(c, rec);
}

static void end(yk_client *c, struct yk_move *m, int status) {
    uint32_t first = 0;
    int broke = 0;
    yk_list_remove(&m->link);
    yk_list_remove(&m->all);
    c->far.moving_bytes -= m->bytes;
    for (struct yk_link *l; (l = yk_list_take(&m->recs)) != NULL;) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
        int rc = status_of(m, first, rec->pieces, status);
        first += rec->pieces;
        broke |= is_path(m, rc);
        if (m->owner != NULL)
            m->owner->moving--;
        moved(c, rec, rc);
    }
    if (broke && c->far.up)
        yk_far_rest(c);
    else if (status == 0)
        c->far.rest_ns = 0;
    yk_list_add_first(&c->far.spare, &m->link);
}

/* On a thread of the engine. The lock is held for moments only. */
static void on_end(void *user, yk_xfer_batch batch, int status) {
    struct yk_move *m = user;
    yk_client *c = m->client;
    (void)batch;
    pthread_mutex_lock(&c->lock);
    end(c, m, status);
    yk_conn_unlock(c);
}

/* ---- begin, cancel, wait ---------------------------------------------------------------------------- */

/* The socket shall have a quarter of what the first of them has. */
static uint32_t time_of(const yk_client *c, const struct yk_move *m) {
    uint64_t first = UINT64_MAX, now = yk_now_ns();
    for (const struct yk_link *l = m->recs.next; l != &m->recs; l = l->next) {
        uint64_t d = YK_LIST_ITEM(l, struct yk_rec, link)->deadline_ns;
        first = d < first ? d : first;
    }
    uint64_t left = first > now ? (first - now) / YK_NS_PER_MS : 0;
    uint64_t ms = MOVE_MS + (c->far.moving_bytes + m->bytes) / PACE_BYTES;
    left -= left / 4;
    ms = ms < left ? ms : left;
    return ms > 0 ? (uint32_t)ms : 1; /* 0 is the engine's default */
}

void yk_move_begin(yk_client *c, struct yk_move **at, int last) {
    struct yk_move *m = *at;
    struct yk_far *far = &c->far;
    if (m == NULL)
        return;
    *at = NULL;
    m->timeout_ms = time_of(c, m);
    far->moving_bytes += m->bytes;
    for (uint32_t i = 0; i < m->n; i++)
        m->reqs[i].segment = far->segment;
    /* Who waits for nothing else moves it itself: no thread is woken. */
    struct yk_batch *b = m->owner;
    int alone = last && b != NULL && b->left == b->moving && yk_list_empty(&b->moves);
    yk_xfer_submit_opts o = {.size = sizeof(o),
                             .xclass = YK_XFER_DEMAND,
                             .flags = alone ? YK_XFER_WILL_WAIT : 0u,
                             .timeout_ms = m->timeout_ms,
                             .user = m,
                             .done = b == NULL ? on_end : NULL};
    int is_now = far->up && m->conn == c->conn_number; /* other records may have been run since it was filled */
    int rc = is_now ? yk_xfer_submit(far->engine, m->reqs, m->n, &o, &m->batch) : -YK_EAGAIN;
    if (rc < 0) {
        m->batch = 0;
        end(c, m, rc);
        return;
    }
    yk_list_add(&far->moves, &m->all);
    if (b != NULL)
        yk_list_add(&b->moves, &m->link);
}

void yk_move_cancel(yk_client *c, struct yk_rec *rec) {
    if (rec->move->batch != 0)
        (void)yk_xfer_cancel(c->far.engine, rec->move->batch);
}

void yk_move_wait(yk_client *c, struct yk_batch *owner, uint64_t until_ns) {
    struct yk_move *m = YK_LIST_ITEM(owner->moves.next, struct yk_move, link);
    uint64_t now = yk_now_ns();
    uint64_t ms = until_ns > now ? (until_ns - now + YK_NS_PER_MS - 1) / YK_NS_PER_MS : 0;
    ms = ms < 60000 ? ms : 60000;
    yk_xfer_batch batch = m->batch;
    yk_conn_unlock(c); /* who waits for the connection gets it */
    int rc = yk_xfer_wait(c->far.engine, batch, (uint32_t)ms);
    pthread_mutex_lock(&c->lock);
    if (rc == -YK_EAGAIN)
        return;
    end(c, m, rc);
    (void)yk_xfer_batch_free(c->far.engine, batch);
}

void yk_moves_free(struct yk_far *far) {
    for (struct yk_link *l; (l = yk_list_take(&far->spare)) != NULL;) {
        struct yk_move *m = YK_LIST_ITEM(l, struct yk_move, link);
        free(m->reqs);
        free(m);
    }
}
