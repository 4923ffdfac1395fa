/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node shares with the cluster that it is in (docs/decisions/0016): it tells what it has, asks for
 * what it has not, and lets itself be told what to do. The cluster's side (src/dir) stands above this layer
 * and fills in the ops.
 *
 * A node with a pool looks like one with a tier below DRAM that holds unknown blocks: clients ask it for what
 * memory has not (the filter that they get allows every key). Such a request is parked while the pool looks
 * elsewhere, exactly as while a block comes up from SSD, and is run again when the pool has answered. The
 * node does not rely on being answered: a little after the deadline that it named the request goes on without.
 *
 * Threads: ops are called on the owner thread, and must neither block nor call the node or its store, but for
 * yk_node_post, which any thread may call. yk_node_pool_end: any thread but the owner's. The op `figures`: any thread.
 */
#ifndef YK_NODE_POOL_H
#define YK_NODE_POOL_H

#include "node/node.h"
#include "node/pool_figures.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A generation with this bit stands for the bytes of a block that is on SSD alone, where no generation is
 * kept: it is the same for the same bytes. Others are numbers of the node's, and never repeat. */
#define YK_POOL_GEN_SSD (1ull << 63)

/* A block of this node, for those who may want it. Pointers are valid during the call. */
struct yk_pool_block {
    const char *ns; /* its name */
    uint32_t ns_len;
    const void *key, *parent; /* parent NULL: none, or not known (any more): what was told before holds */
    uint32_t key_len, parent_len;
    uint64_t epoch, gen, len, sum; /* of one that is gone: the epoch that the namespace has now, the rest 0 */
    uint8_t tiers; /* bits of enum yk_tier; 0: it is gone */
    uint8_t guest; /* a copy of another node's block, that goes first unless it is used again */
    uint8_t used;  /* since it was put; 0 of one on SSD alone */
    uint64_t value; /* in DRAM: what the policy has it for (yk_policy_value); else 0 */
    uint8_t copies; /* wanted in all; 0: one, or not known (of a block on SSD alone) */
};

/* What a request of a client needs. */
enum yk_pool_want_kind {
    YK_POOL_BRING = 1, /* into DRAM here: GET, RAISE, a pin, PREFETCH */
    YK_POOL_FIND,      /* only where and what: LOOKUP, EXISTS, MATCH */
};

struct yk_pool_key {
    const void *key;
    uint32_t key_len;
};

/* A put that has made its block here wants more copies, or a certain node (docs/decisions/0017). */
struct yk_pool_copies {
    const char *ns, *prefer; /* prefer: the name of a node; prefer_len 0: any */
    uint32_t ns_len, prefer_len;
    const void *key;
    uint32_t key_len;
    uint32_t copies; /* in all, this node's included: 1 to YK_COPIES_MAX */
    uint64_t epoch, gen, deadline_ns; /* gen: of the one here; 0: it is on SSD alone */
    uint64_t token; /* for yk_node_pool_removed: 0, YK_FEWER, or why not */
};

/* Keys of one request that this node has not, in its order. */
struct yk_pool_want {
    enum yk_pool_want_kind kind;
    int chain; /* of a match: what follows the first that is nowhere is not wanted */
    /* Of a chain: the first key of the request, if this node has it or not. It is the root of their group where the
     * client asks for all of the chain; one that maps the node's memory asks for what follows the run it has found,
     * and a long list is cut. Key NULL: no chain. */
    struct yk_pool_key first;
    const char *ns;
    uint32_t ns_len, ns_number;
    uint64_t epoch; /* that the namespace has now */
    const struct yk_pool_key *keys;
    uint32_t count; /* 1 to YK_BATCH_MAX */
    uint64_t deadline_ns; /* monotonic */
    uint64_t token;       /* for yk_node_pool_found; 0: nobody waits, and it is not called (a prefetch) */
};

/* Answer to FIND, for each key: 0 with len, sum and tiers set, YK_MISS, or -YK_EAGAIN (nobody can tell now). */
struct yk_pool_found {
    int32_t status;
    uint8_t tiers;
    uint64_t len, sum;
};

/* Of space, beside those of enum yk_ns_op: a client opens a namespace that this node does not know, or with an
 * epoch above the one that it knows. It is to exist, whatever its quota, at this epoch at least (0: at any). */
#define YK_POOL_NS_OPEN 0u

