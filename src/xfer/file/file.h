/* SPDX-License-Identifier: Apache-2.0
 *
 * A device: asynchronous reads, writes, flushes and discards at byte offsets of one file or block
 * device, behind an ops table. The file transport and the log of the SSD tier stand on it.
 *
 *   uring    a worker thread with an io_uring: O_DIRECT, registered file and buffers where the kernel
 *            lets it, buffered where the file system knows no O_DIRECT (uring.c). Where the
 *            kernel forbids io_uring it is `threads`, with a note.
 *   threads  a pool of threads that block in preadv and pwritev (threads.c): also for tools that
 *            cannot follow a ring
 *   fault    wraps any other: delay, error, short, corrupt, at the Nth request or at a rate
 *            (fault.c)
 *   tests bring their own: a device in memory that records its writes (tests/unit/tier)
 *
 * Requests are the caller's memory from submit to the moment that reap returns them, and so is what
 * they point to. Every request comes back exactly once, whatever happens to the device: an error is
 * a status, never silence. A request that the device has kept for YK_FILE_STALL_MS is reported by
 * stalled(), so that its user can give it up; its memory stays in use until it is reaped.
 *
 * Requests that are with the device at one time have no order among each other. Reads go before
 * writes: while reads wait or are under way, no more than a few writes are. Of either kind, lower
 * `prio` goes first.
 *
 * Threads: one owner thread calls everything. `wake` is called when there is something to reap where
 * there was nothing, from the device's threads (within submit for a request that is refused); it
 * must not block.
 */
#ifndef YK_XFER_FILE_FILE_H
#define YK_XFER_FILE_FILE_H

#include "base/status.h"

#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_FILE_SECTOR   4096u /* unit of offsets and lengths of reads and writes */
#define YK_FILE_IOVS     64u   /* pieces of one request */
#define YK_FILE_BYTES    (4u << 20)
#define YK_FILE_STALL_MS 30000u

enum yk_file_op {
    YK_FILE_READ = 0,
    YK_FILE_WRITE,
    YK_FILE_FLUSH,   /* everything whose write was reaped before it was submitted is durable */
    YK_FILE_DISCARD, /* the range's content is not needed any more; a hint: never fails */
    YK_FILE_OPS
};

enum yk_file_prio {
    YK_FILE_PRIO_DEMAND = 0,
    YK_FILE_PRIO_PREFETCH = 1,
    YK_FILE_PRIO_BACKGROUND = 2
};

/* One request. Memory of each piece may have any address and length; the pieces together are a
 * multiple of YK_FILE_SECTOR, as is the offset, but for a READ's last piece (the device reads whole
 * sectors, and what lies beyond the pieces is dropped), and for devices opened `odd`. An
 * implementation that needs alignment bounces pieces that have none, and counts them. */
struct yk_file_req {
    struct yk_file_req *next; /* the device's while it has the request; a list from reap */
    uint64_t offset;
    uint64_t bytes;          /* of all pieces; of a DISCARD: of the range */
    const struct iovec *iov; /* iov_count pieces, YK_FILE_IOVS at most; borrowed as the request */
    uint16_t iov_count;
    uint8_t op;     /* enum yk_file_op */
    uint8_t prio;   /* enum yk_file_prio */
    int32_t status; /* out: 0; -YK_EIO, -YK_ENOSPC, -YK_EGONE (the device left, or the file was cut
                     * short under us); -YK_EINVAL outside of the device or not whole sectors;
                     * -YK_EPERM a write to a device that was opened read_only */
    int32_t os_error;            /* out: errno of it, 0 = none */
    uint64_t submit_ns, done_ns; /* out: monotonic */
    void *user;                  /* the caller's */
    uint64_t priv[6];            /* the implementation's */
};

struct yk_file_opts {
    const char *path;    /* file, or block device */
    uint64_t size_bytes; /* of the file to be; 0 = as large as what is there */
    int create;          /* with a size: make, or extend, a file; its space is allocated at once */
    int read_only;       /* for the offline tool: no lock is taken, writes are refused */
    int buffered;        /* do not try O_DIRECT */
    int no_wait;         /* a lock that cannot be had is -YK_EBUSY at once */
    uint32_t depth;      /* requests under way in the device; 0 = 64; 1024 at most */
    void *mem; /* memory that most pieces lie in, registered as mem_ready says; NULL = none */
    uint64_t mem_bytes;
    void (*wake)(void *arg);
    void *wake_arg;
    /* An eventfd of the owner's loop (0 = none), borrowed until close: written instead of calling wake
     * for what the owner's own thread gave to the device (quick.c). */
    int wake_fd;
    int shared; /* no lock is taken, neither by flock nor by O_EXCL: others may have it open */
    /* A close that comes before any write leaves the file as it was: what open made is removed, what it made
     * longer is as long as before. For who has to look at what is there before it takes it. */
    int tentative;
    int odd;    /* with `buffered`: its size, offsets and lengths may be any number of bytes */
};

