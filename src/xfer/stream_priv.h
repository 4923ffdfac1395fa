/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a stream: stream.c (life, greeting, posting, cancelling), stream_tx.c, stream_rx.c,
 * stream_zc.c (what the kernel sends without a copy).
 *
 * Indices into the ring run on; a request's seq is one more (the hello had 0). At any time
 *
 *   head <= rx <= tail         [head, rx) answered, their payload not yet released by the kernel
 *   head <= tx <= tail or      [tx, tx + g_count) the group that is being sent, [.., tail) not begun
 *   tx < head                  an answer came while later payload of its group is still to be sent
 *
 * Thread: the shard's.
 */
#ifndef YK_XFER_STREAM_PRIV_H
#define YK_XFER_STREAM_PRIV_H

#include "xfer/proto.h"
#include "xfer/stream.h"

#define YK_STREAM_RING    256u         /* requests in a stream at most; a power of two */
#define YK_STREAM_TURN    (512u << 10) /* bytes a bulk stream sends or receives before others are looked at */
#define YK_STREAM_URGENT  (4u << 20)   /* an urgent one */
#define YK_STREAM_GROUP   (1u << 20)   /* a group ends with the payload that reaches this */
#define YK_STREAM_SINK    (64u << 10)
#define YK_STREAM_ZC_MIN  (64u << 10)  /* below, pinning pages costs more than copying them */
#define YK_STREAM_ZC_OUT  64u          /* sends without a copy that are not notified */

enum yk_stream_state { YK_STREAM_CONNECTING, YK_STREAM_GREETING, YK_STREAM_UP, YK_STREAM_FAILED };

struct yk_stream_req {
    struct yk_slice *slice; /* NULL: cancelled, what comes goes into the sink */
    uint64_t len;
    uint32_t zc_until;      /* its payload is the kernel's until so many sends are notified */
    uint8_t op;             /* enum yk_proto_op */
    uint8_t zc;             /* zc_until means something */
    uint8_t fault;          /* of a WRITE: its memory cannot be read, zeros are sent in its place */
};

struct yk_stream {
    struct yk_lane *lane;
    const struct yk_shard_env *env;
    struct yk_watch watch;
    struct yk_timer timer; /* until UP: the deadline; then: a failure is to be told */
    int fd;
    uint8_t state;         /* enum yk_stream_state */
    uint8_t bulk, watched, told;
    uint8_t freed;         /* by an event of its own: goes when in_call is 0 */
    uint32_t in_call;
    struct yk_err fail;
    uint8_t fail_scope;

    uint32_t head, rx, tx, tail;
    struct yk_stream_req ring[YK_STREAM_RING];
    uint32_t credit_requests;
    uint64_t credit_bytes, bytes_out; /* of the requests in the ring */
    uint64_t sent, received;          /* bytes, ever */
    struct yk_slice *done_first, **done_last; /* ended, to be told */

    /* The group that is being sent: headers, then payloads. */
    uint32_t g_count;
    uint32_t g_header;                /* bytes */
    uint64_t g_total, g_sent;         /* bytes, headers included */
    uint64_t g_end[YK_GROUP_MAX];     /* with so many sent the target has all of this one */
    unsigned char g_headers[YK_GROUP_MAX * YK_XREQ_BYTES_MAX];

    /* What comes: of the request at rx. */
    uint64_t rx_got;                  /* bytes of payload and answer that are here */
    unsigned char part[YK_XANS_BYTES]; /* the beginning of an answer */
    char *sink;                       /* NULL: not needed yet */

    /* Sends without a copy (stream_zc.c). */
    uint8_t zc_on;
    uint32_t zc_next, zc_done;        /* sends begun; all before this one are notified */
    uint64_t zc_early;                /* bit i: zc_done + i is notified */

    /* The greeting; NULL when it is over. */
    struct yk_greeting {
        uint64_t wanted;
        uint32_t got;
        unsigned char in[YK_XANS_BYTES + YK_WELCOME_MAX];
    } *greeting;
};

static inline struct yk_stream_req *yk_stream_at(struct yk_stream *s, uint32_t i) {
    return &s->ring[i % YK_STREAM_RING];
}

static inline uint64_t yk_stream_turn(const struct yk_stream *s) {
    return s->bulk ? YK_STREAM_TURN : YK_STREAM_URGENT;
}

/* The lane is of no use any more; told by lane_down from the loop. */
void yk_stream_fail(struct yk_stream *s, int code, enum yk_scope scope, const char *text);
/* After errno of a system call on its socket. */
void yk_stream_fail_errno(struct yk_stream *s, const char *what, int e);
/* Puts a slice on the list of what is told next. */
void yk_stream_end(struct yk_stream *s, struct yk_slice *slice);
/* Requests whose answers are here and whose memory is free again leave the ring. */
void yk_stream_retire(struct yk_stream *s);

int yk_stream_tx_pending(const struct yk_stream *s);
void yk_stream_tx(struct yk_stream *s);
void yk_stream_rx(struct yk_stream *s);

void yk_stream_zc_open(struct yk_stream *s);
/* Whether the payload of requests [from, ...) of the group may go without a copy now. */
int yk_stream_zc_now(const struct yk_stream *s, uint64_t bytes);
void yk_stream_zc_sent(struct yk_stream *s, uint64_t from, uint64_t to);
void yk_stream_zc_reap(struct yk_stream *s);
/* Before close: the kernel lets go of payload that was not acknowledged. */
void yk_stream_zc_abort(struct yk_stream *s);

#endif
