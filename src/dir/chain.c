/* SPDX-License-Identifier: Apache-2.0
 *
 * Linear hashing over lists of records (chain_priv.h).
 *
 * Thread: its holder's.
 */
#include "dir/chain_priv.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

static uint32_t part_buckets(uint32_t part) {
    return part == 0 ? YK_CHAIN_FIRST : YK_CHAIN_FIRST << (part - 1u);
}

void yk_chain_fini(struct yk_chain *chain) {
    for (uint32_t i = 0; i < YK_CHAIN_PARTS; i++)
        free(chain->part[i]);
    memset(chain, 0, sizeof(*chain));
}

static int part_need(struct yk_chain *chain, uint32_t part) {
    if (part >= YK_CHAIN_PARTS)
        return -YK_ELIMIT;
    if (chain->part[part] == NULL)
        chain->part[part] = calloc(part_buckets(part), sizeof(uint32_t));
    return chain->part[part] != NULL ? 0 : -YK_ENOMEM;
}

/* Cuts the next bucket in two. Without memory it stays whole: lists get longer. */
static void split(struct yk_chain *chain, const struct yk_slab *slab, unsigned which) {
    uint32_t fresh = chain->buckets;
    if (part_need(chain, 29u - (uint32_t)__builtin_clz(fresh)) != 0)
        return;
    uint32_t *low = yk_chain_bucket(chain, fresh & chain->mask);
    uint32_t *high = yk_chain_bucket(chain, fresh);
    uint32_t at = *low, bit = chain->mask + 1u;
    *low = *high = 0;
    while (at != 0) {
        struct yk_chain_link *link = yk_chain_at(slab, at);
        uint32_t next = link->next[which];
        uint32_t *to = (uint32_t)link->hash & bit ? high : low;
        link->next[which] = *to;
        *to = at;
        at = next;
    }
    if (++chain->buckets == 2u * bit)
        chain->mask = 2u * bit - 1u;
}

int yk_chain_add(struct yk_chain *chain, const struct yk_slab *slab, unsigned which, uint32_t handle) {
    if (chain->buckets == 0) {
        int rc = part_need(chain, 0);
        if (rc != 0)
            return rc;
        chain->buckets = YK_CHAIN_FIRST;
        chain->mask = YK_CHAIN_FIRST - 1u;
    }
    if (chain->count >= chain->buckets)
        split(chain, slab, which);
    struct yk_chain_link *link = yk_chain_at(slab, handle);
    uint32_t *head = yk_chain_head(chain, link->hash);
    link->next[which] = *head;
    *head = handle;
    chain->count++;
    return 0;
}

void yk_chain_remove(struct yk_chain *chain, const struct yk_slab *slab, unsigned which, uint32_t handle) {
    uint32_t *link = yk_chain_head(chain, yk_chain_at(slab, handle)->hash);
    while (*link != handle)
        link = &yk_chain_at(slab, *link)->next[which];
    yk_chain_take(chain, slab, which, link);
}

uint64_t yk_chain_bytes(const struct yk_chain *chain) {
    uint64_t buckets = 0;
    for (uint32_t i = 0; i < YK_CHAIN_PARTS && chain->part[i] != NULL; i++)
        buckets += part_buckets(i);
    return buckets * sizeof(uint32_t);
}
