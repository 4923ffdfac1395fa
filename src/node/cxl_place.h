/* SPDX-License-Identifier: Apache-2.0
 *
 * Where slow memory is, as an option names it: SIZE, or SIZE@NODE with the number of a NUMA node.
 *
 * Threads: any.
 */
#ifndef YK_NODE_CXL_PLACE_H
#define YK_NODE_CXL_PLACE_H

#include "base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_CXL_BYTES_MIN (1ull << 20)
#define YK_CXL_BYTES_MAX (1ull << 45)

/* *ret_node: -1 where none is named. -YK_EINVAL "found ..., expected ...". */
int yk_cxl_place_parse(const char *text, uint64_t *ret_bytes, int *ret_node, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
