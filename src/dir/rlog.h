/* SPDX-License-Identifier: Apache-2.0
 *
 * The durable log of removes (docs/decisions/0014; RULES R10): for each slot the terms that this node has seen, how
 * far it has applied the removes, and the removes that somebody may still need. One file for a node.
 *
 * Every change below takes effect in memory at once, and is appended to a buffer; it *counts* when what it was
 * given as its ticket is durable (yk_dir_rlog_durable). Writing never happens inside a change: the caller asks for
 * the next piece of work, has it done on a thread that may block, and hands it back:
 *
 *     if (yk_dir_rlog_begin(log, &io))     owner; many changes make one piece, with one fdatasync
 *         yk_dir_rlog_io(&io);             any thread; touches nothing but io
 *     yk_dir_rlog_end(log, &io);           owner; tickets are durable now, or the log has failed for good
 *
 * What failed to be written or synced is never written again as if nothing had happened: the log stays failed,
 * and its node must not answer for what is not durable.
 *
 * File: a header, then frames, one a piece of work, each written when the one before it was durable; a frame has a
 * checksum of its head and one of its body, each record in it has two of its own. What ends in a frame that is not
 * whole, with no good frame behind it, was cut by a crash: it is cut off. A bad frame with a good one behind it
 * is rot: its good records are taken; a slot whose record is bad has lost its log, and if even that cannot be
 * told, all slots have, until a later record states a slot's whole state. Rot in the last frame looks like a cut.
 * When the file has grown to twice what is alive, its state is written to PATH.new, some with each piece of work,
 * while changes go to both, and renamed.
 *
 * Threads: one caller at a time, but for yk_dir_rlog_io. Nothing blocks but open, close and yk_dir_rlog_io.
 */
#ifndef YK_DIR_RLOG_H
#define YK_DIR_RLOG_H

#include "dir/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The number of a remove in its slot; ordered by term, then rseq. {0, 0}: before all. */
struct yk_dir_num {
    uint64_t term, rseq;
};
static inline int yk_dir_num_cmp(struct yk_dir_num a, struct yk_dir_num b) {
    if (a.term != b.term)
        return a.term < b.term ? -1 : 1;
    return a.rseq < b.rseq ? -1 : a.rseq > b.rseq;
}

struct yk_dir_remove {
    struct yk_dir_num origin; /* the number under which it began */
    struct yk_dir_num num;    /* its number now */
    struct yk_dir_key key;
    uint64_t hash; /* yk_dir_hash of the key: it says the slot */
    uint64_t gen;  /* not 0: of that generation at that member alone */
    uint32_t member;
    uint64_t time_s; /* when it was logged first here (wall clock); 0 when given: now */
};

/* What is known of a slot besides its removes. */
struct yk_dir_rlog_slot {
    uint64_t seen; /* highest term seen of anybody */
    uint64_t led;  /* highest term in which this node began to own it */
    struct yk_dir_num last, base, forgot; /* last applied; complete behind it; highest origin forgotten */
    uint32_t removes;
    uint8_t lost; /* the log is not what it was: the slot's blocks must be dropped, then replace (0014, "reach") */
};

#define YK_DIR_RLOG_REMOVES_MAX 16384u /* of a slot */

struct yk_dir_rlog;

struct yk_dir_rlog_opts {
    const char *path;  /* its folder exists; NULL: no file, `image` instead */
    const void *image; /* path NULL: bytes of a file or of yk_dir_rlog_image; NULL: there is none. Borrowed by open */
    size_t image_len;
    uint32_t keep_removes, keep_s; /* of a slot beyond need; 0 = 1,000 and 3,600 */
    uint32_t max_kept_bytes;       /* of all slots beyond need; 0 = 64 MiB */
    uint32_t max_bytes;            /* removes of all slots, needed or not; 0 = 256 MiB */
    uint32_t max_buffer;           /* changes not yet handed to begin; 0 = 16 MiB */
    uint32_t compact_min;          /* no smaller file is compacted; 0 = 4 MiB */
};

/* What open found. */
struct yk_dir_rlog_report {
    uint8_t created;       /* there was no file: a node with blocks must take all slots for lost */
    uint64_t cut_bytes;    /* of an unfinished frame at the end */
    uint32_t rotten;       /* bad frames with good ones behind them */
    uint32_t lost_slots;
};

/* May block. -YK_EIO, -YK_EPERM, -YK_ENOENT (no folder), -YK_EBUSY (another process has it), -YK_EVERSION, -YK_ECORRUPT
 * (not such a file, or its head is rotten: the text says what to do), -YK_ETOOBIG, -YK_ENOMEM. */
int yk_dir_rlog_open(const struct yk_dir_rlog_opts *opts, struct yk_dir_rlog **ret_log,
                     struct yk_dir_rlog_report *ret_report, struct yk_err *err);
/* No io may be under way. What no end has made durable is lost, as in a crash. NULL is fine. */
void yk_dir_rlog_close(struct yk_dir_rlog *log);

/* The highest terms that a log knows, for who wants them before it opens it: 0 for a slot without, and all 0 where
 * there is no file. Opens, reads and closes it: may block, errors as of open; then all are 0. */
int yk_dir_rlog_terms(const char *path, uint64_t ret_terms[YK_DIR_SLOTS], struct yk_err *err);

