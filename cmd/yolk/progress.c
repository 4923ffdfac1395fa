/* SPDX-License-Identifier: Apache-2.0
 *
 * Progress of a transfer on a terminal (progress.h).
 */
#include "progress.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <stdio.h>
#include <unistd.h>

#define FIRST_NS (500 * YK_NS_PER_MS)
#define EACH_NS  (200 * YK_NS_PER_MS)

void yolk_progress_begin(struct yolk_progress *p, const char *what, uint64_t total, bool quiet) {
    uint64_t now = yk_now_ns();
    *p = (struct yolk_progress){.what = what,
                                .total = total,
                                .started_ns = now,
                                .shown_ns = now + FIRST_NS - EACH_NS,
                                .on = !quiet && isatty(STDERR_FILENO)};
}

void yolk_progress_at(struct yolk_progress *p, uint64_t done) {
    char bytes[YK_FMT_MAX], total[YK_FMT_MAX], rate[YK_FMT_MAX];
    if (!p->on)
        return;
    uint64_t now = yk_now_ns();
    if (now < p->shown_ns + EACH_NS)
        return;
    p->shown_ns = now;
    p->shown = true;
    double seconds = (double)(now - p->started_ns) / 1e9;
    fprintf(stderr, "\r%s: %s", p->what, yk_fmt_bytes(done, bytes));
    if (p->total != 0)
        fprintf(stderr, " of %s (%u %%)", yk_fmt_bytes(p->total, total),
                (unsigned)(done * 100u / p->total));
    fprintf(stderr, ", %s/s\033[K", yk_fmt_bytes((uint64_t)((double)done / seconds), rate));
}

void yolk_progress_end(struct yolk_progress *p) {
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->on = p->shown = false;
}
