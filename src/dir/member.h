/* SPDX-License-Identifier: Apache-2.0
 *
 * One node's membership of its cluster (docs/decisions/0014, 0016): who is there, the map, the balancer.
 *
 * All that is said lies in the metadata under one prefix: `cluster`, `map`, `nodes/NAME` (on the node's
 * lease), `ns/NAME`, `drain/NAME`, `rebalance`, `balancer/` (election), and while an etcd that came back empty is filled
 * again `seed-map` and `seed/NAME` (on the node's lease). A thread of its own, `yolk-member`, compares what it sees there with what
 * should be and makes the next step towards that, so every step may fail, be repeated, or be found made.
 * Not on the metadata's thread: maps are written to disk before they are acted on, and an fsync must not
 * keep a lease from being kept alive.
 *
 *   STARTING --joins--> IN --finds itself expelled, or its incarnation replaced--> STARTING
 *      |                 ^
 *      |--was expelled--> RETURNING --yk_member_replayed--> (admitted)
 *   REFUSED: from STARTING, while something outside has to be put right (text); looked at again and again
 *
 * etcd away or hung: nothing changes but `good`; whoever was in stays in, with the last map. Who was stopped
 * past its lease learns from the map whether it was expelled.
 *
 * Clocks need not agree: no time of day is written, sent or compared. What ends a lease is etcd, by the time
 * that passed since it heard of the node; here only times are looked at that passed on this machine. Should
 * one run fast or slow, the node is early or late, and what it then writes is compared with what is there:
 * the map by its revision, the balancer's place by its election's term (rule R11).
 *
 * The state directory holds, written with fsync and rename: `map` (the newest seen), `node` (cluster, prefix,
 * name, incarnation), `spaces` (epochs and quotas), and `lock`. Without it a node is another node.
 *
 * Threads: any. Ops and done callbacks come on yolk-member, one at a time; they must not wait and must not
 * close the member. What they are given is valid until they return.
 */
#ifndef YK_DIR_MEMBER_H
#define YK_DIR_MEMBER_H

#include "dir/map.h"
#include "meta/meta.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_MEMBER_ADDRESS_MAX 255u /* bytes of "host:port" */
#define YK_MEMBER_LABEL_MAX   63u  /* of a zone, a version */
#define YK_MEMBER_SPACE_MAX   255u /* of a namespace's name */
#define YK_MEMBER_SPACES_MAX  4096u
#define YK_MEMBER_REBALANCE_MAX 159u
#define YK_MEMBER_WANTED      "wanted" /* of a rebalance: it has not ended */
#define YK_MEMBER_BALANCED    "balanced" /* so begins how it ended well */
#define YK_MEMBER_JOBS_MAX    64u /* changes asked for and not yet ended */

struct yk_member;

enum yk_member_phase {
    YK_MEMBER_STARTING = 1, /* the map does not have this life of the node */
    YK_MEMBER_IN,           /* it is a member */
    YK_MEMBER_RETURNING,    /* it was expelled; it has to replay the owners' logs, then yk_member_replayed */
    YK_MEMBER_REFUSED,      /* it cannot take part: text says why and what to do. (With an incarnation: it was
                               in, and keeps to the last map; what etcd has now is not its cluster's.) */
};

struct yk_member_state {
    enum yk_member_phase phase;
    uint32_t id;          /* 0: not known yet */
    uint64_t incarnation; /* of this life; 0: not joined, serve nobody else */
    uint64_t cluster;     /* 0: not known yet */
    uint8_t stale;        /* what this node holds may lack removes that it once acknowledged (its state
                             directory is older than its last life, or empty): it has to drop all of it, and its
                             log, before it serves others; then yk_member_dropped */
    uint8_t draining;
    uint8_t good;            /* its lease is held */
    uint8_t denied;          /* etcd refuses what it is asked: no time puts that right, `text` says what does */
    uint8_t leads;           /* it is the balancer */
    uint64_t away_since_ms;  /* not good: CLOCK_BOOTTIME of the last word from etcd; 0: none in this life */
    char text[YK_ERR_TEXT_MAX]; /* what is wrong and what to do; "" */
    char rebalance[YK_MEMBER_REBALANCE_MAX + 1]; /* YK_MEMBER_WANTED, or how the last one ended; "" */
};

