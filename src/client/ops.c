/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations of batches and what is known of them while they are under way: records.
 *
 * An operation is tried without the node first, and only what needs it gets a record. Records of
 * one key are kept in the order in which they came; a later one begins when the one before it has
 * ended, so a batch that puts and then gets a key does so in that order. (Keys are told apart by a
 * 64-bit hash here: a collision makes two operations wait for each other and no more.)
 *
 * An operation ends exactly once, in yk_rec_end, whatever comes first: answer, deadline, cancel, or
 * the end of the connection.
 *
 * Threads: any; what begins with "Lock held" in client_priv.h under the lock.
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "base/copyhash.h"
#include "base/hash.h"
#include "client/fail.h"

#include <stdlib.h>
#include <string.h>

/* ---- operations ------------------------------------------------------------------------------------------- */

static int check_iov(const yk_op *op) {
    if (op->iov_count < 0 || (op->iov_count > 0 && op->iov == NULL))
        return yk_fail(-YK_EINVAL, "a scatter list of %d entries at %p", op->iov_count,
                       (const void *)op->iov);
    uint64_t total = 0;
    for (int i = 0; i < op->iov_count; i++) {
        if (op->iov[i].iov_len > 0 && op->iov[i].iov_base == NULL)
            return yk_fail(-YK_EINVAL, "entry %d of the scatter list is NULL", i);
        if (op->iov[i].iov_len > INT64_MAX - total)
            return yk_fail(-YK_EINVAL, "the scatter list is longer than memory");
        total += op->iov[i].iov_len;
    }
    return 0;
}

/* Has a key, and so a place in the order of that key's operations. */
static int has_key(const yk_op *op) {
    switch (op->opcode) {
    case YK_OP_MATCH:
    case YK_OP_PREFETCH:
    case YK_OP_REMOVE_MANY:
    case YK_OP_RESERVE:
    case YK_OP_ABORT:
        return 0;
    default:
        return 1;
    }
}

static int check_pattern(const yk_op *op) {
    if (op->arg < YK_REMOVE_PREFIX || op->arg > YK_REMOVE_ALL)
        return yk_fail(-YK_EINVAL, "remove_many: how is %llu, expected 1 to 3",
                       (unsigned long long)op->arg);
    if (op->arg != YK_REMOVE_ALL &&
        (op->key.len > YK_KEY_MAX || (op->key.len > 0 && op->key.data == NULL)))
        return yk_fail(-YK_EKEY, "a pattern of %zu bytes, at most %u are allowed", op->key.len,
                       YK_KEY_MAX);
    return 0;
}

static int check_reserve(const yk_client *c, const yk_op *op) {
    if (op->reservation == NULL)
        return yk_fail(-YK_EINVAL, "a reservation is NULL");
    if (__atomic_load_n(&c->map, __ATOMIC_RELAXED) == NULL)
        return yk_fail(-YK_ENOTSUP, "a put in place needs the node's memory mapped");
    return yk_put_check_len(c, op->arg);
}

int yk_op_check(const yk_client *c, const yk_op *op) {
    if (op->opcode < YK_OP_GET || op->opcode > YK_OP_ABORT)
        return yk_fail(-YK_EINVAL, "no operation has the code %u", op->opcode);
    int rc = has_key(op) ? yk_client_check_key(op->key) : 0;
    if (rc == 0 && op->flags != 0)
        rc = yk_fail(-YK_EINVAL, "flags of an operation are %u, must be 0", op->flags);
    if (rc < 0)
        return rc;
    switch (op->opcode) {
    case YK_OP_GET:
    case YK_OP_GET_RANGE:
        return check_iov(op);
    case YK_OP_PUT:
        rc = check_iov(op);
        return rc < 0 ? rc : yk_put_check(c, op);
    case YK_OP_STAT:
        if (op->info != NULL && op->arg > YK_INFO_SIZE_MAX)
            return yk_fail(-YK_EINVAL, "stat: arg is %llu, expected the size of its info, %zu", (unsigned long long)op->arg,
                           sizeof(*op->info));
        return 0;
    case YK_OP_EXISTS:
    case YK_OP_REMOVE:
    case YK_OP_TOUCH:
    case YK_OP_PIN:
    case YK_OP_UNPIN:
    case YK_OP_EXPIRE:
        return 0;
    case YK_OP_REF:
        if (op->ref == NULL)
            return yk_fail(-YK_EINVAL, "a reference goes to NULL");
        memset(op->ref, 0, sizeof(*op->ref)); /* it may end before it was tried: nothing is held */
        return 0;
    case YK_OP_MATCH:
    case YK_OP_PREFETCH:
        return yk_ask_check_list(op->list, op->opcode == YK_OP_PREFETCH);
    case YK_OP_REMOVE_MANY:
        return check_pattern(op);
    case YK_OP_RESERVE:
        return check_reserve(c, op);
    case YK_OP_COMMIT:
        rc = yk_rsv_check(op->reservation, "commit");
        return rc < 0 ? rc : yk_put_check_opts(op->put);
    case YK_OP_ABORT:
        return yk_rsv_check(op->reservation, "abort");
    default:
        return -YK_EINVAL; /* there is none that comes here */
    }
}

