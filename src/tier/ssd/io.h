/* SPDX-License-Identifier: Apache-2.0
 *
 * A device as the SSD tier sees it: asynchronous reads, writes, flushes and discards at byte offsets
 * of one file or block device, behind an ops table.
 *
 *   uring   a worker thread with an io_uring: O_DIRECT, registered file and buffers where the kernel
 *           lets it, buffered where the file system knows no O_DIRECT (io_uring.c)
 *   fault   wraps any other: delay, error, short, corrupt, at the Nth request or at a rate
 *           (io_fault.c)
 *   tests bring their own: a device in memory that records its writes (tests/unit/tier)
 *
 * Requests are the caller's memory from submit to the moment that reap returns them, and so is what
 * they point to. Every request comes back exactly once, whatever happens to the device: an error is
 * a status, never silence. A request that the device has kept for YK_SSD_IO_STALL_MS is reported by
 * stalled(), so that the tier can be given up; its memory stays in use until it is reaped.
 *
 * Reads go before writes: while reads wait, no more than a few writes are under way.
 *
 * Threads: open, submit, reap, close by one owner thread. `wake` is called from the device's worker
 * when there is something to reap that was not there before; it must not block.
 */
#ifndef YK_TIER_SSD_IO_H
#define YK_TIER_SSD_IO_H

#include "base/status.h"

#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SSD_SECTOR      4096u /* unit of offsets and lengths of reads and writes */
#define YK_SSD_IO_IOVS     64u   /* pieces of one request */
#define YK_SSD_IO_BYTES    (4u << 20)
#define YK_SSD_IO_STALL_MS 30000u

enum yk_ssd_io_op {
    YK_SSD_IO_READ = 0,
    YK_SSD_IO_WRITE,
    YK_SSD_IO_FLUSH,   /* everything whose write was reaped before it was submitted is durable */
    YK_SSD_IO_DISCARD, /* the range's content is not needed any more; a hint, never fails the tier */
    YK_SSD_IO_OPS
};

enum yk_ssd_io_prio { YK_SSD_PRIO_DEMAND = 0, YK_SSD_PRIO_PREFETCH = 1, YK_SSD_PRIO_BACKGROUND = 2 };

/* One request. Memory of each piece may have any address and length; the pieces together are a
 * multiple of YK_SSD_SECTOR, as is the offset, but for a READ's last piece (the device reads whole
 * sectors, and what lies beyond the pieces is dropped). An implementation that needs alignment
 * bounces pieces that have none, and counts them. */
struct yk_ssd_io_req {
    struct yk_ssd_io_req *next; /* the device's while it has the request; a list from reap */
    uint64_t offset;
    uint64_t bytes; /* of all pieces; of a DISCARD: of the range */
    const struct iovec *iov; /* iov_count pieces, YK_SSD_IO_IOVS at most; borrowed as the request */
    uint16_t iov_count;
    uint8_t op;   /* enum yk_ssd_io_op */
    uint8_t prio; /* enum yk_ssd_io_prio */
    int32_t status; /* out: 0; -YK_EIO, -YK_ENOSPC, -YK_EGONE (the device left), -YK_ECANCELED */
    int32_t os_error; /* out: errno of it, 0 = none */
    uint64_t submit_ns, done_ns; /* out: monotonic */
    void *user;                  /* the caller's */
    uint64_t priv[6];            /* the implementation's */
};

struct yk_ssd_io_opts {
    const char *path;     /* file, or block device */
    uint64_t size_bytes;  /* of the file to be; 0 = as large as what is there */
    int create;           /* make, or extend, a file; its space is allocated at once */
    int read_only;        /* for the offline tool: no lock is taken, writes are refused */
    int buffered;         /* do not try O_DIRECT */
    uint32_t depth;       /* requests under way in the device; 0 = 64 */
    void *mem;            /* memory that most pieces lie in, registered if possible; NULL = none */
    uint64_t mem_bytes;
    void (*wake)(void *arg);
    void *wake_arg;
};