/* ---- changes --------------------------------------------------------------------------------------
 *
 * ret_ticket (NULL: nobody waits): durable when yk_dir_rlog_durable reaches it. All: 0, or -YK_EIO: the log has failed;
 * -YK_EAGAIN: the buffer is full; -YK_ELIMIT: too many removes (of the slot or in all); -YK_ENOMEM; -YK_EINVAL.
 * Then nothing was changed. */

/* A higher term was seen, led; lower ones change nothing (0, ticket 0). */
int yk_dir_rlog_seen(struct yk_dir_rlog *log, uint32_t slot, uint64_t term, uint64_t *ret_ticket);
int yk_dir_rlog_led(struct yk_dir_rlog *log, uint32_t slot, uint64_t term, uint64_t *ret_ticket);

/* The next remove, num > last: becomes last; if its origin stands here it takes the new number, else it is logged
 * unless its origin has been forgotten. Copies the key. Whether num may be the next is the caller's to say. */
int yk_dir_rlog_remove(struct yk_dir_rlog *log, const struct yk_dir_remove *remove, uint64_t now_s,
                       uint64_t *ret_ticket);
/* One of another member's log, for a new owner: logged with the number that it has there; last stays. YK_MISS: this
 * node has applied it (yk_dir_rlog_has), nothing is done. */
int yk_dir_rlog_merge(struct yk_dir_rlog *log, const struct yk_dir_remove *remove, uint64_t now_s,
                      uint64_t *ret_ticket);
/* As the owner of a new term: all removes, in the order of their origins, get numbers (term, 1...); last is the
 * last of them, or (term, 0). */
int yk_dir_rlog_renumber(struct yk_dir_rlog *log, uint32_t slot, uint64_t term, uint64_t *ret_ticket);
/* Another's log in place of this slot's (removes in any order; none: the slot begins anew there). Terms never fall,
 * `lost` is over. All or nothing, after a crash too. state->removes and lost are not looked at. */
int yk_dir_rlog_replace(struct yk_dir_rlog *log, uint32_t slot, const struct yk_dir_rlog_slot *state,
                        const struct yk_dir_remove *removes, uint32_t count, uint64_t now_s, uint64_t *ret_ticket);

/* All removes up to num are done: no longer needed. Not on disk: after a start everything is needed till it is
 * said again. */
void yk_dir_rlog_done(struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_num num);
/* Forgets what is not needed and too much or too old, the oldest first, at most about 1,000 removes a call; base
 * and forgot rise. 1: call again soon; 0. Failures as above. */
int yk_dir_rlog_trim(struct yk_dir_rlog *log, uint64_t now_s);

/* ---- looking -------------------------------------------------------------------------------------- */

void yk_dir_rlog_slot(const struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_rlog_slot *ret);
/* Applied before? Its origin stands here, or was forgotten. */
int yk_dir_rlog_has(const struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_num origin);
/* The remove with the lowest number above `after`: 1, *ret valid until the next change of the slot; 0: none. */
int yk_dir_rlog_next(const struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_num after,
                     struct yk_dir_remove *ret);
/* Is there a remove of this key with a number above `after` (0014, "Copy")? gen and member count not: one of a
 * single generation does not count. */
int yk_dir_rlog_removed(const struct yk_dir_rlog *log, const struct yk_dir_key *key, uint64_t hash,
                        struct yk_dir_num after);

/* ---- making it durable ---------------------------------------------------------------------------- */

/* A piece of work. Its fields are the log's, but for status and text: how it ended. */
struct yk_dir_rlog_io {
    int status;
    char text[YK_ERR_TEXT_MAX];
    uint64_t ticket;
    int fd;           /* -1: there is no file */
    const void *data; /* a frame; len 0: none */
    size_t len;
    uint64_t offset;
    /* While the file is compacted: */
    const char *new_path; /* NULL: it is not */
    const char *path;     /* not NULL: the last piece; the new file gets this name, the old one is closed */
    int new_fd;           /* -1: to be made */
    int dir_fd;
    const void *new_data;
    size_t new_len;
    uint64_t new_offset;
};

/* 1: *ret_io is to be done; 0: there is nothing to do, or one is under way; -YK_EIO: the log has failed. */
int yk_dir_rlog_begin(struct yk_dir_rlog *log, struct yk_dir_rlog_io *ret_io);
void yk_dir_rlog_io(struct yk_dir_rlog_io *io);
/* 0, or what failed and why: from now on every change is -YK_EIO. */
int yk_dir_rlog_end(struct yk_dir_rlog *log, const struct yk_dir_rlog_io *io, struct yk_err *err);
/* Up to this ticket all changes are on disk. Never falls. */
uint64_t yk_dir_rlog_durable(const struct yk_dir_rlog *log);
/* 0, or the status with which it failed. */
int yk_dir_rlog_failed(const struct yk_dir_rlog *log);
/* What failed, and why; "" while nothing has. Valid until close. */
const char *yk_dir_rlog_text(const struct yk_dir_rlog *log);

/* Without a file: what is durable, as a file would have it. Valid until the next end. */
const void *yk_dir_rlog_image(const struct yk_dir_rlog *log, size_t *ret_len);

struct yk_dir_rlog_counts {
    uint64_t removes, remove_bytes; /* in memory */
    uint64_t file_bytes, buffered_bytes, records, syncs, compactions;
};
void yk_dir_rlog_counts(const struct yk_dir_rlog *log, struct yk_dir_rlog_counts *ret);

#ifdef __cplusplus
}
#endif

#endif