uint64_t yk_op_hash(const yk_op *op) {
    if (!has_key(op)) /* in nobody's way */
        return yk_hash_key(1, &op, sizeof(op));
    return yk_hash_key(0, op->key.data, op->key.len);
}

int yk_op_try(yk_client *c, yk_op *op) {
    int rc;
    switch (op->opcode) {
    case YK_OP_GET:
    case YK_OP_GET_RANGE:
        rc = yk_local_get(c, op);
        op->priv[2] = rc == YK_PENDING;
        return rc == -YK_EAGAIN ? YK_PENDING : rc;
    case YK_OP_REF:
        rc = yk_local_ref(c, op);
        op->priv[2] = rc == YK_PENDING;
        return rc == -YK_EAGAIN ? YK_PENDING : rc;
    case YK_OP_EXISTS:
    case YK_OP_STAT:
        rc = yk_local_look(c, op);
        return rc == -YK_EAGAIN ? YK_PENDING : rc;
    case YK_OP_MATCH: {
        size_t ask;
        op->len = yk_local_match(c, op->list->keys, op->list->count, yk_ask_infos(op->list), &ask);
        op->priv[2] = ask;
        return ask > 0 ? YK_PENDING : op->len > 0 ? 0 : YK_MISS;
    }
    case YK_OP_ABORT:
        return yk_abort(c, op->reservation);
    case YK_OP_PUT: {
        uint8_t fix;
        rc = yk_put_try(c, op, &fix);
        op->priv[2] = fix;
        return rc;
    }
    default:
        return YK_PENDING;
    }
}

/* ---- records ------------------------------------------------------------------------------------------------ */

static struct yk_link *key_bucket(yk_client *c, uint64_t hash) {
    return &c->keys[hash % YK_KEY_BUCKETS];
}

/* The first record of a key, in order of submission. */
static struct yk_rec *key_first(yk_client *c, uint64_t hash) {
    struct yk_link *head = key_bucket(c, hash);
    for (struct yk_link *l = head->next; l != head; l = l->next) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, key_link);
        if (rec->hash == hash)
            return rec;
    }
    return NULL;
}

static struct yk_rec *rec_take(yk_client *c) {
    struct yk_link *l = yk_list_take(&c->recs_free);
    if (c->recs_left == 0)
        return NULL;
    c->recs_left--;
    struct yk_rec *rec = l != NULL ? YK_LIST_ITEM(l, struct yk_rec, link) : &c->recs[c->rec_top++];
    memset(rec, 0, sizeof(*rec));
    yk_list_init(&rec->link);
    yk_list_init(&rec->owner_link);
    yk_list_init(&rec->key_link);
    return rec;
}

/* What a record starts from, before anything was tried or when nothing can be. */
static void rec_begin(yk_client *c, struct yk_rec *rec) {
    const yk_op *op = rec->op;
    switch (op->opcode) {
    case YK_OP_GET:
    case YK_OP_GET_RANGE:
    case YK_OP_PUT:
        rec->len = yk_iov_len(op->iov, op->iov_count);
        break;
    case YK_OP_REF:
        rec->len = __atomic_load_n(&c->max_block_bytes, __ATOMIC_RELAXED);
        break;
    case YK_OP_MATCH:
    case YK_OP_PREFETCH:
        rec->len = op->list->count;
        break;
    case YK_OP_RESERVE:
        rec->len = op->arg;
        break;
    case YK_OP_COMMIT:
        rec->len = op->reservation->len;
        rec->epoch = op->reservation->priv[3];
        break;
    default:
        break;
    }
}

void yk_rec_get_again(yk_client *c, struct yk_rec *rec) {
    rec->at = 0;
    rec_begin(c, rec);
}

