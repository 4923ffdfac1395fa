/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's protocol (docs/decisions/0014) without clock and I/O: what a node does as the owner of slots
 * (owner.c) and as a holder of blocks (holder.c). Maps, messages, local changes and time come in; messages,
 * removals to apply, log records to write, and answers go out by ops. tests/unit/dir drives clusters of these
 * objects through random schedules of delays, losses, kills and restarts, and checks the properties of 0014.
 *
 * Threads: one caller at a time. Ops are called from inside the calls below and must not call back.
 */
#ifndef YK_DIR_CORE_H
#define YK_DIR_CORE_H

#include "base/status.h"
#include "dir/map.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_DIR_COPIES_MAX  8u            /* copies of a block that a look-up tells */
#define YK_DIR_NS_MAX      255u          /* bytes of a namespace's name */
#define YK_DIR_MESSAGE_MAX (256u << 10) /* bytes of a message between cores */

struct yk_dir_core;
struct yk_dir_rlog_io; /* rlog.h */

/* What is told of a block's tiers is a byte: bits 1 to 4 are those of enum yk_tier, bit 0 says that it is a guest
 * (pool.h), which does not count as a copy, and bits 5 to 7 how many copies are wanted in all, less one. 0: gone. */
#define YK_DIR_GUEST         1u
#define YK_DIR_TIERS(told)   ((told) & 0x1eu)
#define YK_DIR_WANTED(told)  (((unsigned)(told) >> 5) + 1u)
static inline uint8_t yk_dir_told(unsigned tiers, int guest, unsigned copies) {
    unsigned more = copies > 8u ? 7u : copies > 0 ? copies - 1u : 0;
    return (uint8_t)(tiers == 0 ? 0 : YK_DIR_TIERS(tiers) | (guest ? YK_DIR_GUEST : 0) | more << 5);
}

struct yk_dir_key {
    const char *ns;
    uint32_t ns_len;
    const void *key;
    uint32_t key_len;
};

/* A block that this node has, or (gone) had. */
struct yk_dir_block {
    struct yk_dir_key key;
    uint64_t group; /* hash of its chain's root; that of the key when there is none known */
    uint64_t epoch, gen, len, sum;
    uint8_t tiers; /* yk_dir_told; 0: gone */
};

struct yk_dir_copy {
    uint32_t member;
    uint8_t tiers; /* yk_dir_told */
    uint64_t incarnation, gen;
};

/* What a look-up of one key found. */
struct yk_dir_found {
    int status;     /* 0; YK_MISS; YK_PENDING: the slot is not whole: ask nodes themselves; -YK_EGONE: this node
                       does not own the slot (the asker's map is old); -YK_EAGAIN with group != 0: ask the group's slot */
    uint64_t group, epoch, len, sum;
    uint32_t count;
    struct yk_dir_copy copy[YK_DIR_COPIES_MAX];
};

struct yk_dir_core_ops {
    /* To the core of another member; at most YK_DIR_MESSAGE_MAX bytes, valid during the call. May be lost; what
     * must arrive is sent again by ticks. */
    void (*send)(void *arg, uint32_t member, const void *message, uint32_t len);
    /* Takes a key out of this node: all of it (gen 0), or that generation alone. When it is gone for every reader,
     * and stays gone over a crash, yk_dir_core_applied with the token: 0 or YK_MISS; anything else is tried
     * again. In the order of the calls. Returns 0; or -YK_ENOMEM: not now, it is asked for again by a tick. */
    int (*apply)(void *arg, const struct yk_dir_key *key, uint64_t gen, uint64_t token);
    /* Takes all blocks of a slot (by the keys' own hashes) out of this node, likewise. */
    int (*drop_slot)(void *arg, uint32_t slot, uint64_t token);
    /* A piece of work for the log: yk_dir_rlog_io(io) on a thread that may block, then yk_dir_core_synced. One at a
     * time; io is valid until then. NULL: the core does it by itself, blocking. */
    void (*sync)(void *arg, struct yk_dir_rlog_io *io);
    /* A remove that was asked for: 0 (done), YK_MISS (done, and no member had it), YK_PENDING (its deadline is over:
     * it goes on; missing: who has not applied it), -YK_ETIMEDOUT (its deadline was over before it had a number, and it
     * never gets one), -YK_EGONE (the slot has gone to another owner, which goes on with it if a member has logged it:
     * ask there again). Once for each token. */
    void (*removed)(void *arg, uint64_t token, int status, const uint32_t *missing, uint32_t missing_count);
    /* All that this node missed is applied and on disk: it may be admitted as of that incarnation (member.c does
     * that). Once for each return. */
    void (*replayed)(void *arg, uint64_t incarnation);
    /* A term of the slot came, higher than any that the log knew. NULL: nobody wants to know. */
    void (*term)(void *arg, uint32_t slot, uint64_t term);
    /* A member has published a block that it has in this epoch of a namespace: the namespace is there already. Once for
     * a run of such blocks, whether it is news or not. NULL: nobody wants to know. */
    void (*epoch)(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch);
    void *arg;
};

