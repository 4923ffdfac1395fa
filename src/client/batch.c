/* SPDX-License-Identifier: Apache-2.0
 *
 * Running batches to their end (yk_run, and each single operation that needs the node) and starting
 * them (yk_submit).
 *
 * What can be answered from the mapping is, in place and at once. From the first operation on that
 * needs the node all get records, so that the order for each key is kept. Payload is copied by the
 * thread that owns the batch; commits leave in frames of many, the first of them while later
 * payload is still being copied.
 *
 * Threads: any.
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "base/copyhash.h"
#include "client/fail.h"

#include <sched.h>
#include <string.h>

/* Payload that is copied between two looks at the socket: the node works on what was sent. */
#define FLUSH_BYTES (1u << 20)
/* Between two looks at whether a cancelled move has ended. */
#define END_LOOK_NS (100 * YK_NS_PER_MS)

static uint64_t op_deadline(const yk_client *c, const yk_op *op, uint64_t deadline_ns) {
    yk_put_opts o;
    if ((op->opcode != YK_OP_PUT && op->opcode != YK_OP_COMMIT) || op->put == NULL ||
        yk_put_opts_read(op->put, &o) < 0 || o.timeout_ms == 0)
        return deadline_ns;
    uint64_t own = yk_client_deadline(c, o.timeout_ms);
    return own < deadline_ns ? own : deadline_ns;
}

void yk_recs_ready(yk_client *c, struct yk_link *runnable, struct yk_batch *owner) {
    uint64_t bytes = 0;
    struct yk_move *move = NULL;
    while (!yk_list_empty(runnable)) {
        struct yk_rec *rec = yk_rec_next(runnable);
        uint64_t len = rec->len;
        if (rec->load) {
            yk_move_add(c, &move, owner, rec);
        } else {
            pthread_mutex_unlock(&c->lock);
            yk_rec_run(c, rec);
            pthread_mutex_lock(&c->lock);
            bytes += len;
        }
        if (bytes >= FLUSH_BYTES) {
            bytes = 0;
            yk_conn_flush(c);
        }
        if (yk_list_empty(runnable)) /* what cannot be moved is runnable again */
            yk_move_begin(c, &move, 1);
    }
}

/* The deadline has passed, or there is no node for good: ends what is left. */
static void end_left(yk_client *c, struct yk_batch *b) {
    while (b->left > 0) {
        (void)yk_recs_expire(c, &b->recs, UINT64_MAX);
        if (b->left == 0)
            return;
        if (!yk_list_empty(&b->moves)) { /* cancelled: soon */
            yk_move_wait(c, b, yk_now_ns() + END_LOOK_NS);
            continue;
        }
        /* The memory of one is in use by another thread's system call, which does not wait. */
        pthread_mutex_unlock(&c->lock);
        sched_yield();
        pthread_mutex_lock(&c->lock);
    }
}

/* One turn of waiting. With moves under way it is for the oldest of them; what arrives on the connection
 * meanwhile is looked at in between, and may be more to move. */
static int turn(yk_client *c, struct yk_batch *b, uint64_t until) {
    uint64_t now = yk_now_ns();
    if (yk_list_empty(&b->moves)) {
        yk_far_tend(c, until > now ? (until - now) / 4 : 0);
        return yk_conn_step(c, b->waiter, until);
    }
    if (b->left > b->moving)
        yk_conn_look(c);
    if (yk_list_empty(&b->runnable))
        yk_move_wait(c, b, until);
    return yk_now_ns() < until ? 0 : -YK_ETIMEDOUT;
}

/* Turns until all records of the batch have ended. */
static void finish(yk_client *c, struct yk_batch *b, uint64_t deadline_ns) {
    for (;;) {
        uint64_t until = deadline_ns;
        yk_recs_ready(c, &b->runnable, b);
        if (b->own_deadlines) { /* a put in the batch may have an earlier one of its own */
            uint64_t next = yk_recs_expire(c, &b->recs, yk_now_ns());
            until = next < until ? next : until;
        }
        if (b->left == 0)
            return;
        if (turn(c, b, until) < 0 && (until == deadline_ns || c->state == YK_CONN_DEAD))
            end_left(c, b);
    }
}

/* Gives an operation a record, waiting for one if all are in use. */
static int attach(yk_client *c, struct yk_batch *b, yk_op *op, uint64_t epoch, uint64_t deadline_ns,
                  int tried) {
    uint64_t own = op_deadline(c, op, deadline_ns);
    uint64_t hash = yk_op_hash(op);
    struct yk_rec *rec;
    while ((rec = yk_rec_new(c, op, b, hash, epoch, own)) == NULL) {
        yk_recs_ready(c, &b->runnable, b);
        int rc = turn(c, b, deadline_ns);
        if (rc < 0)
            return rc;
    }
    if (own < deadline_ns)
        b->own_deadlines = 1;
    rec->tried = tried && rec->state == YK_REC_RUNNABLE;
    return 0;
}

