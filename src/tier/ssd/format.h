/* SPDX-License-Identifier: Apache-2.0
 *
 * What is on a device of the SSD tier: encode, decode, check. docs/ssd-format.md has it byte by byte.
 *
 *   superblock (two copies) | checkpoint slots A, B | segment 0 | segment 1 | ... | superblock
 *   segment: batch, batch, ..., room, footer
 *   batch:   header with its records | payload | the header once more if it has removals
 *
 * Decoders take bytes that anything may have happened to: they read nothing beyond the length that
 * they are given, and what they accept is inside its segment. Every structure has an XXH3-64 over all
 * of it and carries the device's uid, so that what an earlier formatting left behind is no record.
 *
 * Threads: any; no state.
 */
#ifndef YK_TIER_SSD_FORMAT_H
#define YK_TIER_SSD_FORMAT_H

#include "tier/ssd/ssd.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SSD_FORMAT 1u /* version; a reader refuses higher ones */

#define YK_SSD_SUPER_AT(i)   ((uint64_t)(i)*32768u) /* i = 0, 1 */
#define YK_SSD_CKPT_AT(i)    (65536u + (uint64_t)(i)*65536u)
#define YK_SSD_CKPT_BYTES    65536u
#define YK_SSD_SEGMENTS_AT   (1u << 20)
#define YK_SSD_FOREIGN_BYTES (4u << 20) /* of the device's beginning that must be ours or zero */

#define YK_SSD_SEGMENT_MIN  (64u << 10)
#define YK_SSD_SEGMENT_MAX  (1u << 30)
#define YK_SSD_SEGMENTS_MAX (1u << 24) /* of all devices */

#define YK_SSD_UNIT      64u         /* places of payload are counted in it */
#define YK_SSD_LARGE     (16u << 10) /* payload from here on begins at a sector */
#define YK_SSD_TAIL_READ (16u << 10) /* read of each segment's end at recovery */
#define YK_SSD_ROOM_MAX  (64u << 10) /* of a header with its records */

struct yk_ssd_super {
    uint64_t node_id, cluster_id;
    uint64_t uid; /* of this formatting of this device; never 0 */
    uint64_t size_bytes, segment_bytes, created_ms;
    /* Where a third copy stands, behind all segments: a file that was cut short and has grown again has
     * lost it. 0 = none: formatted before there was one. */
    uint64_t end_at;
    char node_name[YK_SSD_NODE_NAME]; /* whose it is, for people; "" = not known */
};

/* 0; -YK_ENOENT: not ours at all; -YK_EVERSION (*ret_version says which); -YK_ECORRUPT: ours, damaged. */
void yk_ssd_super_put(void *sector, const struct yk_ssd_super *super);
int yk_ssd_super_get(const void *sector, struct yk_ssd_super *ret_super, uint32_t *ret_version);

struct yk_ssd_ckpt {
    uint64_t uid;
    uint64_t seq; /* the higher of two valid slots counts */
    uint64_t run;
    uint64_t started;  /* highest run known to have accepted work: this one, or an earlier one */
    uint64_t clock_ms; /* latest wall clock seen */
    uint64_t gen_max;  /* no record had a higher one then */
    uint64_t ns_gen;   /* namespace records up to this generation are in the table */
    uint64_t wear_bytes;
    uint8_t clean; /* 1: closed in good order */
    struct yk_ssd_ns ns[YK_SSD_NAMESPACES];
};

/* slot: YK_SSD_CKPT_BYTES. get: 0, -YK_ENOENT (nothing of this device), -YK_ECORRUPT. */
void yk_ssd_ckpt_put(void *slot, const struct yk_ssd_ckpt *ckpt);
int yk_ssd_ckpt_get(const void *slot, uint64_t uid, struct yk_ssd_ckpt *ret_ckpt);

/* ---- records ------------------------------------------------------------------------------------ */

enum yk_ssd_rec_type {
    YK_SSD_REC_BLOCK = 1,
    YK_SSD_REC_TOMB = 2,   /* kills what has this key and a generation up to its own */
    YK_SSD_REC_EXPIRY = 3, /* another expiry for what has this key and a lower generation */
    YK_SSD_REC_NS = 4,     /* a namespace number is this from here on */
    YK_SSD_REC_ORDER = 5,  /* part of a list of blocks in order of use: a hint (order.c) */
};

struct yk_ssd_rec {
    uint8_t type; /* enum yk_ssd_rec_type */
    uint8_t kind, key_len, parent_len;
    uint8_t ns_number;
    uint32_t len, place; /* place in YK_SSD_UNITs from the segment's beginning */
    uint32_t depth_tokens, length_tokens, model;
    uint64_t ns_uid, gen;
    uint64_t epoch, sum, expiry_ms, session;
    /* Of a tombstone: sequence of the segment with the youngest record it kills. Of an ORDER: where in the
     * list, which ns_uid is the number of, its first hash stands; key is the hashes, 8 bytes each. */
    uint64_t origin;
    const unsigned char *key, *parent;
    struct yk_ssd_ns ns;
};

