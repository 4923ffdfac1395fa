/* SPDX-License-Identifier: Apache-2.0
 *
 * The file transport: a region that is a file (or a block device) of this process is the remote side.
 *
 * Each shard opens a file that its slices name when the first one does, and closes it when none has for
 * a while, or its region is gone. The device layer has threads of its own that wait for the device; they
 * write one eventfd of the shard's loop. The layer's way for a few reads without a thread (quick.c) is
 * not used: it is bound to one thread, and a shard is turned by many.
 *
 * One rail leads to all files of the process, since rails are asked for once and files come and go. The
 * device layer has a queue for each, so that a slow file does not stand before others but in the count
 * of slices that a lane takes.
 *
 * Any offset, length and address will do. A slice is carried out as a series of requests, one at a time:
 *
 *   READ    whole sectors O_DIRECT, what stands before the range goes into a page that nobody looks at;
 *           what lies beyond the file's last whole sector, through the page cache
 *   WRITE   | part of a sector | whole sectors | part of a sector |
 *             page cache         O_DIRECT        page cache
 *
 * Parts of sectors are merged by the kernel, in the page cache and under its locks, not by reading,
 * changing and writing a sector here: slices of one request meet within a sector, in different shards
 * perhaps, and other processes may write to the file too; a lock of our own would see neither. Direct
 * reads see what is in the page cache, since the kernel writes that back first. Where the file cannot be
 * opened a second time, without O_DIRECT, parts of sectors are refused with -YK_ENOTSUP.
 *
 * A WRITE that has ended is what every later READ sees. It is durable when who owns the file has it
 * synced: a cache's segments need not be.
 *
 * A device cannot take a request back: a slice that is cancelled ends with the request that it has under
 * way, and disconnect waits for all of them; both may last as long as the device does.
 *
 * Threads: the shard's; `event_fd` is written by threads of the devices.
 */
#include "xfer/file/transport.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEPTH     64u /* of a device; slices of a lane for each open file */
#define LANE_OPS  256u
#define IDLE_MS   10000u
#define SWEEP_MS  1000u
#define FIRST_BPS 2e9 /* guesses, until it is measured */
#define FIRST_NS  100e3

enum { DIRECT, ODD, WAYS };

/* A file that is open. Thread: the shard's. */
struct file {
    struct file *next;
    uint64_t region; /* its number */
    uint64_t len;
    uint32_t access;
    int odd_rc;                /* why it could not be opened without O_DIRECT */
    struct yk_file *way[WAYS]; /* NULL: not there */
    uint64_t direct_bytes;     /* whole sectors that DIRECT has */
    struct yk_file_req *pending[WAYS], *pending_last[WAYS]; /* not submitted yet */
    uint32_t ops;
    uint64_t used_ns;
};

/* A slice under way. Thread: the shard's; req and iov are the device's while it has them. */
struct op {
    struct op *next; /* free, or ended */
    struct lane *lane;
    struct yk_slice *slice;
    struct yk_region *region; /* a reference */
    struct file *file;
    uint64_t done; /* bytes of the slice in place */
    uint64_t step; /* of it, that the request under way is for */
    int cancelled;
    int32_t status;
    char *junk; /* a sector */
    struct yk_file_req req;
    struct iovec iov[2];
};

struct xport {
    struct yk_xport base;
    int event_fd;
    struct yk_watch watch;
    struct yk_timer sweep;
    struct file *files;
    uint32_t file_count;
    struct op *ended, *ended_last; /* to be reported */
    int (*wrap)(void *user, struct yk_file *dev, struct yk_file **ret_dev);
    void *wrap_user;
};

struct lane {
    struct yk_lane base;
    struct yk_timer up_timer;
    int up, closing;
    uint32_t count; /* slices it has */
    uint64_t moved;
    struct op *free_ops;
    struct op *ops; /* LANE_OPS */
    char *junk;     /* a sector each */
};

