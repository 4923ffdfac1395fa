/* SPDX-License-Identifier: Apache-2.0
 *
 * Pins of the transfer engine on descriptors (docs/decisions/0011): what keeps a block, or a place that a
 * peer writes, where it is while bytes of it are on their way.
 *
 * A pin is a hazard (docs/rules.md, R2) in this process's own memory: it ends with the process that
 * receives or sends, and there may be thousands. The owner's scans see it like a client's (shm/owner.h).
 *
 * Threads: pin, unpin and counts from any; the rest as it says.
 */
#ifndef YK_NODE_GUARD_H
#define YK_NODE_GUARD_H

#include "shm/owner.h"
#include "shm/view.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_PINS_MAX 4096u /* at a time */

struct yk_pins;

/* Of the requests that asked for a pin; a transfer asks once for each of its slices. */
struct yk_pins_counts {
    uint64_t reads, read_bytes, writes, write_bytes; /* that had one */
    uint64_t missed;                                 /* it was not so (any more) */
    uint64_t full;                                   /* all pins were taken */
};

/* An empty table over the segment that view shows, which outlives it. -YK_ENOMEM. */
int yk_pins_new(const struct yk_view *view, struct yk_pins **ret_pins);
void yk_pins_free(struct yk_pins *pins); /* nobody pins any more; NULL is fine */

/* Makes the owner's scans look at the pins. The owner's thread. */
void yk_pins_bind(const struct yk_pins *pins, struct yk_owner *owner);

/* As yk_xfer_guard_ops (yolk/transfer.h), with the table as user. A read: a COMMITTED block of this
 * generation and epoch, which its namespace still has, that has not expired; offset and length are
 * within its payload, from the begin of the data file. A write: a place that is reserved for peers, with
 * this generation, and not closed; the epoch is not looked at. A SUSPECT or MOVING block is YK_MISS: the
 * node settles it when it is asked. */
int yk_pins_pin(void *pins, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch,
                uint64_t offset, uint64_t length, uint64_t *ret_pin);
void yk_pins_unpin(void *pins, uint64_t pin);

void yk_pins_counts(const struct yk_pins *pins, struct yk_pins_counts *ret_counts);

#ifdef __cplusplus
}
#endif

#endif
