/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the block table: the tier below DRAM. Shared by ssd.c, demote.c, raise.c and ahead.c; the rest of
 * the block table calls what stands at the end.
 *
 * A block's way down (demote.c). The policy that chose it has let it go; readers find it in DRAM
 * until its copy on SSD is whole:
 *
 *   in the policy --chosen--> LEAVING --place in the write queue--> LEAVING|WRITING --written--> retired
 *        ^                       |                                       |
 *        +------ used again -----+------------ used again: WRITING ------+--> in both tiers
 *
 * A block's way up (raise.c):
 *
 *   (none) --asked for--> WAITING --place in DRAM, read begun--> READING --read--> SUSPECT descriptor
 *
 * Whether it deserves the place is the policy's to say (`rises`). If not it is there all the same, since who
 * waits reads it there, and is treated as a newcomer until then: of many that come up together none may
 * go before it was read. Its first access makes it the first to go (`yield`), so that the next one takes
 * its place and not another block's; its second one ends that.
 *
 * Threads: the owner's.
 */
#ifndef YK_NODE_SSD_PRIV_H
#define YK_NODE_SSD_PRIV_H

#include "node/store_priv.h"

/* What the node knows of a descriptor beside it, a byte each. */
enum desc_mark {
    MARK_USED = 1,     /* used since it was put */
    MARK_FETCHED = 2,  /* came up from SSD, or from another node, and was not verified yet */
    MARK_QUEUED = 4,   /* in the queue down */
    MARK_WRITING = 8,  /* its write is under way; a demotion record says which */
    MARK_LEAVING = 16, /* out of the policy: retired when it is written */
    MARK_GUEST = 32,   /* came up for who waited for it alone: yields when that one has had it */
    MARK_YIELDS = 64,  /* has yielded */
    MARK_COPY = 128,   /* a guest from another node, that nobody has used again */
};

/* Writes under way at a time. Each holds one of the node's own hazards. */
#define DEMOTIONS_MAX 512u
#define FETCHES_MAX   1024u
#define FETCH_BUCKETS 1024u
#define FETCH_NONE    UINT32_MAX
#define RAISE_TOKENS  2u /* who waits for a block: seldom more */

/* One write under way. */
struct demotion {
    uint32_t idx;
    uint32_t birth;
    uint32_t id;
    int hold;
    uint32_t next_free;
    uint64_t len;
};

enum fetch_state { FETCH_FREE = 0, FETCH_WAITING, FETCH_READING };

/* One block on its way up. */
struct fetch {
    uint8_t state; /* enum fetch_state */
    uint8_t prio;
    uint8_t preload, ahead;
    uint8_t used; /* before this, since it was written */
    uint8_t key_len;
    uint32_t ns;
    uint32_t id;   /* its entry when the read was begun */
    uint32_t next; /* in its bucket, or in the free list; +1, 0 = end */
    uint32_t next_waiting, prev_waiting; /* +1, 0 = end */
    struct yk_place place;
    uint64_t hash, epoch, sum, len;
    uint64_t deadline_ns; /* of waiting */
    uint64_t begun_ns;
    uint64_t few[RAISE_TOKENS];
    uint64_t *tokens; /* few, or allocated */
    uint32_t token_count, token_cap;
    unsigned char key[255];
};

/* Fetches that wait, in order of arrival. */
struct fetch_list {
    uint32_t head, tail; /* +1, 0 = none */
};

/* Where a namespace that is over its quota goes on to look for what it has on SSD (quota.c). */
struct quota_walk {
    uint32_t next; /* entry; YK_SSD_NONE: from the oldest on */
    uint8_t found; /* since it began there */
};

struct ssd_side {
    struct yk_ssd *ssd;
    struct yk_store_ssd_opts opts;
    const struct yk_policy_admit *admit;
    void (*raised)(void *arg, uint64_t token);
    void (*durable)(void *arg, uint64_t ticket);
    void (*wake)(void *arg);
    void *arg;
    int filter_fd, filter_fd_ro;
    void *filter;
    uint64_t filter_bytes;
    uint64_t ticket; /* highest that the changes since the last take wait for */
    uint64_t ns_ticket[YK_SHM_NAMESPACES]; /* of the last raise of an epoch, or removal */

