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
#include "xfer/stream.h"
#include "xfer/tcp/tcp.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct tcp_lane {
    struct yk_lane lane;
    struct yk_stream *stream;
};

static struct yk_stream *stream_of(const struct yk_lane *lane) {
    return ((const struct tcp_lane *)(const void *)lane)->stream;
}

static int tcp_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    struct yk_xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the tcp transport");
    x->ops = &yk_xport_tcp;
    x->env = env;
    *ret_xport = x;
    return 0;
}

static void tcp_close(struct yk_xport *xport) {
    free(xport);
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
    struct tcp_lane *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    l->lane = (struct yk_lane){.ops = &yk_xport_tcp, .xport = xport};
    int rc = -YK_EIO;
    if (getrandom(&l->lane.id, sizeof(l->lane.id), 0) != (ssize_t)sizeof(l->lane.id))
        yk_err_set(err, rc, "no random number for a lane");
    else
        rc = dial(rail, err);
    if (rc >= 0) {
        int fd = rc;
        struct yk_stream_opts o = {.lane = &l->lane, .env = xport->env, .peer = peer, .fd = fd,
                                   .bulk = bulk, .zerocopy = (rail->caps & YK_RAIL_NETWORK) != 0};
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

static void tcp_disconnect(struct yk_lane *lane) {
    yk_stream_free(stream_of(lane));
    free(lane);
}

static uint32_t tcp_room(const struct yk_lane *lane) {
    return yk_stream_room(stream_of(lane));
}

static void tcp_post(struct yk_lane *lane, struct yk_slice *slice) {
    yk_stream_post(stream_of(lane), slice);
}

static void tcp_flush(struct yk_lane *lane) {
    yk_stream_flush(stream_of(lane));
}

static void tcp_cancel(struct yk_lane *lane, struct yk_slice *slice) {
    yk_stream_cancel(stream_of(lane), slice);
}

static uint64_t tcp_moved(struct yk_lane *lane) {
    return yk_stream_moved(stream_of(lane));
}

static void tcp_look(struct yk_lane *lane) {
    yk_stream_look(stream_of(lane));
}

static int tcp_reg(struct yk_region *region, struct yk_err *err) {
    (void)region;
    (void)err;
    return 0; /* a socket needs no key */
}

static void tcp_unreg(struct yk_region *region) {
    (void)region;
}

static int tcp_progress(struct yk_lane *lane, uint64_t bytes) {
    (void)lane;
    (void)bytes;
    return 0; /* its descriptor is in the loop */
}

const struct yk_xport_ops yk_xport_tcp = {
    .name = "tcp",
    .bit = YK_XFER_TCP,
    .open = tcp_open,
    .close = tcp_close,
    .reg = tcp_reg,
    .unreg = tcp_unreg,
    .rails = yk_tcp_rails,
    .connect = tcp_connect,
    .disconnect = tcp_disconnect,
    .room = tcp_room,
    .post = tcp_post,
    .flush = tcp_flush,
    .cancel = tcp_cancel,
    .moved = tcp_moved,
    .progress = tcp_progress,
    .look = tcp_look,
};