static struct xport *xport_of(struct yk_xport *x) {
    return (struct xport *)(void *)x;
}

static struct lane *lane_of(const struct yk_lane *l) {
    return (struct lane *)(uintptr_t)l;
}

/* ---- files ------------------------------------------------------------------------------------ */

static void wake(void *arg) {
    (void)eventfd_write(((struct xport *)arg)->event_fd, 1);
}

/* fd names the file by /proc, so that it is opened anew, with flags of its own. */
static int open_way(struct xport *x, int fd, uint32_t access, int odd, struct yk_file **ret_dev) {
    char path[40];
    struct yk_file *dev;
    struct yk_err err;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct yk_file_opts opts = {.path = path,
                                .read_only = !(access & YK_XFER_REMOTE_WRITE),
                                .shared = 1,
                                .odd = odd,
                                .buffered = odd,
                                .depth = DEPTH,
                                .wake = wake,
                                .wake_arg = x};
    int rc = yk_file_uring.open(&opts, &dev, &err);
    if (rc < 0)
        return rc;
    rc = x->wrap != NULL ? x->wrap(x->wrap_user, dev, ret_dev) : 0;
    if (rc < 0)
        dev->ops->close(dev);
    else if (x->wrap == NULL)
        *ret_dev = dev;
    return rc;
}

static void file_free(struct file *f) {
    for (int w = 0; w < WAYS; w++)
        if (f->way[w] != NULL)
            f->way[w]->ops->close(f->way[w]);
    free(f);
}

/* DIRECT, where it is direct; ODD when the first slice needs it, or at once where all do. */
static int file_open(struct xport *x, const struct yk_region *r, struct file **ret_file) {
    struct yk_file_info info = {0};
    struct file *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -YK_ENOMEM;
    f->region = r->id;
    f->len = r->len;
    f->access = r->access;
    int rc =
        r->len >= YK_FILE_SECTOR ? open_way(x, r->fd, r->access, 0, &f->way[DIRECT]) : -YK_EINVAL;
    if (rc == 0)
        f->way[DIRECT]->ops->info(f->way[DIRECT], &info);
    if (rc == 0 && info.direct) {
        f->direct_bytes =
            info.size_bytes < r->len ? info.size_bytes : r->len - r->len % YK_FILE_SECTOR;
    } else {
        if (rc == 0)
            f->way[DIRECT]->ops->close(f->way[DIRECT]);
        f->way[DIRECT] = NULL;
        rc = open_way(x, r->fd, r->access, 1, &f->way[ODD]);
    }
    if (rc < 0) {
        file_free(f);
        return rc;
    }
    *ret_file = f;
    return 0;
}

static void sweep_in(struct xport *x, uint64_t ms) {
    (void)yk_loop_timer(x->base.env->loop, &x->sweep, ms > 0 ? yk_now_ns() + ms * YK_NS_PER_MS : 0);
}

/* Closes files that nobody used for a while, and those whose region is gone. */
static void sweep(struct yk_timer *t) {
    struct xport *x = t->user;
    uint64_t now = yk_now_ns();
    for (struct file **at = &x->files; *at != NULL;) {
        struct file *f = *at;
        struct yk_region *r =
            f->ops == 0 ? yk_registry_get(x->base.env->registry, f->region) : NULL;
        int idle = f->ops == 0 && (r == NULL || now - f->used_ns > IDLE_MS * YK_NS_PER_MS);
        yk_registry_put(x->base.env->registry, r);
        if (!idle) {
            for (int w = 0; w < WAYS && f->ops > 0; w++)
                if (f->way[w] != NULL)
                    (void)f->way[w]->ops->stalled(f->way[w]); /* wakes a worker that missed it */
            at = &f->next;
            continue;
        }
        *at = f->next;
        x->file_count--;
        file_free(f);
    }
    sweep_in(x, x->files != NULL ? SWEEP_MS : 0);
}

