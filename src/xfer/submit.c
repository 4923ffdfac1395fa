/* SPDX-License-Identifier: Apache-2.0
 *
 * Submitting: the whole batch is checked before any of it begins, under one hold of the tables' lock;
 * then it goes to a shard, a large one in parts to all.
 *
 * A thread always uses the same shard: its requests meet the lanes that they warmed, and threads beyond
 * the number of shards share.
 *
 * Threads: any.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"
#include "base/sized.h"

#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS    30000u
#define BYTES_A_MS    100000u     /* added for them */
#define SPLIT_BYTES   (32u << 20) /* a batch of so many is split over the shards */

#define FLAGS (YK_XFER_EVENT | YK_XFER_WILL_WAIT)

/* ---- checks --------------------------------------------------------------------------------------- */

static int check_opts(const yk_xfer_submit_opts *opts, int run, yk_xfer_submit_opts *ret,
                      struct yk_err *err) {
    *ret = (yk_xfer_submit_opts){.size = sizeof(*ret), .xclass = YK_XFER_DEMAND};
    if (opts == NULL)
        return 0;
    if (opts->size < offsetof(yk_xfer_submit_opts, flags))
        return yk_err_set(err, -YK_EINVAL, "submit options: size is %u, not sizeof the struct",
                          opts->size);
    if (opts->size <= 4096u && yk_sized_has_more(opts, opts->size, sizeof(*ret)))
        return yk_err_set(err, -YK_ENOTSUP, "submit options: fields beyond the first %zu bytes are set", sizeof(*ret));
    memcpy(ret, opts, opts->size < sizeof(*ret) ? opts->size : sizeof(*ret));
    if (ret->xclass >= YK_XFER_CLASSES)
        return yk_err_set(err, -YK_EINVAL, "submit options: class %u, the last is %u", ret->xclass,
                          YK_XFER_CLASSES - 1u);
    if (ret->flags & ~(uint32_t)FLAGS)
        return yk_err_set(err, -YK_EINVAL, "submit options: flags %#x have bits that mean nothing",
                          ret->flags);
    if (ret->done != NULL && (run || (ret->flags & YK_XFER_EVENT)))
        return yk_err_set(err, -YK_EINVAL, "submit options: a callback %s",
                          run ? "of a call that waits itself" : "and YK_XFER_EVENT: one of them");
    if (run && (ret->flags & YK_XFER_EVENT))
        return yk_err_set(err, -YK_EINVAL, "submit options: an event of a call that waits itself");
    if (ret->notify_bytes > YK_XFER_NOTIFY_MAX || (ret->notify_bytes > 0 && ret->notify == NULL))
        return yk_err_set(err, -YK_EINVAL, "submit options: a notification of %u bytes%s",
                          ret->notify_bytes,
                          ret->notify == NULL ? " at NULL" : ", at most 4096 can be sent");
    return 0;
}

static int check_shape(const yk_xfer_request *q, size_t i, struct yk_err *err) {
    if (q->op != YK_XFER_READ && q->op != YK_XFER_WRITE)
        return yk_err_set(err, -YK_EINVAL, "request %zu: op %u is neither read nor write", i, q->op);
    if (q->reserved != 0)
        return yk_err_set(err, -YK_EINVAL, "request %zu: reserved is %u, not 0", i, q->reserved);
    if (q->length == 0)
        return yk_err_set(err, -YK_EINVAL, "request %zu: its length is 0", i);
    if (q->length > YK_XFER_LENGTH_MAX)
        return yk_err_set(err, -YK_EINVAL, "request %zu: its length of %llu bytes is beyond 1 TiB", i,
                          (unsigned long long)q->length);
    if (q->local == NULL)
        return yk_err_set(err, -YK_EINVAL, "request %zu: its local address is NULL", i);
    return 0;
}

