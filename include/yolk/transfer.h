/* SPDX-License-Identifier: Apache-2.0
 *
 * The transfer engine: moves bytes between registered memory of processes and hosts.
 *
 * A process makes an engine, registers memory, and publishes ranges of it under names: segments. Others
 * open a segment and submit batches of reads (segment -> own memory) and writes (own memory ->
 * segment). Callers say what to move, how urgent it is and until when; the engine picks the path for
 * each slice: a copy inside the process, shared memory on the host, TCP over all useful rails, a file.
 *
 * Every request of an accepted batch ends exactly once, with a status: its bytes are all there, or it
 * failed and says why. When it has ended, no thread, peer or device touches its memory any more.
 *
 * Threads: every function may be called from any thread, on one engine at the same time, except
 *   yk_xfer_destroy, which no other call may overlap. Not usable in a forked child (-YK_EFORK).
 * Ownership: the caller keeps all that it passes. Arrays and texts are borrowed until the call returns;
 *   memory that requests name, until they have ended. Outputs (ret_...) are written only on success.
 * Errors: >= 0 is success, -YK_E... (yolk/status.h) is failure; yk_xfer_error_text() says more about the
 *   last failure of the calling thread.
 * Option structs begin with `size`, set to sizeof by the caller; new fields go at the end; NULL stands
 *   for all defaults. yk_xfer_segment_info may grow as in yolk.h; yk_xfer_memory, yk_xfer_guard, yk_xfer_request,
 *   yk_xfer_status, yk_xfer_completion and yk_xfer_note never change.
 */
#ifndef YOLK_TRANSFER_H
#define YOLK_TRANSFER_H

#include <stddef.h>
#include <stdint.h>

#include <yolk/status.h>
#include <yolk/yolk.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_XFER_NAME_MAX   127u        /* bytes of a segment's name */
#define YK_XFER_BATCH_MAX  65536u      /* requests of one batch */
#define YK_XFER_NOTIFY_MAX 4096u       /* bytes of a notification */
#define YK_XFER_LENGTH_MAX (1ull << 40) /* bytes of one request */

typedef struct yk_xfer yk_xfer;

/* ---- engine ---------------------------------------------------------------------------------- */

/* Where names of segments are looked up when they have no address in front. The engine calls from the
 * thread of the caller of publish, withdraw and open; user is passed along. */
typedef struct yk_xfer_resolver {
    uint32_t size; /* sizeof(yk_xfer_resolver) */
    void *user;
    /* address: "engine=ID,host:port[,host:port...][,unix:/path]", as others shall reach the engine; ID is
     * its incarnation, so that nobody takes another for it. "mem:ID" of one that does not listen, for
     * others in its process.
     * -YK_ECONFLICT: another live engine has the name. */
    int (*publish)(void *user, const char *name, const char *address);
    int (*withdraw)(void *user, const char *name);
    /* Into ret_address, terminated. -YK_ENOENT: nobody has published it. */
    int (*resolve)(void *user, const char *name, char *ret_address, size_t cap);
} yk_xfer_resolver;

enum yk_xfer_transport { /* bits */
    YK_XFER_MEM = 1,     /* memory of the same process */
    YK_XFER_SHM = 2,     /* memory of another process of the host */
    YK_XFER_TCP = 4,
    YK_XFER_FILE = 8,
    YK_XFER_RDMA = 16 /* devices of both hosts move the payload; only when it is named here (docs/rdma.md) */
};

/* The bits of a list of names, "rdma,tcp"; "all": all of them, RDMA too. -YK_EINVAL: it is none, or is empty. */
YK_API int yk_xfer_transports(const char *names, uint32_t *ret_transports);

/* Whether a text is one that `rdma` below takes: 0, or -YK_EINVAL (which entry, and what was expected). Whether this host
 * has what it names is another question, which creating an engine answers. */
YK_API int yk_xfer_rdma_check(const char *rdma);