struct yk_ssd_io_info {
    uint64_t size_bytes;
    uint32_t sector_bytes;  /* the device's own logical block, at most YK_SSD_SECTOR */
    uint8_t direct;         /* O_DIRECT */
    uint8_t is_block;       /* a block device */
    uint8_t fixed_file, fixed_mem; /* registered */
    char note[200];         /* one line for the log about what is slower than it could be; "" = none */
};

struct yk_ssd_io_stats {
    uint64_t ops[YK_SSD_IO_OPS], bytes[YK_SSD_IO_OPS], errors[YK_SSD_IO_OPS];
    uint64_t bounced_bytes; /* copied because of their alignment */
    uint64_t queued;        /* requests with the device now */
};

struct yk_ssd_io;

/* Every op is present in every implementation. */
struct yk_ssd_io_ops {
    const char *name;

    /* Opens, locks (a second opener, of any process, gets -YK_EBUSY with the owner's pid if it can be
     * known), sizes. Errors with a text that says what was found and what to do: ENOENT, EPERM,
     * EBUSY, ENOSPC (both figures), EINVAL (a directory, smaller than asked and not to be extended),
     * EIO. Nothing that is there is overwritten. */
    int (*open)(const struct yk_ssd_io_opts *opts, struct yk_ssd_io **ret_io, struct yk_err *err);

    /* Waits for all requests under way, which reap then no longer returns, and closes. NULL is fine. */
    void (*close)(struct yk_ssd_io *io);

    void (*info)(const struct yk_ssd_io *io, struct yk_ssd_io_info *ret_info);

    /* Takes requests (a list through next). Does not block; never fails: errors are statuses. */
    void (*submit)(struct yk_ssd_io *io, struct yk_ssd_io_req *reqs);

    /* Requests that have ended, as a list; NULL = none now. */
    struct yk_ssd_io_req *(*reap)(struct yk_ssd_io *io);

    /* Blocks until there is something to reap, or timeout_ms: for start and stop only. */
    void (*wait)(struct yk_ssd_io *io, uint32_t timeout_ms);

    /* Milliseconds that the oldest request has been with the device; 0 = nothing there. */
    uint64_t (*stalled)(const struct yk_ssd_io *io);

    /* Is the path still the file that is open? 0; -YK_EGONE: removed, replaced, or cut short below the
     * size it was opened with. Called once a second. */
    int (*check)(struct yk_ssd_io *io);

    void (*stats)(const struct yk_ssd_io *io, struct yk_ssd_io_stats *ret_stats);
};

/* The head of every implementation's object. */
struct yk_ssd_io {
    const struct yk_ssd_io_ops *ops;
};

extern const struct yk_ssd_io_ops yk_ssd_io_uring;

/* ---- fault ---------------------------------------------------------------------------------- */

enum yk_ssd_fault_kind {
    YK_SSD_FAULT_EIO = 1,  /* the request fails, nothing is done */
    YK_SSD_FAULT_SHORT,    /* half of it is done, then it fails */
    YK_SSD_FAULT_CORRUPT,  /* a bit of what is read, or written, is flipped; success is reported */
    YK_SSD_FAULT_DELAY,    /* comes back arg milliseconds late */
    YK_SSD_FAULT_ENOSPC,
    YK_SSD_FAULT_GONE,     /* from here on every request fails with -YK_EGONE */
};

struct yk_ssd_fault {
    uint8_t kind;      /* enum yk_ssd_fault_kind */
    uint8_t op_mask;   /* bit (1 << enum yk_ssd_io_op) of the ops it may hit */
    uint64_t nth;      /* hits the Nth such request from now (1 = the next); 0 = by rate */
    uint32_t rate_ppm; /* of such requests, by the seed */
    uint64_t arg;
    uint64_t seed;
};

/* Wraps io, which it then owns (close closes both). The fault can be set at any time by the owner
 * thread; NULL ends it. -YK_ENOMEM. */
int yk_ssd_io_fault_new(struct yk_ssd_io *io, struct yk_ssd_io **ret_io);
void yk_ssd_io_fault_set(struct yk_ssd_io *io, const struct yk_ssd_fault *fault);
uint64_t yk_ssd_io_fault_hits(const struct yk_ssd_io *io);

#ifdef __cplusplus
}
#endif

#endif
