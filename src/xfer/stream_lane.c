/* SPDX-License-Identifier: Apache-2.0
 *
 * See stream_lane.h.
 *
 * Thread: the shard's.
 */
#include "xfer/stream_lane.h"

#include "xfer/stream.h"

#include <stdlib.h>
#include <sys/random.h>

struct stream_lane {
    struct yk_lane lane;
    struct yk_stream *stream;
};

static struct yk_stream *stream_of(const struct yk_lane *lane) {
    return ((const struct stream_lane *)(const void *)lane)->stream;
}

int yk_stream_lane_open(const struct yk_xport_ops *ops, const struct yk_shard_env *env,
                        struct yk_xport **ret_xport, struct yk_err *err) {
    struct yk_xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the %s transport", ops->name);
    x->ops = ops;
    x->env = env;
    *ret_xport = x;
    return 0;
}

void yk_stream_lane_close(struct yk_xport *xport) {
    free(xport);
}

int yk_stream_lane_new(struct yk_xport *xport, const struct yk_peer_info *peer, int fd, int bulk,
                       int zerocopy, struct yk_lane **ret_lane, struct yk_err *err) {
    struct stream_lane *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    l->lane = (struct yk_lane){.ops = xport->ops, .xport = xport};
    struct yk_stream_opts o = {.lane = &l->lane, .env = xport->env, .peer = peer, .fd = fd,
                               .bulk = bulk, .zerocopy = zerocopy};
    int rc = getrandom(&l->lane.id, sizeof(l->lane.id), 0) == (ssize_t)sizeof(l->lane.id)
                 ? yk_stream_new(&o, &l->stream, err)
                 : yk_err_set(err, -YK_EIO, "no random number for a lane");
    if (rc < 0) {
        free(l);
        return rc;
    }
    *ret_lane = &l->lane;
    return 0;
}

void yk_stream_lane_disconnect(struct yk_lane *lane) {
    yk_stream_free(stream_of(lane));
    free(lane);
}

uint32_t yk_stream_lane_room(const struct yk_lane *lane) {
    return yk_stream_room(stream_of(lane));
}

void yk_stream_lane_post(struct yk_lane *lane, struct yk_slice *slice) {
    yk_stream_post(stream_of(lane), slice);
}

void yk_stream_lane_flush(struct yk_lane *lane) {
    yk_stream_flush(stream_of(lane));
}

void yk_stream_lane_cancel(struct yk_lane *lane, struct yk_slice *slice) {
    yk_stream_cancel(stream_of(lane), slice);
}

uint64_t yk_stream_lane_moved(struct yk_lane *lane) {
    return yk_stream_moved(stream_of(lane));
}

uint64_t yk_stream_lane_lost(struct yk_lane *lane) {
    return yk_stream_lost(stream_of(lane));
}

void yk_stream_lane_look(struct yk_lane *lane) {
    yk_stream_look(stream_of(lane));
}

int yk_stream_lane_reg(struct yk_region *region, struct yk_err *err) {
    (void)region;
    (void)err;
    return 0; /* a socket needs no key */
}

void yk_stream_lane_unreg(struct yk_region *region) {
    (void)region;
}

int yk_stream_lane_progress(struct yk_lane *lane, uint64_t bytes) {
    (void)lane;
    (void)bytes;
    return 0; /* its descriptor is in the loop */
}
