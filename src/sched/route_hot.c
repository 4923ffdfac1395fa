/* SPDX-License-Identifier: Apache-2.0
 *
 * How often chains are asked for: counts that fade, in sets of eight, where a newcomer takes the place of the least.
 * So a flood of chains that come once pushes out others that come once, and what is asked for often stays.
 */
#include "sched/route_priv.h"

#include <math.h>

#define HALF_LIFE_MS 10000.0
#define LN2          0.6931471805599453

static float faded(const struct route_chain *chain, uint64_t now_ms) {
    double age = now_ms > chain->at_ms ? (double)(now_ms - chain->at_ms) : 0;
    return chain->hash == 0 ? -1 : (float)(chain->count * exp2(-age / HALF_LIFE_MS));
}

/* Its place, or that of the least. */
static struct route_chain *place(struct yk_router *router, uint64_t chain, uint64_t now_ms) {
    uint64_t mixed = chain * UINT64_C(0x9e3779b97f4a7c15);
    struct route_chain *set = &router->chains[(mixed >> 32) % router->sets * ROUTE_WAYS], *least = set;
    for (uint32_t i = 0; i < ROUTE_WAYS; i++) {
        if (set[i].hash == chain)
            return &set[i];
        if (faded(&set[i], now_ms) < faded(least, now_ms))
            least = &set[i];
    }
    least->hash = 0;
    return least;
}

static bool is_hot(const struct yk_router *router, float count) {
    return (double)count * LN2 / (HALF_LIFE_MS / 1e3) >= router->opts.hot_per_s;
}

uint32_t yk_router_hot_chains(const struct yk_router *router, uint64_t now_ms) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < router->sets * ROUTE_WAYS; i++)
        n += router->chains[i].hash != 0 && is_hot(router, faded(&router->chains[i], now_ms));
    return n;
}

bool route_hot(struct yk_router *router, uint64_t chain, uint64_t now_ms) {
    if (chain == 0)
        return false;
    struct route_chain *c = place(router, chain, now_ms);
    float count = fmaxf(faded(c, now_ms), 0) + 1;
    *c = (struct route_chain){.hash = chain, .at_ms = now_ms, .count = count};
    return is_hot(router, count);
}
