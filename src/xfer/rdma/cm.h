/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of iWARP queue pairs, which only a connection manager (librdmacm, found at run time) can make: the
 * target awaits one at a port that it names over the lane's stream, the initiator dials it with a token from there
 * (docs/decisions/0026-iwarp.md).
 *
 *   RESOLVING --> ROUTING --> DIALLING --+
 *   LISTENING --> ACCEPTED --------------+--> UP        any --error, deadline, the peer closes--> FAILED
 *
 * Thread: the loop's, but for yk_cm_there.
 */
#ifndef YK_XFER_RDMA_CM_H
#define YK_XFER_RDMA_CM_H

#include "xfer/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_CM_TOKEN 16u

struct yk_cm;

/* From the loop; they may not end it. */
struct yk_cm_events {
    void (*up)(void *user);
    void (*failed)(void *user, int code, const char *text); /* once, after up, too: the peer has closed it */
};

struct yk_cm_opts {
    struct yk_loop *loop;
    const struct yk_cm_events *events;
    void *user;
    const char *device, *host; /* of this end: "siw0", numeric address */
    uint32_t qpn;
    uint8_t answers, asks;     /* RDMA READs at a time */
    uint8_t traffic_class;
    const uint8_t *token;      /* YK_CM_TOKEN bytes: only who has it is let in; copied */
};

/* Whether this build and this host have librdmacm. Loads it. Thread: any. */
int yk_cm_there(void);

/* Both: -YK_ENOTSUP, -YK_ENOMEM, -YK_EIO, -YK_ELIMIT (too many that are not up). */
int yk_cm_dial(const struct yk_cm_opts *opts, const char *remote, uint16_t port, struct yk_cm **ret_cm,
               struct yk_err *err);
int yk_cm_await(const struct yk_cm_opts *opts, uint16_t *ret_port, struct yk_cm **ret_cm, struct yk_err *err);

/* Takes what has come already, without waiting for the loop. */
void yk_cm_look(struct yk_cm *cm);

/* Ends and frees it, in any state. then(user): when the kernel's connection has let go of the queue pair; at once, or
 * from a thread of its own where a step is under way that cannot be taken back. */
void yk_cm_end(struct yk_cm *cm, void (*then)(void *user), void *user);

#ifdef __cplusplus
}
#endif

#endif
