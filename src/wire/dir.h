/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the frames between nodes, and between a node and a guest that looks something up (dir/peer.h
 * carries them; docs/decisions/0016). As in wire/msg.h: little-endian, `str8` a length byte and that many
 * bytes, `key` a str8 of 1..255, statuses i32. Ops below YK_DIR_OP_FIRST are the connections' own.
 *
 * Body layouts ( -> reply ):
 *
 * CORE    a message of the directory's protocol (dir/core.h); one-way. Not looked into here.
 * FIND    str8 namespace, u64 epoch, u32 n (1..YK_DIR_KEYS_MAX), n x { u64 group (0: not known), key }
 *    ->   u64 version of the answerer's map, u32 n, n x { i32 status, u64 group, and if status is 0:
 *         u64 epoch, u64 len, u64 sum, u8 count (1..8), count x { u32 member, u8 tiers, u64 incarnation,
 *         u64 gen } }. Statuses: 0; YK_MISS; YK_PENDING: the slot is not whole, ask nodes; -YK_EGONE: the
 *         answerer does not own the slot, `group` is the member that its map names as the owner (0: none), and counts
 *         where that map is newer than the asker's; -YK_EAGAIN: ask in the slot of `group`.
 * HAVE    str8 namespace, u64 epoch, u32 n, n x key: what has this node itself?
 *    ->   u32 n, n x { i32 status (0 or YK_MISS), and if 0: u64 gen, u64 len, u64 sum, u8 tiers }
 * LOCATE  str8 namespace, u64 epoch, u32 timeout_ms, key: where is it in your payload segment? A block on
 *         SSD alone is brought up before that is answered.
 *    ->   i32 status, and if 0: u32 idx, u64 gen, u64 offset, u64 len, u64 sum, u64 epoch, u64 left_ms (its time
 *         to live now, 0: for ever; hosts' calendars need not agree),
 *         u64 term, u64 rseq (how far the holder has applied the removes of the key's slot), attrs,
 *         str8 parent
 * REMOVE  str8 namespace, u64 epoch, u64 until_ms, key: all copies, of all epochs; to the owner of the key's own slot.
 *         Behind until_ms, of the owner's CLOCK_BOOTTIME (the asker knows it from the connection's hello, or a little
 *         less), it is given no number any more, however late it was read
 *    ->   i32 status (0: done; YK_PENDING: `missing` have not applied it yet), u64 version of the
 *         answerer's map, u32 n, n x u32 member
 * MAP     empty -> the map as dir/map.h encodes it
 * INFO    empty, or u8 what -> JSON: the members, with what each says of itself (what 0), or what this node alone
 *         counts (1)
 * SPACE   str8 namespace, u64 epoch: it was raised to that, in etcd; one-way. Who has it lower raises it, too
 * DRAIN   str8 name of a node, u8 on -> i32 status, text
 * FORGET  str8 name of an expelled node, u8 0 -> i32 status, text
 * TAKE    str8 namespace, u64 epoch, u32 timeout_ms, u8 wanted (copies in all, 1..8), u8 class (enum yk_xfer_class),
 *         key, and as in FIND's reply with status 0: who has it. Have a copy of your own, and tell your owners.
 *    ->   i32 status (0: they know)
 * TASK    u8 kind (1: copy, 2: move, 3: a copy of a hot chain's block), str8 namespace, u64 epoch, u32 timeout_ms, str8 name of a node, key, and of a move
 *         str8 name of the node that has it. Of a move either name may be empty: whichever
 *    ->   i32 status, u64 id, text
 * GIVE    str8 namespace, u64 epoch, u32 timeout_ms, u32 member (0: whichever), key: let that member have a copy, and give
 *         up your own
 *    ->   i32 status (0: they have it, and it is gone here; YK_MISS: you have none of your own), u64 bytes, text
 * TASKS   empty -> JSON: the tasks of this node, the oldest first
 * REBALANCE empty -> i32 status, text: it is written down; how it goes, and ended, INFO says
 *
 * epoch is what the sender knows of the namespace (R9). Who knows a lower one learns it from any of these; who knows a
 * higher one tells the sender by SPACE, and has no block for it.
 *
 * Decoders never read past the end, take no count on trust, and set `bad` in the reader where a value
 * cannot be. Pointers in decoded structs point into the body.
 *
 * Threads: pure.
 */
#ifndef YK_WIRE_DIR_H
#define YK_WIRE_DIR_H

#include "wire/codec.h"
#include "wire/msg.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_DIR_OP_FIRST 16u
#define YK_DIR_KEYS_MAX 4096u /* of one FIND or HAVE */
#define YK_DIR_TELL_MAX 8u    /* copies of a key in a FIND's reply */
#define YK_DIR_CLASSES  4u    /* of transfers: enum yk_xfer_class */

enum yk_dir_op {
    YK_DIR_CORE = YK_DIR_OP_FIRST,
    YK_DIR_FIND,
    YK_DIR_HAVE,
    YK_DIR_LOCATE,
    YK_DIR_REMOVE,
    YK_DIR_MAP,
    YK_DIR_INFO,
    YK_DIR_SPACE,
    YK_DIR_DRAIN,
    YK_DIR_FORGET,
    YK_DIR_TAKE,
    YK_DIR_TASK,
    YK_DIR_TASKS,
    YK_DIR_REBALANCE,
    YK_DIR_GIVE,
    YK_DIR_OPS
};

enum yk_dir_info { YK_DIR_INFO_ALL, YK_DIR_INFO_FIGURES };

/* "find"; "unknown" for others. Never NULL. */
const char *yk_dir_op_name(unsigned op);

struct yk_dirw_str {
    const void *data;
    uint32_t len;
};

/* The beginning of FIND and HAVE; n keys follow, each read by yk_rd_dir_key, or with yk_rd_u64 in front of
 * it for a FIND's group. */
struct yk_dirw_keys {
    struct yk_dirw_str ns;
    uint64_t epoch;
    uint32_t n;
};
void yk_wr_dir_keys(struct yk_wr *w, const struct yk_dirw_keys *k);
void yk_rd_dir_keys(struct yk_rd *r, struct yk_dirw_keys *ret);
/* 1..255 bytes. */
void yk_rd_dir_key(struct yk_rd *r, struct yk_dirw_str *ret);

struct yk_dirw_copy {
    uint32_t member;
    uint8_t tiers;
    uint64_t incarnation, gen;
};

struct yk_dirw_found {
    int32_t status;
    uint64_t group, epoch, len, sum;
    uint32_t count;
    struct yk_dirw_copy copy[YK_DIR_TELL_MAX];
};
void yk_wr_dir_found(struct yk_wr *w, const struct yk_dirw_found *f);
void yk_rd_dir_found(struct yk_rd *r, struct yk_dirw_found *ret);
#define YK_DIR_FOUND_BYTES_MAX (12u + 25u + YK_DIR_TELL_MAX * 21u)

struct yk_dirw_take {
    struct yk_dirw_str ns, key;
    uint64_t epoch;
    uint32_t timeout_ms;
    uint8_t wanted, xclass;
    struct yk_dirw_found found; /* status 0 */
};
void yk_wr_dir_take(struct yk_wr *w, const struct yk_dirw_take *t);
void yk_rd_dir_take(struct yk_rd *r, struct yk_dirw_take *ret);
#define YK_DIR_TAKE_BYTES_MAX (256u + 256u + 14u + YK_DIR_FOUND_BYTES_MAX)

struct yk_dirw_task {
    struct yk_dirw_str ns, key, node, from; /* from: of a move */
    uint64_t epoch;
    uint32_t timeout_ms;
    uint8_t kind;
};
enum yk_dirw_task_kind { YK_DIR_TASK_COPY = 1, YK_DIR_TASK_MOVE, YK_DIR_TASK_KEEP };
void yk_wr_dir_task(struct yk_wr *w, const struct yk_dirw_task *t);
void yk_rd_dir_task(struct yk_rd *r, struct yk_dirw_task *ret);
#define YK_DIR_TASK_BYTES_MAX (4u * 256u + 13u)

struct yk_dirw_give {
    struct yk_dirw_str ns, key;
    uint64_t epoch;
    uint32_t timeout_ms, to;
};
void yk_wr_dir_give(struct yk_wr *w, const struct yk_dirw_give *g);
void yk_rd_dir_give(struct yk_rd *r, struct yk_dirw_give *ret);
#define YK_DIR_GIVE_BYTES_MAX (2u * 256u + 16u)

struct yk_dirw_have {
    int32_t status;
    uint64_t gen, len, sum;
    uint8_t tiers;
};
void yk_wr_dir_have(struct yk_wr *w, const struct yk_dirw_have *h);
void yk_rd_dir_have(struct yk_rd *r, struct yk_dirw_have *ret);
#define YK_DIR_HAVE_BYTES_MAX 29u

struct yk_dirw_one {
    struct yk_dirw_str ns, key;
    uint64_t epoch;
    uint64_t until_ms;   /* REMOVE; LOCATE: 0 */
    uint32_t timeout_ms; /* LOCATE; REMOVE: 0 */
};
void yk_wr_dir_locate(struct yk_wr *w, const struct yk_dirw_one *o);
void yk_rd_dir_locate(struct yk_rd *r, struct yk_dirw_one *ret);
void yk_wr_dir_remove(struct yk_wr *w, const struct yk_dirw_one *o);
void yk_rd_dir_remove(struct yk_rd *r, struct yk_dirw_one *ret);
/* Bytes of either at most. */
#define YK_DIR_ONE_BYTES_MAX (256u + 256u + 16u)

struct yk_dirw_place {
    int32_t status;
    uint32_t idx;
    uint64_t gen, offset, len, sum, epoch, left_ms, term, rseq;
    struct yk_attrs attrs;
    struct yk_dirw_str parent; /* len 0: none */
};
void yk_wr_dir_place(struct yk_wr *w, const struct yk_dirw_place *p);
void yk_rd_dir_place(struct yk_rd *r, struct yk_dirw_place *ret);
#define YK_DIR_PLACE_BYTES_MAX (8u + 64u + YK_WIRE_ATTRS_BYTES + 256u)

#ifdef __cplusplus
}
#endif

#endif
