/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the engine meets other processes: the server that answers them, and the questions that block.
 *
 * Threads: any; start and stop as create and destroy.
 */
#include "xfer/engine_priv.h"

int yk_remote_start(struct yk_xfer *e, struct yk_err *err) {
    return e->opts.listen == NULL ? 0
                                  : yk_err_set(err, -YK_ENOTSUP, "this build listens on no address");
}

void yk_remote_stop(struct yk_xfer *e) {
    (void)e;
}

void yk_remote_forget(struct yk_xfer *e, struct yk_region *region) {
    (void)e;
    (void)region;
}

int yk_remote_segment(struct yk_xfer *e, const char *address, const char *name, uint64_t deadline_ns,
                      struct yk_peer_info *ret_peer, struct yk_published *ret_segment,
                      struct yk_err *err) {
    (void)e;
    (void)deadline_ns;
    (void)ret_peer;
    (void)ret_segment;
    return yk_err_set(err, -YK_ENOTSUP, "segment '%s' at '%s': this build reaches no other process",
                      name, address);
}

int yk_xfer_probe(yk_xfer *e, const char *address, uint32_t timeout_ms, uint64_t *ret_round_trip_ns) {
    int rc = yk_xfer_enter(e);
    (void)timeout_ms;
    (void)ret_round_trip_ns;
    if (rc < 0)
        return rc;
    return address == NULL ? yk_xfer_fail(-YK_EINVAL, "the address is NULL")
                           : yk_xfer_fail(-YK_ENOTSUP, "'%s': this build reaches no other process", address);
}
