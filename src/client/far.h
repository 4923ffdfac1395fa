/* SPDX-License-Identifier: Apache-2.0
 *
 * Payload of a handle without a map: through a transfer engine of its own (record 0011).
 *
 * The node names a segment in its welcome; blocks are read in it and places written, by guarded
 * requests. Requests and answers stay on the connection. far.c keeps engine and segment, move.c what
 * is under way in it.
 *
 *   not granted -> UP <--opened again-- RESTING
 *         ^         |----- the path failed ---->|
 *         +---------+------ connection lost ----+
 *
 *   UP        large gets ask for the place of their block, large puts for a place to write to
 *   RESTING   all goes through the socket, for a second, then twice as long each time: an engine whose
 *             path is blocked must not cost each operation a time-out
 *
 * Small blocks stay on the connection in any case: YK_FAR_INLINE, YK_FAR_INLINE_ONE.
 *
 * The engine has one thread, for what nobody waits for: operations of yk_submit, and what a batch does
 * beside others. A thread in yk_run that waits for payload alone moves it itself.
 *
 * Threads: the engine is made by the thread that connects; everything else under the lock of the handle.
 */
#ifndef YK_CLIENT_FAR_H
#define YK_CLIENT_FAR_H

#include "base/status.h"
#include "client/dial.h"
#include "client/list.h"

#include <stdint.h>

#include "client/buffers.h"

#include <yolk/transfer.h>
#include <yolk/yolk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks of so many bytes and less travel on the connection. The first where the node is on another host
 * and names several addresses, or where rdma was asked for: then the engine does what one connection cannot.
 * ONE where there is one way to it: the engine has a round trip more there, and below 1 MiB is clearly slower
 * (record 0011). */
#define YK_FAR_INLINE     (64u << 10)
#define YK_FAR_INLINE_ONE ((1u << 20) - 1u)

struct yk_far {
    const char *rails; /* copied; NULL: all */
    const char *rdma;  /* the same */
    uint32_t transports; /* 0: those that are used unless others are named */
    yk_xfer *engine;   /* NULL: none was needed yet */
    yk_xfer_segment segment;
    uint64_t length;      /* bytes of the segment */
    uint64_t inline_max;  /* atomic: one of YK_FAR_INLINE*, as the connection's welcome is; read as a hint */
    int inline_set;       /* but this one was given (yk_far_set_inline) */
    int open;             /* segment is one that was opened */
    int up;               /* atomic: read without the lock as a hint */
    int opening;          /* a thread is */
    uint64_t rest_ns;     /* how long it rested last; 0: it did well */
    uint64_t retry_at_ns; /* RESTING: until then */
    struct yk_buffers buffers; /* a lock of its own */
    struct yk_link moves; /* under way, by `all` */
    struct yk_link spare;
    uint64_t moving_bytes; /* of all moves under way */
    uint64_t bytes, fallbacks;
};

/* What a connection found. */
struct yk_far_found {
    yk_xfer *engine; /* new; NULL: the handle's goes on, or none is needed */
    yk_xfer_segment segment;
    uint64_t length;
    uint64_t inline_max;
    int open;
};

void yk_far_init(struct yk_far *far);
/* Copies rails and rdma, of which the text is checked; transports: names, or NULL. 0, -YK_ENOMEM or -YK_EINVAL. */
int yk_far_rails(struct yk_far *far, const char *rails, const char *transports, const char *rdma, struct yk_err *err);
/* Cancels what is under way, waits for it to end and frees. No lock held: callbacks take it. In a forked
 * child nothing is waited for. */
void yk_far_fini(struct yk_far *far);

/* Lock not held, by the thread that connects: opens what the welcome on connection fd names, within a part
 * of what is left until the deadline. Failure is no error: then the socket does all. But for rails or
 * transports that yk_open was given and that this host does not have, on the first connection: -YK_EINVAL. */
int yk_far_find(yk_client *c, int fd, const struct yk_welcome *w, uint64_t deadline_ns,
                struct yk_far_found *ret_found, struct yk_err *err);
/* Lock not held. Gives up what was found and not adopted. */
void yk_far_drop(yk_client *c, struct yk_far_found *found);
/* Lock held. The connection is this one now. */
void yk_far_adopt(yk_client *c, const struct yk_far_found *found);

/* Lock held. The connection is lost, and most likely its node: what is under way is cancelled. */
void yk_far_lost(yk_client *c);
/* Lock held. The path failed: RESTING. */
void yk_far_rest(yk_client *c);
/* Lock held; left and taken again when there is something to do: opens the segment again when the rest
 * is over, within budget_ns. */
void yk_far_tend(yk_client *c, uint64_t budget_ns);

/* Of a benchmark that looks for the best limit, and of tests of what small blocks do in the engine; before
 * the first operation. */
void yk_far_set_inline(yk_client *c, uint64_t bytes);

static inline int yk_far_is_up(const struct yk_far *far) {
    return __atomic_load_n(&far->up, __ATOMIC_RELAXED);
}

#ifdef __cplusplus
}
#endif

#endif
