/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the protocol share (core.h): core.c (in and out, maps, terms), holder.c (what this node
 * publishes, applies and catches up with), owner.c (what it does for slots that it owns).
 *
 * Both halves of a slot are written so that nothing depends on which event came last: an event changes state, and
 * settle() of the half then does whatever that state allows and has not been done yet.
 *
 * Applying comes before logging: what is in the log has been taken out of this node, over a crash too. While
 * that is under way the removes stand in a batch, one a slot, which may_commit looks at as well.
 *
 * Threads: as core.h.
 */
#ifndef YK_DIR_CORE_PRIV_H
#define YK_DIR_CORE_PRIV_H

#include "dir/core.h"
#include "dir/core_msg.h"
#include "dir/held.h"
#include "dir/rlog.h"
#include "dir/table.h"

#include <string.h>

enum {
    YK_CORE_RETRY_MS = 100,      /* until something is sent again, doubled up to: */
    YK_CORE_RETRY_MAX_MS = 2000, /* so a member that is away costs a message a slot and 2 s */
    YK_CORE_TICK_MS = 20,        /* while something is under way; else: */
    YK_CORE_IDLE_MS = 500,
    YK_CORE_STREAMS = 16,        /* slots that publish to one owner at once; each has one message under way */
    YK_CORE_PIECE = 64 << 10,    /* bytes from which a piece of a snapshot goes; 16 of 72 KiB at most for an owner */
    YK_CORE_NOTES = 64 << 10,    /* bytes of messages to itself that are taken at a time: half a millisecond */
    YK_CORE_REPLAYS = 256,       /* slots that a returning node catches up with at once */
    YK_CORE_BATCH = 256,         /* removes in a message */
    YK_CORE_ASKED = 4096,        /* removes of a slot that somebody waits for; and of all slots: */
    YK_CORE_ASKED_ALL = 65536,
    YK_CORE_DROPS = 1024,        /* conflicting copies that are to go, as the owner and as the holder */
    YK_CORE_SWEEP = 2048,        /* places of the table looked at in a tick */
    YK_CORE_DIGEST_MS = 100,     /* a node that holds blocks in all slots tells all its digests in 7 minutes, 9 KB a minute */
    YK_CORE_DIGESTS = 8,         /* in a tick, which may come late */
    YK_CORE_DOUBT_MAX = 63,      /* digests passed over at most while they differ for good (a table that is full) */
};

/* When to send again. at 0: nothing waits. */
struct yk_core_retry {
    uint64_t at_ms;
    uint32_t wait_ms;
};

/* One remove that is being applied here, or one copy to drop. Its address is the token given to ops. */
struct yk_core_work {
    struct yk_core_work *next;
    enum { YK_WORK_REMOVE, YK_WORK_DROP_COPY, YK_WORK_DROP_SLOT } kind;
    enum { YK_WORK_ASKED, YK_WORK_AGAIN, YK_WORK_DONE } state;
    uint8_t found;      /* it was here */
    uint16_t slot;
    uint32_t from;      /* DROP_COPY: whom to answer */
    uint64_t gen;
    uint64_t token, deadline_ms; /* of who waits for it, at the owner */
    uint8_t waited;              /* somebody does */
    struct yk_dir_remove remove; /* its key points behind the struct */
};

/* What is applied before it is logged; one for a slot. */
enum yk_core_batch {
    YK_BATCH_NONE,
    YK_BATCH_REMOVE, /* from the owner */
    YK_BATCH_BEGIN,  /* this node as the owner begins removes */
    YK_BATCH_MERGE,  /* it takes over a member's log */
    YK_BATCH_REPLAY, /* the owner's log in place of this node's */
};

/* A piece of a snapshot, kept until the owner has it: told again it must be the same. */
struct yk_core_piece {
    uint64_t seq, cursor; /* of the snapshot; where the next piece begins */
    uint32_t id, number, len;
    int more;
    unsigned char bytes[];
};

