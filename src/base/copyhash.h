/* SPDX-License-Identifier: Apache-2.0
 *
 * Copy kernels of put and get. A put copies its payload into the slot and needs XXH3-64 of it: both
 * are done in one pass, since a second pass over a megabyte costs as much as the copy did.
 *
 * Which bytes are hashed: those that were written to dst. The AVX2 kernel loads every source byte
 * once, into a register, and both stores and hashes that register; the portable one copies a chunk
 * and hashes the destination's. A caller that changes its buffer meanwhile stores a mixture, and
 * the hash agrees with that mixture; nothing here makes a torn source whole.
 *
 * Large copies use non-temporal ("streaming") stores where the destination allows, which skips the
 * read of each destination line; they end with a store fence, so a release store after the call
 * publishes the payload as after memcpy. Source and destination must not overlap and may have any
 * alignment; a destination aligned to 32 bytes is what makes streaming possible.
 * docs/decisions/0003-copy-and-hash.md has the design, the thresholds and the figures.
 *
 * Thread: any; no state. Nothing blocks (a page fault apart), allocates or fails.
 */
#ifndef YK_BASE_COPYHASH_H
#define YK_BASE_COPYHASH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Copies len bytes and returns yk_hash64 of what it wrote. Pointers may be NULL when len is 0. */
uint64_t yk_copy_hash(void *dst, const void *src, size_t len);

/* Gathers the n parts to dst, one after another, and returns yk_hash64 of the whole, the same value
 * as for one contiguous buffer. dst has room for yk_iov_len(iov, n). Parts may be empty. */
uint64_t yk_copyv_hash(void *dst, const struct iovec *iov, int n);

/* Copies len bytes without hashing (gets). */
void yk_copy(void *dst, const void *src, size_t len);

/* yk_hash64 of the concatenation of n parts. */
uint64_t yk_hash64v(const struct iovec *iov, int n);

/* Sum of the parts' lengths; the caller keeps it below SIZE_MAX. */
static inline size_t yk_iov_len(const struct iovec *iov, int n) {
    size_t len = 0;
    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

#ifdef __cplusplus
}
#endif

#endif
