/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes between the node's owner thread and the directory's loop (dir.h).
 *
 * Changes of blocks come through a ring of bytes with one writer and one reader: the owner thread neither locks
 * nor allocates for them. A full ring drops what comes and says so; the loop then walks over all blocks once
 * more, and what that does not find has gone (change.c).
 *
 * Everything else is a job in a list under the lock. Jobs for the owner thread keep their order when its queue is
 * full: they wait here.
 *
 * Threads: as each function says.
 */
#include "dir/dir_priv.h"

#include "base/log.h"

static struct yk_log_limit lost_limit = YK_LOG_LIMIT_INIT(60000);

/* ---- changes ---------------------------------------------------------------------------------------- */

#define ALIGN(n) (((n) + 7u) & ~7u)
#define SKIP     0u /* bytes of a record: the rest of the ring is empty */

struct record {
    uint32_t bytes; /* with what follows */
    uint8_t ns_len, key_len, parent_len, tiers;
    uint8_t guest, copies, reserved[6];
    uint64_t epoch, gen, len, sum;
};

struct dir_ring {
    uint64_t head; /* atomic: written up to here; release pairs with the reader's acquire */
    uint64_t tail; /* atomic: read up to here; likewise the other way */
    int lost;      /* atomic */
    unsigned char bytes[DIR_RING_BYTES];
};

struct dir_ring *dir_ring_new(void) {
    return calloc(1, sizeof(struct dir_ring));
}

static uint32_t record_bytes(const struct yk_pool_block *b) {
    return ALIGN((uint32_t)sizeof(struct record) + b->ns_len + b->key_len + b->parent_len);
}

static void record_write(void *to, const struct yk_pool_block *b) {
    struct record r = {.bytes = record_bytes(b),
                       .ns_len = (uint8_t)b->ns_len,
                       .key_len = (uint8_t)b->key_len,
                       .parent_len = (uint8_t)(b->parent != NULL ? b->parent_len : 0),
                       .tiers = b->tiers,
                       .guest = b->guest,
                       .copies = b->copies,
                       .epoch = b->epoch,
                       .gen = b->gen,
                       .len = b->len,
                       .sum = b->sum};
    unsigned char *at = to;
    memcpy(at, &r, sizeof(r));
    memcpy(at += sizeof(r), b->ns, r.ns_len);
    memcpy(at += r.ns_len, b->key, r.key_len);
    if (r.parent_len > 0)
        memcpy(at + r.key_len, b->parent, r.parent_len);
}

static uint32_t record_read(const void *from, struct yk_pool_block *ret) {
    struct record r;
    const unsigned char *at = from;
    memcpy(&r, at, sizeof(r));
    at += sizeof(r);
    *ret = (struct yk_pool_block){.ns = (const char *)at,
                                  .ns_len = r.ns_len,
                                  .key = at + r.ns_len,
                                  .key_len = r.key_len,
                                  .parent = r.parent_len > 0 ? at + r.ns_len + r.key_len : NULL,
                                  .parent_len = r.parent_len,
                                  .epoch = r.epoch,
                                  .gen = r.gen,
                                  .len = r.len,
                                  .sum = r.sum,
                                  .tiers = r.tiers,
                                  .guest = r.guest,
                                  .copies = r.copies};
    return r.bytes;
}

void dir_ring_put(struct dir_ring *ring, const struct yk_pool_block *b) {
    uint32_t bytes = record_bytes(b), skip = SKIP;
    uint64_t head = ring->head, tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
    uint32_t at = (uint32_t)(head % DIR_RING_BYTES), end = DIR_RING_BYTES - at;
    uint64_t need = end < bytes ? (uint64_t)end + bytes : bytes;
    if (need > DIR_RING_BYTES - (head - tail)) {
        __atomic_store_n(&ring->lost, 1, __ATOMIC_RELAXED);
        return;
    }
    if (end < bytes) {
        memcpy(ring->bytes + at, &skip, sizeof(skip)); /* records are multiples of 8: there is room for it */
        head += end;
        at = 0;
    }
    record_write(ring->bytes + at, b);
    __atomic_store_n(&ring->head, head + bytes, __ATOMIC_RELEASE);
}

int dir_ring_take(struct dir_ring *ring, struct yk_pool_block *ret, uint32_t *ret_bytes) {
    uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE), tail = ring->tail;
    uint32_t at = (uint32_t)(tail % DIR_RING_BYTES), bytes;
    if (tail == head)
        return 0;
    memcpy(&bytes, ring->bytes + at, sizeof(bytes));
    if (bytes == SKIP) {
        __atomic_store_n(&ring->tail, tail + DIR_RING_BYTES - at, __ATOMIC_RELEASE);
        return dir_ring_take(ring, ret, ret_bytes);
    }
    *ret_bytes = record_read(ring->bytes + at, ret);
    return 1;
}

