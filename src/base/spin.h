/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether to look again for a moment before sleeping.
 *
 * To sleep until a peer's message and to be woken by it costs both sides a system call that reaches
 * into another core, and in a virtual machine an exit: 8 to 40 us on the machines measured, more than
 * most requests take. Who expects the next message sooner looks for it again and again instead, for
 * at most YK_SPIN_NS, the upper end of that: what is lost when none comes is no more than a sleep
 * would have cost.
 *
 * Whether to expect one is learned from how the last looks ended: each in vain doubles how many waits
 * sleep at once before another look is tried, each that found something halves it. So on a busy
 * machine, with one processor, or with messages far apart, one wait in PAUSE_MAX looks in vain.
 * Rejected: an average of the gaps between messages; looking itself delays a peer that shares the
 * processor, and the average then swings between the two answers.
 *
 * Thread: one at a time.
 */
#ifndef YK_BASE_SPIN_H
#define YK_BASE_SPIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SPIN_NS        50000u
#define YK_SPIN_PAUSE_MAX 255u

/* All zero: looks at the first wait. */
struct yk_spin {
    uint32_t pause; /* waits that sleep at once after a look in vain */
    uint32_t skip;  /* how many of them are left */
};

/* At the beginning of a wait: 1 to look for a while, and then to tell how it ended. */
static inline int yk_spin_try(struct yk_spin *s) {
    if (s->skip == 0)
        return 1;
    s->skip--;
    return 0;
}

static inline void yk_spin_end(struct yk_spin *s, int found) {
    if (found)
        s->pause /= 2;
    else
        s->pause = s->pause < YK_SPIN_PAUSE_MAX ? s->pause * 2 + 1 : YK_SPIN_PAUSE_MAX;
    s->skip = found ? 0 : s->pause;
}

#ifdef __cplusplus
}
#endif

#endif
