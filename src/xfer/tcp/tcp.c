/* SPDX-License-Identifier: Apache-2.0
 *
 * The tcp transport: lanes to engines on any host. A lane is a stream (xfer/stream.h) over a socket that
 * is bound to the rail's device; this file only makes the socket.
 *
 * Connections are few and stay: one for each rail, shard and kind. So ports cannot run out, and what
 * broke is dialled again by the core, with its back-off.
 *
 * Thread: the shard's.
 */
#include "tcp_priv.h"

#include "xfer/sock.h"
#include "xfer/stream_lane.h"
#include "xfer/tcp/tcp.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

static int tcp_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    int rc = yk_tcp_check_filter(env->rails, err);
    return rc < 0 ? rc : yk_stream_lane_open(&yk_xport_tcp, env, ret_xport, err);
}

/* A socket on its way to the rail's far end. */
static int dial(const struct yk_rail_desc *rail, struct yk_err *err) {
    struct yk_sockaddr to, from = {.len = 0};
    char device[IF_NAMESIZE];
    if (yk_sock_parse(rail->remote, rail->port, &to) < 0 ||
        (rail->local[0] != 0 && yk_sock_parse(rail->local, 0, &from) < 0))
        return yk_err_set(err, -YK_EINVAL, "rail '%s' to '%s' has no numeric addresses", rail->local,
                          rail->remote);
    int fd = socket(to.u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return yk_err_set(err, errno == EMFILE || errno == ENFILE ? -YK_ELIMIT : -YK_EIO,
                          "no socket for a lane to %s: %s", rail->remote, strerror(errno));
    yk_sock_tune(fd, !(rail->caps & YK_RAIL_NETWORK));
    /* Several devices may stand in one subnet: an address alone does not choose between them. Where that
     * is not allowed, routes decide. */
    if (rail->local_if != 0 && if_indextoname(rail->local_if, device) != NULL)
        (void)setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device));
    int rc = from.len > 0 ? bind(fd, &from.u.any, from.len) : 0;
    if (rc == 0)
        rc = connect(fd, &to.u.any, to.len);
    if (rc < 0 && errno != EINPROGRESS) {
        int e = errno;
        close(fd);
        return yk_err_set(err, -YK_EGONE, "%s to %s: %s", rail->local, rail->remote, strerror(e));
    }
    return fd;
}

static int tcp_connect(struct yk_xport *xport, const struct yk_peer_info *peer,
                       const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                       struct yk_err *err) {
    int fd = dial(rail, err);
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
    .progress = yk_stream_lane_progress,
    .look = yk_stream_lane_look,
};
