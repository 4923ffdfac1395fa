/* SPDX-License-Identifier: Apache-2.0
 *
 * The ghost list's ring and its index: linear probing at 3/4 load, deletion by shifting back, so
 * that there are no tombstones to clean up and a lookup stays short for ever.
 */
#include "sched/ghost_priv.h"

#include "base/status.h"

#include <stdlib.h>

static uint32_t fingerprint(uint64_t key_hash) {
    uint32_t fp = (uint32_t)((key_hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
    return fp != 0 ? fp : 1;
}

static uint32_t home(const struct yk_ghost *g, uint32_t fp) {
    return (uint32_t)(((uint64_t)fp * g->index_size) >> 32);
}

static uint32_t after(const struct yk_ghost *g, uint32_t at) {
    return at + 1 < g->index_size ? at + 1 : 0;
}

/* Where fp is in the index, or the empty place where it would go. */
static uint32_t find(const struct yk_ghost *g, uint32_t fp) {
    uint32_t at = home(g, fp);
    while (g->index[at] != 0 && g->ring[g->index[at] - 1] != fp)
        at = after(g, at);
    return at;
}

static void index_erase(struct yk_ghost *g, uint32_t at) {
    uint32_t gap = at;
    g->index[gap] = 0;
    for (at = after(g, gap); g->index[at] != 0; at = after(g, at)) {
        uint32_t want = home(g, g->ring[g->index[at] - 1]);
        /* The entry may fill the gap unless its home lies cyclically after the gap. */
        bool stays = gap <= at ? (want > gap && want <= at) : (want > gap || want <= at);
        if (stays)
            continue;
        g->index[gap] = g->index[at];
        g->index[at] = 0;
        gap = at;
    }
}

static void forget(struct yk_ghost *g, uint32_t at) {
    uint32_t pos = g->index[at] - 1;
    index_erase(g, at);
    g->ring[pos] = 0;
    g->count--;
}

static void drop_oldest(struct yk_ghost *g) {
    uint32_t pos = g->next >= g->span ? g->next - g->span : g->next + g->slots - g->span;
    if (g->ring[pos] != 0)
        forget(g, find(g, g->ring[pos]));
    g->span--;
}

int yk_ghost_init(struct yk_ghost *g, uint32_t count_max) {
    *g = (struct yk_ghost){.count_max = count_max > 0 ? count_max : 1};
    g->slots = g->count_max + g->count_max / 4 + 1;
    g->index_size = g->count_max + g->count_max / 3 + 2;
    g->ring = calloc(g->slots, sizeof(*g->ring));
    g->index = calloc(g->index_size, sizeof(*g->index));
    if (g->ring != NULL && g->index != NULL)
        return 0;
    yk_ghost_fini(g);
    return -YK_ENOMEM;
}

void yk_ghost_fini(struct yk_ghost *g) {
    free(g->ring);
    free(g->index);
    *g = (struct yk_ghost){0};
}

void yk_ghost_add(struct yk_ghost *g, uint64_t key_hash, uint32_t limit) {
    yk_ghost_take(g, key_hash); /* at most one entry has a fingerprint */
    limit = limit < g->count_max ? limit : g->count_max;
    while (g->count > 0 && g->count >= limit)
        drop_oldest(g);
    if (g->span == g->slots)
        drop_oldest(g);
    uint32_t fp = fingerprint(key_hash);
    g->ring[g->next] = fp;
    g->index[find(g, fp)] = g->next + 1;
    g->next = g->next + 1 < g->slots ? g->next + 1 : 0;
    g->span++;
    g->count++;
}

bool yk_ghost_take(struct yk_ghost *g, uint64_t key_hash) {
    uint32_t at = find(g, fingerprint(key_hash));
    if (g->index[at] == 0)
        return false;
    forget(g, at);
    return true;
}

bool yk_ghost_has(const struct yk_ghost *g, uint64_t key_hash) {
    return g->index[find(g, fingerprint(key_hash))] != 0;
}
