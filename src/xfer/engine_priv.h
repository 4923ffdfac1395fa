/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine as its own files see it.
 *
 * Threads: any; what is not atomic or immutable says by which lock it is guarded (docs/locks.md).
 */
#ifndef YK_XFER_ENGINE_PRIV_H
#define YK_XFER_ENGINE_PRIV_H

#include "xfer/batch_priv.h"
#include "xfer/inproc.h"
#include "xfer/place.h"
#include "xfer/transport.h"

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_PEERS_MAX    65536u
#define YK_SEGMENTS_MAX 65536u
#define YK_NOTES_MAX    4096u
#define YK_ADDRESS_MAX  1024u

#define YK_PEER_IDLE_NS  60000000000ull /* a peer of which nothing was open for so long may go */
#define YK_LANES_KEPT    4096u           /* of a shard; one that lies idle makes room for another beyond that */
#define YK_LANES_EVICT_NS 1000000000ull /* if it has been for so long */
#define YK_UNREGISTER_NS 5000000000ull /* that unregistering waits for requests and devices */
#define YK_WAYS_GONE_NS  60000000000ull /* a rail whose way is gone is kept for so long */
#define YK_LANES_IDLE_NS 10000000000ull /* lanes that a burst got stay so long after it: the next may come soon */

/* Another engine, or this one; its files count as a peer of their own, with other rails. One for each
 * incarnation (peers.c). */
struct yk_peer {
    int file;
    struct yk_peer_info info; /* immutable */
    uint32_t index;           /* in engine->peers */
    uint32_t refs;            /* atomic: batches with requests or a note to it, and who is at work with it */
    uint32_t opens;           /* under `tables`: open segments */
    int leaving;              /* under `tables`: it is being freed */
    uint64_t closed_ns;       /* under `tables`: when the last segment was closed; 0: none was open */
    uint32_t gone;            /* atomic: it was found to have restarted */
    uint32_t barred;          /* atomic, written under `lock`: how many bars there are */
    pthread_mutex_t lock;     /* of bars */
    struct yk_list bars;      /* of all shards: memory that dead lanes may yet write to (fence.c) */
    struct yk_inproc *local;   /* it is in this process, or NULL */
};

/* An opened segment; copied out of the table. */
struct yk_seg {
    struct yk_peer *peer;
    uint64_t region, offset, len;
    uint32_t access, guarded;
};

struct yk_seg_slot {
    struct yk_seg seg;
    uint32_t generation, next_free; /* + 1 */
    int open;
    uint64_t own_file; /* region to give up when it is closed, 0 = none */
};

/* A name that this engine has published. */
struct yk_named {
    struct yk_named *next;
    uint64_t region;
    int lock_fd; /* of its file in registry_dir, or -1 */
    char name[YK_XFER_NAME_MAX + 1];
};

struct yk_note {
    struct yk_note *next;
    char peer[64];
    uint32_t bytes;
    unsigned char data[];
};

struct yk_alloc {
    struct yk_alloc *next;
    void *addr;
    uint64_t len;
};

struct yk_xfer {
    uint32_t forks;
    struct yk_xfer_opts opts; /* defaults filled in; texts are own copies */
    struct yk_peer_info self; /* immutable once created */
    char address[128];          /* "HOST:PORT", the first of them; "" when it does not listen */
    char reach[YK_ADDRESS_MAX]; /* all, with commas between */
    char mem_address[32]; /* "mem:ID" */
    const struct yk_xport_ops *const *xports;
    struct yk_inproc *local;
    struct yk_registry *registry; /* local's */
    struct yk_places *places;     /* where its memory lies */
    struct yk_server *server; /* NULL: it does not listen */
    struct yk_share *share;   /* NULL: no peers of the host */
    struct yk_shard *shards[YK_SHARDS_MAX];
    uint32_t shard_count;
    int direct;     /* mem without faults: run copies by itself */
    int reach_self; /* own segments are opened by address: mem is not among the transports */
    struct yk_batches *batches;
    uint32_t in_flight; /* atomic: requests accepted and not ended */
    uint64_t note_number; /* atomic */

    pthread_mutex_t tables; /* peers, segments, allocs */
    struct yk_peer **peers;
    uint32_t peer_count, peer_cap;
    uint64_t peer_idle_ns, swept_ns; /* the first is YK_PEER_IDLE_NS, but for tests */
    uint64_t lanes_idle_ns;          /* YK_LANES_IDLE_NS, but for tests */
    uint64_t evict_ns;               /* likewise YK_LANES_EVICT_NS */
    uint32_t lanes_kept;             /* and YK_LANES_KEPT */
    uint64_t unregister_ns;          /* and YK_UNREGISTER_NS */
    uint64_t ways_gone_ns;           /* and YK_WAYS_GONE_NS */
    struct yk_seg_slot *segments;
    uint32_t seg_cap, seg_free; /* + 1 */
    struct yk_alloc *allocs;
    uint64_t devices_until_ns; /* at its end: so long devices are waited for */
    struct yk_named *named;

    pthread_mutex_t events; /* ended batches for yk_xfer_poll, oldest first */
    struct yk_batch *event_head, *event_tail;
    int event_fd;

