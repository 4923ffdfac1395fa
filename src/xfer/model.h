/* SPDX-License-Identifier: Apache-2.0
 *
 * The cost of a rail by size of slice: how fast it moves bytes, what a slice costs beyond that.
 *
 * Slices on a rail are answered about in order, so the time that one took for itself is from its
 * sending, or from the end of the one before it, whichever is later, to its own end. Those times are
 * summed over about a millisecond (answers come in bunches: the first of a bunch carries the time of
 * all) and make one sample; samples go into an exponential average. Ten of them, 10 ms, replace nearly
 * all of what was known. The fixed part comes from slices that had the rail for themselves; the first of
 * a run of several counts for neither.
 *
 * Pure: times are passed in.
 * Thread: one at a time (the shard's).
 */
#ifndef YK_XFER_MODEL_H
#define YK_XFER_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_MODEL_BANDS     4u /* up to 16 KiB, 128 KiB, 1 MiB, above */
#define YK_MODEL_SLICE_MIN (64u << 10)
#define YK_MODEL_SLICE_MAX (4u << 20)

struct yk_model_band {
    double bytes_per_s, fixed_ns;
    uint32_t samples, fixed_samples; /* 0: a guess */
    double bytes, busy_ns;           /* of the sample that is being summed */
};

struct yk_model {
    struct yk_model_band band[YK_MODEL_BANDS];
    uint64_t last_done_ns;
    uint32_t distance; /* of the rail's device from memory: steps, 0 = near */
    int run_begins; /* slices that came with the first of a run say nothing of its speed */
};

/* First guesses of bandwidth and fixed cost. distance is 0; who knows better sets it. */
void yk_model_init(struct yk_model *m, double bytes_per_s, double fixed_ns);

/* A slice of len bytes ended well; last: no other is in flight on the rail now. */
void yk_model_done(struct yk_model *m, uint64_t len, uint64_t post_ns, uint64_t done_ns, int last);

uint32_t yk_model_band_of(uint64_t len);
/* What is known of slices of that length; where nothing is, of the nearest band. */
double yk_model_bytes_per_s(const struct yk_model *m, uint64_t len);
double yk_model_fixed_ns(const struct yk_model *m, uint64_t len);

/* When a slice would end if sent now, counted from now: behind in_flight bytes. late_ns: the age of
 * the oldest slice in flight, if that is overdue. A far device's is said to be a sixteenth later for each
 * step (at most four): about as much as predictions are off by, so that it decides between rails that are
 * as good as each other and no more. What distance costs in bandwidth is measured with the rest. */
double yk_model_predict_ns(const struct yk_model *m, uint64_t in_flight, uint64_t len, double late_ns);

/* How much of `left` bytes to cut off for this rail, when `rails` of them are useful: what it moves in
 * a millisecond, at least four for each rail. */
uint64_t yk_model_slice(const struct yk_model *m, uint64_t left, uint32_t rails);

#ifdef __cplusplus
}
#endif

#endif
