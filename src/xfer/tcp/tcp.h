/* SPDX-License-Identifier: Apache-2.0
 *
 * The tcp transport; see tcp.c.
 */
#ifndef YK_XFER_TCP_TCP_H
#define YK_XFER_TCP_TCP_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct yk_xport_ops yk_xport_tcp;

#ifdef __cplusplus
}
#endif

#endif
