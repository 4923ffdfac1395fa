/* SPDX-License-Identifier: Apache-2.0
 *
 * For each zone who has most of one request's chain in memory. Every instance of a zone looks there for a near peer;
 * a look at all holders for each of them would be a million for a thousand.
 *
 * A table by the hash of the zone's name, with places that another call used counting as free, so nothing is emptied
 * between calls. Thread: under the router's lock.
 */
#include "route/routes_priv.h"

#include <stdlib.h>

int routes_zones_new(struct yk_routes *r) {
    uint32_t n = 4;
    while (n < 2 * r->holders_max)
        n *= 2;
    r->zones = calloc(n, sizeof(*r->zones));
    r->zones_mask = n - 1;
    return r->zones != NULL ? 0 : -YK_ENOMEM;
}

void routes_most_keep(struct routes_most *m, uint32_t at, uint32_t blocks) {
    uint32_t i = ROUTES_MOST;
    while (i > 0 && blocks > m->blocks[i - 1])
        i--;
    if (i == ROUTES_MOST)
        return;
    for (uint32_t to = ROUTES_MOST - 1; to > i; to--) {
        m->at[to] = m->at[to - 1];
        m->blocks[to] = m->blocks[to - 1];
    }
    m->at[i] = at;
    m->blocks[i] = blocks;
}

uint64_t routes_zone_of(const struct yk_routes *r, uint32_t at) {
    const struct routes_holder *h = &r->holders[at];
    uint64_t node = h->node_at != ROUTES_NONE ? r->holders[h->node_at].zone_hash : 0;
    return node != 0 ? node : h->zone_hash;
}

/* Its place, or the free one where it would be: there are twice as many as holders. */
static struct routes_zone *place_of(const struct yk_routes *r, uint64_t hash) {
    uint32_t i = (uint32_t)(hash >> 20) & r->zones_mask;
    while (r->zones[i].asked == r->asks && r->zones[i].hash != hash)
        i = (i + 1) & r->zones_mask;
    return &r->zones[i];
}

void routes_zones_note(struct yk_routes *r, uint32_t at) {
    const struct routes_holder *h = &r->holders[at];
    uint64_t hash = routes_zone_of(r, at);
    if (hash == 0 || h->lead[YK_WHERE_DRAM] == 0)
        return;
    struct routes_zone *z = place_of(r, hash);
    if (z->asked != r->asks)
        *z = (struct routes_zone){.hash = hash, .asked = r->asks};
    routes_most_keep(&z->memory, at, h->lead[YK_WHERE_DRAM]);
}

const struct routes_most *routes_zones_find(const struct yk_routes *r, uint64_t hash) {
    const struct routes_zone *z = hash != 0 ? place_of(r, hash) : NULL;
    return z != NULL && z->asked == r->asks ? &z->memory : NULL;
}
