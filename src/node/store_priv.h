/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the block table (src/node/store.h): shared by the files that make it up.
 *
 * Threads: the owner's. Counters alone are read by others.
 */
#ifndef YK_NODE_STORE_PRIV_H
#define YK_NODE_STORE_PRIV_H

#include "node/pool.h"
#include "sched/policy.h"
#include "shm/index.h"
#include "shm/owner.h"
#include "tier/alloc.h"

struct ssd_side;
struct yk_learned_file;
struct cxl_side;
struct yk_shares;

/* Retired descriptors that are gathered before the hazards are scanned, if nobody is short. */
#define LIMBO_BATCH 64u

/* What a namespace holds here. */
struct share {
    struct yk_policy *policy; /* made with its first block */
    uint64_t blocks;
    uint64_t bytes;
    uint64_t slow_bytes; /* of these: in slow memory */
    uint64_t both, both_blocks; /* of these: bytes, blocks with a copy on SSD */
    struct yk_ns_lookups n;
    uint8_t announces; /* a request of it was announced in this period of shares */
    /* As the last division of memory left it, for whoever asks. */
    uint64_t part_bytes, least_bytes;
    double part_hit_ratio;
};

/* What the node remembers of a client slot beside the shared page; of a connection with places of its own
 * (places.c): the reservations alone. */
struct client {
    int active;
    uint32_t reserved_head; /* descriptor + 1 of its reservations, linked through parent/birth */
    uint32_t reserved_count;
    uint64_t reserved_bytes;
    uint64_t seen[YK_COUNTERS]; /* of the page's counters, already added to the store's */
};

/* What a chain policy evicted last: a block that names one of these as its parent is cut off. Of two
 * with one place the later one is known. A chain that goes on after so many other evictions counts as
 * one whose head was never here. */
#define GONE_PARENTS 4096u

struct gone {
    uint64_t hash, epoch;
};

/* A chain that a client's ring announces, as far as its events were looked at. */
struct chain {
    uint32_t wanted, got;
    uint64_t hashes[YK_EVENT_CHAIN_MAX];
};

/* Memory that cannot be had now (back.c). */
struct aside {
    uint64_t offset, len;
};
#define ASIDE_MAX 1024u

/* Why a block comes in, as its policy is told. */
enum arrival {
    ARRIVES_USED = 0, /* it was put, or somebody waits for it */
    ARRIVES_AHEAD,    /* nobody has asked for it yet */
    ARRIVES_FOUND,    /* it was here before the start */
};

struct yk_store {
    struct yk_segment seg;
    struct yk_owner own;
    struct yk_index index;
    struct yk_view view;
    struct yk_alloc *alloc;
    struct yk_policy_space *space;
    const struct yk_policy_ops *policy_ops;
    struct share shares[YK_SHM_NAMESPACES];
    struct yk_policy *policies[YK_SHM_NAMESPACES]; /* those of shares that exist, dense */
    uint16_t policy_ns[YK_SHM_NAMESPACES];
    uint32_t policy_count;
    /* Shares of DRAM, and, where there is slow memory, of both together. NULL: who gives way is the oldest. */
    struct yk_shares *partition, *partition_all;
    int overpromised; /* more is guaranteed than there is: it was said */

    struct client *clients; /* max_clients */
    struct client *peers; /* peer_count: connections with places (places.c) */
    uint32_t peer_count;
    struct yk_pins *pins;   /* of the transfer engine; the owner's scans see them */
    uint32_t *slots;        /* active ones, dense: those whose hazards are scanned */
    uint32_t slot_count;
    uint32_t *slot_at;                       /* slot -> position in slots */
    uint64_t hold_used[YK_SHM_HAZARDS / 64]; /* the node's own hazards, slot 0 */