typedef struct yk_xfer_opts {
    uint32_t size;            /* sizeof(yk_xfer_opts) */
    uint32_t transports;      /* enum yk_xfer_transport; 0 = all but RDMA */
    const char *listen;       /* "HOST:PORT" (port 0: any free one) that peers connect to; NULL: none does */
    const char *advertise;    /* addresses "HOST:PORT,..." given to peers; NULL: those of the interfaces
                                 that `listen` covers */
    int insecure_network;     /* nobody is authenticated: 1 allows addresses other than loopback */
    const char *shm_dir;      /* for the socket of same-host peers; NULL: $XDG_RUNTIME_DIR if it can be
                                 written, else /tmp; "": no such peers */
    const yk_xfer_resolver *resolver; /* copied; NULL: segments are opened by address only */
    const char *registry_dir; /* in place of a resolver: a directory that all engines share, one file a
                                 name; NULL: none */
    const char *rails;        /* own devices or addresses to use, "eth0,10.0.0.7", each of which there is;
                                 NULL: all */
    uint32_t shards;          /* independent sets of lanes, each with a thread for when no caller waits;
                                 1..4; 0: 1 */
    uint32_t lanes;           /* connections on each rail and shard for bulk, 1..8; 0: 1. One more is for
                                 urgent requests, and a long way that is full gets up to 32 for as long */
    uint32_t inflight_max;    /* requests accepted and not ended; 0: 65536 */
    uint32_t poll_us;         /* how long waiting looks for an answer before it sleeps, 0..1000; 0: sleeps */
    uint32_t connect_ms;      /* until an attempt to connect counts as failed; 0: 1000 */
    uint32_t stall_ms;        /* a lane that moved nothing for so long while it should is given up when
                                 there is another rail, or when one dialled beside it is answered; 0: 200 */
    const char *fault;        /* tests: "KIND:every=N" or "KIND:rate=P", KIND of delay, drop, error,
                                 corrupt; wraps all transports; NULL: none */
    uint32_t any_local;       /* 1: local memory of requests need not be registered; it is then the
                                 caller's alone to keep until they ended. Over RDMA each slice of it is
                                 made known to the device, and forgotten (docs/rdma.md) */
    const char *topology;     /* a file that sets right what is found of devices and their distances (yolk topo
                                 --help); NULL: none */
    const char *rdma;         /* with YK_XFER_RDMA: "device=NAME[:PORT]" (again for each that may be used),
                                 "gid-index=N", "traffic-class=N", "service-level=N", "depth=N", with commas between
                                 (docs/rdma.md); -YK_EINVAL: this host does not have what it names. NULL: all
                                 devices */
} yk_xfer_opts;

/* Starts an engine. -YK_EINVAL (what and where in the text), -YK_EPERM an address beyond loopback
 * without insecure_network, -YK_EBUSY it is in use, -YK_ENOMEM, -YK_ELIMIT. */
YK_API int yk_xfer_create(const yk_xfer_opts *opts, yk_xfer **ret_engine);

/* Cancels what is under way, waits for it to end, withdraws segments, frees. NULL is fine. Nothing touches memory
 * that was registered when it returns; an RDMA device that hangs is given up after five seconds, and may have it
 * pinned for longer, while no connection is left over which it would read or write there. */
YK_API void yk_xfer_destroy(yk_xfer *engine);

/* Shuts another engine out, by the "engine=ID" that a list of its addresses begins with (what is behind is not looked
 * at): its connections here are closed, with them its RDMA queue pairs and all that it was lent, and none is taken from it
 * any more (-YK_EPERM there); own requests to it end with -YK_EGONE. When this returns none of its devices can read memory
 * here. Not processes of this host, which copy by themselves. It is for one that is known to do harm, not against
 * an enemy: nobody is authenticated, and after a restart it is another. -YK_EINVAL: no such list; -YK_ELIMIT: 1024 are. */
YK_API int yk_xfer_revoke(yk_xfer *engine, const char *address);

/* Text of the calling thread's last failure; never NULL. Valid until its next failing call. */
YK_API const char *yk_xfer_error_text(void);

/* "host:port" that peers may use, or "" when the engine does not listen. Valid until destroy. */
YK_API const char *yk_xfer_address(const yk_xfer *engine);

/* ---- memory ---------------------------------------------------------------------------------- */

enum yk_xfer_access { /* bits: what peers may do */
    YK_XFER_LOCAL = 0,
    YK_XFER_REMOTE_READ = 1,
    YK_XFER_REMOTE_WRITE = 2,
    YK_XFER_REMOTE_GUARDED = 4, /* requests of peers must have a guard; without one they are -YK_EPERM */
    /* And what kind of memory it is: a device's, which no processor touches, or by default the host's. RDMA devices
     * alone move its bytes (docs/rdma.md): a request for which there is none ends with -YK_ENOTSUP. */
    YK_XFER_CUDA = 0x100,  /* addr is a device pointer of CUDA: its driver is asked for the rest */
    YK_XFER_DMABUF = 0x200 /* fd is a dma-buf, the memory begins at fd_offset in it, and addr names it: whatever the
                              caller calls it by (a device pointer), with the same place in its page as fd_offset has */
};

