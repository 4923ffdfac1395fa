/* SPDX-License-Identifier: Apache-2.0
 *
 * See region.h. Regions stand in an array of slots, found by the lower half of their number, and in an
 * array sorted by address. Adding to that moves pointers: 10,000 regions are 80 KB, some microseconds;
 * a tree was not worth it.
 *
 * Threads: any, under `lock`; `refs` goes up under it and down without: release there, acquire where
 * remove reads it, so that what the last holder did to the memory is over for who unregisters.
 */
#include "xfer/region.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct slot {
    struct yk_region *region; /* NULL: free */
    uint32_t generation;      /* of the region in it, or of the next */
    uint32_t next_free;       /* + 1 */
};

struct yk_registry {
    pthread_mutex_t lock;
    struct slot *slots;
    uint32_t slot_cap, free_slot; /* + 1; 0 = none */
    struct yk_region **by_addr;   /* not files; the dying, too: their memory is not free */
    uint32_t count, cap;
    uint32_t regions; /* all of them */
    struct yk_published *published;
    uint32_t published_count, published_cap;
};

struct yk_registry *yk_registry_new(void) {
    struct yk_registry *g = calloc(1, sizeof(*g));
    if (g != NULL)
        pthread_mutex_init(&g->lock, NULL);
    return g;
}

