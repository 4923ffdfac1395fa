/* SPDX-License-Identifier: Apache-2.0
 *
 * The event loop of a shard or of a server: descriptors (epoll), timers, a wake-up from other threads.
 *
 * It has no thread of its own: whoever may touch the shard turns it, its own thread or a caller that
 * waits (record 0009), one at a time. libuv was rejected here for that: its loop belongs to one thread.
 * A loop with nothing to do sleeps for as long as its user lets it; it makes no wake-ups of its own.
 *
 * Threads: whoever holds the owner's lock; yk_loop_wake from any.
 */
#ifndef YK_XFER_LOOP_H
#define YK_XFER_LOOP_H

#include "base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_watch;
struct yk_timer;
struct yk_loop;

typedef void (*yk_watch_fn)(struct yk_watch *w, uint32_t events);
typedef void (*yk_timer_fn)(struct yk_timer *t);

/* One descriptor. The user's storage; fn may delete any watch of the loop, its own too. */
struct yk_watch {
    int fd;
    uint32_t events; /* EPOLLIN, EPOLLOUT, ... that are asked for; level-triggered */
    yk_watch_fn fn;
    void *user;
    uint32_t slot; /* the loop's */
};

/* The user's storage, zeroed but for fn and user. */
struct yk_timer {
    uint64_t due_ns; /* monotonic; 0 = not set */
    yk_timer_fn fn;
    void *user;
    uint32_t slot; /* the loop's: place in the heap + 1 */
};

int yk_loop_new(struct yk_loop **ret_loop, struct yk_err *err);
void yk_loop_free(struct yk_loop *loop);

int yk_loop_watch(struct yk_loop *loop, struct yk_watch *w);               /* -YK_ELIMIT, -YK_EIO */
void yk_loop_rewatch(struct yk_loop *loop, struct yk_watch *w, uint32_t events);
void yk_loop_unwatch(struct yk_loop *loop, struct yk_watch *w);            /* before its fd is closed */

/* Sets or moves it; due_ns 0 takes it back. -YK_ENOMEM: it is not set. */
int yk_loop_timer(struct yk_loop *loop, struct yk_timer *t, uint64_t due_ns);

/* One round: sleeps until something is ready, the first timer, or wait_ns; then calls what is due.
 * wait_ns 0: looks only. UINT64_MAX: until something happens. Returns how many calls it made. */
int yk_loop_turn(struct yk_loop *loop, uint64_t wait_ns);

/* Ends a sleep, or the next one. Any thread. */
void yk_loop_wake(struct yk_loop *loop);

#ifdef __cplusplus
}
#endif

#endif
