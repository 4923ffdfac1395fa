/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the log of removes (rlog.h). rlog.c: changes and pieces of work. rlog_slot.c: what is known of a slot, and
 * what a record does to it: a change is made by writing its record and applying that, so that a file that is read
 * leads where its writer was. rlog_file.c: frames, reading and writing the file.
 *
 * All little-endian. File: a head of 64 bytes: magic (u64), format (u32), 0 (u32), id (u64, random), zeros, hash of
 * all before (u64). Then frames, numbered from 1:
 *
 *     frame   magic (u32), bytes of the body (u32), id of the file (u64), number (u64), hash of the body (u64), hash
 *             of all before (u64); then the body: records, each padded to 8 bytes
 *     record  slot (u16), type (u8), 0 (u8), bytes of the body (u32), hash of the body (u64), hash of all before (u64);
 *             then the body
 *
 *     SEEN, LED   term
 *     REMOVE      remove: origin, num (each two u64), hash, gen, time (u64), member (u32), namespace, key (str8)
 *     MERGE       remove
 *     RENUMBER    term
 *     FORGET      num: all up to it are forgotten
 *     STATE       seen, led, last, base, forgot, lost (u8), count (u32), removes: everything of the slot
 *
 * Threads: as rlog.h says.
 */
#ifndef YK_DIR_RLOG_PRIV_H
#define YK_DIR_RLOG_PRIV_H

#include "dir/rlog.h"
#include "wire/codec.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RLOG_MAGIC       0x31676f6c656d6572ull /* "remelog1" */
#define RLOG_FORMAT      1u
#define RLOG_HEAD        64u
#define RLOG_FRAME_MAGIC 0x6d617246u /* "Fram" */
#define RLOG_FRAME       40u
#define RLOG_RECORD      24u

enum rlog_type { RLOG_SEEN = 1, RLOG_LED, RLOG_REMOVE, RLOG_MERGE, RLOG_RENUMBER, RLOG_FORGET, RLOG_STATE };

/* A remove in memory; namespace and key behind it. */
struct rlog_remove {
    struct yk_dir_num origin, num;
    uint64_t hash, gen, time_s;
    uint32_t member;
    uint8_t ns_len, key_len;
    char bytes[];
};

struct rlog_slot {
    uint64_t seen, led;
    struct yk_dir_num last, base, forgot, done;
    struct rlog_remove **removes; /* by num */
    uint32_t count, cap;
    uint8_t lost;
};

struct rlog_buf {
    unsigned char *data;
    size_t len, cap;
};

/* A file, or its image where there is none. */
struct rlog_file {
    int fd;
    uint64_t id, number, bytes; /* number: of the next frame */
    struct rlog_buf image;
};

struct yk_dir_rlog {
    struct rlog_slot slot[YK_DIR_SLOTS];
    struct yk_dir_rlog_opts opts; /* path, image: not used after open */
    char *path, *new_path;        /* NULL: no file */
    int dir_fd;
    int failed; /* status */
    char text[YK_ERR_TEXT_MAX];
    uint64_t tickets, durable; /* records written; those that are on disk */
    uint64_t removes, remove_bytes;
    uint64_t settled; /* bytes of the file when it had nothing but the state, last */
    uint64_t syncs, compactions;
    struct rlog_file file, fresh; /* fresh: what it is compacted into */
    int io_busy, compacting, compact_soon;
    uint32_t compact_at, trim_at; /* slots */
    struct rlog_buf fill;         /* records since the last begin, behind room for a frame's head */
    struct rlog_buf frame, copy;  /* of the piece under way */
};

/* rlog_slot.c */
uint32_t rlog_remove_bytes(const struct yk_dir_remove *r); /* as encoded */
void rlog_remove_put(struct yk_wr *w, const struct yk_dir_remove *r);
void rlog_remove_tell(const struct rlog_remove *r, struct yk_dir_remove *ret);
size_t rlog_state_bytes(const struct rlog_slot *s);
void rlog_state_put(struct yk_wr *w, const struct rlog_slot *s);
void rlog_slot_fini(struct yk_dir_rlog *log, struct rlog_slot *s);
/* Does what a record says. -YK_EPROTO: it makes no sense; -YK_ENOMEM; -YK_ELIMIT. Then nothing was changed. */
int rlog_apply(struct yk_dir_rlog *log, uint32_t slot, unsigned type, const void *body, size_t len);
/* The first with a number above num. */
uint32_t rlog_above(const struct rlog_slot *s, struct yk_dir_num num);
/* Which has this origin; s->count: none. */
uint32_t rlog_origin(const struct rlog_slot *s, struct yk_dir_num origin);

/* rlog_file.c */
/* Room for len more bytes. -YK_ENOMEM. */
int rlog_buf_need(struct rlog_buf *buf, size_t len);
/* A record with a body of `len` bytes to be written to *ret_body; then done with rlog_record_end. -YK_ENOMEM. */
int rlog_record_begin(struct rlog_buf *buf, uint32_t slot, unsigned type, size_t len, struct yk_wr *ret_body);
void rlog_record_end(struct rlog_buf *buf, size_t len);
void rlog_head_put(unsigned char *head, uint64_t id);
/* buf: room for a head, and a body; they become a frame of the file. */
void rlog_frame_put(struct rlog_buf *buf, const struct rlog_file *file);
/* Reads a file; *ret_last, *ret_end: where the last frame that counts begins and ends. -YK_ECORRUPT, -YK_EVERSION, -YK_ENOMEM. */
int rlog_load(struct yk_dir_rlog *log, const unsigned char *bytes, size_t len, size_t *ret_last, size_t *ret_end,
              struct yk_dir_rlog_report *report, struct yk_err *err);
/* Opens log->path, or makes it, and loads it. */
int rlog_file_open(struct yk_dir_rlog *log, struct yk_dir_rlog_report *report, struct yk_err *err);
uint64_t rlog_id(void);

#ifdef __cplusplus
}
#endif

#endif
