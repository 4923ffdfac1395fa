/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the SSD tier (ssd.h): devices, segments, batches, tickets, the cleaner.
 *
 * A segment's life:
 *
 *   FREE --put--> OPEN --full--> SEALING --footer--> SEALED --victim--> CLEANING --invalid--> FREE
 *                  |                |                   ^                                      |
 *                  +--write error---+--(no footer)------+                     (bad) BAD <------+
 *
 * A segment whose write failed (BAD), or that could not be made free (`stuck`), is tried again later, or
 * when nothing else is left (segment.c); a device that has too few others for its log becomes read-only.
 *
 * A batch's life; batches of a device stand in one list in the order in which they were opened, and
 * headers are written one at a time in that order, so that whatever a walk finds was complete, and at
 * most one header of a device is uncertain when a write fails:
 *
 *   FREE --> OPEN (takes records) --close--> PAYLOAD --all reaped, is first--> HEADER --> FREE
 *
 * Callbacks are made from poll, tick and close only: what calls of the user close or break is noticed
 * in the next poll (yk_ssd_log_pump). Drops are gathered in a list until the end of a poll.
 *
 * Generations: the tier gives each record a higher one than any before (yk_ssd_gen_next), whatever the
 * caller passes, so that a block that is written again after a tombstone of the tier's own is younger.
 *
 * Threads: the owner's only. For other threads, counters are stored relaxed and statistics of devices are
 * copied at each tick: a device's io may be closed and opened at any time.
 */
#ifndef YK_TIER_SSD_SSD_PRIV_H
#define YK_TIER_SSD_SSD_PRIV_H

#include "tier/ssd/format.h"
#include "tier/ssd/ssd.h"
#include "tier/ssd/table.h"

#include <pthread.h>

#define YK_SSD_BATCHES     16u
#define YK_SSD_BATCH_BYTES (8u << 20) /* a batch closes from here on: a crash loses no more */
#define YK_SSD_BATCH_PUTS  1024u
#define YK_SSD_STAGE_BYTES (1u << 20)    /* small payloads of one batch */
#define YK_SSD_WRITE_BYTES (1u << 20)    /* a request is sent from here on */
#define YK_SSD_QUEUE_BYTES (64ull << 20) /* payload in requests to a device */
#define YK_SSD_OPENS       4u            /* segments that are being filled or sealed */
#define YK_SSD_SUBREADS    512u
#define YK_SSD_CLEAN_BUF   (16u << 20) /* a larger block is not written again but dropped */
#define YK_SSD_CLEAN_READS 32u
#define YK_SSD_CLEAN_GROUP 8u /* segments that become free with one flush */
#define YK_SSD_TICKET_BITS 18u /* of a ticket, below its count: bit i, device i has to record it */
#define YK_SSD_TAG_ALL     (1u << 16) /* all that still write record it, one at least */
#define YK_SSD_TAG_HOLE    (1u << 17) /* it is recorded which devices are gone (yk_ssd_hole) */
#define YK_SSD_ERRORS_MAX  3u  /* write errors in a row that make a device read-only */
#define YK_SSD_RETURN_MS   5000u
#define YK_SSD_CKPT_MS     30000u

struct yk_ssd_dev;

/* A request and what follows it. Busy: the device has it. */
struct yk_ssd_op {
    struct yk_file_req req;
    struct yk_ssd_op *prev, *next; /* in the device's list of busy ones */
    void (*done)(struct yk_ssd_dev *d, struct yk_ssd_op *op);
    void *ctx;
    uint8_t busy;
};

/* Requests one after the other; the first error ends it. */
struct yk_ssd_script {
    struct yk_ssd_op op;
    struct iovec iov;
    struct {
        uint8_t op;
        uint64_t offset, bytes;
        void *buf;
    } step[8];
    uint32_t n, at;
    int status;
    uint8_t busy;
    void (*done)(struct yk_ssd_dev *d, struct yk_ssd_script *s);
};

