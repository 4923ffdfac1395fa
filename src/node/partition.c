/* SPDX-License-Identifier: Apache-2.0
 *
 * Which namespace gives way when DRAM is full: where the policy hears of requests, the one that is most above its share
 * (sched/shares.h); elsewhere, and as long as nothing is known, the one whose candidate is oldest, which over LRU
 * instances is one exact LRU.
 *
 * Shares bound nobody while there is room: they only say who gives. A namespace whose clients announce no requests is
 * heard by its puts and uses, block by block, until one is announced; then for as long as one comes in each
 * period. With slow memory there are no shares, as what a namespace has is counted over both kinds.
 *
 * Threads: the owner's.
 */
#include "node/ssd_priv.h"

#include "sched/shares.h"

/* Namespaces of which all candidates may be pinned before the oldest of all are looked at. */
#define GIVERS_TRIED 4u

static uint64_t mean_block(uint64_t bytes, uint64_t blocks) {
    return blocks == 0 ? 0 : bytes / blocks;
}

/* Bytes of DRAM that namespaces have among them. */
static uint64_t divided_bytes(const struct yk_store *s) {
    uint64_t bytes = s->dram_bytes - s->low_bytes, block = mean_block(s->n.block_bytes, s->n.blocks);
    if (s->capacity_blocks != 0 && block != 0 && s->capacity_blocks < bytes / block)
        bytes = s->capacity_blocks * block;
    return bytes;
}

int yk_store_partition_open(struct yk_store *s) {
    struct yk_shares_opts opts = {.tenants = YK_SHM_NAMESPACES, .capacity_bytes = s->dram_bytes, .seed = s->seed};
    if (!yk_store_wants_requests(s) || s->seg.slow_bytes != 0)
        return 0;
    return yk_shares_new(&opts, &s->partition);
}

void yk_store_partition_close(struct yk_store *s) {
    yk_shares_free(s->partition);
}

int yk_store_partition_join(struct yk_store *s, uint32_t ns) {
    return s->partition == NULL ? 0 : yk_shares_join(s->partition, ns);
}

/* What is known of a namespace anew. */
static void set_terms(struct yk_store *s, uint32_t ns) {
    const struct share *sh = &s->shares[ns];
    struct yk_shares_terms terms = {
        .most_bytes = s->own.ns[ns].quota_bytes,
        .block_bytes = mean_block(sh->blocks == 0 ? s->n.block_bytes : sh->bytes,
                                  sh->blocks == 0 ? s->n.blocks : sh->blocks),
    };
    (void)yk_shares_set_terms(s->partition, ns, &terms);
}

/* A namespace that is there no more takes part again when it is made again, under whatever name. */
static void refresh(struct yk_store *s, uint32_t ns) {
    if (s->own.ns[ns].state != 1)
        yk_shares_leave(s->partition, ns);
    else if (yk_shares_join(s->partition, ns) == 0)
        set_terms(s, ns);
    s->shares[ns].announces = 0;
}

void yk_store_partition_step(struct yk_store *s) {
    if (s->partition == NULL || !yk_shares_is_due(s->partition))
        return;
    yk_shares_capacity(s->partition, divided_bytes(s));
    for (uint32_t i = 0; i < s->policy_count; i++)
        refresh(s, s->policy_ns[i]);
    yk_shares_update(s->partition);
}

void yk_store_partition_request(struct yk_store *s, uint32_t ns, const struct yk_policy_request *request) {
    if (s->partition == NULL || request->n == 0)
        return;
    s->shares[ns].announces = 1;
    yk_shares_request(s->partition, ns, request->key_hashes, request->n);
    yk_store_partition_step(s);
}

void yk_store_partition_use(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    if (s->partition != NULL && d->ns < YK_SHM_NAMESPACES && s->shares[d->ns].blocks == 1)
        set_terms(s, d->ns); /* its first block: now it is known how large they are */
    if (s->partition != NULL && !s->recovering && d->ns < YK_SHM_NAMESPACES && !s->shares[d->ns].announces)
        yk_shares_request(s->partition, d->ns, &d->hash, 1);
}

/* By how much a namespace is above its share. */
static int64_t above(const struct yk_store *s, uint32_t ns) {
    return (int64_t)s->shares[ns].bytes - (int64_t)yk_shares_bytes(s->partition, ns);
}

/* The one with blocks that is most above, of those that come after (`last` above, number `last_ns`) in that order. */
static uint32_t next_giver(const struct yk_store *s, int64_t last, uint32_t last_ns) {
    uint32_t best = YK_SHM_NONE;
    for (uint32_t i = 0; i < s->policy_count; i++) {
        uint32_t ns = s->policy_ns[i];
        int64_t by = above(s, ns);
        if (yk_policy_count(s->policies[i]) == 0)
            continue;
        if (by > last || (by == last && (last_ns == YK_SHM_NONE || ns <= last_ns)))
            continue;
        if (best == YK_SHM_NONE || by > above(s, best) || (by == above(s, best) && ns < best))
            best = ns;
    }
    return best;
}

int yk_store_partition_victim(struct yk_store *s, yk_policy_can_fn can, void *arg, uint32_t *ret_idx) {
    size_t which;
    int64_t last = INT64_MAX;
    uint32_t ns = YK_SHM_NONE;
    int shared = s->partition != NULL && s->policy_count > 1 && yk_shares_are_known(s->partition);
    for (uint32_t i = 0; shared && i < GIVERS_TRIED; i++) {
        ns = next_giver(s, last, ns);
        if (ns == YK_SHM_NONE)
            break;
        if (yk_policy_victim(s->shares[ns].policy, can, arg, ret_idx) == 0)
            return 0;
        last = above(s, ns);
    }
    return yk_policy_victim_oldest(s->policies, s->policy_count, can, arg, &which, ret_idx);
}
