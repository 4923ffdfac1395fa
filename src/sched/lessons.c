/* SPDX-License-Identifier: Apache-2.0
 *
 * Examples from the stream, and when to train (lessons_priv.h).
 */
#include "sched/lessons_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HORIZON_S     300.0 /* 300 to 900 did equally well at all capacities */
#define WAIT_MIN_S    0.25  /* so that what is used at once has a rate */
#define AGE_MIN_S     0.3f
#define AGE_DOUBLINGS 13.29f /* to 3,000 s */
#define ONE_OF         2 /* blocks is looked at */
#define A_REQUEST      6 /* of one request at most */
#define A_REQUEST_FULL 2 /* the same, when there is no place left for their examples but that of older ones */

/* Between two trainings there are so many requests, half as many more each time, and two blocks for each example,
 * as one costs 0.2 us, or a third as many as before. */
#define DUE_FIRST         100
#define DUE_MAX           500
#define BLOCKS_AN_EXAMPLE 2

int yk_lessons_init(struct yk_lessons *l, struct yk_history *h, uint64_t seed) {
    *l = (struct yk_lessons){.history = h, .requests_due = DUE_FIRST, .random = seed * 2 + 1};
    l->examples = malloc(YK_LESSONS * sizeof(*l->examples));
    l->lessons = malloc(YK_LESSONS * sizeof(*l->lessons));
    l->plans = malloc((YK_LESSONS_PLANNED + 1) * sizeof(*l->plans));
    return l->examples != NULL && l->lessons != NULL && l->plans != NULL ? 0 : -YK_ENOMEM;
}

void yk_lessons_fini(struct yk_lessons *l) {
    free(l->examples);
    free(l->lessons);
    free(l->plans);
}

