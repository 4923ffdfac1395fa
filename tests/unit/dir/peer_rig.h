/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes that do nothing but talk, for the tests of the messenger: several on one loop, or one in a child that
 * can be killed and stopped; and bare sockets that say what no node would.
 *
 * UNTIL runs the loop until a condition holds; only a deadline of a minute ends it otherwise, and the test.
 */
#ifndef YK_TESTS_DIR_PEER_RIG_H
#define YK_TESTS_DIR_PEER_RIG_H

#include "dir/peer.h"
#include "dir/peer_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#define CLUSTER 0x1122334455667788ull

enum rig_op {
    OP_ECHO = 1, /* is answered with its body */
    OP_HOLD,     /* is answered by rig_release */
    OP_TELL,     /* u32, one more than that of the last one */
    OP_BAD,      /* is refused */
    OP_CLOSE,    /* the node closes itself */
    OP_SUSPECTS, /* is answered with u32: how many this node suspects */
};

struct node {
    struct yk_peers *peers;
    uint32_t id;
    unsigned frames, tells, disorder, suspects, cleared;
    uint32_t next_tell;
    struct yk_peer_who from;
    struct yk_peer_reply_to *held;
    unsigned held_count, held_cap;
    int closing, closed;
    void (*on_suspect)(struct node *n, uint32_t member, int suspect);
};

struct asked {
    unsigned calls;
    int status;
    uint32_t len, first; /* first: 4 bytes of the body */
    void (*then)(struct asked *a);
    void *arg;
};

extern uv_loop_t rig_loop;

/* Before and after each test: rig_end fails if the loop still has something. */
int rig_begin(void **state);
int rig_end(void **state);
int rig_late(void);

#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        rig_wait_begin();                                                                          \
        while (!(cond) && !rig_late())                                                             \
            uv_run(&rig_loop, UV_RUN_ONCE);                                                        \
        if (!(cond))                                                                               \
            fail_msg("not within a minute: %s", #cond);                                                \
    } while (0)
void rig_wait_begin(void);

struct yk_peers_opts rig_opts(struct node *n, uint32_t id);
void rig_open_with(struct node *n, const struct yk_peers_opts *opts);
void rig_open(struct node *n, uint32_t id); /* incarnation 1, 127.0.0.1, any port */
void rig_close(struct node *n);
/* a knows b, in incarnation 1. */
void rig_know(struct node *a, const struct node *b);
void rig_release(struct node *n, unsigned i, uint32_t value);

void rig_replied(void *asked, int status, const void *body, uint32_t len);
/* Asks with a body of len bytes that begins with value. */
int rig_ask(struct node *n, uint32_t member, unsigned op, uint32_t value, uint32_t len, uint32_t timeout_ms,
            struct asked *a);
void rig_tell(struct node *n, uint32_t member, uint32_t value);

/* A node in a child; its address. */
pid_t rig_fork(uint32_t id, char address[64]);
void rig_reap(pid_t pid); /* kills it, too */

/* Bare sockets, non-blocking. */
int raw_connect(const char *address);
void raw_send(int fd, const void *bytes, size_t len);
void raw_hello(int fd, uint32_t version_min, uint32_t version, uint64_t cluster, uint32_t id, uint64_t incarnation);
/* Runs the loop until a frame is there, or the end (op 0). */
struct raw_frame {
    struct yk_frame f;
    unsigned char body[512];
    struct yk_err err; /* of an ERROR */
};
void raw_frame(int fd, struct raw_frame *ret);
int raw_listen(char address[64]);
int raw_accept(int listener); /* runs the loop until somebody connects */

#endif
