/* SPDX-License-Identifier: Apache-2.0
 *
 * The block table of one node: everything that changes state, without sockets.
 *
 * A store owns a segment (src/shm), the allocator of its payload (src/tier), and one policy
 * instance for each namespace (src/sched). It is the only writer of descriptors and index; clients
 * in other processes read them meanwhile. The pieces:
 *
 *   store.c    open, close, watermarks, statistics
 *   put.c      reserve, commit, abort: how a block comes to be
 *   back.c     pages of places and tables are had before they are used
 *   evict.c    retire, hazard scan, eviction, reclaim: how it goes
 *   change.c   remove, pin, touch, expire, verify; batch removal
 *   move.c     compaction
 *   recover.c  what a restart makes of the descriptors
 *   space.c    namespaces, epochs
 *   quota.c    what a namespace has in both tiers, and no more than it may
 *   client.c   client slots: who holds hazards and reservations
 *   places.c   places that peers write through the transfer engine
 *   guard.c    what the engine has under way is pinned; from its threads
 *   cxl.c      slow memory, between DRAM and SSD: open, its allocator and orders
 *   cxl_sink.c blocks sink into it, and leave it
 *   cxl_rise.c blocks rise from it
 *   cxl_measure.c  what a use costs in either
 *   ssd.c      the tier below: open, namespaces, removals, what is found there
 *   demote.c   blocks go down to SSD
 *   raise.c    blocks come up from SSD
 *   ahead.c    and before they are asked for, where the policy says that they are due
 *   preload.c  and after a start with nothing in DRAM
 *   pool_store.c  what the cluster is told, and may do (pool.h)
 *
 * Threads: one owner thread calls everything here. No locks, no system call but in open, close and
 * the clocks; no wait: what cannot be had now is -YK_ENOSPC or -YK_EAGAIN, and the caller (conn.c)
 * keeps those who may wait.
 */
#ifndef YK_NODE_STORE_H
#define YK_NODE_STORE_H

#include "base/status.h"
#include "node/guard.h"
#include "shm/segment.h"
#include "shm/view.h"
#include "tier/ssd/ssd.h"
#include "wire/msg.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_store;
struct yk_pool_ops; /* node/pool.h */

/* When a block is written to SSD. */
enum yk_ssd_when {
    YK_SSD_ON_DEMOTION = 0, /* when it has to leave DRAM */
    YK_SSD_WRITE_THROUGH,   /* as soon as it was put */
};

/* The SSD tier; dev_count 0 = none. Strings are borrowed during open. */
struct yk_store_ssd_opts {
    struct yk_ssd_dev_opts dev[YK_SSD_DEVICES_MAX];
    uint32_t dev_count;
    const char *name; /* the node's: devices of another one are refused; NULL or "" = it has none */
    uint64_t segment_bytes, capacity_blocks, write_limit_bps; /* 0 = see tier/ssd/ssd.h */
    uint32_t clean_percent;                                  /* likewise */
    uint32_t wait_ms; /* a put waits so long for memory that blocks have still to leave; then they are dropped
                         for it (yk_store_ssd_hurry). 0 = until its own deadline */
    uint8_t when;  /* enum yk_ssd_when */
    uint8_t admit; /* which blocks that leave DRAM are worth a write: row of yk_policy_admit_list */
    uint8_t format, trim, buffered;
    uint8_t no_preload; /* do not bring blocks up after a start with an empty DRAM tier */
    uint8_t ahead;      /* bring up what the policy says is due, before it is asked for (ahead.c) */
    const struct yk_file_ops *io; /* NULL = the real devices */
    int (*io_wrap)(void *arg, struct yk_file *io, struct yk_file **ret_io);
    void *io_wrap_arg;
    /* Progress of recovery, within open: bytes of the devices looked at, of all. May be NULL. */
    void (*progress)(void *arg, uint64_t done, uint64_t all);
    void *progress_arg;
};

/* What memory does: latency of a load that waits for the one before, and what a copy of it moves. */
struct yk_cxl_figures {
    uint64_t dram_lat_ns, dram_bps, slow_lat_ns, slow_bps; /* 0 = measured at the start */
};

