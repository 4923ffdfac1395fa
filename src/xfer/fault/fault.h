/* SPDX-License-Identifier: Apache-2.0
 *
 * `fault`: wraps any transport's lanes and makes slices go wrong, for tests. See fault.c.
 */
#ifndef YK_XFER_FAULT_FAULT_H
#define YK_XFER_FAULT_FAULT_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 0, or -YK_EINVAL: what is wrong with the text.
 *   KIND:every=N | KIND:rate=P [,scope=lane|request] [,ms=M]
 * KIND: delay (by M ms, default 5), drop (never answered), error (of the lane, or of the request alone),
 * corrupt (a byte of reads that have a checksum to find it by; others pass). P: 0 to 1. */
int yk_fault_check(const char *spec, struct yk_err *err);

/* The transport behind ops, wrapped; spec has been checked. */
int yk_fault_open(const struct yk_xport_ops *ops, const char *spec, const struct yk_shard_env *env,
                  struct yk_xport **ret_xport, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
