/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames between the nodes of a cluster, and between nodes and whoever looks something up: one TCP
 * connection a pair and direction, opened when there is something to say. Who dialled asks and tells, who
 * was dialled answers; so each side knows of the other what it needs for its own requests.
 *
 * A frame is a header of 16 bytes as of the socket protocol (wire/msg.h) and a body that this file does not
 * look into. A connection begins with a hello (peer_wire.h) that names magic, the range of versions that the
 * side speaks, the cluster, the sender (member id, incarnation; 0: a guest, who may only ask), and is answered
 * likewise; what does not fit is refused with both values named. Requests carry an id and a deadline; each
 * ends once: with the reply, or with -YK_ETIMEDOUT, -YK_ECLOSED (the connection broke, was refused, or the
 * peer was forgotten) or -YK_EAGAIN (this process may open no more descriptors). One-way frames may be lost
 * with their connection: their senders know how to repeat them.
 *
 * Order: frames of one connection arrive in order, or not at all. A connection that broke is dialled again
 * with back-off (10 ms to 1 s) while there is something to say; what is said meanwhile waits for that dial,
 * and ends with it when it fails.
 *
 * Suspicion: a peer is suspect as soon as a connection to or from it breaks or is refused, or a request to it
 * has waited `suspect_ms` without any byte from it (pings see to bytes while something waits; a time in which
 * this process itself stood still does not count). It is told by `suspect`, and taken back with the first
 * bytes of the peer on the connection that was dialled to it: what comes from it does not show that it can be
 * reached. A suspect peer is dialled (with back-off) and pinged until it answers or is forgotten, so that
 * suspicion ends although nobody asks it. Requests to a suspect peer go out all the same; who can do without
 * skips it. After 10 x suspect_ms of silence the connection is ended.
 *
 * What is queued in one turn of the loop leaves in one send, before the loop sleeps.
 *
 * Limits: bytes queued for a peer, requests under way to it, length of a frame (less for guests), accepted
 * connections, time of a hello, time (5 s) that a frame may stand half sent or half received.
 *
 * Threads: all on the loop it was opened on. Callbacks come from the loop, never from inside a call.
 */
#ifndef YK_DIR_PEER_H
#define YK_DIR_PEER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_PEER_MAGIC       0x72694459u
#define YK_PEER_VERSION     1u /* spoken; the oldest that is still understood: */
#define YK_PEER_VERSION_MIN 1u
#define YK_PEER_BODY_MAX    (4u << 20)
#define YK_PEER_GUEST_BODY_MAX (256u << 10) /* of a guest's requests */
#define YK_PEER_OP_MAX      239u            /* ops of frames are 1 to this; those above are the messenger's */

struct yk_peers; /* all of a process */

struct yk_peer_who {
    uint32_t id; /* member; 0 = a guest */
    uint64_t incarnation;
};

/* Whom a request came from, for yk_peers_reply; may be kept; safe after the connection broke. */
struct yk_peer_reply_to {
    uint64_t conn, id;
};

struct yk_peers_ops {
    /* A frame came. reply_to->id is 0 for one-way frames. body is valid during the call. A status below 0
     * closes the connection with a text (-YK_EPROTO). */
    int (*frame)(void *user, const struct yk_peer_who *from, unsigned op, const void *body, uint32_t len,
                 const struct yk_peer_reply_to *reply_to, struct yk_err *err);
    /* A member is suspect (1), or answers again (0). NULL: nobody wants to know. */
    void (*suspect)(void *user, uint32_t member, int suspect);
    void *user;
};

struct yk_peers_opts {
    uv_loop_t *loop;
    const char *listen;    /* "HOST:PORT"; port 0: any free one; NULL: does not listen (a guest) */
    int allow_remote;      /* addresses beyond loopback: nobody is authenticated */
    uint64_t cluster;      /* 0: not known yet: guests are served, members refused until yk_peers_self */
    struct yk_peer_who self;
    uint32_t suspect_ms;   /* 0 = 200; at least 40 */
    uint32_t connect_ms;   /* of a dial with its hello, and of an accepted connection's; 0 = 1000 */
    uint32_t max_queued;   /* bytes for one peer; 0 = 16 MiB */
    uint32_t max_conns;    /* accepted; 0 = 4096; at most 1 Mi */
    uint32_t max_asks;     /* under way to one peer; 0 = 16384. To all together: 256 Ki */
    struct yk_peers_ops ops;
};