/* Slow memory, between DRAM and SSD; bytes 0 = none. */
struct yk_store_cxl_opts {
    uint64_t bytes;
    int node; /* NUMA node that it is on; -1 = wherever DRAM is (tests) */
    struct yk_cxl_figures figures;
};

/* A block of another node that was read here: is it kept? */
enum yk_local_copies {
    YK_LOCAL_REUSED = 0, /* once it is used again: till then it is a guest, the first to go (pool.h) */
    YK_LOCAL_ALWAYS,     /* as any other block */
    YK_LOCAL_NEVER,      /* it stays a guest, however often it is used */
};
extern const char *const yk_local_copies_names[]; /* NULL at the end */

struct yk_store_opts {
    struct yk_segment_opts segment; /* extents_bytes and max_blocks 0 = chosen here, slow memory by cxl */
    struct yk_store_cxl_opts cxl;
    struct yk_store_ssd_opts ssd;
    /* For the SSD tier's sake; may be NULL without one. wake: any thread; yk_store_ssd_poll is due.
     * raised: a yk_store_raise with this token has ended, well or not: look again. durable: tickets
     * up to this one are. Both on the owner's thread, inside ssd_poll, tick, or any call that retires
     * blocks; they must not call the store. */
    void (*wake)(void *arg);
    int wake_fd; /* an eventfd that says the same for some reads; 0 = none. Borrowed until close. */
    void (*raised)(void *arg, uint64_t token);
    void (*durable)(void *arg, uint64_t ticket);
    void *arg;
    const char *policy;             /* name in sched's list */
    double saved_growth;            /* what a use saves with depth (sched/policy.h); 0: all save alike */
    uint64_t capacity_blocks;       /* committed blocks at most; 0 = as many as fit */
    uint32_t reserve_percent;       /* of the tier that reclaim keeps free ahead of need */
    uint32_t held_percent;          /* of the tier that reservations and hard pins may hold (R4) */
    uint64_t seed;
    const struct yk_pool_ops *pool; /* is told what changes, when open has returned; copied. NULL: nobody is */
    const char *learned_path; /* the file in which what policies have learned is found, and the node keeps it; borrowed
                                 during open. NULL: they begin anew */
    uint8_t local_copies;           /* enum yk_local_copies */
    uint8_t replays; /* requests come at the times that their announcements say: of a trace that is replayed. And what is
                        learned from them decides at once */
};

/* What happened, counted since the segment's daemon started. Written by the owner thread with
 * relaxed stores, readable from any thread with yk_store_counters. */
