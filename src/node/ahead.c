/* SPDX-License-Identifier: Apache-2.0
 *
 * Predictive prefetch: chains come up from SSD before they are asked for.
 *
 * Which ones is the policy's to say (yk_learned_prefetch); this brings their blocks up, ancestors first, as the last
 * in every queue:
 *
 *   named by the policy --> waits here --its turn--> read in the prefetch class --> in DRAM, not used yet
 *                               |                                |                    |          |
 *                               +--- used, let go of, gone: cancelled ---+          used       wasted
 *
 * - It is asked each STEP_MS, and only when all that it named before is up: what a slow SSD does not manage is not
 *   asked for.
 * - Reads are begun while nobody waits for another block, `window` of them at a time. That grows by one with each block
 *   that comes up while nobody wants another, and falls by half with one that does not: what it takes is bandwidth
 *   that is spare.
 * - How much of what came up was used decides in the policy, which stops naming any where that does not pay.
 *
 * A block is named by bits of its hash. The index of the SSD's table has the same hashes, so there is no other table.
 * Nothing is held between the choice and the read: what was removed, has expired, or is of an older epoch by then is not
 * found, and a device that fails has dropped its entries.
 *
 * Threads: the owner's.
 */
#include "node/ssd_priv.h"

#include "base/clock.h"
#include "sched/learned.h"

#include <stdlib.h>

#define STEP_MS      1000u
#define CHAINS       8u     /* of a namespace in one step */
#define WAITING_MAX  16384u /* blocks; a longer chain is left alone */
#define WINDOW_FIRST 8u
#define WINDOW_MAX   32u /* as many as preloading: a fraction of the device's depth */
/* For a place in DRAM. A prediction that old is another one. */
#define WAIT_NS (30ull * 1000000000ull)

struct due {
    uint64_t hash, epoch;
    uint64_t until_ns;
    uint32_t ns;
};

struct ahead {
    struct due waiting[WAITING_MAX]; /* a ring */
    uint32_t first, count;
    uint32_t window, reading;
    uint64_t step;                /* the last one: of STEP_MS since the clock's start */
    uint64_t named[WAITING_MAX];  /* what the policy says */
    uint64_t unused[];            /* by descriptor, a bit: it came up so, and was not used yet */
};

int ssd_ahead_open(struct yk_store *s) {
    size_t words = s->own.layout.max_blocks / 64u + 1u;
    if (!s->low->opts.ahead || !yk_store_learns(s))
        return 0;
    s->low->ahead = calloc(1, sizeof(struct ahead) + words * sizeof(uint64_t));
    if (s->low->ahead == NULL)
        return -YK_ENOMEM;
    s->low->ahead->window = WINDOW_FIRST;
    return 0;
}

void ssd_ahead_close(struct yk_store *s) {
    free(s->low->ahead);
    s->low->ahead = NULL;
}

int ssd_ahead_busy(const struct ssd_side *l) {
    return l->ahead != NULL && l->ahead->count > 0;
}

/* ---- what is due ---------------------------------------------------------------------------------- */

static void name(struct yk_store *s, uint32_t ns, uint32_t n) {
    struct ahead *a = s->low->ahead;
    uint64_t until_ns = yk_now_ns() + WAIT_NS;
    for (uint32_t i = 0; i < n; i++)
        a->waiting[(a->first + a->count++) % WAITING_MAX] = (struct due){a->named[i], s->own.ns[ns].epoch, until_ns, ns};
    COUNT_ADD(s, prefetch_ahead_asked, n);
    STORE(&s->n.prefetch_ahead_waiting, a->count);
}

static void ask(struct yk_store *s, uint32_t ns, uint64_t now_ms) {
    struct ahead *a = s->low->ahead;
    for (uint32_t i = 0; i < CHAINS; i++) {
        uint32_t n = yk_learned_prefetch(s->shares[ns].policy, now_ms, a->named, WAITING_MAX - a->count);
        if (n == 0)
            return;
        name(s, ns, n);
    }
}

/* 1: a step has begun, and all that was named before is up. */
static int is_time(struct ssd_side *l, uint64_t now_ms) {
    struct ahead *a = l->ahead;
    if (a == NULL || now_ms / STEP_MS == a->step || a->count > 0 || l->preload != NULL)
        return 0;
    a->step = now_ms / STEP_MS;
    return 1;
}

void ssd_ahead_tick(struct yk_store *s, uint64_t now_ms) {
    if (!is_time(s->low, now_ms))
        return;
    yk_store_drain(s); /* what was used meanwhile is not due */
    for (uint32_t i = 0; i < s->policy_count; i++)
        if (s->own.ns[s->policy_ns[i]].state == 1)
            ask(s, s->policy_ns[i], now_ms);
}

