/* SPDX-License-Identifier: Apache-2.0
 *
 * The RDMA transport (lane.c) and its half at the target (target.c); docs/decisions/0019-rdma.md. In builds
 * without the headers of libibverbs, and on hosts without a device, it has no rails.
 */
#ifndef YK_XFER_RDMA_RDMA_H
#define YK_XFER_RDMA_RDMA_H

#include "xfer/target.h"
#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct yk_xport_ops yk_xport_rdma;
extern const struct yk_target_ops yk_target_rdma;

/* Whether this host can use RDMA at all, with the settings (yk_xfer_opts.rdma, or NULL): 0, or -YK_ENOTSUP with what
 * is missing. Loads libibverbs. Thread: any. */
int yk_rdma_check(const char *settings, struct yk_err *err);
/* Whether it has the devices and entries that the settings name: 0, or -YK_EINVAL. Thread: any. */
int yk_rdma_fits(const char *settings, struct yk_err *err);
/* An address of a device of this host: an active port that Yolk can use. */
struct yk_rdma_address {
    char device[64];
    char host[64], mask[64]; /* numeric */
    uint32_t port, gid_index;
};
/* At most cap of them, IPv4 and IPv6; how many. Thread: any. */
uint32_t yk_rdma_addresses(struct yk_rdma_address *ret_addresses, uint32_t cap);
/* The text alone: 0, or -YK_EINVAL with the entry and what was expected. Thread: any. */
int yk_rdma_settings_check(const char *text, struct yk_err *err);

#define YK_RDMA_DEVICES_MAX 16u /* that a process uses at a time */

/* How far the threads are that make memory of this process, of all its engines, known to devices, each with its own; how
 * many. Thread: any. */
struct yk_rdma_progress {
    char device[64];
    uint64_t bytes, known, refused; /* of memory that it shall know; refused: tried again when something needs it */
};
uint32_t yk_rdma_progress(struct yk_rdma_progress ret_progress[YK_RDMA_DEVICES_MAX]);

#ifdef __cplusplus
}
#endif

#endif
