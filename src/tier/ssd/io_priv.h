/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of a real device share: the file, the series of transfers that a request is, the
 * order in which requests start, the two engines that carry them out.
 *
 *   io_open.c     path -> open, locked, sized, allocated file with its alignment
 *   io_bounce.c   a request as a series of aligned transfers
 *   io_sched.c    which request starts next
 *   io_dev.c      the owner's half: submit, reap, wait, the ops tables
 *   io_uring.c    engine: one thread, one ring          io_mem.c  its registered memory
 *   io_quick.c    engine: the owner itself, for a few reads
 *   io_threads.c  engine: threads that block; also discards, which no ring of 6.1 can do
 */
#ifndef YK_TIER_SSD_IO_PRIV_H
#define YK_TIER_SSD_IO_PRIV_H

#include "tier/ssd/io.h"

#include <pthread.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SSD_DEPTH         64u
#define YK_SSD_DEPTH_MAX     1024u
#define YK_SSD_WRITES_BESIDE 8u           /* writes under way while there are reads */
#define YK_SSD_BOUNCE        (512u << 10) /* a bounce buffer: 64 packed blocks of 8 KiB */
#define YK_SSD_STEP_IOVS     136u         /* two for each piece and a few */
#define YK_SSD_RETRIES       2000u        /* of EAGAIN, a millisecond apart */

/* ---- io_open.c ------------------------------------------------------------------------------ */

/* Thread: immutable after open. */
struct yk_ssd_file {
    int fd;
    char *path;
    uint64_t size; /* a multiple of YK_SSD_SECTOR */
    uint32_t unit; /* of offsets and lengths of transfers; 1 = any (buffered) */
    uint32_t mem_align;
    uint32_t sector_bytes;
    uint8_t direct, is_block, read_only;
    dev_t dev, rdev;
    ino_t ino;
    char note[160];
};

int yk_ssd_file_open(const struct yk_ssd_io_opts *opts, struct yk_ssd_file *ret_file,
                     struct yk_err *err);
void yk_ssd_file_close(struct yk_ssd_file *file);
int yk_ssd_file_check(const struct yk_ssd_file *file);

/* ---- io_bounce.c ---------------------------------------------------------------------------- */

struct yk_ssd_cursor {
    uint32_t piece;
    uint64_t off;
};

/* A READ or WRITE under way. Thread: the engine's that has it. */
struct yk_ssd_step {
    struct yk_ssd_io_req *req;
    uint64_t done;           /* bytes of req that are in place */
    struct yk_ssd_cursor at; /* where in its pieces that is */
    uint32_t tries;
    /* the transfer that comes next or is under way, at req->offset + done */
    uint32_t iov_count;
    uint64_t bytes; /* of iov */
    char *bounce;
    uint32_t bounced; /* bytes of bounce in iov */
    struct iovec iov[YK_SSD_STEP_IOVS];
};

enum yk_ssd_step_next {
    YK_SSD_STEP_DONE = 0, /* req has its status */
    YK_SSD_STEP_GO,       /* prepared; or: prepare the next transfer */
    YK_SSD_STEP_LATER,    /* the kernel was short of something: prepare again in a millisecond */
    YK_SSD_STEP_BOUNCE,   /* needs a bounce buffer to be prepared */
};

void yk_ssd_step_init(struct yk_ssd_step *step, struct yk_ssd_io_req *req);
/* bounce: YK_SSD_BOUNCE bytes at a page's begin, or NULL. GO or BOUNCE. */
enum yk_ssd_step_next yk_ssd_step_prepare(struct yk_ssd_step *step, const struct yk_ssd_file *file,
                                          void *bounce);
/* res: bytes, or -errno, as the kernel said. DONE, GO or LATER. The bounce buffer is free again. */
enum yk_ssd_step_next yk_ssd_step_finish(struct yk_ssd_step *step, const struct yk_ssd_file *file,
                                         int64_t res, uint64_t *bounced_bytes);
/* status and os_error of a request that ended with errno err; 0 = well. */
void yk_ssd_req_end(struct yk_ssd_io_req *req, int err);

/* ---- io_sched.c ----------------------------------------------------------------------------- */

struct yk_ssd_list {
    struct yk_ssd_io_req *head, *tail;
};

void yk_ssd_list_add(struct yk_ssd_list *list, struct yk_ssd_io_req *req);
struct yk_ssd_io_req *yk_ssd_list_take(struct yk_ssd_list *list);
/* A stack's list, newest first, to oldest first. */
struct yk_ssd_io_req *yk_ssd_list_turn(struct yk_ssd_io_req *head);

/* Thread: its engine's, or under the pool's mutex. */
struct yk_ssd_sched {
    struct yk_ssd_list waiting[2][3]; /* READ and WRITE by priority */
    struct yk_ssd_list flush, discard;
    uint32_t depth;
    uint32_t waiting_reads;
    uint32_t under_way[YK_SSD_IO_OPS];
    uint32_t low_reads; /* under way, of lower priority than DEMAND */
    uint32_t quick;     /* atomic: reads that the owner has with the device itself */
};

void yk_ssd_sched_add(struct yk_ssd_sched *sched, struct yk_ssd_io_req *req);
/* The next request to start, or NULL. A FLUSH comes with all others that wait, as a list: one does
 * for all. */
struct yk_ssd_io_req *yk_ssd_sched_next(struct yk_ssd_sched *sched);
/* What next gave has ended (before its memory is given back). */
void yk_ssd_sched_done(struct yk_ssd_sched *sched, const struct yk_ssd_io_req *req);

/* ---- io_dev.c ------------------------------------------------------------------------------- */

