/* SPDX-License-Identifier: Apache-2.0
 *
 * In place of the RDMA transport where the headers of libibverbs were not there when Yolk was built: it reaches
 * nobody, and says why.
 *
 * Thread: any.
 */
#include "rdma_priv.h"

#include "xfer/stream_lane.h"

int yk_rdma_check(const char *settings, struct yk_err *err) {
    (void)settings;
    return yk_err_set(err, -YK_ENOTSUP, "no RDMA: this build is without it (infiniband/verbs.h was not there)");
}

uint32_t yk_rdma_progress(struct yk_rdma_progress ret_progress[YK_RDMA_DEVICES_MAX]) {
    (void)ret_progress;
    return 0;
}

uint32_t yk_rdma_devices(struct yk_device_counts *ret_counts, uint32_t cap) {
    (void)ret_counts, (void)cap;
    return 0;
}

static int has(const struct yk_xfer_opts *opts, const char *host) {
    (void)opts, (void)host;
    return 0;
}

static int no_target(const struct yk_xfer_opts *opts, struct yk_loop *loop, const struct yk_target_events *events,
                     void *user, const char *host, const void *offer, void *ret_answer, struct yk_target **ret_target,
                     struct yk_err *err) {
    return yk_rdma_check(NULL, err);
}

const struct yk_target_ops yk_target_rdma = {.has = has, .open = no_target};

static int open_xport(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    return yk_stream_lane_open(&yk_xport_rdma, env, ret_xport, err);
}

static uint32_t rails(struct yk_xport *xport, const struct yk_peer_info *peer, struct yk_rail_desc *ret_rails,
                      uint32_t cap) {
    return 0;
}

/* Nothing else is called of a transport without rails. */
const struct yk_xport_ops yk_xport_rdma = {.name = "rdma",
                                           .bit = YK_XFER_RDMA,
                                           .open = open_xport,
                                           .close = yk_stream_lane_close,
                                           .rails = rails};
