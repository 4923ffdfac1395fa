/* SPDX-License-Identifier: Apache-2.0
 *
 * What a holder has of a slot in one number, kept by the holder and by the owner (R12): the sum of one hash for each
 * copy and alias, so that it is kept up to date by adding and subtracting.
 *
 * Thread: any; no state.
 */
#ifndef YK_DIR_DIGEST_PRIV_H
#define YK_DIR_DIGEST_PRIV_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t yk_digest_mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static inline uint64_t yk_digest_copy(uint64_t hash, uint64_t gen, uint8_t tiers) {
    return yk_digest_mix(hash ^ yk_digest_mix(gen ^ (uint64_t)tiers << 56));
}

static inline uint64_t yk_digest_alias(uint64_t hash, uint64_t epoch, uint64_t group, uint64_t sum) {
    return yk_digest_mix(hash + yk_digest_mix(group + yk_digest_mix(sum + yk_digest_mix(epoch))));
}

#ifdef __cplusplus
}
#endif

#endif
