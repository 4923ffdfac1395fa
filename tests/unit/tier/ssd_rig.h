/* SPDX-License-Identifier: Apache-2.0
 *
 * An SSD tier on disks in memory, driven at random beside a model of what it may say, and the judge of
 * what is found after a power cut at any moment of that.
 *
 * The model keeps every version of every key ever put: its bytes (from a seed), when it was put, when
 * that ended, when its removal was asked for and when acknowledged, when the tier dropped it; and the
 * history of namespaces and expiries. Times are disk_clock. From them follows for any moment which
 * versions may be found, and which must be.
 */
#ifndef YK_TESTS_TIER_SSD_RIG_H
#define YK_TESTS_TIER_SSD_RIG_H

#include "ssd_mem_io.h"

#include "tier/ssd/ssd.h"

#define RIG_KEYS  60u
#define RIG_NS    3u
#define RIG_NEVER UINT32_MAX
#define RIG_DISKS 2u

struct expiry_change {
    uint64_t ms, ticket;
    uint32_t asked, acked;
};

struct version {
    uint32_t key, ns;
    uint64_t epoch, ns_uid, seed, len, sum;
    uint32_t put, done; /* done: on_put said 0 */
    uint32_t removed, removed_acked, dropped;
    uint64_t ticket;
    struct expiry_change expiry[4];
    uint32_t expiries;
    uint32_t id;
    uint8_t device, ended, failed;
    unsigned char *payload; /* until on_put */
};

struct ns_change {
    uint32_t ns;
    struct yk_ssd_ns entry;
    uint64_t ticket;
    uint32_t asked, acked;
};

struct ssd_rig {
    struct disk *disk[RIG_DISKS];
    struct yk_ssd_opts opts;
    struct yk_ssd *ssd;
    struct yk_ssd_ns ns[YK_SSD_NAMESPACES];
    struct version *v;
    uint32_t nv, vcap;
    uint32_t live[RIG_NS][RIG_KEYS]; /* version + 1 that the model holds for live */
    struct ns_change changes[256];
    uint32_t nchanges;
    uint64_t seed, gen, now_ms, uid;
    uint64_t reads_ok, reads_bad, unlucky;
    uint32_t reading;
    uint32_t max_large;
    unsigned small_percent;
    int lenient; /* there may be blocks that the model does not know, or holds for gone */
    int eager;   /* puts do not wait for a removal of their key */
    int twice;   /* what a cut left is recorded, to be cut again */
    int rot;     /* payload may be damaged: such a block is removed */
    uint64_t rotten;
    struct yk_file_fault fault; /* of the first disk, from its opening on; kind 0 = none */
    struct yk_file *fault_io;
    struct yk_err err;
};

/* disks: 1 or 2, of so many segments of segment_bytes. Opens; namespaces 0 .. RIG_NS-1 are made. */
void ssd_rig_open(struct ssd_rig *r, unsigned disks, uint32_t segments, uint64_t segment_bytes,
                  uint64_t seed, int record);
/* The same in two steps: what may be changed in between is opts, disk, fault; rc of the opening. */
void ssd_rig_init(struct ssd_rig *r, unsigned disks, uint32_t segments, uint64_t segment_bytes,
                  uint64_t seed, int record);
int ssd_rig_start(struct ssd_rig *r);
void ssd_rig_close(struct ssd_rig *r, int clean);
void ssd_rig_free(struct ssd_rig *r);

/* How many cases a long series goes on at a time: 1; under a sanitizer, which makes each ten times as long
 * (YOLK_SLOW=1), 9, but for YOLK_LONG=1. */
uint32_t ssd_rig_stride(void);

/* 1: the tier has it. */
int ssd_rig_find(struct ssd_rig *r, uint32_t ns, uint32_t key, uint32_t *ret_id);

/* The ticket of its removals that are not durable; 0 = none. */
uint64_t ssd_rig_pending(struct ssd_rig *r, uint32_t ns, uint32_t key);

/* Steps of the workload. */
int ssd_rig_put(struct ssd_rig *r, uint32_t ns, uint32_t key, uint64_t len, uint64_t expiry_ms);
void ssd_rig_remove(struct ssd_rig *r, uint32_t ns, uint32_t key);
void ssd_rig_expire(struct ssd_rig *r, uint32_t ns, uint32_t key, uint64_t expiry_ms);
void ssd_rig_raise(struct ssd_rig *r, uint32_t ns);
void ssd_rig_ns_remove(struct ssd_rig *r, uint32_t ns); /* and makes another under the number */
void ssd_rig_read(struct ssd_rig *r, uint32_t ns, uint32_t key);
void ssd_rig_turn(struct ssd_rig *r, int tick); /* poll, acknowledgements */
void ssd_rig_settle(struct ssd_rig *r);         /* until nothing is under way */
void ssd_rig_random(struct ssd_rig *r);         /* one of all that, at random */
uint64_t rig_len(struct ssd_rig *r);            /* of a block, at random */

/* Compares the running tier with the model: what is live must be found with its bytes (unless it was
 * dropped), nothing else. */
void ssd_rig_check(struct ssd_rig *r);

/* Opens what the disks hold after a cut, and judges. node_knows: the node still has its namespaces. */
void ssd_rig_cut(struct ssd_rig *r, uint32_t at, uint64_t seed, int node_knows);
/* Opens what the disks hold after a cut, and judges what a second one leaves, in its recovery or soon after:
 * nothing but what was there by the first, nothing that was gone by then. */
void ssd_rig_cut_twice(struct ssd_rig *r, uint32_t at, uint64_t seed, int node_knows);
/* As ssd_rig_cut, for images that the caller has (and may have damaged); must: 0 if anything may be missing. */
void ssd_rig_judge(struct ssd_rig *r, unsigned char *const *images, uint32_t at, int node_knows,
                   int must);

#endif
