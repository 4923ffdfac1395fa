/* SPDX-License-Identifier: Apache-2.0
 *
 * Registering memory, and taking it back while it is in use (R16).
 *
 * Unregister marks a region dying (no new references), has the server turn what it receives into it
 * away, cancels this engine's requests in it, and waits until the last reference is put; only then its keys
 * go, and devices forget it. Waiting looks again after short sleeps: a lock-free count cannot wake anybody, and this is
 * no hot path. It ends, whatever a device does: then the region stays as it is, dead, its place taken, and who
 * unregisters it again learns how it is.
 *
 * Threads: any.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"
#include "xfer/cuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PEER_NS       (5 * YK_NS_PER_S)
#define LEAST_NS      (20 * YK_NS_PER_MS) /* for one of several, where another took all the time */
#define AGAIN_NS      (20 * YK_NS_PER_MS) /* requests that took a reference just before are caught then */

/* ---- keys ------------------------------------------------------------------------------------------- */

/* 0, or -YK_EBUSY: a device has not forgotten it yet. last: it is not asked again. */
static int drop_keys(struct yk_xfer *e, struct yk_region *r, int last) {
    int rc = 0;
    for (uint32_t i = 0; e->xports[i] != NULL && i < YK_REGION_KEYS; i++) {
        const struct yk_xport_ops *x = e->xports[i];
        if (r->keys[i] != NULL && x->unready != NULL && x->unready(r, last) < 0 && !last)
            rc = -YK_EBUSY;
        else if (r->keys[i] != NULL && x->unreg != NULL)
            x->unreg(r);
    }
    return rc;
}

static int make_keys(struct yk_xfer *e, struct yk_region *r, struct yk_err *err) {
    int rc = 0;
    for (uint32_t i = 0; e->xports[i] != NULL && i < YK_REGION_KEYS && rc == 0; i++)
        if (e->xports[i]->reg != NULL && (e->opts.transports & e->xports[i]->bit))
            rc = e->xports[i]->reg(r, err);
    return rc;
}

/* Shown to peers, and made known to devices. */
static void offer(struct yk_xfer *e, struct yk_region *r) {
    yk_remote_show(e, r);
    for (uint32_t i = 0; e->xports[i] != NULL && i < YK_REGION_KEYS; i++)
        if (e->xports[i]->ready != NULL && (e->opts.transports & e->xports[i]->bit))
            e->xports[i]->ready(&e->opts, r);
}

/* ---- the end of a region ------------------------------------------------------------------------------ */

static void cancel_in(struct yk_shard *s, void *arg) {
    yk_shard_fail(s, arg, NULL, -YK_ECANCELED);
}

static void forget_file(struct yk_shard *s, void *arg) {
    for (uint32_t i = 0; i < s->xport_count; i++)
        if (s->xports[i]->ops->forget != NULL)
            s->xports[i]->ops->forget(s->xports[i], *(const uint64_t *)arg);
}

static void cancel_all_in(struct yk_xfer *e, struct yk_region *r) {
    for (uint32_t i = 0; i < e->shard_count; i++)
        yk_shard_call(e->shards[i], cancel_in, r);
}

/* 1: it is gone; 0: requests are under way in it; -YK_EBUSY: a device has it. */
static int is_over(struct yk_xfer *e, struct yk_region *r, int last) {
    char location[sizeof(r->location)];
    uint64_t len = r->base != NULL ? r->len : 0, file = r->file ? r->id : 0; /* it is gone when it is told */
    if (!yk_registry_is_idle(r)) /* who holds a region may look at its keys at any time */
        return 0;
    int rc = drop_keys(e, r, last);
    if (rc < 0)
        return rc;
    memcpy(location, r->location, sizeof(location));
    if (!yk_registry_remove(e->registry, r))
        return 0;
    if (len > 0)
        yk_places_sub(e->places, location, len);
    for (uint32_t i = 0; file != 0 && i < e->shard_count; i++)
        yk_shard_call(e->shards[i], forget_file, &file);
    return 1;
}

