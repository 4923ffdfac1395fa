/* SPDX-License-Identifier: Apache-2.0
 *
 * Choice of a copy kernel by length and CPU, the portable kernel, and the plain hashes of hash.h.
 *
 * xxhash.h is inlined here and nowhere else (see hash.h). Its own vector code is fixed when it is
 * compiled, to SSE2 or NEON; the AVX2 kernel in copyhash_avx2.c is chosen at run time. The choice
 * is a test of a constant that libgcc fills in before main, so there is neither state here nor an
 * ifunc.
 *
 * The portable kernel works in chunks that stay in the L1 cache between being copied and being
 * hashed; it hashes the destination, so that the hash is of what was stored.
 *
 * Thread: any; no state.
 */
#include "base/copyhash.h"

#include "base/copyhash_priv.h"
#include "base/hash.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Small enough that the next chunk can be on its way (see fetch_next) while this one is hashed; the
 * library's call costs too much below 1 KiB. */
#define PORTABLE_CHUNK 2048u

/* From here on a put streams. Its destination is a slot in no cache: at 64 KiB streaming gave 1.25
 * to 1.4 of memcpy and cached stores 0.95 to 1.05, and a reader that followed on the same core lost
 * nothing by it. At 16 KiB that reader lost a fifth. */
#define STREAM_MIN (64u << 10)

/* From here on a get streams. It gained 1.1 to 1.4 into cold buffers already at 1 MiB, but cost up
 * to 0.6 where one buffer was used over and over and read at once; at 8 MiB that worst case is 0.8.
 */
#define COPY_STREAM_MIN (8u << 20)

#if YK_HAVE_AVX2_BUILD
static bool have_avx2(void) {
    return __builtin_cpu_supports("avx2");
}
#endif

static size_t chunk_of(size_t left) {
    return left < PORTABLE_CHUNK ? left : PORTABLE_CHUNK;
}

/* Asks for the k bytes after this chunk of both sides, so that hashing it, which touches the L1
 * cache alone, does not leave the memory idle: 0.8 of memcpy instead of 0.65. */
static void fetch_next(uint8_t *out, const uint8_t *in, size_t k) {
    for (size_t i = 0; i < k; i += 64) {
        __builtin_prefetch(in + i, 0);
        __builtin_prefetch(out + i, 1);
    }
}

uint64_t yk_copyv_hash_portable(void *dst, const struct iovec *iov, int n, size_t total) {
    uint8_t *out = dst;
    XXH3_state_t st;

    if (n == 1 && total <= PORTABLE_CHUNK) {
        if (total)
            memcpy(dst, iov[0].iov_base, total);
        return XXH3_64bits(dst, total);
    }
    XXH3_64bits_reset(&st);
    for (int i = 0; i < n; i++) {
        const uint8_t *in = iov[i].iov_base;
        for (size_t left = iov[i].iov_len, k; left; left -= k, in += k, out += k) {
            k = chunk_of(left);
            memcpy(out, in, k);
            fetch_next(out + k, in + k, chunk_of(left - k));
            XXH3_64bits_update(&st, out, k);
        }
    }
    return XXH3_64bits_digest(&st);
}

uint64_t yk_hashv_portable(const struct iovec *iov, int n, size_t total) {
    XXH3_state_t st;

    (void)total;
    if (n == 1)
        return XXH3_64bits(iov[0].iov_base, iov[0].iov_len);
    XXH3_64bits_reset(&st);
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len)
            XXH3_64bits_update(&st, iov[i].iov_base, iov[i].iov_len);
    }
    return XXH3_64bits_digest(&st);
}

static uint64_t copyv_hash_sized(void *dst, const struct iovec *iov, int n, size_t total) {
#if YK_HAVE_AVX2_BUILD
    if (total > YK_XXH3_SHORT_MAX && have_avx2())
        return yk_copyv_hash_avx2(dst, iov, n, total, total >= STREAM_MIN);
#endif
    return yk_copyv_hash_portable(dst, iov, n, total);
}