struct yk_rec *yk_rec_new(yk_client *c, yk_op *op, struct yk_batch *batch, uint64_t hash,
                          uint64_t epoch, uint64_t deadline_ns) {
    struct yk_rec *rec = rec_take(c);
    if (rec == NULL)
        return NULL;
    rec->op = op;
    rec->batch = batch;
    rec->hash = hash;
    rec->epoch = epoch;
    rec->deadline_ns = deadline_ns;
    rec_begin(c, rec);
    op->status = YK_PENDING;
    op->priv[0] = (uint64_t)(rec - c->recs) + 1u;
    yk_list_add(batch != NULL ? &batch->recs : &c->async_recs, &rec->owner_link);
    if (batch != NULL)
        batch->left++;
    int first = key_first(c, hash) == NULL;
    yk_list_add(key_bucket(c, hash), &rec->key_link);
    if (first)
        yk_rec_runnable(c, rec);
    else
        rec->state = YK_REC_BLOCKED;
    return rec;
}

void yk_rec_free(yk_client *c, struct yk_rec *rec) {
    yk_rec_drop_place(rec);
    yk_list_remove(&rec->link);
    rec->state = YK_REC_FREE;
    yk_list_add_first(&c->recs_free, &rec->link); /* the warm one first */
    c->recs_left++;
}

void yk_rec_drop_place(struct yk_rec *rec) {
    if (!rec->in_place)
        return;
    rec->in_place = rec->maybe_made = 0;
    if (rec->map != NULL)
        yk_map_leave_write(rec->map);
    rec->map = NULL;
}

int yk_place_is_valid(const yk_client *c, const struct yk_rec *rec) {
    return rec->map == c->map &&
           (rec->map != NULL || (c->state == YK_CONN_UP && rec->conn == c->conn_number));
}

void yk_place_give_back(yk_client *c, struct yk_rec *rec) {
    struct yk_rsv rsv = rec->rsv;
    int valid = yk_place_is_valid(c, rec);
    yk_rec_drop_place(rec);
    if (valid)
        yk_rec_give_back(c, &rsv);
}

void yk_rec_enqueue(yk_client *c, struct yk_rec *rec, enum yk_queue queue) {
    yk_list_remove(&rec->link);
    rec->state = YK_REC_QUEUED;
    rec->queue = (uint8_t)queue;
    yk_list_add(&c->queue[queue], &rec->link);
    if (c->state == YK_CONN_DEAD)
        yk_rec_end(c, rec, yk_rec_late_status(c, rec));
}

void yk_rec_runnable(yk_client *c, struct yk_rec *rec) {
    yk_list_remove(&rec->link);
    rec->state = YK_REC_RUNNABLE;
    if (rec->batch != NULL) {
        yk_list_add(&rec->batch->runnable, &rec->link);
        yk_waiter_wake(rec->batch->waiter);
    } else {
        yk_list_add(&c->async_runnable, &rec->link);
        yk_conn_wake_poller(c);
    }
}

void yk_rec_give_back(yk_client *c, const struct yk_rsv *rsv) {
    struct yk_rec *rec = c->state != YK_CONN_DEAD ? rec_take(c) : NULL;
    if (rec == NULL)
        return; /* the node takes it back with the client's slot */
    rec->rsv = *rsv;
    rec->queue = YK_Q_ABORT;
    rec->state = YK_REC_QUEUED;
    yk_list_add(&c->queue[YK_Q_ABORT], &rec->link);
}

int yk_rec_late_status(const yk_client *c, const struct yk_rec *rec) {
    uint32_t opcode = rec->op->opcode;
    int lookup = yk_op_is_get(rec->op) || opcode == YK_OP_EXISTS || opcode == YK_OP_STAT ||
                 opcode == YK_OP_MATCH;
    /* Without the node a lookup's answer is a miss. So it is when the index could not be read and
     * the node, which could say more, is silent. */
    if (lookup && (c->state != YK_CONN_UP || c->map != NULL))
        return YK_MISS;
    if (c->state == YK_CONN_DEAD)
        return c->dead_status;
    if (opcode == YK_OP_COMMIT) /* without the node nothing is known of it: it may be made again */
        return -YK_ETIMEDOUT;
    return c->state == YK_CONN_UP ? -YK_ETIMEDOUT : -YK_EGONE;
}

void yk_op_count_put(yk_client *c, const yk_op *op, int status) {
    if (op->opcode != YK_OP_PUT && op->opcode != YK_OP_COMMIT)
        return;
    if (status == 0 || status == YK_FEWER) {
        uint64_t len =
            op->opcode == YK_OP_PUT ? yk_iov_len(op->iov, op->iov_count) : op->reservation->len;
        __atomic_fetch_add(&c->puts, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&c->put_bytes, len, __ATOMIC_RELAXED);
    } else if (status == -YK_ECONFLICT) {
        __atomic_fetch_add(&c->conflicts, 1, __ATOMIC_RELAXED);
    }
}