struct yk_counters {
    uint64_t reserves, commits, duplicates, conflicts, aborts, node_puts, node_gets;
    uint64_t put_bytes, node_get_bytes;
    uint64_t evict_capacity, evict_space, evict_quota; /* by the policy, by reason */
    uint64_t evict_expired, evict_epoch, evict_replaced, removed, corrupt, abandoned;
    uint64_t evicted_bytes;
    uint64_t node_hits, node_misses;   /* lookups that the node answered */
    uint64_t local_hits, local_misses; /* lookups in the clients, from their pages */
    uint64_t local_hit_bytes, local_matches, local_match_keys, local_retries;
    uint64_t events, events_lost;
    uint64_t requests, trainings; /* that were announced; models that were made */
    uint64_t learned_loaded;      /* policies that went on with what they had learned before the start */
    uint64_t divided_bytes;       /* of memory that namespaces share out among them; 0: the policy divides none */
    uint64_t guaranteed_bytes;    /* of all namespaces together, as they were set */
    uint64_t scans, moves, moves_refused, moved_bytes, background_moves;
    uint64_t verified, verify_failed;
    uint64_t demoted, demoted_bytes, demote_failed, demote_refused; /* refused: by admission */
    uint64_t demote_hurried; /* dropped unwritten, so that a put did not wait longer */
    uint64_t raised, raised_bytes, raise_failed; /* blocks that came up from SSD */
    uint64_t ssd_hits, ssd_hit_bytes;            /* those of them that somebody waited for */
    uint64_t yielded; /* those that did not deserve to stay, and went first again */
    uint64_t prefetched, preloaded, preload_goal; /* others; preload_goal: bytes that a start wants up */
    uint64_t preloaded_bytes;
    /* predictive prefetch, in blocks: named by the policy; of these came up; of those were used, left unused; not
     * needed any more, or nowhere, before they came up. waiting is a gauge: named, and not begun. */
    uint64_t prefetch_ahead_asked, prefetch_ahead_moved, prefetch_ahead_used, prefetch_ahead_wasted, prefetch_ahead_cancelled, prefetch_ahead_waiting;
    /* slow memory: hits there (as far as they were told), blocks that sank into it, that rose from it */
    uint64_t cxl_hits, cxl_hit_bytes, sunk, sunk_bytes, risen, risen_bytes;
    uint64_t sink_refused; /* that had no place there, though they might have sunk */
    uint64_t sink_waits;   /* times that a block did not sink before its turn */
    uint64_t rise_refused; /* that were worth it, and found no place in DRAM */
    uint64_t cxl_evicted;  /* that left it for SSD, or for good */
    uint64_t copies, copy_bytes; /* of other nodes' blocks, committed here */
    uint64_t copies_kept;        /* of those read here: this node's own now (yk_local_copies) */
    uint64_t recovered, recovery_dropped, recovery_us;
    /* the transfer engine */
    uint64_t located_gets, located_bytes; /* gets that were answered with the place of the payload */
    uint64_t remote_reads, remote_read_bytes, remote_writes, remote_write_bytes; /* by slice */
    uint64_t remote_missed, remote_full; /* guards that failed; that found all pins taken */
    uint64_t remote_corrupt;             /* commits of payload that had another sum */
    /* gauges; of blocks: those in DRAM, and those in slow memory */
    uint64_t cxl_capacity_bytes, cxl_free_bytes, cxl_idle_bytes, cxl_blocks, cxl_block_bytes;
    uint64_t cxl_used; /* 0: it is there, and no better than what is below it */
    uint64_t cxl_dram_latency_ns, cxl_dram_bytes_per_s, cxl_latency_ns, cxl_bytes_per_s;
    uint64_t blocks, block_bytes, limbo_blocks, limbo_bytes, reserved_blocks, reserved_bytes;
    uint64_t remote_places; /* of the reserved: those that peers write */
    uint64_t hard_pinned_bytes, suspect_blocks;
    uint64_t hard_pin_max_bytes; /* that they may have of the tier */
    uint64_t unbacked_bytes;     /* of free memory that cannot be had now: its file system is full */
    uint64_t unverified_blocks;               /* came up from SSD, not used yet */
    uint64_t leaving_blocks, leaving_bytes;   /* out of the policy, on their way down */
    uint64_t raising;                         /* fetches under way or waiting */
    uint64_t capacity_bytes, free_bytes, idle_bytes, largest_free_bytes, waste_bytes;
    uint64_t clients, waiters;
    uint64_t meta_blocks_max;
};

/* Lookups of payload in one namespace; counted as in yk_counters, as long as the daemon runs. */
struct yk_ns_lookups {
    uint64_t local_hits, local_misses, node_hits, node_misses, ssd_hits;
};

/* What a segment takes at most beside its payload: block table, index, and what clients hold. Pure; 0
 * for sizes that open would refuse. */
uint64_t yk_store_beside_bytes(const struct yk_store_opts *opts);

/* Opens the segment and recovers what is in it. Errors as yk_segment_open, and EINVAL for a policy
 * that does not exist. */
int yk_store_open(const struct yk_store_opts *opts, struct yk_store **ret_store,
                  struct yk_err *err);

/* clean: everything stays for the next start. NULL is fine. */
void yk_store_close(struct yk_store *store, int clean);

/* The pool is told nothing more. */
void yk_store_pool_forget(struct yk_store *store);

/* Name of the policy. Static storage. */
const char *yk_store_policy(const struct yk_store *store);

struct yk_segment *yk_store_segment(struct yk_store *store);

/* A view for other threads of this process (scrubber); valid until close. */
const struct yk_view *yk_store_view(const struct yk_store *store);

