/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest of a cluster: asks one node, waits for the answer, asks again. For the command line; who asks much
 * at a time, or several nodes, takes yk_peers (peer.h) without `listen`.
 *
 * Everything blocks, up to the deadline that it is given (resolving a host's name may outlast it). After a
 * failure other than -YK_ETOOBIG or -YK_EINVAL of an argument the connection is of no more use.
 *
 * Threads: one at a time. No state beside the handle.
 */
#ifndef YK_DIR_GUEST_H
#define YK_DIR_GUEST_H

#include "base/status.h"
#include "dir/peer.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_guest;

/* Connects to "host:port" and says hello. -YK_EINVAL (address), -YK_ENOENT (no such host), -YK_EGONE (nobody
 * listens there, or it hung up), -YK_ETIMEDOUT, -YK_EVERSION (both ranges in the text), -YK_EPROTO (no node of
 * a cluster), -YK_ENOMEM, or what the node refused it with. */
int yk_guest_open(const char *address, uint32_t timeout_ms, struct yk_guest **ret_guest, struct yk_err *err);
void yk_guest_close(struct yk_guest *guest);

/* Who answered, and of which cluster (0: none yet). */
uint64_t yk_guest_cluster(const struct yk_guest *guest);
struct yk_peer_who yk_guest_node(const struct yk_guest *guest);

/* *ret_body is the guest's, until its next call. Errors as of open, -YK_ETOOBIG (more than
 * YK_PEER_GUEST_BODY_MAX). */
int yk_guest_ask(struct yk_guest *guest, unsigned op, const void *body, uint32_t len, uint32_t timeout_ms,
                 const void **ret_body, uint32_t *ret_len, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
