/* SPDX-License-Identifier: Apache-2.0
 *
 * Codec of the messages between cores (core_msg.h has the layouts): one head for all kinds, so that a kind is a
 * row of a table here.
 *
 * The decoder walks all items once, and once more when they are used: about 20 ns each, for which nothing
 * that is half good can change anything.
 *
 * Threads: pure.
 */
#include "dir/core_msg.h"

enum items { NO_ITEMS, CHANGES, RECORDS, RSEQS };
enum { HEAD = 4 + 5 * 8 + 1, NUM = 16, COUNT = 4 };

static const struct kind {
    const char *name;
    uint8_t nums, items;
} kinds[YK_DIR_MSG_KINDS] = {
    [YK_DIR_REFUSED] = {"refusal", 0, NO_ITEMS},
    [YK_DIR_PUBLISH] = {"publication", 0, CHANGES},
    [YK_DIR_CONFIRM] = {"confirmation", 0, NO_ITEMS},
    [YK_DIR_ASK] = {"question for the log", 1, NO_ITEMS},
    [YK_DIR_LOG] = {"log", YK_DIR_NUMS, RECORDS},
    [YK_DIR_REMOVE] = {"remove", 0, RECORDS},
    [YK_DIR_ACK] = {"answer to a remove", 0, RSEQS},
    [YK_DIR_REPLAY_ASK] = {"question for a replay", 1, NO_ITEMS},
    [YK_DIR_REPLAY] = {"replay", YK_DIR_NUMS, RECORDS},
    [YK_DIR_SNAPSHOT] = {"snapshot", 0, CHANGES},
    [YK_DIR_TAKEN] = {"answer to a snapshot", 0, NO_ITEMS},
    [YK_DIR_DROP] = {"order to drop a copy", 0, RECORDS},
    [YK_DIR_DROPPED] = {"answer to an order to drop", 0, RECORDS},
    [YK_DIR_DIGEST] = {"digest", 0, NO_ITEMS},
};

const char *yk_dir_msg_name(unsigned kind) {
    return kind < YK_DIR_MSG_KINDS && kinds[kind].name != NULL ? kinds[kind].name : "unknown message";
}

static size_t head_bytes(unsigned kind) {
    return HEAD + (size_t)kinds[kind].nums * NUM + COUNT;
}

static void put_num(struct yk_wr *w, struct yk_dir_num num) {
    yk_wr_u64(w, num.term);
    yk_wr_u64(w, num.rseq);
}

static struct yk_dir_num get_num(struct yk_rd *r) {
    uint64_t term = yk_rd_u64(r);
    return (struct yk_dir_num){term, yk_rd_u64(r)};
}

void yk_dir_msg_begin(struct yk_wr *w, void *buf, const struct yk_dir_msg *msg) {
    yk_wr_init(w, buf, YK_DIR_MESSAGE_MAX);
    yk_wr_space(w, head_bytes(msg->kind));
}

uint32_t yk_dir_msg_finish(struct yk_wr *w, const struct yk_dir_msg *msg, uint32_t count) {
    struct yk_wr head;
    yk_wr_init(&head, w->base, head_bytes(msg->kind));
    yk_wr_u8(&head, YK_DIR_MSG_FORMAT);
    yk_wr_u8(&head, msg->kind);
    yk_wr_u16(&head, msg->slot);
    yk_wr_u64(&head, msg->cluster);
    yk_wr_u64(&head, msg->term);
    yk_wr_u64(&head, msg->incarnation);
    yk_wr_u64(&head, msg->a);
    yk_wr_u64(&head, msg->b);
    yk_wr_u8(&head, msg->flags);
    for (unsigned i = 0; i < kinds[msg->kind].nums; i++)
        put_num(&head, msg->num[i]);
    yk_wr_u32(&head, count);
    return (uint32_t)yk_wr_len(w);
}

/* What did not fit is taken back whole, and the writer goes on. */
static int fits(struct yk_wr *w, unsigned char *before) {
    if (yk_wr_ok(w))
        return 1;
    w->at = before;
    w->bad = 0;
    return 0;
}

int yk_dir_msg_change(struct yk_wr *w, const struct yk_dir_change *c) {
    unsigned char *before = w->at;
    yk_wr_u8(w, c->alias);
    yk_wr_u8(w, c->block.tiers);
    yk_wr_u64(w, c->block.group);
    yk_wr_u64(w, c->block.gen);
    yk_wr_u64(w, c->block.sum);
    yk_wr_u64(w, c->block.epoch);
    yk_wr_u64(w, c->block.len);
    yk_wr_str8(w, c->block.key.ns, c->block.key.ns_len);
    yk_wr_str8(w, c->block.key.key, c->block.key.key_len);
    return fits(w, before);
}