enum yk_seg_state { SEG_FREE = 0, SEG_OPEN, SEG_SEALING, SEG_SEALED, SEG_CLEANING, SEG_BAD };

struct yk_ssd_seg {
    uint64_t seq; /* run << 32 | count; valid while not FREE */
    uint64_t live_bytes, hot_bytes;
    uint64_t ns_gen; /* highest generation of a namespace record in it; 0 = none */
    uint64_t clock_ms;
    uint32_t live;     /* entries in it */
    uint32_t refs;     /* reads under way */
    uint32_t others;   /* tombstones and expiries in it */
    uint32_t stamp;    /* when it was opened */
    uint32_t seq_next; /* chain of d->seq_heads; +1 */
    uint32_t failed_s; /* monotonic second at which it failed last; of bad and stuck ones */
    uint8_t state, dev;
    uint8_t stale; /* may hold records of entries that live elsewhere: goes before all others */
    uint8_t bad;   /* a write to it failed: takes no more, and is not free when it was cleaned */
    uint8_t stuck; /* it could not be made free */
    uint8_t fails; /* since it was filled without an error */
};

struct yk_ssd_wreq {
    struct yk_ssd_op op;
    struct yk_ssd_batch *batch;
    struct yk_ssd_wreq *next_free;
    uint64_t offset, bytes;
    uint32_t iov_count;
    struct iovec iov[YK_FILE_IOVS];
};

struct yk_ssd_bput {
    uint64_t cookie, place, place_old;
    uint32_t id, rec_at;
    uint8_t move;
};

enum yk_batch_state { BATCH_FREE = 0, BATCH_OPEN, BATCH_PAYLOAD, BATCH_HEADER };

struct yk_ssd_open; /* a segment being filled */

struct yk_ssd_batch {
    struct yk_ssd_batch *next;
    struct yk_ssd_open *open;
    uint64_t bseq;
    uint64_t at, pos;       /* in the segment: begin, where the next payload may go */
    uint64_t payload_bytes; /* as the queue counts them */
    uint64_t ticket_min;    /* lowest ticket that waits for it; 0 = none */
    uint64_t gen_max, ns_gen;
    uint32_t number, count, recs_bytes, room, nputs, others;
    uint32_t stage_used, pending;
    int status;
    uint8_t state, copy;
    unsigned char *head, *stage; /* room for records; small payload */
    struct yk_ssd_bput *puts;
    struct yk_ssd_wreq *cur; /* being gathered */
    struct yk_ssd_op head_op, copy_op;
    struct iovec head_iov;
};

struct yk_ssd_open {
    uint32_t seg;
    uint8_t used, sealing, failed;
    uint32_t next_number, batches; /* batches: not completed */
    uint64_t pos;
    uint64_t recs_bytes; /* of all batches, open ones too */
    unsigned char *foot; /* records of completed batches */
    uint64_t foot_len, foot_cap, foot_at, gen_max;
    uint32_t foot_count;
    struct yk_ssd_op op;
    struct iovec iov;
};

/* Reads the records of one segment: footer, or batch headers where there is none. */
enum yk_scan_state { SCAN_IDLE = 0, SCAN_TAIL, SCAN_FOOT, SCAN_HEAD, SCAN_REST, SCAN_SEEK };

struct yk_ssd_scan {
    struct yk_ssd_op op;
    struct iovec iov;
    struct yk_ssd_dev *d;
    uint32_t seg; /* of the device */
    uint8_t state, from_footer;
    uint8_t first[YK_SSD_HEAD_BYTES]; /* a damaged first header */
    uint64_t seq;                     /* 0: the segment holds nothing */
    uint64_t at;     /* in the segment: where the next header should be, or is looked for */
    uint64_t number; /* of it, at least */
    uint64_t clock_ms, gen_max, bytes_read;
    uint64_t read_at, read_bytes, read_done; /* the read under way, in pieces */
    uint32_t torn;                           /* headers or footers that were damaged */
    int status;                              /* -YK_EIO: a read failed; what was found stands */
    unsigned char *buf;
    uint64_t cap;
    struct yk_ssd_foot foot;
    /* Records found, a list at a time; the end, after which the scan may be started again. */
    void (*found)(struct yk_ssd_scan *s, struct yk_ssd_recs recs);
    void (*ended)(struct yk_ssd_scan *s);
    void *ctx;
};

