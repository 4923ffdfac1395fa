/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier of one node: a log of blocks on one or more devices, and the table of what is there.
 *
 * The node gives it blocks whose payload lies in DRAM (put), asks for them again (read), and says
 * what is removed. Everything is remembered in 48 bytes a block and a hash index, beside the key; the
 * log on the device is only read for payload, at start, and by the cleaner. docs/ssd-format.md has
 * the bytes on the device, docs/decisions/0007 the reasons.
 *
 *   table.c    entries, keys, index, order of use
 *   format.c   what is on the device: encode, decode, check (the offline tool uses it, too)
 *   log.c      segments, batches, append, group commit
 *   order.c    the order of use over a stop
 *   clean.c    which segment goes next, what of it is kept
 *   recover.c  footers and checkpoint to table
 *   io*.c      devices (io.h)
 *
 * What holds (R18): an entry is found only while its record is on the device whole and no removal of
 * it was acknowledged; a removal is acknowledged when its record is durable (yk_ssd_durable); a
 * segment's records are made invalid durably before anything of it is forgotten, so that what the
 * tier forgot cannot come back after a restart. Payload is not verified here: who reads compares it
 * with the checksum of the block (R17), and reports what is wrong with yk_ssd_rotten.
 *
 * Threads: one owner thread calls everything, and callbacks run on it, inside yk_ssd_poll, yk_ssd_tick
 * and yk_ssd_close only. `wake` alone is called from other threads. Nothing blocks but open and close.
 * Any thread may copy counters, statistics of devices and latencies.
 */
#ifndef YK_TIER_SSD_SSD_H
#define YK_TIER_SSD_SSD_H

#include "base/hist.h"
#include "base/status.h"
#include "xfer/file/file.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SSD_DEVICES_MAX 16u
#define YK_SSD_NAMESPACES  256u
#define YK_SSD_NS_NAME     64u
#define YK_SSD_NODE_NAME   64u
#define YK_SSD_NONE        UINT32_MAX
#define YK_SSD_SECTOR      4096u /* unit of what the log puts on a device: its format's, and no less than YK_FILE_SECTOR */

/* The order in which requests start, as the devices know it. */
enum yk_ssd_prio {
    YK_SSD_PRIO_DEMAND = YK_FILE_PRIO_DEMAND,
    YK_SSD_PRIO_PREFETCH = YK_FILE_PRIO_PREFETCH,
    YK_SSD_PRIO_BACKGROUND = YK_FILE_PRIO_BACKGROUND
};

struct yk_ssd;

/* A namespace; its number here is the node's. */
struct yk_ssd_ns {
    uint64_t uid; /* never that of another namespace, over all restarts; 0 = no namespace here */
    uint64_t epoch;
    uint64_t quota_bytes;
    uint64_t guarantee_bytes; /* this and the priority stand in checkpoints alone */
    uint32_t priority;
    uint8_t removed; /* its blocks are gone for good */
    char name[YK_SSD_NS_NAME];
};

struct yk_ssd_dev_opts {
    const char *path;
    uint64_t size_bytes; /* 0 = all that is there */
};

struct yk_ssd_opts {
    struct yk_ssd_dev_opts dev[YK_SSD_DEVICES_MAX];
    uint32_t dev_count;
    const struct yk_file_ops *io; /* NULL = yk_file_uring */
    /* Wraps a device that was opened (fault injection); NULL = none. Takes io over on success. */
    int (*io_wrap)(void *arg, struct yk_file *io, struct yk_file **ret_io);
    void *io_wrap_arg;
    int format;              /* overwrite whatever is there */
    uint64_t node_id;        /* the node's; 0 = not known yet: the devices say it, or it is made */
    const char *node_name;   /* a device that another name stands on is refused; NULL or "" = any will do.
                                Borrowed during open */
    uint64_t cluster_id;     /* the node's; 0 = none is known: what the devices say stands */
    uint64_t run;            /* highest run of this node that is known elsewhere (its segment); a device
                                that missed a run comes back empty */
    int alone;               /* the node has removed and replaced blocks that these devices did not hear of:
                                they come back empty, whatever their run */
    uint64_t segment_bytes;  /* of a device that is formatted now; 0 = 64 MiB */
    uint64_t capacity_blocks; /* entries at most; 0 = as many as fit */
    uint64_t write_limit_bps; /* bytes a second that all devices together may write; 0 = no limit */
    uint32_t clean_percent;  /* rewritten bytes a hundred bytes put, at most; 0 = 40 */
    uint8_t trim;            /* discard the space of freed segments */
    uint8_t buffered;        /* no O_DIRECT */
    void *mem; /* the DRAM tier's payload: registered with the devices as it is populated
                                (yk_ssd_mem_ready) */
    uint64_t mem_bytes;
    uint64_t now_ms;         /* wall clock for expiry at recovery, never before the last persisted */

