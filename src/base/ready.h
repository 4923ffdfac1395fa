/* SPDX-License-Identifier: Apache-2.0
 *
 * A wait for one descriptor that ends.
 */
#ifndef YK_BASE_READY_H
#define YK_BASE_READY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* events: POLLIN, POLLOUT. deadline_ns: of yk_now_ns. 0: ready, or hung up (the next call on it tells).
 * -YK_ETIMEDOUT, -YK_EIO. Signals do not end it. Threads: any. */
int yk_poll_until(int fd, short events, uint64_t deadline_ns);

#ifdef __cplusplus
}
#endif

#endif