enum yk_clean_state {
    CLEAN_IDLE = 0,
    CLEAN_META,    /* records of the victim are read */
    CLEAN_READ,    /* payload that is kept is read */
    CLEAN_WRITE,   /* and put into the log */
    CLEAN_OTHERS,  /* tombstones and expiries, too */
    CLEAN_BARRIER, /* until all of that is durable */
    CLEAN_CKPT,    /* and namespaces that stand in the victim */
    CLEAN_ZERO,    /* the victims are made invalid */
    CLEAN_FLUSH,   /* durably */
    CLEAN_DROP,    /* what is still in one is forgotten */
    CLEAN_SWEEP,   /* likewise, without a list */
    CLEAN_REFS,    /* until no read needs it */
    CLEAN_DISCARD,
};

struct yk_ssd_cmove {
    uint64_t place, rec_at, buf_at;
    uint32_t id;
    uint8_t ok, queued, pending;
    struct yk_ssd_op op[5]; /* a block of 16 MiB in pieces of 4, and a sector more */
    struct iovec iov[5];
};

struct yk_ssd_victim {
    uint32_t seg;
    uint8_t failed; /* it could not be made invalid */
    unsigned char *recs;
    uint64_t recs_len, recs_cap;
    struct yk_ssd_op op[2]; /* its first sector and its last */
    struct iovec iov;
};

struct yk_ssd_clean {
    uint8_t state, pass, rebarrier;
    uint8_t wrote; /* what was written for this group, or that it relies on, must be durable first */
    struct yk_ssd_victim v[YK_SSD_CLEAN_GROUP];
    uint32_t count, at; /* victims of this group; the one that is looked at */
    uint64_t barrier, flush;
    uint64_t credit; /* bytes that may be rewritten */
    uint64_t moved;  /* of this victim */
    uint64_t rec_at; /* next record to look at */
    unsigned char *buf; /* payload on its way */
    uint64_t buf_used;
    struct yk_ssd_cmove *moves;
    uint32_t nmoves, reads_pending, moves_pending, zeros_pending;
    uint32_t sweep_at;
    struct yk_ssd_scan scan;
    struct yk_ssd_script script;
};

enum yk_return_state { RETURN_NO = 0, RETURN_READ, RETURN_WRITE };

/* One device: its log. */
struct yk_ssd_dev {
    struct yk_ssd *ssd;
    struct yk_file *io;
    const struct yk_file_ops *ops;
    uint8_t index, state; /* enum yk_ssd_dev_state */
    uint8_t direct, fixed_file, fixed_mem;
    uint8_t lost; /* at start: it is ours, but what stands there is not all that was; note says it */
    char path[256];
    char note[512];
    char io_note[400];
    uint64_t fixed_bytes;
    uint64_t opt_size;
    struct yk_ssd_super super;
    struct yk_ssd_seg *segs;
    uint32_t seg_base, nseg;
    uint32_t *freeq; /* ring of free segments */
    uint32_t free_head, free_count;
    uint32_t *seq_heads;      /* valid segments by sequence; +1 */
    uint32_t reserve, low, target; /* free ones: that puts may not take, below which the cleaner begins,
                                      at which it rests */
    uint64_t seg_count;       /* low half of the next sequence */
    uint64_t live_bytes;
    uint32_t live;

    struct yk_ssd_op *busy; /* requests that the device has */
    uint32_t busy_count, writes_busy;
    struct yk_file_req *submit_head, **submit_tail;
    uint32_t write_errors;