    void (*wake)(void *arg); /* from any thread: yk_ssd_poll has something to do; must not block */
    int wake_fd; /* an eventfd that is written instead, for some reads; 0 = none. Borrowed until close. */
    /* A put has ended. 0: the block is on SSD, entry id. Otherwise the entry is gone (-YK_ECANCELED:
     * removed meanwhile; -YK_EIO, ...). The payload is the caller's again. */
    void (*on_put)(void *arg, uint32_t id, uint64_t cookie, int status);
    /* A read has ended. 0: the bytes are in place, not verified. -YK_EIO, -YK_EGONE: they are not, and
     * the entry was dropped, unless it was gone before (-YK_ECANCELED never: a read that was begun
     * keeps its place on the device until it ends). */
    void (*on_read)(void *arg, uint64_t cookie, int status);
    /* Everything up to this ticket is durable. */
    void (*on_durable)(void *arg, uint64_t ticket);
    /* The tier itself dropped an entry that was live (cleaner, error, device gone); id is not valid
     * any more when this returns. */
    void (*on_drop)(void *arg, uint32_t id);
    /* This run has a number: to be remembered for opts.run of the next opening. Within open, when all devices
     * know it and none has begun it, with the highest run that any device was in before (0 = none): what the
     * node has itself is outdated if it was not in that one. From poll and tick when a device was lost
     * (before: 0). Must not call the tier. May be NULL. */
    void (*on_run)(void *arg, uint64_t run, uint64_t before);
    /* Progress of recovery: bytes of the devices looked at, of all. May be NULL. */
    void (*on_progress)(void *arg, uint64_t done, uint64_t all);
    void *arg;
    /* Memory for the index, zeroed and shared with readers: see yk_ssd_index_bytes. NULL: private. */
    void *index_mem;
    uint64_t index_bytes;
};

/* What is known of a block without the device. */
struct yk_ssd_info {
    uint64_t sum; /* XXH3-64 of the payload */
    uint64_t len;
    uint64_t expiry_ms;
    uint64_t session;
    uint32_t depth_tokens, length_tokens, model;
    uint32_t parent_hash; /* low half of the parent's yk_hash_key; 0 = no parent known. A hint. */
    uint32_t ns;
    uint8_t kind;
    uint8_t written; /* 0: its put is under way */
    uint8_t used;    /* since it was written, in this run */
    uint8_t device;
};

struct yk_ssd_put {
    uint32_t ns;
    uint32_t key_len;
    const void *key;
    uint64_t hash; /* yk_hash_key(ns, key) */
    const void *parent;
    uint32_t parent_len; /* 0 = none */
    uint32_t parent_hash;
    uint64_t gen; /* of the block: from the node's counter */
    uint64_t sum, len, expiry_ms, session;
    uint32_t depth_tokens, length_tokens, model;
    uint8_t kind;
    uint8_t prio;        /* enum yk_ssd_prio; BACKGROUND for a demotion */
    const void *payload; /* len bytes that neither change nor move until on_put */
    uint64_t cookie;
};

