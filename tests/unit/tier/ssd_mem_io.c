/* SPDX-License-Identifier: Apache-2.0
 *
 * See ssd_mem_io.h.
 */
#include "ssd_mem_io.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

uint32_t disk_clock;

static struct disk *disks;

struct mem_io {
    struct yk_file base;
    struct disk *d;
    struct yk_file_req *first, **last;
    uint32_t count;
    struct yk_file_stats stats;
    pthread_t owner;
};

uint64_t disk_random(uint64_t *seed) {
    *seed += 0x9e3779b97f4a7c15ull;
    uint64_t z = *seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

struct disk *disk_new(const char *path, uint64_t size) {
    struct disk *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    snprintf(d->path, sizeof(d->path), "%s", path);
    d->size = size;
    d->image = calloc(1, size);
    assert_non_null(d->image);
    d->seed = size;
    d->next = disks;
    disks = d;
    return d;
}

void disk_free(struct disk *d) {
    struct disk **at = &disks;
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    for (uint32_t i = 0; i < d->nevents; i++)
        free(d->events[i].data);
    free(d->events);
    free(d->image);
    free(d);
}

static struct event *event_add(struct disk *d, enum event_kind kind) {
    if (d->nevents == d->cap) {
        d->cap = d->cap * 2 + 1024;
        d->events = realloc(d->events, d->cap * sizeof(*d->events));
        assert_non_null(d->events);
    }
    struct event *e = &d->events[d->nevents++];
    memset(e, 0, sizeof(*e));
    e->kind = (uint8_t)kind;
    e->stamp = disk_clock++;
    return e;
}

/* ---- cut -------------------------------------------------------------------------------------------- */

static void write_apply(const struct event *e, unsigned char *image, uint64_t *seed) {
    unsigned how = *seed == 0 ? 1 : (unsigned)(disk_random(seed) % 4);
    if (how == 0)
        return;
    for (uint64_t i = 0; i < e->bytes; i += YK_FILE_SECTOR)
        if (how != 2 || disk_random(seed) % 2)
            memcpy(image + e->offset + i, e->data + i, YK_FILE_SECTOR);
}

static void discard_apply(const struct event *e, unsigned char *image, uint64_t *seed) {
    unsigned how = (unsigned)(disk_random(seed) % 3);
    if (how == 0)
        return;
    for (uint64_t i = 0; i < e->bytes; i += YK_FILE_SECTOR)
        if (how != 2 || disk_random(seed) % 2)
            memset(image + e->offset + i, 0xdd, YK_FILE_SECTOR);
}

uint32_t disk_covered(const struct disk *d, uint32_t at) {
    uint32_t covered = 0;
    for (uint32_t i = 0; i < d->nevents && d->events[i].stamp < at; i++)
        if (d->events[i].kind == EV_FLUSH_DONE && d->events[i].since > covered)
            covered = d->events[i].since;
    return covered;
}

void disk_cut(const struct disk *d, uint32_t at, uint64_t seed, unsigned char *image) {
    uint32_t *done = calloc(d->nevents + 1u, sizeof(*done)); /* of a write: stamp of its end + 1 */
    uint32_t *maybe = calloc(d->nevents + 1u, sizeof(*maybe));
    uint32_t covered = disk_covered(d, at), n = 0;
    assert_true(done != NULL && maybe != NULL);
    for (uint32_t i = 0; i < d->nevents && d->events[i].stamp < at; i++)
        if (d->events[i].kind == EV_WRITE_DONE)
            done[d->events[i].write] = d->events[i].stamp + 1;
    if (d->base != NULL)
        memcpy(image, d->base, d->size);
    else
        memset(image, 0, d->size);
    for (uint32_t i = 0; i < d->nevents && d->events[i].stamp < at; i++) {
        const struct event *e = &d->events[i];
        uint64_t whole = 0;
        if (e->kind == EV_DISCARD && seed != 0)
            discard_apply(e, image, &seed);
        if (e->kind != EV_WRITE)
            continue;
        if (done[e->write] != 0 && (done[e->write] <= covered || seed == 0))
            write_apply(e, image, &whole);
        else if (seed != 0)
            maybe[n++] = i;
    }
    for (; n > 0; n--) { /* in any order */
        uint32_t k = (uint32_t)(disk_random(&seed) % n);
        write_apply(&d->events[maybe[k]], image, &seed);
        maybe[k] = maybe[n - 1];
    }
    free(done);
    free(maybe);
}

/* ---- the device ------------------------------------------------------------------------------------- */

static int mem_open(const struct yk_file_opts *opts, struct yk_file **ret_io,
                    struct yk_err *err) {
    struct disk *d = disks;
    while (d != NULL && strcmp(d->path, opts->path) != 0)
        d = d->next;
    if (d == NULL || d->gone)
        return yk_err_set(err, -YK_ENOENT, "%s: no such disk", opts->path);
    if (d->open > 0 && !opts->read_only)
        return yk_err_set(err, -YK_EBUSY, "%s: in use", opts->path);
    struct mem_io *io = calloc(1, sizeof(*io));
    assert_non_null(io);
    io->base.ops = &disk_io;
    io->base.wake = opts->wake;
    io->base.wake_arg = opts->wake_arg;
    io->d = d;
    io->last = &io->first;
    io->owner = pthread_self();
    d->open++;
    d->mem_ready = 0;
    d->no_wait = opts->no_wait;
    *ret_io = &io->base;
    return 0;
}

static void mem_info(const struct yk_file *base, struct yk_file_info *ret) {
    memset(ret, 0, sizeof(*ret));
    const struct disk *d = ((const struct mem_io *)base)->d;
    ret->size_bytes = d->size;
    ret->found_bytes = d->found != 0 ? d->found : d->size;
    ret->sector_bytes = YK_FILE_SECTOR;
}

static uint64_t pieces(const struct yk_file_req *r) {
    uint64_t n = 0;
    for (unsigned i = 0; i < r->iov_count; i++)
        n += r->iov[i].iov_len;
    return n;
}

static void write_submitted(struct disk *d, struct yk_file_req *r) {
    struct event *e = event_add(d, EV_WRITE);
    uint64_t at = 0;
    e->write = d->nevents - 1;
    e->offset = r->offset;
    e->bytes = r->bytes;
    e->data = malloc(r->bytes);
    assert_non_null(e->data);
    for (unsigned i = 0; i < r->iov_count; i++) {
        memcpy(e->data + at, r->iov[i].iov_base, r->iov[i].iov_len);
        at += r->iov[i].iov_len;
    }
    e->zero = r->bytes == YK_FILE_SECTOR && e->data[0] == 0 &&
              memcmp(e->data, e->data + 1, YK_FILE_SECTOR - 1) == 0;
    r->priv[0] = e->write;
}

static void mem_submit(struct yk_file *base, struct yk_file_req *r) {
    struct mem_io *io = (struct mem_io *)base;
    while (r != NULL) {
        struct yk_file_req *next = r->next;
        assert_true(r->op < YK_FILE_OPS && r->iov_count <= YK_FILE_IOVS);
        if (r->op <= YK_FILE_WRITE) {
            assert_int_equal(r->offset % YK_FILE_SECTOR, 0);
            assert_int_equal(pieces(r), r->bytes);
            assert_true(r->bytes > 0 && r->bytes <= YK_FILE_BYTES);
            assert_true(r->offset + r->bytes <= io->d->size);
            assert_true(r->op == YK_FILE_READ || r->bytes % YK_FILE_SECTOR == 0);
        }
        r->next = NULL;
        *io->last = r;
        io->last = &r->next;
        io->count++;
        r->status = 1; /* not ended */
        if (io->d->record && r->op == YK_FILE_WRITE)
            write_submitted(io->d, r);
        if (io->d->record && r->op == YK_FILE_FLUSH) {
            r->priv[0] = event_add(io->d, EV_FLUSH)->stamp;
        }
        if (io->d->record && r->op == YK_FILE_DISCARD) {
            struct event *e = event_add(io->d, EV_DISCARD);
            e->offset = r->offset;
            e->bytes = r->bytes;
        }
        r = next;
    }
}

static void copy(const struct yk_file_req *r, unsigned char *image) {
    uint64_t at = r->offset;
    for (unsigned i = 0; i < r->iov_count; i++) {
        if (r->op == YK_FILE_READ)
            memcpy(r->iov[i].iov_base, image + at, r->iov[i].iov_len);
        else
            memcpy(image + at, r->iov[i].iov_base, r->iov[i].iov_len);
        at += r->iov[i].iov_len;
    }
}

static void req_end(struct mem_io *io, struct yk_file_req *r) {
    struct disk *d = io->d;
    r->status = d->gone ? -YK_EGONE : 0;
    r->submit_ns = r->done_ns = 1;
    if (d->gone)
        return;
    if (d->fails != NULL && d->fails(r)) {
        r->status = -YK_EIO;
        return;
    }
    if (r->op <= YK_FILE_WRITE)
        copy(r, d->image);
    if (r->op == YK_FILE_DISCARD) /* the worst a device may do with it */
        memset(d->image + r->offset, 0xdd, r->bytes);
    d->writes += r->op == YK_FILE_WRITE;
    d->written_bytes += r->op == YK_FILE_WRITE ? r->bytes : 0;
    d->reads += r->op == YK_FILE_READ;
    d->read_bytes += r->op == YK_FILE_READ ? r->bytes : 0;
    d->flushes += r->op == YK_FILE_FLUSH;
    d->discards += r->op == YK_FILE_DISCARD;
    if (d->record && r->op == YK_FILE_WRITE)
        event_add(d, EV_WRITE_DONE)->write = (uint32_t)r->priv[0];
    if (d->record && r->op == YK_FILE_FLUSH)
        event_add(d, EV_FLUSH_DONE)->since = (uint32_t)r->priv[0];
}

static struct yk_file_req *take(struct mem_io *io, uint32_t k) {
    struct yk_file_req **at = &io->first, *r;
    for (; k > 0; k--)
        at = &(*at)->next;
    r = *at;
    *at = r->next;
    if (*at == NULL)
        io->last = at;
    io->count--;
    r->next = NULL;
    return r;
}

static struct yk_file_req *mem_reap(struct yk_file *base) {
    struct mem_io *io = (struct mem_io *)base;
    struct disk *d = io->d;
    struct yk_file_req *list = NULL, **last = &list;
    uint32_t n = io->count;
    if (d->stuck)
        return NULL;
    if (d->slow && n > 0)
        n = (uint32_t)(disk_random(&d->seed) % (n + 1u));
    for (; n > 0; n--) {
        uint32_t k = d->slow ? (uint32_t)(disk_random(&d->seed) % io->count) : 0;
        *last = take(io, k);
        req_end(io, *last);
        last = &(*last)->next;
    }
    return list;
}

static void mem_close(struct yk_file *base) {
    struct mem_io *io = (struct mem_io *)base;
    if (io == NULL)
        return;
    io->d->open--;
    while (io->count > 0) /* what was under way may have been done */
        req_end(io, take(io, 0));
    free(io);
}

static void mem_ready(struct yk_file *base, uint64_t bytes) {
    ((struct mem_io *)base)->d->mem_ready = bytes;
}

static void mem_wait(struct yk_file *base, uint32_t timeout_ms) {
    (void)base;
    (void)timeout_ms;
}

static uint64_t mem_stalled(const struct yk_file *base) {
    return ((const struct mem_io *)base)->d->stuck ? YK_FILE_STALL_MS : 0;
}

static int mem_check(struct yk_file *base) {
    return ((struct mem_io *)base)->d->gone ? -YK_EGONE : 0;
}

static void mem_stats(const struct yk_file *base, struct yk_file_stats *ret) {
    const struct mem_io *io = (const struct mem_io *)base;
    if (!pthread_equal(io->owner, pthread_self()))
        __atomic_fetch_add(&io->d->strangers, 1, __ATOMIC_RELAXED);
    *ret = io->stats;
}

const struct yk_file_ops disk_io = {
    .name = "disk in memory",
    .open = mem_open,
    .close = mem_close,
    .info = mem_info,
    .submit = mem_submit,
    .reap = mem_reap,
    .mem_ready = mem_ready,
    .wait = mem_wait,
    .stalled = mem_stalled,
    .check = mem_check,
    .stats = mem_stats,
};