/* An idle shard's timers do not run: who closes a file does not wait for its next request. */
static void file_forget(struct yk_xport *xport, uint64_t region) {
    struct xport *x = xport_of(xport);
    for (struct file **at = &x->files; *at != NULL; at = &(*at)->next) {
        struct file *f = *at;
        if (f->region != region || f->ops > 0)
            continue;
        *at = f->next;
        x->file_count--;
        file_free(f);
        return;
    }
}

/* The one that a region is, most recently used ones first. */
static int file_get(struct xport *x, const struct yk_region *r, struct file **ret_file) {
    struct file *f = NULL;
    for (struct file **at = &x->files; *at != NULL; at = &(*at)->next)
        if ((*at)->region == r->id) {
            f = *at;
            *at = f->next;
            break;
        }
    if (f == NULL) {
        int rc = file_open(x, r, &f);
        if (rc < 0)
            return rc;
        x->file_count++;
        if (x->files == NULL)
            sweep_in(x, SWEEP_MS);
    }
    f->next = x->files;
    x->files = f;
    *ret_file = f;
    return 0;
}

/* ---- requests ------------------------------------------------------------------------------------ */

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint8_t prio_of(const struct yk_slice *s) {
    return s->xclass <= YK_XFER_DEMAND     ? YK_FILE_PRIO_DEMAND
           : s->xclass == YK_XFER_PREFETCH ? YK_FILE_PRIO_PREFETCH
                                           : YK_FILE_PRIO_BACKGROUND;
}

/* The next request of a slice: its pieces, and which way. The order of bytes is that of the file. */
static int cut(struct op *op) {
    const struct yk_slice *s = op->slice;
    const uint64_t unit = YK_FILE_SECTOR, direct = op->file->direct_bytes;
    uint64_t at = s->offset + op->done, end = s->offset + s->len;
    uint64_t before = at % unit, whole = min_u64(end, direct) / unit * unit;
    int n = 0, way = DIRECT;
    if (s->op == YK_SLICE_READ && at < direct) {
        end = min_u64(min_u64(end, direct), at - before + YK_FILE_BYTES);
        if (before > 0)
            op->iov[n++] = (struct iovec){.iov_base = op->junk, .iov_len = before};
    } else if (s->op == YK_SLICE_WRITE && before == 0 && whole > at) {
        end = min_u64(whole, at + YK_FILE_BYTES);
    } else {
        /* Up to the next whole sector, if there is one. */
        if (s->op == YK_SLICE_WRITE && at - before + unit < whole)
            end = at - before + unit;
        end = min_u64(end, at + YK_FILE_BYTES);
        before = 0;
        way = ODD;
    }
    op->step = end - at;
    op->iov[n++] = (struct iovec){.iov_base = s->local + op->done, .iov_len = op->step};
    op->req = (struct yk_file_req){.offset = at - before,
                                   .bytes = op->step + before,
                                   .iov = op->iov,
                                   .iov_count = (uint16_t)n,
                                   .op = s->op == YK_SLICE_READ ? YK_FILE_READ : YK_FILE_WRITE,
                                   .prio = prio_of(s),
                                   .user = op};
    return way;
}

static void ended_add(struct xport *x, struct op *op, int32_t status) {
    op->status = status;
    op->next = NULL;
    if (x->ended_last != NULL)
        x->ended_last->next = op;
    else
        x->ended = op;
    x->ended_last = op;
}

/* The first that ended, of a lane or of any; NULL: none. */
static struct op *ended_take(struct xport *x, const struct lane *of) {
    struct op *before = NULL;
    for (struct op *op = x->ended; op != NULL; before = op, op = op->next) {
        if (of != NULL && op->lane != of)
            continue;
        if (before != NULL)
            before->next = op->next;
        else
            x->ended = op->next;
        if (x->ended_last == op)
            x->ended_last = before;
        return op;
    }
    return NULL;
}