void dir_ring_took(struct dir_ring *ring, uint32_t bytes) {
    __atomic_store_n(&ring->tail, ring->tail + bytes, __ATOMIC_RELEASE);
}

uint64_t dir_ring_written(const struct dir_ring *ring) {
    return __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
}

uint64_t dir_ring_read(const struct dir_ring *ring) {
    return ring->tail;
}

int dir_ring_has_lost(const struct dir_ring *ring) {
    return __atomic_load_n(&ring->lost, __ATOMIC_RELAXED);
}

int dir_ring_lost(struct dir_ring *ring) {
    if (!__atomic_exchange_n(&ring->lost, 0, __ATOMIC_RELAXED))
        return 0;
    yk_log_limited(&lost_limit, YK_LOG_WARN, "dir",
                   "changes came faster than they could be told: all blocks are looked at again");
    return 1;
}

/* ---- jobs ------------------------------------------------------------------------------------------- */

/* Sent under the lock: once the loop has the job, whoever brought it is done with the handle, which the end of the
 * last job closes. */
void dir_to_loop(struct yk_dir *d, struct dir_job *job) {
    job->next = NULL;
    if (job->dir != d) /* the loop may be reading it */
        job->dir = d;
    pthread_mutex_lock(&d->lock);
    *d->inbox_tail = job;
    d->inbox_tail = &job->next;
    uv_async_send(&d->wake);
    pthread_mutex_unlock(&d->lock);
}

static void on_owner(void *arg, struct yk_store *store) {
    struct dir_job *job = arg;
    job->there(job, store);
    dir_to_loop(job->dir, job);
}

static int post(struct yk_dir *d, struct dir_job *job) {
    int rc = yk_node_post(d->node, on_owner, job);
    if (rc == -YK_EAGAIN || rc == -YK_ENOMEM)
        return rc;
    if (rc < 0) {
        job->closed = 1;
        dir_to_loop(d, job);
    }
    return 0;
}

void dir_to_node(struct yk_dir *d, struct dir_job *job) {
    job->next = NULL;
    job->dir = d;
    job->closed = 0;
    job->out = 1;
    d->jobs++;
    if (d->outbox == NULL && post(d, job) == 0)
        return;
    *d->outbox_tail = job;
    d->outbox_tail = &job->next;
    dir_look_soon(d);
}

uint32_t dir_outbox_look(struct yk_dir *d) {
    while (d->outbox != NULL) {
        struct dir_job *job = d->outbox, *next = job->next;
        if (post(d, job) < 0)
            return 1;
        d->outbox = next;
        if (next == NULL)
            d->outbox_tail = &d->outbox;
    }
    return 0;
}

void dir_inbox_run(struct yk_dir *d) {
    pthread_mutex_lock(&d->lock);
    struct dir_job *job = d->inbox, *next;
    d->inbox = NULL;
    d->inbox_tail = &d->inbox;
    pthread_mutex_unlock(&d->lock);
    for (; job != NULL; job = next) {
        next = job->next;
        d->jobs -= job->out;
        job->out = 0;
        job->back(job);
    }
}

/* ---- tickets ---------------------------------------------------------------------------------------- */

static void durable_there(struct dir_job *job, struct yk_store *store) {
    struct dir_ticket *t = DIR_ITEM(job, struct dir_ticket, job);
    int rc = yk_store_durable(store, t->ticket);
    t->status = rc == 1 ? t->result : rc == 0 ? YK_PENDING : rc;
}

static void durable_back(struct dir_job *job) {
    struct dir_ticket *t = DIR_ITEM(job, struct dir_ticket, job);
    if (job->closed)
        t->status = -YK_ECLOSED;
    if (t->status != YK_PENDING) {
        t->done(t);
        return;
    }
    dir_list_add(&job->dir->tickets, &t->all);
    dir_look_soon(job->dir);
}

void dir_ticket_wait(struct dir_ticket *t) {
    t->result = t->status;
    if (t->job.closed)
        t->status = -YK_ECLOSED;
    if (t->ticket == 0 || t->status < 0) {
        t->done(t);
        return;
    }
    t->job.there = durable_there;
    t->job.back = durable_back;
    dir_to_node(t->job.dir, &t->job);
}

uint32_t dir_tickets_look(struct yk_dir *d) {
    uint32_t left = 0;
    for (struct dir_link *l = d->tickets.next, *next; l != &d->tickets; l = next) {
        struct dir_ticket *t = DIR_ITEM(l, struct dir_ticket, all);
        next = l->next;
        dir_list_remove(&t->all);
        dir_to_node(d, &t->job);
        left++;
    }
    return left;
}
