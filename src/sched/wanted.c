/* SPDX-License-Identifier: Apache-2.0
 *
 * Ends of requests, and which of them comes up next (wanted_priv.h).
 */
#include "sched/wanted_priv.h"

#include <math.h>

#define CHANCE_MIN    0.55 /* within the near wait: what comes up is to be used more often than not */
#define MARGIN_FIRST  0.5f /* of logarithms of rates */
#define MARGIN_MIN    0.3f
#define MARGIN_OFF    1.5f
#define MARGIN_RETRY  1.0f
#define RETRY_AFTER   500u /* requests; twice as many each time */
#define TIMES_OFF_MAX 5
/* Of what came up so much is to be used: below it the window narrows, well above it widens. */
#define USED_HARDLY 0.35
#define USED_BADLY  0.50
#define USED_ENOUGH 0.60
#define USED_WELL   0.66
/* Judged is after so many capacities, older ones counting half: a chain is a tenth of a small cache and goes as a whole. */
#define JUDGED_CAPACITIES 2.0
#define JUDGED_MAX        6000.0
#define EARLY             3.0 /* a third of that is enough where next to none is used */

void yk_wanted_init(struct yk_wanted *w, struct yk_history *history, struct yk_keeper *keeper) {
    *w = (struct yk_wanted){.history = history, .keeper = keeper, .margin = MARGIN_FIRST};
}

static struct yk_record *at(const struct yk_wanted *w, uint32_t record) {
    return &w->history->records[record];
}

static bool is_kept(const struct yk_wanted *w, uint32_t record) {
    return (at(w, record)->in & w->keeper->bit) != 0;
}

/* ---- the window ---------------------------------------------------------------------------------- */

static void judge(struct yk_wanted *w) {
    double all = w->used + w->lost;
    double enough = JUDGED_CAPACITIES * w->keeper->capacity;
    enough = enough < JUDGED_MAX ? enough : JUDGED_MAX;
    if (all < enough && (all < enough / EARLY || w->used > USED_HARDLY * all))
        return;
    if (w->used < USED_ENOUGH * all)
        w->margin += w->used < USED_BADLY * all ? 0.5f : 0.1f;
    else if (w->used > USED_WELL * all && w->margin > MARGIN_MIN)
        w->margin -= 0.05f;
    w->used /= 2;
    w->lost /= 2;
    if (w->margin < MARGIN_OFF)
        return;
    w->off_until = w->requests + (RETRY_AFTER << w->times_off);
    w->times_off += w->times_off < TIMES_OFF_MAX;
    w->margin = MARGIN_RETRY;
}

static bool is_off(const struct yk_wanted *w) {
    return w->requests < w->off_until;
}

void yk_wanted_lost(struct yk_wanted *w, uint32_t record) {
    if (!at(w, record)->lifted)
        return;
    at(w, record)->lifted = 0;
    w->lost++;
    judge(w);
}

void yk_wanted_use(struct yk_wanted *w, const uint32_t *records, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct yk_record *r = at(w, records[i]);
        w->used += r->lifted;
        w->used_ever += r->lifted;
        r->lifted = 0;
    }
    w->requests++;
    judge(w);
}

/* ---- ends ---------------------------------------------------------------------------------------- */

/* The last block is often not full, and then nothing goes on from it. */
void yk_wanted_end(struct yk_wanted *w, const uint32_t *records, uint32_t n) {
    uint32_t record = records[n > 1 ? n - 2 : 0];
    w->ends[w->next] = (struct yk_wanted_end){record, at(w, record)->generation, at(w, record)->request};
    w->next = (w->next + 1) % YK_WANTED_ENDS;
}

/* Nothing has gone on from it, and it may come up. */
static bool is_open(const struct yk_wanted *w, const struct yk_wanted_end *e) {
    return e->request != 0 && at(w, e->record)->generation == e->generation &&
           at(w, e->record)->request == e->request;
}

static float rate_of(const struct yk_wanted *w, uint32_t record) {
    uint8_t x[YK_TREES_FEATURES];
    yk_history_features(w->history, record, x);
    return yk_trees_score(w->keeper->trees, x)[1] + yk_history_prior(w->history, record);
}

static struct yk_wanted_end *find_best(struct yk_wanted *w, float *ret_rate) {
    struct yk_wanted_end *best = NULL;
    for (uint32_t i = 0; i < YK_WANTED_ENDS; i++) {
        struct yk_wanted_end *e = &w->ends[i];
        if (!is_open(w, e)) {
            e->request = 0;
            continue;
        }
        if (is_kept(w, e->record))
            continue;
        float rate = rate_of(w, e->record);
        if (best == NULL || rate > *ret_rate) {
            best = e;
            *ret_rate = rate;
        }
    }
    return best;
}

static uint32_t missing(const struct yk_wanted *w, uint32_t record, uint32_t most, uint32_t *ret_records) {
    uint32_t n = 0;
    while (record != YK_RECORD_NONE && !is_kept(w, record) && n < most) {
        ret_records[n++] = record;
        record = yk_history_parent(w->history, at(w, record));
    }
    return record == YK_RECORD_NONE || is_kept(w, record) ? n : 0; /* all of it, or none */
}

uint32_t yk_wanted_next(struct yk_wanted *w, float near_s, uint32_t most, uint32_t *ret_records) {
    const struct yk_keeper *k = w->keeper;
    float rate, next_to_go;
    bool knows = k->trees->waits > 1 && near_s > 0;
    if (!knows || is_off(w) || !yk_history_is_full(k->count, k->capacity, k->bytes, k->capacity_bytes))
        return 0;
    struct yk_wanted_end *e = find_best(w, &rate);
    if (e == NULL || 1 - exp(-exp((double)rate) * near_s) < CHANCE_MIN)
        return 0;
    w->history->request++; /* what was predicted at the last one is old */
    float worth = rate + yk_keeper_worth(k, at(w, e->record));
    if (!yk_keeper_peek(w->keeper, &next_to_go) || worth < next_to_go + w->margin)
        return 0;
    e->request = 0; /* once */
    return missing(w, e->record, most, ret_records);
}

void yk_wanted_lift(struct yk_wanted *w, const uint32_t *records, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        at(w, records[i])->lifted = 1;
        yk_keeper_use(w->keeper, records[i]);
    }
    w->moved_ever += n;
}