    struct yk_ssd_open opens[YK_SSD_OPENS];
    struct yk_ssd_open *open;
    struct yk_ssd_batch batches[YK_SSD_BATCHES];
    struct yk_ssd_batch *fifo, *fifo_last; /* open one is the last */
    struct yk_ssd_batch *batch;            /* the open one */
    uint32_t batches_free;
    uint64_t bseq, bseq_done, close_bseq;
    uint32_t room_want;
    struct yk_ssd_wreq *wreqs, *wreq_free;
    uint32_t wreq_count, wreqs_free;
    uint64_t queued_bytes;  /* payload of batches that are not complete */
    uint64_t writing_bytes; /* in their requests that have not ended */
    unsigned char *mem; /* heads, stages, puts of the batches */
    uint64_t mem_bytes;

    unsigned char *back; /* records that wait for a batch */
    uint64_t back_len, back_cap, back_at, back_ticket;

    struct yk_ssd_op flush_op;
    uint64_t flush_want, flush_started, flush_done;
    uint64_t tk_done, tk_flush; /* lowest ticket that waits for a flush, that is in one */
    uint64_t broken_from;       /* tickets from here on are lost; 0 = none */

    struct yk_ssd_script ckpt;
    unsigned char *ckpt_buf; /* two slots; then a superblock's sector */
    unsigned char *super_buf;
    uint64_t ckpt_wear; /* wear_bytes when the last one was written */
    uint64_t ckpt_seq, ckpt_ns_gen, ckpt_ns_gen_next, ckpt_run, ckpt_run_next, ckpt_at_ms;
    uint64_t ckpt_clock, ckpt_clock_next;
    uint8_t ckpt_want, ckpt_fails;
    uint64_t gone_run; /* who has recorded this run knows that the device is gone */
    uint64_t wear_bytes;

    struct yk_ssd_clean clean;
    struct yk_ssd_script ret; /* coming back */
    uint8_t ret_state;
    uint64_t ret_at_ms, check_at_ms, segs_at_ms;
    uint64_t stalled_ms;
};

struct yk_ssd_rop {
    uint64_t cookie, place;
    uint32_t id, next;
    uint32_t pending;
    int status;
    uint8_t skip[YK_SSD_SECTOR]; /* what stands before the payload in its sector */
};

struct yk_ssd_subread {
    struct yk_ssd_op op;
    struct iovec iov[2];
    uint32_t rop, next;
};

struct yk_ssd_pend {
    uint64_t hash, ticket; /* ticket 0 = free */
};

struct yk_ssd {
    struct yk_ssd_opts o;
    struct yk_ssd_table table;
    struct yk_ssd_dev *devs[YK_SSD_DEVICES_MAX];
    uint32_t ndev, nseg;
    struct yk_ssd_seg *segs;        /* of all devices */
    uint64_t cluster_id;
    uint64_t node_id, run, started; /* started: highest run before this one that was */
    uint64_t dev_started;           /* the same, of what the devices say alone */
    uint8_t begun;                  /* on_run has told of this run */
    uint64_t gen;                   /* highest that any record has */
    uint64_t clock_ms, now_ms;
    uint64_t capacity;
    uint64_t mem_ready; /* bytes of o.mem that are populated */
    uint8_t broken_any; /* a device is gone: entries must be asked for it */
    uint8_t hole_seen;  /* there was one when tickets were told of last */
    uint8_t closing;

    struct yk_ssd_ns ns[YK_SSD_NAMESPACES];
    uint64_t ns_gen;
    uint64_t ns_made[YK_SSD_NAMESPACES];    /* generation at which the number got its uid */
    uint8_t ns_tag[YK_SSD_NAMESPACES];      /* of live entries; 0xff: the namespace has none */
    uint32_t ns_tags[YK_SSD_NAMESPACES][8]; /* entries of each tag */
    struct yk_ssd_held {
        uint64_t bytes, count;
    } ns_held[YK_SSD_NAMESPACES][8]; /* those of them that are counted in a segment (yk_seg_count) */

    uint64_t ticket, ticket_told;
    uint64_t again; /* ticket of the tombstones that recovery has recorded again; 0 = none */
    struct yk_ssd_pend *pend;
    uint32_t pend_cap, pend_count;
    uint64_t pend_lost; /* ticket up to which anything may be pending; 0 */

