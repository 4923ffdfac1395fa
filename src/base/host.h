/* SPDX-License-Identifier: Apache-2.0
 *
 * Which host a process runs on: the kernel's boot id, which containers share, and which no other host has.
 *
 * Threads: any.
 */
#ifndef YK_BASE_HOST_H
#define YK_BASE_HOST_H

#ifdef __cplusplus
extern "C" {
#endif

#define YK_HOST_ID_MAX 64u /* bytes with its NUL */

/* "" where it cannot be read. */
void yk_host_id(char ret[YK_HOST_ID_MAX]);

#ifdef __cplusplus
}
#endif

#endif
