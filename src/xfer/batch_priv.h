/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches and their requests.
 *
 *   batch.c     handles, pools, references
 *   submit.c    checks, submit, run
 *   complete.c  ends: waiters, events, callbacks
 *
 * A batch is referenced by its handle, by its being under way, and by whoever waits for it; the last
 * one gives it back to the pool. Its requests are the shard's that has their part, until they have
 * ended. What other threads may look at meanwhile says so.
 */
#ifndef YK_XFER_BATCH_PRIV_H
#define YK_XFER_BATCH_PRIV_H

#include "xfer/list_priv.h"
#include "xfer/loop.h"
#include "xfer/region.h"

#include <yolk/transfer.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SHARDS_MAX    4u
#define YK_BATCH_WHY_MAX 256

struct yk_shard;
struct yk_batch;
struct yk_part;
struct yk_peer;

/* What is sent to a shard. fn runs on who owns it. */
struct yk_msg {
    struct yk_msg *next;
    void (*fn)(struct yk_shard *s, struct yk_msg *m);
};

/* Thread: the shard's. */
struct yk_req {
    struct yk_list link;   /* in its queue, until all of it is cut */
    struct yk_list pieces; /* that have not ended */
    struct yk_part *part;
    struct yk_peer *peer;
    struct yk_region *region; /* of `local`: a reference until it has ended; NULL: not registered */
    char *local;
    uint64_t len;
    uint64_t remote, offset; /* the peer's region, and where in it */
    uint64_t cut;            /* bytes that have been cut */
    uint64_t done;           /* any: atomic; bytes in place */
    uint32_t attempts;       /* any: atomic; slices sent */
    uint32_t ended;          /* any: atomic; pairs with status: that is final when this is 1 */
    int32_t status;          /* what it will end with, as far as is known */
    uint8_t op, xclass, guarded, network, hold, again;
    uint8_t device;          /* enum yk_slice_device */
    uint64_t shun;           /* with `device`: rails that cannot (yk_rail_bit) */
    uint8_t no_copies;       /* a copy met memory that it cannot reach: other ways alone */
    struct yk_xfer_guard guard;
};

/* What of a batch is one shard's. */
struct yk_part {
    struct yk_msg submit, cancel;
    uint32_t cancel_sent; /* any: atomic */
    struct yk_shard *shard;
    struct yk_batch *batch;
    uint32_t first, count;
    struct yk_list link; /* shard's parts */
    uint32_t left;       /* requests that have not ended */
    struct yk_piece *note; /* the batch's notification, when it is sent from here */
    int note_status;       /* why it is cancelled */
    struct yk_timer timer;
};

struct yk_batch {
    uint32_t freed;            /* atomic: by yk_xfer_batch_free */
    uint32_t slot, generation; /* the handle: generation << 32 | slot */
    uint32_t refs;             /* atomic */
    uint32_t left;             /* atomic: requests that have not ended */
    uint32_t failed;           /* atomic: some request's status is not 0 */
    uint32_t done;             /* atomic and futex: 0; 1: somebody sleeps for it; 2: ended */
    uint32_t doomed;           /* atomic: cancelled, no note is sent */
    int32_t status;            /* once done */
    uint32_t n, size_class;
    uint32_t why_of;           /* atomic: 0, or 1 + the request that `why` is about, taken by its shard */
    char why[YK_BATCH_WHY_MAX]; /* what failed on its way; read once done */
    struct yk_req *reqs;
    uint32_t xclass, flags;
    void *user;
    yk_xfer_done_fn fn;
    uint64_t deadline_ns;
    struct yk_peer *note_peer;
    void *note;
    uint32_t note_bytes;
    uint64_t note_number;
    struct yk_part parts[YK_SHARDS_MAX];
    uint32_t part_count;
    struct yk_xfer *engine;
    struct yk_batch *next; /* pool, events, or callbacks */
};

/* ---- batch.c: any thread --------------------------------------------------------------------- */

struct yk_batches;
struct yk_batches *yk_batches_new(void);
void yk_batches_free(struct yk_batches *g);
/* One with room for n requests and one reference; its handle is not valid before yk_batch_publish.
 * NULL: no memory, or too many. */
struct yk_batch *yk_batch_new(struct yk_batches *g, uint32_t n);
void yk_batch_publish(struct yk_batches *g, struct yk_batch *b); /* one reference more: the handle's */
struct yk_batch *yk_batch_get(struct yk_batches *g, yk_xfer_batch handle); /* or NULL */
int yk_batch_unpublish(struct yk_batches *g, yk_xfer_batch handle, struct yk_batch **ret_batch);
void yk_batch_put(struct yk_batch *b);

static inline yk_xfer_batch yk_batch_handle(const struct yk_batch *b) {
    return (uint64_t)b->generation << 32 | b->slot;
}

/* What it counts for in inflight_max: a notification alone is one, too. */
static inline uint32_t yk_batch_charge(const struct yk_batch *b) {
    return b->n > 0 ? b->n : 1;
}

/* ---- complete.c ------------------------------------------------------------------------------ */

/* All of it has ended. By the owner of the shard where the last of it did. */
void yk_batch_end(struct yk_batch *b, struct yk_shard *s, int note_status);
/* Until it has ended, or the time has come (UINT64_MAX: never): its status, or -YK_EAGAIN. */
int yk_batch_wait(struct yk_batch *b, uint64_t until_ns);
/* Sets the calling thread's text when status is an error; returns it. */
int yk_batch_explain(const struct yk_batch *b, int status);
/* Cancels, does not wait. */
void yk_batch_cancel(struct yk_batch *b);

#ifdef __cplusplus
}
#endif

#endif