/* A slot as its holder has it. */
struct yk_core_hold {
    /* publishing */
    uint32_t owner; /* as of the map, while nothing higher than its term is known; else YK_DIR_NOBODY */
    uint64_t term;
    uint8_t queued, sent; /* it is in the owner's queue; a message is under way */
    uint8_t snapshot;     /* the owner needs one */
    uint32_t next;        /* in the queue */
    struct yk_core_retry retry;
    struct yk_core_piece *piece;
    /* removes */
    uint64_t ticket; /* of the newest change of the log that somebody is to be answered for */
    struct yk_dir_num solid; /* last, as far as it is durable */
    enum yk_core_batch batch;
    uint64_t batch_term;
    uint32_t busy; /* works not done */
    struct yk_core_work *works, **works_end;
    uint32_t found_count;
    uint64_t *found;    /* rseqs of the newest batch that were here; NULL: none ever */
    uint64_t told;      /* the round (told.c) that has to end before the newest removes are answered for */
    uint8_t unanswered; /* it held an answer back */
    uint32_t remover;   /* who sent it */
    uint32_t asker;     /* a new owner that waits for the log, YK_DIR_NOBODY: none */
    struct yk_dir_num ask_after;
    /* returning */
    uint64_t replayed;               /* for this incarnation */
    uint64_t replay_for, replay_term; /* what was asked is for that return, of that term's owner */
    uint8_t cut;               /* the log has lost what this node has answered for */
    uint8_t asked, collecting; /* for the owner's log; pieces of it have come */
    uint32_t collected;
    struct yk_core_retry replay_retry;
    struct yk_dir_num replay_after;
    struct yk_dir_rlog_slot replay_head;
};

/* What the owner of a slot knows of one member. */
struct yk_core_share {
    uint64_t incarnation, seq;
    uint32_t snap_id, snap_next; /* of the snapshot that comes in */
    uint8_t synced, snapping, gathered;
    uint8_t again, doubt, skip; /* shares.c, on_digest: a snapshot is wanted although it is synced */
    struct yk_dir_num after; /* gathering: how far */
    uint64_t acked, acked_expulsions, sent, told; /* rseqs; told: of `done` */
};

/* A remove that somebody waits for. */
struct yk_core_wish {
    struct yk_core_wish *next;
    uint64_t token, deadline_ms, rseq;
    uint8_t found, answered;
};

/* A slot that this node owns. */
struct yk_core_own {
    uint16_t slot;
    enum { YK_OWN_LEADING, YK_OWN_GATHERING, YK_OWN_ACTIVE } phase;
    uint8_t whole;
    uint64_t term;
    uint64_t sendable, done; /* rseqs */
    struct yk_dir_num base, forgot; /* highest of the logs gathered */
    uint32_t log_from;              /* whose log is being merged */
    struct yk_dir_num log_after;
    uint8_t log_last;
    struct yk_core_retry retry;
    struct yk_core_work *waiting, **waiting_end; /* removes not begun */
    struct yk_core_wish *wishes, **wishes_end;   /* of those begun, by rseq */
    uint32_t asked;                              /* both together */
    struct yk_core_share *share;                 /* by place in the map */
};

/* A copy that lost against one with other bytes, until its holder says that it is gone. */
struct yk_core_conflict {
    struct yk_core_conflict *next;
    uint16_t slot;
    uint32_t member;
    struct yk_core_retry retry;
    struct yk_dir_key key;
    uint64_t gen;
};

/* What this node, as a holder, has for one owner. By place in the map. */
struct yk_core_lane {
    uint32_t first, last; /* queue of slots; YK_DIR_SLOTS: none */
    uint32_t sent;
};

/* Rounds of told.c; the first has number 1. */
struct yk_core_told {
    uint64_t begun, ended, wanted;
    uint32_t left;              /* slots that the one under way waits for; 0: none is */
    uint64_t seq[YK_DIR_SLOTS]; /* up to which number; 0: not */
};

struct yk_core_note { /* a message of this node to itself */
    struct yk_core_note *next;
    uint32_t len;
    unsigned char bytes[];
};

/* A set of slots. */
struct yk_core_slots {
    uint64_t bits[YK_DIR_SLOTS / 64];
};
static inline void yk_core_add(struct yk_core_slots *set, uint32_t slot) {
    set->bits[slot / 64] |= 1ull << slot % 64;
}
static inline void yk_core_out(struct yk_core_slots *set, uint32_t slot) {
    set->bits[slot / 64] &= ~(1ull << slot % 64);
}
/* The first slot from `from` on; YK_DIR_SLOTS: none. */
uint32_t yk_core_next(const struct yk_core_slots *set, uint32_t from);

