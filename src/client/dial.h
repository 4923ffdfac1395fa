/* SPDX-License-Identifier: Apache-2.0
 *
 * From an address to a connection that has been greeted: sockets, name resolution, HELLO.
 *
 * Everything here blocks, up to a deadline, on descriptors that no other thread uses yet; what comes
 * after the HELLO is conn.c's. All sockets are non-blocking from the start and waited for with poll,
 * so that a node that is stopped costs the deadline and not more.
 *
 * Threads: any; no state.
 */
#ifndef YK_CLIENT_DIAL_H
#define YK_CLIENT_DIAL_H

#include "base/parse.h"
#include "base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Connects. -YK_EGONE nothing listens there, -YK_EAGAIN the queue of the listener is full,
 * -YK_ETIMEDOUT, -YK_EPERM, -YK_EINVAL (no such host). Resolving a name may outlast the deadline. */
int yk_dial(const struct yk_addr *addr, uint64_t deadline_ns, int *ret_fd, struct yk_err *err);

struct yk_greeting {
    const char *name_space;
    uint64_t epoch;
    uint64_t cookie;     /* 0 = first hello */
    uint64_t segment_id; /* of the last hello, 0 = first */
    uint32_t slot;
    uint32_t flags; /* YK_HELLO_* */
    uint64_t heard; /* highest generation of a place that was granted and arrived */
};

#define YK_DIAL_FDS         4u
#define YK_DIAL_ADDRESS_MAX 1024u
#define YK_DIAL_NAME_MAX    128u

struct yk_welcome {
    uint32_t flags, slot, ns, node_pid;
    uint64_t cookie, segment_id, epoch;
    uint64_t meta_bytes, data_bytes, clients_bytes;
    uint64_t max_block_bytes, page_bytes, generation_floor;
    uint64_t filter_bytes; /* of the filter, when it was granted */
    char xfer_address[YK_DIAL_ADDRESS_MAX]; /* of the transfer engine, when it was granted, */
    char xfer_name[YK_DIAL_NAME_MAX];       /* and the segment that holds payload */
    int fds[YK_DIAL_FDS];  /* meta, data, clients and filter where granted, else -1; the caller
                              closes them */
};

/* Says that a slot which was just granted, or may have been, is not taken. Does not wait. */
void yk_dial_bye(int fd);

/* Sends HELLO and reads its answer. On failure no descriptor is left open but fd itself, and the node has been told that a
 * slot which the caller does not know of yet is not taken. Statuses
 * of the node come back with its text; -YK_EPROTO when it does not speak the protocol. */
int yk_dial_hello(int fd, const struct yk_greeting *g, uint64_t deadline_ns,
                  struct yk_welcome *ret_welcome, struct yk_err *err);

/* Decodes the body of a HELLO reply (without the descriptors). 0, the node's status, or
 * -YK_EPROTO. */
int yk_dial_welcome(const void *body, uint32_t len, struct yk_welcome *ret_welcome,
                    struct yk_err *err);

/* A look at a node that never waits: begin connects (a descriptor that is writable when that is over, or a failure;
 * hosts that are names are -YK_ENOTSUP: to resolve one waits), ask sends hello (0), answered looks at what came: 1 the
 * node takes clients, or why not. */
int yk_dial_begin(const struct yk_addr *addr);
int yk_dial_ask(int fd, const struct yk_greeting *g, uint64_t now_ns);
int yk_dial_answered(int fd);

#ifdef __cplusplus
}
#endif

#endif
