/* SPDX-License-Identifier: Apache-2.0
 *
 * Which namespace gives way when memory is full: where the policy hears of requests, the one that is most above its share
 * (sched/shares.h); elsewhere the one whose candidate is oldest, which over LRU instances is one exact LRU. As long as no
 * share is known it is the oldest, too, but of those that have more than they are guaranteed.
 *
 * Shares bound nobody while there is room: they only say who gives. A namespace whose clients announce no requests is
 * heard by its puts and uses, block by block, until one is announced; then for as long as one comes in each
 * period. Its policy is told its share, so that it plans for what it will have.
 *
 * With slow memory there are two divisions, from the same requests: of DRAM, from which blocks sink, and of both together,
 * which they leave. In the second what a namespace has counts in both, so one that has much of DRAM gives of slow memory.
 * Rejected: one division, and its parts of either range (the blocks that DRAM brings most are not those that come next).
 * A guarantee is of both, and of DRAM the same part of it as DRAM is of both.
 *
 * Threads: the owner's.
 */
#include "node/cxl_priv.h"
#include "node/ssd_priv.h"

#include "base/fmt.h"
#include "base/log.h"
#include "sched/learned.h"
#include "sched/shares.h"

/* Namespaces of which all candidates may be pinned before the oldest of all are looked at. */
#define GIVERS_TRIED 4u

static struct yk_log_limit guarantee_limit = YK_LOG_LIMIT_INIT(60000);

static uint64_t mean_block(uint64_t bytes, uint64_t blocks) {
    return blocks == 0 ? 0 : bytes / blocks;
}

/* Bytes of DRAM that namespaces have among them. */
static uint64_t dram_divided(const struct yk_store *s) {
    uint64_t bytes = s->dram_bytes - s->low_bytes, block = mean_block(s->n.block_bytes, s->n.blocks);
    if (s->capacity_blocks != 0 && block != 0 && s->capacity_blocks < bytes / block)
        bytes = s->capacity_blocks * block;
    return bytes;
}

static uint64_t all_divided(const struct yk_store *s) {
    return dram_divided(s) + (s->cxl != NULL ? s->cxl->bytes - s->cxl->low_bytes : 0);
}

void yk_store_partition_close(struct yk_store *s) {
    yk_shares_free(s->partition);
    yk_shares_free(s->partition_all);
}

int yk_store_partition_join(struct yk_store *s, uint32_t ns) {
    int rc = s->partition == NULL ? 0 : yk_shares_join(s->partition, ns);
    return rc < 0 || s->partition_all == NULL ? rc : yk_shares_join(s->partition_all, ns);
}

/* ---- terms ----------------------------------------------------------------------------------------- */

/* What is known of a namespace anew. */
static void set_terms(struct yk_store *s, uint32_t ns) {
    const struct share *sh = &s->shares[ns];
    const struct yk_ns_entry *e = &s->own.ns[ns];
    uint64_t bytes = s->n.block_bytes + s->n.cxl_block_bytes, blocks = s->n.blocks + s->n.cxl_blocks;
    struct yk_shares_terms terms = {
        .least_bytes = e->state == 1 ? e->guarantee_bytes : 0,
        .most_bytes = e->quota_bytes,
        .priority = (double)e->priority / YK_PRIORITY_DEFAULT,
        .block_bytes = sh->blocks == 0 ? mean_block(bytes, blocks) : mean_block(sh->bytes, sh->blocks),
    };
    if (s->partition_all != NULL) {
        (void)yk_shares_set_terms(s->partition_all, ns, &terms);
        terms.least_bytes = (uint64_t)((double)terms.least_bytes * ((double)dram_divided(s) / (double)all_divided(s)));
    }
    (void)yk_shares_set_terms(s->partition, ns, &terms);
}

/* More than there is can be promised, as nodes of a cluster have not all as much; but not silently. */
static void count_guarantees(struct yk_store *s) {
    char promised[YK_FMT_MAX], there[YK_FMT_MAX];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
        if (s->own.ns[i].state == 1 && __builtin_add_overflow(sum, s->own.ns[i].guarantee_bytes, &sum))
            sum = UINT64_MAX;
    STORE(&s->n.guaranteed_bytes, sum);
    int was = s->overpromised;
    s->overpromised = s->partition != NULL && sum > s->n.divided_bytes;
    if (s->overpromised && !was)
        yk_log_limited(&guarantee_limit, YK_LOG_WARN, "node",
                       "namespaces are guaranteed %s together, and %s are divided: each gets less, in proportion",
                       yk_fmt_bytes(sum, promised), yk_fmt_bytes(s->n.divided_bytes, there));
}