/* All of them are there, but in a store without a node (yk_store_opts), which only tells. */
struct yk_pool_ops {
    /* A block came, changed its place or tiers, or is gone from this node (tiers 0, perhaps more than once). In
     * the order in which it happened. What a start finds is not told: see yk_store_pool_walk. Told are
     *   a commit, by a client or the pool      put.c (with the parent that its writer named), pool_store.c
     *   its way up: in both tiers now          raise.c
     *   its way down: a copy on SSD is whole   demote.c
     *   that this copy went                    ssd.c: capacity, cleaner, error, expiry, epoch; demote.c: written anew
     *   that it left DRAM, to SSD or for good  evict.c: every retirement, whatever its reason, but one by a
     *                                          block of the same key, which is told itself
     *   that it left SSD, where it was alone   ssd.c: the same reasons, and removals
     *   another place in DRAM                  move.c: a new generation
     *   a guest is used again, and stays       change.c
     * Of an epoch that was raised or a namespace that was removed, and of what expires, the blocks are told as
     * they are swept, some time after nobody finds them any more. What is told of a key is all that this node has of
     * it: blocks of another epoch than `epoch` are gone. */
    void (*changed)(void *arg, const struct yk_pool_block *block);
    /* 0: yk_node_pool_found will be called, once; -YK_EAGAIN: too much is under way, the request goes on
     * without. Everything is copied. */
    int (*want)(void *arg, const struct yk_pool_want *want);
    /* A client removes a key in the whole pool, this node included (yk_store_pool_remove). 0:
     * yk_node_pool_removed will be called once; -YK_EAGAIN: too much is under way, nothing was removed. */
    int (*remove)(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch, const void *key, uint32_t key_len,
                  uint64_t deadline_ns, uint64_t token);
    /* Everything is copied. 0: yk_node_pool_removed will be called once; -YK_EAGAIN: too much is under way. */
    int (*copies)(void *arg, const struct yk_pool_copies *want);
    /* Namespaces: policies are the cluster's. what: enum yk_ns_op with its value, or YK_POOL_NS_OPEN; answered by
     * yk_node_pool_removed, too. What is answered with 0 has been applied to this node (yk_store_ns_open, _raise,
     * _quota, _remove). */
    int (*space)(void *arg, unsigned what, const char *ns, uint32_t ns_len, uint64_t value, uint64_t deadline_ns,
                 uint64_t token);
    /* The cluster's figures, at most a second old. Unlike the others on any thread, and until yk_node_stop has
     * returned. NULL: it has none. */
    void (*figures)(void *arg, struct yk_pool_figures *ret);
    /* What this node holds may have been removed elsewhere while it was away: clients are not taken before
     * yk_node_pool_begin, their connections wait in the listeners' backlog; and nothing is found, by those who have its
     * memory mapped neither, but while yk_node_pool_until says so. */
    int waits;
    void *arg;
};

/* Given to yk_node_start (struct yk_node_opts, pool); ops are copied. They may be called before it returns. */

#define YK_NODE_POSTS_MAX 65536u

/* Runs fn on the owner thread, in the order of posts; there it may call the store (node/store.h). Each that was
 * taken is run, at a stop too. -YK_ENOMEM; -YK_EAGAIN: YK_NODE_POSTS_MAX wait; -YK_ECLOSED: the node is stopping,
 * fn will not run. Any thread until yk_node_stop is called; then the owner's alone, from another fn. */
int yk_node_post(struct yk_node *node, void (*fn)(void *arg, struct yk_store *store), void *arg);

/* The node's blocks are the cluster's again: clients are taken from now on (ops.waits). -YK_EAGAIN, -YK_ENOMEM,
 * -YK_ECLOSED as yk_node_post. Any thread. */
int yk_node_pool_begin(struct yk_node *node);

/* With ops.waits: lookups find what this node holds until then (CLOCK_BOOTTIME, ns); behind it, and before the first
 * call, everything is a miss. 0: from now on. Any thread; one at a time. */
void yk_node_pool_until(struct yk_node *node, uint64_t boot_ns);

/* The cluster's side goes first: when this returns no op is called any more, and what waited for the pool goes on
 * without. The node goes on alone with what it has; what would be the cluster's to do, to remove a key or to change
 * a namespace, is -YK_EAGAIN from then on. Any thread but the owner's; blocks until the owner
 * has heard. No effect on a node without a pool, or after yk_node_stop began. */
void yk_node_pool_end(struct yk_node *node);

/* What the pool's figures are now: 0, or YK_MISS where the node is alone. Any thread. */
int yk_node_pool_figures(const struct yk_node *node, struct yk_pool_figures *ret);