struct yk_dir_core {
    struct yk_dir_core_opts opts;
    struct yk_dir_table *table;
    struct yk_dir_held *held;
    struct yk_dir_rlog *log;
    struct yk_dir_rlog_io io;
    uint8_t io_busy, known;
    struct yk_dir_map *map;         /* NULL: none yet */
    const struct yk_dir_member *me; /* in it; NULL: it does not name this node */
    uint64_t now_ms;
    struct yk_core_slots unsettled, undurable, live, behind; /* live: something waits for a time; behind: for a log */
    struct yk_core_hold hold[YK_DIR_SLOTS];
    struct yk_core_own *own[YK_DIR_SLOTS];
    struct yk_core_told told;
    struct yk_core_lane *lane;
    uint32_t snapshots;                              /* begun; the id of the last */
    uint32_t digest_slot;                            /* whose digest comes next, */
    uint64_t digest_at_ms;                           /* and when */
    uint32_t replays;                                /* slots that wait for an owner's log */
    uint64_t replay_ticket, told_replayed;           /* told: for which incarnation */
    struct yk_core_work *drops;                      /* as the holder */
    struct yk_core_conflict *conflicts;              /* as the owner */
    uint32_t drop_count, conflict_count, asked;
    struct yk_core_note *notes, **notes_end;
    uint32_t notes_taken; /* bytes, since go_on or a tick */
    struct yk_dir_item *items; /* opts.batch of them */
    unsigned char *buf;        /* a message that is being made */
    struct yk_dir_core_counts counts;
};

/* ---- core.c: for both halves ---- */

/* Sends what is in core->buf, to itself too. */
void yk_core_send(struct yk_dir_core *core, uint32_t member, uint32_t len);
/* A message without items. */
void yk_core_tell(struct yk_dir_core *core, uint32_t member, struct yk_dir_msg msg);
/* The head of a message about a slot, in the newest term. */
struct yk_dir_msg yk_core_msg(const struct yk_dir_core *core, unsigned kind, uint32_t slot);
/* Place in the map; -1: it names no such member. */
int yk_core_place(const struct yk_dir_core *core, uint32_t member);
struct yk_dir_rlog_slot yk_core_slot(const struct yk_dir_core *core, uint32_t slot);
static inline uint64_t yk_core_seen(const struct yk_dir_core *core, uint32_t slot) {
    return yk_core_slot(core, slot).seen;
}
static inline uint64_t yk_core_wall_s(const struct yk_dir_core *core) {
    return core->opts.wall_s + core->now_ms / 1000;
}
static inline int yk_core_is(const struct yk_dir_core *core, enum yk_dir_state state) {
    return core->me != NULL && core->me->state == state;
}
static inline int yk_core_same_key(const struct yk_dir_key *a, const struct yk_dir_key *b) {
    return a->ns_len == b->ns_len && a->key_len == b->key_len && memcmp(a->ns, b->ns, a->ns_len) == 0 &&
           memcmp(a->key, b->key, a->key_len) == 0;
}
/* The log got something that somebody will be answered for. */
void yk_core_logged(struct yk_dir_core *core, uint32_t slot, uint64_t ticket);
static inline int yk_core_durable(const struct yk_dir_core *core, uint32_t slot) {
    return yk_dir_rlog_durable(core->log) >= core->hold[slot].ticket;
}
/* Again in wait_ms, which doubles; and from the shortest wait again. */
void yk_core_later(const struct yk_dir_core *core, struct yk_core_retry *retry);
void yk_core_soon(const struct yk_dir_core *core, struct yk_core_retry *retry);
static inline int yk_core_due(const struct yk_dir_core *core, const struct yk_core_retry *retry) {
    return retry->at_ms <= core->now_ms;
}

/* What every entry ends with: all that the state allows is done. */
void yk_core_rest(struct yk_dir_core *core);

/* ---- batch.c: what is applied before it is logged ---- */

/* Not in any list. NULL: no memory. */
void yk_work_ask(struct yk_dir_core *core, struct yk_core_work *work); /* has it applied */
struct yk_core_work *yk_work_new(uint32_t slot, const struct yk_dir_record *record);
/* A work of a batch, not begun; origin and num as in the record. NULL: no memory. */
struct yk_core_work *yk_batch_add(struct yk_dir_core *core, uint32_t slot, const struct yk_dir_record *record);
/* All works of the slot that are not done are asked of ops; the batch is over when they have been. */
void yk_batch_start(struct yk_dir_core *core, uint32_t slot, enum yk_core_batch batch, uint64_t term);
void yk_batch_drop(struct yk_dir_core *core, uint32_t slot); /* none is asked, or the core is closed */
/* Ends a batch that has been applied: it is logged, if the term is still that one. */
void yk_batch_settle(struct yk_dir_core *core, uint32_t slot);
void yk_batch_again(struct yk_dir_core *core, uint32_t slot); /* what failed */
int yk_batch_names(const struct yk_dir_core *core, uint32_t slot, const struct yk_dir_key *key);