void yk_store_ahead_replayed(struct yk_store *s, uint32_t ns, uint64_t now_ms) {
    if (s->replays && s->low != NULL && is_time(s->low, now_ms))
        ask(s, ns, now_ms);
}

/* ---- up ---------------------------------------------------------------------------------------------- */

static struct yk_policy *policy_of(const struct yk_store *s, uint32_t ns) {
    return ns < YK_SHM_NAMESPACES ? s->shares[ns].policy : NULL;
}

int ssd_ahead_wanted(const struct yk_store *s, uint32_t ns, uint64_t hash) {
    const struct yk_policy *p = policy_of(s, ns);
    return p != NULL && (yk_learned_is_due(p, hash) || yk_policy_rises(p, hash, false));
}

static void cancel(struct yk_store *s, uint32_t ns, uint64_t hash) {
    struct yk_policy *p = policy_of(s, ns);
    if (p != NULL)
        yk_learned_not_coming(p, hash);
    COUNT(s, prefetch_ahead_cancelled);
}

/* A block that is there still, but chosen to leave, stays. */
static int stays(struct yk_store *s, uint32_t id) {
    uint32_t len, idx;
    struct yk_ssd_info info;
    const void *key = yk_ssd_key(s->low->ssd, id, &len);
    yk_ssd_info_get(s->low->ssd, id, &info);
    if (yk_store_find(s, info.ns, s->own.ns[info.ns].epoch, key, len, &idx) != 0)
        return 0;
    s->arrives = ARRIVES_AHEAD;
    (void)yk_store_demote_undo(s, idx);
    s->arrives = ARRIVES_USED;
    return 1;
}

/* 0: its read is begun; YK_MISS: it is not to come up; -YK_EAGAIN: not now. */
static int begin(struct yk_store *s, const struct due *d) {
    const struct yk_policy *p = policy_of(s, d->ns);
    uint32_t id;
    if (p == NULL || s->own.ns[d->ns].epoch != d->epoch || yk_now_ns() > d->until_ns || !yk_learned_is_due(p, d->hash) ||
        yk_ssd_by_bits(s->low->ssd, d->ns, d->hash, YK_POLICY_HASH_BITS, &id) != 0 || stays(s, id))
        return YK_MISS;
    return ssd_fetch_ahead(s, id);
}

void ssd_ahead_pump(struct yk_store *s) {
    struct ssd_side *l = s->low;
    struct ahead *a = l->ahead;
    while (a != NULL && a->count > 0 && a->reading < a->window && l->waiting[0].head == 0 && l->waiting[1].head == 0) {
        const struct due *d = &a->waiting[a->first];
        int rc = begin(s, d);
        if (rc == -YK_EAGAIN)
            break;
        if (rc != 0)
            cancel(s, d->ns, d->hash);
        a->first = (a->first + 1u) % WAITING_MAX;
        a->count--;
        a->reading += rc == 0;
        STORE(&s->n.prefetch_ahead_waiting, a->count);
    }
}

static uint64_t *word_of(struct ahead *a, uint32_t idx, uint64_t *ret_bit) {
    *ret_bit = UINT64_C(1) << (idx % 64u);
    return &a->unused[idx / 64u];
}

void ssd_ahead_ended(struct yk_store *s, const struct fetch *f, int status) {
    struct ssd_side *l = s->low;
    struct ahead *a = l->ahead;
    uint64_t bit;
    a->reading--;
    a->window = l->demand_count > 0 ? (a->window + 1u) / 2u : a->window < WINDOW_MAX ? a->window + 1u : WINDOW_MAX;
    if (status != 0) {
        cancel(s, f->ns, f->hash);
        return;
    }
    *word_of(a, f->place.idx, &bit) |= bit;
    COUNT(s, prefetch_ahead_moved);
}

/* ---- what became of it --------------------------------------------------------------------------------- */

/* 1: it came up so, and this is the end of it. */
static int ends(struct yk_store *s, uint32_t idx) {
    uint64_t bit, *word;
    if (s->low == NULL || s->low->ahead == NULL)
        return 0;
    word = word_of(s->low->ahead, idx, &bit);
    int was = (*word & bit) != 0;
    *word &= ~bit;
    return was;
}

void yk_store_ahead_used(struct yk_store *s, uint32_t idx) {
    if (ends(s, idx))
        COUNT(s, prefetch_ahead_used);
}

void yk_store_ahead_left(struct yk_store *s, uint32_t idx) {
    if (ends(s, idx))
        COUNT(s, prefetch_ahead_wasted);
}