typedef struct yk_xfer_memory {
    void *addr;
    uint64_t length;      /* bytes; 1..YK_XFER_LENGTH_MAX */
    const char *location; /* "cpu:N", "cxl:N" as yolk topo has them; NULL: found out, as far as its pages
                             have been touched. Of rails that are as good as each other those near to where
                             most of an engine's memory lies are preferred. A device's ("cuda:N"): with its
                             kind in access only, else it is -YK_ENOTSUP */
    uint32_t access;      /* enum yk_xfer_access */
    int fd;               /* -1, or a descriptor (memfd, shared memory) that maps to this memory at
                             fd_offset: peers of the host map it; duplicated. YK_XFER_CUDA: -1 */
    uint64_t fd_offset;
} yk_xfer_memory;

/* Registers n ranges, all or none. -YK_EINVAL which one and why (zero, wraps around, overlaps one that
 * is registered), -YK_ENOMEM, -YK_ELIMIT. Memory of devices: -YK_ENOTSUP where RDMA is not among the engine's
 * transports, or the driver gives no way to it. It must stay allocated until it is unregistered. A kernel of CUDA
 * that is started when a request has ended finds what was read; one that runs already may not. */
YK_API int yk_xfer_register(yk_xfer *engine, const yk_xfer_memory *memory, size_t n);

/* Unregisters the ranges that begin at addrs; segments in them are withdrawn. Requests of this engine
 * under way in them end with -YK_ECANCELED, those of peers fail; when it returns nothing touches the
 * memory. All or none: -YK_ENOENT which one is not registered. -YK_ETIMEDOUT: within five seconds requests of
 * this engine did not end, a peer of the host within a copy did not go on, or an RDMA device did not let go.
 * No new request and no peer gets at the ranges any more, but what has one may yet read or write it: its place
 * stays taken, and it must be kept and not be used for anything else until a call for it alone, which waits
 * again, returns 0, or -YK_ENOENT: it was free already. -YK_EBUSY: another thread is at it, who is told. */
YK_API int yk_xfer_unregister(yk_xfer *engine, void *const *addrs, size_t n);

/* Memory that peers of the host can map: allocated, registered, zero. Freed by yk_xfer_free (which
 * unregisters it, if that was not done; errors as there), or destroy. */
YK_API int yk_xfer_alloc(yk_xfer *engine, uint64_t length, uint32_t access, void **ret_addr);
YK_API int yk_xfer_free(yk_xfer *engine, void *addr);

/* ---- segments -------------------------------------------------------------------------------- */

/* How a target answers guarded requests to a segment (docs/rules.md, R15). Called on threads of the
 * engine, at the same time; must not block. Calls may come until the segment's memory is unregistered or
 * the engine destroyed: withdrawing the name takes it from new readers only. */
typedef struct yk_xfer_guard_ops {
    uint32_t size; /* sizeof(yk_xfer_guard_ops) */
    void *user;
    /* op: enum yk_xfer_op. A read, 0: what `descriptor` says at this generation and epoch lies at
     * [offset, offset + length) of the segment, and stays there until unpin is called with *ret_pin. A
     * write, 0: the range is the writer's until then; it is called before the first byte is written, and
     * unpin when none of this request can be written any more. YK_MISS: it is not so (any more).
     * -YK_EAGAIN: too many pins now; it is asked again within the request's deadline. A large request
     * is asked for in slices, each with a pin of its own. */
    int (*pin)(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch,
               uint64_t offset, uint64_t length, uint64_t *ret_pin);
    void (*unpin)(void *user, uint64_t pin);
} yk_xfer_guard_ops;

/* Gives the range [addr, addr + length), which must lie in registered memory, a name that peers open
 * it by: 1 to YK_XFER_NAME_MAX bytes without '/' that do not begin with "file:". What they may do is the
 * memory's access. guard: copied, or NULL. -YK_ECONFLICT: the name is taken, here or (with a resolver) by
 * another engine. */
YK_API int yk_xfer_publish(yk_xfer *engine, const char *name, void *addr, uint64_t length,
                           const yk_xfer_guard_ops *guard);
/* The same of a file or block device, opened O_DIRECT where it can be. access as of memory. For this
 * engine alone: others, of this process too, get -YK_ENOTSUP when they open the name, and open the file by
 * its path where they have it. */