struct yk_file_info {
    uint64_t size_bytes;
    uint64_t found_bytes;          /* what stood there before open made it longer; 0 = open made it */
    uint32_t sector_bytes;         /* the device's own logical block, at most YK_FILE_SECTOR */
    uint8_t direct;                /* O_DIRECT */
    uint8_t is_block;              /* a block device */
    uint8_t ring;                  /* 1: io_uring; 0: threads */
    uint8_t fixed_file, fixed_mem; /* registered; mem: some of it */
    uint64_t fixed_bytes;          /* of mem that are registered now */
    /* One line for the log about what is slower than it could be; "" = none. May come, or grow, when
     * memory is registered: look again when it has changed. */
    char note[400];
};

struct yk_file_stats {
    uint64_t ops[YK_FILE_OPS], bytes[YK_FILE_OPS], errors[YK_FILE_OPS];
    uint64_t bounced_bytes; /* copied because of their alignment */
    uint64_t queued;        /* requests with the device now */
};

struct yk_file;

/* Every op is present in every implementation. */
struct yk_file_ops {
    const char *name;

    /* Opens, locks (a second opener, of any process, gets -YK_EBUSY with the owner's pid if it can be
     * known), sizes. Errors with a text that says what was found and what to do: ENOENT, EPERM,
     * EBUSY, ENOSPC (both figures), EINVAL (a directory, smaller than asked and not to be extended),
     * EIO. Nothing that is there is overwritten. */
    int (*open)(const struct yk_file_opts *opts, struct yk_file **ret_io, struct yk_err *err);

    /* Waits for all requests under way, which reap then no longer returns, and closes. NULL is fine. */
    void (*close)(struct yk_file *io);

    void (*info)(const struct yk_file *io, struct yk_file_info *ret_info);

    /* Takes requests (a list through next). Does not block; never fails: errors are statuses. */
    void (*submit)(struct yk_file *io, struct yk_file_req *reqs);

    /* Requests that have ended, as a list; NULL = none now. */
    struct yk_file_req *(*reap)(struct yk_file *io);

    /* The first `bytes` of opts.mem are populated and stay where they are until close: the device may
     * register (and so pin) them. It does so in the background, a chunk at a time. Until this is
     * called nothing is registered, since that would populate what nobody touched yet. Never less
     * than before. */
    void (*mem_ready)(struct yk_file *io, uint64_t bytes);

    /* Blocks until there is something to reap, or timeout_ms: for start and stop only. */
    void (*wait)(struct yk_file *io, uint32_t timeout_ms);

    /* Milliseconds that the oldest request (discards apart) has been with the device; 0 = nothing
     * there. Time in which the owner called nothing of the device counts for a second at most, so
     * that a process that was stopped does not blame its devices: call it every second or sooner, and
     * after reap. Wakes the device's worker when that is a second or more. */
    uint64_t (*stalled)(const struct yk_file *io);

    /* Is the path still the file that is open? 0; -YK_EGONE: removed, replaced, or cut short below the
     * size it was opened with. Called once a second. */
    int (*check)(struct yk_file *io);

    void (*stats)(const struct yk_file *io, struct yk_file_stats *ret_stats);
};

/* The head of every implementation's object; open sets all of it (wrappers wake the owner, too). */
struct yk_file {
    const struct yk_file_ops *ops;
    void (*wake)(void *arg); /* of opts; NULL = none */
    void *wake_arg;
};

extern const struct yk_file_ops yk_file_uring;
extern const struct yk_file_ops yk_file_threads;

/* ---- fault ---------------------------------------------------------------------------------- */

enum yk_file_fault_kind {
    YK_FILE_FAULT_EIO = 1, /* the request fails, nothing is done */
    YK_FILE_FAULT_SHORT,   /* half of it is done, then it fails */
    YK_FILE_FAULT_CORRUPT, /* a bit of what is read, or written, is flipped; success is reported. Bit
                              arg modulo those of the request; arg 0: any, by the seed */
    YK_FILE_FAULT_DELAY,   /* comes back arg milliseconds late; close does not wait for that */
    YK_FILE_FAULT_ENOSPC,
    YK_FILE_FAULT_GONE, /* from here on every request fails with -YK_EGONE, as does check, until
                              another fault, or none, is set */
};

struct yk_file_fault {
    uint8_t kind;      /* enum yk_file_fault_kind */
    uint8_t op_mask;   /* bit (1 << enum yk_file_op) of the ops it may hit */
    uint64_t nth;      /* hits the Nth such request from now (1 = the next), once; 0 = by rate */
    uint32_t rate_ppm; /* of such requests, by the seed */
    uint64_t arg;
    uint64_t seed;
};

/* Wraps io, which it then owns (close closes both). The fault can be set at any time by the owner
 * thread, and hits what is submitted from then on; NULL ends it. -YK_ENOMEM. */
int yk_file_fault_new(struct yk_file *io, struct yk_file **ret_io);
void yk_file_fault_set(struct yk_file *io, const struct yk_file_fault *fault);
uint64_t yk_file_fault_hits(const struct yk_file *io);

#ifdef __cplusplus
}
#endif

#endif