    uint32_t *queue; /* ring of descriptors on their way down */
    uint32_t queue_mask, queue_head, queue_tail;
    uint64_t queue_bytes;
    struct demotion *demotions;
    uint32_t demotion_free; /* +1; 0 = none */
    uint32_t demotion_count;
    uint64_t writing_bytes; /* of blocks that are being written from where they are */
    int polling; /* inside yk_ssd_poll or a call that may call back */

    struct fetch *fetches;
    uint32_t fetch_free;
    uint32_t fetch_count;
    uint32_t buckets[FETCH_BUCKETS]; /* +1 */
    struct fetch_list waiting[2];    /* demand, the rest */
    uint64_t waiting_due_ns; /* no deadline of one that waits is earlier; UINT64_MAX = none waits */

    struct quota_walk quota[YK_SHM_NAMESPACES];

    struct ahead *ahead;   /* NULL: nothing comes up before it is asked for (ahead.c) */
    uint32_t demand_count; /* fetches that somebody waits for */

    uint32_t *preload; /* entries to bring up, the most valuable first; NULL = none (left) */
    uint32_t preload_count, preload_at;
    uint32_t *preloaded; /* descriptors that came up so, in that order */
    uint32_t preloaded_count;
};

static inline uint8_t *mark_of(struct yk_store *s, uint32_t idx) {
    return &s->marks[idx];
}

/* demote.c */
int ssd_demote_init(struct yk_store *s);
/* Queues a block that stays in DRAM, if it is worth it and has no copy. */
void ssd_write_down(struct yk_store *s, uint32_t idx);
/* Begins writes while there is room for them. */
void ssd_demote_pump(struct yk_store *s);
void ssd_on_put(void *arg, uint32_t id, uint64_t cookie, int status);

/* raise.c */
/* The parent of an entry by the hint that it has: in DRAM, where it may be alone, or on SSD. NULL: it is not
 * known. The key may stand in room. */
const void *ssd_parent(struct yk_store *s, const struct yk_ssd_info *info, struct yk_key_room *room,
                       uint32_t *ret_len);
int ssd_raise_init(struct yk_store *s);
void ssd_raise_fini(struct yk_store *s);
void ssd_on_read(void *arg, uint64_t cookie, int status);
/* Begins reads of fetches that wait, and preloading. */
void ssd_raise_pump(struct yk_store *s);
/* Begins to read an entry that nobody has asked for, or, of preloading, lets it wait for its place. 0; YK_MISS: it is on
 * its way, or cannot be had; -YK_EAGAIN: not now. */
int ssd_fetch_ahead(struct yk_store *s, uint32_t id);
int ssd_fetch_preload(struct yk_store *s, uint32_t id);

/* preload.c */
/* After a start: what is to come up. Then step, as often as something may go on. */
void ssd_preload_plan(struct yk_store *s);
void ssd_preload_step(struct yk_store *s);
void ssd_preload_end(struct ssd_side *l);

/* ahead.c */
/* 0, -YK_ENOMEM. Without a policy that learns there is none. */
int ssd_ahead_open(struct yk_store *s);
void ssd_ahead_close(struct yk_store *s);
/* Time has passed: asks policies, if it is time again. */
void ssd_ahead_tick(struct yk_store *s, uint64_t now_ms);
/* Begins reads while there is room for them, and nobody waits for others. */
void ssd_ahead_pump(struct yk_store *s);
/* One that was begun is over, with this status (YK_MISS: it was not needed any more). */
void ssd_ahead_ended(struct yk_store *s, const struct fetch *f, int status);
/* Is one that is on its way, and nobody waits for, wanted still? */
int ssd_ahead_wanted(const struct yk_store *s, uint32_t ns, uint64_t hash);
int ssd_ahead_busy(const struct ssd_side *l);

/* ---- for the rest of the block table; all of them take a store without an SSD tier, too ------------- */

