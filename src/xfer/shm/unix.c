/* SPDX-License-Identifier: Apache-2.0
 *
 * The unix transport: streams (xfer/stream.h) over the unix socket of a peer on this host, for what cannot
 * be done by copying. Whether the peer is the one that is meant its welcome says.
 *
 * Thread: the shard's.
 */
#include "xfer/shm/shm.h"

#include "xfer/sock.h"
#include "xfer/stream_lane.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int unix_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    return yk_stream_lane_open(&yk_xport_unix, env, ret_xport, err);
}

static uint32_t unix_rails(struct yk_xport *xport, const struct yk_peer_info *peer,
                           struct yk_rail_desc *ret_rails, uint32_t cap) {
    char boot[YK_BOOT_ID_BYTES];
    if (peer->unix_path[0] == 0 || cap == 0 || !yk_host_boot_id(boot) ||
        strcmp(boot, peer->boot_id) != 0 || access(peer->unix_path, W_OK) < 0)
        return 0;
    *ret_rails = (struct yk_rail_desc){
        .local = "unix",
        .remote = "unix",
        .caps = YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_GUARD | YK_RAIL_NOTIFY,
        .bytes_per_s = 2.5e9,
        .fixed_ns = 40000};
    return 1;
}

static int dial(const struct yk_peer_info *peer, struct yk_err *err) {
    struct yk_sockaddr to;
    if (yk_sock_unix(peer->unix_path, &to) < 0)
        return yk_err_set(err, -YK_EINVAL, "the peer's socket has no valid path");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return yk_err_set(err, errno == EMFILE || errno == ENFILE ? -YK_ELIMIT : -YK_EIO,
                          "no socket for a lane: %s", strerror(errno));
    /* EAGAIN, too: the listener's queue is full, and such a socket does not connect later by itself. */
    if (connect(fd, &to.u.any, to.len) < 0) {
        int e = errno;
        close(fd);
        return yk_err_set(err, -YK_EGONE, "%s: %s", peer->unix_path, strerror(e));
    }
    return fd;
}

static int unix_connect(struct yk_xport *xport, const struct yk_peer_info *peer,
                        const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                        struct yk_err *err) {
    int fd = dial(peer, err);
    int rc = fd < 0 ? fd : yk_stream_lane_new(xport, peer, fd, bulk, 0, ret_lane, err);
    if (fd >= 0 && rc < 0)
        close(fd);
    return rc;
}

const struct yk_xport_ops yk_xport_unix = {
    .name = "unix",
    .bit = YK_XFER_SHM,
    .open = unix_open,
    .close = yk_stream_lane_close,
    .reg = yk_stream_lane_reg,
    .unreg = yk_stream_lane_unreg,
    .rails = unix_rails,
    .connect = unix_connect,
    .disconnect = yk_stream_lane_disconnect,
    .room = yk_stream_lane_room,
    .post = yk_stream_lane_post,
    .flush = yk_stream_lane_flush,
    .cancel = yk_stream_lane_cancel,
    .moved = yk_stream_lane_moved,
    .progress = yk_stream_lane_progress,
    .look = yk_stream_lane_look,
};