/* Opens, formats what is new, recovers. ns: YK_SSD_NAMESPACES entries, in: the node's as its segment
 * has them (all zero: it has none), out: merged with those of the devices (highest epoch, removed
 * ones removed; unknown ones are taken into free numbers if the node had none at all, else they are
 * removed ones and their blocks go). Blocks: on_progress only. Errors, each with a text that says what
 * was found and what to do: as io open; EVERSION a newer format; EPERM another node's or cluster's, or
 * something else's content (nothing is overwritten without format); ETOOBIG smaller than a few segments;
 * ENOMEM. */
int yk_ssd_open(const struct yk_ssd_opts *opts, struct yk_ssd_ns *ns, struct yk_ssd **ret_ssd,
                struct yk_err *err);

/* clean: writes what is queued, a footer for the open segments and a checkpoint, within timeout_ms.
 * All puts and reads end through their callbacks. NULL is fine. */
void yk_ssd_close(struct yk_ssd *ssd, int clean, uint32_t timeout_ms);

/* After open: the node's id, the run of this opening (for opts.run of the next), the highest
 * generation that any record has, and a line about the device, which changes with its state (the owner's
 * to read; others find it in yk_ssd_dev_stats). */
uint64_t yk_ssd_node_id(const struct yk_ssd *ssd);
uint64_t yk_ssd_run(const struct yk_ssd *ssd);
uint64_t yk_ssd_gen_max(const struct yk_ssd *ssd);
const char *yk_ssd_note(const struct yk_ssd *ssd, uint32_t dev);

/* Bytes that a device must have to be formatted with such segments; 0 = those chosen for it. */
uint64_t yk_ssd_least_bytes(uint64_t segment_bytes);

/* Bytes of index for so many bytes of devices: what index_mem must have. */
uint64_t yk_ssd_index_bytes(uint64_t device_bytes);

/* ---- the table ---------------------------------------------------------------------------------- */

/* The live entry of a key (its put may be under way): current epoch, not expired. 0 or YK_MISS. */
int yk_ssd_find(const struct yk_ssd *ssd, uint32_t ns, uint64_t hash, const void *key,
                uint32_t key_len, uint64_t now_ms, uint32_t *ret_id);
void yk_ssd_prefetch(const struct yk_ssd *ssd, uint64_t hash);
void yk_ssd_info_get(const struct yk_ssd *ssd, uint32_t id, struct yk_ssd_info *ret_info);
const void *yk_ssd_key(const struct yk_ssd *ssd, uint32_t id, uint32_t *ret_len);
/* Ids at or above were never used; an id below is live or not. */
uint32_t yk_ssd_top(const struct yk_ssd *ssd);
int yk_ssd_live(const struct yk_ssd *ssd, uint32_t id);
/* An entry whose key hash ends in this half, in that namespace: a parent by its hint. 0 or YK_MISS. */
int yk_ssd_by_half(const struct yk_ssd *ssd, uint32_t ns, uint32_t half, uint32_t *ret_id);
/* The same of a hash of which these bits are known, the low 32 among them. */
int yk_ssd_by_bits(const struct yk_ssd *ssd, uint32_t ns, uint64_t hash, uint64_t bits, uint32_t *ret_id);

/* It was used: it becomes the youngest, and worth more to the cleaner. */
void yk_ssd_touch(struct yk_ssd *ssd, uint32_t id);
/* The next older entry than id in order of use (YK_SSD_NONE: the youngest); YK_SSD_NONE at the end. */
uint32_t yk_ssd_older(const struct yk_ssd *ssd, uint32_t id);

/* The next younger one than id likewise (YK_SSD_NONE: the oldest). */
uint32_t yk_ssd_younger(const struct yk_ssd *ssd, uint32_t id);
/* Payload bytes of a namespace's entries of its current epoch, and how many there are (may be NULL). What has
 * expired counts until it is swept. */
uint64_t yk_ssd_ns_bytes(const struct yk_ssd *ssd, uint32_t ns, uint64_t *ret_count);

/* ---- blocks come and go ---------------------------------------------------------------------------- */

/* May len bytes more be queued now? 0; -YK_EAGAIN: the write queue is full, on_put makes room;
 * -YK_EIO: the tier is read-only or gone; -YK_ETOOBIG: no segment holds it. */
int yk_ssd_may_put(const struct yk_ssd *ssd, uint64_t len);

