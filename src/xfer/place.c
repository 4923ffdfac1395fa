/* SPDX-License-Identifier: Apache-2.0
 *
 * See place.h.
 *
 * Where pages are is asked of move_pages(2), which moves nothing when it is given no nodes; get_mempolicy
 * would touch the page that it is asked for. Both are system calls without a library of their own:
 * libnuma would be one more dependency for two lines. A container may forbid them: not known then.
 *
 * Threads: any; one lock (docs/locks.md), held for a step through a short table, and once while the
 * topology is read.
 */
#include "xfer/place.h"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SAMPLES   16u   /* pages that are asked for */
#define NODES_MAX 1024u /* bits of a policy's mask: the kernel's own limit */

struct yk_places {
    pthread_mutex_t lock;
    struct yk_topo *topo; /* NULL: not read yet, or it cannot be */
    int looked;
    int only_node; /* the one that has memory, or -1; immutable */
    struct yk_place place[YK_PLACES_MAX];
    uint32_t count;
};

int yk_places_new(const char *override, struct yk_places **ret_places, struct yk_err *err) {
    struct yk_topo_opts o = {.override = override};
    struct yk_places *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for places");
    p->only_node = yk_topo_only_node();
    p->looked = override != NULL;
    int rc = override != NULL ? yk_topo_find(&o, &p->topo, err) : 0;
    if (rc < 0) {
        free(p);
        return rc;
    }
    pthread_mutex_init(&p->lock, NULL);
    *ret_places = p;
    return 0;
}