/* Prepares what comes next of a slice, for the next submit. 0, or why it cannot be. */
static int go_on(struct xport *x, struct op *op) {
    struct file *f = op->file;
    int way = cut(op);
    if (way == ODD && f->way[ODD] == NULL) {
        if (f->odd_rc == 0)
            f->odd_rc = open_way(x, op->region->fd, f->access, 1, &f->way[ODD]);
        if (f->odd_rc < 0)
            return f->odd_rc == -YK_EPERM || f->odd_rc == -YK_ENOENT ? -YK_ENOTSUP : f->odd_rc;
    }
    if (f->pending_last[way] != NULL)
        f->pending_last[way]->next = &op->req;
    else
        f->pending[way] = &op->req;
    f->pending_last[way] = &op->req;
    return 0;
}

static void submit_all(struct xport *x) {
    for (struct file *f = x->files; f != NULL; f = f->next)
        for (int w = 0; w < WAYS; w++) {
            struct yk_file_req *reqs = f->pending[w];
            f->pending[w] = f->pending_last[w] = NULL;
            if (reqs != NULL)
                f->way[w]->ops->submit(f->way[w], reqs);
        }
}

static void request_done(struct xport *x, struct op *op) {
    int32_t status = op->req.status;
    if (status == 0) {
        op->done += op->step;
        op->lane->moved += op->step;
        if (op->done < op->slice->len)
            status = op->cancelled || op->lane->closing ? -YK_ECANCELED : go_on(x, op);
        if (status == 0 && op->done < op->slice->len)
            return;
    }
    ended_add(x, op, status);
}

static void reap_all(struct xport *x) {
    for (struct file *f = x->files; f != NULL; f = f->next)
        for (int w = 0; w < WAYS; w++) {
            struct yk_file_req *req =
                f->way[w] != NULL && f->ops > 0 ? f->way[w]->ops->reap(f->way[w]) : NULL;
            while (req != NULL) {
                struct yk_file_req *next = req->next;
                request_done(x, req->user);
                req = next;
            }
        }
    submit_all(x);
}

/* Gives a slice back. The lane may be gone when it returns. */
static void report(struct xport *x, struct op *op) {
    struct lane *l = op->lane;
    struct yk_slice *s = op->slice;
    s->status = op->status;
    s->scope = op->status == 0 ? YK_SCOPE_NONE : l->closing ? YK_SCOPE_LANE : YK_SCOPE_REQUEST;
    s->done_ns = yk_now_ns();
    s->touched = 0; /* nothing of it is under way any more */
    if (op->file != NULL) {
        op->file->ops--;
        op->file->used_ns = s->done_ns;
    }
    yk_registry_put(x->base.env->registry, op->region);
    l->count--;
    op->slice = NULL;
    op->file = NULL;
    op->region = NULL;
    op->next = l->free_ops;
    l->free_ops = op;
    x->base.env->events->slice_done(&l->base, s);
}

static void look_all(struct xport *x) {
    reap_all(x);
    for (struct op *op; (op = ended_take(x, NULL)) != NULL;)
        report(x, op);
}

static void on_event(struct yk_watch *w, uint32_t events) {
    struct xport *x = w->user;
    eventfd_t n;
    (void)events;
    (void)eventfd_read(x->event_fd, &n); /* before looking: what comes later writes it again */
    look_all(x);
}

/* ---- slices ---------------------------------------------------------------------------------------- */

