/* SPDX-License-Identifier: Apache-2.0
 *
 * Registered memory and published segments of this process.
 *
 * A region's number is (generation, slot): a slot is used again under another generation, numbers never
 * repeat, so that a peer's stale number finds nothing. Whoever works on a region's memory holds a
 * reference to it; unregister marks it `dying` (no new references) and waits for those that are out.
 * Looking up by number is one array access; by address, a binary search over an array that is sorted
 * by it (10,000 regions: 14 steps).
 *
 * Threads: any; one lock (docs/locks.md), held for a search.
 */
#ifndef YK_XFER_REGION_H
#define YK_XFER_REGION_H

#include "base/status.h"

#include <stdint.h>

#include <yolk/transfer.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_REGION_KEYS 8u     /* transports that keep something with a region */
#define YK_REGIONS_MAX 65536u /* of an engine */

struct yk_registry;

/* Immutable while referenced, but for what says otherwise. */
struct yk_region {
    uint64_t id;
    char *base;          /* NULL: a file */
    uint64_t len;
    uint32_t access;     /* enum yk_xfer_access */
    int fd;              /* -1, or what peers of the host map (or the file itself, or a device's memory) */
    uint64_t fd_offset;
    int file;            /* fd is a file segment, there is no memory */
    char location[16];   /* "cpu:0" */
    void *keys[YK_REGION_KEYS]; /* by index of the transport in yk_xports */
    uint32_t refs;       /* atomic */
    uint32_t dying;      /* atomic; pairs with refs: see region.c */
    int taken;           /* under the lock: dying, and somebody sees to its end */
};

/* A published segment: a range of a region under a name. */
struct yk_published {
    char name[YK_XFER_NAME_MAX + 1];
    uint64_t region, offset, len;
    uint32_t access, guarded;
    yk_xfer_guard_ops guard;
};

/* Whether a peer may do that: need is YK_XFER_REMOTE_READ or _WRITE. */
static inline int yk_region_allows(const struct yk_region *r, uint32_t need, int guarded) {
    return (r->access & need) != 0 && (guarded || !(r->access & YK_XFER_REMOTE_GUARDED));
}

#define YK_REGION_KINDS ((uint32_t)YK_XFER_CUDA | (uint32_t)YK_XFER_DMABUF) /* of access: memory of devices */

/* No processor may touch it: base is a name for it, and not where it is. */
static inline int yk_region_is_device(const struct yk_region *r) {
    return (r->access & YK_REGION_KINDS) != 0;
}

struct yk_registry *yk_registry_new(void); /* NULL: no memory */
void yk_registry_free(struct yk_registry *g);

/* Adds all n or none; errors as yk_xfer_register's. */
int yk_registry_add(struct yk_registry *g, const yk_xfer_memory *memory, size_t n, struct yk_err *err);
/* A file's region, without memory; takes fd. ret_id is its number. -YK_ENOMEM, -YK_ELIMIT (fd is the
 * caller's still). */
int yk_registry_add_file(struct yk_registry *g, int fd, uint64_t len, uint32_t access,
                         uint64_t *ret_id);
/* Marks it dying and withdraws its segments: no reference is given any more. ret_region stays until
 * yk_registry_remove, and is the caller's alone until then or yk_registry_leave: one that was left is given
 * again. -YK_ENOENT; -YK_EBUSY: another sees to its end. */
int yk_registry_doom(struct yk_registry *g, void *addr, struct yk_region **ret_region);
int yk_registry_doom_id(struct yk_registry *g, uint64_t id, struct yk_region **ret_region);
/* Dooms some region, one that is dying already too. -YK_ENOENT: there is none left. */
int yk_registry_doom_any(struct yk_registry *g, struct yk_region **ret_region);
/* Its end is not seen to any more, but by who dooms it again. */
void yk_registry_leave(struct yk_registry *g, struct yk_region *region);
/* 0: one begins there that doom would give; or what doom would say. */
int yk_registry_begins(struct yk_registry *g, const void *addr);
/* Of a dying region: nobody holds it any more, and so nobody will. */
int yk_registry_is_idle(const struct yk_region *region);
/* 1: nobody holds it any more, and it is gone; 0: references are out. */
int yk_registry_remove(struct yk_registry *g, struct yk_region *region);

/* A reference to the region that holds [addr, addr + len) whole, or NULL. */
struct yk_region *yk_registry_find(struct yk_registry *g, const void *addr, uint64_t len);
/* The same for memory that need not be registered. -YK_ENOENT: no byte of it is; -YK_EBUSY: some are, or
 * it is being unregistered. */
int yk_registry_local(struct yk_registry *g, const void *addr, uint64_t len,
                      struct yk_region **ret_region);
/* By number. */
struct yk_region *yk_registry_get(struct yk_registry *g, uint64_t id);
void yk_registry_put(struct yk_registry *g, struct yk_region *region);

int yk_registry_publish(struct yk_registry *g, const char *name, void *addr, uint64_t len,
                        const yk_xfer_guard_ops *guard, struct yk_err *err);
int yk_registry_publish_file(struct yk_registry *g, const char *name, uint64_t region, uint64_t len,
                             uint32_t access, struct yk_err *err);
int yk_registry_withdraw(struct yk_registry *g, const char *name); /* -YK_ENOENT */
/* A copy of what is published under name. -YK_ENOENT. */
int yk_registry_segment(struct yk_registry *g, const char *name, struct yk_published *ret);
/* The guard of a region's published range that holds [offset, offset + len); -YK_ENOENT none. */
int yk_registry_guard(struct yk_registry *g, uint64_t region, uint64_t offset, uint64_t len,
                      yk_xfer_guard_ops *ret_guard, uint64_t *ret_segment_offset);

/* How many are registered and published. */
void yk_registry_counts(struct yk_registry *g, uint32_t *ret_regions, uint32_t *ret_segments);

#ifdef __cplusplus
}
#endif

#endif
