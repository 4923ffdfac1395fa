/* SPDX-License-Identifier: Apache-2.0
 *
 * The smallest core that drives the tcp transport, and a server in the same process to drive it against:
 * posts slices, turns the loop, checks that each ends exactly once.
 *
 * Thread: the test's; the server has its own. rig_sync() comes between what that one did to the
 * target's memory and a look at it.
 */
#ifndef YK_TEST_TCP_RIG_H
#define YK_TEST_TCP_RIG_H

#include "base/clock.h"
#include "xfer/proto.h"
#include "xfer/server.h"
#include "xfer/tcp/tcp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RIG_BYTES (8u << 20) /* of the target's region, and of local memory */
#define RIG_WAIT_NS (20 * YK_NS_PER_S)

enum rig_lane_state { RIG_NEW, RIG_UP, RIG_DOWN };

struct rig_lane {
    struct yk_lane *lane;
    enum rig_lane_state state;
    int code;
    enum yk_scope scope;
    char text[YK_ERR_TEXT_MAX];
};

struct rig_slice {
    struct yk_slice slice;
    int posted, ended;
};

struct rig {
    yk_xfer_opts opts;
    struct yk_registry *registry; /* the target's */
    struct yk_peer_info served;   /* what the target says of itself */
    struct yk_peer_info self;     /* a copy: who is dialled */
    struct yk_server *server;
    struct yk_server_env server_env;
    char *target, *local;         /* RIG_BYTES each */
    uint64_t region;              /* of target */

    struct yk_shard_env env;
    struct yk_loop *loop;
    struct yk_xport *xport;
    uint32_t caps; /* added to a rail's: YK_RAIL_NETWORK makes a lane as to another host */
    uint32_t out; /* slices posted and not ended */
    int (*note)(void *user, const char *peer, const void *data, uint32_t len);
};

/* Zeroed but for what opts, server_env and note shall be. */
void rig_open(struct rig *r);
void rig_close(struct rig *r);
void rig_server_start(struct rig *r); /* again, with another incarnation */
void rig_server_stop(struct rig *r);

/* Dials; up_only: waits until it is up, and fails the test when it is not. */
void rig_dial(struct rig *r, struct rig_lane *l, int bulk, uint16_t port);
void rig_connect(struct rig *r, struct rig_lane *l, int bulk);
void rig_is_up(const struct rig *r, const struct rig_lane *l); /* or the test fails, with both sides' reasons */
void rig_hang_up(struct rig_lane *l);
uint16_t rig_port(const struct rig *r);

void rig_fill(struct rig_slice *s, uint8_t op, char *local, uint64_t len, uint64_t region, uint64_t offset);
void rig_post(struct rig *r, struct rig_lane *l, struct rig_slice *s);
/* Turns the loop until nothing is out. */
void rig_finish(struct rig *r);
/* Posts, flushes, waits; its status. */
int rig_run(struct rig *r, struct rig_lane *l, uint8_t op, char *local, uint64_t len, uint64_t offset);
void rig_sync(struct rig *r);
/* Waits until the server has no lane any more: what a lane that was hung up had sent may arrive until then. */
void rig_no_lanes(struct rig *r);

/* Bytes that depend on where they stand, and their check. */
void rig_pattern(char *at, uint64_t len, uint64_t seed);
int rig_is_pattern(const char *at, uint64_t len, uint64_t seed);

/* A connection to the server that speaks no protocol; blocking, with time-outs of 10 s. */
int rig_raw(const struct rig *r);
void rig_send(int fd, const void *bytes, size_t len);
int rig_recv(int fd, void *bytes, size_t len); /* all of it: 1; closed before: 0 */
/* The same with a hello, and what it is answered. */
int rig_hello(const struct rig *r, const struct yk_hello *hello, int *ret_status, struct yk_welcome *ret_welcome);
/* Fails the test when it is refused. */
int rig_greeted(const struct rig *r, uint64_t lane, uint64_t incarnation);

/* A proxy in front of the server that passes so many bytes on and then cuts: up from the initiator, down
 * to it. Its port in ret. Ends with the first connection. */
struct rig_proxy;
struct rig_proxy *rig_proxy_new(const struct rig *r, uint64_t up, uint64_t down, uint16_t *ret_port);
/* How many bytes went each way. */
void rig_proxy_free(struct rig_proxy *p, uint64_t *ret_up, uint64_t *ret_down);

#endif
