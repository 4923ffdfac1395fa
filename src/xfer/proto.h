/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages between two transfer engines, over a TCP or a unix stream.
 *
 * One side dials and asks (the initiator), the other answers (the target); each connection is a lane.
 * All integers are little-endian. Answers come in the order of the requests.
 *
 *   request  u16 mark | u8 op | u8 flags (YK_XREQ_...) | u32 seq | u64 region | u64 offset | u64 len |
 *            u64 remote | u64 key (LEND, PULL; else 0)                                   48 bytes
 *            with YK_XREQ_GUARD (READ, WRITE): u64 descriptor | u64 generation | u64 epoch | u64 0
 *                                                                                  32 bytes more
 *            then `len` bytes of payload, if the op has one
 *   answer   u16 mark | u8 op | u8 0 | u32 seq | i32 status | u32 len                    16 bytes
 *
 * seq counts the requests of a lane from 0, the hello, and comes back with the answer: both sides
 * notice at once when they do not mean the same request.
 *
 *   op      payload of the request  of the answer
 *   HELLO   hello, below            welcome, behind the answer; the first request, and only that
 *   LOOKUP  name, 1..127 bytes      found, behind the answer
 *   READ    none                    len bytes IN FRONT of the answer, as many as were asked for
 *   WRITE   len bytes               none
 *   NOTE    0..4096 bytes           none; offset is its number, or 0: one that came already (it was
 *           repeated because a lane broke) is answered and dropped. -YK_EAGAIN: there is no room for it
 *           now, it is sent again later; what is behind it on the lane goes on
 *   FENCE   none; offset is the id of another lane of this initiator: answered when it is closed and
 *           nothing that came over it is written any more. One that is unknown is closed
 *   PING    none                    none
 *
 * For transports whose devices move payload themselves (0019-rdma.md); a target without one, or where it
 * cannot be done, says -YK_ENOTSUP:
 *
 *   OFFER     YK_OFFER_BYTES        none; what the target needs to make its queue pair
 *   TAKE      none                  YK_OFFER_BYTES in front of the answer; the same of the target's
 *   LEND      none; region, offset, YK_KEY_BYTES in front of the answer: what it takes to read that range
 *             len, guard as a READ's. With a guard the pin is held until the lane is closed, or
 *   GIVEBACK  none; remote is that of the LEND, a number of the initiator's choice
 *   PULL      none; as a WRITE, but the target reads len bytes at `remote` of the initiator's memory, with
 *             `key`; answered when they are there
 *
 * With a guard a READ or WRITE that the target does not hold to be valid is answered by YK_MISS; by
 * -YK_EAGAIN when it cannot say now, and is sent again later. Payload of such a WRITE goes nowhere.
 *
 * The answer of a READ stands behind its bytes: what went wrong while they were sent (their memory was
 * unregistered) fails that request, not the lane. A failed one brings zeros. So the initiator always
 * knows what comes next, and takes many answers with one system call, each payload into its place.
 *
 * YK_XREQ_MORE: the payload of this request comes behind the next request's header, so that a run of
 * headers, at most YK_GROUP_MAX, is followed by all their payloads in order: the target can take
 * those with one system call, too. The last of a run does not have the flag.
 *
 *   hello    u32 magic, u32 version, u64 lane, u64 incarnation (initiator's), u64 wanted (target's
 *            incarnation, 0 = any), u32 flags (YK_XHELLO_...)
 *   welcome  u32 version, text (why not; "" with status 0), u64 incarnation, str8 boot_id, u32 pid,
 *            u64 memory_token, u32 share, str8 unix path, u32 credit_requests, u64 credit_bytes, u8 n,
 *            n x { str8 host, u16 port, u32 mbit, u8 rdma (enum yk_rdma_kind; others: none) }
 *            status: 0, -YK_EVERSION, -YK_EGONE (another incarnation), -YK_ELIMIT, -YK_ECONFLICT
 *            (lane id is taken)
 *   found    status 0: u64 region, u64 offset, u64 len, u32 access, u32 guarded; else text
 *
 * text is u16 length and bytes. Credit is what may be outstanding on the lane.
 *
 * A target closes a lane whose bytes break this, without an answer: behind a broken header nothing
 * has a meaning. Threads: the caller's; no state.
 */
#ifndef YK_XFER_PROTO_H
#define YK_XFER_PROTO_H

#include "base/status.h"
#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_PROTO_MAGIC     0x666b6c59u /* "Ylkf" */
#define YK_PROTO_VERSION   3u
#define YK_PROTO_MARK      0x7859u     /* "Yx" */
#define YK_XREQ_BYTES       48u
#define YK_XREQ_GUARD_BYTES 32u
#define YK_XREQ_BYTES_MAX   (YK_XREQ_BYTES + YK_XREQ_GUARD_BYTES)
#define YK_XANS_BYTES       16u
#define YK_HELLO_BYTES     36u
#define YK_WELCOME_MAX     4096u
#define YK_FOUND_MAX       512u
#define YK_PROTO_LEN_MAX   (1u << 30)  /* of one READ or WRITE: slices are far smaller */
#define YK_OFFER_BYTES     40u
#define YK_KEY_BYTES       32u
#define YK_GROUP_MAX       64u         /* headers in front of their payloads */

