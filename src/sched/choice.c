/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor's choice (choice_priv.h).
 */
#include "sched/choice_priv.h"

#include <math.h>

/* Hits fade by half in so many blocks: four capacities, as a cache takes one or two to show what it is worth, and what
 * is better may change. The long past is so many times as long. */
#define FADE_CAPACITIES 4
#define FADE_MIN        1024u
#define LONGER          16
/* Another is followed when it hit so much more: to change costs about a filling of the cache. Careful, when it hit so much
 * more of the long past, and twice as much for each such change of late. */
#define BETTER_BY         1.02
#define CAREFUL_BETTER_BY 0.05
/* Behind the long past. In the first fillings the model and the first change cost more than that, and a stream that has
 * only begun says little: no state is kept of those. */
#define BEHIND_EARLY   0.98
#define BEHIND         0.995
#define EARLY_FILLINGS 20
/* Fillings for which it is careful: as long as what it lost needs to fade, and longer each time, unless it was bold for as
 * long as that. */
#define PATIENCE     64
#define PATIENCE_MAX 4096

void yk_choice_see(struct yk_choice *c, const double hits[YK_CHOICES], double real_hits, uint32_t blocks) {
    for (uint32_t i = 0; i < YK_CHOICES; i++) {
        c->hits[i] += hits[i];
        c->long_hits[i] += hits[i];
    }
    c->long_real_hits += real_hits;
    c->late_blocks += blocks;
}

static uint32_t best_of(const double hits[YK_CHOICES], uint32_t follows) {
    uint32_t best = follows;
    for (uint32_t i = 0; i < YK_CHOICES; i++)
        if (hits[i] > hits[best])
            best = i;
    return best;
}

static void become(struct yk_choice *c, bool careful) {
    c->is_careful = careful;
    c->since = c->fillings;
}

static void be_careful(struct yk_choice *c) {
    bool too_soon = c->patience > 0 && c->fillings - c->since < c->patience;
    c->patience = too_soon ? fmin(c->patience * 2, PATIENCE_MAX) : PATIENCE;
    become(c, true);
}

static void look_behind(struct yk_choice *c, double best) {
    if (!c->is_careful && c->long_real_hits < BEHIND * best - 1) {
        be_careful(c);
    } else if (c->is_careful && c->fillings - c->since > c->patience) {
        become(c, false);
        c->long_real_hits = best;
    }
}

static void fade(struct yk_choice *c, uint32_t blocks, uint32_t capacity) {
    double span = (double)FADE_CAPACITIES * capacity;
    double halves = (double)blocks / (span > FADE_MIN ? span : FADE_MIN);
    double keep = exp2(-halves), keep_long = exp2(-halves / LONGER);
    for (uint32_t i = 0; i < YK_CHOICES; i++) {
        c->hits[i] *= keep;
        c->long_hits[i] *= keep_long;
    }
    c->long_real_hits *= keep_long;
    c->late_blocks *= keep;
    c->changes *= keep_long;
    double before = c->fillings;
    c->fillings += (double)blocks / capacity;
    if (before < EARLY_FILLINGS && c->fillings >= EARLY_FILLINGS)
        c->long_real_hits = c->long_hits[best_of(c->long_hits, 0)];
}

static uint32_t better(const double hits[YK_CHOICES], uint32_t follows, double by) {
    uint32_t best = best_of(hits, follows);
    return hits[best] > by * hits[follows] + 1 ? best : follows;
}

static uint32_t make_early(const struct yk_choice *c, uint32_t follows) {
    double best = c->long_hits[best_of(c->long_hits, follows)];
    return better(c->long_real_hits < BEHIND_EARLY * best ? c->long_hits : c->hits, follows, BETTER_BY);
}

static uint32_t make_later(struct yk_choice *c, uint32_t follows) {
    uint64_t was_careful = c->is_careful;
    uint32_t best = best_of(c->long_hits, follows);
    look_behind(c, c->long_hits[best]);
    if (!c->is_careful)
        return better(c->hits, follows, BETTER_BY);
    if (!was_careful)
        return best;
    best = better(c->long_hits, follows, 1 + CAREFUL_BETTER_BY * exp2(c->changes));
    c->changes += best != follows;
    return best;
}

uint32_t yk_choice_make(struct yk_choice *c, uint32_t follows, uint32_t blocks, uint32_t capacity) {
    uint32_t best = c->fillings < EARLY_FILLINGS ? make_early(c, follows) : make_later(c, follows);
    fade(c, blocks, capacity);
    return best;
}

static bool is_sane(double x) {
    return x >= 0 && x < 1e18;
}

bool yk_choice_is_sane(const struct yk_choice *c) {
    bool sane = is_sane(c->long_real_hits) && is_sane(c->late_blocks) && is_sane(c->fillings) && is_sane(c->changes) &&
                is_sane(c->since) && is_sane(c->patience) && c->is_careful <= 1;
    for (uint32_t i = 0; i < YK_CHOICES; i++)
        sane = sane && is_sane(c->hits[i]) && is_sane(c->long_hits[i]);
    return sane;
}
