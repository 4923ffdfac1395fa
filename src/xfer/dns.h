/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of hosts, resolved within a deadline.
 *
 * Threads: any.
 */
#ifndef YK_XFER_DNS_H
#define YK_XFER_DNS_H

#include "xfer/sock.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_DNS_MAX     8u /* addresses of one name */
#define YK_DNS_RUNNING 8u /* names of the process that are being resolved at a time */

/* As yk_sock_resolve of an address to connect to, into ret_addrs (YK_DNS_MAX), until deadline_ns.
 * -YK_ETIMEDOUT: not in time; -YK_ELIMIT: so many others do not come to an end; -YK_ENOMEM. */
int yk_dns_resolve(const char *host, uint16_t port, uint64_t deadline_ns, struct yk_sockaddr *ret_addrs,
                   struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
