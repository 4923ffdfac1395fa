/* SPDX-License-Identifier: Apache-2.0
 *
 * What the learned policy learns from: moments in the lives of blocks, and what followed.
 *
 * Of a few blocks, six of a request at most, some are looked at now, the others at an age drawn beforehand (unless they are
 * used before), from a third of a second to an hour on a scale where each doubling is as likely. What was
 * seen then waits for the next use; HORIZON_S without one is as good as never. The last YK_LESSONS examples
 * are kept, and those not yet answered count for as long as they have waited.
 *
 * When it is time to learn from them they are copied, so that another thread may.
 *
 * Thread: owner loop.
 */
#ifndef YK_SCHED_LESSONS_PRIV_H
#define YK_SCHED_LESSONS_PRIV_H

#include "sched/calibration_priv.h"
#include "sched/fit_priv.h"
#include "sched/history_priv.h"

#include <stdbool.h>

#define YK_LESSONS         24000u
#define YK_LESSONS_PLANNED 30000u

struct yk_lesson {
    uint32_t record;
    uint32_t at_ms, used_ms;
    uint32_t next; /* of the record's open ones */
    float rate;    /* that was predicted then; 0: there was no model */
    bool open, used;
};

struct yk_plan {
    uint32_t at_ms, record;
    uint64_t touched; /* the use that it follows */
};

struct yk_lessons {
    struct yk_history *history;
    struct yk_fit_example *examples;
    struct yk_lesson *lessons;
    struct yk_plan *plans; /* a heap by at_ms */
    const struct yk_trees *trees; /* that predict; may be set to others between calls. NULL: none */
    struct yk_calibration calibration;
    uint64_t looked, judged; /* examples ever; those that count in the calibration, the first of them */
    uint32_t count, next, planned;
    uint32_t requests_due;   /* before the next copy */
    uint32_t requests;       /* since the last */
    uint64_t blocks, blocks_ever, random; /* blocks since the last copy, too */
};

int yk_lessons_init(struct yk_lessons *l, struct yk_history *h, uint64_t seed);
void yk_lessons_fini(struct yk_lessons *l);

/* Looks at what was planned for moments up to now. Before a request's blocks are touched. */
void yk_lessons_look(struct yk_lessons *l);
/* The record is used, or given up (used = false). Before it is touched. */
void yk_lessons_answer(struct yk_lessons *l, uint32_t record, bool used);
/* Takes blocks from the request, which were touched. */
void yk_lessons_request(struct yk_lessons *l, const uint32_t *records, uint32_t n);

/* From what was saved: the lesson, whose record is set, waits for its next use; a moment that was planned. */
void yk_lessons_wait(struct yk_lessons *l, uint32_t lesson);
void yk_lessons_plan(struct yk_lessons *l, struct yk_plan plan);

/* Is there enough that was not learned from? */
bool yk_lessons_are_due(const struct yk_lessons *l);
/* Copies all, with what followed as far as it is known; room for YK_LESSONS. Returns how many. */
uint32_t yk_lessons_copy(struct yk_lessons *l, struct yk_fit_example *ret_examples);

#endif