static void get_key(struct yk_rd *r, struct yk_dir_key *ret) {
    ret->ns = (const char *)yk_rd_str8(r, &ret->ns_len);
    ret->key = yk_rd_str8(r, &ret->key_len);
    if (ret->ns_len == 0 || ret->key_len == 0)
        r->bad = 1;
}

void yk_dir_msg_next_change(struct yk_rd *r, struct yk_dir_change *ret) {
    *ret = (struct yk_dir_change){.alias = yk_rd_u8(r)};
    ret->block.tiers = yk_rd_u8(r);
    ret->block.group = yk_rd_u64(r);
    ret->block.gen = yk_rd_u64(r);
    ret->block.sum = yk_rd_u64(r);
    if (ret->alias > 1)
        r->bad = 1;
    ret->block.epoch = yk_rd_u64(r);
    ret->block.len = yk_rd_u64(r);
    get_key(r, &ret->block.key);
}

int yk_dir_msg_record(struct yk_wr *w, const struct yk_dir_record *record) {
    unsigned char *before = w->at;
    put_num(w, record->num);
    put_num(w, record->origin);
    yk_wr_str8(w, record->key.ns, record->key.ns_len);
    yk_wr_str8(w, record->key.key, record->key.key_len);
    return fits(w, before);
}

void yk_dir_msg_next_record(struct yk_rd *r, struct yk_dir_record *ret) {
    ret->num = get_num(r);
    ret->origin = get_num(r);
    get_key(r, &ret->key);
}

int yk_dir_msg_rseq(struct yk_wr *w, uint64_t rseq) {
    unsigned char *before = w->at;
    yk_wr_u64(w, rseq);
    return fits(w, before);
}

/* Whether the items are as many as it says, and whole. */
static int items_fit(const struct yk_dir_msg *msg) {
    struct yk_rd r = msg->items;
    unsigned items = kinds[msg->kind].items;
    if (items == NO_ITEMS && msg->count > 0)
        return 0;
    for (uint32_t i = 0; i < msg->count && !r.bad; i++) {
        struct yk_dir_change change;
        struct yk_dir_record record;
        if (items == CHANGES)
            yk_dir_msg_next_change(&r, &change);
        else if (items == RECORDS)
            yk_dir_msg_next_record(&r, &record);
        else
            yk_rd_u64(&r);
    }
    return yk_rd_ok(&r);
}

int yk_dir_msg_decode(const void *bytes, size_t len, struct yk_dir_msg *ret_msg, struct yk_err *err) {
    struct yk_dir_msg m = {0};
    struct yk_rd r;
    yk_rd_init(&r, bytes, len);
    unsigned format = yk_rd_u8(&r);
    m.kind = yk_rd_u8(&r);
    if (r.bad || format == 0 || m.kind == 0 || len > YK_DIR_MESSAGE_MAX)
        return yk_err_set(err, -YK_EPROTO, "directory message of %zu bytes, format %u, kind %u", len, format, m.kind);
    if (format > YK_DIR_MSG_FORMAT || m.kind >= YK_DIR_MSG_KINDS)
        return yk_err_set(err, -YK_EVERSION,
                          "directory message of format %u, kind %u; this node reads format %u, kinds up to %u", format,
                          m.kind, YK_DIR_MSG_FORMAT, YK_DIR_MSG_KINDS - 1);
    m.slot = yk_rd_u16(&r);
    m.cluster = yk_rd_u64(&r);
    m.term = yk_rd_u64(&r);
    m.incarnation = yk_rd_u64(&r);
    m.a = yk_rd_u64(&r);
    m.b = yk_rd_u64(&r);
    m.flags = yk_rd_u8(&r);
    for (unsigned i = 0; i < kinds[m.kind].nums; i++)
        m.num[i] = get_num(&r);
    m.count = yk_rd_u32(&r);
    m.items = r;
    if (r.bad || m.slot >= YK_DIR_SLOTS)
        return yk_err_set(err, -YK_EPROTO, "%s of %zu bytes for slot %u: too short, or no such slot",
                          yk_dir_msg_name(m.kind), len, m.slot);
    if (!items_fit(&m) || ((m.kind == YK_DIR_DROP || m.kind == YK_DIR_DROPPED) && m.count != 1))
        return yk_err_set(err, -YK_EPROTO, "%s for slot %u: its %u items are not what %zu bytes hold",
                          yk_dir_msg_name(m.kind), m.slot, m.count, len);
    *ret_msg = m;
    return 0;
}