/* What an end means for that which the operation hands out or holds. Returns the status. */
static int end_special(struct yk_rec *rec, int status) {
    yk_op *op = rec->op;
    if (op->opcode == YK_OP_REF)
        yk_ref_end(rec, status);
    else if (op->opcode == YK_OP_MATCH && status == YK_MISS && op->len > 0)
        return 0; /* as far as it was seen */
    else if (op->opcode == YK_OP_COMMIT && status != -YK_ETIMEDOUT && status != -YK_ECANCELED)
        yk_rsv_over(op->reservation);
    return status;
}

/* Gets that the mapping answered, be it after a raise, were counted there. */
static void count_end(yk_client *c, const yk_op *op, const struct yk_rec *rec, int status) {
    yk_op_count_put(c, op, status);
    if (rec->queue != YK_Q_GET && (rec->queue != YK_Q_RAISE || rec->state == YK_REC_RUNNABLE))
        return;
    if (status == 0) {
        yk_client_count(c, NULL, YK_COUNT_HIT, 1);
        yk_client_count(c, NULL, YK_COUNT_HIT_BYTES, op->len);
    } else if (status == YK_MISS) {
        yk_client_count(c, NULL, YK_COUNT_MISS, 1);
    }
}

/* The next operation of the key may begin. */
static void key_release(yk_client *c, struct yk_rec *rec) {
    yk_list_remove(&rec->key_link);
    struct yk_rec *next = key_first(c, rec->hash);
    if (next != NULL && next->state == YK_REC_BLOCKED)
        yk_rec_runnable(c, next);
}

/* The record without its operation: waits as an orphan, or goes. */
static void rec_settle(yk_client *c, struct yk_rec *rec) {
    if (c->rx.rec == rec) { /* the rest of its payload is dropped */
        c->rx.rec = NULL;
        yk_rec_free(c, rec);
    } else if (rec->state == YK_REC_SENT) {
        return;
    } else if (rec->in_place && !rec->borrowed && yk_place_is_valid(c, rec) &&
               /* Into one that was written to, bytes may come that nobody waits for any more; one that may be a
                * block's is not to be written again. The node knows whether it is still ours. */
               (rec->written || rec->maybe_made || yk_hold_keep(&c->hold, rec->len, &rec->rsv) < 0)) {
        struct yk_rsv rsv = rec->rsv;
        yk_rec_free(c, rec);
        yk_rec_give_back(c, &rsv);
    } else {
        yk_rec_free(c, rec);
    }
}

void yk_rec_end(yk_client *c, struct yk_rec *rec, int status) {
    if (rec->op == NULL)
        return;
    if (rec->io) { /* the reply may overtake the thread that sent */
        rec->end_due = 1;
        rec->end_status = status;
        if (rec->state == YK_REC_MOVING)
            yk_move_cancel(c, rec);
        return;
    }
    if (c->tx.rec == rec) {
        yk_conn_lost(c); /* its frame cannot be completed without it */
        if (rec->op == NULL)
            return;
    }
    yk_op *op = rec->op;
    struct yk_batch *batch = rec->batch;
    count_end(c, op, rec, status);
    status = end_special(rec, status);
    rec->op = NULL;
    rec->batch = NULL;
    yk_list_remove(&rec->owner_link);
    key_release(c, rec);
    rec_settle(c, rec);
    op->priv[0] = 0;
    op->status = status;
    if (batch == NULL) {
        yk_poll_ended(c, op);
        return;
    }
    batch->good += status == 0;
    if (--batch->left == 0)
        yk_waiter_wake(batch->waiter);
}

void yk_rec_io_done(yk_client *c, struct yk_rec *rec) {
    rec->io = 0;
    if (rec->end_due)
        yk_rec_end(c, rec, rec->end_status);
}

uint64_t yk_recs_expire(yk_client *c, struct yk_link *recs, uint64_t now_ns) {
    uint64_t first = UINT64_MAX;
    for (struct yk_link *l = recs->next, *next; l != recs; l = next) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, owner_link);
        next = l->next;
        if (rec->deadline_ns > now_ns) {
            first = rec->deadline_ns < first ? rec->deadline_ns : first;
        } else if (!rec->io) {
            yk_rec_end(c, rec, yk_rec_late_status(c, rec));
            next = recs->next; /* others may have gone with it */
            first = UINT64_MAX;
        } else if (!rec->end_due) {
            yk_rec_end(c, rec, yk_rec_late_status(c, rec)); /* when its memory is free */
        }
    }
    return first;
}

