/* SPDX-License-Identifier: Apache-2.0
 *
 * A lane that is a stream (xfer/stream.h) and nothing else: what transports over sockets (tcp, unix) have
 * in common. They make the socket; their ops tables name these functions for the rest.
 *
 * Thread: the shard's.
 */
#ifndef YK_XFER_STREAM_LANE_H
#define YK_XFER_STREAM_LANE_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A transport without state of its own. -YK_ENOMEM. */
int yk_stream_lane_open(const struct yk_xport_ops *ops, const struct yk_shard_env *env,
                        struct yk_xport **ret_xport, struct yk_err *err);

/* A lane over a connected or connecting socket, which it takes when it succeeds. */
int yk_stream_lane_new(struct yk_xport *xport, const struct yk_peer_info *peer, int fd, int bulk,
                       int zerocopy, struct yk_lane **ret_lane, struct yk_err *err);

/* As the ops of these names. */
void yk_stream_lane_close(struct yk_xport *xport);
void yk_stream_lane_disconnect(struct yk_lane *lane);
uint32_t yk_stream_lane_room(const struct yk_lane *lane);
void yk_stream_lane_post(struct yk_lane *lane, struct yk_slice *slice);
void yk_stream_lane_flush(struct yk_lane *lane);
void yk_stream_lane_cancel(struct yk_lane *lane, struct yk_slice *slice);
uint64_t yk_stream_lane_moved(struct yk_lane *lane);
uint64_t yk_stream_lane_lost(struct yk_lane *lane);
void yk_stream_lane_look(struct yk_lane *lane);
int yk_stream_lane_reg(struct yk_region *region, struct yk_err *err);
void yk_stream_lane_unreg(struct yk_region *region);
int yk_stream_lane_progress(struct yk_lane *lane, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