enum yk_proto_op {
    YK_PROTO_HELLO = 1,
    YK_PROTO_LOOKUP,
    YK_PROTO_READ,
    YK_PROTO_WRITE,
    YK_PROTO_NOTE,
    YK_PROTO_FENCE,
    YK_PROTO_PING,
    YK_PROTO_OFFER,
    YK_PROTO_TAKE,
    YK_PROTO_LEND,
    YK_PROTO_GIVEBACK,
    YK_PROTO_PULL,
    YK_PROTO_END
};

enum yk_xreq_flags { YK_XREQ_GUARD = 1, YK_XREQ_MORE = 2 };

enum yk_xhello_flags { YK_XHELLO_URGENT = 1 };

struct yk_xreq {
    uint8_t op;    /* enum yk_proto_op */
    uint8_t flags; /* enum yk_xreq_flags */
    uint32_t seq;
    uint64_t region, offset, len;
    uint64_t remote, key; /* LEND, GIVEBACK, PULL */
    uint64_t descriptor, generation, epoch; /* with YK_XREQ_GUARD */
};

struct yk_xans {
    uint8_t op;
    uint32_t seq;
    int32_t status;
    uint32_t len;
};

struct yk_hello {
    uint32_t version;
    uint32_t flags; /* enum yk_xhello_flags */
    uint64_t lane, incarnation, wanted;
};

struct yk_welcome {
    uint32_t version;
    char text[YK_ERR_TEXT_MAX];
    struct yk_peer_info peer;
    uint32_t credit_requests;
    uint64_t credit_bytes;
};

struct yk_found {
    uint64_t region, offset, len;
    uint32_t access, guarded;
    char text[YK_ERR_TEXT_MAX]; /* when it was not */
};

/* Name of an op, never NULL. */
const char *yk_proto_op_name(unsigned op);

/* Header of a request, YK_XREQ_BYTES or with a guard YK_XREQ_BYTES_MAX; how many bytes. */
uint32_t yk_xreq_encode(void *bytes, const struct yk_xreq *req);
/* Bytes of the header that begins with these YK_XREQ_BYTES; -YK_EPROTO (text) when it is none. */
int yk_xreq_size(const void *bytes, struct yk_err *err);
/* All of it. -YK_EPROTO: reserved bits, an unknown op, a length that its op cannot have. */
int yk_xreq_decode(const void *bytes, uint32_t size, struct yk_xreq *ret_req, struct yk_err *err);
/* Whether payload follows a request of this op. */
static inline int yk_xreq_has_payload(uint8_t op) {
    return op == YK_PROTO_HELLO || op == YK_PROTO_LOOKUP || op == YK_PROTO_WRITE || op == YK_PROTO_NOTE ||
           op == YK_PROTO_OFFER;
}
/* Bytes in front of the answer to a request of this op and length. */
static inline uint64_t yk_xreq_returns(uint8_t op, uint64_t len) {
    return op == YK_PROTO_READ   ? len
           : op == YK_PROTO_TAKE ? YK_OFFER_BYTES
           : op == YK_PROTO_LEND ? YK_KEY_BYTES
                                 : 0;
}
/* Whether it may have a guard, and region and offset say what it is about. */
static inline int yk_xreq_is_access(uint8_t op) {
    return op == YK_PROTO_READ || op == YK_PROTO_WRITE || op == YK_PROTO_LEND || op == YK_PROTO_PULL;
}

void yk_xans_encode(void *bytes16, const struct yk_xans *ans);
int yk_xans_decode(const void *bytes16, struct yk_xans *ret_ans, struct yk_err *err);

/* Bodies. encode: bytes written, cap of YK_HELLO_BYTES, YK_WELCOME_MAX, YK_FOUND_MAX is enough. */
uint32_t yk_hello_encode(void *bytes, const struct yk_hello *hello);
int yk_hello_decode(const void *bytes, uint32_t size, struct yk_hello *ret_hello, struct yk_err *err);
uint32_t yk_welcome_encode(void *bytes, const struct yk_welcome *welcome);
/* Of another version only version and text are taken, for it refuses. */
int yk_welcome_decode(const void *bytes, uint32_t size, struct yk_welcome *ret_welcome,
                      struct yk_err *err);
uint32_t yk_found_encode(void *bytes, int status, const struct yk_found *found);
int yk_found_decode(const void *bytes, uint32_t size, int status, struct yk_found *ret_found,
                    struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