/* Begins to write a block that has no live entry. The entry is found at once and is the youngest.
 * 0 and *ret_id; otherwise as may_put, -YK_ENOMEM, -YK_ELIMIT. on_put follows, never within this
 * call. capacity_blocks: the oldest entry goes for it, with a tombstone. */
int yk_ssd_put(struct yk_ssd *ssd, const struct yk_ssd_put *put, uint32_t *ret_id);

/* Begins to read the block's payload into `to` (len bytes). on_read follows, never within this call.
 * The entry's place stays until then, whatever becomes of the entry. 0; -YK_EAGAIN: too many reads
 * (YK_SSD_READS_MAX), or its put is still under way; -YK_EIO, -YK_EGONE. */
int yk_ssd_read(struct yk_ssd *ssd, uint32_t id, void *to, unsigned prio, uint64_t cookie);

/* Forgets the entry at once and records its removal. Returns a ticket; acknowledge what the caller
 * asked for when yk_ssd_durable says so. A put under way ends with -YK_ECANCELED. gen: a generation
 * above the block's. */
uint64_t yk_ssd_remove(struct yk_ssd *ssd, uint32_t id, uint64_t gen);

/* Lets one go to make room; nobody waits for that. 0; -YK_EIO: its device records nothing any more; -YK_EAGAIN:
 * its put is under way. */
int yk_ssd_evict(struct yk_ssd *ssd, uint32_t id);

/* What was read did not match its checksum: removes it likewise, and counts it as that. */
uint64_t yk_ssd_rotten(struct yk_ssd *ssd, uint32_t id, uint64_t gen);

/* Another expiry (0 = never). Returns a ticket: acknowledge an earlier expiry when it is durable. */
uint64_t yk_ssd_expire(struct yk_ssd *ssd, uint32_t id, uint64_t expiry_ms, uint64_t gen);

/* Namespace number ns is now this (made, raised, removed). Entries of older epochs and of a removed
 * namespace are not found any more when this returns; ticks free them. Returns a ticket. A number
 * whose namespace was removed may be given to another (new uid) when the ticket is durable and
 * yk_ssd_ns_busy says 0. */
uint64_t yk_ssd_ns_set(struct yk_ssd *ssd, uint32_t ns, const struct yk_ssd_ns *entry);
int yk_ssd_ns_busy(const struct yk_ssd *ssd, uint32_t ns);

/* Can anything be recorded at all? 0, or -YK_EIO: no device takes writes. */
int yk_ssd_may_record(const struct yk_ssd *ssd);

/* 1: everything up to this ticket is durable (0 always is). -YK_EIO: it will never be, since a device
 * that had to record it does not write any more. */
int yk_ssd_durable(const struct yk_ssd *ssd, uint64_t ticket);

/* One ticket for what two wait for. */
uint64_t yk_ssd_ticket_join(uint64_t a, uint64_t b);

/* The ticket of the removals of this key that are not durable yet (its entry was dropped for capacity or
 * could not be read, or was removed by somebody else); 0 = none. Who is told that the key is gone, or that
 * other bytes stand under it, is told when that is durable, too. While yk_ssd_hole is 1 and a device is there
 * that will record it, every key has a ticket: it may be on the one that is gone. */
uint64_t yk_ssd_pending(const struct yk_ssd *ssd, uint32_t ns, uint64_t hash);
/* Likewise of all keys, for who removes by pattern. */
uint64_t yk_ssd_pending_any(const struct yk_ssd *ssd);

/* Likewise of what may be on a device that is gone, while yk_ssd_hole is 1: who removes a block is told of it,
 * or that it may come back (-YK_EIO: no device is left that would record it). 0 = there is no such device. */
uint64_t yk_ssd_pending_gone(const struct yk_ssd *ssd);

/* 1: a device is gone, and no other has recorded durably that it misses what is removed from now on. While
 * another still writes it will do so soon, and tickets wait for it (yk_ssd_pending). If none does, only
 * yk_ssd_run, which was raised, tells a later opening (opts.run) that the device has missed removals. The node
 * keeps it in its DRAM segment, which does not outlive the host: so it acknowledges none. */