struct yk_dir_core_opts {
    uint64_t cluster;
    uint32_t self;
    /* The remove log's file (rlog.h); NULL: none, log_image instead (tests). A node whose log is new (it was lost, or
     * its disk is of a backup) must hold nothing of the cluster's: who opens it sees to that. */
    const char *log_path;
    const void *log_image;
    size_t log_image_len;
    uint32_t log_removes, log_seconds; /* kept for each slot beyond need; 0 = 1,000 and 3,600 */
    uint32_t batch; /* changes in a publication; 0 = 512 */
    uint32_t digest_ms; /* between two slots whose digest is told to its owner; 0 = 100; UINT32_MAX: never */
    uint64_t wall_s;      /* of the wall clock when now_ms is 0: ages of what the log keeps */
    uint64_t table_bytes, held_bytes; /* table.h, held.h; 0: their defaults */
    struct yk_dir_core_ops ops;
};

/* Opens or makes the log. -YK_EIO, -YK_ECORRUPT (what to do), -YK_EBUSY, -YK_EVERSION, -YK_ENOMEM. */
int yk_dir_core_open(const struct yk_dir_core_opts *opts, struct yk_dir_core **ret_core, struct yk_err *err);
void yk_dir_core_close(struct yk_dir_core *core);

/* A newer map; older ones are ignored. Borrowed during the call. */
void yk_dir_core_map(struct yk_dir_core *core, const struct yk_dir_map *map, uint64_t now_ms);
/* A message of another member's core. -YK_EPROTO: it cannot be read (the text says where); it changed nothing. */
int yk_dir_core_message(struct yk_dir_core *core, uint32_t from, uint64_t incarnation, const void *message,
                        uint32_t len, uint64_t now_ms, struct yk_err *err);
/* A block of this node came, changed or went. A node has one epoch of a namespace at a time: what it had of the key in
 * another one is gone. */
void yk_dir_core_block(struct yk_dir_core *core, const struct yk_dir_block *block);
/* The group of a block that this node has; 0: it has it not. */
uint64_t yk_dir_core_group(const struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t epoch);
/* The walk over all blocks of a start is over: what this node holds is known (until then it sends no snapshot). */
void yk_dir_core_known(struct yk_dir_core *core);
/* Changes were lost, and a walk over all blocks begins: what it does not tell by yk_dir_core_block, nor any change
 * since, is gone. That is found slot by slot by `unseen`, once it is over and has lost nothing. */
void yk_dir_core_walk(struct yk_dir_core *core);
void yk_dir_core_unseen(struct yk_dir_core *core, uint32_t slot);
void yk_dir_core_applied(struct yk_dir_core *core, uint64_t token, int status);
/* How late it is, before a call that does not say so and may number removes (applied, synced): who was stopped must not
 * number what nobody waits for any more. */
void yk_dir_core_time(struct yk_dir_core *core, uint64_t now_ms);
/* What `sync` asked for has ended. After a failure nothing is answered for any more: removes stay pending. No io may
 * be under way at close. */
void yk_dir_core_synced(struct yk_dir_core *core);
/* Why the log cannot be written any more; NULL: it can. Then the node must leave the cluster, and only a new core, in a
 * new incarnation, may take part again. Valid until close. */
const char *yk_dir_core_failed(const struct yk_dir_core *core);
/* Sends what came since, and again what was not answered; trims; gives up. After a run of the calls above, and when
 * it asked for. Returns when it wants to be called next, in ms from now. */
uint32_t yk_dir_core_tick(struct yk_dir_core *core, uint64_t now_ms);
/* Was it too much at a time for the calls above? Then yk_dir_core_go_on takes half a millisecond more of it; each 1: there
 * is more. It sends what came since, as a tick does, but looks at nothing that waits for a time. */