/* What a slice needs before it can start: 0, or why not. */
static int begin(struct xport *x, struct op *op) {
    const struct yk_slice *s = op->slice;
    uint32_t access = s->op == YK_SLICE_READ ? YK_XFER_REMOTE_READ : YK_XFER_REMOTE_WRITE;
    if (s->op != YK_SLICE_READ && s->op != YK_SLICE_WRITE)
        return s->op == YK_SLICE_NOTE ? -YK_ENOTSUP
                                      : 0; /* FENCE: a lane that is gone has nothing under way */
    op->region = yk_registry_get(x->base.env->registry, s->region);
    if (op->region == NULL)
        return -YK_EGONE;
    if (!op->region->file || s->guard != NULL)
        return -YK_ENOTSUP;
    if (!(op->region->access & access))
        return -YK_EPERM;
    if (s->len == 0 || s->offset > op->region->len || s->len > op->region->len - s->offset)
        return -YK_EINVAL;
    int rc = file_get(x, op->region, &op->file);
    if (rc < 0)
        return rc;
    op->file->ops++;
    return go_on(x, op);
}

static void file_post(struct yk_lane *lane, struct yk_slice *slice) {
    struct lane *l = lane_of(lane);
    struct xport *x = xport_of(lane->xport);
    struct op *op = l->free_ops;
    l->free_ops = op->next;
    l->count++;
    op->slice = slice;
    op->done = 0;
    op->cancelled = 0;
    slice->priv[0] = (uintptr_t)op;
    int rc = begin(x, op);
    if (rc == 0 && op->file != NULL)
        return;
    ended_add(x, op, rc);
    wake(x); /* reported from the loop */
}

static void file_flush(struct yk_lane *lane) {
    submit_all(xport_of(lane->xport));
}

static void file_cancel(struct yk_lane *lane, struct yk_slice *slice) {
    (void)lane;
    ((struct op *)(uintptr_t)slice->priv[0])->cancelled = 1;
}

static uint32_t file_room(const struct yk_lane *lane) {
    const struct lane *l = lane_of(lane);
    uint32_t files = xport_of(lane->xport)->file_count, most = DEPTH * (files > 0 ? files : 1u);
    most = most < LANE_OPS ? most : LANE_OPS;
    return l->up && l->count < most ? most - l->count : 0;
}

static uint64_t file_moved(struct yk_lane *lane) {
    return lane_of(lane)->moved;
}

static int file_progress(struct yk_lane *lane, uint64_t bytes) {
    (void)lane, (void)bytes;
    return 0;
}

static void file_look(struct yk_lane *lane) {
    look_all(xport_of(lane->xport));
}

/* ---- lanes ------------------------------------------------------------------------------------------ */

static uint32_t file_rails(struct yk_xport *xport, const struct yk_peer_info *peer,
                           struct yk_rail_desc *ret_rails, uint32_t cap) {
    if (peer->incarnation != xport->env->incarnation || cap == 0)
        return 0;
    ret_rails[0] = (struct yk_rail_desc){
        .caps = YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_HOLDS, .bytes_per_s = FIRST_BPS, .fixed_ns = FIRST_NS};
    snprintf(ret_rails[0].remote, sizeof(ret_rails[0].remote), "files");
    return 1;
}

static void now_up(struct yk_timer *t) {
    struct lane *l = t->user;
    l->up = 1;
    l->base.xport->env->events->lane_up(&l->base);
}

static void lane_free(struct lane *l) {
    free(l->ops);
    free(l->junk);
    free(l);
}

static int file_connect(struct yk_xport *xport, const struct yk_peer_info *peer,
                        const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                        struct yk_err *err) {
    (void)rail, (void)bulk;
    if (peer->incarnation != xport->env->incarnation)
        return yk_err_set(err, -YK_EGONE, "files of another process");
    struct lane *l = calloc(1, sizeof(*l));
    if (l != NULL) {
        l->ops = calloc(LANE_OPS, sizeof(*l->ops));
        l->junk = aligned_alloc(YK_FILE_SECTOR, (size_t)LANE_OPS * YK_FILE_SECTOR);
        l->base.ops = &yk_xport_file;
        l->base.xport = xport;
        l->up_timer.fn = now_up;
        l->up_timer.user = l;
    }
    if (l == NULL || l->ops == NULL || l->junk == NULL ||
        yk_loop_timer(xport->env->loop, &l->up_timer, yk_now_ns()) < 0) {
        if (l != NULL)
            lane_free(l);
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    }
    for (uint32_t i = 0; i < LANE_OPS; i++) {
        struct op *op = &l->ops[i];
        op->lane = l;
        op->junk = l->junk + (size_t)i * YK_FILE_SECTOR;
        op->next = l->free_ops;
        l->free_ops = op;
    }
    *ret_lane = &l->base;
    return 0;
}