YK_API int yk_xfer_publish_file(yk_xfer *engine, const char *name, const char *path, uint32_t access);
YK_API int yk_xfer_withdraw(yk_xfer *engine, const char *name);

/* A segment that was opened. Handles are numbers that are checked: a stale one is -YK_ENOENT. */
typedef uint64_t yk_xfer_segment;

/* where: "HOST:PORT/NAME", "unix:/PATH/NAME" (the socket in front of the last '/'), several such
 * addresses with commas between ("engine=ID" among them: those behind it must be that engine's), "file:/PATH" (this
 * host's, read and write), "mem:ID/NAME" (an engine of this process, as resolvers are given it when it
 * does not listen), or "NAME" (this engine's own, else by the resolver). Blocks until
 * timeout_ms (0 = 5000). -YK_ENOENT no such segment, -YK_EGONE nobody answers there, -YK_ENOTSUP it is
 * another engine's file, -YK_ETIMEDOUT, -YK_EVERSION, -YK_ELIMIT. */
YK_API int yk_xfer_open(yk_xfer *engine, const char *where, uint32_t timeout_ms,
                        yk_xfer_segment *ret_segment);
YK_API int yk_xfer_close(yk_xfer *engine, yk_xfer_segment segment);

typedef struct yk_xfer_segment_info {
    uint64_t length; /* bytes */
    uint32_t access; /* enum yk_xfer_access, with the kind of its memory */
    uint32_t guarded; /* 1: it answers guarded requests */
    uint64_t incarnation; /* of the engine that has it: another after each start */
} yk_xfer_segment_info;
YK_API int yk_xfer_segment_stat_sized(yk_xfer *engine, yk_xfer_segment segment, yk_xfer_segment_info *ret_info,
                                      size_t info_size);
static inline int yk_xfer_segment_stat(yk_xfer *engine, yk_xfer_segment segment, yk_xfer_segment_info *ret_info) {
    return yk_xfer_segment_stat_sized(engine, segment, ret_info, sizeof(yk_xfer_segment_info));
}

/* ---- transfers ------------------------------------------------------------------------------- */

enum yk_xfer_op { YK_XFER_READ = 1, YK_XFER_WRITE = 2 };

enum yk_xfer_class {
    YK_XFER_URGENT = 0,     /* decode waits */
    YK_XFER_DEMAND = 1,     /* prefill waits */
    YK_XFER_PREFETCH = 2,
    YK_XFER_BACKGROUND = 3, /* demotion, rebalance, replication: gets at least a twentieth */
    YK_XFER_CLASSES = 4
};

/* A guarded read: YK_MISS when the target does not hold `descriptor` at this generation and epoch. A
 * guarded write: YK_MISS when the target does not let it be written (any more); slices of a large one
 * may have been before. */
typedef struct yk_xfer_guard {
    uint64_t descriptor, generation, epoch;
    uint64_t checksum;   /* of a read: XXH3-64 of the payload, compared here when it is whole and came over
                            a network */
    uint32_t has_checksum;
} yk_xfer_guard;

typedef struct yk_xfer_request {
    uint32_t op;             /* enum yk_xfer_op */
    uint32_t reserved;       /* 0 */
    void *local;             /* registered memory, all of it in one range; with any_local this, or none of
                                it registered */
    yk_xfer_segment segment;
    uint64_t offset;         /* into the segment */
    uint64_t length;         /* bytes, not 0 */
    const yk_xfer_guard *guard; /* or NULL; copied */
} yk_xfer_request;

enum yk_xfer_flags {
    YK_XFER_EVENT = 1,    /* the batch appears in yk_xfer_poll, and the eventfd is readable until then */
    YK_XFER_WILL_WAIT = 2 /* a call of yk_xfer_wait follows at once: no thread is woken for it before */
};

typedef uint64_t yk_xfer_batch;

/* Called once when a batch has ended, on a thread of the engine; must not block. The batch is freed
 * when it returns. */
typedef void (*yk_xfer_done_fn)(void *user, yk_xfer_batch batch, int status);

typedef struct yk_xfer_submit_opts {
    uint32_t size;        /* sizeof(yk_xfer_submit_opts) */
    uint32_t xclass;      /* enum yk_xfer_class; default DEMAND when opts is NULL */
    uint32_t flags;       /* enum yk_xfer_flags */
    uint32_t timeout_ms;  /* 0 = 30000 and a millisecond for each 100,000 bytes */
    void *user;           /* comes back with the completion */
    yk_xfer_done_fn done; /* or NULL */
    const void *notify;   /* notify_bytes that arrive at the target when all of the batch's data has; the
                             batch has one target then. NULL: none */
    uint32_t notify_bytes;
} yk_xfer_submit_opts;

