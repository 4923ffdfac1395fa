/* SPDX-License-Identifier: Apache-2.0
 *
 * Do blocks come as often as was predicted? By rate: what was looked at in the last hours, uses that were expected of it,
 * and uses that were seen.
 *
 * An example is judged when it has waited for HORIZON_S of lessons.c, or its place is needed: by then the model that made
 * the prediction had not learned from it. Expected is the rate times the wait, seen is one use or none, which is what the
 * model is fitted for, so that their ratio is 1 where it is right, whatever the rates are.
 *
 * Memory: 64 classes of rates, half a power of two each. Thread: owner loop.
 */
#ifndef YK_SCHED_CALIBRATION_PRIV_H
#define YK_SCHED_CALIBRATION_PRIV_H

#include "sched/learned.h"

#include <stdint.h>

#define YK_CALIBRATION_CLASSES 64

struct yk_calibration {
    double examples, waited_s, log_seen; /* log_seen: of each use the logarithm of its rate */
    struct {
        double examples, expected, seen;
    } classes[YK_CALIBRATION_CLASSES];
};

void yk_calibration_add(struct yk_calibration *c, float rate, double waited_s, uint8_t event);
void yk_calibration_report(const struct yk_calibration *c, struct yk_learned_calibration *ret);

#endif