int yk_engine_retire(struct yk_xfer *e, struct yk_region *r, uint64_t wait_ns) {
    struct timespec pause = {.tv_nsec = 20000};
    uint64_t start = yk_now_ns(), again = start;
    uint64_t patience = wait_ns < PEER_NS ? wait_ns : PEER_NS;
    /* A peer that was stopped within a copy is not waited for without end: at the end of an engine what it
     * can still touch is its own mapping. */
    if (yk_remote_forget(e, r, start + patience) < 0 && wait_ns != UINT64_MAX)
        return -YK_ETIMEDOUT;
    for (;;) {
        uint64_t now = yk_now_ns();
        if (now >= again && r->base != NULL) {
            cancel_all_in(e, r);
            again = now + AGAIN_NS;
        }
        int over = is_over(e, r, wait_ns == UINT64_MAX && now >= e->devices_until_ns);
        if (over == 1)
            return 0;
        if (now - start >= wait_ns)
            return over < 0 ? over : -YK_ETIMEDOUT;
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 1000000)
            pause.tv_nsec *= 2;
    }
}

void yk_engine_retire_all(struct yk_xfer *e) {
    struct yk_region *r;
    e->devices_until_ns = yk_now_ns() + e->unregister_ns;
    while (yk_registry_doom_any(e->registry, &r) == 0)
        (void)yk_engine_retire(e, r, UINT64_MAX);
}

/* ---- register, unregister ------------------------------------------------------------------------------ */

/* Into m what CUDA's driver says of its memory, and into text where that lies. */
static int ask_cuda(yk_xfer_memory *m, size_t i, char *text, struct yk_err *err) {
    struct yk_cuda_memory found;
    struct yk_err why;
    if (m->fd >= 0)
        return yk_err_set(err, -YK_EINVAL, "memory %zu: a descriptor of memory that CUDA is asked for", i);
    if (m->addr == NULL || m->length == 0 || m->length > YK_XFER_LENGTH_MAX)
        return 0; /* the registry has a text for that */
    int rc = yk_cuda_find(m->addr, m->length, &found, &why);
    if (rc < 0)
        return yk_err_set(err, rc, "memory %zu: %s", i, why.text);
    m->fd = found.fd;
    m->fd_offset = found.offset;
    if (m->location == NULL || m->location[0] == 0) {
        snprintf(text, YK_TOPO_LOCATION, "cuda:%d", found.device);
        m->location = text;
    }
    return 0;
}

/* Memory of a device: by RDMA or not at all. */
static int find_device(struct yk_xfer *e, yk_xfer_memory *m, size_t i, char *text, struct yk_err *err) {
    if (!(e->opts.transports & YK_XFER_RDMA))
        return yk_err_set(err, -YK_ENOTSUP, "memory %zu: " YK_DEVICE_NO_WAY ", and rdma is not among the transports", i);
    return (m->access & YK_REGION_KINDS) == YK_XFER_CUDA ? ask_cuda(m, i, text, err) : 0;
}

/* What CUDA exported of the first n: the registry has descriptors of its own. */
static void located_free(yk_xfer_memory *copy, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((copy[i].access & YK_REGION_KINDS) == YK_XFER_CUDA && copy[i].fd >= 0)
            close(copy[i].fd);
    free(copy);
}