struct yk_member_load {
    double lookups_per_s;
    uint64_t entries;
    uint64_t held_bytes; /* of all blocks that it has, in both tiers */
};

/* A node that lives, as it says itself. */
struct yk_member_node {
    char name[YK_DIR_NAME_MAX + 1];
    uint32_t id;
    uint64_t incarnation;
    char clients[YK_MEMBER_ADDRESS_MAX + 1], peers[YK_MEMBER_ADDRESS_MAX + 1], transfer[YK_MEMBER_ADDRESS_MAX + 1];
    char local[YK_MEMBER_ADDRESS_MAX + 1], host[YK_MEMBER_LABEL_MAX + 1]; /* for clients of its host, and which it is */
    char zone[YK_MEMBER_LABEL_MAX + 1], version[YK_MEMBER_LABEL_MAX + 1];
    uint64_t capacity_bytes;
    struct yk_member_load load;
};

struct yk_member_space {
    char name[YK_MEMBER_SPACE_MAX + 1];
    uint64_t epoch;       /* only grows */
    uint64_t quota_bytes; /* 0: none; YK_MEMBER_NO_SPACE */
    uint32_t copies;      /* of puts that name none; 0: one */
    uint32_t priority;    /* of shares of memory; 0: as all */
    uint64_t guarantee_bytes; /* likewise; 0: none */
    uint64_t version; /* how often the last three were changed; the member's: in a change it is not looked at */
};
/* In place of a quota: it was removed, with all blocks of lower epochs. It is there again, at that epoch or a higher one,
 * when somebody asks for any other change of it. */
#define YK_MEMBER_NO_SPACE ((uint64_t)INT64_MAX)
#define YK_MEMBER_KEEP_QUOTA UINT64_MAX /* in a change: as it is */
#define YK_MEMBER_KEEP_COPIES UINT32_MAX
#define YK_MEMBER_KEEP_PRIORITY UINT32_MAX
#define YK_MEMBER_KEEP_GUARANTEE UINT64_MAX

struct yk_member_ops {
    /* A newer map, on disk already. The first may be the disk's own, before etcd was heard. */
    void (*map)(void *arg, const struct yk_dir_map *map);
    /* A node came or says something new of itself; gone: its lease ended (the map says if it is expelled). */
    void (*node)(void *arg, const struct yk_member_node *node, int gone);
    /* A namespace is new, or something of it has changed; on disk already. */
    void (*space)(void *arg, const struct yk_member_space *space);
    /* Something of it has changed. A map that a phase comes from is told before it. */
    void (*state)(void *arg, const struct yk_member_state *state);
    void *arg;
};

/* All is copied. Zero means the default in brackets. */
struct yk_member_opts {
    struct yk_meta *meta;      /* borrowed until close */
    const char *prefix;        /* without '/' at its end ["yolk"] */
    const char *dir;           /* the state directory; made if its parent is there */
    const char *name;          /* letters, digits, '.', '-', '_' */
    const char *clients, *peers, *transfer; /* addresses; NULL: none */
    const char *local;                      /* "unix:...", for clients of this host; NULL: none */
    const char *zone, *version;
    uint64_t capacity_bytes;
    uint32_t lease_ms;   /* [3,000] */
    uint32_t grace_ms;   /* how long an etcd that came back empty waits for the last map's members, and members
                            that nobody has heard of since etcd was away are spared [10,000] */
    uint32_t birth_ms;   /* how long a node without a past leaves an empty etcd to those that have one [2,000;
                            embedded: not at all] */
    uint32_t load_ms;    /* between two reports of its load, at least [5,000] */
    uint32_t balance_ms; /* the interval of balance.h [10,000] */
    const uint64_t *terms; /* of YK_DIR_SLOTS: the highest that this node's log knows; NULL: none */
    struct yk_member_ops ops;
};

