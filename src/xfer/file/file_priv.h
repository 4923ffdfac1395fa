/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of a real device share: the file, the series of transfers that a request is, the
 * order in which requests start, the two engines that carry them out.
 *
 *   open.c     path -> open, locked, sized, allocated file with its alignment
 *   bounce.c   a request as a series of aligned transfers
 *   sched.c    which request starts next
 *   dev.c      the owner's half: submit, reap, wait, the ops tables
 *   uring.c    engine: one thread, one ring          mem.c  its registered memory
 *   quick.c    engine: the owner itself, for a few reads
 *   threads.c  engine: threads that block; also discards, which no ring of 6.1 can do
 */
#ifndef YK_XFER_FILE_FILE_PRIV_H
#define YK_XFER_FILE_FILE_PRIV_H

#include "xfer/file/file.h"

#include <pthread.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_FILE_DEPTH         64u
#define YK_FILE_DEPTH_MAX     1024u
#define YK_FILE_WRITES_BESIDE 8u           /* writes under way while there are reads */
#define YK_FILE_BOUNCE        (512u << 10) /* a bounce buffer: 64 packed blocks of 8 KiB */
#define YK_FILE_STEP_IOVS     136u         /* two for each piece and a few */
#define YK_FILE_RETRIES       2000u        /* of EAGAIN, a millisecond apart */

/* ---- open.c ------------------------------------------------------------------------------ */

/* Thread: immutable after open. */
struct yk_file_handle {
    int fd;
    char *path;
    uint64_t size;  /* a multiple of YK_FILE_SECTOR, unless odd */
    uint64_t found; /* bytes that stood there before it was made longer; 0 = it was made */
    uint32_t unit; /* of offsets and lengths of transfers; 1 = any (buffered) */
    uint32_t mem_align;
    uint32_t sector_bytes;
    uint8_t direct, is_block, read_only, shared, odd;
    uint8_t made, grown; /* by open */
    dev_t dev, rdev;
    ino_t ino;
    char note[160];
};

int yk_file_handle_open(const struct yk_file_opts *opts, struct yk_file_handle *ret_file,
                        struct yk_err *err);
void yk_file_handle_close(struct yk_file_handle *file);
/* Takes back what open did to the file; then close. */
void yk_file_handle_undo(const struct yk_file_handle *file);
int yk_file_handle_check(const struct yk_file_handle *file);

/* ---- bounce.c ---------------------------------------------------------------------------- */

struct yk_file_cursor {
    uint32_t piece;
    uint64_t off;
};

/* A READ or WRITE under way. Thread: the engine's that has it. */
struct yk_file_step {
    struct yk_file_req *req;
    uint64_t done;            /* bytes of req that are in place */
    struct yk_file_cursor at; /* where in its pieces that is */
    uint32_t tries;
    /* the transfer that comes next or is under way, at req->offset + done */
    uint32_t iov_count;
    uint64_t bytes; /* of iov */
    char *bounce;
    uint32_t bounced; /* bytes of bounce in iov */
    struct iovec iov[YK_FILE_STEP_IOVS];
};

enum yk_file_step_next {
    YK_FILE_STEP_DONE = 0, /* req has its status */
    YK_FILE_STEP_GO,       /* prepared; or: prepare the next transfer */
    YK_FILE_STEP_LATER,    /* the kernel was short of something: prepare again in a millisecond */
    YK_FILE_STEP_BOUNCE,   /* needs a bounce buffer to be prepared */
};

void yk_file_step_init(struct yk_file_step *step, struct yk_file_req *req);
/* bounce: YK_FILE_BOUNCE bytes at a page's begin, or NULL. GO or BOUNCE. */
enum yk_file_step_next yk_file_step_prepare(struct yk_file_step *step,
                                            const struct yk_file_handle *file, void *bounce);
/* res: bytes, or -errno, as the kernel said. DONE, GO or LATER. The bounce buffer is free again. */
enum yk_file_step_next yk_file_step_finish(struct yk_file_step *step,
                                           const struct yk_file_handle *file, int64_t res,
                                           uint64_t *bounced_bytes);
/* status and os_error of a request that ended with errno err; 0 = well. */
void yk_file_req_end(struct yk_file_req *req, int err);

/* ---- sched.c ----------------------------------------------------------------------------- */

struct yk_file_list {
    struct yk_file_req *head, *tail;
};

void yk_file_list_add(struct yk_file_list *list, struct yk_file_req *req);
struct yk_file_req *yk_file_list_take(struct yk_file_list *list);
/* A stack's list, newest first, to oldest first. */
struct yk_file_req *yk_file_list_turn(struct yk_file_req *head);

/* Thread: its engine's, or under the pool's mutex. */
struct yk_file_sched {
    struct yk_file_list waiting[2][3]; /* READ and WRITE by priority */
    struct yk_file_list flush, discard;
    uint32_t depth;
    uint32_t waiting_reads;
    uint32_t under_way[YK_FILE_OPS];
    uint32_t low_reads; /* under way, of lower priority than DEMAND */
    uint32_t quick;     /* atomic: reads that the owner has with the device itself */
};

void yk_file_sched_add(struct yk_file_sched *sched, struct yk_file_req *req);
/* The next request to start, or NULL. A FLUSH comes with all others that wait, as a list: one does
 * for all. */
struct yk_file_req *yk_file_sched_next(struct yk_file_sched *sched);
/* What next gave has ended (before its memory is given back). */
void yk_file_sched_done(struct yk_file_sched *sched, const struct yk_file_req *req);

