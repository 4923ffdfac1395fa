/* SPDX-License-Identifier: Apache-2.0
 *
 * Layouts of the messages between the cores of a cluster (docs/decisions/0014 says what each means). A message
 * is a fixed head, then, as its kind has it, numbers of removes and a list of items:
 *
 *   u8 format, u8 kind, u16 slot, u64 cluster, u64 term, u64 incarnation, u64 a, u64 b, u8 flags,
 *   numbers (u64 term, u64 seq each; how many, the kind says), u32 count, items
 *
 *   kind        from -> to         incarnation    a            b           numbers              items
 *   REFUSED     any -> any                                                                      term is the higher one
 *   PUBLISH     holder -> owner    the holder's   from         to                               changes behind a, to b
 *   CONFIRM     owner -> holder    the holder's   has up to
 *   ASK         owner -> holder                                            after                a new owner asks for the log
 *   LOG         holder -> owner                                            after, and a head    records
 *   REMOVE      owner -> holder                   first rseq   done up to                       records
 *   ACK         holder -> owner                   rseq         expulsions                       rseqs that it had
 *   REPLAY_ASK  returning -> owner its new one                             after                the owner's log is wanted
 *   REPLAY      owner -> returning the same                                after, and a head    records
 *   SNAPSHOT    holder -> owner    the holder's   its number   id << 32 | piece                 changes
 *   TAKEN       owner -> holder    the holder's   its number   id << 32 | pieces taken
 *   DROP        owner -> holder                   generation                                    one record: its key
 *   DROPPED     holder -> owner                   generation                                    one record: its key
 *   DIGEST      holder -> owner    the holder's   its number   digest                           of all that it has of the slot
 *
 * A head of a log is base, last, forgot (rlog.h). Lists that don't fit into one message go in several: `after`
 * is the origin behind which the records of this one begin, LAST says that none follow; of publications, that
 * the holder had nothing more at that moment.
 *
 * A newer kind or format is refused with both numbers (-YK_EVERSION).
 *
 * A decoder checks all of a message before its user acts on any of it; items are then read in place.
 *
 * Threads: pure.
 */
#ifndef YK_DIR_CORE_MSG_H
#define YK_DIR_CORE_MSG_H

#include "dir/rlog.h"
#include "wire/codec.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_DIR_MSG_FORMAT 1u

enum yk_dir_msg_kind {
    YK_DIR_REFUSED = 1,
    YK_DIR_PUBLISH,
    YK_DIR_CONFIRM,
    YK_DIR_ASK,
    YK_DIR_LOG,
    YK_DIR_REMOVE,
    YK_DIR_ACK,
    YK_DIR_REPLAY_ASK,
    YK_DIR_REPLAY,
    YK_DIR_SNAPSHOT,
    YK_DIR_TAKEN,
    YK_DIR_DROP,
    YK_DIR_DROPPED,
    YK_DIR_DIGEST,
    YK_DIR_MSG_KINDS
};

enum { YK_DIR_LAST = 1, YK_DIR_WANT = 2 }; /* flags; WANT in CONFIRM: begin again, with everything */
enum { YK_DIR_AFTER, YK_DIR_BASE, YK_DIR_NEWEST, YK_DIR_FORGOT, YK_DIR_NUMS };

struct yk_dir_msg {
    uint8_t kind, flags;
    uint16_t slot;
    uint64_t cluster, term, incarnation, a, b;
    struct yk_dir_num num[YK_DIR_NUMS];
    uint32_t count;      /* items; set by the decoder */
    struct yk_rd items;  /* likewise */
};

/* An item of PUBLISH and SNAPSHOT: a block of the slot; or (alias), in the slot of a key's own hash, one of another
 * slot, which its group is in: whole as well, so that a copy with other bytes can be named (R8). */
struct yk_dir_change {
    uint8_t alias;
    struct yk_dir_block block;
};

/* An item of LOG, REMOVE, REPLAY, DROP, DROPPED. */
struct yk_dir_record {
    struct yk_dir_num num, origin;
    struct yk_dir_key key;
};

/* Begins a message; items follow, then finish. The buffer has YK_DIR_MESSAGE_MAX bytes. */
void yk_dir_msg_begin(struct yk_wr *w, void *buf, const struct yk_dir_msg *msg);
/* Adds an item. 0: it has no room any more, and nothing was added. */
int yk_dir_msg_change(struct yk_wr *w, const struct yk_dir_change *change);
int yk_dir_msg_record(struct yk_wr *w, const struct yk_dir_record *record);
int yk_dir_msg_rseq(struct yk_wr *w, uint64_t rseq);
/* Sets what was not known at the beginning. Returns the length. */
uint32_t yk_dir_msg_finish(struct yk_wr *w, const struct yk_dir_msg *msg, uint32_t count);

/* All of it is checked. -YK_EPROTO, -YK_EVERSION (both versions in the text). The message points into the bytes. */
int yk_dir_msg_decode(const void *bytes, size_t len, struct yk_dir_msg *ret_msg, struct yk_err *err);
/* The next item of a message that was decoded; pointers into its bytes. */
void yk_dir_msg_next_change(struct yk_rd *items, struct yk_dir_change *ret_change);
void yk_dir_msg_next_record(struct yk_rd *items, struct yk_dir_record *ret_record);

/* "remove", for texts and traces; never NULL. */
const char *yk_dir_msg_name(unsigned kind);

#ifdef __cplusplus
}
#endif

#endif
