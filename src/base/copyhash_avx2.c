/* SPDX-License-Identifier: Apache-2.0
 *
 * XXH3-64's striped form (more than 240 bytes) in AVX2, fused with the copy.
 *
 * The format, as its specification gives it: the input is cut into stripes of 64 bytes; each stripe
 * is added into eight 64-bit lanes, keyed with 64 bytes of a fixed secret that moves on by 8 bytes
 * a stripe; after 16 stripes (a block) the lanes are scrambled. The last stripe is special: the
 * last 64 bytes of the input, overlapping the one before, with a key of its own. Then the lanes
 * fold.
 *
 * Fusing at the level of a stripe means that a source byte is loaded once, into a register that is
 * both stored and hashed, so hash and stored bytes agree even if the source changes meanwhile.
 * (Nothing here is `restrict`, on purpose: a store may alias the source as far as the compiler
 * knows, so it cannot load a word a second time after storing it.) The
 * alternative, hash a chunk of 1 to 4 KiB with the library and copy it from L1, reads the source
 * twice and was slower. The library's own AVX2 code cannot be used for this: it is fixed at compile
 * time and hides its stripes.
 *
 * The stripes of a gather need not lie within one part: one that crosses parts is put together in a
 * window on the stack. The last full stripe goes through the window too, because the special last
 * stripe overlaps it and must not be read from the source again.
 *
 * Thread: any; no state.
 */
#include "base/copyhash_priv.h"

#if YK_HAVE_AVX2_BUILD

#include <immintrin.h>
#include <string.h>

#define AVX2        __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2")))

#define STRIPE        64u
#define BLOCK_STRIPES 16u
#define BLOCK_BYTES   (STRIPE * BLOCK_STRIPES)

#define PRIME32_1 0x9E3779B1u
#define PRIME32_2 0x85EBCA77u
#define PRIME32_3 0xC2B2AE3Du
#define PRIME64_1 0x9E3779B185EBCA87ull
#define PRIME64_2 0xC2B2AE3D27D4EB4Full
#define PRIME64_3 0x165667B19E3779F9ull
#define PRIME64_4 0x85EBCA77C2B2AE63ull
#define PRIME64_5 0x27D4EB2F165667C5ull

/* Offsets into the secret, in bytes. */
#define SECRET_SCRAMBLE 128u /* its last 64 bytes */
#define SECRET_LAST     121u /* the last stripe's key */
#define SECRET_FOLD     11u

/* XXH3's default secret as little-endian words. */
static const uint64_t secret_words[24] __attribute__((aligned(64))) = {
    0xbe4ba423396cfeb8ULL, 0x1cad21f72c81017cULL, 0xdb979083e96dd4deULL, 0x1f67b3b7a4a44072ULL,
    0x78e5c0cc4ee679cbULL, 0x2172ffcc7dd05a82ULL, 0x8e2443f7744608b8ULL, 0x4c263a81e69035e0ULL,
    0xcb00c391bb52283cULL, 0xa32e531b8b65d088ULL, 0x4ef90da297486471ULL, 0xd8acdea946ef1938ULL,
    0x3f349ce33f76faa8ULL, 0x1d4f0bc7c7bbdcf9ULL, 0x3159b4cd4be0518aULL, 0x647378d9c97e9fc8ULL,
    0xc3ebd33483acc5eaULL, 0xeb6313faffa081c5ULL, 0x49daf0b751dd0d17ULL, 0x9e68d429265516d3ULL,
    0xfca1477d58be162bULL, 0xce31d07ad1b8f88fULL, 0x280416958f3acb45ULL, 0x7e404bbbcafbd7afULL,
};

/* The eight lanes and how many stripes of the current block they hold. */
struct lanes {
    uint64_t acc[8] __attribute__((aligned(32)));
    unsigned in_block;
};

/* What a kernel does with the stripes it hashes. */
enum store { STORE_NONE, STORE_CACHED, STORE_STREAM };

/* Hashes `stripes` stripes at src into l, and copies them to dst unless it is a hash alone. */
typedef void stripes_fn(struct lanes *l, uint8_t *dst, const uint8_t *src, size_t stripes);

static const uint8_t *secret_at(unsigned offset) {
    return (const uint8_t *)secret_words + offset;
}

static uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

