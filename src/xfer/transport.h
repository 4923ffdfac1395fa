/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transport is to the engine: an ops table that moves slices over lanes and reports. It never
 * chooses: which slice goes where and when, retries, deadlines, classes are the core's.
 *
 *   region   registered memory (or a file) of this process, with a number that never repeats
 *   peer     another engine (or this one), as its greeting described it
 *   rail     one local device to one device of a peer, over one transport
 *   lane     a connection on a rail; belongs to one shard
 *   slice    the unit that is posted to a lane
 *
 * Life of a lane
 *
 *   connect --> CONNECTING --lane_up--> UP --lane_down--> DOWN (core calls disconnect)
 *                   |                   |
 *                   +----lane_down------+--disconnect--> gone: every slice in it has ended
 *
 * Life of a slice: post takes it; slice_done gives it back, exactly once, whatever happens: never from
 * within post, from a loop callback, progress, cancel or disconnect. After slice_done neither the
 * transport nor the kernel touches its local memory. A lane that goes down ends its slices with
 * scope LANE; those that may have changed the target (a WRITE of which a byte was sent and no answer
 * came) are marked `touched`: before the core repeats such a slice elsewhere it has the target close the
 * dead lane (FENCE over another one), so that no late byte lands on top of later ones (R16).
 *
 * Memory of devices (0035-device-memory.md) goes over rails with YK_RAIL_DEVICE alone; a slice says whose is. It ends
 * with -YK_EAGAIN where its lane cannot move it yet, and -YK_ENOTSUP where it cannot: another rail is tried then.
 *
 * Threads: all but reg, ready, unready and unreg are called by whoever owns the shard, on objects of that shard.
 * reg, ready; unready, unreg: by who registers, before register returns; by who unregisters, while the region is dying.
 */
#ifndef YK_XFER_TRANSPORT_H
#define YK_XFER_TRANSPORT_H

#include "base/status.h"
#include "xfer/loop.h"
#include "xfer/region.h"

#include <yolk/transfer.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_xport; /* a transport in a shard; each transport has its own struct that begins with this */
struct yk_lane;  /* likewise */
struct yk_slice;

/* ---- peers and rails ------------------------------------------------------------------------- */

#define YK_PEER_ADDRS 32u
#define YK_PEER_HOST  64u

/* What RDMA an address has: ends of different kinds do not reach each other. Others may come: nobody has them here. */
enum yk_rdma_kind {
    YK_RDMA_NONE = 0,
    YK_RDMA_PLAIN = 1, /* RoCE v2, InfiniBand */
    YK_RDMA_IWARP = 2
};

/* An address of a peer's device. */
struct yk_peer_addr {
    char host[YK_PEER_HOST]; /* numeric, IPv6 without brackets */
    uint16_t port;
    uint32_t mbit;           /* of the device, 0 = not known */
    uint8_t rdma;            /* enum yk_rdma_kind of the RDMA device that has it, too */
};

/* What a peer said of itself when it was greeted. Immutable once made. */
struct yk_peer_info {
    uint64_t incarnation;  /* of the engine: random, another after each start */
    char boot_id[37];      /* of its host's kernel; with the two below: same host, for certain by shm only */
    uint32_t pid;
    uint64_t memory_token; /* of the process: same value in this process means this process */
    uint32_t share;        /* number of the descriptor of its table of regions (xfer/share.h) + 1; 0 = none */
    char unix_path[108];   /* of its socket for peers on the host, "" = none */
    uint32_t addr_count;
    struct yk_peer_addr addrs[YK_PEER_ADDRS];
};

enum yk_rail_caps { /* bits */
    YK_RAIL_READ = 1,
    YK_RAIL_WRITE = 2,
    YK_RAIL_GUARD = 4,    /* guarded reads and writes */
    YK_RAIL_NOTIFY = 8,
    YK_RAIL_NETWORK = 16, /* bytes leave the host: payload is verified by the receiver (R17) */
    YK_RAIL_DEVICE = 32,  /* memory, here and there, may be a device's */
    YK_RAIL_COPIES = 64,  /* slices are copied by who turns the loop: small ones keep it responsive */
    YK_RAIL_HOLDS = 128   /* cannot take a slice back before it has ended: disconnect would wait */
};

/* A way to a peer. */
struct yk_rail_desc {
    char local[YK_PEER_HOST];  /* device or address here, "" = whatever the kernel takes */
    char remote[YK_PEER_HOST]; /* there */
    uint16_t port;
    uint32_t caps;
    uint32_t local_if;         /* index of the interface, 0 = none: its link going down is noticed */
    uint32_t distance;         /* 0 = near; for equal costs */
    uint32_t connect_ms;       /* that a lane may take to come up at least, whatever is usual: devices are set up in it */
    double bytes_per_s;        /* first guess */
    double fixed_ns;           /* first guess: of one small slice */
};