void yk_store_partition_terms(struct yk_store *s, uint32_t ns) {
    count_guarantees(s);
    if (s->partition != NULL)
        set_terms(s, ns); /* of one that has no blocks when the first comes */
}

int yk_store_partition_open(struct yk_store *s) {
    struct yk_shares_opts opts = {.tenants = YK_SHM_NAMESPACES, .capacity_bytes = s->dram_bytes, .seed = s->seed};
    if (!yk_store_wants_requests(s))
        return 0;
    int rc = yk_shares_new(&opts, &s->partition);
    opts.capacity_bytes += s->seg.slow_bytes;
    if (rc == 0 && s->seg.slow_bytes != 0)
        rc = yk_shares_new(&opts, &s->partition_all);
    STORE(&s->n.divided_bytes, opts.capacity_bytes);
    count_guarantees(s);
    return rc;
}

/* ---- periods --------------------------------------------------------------------------------------- */

/* The share that decides what a namespace may keep here at all. */
static const struct yk_shares *whole(const struct yk_store *s) {
    return s->partition_all != NULL ? s->partition_all : s->partition;
}

/* A namespace that is there no more takes part again when it is made again, under whatever name. */
static void refresh(struct yk_store *s, uint32_t ns) {
    if (s->own.ns[ns].state != 1) {
        yk_shares_leave(s->partition, ns);
        if (s->partition_all != NULL)
            yk_shares_leave(s->partition_all, ns);
    } else if (yk_store_partition_join(s, ns) == 0) {
        set_terms(s, ns);
    }
    s->shares[ns].announces = 0;
}

/* For whoever asks, and for its policy: with one namespace that goes by what it sees, as there is nobody to give. */
static void note(struct yk_store *s, uint32_t ns) {
    struct share *sh = &s->shares[ns];
    uint64_t dram = yk_shares_bytes(s->partition, ns), block = mean_block(sh->bytes, sh->blocks);
    sh->part_bytes = yk_shares_bytes(whole(s), ns);
    sh->least_bytes = yk_shares_least_bytes(whole(s), ns);
    sh->part_hit_ratio = yk_shares_predicted(whole(s), ns);
    uint64_t blocks = block == 0 || s->policy_count < 2 ? 0 : dram / block;
    if (yk_store_learns(s))
        yk_learned_set_share(sh->policy, blocks < UINT32_MAX ? (uint32_t)blocks : UINT32_MAX);
}

static void follow_capacity(struct yk_store *s) {
    yk_shares_capacity(s->partition, dram_divided(s));
    if (s->partition_all != NULL)
        yk_shares_capacity(s->partition_all, all_divided(s));
    STORE(&s->n.divided_bytes, all_divided(s));
}

/* A capacity in blocks is known in bytes when there are blocks: a period must not be as long as that of all memory. */
static int is_far_off(const struct yk_store *s) {
    uint64_t now = s->capacity_blocks != 0 ? all_divided(s) : s->n.divided_bytes;
    return now < s->n.divided_bytes / 2 || now / 2 > s->n.divided_bytes;
}

void yk_store_partition_step(struct yk_store *s) {
    if (s->partition == NULL)
        return;
    if (is_far_off(s))
        follow_capacity(s);
    if (!yk_shares_is_due(s->partition))
        return;
    follow_capacity(s);
    count_guarantees(s);
    for (uint32_t i = 0; i < s->policy_count; i++)
        refresh(s, s->policy_ns[i]);
    yk_shares_update(s->partition);
    if (s->partition_all != NULL)
        yk_shares_update(s->partition_all);
    for (uint32_t i = 0; i < s->policy_count; i++)
        note(s, s->policy_ns[i]);
}

static void hear(struct yk_store *s, uint32_t ns, const uint64_t *hashes, uint32_t n) {
    yk_shares_request(s->partition, ns, hashes, n);
    if (s->partition_all != NULL)
        yk_shares_request(s->partition_all, ns, hashes, n);
}

void yk_store_partition_request(struct yk_store *s, uint32_t ns, const struct yk_policy_request *request) {
    if (s->partition == NULL || request->n == 0)
        return;
    s->shares[ns].announces = 1;
    hear(s, ns, request->key_hashes, request->n);
    yk_store_partition_step(s);
}

