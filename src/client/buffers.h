/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that a handle's caller has declared (yk_register): registered with the handle's transfer engine, once there is
 * one, where RDMA devices may move payload; else there is nothing to gain by it, and it is kept in mind.
 *
 * Threads: any; its own lock, taken without the handle's (docs/locks.md).
 */
#ifndef YK_CLIENT_BUFFERS_H
#define YK_CLIENT_BUFFERS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <yolk/transfer.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_BUFFERS_MAX 1024u /* of a handle */

struct yk_buffer {
    void *addr;
    size_t bytes;
    int registered;
};

struct yk_buffers {
    pthread_mutex_t lock;
    yk_xfer *engine; /* that they are registered with; NULL: none yet */
    struct yk_buffer *all; /* by address; YK_BUFFERS_MAX, or NULL */
    uint32_t count;
};

void yk_buffers_init(struct yk_buffers *b);
void yk_buffers_fini(struct yk_buffers *b);
/* An engine that may move payload from here on. What it does not take goes as memory does that nobody declared. */
void yk_buffers_use(struct yk_buffers *b, yk_xfer *engine);
/* It is about to be destroyed. */
void yk_buffers_leave(struct yk_buffers *b, const yk_xfer *engine);

#ifdef __cplusplus
}
#endif

#endif
