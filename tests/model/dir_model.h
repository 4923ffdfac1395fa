/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's protocol of removes (docs/decisions/0014, rules R10 and R11) as a model: what its
 * parts share.
 *
 * One slot. Up to three nodes; each holds copies, reads, and may be the owner; etcd is a register.
 * Two keys at most; remove number r is of key r. A copy is 0 (none), 1 (its put was acknowledged
 * before the remove began) or 2 (put after the remove was done). The network is a set: a message
 * once sent may be delivered at any later time, again and again, or never, in any order. A process
 * may take any time between two steps: that is what stopping it looks like to others.
 *
 * Owners' tables, publications and snapshots are not here: which copy is read is decided by who
 * holds it and by whom the reader takes for a member, whatever a table says.
 *
 * Threads: single-threaded.
 */
#ifndef YK_TESTS_MODEL_DIR_MODEL_H
#define YK_TESTS_MODEL_DIR_MODEL_H

#include "world.h"

enum { NODES = 3, OWNERS = 2, KEYS = 2, MAX_MSGS = 20 };
enum status { EXPELLED, RETURNING, MEMBER };
enum removal { NOT_ISSUED, ISSUED, DONE };
enum copy { NO_COPY, OLD, NEW };
enum msg_type { NO_MSG, REMOVE, ACK, TAIL, REPLAY, COPY };

/* What a scenario can leave out of the protocol. */
enum rule {
    RULE_NONE,
    RULE_TERM,           /* a lower term is refused */
    RULE_TERM_PERSISTS,  /* the highest term outlives a crash */
    RULE_DURABLE,        /* a remove is on disk before it is answered */
    RULE_NO_GAPS,        /* removes are applied in the order of their numbers */
    RULE_COPY_LOG,       /* a copy is dropped if its key was removed behind its source */
    RULE_COPY_REACH,     /* ... and if the log does not reach back to the source's last remove */
    RULE_GATHER,         /* a new owner takes over the members' logs */
    RULE_TAIL_ADOPTS,    /* who sends its log to a new owner refuses the old one from then on */
    RULE_ONCE,           /* a remove that is sent again is not applied again */
    RULE_REACH,          /* a returning node drops what the owner's log does not reach back to */
    RULE_ANNOUNCE,       /* a returning node is in etcd before the owner sends it the removes */
    RULE_COUNT_RETURN,   /* `done` waits for returning nodes */
    RULE_REPLAY_FIRST,   /* a returning node applies no remove before the replay */
    RULE_SERVE_AFTER,    /* ... and serves nobody */
    RULE_INCARNATION,    /* a replay counts for the return that it was made for */
    RULE_KNOWN_EXPELLED, /* `done` waits until members know of the expulsions that it counts on */
    RULE_NEW_LIFE,       /* an owner that restarts does not go on in its term */
    RULE_TRIM_DONE,      /* a log keeps what is not done */
    RULE_ORDER,          /* removes are sent again in the order in which they began */
    RULE_BEGUN,          /* what was applied is told by when it began, not by its newest number */
    RULE_SEED_EXPELLED,  /* an empty etcd is given the newest map, expulsions included */
    RULE_MAP_DURABLE,    /* a node's copy of the map is on disk */
    RULES
};

/* The map in etcd; nodes keep copies. */
struct map {
    uint8_t term, owner, exp; /* exp: expulsions so far */
    uint8_t status[NODES], inc[NODES];
};

/* Numbers of removes are term << 4 | sequence. */
struct log {
    uint8_t base;      /* everything done behind it is in num */
    uint8_t last;      /* the highest that was applied */
    uint8_t forgot;    /* the highest origin of a remove that is no longer here */
    uint8_t num[KEYS]; /* by which number remove r stands here; 0: it does not */
};

struct node {
    struct map view;
    struct map saved; /* the view as it is on disk; kept only where etcd is reset */
    struct log log;
    uint8_t serving; /* answers readers, takes copies */
    uint8_t inc;     /* of its return; 0: it does not return */
    uint8_t replayed;
    uint8_t seen, seen_ghost; /* highest term; the second is never lost, for property 5 */
    uint8_t soft;             /* removes that are not on disk (without RULE_DURABLE) */
    uint8_t copy[KEYS];
    /* As owner. */
    uint8_t led;      /* highest term that it began to own; on disk */
    uint8_t term;     /* that it owns the slot in; 0: none */
    uint8_t active;   /* it has what it needs of the others' logs */
    uint8_t gathered; /* from whom */
    uint8_t acked[NODES], acked_exp[NODES];
};

struct msg {
    uint8_t type, to, from, term;
    uint8_t a, b;   /* REMOVE: remove, number. ACK: number, exp. REPLAY: inc. COPY: key, copy */
    struct log log; /* TAIL, REPLAY; COPY: last */
};

/* A scenario: how much of what may happen. Thread: immutable. */
struct bounds {
    uint8_t nodes, removes;
    uint8_t empty; /* nodes that hold nothing at the beginning (the others hold all), a mask */
    uint8_t terms; /* highest */
    uint8_t expulsions, crashes, copies, puts, trims;
    uint8_t resets; /* of etcd */
};

struct state {
    struct map etcd;
    struct node node[NODES];
    uint8_t removal[KEYS], origin[KEYS]; /* origin: the number under which it was issued */
    uint8_t crashes, copies, puts, trims, resets;
    uint8_t bad;               /* enum bad */
    struct msg msgs[MAX_MSGS]; /* sorted, the empty ones last */
};

/* What is seen when it happens, not in a state. */
enum bad { FINE, LOWER_TERM, NEW_PUT_LOST, PENDING_LOST, TOO_MANY_MSGS };

/* What must happen somewhere in a scenario, so that it is known to explore something. */
enum note {
    SAW_DONE,
    SAW_RETURN,
    SAW_DROP,
    SAW_COPY,
    SAW_COPY_REFUSED,
    SAW_RESENT,
    SAW_PUT,
    SAW_TRIM
};

extern struct bounds dir_bounds;
extern enum rule dir_without; /* the rule that is left out */
extern uint32_t dir_ignored;  /* bits of enum bad that are not looked at */
extern const struct world_model dir_model;

#endif
