/* SPDX-License-Identifier: Apache-2.0
 *
 * libyolk-node: a node inside the caller's process, for `yk_open("embedded:...")`.
 *
 * libyolk loads this library by name when such an address is opened, so that a plain client links
 * no event loop. The node is the same as yolkd's; it listens nowhere, its segment is nameless, and
 * it ends with the handle.
 *
 * Options are NAME=VALUE, separated by commas: dram (size, default 256M), cxl (SIZE[@NODE] of slow memory, wherever DRAM
 * is if no node is named; cxl_use_percent, for tests: what a use of it costs, of one of DRAM, instead of what is
 * measured), capacity_blocks,
 * max_blocks (counts), policy, name (of a named segment that survives), listen (an address more,
 * for other processes of the host); ssd (PATH:SIZE as yolkd's --ssd takes it, once for each place),
 * and yolkd's other options of the SSD tier with underscores: ssd_only_on, ssd_admit, ssd_segment,
 * ssd_write_limit, ssd_clean_percent, ssd_capacity_blocks, ssd_trim, ssd_format, ssd_buffered,
 * ssd_preload.
 *
 * Threads: any; each call is for itself.
 */
#ifndef YK_NODE_EMBED_H
#define YK_NODE_EMBED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts a node and connects to it: *ret_fd is the client's end. 0, or a negative status with its
 * text in err. */
__attribute__((visibility("default"))) int
yk_node_embed(const char *options, int *ret_fd, void **ret_node, char *err, size_t err_cap);

/* One more connection to it. */
__attribute__((visibility("default"))) int yk_node_embed_connect(void *node, int *ret_fd);

/* Stops it. The client's ends should be closed before. */
__attribute__((visibility("default"))) void yk_node_unembed(void *node);

#ifdef __cplusplus
}
#endif

#endif