#define YK_SSD_REC_MAX    (80u + 255u + 255u) /* no record is longer */
#define YK_SSD_ORDER_PART 31u                 /* hashes of an ORDER at most */
#define YK_SSD_ORDER_MAX  (1u << 18)          /* of a list */

/* Bytes that a record takes; writes them at `at` if that isn't NULL. */
uint32_t yk_ssd_rec_put(void *at, const struct yk_ssd_rec *rec);

/* The next of a list of records. 1 and *ret (key and parent point into the list); 0 at the end;
 * -YK_ECORRUPT: not a record, or one whose payload leaves a segment of segment_bytes. */
struct yk_ssd_recs {
    const unsigned char *at, *end;
};
int yk_ssd_rec_next(struct yk_ssd_recs *recs, uint64_t segment_bytes, struct yk_ssd_rec *ret);

/* What a payload takes of its segment. */
uint64_t yk_ssd_takes(uint64_t len);

/* ---- batches and footers -------------------------------------------------------------------------- */

#define YK_SSD_HEAD_BYTES 80u
#define YK_SSD_TAIL_BYTES 64u

struct yk_ssd_head {
    uint64_t uid, seq; /* of the segment; never used twice on a device */
    uint32_t number;   /* 0, 1, ... within the segment */
    uint32_t count;    /* records */
    uint32_t recs_bytes;
    uint32_t room;  /* of the header in the segment: whole sectors */
    uint64_t bytes; /* of the batch: whole sectors */
    uint64_t clock_ms, gen_max;
    uint32_t at_sector; /* of the segment, where the batch begins */
};

/* Completes a header in place: buf holds YK_SSD_HEAD_BYTES, then recs_bytes of records; clears the
 * rest of the room. */
void yk_ssd_head_put(void *buf, const struct yk_ssd_head *head);

/* First sector of a header, fixed part only, not its sum. 0 if this may be a header of uid. */
int yk_ssd_head_peek(const void *sector, uint64_t uid, uint64_t segment_bytes,
                     struct yk_ssd_head *ret);

/* The same with its records: bytes >= room. 0 or -YK_ECORRUPT. */
int yk_ssd_head_get(const void *buf, uint64_t bytes, uint64_t uid, uint64_t segment_bytes,
                    struct yk_ssd_head *ret, struct yk_ssd_recs *ret_recs);

/* What is no valid header: was it one with this sequence (0: with any)? And was it this sequence? A
 * single flipped bit is seen through. */
int yk_ssd_head_damaged(const void *sector, uint64_t uid, uint64_t seq);
int yk_ssd_head_seq_is(const void *sector, uint64_t seq);

struct yk_ssd_foot {
    uint64_t uid, seq;
    uint32_t count, recs_bytes;
    uint64_t clock_ms, gen_max;
};

/* Bytes of a footer with so many bytes of records: whole sectors. */
uint64_t yk_ssd_foot_bytes(uint64_t recs_bytes);

/* Completes a footer in place: buf holds recs_bytes of records, then room up to foot_bytes. */
void yk_ssd_foot_put(void *buf, const struct yk_ssd_foot *foot);

/* From the segment's last sector: 0 if this may be a footer; from all of it (yk_ssd_foot_bytes):
 * 0 or -YK_ECORRUPT. */
int yk_ssd_foot_peek(const void *last_sector, uint64_t uid, uint64_t segment_bytes,
                     struct yk_ssd_foot *ret);
/* What may be none: is it one of this device that was damaged? Not zeros, another formatting's, or payload. */
int yk_ssd_foot_damaged(const void *last_sector, uint64_t uid);
int yk_ssd_foot_get(const void *buf, const struct yk_ssd_foot *foot, struct yk_ssd_recs *ret_recs);

/* ---- devices ---------------------------------------------------------------------------------------- */

/* Segments that so many bytes have room for; those of a device. */
uint64_t yk_ssd_segments(uint64_t size_bytes, uint64_t segment_bytes);
uint64_t yk_ssd_super_segments(const struct yk_ssd_super *super);

/* Where the third superblock of a device of so many bytes is to stand: its last whole sector. */
static inline uint64_t yk_ssd_end_at(uint64_t size_bytes) {
    return size_bytes < YK_SSD_SECTOR ? 0 : size_bytes / YK_SSD_SECTOR * YK_SSD_SECTOR - YK_SSD_SECTOR;
}

static inline uint64_t yk_ssd_segment_at(uint64_t segment_bytes, uint64_t i) {
    return YK_SSD_SEGMENTS_AT + i * segment_bytes;
}

/* What somebody else's bytes at a device's beginning are: "an ext4 file system"; NULL: all zero. */
const char *yk_ssd_foreign(const void *begin, size_t bytes);

static inline uint64_t yk_ssd_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

#ifdef __cplusplus
}
#endif

#endif
