/* SPDX-License-Identifier: Apache-2.0
 *
 * `mem`: memory of engines in this process. See mem.c.
 */
#ifndef YK_XFER_MEM_MEM_H
#define YK_XFER_MEM_MEM_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct yk_xport_ops yk_xport_mem;

#ifdef __cplusplus
}
#endif

#endif
