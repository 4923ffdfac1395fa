/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that fails on purpose: wraps any other.
 *
 * Requests that no fault hits pass through as they are. Those that fail outright never reach the
 * device. The others (short, corrupt, delayed) reach it as a copy with pieces of its own, the shadow, so
 * that neither the caller's request nor the bytes of a write are touched; reap turns a shadow back
 * into its request. Delayed ones lie in a list that a thread of the wrapper watches, since nobody
 * else would wake the owner for them.
 *
 * Built into the library, not the tests: the node's own tests and operators who want to see what a
 * bad disk does use it, too. It allocates for each hit; nothing here is meant to be fast.
 *
 * Threads: the owner's; the watcher touches the list of the delayed under `lock`.
 */
#include "base/clock.h"
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct shadow {
    struct yk_file_req req; /* what the device sees */
    struct yk_file_req *orig;
    struct shadow *next;
    uint8_t kind;
    uint64_t bit;     /* CORRUPT */
    uint64_t late_ms; /* DELAY */
    char *copy;       /* CORRUPT of a write: its bytes */
    struct iovec iov[YK_FILE_IOVS];
};

/* Thread: owner; `late`, `due` and `closing` under lock. */
struct fault_io {
    struct yk_file io;
    struct yk_file *inner;
    struct yk_file_fault fault; /* kind 0 = none */
    uint64_t seen, hits, rand;
    int gone;
    uint64_t errors[YK_FILE_OPS], ops[YK_FILE_OPS], held;
    struct shadow *shadows;    /* with the device */
    struct yk_file_list ended; /* to be reaped */
    pthread_t watcher;
    int watching;
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct shadow *late; /* the device is done with them; by time when they come back, ascending */
    struct yk_file_list due;
    int closing;
};

static struct fault_io *fault_of(const struct yk_file *io) {
    return (struct fault_io *)(uintptr_t)io;
}

static uint64_t next_rand(struct fault_io *f) {
    f->rand ^= f->rand << 13;
    f->rand ^= f->rand >> 7;
    f->rand ^= f->rand << 17;
    return f->rand;
}

/* ---- which, and how ------------------------------------------------------------------------- */

static int hits(struct fault_io *f, const struct yk_file_req *req) {
    if (f->fault.kind == 0 || !(f->fault.op_mask & (1u << req->op)))
        return 0;
    f->seen++;
    if (f->fault.nth > 0)
        return f->seen == f->fault.nth;
    return next_rand(f) % 1000000u < f->fault.rate_ppm;
}

static void fail(struct fault_io *f, struct yk_file_req *req, int status, int err) {
    req->submit_ns = req->done_ns = yk_now_ns();
    req->status = status;
    req->os_error = err;
    f->errors[req->op]++;
    f->ops[req->op]++;
    yk_file_list_add(&f->ended, req);
}

/* Keeps the first n bytes of the shadow's pieces. */
static void cut(struct shadow *s, uint64_t n) {
    s->req.bytes = n;
    uint16_t i = 0;
    for (; n > 0; i++) {
        if (s->iov[i].iov_len > n)
            s->iov[i].iov_len = n;
        n -= s->iov[i].iov_len;
    }
    s->req.iov_count = i;
}

static void flip(const struct iovec *iov, uint64_t bit) {
    uint64_t at = bit / 8u;
    while (at >= iov->iov_len)
        at -= iov++->iov_len;
    ((uint8_t *)iov->iov_base)[at] ^= (uint8_t)(1u << bit % 8u);
}

/* The bytes of a write in memory of its own, one bit of them wrong. */
static int copy_flipped(struct shadow *s) {
    s->copy = aligned_alloc(YK_FILE_SECTOR,
                            (s->req.bytes + YK_FILE_SECTOR - 1u) / YK_FILE_SECTOR * YK_FILE_SECTOR);
    if (!s->copy)
        return -1;
    char *to = s->copy;
    for (uint32_t i = 0; i < s->req.iov_count; i++) {
        memcpy(to, s->iov[i].iov_base, s->iov[i].iov_len);
        to += s->iov[i].iov_len;
    }
    s->iov[0].iov_base = s->copy;
    s->iov[0].iov_len = s->req.bytes;
    s->req.iov_count = 1;
    flip(s->iov, s->bit);
    return 0;
}

static void shadow_free(struct shadow *s) {
    free(s->copy);
    free(s);
}

/* What the device shall see of a request that is short, corrupted or delayed; NULL: it fails at once. */
static struct shadow *shadow_new(struct fault_io *f, struct yk_file_req *req) {
    struct shadow *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    int moves = req->op == YK_FILE_READ || req->op == YK_FILE_WRITE;
    s->req = *req;
    s->orig = req;
    s->kind = f->fault.kind;
    s->late_ms = f->fault.arg;
    if (moves) {
        memcpy(s->iov, req->iov, req->iov_count * sizeof(*s->iov));
        s->req.iov = s->iov;
    }
    uint64_t half = req->bytes / 2u - req->bytes / 2u % YK_FILE_SECTOR;
    int well = 1;
    if (s->kind == YK_FILE_FAULT_SHORT && (well = moves && half > 0)) {
        cut(s, half);
    } else if (s->kind == YK_FILE_FAULT_CORRUPT && moves) {
        s->bit = (f->fault.arg ? f->fault.arg : next_rand(f)) % (req->bytes * 8u);
        well = req->op == YK_FILE_READ || copy_flipped(s) == 0;
    }
    if (!well) {
        shadow_free(s);
        return NULL;
    }
    return s;
}