static int check_segment(const struct yk_seg *g, const yk_xfer_request *q, size_t i,
                         struct yk_err *err) {
    uint32_t need = q->op == YK_XFER_READ ? (uint32_t)YK_XFER_REMOTE_READ
                                          : (uint32_t)YK_XFER_REMOTE_WRITE;
    if (g == NULL)
        return yk_err_set(err, -YK_ENOENT, "request %zu: segment %#llx is not open", i,
                          (unsigned long long)q->segment);
    if (q->length > g->len || q->offset > g->len - q->length)
        return yk_err_set(err, -YK_EINVAL,
                          "request %zu: %llu bytes at offset %llu, past the segment's end at %llu", i,
                          (unsigned long long)q->length, (unsigned long long)q->offset,
                          (unsigned long long)g->len);
    if ((g->access & need) == 0)
        return yk_err_set(err, -YK_EPERM, "request %zu: the segment may not be %s", i,
                          q->op == YK_XFER_READ ? "read" : "written");
    if (q->guard != NULL && !g->guarded)
        return yk_err_set(err, -YK_EINVAL, "request %zu: the segment answers no guarded requests", i);
    if (q->guard == NULL && (g->access & YK_XFER_REMOTE_GUARDED))
        return yk_err_set(err, -YK_EPERM, "request %zu: the segment takes requests with a guard only", i);
    return 0;
}

static int not_registered(const yk_xfer_request *q, size_t i, const char *where, struct yk_err *err) {
    return yk_err_set(err, -YK_EINVAL, "request %zu: %llu bytes at %p are %s", i,
                      (unsigned long long)q->length, q->local, where);
}

/* A reference to the registered memory of a request; often that of the one before. NULL: it has none,
 * and needs none. */
static int local_region(struct yk_xfer *e, const yk_xfer_request *q, size_t i, struct yk_region *last,
                        struct yk_region **ret_region, struct yk_err *err) {
    const char *at = q->local;
    *ret_region = last;
    if (last != NULL && at >= last->base && q->length <= last->len &&
        (uint64_t)(at - last->base) <= last->len - q->length) {
        __atomic_fetch_add(&last->refs, 1, __ATOMIC_RELAXED); /* one is held: it cannot go away */
        return 0;
    }
    *ret_region = NULL;
    if (!e->opts.any_local || q->length > UINTPTR_MAX - (uintptr_t)at) {
        *ret_region = yk_registry_find(e->registry, at, q->length);
        return *ret_region != NULL ? 0 : not_registered(q, i, "not in registered memory", err);
    }
    return yk_registry_local(e->registry, at, q->length, ret_region) != -YK_EBUSY
               ? 0
               : not_registered(q, i, "in part in registered memory, or being unregistered", err);
}

/* Whose memory is a device's. What comes into it nobody can look at. */
static int check_device(const struct yk_seg *g, const yk_xfer_request *q, const struct yk_region *region, size_t i,
                        uint8_t *ret_device, struct yk_err *err) {
    int here = region != NULL && yk_region_is_device(region);
    *ret_device = (uint8_t)((here ? YK_DEVICE_HERE : 0) | (g->access & YK_REGION_KINDS ? YK_DEVICE_THERE : 0));
    if (here && q->op == YK_XFER_READ && q->guard != NULL && q->guard->has_checksum)
        return yk_err_set(err, -YK_ENOTSUP, "request %zu: its checksum cannot be compared: it is read into a device's "
                                            "memory", i);
    return 0;
}

static int take_one(struct yk_xfer *e, struct yk_batch *b, const yk_xfer_request *q, uint32_t i,
                    struct yk_err *err) {
    int rc = check_shape(q, i, err);
    const struct yk_seg *g = yk_segment_at(e, q->segment);
    if (rc == 0)
        rc = check_segment(g, q, i, err);
    struct yk_region *region;
    if (rc == 0)
        rc = local_region(e, q, i, i > 0 ? b->reqs[i - 1].region : NULL, &region, err);
    if (rc < 0)
        return rc;
    uint8_t device;
    rc = check_device(g, q, region, i, &device, err);
    if (rc < 0) {
        yk_registry_put(e->registry, region);
        return rc;
    }
    if (i == 0 || b->reqs[i - 1].peer != g->peer)
        yk_peer_ref(g->peer); /* one for a run of them: the batch's */
    struct yk_req *r = &b->reqs[i];
    *r = (struct yk_req){.peer = g->peer,
                         .region = region,
                         .local = q->local,
                         .len = q->length,
                         .remote = g->region,
                         .offset = g->offset + q->offset,
                         .op = (uint8_t)q->op,
                         .device = device,
                         .xclass = (uint8_t)b->xclass};
    if (q->guard != NULL) {
        r->guarded = 1;
        r->guard = *q->guard;
    }
    yk_list_init(&r->link);
    yk_list_init(&r->pieces);
    return 0;
}

