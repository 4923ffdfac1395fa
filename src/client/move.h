/* SPDX-License-Identifier: Apache-2.0
 *
 * Records whose payload the transfer engine moves: those that are ready at one time are one batch of it.
 *
 * A record that has a place to read from or to write to is marked (yk_rec.load) and made runnable. Who
 * runs it adds it to a move in place of running it; the move is begun when it is full, or nothing else
 * is ready. From then on until the move has ended the engine uses the caller's memory: the records are
 * MOVING, their `io` is set, and one that is cancelled or late ends after that. A move has its end
 *   of yk_run      in yk_move_wait, by the thread that waits: it turns the engine itself
 *   of yk_submit   in a callback of the engine, which makes the records runnable for yk_poll
 * Either way a record goes on as runnable: to be compared, committed, or done through the socket.
 *
 * A cancel ends all of a move. Its other records are moved again, or go through the socket when the
 * engine is not UP any more.
 *
 * Threads: under the lock of the handle.
 */
#ifndef YK_CLIENT_MOVE_H
#define YK_CLIENT_MOVE_H

#include "client/far.h"
#include "client/list.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_rec;
struct yk_batch;

struct yk_move {
    struct yk_link link; /* batch->moves, or far->spare; in none: of yk_submit */
    struct yk_link all;  /* far->moves */
    struct yk_link recs; /* by link, in the order of their requests */
    yk_client *client;
    struct yk_batch *owner; /* NULL: of yk_submit */
    yk_xfer_batch batch;
    yk_xfer_request *reqs;
    uint32_t n, cap;
    uint32_t conn;       /* number of the connection whose node's segment it is for */
    uint32_t timeout_ms; /* that it was given */
    uint64_t bytes;
};

/* Adds a record that was taken off its runnable list with `load` set. *at: the move that is being filled,
 * NULL at first. One that cannot be moved now goes through the socket. */
void yk_move_add(yk_client *c, struct yk_move **at, struct yk_batch *owner, struct yk_rec *rec);
/* Begins what is in *at, if there is something. last: nothing else is ready. */
void yk_move_begin(yk_client *c, struct yk_move **at, int last);
/* Of a record that is MOVING: asks its move to end. */
void yk_move_cancel(yk_client *c, struct yk_rec *rec);
/* Leaves the lock meanwhile. Waits until the oldest move of a batch has ended, and ends its records' part
 * in it, or until the time has come. */
void yk_move_wait(yk_client *c, struct yk_batch *owner, uint64_t until_ns);
/* Frees those that are spare: none is under way. */
void yk_moves_free(struct yk_far *far);

#ifdef __cplusplus
}
#endif

#endif