    uint32_t limbo_head;     /* descriptor + 1, linked through parent */
    uint32_t turn_evictions; /* left for quotas in this turn */
    uint64_t capacity_blocks;
    uint8_t local_copies; /* enum yk_local_copies */
    uint64_t seed;
    double saved_growth;
    uint8_t replays; /* times of requests are what those who announce them say */
    uint64_t low_bytes,
        high_bytes;    /* free space: reclaim starts below the one, ends at the other */
    uint64_t held_max; /* bytes of reservations and hard pins together */
    uint64_t pool_bytes; /* of the reservations: places that blocks of other nodes are brought into */

    uint32_t sweep_cursor, sweep_end; /* descriptors a sweep for dead blocks still has to see */
    int sweep_again;
    uint64_t next_expiry_ms;       /* wall clock: no block expires before; UINT64_MAX none */
    uint64_t next_expiry_sweep_ms; /* boot clock: no sweep before */
    uint64_t next_keys_merge_ms;   /* boot clock */

    uint32_t *move_map; /* offset -> descriptor + 1, of a compaction session; NULL outside */
    uint32_t move_map_mask;
    uint64_t move_map_ms;
    uint64_t settled; /* changes() when background compaction last found nothing to gain */

    struct gone gone[GONE_PARENTS];
    struct chain chain;
    struct yk_learned_file *learned; /* what was found at the start, for policies that are made; NULL: nothing, or it was
                                        long ago */
    int recovering;              /* what comes in was here before the start */
    uint8_t arrives;             /* enum arrival: why what comes in does */
    struct yk_policy *training;  /* which of policies is learning; NULL: none */
    uint32_t training_next;      /* and which is asked first the next time */
    uint64_t *backed;     /* bitmap over chunks of the payload: their pages were had once */
    uint64_t turn_backed; /* bytes of pages had in this turn of the loop */
    struct aside aside[ASIDE_MAX];
    uint32_t aside_count;
    uint8_t aside_ranges; /* whose free runs were looked at: 1 DRAM, 2 slow memory */
    uint64_t aside_retry_ms;           /* boot clock */
    uint32_t desc_backed, rest_backed; /* descriptors whose line, whose rest has its pages */

    struct ssd_side *low; /* the SSD tier (ssd_priv.h); NULL = none */
    int hurrying;         /* a put has waited long enough: what is chosen goes, and is not kept in a lower tier */
    uint8_t *marks;       /* enum desc_mark, by descriptor; NULL: no tier below, and no pool */
    struct cxl_side *cxl; /* slow memory (cxl_priv.h); NULL = none */
    uint64_t dram_bytes;  /* of the payload; what is behind it is slow memory */
    uint64_t slow_limbo_bytes, slow_leaving_bytes; /* of those in the counters: in slow memory */
    struct yk_pool_ops pool; /* changed NULL: nobody is told */

    struct yk_counters n;
};

#define LOAD(p)            __atomic_load_n((p), __ATOMIC_RELAXED)
#define STORE(p, v)        __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define COUNT(s, f)        STORE(&(s)->n.f, (s)->n.f + 1)
#define COUNT_ADD(s, f, v) STORE(&(s)->n.f, (s)->n.f + (v))
/* Never below 0: a size that was scribbled on must not make a sum of sizes absurd for good. */
#define COUNT_SUB(s, f, v) STORE(&(s)->n.f, (s)->n.f > (v) ? (s)->n.f - (v) : 0)

static inline struct yk_desc *desc_at(const struct yk_store *s, uint32_t idx) {
    return &s->own.desc[idx];
}

static inline struct yk_rest *rest_at(const struct yk_store *s, uint32_t idx) {
    return &s->own.rest[idx];
}

/* Is its payload in slow memory? */
static inline int in_slow(const struct yk_store *s, uint32_t idx) {
    return s->cxl != NULL && LOAD(&s->own.rest[idx].offset) >= s->dram_bytes;
}

static inline int desc_live(const struct yk_desc *d) {
    unsigned st = YK_WORD_STATE(d->word);
    return st == YK_DESC_COMMITTED || st == YK_DESC_SUSPECT;
}

