/* SPDX-License-Identifier: Apache-2.0
 *
 * Distances, and what is near to each location.
 *
 * Two PCI devices below one port of a root complex meet in a switch (or are one device with several
 * functions); at one root complex they meet there; else only their NUMA nodes tell, and the firmware's
 * table of distances between those.
 *
 * Threads: any.
 */
#include "topo/topo_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLIT_MAX 255u

static int node_index(const struct yk_topo *t, int id) {
    for (uint32_t i = 0; i < t->node_count; i++)
        if (t->nodes[i].id == id)
            return (int)i;
    return -1;
}

/* The firmware's distance; SLIT_MAX: not known. */
static uint32_t slit(const struct yk_topo *t, int a, int b) {
    int i = node_index(t, a), k = node_index(t, b);
    if (i < 0 || k < 0)
        return SLIT_MAX;
    uint32_t d = t->slit[(uint32_t)i * t->node_count + (uint32_t)k];
    return d > 0 ? d : i == k ? 10u : SLIT_MAX;
}

/* How many steps of their paths two devices share. */
static unsigned shared_steps(const char *a, const char *b) {
    for (unsigned steps = 0;; steps++) {
        size_t n = strcspn(a, "/");
        if (n == 0 || n != strcspn(b, "/") || memcmp(a, b, n) != 0)
            return steps;
        a += n + (a[n] != 0);
        b += n + (b[n] != 0);
    }
}

enum yk_topo_near yk_topo_near(const struct yk_topo *t, const struct yk_topo_dev *a,
                               const struct yk_topo_dev *b) {
    (void)t;
    if (a == b)
        return YK_TOPO_SELF;
    unsigned steps = a->path[0] != 0 && b->path[0] != 0 ? shared_steps(a->path, b->path) : 0;
    if (steps > 1)
        return YK_TOPO_SWITCH;
    if (steps == 1)
        return YK_TOPO_ROOT;
    return a->node >= 0 && a->node == b->node ? YK_TOPO_SOCKET : YK_TOPO_FAR;
}

const char *yk_topo_near_name(enum yk_topo_near near) {
    static const char *const names[] = {"self", "switch", "root", "socket", "far"};
    return near <= YK_TOPO_FAR ? names[near] : "?";
}

/* Comparable distances: classes first, within FAR the firmware's. */
static uint32_t measure(const struct yk_topo *t, const struct yk_topo_loc *l,
                        const struct yk_topo_dev *nic) {
    enum yk_topo_near near = l->dev >= 0            ? yk_topo_near(t, &t->devs[l->dev], nic)
                             : nic->node < 0        ? YK_TOPO_FAR
                             : nic->node == l->node ? YK_TOPO_SOCKET
                                                    : YK_TOPO_FAR;
    return (uint32_t)near * 1000u + (near == YK_TOPO_FAR ? slit(t, l->node, nic->node) : 0u);
}

static int by_distance(const void *pa, const void *pb) {
    const struct yk_topo_way *a = pa, *b = pb;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return a->dev < b->dev ? -1 : a->dev > b->dev;
}

static int find_ways(const struct yk_topo *t, struct yk_topo_loc *l) {
    l->ways = calloc(t->dev_count + 1, sizeof(*l->ways));
    if (l->ways == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < t->dev_count; i++) {
        const struct yk_topo_dev *d = &t->devs[i];
        if (d->kind != YK_TOPO_NIC || !d->up || d->ignored)
            continue;
        l->ways[l->way_count++] = (struct yk_topo_way){.dev = i, .distance = measure(t, l, d)};
    }
    qsort(l->ways, l->way_count, sizeof(*l->ways), by_distance);
    while (l->near_count < l->way_count && l->ways[l->near_count].distance == l->ways[0].distance)
        l->near_count++;
    return 0;
}

static int add_loc(struct yk_topo *t, const char *name, int node, int dev) {
    struct yk_topo_loc *l = &t->locs[t->loc_count];
    *l = (struct yk_topo_loc){.node = node, .dev = dev};
    snprintf(l->name, sizeof(l->name), "%.15s", name);
    int rc = find_ways(t, l);
    t->loc_count += rc == 0;
    return rc;
}

int yk_topo_find_locs(struct yk_topo *t) {
    int rc = 0;
    t->locs = calloc(t->node_count + t->dev_count + 1, sizeof(*t->locs));
    if (t->locs == NULL)
        return -YK_ENOMEM;
    for (int cxl = 0; cxl <= 1; cxl++)
        for (uint32_t i = 0; i < t->node_count && rc == 0; i++)
            if (t->nodes[i].location[0] != 0 && t->nodes[i].is_cxl == cxl)
                rc = add_loc(t, t->nodes[i].location, t->nodes[i].id, -1);
    for (uint32_t i = 0; i < t->dev_count && rc == 0; i++)
        if (t->devs[i].kind == YK_TOPO_GPU && strncmp(t->devs[i].name, "vga:", 4) != 0 &&
            !t->devs[i].ignored)
            rc = add_loc(t, t->devs[i].name, t->devs[i].node, (int)i);
    return rc;
}

/* Of a device that is not in the list because it is down, too: it may come up. */
static uint32_t rank_of(const struct yk_topo *t, const struct yk_topo_loc *l,
                        const struct yk_topo_dev *d) {
    uint32_t mine = measure(t, l, d), rank = 0;
    for (uint32_t i = 0; i < l->way_count && l->ways[i].distance < mine; i++)
        rank += i == 0 || l->ways[i].distance != l->ways[i - 1].distance;
    return rank;
}

uint32_t yk_topo_distance(const struct yk_topo *t, const char *location, const char *device) {
    const struct yk_topo_loc *l = yk_topo_loc(t, location);
    const struct yk_topo_dev *d = yk_topo_dev(t, device);
    if (l == NULL || d == NULL || d->kind != YK_TOPO_NIC)
        return 0;
    if (d->ignored)
        return UINT32_MAX;
    if (!l->overridden)
        return rank_of(t, l, d);
    for (uint32_t i = 0; i < l->way_count; i++)
        if (&t->devs[l->ways[i].dev] == d)
            return i < l->near_count ? 0 : 1;
    return UINT32_MAX;
}