/* 0 to 1, splitmix64. */
static double draw(struct yk_lessons *l) {
    uint64_t z = l->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

static void unlink_open(struct yk_lessons *l, uint32_t lesson) {
    const struct yk_lesson *s = &l->lessons[lesson];
    uint32_t *at = &l->history->records[s->record].lessons;
    if (!s->open)
        return;
    while (*at != lesson)
        at = &l->lessons[*at].next;
    *at = s->next;
}

/* Its wait is over, or its place is needed. */
static void judge(struct yk_lessons *l, uint32_t lesson) {
    const struct yk_lesson *s = &l->lessons[lesson];
    double waited_s = ((s->open ? l->history->now_ms : s->used_ms) - s->at_ms) / 1e3;
    bool came = !s->open && s->used && waited_s <= HORIZON_S;
    yk_calibration_add(&l->calibration, s->rate, (waited_s < HORIZON_S ? waited_s : HORIZON_S) + WAIT_MIN_S, came);
    l->judged++;
}

static void judge_due(struct yk_lessons *l) {
    while (l->judged < l->looked &&
           l->history->now_ms - l->lessons[l->judged % YK_LESSONS].at_ms >= (uint32_t)(HORIZON_S * 1000))
        judge(l, (uint32_t)(l->judged % YK_LESSONS));
}

static float predict(const struct yk_lessons *l, const struct yk_fit_example *e) {
    return l->trees != NULL && l->trees->count > 0 ? expf(yk_trees_score(l->trees, e->x)[0] + e->prior) : 0;
}

static void look_at(struct yk_lessons *l, uint32_t record) {
    struct yk_record *r = &l->history->records[record];
    uint32_t lesson = l->next;
    l->next = (l->next + 1) % YK_LESSONS;
    if (l->looked++ >= l->judged + YK_LESSONS)
        judge(l, lesson);
    if (l->count == YK_LESSONS)
        unlink_open(l, lesson);
    else
        l->count++;
    yk_history_features(l->history, record, l->examples[lesson].x);
    l->examples[lesson].prior = yk_history_prior(l->history, record);
    l->examples[lesson].event = 0; /* until it has ended: it is saved before that, too */
    l->examples[lesson].waited_s = 0;
    l->lessons[lesson] = (struct yk_lesson){
        .record = record, .at_ms = l->history->now_ms, .next = r->lessons,
        .rate = predict(l, &l->examples[lesson]), .open = true};
    r->lessons = lesson;
}

void yk_lessons_answer(struct yk_lessons *l, uint32_t record, bool used) {
    struct yk_record *r = &l->history->records[record];
    for (uint32_t i = r->lessons; i != YK_RECORD_NONE; i = l->lessons[i].next) {
        l->lessons[i].open = false;
        l->lessons[i].used = used;
        l->lessons[i].used_ms = l->history->now_ms;
    }
    r->lessons = YK_RECORD_NONE;
}

static bool sooner(uint32_t a_ms, uint32_t b_ms) {
    return (int32_t)(a_ms - b_ms) < 0;
}

void yk_lessons_wait(struct yk_lessons *l, uint32_t lesson) {
    struct yk_record *r = &l->history->records[l->lessons[lesson].record];
    l->lessons[lesson].next = r->lessons;
    r->lessons = lesson;
}

void yk_lessons_plan(struct yk_lessons *l, struct yk_plan p) {
    if (l->planned == YK_LESSONS_PLANNED)
        return;
    uint32_t i = l->planned++;
    for (; i > 0 && sooner(p.at_ms, l->plans[(i - 1) / 2].at_ms); i = (i - 1) / 2)
        l->plans[i] = l->plans[(i - 1) / 2];
    l->plans[i] = p;
}

static void plan(struct yk_lessons *l, uint32_t record) {
    float age_s = AGE_MIN_S * exp2f(AGE_DOUBLINGS * (float)draw(l));
    const struct yk_record *r = &l->history->records[record];
    struct yk_plan p = {l->history->now_ms + (uint32_t)(age_s * 1000) + 1, record, r->touched};
    yk_lessons_plan(l, p);
}

static struct yk_plan next_plan(struct yk_lessons *l) {
    struct yk_plan first = l->plans[0], last = l->plans[--l->planned];
    uint32_t i = 0, child;
    while ((child = 2 * i + 1) < l->planned) {
        if (child + 1 < l->planned && sooner(l->plans[child + 1].at_ms, l->plans[child].at_ms))
            child++;
        if (!sooner(l->plans[child].at_ms, last.at_ms))
            break;
        l->plans[i] = l->plans[child];
        i = child;
    }
    l->plans[i] = last;
    return first;
}

void yk_lessons_look(struct yk_lessons *l) {
    uint32_t now_ms = l->history->now_ms;
    judge_due(l);
    while (l->planned > 0 && !sooner(now_ms, l->plans[0].at_ms)) {
        struct yk_plan p = next_plan(l);
        l->history->now_ms = p.at_ms; /* as it was at that moment */
        if (l->history->records[p.record].touched == p.touched)
            look_at(l, p.record);
    }
    l->history->now_ms = now_ms;
}

/* Drawn, not carried over: every fourth request may be of one kind. */
static uint32_t how_many(struct yk_lessons *l, uint32_t n) {
    uint32_t most = l->count < YK_LESSONS ? A_REQUEST : A_REQUEST_FULL;
    double wanted = (double)n / ONE_OF + draw(l);
    return wanted < most ? (uint32_t)wanted : most;
}

void yk_lessons_request(struct yk_lessons *l, const uint32_t *records, uint32_t n) {
    for (uint32_t k = 0, wanted = how_many(l, n); k < wanted; k++) {
        /* Half of them anywhere, half towards the tail, where lives end. */
        float u = (float)draw(l);
        uint32_t back = (k & 1) || n < 4 ? (uint32_t)(u * n) : (uint32_t)(exp2f(u * log2f(n)) - 0.999f);
        uint32_t record = records[n - 1 - (back < n ? back : n - 1)];
        if (draw(l) < 0.25)
            look_at(l, record);
        else
            plan(l, record);
    }
    l->requests++;
    l->blocks += n;
    l->blocks_ever += n;
}

bool yk_lessons_are_due(const struct yk_lessons *l) {
    uint64_t enough = (uint64_t)BLOCKS_AN_EXAMPLE * l->count, part = l->blocks_ever / 4;
    return l->requests >= l->requests_due && l->blocks >= (enough < part ? enough : part);
}

uint32_t yk_lessons_copy(struct yk_lessons *l, struct yk_fit_example *e) {
    for (uint32_t i = 0; i < l->count; i++) {
        const struct yk_lesson *s = &l->lessons[i];
        uint32_t until_ms = s->open ? l->history->now_ms : s->used_ms;
        double waited_s = (until_ms - s->at_ms) / 1e3;
        e[i] = l->examples[i];
        e[i].event = !s->open && s->used && waited_s <= HORIZON_S;
        e[i].waited_s = (float)((waited_s < HORIZON_S ? waited_s : HORIZON_S) + WAIT_MIN_S);
    }
    l->requests_due = l->requests_due * 3 / 2 < DUE_MAX ? l->requests_due * 3 / 2 : DUE_MAX;
    l->requests = 0;
    l->blocks = 0;
    return l->count;
}