int yk_dir_core_has_more(const struct yk_dir_core *core);
int yk_dir_core_go_on(struct yk_dir_core *core, uint64_t now_ms);

/* As the owner: where is it? group 0: not known. Does not count as a use. */
void yk_dir_core_find(struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t epoch, uint64_t group,
                      struct yk_dir_found *ret_found);
/* The same for n keys, at most YK_DIR_FIND_MAX, their cache misses overlapped: groups[i] belongs to keys[i]. Of copies
 * only `count` are set. */
#define YK_DIR_FIND_MAX 64u
void yk_dir_core_find_many(struct yk_dir_core *core, const struct yk_dir_key *keys, const uint64_t *groups, uint32_t n,
                           uint64_t epoch, struct yk_dir_found *ret_found);

/* As the owner of the key's own slot: removes it in the whole cluster; `removed` is called with the token, at the
 * latest by the tick after the deadline. 0, -YK_EGONE (not the owner), -YK_EAGAIN (the slot's logs are not together
 * yet, or too many removes are under way: ask again), -YK_EIO (the log cannot be written). */
int yk_dir_core_remove(struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t deadline_ms, uint64_t token,
                       uint64_t now_ms);

/* As a holder that sends a copy: how far this node has applied the removes of the key's slot. */
struct yk_dir_stand {
    uint64_t term, rseq;
};
void yk_dir_core_stand(const struct yk_dir_core *core, const struct yk_dir_key *key, struct yk_dir_stand *ret);
/* As the receiver of a copy that was read at that stand: may it be committed? 1 or 0. Asked on the thread that
 * commits, or with the removal's own check after it (dir.c says how). */
int yk_dir_core_may_commit(const struct yk_dir_core *core, const struct yk_dir_key *key,
                           const struct yk_dir_stand *stand);

/* Slots whose log this node is still catching up with: where the owner's does not reach back far enough, what the
 * node holds of such a slot is dropped yet. YK_DIR_SLOTS before the first map. */
uint32_t yk_dir_core_behind(const struct yk_dir_core *core);
/* The owner of the first of them; YK_DIR_NOBODY: there is none, or no map yet. */
uint32_t yk_dir_core_waits_for(const struct yk_dir_core *core);

/* How far the changes of the slots that a block is told in have come: its own and that of its key (an alias). */
struct yk_dir_mark {
    uint64_t incarnation;
    uint32_t slot[2];
    uint64_t seq[2];
};
/* 1: it is held, *ret is its mark as of now; 0: it is not. */
int yk_dir_core_mark(const struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t epoch,
                     struct yk_dir_mark *ret);
/* Have the owners confirmed all up to the mark? 1; 0: not yet; -YK_ESTALE: this node has another incarnation since,
 * with other numbers: mark it anew. */
int yk_dir_core_is_told(const struct yk_dir_core *core, const struct yk_dir_mark *mark);

/* As the owner: all entries of a slot that is whole, some at a time, as yk_dir_table_walk. *cursor 0 at first. 1: there
 * is more; 0: that was all; -YK_EAGAIN: the slot is not whole; -YK_EGONE: it is another's. */
struct yk_dir_table_item;
int yk_dir_core_entries(const struct yk_dir_core *core, uint32_t slot, uint64_t *cursor, uint32_t steps,
                        void (*fn)(void *arg, const struct yk_dir_table_item *item), void *arg);

/* May this node serve others, and publish? (It is a member, and has replayed.) */
int yk_dir_core_serves(const struct yk_dir_core *core);

struct yk_dir_core_counts {
    uint64_t slots_owned, slots_whole, entries, entry_bytes, aliases; /* as the owner */
    uint64_t held, held_bytes, unpublished;                           /* as a holder */
    uint64_t finds, found, published, snapshots_sent, snapshots_taken, refused, removes, removes_pending, conflicts,
        conflicts_open, not_noted; /* not_noted: changes that the table had no room for */
    uint64_t digests_sent, digests_differed; /* as a holder, as the owner: what it knew was other than what was there */
    uint64_t log_records, log_bytes, log_failed;
};
void yk_dir_core_counts(const struct yk_dir_core *core, struct yk_dir_core_counts *ret);

#ifdef __cplusplus
}
#endif

#endif
