/* SPDX-License-Identifier: Apache-2.0
 *
 * The unix transport: streams (xfer/stream.h) over the unix socket of a peer on this host, for what cannot
 * be done by copying. Whether the peer is the one that is meant its welcome says.
 *
 * Thread: the shard's.
 */
#include "xfer/shm/shm.h"

#include "xfer/sock.h"
#include "xfer/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct unix_lane {
    struct yk_lane lane;
    struct yk_stream *stream;
};

static struct yk_stream *stream_of(const struct yk_lane *lane) {
    return ((const struct unix_lane *)(const void *)lane)->stream;
}

static int unix_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    struct yk_xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the unix transport");
    x->ops = &yk_xport_unix;
    x->env = env;
    *ret_xport = x;
    return 0;
}

static void unix_close(struct yk_xport *xport) {
    free(xport);
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
    struct unix_lane *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    l->lane = (struct yk_lane){.ops = &yk_xport_unix, .xport = xport};
    int rc = -YK_EIO;
    if (getrandom(&l->lane.id, sizeof(l->lane.id), 0) != (ssize_t)sizeof(l->lane.id))
        yk_err_set(err, rc, "no random number for a lane");
    else
        rc = dial(peer, err);
    if (rc >= 0) {
        int fd = rc;
        struct yk_stream_opts o = {
            .lane = &l->lane, .env = xport->env, .peer = peer, .fd = fd, .bulk = bulk};
        rc = yk_stream_new(&o, &l->stream, err);
        if (rc < 0)
            close(fd);
    }
    if (rc < 0) {
        free(l);
        return rc;
    }
    *ret_lane = &l->lane;
    return 0;
}

static void unix_disconnect(struct yk_lane *lane) {
    yk_stream_free(stream_of(lane));
    free(lane);
}

static uint32_t unix_room(const struct yk_lane *lane) {
    return yk_stream_room(stream_of(lane));
}

static void unix_post(struct yk_lane *lane, struct yk_slice *slice) {
    yk_stream_post(stream_of(lane), slice);
}

static void unix_flush(struct yk_lane *lane) {
    yk_stream_flush(stream_of(lane));
}

static void unix_cancel(struct yk_lane *lane, struct yk_slice *slice) {
    yk_stream_cancel(stream_of(lane), slice);
}

static uint64_t unix_moved(struct yk_lane *lane) {
    return yk_stream_moved(stream_of(lane));
}

static void unix_look(struct yk_lane *lane) {
    yk_stream_look(stream_of(lane));
}

static int unix_reg(struct yk_region *region, struct yk_err *err) {
    (void)region;
    (void)err;
    return 0; /* a socket needs no key */
}

static void unix_unreg(struct yk_region *region) {
    (void)region;
}

static int unix_progress(struct yk_lane *lane, uint64_t bytes) {
    (void)lane;
    (void)bytes;
    return 0; /* its descriptor is in the loop */
}

const struct yk_xport_ops yk_xport_unix = {
    .name = "unix",
    .bit = YK_XFER_SHM,
    .open = unix_open,
    .close = unix_close,
    .reg = unix_reg,
    .unreg = unix_unreg,
    .rails = unix_rails,
    .connect = unix_connect,
    .disconnect = unix_disconnect,
    .room = unix_room,
    .post = unix_post,
    .flush = unix_flush,
    .cancel = unix_cancel,
    .moved = unix_moved,
    .progress = unix_progress,
    .look = unix_look,
};