    struct yk_ssd_rop *rops;
    struct yk_ssd_subread *subs;
    uint32_t rop_free, sub_free, subs_free;
    uint32_t drops, drops_last; /* dead entries to tell of, linked through next */
    uint32_t sweep_at;
    uint32_t sweep_left; /* ids to look at until a change of epoch or a loss is swept */

    int64_t tokens;
    uint64_t tokens_ns, throttled_ns;
    uint64_t put_turn;
    unsigned char *zeros; /* one sector and more of nothing */
    struct yk_ssd_counters c;
    struct yk_hist lat[2];
    pthread_mutex_t shown_lock; /* guards shown[]; rank 3 in docs/locks.md */
    struct yk_ssd_dev_stats shown[YK_SSD_DEVICES_MAX];
};

#define YK_SSD_ADD(field, n) __atomic_store_n(&(field), (field) + (n), __ATOMIC_RELAXED)

/* op.c: requests */
void yk_ssd_op_start(struct yk_ssd_dev *d, struct yk_ssd_op *op, unsigned type, uint64_t offset,
                     uint64_t bytes, const struct iovec *iov, uint32_t iov_count, unsigned prio);
void yk_ssd_ops_send(struct yk_ssd_dev *d);
void yk_ssd_ops_reap(struct yk_ssd_dev *d);
void yk_ssd_ops_abandon(struct yk_ssd_dev *d); /* after io close: all end with EGONE */
void yk_ssd_script_add(struct yk_ssd_script *s, unsigned op, uint64_t offset, void *buf,
                       uint64_t bytes);
void yk_ssd_script_start(struct yk_ssd_dev *d, struct yk_ssd_script *s,
                         void (*done)(struct yk_ssd_dev *d, struct yk_ssd_script *s));
int yk_ssd_script_wait(struct yk_ssd_dev *d, struct yk_ssd_script *s);
void yk_ssd_tokens_fill(struct yk_ssd *ssd);

/* dev.c: states of a device, checkpoints */
int yk_ssd_dev_mem(struct yk_ssd_dev *d);
void yk_ssd_dev_free(struct yk_ssd_dev *d);
void yk_ssd_dev_read_only(struct yk_ssd_dev *d, const char *why);
void yk_ssd_dev_gone(struct yk_ssd_dev *d, const char *why);
void yk_ssd_dev_segments_reset(struct yk_ssd_dev *d);
void yk_ssd_ckpt_start(struct yk_ssd_dev *d, int started, int clean);
int yk_ssd_ckpt_wait(struct yk_ssd_dev *d, int started, int clean);
void yk_ssd_ckpt_pump(struct yk_ssd_dev *d);
void yk_ssd_dev_tick(struct yk_ssd_dev *d);
void yk_ssd_dev_look(struct yk_ssd_dev *d, const struct yk_file_info *info);
void yk_ssd_dev_show(const struct yk_ssd_dev *d, struct yk_ssd_dev_stats *to);

/* attach.c: what stands on a device at start */
/* back: one that was gone, while clients wait: nothing is made, nobody is waited for. */
int yk_ssd_dev_open_io(struct yk_ssd_dev *d, int back, struct yk_err *err);
int yk_ssd_devs_attach(struct yk_ssd *ssd, struct yk_ssd_ckpt *ret_ckpts, struct yk_err *err);
/* Adds to a script: the superblock's copies, and a flush. The last one first: what it tells of is there. */
void yk_ssd_super_write(struct yk_ssd_dev *d, struct yk_ssd_script *s);
uint64_t yk_ssd_random(void);