void yk_store_partition_use(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    if (s->partition != NULL && d->ns < YK_SHM_NAMESPACES && s->shares[d->ns].blocks == 1)
        set_terms(s, d->ns); /* its first block: now it is known how large they are */
    if (s->partition == NULL || s->recovering || s->arrives != ARRIVES_USED) /* nobody asked for it */
        return;
    if (d->ns < YK_SHM_NAMESPACES && !s->shares[d->ns].announces)
        hear(s, d->ns, &d->hash, 1);
}

void yk_store_partition_info(const struct yk_store *s, uint32_t ns, yk_ns_info *io_info) {
    const struct share *sh = &s->shares[ns];
    if (s->partition == NULL)
        return;
    io_info->guaranteed_bytes = yk_shares_least_bytes(whole(s), ns);
    io_info->share_bytes = sh->part_bytes;
    io_info->share_used_bytes = sh->bytes;
    io_info->share_hit_ratio = sh->part_hit_ratio;
}

/* ---- who gives ------------------------------------------------------------------------------------- */

/* The orders of DRAM, or of slow memory. */
struct range {
    struct yk_shares *shares;
    struct yk_policy *const *orders;
    const uint16_t *ns; /* whose */
    uint32_t count;
};

static struct yk_policy *order_of(const struct range *r, uint32_t ns) {
    for (uint32_t i = 0; i < r->count; i++)
        if (r->ns[i] == ns)
            return r->orders[i];
    return NULL;
}

static void look_what_they_have(const struct yk_store *s, const struct range *r) {
    int slow = r->shares == s->partition_all;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct share *sh = &s->shares[r->ns[i]];
        uint64_t bytes = slow || sh->slow_bytes > sh->bytes ? sh->bytes : sh->bytes - sh->slow_bytes;
        yk_shares_set_used(r->shares, r->ns[i], yk_policy_count(r->orders[i]) == 0 ? 0 : bytes);
    }
}

static int by_share(const struct range *r, yk_policy_can_fn can, void *arg, uint32_t *ret_idx) {
    uint32_t ns = YK_SHARES_NONE;
    for (uint32_t i = 0; i < GIVERS_TRIED; i++) {
        ns = yk_shares_giver(r->shares, ns);
        struct yk_policy *p = ns == YK_SHARES_NONE ? NULL : order_of(r, ns);
        if (p == NULL)
            break;
        if (yk_policy_victim(p, can, arg, ret_idx) == 0)
            return 0;
    }
    return YK_MISS;
}

/* As long as nothing is known but what was promised. */
static int oldest_above_guarantee(const struct range *r, yk_policy_can_fn can, void *arg, uint32_t *ret_idx) {
    struct yk_policy *list[YK_SHM_NAMESPACES];
    size_t n = 0, which;
    for (uint32_t i = 0; i < r->count; i++)
        if (!yk_shares_is_guaranteed(r->shares, r->ns[i]))
            list[n++] = r->orders[i];
    return n == 0 || n == r->count ? YK_MISS : yk_policy_victim_oldest(list, n, can, arg, &which, ret_idx);
}

static int victim_of(const struct yk_store *s, const struct range *r, yk_policy_can_fn can, void *arg, uint32_t *ret_idx) {
    size_t which;
    if (r->shares != NULL && r->count > 1 && (s->n.guaranteed_bytes > 0 || yk_shares_are_known(r->shares))) {
        look_what_they_have(s, r);
        int rc = yk_shares_are_known(r->shares) ? by_share(r, can, arg, ret_idx)
                                                : oldest_above_guarantee(r, can, arg, ret_idx);
        if (rc == 0)
            return 0;
    }
    return yk_policy_victim_oldest(r->orders, r->count, can, arg, &which, ret_idx);
}

int yk_store_partition_victim(struct yk_store *s, yk_policy_can_fn can, void *arg, uint32_t *ret_idx) {
    struct range dram = {s->partition, s->policies, s->policy_ns, s->policy_count};
    return victim_of(s, &dram, can, arg, ret_idx);
}

int yk_store_partition_victim_slow(struct yk_store *s, yk_policy_can_fn can, void *arg, uint32_t *ret_idx) {
    struct range slow = {s->partition_all, s->cxl->policies, s->cxl->policy_ns, s->cxl->policy_count};
    return victim_of(s, &slow, can, arg, ret_idx);
}
