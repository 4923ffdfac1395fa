/* SPDX-License-Identifier: Apache-2.0
 *
 * How quickly blocks of other nodes come, near and far: the bytes of all reads, and the time in which there was one
 * under way at least. Of reads that overlap each one's own time would count the link several times.
 *
 * Thread: the directory's loop.
 */
#include "dir/dir_priv.h"

#include "base/clock.h"

void dir_meter_begin(struct dir_meter *m) {
    if (m->under_way++ == 0)
        m->since_ns = yk_now_ns();
}

void dir_meter_end(struct dir_meter *m, uint64_t bytes) {
    m->bytes += bytes;
    if (--m->under_way == 0)
        m->busy_ns += yk_now_ns() - m->since_ns;
}

uint64_t dir_meter_busy_ns(const struct dir_meter *m) {
    return m->busy_ns + (m->under_way > 0 ? yk_now_ns() - m->since_ns : 0);
}