int yk_ssd_hole(const struct yk_ssd *ssd);

/* ---- upkeep ------------------------------------------------------------------------------------------ */

/* Takes what the devices have done and calls back; begins what is queued. Cheap when there is nothing.
 * Called when `wake` was, and after a turn of calls: writes are gathered until then. */
void yk_ssd_poll(struct yk_ssd *ssd);

/* Cleans, sweeps, writes checkpoints, looks at the devices; bounded work. Call every 10 to 100 ms;
 * returns 1 when there is more to do at once. */
int yk_ssd_tick(struct yk_ssd *ssd, uint64_t now_ms);

/* The first `bytes` of opts.mem are populated and stay where they are: the devices may register them
 * (io.h), one that comes back later, too. Never less than before. */
void yk_ssd_mem_ready(struct yk_ssd *ssd, uint64_t bytes);

/* 1: something is under way that goes on with the next poll or tick (requests, what waits to be written or
 * to be durable, cleaning). 0: nothing happens until it is asked for, but for what the devices do by
 * themselves: a tick every few seconds is enough then. */
int yk_ssd_busy(const struct yk_ssd *ssd);

/* Waits until a device has done something, ms at most: for a stop that goes on with poll and tick. */
void yk_ssd_wait(struct yk_ssd *ssd, uint32_t ms);

#define YK_SSD_READS_MAX 256u

enum yk_ssd_dev_state {
    YK_SSD_DEV_OK = 0,
    YK_SSD_DEV_READ_ONLY, /* full for good, or writes fail: what is there is served */
    YK_SSD_DEV_GONE,      /* vanished or failing reads: its entries were dropped; looked for again */
};

struct yk_ssd_dev_stats {
    char path[256];
    uint8_t state; /* enum yk_ssd_dev_state */
    uint8_t direct, fixed_file, fixed_mem;
    char note[512];       /* what recovery found wrong, or why it is in this state; "" = nothing */
    char io_note[400];    /* what is slower than it could be (io.h); "" = nothing */
    char cleaner[12];     /* what the cleaner does */
    uint64_t fixed_bytes; /* of mem that are registered with it */
    uint64_t stalled_ms;  /* that its oldest request has been there, when it was last looked at */
    uint64_t size_bytes, segment_bytes, segments, segments_free;
    uint64_t live_bytes; /* payload of live entries, rounded to what they take */
    uint64_t wear_bytes; /* written to the device since it was formatted */
    struct yk_file_stats io;
};

/* Since the open, but for gauges. Written by the owner with relaxed stores; any thread may copy. */
struct yk_ssd_counters {
    uint64_t puts, put_bytes, put_fails, reads, read_bytes, read_fails, rotten;
    uint64_t written_bytes;                  /* to all devices, all told */
    uint64_t clean_bytes, clean_blocks;      /* rewritten by the cleaner */
    uint64_t clean_segments, clean_dropped, clean_dropped_bytes;
    uint64_t tombstones, flushes, batches, checkpoints;
    uint64_t expired, outdated, evicted, removed;
    uint64_t recovered, recovery_dropped, recovery_torn, recovery_us, recovery_bytes;
    uint64_t throttle_ns; /* that writes waited for the limit */
    uint64_t io_errors;
    /* gauges */
    uint64_t blocks, block_bytes, capacity_bytes, free_bytes, queued_bytes, reads_now;
    uint64_t meta_bytes; /* entries and index in use, keys apart */
    uint64_t key_bytes;
    uint64_t devices, devices_ok;
};

void yk_ssd_counters_get(const struct yk_ssd *ssd, struct yk_ssd_counters *ret);
/* As the last tick left it. Any thread. */
void yk_ssd_dev_stats_get(const struct yk_ssd *ssd, uint32_t dev, struct yk_ssd_dev_stats *ret);
/* Device latency of reads (op 0) and writes (op 1), queueing in the worker included. */
const struct yk_hist *yk_ssd_latency(const struct yk_ssd *ssd, unsigned op);

#ifdef __cplusplus
}
#endif

#endif