AVX2_INLINE __m256i load256(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Each lane takes its neighbour's word, and the product of the halves of its own keyed word. */
AVX2_INLINE __m256i add_words(__m256i acc, __m256i data, __m256i key) {
    const __m256i keyed = _mm256_xor_si256(data, key);
    const __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
    const __m256i swapped = _mm256_shuffle_epi32(data, _MM_SHUFFLE(1, 0, 3, 2));
    return _mm256_add_epi64(acc, _mm256_add_epi64(product, swapped));
}

/* (acc ^ acc >> 47 ^ key) * PRIME32_1, the 64-bit product out of two of 32 bits. */
AVX2_INLINE __m256i scramble(__m256i acc, __m256i key) {
    const __m256i prime = _mm256_set1_epi32((int)PRIME32_1);
    const __m256i mixed = _mm256_xor_si256(_mm256_xor_si256(acc, _mm256_srli_epi64(acc, 47)), key);
    const __m256i low = _mm256_mul_epu32(mixed, prime);
    const __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
    return _mm256_add_epi64(low, _mm256_slli_epi64(high, 32));
}

AVX2_INLINE void stripe(__m256i acc[2], uint8_t *dst, const uint8_t *src, unsigned secret_offset,
                        enum store store) {
    const __m256i a = load256(src);
    const __m256i b = load256(src + 32);
    const uint8_t *key = secret_at(secret_offset);

    if (store == STORE_CACHED) {
        _mm256_storeu_si256((__m256i *)dst, a);
        _mm256_storeu_si256((__m256i *)(dst + 32), b);
    } else if (store == STORE_STREAM) {
        _mm256_stream_si256((__m256i *)dst, a);
        _mm256_stream_si256((__m256i *)(dst + 32), b);
    }
    acc[0] = add_words(acc[0], a, load256(key));
    acc[1] = add_words(acc[1], b, load256(key + 32));
}

/* dst moved on by k bytes; a hash alone has none. */
AVX2_INLINE uint8_t *beyond(uint8_t *dst, size_t k, enum store store) {
    return store == STORE_NONE ? NULL : dst + k;
}

AVX2_INLINE void scramble_both(__m256i acc[2]) {
    acc[0] = scramble(acc[0], load256(secret_at(SECRET_SCRAMBLE)));
    acc[1] = scramble(acc[1], load256(secret_at(SECRET_SCRAMBLE + 32)));
}

/* Runs of at least this many stripes (8 KiB) prefetch one block ahead: the hardware prefetcher
 * stops at every page. It gives 8 to 13 % on long sources that are in no cache, which payloads
 * mostly are, and takes 5 to 10 % from those that are. Runs of 4 KiB lost 20 % by it. */
#define AHEAD_MIN_STRIPES 128u

/* One whole block; `ahead` prefetches the block after it, which the caller knows to be there.
 * Unrolled by 4: with all 16 gcc spilled addresses and lost a quarter on sources in cache. */
AVX2_INLINE void run_block(__m256i acc[2], uint8_t *dst, const uint8_t *src, bool ahead,
                           enum store store) {
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK_STRIPES; i++) {
        if (ahead)
            _mm_prefetch((const char *)src + BLOCK_BYTES + i * STRIPE, _MM_HINT_T0);
        stripe(acc, beyond(dst, i * STRIPE, store), src + i * STRIPE, i * 8, store);
    }
    scramble_both(acc);
}

/* The kernel, made three times below with `store` known. */
AVX2_INLINE void run_stripes(struct lanes *l, uint8_t *dst, const uint8_t *src, size_t stripes,
                             enum store store) {
    __m256i acc[2] = {load256(l->acc), load256(l->acc + 4)};
    unsigned at = l->in_block;
    const bool long_run = stripes >= AHEAD_MIN_STRIPES;

    while (stripes) {
        if (at == 0 && stripes >= BLOCK_STRIPES) {
            if (long_run && stripes >= 2 * BLOCK_STRIPES)
                run_block(acc, dst, src, true, store);
            else
                run_block(acc, dst, src, false, store);
            stripes -= BLOCK_STRIPES;
            src += BLOCK_BYTES;
            dst = beyond(dst, BLOCK_BYTES, store);
            continue;
        }
        stripe(acc, dst, src, at * 8, store);
        stripes--;
        src += STRIPE;
        dst = beyond(dst, STRIPE, store);
        if (++at == BLOCK_STRIPES) {
            scramble_both(acc);
            at = 0;
        }
    }
    _mm256_store_si256((__m256i *)l->acc, acc[0]);
    _mm256_store_si256((__m256i *)(l->acc + 4), acc[1]);
    l->in_block = at;
}

