/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of other processes of this host: by copying (shm.c), by the peer's unix socket (unix.c).
 */
#ifndef YK_XFER_SHM_SHM_H
#define YK_XFER_SHM_SHM_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct yk_xport_ops yk_xport_shm, yk_xport_unix;

#ifdef __cplusplus
}
#endif

#endif