/* The pins that the transfer engine takes (guard.h); valid until close, before which it has ended. */
struct yk_pins *yk_store_pins(struct yk_store *store);

/* A relaxed copy; any thread. Client pages are summed by the owner in yk_store_tick. */
void yk_store_counters(const struct yk_store *store, struct yk_counters *ret);

/* The same of one namespace number. */
void yk_store_ns_lookups(const struct yk_store *store, uint32_t ns, struct yk_ns_lookups *ret);

/* Pages of this part of the payload are there (the populating helper says so). Any thread. */
void yk_store_backed(struct yk_store *store, uint64_t offset, uint64_t len);

/* ---- clients (client.c) -----------------------------------------------------------------------
 */

/* Grants a client slot to a process; cookie and slot of an earlier grant take that one over again
 * if the process is the same. -YK_ELIMIT: all slots are taken; -YK_ENOSPC: there is no memory for one. */
int yk_store_client_attach(struct yk_store *store, uint32_t pid, uint32_t slot, uint64_t cookie,
                           uint32_t *ret_slot, uint64_t *ret_cookie);

/* The namespace of the handle that has the slot: its lookups count there. */
void yk_store_client_ns(struct yk_store *store, uint32_t slot, uint32_t ns);

/* The client came back and has heard of reservations up to this generation. Grants reach it in
 * their order, so those above were lost on the way and are over: nobody writes there. */
void yk_store_client_heard(struct yk_store *store, uint32_t slot, uint64_t gen);

/* The client said goodbye, or its process is known dead: hazards and reservations are over. */
void yk_store_client_release(struct yk_store *store, uint32_t slot);

/* pid of a slot's holder, 0 when free. */
uint32_t yk_store_client_pid(const struct yk_store *store, uint32_t slot);

/* Slots that are held after a recovery; fn is called for each. */
void yk_store_client_each(struct yk_store *store,
                          void (*fn)(void *arg, uint32_t slot, uint32_t pid), void *arg);

/* Is a process with this pid and start time still there? A zombie is not. */
int yk_process_alive(uint32_t pid, uint64_t start_time);
uint64_t yk_process_start_time(uint32_t pid); /* 0 = no such process */

/* ---- connections with places of their own (places.c)
 * ------------------------------------------------------------- */

/* A connection that will reserve places to be written through the transfer engine: its number, which
 * stands for a client slot in reserve, commit and abort. -YK_ENOMEM, -YK_ELIMIT. */
int yk_store_peer_open(struct yk_store *store, uint32_t *ret_peer);
/* It is over, and so are its places: those that are being written to, when they are not any more. */
void yk_store_peer_close(struct yk_store *store, uint32_t peer);

/* ---- namespaces (space.c)
 * ------------------------------------------------------------------------ */

/* Finds, or creates with create != 0. -YK_ENONS, -YK_ELIMIT, -YK_EINVAL (name). */
int yk_store_ns_open(struct yk_store *store, const void *name, uint32_t name_len, int create,
                     uint32_t *ret_ns, struct yk_err *err);
uint64_t yk_store_ns_epoch(const struct yk_store *store, uint32_t ns);
/* -YK_ENONS when it was removed. */
int yk_store_ns_check(const struct yk_store *store, uint32_t ns);
/* Raises; an equal epoch is fine; a lower one -YK_ESTALE. Older blocks are swept by ticks. With an SSD
 * tier it is acknowledged when the ticket is durable, an equal one too. -YK_EIO: no device would record
 * it; nothing was changed. */
int yk_store_ns_raise(struct yk_store *store, uint32_t ns, uint64_t epoch);
int yk_store_ns_quota(struct yk_store *store, uint32_t ns, uint64_t quota_bytes);
/* How many copies puts want that name none; 0: one. -YK_ENONS. */
int yk_store_ns_set_copies(struct yk_store *store, uint32_t ns, uint32_t copies);
uint32_t yk_store_ns_copies(const struct yk_store *store, uint32_t ns);
/* Of shares: what is its own of the node's memory, and what a hit of it counts (as yk_ns_set_guarantee, _priority). From
 * the next division on. -YK_ENONS. */