struct yk_rec *yk_rec_next(struct yk_link *runnable) {
    struct yk_link *l = yk_list_take(runnable);
    if (l == NULL)
        return NULL;
    struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, link);
    rec->io = 1;
    return rec;
}

int yk_rec_lock(yk_client *c, struct yk_rec *rec) {
    pthread_mutex_lock(&c->lock);
    rec->io = 0;
    if (!rec->end_due)
        return 1;
    yk_rec_end(c, rec, rec->end_status);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

/* ---- payload ------------------------------------------------------------------------------------------------- */

/* A get through the socket is complete: is it what was put? Once more if not, then it is a miss. */
static void get_check(yk_client *c, struct yk_rec *rec) {
    const yk_op *op = rec->op;
    int status = 0;
    int count;
    const struct iovec *iov = yk_rec_iov(rec, &count);
    if (op->opcode != YK_OP_GET_RANGE || rec->whole) { /* there is no checksum of a part */
        uint64_t hash;
        status = yk_iov_hash(iov, count, rec->len, &hash);
        if (status == 0 && hash != rec->sum)
            status = -YK_ECORRUPT;
    }
    if (!yk_rec_lock(c, rec))
        return;
    rec->check = 0;
    if (status == -YK_ECORRUPT) {
        yk_client_count(c, NULL, YK_COUNT_VERIFY_FAIL, 1);
        status = YK_MISS;
        if (rec->tries++ == 0) {
            rec->through = 1;
            yk_rec_get_again(c, rec);
            yk_rec_enqueue(c, rec, YK_Q_GET);
            pthread_mutex_unlock(&c->lock);
            return;
        }
    }
    if (status == 0)
        rec->op->len = rec->len;
    yk_rec_end(c, rec, status);
    pthread_mutex_unlock(&c->lock);
}

static enum yk_queue queue_of(struct yk_rec *rec) {
    yk_op *op = rec->op;
    if (yk_op_is_get(op)) {
        int raise = op->priv[2] != 0 && rec->raises < YK_RAISES_MAX;
        op->priv[2] = 0;
        rec->raises += (uint8_t)raise;
        return raise ? YK_Q_RAISE : YK_Q_GET;
    }
    switch (op->opcode) {
    case YK_OP_EXISTS:
        return YK_Q_EXISTS;
    case YK_OP_STAT:
        return YK_Q_STAT;
    case YK_OP_MATCH: /* priv[2]: keys behind the run that is in op->len; 0 when nothing was tried */
        if (op->priv[2] > 0)
            rec->len = op->len + op->priv[2];
        else
            op->len = 0;
        op->priv[2] = 0;
        rec->at = op->len;
        return YK_Q_ASK;
    case YK_OP_PREFETCH:
    case YK_OP_REMOVE_MANY:
        op->len = 0;
        return YK_Q_ASK;
    default:
        return YK_Q_CHANGE;
    }
}

void yk_rec_run(yk_client *c, struct yk_rec *rec) {
    yk_op *op = rec->op;
    if (rec->check) {
        get_check(c, rec);
        return;
    }
    if (rec->written) {
        yk_put_written(c, rec);
        return;
    }
    if (op->opcode == YK_OP_RESERVE || op->opcode == YK_OP_COMMIT) {
        (op->opcode == YK_OP_RESERVE ? yk_reserve_run : yk_commit_run)(c, rec);
        return;
    }
    int status = YK_PENDING;
    /* Not at another epoch than that of its beginning: what is here now is not what it means. */
    if (!rec->in_place && !rec->tried &&
        (rec->epoch == yk_client_epoch(c) || op->opcode == YK_OP_ABORT))
        status = yk_op_try(c, op);
    rec->tried = 0;
    if (status == 0 && rec->raises > 0)
        yk_client_count_raised(c, op->len);
    if (status == YK_PENDING && op->opcode == YK_OP_PUT && op->priv[2] == 0) {
        yk_put_run(c, rec);
        return;
    }
    if (!yk_rec_lock(c, rec))
        return;
    if (status != YK_PENDING) {
        yk_rec_end(c, rec, status);
    } else if (op->opcode == YK_OP_PUT) {
        rec->fix = (uint8_t)op->priv[2];
        op->priv[2] = 0;
        yk_rec_enqueue(c, rec, YK_Q_CHANGE);
    } else {
        yk_rec_enqueue(c, rec, queue_of(rec));
    }
    pthread_mutex_unlock(&c->lock);
}
