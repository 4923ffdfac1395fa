/* SPDX-License-Identifier: Apache-2.0
 *
 * Latency histogram (hist.h): all but recording.
 *
 * Thread: see hist.h; relaxed loads and stores pair with yk_hist_record's. Nothing is ordered by
 * them: a snapshot needs untorn words only.
 */
#include "base/hist.h"

void yk_hist_reset(struct yk_hist *hist) {
    for (uint32_t i = 0; i < YK_HIST_BUCKETS; i++)
        yk_hist_store(&hist->buckets[i], 0);
    yk_hist_store(&hist->count, 0);
    yk_hist_store(&hist->sum_ns, 0);
    yk_hist_store(&hist->max_ns, 0);
    yk_hist_store(&hist->min_ns_plus_1, 0);
}

void yk_hist_snapshot(const struct yk_hist *hist, struct yk_hist *ret) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < YK_HIST_BUCKETS; i++) {
        ret->buckets[i] = yk_hist_load(&hist->buckets[i]);
        count += ret->buckets[i];
    }
    ret->count = count;
    ret->sum_ns = yk_hist_load(&hist->sum_ns);
    ret->max_ns = yk_hist_load(&hist->max_ns);
    ret->min_ns_plus_1 = yk_hist_load(&hist->min_ns_plus_1);
}

void yk_hist_merge(struct yk_hist *into, const struct yk_hist *from) {
    uint64_t min = yk_hist_load(&into->min_ns_plus_1);
    for (uint32_t i = 0; i < YK_HIST_BUCKETS; i++)
        if (from->buckets[i] > 0)
            yk_hist_store(&into->buckets[i], yk_hist_load(&into->buckets[i]) + from->buckets[i]);
    yk_hist_store(&into->count, yk_hist_load(&into->count) + from->count);
    yk_hist_store(&into->sum_ns, yk_hist_load(&into->sum_ns) + from->sum_ns);
    if (from->max_ns > yk_hist_load(&into->max_ns))
        yk_hist_store(&into->max_ns, from->max_ns);
    if (from->min_ns_plus_1 > 0 && (min == 0 || from->min_ns_plus_1 < min))
        yk_hist_store(&into->min_ns_plus_1, from->min_ns_plus_1);
}

/* A counter that went backwards (the histogram was reset in between) counts from zero. */
static uint64_t since(uint64_t now, uint64_t before) {
    return (now >= before) ? now - before : now;
}

void yk_hist_subtract(const struct yk_hist *now, const struct yk_hist *before,
                      struct yk_hist *ret) {
    uint64_t max_ns = now->max_ns, min_ns = yk_hist_min(now), count = 0;
    uint32_t first = YK_HIST_BUCKETS, last = 0;
    for (uint32_t i = 0; i < YK_HIST_BUCKETS; i++) {
        ret->buckets[i] = since(now->buckets[i], before->buckets[i]);
        count += ret->buckets[i];
        if (ret->buckets[i] > 0) {
            first = (first == YK_HIST_BUCKETS) ? i : first;
            last = i;
        }
    }
    ret->count = count;
    ret->sum_ns = since(now->sum_ns, before->sum_ns);
    ret->max_ns = 0;
    ret->min_ns_plus_1 = 0;
    if (count == 0)
        return;
    /* The last bucket is open above; the whole range bounds what the buckets say. */
    uint64_t high = (last == YK_HIST_BUCKETS - 1) ? max_ns : yk_hist_bucket_high(last);
    uint64_t low = yk_hist_bucket_low(first);
    ret->max_ns = (high < max_ns) ? high : max_ns;
    ret->min_ns_plus_1 = ((low > min_ns) ? low : min_ns) + 1;
}

uint64_t yk_hist_count(const struct yk_hist *hist) {
    return hist->count;
}

uint64_t yk_hist_min(const struct yk_hist *hist) {
    return (hist->min_ns_plus_1 > 0) ? hist->min_ns_plus_1 - 1 : 0;
}

uint64_t yk_hist_max(const struct yk_hist *hist) {
    return hist->max_ns;
}

double yk_hist_mean(const struct yk_hist *hist) {
    return (hist->count > 0) ? (double)hist->sum_ns / (double)hist->count : 0;
}

uint64_t yk_hist_bucket_low(uint32_t i) {
    uint32_t octave = i / YK_HIST_SUBS;
    if (octave < 2)
        return i;
    return (uint64_t)(YK_HIST_SUBS + i % YK_HIST_SUBS) << (octave - 1);
}

uint64_t yk_hist_bucket_high(uint32_t i) {
    return yk_hist_bucket_low(i + 1) - 1;
}

uint64_t yk_hist_bucket_middle(uint32_t i) {
    uint64_t low = yk_hist_bucket_low(i);
    return low + (yk_hist_bucket_high(i) - low) / 2;
}

static uint64_t clamp_to_range(const struct yk_hist *hist, uint64_t ns) {
    uint64_t min_ns = yk_hist_min(hist);
    if (ns < min_ns)
        return min_ns;
    return (ns < hist->max_ns) ? ns : hist->max_ns;
}

uint64_t yk_hist_percentile(const struct yk_hist *hist, double percent) {
    if (hist->count == 0)
        return 0;
    if (!(percent > 0))
        return yk_hist_min(hist);
    if (percent >= 100)
        return hist->max_ns;
    /* ceil(percent / 100 * count), at least 1; a rank that rounding pushed just above a whole
     * number (99.9 % of 1,000) belongs to that number. */
    double exact = percent / 100 * (double)hist->count;
    uint64_t rank = (uint64_t)exact;
    if (exact - (double)rank > 1e-9 * exact || rank == 0)
        rank++;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < YK_HIST_BUCKETS; i++) {
        seen += hist->buckets[i];
        if (seen >= rank)
            return clamp_to_range(hist, yk_hist_bucket_middle(i));
    }
    return hist->max_ns;
}

void yk_hist_cumulate(const struct yk_hist *hist, const uint64_t *bounds_ns, uint32_t n,
                      uint64_t *ret_counts) {
    uint64_t count = 0;
    uint32_t bucket = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (; bucket < YK_HIST_BUCKETS && yk_hist_bucket_middle(bucket) <= bounds_ns[i]; bucket++)
            count += hist->buckets[bucket];
        ret_counts[i] = count;
    }
}
