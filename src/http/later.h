/* SPDX-License-Identifier: Apache-2.0
 *
 * Work of the HTTP server that may take long, on a thread of its own: parsing a body of megabytes and asking the
 * router about it takes tens of milliseconds, for which probes of /healthz must not wait behind it. The connection is
 * suspended meanwhile.
 *
 *   server's thread: yk_later_room, suspend, yk_later_put  ->  this thread: fn(job), resumes  ->  server's: answers
 *
 * At most YK_LATER_MAX jobs wait; who comes then is told that the router is busy. Jobs run one after the other.
 *
 * Threads: new, room, put, free: the server's, or one that starts and stops it; fn on this one's.
 */
#ifndef YK_HTTP_LATER_H
#define YK_HTTP_LATER_H

#include "base/status.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_LATER_MAX 64u

struct yk_later;

/* What is embedded in a job; the caller's until it is put, and again from `fn` on. */
struct yk_later_job {
    struct yk_later_job *next;
};

/* ends: there is no more work to be done, only to be told so. Is called exactly once for each job that was put, on
 * the thread of this, or, when it has ended, on the one that put it. */
typedef void (*yk_later_fn)(void *arg, struct yk_later_job *job, bool ends);

/* -YK_ENOMEM. */
int yk_later_new(yk_later_fn fn, void *arg, struct yk_later **ret_later, struct yk_err *err);

/* May one more be put? */
bool yk_later_room(struct yk_later *later);
void yk_later_put(struct yk_later *later, struct yk_later_job *job);

/* The one that runs is ended, those that wait are told; then, and for all that are put from now on, `ends`. */
void yk_later_end(struct yk_later *later);
void yk_later_free(struct yk_later *later); /* after its end; NULL is fine */

#ifdef __cplusplus
}
#endif

#endif
