/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments: published under names, found by name or address, opened into numbers that are checked.
 *
 * What opening learned (whose, which region, where in it, how long) is kept in a table and copied into
 * each request, so that closing needs to wait for nobody.
 *
 * Threads: any, under `tables`; never held across a question to another process or a resolver.
 */
#include "xfer/engine_priv.h"

#include "base/clock.h"
#include "base/sized.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_MS  5000u
#define CLOSE_NS (5 * YK_NS_PER_S)

/* ---- handles ------------------------------------------------------------------------------------------ */

static int grow(struct yk_xfer *e) {
    uint32_t cap = e->seg_cap == 0 ? 16 : e->seg_cap * 2;
    struct yk_seg_slot *more = cap <= YK_SEGMENTS_MAX ? realloc(e->segments, cap * sizeof(*more)) : NULL;
    if (more == NULL)
        return -YK_ELIMIT;
    e->segments = more;
    for (uint32_t i = cap; i-- > e->seg_cap;) {
        more[i] = (struct yk_seg_slot){.generation = 1, .next_free = e->seg_free};
        e->seg_free = i + 1;
    }
    e->seg_cap = cap;
    return 0;
}

int yk_engine_segment(struct yk_xfer *e, const struct yk_seg *seg, uint64_t own_file,
                      yk_xfer_segment *ret_segment, struct yk_err *err) {
    int rc = 0;
    pthread_mutex_lock(&e->tables);
    if (e->seg_free == 0)
        rc = grow(e);
    if (rc == 0) {
        uint32_t i = e->seg_free - 1;
        struct yk_seg_slot *s = &e->segments[i];
        e->seg_free = s->next_free;
        s->seg = *seg;
        s->seg.peer->opens++;
        s->open = 1;
        s->own_file = own_file;
        *ret_segment = (uint64_t)s->generation << 32 | i;
    }
    pthread_mutex_unlock(&e->tables);
    return rc < 0 ? yk_err_set(err, rc, "no memory for another segment, or %u are open", YK_SEGMENTS_MAX)
                  : 0;
}

static struct yk_seg_slot *slot_at(struct yk_xfer *e, yk_xfer_segment segment) {
    uint32_t i = (uint32_t)segment;
    struct yk_seg_slot *s = i < e->seg_cap ? &e->segments[i] : NULL;
    return s != NULL && s->open && s->generation == (uint32_t)(segment >> 32) ? s : NULL;
}

struct yk_seg *yk_segment_at(struct yk_xfer *e, yk_xfer_segment segment) {
    struct yk_seg_slot *s = slot_at(e, segment);
    return s != NULL ? &s->seg : NULL;
}

static void drop_file(struct yk_xfer *e, uint64_t region) {
    struct yk_region *r;
    if (region != 0 && yk_registry_doom_id(e->registry, region, &r) == 0)
        (void)yk_engine_retire(e, r, CLOSE_NS); /* what is left of it ends with the engine */
}

int yk_xfer_close(yk_xfer *e, yk_xfer_segment segment) {
    uint64_t own_file = 0;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&e->tables);
    struct yk_seg_slot *s = slot_at(e, segment);
    if (s != NULL) {
        own_file = s->own_file;
        s->open = 0;
        s->seg.peer->opens--;
        s->seg.peer->closed_ns = yk_now_ns();
        if (++s->generation != 0) { /* a slot whose numbers are used up stays closed */
            s->next_free = e->seg_free;
            e->seg_free = (uint32_t)segment + 1;
        }
    }
    pthread_mutex_unlock(&e->tables);
    if (s == NULL)
        return yk_xfer_fail(-YK_ENOENT, "segment %#llx is not open", (unsigned long long)segment);
    drop_file(e, own_file);
    return 0;
}

int yk_xfer_segment_stat_sized(yk_xfer *e, yk_xfer_segment segment, yk_xfer_segment_info *ret_info, size_t info_size) {
    yk_xfer_segment_info info;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (ret_info == NULL)
        return yk_xfer_fail(-YK_EINVAL, "ret_info is NULL");
    pthread_mutex_lock(&e->tables);
    const struct yk_seg *g = yk_segment_at(e, segment);
    if (g != NULL)
        info = (yk_xfer_segment_info){.length = g->len,
                                      .access = g->access,
                                      .guarded = g->guarded,
                                      .incarnation = g->peer->info.incarnation};
    pthread_mutex_unlock(&e->tables);
    if (g != NULL)
        yk_sized_copy(ret_info, info_size, &info, sizeof(info));
    return g != NULL ? 0
                     : yk_xfer_fail(-YK_ENOENT, "segment %#llx is not open", (unsigned long long)segment);
}

/* ---- publishing ----------------------------------------------------------------------------------------- */