/* A copy of what is to be registered that says of each where it lies; one allocation. */
static int located(struct yk_xfer *e, const yk_xfer_memory *memory, size_t n, yk_xfer_memory **ret_copy,
                   struct yk_err *err) {
    yk_xfer_memory *copy = calloc(n, sizeof(*copy) + YK_TOPO_LOCATION);
    if (copy == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory to register %zu ranges", n);
    char *text = (char *)(copy + n);
    for (size_t i = 0; i < n; i++, text += YK_TOPO_LOCATION) {
        copy[i] = memory[i];
        int rc = copy[i].access & YK_REGION_KINDS ? find_device(e, &copy[i], i, text, err) : 0;
        if (rc < 0) {
            located_free(copy, i);
            return rc;
        }
        if ((copy[i].access & YK_REGION_KINDS) || (copy[i].location != NULL && copy[i].location[0] != 0))
            continue;
        yk_places_find(e->places, copy[i].addr, copy[i].length, text);
        copy[i].location = text;
    }
    *ret_copy = copy;
    return 0;
}

int yk_xfer_register(yk_xfer *e, const yk_xfer_memory *memory, size_t n) {
    struct yk_err err = {.code = 0};
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (memory == NULL || n == 0)
        return yk_xfer_fail(-YK_EINVAL, "no memory to register");
    yk_xfer_memory *copy = NULL;
    rc = located(e, memory, n, &copy, &err);
    if (rc < 0)
        return yk_xfer_fail_err(&err);
    rc = yk_registry_add(e->registry, copy, n, &err);
    for (size_t i = 0; i < n && rc == 0; i++)
        if (copy[i].location != NULL)
            yk_places_add(e->places, copy[i].location, copy[i].length);
    located_free(copy, n);
    if (rc < 0)
        return yk_xfer_fail_err(&err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct yk_region *r = yk_registry_find(e->registry, memory[i].addr, 1);
        rc = r != NULL ? make_keys(e, r, &err) : 0;
        if (rc == 0 && r != NULL)
            offer(e, r);
        yk_registry_put(e->registry, r);
    }
    if (rc == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        struct yk_region *r;
        if (yk_registry_doom(e->registry, memory[i].addr, &r) == 0 && yk_engine_retire(e, r, e->unregister_ns) < 0)
            yk_registry_leave(e->registry, r);
    }
    return yk_xfer_fail_err(&err);
}

static int by_address(const void *a, const void *b) {
    const void *const *x = a, *const *y = b;
    return (*x > *y) - (*x < *y);
}

static int check_twice(void *const *addrs, size_t n) {
    void **sorted = malloc(n * sizeof(void *));
    int rc = 0;
    if (sorted == NULL)
        return yk_xfer_fail(-YK_ENOMEM, "no memory to look at %zu addresses", n);
    memcpy(sorted, addrs, n * sizeof(void *));
    qsort(sorted, n, sizeof(void *), by_address);
    for (size_t i = 1; i < n && rc == 0; i++)
        if (sorted[i] == sorted[i - 1])
            rc = yk_xfer_fail(-YK_EINVAL, "%p is given twice", sorted[i]);
    free(sorted);
    return rc;
}

/* Of the ranges, one that began there when it was looked at. late: as yk_engine_retire says. */
static int unregister(struct yk_xfer *e, void *addr, uint64_t until_ns, int *ret_late) {
    struct yk_region *r;
    int rc = yk_registry_doom(e->registry, addr, &r);
    if (rc < 0)
        return rc;
    yk_segments_withdraw(e, r->id);
    uint64_t now = yk_now_ns();
    rc = yk_engine_retire(e, r, now + LEAST_NS < until_ns ? until_ns - now : LEAST_NS);
    if (rc < 0) {
        yk_registry_leave(e->registry, r);
        *ret_late = rc;
    }
    return 0;
}

/* Of what another call is at it is not known that it is free. */
static int unregister_fails(int rc, size_t i, const void *addr) {
    return rc == -YK_EBUSY ? yk_xfer_fail(rc, "address %zu: another call is unregistering %p", i, addr)
                           : yk_xfer_fail(rc, "address %zu: no registered memory begins at %p", i, addr);
}

int yk_xfer_unregister(yk_xfer *e, void *const *addrs, size_t n) {
    int rc = yk_xfer_enter(e), late = 0;
    if (rc < 0)
        return rc;
    if (addrs == NULL || n == 0)
        return yk_xfer_fail(-YK_EINVAL, "no memory to unregister");
    for (size_t i = 0; i < n; i++) {
        rc = addrs[i] != NULL ? yk_registry_begins(e->registry, addrs[i]) : -YK_ENOENT;
        if (rc < 0)
            return unregister_fails(rc, i, addrs[i]);
    }
    if (n > 1 && (rc = check_twice(addrs, n)) < 0)
        return rc;
    uint64_t until_ns = yk_now_ns() + e->unregister_ns;
    for (size_t i = 0; i < n; i++)
        if ((rc = unregister(e, addrs[i], until_ns, &late)) < 0)
            return unregister_fails(rc, i, addrs[i]);
    return late == 0           ? 0
           : late == -YK_EBUSY ? yk_xfer_fail(-YK_ETIMEDOUT, "an RDMA device did not let go of memory within 5 seconds: "
                                                             "keep it, and unregister it again")
                               : yk_xfer_fail(-YK_ETIMEDOUT, "requests in the memory did not end within 5 seconds");
}

/* ---- memory that can be mapped --------------------------------------------------------------------------- */

int yk_xfer_alloc(yk_xfer *e, uint64_t length, uint32_t access, void **ret_addr) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (length == 0 || length > YK_XFER_LENGTH_MAX || ret_addr == NULL)
        return yk_xfer_fail(-YK_EINVAL, "%llu bytes to allocate, expected 1 to 1 TiB",
                            (unsigned long long)length);
    if (access & YK_REGION_KINDS)
        return yk_xfer_fail(-YK_EINVAL, "memory of a device is registered, not allocated here");
    struct yk_alloc *a = malloc(sizeof(*a));
    int fd = memfd_create("yolk-xfer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *at = MAP_FAILED;
    if (a != NULL && fd >= 0 && ftruncate(fd, (off_t)length) == 0)
        at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) /* peers map only what cannot be cut short under them */
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
    if (at != MAP_FAILED) {
        yk_xfer_memory m = {.addr = at, .length = length, .access = access, .fd = fd};
        rc = yk_xfer_register(e, &m, 1);
    } else {
        rc = yk_xfer_fail(-YK_ENOMEM, "no memory for %llu bytes", (unsigned long long)length);
    }
    if (fd >= 0)
        close(fd);
    if (rc < 0) {
        if (at != MAP_FAILED)
            munmap(at, length);
        free(a);
        return rc;
    }
    pthread_mutex_lock(&e->tables);
    *a = (struct yk_alloc){.next = e->allocs, .addr = at, .len = length};
    e->allocs = a;
    pthread_mutex_unlock(&e->tables);
    *ret_addr = at;
    return 0;
}

