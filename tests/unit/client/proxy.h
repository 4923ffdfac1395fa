/* SPDX-License-Identifier: Apache-2.0
 *
 * A relay between a handle and its node, so that tests can do something at the one moment between an
 * answer of the node and the handle's hearing of it.
 *
 * It listens on a TCP port of loopback, passes bytes to the node as they come, and back by whole frames,
 * each of which the test may look at and change first. Threads: one of its own, on which the hook is
 * called; the rest is the test's.
 */
#ifndef YK_TEST_CLIENT_PROXY_H
#define YK_TEST_CLIENT_PROXY_H

#include "base/parse.h"

#include <pthread.h>
#include <stddef.h>

#define PROXY_CONNS 16

struct proxy_conn {
    int client, node;   /* -1: free */
    unsigned char *buf; /* from the node, not whole yet */
    size_t len, cap;
};

struct proxy {
    struct yk_addr node;
    char url[64]; /* of the proxy */
    int listener, stop[2];
    pthread_t thread;
    struct proxy_conn conns[PROXY_CONNS];
    /* A frame of the node: op as in wire/msg.h, header and body. NULL: none. */
    void (*hook)(void *arg, unsigned op, unsigned char *frame, size_t len);
    void *arg;
};

/* node_url: "unix:..." or "tcp:...". hook: set before the first connection. */
void proxy_start(struct proxy *p, const char *node_url);
void proxy_stop(struct proxy *p);

/* A free port of loopback, which something else may take before it is used. */
unsigned proxy_free_port(void);

#endif