/* Answers what needs no node, from the first operation on; returns where that ends. */
static size_t run_local(yk_client *c, yk_op *ops, size_t count, uint32_t *good) {
    size_t i = 0;
    while (i < count) {
        size_t many = yk_local_exists_many(c, ops + i, count - i);
        for (size_t end = i + many; i < end; i++)
            *good += ops[i].status == 0;
        if (i == count)
            break;
        int status = yk_op_check(c, &ops[i]);
        if (status == 0)
            status = yk_op_try(c, &ops[i]);
        if (status == YK_PENDING)
            break;
        ops[i].status = status;
        *good += status == 0;
        yk_op_count_put(c, &ops[i], status);
        i++;
    }
    return i;
}

int yk_ops_run(yk_client *c, yk_op *ops, size_t count, uint64_t deadline_ns) {
    struct yk_waiter w;
    struct yk_batch b = {.waiter = &w};
    uint64_t epoch = yk_client_epoch(c);
    size_t i = run_local(c, ops, count, &b.good);
    if (i == count)
        return (int)b.good;
    yk_list_init(&b.recs);
    yk_list_init(&b.runnable);
    yk_list_init(&b.moves);
    yk_waiter_init(&w);
    pthread_mutex_lock(&c->lock);
    for (int tried = 1; i < count; i++, tried = 0) {
        int rc = tried ? 0 : yk_op_check(c, &ops[i]);
        if (!tried)
            ops[i].priv[2] = 0;
        if (rc == 0)
            rc = attach(c, &b, &ops[i], epoch, deadline_ns, tried);
        if (rc < 0)
            ops[i].status = rc;
    }
    finish(c, &b, deadline_ns);
    yk_conn_unlock(c);
    yk_waiter_fini(&w);
    return (int)b.good;
}

static int check_batch(yk_client *c, const yk_op *ops, size_t count) {
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (count > YK_BATCH_MAX)
        return yk_fail(-YK_ETOOBIG, "a batch of %zu operations, at most %u are allowed", count,
                       YK_BATCH_MAX);
    if (ops == NULL && count > 0)
        return yk_fail(-YK_EINVAL, "a batch of %zu operations at NULL", count);
    return 0;
}

int yk_run(yk_client *c, yk_op *ops, size_t count, uint32_t timeout_ms) {
    int rc = check_batch(c, ops, count);
    return rc < 0 ? rc : yk_ops_run(c, ops, count, yk_client_deadline(c, timeout_ms));
}

/* Starts one operation: a final status, or YK_PENDING with a record. *order: an earlier one of the
 * batch has a record. */
static int start(yk_client *c, yk_op *op, uint64_t epoch, uint64_t deadline_ns, int *order) {
    int status = yk_op_check(c, op), tried = 0;
    if (status == 0 && !*order) {
        status = yk_op_try(c, op);
        tried = status == YK_PENDING;
    } else if (status == 0) {
        status = YK_PENDING;
    }
    if (status != YK_PENDING) {
        yk_op_count_put(c, op, status);
        return status;
    }
    *order = 1;
    pthread_mutex_lock(&c->lock);
    struct yk_rec *rec =
        yk_rec_new(c, op, NULL, yk_op_hash(op), epoch, op_deadline(c, op, deadline_ns));
    if (rec != NULL)
        rec->tried = tried && rec->state == YK_REC_RUNNABLE;
    pthread_mutex_unlock(&c->lock);
    /* Only when requests that were given up hold the records: the node is silent. */
    return rec != NULL ? YK_PENDING : -YK_EAGAIN;
}

int yk_submit(yk_client *c, yk_op *ops, size_t count, uint32_t timeout_ms) {
    int rc = check_batch(c, ops, count);
    if (rc < 0)
        return rc;
    uint64_t deadline_ns = yk_client_deadline(c, timeout_ms), epoch = yk_client_epoch(c);
    pthread_mutex_lock(&c->lock);
    int room = count <= c->inflight_max - c->inflight;
    if (room)
        c->inflight += (uint32_t)count;
    pthread_mutex_unlock(&c->lock);
    if (!room)
        return yk_fail(-YK_EAGAIN, "%zu more operations would pass the limit of %u in flight",
                       count, c->inflight_max);
    int order = 0;
    for (size_t i = 0; i < count; i++) {
        ops[i].status = YK_PENDING;
        memset(ops[i].priv, 0, sizeof(ops[i].priv));
        int status = start(c, &ops[i], epoch, deadline_ns, &order);
        if (status == YK_PENDING)
            continue;
        ops[i].status = status;
        pthread_mutex_lock(&c->lock);
        yk_poll_ended(c, &ops[i]);
        pthread_mutex_unlock(&c->lock);
    }
    pthread_mutex_lock(&c->lock);
    yk_recs_ready(c, &c->async_runnable, NULL);
    yk_conn_flush(c);
    yk_conn_unlock(c);
    return 0;
}