/* ssd.c */
/* Opens the tier before the descriptors are recovered: namespaces come from it, too. */
int yk_store_ssd_open(struct yk_store *s, const struct yk_store_opts *opts, struct yk_err *err);
/* After the descriptors were recovered: figures are right from the start on, preloading begins. */
void yk_store_ssd_ready(struct yk_store *s);
/* The live entry that stands under the key, whatever the caller's epoch: 0 or YK_MISS. */
int yk_store_ssd_find(const struct yk_store *s, uint32_t ns, uint64_t hash, const void *key,
                      uint32_t key_len, uint32_t *ret_id);
/* A descriptor goes for good, or makes way for other bytes: its copy on SSD, too. */
void yk_store_ssd_forget(struct yk_store *s, uint32_t idx);
/* What came up from SSD in this descriptor is not what was written. */
void yk_store_ssd_rotten(struct yk_store *s, uint32_t idx);
/* Drops an entry that is wanted no more (removed, replaced). */
void yk_store_ssd_remove(struct yk_store *s, uint32_t id);
/* This key, or other bytes under it, may stand on SSD until a removal is durable: who commits, or is told
 * that it is gone, waits for it. any: whatever the key. */
void yk_store_ssd_await(struct yk_store *s, uint32_t ns, uint64_t hash);
void yk_store_ssd_await_any(struct yk_store *s);
/* Likewise for who removes, of what a device that is gone may bring back (an error if nobody records that). */
void yk_store_ssd_await_gone(struct yk_store *s);
void yk_store_ssd_expire(struct yk_store *s, uint32_t idx);
void yk_store_ssd_set_expiry(struct yk_store *s, uint32_t id, uint64_t expiry_ms);
/* Namespace number ns was made, raised, removed, or got another quota. */
void yk_store_ssd_ns(struct yk_store *s, uint32_t ns, int wait);
/* Who relies on its epoch waits for whoever raised it. */
void yk_store_ssd_ns_await(struct yk_store *s, uint32_t ns);
/* May an epoch be raised? 0, or -YK_EIO: no device would record it. */
int yk_store_ssd_may_record(const struct yk_store *s);
int yk_store_ssd_ns_busy(const struct yk_store *s, uint32_t ns);
/* Links a recovered descriptor with its copy. */
void yk_store_ssd_link(struct yk_store *s, uint32_t idx);
void yk_store_ssd_tick(struct yk_store *s, int *more);

/* quota.c */
/* The descriptor's copy on SSD is this entry + 1; 0: it has none. */
void yk_store_copy_set(struct yk_store *s, uint32_t idx, uint32_t link);

/* demote.c */
/* The policy has chosen a block. 1: it goes down first, and is retired later; 0: retire it now. */
int yk_store_demote(struct yk_store *s, uint32_t idx);
/* A new block: write it through, if that is what is wanted. */
void yk_store_write_through(struct yk_store *s, uint32_t idx);
/* A block on its way down is used: 1 it is back in the policy. */
int yk_store_demote_undo(struct yk_store *s, uint32_t idx);
/* A descriptor is being retired, for whatever reason: it is on no way any more. */
void yk_store_demote_forget(struct yk_store *s, uint32_t idx);

static inline int yk_store_writing(const struct yk_store *s, uint32_t idx) {
    return s->marks != NULL && (s->marks[idx] & MARK_WRITING) != 0;
}

/* raise.c */
static inline int yk_store_yields(const struct yk_store *s, uint32_t idx) {
    return s->marks != NULL && (s->marks[idx] & MARK_YIELDS) != 0;
}
/* An access to a guest: 1, and it has yielded. */
int yk_store_guest_leaves(struct yk_store *s, uint32_t idx);
/* ahead.c: a block is used, and leaves its policy; a node that replays has come to this time. */
void yk_store_ahead_used(struct yk_store *s, uint32_t idx);
void yk_store_ahead_left(struct yk_store *s, uint32_t idx);
void yk_store_ahead_replayed(struct yk_store *s, uint32_t ns, uint64_t now_ms);
static inline int desc_fetched(const struct yk_store *s, uint32_t idx) {
    return s->marks != NULL && (s->marks[idx] & MARK_FETCHED) != 0;
}

#endif