int yk_store_ns_set_guarantee(struct yk_store *store, uint32_t ns, uint64_t bytes);
int yk_store_ns_set_priority(struct yk_store *store, uint32_t ns, uint32_t priority);
/* Invisible at once; its blocks are swept by ticks. */
int yk_store_ns_remove(struct yk_store *store, uint32_t ns);
/* Fills info of namespace number ns; YK_MISS when there is none. */
int yk_store_ns_info(const struct yk_store *store, uint32_t ns, yk_ns_info *ret_info);

/* ---- put (put.c)
 * ------------------------------------------------------------------------------------ */

struct yk_place {
    uint32_t idx;
    uint64_t gen;
    uint64_t offset;
};

/* Reserves len bytes for a client slot, or for a connection (yk_store_peer_open). -YK_ENOSPC: not now (reclaim was tried); -YK_ETOOBIG:
 * never; both with a text. */
int yk_store_reserve(struct yk_store *store, uint32_t slot, uint64_t len,
                     struct yk_place *ret_place, struct yk_err *err);

/* May one more place of len bytes be granted ahead of need? Only while half of the share is free:
 * the rest is for those who need one now. */
int yk_store_may_hold(const struct yk_store *store, uint64_t len);

struct yk_commit {
    uint32_t idx;
    uint64_t gen;
    uint64_t epoch; /* that its writer had when the put began */
    uint64_t sum;
    uint32_t len;
    struct yk_attrs attrs;
    const void *key;
    uint32_t key_len;
    const void *parent;
    uint32_t parent_len; /* 0 = none */
};

/* Begins a turn of the loop: what the commits up to the next one may evict for quotas is bounded. */
void yk_store_turn(struct yk_store *store);

/* Makes a reservation a block. Whatever it returns but -YK_EGONE, -YK_EAGAIN (the turn has done
 * enough: again in the next one) and -YK_EBUSY, the reservation is over. Of a connection's place the
 * payload is verified: -YK_ECORRUPT; and -YK_EBUSY while a write into it is under way.
 * 0 (also for a duplicate of the same bytes, and for a commit that was made before), -YK_ECONFLICT,
 * -YK_ESTALE, -YK_ENONS, -YK_EQUOTA, -YK_EKEY, -YK_ENOSPC, -YK_EINVAL, -YK_EGONE, -YK_EIO (the tier
 * is lost). */
int yk_store_commit(struct yk_store *store, uint32_t slot, uint32_t ns,
                    const struct yk_commit *commit);
int yk_store_abort(struct yk_store *store, uint32_t slot, uint32_t idx, uint64_t gen);

/* ---- look up, change (change.c)
 * ----------------------------------------------------------------------- */

/* Finds a live block; does not count as an access. 0 or YK_MISS. The index is valid until the next
 * call that changes anything. */
int yk_store_find(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key,
                  uint32_t key_len, uint32_t *ret_idx);
void yk_store_info(const struct yk_store *store, uint32_t idx, yk_block_info *ret_info);
const void *yk_store_payload(const struct yk_store *store, uint32_t idx);
void yk_store_access(struct yk_store *store, uint32_t idx);
/* A request of a namespace was announced: its keys' hashes, whether their blocks are here or not. now_ms as its client
 * said, or 0; it counts where the node replays. */
struct yk_policy_request;
int yk_store_wants_requests(const struct yk_store *store);
void yk_store_request(struct yk_store *store, uint32_t ns, const struct yk_policy_request *request);
/* In a node that replays: it is now_ms, and nothing is asked for. */
void yk_store_time(struct yk_store *store, uint32_t ns, uint64_t now_ms);
/* Of a policy that learns (sched/learned.h): what one instance has to learn from now, or NULL. It is run by any
 * thread, and ended here when that has returned; the store is not closed in between. */