/* ---- slices ---------------------------------------------------------------------------------- */

enum yk_slice_op {
    YK_SLICE_READ = 1,
    YK_SLICE_WRITE,
    YK_SLICE_NOTE,  /* local, len: a notification; offset: its number, the same when it is repeated */
    YK_SLICE_FENCE, /* offset: id of a lane that the target shall close; done when it has */
    YK_SLICE_PING,
    /* A transport's own, over a stream of its own: proto.h has what they are. priv[1], priv[2]: `remote`
     * and `key`; local: what the answer brings. */
    YK_SLICE_OFFER,
    YK_SLICE_TAKE,
    YK_SLICE_LEND,
    YK_SLICE_GIVEBACK,
    YK_SLICE_PULL
};

/* Memory of a slice that is a device's: no processor may touch it. */
enum yk_slice_device { YK_DEVICE_HERE = 1, YK_DEVICE_THERE = 2 };

/* Where memory of a device is in it, slices end at the bounds of spans of both regions, from their beginnings: what a
 * device knows a region by has such parts, and there is no other way for one that lies in two of them. */
#define YK_DEVICE_SPAN (64ull << 20)

/* What a failure is about. RAIL: another engine answers there than the one that is meant. PEER: it is
 * gone for certain, no rail will do. */
enum yk_scope { YK_SCOPE_NONE = 0, YK_SCOPE_REQUEST, YK_SCOPE_LANE, YK_SCOPE_RAIL, YK_SCOPE_PEER };

/* Thread: the shard's. The core's storage. */
struct yk_slice {
    struct yk_slice *next, *prev; /* the lane's while it has it */
    uint8_t op;                   /* enum yk_slice_op */
    uint8_t xclass;               /* enum yk_xfer_class */
    uint8_t touched;              /* out, see above */
    uint8_t scope;                /* out: enum yk_scope of a failure */
    uint8_t device;               /* enum yk_slice_device, bits */
    uint8_t unsure;               /* out: with -YK_ENOTSUP and `device`: it may be able to soon */
    uint8_t aside;                /* out: it did not go by the rail's devices, but beside them (over a stream): its end
                                     says nothing of those */
    int32_t status;               /* out: 0, YK_MISS, -YK_E...; -YK_EAGAIN: the target has no pin for
                                     its guard, or no room for the note, now: it is posted again later */
    char *local;
    uint64_t len;
    uint64_t region; /* of the peer */
    uint64_t offset; /* into it */
    const struct yk_xfer_guard *guard; /* or NULL; the request's */
    uint64_t post_ns, done_ns;         /* the core's; done_ns is set by slice_done */
    void *core;                        /* the core's */
    uint64_t priv[4];                  /* the lane's */
};

/* What lanes and targets of this process have had a device do, since it first opened it. All of it: engines share a
 * device. */
struct yk_device_counts {
    char name[64];
    uint64_t requests;    /* work requests posted to it: one for each slice of payload that it moves */
    uint64_t signalled;   /* of these that asked for a completion of their own */
    uint64_t doorbells;   /* calls that posted them */
    uint64_t completions; /* taken from its queues, one for several requests where these are not signalled */
    uint64_t wakeups;     /* events of completion channels: somebody slept until then */
    uint64_t arms;        /* requests for such an event */
    uint64_t bytes;       /* that it moved, by requests that are known to have ended */
    uint64_t untrue;      /* completions of reads whose bytes had not come: an emulated device's mistake */
};

/* ---- the core's side --------------------------------------------------------------------------- */

/* What a peer says that it could not do for a lane, as lane_down has it: its want is not ours. */
static inline int yk_peer_said(int status) {
    return status == -YK_ELIMIT || status == -YK_ENOMEM ? -YK_EBUSY : status;
}

/* Given to open; lives as long as the shard. */
struct yk_shard_events {
    void (*slice_done)(struct yk_lane *lane, struct yk_slice *slice);
    void (*lane_up)(struct yk_lane *lane);
    /* code and text say why; scope LANE, RAIL or PEER. -YK_ELIMIT, -YK_ENOMEM: for want of something of this process, for
     * which an idle lane may go; -YK_EBUSY: the peer has no room for it. */
    void (*lane_down)(struct yk_lane *lane, int code, enum yk_scope scope, const char *text);
};

/* Thread: the shard's. */
struct yk_shard_env {
    struct yk_loop *loop;
    const struct yk_shard_events *events;
    struct yk_registry *registry;   /* regions of this process: any thread */
    const struct yk_xfer_opts *opts; /* defaults filled in */
    uint64_t incarnation;           /* of this engine */
    const char *rails;              /* opts->rails or NULL */
};