/* Others are told, and it is noted down. On failure the name is withdrawn here. */
static int announce(struct yk_xfer *e, const char *name, struct yk_err *err) {
    struct yk_published p;
    struct yk_named *n = calloc(1, sizeof(*n));
    int rc = n == NULL ? yk_err_set(err, -YK_ENOMEM, "no memory for a name")
                       : yk_resolve_publish(e, name, &n->lock_fd, err);
    if (rc < 0) {
        (void)yk_registry_withdraw(e->registry, name);
        free(n);
        return rc;
    }
    snprintf(n->name, sizeof(n->name), "%s", name);
    if (yk_registry_segment(e->registry, name, &p) == 0)
        n->region = p.region;
    pthread_mutex_lock(&e->tables);
    n->next = e->named;
    e->named = n;
    pthread_mutex_unlock(&e->tables);
    return 0;
}

int yk_xfer_publish(yk_xfer *e, const char *name, void *addr, uint64_t length,
                    const yk_xfer_guard_ops *guard) {
    struct yk_err err;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (guard != NULL && (guard->size < sizeof(*guard) || guard->pin == NULL || guard->unpin == NULL))
        return yk_xfer_fail(-YK_EINVAL, "the guard's size or a function is not set");
    rc = yk_registry_publish(e->registry, name, addr, length, guard, &err);
    if (rc == 0)
        rc = announce(e, name, &err);
    return rc < 0 ? yk_xfer_fail_err(&err) : 0;
}

/* A file's region: 0, and its number and length. */
static int add_file(struct yk_xfer *e, const char *path, uint32_t access, uint64_t *ret_id,
                    uint64_t *ret_len, struct yk_err *err) {
    int flags = (access & YK_XFER_REMOTE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC |
                O_NONBLOCK; /* a pipe would wait; of files it says nothing */
    int fd = open(path, flags | O_DIRECT);
    if (fd < 0 && errno == EINVAL)
        fd = open(path, flags);
    if (fd < 0)
        return yk_err_set(err, -yk_status_from_errno(errno), "file '%.120s': %s", path, strerror(errno));
    struct stat st;
    uint64_t len = 0;
    int rc = fstat(fd, &st) < 0 ? -YK_EIO : 0;
    if (rc == 0 && S_ISREG(st.st_mode))
        len = (uint64_t)st.st_size;
    else if (rc == 0 && (!S_ISBLK(st.st_mode) || ioctl(fd, BLKGETSIZE64, &len) < 0))
        rc = -YK_EINVAL;
    if (rc == 0 && len == 0)
        rc = -YK_EINVAL;
    if (rc < 0)
        rc = yk_err_set(err, rc, "'%.120s' is not a file or block device with bytes in it", path);
    else if ((rc = yk_registry_add_file(e->registry, fd, len, access, ret_id)) < 0)
        rc = yk_err_set(err, rc, "file '%.120s': %s", path, yk_status_text(rc));
    if (rc < 0)
        close(fd);
    *ret_len = len;
    return rc;
}

int yk_xfer_publish_file(yk_xfer *e, const char *name, const char *path, uint32_t access) {
    struct yk_err err;
    uint64_t id = 0, len;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (path == NULL || (access & ~(uint32_t)(YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE)))
        return yk_xfer_fail(-YK_EINVAL, "the path is NULL, or access %#x has bits that mean nothing",
                            access);
    rc = add_file(e, path, access, &id, &len, &err);
    if (rc == 0)
        rc = yk_registry_publish_file(e->registry, name, id, len, access, &err);
    if (rc == 0)
        rc = announce(e, name, &err);
    if (rc == 0)
        return 0;
    drop_file(e, id);
    return yk_xfer_fail_err(&err);
}

static struct yk_named *take_named(struct yk_xfer *e, const char *name, uint64_t region) {
    pthread_mutex_lock(&e->tables);
    struct yk_named **at = &e->named;
    while (*at != NULL && (name != NULL ? strcmp((*at)->name, name) != 0
                                        : region != 0 && (*at)->region != region))
        at = &(*at)->next;
    struct yk_named *n = *at;
    if (n != NULL)
        *at = n->next;
    pthread_mutex_unlock(&e->tables);
    return n;
}

static void withdraw(struct yk_xfer *e, struct yk_named *n) {
    (void)yk_registry_withdraw(e->registry, n->name);
    yk_resolve_withdraw(e, n->name, n->lock_fd);
    free(n);
}

int yk_xfer_withdraw(yk_xfer *e, const char *name) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    struct yk_named *n = name != NULL ? take_named(e, name, 0) : NULL;
    if (n == NULL)
        return yk_xfer_fail(-YK_ENOENT, "no segment of that name is published here");
    struct yk_region *r = yk_registry_get(e->registry, n->region);
    uint64_t file = r != NULL && r->file ? n->region : 0;
    yk_registry_put(e->registry, r);
    withdraw(e, n);
    drop_file(e, file);
    return 0;
}

void yk_segments_withdraw(struct yk_xfer *e, uint64_t region) {
    struct yk_named *n;
    while ((n = take_named(e, NULL, region)) != NULL)
        withdraw(e, n);
}

void yk_segments_free(struct yk_xfer *e) {
    free(e->segments);
}

/* ---- opening ----------------------------------------------------------------------------------------------- */