void yk_places_free(struct yk_places *p) {
    if (p == NULL)
        return;
    yk_topo_free(p->topo);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* Under the lock, or by who found it before: it never changes again. NULL: there is none. */
static const struct yk_topo *topo_of(struct yk_places *p) {
    struct yk_err err;
    pthread_mutex_lock(&p->lock);
    if (!p->looked)
        (void)yk_topo_find(NULL, &p->topo, &err);
    p->looked = 1;
    const struct yk_topo *t = p->topo;
    pthread_mutex_unlock(&p->lock);
    return t;
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* The node that most of a few pages are at; -1: none has been touched, or nobody says. */
static int node_of_pages(uintptr_t from, uint64_t len) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = from / page * page;
    uint64_t pages = (from + len - 1) / page - from / page + 1, n = pages < SAMPLES ? pages : SAMPLES;
    void *at[SAMPLES];
    int node[SAMPLES], best = -1;
    unsigned most = 0;
    for (uint64_t i = 0; i < n; i++)
        at[i] = (void *)(first + pages * i / n * page); /* NOLINT: an address to ask for */
    if (syscall(SYS_move_pages, 0, (unsigned long)n, at, NULL, node, 0) < 0)
        return -1;
    for (uint64_t i = 0; i < n; i++) {
        unsigned same = 0;
        for (uint64_t k = i; k < n; k++)
            same += node[k] == node[i];
        if (node[i] >= 0 && same > most) {
            most = same;
            best = node[i];
        }
    }
    return best;
}

/* The one node that pages will come from when they are touched; -1: several, or any. */
static int node_of_policy(const void *addr) {
    unsigned long mask[NODES_MAX / (8 * sizeof(unsigned long))] = {0};
    int mode = 0, node = -1;
    if (syscall(SYS_get_mempolicy, &mode, mask, (unsigned long)NODES_MAX, addr, MPOL_F_ADDR) < 0)
        return -1;
    mode &= ~MPOL_MODE_FLAGS;
    if (mode != MPOL_BIND && mode != MPOL_PREFERRED)
        return -1;
    for (unsigned i = 0; i < NODES_MAX; i++) {
        if ((mask[i / (8 * sizeof(mask[0]))] >> i % (8 * sizeof(mask[0])) & 1) == 0)
            continue;
        if (node >= 0)
            return -1;
        node = (int)i;
    }
    return node;
}

int yk_place_node(const void *addr, uint64_t len) {
    if (addr == NULL || len == 0 || (uintptr_t)addr + len < (uintptr_t)addr)
        return -1;
    int node = node_of_pages((uintptr_t)addr, len);
    return node >= 0 ? node : node_of_policy(addr);
}

void yk_places_find(struct yk_places *p, const void *addr, uint64_t len,
                    char ret_location[YK_TOPO_LOCATION]) {
    ret_location[0] = 0;
    if (p->only_node >= 0) {
        snprintf(ret_location, YK_TOPO_LOCATION, "cpu:%d", p->only_node);
        return;
    }
    int node = yk_place_node(addr, len);
    const struct yk_topo *t = node >= 0 ? topo_of(p) : NULL;
    const char *name = t != NULL ? yk_topo_node_location(t, node) : NULL;
    if (name != NULL)
        snprintf(ret_location, YK_TOPO_LOCATION, "%s", name);
}

/* ---- what is registered where --------------------------------------------------------------------- */

void yk_places_add(struct yk_places *p, const char *location, uint64_t len) {
    uint32_t i = 0;
    if (location[0] == 0)
        return;
    pthread_mutex_lock(&p->lock);
    while (i < p->count && strcmp(p->place[i].location, location) != 0)
        i++;
    if (i == p->count && i < YK_PLACES_MAX) {
        p->place[i] = (struct yk_place){.bytes = 0};
        snprintf(p->place[i].location, YK_TOPO_LOCATION, "%.15s", location);
        p->count++;
    }
    if (i < p->count)
        p->place[i].bytes += len;
    pthread_mutex_unlock(&p->lock);
}

void yk_places_sub(struct yk_places *p, const char *location, uint64_t len) {
    pthread_mutex_lock(&p->lock);
    for (uint32_t i = 0; i < p->count; i++)
        if (strcmp(p->place[i].location, location) == 0) {
            p->place[i].bytes -= len < p->place[i].bytes ? len : p->place[i].bytes;
            if (p->place[i].bytes == 0)
                p->place[i] = p->place[--p->count];
            break;
        }
    pthread_mutex_unlock(&p->lock);
}

static int by_bytes(const void *pa, const void *pb) {
    const struct yk_place *a = pa, *b = pb;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    return strcmp(a->location, b->location);
}

uint32_t yk_places_list(struct yk_places *p, struct yk_place ret[YK_PLACES_MAX]) {
    pthread_mutex_lock(&p->lock);
    uint32_t n = p->count;
    memcpy(ret, p->place, n * sizeof(*ret));
    pthread_mutex_unlock(&p->lock);
    qsort(ret, n, sizeof(*ret), by_bytes);
    return n;
}

/* ---- rails ---------------------------------------------------------------------------------------- */

/* By its interface, which names it for sure, else by its address or name. NULL: the kernel's choice. */
static const struct yk_topo_dev *device_of(const struct yk_topo *t, const struct yk_rail_desc *r) {
    for (uint32_t i = 0; r->local_if != 0 && i < t->dev_count; i++)
        if (t->devs[i].kind == YK_TOPO_NIC && t->devs[i].ifindex == r->local_if)
            return &t->devs[i];
    return yk_topo_dev(t, r->local);
}

static uint32_t distance_of(const struct yk_topo *t, const char *location, const struct yk_rail_desc *r) {
    const struct yk_topo_dev *d = device_of(t, r);
    if (d == NULL || d->ignored)
        return d == NULL ? 0 : UINT32_MAX;
    return yk_topo_distance(t, location, d->name);
}

uint32_t yk_place_order(const struct yk_topo *topo, const char *location, struct yk_rail_desc *rails,
                        uint32_t n) {
    uint32_t near = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t d = distance_of(topo, location, &rails[i]);
        rails[i].distance = d == UINT32_MAX ? d : rails[i].distance + d;
        struct yk_rail_desc one = rails[i];
        uint32_t at = i;
        for (; at > 0 && rails[at - 1].distance > one.distance; at--)
            rails[at] = rails[at - 1];
        rails[at] = one;
    }
    while (near < n && rails[near].distance != UINT32_MAX)
        near++;
    return near > 0 ? near : n;
}

/* Rails inside the host have no device of their own; what has none is near. */
static int any_device(const struct yk_rail_desc *rails, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if ((rails[i].caps & YK_RAIL_NETWORK) && rails[i].local[0] != 0)
            return 1;
    return 0;
}

uint32_t yk_places_rails(struct yk_places *p, struct yk_rail_desc *rails, uint32_t n) {
    struct yk_place places[YK_PLACES_MAX];
    const struct yk_topo *t = any_device(rails, n) ? topo_of(p) : NULL;
    if (t == NULL)
        return n;
    uint32_t known = yk_places_list(p, places);
    return yk_place_order(t, known > 0 ? places[0].location : "", rails, n);
}
