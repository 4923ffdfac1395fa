/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to an engine that block: who it is, and where a segment lies. On the caller's thread, over a
 * connection of their own, with a deadline: opening and probing need no shard.
 *
 * Threads: any.
 */
#ifndef YK_XFER_ASK_H
#define YK_XFER_ASK_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_ask_segment {
    uint64_t region, offset, len;
    uint32_t access, guarded;
};

/* address: "HOST:PORT" or "unix:/PATH", or several with commas between (addresses.h): the first that answers. With
 * "engine=ID" among them those behind it must be that engine's; another that answers is passed over.
 * incarnation: of the engine that asks.
 * -YK_EINVAL the address, -YK_EGONE nobody answers there, -YK_ETIMEDOUT, -YK_EVERSION, -YK_EPROTO
 * what answers is none. */
int yk_ask_greet(const char *address, uint64_t incarnation, uint32_t timeout_ms,
                 struct yk_peer_info *ret_peer, uint64_t *ret_round_trip_ns, struct yk_err *err);
/* The same, and where segment `name` lies. -YK_ENOENT: it is not published there. */
int yk_ask_lookup(const char *address, uint64_t incarnation, const char *name, uint32_t timeout_ms,
                  struct yk_peer_info *ret_peer, struct yk_ask_segment *ret_segment,
                  struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