/* Requests that ended together, to be given back with one wake. Thread: its maker's. */
struct yk_ssd_batch {
    struct yk_ssd_io_req *head; /* newest */
    struct yk_ssd_io_req *tail;
};

struct yk_ssd_ring;
struct yk_ssd_pool;

/* Thread: owner, but for what says otherwise. */
struct yk_ssd_dev {
    struct yk_ssd_io io;
    struct yk_ssd_file file;  /* immutable */
    struct yk_ssd_ring *ring; /* reads, writes, flushes; NULL: the pool does */
    struct yk_ssd_pool *pool;
    struct yk_ssd_quick *quick; /* NULL: there is none */
    char note[200];                    /* of the engine; written before the owner has the device */
    struct yk_ssd_io_req *old, *young; /* with the device, in order of submit */
    uint64_t clock_ms, clock_ns;       /* see stalled() */
    uint64_t held;                     /* requests not reaped yet */
    /* Thread: any, atomic */
    struct yk_ssd_io_req *done; /* stack of ended requests; pairs with reap's exchange */
    int waits;                  /* the owner sleeps on done_fd */
    int done_fd;
    struct yk_ssd_io_stats st;
};

/* Ends one request: its status is set. */
void yk_ssd_batch_add(struct yk_ssd_dev *dev, struct yk_ssd_batch *batch,
                      struct yk_ssd_io_req *req);
/* Gives them to the owner; they are not touched afterwards. */
void yk_ssd_batch_push(struct yk_ssd_dev *dev, struct yk_ssd_batch *batch);

/* Starts a thread that takes no signals of the process. 0 or -YK_ELIMIT. */
int yk_ssd_thread(pthread_t *ret_thread, const char *name, void *(*main)(void *), void *arg);

/* ---- engines -------------------------------------------------------------------------------- */

/* 0, or -errno where there is no ring to be had. */
int yk_ssd_ring_new(struct yk_ssd_dev *dev, const struct yk_ssd_io_opts *opts,
                    struct yk_ssd_ring **ret_ring);
/* Waits for everything. NULL is fine. */
void yk_ssd_ring_free(struct yk_ssd_ring *ring);
/* Owner: a list through next, oldest first. */
void yk_ssd_ring_submit(struct yk_ssd_ring *ring, struct yk_ssd_io_req *reqs);
void yk_ssd_ring_mem_ready(struct yk_ssd_ring *ring, uint64_t bytes);
/* Owner: so many reads are under way beside the ring. */
void yk_ssd_ring_quick(struct yk_ssd_ring *ring, uint32_t reads);
/* Owner: wakes the worker whether it says that it sleeps or not. */
void yk_ssd_ring_kick(struct yk_ssd_ring *ring);
/* fixed_file, fixed_mem, fixed_bytes; a line about memory into note, or "". */
void yk_ssd_ring_info(const struct yk_ssd_ring *ring, struct yk_ssd_io_info *info, char *note,
                      size_t note_bytes);

int yk_ssd_pool_new(struct yk_ssd_dev *dev, uint32_t threads, struct yk_ssd_pool **ret_pool);
void yk_ssd_pool_free(struct yk_ssd_pool *pool);
void yk_ssd_pool_submit(struct yk_ssd_pool *pool, struct yk_ssd_io_req *reqs);

/* ---- io_quick.c ---------------------------------------------------------------------------- */

struct yk_ssd_quick;

/* wake_fd: an eventfd, borrowed. NULL: no memory. */
struct yk_ssd_quick *yk_ssd_quick_new(struct yk_ssd_dev *dev, int wake_fd);
/* Waits for everything. NULL is fine, here and below. */
void yk_ssd_quick_free(struct yk_ssd_quick *q);
/* 1: it has the request; quick_submit gives it to the kernel. 0: it is not one for it. */
int yk_ssd_quick_take(struct yk_ssd_quick *q, struct yk_ssd_io_req *req);
void yk_ssd_quick_submit(struct yk_ssd_quick *q);
/* What has ended; `again`: those that another engine has to do, from their beginning. */
void yk_ssd_quick_reap(struct yk_ssd_quick *q, struct yk_ssd_batch *ended, struct yk_ssd_list *again);
uint32_t yk_ssd_quick_busy(const struct yk_ssd_quick *q);
/* Until one has ended, ms at most; with something busy. */
void yk_ssd_quick_wait(struct yk_ssd_quick *q, uint32_t ms);

/* ---- io_mem.c ------------------------------------------------------------------------------- */

struct io_uring;

/* Registered memory. Thread: the ring's worker, but for the atomics. */
struct yk_ssd_mem {
    char *base;
    uint64_t bytes;
    uint64_t chunk;    /* bytes of one registered buffer; a power of two */
    uint64_t ready;    /* atomic: populated */
    uint64_t fixed;    /* atomic: registered, from the begin; a multiple of chunk, or bytes */
    uint64_t limit_kb; /* RLIMIT_MEMLOCK when it ended; before `stopped` */
    int stopped;       /* atomic: errno that ended it */
};

/* Reserves the ring's table. */
void yk_ssd_mem_init(struct yk_ssd_mem *mem, struct io_uring *ring, void *base, uint64_t bytes);
/* Is there something to register? */
int yk_ssd_mem_wants(const struct yk_ssd_mem *mem);
/* Registers one chunk. */
void yk_ssd_mem_step(struct yk_ssd_mem *mem, struct io_uring *ring);
/* The registered buffer that holds the range whole, or -1. */
int yk_ssd_mem_find(const struct yk_ssd_mem *mem, const void *ptr, uint64_t bytes);
void yk_ssd_mem_note(const struct yk_ssd_mem *mem, char *note, size_t note_bytes);

#ifdef __cplusplus
}
#endif

#endif
