/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets for the lanes of transports that go over networks: tcp, and rdma, whose lanes have a connection beside the
 * queue pair.
 */
#ifndef YK_XFER_DIAL_H
#define YK_XFER_DIAL_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A socket, non-blocking, on its way from the rail's near end to its far one: its descriptor, the caller's. -YK_EINVAL
 * (no addresses), -YK_ELIMIT (no descriptor), -YK_EIO, -YK_EGONE, with a text. Threads: any. */
int yk_rail_dial(const struct yk_rail_desc *rail, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
