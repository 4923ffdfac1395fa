/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages between a client and its node, over a unix or a TCP stream.
 *
 * A frame is a header of 16 bytes and a body; all integers little-endian. A request carries an id
 * that its reply repeats; replies may come in any order. Requests are batches: one frame, one
 * reply, a status for each item. `str8` is a length byte and that many bytes; `key` a str8 of
 * 1..255. Status fields are i32 as in yolk/status.h (0, YK_MISS or negative).
 *
 *   header   u32 body_bytes | u8 op | u8 flags | u16 reserved (0) | u64 id
 *
 * The namespace of a connection is that of its HELLO. The epoch travels with each request: the one
 * that its engine had when the request began (R9). The first frame must be a HELLO; a frame that
 * breaks the format is answered by one ERROR frame that says what was wrong, and the connection is
 * closed (its process keeps its client slot until it is dead: R3).
 *
 * Body layouts ( -> reply ):
 *
 * HELLO      u32 magic, u32 version, u32 flags(YK_HELLO_*), u32 slot, u64 cookie (both 0 on a first
 *            hello; on a reconnect those of the last reply), u64 segment_id (0 = first),
 *            u64 epoch (0 = the namespace's), str8 namespace, u64 heard (may be left out): the highest
 *            generation of a reservation that reached the client; those above were granted in
 *            replies that were lost, and are over
 *       ->   i32 status, str8-like text: u16 len + bytes; and if status is 0: u32 flags granted,
 *            u32 slot, u64 cookie, u64 segment_id, u32 ns, u64 epoch, u32 node pid, u64 meta_bytes,
 *            u64 data_bytes, u64 clients_bytes, u64 max_block_bytes, u64 page_bytes,
 *            u64 generation_floor (generations below belong to earlier incarnations).
 *            With YK_HELLO_MAP granted, three descriptors travel with the reply's first byte
 *            (SCM_RIGHTS): meta read-only, data, clients. With YK_HELLO_FILTER granted, too (the node
 *            has tiers beside DRAM, or is one of a cluster), the reply ends with u64 filter_bytes, and a fourth descriptor is
 *            the read-only filter (src/shm/filter.h): a key that DRAM has not and the filter denies is
 *            a miss; one that the filter allows may be in another tier, or on another node: ask.
 *            With YK_HELLO_XFER granted (the node has a transfer engine), at the very end: text
 *            addresses ("engine=ID,host:port,...,unix:/path", as engines publish them), text name of the
 *            segment that holds payload; in it blocks are read and places written by guarded requests
 *            (yolk/transfer.h): descriptor is the idx, generation the gen of what this protocol granted
 *            or located.
 *            With YK_HELLO_LOOK in the request a namespace that does not exist is not created: ns is
 *            YK_NO_NS then, epoch 0, and the connection finds nothing and changes nothing (-YK_ENONS).
 *            A node whose memory is lost grants no mapping.
 * BYE        empty: references and reservations are released, the slot is free -> i32 status. Who gives up on a first
 *            hello sends it behind that, since its answer may be on the way. (Not on a reconnect: the slot may be the one
 *            that it has.)
 * PING       any bytes -> the same bytes
 * RESERVE    u32 timeout_ms (0: is answered at once), u32 count (1..64), u64 len -> i32 status, u32 n, n x { u32 idx,
 *            u64 gen, u64 offset }; n < count when space is short (n >= 1 with status 0). Without
 *            YK_HELLO_MAP, but with YK_HELLO_XFER: places that are written through the engine. They end
 *            with the connection; COMMIT verifies their payload (-YK_ECORRUPT) and is -YK_EGONE for one
 *            that is over, -YK_EBUSY while a write into it is still under way: to be sent again.
 * COMMIT     u32 n, u32 refill_count, u64 refill_len, n x { u32 idx, u64 gen, u64 epoch, u64 sum,
 *            u32 len, attrs, key, str8 parent } -> u32 n, n x i32 status, u32 r, r x { as RESERVE }.
 *            -YK_ESTALE: the namespace is not at that epoch any more.
 *            A commit that is sent again after a reconnect is answered as the first would have been.
 *            On any status but -YK_EGONE and -YK_EAGAIN the reservation is over; -YK_EAGAIN: room in
 *            the quota takes more evictions than one turn may make, to be sent again.
 * ABORT      u32 n, n x { u32 idx, u64 gen } -> u32 n, n x i32
 * PUT        u32 timeout_ms, u64 len, u64 sum, u64 epoch, attrs, key, str8 parent, then len payload
 *            bytes -> i32 status. sum 0: the node computes it; else it verifies it (-YK_ECORRUPT).
 * GET        u64 epoch, u64 offset, u64 max_len, u64 inline_max, key -> i32 status; if 0: info,
 *            u32 idx, u64 place, u64 n, payload. [offset, offset + max_len) cut at the block's end are n
 *            bytes. With idx YK_GET_INLINE they follow; else (n > inline_max) none does, and they are to be
 *            read through the engine at `place` of its segment, guarded by idx, info's generation and
 *            epoch. A guard that fails: ask again, with inline_max UINT64_MAX.
 * LOOKUP     u64 epoch, u32 n, n x key -> u32 n, n x { i32 status; if 0: info }. Never extends a
 *            life. -YK_EAGAIN: in a cluster, nobody can tell. In EXISTS and MATCH such a key is not there.
 * EXISTS     u64 epoch, u32 n, n x key -> u32 n, bitmap of (n + 7) / 8 bytes, bit i = key i is
 *            present
 * MATCH      u64 epoch, u32 n, n x key -> u32 length of the leading run
 * CHANGE     u64 epoch, u32 n, n x { u8 what(enum yk_change), u64 arg, key } -> u32 n, n x i32. One that
 *            verifies goes on beside other requests; -YK_EAGAIN: too many of them do. One that removes (arg: the boot clock's ms
 *            behind which it is not begun, by a mapped client; or 0), in a cluster, removes everywhere: -YK_ETIMEDOUT: not begun, or
 *            not yet confirmed by all, it goes on; -YK_EAGAIN: too many do, nothing was removed
 * REMOVE_MANY u8 how(enum yk_remove_many), str8 pattern -> i32 status, u64 count
 * RAISE      u64 epoch, u32 timeout_ms, u8 prio (0 demand, 1 prefetch), u32 n (1..64), n x key -> u32 n, n x i32
 *            status: 0 the block is in DRAM now (or was all the time), YK_MISS it is nowhere,
 *            -YK_EAGAIN or -YK_ETIMEDOUT it could not be raised now. Answered when all have ended.
 * PREFETCH   u8 tier, u32 deadline_ms, u32 n, n x key -> i32 status, u32 count, u16 len + text
 * NS         u8 what(enum yk_ns_op), u64 arg, str8 name -> i32 status, u16 len + text
 * NS_LIST    empty, or u8 1 or 2 -> i32 status, u32 n, n x { str8 name, u64 epoch, u64 quota, u64 used,
 *            u64 blocks }; if it was asked with 1 or 2, n x u8 copies; and if with 2, n x { u32 priority, u64 guarantee,
 *            u64 guaranteed, u64 share, u64 used of it, u32 predicted hits in a million }. An older node leaves out what
 *            it does not know
 * LIST       u64 epoch, u64 cursor (0 first), u32 max, str8 prefix -> i32 status, u64 next cursor
 *            (0 = end), u32 n, n x { key, info }
 * ANNOUNCE   u64 epoch, u64 at_ms, u32 output_length, u32 stop, u32 last_eighths, u32 n, n x key -> i32 status:
 *            a request begins (yk_announce). Keys that a connection which has sent none of these, and has no mapping,
 *            matches, two or more, are announced by that; a mapped client's by its ring (src/shm/layout.h). A node grants
 *            YK_HELLO_ANNOUNCE, asked for or not, if it has a use for it.
 * STATS      empty -> i32 status, u32 len, JSON text
 * EXPLAIN    key -> i32 status, and if it is 0: u32 len, JSON text: what a policy that learns thinks of a block.
 *            -YK_ENOTSUP: it does not; YK_MISS: it does not know the block
 * ERROR      (reply only) i32 status, u16 len + text
 *
 * In a COMMIT's items and a PUT, behind the parent: if flags have YK_ATTR_PREFER, str8 name of a node.
 * With copies or a node wanted, the statuses come when the cluster has seen to them: YK_FEWER is one of them.
 *
 * attrs:  u32 flags(YK_PUT_*; the copies wanted in bits 8..11: YK_ATTR_COPIES; YK_ATTR_PREFER), u64 ttl_ms, u64 pin_ms, u64 session, u32 depth_tokens,
 *         u32 length_tokens, u32 model, u8 kind
 * info:   u64 len, u64 sum, u64 gen, u64 epoch, u64 expiry_ms, u64 session, u32 depth_tokens,
 *         u32 length_tokens, u32 model, u32 children, u8 kind, u8 pinned(0, 1 soft, 2 hard),
 *         u8 tiers, u8 has_parent
 *
 * Codec functions for what both sides share stand in msg.c; each side writes its own bodies with
 * codec.h.
 */
#ifndef YK_WIRE_MSG_H
#define YK_WIRE_MSG_H

#include "base/status.h"
#include "wire/codec.h"

#include <yolk/yolk.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_WIRE_MAGIC      0x6b6c6f59u /* "Yolk" */
#define YK_WIRE_VERSION    3u
#define YK_FRAME_HDR       16u
#define YK_FRAME_BODY_MAX  (4u << 20) /* of all frames but PUT requests and GET replies */
#define YK_RESERVE_MAX     64u
#define YK_RAISE_MAX       64u
#define YK_LIST_MAX        4096u
#define YK_GET_INLINE      0xffffffffu
#define YK_NO_NS           0xffffffffu /* of a HELLO reply: there is no such namespace */

enum yk_wire_op {
    YK_MSG_HELLO = 1,
    YK_MSG_BYE,
    YK_MSG_PING,
    YK_MSG_RESERVE,
    YK_MSG_COMMIT,
    YK_MSG_ABORT,
    YK_MSG_PUT,
    YK_MSG_GET,
    YK_MSG_LOOKUP,
    YK_MSG_EXISTS,
    YK_MSG_MATCH,
    YK_MSG_CHANGE,
    YK_MSG_REMOVE_MANY,
    YK_MSG_PREFETCH,
    YK_MSG_NS,
    YK_MSG_NS_LIST,
    YK_MSG_LIST,
    YK_MSG_STATS,
    YK_MSG_ERROR,
    YK_MSG_DRAIN, /* empty, no reply: the access ring is half full and the node dozes */
    YK_MSG_RAISE,
    YK_MSG_ANNOUNCE,
    YK_MSG_EXPLAIN,
    YK_MSG_OPS
};

enum yk_frame_flags { YK_FRAME_REPLY = 1 };

enum yk_hello_flags { YK_HELLO_MAP = 1, YK_HELLO_FILTER = 2, YK_HELLO_XFER = 4, YK_HELLO_LOOK = 8, YK_HELLO_ANNOUNCE = 16 };

enum yk_change {
    YK_CHANGE_REMOVE = 1,
    YK_CHANGE_TOUCH,
    YK_CHANGE_PIN,    /* arg = pin_ms, 0 = hard */
    YK_CHANGE_UNPIN,
    YK_CHANGE_EXPIRE, /* arg = ttl_ms, 0 = never */
    YK_CHANGE_VERIFY, /* the node hashes the payload again; -YK_ECORRUPT: it was dropped */
};

enum yk_ns_op {
    YK_NS_CREATE = 1, /* arg = quota_bytes */
    YK_NS_RAISE,      /* arg = epoch */
    YK_NS_REMOVE,
    YK_NS_COPIES, /* arg = copies, 0 to YK_COPIES_MAX */
    YK_NS_GUARANTEE, /* arg = bytes, at most INT64_MAX */
    YK_NS_PRIORITY,  /* arg = priority, 0 to YK_PRIORITY_MAX */
};

struct yk_frame {
    uint32_t body_bytes;
    uint8_t op;
    uint8_t flags;
    uint64_t id;
};

/* Decodes a header. 0, or -YK_EPROTO with a text: unknown op, reserved bits, or a body longer than
 * its op may have (max_payload: of PUT and GET). */
int yk_frame_decode(const void *bytes16, uint64_t max_payload, struct yk_frame *ret_frame,
                    struct yk_err *err);
void yk_frame_encode(void *bytes16, const struct yk_frame *frame);

/* Name of an op for messages and metrics; never NULL. */
const char *yk_wire_op_name(unsigned op);

#define YK_ATTR_COPIES(flags)     (((flags) >> 8) & 15u) /* 0: one */
#define YK_ATTR_WITH_COPIES(n)    ((uint32_t)(n) << 8)
#define YK_ATTR_PREFER            0x1000u /* the name of a node follows */

struct yk_attrs {
    uint32_t flags;
    uint32_t depth_tokens;
    uint32_t length_tokens;
    uint32_t model;
    uint64_t ttl_ms;
    uint64_t pin_ms;
    uint64_t session;
    uint8_t kind;
};

void yk_wr_attrs(struct yk_wr *w, const struct yk_attrs *a);
void yk_rd_attrs(struct yk_rd *r, struct yk_attrs *ret_attrs);
void yk_wr_info(struct yk_wr *w, const yk_block_info *info);
void yk_rd_info(struct yk_rd *r, yk_block_info *ret_info);

/* u16 length + bytes; text is cut at 65,535. */
void yk_wr_text(struct yk_wr *w, const char *text);
/* Copies into buf, cut at cap - 1 and terminated. */
void yk_rd_text(struct yk_rd *r, char *buf, size_t cap);

#define YK_WIRE_ATTRS_BYTES 41u
#define YK_WIRE_INFO_BYTES  68u
#define YK_GET_TAIL_BYTES   20u /* of a GET's reply, between info and payload: idx, place, n */

#ifdef __cplusplus
}
#endif

#endif
