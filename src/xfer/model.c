/* SPDX-License-Identifier: Apache-2.0
 *
 * See model.h.
 */
#include "xfer/model.h"

#define SAMPLE_NS    1000000.0 /* a sample is closed when it covers so much busy time */
#define BUNCH_NS     2000.0    /* a slice that took less for itself came in a bunch with the one before */
#define WEIGHT       0.3       /* of a new sample: what is older than 10 of them weighs 3 % */
#define FIXED_WEIGHT 0.02 /* of one that is higher: a busy machine's delays are not the rail's */
#define FIXED_DOWN   0.5
#define FIXED_FIRST  16   /* samples that make up for a guess */
#define SLICE_NS      1000000.0
#define STEP          65536u
#define DISTANCE_MAX  4u
#define DISTANCE_PART (1.0 / 16)

static const uint64_t band_ends[YK_MODEL_BANDS - 1] = {16u << 10, 128u << 10, 1u << 20};

uint32_t yk_model_band_of(uint64_t len) {
    uint32_t b = 0;
    while (b < YK_MODEL_BANDS - 1 && len > band_ends[b])
        b++;
    return b;
}

void yk_model_init(struct yk_model *m, double bytes_per_s, double fixed_ns) {
    *m = (struct yk_model){.last_done_ns = 0};
    for (uint32_t b = 0; b < YK_MODEL_BANDS; b++) {
        m->band[b].bytes_per_s = bytes_per_s > 1 ? bytes_per_s : 1e9;
        m->band[b].fixed_ns = fixed_ns > 0 ? fixed_ns : 1000;
    }
}

/* The nearest band that has samples, the larger one of two; the band itself when none has. */
static const struct yk_model_band *nearest(const struct yk_model *m, uint32_t b, int fixed) {
    for (uint32_t d = 0; d < YK_MODEL_BANDS; d++) {
        for (int up = 1; up >= 0; up--) {
            uint32_t at = up ? b + d : b - d;
            if (at < YK_MODEL_BANDS &&
                (fixed ? m->band[at].fixed_samples : m->band[at].samples) > 0)
                return &m->band[at];
        }
    }
    return &m->band[b];
}

double yk_model_bytes_per_s(const struct yk_model *m, uint64_t len) {
    return nearest(m, yk_model_band_of(len), 0)->bytes_per_s;
}

double yk_model_fixed_ns(const struct yk_model *m, uint64_t len) {
    return nearest(m, yk_model_band_of(len), 1)->fixed_ns;
}

static void blend(double *average, double sample, double weight, uint32_t *samples) {
    double w = *samples == 0 && weight < 0.5 ? 0.5 : weight; /* a guess gives way sooner */
    *average += (sample - *average) * w;
    if (*samples < UINT32_MAX)
        (*samples)++;
}

static double fixed_weight(const struct yk_model_band *b, double fixed) {
    if (fixed < b->fixed_ns)
        return FIXED_DOWN;
    return b->fixed_samples < FIXED_FIRST ? WEIGHT : FIXED_WEIGHT;
}

/* Not in the middle of a bunch: its first slice has the time of all of them. */
static void close_sample(struct yk_model_band *b, double next_ns) {
    if (b->busy_ns < SAMPLE_NS || (next_ns < BUNCH_NS && b->busy_ns < 4 * SAMPLE_NS))
        return;
    blend(&b->bytes_per_s, b->bytes / b->busy_ns * 1e9, WEIGHT, &b->samples);
    b->bytes = b->busy_ns = 0;
}

/* A slice that had the rail for itself: both parts of its cost. */
static double alone(struct yk_model *m, struct yk_model_band *b, uint32_t at, uint64_t len, double busy) {
    double fixed = busy - (double)len / yk_model_bytes_per_s(m, len) * 1e9;
    if (at <= 1) /* in longer ones it is lost in the noise of the bytes */
        blend(&b->fixed_ns, fixed > 0 ? fixed : 0, fixed_weight(b, fixed), &b->fixed_samples);
    double rest = busy - yk_model_fixed_ns(m, len);
    return rest > busy / 4 ? rest : busy / 4;
}

void yk_model_done(struct yk_model *m, uint64_t len, uint64_t post_ns, uint64_t done_ns, int last) {
    uint32_t at = yk_model_band_of(len);
    struct yk_model_band *b = &m->band[at];
    int first = post_ns >= m->last_done_ns;
    uint64_t from = first ? post_ns : m->last_done_ns;
    double busy = done_ns > from ? (double)(done_ns - from) : 0;
    if (done_ns > m->last_done_ns)
        m->last_done_ns = done_ns;
    if (first && last) {
        m->run_begins = 0;
        busy = alone(m, b, at, len, busy);
        if (at == 0)
            return; /* in these the bytes are lost in the fixed part */
    } else if (first || (m->run_begins && busy < BUNCH_NS)) {
        m->run_begins = 1; /* the way there, a window that opens: not how fast it goes on */
        return;
    }
    m->run_begins = 0;
    close_sample(b, busy);
    b->bytes += (double)len;
    b->busy_ns += busy;
}

double yk_model_predict_ns(const struct yk_model *m, uint64_t in_flight, uint64_t len, double late_ns) {
    double bytes_per_s = yk_model_bytes_per_s(m, len), fixed = yk_model_fixed_ns(m, len);
    double before = (double)in_flight / bytes_per_s * 1e9; /* meanwhile its own way is made */
    double ns = (before > fixed ? before : fixed) + (double)len / bytes_per_s * 1e9;
    return ns * (1 + DISTANCE_PART * (m->distance < DISTANCE_MAX ? m->distance : DISTANCE_MAX)) + late_ns;
}

uint64_t yk_model_slice(const struct yk_model *m, uint64_t left, uint32_t rails) {
    double bytes = yk_model_bytes_per_s(m, 1u << 20) * (SLICE_NS / 1e9);
    uint64_t size = bytes >= YK_MODEL_SLICE_MAX ? YK_MODEL_SLICE_MAX : (uint64_t)bytes / STEP * STEP;
    if (rails > 1) {
        uint64_t share = (left / (4u * (uint64_t)rails) + STEP - 1) / STEP * STEP;
        size = size < share ? size : share;
    }
    size = size < YK_MODEL_SLICE_MIN ? YK_MODEL_SLICE_MIN : size;
    return left < size + size / 4 ? left : size; /* no crumb at the end */
}
