/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the tcp transport: tcp.c (lanes), rails.c (which devices reach a peer).
 */
#ifndef YK_XFER_TCP_PRIV_H
#define YK_XFER_TCP_PRIV_H

#include "xfer/transport.h"

/* Thread: any; asks the kernel each time. */
uint32_t yk_tcp_rails(struct yk_xport *xport, const struct yk_peer_info *peer,
                      struct yk_rail_desc *ret_rails, uint32_t cap);

/* Whether each item of "eth0,10.0.0.7" (NULL: none) is there: 0, or -YK_EINVAL with a text. */
int yk_tcp_check_filter(const char *filter, struct yk_err *err);

/* What it works on, for tests. */
struct yk_tcp_device {
    char name[16], host[YK_PEER_HOST], mask[YK_PEER_HOST];
    uint32_t index, mbit;
    int loopback;
};
/* filter: "eth0,10.0.0.7" or NULL. same_host: the peer's kernel is this one. */
uint32_t yk_tcp_rails_of(const struct yk_tcp_device *devices, uint32_t device_count, const char *filter,
                         const struct yk_peer_info *peer, int same_host, struct yk_rail_desc *ret_rails,
                         uint32_t cap);

#endif
