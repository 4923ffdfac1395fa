/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies that are wanted (docs/decisions/0017): what copy.c, take.c, repair.c and task.c share with each other and
 * with whoever else in this folder wants a block to be somewhere.
 *
 *   copy.c    the coordinator: a block shall have so many copies, one of them at a certain member
 *   take.c    the target of one: pulls it, keeps it, and answers when its owners know of it
 *   give.c    the source of a move: others get the block, then it goes from here
 *   repair.c  the owner of slots: what has lost a copy
 *   task.c    what was asked for by name, with an id and a state
 *
 * Threads: the directory's loop.
 */
#ifndef YK_DIR_COPY_PRIV_H
#define YK_DIR_COPY_PRIV_H

#include "dir/dir_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DIR_COPIES_MAX  4096u /* wanted at a time */
#define DIR_COPIES_BUSY 64u   /* of them under way */
#define DIR_TAKES_MAX   64u   /* for others, at a time; what is more is refused */
#define DIR_TASKS_MAX   1024u
#define DIR_KEEPS_MAX   (DIR_TASKS_MAX / 4u) /* of them under way for hot chains, of which there may always be one more */

/* ---- copy.c ------------------------------------------------------------------------------------------ */

/* What becomes of this node's own copy when others have what is wanted, and have said so by a TAKE (copy.c). */
enum dir_leave { DIR_STAYS, DIR_GOES, DIR_LENT }; /* of a move; of a drain: it is a guest */

struct dir_copy_want {
    struct yk_dir_key key; /* copied */
    uint64_t epoch;
    uint32_t wanted; /* copies in all, 1 to YK_DIR_COPIES_MAX; guests don't count, nor those of members that drain */
    uint32_t to;     /* a member that shall have one; YK_DIR_NOBODY: whichever */
    /* This node has just committed it: it counts once it is published, and is made a guest where the others are
     * enough (a preferred node). 0: whoever the owner of its slot names has it. */
    uint8_t here;
    uint64_t gen;    /* of that one: another one of this key stays what it is */
    uint8_t leave;   /* enum dir_leave; with here. The own copy does not count then */
    uint8_t room;   /* only members that have room for it, without evicting */
    uint8_t xclass; /* enum yk_xfer_class of the reads */
    uint64_t deadline_ns;
};

struct dir_copy_end {
    /* 0: all of it; YK_FEWER: there is one copy at least; YK_MISS: nobody has it (any more); -YK_ETIMEDOUT; -YK_ESTALE,
     * -YK_ECONFLICT and others: as the last target said. */
    int status;
    uint32_t copies; /* that count */
    uint64_t bytes;  /* of the block; 0: not known */
    const char *text; /* what was short; "" */
    /* With `leave`: 0: others have it, and it went from here or is lent; -YK_EBUSY: it is pinned here, or somebody counts on it. */
};

/* done comes once, later, on the loop, at the latest soon after the deadline or at a stop. 0, -YK_EAGAIN (too many),
 * -YK_ENOMEM. */
int dir_copy_start(struct yk_dir *d, const struct dir_copy_want *want,
                   void (*done)(void *arg, const struct dir_copy_end *end), void *arg);
/* Those that wait for a time; returns how many there are. */
uint32_t dir_copies_look(struct yk_dir *d, uint64_t now_ns);

/* This node keeps a copy for somebody else: no coordinator here that counts on another one makes it a guest any more. */
void dir_copies_keep(struct yk_dir *d, const struct yk_dir_key *key, uint64_t hash);

/* A job for dir_to_loop: a client's put (node/pool.h). NULL: no memory. Any thread. */
struct dir_job *dir_copy_wish(struct yk_dir *d, const struct yk_pool_copies *want);

/* ---- take.c ------------------------------------------------------------------------------------------ */

/* A peer wants this node to have a copy. */
int dir_take_serve(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r,
                   const struct yk_peer_reply_to *to);
/* This node itself does. done as that of a reply: 0, or why not. 0, -YK_EAGAIN, -YK_ENOMEM. */
int dir_take_start(struct yk_dir *d, const struct yk_dirw_take *want, void (*done)(void *arg, int status), void *arg);
uint32_t dir_takes_look(struct yk_dir *d, uint64_t now_ns);

/* ---- give.c: the source of a move ----------------------------------------------------------------------- */

struct dir_give_want {
    struct yk_dir_key key; /* copied */
    uint64_t epoch, deadline_ns;
    uint32_t to; /* a member; YK_DIR_NOBODY: whichever */
};
/* This node lets others have its copy, and gives it up. done comes once, later, on the loop. 0, -YK_EAGAIN, -YK_ENOMEM. */
int dir_give_start(struct yk_dir *d, const struct dir_give_want *want,
                   void (*done)(void *arg, int status, uint64_t bytes, const char *text), void *arg);
/* A peer wants that. */
int dir_give_serve(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r,
                   const struct yk_peer_reply_to *to);

/* ---- repair.c ---------------------------------------------------------------------------------------- */

/* The map has changed: perhaps copies were lost, or there is somebody to take one. */
void dir_repair_map(struct yk_dir *d, const struct yk_dir_map *before, const struct yk_dir_map *now);
/* Every tick of the core, and the second timer. Returns 1 while there is something to be looked at. */
int dir_repair_look(struct yk_dir *d, uint64_t now_ns);

/* ---- task.c ------------------------------------------------------------------------------------------ */

enum dir_task_state { DIR_TASK_PENDING = 1, DIR_TASK_RUNNING, DIR_TASK_DONE, DIR_TASK_FAILED };

struct dir_task {
    uint64_t id; /* unique among this cluster's nodes */
    uint8_t kind, state;
    uint32_t from, to; /* members; of a move YK_DIR_NOBODY: whichever */
    int status;
    uint64_t begun_ms, ended_ms; /* wall clock */
    uint64_t bytes;
    char text[YK_ERR_TEXT_MAX]; /* why it failed */
    uint64_t epoch, deadline_ns; /* deadline_ns: of a move */
    uint32_t wanted_from;        /* as it was asked for */
    uint32_t ns_len, key_len;
    char ns[YK_DIR_NS_MAX + 1];
    unsigned char key[YK_KEY_MAX];
};

/* A new one, pending; or (*ret_old 1) the one of this kind, key and `to` that is under way. NULL: as many are under way
 * as the table has, or as may be of this kind; or no memory. Valid until it has ended and others come. */
struct dir_task *dir_task_new(struct yk_dir *d, enum yk_dirw_task_kind kind, const struct yk_dir_key *key, uint64_t epoch,
                              uint32_t from, uint32_t to, int *ret_old);
void dir_task_end(struct yk_dir *d, struct dir_task *task, int status, uint64_t bytes, const char *text);
/* TASK and TASKS of wire/dir.h. */
int dir_task_serve(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r,
                   const struct yk_peer_reply_to *to);
int dir_tasks_serve(struct yk_dir *d, const struct yk_peer_reply_to *to);
void dir_tasks_free(struct yk_dir *d);

#ifdef __cplusplus
}
#endif

#endif