/* Only n of its requests were taken. */
static void give_back(struct yk_xfer *e, struct yk_batch *b, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        yk_registry_put(e->registry, b->reqs[i].region);
    b->n = n;
}

static int take_note(struct yk_xfer *e, struct yk_batch *b, const yk_xfer_submit_opts *o,
                     const yk_xfer_request *requests, struct yk_err *err) {
    const struct yk_seg *g = yk_segment_at(e, requests[0].segment);
    if (g == NULL)
        return yk_err_set(err, -YK_ENOENT, "request 0: segment %#llx is not open",
                          (unsigned long long)requests[0].segment);
    for (uint32_t i = 0; i < b->n; i++)
        if (b->reqs[i].peer != g->peer)
            return yk_err_set(err, -YK_EINVAL,
                              "request %u: another target than request 0's, with a notification", i);
    if (g->peer->file)
        return yk_err_set(err, -YK_EINVAL, "request 0: a file takes no notification");
    b->note = malloc(o->notify_bytes);
    if (b->note == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a notification");
    memcpy(b->note, o->notify, o->notify_bytes);
    b->note_bytes = o->notify_bytes;
    b->note_number = __atomic_add_fetch(&e->note_number, 1, __ATOMIC_RELAXED);
    b->note_peer = g->peer;
    yk_peer_ref(g->peer);
    return 0;
}

/* The requests into the batch, all or none. */
static int take_all(struct yk_xfer *e, struct yk_batch *b, const yk_xfer_request *requests,
                    const yk_xfer_submit_opts *o, uint64_t *ret_bytes, struct yk_err *err) {
    uint32_t i = 0;
    int rc = 0;
    pthread_mutex_lock(&e->tables);
    for (; i < b->n && rc == 0; i++) {
        rc = take_one(e, b, &requests[i], i, err);
        *ret_bytes += requests[i].length;
    }
    if (rc == 0 && o->notify_bytes > 0)
        rc = take_note(e, b, o, requests, err);
    else if (rc < 0)
        i--;
    pthread_mutex_unlock(&e->tables);
    if (rc < 0)
        give_back(e, b, i);
    return rc;
}

/* ---- parts ---------------------------------------------------------------------------------------- */

static void on_submit(struct yk_shard *s, struct yk_msg *m) {
    yk_sched_part(s, yk_list_of(m, struct yk_part, submit));
}

static uint32_t shard_of_thread(const struct yk_xfer *e) {
    static uint32_t threads; /* atomic: a number for each thread that ever submitted */
    static _Thread_local uint32_t mine;
    if (mine == 0)
        mine = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    return mine % e->shard_count;
}

static void make_parts(struct yk_xfer *e, struct yk_batch *b, uint64_t bytes) {
    uint32_t parts = bytes >= SPLIT_BYTES && b->n >= 2 * e->shard_count ? e->shard_count : 1;
    uint32_t first = 0, shard = shard_of_thread(e);
    b->part_count = parts;
    for (uint32_t k = 0; k < parts; k++) {
        struct yk_part *p = &b->parts[k];
        uint32_t end = (uint32_t)((uint64_t)b->n * (k + 1) / parts);
        *p = (struct yk_part){.submit = {.fn = on_submit},
                              .shard = e->shards[(shard + k) % e->shard_count],
                              .batch = b,
                              .first = first,
                              .count = end - first};
        yk_list_init(&p->link);
        for (; first < end; first++)
            b->reqs[first].part = p;
    }
}

/* ---- calls ---------------------------------------------------------------------------------------- */

/* A checked batch with its parts; accepted, not begun. */
static int prepare(struct yk_xfer *e, const yk_xfer_request *requests, size_t n,
                   const yk_xfer_submit_opts *opts, int run, struct yk_batch **ret_batch,
                   struct yk_err *err) {
    yk_xfer_submit_opts o;
    int rc = check_opts(opts, run, &o, err);
    if (rc < 0)
        return rc;
    if (requests == NULL || n == 0 || n > YK_XFER_BATCH_MAX)
        return yk_err_set(err, -YK_EINVAL, "a batch of %zu requests%s, expected 1 to %u", n,
                          requests == NULL ? " at NULL" : "", YK_XFER_BATCH_MAX);
    uint32_t count = n == 1 && requests[0].length == 0 && o.notify_bytes > 0 ? 0 : (uint32_t)n;
    uint32_t charge = (uint32_t)n;
    if (charge > e->opts.inflight_max)
        return yk_err_set(err, -YK_EINVAL, "a batch of %zu requests, where inflight_max is %u: split it", n,
                          e->opts.inflight_max);
    if (__atomic_add_fetch(&e->in_flight, charge, __ATOMIC_RELAXED) > e->opts.inflight_max) {
        __atomic_fetch_sub(&e->in_flight, charge, __ATOMIC_RELAXED);
        return yk_err_set(err, -YK_EAGAIN, "%u requests are under way, and no more than that at once",
                          e->opts.inflight_max);
    }
    struct yk_batch *b = yk_batch_new(e->batches, count);
    uint64_t bytes = 0;
    if (b == NULL) {
        rc = yk_err_set(err, -YK_ENOMEM, "no memory for a batch of %zu requests", n);
    } else {
        b->engine = e;
        b->xclass = o.xclass;
        b->flags = o.flags;
        b->user = o.user;
        b->fn = o.done;
        rc = take_all(e, b, requests, &o, &bytes, err);
    }
    if (rc < 0) {
        __atomic_fetch_sub(&e->in_flight, charge, __ATOMIC_RELAXED);
        yk_batch_put(b);
        return rc;
    }
    uint64_t ms = o.timeout_ms > 0 ? o.timeout_ms : TIMEOUT_MS + bytes / BYTES_A_MS;
    b->deadline_ns = yk_now_ns() + ms * YK_NS_PER_MS;
    make_parts(e, b, bytes);
    *ret_batch = b;
    return 0;
}

static void start(struct yk_batch *b, int kick) {
    for (uint32_t k = 0, n = b->part_count; k < n; k++) {
        struct yk_shard *s = b->parts[k].shard;
        yk_shard_post(s, &b->parts[k].submit); /* the batch may end, here or on the next line */
        if (kick)
            yk_shard_kick(s);
    }
}

int yk_xfer_submit(yk_xfer *e, const yk_xfer_request *requests, size_t n,
                   const yk_xfer_submit_opts *opts, yk_xfer_batch *ret_batch) {
    struct yk_err err;
    struct yk_batch *b;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (ret_batch == NULL)
        return yk_xfer_fail(-YK_EINVAL, "ret_batch is NULL");
    rc = prepare(e, requests, n, opts, 0, &b, &err);
    if (rc < 0)
        return yk_xfer_fail_err(&err);
    yk_batch_publish(e->batches, b);
    *ret_batch = yk_batch_handle(b);
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED); /* ours, while its parts are walked */
    start(b, b->part_count > 1 || (b->flags & YK_XFER_WILL_WAIT) == 0);
    yk_batch_put(b);
    return 0;
}

int yk_xfer_run(yk_xfer *e, const yk_xfer_request *requests, size_t n,
                const yk_xfer_submit_opts *opts) {
    struct yk_err err;
    struct yk_batch *b;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    rc = prepare(e, requests, n, opts, 1, &b, &err);
    if (rc < 0)
        return yk_xfer_fail_err(&err);
    if (e->direct && yk_direct_run(b, &rc)) {
        rc = yk_batch_explain(b, rc);
        yk_batch_put(b);
        return rc;
    }
    b->refs = 2; /* ours too; nobody else knows it yet */
    struct yk_shard *s = b->parts[0].shard;
    if (b->part_count == 1 && yk_shard_try_own(s)) {
        yk_sched_part(s, &b->parts[0]);
        yk_shard_turn_until(s, &b->done, UINT64_MAX);
        yk_shard_release(s);
    } else {
        start(b, 1);
    }
    rc = yk_batch_explain(b, yk_batch_wait(b, UINT64_MAX));
    yk_batch_put(b);
    return rc;
}
