/* SPDX-License-Identifier: Apache-2.0
 *
 * The initiator's half of a lane over a stream socket (TCP, unix): a transport that has a connected or
 * connecting socket makes a stream of it and passes its ops on.
 *
 *   CONNECTING --> GREETING --> UP --> FAILED          (events: lane_up, lane_down; proto.h: hello)
 *        |            |          |        |
 *        +------------+----------+--------+--yk_stream_free--> gone
 *
 * Slices stand in a ring in the order of their requests, which is that of the answers. Sending takes a
 * run of them as a group: all headers, then all payloads, one sendmsg. Receiving lays out what the
 * answers of all requests that are out will be, and takes as much as there is with one recvmsg, each
 * payload into its place. The socket is never waited for; who turns the loop is told when it is ready.
 *
 * Threads: as transport.h says, all but none of it is the shard's. Events may call back into the same
 * stream, yk_stream_free too.
 */
#ifndef YK_XFER_STREAM_H
#define YK_XFER_STREAM_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_stream;

struct yk_stream_opts {
    struct yk_lane *lane; /* given to events; lane->id goes into the hello */
    const struct yk_shard_env *env;
    const struct yk_peer_info *peer; /* only until new returns; its incarnation is asked for */
    int fd;                          /* non-blocking; the stream's when new succeeds */
    int bulk;
    int zerocopy; /* 1: large payloads are sent without a copy while the kernel does so */
};

int yk_stream_new(const struct yk_stream_opts *opts, struct yk_stream **ret_stream,
                  struct yk_err *err);
/* Ends all slices with scope LANE, closes, frees. */
void yk_stream_free(struct yk_stream *s);

/* As the ops of these names. */
uint32_t yk_stream_room(const struct yk_stream *s);
void yk_stream_post(struct yk_stream *s, struct yk_slice *slice);
void yk_stream_flush(struct yk_stream *s);
void yk_stream_cancel(struct yk_stream *s, struct yk_slice *slice);
uint64_t yk_stream_moved(struct yk_stream *s);
uint64_t yk_stream_lost(struct yk_stream *s);
void yk_stream_look(struct yk_stream *s);

#ifdef __cplusplus
}
#endif

#endif