static int open_found(struct yk_xfer *e, const struct yk_peer_info *info, int file,
                      const struct yk_published *p, uint64_t own_file, yk_xfer_segment *ret_segment,
                      struct yk_err *err) {
    struct yk_seg seg = {.region = p->region,
                         .offset = p->offset,
                         .len = p->len,
                         .access = p->access,
                         .guarded = p->guarded};
    int rc = yk_engine_peer(e, info, file, &seg.peer, err);
    if (rc < 0)
        return rc;
    rc = yk_engine_segment(e, &seg, own_file, ret_segment, err);
    yk_peer_put(seg.peer);
    return rc;
}

/* Of an engine in this process. */
static int open_here(struct yk_xfer *e, struct yk_inproc *l, const char *name,
                     yk_xfer_segment *ret_segment, struct yk_err *err) {
    struct yk_published p;
    struct yk_peer_info info = {.incarnation = l->incarnation, .memory_token = yk_inproc_token()};
    if (yk_registry_segment(l->registry, name, &p) < 0)
        return yk_err_set(err, -YK_ENOENT, "segment '%.127s' is not published there", name);
    struct yk_region *r = yk_registry_get(l->registry, p.region);
    int file = r != NULL && r->file;
    yk_registry_put(l->registry, r);
    if (file && l != e->local)
        return yk_err_set(err, -YK_ENOTSUP, "segment '%.127s' is another engine's file: open it by path",
                          name);
    return open_found(e, l == e->local ? &e->self : &info, file, &p, 0, ret_segment, err);
}

static int open_mem(struct yk_xfer *e, const char *id, const char *name, yk_xfer_segment *ret_segment,
                    struct yk_err *err) {
    char *end;
    uint64_t incarnation = strtoull(id, &end, 16);
    struct yk_inproc *l = *end == 0 && end != id ? yk_inproc_find(incarnation) : NULL;
    if (l == NULL)
        return yk_err_set(err, -YK_EGONE, "segment '%.127s': no engine mem:%.20s is in this process",
                          name, id);
    int rc = open_here(e, l, name, ret_segment, err);
    yk_inproc_put(l);
    return rc;
}

static int open_file(struct yk_xfer *e, const char *path, yk_xfer_segment *ret_segment,
                     struct yk_err *err) {
    struct yk_published p = {.access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
    int rc = add_file(e, path, p.access, &p.region, &p.len, err);
    if (rc < 0)
        return rc;
    rc = open_found(e, &e->self, 1, &p, p.region, ret_segment, err);
    if (rc < 0)
        drop_file(e, p.region);
    return rc;
}

static int open_address(struct yk_xfer *e, const char *address, const char *name, uint64_t deadline_ns,
                        yk_xfer_segment *ret_segment, struct yk_err *err) {
    struct yk_peer_info info;
    struct yk_published p;
    if (strncmp(address, "mem:", 4) == 0)
        return open_mem(e, address + 4, name, ret_segment, err);
    int rc = yk_remote_segment(e, address, name, deadline_ns, &info, &p, err);
    return rc < 0 ? rc : open_found(e, &info, 0, &p, 0, ret_segment, err);
}

static int open_name(struct yk_xfer *e, const char *name, uint64_t deadline_ns,
                     yk_xfer_segment *ret_segment, struct yk_err *err) {
    char address[YK_ADDRESS_MAX];
    struct yk_published p;
    if (yk_registry_segment(e->registry, name, &p) == 0) {
        if (!e->reach_self || e->reach[0] == 0)
            return open_here(e, e->local, name, ret_segment, err);
        return open_address(e, e->reach, name, deadline_ns, ret_segment, err);
    }
    int rc = yk_resolve_find(e, name, address, sizeof(address), err);
    return rc < 0 ? rc : open_address(e, address, name, deadline_ns, ret_segment, err);
}

int yk_xfer_open(yk_xfer *e, const char *where, uint32_t timeout_ms, yk_xfer_segment *ret_segment) {
    struct yk_err err = {.code = 0};
    char address[YK_ADDRESS_MAX];
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (where == NULL || ret_segment == NULL)
        return yk_xfer_fail(-YK_EINVAL, "where or ret_segment is NULL");
    uint64_t deadline = yk_now_ns() + (timeout_ms != 0 ? timeout_ms : OPEN_MS) * YK_NS_PER_MS;
    yk_peers_sweep(e);
    const char *slash = strrchr(where, '/');
    if (strncmp(where, "file:", 5) == 0) {
        rc = open_file(e, where + 5, ret_segment, &err);
    } else if (slash == NULL) {
        rc = open_name(e, where, deadline, ret_segment, &err);
    } else if (slash[1] == 0 || slash == where || (size_t)(slash - where) >= sizeof(address)) {
        rc = yk_err_set(&err, -YK_EINVAL,
                        "'%.100s': expected NAME, HOST:PORT/NAME, unix:/PATH/NAME or file:/PATH", where);
    } else {
        memcpy(address, where, (size_t)(slash - where));
        address[slash - where] = 0;
        rc = open_address(e, address, slash + 1, deadline, ret_segment, &err);
    }
    return rc < 0 ? yk_xfer_fail_err(&err) : 0;
}
