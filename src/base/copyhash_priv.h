/* SPDX-License-Identifier: Apache-2.0
 *
 * The variants behind copyhash.h, so that tests and the benchmark can force each of them. Every
 * variant works for every length, split and alignment; copyhash.c chooses by length and CPU.
 *
 * Thread: any; the table is constant.
 */
#ifndef YK_BASE_COPYHASH_PRIV_H
#define YK_BASE_COPYHASH_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#if defined(__x86_64__)
#define YK_HAVE_AVX2_BUILD 1
#else
#define YK_HAVE_AVX2_BUILD 0
#endif

/* XXH3's short forms end here; beyond it the striped form, which the AVX2 kernel implements. */
#define YK_XXH3_SHORT_MAX 240

struct yk_copyhash_variant {
    const char *name;
    bool (*usable)(void); /* does this CPU have what it takes? */
    /* total is yk_iov_len(iov, n). */
    uint64_t (*copyv_hash)(void *dst, const struct iovec *iov, int n, size_t total);
    uint64_t (*hashv)(const struct iovec *iov, int n, size_t total);
    void (*copy)(void *dst, const void *src, size_t len);
};

/* Ends with an entry whose name is NULL. */
extern const struct yk_copyhash_variant yk_copyhash_variants[];

/* Any CPU: memcpy by chunks, and XXH3 of each chunk of the destination while it is in cache. */
uint64_t yk_copyv_hash_portable(void *dst, const struct iovec *iov, int n, size_t total);
uint64_t yk_hashv_portable(const struct iovec *iov, int n, size_t total);

#if YK_HAVE_AVX2_BUILD
/* AVX2, striped form only: total > YK_XXH3_SHORT_MAX. `stream` asks for non-temporal stores, which
 * happen if dst is aligned to 32 bytes. */
uint64_t yk_copyv_hash_avx2(void *dst, const struct iovec *iov, int n, size_t total, bool stream);
uint64_t yk_hashv_avx2(const struct iovec *iov, int n, size_t total);

/* Copies with non-temporal stores, whatever the alignment; meant for large len. */
void yk_copy_stream_avx2(void *dst, const void *src, size_t len);
#endif

#endif