struct yk_xport {
    const struct yk_xport_ops *ops;
    const struct yk_shard_env *env;
    int blind; /* set by rails: errno, where it could not look and what it found is a guess; else 0 */
};

struct yk_lane {
    const struct yk_xport_ops *ops;
    struct yk_xport *xport;
    uint64_t id; /* random, unique at the target */
    /* Set before lane_up: */
    uint64_t trip_ns; /* there and back, as the transport knows of it; 0: it does not */
    uint64_t greet_ns; /* there and back, where coming up takes much besides; 0: half of the time that it takes */
    int patient;      /* it does not slow down for each packet that is lost (bbr) */
    void *core;  /* the core's */
    int up;      /* set by connect: it is UP already, no lane_up follows */
};

struct yk_xport_ops {
    const char *name;
    uint32_t bit; /* enum yk_xfer_transport */

    int (*open)(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err);
    void (*close)(struct yk_xport *xport); /* its lanes are gone */

    /* Keys of a region for this transport, into region->keys[]; 0 or an error that refuses it. */
    int (*reg)(struct yk_region *region, struct yk_err *err);
    void (*unreg)(struct yk_region *region);
    /* Begins what takes long to make ready for its use, behind reg; waits a moment at most. Or NULL. */
    void (*ready)(const struct yk_xfer_opts *opts, struct yk_region *region);
    /* In place of unreg, where devices that know the region have to forget it: 0 when they have; -YK_EAGAIN: to be called
     * again, until then or with `last`, when the rest is the transport's. Does not block. Or NULL. */
    int (*unready)(struct yk_region *region, int last);

    /* The ways to peer from here, at most cap, best guess first; 0: none. */
    uint32_t (*rails)(struct yk_xport *xport, const struct yk_peer_info *peer,
                      struct yk_rail_desc *ret_rails, uint32_t cap);

    /* Begins to connect. bulk 0: for urgent requests. The peer must turn out to be `incarnation`. */
    int (*connect)(struct yk_xport *xport, const struct yk_peer_info *peer,
                   const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                   struct yk_err *err);
    /* Ends all its slices (scope LANE), closes and frees it. In any state. */
    void (*disconnect)(struct yk_lane *lane);

    /* Slices and bytes that it takes now; 0: none until a slice ends. */
    uint32_t (*room)(const struct yk_lane *lane);
    /* Takes a slice; may keep it until flush. UP lanes with room only. */
    void (*post)(struct yk_lane *lane, struct yk_slice *slice);
    /* What was posted starts now, as one system call where it can. */
    void (*flush)(struct yk_lane *lane);
    /* Asks a slice to end early with -YK_ECANCELED; slice_done may come from within. */
    void (*cancel)(struct yk_lane *lane, struct yk_slice *slice);

    /* Bytes known to have moved, ever: grows while the lane is alive. Used to notice silence. */
    uint64_t (*moved)(struct yk_lane *lane);
    /* Of those, what the rail's devices moved, where some goes beside them. Or NULL: all does. */
    uint64_t (*proven)(struct yk_lane *lane);

    /* Packets that were lost or came late, either way, as far as this end knows. Or NULL. */
    uint64_t (*lost)(struct yk_lane *lane);

    /* Carries out slices by itself for about `bytes`, for transports without descriptors; 1: there is
     * more to do. */
    int (*progress)(struct yk_lane *lane, uint64_t bytes);

    /* Looks at its descriptors without sleeping, cheaper than a turn of the loop, for a caller that
     * polls for this lane's answer. */
    void (*look)(struct yk_lane *lane);

    /* A file's region is gone, and no slice is under way in it: closes what is kept open of it. Or NULL. */
    void (*forget)(struct yk_xport *xport, uint64_t region);

    /* What its devices did for this process, at most cap of them; how many. Or NULL. Thread: any. */
    uint32_t (*devices)(struct yk_device_counts *ret_counts, uint32_t cap);
};

/* In order of preference; ends with NULL. */
extern const struct yk_xport_ops *const yk_xports[];

/* ---- the target's side ------------------------------------------------------------------------- */

/* What answers peers of a process: listeners, and lanes that others dialled. One for each engine that
 * listens; its thread is its own. */
struct yk_server;

struct yk_server_env {
    struct yk_registry *registry;
    const struct yk_xfer_opts *opts;
    const struct yk_peer_info *self; /* what greetings say; immutable */
    /* A notification arrived: 0, or -YK_EAGAIN: the queue is full, it shall be sent again. */
    int (*note)(void *user, const char *peer, const void *data, uint32_t len);
    void *user;
    uint32_t lanes_max; /* 0 = 65536 */
    uint32_t hello_ms;  /* until a connection must have said what it is; 0 = 5000 */
    uint32_t pin_ms;    /* until a lane that moves nothing is closed while it has pins; 0 = 3000 */
};

#ifdef __cplusplus
}
#endif

#endif