/* Reads the state directory and starts the thread; etcd need not be there. Errors, with what to do:
 * -YK_EINVAL (options; the directory is another node's), -YK_EBUSY (another process has the directory),
 * -YK_EPROTO, -YK_EVERSION (its files), -YK_EIO, -YK_ENOMEM. */
int yk_member_open(const struct yk_member_opts *opts, struct yk_member **ret_member, struct yk_err *err);

/* Ends jobs with -YK_ECANCELED and waits for the thread, at most about 5 s. leave: the lease is given up, so
 * that the node is expelled at once; else its lease runs out, unless it is back before. NULL is fine. */
void yk_member_close(struct yk_member *member, int leave);

void yk_member_state(const struct yk_member *member, struct yk_member_state *ret_state);

/* When etcd was last heard while this node was surely a member (CLOCK_BOOTTIME): its key stood on its lease, and the
 * map that names it was etcd's. 0: not yet in this life. */
uint64_t yk_member_sure_ms(struct yk_member *member);

/* What this node serves as an owner; told to the others now and then. */
void yk_member_load(struct yk_member *member, const struct yk_member_load *load);

/* This node cannot reach a member, or can again: no slots are moved to it. Ids that are none are ignored. */
void yk_member_suspect(struct yk_member *member, uint32_t id, int suspect);

/* A term that came in a message: remembered for an etcd that comes back empty. Where the map in etcd stays below it
 * (it was filled while nobody who knew that term was there), this node raises it there. */
void yk_member_term(struct yk_member *member, uint32_t slot, uint64_t term);

/* An epoch that came in a message, of `len` bytes' name: told by `space` when it is on disk, and remembered likewise.
 * One that finds no room among those that wait is passed over: it comes again. */
void yk_member_epoch(struct yk_member *member, const char *name, uint32_t len, uint64_t epoch);

/* All that was held when the state said `stale` is gone. */
void yk_member_dropped(struct yk_member *member);

/* The replay for this return is over: the node is admitted, unless that was for an earlier incarnation. */
void yk_member_replayed(struct yk_member *member, uint64_t incarnation);

/* why not NULL: this node keeps out of the cluster until NULL is said. Its lease is given back, so that it is expelled at
 * once; it is STARTING, with that text, and whatever comes joins in a new incarnation. */
void yk_member_hold(struct yk_member *member, const char *why);

/* Changes in etcd. 0, and then done comes once, soon after timeout_ms at the latest; or -YK_EAGAIN (too many
 * under way), -YK_EINVAL, -YK_ENOMEM. Ends with 0; -YK_EGONE (etcd is away: nothing was changed);
 * -YK_ETIMEDOUT (it may have been); -YK_ELIMIT; -YK_ECANCELED; or what the metadata says. */
typedef void (*yk_member_done_fn)(void *user, int status, const char *text);

/* A namespace's epoch, upwards (0: as it is), and quota. -YK_ESTALE: the epoch is higher already. With
 * YK_MEMBER_NO_SPACE the epoch rises to a new one. What it has become is told by `space` before done, also where it is no
 * news. */
int yk_member_set_space(struct yk_member *member, const struct yk_member_space *space, uint32_t timeout_ms,
                        yk_member_done_fn done, void *user);

/* A node shall own no slots (or may again). Written down; the balancer does it. -YK_ENOENT: no such node. */
int yk_member_drain(struct yk_member *member, const char *name, int drain, uint32_t timeout_ms,
                    yk_member_done_fn done, void *user);

/* An expelled node's name goes from the map for good: nobody waits for it, and who comes under it is new, and drops
 * what it holds. -YK_ENOENT: no such node; -YK_EBUSY: it is not expelled, or lives (the text says what to do). */
int yk_member_forget(struct yk_member *member, const char *name, uint32_t timeout_ms, yk_member_done_fn done,
                     void *user);
/* The balancer shall even slots out now (yk_balance_hurry). Done when it is written down, and this node's state says
 * so; that says, too, how it ended. */
int yk_member_rebalance(struct yk_member *member, uint32_t timeout_ms, yk_member_done_fn done, void *user);

#ifdef __cplusplus
}
#endif

#endif