struct yk_learned_training;
int yk_store_learns(const struct yk_store *store);
struct yk_learned_training *yk_store_training_begin(struct yk_store *store);
void yk_store_training_end(struct yk_store *store);
/* The next policy that has learned something, from *io_which on, which grows, with its namespace; NULL: no more. */
struct yk_policy;
const struct yk_policy *yk_store_learned_next(struct yk_store *store, uint32_t *io_which, uint32_t *ret_ns,
                                              char ret_name[64]);
/* The namespace's policy, to be asked; NULL: it has none. */
const struct yk_policy *yk_store_policy_of_ns(const struct yk_store *store, uint32_t ns);
/* What was found at the start of what policies had learned is not waited for any longer. */
void yk_store_learned_forget(struct yk_store *store);
/* Counts a lookup of payload that the node answered; bytes of a hit. */
void yk_store_count_get(struct yk_store *store, uint32_t ns, int hit, uint64_t bytes);
/* A hit that is read through the transfer engine. */
void yk_store_count_located(struct yk_store *store, uint32_t ns, uint64_t bytes);
/* Verifies a SUSPECT block now, so that it can be served. 0, or YK_MISS when it was rotten and is
 * dropped. */
int yk_store_settle(struct yk_store *store, uint32_t idx);

/* One change of one key; what: enum yk_change. */
int yk_store_change(struct yk_store *store, uint32_t ns, uint64_t epoch, unsigned what,
                    uint64_t arg, const void *key, uint32_t key_len);

/* Verifies one block in steps: begin finds and holds it, step hashes up to *budget_bytes of it, and
 * takes what it hashed off the budget; YK_PENDING: there is more. Any other status is the answer, as
 * of YK_CHANGE_VERIFY, and end follows. begin: 0, or the answer (-YK_EAGAIN: nothing can be held). */
struct yk_hasher;
struct yk_verify {
    uint32_t idx;
    int hold;
    uint64_t gen;
    uint64_t at; /* bytes hashed */
    struct yk_hasher *hash;
};
int yk_store_verify_begin(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key,
                          uint32_t key_len, struct yk_verify *ret_verify);
int yk_store_verify_step(struct yk_store *store, struct yk_verify *verify, uint64_t *budget_bytes);
void yk_store_verify_end(struct yk_store *store, struct yk_verify *verify);

/* A walk over all blocks of the pool: descriptors, then the blocks that are on SSD alone. Starts at
 * 0; YK_WALK_END when it is over. */
#define YK_WALK_END UINT32_MAX

/* Batch removal in steps: removes what matches among the next `steps` blocks of the walk; moves
 * the cursor; returns how many were removed. What was committed before the walk began is covered. */
uint64_t yk_store_remove_step(struct yk_store *store, uint32_t ns, unsigned how,
                              const void *pattern, uint32_t pattern_len, uint32_t *cursor,
                              uint32_t steps);
uint32_t yk_store_desc_top(const struct yk_store *store);

/* The next live block of the namespace at or after *cursor whose key starts with prefix, looking at
 * up to *steps blocks: 1 with *ret_idx, which yk_store_key and yk_store_info take (it may be on SSD
 * alone), 0 when steps ran out or the end was reached. */
int yk_store_list_next(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *prefix,
                       uint32_t prefix_len, uint32_t *cursor, uint32_t *steps, uint32_t *ret_idx);
/* Its key: in the store's memory, until something changes, or put together in room. NULL: scribbled on. */
const void *yk_store_key(const struct yk_store *store, uint32_t idx, struct yk_key_room *room,
                         uint32_t *ret_len);

/* Bytes-wise glob: * ? [a-z] [!a-z] \x. */
int yk_glob_match(const void *pattern, size_t pattern_len, const void *text, size_t text_len);

/* ---- the SSD tier (ssd.c, demote.c, raise.c)
 * ---------------------------------------------------------- */

/* A block that is on SSD alone, as a number beside the descriptors'. */
#define YK_ON_SSD       0x80000000u
#define YK_IS_ON_SSD(i) (((i)&YK_ON_SSD) != 0)

/* The tier below, for its figures; NULL = there is none. Valid until close; any thread. */
const struct yk_ssd *yk_store_ssd(const struct yk_store *store);