/* ---- dev.c ------------------------------------------------------------------------------- */

/* Requests that ended together, to be given back with one wake. Thread: its maker's. */
struct yk_file_batch {
    struct yk_file_req *head; /* newest */
    struct yk_file_req *tail;
};

struct yk_file_ring;
struct yk_file_pool;

/* Thread: owner, but for what says otherwise. */
struct yk_file_dev {
    struct yk_file io;
    struct yk_file_handle file; /* immutable */
    uint8_t tentative;          /* nothing was written yet, and close takes back what open did */
    struct yk_file_ring *ring;  /* reads, writes, flushes; NULL: the pool does */
    struct yk_file_pool *pool;
    struct yk_file_quick *quick;     /* NULL: there is none */
    char note[200];                  /* of the engine; written before the owner has the device */
    struct yk_file_req *old, *young; /* with the device, in order of submit */
    uint64_t clock_ms, clock_ns;     /* see stalled() */
    uint64_t held;                   /* requests not reaped yet */
    /* Thread: any, atomic */
    struct yk_file_req *done; /* stack of ended requests; pairs with reap's exchange */
    int waits;                /* the owner sleeps on done_fd */
    int done_fd;
    struct yk_file_stats st;
};

/* Ends one request: its status is set. */
void yk_file_batch_add(struct yk_file_dev *dev, struct yk_file_batch *batch,
                       struct yk_file_req *req);
/* Gives them to the owner; they are not touched afterwards. */
void yk_file_batch_push(struct yk_file_dev *dev, struct yk_file_batch *batch);

/* Starts a thread that takes no signals of the process. 0 or -YK_ELIMIT. */
int yk_file_thread(pthread_t *ret_thread, const char *name, void *(*main)(void *), void *arg);

/* ---- engines -------------------------------------------------------------------------------- */

/* 0, or -errno where there is no ring to be had. */
int yk_file_ring_new(struct yk_file_dev *dev, const struct yk_file_opts *opts,
                     struct yk_file_ring **ret_ring);
/* Waits for everything. NULL is fine. */
void yk_file_ring_free(struct yk_file_ring *ring);
/* Owner: a list through next, oldest first. */
void yk_file_ring_submit(struct yk_file_ring *ring, struct yk_file_req *reqs);
void yk_file_ring_mem_ready(struct yk_file_ring *ring, uint64_t bytes);
/* Owner: so many reads are under way beside the ring. */
void yk_file_ring_quick(struct yk_file_ring *ring, uint32_t reads);
/* Owner: wakes the worker whether it says that it sleeps or not. */
void yk_file_ring_kick(struct yk_file_ring *ring);
/* fixed_file, fixed_mem, fixed_bytes; a line about memory into note, or "". */
void yk_file_ring_info(const struct yk_file_ring *ring, struct yk_file_info *info, char *note,
                       size_t note_bytes);

int yk_file_pool_new(struct yk_file_dev *dev, uint32_t threads, struct yk_file_pool **ret_pool);
void yk_file_pool_free(struct yk_file_pool *pool);
void yk_file_pool_submit(struct yk_file_pool *pool, struct yk_file_req *reqs);

/* ---- quick.c ---------------------------------------------------------------------------- */

struct yk_file_quick;

/* wake_fd: an eventfd, borrowed. NULL: no memory. */
struct yk_file_quick *yk_file_quick_new(struct yk_file_dev *dev, int wake_fd);
/* Waits for everything. NULL is fine, here and below. */
void yk_file_quick_free(struct yk_file_quick *q);
/* 1: it has the request; quick_submit gives it to the kernel. 0: it is not one for it. */
int yk_file_quick_take(struct yk_file_quick *q, struct yk_file_req *req);
void yk_file_quick_submit(struct yk_file_quick *q);
/* What has ended; `again`: those that another engine has to do, from their beginning. */
void yk_file_quick_reap(struct yk_file_quick *q, struct yk_file_batch *ended,
                        struct yk_file_list *again);
uint32_t yk_file_quick_busy(const struct yk_file_quick *q);
/* Until one has ended, ms at most; with something busy. */
void yk_file_quick_wait(struct yk_file_quick *q, uint32_t ms);

/* ---- mem.c ------------------------------------------------------------------------------- */

struct io_uring;

/* Registered memory. Thread: the ring's worker, but for the atomics. */
struct yk_file_mem {
    char *base;
    uint64_t bytes;
    uint64_t chunk;    /* bytes of one registered buffer; a power of two */
    uint64_t ready;    /* atomic: populated */
    uint64_t fixed;    /* atomic: registered, from the begin; a multiple of chunk, or bytes */
    uint64_t limit_kb; /* RLIMIT_MEMLOCK when it ended; before `stopped` */
    int stopped;       /* atomic: errno that ended it */
};

/* Reserves the ring's table. */
void yk_file_mem_init(struct yk_file_mem *mem, struct io_uring *ring, void *base, uint64_t bytes);
/* Is there something to register? */
int yk_file_mem_wants(const struct yk_file_mem *mem);
/* Registers one chunk. */
void yk_file_mem_step(struct yk_file_mem *mem, struct io_uring *ring);
/* The registered buffer that holds the range whole, or -1. */
int yk_file_mem_find(const struct yk_file_mem *mem, const void *ptr, uint64_t bytes);
void yk_file_mem_note(const struct yk_file_mem *mem, char *note, size_t note_bytes);

#ifdef __cplusplus
}
#endif

#endif
