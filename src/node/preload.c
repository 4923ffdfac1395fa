/* SPDX-License-Identifier: Apache-2.0
 *
 * What a start with an empty DRAM tier brings up from SSD, in the background.
 *
 * As many entries as fit in what DRAM has beyond its reserve. First what a policy that learns would have
 * here, as far as what it had learned was found: what is worth most first, ancestors before their descendants. The rest,
 * and with other policies all, in order of use, the youngest first (ancestors are younger than their descendants: tails
 * are touched first). When all are up, they are put into their order of use.
 *
 * Threads: the owner's.
 */
#include "node/ssd_priv.h"

#include "sched/learned.h"

#include <stdlib.h>

#define FETCHES 32u /* under way at a time; a fraction of the device's depth */

void ssd_preload_end(struct ssd_side *l) {
    free(l->preload);
    free(l->preloaded);
    l->preload = l->preloaded = NULL;
    l->preload_count = l->preload_at = l->preloaded_count = 0;
}

struct plan {
    uint64_t most, room, bytes; /* blocks; bytes */
    uint64_t *taken;            /* entries, a bit each */
};

/* 0: there is no room for it. */
static int plan_take(struct ssd_side *l, struct plan *plan, uint32_t id) {
    struct yk_ssd_info info;
    uint64_t bit = UINT64_C(1) << (id % 64u);
    yk_ssd_info_get(l->ssd, id, &info);
    if (plan->taken[id / 64u] & bit)
        return 1;
    if (l->preload_count == plan->most || plan->bytes + info.len > plan->room)
        return 0;
    plan->taken[id / 64u] |= bit;
    plan->bytes += info.len;
    l->preload[l->preload_count++] = id;
    return 1;
}

static void plan_by_use(struct yk_store *s, struct plan *plan) {
    const struct yk_ssd *ssd = s->low->ssd;
    for (uint32_t id = yk_ssd_older(ssd, YK_SSD_NONE); id != YK_SSD_NONE; id = yk_ssd_older(ssd, id))
        if (!plan_take(s->low, plan, id))
            return;
}

/* What a namespace's policy would have here, in its order. */
struct wish {
    struct yk_learned_first *first;
    uint32_t n, at, ns;
};

/* The namespace whose next one is worth most; NULL: all is taken. */
static struct wish *dearest(struct wish *wishes, uint32_t n) {
    struct wish *best = NULL;
    for (uint32_t i = 0; i < n; i++)
        if (wishes[i].at < wishes[i].n &&
            (best == NULL || wishes[i].first[wishes[i].at].worth > best->first[best->at].worth))
            best = &wishes[i];
    return best;
}

/* What is not on SSD is left out. */
static void plan_by_worth(struct yk_store *s, struct plan *plan) {
    uint32_t n = yk_store_learns(s) ? s->policy_count : 0, id;
    struct wish *wishes = calloc(n + 1u, sizeof(*wishes)), *w;
    for (uint32_t i = 0; wishes != NULL && i < n; i++) {
        wishes[i].ns = s->policy_ns[i];
        (void)yk_learned_first(s->policies[i], &wishes[i].first, &wishes[i].n);
    }
    while (wishes != NULL && (w = dearest(wishes, n)) != NULL) {
        uint64_t hash = w->first[w->at++].key_hash;
        if (yk_ssd_by_bits(s->low->ssd, w->ns, hash, YK_POLICY_HASH_BITS, &id) == 0 && !plan_take(s->low, plan, id))
            break;
    }
    for (uint32_t i = 0; wishes != NULL && i < n; i++)
        free(wishes[i].first);
    free(wishes);
}

void ssd_preload_plan(struct yk_store *s) {
    struct ssd_side *l = s->low;
    struct yk_ssd_counters n;
    if (l == NULL || l->opts.no_preload || s->seg.found != YK_SEGMENT_FRESH)
        return;
    yk_ssd_counters_get(l->ssd, &n);
    uint64_t most = s->capacity_blocks != 0 ? s->capacity_blocks : s->own.layout.max_blocks;
    most = n.blocks < most ? n.blocks : most;
    if (most == 0)
        return;
    l->preload = malloc(most * sizeof(uint32_t));
    l->preloaded = malloc(most * sizeof(uint32_t));
    struct plan plan = {.most = most, .room = s->dram_bytes - s->high_bytes, .taken = calloc(yk_ssd_top(l->ssd) / 64u + 1u, 8)};
    if (l->preload == NULL || l->preloaded == NULL || plan.taken == NULL)
        ssd_preload_end(l);
    else {
        plan_by_worth(s, &plan);
        plan_by_use(s, &plan);
    }
    free(plan.taken);
    STORE(&s->n.preload_goal, plan.bytes);
}

/* A policy that learns knows when each was used. For others, what was not used since it came up is older than what was;
 * among themselves as they were. */
static void preload_order(struct yk_store *s) {
    struct ssd_side *l = s->low;
    if (yk_store_learns(s)) {
        for (uint32_t i = 0; i < s->policy_count; i++)
            yk_learned_found(s->policies[i]);
        return;
    }
    for (int used = 0; used < 2; used++) {
        for (uint32_t i = l->preloaded_count; i-- > 0;) {
            uint32_t idx = l->preloaded[i];
            if (desc_live(desc_at(s, idx)) && ((*mark_of(s, idx) & MARK_USED) != 0) == used)
                yk_store_policy_access(s, idx);
        }
    }
}

void ssd_preload_step(struct yk_store *s) {
    struct ssd_side *l = s->low;
    if (l->preload == NULL)
        return;
    /* A block that was put or asked for meanwhile needs the room more. */
    int full = yk_store_short(s);
    while (l->preload_at < l->preload_count && !full && l->fetch_count < FETCHES) {
        if (ssd_fetch_preload(s, l->preload[l->preload_at++]) == -YK_EAGAIN)
            return;
    }
    if ((l->preload_at == l->preload_count || full) && l->fetch_count == 0) {
        preload_order(s);
        ssd_preload_end(l);
        STORE(&s->n.preload_goal, s->n.preloaded_bytes); /* who shows progress sees its end */
    }
}