/* Read-only descriptor and size of the filter for clients (src/shm/filter.h); -1 = no SSD tier. */
int yk_store_filter_fd(const struct yk_store *store, uint64_t *ret_bytes);

/* As yk_store_find, in both tiers; *ret_idx may be one of YK_ON_SSD. */
int yk_store_find_any(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key,
                      uint32_t key_len, uint32_t *ret_idx);

/* Sees to it that the block comes up to DRAM. 0: it is there; YK_MISS: it is nowhere; YK_PENDING: it
 * is on its way, and `raised` will be called with the token (0: nobody waits); -YK_EAGAIN: too many
 * are. deadline_ns: of waiting for a place; 0 = none. */
int yk_store_raise(struct yk_store *store, uint32_t ns, uint64_t epoch, const void *key,
                   uint32_t key_len, unsigned prio, uint64_t deadline_ns, uint64_t token);

/* What was changed since the last call needs this ticket to be durable before it is acknowledged; 0 =
 * nothing does. yk_store_durable: 1, 0, or -YK_EIO as yk_ssd_durable. */
uint64_t yk_store_ticket_take(struct yk_store *store);
/* One ticket for what two wait for. */
uint64_t yk_store_ticket_join(uint64_t a, uint64_t b);
int yk_store_durable(const struct yk_store *store, uint64_t ticket);

/* Before a stop, when nobody asks any more: what DRAM alone has is written to SSD, the most valuable
 * first, until the deadline (monotonic); then the policies are empty. Without an SSD tier: nothing. */
void yk_store_ssd_settle(struct yk_store *store, uint64_t deadline_ns);

/* Somebody has waited long enough for len bytes: blocks that are still to be written to SSD make room unwritten,
 * in their order, and if they are too few, others that a policy chooses. Their memory is free when nobody
 * holds it. */
void yk_store_ssd_hurry(struct yk_store *store, uint64_t len);

/* Ends the SSD tier, while its owner can still be woken; close does so, too. clean: what is queued is
 * written. Blocks for some seconds at most. */
void yk_store_ssd_close(struct yk_store *store, int clean);

/* Takes what the devices have done; moves what waits for them on. */
void yk_store_ssd_poll(struct yk_store *store);

/* The first `bytes` of the segment's payload are populated: they may be registered with the devices. */
void yk_store_ssd_mem_ready(struct yk_store *store, uint64_t bytes);

/* Is anything under way between the tiers, or on the devices? (Then the loop must not doze.) */
int yk_store_ssd_busy(const struct yk_store *store);

/* ---- upkeep
 * -------------------------------------------------------------------------------------------- */

/* Takes the access events of all clients; before each decision of a policy. */
void yk_store_drain(struct yk_store *store);

/* Reclaims ahead of need, sweeps expired and outdated blocks, frees what no hazard names any more.
 * Bounded work; returns 1 when there is more to do at once. */
int yk_store_tick(struct yk_store *store);

/* 1 when free space is below the mark at which reclaim begins: a tick is due. */
int yk_store_short(const struct yk_store *store);

/* Adds what the clients counted in their pages since the last call. */
void yk_store_count_clients(struct yk_store *store);

/* Sets each client's doze flag: while set, clients ask to be drained when their ring is half full.
 */
void yk_store_doze(struct yk_store *store, int doze);

/* Holds a block for the node itself (a payload that is being sent): a hazard in the node's own
 * client slot. Returns a hazard slot or -YK_ELIMIT. */
int yk_store_hold(struct yk_store *store, uint32_t idx);
void yk_store_unhold(struct yk_store *store, int hold);

/* Runs the compactor for a bounded while; returns moves made. want_bytes as yk_alloc_compact_begin.
 */
uint32_t yk_store_compact(struct yk_store *store, uint64_t want_bytes, uint32_t max_moves);

/* The same ahead of need, for when there is nothing else to do: at most max_bytes are copied, and
 * nothing while less than `percent` of the tier lies in fragments, or nothing has changed since it
 * last found nothing to gain. */
uint32_t yk_store_compact_idle(struct yk_store *store, uint32_t percent, uint64_t max_bytes);

#ifdef __cplusplus
}
#endif

#endif