static void hit(struct fault_io *f, struct yk_file_req *req, struct yk_file_list *pass) {
    struct shadow *s;
    f->hits++;
    switch (f->fault.kind) {
    case YK_FILE_FAULT_EIO:
        fail(f, req, -YK_EIO, EIO);
        return;
    case YK_FILE_FAULT_ENOSPC:
        fail(f, req, -YK_ENOSPC, ENOSPC);
        return;
    case YK_FILE_FAULT_GONE:
        f->gone = 1;
        fail(f, req, -YK_EGONE, ENODEV);
        return;
    default:
        s = shadow_new(f, req);
        if (!s) {
            fail(f, req, -YK_EIO, EIO);
            return;
        }
        s->next = f->shadows;
        f->shadows = s;
        yk_file_list_add(pass, &s->req);
    }
}

static void fault_submit(struct yk_file *io, struct yk_file_req *reqs) {
    struct fault_io *f = fault_of(io);
    struct yk_file_list pass = {0};
    int idle = f->ended.head == NULL;
    while (reqs) {
        struct yk_file_req *req = reqs;
        reqs = req->next;
        f->held++;
        if (f->gone)
            fail(f, req, -YK_EGONE, ENODEV);
        else if (hits(f, req))
            hit(f, req, &pass);
        else
            yk_file_list_add(&pass, req);
    }
    if (pass.head)
        f->inner->ops->submit(f->inner, pass.head);
    if (idle && f->ended.head && io->wake)
        io->wake(io->wake_arg);
}

/* ---- the way back --------------------------------------------------------------------------- */

static void by_due(struct shadow **at, struct shadow *s) {
    while (*at && (*at)->req.done_ns <= s->req.done_ns)
        at = &(*at)->next;
    s->next = *at;
    *at = s;
}

/* A shadow that the device has ended: its request follows, now or later. */
static void unveil(struct fault_io *f, struct shadow *s) {
    struct yk_file_req *req = s->orig;
    req->submit_ns = s->req.submit_ns;
    req->done_ns = s->req.done_ns;
    req->status = s->req.status;
    req->os_error = s->req.os_error;
    if (s->kind == YK_FILE_FAULT_DELAY) {
        s->req.done_ns += s->late_ms * YK_NS_PER_MS;
        pthread_mutex_lock(&f->lock);
        by_due(&f->late, s);
        pthread_cond_signal(&f->change);
        pthread_mutex_unlock(&f->lock);
        return;
    }
    if (s->kind == YK_FILE_FAULT_SHORT && req->status == 0) {
        req->status = -YK_EIO;
        req->os_error = EIO;
        f->errors[req->op]++;
    }
    if (s->kind == YK_FILE_FAULT_CORRUPT && req->op == YK_FILE_READ && req->status == 0)
        flip(req->iov, s->bit);
    yk_file_list_add(&f->ended, req);
    shadow_free(s);
}

static struct shadow *take_shadow(struct fault_io *f, const struct yk_file_req *req) {
    for (struct shadow **at = &f->shadows; *at; at = &(*at)->next) {
        struct shadow *s = *at;
        if (&s->req != req)
            continue;
        *at = s->next;
        return s;
    }
    return NULL;
}