/* Begins a batch of n requests. Nothing of it has begun when it fails: -YK_EINVAL (text: which entry,
 * and why), -YK_ENOENT unknown segment, -YK_EPERM not allowed there, -YK_EAGAIN: inflight_max is
 * reached, -YK_ENOTSUP: a checksum of what is read into a device's memory. A single request of length 0 with a notification sends just that to its segment's engine. */
YK_API int yk_xfer_submit(yk_xfer *engine, const yk_xfer_request *requests, size_t n,
                          const yk_xfer_submit_opts *opts, yk_xfer_batch *ret_batch);

/* Waits until the batch has ended or timeout_ms (0: does not wait; UINT32_MAX: the batch's own
 * deadline is enough). 0: all well. YK_MISS: a guard failed. -YK_EAGAIN: it has not ended. Otherwise
 * the status of its first failed request. The batch stays until it is freed. */
YK_API int yk_xfer_wait(yk_xfer *engine, yk_xfer_batch batch, uint32_t timeout_ms);

/* Submits, waits, frees: the shortest way there is. */
YK_API int yk_xfer_run(yk_xfer *engine, const yk_xfer_request *requests, size_t n,
                       const yk_xfer_submit_opts *opts);

typedef struct yk_xfer_status {
    int32_t status;    /* 0, YK_MISS, -YK_E...; -YK_EAGAIN: has not ended; -YK_EFAULT: its memory, here or
                          there, was unmapped while it was registered */
    uint32_t attempts; /* slices that were sent for it */
    uint64_t bytes;    /* that are in place; all of them when status is 0 */
} yk_xfer_status;
YK_API int yk_xfer_request_status(yk_xfer *engine, yk_xfer_batch batch, size_t index,
                                  yk_xfer_status *ret_status);

/* Asks a batch to end: its requests end with -YK_ECANCELED or as they would have, when their memory is
 * not in use any more. Does not wait. */
YK_API int yk_xfer_cancel(yk_xfer *engine, yk_xfer_batch batch);

/* Gives the batch back; one that has not ended is cancelled and freed when it has. yk_xfer_poll does not
 * give it any more. */
YK_API int yk_xfer_batch_free(yk_xfer *engine, yk_xfer_batch batch);

typedef struct yk_xfer_completion {
    yk_xfer_batch batch;
    void *user;
    int32_t status; /* as yk_xfer_wait's */
} yk_xfer_completion;

/* Up to cap ended batches of those with YK_XFER_EVENT; how many. timeout_ms as in yk_xfer_wait. */
YK_API int yk_xfer_poll(yk_xfer *engine, yk_xfer_completion *ret, size_t cap, uint32_t timeout_ms);
/* An eventfd that is readable while yk_xfer_poll has something to give. The engine's. */
YK_API int yk_xfer_event_fd(yk_xfer *engine);

/* ---- notifications, peers, views -------------------------------------------------------------- */

typedef struct yk_xfer_note {
    char peer[64];  /* address of who sent it */
    uint32_t bytes;
    unsigned char data[YK_XFER_NOTIFY_MAX];
} yk_xfer_note;
/* The oldest notification that arrived; YK_MISS: none. 4096 are kept; with those there, senders wait. */
YK_API int yk_xfer_note_next(yk_xfer *engine, yk_xfer_note *ret_note);

/* Whether an engine answers at "HOST:PORT" or "unix:/PATH", and how fast. -YK_EGONE, -YK_ETIMEDOUT. */
YK_API int yk_xfer_probe(yk_xfer *engine, const char *address, uint32_t timeout_ms,
                         uint64_t *ret_round_trip_ns);

/* One JSON object: devices, peers, rails with their modelled bandwidth and fixed cost by size, bytes in
 * flight, health, counters. The caller frees it. */
YK_API int yk_xfer_links_json(yk_xfer *engine, char **ret_json);
/* How a request of so many bytes would go, and why: every rail with its predicted time. */
YK_API int yk_xfer_explain_json(yk_xfer *engine, yk_xfer_segment segment, uint64_t length,
                                uint32_t op, char **ret_json);

#ifdef __cplusplus
}
#endif

#endif