/* Whether any of it is registered, or being unregistered. */
static int is_known(struct yk_xfer *e, const struct yk_alloc *a) {
    struct yk_region *r = NULL;
    int rc = yk_registry_local(e->registry, a->addr, a->len, &r);
    yk_registry_put(e->registry, r);
    return rc != -YK_ENOENT;
}

int yk_xfer_free(yk_xfer *e, void *addr) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&e->tables);
    struct yk_alloc **at = &e->allocs;
    while (*at != NULL && (*at)->addr != addr)
        at = &(*at)->next;
    struct yk_alloc *a = *at;
    if (a != NULL)
        *at = a->next;
    pthread_mutex_unlock(&e->tables);
    if (a == NULL)
        return yk_xfer_fail(-YK_ENOENT, "%p was not allocated by this engine", addr);
    rc = yk_xfer_unregister(e, &addr, 1);
    if (rc < 0 && is_known(e, a)) { /* still in use, now or since an earlier call: it goes with the engine */
        pthread_mutex_lock(&e->tables);
        a->next = e->allocs;
        e->allocs = a;
        pthread_mutex_unlock(&e->tables);
        return rc == -YK_ENOENT ? yk_xfer_fail(-YK_ETIMEDOUT, "%p is still in use: it goes with the engine",
                                               addr)
                                : rc;
    }
    munmap(addr, a->len);
    free(a);
    return 0;
}

void yk_memory_free(struct yk_xfer *e) {
    while (e->allocs != NULL) {
        struct yk_alloc *a = e->allocs;
        e->allocs = a->next;
        munmap(a->addr, a->len);
        free(a);
    }
}
