/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads a device of the SSD tier without a node: for `yolk ssd check|dump`.
 *
 * It knows the format (format.h) and nothing of the tier's own code, so that it can say when that is
 * wrong. Nothing is written, no lock is taken: of a device in use it sees one moment after the other,
 * and what is written meanwhile may look damaged. Damage never ends it; it is counted and told, and
 * what can still be read is read.
 *
 * Threads: one at a time; blocks.
 */
#ifndef YK_TIER_SSD_OFFLINE_H
#define YK_TIER_SSD_OFFLINE_H

#include "tier/ssd/format.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_ssd_offline;

/* What stands in a place that holds one thing or nothing. */
enum yk_ssd_part {
    YK_SSD_PART_GOOD = 0,
    YK_SSD_PART_NONE,
    YK_SSD_PART_DAMAGED,
    YK_SSD_PART_UNREADABLE,
};

struct yk_ssd_offline_info {
    struct yk_ssd_super super;
    enum yk_ssd_part super_part[2], ckpt_part[2];
    int has_ckpt;
    struct yk_ssd_ckpt ckpt; /* the younger good one */
    uint64_t segments;
    uint64_t file_bytes;
};

/* Opens for reading and reads superblocks and checkpoints. Errors, with a text: ENOENT, EPERM (no
 * rights; not an SSD tier, and what it is instead), EVERSION, ECORRUPT (both superblocks), EINVAL (a directory), EIO. */
int yk_ssd_offline_open(const char *path, struct yk_ssd_offline **ret_off, struct yk_err *err);
void yk_ssd_offline_close(struct yk_ssd_offline *off); /* NULL is fine */
const struct yk_ssd_offline_info *yk_ssd_offline_info(const struct yk_ssd_offline *off);

struct yk_ssd_offline_segment {
    uint64_t seq;             /* 0: free */
    uint32_t footer, batches; /* footer: its records come from it; else from so many batches */
    uint32_t damaged;         /* footers and headers that were not good, also where the other has it all */
    uint32_t unreadable;      /* reads that failed */
    uint64_t blocks, tombs, expiries, namespaces, payload_bytes;
};

/* Reads segment i, calling fn (may be NULL) for each record in the order of the log. fn returns 0 to go
 * on, anything else ends the segment and is returned. -YK_ENOMEM. */
typedef int (*yk_ssd_offline_fn)(void *arg, uint64_t segment, const struct yk_ssd_rec *rec);
int yk_ssd_offline_segment(struct yk_ssd_offline *off, uint64_t i, yk_ssd_offline_fn fn, void *arg,
                           struct yk_ssd_offline_segment *ret_segment);

/* Reads a block's payload and compares its checksum. 0; -YK_ECORRUPT; -YK_EIO; -YK_ENOMEM. */
int yk_ssd_offline_payload(struct yk_ssd_offline *off, uint64_t i, const struct yk_ssd_rec *rec);

#ifdef __cplusplus
}
#endif

#endif
