/* SPDX-License-Identifier: Apache-2.0
 *
 * The shm transport: memory of other processes of this host (shm.c).
 */
#ifndef YK_XFER_SHM_SHM_H
#define YK_XFER_SHM_SHM_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct yk_xport_ops yk_xport_shm;

#ifdef __cplusplus
}
#endif

#endif