/* Sleeps until some device that has requests may have ended one. */
static void wait_any(struct xport *x) {
    for (struct file *f = x->files; f != NULL; f = f->next)
        for (int w = 0; w < WAYS && f->ops > 0; w++) {
            struct yk_file_stats st;
            if (f->way[w] == NULL)
                continue;
            f->way[w]->ops->stats(f->way[w], &st);
            if (st.queued == 0)
                continue;
            f->way[w]->ops->wait(f->way[w], 10);
            return;
        }
}

static void file_disconnect(struct yk_lane *lane) {
    struct lane *l = lane_of(lane);
    struct xport *x = xport_of(lane->xport);
    l->closing = 1;
    l->up = 0;
    (void)yk_loop_timer(x->base.env->loop, &l->up_timer, 0);
    submit_all(x);
    while (l->count > 0) {
        reap_all(x);
        struct op *op = ended_take(x, l);
        if (op == NULL)
            wait_any(x);
        else
            report(x, op);
    }
    if (x->ended != NULL)
        wake(x); /* those of other lanes are reported from the loop */
    lane_free(l);
}

/* ---- the transport ------------------------------------------------------------------------------------ */

static void file_close(struct yk_xport *xport) {
    struct xport *x = xport_of(xport);
    if (x == NULL)
        return;
    sweep_in(x, 0);
    while (x->files != NULL) {
        struct file *f = x->files;
        x->files = f->next;
        file_free(f);
    }
    if (x->event_fd >= 0) {
        yk_loop_unwatch(xport->env->loop, &x->watch);
        close(x->event_fd);
    }
    free(x);
}

static int file_open_xport(const struct yk_shard_env *env, struct yk_xport **ret_xport,
                           struct yk_err *err) {
    struct xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the file transport");
    x->base.ops = &yk_xport_file;
    x->base.env = env;
    x->sweep.fn = sweep;
    x->sweep.user = x;
    x->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    x->watch = (struct yk_watch){.fd = x->event_fd, .events = EPOLLIN, .fn = on_event, .user = x};
    if (x->event_fd < 0 || yk_loop_watch(env->loop, &x->watch) < 0) {
        if (x->event_fd >= 0)
            close(x->event_fd);
        free(x);
        return yk_err_set(err, -YK_ELIMIT, "no descriptor is left for the file transport");
    }
    *ret_xport = &x->base;
    return 0;
}

static int file_reg(struct yk_region *region, struct yk_err *err) {
    (void)region, (void)err;
    return 0;
}

static void file_unreg(struct yk_region *region) {
    (void)region;
}

void yk_xport_file_wrap(struct yk_xport *xport,
                        int (*wrap)(void *user, struct yk_file *dev, struct yk_file **ret_dev),
                        void *user) {
    xport_of(xport)->wrap = wrap;
    xport_of(xport)->wrap_user = user;
}

const struct yk_xport_ops yk_xport_file = {
    .name = "file",
    .bit = YK_XFER_FILE,
    .open = file_open_xport,
    .close = file_close,
    .reg = file_reg,
    .unreg = file_unreg,
    .rails = file_rails,
    .connect = file_connect,
    .disconnect = file_disconnect,
    .room = file_room,
    .post = file_post,
    .flush = file_flush,
    .cancel = file_cancel,
    .moved = file_moved,
    .progress = file_progress,
    .look = file_look,
    .forget = file_forget,
};
