/* SPDX-License-Identifier: Apache-2.0
 *
 * The tcp transport: lanes to engines on any host. A lane is a stream (xfer/stream.h) over a socket that
 * is bound to the rail's device (xfer/dial.h).
 *
 * Connections are few and stay: one for each rail, shard and kind. So ports cannot run out, and what
 * broke is dialled again by the core, with its back-off.
 *
 * Thread: the shard's.
 */
#include "tcp_priv.h"

#include "xfer/dial.h"
#include "xfer/stream_lane.h"
#include "xfer/tcp/tcp.h"

#include <unistd.h>

static int tcp_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    int rc = yk_tcp_check_filter(env->rails, err);
    return rc < 0 ? rc : yk_stream_lane_open(&yk_xport_tcp, env, ret_xport, err);
}

static int tcp_connect(struct yk_xport *xport, const struct yk_peer_info *peer,
                       const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                       struct yk_err *err) {
    int fd = yk_rail_dial(rail, err);
    int rc = fd < 0 ? fd : yk_stream_lane_new(xport, peer, fd, bulk, (rail->caps & YK_RAIL_NETWORK) != 0, ret_lane, err);
    if (fd >= 0 && rc < 0)
        close(fd);
    return rc;
}

const struct yk_xport_ops yk_xport_tcp = {
    .name = "tcp",
    .bit = YK_XFER_TCP,
    .open = tcp_open,
    .close = yk_stream_lane_close,
    .reg = yk_stream_lane_reg,
    .unreg = yk_stream_lane_unreg,
    .rails = yk_tcp_rails,
    .connect = tcp_connect,
    .disconnect = yk_stream_lane_disconnect,
    .room = yk_stream_lane_room,
    .post = yk_stream_lane_post,
    .flush = yk_stream_lane_flush,
    .cancel = yk_stream_lane_cancel,
    .moved = yk_stream_lane_moved,
    .lost = yk_stream_lane_lost,
    .progress = yk_stream_lane_progress,
    .look = yk_stream_lane_look,
};