/* segment.c: free ones, valid ones by sequence */
void yk_seg_free_push(struct yk_ssd_dev *d, uint32_t i);
uint32_t yk_seg_free_pop(struct yk_ssd_dev *d); /* YK_SSD_NONE: none */
void yk_seg_failed(struct yk_ssd_seg *seg);
/* Failed ones are tried again; a device without hope becomes read-only. Call it often. */
void yk_seg_retry(struct yk_ssd_dev *d);
void yk_seg_valid_add(struct yk_ssd_dev *d, uint32_t i);
void yk_seg_valid_remove(struct yk_ssd_dev *d, uint32_t i);
int yk_seg_valid(const struct yk_ssd_dev *d, uint64_t seq);
void yk_seg_count(struct yk_ssd *ssd, uint32_t id, int sign); /* an entry comes, goes */
static inline struct yk_ssd_seg *yk_seg_of(const struct yk_ssd *ssd, uint32_t id) {
    return &ssd->segs[yk_ssd_entry_segment(&ssd->table.e[id])];
}
static inline struct yk_ssd_dev *yk_dev_of(const struct yk_ssd *ssd, uint32_t id) {
    return ssd->devs[yk_seg_of(ssd, id)->dev];
}
static inline uint64_t yk_seg_at(const struct yk_ssd_dev *d, uint32_t global) {
    return yk_ssd_segment_at(d->super.segment_bytes, global - d->seg_base);
}

/* batch.c: records and payload into batches */
uint64_t yk_ssd_len_max(const struct yk_ssd_dev *d);
enum yk_ssd_room { ROOM_PUT, ROOM_MOVE, ROOM_RECORD }; /* how far down free segments may be taken */
int yk_ssd_batch_for(struct yk_ssd_dev *d, uint64_t len, uint32_t rec_bytes, enum yk_ssd_room room,
                     struct yk_ssd_batch **ret_batch);
void yk_ssd_batch_payload(struct yk_ssd_dev *d, struct yk_ssd_batch *b, const void *payload,
                          uint64_t len);
void yk_ssd_batch_record(struct yk_ssd_batch *b, const struct yk_ssd_rec *rec, uint64_t ticket);
int yk_ssd_batch_may(const struct yk_ssd_dev *d, uint64_t len); /* room for a put, as far as seen */
uint64_t yk_ssd_batch_place(const struct yk_ssd_batch *b, uint64_t len);
void yk_ssd_batch_send(struct yk_ssd_dev *d, struct yk_ssd_batch *b);
void yk_ssd_batch_close(struct yk_ssd_dev *d);

/* log.c: batches and segments onto the device */
void yk_ssd_log_pump(struct yk_ssd_dev *d);
void yk_ssd_log_record(struct yk_ssd_dev *d, const struct yk_ssd_rec *rec, uint64_t ticket);
/* Without a look for room now, before the log begins to work, too. -YK_ENOMEM. */
int yk_ssd_log_later(struct yk_ssd_dev *d, const struct yk_ssd_rec *rec, uint64_t ticket);
void yk_ssd_log_seal(struct yk_ssd_dev *d);
int yk_ssd_log_idle(const struct yk_ssd_dev *d); /* nothing waits to be written */

/* commit.c: tickets */
uint64_t yk_ssd_ticket_new(struct yk_ssd *ssd, uint32_t tag);
uint64_t yk_ssd_dev_waits(const struct yk_ssd_dev *d); /* lowest ticket not durable; 0 = none */
void yk_ssd_flush_pump(struct yk_ssd_dev *d);
int yk_ssd_hole_closes(const struct yk_ssd *ssd); /* there is one, and a device that will record it */
int yk_ssd_gone_recorded(const struct yk_ssd_dev *d);
uint64_t yk_ssd_flush_want(struct yk_ssd_dev *d);
void yk_ssd_durable_tell(struct yk_ssd *ssd);
void yk_ssd_pend_add(struct yk_ssd *ssd, uint32_t ns, uint64_t hash, uint64_t ticket);
uint64_t yk_ssd_tomb(struct yk_ssd *ssd, uint32_t id, uint64_t gen);
static inline uint64_t yk_ssd_gen_next(struct yk_ssd *ssd, uint64_t hint) {
    ssd->gen = hint > ssd->gen ? hint : ssd->gen + 1;
    return ssd->gen;
}