/* ---- publish.c ---- */

void yk_publish_lanes(struct yk_dir_core *core); /* the map has changed: all lanes are empty */
void yk_publish_learn(struct yk_dir_core *core, uint32_t slot); /* the map, or a higher term */
void yk_publish_queue(struct yk_dir_core *core, uint32_t slot); /* if it has something to publish */
void yk_publish_go(struct yk_dir_core *core);                   /* what is queued, as far as it may */
int yk_publish_tick(struct yk_dir_core *core, uint32_t slot);   /* 1: something still waits */
void yk_publish_digests(struct yk_dir_core *core);              /* those that are due */
void yk_publish_answer(struct yk_dir_core *core, uint32_t from, const struct yk_dir_msg *msg);

/* ---- told.c ---- */

/* What was applied of the slot just now is answered for when all that has changed is published. */
void yk_told_want(struct yk_dir_core *core, uint32_t slot);
int yk_told(const struct yk_dir_core *core, uint32_t slot); /* it is */
void yk_told_look(struct yk_dir_core *core, uint32_t slot); /* an owner has confirmed something */
void yk_told_anew(struct yk_dir_core *core);                /* a new life: numbers begin again */
void yk_told_go(struct yk_dir_core *core);                  /* begins a round if one is wanted */

/* ---- holder.c ---- */

void yk_holder_learn(struct yk_dir_core *core, uint32_t slot);
void yk_holder_settle(struct yk_dir_core *core, uint32_t slot);
int yk_holder_tick(struct yk_dir_core *core, uint32_t slot); /* 1: something still waits */
void yk_holder_replays(struct yk_dir_core *core);             /* asks for logs, or tells that it has all */
void yk_holder_replayed(struct yk_dir_core *core, uint32_t slot, int failed);
/* The log behind msg's AFTER and up to `last`, as far as it fits; msg is completed. */
void yk_holder_tell_log(struct yk_dir_core *core, uint32_t to, struct yk_dir_msg *msg, struct yk_dir_num last);
int yk_holder_takes(const struct yk_dir_core *core, uint32_t slot); /* removes: its log is not behind */
void yk_holder_message(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg);
void yk_holder_dropped(struct yk_dir_core *core, struct yk_core_work *work);
void yk_holder_tick_drops(struct yk_dir_core *core);

/* ---- shares.c: what an owner knows of holders ---- */

void yk_share_reset(struct yk_core_share *share, uint64_t incarnation);
void yk_share_whole(struct yk_dir_core *core, struct yk_core_own *own); /* is it? */
void yk_share_want(struct yk_dir_core *core, struct yk_core_own *own);  /* asks who has sent no snapshot */
void yk_share_message(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from, struct yk_dir_msg *msg);
void yk_share_lose(struct yk_dir_core *core, uint32_t slot);
void yk_share_tick(struct yk_dir_core *core); /* conflicts */

/* ---- owner.c ---- */

void yk_owner_learn(struct yk_dir_core *core, uint32_t slot);
void yk_owner_members(struct yk_dir_core *core, struct yk_core_own *own, const struct yk_dir_map *before);
void yk_owner_lose(struct yk_dir_core *core, uint32_t slot);
void yk_owner_settle(struct yk_dir_core *core, uint32_t slot);
int yk_owner_tick(struct yk_dir_core *core, uint32_t slot);
void yk_owner_message(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg);
void yk_owner_merged(struct yk_dir_core *core, uint32_t slot, int failed);
/* What was to begin in that term will not. */
void yk_owner_gone(struct yk_dir_core *core, uint32_t slot, uint64_t term, uint64_t token);
/* A remove of the batch that it began, before its number: is it too late for one? Its waiter is told. */
int yk_owner_late(struct yk_dir_core *core, uint32_t slot, struct yk_core_work *work);
void yk_owner_begun(struct yk_dir_core *core, uint32_t slot, const struct yk_core_work *work, uint64_t rseq);

#endif