AVX2 static void stripes_hash(struct lanes *l, uint8_t *dst, const uint8_t *src, size_t stripes) {
    run_stripes(l, dst, src, stripes, STORE_NONE);
}

AVX2 static void stripes_cached(struct lanes *l, uint8_t *dst, const uint8_t *src, size_t stripes) {
    run_stripes(l, dst, src, stripes, STORE_CACHED);
}

AVX2 static void stripes_stream(struct lanes *l, uint8_t *dst, const uint8_t *src, size_t stripes) {
    run_stripes(l, dst, src, stripes, STORE_STREAM);
}

static uint64_t fold_pair(const uint64_t *acc, unsigned secret_offset) {
    const unsigned __int128 product =
        (unsigned __int128)(acc[0] ^ load64(secret_at(secret_offset))) *
        (acc[1] ^ load64(secret_at(secret_offset + 8)));
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Adds the special last stripe and folds the lanes into the hash of total bytes. */
AVX2 static uint64_t finish(struct lanes *l, const uint8_t last[STRIPE], size_t total) {
    __m256i acc[2] = {load256(l->acc), load256(l->acc + 4)};
    uint64_t h = total * PRIME64_1;

    stripe(acc, NULL, last, SECRET_LAST, STORE_NONE);
    _mm256_store_si256((__m256i *)l->acc, acc[0]);
    _mm256_store_si256((__m256i *)(l->acc + 4), acc[1]);
    for (unsigned i = 0; i < 4; i++)
        h += fold_pair(l->acc + 2 * i, SECRET_FOLD + 16 * i);
    h ^= h >> 37;
    h *= 0x165667919E3779F9ull;
    return h ^ h >> 32;
}

/* Runs fn over the gathered input. dst is NULL for a hash alone.
 *
 * full:   stripes still to be hashed as full ones; the 1 to 64 bytes after them are the tail.
 * window: the stripe hashed last (valid once full is 0), then `held` bytes of the one in the
 * making.
 */
static uint64_t gather(stripes_fn *fn, uint8_t *dst, const struct iovec *iov, int n, size_t total) {
    struct lanes l = {
        {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1},
        0};
    uint8_t window[2 * STRIPE] = {0};
    uint8_t *making = window + STRIPE;
    size_t full = (total - 1) / STRIPE, held = 0;

    for (int i = 0; i < n; i++) {
        const uint8_t *in = iov[i].iov_base;
        size_t left = iov[i].iov_len, k;
        while (left) {
            if (!held && full > 1 && left >= STRIPE) {
                k = left / STRIPE < full - 1 ? left / STRIPE : full - 1;
                fn(&l, dst, in, k);
                full -= k;
                k *= STRIPE;
                dst = dst ? dst + k : NULL;
            } else {
                k = left < STRIPE - held ? left : STRIPE - held;
                memcpy(making + held, in, k);
                held += k;
                if (held == STRIPE && full) {
                    fn(&l, dst, making, 1);
                    full--;
                    held = 0;
                    dst = dst ? dst + STRIPE : NULL;
                    memcpy(window, making, STRIPE);
                }
            }
            in += k;
            left -= k;
        }
    }
    if (dst)
        memcpy(dst, making, held);
    return finish(&l, window + held, total);
}

uint64_t yk_copyv_hash_avx2(void *dst, const struct iovec *iov, int n, size_t total, bool stream) {
    uint64_t h;

    if (!stream || (uintptr_t)dst % 32)
        return gather(stripes_cached, dst, iov, n, total);
    h = gather(stripes_stream, dst, iov, n, total);
    _mm_sfence();
    return h;
}

uint64_t yk_hashv_avx2(const struct iovec *iov, int n, size_t total) {
    return gather(stripes_hash, NULL, iov, n, total);
}

AVX2 void yk_copy_stream_avx2(void *dst, const void *src, size_t len) {
    uint8_t *out = dst;
    const uint8_t *in = src;
    size_t head = -(uintptr_t)out % STRIPE;

    head = head < len ? head : len;
    if (head)
        memcpy(out, in, head);
    out += head;
    in += head;
    len -= head;
    for (; len >= 2 * STRIPE; len -= 2 * STRIPE, in += 2 * STRIPE, out += 2 * STRIPE) {
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++)
            _mm256_stream_si256((__m256i *)out + i, load256(in + 32 * i));
    }
    if (len)
        memcpy(out, in, len);
    _mm_sfence();
}

#endif