/* entry.c: entries of the table as the tier sees them */
int yk_ssd_entry_live(const struct yk_ssd *ssd, uint32_t id, uint64_t now_ms);
int yk_ssd_entry_current(const struct yk_ssd *ssd, uint32_t id); /* epoch and device only */
uint64_t yk_ssd_now(const struct yk_ssd *ssd, uint64_t now_ms);
void yk_ssd_entry_forget(struct yk_ssd *ssd, uint32_t id); /* unlink and count; not freed */
void yk_ssd_entry_free(struct yk_ssd *ssd, uint32_t id);   /* gives back the id */
void yk_ssd_entry_drop(struct yk_ssd *ssd, uint32_t id);   /* forget, on_drop at the poll's end */
/* A block is put under this key, which has no live entry: one that has expired and was not swept yet goes
 * now, since its tombstone must be older than the block. */
void yk_ssd_entry_make_way(struct yk_ssd *ssd, uint32_t ns, uint64_t hash, const void *key,
                           uint32_t key_len);
void yk_ssd_drops_tell(struct yk_ssd *ssd);
uint32_t yk_ssd_entry_at(const struct yk_ssd *ssd, uint32_t ns, const struct yk_ssd_rec *rec,
                         uint64_t place);
int yk_ssd_ns_number(const struct yk_ssd *ssd, uint64_t uid); /* -1: unknown, or removed */
void yk_ssd_ns_apply(struct yk_ssd *ssd, uint32_t ns, const struct yk_ssd_ns *entry);
int yk_ssd_sweep(struct yk_ssd *ssd, uint32_t steps); /* 1: more to do */

/* scan.c */
void yk_ssd_scan_start(struct yk_ssd_scan *s, struct yk_ssd_dev *d, uint32_t seg);
void yk_ssd_scan_free(struct yk_ssd_scan *s);

/* recover.c */
int yk_ssd_recover(struct yk_ssd *ssd, struct yk_ssd_ns *ns, const struct yk_ssd_ckpt *ckpts,
                   struct yk_err *err);

static inline struct yk_ssd_victim *yk_clean_victim(struct yk_ssd_dev *d) {
    return &d->clean.v[d->clean.at];
}

/* clean.c, victim.c, move.c */
void yk_ssd_clean_pump(struct yk_ssd_dev *d);
void yk_ssd_clean_abort(struct yk_ssd_dev *d);
int yk_ssd_clean_wants(const struct yk_ssd_dev *d);
int yk_ssd_worth_moving(const struct yk_ssd *ssd, uint32_t id, uint32_t pass);
uint32_t yk_ssd_victim(const struct yk_ssd_dev *d);
uint32_t yk_ssd_oldest(const struct yk_ssd_dev *d);
void yk_ssd_move_done(struct yk_ssd_dev *d, struct yk_ssd_batch *b, const struct yk_ssd_bput *p,
                      int ok);
void yk_ssd_move_pump(struct yk_ssd_dev *d);

/* order.c: the order of use over a stop */
struct yk_ssd_hint {
    uint64_t at, hash;
};
struct yk_ssd_order {
    uint64_t list, count, cap;
    struct yk_ssd_hint *hints;
};
void yk_ssd_order_write(struct yk_ssd *ssd, uint64_t end_ns);
int yk_ssd_order_found(struct yk_ssd_order *o, const struct yk_ssd_rec *rec);
void yk_ssd_order_apply(struct yk_ssd *ssd, struct yk_ssd_order *o); /* frees what was found */

/* ssd.c: so many bytes more (modulo 2^64) are queued at the device; shown at once, as the blocks that they are of are. */
void yk_ssd_queued(struct yk_ssd_dev *d, uint64_t more);
/* ssd.c: one turn of all logs that waits for the devices, at a stop */
void yk_ssd_turn(struct yk_ssd *ssd);

/* read.c */
int yk_ssd_reads_init(struct yk_ssd *ssd);

#endif
