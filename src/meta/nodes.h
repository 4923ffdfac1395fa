/* SPDX-License-Identifier: Apache-2.0
 *
 * Which nodes a cluster has, for clients that are given etcd in place of a node: one question, one answer, nothing
 * stays open. What libyolk-etcd.so exports; text on both sides, so that libyolk shares no struct with it.
 *
 * Threads: any; blocks.
 */
#ifndef YK_META_NODES_H
#define YK_META_NODES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* url: "etcd://HOST:PORT,HOST:PORT/CLUSTER?OPTIONS", CLUSTER the nodes' --cluster ("yolk" where there is none); OPTIONS
 * with '&' between: tls (https), ca=FILE, cert=FILE, key=FILE, user=NAME, password-file=FILE; zone=ZONE is the
 * caller's own. ret_text: for each node that lives "host TAB zone TAB local TAB clients" and a newline, "-" where it says
 * nothing. 0; -YK_EINVAL, -YK_EGONE (no etcd answers), -YK_ETIMEDOUT, -YK_EPERM, -YK_ENOTSUP, -YK_ENOMEM, with the reason
 * in ret_err. */
__attribute__((visibility("default"))) int yk_etcd_nodes(const char *url, uint32_t timeout_ms, char *ret_text,
                                                         size_t size, char *ret_err, size_t err_size);

#ifdef __cplusplus
}
#endif

#endif