/* -YK_EINVAL, -YK_EBUSY (address in use), -YK_EPERM (beyond loopback without allow_remote), -YK_ENOMEM.
 * Strings are copied. Resolves a host's name for `listen` (blocks). */
int yk_peers_open(const struct yk_peers_opts *opts, struct yk_peers **ret_peers, struct yk_err *err);
/* Ends all requests with -YK_ECANCELED, closes all handles; `done` (may be NULL) when the loop has let go of
 * them; from then on peers is no more. A name that is being resolved may keep it waiting. NULL is fine: done
 * is called at once. */
void yk_peers_close(struct yk_peers *peers, void (*done)(void *user), void *user);

/* "host:port" it listens on; "" = it does not. */
const char *yk_peers_address(const struct yk_peers *peers);

/* A new incarnation of oneself: later hellos say so; connections of before end, requests with -YK_ECLOSED. */
void yk_peers_self(struct yk_peers *peers, uint64_t cluster, const struct yk_peer_who *self);

/* Where a member is ("host:port"); a new address or incarnation ends connections to the old one, and what
 * waits for it with -YK_ECLOSED. NULL: it is forgotten, and no longer suspect. A connection is used only if
 * this member answers in this incarnation (0: any; a guest that gives 0 takes whoever answers); hellos of
 * earlier incarnations are refused. -YK_EINVAL, -YK_ENOMEM. */
int yk_peers_set(struct yk_peers *peers, uint32_t member, uint64_t incarnation, const char *address);

/* Copies the body. 0, -YK_EINVAL (op), -YK_ENOENT (no address), -YK_EAGAIN (too much is queued), -YK_ETOOBIG,
 * -YK_ENOMEM, -YK_ECLOSED (it is being closed). */
int yk_peers_tell(struct yk_peers *peers, uint32_t member, unsigned op, const void *body, uint32_t len);

/* body is valid during the call. */
typedef void (*yk_peer_reply_fn)(void *user, int status, const void *body, uint32_t len);
/* As tell; then reply is called exactly once, never before ask has returned, at the latest 20 ms after the
 * deadline. timeout_ms is at least 1. */
int yk_peers_ask(struct yk_peers *peers, uint32_t member, unsigned op, const void *body, uint32_t len,
                 uint32_t timeout_ms, yk_peer_reply_fn reply, void *user);

/* Answers; nothing happens (0) when the connection is gone. -YK_EAGAIN: more is queued there than may be (the
 * connection is closed); -YK_EINVAL (op, or nothing was asked), -YK_ETOOBIG, -YK_ENOMEM (it is closed too). */
int yk_peers_reply(struct yk_peers *peers, const struct yk_peer_reply_to *to, unsigned op, const void *body,
                   uint32_t len);

/* A moment of this host's CLOCK_BOOTTIME as a member's will have it, or a little before: by as long as its last hello took
 * to come. So a deadline can be sent that holds however late it is read. -YK_EAGAIN: no connection to it was up yet;
 * one is being made. -YK_ENOENT (no address), -YK_ECLOSED. */
int yk_peers_their_ms(struct yk_peers *peers, uint32_t member, uint64_t boot_ms, uint64_t *ret_their_ms);

int yk_peers_suspect(const struct yk_peers *peers, uint32_t member);
/* Why the last connection to a member failed; "" = it did not. Valid until the next turn of the loop. */
const char *yk_peers_why(const struct yk_peers *peers, uint32_t member);
/* Of the last node that answered a hello; 0 = none yet, and none was given. */
uint64_t yk_peers_cluster(const struct yk_peers *peers);

struct yk_peers_counts {
    uint64_t conns;    /* now, both directions */
    uint64_t dialled;  /* attempts */
    uint64_t broken;   /* connections that ended and were not meant to */
    uint64_t refused;  /* by this side: hellos and frames that did not fit */
    uint64_t frames_in, frames_out, bytes_in, bytes_out, timeouts;
};
void yk_peers_counts(const struct yk_peers *peers, struct yk_peers_counts *ret);

#ifdef __cplusplus
}
#endif

#endif
