/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transport whose devices move payload by themselves (RDMA) does for the server (server_one.c). The
 * server has the lane's stream, checks requests, and pins; this makes the queue pair beside it, gives keys,
 * and reads what a peer wants written. Who receives reads: docs/decisions/0019-rdma.md.
 *
 * Threads: `has`: any; the rest are the server's, on its loop.
 */
#ifndef YK_XFER_TARGET_H
#define YK_XFER_TARGET_H

#include "xfer/loop.h"
#include "xfer/proto.h"
#include "xfer/region.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_target; /* what stands beside one lane */

/* Both are called from the loop, and may call nothing of the target but from a later turn. */
struct yk_target_events {
    void (*pulled)(void *user, uint32_t tag);
    /* It is of no use any more: to be closed. What is under way ends with that. */
    void (*failed)(void *user, const char *text);
};

struct yk_target_ops {
    /* The kind (enum yk_rdma_kind) of the device that the options choose and that has this numeric address. */
    int (*has)(const struct yk_xfer_opts *opts, const char *host);
    /* opts: the engine's. host: the end of the lane's stream that is ours. offer: YK_OFFER_BYTES from the peer; ret_answer: as
     * many for it. -YK_EAGAIN: its device is being opened, again later; -YK_EPROTO, -YK_ENOTSUP, -YK_ENOMEM, -YK_ELIMIT, -YK_EIO. */
    int (*open)(const struct yk_xfer_opts *opts, struct yk_loop *loop, const struct yk_target_events *events,
                void *user, const char *host, const void *offer, void *ret_answer, struct yk_target **ret_target,
                struct yk_err *err);
    /* Destroys the queue pair: nothing is read or written over it from here on. NULL is fine. */
    void (*close)(struct yk_target *t);
    /* What a peer needs to read [offset, offset + len) of the region, YK_KEY_BYTES. -YK_ENOTSUP: not over
     * this transport. -YK_EAGAIN, of a device's memory alone: not yet. */
    int (*key)(struct yk_target *t, struct yk_region *region, uint64_t offset, uint64_t len, void *ret_key);
    /* Reads the peer's [addr, addr + len) into the region; `pulled` with the tag follows, or `failed`.
     * -YK_ENOTSUP as above, or it cannot be begun. */
    int (*pull)(struct yk_target *t, uint32_t tag, struct yk_region *region, uint64_t offset, uint64_t len,
                uint64_t addr, uint32_t rkey);
    /* What was pulled starts now at the latest: called behind the requests that came together. */
    void (*flush)(struct yk_target *t);
};

/* The one that there is, or NULL (xports.c). */
extern const struct yk_target_ops *const yk_target;

#ifdef __cplusplus
}
#endif

#endif
