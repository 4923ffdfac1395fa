/* SPDX-License-Identifier: Apache-2.0
 *
 * Latency histogram: fixed size, O(1) to record, at most 1.6 % error, 1 ns to 1,100 s.
 *
 * Values below 32 have a bucket each; from there on every power of two is cut into 32 equal
 * buckets, so a bucket is at most 1/32 of its lower end wide and its middle at most 1/64 (1.6 %)
 * away from any value in it. 1,152 counters of 64 bits make 9 KiB. 32-bit counters would halve that
 * but wrap within an hour at a million records a second; a finer cut (HdrHistogram's 3 digits)
 * costs 100 KiB and the cache misses that go with it; sketches (DDSketch, t-digest) need logarithms
 * or sorting where this needs a shift. Values from 2^40 ns on are counted in the last bucket and
 * keep their true maximum and sum.
 *
 * Thread: one writer. Recording is plain arithmetic with relaxed loads and stores, no
 * read-modify-write: another thread may take a snapshot at any time and finds every finished record
 * or not yet, never a torn counter. A snapshot counts from its own buckets, so its percentiles are
 * consistent; sum, min and max may be a few records apart from it. Statistics are taken from a
 * snapshot (or from a histogram that nobody writes).
 */
#ifndef YK_BASE_HIST_H
#define YK_BASE_HIST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_HIST_SUB_BITS   5 /* 32 buckets for each power of two */
#define YK_HIST_VALUE_BITS 40
#define YK_HIST_SUBS       (1u << YK_HIST_SUB_BITS)
#define YK_HIST_BUCKETS    (YK_HIST_SUBS * (YK_HIST_VALUE_BITS - YK_HIST_SUB_BITS + 1))

/* May stand in shared or zeroed memory: all zero is an empty histogram. */
struct yk_hist {
    uint64_t count; /* of all buckets */
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t min_ns_plus_1; /* 0: nothing recorded */
    uint64_t buckets[YK_HIST_BUCKETS];
};

/* Which bucket counts ns; inline for record. */
static inline uint32_t yk_hist_bucket(uint64_t ns) {
    if (ns < YK_HIST_SUBS)
        return (uint32_t)ns;
    if (ns >> YK_HIST_VALUE_BITS)
        return YK_HIST_BUCKETS - 1;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(ns) - YK_HIST_SUB_BITS;
    return shift * YK_HIST_SUBS + (uint32_t)(ns >> shift);
}

static inline uint64_t yk_hist_load(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void yk_hist_store(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Counts one value. Writer only. 4 ns measured on a busy 2-core VM. */
static inline void yk_hist_record(struct yk_hist *hist, uint64_t ns) {
    uint64_t *bucket = &hist->buckets[yk_hist_bucket(ns)];
    yk_hist_store(bucket, yk_hist_load(bucket) + 1);
    yk_hist_store(&hist->count, yk_hist_load(&hist->count) + 1);
    yk_hist_store(&hist->sum_ns, yk_hist_load(&hist->sum_ns) + ns);
    if (ns > yk_hist_load(&hist->max_ns))
        yk_hist_store(&hist->max_ns, ns);
    if (ns + 1 < yk_hist_load(&hist->min_ns_plus_1) || yk_hist_load(&hist->min_ns_plus_1) == 0)
        yk_hist_store(&hist->min_ns_plus_1, (ns + 1 == 0) ? ns : ns + 1);
}

/* Empties it. Writer only; readers may see part of the old contents once. */
void yk_hist_reset(struct yk_hist *hist);

/* Copies hist, which may be written meanwhile, into *ret. Any thread. */
void yk_hist_snapshot(const struct yk_hist *hist, struct yk_hist *ret);

/* Adds the contents of from (a snapshot or at rest) to into. Writer of into only. */
void yk_hist_merge(struct yk_hist *into, const struct yk_hist *from);

/* What was recorded between two snapshots of one histogram: now minus before, into *ret (which may
 * be either). Minimum and maximum are those of the buckets, exact to 1.6 %. */
void yk_hist_subtract(const struct yk_hist *now, const struct yk_hist *before, struct yk_hist *ret);

/* All of these are 0 for an empty histogram. */
uint64_t yk_hist_count(const struct yk_hist *hist);
uint64_t yk_hist_min(const struct yk_hist *hist);
uint64_t yk_hist_max(const struct yk_hist *hist);
double yk_hist_mean(const struct yk_hist *hist);

/* The smallest value such that at least percent (0 to 100) of all values are not above it, to
 * 1.6 %: nearest rank; 0 is the minimum, 100 the maximum. */
uint64_t yk_hist_percentile(const struct yk_hist *hist, double percent);

/* For each of n ascending bounds, how many values are at most that, to one bucket: a bucket counts
 * if its middle does. One pass. */
void yk_hist_cumulate(const struct yk_hist *hist, const uint64_t *bounds_ns, uint32_t n,
                      uint64_t *ret_counts);

/* Smallest and largest value that bucket i counts (the last also counts all larger ones), and the
 * value it stands for. */
uint64_t yk_hist_bucket_low(uint32_t i);
uint64_t yk_hist_bucket_high(uint32_t i);
uint64_t yk_hist_bucket_middle(uint32_t i);

#ifdef __cplusplus
}
#endif

#endif