    pthread_mutex_t notes;
    struct yk_note *note_head, *note_tail;
    uint32_t note_count;
};

/* ---- engine.c -------------------------------------------------------------------------------- */

/* The failure of a call, kept for yk_xfer_error_text; returns code. */
int yk_xfer_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int yk_xfer_fail_err(const struct yk_err *err);
/* 0, or a failure: NULL, or used in a forked child. */
int yk_xfer_enter(const struct yk_xfer *e);
/* As yk_xfer_create, with a list of transports. */
int yk_engine_create(const struct yk_xfer_opts *opts, const struct yk_xport_ops *const *xports,
                     struct yk_xfer **ret_engine, struct yk_err *err);
int yk_engine_note(void *user, const char *peer, const void *data, uint32_t len);

/* ---- opts.c ---------------------------------------------------------------------------------- */

int yk_opts_take(const struct yk_xfer_opts *opts, struct yk_xfer_opts *ret_opts, struct yk_err *err);
void yk_opts_drop(struct yk_xfer_opts *opts);

/* ---- peers.c --------------------------------------------------------------------------------- */

/* The peer of that incarnation, made when it is new, with a reference. */
int yk_engine_peer(struct yk_xfer *e, const struct yk_peer_info *info, int file,
                   struct yk_peer **ret_peer, struct yk_err *err);
/* One more, where something keeps it already. */
static inline void yk_peer_ref(struct yk_peer *p) {
    __atomic_fetch_add(&p->refs, 1, __ATOMIC_RELAXED);
}
static inline void yk_peer_put(struct yk_peer *p) {
    __atomic_fetch_sub(&p->refs, 1, __ATOMIC_RELEASE);
}
/* Frees those that nobody has used for a while; now and then. Waits for shards to let go of them. */
void yk_peers_sweep(struct yk_xfer *e);
void yk_peers_free(struct yk_xfer *e);

/* ---- segments.c ------------------------------------------------------------------------------ */

int yk_engine_segment(struct yk_xfer *e, const struct yk_seg *seg, uint64_t own_file,
                      yk_xfer_segment *ret_segment, struct yk_err *err);
/* Under `tables`: or NULL. */
struct yk_seg *yk_segment_at(struct yk_xfer *e, yk_xfer_segment segment);
/* Withdraws the published names in a region (0: all). */
void yk_segments_withdraw(struct yk_xfer *e, uint64_t region);
void yk_segments_free(struct yk_xfer *e);

/* ---- memory.c -------------------------------------------------------------------------------- */

/* Ends all use of a region that is dying: 0, or, after wait_ns, -YK_ETIMEDOUT (requests are under way in it) or -YK_EBUSY
 * (a device has it). */
int yk_engine_retire(struct yk_xfer *e, struct yk_region *region, uint64_t wait_ns);
/* Of all regions, at the engine's end: devices that have them longer than five seconds are not waited for. */
void yk_engine_retire_all(struct yk_xfer *e);
void yk_memory_free(struct yk_xfer *e);

/* ---- resolve.c ------------------------------------------------------------------------------- */

/* Tells others of a name; ret_lock_fd keeps it. A name alone when nobody is to be told. */
int yk_resolve_publish(struct yk_xfer *e, const char *name, int *ret_lock_fd, struct yk_err *err);
void yk_resolve_withdraw(struct yk_xfer *e, const char *name, int lock_fd);
int yk_resolve_find(struct yk_xfer *e, const char *name, char *ret_address, size_t cap,
                    struct yk_err *err);

/* ---- direct.c -------------------------------------------------------------------------------- */

/* Carries out a checked batch by copying, when all of it is memory of this process: 1, its status in
 * *ret_status; or 0. */
int yk_direct_run(struct yk_batch *b, int *ret_status);

/* ---- remote.c -------------------------------------------------------------------------------- */

/* Binds and begins to answer peers; fills in e->self, e->address and e->reach. */
int yk_remote_start(struct yk_xfer *e, struct yk_err *err);
void yk_remote_stop(struct yk_xfer *e); /* no peer's request is served any more */
void yk_remote_free(struct yk_xfer *e); /* no region is left */
/* Shows a region to peers of the host. */
void yk_remote_show(struct yk_xfer *e, const struct yk_region *region);
/* Ends all use of a dying region by peers; -YK_ETIMEDOUT: one that copies does not go on. */
int yk_remote_forget(struct yk_xfer *e, struct yk_region *region, uint64_t deadline_ns);
/* Takes nothing of that engine any more; -YK_ELIMIT. */
int yk_remote_revoke(struct yk_xfer *e, uint64_t incarnation);
/* address: one, or several with commas between. Of ret_segment: region, offset, len, access, guarded. */
int yk_remote_segment(struct yk_xfer *e, const char *address, const char *name, uint64_t deadline_ns,
                      struct yk_peer_info *ret_peer, struct yk_published *ret_segment,
                      struct yk_err *err);

/* ---- small things ---------------------------------------------------------------------------- */

void yk_futex_wait(uint32_t *word, uint32_t value, uint64_t wait_ns); /* UINT64_MAX: for ever */
void yk_futex_wake(uint32_t *word, int n);

#ifdef __cplusplus
}
#endif

#endif
