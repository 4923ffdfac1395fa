/* SPDX-License-Identifier: Apache-2.0
 *
 * The engines of this process, by incarnation: how `mem` finds the memory of a peer that is in the same
 * process, and how engines that do not listen open each other's segments ("mem:ID/NAME").
 *
 * Process-wide on purpose: two engines that know nothing of each other meet here. A peer counts as of
 * this process only when its memory token is this process's and its incarnation is in the table: a
 * forked child draws another token and begins with an empty table, so that it never takes the parent's
 * addresses for its own.
 *
 * Lifetime: an entry has its registry until the last reference is put. Closing an entry takes it out of
 * the table; its regions are then dying, and who holds a reference to one finishes its chunk.
 *
 * Threads: any; one lock (docs/locks.md).
 */
#ifndef YK_XFER_INPROC_H
#define YK_XFER_INPROC_H

#include "xfer/region.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What takes a notification: 0, or -YK_EAGAIN when the queue is full. */
typedef int (*yk_inproc_note_fn)(void *user, const char *peer, const void *data, uint32_t len);

struct yk_inproc {
    uint64_t incarnation;
    struct yk_registry *registry;
    yk_inproc_note_fn note; /* NULL once closed (under the table's lock) */
    void *user;
    uint32_t refs; /* under the table's lock */
    struct yk_inproc *next;
};

/* How often this process's line has forked: an object that was made under another count is not usable. */
uint32_t yk_inproc_forks(void);
/* Of this process: random, another in a forked child. */
uint64_t yk_inproc_token(void);

/* Puts an engine into the table. Takes registry, on success only. NULL: no memory. */
struct yk_inproc *yk_inproc_new(uint64_t incarnation, struct yk_registry *registry,
                              yk_inproc_note_fn note, void *user);
/* A reference to the engine of that incarnation, if it is in this process; else NULL. */
struct yk_inproc *yk_inproc_find(uint64_t incarnation);
/* Takes it out of the table: it is found no more, and takes no notification when this returns. */
void yk_inproc_close(struct yk_inproc *l);
void yk_inproc_put(struct yk_inproc *l); /* NULL is fine */

/* Hands over a notification. -YK_EAGAIN: its queue is full; -YK_EGONE: the engine is closed. */
int yk_inproc_note(struct yk_inproc *l, const char *peer, const void *data, uint32_t len);

#ifdef __cplusplus
}
#endif

#endif
