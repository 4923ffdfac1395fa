/* SPDX-License-Identifier: Apache-2.0
 *
 * One line on a terminal that says how far a long transfer is. Nothing for the first half second,
 * nothing where standard error is no terminal, and gone when it ends.
 *
 * Thread: one.
 */
#ifndef YOLK_PROGRESS_H
#define YOLK_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct yolk_progress {
    const char *what; /* "put"; borrowed */
    uint64_t total;   /* 0: not known */
    uint64_t started_ns, shown_ns;
    bool on, shown;
};

void yolk_progress_begin(struct yolk_progress *p, const char *what, uint64_t total, bool quiet);
void yolk_progress_at(struct yolk_progress *p, uint64_t done);
void yolk_progress_end(struct yolk_progress *p);

#endif