/* BRING has ended, well or not (found NULL), or FIND (found: one a key, copied; NULL: nobody can tell). A token that
 * is answered twice, or too late, is ignored. On the owner thread. */
void yk_node_pool_found(struct yk_node *node, uint64_t token, const struct yk_pool_found *found, uint32_t count);
/* A removal, a change of a namespace or a put's copies have ended: 0, YK_MISS (it was nowhere), or why not; -YK_ETIMEDOUT: not
 * everybody has applied it, and it goes on. As above. */
void yk_node_pool_removed(struct yk_node *node, uint64_t token, int status);

/* ---- on the owner thread, for the pool (pool_store.c); the store was opened with one (yk_store_opts, pool) ---- */

/* All blocks of this node that can be found, one in both tiers twice, some at a time: from *cursor (0 at first;
 * YK_WALK_END: over) at most `steps` looked at. What changes meanwhile is told by `changed` besides. fn must not
 * call the store. */
void yk_store_pool_walk(struct yk_store *store, uint32_t *cursor, uint32_t steps,
                        void (*fn)(void *arg, const struct yk_pool_block *block), void *arg);

/* A place in DRAM that a block from elsewhere is read into: address and place. Statuses as yk_store_reserve;
 * -YK_ENOSPC also when those that are held have a quarter of what may be reserved. Each ends by commit or abort. */
int yk_store_pool_reserve(struct yk_store *store, uint64_t len, struct yk_place *ret_place, void **ret_addr);
/* It becomes a block, to be verified by its first user; guest: it is the first to go, unless it is used again, and
 * is not written to SSD (so enum yk_local_copies; with `always` it is no guest). No use and no put by itself. Statuses as yk_store_commit (0 also when these bytes are
 * there; -YK_ECONFLICT whatever the flags; -YK_EAGAIN: a quota takes more evictions than a turn makes). The place
 * is over in any case. */
int yk_store_pool_commit(struct yk_store *store, uint32_t ns, const struct yk_commit *commit, uint64_t left_ms,
                         int guest);
void yk_store_pool_abort(struct yk_store *store, const struct yk_place *place);
/* A copy that is wanted here: no guest any more, and as one of that many (at least) it is told. *ret_gen (or NULL): its
 * generation; 0: it is on SSD alone. 0, YK_MISS. */
int yk_store_pool_keep(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                       uint32_t copies, uint64_t *ret_gen);
/* Others have the copies that are wanted: here it is a guest now, and the first to go, if it is still of that generation
 * (one that was moved stays: one copy too many). What is pinned, or on its way to SSD, stays as it is. 0, YK_MISS. */
int yk_store_pool_lend(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                       uint64_t gen);
/* As the last step of a move: others have it, and here that generation goes. 0; YK_MISS: it is not here; -YK_EBUSY: it is
 * pinned here, and stays; -YK_EAGAIN: it is another generation by now, and stays. */
int yk_store_pool_leave(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                        uint64_t gen);
/* Of a block that was found: is it a guest, and how many copies are wanted (0: one, or not known)? */
void yk_store_pool_marks(const struct yk_store *store, uint32_t idx, int *ret_guest, uint32_t *ret_copies);

/* Where a block stands, for a peer that will read it by a guarded request: its place in the payload segment and
 * all it needs to keep it. Counts as a use. One that an unclean stop may have damaged is verified first. A block on
 * SSD alone is YK_PENDING: it was asked to come up, ask again. YK_MISS. */
struct yk_pool_copy {
    uint32_t idx;
    uint64_t gen, offset, len, sum, epoch;
    uint64_t left_ms; /* of its time to live; 0: for ever */
    struct yk_attrs attrs;
    uint32_t parent_len;
    unsigned char parent[256];
};
int yk_store_pool_locate(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                         struct yk_pool_copy *ret_copy);

/* A removal that the cluster has numbered: of all epochs of the key, or (gen not 0) of that generation alone. The
 * ticket (0: none) must be durable before it is answered for, of YK_MISS as well. 0, YK_MISS, -YK_ENONS, -YK_EKEY. */
int yk_store_pool_remove(struct yk_store *store, uint32_t ns, const void *key, uint32_t key_len, uint64_t gen,
                         uint64_t *ret_ticket);
/* All that a walk found was removed. The ticket, likewise, of what the SSD tier had let go of by itself: no walk meets
 * it, and a crash could bring it back. */
uint64_t yk_store_pool_dropped(struct yk_store *store);

#ifdef __cplusplus
}
#endif

#endif