static void region_free(struct yk_region *r) {
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

void yk_registry_free(struct yk_registry *g) {
    if (g == NULL)
        return;
    for (uint32_t i = 0; i < g->slot_cap; i++)
        if (g->slots[i].region != NULL)
            region_free(g->slots[i].region);
    pthread_mutex_destroy(&g->lock);
    free(g->slots);
    free(g->by_addr);
    free(g->published);
    free(g);
}

/* ---- slots ------------------------------------------------------------------------------------ */

static int slots_grow(struct yk_registry *g) {
    uint32_t cap = g->slot_cap == 0 ? 64 : g->slot_cap * 2;
    struct slot *more = realloc(g->slots, cap * sizeof(*more));
    if (more == NULL)
        return -YK_ENOMEM;
    g->slots = more;
    for (uint32_t i = cap; i-- > g->slot_cap;) {
        more[i] = (struct slot){.generation = 1, .next_free = g->free_slot};
        g->free_slot = i + 1;
    }
    g->slot_cap = cap;
    return 0;
}

static int slot_take(struct yk_registry *g, struct yk_region *r) {
    if (g->free_slot == 0 && slots_grow(g) < 0)
        return -YK_ENOMEM;
    uint32_t i = g->free_slot - 1;
    g->free_slot = g->slots[i].next_free;
    g->slots[i].region = r;
    r->id = (uint64_t)g->slots[i].generation << 32 | i;
    g->regions++;
    return 0;
}

/* A slot whose generations are used up stays empty: numbers never repeat. */
static void slot_give(struct yk_registry *g, struct yk_region *r) {
    uint32_t i = (uint32_t)r->id;
    g->slots[i].region = NULL;
    g->regions--;
    if (++g->slots[i].generation == 0)
        return;
    g->slots[i].next_free = g->free_slot;
    g->free_slot = i + 1;
}

/* ---- by address ------------------------------------------------------------------------------- */

/* How many begin at or before addr. */
static uint32_t before(const struct yk_registry *g, uintptr_t addr) {
    uint32_t low = 0, high = g->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if ((uintptr_t)g->by_addr[mid]->base <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int addr_insert(struct yk_registry *g, struct yk_region *r) {
    if (g->count == g->cap) {
        uint32_t cap = g->cap == 0 ? 64 : g->cap * 2;
        struct yk_region **more = realloc(g->by_addr, cap * sizeof(struct yk_region *));
        if (more == NULL)
            return -YK_ENOMEM;
        g->by_addr = more;
        g->cap = cap;
    }
    uint32_t at = before(g, (uintptr_t)r->base);
    memmove(&g->by_addr[at + 1], &g->by_addr[at], (g->count - at) * sizeof(g->by_addr[0]));
    g->by_addr[at] = r;
    g->count++;
    return 0;
}

static void addr_remove(struct yk_registry *g, struct yk_region *r) {
    uint32_t at = before(g, (uintptr_t)r->base);
    if (r->base == NULL || at == 0 || g->by_addr[at - 1] != r)
        return;
    memmove(&g->by_addr[at - 1], &g->by_addr[at], (g->count - at) * sizeof(g->by_addr[0]));
    g->count--;
}

/* ---- add and remove ---------------------------------------------------------------------------- */

/* NULL or "": found out. */
static int check_location(const char *location, int device) {
    static const char *const kinds[] = {"cpu:", "cxl:", "gpu:", "cuda:"}; /* the last two: of devices */
    const char *n = NULL;
    int kind = -1;
    if (location == NULL || location[0] == 0)
        return 0;
    for (int i = 0; i < 4 && n == NULL; i++)
        if (strncmp(location, kinds[i], strlen(kinds[i])) == 0) {
            n = location + strlen(kinds[i]);
            kind = i;
        }
    if (kind >= 2 && !device)
        return -YK_ENOTSUP;
    return n != NULL && n[0] != 0 && strspn(n, "0123456789") == strlen(n) && strlen(n) < 5 ? 0 : -YK_EINVAL;
}

static int check_device(const yk_xfer_memory *m, size_t i, struct yk_err *err) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint32_t kind = m->access & YK_REGION_KINDS;
    if (kind == YK_REGION_KINDS)
        return yk_err_set(err, -YK_EINVAL, "memory %zu: it is CUDA's or a dma-buf, not both", i);
    if (kind == YK_XFER_DMABUF && m->fd < 0)
        return yk_err_set(err, -YK_EINVAL, "memory %zu: a dma-buf without a descriptor", i);
    if (m->fd >= 0 && kind != 0 && ((uintptr_t)m->addr - m->fd_offset) % page != 0)
        return yk_err_set(err, -YK_EINVAL, "memory %zu: %p and offset %llu of its dma-buf are at different places of a page",
                          i, m->addr, (unsigned long long)m->fd_offset);
    return 0;
}

static int check_memory(const struct yk_registry *g, const yk_xfer_memory *m, size_t i,
                        struct yk_err *err) {
    uintptr_t base = (uintptr_t)m->addr;
    if (m->addr == NULL || m->length == 0)
        return yk_err_set(err, -YK_EINVAL, "memory %zu: %s", i,
                          m->addr == NULL ? "its address is NULL" : "its length is 0");
    if (m->length > YK_XFER_LENGTH_MAX || base + m->length < base)
        return yk_err_set(err, -YK_EINVAL, "memory %zu: length %llu at %p is beyond %s", i,
                          (unsigned long long)m->length, m->addr,
                          m->length > YK_XFER_LENGTH_MAX ? "1 TiB" : "the end of addresses");
    if (m->access & ~(YK_REGION_KINDS | YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE | YK_XFER_REMOTE_GUARDED))
        return yk_err_set(err, -YK_EINVAL, "memory %zu: access %#x has bits that mean nothing", i,
                          m->access);
    int rc = check_location(m->location, (m->access & YK_REGION_KINDS) != 0);
    if (rc < 0)
        return yk_err_set(err, rc, "memory %zu: location '%.40s': expected cpu:N, cxl:N or none; a device's with "
                                   "YK_XFER_CUDA or YK_XFER_DMABUF in access", i, m->location);
    rc = check_device(m, i, err);
    if (rc < 0)
        return rc;
    uint32_t at = before(g, base);
    for (uint32_t k = at > 0 ? at - 1 : 0; k < at + 1 && k < g->count; k++) {
        const struct yk_region *r = g->by_addr[k];
        if ((uintptr_t)r->base < base + m->length && base < (uintptr_t)r->base + r->len)
            return yk_err_set(err, -YK_EINVAL,
                              "memory %zu: %llu bytes at %p overlap %llu at %p, which are registered", i,
                              (unsigned long long)m->length, m->addr, (unsigned long long)r->len,
                              (void *)r->base);
    }
    return 0;
}

static int add_one(struct yk_registry *g, const yk_xfer_memory *m, size_t i, struct yk_err *err) {
    int rc = check_memory(g, m, i, err);
    if (rc < 0)
        return rc;
    if (g->regions >= YK_REGIONS_MAX)
        return yk_err_set(err, -YK_ELIMIT, "memory %zu: %u ranges are registered already", i,
                          YK_REGIONS_MAX);
    struct yk_region *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return yk_err_set(err, -YK_ENOMEM, "memory %zu: out of memory", i);
    r->base = m->addr;
    r->len = m->length;
    r->access = m->access;
    r->fd_offset = m->fd_offset;
    r->fd = m->fd >= 0 ? fcntl(m->fd, F_DUPFD_CLOEXEC, 0) : -1;
    snprintf(r->location, sizeof(r->location), "%.15s", m->location != NULL ? m->location : "");
    if (m->fd >= 0 && r->fd < 0)
        rc = yk_err_set(err, errno == EMFILE ? -YK_ELIMIT : -YK_EINVAL,
                        "memory %zu: descriptor %d cannot be duplicated (errno %d)", i, m->fd, errno);
    else if (slot_take(g, r) < 0)
        rc = yk_err_set(err, -YK_ENOMEM, "memory %zu: out of memory", i);
    else if (addr_insert(g, r) < 0) {
        slot_give(g, r);
        rc = yk_err_set(err, -YK_ENOMEM, "memory %zu: out of memory", i);
    }
    if (rc < 0)
        region_free(r);
    return rc;
}

static struct yk_region *at_addr(const struct yk_registry *g, const void *addr) {
    uint32_t at = before(g, (uintptr_t)addr);
    return at > 0 && g->by_addr[at - 1]->base == (const char *)addr ? g->by_addr[at - 1] : NULL;
}

int yk_registry_add(struct yk_registry *g, const yk_xfer_memory *memory, size_t n,
                    struct yk_err *err) {
    int rc = 0;
    pthread_mutex_lock(&g->lock);
    size_t done = 0;
    while (done < n && (rc = add_one(g, &memory[done], done, err)) == 0)
        done++;
    while (rc < 0 && done > 0) { /* nobody has seen them: the lock was held */
        struct yk_region *r = at_addr(g, memory[--done].addr);
        addr_remove(g, r);
        slot_give(g, r);
        region_free(r);
    }
    pthread_mutex_unlock(&g->lock);
    return rc;
}

int yk_registry_add_file(struct yk_registry *g, int fd, uint64_t len, uint32_t access,
                         uint64_t *ret_id) {
    struct yk_region *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -YK_ENOMEM;
    *r = (struct yk_region){.fd = fd, .file = 1, .len = len, .access = access};
    pthread_mutex_lock(&g->lock);
    int rc = g->regions >= YK_REGIONS_MAX ? -YK_ELIMIT : slot_take(g, r);
    if (rc == 0)
        *ret_id = r->id;
    pthread_mutex_unlock(&g->lock);
    if (rc < 0)
        free(r);
    return rc;
}

static void withdraw_all(struct yk_registry *g, uint64_t id) {
    for (uint32_t i = 0; i < g->published_count;)
        if (g->published[i].region == id)
            g->published[i] = g->published[--g->published_count];
        else
            i++;
}

static void doom(struct yk_registry *g, struct yk_region *r) {
    __atomic_store_n(&r->dying, 1, __ATOMIC_RELEASE);
    r->taken = 1;
    withdraw_all(g, r->id);
}

int yk_registry_doom(struct yk_registry *g, void *addr, struct yk_region **ret_region) {
    pthread_mutex_lock(&g->lock);
    struct yk_region *r = at_addr(g, addr);
    int rc = r == NULL ? -YK_ENOENT : r->taken ? -YK_EBUSY : 0;
    if (rc == 0) {
        doom(g, r);
        *ret_region = r;
    }
    pthread_mutex_unlock(&g->lock);
    return rc;
}

void yk_registry_leave(struct yk_registry *g, struct yk_region *r) {
    pthread_mutex_lock(&g->lock);
    r->taken = 0;
    pthread_mutex_unlock(&g->lock);
}

int yk_registry_begins(struct yk_registry *g, const void *addr) {
    pthread_mutex_lock(&g->lock);
    const struct yk_region *r = at_addr(g, addr);
    int rc = r == NULL ? -YK_ENOENT : r->taken ? -YK_EBUSY : 0;
    pthread_mutex_unlock(&g->lock);
    return rc;
}

int yk_registry_doom_id(struct yk_registry *g, uint64_t id, struct yk_region **ret_region) {
    pthread_mutex_lock(&g->lock);
    uint32_t i = (uint32_t)id;
    struct yk_region *r = i < g->slot_cap ? g->slots[i].region : NULL;
    r = r != NULL && r->id == id && !r->dying ? r : NULL;
    if (r != NULL) {
        doom(g, r);
        *ret_region = r;
    }
    pthread_mutex_unlock(&g->lock);
    return r != NULL ? 0 : -YK_ENOENT;
}

int yk_registry_doom_any(struct yk_registry *g, struct yk_region **ret_region) {
    struct yk_region *r = NULL;
    pthread_mutex_lock(&g->lock);
    for (uint32_t i = 0; i < g->slot_cap && r == NULL; i++)
        r = g->slots[i].region;
    if (r != NULL) {
        doom(g, r);
        *ret_region = r;
    }
    pthread_mutex_unlock(&g->lock);
    return r != NULL ? 0 : -YK_ENOENT;
}

int yk_registry_is_idle(const struct yk_region *r) {
    return __atomic_load_n(&r->refs, __ATOMIC_ACQUIRE) == 0; /* pairs with put; up it goes no more */
}

int yk_registry_remove(struct yk_registry *g, struct yk_region *r) {
    pthread_mutex_lock(&g->lock);
    int gone = __atomic_load_n(&r->refs, __ATOMIC_ACQUIRE) == 0;
    if (gone) {
        addr_remove(g, r);
        slot_give(g, r);
    }
    pthread_mutex_unlock(&g->lock);
    if (gone)
        region_free(r);
    return gone;
}

/* ---- references -------------------------------------------------------------------------------- */

static struct yk_region *ref(struct yk_region *r) {
    if (r == NULL || r->dying)
        return NULL;
    __atomic_fetch_add(&r->refs, 1, __ATOMIC_RELAXED); /* under the lock, as is remove's look */
    return r;
}

struct yk_region *yk_registry_find(struct yk_registry *g, const void *addr, uint64_t len) {
    uintptr_t a = (uintptr_t)addr;
    pthread_mutex_lock(&g->lock);
    uint32_t at = before(g, a);
    struct yk_region *r = at > 0 ? g->by_addr[at - 1] : NULL;
    if (r != NULL && (len > r->len || a - (uintptr_t)r->base > r->len - len))
        r = NULL;
    r = ref(r);
    pthread_mutex_unlock(&g->lock);
    return r;
}

int yk_registry_local(struct yk_registry *g, const void *addr, uint64_t len,
                      struct yk_region **ret_region) {
    uintptr_t a = (uintptr_t)addr;
    int rc = -YK_ENOENT;
    pthread_mutex_lock(&g->lock);
    uint32_t at = before(g, a);
    struct yk_region *r = at > 0 ? g->by_addr[at - 1] : NULL;
    if (r != NULL && a - (uintptr_t)r->base < r->len) {
        r = len <= r->len - (a - (uintptr_t)r->base) ? ref(r) : NULL;
        rc = r != NULL ? 0 : -YK_EBUSY;
    } else if (at < g->count && len > (uintptr_t)g->by_addr[at]->base - a) {
        rc = -YK_EBUSY; /* it reaches into the next one */
    }
    if (rc == 0)
        *ret_region = r;
    pthread_mutex_unlock(&g->lock);
    return rc;
}

struct yk_region *yk_registry_get(struct yk_registry *g, uint64_t id) {
    uint32_t i = (uint32_t)id;
    pthread_mutex_lock(&g->lock);
    struct yk_region *r = i < g->slot_cap ? g->slots[i].region : NULL;
    r = ref(r != NULL && r->id == id ? r : NULL);
    pthread_mutex_unlock(&g->lock);
    return r;
}

void yk_registry_put(struct yk_registry *g, struct yk_region *r) {
    if (r != NULL)
        __atomic_fetch_sub(&r->refs, 1, __ATOMIC_RELEASE);
}

/* ---- segments ---------------------------------------------------------------------------------- */

static struct yk_published *find_name(const struct yk_registry *g, const char *name) {
    for (uint32_t i = 0; i < g->published_count; i++)
        if (strcmp(g->published[i].name, name) == 0)
            return &g->published[i];
    return NULL;
}

static int check_name(const char *name, struct yk_err *err) {
    size_t len = name != NULL ? strlen(name) : 0;
    if (len > 0 && strncmp(name, "file:", 5) == 0)
        return yk_err_set(err, -YK_EINVAL, "segment '%.40s': with file: in front it would be opened as a path",
                          name);
    if (len == 0 || len > YK_XFER_NAME_MAX || strchr(name, '/') != NULL)
        return yk_err_set(err, -YK_EINVAL,
                          "a segment's name has 1 to %u bytes and no '/'; this one has %zu%s",
                          YK_XFER_NAME_MAX, len, len > 0 && len <= YK_XFER_NAME_MAX ? " and a '/'" : "");
    return 0;
}

static int publish(struct yk_registry *g, const struct yk_published *p, struct yk_err *err) {
    if (find_name(g, p->name) != NULL)
        return yk_err_set(err, -YK_ECONFLICT, "segment '%s' is published by this engine already",
                          p->name);
    if (g->published_count == g->published_cap) {
        uint32_t cap = g->published_cap == 0 ? 8 : g->published_cap * 2;
        struct yk_published *more = realloc(g->published, cap * sizeof(*more));
        if (more == NULL)
            return yk_err_set(err, -YK_ENOMEM, "out of memory");
        g->published = more;
        g->published_cap = cap;
    }
    g->published[g->published_count++] = *p;
    return 0;
}

int yk_registry_publish(struct yk_registry *g, const char *name, void *addr, uint64_t len,
                        const yk_xfer_guard_ops *guard, struct yk_err *err) {
    int rc = check_name(name, err);
    if (rc < 0)
        return rc;
    struct yk_published p = {.len = len};
    snprintf(p.name, sizeof(p.name), "%s", name);
    if (guard != NULL) {
        p.guard = *guard;
        p.guarded = 1;
    }
    struct yk_region *r = len > 0 ? yk_registry_find(g, addr, len) : NULL;
    if (r == NULL)
        return yk_err_set(err, -YK_EINVAL, "segment '%s': %llu bytes at %p are not in registered memory",
                          name, (unsigned long long)len, addr);
    p.region = r->id;
    p.offset = (uint64_t)((char *)addr - r->base);
    p.access = r->access;
    pthread_mutex_lock(&g->lock);
    if (r->dying)
        rc = yk_err_set(err, -YK_EINVAL, "segment '%s': its memory is being unregistered", name);
    else if ((p.access & YK_XFER_REMOTE_GUARDED) && !p.guarded)
        rc = yk_err_set(err, -YK_EINVAL, "segment '%s': its memory is guarded only, and there is no guard",
                        name);
    else
        rc = publish(g, &p, err);
    pthread_mutex_unlock(&g->lock);
    yk_registry_put(g, r);
    return rc;
}

int yk_registry_publish_file(struct yk_registry *g, const char *name, uint64_t region, uint64_t len,
                             uint32_t access, struct yk_err *err) {
    int rc = check_name(name, err);
    if (rc < 0)
        return rc;
    struct yk_published p = {.region = region, .len = len, .access = access};
    snprintf(p.name, sizeof(p.name), "%s", name);
    pthread_mutex_lock(&g->lock);
    rc = publish(g, &p, err);
    pthread_mutex_unlock(&g->lock);
    return rc;
}

int yk_registry_withdraw(struct yk_registry *g, const char *name) {
    pthread_mutex_lock(&g->lock);
    struct yk_published *p = name != NULL ? find_name(g, name) : NULL;
    if (p != NULL)
        *p = g->published[--g->published_count];
    pthread_mutex_unlock(&g->lock);
    return p != NULL ? 0 : -YK_ENOENT;
}

int yk_registry_segment(struct yk_registry *g, const char *name, struct yk_published *ret) {
    pthread_mutex_lock(&g->lock);
    struct yk_published *p = find_name(g, name);
    if (p != NULL)
        *ret = *p;
    pthread_mutex_unlock(&g->lock);
    return p != NULL ? 0 : -YK_ENOENT;
}

int yk_registry_guard(struct yk_registry *g, uint64_t region, uint64_t offset, uint64_t len,
                      yk_xfer_guard_ops *ret_guard, uint64_t *ret_segment_offset) {
    int rc = -YK_ENOENT;
    pthread_mutex_lock(&g->lock);
    for (uint32_t i = 0; i < g->published_count && rc < 0; i++) {
        const struct yk_published *p = &g->published[i];
        if (p->region != region || !p->guarded || offset < p->offset || len > p->len ||
            offset - p->offset > p->len - len)
            continue;
        *ret_guard = p->guard;
        *ret_segment_offset = offset - p->offset;
        rc = 0;
    }
    pthread_mutex_unlock(&g->lock);
    return rc;
}

void yk_registry_counts(struct yk_registry *g, uint32_t *ret_regions, uint32_t *ret_segments) {
    pthread_mutex_lock(&g->lock);
    *ret_regions = g->regions;
    *ret_segments = g->published_count;
    pthread_mutex_unlock(&g->lock);
}
