/* SPDX-License-Identifier: Apache-2.0
 *
 * The generator's randomness: SplitMix64 and the draws made from it, in integers only.
 *
 * A seed has to give the same trace on every machine and compiler. Floating point would not: libm's
 * log differs in the last place between libraries, and compilers fuse multiply and add where the
 * processor can. So exponentials come from von Neumann's comparison game, and lengths from tables
 * of quantiles. SplitMix64 is enough: nothing here is secret, and any 64-bit seed is a good one.
 *
 * Thread: the owner of the state.
 */
#ifndef YK_TRACE_RNG_PRIV_H
#define YK_TRACE_RNG_PRIV_H

#include <stdbool.h>
#include <stdint.h>

struct yk_rng {
    uint64_t state;
};

static inline uint64_t yk_rng_next(struct yk_rng *r) {
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0..n-1. The bias is n / 2^32, far below what a workload model is good for. */
static inline uint32_t yk_rng_below(struct yk_rng *r, uint32_t n) {
    return (uint32_t)(((yk_rng_next(r) >> 32) * n) >> 32);
}

static inline bool yk_rng_percent(struct yk_rng *r, uint32_t percent) {
    return yk_rng_below(r, 100) < percent;
}

/* Exponential with mean 1, in units of 2^-32. A run of falling uniforms u1 > u2 > ... has an odd
 * length with probability exp(-u1); each even one counts as a whole unit passed. */
static inline uint64_t yk_rng_exponential(struct yk_rng *r) {
    for (uint64_t whole = 0;; whole++) {
        uint32_t first = (uint32_t)(yk_rng_next(r) >> 32), last = first, u;
        unsigned length = 1;
        for (; (u = (uint32_t)(yk_rng_next(r) >> 32)) < last; length++)
            last = u;
        if (length % 2 == 1)
            return (whole << 32) + first;
    }
}

/* A distribution by its quantiles at 0, 10, 25, 50, 75, 90, 99 and 100 %, straight in between. */
#define YK_QUANTILES 8

static inline uint32_t yk_rng_quantiles(struct yk_rng *r, const uint32_t *q) {
    static const uint32_t at[YK_QUANTILES] = {0, 1000, 2500, 5000, 7500, 9000, 9900, 10000};
    uint32_t u = yk_rng_below(r, 10000);
    int i = 1;
    while (u >= at[i])
        i++;
    uint64_t rise = (uint64_t)(q[i] - q[i - 1]) * (u - at[i - 1]);
    return q[i - 1] + (uint32_t)(rise / (at[i] - at[i - 1]));
}

#endif