/* Publishes a word. Release: everything written to the descriptor before is seen by who sees it. */
static inline void desc_publish(struct yk_desc *d, uint64_t word) {
    __atomic_store_n(&d->word, word, __ATOMIC_RELEASE);
    /* A kill leaves a prefix of the program's stores: the compiler may not move later ones up. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Puts a descriptor that was just made unreadable into limbo: linked through `parent`. The fence:
 * a lookup that sees the link sees the word change, too. */
static inline void limbo_push(struct yk_store *s, uint32_t idx) {
    struct yk_rest *rest = rest_at(s, idx);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    STORE(&rest->parent, s->limbo_head);
    s->limbo_head = idx + 1u;
    COUNT(s, limbo_blocks);
    COUNT_ADD(s, limbo_bytes, rest->cap);
    if (in_slow(s, idx))
        s->slow_limbo_bytes += rest->cap;
}

static inline void bytes_sub(uint64_t *from, uint64_t bytes) {
    *from -= bytes < *from ? bytes : *from;
}

/* Of DRAM: bytes that are free when nobody reads them any more, or when they are written to SSD. */
static inline uint64_t dram_limbo(const struct yk_store *s) {
    return s->n.limbo_bytes > s->slow_limbo_bytes ? s->n.limbo_bytes - s->slow_limbo_bytes : 0;
}

static inline uint64_t dram_leaving(const struct yk_store *s) {
    return s->n.leaving_bytes > s->slow_leaving_bytes ? s->n.leaving_bytes - s->slow_leaving_bytes : 0;
}

enum retire_reason {
    RETIRE_CAPACITY,
    RETIRE_SPACE,
    RETIRE_QUOTA,
    RETIRE_EXPIRED,
    RETIRE_EPOCH,
    RETIRE_REPLACED,
    RETIRE_REMOVED,
    RETIRE_CORRUPT,
};

/* evict.c */
/* Takes a live block out: not found any more when this returns; its memory follows when no hazard
 * names it. by_policy: the policy proposed it. keep_entry: the index entry was given to another. */
void yk_store_retire(struct yk_store *s, uint32_t idx, enum retire_reason why, int keep_entry);
/* Frees the limbo blocks that no hazard names. */
void yk_store_scan(struct yk_store *s);
/* Brings the figures of memory up to date. */
void yk_store_gauges(struct yk_store *s);
/* Evicts one block; 0, YK_MISS nothing to evict, -YK_EAGAIN all are pinned. ns YK_SHM_NONE: any. */
int yk_store_evict_one(struct yk_store *s, uint32_t ns, enum retire_reason why);
/* The same of one whose descriptor and key are wanted: it leaves slow memory if there is one, or else DRAM. */
int yk_store_evict_entry(struct yk_store *s);
/* May this one go (enum yk_policy_answer), as a policy asks? Expects the hazards to be collected. */
struct can_arg {
    struct yk_store *s;
    uint64_t boot_ms;
    int soft_too; /* soft pins give way */
    int childless; /* of DRAM: those alone that have no child in slow memory either */
};
enum yk_policy_answer yk_store_can_go(void *arg, uint32_t id);
/* Is it expired, of an older epoch, or of a namespace that was removed? */
int yk_store_dead(const struct yk_store *s, const struct yk_desc *d, uint64_t now_ms, enum retire_reason *ret_why);
/* Evicts about want bytes, at most max blocks; returns blocks evicted. */
uint32_t yk_store_evict_bytes(struct yk_store *s, uint64_t want, uint32_t max);
/* Allocates len bytes, evicting for it if need be. 0 or -YK_ENOSPC. */
int yk_store_alloc(struct yk_store *s, uint64_t len, uint64_t *ret_offset);
/* Gives back descriptor and memory of something that no reader ever saw. */
void yk_store_unreserve(struct yk_store *s, uint32_t idx);

/* The parent of idx loses it as a child. */
void yk_store_parent_release(struct yk_store *s, uint32_t idx);
/* Starts a pass over all descriptors that retires what is dead (expired, of an old epoch). */
void yk_store_sweep_soon(struct yk_store *s);
static inline void yk_store_expiry_seen(struct yk_store *s, uint64_t expiry_ms) {
    if (expiry_ms != 0 && expiry_ms < s->next_expiry_ms)
        s->next_expiry_ms = expiry_ms;
}

/* What hard pins may have of the share: reservations keep a quarter of it, or pins alone could
 * refuse every put. */
static inline uint64_t pins_max(const struct yk_store *s) {
    return s->held_max - s->held_max / 4u;
}

/* back.c */
/* Before recovery. -YK_ENOSPC, -YK_ENOMEM. */
int yk_store_back_open(struct yk_store *s);
void yk_store_back_close(struct yk_store *s);
/* Starts an empty index in an area of zeros, with room for so many blocks. 0 or -YK_ENOSPC. */
int yk_store_back_index(struct yk_store *s, unsigned area, uint32_t blocks);
/* Raises the limits of the tables if that is due; before what may let one grow. */
void yk_store_back_tables(struct yk_store *s);
/* The pages of a client slot. 0 or -YK_ENOSPC. */
int yk_store_back_client(struct yk_store *s, uint32_t slot);
/* Gives a place of either range back, or claims it in a recovery: as yk_alloc_put, yk_alloc_claim. */
int yk_store_place_put(struct yk_store *s, uint64_t offset, uint64_t len);
int yk_store_place_claim(struct yk_store *s, uint64_t offset, uint64_t len);
/* The pages of a place. 0 or -YK_ENOSPC. */
int yk_store_back(struct yk_store *s, uint64_t offset, uint64_t len);
/* As yk_alloc_get, of memory whose pages are there. */
int yk_store_alloc_get(struct yk_store *s, uint64_t len, uint64_t *ret_offset);
/* The same of the range that begins at base. */
int yk_store_range_get(struct yk_store *s, struct yk_alloc *alloc, uint64_t base, uint64_t len, uint64_t *ret_offset);
void yk_store_back_tick(struct yk_store *s, uint64_t boot_ms);
/* Pages had in one turn above which no place is granted ahead of need: some milliseconds. */
#define TURN_BACKED (4ull << 20)

/* quota.c */
/* Bytes and blocks (may be NULL) of a namespace in both tiers, each block once. */
uint64_t yk_store_used(const struct yk_store *s, uint32_t ns, uint64_t *ret_blocks);
/* Evicts one that is on SSD alone: 0; YK_MISS: there is none; -YK_EAGAIN: it has looked long enough. */
int yk_store_quota_low(struct yk_store *s, uint32_t ns);
/* A block that goes for its quota goes from both tiers. */
void yk_store_quota_drop_copy(struct yk_store *s, uint32_t idx);
/* d, which is counted in its share, has a copy on SSD (1), or has none any more (-1). */
void yk_store_both(struct yk_store *s, const struct yk_desc *d, int sign);

/* places.c */
/* Whose list of reservations an owner of a place stands for; NULL: nobody's. */
struct client *yk_store_holder(struct yk_store *s, uint32_t owner);
/* The place of a commit is closed to writers, and its payload verified. -YK_EBUSY: one is still there, the
 * place is open again. -YK_ECORRUPT: to be given up. Reads c->len bytes, which the place has. */
int yk_store_place_settle(struct yk_store *s, const struct yk_commit *c);

/* put.c */
/* Links idx into its owner's list of reservations, or out of it. */
void yk_store_reservation_link(struct yk_store *s, uint32_t idx);
void yk_store_reservation_unlink(struct yk_store *s, uint32_t idx);
/* Puts a committed descriptor into its share: policy, counts. The index is the caller's. cut_off: as the
 * policy is told (sched/policy.h). */
int yk_store_share_add(struct yk_store *s, uint32_t idx, int cut_off);
void yk_store_share_drop(struct yk_store *s, uint32_t idx, int by_policy);
/* The order that the block is in: of its namespace, in its range. NULL: there is none. */
struct yk_policy *yk_store_policy_of(const struct yk_store *s, uint32_t idx);
/* What that is told of a block that comes in. */
struct yk_policy_block yk_store_policy_block(const struct yk_store *s, uint32_t idx, int cut_off);
static inline int yk_store_follows_chains(const struct yk_store *s) {
    return (s->policy_ops->caps & YK_POLICY_CAP_CHAIN) != 0;
}
/* Children in memory, for a policy that does not let a parent go before them? */
static inline int yk_store_has_children(const struct yk_store *s, uint32_t idx) {
    uint32_t n = LOAD(&s->own.rest[idx].children);
    return n != 0 && n != YK_CHILDREN_RETIRING && (s->policy_ops->caps & YK_POLICY_CAP_PARENTS) != 0;
}
/* Blocks that a policy shall be prepared for. */
uint32_t yk_store_capacity_objects(const struct yk_store *s);

/* move.c */
/* Moves a block to a place whose pages are there; its old one is free then. 0; -YK_EPINNED: somebody holds it, and the
 * new place is the caller's still. */
int yk_store_move(struct yk_store *s, uint32_t idx, uint64_t to);

/* cxl.c: all of them take a store without slow memory, too */
int yk_store_cxl_open(struct yk_store *s, const struct yk_store_opts *opts, struct yk_err *err);
/* After the recovery: what the ranges are worth. */
void yk_store_cxl_ready(struct yk_store *s);
void yk_store_cxl_close(struct yk_store *s);
void yk_store_cxl_recovered(struct yk_store *s);
void yk_store_cxl_turn(struct yk_store *s);
void yk_store_cxl_gauges(struct yk_store *s);
/* Makes room ahead of need, lets rise what is worth it. Adds to *more if there is more to do at once. */
void yk_store_cxl_tick(struct yk_store *s, int *more);
/* cxl_sink.c */
/* The policy of DRAM has chosen a block. 1: it is in slow memory now; 0: it has no place there; -YK_EAGAIN: not in this
 * turn, or not before what is there was written to SSD; -YK_EPINNED: somebody holds it, and it is at the young end.
 * Expects the hazards to be collected, and leaves them so. */
int yk_store_sink(struct yk_store *s, uint32_t idx);
/* Evicts one from slow memory: as yk_store_evict_one, *ret_cap its bytes. Expects the hazards to be collected. */
int yk_store_cxl_evict(struct yk_store *s, uint32_t ns, enum retire_reason why, uint64_t *ret_cap);
/* cxl_rise.c */
/* A block in slow memory is used. */
void yk_store_cxl_used(struct yk_store *s, uint32_t idx);

/* from + ms, at most `most`. */
static inline uint64_t yk_store_after(uint64_t from, uint64_t ms, uint64_t most) {
    return from < most && ms < most - from ? from + ms : most;
}

/* A block that came up from SSD takes the place that was reserved for it, to be verified at its first
 * use. 0; on a failure the reservation is as it was. */
int yk_store_commit_raised(struct yk_store *s, uint32_t ns, uint64_t hash,
                           const struct yk_commit *commit, uint64_t expiry_ms);

/* As yk_store_commit, of another node's block in a place of the node's own: nobody used it yet. */
int yk_store_commit_copy(struct yk_store *s, uint32_t ns, const struct yk_commit *commit,
                         uint64_t expiry_ms);
/* The live block that stands under the key now, whatever its epoch: 0 and *ret_idx, or YK_MISS. */
int yk_store_standing(const struct yk_store *s, uint64_t hash, uint32_t ns, const void *key,
                      uint32_t key_len, uint32_t *ret_idx);
/* Can a block be seen at this epoch now? */
int yk_store_visible(const struct yk_store *s, const struct yk_desc *d, uint64_t epoch);

/* change.c */
/* The next block of a walk: *ret_idx, or YK_SHM_NONE when the place at the cursor holds none (any more)
 * that counts. Blocks in both tiers are met as descriptors. */
void yk_store_walk_next(struct yk_store *s, uint32_t *cursor, uint32_t *ret_idx);
/* Namespace, epoch and expiry of a block of a walk; 0 when it is none that lives. */
int yk_store_walk_facts(const struct yk_store *s, uint32_t idx, uint32_t *ret_ns, uint64_t *ret_epoch,
                        uint64_t *ret_expiry);
/* Is a block on SSD in DRAM, too? Then the walk has met it. */
int yk_store_also_in_dram(struct yk_store *s, uint32_t idx, uint32_t ns, uint64_t epoch);
/* The policy hears of an access; what else an access means is left out. */
void yk_store_policy_access(struct yk_store *s, uint32_t idx);
/* Policies that want to know hear what time it is. */
void yk_store_pass_time(struct yk_store *s);
/* A put of bytes that are there: its time to live and pin, if it has any, hold for the block. */
void yk_store_prolong(struct yk_store *s, uint32_t idx, const struct yk_attrs *attrs);

/* pool_store.c */
/* Tells the pool what now stands under a key: something about it has changed. parent: as its writer named it,
 * or NULL. Call it when the change is complete. */
void yk_store_tell_key(struct yk_store *s, uint32_t ns, const void *key, uint32_t key_len,
                       const void *parent, uint32_t parent_len);
static inline int yk_store_tells(const struct yk_store *s) {
    return s->pool.changed != NULL;
}
/* The same of a descriptor's key; it may have just been retired. */
void yk_store_tell(struct yk_store *s, uint32_t idx);

/* The namespace's share gets its policy, with what it had learned. 0 (it had one, too), -YK_ENOMEM, -YK_ELIMIT. */
int yk_store_policy_make(struct yk_store *s, uint32_t ns);

/* partition.c */
int yk_store_partition_open(struct yk_store *s); /* 0, -YK_ENOMEM */
void yk_store_partition_close(struct yk_store *s);
int yk_store_partition_join(struct yk_store *s, uint32_t ns); /* 0, -YK_ENOMEM */
/* A request of a namespace that has a policy; a block's put or use, which counts where requests are not announced. */
void yk_store_partition_request(struct yk_store *s, uint32_t ns, const struct yk_policy_request *request);
void yk_store_partition_use(struct yk_store *s, uint32_t idx);
/* Shares move, if it is time. */
void yk_store_partition_step(struct yk_store *s);
/* Of all namespaces, of which one has a policy, the block that is to go: as yk_policy_victim. The other: from slow memory. */
int yk_store_partition_victim(struct yk_store *s, yk_policy_can_fn can, void *arg, uint32_t *ret_idx);
int yk_store_partition_victim_slow(struct yk_store *s, yk_policy_can_fn can, void *arg, uint32_t *ret_idx);
/* Something of the namespace's settings has changed. */
void yk_store_partition_terms(struct yk_store *s, uint32_t ns);
/* Fills in what info says of shares. */
void yk_store_partition_info(const struct yk_store *s, uint32_t ns, yk_ns_info *io_info);

/* store_learned.c */
void yk_store_learned_open(struct yk_store *s, const char *path); /* may be NULL */
void yk_store_learned_load(struct yk_store *s, uint32_t ns); /* into a policy that was just made */
void yk_store_learned_found(struct yk_store *s); /* what was here has come in */

/* recover.c */
int yk_store_recover(struct yk_store *s, struct yk_err *err);
/* Epochs as a crash left them; before anything is judged by them. */
void yk_store_namespaces_recover(struct yk_store *s);

/* client.c */
/* Gives up all reservations of a client slot or connection; what was scribbled on is left out. */
void yk_store_reservations_end(struct yk_store *s, struct client *c, uint32_t owner);
int yk_store_clients_init(struct yk_store *s);
void yk_store_clients_fini(struct yk_store *s);
void yk_store_client_activate(struct yk_store *s, uint32_t slot);
void yk_store_client_count(struct yk_store *s, uint32_t slot);

#endif