/* Brings delayed requests back when their time has come. */
static void *watch(void *arg) {
    struct fault_io *f = arg;
    pthread_mutex_lock(&f->lock);
    while (!f->closing) {
        if (!f->late) {
            pthread_cond_wait(&f->change, &f->lock);
            continue;
        }
        struct shadow *s = f->late;
        if (yk_now_ns() < s->req.done_ns) {
            struct timespec ts = {.tv_sec = (time_t)(s->req.done_ns / YK_NS_PER_S),
                                  .tv_nsec = (long)(s->req.done_ns % YK_NS_PER_S)};
            pthread_cond_timedwait(&f->change, &f->lock, &ts);
            continue;
        }
        f->late = s->next;
        s->orig->done_ns = s->req.done_ns;
        int first = f->due.head == NULL;
        yk_file_list_add(&f->due, s->orig);
        shadow_free(s);
        pthread_mutex_unlock(&f->lock);
        if (first && f->io.wake)
            f->io.wake(f->io.wake_arg);
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static struct yk_file_req *fault_reap(struct yk_file *io) {
    struct fault_io *f = fault_of(io);
    struct yk_file_req *req = f->inner->ops->reap(f->inner), *next;
    for (; req; req = next) {
        next = req->next;
        struct shadow *s = take_shadow(f, req);
        if (s)
            unveil(f, s);
        else
            yk_file_list_add(&f->ended, req);
    }
    pthread_mutex_lock(&f->lock);
    while ((req = yk_file_list_take(&f->due)))
        yk_file_list_add(&f->ended, req);
    pthread_mutex_unlock(&f->lock);
    struct yk_file_req *all = f->ended.head;
    f->ended.head = f->ended.tail = NULL;
    for (req = all; req; req = req->next)
        f->held--;
    return all;
}

/* At most until the next delayed request is due: what the inner device waits for is not all. */
static void fault_wait(struct yk_file *io, uint32_t timeout_ms) {
    struct fault_io *f = fault_of(io);
    pthread_mutex_lock(&f->lock);
    uint64_t now = yk_now_ns(), most = timeout_ms;
    if (f->due.head || f->ended.head)
        most = 0;
    else if (f->late && f->late->req.done_ns < now + most * YK_NS_PER_MS)
        most = f->late->req.done_ns > now ? (f->late->req.done_ns - now) / YK_NS_PER_MS + 1u : 0;
    pthread_mutex_unlock(&f->lock);
    if (most > 0)
        f->inner->ops->wait(f->inner, (uint32_t)most);
}

/* ---- the rest ------------------------------------------------------------------------------- */

static uint64_t fault_stalled(const struct yk_file *io) {
    struct fault_io *f = fault_of(io);
    uint64_t most = f->inner->ops->stalled(f->inner), now = yk_now_ns();
    pthread_mutex_lock(&f->lock);
    for (struct shadow *s = f->late; s; s = s->next)
        if (now - s->req.submit_ns > most * YK_NS_PER_MS)
            most = (now - s->req.submit_ns) / YK_NS_PER_MS;
    pthread_mutex_unlock(&f->lock);
    return most;
}

static int fault_check(struct yk_file *io) {
    struct fault_io *f = fault_of(io);
    return f->gone ? -YK_EGONE : f->inner->ops->check(f->inner);
}

static void fault_info(const struct yk_file *io, struct yk_file_info *ret_info) {
    fault_of(io)->inner->ops->info(fault_of(io)->inner, ret_info);
}

static void fault_mem_ready(struct yk_file *io, uint64_t bytes) {
    fault_of(io)->inner->ops->mem_ready(fault_of(io)->inner, bytes);
}

static void fault_stats(const struct yk_file *io, struct yk_file_stats *ret_stats) {
    struct fault_io *f = fault_of(io);
    f->inner->ops->stats(f->inner, ret_stats);
    for (unsigned op = 0; op < YK_FILE_OPS; op++) {
        ret_stats->errors[op] += f->errors[op];
        ret_stats->ops[op] += f->ops[op];
    }
    ret_stats->queued = f->held;
}

static void fault_close(struct yk_file *io) {
    if (!io)
        return;
    struct fault_io *f = fault_of(io);
    pthread_mutex_lock(&f->lock);
    f->closing = 1;
    pthread_cond_signal(&f->change);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->watcher, NULL);
    f->inner->ops->close(f->inner);
    for (struct shadow *s; (s = f->shadows); shadow_free(s))
        f->shadows = s->next;
    for (struct shadow *s; (s = f->late); shadow_free(s))
        f->late = s->next;
    pthread_cond_destroy(&f->change);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static int fault_open(const struct yk_file_opts *opts, struct yk_file **ret_io,
                      struct yk_err *err) {
    return yk_err_set(err, -YK_ENOTSUP, "a fault is wrapped around a device that is open");
}

static const struct yk_file_ops fault_ops = {
    .name = "fault",
    .open = fault_open,
    .close = fault_close,
    .info = fault_info,
    .submit = fault_submit,
    .reap = fault_reap,
    .mem_ready = fault_mem_ready,
    .wait = fault_wait,
    .stalled = fault_stalled,
    .check = fault_check,
    .stats = fault_stats,
};

int yk_file_fault_new(struct yk_file *io, struct yk_file **ret_io) {
    struct fault_io *f = calloc(1, sizeof(*f));
    if (!f)
        return -YK_ENOMEM;
    f->io.ops = &fault_ops;
    f->io.wake = io->wake;
    f->io.wake_arg = io->wake_arg;
    f->inner = io;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* as yk_now_ns */
    pthread_cond_init(&f->change, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&f->lock, NULL);
    if (yk_file_thread(&f->watcher, "yolk-file-fault", watch, f) < 0) {
        pthread_cond_destroy(&f->change);
        pthread_mutex_destroy(&f->lock);
        free(f);
        return -YK_ENOMEM;
    }
    *ret_io = &f->io;
    return 0;
}

void yk_file_fault_set(struct yk_file *io, const struct yk_file_fault *fault) {
    struct fault_io *f = fault_of(io);
    memset(&f->fault, 0, sizeof(f->fault));
    if (fault)
        f->fault = *fault;
    f->seen = 0;
    f->gone = 0;
    f->rand = f->fault.seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
    if (f->rand == 0)
        f->rand = 1;
}

uint64_t yk_file_fault_hits(const struct yk_file *io) {
    return fault_of(io)->hits;
}
