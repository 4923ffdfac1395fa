/* SPDX-License-Identifier: Apache-2.0
 *
 * Predicted against seen (calibration_priv.h).
 */
#include "sched/calibration_priv.h"

#include <math.h>
#include <string.h>

#define LOWEST       (-20) /* log2 of uses a second: 12 days */
#define HALVED_AFTER 40000 /* examples: so the last of them count */

static uint32_t class_of(float rate) {
    float at = 2 * (log2f(rate) - LOWEST);
    return at < 0 ? 0 : at < YK_CALIBRATION_CLASSES - 1 ? (uint32_t)at : YK_CALIBRATION_CLASSES - 1;
}

static void halve(struct yk_calibration *c) {
    c->examples /= 2;
    c->waited_s /= 2;
    c->log_seen /= 2;
    for (uint32_t i = 0; i < YK_CALIBRATION_CLASSES; i++) {
        c->classes[i].examples /= 2;
        c->classes[i].expected /= 2;
        c->classes[i].seen /= 2;
    }
}

void yk_calibration_add(struct yk_calibration *c, float rate, double waited_s, uint8_t event) {
    if (!(rate > 0 && rate < 1e6f))
        return;
    uint32_t i = class_of(rate);
    if (c->examples >= HALVED_AFTER)
        halve(c);
    c->examples++;
    c->waited_s += waited_s;
    c->log_seen += event ? log(rate) : 0;
    c->classes[i].examples++;
    c->classes[i].expected += rate * waited_s;
    c->classes[i].seen += event;
}

/* How many bits a use is less surprising than to one who knows how often blocks are used, and not which. */
static double bits_of(const struct yk_calibration *c, double expected, double seen) {
    if (seen < 1 || c->waited_s <= 0)
        return 0;
    return (c->log_seen - expected - (seen * log(seen / c->waited_s) - seen)) / seen / log(2);
}

void yk_calibration_report(const struct yk_calibration *c, struct yk_learned_calibration *ret) {
    double before = 0;
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < YK_CALIBRATION_CLASSES; i++) {
        double n = c->classes[i].examples;
        uint32_t tenth = c->examples > 0 ? (uint32_t)((before + n / 2) * YK_LEARNED_TENTHS / c->examples) : 0;
        struct yk_learned_tenth *t = &ret->tenths[tenth < YK_LEARNED_TENTHS ? tenth : YK_LEARNED_TENTHS - 1];
        before += n;
        t->examples += n;
        t->expected += c->classes[i].expected;
        t->seen += c->classes[i].seen;
        ret->expected += c->classes[i].expected;
        ret->seen += c->classes[i].seen;
    }
    ret->examples = c->examples;
    ret->ratio = ret->expected > 0 ? ret->seen / ret->expected : 0;
    ret->bits_a_use = bits_of(c, ret->expected, ret->seen);
}
