/* SPDX-License-Identifier: Apache-2.0
 *
 * Chains that were given out lately: an engine has them as soon as it has computed them, and its events say so only
 * then. Requests that share such a chain and come meanwhile had better queue behind it than have it computed again
 * elsewhere, so it counts as there; for ten seconds, as then the events have come, or it never will be there.
 *
 * A ring of a few hundred, with the first blocks of each. Thread: under the router's lock.
 */
#include "route/routes_priv.h"

#include <stdlib.h>
#include <string.h>

#define CHAINS   256u
#define BLOCKS   512u
#define RECENT_MS 10000u

struct routes_recent {
    uint64_t at_ms, decision; /* decision 0: none */
    uint32_t holder, n;
    uint64_t blocks[BLOCKS];
};

struct routes_recent *routes_recent_new(void) {
    return calloc(CHAINS, sizeof(struct routes_recent));
}

void routes_recent_add(struct yk_routes *r, uint32_t holder, uint64_t decision, const uint64_t *chain, uint32_t n) {
    struct routes_recent *e = &r->recent[r->next_recent++ % CHAINS];
    e->at_ms = routes_now_ms();
    e->decision = decision;
    e->holder = holder;
    e->n = n < BLOCKS ? n : BLOCKS;
    memcpy(e->blocks, chain, e->n * sizeof(e->blocks[0]));
}

void routes_recent_drop(struct yk_routes *r, uint64_t decision) {
    for (uint32_t i = 0; i < CHAINS; i++)
        if (r->recent[i].decision == decision)
            r->recent[i].decision = 0;
}

void routes_recent_forget(struct yk_routes *r, uint32_t holder) {
    for (uint32_t i = 0; i < CHAINS; i++)
        if (r->recent[i].holder == holder)
            r->recent[i].decision = 0;
}

void routes_recent_raise(struct yk_routes *r, const uint64_t *chain, uint32_t n) {
    uint64_t now_ms = routes_now_ms();
    for (uint32_t i = 0; i < CHAINS; i++) {
        const struct routes_recent *e = &r->recent[i];
        uint32_t same = 0;
        if (e->decision == 0 || now_ms - e->at_ms > RECENT_MS)
            continue;
        while (same < e->n && same < n && e->blocks[same] == chain[same])
            same++;
        if (same > r->holders[e->holder].lead[YK_WHERE_VRAM])
            r->holders[e->holder].lead[YK_WHERE_VRAM] = same;
    }
}