static uint64_t hashv_sized(const struct iovec *iov, int n, size_t total) {
#if YK_HAVE_AVX2_BUILD
    if (total > YK_XXH3_SHORT_MAX && have_avx2())
        return yk_hashv_avx2(iov, n, total);
#endif
    return yk_hashv_portable(iov, n, total);
}

uint64_t yk_copy_hash(void *dst, const void *src, size_t len) {
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)src, .iov_len = len};
    return copyv_hash_sized(dst, &iov, 1, len);
}

uint64_t yk_copyv_hash(void *dst, const struct iovec *iov, int n) {
    return copyv_hash_sized(dst, iov, n, yk_iov_len(iov, n));
}

uint64_t yk_hash64(const void *data, size_t len) {
    if (len <= YK_XXH3_SHORT_MAX)
        return XXH3_64bits(data, len);
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    return hashv_sized(&iov, 1, len);
}

uint64_t yk_hash64v(const struct iovec *iov, int n) {
    return hashv_sized(iov, n, yk_iov_len(iov, n));
}

/* What the header does not show: the library's state, which it aligns. */
static XXH3_state_t *state_of(const struct yk_hasher *h) {
    return (XXH3_state_t *)(uintptr_t)h;
}

struct yk_hasher *yk_hasher_new(void) {
    XXH3_state_t *st = XXH3_createState();
    if (st != NULL)
        XXH3_64bits_reset(st);
    return (struct yk_hasher *)(void *)st;
}

void yk_hasher_add(struct yk_hasher *h, const void *data, size_t len) {
    XXH3_64bits_update(state_of(h), data, len);
}

uint64_t yk_hasher_sum(const struct yk_hasher *h) {
    return XXH3_64bits_digest(state_of(h));
}

void yk_hasher_free(struct yk_hasher *h) {
    XXH3_freeState(state_of(h));
}

uint64_t yk_hash_key(uint32_t ns_id, const void *key, size_t len) {
    return XXH3_64bits_withSeed(key, len, ns_id);
}

void yk_copy(void *dst, const void *src, size_t len) {
#if YK_HAVE_AVX2_BUILD
    if (len >= COPY_STREAM_MIN && have_avx2()) {
        yk_copy_stream_avx2(dst, src, len);
        return;
    }
#endif
    if (len)
        memcpy(dst, src, len);
}

/* ---- the variants, for tests and the benchmark ---- */

static bool always(void) {
    return true;
}

static void copy_memcpy(void *dst, const void *src, size_t len) {
    if (len)
        memcpy(dst, src, len);
}

#if YK_HAVE_AVX2_BUILD
static uint64_t copyv_hash_cached(void *dst, const struct iovec *iov, int n, size_t total) {
    return total > YK_XXH3_SHORT_MAX ? yk_copyv_hash_avx2(dst, iov, n, total, false)
                                     : yk_copyv_hash_portable(dst, iov, n, total);
}

static uint64_t copyv_hash_stream(void *dst, const struct iovec *iov, int n, size_t total) {
    return total > YK_XXH3_SHORT_MAX ? yk_copyv_hash_avx2(dst, iov, n, total, true)
                                     : yk_copyv_hash_portable(dst, iov, n, total);
}

static uint64_t hashv_avx2(const struct iovec *iov, int n, size_t total) {
    return total > YK_XXH3_SHORT_MAX ? yk_hashv_avx2(iov, n, total)
                                     : yk_hashv_portable(iov, n, total);
}
#endif

const struct yk_copyhash_variant yk_copyhash_variants[] = {
    {"portable", always, yk_copyv_hash_portable, yk_hashv_portable, copy_memcpy},
#if YK_HAVE_AVX2_BUILD
    {"avx2", have_avx2, copyv_hash_cached, hashv_avx2, copy_memcpy},
    {"avx2-stream", have_avx2, copyv_hash_stream, hashv_avx2, yk_copy_stream_avx2},
#endif
    {.name = NULL},
};
